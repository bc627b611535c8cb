/* The simplest proof: a constant against len. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34 - WRONG)
        return 0;
    return pkt[33] == 6;
}
