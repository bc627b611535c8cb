/* Comparing and joining abstract states; see join.h. */
#include "join.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- scratch */

void oko_joiner_destroy(struct oko_joiner *j)
{
    free(j->pair);
    free(j->kept);
    free(j->image);
    free(j->has_image);
    free(j->obj);
    memset(j, 0, sizeof(*j));
}

static bool prepare(struct oko_joiner *j, uint32_t n_ids)
{
    j->n_pairs = j->n_objs = 0;
    if (n_ids > j->max_ids) {
        uint32_t max = 2 * n_ids;
        free(j->kept);
        free(j->image);
        free(j->has_image);
        j->kept = calloc(max / 64 + 1, sizeof(*j->kept));
        j->image = calloc(max, sizeof(*j->image));
        j->has_image = calloc(max, sizeof(*j->has_image));
        j->max_ids = max;
        if (j->kept == NULL || j->image == NULL || j->has_image == NULL) {
            j->max_ids = 0;
            j->no_memory = true;
            return false;
        }
    }
    memset(j->kept, 0, (n_ids / 64 + 1) * sizeof(*j->kept));
    memset(j->has_image, 0, n_ids * sizeof(*j->has_image));
    return true;
}

static struct oko_pair *add_pair(struct oko_joiner *j)
{
    if (j->n_pairs == j->max_pairs) {
        uint32_t max = j->max_pairs == 0 ? 64 : 2 * j->max_pairs;
        struct oko_pair *pair = realloc(j->pair, max * sizeof(*pair));
        if (pair == NULL) {
            j->no_memory = true;
            return NULL;
        }
        j->pair = pair;
        j->max_pairs = max;
    }
    struct oko_pair *pair = &j->pair[j->n_pairs++];
    *pair = (struct oko_pair){.where = OKO_NOWHERE};
    return pair;
}

/* The joined object of two, or 0 if there is none yet and make is false. */
static uint32_t join_obj(struct oko_joiner *j, uint32_t a, uint32_t b, uint32_t *next_id)
{
    for (uint32_t i = 0; i < j->n_objs; i++)
        if (j->obj[i][0] == a && (next_id == NULL || j->obj[i][1] == b))
            return next_id != NULL ? j->obj[i][2] : (j->obj[i][1] == b ? b : 0);
    if (j->n_objs == j->max_objs) {
        uint32_t max = j->max_objs == 0 ? 16 : 2 * j->max_objs;
        uint32_t(*obj)[3] = realloc(j->obj, max * sizeof(*obj));
        if (obj == NULL) {
            j->no_memory = true;
            return 0;
        }
        j->obj = obj;
        j->max_objs = max;
    }
    uint32_t joined = next_id == NULL ? b : (*next_id)++;
    j->obj[j->n_objs][0] = a;
    j->obj[j->n_objs][1] = b;
    j->obj[j->n_objs++][2] = joined;
    return joined;
}

static uint32_t index_of(const struct oko_state *st, uint32_t id)
{
    const struct oko_bound *bound = oko_rel_id(&st->rel, id);
    return bound == NULL ? UINT32_MAX : (uint32_t)(bound - st->rel.bound);
}

/* ---------------------------------------------------------------- inclusion */

static bool same_object(const struct oko_reg *a, const struct oko_reg *b)
{
    return a->type == b->type && a->index == b->index && a->frame == b->frame;
}

static bool reg_within(struct oko_joiner *j, const struct oko_reg *old, const struct oko_reg *fresh)
{
    if (old->type == OKO_REG_UNSET)
        return true;
    if (!same_object(old, fresh) || (fresh->maybe_null && !old->maybe_null))
        return false;
    if (old->type == OKO_REG_VALUE && join_obj(j, old->obj, fresh->obj, NULL) == 0)
        return false;
    if (old->type == OKO_REG_MAP)
        return true;
    if (!oko_scalar_within(&fresh->s, &old->s))
        return false;
    struct oko_pair *pair = add_pair(j);
    if (pair == NULL)
        return false;
    pair->a = old->f;
    pair->b = fresh->f;
    return true;
}

