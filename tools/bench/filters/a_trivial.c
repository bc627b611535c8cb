/* Nothing: the cost of a call. */
#include "bench.h"

ENTRY(const uint8_t *pkt, uint64_t len)
{
    (void)pkt;
    return len > 13;
}

BATCH(p->data, p->len)
