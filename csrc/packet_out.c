/* Packet-out: a controller's frame and what to do with it.
 *
 * The list is executed at once by the calling thread, as one of the workers, so that everything has
 * left when the call returns and a barrier needs nothing else. It is no pass: no table is looked at
 * and no program runs, until an output to TABLE starts one (action.c).
 *
 * Thread-safety: as oko_dp_process(): nobody else may be running that worker meanwhile. */
#include "pipeline.h"

#include "base/err.h"
#include "commit.h"
#include "parse.h"

#include <string.h>

struct refs {
    const struct oko_set *groups;
    struct oko_error *error;
    int rc;
};

static bool is_wrong(const struct oko_op_head *op, void *ctx)
{
    struct refs *refs = ctx;
    if (op->op == OKO_OP_SEND_MAPS)
        refs->rc = oko_err(refs->error, OKO_E_INVAL, "send_maps: belongs to a flow");
    else if (op->op == OKO_OP_GROUP && !oko_set_find(refs->groups, op->arg))
        refs->rc =
            oko_err(refs->error, OKO_E_NOTFOUND, "packet-out: there is no group %u", op->arg);
    return refs->rc != 0;
}

int oko_packet_out_refs(const uint8_t *ops, uint32_t ops_len, const struct oko_set *groups,
                        struct oko_error *error)
{
    struct refs refs = {.groups = groups, .error = error};
    return oko_ops_walk(ops, ops_len, is_wrong, &refs) ? refs.rc : 0;
}

int oko_dp_packet_out(struct oko_dp *dp, uint32_t worker, const struct oko_frame *frame,
                      const uint8_t *ops, uint32_t ops_len, struct oko_error *error)
{
    struct oko_worker *w = oko_dp_worker(dp, worker);
    struct oko_ops_facts facts;
    oko_err_clear(error);
    if (!w || frame->len > OKO_FRAME_MAX)
        return oko_err(error, OKO_E_INVAL, "packet-out: no such worker, or the frame is too long");
    int rc = oko_ops_check(ops, ops_len, OKO_OPS_ACTIONS, 0, &facts, error);
    if (rc)
        return rc;

    oko_worker_online(w);
    oko_qsbr_quiescent(dp->qsbr, w->index);
    uint64_t now = oko_dp_now(dp);
    if (frame->ns > now)
        now = frame->ns;
    if (!OKO_LOAD(&dp->born_ns))
        oko_clock_start(dp, now);
    oko_worker_tick(w, now); /* what falls due goes before it */
    oko_worker_look(w);
    rc = oko_packet_out_refs(ops, ops_len, w->view->groups, error);
    if (rc) {
        oko_worker_offline(w);
        return rc;
    }
    struct oko_pkt pkt = {.data = (uint8_t *)(uintptr_t)frame->data,
                          .len = frame->len,
                          .in_port = frame->in_port,
                          .seq = frame->seq,
                          .meta = {.rx_ns = w->now_ns,
                                   .in_port = frame->in_port,
                                   .wire_len = frame->len,
                                   .len = frame->len}};
    w->burst++;
    w->pkts = &pkt;
    w->n = 1;
    w->out_number = 0;
    oko_parse(&pkt, facts.layers > w->view->layers ? facts.layers : w->view->layers, &w->keys[0]);
    struct oko_exec x = {.worker = w, .pkt = &pkt, .key = &w->keys[0], .packet_out = true};
    oko_begin_pass(&pkt);
    oko_show_packet(w->pkts, w->in); /* for a resubmit */
    oko_action_set_clear(&w->set);
    oko_execute_actions(&x, ops, ops_len);
    oko_pkt_release(&pkt, w->pool);
    oko_finish(&x);
    oko_burst_end(w);
    w->changed = false;
    oko_worker_offline(w);
    return 0;
}
