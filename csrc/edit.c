/* Push, pop and TTLs: edits that change the structure of a frame or walk several of its headers.
 *
 * Idea. Room is made and closed at the front: what precedes the place moves into the headroom or
 * out of it, so a push costs a few bytes of copying whatever the frame's size. Then the frame is
 * parsed again; only the two hot edits, one VLAN tag on or off, adjust key and offsets directly. */
#include "edit.h"

#include "base/be.h"
#include "checksum.h"

enum { VLAN_LEN = 4, MPLS_LEN = 4, PBB_LEN = 18, MPLS_BOS = 0x100 };

/* ---------------------------------------------------------------- room */

/* Opens a gap of n bytes at offset `at`. */
static int open_gap(struct oko_pkt *pkt, uint32_t at, uint32_t n)
{
    if ((size_t)(pkt->data - pkt->buffer) < n || pkt->len + n > OKO_FRAME_MAX)
        return OKO_E_LIMIT;
    pkt->data -= n;
    pkt->len += n;
    memmove(pkt->data, pkt->data + n, at);
    return 0;
}

static void close_gap(struct oko_pkt *pkt, uint32_t at, uint32_t n)
{
    memmove(pkt->data + n, pkt->data, at);
    pkt->data += n;
    pkt->len -= n;
}

static void shift_layers(struct oko_pkt *pkt, int n)
{
    if (pkt->l2_5 != OKO_NO_LAYER)
        pkt->l2_5 = (uint16_t)(pkt->l2_5 + n);
    if (pkt->l3 != OKO_NO_LAYER)
        pkt->l3 = (uint16_t)(pkt->l3 + n);
    if (pkt->l4 != OKO_NO_LAYER)
        pkt->l4 = (uint16_t)(pkt->l4 + n);
}

/* A SNAP frame's length field counts what follows it: keep it right when that grows by n. */
static void adjust_length(struct oko_pkt *pkt, const struct oko_l2 *l2, int n)
{
    if (!l2->snap)
        return;
    uint8_t *field = pkt->data + l2->payload - 10;
    int length = oko_be16(field) + n;
    if (length >= 0 && length < OKO_ETH_TYPE_MIN)
        oko_put_be16(field, (uint16_t)length);
}

/* ---------------------------------------------------------------- VLAN */

int oko_edit_push_vlan(struct oko_pkt *pkt, struct oko_key *key, uint16_t tpid)
{
    if (tpid != OKO_ETH_TYPE_VLAN && tpid != OKO_ETH_TYPE_QINQ)
        return OKO_E_INVAL;
    if (pkt->len < OKO_ETH_HLEN)
        return 0;
    int err = open_gap(pkt, 12, VLAN_LEN);
    if (err)
        return err;
    oko_put_be16(pkt->data + 12, tpid);
    oko_put_be16(pkt->data + 14, 0); /* as Open vSwitch: VID and PCP start from 0 */
    if (pkt->n_vlans == 2) {
        oko_reparse(pkt, key); /* the inner tag is now out of sight */
        return 0;
    }
    pkt->n_vlans++;
    shift_layers(pkt, VLAN_LEN);
    oko_put_be16(key->vlan_vid, OKO_VLAN_PRESENT);
    key->vlan_pcp[0] = 0;
    return 0;
}

int oko_edit_pop_vlan(struct oko_pkt *pkt, struct oko_key *key)
{
    if (!pkt->n_vlans)
        return 0;
    close_gap(pkt, 12, VLAN_LEN);
    if (pkt->n_vlans == 2) {
        oko_reparse(pkt, key); /* the inner tag comes into sight, maybe a third one too */
        return 0;
    }
    pkt->n_vlans = 0;
    shift_layers(pkt, -VLAN_LEN);
    oko_put_be16(key->vlan_vid, 0);
    key->vlan_pcp[0] = 0;
    return 0;
}

/* ---------------------------------------------------------------- MPLS */

static bool is_ip(const struct oko_pkt *pkt, const struct oko_key *key)
{
    uint16_t type = oko_be16(key->eth_type);
    return pkt->l3 != OKO_NO_LAYER && (type == OKO_ETH_TYPE_IPV4 || type == OKO_ETH_TYPE_IPV6);
}

