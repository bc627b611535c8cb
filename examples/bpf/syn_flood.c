/* syn_flood: matches the SYNs that a server under a SYN flood should be spared.
 *
 * Per service (destination address and port) it counts connections begun and not yet completed by
 * the client's next packet. When there are too many, further new ones match. The count halves every
 * second, because half-open connections also die unseen. Use it in a flow that drops.
 *
 * Looked at: IPv4 (EtherType 0x0800 behind up to two VLAN tags; version 4, header length at least
 * 20 and within the frame, total length at least the header length), not a fragment, protocol 6
 * with 20 bytes of TCP header present. Other frames do not match and change nothing. With now =
 * the datapath clock and P = the packet's (source address, destination address, source port,
 * destination port), all as on the wire, one of these applies:
 *   SYN without ACK, FIN and RST:
 *     If P is a key of `pending`, it is a repetition: no match, nothing changes.
 *     Otherwise the service S = (destination address, port) is looked up in `services`, and created
 *     with half_open 0 and since_ns now when absent (if that table is full: no match). Let k be the
 *     whole seconds in now - since_ns; if k > 0, half_open is shifted right by k (0 from k = 32
 *     on) and since_ns grows by k seconds. If then half_open >= limit[0], or 64 where that is 0:
 *     match, refused[0] grows by 1. Otherwise half_open grows by 1, P is added to `pending` with
 *     the value now (nothing happens if that table is full), and no match.
 *   ACK without SYN and RST, or RST: if P is in `pending` it is removed, and half_open of S = P's
 *     destination, if S is in `services` and it is above 0, falls by 1. No match.
 *   anything else: no match. */
#include "oko_parse.h"

#define SECOND        1000000000ull
#define DEFAULT_LIMIT 64

struct tuple {
    oko_ip4 src;
    oko_ip4 dst;
    oko_be16 src_port;
    oko_be16 dst_port;
};

struct endpoint {
    oko_ip4 addr;
    oko_be16 port;
    uint16_t zero;
};

struct service {
    uint64_t since_ns;
    uint32_t half_open;
    uint32_t pad;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct tuple);
    __type(value, uint64_t);
    __uint(max_entries, 65536);
} pending SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct endpoint);
    __type(value, struct service);
    __uint(max_entries, 4096);
} services SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1);
} limit SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 1);
} refused SEC(".maps");

static __always_inline void completed(const struct tuple *conn, const struct endpoint *server)
{
    if (bpf_map_delete(&pending, conn) != 0)
        return;

    struct service *service = bpf_map_lookup(&services, server);

    if (service && service->half_open > 0)
        service->half_open--;
}

static __always_inline struct service *find_service(const struct endpoint *server, uint64_t now)
{
    struct service *service = bpf_map_lookup(&services, server);

    if (!service) {
        struct service fresh = {.since_ns = now};

        bpf_map_update(&services, server, &fresh);
        service = bpf_map_lookup(&services, server);
    }
    return service;
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
    struct tuple conn = {ip->src, ip->dst, tcp->src, tcp->dst};
    struct endpoint server = {.addr = ip->dst, .port = tcp->dst};
    uint8_t flags = tcp->flags & (OKO_TCP_SYN | OKO_TCP_ACK | OKO_TCP_FIN | OKO_TCP_RST);

    if (flags != OKO_TCP_SYN) {
        if (flags & OKO_TCP_RST || (flags & (OKO_TCP_ACK | OKO_TCP_SYN)) == OKO_TCP_ACK)
            completed(&conn, &server);
        return 0;
    }

    if (bpf_map_lookup(&pending, &conn))
        return 0;

    uint64_t now = bpf_time_get_ns();
    struct service *service = find_service(&server, now);

    if (!service)
        return 0;

    uint64_t seconds = (now - service->since_ns) / SECOND;

    if (seconds > 0) {
        service->half_open = seconds < 32 ? service->half_open >> seconds : 0;
        service->since_ns += seconds * SECOND;
    }

    uint32_t most = DEFAULT_LIMIT, zero = 0;
    const uint32_t *configured = bpf_map_lookup(&limit, &zero);

    if (configured && *configured)
        most = *configured;
    if (service->half_open >= most) {
        uint64_t *count = bpf_map_lookup(&refused, &zero);

        if (count)
            *count += 1;
        return 1;
    }
    service->half_open++;
    bpf_map_update(&pending, &conn, &now);
    return 0;
}
