/* hash map against its naive twin. */
#define FUZZ_TYPE OKO_MAP_HASH
#include "fuzz_map.h"
