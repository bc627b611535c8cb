/* Hash and per-worker hash, and the table under LRU; see map_hash.h for layout and concurrency. */
#include "map_hash.h"

#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "../qsbr.h"
#include "map_types.h"
#include "vm.h"

#include <stdlib.h>

enum { ENTRIES_PER_BUCKET = 2 }; /* at most, on average: half of the window */

static struct oko_map_hash *table_of(struct oko_map *map)
{
    return (struct oko_map_hash *)map;
}

/* ---------------------------------------------------------------- geometry */

struct geometry {
    uint32_t key_words, value_words; /* value_words: in the slot */
    uint32_t slot_size, bucket_size, extra_size, n_pool;
    uint64_t n_buckets, value_stride, worker_stride;
    uint64_t buckets_size, values_size;
};

static struct geometry geometry_of(const struct oko_map_spec *spec, uint32_t n_workers)
{
    struct geometry g = {0};
    bool per_worker = spec->type == OKO_MAP_WORKER_HASH;
    bool lru = spec->type == OKO_MAP_LRU_HASH;
    g.key_words = (spec->key_size + 7) / 8;
    g.value_words = per_worker ? 0 : (spec->value_size + 7) / 8;
    g.slot_size = (g.key_words + g.value_words + (lru ? 1 : 0)) * 8;
    g.bucket_size = (uint32_t)oko_round_up(sizeof(struct oko_hash_bucket) +
                                               OKO_HASH_WINDOW * g.slot_size + sizeof(uint64_t),
                                           OKO_CACHE_LINE);
    g.n_buckets =
        oko_pow2_at_least((spec->max_entries + ENTRIES_PER_BUCKET - 1) / ENTRIES_PER_BUCKET);
    g.n_buckets = g.n_buckets < 2 ? 2 : g.n_buckets; /* no shift by 64 */
    g.extra_size = (uint32_t)sizeof(struct oko_hash_extra) + g.slot_size;
    g.n_pool = oko_pool_n_entries(spec->max_entries, n_workers);
    g.buckets_size = oko_size_mul(g.n_buckets, g.bucket_size);
    if (per_worker) {
        g.value_stride = oko_round_up(spec->value_size, 8);
        uint64_t n_slots = g.n_buckets * OKO_HASH_WINDOW + g.n_pool;
        uint64_t values = oko_size_mul(n_slots, g.value_stride);
        g.worker_stride = values > UINT64_MAX / 2 ? values : oko_round_up(values, OKO_CACHE_LINE);
        g.values_size = oko_size_mul(g.worker_stride, n_workers);
    }
    return g;
}

uint64_t oko_map_hash_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    struct geometry g = geometry_of(spec, n_workers);
    uint64_t size = oko_size_add(g.buckets_size, g.values_size);
    size = oko_size_add(size, oko_pool_size(g.n_pool, g.extra_size));
    if (spec->type == OKO_MAP_LRU_HASH) /* place -> slot number, free places, referenced bits */
        size = oko_size_add(size, oko_size_mul(spec->max_entries, 8 + 4 + 1));
    return oko_size_add(size, sizeof(struct oko_map_hash));
}

static uint64_t n_windows(const struct oko_map_hash *table)
{
    return (uint64_t)table->n_buckets * OKO_HASH_WINDOW;
}

static struct oko_hash_bucket *bucket_at(const struct oko_map_hash *table, uint64_t index)
{
    return (struct oko_hash_bucket *)(table->buckets + index * table->bucket_size);
}

static struct oko_hash_bucket *home_of(const struct oko_map_hash *table, uint64_t h)
{
    return bucket_at(table, oko_hash_index(table, h));
}

static uint64_t *epoch_of(const struct oko_map_hash *table, struct oko_hash_bucket *bucket)
{
    return (uint64_t *)((uint8_t *)bucket + table->epoch_off);
}

static uint8_t *lane_slot(const struct oko_map_hash *table, struct oko_hash_bucket *bucket,
                          uint32_t lane)
{
    return (uint8_t *)(bucket + 1) + lane * table->slot_size;
}

