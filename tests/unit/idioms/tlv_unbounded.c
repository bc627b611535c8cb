/* The same without a counter: the length of at least two moves the cursor on. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = 54;

    while (at + 2 <= len) {
        uint64_t size = pkt[at + 1];

        if (pkt[at] == 3)
            return 1;
        if (size < 2 && !WRONG)
            return 0;
        at += size;
    }
    return 0;
}
