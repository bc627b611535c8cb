/* The maps of bench.h as a C programmer would write them for one filter: inline, every size a
 * constant, single-threaded, no quota, never full. Open addressing with the same hash as oko's. */
#ifndef OKO_BENCH_NATIVE_H
#define OKO_BENCH_NATIVE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct oko_meta {
    uint64_t rx_ns, tun_id;
    uint32_t in_port, wire_len, len, reserved;
};

struct prog_in {
    const uint8_t *data;
    uint64_t len;
    const struct oko_meta *meta;
};

#define INLINE static inline __attribute__((always_inline))

INLINE void *native_lookup(uint8_t *memory, unsigned type, unsigned key_size, unsigned value_size,
                           unsigned entries, unsigned hashes, const void *key);
INLINE int native_update(uint8_t *memory, unsigned type, unsigned key_size, unsigned value_size,
                         unsigned entries, unsigned hashes, const void *key, const void *value);
INLINE int native_add(uint8_t *memory, unsigned type, unsigned key_size, unsigned value_size,
                      unsigned entries, unsigned hashes, const void *item);

/* type: oko's numbers. */
#define SIZES(name, type_, key_, value_, entries_, hashes_)                                        \
    enum {                                                                                         \
        name##_type = type_,                                                                       \
        name##_key = key_,                                                                         \
        name##_value = value_,                                                                     \
        name##_entries = entries_,                                                                 \
        name##_hashes = hashes_                                                                    \
    }
#ifdef DPDK_MAPS
/* The functions that DPDK's programs call, made known to csrc/bench/peer_dpdk.c at start. */
struct dpdk_map {
    const char *filter, *name;
    uint64_t key, value;
    uint64_t (*lookup)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
    uint64_t (*update)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
    uint64_t (*add)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
};
void oko_peer_dpdk_map(const struct dpdk_map *map);
#define TEXT2(name) #name
#define TEXT(name)  TEXT2(name)
#define MAP(name, type_, key_, value_, entries_, hashes_)                                          \
    SIZES(name, type_, key_, value_, entries_, hashes_);                                           \
    static uint8_t *name##_memory;                                                                 \
    static uint64_t name##_f_lookup(uint64_t map, uint64_t key, uint64_t c, uint64_t d,            \
                                    uint64_t e)                                                    \
    {                                                                                              \
        (void)c, (void)d, (void)e;                                                                 \
        return (uint64_t)native_lookup((uint8_t *)map, type_, key_, value_, entries_, hashes_,     \
                                       (const void *)key);                                         \
    }                                                                                              \
    static uint64_t name##_f_update(uint64_t map, uint64_t key, uint64_t value, uint64_t d,        \
                                    uint64_t e)                                                    \
    {                                                                                              \
        (void)d, (void)e;                                                                          \
        return (uint64_t)native_update((uint8_t *)map, type_, key_, value_, entries_, hashes_,     \
                                       (const void *)key, (const void *)value);                    \
    }                                                                                              \
    static uint64_t name##_f_add(uint64_t map, uint64_t item, uint64_t c, uint64_t d, uint64_t e)  \
    {                                                                                              \
        (void)c, (void)d, (void)e;                                                                 \
        return (uint64_t)native_add((uint8_t *)map, type_, key_, value_, entries_, hashes_,        \
                                    (const void *)item);                                           \
    }                                                                                              \
    static __attribute__((constructor)) void name##_announce(void)                                 \
    {                                                                                              \
        static const struct dpdk_map map = {                                                       \
            TEXT(NAME), #name,           key_,           (value_) ? (value_) : 4,                  \
            name##_f_lookup, name##_f_update, name##_f_add};                                       \
        oko_peer_dpdk_map(&map);                                                                   \
    }                                                                                              \
    struct dpdk_map
#else
#define MAP(name, type_, key_, value_, entries_, hashes_)                                          \
    SIZES(name, type_, key_, value_, entries_, hashes_);                                           \
    static uint8_t *name##_memory;                                                                 \
    static __attribute__((constructor)) void name##_make(void)                                     \
    {                                                                                              \
        name##_memory = mmap(NULL, 1 << 26, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,   \
                             -1, 0);                                                               \
    }
#endif
#define ARGS(map)               map##_memory, map##_type, map##_key, map##_value, map##_entries, map##_hashes
#define LOOKUP(map, key)        native_lookup(ARGS(map), key)
#define UPDATE(map, key, value) native_update(ARGS(map), key, value)
#define ADD(map, item)          native_add(ARGS(map), item)
#define NOW(meta)               ((meta)->rx_ns)

INLINE uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide p = (wide)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

INLINE uint64_t hash_of(const uint8_t *key, unsigned size)
{
    uint64_t h = 0x243f6a8885a308d3u;
    unsigned i = 0;
    for (; i + 16 <= size; i += 16) {
        uint64_t w[2];
        memcpy(w, key + i, 16);
        h = fold(w[0] ^ h, w[1] ^ 0x13198a2e03707344u);
    }
    for (; i < size; i += 8) {
        uint64_t w = 0;
        memcpy(&w, key + i, size - i < 8 ? size - i : 8);
        h = fold(w ^ h, 0xa4093822299f31d1u);
    }
    return h;
}

enum { ARRAY = 1, BLOOM = 2, COUNT_MIN = 3, HASH = 4 };

