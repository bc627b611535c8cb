/* Eviction: an add to a full table may push out a flow that would not have lasted anyway.
 *
 * Idea. Only flows with a timeout are pushed out: those without are there until somebody removes
 * them, table-miss flows for one, and stay. Among the others of the table the least important goes
 * (OpenFlow 1.4, 5.4: importance), of equals the one that would end first, then the oldest. One
 * that is more important than the newcomer stays, and the add is refused: there is no room.
 *
 * The heap of deadlines knows which flows have a timeout, of all tables. It is gone through once
 * for up to OKO_VICTIMS of them, so that a long transaction into a full table does not do so for
 * each add; flows that it added itself are looked at when those are used up.
 *
 * Thread-safety: under the datapath's mutex, within a commit. */
#include "commit.h"

#include <stdlib.h>

enum { OKO_VICTIMS = 64 };

struct victim {
    struct oko_rule *rule;
    uint64_t deadline;
};

struct oko_victims {
    uint32_t table;
    uint32_t n, next;              /* found; those before next have been used */
    struct victim at[OKO_VICTIMS]; /* who goes first is first */
};

static bool before(const struct victim *a, const struct victim *b)
{
    if (a->rule->importance != b->rule->importance)
        return a->rule->importance < b->rule->importance;
    if (a->deadline != b->deadline)
        return a->deadline < b->deadline;
    return a->rule->id < b->rule->id;
}

/* Puts it among the first OKO_VICTIMS, if it is one. */
static void consider(struct oko_victims *victims, const struct victim *one)
{
    uint32_t at = victims->n;
    if (at == OKO_VICTIMS && !before(one, &victims->at[--at]))
        return;
    if (victims->n < OKO_VICTIMS)
        victims->n++;
    for (; at && before(one, &victims->at[at - 1]); at--)
        victims->at[at] = victims->at[at - 1];
    victims->at[at] = *one;
}

static void find(struct oko_commit *c, struct oko_victims *victims, uint32_t table)
{
    struct oko_dp *dp = c->dp;
    *victims = (struct oko_victims){.table = table};
    for (uint32_t i = 1; i <= dp->n_heap; i++) {
        struct oko_rule *rule = dp->heap[i].rule;
        bool hard;
        if (rule->table != table)
            continue;
        struct victim one = {rule, oko_rule_deadline(rule, dp->born_ns, &hard)};
        consider(victims, &one);
    }
}

static struct oko_rule *first(const struct oko_commit *c, struct oko_victims *victims)
{
    for (; victims->next < victims->n; victims->next++) {
        struct oko_rule *rule = victims->at[victims->next].rule;
        if (oko_rule_visible(rule, c->version))
            return rule;
    }
    return NULL;
}

int oko_dp_table_set(struct oko_dp *dp, uint32_t table, uint32_t max_flows, bool evict)
{
    if (table >= OKO_N_TABLES)
        return OKO_E_NOTFOUND;
    oko_dp_lock(dp);
    dp->table[table].max_flows = max_flows ? max_flows : UINT32_MAX;
    dp->table[table].evict = evict;
    oko_dp_unlock(dp);
    return 0;
}

int oko_commit_evict(struct oko_commit *c, uint32_t table, uint32_t importance)
{
    if (!c->victims)
        c->victims = calloc(1, sizeof *c->victims);
    if (!c->victims)
        return OKO_E_NOMEM;
    struct oko_rule *rule = c->victims->table == table ? first(c, c->victims) : NULL;
    if (!rule) {
        find(c, c->victims, table);
        rule = first(c, c->victims);
    }
    if (!rule || rule->importance > importance)
        return OKO_E_LIMIT;
    return oko_commit_hide(c, rule, OKO_REMOVED_EVICTION, c->now_ns);
}
