/* The same, and a counter in an array, by the low byte of the source address. */
#include "bench.h"

MAP(counters, 1, 4, 8, 256, 0);

ENTRY(const uint8_t *pkt, uint64_t len)
{
    const struct ip *ip;
    const struct udp *udp = transport(pkt, len, &ip, sizeof(struct udp));
    if (!udp || ip->proto != 17)
        return 0;
    uint32_t index = ip->src >> 24;
    uint64_t *count = LOOKUP(counters, &index);
    if (!count)
        return 0;
    *count += 1;
    return udp->dst == SWAP16(53);
}

FILLER(counters)
BATCH(p->data, p->len)