/* A slot of a hash table: tag (0: free), key, value; at twice the entries. */
#define SLOT(key, value) ((8 + ((key) + 7u) / 8 * 8 + ((value) + 7u) / 8 * 8 + 15u) & ~15u)

INLINE uint8_t *hash_slot(uint8_t *memory, unsigned key_size, unsigned value_size, unsigned entries,
                          const uint8_t *key, uint64_t h)
{
    uint64_t mask = 2ull * entries - 1;
    for (uint64_t i = h & mask;; i = (i + 1) & mask) {
        uint8_t *slot = memory + i * SLOT(key_size, value_size);
        uint64_t tag;
        memcpy(&tag, slot, 8);
        if (tag == 0 || (tag == (h | 1) && !memcmp(slot + 8, key, key_size)))
            return slot;
    }
}

INLINE void *native_lookup(uint8_t *memory, unsigned type, unsigned key_size, unsigned value_size,
                           unsigned entries, unsigned hashes, const void *key)
{
    if (type == ARRAY) {
        uint32_t i;
        memcpy(&i, key, 4);
        return i < entries ? memory + (size_t)i * value_size : NULL;
    }
    uint64_t h = hash_of(key, key_size);
    if (type == HASH) {
        uint8_t *slot = hash_slot(memory, key_size, value_size, entries, key, h);
        uint64_t tag;
        memcpy(&tag, slot, 8);
        return tag ? slot + 8 + (key_size + 7u) / 8 * 8 : NULL;
    }
    static uint32_t result;
    uint32_t h1 = (uint32_t)h, h2 = (uint32_t)(h >> 32) | 1;
    if (type == BLOOM) {
        uint32_t all = 1;
        for (unsigned i = 0; i < hashes; i++, h1 += h2) {
            uint32_t bit = h1 & (entries - 1);
            all &= memory[bit / 8] >> bit % 8 & 1u;
        }
        result = all;
    } else {
        result = UINT32_MAX;
        for (unsigned i = 0; i < hashes; i++, h1 += h2) {
            uint32_t *c = (uint32_t *)memory + (size_t)i * entries + (h1 & (entries - 1));
            result = *c < result ? *c : result;
        }
    }
    return &result;
}

INLINE int native_update(uint8_t *memory, unsigned type, unsigned key_size, unsigned value_size,
                         unsigned entries, unsigned hashes, const void *key, const void *value)
{
    (void)hashes;
    if (type == ARRAY) {
        uint32_t i;
        memcpy(&i, key, 4);
        memcpy(memory + (size_t)i * value_size, value, value_size);
        return 0;
    }
    uint64_t h = hash_of(key, key_size), tag = h | 1;
    uint8_t *slot = hash_slot(memory, key_size, value_size, entries, key, h);
    memcpy(slot, &tag, 8);
    memcpy(slot + 8, key, key_size);
    memcpy(slot + 8 + (key_size + 7u) / 8 * 8, value, value_size);
    return 0;
}

INLINE int native_add(uint8_t *memory, unsigned type, unsigned key_size, unsigned value_size,
                      unsigned entries, unsigned hashes, const void *item)
{
    (void)value_size;
    uint64_t h = hash_of(item, key_size);
    uint32_t h1 = (uint32_t)h, h2 = (uint32_t)(h >> 32) | 1;
    for (unsigned i = 0; i < hashes; i++, h1 += h2) {
        if (type == BLOOM) {
            uint32_t bit = h1 & (entries - 1);
            memory[bit / 8] |= (uint8_t)(1u << bit % 8);
        } else {
            ((uint32_t *)memory)[(size_t)i * entries + (h1 & (entries - 1))]++;
        }
    }
    return 0;
}

/* What the benchmark links with, per filter NAME: the filter, the same over a batch with it inlined
 * into the loop, and filling of its first map. */
#define JOIN2(a, b) a##b
#define JOIN(a, b)  JOIN2(a, b)
#ifdef DPDK_MAPS
/* Only the maps, as functions for DPDK's programs; see csrc/bench/peer_dpdk.c. */
#define ENTRY static __attribute__((unused)) uint64_t JOIN(filter_, NAME)
#define FILLER(map)
#define BATCH(...)
#else
#define ENTRY uint64_t JOIN(filter_, NAME)
#define FILLER(map)                                                                                \
    void JOIN(fill_, NAME)(const void *key, const void *value);                                    \
    void JOIN(fill_, NAME)(const void *key, const void *value)                                     \
    {                                                                                              \
        UPDATE(map, key, value);                                                                   \
    }
#define BATCH(...)                                                                                 \
    uint64_t JOIN(batch_, NAME)(const struct prog_in *in, uint64_t todo);                          \
    uint64_t JOIN(batch_, NAME)(const struct prog_in *in, uint64_t todo)                           \
    {                                                                                              \
        uint64_t matched = 0;                                                                      \
        for (; todo; todo &= todo - 1) {                                                           \
            const struct prog_in *p = &in[__builtin_ctzll(todo)];                                  \
            matched |= (uint64_t)(JOIN(filter_, NAME)(__VA_ARGS__) == 1) << __builtin_ctzll(todo);               \
        }                                                                                          \
        return matched;                                                                            \
    }
#endif

#endif
