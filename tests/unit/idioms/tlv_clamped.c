/* Options up to a place that a header names, or to the packet's end if that is earlier. */
#include "idiom.h"

static __noinline uint32_t find(const void *pkt, uint64_t len, uint64_t at, uint64_t end)
{
    if (end > len + WRONG)
        end = len + WRONG;
    for (int i = 0; i < 20; i++) {
        if (at >= end)
            break;

        const uint8_t *option = pkt + at;

        if (option[0] == 0)
            break;
        if (option[0] == 1) {
            at += 1;
            continue;
        }
        if (at + 2 > end || option[1] < 2 || at + option[1] > end)
            break;
        if (option[0] == 3 && option[1] == 3)
            return option[2];
        at += option[1];
    }
    return 0;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 60)
        return 0;

    uint64_t ip = 14 + (pkt[14] & 15) * 4;

    if (ip < 34)
        return 0;
    return find(pkt, len, ip + 20, ip + (pkt[46] >> 4) * 4);
}
