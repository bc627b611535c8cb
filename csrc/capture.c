/* Reading captures: pcap (microseconds, nanoseconds, either byte order) and pcapng, from a file
 * descriptor, as Ethernet frames.
 *
 * Idea. A stream is read in large chunks into one buffer; a record is handed out where it lies, not
 * copied. When the next record is not all there the reader says OKO_CAPTURE_REFILL instead of
 * reading by itself: refilling moves what is left to the front of the buffer, so whoever still
 * holds records (a burst, a merge) finishes with them first. Memory is bounded by the chunk
 * whatever the file's size. Compressed files are decompressed by somebody else into a pipe.
 *
 * Link types other than Ethernet that carry IP (LINUX_SLL, SLL2, RAW, IPV4, IPV6, NULL, LOOP) get
 * an Ethernet header written over the record's own header, in the buffer: type as recorded, source
 * address where one was recorded, else zeroes; `adapted` says so. The rest is refused by name.
 * Records of more than 65,535 bytes are handed out without data, and skipped without being kept.
 *
 * Fails safely: every length in the file is compared with what is there and with a fixed bound
 * before it is believed. A broken or cut-off file gives the records before the damage, then one
 * error with the byte offset and what was expected. After an error or the end, next() repeats it.
 *
 * Thread-safety: a reader belongs to one thread. Left out: the frame check sequence some captures
 * keep at the end of frames (it then counts as padding), pcapng's names, statistics and secrets.
 *
 * Inside: a window over the stream, and two record walkers.
 *
 *   stream:  ....consumed....|head ......... have|....to come....
 *                            ^ base + head = offset of the next record
 *
 * need(n) asks for n bytes from head on; a walker that does not get them returns REFILL and is
 * called again later from the same record. `skip` is how many bytes after `have` are to be thrown
 * away unread: the rest of a record too long to keep.
 *
 * Formats: pcap as in draft-ietf-opsawg-pcap, pcapng as in draft-ietf-opsawg-pcapng. */
#include "oko.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/be.h"
#include "parse.h"

enum {
    HEADROOM = 64, /* in front of the window: a header may be written before a frame */
    DEFAULT_CHUNK = 4 << 20,
    MIN_CHUNK = 1 << 20,   /* holds any record of at most BLOCK_MAX bytes */
    BLOCK_MAX = 256 << 10, /* a pcapng block that is looked into as a whole */
    RECORD_MAX = 16 << 20, /* a pcap record that claims more is corrupt */
    MAX_INTERFACES = 65536,
    WAIT_MS = 100,

    PCAP_HEADER = 24,
    PCAP_RECORD = 16,
    NG_BLOCK_MIN = 12
};

enum link_type {
    LINK_NULL = 0,
    LINK_ETHERNET = 1,
    LINK_RAW_BSD = 12, /* RAW as some systems write it */
    LINK_RAW_OPENBSD = 14,
    LINK_RAW = 101,
    LINK_LOOP = 108,
    LINK_LINUX_SLL = 113,
    LINK_IPV4 = 228,
    LINK_IPV6 = 229,
    LINK_LINUX_SLL2 = 276
};

struct interface {
    uint16_t link;
    uint8_t tsresol;  /* as if_tsresol: 10^-n, or 2^-n with the top bit set */
    uint32_t snaplen; /* 0 = no limit */
    int64_t tsoffset; /* seconds */
};

struct oko_capture {
    int fd;
    bool eof;
    bool ng;
    bool swapped; /* the file (pcapng: the section) is of the other byte order */
    bool nanoseconds;
    const char *adapted;
    uint64_t base;   /* stream offset of window[0] */
    uint64_t n_read; /* records so far */
    uint64_t last_ns;
    uint32_t head, have, size;
    uint64_t skip;
    uint32_t wanted; /* bytes from head that the last REFILL was for */

    struct interface *interfaces;
    uint32_t n_interfaces, max_interfaces;

    int failed; /* sticky error */
    struct oko_error error;
    uint8_t *window; /* size bytes, after HEADROOM */
    uint8_t *memory;
};

/* ---------------------------------------------------------------- errors and bytes */

