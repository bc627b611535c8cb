/* oko_bpf.h: everything a filter program needs; no system headers.
 *
 * A filter is one function
 *
 *     uint64_t entry(const void *pkt, uint64_t len);
 *     uint64_t entry(const void *pkt, uint64_t len, const struct oko_meta *meta);
 *
 * pkt is the first byte of the Ethernet header and len the number of bytes present. The result 1
 * means "match"; anything else, "no match". The packet cannot be written to, and every read of it
 * must be shown to lie before pkt + len. State lives in maps.
 *
 * Here: integer types, byte order, packet headers, the helper functions, the map definitions.
 * oko_parse.h adds functions that find the headers of a frame. docs/filters.md is the guide.
 *
 * Compiles with clang 13 and later, zig cc and gcc-bpf (-O1 or higher):
 *
 *     clang -O2 -g -target bpf -mcpu=v3 -c filter.c -o filter.o */
#ifndef OKO_BPF_H
#define OKO_BPF_H

/* ---------------------------------------------------------------- types and attributes */

#if !defined(_STDINT_H) && !defined(__CLANG_STDINT_H) && !defined(_GCC_STDINT_H)
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
#endif

/* What stands big-endian, as on the wire. Tools find these names through BTF, so that a map whose
 * key or value is made of them reads as ip:10.0.0.1 or be16:443 in dumps, and is filled so. */
typedef uint16_t oko_be16;
typedef uint32_t oko_be32;
typedef uint32_t oko_ip4;
typedef struct {
    uint32_t word[4];
} oko_ip6;

#ifndef NULL
#define NULL ((void *)0)
#endif

#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif

#ifndef SEC
#define SEC(name) __attribute__((section(name), used))
#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif

/* There is no C library. These become plain loads and stores when the size is a constant. */
#ifndef memcpy
#define memcpy(to, from, size) __builtin_memcpy((to), (from), (size))
#endif
#ifndef memset
#define memset(to, byte, size) __builtin_memset((to), (byte), (size))
#endif

/* ---------------------------------------------------------------- byte order */

