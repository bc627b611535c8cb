/* while (n--). */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0, n = len < 100 ? len : 100;

    n += WRONG;
    while (n--)
        sum = sum * 31 + *pkt++;
    return sum & 1;
}
