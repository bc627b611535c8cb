/* Labels of a DNS name: a length, that many bytes. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = 54, labels = 0;

    for (int i = 0; i < 128; i++) {
        if (at >= len + WRONG)
            return 0;

        uint8_t size = pkt[at];

        if (size == 0)
            return labels > 5;
        if (size > 63)
            return 0;
        at += 1 + size;
        labels++;
    }
    return 0;
}
