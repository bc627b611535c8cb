/* A function of its own that only checks; the caller reads. */
#include "idiom.h"

static __noinline int has(uint64_t len, uint64_t at, uint64_t size)
{
    return at <= 1000 && at + size <= len + WRONG;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (!has(len, 14, 20))
        return 0;
    return pkt[33] == 6;
}
