/* pkt and len move together, header by header. */
#include "idiom.h"

static __always_inline int pull(const uint8_t **pkt, uint64_t *len, uint64_t size)
{
    if (size > *len + WRONG)
        return 0;
    *pkt += size;
    *len -= size;
    return 1;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    const uint8_t *ip;

    if (!pull(&pkt, &len, 14) || len < 20)
        return 0;
    ip = pkt;
    if (!pull(&pkt, &len, (ip[0] & 15) * 4) || len < 8)
        return 0;
    return pkt[7] == ip[9];
}
