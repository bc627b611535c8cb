/* A stateful TCP firewall: connections are opened from the inside (10/8) and keyed by the tuple in
 * canonical order. */
#include "bench.h"

struct conn {
    uint32_t state, packets;
};

MAP(conns, 4, 16, 8, ENTRIES, 0);

ENTRY(const uint8_t *pkt, uint64_t len)
{
    const struct ip *ip;
    const struct tcp *tcp = transport(pkt, len, &ip, sizeof(struct tcp));
    if (!tcp || ip->proto != 6)
        return 0;
    struct flow key = {0, 0, 0, 0, 6, {0, 0, 0}};
    int inside = (ip->src & 0xff) == 10;
    if (inside) {
        key.src = ip->src;
        key.dst = ip->dst;
        key.sport = tcp->src;
        key.dport = tcp->dst;
    } else {
        key.src = ip->dst;
        key.dst = ip->src;
        key.sport = tcp->dst;
        key.dport = tcp->src;
    }
    uint8_t flags = tcp->flags;
    struct conn *c = LOOKUP(conns, &key);
    if (!c) {
        if (!inside || (flags & 0x12) != 0x02)
            return 0;
        struct conn fresh = {1, 1};
        UPDATE(conns, &key, &fresh);
        return 1;
    }
    c->packets++;
    if (flags & 0x02)
        c->state = 1;
    else if (flags & 0x05)
        c->state = 3;
    else if (c->state == 1)
        c->state = 2;
    else if (c->state == 3 && !(flags & 0x10))
        return 0;
    return 1;
}

FILLER(conns)
BATCH(p->data, p->len)
