/* Overlays of maps, and programs over them; see shadow.h. */
#include "shadow.h"

#include "../base/alloc.h"
#include "../base/atomic.h"

#include <stdlib.h>
#include <string.h>

/* What a run has touched in a map. The value lies behind the key, 8-byte aligned. */
struct touched {
    struct touched *next;
    bool deleted;
    bool is_new;   /* the real map has no such entry */
    bool stored;   /* updated, not only looked up */
    uint32_t adds; /* sketches */
    _Alignas(8) uint8_t key[];
};

struct overlay {
    struct oko_map map; /* spec as the real one's */
    struct oko_map *real;
    struct touched *first;
    uint64_t n_new;
    uint32_t as_worker;
    uint32_t key_size, value_size; /* of what is copied */
    uint8_t *scratch;              /* what the real map's get() fills */
};

static struct overlay *overlay_of(struct oko_map *map)
{
    return (struct overlay *)map;
}

static uint8_t *value_of(const struct overlay *o, struct touched *t)
{
    return t->key + (o->key_size + 7u) / 8 * 8;
}

static struct touched *find(const struct overlay *o, const void *key)
{
    struct touched *t = o->first;
    while (t && memcmp(t->key, key, o->key_size) != 0)
        t = t->next;
    return t;
}

static struct touched *touch(struct overlay *o, const void *key)
{
    struct touched *t = calloc(1, sizeof *t + (o->key_size + 7u) / 8 * 8 + o->value_size);
    if (t) {
        memcpy(t->key, key, o->key_size);
        t->next = o->first;
        o->first = t;
    }
    return t;
}

/* The real map's value for the worker that this runs as; false: there is none. */
static bool read_real(struct overlay *o, const void *key, const uint8_t **value)
{
    uint32_t type = o->map.spec.type;
    bool per_worker = type == OKO_MAP_WORKER_ARRAY || type == OKO_MAP_WORKER_HASH;
    if (o->real->ops->get(o->real, key, o->scratch))
        return false;
    *value = o->scratch + (per_worker ? (size_t)o->as_worker * o->map.spec.value_size : 0);
    return true;
}

/* ---------------------------------------------------------------- LPM */

static uint32_t prefix_len(const void *key)
{
    uint32_t bits;
    memcpy(&bits, key, sizeof bits);
    return bits;
}

static bool bad_prefix(const struct overlay *o, const void *key)
{
    return o->map.spec.type == OKO_MAP_LPM_TRIE && prefix_len(key) > 8 * (o->key_size - 4);
}

static bool prefix_covers(const uint8_t *prefix, const uint8_t *key)
{
    uint32_t bits = prefix_len(prefix), bytes = bits / 8;
    if (bits > prefix_len(key) || memcmp(prefix + 4, key + 4, bytes) != 0)
        return false;
    return bits % 8 == 0 || (prefix[4 + bytes] ^ key[4 + bytes]) >> (8 - bits % 8) == 0;
}

/* The longest prefix that this run has stored and that covers the key. */
static struct touched *find_prefix(const struct overlay *o, const void *key)
{
    struct touched *best = NULL;
    for (struct touched *t = o->first; t; t = t->next)
        if (t->stored && !t->deleted && prefix_covers(t->key, key) &&
            (!best || prefix_len(t->key) > prefix_len(best->key)))
            best = t;
    return best;
}

/* ---------------------------------------------------------------- operations */

static void *sketch_lookup(struct overlay *o, const void *item, struct oko_env *env)
{
    uint32_t answer = 0;
    o->real->ops->get(o->real, item, (uint8_t *)&answer);
    const struct touched *t = find(o, item);
    if (t)
        answer = o->map.spec.type == OKO_MAP_BLOOM ? 1 : answer + t->adds;
    memcpy(env->scratch, &answer, sizeof answer);
    return env->scratch;
}

