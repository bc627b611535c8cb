/* lru map against its naive twin. */
#define FUZZ_TYPE OKO_MAP_LRU_HASH
#include "fuzz_map.h"
