/* array map against its naive twin. */
#define FUZZ_TYPE OKO_MAP_ARRAY
#include "fuzz_map.h"
