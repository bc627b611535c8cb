/* A constant table, indexed by a byte of the packet. */
#include "idiom.h"

static const uint8_t kind[256] = {[6] = 1, [17] = 1, [132] = 1};

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;
    return kind[pkt[23] + 2 * WRONG];
}