__attribute__((format(printf, 4, 5))) static int fail(struct oko_capture *c, struct oko_error *out,
                                                      int code, const char *format, ...)
{
    va_list args;

    c->failed = code;
    c->error = (struct oko_error){.code = code, .insn = -1};
    va_start(args, format);
    vsnprintf(c->error.reason, sizeof c->error.reason, format, args);
    va_end(args);
    *out = c->error;
    return code;
}

static uint64_t offset(const struct oko_capture *c)
{
    return c->base + c->head;
}

/* At least n bytes from head on, or NULL: then the caller returns missing(). */
static const uint8_t *need(struct oko_capture *c, uint32_t n)
{
    if (c->skip == 0 && c->have - c->head >= n)
        return c->window + c->head;
    c->wanted = n;
    return NULL;
}

/* What a walker returns when need() failed: more may come, or the file ends inside `what`. */
static int missing(struct oko_capture *c, const char *what, struct oko_error *error)
{
    if (!c->eof)
        return OKO_CAPTURE_REFILL;
    uint32_t left = c->have - c->head;
    return fail(c, error, OKO_E_FORMAT,
                "cut off at byte %llu: the file ends after %u of the %u bytes of %s of packet %llu",
                (unsigned long long)(offset(c) + left), left, c->wanted, what,
                (unsigned long long)c->n_read + 1);
}

static uint16_t get16(const struct oko_capture *c, const uint8_t *p)
{
    uint16_t v = oko_be16(p);
    return c->swapped ? v : __builtin_bswap16(v);
}

static uint32_t get32(const struct oko_capture *c, const uint8_t *p)
{
    uint32_t v = oko_be32(p);
    return c->swapped ? v : __builtin_bswap32(v);
}

/* ---------------------------------------------------------------- link types */

static const char *link_name(uint16_t link)
{
    switch (link) {
    case LINK_NULL:
        return "NULL";
    case LINK_ETHERNET:
        return "EN10MB";
    case LINK_RAW:
    case LINK_RAW_BSD:
    case LINK_RAW_OPENBSD:
        return "RAW";
    case LINK_LOOP:
        return "LOOP";
    case LINK_LINUX_SLL:
        return "LINUX_SLL";
    case LINK_LINUX_SLL2:
        return "LINUX_SLL2";
    case LINK_IPV4:
        return "IPV4";
    case LINK_IPV6:
        return "IPV6";
    case 6:
        return "IEEE802_5";
    case 9:
        return "PPP";
    case 50:
        return "PPP_HDLC";
    case 51:
        return "PPP_ETHER";
    case 104:
        return "C_HDLC";
    case 105:
        return "IEEE802_11";
    case 107:
        return "FRELAY";
    case 117:
        return "PFLOG";
    case 127:
        return "IEEE802_11_RADIOTAP";
    case 147:
        return "USER0";
    case 149:
        return "USER2";
    case 187:
        return "BLUETOOTH_HCI_H4";
    case 189:
        return "USB_LINUX";
    case 195:
        return "IEEE802_15_4_WITHFCS";
    case 220:
        return "USB_LINUX_MMAPPED";
    case 227:
        return "CAN_SOCKETCAN";
    case 239:
        return "NFLOG";
    case 253:
        return "NETLINK";
    default:
        return "unknown";
    }
}

static bool link_known(uint16_t link)
{
    switch (link) {
    case LINK_NULL:
    case LINK_ETHERNET:
    case LINK_RAW:
    case LINK_RAW_BSD:
    case LINK_RAW_OPENBSD:
    case LINK_LOOP:
    case LINK_LINUX_SLL:
    case LINK_LINUX_SLL2:
    case LINK_IPV4:
    case LINK_IPV6:
        return true;
    default:
        return false;
    }
}

/* Ethernet type of a BSD loopback record: the address family, in the byte order of whoever
 * captured (LOOP: network order); systems disagree on IPv6's number. */
static uint16_t family_type(uint32_t family)
{
    if (family > 0xffff)
        family = __builtin_bswap32(family);
    switch (family) {
    case 2:
        return OKO_ETH_TYPE_IPV4;
    case 10:
    case 24:
    case 28:
    case 30:
        return OKO_ETH_TYPE_IPV6;
    default:
        return OKO_ETH_TYPE_NONE;
    }
}

/* Turns a record, of which `header` bytes belong to the link layer, into an Ethernet frame that
 * ends where it does. There are at least OKO_ETH_HLEN writable bytes in front of its data. */
