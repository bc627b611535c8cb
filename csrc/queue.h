/* Queues of a port: what set_queue chooses between, counted each, and policed where a rate is set.
 *
 * Idea. Ports send at once, there is nothing to put packets in order; so a queue here is a class of
 * a port's output: it has counters of its own and, if given, a highest rate, beyond which packets
 * are dropped ("queue-rate"). A port without declared queues is not touched by any of this. On one
 * that has some, a packet whose queue is not declared uses queue 0 if that is (as Open vSwitch's
 * default queue), else it only counts at the port.
 *
 * The rate's bucket is a meter with one band: shared by all workers, charged with what the wire
 * would carry, by the packet's own time.
 *
 * Thread-safety. The set of a port is immutable and replaced through gc.h; a queue that stays keeps
 * its counters. Its meter is replaced likewise. Counters are per worker, single-writer. */
#ifndef OKO_QUEUE_H
#define OKO_QUEUE_H

#include "meter.h"
#include "port.h"

enum { OKO_MAX_QUEUES = 1024 };

/* A cache line each. */
struct oko_queue_counters {
    uint64_t packets, bytes, errors; /* sent, and not: rate, or the port refused */
    uint64_t pad[5];
};
_Static_assert(sizeof(struct oko_queue_counters) == 64, "no worker writes another's line");

struct oko_queue {
    struct oko_gc gc;
    uint32_t id;
    uint64_t max_rate;       /* bit/s as given, 0 = none */
    struct oko_meter *meter; /* atomic; NULL: no rate */
    uint64_t created_ns;
    struct oko_queue_counters *counters; /* [n_workers] */
};

struct oko_queues {
    struct oko_gc gc;
    uint32_t n;
    struct oko_queue *queue[]; /* by rising id */
};

/* The queue that packets with this id use; NULL: none. */
struct oko_queue *oko_queues_find(const struct oko_queues *queues, uint32_t id);
/* May a packet of so many bytes leave now? */
bool oko_queue_admits(struct oko_queue *queue, uint64_t now_ns, uint32_t wire_len);
/* Everything at once, when no reader is left. Takes NULL. */
void oko_queues_free(struct oko_queues *queues);

#endif