int oko_edit_push_mpls(struct oko_pkt *pkt, struct oko_key *key, uint16_t eth_type)
{
    struct oko_l2 l2;
    uint32_t lse;

    if (eth_type != OKO_ETH_TYPE_MPLS && eth_type != OKO_ETH_TYPE_MPLS_MC)
        return OKO_E_INVAL;
    if (!oko_l2_walk(pkt->data, pkt->len, &l2))
        return 0;
    if (pkt->l2_5 != OKO_NO_LAYER) { /* a copy of the label below, not bottom of stack */
        lse = oko_be32(pkt->data + pkt->l2_5) & ~(uint32_t)MPLS_BOS;
    } else if (is_ip(pkt, key)) {
        /* As Open vSwitch: explicit null (RFC 3032, 2.1), the low bits of the DSCP as TC. */
        uint32_t label = l2.eth_type == OKO_ETH_TYPE_IPV6 ? 2 : 0;
        lse = label << 12 | (key->ip_dscp[0] & 7u) << 9 | MPLS_BOS | key->ip_ttl[0];
    } else {
        lse = MPLS_BOS | 64;
    }
    int err = open_gap(pkt, l2.payload, MPLS_LEN);
    if (err)
        return err;
    oko_put_be32(pkt->data + l2.payload, lse);
    oko_put_be16(pkt->data + l2.type, eth_type);
    adjust_length(pkt, &l2, MPLS_LEN);
    oko_reparse(pkt, key);
    return 0;
}

int oko_edit_pop_mpls(struct oko_pkt *pkt, struct oko_key *key, uint16_t eth_type)
{
    struct oko_l2 l2;

    if (pkt->l2_5 == OKO_NO_LAYER || !oko_l2_walk(pkt->data, pkt->len, &l2))
        return 0;
    close_gap(pkt, l2.payload, MPLS_LEN);
    oko_put_be16(pkt->data + l2.type, eth_type);
    adjust_length(pkt, &l2, -MPLS_LEN);
    oko_reparse(pkt, key);
    return 0;
}

/* ---------------------------------------------------------------- PBB */

/* IEEE 802.1ah: the customer's addresses are copied behind the service tag; those in front become
 * the backbone's. Customer VLAN tags stay inside. (OpenFlow 1.3, 5.12 and table 6: the I-SID of a
 * tag that is there already, the priority of the VLAN tag.) */
int oko_edit_push_pbb(struct oko_pkt *pkt, struct oko_key *key, uint16_t eth_type)
{
    if (eth_type != OKO_ETH_TYPE_PBB)
        return OKO_E_INVAL;
    if (pkt->len < OKO_ETH_HLEN)
        return 0;
    int err = open_gap(pkt, 12, PBB_LEN);
    if (err)
        return err;
    uint8_t *tag = pkt->data + 12;
    oko_put_be16(tag, eth_type);
    oko_put_be32(tag + 2, (uint32_t)key->vlan_pcp[0] << 29 | oko_be32(key->pbb_isid));
    memcpy(tag + 6, pkt->data, 12);
    oko_reparse(pkt, key);
    return 0;
}

/* A backbone VLAN tag in front of the service tag stays. */
int oko_edit_pop_pbb(struct oko_pkt *pkt, struct oko_key *key)
{
    struct oko_l2 l2;

    if (!oko_l2_walk(pkt->data, pkt->len, &l2) || l2.eth_type != OKO_ETH_TYPE_PBB ||
        pkt->len - l2.payload < PBB_LEN)
        return 0;
    memcpy(pkt->data, pkt->data + l2.payload + 4, 12);
    close_gap(pkt, l2.type, PBB_LEN);
    adjust_length(pkt, &l2, -PBB_LEN);
    oko_reparse(pkt, key);
    return 0;
}

/* ---------------------------------------------------------------- TTLs */

static const uint8_t all_ones[16] = {255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255, 255, 255, 255};

static int set_small(struct oko_pkt *pkt, struct oko_key *key, uint32_t field, uint8_t v)
{
    uint8_t value[16] = {v};
    return oko_edit_set_field(pkt, key, field, value, all_ones);
}