/* BPF objects for oko are little-endian; packets are big-endian. */
#if defined(__clang__)
#define oko_swap16(x) __builtin_bswap16(x)
#define oko_swap32(x) __builtin_bswap32(x)
#define oko_swap64(x) __builtin_bswap64(x)
#else /* gcc-bpf 12 would call a library function that is not there */
#define OKO_SWAP(bits, x)                                                                          \
    ({                                                                                             \
        uint64_t oko_x = (x);                                                                      \
        __asm__("endbe\t%0, " #bits : "+r"(oko_x));                                                \
        oko_x;                                                                                     \
    })
#define oko_swap16(x) (__builtin_constant_p(x) ? __builtin_bswap16(x) : OKO_SWAP(16, x))
#define oko_swap32(x) (__builtin_constant_p(x) ? __builtin_bswap32(x) : OKO_SWAP(32, x))
#define oko_swap64(x) (__builtin_constant_p(x) ? __builtin_bswap64(x) : OKO_SWAP(64, x))
#endif

#ifndef bpf_ntohs
#define bpf_ntohs(x)       ((uint16_t)oko_swap16((uint16_t)(x)))
#define bpf_htons(x)       bpf_ntohs(x)
#define bpf_ntohl(x)       ((uint32_t)oko_swap32((uint32_t)(x)))
#define bpf_htonl(x)       bpf_ntohl(x)
#define bpf_be64_to_cpu(x) ((uint64_t)oko_swap64((uint64_t)(x)))
#define bpf_cpu_to_be64(x) bpf_be64_to_cpu(x)
#endif

/* ---------------------------------------------------------------- what the switch tells */

/* Third argument: what is known about the packet beside its bytes. Constant while the packet
 * passes through the tables. */
struct oko_meta {
    uint64_t rx_ns;  /* when it was received, ns; also what bpf_time_get_ns() returns */
    uint64_t tun_id; /* tunnel key, 0 if none */
    uint32_t in_port;
    uint32_t wire_len; /* bytes the frame had on the wire */
    uint32_t len;      /* bytes present: the second argument again */
    uint32_t reserved; /* 0 */
};

/* ---------------------------------------------------------------- packet headers */

/* Multi-byte fields are big-endian as on the wire: read them through bpf_ntohs() and bpf_ntohl(),
 * or compare them with bpf_htons() constants. Bytes that hold several fields have an accessor. */

#define OKO_ETH_P_IP     0x0800
#define OKO_ETH_P_ARP    0x0806
#define OKO_ETH_P_8021Q  0x8100 /* customer VLAN tag */
#define OKO_ETH_P_IPV6   0x86dd
#define OKO_ETH_P_8021AD 0x88a8 /* service VLAN tag */

struct oko_eth { /* IEEE 802.3 */
    uint8_t dst[6];
    uint8_t src[6];
    uint16_t type;
};

struct oko_vlan {  /* IEEE 802.1Q: what follows an EtherType of 0x8100 or 0x88a8 */
    uint16_t tci;  /* priority:3, drop eligible:1, VLAN id:12 */
    uint16_t type; /* EtherType of what follows */
};

struct oko_arp { /* RFC 826, for IPv4 over Ethernet */
    uint16_t hw_type;
    uint16_t proto_type;
    uint8_t hw_size;
    uint8_t proto_size;
    uint16_t op;
    uint8_t sender_hw[6];
    uint8_t sender_ip[4];
    uint8_t target_hw[6];
    uint8_t target_ip[4];
};

struct oko_ipv4 { /* RFC 791 */
    uint8_t version_ihl;
    uint8_t tos;
    uint16_t total_len;
    uint16_t id;
    uint16_t frag; /* flags:3, fragment offset:13 */
    uint8_t ttl;
    uint8_t proto;
    uint16_t checksum;
    oko_ip4 src;
    oko_ip4 dst;
};
#define OKO_IPV4_DF     0x4000 /* bits of bpf_ntohs(frag) */
#define OKO_IPV4_MF     0x2000 /* more fragments follow */
#define OKO_IPV4_OFFSET 0x1fff /* in units of 8 bytes */

struct oko_ipv6 { /* RFC 8200 */
    uint32_t version_class_flow;
    uint16_t payload_len;
    uint8_t next_header;
    uint8_t hop_limit;
    uint8_t src[16];
    uint8_t dst[16];
};

#define OKO_IPPROTO_ICMP   1
#define OKO_IPPROTO_TCP    6
#define OKO_IPPROTO_UDP    17
#define OKO_IPPROTO_ICMPV6 58
#define OKO_IPPROTO_SCTP   132

struct oko_tcp { /* RFC 9293 */
    uint16_t src;
    uint16_t dst;
    uint32_t seq;
    uint32_t ack;
    uint8_t data_offset; /* in the upper four bits, in units of 4 bytes */
    uint8_t flags;
    uint16_t window;
    uint16_t checksum;
    uint16_t urgent;
};
#define OKO_TCP_FIN 0x01
#define OKO_TCP_SYN 0x02
#define OKO_TCP_RST 0x04
#define OKO_TCP_PSH 0x08
#define OKO_TCP_ACK 0x10
#define OKO_TCP_URG 0x20

struct oko_udp { /* RFC 768 */
    uint16_t src;
    uint16_t dst;
    uint16_t len;
    uint16_t checksum;
};

struct oko_icmp { /* RFC 792, RFC 4443 */
    uint8_t type;
    uint8_t code;
    uint16_t checksum;
    uint32_t rest;
};

struct oko_dns { /* RFC 1035 section 4.1.1 */
    uint16_t id;
    uint16_t flags;
    uint16_t n_questions;
    uint16_t n_answers;
    uint16_t n_authority;
    uint16_t n_additional;
};

/* ---------------------------------------------------------------- helper functions */

/* The switch provides these under fixed numbers (those of Oko 2018). In all of them, a key, value
 * or item is a pointer to as many initialised bytes as the map's definition says. */
#if defined(__clang__)
#define OKO_HELPER(number, result, name, args)                                                     \
    __attribute__((unused)) static result(*const name) args = (void *)number
#else /* gcc-bpf calls no function pointer, even a constant one, but has an attribute for it */
#define OKO_HELPER(number, result, name, args)                                                     \
    extern result name args __attribute__((kernel_helper(number)))
#endif

/* The value of a key, to be read and written in place for the rest of this run; NULL when the map
 * does not have the key (test it: the verifier insists). A Bloom filter gives a pointer to a
 * read-only uint32_t 0 or 1, a count-min sketch one to its estimate; these are never NULL. */
OKO_HELPER(1, void *, bpf_map_lookup, (const void *map, const void *key));
/* Adds or replaces. 0, -4 when the map is full, -5 when an array has no such index. */
OKO_HELPER(2, int, bpf_map_update, (const void *map, const void *key, const void *value));
/* Removes. 0, or -4 when the key is absent. */
OKO_HELPER(3, int, bpf_map_delete, (const void *map, const void *key));
/* Adds an item to a Bloom filter, or 1 to its count in a count-min sketch. */
OKO_HELPER(4, int, bpf_map_add, (const void *map, const void *item));
/* The datapath clock, ns: when this packet was received. */
OKO_HELPER(5, uint64_t, bpf_time_get_ns, (void));
/* Bob Jenkins's lookup3 hashlittle() with seed 0 over size bytes. */
OKO_HELPER(6, uint32_t, bpf_hash, (const void *item, uint64_t size));
/* To the switch's log, rate-limited; up to three numbers, the format in read-only data. */
OKO_HELPER(7, int, bpf_printf, (const char *format, ...));

/* ---------------------------------------------------------------- maps */

/* BTF style, as libbpf's: preferred, because tools then know the types of keys and values. Needs
 * -g. The type numbers are the kernel's (count-min, which the kernel lacks, is ours):
 *
 *     struct {
 *         __uint(type, BPF_MAP_TYPE_HASH);
 *         __type(key, uint32_t);
 *         __type(value, uint64_t);
 *         __uint(max_entries, 1024);
 *     } counters SEC(".maps");
 *
 * Sketches hold items of the key's type and have no value; map_extra is the number of hash
 * functions (Bloom) or rows (count-min), max_entries the number of bits or of counters a row:
 *
 *     struct {
 *         __uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
 *         __type(key, struct probe);
 *         __uint(max_entries, 1 << 20);
 *         __uint(map_extra, 4);
 *     } seen SEC(".maps"); */
#ifndef __uint
#define __uint(name, number) int(*name)[number]
#define __type(name, t)      t *name
#endif

#define BPF_MAP_TYPE_HASH         1
#define BPF_MAP_TYPE_ARRAY        2
#define BPF_MAP_TYPE_PERCPU_HASH  5  /* one table per forwarding thread */
#define BPF_MAP_TYPE_PERCPU_ARRAY 6  /* one array per forwarding thread */
#define BPF_MAP_TYPE_LRU_HASH     9  /* when full, an entry not used lately makes room */
#define BPF_MAP_TYPE_LPM_TRIE     11 /* longest prefix: the key begins with a u32, its length */
#define BPF_MAP_TYPE_BLOOM_FILTER 30
#define BPF_MAP_TYPE_COUNT_MIN    0x4F01

/* Oko's style: no debug information needed. Sizes in bytes, Oko's type numbers.
 *
 *     struct ubpf_map_def blocked SEC("maps") = {
 *         .type = UBPF_MAP_TYPE_HASH,
 *         .key_size = 4, .value_size = 4, .max_entries = 1024,
 *     }; */
struct ubpf_map_def {
    uint32_t type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t nb_hash_functions; /* Bloom: hash functions; count-min: rows; else 0 */
};

#define UBPF_MAP_TYPE_ARRAY        1
#define UBPF_MAP_TYPE_BLOOM        2
#define UBPF_MAP_TYPE_COUNT_MIN    3
#define UBPF_MAP_TYPE_HASH         4
#define UBPF_MAP_TYPE_LRU_HASH     5
#define UBPF_MAP_TYPE_LPM_TRIE     6
#define UBPF_MAP_TYPE_WORKER_ARRAY 7
#define UBPF_MAP_TYPE_WORKER_HASH  8

#endif
