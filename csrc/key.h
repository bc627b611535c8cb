/* The flow key: every header field that a flow may match, of one packet, in one flat struct.
 *
 * Idea: one list of fields (OKO_FIELDS) drives the parser, masks, set-field/move/load, printing and
 * the Python side (OXM, text grammar). Each field is `bits` wide and lies right-aligned,
 * big-endian, in a member of its own, so that values and masks are copied and compared as bytes,
 * whatever the field. A packet that lacks a field has zeroes there (design: a lacking field equals
 * zero).
 *
 * Several protocols share a member where their prerequisites exclude each other (TCP/UDP/SCTP
 * ports; ARP and IPv4 addresses; ARP and ND link-layer addresses), which keeps the key at
 * OKO_KEY_WORDS 64-bit words. Masks have the same layout: bit set = the bit matters.
 *
 * Value type without ownership; thread-safe as any plain struct. */
#ifndef OKO_KEY_H
#define OKO_KEY_H

#include "oko.h"

#include <stddef.h>
#include <string.h>

struct oko_key {
    /* words 0-4: what most rules look at; an IPv4 5-tuple is words 0-2 */
    _Alignas(8) uint8_t in_port[4];
    uint8_t eth_type[2];
    uint8_t vlan_vid[2]; /* 13 bits: 0x1000 = a tag is present */
    uint8_t ipv4_src[4]; /* also ARP sender address */
    uint8_t ipv4_dst[4]; /* also ARP target address */
    uint8_t tp_src[2];   /* TCP, UDP, SCTP */
    uint8_t tp_dst[2];
    uint8_t tcp_flags[2]; /* 12 bits */
    uint8_t ip_proto[1];
    uint8_t ip_frag[1]; /* bit 0: any fragment; bit 1: not the first (NXM_NX_IP_FRAG) */
    uint8_t eth_dst[6];
    uint8_t vlan_pcp[1]; /* 3 bits */
    uint8_t ip_dscp[1];  /* 6 bits */
    uint8_t eth_src[6];
    uint8_t ip_ecn[1]; /* 2 bits */
    uint8_t ip_ttl[1];
    /* words 5-...: the rest */
    uint8_t icmp_type[1]; /* ICMP and ICMPv6 */
    uint8_t icmp_code[1];
    uint8_t arp_op[2];
    uint8_t ipv6_label[4]; /* 20 bits */
    uint8_t ipv6_src[16];
    uint8_t ipv6_dst[16];
    uint8_t nd_target[16];
    uint8_t arp_sha[6];     /* also ND source link-layer address */
    uint8_t ipv6_exthdr[2]; /* 9 bits, OFPIEH_* */
    uint8_t arp_tha[6];     /* also ND target link-layer address */
    uint8_t mpls_tc[1];     /* 3 bits */
    uint8_t mpls_bos[1];
    uint8_t mpls_label[4]; /* 20 bits */
    uint8_t mpls_ttl[1];
    uint8_t pbb_uca[1];
    uint8_t pad0[2];
    uint8_t pbb_isid[4]; /* 24 bits */
    uint8_t in_phy_port[4];
    uint8_t metadata[8];
    uint8_t tun_id[8];
    uint8_t pkt_mark[4];
    uint8_t conj_id[4]; /* 0 but in the second lookup of a conjunction (conj.c) */
    uint8_t reg[16][4]; /* xreg and xxreg are unions of neighbours, as in Open vSwitch */
};

enum { OKO_KEY_WORDS = sizeof(struct oko_key) / 8 };
_Static_assert(sizeof(struct oko_key) % 8 == 0, "the key is compared by words");

/* X(id, name, member, bits): id is OKO_FIELD_<id> of oko.h, in the same order; name is the
 * OpenFlow/OVS name. */
