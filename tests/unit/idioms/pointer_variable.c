/* XDP style with a variable header length. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    const uint8_t *end = pkt + len, *ip = pkt + 14;

    if (ip + 20 > end)
        return 0;

    const uint8_t *tcp = ip + (ip[0] & 15) * 4;

    if (tcp + 20 - WRONG > end)
        return 0;
    return tcp[19] == 6;
}
