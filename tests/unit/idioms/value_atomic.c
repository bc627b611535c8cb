/* Atomic additions, whose result is not used. */
#include "idiom.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 4);
} table SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint32_t bin = len / 500;
    uint64_t *count = bpf_map_lookup(&table, &bin);

    if (!count && !WRONG)
        return 0;
    __sync_fetch_and_add(count, len);
    return 0;
}
