/* oko_parse.h: where the headers of a frame are.
 *
 * Each function looks for one layer, fills a small record with offsets from the frame's first byte
 * and returns 1, or returns 0 when that layer is not there or not whole. They are inlined, and what
 * a filter does not use of a record costs nothing. After a 1, everything the record's comment
 * promises has been compared with len; what lies behind has not.
 *
 *     struct oko_l2 l2;
 *     struct oko_l3 ip;
 *
 *     if (!oko_parse_eth(pkt, len, &l2) || !oko_parse_ipv4(pkt, len, &l2, &ip))
 *         return 0;
 *     if (ip.proto != OKO_IPPROTO_TCP || ip.l4 + sizeof(struct oko_tcp) > len)
 *         return 0;
 *     const struct oko_tcp *tcp = pkt + ip.l4;
 *
 * Left out: IPv6 extension headers (proto is then theirs), more than two VLAN tags, tunnels. */
#ifndef OKO_PARSE_H
#define OKO_PARSE_H

#include "oko_bpf.h"

struct oko_l2 {
    uint64_t l3;   /* offset of the network header: 14, 18 or 22, at most len */
    uint16_t type; /* its EtherType, behind up to two VLAN tags; host order */
};

enum oko_fragment { OKO_WHOLE = 0, OKO_FIRST_FRAGMENT = 1, OKO_LATER_FRAGMENT = 2 };

struct oko_l3 {
    uint64_t l3;      /* offset of the IP header; its fixed part is present */
    uint64_t l4;      /* offset of what follows the IP header, at most len */
    uint64_t end;     /* where the IP packet ends by its own length: may lie beyond len; bytes
                         between end and len are Ethernet padding */
    uint8_t proto;    /* protocol of what follows: OKO_IPPROTO_* */
    uint8_t fragment; /* enum oko_fragment: a later one has no transport header */
};

/* Ethernet with up to two VLAN tags, 802.1Q or 802.1ad. 0: cut off. */
static __always_inline int oko_parse_eth(const void *pkt, uint64_t len, struct oko_l2 *l2)
{
    const struct oko_eth *eth = pkt;

    if (sizeof(*eth) > len)
        return 0;
    l2->type = bpf_ntohs(eth->type);
    l2->l3 = sizeof(*eth);
    for (int i = 0; i < 2; i++) {
        const struct oko_vlan *tag = pkt + l2->l3;

        if (l2->type != OKO_ETH_P_8021Q && l2->type != OKO_ETH_P_8021AD)
            break;
        if (l2->l3 + sizeof(*tag) > len)
            return 0;
        l2->type = bpf_ntohs(tag->type);
        l2->l3 += sizeof(*tag);
    }
    return 1;
}

/* IPv4 with options. 0: not IPv4, cut off within its header, or a header that cannot be (version
 * not 4, header length below 20, total length below the header's). */
static __always_inline int oko_parse_ipv4(const void *pkt, uint64_t len, const struct oko_l2 *l2,
                                          struct oko_l3 *l3)
{
    const struct oko_ipv4 *ip = pkt + l2->l3;

    if (l2->type != OKO_ETH_P_IP || l2->l3 + sizeof(*ip) > len)
        return 0;

    uint64_t header_len = (ip->version_ihl & 15) * 4;
    uint64_t total_len = bpf_ntohs(ip->total_len);

    if (ip->version_ihl >> 4 != 4 || header_len < sizeof(*ip) || total_len < header_len ||
        l2->l3 + header_len > len)
        return 0;

    uint16_t frag = bpf_ntohs(ip->frag);

    l3->l3 = l2->l3;
    l3->l4 = l2->l3 + header_len;
    l3->end = l2->l3 + total_len;
    l3->proto = ip->proto;
    l3->fragment = frag & OKO_IPV4_OFFSET ? OKO_LATER_FRAGMENT
                   : frag & OKO_IPV4_MF   ? OKO_FIRST_FRAGMENT
                                          : OKO_WHOLE;
    return 1;
}

/* IPv6, the fixed header only. 0: not IPv6, cut off, or version not 6. */
static __always_inline int oko_parse_ipv6(const void *pkt, uint64_t len, const struct oko_l2 *l2,
                                          struct oko_l3 *l3)
{
    const struct oko_ipv6 *ip = pkt + l2->l3;

    if (l2->type != OKO_ETH_P_IPV6 || l2->l3 + sizeof(*ip) > len ||
        bpf_ntohl(ip->version_class_flow) >> 28 != 6)
        return 0;
    l3->l3 = l2->l3;
    l3->l4 = l2->l3 + sizeof(*ip);
    l3->end = l3->l4 + bpf_ntohs(ip->payload_len);
    l3->proto = ip->next_header;
    l3->fragment = OKO_WHOLE;
    return 1;
}

#endif
