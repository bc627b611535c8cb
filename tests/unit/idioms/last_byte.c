/* From the end. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 4 - WRONG)
        return 0;
    return pkt[len - 1] == pkt[len - 4];
}
