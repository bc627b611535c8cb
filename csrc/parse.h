/* Bytes to flow key.
 *
 * Ethernet (802.3 with SNAP too), two VLAN tags, MPLS, PBB, ARP, IPv4 with options and fragments,
 * IPv6 with extension headers, TCP, UDP, SCTP, ICMP, ICMPv6 with neighbour discovery. Never reads
 * outside data[0..len); a header that is cut off or contradicts itself leaves its fields zero, as
 * Open vSwitch does (design, section 5). In detail:
 *
 *  - Fewer than 14 bytes: nothing. 802.3 with a SNAP header of organisation 0: its type; any other
 *    LLC: eth_type 0x05ff. TPIDs 0x8100 and 0x88a8; a tag needs its 4 bytes and a type after them.
 *    vlan_vid and vlan_pcp are the outer tag's, eth_type what follows the second tag at the latest
 *    (so a third tag is eth_type 0x8100 with payload unknown).
 *  - MPLS (0x8847, 0x8848): the outermost label; nothing below is parsed. PBB (0x88e7): I-SID and
 *    UCA; nothing below is parsed.
 *  - ARP and RARP: all 28 bytes present, hardware type 1, protocol 0x0800, lengths 6 and 4.
 *  - IPv4: header and total length must fit into the frame, or only eth_type is known. What lies
 *    beyond the total length is padding. The version nibble is not looked at.
 *  - IPv6: header and payload length must fit. Extension headers passed: hop-by-hop, routing,
 *    destination options, fragment, AH; ip_proto is the first header that is none of these, or the
 *    one that is cut off (then there is no L4), or 44 in a fragment other than the first.
 *  - A fragment, the first one included, has no L4 fields (frags=normal).
 *  - TCP needs its data offset within the segment, UDP 8 bytes, SCTP 12, ICMP and ICMPv6 8.
 *    nd_target, nd_sll and nd_tll belong to ICMPv6 types 135 and 136 with code 0; an option that
 *    comes twice makes the three of them zero.
 *
 * layers says how deep somebody looks (union over all rules and actions): the parser stops there.
 * Whoever edits frames needs OKO_LAYER_L4: a checksum may lie below the field that changes.
 *
 * Thread-safety: touches nothing but its arguments. */
#ifndef OKO_PARSE_H
#define OKO_PARSE_H

#include "pkt.h"

enum oko_layers {
    OKO_LAYER_PORT = 0, /* only in_port and metadata-like fields */
    OKO_LAYER_L2 = 1,   /* Ethernet, VLAN, MPLS, PBB */
    OKO_LAYER_L3 = 2,   /* ARP, IPv4, IPv6 up to ip_proto */
    OKO_LAYER_L4 = 3    /* everything */
};

/* Fills key (packet fields; register-like fields are set to zero, in_port, in_phy_port and tun_id
 * from pkt) and pkt's layer offsets. */
void oko_parse(struct oko_pkt *pkt, enum oko_layers layers, struct oko_key *key);
/* Again after an action changed the frame's structure: packet fields only, registers, metadata,
 * in_port stay. */
void oko_reparse(struct oko_pkt *pkt, struct oko_key *key);
/* The deepest layer that a mask looks at. */
enum oko_layers oko_layers_of(const struct oko_key *mask);

/* ---- For edit.c: where things lie that the key does not tell. */

enum {
    OKO_ETH_HLEN = 14,
    OKO_ETH_TYPE_MIN = 0x0600,  /* below: an 802.3 length */
    OKO_ETH_TYPE_NONE = 0x05ff, /* 802.3 frame without a SNAP type */
    OKO_ETH_TYPE_IPV4 = 0x0800,
    OKO_ETH_TYPE_ARP = 0x0806,
    OKO_ETH_TYPE_RARP = 0x8035,
    OKO_ETH_TYPE_VLAN = 0x8100,
    OKO_ETH_TYPE_IPV6 = 0x86dd,
    OKO_ETH_TYPE_MPLS = 0x8847,
    OKO_ETH_TYPE_MPLS_MC = 0x8848,
    OKO_ETH_TYPE_QINQ = 0x88a8,
    OKO_ETH_TYPE_PBB = 0x88e7,
    OKO_IP_PROTO_ICMP = 1,
    OKO_IP_PROTO_TCP = 6,
    OKO_IP_PROTO_UDP = 17,
    OKO_IP_PROTO_FRAGMENT = 44,
    OKO_IP_PROTO_ICMPV6 = 58,
    OKO_IP_PROTO_SCTP = 132,
    OKO_FRAG_ANY = 1,
    OKO_FRAG_LATER = 2,
    OKO_VLAN_PRESENT = 0x1000
};

/* Bits of ipv6_exthdr (OpenFlow 1.3, 7.2.3.7, OFPIEH_*). */
enum oko_ipv6_exthdr {
    OKO_IEH_NONEXT = 1 << 0,
    OKO_IEH_ESP = 1 << 1,
    OKO_IEH_AUTH = 1 << 2,
    OKO_IEH_DEST = 1 << 3,
    OKO_IEH_FRAG = 1 << 4,
    OKO_IEH_ROUTER = 1 << 5,
    OKO_IEH_HOP = 1 << 6,
    OKO_IEH_UNREP = 1 << 7,
    OKO_IEH_UNSEQ = 1 << 8
};

/* The link layer of a frame. */
struct oko_l2 {
    uint32_t type;    /* offset of the two bytes that name the payload (802.3 without SNAP: of the
                         length field) */
    uint32_t payload; /* offset of what eth_type names */
    uint16_t eth_type;
    uint8_t n_vlans;
    bool snap; /* type lies in a SNAP header, payload - 10 has the 802.3 length */
};
/* False: fewer than 14 bytes. */
bool oko_l2_walk(const uint8_t *data, uint32_t len, struct oko_l2 *l2);

/* An IPv6 header chain. p = first byte after the fixed header, left = payload bytes. */
struct oko_ipv6_chain {
    uint32_t offset;     /* bytes from p to the upper-layer header */
    uint16_t exthdr;     /* enum oko_ipv6_exthdr */
    uint8_t proto;       /* as ip_proto above */
    uint8_t frag;        /* OKO_FRAG_* */
    bool complete;       /* offset really is an upper-layer header's */
    bool routing_active; /* a routing header with segments left: the destination is not final */
};
void oko_ipv6_walk(uint8_t next, const uint8_t *p, uint32_t left, struct oko_ipv6_chain *chain);

/* Neighbour discovery: offsets from the ICMPv6 header; 0 = not there. False: no (valid) ND. */
struct oko_nd {
    uint32_t target, sll, tll;
};
bool oko_nd_walk(const uint8_t *icmp, uint32_t left, struct oko_nd *nd);

#endif
