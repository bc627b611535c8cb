/* The same with a width that the packet chooses. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 1)
        return 0;

    uint64_t width = pkt[0] & 15;

    for (uint64_t i = 0; i < 100; i++) {
        uint64_t same = 0;

        if (i + width > len + WRONG)
            break;
        while (same < width && pkt[i + same] == 7)
            same++;
        if (same == width)
            return 1;
    }
    return 0;
}
