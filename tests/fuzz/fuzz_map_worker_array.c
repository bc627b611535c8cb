/* worker_array map against its naive twin. */
#define FUZZ_TYPE OKO_MAP_WORKER_ARRAY
#include "fuzz_map.h"
