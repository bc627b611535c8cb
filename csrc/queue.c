/* Queues of ports; see queue.h. */
#include "queue.h"

#include "base/err.h"
#include "dp.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A burst is a tenth of a second of its rate, and at least one frame of the longest kind. */
enum { BURSTS_PER_SECOND = 10, LONGEST_KBIT = OKO_FRAME_MAX * 8 / 1000 + 1 };

/* ---------------------------------------------------------------- for forwarding threads */

struct oko_queue *oko_queues_find(const struct oko_queues *queues, uint32_t id)
{
    uint32_t low = 0, high = queues->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (queues->queue[middle]->id >= id)
            high = middle;
        else
            low = middle + 1;
    }
    if (low < queues->n && queues->queue[low]->id == id)
        return queues->queue[low];
    return queues->n && queues->queue[0]->id == 0 ? queues->queue[0] : NULL;
}

bool oko_queue_admits(struct oko_queue *queue, uint64_t now_ns, uint32_t wire_len)
{
    struct oko_meter *meter = OKO_LOAD_ACQUIRE(&queue->meter);
    return !meter || !oko_meter_run(meter, now_ns, wire_len);
}

/* ---------------------------------------------------------------- declaring */

static int make_meter(uint64_t max_rate, struct oko_meter **meter, struct oko_error *error)
{
    *meter = NULL;
    if (!max_rate)
        return 0;
    if (max_rate < 1000 || max_rate / 1000 > UINT32_MAX)
        return oko_err(error, OKO_E_INVAL,
                       "queue: a rate of %" PRIu64 " bit/s is not between 1 kbit/s and 4 Tbit/s",
                       max_rate);
    uint32_t rate = (uint32_t)(max_rate / 1000), burst = rate / BURSTS_PER_SECOND;
    struct oko_band_spec band = {
        .type = OKO_BAND_DROP, .rate = rate, .burst = burst > LONGEST_KBIT ? burst : LONGEST_KBIT};
    struct oko_meter_spec spec = {
        .id = 1, .flags = OKO_METER_KBPS | OKO_METER_BURST, .n_bands = 1, .bands = &band};
    return oko_meter_new(&spec, meter, error);
}

static void free_queue(struct oko_queue *queue)
{
    if (!queue)
        return;
    free(queue->meter);
    free(queue->counters);
    free(queue);
}

static void drop_queue(struct oko_gc_queue *gc_queue, struct oko_gc *gc)
{
    (void)gc_queue;
    free_queue((struct oko_queue *)gc);
}

void oko_queues_free(struct oko_queues *queues)
{
    for (uint32_t i = 0; queues && i < queues->n; i++)
        free_queue(queues->queue[i]);
    free(queues);
}

static int new_queue(const struct oko_dp *dp, const struct oko_queue_spec *spec,
                     struct oko_queue **out, struct oko_error *error)
{
    size_t size = dp->opts.n_workers * sizeof(struct oko_queue_counters);
    struct oko_queue *queue = calloc(1, sizeof *queue);
    if (!queue || !(queue->counters = aligned_alloc(64, size))) {
        free(queue);
        return oko_err(error, OKO_E_NOMEM, "queue %u: out of memory", spec->id);
    }
    memset(queue->counters, 0, size);
    queue->id = spec->id;
    queue->max_rate = spec->max_rate;
    queue->created_ns = oko_dp_now(dp);
    int rc = make_meter(spec->max_rate, &queue->meter, error);
    if (rc)
        free_queue(queue);
    else
        *out = queue;
    return rc;
}

/* The one of old that goes on, or NULL. */
static struct oko_queue *known(const struct oko_queues *old, uint32_t id)
{
    struct oko_queue *queue = old ? oko_queues_find(old, id) : NULL;
    return queue && queue->id == id ? queue : NULL;
}

/* Made for a change that may still fail: what is in `made` is new. */
struct change {
    struct oko_queues *next;
    struct oko_meter *meters[OKO_MAX_QUEUES]; /* of queues that go on with another rate */
    bool made[OKO_MAX_QUEUES];
};

static int check_specs(const struct oko_queue_spec *specs, uint32_t n, struct oko_error *error)
{
    if (n > OKO_MAX_QUEUES)
        return oko_err(error, OKO_E_LIMIT, "a port has at most %u queues", OKO_MAX_QUEUES);
    for (uint32_t i = 0; i < n; i++)
        if (specs[i].id == UINT32_MAX || (i && specs[i].id <= specs[i - 1].id))
            return oko_err(error, OKO_E_INVAL, "queues: numbers do not rise at %u", specs[i].id);
    return 0;
}

