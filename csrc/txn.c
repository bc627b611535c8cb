/* Transactions: a list of changes, checked for form when they are added, carried out at commit.
 *
 * What needs no look at the tables (parsing matches, checking instructions, copying) happens before
 * the mutex is taken, so a commit holds it only for its own insertions and removals. */
#include "commit.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

enum change_kind { FLOW, GROUP, METER, PACKET_OUT };

#define ALL_TABLES 255u
#define ANY        0xffffffffu
#define ALL_GROUPS 0xfffffffcu
#define ALL_METERS 0xffffffffu
#define SECOND     1000000000u

struct change {
    struct change *next;
    enum change_kind kind;
    uint32_t command; /* groups and meters */
    uint32_t id;
    struct oko_flow_mod mod;
    struct oko_match match;
    struct oko_ops_facts facts;
    struct oko_group *group; /* to add; NULL once it is in the tables */
    struct oko_meter *meter;
    uint32_t ops_len;            /* PACKET_OUT */
    _Alignas(8) uint8_t bytes[]; /* the mod's fields, then its ops; PACKET_OUT: actions */
};

struct oko_txn {
    struct oko_dp *dp;
    struct change *first, **end;
};

/* ---------------------------------------------------------------- recording */

int oko_dp_begin(struct oko_dp *dp, struct oko_txn **out)
{
    struct oko_txn *txn = calloc(1, sizeof *txn);
    if (!txn)
        return OKO_E_NOMEM;
    txn->dp = dp;
    txn->end = &txn->first;
    *out = txn;
    return 0;
}

static void clear(struct oko_txn *txn)
{
    for (struct change *change = txn->first, *next; change; change = next) {
        next = change->next;
        oko_group_free(change->group);
        free(change->meter);
        free(change);
    }
    txn->first = NULL;
    txn->end = &txn->first;
}

void oko_txn_free(struct oko_txn *txn)
{
    if (!txn)
        return;
    clear(txn);
    free(txn);
}

static void append(struct oko_txn *txn, struct change *change)
{
    *txn->end = change;
    txn->end = &change->next;
}

static int check_flow(const struct oko_flow_mod *mod, struct oko_error *error)
{
    const struct oko_flow_spec *spec = &mod->spec;
    if (mod->command > OKO_FLOW_DELETE_STRICT)
        return oko_err(error, OKO_E_INVAL, "flow: there is no command %u", mod->command);
    bool all = mod->command != OKO_FLOW_ADD && spec->table == ALL_TABLES;
    if (spec->table >= OKO_N_TABLES && !all)
        return oko_err(error, OKO_E_INVAL, "flow: table %u is not in 0..253", spec->table);
    if (spec->n_match > OKO_N_FIELDS)
        return oko_err(error, OKO_E_INVAL, "flow: %u fields to match, there are only %u",
                       spec->n_match, OKO_N_FIELDS);
    if (spec->ops_len > 0x100000)
        return oko_err(error, OKO_E_LIMIT, "flow: %u bytes of instructions", spec->ops_len);
    if (spec->importance > 65535)
        return oko_err(error, OKO_E_INVAL, "flow: importance %u is not in 0..65535",
                       spec->importance);
    if (spec->filter_prog > 65535)
        return oko_err(error, OKO_E_INVAL, "flow: there is no program number %u",
                       spec->filter_prog);
    return 0;
}

int oko_txn_flow(struct oko_txn *txn, const struct oko_flow_mod *mod, struct oko_error *error)
{
    int rc = check_flow(mod, error);
    if (rc)
        return rc;
    const struct oko_flow_spec *spec = &mod->spec;
    bool is_delete = mod->command == OKO_FLOW_DELETE || mod->command == OKO_FLOW_DELETE_STRICT;
    uint32_t ops_len = is_delete ? 0 : spec->ops_len;
    size_t match_size = spec->n_match * sizeof spec->match[0];
    struct change *change = calloc(1, sizeof *change + match_size + ops_len);
    if (!change)
        return oko_err(error, OKO_E_NOMEM, "flow: out of memory");
    change->kind = FLOW;
    change->mod = *mod;
    if (match_size)
        memcpy(change->bytes, spec->match, match_size);
    if (ops_len)
        memcpy(change->bytes + match_size, spec->ops, ops_len);
    change->mod.spec.match = (const struct oko_match_field *)(const void *)change->bytes;
    change->mod.spec.ops = change->bytes + match_size;
    change->mod.spec.ops_len = ops_len;
    rc = oko_match_from(&change->match, change->mod.spec.match, spec->n_match, error);
    if (!rc)
        rc = oko_ops_check(change->mod.spec.ops, ops_len, OKO_OPS_INSTRUCTIONS,
                           spec->table == ALL_TABLES ? 0 : spec->table, &change->facts, error);
    if (rc) {
        free(change);
        return rc;
    }
    append(txn, change);
    return 0;
}

