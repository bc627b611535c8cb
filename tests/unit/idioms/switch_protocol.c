/* A switch with a check of its own in each case. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint64_t at = 14 + (pkt[14] & 15) * 4;

    switch (pkt[23]) {
    case 1:
        return at + 8 <= len && pkt[at] == 8;
    case 6:
        return at + 20 - WRONG <= len && pkt[at + 19] == 2;
    case 17:
        return at + 8 <= len && pkt[at + 7] == 53;
    case 132:
        return at + 12 <= len && pkt[at + 11] == 7;
    default:
        return 0;
    }
}
