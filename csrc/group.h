/* Groups: one or more buckets of actions instead of one list.
 *
 * all: every bucket; indirect: the one; fast failover: the first live one; select: one by the
 * packet's flow, in proportion to the weights. A bucket is live while the port it watches is up and
 * the group it watches has a live bucket; one that watches nothing always is. Buckets execute as
 * action sets (sorted once, here), each on a copy of the packet.
 *
 * The hash of select is fixed and unkeyed, so that results do not depend on the secret. With
 * fold(a, b) = low ^ high half of the 128-bit product, and words of the key in host order:
 *
 *     h = fold(eth_src * 2^16 | vlan_vid, K1)        fields as big-endian numbers
 *     h = fold(h ^ (eth_dst * 2^16 | eth_type), K2)
 *     h = fold(h ^ a, K1), a = the first and second half of the IPv6 source, then destination
 *         (all zero unless IPv6)
 *     h = fold(h ^ (ipv4_src * 2^32 | ipv4_dst), K2)      ARP: sender and target address
 *     h = fold(h ^ (ip_proto * 2^32 | tp_src * 2^16 | tp_dst), K1)
 *
 * K1 = 0x9e3779b97f4a7c15, K2 = 0xbf58476d1ce4e5b9. The live bucket is the one where the running
 * sum of weights first exceeds (h >> 32) * total / 2^32.
 *
 * Thread-safety: a group is immutable but for its counters, which are per worker. A modified group
 * is a new one whose counters start at zero, as in Open vSwitch. */
#ifndef OKO_GROUP_H
#define OKO_GROUP_H

#include "view.h"

struct oko_bucket {
    uint32_t weight;
    uint32_t watch_port;
    uint32_t watch_group;
    uint32_t ops_len;
    const uint8_t *ops; /* in action set order */
};

struct oko_group {
    struct oko_gc gc;
    uint32_t id;
    uint32_t type;
    uint32_t n_buckets;
    uint32_t n_workers;
    uint64_t created_ns;
    uint32_t ops_flags;        /* enum oko_ops_flag of all buckets */
    uint32_t layers;           /* enum oko_layers */
    uint64_t weight;           /* of all buckets together */
    bool watches;              /* some bucket does */
    struct oko_counts *counts; /* [n_workers][n_buckets + 1]; the last is the group's */
    struct oko_bucket bucket[];
};

int oko_group_new(const struct oko_group_spec *spec, uint32_t n_workers, struct oko_group **group,
                  struct oko_error *error);
void oko_group_free(struct oko_group *group);

uint64_t oko_group_hash(const struct oko_key *key);
bool oko_group_live(const struct oko_view *view, const struct oko_bucket *bucket, uint32_t depth);
/* The bucket that a packet takes (not for all); NULL: none is live. */
const struct oko_bucket *oko_group_choose(const struct oko_group *group,
                                          const struct oko_view *view, const struct oko_key *key);
void oko_group_count(struct oko_group *group, uint32_t worker, uint32_t bucket, uint64_t bytes);
/* Sum over workers; bucket n_buckets is the group itself. */
struct oko_counts oko_group_counts(const struct oko_group *group, uint32_t bucket);

#endif
