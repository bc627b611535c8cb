/* A worker from the inside, and the stages of a burst.
 *
 *     begin -> parse -> look up -> filter -> act -> end        (worker.c)
 *
 * look up (lookup.c) finds candidates for table 0, filter (filter.c) runs programs ahead of the
 * decision where that cannot be told from running them in turn, act (pipeline.c) takes the packets
 * one by one in arrival order: decides between the candidates, executes (action.c), sends
 * (output.c). A packet that changes a table ends the stage early, and the rest are looked up again.
 *
 * Thread-safety: everything here belongs to the worker's thread, but the counters, which any thread
 * may read, and waits_ns. */
#ifndef OKO_PIPELINE_H
#define OKO_PIPELINE_H

#include "actset.h"
#include "dp.h"

enum {
    OKO_MAX_DEPTH = 64,       /* nested resubmits, clones and buckets */
    OKO_MAX_RESUBMITS = 4096, /* of one packet */
    OKO_RUNS = 4,             /* flows whose packets are being counted, by table */
    OKO_STACK = 256           /* entries of the Nicira stack */
};

struct oko_cache; /* cache.h */

/* What one program said about the packets of the burst; bit i is packet i. */
struct oko_memo {
    uint64_t burst; /* that this is about */
    struct oko_prog *prog;
    uint32_t ran;     /* verdict known */
    uint32_t matched; /* it is yes */
    uint32_t faulted;
    uint32_t counted; /* the packet's decision reached it */
};

struct oko_table_counter {
    uint64_t lookups, matches;
};

/* Packets of one flow that are not yet in its counters. */
struct oko_run {
    const struct oko_rule *rule; /* NULL: none */
    uint64_t packets, bytes, ns;
};

/* The last packet that NORMAL sent to a known port: those like it go there too, and that its sender
 * was seen again is noted once, with the last of them. */
struct oko_last_normal {
    uint64_t burst; /* that it is of; 0 = none */
    uint64_t seen_ns;
    uint64_t until_ns; /* when its destination would be forgotten */
    uint32_t in_port, out;
    uint16_t vlan;
    uint8_t eth_src[6], eth_dst[6];
};

struct oko_worker {
    /* read by others */
    _Alignas(64) uint64_t waits_ns; /* atomic: clock that expiry waits for, OKO_NEVER = none */
    uint64_t now_ns;                /* atomic: of the newest packet */

    _Alignas(64) struct oko_dp *dp;
    uint32_t index;
    bool changed;              /* a table changed: candidates found before are void */
    bool dry;                  /* only traces: nothing but this struct changes (hypothesis.c) */
    struct oko_prog **shadows; /* dry: [slots], made when asked, or NULL */
    struct oko_path *paths;    /* dry: [slots], where the program's last run ended */
    const struct oko_view *view;
    struct oko_env *env;
    struct oko_pool *pool;
    struct oko_cache *cache; /* NULL with OKO_DP_NO_CACHE */

    /* the burst */
    uint64_t burst; /* its number */
    struct oko_pkt *pkts;
    uint32_t n;
    uint32_t todo;  /* packets that go on to classification */
    uint32_t ahead; /* how many packets to look up ahead: less after a table changed */
    struct oko_key keys[OKO_BURST];
    struct oko_cands cands[OKO_BURST];
    struct oko_prog_in in[OKO_BURST];
    uint32_t alike;    /* packets that share the candidates of the first of them, in table 0 */
    uint32_t together; /* packets that are certain to take one rule ... */
    const struct oko_rule *common; /* ... it */
    uint32_t settled;              /* packets whose rule has been chosen ahead (ahead.c) ... */
    const struct oko_rule
        *chosen[OKO_BURST];          /* ... it, or NULL: none in table 0; not of together */
    uint32_t standing[OKO_N_TABLES]; /* packets that go on to a later table ahead */
    bool traced;                     /* one of the packets may be asked for */
    uint64_t deadline;               /* no flow of the view is over before this */

    struct oko_memo *memo; /* [slots] */
    uint16_t *touched;     /* slots whose memo is of this burst */
    uint32_t n_touched;
    struct oko_port **flush; /* ports to flush at the end of the burst */
    uint32_t n_flush, flush_cap;

