/* Commits; see commit.h. */
#include "commit.h"

#include <stdlib.h>
#include <string.h>

enum step_kind { SHOWN, HIDDEN, SET, PROG };

struct oko_commit_step {
    enum step_kind kind;
    struct oko_rule *rule;         /* SHOWN, HIDDEN */
    const struct oko_set **set;    /* SET: which of the commit's */
    const struct oko_set *was;     /* SET: its value before */
    const struct oko_progs *progs; /* PROG: value before */
    void *old, *new;               /* SET, PROG: object that goes, that comes */
    uint32_t change;               /* as in struct oko_commit */
    void (*drop)(struct oko_gc_queue *, struct oko_gc *);
};

void oko_commit_begin(struct oko_dp *dp, uint64_t now_ns, uint32_t worker, struct oko_commit *c)
{
    const struct oko_view *view = dp->view;
    oko_gc_poll(&dp->gc);
    *c = (struct oko_commit){.dp = dp,
                             .version = view->version + 1,
                             .now_ns = now_ns,
                             .worker = worker,
                             .change = UINT32_MAX,
                             .progs = view->progs,
                             .ports = view->ports,
                             .groups = view->groups,
                             .meters = view->meters};
}

static struct oko_commit_step *new_step(struct oko_commit *c)
{
    if (c->n_steps == c->steps_cap) {
        uint32_t cap = c->steps_cap ? 2 * c->steps_cap : 8;
        struct oko_commit_step *steps = realloc(c->steps, cap * sizeof *steps);
        if (!steps)
            return NULL;
        c->steps = steps;
        c->steps_cap = cap;
    }
    struct oko_commit_step *step = &c->steps[c->n_steps];
    memset(step, 0, sizeof *step);
    step->change = c->change;
    return step;
}

/* ---------------------------------------------------------------- the change log */

/* Notes a rule's match; too many, or no memory: everything counts as changed. */
static void note_change(struct oko_commit *c, const struct oko_rule *rule)
{
    const struct oko_subtable *st = rule->subtable;
    if (c->n_changes > OKO_LOG_CHANGES || ++c->n_changes > OKO_LOG_CHANGES)
        return;
    uint32_t need = c->changes_len + 1 + 3 * st->n_words;
    if (need > c->changes_cap) {
        uint32_t cap = 2 * need;
        uint64_t *changes = realloc(c->changes, cap * sizeof *changes);
        if (!changes) {
            c->n_changes = OKO_LOG_CHANGES + 1;
            return;
        }
        c->changes = changes;
        c->changes_cap = cap;
    }
    uint64_t *at = c->changes + c->changes_len;
    *at++ = (uint64_t)rule->table << 32 | st->n_words;
    for (uint32_t i = 0; i < st->n_words; i++) {
        *at++ = st->word[i];
        *at++ = st->mask[i] & ~oko_conj_bits(st->word[i]); /* of packets that it may concern */
        *at++ = rule->key[i];
    }
    c->changes_len = need;
}

/* ---------------------------------------------------------------- bookkeeping of visible rules */

static bool count_teacher(const struct oko_op_head *op, void *ctx)
{
    struct oko_learn learn;
    if (op->op != OKO_OP_LEARN)
        return false;
    memcpy(&learn, oko_op_payload(op), sizeof learn);
    if (!(learn.flags & OKO_LEARN_DELETE_LEARNED))
        return false;
    struct oko_dp *dp = ctx;
    for (struct oko_teacher *t = dp->teachers; t; t = t->next)
        if (t->cookie == learn.cookie && t->table == op->arg) {
            t->n++;
            return false;
        }
    struct oko_teacher *t = malloc(sizeof *t);
    if (t) { /* without memory the learned flows stay */
        *t = (struct oko_teacher){dp->teachers, learn.cookie, op->arg, 1};
        dp->teachers = t;
    }
    return false;
}

static bool uncount_teacher(const struct oko_op_head *op, void *ctx)
{
    struct oko_learn learn;
    if (op->op != OKO_OP_LEARN)
        return false;
    memcpy(&learn, oko_op_payload(op), sizeof learn);
    for (struct oko_teacher *t = ((struct oko_dp *)ctx)->teachers; t; t = t->next)
        if (learn.flags & OKO_LEARN_DELETE_LEARNED && t->cookie == learn.cookie &&
            t->table == op->arg && t->n)
            t->n--;
    return false;
}

