/* Four bytes a round, the rest left over. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i + 4 - WRONG <= len; i += 4)
        sum += *(const uint32_t *)(pkt + i);
    return sum & 1;
}
