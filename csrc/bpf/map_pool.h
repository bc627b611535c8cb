/* A pool of fixed-size entries that are reused only when nobody can look at them any more.
 *
 * Idea. Entries are taken from a preallocated array in order, and later from those given back. An
 * entry that readers may have seen is *retired*: it waits in a queue, with its bytes untouched,
 * until each worker has passed a quiescent point (qsbr.h) since. The queue is in order of epochs,
 * so only its head need be looked at.
 *
 * When nothing else is left, a worker may take an entry that it retired itself, once all other
 * workers have passed: only its own run can still hold a pointer, and such a pointer stays inside
 * one entry.
 *
 * Thread-safety: take and retire from any thread, under the pool's spin lock. Fails safely: no
 * entry is 0, and the caller reports a full map. */
#ifndef OKO_BPF_MAP_POOL_H
#define OKO_BPF_MAP_POOL_H

#include "../qsbr.h"

enum { OKO_POOL_NOBODY = 0xff }; /* the control side, or several workers */
/* Entries beyond a map's own, for those that wait. */
enum { OKO_POOL_SPARE = 256, OKO_POOL_SPARE_PER_WORKER = 64 };

/* Heads each entry. */
struct oko_pool_entry {
    uint64_t epoch; /* retired: has to pass before reuse */
    uint32_t link;  /* retired: the next in the queue */
    uint8_t retired_by;
    uint8_t unused[3];
};
_Static_assert(sizeof(struct oko_pool_entry) % 8 == 0, "what follows is 8-byte aligned");

struct oko_pool {
    uint8_t *entries;
    struct oko_qsbr *qsbr;
    uint32_t entry_size; /* bytes, a multiple of 8, head included */
    uint32_t n_entries;
    uint32_t high;        /* entries from here on were never used */
    uint32_t first, last; /* queue of the retired: 1 + index; 0 = empty */
    uint8_t lock;
};

static inline uint32_t oko_pool_n_entries(uint32_t n_own, uint32_t n_workers)
{
    return n_own + OKO_POOL_SPARE + OKO_POOL_SPARE_PER_WORKER * n_workers;
}

/* Bytes, UINT64_MAX when absurd. */
uint64_t oko_pool_size(uint32_t n_entries, uint32_t entry_size);
int oko_pool_init(struct oko_pool *pool, struct oko_qsbr *qsbr, uint32_t n_entries,
                  uint32_t entry_size);
void oko_pool_destroy(struct oko_pool *pool);

/* Entries are named by links: 1 + index, so that 0 is none. */
static inline void *oko_pool_at(const struct oko_pool *pool, uint32_t link)
{
    return pool->entries + (uint64_t)(link - 1) * pool->entry_size;
}

/* own: also what this worker retired itself and its run may still use. */
uint32_t oko_pool_take(struct oko_pool *pool, uint32_t worker, bool own);
void oko_pool_retire(struct oko_pool *pool, uint32_t link, uint32_t worker);
/* Gives back an entry that nobody has seen. */
void oko_pool_give_back(struct oko_pool *pool, uint32_t link);

/* May what was retired then, by that worker, be reused by this one? */
static inline bool oko_pool_reusable(struct oko_qsbr *qsbr, uint64_t epoch, uint8_t retired_by,
                                     uint32_t worker, bool own)
{
    if (own)
        return retired_by == worker && oko_qsbr_passed_but(qsbr, epoch, worker);
    return oko_qsbr_passed(qsbr, epoch);
}

#endif