static void put_ethernet(struct oko_record *r, uint32_t header, uint16_t type, const uint8_t *src,
                         bool broadcast)
{
    uint8_t addresses[12] = {0};
    if (broadcast)
        memset(addresses, 0xff, 6);
    if (src)
        memcpy(addresses + 6, src, 6); /* may lie where the header goes */
    uint8_t *frame = r->data + header - OKO_ETH_HLEN;
    memcpy(frame, addresses, 12);
    oko_put_be16(frame + 12, type);
    r->data = frame;
    r->len = r->len - header + OKO_ETH_HLEN;
    uint64_t wire_len = (uint64_t)r->wire_len - header + OKO_ETH_HLEN;
    r->wire_len = wire_len > UINT32_MAX ? UINT32_MAX : (uint32_t)wire_len;
}

/* ARP hardware types whose recorded protocol is no Ethernet type (LINUX_SLL's definition). */
static bool sll_foreign(uint16_t hardware)
{
    return hardware == 778 || hardware == 803 || hardware == 824;
}

/* Makes an Ethernet frame of a record's bytes. False: too short for its own link header, which
 * makes it an empty frame. */
static bool adapt(struct oko_capture *c, uint16_t link, struct oko_record *r)
{
    uint8_t *p = r->data;
    uint16_t type;

    switch (link) {
    case LINK_NULL:
    case LINK_LOOP:
        if (r->len < 4)
            return false;
        put_ethernet(r, 4, family_type(get32(c, p)), NULL, false);
        return true;
    case LINK_LINUX_SLL: /* packet type 2, hardware 2, address length 2, address 8, protocol 2 */
        if (r->len < 16)
            return false;
        type = sll_foreign(oko_be16(p + 2)) ? 0 : oko_be16(p + 14);
        put_ethernet(r, 16, type, oko_be16(p + 4) == 6 ? p + 6 : NULL, oko_be16(p) == 1);
        return true;
    case LINK_LINUX_SLL2: /* protocol 2, 0 2, interface 4, hardware 2, type 1, length 1, address 8
                           */
        if (r->len < 20)
            return false;
        type = sll_foreign(oko_be16(p + 8)) ? 0 : oko_be16(p);
        put_ethernet(r, 20, type, p[11] == 6 ? p + 12 : NULL, p[10] == 1);
        return true;
    default: /* bare IP */
        if (r->len < 1)
            return false;
        put_ethernet(r, 0, p[0] >> 4 == 6 ? OKO_ETH_TYPE_IPV6 : OKO_ETH_TYPE_IPV4, NULL, false);
        return true;
    }
}

/* The common end of all record walkers. body = cap_len bytes in the window, or NULL. */
static int deliver(struct oko_capture *c, uint16_t link, uint8_t *body, uint32_t cap_len,
                   uint32_t wire_len, uint64_t ns, struct oko_record *record)
{
    c->n_read++;
    c->last_ns = ns;
    *record = (struct oko_record){.data = body,
                                  .len = cap_len,
                                  .wire_len = wire_len > cap_len ? wire_len : cap_len,
                                  .ns = ns};
    if (!body || link == LINK_ETHERNET)
        return OKO_CAPTURE_RECORD;
    if (!c->adapted)
        c->adapted = link_name(link);
    if (!adapt(c, link, record))
        record->len = 0;
    if (record->len > OKO_FRAME_MAX)
        record->data = NULL;
    return OKO_CAPTURE_RECORD;
}

static int refuse_link(struct oko_capture *c, uint16_t link, uint64_t at, struct oko_error *error)
{
    fail(c, error, OKO_E_FORMAT, "link type %u (%s), named at byte %llu, is not supported", link,
         link_name(link), (unsigned long long)at);
    snprintf(
        c->error.hint, sizeof c->error.hint,
        "captures of Ethernet, LINUX_SLL, LINUX_SLL2, RAW, IPV4, IPV6, NULL and LOOP are read");
    *error = c->error;
    return c->failed;
}

/* ---------------------------------------------------------------- pcap */

