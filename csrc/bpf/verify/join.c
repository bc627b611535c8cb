/* Joining and widening abstract states; see join.h. */
#include "join_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SUM_PAIRS = 7 };

/* ---------------------------------------------------------------- widening */

static void add_local(int64_t local[OKO_MAX_LOCAL], uint32_t *n, int64_t x)
{
    for (int64_t d = -1; d <= 1; d++)
        if (*n < OKO_MAX_LOCAL && x > INT32_MIN && x < UINT32_MAX)
            local[(*n)++] = x + d;
}

/* A loop's bound is mostly in a comparison of the program, or in a register that the loop leaves
 * alone. That of a loop that ends at `i == n` must survive the harder widening: unlike i < n, the
 * test does not bring it back. */
static void find_local(struct oko_joiner *j, const struct oko_state *old,
                       const struct oko_state *fresh)
{
    j->n_least = j->n_largest = 0;
    for (uint32_t i = 0; i < j->n_exits; i++) {
        add_local(j->least, &j->n_least, j->exit[i]);
        add_local(j->largest, &j->n_largest, j->exit[i]);
    }
    for (uint32_t i = 0; i < 10; i++) {
        const struct oko_reg *a = &old->frame[old->n_frames - 1].r[i];
        const struct oko_reg *b = &fresh->frame[fresh->n_frames - 1].r[i];
        if (a->type != OKO_REG_SCALAR || b->type != OKO_REG_SCALAR || !oko_form_equal(&a->f, &b->f))
            continue;
        add_local(j->least, &j->n_least, a->s.full.smin);
        add_local(j->largest, &j->n_largest, a->s.full.smax);
    }
}

/* What bounds a value that a loop changes stands in the loop. */
static bool is_near(const struct oko_joiner *j, const struct oko_threshold *t)
{
    return t->loop == j->loop || t->loop == OKO_EVERYWHERE;
}

/* The next threshold beyond x: of the program (at first only), of the state, or the end of a common
 * width. */
int64_t oko_join_below(const struct oko_joiner *j, enum oko_join_mode mode, int64_t x)
{
    int64_t best = INT64_MIN;
    if (mode == OKO_WIDEN_MOST)
        return best;
    if (x >= INT32_MIN)
        best = x >= 1 ? 1 : x == 0 ? 0 : INT32_MIN;
    for (uint32_t i = 0; i < j->n_least; i++)
        if (j->least[i] <= x && j->least[i] > best)
            best = j->least[i];
    for (uint32_t i = 0; mode == OKO_WIDEN && i < j->n_thresholds && j->threshold[i].value <= x;
         i++)
        if (j->threshold[i].value > best && is_near(j, &j->threshold[i]))
            best = j->threshold[i].value;
    return best;
}

int64_t oko_join_above(const struct oko_joiner *j, enum oko_join_mode mode, int64_t x)
{
    int64_t best = INT64_MAX;
    if (mode == OKO_WIDEN_MOST)
        return best;
    if (x <= UINT32_MAX)
        best = x <= OKO_MAX_PKT ? OKO_MAX_PKT : UINT32_MAX;
    for (uint32_t i = 0; i < j->n_largest; i++)
        if (j->largest[i] >= x && j->largest[i] < best)
            best = j->largest[i];
    for (uint32_t i = j->n_thresholds; mode == OKO_WIDEN && i-- > 0 && j->threshold[i].value >= x;)
        if (j->threshold[i].value < best && is_near(j, &j->threshold[i]))
            best = j->threshold[i].value;
    return best;
}