    /* successive packets of one flow are counted together */
    struct oko_run runs[OKO_RUNS];
    uint64_t decided; /* packets of this act() with one candidate, without filter */
    /* and copies that leave through one port */
    uint32_t out_number;       /* the port last looked up, 0 = none */
    struct oko_port *out_port; /* NULL: not one that only counts */
    uint64_t out_packets, out_bytes;

    struct oko_last_normal last_normal;

    struct oko_action_set set;
    uint8_t stack[OKO_STACK][16]; /* big-endian numbers */

    struct oko_trace *trace; /* where the packet at hand is recorded, or NULL */
    uint64_t drops[OKO_N_DROPS];
    struct oko_dp_stats stats;
    struct oko_table_counter tables[OKO_N_TABLES];
};

/* A packet being executed. */
struct oko_exec {
    struct oko_worker *worker;
    struct oko_pkt *pkt;
    struct oko_key *key;
    uint32_t index; /* in the burst: which bit of a memo */
    uint32_t depth;
    uint32_t n_resubmits;
    uint32_t n_out; /* copies that left, packet-ins included */
    uint32_t n_stack;
    const struct oko_rule *rule; /* being executed */
    uint8_t table;               /* its table */
    uint8_t drop;                /* enum oko_drop: the first reason so far */
    bool stop;                   /* nothing more happens to this packet, or copy */
    bool over;                   /* nor to the packet that it is a copy of: a limit */
    bool exit;                   /* no more actions; the action set is still executed */
    bool refresh;                /* changed a table in mid-packet: look at the new view next */
    bool packet_out;             /* executing a packet-out's own list */
};

/* pipeline.c */
static inline void oko_flush_run(struct oko_worker *w, struct oko_run *run)
{
    if (run->rule && !w->dry)
        oko_flow_count(run->rule->stats, w->index, w->dp->opts.n_workers, run->packets, run->bytes,
                       run->ns);
    run->rule = NULL;
}
void oko_flush_runs(struct oko_worker *w);

int oko_worker_new(struct oko_dp *dp, uint32_t index, struct oko_worker **worker);
void oko_worker_free(struct oko_worker *worker);

/* Counts packets of a rule, the last of which came at ns. */
static inline void oko_count_packets(struct oko_worker *w, const struct oko_rule *rule,
                                     uint64_t packets, uint64_t bytes, uint64_t ns)
{
    struct oko_run *run = &w->runs[rule->table % OKO_RUNS];
    if (rule == run->rule) {
        run->packets += packets;
        run->bytes += bytes;
        run->ns = ns > run->ns ? ns : run->ns; /* ahead.c counts early */
        return;
    }
    oko_flush_run(w, run);
    *run = (struct oko_run){rule, packets, bytes, ns};
}

static inline void oko_count_rule(struct oko_worker *w, const struct oko_rule *rule,
                                  const struct oko_pkt *pkt)
{
    oko_count_packets(w, rule, 1, pkt->meta.wire_len, pkt->meta.rx_ns);
}

/* lookup.c: candidates of the packets todo, into w->cands, and returns those that share the list of
 * the first of them, which has them for all; candidates of one packet. */
uint32_t oko_lookup_burst(struct oko_worker *w, uint32_t table, uint32_t todo);
void oko_lookup(struct oko_worker *w, uint32_t table, const struct oko_key *key,
                struct oko_cands *cands);

/* Is the decision between these certain, whatever happens before it is taken? */
static inline bool oko_is_certain(const struct oko_cands *cands)
{
    return cands->n == 1 && !cands->rule[0]->slot &&
           !(OKO_LOAD(&cands->rule[0]->kind) & OKO_RULE_TIMED);
}

/* ahead.c: decides what can be decided before its turn */
void oko_decide_ahead(struct oko_worker *w, uint32_t todo);

/* filter.c: what a program has said in this burst, so far; asks it about the packets todo. */
struct oko_memo *oko_memo_of(struct oko_worker *w, uint32_t slot);
void oko_filter_run(struct oko_worker *w, struct oko_memo *memo, uint32_t todo);
/* Does the program match packet index? The decision has reached it. */
bool oko_filter_ask(struct oko_worker *w, uint32_t index, uint32_t slot);
void oko_filter_end(struct oko_worker *w); /* counts what the burst ran */

