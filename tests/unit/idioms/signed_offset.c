/* Offsets of type int, as C makes one write. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    int ihl = (pkt[14] & 15) * 4;
    int at = 14 + ihl;

    if (at + 8 - WRONG > (int)len)
        return 0;
    return pkt[at + 7] == 1;
}
