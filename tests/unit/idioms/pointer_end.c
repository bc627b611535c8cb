/* XDP style: a pointer and the end. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    const uint8_t *end = pkt + len;
    const struct oko_eth *eth = (const void *)pkt;
    const struct oko_ipv4 *ip = (const void *)(eth + 1);

    if ((const uint8_t *)(ip + 1) > end + WRONG)
        return 0;
    return ip->proto == 6 && ip->dst == bpf_htonl(0x0a000001);
}
