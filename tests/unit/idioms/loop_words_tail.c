/* Four bytes a round, then the rest one by one. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0, i = 0;

    for (; i + 4 <= len; i += 4)
        sum += *(const uint32_t *)(pkt + i);
    for (; i < len + WRONG; i++)
        sum += pkt[i];
    return sum & 1;
}
