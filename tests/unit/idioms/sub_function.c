/* A function of its own that checks and reads. */
#include "idiom.h"

static __noinline uint64_t byte_at(const uint8_t *pkt, uint64_t len, uint64_t at)
{
    return at < len + WRONG ? pkt[at] : 256;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t first = byte_at(pkt, len, 0);

    return byte_at(pkt, len, 14) == 0x45 && byte_at(pkt, len, first) == 6;
}
