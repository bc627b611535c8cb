/* Set-field, load, move: one field of the frame and of the key.
 *
 * Idea. The new value of the field is made from the key (value under the mask, the old bits
 * elsewhere). Then one switch finds the field's bytes in the frame, provided that the packet has
 * the header (its prerequisites hold and the parser accepted it), and writes them through a cover:
 * the checksums that have these bytes in their sum. The key gets the same value.
 *
 * A checksum of the transport header also covers the IP addresses (pseudo header). It is adjusted
 * in an unfragmented packet and in a first fragment that holds the field; an IPv6 destination that
 * a routing header has yet to replace is not the one that was summed (RFC 8200, 8.1).
 *
 * Left out: UDP-Lite's and DCCP's checksums; IPv4 source routes, whose last hop is summed. */
#include "edit.h"

#include "base/be.h"
#include "checksum.h"

enum { TCP_CSUM = 16, UDP_CSUM = 6, ICMP_CSUM = 2, IPV4_CSUM = 10, SCTP_CSUM = 8 };

/* ---------------------------------------------------------------- which packets have a field */

static bool is_ipv4(const struct oko_key *key)
{
    return oko_be16(key->eth_type) == OKO_ETH_TYPE_IPV4;
}

static bool is_ipv6(const struct oko_key *key)
{
    return oko_be16(key->eth_type) == OKO_ETH_TYPE_IPV6;
}

static bool is_arp(const struct oko_key *key)
{
    uint16_t type = oko_be16(key->eth_type);
    return type == OKO_ETH_TYPE_ARP || type == OKO_ETH_TYPE_RARP;
}

static bool is_mpls(const struct oko_key *key)
{
    uint16_t type = oko_be16(key->eth_type);
    return type == OKO_ETH_TYPE_MPLS || type == OKO_ETH_TYPE_MPLS_MC;
}

/* Prerequisites (OpenFlow 1.3, 7.2.3.8), as far as the key tells. */
static bool has_field(const struct oko_key *key, uint32_t field)
{
    uint8_t proto = key->ip_proto[0];

    switch (field) {
    case OKO_FIELD_VLAN_PCP:
        return key->vlan_vid[0] & OKO_VLAN_PRESENT >> 8;
    case OKO_FIELD_MPLS_LABEL:
    case OKO_FIELD_MPLS_TC:
    case OKO_FIELD_MPLS_BOS:
    case OKO_FIELD_MPLS_TTL:
        return is_mpls(key);
    case OKO_FIELD_PBB_ISID:
    case OKO_FIELD_PBB_UCA:
        return oko_be16(key->eth_type) == OKO_ETH_TYPE_PBB;
    case OKO_FIELD_IP_PROTO:
    case OKO_FIELD_IP_DSCP:
    case OKO_FIELD_IP_ECN:
    case OKO_FIELD_IP_TTL:
    case OKO_FIELD_IP_FRAG:
        return is_ipv4(key) || is_ipv6(key);
    case OKO_FIELD_IPV4_SRC:
    case OKO_FIELD_IPV4_DST:
        return is_ipv4(key);
    case OKO_FIELD_ARP_OP:
    case OKO_FIELD_ARP_SPA:
    case OKO_FIELD_ARP_TPA:
    case OKO_FIELD_ARP_SHA:
    case OKO_FIELD_ARP_THA:
        return is_arp(key);
    case OKO_FIELD_IPV6_SRC:
    case OKO_FIELD_IPV6_DST:
    case OKO_FIELD_IPV6_LABEL:
    case OKO_FIELD_IPV6_EXTHDR:
        return is_ipv6(key);
    case OKO_FIELD_TCP_SRC:
    case OKO_FIELD_TCP_DST:
    case OKO_FIELD_TCP_FLAGS:
        return (is_ipv4(key) || is_ipv6(key)) && proto == OKO_IP_PROTO_TCP;
    case OKO_FIELD_UDP_SRC:
    case OKO_FIELD_UDP_DST:
        return (is_ipv4(key) || is_ipv6(key)) && proto == OKO_IP_PROTO_UDP;
    case OKO_FIELD_SCTP_SRC:
    case OKO_FIELD_SCTP_DST:
        return (is_ipv4(key) || is_ipv6(key)) && proto == OKO_IP_PROTO_SCTP;
    case OKO_FIELD_ICMP_TYPE:
    case OKO_FIELD_ICMP_CODE:
        return is_ipv4(key) && proto == OKO_IP_PROTO_ICMP;
    case OKO_FIELD_ICMPV6_TYPE:
    case OKO_FIELD_ICMPV6_CODE:
    case OKO_FIELD_ND_TARGET:
    case OKO_FIELD_ND_SLL:
    case OKO_FIELD_ND_TLL:
        return is_ipv6(key) && proto == OKO_IP_PROTO_ICMPV6;
    default:
        return field < OKO_N_FIELDS;
    }
}

