/* Maps: what the types have in common, and the functions of oko.h; see map.h. */
#include "map.h"

#include "../base/bits.h"
#include "../base/err.h"
#include "map_types.h"
#include "vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Index: enum oko_map_type. */
static const struct oko_map_type_row {
    const struct oko_map_ops *ops;
    uint64_t (*footprint)(const struct oko_map_spec *spec, uint32_t n_workers);
    struct oko_map_class cls; /* sizes are filled in per spec */
} types[] = {
    [OKO_MAP_ARRAY] =
        {&oko_map_array_ops,
         oko_map_array_footprint,
         {.has_lookup = true, .has_update = true, .lookup_may_fail = true, .value_writable = true}},
    [OKO_MAP_BLOOM] = {&oko_map_bloom_ops,
                       oko_map_bloom_footprint,
                       {.has_lookup = true, .has_add = true}},
    [OKO_MAP_COUNT_MIN] = {&oko_map_cms_ops,
                           oko_map_cms_footprint,
                           {.has_lookup = true, .has_add = true}},
    [OKO_MAP_HASH] = {&oko_map_hash_ops,
                      oko_map_hash_footprint,
                      {.has_lookup = true,
                       .has_update = true,
                       .has_delete = true,
                       .lookup_may_fail = true,
                       .value_writable = true}},
    [OKO_MAP_LRU_HASH] = {&oko_map_lru_ops,
                          oko_map_hash_footprint,
                          {.has_lookup = true,
                           .has_update = true,
                           .has_delete = true,
                           .lookup_may_fail = true,
                           .lookup_writes = true,
                           .value_writable = true}},
    [OKO_MAP_LPM_TRIE] = {&oko_map_lpm_ops,
                          oko_map_lpm_footprint,
                          {.has_lookup = true,
                           .has_update = true,
                           .has_delete = true,
                           .lookup_may_fail = true,
                           .value_writable = true}},
    [OKO_MAP_WORKER_ARRAY] =
        {&oko_map_array_ops,
         oko_map_array_footprint,
         {.has_lookup = true, .has_update = true, .lookup_may_fail = true, .value_writable = true}},
    [OKO_MAP_WORKER_HASH] = {&oko_map_hash_ops,
                             oko_map_hash_footprint,
                             {.has_lookup = true,
                              .has_update = true,
                              .has_delete = true,
                              .lookup_may_fail = true,
                              .value_writable = true}},
};

/* ---------------------------------------------------------------- specs */

static int spec_error(const struct oko_map_spec *spec, struct oko_error *error, const char *what,
                      const char *hint)
{
    oko_err(error, OKO_E_INVAL, "map %.63s: %s", spec->name, what);
    oko_err_hint(error, "%s", hint);
    return OKO_E_INVAL;
}

static int check_sketch(const struct oko_map_spec *spec, uint32_t item_size,
                        struct oko_error *error)
{
    if (item_size == 0 || item_size > OKO_MAX_KEY_SIZE)
        return spec_error(spec, error, "the item's size is not between 1 and 512 bytes",
                          "set key_size (or value_size, as Oko's sketches do) to the item's size");
    if (spec->n_hashes == 0 || spec->n_hashes > OKO_MAX_HASHES)
        return spec_error(spec, error, "the number of hash functions is not between 1 and 16",
                          "set nb_hash_functions: 4 suits most Bloom filters and sketches");
    return 0;
}

static int check_keyed(const struct oko_map_spec *spec, struct oko_error *error)
{
    bool is_array = spec->type == OKO_MAP_ARRAY || spec->type == OKO_MAP_WORKER_ARRAY;
    if (is_array && spec->key_size != 4 && spec->key_size != 8)
        return spec_error(spec, error, "the key of an array is neither 4 nor 8 bytes",
                          "declare the index as a 32-bit or 64-bit integer");
    if (spec->type == OKO_MAP_LPM_TRIE && (spec->key_size < 5 || spec->key_size > 260))
        return spec_error(spec, error, "the key of an LPM trie is not between 5 and 260 bytes",
                          "a key is a 32-bit prefix length and then 1 to 256 bytes of address");
    if (spec->key_size == 0 || spec->key_size > OKO_MAX_KEY_SIZE)
        return spec_error(spec, error, "key_size is not between 1 and 512 bytes",
                          "keys are built on the program's stack of 512 bytes");
    if (spec->value_size == 0 || spec->value_size > OKO_MAX_VALUE_SIZE)
        return spec_error(spec, error, "value_size is not between 1 byte and 1 MiB",
                          "set value_size to the size of the value's type");
    return 0;
}

int oko_map_class(const struct oko_map_spec *spec, struct oko_map_class *cls,
                  struct oko_error *error)
{
    if (memchr(spec->name, 0, sizeof(spec->name)) == NULL)
        return oko_err(error, OKO_E_INVAL, "a map's name is longer than 63 bytes");
    if (spec->type >= OKO_ARRAY_LEN(types) || types[spec->type].ops == NULL) {
        char what[64];
        snprintf(what, sizeof(what), "there is no map type %" PRIu32, spec->type);
        return spec_error(spec, error, what,
                          "types are array 1, bloom 2, count-min 3, hash 4, LRU hash 5, "
                          "LPM trie 6, per-worker array 7, per-worker hash 8");
    }
    if (spec->max_entries == 0 || spec->max_entries > OKO_MAX_ENTRIES)
        return spec_error(spec, error, "max_entries is not between 1 and 1,073,741,824",
                          "set max_entries to the capacity that the program needs");
    bool sketch = oko_map_type_is_sketch(spec->type);
    uint32_t item_size = sketch && spec->key_size == 0 ? spec->value_size : spec->key_size;
    int status = sketch ? check_sketch(spec, item_size, error) : check_keyed(spec, error);
    if (status != 0)
        return status;
    *cls = types[spec->type].cls;
    cls->item_size = item_size;
    cls->value_size = sketch ? (uint32_t)sizeof(uint32_t) : spec->value_size;
    return 0;
}

