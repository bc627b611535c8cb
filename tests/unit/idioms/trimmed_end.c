/* The IP packet's own end, or the frame's if that is earlier: a bound through another bound. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint64_t end = 14 + bpf_ntohs(*(const uint16_t *)(pkt + 16));
    uint64_t at = 14 + (pkt[14] & 15) * 4;

    if (!WRONG && end > len)
        end = len;
    if (at + 8 > end)
        return 0;
    return pkt[at + 7] == 1;
}