static int reserve_flow(struct oko_dp *dp)
{
    if (dp->n_free || dp->flows_end < dp->flows_cap)
        return 0;
    uint32_t cap = dp->flows_cap ? 2 * dp->flows_cap : 64;
    struct oko_rule **flows = realloc(dp->flows, cap * sizeof *flows);
    if (!flows)
        return OKO_E_NOMEM;
    dp->flows = flows;
    uint32_t *free_index = realloc(dp->free_index, cap * sizeof *free_index);
    if (!free_index)
        return OKO_E_NOMEM;
    dp->free_index = free_index;
    if (oko_heap_reserve(dp, cap))
        return OKO_E_NOMEM;
    dp->flows_cap = cap;
    return 0;
}

static void count_in(struct oko_dp *dp, struct oko_rule *rule)
{
    rule->index = dp->n_free ? dp->free_index[--dp->n_free] : dp->flows_end++;
    dp->flows[rule->index] = rule;
    dp->n_flows++;
    dp->table[rule->table].n_flows++;
    dp->n_layers[rule->layers]++;
    dp->n_changes += !!(rule->ops_flags & OKO_OPS_CHANGES);
    dp->n_restarts += !!(rule->ops_flags & OKO_OPS_RESTART);
    dp->n_filters += rule->slot != 0;
    dp->n_gotos += !!(rule->ops_flags & OKO_OPS_GOTO);
    dp->slots[rule->slot].n_flows++;
    dp->slots[rule->slot].n_later += rule->table != 0;
    if (rule->ops_flags & OKO_OPS_FORGETS)
        oko_ops_walk(rule->ops, rule->ops_len, count_teacher, dp);
    if (rule->kind & OKO_RULE_TIMED)
        oko_heap_add(dp, rule);
}

static void count_out(struct oko_dp *dp, struct oko_rule *rule)
{
    dp->flows[rule->index] = NULL;
    dp->free_index[dp->n_free++] = rule->index;
    dp->n_flows--;
    dp->table[rule->table].n_flows--;
    dp->n_layers[rule->layers]--;
    dp->n_changes -= !!(rule->ops_flags & OKO_OPS_CHANGES);
    dp->n_restarts -= !!(rule->ops_flags & OKO_OPS_RESTART);
    dp->n_filters -= rule->slot != 0;
    dp->n_gotos -= !!(rule->ops_flags & OKO_OPS_GOTO);
    dp->slots[rule->slot].n_flows--;
    dp->slots[rule->slot].n_later -= rule->table != 0;
    if (rule->ops_flags & OKO_OPS_FORGETS)
        oko_ops_walk(rule->ops, rule->ops_len, uncount_teacher, dp);
    oko_heap_remove(dp, rule);
}

/* ---------------------------------------------------------------- steps */

int oko_commit_show(struct oko_commit *c, struct oko_rule *rule, const struct oko_key *mask)
{
    struct oko_commit_step *step = new_step(c);
    rule->add_version = c->version;
    if (!step || reserve_flow(c->dp) || oko_cls_insert(&c->dp->tables[rule->table], rule, mask)) {
        oko_rule_free(rule); /* nobody has seen it */
        return OKO_E_NOMEM;
    }
    step->kind = SHOWN;
    step->rule = rule;
    c->n_steps++;
    count_in(c->dp, rule);
    note_change(c, rule);
    return 0;
}

int oko_commit_hide(struct oko_commit *c, struct oko_rule *rule, uint32_t reason, uint64_t at_ns)
{
    struct oko_commit_step *step = new_step(c);
    if (!step)
        return OKO_E_NOMEM;
    step->kind = HIDDEN;
    step->rule = rule;
    c->n_steps++;
    OKO_STORE(&rule->remove_version, c->version);
    rule->announce = reason != OKO_SILENT && rule->flags & (OKO_FLOW_SEND_FLOW_REM | OKO_FLOW_TELL);
    rule->reason = reason & 7;
    rule->removed_ns = at_ns;
    count_out(c->dp, rule);
    note_change(c, rule);
    return 0;
}

/* Views count groups like rules: how deep they look, whether they restart. */
static void count_group(struct oko_dp *dp, const struct oko_group *group, bool in)
{
    uint32_t one = in ? 1 : UINT32_MAX;
    dp->n_layers[group->layers & 3] += one;
    if (group->ops_flags & OKO_OPS_RESTART)
        dp->n_restarts += one;
}

int oko_commit_set(struct oko_commit *c, const struct oko_set **set, uint32_t id, void *object,
                   void (*drop)(struct oko_gc_queue *, struct oko_gc *))
{
    struct oko_commit_step *step = new_step(c);
    struct oko_set *next = step ? oko_set_with(*set, id, object) : NULL;
    if (!next)
        return OKO_E_NOMEM;
    step->kind = SET;
    step->set = set;
    step->was = *set;
    step->old = oko_set_find(*set, id);
    step->new = object;
    step->drop = drop;
    c->n_steps++;
    *set = next;
    if (set == &c->groups && step->old)
        count_group(c->dp, step->old, false);
    if (set == &c->groups && object)
        count_group(c->dp, object, true);
    return 0;
}

