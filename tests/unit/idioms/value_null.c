/* The test for NULL, with the pointer copied, kept over a call, and passed on. */
#include "idiom.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 16);
} table SEC(".maps");

static __always_inline uint64_t *find(uint32_t key)
{
    uint64_t *value = bpf_map_lookup(&table, &key);

    if (!value) {
        uint64_t zero = 0;

        bpf_map_update(&table, &key, &zero);
        value = bpf_map_lookup(&table, &key);
    }
    return value;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t *a = find(1), *b = find(2);

    if (!a || (!b && !WRONG))
        return 0;
    *a += len;
    *b += bpf_time_get_ns();
    return *a > *b;
}
