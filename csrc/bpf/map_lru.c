/* LRU hash: when full, an insert drops an entry that was not used lately.
 *
 * Idea. The table of map_hash.h, plus a ring of max_entries *places*. Each entry has a place (the
 * one given back last, else the lowest unused) and there a "referenced" bit that lookups and
 * updates set. When room is needed, a hand goes round the ring: a referenced place loses its bit
 * and is passed over (a second chance), the first unreferenced one is dropped and its place taken
 * (the CLOCK algorithm, Corbato 1968). Places are given in order of insertion, never by hash, so
 * what is dropped depends only on the sequence of operations.
 *
 * Why not an exact list: each lookup would move an entry to its head, four cache lines written
 * under a lock that all workers share. Here a lookup takes no lock and writes at most one bit.
 *
 * Thread-safety. Lookups as in map_hash.h, and workers' updates of values of one word. All other
 * writers hold the table's lock. Control-side reads
 * are no use of an entry; control-side updates are. */
#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "../qsbr.h"
#include "map_hash.h"
#include "map_types.h"
#include "vm.h"

#include <stdlib.h>

/* Guarded by the table's lock, but for the referenced bits. */
struct oko_lru {
    uint64_t *number_of; /* of each place in use: the entry's number (struct oko_hash_at) */
    uint32_t *free;      /* stack of places given back */
    uint32_t n_free;
    uint32_t n_places; /* places from here on were never used */
    uint32_t hand;     /* the place to look at next */
};

static struct oko_map_hash *table_of(struct oko_map *map)
{
    return (struct oko_map_hash *)map;
}

static uint64_t referenced_size(const struct oko_map_spec *spec)
{
    return oko_round_up(spec->max_entries, 64) / 8;
}

static void lru_destroy(struct oko_map *map)
{
    struct oko_map_hash *table = table_of(map);
    if (table->lru != NULL) {
        oko_release(table->lru->number_of, (uint64_t)map->spec.max_entries * sizeof(uint64_t));
        oko_release(table->lru->free, (uint64_t)map->spec.max_entries * sizeof(uint32_t));
    }
    oko_release(table->referenced, referenced_size(&map->spec));
    free(table->lru);
    oko_hash_destroy(map);
}

static int lru_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                      struct oko_error *error)
{
    int status = oko_hash_create(vm, spec, map, error);
    if (status != 0)
        return status;
    struct oko_map_hash *table = table_of(*map);
    table->map.spec = *spec; /* lru_destroy() asks for max_entries */
    table->lru = calloc(1, sizeof(*table->lru));
    table->referenced = oko_alloc(referenced_size(spec));
    if (table->lru != NULL) {
        table->lru->number_of = oko_alloc((uint64_t)spec->max_entries * sizeof(uint64_t));
        table->lru->free = oko_alloc((uint64_t)spec->max_entries * sizeof(uint32_t));
    }
    if (table->lru == NULL || table->referenced == NULL || table->lru->number_of == NULL ||
        table->lru->free == NULL) {
        lru_destroy(*map);
        return oko_err(error, OKO_E_NOMEM, "map %.63s: out of memory", spec->name);
    }
    return 0;
}

/* ---------------------------------------------------------------- the ring */

static uint32_t *place_of(const struct oko_map_hash *table, uint8_t *slot)
{
    return (uint32_t *)(slot + table->place_off);
}

static void touch(struct oko_map_hash *table, uint8_t *slot)
{
    uint32_t place = *place_of(table, slot);
    uint64_t *word = &table->referenced[place / 64];
    uint64_t bit = (uint64_t)1 << place % 64;
    if ((OKO_LOAD(word) & bit) == 0) /* a busy entry's bit is only read */
        __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
}

static void unreference(struct oko_map_hash *table, uint32_t first, uint64_t bits)
{
    __atomic_fetch_and(&table->referenced[first / 64], ~bits, __ATOMIC_RELAXED);
}

/* Moves the hand to the first unreferenced place, past it, and returns it; every place is in use.
 * Works on 64 places at a time. Other workers may go on referencing: after two rounds any place
 * will do. */
static uint32_t advance_hand(struct oko_map_hash *table)
{
    struct oko_lru *lru = table->lru;
    uint32_t n = table->map.spec.max_entries;
    for (uint64_t seen = 0;;) {
        uint32_t first = lru->hand / 64 * 64;
        uint32_t end = n - first < 64 ? n - first : 64; /* places in this word */
        uint64_t ahead = (end == 64 ? 0 : (uint64_t)1 << end) - ((uint64_t)1 << lru->hand % 64);
        uint64_t candidates = ahead & ~OKO_LOAD(&table->referenced[first / 64]);
        if (seen > 2 * (uint64_t)n)
            candidates = ahead;
        if (candidates != 0) {
            uint32_t place = first + (uint32_t)__builtin_ctzll(candidates);
            unreference(table, first, ahead & (((uint64_t)1 << place % 64) - 1));
            lru->hand = place + 1 == n ? 0 : place + 1;
            return place;
        }
        unreference(table, first, ahead);
        seen += first + end - lru->hand;
        lru->hand = first + end == n ? 0 : first + end;
    }
}

/* Drops the entry at a place; the place is the caller's. */
static void drop(struct oko_map_hash *table, uint32_t place, uint32_t worker)
{
    uint64_t number = table->lru->number_of[place];
    struct oko_hash_at at = {oko_hash_slot(table, number), number};
    struct oko_hash_probe probe;
    probe.h = oko_hash_words(&table->hash, (const uint64_t *)at.slot, table->key_words);
    oko_hash_remove(table, &probe, at, worker);
    unreference(table, place, (uint64_t)1 << place % 64);
}

