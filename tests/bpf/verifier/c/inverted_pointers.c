/* refuse: this read needs .. bytes of packet, but here it has 0 to 33
 *
 * at: return ip->proto == 17;
 *
 * hint: the wrong way round
 *
 * The same by addresses. */
#include "oko_bpf.h"

uint64_t entry(const void *pkt, uint64_t len)
{
    const void *end = pkt + len;
    const struct oko_ipv4 *ip = pkt + sizeof(struct oko_eth);
    if ((const void *)(ip + 1) <= end)
        return 0;
    return ip->proto == 17;
}
