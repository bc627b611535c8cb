/* A constant number of rounds. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    if (len < 64 - WRONG)
        return 0;
    for (int i = 0; i < 64; i++)
        sum = sum * 31 + pkt[i];
    return sum & 1;
}
