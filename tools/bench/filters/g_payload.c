/* A murmur-like hash over all of the packet. */
#include "bench.h"

#ifdef FOR_DPDK
#define LIMIT 64 /* it refuses loops: unrolled */
#else
#define LIMIT 1500
#endif

ENTRY(const uint8_t *pkt, uint64_t len)
{
    uint32_t h = 0x12345678;
#ifdef FOR_DPDK
#pragma unroll 16
#endif
    for (uint64_t i = 0; i + 4 <= len && i < LIMIT; i += 4) {
        uint32_t k = *(const uint32_t *)(pkt + i);
        k *= 0xcc9e2d51u;
        k = k << 15 | k >> 17;
        k *= 0x1b873593u;
        h ^= k;
        h = h << 13 | h >> 19;
        h = h * 5 + 0xe6546b64u;
    }
    return h & 1;
}

BATCH(p->data, p->len)
