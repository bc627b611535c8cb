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
 *
 * Running ahead is program by program, not packet by packet: packets with the same candidates go on
 * as a group, through lists of any length, and groups that stand before the same program run it
 * together: one call, one flow and one memo for many packets. */
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

/* Packets whose decisions stand before the same program. Close ones have all candidates in common,
 * so they go on as one, however long the list: a program that says no costs little beside its run.
 */
struct group {
    uint32_t packets; /* 0: decided */
    uint16_t slot;    /* the program */
    bool close;
    bool timed;             /* they have met a flow that may be over by now */
    bool waits;             /* until other groups have gone on */
    uint32_t leader;        /* close: one that is, or was, of them */
    uint32_t pick;          /* close: the candidate that they stand before ... */
    struct oko_cands cands; /* ... of these; others stand before their first */
    uint64_t rank;          /* of the candidate; of one of them */
};

/* Where the packets' decisions stand. */
struct front {
    bool sure;  /* nothing that happens to a packet changes what those after it find */
    bool timed; /* some packet has met a flow that may be over by now */
    uint32_t n;
    struct group group[2 * OKO_BURST]; /* once in line, once more when they part */
};

/* With several workers another's clock may be behind, and a flow that is over for us still in the
 * table. With one, it is gone, or the burst is not sure. */
static bool may_be_over(const struct oko_worker *w, const struct oko_rule *rule)
{
    return OKO_LOAD(&rule->kind) & OKO_RULE_TIMED && w->dp->opts.n_workers > 1;
}

/* The packets take this rule, NULL: none. If that is not sure, their verdicts are known at least.
 */
static void settle_on(struct oko_worker *w, const struct front *front, const struct group *group,
                      uint32_t packets, const struct oko_rule *rule)
{
    if (!front->sure || group->timed)
        return;
    w->settled |= packets;
    for (; packets; packets &= packets - 1)
        w->chosen[__builtin_ctz(packets)] = rule;
}

/* The candidate that a close group stands before; NULL: the list has ended. */
static const struct oko_rule *candidate(struct oko_worker *w, struct group *group)
{
    if (group->pick == group->cands.n && group->cands.more) {
        oko_cls_lookup_more(&w->dp->tables[0], &w->keys[group->leader], w->view->version,
                            &group->cands);
        group->pick = 0;
    }
    return group->pick < group->cands.n ? group->cands.rule[group->pick] : NULL;
}

/* A close group has come to a candidate: to its program, or to a decision. */
static void arrive(struct oko_worker *w, struct front *front, struct group *group)
{
    const struct oko_rule *rule = candidate(w, group);
    if (rule && may_be_over(w, rule))
        group->timed = front->timed = true;
    if (rule && rule->slot) {
        group->slot = rule->slot;
        group->rank = rule->rank;
        return;
    }
    settle_on(w, front, group, group->packets, rule);
    group->packets = 0;
}

/* Have both packets the same candidates, those beyond the lists included? */
static bool same_candidates(const struct oko_worker *w, uint32_t i, uint32_t j)
{
    const struct oko_cands *a = &w->cands[i], *b = &w->cands[j];
    if (a->n != b->n || a->more != b->more)
        return false;
    for (uint32_t at = a->n; at-- > 0;) /* the last differ most often */
        if (a->rule[at] != b->rule[at])
            return false;
    return !a->more || oko_cls_same(&w->dp->tables[0], &w->keys[i], &w->keys[j]);
}

/* Groups packets by the program of their first candidate. */
static void line_up(struct oko_worker *w, struct front *front, uint32_t todo)
{
    const struct oko_rule *usual = NULL; /* first candidate of the packet before */
    struct group *group = NULL;          /* its group */
    for (; todo; todo &= todo - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(todo);
        const struct oko_rule *rule = w->cands[i].rule[0];
        if (w->cands[i].n == 0)
            continue;
        if (rule == usual) {
            group->packets |= 1u << i;
            continue;
        }
        if (!rule->slot)
            continue; /* decided */
        bool timed = may_be_over(w, rule);
        usual = rule;
        group = NULL;
        for (uint32_t g = 0; g < front->n && !group; g++)
            if (front->group[g].slot == rule->slot && front->group[g].timed == timed)
                group = &front->group[g];
        if (!group) {
            group = &front->group[front->n++];
            group->packets = 0;
            group->slot = rule->slot;
            group->close = group->waits = false;
            group->timed = timed;
            group->rank = rule->rank;
            front->timed |= timed;
        }
        group->packets |= 1u << i;
    }
}