int oko_txn_flows(struct oko_txn *txn, const uint8_t *records, uint64_t size, uint32_t *n,
                  struct oko_error *error)
{
    struct oko_flow_mod mod;
    *n = 0;
    for (uint64_t at = 0; at < size; ++*n) {
        if (size - at < sizeof mod)
            return oko_err(error, OKO_E_INVAL, "flow: the record is cut off");
        memcpy(&mod, records + at, sizeof mod);
        at += sizeof mod;
        uint64_t match_size = (uint64_t)mod.spec.n_match * sizeof mod.spec.match[0];
        if (match_size > size - at || mod.spec.ops_len > size - at - match_size)
            return oko_err(error, OKO_E_INVAL, "flow: the record is cut off");
        mod.spec.match = (const struct oko_match_field *)(const void *)(records + at);
        mod.spec.ops = records + at + match_size;
        at += match_size + mod.spec.ops_len;
        int rc = oko_txn_flow(txn, &mod, error);
        if (rc)
            return rc;
    }
    return 0;
}

static struct change *new_object(enum change_kind kind, uint32_t command, uint32_t id)
{
    struct change *change = calloc(1, sizeof *change);
    if (change) {
        change->kind = kind;
        change->command = command;
        change->id = id;
    }
    return change;
}

int oko_txn_group(struct oko_txn *txn, uint32_t command, const struct oko_group_spec *spec,
                  struct oko_error *error)
{
    if (command > OKO_OBJECT_DELETE)
        return oko_err(error, OKO_E_INVAL, "group: there is no command %u", command);
    struct change *change = new_object(GROUP, command, spec->id);
    if (!change)
        return oko_err(error, OKO_E_NOMEM, "group: out of memory");
    if (command != OKO_OBJECT_DELETE) {
        int rc = oko_group_new(spec, txn->dp->opts.n_workers, &change->group, error);
        if (rc) {
            free(change);
            return rc;
        }
    }
    append(txn, change);
    return 0;
}

int oko_txn_meter(struct oko_txn *txn, uint32_t command, const struct oko_meter_spec *spec,
                  struct oko_error *error)
{
    if (command > OKO_OBJECT_DELETE)
        return oko_err(error, OKO_E_INVAL, "meter: there is no command %u", command);
    struct change *change = new_object(METER, command, spec->id);
    if (!change)
        return oko_err(error, OKO_E_NOMEM, "meter: out of memory");
    if (command != OKO_OBJECT_DELETE) {
        int rc = oko_meter_new(spec, &change->meter, error);
        if (rc) {
            free(change);
            return rc;
        }
    }
    append(txn, change);
    return 0;
}

int oko_txn_packet_out(struct oko_txn *txn, const uint8_t *ops, uint32_t ops_len,
                       struct oko_error *error)
{
    if (ops_len > 0x100000)
        return oko_err(error, OKO_E_LIMIT, "packet-out: %u bytes of actions", ops_len);
    struct change *change = calloc(1, sizeof *change + ops_len);
    if (!change)
        return oko_err(error, OKO_E_NOMEM, "packet-out: out of memory");
    change->kind = PACKET_OUT;
    change->ops_len = ops_len;
    if (ops_len)
        memcpy(change->bytes, ops, ops_len);
    int rc = oko_ops_check(change->bytes, ops_len, OKO_OPS_ACTIONS, 0, &change->facts, error);
    if (rc) {
        free(change);
        return rc;
    }
    append(txn, change);
    return 0;
}

/* ---------------------------------------------------------------- flows */

struct lookup_refs {
    struct oko_commit *commit;
    uint32_t group, meter; /* looked for; ANY: every one must exist */
    struct oko_error *error;
};

