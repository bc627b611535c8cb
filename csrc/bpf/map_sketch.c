/* What Bloom filter and count-min have in common; see map_sketch.h. */
#include "map_sketch.h"

#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "helper.h"
#include "vm.h"

static struct oko_map_sketch *sketch_of(struct oko_map *map)
{
    return (struct oko_map_sketch *)map;
}

static uint64_t all_blocks(uint64_t block_size, uint32_t n_workers)
{
    return oko_size_mul(oko_round_up(block_size, OKO_CACHE_LINE), n_workers + 1);
}

uint64_t oko_sketch_footprint(uint64_t block_size, uint32_t n_workers)
{
    return oko_size_add(all_blocks(block_size, n_workers), sizeof(struct oko_map_sketch));
}

int oko_sketch_create(struct oko_vm *vm, const struct oko_map_spec *spec, uint64_t block_size,
                      struct oko_map **map, struct oko_error *error)
{
    uint64_t size = all_blocks(block_size, vm->n_workers);
    struct oko_map_sketch *sketch = oko_alloc(sizeof(*sketch));
    uint8_t *cells = oko_alloc(size);
    if (sketch == NULL || cells == NULL) {
        oko_release(sketch, sizeof(*sketch));
        oko_release(cells, size);
        return oko_err(error, OKO_E_NOMEM, "map %.63s: out of memory", spec->name);
    }
    sketch->cells = cells;
    sketch->cells_size = size;
    sketch->block_size = oko_round_up(block_size, OKO_CACHE_LINE);
    sketch->width = spec->max_entries;
    sketch->n_hashes = spec->n_hashes;
    sketch->item_size = spec->key_size != 0 ? spec->key_size : spec->value_size;
    sketch->n_blocks = vm->n_workers;
    sketch->hash = oko_hash_key_from(OKO_SKETCH_SEED);
    *map = &sketch->map;
    return 0;
}

void oko_sketch_destroy(struct oko_map *map)
{
    struct oko_map_sketch *sketch = sketch_of(map);
    oko_release(sketch->cells, sketch->cells_size);
    oko_release(sketch, sizeof(*sketch));
}

void oko_sketch_lock_control(struct oko_map_sketch *sketch)
{
    oko_spin_lock(&sketch->lock);
    OKO_STORE_RELEASE(&sketch->n_blocks, sketch->map.n_workers + 1);
}

void oko_sketch_unlock_control(struct oko_map_sketch *sketch)
{
    oko_spin_unlock(&sketch->lock);
}

/* Items that workers add meanwhile may be forgotten too, wholly or in part. */
int oko_sketch_clear(struct oko_map *map)
{
    struct oko_map_sketch *sketch = sketch_of(map);
    oko_spin_lock(&sketch->lock);
    oko_words_zero((uint64_t *)sketch->cells, sketch->cells_size / 8);
    oko_spin_unlock(&sketch->lock);
    return 0;
}

/* What a lookup returns is a call site's scratch, never a cell. */
bool oko_sketch_contains(const struct oko_map *map, const void *address, uint32_t width,
                         const struct oko_env *env)
{
    (void)map;
    uint64_t at = (uint64_t)address - (uint64_t)env->scratch;
    return at < OKO_SCRATCH_SIZE && at % 8 + width <= sizeof(uint32_t);
}
