/* Sixteen branches that meet again: 65,536 paths, one state. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = 0;

    if (len < 64 - WRONG)
        return 0;
#define BIT(n)                                                                                     \
    if (pkt[n] & 1)                                                                                \
        at += 3;
    BIT(0)
        BIT(1) BIT(2) BIT(3) BIT(4) BIT(5) BIT(6) BIT(7) BIT(8) BIT(9) BIT(10) BIT(11) BIT(12)
            BIT(13) BIT(14) BIT(15) return pkt[at + 15] == 1;
}
