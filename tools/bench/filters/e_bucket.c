/* A token bucket per source address, on the datapath clock. */
#include "bench.h"

struct bucket {
    uint64_t last, tokens;
};

MAP(buckets, 4, 4, 16, ENTRIES, 0);

#define RATE  1000000u /* packets a second */
#define BURST 1000u

ENTRY(const uint8_t *pkt, uint64_t len, const struct oko_meta *meta)
{
    const struct ip *ip;
    const struct udp *udp = transport(pkt, len, &ip, sizeof(struct udp));
    if (!udp)
        return 0;
    uint32_t key = ip->src;
    uint64_t now = NOW(meta);
    struct bucket *b = LOOKUP(buckets, &key);
    if (!b) {
        struct bucket fresh = {now, BURST - 1};
        UPDATE(buckets, &key, &fresh);
        return 1;
    }
    uint64_t gained = (now - b->last) / (1000000000u / RATE);
    uint64_t tokens = b->tokens + gained;
    if (gained)
        b->last = now;
    if (tokens > BURST)
        tokens = BURST;
    if (tokens == 0) {
        b->tokens = 0;
        return 0;
    }
    b->tokens = tokens - 1;
    return 1;
}

FILLER(buckets)
BATCH(p->data, p->len, p->meta)
