/* Bloom filter: was this item ever added? Never a false no. See map_sketch.h for layout and
 * positions.
 *
 * Thread-safety. A worker sets bits in its own block, with a load and a store; readers or the
 * blocks together. */
#include "map_sketch.h"
#include "map_types.h"

static struct oko_map_sketch *sketch_of(struct oko_map *map)
{
    return (struct oko_map_sketch *)map;
}

static uint64_t n_words(const struct oko_map_spec *spec)
{
    return ((uint64_t)spec->max_entries + 63) / 64;
}

uint64_t oko_map_bloom_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    return oko_sketch_footprint(n_words(spec) * 8, n_workers);
}

static int bloom_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                        struct oko_error *error)
{
    return oko_sketch_create(vm, spec, n_words(spec) * 8, map, error);
}

static uint64_t merged_word(const struct oko_map_sketch *sketch, uint64_t word)
{
    uint32_t n_blocks = OKO_LOAD_ACQUIRE(&sketch->n_blocks);
    uint64_t bits = 0;
    for (uint32_t b = 0; b < n_blocks; b++)
        bits |= OKO_LOAD((uint64_t *)oko_sketch_block(sketch, b) + word);
    return bits;
}

static uint32_t is_present(const struct oko_map_sketch *sketch, const void *item)
{
    uint64_t h = oko_sketch_hash(sketch, item);
    for (uint32_t i = 0; i < sketch->n_hashes; i++) {
        uint32_t bit = oko_sketch_position(sketch, h, i);
        if ((merged_word(sketch, bit / 64) >> bit % 64 & 1) == 0)
            return 0;
    }
    return 1;
}

static void add_to(struct oko_map_sketch *sketch, uint32_t block, const void *item)
{
    uint64_t *words = oko_sketch_block(sketch, block);
    uint64_t h = oko_sketch_hash(sketch, item);
    for (uint32_t i = 0; i < sketch->n_hashes; i++) {
        uint32_t bit = oko_sketch_position(sketch, h, i);
        uint64_t word = OKO_LOAD(&words[bit / 64]);
        uint64_t set = word | (uint64_t)1 << bit % 64;
        if (set != word) /* most are, in a filter in use; then the line stays shared */
            OKO_STORE(&words[bit / 64], set);
    }
}

static void *bloom_lookup(struct oko_map *map, const void *key, struct oko_env *env)
{
    *(uint32_t *)env->scratch = is_present(sketch_of(map), key);
    return env->scratch;
}

static int bloom_add(struct oko_map *map, const void *item, struct oko_env *env)
{
    add_to(sketch_of(map), env->worker, item);
    return 0;
}

static int bloom_get(struct oko_map *map, const uint8_t *key, uint8_t *value)
{
    uint32_t present = is_present(sketch_of(map), key);
    memcpy(value, &present, sizeof(present));
    return 0;
}

static int bloom_merge_add(struct oko_map *map, const uint8_t *item)
{
    struct oko_map_sketch *sketch = sketch_of(map);
    oko_sketch_lock_control(sketch);
    add_to(sketch, map->n_workers, item);
    oko_sketch_unlock_control(sketch);
    return 0;
}

/* All is put back into the first worker's block: which worker it was does not matter. */
static int bloom_restore(struct oko_map *map, const uint8_t *key, const uint8_t *values,
                         uint32_t n_workers)
{
    (void)n_workers;
    uint64_t word, bits;
    memcpy(&word, key, 8);
    memcpy(&bits, values, 8);
    if (word >= n_words(&map->spec))
        return OKO_E_NOTFOUND;
    OKO_STORE((uint64_t *)oko_sketch_block(sketch_of(map), 0) + word, bits);
    return 0;
}

static int64_t bloom_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max)
{
    int64_t n = 0;
    for (; n < max && *cursor < n_words(&map->spec); n++, (*cursor)++) {
        uint64_t word = merged_word(sketch_of(map), *cursor);
        memcpy(out, cursor, 8);
        memcpy(out + 8, &word, 8);
        out += 16;
    }
    return n;
}

const struct oko_map_ops oko_map_bloom_ops = {
    .name = "bloom",
    .create = bloom_create,
    .destroy = oko_sketch_destroy,
    .lookup = bloom_lookup,
    .add = bloom_add,
    .get = bloom_get,
    .merge_add = bloom_merge_add,
    .clear = oko_sketch_clear,
    .restore = bloom_restore,
    .dump = bloom_dump,
    .contains = oko_sketch_contains,
};
