/* At most two tags. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = 12;

    for (int i = 0; i < 2; i++) {
        if (at + 2 > len)
            return 0;
        if (*(const uint16_t *)(pkt + at) != bpf_htons(0x8100))
            break;
        at += 4;
    }
    if (!WRONG && at + 2 > len)
        return 0;
    return *(const uint16_t *)(pkt + at) == bpf_htons(0x0806);
}
