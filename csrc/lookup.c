/* Finding candidates: through the cache where that pays, from the classifier otherwise. */
#include "pipeline.h"

void oko_lookup(struct oko_worker *w, uint32_t table, const struct oko_key *key,
                struct oko_cands *cands)
{
    oko_count(&w->stats.direct, 1);
    oko_cls_lookup(&w->dp->tables[table], key, w->view->version, 0, cands);
}

void oko_lookup_burst(struct oko_worker *w, uint32_t todo)
{
    oko_count(&w->stats.direct, (uint32_t)__builtin_popcount(todo));
    oko_cls_lookup_burst(&w->dp->tables[0], w->keys, todo, w->view->version, w->cands);
}
