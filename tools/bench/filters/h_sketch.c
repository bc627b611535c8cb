/* Seen before (Bloom filter)? How often (count-min)? */
#include "bench.h"

MAP(seen, 2, 8, 0, 1048576, 4);
MAP(counts, 3, 4, 4, 65536, 4);

struct pair {
    uint32_t src, dst;
};

ENTRY(const uint8_t *pkt, uint64_t len)
{
    const struct ip *ip;
    const struct udp *udp = transport(pkt, len, &ip, sizeof(struct udp));
    if (!udp)
        return 0;
    struct pair pair = {ip->src, ip->dst};
    uint32_t *known = LOOKUP(seen, &pair);
    uint32_t src = ip->src;
    ADD(counts, &src);
    return known && *known;
}

BATCH(p->data, p->len)