static int pcap_next(struct oko_capture *c, struct oko_record *record, struct oko_error *error)
{
    const struct interface *interface = &c->interfaces[0];
    const uint8_t *h = need(c, PCAP_RECORD);
    if (!h) {
        if (c->eof && c->have == c->head)
            return OKO_CAPTURE_END;
        return missing(c, "the record header", error);
    }
    uint64_t ns = get32(c, h) * 1000000000ull;
    ns += get32(c, h + 4) * (uint64_t)(c->nanoseconds ? 1 : 1000);
    uint32_t cap_len = get32(c, h + 8), wire_len = get32(c, h + 12);
    if (cap_len > RECORD_MAX)
        return fail(c, error, OKO_E_FORMAT,
                    "corrupt at byte %llu: packet %llu claims %u bytes (at most %u expected)",
                    (unsigned long long)offset(c) + 8, (unsigned long long)c->n_read + 1, cap_len,
                    RECORD_MAX);
    if (cap_len > OKO_FRAME_MAX + 64) {
        c->head += PCAP_RECORD;
        c->skip = cap_len;
        return deliver(c, interface->link, NULL, cap_len, wire_len, ns, record);
    }
    if (!need(c, PCAP_RECORD + cap_len))
        return missing(c, "the record", error);
    uint8_t *body = c->window + c->head + PCAP_RECORD;
    c->head += PCAP_RECORD + cap_len;
    if (interface->link == LINK_ETHERNET && cap_len > OKO_FRAME_MAX)
        body = NULL;
    return deliver(c, interface->link, body, cap_len, wire_len, ns, record);
}

static int pcap_open(struct oko_capture *c, struct oko_error *error)
{
    const uint8_t *h = need(c, PCAP_HEADER);
    if (!h)
        return fail(c, error, OKO_E_FORMAT, "cut off at byte %u: the pcap file header has %u bytes",
                    c->have, PCAP_HEADER);
    uint16_t major = get16(c, h + 4);
    if (major != 2)
        return fail(c, error, OKO_E_FORMAT, "pcap version %u, expected 2 (at byte 4)", major);
    uint16_t link = (uint16_t)get32(c, h + 20);
    if (!link_known(link))
        return refuse_link(c, link, 20, error);
    c->interfaces = calloc(1, sizeof *c->interfaces);
    if (!c->interfaces)
        return fail(c, error, OKO_E_NOMEM, "out of memory");
    c->interfaces[0].link = link;
    c->n_interfaces = c->max_interfaces = 1;
    c->head += PCAP_HEADER;
    return 0;
}

/* ---------------------------------------------------------------- pcapng */

enum ng_block {
    NG_SECTION = 0x0a0d0d0a,
    NG_INTERFACE = 1,
    NG_PACKET = 2, /* obsolete, but written for years */
    NG_SIMPLE = 3,
    NG_ENHANCED = 6
};

static const char *ng_name(uint32_t type)
{
    switch (type) {
    case NG_SECTION:
        return "section header block";
    case NG_INTERFACE:
        return "interface description block";
    case NG_PACKET:
        return "packet block";
    case NG_SIMPLE:
        return "simple packet block";
    case NG_ENHANCED:
        return "enhanced packet block";
    default:
        return "block";
    }
}

static int ng_corrupt(struct oko_capture *c, uint32_t type, uint64_t at, const char *what,
                      uint64_t value, struct oko_error *error)
{
    return fail(c, error, OKO_E_FORMAT, "corrupt at byte %llu: %s of the %s is %llu",
                (unsigned long long)at, what, ng_name(type), (unsigned long long)value);
}

