/* The parser: one pass from the first byte inward, each step bounded by `left`.
 *
 * Idea. A cursor (p, left) moves over the frame. A step states how many bytes it needs, compares
 * that with left, and only then reads: p[0..need). Lengths that a header claims (IPv4 total length,
 * IPv6 payload length, TCP data offset) are compared with left before the cursor believes them, and
 * then left shrinks to what the header owns, so that padding is never taken for payload. All
 * arithmetic is on 32-bit offsets of a frame of at most 65,535 bytes: nothing overflows.
 *
 * Fails safely: a step whose need is not met ends the pass; the fields that it would have filled
 * are zero from the start. parse.h lists what that means per protocol. Checksums are not verified,
 * as in any switch.
 *
 * Not parsed, on purpose: anything below MPLS and PBB, tunnels (a later pass does that after
 * decapsulation), IPv6 jumbograms. */
#include "parse.h"

#include "base/be.h"

enum {
    ETH_ADDRS = 12,
    LLC_SNAP_LEN = 8,
    PBB_TCI_LEN = 4,
    MPLS_LEN = 4,
    ARP_LEN = 28,
    IPV4_MIN = 20,
    IPV6_LEN = 40,
    TCP_MIN = 20,
    UDP_LEN = 8,
    SCTP_LEN = 12,
    ICMP_LEN = 8
};

/* ---------------------------------------------------------------- link layer */

static bool is_vlan(uint16_t type)
{
    return type == OKO_ETH_TYPE_VLAN || type == OKO_ETH_TYPE_QINQ;
}

bool oko_l2_walk(const uint8_t *data, uint32_t len, struct oko_l2 *l2)
{
    static const uint8_t snap_of_ethernet[6] = {0xaa, 0xaa, 0x03, 0, 0, 0};

    if (len < OKO_ETH_HLEN)
        return false;
    uint32_t at = ETH_ADDRS; /* of a type; the loop keeps at + 2 <= len */
    uint16_t type = oko_be16(data + at);
    uint8_t n = 0;
    while (n < 2 && is_vlan(type) && len - at >= 6) {
        at += 4;
        type = oko_be16(data + at);
        n++;
    }
    l2->n_vlans = n;
    l2->type = at;
    l2->payload = at + 2;
    l2->eth_type = type;
    l2->snap = false;
    if (type < OKO_ETH_TYPE_MIN) { /* an 802.3 length */
        l2->eth_type = OKO_ETH_TYPE_NONE;
        const uint8_t *llc = data + at + 2;
        if (len - at - 2 >= LLC_SNAP_LEN && !memcmp(llc, snap_of_ethernet, 6) &&
            oko_be16(llc + 6) >= OKO_ETH_TYPE_MIN) {
            l2->snap = true;
            l2->type = at + 8;
            l2->payload = at + 10;
            l2->eth_type = oko_be16(llc + 6);
        }
    }
    return true;
}

static void parse_mpls(const uint8_t *p, struct oko_key *key)
{
    uint32_t lse = oko_be32(p); /* RFC 3032: label 20, TC 3, S 1, TTL 8 */
    oko_put_be32(key->mpls_label, lse >> 12);
    key->mpls_tc[0] = lse >> 9 & 7;
    key->mpls_bos[0] = lse >> 8 & 1;
    key->mpls_ttl[0] = (uint8_t)lse;
}

static void parse_pbb(const uint8_t *p, struct oko_key *key)
{
    uint32_t tci = oko_be32(p); /* IEEE 802.1ah: PCP 3, DEI 1, UCA 1, reserved 3, I-SID 24 */
    key->pbb_uca[0] = tci >> 27 & 1;
    oko_put_be32(key->pbb_isid, tci & 0xffffff);
}

/* ---------------------------------------------------------------- upper layers */

