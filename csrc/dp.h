/* The datapath object: what control side and forwarding threads share.
 *
 * Everything that changes does so under `mutex`, and shows to forwarding threads through the view
 * (view.h) or the fields marked atomic. Nothing waits for a forwarding thread while it holds the
 * mutex, so a forwarding thread that must change a table itself (learn, expiry) may take it too. */
#ifndef OKO_DP_H
#define OKO_DP_H

#include "cls.h"
#include "event.h"
#include "group.h"
#include "mac.h"
#include "meter.h"
#include "port.h"
#include "view.h"
#include "worker.h"

#include <pthread.h>

/* What program number a slot stands for. */
struct oko_slot {
    uint32_t number;  /* 0 = free */
    uint32_t n_flows; /* visible flows that name it */
    uint32_t n_later; /* of these, in tables other than 0 */
};

/* Flows with delete_learned in a learn action: what goes when the last of them goes. */
struct oko_teacher {
    struct oko_teacher *next;
    uint64_t cookie;
    uint32_t table;
    uint32_t n; /* learn actions of visible flows that say so */
};

/* Heap of the next moments at which a flow could expire. */
struct oko_deadline {
    uint64_t at; /* not later than the flow's deadline */
    struct oko_rule *rule;
};

struct oko_trace {
    uint64_t seq;   /* atomic: packet to record, OKO_NEVER = none */
    uint32_t state; /* atomic: 0 idle, 1 armed, 2 done */
    uint32_t n;     /* steps, those that did not fit included */
    struct oko_trace_step step[1024];
};

/* A table's flows, and how many it may have. */
struct oko_table {
    uint32_t n_flows;   /* visible */
    uint32_t max_flows; /* UINT32_MAX: no limit of its own */
    bool evict;         /* an add to the full table makes room */
};

/* watch.c: changes of flows that nobody has taken yet. */
struct oko_watch {
    bool on, lost;
    uint8_t *data;
    uint64_t used, cap;
};

struct oko_dp {
    struct oko_view *view; /* atomic */
    struct oko_dp_opts opts;
    struct oko_vm *vm;
    struct oko_qsbr *qsbr; /* the VM's; reader i is worker i */
    struct oko_hash_key hash;
    struct oko_worker **workers; /* [opts.n_workers] */
    struct oko_cls tables[OKO_N_TABLES];
    struct oko_log log;
    struct oko_macs *macs;
    struct oko_ring *events;
    struct oko_trace trace;
    struct oko_worker *tracer; /* dry; made when first asked for */
    uint64_t next_deadline;    /* atomic: at of the first in the heap, OKO_NEVER without */
    uint64_t born_ns;          /* atomic: the clock's first value, 0 = not started */
    uint64_t clock_ofs;        /* atomic: live clock - CLOCK_MONOTONIC (live.h) */
    bool is_live;              /* atomic: the clock is the machine's */
    uint32_t miss_len;         /* atomic: oko_dp_send_misses() */

    pthread_mutex_t mutex; /* around everything below, and all writes above */
    struct oko_gc_queue gc;
    struct oko_slot *slots;  /* [opts.max_progs + 1] */
    struct oko_rule **flows; /* visible rules, by index; holes are NULL */
    uint32_t n_flows;        /* visible */
    struct oko_table table[OKO_N_TABLES];
    uint32_t flows_end;   /* indices below have been used */
    uint32_t flows_cap;   /* room in flows and free_index */
    uint32_t *free_index; /* stack of holes */
    uint32_t n_free;
    uint32_t n_layers[4]; /* visible rules and groups by how deep they look */
    uint32_t n_changes;   /* visible rules with OKO_OPS_CHANGES */
    uint32_t n_restarts;  /* visible rules and groups with OKO_OPS_RESTART */
    uint32_t n_filters;   /* visible rules with a filter */
    uint32_t n_gotos;     /* visible rules with OKO_OPS_GOTO */
    struct oko_teacher *teachers;
    struct oko_deadline *heap; /* [flows_cap], from index 1 */
    uint32_t n_heap;
    uint64_t next_id;       /* of flows */
    uint64_t next_sequence; /* order among equals */
    uint64_t next_layout;
    uint64_t n_commits;
    struct oko_watch watch;
    struct oko_live *live; /* forwarding threads, or NULL */
};

static inline void oko_dp_lock(struct oko_dp *dp)
{
    pthread_mutex_lock(&dp->mutex);
}

static inline void oko_dp_unlock(struct oko_dp *dp)
{
    pthread_mutex_unlock(&dp->mutex);
}

/* The newest view. For the control side under the mutex, for a worker while it is online. */
static inline struct oko_view *oko_dp_view(struct oko_dp *dp)
{
    return OKO_LOAD_ACQUIRE(&dp->view);
}

/* Slot of a program number, 0 = none. Under the mutex. */
uint32_t oko_dp_slot(const struct oko_dp *dp, uint32_t number);

#endif
