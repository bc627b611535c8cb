/* Entries with deferred reuse; see map_pool.h. */
#include "map_pool.h"

#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../oko.h"

uint64_t oko_pool_size(uint32_t n_entries, uint32_t entry_size)
{
    return oko_size_mul(n_entries, entry_size);
}

int oko_pool_init(struct oko_pool *pool, struct oko_qsbr *qsbr, uint32_t n_entries,
                  uint32_t entry_size)
{
    *pool = (struct oko_pool){.qsbr = qsbr, .entry_size = entry_size, .n_entries = n_entries};
    pool->entries = oko_alloc(oko_pool_size(n_entries, entry_size));
    return pool->entries != NULL ? 0 : OKO_E_NOMEM;
}

void oko_pool_destroy(struct oko_pool *pool)
{
    oko_release(pool->entries, oko_pool_size(pool->n_entries, pool->entry_size));
}

uint32_t oko_pool_take(struct oko_pool *pool, uint32_t worker, bool own)
{
    uint32_t link = 0;
    oko_spin_lock(&pool->lock);
    if (pool->first != 0) {
        struct oko_pool_entry *oldest = oko_pool_at(pool, pool->first);
        if (oko_pool_reusable(pool->qsbr, oldest->epoch, oldest->retired_by, worker, own)) {
            link = pool->first;
            pool->first = oldest->link;
            if (pool->first == 0)
                pool->last = 0;
        }
    }
    if (link == 0 && pool->high < pool->n_entries) {
        link = pool->high + 1;
        OKO_STORE(&pool->high, link); /* a dump may look */
    }
    oko_spin_unlock(&pool->lock);
    return link;
}

void oko_pool_retire(struct oko_pool *pool, uint32_t link, uint32_t worker)
{
    struct oko_pool_entry *entry = oko_pool_at(pool, link);
    oko_spin_lock(&pool->lock);
    entry->epoch = oko_qsbr_start(pool->qsbr); /* under the lock, so that the queue is in order */
    entry->retired_by = (uint8_t)worker;
    entry->link = 0;
    if (pool->last != 0)
        ((struct oko_pool_entry *)oko_pool_at(pool, pool->last))->link = link;
    else
        pool->first = link;
    pool->last = link;
    oko_spin_unlock(&pool->lock);
}

void oko_pool_give_back(struct oko_pool *pool, uint32_t link)
{
    struct oko_pool_entry *entry = oko_pool_at(pool, link);
    oko_spin_lock(&pool->lock);
    entry->epoch = 0; /* has passed */
    entry->retired_by = OKO_POOL_NOBODY;
    entry->link = pool->first;
    pool->first = link;
    if (pool->last == 0)
        pool->last = link;
    oko_spin_unlock(&pool->lock);
}
