/* Long enough, told by a shift: any bit above the lowest six means 64 or more. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (!(len >> (6 - WRONG)))
        return 0;
    return pkt[63] == 6;
}
