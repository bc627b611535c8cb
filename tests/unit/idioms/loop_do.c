/* do .. while. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = 0, i = 0;

    if (len == 0 && !WRONG)
        return 0;
    do {
        sum += pkt[i];
        i++;
    } while (i < len && i < 50);
    return sum & 1;
}
