/* p0f: passive operating system fingerprints, after the tool of that name (Zalewski, 2000-2012).
 *
 * How a host opens a TCP connection (initial TTL, don't-fragment bit, window, order of the TCP
 * options) differs by operating system. The filter recognises a few, counts them, remembers what
 * each source address looked like last, and matches the SYNs of the wanted ones.
 *
 * Looked at: IPv4 (EtherType 0x0800 behind up to two VLAN tags; version 4, header length at least
 * 20 and within the frame, total length at least the header length), not a fragment, protocol 6
 * with the whole TCP header present (data offset at least 5 words, the header within the frame),
 * SYN set and ACK, FIN and RST not. Other frames do not match and change nothing.
 *
 * The signature of such a SYN:
 *   ttl: the smallest of 32, 64, 128, 255 that is at least the packet's TTL;
 *   df: the IPv4 don't-fragment bit;
 *   window: the TCP window field, unscaled;
 *   layout: the kinds of the TCP options in order, kind 0 (end of list) being the last one looked
 *     at even if bytes follow. An option of kind 1 is one byte, any other has its length, at least
 *     2, in its second byte. A list that runs over the header's end, or of more than 15 options,
 *     has no layout, and fits no signature.
 * The first line of `signatures` below that fits tells the system; 0 = unknown if none does. In a
 * line, window 0 means any. Written as text:
 *   1 Linux    ttl 64,  df,     any window,   layout 2 4 8 1 3
 *   2 Windows  ttl 128, df,     any window,   layout 2 1 3 1 1 4 or 2 1 1 4 or 2 1 3 1 1 8 1 1 4
 *   3 BSD, Apple: ttl 64, df,   window 65535, layout 2 1 3 1 1 8 4 0 or 2 1 3 4 8
 *   4 scanner  any ttl, no df,  window 1024,  layout 2 (nmap -sS) or empty (masscan)
 *
 * systems[system] grows by 1, hosts[source address] becomes struct host (if that table is full a
 * new source is left out). The packet matches when its system is wanted[0], or, where that is 0,
 * when it is not unknown. */
#include "oko_parse.h"

enum { UNKNOWN = 0, LINUX = 1, WINDOWS = 2, BSD = 3, SCANNER = 4, N_SYSTEMS = 5 };

struct host {
    uint8_t system;
    uint8_t hops; /* initial TTL - TTL */
    uint16_t window;
    uint32_t pad;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, oko_ip4);
    __type(value, struct host);
    __uint(max_entries, 16384);
} hosts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, N_SYSTEMS);
} systems SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1);
} wanted SEC(".maps");

/* Option kinds, four bits each, the last one lowest, behind a leading 1: so {2} and {0, 2} differ
 * and the empty list is not 0. Kinds above 15 count as 15. */
#define NO_LAYOUT    0
#define EMPTY_LAYOUT 1
#define MAX_OPTIONS  15

struct signature {
    uint64_t layout;
    uint16_t window; /* 0: any */
    uint8_t system;
    uint8_t ttl; /* 0: any */
    uint8_t df;
};

static const struct signature signatures[] = {
    {0x124813, 0, LINUX, 64, 1},      {0x1213114, 0, WINDOWS, 128, 1},
    {0x12114, 0, WINDOWS, 128, 1},    {0x1213118114, 0, WINDOWS, 128, 1},
    {0x121311840, 65535, BSD, 64, 1}, {0x121348, 65535, BSD, 64, 1},
    {0x12, 1024, SCANNER, 0, 0},      {EMPTY_LAYOUT, 1024, SCANNER, 0, 0},
};
#define N_SIGNATURES (sizeof(signatures) / sizeof(signatures[0]))

static __always_inline uint64_t option_layout(const void *pkt, uint64_t at, uint64_t end)
{
    uint64_t layout = EMPTY_LAYOUT;

    for (int i = 0; i < MAX_OPTIONS; i++) {
        if (at >= end)
            return layout;

        const uint8_t *option = pkt + at;
        uint8_t kind = option[0];

        layout = layout << 4 | (kind < 15 ? kind : 15);
        if (kind == 0)
            return layout;
        if (kind == 1) {
            at += 1;
            continue;
        }
        if (at + 2 > end || option[1] < 2 || at + option[1] > end)
            return NO_LAYOUT;
        at += option[1];
    }
    return at >= end ? layout : NO_LAYOUT;
}

static __always_inline uint8_t initial_ttl(uint8_t ttl)
{
    if (ttl <= 32)
        return 32;
    if (ttl <= 64)
        return 64;
    return ttl <= 128 ? 128 : 255;
}

static __always_inline uint32_t recognise(uint64_t layout, uint16_t window, uint8_t ttl, uint8_t df)
{
    uint32_t system = UNKNOWN;

    for (uint32_t i = 0; i < N_SIGNATURES && system == UNKNOWN; i++) {
        const struct signature *sig = &signatures[i];

        if (sig->layout == layout && (!sig->window || sig->window == window) &&
            (!sig->ttl || sig->ttl == ttl) && sig->df == df)
            system = sig->system;
    }
    return system;
}

uint64_t entry(const void *pkt, uint64_t len)
{
    struct oko_l2 l2;
    struct oko_l3 l3;

    if (!oko_parse_eth(pkt, len, &l2) || !oko_parse_ipv4(pkt, len, &l2, &l3))
        return 0;
    if (l3.proto != OKO_IPPROTO_TCP || l3.fragment != OKO_WHOLE ||
        l3.l4 + sizeof(struct oko_tcp) > len)
        return 0;

    const struct oko_ipv4 *ip = pkt + l3.l3;
    const struct oko_tcp *tcp = pkt + l3.l4;
    uint64_t tcp_len = (tcp->data_offset >> 4) * 4;

    if ((tcp->flags & (OKO_TCP_SYN | OKO_TCP_ACK | OKO_TCP_FIN | OKO_TCP_RST)) != OKO_TCP_SYN)
        return 0;
    if (tcp_len < sizeof(*tcp) || l3.l4 + tcp_len > len)
        return 0;

    uint64_t layout = option_layout(pkt, l3.l4 + sizeof(*tcp), l3.l4 + tcp_len);
    uint16_t window = bpf_ntohs(tcp->window);
    uint8_t ttl = initial_ttl(ip->ttl);
    uint8_t df = (bpf_ntohs(ip->frag) & OKO_IPV4_DF) != 0;
    uint32_t system = recognise(layout, window, ttl, df);
    struct host host = {.system = system, .hops = ttl - ip->ttl, .window = window};
    uint32_t src = ip->src, zero = 0;
    uint64_t *count = bpf_map_lookup(&systems, &system);
    const uint32_t *want = bpf_map_lookup(&wanted, &zero);

    if (count)
        *count += 1;
    bpf_map_update(&hosts, &src, &host);
    if (want && *want)
        return system == *want;
    return system != UNKNOWN;
}
