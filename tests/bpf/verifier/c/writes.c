/* refuse: the program writes to the packet
 *
 * at: ip->ttl = 64;
 *
 * hint: copy what you want to change */
#include "oko_bpf.h"

uint64_t entry(void *pkt, uint64_t len)
{
    struct oko_ipv4 *ip = pkt + 14;
    if (len < 34)
        return 0;
    ip->ttl = 64;
    return 1;
}
