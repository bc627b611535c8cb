/* The loop of a forwarding thread; see live.h. */
#define _GNU_SOURCE /* ppoll */
#include "live.h"

#include "base/err.h"
#include "commit.h"
#include "pipeline.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SPINS = 64,         /* rounds without a packet before a thread sleeps */
    MAX_FDS = 256,      /* more ports are polled by time */
    MAX_SLEEP_MS = 100, /* a flow that comes meanwhile may have a timeout */
    MANY_PORTS_SLEEP_MS = 1,
    CALL_SLEEP_US = 20,   /* while a call is waited for, ... */
    MAX_CALL_US = 1000000 /* ... at most so long */
};

/* Something that a thread is to do between two bursts. */
struct call {
    void (*fn)(struct oko_worker *, void *);
    void *arg;
    bool done; /* atomic */
};

struct thread {
    struct oko_live *live;
    struct call *call; /* atomic: NULL most of the time; who takes it away carries it out */
    struct oko_worker *worker;
    uint32_t index;
    int wake; /* eventfd */
    bool started;
    pthread_t id;
    struct oko_rx rx;
    uint8_t *buffers;
};

struct oko_live {
    struct oko_dp *dp;
    uint32_t n_threads;
    bool busy_poll;
    bool stop;               /* atomic */
    pthread_mutex_t calling; /* one call at a time */
    struct thread threads[];
};

/* ---------------------------------------------------------------- receiving */

static bool is_mine(const struct thread *t, const struct oko_port *port)
{
    return port->ops && port->ops->rx && port->number % t->live->n_threads == t->index;
}

/* The thread's first port above a number, in the newest view; NULL: none. */
static struct oko_port *next_port(const struct thread *t, uint64_t above)
{
    const struct oko_set *ports = oko_dp_view(t->live->dp)->ports;
    uint32_t low = 0, high = ports->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ports->sorted[middle].id >= above)
            high = middle;
        else
            low = middle + 1;
    }
    for (; low < ports->n; low++)
        if (is_mine(t, ports->sorted[low].object))
            return ports->sorted[low].object;
    return NULL;
}

static void forward(struct thread *t, uint32_t in_port, uint32_t n, uint64_t now)
{
    struct oko_pkt pkts[OKO_BURST];
    memset(pkts, 0, n * sizeof pkts[0]);
    if (now < t->worker->now_ns)
        now = t->worker->now_ns;
    for (uint32_t i = 0; i < n; i++) {
        pkts[i].data = t->rx.data[i];
        pkts[i].len = t->rx.len[i];
        pkts[i].in_port = in_port;
        pkts[i].meta.rx_ns = now;
        pkts[i].meta.in_port = in_port;
        pkts[i].meta.len = pkts[i].meta.wire_len = t->rx.len[i];
    }
    oko_worker_burst(t->worker, pkts, n);
}

/* One burst from each port; how many packets. The thread is online. */
static uint32_t round_of_ports(struct thread *t)
{
    uint32_t total = 0;
    struct oko_port *port;
    for (uint64_t at = 0; (port = next_port(t, at));) {
        uint32_t number = port->number;
        uint64_t now = OKO_LIVE_NOW(t->live->dp);
        uint32_t n = port->ops->rx(port, &t->rx, now);
        if (n) /* contains a quiescent point: the port may be gone afterwards */
            forward(t, number, n, now);
        total += n;
        at = number + 1ull;
    }
    return total;
}

/* ---------------------------------------------------------------- waiting */

/* Sleeps until something happens. The thread is offline meanwhile. */
static void wait(struct thread *t)
{
    struct pollfd fds[MAX_FDS];
    uint64_t eight, now = OKO_LIVE_NOW(t->live->dp), until = now + MAX_SLEEP_MS * 1000000ull;
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = t->wake, .events = POLLIN};
    struct oko_port *port;
    for (uint64_t at = 0; (port = next_port(t, at)); at = port->number + 1ull) {
        uint64_t due = port->ops->due_ns ? port->ops->due_ns(port) : OKO_NEVER;
        if (due < until)
            until = due;
        int fd = port->ops->fd(port);
        if (fd >= 0 && n < MAX_FDS)
            fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        else if (fd >= 0)
            until = now + MANY_PORTS_SLEEP_MS * 1000000ull;
    }
    uint64_t deadline = OKO_LOAD(&t->live->dp->next_deadline);
    if (deadline < until)
        until = deadline;
    uint64_t left = until > now ? until - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(left / 1000000000u),
                               .tv_nsec = (long)(left % 1000000000u)};
    oko_worker_offline(t->worker);
    int ready = ppoll(fds, n, &timeout, NULL);
    oko_worker_online(t->worker);
    if (ready > 0 && fds[0].revents)
        (void)!read(t->wake, &eight, sizeof eight);
}

static void answer(struct thread *t)
{
    struct call *call = __atomic_exchange_n(&t->call, NULL, __ATOMIC_ACQ_REL);
    if (call) {
        call->fn(t->worker, call->arg);
        OKO_STORE_RELEASE(&call->done, true);
    }
}

