/* Ethernet, IPv4 with options, UDP to one port. */
#include "bench.h"

ENTRY(const uint8_t *pkt, uint64_t len)
{
    const struct ip *ip;
    const struct udp *udp = transport(pkt, len, &ip, sizeof(struct udp));
    if (!udp || ip->proto != 17)
        return 0;
    return udp->dst == SWAP16(53);
}

BATCH(p->data, p->len)