/* Interface time units to ns; a result that does not fit becomes the nearest that does. */
static uint64_t ng_ns(const struct interface *interface, uint64_t units)
{
    uint32_t exponent = interface->tsresol & 0x7f;
    __int128 ns = (__int128)units * 1000000000;

    if (interface->tsresol & 0x80) {
        ns = exponent < 100 ? ns >> exponent : 0;
    } else {
        for (; exponent && ns; exponent--)
            ns /= 10;
    }
    ns += (__int128)interface->tsoffset * 1000000000;
    if (ns < 0)
        return 0;
    return ns > (__int128)UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static int ng_section(struct oko_capture *c, const uint8_t *h, struct oko_error *error)
{
    static const uint8_t big[4] = {0x1a, 0x2b, 0x3c, 0x4d}, little[4] = {0x4d, 0x3c, 0x2b, 0x1a};

    if (!memcmp(h + 8, big, 4))
        c->swapped = true;
    else if (!memcmp(h + 8, little, 4))
        c->swapped = false;
    else
        return ng_corrupt(c, NG_SECTION, offset(c) + 8, "the byte-order magic", oko_be32(h + 8),
                          error);
    if (get16(c, h + 12) != 1)
        return ng_corrupt(c, NG_SECTION, offset(c) + 12, "the major version", get16(c, h + 12),
                          error);
    c->n_interfaces = 0;
    return 0;
}

/* h[0..size) is the whole block. */
static int ng_interface(struct oko_capture *c, const uint8_t *h, uint32_t size,
                        struct oko_error *error)
{
    if (size < 20)
        return ng_corrupt(c, NG_INTERFACE, offset(c) + 4, "the length", size, error);
    if (c->n_interfaces == c->max_interfaces) {
        if (c->n_interfaces == MAX_INTERFACES)
            return ng_corrupt(c, NG_INTERFACE, offset(c), "the number", MAX_INTERFACES, error);
        uint32_t max = c->max_interfaces ? 2 * c->max_interfaces : 8;
        struct interface *grown = realloc(c->interfaces, max * sizeof *grown);
        if (!grown)
            return fail(c, error, OKO_E_NOMEM, "out of memory");
        c->interfaces = grown;
        c->max_interfaces = max;
    }
    struct interface *interface = &c->interfaces[c->n_interfaces++];
    *interface =
        (struct interface){.link = get16(c, h + 8), .tsresol = 6, .snaplen = get32(c, h + 12)};

    /* Options: code, length, value padded to 4 bytes; they end before the trailing length. */
    uint32_t at = 16, end = size - 4;
    while (end - at >= 4) {
        uint16_t code = get16(c, h + at), len = get16(c, h + at + 2);
        uint32_t padded = (len + 3u) / 4 * 4;
        at += 4;
        if (code == 0)
            break;
        if (padded > end - at)
            return ng_corrupt(c, NG_INTERFACE, offset(c) + at - 2, "an option's length", len,
                              error);
        if (code == 9 && len == 1)
            interface->tsresol = h[at];
        if (code == 14 && len == 8) {
            uint64_t hi = get32(c, h + at), lo = get32(c, h + at + 4);
            interface->tsoffset = (int64_t)(c->swapped ? hi << 32 | lo : lo << 32 | hi);
        }
        at += padded;
    }
    uint8_t resolution = interface->tsresol;
    if (resolution & 0x80 ? (resolution & 0x7f) > 20 : resolution > 6)
        c->nanoseconds = true;
    return 0;
}

struct ng_packet {
    uint32_t interface;
    uint32_t body; /* offset from the block's start */
    uint32_t cap_len, wire_len;
    uint64_t units;
    bool timed;
};

enum { NG_PACKET_HEADER = 28, NG_SIMPLE_HEADER = 12 };

static void ng_packet_header(const struct oko_capture *c, uint32_t type, const uint8_t *h,
                             struct ng_packet *p)
{
    if (type == NG_SIMPLE) {
        *p = (struct ng_packet){.body = NG_SIMPLE_HEADER, .wire_len = get32(c, h + 8)};
        uint32_t snaplen = c->n_interfaces ? c->interfaces[0].snaplen : 0;
        p->cap_len = snaplen && snaplen < p->wire_len ? snaplen : p->wire_len;
        return;
    }
    *p = (struct ng_packet){
        .interface = type == NG_PACKET ? get16(c, h + 8) : get32(c, h + 8),
        .body = NG_PACKET_HEADER,
        .units = (uint64_t)get32(c, h + 12) << 32 | get32(c, h + 16),
        .cap_len = get32(c, h + 20),
        .wire_len = get32(c, h + 24),
        .timed = true,
    };
}

/* A packet block of which the header is in the window; whole = the rest is too. */
static int ng_packet(struct oko_capture *c, uint32_t type, const uint8_t *h, uint32_t size,
                     bool whole, struct oko_record *record, struct oko_error *error)
{
    struct ng_packet p;

    if (size < (type == NG_SIMPLE ? NG_SIMPLE_HEADER : NG_PACKET_HEADER) + 4u)
        return ng_corrupt(c, type, offset(c) + 4, "the length", size, error);
    ng_packet_header(c, type, h, &p);
    if (p.cap_len > size - p.body - 4)
        return ng_corrupt(c, type, offset(c) + 20, "the captured length", p.cap_len, error);
    if (p.interface >= c->n_interfaces)
        return ng_corrupt(c, type, offset(c) + 8, "the interface, which is not described,",
                          p.interface, error);
    const struct interface *interface = &c->interfaces[p.interface];
    if (!link_known(interface->link))
        return refuse_link(c, interface->link, offset(c), error);
    uint8_t *body = whole ? c->window + c->head + p.body : NULL;
    if (interface->link == LINK_ETHERNET && p.cap_len > OKO_FRAME_MAX)
        body = NULL;
    return deliver(c, interface->link, body, p.cap_len, p.wire_len,
                   p.timed ? ng_ns(interface, p.units) : c->last_ns, record);
}

static int ng_next(struct oko_capture *c, struct oko_record *record, struct oko_error *error)
{
    for (;;) {
        const uint8_t *h = need(c, NG_BLOCK_MIN);
        if (!h) {
            if (c->eof && c->have == c->head)
                return OKO_CAPTURE_END;
            return missing(c, "the block header", error);
        }
        /* A new section may change the byte order, so its magic comes before its length. */
        uint32_t type = get32(c, h);
        if (type == NG_SECTION) {
            if (!(h = need(c, 28)))
                return missing(c, "the section header", error);
            int err = ng_section(c, h, error);
            if (err)
                return err;
        }
        uint32_t size = get32(c, h + 4);
        if (size < (type == NG_SECTION ? 28 : NG_BLOCK_MIN) || size % 4)
            return ng_corrupt(c, type, offset(c) + 4, "the length", size, error);
        bool packet = type == NG_PACKET || type == NG_SIMPLE || type == NG_ENHANCED;

        /* 1. Too long to be looked at as a whole: skipped, unless it defines something. */
        if (size > BLOCK_MAX) {
            if (type == NG_SECTION || type == NG_INTERFACE)
                return ng_corrupt(c, type, offset(c) + 4, "the length", size, error);
            if (packet && !(h = need(c, NG_PACKET_HEADER)))
                return missing(c, "the block header", error);
            int result = packet ? ng_packet(c, type, h, size, false, record, error) : 0;
            if (result < 0)
                return result;
            uint32_t there = c->have - c->head;
            c->skip = size > there ? size - there : 0;
            c->head += size > there ? there : size;
            if (packet)
                return result;
            continue;
        }

        /* 2. The whole block, with the same length at its end. */
        if (!(h = need(c, size)))
            return missing(c, ng_name(type), error);
        uint32_t trailer = get32(c, h + size - 4);
        if (trailer != size)
            return ng_corrupt(c, type, offset(c) + size - 4, "the trailing length", trailer, error);
        int result = 0;
        if (type == NG_INTERFACE)
            result = ng_interface(c, h, size, error);
        else if (packet)
            result = ng_packet(c, type, h, size, true, record, error);
        if (result < 0)
            return result;
        c->head += size;
        if (packet)
            return result;
    }
}

/* ---------------------------------------------------------------- the stream */

/* Does read() return at once? A signal just before a read() that waits would be heard only after
 * it, so the waiting is done here, for WAIT_MS at a time. */
static bool is_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int n = poll(&one, 1, WAIT_MS);
    return n > 0 || (n < 0 && errno != EINTR);
}

