/* What this build can do on this CPU. */
#include "bpf/prog.h"

uint64_t oko_features(void)
{
    uint64_t features = OKO_FEATURE_CHECKED;
    if (oko_jit_available())
        features |= OKO_FEATURE_JIT;
#ifdef OKO_SANITIZED
    features |= OKO_FEATURE_SANITIZED;
#endif
    return features;
}
