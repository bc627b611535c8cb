/* Freeing in order: what readers may still hold waits here for its grace period.
 *
 * Idea. Every object that forwarding threads reach without a lock begins with (or contains) a
 * struct oko_gc. Its owner unpublishes it, starts one grace period for all that one commit took
 * away, and queues it; whoever comes by later calls poll, which runs fn for each object whose
 * period has ended. fn may queue the object again: a rule is first unlinked, and freed a second
 * period later. Queuing needs no memory, so giving things back never fails.
 *
 * Thread-safety: the owner's mutex is held around every call. Nothing waits. */
#ifndef OKO_GC_H
#define OKO_GC_H

#include "qsbr.h"

struct oko_gc_queue;

struct oko_gc {
    struct oko_gc *next;
    uint64_t epoch; /* has to pass before fn */
    void (*fn)(struct oko_gc_queue *queue, struct oko_gc *gc);
};

struct oko_gc_queue {
    struct oko_qsbr *qsbr;
    struct oko_gc *first, *last; /* in order of epochs */
    void *owner;                 /* for fn */
};

/* epoch comes from oko_qsbr_start(), called after the object was unpublished. */
void oko_gc_add(struct oko_gc_queue *queue, struct oko_gc *gc, uint64_t epoch,
                void (*fn)(struct oko_gc_queue *, struct oko_gc *));
/* The same with a period of its own and free(): for a block that starts with its struct oko_gc. */
void oko_gc_free(struct oko_gc_queue *queue, void *block);
void oko_gc_poll(struct oko_gc_queue *queue);
/* Runs everything at once: no reader is left. */
void oko_gc_drain(struct oko_gc_queue *queue);

#endif
