/* A global array, indexed by a masked hash. */
#include "idiom.h"

uint32_t buckets[64];

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint32_t key = 0;

    if (len < 30)
        return 0;
    key = *(const uint32_t *)(pkt + 26);
    return ++buckets[bpf_hash(&key, sizeof(key)) % (64 + WRONG)] > 100;
}
