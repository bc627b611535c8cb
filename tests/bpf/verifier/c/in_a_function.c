/* refuse: this read needs 48 bytes of packet, but only 34 are sure to be there
 *
 * at: return pkt[47] == 2;
 *
 * hint: compare first
 *
 * The caller's test is too weak for what the function reads. */
#include "oko_bpf.h"

static __attribute__((noinline)) uint64_t is_syn(const uint8_t *pkt)
{
    return pkt[47] == 2;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;
    return is_syn(pkt);
}
