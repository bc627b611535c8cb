/* A window slid over the payload. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    for (int i = 0; i < 100; i++) {
        int same = 1;

        if (i + 8 - WRONG > (int)len)
            break;
        for (int j = 0; j < 8; j++) {
            if (pkt[i + j] != j) {
                same = 0;
                break;
            }
        }
        if (same)
            return 1;
    }
    return 0;
}