#define OKO_FIELDS(X)                                                                              \
    X(IN_PORT, "in_port", in_port, 32)                                                             \
    X(IN_PHY_PORT, "in_phy_port", in_phy_port, 32)                                                 \
    X(METADATA, "metadata", metadata, 64)                                                          \
    X(TUN_ID, "tun_id", tun_id, 64)                                                                \
    X(PKT_MARK, "pkt_mark", pkt_mark, 32)                                                          \
    X(CONJ_ID, "conj_id", conj_id, 32)                                                             \
    X(REG0, "reg0", reg[0], 32)                                                                    \
    X(REG1, "reg1", reg[1], 32)                                                                    \
    X(REG2, "reg2", reg[2], 32)                                                                    \
    X(REG3, "reg3", reg[3], 32)                                                                    \
    X(REG4, "reg4", reg[4], 32)                                                                    \
    X(REG5, "reg5", reg[5], 32)                                                                    \
    X(REG6, "reg6", reg[6], 32)                                                                    \
    X(REG7, "reg7", reg[7], 32)                                                                    \
    X(REG8, "reg8", reg[8], 32)                                                                    \
    X(REG9, "reg9", reg[9], 32)                                                                    \
    X(REG10, "reg10", reg[10], 32)                                                                 \
    X(REG11, "reg11", reg[11], 32)                                                                 \
    X(REG12, "reg12", reg[12], 32)                                                                 \
    X(REG13, "reg13", reg[13], 32)                                                                 \
    X(REG14, "reg14", reg[14], 32)                                                                 \
    X(REG15, "reg15", reg[15], 32)                                                                 \
    X(XREG0, "xreg0", reg[0], 64)                                                                  \
    X(XREG1, "xreg1", reg[2], 64)                                                                  \
    X(XREG2, "xreg2", reg[4], 64)                                                                  \
    X(XREG3, "xreg3", reg[6], 64)                                                                  \
    X(XREG4, "xreg4", reg[8], 64)                                                                  \
    X(XREG5, "xreg5", reg[10], 64)                                                                 \
    X(XREG6, "xreg6", reg[12], 64)                                                                 \
    X(XREG7, "xreg7", reg[14], 64)                                                                 \
    X(XXREG0, "xxreg0", reg[0], 128)                                                               \
    X(XXREG1, "xxreg1", reg[4], 128)                                                               \
    X(XXREG2, "xxreg2", reg[8], 128)                                                               \
    X(XXREG3, "xxreg3", reg[12], 128)                                                              \
    X(ETH_DST, "eth_dst", eth_dst, 48)                                                             \
    X(ETH_SRC, "eth_src", eth_src, 48)                                                             \
    X(ETH_TYPE, "eth_type", eth_type, 16)                                                          \
    X(VLAN_VID, "vlan_vid", vlan_vid, 13)                                                          \
    X(VLAN_PCP, "vlan_pcp", vlan_pcp, 3)                                                           \
    X(MPLS_LABEL, "mpls_label", mpls_label, 20)                                                    \
    X(MPLS_TC, "mpls_tc", mpls_tc, 3)                                                              \
    X(MPLS_BOS, "mpls_bos", mpls_bos, 1)                                                           \
    X(MPLS_TTL, "mpls_ttl", mpls_ttl, 8)                                                           \
    X(PBB_ISID, "pbb_isid", pbb_isid, 24)                                                          \
    X(PBB_UCA, "pbb_uca", pbb_uca, 1)                                                              \
    X(IP_PROTO, "ip_proto", ip_proto, 8)                                                           \
    X(IP_DSCP, "ip_dscp", ip_dscp, 6)                                                              \
    X(IP_ECN, "ip_ecn", ip_ecn, 2)                                                                 \
    X(IP_TTL, "nw_ttl", ip_ttl, 8)                                                                 \
    X(IP_FRAG, "ip_frag", ip_frag, 2)                                                              \
    X(IPV4_SRC, "ipv4_src", ipv4_src, 32)                                                          \
    X(IPV4_DST, "ipv4_dst", ipv4_dst, 32)                                                          \
    X(ARP_OP, "arp_op", arp_op, 16)                                                                \
    X(ARP_SPA, "arp_spa", ipv4_src, 32)                                                            \
    X(ARP_TPA, "arp_tpa", ipv4_dst, 32)                                                            \
    X(ARP_SHA, "arp_sha", arp_sha, 48)                                                             \
    X(ARP_THA, "arp_tha", arp_tha, 48)                                                             \
    X(IPV6_SRC, "ipv6_src", ipv6_src, 128)                                                         \
    X(IPV6_DST, "ipv6_dst", ipv6_dst, 128)                                                         \
    X(IPV6_LABEL, "ipv6_label", ipv6_label, 20)                                                    \
    X(IPV6_EXTHDR, "ipv6_exthdr", ipv6_exthdr, 9)                                                  \
    X(TCP_SRC, "tcp_src", tp_src, 16)                                                              \
    X(TCP_DST, "tcp_dst", tp_dst, 16)                                                              \
    X(TCP_FLAGS, "tcp_flags", tcp_flags, 12)                                                       \
    X(UDP_SRC, "udp_src", tp_src, 16)                                                              \
    X(UDP_DST, "udp_dst", tp_dst, 16)                                                              \
    X(SCTP_SRC, "sctp_src", tp_src, 16)                                                            \
    X(SCTP_DST, "sctp_dst", tp_dst, 16)                                                            \
    X(ICMP_TYPE, "icmp_type", icmp_type, 8)                                                        \
    X(ICMP_CODE, "icmp_code", icmp_code, 8)                                                        \
    X(ICMPV6_TYPE, "icmpv6_type", icmp_type, 8)                                                    \
    X(ICMPV6_CODE, "icmpv6_code", icmp_code, 8)                                                    \
    X(ND_TARGET, "nd_target", nd_target, 128)                                                      \
    X(ND_SLL, "nd_sll", arp_sha, 48)                                                               \
    X(ND_TLL, "nd_tll", arp_tha, 48)

/* Where a field lies. */
struct oko_field {
    const char *name;
    uint16_t offset; /* bytes from the start of struct oko_key */
    uint16_t size;   /* bytes: bits rounded up */
    uint16_t bits;
};

/* NULL for a number that is no field. Indexed by enum oko_field_id. */
const struct oko_field *oko_field(uint32_t id);

/* All fields zero. Plain stores: compilers turn memset of this size into an instruction that takes
 * longer to start than these take. */
static inline void oko_key_clear(struct oko_key *key)
{
    typedef uint64_t pair __attribute__((vector_size(16), aligned(8), may_alias));
    pair *at = (pair *)(void *)key;
    for (size_t i = 0; i < sizeof *key / 16; i++) {
        at[i] = (pair){0, 0};
        __asm__("" : : : "memory");
    }
    if (sizeof *key % 16)
        memset((uint8_t *)key + sizeof *key / 16 * 16, 0, sizeof *key % 16);
}

static inline const uint64_t *oko_key_words(const struct oko_key *key)
{
    return (const uint64_t *)(const void *)key;
}

/* The bits of a key's word that are conj_id. */
static inline uint64_t oko_conj_bits(uint32_t word)
{
    enum { AT = offsetof(struct oko_key, conj_id) };
    uint8_t bytes[8] = {0};
    uint64_t bits;
    if (word != AT / 8)
        return 0;
    memset(bytes + AT % 8, 0xff, 4);
    memcpy(&bits, bytes, sizeof bits);
    return bits;
}

#endif
