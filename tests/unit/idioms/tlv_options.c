/* TCP options: kind, length, value; a bound through another bound in a loop. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 54)
        return 0;

    uint64_t at = 54, end = 34 + (pkt[46] >> 4) * 4;

    if (!WRONG && end > len)
        return 0;
    for (int i = 0; i < 20; i++) {
        if (at >= end)
            return 0;
        if (pkt[at] == 0)
            return 0;
        if (pkt[at] == 1) {
            at++;
            continue;
        }
        if (at + 2 > end || pkt[at + 1] < 2)
            return 0;
        if (pkt[at] == 3)
            return 1;
        at += pkt[at + 1];
    }
    return 0;
}
