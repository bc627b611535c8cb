/* What this build can do on this CPU. */
#include "oko.h"

uint64_t oko_features(void)
{
    return 0;
}