static struct oko_hash_extra *extra_at(const struct oko_map_hash *table, uint32_t link)
{
    return oko_pool_at(&table->pool, link);
}

uint8_t *oko_hash_slot(const struct oko_map_hash *table, uint64_t number)
{
    if (number < n_windows(table))
        return lane_slot(table, bucket_at(table, number / OKO_HASH_WINDOW),
                         number % OKO_HASH_WINDOW);
    return (uint8_t *)(extra_at(table, (uint32_t)(number - n_windows(table)) + 1) + 1);
}

uint64_t *oko_hash_value(const struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker)
{
    if (table->values == NULL)
        return (uint64_t *)(at.slot + table->value_off);
    return (uint64_t *)(table->values + worker * table->worker_stride +
                        at.number * table->value_stride);
}

uint8_t *oko_hash_lock(struct oko_map_hash *table, uint64_t index)
{
    return table->lru != NULL ? &table->table_lock : &bucket_at(table, index)->lock;
}

/* ---------------------------------------------------------------- life */

int oko_hash_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                    struct oko_error *error)
{
    struct geometry g = geometry_of(spec, vm->n_workers);
    struct oko_map_hash *table = oko_alloc(sizeof(*table));
    if (table == NULL)
        return oko_err(error, OKO_E_NOMEM, "map %.63s: out of memory", spec->name);
    table->buckets_size = g.buckets_size;
    table->values_size = g.values_size;
    table->buckets = oko_alloc(g.buckets_size);
    table->values = g.values_size != 0 ? oko_alloc(g.values_size) : NULL;
    int status = oko_pool_init(&table->pool, vm->qsbr, g.n_pool, g.extra_size);
    if (table->buckets == NULL || status != 0 || (g.values_size != 0 && table->values == NULL)) {
        oko_hash_destroy(&table->map);
        return oko_err(error, OKO_E_NOMEM, "map %.63s: out of memory", spec->name);
    }
    table->n_buckets = (uint32_t)g.n_buckets;
    table->shift = (uint32_t)(64 - __builtin_ctzll(g.n_buckets));
    table->bucket_size = g.bucket_size;
    table->slot_size = g.slot_size;
    table->key_words = g.key_words;
    table->value_off = table->values == NULL ? g.key_words * 8 : 0;
    table->place_off = spec->type == OKO_MAP_LRU_HASH ? (g.key_words + g.value_words) * 8 : 0;
    table->epoch_off = (uint32_t)sizeof(struct oko_hash_bucket) + OKO_HASH_WINDOW * g.slot_size;
    table->hash = vm->hash_key;
    table->value_stride = g.value_stride;
    table->worker_stride = g.worker_stride;
    *map = &table->map;
    return 0;
}

void oko_hash_destroy(struct oko_map *map)
{
    struct oko_map_hash *table = table_of(map);
    oko_release(table->buckets, table->buckets_size);
    oko_release(table->values, table->values_size);
    oko_pool_destroy(&table->pool);
    oko_release(table, sizeof(*table));
}

/* ---------------------------------------------------------------- lookup */

void oko_hash_probe_init(const struct oko_map_hash *table, struct oko_hash_probe *probe,
                         const void *key)
{
    oko_words_put(probe->w, key, table->map.spec.key_size);
    probe->h = table->key_words == 2 ? oko_hash_words(&table->hash, probe->w, 2)
                                     : oko_hash_words(&table->hash, probe->w, table->key_words);
}

/* Slots' keys do not change while a reader may look at them, so these are plain reads. */
static inline bool key_equal(const uint8_t *slot, const uint64_t *w, uint32_t n_words)
{
    const uint64_t *key = (const uint64_t *)slot;
    uint64_t differs = 0;
    for (uint32_t i = 0; i < n_words; i++)
        differs |= key[i] ^ w[i];
    return differs == 0;
}

static struct oko_hash_at find_in_chain(const struct oko_map_hash *table, uint32_t link, uint64_t h,
                                        const uint64_t *w)
{
    while (link != 0) {
        struct oko_hash_extra *extra = extra_at(table, link);
        if (extra->tag == (uint16_t)oko_hash_tag(h) &&
            key_equal((uint8_t *)(extra + 1), w, table->key_words))
            return (struct oko_hash_at){(uint8_t *)(extra + 1), n_windows(table) + link - 1};
        link = OKO_LOAD_ACQUIRE(&extra->next);
    }
    return (struct oko_hash_at){NULL, 0};
}