int oko_commit_prog(struct oko_commit *c, uint32_t slot, struct oko_prog *prog)
{
    struct oko_commit_step *step = new_step(c);
    uint32_t n = slot < c->progs->n ? c->progs->n : slot + 1;
    struct oko_progs *next = step ? calloc(1, sizeof *next + n * sizeof next->slot[0]) : NULL;
    if (!next)
        return OKO_E_NOMEM;
    next->n = n;
    memcpy(next->slot, c->progs->slot, c->progs->n * sizeof next->slot[0]);
    step->kind = PROG;
    step->progs = c->progs;
    step->old = next->slot[slot];
    step->new = prog;
    c->n_steps++;
    next->slot[slot] = prog;
    c->progs = next;
    return 0;
}

static int forget(struct oko_commit *c, const struct oko_teacher *teacher)
{
    struct oko_dp *dp = c->dp;
    for (uint32_t i = 0; i < dp->flows_end; i++) {
        struct oko_rule *rule = dp->flows[i];
        if (!rule || rule->table != teacher->table || rule->cookie != teacher->cookie)
            continue;
        int rc = oko_commit_hide(c, rule, OKO_REMOVED_DELETE, c->now_ns);
        if (rc)
            return rc;
    }
    return 0;
}

int oko_commit_forget(struct oko_commit *c)
{
    struct oko_dp *dp = c->dp;
    for (struct oko_teacher **at = &dp->teachers; *at;) {
        struct oko_teacher *teacher = *at;
        if (teacher->n) {
            at = &teacher->next;
            continue;
        }
        int rc = forget(c, teacher);
        if (rc)
            return rc;
        *at = teacher->next;
        free(teacher);
        at = &dp->teachers; /* what went may have taught, too */
    }
    return 0;
}

/* ---------------------------------------------------------------- ends */

static void free_rule(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    (void)queue;
    oko_rule_free((struct oko_rule *)gc);
}

/* One grace period after a rule became invisible: counters are final, nobody looks for it. */
static void unlink_rule(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    struct oko_rule *rule = (struct oko_rule *)gc;
    struct oko_dp *dp = queue->owner;
    if (rule->announce)
        oko_event_flow(dp, rule, OKO_EVENT_FLOW_REMOVED, rule->reason, rule->removed_ns, 0);
    oko_cls_unlink(&dp->tables[rule->table], rule);
    oko_gc_add(queue, gc, oko_qsbr_start(queue->qsbr), free_rule);
}

static void free_prog(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    (void)queue;
    struct oko_progs *progs = (struct oko_progs *)gc;
    if (progs->slot[0]) /* put there by retire() */
        oko_prog_unref(progs->slot[0]);
    free(progs);
}

static void end(struct oko_commit *c)
{
    free(c->steps);
    free(c->changes);
    free(c->victims);
    c->victims = NULL;
    c->steps = NULL;
    c->changes = NULL;
    c->n_steps = c->n_changes = c->changes_len = 0;
}

void oko_commit_rollback(struct oko_commit *c)
{
    struct oko_dp *dp = c->dp;
    while (c->n_steps) {
        struct oko_commit_step *step = &c->steps[--c->n_steps];
        switch (step->kind) {
        case SHOWN:
            count_out(dp, step->rule);
            oko_cls_unlink(&dp->tables[step->rule->table], step->rule);
            oko_gc_add(&dp->gc, &step->rule->gc, oko_qsbr_start(dp->qsbr), free_rule);
            break;
        case HIDDEN:
            OKO_STORE(&step->rule->remove_version, OKO_NEVER);
            step->rule->announce = 0;
            count_in(dp, step->rule);
            break;
        case SET:
            if (step->set == &c->groups && step->new)
                count_group(dp, step->new, false);
            if (step->set == &c->groups && step->old)
                count_group(dp, step->old, true);
            free((void *)(uintptr_t)*step->set);
            *step->set = step->was;
            if (step->new)
                step->drop(&dp->gc, step->new);
            break;
        case PROG:
            free((void *)(uintptr_t)c->progs);
            c->progs = step->progs;
            break;
        }
    }
    end(c);
}

