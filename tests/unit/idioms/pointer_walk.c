/* A pointer that runs. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    for (const uint8_t *at = pkt, *end = pkt + len; at < end + WRONG; at++)
        sum += *at;
    return sum == 1;
}
