/* The payload hashed in place. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;
    return bpf_hash(pkt + 14, len - 14 + WRONG) & 1;
}
