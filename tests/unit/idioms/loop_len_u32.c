/* The whole packet with a 32-bit counter. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < len + WRONG; i++)
        sum += pkt[i];
    return sum & 1;
}
