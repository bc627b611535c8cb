/* lpm map against its naive twin. */
#define FUZZ_TYPE OKO_MAP_LPM_TRIE
#include "fuzz_map.h"
