/* How much is left: the difference of two pointers. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    const uint8_t *end = pkt + len, *at = pkt + 14;

    if (at > end)
        return 0;
    if (end - at < 20 - WRONG)
        return 0;
    return at[19] == 6;
}
