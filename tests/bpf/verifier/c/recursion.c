/* refuse: recursive call of ..
 *
 * at: *
 *
 * hint: bounded loop */
#include "oko_bpf.h"

static __attribute__((noinline)) uint64_t count(const uint8_t *pkt, uint64_t len)
{
    if (len < 14)
        return 0;
    return count(pkt, len - 14) * 3 + bpf_hash(pkt, 14);
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    return count(pkt, len) & 1;
}
