#include "map_types.h"
#include "../base/err.h"
static int no(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
              struct oko_error *error)
{
    (void)vm, (void)map;
    return oko_err(error, OKO_E_UNSUP, "map %.63s: this type is not in the tree yet", spec->name);
}
const struct oko_map_ops oko_map_lru_ops = {.name = "lru", .create = no};
const struct oko_map_ops oko_map_lpm_ops = {.name = "lpm", .create = no};
const struct oko_map_ops oko_map_bloom_ops = {.name = "bloom", .create = no};
const struct oko_map_ops oko_map_cms_ops = {.name = "cms", .create = no};
uint64_t oko_map_lpm_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    (void)spec, (void)n_workers;
    return 0;
}
uint64_t oko_map_bloom_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    (void)spec, (void)n_workers;
    return 0;
}
uint64_t oko_map_cms_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    (void)spec, (void)n_workers;
    return 0;
}
