/* Linear forms and what is known of their values; see linear.h. */
#include "linear.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_EVALUATIONS = 600 }; /* of forms for one bound */

static const int64_t max_coeff = (int64_t)1 << 40;

/* ---------------------------------------------------------------- forms */

struct oko_form oko_form_const(int64_t c)
{
    return (struct oko_form){.c = c};
}

struct oko_form oko_form_id(uint32_t id)
{
    return (struct oko_form){.n = 1, .id = {id}, .coeff = {1}};
}

static bool add_terms(struct oko_form *out, const struct oko_form *a, int64_t k,
                      const struct oko_form *b)
{
    struct oko_form sum = {0};
    uint32_t i = 0, j = 0;
    while (i < a->n || j < b->n) {
        int64_t coeff = 0, scaled;
        uint32_t id;
        bool take_a = i < a->n && (j == b->n || a->id[i] <= b->id[j]);
        bool take_b = j < b->n && (i == a->n || b->id[j] <= a->id[i]);
        id = take_a ? a->id[i] : b->id[j];
        if (take_a)
            coeff = a->coeff[i++];
        if (take_b && (__builtin_mul_overflow(b->coeff[j++], k, &scaled) ||
                       __builtin_add_overflow(coeff, scaled, &coeff)))
            return false;
        if (coeff == 0)
            continue;
        if (sum.n == OKO_FORM_TERMS || coeff > max_coeff || coeff < -max_coeff)
            return false;
        sum.id[sum.n] = id;
        sum.coeff[sum.n++] = coeff;
    }
    sum.c = a->c;
    *out = sum;
    return true;
}

bool oko_form_add(struct oko_form *out, const struct oko_form *a, int64_t k,
                  const struct oko_form *b)
{
    int64_t c = (int64_t)((uint64_t)a->c + (uint64_t)k * (uint64_t)b->c);
    if (!add_terms(out, a, k, b))
        return false;
    out->c = c;
    return true;
}

bool oko_form_add_exact(struct oko_form *out, const struct oko_form *a, int64_t k,
                        const struct oko_form *b)
{
    int64_t c;
    if (__builtin_mul_overflow(b->c, k, &c) || __builtin_add_overflow(a->c, c, &c) ||
        !add_terms(out, a, k, b))
        return false;
    out->c = c;
    return true;
}

bool oko_form_equal(const struct oko_form *a, const struct oko_form *b)
{
    if (a->n != b->n || a->c != b->c)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->id[i] != b->id[i] || a->coeff[i] != b->coeff[i])
            return false;
    return true;
}

int64_t oko_form_coeff(const struct oko_form *form, uint32_t id)
{
    for (uint32_t i = 0; i < form->n; i++)
        if (form->id[i] == id)
            return form->coeff[i];
    return 0;
}

/* ---------------------------------------------------------------- intervals */

void oko_rel_init(struct oko_rel *rel)
{
    memset(rel, 0, sizeof(*rel));
}

void oko_rel_destroy(struct oko_rel *rel)
{
    free(rel->bound);
    rel->bound = NULL;
}

static bool reserve(struct oko_rel *rel, uint32_t n)
{
    if (n <= rel->max_bounds)
        return true;
    uint32_t max = n < 64 ? 64 : 2 * n;
    struct oko_bound *bound = realloc(rel->bound, max * sizeof(*bound));
    if (bound == NULL)
        return false;
    rel->bound = bound;
    rel->max_bounds = max;
    return true;
}

bool oko_rel_set(struct oko_rel *rel, const void *bounds, uint32_t n_bounds, const void *cons,
                 uint32_t n_cons)
{
    if (!reserve(rel, n_bounds))
        return false;
    if (n_bounds != 0)
        memcpy(rel->bound, bounds, n_bounds * sizeof(rel->bound[0]));
    memcpy(rel->con, cons, n_cons * sizeof(rel->con[0]));
    rel->n_bounds = n_bounds;
    rel->n_cons = n_cons;
    rel->changed = false;
    return true;
}

bool oko_rel_add_id(struct oko_rel *rel, uint32_t id, int64_t lo, int64_t hi)
{
    if (!reserve(rel, rel->n_bounds + 1))
        return false;
    rel->bound[rel->n_bounds++] = (struct oko_bound){id, lo, hi};
    return true;
}

