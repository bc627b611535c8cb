/* Whether a state lies within another, and how alike two are; see join.h. */
#include "join_impl.h"

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

bool oko_joiner_prepare(struct oko_joiner *j, uint32_t n_ids)
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

struct oko_pair *oko_joiner_pair(struct oko_joiner *j)
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
uint32_t oko_joiner_obj(struct oko_joiner *j, uint32_t a, uint32_t b, uint32_t *next_id)
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

uint32_t oko_joiner_index(const struct oko_state *st, uint32_t id)
{
    const struct oko_bound *bound = oko_rel_id(&st->rel, id);
    return bound == NULL ? UINT32_MAX : (uint32_t)(bound - st->rel.bound);
}

/* ---------------------------------------------------------------- inclusion */

bool oko_same_object(const struct oko_reg *a, const struct oko_reg *b)
{
    return a->type == b->type && a->index == b->index && a->frame == b->frame;
}

static bool reg_within(struct oko_joiner *j, const struct oko_reg *old, const struct oko_reg *fresh)
{
    if (old->type == OKO_REG_UNSET)
        return true;
    if (!oko_same_object(old, fresh) || (fresh->maybe_null && !old->maybe_null))
        return false;
    if (old->type == OKO_REG_VALUE && oko_joiner_obj(j, old->obj, fresh->obj, NULL) == 0)
        return false;
    if (old->type == OKO_REG_MAP)
        return true;
    if (!oko_scalar_within(&fresh->s, &old->s))
        return false;
    struct oko_pair *pair = oko_joiner_pair(j);
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
        struct oko_pair *pair = b != NULL ? oko_joiner_pair(j) : NULL;
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
        uint32_t at = oko_joiner_index(old, form->id[i]);
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
            uint32_t at = oko_joiner_index(old, pair->a.id[k]);
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
                uint32_t here = oko_joiner_index(old, j->pair[i].a.id[k]);
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
    if (!oko_joiner_prepare(j, old->rel.n_bounds))
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
    uint32_t len = oko_joiner_index(old, OKO_ID_LEN);
    if (len != UINT32_MAX) {
        j->image[len] = oko_form_id(OKO_ID_LEN);
        j->has_image[len] = true;
    }
    bool within = match(j, old, fresh) && relation_within(j, old, fresh);
    j->work += (fresh->rel.work - before) / 8;
    return within;
}

/* ---------------------------------------------------------------- likeness */

static bool has_ghost(const struct oko_state *st, const struct oko_ghost *ghost)
{
    for (uint32_t i = 0; i < st->n_ghosts; i++)
        if (st->ghost[i].loop == ghost->loop && st->ghost[i].frame == ghost->frame &&
            st->ghost[i].where == ghost->where)
            return true;
    return false;
}

/* Small constants that differ: mostly the outcome of a test that is looked at again later, and
 * worth more than what a join of the two could say. */
static bool differing_flags(const struct oko_reg *a, const struct oko_reg *b, uint64_t n_flags)
{
    return a->type == OKO_REG_SCALAR && b->type == OKO_REG_SCALAR && oko_scalar_is_const(&a->s) &&
           oko_scalar_is_const(&b->s) && a->s.full.umin != b->s.full.umin &&
           a->s.full.umin < n_flags && b->s.full.umin < n_flags;
}

struct oko_likeness oko_state_compare(const struct oko_state *old, const struct oko_state *fresh,
                                      uint64_t n_flags, const uint16_t live[OKO_MAX_FRAMES])
{
    struct oko_likeness n = {0};
    for (uint32_t f = 0; f < old->n_frames; f++)
        for (uint32_t i = 0; i < 10; i++) {
            const struct oko_reg *a = &old->frame[f].r[i], *b = &fresh->frame[f].r[i];
            if ((live[f] >> i & 1) == 0)
                continue;
            n.lost += !oko_same_object(a, b);
            n.flags += differing_flags(a, b, n_flags);
            n.values += !oko_form_equal(&a->f, &b->f);
        }
    for (uint32_t i = 0, k = 0; i < old->n_pieces; i++) {
        const struct oko_piece *a = &old->piece[i];
        while (k < fresh->n_pieces &&
               (fresh->piece[k].frame < a->frame ||
                (fresh->piece[k].frame == a->frame && fresh->piece[k].pos < a->pos)))
            k++;
        bool there = k < fresh->n_pieces && fresh->piece[k].frame == a->frame &&
                     fresh->piece[k].pos == a->pos;
        n.values += !there || !oko_form_equal(&fresh->piece[k].r.f, &a->r.f);
        n.lost +=
            oko_reg_is_pointer(&a->r) && (!there || !oko_same_object(&fresh->piece[k].r, &a->r));
    }
    for (uint32_t f = 0; f < old->n_frames; f++)
        n.lost += memcmp(old->frame[f].init, fresh->frame[f].init, sizeof(old->frame[f].init)) != 0;
    for (uint32_t i = 0; i < old->n_ghosts; i++)
        n.lost += !has_ghost(fresh, &old->ghost[i]);
    for (uint32_t i = 0; i < fresh->n_ghosts; i++)
        n.lost += !has_ghost(old, &fresh->ghost[i]);
    return n;
}
