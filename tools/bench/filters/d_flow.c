/* A hash table by 5-tuple: is the flow in it with value 1? */
#include "bench.h"

MAP(flows, 4, 16, 8, ENTRIES, 0);

ENTRY(const uint8_t *pkt, uint64_t len)
{
    const struct ip *ip;
    const struct udp *udp = transport(pkt, len, &ip, sizeof(struct udp));
    if (!udp)
        return 0;
    struct flow key = {ip->src, ip->dst, udp->src, udp->dst, ip->proto, {0, 0, 0}};
    uint64_t *value = LOOKUP(flows, &key);
    return value && *value == 1;
}

FILLER(flows)
BATCH(p->data, p->len)
