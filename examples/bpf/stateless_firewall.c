/* stateless_firewall: matches IPv4 packets that an operator's lists forbid.
 *
 * Use it in a flow that drops; what does not match goes on to the next flow.
 *
 * A frame is looked at when its EtherType, behind up to two VLAN tags (0x8100 or 0x88a8), is
 * 0x0800. Of these, the following match:
 *   1. an IPv4 header that is cut off or cannot be: version not 4, header length below 20 or
 *      beyond the frame's end, total length below the header length;
 *   2. a source address (4 bytes as on the wire) that is a key of `blocked` with a value other
 *      than 0;
 *   3. else, a source address whose longest prefix in `blocked_nets` has a value other than 0 (so
 *      a longer prefix with the value 0 makes an exception);
 *   4. else, TCP (protocol 6) or UDP (17) in an unfragmented packet or first fragment whose
 *      destination port p is present (bytes 2 and 3 behind the IPv4 header) and whose protocol's
 *      bit is set in closed_ports[p]: 1 for TCP, 2 for UDP.
 * Nothing else matches; in particular no frame that is cut off before or within its EtherType or
 * VLAN tags. The maps are only read: the controller fills them. */
#include "oko_parse.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, oko_ip4);
    __type(value, uint32_t);
    __uint(max_entries, 65536);
} blocked SEC(".maps");

struct prefix {
    uint32_t len; /* bits */
    oko_ip4 addr;
};

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __type(key, struct prefix);
    __type(value, uint32_t);
    __uint(max_entries, 4096);
} blocked_nets SEC(".maps");

#define CLOSED_TCP 1
#define CLOSED_UDP 2

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint8_t);
    __uint(max_entries, 65536);
} closed_ports SEC(".maps");

uint64_t entry(const void *pkt, uint64_t len)
{
    struct oko_l2 l2;
    struct oko_l3 l3;

    if (!oko_parse_eth(pkt, len, &l2) || l2.type != OKO_ETH_P_IP)
        return 0;
    if (!oko_parse_ipv4(pkt, len, &l2, &l3))
        return 1;

    const struct oko_ipv4 *ip = pkt + l3.l3;
    uint32_t src = ip->src;
    const uint32_t *value = bpf_map_lookup(&blocked, &src);

    if (value && *value)
        return 1;

    struct prefix host = {32, src};

    value = bpf_map_lookup(&blocked_nets, &host);
    if (value && *value)
        return 1;

    if (l3.fragment == OKO_LATER_FRAGMENT || l3.l4 + 4 > len)
        return 0;

    /* TCP and UDP both begin with the two port numbers. */
    const struct oko_udp *ports = pkt + l3.l4;
    uint32_t dst_port = bpf_ntohs(ports->dst);
    const uint8_t *closed = bpf_map_lookup(&closed_ports, &dst_port);

    if (!closed)
        return 0;
    if (l3.proto == OKO_IPPROTO_TCP)
        return *closed & CLOSED_TCP ? 1 : 0;
    if (l3.proto == OKO_IPPROTO_UDP)
        return *closed & CLOSED_UDP ? 1 : 0;
    return 0;
}
