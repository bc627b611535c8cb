/* Settling a state before it is compared or kept: what will not be read is forgotten.
 *
 * Three things go: registers that are not live, ghosts of loops that have been left, and ids that
 * no location mentions. Before the last, ids that occur only together become one: after
 * at += size1; at += size2; nobody can tell the two sizes apart any more, so their sum gets an id
 * of its own. Without that, a loop that adds a number in every round would outgrow its form. */
#include "walk.h"

#include <stdlib.h>
#include <string.h>

void oko_live_registers(const struct oko_cfg *cfg, const struct oko_state *st, uint32_t pc,
                        uint16_t live[OKO_MAX_FRAMES])
{
    for (uint32_t f = 0; f < st->n_frames; f++) {
        uint32_t at = f + 1 < st->n_frames ? st->frame[f + 1].call_pc + 1 : pc;
        live[f] = cfg->insn[at].live_in;
        if (f + 1 < st->n_frames)
            live[f] &= 0x3c0; /* what calls preserve */
    }
}

/* ---------------------------------------------------------------- forms of a state */

struct forms {
    struct oko_state *st;
    void (*fn)(void *arg, struct oko_form *f);
    void *arg;
};

static void form_of(void *arg, struct oko_reg *r)
{
    const struct forms *forms = arg;
    forms->fn(forms->arg, &r->f);
}

/* Calls fn on the form of each location and ghost. */
static void each_form(struct oko_state *st, void (*fn)(void *arg, struct oko_form *f), void *arg)
{
    struct forms forms = {st, fn, arg};
    oko_state_each(st, form_of, &forms);
    for (uint32_t i = 0; i < st->n_ghosts; i++)
        fn(arg, &st->ghost[i].f);
}

static void make_constant(void *arg, struct oko_reg *r)
{
    (void)arg;
    if (r->type != OKO_REG_MAP && oko_scalar_is_const(&r->s))
        r->f = oko_form_const((int64_t)r->s.full.umin);
}

static void remove_term(struct oko_form *f, uint32_t i)
{
    f->n--;
    for (; i < f->n; i++) {
        f->id[i] = f->id[i + 1];
        f->coeff[i] = f->coeff[i + 1];
    }
}

/* Ids of which only one value is left go into the constant. */
static void fold(void *arg, struct oko_form *f)
{
    const struct oko_rel *rel = arg;
    for (uint32_t i = f->n; i-- > 0;) {
        const struct oko_bound *bound = oko_rel_id(rel, f->id[i]);
        if (bound == NULL || bound->lo != bound->hi)
            continue;
        f->c = (int64_t)((uint64_t)f->c + (uint64_t)f->coeff[i] * (uint64_t)bound->lo);
        remove_term(f, i);
    }
}

/* ---------------------------------------------------------------- ids that occur together */

/* A group of terms: looked for in all forms, then replaced by `id`. */
struct group {
    struct oko_form terms; /* at least two; constant 0 */
    uint32_t id;
};

/* k with f = k * terms on the group's ids; 0 when f has none of them; false when f has them in
 * another ratio. */
static bool multiple_of(const struct oko_form *f, const struct oko_form *terms, int64_t *k)
{
    *k = 0;
    for (uint32_t i = 0; i < terms->n; i++) {
        int64_t coeff = oko_form_coeff(f, terms->id[i]);
        if (i == 0 && coeff % terms->coeff[0] == 0)
            *k = coeff / terms->coeff[0];
        if (coeff != *k * terms->coeff[i])
            return false;
    }
    return true;
}

/* Takes from the group the ids that this form has without the others. */
static void shrink(void *arg, struct oko_form *f)
{
    struct group *group = arg;
    int64_t k;
    if (group->terms.n < 2 || multiple_of(f, &group->terms, &k))
        return;
    for (uint32_t i = group->terms.n; i-- > 0;)
        if (oko_form_coeff(f, group->terms.id[i]) != 0)
            remove_term(&group->terms, i);
}

static void replace(void *arg, struct oko_form *f)
{
    const struct group *group = arg;
    struct oko_form g = oko_form_id(group->id), out;
    int64_t k;
    if (multiple_of(f, &group->terms, &k) && k != 0 && oko_form_add(&out, f, -k, &group->terms) &&
        oko_form_add(&out, &out, k, &g))
        *f = out;
}

