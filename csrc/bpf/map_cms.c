/* Count-min sketch (Cormode & Muthukrishnan 2005): how often was this item added? Never fewer than
 * truly. See map_sketch.h for layout and positions.
 *
 * Counters stop at 2^32 - 1. Every row is counted on each add (not only the smallest ones: that
 * "conservative update" needs the merged counters, which other workers are changing).
 *
 * Thread-safety. A worker counts in its own block, with a load and a store; readers sum. */
#include "map_sketch.h"
#include "../base/bits.h"
#include "map_types.h"

static struct oko_map_sketch *sketch_of(struct oko_map *map)
{
    return (struct oko_map_sketch *)map;
}

static uint64_t block_size(const struct oko_map_spec *spec)
{
    return oko_size_mul(oko_size_mul(spec->max_entries, spec->n_hashes), sizeof(uint32_t));
}

uint64_t oko_map_cms_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    return oko_sketch_footprint(block_size(spec), n_workers);
}

static int cms_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                      struct oko_error *error)
{
    return oko_sketch_create(vm, spec, block_size(spec), map, error);
}

static uint32_t merged_counter(const struct oko_map_sketch *sketch, uint64_t index)
{
    uint32_t n_blocks = OKO_LOAD_ACQUIRE(&sketch->n_blocks);
    uint64_t sum = 0;
    for (uint32_t b = 0; b < n_blocks; b++)
        sum += OKO_LOAD((uint32_t *)oko_sketch_block(sketch, b) + index);
    return sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
}

static uint64_t cell_of(const struct oko_map_sketch *sketch, uint64_t h, uint32_t row)
{
    return (uint64_t)row * sketch->width + oko_sketch_position(sketch, h, row);
}

static uint32_t estimate(const struct oko_map_sketch *sketch, const void *item)
{
    uint64_t h = oko_sketch_hash(sketch, item);
    uint32_t least = UINT32_MAX;
    for (uint32_t row = 0; row < sketch->n_hashes; row++) {
        uint32_t counter = merged_counter(sketch, cell_of(sketch, h, row));
        least = counter < least ? counter : least;
    }
    return least;
}

static void add_to(struct oko_map_sketch *sketch, uint32_t block, const void *item)
{
    uint32_t *counters = oko_sketch_block(sketch, block);
    uint64_t h = oko_sketch_hash(sketch, item);
    for (uint32_t row = 0; row < sketch->n_hashes; row++) {
        uint32_t *counter = &counters[cell_of(sketch, h, row)];
        uint32_t n = OKO_LOAD(counter);
        if (n != UINT32_MAX)
            OKO_STORE(counter, n + 1);
    }
}

static void *cms_lookup(struct oko_map *map, const void *key, struct oko_env *env)
{
    *(uint32_t *)env->scratch = estimate(sketch_of(map), key);
    return env->scratch;
}

static int cms_add(struct oko_map *map, const void *item, struct oko_env *env)
{
    add_to(sketch_of(map), env->worker, item);
    return 0;
}

static int cms_get(struct oko_map *map, const uint8_t *key, uint8_t *value)
{
    uint32_t n = estimate(sketch_of(map), key);
    memcpy(value, &n, sizeof(n));
    return 0;
}

static int cms_merge_add(struct oko_map *map, const uint8_t *item)
{
    struct oko_map_sketch *sketch = sketch_of(map);
    oko_sketch_lock_control(sketch);
    add_to(sketch, map->n_workers, item);
    oko_sketch_unlock_control(sketch);
    return 0;
}

/* All is put back into the first worker's block: which worker it was does not matter. */
static int cms_restore(struct oko_map *map, const uint8_t *key, const uint8_t *values,
                       uint32_t n_workers)
{
    (void)n_workers;
    struct oko_map_sketch *sketch = sketch_of(map);
    uint32_t cell[2], n;
    memcpy(cell, key, 8);
    memcpy(&n, values, 4);
    if (cell[0] >= sketch->n_hashes || cell[1] >= sketch->width)
        return OKO_E_NOTFOUND;
    OKO_STORE((uint32_t *)oko_sketch_block(sketch, 0) + (uint64_t)cell[0] * sketch->width + cell[1],
              n);
    return 0;
}

static int64_t cms_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max)
{
    struct oko_map_sketch *sketch = sketch_of(map);
    uint64_t n_cells = (uint64_t)sketch->width * sketch->n_hashes;
    int64_t n = 0;
    for (; n < max && *cursor < n_cells; n++, (*cursor)++) {
        uint32_t cell[3] = {(uint32_t)(*cursor / sketch->width),
                            (uint32_t)(*cursor % sketch->width), merged_counter(sketch, *cursor)};
        memcpy(out, cell, sizeof(cell));
        out += sizeof(cell);
    }
    return n;
}

const struct oko_map_ops oko_map_cms_ops = {
    .name = "count-min",
    .create = cms_create,
    .destroy = oko_sketch_destroy,
    .lookup = cms_lookup,
    .add = cms_add,
    .get = cms_get,
    .merge_add = cms_merge_add,
    .clear = oko_sketch_clear,
    .restore = cms_restore,
    .dump = cms_dump,
    .contains = oko_sketch_contains,
};