static bool missing(const struct oko_op_head *op, void *ctx)
{
    struct lookup_refs *refs = ctx;
    if (op->op == OKO_OP_GROUP && !oko_set_find(refs->commit->groups, op->arg)) {
        oko_err(refs->error, OKO_E_NOTFOUND, "flow: there is no group %u", op->arg);
        return true;
    }
    if (op->op == OKO_OP_METER && !oko_set_find(refs->commit->meters, op->arg)) {
        oko_err(refs->error, OKO_E_NOTFOUND, "flow: there is no meter %u", op->arg);
        return true;
    }
    return false;
}

static int check_refs(struct oko_commit *c, const struct oko_flow_spec *spec,
                      const struct oko_ops_facts *facts, struct oko_error *error)
{
    struct lookup_refs refs = {.commit = c, .error = error};
    if (facts->flags & OKO_OPS_REFERS && oko_ops_walk(spec->ops, spec->ops_len, missing, &refs))
        return OKO_E_NOTFOUND;
    return 0;
}

/* Whether a conjunction is complete depends on headers only. */
static int check_soft(const struct oko_ops_facts *facts, uint32_t slot, struct oko_error *error)
{
    if (facts->flags & OKO_OPS_SOFT && slot)
        return oko_err(
            error, OKO_E_INVAL,
            "flow: a flow with conjunction cannot have a filter program; put it into the "
            "flow that matches conj_id");
    return 0;
}

static int no_memory(struct oko_error *error)
{
    return oko_err(error, OKO_E_NOMEM, "flow: out of memory");
}

static int make_room(struct oko_commit *c, const struct oko_flow_spec *spec,
                     struct oko_error *error)
{
    struct oko_dp *dp = c->dp;
    const struct oko_table *table = &dp->table[spec->table];
    if (table->n_flows < table->max_flows && dp->n_flows < dp->opts.max_flows)
        return 0;
    int rc = table->evict ? oko_commit_evict(c, spec->table, spec->importance) : OKO_E_LIMIT;
    if (rc == OKO_E_LIMIT && table->n_flows >= table->max_flows)
        return oko_err(error, rc, "flow: table %u has %u already", spec->table, table->n_flows);
    if (rc == OKO_E_LIMIT)
        return oko_err(error, rc, "flow: there are %u already", dp->n_flows);
    return rc ? no_memory(error) : 0;
}

static int add_flow(struct oko_commit *c, const struct oko_flow_mod *mod,
                    const struct oko_match *match, const struct oko_ops_facts *facts, uint32_t slot,
                    bool learned, struct oko_error *error)
{
    struct oko_dp *dp = c->dp;
    const struct oko_flow_spec *spec = &mod->spec;
    struct oko_cls *cls = &dp->tables[spec->table];
    if (spec->flags & OKO_FLOW_CHECK_OVERLAP &&
        oko_cls_overlaps(cls, match, spec->priority, c->version))
        return oko_err(error, OKO_E_EXISTS, "flow: overlaps another of priority %u",
                       spec->priority);
    int rc = check_soft(facts, slot, error);
    if (!rc)
        rc = check_refs(c, spec, facts, error);
    if (rc)
        return rc;
    struct oko_rule *old = oko_cls_find(cls, match, spec->priority, slot, c->version);
    rc = old ? 0 : make_room(c, spec, error);
    if (rc)
        return rc;
    struct oko_flow_stats *stats = NULL;
    if (old && !(spec->flags & OKO_FLOW_RESET_COUNTS)) {
        stats = old->stats;
        stats->refs++;
    }
    struct oko_rule *rule;
    if (oko_rule_new(spec, match, facts, slot, dp->opts.n_workers, stats, &rule)) {
        oko_flow_stats_unref(stats);
        return no_memory(error);
    }
    rule->learned = learned;
    rule->created_ns = rule->modified_ns = c->now_ns;
    if (mod->age_ns && mod->age_ns < c->now_ns) {
        rule->created_ns = rule->modified_ns = c->now_ns - mod->age_ns;
        uint64_t idle = mod->idle_ns < mod->age_ns ? mod->idle_ns : mod->age_ns;
        oko_flow_count(rule->stats, 0, rule->stats->n_workers, 0, 0, c->now_ns - idle);
    }
    if (old) {
        rule->rank = old->rank;
        rule->id = old->id;
        if (oko_commit_hide(c, old, OKO_SILENT, c->now_ns)) {
            oko_rule_free(rule);
            return no_memory(error);
        }
    } else {
        rule->id = ++dp->next_id;
        rule->rank = oko_rank(spec->priority, slot != 0, ++dp->next_sequence);
    }
    return oko_commit_show(c, rule, &match->mask) ? no_memory(error) : 0;
}