void *oko_hash_chained(const struct oko_map_hash *table, const uint64_t *w,
                       const struct oko_hash_bucket *bucket)
{
    for (uint32_t link = OKO_LOAD_ACQUIRE(&bucket->chain); link != 0;) {
        struct oko_hash_extra *extra = extra_at(table, link);
        uint8_t *slot = (uint8_t *)(extra + 1);
        if (key_equal(slot, w, table->key_words))
            return slot + table->value_off;
        link = OKO_LOAD_ACQUIRE(&extra->next);
    }
    return NULL;
}

/* n_words is table->key_words, as a constant where the caller has one. */
static inline __attribute__((always_inline)) struct oko_hash_at
find(const struct oko_map_hash *table, uint64_t h, const uint64_t *w, uint32_t n_words)
{
    uint64_t index = oko_hash_index(table, h);
    struct oko_hash_bucket *bucket = bucket_at(table, index);
    uint64_t hits = oko_hash_hits(OKO_LOAD_ACQUIRE(&bucket->tags), oko_hash_tag(h));
    for (; hits != 0; hits &= hits - 1) {
        uint32_t lane = (uint32_t)__builtin_ctzll(hits) / 16;
        uint8_t *slot = lane_slot(table, bucket, lane);
        if (key_equal(slot, w, n_words))
            return (struct oko_hash_at){slot, index * OKO_HASH_WINDOW + lane};
    }
    uint32_t chain = OKO_LOAD_ACQUIRE(&bucket->chain);
    return chain == 0 ? (struct oko_hash_at){NULL, 0} : find_in_chain(table, chain, h, w);
}

struct oko_hash_at oko_hash_find(const struct oko_map_hash *table,
                                 const struct oko_hash_probe *probe)
{
    return table->key_words == 2 ? find(table, probe->h, probe->w, 2)
                                 : find(table, probe->h, probe->w, table->key_words);
}

/* A key of so many words, a constant: no loops are left. */
static inline __attribute__((always_inline)) struct oko_hash_at
find_short(const struct oko_map_hash *table, const uint8_t *key, uint32_t n_words)
{
    uint64_t w[3];
    uint32_t rest = table->map.spec.key_size - (n_words - 1) * 8;
    for (uint32_t i = 0; i + 1 < n_words; i++)
        w[i] = oko_shared_load64(key + i * 8);
    w[n_words - 1] = oko_word_part(key + (n_words - 1) * 8, rest);
    return find(table, oko_hash_words(&table->hash, w, n_words), w, n_words);
}

/* A function of its own, so that short keys need no room for a long one. */
static __attribute__((noinline)) struct oko_hash_at find_long(const struct oko_map_hash *table,
                                                              const void *key)
{
    struct oko_hash_probe probe;
    oko_hash_probe_init(table, &probe, key);
    return oko_hash_find(table, &probe);
}

static inline __attribute__((always_inline)) struct oko_hash_at
find_key(const struct oko_map_hash *table, const void *key)
{
    switch (table->key_words) {
    case 1:
        return find_short(table, key, 1);
    case 2:
        return find_short(table, key, 2);
    case 3:
        return find_short(table, key, 3);
    default:
        return find_long(table, key);
    }
}

struct oko_hash_at oko_hash_lookup(const struct oko_map_hash *table, const void *key)
{
    return find_key(table, key);
}

/* ---------------------------------------------------------------- slots: take, retire */

/* A lane of the window that is free, or -1. */
static int take_lane(struct oko_map_hash *table, struct oko_hash_bucket *bucket, uint32_t worker,
                     bool own)
{
    uint64_t tags = OKO_LOAD(&bucket->tags);
    if (bucket->retired != 0 && oko_pool_reusable(table->pool.qsbr, *epoch_of(table, bucket),
                                                  bucket->retired_by, worker, own))
        bucket->retired = 0;
    uint32_t unused = 0; /* a bit per lane: which it is, no branch can foresee */
    for (uint32_t lane = 0; lane < OKO_HASH_WINDOW; lane++)
        unused |= (uint32_t)((tags >> 16 * lane & 0xffff) == 0) << lane;
    unused &= ~(uint32_t)bucket->retired;
    return unused != 0 ? __builtin_ctz(unused) : -1;
}

