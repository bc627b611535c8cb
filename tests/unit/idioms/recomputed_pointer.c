/* The same pointer made twice. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint64_t ihl = (pkt[14] & 15) * 4;
    const uint8_t *a = pkt + ihl, *b = pkt;

    if (ihl + 34 - WRONG > len)
        return 0;
    __asm__ volatile("%0 += %1" : "+r"(b) : "r"(ihl));
    return a[33] == b[32];
}
