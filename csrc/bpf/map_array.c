/* Arrays, shared and per worker; see map_array.h for the layout.
 *
 * Thread-safety. A lookup is arithmetic. An update through the helper or from the control side
 * holds a lock while it copies, so two updates never mix and a dump sees whole values; what
 * programs store through value pointers races as in C. A per-worker array has one lock per worker,
 * in the line behind the worker's values, so that workers share nothing. */
#include "map_array.h"

#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "map_types.h"
#include "vm.h"

#include <stdlib.h>

static struct oko_map_array *array_of(struct oko_map *map)
{
    return (struct oko_map_array *)map;
}

static uint64_t stride_of(const struct oko_map_spec *spec)
{
    return oko_round_up(spec->value_size, 8);
}

/* Bytes of all values of one worker, its lock included. */
static uint64_t block_size(const struct oko_map_spec *spec)
{
    uint64_t values = oko_size_mul(spec->max_entries, stride_of(spec));
    return values > UINT64_MAX / 2 ? UINT64_MAX
                                   : oko_round_up(values, OKO_CACHE_LINE) + OKO_CACHE_LINE;
}

static uint64_t values_size(const struct oko_map_spec *spec, uint32_t n_workers)
{
    return oko_size_mul(block_size(spec), spec->type == OKO_MAP_WORKER_ARRAY ? n_workers : 1);
}

uint64_t oko_map_array_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    return oko_size_add(values_size(spec, n_workers), sizeof(struct oko_map_array));
}

static int array_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                        struct oko_error *error)
{
    struct oko_map_array *array = calloc(1, sizeof(*array));
    uint64_t size = values_size(spec, vm->n_workers);
    uint8_t *values = oko_alloc(size);
    if (array == NULL || values == NULL) {
        free(array);
        oko_release(values, size);
        return oko_err(error, OKO_E_NOMEM, "map %.63s: out of memory", spec->name);
    }
    array->values = values;
    array->size = size;
    array->stride = stride_of(spec);
    array->worker_stride = spec->type == OKO_MAP_WORKER_ARRAY ? block_size(spec) : 0;
    *map = &array->map;
    return 0;
}

static void array_destroy(struct oko_map *map)
{
    struct oko_map_array *array = array_of(map);
    oko_release(array->values, array->size);
    free(array);
}

static uint64_t index_of(const struct oko_map *map, const void *key)
{
    return map->spec.key_size == 4 ? oko_shared_load32(key) : oko_shared_load64(key);
}

static uint64_t *value_at(const struct oko_map_array *array, uint32_t worker, uint64_t index)
{
    return (uint64_t *)(array->values + worker * array->worker_stride + index * array->stride);
}

static uint8_t *lock_of(struct oko_map_array *array, uint32_t worker)
{
    if (array->worker_stride == 0)
        return &array->lock;
    return array->values + (worker + 1) * array->worker_stride - OKO_CACHE_LINE;
}

/* How many copies of each value there are. */
static uint32_t n_copies(const struct oko_map_array *array)
{
    return array->worker_stride == 0 ? 1 : array->map.n_workers;
}

/* ---------------------------------------------------------------- for programs */

static void *array_lookup(struct oko_map *map, const void *key, struct oko_env *env)
{
    uint64_t index = index_of(map, key);
    return index < map->spec.max_entries ? value_at(array_of(map), env->worker, index) : NULL;
}

static void put(struct oko_map_array *array, uint32_t worker, uint64_t index, const void *value)
{
    uint8_t *lock = lock_of(array, worker);
    oko_spin_lock(lock);
    oko_words_put(value_at(array, worker, index), value, array->map.spec.value_size);
    oko_spin_unlock(lock);
}

static int array_update(struct oko_map *map, const void *key, const void *value,
                        struct oko_env *env)
{
    uint64_t index = index_of(map, key);
    if (index >= map->spec.max_entries)
        return OKO_HELPER_INDEX;
    put(array_of(map), env->worker, index, value);
    return 0;
}

static bool array_contains(const struct oko_map *map, const void *address, uint32_t width,
                           const struct oko_env *env)
{
    const struct oko_map_array *array = (const struct oko_map_array *)map;
    uint64_t at = (uint64_t)address - (uint64_t)value_at(array, env->worker, 0);
    return at / array->stride < map->spec.max_entries &&
           at % array->stride + width <= map->spec.value_size;
}

/* ---------------------------------------------------------------- for the control side */

static void get_all(struct oko_map_array *array, uint64_t index, uint8_t *out)
{
    uint32_t size = array->map.spec.value_size;
    for (uint32_t w = 0; w < n_copies(array); w++, out += size) {
        uint8_t *lock = lock_of(array, w);
        oko_spin_lock(lock);
        oko_words_get(out, value_at(array, w, index), size);
        oko_spin_unlock(lock);
    }
}

static int array_get(struct oko_map *map, const uint8_t *key, uint8_t *value)
{
    uint64_t index = index_of(map, key);
    if (index >= map->spec.max_entries)
        return OKO_E_NOTFOUND;
    get_all(array_of(map), index, value);
    return 0;
}

static int array_set(struct oko_map *map, const uint8_t *key, const uint8_t *value, uint32_t flags)
{
    uint64_t index = index_of(map, key);
    if (index >= map->spec.max_entries)
        return OKO_E_NOTFOUND;
    if (flags == OKO_NOEXIST)
        return OKO_E_EXISTS; /* every index exists */
    for (uint32_t w = 0; w < n_copies(array_of(map)); w++)
        put(array_of(map), w, index, value);
    return 0;
}

static int array_restore(struct oko_map *map, const uint8_t *key, const uint8_t *values,
                         uint32_t n_workers)
{
    uint64_t index = index_of(map, key);
    if (index >= map->spec.max_entries)
        return OKO_E_NOTFOUND;
    for (uint32_t w = 0; w < n_copies(array_of(map)) && w < n_workers; w++)
        put(array_of(map), w, index, values + (size_t)w * map->spec.value_size);
    return 0;
}

static int array_clear(struct oko_map *map)
{
    struct oko_map_array *array = array_of(map);
    for (uint32_t w = 0; w < n_copies(array); w++) {
        uint8_t *lock = lock_of(array, w);
        for (uint64_t i = 0; i < map->spec.max_entries; i++) { /* no worker waits for long */
            oko_spin_lock(lock);
            oko_words_zero(value_at(array, w, i), array->stride / 8);
            oko_spin_unlock(lock);
        }
    }
    return 0;
}

static int64_t array_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max)
{
    uint32_t key_size, value_size;
    oko_map_dump_sizes(map, &key_size, &value_size);
    int64_t n = 0;
    for (; n < max && *cursor < map->spec.max_entries; n++, (*cursor)++) {
        memcpy(out, cursor, key_size);
        get_all(array_of(map), *cursor, out + key_size);
        out += key_size + value_size;
    }
    return n;
}

const struct oko_map_ops oko_map_array_ops = {
    .name = "array",
    .create = array_create,
    .destroy = array_destroy,
    .lookup = array_lookup,
    .update = array_update,
    .get = array_get,
    .set = array_set,
    .restore = array_restore,
    .clear = array_clear,
    .dump = array_dump,
    .contains = array_contains,
};
