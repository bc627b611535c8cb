/* port_scan: matches connection attempts of hosts that have tried many different targets.
 *
 * A Bloom filter remembers which (source, destination, port) have been seen, so that repeated
 * connections to the same service do not count; a table counts the different ones per source.
 *
 * Looked at: IPv4 (EtherType 0x0800 behind up to two VLAN tags; version 4, header length at least
 * 20 and within the frame, total length at least the header length), not a later fragment,
 * protocol 6 with 20 bytes of TCP header present, whose flags have SYN and not ACK. Other frames
 * do not match and change nothing.
 *
 * The item is struct probe: source and destination address and destination port as on the wire,
 * then two zero bytes. If `seen` does not have it, it is added and scanners[source address] is
 * increased by 1 from 0 (when that table is full, a new source is left out). The packet matches
 * when scanners[source] exists and is then greater than threshold[0], or than 20 where that is 0.
 */
#include "oko_parse.h"

#define DEFAULT_THRESHOLD 20

struct probe {
    oko_ip4 src;
    oko_ip4 dst;
    oko_be16 port;
    uint16_t zero;
};

struct {
    __uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
    __type(key, struct probe);
    __uint(max_entries, 1 << 20); /* bits */
    __uint(map_extra, 4);         /* hash functions */
} seen SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, oko_ip4);
    __type(value, uint32_t);
    __uint(max_entries, 16384);
} scanners SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1);
} threshold SEC(".maps");

uint64_t entry(const void *pkt, uint64_t len)
{
    struct oko_l2 l2;
    struct oko_l3 l3;

    if (!oko_parse_eth(pkt, len, &l2) || !oko_parse_ipv4(pkt, len, &l2, &l3))
        return 0;
    if (l3.proto != OKO_IPPROTO_TCP || l3.fragment == OKO_LATER_FRAGMENT ||
        l3.l4 + sizeof(struct oko_tcp) > len)
        return 0;

    const struct oko_ipv4 *ip = pkt + l3.l3;
    const struct oko_tcp *tcp = pkt + l3.l4;

    if ((tcp->flags & (OKO_TCP_SYN | OKO_TCP_ACK)) != OKO_TCP_SYN)
        return 0;

    struct probe probe = {.src = ip->src, .dst = ip->dst, .port = tcp->dst};
    const uint32_t *known = bpf_map_lookup(&seen, &probe);
    uint32_t *targets = bpf_map_lookup(&scanners, &probe.src);
    uint32_t n = targets ? *targets : 0;

    if (!known || !*known) {
        bpf_map_add(&seen, &probe);
        n++;
        if (targets)
            *targets = n;
        else if (bpf_map_update(&scanners, &probe.src, &n) != 0)
            return 0;
    }

    uint32_t limit = DEFAULT_THRESHOLD, zero = 0;
    const uint32_t *configured = bpf_map_lookup(&threshold, &zero);

    if (configured && *configured)
        limit = *configured;
    return n > limit;
}
