/* The forwarding thread's side: workers, and the burst, stage by stage. */
#include "pipeline.h"

#include "cache.h"
#include "commit.h"

#include <stdlib.h>
#include <string.h>

/* Buffers: the frame at hand and one per nested clone or bucket that writes. */
enum { MAX_BUFFERS = 1 + OKO_MAX_DEPTH };

int oko_worker_new(struct oko_dp *dp, uint32_t index, struct oko_worker **out)
{
    uint32_t n_slots = dp->opts.max_progs + 1;
    struct oko_worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
    if (!w)
        return OKO_E_NOMEM;
    memset(w, 0, sizeof *w);
    w->dp = dp;
    w->index = index;
    w->ahead = OKO_BURST;
    w->waits_ns = OKO_NEVER;
    w->env = oko_vm_env(dp->vm, index);
    w->memo = calloc(n_slots, sizeof *w->memo);
    w->touched = calloc(n_slots, sizeof *w->touched);
    if (!w->memo || !w->touched || oko_pool_new(MAX_BUFFERS, &w->pool) ||
        (!(dp->opts.flags & OKO_DP_NO_CACHE) && oko_cache_new(dp->opts.cache_bytes, &w->cache))) {
        oko_worker_free(w);
        return OKO_E_NOMEM;
    }
    *out = w;
    return 0;
}

void oko_worker_free(struct oko_worker *w)
{
    if (!w)
        return;
    oko_cache_free(w->cache);
    oko_pool_free(w->pool);
    free(w->shadows);
    free(w->paths);
    free(w->flush);
    free(w->touched);
    free(w->memo);
    free(w);
}

struct oko_worker *oko_dp_worker(struct oko_dp *dp, uint32_t index)
{
    return index < dp->opts.n_workers ? dp->workers[index] : NULL;
}

void oko_worker_online(struct oko_worker *w)
{
    oko_qsbr_online(w->dp->qsbr, w->index);
    if (OKO_LOAD(&w->now_ns)) /* it takes part in time again */
        OKO_STORE_RELEASE(&w->waits_ns, OKO_LOAD(&w->now_ns));
}

void oko_worker_offline(struct oko_worker *w)
{
    OKO_STORE_RELEASE(&w->waits_ns, OKO_NEVER);
    oko_qsbr_offline(w->dp->qsbr, w->index);
}

void oko_worker_look(struct oko_worker *w)
{
    w->view = oko_dp_view(w->dp);
    w->deadline = OKO_LOAD_ACQUIRE(&w->dp->next_deadline);
}

/* ---------------------------------------------------------------- stages */

/* Packets that arrived one after another at one port. */
struct arrivals {
    const struct oko_port *port; /* NULL: none of that number */
    uint32_t number;
    uint64_t packets, bytes;
};

static void flush_arrivals(struct oko_worker *w, struct arrivals *a)
{
    if (a->port) {
        struct oko_port_counters *counters = &a->port->counters[w->index];
        oko_count(&counters->rx_packets, a->packets);
        oko_count(&counters->rx_bytes, a->bytes);
    }
    a->packets = a->bytes = 0;
}

/* Counts arrivals, sorts out what goes no further. */
static void begin(struct oko_worker *w, struct oko_pkt *pkts, uint32_t n)
{
    oko_qsbr_quiescent(w->dp->qsbr, w->index);
    if (__builtin_expect(!OKO_LOAD(&w->dp->born_ns), 0))
        oko_clock_start(w->dp, pkts[0].meta.rx_ns); /* before the look: it makes deadlines */
    oko_worker_look(w);
    w->burst++;
    w->pkts = pkts;
    w->n = n;
    w->todo = 0;
    w->out_number = 0;
    OKO_STORE_RELEASE(&w->waits_ns, pkts[0].meta.rx_ns);
    struct arrivals arrivals = {.number = pkts[0].in_port};
    arrivals.port = oko_set_find(w->view->ports, arrivals.number);
    for (uint32_t i = 0; i < n; i++) {
        const struct oko_pkt *pkt = &pkts[i];
        if (pkt->in_port != arrivals.number) {
            flush_arrivals(w, &arrivals);
            arrivals.number = pkt->in_port;
            arrivals.port = oko_set_find(w->view->ports, arrivals.number);
        }
        arrivals.packets++;
        arrivals.bytes += pkt->meta.wire_len;
        if (__builtin_expect(pkt->len > OKO_FRAME_MAX, 0))
            oko_count(&w->drops[OKO_DROP_TOO_LONG], 1);
        else if (arrivals.port && OKO_LOAD(&arrivals.port->flags) & OKO_PORT_NO_RECV)
            oko_count(&w->drops[OKO_DROP_NO_RECV], 1);
        else
            w->todo |= 1u << i;
    }
    flush_arrivals(w, &arrivals);
    oko_count(&w->stats.packets, n);
    oko_count(&w->stats.bursts, 1);
}

