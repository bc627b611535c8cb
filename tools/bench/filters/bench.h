/* What the benchmark filters share. Each is one C file that clang compiles to BPF, for oko, and gcc
 * to machine code, for comparison: with __bpf__ the helpers are oko's, otherwise the inline
 * functions of native.h, which know every size at compile time. FOR_KERNEL and FOR_DPDK give the
 * nearest forms that those two accept (kernel.h, dpdk.h). */
#ifndef OKO_BENCH_H
#define OKO_BENCH_H

#if defined(__bpf__) && defined(FOR_KERNEL)
#include "kernel.h"
#elif defined(__bpf__) && defined(FOR_DPDK)
#include "dpdk.h"
#elif defined(__bpf__)
#include "oko_bpf.h"
#define MAP(name, type_, key_, value_, entries_, hashes_)                                          \
    struct ubpf_map_def name SEC("maps") = {type_, key_, value_, entries_, hashes_}
#define ENTRY                   uint64_t entry
#define LOOKUP(map, key)        bpf_map_lookup(&map, key)
#define UPDATE(map, key, value) bpf_map_update(&map, key, value)
#define ADD(map, item)          bpf_map_add(&map, item)
#define NOW(meta)               bpf_time_get_ns()
#define FILLER(map)
#define BATCH(...)
#else
#include "native.h"
#endif

#ifndef ENTRIES
#define ENTRIES 1024
#endif

struct eth {
    uint8_t dst[6], src[6];
    uint16_t type;
};

struct ip {
    uint8_t version_ihl, tos;
    uint16_t total_len, id, frag;
    uint8_t ttl, proto;
    uint16_t checksum;
    uint32_t src, dst;
};

struct udp {
    uint16_t src, dst, len, checksum;
};

struct tcp {
    uint16_t src, dst;
    uint32_t seq, ack;
    uint8_t data_offset, flags;
    uint16_t window, checksum, urgent;
};

struct flow {
    uint32_t src, dst;
    uint16_t sport, dport;
    uint8_t proto, pad[3];
};

#define SWAP16(x) ((uint16_t)__builtin_bswap16(x))

/* The transport header of an IPv4 packet that has need bytes of it, or NULL. */
static inline __attribute__((always_inline)) const void *
transport(const uint8_t *pkt, uint64_t len, const struct ip **ip_out, uint64_t need)
{
    const struct eth *eth = (const struct eth *)pkt;
    if (len < sizeof(struct eth) + sizeof(struct ip) || eth->type != SWAP16(0x0800))
        return 0;
    const struct ip *ip = (const struct ip *)(pkt + sizeof(struct eth));
#ifdef FIXED_IHL
    uint64_t ihl = sizeof(struct ip);
    if ((ip->version_ihl & 15u) != 5)
        return 0;
#else
    uint64_t ihl = (ip->version_ihl & 15u) * 4u;
#endif
    if (ihl < sizeof(struct ip) || sizeof(struct eth) + ihl + need > len)
        return 0;
    *ip_out = ip;
    return pkt + sizeof(struct eth) + ihl;
}

#endif