static bool stack_within(struct oko_joiner *j, const struct oko_state *old, struct oko_state *fresh)
{
    for (uint32_t f = 0; f < old->n_frames; f++)
        for (uint32_t k = 0; k < OKO_STACK_SIZE / 64; k++)
            if ((old->frame[f].init[k] & ~fresh->frame[f].init[k]) != 0)
                return false;
    for (uint32_t i = 0; i < old->n_pieces; i++) {
        const struct oko_piece *piece = &old->piece[i];
        const struct oko_piece *other =
            oko_state_piece(fresh, piece->frame, piece->pos, piece->size);
        struct oko_reg r;
        if (other != NULL)
            r = other->r;
        else if (oko_reg_is_pointer(&piece->r))
            return false;
        else /* other stores wrote these bytes: some number */
            r = oko_state_load(fresh, piece->frame, piece->pos, piece->size);
        if (!reg_within(j, &piece->r, &r))
            return false;
    }
    return true;
}

static bool ghosts_within(struct oko_joiner *j, const struct oko_state *old,
                          const struct oko_state *fresh)
{
    for (uint32_t i = 0; i < old->n_ghosts; i++) {
        const struct oko_ghost *a = &old->ghost[i], *b = NULL;
        for (uint32_t k = 0; k < fresh->n_ghosts && b == NULL; k++)
            if (fresh->ghost[k].loop == a->loop && fresh->ghost[k].frame == a->frame &&
                fresh->ghost[k].where == a->where)
                b = &fresh->ghost[k];
        struct oko_pair *pair = b != NULL ? add_pair(j) : NULL;
        if (pair == NULL)
            return false;
        pair->a = a->f;
        pair->b = b->f;
    }
    return true;
}

/* Replaces the old state's ids by their images; ids without one stay, and *open counts them. */
static bool substitute(const struct oko_joiner *j, const struct oko_state *old,
                       const struct oko_form *form, bool exact, struct oko_form *out,
                       uint32_t *open, uint32_t *an_open)
{
    struct oko_form sum = oko_form_const(form->c);
    *open = 0;
    for (uint32_t i = 0; i < form->n; i++) {
        uint32_t at = index_of(old, form->id[i]);
        if (at == UINT32_MAX || !j->has_image[at]) {
            ++*open;
            *an_open = i;
            continue;
        }
        if (!(exact ? oko_form_add_exact : oko_form_add)(&sum, &sum, form->coeff[i], &j->image[at]))
            return false;
    }
    *out = sum;
    return true;
}

/* Divides a form by a number; false if there is a remainder. */
static bool divide(struct oko_form *form, int64_t by)
{
    if (form->c % by != 0)
        return false;
    form->c /= by;
    for (uint32_t i = 0; i < form->n; i++) {
        if (form->coeff[i] % by != 0)
            return false;
        form->coeff[i] /= by;
    }
    return true;
}

/* One pass over the pairs: those whose old form has a single id without image give it one. */
static bool match_pairs(struct oko_joiner *j, const struct oko_state *old, bool *progress)
{
    *progress = false;
    for (uint32_t i = 0; i < j->n_pairs; i++) {
        struct oko_pair *pair = &j->pair[i];
        struct oko_form part;
        uint32_t open, k = 0;
        if (pair->done)
            continue;
        if (!substitute(j, old, &pair->a, false, &part, &open, &k))
            return false;
        if (open == 0) {
            if (!oko_form_equal(&part, &pair->b))
                return false;
            pair->done = true;
        } else if (open == 1) {
            /* b = part + coeff * id */
            struct oko_form image;
            uint32_t at = index_of(old, pair->a.id[k]);
            if (at == UINT32_MAX || !oko_form_add(&image, &pair->b, -1, &part) ||
                !divide(&image, pair->a.coeff[k]))
                return false;
            j->image[at] = image;
            j->has_image[at] = true;
            pair->done = true;
            *progress = true;
        }
    }
    return true;
}

