/* The datapath object: making and ending it, ports, packets from Python. */
#include "dp.h"

#include "base/err.h"
#include "commit.h"
#include "live.h"
#include "pipeline.h"
#include "queue.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MAX_WORKERS = 64, MAX_PROGS = 32768 };

/* ---------------------------------------------------------------- making, ending */

static int set_defaults(struct oko_dp_opts *opts)
{
    if (opts->n_workers == 0 || opts->n_workers > MAX_WORKERS || opts->burst > OKO_BURST ||
        opts->max_progs > MAX_PROGS ||
        opts->flags & ~(uint32_t)(OKO_DP_NO_CACHE | OKO_DP_INTERPRET))
        return OKO_E_INVAL;
    if (!opts->burst)
        opts->burst = OKO_BURST;
    if (!opts->max_flows)
        opts->max_flows = 1u << 22;
    if (!opts->max_macs)
        opts->max_macs = 1u << 16;
    if (!opts->max_progs)
        opts->max_progs = 1024;
    if (!opts->max_map_bytes)
        opts->max_map_bytes = 1ull << 30;
    if (!opts->event_bytes)
        opts->event_bytes = 4ull << 20;
    if (!opts->cache_bytes)
        opts->cache_bytes = 36ull << 20;
    while (!opts->secret)
        if (getrandom(&opts->secret, sizeof opts->secret, 0) != sizeof opts->secret)
            opts->secret = (uintptr_t)opts ^ 0x9e3779b97f4a7c15u; /* no entropy: still works */
    return 0;
}

/* The parts that are pointers. */
static int make_parts(struct oko_dp *dp)
{
    const struct oko_dp_opts *opts = &dp->opts;
    struct oko_vm_opts vm = {.n_workers = opts->n_workers,
                             .max_progs = opts->max_progs + 1, /* a reload has two at once */
                             .max_map_bytes = opts->max_map_bytes,
                             .secret = opts->secret};
    int rc = oko_vm_new(&vm, &dp->vm);
    if (rc)
        return rc;
    dp->qsbr = oko_vm_qsbr(dp->vm);
    dp->gc = (struct oko_gc_queue){.qsbr = dp->qsbr, .owner = dp};
    dp->hash = oko_hash_key_from(opts->secret);
    for (uint32_t i = 0; !rc && i < OKO_N_TABLES; i++) {
        rc = oko_cls_init(&dp->tables[i], &dp->gc, &dp->hash, &dp->next_layout);
        dp->table[i].max_flows = UINT32_MAX;
    }
    if (!rc)
        rc = oko_macs_new(opts->max_macs, opts->secret, dp->qsbr, &dp->macs);
    if (!rc)
        rc = oko_ring_new(opts->event_bytes, &dp->events);
    dp->slots = calloc(opts->max_progs + 1, sizeof *dp->slots);
    dp->view = calloc(1, sizeof *dp->view + sizeof dp->view->later[0]);
    struct oko_progs *progs = calloc(1, sizeof *progs + sizeof progs->slot[0]);
    dp->workers = calloc(opts->n_workers, sizeof *dp->workers);
    if (progs)
        progs->n = 1;
    if (dp->view) {
        dp->view->progs = progs;
        dp->view->ports = oko_set_empty();
        dp->view->groups = oko_set_empty();
        dp->view->meters = oko_set_empty();
    }
    if (rc || !dp->slots || !dp->view || !progs || !dp->view->ports || !dp->view->groups ||
        !dp->view->meters || !dp->workers)
        return OKO_E_NOMEM;
    for (uint32_t i = 0; i < opts->n_workers; i++)
        if ((rc = oko_worker_new(dp, i, &dp->workers[i])))
            return rc;
    return 0;
}

int oko_dp_new(const struct oko_dp_opts *opts, struct oko_dp **out)
{
    *out = NULL;
    struct oko_dp *dp = calloc(1, sizeof *dp);
    if (!dp)
        return OKO_E_NOMEM;
    dp->opts = *opts;
    dp->next_deadline = OKO_NEVER;
    dp->trace.seq = OKO_NEVER;
    int rc = set_defaults(&dp->opts);
    if (rc || pthread_mutex_init(&dp->mutex, NULL)) {
        free(dp);
        return rc ? rc : OKO_E_NOMEM;
    }
    rc = make_parts(dp);
    if (rc) {
        oko_dp_free(dp);
        return rc;
    }
    *out = dp;
    return 0;
}

static void free_port(struct oko_port *port)
{
    if (port->ops && port->ops->close)
        port->ops->close(port);
    oko_queues_free(port->queues);
    free(port->counters);
    free(port);
}

