/* Sketches (Bloom filter, count-min): the layout and the positions, which the JIT inlines.
 *
 * Idea. An item sets or counts in n_hashes cells. One 64-bit hash of the item gives them all by
 * double hashing (Kirsch & Mitzenmacher 2006): with h1 and h2 its halves, cell i comes from
 * h1 + i * h2. Each worker has its own block of cells that only it writes, with plain loads and
 * stores; who reads merges all blocks (or of bits, sum of counters). The control side has one block
 * more, looked at only when it has ever added something.
 *
 * ---- Positions, step by step ----
 *   h = oko_hash_bytes(&sketch->hash, item, sketch->item_size)    (base/hash.h; the key is fixed,
 *       the same for every sketch everywhere, so that results never depend on a secret)
 *   h1 = high 32 bits of h;  h2 = low 32 bits of h | 1
 *   x_i = h1 + i * h2  modulo 2^32;   p_i = x_i * width >> 32  in 64 bits       (0 <= p_i < width)
 * Bloom filter: width = max_entries bits; p_i is a bit: bit p_i % 64 of the word p_i / 64
 *   of the block. Present when every bit is set in some block.
 * Count-min: width = max_entries columns; counter i is the u32 at index i * width + p_i of the
 *   block. The estimate is the least over i of the sum of counter i over the blocks, both
 * saturating at 2^32 - 1. Block b (worker b) is at cells + b * block_size. Read blocks 0 ..
 * n_blocks - 1, where n_blocks is n_workers, or n_workers + 1 once the control side has added: load
 * it on each lookup (it is the only member that changes). An add by worker w touches block w only.
 */
#ifndef OKO_BPF_MAP_SKETCH_H
#define OKO_BPF_MAP_SKETCH_H

#include "../base/hash.h"
#include "map.h"

struct oko_map_sketch {
    struct oko_map map;
    uint8_t *cells;
    uint64_t block_size; /* bytes, a multiple of 64 */
    uint32_t width;
    uint32_t n_hashes;
    uint32_t item_size;
    uint32_t n_blocks; /* atomic */
    struct oko_hash_key hash;
    uint64_t cells_size; /* bytes */
    uint8_t lock;        /* of the control side's block */
};

/* "OKOsketc" */
#define OKO_SKETCH_SEED UINT64_C(0x6f6b6f736b657463)

static inline uint64_t oko_sketch_hash(const struct oko_map_sketch *sketch, const void *item)
{
    return oko_hash_bytes(&sketch->hash, item, sketch->item_size);
}

/* Position of hash function i. */
static inline uint32_t oko_sketch_position(const struct oko_map_sketch *sketch, uint64_t h,
                                           uint32_t i)
{
    uint32_t x = (uint32_t)(h >> 32) + i * ((uint32_t)h | 1);
    return (uint32_t)((uint64_t)x * sketch->width >> 32);
}

static inline void *oko_sketch_block(const struct oko_map_sketch *sketch, uint32_t block)
{
    return sketch->cells + block * sketch->block_size;
}

/* map_sketch.c: what both have in common. block_size: bytes of cells in one block. */
uint64_t oko_sketch_footprint(uint64_t block_size, uint32_t n_workers);
int oko_sketch_create(struct oko_vm *vm, const struct oko_map_spec *spec, uint64_t block_size,
                      struct oko_map **map, struct oko_error *error);
void oko_sketch_destroy(struct oko_map *map);
/* Readies the control side's block for an add: takes its lock and shows it to readers. */
void oko_sketch_lock_control(struct oko_map_sketch *sketch);
void oko_sketch_unlock_control(struct oko_map_sketch *sketch);
int oko_sketch_clear(struct oko_map *map);
bool oko_sketch_contains(const struct oko_map *map, const void *address, uint32_t width,
                         const struct oko_env *env);

#endif