static void *overlay_lookup(struct oko_map *map, const void *key, struct oko_env *env)
{
    struct overlay *o = overlay_of(map);
    const uint8_t *value;
    if (oko_map_is_sketch(map))
        return sketch_lookup(o, key, env);
    if (bad_prefix(o, key))
        return NULL;
    struct touched *t = find(o, key);
    if (!t && map->spec.type == OKO_MAP_LPM_TRIE)
        t = find_prefix(o, key);
    if (t)
        return t->deleted ? NULL : value_of(o, t);
    if (!read_real(o, key, &value) || !(t = touch(o, key)))
        return NULL;
    memcpy(value_of(o, t), value, o->value_size);
    return value_of(o, t);
}

static int overlay_update(struct oko_map *map, const void *key, const void *value,
                          struct oko_env *env)
{
    struct overlay *o = overlay_of(map);
    const uint8_t *old;
    uint32_t type = map->spec.type;
    bool array = type == OKO_MAP_ARRAY || type == OKO_MAP_WORKER_ARRAY;
    (void)env;
    if (bad_prefix(o, key))
        return OKO_HELPER_INDEX;
    struct touched *t = find(o, key);
    if (!t) {
        bool is_new = !read_real(o, key, &old);
        if (is_new && array)
            return OKO_HELPER_INDEX;
        if (!(t = touch(o, key)))
            return OKO_HELPER_FULL;
        t->is_new = t->deleted = is_new;
    }
    if (t->deleted) { /* comes into being */
        struct oko_map_info info;
        oko_map_info(o->real, &info);
        if (type != OKO_MAP_LRU_HASH && info.n_entries + o->n_new >= map->spec.max_entries)
            return OKO_HELPER_FULL;
        o->n_new++;
    }
    t->deleted = false;
    t->stored = true;
    memcpy(value_of(o, t), value, o->value_size);
    return 0;
}

static int overlay_delete(struct oko_map *map, const void *key, struct oko_env *env)
{
    struct overlay *o = overlay_of(map);
    const uint8_t *old;
    (void)env;
    if (bad_prefix(o, key))
        return OKO_HELPER_INDEX;
    struct touched *t = find(o, key);
    if (t ? t->deleted : !read_real(o, key, &old))
        return OKO_HELPER_FULL;
    if (!t && !(t = touch(o, key)))
        return OKO_HELPER_FULL;
    t->deleted = true;
    o->n_new--; /* modulo 2^64: entries there are n_entries + n_new */
    return 0;
}

static int overlay_add(struct oko_map *map, const void *item, struct oko_env *env)
{
    struct overlay *o = overlay_of(map);
    struct touched *t = find(o, item);
    (void)env;
    if (!t)
        t = touch(o, item);
    if (t)
        t->adds++;
    return 0;
}

static bool overlay_contains(const struct oko_map *map, const void *address, uint32_t width,
                             const struct oko_env *env)
{
    const struct overlay *o = (const struct overlay *)map;
    if (oko_map_is_sketch(map))
        return o->real->ops->contains(o->real, address, width, env);
    for (struct touched *t = o->first; t; t = t->next) {
        uintptr_t at = (uintptr_t)address - (uintptr_t)value_of(o, t);
        if (width <= o->value_size && at <= o->value_size - width)
            return true;
    }
    return false;
}

/* As the real types: NULL where they have no such operation. */
static const struct oko_map_ops sketch_ops = {
    .name = "overlay", .lookup = overlay_lookup, .add = overlay_add, .contains = overlay_contains};
static const struct oko_map_ops array_ops = {.name = "overlay",
                                             .lookup = overlay_lookup,
                                             .update = overlay_update,
                                             .contains = overlay_contains};
static const struct oko_map_ops keyed_ops = {.name = "overlay",
                                             .lookup = overlay_lookup,
                                             .update = overlay_update,
                                             .del = overlay_delete,
                                             .contains = overlay_contains};

/* ---------------------------------------------------------------- life */

