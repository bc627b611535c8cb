/* IPv6 extension headers: (length + 1) * 8. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 54)
        return 0;

    uint64_t at = 54;
    uint8_t next = pkt[20];

    for (int i = 0; i < 6; i++) {
        if (next != 0 && next != 43 && next != 60)
            break;
        if (at + 8 > len)
            return 0;
        next = pkt[at];
        at += (pkt[at + 1] + 1) * 8;
    }
    if (next != 17 || (!WRONG && at + 8 > len))
        return 0;
    return *(const uint16_t *)(pkt + at + 2) == bpf_htons(53);
}
