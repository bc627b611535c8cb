/* rate_limiter: matches the IPv4 packets of each source that keep to a rate.
 *
 * A token bucket per source address, kept as time credit in ns: a packet costs `cost_ns` of
 * credit, credit grows with time, and at most `depth_ns` of it can be saved up. Use it in a flow
 * that forwards; the packets above the rate do not match and go on to the next flow.
 *
 * A frame that is not a well-formed IPv4 packet (EtherType 0x0800 behind up to two VLAN tags;
 * version 4, header length at least 20 and within the frame, total length at least the header
 * length) does not match and changes nothing. Otherwise, with now = the datapath clock, cost and
 * depth = limit[0].cost_ns and .depth_ns, or 10,000,000 (100 packets/s) and 200,000,000 (a burst
 * of 20) where that is 0:
 *   - a source without an entry in `buckets` gets one with the credit depth (as of now); if the
 *     table is full, the packet does not match and that is all;
 *   - a source with one gains now - last_ns, and then has at most depth; last_ns becomes now;
 *   - if the credit is at least cost, cost is taken from it and the packet matches; otherwise it
 *     does not.
 * Keys of `buckets` are source addresses, 4 bytes as on the wire; values are struct bucket. */
#include "oko_parse.h"

struct limit {
    uint64_t cost_ns;
    uint64_t depth_ns;
};

struct bucket {
    uint64_t last_ns;
    uint64_t credit_ns;
};

#define DEFAULT_COST_NS  10000000ull
#define DEFAULT_DEPTH_NS 200000000ull

struct ubpf_map_def limit SEC("maps") = {
    .type = UBPF_MAP_TYPE_ARRAY,
    .key_size = sizeof(uint32_t),
    .value_size = sizeof(struct limit),
    .max_entries = 1,
};

struct ubpf_map_def buckets SEC("maps") = {
    .type = UBPF_MAP_TYPE_HASH,
    .key_size = sizeof(uint32_t),
    .value_size = sizeof(struct bucket),
    .max_entries = 65536,
};

uint64_t entry(const void *pkt, uint64_t len)
{
    struct oko_l2 l2;
    struct oko_l3 l3;

    if (!oko_parse_eth(pkt, len, &l2) || !oko_parse_ipv4(pkt, len, &l2, &l3))
        return 0;

    uint64_t cost = DEFAULT_COST_NS, depth = DEFAULT_DEPTH_NS;
    uint32_t zero = 0;
    const struct limit *lim = bpf_map_lookup(&limit, &zero);

    if (lim && lim->cost_ns)
        cost = lim->cost_ns;
    if (lim && lim->depth_ns)
        depth = lim->depth_ns;

    const struct oko_ipv4 *ip = pkt + l3.l3;
    uint32_t src = ip->src;
    uint64_t now = bpf_time_get_ns();
    struct bucket *bucket = bpf_map_lookup(&buckets, &src);

    if (!bucket) {
        struct bucket fresh = {now, depth};
        int conforms = depth >= cost;

        if (conforms)
            fresh.credit_ns -= cost;
        if (bpf_map_update(&buckets, &src, &fresh) != 0)
            return 0;
        return conforms;
    }

    uint64_t credit = bucket->credit_ns + (now - bucket->last_ns);

    if (credit > depth)
        credit = depth;
    bucket->last_ns = now;
    if (credit < cost) {
        bucket->credit_ns = credit;
        return 0;
    }
    bucket->credit_ns = credit - cost;
    return 1;
}
