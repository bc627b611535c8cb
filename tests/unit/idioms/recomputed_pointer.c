/* The same pointer made twice. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint64_t ihl = (pkt[14] & 15) * 4;
    const uint8_t *again = pkt;

    __asm__ volatile("" : "+r"(again)); /* the compiler cannot tell that it is pkt */
    if (ihl + 34 - WRONG > len)
        return 0;
    return (pkt + ihl)[33] == (again + ihl)[32];
}
