/* Deciding ahead of turn: what a burst's packets have in common is done for all of them at once.
 *
 * Acting is in arrival order, packet by packet (pipeline.c). But nothing is lost if programs that
 * only look have run before, and if packets have gone past flows that do nothing but `goto` - as
 * long as nothing that happens to a packet changes what those after it find. Then the burst is
 * *sure*, and what is decided ahead is settled. Otherwise verdicts are known, at least.
 *
 * Program by program: packets with the same candidates go on as a group, through lists of any
 * length, and groups that stand before the same program run it together: one call, one flow and one
 * memo for many packets. A stateful program runs only if nobody can tell (may_run()).
 *
 * Table by table: goto leads to higher tables only, so each table is visited once, with all packets
 * of the burst that come to it. Those whose keys are equal, as far as the table looks, share one
 * lookup. A flow is counted when its packet has got past it, so a packet may stop anywhere and go
 * on in turn from the flow it stands on: at a miss, at a program that has to wait.
 *
 * Left out: flows that change registers or metadata and then go on; they are executed in turn, with
 * all that follows them. */
#include "pipeline.h"

#include <string.h>

/* Packets whose decisions stand before the same program. Close ones have all candidates in common,
 * so they go on as one, however long the list: a program that says no costs little beside its run.
 */
struct group {
    uint32_t packets; /* 0: decided */
    uint16_t slot;    /* the program */
    bool close;
    bool timed;                   /* they have met a flow that may be over by now */
    bool waits;                   /* until other groups have gone on */
    uint32_t leader;              /* close: one that is, or was, of them */
    uint32_t pick;                /* close: the candidate that they stand before ... */
    struct oko_cands cands;       /* ... of these; others stand before their first */
    uint64_t rank;                /* of the candidate; of one of them */
    const struct oko_rule *first; /* not close: their first candidate, NULL if they differ */
};

/* Where the packets' decisions stand. */
struct front {
    bool sure;  /* nothing that happens to a packet changes what those after it find */
    bool timed; /* some packet has met a flow that may be over by now */
    uint32_t table;
    uint64_t to_visit[(OKO_N_TABLES + 63) / 64]; /* tables where packets stand */
    uint32_t n;
    struct group group[2 * OKO_BURST]; /* once in line, once more when they part */
};

/* With several workers another's clock may be behind, and a flow that is over for us still in the
 * table. With one, it is gone, or the burst is not sure. */
static bool may_be_over(const struct oko_worker *w, const struct oko_rule *rule)
{
    return OKO_LOAD(&rule->kind) & OKO_RULE_TIMED && w->dp->opts.n_workers > 1;
}

/* The packets get past the flows that sent them here, to this rule; those are counted. */
static void go_past(struct oko_worker *w, uint32_t packets, const struct oko_rule *rule)
{
    while (packets) {
        const struct oko_rule *from = w->chosen[__builtin_ctz(packets)];
        uint64_t n = 0, bytes = 0, ns = 0;
        for (uint32_t i; packets && w->chosen[i = (uint32_t)__builtin_ctz(packets)] == from;
             packets &= packets - 1) {
            n++;
            bytes += w->pkts[i].meta.wire_len;
            ns = w->pkts[i].meta.rx_ns;
            w->chosen[i] = rule;
        }
        oko_count_packets(w, from, n, bytes, ns);
    }
}

/* The packets take this rule, NULL: none. If that is not sure, verdicts are known at least. */
static void settle_on(struct oko_worker *w, struct front *front, bool timed, uint32_t packets,
                      const struct oko_rule *rule)
{
    if (!front->sure || timed || !packets)
        return;
    if (front->table) {
        if (!rule)
            return; /* they stay on the flow that sent them here */
        struct oko_table_counter *counter = &w->tables[front->table];
        oko_count(&counter->lookups, (uint32_t)__builtin_popcount(packets));
        oko_count(&counter->matches, (uint32_t)__builtin_popcount(packets));
        go_past(w, packets, rule);
    } else {
        w->settled |= packets;
        if (rule && !w->together && !(OKO_LOAD(&rule->kind) & OKO_RULE_GOTO)) {
            w->together = packets;
            w->common = rule;
            return;
        }
        for (uint32_t rest = packets; rest; rest &= rest - 1)
            w->chosen[__builtin_ctz(rest)] = rule;
    }
    if (rule && OKO_LOAD(&rule->kind) & OKO_RULE_GOTO && !w->traced) {
        w->standing[rule->out_port] |= packets;
        front->to_visit[rule->out_port / 64] |= 1ull << rule->out_port % 64;
    }
}