/* What a modify or delete does to each flow that it covers. */
struct covering {
    struct oko_commit *commit;
    const struct oko_flow_mod *mod;
    const struct oko_ops_facts *facts;
    uint32_t slot; /* non-strict: 0 = any */
    uint32_t n;    /* covered so far */
    uint32_t reason;
    struct oko_error *error;
};

static bool names_port(const struct oko_op_head *op, void *ctx)
{
    return op->op == OKO_OP_OUTPUT && op->arg == *(uint32_t *)ctx;
}

static bool names_group(const struct oko_op_head *op, void *ctx)
{
    return op->op == OKO_OP_GROUP && op->arg == *(uint32_t *)ctx;
}

static bool covered(const struct covering *cover, const struct oko_rule *rule)
{
    const struct oko_flow_mod *mod = cover->mod;
    uint32_t port = mod->out_port, group = mod->out_group;
    bool is_delete = mod->command == OKO_FLOW_DELETE || mod->command == OKO_FLOW_DELETE_STRICT;
    if ((rule->cookie ^ mod->spec.cookie) & mod->cookie_mask)
        return false;
    if (cover->slot && rule->slot != cover->slot)
        return false;
    if (is_delete && port != ANY && !oko_ops_walk(rule->ops, rule->ops_len, names_port, &port))
        return false;
    return !is_delete || group == ANY ||
           oko_ops_walk(rule->ops, rule->ops_len, names_group, &group);
}

static int delete_one(struct oko_rule *rule, void *ctx)
{
    struct covering *cover = ctx;
    if (!covered(cover, rule))
        return 0;
    cover->n++;
    return oko_commit_hide(cover->commit, rule, cover->reason, cover->commit->now_ns);
}

/* With all tables at once, a goto_table may be right for some and not for others. */
static int check_goto(const struct oko_flow_spec *spec, uint32_t table, struct oko_error *error)
{
    for (uint32_t at = 0; at < spec->ops_len; at += oko_op(spec->ops + at)->len) {
        const struct oko_op_head *op = oko_op(spec->ops + at);
        if (op->op == OKO_OP_GOTO && op->arg <= table)
            return oko_err(error, OKO_E_INVAL, "goto_table: %u is not above table %u", op->arg,
                           table);
    }
    return 0;
}

static int modify_one(struct oko_rule *old, void *ctx)
{
    struct covering *cover = ctx;
    struct oko_commit *c = cover->commit;
    if (!covered(cover, old))
        return 0;
    cover->n++;
    const struct oko_flow_spec *spec = &cover->mod->spec;
    int rc = check_goto(spec, old->table, cover->error);
    if (!rc)
        rc = check_soft(cover->facts, old->slot, cover->error);
    if (rc)
        return rc;
    struct oko_flow_stats *stats = old->stats;
    if (spec->flags & OKO_FLOW_RESET_COUNTS)
        stats = oko_flow_stats_new(c->dp->opts.n_workers);
    else
        stats->refs++;
    struct oko_rule *rule;
    if (!stats || oko_rule_modified(old, spec->ops, spec->ops_len, cover->facts, stats, &rule)) {
        oko_flow_stats_unref(stats);
        return OKO_E_NOMEM;
    }
    rule->modified_ns = c->now_ns;
    rule->modified = 1;
    if (cover->mod->new_cookie)
        rule->cookie = spec->cookie;
    struct oko_key mask;
    oko_subtable_mask(old->subtable, &mask);
    if (oko_commit_hide(c, old, OKO_SILENT, c->now_ns)) {
        oko_rule_free(rule);
        return OKO_E_NOMEM;
    }
    return oko_commit_show(c, rule, &mask);
}

/* Flows found in the order of hash tables, to be taken in order of age: what happens must not
 * depend on the hash. */
