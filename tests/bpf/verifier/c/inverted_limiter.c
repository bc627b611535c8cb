/* refuse: this read needs .. bytes of packet, but here it has 0 to 34
 *
 * at: uint32_t src = ip->src;
 *
 * hint: the wrong way round
 *
 * The prototype's rate limiter: the same test by sizes of structs, operands exchanged. */
#include "oko_bpf.h"

struct bucket {
    uint64_t tokens, last;
};

struct ubpf_map_def buckets SEC("maps") = {
    .type = UBPF_MAP_TYPE_HASH,
    .key_size = sizeof(uint32_t),
    .value_size = sizeof(struct bucket),
    .max_entries = 1024,
};

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (sizeof(struct oko_eth) + sizeof(struct oko_ipv4) < len)
        return 1;
    const struct oko_ipv4 *ip = (const void *)(pkt + sizeof(struct oko_eth));
    uint32_t src = ip->src;
    struct bucket *bucket = bpf_map_lookup(&buckets, &src);
    if (bucket == NULL) {
        struct bucket fresh = {10, bpf_time_get_ns()};
        bpf_map_update(&buckets, &src, &fresh);
        return 1;
    }
    bucket->tokens += (bpf_time_get_ns() - bucket->last) / 100000000;
    if (bucket->tokens == 0)
        return 0;
    bucket->tokens--;
    return 1;
}