/* The candidate that a close group stands before; NULL: the list has ended. */
static const struct oko_rule *candidate(struct oko_worker *w, const struct front *front,
                                        struct group *group)
{
    if (group->pick == group->cands.n && group->cands.more) {
        oko_cls_lookup_more(&w->dp->tables[front->table], &w->keys[group->leader], w->view->version,
                            &group->cands);
        group->pick = 0;
    }
    return group->pick < group->cands.n ? group->cands.rule[group->pick] : NULL;
}

/* A close group has come to a candidate: to its program, or to a decision. */
static void arrive(struct oko_worker *w, struct front *front, struct group *group)
{
    const struct oko_rule *rule = candidate(w, front, group);
    if (rule && may_be_over(w, rule))
        group->timed = front->timed = true;
    if (rule && rule->slot) {
        group->slot = rule->slot;
        group->rank = rule->rank;
        return;
    }
    settle_on(w, front, group->timed, group->packets, rule);
    group->packets = 0;
}

/* Have both packets the same candidates, those beyond the lists included? */
static bool same_candidates(const struct oko_worker *w, uint32_t table, uint32_t i, uint32_t j)
{
    const struct oko_cands *a = &w->cands[i], *b = &w->cands[j];
    if (a->n != b->n || a->more != b->more)
        return false;
    for (uint32_t at = a->n; at-- > 0;) /* the last differ most often */
        if (a->rule[at] != b->rule[at])
            return false;
    return !a->more || oko_cls_same(&w->dp->tables[table], &w->keys[i], &w->keys[j]);
}

/* Packets with the same first candidate: they stand in line before its program, or it is theirs. */
static void line_up_before(struct oko_worker *w, struct front *front, uint32_t packets,
                           const struct oko_rule *rule)
{
    bool timed = may_be_over(w, rule);
    if (!rule->slot) {
        if (front->table || OKO_LOAD(&rule->kind) & OKO_RULE_GOTO) /* else in turn: it is simple */
            settle_on(w, front, timed, packets, rule);
        return;
    }
    struct group *group = front->group, *end = group + front->n;
    while (group < end && (group->slot != rule->slot || group->timed != timed || group->close))
        group++;
    if (group == end) {
        front->n++;
        front->timed |= timed;
        group->packets = 0;
        group->slot = rule->slot;
        group->close = group->waits = false;
        group->timed = timed;
        group->first = rule;
        group->rank = rule->rank;
    }
    group->packets |= packets;
    if (group->first != rule)
        group->first = NULL;
}

/* Groups packets by the program of their first candidate; settles those without. */
static void line_up(struct oko_worker *w, struct front *front, uint32_t todo)
{
    while (todo) {
        const struct oko_cands *cands = &w->cands[__builtin_ctz(todo)];
        const struct oko_rule *rule = cands->n ? cands->rule[0] : NULL;
        uint32_t packets = 0;
        do {
            packets |= todo & -todo;
            todo &= todo - 1;
            cands = &w->cands[todo ? __builtin_ctz(todo) : 0];
        } while (todo && cands->n && cands->rule[0] == rule);
        if (rule)
            line_up_before(w, front, packets, rule);
    }
}

