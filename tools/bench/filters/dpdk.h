/* The helpers and maps of bench.h for DPDK's rte_bpf, which knows no maps: they are external
 * variables and functions, and csrc/bench/peer_dpdk.c offers it those of native.h, with every size
 * a constant. So only calling them is DPDK's.
 *
 * Nearest forms: a program has one argument, the packet, of a length known beforehand, so tests of
 * the length vanish; IPv4 options are not allowed, because offsets that vary are refused; loops are
 * refused, so the payload's is unrolled. The clock is a function that returns the packet's time. */
#ifndef OKO_BENCH_DPDK_H
#define OKO_BENCH_DPDK_H

typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define FIXED_IHL 1

#define MAP(name, type_, key_, value_, entries_, hashes_)                                          \
    extern uint8_t name[1];                                                                        \
    extern void *name##_lookup(void *map, const void *key);                                        \
    extern int name##_update(void *map, const void *key, const void *value);                       \
    extern int name##_add(void *map, const void *item)
#define LOOKUP(map, key)        map##_lookup(map, key)
#define UPDATE(map, key, value) map##_update(map, key, value)
#define ADD(map, item)          map##_add(map, item)
#define NOW(meta)               clock_now()
#define ENTRY                   static inline __attribute__((always_inline)) uint64_t filter
#define FILLER(map)

struct oko_meta;
extern uint64_t clock_now(void);

struct packet {
    const uint8_t *data;
    uint64_t len;
    const struct oko_meta *meta;
};

#define BATCH(...)                                                                                 \
    __attribute__((section("filter"), used)) uint64_t entry(const uint8_t *data)                   \
    {                                                                                              \
        struct packet packet = {data, 64, 0}, *p = &packet;                                        \
        return filter(__VA_ARGS__);                                                                \
    }

#endif