static int prepare(const struct oko_dp *dp, const struct oko_queues *old,
                   const struct oko_queue_spec *specs, uint32_t n, struct change *change,
                   struct oko_error *error)
{
    change->next = calloc(1, sizeof *change->next + n * sizeof change->next->queue[0]);
    if (!change->next)
        return oko_err(error, OKO_E_NOMEM, "queues: out of memory");
    for (uint32_t i = 0; i < n; i++, change->next->n++) {
        struct oko_queue *queue = known(old, specs[i].id);
        int rc = 0;
        change->next->queue[i] = queue;
        change->made[i] = !queue;
        if (!queue)
            rc = new_queue(dp, &specs[i], &change->next->queue[i], error);
        else if (queue->max_rate != specs[i].max_rate)
            rc = make_meter(specs[i].max_rate, &change->meters[i], error);
        if (rc)
            return rc;
    }
    return 0;
}

static void give_up(struct change *change)
{
    for (uint32_t i = 0; change->next && i < change->next->n; i++) {
        if (change->made[i])
            free_queue(change->next->queue[i]);
        free(change->meters[i]);
    }
    free(change->next);
}

/* Puts the new set in place; what is gone goes when no burst has it any more. */
static void carry_out(struct oko_dp *dp, struct oko_port *port, struct change *change,
                      const struct oko_queue_spec *specs)
{
    struct oko_queues *old = port->queues, *next = change->next;
    for (uint32_t i = 0; i < next->n; i++) {
        struct oko_queue *queue = next->queue[i];
        if (change->made[i] || queue->max_rate == specs[i].max_rate)
            continue;
        struct oko_meter *was = queue->meter;
        queue->max_rate = specs[i].max_rate;
        OKO_STORE_RELEASE(&queue->meter, change->meters[i]);
        oko_gc_free(&dp->gc, was);
    }
    if (next->n) {
        OKO_STORE_RELEASE(&port->queues, next);
    } else {
        OKO_STORE_RELEASE(&port->queues, NULL);
        free(next);
        next = NULL;
    }
    for (uint32_t i = 0; old && i < old->n; i++)
        if (!known(next, old->queue[i]->id))
            oko_gc_add(&dp->gc, &old->queue[i]->gc, oko_qsbr_start(dp->qsbr), drop_queue);
    oko_gc_free(&dp->gc, old);
}

int oko_dp_port_set_queues(struct oko_dp *dp, uint32_t number, const struct oko_queue_spec *specs,
                           uint32_t n, struct oko_error *error)
{
    oko_err_clear(error);
    int rc = check_specs(specs, n, error);
    struct change *change = rc ? NULL : calloc(1, sizeof *change);
    if (!change)
        return rc ? rc : oko_err(error, OKO_E_NOMEM, "queues: out of memory");
    oko_dp_lock(dp);
    struct oko_port *port = oko_set_find(dp->view->ports, number);
    rc = port ? prepare(dp, port->queues, specs, n, change, error)
              : oko_err(error, OKO_E_NOTFOUND, "there is no port %u", number);
    if (rc)
        give_up(change);
    else
        carry_out(dp, port, change, specs);
    oko_gc_poll(&dp->gc);
    oko_dp_unlock(dp);
    free(change);
    return rc;
}

/* ---------------------------------------------------------------- counters */

static struct oko_queue_info info_of(const struct oko_dp *dp, const struct oko_port *port,
                                     const struct oko_queue *queue)
{
    struct oko_queue_info info = {.port = port->number,
                                  .id = queue->id,
                                  .max_rate = queue->max_rate,
                                  .created_ns =
                                      queue->created_ns ? queue->created_ns : dp->born_ns};
    for (uint32_t w = 0; w < dp->opts.n_workers; w++) {
        const struct oko_queue_counters *counters = &queue->counters[w];
        info.tx_packets += OKO_LOAD(&counters->packets);
        info.tx_bytes += OKO_LOAD(&counters->bytes);
        info.tx_errors += OKO_LOAD(&counters->errors);
    }
    return info;
}

uint32_t oko_dp_queues(struct oko_dp *dp, struct oko_queue_info *out, uint32_t max)
{
    uint32_t n = 0;
    oko_dp_lock(dp);
    const struct oko_set *ports = dp->view->ports;
    for (uint32_t i = 0; i < ports->n; i++) {
        const struct oko_port *port = ports->sorted[i].object;
        for (uint32_t q = 0; port->queues && q < port->queues->n; q++, n++)
            if (n < max)
                out[n] = info_of(dp, port, port->queues->queue[q]);
    }
    oko_dp_unlock(dp);
    return n;
}
