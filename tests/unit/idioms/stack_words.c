/* Larger elements. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint32_t count[8] = {0};

    for (uint64_t i = 0; i < 64 && i < len; i++)
        count[pkt[i] >> (WRONG ? 4 : 5)]++;
    return count[0] > count[7];
}