uint64_t oko_map_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    return types[spec->type].footprint(spec, n_workers);
}

bool oko_map_spec_equal(const struct oko_map_spec *a, const struct oko_map_spec *b)
{
    return strcmp(a->name, b->name) == 0 && a->type == b->type && a->key_size == b->key_size &&
           a->value_size == b->value_size && a->max_entries == b->max_entries &&
           (!oko_map_type_is_sketch(a->type) || a->n_hashes == b->n_hashes);
}

/* ---------------------------------------------------------------- life */

int oko_map_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map_out,
                   struct oko_error *error)
{
    struct oko_map_class cls;
    struct oko_map *map;
    *map_out = NULL;
    int status = oko_map_class(spec, &cls, error);
    if (status != 0)
        return status;
    char what[80];
    snprintf(what, sizeof(what), "map %.63s", spec->name);
    uint64_t footprint = oko_map_footprint(spec, vm->n_workers);
    status = oko_vm_charge(vm, footprint, what, error);
    if (status != 0)
        return status;
    status = types[spec->type].ops->create(vm, spec, &map, error);
    if (status != 0) {
        oko_vm_refund(vm, footprint);
        return status;
    }
    map->ops = types[spec->type].ops;
    map->vm = vm;
    map->spec = *spec;
    map->refs = 1;
    map->n_workers = vm->n_workers;
    map->memory = footprint;
    *map_out = map;
    return 0;
}

void oko_map_ref(struct oko_map *map)
{
    __atomic_add_fetch(&map->refs, 1, __ATOMIC_RELAXED);
}

void oko_map_unref(struct oko_map *map)
{
    if (map == NULL || __atomic_sub_fetch(&map->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    struct oko_vm *vm = map->vm;
    uint64_t memory = map->memory;
    map->ops->destroy(map);
    oko_vm_refund(vm, memory);
}

/* ---------------------------------------------------------------- the control side */

void oko_map_info(struct oko_map *map, struct oko_map_info *info)
{
    memset(info, 0, sizeof(*info));
    info->spec = map->spec;
    info->memory = map->memory;
    info->n_entries = map->spec.max_entries;
    if (map->ops->info != NULL)
        map->ops->info(map, info);
}

int oko_map_lookup(struct oko_map *map, const uint8_t *key, uint8_t *value)
{
    return map->ops->get(map, key, value);
}

int oko_map_update(struct oko_map *map, const uint8_t *key, const uint8_t *value, uint32_t flags)
{
    if (flags > OKO_EXIST)
        return OKO_E_INVAL;
    return map->ops->set != NULL ? map->ops->set(map, key, value, flags) : OKO_E_UNSUP;
}

int oko_map_delete(struct oko_map *map, const uint8_t *key)
{
    return map->ops->remove != NULL ? map->ops->remove(map, key) : OKO_E_UNSUP;
}

int oko_map_add(struct oko_map *map, const uint8_t *item)
{
    return map->ops->merge_add != NULL ? map->ops->merge_add(map, item) : OKO_E_UNSUP;
}

int oko_map_clear(struct oko_map *map)
{
    return map->ops->clear(map);
}

/* A value for each worker: sketches have merged ones. */
static bool per_worker(const struct oko_map *map)
{
    return map->spec.type == OKO_MAP_WORKER_ARRAY || map->spec.type == OKO_MAP_WORKER_HASH;
}

int oko_map_restore(struct oko_map *map, const uint8_t *entries, uint64_t n, uint32_t n_workers)
{
    uint32_t key_size, value_size;
    oko_map_dump_sizes(map, &key_size, &value_size);
    if (n_workers == 0)
        return OKO_E_INVAL;
    if (per_worker(map))
        value_size = map->spec.value_size * n_workers;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *key = entries + i * (key_size + value_size), *values = key + key_size;
        int rc = map->ops->restore != NULL ? map->ops->restore(map, key, values, n_workers)
                                           : map->ops->set(map, key, values, OKO_ANY);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int64_t oko_map_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max)
{
    return map->ops->dump(map, cursor, out, max);
}

void oko_map_dump_sizes(const struct oko_map *map, uint32_t *key_size, uint32_t *value_size)
{
    bool per_worker =
        map->spec.type == OKO_MAP_WORKER_ARRAY || map->spec.type == OKO_MAP_WORKER_HASH;
    if (map->spec.type == OKO_MAP_BLOOM) {
        *key_size = sizeof(uint64_t);
        *value_size = sizeof(uint64_t);
    } else if (map->spec.type == OKO_MAP_COUNT_MIN) {
        *key_size = 2 * sizeof(uint32_t);
        *value_size = sizeof(uint32_t);
    } else {
        *key_size = map->spec.key_size;
        *value_size = map->spec.value_size * (per_worker ? map->n_workers : 1);
    }
}
