/* A function of its own that finds an offset; the caller checks it. */
#include "idiom.h"

static __noinline uint64_t network(const uint8_t *pkt, uint64_t len)
{
    if (len < 18)
        return 0xffff;
    return *(const uint16_t *)(pkt + 12) == bpf_htons(0x8100) ? 18 : 14;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = network(pkt, len);

    if (at + 20 - WRONG > len)
        return 0;
    return pkt[at + 19] == 6;
}
