/* An index into the stack, masked. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint8_t seen[16] = {0};

    for (uint64_t i = 0; i < 20 && i < len; i++)
        seen[pkt[i] & (WRONG ? 31 : 15)] = 1;
    return seen[3] && seen[7];
}
