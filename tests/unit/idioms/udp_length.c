/* A length from the packet, checked, then used. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0;

    if (len < 42)
        return 0;

    uint64_t size = bpf_ntohs(*(const uint16_t *)(pkt + 38));

    if (size < 8 || 34 + size > len + WRONG)
        return 0;
    for (uint64_t i = 8; i < size; i++)
        sum += pkt[34 + i];
    return sum == 1;
}