/* Each description is at least as wide as the old one: a join may have sharpened it. */
static struct oko_range widen_range(const struct oko_joiner *j, enum oko_join_mode mode, unsigned w,
                                    const struct oko_range *old, struct oko_range joined)
{
    struct oko_range all = oko_range_all(w), r = *old;
    if (joined.umin < old->umin) {
        int64_t limit = joined.umin > INT64_MAX ? 0 : oko_join_below(j, mode, (int64_t)joined.umin);
        r.umin = limit < 0 ? 0 : (uint64_t)limit;
    }
    if (joined.umax > old->umax) {
        int64_t limit =
            joined.umax > INT64_MAX ? INT64_MAX : oko_join_above(j, mode, (int64_t)joined.umax);
        r.umax = limit == INT64_MAX || (uint64_t)limit > all.umax ? all.umax : (uint64_t)limit;
    }
    if (joined.smin < old->smin) {
        int64_t limit = oko_join_below(j, mode, joined.smin);
        r.smin = limit < all.smin ? all.smin : limit;
    }
    if (joined.smax > old->smax) {
        int64_t limit = oko_join_above(j, mode, joined.smax);
        r.smax = limit > all.smax ? all.smax : limit;
    }
    uint64_t grown = (joined.mask | (joined.value ^ old->value)) & ~old->mask;
    if (grown != 0) { /* all bits from the lowest that became unknown: only alignment remains */
        r.mask |= all.mask & ~((grown & -grown) - 1);
        r.value &= ~r.mask;
    }
    return r;
}

/* The range's descriptions must not sharpen each other here, or what was dropped would come back
 * through another and the states would not settle. */
static struct oko_scalar widen(const struct oko_joiner *j, enum oko_join_mode mode,
                               const struct oko_scalar *old, const struct oko_scalar *fresh)
{
    struct oko_scalar joined = oko_scalar_join(*old, *fresh);
    if (mode == OKO_JOIN)
        return joined;
    joined.full = widen_range(j, mode, 64, &old->full, joined.full);
    joined.low = widen_range(j, mode, 32, &old->low, joined.low);
    return joined;
}

/* ---------------------------------------------------------------- join */

static void keep_ids(struct join *join, const struct oko_form *form)
{
    for (uint32_t i = 0; i < form->n; i++) {
        uint32_t at = oko_joiner_index(join->old, form->id[i]);
        if (at != UINT32_MAX)
            join->j->kept[at / 64] |= (uint64_t)1 << (at % 64);
    }
}

bool oko_join_kept(const struct join *join, uint32_t id)
{
    uint32_t at = oko_joiner_index(join->old, id);
    return at != UINT32_MAX && (join->j->kept[at / 64] >> (at % 64) & 1) != 0;
}

/* Whether f differs between the states as k times the pair does, up to a common form. */
static bool as_multiple(struct join *join, const struct oko_pair *pair, const struct oko_form *a,
                        const struct oko_form *b, int64_t k, struct oko_form *out)
{
    struct oko_form da, db, g = oko_form_id(pair->id);
    if (!oko_form_add(&da, a, -k, &pair->a) || !oko_form_add(&db, b, -k, &pair->b) ||
        !oko_form_equal(&da, &db) || !oko_form_add(out, &da, k, &g))
        return false;
    keep_ids(join, &da);
    return true;
}

/* Whether f is a sum (or difference) of up to depth pairs before `end`, up to a common form. */
static bool as_sum(struct join *join, const struct oko_form *a, const struct oko_form *b,
                   uint32_t end, int depth, struct oko_form *out)
{
    const struct oko_joiner *j = join->j;
    struct oko_form da, db;
    for (uint32_t i = 0; i < end; i++)
        for (int64_t k = 1; k >= -1; k -= 2) {
            struct oko_form g = oko_form_id(j->pair[i].id);
            if (as_multiple(join, &j->pair[i], a, b, k, out))
                return true;
            if (depth > 1 && oko_form_add(&da, a, -k, &j->pair[i].a) &&
                oko_form_add(&db, b, -k, &j->pair[i].b) &&
                as_sum(join, &da, &db, i, depth - 1, out) && oko_form_add(out, out, k, &g))
                return true;
        }
    return false;
}

/* Multiples that are worth a relation: element sizes. Others are mostly two constants that happen
 * to differ. */
static bool is_step(int64_t k)
{
    uint64_t size = k < 0 ? -(uint64_t)k : (uint64_t)k;
    return size != 0 && (size <= 4 || (size <= 4096 && (size & (size - 1)) == 0));
}

/* By how much the form grows from the old state to the new one, if that is a constant. */
bool oko_join_growth(const struct oko_form *a, const struct oko_form *b, int64_t *by)
{
    struct oko_form d;
    if (!oko_form_add(&d, b, -1, a) || d.n != 0)
        return false;
    *by = d.c;
    return true;
}

