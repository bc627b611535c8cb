/* Finding candidates: from the cache where that pays, from the classifier otherwise.
 *
 * A table with few masks is asked directly: a handful of probes cost no more than the cache, and
 * need no memory per flow. Packets that such a table cannot tell from the burst's first share its
 * lookup: all of them where flows match only the port, say. */
#include "pipeline.h"

#include "cache.h"

enum { FEW_MASKS = 4, MANY_RULES = 2048 };

static bool asks_cache(struct oko_worker *w, const struct oko_cls *cls)
{
    return w->cache && oko_cls_n_subtables(cls) > FEW_MASKS && oko_cache_wanted(w->cache);
}

/* Looks the first packet up for those that are like it; returns these. */
static uint32_t share(const struct oko_cls *cls, const struct oko_key *keys, uint32_t todo,
                      uint64_t version, struct oko_cands *cands)
{
    uint32_t same = oko_cls_like_first(cls, keys, todo), first = (uint32_t)__builtin_ctz(same);
    if (same == 1u << first && same != todo)
        return 0; /* the burst's lookup is quicker */
    oko_cls_lookup(cls, &keys[first], version, &cands[first]);
    return same;
}

/* Returns the packets that share the candidates of the first of them, which has the list. */
static uint32_t look_up(struct oko_worker *w, uint32_t table, const struct oko_key *keys,
                        uint32_t todo, struct oko_cands *cands)
{
    const struct oko_cls *cls = &w->dp->tables[table];
    uint64_t version = w->view->version;
    if (!asks_cache(w, cls)) {
        oko_count(&w->stats.direct, (uint32_t)__builtin_popcount(todo));
        uint32_t alike = share(cls, keys, todo, version, cands);
        if (todo & ~alike)
            oko_cls_lookup_burst(cls, keys, todo & ~alike, version, cands);
        return alike;
    }
    struct oko_cache_counts counts = {0, 0, 0};
    uint32_t left =
        oko_cache_find(w->cache, cls, table, &w->dp->log, version, keys, todo, cands, &counts);
    if (left) {
        oko_cls_lookup_burst(cls, keys, left, version, cands);
        oko_cache_put(w->cache, version, left, cands);
    }
    oko_count(&w->stats.cache_hits, counts.hits);
    oko_count(&w->stats.cache_misses, counts.misses);
    oko_count(&w->stats.cache_restamped, counts.restamped);
    return 0;
}

void oko_lookup(struct oko_worker *w, uint32_t table, const struct oko_key *key,
                struct oko_cands *cands)
{
    const struct oko_cls *cls = &w->dp->tables[table];
    if (oko_cls_n_subtables(cls) > FEW_MASKS) {
        look_up(w, table, key, 1, cands);
        return;
    }
    oko_count(&w->stats.direct, 1);
    oko_cls_lookup(cls, key, w->view->version, cands);
}

/* With many flows the counters of each packet's lie far away: they are sent for before acting. */
static void expect_counting(struct oko_worker *w, uint32_t todo)
{
    for (; todo; todo &= todo - 1) {
        const struct oko_cands *cands = &w->cands[__builtin_ctz(todo)];
        if (cands->n)
            __builtin_prefetch(
                oko_flow_counter(cands->rule[0]->stats, w->index, w->dp->opts.n_workers), 1);
    }
}

uint32_t oko_lookup_burst(struct oko_worker *w, uint32_t table, uint32_t todo)
{
    uint32_t alike = look_up(w, table, w->keys, todo, w->cands);
    if (OKO_LOAD(&w->dp->tables[table].n_rules) >= MANY_RULES)
        expect_counting(w, todo & ~(alike & (alike - 1)));
    return alike;
}
