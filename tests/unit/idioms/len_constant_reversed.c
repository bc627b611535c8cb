/* The comparison the other way round, and "or equal". */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (!WRONG && 33 >= len)
        return 0;
    if (WRONG && 34 < len) /* Oko's own examples did this */
        return 0;
    return pkt[33] == 6;
}
