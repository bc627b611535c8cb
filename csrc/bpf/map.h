/* Maps: state that programs keep between packets.
 *
 * A map is created with fixed capacity and never moves, so its address may stand in machine code.
 * struct oko_map is the common head; each type (map_array.c, map_hash.c, map_lru.c, map_lpm.c,
 * map_bloom.c, map_cms.c) has its own struct that begins with it, in its own header where the JIT
 * inlines it, and a vtable of the operations it has.
 *
 * Thread-safety. Forwarding threads (one per worker index) call lookup/update/del/add concurrently
 * with each other and with the control side. Lookups take no lock. Values of array and hash maps
 * that programs store to directly race as in C; updates through update() are whole. A pointer that
 * lookup returns points into one entry's value until the worker's run ends (the worker's next
 * quiescent point, qsbr.h); an entry deleted meanwhile is not reused before that. */
#ifndef OKO_BPF_MAP_H
#define OKO_BPF_MAP_H

#include "env.h"

/* Codes that helpers return to programs (those of Oko 2018). FULL: no room, or the key to delete is
 * absent. INDEX: beyond an array's end, or a prefix longer than the address. */
enum { OKO_HELPER_NO_OP = -2, OKO_HELPER_NULL = -3, OKO_HELPER_FULL = -4, OKO_HELPER_INDEX = -5 };

struct oko_map_ops {
    const char *name; /* "hash" */
    int (*create)(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                  struct oko_error *error);
    void (*destroy)(struct oko_map *map);
    /* For programs. NULL where the type lacks the operation. key/value/item: sizes of the spec. */
    void *(*lookup)(struct oko_map *map, const void *key, struct oko_env *env);
    int (*update)(struct oko_map *map, const void *key, const void *value, struct oko_env *env);
    int (*del)(struct oko_map *map, const void *key, struct oko_env *env);
    int (*add)(struct oko_map *map, const void *item, struct oko_env *env);
    /* For the control side; semantics as the functions of oko.h. */
    int (*get)(struct oko_map *map, const uint8_t *key, uint8_t *value);
    int (*set)(struct oko_map *map, const uint8_t *key, const uint8_t *value, uint32_t flags);
    int (*remove)(struct oko_map *map, const uint8_t *key);
    int (*merge_add)(struct oko_map *map, const uint8_t *item);
    int (*clear)(struct oko_map *map);
    /* Puts back an entry as dump gave it, with the values of n_workers; NULL: as set() does. No
     * program runs meanwhile. */
    int (*restore)(struct oko_map *map, const uint8_t *key, const uint8_t *values,
                   uint32_t n_workers);
    int64_t (*dump)(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max);
    void (*info)(struct oko_map *map, struct oko_map_info *info); /* beyond spec and memory */
    /* Do all width bytes at address lie in one entry's value, as seen by this worker? */
    bool (*contains)(const struct oko_map *map, const void *address, uint32_t width,
                     const struct oko_env *env);
};

struct oko_map {
    const struct oko_map_ops *ops;
    struct oko_vm *vm;
    struct oko_map_spec spec;
    uint32_t refs; /* program instances that hold it; atomic */
    uint32_t n_workers;
    uint64_t memory; /* bytes charged to the VM's quota */
};

static inline bool oko_map_type_is_sketch(uint32_t type)
{
    return type == OKO_MAP_BLOOM || type == OKO_MAP_COUNT_MIN;
}
static inline bool oko_map_is_sketch(const struct oko_map *map)
{
    return oko_map_type_is_sketch(map->spec.type);
}

/* Largest sizes of a spec. Keys must fit a program's stack. */
enum { OKO_MAX_KEY_SIZE = 512, OKO_MAX_VALUE_SIZE = 1 << 20, OKO_MAX_ENTRIES = 1 << 30 };
enum { OKO_MAX_HASHES = 16 };

/* What the verifier must know of a type, without creating a map. */
struct oko_map_class {
    uint32_t item_size;  /* bytes read at the key/item argument */
    uint32_t value_size; /* bytes readable (and, if value_writable, writable) at the result */
    bool has_lookup, has_update, has_delete, has_add;
    bool lookup_may_fail; /* result may be NULL */
    bool lookup_writes;   /* a lookup changes state (LRU) */
    bool value_writable;  /* sketches: read-only scratch */
};

/* Checks a spec (type, sizes, limits) and classes it. */
int oko_map_class(const struct oko_map_spec *spec, struct oko_map_class *cls,
                  struct oko_error *error);
/* Bytes that a map of this spec (which oko_map_class accepted) will take, UINT64_MAX when it is
 * absurd; what the quota is charged. */
uint64_t oko_map_footprint(const struct oko_map_spec *spec, uint32_t n_workers);

/* Creates a map and charges its footprint to the VM's quota; the creator holds one reference. */
int oko_map_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                   struct oko_error *error);
void oko_map_ref(struct oko_map *map);
void oko_map_unref(struct oko_map *map); /* takes NULL; the last one destroys it */
/* Same name, type, sizes and capacity: a reloaded program keeps such a map. */
bool oko_map_spec_equal(const struct oko_map_spec *a, const struct oko_map_spec *b);

#endif