static void *run(void *arg)
{
    struct thread *t = arg;
    oko_worker_online(t->worker);
    for (uint32_t idle = 0; !OKO_LOAD(&t->live->stop);) {
        if (OKO_LOAD(&t->call))
            answer(t);
        if (round_of_ports(t)) {
            idle = 0;
            continue;
        }
        oko_worker_tick(t->worker, OKO_LIVE_NOW(t->live->dp));
        if (++idle < SPINS || t->live->busy_poll) {
            oko_cpu_relax();
            continue;
        }
        wait(t);
    }
    oko_worker_offline(t->worker);
    return NULL;
}

/* ---------------------------------------------------------------- life */

static int make_thread(struct oko_live *live, uint32_t index)
{
    struct thread *t = &live->threads[index];
    t->live = live;
    t->index = index;
    t->worker = oko_dp_worker(live->dp, index);
    t->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    t->buffers = malloc((size_t)OKO_BURST * OKO_RX_BUFFER);
    if (t->wake < 0 || !t->buffers)
        return OKO_E_NOMEM;
    for (uint32_t i = 0; i < OKO_BURST; i++)
        t->rx.buffer[i] = t->buffers + (size_t)i * OKO_RX_BUFFER;
    if (pthread_create(&t->id, NULL, run, t))
        return OKO_E_NOMEM;
    t->started = true;
    return 0;
}

void oko_live_wake(struct oko_live *live)
{
    if (!live)
        return;
    for (uint32_t i = 0; i < live->n_threads; i++)
        eventfd_write(live->threads[i].wake, 1);
}

/* Waits in short sleeps: what is asked for is rare, and the thread has better things to do than to
 * wake somebody. */
int oko_live_call(struct oko_live *live, uint32_t index, void (*fn)(struct oko_worker *, void *),
                  void *arg)
{
    struct thread *t = &live->threads[index];
    struct call call = {fn, arg, false};
    int rc = 0;
    pthread_mutex_lock(&live->calling);
    OKO_STORE_RELEASE(&t->call, &call);
    eventfd_write(t->wake, 1);
    for (uint32_t waited = 0; !OKO_LOAD_ACQUIRE(&call.done); waited++) {
        static const struct timespec moment = {.tv_nsec = CALL_SLEEP_US * 1000};
        if (waited >= MAX_CALL_US / CALL_SLEEP_US &&
            __atomic_exchange_n(&t->call, NULL, __ATOMIC_ACQ_REL)) {
            rc = OKO_E_BUSY; /* taken back; otherwise the thread is at it */
            break;
        }
        nanosleep(&moment, NULL);
    }
    pthread_mutex_unlock(&live->calling);
    return rc;
}

uint32_t oko_live_n_threads(const struct oko_live *live)
{
    return live ? live->n_threads : 0;
}

static void stop(struct oko_live *live)
{
    OKO_STORE(&live->stop, true);
    oko_live_wake(live);
    for (uint32_t i = 0; i < live->n_threads; i++)
        if (live->threads[i].started)
            pthread_join(live->threads[i].id, NULL);
    for (uint32_t i = 0; i < live->n_threads; i++) {
        if (live->threads[i].wake >= 0)
            close(live->threads[i].wake);
        free(live->threads[i].buffers);
    }
    OKO_STORE(&live->dp->is_live, false);
    pthread_mutex_destroy(&live->calling);
    free(live);
}

int oko_dp_start(struct oko_dp *dp, const struct oko_live_opts *opts, struct oko_error *error)
{
    oko_err_clear(error);
    uint32_t n = opts->n_threads;
    if (n == 0 || n > dp->opts.n_workers || dp->live)
        return oko_err(error, OKO_E_INVAL, "live: %u threads for %u workers", n,
                       dp->opts.n_workers);
    struct oko_live *live = calloc(1, sizeof *live + n * sizeof live->threads[0]);
    if (!live)
        return oko_err(error, OKO_E_NOMEM, "live: out of memory");
    live->dp = dp;
    live->n_threads = n;
    live->busy_poll = opts->busy_poll;
    pthread_mutex_init(&live->calling, NULL);
    for (uint32_t i = 0; i < n; i++)
        live->threads[i].wake = -1;
    OKO_STORE(&dp->clock_ofs,
              oko_live_clock_of(CLOCK_REALTIME) - oko_live_clock_of(CLOCK_MONOTONIC));
    OKO_STORE(&dp->is_live, true);
    oko_clock_start(dp, OKO_LIVE_NOW(dp)); /* nobody waits for a worker that never runs */
    for (uint32_t i = 0; i < n; i++)
        if (make_thread(live, i)) {
            stop(live);
            return oko_err(error, OKO_E_NOMEM, "live: out of memory");
        }
    oko_dp_lock(dp);
    dp->live = live;
    oko_dp_unlock(dp);
    return 0;
}

void oko_dp_stop(struct oko_dp *dp)
{
    oko_dp_lock(dp);
    struct oko_live *live = dp->live;
    dp->live = NULL;
    oko_dp_unlock(dp);
    if (live)
        stop(live);
}
