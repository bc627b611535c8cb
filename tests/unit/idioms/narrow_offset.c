/* 32-bit offsets: the sum cannot wrap, because its parts are small. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint32_t ihl = (pkt[14] & 15) * 4;
    uint32_t tcp = 14 + ihl;

    if (tcp + 20 - WRONG > len)
        return 0;
    return pkt[tcp + 19] == 1;
}
