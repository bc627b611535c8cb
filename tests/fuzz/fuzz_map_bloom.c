/* bloom map against its naive twin. */
#define FUZZ_TYPE OKO_MAP_BLOOM
#include "fuzz_map.h"
