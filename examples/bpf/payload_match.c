/* payload_match: matches TCP and UDP packets whose payload contains a byte string.
 *
 * Looked at: IPv4 (EtherType 0x0800 behind up to two VLAN tags; version 4, header length at least
 * 20 and within the frame, total length at least the header length; not a later fragment) or IPv6
 * (0x86dd; 40 bytes present, version 6, no extension headers), of protocol 6 with 20 bytes of TCP
 * header present and a data offset of at least 5 words, or of protocol 17 with 8 bytes of UDP
 * header present. Other frames do not match and change nothing.
 *
 * The payload begins behind the TCP header (4 times its data offset) or the UDP header, and ends
 * where the IP packet ends by its own length (IPv4 total length, 40 + IPv6 payload length) or at
 * the frame's end if that is earlier; there may be none. The byte string is the first
 * pattern[0].size bytes of pattern[0].bytes, or "User-Agent: curl" where the size is 0; a size
 * above 16 matches nothing. The packet matches when the byte string occurs in the payload beginning
 * at one of the first 1,024 positions. The global variables count packets looked at (`searched`)
 * and matches (`found`). */
#include "oko_parse.h"

#define MAX_PATTERN   16
#define MAX_POSITIONS 1024

struct pattern {
    uint32_t size;
    uint8_t bytes[MAX_PATTERN];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct pattern);
    __uint(max_entries, 1);
} pattern SEC(".maps");

static const struct pattern default_pattern = {MAX_PATTERN, "User-Agent: curl"};

uint64_t searched, found;

uint64_t entry(const void *pkt, uint64_t len)
{
    struct oko_l2 l2;
    struct oko_l3 l3;

    if (!oko_parse_eth(pkt, len, &l2))
        return 0;
    if (!oko_parse_ipv4(pkt, len, &l2, &l3) && !oko_parse_ipv6(pkt, len, &l2, &l3))
        return 0;
    if (l3.fragment == OKO_LATER_FRAGMENT)
        return 0;

    uint64_t payload, end = l3.end < len ? l3.end : len;

    if (l3.proto == OKO_IPPROTO_TCP) {
        const struct oko_tcp *tcp = pkt + l3.l4;

        if (l3.l4 + sizeof(*tcp) > len || tcp->data_offset >> 4 < 5)
            return 0;
        payload = l3.l4 + (tcp->data_offset >> 4) * 4;
    } else if (l3.proto == OKO_IPPROTO_UDP) {
        payload = l3.l4 + sizeof(struct oko_udp);
        if (payload > len)
            return 0;
    } else {
        return 0;
    }
    __sync_fetch_and_add(&searched, 1);

    uint32_t zero = 0;
    const struct pattern *want = bpf_map_lookup(&pattern, &zero);

    if (!want || want->size == 0)
        want = &default_pattern;

    uint32_t size = want->size;

    if (size > MAX_PATTERN)
        return 0;

    for (uint32_t i = 0; i < MAX_POSITIONS; i++) {
        if (payload + i + size > end)
            return 0;

        const uint8_t *here = pkt + payload + i;
        uint32_t same = 0;

        while (same < size && here[same] == want->bytes[same])
            same++;
        if (same == size) {
            __sync_fetch_and_add(&found, 1);
            return 1;
        }
    }
    return 0;
}
