/* A constant bound, and the length checked inside. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    for (int i = 0; i < 200; i++) {
        if (14 + i >= (int)len + WRONG)
            break;
        if (pkt[14 + i] == 0x55)
            return 1;
    }
    return 0;
}
