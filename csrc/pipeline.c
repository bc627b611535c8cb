/* Acting on packets: deciding between candidates, counting, and the two short ways that most
 * packets take. */
#include "pipeline.h"

#include "commit.h"

#include <string.h>

/* ---------------------------------------------------------------- counting */

void oko_flush_runs(struct oko_worker *w)
{
    for (uint32_t i = 0; i < OKO_RUNS; i++)
        oko_flush_run(w, &w->runs[i]);
}

void oko_trace_step(struct oko_worker *w, uint32_t kind, uint32_t depth, uint32_t table,
                    const struct oko_rule *rule, uint64_t arg, uint64_t value)
{
    struct oko_trace *trace = w->trace;
    uint32_t n = trace->n++;
    if (n >= sizeof trace->step / sizeof trace->step[0])
        return;
    trace->step[n] = (struct oko_trace_step){.kind = kind,
                                             .depth = depth,
                                             .table = table,
                                             .priority = rule ? rule->priority : 0,
                                             .flow_id = rule ? rule->id : 0,
                                             .cookie = rule ? rule->cookie : 0,
                                             .arg = arg,
                                             .value = value,
                                             .insn = OKO_NO_INSN,
                                             .branch = OKO_NO_INSN};
    if (kind == OKO_TRACE_FILTER && w->dry) {
        trace->step[n].insn = w->paths[rule->slot].last;
        trace->step[n].branch = w->paths[rule->slot].branch;
    }
}

/* ---------------------------------------------------------------- deciding */

/* Over for this worker's clock, though another that is behind still keeps it. */
static bool is_over(struct oko_worker *w, const struct oko_rule *rule)
{
    if (__builtin_expect(!(OKO_LOAD(&rule->kind) & OKO_RULE_TIMED), 1))
        return false;
    bool hard;
    oko_flush_run(w, &w->runs[rule->table % OKO_RUNS]); /* it may be in use right now */
    return oko_rule_deadline(rule, OKO_LOAD(&w->dp->born_ns), &hard) <= w->now_ns;
}

const struct oko_rule *oko_decide(struct oko_worker *w, uint32_t index, uint32_t table,
                                  const struct oko_key *key, struct oko_cands *cands)
{
    struct oko_table_counter *counter = &w->tables[table];
    oko_count(&counter->lookups, 1);
    OKO_TRACE(w, OKO_TRACE_LOOKUP, 0, table, NULL, 0, 0);
    for (;;) {
        for (uint32_t i = 0; i < cands->n; i++) {
            const struct oko_rule *rule = cands->rule[i];
            if (is_over(w, rule))
                continue;
            if (__builtin_expect(w->trace != NULL, 0) && oko_rule_conj_id(rule))
                OKO_TRACE(w, OKO_TRACE_CONJUNCTION, 0, table, NULL, oko_rule_conj_id(rule), 0);
            if (rule->slot) {
                bool match = oko_filter_ask(w, index, rule->slot);
                OKO_TRACE(w, OKO_TRACE_FILTER, 0, table, rule, rule->filter_prog, match);
                if (!match)
                    continue;
            }
            oko_count(&counter->matches, 1);
            OKO_TRACE(w, OKO_TRACE_FLOW, 0, table, rule, 0, 0);
            return rule;
        }
        /* All said no. The list may have been cut, or ended with a flow that is over. */
        const struct oko_rule *last = cands->n ? cands->rule[cands->n - 1] : NULL;
        if (!last || (last->slot && !cands->more)) {
            OKO_TRACE(w, OKO_TRACE_MISS, 0, table, NULL, 0, 0);
            return NULL;
        }
        oko_cls_lookup_more(&w->dp->tables[table], key, w->view->version, cands);
    }
}

/* ---------------------------------------------------------------- acting */

static void drop(struct oko_worker *w, uint32_t reason)
{
    oko_count(&w->drops[reason], 1);
    OKO_TRACE(w, OKO_TRACE_DROP, 0, 0, NULL, reason, 0);
}

void oko_finish(struct oko_exec *x)
{
    if (x->n_out == 0 || x->drop == OKO_DROP_LIMIT)
        drop(x->worker, x->drop ? x->drop : OKO_DROP_ACTION);
}

/* The long way: instructions, action set. */
static void execute(struct oko_worker *w, uint32_t index, const struct oko_rule *rule)
{
    struct oko_exec x = {
        .worker = w, .pkt = &w->pkts[index], .key = &w->keys[index], .index = index};
    oko_begin_pass(x.pkt);
    oko_action_set_clear(&w->set);
    oko_execute(&x, rule);
    if (!x.stop)
        oko_execute_set(&x);
    oko_pkt_release(x.pkt, w->pool);
    oko_finish(&x);
}

/* No flow in table 0, and the controllers want to know. */
static void tell_miss(struct oko_worker *w, uint32_t index)
{
    struct oko_exec x = {
        .worker = w, .pkt = &w->pkts[index], .key = &w->keys[index], .index = index};
    oko_begin_pass(x.pkt);
    oko_miss(&x);
    oko_pkt_release(x.pkt, w->pool);
    oko_finish(&x);
}

/* The rule that a packet is certain to take; NULL: there may be none, or it is to be decided. */
static inline const struct oko_rule *certain(const struct oko_worker *w, uint32_t index)
{
    if (w->together >> index & 1)
        return w->common;
    if (w->settled >> index & 1)
        return w->chosen[index];
    const struct oko_cands *cands = &w->cands[index];
    return oko_is_certain(cands) ? cands->rule[0] : NULL;
}

