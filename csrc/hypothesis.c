/* Tracing a packet that never came: the way it would take, with no side effect at all.
 *
 * The packet is handled by a worker of its own, the tracer, which shares nothing with the others
 * but what it reads. Its counters are never summed; wherever the pipeline would change something
 * else (flow, group, meter and port counters, the MAC table, learned flows, events, maps) it looks
 * at w->dry first. Programs run as shadows.
 *
 * Thread-safety: the tracer borrows the index of a worker that nobody else is running: its slot in
 * the reader registry and its programs' environment. */
#include "pipeline.h"

#include "bpf/shadow.h"
#include "cache.h"
#include "commit.h"
#include "live.h"
#include "parse.h"

#include <stdlib.h>
#include <string.h>

bool oko_dry_run(struct oko_worker *w, struct oko_prog *prog, bool *faulted)
{
    uint32_t slot = 1, n = w->view->progs->n;
    while (slot < n && w->view->progs->slot[slot] != prog)
        slot++;
    uint32_t n_threads = oko_live_n_threads(w->dp->live);
    uint32_t as_worker = n_threads ? w->pkts[0].in_port % n_threads : 0;
    if (slot == n || (!w->shadows[slot] && oko_shadow_new(prog, as_worker, &w->shadows[slot])))
        return false; /* out of memory */
    return oko_shadow_run(w->shadows[slot], w->env, &w->in[0], &w->paths[slot], faulted) == 1;
}

static int make_tracer(struct oko_dp *dp, uint32_t worker, struct oko_worker **out)
{
    struct oko_worker *w;
    int rc = oko_worker_new(dp, worker, &w);
    if (rc)
        return rc;
    oko_cache_free(w->cache); /* it would fill with what never came */
    w->cache = NULL;
    w->dry = true;
    w->shadows = calloc(dp->opts.max_progs + 1u, sizeof(struct oko_prog *));
    w->paths = calloc(dp->opts.max_progs + 1u, sizeof(struct oko_path));
    if (!w->shadows || !w->paths) {
        oko_worker_free(w);
        return OKO_E_NOMEM;
    }
    *out = w;
    return 0;
}

static void walk(struct oko_worker *w, struct oko_pkt *pkt)
{
    struct oko_exec x = {.worker = w, .pkt = pkt, .key = &w->keys[0]};
    struct oko_cands cands;
    oko_trace_step(w, OKO_TRACE_PACKET, 0, 0, NULL, pkt->in_port, pkt->meta.wire_len);
    oko_begin_pass(pkt);
    oko_show_packet(w->pkts, w->in);
    oko_action_set_clear(&w->set);
    oko_lookup(w, 0, x.key, &cands);
    const struct oko_rule *rule = oko_decide(w, 0, 0, x.key, &cands);
    if (rule) {
        oko_execute(&x, rule);
        if (!x.stop)
            oko_execute_set(&x);
    } else {
        oko_miss(&x);
    }
    oko_pkt_release(pkt, w->pool);
    oko_finish(&x);
}

int oko_dp_trace_frame(struct oko_dp *dp, uint32_t worker, const struct oko_frame *frame,
                       struct oko_trace_step *out, uint32_t max, uint32_t *n_steps)
{
    *n_steps = 0;
    if (worker >= dp->opts.n_workers || frame->len > OKO_FRAME_MAX)
        return OKO_E_INVAL;
    if (dp->tracer && dp->tracer->index != worker) {
        oko_worker_free(dp->tracer);
        dp->tracer = NULL;
    }
    if (!dp->tracer) {
        int rc = make_tracer(dp, worker, &dp->tracer);
        if (rc)
            return rc;
    }
    struct oko_trace *trace = calloc(1, sizeof *trace);
    if (!trace)
        return OKO_E_NOMEM;
    struct oko_worker *w = dp->tracer;
    uint64_t now = oko_dp_now(dp);
    oko_qsbr_online(dp->qsbr, w->index);
    oko_worker_look(w);
    w->now_ns = frame->ns > now ? frame->ns : now;
    struct oko_pkt pkt = {.data = (uint8_t *)(uintptr_t)frame->data,
                          .len = frame->len,
                          .in_port = frame->in_port,
                          .meta = {.rx_ns = w->now_ns,
                                   .in_port = frame->in_port,
                                   .wire_len = frame->wire_len ? frame->wire_len : frame->len,
                                   .len = frame->len}};
    const struct oko_port *port = oko_set_find(w->view->ports, pkt.in_port);
    w->burst++;
    w->pkts = &pkt;
    w->n = 1;
    w->trace = trace;
    if (port && OKO_LOAD(&port->flags) & OKO_PORT_NO_RECV) {
        oko_trace_step(w, OKO_TRACE_PACKET, 0, 0, NULL, pkt.in_port, pkt.meta.wire_len);
        oko_trace_step(w, OKO_TRACE_DROP, 0, 0, NULL, OKO_DROP_NO_RECV, 0);
    } else {
        oko_parse(&pkt, w->view->layers, &w->keys[0]);
        walk(w, &pkt);
    }
    for (uint32_t i = 0; i < OKO_RUNS; i++)
        w->runs[i].rule = NULL;
    oko_filter_end(w);
    w->trace = NULL;
    for (uint32_t slot = 0; slot < w->view->progs->n; slot++) {
        oko_shadow_free(w->shadows[slot]);
        w->shadows[slot] = NULL;
    }
    oko_qsbr_offline(dp->qsbr, w->index);
    uint32_t there = trace->n < 1024 ? trace->n : 1024;
    memcpy(out, trace->step, (there < max ? there : max) * sizeof *out);
    *n_steps = trace->n;
    free(trace);
    return 0;
}
