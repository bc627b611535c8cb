/* Bytes to flow key.
 *
 * Ethernet (802.3 with SNAP too), two VLAN tags, MPLS, PBB, ARP, IPv4 with options and fragments,
 * IPv6 with extension headers, TCP, UDP, SCTP, ICMP, ICMPv6 with neighbour discovery. Never reads
 * outside data[0..len); a header that is cut off or contradicts itself leaves its fields zero, as
 * Open vSwitch does (design, section 5).
 *
 * layers says how deep somebody looks (union over all rules and actions): the parser stops there.
 */
#ifndef OKO_PARSE_H
#define OKO_PARSE_H

#include "pkt.h"

enum oko_layers {
    OKO_LAYER_PORT = 0, /* only in_port and metadata-like fields */
    OKO_LAYER_L2 = 1,   /* Ethernet, VLAN, MPLS, PBB */
    OKO_LAYER_L3 = 2,
    OKO_LAYER_L4 = 3 /* everything */
};

/* Fills key (packet fields; register-like fields are set to zero, in_port and tun_id from pkt) and
 * pkt's layer offsets. */
void oko_parse(struct oko_pkt *pkt, enum oko_layers layers, struct oko_key *key);
/* Again after an action changed the frame's structure: packet fields only, registers, metadata,
 * in_port stay. */
void oko_reparse(struct oko_pkt *pkt, struct oko_key *key);
/* The deepest layer that a mask looks at. */
enum oko_layers oko_layers_of(const struct oko_key *mask);

#endif
