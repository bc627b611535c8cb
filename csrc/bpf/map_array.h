/* Arrays, shared and per worker: the layout that the JIT inlines.
 *
 * The value of index i as worker w sees it is at
 *
 *     values + w * worker_stride + i * stride          (i < map.spec.max_entries, else NULL)
 *
 * with worker_stride 0 for a shared array. The index is a little-endian unsigned integer of
 * map.spec.key_size bytes, 4 or 8. values and both strides never change. stride is value_size
 * rounded up to 8; a worker's values start at a cache line of their own. */
#ifndef OKO_BPF_MAP_ARRAY_H
#define OKO_BPF_MAP_ARRAY_H

#include "map.h"

struct oko_map_array {
    struct oko_map map;
    uint8_t *values;
    uint64_t stride;        /* bytes from value to value */
    uint64_t worker_stride; /* bytes from worker to worker; 0: all see the same */
    uint64_t size;          /* bytes at values */
    uint8_t lock;           /* of updates of a shared array, and of control-side reads */
};

#endif