int oko_capture_refill(struct oko_capture *c, struct oko_error *error)
{
    if (c->failed) {
        *error = c->error;
        return c->failed;
    }
    /* 1. What is left goes to the front; what is to be skipped is not kept. */
    uint32_t left = c->have - c->head;
    memmove(c->window, c->window + c->head, left);
    c->base += c->head;
    c->head = 0;
    c->have = left;

    /* 2. Read until the wanted bytes are there; more is welcome, as much as fits. */
    do {
        if (!is_readable(c->fd))
            return OKO_E_BUSY;
        ssize_t n = read(c->fd, c->window + c->have, c->size - c->have);
        if (n < 0 && errno == EINTR)
            return OKO_E_BUSY;
        if (n < 0) {
            int number = errno;
            fail(c, error, OKO_E_IO, "reading failed after byte %llu: %s",
                 (unsigned long long)(c->base + c->have), strerror(number));
            error->sys_errno = c->error.sys_errno = number;
            return OKO_E_IO;
        }
        if (n == 0) {
            c->eof = true;
            break;
        }
        c->have += (uint32_t)n;
        if (c->skip) { /* left is 0: a record that is skipped was consumed as far as it was there */
            uint64_t gone = c->skip < c->have ? c->skip : c->have;
            c->skip -= gone;
            c->base += gone;
            c->have -= (uint32_t)gone;
            memmove(c->window, c->window + gone, c->have);
        }
    } while (c->have < c->wanted);
    return 0;
}