static bool is_integer(struct oko_state *st, const struct oko_form *f)
{
    return oko_rel_lower(&st->rel, f, 1) >= INT64_MIN && oko_rel_upper(&st->rel, f, 1) <= INT64_MAX;
}

enum { MAX_RATIOS = 5 };

static uint32_t add_ratio(int64_t *k, uint32_t n, int64_t mine, int64_t theirs)
{
    if (theirs == 0 || (theirs == -1 && mine == INT64_MIN) || mine % theirs != 0 ||
        !is_step(mine / theirs))
        return n;
    for (uint32_t i = 0; i < n; i++)
        if (k[i] == mine / theirs)
            return n;
    k[n] = mine / theirs;
    return n + 1;
}

/* Multiples of a pair that a location with these two forms may be: by how the two grow, or by the
 * coefficient of an id that both have. */
static uint32_t ratios(const struct oko_pair *pair, const struct oko_form *a,
                       const struct oko_form *b, int64_t k[MAX_RATIOS])
{
    int64_t mine, theirs;
    uint32_t n = 0;
    if (oko_join_growth(a, b, &mine) && oko_join_growth(&pair->a, &pair->b, &theirs))
        n = add_ratio(k, n, mine, theirs);
    if (pair->a.n > 0)
        n = add_ratio(k, n, oko_form_coeff(a, pair->a.id[0]), pair->a.coeff[0]);
    if (pair->b.n > 0)
        n = add_ratio(k, n, oko_form_coeff(b, pair->b.id[0]), pair->b.coeff[0]);
    n = add_ratio(k, n, 1, 1);
    return add_ratio(k, n, -1, 1);
}

/* Writes a as rest + stride * count, where rest has the coefficients that stride does not divide: a
 * location that moves in steps keeps its alignment. False for steps of one. */
static bool by_stride(const struct oko_form *a, int64_t stride, struct oko_form *count,
                      struct oko_form *rest)
{
    if (stride >= -1 && stride <= 1)
        return false;
    *count = *rest = oko_form_const(0);
    for (uint32_t i = 0; i < a->n; i++) {
        struct oko_form *part = a->coeff[i] % stride == 0 ? count : rest;
        part->id[part->n] = a->id[i];
        part->coeff[part->n++] = part == count ? a->coeff[i] / stride : a->coeff[i];
    }
    count->c = a->c / stride;
    rest->c = a->c % stride;
    return true;
}

/* The form of a location that has form a in the old state and b in the new one. */
static struct oko_form join_form(struct join *join, const struct oko_form *a,
                                 const struct oko_form *b, const struct oko_scalar *s,
                                 uint32_t frame, uint32_t where)
{
    struct oko_joiner *j = join->j;
    if (oko_form_equal(a, b)) {
        keep_ids(join, a);
        return *a;
    }
    int64_t mine = 0;
    bool constant = oko_join_growth(a, b, &mine);
    struct oko_form out;
    for (uint32_t i = 0; i < j->n_pairs; i++) {
        int64_t k[MAX_RATIOS];
        uint32_t n = ratios(&j->pair[i], a, b, k);
        for (uint32_t m = 0; m < n; m++)
            if (as_multiple(join, &j->pair[i], a, b, k[m], &out))
                return out;
    }
    uint32_t n_summands = j->n_pairs < MAX_SUM_PAIRS ? j->n_pairs : MAX_SUM_PAIRS;
    int depth = a->n > 1 || b->n > 1 ? 3 : a->n == 1 && b->n == 1 ? 2 : 0;
    if (depth > 0 && as_sum(join, a, b, n_summands, depth, &out))
        return out;
    struct oko_pair *pair = oko_joiner_pair(j);
    if (pair == NULL)
        return oko_form_const(0); /* the verification ends */
    pair->a = *a;
    pair->b = *b;
    pair->id = (*join->out->next_id)++;
    pair->frame = frame;
    pair->where = where;
    pair->s = *s;
    struct oko_form rest, id = oko_form_id(pair->id);
    out = id;
    if (constant && by_stride(a, mine, &pair->a, &rest) && oko_form_add(&out, &rest, mine, &id)) {
        struct oko_form one = oko_form_const(1);
        oko_form_add(&pair->b, &pair->a, 1, &one);
        pair->s = oko_scalar_all();
        keep_ids(join, &rest);
    } else {
        pair->a = *a;
        out = id;
    }
    pair->exact = is_integer(join->old, &pair->a) && is_integer(join->fresh, &pair->b);
    return out;
}

