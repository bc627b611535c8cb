/* Running filter programs: at most once per packet and pass, and never observably early.
 *
 * What a program said is kept per burst and slot as bit masks over the packets (struct oko_memo),
 * tied to the program instance, so nothing can be mistaken for the verdict of another packet or
 * another program. Clones and buckets of a packet share its bit.
 *
 * A pure program may run on packets whose decision has not reached it, and then runs on all at once
 * through the batch entry. A stateful one runs ahead only if that cannot be told from running in
 * turn: every packet of the burst whose decision can still reach it stands right before it, and
 * nothing that an earlier packet does can change that. Otherwise it waits for oko_filter_ask(). */
#include "pipeline.h"

static struct oko_prog *prog_of(const struct oko_worker *w, uint32_t slot)
{
    return w->view->progs->slot[slot];
}

/* Counts what the burst decided with a program, and forgets it. */
static void settle(struct oko_worker *w, struct oko_memo *memo)
{
    if (memo->counted)
        oko_prog_count(memo->prog, w->index, (uint32_t)__builtin_popcount(memo->counted),
                       (uint32_t)__builtin_popcount(memo->counted & memo->matched),
                       (uint32_t)__builtin_popcount(memo->counted & memo->faulted));
    memo->burst = 0;
}

static struct oko_memo *memo_of(struct oko_worker *w, uint32_t slot)
{
    struct oko_memo *memo = &w->memo[slot];
    struct oko_prog *prog = prog_of(w, slot);
    if (__builtin_expect(memo->burst == w->burst && memo->prog == prog, 1))
        return memo;
    if (memo->burst == w->burst)
        settle(w, memo); /* replaced in mid-burst: another program */
    else
        w->touched[w->n_touched++] = (uint16_t)slot;
    *memo = (struct oko_memo){.burst = w->burst, .prog = prog};
    return memo;
}

void oko_filter_end(struct oko_worker *w)
{
    for (uint32_t i = 0; i < w->n_touched; i++)
        settle(w, &w->memo[w->touched[i]]);
    w->n_touched = 0;
}

/* Runs on the packets todo. */
static void run(struct oko_worker *w, struct oko_memo *memo, uint32_t todo)
{
    bool interpret = w->dp->opts.flags & OKO_DP_INTERPRET;
    uint64_t faulted = 0;
    uint64_t matched = oko_prog_exec(memo->prog, w->env, interpret, w->in, todo, &faulted);
    memo->ran |= todo;
    memo->matched |= (uint32_t)matched & todo;
    memo->faulted |= (uint32_t)faulted & todo;
}

bool oko_filter_ask(struct oko_worker *w, uint32_t index, uint32_t slot)
{
    struct oko_memo *memo = memo_of(w, slot);
    uint32_t bit = 1u << index;
    if (!(memo->ran & bit))
        run(w, memo, bit);
    memo->counted |= bit;
    return memo->matched & bit;
}

/* ---------------------------------------------------------------- running ahead */

/* Where the packets' decisions stand. */
struct front {
    uint32_t open; /* packets before a program that has not run */
    uint32_t cut;  /* packets whose candidates ran out, but there may be more in the table */
    uint8_t at[OKO_BURST];
};

/* Moves every open packet on to the next program that has not run, or out of open. */
static void advance(struct oko_worker *w, struct front *front)
{
    for (uint32_t rest = front->open; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest), bit = 1u << i;
        const struct oko_cands *cands = &w->cands[i];
        uint32_t at = front->at[i];
        for (;; at++) {
            if (at == cands->n) {
                front->open &= ~bit;
                front->cut |= cands->more ? bit : 0;
                break;
            }
            uint32_t slot = cands->rule[at]->slot;
            const struct oko_memo *memo = slot ? memo_of(w, slot) : NULL;
            if (!memo || memo->matched & bit) {
                front->open &= ~bit;
                break;
            }
            if (!(memo->ran & bit))
                break;
        }
        front->at[i] = (uint8_t)at;
    }
}

static uint32_t next_slot(const struct oko_worker *w, const struct front *front, uint32_t i)
{
    return w->cands[i].rule[front->at[i]]->slot;
}

/* Can some packet other than those of group still come to this program? */
static bool others_reach(const struct oko_worker *w, const struct front *front, uint32_t slot,
                         uint32_t group)
{
    if (front->cut)
        return true;
    for (uint32_t rest = front->open & ~group; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        const struct oko_cands *cands = &w->cands[i];
        if (cands->more)
            return true;
        for (uint32_t at = front->at[i]; at < cands->n; at++)
            if (cands->rule[at]->slot == slot)
                return true;
    }
    return false;
}

/* May nothing that happens to the packets todo change what those after them find in table 0? */
static bool steady(const struct oko_worker *w, uint32_t todo)
{
    if (w->view->flags & (OKO_VIEW_CHANGES | OKO_VIEW_RESTARTS))
        return false;
    uint32_t last = 31 - (uint32_t)__builtin_clz(todo);
    if (OKO_LOAD(&w->dp->next_deadline) <= w->pkts[last].meta.rx_ns)
        return false;
    if (w->dp->opts.n_workers == 1)
        return true;
    /* Another worker's clock may be behind: a flow that is over for us may still be there. */
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        const struct oko_cands *cands = &w->cands[__builtin_ctz(rest)];
        for (uint32_t i = 0; i < cands->n; i++)
            if (OKO_LOAD(&cands->rule[i]->kind) & OKO_RULE_TIMED)
                return false;
    }
    return true;
}

void oko_filter_ahead(struct oko_worker *w, uint32_t todo)
{
    if (!(w->view->flags & OKO_VIEW_PROGS))
        return;
    struct front front = {.open = todo};
    bool is_steady = steady(w, todo), progress = true;
    while (progress) {
        progress = false;
        advance(w, &front);
        for (uint32_t rest = front.open; rest;) {
            uint32_t slot = next_slot(w, &front, (uint32_t)__builtin_ctz(rest)), group = 0;
            for (uint32_t more = rest; more; more &= more - 1)
                if (next_slot(w, &front, (uint32_t)__builtin_ctz(more)) == slot)
                    group |= more & -more;
            rest &= ~group;
            struct oko_memo *memo = memo_of(w, slot);
            if (memo->prog->info.stateful && (!is_steady || oko_view_later(w->view, slot) ||
                                              others_reach(w, &front, slot, group)))
                continue;
            run(w, memo, group);
            oko_count(&memo->prog->counters[w->index].batch_runs,
                      (uint32_t)__builtin_popcount(group));
            progress = true;
        }
    }
}
