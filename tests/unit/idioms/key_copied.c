/* An address copied into a key. */
#include "idiom.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct oko_arp); /* 28 bytes, whatever they are */
    __type(value, uint64_t);
    __uint(max_entries, 16);
} table SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    struct oko_arp key;

    if (len < 14 + sizeof(key) - WRONG)
        return 0;
    memcpy(&key, pkt + 14, sizeof(key));
    return bpf_map_lookup(&table, &key) != NULL;
}