struct oko_hash_at oko_hash_take(struct oko_map_hash *table, const struct oko_hash_probe *probe,
                                 uint32_t worker)
{
    uint64_t index = oko_hash_index(table, probe->h);
    struct oko_hash_bucket *bucket = bucket_at(table, index);
    struct oko_hash_at at = {NULL, 0};
    for (int own = 0; own <= (worker != OKO_POOL_NOBODY) && at.slot == NULL; own++) {
        int lane = take_lane(table, bucket, worker, own != 0);
        if (lane >= 0) {
            at.number = index * OKO_HASH_WINDOW + (uint64_t)lane;
            at.slot = lane_slot(table, bucket, (uint32_t)lane);
            break;
        }
        uint32_t link = oko_pool_take(&table->pool, worker, own != 0);
        if (link != 0) {
            at.number = n_windows(table) + link - 1;
            at.slot = (uint8_t *)(extra_at(table, link) + 1);
        }
    }
    if (at.slot != NULL)
        memcpy(at.slot, probe->w, table->key_words * sizeof(uint64_t));
    return at;
}

void oko_hash_publish(struct oko_map_hash *table, const struct oko_hash_probe *probe,
                      struct oko_hash_at at)
{
    struct oko_hash_bucket *bucket = home_of(table, probe->h);
    uint64_t tag = oko_hash_tag(probe->h);
    if (at.number < n_windows(table)) {
        uint64_t tags = OKO_LOAD(&bucket->tags);
        OKO_STORE_RELEASE(&bucket->tags, tags | tag << 16 * (at.number % OKO_HASH_WINDOW));
        return;
    }
    uint32_t link = (uint32_t)(at.number - n_windows(table)) + 1;
    struct oko_hash_extra *extra = extra_at(table, link);
    extra->tag = (uint16_t)tag;
    OKO_STORE(&extra->next, OKO_LOAD(&bucket->chain));
    OKO_STORE_RELEASE(&bucket->chain, link);
    __atomic_add_fetch(&table->n_overflow, 1, __ATOMIC_RELAXED);
}

static void retire_lane(struct oko_map_hash *table, struct oko_hash_bucket *bucket, uint32_t lane,
                        uint32_t worker)
{
    uint64_t tags = OKO_LOAD(&bucket->tags);
    OKO_STORE_RELEASE(&bucket->tags, tags & ~((uint64_t)0xffff << 16 * lane));
    bucket->retired_by =
        bucket->retired == 0 || bucket->retired_by == worker ? (uint8_t)worker : OKO_POOL_NOBODY;
    bucket->retired |= (uint8_t)(1u << lane);
    *epoch_of(table, bucket) = oko_qsbr_start(table->map.vm->qsbr);
}

static void retire_extra(struct oko_map_hash *table, struct oko_hash_bucket *bucket, uint32_t link,
                         uint32_t worker)
{
    struct oko_hash_extra *extra = extra_at(table, link);
    uint32_t *from = &bucket->chain;
    while (OKO_LOAD(from) != link)
        from = &extra_at(table, OKO_LOAD(from))->next;
    OKO_STORE_RELEASE(from, OKO_LOAD(&extra->next));
    __atomic_sub_fetch(&table->n_overflow, 1, __ATOMIC_RELAXED);
    oko_pool_retire(&table->pool, link, worker);
}

void oko_hash_remove(struct oko_map_hash *table, const struct oko_hash_probe *probe,
                     struct oko_hash_at at, uint32_t worker)
{
    struct oko_hash_bucket *bucket = home_of(table, probe->h);
    if (at.number < n_windows(table))
        retire_lane(table, bucket, at.number % OKO_HASH_WINDOW, worker);
    else
        retire_extra(table, bucket, (uint32_t)(at.number - n_windows(table)) + 1, worker);
    __atomic_sub_fetch(&table->n_entries, 1, __ATOMIC_RELAXED);
}

