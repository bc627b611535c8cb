/* refuse: this read goes through the result of a map lookup that may be NULL
 *
 * at: return *second == 1;
 *
 * hint: test it
 *
 * The first lookup's test says nothing about the second. */
#include "oko_bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint64_t);
    __type(value, uint64_t);
    __uint(max_entries, 64);
} seen SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t key = len;
    uint64_t *first = bpf_map_lookup(&seen, &key);
    if (first == NULL)
        return 0;
    key = *first;
    uint64_t *second = bpf_map_lookup(&seen, &key);
    return *second == 1;
}
