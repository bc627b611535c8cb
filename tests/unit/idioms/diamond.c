/* Sixteen branches that meet again: 65,536 paths, a handful of states. */
#include "idiom.h"

#define BRANCH(n)                                                                                  \
    do {                                                                                           \
        if (pkt[n] == 7)                                                                           \
            at += 3;                                                                               \
    } while (0)

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = 0;

    if (len < 64 - WRONG)
        return 0;
    BRANCH(0);
    BRANCH(1);
    BRANCH(2);
    BRANCH(3);
    BRANCH(4);
    BRANCH(5);
    BRANCH(6);
    BRANCH(7);
    BRANCH(8);
    BRANCH(9);
    BRANCH(10);
    BRANCH(11);
    BRANCH(12);
    BRANCH(13);
    BRANCH(14);
    BRANCH(15);
    return pkt[at + 15] == 1;
}