bool oko_field_in_frame(uint32_t field)
{
    return field >= OKO_FIELD_ETH_DST && field < OKO_N_FIELDS;
}

/* ---------------------------------------------------------------- writing under checksums */

/* Up to two checksums that have some bytes in their sum. */
struct cover {
    uint8_t *csum[2];
    bool udp[2];
    uint32_t n;
};

static void cover_add(struct cover *cover, uint8_t *csum, bool udp)
{
    cover->csum[cover->n] = csum;
    cover->udp[cover->n++] = udp;
}

/* Writes n bytes at p, which lies in (or is summed along with) a header that starts at base. */
static void write_covered(const struct cover *cover, uint8_t *base, uint8_t *p,
                          const uint8_t *bytes, uint32_t n)
{
    uint8_t *from = p - ((p - base) & 1); /* whole words */
    uint32_t size = (uint32_t)(p + n - from);
    size += size & 1;
    uint16_t before = cover->n ? oko_sum(from, size) : 0;
    memcpy(p, bytes, n);
    uint16_t after = cover->n ? oko_sum(from, size) : 0;
    for (uint32_t i = 0; i < cover->n; i++)
        oko_checksum_update(cover->csum[i], before, after, cover->udp[i]);
}

/* Adds the checksum whose pseudo header has the IP addresses, if the frame holds one. */
static void cover_transport(struct oko_pkt *pkt, const struct oko_key *key, struct cover *cover,
                            bool v6_dst)
{
    uint8_t *ip = pkt->data + pkt->l3;
    uint8_t *p = pkt->l4 == OKO_NO_LAYER ? NULL : pkt->data + pkt->l4;
    bool v6 = is_ipv6(key);
    uint32_t least = key->ip_proto[0] == OKO_IP_PROTO_TCP ? 20 : 8; /* header bytes */

    if (key->ip_frag[0] & OKO_FRAG_LATER)
        return;
    if (v6 && (key->ip_frag[0] || key->ipv6_exthdr[1] & OKO_IEH_ROUTER)) {
        struct oko_ipv6_chain chain;
        uint32_t payload = oko_be16(ip + 4);
        oko_ipv6_walk(ip[6], ip + 40, payload, &chain);
        if (chain.routing_active && v6_dst)
            return;
        if (key->ip_frag[0] && chain.complete && payload - chain.offset >= least)
            p = ip + 40 + chain.offset;
    } else if (key->ip_frag[0]) {
        uint32_t hlen = (ip[0] & 15) * 4u;
        if (oko_be16(ip + 2) - hlen >= least)
            p = ip + hlen;
    }
    if (!p)
        return;
    switch (key->ip_proto[0]) {
    case OKO_IP_PROTO_TCP:
        cover_add(cover, p + TCP_CSUM, false);
        break;
    case OKO_IP_PROTO_UDP:
        cover_add(cover, p + UDP_CSUM, true);
        break;
    case OKO_IP_PROTO_ICMPV6:
        if (v6)
            cover_add(cover, p + ICMP_CSUM, false);
        break;
    default:
        break;
    }
}

static void write_ipv4(struct oko_pkt *pkt, const struct oko_key *key, uint32_t at,
                       const uint8_t *bytes, uint32_t n, bool address)
{
    uint8_t *ip = pkt->data + pkt->l3;
    struct cover cover = {.n = 0};
    cover_add(&cover, ip + IPV4_CSUM, false);
    if (address)
        cover_transport(pkt, key, &cover, false);
    write_covered(&cover, ip, ip + at, bytes, n);
}