/* Those to whom the first program said no go on in close groups. */
static void part(struct oko_worker *w, struct front *front, struct group *line)
{
    uint32_t from = front->n;
    for (uint32_t rest = line->packets; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest), g = front->n;
        uint32_t last = g - from < 4 ? from : g - 4; /* not to find the right one costs only time */
        while (g > last && !same_candidates(w, front->table, front->group[g - 1].leader, i))
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
        settle_on(w, front, group->timed, yes, group->cands.rule[group->pick]);
        group->pick++;
    } else if (group->first) {
        settle_on(w, front, group->timed, yes, group->first);
    } else {
        for (; yes; yes &= yes - 1)
            settle_on(w, front, group->timed, yes & -yes, w->cands[__builtin_ctz(yes)].rule[0]);
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

/* Runs the programs that the groups stand before, until none is left that may run. */
static void ask(struct oko_worker *w, struct front *front)
{
    for (const struct group *next; (next = hindmost(front));) {
        uint32_t slot = next->slot, packets = 0, n = front->n;
        struct oko_memo *memo = oko_memo_of(w, slot);
        bool now = may_run(w, front, slot, memo->prog);
        for (uint32_t g = 0; g < n; g++) {
            struct group *group = &front->group[g];
            group->waits = now ? false : group->waits || group->slot == slot;
            packets |= group->slot == slot ? group->packets : 0;
        }
        if (!now)
            continue;
        if (packets & ~memo->ran) {
            packets &= ~memo->ran;
            oko_filter_run(w, memo, packets);
            oko_count(&memo->prog->counters[w->index].batch_runs,
                      (uint32_t)__builtin_popcount(packets));
        }
        for (uint32_t g = 0; g < n; g++)
            if (front->group[g].packets && front->group[g].slot == slot)
                go_on(w, front, &front->group[g], memo);
    }
}

/* Packets that share the first one's candidates set out as a close group. */
static void set_out(struct oko_worker *w, struct front *front, uint32_t packets)
{
    struct group *group = &front->group[front->n++];
    group->packets = packets;
    group->close = true;
    group->timed = group->waits = false;
    group->leader = (uint32_t)__builtin_ctz(packets);
    group->pick = 0;
    group->cands = w->cands[group->leader];
    arrive(w, front, group);
}

/* Packets with the first one's key, as far as the table looks: one lookup for all of them. Returns
 * the others. */
static uint32_t share(struct oko_worker *w, struct front *front, uint32_t todo)
{
    const struct oko_cls *cls = &w->dp->tables[front->table];
    uint32_t leader = (uint32_t)__builtin_ctz(todo);
    uint32_t same = oko_cls_like_first(cls, w->keys, todo);
    if (same == 1u << leader && same != todo)
        return todo;
    oko_lookup(w, front->table, &w->keys[leader], &w->cands[leader]);
    set_out(w, front, same);
    return todo & ~same;
}

/* Packets of table 0 that are to be decided in turn get lists of their own. */
static void hand_out(struct oko_worker *w)
{
    const struct oko_cands *first = &w->cands[w->alike ? __builtin_ctz(w->alike) : 0];
    if (!(w->alike & ~w->settled & ~w->together) && !w->traced)
        return;
    for (uint32_t rest = w->alike & (w->alike - 1); rest; rest &= rest - 1) {
        struct oko_cands *to = &w->cands[__builtin_ctz(rest)];
        to->n = first->n;
        to->more = first->more;
        for (uint32_t i = 0; i < first->n; i++)
            to->rule[i] = first->rule[i];
    }
}

void oko_decide_ahead(struct oko_worker *w, uint32_t todo)
{
    w->settled = w->together = 0;
    w->traced = OKO_LOAD(&w->dp->trace.state) == 1;
    if (!(w->view->flags & (OKO_VIEW_PROGS | OKO_VIEW_GOTOS))) {
        const struct oko_cands *cands = &w->cands[w->alike ? __builtin_ctz(w->alike) : 0];
        if (w->alike && oko_is_certain(cands)) {
            w->together = w->alike;
            w->common = cands->rule[0];
        }
        hand_out(w);
        return;
    }
    struct front front;
    uint32_t last = 31 - (uint32_t)__builtin_clz(todo);
    front.sure = !(w->view->flags & OKO_VIEW_CHANGES) && w->deadline > w->pkts[last].meta.rx_ns;
    front.timed = false;
    front.n = 0;
    front.table = 0;
    memset(front.to_visit, 0, sizeof front.to_visit);
    if (w->alike)
        set_out(w, &front, w->alike);
    line_up(w, &front, todo & ~w->alike);
    ask(w, &front);
    hand_out(w); /* before their first is looked up again */
    for (uint32_t word = 0; word < sizeof front.to_visit / sizeof front.to_visit[0]; word++)
        while (front.to_visit[word]) {
            uint32_t table = 64 * word + (uint32_t)__builtin_ctzll(front.to_visit[word]);
            front.to_visit[word] &= front.to_visit[word] - 1;
            front.table = table;
            front.n = 0;
            uint32_t here = w->standing[table];
            w->standing[table] = 0;
            uint32_t rest = share(w, &front, here);
            if (rest) {
                uint32_t alike = oko_lookup_burst(w, table, rest);
                if (alike)
                    set_out(w, &front, alike);
                line_up(w, &front, rest & ~alike);
            }
            ask(w, &front);
        }
}