struct found {
    struct oko_rule **rules;
    uint32_t n, cap;
};

static int find_one(struct oko_rule *rule, void *ctx)
{
    struct found *found = ctx;
    if (found->n == found->cap) {
        uint32_t cap = found->cap ? 2 * found->cap : 64;
        struct oko_rule **rules = realloc(found->rules, cap * sizeof *rules);
        if (!rules)
            return OKO_E_NOMEM;
        found->rules = rules;
        found->cap = cap;
    }
    found->rules[found->n++] = rule;
    return 0;
}

static int by_age(const void *a, const void *b)
{
    const struct oko_rule *x = *(struct oko_rule *const *)a, *y = *(struct oko_rule *const *)b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Applies fn to what the command covers in one table. */
static int each_covered(struct covering *cover, const struct oko_match *match, uint32_t table,
                        int (*fn)(struct oko_rule *, void *))
{
    const struct oko_flow_mod *mod = cover->mod;
    struct oko_commit *c = cover->commit;
    const struct oko_cls *cls = &c->dp->tables[table];
    bool strict = mod->command == OKO_FLOW_MODIFY_STRICT || mod->command == OKO_FLOW_DELETE_STRICT;
    if (!strict) {
        struct found found = {0};
        int rc = oko_cls_each(cls, match, c->version, find_one, &found);
        if (found.n)
            qsort(found.rules, found.n, sizeof found.rules[0], by_age);
        for (uint32_t i = 0; !rc && i < found.n; i++)
            rc = fn(found.rules[i], cover);
        free(found.rules);
        return rc;
    }
    struct oko_rule *rule = oko_cls_find(cls, match, mod->spec.priority, cover->slot, c->version);
    return rule ? fn(rule, cover) : 0;
}

int oko_commit_flow(struct oko_commit *c, const struct oko_flow_mod *mod,
                    const struct oko_match *match, const struct oko_ops_facts *facts, bool learned,
                    struct oko_error *error)
{
    const struct oko_flow_spec *spec = &mod->spec;
    bool is_delete = mod->command == OKO_FLOW_DELETE || mod->command == OKO_FLOW_DELETE_STRICT;
    uint32_t slot = spec->filter_prog ? oko_dp_slot(c->dp, spec->filter_prog) : 0;
    if (spec->filter_prog && !slot) {
        if (mod->command != OKO_FLOW_ADD && !mod->or_add)
            return 0; /* no flow can name it */
        return oko_err(error, OKO_E_NOTFOUND, "flow: program %u is not loaded", spec->filter_prog);
    }
    if (mod->command == OKO_FLOW_ADD)
        return add_flow(c, mod, match, facts, slot, learned, error);

    struct covering cover = {.commit = c,
                             .mod = mod,
                             .facts = facts,
                             .slot = slot,
                             .reason = OKO_REMOVED_DELETE,
                             .error = error};
    int rc = is_delete ? 0 : check_refs(c, spec, facts, error);
    uint32_t first = spec->table, last = spec->table;
    if (spec->table == ALL_TABLES) {
        first = 0;
        last = OKO_N_TABLES - 1;
    }
    for (uint32_t table = first; !rc && table <= last; table++) {
        rc = each_covered(&cover, match, table, is_delete ? delete_one : modify_one);
        if (rc)
            return rc == OKO_E_NOMEM ? no_memory(error) : rc;
    }
    if (rc || is_delete || cover.n || !mod->or_add)
        return rc;
    struct oko_flow_mod add = *mod;
    if (spec->table == ALL_TABLES)
        add.spec.table = 0;
    return add_flow(c, &add, match, facts, slot, learned, error);
}

/* ---------------------------------------------------------------- groups and meters */

static void drop_group(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    (void)queue;
    oko_group_free((struct oko_group *)gc);
}

static void drop_meter(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    (void)queue;
    free(gc);
}

static bool refers(const struct oko_op_head *op, void *ctx)
{
    const struct lookup_refs *refs = ctx;
    return (op->op == OKO_OP_GROUP && refs->group != ANY && op->arg == refs->group) ||
           (op->op == OKO_OP_METER && refs->meter != ANY && op->arg == refs->meter);
}

/* Flows that name a group or meter that goes, go too (OpenFlow 1.3, 6.5 and 6.4). */
static int delete_referring(struct oko_commit *c, uint32_t group, uint32_t meter)
{
    struct oko_dp *dp = c->dp;
    struct lookup_refs refs = {.group = group, .meter = meter};
    for (uint32_t i = 0; i < dp->flows_end; i++) {
        struct oko_rule *rule = dp->flows[i];
        if (!rule || !(rule->ops_flags & OKO_OPS_REFERS) ||
            !oko_ops_walk(rule->ops, rule->ops_len, refers, &refs))
            continue;
        uint32_t reason = group != ANY ? OKO_REMOVED_GROUP : OKO_REMOVED_METER;
        int rc = oko_commit_hide(c, rule, reason, c->now_ns);
        if (rc)
            return rc;
    }
    return 0;
}

static int delete_object(struct oko_commit *c, enum change_kind kind, uint32_t id)
{
    const struct oko_set **set = kind == GROUP ? &c->groups : &c->meters;
    if (!oko_set_find(*set, id))
        return 0;
    int rc = delete_referring(c, kind == GROUP ? id : ANY, kind == METER ? id : ANY);
    return rc ? rc : oko_commit_set(c, set, id, NULL, kind == GROUP ? drop_group : drop_meter);
}

static int apply_object(struct oko_commit *c, struct change *change, struct oko_error *error)
{
    bool group = change->kind == GROUP;
    const char *what = group ? "group" : "meter";
    const struct oko_set **set = group ? &c->groups : &c->meters;
    uint32_t id = change->id;
    int rc = 0;
    if (change->command == OKO_OBJECT_DELETE) {
        if (id != (group ? ALL_GROUPS : ALL_METERS))
            rc = delete_object(c, change->kind, id);
        while (!rc && id == (group ? ALL_GROUPS : ALL_METERS) && (*set)->n)
            rc = delete_object(c, change->kind, (*set)->sorted[0].id);
        return rc ? oko_err(error, rc, "%s %u: out of memory", what, id) : 0;
    }
    void *there = oko_set_find(*set, id);
    if (there && change->command == OKO_OBJECT_ADD)
        return oko_err(error, OKO_E_EXISTS, "%s %u exists already", what, id);
    if (!there && change->command == OKO_OBJECT_MODIFY)
        return oko_err(error, OKO_E_NOTFOUND, "%s %u does not exist", what, id);
    void *object = group ? (void *)change->group : (void *)change->meter;
    uint64_t created = !there  ? c->now_ns
                       : group ? ((struct oko_group *)there)->created_ns
                               : ((struct oko_meter *)there)->created_ns;
    if (group)
        change->group->created_ns = created;
    else
        change->meter->created_ns = created;
    rc = oko_commit_set(c, set, id, object, group ? drop_group : drop_meter);
    if (rc)
        return oko_err(error, rc, "%s %u: out of memory", what, id);
    change->group = NULL; /* the commit has it now */
    change->meter = NULL;
    return 0;
}

/* ---------------------------------------------------------------- commit */

int oko_txn_commit(struct oko_txn *txn, uint32_t *failed, struct oko_error *error)
{
    struct oko_dp *dp = txn->dp;
    struct oko_commit c;
    uint32_t index = 0;
    int rc = 0;
    oko_err_clear(error);
    oko_dp_lock(dp);
    oko_commit_begin(dp, oko_dp_now(dp), UINT32_MAX, &c);
    for (struct change *change = txn->first; change && !rc; change = change->next) {
        c.change = index;
        if (change->kind == FLOW)
            rc = oko_commit_flow(&c, &change->mod, &change->match, &change->facts, false, error);
        else if (change->kind == PACKET_OUT)
            rc = oko_packet_out_refs(change->bytes, change->ops_len, c.groups, error);
        else
            rc = apply_object(&c, change, error);
        if (!rc && oko_commit_forget(&c))
            rc = no_memory(error);
        index += !rc;
    }
    if (rc)
        oko_commit_rollback(&c);
    else if (c.n_steps && (rc = oko_commit_publish(&c)))
        oko_err(error, rc, "out of memory");
    else if (!c.n_steps)
        oko_commit_rollback(&c);
    oko_dp_unlock(dp);
    if (failed)
        *failed = index;
    clear(txn);
    return rc;
}