bool oko_nd_walk(const uint8_t *icmp, uint32_t left, struct oko_nd *nd)
{
    *nd = (struct oko_nd){0};
    if (left < ICMP_LEN + 16 || (icmp[0] != 135 && icmp[0] != 136) || icmp[1] != 0)
        return false;
    nd->target = ICMP_LEN;

    /* RFC 4861, 4.6: type, length in units of 8 bytes. As Open vSwitch, an address of zeroes does
     * not count as seen, and a list that breaks off keeps what came before. */
    static const uint8_t zero[6];
    uint32_t at = ICMP_LEN + 16;
    while (left - at >= 8) {
        uint32_t size = 8u * icmp[at + 1];
        if (size == 0 || size > left - at)
            break;
        uint8_t type = icmp[at];
        if (size == 8 && (type == 1 || type == 2)) {
            uint32_t *slot = type == 1 ? &nd->sll : &nd->tll;
            if (*slot && memcmp(icmp + *slot, zero, 6) != 0) {
                *nd = (struct oko_nd){0};
                return false;
            }
            *slot = at + 2;
        }
        at += size;
    }
    return true;
}

/* Fills the L4 fields; p[0..left) is what the IP header says is its payload, and no fragment. */
static void parse_l4(struct oko_pkt *pkt, uint8_t proto, bool v6, const uint8_t *p, uint32_t left,
                     struct oko_key *key)
{
    uint16_t offset = (uint16_t)(p - pkt->data);

    switch (proto) {
    case OKO_IP_PROTO_TCP: {
        if (left < TCP_MIN)
            return;
        uint32_t hlen = (p[12] >> 4) * 4u;
        if (hlen < TCP_MIN || hlen > left)
            return;
        memcpy(key->tp_src, p, 2);
        memcpy(key->tp_dst, p + 2, 2);
        key->tcp_flags[0] = p[12] & 0x0f;
        key->tcp_flags[1] = p[13];
        break;
    }
    case OKO_IP_PROTO_UDP:
        if (left < UDP_LEN)
            return;
        memcpy(key->tp_src, p, 2);
        memcpy(key->tp_dst, p + 2, 2);
        break;
    case OKO_IP_PROTO_SCTP:
        if (left < SCTP_LEN)
            return;
        memcpy(key->tp_src, p, 2);
        memcpy(key->tp_dst, p + 2, 2);
        break;
    case OKO_IP_PROTO_ICMP:
    case OKO_IP_PROTO_ICMPV6:
        if (v6 != (proto == OKO_IP_PROTO_ICMPV6) || left < ICMP_LEN)
            return;
        key->icmp_type[0] = p[0];
        key->icmp_code[0] = p[1];
        struct oko_nd nd;
        if (v6 && oko_nd_walk(p, left, &nd)) {
            memcpy(key->nd_target, p + nd.target, 16);
            if (nd.sll)
                memcpy(key->arp_sha, p + nd.sll, 6);
            if (nd.tll)
                memcpy(key->arp_tha, p + nd.tll, 6);
        }
        break;
    default:
        return;
    }
    pkt->l4 = offset;
}

static void parse_ipv4(struct oko_pkt *pkt, enum oko_layers layers, const uint8_t *p, uint32_t left,
                       struct oko_key *key)
{
    if (left < IPV4_MIN)
        return;
    uint32_t hlen = (p[0] & 15) * 4u;
    uint32_t total = oko_be16(p + 2);
    if (hlen < IPV4_MIN || hlen > total || total > left)
        return;

    pkt->l3 = (uint16_t)(p - pkt->data);
    memcpy(key->ipv4_src, p + 12, 4);
    memcpy(key->ipv4_dst, p + 16, 4);
    key->ip_dscp[0] = p[1] >> 2;
    key->ip_ecn[0] = p[1] & 3;
    key->ip_ttl[0] = p[8];
    key->ip_proto[0] = p[9];
    uint32_t frag = oko_be16(p + 6);
    if (frag & 0x3fff) { /* more fragments, or an offset */
        key->ip_frag[0] = frag & 0x1fff ? OKO_FRAG_ANY | OKO_FRAG_LATER : OKO_FRAG_ANY;
        return;
    }
    if (layers >= OKO_LAYER_L4)
        parse_l4(pkt, p[9], false, p + hlen, total - hlen, key);
}

