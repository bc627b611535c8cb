/* Running filter programs: at most once per packet and pass, and never observably early.
 *
 * What a program said is kept per burst and slot as bit masks over the packets (struct oko_memo),
 * tied to the program instance, so nothing can be mistaken for the verdict of another packet or
 * another program. Clones and buckets of a packet share its bit.
 *
 * A pure program may run on packets whose decision has not reached it, and then runs on all at once
 * through the batch entry. A stateful one runs ahead only if that cannot be told from running in
 * turn: every packet of the burst whose decision can still reach it stands right before it, and
 * nothing that an earlier packet does can change that. Otherwise it waits for oko_filter_ask().
 * Running ahead is ahead.c's business. */
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
                       memo->faulted ? (uint32_t)__builtin_popcount(memo->counted & memo->faulted)
                                     : 0);
    memo->burst = 0;
}

struct oko_memo *oko_memo_of(struct oko_worker *w, uint32_t slot)
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

void oko_filter_run(struct oko_worker *w, struct oko_memo *memo, uint32_t todo)
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
    struct oko_memo *memo = oko_memo_of(w, slot);
    uint32_t bit = 1u << index;
    if (!(memo->ran & bit))
        oko_filter_run(w, memo, bit);
    memo->counted |= bit;
    return memo->matched & bit;
}
