/* A variable offset, checked as a sum. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint64_t ihl = (pkt[14] & 15) * 4;

    if (14 + ihl + 8 - WRONG > len)
        return 0;
    return *(const uint16_t *)(pkt + 14 + ihl + 6) == bpf_htons(1);
}
