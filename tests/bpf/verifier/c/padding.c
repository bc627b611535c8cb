/* refuse: the key (r2) of map_lookup reads stack byte r10-.., which has not been set on every path
 * to here
 *
 * at: return bpf_map_lookup(&seen, &key) != NULL;
 *
 * hint: padding included
 *
 * Two bytes of the key have no name. */
#include "oko_bpf.h"

struct service {
    uint32_t addr;
    uint16_t port;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct service);
    __type(value, uint64_t);
    __uint(max_entries, 64);
} seen SEC(".maps");

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    struct service key;
    if (len < 38)
        return 0;
    key.addr = *(const uint32_t *)(pkt + 30);
    key.port = *(const uint16_t *)(pkt + 36);
    return bpf_map_lookup(&seen, &key) != NULL;
}