bool oko_hash_reserve(struct oko_map_hash *table)
{
    uint32_t n = OKO_LOAD(&table->n_entries);
    do {
        if (n >= table->map.spec.max_entries)
            return false;
    } while (!__atomic_compare_exchange_n(&table->n_entries, &n, n + 1, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

/* ---------------------------------------------------------------- values */

static void put_value(struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker,
                      const void *value)
{
    uint64_t *to = oko_hash_value(table, at, worker);
    if (value != NULL)
        oko_words_put(to, value, table->map.spec.value_size);
    else
        oko_words_zero(to, (table->map.spec.value_size + 7) / 8);
}

/* The same of a value of one word. */
static inline void put_word(struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker,
                            const void *value)
{
    OKO_STORE(oko_hash_value(table, at, worker), oko_word_part(value, table->map.spec.value_size));
}

bool oko_hash_overwrite_word(struct oko_map_hash *table, const void *key, uint32_t worker,
                             const void *value, struct oko_hash_at *at)
{
    if (table->map.spec.value_size > sizeof(uint64_t) || (*at = find_key(table, key)).slot == NULL)
        return false;
    put_word(table, *at, worker, value);
    return true;
}

void oko_hash_overwrite(struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker,
                        const void *value)
{
    if (worker != OKO_POOL_NOBODY || table->values == NULL) {
        put_value(table, at, worker, value);
        return;
    }
    for (uint32_t w = 0; w < table->map.n_workers; w++)
        put_value(table, at, w, value);
}

void oko_hash_fill(struct oko_map_hash *table, struct oko_hash_at at, uint32_t worker,
                   const void *value)
{
    if (table->values == NULL) {
        put_value(table, at, worker, value);
        return;
    }
    for (uint32_t w = 0; w < table->map.n_workers; w++)
        put_value(table, at, w, worker == w || worker == OKO_POOL_NOBODY ? value : NULL);
}

/* ---------------------------------------------------------------- for programs */

static void *hash_lookup(struct oko_map *map, const void *key, struct oko_env *env)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_at at = find_key(table, key);
    return at.slot != NULL ? oko_hash_value(table, at, env->worker) : NULL;
}

/* Updates or inserts. flags: enum oko_update_flags. Returns an OKO_E*; OKO_E_BUSY when no slot can
 * be reused yet. */
static int put(struct oko_map_hash *table, const struct oko_hash_probe *probe, uint32_t worker,
               const void *value, uint32_t flags)
{
    int status = 0;
    uint8_t *lock = oko_hash_lock(table, oko_hash_index(table, probe->h));
    oko_spin_lock(lock);
    struct oko_hash_at at = oko_hash_find(table, probe);
    if (at.slot != NULL) {
        if (flags == OKO_NOEXIST)
            status = OKO_E_EXISTS;
        else
            oko_hash_overwrite(table, at, worker, value);
    } else if (flags == OKO_EXIST) {
        status = OKO_E_NOTFOUND;
    } else if (!oko_hash_reserve(table)) {
        status = OKO_E_FULL;
    } else {
        at = oko_hash_take(table, probe, worker);
        if (at.slot != NULL) {
            oko_hash_fill(table, at, worker, value);
            oko_hash_publish(table, probe, at);
        } else {
            __atomic_sub_fetch(&table->n_entries, 1, __ATOMIC_RELAXED);
            status = OKO_E_BUSY;
        }
    }
    oko_spin_unlock(lock);
    return status;
}

static int hash_update(struct oko_map *map, const void *key, const void *value, struct oko_env *env)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    struct oko_hash_at at;
    if (oko_hash_overwrite_word(table, key, env->worker, value, &at))
        return 0;
    oko_hash_probe_init(table, &probe, key);
    return put(table, &probe, env->worker, value, OKO_ANY) == 0 ? 0 : OKO_HELPER_FULL;
}

static bool take_out(struct oko_map_hash *table, const struct oko_hash_probe *probe,
                     uint32_t worker)
{
    uint8_t *lock = oko_hash_lock(table, oko_hash_index(table, probe->h));
    oko_spin_lock(lock);
    struct oko_hash_at at = oko_hash_find(table, probe);
    if (at.slot != NULL)
        oko_hash_remove(table, probe, at, worker);
    oko_spin_unlock(lock);
    return at.slot != NULL;
}

static int hash_delete(struct oko_map *map, const void *key, struct oko_env *env)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    oko_hash_probe_init(table, &probe, key);
    return take_out(table, &probe, env->worker) ? 0 : OKO_HELPER_FULL; /* "absent" too is -4 */
}

