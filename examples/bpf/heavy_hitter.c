/* heavy_hitter: matches the packets of sources that have sent more than their share.
 *
 * A count-min sketch (Cormode and Muthukrishnan, 2005) counts packets per source in fixed memory;
 * its estimate is never below the true count, so no heavy source escapes.
 *
 * A source is the IPv6 source address of a frame with EtherType 0x86dd (behind up to two VLAN
 * tags; 40-byte header present, version 6), or ::ffff:a.b.c.d for the IPv4 source a.b.c.d of a
 * well-formed IPv4 header (EtherType 0x0800; version 4, header length at least 20 and within the
 * frame, total length at least the header length). Other frames do not match and change nothing.
 *
 * Each packet adds 1 to its source in `packets`. It matches when the estimate of its source, this
 * packet included, is greater than threshold[0], or than 100 where that is 0. For each match
 * hitters[source] (16 bytes, u64) is increased by 1, starting from 0; when that table is full a new
 * source is left out of it (and matches all the same). */
#include "oko_parse.h"

#define DEFAULT_THRESHOLD 100

struct {
    __uint(type, BPF_MAP_TYPE_COUNT_MIN);
    __type(key, oko_ip6);
    __uint(max_entries, 16384); /* counters a row */
    __uint(map_extra, 4);       /* rows */
} packets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, oko_ip6);
    __type(value, uint64_t);
    __uint(max_entries, 4096);
} hitters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1);
} threshold SEC(".maps");

uint64_t entry(const void *pkt, uint64_t len)
{
    struct oko_l2 l2;
    struct oko_l3 l3;
    oko_ip6 src = {{0, 0, bpf_htonl(0xffff), 0}};

    if (!oko_parse_eth(pkt, len, &l2))
        return 0;
    if (oko_parse_ipv4(pkt, len, &l2, &l3)) {
        const struct oko_ipv4 *ip = pkt + l3.l3;

        src.word[3] = ip->src;
    } else if (oko_parse_ipv6(pkt, len, &l2, &l3)) {
        const struct oko_ipv6 *ip = pkt + l3.l3;

        memcpy(&src, ip->src, sizeof(src));
    } else {
        return 0;
    }

    uint32_t limit = DEFAULT_THRESHOLD, zero = 0;
    const uint32_t *configured = bpf_map_lookup(&threshold, &zero);

    if (configured && *configured)
        limit = *configured;

    bpf_map_add(&packets, &src);

    const uint32_t *estimate = bpf_map_lookup(&packets, &src);

    if (!estimate || *estimate <= limit)
        return 0;

    uint64_t *count = bpf_map_lookup(&hitters, &src);

    if (count) {
        *count += 1;
    } else {
        uint64_t one = 1;

        bpf_map_update(&hitters, &src, &one);
    }
    return 1;
}
