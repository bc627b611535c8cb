/* The buffer pool: a stack of free buffers, so the next edit gets the one that is still in cache.
 *
 * Buffers are all of one size (headroom + longest frame). Only the touched pages of a buffer cost
 * memory, and a stack touches few buffers, so one size for all is cheap as well as simple. */
#include "pkt.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_SIZE = (OKO_HEADROOM + OKO_FRAME_MAX + 63) / 64 * 64 };
_Static_assert(OKO_HEADROOM % 64 == 0, "a frame starts on a cache line");

struct oko_pool {
    uint32_t n_free;
    uint32_t n_buffers; /* made so far */
    uint32_t max_buffers;
    uint8_t *free[]; /* [max_buffers], a stack */
};

int oko_pool_new(uint32_t max_buffers, struct oko_pool **pool)
{
    struct oko_pool *p = calloc(1, sizeof *p + max_buffers * sizeof p->free[0]);
    if (!p)
        return OKO_E_NOMEM;
    p->max_buffers = max_buffers;
    *pool = p;
    return 0;
}

void oko_pool_free(struct oko_pool *pool)
{
    if (!pool)
        return;
    for (uint32_t i = 0; i < pool->n_free; i++)
        free(pool->free[i]);
    free(pool);
}

static uint8_t *take(struct oko_pool *pool)
{
    if (pool->n_free)
        return pool->free[--pool->n_free];
    if (pool->n_buffers == pool->max_buffers)
        return NULL;
    uint8_t *buffer = aligned_alloc(64, BUFFER_SIZE);
    if (buffer)
        pool->n_buffers++;
    return buffer;
}

int oko_pkt_writable(struct oko_pkt *pkt, struct oko_pool *pool)
{
    if (pkt->owned)
        return 0;
    uint8_t *buffer = take(pool);
    if (!buffer)
        return OKO_E_NOMEM;
    memcpy(buffer + OKO_HEADROOM, pkt->data, pkt->len);
    pkt->buffer = buffer;
    pkt->data = buffer + OKO_HEADROOM;
    pkt->owned = true;
    return 0;
}

int oko_pkt_clone(const struct oko_pkt *src, struct oko_pool *pool, struct oko_pkt *copy)
{
    *copy = *src;
    if (!src->owned)
        return 0;
    copy->owned = false;
    copy->buffer = NULL;
    return oko_pkt_writable(copy, pool);
}

void oko_pkt_release(struct oko_pkt *pkt, struct oko_pool *pool)
{
    if (!pkt->owned)
        return;
    pool->free[pool->n_free++] = pkt->buffer;
    pkt->buffer = pkt->data = NULL;
    pkt->owned = false;
}