/* All of the burst, those that are done already included: that is quicker than to skip them. */
static void show_to_programs(struct oko_worker *w)
{
    struct oko_prog_in *in = w->in;
    for (struct oko_pkt *pkt = w->pkts, *end = pkt + w->n; pkt < end; pkt++)
        oko_show_packet(pkt, in++);
}

static void parse(struct oko_worker *w)
{
    enum oko_layers layers = w->view->layers;
    for (uint32_t rest = w->todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        oko_parse(&w->pkts[i], layers, &w->keys[i]);
    }
    if (w->view->flags & OKO_VIEW_PROGS)
        show_to_programs(w);
}

/* The next packets to look up together: fewer after one has changed a table. */
static uint32_t first_of(uint32_t todo, uint32_t n)
{
    uint32_t first = 0;
    if (n >= OKO_BURST)
        return todo;
    for (; todo && n; n--, todo &= todo - 1)
        first |= todo & -todo;
    return first;
}

void oko_burst_end(struct oko_worker *w)
{
    oko_flush_runs(w);
    oko_flush_out(w);
    oko_flush_normal(w);
    oko_filter_end(w);
    for (uint32_t i = 0; i < w->n_flush; i++)
        w->flush[i]->ops->flush(w->flush[i], w->index);
    w->n_flush = 0;
}

/* At most OKO_BURST packets, each to its end, as if one after another. */
static void burst(struct oko_worker *w, struct oko_pkt *pkts, uint32_t n)
{
    begin(w, pkts, n);
    parse(w);
    for (uint32_t todo = w->todo; todo;) {
        uint32_t now = first_of(todo, w->ahead);
        enum oko_layers layers = w->view->layers;
        uint32_t flags = w->view->flags;
        w->alike = oko_lookup_burst(w, 0, now);
        oko_decide_ahead(w, now);
        uint32_t left = oko_act(w, now);
        todo = (todo & ~now) | left;
        w->ahead = left ? 1 : 2 * w->ahead > OKO_BURST ? OKO_BURST : 2 * w->ahead;
        if (w->view->layers > layers || (w->view->flags & ~flags) & OKO_VIEW_PROGS) {
            w->todo = todo; /* a flow that came meanwhile looks deeper */
            parse(w);
        }
        if (left)
            oko_count(&w->stats.relookups, (uint32_t)__builtin_popcount(left));
    }
    oko_burst_end(w);
}

void oko_worker_burst(struct oko_worker *w, struct oko_pkt *pkts, uint32_t n)
{
    uint32_t most = w->dp->opts.burst;
    for (uint32_t at = 0; at < n; at += most)
        burst(w, pkts + at, n - at < most ? n - at : most);
}

void oko_worker_tick(struct oko_worker *w, uint64_t now_ns)
{
    oko_qsbr_quiescent(w->dp->qsbr, w->index);
    if (!OKO_LOAD(&w->dp->born_ns))
        oko_clock_start(w->dp, now_ns);
    if (now_ns > w->now_ns)
        OKO_STORE(&w->now_ns, now_ns);
    OKO_STORE_RELEASE(&w->waits_ns, w->now_ns);
    oko_expire(w->dp, w->index, w->now_ns);
}