static void write_ipv6_address(struct oko_pkt *pkt, const struct oko_key *key, uint32_t at,
                               const uint8_t *bytes)
{
    uint8_t *ip = pkt->data + pkt->l3;
    struct cover cover = {.n = 0};
    cover_transport(pkt, key, &cover, at == 24);
    write_covered(&cover, ip, ip + at, bytes, 16);
}

/* Writes inside the transport header; SCTP's checksum is no sum and has its own way. */
static void write_transport(struct oko_pkt *pkt, const struct oko_key *key, uint32_t at,
                            const uint8_t *bytes, uint32_t n)
{
    uint8_t *p = pkt->data + pkt->l4;
    struct cover cover = {.n = 0};

    switch (key->ip_proto[0]) {
    case OKO_IP_PROTO_SCTP: {
        const uint8_t *ip = pkt->data + pkt->l3;
        uint32_t end = is_ipv4(key) ? pkt->l3 + oko_be16(ip + 2) : pkt->l3 + 40u + oko_be16(ip + 4);
        uint32_t crc, before = oko_sctp_crc(p, end - pkt->l4);
        memcpy(p + at, bytes, n);
        memcpy(&crc, p + SCTP_CSUM, 4);
        crc ^= before ^ oko_sctp_crc(p, end - pkt->l4);
        memcpy(p + SCTP_CSUM, &crc, 4);
        return;
    }
    case OKO_IP_PROTO_TCP:
        cover_add(&cover, p + TCP_CSUM, false);
        break;
    case OKO_IP_PROTO_UDP:
        cover_add(&cover, p + UDP_CSUM, true);
        break;
    default: /* ICMP, ICMPv6 */
        cover_add(&cover, p + ICMP_CSUM, false);
        break;
    }
    write_covered(&cover, p, p + at, bytes, n);
    if (key->ip_proto[0] == OKO_IP_PROTO_ICMP && is_ipv4(key) && !oko_be16(p + ICMP_CSUM)) {
        /* The one message whose sum can be a plain zero is all zeroes, and then the checksum is
         * 0xffff: the incremental update cannot tell this zero from the other (RFC 1624, 3). */
        const uint8_t *ip = pkt->data + pkt->l3;
        if (!oko_sum(p, pkt->l3 + (uint32_t)oko_be16(ip + 2) - pkt->l4))
            oko_put_be16(p + ICMP_CSUM, 0xffff);
    }
}

/* ---------------------------------------------------------------- the fields, by layer */

static bool set_link(struct oko_pkt *pkt, struct oko_key *key, uint32_t field, const uint8_t *v)
{
    struct oko_l2 l2;
    uint8_t *data = pkt->data;

    if (!oko_l2_walk(data, pkt->len, &l2))
        return false;
    switch (field) {
    case OKO_FIELD_ETH_DST:
        memcpy(data, v, 6);
        return true;
    case OKO_FIELD_ETH_SRC:
        memcpy(data + 6, v, 6);
        return true;
    case OKO_FIELD_VLAN_VID: /* the present bit cannot be written */
        if (!l2.n_vlans)
            return false;
        data[14] = (uint8_t)((data[14] & 0xf0) | (v[0] & 0x0f));
        data[15] = v[1];
        oko_put_be16(key->vlan_vid, OKO_VLAN_PRESENT | (oko_be16(v) & 0xfff));
        return false;
    case OKO_FIELD_VLAN_PCP:
        if (!l2.n_vlans)
            return false;
        data[14] = (uint8_t)((data[14] & 0x1f) | v[0] << 5);
        return true;
    case OKO_FIELD_PBB_ISID:
    case OKO_FIELD_PBB_UCA: {
        uint8_t *tci = data + l2.payload;
        if (l2.eth_type != OKO_ETH_TYPE_PBB || pkt->len - l2.payload < 4)
            return false;
        if (field == OKO_FIELD_PBB_ISID)
            memcpy(tci + 1, v, 3);
        else
            tci[0] = (uint8_t)((tci[0] & 0xf7) | v[0] << 3);
        return true;
    }
    default: { /* MPLS label, TC, TTL */
        if (pkt->l2_5 == OKO_NO_LAYER)
            return false;
        uint8_t *p = data + pkt->l2_5;
        uint32_t lse = oko_be32(p);
        if (field == OKO_FIELD_MPLS_LABEL)
            lse =
                (lse & 0xfff) | (uint32_t)v[0] << 28 | (uint32_t)v[1] << 20 | (uint32_t)v[2] << 12;
        else if (field == OKO_FIELD_MPLS_TC)
            lse = (lse & ~0xe00u) | (uint32_t)v[0] << 9;
        else
            lse = (lse & ~0xffu) | v[0];
        oko_put_be32(p, lse);
        return true;
    }
    }
}

