/* An array inside a value. */
#include "idiom.h"

struct counters {
    uint64_t by_size[8];
    uint32_t total;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct counters);
    __uint(max_entries, 4);
} table SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint32_t zero = 0;
    struct counters *c = bpf_map_lookup(&table, &zero);
    uint64_t bin = len / 200;

    if (!c)
        return 0;
    if (bin > 7 + 2 * WRONG)
        bin = 7 + 2 * WRONG;
    c->by_size[bin]++;
    c->total++;
    return 0;
}