int oko_edit_set_mpls_ttl(struct oko_pkt *pkt, struct oko_key *key, uint8_t ttl)
{
    return set_small(pkt, key, OKO_FIELD_MPLS_TTL, ttl);
}

int oko_edit_dec_mpls_ttl(struct oko_pkt *pkt, struct oko_key *key)
{
    if (pkt->l2_5 == OKO_NO_LAYER)
        return 0;
    if (key->mpls_ttl[0] <= 1)
        return 1;
    return oko_edit_set_mpls_ttl(pkt, key, (uint8_t)(key->mpls_ttl[0] - 1));
}

int oko_edit_set_ttl(struct oko_pkt *pkt, struct oko_key *key, uint8_t ttl)
{
    return set_small(pkt, key, OKO_FIELD_IP_TTL, ttl);
}

int oko_edit_dec_ttl(struct oko_pkt *pkt, struct oko_key *key)
{
    if (!is_ip(pkt, key))
        return 0;
    if (key->ip_ttl[0] <= 1)
        return 1;
    return oko_edit_set_ttl(pkt, key, (uint8_t)(key->ip_ttl[0] - 1));
}

/* The TTL of an IP header that the parser does not see: below MPLS, or inside IP. */
struct inner_ttl {
    uint8_t *ttl;
    uint8_t *ipv4; /* the header if it has a checksum */
};

static bool find_ip_ttl(uint8_t *p, uint32_t left, struct inner_ttl *inner)
{
    if (left >= 20 && p[0] >> 4 == 4 && (p[0] & 15) >= 5) {
        *inner = (struct inner_ttl){.ttl = p + 8, .ipv4 = p};
        return true;
    }
    if (left >= 40 && p[0] >> 4 == 6) {
        *inner = (struct inner_ttl){.ttl = p + 7};
        return true;
    }
    return false;
}

/* The next header with a TTL below the outermost one that has one. */
static bool find_inner_ttl(struct oko_pkt *pkt, const struct oko_key *key, struct inner_ttl *inner)
{
    if (pkt->l2_5 != OKO_NO_LAYER) {
        uint32_t at = pkt->l2_5 + (uint32_t)MPLS_LEN;
        if (key->mpls_bos[0])
            return find_ip_ttl(pkt->data + at, pkt->len - at, inner);
        if (pkt->len - at < MPLS_LEN)
            return false;
        *inner = (struct inner_ttl){.ttl = pkt->data + at + 3};
        return true;
    }
    if (!is_ip(pkt, key) || key->ip_frag[0] || (key->ip_proto[0] != 4 && key->ip_proto[0] != 41))
        return false;
    uint8_t *ip = pkt->data + pkt->l3;
    if (oko_be16(key->eth_type) == OKO_ETH_TYPE_IPV4) {
        uint32_t hlen = (ip[0] & 15) * 4u;
        return find_ip_ttl(ip + hlen, oko_be16(ip + 2) - hlen, inner);
    }
    struct oko_ipv6_chain chain;
    uint32_t payload = oko_be16(ip + 4);
    oko_ipv6_walk(ip[6], ip + 40, payload, &chain);
    return chain.complete && find_ip_ttl(ip + 40 + chain.offset, payload - chain.offset, inner);
}

int oko_edit_copy_ttl_out(struct oko_pkt *pkt, struct oko_key *key)
{
    struct inner_ttl inner;
    if (!find_inner_ttl(pkt, key, &inner))
        return 0;
    uint32_t field = pkt->l2_5 != OKO_NO_LAYER ? OKO_FIELD_MPLS_TTL : OKO_FIELD_IP_TTL;
    return set_small(pkt, key, field, *inner.ttl);
}

int oko_edit_copy_ttl_in(struct oko_pkt *pkt, struct oko_key *key)
{
    struct inner_ttl inner;
    if (!find_inner_ttl(pkt, key, &inner))
        return 0;
    uint16_t before = inner.ipv4 ? oko_sum(inner.ttl, 2) : 0;
    *inner.ttl = pkt->l2_5 != OKO_NO_LAYER ? key->mpls_ttl[0] : key->ip_ttl[0];
    if (inner.ipv4)
        oko_checksum_update(inner.ipv4 + 10, before, oko_sum(inner.ttl, 2), false);
    return 0;
}
