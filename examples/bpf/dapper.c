/* dapper: what holds a TCP sender back, after "Dapper: Data Plane Performance Diagnosis of TCP"
 * (Ghasemi, Benson and Rexford, 2017). Never matches: it only watches, and fills a table.
 *
 * Looked at: IPv4 (EtherType 0x0800 behind up to two VLAN tags; version 4, header length at least
 * 20 and within the frame, total length at least the header length), not a fragment, protocol 6
 * with 20 bytes of TCP header present, data offset d at least 5 and
 * total length >= header length + 4 d. The lengths in the headers count, so cut-off captures give
 * the same result. n = total length - header length - 4 d is the payload; size = n, plus 1 for SYN,
 * plus 1 for FIN. Sequence numbers are compared modulo 2^32: a is before b if (int32)(a - b) < 0.
 * now is the datapath clock.
 *
 * flows[k], k = (source, destination, source port, destination port) as on the wire, describes the
 * data that the source sends; r is k with the two ends exchanged. Two steps:
 *
 * A. As data (k):
 *   - SYN: flows[k] is created, or set anew, as {packets 1, next_seq = seq + size, scale}, all else
 *     0. scale is the shift of the window scale option (kind 3, length 3), at most 14, or 0 if
 *     there is none before the end of the option list. (An option list: kind 0 ends it, kind 1 is
 *     one byte, others have their length, at least 2, in the second byte; an option that does not
 *     end before the TCP header and the frame end, ends the list too; at most 20 are looked at.)
 *   - not SYN and k absent: created as {packets 1, bytes n, next_seq = seq + size, mss = n}, all
 *     else 0.
 *   - otherwise packets grows by 1, mss becomes n if that is larger, and if size > 0: when seq is
 *     before next_seq, retransmits grows by 1 and timing becomes 0; otherwise bytes grows by n,
 *     next_seq = seq + size and, if timing is 0: timing = 1, timed_seq = next_seq, timed_ns = now.
 * B. As acknowledgement (r), when ACK is set, SYN is not, and r is present:
 *   - if n is 0, and ack equals flows[r].last_ack, and that is before next_seq, and acks is not 0:
 *     dup_acks grows by 1;
 *   - acks grows by 1, last_ack = ack, window = the window field << scale, that of flows[k] (0 if
 *     step A found it absent);
 *   - if timing is 1 and ack is not before timed_seq: rtt = now - timed_ns; srtt_ns = rtt if that
 *     was 0, else srtt_ns - srtt_ns / 8 + rtt / 8; min_rtt_ns = rtt if that was 0 or larger;
 *     timing = 0;
 *   - flight = next_seq - ack if ack is before next_seq, else 0; max_flight is its maximum;
 *   - if flight + mss > window, receiver_limited grows by 1 (it cannot send one more segment).
 * When the table is full, a flow that is not in it is not added.
 *
 * Reading the table: retransmits and dup_acks tell of loss on the network, receiver_limited of a
 * slow receiver; with neither, the sender had nothing to send. */
#include "oko_parse.h"

struct tuple {
    oko_ip4 src;
    oko_ip4 dst;
    oko_be16 src_port;
    oko_be16 dst_port;
};

struct flow {
    uint64_t packets;
    uint64_t bytes; /* of new payload */
    uint64_t timed_ns;
    uint64_t srtt_ns;
    uint64_t min_rtt_ns;
    uint32_t next_seq; /* one past the highest sequence number sent */
    uint32_t timed_seq;
    uint32_t last_ack;
    uint32_t mss; /* largest payload seen */
    uint32_t retransmits;
    uint32_t acks;
    uint32_t dup_acks;
    uint32_t receiver_limited;
    uint32_t window; /* bytes, as last advertised by the receiver */
    uint32_t max_flight;
    uint8_t timing; /* 1: timed_seq waits for its acknowledgement */
    uint8_t scale;  /* of the windows that this sender advertises */
    uint8_t pad[6];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct tuple);
    __type(value, struct flow);
    __uint(max_entries, 16384);
} flows SEC(".maps");

#define MAX_OPTIONS 20
#define MAX_SCALE   14 /* RFC 7323 section 2.3 */