static bool set_network(struct oko_pkt *pkt, struct oko_key *key, uint32_t field, const uint8_t *v)
{
    if (pkt->l3 == OKO_NO_LAYER)
        return false;
    uint8_t *p = pkt->data + pkt->l3;

    switch (field) {
    case OKO_FIELD_IP_DSCP:
    case OKO_FIELD_IP_ECN: {
        uint8_t tos = (uint8_t)(field == OKO_FIELD_IP_DSCP ? v[0] << 2 | key->ip_ecn[0]
                                                           : key->ip_dscp[0] << 2 | v[0]);
        if (is_ipv4(key))
            write_ipv4(pkt, key, 1, &tos, 1, false);
        else
            oko_put_be32(p, (oko_be32(p) & 0xf00fffff) | (uint32_t)tos << 20);
        return true;
    }
    case OKO_FIELD_IP_TTL:
        if (is_ipv4(key))
            write_ipv4(pkt, key, 8, v, 1, false);
        else
            p[7] = v[0];
        return true;
    case OKO_FIELD_IPV4_SRC:
        write_ipv4(pkt, key, 12, v, 4, true);
        return true;
    case OKO_FIELD_IPV4_DST:
        write_ipv4(pkt, key, 16, v, 4, true);
        return true;
    case OKO_FIELD_IPV6_SRC:
        write_ipv6_address(pkt, key, 8, v);
        return true;
    case OKO_FIELD_IPV6_DST:
        write_ipv6_address(pkt, key, 24, v);
        return true;
    case OKO_FIELD_IPV6_LABEL:
        p[1] = (uint8_t)((p[1] & 0xf0) | (v[0] & 0x0f));
        memcpy(p + 2, v + 1, 2);
        return true;
    case OKO_FIELD_ARP_OP:
        memcpy(p + 6, v, 2);
        return true;
    case OKO_FIELD_ARP_SHA:
        memcpy(p + 8, v, 6);
        return true;
    case OKO_FIELD_ARP_SPA:
        memcpy(p + 14, v, 4);
        return true;
    case OKO_FIELD_ARP_THA:
        memcpy(p + 18, v, 6);
        return true;
    case OKO_FIELD_ARP_TPA:
        memcpy(p + 24, v, 4);
        return true;
    default:
        return false;
    }
}

static bool set_transport(struct oko_pkt *pkt, struct oko_key *key, uint32_t field,
                          const uint8_t *v)
{
    if (pkt->l4 == OKO_NO_LAYER)
        return false;

    switch (field) {
    case OKO_FIELD_TCP_SRC:
    case OKO_FIELD_UDP_SRC:
    case OKO_FIELD_SCTP_SRC:
        write_transport(pkt, key, 0, v, 2);
        return true;
    case OKO_FIELD_TCP_DST:
    case OKO_FIELD_UDP_DST:
    case OKO_FIELD_SCTP_DST:
        write_transport(pkt, key, 2, v, 2);
        return true;
    case OKO_FIELD_ICMP_TYPE:
        write_transport(pkt, key, 0, v, 1);
        return true;
    case OKO_FIELD_ICMP_CODE:
        write_transport(pkt, key, 1, v, 1);
        return true;
    case OKO_FIELD_ICMPV6_TYPE:
    case OKO_FIELD_ICMPV6_CODE: /* decides whether there is neighbour discovery */
        write_transport(pkt, key, field == OKO_FIELD_ICMPV6_CODE, v, 1);
        oko_reparse(pkt, key);
        return false;
    default: { /* neighbour discovery */
        struct oko_nd nd;
        const uint8_t *ip = pkt->data + pkt->l3;
        uint32_t left = pkt->l3 + 40u + oko_be16(ip + 4) - pkt->l4;
        if (!oko_nd_walk(pkt->data + pkt->l4, left, &nd))
            return false;
        uint32_t at = field == OKO_FIELD_ND_TARGET ? nd.target
                      : field == OKO_FIELD_ND_SLL  ? nd.sll
                                                   : nd.tll;
        if (at)
            write_transport(pkt, key, at, v, field == OKO_FIELD_ND_TARGET ? 16 : 6);
        return at != 0;
    }
    }
}

