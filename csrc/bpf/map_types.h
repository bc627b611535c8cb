/* The map types: one vtable and one footprint each. Only map.c and the types' files include this.
 */
#ifndef OKO_BPF_MAP_TYPES_H
#define OKO_BPF_MAP_TYPES_H

#include "map.h"

extern const struct oko_map_ops oko_map_array_ops; /* and per-worker array */
extern const struct oko_map_ops oko_map_hash_ops;  /* and per-worker hash */
extern const struct oko_map_ops oko_map_lru_ops;
extern const struct oko_map_ops oko_map_lpm_ops;
extern const struct oko_map_ops oko_map_bloom_ops;
extern const struct oko_map_ops oko_map_cms_ops;

/* Bytes, UINT64_MAX when absurd. */
uint64_t oko_map_array_footprint(const struct oko_map_spec *spec, uint32_t n_workers);
uint64_t oko_map_hash_footprint(const struct oko_map_spec *spec, uint32_t n_workers);
uint64_t oko_map_lpm_footprint(const struct oko_map_spec *spec, uint32_t n_workers);
uint64_t oko_map_bloom_footprint(const struct oko_map_spec *spec, uint32_t n_workers);
uint64_t oko_map_cms_footprint(const struct oko_map_spec *spec, uint32_t n_workers);

#endif