/* The header order that RFC 8200, 4.1 recommends. Destination options come first or last. */
enum ext_rank {
    RANK_NONE,
    RANK_HOP,
    RANK_DEST,
    RANK_ROUTER,
    RANK_FRAG,
    RANK_AUTH,
    RANK_ESP,
    RANK_FINAL_DEST
};

/* Notes one more extension header: its bit, and whether it comes twice or out of order. */
static void note_ext(struct oko_ipv6_chain *chain, enum ext_rank *last, uint16_t bit,
                     enum ext_rank rank)
{
    if (bit == OKO_IEH_DEST && *last >= RANK_DEST)
        rank = RANK_FINAL_DEST;
    /* Two headers of destination options are expected: one in each place. */
    if (bit == OKO_IEH_DEST ? *last == RANK_FINAL_DEST : (chain->exthdr & bit) != 0)
        chain->exthdr |= OKO_IEH_UNREP;
    if (rank < *last)
        chain->exthdr |= OKO_IEH_UNSEQ;
    else
        *last = rank;
    chain->exthdr |= bit;
}

static inline void ipv6_walk(uint8_t next, const uint8_t *p, uint32_t left,
                             struct oko_ipv6_chain *chain)
{
    enum ext_rank last = RANK_NONE;
    uint32_t at = 0; /* <= left */

    *chain = (struct oko_ipv6_chain){0};
    for (;;) {
        uint32_t size;
        uint16_t bit;
        enum ext_rank rank;

        chain->proto = next;
        chain->offset = at;
        switch (next) {
        case 0:
            bit = OKO_IEH_HOP, rank = RANK_HOP;
            break;
        case 43:
            bit = OKO_IEH_ROUTER, rank = RANK_ROUTER;
            break;
        case 44:
            bit = OKO_IEH_FRAG, rank = RANK_FRAG;
            break;
        case 51:
            bit = OKO_IEH_AUTH, rank = RANK_AUTH;
            break;
        case 60:
            bit = OKO_IEH_DEST, rank = RANK_DEST;
            break;
        case 50: /* encrypted from here on: ends the walk, but counts if it is really there */
            if (left - at >= 8)
                note_ext(chain, &last, OKO_IEH_ESP, RANK_ESP);
            chain->complete = true;
            return;
        case 59:
            chain->exthdr |= OKO_IEH_NONEXT;
            chain->complete = true;
            return;
        default:
            chain->complete = true;
            return;
        }
        if (left - at < 8)
            return;
        const uint8_t *h = p + at;
        size = next == 51 ? (h[1] + 2u) * 4 : next == 44 ? 8 : (h[1] + 1u) * 8;
        if (size > left - at)
            return;
        note_ext(chain, &last, bit, rank);
        if (next == 43 && h[3] > 0)
            chain->routing_active = true;
        if (next == 44) {
            uint32_t field = oko_be16(h + 2); /* offset 13, reserved 2 (ignored), more 1 */
            if (field & 0xfff9)
                chain->frag = OKO_FRAG_ANY;
            if (field & 0xfff8) {
                chain->frag = OKO_FRAG_ANY | OKO_FRAG_LATER;
                return;
            }
        }
        next = h[0];
        at += size;
    }
}

void oko_ipv6_walk(uint8_t next, const uint8_t *p, uint32_t left, struct oko_ipv6_chain *chain)
{
    ipv6_walk(next, p, left, chain);
}

static void parse_ipv6(struct oko_pkt *pkt, enum oko_layers layers, const uint8_t *p, uint32_t left,
                       struct oko_key *key)
{
    if (left < IPV6_LEN)
        return;
    uint32_t payload = oko_be16(p + 4);
    if (payload > left - IPV6_LEN)
        return;

