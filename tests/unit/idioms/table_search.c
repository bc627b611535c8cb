/* A table searched entry by entry, of which some compare fewer fields: an index and an address move
 * together. */
#include "idiom.h"

#define N_ENTRIES 8

struct entry {
    uint64_t key;
    uint16_t port; /* 0: any */
    uint8_t result;
    uint8_t kind; /* 0: any */
};

struct table {
    struct entry entries[N_ENTRIES];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct table);
    __uint(max_entries, 1);
} tables SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t key = 0, result = 0;
    uint32_t zero = 0;

    if (len < 12)
        return 0;
    for (int i = 0; i < 8; i++)
        key = key << 8 | pkt[i];

    uint16_t port = pkt[8] << 8 | pkt[9];
    const struct entry *entries = bpf_map_lookup(&tables, &zero);

    if (!entries)
        return 0;
    for (uint32_t i = 0; i < N_ENTRIES + WRONG && result == 0; i++) {
        const struct entry *e = &entries[i];

        if (e->key == key && (!e->port || e->port == port) && (!e->kind || e->kind == pkt[10]))
            result = e->result;
    }
    return result;
}
