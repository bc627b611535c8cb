/* Inequalities of a joined state: those that hold in both parts, once written over the joined ids.
 *
 * Four sources. Inequalities of either state, in which a pair's form is replaced by its id.
 * Inequalities that both have with different constants, next to a pair that grows in step: the
 * first rounds of a loop, with a constant counter, show its invariant so. Distances between values
 * that both states bound. Each is proved in both states before it is taken. */
#include "join_impl.h"

/* Ids of the form that the joined state does not have. */
static uint32_t n_foreign(const struct join *join, const struct oko_form *form)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < form->n; i++)
        n += oko_rel_id(&join->out->rel, form->id[i]) == NULL;
    return n;
}

/* Replaces one pair's form in the inequality by its id, where that makes one of the state's own ids
 * go away: the replacement that leaves the fewest of them. Returns how many are left. */
static uint32_t rewrite_step(struct join *join, bool from_old, const struct oko_form *con,
                             struct oko_form *out)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < join->j->n_pairs && least != 0; i++) {
        const struct oko_pair *pair = &join->j->pair[i];
        const struct oko_form *side = from_old ? &pair->a : &pair->b;
        struct oko_form g = oko_form_id(pair->id);
        for (uint32_t k = 0; pair->exact && k < side->n; k++) {
            int64_t mine = oko_form_coeff(con, side->id[k]);
            if (mine == 0 || oko_join_kept(join, side->id[k]) || mine % side->coeff[k] != 0)
                continue;
            int64_t times = mine / side->coeff[k];
            struct oko_form part;
            if (!oko_form_add_exact(&part, con, -times, side) ||
                !oko_form_add_exact(&part, &part, times, &g))
                continue;
            uint32_t foreign = n_foreign(join, &part);
            if (foreign < least) {
                least = foreign;
                *out = part;
            }
        }
    }
    return least;
}

/* Rewrites an inequality of one state over the joined ids. */
static bool rewrite(struct join *join, bool from_old, const struct oko_form *con,
                    struct oko_form *out)
{
    uint32_t foreign = n_foreign(join, con);
    *out = *con;
    while (foreign > 0) {
        struct oko_form next;
        uint32_t left = rewrite_step(join, from_old, out, &next);
        if (left >= foreign)
            return false;
        foreign = left;
        *out = next;
    }
    return true;
}

/* Whether an inequality over joined ids holds in one of the states. */
static bool holds(struct join *join, bool in_old, const struct oko_form *con)
{
    struct oko_state *st = in_old ? join->old : join->fresh;
    struct oko_form form = oko_form_const(con->c);
    for (uint32_t i = 0; i < con->n; i++) {
        struct oko_form value = oko_form_id(con->id[i]);
        for (uint32_t k = 0; k < join->j->n_pairs; k++) {
            const struct oko_pair *pair = &join->j->pair[k];
            if (pair->id != con->id[i])
                continue;
            if (!pair->exact)
                return false;
            value = in_old ? pair->a : pair->b;
        }
        if (!oko_form_add_exact(&form, &form, con->coeff[i], &value))
            return false;
    }
    return oko_rel_proves(&st->rel, &form);
}

static bool same_terms(const struct oko_form *a, const struct oko_form *b)
{
    struct oko_form x = *a, y = *b;
    x.c = y.c = 0;
    return oko_form_equal(&x, &y);
}

/* Keeps an inequality over joined ids if it holds in both states; and its variants, in which an id
 * that both states have, or a multiple or sum of such, is replaced by a pair of which it is one
 * side. */
static void take_inequality(struct join *join, bool from_old, const struct oko_form *con)
{
    if (holds(join, true, con) && holds(join, false, con))
        oko_rel_assume(&join->out->rel, con);
    for (uint32_t i = 0; i < join->j->n_pairs; i++) {
        const struct oko_pair *pair = &join->j->pair[i];
        const struct oko_form *side = from_old ? &pair->a : &pair->b;
        struct oko_form variant, g = oko_form_id(pair->id);
        int64_t mine = side->n != 0 ? oko_form_coeff(con, side->id[0]) : 0;
        if (!pair->exact || mine == 0 || mine % side->coeff[0] != 0)
            continue;
        int64_t times = mine / side->coeff[0];
        if (oko_form_add_exact(&variant, con, -times, side) &&
            oko_form_add_exact(&variant, &variant, times, &g) && n_foreign(join, &variant) == 0 &&
            holds(join, true, &variant) && holds(join, false, &variant))
            oko_rel_assume(&join->out->rel, &variant);
    }
}

/* Inequalities of one state that hold in the other. A widening does not take from the new state
 * what only weakens an inequality of the old one: it would be weakened again in the next round. */
void oko_join_inequalities(struct join *join)
{
    struct oko_form mine[OKO_REL_CONS], con;
    uint32_t n = 0;
    for (uint32_t i = 0; i < join->old->rel.n_cons; i++) {
        if (!rewrite(join, true, &join->old->rel.con[i], &con))
            continue;
        mine[n++] = con;
        take_inequality(join, true, &con);
    }
    for (uint32_t i = 0; i < join->fresh->rel.n_cons && join->mode != OKO_WIDEN_MOST; i++) {
        bool weaker = false;
        if (!rewrite(join, false, &join->fresh->rel.con[i], &con))
            continue;
        for (uint32_t k = 0; k < n && join->mode == OKO_WIDEN_MORE; k++)
            weaker |= same_terms(&mine[k], &con);
        if (!weaker)
            take_inequality(join, false, &con);
    }
}

