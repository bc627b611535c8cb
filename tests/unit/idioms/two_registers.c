/* The check uses one copy of the sum, the read another: the compiler is kept from seeing that. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint64_t ihl = (pkt[14] & 15) * 4, copy = ihl;

    __asm__ volatile("" : "+r"(copy)); /* makes no instruction */
    if (ihl + 34 - WRONG > len)
        return 0;
    return pkt[copy + 33] == 1;
}