int oko_edit_set_field(struct oko_pkt *pkt, struct oko_key *key, uint32_t field,
                       const uint8_t value[16], const uint8_t mask[16])
{
    const struct oko_field *f = oko_field(field);
    if (!f)
        return OKO_E_INVAL;

    /* 1. Structure is not a value. */
    switch (field) {
    case OKO_FIELD_IN_PHY_PORT:
    case OKO_FIELD_ETH_TYPE:
    case OKO_FIELD_MPLS_BOS:
    case OKO_FIELD_IP_PROTO:
    case OKO_FIELD_IP_FRAG:
    case OKO_FIELD_IPV6_EXTHDR:
    case OKO_FIELD_TCP_FLAGS:
        return OKO_E_UNSUP;
    default:
        break;
    }
    if (!has_field(key, field))
        return 0;

    /* 2. The new value. */
    uint8_t *in_key = (uint8_t *)key + f->offset;
    uint8_t v[16];
    for (uint32_t i = 0; i < f->size; i++) {
        v[i] = (uint8_t)((in_key[i] & ~mask[i]) | (value[i] & mask[i]));
    }
    if (f->bits % 8)
        v[0] &= (uint8_t)((1u << f->bits % 8) - 1);

    /* 3. Into the frame; into the key, unless that has happened or there is no such header. */
    bool in_frame = true;
    if (field >= OKO_FIELD_ETH_DST && field < OKO_FIELD_IP_PROTO)
        in_frame = set_link(pkt, key, field, v);
    else if (field >= OKO_FIELD_IP_PROTO && field < OKO_FIELD_TCP_SRC)
        in_frame = set_network(pkt, key, field, v);
    else if (field >= OKO_FIELD_TCP_SRC)
        in_frame = set_transport(pkt, key, field, v);
    if (in_frame)
        memcpy(in_key, v, f->size);
    return 0;
}

/* ---------------------------------------------------------------- bits */

static bool get_bit(const uint8_t *number, uint32_t size, uint32_t bit)
{
    return number[size - 1 - bit / 8] >> bit % 8 & 1;
}

static void set_bit(uint8_t number[16], uint32_t bit)
{
    number[15 - bit / 8] |= (uint8_t)(1u << bit % 8);
}

void oko_key_get_bits(const struct oko_key *key, uint32_t field, uint32_t ofs, uint32_t n_bits,
                      uint8_t out[16])
{
    const struct oko_field *f = oko_field(field);

    memset(out, 0, 16);
    if (!f || !has_field(key, field))
        return;
    const uint8_t *from = (const uint8_t *)key + f->offset;
    if (ofs == 0 && n_bits == f->bits) { /* the whole field, by far the usual case */
        memcpy(out + 16 - f->size, from, f->size);
        return;
    }
    for (uint32_t i = 0; i < n_bits && ofs + i < f->bits && i < 128; i++)
        if (get_bit(from, f->size, ofs + i))
            set_bit(out, i);
}

int oko_edit_move(struct oko_pkt *pkt, struct oko_key *key, uint32_t n_bits, uint32_t src_field,
                  uint32_t src_ofs, uint32_t dst_field, uint32_t dst_ofs)
{
    const struct oko_field *src = oko_field(src_field), *dst = oko_field(dst_field);
    uint8_t bits[16], value[16] = {0}, mask[16] = {0};

    if (!src || !dst || !n_bits || src_ofs >= src->bits || n_bits > src->bits - src_ofs ||
        dst_ofs >= dst->bits || n_bits > dst->bits - dst_ofs)
        return OKO_E_INVAL;
    oko_key_get_bits(key, src_field, src_ofs, n_bits, bits);
    for (uint32_t i = 0; i < n_bits; i++) {
        set_bit(mask, dst_ofs + i);
        if (get_bit(bits, 16, i))
            set_bit(value, dst_ofs + i);
    }
    memmove(value, value + 16 - dst->size, dst->size);
    memmove(mask, mask + 16 - dst->size, dst->size);
    return oko_edit_set_field(pkt, key, dst_field, value, mask);
}