/* A place for a new entry, from the free ones or by dropping one; counts the entry. */
static uint32_t take_place(struct oko_map_hash *table, uint32_t worker)
{
    struct oko_lru *lru = table->lru;
    uint32_t place;
    if (oko_hash_reserve(table))
        return lru->n_free > 0 ? lru->free[--lru->n_free] : lru->n_places++;
    place = advance_hand(table);
    drop(table, place, worker);
    oko_hash_reserve(table);
    return place;
}

/* ---------------------------------------------------------------- operations */

static void *lru_lookup(struct oko_map *map, const void *key, struct oko_env *env)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_at at = oko_hash_lookup(table, key);
    if (at.slot == NULL)
        return NULL;
    touch(table, at.slot);
    return oko_hash_value(table, at, env->worker);
}

/* As put() of the plain hash; the lock is held. */
static int put(struct oko_map_hash *table, const struct oko_hash_probe *probe, uint32_t worker,
               const void *value, uint32_t flags)
{
    struct oko_hash_at at = oko_hash_find(table, probe);
    if (at.slot != NULL) {
        if (flags == OKO_NOEXIST)
            return OKO_E_EXISTS;
        oko_hash_overwrite(table, at, worker, value);
        touch(table, at.slot);
        return 0;
    }
    if (flags == OKO_EXIST)
        return OKO_E_NOTFOUND;
    at = oko_hash_take(table, probe, worker); /* first: no entry is dropped in vain */
    if (at.slot == NULL)
        return OKO_E_BUSY;
    uint32_t place = take_place(table, worker);
    table->lru->number_of[place] = at.number;
    *place_of(table, at.slot) = place;
    oko_hash_fill(table, at, worker, value);
    oko_hash_publish(table, probe, at);
    return 0;
}

static int lru_update(struct oko_map *map, const void *key, const void *value, struct oko_env *env)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    struct oko_hash_at at;
    if (oko_hash_overwrite_word(table, key, env->worker, value, &at)) {
        touch(table, at.slot);
        return 0;
    }
    oko_hash_probe_init(table, &probe, key);
    oko_spin_lock(&table->table_lock);
    int status = put(table, &probe, env->worker, value, OKO_ANY);
    oko_spin_unlock(&table->table_lock);
    return status == 0 ? 0 : OKO_HELPER_FULL;
}

static bool take_out(struct oko_map_hash *table, const void *key, uint32_t worker)
{
    struct oko_hash_probe probe;
    oko_hash_probe_init(table, &probe, key);
    oko_spin_lock(&table->table_lock);
    struct oko_hash_at at = oko_hash_find(table, &probe);
    if (at.slot != NULL) {
        uint32_t place = *place_of(table, at.slot);
        drop(table, place, worker);
        table->lru->free[table->lru->n_free++] = place;
    }
    oko_spin_unlock(&table->table_lock);
    return at.slot != NULL;
}

static int lru_delete(struct oko_map *map, const void *key, struct oko_env *env)
{
    return take_out(table_of(map), key, env->worker) ? 0 : OKO_HELPER_FULL;
}

static int lru_set(struct oko_map *map, const uint8_t *key, const uint8_t *value, uint32_t flags)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_hash_probe probe;
    int status;
    oko_hash_probe_init(table, &probe, key);
    do {
        oko_spin_lock(&table->table_lock);
        status = put(table, &probe, OKO_POOL_NOBODY, value, flags);
        oko_spin_unlock(&table->table_lock);
        if (status == OKO_E_BUSY)
            oko_qsbr_synchronize(map->vm->qsbr); /* then the retired slots are free */
    } while (status == OKO_E_BUSY);
    return status;
}

static int lru_remove(struct oko_map *map, const uint8_t *key)
{
    return take_out(table_of(map), key, OKO_POOL_NOBODY) ? 0 : OKO_E_NOTFOUND;
}

/* Empties bucket by bucket, so that no worker waits for long, and starts the ring anew when nothing
 * was inserted meanwhile. */
static int lru_clear(struct oko_map *map)
{
    struct oko_map_hash *table = table_of(map);
    struct oko_lru *lru = table->lru;
    struct oko_hash_at at;
    for (uint64_t index = 0; index < table->n_buckets; index++) {
        oko_spin_lock(&table->table_lock);
        while ((at = oko_hash_first_in(table, index)).slot != NULL) {
            uint32_t place = *place_of(table, at.slot);
            drop(table, place, OKO_POOL_NOBODY);
            lru->free[lru->n_free++] = place;
        }
        oko_spin_unlock(&table->table_lock);
    }
    oko_spin_lock(&table->table_lock);
    if (OKO_LOAD(&table->n_entries) == 0)
        lru->n_free = lru->n_places = lru->hand = 0;
    oko_spin_unlock(&table->table_lock);
    return 0;
}

const struct oko_map_ops oko_map_lru_ops = {
    .name = "LRU hash",
    .create = lru_create,
    .destroy = lru_destroy,
    .lookup = lru_lookup,
    .update = lru_update,
    .del = lru_delete,
    .get = oko_hash_get,
    .set = lru_set,
    .remove = lru_remove,
    .clear = lru_clear,
    .dump = oko_hash_dump,
    .info = oko_hash_info,
    .contains = oko_hash_contains,
};
