/* stateful_firewall: matches the TCP packets that belong to a connection properly opened.
 *
 * Both directions of a connection share one entry, found by its two ends in a fixed order. Use it
 * in a flow that forwards, above one that drops TCP.
 *
 * A frame is looked at when it is IPv4 (EtherType 0x0800 behind up to two VLAN tags; version 4,
 * header length at least 20 and within the frame, total length at least the header length), not a
 * fragment, of protocol 6, and has 20 bytes of TCP header present. Others do not match.
 *
 * An end is (address, port), compared as the number address * 65536 + port; `low` is the smaller
 * of the packet's two ends (the source if they are equal). The connection's key is struct ends; its
 * entry says when it expires, its state, which end opened it, and which ends have sent FIN. An
 * entry whose expires_ns is not after now (the datapath clock) counts as absent (it is overwritten
 * or deleted where the text says "create" or "delete", else left alone). Then, by flags:
 *   RST: with an entry, it is deleted and the packet matches; without, no match.
 *   SYN without ACK:
 *     no entry, or one in CLOSING: when inside_port[0] is 0 or the packet's in_port, create an
 *       entry {state OPENING, opener = sender, fins 0} that expires in 30 s, and match if the map
 *       took it; otherwise no match;
 *     entry in OPENING, sent by the opener: a repetition; expires in 30 s from now; match;
 *     else no match.
 *   SYN and ACK: with an entry and not sent by its opener: in OPENING, the state becomes ANSWERED,
 *     expiring in 30 s; in any state, match. Else no match.
 *   neither SYN nor RST:
 *     no entry, or in OPENING: no match;
 *     in ANSWERED: if sent by the opener and with ACK, the state becomes OPEN; else no match;
 *     then (OPEN or CLOSING): FIN sets the sender's bit in fins (1 low, 2 high); when both are set
 *       the state becomes CLOSING. The entry expires in 300 s, in CLOSING in 10 s. Match.
 * (RST goes before SYN, SYN before the rest; times are from now.) */
#include "oko_parse.h"

#define SECOND 1000000000ull

struct ends {
    oko_ip4 low_addr; /* addresses and ports as on the wire */
    oko_ip4 high_addr;
    oko_be16 low_port;
    oko_be16 high_port;
};

enum { OPENING = 1, ANSWERED = 2, OPEN = 3, CLOSING = 4 };
enum { LOW = 0, HIGH = 1 };

struct connection {
    uint64_t expires_ns;
    uint8_t state;
    uint8_t opener; /* LOW or HIGH */
    uint8_t fins;   /* 1 << end */
    uint8_t pad[5];
};

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __type(key, struct ends);
    __type(value, struct connection);
    __uint(max_entries, 65536);
} connections SEC(".maps");

/* Port from which connections may be opened; 0 = any. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1);
} inside_port SEC(".maps");

static __always_inline uint64_t end_number(uint32_t addr, uint16_t port)
{
    return (uint64_t)bpf_ntohl(addr) << 16 | bpf_ntohs(port);
}

static __always_inline int open_connection(const struct ends *ends, uint8_t sender, uint64_t now,
                                           uint32_t in_port)
{
    struct connection fresh = {
        .expires_ns = now + 30 * SECOND,
        .state = OPENING,
        .opener = sender,
    };
    uint32_t zero = 0;
    const uint32_t *inside = bpf_map_lookup(&inside_port, &zero);

    if (inside && *inside && *inside != in_port)
        return 0;
    return bpf_map_update(&connections, ends, &fresh) == 0;
}

uint64_t entry(const void *pkt, uint64_t len, const struct oko_meta *meta)
{
    struct oko_l2 l2;
    struct oko_l3 l3;

    if (!oko_parse_eth(pkt, len, &l2) || !oko_parse_ipv4(pkt, len, &l2, &l3))
        return 0;
    if (l3.proto != OKO_IPPROTO_TCP || l3.fragment != OKO_WHOLE ||
        l3.l4 + sizeof(struct oko_tcp) > len)
        return 0;

    const struct oko_ipv4 *ip = pkt + l3.l3;
    const struct oko_tcp *tcp = pkt + l3.l4;
    struct ends ends;
    uint8_t sender;

    if (end_number(ip->src, tcp->src) <= end_number(ip->dst, tcp->dst)) {
        sender = LOW;
        ends.low_addr = ip->src;
        ends.low_port = tcp->src;
        ends.high_addr = ip->dst;
        ends.high_port = tcp->dst;
    } else {
        sender = HIGH;
        ends.low_addr = ip->dst;
        ends.low_port = tcp->dst;
        ends.high_addr = ip->src;
        ends.high_port = tcp->src;
    }

    uint8_t flags = tcp->flags;
    uint64_t now = bpf_time_get_ns();
    struct connection *conn = bpf_map_lookup(&connections, &ends);

    if (conn && conn->expires_ns <= now)
        conn = NULL;

    if (flags & OKO_TCP_RST) {
        if (!conn)
            return 0;
        bpf_map_delete(&connections, &ends);
        return 1;
    }

    if (flags & OKO_TCP_SYN) {
        if (flags & OKO_TCP_ACK) {
            if (!conn || sender == conn->opener)
                return 0;
            if (conn->state == OPENING) {
                conn->state = ANSWERED;
                conn->expires_ns = now + 30 * SECOND;
            }
            return 1;
        }
        if (!conn || conn->state == CLOSING)
            return open_connection(&ends, sender, now, meta->in_port);
        if (conn->state != OPENING || sender != conn->opener)
            return 0;
        conn->expires_ns = now + 30 * SECOND;
        return 1;
    }

    if (!conn || conn->state == OPENING)
        return 0;
    if (conn->state == ANSWERED) {
        if (sender != conn->opener || !(flags & OKO_TCP_ACK))
            return 0;
        conn->state = OPEN;
    }
    if (flags & OKO_TCP_FIN) {
        conn->fins |= 1 << sender;
        if (conn->fins == 3)
            conn->state = CLOSING;
    }
    conn->expires_ns = now + (conn->state == CLOSING ? 10 : 300) * SECOND;
    return 1;
}
