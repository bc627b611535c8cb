/* Symmetry: each end (address, port) is hashed alone and the two hashes are added, so it does not
 * matter which one is the source. */
#include "spread.h"

#include "base/be.h"
#include "parse.h"

/* Finalizer of splitmix64: every input bit changes about half of the output's. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

struct ends {
    uint64_t src, dst;
};

/* Hashes of the two outer addresses. */
static struct ends addresses(const struct oko_key *key)
{
    switch (oko_be16(key->eth_type)) {
    case OKO_ETH_TYPE_IPV4:
    case OKO_ETH_TYPE_ARP: /* shares the members: a host's ARP goes where its IP goes */
    case OKO_ETH_TYPE_RARP:
        if (oko_be32(key->ipv4_src) || oko_be32(key->ipv4_dst))
            return (struct ends){mix(oko_be32(key->ipv4_src)), mix(oko_be32(key->ipv4_dst))};
        break;
    case OKO_ETH_TYPE_IPV6:
        if (key->ip_proto[0] || oko_be64(key->ipv6_src) || oko_be64(key->ipv6_dst))
            return (struct ends){
                mix(mix(oko_be64(key->ipv6_src)) + oko_be64(key->ipv6_src + 8)),
                mix(mix(oko_be64(key->ipv6_dst)) + oko_be64(key->ipv6_dst + 8)),
            };
        break;
    default:
        break;
    }
    uint64_t src = (uint64_t)oko_be16(key->eth_src) << 32 | oko_be32(key->eth_src + 2);
    uint64_t dst = (uint64_t)oko_be16(key->eth_dst) << 32 | oko_be32(key->eth_dst + 2);
    return (struct ends){mix(src + 1), mix(dst + 1)};
}

uint32_t oko_spread_of(const struct oko_key *key, enum oko_spread spread, uint32_t n_workers)
{
    struct ends ends = addresses(key);
    uint64_t hash = 0;

    switch (spread) {
    case OKO_SPREAD_ADDR:
        hash = ends.src + ends.dst;
        break;
    case OKO_SPREAD_5TUPLE: /* a fragment has no ports in its key */
        hash = mix(ends.src + oko_be16(key->tp_src)) + mix(ends.dst + oko_be16(key->tp_dst)) +
               key->ip_proto[0];
        break;
    case OKO_SPREAD_SRC:
        hash = ends.src;
        break;
    case OKO_SPREAD_DST:
        hash = ends.dst;
        break;
    case OKO_SPREAD_PORT:
        hash = oko_be32(key->in_port);
        break;
    }
    return (uint32_t)((mix(hash) >> 32) * n_workers >> 32);
}
