/* The hash table under hash, LRU hash and per-worker hash: its layout, which the JIT inlines.
 *
 * Idea. n_buckets (a power of two, at least 2) buckets, each with a header of 16 bytes and four
 * slots. A key's home is one bucket; its four slots are the fixed probe window. The header holds a
 * 16-bit tag per slot, so one 8-byte load and a few register operations find the slot without a
 * branch per slot; for a 5-tuple (16 bytes and a value of 8) the header and the first two slots
 * share a cache line. Keys that find no room in their window go to a pool of overflow entries,
 * chained per home bucket; with at most two entries per bucket on average these are few (under 4
 * %), and counted.
 *
 * The table is preallocated and entries never move. The pool alone could hold max_entries, so an
 * insert fails for lack of room only at max_entries.
 *
 * ---- Lookup, step by step (what generated code repeats) ----
 *   1. w[0 .. key_words-1] = the key as little-endian 8-byte words, the last padded with zeroes.
 *   2. h      = oko_hash_words(&table->hash, w, key_words)             (base/hash.h; the upper 32
 *               bits are all that is used, so its last step may be left out)
 *   3. bucket = table->buckets + (h >> table->shift) * table->bucket_size
 *   4. tag    = (h >> 32 & 0xffff) | 1                                 (never 0: 0 is empty)
 *   5. x      = load64(bucket) ^ tag * 0x0001000100010001              (bucket->tags, slot 0
 * lowest) hits   = (x - 0x0001000100010001) & ~x & 0x8000800080008000     (bit 15 of lane i: slot
 * i)
 *   6. While hits != 0: lane = ctz(hits) / 16; slot = bucket + 16 + lane * slot_size;
 *      if the key_words words at slot equal w, found; else hits &= hits - 1.
 *      (Above a true hit there may be false ones; comparing the key settles it.)
 *   7. No slot: if bucket->chain == 0 the key is absent, else follow the chain (call the C lookup).
 * On a hit the value is at
 *      hash, LRU:        slot + table->value_off
 *      per-worker hash:  table->values + worker * table->worker_stride
 *                        + (bucket_index * 4 + lane) * table->value_stride
 * and an LRU table notes the use: place = load32(slot + table->place_off);
 *      if bit place % 64 of table->referenced[place / 64] is 0, set it (relaxed atomic or).
 * All these members, and the addresses, are constant while the map lives. All loads are relaxed
 * ones, but the tags' is an acquire (a plain load on x86).
 *
 * ---- Concurrency ----
 * Lookups take no lock. A writer holds its bucket's lock (an LRU table's: one lock). An insert
 * writes key and value into a slot whose tag is 0, then publishes the tag (release): who sees the
 * tag sees the key. A delete stores tag 0 (or unlinks the chain entry) and *retires* the slot:
 * readers may still compare its key or hold a pointer to its value, so its bytes stay as they are
 * until each worker has passed a quiescent point (qsbr.h). Hence a lookup never pairs key A with
 * value B. Should so many slots be waiting that there is no other, a worker takes one that it
 * retired itself once all *other* workers have passed; failing that too, the insert reports a full
 * map (it would take as many deletes as the table has entries within one burst of another worker).
 * An update of a present key overwrites the value in place, word by word, under the lock. A value
 * of one word, that a worker updates, needs no lock: one store is whole by itself, and should the
 * entry be deleted meanwhile, then the update came before that; its slot cannot become another's
 * while the worker runs. */
#ifndef OKO_BPF_MAP_HASH_H
#define OKO_BPF_MAP_HASH_H

#include "../base/hash.h"
#include "map.h"
#include "map_pool.h"

enum { OKO_HASH_WINDOW = 4 };
#define OKO_HASH_LANES     UINT64_C(0x0001000100010001)
#define OKO_HASH_LANE_TOPS UINT64_C(0x8000800080008000)

struct oko_hash_bucket {
    uint64_t tags;      /* four lanes of 16 bits, slot 0 in the lowest; 0 = empty */
    uint32_t chain;     /* link (map_pool.h) to the first overflow entry; 0 = none */
    uint8_t lock;       /* of writers */
    uint8_t retired;    /* slots deleted and not yet reusable; under the lock */
    uint8_t retired_by; /* the worker that retired all of these, or OKO_POOL_NOBODY */
    uint8_t unused;     /* but by tests of the JIT */
    /* then: slots[OKO_HASH_WINDOW] of slot_size bytes;
     * then: uint64_t epoch that has to pass before the retired slots are reusable */
};
_Static_assert(sizeof(struct oko_hash_bucket) == 16, "the JIT skips a header of 16 bytes");
_Static_assert(offsetof(struct oko_hash_bucket, tags) == 0, "the JIT loads the tags at 0");
_Static_assert(offsetof(struct oko_hash_bucket, chain) == 8, "the JIT tests the chain at 8");

/* An overflow entry; its slot follows. */
struct oko_hash_extra {
    struct oko_pool_entry pool;
    uint32_t next; /* in the chain: link, 0 = none. Atomic; kept when retired */
    uint16_t tag;
    uint16_t unused;
};
_Static_assert(sizeof(struct oko_hash_extra) % 8 == 0, "slots are 8-byte aligned");