static bool match(struct oko_joiner *j, const struct oko_state *old, const struct oko_state *fresh)
{
    bool progress;
    for (;;) {
        do {
            if (!match_pairs(j, old, &progress))
                return false;
        } while (progress);
        /* What is left has several open ids: let one mean what its name means in the new state. */
        uint32_t at = UINT32_MAX;
        for (uint32_t i = 0; i < j->n_pairs && at == UINT32_MAX; i++)
            for (uint32_t k = 0; !j->pair[i].done && k < j->pair[i].a.n; k++) {
                uint32_t here = index_of(old, j->pair[i].a.id[k]);
                if (here == UINT32_MAX)
                    return false;
                if (!j->has_image[here] && at == UINT32_MAX)
                    at = here;
            }
        if (at == UINT32_MAX)
            return true;
        if (oko_rel_id(&fresh->rel, old->rel.bound[at].id) == NULL)
            return false;
        j->image[at] = oko_form_id(old->rel.bound[at].id);
        j->has_image[at] = true;
    }
}

static bool is_constrained(const struct oko_rel *rel, uint32_t id)
{
    for (uint32_t k = 0; k < rel->n_cons; k++)
        if (oko_form_coeff(&rel->con[k], id) != 0)
            return true;
    return false;
}

static bool relation_within(struct oko_joiner *j, const struct oko_state *old,
                            struct oko_state *fresh)
{
    for (uint32_t i = 0; i < old->rel.n_bounds; i++) {
        const struct oko_bound *bound = &old->rel.bound[i];
        const struct oko_form *image = &j->image[i];
        if (!j->has_image[i]) /* nothing depends on it */
            continue;
        if (bound->lo == INT64_MIN && bound->hi == INT64_MAX &&
            !is_constrained(&old->rel, bound->id))
            continue; /* its image modulo 2^64 will do */
        for (int depth = 0;; depth++) {
            if (oko_rel_lower(&fresh->rel, image, depth) >= bound->lo &&
                oko_rel_upper(&fresh->rel, image, depth) <= bound->hi)
                break;
            if (depth == 2)
                return false;
        }
    }
    for (uint32_t i = 0; i < old->rel.n_cons; i++) {
        struct oko_form con;
        uint32_t open, k;
        if (!substitute(j, old, &old->rel.con[i], true, &con, &open, &k))
            return false;
        if (open > 0) /* kept states have forgotten ids that no location mentions */
            return false;
        if (!oko_rel_proves(&fresh->rel, &con))
            return false;
    }
    return true;
}

bool oko_state_within(struct oko_joiner *j, const struct oko_state *old, struct oko_state *fresh,
                      const uint16_t live[OKO_MAX_FRAMES])
{
    if (!prepare(j, old->rel.n_bounds))
        return false;
    uint64_t before = fresh->rel.work;
    j->work += 4 + old->n_pieces / 4;
    for (uint32_t f = 0; f < old->n_frames; f++)
        for (uint32_t i = 0; i < 10; i++)
            if ((live[f] >> i & 1) != 0 &&
                !reg_within(j, &old->frame[f].r[i], &fresh->frame[f].r[i]))
                return false;
    if (!stack_within(j, old, fresh) || !ghosts_within(j, old, fresh))
        return false;
    uint32_t len = index_of(old, OKO_ID_LEN);
    if (len != UINT32_MAX) {
        j->image[len] = oko_form_id(OKO_ID_LEN);
        j->has_image[len] = true;
    }
    bool within = match(j, old, fresh) && relation_within(j, old, fresh);
    j->work += (fresh->rel.work - before) / 8;
    return within;
}

