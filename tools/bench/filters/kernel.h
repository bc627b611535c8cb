/* The helpers and maps of bench.h for the kernel's own BPF, and the loop around the filter.
 *
 * One run of the program takes all packets, by bpf_loop: BPF_PROG_TEST_RUN once per packet would add
 * several ns. The packets lie in a global array, at the places that `place` tells, as the frames of
 * the other engines lie behind pointers: so filters with variable offsets pass the kernel's
 * verifier, which they would not with XDP's data and data_end.
 *
 * Nearest forms: hash and array maps are the kernel's own, preallocated; the Bloom filter is its
 * Bloom map; the count-min sketch, which it lacks, is BPF code over a global array; the clock is
 * bpf_ktime_get_ns(), or the packet's time with GIVEN_CLOCK, which is what oko's helper returns. */
#ifndef OKO_BENCH_KERNEL_H
#define OKO_BENCH_KERNEL_H

typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define INLINE    static inline __attribute__((always_inline))
#define SEC(name) __attribute__((section(name), used))

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
                                         uint64_t flags) = (void *)2;
static uint64_t (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_map_peek_elem)(void *map, void *value) = (void *)89;
static long (*const bpf_loop)(uint32_t n, void *callback, void *context, uint64_t flags) =
    (void *)181;

struct oko_meta {
    uint64_t rx_ns;
};

enum { ARRAY = 1, BLOOM = 2, COUNT_MIN = 3, HASH = 4 }; /* oko's numbers */
enum { KERNEL_HASH = 1, KERNEL_ARRAY = 2, KERNEL_BLOOM = 30 };

#define MAP(name, type_, key_, value_, entries_, hashes_) MAP_##type_(name, key_, value_, entries_)
#define MAP_1(name, key_, value_, entries_)                                                        \
    enum { name##_kind = ARRAY };                                                                  \
    struct {                                                                                       \
        int(*type)[KERNEL_ARRAY];                                                                  \
        int(*key_size)[key_];                                                                      \
        int(*value_size)[value_];                                                                  \
        int(*max_entries)[entries_];                                                               \
    } name SEC(".maps")
#define MAP_4(name, key_, value_, entries_)                                                        \
    enum { name##_kind = HASH };                                                                   \
    struct {                                                                                       \
        int(*type)[KERNEL_HASH];                                                                   \
        int(*key_size)[key_];                                                                      \
        int(*value_size)[value_];                                                                  \
        int(*max_entries)[entries_];                                                               \
    } name SEC(".maps")
/* The kernel makes 4 * entries * 7 / 5 bits of it, up to a power of two: as many as the filter asks
 * for. */
#define MAP_2(name, key_, value_, entries_)                                                        \
    enum { name##_kind = BLOOM };                                                                  \
    struct {                                                                                       \
        int(*type)[KERNEL_BLOOM];                                                                  \
        int(*value_size)[key_];                                                                    \
        int(*max_entries)[(entries_) / 4 * 5 / 7];                                                 \
        int(*map_extra)[4];                                                                        \
    } name SEC(".maps")
#define MAP_3(name, key_, value_, entries_)                                                        \
    enum { name##_kind = COUNT_MIN, name##_width = entries_ };                                     \
    uint32_t name[4][entries_]

INLINE void *kernel_lookup(void *map, int kind, const void *key)
{
    static uint32_t known;
    if (kind == BLOOM) {
        known = bpf_map_peek_elem(map, (void *)key) == 0;
        return &known;
    }
    return bpf_map_lookup_elem(map, key);
}

/* One hash of a 4-byte item, the four places by double hashing, as in oko. */
INLINE void kernel_count(uint32_t *rows, uint32_t width, uint32_t item)
{
    uint64_t h = (item ^ 0x13198a2e03707344ull) * 0x9e3779b97f4a7c15ull;
    h = (h ^ h >> 32) * 0xbf58476d1ce4e5b9ull;
    uint32_t h1 = (uint32_t)h, h2 = (uint32_t)(h >> 32) | 1;
    for (int i = 0; i < 4; i++, h1 += h2)
        rows[(uint32_t)i * width + (h1 & (width - 1))]++;
}

#define LOOKUP(map, key)        kernel_lookup(&map, map##_kind, key)
#define UPDATE(map, key, value) bpf_map_update_elem(&map, key, value, 0)
#define ADD(map, item)          kernel_count(map[0], map##_width, *(item))
#ifdef GIVEN_CLOCK
#define NOW(meta) ((meta)->rx_ns)
#else
#define NOW(meta) bpf_ktime_get_ns()
#endif
#define ENTRY static inline __attribute__((always_inline)) uint64_t filter
#define FILLER(map)

/* ---------------------------------------------------------------- all packets in one run */

#include "kernel_input.h"

struct kernel_input input;

struct packet {
    const uint8_t *data;
    uint64_t len;
    const struct oko_meta *meta;
};

#define BATCH(...)                                                                                 \
    static long each(uint32_t i, uint64_t *matched)                                                \
    {                                                                                              \
        i &= MAX_PACKETS - 1;                                                                      \
        const uint8_t *data = input.frames + (input.place[i] & (FRAME_SPACE - 1));                 \
        struct packet packet = {data, input.len, (const struct oko_meta *)&input.rx_ns[i]};        \
        struct packet *p = &packet;                                                                \
        *matched += filter(__VA_ARGS__) == 1;                                                      \
        return 0;                                                                                  \
    }                                                                                              \
    SEC("socket") int run(void *context)                                                           \
    {                                                                                              \
        uint64_t matched = 0;                                                                      \
        (void)context;                                                                             \
        bpf_loop((uint32_t)input.n_packets, each, &matched, 0);                                                    \
        return (int)matched;                                                                       \
    }                                                                                              \
    char terms[] SEC("license") = "Apache-2.0";

#endif
