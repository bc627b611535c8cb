/* A key that two branches fill. */
#include "idiom.h"

struct key {
    uint32_t low, high;
    uint16_t port;
    uint16_t zero;
};

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __type(key, struct key);
    __type(value, uint64_t);
    __uint(max_entries, 16);
} table SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    struct key key;

    if (len < 40)
        return 0;
    key.port = *(const uint16_t *)(pkt + 34);
#if !WRONG
    key.zero = 0;
#endif
    if (*(const uint32_t *)(pkt + 26) < *(const uint32_t *)(pkt + 30)) {
        key.low = *(const uint32_t *)(pkt + 26);
        key.high = *(const uint32_t *)(pkt + 30);
    } else {
        key.low = *(const uint32_t *)(pkt + 30);
        key.high = *(const uint32_t *)(pkt + 26);
    }
    return bpf_map_lookup(&table, &key) != NULL;
}