bool oko_hash_contains(const struct oko_map *map, const void *address, uint32_t width,
                       const struct oko_env *env)
{
    const struct oko_map_hash *table = (const struct oko_map_hash *)map;
    uint64_t size = map->spec.value_size;
    if (table->values != NULL) {
        uint64_t at =
            (uint64_t)address - (uint64_t)(table->values + env->worker * table->worker_stride);
        return at < table->worker_stride && at % table->value_stride + width <= size;
    }
    uint64_t at = (uint64_t)address - (uint64_t)table->buckets;
    if (at < table->buckets_size) {
        at %= table->bucket_size;
        if (at < sizeof(struct oko_hash_bucket) || at >= table->epoch_off)
            return false;
        at = (at - sizeof(struct oko_hash_bucket)) % table->slot_size;
    } else {
        const struct oko_pool *pool = &table->pool;
        at = (uint64_t)address - (uint64_t)pool->entries;
        if (at >= oko_pool_size(pool->n_entries, pool->entry_size) ||
            at % pool->entry_size < sizeof(struct oko_hash_extra))
            return false;
        at = at % pool->entry_size - sizeof(struct oko_hash_extra);
    }
    return at >= table->value_off && at - table->value_off + width <= size;
}

/* ---------------------------------------------------------------- for the control side */

static void get_value(struct oko_map_hash *table, struct oko_hash_at at, uint8_t *out)
{
    uint32_t size = table->map.spec.value_size;
    uint32_t n = table->values != NULL ? table->map.n_workers : 1;
    for (uint32_t w = 0; w < n; w++, out += size)
        oko_words_get(out, oko_hash_value(table, at, w), size);
}

int oko_hash_get(struct oko_map *map, const uint8_t *key, uint8_t *value)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    oko_hash_probe_init(table, &probe, key);
    uint8_t *lock = oko_hash_lock(table, oko_hash_index(table, probe.h));
    oko_spin_lock(lock);
    struct oko_hash_at at = oko_hash_find(table, &probe);
    if (at.slot != NULL)
        get_value(table, at, value);
    oko_spin_unlock(lock);
    return at.slot != NULL ? 0 : OKO_E_NOTFOUND;
}

static int hash_set(struct oko_map *map, const uint8_t *key, const uint8_t *value, uint32_t flags)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    oko_hash_probe_init(table, &probe, key);
    int status;
    while ((status = put(table, &probe, OKO_POOL_NOBODY, value, flags)) == OKO_E_BUSY)
        oko_qsbr_synchronize(map->vm->qsbr); /* then the retired slots are free */
    return status;
}

/* The first worker's value for all, then each worker's own; those that there were not have none. */
static int hash_restore(struct oko_map *map, const uint8_t *key, const uint8_t *values,
                        uint32_t n_workers)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    uint32_t size = map->spec.value_size;
    int rc = hash_set(map, key, values, OKO_ANY);
    if (rc != 0 || table->values == NULL)
        return rc;
    uint8_t *zeroes = calloc(1, size);
    if (zeroes == NULL)
        return OKO_E_NOMEM;
    oko_hash_probe_init(table, &probe, key);
    struct oko_hash_at at = oko_hash_find(table, &probe);
    for (uint32_t w = 1; at.slot != NULL && w < map->n_workers; w++)
        oko_hash_overwrite(table, at, w, w < n_workers ? values + (size_t)w * size : zeroes);
    free(zeroes);
    return 0;
}