static __always_inline int before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/* A function of its own: runs once per connection. at, end: the options' place in the frame. */
static __noinline uint32_t window_scale(const void *pkt, uint64_t len, uint64_t at, uint64_t end)
{
    if (end > len)
        end = len;
    for (int i = 0; i < MAX_OPTIONS; i++) {
        if (at >= end)
            break;

        const uint8_t *option = pkt + at;

        if (option[0] == 0)
            break;
        if (option[0] == 1) {
            at += 1;
            continue;
        }
        if (at + 2 > end || option[1] < 2 || at + option[1] > end)
            break;
        if (option[0] == 3 && option[1] == 3)
            return option[2] < MAX_SCALE ? option[2] : MAX_SCALE;
        at += option[1];
    }
    return 0;
}

static __always_inline void sent(struct flow *flow, uint32_t seq, uint32_t payload, uint32_t size,
                                 uint64_t now)
{
    flow->packets++;
    if (payload > flow->mss)
        flow->mss = payload;
    if (size == 0)
        return;
    if (before(seq, flow->next_seq)) {
        flow->retransmits++;
        flow->timing = 0;
        return;
    }
    flow->bytes += payload;
    flow->next_seq = seq + size;
    if (!flow->timing) {
        flow->timing = 1;
        flow->timed_seq = flow->next_seq;
        flow->timed_ns = now;
    }
}

static __always_inline void acknowledged(struct flow *flow, uint32_t ack, uint32_t payload,
                                         uint32_t window, uint64_t now)
{
    uint32_t flight = before(ack, flow->next_seq) ? flow->next_seq - ack : 0;

    if (payload == 0 && flow->acks && ack == flow->last_ack && flight)
        flow->dup_acks++;
    flow->acks++;
    flow->last_ack = ack;
    flow->window = window;
    if (flow->timing && !before(ack, flow->timed_seq)) {
        uint64_t rtt = now - flow->timed_ns;

        flow->srtt_ns = flow->srtt_ns ? flow->srtt_ns - flow->srtt_ns / 8 + rtt / 8 : rtt;
        if (!flow->min_rtt_ns || rtt < flow->min_rtt_ns)
            flow->min_rtt_ns = rtt;
        flow->timing = 0;
    }
    if (flight > flow->max_flight)
        flow->max_flight = flight;
    if ((uint64_t)flight + flow->mss > window)
        flow->receiver_limited++;
}

uint64_t entry(const void *pkt, uint64_t len)
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
    uint64_t payload_at = l3.l4 + (tcp->data_offset >> 4) * 4;

    if (tcp->data_offset >> 4 < 5 || payload_at > l3.end)
        return 0;

    uint8_t flags = tcp->flags;
    uint32_t payload = l3.end - payload_at;
    uint32_t size = payload + !!(flags & OKO_TCP_SYN) + !!(flags & OKO_TCP_FIN);
    uint32_t seq = bpf_ntohl(tcp->seq), ack = bpf_ntohl(tcp->ack);
    uint64_t now = bpf_time_get_ns();
    struct tuple key = {ip->src, ip->dst, tcp->src, tcp->dst};
    struct tuple reverse = {ip->dst, ip->src, tcp->dst, tcp->src};
    struct flow *flow;
    uint32_t scale = 0;

    if (flags & OKO_TCP_SYN) {
        struct flow fresh = {.packets = 1, .next_seq = seq + size};

        fresh.scale = window_scale(pkt, len, l3.l4 + sizeof(*tcp), payload_at);
        bpf_map_update(&flows, &key, &fresh);
        return 0;
    }

    flow = bpf_map_lookup(&flows, &key);
    if (flow) {
        sent(flow, seq, payload, size, now);
        scale = flow->scale;
    } else {
        struct flow fresh = {
            .packets = 1, .bytes = payload, .next_seq = seq + size, .mss = payload};

        bpf_map_update(&flows, &key, &fresh);
    }
    if (flags & OKO_TCP_ACK) {
        flow = bpf_map_lookup(&flows, &reverse);
        if (flow)
            acknowledged(flow, ack, payload, (uint32_t)bpf_ntohs(tcp->window) << (scale & 15), now);
    }
    return 0;
}
