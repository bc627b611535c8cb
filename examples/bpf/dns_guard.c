/* dns_guard: matches DNS queries that should not leave the network.
 *
 * Looked at: UDP to port 53 over IPv4 (EtherType 0x0800 behind up to two VLAN tags; version 4,
 * header length at least 20 and within the frame, total length at least the header length; not a
 * fragment) or IPv6 (0x86dd; 40 bytes present, version 6, next header 17: no extension headers),
 * with the 8 bytes of UDP header present. Other frames do not match and change nothing. The message
 * ends where the IP packet ends by its own length (IPv4 total length, 40 + IPv6 payload length), or
 * at the frame's end if that is earlier.
 *
 * The first of these that applies is the message's class; class c adds 1 to classes[c], and all but
 * CLEAN match:
 *   1 MALFORMED: less than 12 bytes of message; the response bit (0x8000 of the second 16-bit
 *     word) is set; the number of questions (third word) is not 1; the name that follows the 12
 *     bytes is not whole: labels, each a length byte of 1 to 63 and that many bytes, and then a
 *     zero byte, 255 bytes and 127 labels at most; or the 4 bytes of type and class behind it are
 *     not whole.
 *   2 LONG (smells of a tunnel): a label of more than 40 bytes, or a name of more than 120 bytes,
 *     length bytes and the final zero included.
 *   3 ANY: the type is 255.
 *   4 BLOCKED: the domain is a key of `blocked` with a value other than 0. The domain is made of
 *     the last two labels (of one if there is one; a name without labels has none), A-Z in lower
 *     case, joined by a dot, padded with zero bytes to 64. One longer than 63 is never blocked.
 *   0 CLEAN: everything else. */
#include "oko_parse.h"

#define PORT_DNS     53
#define DNS_RESPONSE 0x8000
#define QTYPE_ANY    255
#define MAX_LABEL    63
#define MAX_LABELS   127
#define MAX_NAME     255
#define LONG_LABEL   40
#define LONG_NAME    120

enum { CLEAN = 0, MALFORMED = 1, LONG = 2, ANY = 3, BLOCKED = 4, N_CLASSES = 5 };

struct domain {
    char name[64];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct domain);
    __type(value, uint32_t);
    __uint(max_entries, 16384);
} blocked SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, N_CLASSES);
} classes SEC(".maps");

/* Is the domain at [at, end) in the list? Its two labels are parted at dot, where the second one's
 * length byte stands. */
static __always_inline int is_blocked(const void *pkt, uint64_t at, uint64_t dot, uint64_t end)
{
    struct domain domain = {{0}};

    if (at >= end || end - at > sizeof(domain.name) - 1)
        return 0;
    for (uint32_t i = 0; i < sizeof(domain.name) - 1; i++) {
        if (at + i >= end)
            break;

        char c = *(const char *)(pkt + at + i);

        if (at + i == dot)
            c = '.';
        else if (c >= 'A' && c <= 'Z')
            c += 'a' - 'A';
        domain.name[i] = c;
    }

    const uint32_t *value = bpf_map_lookup(&blocked, &domain);

    return value && *value;
}

/* The class of the message at [at, end). */
static __always_inline uint32_t classify(const void *pkt, uint64_t at, uint64_t end)
{
    const struct oko_dns *dns = pkt + at;

    if (at + sizeof(*dns) > end)
        return MALFORMED;
    if (bpf_ntohs(dns->flags) & DNS_RESPONSE || bpf_ntohs(dns->n_questions) != 1)
        return MALFORMED;

    uint64_t name = at + sizeof(*dns);
    uint64_t label = name;               /* where the label at hand begins */
    uint64_t last = name, second = name; /* the last label and the one before it */
    int is_long = 0, whole = 0;

    for (int i = 0; i <= MAX_LABELS; i++) {
        if (label >= end)
            return MALFORMED;

        uint8_t size = *(const uint8_t *)(pkt + label);

        if (size == 0) {
            whole = 1;
            break;
        }
        if (size > MAX_LABEL)
            return MALFORMED;
        if (size > LONG_LABEL)
            is_long = 1;
        second = last;
        last = label;
        label += 1 + size;
    }
    /* label is now where the final zero stands. */
    if (!whole || label + 1 - name > MAX_NAME || label + 5 > end)
        return MALFORMED;
    if (is_long || label + 1 - name > LONG_NAME)
        return LONG;

    const uint16_t *qtype = pkt + label + 1;

    if (bpf_ntohs(*qtype) == QTYPE_ANY)
        return ANY;
    return is_blocked(pkt, second + 1, last, label) ? BLOCKED : CLEAN;
}

uint64_t entry(const void *pkt, uint64_t len)
{
    struct oko_l2 l2;
    struct oko_l3 l3;

    if (!oko_parse_eth(pkt, len, &l2))
        return 0;
    if (!oko_parse_ipv4(pkt, len, &l2, &l3) && !oko_parse_ipv6(pkt, len, &l2, &l3))
        return 0;
    if (l3.proto != OKO_IPPROTO_UDP || l3.fragment != OKO_WHOLE ||
        l3.l4 + sizeof(struct oko_udp) > len)
        return 0;

    const struct oko_udp *udp = pkt + l3.l4;

    if (udp->dst != bpf_htons(PORT_DNS))
        return 0;

    uint64_t end = l3.end < len ? l3.end : len;
    uint32_t class = classify(pkt, l3.l4 + sizeof(*udp), end);
    uint64_t *count = bpf_map_lookup(&classes, &class);

    if (count)
        *count += 1;
    return class != CLEAN;
}
