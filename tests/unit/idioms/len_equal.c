/* Exactly this long. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len != 60 - WRONG)
        return 0;
    return pkt[59] == 6;
}