/* ---------------------------------------------------------------- widening */

static void add_local(struct oko_joiner *j, int64_t x)
{
    for (int64_t d = -1; d <= 1; d++)
        if (j->n_local < OKO_MAX_LOCAL && x > INT32_MIN && x < UINT32_MAX)
            j->local[j->n_local++] = x + d;
}

/* A loop's bound is mostly in a comparison of the program, or in a register that the loop leaves
 * alone. */
static void find_local(struct oko_joiner *j, const struct oko_state *old,
                       const struct oko_state *fresh)
{
    j->n_local = 0;
    for (uint32_t i = 0; i < 10; i++) {
        const struct oko_reg *a = &old->frame[old->n_frames - 1].r[i];
        const struct oko_reg *b = &fresh->frame[fresh->n_frames - 1].r[i];
        if (a->type != OKO_REG_SCALAR || b->type != OKO_REG_SCALAR || !oko_form_equal(&a->f, &b->f))
            continue;
        add_local(j, a->s.full.smax);
        if (!oko_scalar_is_const(&a->s))
            add_local(j, a->s.full.smin);
    }
}

/* The next threshold beyond x: of the program (at first only), of the state, or the end of a common
 * width. */
static int64_t below(const struct oko_joiner *j, enum oko_join_mode mode, int64_t x)
{
    int64_t best = INT64_MIN;
    if (mode == OKO_WIDEN_MOST)
        return best;
    if (x >= INT32_MIN)
        best = x >= 1 ? 1 : x == 0 ? 0 : INT32_MIN;
    for (uint32_t i = 0; i < j->n_local; i++)
        if (j->local[i] <= x && j->local[i] > best)
            best = j->local[i];
    for (uint32_t i = 0; mode == OKO_WIDEN && i < j->n_thresholds && j->threshold[i] <= x; i++)
        if (j->threshold[i] > best)
            best = j->threshold[i];
    return best;
}

static int64_t above(const struct oko_joiner *j, enum oko_join_mode mode, int64_t x)
{
    int64_t best = INT64_MAX;
    if (mode == OKO_WIDEN_MOST)
        return best;
    if (x <= UINT32_MAX)
        best = x <= OKO_MAX_PKT ? OKO_MAX_PKT : UINT32_MAX;
    for (uint32_t i = 0; i < j->n_local; i++)
        if (j->local[i] >= x && j->local[i] < best)
            best = j->local[i];
    for (uint32_t i = j->n_thresholds; mode == OKO_WIDEN && i-- > 0 && j->threshold[i] >= x;)
        if (j->threshold[i] < best)
            best = j->threshold[i];
    return best;
}