static void free_overlay(struct overlay *o)
{
    if (!o)
        return;
    for (struct touched *t = o->first, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    free(o->scratch);
    free(o);
}

static struct overlay *new_overlay(struct oko_map *real, uint32_t as_worker)
{
    struct overlay *o = calloc(1, sizeof *o);
    struct oko_map_class cls;
    uint32_t key_size, value_size;
    if (!o || oko_map_class(&real->spec, &cls, NULL)) {
        free(o);
        return NULL;
    }
    oko_map_dump_sizes(real, &key_size, &value_size);
    bool sketch = oko_map_is_sketch(real);
    o->map = (struct oko_map){.ops = sketch           ? &sketch_ops
                                     : cls.has_delete ? &keyed_ops
                                                      : &array_ops,
                              .vm = real->vm,
                              .spec = real->spec,
                              .refs = 1,
                              .n_workers = real->n_workers};
    o->real = real;
    o->as_worker = as_worker < real->n_workers ? as_worker : 0;
    o->key_size = cls.item_size;
    o->value_size = sketch ? 0 : real->spec.value_size;
    o->scratch = malloc(value_size > 8 ? value_size : 8);
    if (!o->scratch) {
        free_overlay(o);
        return NULL;
    }
    return o;
}

static int make_parts(struct oko_prog *s, const struct oko_prog *prog, uint32_t as_worker)
{
    s->maps = calloc(s->spec.n_maps + 1u, sizeof *s->maps);
    s->data = calloc(s->spec.n_data + 1u, sizeof *s->data);
    if (!s->maps || !s->data)
        return OKO_E_NOMEM;
    for (uint32_t i = 0; i < s->spec.n_maps; i++)
        if (!(s->maps[i] = (struct oko_map *)new_overlay(prog->maps[i], as_worker)))
            return OKO_E_NOMEM;
    for (uint32_t i = 0; i < s->spec.n_data; i++) {
        s->data[i].spec = prog->data[i].spec;
        s->data[i].bytes = oko_alloc(prog->data[i].spec.size);
        if (!s->data[i].bytes)
            return OKO_E_NOMEM;
        for (uint32_t at = 0; at < prog->data[i].spec.size; at++) /* it may be written to */
            s->data[i].bytes[at] = oko_shared_load8(prog->data[i].bytes + at);
    }
    return oko_interp_prepare(s, NULL);
}

int oko_shadow_new(struct oko_prog *prog, uint32_t as_worker, struct oko_prog **out)
{
    struct oko_prog *s = malloc(sizeof *s);
    if (!s)
        return OKO_E_NOMEM;
    *s = *prog; /* instructions and facts are shared */
    s->interp = NULL;
    s->jit = NULL;
    s->jit_run = NULL;
    s->jit_batch = NULL;
    s->profile = NULL;
    int rc = make_parts(s, prog, as_worker);
    if (rc) {
        oko_shadow_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void oko_shadow_free(struct oko_prog *s)
{
    if (!s)
        return;
    if (s->interp)
        oko_interp_free(s);
    for (uint32_t i = 0; s->maps && i < s->spec.n_maps; i++)
        free_overlay((struct overlay *)s->maps[i]);
    for (uint32_t i = 0; s->data && i < s->spec.n_data; i++)
        if (s->data[i].bytes)
            oko_release(s->data[i].bytes, s->data[i].spec.size);
    free(s->maps);
    free(s->data);
    free(s);
}

uint64_t oko_shadow_run(struct oko_prog *s, struct oko_env *env, const struct oko_prog_in *in,
                        struct oko_path *path, bool *faulted)
{
    uint64_t n_faults = env->n_faults;
    env->quiet = true;
    uint64_t r0 = oko_interp_run_path(s, env, in, path);
    env->quiet = false;
    *faulted = env->n_faults != n_faults;
    env->n_faults = n_faults;
    return r0;
}
