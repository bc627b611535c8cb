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
    if (memo->counted && !w->dry)
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
    if (__builtin_expect(w->dry, 0)) {
        bool faulted = false, matched = oko_dry_run(w, memo->prog, &faulted);
        memo->ran |= todo;
        memo->matched |= matched ? todo : 0;
        memo->faulted |= faulted ? todo : 0;
        return;
    }
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
    uint32_t open;            /* packets before a program that has not run */
    uint32_t cut;             /* packets whose list ran out, but there may be more in the table */
    uint32_t mixed;           /* 1: open packets stand before different programs */
    uint32_t timed;           /* packets that have met a flow that may be over by now */
    uint16_t slot[OKO_BURST]; /* of open packets: the program that they stand before */
};

/* Moves packet i on to the next program that has not run, or to its decision. */
static void move_on(struct oko_worker *w, struct front *front, uint32_t i)
{
    const struct oko_cands *cands = &w->cands[i];
    uint32_t bit = 1u << i;
    for (; w->pick[i] < cands->n; w->pick[i]++) {
        const struct oko_rule *rule = cands->rule[w->pick[i]];
        if (OKO_LOAD(&rule->kind) & OKO_RULE_TIMED)
            front->timed |= bit;
        if (rule->slot) {
            const struct oko_memo *memo = memo_of(w, rule->slot);
            if (!(memo->ran & bit)) {
                front->slot[i] = rule->slot;
                front->open |= bit;
                return;
            }
            if (!(memo->matched & bit))
                continue;
        }
        w->settled |= bit;
        front->open &= ~bit;
        return;
    }
    front->cut |= cands->more ? bit : 0;
    front->open &= ~bit;
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
        for (uint32_t at = w->pick[i]; at < cands->n; at++)
            if (cands->rule[at]->slot == slot)
                return true;
    }
    return false;
}

/* May nothing that happens to the packets todo change what those after them find in table 0? */
static bool steady(const struct oko_worker *w, const struct front *front, uint32_t todo)
{
    uint32_t last = 31 - (uint32_t)__builtin_clz(todo);
    if (w->view->flags & (OKO_VIEW_CHANGES | OKO_VIEW_RESTARTS))
        return false;
    /* With several workers, another's clock may be behind: a flow that is over for us may still be
     * in the table. */
    return w->deadline > w->pkts[last].meta.rx_ns && (w->dp->opts.n_workers == 1 || !front->timed);
}

static uint32_t same_slot(const struct front *front, uint32_t among, uint32_t slot)
{
    uint32_t same = 0;
    if (!front->mixed)
        return among;
    for (; among; among &= among - 1)
        if (front->slot[__builtin_ctz(among)] == slot)
            same |= among & -among;
    return same;
}

void oko_filter_ahead(struct oko_worker *w, uint32_t todo)
{
    w->settled = 0;
    if (!(w->view->flags & OKO_VIEW_PROGS))
        return;
    struct front front = {0, 0, 0, 0, {0}};
    const struct oko_rule *usual = NULL; /* first candidate of the packet before */
    uint32_t last = 0, ran = 0;          /* its program, and the packets that this has run on */
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        const struct oko_rule *rule = w->cands[i].rule[0];
        w->pick[i] = 0;
        /* Most often the first candidate is that of the packet before, or has its program. */
        if (w->cands[i].n && !(ran >> i & 1) &&
            (rule == usual ||
             (last && rule->slot == last && !(OKO_LOAD(&rule->kind) & OKO_RULE_TIMED)))) {
            front.slot[i] = (uint16_t)last;
            front.open |= 1u << i;
            continue;
        }
        move_on(w, &front, i);
        if (front.open >> i & 1) {
            front.mixed |= last && last != front.slot[i];
            last = front.slot[i];
            ran = memo_of(w, last)->ran;
            usual = w->pick[i] == 0 && !(OKO_LOAD(&rule->kind) & OKO_RULE_TIMED) ? rule : NULL;
        }
    }
    for (bool progress = true; progress;) {
        progress = false;
        for (uint32_t rest = front.open, group; rest; rest &= ~group) {
            uint32_t slot = front.slot[__builtin_ctz(rest)];
            group = same_slot(&front, rest, slot);
            struct oko_memo *asked = memo_of(w, slot);
            if (asked->prog->info.stateful &&
                (!steady(w, &front, todo) || oko_view_later(w->view, slot) ||
                 others_reach(w, &front, slot, group)))
                continue;
            run(w, asked, group);
            oko_count(&asked->prog->counters[w->index].batch_runs,
                      (uint32_t)__builtin_popcount(group));
            w->settled |= group & asked->matched;
            front.open &= ~(group & asked->matched);
            for (uint32_t no = group & ~asked->matched; no; no &= no - 1) {
                move_on(w, &front, (uint32_t)__builtin_ctz(no));
                front.mixed = 1;
            }
            progress = true;
        }
    }
    w->settled &= ~front.timed; /* whether a flow is over is decided in turn */
}
