/* A 32-bit number from the packet: the sum can wrap unless the number is bounded first. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint32_t at = *(const uint32_t *)(pkt + 30);

    if (!WRONG && at > 2000)
        return 0;
    if (at + 4 > (uint32_t)len)
        return 0;
    return pkt[(uint64_t)at + 3] == 1;
}
