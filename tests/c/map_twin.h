/* Naive twins of the maps: lists that are searched from end to end.
 *
 * What a map must do, said as plainly as possible and without knowing how the maps do it: no
 * hashing, no tries, no concurrency. Sketches have a twin that knows the truth (a set, counts),
 * against which an estimate is judged. Written from the specification of the maps. */
#ifndef OKO_MAP_TWIN_H
#define OKO_MAP_TWIN_H

#include "check.h"

#include "bpf/map.h"

struct twin_entry {
    bool used;
    bool referenced; /* LRU */
    uint8_t *key;
    uint8_t *values; /* value_size for each worker, or one for all */
};

struct twin {
    struct oko_map_spec spec;
    uint32_t n_workers;
    uint32_t n_values;     /* copies of each value */
    uint32_t n_entries;    /* used */
    struct twin_entry *at; /* [max_entries]; arrays: by index; LRU: the ring; else any order */
    uint32_t *free_places; /* LRU: those given back, last first */
    uint32_t n_free, n_places, hand;
};

static inline bool twin_is(const struct twin *t, uint32_t type)
{
    return t->spec.type == type;
}

static inline bool twin_is_array(const struct twin *t)
{
    return twin_is(t, OKO_MAP_ARRAY) || twin_is(t, OKO_MAP_WORKER_ARRAY);
}

static inline struct twin *twin_new(const struct oko_map_spec *spec, uint32_t n_workers)
{
    struct twin *t = calloc(1, sizeof(*t));
    t->spec = *spec;
    t->n_workers = n_workers;
    t->n_values =
        spec->type == OKO_MAP_WORKER_ARRAY || spec->type == OKO_MAP_WORKER_HASH ? n_workers : 1;
    t->at = calloc(spec->max_entries, sizeof(*t->at));
    t->free_places = calloc(spec->max_entries, sizeof(*t->free_places));
    for (uint32_t i = 0; i < spec->max_entries; i++) {
        t->at[i].key = calloc(1, spec->key_size);
        t->at[i].values = calloc(t->n_values, spec->value_size);
        if (twin_is_array(t)) {
            uint64_t index = i;
            memcpy(t->at[i].key, &index, spec->key_size);
            t->at[i].used = true;
            t->n_entries++;
        }
    }
    return t;
}

static inline void twin_free(struct twin *t)
{
    for (uint32_t i = 0; i < t->spec.max_entries; i++) {
        free(t->at[i].key);
        free(t->at[i].values);
    }
    free(t->at);
    free(t->free_places);
    free(t);
}

static inline uint32_t twin_prefix_length(const uint8_t *key)
{
    uint32_t n;
    memcpy(&n, key, 4);
    return n;
}

static inline bool twin_bits_equal(const uint8_t *a, const uint8_t *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if ((a[i / 8] >> (7 - i % 8) & 1) != (b[i / 8] >> (7 - i % 8) & 1))
            return false;
    return true;
}

/* Is it the same key? Bits of a prefix beyond its length do not count. */
static inline bool twin_same(const struct twin *t, const uint8_t *a, const uint8_t *b)
{
    if (!twin_is(t, OKO_MAP_LPM_TRIE))
        return memcmp(a, b, t->spec.key_size) == 0;
    uint32_t n = twin_prefix_length(a);
    return n == twin_prefix_length(b) && twin_bits_equal(a + 4, b + 4, n);
}

static inline struct twin_entry *twin_exact(struct twin *t, const uint8_t *key)
{
    for (uint32_t i = 0; i < t->spec.max_entries; i++)
        if (t->at[i].used && twin_same(t, t->at[i].key, key))
            return &t->at[i];
    return NULL;
}

/* What a lookup finds, without noting the use. */
static inline struct twin_entry *twin_find(struct twin *t, const uint8_t *key)
{
    if (!twin_is(t, OKO_MAP_LPM_TRIE))
        return twin_exact(t, key);
    struct twin_entry *best = NULL;
    uint32_t limit = twin_prefix_length(key);
    if (limit > (t->spec.key_size - 4) * 8)
        return NULL;
    for (uint32_t i = 0; i < t->spec.max_entries; i++) {
        struct twin_entry *e = &t->at[i];
        uint32_t n = twin_prefix_length(e->key);
        if (e->used && n <= limit && twin_bits_equal(e->key + 4, key + 4, n) &&
            (best == NULL || n > twin_prefix_length(best->key)))
            best = e;
    }
    return best;
}

static inline uint8_t *twin_value(struct twin *t, struct twin_entry *e, uint32_t worker)
{
    return e->values + (t->n_values == 1 ? 0 : worker) * t->spec.value_size;
}

