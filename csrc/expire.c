/* Timeouts: flows stop matching at their deadline, and go.
 *
 * Idea. A heap holds, for each flow with a timeout, a moment before which it cannot expire. Whoever
 * moves a worker's clock past the first of them looks: a flow used since then is put back with its
 * new deadline, others are removed in one commit, each at its own deadline. So an idle timeout
 * costs nothing per packet but the time stamp of the counters, and a packet pays one comparison.
 *
 * Several workers have clocks of their own (a replay gives each its share of the packets). A
 * worker never uses a flow whose deadline its own clock has passed (pipeline.c looks), but the flow
 * is removed only when all workers that take part have: another may still be about to use it.
 *
 * Thread-safety: the heap is under the datapath's mutex; next_deadline is read without. */
#include "commit.h"

#include "pipeline.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- heap */

static void place(struct oko_dp *dp, uint32_t at, struct oko_deadline deadline)
{
    dp->heap[at] = deadline;
    deadline.rule->heap = at;
}

/* By time; of the same moment, the older flow first. */
static bool before(const struct oko_deadline *a, const struct oko_deadline *b)
{
    if (a->at != b->at)
        return a->at < b->at;
    return (a->rule->rank & OKO_RANK_SEQUENCE) < (b->rule->rank & OKO_RANK_SEQUENCE);
}

static void sift_up(struct oko_dp *dp, uint32_t at)
{
    struct oko_deadline moving = dp->heap[at];
    for (; at > 1 && before(&moving, &dp->heap[at / 2]); at /= 2)
        place(dp, at, dp->heap[at / 2]);
    place(dp, at, moving);
}

static void sift_down(struct oko_dp *dp, uint32_t at)
{
    struct oko_deadline moving = dp->heap[at];
    for (uint32_t child; (child = 2 * at) <= dp->n_heap; at = child) {
        if (child < dp->n_heap && before(&dp->heap[child + 1], &dp->heap[child]))
            child++;
        if (!before(&dp->heap[child], &moving))
            break;
        place(dp, at, dp->heap[child]);
    }
    place(dp, at, moving);
}

static void announce_first(struct oko_dp *dp)
{
    uint64_t first = dp->n_heap && dp->born_ns ? dp->heap[1].at : OKO_NEVER;
    if (first != dp->next_deadline)
        OKO_STORE(&dp->next_deadline, first);
}

int oko_heap_reserve(struct oko_dp *dp, uint32_t n_flows)
{
    struct oko_deadline *heap = realloc(dp->heap, (n_flows + 1ull) * sizeof *heap);
    if (!heap)
        return OKO_E_NOMEM;
    dp->heap = heap;
    return 0;
}

void oko_heap_add(struct oko_dp *dp, struct oko_rule *rule)
{
    bool hard;
    struct oko_deadline deadline = {oko_rule_deadline(rule, dp->born_ns, &hard), rule};
    place(dp, ++dp->n_heap, deadline);
    sift_up(dp, dp->n_heap);
    announce_first(dp);
}

void oko_heap_remove(struct oko_dp *dp, struct oko_rule *rule)
{
    uint32_t at = rule->heap;
    if (!at)
        return;
    rule->heap = 0;
    struct oko_deadline last = dp->heap[dp->n_heap--];
    if (last.rule != rule) {
        place(dp, at, last);
        sift_up(dp, at);
        sift_down(dp, last.rule->heap);
    }
    announce_first(dp);
}

void oko_heap_touch(struct oko_dp *dp, struct oko_rule *rule)
{
    oko_heap_remove(dp, rule);
    oko_heap_add(dp, rule);
}

/* ---------------------------------------------------------------- clock */

void oko_clock_start(struct oko_dp *dp, uint64_t ns)
{
    oko_dp_lock(dp);
    if (!dp->born_ns) {
        OKO_STORE(&dp->born_ns, ns ? ns : 1);
        /* Flows older than the clock are born now: their deadlines become real. */
        uint32_t n = dp->n_heap;
        for (uint32_t i = 1; i <= n; i++) {
            bool hard;
            dp->heap[i].at = oko_rule_deadline(dp->heap[i].rule, dp->born_ns, &hard);
        }
        for (uint32_t i = n / 2; i >= 1; i--)
            sift_down(dp, i);
        announce_first(dp);
    }
    oko_dp_unlock(dp);
}

/* The clock that all workers taking part have reached. */
static uint64_t slowest(const struct oko_dp *dp, uint64_t now_ns)
{
    uint64_t ns = now_ns;
    for (uint32_t i = 0; i < dp->opts.n_workers; i++) {
        uint64_t other = OKO_LOAD_ACQUIRE(&dp->workers[i]->waits_ns);
        if (other < ns)
            ns = other;
    }
    return ns;
}

bool oko_expire(struct oko_dp *dp, uint32_t worker, uint64_t now_ns)
{
    uint64_t until = slowest(dp, now_ns);
    if (until < OKO_LOAD(&dp->next_deadline))
        return false;
    oko_dp_lock(dp);
    struct oko_commit c;
    oko_commit_begin(dp, now_ns, worker, &c);
    while (dp->n_heap && dp->heap[1].at <= until) {
        struct oko_rule *rule = dp->heap[1].rule;
        bool hard;
        uint64_t deadline = oko_rule_deadline(rule, dp->born_ns, &hard);
        if (deadline > until) {
            dp->heap[1].at = deadline;
            sift_down(dp, 1);
        } else if (dp->heap[1].at < deadline) { /* others may come before it */
            dp->heap[1].at = deadline;
            sift_down(dp, 1);
        } else if (oko_commit_hide(&c, rule, hard ? OKO_REMOVED_HARD : OKO_REMOVED_IDLE,
                                   deadline)) {
            break; /* out of memory: next time */
        }
    }
    announce_first(dp);
    bool changed = c.n_steps != 0;
    if (changed)
        changed = oko_commit_publish(&c) == 0;
    else
        oko_commit_rollback(&c);
    oko_dp_unlock(dp);
    return changed;
}