/* Whether the form is a constant, or a value and a constant. */
static bool is_plain(const struct oko_form *f)
{
    return f->n == 0 || (f->n == 1 && (f->coeff[0] == 1 || f->coeff[0] == -1));
}

enum { N_PASSES = 6 };

/* The pass in which a location is joined: those that move by one come first, counters before
 * the addresses that move with them, then plain values, so that others become multiples
 * and sums of them. */
static int pass_of(const struct oko_form *a, const struct oko_form *b)
{
    int64_t by;
    if (oko_join_growth(a, b, &by) && (by == 1 || by == -1))
        return a->n < 2 ? (int)a->n : 2;
    return is_plain(a) && is_plain(b) ? 3 : a->n <= 1 && b->n <= 1 ? 4 : 5;
}

static void join_reg(struct join *join, const struct oko_reg *a, const struct oko_reg *b,
                     uint32_t frame, uint32_t where, int pass, struct oko_reg *out)
{
    if (a->type == OKO_REG_UNSET || !oko_same_object(a, b) || pass_of(&a->f, &b->f) != pass)
        return; /* out is unset */
    *out = *a;
    out->maybe_null = a->maybe_null || b->maybe_null;
    if (a->type == OKO_REG_VALUE)
        out->obj = oko_joiner_obj(join->j, a->obj, b->obj, join->out->next_id);
    if (a->type == OKO_REG_MAP)
        return;
    out->s = widen(join->j, join->mode, &a->s, &b->s);
    out->f = join_form(join, &a->f, &b->f, &out->s, frame, where);
}

static void join_registers(struct join *join, const uint16_t live[OKO_MAX_FRAMES], int pass)
{
    for (uint32_t f = 0; f < join->old->n_frames; f++)
        for (uint32_t i = 0; i < 10; i++)
            if ((live[f] >> i & 1) != 0)
                join_reg(join, &join->old->frame[f].r[i], &join->fresh->frame[f].r[i], f, i, pass,
                         &join->out->frame[f].r[i]);
}

/* Pieces that both states have, and numbers in bytes that one of them has as such. */
static void join_stack(struct join *join, int pass)
{
    struct oko_state *out = join->out;
    for (uint32_t f = 0; f < out->n_frames; f++)
        for (uint32_t k = 0; k < OKO_STACK_SIZE / 64; k++)
            out->frame[f].init[k] = join->old->frame[f].init[k] & join->fresh->frame[f].init[k];
    for (uint32_t i = 0; i < join->old->n_pieces; i++) {
        const struct oko_piece *a = &join->old->piece[i];
        struct oko_piece *b = oko_state_piece(join->fresh, a->frame, a->pos, a->size);
        if (b == NULL || !oko_same_object(&a->r, &b->r))
            continue;
        struct oko_piece *have = oko_state_piece(out, a->frame, a->pos, a->size);
        if (have != NULL || pass_of(&a->r.f, &b->r.f) != pass)
            continue;
        struct oko_reg r = oko_reg_unset();
        join_reg(join, &a->r, &b->r, a->frame, 16u + a->pos, pass, &r);
        if (r.type == OKO_REG_SCALAR && a->size < 8) {
            struct oko_scalar fits = oko_scalar_unsigned(0, oko_bits_mask(8u * a->size));
            oko_scalar_meet(&r.s, &fits);
        }
        oko_state_put(out, a->frame, a->pos, a->size, &r);
    }
}

static void join_ghosts(struct join *join)
{
    struct oko_scalar any = oko_scalar_all();
    join->out->n_ghosts = 0;
    for (uint32_t i = 0; i < join->old->n_ghosts; i++)
        for (uint32_t k = 0; k < join->fresh->n_ghosts; k++) {
            const struct oko_ghost *a = &join->old->ghost[i], *b = &join->fresh->ghost[k];
            if (a->loop != b->loop || a->frame != b->frame || a->where != b->where)
                continue;
            struct oko_ghost *ghost = &join->out->ghost[join->out->n_ghosts++];
            *ghost = *a;
            ghost->f = join_form(join, &a->f, &b->f, &any, a->frame, OKO_NOWHERE);
            break;
        }
}