/* A program's lookup. */
static inline struct twin_entry *twin_lookup(struct twin *t, const uint8_t *key)
{
    struct twin_entry *e = twin_find(t, key);
    if (e != NULL)
        e->referenced = true;
    return e;
}

/* Room for a new entry, or NULL. *dropped: the entry that was dropped for it (its old key and
 * value still in place). */
static inline struct twin_entry *twin_room(struct twin *t, struct twin_entry **dropped)
{
    uint32_t place;
    *dropped = NULL;
    if (!twin_is(t, OKO_MAP_LRU_HASH)) {
        for (place = 0; place < t->spec.max_entries; place++)
            if (!t->at[place].used)
                return &t->at[place];
        return NULL;
    }
    if (t->n_entries < t->spec.max_entries) {
        place = t->n_free > 0 ? t->free_places[--t->n_free] : t->n_places++;
        return &t->at[place];
    }
    for (;;) {
        struct twin_entry *e = &t->at[t->hand];
        t->hand = (t->hand + 1) % t->spec.max_entries;
        if (!e->referenced) {
            *dropped = e;
            return e;
        }
        e->referenced = false;
    }
}

enum { TWIN_ALL = UINT32_MAX }; /* the control side: every worker's value */

/* OKO_E* as oko_map_update() would. When an LRU entry gives way, drop(arg, entry) is called before
 * it is overwritten. */
static inline int twin_set(struct twin *t, uint32_t worker, const uint8_t *key,
                           const uint8_t *value, uint32_t flags,
                           void (*drop)(void *arg, const struct twin_entry *e), void *arg)
{
    if (twin_is(t, OKO_MAP_LPM_TRIE) && twin_prefix_length(key) > (t->spec.key_size - 4) * 8)
        return OKO_E_INVAL;
    struct twin_entry *e = twin_exact(t, key);
    if (e != NULL && flags == OKO_NOEXIST)
        return OKO_E_EXISTS;
    if (e == NULL && (flags == OKO_EXIST || twin_is_array(t)))
        return OKO_E_NOTFOUND;
    if (e != NULL) {
        e->referenced = true;
    } else {
        struct twin_entry *dropped;
        e = twin_room(t, &dropped);
        if (e == NULL)
            return OKO_E_FULL;
        if (dropped != NULL)
            drop(arg, dropped);
        else
            t->n_entries++;
        e->used = true;
        e->referenced = false;
        memcpy(e->key, key, t->spec.key_size);
        memset(e->values, 0, t->n_values * t->spec.value_size);
    }
    for (uint32_t w = 0; w < t->n_values; w++)
        if (t->n_values == 1 || w == worker || worker == TWIN_ALL)
            memcpy(twin_value(t, e, w), value, t->spec.value_size);
    return 0;
}

static inline int twin_remove(struct twin *t, const uint8_t *key)
{
    if (twin_is_array(t))
        return OKO_E_UNSUP;
    if (twin_is(t, OKO_MAP_LPM_TRIE) && twin_prefix_length(key) > (t->spec.key_size - 4) * 8)
        return OKO_E_INVAL;
    struct twin_entry *e = twin_exact(t, key);
    if (e == NULL)
        return OKO_E_NOTFOUND;
    e->used = e->referenced = false;
    t->n_entries--;
    if (twin_is(t, OKO_MAP_LRU_HASH))
        t->free_places[t->n_free++] = (uint32_t)(e - t->at);
    return 0;
}

static inline void twin_clear(struct twin *t)
{
    for (uint32_t i = 0; i < t->spec.max_entries; i++) {
        t->at[i].referenced = false;
        if (twin_is_array(t))
            memset(t->at[i].values, 0, t->n_values * t->spec.value_size);
        else
            t->at[i].used = false;
    }
    if (!twin_is_array(t))
        t->n_entries = 0;
    t->n_free = t->n_places = t->hand = 0;
}

/* ---------------------------------------------------------------- sketches: the truth */

struct truth {
    uint32_t item_size;
    uint32_t n_items;
    struct {
        uint8_t item[64];
        uint64_t count;
    } at[256];
    uint64_t n_adds;
};

static inline uint64_t *truth_of(struct truth *t, const uint8_t *item)
{
    for (uint32_t i = 0; i < t->n_items; i++)
        if (memcmp(t->at[i].item, item, t->item_size) == 0)
            return &t->at[i].count;
    CHECK(t->n_items < sizeof(t->at) / sizeof(t->at[0]));
    memcpy(t->at[t->n_items].item, item, t->item_size);
    t->at[t->n_items].count = 0;
    return &t->at[t->n_items++].count;
}

#endif