/* The rule for a packet in table 0. */
static inline const struct oko_rule *decide_first(struct oko_worker *w, uint32_t index)
{
    const struct oko_rule *rule = certain(w, index);
    if (rule) {
        w->decided++;
    } else if (w->settled >> index & 1) {
        oko_count(&w->tables[0].lookups, 1);
    } else {
        rule = oko_decide(w, index, 0, &w->keys[index], &w->cands[index]);
    }
    return rule;
}

/* NORMAL to a known port; false: it is not as simple as that. */
static bool switch_normally(struct oko_worker *w, uint32_t index)
{
    const struct oko_pkt *pkt = &w->pkts[index];
    uint32_t out = oko_normal(w, &w->keys[index], pkt->in_port, pkt->meta.rx_ns);
    return out && oko_forward(w, pkt, out);
}

/* All but an output that only counts. */
static void act_on_rule(struct oko_worker *w, uint32_t index, const struct oko_rule *rule)
{
    uint32_t kind = rule ? OKO_LOAD(&rule->kind) : 0;
    if (!rule && OKO_LOAD(&w->dp->miss_len)) {
        tell_miss(w, index);
    } else if (!rule) {
        drop(w, OKO_DROP_MISS);
    } else if (kind & OKO_RULE_NORMAL && !w->trace && switch_normally(w, index)) {
        oko_count_rule(w, rule, &w->pkts[index]);
    } else if (kind & OKO_RULE_DROP) {
        oko_count_rule(w, rule, &w->pkts[index]);
        drop(w, OKO_DROP_ACTION);
    } else {
        execute(w, index, rule);
    }
}

static inline void act_on(struct oko_worker *w, uint32_t index)
{
    const struct oko_rule *rule = decide_first(w, index);
    if (rule && OKO_LOAD(&rule->kind) & OKO_RULE_OUTPUT &&
        oko_forward(w, &w->pkts[index], rule->out_port))
        oko_count_rule(w, rule, &w->pkts[index]);
    else
        act_on_rule(w, index, rule);
}

/* Records the packet's way if it is the one that is asked for. */
static void act_traced(struct oko_worker *w, uint32_t index)
{
    struct oko_trace *trace = &w->dp->trace;
    const struct oko_pkt *pkt = &w->pkts[index];
    uint32_t armed = 1;
    if (pkt->seq != OKO_LOAD(&trace->seq) ||
        !__atomic_compare_exchange_n(&trace->state, &armed, 2, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        act_on(w, index);
        return;
    }
    trace->n = 0;
    w->trace = trace;
    oko_trace_step(w, OKO_TRACE_PACKET, 0, 0, NULL, pkt->in_port, pkt->meta.wire_len);
    act_on_rule(w, index, oko_decide(w, index, 0, &w->keys[index], &w->cands[index]));
    w->trace = NULL;
    OKO_STORE_RELEASE(&trace->state, 3);
}

/* Moves the clock; what falls due goes. True: a table changed. */
static bool pass_time(struct oko_worker *w, uint64_t now_ns)
{
    OKO_STORE(&w->now_ns, now_ns);
    if (__builtin_expect(now_ns < w->deadline, 1))
        return false;
    oko_flush_runs(w);
    OKO_STORE_RELEASE(&w->waits_ns, now_ns);
    bool changed = oko_expire(w->dp, w->index, now_ns);
    w->deadline = OKO_LOAD_ACQUIRE(&w->dp->next_deadline); /* flows in use live on */
    return changed;
}

/* The first packets, one after another, that this rule sends as they came through one port that
 * only counts: counted together. Returns those still to do. */
static uint32_t forward_alike(struct oko_worker *w, uint32_t todo, const struct oko_rule *rule)
{
    uint32_t out = rule->out_port, n = 0, index = (uint32_t)__builtin_ctz(todo);
    uint64_t bytes = 0, ns = 0;
    if (out != w->out_number)
        oko_find_out(w, out);
    if (!w->out_port)
        return todo;
    do {
        const struct oko_pkt *pkt = &w->pkts[index];
        if (pkt->in_port == out || pkt->meta.rx_ns >= w->deadline)
            break;
        n++;
        bytes += pkt->meta.wire_len;
        ns = pkt->meta.rx_ns;
        todo &= todo - 1;
    } while (todo && certain(w, index = (uint32_t)__builtin_ctz(todo)) == rule);
    if (n) {
        w->decided += n;
        w->out_packets += n;
        w->out_bytes += bytes;
        oko_count_packets(w, rule, n, bytes, ns);
        OKO_STORE(&w->now_ns, ns);
    }
    return todo;
}

static uint32_t act(struct oko_worker *w, uint32_t todo)
{
    while (todo) {
        uint32_t index = (uint32_t)__builtin_ctz(todo), left;
        const struct oko_rule *rule = w->traced ? NULL : certain(w, index);
        if (rule && OKO_LOAD(&rule->kind) & OKO_RULE_OUTPUT &&
            (left = forward_alike(w, todo, rule)) != todo) {
            todo = left;
            continue;
        }
        if (pass_time(w, w->pkts[index].meta.rx_ns)) {
            oko_worker_look(w);
            return todo; /* this packet, too, is looked up again */
        }
        if (__builtin_expect(w->traced, 0))
            act_traced(w, index);
        else
            act_on(w, index);
        todo &= todo - 1;
        if (__builtin_expect(w->changed, 0)) {
            w->changed = false;
            oko_worker_look(w);
            return todo;
        }
    }
    return 0;
}

uint32_t oko_act(struct oko_worker *w, uint32_t todo)
{
    uint32_t left = act(w, todo);
    oko_count(&w->tables[0].lookups, w->decided);
    oko_count(&w->tables[0].matches, w->decided);
    w->decided = 0;
    return left;
}
