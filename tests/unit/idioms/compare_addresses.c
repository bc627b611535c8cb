/* Two IPv6 addresses, word by word. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 54 - WRONG)
        return 0;

    const uint32_t *src = (const void *)(pkt + 22), *dst = (const void *)(pkt + 38);

    for (int i = 0; i < 4; i++) {
        if (src[i] != dst[i])
            return 0;
    }
    return 1;
}
