/* Groups; see group.h. */
#include "group.h"

#include "actset.h"
#include "base/err.h"
#include "base/hash.h"
#include "port.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_WATCH_DEPTH = 64, MAX_BUCKETS = 65535 };
#define NOBODY 0xffffffffu

/* ---------------------------------------------------------------- making */

static int check_bucket(const struct oko_group_spec *spec, uint32_t i, struct oko_ops_facts *all,
                        struct oko_error *error)
{
    const struct oko_bucket_spec *bucket = &spec->buckets[i];
    struct oko_ops_facts facts;
    if (bucket->ops_len > 0xffff || ((uintptr_t)bucket->ops & 7))
        return oko_err(error, OKO_E_INVAL, "group %u: bucket %u is too long or misaligned",
                       spec->id, i);
    int rc = oko_ops_check(bucket->ops, bucket->ops_len, OKO_OPS_ACTION_SET, 0, &facts, error);
    if (rc)
        return rc;
    if (facts.layers > all->layers)
        all->layers = facts.layers;
    all->flags |= facts.flags;
    return 0;
}

/* Puts the actions in the order of a set, each kind once. */
static void sort_bucket(struct oko_bucket *bucket, const struct oko_bucket_spec *spec, uint8_t *out)
{
    static _Thread_local struct oko_action_set set;
    const struct oko_op_head *ops[OKO_SET_MAX];
    oko_action_set_clear(&set);
    oko_action_set_write(&set, spec->ops, spec->ops_len);
    uint32_t n = oko_action_set_sort(&set, ops);
    bucket->weight = spec->weight;
    bucket->watch_port = spec->watch_port;
    bucket->watch_group = spec->watch_group;
    bucket->ops = out;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(out + bucket->ops_len, ops[i], ops[i]->len);
        bucket->ops_len += ops[i]->len;
    }
}

int oko_group_new(const struct oko_group_spec *spec, uint32_t n_workers, struct oko_group **out,
                  struct oko_error *error)
{
    if (spec->id > 0xffffff00u || spec->type > OKO_GROUP_FF || spec->n_buckets > MAX_BUCKETS)
        return oko_err(error, OKO_E_INVAL, "group %u: number, type or bucket count out of range",
                       spec->id);
    if (spec->type == OKO_GROUP_INDIRECT && spec->n_buckets != 1)
        return oko_err(error, OKO_E_INVAL, "group %u: an indirect group has exactly one bucket",
                       spec->id);
    struct oko_ops_facts facts = {0};
    uint64_t ops_size = 0, n_counts = (uint64_t)n_workers * (spec->n_buckets + 1);
    for (uint32_t i = 0; i < spec->n_buckets; i++) {
        int rc = check_bucket(spec, i, &facts, error);
        if (rc)
            return rc;
        ops_size += spec->buckets[i].ops_len;
    }
    size_t buckets = spec->n_buckets * sizeof(struct oko_bucket);
    struct oko_group *group = calloc(1, sizeof *group + buckets + ops_size);
    struct oko_counts *counts = calloc(n_counts, sizeof *counts);
    if (!group || !counts) {
        free(group);
        free(counts);
        return oko_err(error, OKO_E_NOMEM, "group %u: out of memory", spec->id);
    }
    group->id = spec->id;
    group->type = spec->type;
    group->n_buckets = spec->n_buckets;
    group->n_workers = n_workers;
    group->counts = counts;
    group->ops_flags = facts.flags | OKO_OPS_REFERS;
    group->layers = spec->type == OKO_GROUP_SELECT ? OKO_LAYER_L4 : facts.layers;
    uint8_t *ops = (uint8_t *)(group->bucket + spec->n_buckets);
    for (uint32_t i = 0; i < spec->n_buckets; i++) {
        struct oko_bucket *bucket = &group->bucket[i];
        sort_bucket(bucket, &spec->buckets[i], ops);
        ops += bucket->ops_len;
        group->weight += bucket->weight;
        group->watches |= bucket->watch_port != NOBODY || bucket->watch_group != NOBODY;
    }
    *out = group;
    return 0;
}

void oko_group_free(struct oko_group *group)
{
    if (!group)
        return;
    free(group->counts);
    free(group);
}

/* ---------------------------------------------------------------- choosing */

static uint64_t number(const uint8_t *bytes, uint32_t n)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < n; i++)
        value = value << 8 | bytes[i];
    return value;
}

