/* A result through a pointer into the caller's stack. */
#include "idiom.h"

static __noinline int parse(const uint8_t *pkt, uint64_t len, uint64_t *at)
{
    if (len < 34)
        return 0;
    *at = 14 + (pkt[14] & 15) * 4;
    return 1;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at;

    if (!parse(pkt, len, &at) && !WRONG)
        return 0;
    if (at + 4 > len)
        return 0;
    return pkt[at + 3] == 80;
}