static int hash_remove(struct oko_map *map, const uint8_t *key)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    oko_hash_probe_init(table, &probe, key);
    return take_out(table, &probe, OKO_POOL_NOBODY) ? 0 : OKO_E_NOTFOUND;
}

/* The entry of a bucket whose place is the next at or after first (lanes 0-3, then 4 + pool index):
 * a fixed order, in which an entry never moves. */
static struct oko_hash_at next_in_bucket(const struct oko_map_hash *table, uint64_t index,
                                         uint64_t first, uint64_t *place)
{
    struct oko_hash_bucket *bucket = bucket_at(table, index);
    uint64_t tags = OKO_LOAD(&bucket->tags);
    for (uint64_t lane = first; lane < OKO_HASH_WINDOW; lane++)
        if ((tags >> 16 * lane & 0xffff) != 0) {
            *place = lane;
            return (struct oko_hash_at){lane_slot(table, bucket, (uint32_t)lane),
                                        index * OKO_HASH_WINDOW + lane};
        }
    uint32_t best = 0;
    for (uint32_t link = OKO_LOAD(&bucket->chain); link != 0;
         link = OKO_LOAD(&extra_at(table, link)->next))
        if (OKO_HASH_WINDOW + (uint64_t)link - 1 >= first && (best == 0 || link < best))
            best = link;
    if (best == 0)
        return (struct oko_hash_at){NULL, 0};
    *place = OKO_HASH_WINDOW + (uint64_t)best - 1;
    return (struct oko_hash_at){(uint8_t *)(extra_at(table, best) + 1),
                                n_windows(table) + best - 1};
}

struct oko_hash_at oko_hash_first_in(const struct oko_map_hash *table, uint64_t index)
{
    uint64_t place;
    return next_in_bucket(table, index, 0, &place);
}

/* cursor: bucket index in the upper half, place in the bucket in the lower. */
int64_t oko_hash_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max)
{
    struct oko_map_hash *table = table_of(map);
    uint32_t key_size, value_size;
    oko_map_dump_sizes(map, &key_size, &value_size);
    uint64_t index = *cursor >> 32, place = *cursor & UINT32_MAX;
    uint32_t n = 0;
    for (; index < table->n_buckets && n < max; index++, place = 0) {
        uint8_t *lock = oko_hash_lock(table, index);
        oko_spin_lock(lock);
        struct oko_hash_at at;
        while (n < max && (at = next_in_bucket(table, index, place, &place)).slot != NULL) {
            memcpy(out, at.slot, key_size);
            get_value(table, at, out + key_size);
            out += key_size + value_size;
            place++;
            n++;
        }
        oko_spin_unlock(lock);
        if (n == max)
            break; /* the rest of this bucket comes next time */
    }
    *cursor = index << 32 | place;
    return n;
}

static int hash_clear(struct oko_map *map)
{
    struct oko_map_hash *table = table_of(map);
    for (uint64_t index = 0; index < table->n_buckets; index++) {
        uint8_t *lock = oko_hash_lock(table, index);
        oko_spin_lock(lock);
        struct oko_hash_at at;
        struct oko_hash_probe probe;
        probe.h = index << table->shift; /* remove needs no more than the bucket */
        while ((at = oko_hash_first_in(table, index)).slot != NULL)
            oko_hash_remove(table, &probe, at, OKO_POOL_NOBODY);
        oko_spin_unlock(lock);
    }
    return 0;
}

void oko_hash_info(struct oko_map *map, struct oko_map_info *info)
{
    struct oko_map_hash *table = table_of(map);
    info->n_entries = OKO_LOAD(&table->n_entries);
    info->overflow = OKO_LOAD(&table->n_overflow);
}

const struct oko_map_ops oko_map_hash_ops = {
    .name = "hash",
    .create = oko_hash_create,
    .destroy = oko_hash_destroy,
    .lookup = hash_lookup,
    .update = hash_update,
    .del = hash_delete,
    .get = oko_hash_get,
    .set = hash_set,
    .restore = hash_restore,
    .remove = hash_remove,
    .clear = hash_clear,
    .dump = oko_hash_dump,
    .info = oko_hash_info,
    .contains = oko_hash_contains,
};
