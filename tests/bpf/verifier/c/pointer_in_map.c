/* refuse: an address in the packet is written into a map's value, where it would leak
 *
 * at: *where = (uint64_t)(pkt + 14);
 *
 * hint: store numbers only */
#include "oko_bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 1);
} last SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint32_t zero = 0;
    uint64_t *where = bpf_map_lookup(&last, &zero);
    if (where)
        *where = (uint64_t)(pkt + 14);
    return 0;
}