    pkt->l3 = (uint16_t)(p - pkt->data);
    uint32_t word = oko_be32(p); /* version 4, traffic class 8, flow label 20 */
    key->ip_dscp[0] = word >> 22 & 0x3f;
    key->ip_ecn[0] = word >> 20 & 3;
    oko_put_be32(key->ipv6_label, word & 0xfffff);
    key->ip_ttl[0] = p[7];
    memcpy(key->ipv6_src, p + 8, 16);
    memcpy(key->ipv6_dst, p + 24, 16);

    struct oko_ipv6_chain chain;
    ipv6_walk(p[6], p + IPV6_LEN, payload, &chain);
    key->ip_proto[0] = chain.proto;
    key->ip_frag[0] = chain.frag;
    oko_put_be16(key->ipv6_exthdr, chain.exthdr);
    if (layers >= OKO_LAYER_L4 && chain.complete && !chain.frag)
        parse_l4(pkt, chain.proto, true, p + IPV6_LEN + chain.offset, payload - chain.offset, key);
}

static void parse_arp(struct oko_pkt *pkt, const uint8_t *p, uint32_t left, struct oko_key *key)
{
    static const uint8_t ethernet_ipv4[6] = {0, 1, 8, 0, 6, 4}; /* RFC 826: hrd, pro, hln, pln */

    if (left < ARP_LEN || memcmp(p, ethernet_ipv4, 6) != 0)
        return;
    pkt->l3 = (uint16_t)(p - pkt->data);
    memcpy(key->arp_op, p + 6, 2);
    memcpy(key->arp_sha, p + 8, 6);
    memcpy(key->ipv4_src, p + 14, 4);
    memcpy(key->arp_tha, p + 18, 6);
    memcpy(key->ipv4_dst, p + 24, 4);
}

/* ---------------------------------------------------------------- the whole frame */

/* Fills the packet fields of key, which are zero, and pkt's offsets. */
static void parse_frame(struct oko_pkt *pkt, enum oko_layers layers, struct oko_key *key)
{
    const uint8_t *data = pkt->data;
    struct oko_l2 l2;

    pkt->n_vlans = 0;
    pkt->l2_5 = pkt->l3 = pkt->l4 = OKO_NO_LAYER;
    if (layers < OKO_LAYER_L2 || !oko_l2_walk(data, pkt->len, &l2))
        return;

    /* 1. Link layer. */
    memcpy(key->eth_dst, data, 6);
    memcpy(key->eth_src, data + 6, 6);
    oko_put_be16(key->eth_type, l2.eth_type);
    pkt->n_vlans = l2.n_vlans;
    if (l2.n_vlans) {
        uint16_t tci = oko_be16(data + OKO_ETH_HLEN); /* PCP 3, DEI 1, VID 12 */
        key->vlan_pcp[0] = (uint8_t)(tci >> 13);
        oko_put_be16(key->vlan_vid, OKO_VLAN_PRESENT | (tci & 0xfff));
    }

    /* 2. What the type names. */
    const uint8_t *p = data + l2.payload;
    uint32_t left = pkt->len - l2.payload;
    switch (l2.eth_type) {
    case OKO_ETH_TYPE_IPV4:
        if (layers >= OKO_LAYER_L3)
            parse_ipv4(pkt, layers, p, left, key);
        break;
    case OKO_ETH_TYPE_IPV6:
        if (layers >= OKO_LAYER_L3)
            parse_ipv6(pkt, layers, p, left, key);
        break;
    case OKO_ETH_TYPE_ARP:
    case OKO_ETH_TYPE_RARP:
        if (layers >= OKO_LAYER_L3)
            parse_arp(pkt, p, left, key);
        break;
    case OKO_ETH_TYPE_MPLS:
    case OKO_ETH_TYPE_MPLS_MC:
        if (left >= MPLS_LEN) {
            pkt->l2_5 = (uint16_t)l2.payload;
            parse_mpls(p, key);
        }
        break;
    case OKO_ETH_TYPE_PBB:
        if (left >= PBB_TCI_LEN)
            parse_pbb(p, key);
        break;
    default:
        break;
    }
}

