/* Changing frames: set-field, push and pop, TTLs, checksums.
 *
 * Each verb works on an owned packet (oko_pkt_writable) and keeps key and layer offsets in step:
 * afterwards key is what oko_parse would find in the new frame (registers aside). A verb whose
 * header the packet lacks (or has cut off) does nothing. Checksums are updated incrementally
 * (RFC 1624) for IPv4, TCP, UDP (a zero UDP/IPv4 checksum stays zero), ICMPv6; SCTP's CRC32c is
 * recomputed; fragments' L4 checksums are adjusted only where the header is in this fragment.
 *
 * Thread-safety: a packet belongs to one forwarding thread. Nothing here fails for lack of memory:
 * headroom and frame buffers are fixed; a push that finds no room returns OKO_E_LIMIT and leaves
 * the packet as it was. */
#ifndef OKO_EDIT_H
#define OKO_EDIT_H

#include "parse.h"

/* value and mask as in struct oko_match_field: the field's size bytes come first. OKO_E_UNSUP: the
 * field cannot be written (structure: eth_type, ip_proto, mpls_bos, ip_frag, ipv6_exthdr,
 * tcp_flags, in_phy_port). */
int oko_edit_set_field(struct oko_pkt *pkt, struct oko_key *key, uint32_t field,
                       const uint8_t value[16], const uint8_t mask[16]);
/* Copies n_bits from src_field[src_ofs..] to dst_field[dst_ofs..] (NXAST_REG_MOVE). */
int oko_edit_move(struct oko_pkt *pkt, struct oko_key *key, uint32_t n_bits, uint32_t src_field,
                  uint32_t src_ofs, uint32_t dst_field, uint32_t dst_ofs);
/* Bits of a field of the key as a big-endian, right-aligned 16-byte number, and back. */
void oko_key_get_bits(const struct oko_key *key, uint32_t field, uint32_t ofs, uint32_t n_bits,
                      uint8_t out[16]);

int oko_edit_push_vlan(struct oko_pkt *pkt, struct oko_key *key, uint16_t tpid);
int oko_edit_pop_vlan(struct oko_pkt *pkt, struct oko_key *key);
int oko_edit_push_mpls(struct oko_pkt *pkt, struct oko_key *key, uint16_t eth_type);
int oko_edit_pop_mpls(struct oko_pkt *pkt, struct oko_key *key, uint16_t eth_type);
int oko_edit_push_pbb(struct oko_pkt *pkt, struct oko_key *key, uint16_t eth_type);
int oko_edit_pop_pbb(struct oko_pkt *pkt, struct oko_key *key);
int oko_edit_set_mpls_ttl(struct oko_pkt *pkt, struct oko_key *key, uint8_t ttl);
/* 1 when the TTL was 0 or 1: the packet is unchanged and the action list must end (invalid TTL). */
int oko_edit_dec_mpls_ttl(struct oko_pkt *pkt, struct oko_key *key);
int oko_edit_set_ttl(struct oko_pkt *pkt, struct oko_key *key, uint8_t ttl);
int oko_edit_dec_ttl(struct oko_pkt *pkt, struct oko_key *key);
int oko_edit_copy_ttl_out(struct oko_pkt *pkt, struct oko_key *key);
int oko_edit_copy_ttl_in(struct oko_pkt *pkt, struct oko_key *key);

/* Does this action need an owned frame (writes packet bytes)? Registers and metadata do not. */
bool oko_field_in_frame(uint32_t field);

#endif
