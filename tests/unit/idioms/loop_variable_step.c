/* A step from the packet, at least one. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    if (len < 1)
        return 0;

    uint64_t step = (pkt[0] & 3) + 1 - WRONG;

    for (uint64_t i = 0; i < len; i += step)
        sum += pkt[i];
    return sum & 1;
}
