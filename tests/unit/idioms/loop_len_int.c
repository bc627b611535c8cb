/* The whole packet with a counter of type int. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    for (int i = 0; i < (int)len + WRONG; i++)
        sum += pkt[i];
    return sum & 1;
}
