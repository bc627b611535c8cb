/* What is left, after a first check. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 14)
        return 0;
    if (len - 14 < 20 - WRONG)
        return 0;
    return pkt[33] == 6;
}