static struct oko_view *make_view(const struct oko_commit *c)
{
    struct oko_dp *dp = c->dp;
    uint32_t n = c->progs->n, n_later = n / 64 + 1;
    struct oko_view *view = calloc(1, sizeof *view + n_later * sizeof view->later[0]);
    if (!view)
        return NULL;
    view->version = c->version;
    view->progs = c->progs;
    view->ports = c->ports;
    view->groups = c->groups;
    view->meters = c->meters;
    for (int layer = OKO_LAYER_L4; layer > OKO_LAYER_PORT && !view->layers; layer--)
        if (dp->n_layers[layer])
            view->layers = (enum oko_layers)layer;
    view->flags = (dp->n_changes ? OKO_VIEW_CHANGES : 0) |
                  (dp->n_restarts ? OKO_VIEW_RESTARTS : 0) | (dp->n_filters ? OKO_VIEW_PROGS : 0) |
                  (dp->n_gotos ? OKO_VIEW_GOTOS : 0);
    for (uint32_t slot = 1; slot < n; slot++)
        if (dp->slots[slot].n_later)
            view->later[slot / 64] |= 1ull << slot % 64;
    return view;
}

static struct oko_changes *make_changes(const struct oko_commit *c)
{
    bool all = c->n_changes > OKO_LOG_CHANGES;
    uint32_t n = all ? 0 : c->changes_len;
    struct oko_changes *changes = malloc(sizeof *changes + n * sizeof changes->data[0]);
    if (!changes)
        return NULL;
    changes->version = c->version;
    changes->all = all;
    changes->n = n;
    if (n)
        memcpy(changes->data, c->changes, n * sizeof changes->data[0]);
    return changes;
}

/* After publication: hands over what is gone. A set or an array that only lived within this commit
 * was never seen. */
static void retire(struct oko_commit *c, const struct oko_view *old)
{
    struct oko_dp *dp = c->dp;
    for (uint32_t i = 0; i < c->n_steps; i++) {
        const struct oko_commit_step *step = &c->steps[i];
        if (step->kind == SET) {
            bool seen =
                step->was == old->ports || step->was == old->groups || step->was == old->meters;
            if (seen)
                oko_gc_free(&dp->gc, (void *)(uintptr_t)step->was);
            else
                free((void *)(uintptr_t)step->was);
            if (step->old)
                oko_gc_add(&dp->gc, step->old, oko_qsbr_start(dp->qsbr), step->drop);
        }
        if (step->kind == PROG) {
            /* The array that goes takes the program's reference along, in slot 0. Slots other than
             * 0 are the same for readers who still have it. */
            struct oko_progs *was = (struct oko_progs *)(uintptr_t)step->progs;
            was->slot[0] = step->old;
            oko_gc_add(&dp->gc, &was->gc, oko_qsbr_start(dp->qsbr), free_prog);
        }
    }
    uint64_t epoch = oko_qsbr_start(dp->qsbr);
    bool quiet = oko_qsbr_passed_but(dp->qsbr, epoch, c->worker);
    for (uint32_t i = 0; i < c->n_steps; i++) {
        struct oko_rule *rule = c->steps[i].rule;
        if (c->steps[i].kind != HIDDEN)
            continue;
        if (rule->announce && quiet) { /* counters are final already */
            oko_event_flow(dp, rule, OKO_EVENT_FLOW_REMOVED, rule->reason, rule->removed_ns, 0);
            rule->announce = 0;
        }
        oko_gc_add(&dp->gc, &rule->gc, epoch, unlink_rule);
    }
    oko_gc_free(&dp->gc, (void *)(uintptr_t)old);
}

static void tell_watchers(const struct oko_commit *c)
{
    for (uint32_t i = 0; i < c->n_steps; i++) {
        const struct oko_commit_step *step = &c->steps[i];
        uint32_t kind = OKO_FLOW_GONE;
        if (step->kind == SHOWN)
            kind = step->rule->modified ? OKO_FLOW_MODIFIED : OKO_FLOW_ADDED;
        else if (step->kind != HIDDEN)
            continue;
        else if (step->rule->reason == OKO_SILENT)
            kind = OKO_FLOW_REPLACED;
        oko_watch_rule(c->dp, step->rule, kind, step->change);
    }
}

int oko_commit_publish(struct oko_commit *c)
{
    struct oko_dp *dp = c->dp;
    if (oko_commit_forget(c)) {
        oko_commit_rollback(c);
        return OKO_E_NOMEM;
    }
    struct oko_view *view = make_view(c), *old = dp->view;
    struct oko_changes *changes = make_changes(c);
    if (!view || !changes) {
        free(view);
        free(changes);
        oko_commit_rollback(c);
        return OKO_E_NOMEM;
    }
    struct oko_changes **logged = &dp->log.at[c->version % OKO_LOG], *forgotten = *logged;
    OKO_STORE_RELEASE(logged, changes);
    OKO_STORE_RELEASE(&dp->view, view);
    if (dp->watch.on)
        tell_watchers(c);
    oko_gc_free(&dp->gc, forgotten);
    retire(c, old);
    dp->n_commits++;
    end(c);
    oko_gc_poll(&dp->gc);
    return 0;
}