static void free_view(struct oko_dp *dp)
{
    struct oko_view *view = dp->view;
    for (uint32_t i = 0; view->ports && i < view->ports->n; i++)
        free_port(view->ports->sorted[i].object);
    for (uint32_t i = 0; view->groups && i < view->groups->n; i++)
        oko_group_free(view->groups->sorted[i].object);
    for (uint32_t i = 0; view->meters && i < view->meters->n; i++)
        free(view->meters->sorted[i].object);
    for (uint32_t i = 1; view->progs && i < view->progs->n; i++)
        if (view->progs->slot[i])
            oko_prog_unref(view->progs->slot[i]);
    free((void *)(uintptr_t)view->ports);
    free((void *)(uintptr_t)view->groups);
    free((void *)(uintptr_t)view->meters);
    free((void *)(uintptr_t)view->progs);
    free(view);
}

void oko_dp_free(struct oko_dp *dp)
{
    if (!dp)
        return;
    oko_dp_stop(dp);
    oko_gc_drain(&dp->gc);
    for (uint32_t i = 0; i < dp->flows_end; i++)
        oko_rule_free(dp->flows[i]);
    for (uint32_t i = 0; i < OKO_N_TABLES; i++)
        oko_cls_destroy(&dp->tables[i]);
    for (uint32_t i = 0; dp->workers && i < dp->opts.n_workers; i++)
        oko_worker_free(dp->workers[i]);
    oko_worker_free(dp->tracer);
    for (uint32_t i = 0; i < OKO_LOG; i++)
        free(dp->log.at[i]);
    for (struct oko_teacher *t = dp->teachers, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    if (dp->view)
        free_view(dp);
    oko_ring_free(dp->events);
    free(dp->workers);
    free(dp->slots);
    free(dp->flows);
    free(dp->free_index);
    free(dp->heap);
    free(dp->watch.data);
    struct oko_macs *macs = dp->macs;
    oko_vm_free(dp->vm); /* and with it the registry, with what the MAC table deferred */
    oko_macs_free(macs);
    pthread_mutex_destroy(&dp->mutex);
    free(dp);
}

/* ---------------------------------------------------------------- clock */

uint64_t oko_dp_now(const struct oko_dp *dp)
{
    uint64_t now = OKO_LOAD(&dp->is_live) ? OKO_LIVE_NOW(dp) : OKO_LOAD(&dp->born_ns);
    for (uint32_t i = 0; i < dp->opts.n_workers; i++) {
        uint64_t other = OKO_LOAD(&dp->workers[i]->now_ns);
        if (other > now)
            now = other;
    }
    return now;
}

void oko_dp_clock_start(struct oko_dp *dp, uint64_t ns)
{
    oko_clock_start(dp, ns);
    for (uint32_t i = 0; i < dp->opts.n_workers; i++)
        if (!OKO_LOAD(&dp->workers[i]->now_ns))
            OKO_STORE_RELEASE(&dp->workers[i]->waits_ns, ns);
}

/* ---------------------------------------------------------------- ports */

static void drop_port(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    (void)queue;
    free_port((struct oko_port *)gc);
}

static bool is_port_number(uint32_t number)
{
    return (number > 0 && number < OKO_PORT_MAX) || number == OKO_PORT_LOCAL;
}

int oko_dp_port_attach(struct oko_dp *dp, uint32_t number, const char *name,
                       const struct oko_port_ops *ops, void *ctx)
{
    struct oko_port *port = calloc(1, sizeof *port);
    size_t counters_size = dp->opts.n_workers * sizeof(struct oko_port_counters);
    struct oko_port_counters *counters = aligned_alloc(64, counters_size);
    if (!port || !counters) {
        free(port);
        free(counters);
        struct oko_port unborn = {.ops = ops, .number = number, .ctx = ctx};
        if (ops && ops->close)
            ops->close(&unborn);
        return OKO_E_NOMEM;
    }
    memset(counters, 0, counters_size);
    port->ops = ops;
    port->number = number;
    port->ctx = ctx;
    port->counters = counters;
    strncpy(port->name, name ? name : "", sizeof port->name - 1);
    int rc = is_port_number(number) ? 0 : OKO_E_INVAL;
    if (!rc) {
        struct oko_commit c;
        oko_dp_lock(dp);
        oko_commit_begin(dp, oko_dp_now(dp), UINT32_MAX, &c);
        rc = oko_set_find(c.ports, number) ? OKO_E_EXISTS
                                           : oko_commit_set(&c, &c.ports, number, port, drop_port);
        bool taken = rc == 0;
        if (rc)
            oko_commit_rollback(&c);
        else
            rc = oko_commit_publish(&c); /* on failure, rolling back closes the port */
        oko_live_wake(dp->live);
        oko_dp_unlock(dp);
        if (taken)
            return rc;
    }
    free_port(port);
    return rc;
}

int oko_dp_port_add_null(struct oko_dp *dp, uint32_t number, const char *name)
{
    return oko_dp_port_attach(dp, number, name, NULL, NULL);
}

int oko_dp_port_remove(struct oko_dp *dp, uint32_t number)
{
    struct oko_commit c;
    oko_dp_lock(dp);
    oko_commit_begin(dp, oko_dp_now(dp), UINT32_MAX, &c);
    int rc = !oko_set_find(c.ports, number) ? OKO_E_NOTFOUND
                                            : oko_commit_set(&c, &c.ports, number, NULL, drop_port);
    if (rc) {
        oko_commit_rollback(&c);
    } else {
        rc = oko_commit_publish(&c);
        if (!rc)
            oko_macs_forget(dp->macs, number);
    }
    oko_live_wake(dp->live);
    oko_dp_unlock(dp);
    if (!rc && OKO_LOAD(&dp->is_live)) { /* its device is to be free when this returns */
        oko_qsbr_synchronize(dp->qsbr);
        oko_dp_lock(dp);
        oko_gc_poll(&dp->gc);
        oko_dp_unlock(dp);
    }
    return rc;
}

int oko_dp_port_set_flags(struct oko_dp *dp, uint32_t number, uint32_t flags)
{
    int rc = OKO_E_NOTFOUND;
    if (flags > 2 * OKO_PORT_DOWN - 1)
        return OKO_E_INVAL;
    oko_dp_lock(dp);
    struct oko_port *port = oko_set_find(dp->view->ports, number);
    if (port) {
        OKO_STORE(&port->flags, flags);
        rc = 0;
    }
    oko_dp_unlock(dp);
    return rc;
}

uint32_t oko_dp_ports(struct oko_dp *dp, struct oko_port_info *out, uint32_t max)
{
    oko_dp_lock(dp);
    const struct oko_set *ports = dp->view->ports;
    uint32_t n = ports->n;
    for (uint32_t i = 0; i < n && i < max; i++) {
        const struct oko_port *port = ports->sorted[i].object;
        struct oko_port_info *info = &out[i];
        *info = (struct oko_port_info){.number = port->number, .flags = OKO_LOAD(&port->flags)};
        memcpy(info->name, port->name, sizeof info->name);
        strncpy(info->kind, port->ops ? port->ops->name : "null", sizeof info->kind - 1);
        for (uint32_t w = 0; w < dp->opts.n_workers; w++) {
            const struct oko_port_counters *counters = &port->counters[w];
            info->rx_packets += OKO_LOAD(&counters->rx_packets);
            info->rx_bytes += OKO_LOAD(&counters->rx_bytes);
            info->tx_packets += OKO_LOAD(&counters->tx_packets);
            info->tx_bytes += OKO_LOAD(&counters->tx_bytes);
            info->tx_dropped += OKO_LOAD(&counters->tx_dropped);
        }
        info->rx_dropped = OKO_LOAD(&port->rx_dropped);
    }
    oko_dp_unlock(dp);
    return n;
}

/* ---------------------------------------------------------------- packets */

int oko_dp_process(struct oko_dp *dp, uint32_t worker, const struct oko_frame *frames, uint32_t n)
{
    struct oko_worker *w = oko_dp_worker(dp, worker);
    if (!w)
        return OKO_E_INVAL;
    oko_worker_online(w);
    for (uint32_t at = 0; at < n;) {
        struct oko_pkt pkts[OKO_BURST] = {0};
        uint32_t i = 0;
        uint64_t now = OKO_LOAD(&w->now_ns);
        for (; i < OKO_BURST && at < n; i++, at++) {
            const struct oko_frame *frame = &frames[at];
            now = frame->ns > now ? frame->ns : now;
            pkts[i].data = (uint8_t *)(uintptr_t)frame->data;
            pkts[i].len = frame->len;
            pkts[i].in_port = frame->in_port;
            pkts[i].seq = frame->seq;
            pkts[i].meta.rx_ns = now;
            pkts[i].meta.in_port = frame->in_port;
            pkts[i].meta.len = frame->len;
            pkts[i].meta.wire_len = frame->wire_len ? frame->wire_len : frame->len;
        }
        oko_worker_burst(w, pkts, i);
    }
    oko_worker_offline(w);
    return 0;
}

int oko_dp_tick(struct oko_dp *dp, uint32_t worker, uint64_t ns)
{
    struct oko_worker *w = oko_dp_worker(dp, worker);
    if (!w)
        return OKO_E_INVAL;
    oko_worker_online(w);
    oko_worker_tick(w, ns);
    oko_worker_offline(w);
    return 0;
}