struct oko_map_hash {
    struct oko_map map;
    /* Constant: what a lookup needs. */
    uint8_t *buckets;
    uint32_t shift; /* 64 - log2(n_buckets): 35..63 */
    uint32_t n_buckets;
    uint32_t bucket_size; /* bytes; a multiple of 64 */
    uint32_t slot_size;   /* bytes; a multiple of 8 */
    uint32_t key_words;   /* the key starts the slot */
    uint32_t value_off;   /* of the value in its slot; 0 in a per-worker hash */
    uint32_t place_off;   /* of the place (u32) in its slot; 0 unless LRU */
    uint32_t epoch_off;   /* of the epoch in its bucket */
    struct oko_hash_key hash;
    uint8_t *values;                    /* per-worker hash; else NULL */
    uint64_t value_stride;              /* bytes from slot number to slot number */
    uint64_t worker_stride;             /* bytes from worker to worker */
    uint64_t *referenced;               /* LRU: a bit per place; else NULL */
    struct oko_lru *lru;                /* map_lru.c; NULL unless LRU */
    uint64_t buckets_size, values_size; /* bytes */

    /* Written by writers. */
    _Alignas(64) uint32_t n_entries; /* atomic */
    uint32_t n_overflow;             /* atomic: entries in the pool */
    uint8_t table_lock;              /* of an LRU table, instead of the buckets' */
    struct oko_pool pool;            /* of struct oko_hash_extra */
};

static inline uint64_t oko_hash_tag(uint64_t h)
{
    return (h >> 32 & 0xffff) | 1;
}

/* Bits 15 of the lanes that may hold the tag: exact in the lowest one set. */
static inline uint64_t oko_hash_hits(uint64_t tags, uint64_t tag)
{
    uint64_t x = tags ^ tag * OKO_HASH_LANES;
    return (x - OKO_HASH_LANES) & ~x & OKO_HASH_LANE_TOPS;
}

/* ---------------------------------------------------------------- shared by the three types */

/* Where an entry is. number: bucket index * 4 + lane, and after all windows the pool's entries. */
struct oko_hash_at {
    uint8_t *slot; /* NULL: nowhere */
    uint64_t number;
};

/* A key as words, with its hash. */
struct oko_hash_probe {
    uint64_t w[OKO_MAX_KEY_SIZE / 8];
    uint64_t h;
};

void oko_hash_probe_init(const struct oko_map_hash *table, struct oko_hash_probe *probe,
                         const void *key);
struct oko_hash_at oko_hash_find(const struct oko_map_hash *table,
                                 const struct oko_hash_probe *probe);
/* The last step alone: the value of the key in the bucket's chain, or NULL. Not of a per-worker
 * table. For code that has looked into the window itself. */
void *oko_hash_chained(const struct oko_map_hash *table, const uint64_t *w,
                       const struct oko_hash_bucket *bucket);
/* Both in one, quick for keys of up to 24 bytes. */
struct oko_hash_at oko_hash_lookup(const struct oko_map_hash *table, const void *key);
/* An insert has three steps, under the lock and with room below max_entries: take a slot for the
 * absent key (the key is written, nobody sees it), fill its value, publish it. worker: who may
 * reuse, or OKO_POOL_NOBODY for the control side. NULL slot: none is reusable now. */
struct oko_hash_at oko_hash_take(struct oko_map_hash *table, const struct oko_hash_probe *probe,
                                 uint32_t worker);
/* value NULL: zeroes. A per-worker table gets the value for that worker and zeroes for the others;
 * for all when worker is OKO_POOL_NOBODY. */
void oko_hash_fill(struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker,
                   const void *value);
void oko_hash_publish(struct oko_map_hash *table, const struct oko_hash_probe *probe,
                      struct oko_hash_at at);
/* Overwrites the value of a present entry: one worker's, or all when OKO_POOL_NOBODY. */
void oko_hash_overwrite(struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker,
                        const void *value);
/* A worker's update without a lock, where that can be: the key is present and its value one word.
 * Else false. */
bool oko_hash_overwrite_word(struct oko_map_hash *table, const void *key, uint32_t worker,
                             const void *value, struct oko_hash_at *at);
/* Deletes a present key; the caller holds the lock. */
void oko_hash_remove(struct oko_map_hash *table, const struct oko_hash_probe *probe,
                     struct oko_hash_at at, uint32_t worker);
uint8_t *oko_hash_slot(const struct oko_map_hash *table, uint64_t number);
uint64_t *oko_hash_value(const struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker);
/* Of the writers of a bucket. */
uint8_t *oko_hash_lock(struct oko_map_hash *table, uint64_t index);
static inline uint64_t oko_hash_index(const struct oko_map_hash *table, uint64_t h)
{
    return h >> table->shift;
}

/* Any entry whose home is the bucket; the caller holds the lock. */
struct oko_hash_at oko_hash_first_in(const struct oko_map_hash *table, uint64_t index);
/* Counts one entry in, unless there are max_entries already. */
bool oko_hash_reserve(struct oko_map_hash *table);

/* Operations that are the same in all three; an LRU table's create adds its own part. */
int oko_hash_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                    struct oko_error *error);
void oko_hash_destroy(struct oko_map *map);
int oko_hash_get(struct oko_map *map, const uint8_t *key, uint8_t *value);
int64_t oko_hash_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max);
void oko_hash_info(struct oko_map *map, struct oko_map_info *info);
bool oko_hash_contains(const struct oko_map *map, const void *address, uint32_t width,
                       const struct oko_env *env);

#endif
