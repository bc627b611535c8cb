/* As many tags as there are: what ends the loop is len. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = 12;

    while (WRONG || at + 2 <= len) {
        if (*(const uint16_t *)(pkt + at) != bpf_htons(0x8100))
            return *(const uint16_t *)(pkt + at) == bpf_htons(0x0806);
        at += 4;
    }
    return 0;
}