uint64_t oko_group_hash(const struct oko_key *key)
{
    const uint64_t k1 = 0x9e3779b97f4a7c15u, k2 = 0xbf58476d1ce4e5b9u;
    uint64_t h = oko_hash_fold(number(key->eth_src, 6) << 16 | number(key->vlan_vid, 2), k1);
    h = oko_hash_fold(h ^ (number(key->eth_dst, 6) << 16 | number(key->eth_type, 2)), k2);
    h = oko_hash_fold(h ^ number(key->ipv6_src, 8), k1);
    h = oko_hash_fold(h ^ number(key->ipv6_src + 8, 8), k1);
    h = oko_hash_fold(h ^ number(key->ipv6_dst, 8), k1);
    h = oko_hash_fold(h ^ number(key->ipv6_dst + 8, 8), k1);
    h = oko_hash_fold(h ^ (number(key->ipv4_src, 4) << 32 | number(key->ipv4_dst, 4)), k2);
    return oko_hash_fold(h ^ (number(key->ip_proto, 1) << 32 | number(key->tp_src, 2) << 16 |
                              number(key->tp_dst, 2)),
                         k1);
}

bool oko_group_live(const struct oko_view *view, const struct oko_bucket *bucket, uint32_t depth)
{
    if (bucket->watch_port == NOBODY && bucket->watch_group == NOBODY)
        return true;
    if (bucket->watch_port != NOBODY) {
        const struct oko_port *port = oko_set_find(view->ports, bucket->watch_port);
        if (port && !(OKO_LOAD(&port->flags) & OKO_PORT_DOWN))
            return true;
    }
    if (bucket->watch_group == NOBODY || depth == MAX_WATCH_DEPTH)
        return false;
    const struct oko_group *group = oko_set_find(view->groups, bucket->watch_group);
    for (uint32_t i = 0; group && i < group->n_buckets; i++)
        if (oko_group_live(view, &group->bucket[i], depth + 1))
            return true;
    return false;
}

static const struct oko_bucket *choose_by_weight(const struct oko_group *group,
                                                 const struct oko_view *view,
                                                 const struct oko_key *key)
{
    uint64_t total = group->weight;
    if (group->watches) {
        total = 0;
        for (uint32_t i = 0; i < group->n_buckets; i++)
            if (oko_group_live(view, &group->bucket[i], 0))
                total += group->bucket[i].weight;
    }
    /* total is below 2^48 (65,535 buckets of 32-bit weights), h below 2^32: no exact 64-bit
     * product, hence the wide one. */
    __extension__ typedef unsigned __int128 wide;
    uint64_t at = (uint64_t)((wide)(oko_group_hash(key) >> 32) * total >> 32);
    for (uint32_t i = 0; i < group->n_buckets; i++) {
        const struct oko_bucket *bucket = &group->bucket[i];
        if (group->watches && !oko_group_live(view, bucket, 0))
            continue;
        if (at < bucket->weight)
            return bucket;
        at -= bucket->weight;
    }
    return NULL;
}

const struct oko_bucket *oko_group_choose(const struct oko_group *group,
                                          const struct oko_view *view, const struct oko_key *key)
{
    if (group->type == OKO_GROUP_SELECT)
        return choose_by_weight(group, view, key);
    for (uint32_t i = 0; i < group->n_buckets; i++)
        if (group->type == OKO_GROUP_INDIRECT || oko_group_live(view, &group->bucket[i], 0))
            return &group->bucket[i];
    return NULL;
}

/* ---------------------------------------------------------------- counting */

void oko_group_count(struct oko_group *group, uint32_t worker, uint32_t bucket, uint64_t bytes)
{
    struct oko_counts *counts = &group->counts[(uint64_t)worker * (group->n_buckets + 1) + bucket];
    oko_count(&counts->packets, 1);
    oko_count(&counts->bytes, bytes);
}

struct oko_counts oko_group_counts(const struct oko_group *group, uint32_t bucket)
{
    struct oko_counts sum = {0, 0};
    for (uint32_t w = 0; w < group->n_workers; w++) {
        const struct oko_counts *counts =
            &group->counts[(uint64_t)w * (group->n_buckets + 1) + bucket];
        sum.packets += OKO_LOAD(&counts->packets);
        sum.bytes += OKO_LOAD(&counts->bytes);
    }
    return sum;
}