/* Each description is at least as wide as the old one: a join may have sharpened it. */
static struct oko_range widen_range(const struct oko_joiner *j, enum oko_join_mode mode, unsigned w,
                                    const struct oko_range *old, struct oko_range joined)
{
    struct oko_range all = oko_range_all(w), r = *old;
    if (joined.umin < old->umin) {
        int64_t limit = joined.umin > INT64_MAX ? 0 : below(j, mode, (int64_t)joined.umin);
        r.umin = limit < 0 ? 0 : (uint64_t)limit;
    }
    if (joined.umax > old->umax) {
        int64_t limit = joined.umax > INT64_MAX ? INT64_MAX : above(j, mode, (int64_t)joined.umax);
        r.umax = limit == INT64_MAX || (uint64_t)limit > all.umax ? all.umax : (uint64_t)limit;
    }
    if (joined.smin < old->smin) {
        int64_t limit = below(j, mode, joined.smin);
        r.smin = limit < all.smin ? all.smin : limit;
    }
    if (joined.smax > old->smax) {
        int64_t limit = above(j, mode, joined.smax);
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

enum { MAX_SUM_PAIRS = 7 };

static bool has_ghost(const struct oko_state *st, const struct oko_ghost *ghost)
{
    for (uint32_t i = 0; i < st->n_ghosts; i++)
        if (st->ghost[i].loop == ghost->loop && st->ghost[i].frame == ghost->frame &&
            st->ghost[i].where == ghost->where)
            return true;
    return false;
}

/* 0 in one and 1 in the other: mostly the outcome of a test that is looked at again later, and
 * worth more than what a join of the two could say. */
static bool differing_flags(const struct oko_reg *a, const struct oko_reg *b)
{
    return a->type == OKO_REG_SCALAR && b->type == OKO_REG_SCALAR && oko_scalar_is_const(&a->s) &&
           oko_scalar_is_const(&b->s) && a->s.full.umin + b->s.full.umin == 1 &&
           a->s.full.umin <= 1;
}

uint32_t oko_state_mismatch(const struct oko_state *old, const struct oko_state *fresh, bool flags,
                            const uint16_t live[OKO_MAX_FRAMES])
{
    uint32_t n = 0;
    for (uint32_t f = 0; f < old->n_frames; f++)
        for (uint32_t i = 0; i < 10; i++)
            n += (live[f] >> i & 1) != 0 &&
                 (!same_object(&old->frame[f].r[i], &fresh->frame[f].r[i]) ||
                  (flags && differing_flags(&old->frame[f].r[i], &fresh->frame[f].r[i])));
    for (uint32_t i = 0, k = 0; i < old->n_pieces; i++) {
        const struct oko_piece *a = &old->piece[i];
        if (!oko_reg_is_pointer(&a->r))
            continue;
        while (k < fresh->n_pieces &&
               (fresh->piece[k].frame < a->frame ||
                (fresh->piece[k].frame == a->frame && fresh->piece[k].pos < a->pos)))
            k++;
        n += k == fresh->n_pieces || fresh->piece[k].frame != a->frame ||
             fresh->piece[k].pos != a->pos || !same_object(&fresh->piece[k].r, &a->r);
    }
    for (uint32_t i = 0; i < old->n_ghosts; i++)
        n += !has_ghost(fresh, &old->ghost[i]);
    for (uint32_t i = 0; i < fresh->n_ghosts; i++)
        n += !has_ghost(old, &fresh->ghost[i]);
    return n;
}

uint32_t oko_state_distance(const struct oko_state *old, const struct oko_state *fresh,
                            const uint16_t live[OKO_MAX_FRAMES])
{
    uint32_t n = 0;
    for (uint32_t f = 0; f < old->n_frames; f++)
        for (uint32_t i = 0; i < 10; i++)
            n += (live[f] >> i & 1) != 0 &&
                 !oko_form_equal(&old->frame[f].r[i].f, &fresh->frame[f].r[i].f);
    for (uint32_t i = 0, k = 0; i < old->n_pieces; i++) {
        const struct oko_piece *a = &old->piece[i];
        while (k < fresh->n_pieces &&
               (fresh->piece[k].frame < a->frame ||
                (fresh->piece[k].frame == a->frame && fresh->piece[k].pos < a->pos)))
            k++;
        n += k == fresh->n_pieces || fresh->piece[k].frame != a->frame ||
             fresh->piece[k].pos != a->pos || !oko_form_equal(&fresh->piece[k].r.f, &a->r.f);
    }
    return n;
}

struct join {
    struct oko_joiner *j;
    enum oko_join_mode mode;
    struct oko_state *old, *fresh, *out;
};

static void keep_ids(struct join *join, const struct oko_form *form)
{
    for (uint32_t i = 0; i < form->n; i++) {
        uint32_t at = index_of(join->old, form->id[i]);
        if (at != UINT32_MAX)
            join->j->kept[at / 64] |= (uint64_t)1 << (at % 64);
    }
}

static bool is_kept(const struct join *join, uint32_t id)
{
    uint32_t at = index_of(join->old, id);
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
static bool growth(const struct oko_form *a, const struct oko_form *b, int64_t *by)
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
    int64_t mine = 0, theirs = 0;
    bool constant = growth(a, b, &mine);
    struct oko_form out;
    for (uint32_t i = 0; i < j->n_pairs; i++) {
        const struct oko_pair *pair = &j->pair[i];
        int64_t k = 1;
        if (constant && growth(&pair->a, &pair->b, &theirs) && theirs != 0 && theirs != -1 &&
            mine % theirs == 0)
            k = mine / theirs;
        else if (constant && theirs == -1 && mine != INT64_MIN)
            k = -mine;
        if (!is_step(k))
            continue;
        if (as_multiple(join, pair, a, b, k, &out) ||
            (!constant && as_multiple(join, pair, a, b, -1, &out)))
            return out;
    }
    uint32_t n_summands = j->n_pairs < MAX_SUM_PAIRS ? j->n_pairs : MAX_SUM_PAIRS;
    if ((a->n > 1 || b->n > 1) && as_sum(join, a, b, n_summands, 3, &out))
        return out;
    struct oko_pair *pair = add_pair(j);
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

enum { N_PASSES = 3 };

/* The pass in which a location is joined: those that move by one come first, then plain values, so
 * that others become multiples and sums of them. */
static int pass_of(const struct oko_form *a, const struct oko_form *b)
{
    int64_t by;
    if (growth(a, b, &by) && (by == 1 || by == -1))
        return 0;
    return a->n <= 1 && b->n <= 1 ? 1 : 2;
}

static void join_reg(struct join *join, const struct oko_reg *a, const struct oko_reg *b,
                     uint32_t frame, uint32_t where, int pass, struct oko_reg *out)
{
    if (a->type == OKO_REG_UNSET || !same_object(a, b) || pass_of(&a->f, &b->f) != pass)
        return; /* out is unset */
    *out = *a;
    out->maybe_null = a->maybe_null || b->maybe_null;
    if (a->type == OKO_REG_VALUE)
        out->obj = join_obj(join->j, a->obj, b->obj, join->out->next_id);
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
        if (b == NULL || !same_object(&a->r, &b->r))
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
        if (a->id != OKO_ID_LEN && !is_kept(join, a->id))
            continue;
        int64_t lo = b == NULL ? INT64_MIN : b->lo, hi = b == NULL ? INT64_MAX : b->hi;
        lo = lo >= a->lo ? a->lo : join->mode == OKO_JOIN ? lo : below(j, join->mode, lo);
        hi = hi <= a->hi ? a->hi : join->mode == OKO_JOIN ? hi : above(j, join->mode, hi);
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
                a_lo = a_lo <= b_lo ? a_lo : below(j, join->mode, (int64_t)b_lo);
                a_hi = a_hi >= b_hi ? a_hi : above(j, join->mode, (int64_t)b_hi);
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

/* Rewrites an inequality of one state over the joined ids: each pair's form is replaced by its id
 * where that makes one of the state's own ids go away. */
static bool rewrite(struct join *join, bool from_old, const struct oko_form *con,
                    struct oko_form *out)
{
    *out = *con;
    for (uint32_t i = 0; i < join->j->n_pairs; i++) {
        const struct oko_pair *pair = &join->j->pair[i];
        const struct oko_form *side = from_old ? &pair->a : &pair->b;
        struct oko_form g = oko_form_id(pair->id);
        for (uint32_t k = 0; pair->exact && k < side->n; k++) {
            int64_t mine = oko_form_coeff(out, side->id[k]);
            if (mine == 0 || is_kept(join, side->id[k]) || mine % side->coeff[k] != 0)
                continue;
            int64_t times = mine / side->coeff[k];
            struct oko_form part;
            if (oko_form_add_exact(&part, out, -times, side) &&
                oko_form_add_exact(&part, &part, times, &g))
                *out = part;
            break;
        }
    }
    for (uint32_t i = 0; i < out->n; i++)
        if (oko_rel_id(&join->out->rel, out->id[i]) == NULL)
            return false;
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
 * that both states have is replaced by a pair of which it is one side. */
static void take_inequality(struct join *join, bool from_old, const struct oko_form *con)
{
    if (holds(join, true, con) && holds(join, false, con))
        oko_rel_assume(&join->out->rel, con);
    for (uint32_t i = 0; i < join->j->n_pairs; i++) {
        const struct oko_pair *pair = &join->j->pair[i];
        const struct oko_form *side = from_old ? &pair->a : &pair->b;
        struct oko_form variant, g = oko_form_id(pair->id);
        int64_t times = side->n == 1 ? oko_form_coeff(con, side->id[0]) : 0;
        if (!pair->exact || times == 0 || side->coeff[0] != 1)
            continue;
        if (oko_form_add_exact(&variant, con, -times, side) &&
            oko_form_add_exact(&variant, &variant, times, &g) && holds(join, true, &variant) &&
            holds(join, false, &variant))
            oko_rel_assume(&join->out->rel, &variant);
    }
}

/* Inequalities of one state that hold in the other. A widening does not take from the new state
 * what only weakens an inequality of the old one: it would be weakened again in the next round. */
static void join_inequalities(struct join *join)
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
        if (!pair->exact || !growth(&pair->a, &pair->b, &d) || d == 0 || grown % d != 0)
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

static void join_similar(struct join *join)
{
    const struct oko_rel *a = &join->old->rel, *b = &join->fresh->rel;
    for (uint32_t i = 0; i < a->n_cons; i++)
        for (uint32_t k = 0; k < b->n_cons; k++) {
            struct oko_form x = a->con[i], y = b->con[k];
            y.c = x.c;
            if (oko_form_equal(&x, &y))
                join_in_step(join, &x, b->con[k].c);
        }
    for (uint32_t i = 0; i < a->n_bounds; i++) {
        const struct oko_bound *x = &a->bound[i], *y = oko_rel_id(b, x->id);
        if (y == NULL || (x->id != OKO_ID_LEN && !is_kept(join, x->id)))
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
    oko_wide db = oko_rel_lower(&join->fresh->rel, &b, 1);
    oko_wide d = da < db ? da : db;
    if (d < 0 || d > OKO_MAX_PKT)
        return;
    if (join->mode != OKO_JOIN && db < da)
        d = below(join->j, join->mode, (int64_t)d);
    struct oko_form c = oko_form_const((int64_t)d);
    if (d >= 0 && oko_form_add_exact(&con, swap ? x : &g, -1, swap ? &g : x) &&
        oko_form_add_exact(&con, &con, 1, &c))
        oko_rel_assume(&join->out->rel, &con);
}

enum { MAX_DISTANCES = 12 };

/* Distances between the values that got new ids, and from these to the length and to ids that
 * inequalities are about. */
static void join_distances(struct join *join)
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
                if (id == OKO_ID_LEN || !is_kept(join, id))
                    continue;
                join_distance(join, &x, &x, &x, pair, false);
                join_distance(join, &x, &x, &x, pair, true);
            }
    }
}

void oko_state_join(struct oko_joiner *j, enum oko_join_mode mode, struct oko_state *old,
                    struct oko_state *fresh, const uint16_t live[OKO_MAX_FRAMES],
                    struct oko_state *out)
{
    struct join join = {j, mode, old, fresh, out};
    uint64_t before = old->rel.work + fresh->rel.work;
    if (!prepare(j, old->rel.n_bounds))
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
    join_inequalities(&join);
    if (mode != OKO_WIDEN_MOST) {
        join_similar(&join);
        join_distances(&join);
    }
    out->rel.changed = false;
    j->no_memory |= out->no_memory;
    j->work += 8 + old->n_pieces / 2 + (old->rel.work + fresh->rel.work - before) / 8;
}