int oko_capture_next(struct oko_capture *c, struct oko_record *record, struct oko_error *error)
{
    if (c->failed) {
        *error = c->error;
        return c->failed;
    }
    if (c->skip) {
        uint32_t there = c->have - c->head;
        uint32_t gone = c->skip < there ? (uint32_t)c->skip : there;
        c->skip -= gone;
        c->head += gone;
        if (c->skip && !c->eof) {
            c->wanted = 1;
            return OKO_CAPTURE_REFILL;
        }
        if (c->skip)
            return fail(c, error, OKO_E_FORMAT,
                        "cut off at byte %llu: the file ends %llu bytes before the end of packet "
                        "%llu",
                        (unsigned long long)offset(c), (unsigned long long)c->skip,
                        (unsigned long long)c->n_read);
    }
    return c->ng ? ng_next(c, record, error) : pcap_next(c, record, error);
}

static int recognise(struct oko_capture *c, struct oko_error *error)
{
    const uint8_t *h = need(c, 4);
    if (!h && c->have == 0)
        return fail(c, error, OKO_E_FORMAT, "the file is empty: expected a pcap or pcapng capture");
    uint32_t magic = h ? oko_be32(h) : 0;
    switch (magic) {
    case 0xa1b23c4d:
    case 0x4d3cb2a1:
        c->nanoseconds = true;
        /* fall through */
    case 0xa1b2c3d4:
    case 0xd4c3b2a1:
        c->swapped = magic >> 24 == 0xa1;
        return pcap_open(c, error);
    case NG_SECTION:
        c->ng = true;
        return 0;
    case 0xa1b2cd34:
    case 0x34cdb2a1:
        return fail(c, error, OKO_E_FORMAT,
                    "a modified pcap (Kuznetzov's, magic a1b2cd34): rewrite it with editcap");
    default:
        if (!h)
            return fail(c, error, OKO_E_FORMAT, "not a capture: only %u bytes", c->have);
        return fail(c, error, OKO_E_FORMAT,
                    "not a capture: starts with bytes %02x %02x %02x %02x, expected those of pcap "
                    "(d4 c3 b2 a1, 4d 3c b2 a1 or swapped) or pcapng (0a 0d 0d 0a)",
                    h[0], h[1], h[2], h[3]);
    }
}

int oko_capture_open(int fd, uint32_t chunk, struct oko_capture **capture, struct oko_error *error)
{
    struct oko_capture *c = calloc(1, sizeof *c);
    *error = (struct oko_error){.insn = -1};
    if (!c)
        return OKO_E_NOMEM;
    c->fd = fd;
    c->size = !chunk ? DEFAULT_CHUNK : chunk < MIN_CHUNK ? MIN_CHUNK : chunk;
    c->memory = aligned_alloc(64, (HEADROOM + (size_t)c->size + 63) / 64 * 64);
    if (!c->memory) {
        free(c);
        return OKO_E_NOMEM;
    }
    c->window = c->memory + HEADROOM;

    c->wanted = PCAP_HEADER;
    int err;
    do { /* bytes that were taken must not be lost with c */
        err = oko_capture_refill(c, error);
    } while (err == OKO_E_BUSY && c->have);
    if (!err)
        err = recognise(c, error);
    if (err) {
        oko_capture_close(c);
        return err;
    }
    *capture = c;
    return 0;
}

void oko_capture_close(struct oko_capture *c)
{
    if (!c)
        return;
    free(c->interfaces);
    free(c->memory);
    free(c);
}

void oko_capture_info(const struct oko_capture *c, struct oko_capture_info *info)
{
    *info = (struct oko_capture_info){.nanoseconds = c->nanoseconds, .consumed = offset(c)};
    snprintf(info->format, sizeof info->format, "%s", c->ng ? "pcapng" : "pcap");
    snprintf(info->adapted, sizeof info->adapted, "%s", c->adapted ? c->adapted : "");
}
