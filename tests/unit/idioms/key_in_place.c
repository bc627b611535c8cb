/* A key read from the packet itself. */
#include "idiom.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 16);
} table SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 30 - WRONG)
        return 0;
    return bpf_map_lookup(&table, pkt + 26) != NULL;
}
