/* A cursor struct, handed to inlined functions. */
#include "idiom.h"

struct cursor {
    const uint8_t *pkt;
    uint64_t at, end;
};

static __always_inline const void *take(struct cursor *c, uint64_t size)
{
    const void *here = c->pkt + c->at;

    if (c->at + size > c->end + WRONG)
        return NULL;
    c->at += size;
    return here;
}

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    struct cursor c = {pkt, 0, len};
    const struct oko_eth *eth = take(&c, sizeof(*eth));
    const struct oko_ipv4 *ip = eth ? take(&c, sizeof(*ip)) : NULL;

    if (!ip || ip->version_ihl >> 4 != 4)
        return 0;

    const uint8_t *options = take(&c, (ip->version_ihl & 15) * 4 - sizeof(*ip));
    const struct oko_udp *udp = options ? take(&c, sizeof(*udp)) : NULL;

    return udp && udp->checksum == 0;
}
