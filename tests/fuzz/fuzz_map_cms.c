/* cms map against its naive twin. */
#define FUZZ_TYPE OKO_MAP_COUNT_MIN
#include "fuzz_map.h"