/* An inequality that both states have, with different constants, next to a pair that grows in
 * step: "con + c <= 0" and "con + c + k * d <= 0" become one about con + k * id. The first rounds
 * of a loop, in which the counter is a constant, show the invariant like this. */
static void join_in_step(struct join *join, const struct oko_form *a, int64_t b_const)
{
    int64_t grown, d;
    if (__builtin_sub_overflow(b_const, a->c, &grown) || grown == 0)
        return;
    for (uint32_t i = 0; i < join->j->n_pairs; i++) {
        const struct oko_pair *pair = &join->j->pair[i];
        struct oko_form con, rewritten, g = oko_form_id(pair->id);
        if (!pair->exact || !oko_join_growth(&pair->a, &pair->b, &d) || d == 0 || grown % d != 0)
            continue;
        int64_t k = grown / d;
        if (k > 64 || k < -64 || !oko_form_add_exact(&con, a, -k, &pair->a) ||
            !oko_form_add_exact(&con, &con, k, &g))
            continue;
        /* Other ids of the old state may have to be rewritten too. */
        if (rewrite(join, true, &con, &rewritten) && holds(join, true, &rewritten) &&
            holds(join, false, &rewritten))
            oko_rel_assume(&join->out->rel, &rewritten);
    }
}

void oko_join_similar(struct join *join)
{
    const struct oko_rel *a = &join->old->rel, *b = &join->fresh->rel;
    struct oko_form theirs[OKO_REL_CONS], mine;
    uint32_t n = 0;
    for (uint32_t k = 0; k < b->n_cons; k++)
        n += rewrite(join, false, &b->con[k], &theirs[n]);
    for (uint32_t i = 0; i < a->n_cons; i++)
        for (uint32_t k = 0; rewrite(join, true, &a->con[i], &mine) && k < n; k++)
            if (same_terms(&mine, &theirs[k]))
                join_in_step(join, &mine, theirs[k].c);
    for (uint32_t i = 0; i < a->n_bounds; i++) {
        const struct oko_bound *x = &a->bound[i], *y = oko_rel_id(b, x->id);
        if (y == NULL || (x->id != OKO_ID_LEN && !oko_join_kept(join, x->id)))
            continue;
        struct oko_form up = oko_form_id(x->id), zero = oko_form_const(0), down;
        oko_form_add_exact(&down, &zero, -1, &up);
        up.c = x->hi == INT64_MAX ? INT64_MIN : -x->hi; /* id - hi <= 0 */
        down.c = x->lo;                                 /* lo - id <= 0 */
        if (x->lo != y->lo && x->lo > INT32_MIN && y->lo > INT32_MIN)
            join_in_step(join, &down, y->lo);
        if (x->hi != y->hi && x->hi < UINT32_MAX && y->hi < UINT32_MAX)
            join_in_step(join, &up, -y->hi);
    }
}

/* x - y >= d >= 0 for two values: what both states show, or below it the next threshold. */
static void join_distance(struct join *join, const struct oko_form *x, const struct oko_form *xa,
                          const struct oko_form *xb, const struct oko_pair *y, bool swap)
{
    struct oko_form a, b, con, g = oko_form_id(y->id);
    const struct oko_form *hi_a = swap ? &y->a : xa, *lo_a = swap ? xa : &y->a;
    const struct oko_form *hi_b = swap ? &y->b : xb, *lo_b = swap ? xb : &y->b;
    if (!oko_form_add_exact(&a, hi_a, -1, lo_a) || !oko_form_add_exact(&b, hi_b, -1, lo_b))
        return;
    oko_wide da = oko_rel_lower(&join->old->rel, &a, 1);
    oko_wide db = da < 0 ? da : oko_rel_lower(&join->fresh->rel, &b, 1);
    oko_wide d = da < db ? da : db;
    if (d < 0 || d > OKO_MAX_PKT)
        return;
    if (join->mode != OKO_JOIN && db < da)
        d = oko_join_below(join->j, join->mode, (int64_t)d);
    struct oko_form c = oko_form_const((int64_t)d);
    if (d >= 0 && oko_form_add_exact(&con, swap ? x : &g, -1, swap ? &g : x) &&
        oko_form_add_exact(&con, &con, 1, &c))
        oko_rel_assume(&join->out->rel, &con);
}

enum { MAX_DISTANCES = 12 };

/* Distances between the values that got new ids, and from these to the length and to ids that
 * inequalities are about. */
void oko_join_distances(struct join *join)
{
    struct oko_joiner *j = join->j;
    uint32_t done = 0;
    for (uint32_t i = 0; i < j->n_pairs && i < MAX_DISTANCES; i++) {
        const struct oko_pair *pair = &j->pair[i];
        if (!pair->exact)
            continue;
        struct oko_form len = oko_form_id(OKO_ID_LEN);
        join_distance(join, &len, &len, &len, pair, false);
        for (uint32_t k = 0; k < i; k++) {
            const struct oko_pair *other = &j->pair[k];
            struct oko_form id = oko_form_id(other->id);
            if (!other->exact)
                continue;
            join_distance(join, &id, &other->a, &other->b, pair, false);
            join_distance(join, &id, &other->a, &other->b, pair, true);
        }
        for (uint32_t c = 0; c < join->old->rel.n_cons && done < 4 * MAX_DISTANCES; c++)
            for (uint32_t k = 0; k < join->old->rel.con[c].n; k++, done++) {
                uint32_t id = join->old->rel.con[c].id[k];
                struct oko_form x = oko_form_id(id);
                if (id == OKO_ID_LEN || !oko_join_kept(join, id))
                    continue;
                join_distance(join, &x, &x, &x, pair, false);
                join_distance(join, &x, &x, &x, pair, true);
            }
    }
}
