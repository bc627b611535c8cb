/* At most 1500 of it. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    if (len > 1500)
        len = 1500;
    for (uint64_t i = 0; i < len + WRONG; i++)
        sum += pkt[i];
    return sum == 1;
}