static int64_t gcd(int64_t a, int64_t b)
{
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The id with coefficient 1 or -1 that is solved for; OKO_CFG_NONE if there is none. */
static uint32_t pivot_of(const struct oko_form *terms)
{
    for (uint32_t i = 0; i < terms->n; i++)
        if (terms->coeff[i] == 1 || terms->coeff[i] == -1)
            return i;
    return OKO_CFG_NONE;
}

/* Inequalities are about integers, so the group's id must be one: its bounds must fit. The ids that
 * stay in inequalities are forgotten with their consequences drawn. */
static void merge_group(struct oko_state *st, struct group *group)
{
    struct oko_form *terms = &group->terms;
    int64_t common = 0;
    for (uint32_t i = 0; i < terms->n; i++)
        common = gcd(common, terms->coeff[i]);
    for (uint32_t i = 0; i < terms->n; i++)
        terms->coeff[i] /= common;
    uint32_t pivot = pivot_of(terms);
    oko_wide lo = oko_rel_lower(&st->rel, terms, 2), hi = oko_rel_upper(&st->rel, terms, 2);
    if (pivot == OKO_CFG_NONE || lo < INT64_MIN || hi > INT64_MAX)
        return;
    group->id = (*st->next_id)++;
    if (!oko_rel_add_id(&st->rel, group->id, (int64_t)lo, (int64_t)hi)) {
        st->no_memory = true;
        return;
    }
    each_form(st, replace, group);
    struct oko_form con[OKO_REL_CONS], g = oko_form_id(group->id), out;
    uint32_t n = st->rel.n_cons;
    memcpy(con, st->rel.con, n * sizeof(con[0]));
    st->rel.n_cons = 0;
    for (uint32_t i = 0; i < n; i++) {
        int64_t k = oko_form_coeff(&con[i], terms->id[pivot]) * terms->coeff[pivot];
        if (k != 0 && oko_form_add_exact(&out, &con[i], -k, terms) &&
            oko_form_add_exact(&out, &out, k, &g))
            con[i] = out;
        oko_rel_assume(&st->rel, &con[i]);
    }
}

static void find_groups(void *arg, struct oko_form *f)
{
    struct forms *forms = arg;
    struct group group = {.terms = *f};
    group.terms.c = 0;
    for (uint32_t i = group.terms.n; i-- > 0;)
        if (group.terms.id[i] == OKO_ID_LEN)
            remove_term(&group.terms, i);
    if (group.terms.n < 2)
        return;
    each_form(forms->st, shrink, &group);
    if (group.terms.n >= 2)
        merge_group(forms->st, &group);
}

/* ---------------------------------------------------------------- all */

struct mentioned {
    const struct oko_rel *rel;
    uint64_t *bits; /* by position in the relation */
};

static void mention(void *arg, struct oko_form *f)
{
    const struct mentioned *m = arg;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct oko_bound *bound = oko_rel_id(m->rel, f->id[i]);
        if (bound != NULL) {
            size_t at = (size_t)(bound - m->rel->bound);
            m->bits[at / 64] |= (uint64_t)1 << (at % 64);
        }
    }
}

bool oko_state_settle(const struct oko_cfg *cfg, struct oko_state *st, uint32_t pc)
{
    uint16_t live[OKO_MAX_FRAMES];
    uint32_t n = 0;
    oko_live_registers(cfg, st, pc, live);
    for (uint32_t f = 0; f < st->n_frames; f++)
        for (uint32_t i = 0; i < 10; i++)
            if ((live[f] >> i & 1) == 0)
                st->frame[f].r[i] = oko_reg_unset();
    for (uint32_t i = 0; i < st->n_ghosts; i++) {
        const struct oko_ghost *ghost = &st->ghost[i];
        uint32_t f = ghost->frame;
        uint32_t at = f + 1 < st->n_frames ? st->frame[f + 1].call_pc : pc;
        if (oko_cfg_in_loop(cfg, ghost->loop, at))
            st->ghost[n++] = *ghost;
    }
    st->n_ghosts = n;
    oko_state_each(st, make_constant, NULL);
    each_form(st, fold, &st->rel);
    struct forms forms = {.st = st};
    each_form(st, find_groups, &forms);
    uint64_t *bits = calloc(st->rel.n_bounds / 64 + 1, sizeof(*bits));
    if (bits == NULL)
        return false;
    struct mentioned m = {&st->rel, bits};
    struct oko_form len = oko_form_id(OKO_ID_LEN);
    mention(&m, &len);
    each_form(st, mention, &m);
    oko_rel_forget(&st->rel, bits);
    free(bits);
    return !st->no_memory;
}