/* Zeroes n bytes. In pieces, each of which becomes a few vector stores: as one
 * call it may become `rep stos`, which takes longer than the whole parse. */
static inline void clear(uint8_t *p, size_t n)
{
    for (; n >= 32; p += 32, n -= 32) {
        memset(p, 0, 32);
        __asm__("" : "+r"(p)); /* or the pieces are put together again */
    }
    for (; n >= 8; p += 8, n -= 8)
        memset(p, 0, 8);
    memset(p, 0, n);
}

void oko_parse(struct oko_pkt *pkt, enum oko_layers layers, struct oko_key *key)
{
    oko_key_clear(key);
    oko_put_be32(key->in_port, pkt->in_port);
    oko_put_be32(key->in_phy_port, pkt->in_port); /* no port here stands on another one */
    oko_put_be64(key->tun_id, pkt->meta.tun_id);
    parse_frame(pkt, layers, key);
}

/* in_port comes first, then the members that come from the frame. */
enum { AFTER_FRAME = offsetof(struct oko_key, in_phy_port) };
_Static_assert(offsetof(struct oko_key, in_port) == 0, "the only one of them to be kept");

void oko_reparse(struct oko_pkt *pkt, struct oko_key *key)
{
    uint32_t in_port = oko_be32(key->in_port);
    clear((uint8_t *)key, AFTER_FRAME);
    oko_put_be32(key->in_port, in_port);
    parse_frame(pkt, OKO_LAYER_L4, key);
}

/* How deep the parser must go to fill a field; members that two layers share count as the deeper.
 */
static enum oko_layers layer_of(uint32_t field)
{
    switch (field) {
    case OKO_FIELD_ETH_DST:
    case OKO_FIELD_ETH_SRC:
    case OKO_FIELD_ETH_TYPE:
    case OKO_FIELD_VLAN_VID:
    case OKO_FIELD_VLAN_PCP:
    case OKO_FIELD_MPLS_LABEL:
    case OKO_FIELD_MPLS_TC:
    case OKO_FIELD_MPLS_BOS:
    case OKO_FIELD_MPLS_TTL:
    case OKO_FIELD_PBB_ISID:
    case OKO_FIELD_PBB_UCA:
        return OKO_LAYER_L2;
    case OKO_FIELD_IP_PROTO:
    case OKO_FIELD_IP_DSCP:
    case OKO_FIELD_IP_ECN:
    case OKO_FIELD_IP_TTL:
    case OKO_FIELD_IP_FRAG:
    case OKO_FIELD_IPV4_SRC:
    case OKO_FIELD_IPV4_DST:
    case OKO_FIELD_ARP_OP:
    case OKO_FIELD_ARP_SPA:
    case OKO_FIELD_ARP_TPA:
    case OKO_FIELD_IPV6_SRC:
    case OKO_FIELD_IPV6_DST:
    case OKO_FIELD_IPV6_LABEL:
    case OKO_FIELD_IPV6_EXTHDR:
        return OKO_LAYER_L3;
    default:
        return field < OKO_FIELD_ETH_DST ? OKO_LAYER_PORT : OKO_LAYER_L4;
    }
}

enum oko_layers oko_layers_of(const struct oko_key *mask)
{
    enum oko_layers deepest = OKO_LAYER_PORT;

    for (uint32_t id = 0; id < OKO_N_FIELDS; id++) {
        const struct oko_field *field = oko_field(id);
        enum oko_layers layer = layer_of(id);
        if (layer <= deepest)
            continue;
        const uint8_t *bytes = (const uint8_t *)mask + field->offset;
        for (uint32_t i = 0; i < field->size; i++)
            if (bytes[i])
                deepest = layer;
    }
    return deepest;
}