static struct oko_bound *find(const struct oko_rel *rel, uint32_t id)
{
    uint32_t lo = 0, hi = rel->n_bounds;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (rel->bound[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < rel->n_bounds && rel->bound[lo].id == id ? &rel->bound[lo] : NULL;
}

const struct oko_bound *oko_rel_id(const struct oko_rel *rel, uint32_t id)
{
    return find(rel, id);
}

bool oko_rel_narrow(struct oko_rel *rel, uint32_t id, int64_t lo, int64_t hi)
{
    struct oko_bound *bound = find(rel, id);
    if (bound == NULL)
        return true;
    if (lo > bound->lo)
        bound->lo = lo, rel->changed = true;
    if (hi < bound->hi)
        bound->hi = hi, rel->changed = true;
    return bound->lo <= bound->hi;
}

void oko_rel_bounds(struct oko_rel *rel, const struct oko_form *form, oko_wide *lo, oko_wide *hi)
{
    rel->work++;
    *lo = *hi = form->c;
    for (uint32_t i = 0; i < form->n; i++) {
        const struct oko_bound *bound = find(rel, form->id[i]);
        int64_t least = bound != NULL ? bound->lo : INT64_MIN;
        int64_t most = bound != NULL ? bound->hi : INT64_MAX;
        int64_t coeff = form->coeff[i];
        *lo += (oko_wide)coeff * (coeff > 0 ? least : most);
        *hi += (oko_wide)coeff * (coeff > 0 ? most : least);
    }
}

/* ---------------------------------------------------------------- proofs */

/* The largest value of a form by the intervals alone. */
static oko_wide most(struct oko_rel *rel, const struct oko_form *form)
{
    oko_wide sum = form->c;
    rel->work++;
    for (uint32_t i = 0; i < form->n; i++) {
        const struct oko_bound *bound = find(rel, form->id[i]);
        if (form->coeff[i] > 0)
            sum += (oko_wide)form->coeff[i] * (bound != NULL ? bound->hi : INT64_MAX);
        else
            sum += (oko_wide)form->coeff[i] * (bound != NULL ? bound->lo : INT64_MIN);
    }
    return sum;
}

/* form = (form - m * con) + m * con <= form - m * con, for m > 0: an inequality that shares an id
 * with the form is subtracted so that the id goes away. */
static oko_wide upper(struct oko_rel *rel, const struct oko_form *form, int depth, uint64_t limit)
{
    oko_wide best = most(rel, form);
    if (depth == 0 || form->n == 0)
        return best;
    for (uint32_t k = 0; k < rel->n_cons && rel->work < limit; k++) {
        const struct oko_form *con = &rel->con[k];
        int64_t tried = 0;
        for (uint32_t i = 0, j = 0; i < form->n && j < con->n;) {
            if (form->id[i] != con->id[j]) {
                *(form->id[i] < con->id[j] ? &i : &j) += 1;
                continue;
            }
            int64_t mine = form->coeff[i++], theirs = con->coeff[j++];
            if ((mine ^ theirs) < 0 || mine % theirs != 0)
                continue;
            int64_t m = mine / theirs;
            struct oko_form rest;
            if (m == tried || !oko_form_add_exact(&rest, form, -m, con))
                continue;
            tried = m;
            oko_wide with = upper(rel, &rest, depth - 1, limit);
            if (with < best)
                best = with;
        }
    }
    return best;
}

oko_wide oko_rel_upper(struct oko_rel *rel, const struct oko_form *form, int depth)
{
    return upper(rel, form, depth, rel->work + MAX_EVALUATIONS);
}

static struct oko_form negated(const struct oko_form *form)
{
    struct oko_form out = *form;
    for (uint32_t i = 0; i < out.n; i++)
        out.coeff[i] = -out.coeff[i];
    out.c = -out.c;
    return out;
}

oko_wide oko_rel_lower(struct oko_rel *rel, const struct oko_form *form, int depth)
{
    oko_wide lo, hi;
    if (depth == 0 || form->c == INT64_MIN) {
        oko_rel_bounds(rel, form, &lo, &hi);
        return lo;
    }
    struct oko_form minus = negated(form);
    return -oko_rel_upper(rel, &minus, depth);
}

static oko_wide floor_div(oko_wide a, oko_wide b)
{
    oko_wide q = a / b;
    return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}

static int64_t clamp(oko_wide x)
{
    return x < INT64_MIN ? INT64_MIN : x > INT64_MAX ? INT64_MAX : (int64_t)x;
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

int64_t oko_form_content(const struct oko_form *form)
{
    int64_t common = 0;
    for (uint32_t i = 0; i < form->n; i++)
        common = gcd(common, form->coeff[i]);
    return form->c == INT64_MIN ? 1 : gcd(common, form->c);
}

/* Divides by what the coefficients have in common; the constant is rounded up, since the rest is an
 * integer: 2x - 4y + 1 <= 0 says x - 2y + 1 <= 0. */
static struct oko_form reduced(const struct oko_form *form)
{
    struct oko_form out = *form;
    int64_t common = 0;
    for (uint32_t i = 0; i < out.n; i++)
        common = gcd(common, out.coeff[i]);
    if (common <= 1)
        return out;
    for (uint32_t i = 0; i < out.n; i++)
        out.coeff[i] /= common;
    out.c = -clamp(floor_div(-(oko_wide)out.c, common));
    return out;
}

bool oko_rel_proves(struct oko_rel *rel, const struct oko_form *inequality)
{
    struct oko_form small = reduced(inequality), *form = &small;
    for (int depth = 0; depth <= 3; depth++)
        if (oko_rel_upper(rel, form, depth) <= 0)
            return true;
    return false;
}

/* con <= 0 bounds each of its ids by the others' intervals. */
static bool tighten(struct oko_rel *rel, const struct oko_form *con)
{
    oko_wide lo, hi;
    oko_rel_bounds(rel, con, &lo, &hi);
    if (lo > 0)
        return false;
    for (uint32_t i = 0; i < con->n; i++) {
        const struct oko_bound *bound = find(rel, con->id[i]);
        int64_t coeff = con->coeff[i];
        if (bound == NULL)
            continue;
        /* coeff * x <= -(rest's least value) */
        oko_wide own = (oko_wide)coeff * (coeff > 0 ? bound->lo : bound->hi);
        oko_wide limit = -(lo - own);
        bool ok =
            coeff > 0
                ? oko_rel_narrow(rel, con->id[i], INT64_MIN, clamp(floor_div(limit, coeff)))
                : oko_rel_narrow(rel, con->id[i], clamp(-floor_div(limit, -coeff)), INT64_MAX);
        if (!ok)
            return false;
    }
    return true;
}

static bool same_terms(const struct oko_form *a, const struct oko_form *b)
{
    struct oko_form x = *a, y = *b;
    x.c = y.c = 0;
    return oko_form_equal(&x, &y);
}

static void drop(struct oko_rel *rel, uint32_t k)
{
    rel->n_cons--;
    memmove(&rel->con[k], &rel->con[k + 1], (rel->n_cons - k) * sizeof(rel->con[0]));
}

/* Keeps an inequality of two ids or more, unless it follows from the others; of those with the same
 * terms the sharpest; when there is no room, instead of the oldest. */
static void remember(struct oko_rel *rel, const struct oko_form *con)
{
    if (con->n < 2 || oko_rel_upper(rel, con, 2) <= 0)
        return;
    for (uint32_t k = 0; k < rel->n_cons; k++)
        if (same_terms(&rel->con[k], con)) {
            rel->con[k].c = con->c; /* larger, or it would follow */
            return;
        }
    if (rel->n_cons == OKO_REL_CONS)
        drop(rel, 0);
    rel->con[rel->n_cons++] = *con;
}

bool oko_rel_assume(struct oko_rel *rel, const struct oko_form *inequality)
{
    struct oko_form small = reduced(inequality), *form = &small;
    if (!tighten(rel, form))
        return false;
    remember(rel, form);
    /* Two rounds let a new bound travel through another inequality. */
    for (int round = 0; round < 2; round++)
        for (uint32_t k = 0; k < rel->n_cons; k++)
            if (!tighten(rel, &rel->con[k]))
                return false;
    return true;
}

/* ---------------------------------------------------------------- forgetting */

/* Fourier-Motzkin: what the inequalities with an id say about the others. The id cancels in the sum
 * of two of them, or gives way to the end of its interval. Then those with the id go. */
static void eliminate(struct oko_rel *rel, const struct oko_bound *bound)
{
    struct oko_form with[OKO_REL_CONS], sum, id = oko_form_id(bound->id);
    uint32_t n = 0;
    for (uint32_t k = rel->n_cons; k-- > 0;)
        if (oko_form_coeff(&rel->con[k], bound->id) != 0) {
            with[n++] = rel->con[k];
            drop(rel, k);
        }
    for (uint32_t p = n; p-- > 0;) { /* the oldest first, as they were */
        int64_t a = oko_form_coeff(&with[p], bound->id);
        struct oko_form end = oko_form_const(a > 0 ? bound->lo : bound->hi);
        if (oko_form_add_exact(&sum, &with[p], -a, &id) && oko_form_add_exact(&sum, &sum, a, &end))
            remember(rel, &sum);
        for (uint32_t q = 0; a > 0 && q < n; q++) {
            int64_t b = oko_form_coeff(&with[q], bound->id);
            if (b < 0 && a % b == 0 && oko_form_add_exact(&sum, &with[p], -(a / b), &with[q]))
                remember(rel, &sum);
        }
    }
}

void oko_rel_forget(struct oko_rel *rel, const uint64_t *keep)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < rel->n_bounds; i++) {
        bool stays = (keep[i / 64] >> (i % 64) & 1) != 0;
        for (uint32_t k = 0; k < rel->n_cons && !stays; k++)
            if (oko_form_coeff(&rel->con[k], rel->bound[i].id) != 0) {
                eliminate(rel, &rel->bound[i]);
                break;
            }
    }
    for (uint32_t i = 0; i < rel->n_bounds; i++)
        if ((keep[i / 64] >> (i % 64) & 1) != 0)
            rel->bound[n++] = rel->bound[i];
    rel->n_bounds = n;
}