/* Bounds of the joined ids: the hull, or what widening makes of it. */
static bool join_bounds(struct join *join)
{
    struct oko_joiner *j = join->j;
    struct oko_rel *out = &join->out->rel;
    for (uint32_t i = 0; i < join->old->rel.n_bounds; i++) {
        const struct oko_bound *a = &join->old->rel.bound[i];
        const struct oko_bound *b = oko_rel_id(&join->fresh->rel, a->id);
        if (a->id != OKO_ID_LEN && !oko_join_kept(join, a->id))
            continue;
        int64_t lo = b == NULL ? INT64_MIN : b->lo, hi = b == NULL ? INT64_MAX : b->hi;
        lo = lo >= a->lo ? a->lo : join->mode == OKO_JOIN ? lo : oko_join_below(j, join->mode, lo);
        hi = hi <= a->hi ? a->hi : join->mode == OKO_JOIN ? hi : oko_join_above(j, join->mode, hi);
        if (a->id == OKO_ID_LEN) {
            lo = lo < 0 ? 0 : lo;
            hi = hi > OKO_MAX_PKT ? OKO_MAX_PKT : hi;
        }
        if (!oko_rel_add_id(out, a->id, lo, hi))
            return false;
    }
    for (uint32_t i = 0; i < j->n_pairs; i++) {
        const struct oko_pair *pair = &j->pair[i];
        oko_wide lo = pair->s.full.smin, hi = pair->s.full.smax;
        if (pair->exact) {
            oko_wide a_lo = oko_rel_lower(&join->old->rel, &pair->a, 1);
            oko_wide a_hi = oko_rel_upper(&join->old->rel, &pair->a, 1);
            oko_wide b_lo = oko_rel_lower(&join->fresh->rel, &pair->b, 1);
            oko_wide b_hi = oko_rel_upper(&join->fresh->rel, &pair->b, 1);
            if (join->mode != OKO_JOIN) {
                a_lo = a_lo <= b_lo ? a_lo : oko_join_below(j, join->mode, (int64_t)b_lo);
                a_hi = a_hi >= b_hi ? a_hi : oko_join_above(j, join->mode, (int64_t)b_hi);
            }
            a_lo = a_lo < b_lo ? a_lo : b_lo;
            a_hi = a_hi > b_hi ? a_hi : b_hi;
            lo = lo > a_lo ? lo : a_lo;
            hi = hi < a_hi ? hi : a_hi;
        }
        if (!oko_rel_add_id(out, pair->id, (int64_t)lo, (int64_t)hi))
            return false;
    }
    return true;
}

void oko_state_join(struct oko_joiner *j, enum oko_join_mode mode, struct oko_state *old,
                    struct oko_state *fresh, const uint16_t live[OKO_MAX_FRAMES],
                    struct oko_state *out)
{
    struct join join = {j, mode, old, fresh, out};
    uint64_t before = old->rel.work + fresh->rel.work;
    if (!oko_joiner_prepare(j, old->rel.n_bounds))
        return;
    find_local(j, old, fresh);
    out->n_frames = old->n_frames;
    out->n_pieces = out->rel.n_bounds = out->rel.n_cons = out->n_ghosts = 0;
    for (uint32_t f = 0; f < old->n_frames; f++) {
        struct oko_state_frame *frame = &out->frame[f];
        frame->func = old->frame[f].func;
        frame->call_pc = old->frame[f].call_pc;
        frame->ctx = old->frame[f].ctx;
        for (uint32_t i = 0; i < 10; i++)
            frame->r[i] = oko_reg_unset();
        frame->r[10] = old->frame[f].r[10];
    }
    for (int pass = 0; pass < N_PASSES; pass++) {
        join_registers(&join, live, pass);
        join_stack(&join, pass);
    }
    join_ghosts(&join);
    if (!join_bounds(&join))
        j->no_memory = true;
    oko_join_inequalities(&join);
    if (mode != OKO_WIDEN_MOST) {
        oko_join_similar(&join);
        oko_join_distances(&join);
    }
    out->rel.changed = false;
    j->no_memory |= out->no_memory;
    j->work += 8 + old->n_pieces / 2 + (old->rel.work + fresh->rel.work - before) / 8;
}