/* Those to whom the first program said no go on in close groups. */
static void part(struct oko_worker *w, struct front *front, struct group *line)
{
    uint32_t from = front->n;
    for (uint32_t rest = line->packets; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest), g = front->n;
        uint32_t last = g - from < 4 ? from : g - 4; /* not to find the right one costs only time */
        while (g > last && !same_candidates(w, front->group[g - 1].leader, i))
            g--;
        struct group *group = g > last ? &front->group[g - 1] : &front->group[front->n++];
        if (g > last) {
            group->packets |= 1u << i;
            continue;
        }
        group->packets = 1u << i;
        group->close = true;
        group->timed = line->timed;
        group->waits = false;
        group->leader = i;
        group->pick = 1;
        group->cands = w->cands[i];
    }
    line->packets = 0;
    for (uint32_t g = from, n = front->n; g < n; g++)
        arrive(w, front, &front->group[g]);
}

/* The group's program has run. */
static void go_on(struct oko_worker *w, struct front *front, struct group *group,
                  struct oko_memo *memo)
{
    uint32_t yes = group->packets & memo->matched;
    if (front->sure && !group->timed)
        memo->counted |= group->packets;
    group->packets &= ~yes;
    if (group->close) {
        settle_on(w, front, group, yes, group->cands.rule[group->pick]);
        group->pick++;
    } else {
        for (; yes; yes &= yes - 1)
            settle_on(w, front, group, yes & -yes, w->cands[__builtin_ctz(yes)].rule[0]);
    }
    if (group->packets && group->close)
        arrive(w, front, group);
    else if (group->packets)
        part(w, front, group);
}

static bool list_names(const struct oko_cands *cands, uint32_t from, uint32_t slot)
{
    for (uint32_t i = from; i < cands->n; i++)
        if (cands->rule[i]->slot == slot)
            return true;
    return cands->more;
}

/* Can some packet that does not stand before this program still come to it? */
static bool others_reach(const struct oko_worker *w, const struct front *front, uint32_t slot)
{
    for (uint32_t g = 0; g < front->n; g++) {
        const struct group *group = &front->group[g];
        if (group->slot == slot)
            continue;
        if (group->packets && group->close && list_names(&group->cands, group->pick, slot))
            return true;
        for (uint32_t rest = group->close ? 0 : group->packets; rest; rest &= rest - 1)
            if (list_names(&w->cands[__builtin_ctz(rest)], 0, slot))
                return true;
    }
    return false;
}

/* May the program run on all who stand before it, and nobody can tell? */
static bool may_run(const struct oko_worker *w, const struct front *front, uint32_t slot,
                    const struct oko_prog *prog)
{
    return !prog->info.stateful ||
           (front->sure && !front->timed && !(w->view->flags & OKO_VIEW_RESTARTS) &&
            !oko_view_later(w->view, slot) && !others_reach(w, front, slot));
}

/* The group that is to go on next: that with the best candidate, so that those further down the
 * same list are caught up with, and run together. */
static const struct group *hindmost(const struct front *front)
{
    const struct group *next = NULL;
    for (uint32_t g = 0; g < front->n; g++) {
        const struct group *group = &front->group[g];
        if (group->packets && !group->waits && (!next || group->rank < next->rank))
            next = group;
    }
    return next;
}

void oko_filter_ahead(struct oko_worker *w, uint32_t todo)
{
    w->settled = 0;
    if (!(w->view->flags & OKO_VIEW_PROGS))
        return;
    struct front front;
    uint32_t last = 31 - (uint32_t)__builtin_clz(todo);
    front.sure = !(w->view->flags & OKO_VIEW_CHANGES) && w->deadline > w->pkts[last].meta.rx_ns;
    front.timed = false;
    front.n = 0;
    line_up(w, &front, todo);
    for (const struct group *next; (next = hindmost(&front));) {
        uint32_t slot = next->slot, packets = 0, n = front.n;
        struct oko_memo *memo = memo_of(w, slot);
        bool now = may_run(w, &front, slot, memo->prog);
        for (uint32_t g = 0; g < n; g++) {
            struct group *group = &front.group[g];
            group->waits = now ? false : group->waits || group->slot == slot;
            packets |= group->slot == slot ? group->packets : 0;
        }
        if (!now)
            continue;
        if (packets & ~memo->ran) {
            packets &= ~memo->ran;
            run(w, memo, packets);
            oko_count(&memo->prog->counters[w->index].batch_runs,
                      (uint32_t)__builtin_popcount(packets));
        }
        for (uint32_t g = 0; g < n; g++)
            if (front.group[g].packets && front.group[g].slot == slot)
                go_on(w, &front, &front.group[g], memo);
    }
}
