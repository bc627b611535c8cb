/* One change of state, all or nothing: the only place that makes and publishes views.
 *
 * Between begin and publish nothing that a forwarding thread sees changes: rules are inserted with
 * the version to come, or marked as gone from it on. Each step is remembered, so rollback undoes
 * them in reverse. publish makes the view and the entry of the change log, stores the pointer, and
 * hands what is gone to gc.h: rules are unlinked after one grace period and freed after another.
 *
 * Within a commit, "visible" means visible at the version being made, so each change sees those
 * before it.
 *
 * Thread-safety: the datapath's mutex is held from begin to publish or rollback. */
#ifndef OKO_COMMIT_H
#define OKO_COMMIT_H

#include "dp.h"

struct oko_commit_step; /* commit.c */

struct oko_commit {
    struct oko_dp *dp;
    uint64_t version;              /* being made */
    uint64_t now_ns;               /* datapath clock of the change; 0 = it does not run yet */
    uint32_t worker;               /* that makes the change, UINT32_MAX = the control side */
    const struct oko_progs *progs; /* of the view to come */
    const struct oko_set *ports;
    const struct oko_set *groups;
    const struct oko_set *meters;
    struct oko_commit_step *steps;
    uint32_t n_steps, steps_cap;
    uint64_t *changes; /* words for the change log */
    uint32_t n_changes, changes_len, changes_cap;
    uint32_t change; /* of the transaction that is being carried out, from 0; UINT32_MAX: none */
    struct oko_victims *victims; /* evict.c; NULL while no table was full */
};

enum { OKO_SILENT = 7 }; /* a reason to hide: no event, the flow lives on in another rule */

void oko_commit_begin(struct oko_dp *dp, uint64_t now_ns, uint32_t worker, struct oko_commit *c);
/* Makes a rule visible; takes it, also on failure. rank, id, created_ns are set by the caller. */
int oko_commit_show(struct oko_commit *c, struct oko_rule *rule, const struct oko_key *mask);
/* Ends a rule's visibility at the given moment. */
int oko_commit_hide(struct oko_commit *c, struct oko_rule *rule, uint32_t reason, uint64_t at_ns);
/* Replaces the set of ports, groups or meters; object NULL removes. The object that goes is freed
 * later with drop, the new one when the commit is rolled back. */
int oko_commit_set(struct oko_commit *c, const struct oko_set **set, uint32_t id, void *object,
                   void (*drop)(struct oko_gc_queue *, struct oko_gc *));
/* Makes program (or NULL) stand for a slot; the one that goes loses its reference later. */
int oko_commit_prog(struct oko_commit *c, uint32_t slot, struct oko_prog *prog);
/* Hides the flows that others taught with delete_learned and whose last teacher has gone. */
int oko_commit_forget(struct oko_commit *c);
/* evict.c: makes room for a flow of this importance in a full table. OKO_E_LIMIT: there is none. */
int oko_commit_evict(struct oko_commit *c, uint32_t table, uint32_t importance);
/* OKO_E_NOMEM: rolled back. */
int oko_commit_publish(struct oko_commit *c);
void oko_commit_rollback(struct oko_commit *c);

/* expire.c: the heap of deadlines. All under the mutex. */
int oko_heap_reserve(struct oko_dp *dp, uint32_t n_flows);
void oko_heap_add(struct oko_dp *dp, struct oko_rule *rule);
void oko_heap_remove(struct oko_dp *dp, struct oko_rule *rule);
/* The rule's deadline may have come nearer. */
void oko_heap_touch(struct oko_dp *dp, struct oko_rule *rule);
/* Starts the clock at ns if it does not run. */
void oko_clock_start(struct oko_dp *dp, uint64_t ns);
/* Removes the flows whose deadline all workers have passed; for a worker whose clock is now_ns.
 * True: something changed. */
bool oko_expire(struct oko_dp *dp, uint32_t worker, uint64_t now_ns);

/* txn.c: one flow command within a commit. */
int oko_commit_flow(struct oko_commit *c, const struct oko_flow_mod *mod,
                    const struct oko_match *match, const struct oko_ops_facts *facts, bool learned,
                    struct oko_error *error);

/* packet_out.c: is what these checked actions name there? */
int oko_packet_out_refs(const uint8_t *ops, uint32_t ops_len, const struct oko_set *groups,
                        struct oko_error *error);

/* dump.c: struct oko_flow_info with match and instructions, and its size. */
uint32_t oko_flow_record_size(const struct oko_rule *rule);
void oko_flow_record(const struct oko_rule *rule, uint64_t born, uint8_t *out);

/* watch.c: tells whoever watches; kind: enum oko_flow_change_kind. */
void oko_watch_rule(struct oko_dp *dp, const struct oko_rule *rule, uint32_t kind, uint32_t change);

/* dump.c: a flow-removed or learned event with the flow's match. */
void oko_event_flow(struct oko_dp *dp, const struct oko_rule *rule, uint16_t type, uint16_t reason,
                    uint64_t ns, uint64_t seq);

#endif
