/* One frame of every shape that the parser knows, built from parts with right checksums, and a
 * naive check of all checksums of a frame: what the parser and editor tests stand on. */
#ifndef OKO_FRAMES_H
#define OKO_FRAMES_H

#include "base/be.h"
#include "check.h"
#include "parse.h"

enum { SHAPE_MAX = 256, MAX_SHAPES = 160 };

struct shape {
    char name[64];
    uint32_t len;
    uint8_t bytes[SHAPE_MAX];
};

/* ---------------------------------------------------------------- naive checksums */

/* One's complement sum (RFC 1071) of n bytes, big-endian words, odd byte padded. */
static inline uint32_t sum_bytes(const uint8_t *p, uint32_t n, uint32_t sum)
{
    for (uint32_t i = 0; i < n; i++)
        sum += (uint32_t)p[i] << (i % 2 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* CRC32c (RFC 9260, appendix A), bit by bit, over n bytes of which [8..12) count as zero. */
static inline uint32_t naive_crc32c(const uint8_t *p, uint32_t n)
{
    uint32_t crc = 0xffffffff;
    for (uint32_t i = 0; i < n; i++) {
        crc ^= i >= 8 && i < 12 ? 0 : p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    }
    return ~crc;
}

/* Where the transport header and the end of the IP payload are; also for first fragments. */
struct transport {
    uint8_t *ip, *p;
    uint32_t len;
    uint8_t proto;
    bool v6, fragment, routed;
};

static inline bool find_transport(uint8_t *data, uint32_t len, struct transport *t)
{
    struct oko_l2 l2;
    if (!oko_l2_walk(data, len, &l2))
        return false;
    uint8_t *ip = data + l2.payload;
    *t = (struct transport){.ip = ip, .v6 = l2.eth_type == OKO_ETH_TYPE_IPV6};
    struct oko_pkt pkt = {.data = data, .len = len};
    struct oko_key key;
    oko_parse(&pkt, OKO_LAYER_L4, &key);
    if (pkt.l3 == OKO_NO_LAYER)
        return false;
    t->fragment = key.ip_frag[0] != 0;
    if (l2.eth_type == OKO_ETH_TYPE_IPV4) {
        t->p = ip + (ip[0] & 15) * 4;
        t->len = oko_be16(ip + 2) - (ip[0] & 15u) * 4;
        t->proto = ip[9];
        return true;
    }
    if (!t->v6)
        return false;
    struct oko_ipv6_chain chain;
    oko_ipv6_walk(ip[6], ip + 40, oko_be16(ip + 4), &chain);
    t->p = ip + 40 + chain.offset;
    t->len = oko_be16(ip + 4) - chain.offset;
    t->proto = chain.proto;
    t->routed = chain.routing_active;
    return true;
}

static inline uint32_t pseudo_header(const struct transport *t)
{
    uint32_t sum = t->v6 ? sum_bytes(t->ip + 8, 32, 0) : sum_bytes(t->ip + 12, 8, 0);
    return sum + t->len + t->proto;
}

/* 0 where a checksum is right: the IPv4 header's and the transport's, each folded. */
static inline void checksum_errors(uint8_t *data, uint32_t len, uint32_t *ip, uint32_t *l4)
{
    struct transport t;
    *ip = *l4 = 0;
    if (!find_transport(data, len, &t))
        return;
    if (!t.v6)
        *ip = 0xffff ^ sum_bytes(t.ip, (t.ip[0] & 15) * 4u, 0);
    if (t.fragment)
        return;
    if (t.proto == OKO_IP_PROTO_TCP && t.len >= 20)
        *l4 = 0xffff ^ sum_bytes(t.p, t.len, pseudo_header(&t));
    if (t.proto == OKO_IP_PROTO_UDP && t.len >= 8 && oko_be16(t.p + 6))
        *l4 = 0xffff ^ sum_bytes(t.p, t.len, pseudo_header(&t));
    if (t.proto == OKO_IP_PROTO_ICMP && !t.v6 && t.len >= 8)
        *l4 = 0xffff ^ sum_bytes(t.p, t.len, 0);
    if (t.proto == OKO_IP_PROTO_ICMPV6 && t.v6 && t.len >= 8)
        *l4 = 0xffff ^ sum_bytes(t.p, t.len, pseudo_header(&t));
    if (t.proto == OKO_IP_PROTO_SCTP && t.len >= 12) {
        uint32_t crc;
        memcpy(&crc, t.p + 8, 4);
        *l4 = crc ^ naive_crc32c(t.p, t.len);
    }
}

/* ---------------------------------------------------------------- building blocks */

static inline void put(struct shape *s, const void *bytes, uint32_t n)
{
    CHECK(s->len + n <= SHAPE_MAX);
    memcpy(s->bytes + s->len, bytes, n);
    s->len += n;
}
#define PUT(s, ...) put(s, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

enum link_kind { L_PLAIN, L_VLAN, L_QINQ, L_SNAP, L_VLAN_SNAP, N_LINKS };
enum net_kind {
    V4,
    V4_OPTIONS,
    V4_FIRST,
    V4_LATER,
    V6,
    V6_CHAIN,
    V6_FIRST,
    V6_LATER,
    V6_ROUTED,
    N_NETS
};
enum trans_kind { T_TCP, T_UDP, T_UDP_ZERO, T_SCTP, T_ICMP, T_ND, N_TRANS };

static inline void put_link(struct shape *s, enum link_kind kind, uint16_t type)
{
    uint8_t hi = (uint8_t)(type >> 8), lo = (uint8_t)type;
    PUT(s, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2);
    if (kind == L_QINQ)
        PUT(s, 0x88, 0xa8, 0x70, 0x64); /* PCP 3, DEI, VID 100 */
    if (kind == L_VLAN || kind == L_QINQ || kind == L_VLAN_SNAP)
        PUT(s, 0x81, 0, 0xb1, 0x23); /* PCP 5, DEI, VID 0x123 */
    if (kind == L_SNAP || kind == L_VLAN_SNAP)
        PUT(s, 0, 100, 0xaa, 0xaa, 3, 0, 0, 0);
    PUT(s, hi, lo);
}

/* Adds the network header (lengths and checksum filled in by finish()). */
static inline void put_net(struct shape *s, enum net_kind kind, uint8_t proto)
{
    static const uint8_t v6_addresses[32] = {
        0x20, 1, 0xd, 0xb8, [15] = 1, [16] = 0xfe, 0x80, [31] = 2};
    uint8_t first = kind == V6_CHAIN                       ? 0
                    : kind == V6_ROUTED                    ? 43
                    : kind == V6_FIRST || kind == V6_LATER ? 44
                                                           : proto;
    if (kind <= V4_LATER) {
        PUT(s, (uint8_t)(kind == V4_OPTIONS ? 0x47 : 0x45), 0xb9, 0, 0, 0x12, 0x34);
        PUT(s,
            (uint8_t)(kind == V4_FIRST   ? 0x20
                      : kind == V4_LATER ? 0x20
                                         : 0x40),
            (uint8_t)(kind == V4_LATER ? 7 : 0), 63, proto, 0, 0);
        PUT(s, 10, 1, 2, 3, 192, 168, 200, 4);
        if (kind == V4_OPTIONS)
            PUT(s, 0x94, 4, 0, 0, 1, 1, 1, 0);
        return;
    }
    PUT(s, 0x6b, 0x91, 0x23, 0x45, 0, 0, first, 63);
    put(s, v6_addresses, 32);
    if (kind == V6_CHAIN) /* hop-by-hop, destination options, AH */
        PUT(s, 60, 0, 1, 4, 0, 0, 0, 0, 51, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, proto, 1,
            0, 0, 0, 0, 0, 1, 0, 0, 0, 2);
    if (kind == V6_ROUTED)
        PUT(s, proto, 2, 0, 1, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9);
    if (kind == V6_FIRST)
        PUT(s, proto, 0, 0, 1, 0, 0, 0, 5);
    if (kind == V6_LATER)
        PUT(s, proto, 0, 1, 0x41, 0, 0, 0, 5);
}

static inline void put_transport(struct shape *s, enum trans_kind kind, bool v6)
{
    switch (kind) {
    case T_TCP: /* 24 bytes of header */
        PUT(s, 0x30, 0x39, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x61, 0x12, 16, 0, 0, 0, 0, 0, 2, 4, 5,
            0xb4);
        break;
    case T_UDP:
    case T_UDP_ZERO:
        PUT(s, 0x30, 0x39, 0, 53, 0, 13, 0, (uint8_t)(kind == T_UDP));
        break;
    case T_SCTP:
        PUT(s, 0x30, 0x39, 0xb, 0x59, 1, 2, 3, 4, 0, 0, 0, 0);
        break;
    case T_ICMP:
        PUT(s, (uint8_t)(v6 ? 128 : 8), 0, 0, 0, 1, 2, 0, 9);
        break;
    case T_ND: /* solicitation with an odd option, source and target link-layer addresses */
        PUT(s, 135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9);
        PUT(s, 14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 1, 2, 1, 2, 0, 0, 0, 0, 9);
        return;
    case N_TRANS:
        break;
    }
    PUT(s, 'h', 'e', 'l', 'l', 'o');
}

/* Fills in lengths and checksums of the frame whose IP header is at `ip`, then pads it. */
static inline void finish(struct shape *s, uint32_t ip, bool v6)
{
    uint8_t *h = s->bytes + ip;
    if (v6) {
        oko_put_be16(h + 4, (uint16_t)(s->len - ip - 40));
    } else {
        oko_put_be16(h + 2, (uint16_t)(s->len - ip));
        oko_put_be16(h + 10, (uint16_t)~sum_bytes(h, (h[0] & 15) * 4u, 0));
    }
    struct transport t;
    CHECK(find_transport(s->bytes, s->len, &t));
    if (t.proto == OKO_IP_PROTO_SCTP) {
        uint32_t crc = naive_crc32c(t.p, t.len);
        memcpy(t.p + 8, &crc, 4);
    } else if (!t.fragment || t.proto != OKO_IP_PROTO_FRAGMENT) {
        uint32_t at = t.proto == OKO_IP_PROTO_TCP ? 16 : t.proto == OKO_IP_PROTO_UDP ? 6 : 2;
        bool zero = t.proto == OKO_IP_PROTO_UDP && !oko_be16(t.p + 6);
        oko_put_be16(t.p + at, 0);
        uint32_t pseudo = t.proto == OKO_IP_PROTO_ICMP ? 0 : pseudo_header(&t);
        if (!zero)
            oko_put_be16(t.p + at, (uint16_t)~sum_bytes(t.p, t.len, pseudo));
    }
    PUT(s, 0, 0, 0, 0); /* padding that belongs to no header */
}

static inline struct shape *add_shape(struct shape *shapes, uint32_t *n, const char *name)
{
    CHECK(*n < MAX_SHAPES);
    struct shape *s = &shapes[(*n)++];
    memset(s, 0, sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

/* Every sensible combination; returns how many. */
static inline uint32_t make_shapes(struct shape *shapes)
{
    static const uint8_t protos[N_TRANS] = {6, 17, 17, 132, 1, 58};
    static const uint8_t arp[28] = {0,  1, 8, 0, 6, 4, 0, 2, 2, 0, 0,  0, 0, 1,
                                    10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2};
    uint32_t n = 0;
    struct shape *s;
    char name[64];

    for (int link = 0; link < N_LINKS; link++)
        for (int net = 0; net < N_NETS; net++)
            for (int trans = 0; trans < N_TRANS; trans++) {
                bool v6 = net >= V6;
                if ((trans == T_ND && !v6) || (link >= L_QINQ && trans != T_TCP))
                    continue;
                uint8_t proto = trans == T_ICMP && v6 ? 58 : protos[trans];
                snprintf(name, sizeof name, "link %d net %d transport %d", link, net, trans);
                s = add_shape(shapes, &n, name);
                put_link(s, (enum link_kind)link, v6 ? 0x86dd : 0x0800);
                uint32_t ip = s->len;
                put_net(s, (enum net_kind)net, proto);
                put_transport(s, (enum trans_kind)trans, v6);
                finish(s, ip, v6);
            }
    for (int link = 0; link < N_LINKS; link++) {
        snprintf(name, sizeof name, "link %d arp", link);
        s = add_shape(shapes, &n, name);
        put_link(s, (enum link_kind)link, 0x0806);
        put(s, arp, sizeof arp);
    }
    for (int link = 0; link < N_LINKS; link++)
        for (int labels = 1; labels <= 3; labels++) {
            snprintf(name, sizeof name, "link %d mpls %d", link, labels);
            s = add_shape(shapes, &n, name);
            put_link(s, (enum link_kind)link, 0x8847);
            for (int i = 1; i < labels; i++)
                PUT(s, 0, 1, (uint8_t)(0x2a + 16 * i), 60);
            PUT(s, 0x12, 0x34, 0x5b, 64);
            put_net(s, labels % 2 ? V4 : V6, 17);
            put_transport(s, T_UDP, false);
        }
    s = add_shape(shapes, &n, "pbb");
    put_link(s, L_PLAIN, 0x88e7);
    PUT(s, 0xc8, 0x12, 0x34, 0x56, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 2, 8, 0);
    put_net(s, V4, 17);
    s = add_shape(shapes, &n, "802.3 without SNAP");
    put_link(s, L_PLAIN, 38);
    PUT(s, 0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    s = add_shape(shapes, &n, "three tags");
    put_link(s, L_QINQ, 0x8100);
    PUT(s, 0, 3, 8, 0);
    put_net(s, V4, 17);
    return n;
}

#endif
