/* Freeing in order; see gc.h. */
#include "gc.h"

#include <stdlib.h>

void oko_gc_add(struct oko_gc_queue *queue, struct oko_gc *gc, uint64_t epoch,
                void (*fn)(struct oko_gc_queue *, struct oko_gc *))
{
    gc->next = NULL;
    gc->epoch = epoch;
    gc->fn = fn;
    if (queue->last)
        queue->last->next = gc;
    else
        queue->first = gc;
    queue->last = gc;
}

static void free_block(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    (void)queue;
    free(gc);
}

void oko_gc_free(struct oko_gc_queue *queue, void *block)
{
    if (block)
        oko_gc_add(queue, block, oko_qsbr_start(queue->qsbr), free_block);
}

static void run_first(struct oko_gc_queue *queue)
{
    struct oko_gc *gc = queue->first;
    queue->first = gc->next;
    if (!queue->first)
        queue->last = NULL;
    gc->fn(queue, gc);
}

void oko_gc_poll(struct oko_gc_queue *queue)
{
    while (queue->first && oko_qsbr_passed(queue->qsbr, queue->first->epoch))
        run_first(queue);
}

void oko_gc_drain(struct oko_gc_queue *queue)
{
    while (queue->first)
        run_first(queue);
}
