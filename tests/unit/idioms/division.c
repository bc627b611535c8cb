/* An offset by remainder: always below the divisor. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 24)
        return 0;
    return pkt[14 + *(const uint32_t *)pkt % (10 + WRONG)] == 1;
}