/* The packet is about to be executed. */
static inline void oko_begin_pass(struct oko_pkt *pkt)
{
    pkt->pass_data = pkt->data;
    pkt->pass_len = pkt->len;
    pkt->owned = false;
    pkt->buffer = NULL;
    pkt->queue = 0;
}

/* pipeline.c: handles packets todo until a table changes; returns those still to do. */
uint32_t oko_act(struct oko_worker *w, uint32_t todo);
/* The rule that a packet takes in a table, given its candidates; NULL: none. */
const struct oko_rule *oko_decide(struct oko_worker *w, uint32_t index, uint32_t table,
                                  const struct oko_key *key, struct oko_cands *cands);
/* Takes the newest view. */
void oko_worker_look(struct oko_worker *w);

/* action.c: executes a rule's instructions, gotos included; later the action set. */
void oko_execute(struct oko_exec *x, const struct oko_rule *rule);
void oko_execute_set(struct oko_exec *x);
/* A packet-out's list (checked); output to TABLE starts a pass. */
void oko_execute_actions(struct oko_exec *x, const uint8_t *ops, uint32_t len);

/* What programs get of a packet, whenever they run in this pass. */
static inline void oko_show_packet(const struct oko_pkt *pkt, struct oko_prog_in *in)
{
    *in = (struct oko_prog_in){pkt->data, pkt->len, &pkt->meta};
}

/* worker.c */
void oko_burst_end(struct oko_worker *w);
/* pipeline.c: a packet that nobody got is a drop. */
void oko_finish(struct oko_exec *x);

/* output.c. max_len: bytes of a packet-in; other ports: cut to it, 0 = whole. */
void oko_output(struct oko_exec *x, uint32_t port, uint32_t max_len);
/* NORMAL, a learning switch per VLAN: learns where the packet came from; the port that its
 * destination is behind, 0 = not known, or not to be forwarded. */
uint32_t oko_normal(struct oko_worker *w, const struct oko_key *key, uint32_t in_port,
                    uint64_t now_ns);
void oko_flush_normal(struct oko_worker *w);              /* notes when the last sender was seen */
void oko_find_out(struct oko_worker *w, uint32_t number); /* sets out_port */
/* Counts a packet that leaves as it came through a port that only counts; false: it is not as
 * simple as that, oko_output() is to do it. */
static inline bool oko_forward(struct oko_worker *w, const struct oko_pkt *pkt, uint32_t number)
{
    if (number != w->out_number)
        oko_find_out(w, number);
    if (!w->out_port || number == pkt->in_port)
        return false;
    w->out_packets++;
    w->out_bytes += pkt->meta.wire_len;
    return true;
}
void oko_flush_out(struct oko_worker *w); /* counts what oko_forward() did */
void oko_packet_in(struct oko_exec *x, uint32_t max_len, uint16_t reason, uint32_t controller);
/* No flow in x->table matches. */
void oko_miss(struct oko_exec *x);

/* hypothesis.c: what the program says about the packet at hand, without a trace of the run. */
bool oko_dry_run(struct oko_worker *w, struct oko_prog *prog, bool *faulted);

/* learn.c */
void oko_learn(struct oko_exec *x, const struct oko_op_head *op);
void oko_fin_timeout(struct oko_exec *x, const struct oko_op_head *op);

/* trace: a step of the packet at hand, if it is recorded */
void oko_trace_step(struct oko_worker *w, uint32_t kind, uint32_t depth, uint32_t table,
                    const struct oko_rule *rule, uint64_t arg, uint64_t value);
#define OKO_TRACE(w, ...)                                                                          \
    do {                                                                                           \
        if (__builtin_expect((w)->trace != NULL, 0))                                               \
            oko_trace_step((w), __VA_ARGS__);                                                      \
    } while (0)

static inline void oko_drop_note(struct oko_exec *x, enum oko_drop reason)
{
    if (x->drop == OKO_DROP_NONE || reason < x->drop)
        x->drop = (uint8_t)reason;
}

#endif
