/* Registers, pieces of stack, and what branches teach about them; see state.h. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

static const oko_wide two64 = (oko_wide)1 << 64;
static const oko_wide two32 = (oko_wide)1 << 32;

/* ---------------------------------------------------------------- making and keeping */

int oko_state_init(struct oko_state *st, uint32_t *next_id)
{
    memset(st, 0, sizeof(*st));
    st->next_id = next_id;
    oko_rel_init(&st->rel);
    return 0;
}

void oko_state_destroy(struct oko_state *st)
{
    free(st->piece);
    st->piece = NULL;
    oko_rel_destroy(&st->rel);
}

struct oko_packed *oko_state_pack(const struct oko_state *st)
{
    size_t frames = st->n_frames * sizeof(st->frame[0]);
    size_t pieces = st->n_pieces * sizeof(st->piece[0]);
    size_t ghosts = st->n_ghosts * sizeof(st->ghost[0]);
    size_t bounds = st->rel.n_bounds * sizeof(st->rel.bound[0]);
    size_t cons = st->rel.n_cons * sizeof(st->rel.con[0]);
    size_t size = sizeof(struct oko_packed) + frames + pieces + ghosts + bounds + cons;
    struct oko_packed *packed = malloc(size);
    if (packed == NULL)
        return NULL;
    *packed = (struct oko_packed){(uint32_t)size, st->n_frames,     st->n_pieces,
                                  st->n_ghosts,   st->rel.n_bounds, st->rel.n_cons};
    uint8_t *at = (uint8_t *)(packed + 1);
    memcpy(at, st->frame, frames);
    at += frames;
    if (pieces != 0)
        memcpy(at, st->piece, pieces);
    at += pieces;
    memcpy(at, st->ghost, ghosts);
    at += ghosts;
    if (bounds != 0)
        memcpy(at, st->rel.bound, bounds);
    at += bounds;
    memcpy(at, st->rel.con, cons);
    return packed;
}

static bool reserve_pieces(struct oko_state *st, uint32_t n)
{
    if (n <= st->max_pieces)
        return true;
    uint32_t max = n < 32 ? 32 : 2 * n;
    struct oko_piece *piece = realloc(st->piece, max * sizeof(*piece));
    if (piece == NULL) {
        st->no_memory = true;
        return false;
    }
    st->piece = piece;
    st->max_pieces = max;
    return true;
}

void oko_state_copy(struct oko_state *st, const struct oko_state *from)
{
    if (!reserve_pieces(st, from->n_pieces) ||
        !oko_rel_set(&st->rel, from->rel.bound, from->rel.n_bounds, from->rel.con,
                     from->rel.n_cons)) {
        st->no_memory = true;
        return;
    }
    st->n_frames = from->n_frames;
    memcpy(st->frame, from->frame, from->n_frames * sizeof(st->frame[0]));
    st->n_pieces = from->n_pieces;
    if (from->n_pieces != 0)
        memcpy(st->piece, from->piece, from->n_pieces * sizeof(st->piece[0]));
    st->n_ghosts = from->n_ghosts;
    memcpy(st->ghost, from->ghost, from->n_ghosts * sizeof(st->ghost[0]));
    st->no_memory |= from->no_memory;
}

bool oko_state_unpack(struct oko_state *st, const struct oko_packed *packed)
{
    const uint8_t *at = (const uint8_t *)(packed + 1);
    if (!reserve_pieces(st, packed->n_pieces))
        return false;
    st->n_frames = packed->n_frames;
    memcpy(st->frame, at, packed->n_frames * sizeof(st->frame[0]));
    at += packed->n_frames * sizeof(st->frame[0]);
    st->n_pieces = packed->n_pieces;
    if (packed->n_pieces != 0)
        memcpy(st->piece, at, packed->n_pieces * sizeof(st->piece[0]));
    at += packed->n_pieces * sizeof(st->piece[0]);
    st->n_ghosts = packed->n_ghosts;
    memcpy(st->ghost, at, packed->n_ghosts * sizeof(st->ghost[0]));
    at += packed->n_ghosts * sizeof(st->ghost[0]);
    if (!oko_rel_set(&st->rel, at, packed->n_bounds,
                     at + packed->n_bounds * sizeof(struct oko_bound), packed->n_cons)) {
        st->no_memory = true;
        return false;
    }
    return true;
}

void oko_state_each(struct oko_state *st, void (*fn)(void *arg, struct oko_reg *r), void *arg)
{
    for (uint32_t f = 0; f < st->n_frames; f++)
        for (uint32_t i = 0; i < OKO_N_REGS; i++)
            if (st->frame[f].r[i].type != OKO_REG_UNSET)
                fn(arg, &st->frame[f].r[i]);
    for (uint32_t i = 0; i < st->n_pieces; i++)
        fn(arg, &st->piece[i].r);
}

/* ---------------------------------------------------------------- registers */

struct oko_reg oko_reg_unset(void)
{
    return (struct oko_reg){.type = OKO_REG_UNSET};
}

struct oko_reg oko_reg_const(uint64_t x)
{
    return (struct oko_reg){
        .type = OKO_REG_SCALAR, .s = oko_scalar_const(x), .f = oko_form_const((int64_t)x)};
}

/* Gives the register the form of a fresh id, times the power of two that divides it. */
static void rename_value(struct oko_state *st, struct oko_reg *r)
{
    const struct oko_range *full = &r->s.full;
    if (oko_scalar_is_const(&r->s)) {
        r->f = oko_form_const((int64_t)full->umin);
        return;
    }
    uint64_t bits = full->value | full->mask;
    unsigned zeros = bits == 0 ? 0 : (unsigned)__builtin_ctzll(bits);
    uint32_t id = (*st->next_id)++;
    zeros = zeros > 32 ? 32 : zeros;
    if (!oko_rel_add_id(&st->rel, id, full->smin >> zeros, full->smax >> zeros))
        st->no_memory = true;
    r->f = oko_form_id(id);
    r->f.coeff[0] = (int64_t)1 << zeros;
}

struct oko_reg oko_reg_fresh(struct oko_state *st, struct oko_scalar s)
{
    struct oko_reg r = {.type = OKO_REG_SCALAR, .s = s};
    rename_value(st, &r);
    return r;
}

struct oko_reg oko_reg_loaded(struct oko_state *st, unsigned size)
{
    return oko_reg_fresh(st, size == 8 ? oko_scalar_all()
                                       : oko_scalar_unsigned(0, oko_bits_mask(8 * size)));
}

struct oko_reg oko_reg_pointer(enum oko_reg_type type)
{
    struct oko_reg r = oko_reg_const(0);
    r.type = (uint8_t)type;
    return r;
}

bool oko_reg_offset_const(const struct oko_reg *r, int64_t *off)
{
    *off = r->s.full.smin;
    return oko_scalar_is_const(&r->s);
}

void oko_reg_offset(struct oko_state *st, const struct oko_reg *r, oko_wide *lo, oko_wide *hi)
{
    *lo = oko_rel_lower(&st->rel, &r->f, 2);
    *hi = oko_rel_upper(&st->rel, &r->f, 2);
    /* The signed interval describes the same number modulo 2^64; it may stand for the form's
     * integer where it is the only candidate. */
    if (*lo >= INT64_MIN && *hi <= INT64_MAX) {
        *lo = *lo < r->s.full.smin ? r->s.full.smin : *lo;
        *hi = *hi > r->s.full.smax ? r->s.full.smax : *hi;
    } else {
        *lo = r->s.full.smin;
        *hi = r->s.full.smax;
    }
}

/* ---------------------------------------------------------------- arithmetic */

/* The form's bounds sharpen the scalar where no wrap-around separates the two. */
static bool scalar_from_form(struct oko_state *st, struct oko_reg *r)
{
    oko_wide lo, hi;
    if (r->f.n == 0)
        return true;
    int depth = r->f.n > 1 ? 1 : 0;
    lo = oko_rel_lower(&st->rel, &r->f, depth);
    hi = oko_rel_upper(&st->rel, &r->f, depth);
    if (lo > hi)
        return false;
    if (lo >= 0 && hi < two64) {
        struct oko_range bound = oko_range_all(64);
        bound.umin = (uint64_t)lo, bound.umax = (uint64_t)hi;
        if (!oko_range_meet(64, &r->s.full, &bound))
            return false;
    }
    if (lo >= INT64_MIN && hi <= INT64_MAX) {
        struct oko_range bound = oko_range_all(64);
        bound.smin = (int64_t)lo, bound.smax = (int64_t)hi;
        if (!oko_range_meet(64, &r->s.full, &bound))
            return false;
    }
    return oko_scalar_tidy(&r->s);
}

/* Finishes an operation whose result's scalar is known and whose form is f modulo 2^bits (if has).
 * For 32 bits the form is right as it stands, or up to one multiple of 2^32, or not at all. */
static void finish(struct oko_state *st, struct oko_reg *r, bool has, struct oko_form f,
                   unsigned bits)
{
    if (oko_scalar_is_const(&r->s) || !has) {
        rename_value(st, r);
        return;
    }
    if (bits == 32) {
        oko_wide lo = oko_rel_lower(&st->rel, &f, 1), hi = oko_rel_upper(&st->rel, &f, 1);
        /* result = f - k * 2^32 lies in [umin, umax] */
        oko_wide first = (lo - (oko_wide)r->s.full.umax + two32 - 1) >> 32;
        oko_wide last = (hi - (oko_wide)r->s.full.umin) >> 32;
        struct oko_form k = oko_form_const((int64_t)first);
        if (first != last || first > INT32_MAX || first < INT32_MIN ||
            !oko_form_add_exact(&f, &f, -((int64_t)1 << 32), &k)) {
            rename_value(st, r);
            return;
        }
    }
    if (f.n == 0) { /* the parts cancel out */
        r->s = oko_scalar_const((uint64_t)f.c);
        r->f = f;
        return;
    }
    r->f = f;
    scalar_from_form(st, r);
    if (oko_scalar_is_const(&r->s))
        r->f = oko_form_const((int64_t)r->s.full.umin);
}

/* The form divided by a constant; the number must equal the form's integer. */
static bool divide_form(struct oko_state *st, const struct oko_reg *r, int64_t by,
                        struct oko_form *out)
{
    oko_wide lo = oko_rel_lower(&st->rel, &r->f, 1), hi = oko_rel_upper(&st->rel, &r->f, 1);
    if (lo < 0 || hi >= two64 || r->f.c % by != 0)
        return false;
    *out = r->f;
    out->c /= by;
    for (uint32_t i = 0; i < out->n; i++) {
        if (out->coeff[i] % by != 0)
            return false;
        out->coeff[i] /= by;
    }
    return true;
}

/* All bits that may be set. */
static uint64_t possible(const struct oko_range *r)
{
    return r->value | r->mask;
}

/* The linear form of an operation, if it has one. */
static bool alu_form(struct oko_state *st, uint8_t op, bool is64, const struct oko_reg *a,
                     const struct oko_reg *b, struct oko_form *out)
{
    const struct oko_range *ra = is64 ? &a->s.full : &a->s.low;
    const struct oko_range *rb = is64 ? &b->s.full : &b->s.low;
    bool known = oko_range_is_const(rb);
    bool whole = is64 || oko_scalar_fits32(&a->s); /* the number, not only its lower half */
    struct oko_form zero = oko_form_const(0);
    switch (op) {
    case BPF_ADD:
        return oko_form_add(out, &a->f, 1, &b->f);
    case BPF_SUB:
        return oko_form_add(out, &a->f, -1, &b->f);
    case BPF_MUL:
        if (oko_range_is_const(ra))
            return oko_form_add(out, &zero, ra->smin, &b->f);
        return known && oko_form_add(out, &zero, rb->smin, &a->f);
    case BPF_LSH: {
        uint64_t n = rb->umin & (is64 ? 63 : 31);
        return known && n < 48 && oko_form_add(out, &zero, (int64_t)1 << n, &a->f);
    }
    case BPF_RSH:
        return known && whole && (rb->umin & 63) < 48 &&
               divide_form(st, a, (int64_t)1 << (rb->umin & 63), out);
    case BPF_ARSH: /* of numbers that are not negative */
        return known && is64 && a->s.full.smin >= 0 && (rb->umin & 63) < 48 &&
               divide_form(st, a, (int64_t)1 << (rb->umin & 63), out);
    case BPF_DIV:
        return known && whole && rb->smin > 0 && divide_form(st, a, rb->smin, out);
    case BPF_AND: /* that changes nothing */
        if (known && (possible(ra) & ~rb->umin) == 0) {
            *out = a->f;
            return true;
        }
        return false;
    case BPF_OR:
    case BPF_XOR: /* of bits that cannot meet: a sum */
        return (possible(ra) & possible(rb)) == 0 && oko_form_add(out, &a->f, 1, &b->f);
    default:
        return false;
    }
}

/* r = a / by, rounded down, or (is_and) a without its lower bits, by - 1 of them: the remainder is
 * at least 0 and below `by`. What such a quotient is multiplied with again, or subtracted from, is
 * then known to stay within a. */
static void relate_quotient(struct oko_state *st, const struct oko_reg *r, const struct oko_form *a,
                            int64_t by, bool is_and)
{
    struct oko_form rest, neg, zero = oko_form_const(0), top = oko_form_const(by - 1);
    oko_wide lo = oko_rel_lower(&st->rel, a, 1), hi = oko_rel_upper(&st->rel, a, 1);
    if (lo < 0 || hi > UINT32_MAX || r->f.n == 0 || a->n == 0)
        return;
    if (!oko_form_add_exact(&rest, a, is_and ? -1 : -by, &r->f) ||
        !oko_form_add_exact(&neg, &zero, -1, &rest) || !oko_form_add_exact(&rest, &rest, -1, &top))
        return;
    oko_rel_assume(&st->rel, &neg);
    oko_rel_assume(&st->rel, &rest);
}

/* r = a >> shift where a = m * x: compilers write a division of x so. With d = ceil(2^shift / m)
 * and e = m * d - 2^shift, m * x / 2^shift exceeds x / d by e * x / (d * 2^shift), which is below 1
 * / d and so changes no quotient while e * x < 2^shift (Granlund and Montgomery, PLDI 1994). */
static void relate_reciprocal(struct oko_state *st, const struct oko_reg *r,
                              const struct oko_form *a, unsigned shift)
{
    struct oko_form x = *a;
    int64_t m = oko_form_content(a);
    if (m <= 1)
        return;
    x.c /= m;
    for (uint32_t i = 0; i < x.n; i++)
        x.coeff[i] /= m;
    oko_wide power = (oko_wide)1 << shift, d = (power + m - 1) / m;
    oko_wide most = oko_rel_upper(&st->rel, &x, 1);
    if (most > UINT32_MAX || oko_rel_lower(&st->rel, &x, 1) < 0 || most * m >= two64)
        return;
    if (d > 1 && d <= INT32_MAX && (m * d - power) * most < power)
        relate_quotient(st, r, &x, (int64_t)d, false);
}

static void relate_result(struct oko_state *st, uint8_t op, bool is64, const struct oko_reg *r,
                          const struct oko_reg *a, const struct oko_reg *b)
{
    const struct oko_range *rb = is64 ? &b->s.full : &b->s.low;
    bool whole = is64 || oko_scalar_fits32(&a->s);
    uint64_t low = ~rb->umin & (is64 ? UINT64_MAX : UINT32_MAX);
    if (!whole || !oko_range_is_const(rb))
        return;
    if (op == BPF_DIV && rb->umin > 1 && rb->umin <= INT32_MAX)
        relate_quotient(st, r, &a->f, (int64_t)rb->umin, false);
    else if (op == BPF_RSH && rb->umin > 0 && rb->umin < 32)
        relate_quotient(st, r, &a->f, (int64_t)1 << rb->umin, false);
    else if (op == BPF_RSH && is64 && rb->umin >= 32 && rb->umin < 64)
        relate_reciprocal(st, r, &a->f, (unsigned)rb->umin);
    else if (op == BPF_AND && low > 0 && low < OKO_MAX_PKT && (low & (low + 1)) == 0)
        relate_quotient(st, r, &a->f, (int64_t)low + 1, true);
}

void oko_reg_alu(struct oko_state *st, uint8_t op, bool is64, bool sign, struct oko_reg *dst,
                 const struct oko_reg *src)
{
    struct oko_form f = oko_form_const(0);
    bool has = !(sign && op == BPF_DIV) && alu_form(st, op, is64, dst, src, &f);
    struct oko_reg r = *dst;
    r.s = oko_scalar_alu(op, is64, sign, &dst->s, &src->s);
    finish(st, &r, has, f, is64 ? 64 : 32);
    if (!has && !sign && r.type == OKO_REG_SCALAR)
        relate_result(st, op, is64, &r, dst, src);
    *dst = r;
}

void oko_reg_neg(struct oko_state *st, bool is64, struct oko_reg *dst)
{
    struct oko_form zero = oko_form_const(0), f;
    bool has = oko_form_add(&f, &zero, -1, &dst->f);
    dst->s = oko_scalar_neg(is64, &dst->s);
    finish(st, dst, has, f, is64 ? 64 : 32);
}

void oko_reg_zext(struct oko_state *st, unsigned bits, struct oko_reg *dst)
{
    if (dst->s.full.umax <= oko_bits_mask(bits))
        return;
    dst->s = oko_scalar_zext(bits, &dst->s);
    finish(st, dst, bits == 32, dst->f, 32);
}

void oko_reg_sext(struct oko_state *st, unsigned bits, bool is64, struct oko_reg *dst)
{
    int64_t most = (int64_t)oko_bits_mask(bits - 1);
    bool same = dst->s.full.smin >= (is64 ? -most - 1 : 0) && dst->s.full.smax <= most;
    if (same)
        return;
    dst->s = oko_scalar_sext(bits, is64, &dst->s);
    rename_value(st, dst);
}

void oko_reg_swap(struct oko_state *st, unsigned bits, struct oko_reg *dst)
{
    dst->s = oko_scalar_swap(bits, &dst->s);
    rename_value(st, dst);
}

/* ---------------------------------------------------------------- what branches teach */

/* The register's scalar has been narrowed: its form's integer is narrowed too, if only one
 * multiple of 2^64 can separate them. */
static bool form_from_scalar(struct oko_state *st, const struct oko_reg *r)
{
    if (r->f.n == 0)
        return true;
    oko_wide flo, fhi;
    oko_rel_bounds(&st->rel, &r->f, &flo, &fhi);
    for (int view = 0; view < 2; view++) {
        oko_wide lo = view == 0 ? (oko_wide)r->s.full.umin : (oko_wide)r->s.full.smin;
        oko_wide hi = view == 0 ? (oko_wide)r->s.full.umax : (oko_wide)r->s.full.smax;
        oko_wide first = (flo - hi + two64 - 1) >> 64, last = (fhi - lo) >> 64;
        if (first > last)
            return false;
        if (first != last)
            continue;
        lo += first * two64;
        hi += first * two64;
        for (int side = 0; side < 2; side++) {
            oko_wide limit = side == 0 ? lo : hi;
            if ((side == 0 ? limit <= flo : limit >= fhi) || limit < INT64_MIN || limit > INT64_MAX)
                continue;
            struct oko_form c = oko_form_const((int64_t)limit), con;
            bool fits = side == 0 ? oko_form_add_exact(&con, &c, -1, &r->f)
                                  : oko_form_add_exact(&con, &r->f, -1, &c);
            if (fits && !oko_rel_assume(&st->rel, &con))
                return false;
        }
    }
    return true;
}

struct spread {
    struct oko_state *st;
    struct oko_reg known;
    bool possible;
};

static void spread_copy(void *arg, struct oko_reg *r)
{
    struct spread *spread = arg;
    if (r->type != OKO_REG_MAP && oko_form_equal(&r->f, &spread->known.f) &&
        !oko_scalar_meet(&r->s, &spread->known.s))
        spread->possible = false;
}

static void spread_form(void *arg, struct oko_reg *r)
{
    struct spread *spread = arg;
    if (r->type != OKO_REG_MAP && r->f.n > 0 && !scalar_from_form(spread->st, r))
        spread->possible = false;
}

/* A narrowed register teaches about its copies and, through bounds of ids, about all others. */
static bool learn(struct oko_state *st, const struct oko_reg *r)
{
    struct spread spread = {st, *r, true};
    if (r->f.n == 0)
        return true;
    oko_state_each(st, spread_copy, &spread);
    return spread.possible && form_from_scalar(st, r);
}

/* Whether the number, or the address's offset, is its form's integer under the comparison. */
static bool exact(struct oko_state *st, const struct oko_reg *r, bool is64, bool is_signed)
{
    oko_wide lo = oko_rel_lower(&st->rel, &r->f, 1), hi = oko_rel_upper(&st->rel, &r->f, 1);
    if (r->type != OKO_REG_SCALAR) /* addresses do not wrap within 4 GiB of their base */
        return lo >= 0 && hi < two32;
    if (!is64)
        return lo >= 0 && hi < (is_signed ? two32 / 2 : two32);
    return is_signed ? lo >= INT64_MIN && hi <= INT64_MAX : lo >= 0 && hi < two64;
}

/* x <= 0 between integers: contradicts what is known, or is learnt. */
static bool assume_form(struct oko_state *st, const struct oko_form *x)
{
    struct oko_form one = oko_form_const(1), opposite;
    if (oko_form_add_exact(&opposite, &one, -1, x) && oko_rel_proves(&st->rel, &opposite))
        return false;
    return oko_rel_assume(&st->rel, x);
}

/* a <= b - strict. */
static bool assume_order(struct oko_state *st, const struct oko_form *a, const struct oko_form *b,
                         int64_t strict)
{
    struct oko_form x, c = oko_form_const(strict);
    if (!oko_form_add_exact(&x, a, -1, b) || !oko_form_add_exact(&x, &x, 1, &c))
        return true;
    return assume_form(st, &x);
}

static bool proves_order(struct oko_state *st, const struct oko_form *a, const struct oko_form *b)
{
    struct oko_form x;
    return oko_form_add_exact(&x, a, -1, b) && oko_rel_proves(&st->rel, &x);
}

static bool assume_relation(struct oko_state *st, enum oko_cmp cmp, const struct oko_form *a,
                            const struct oko_form *b)
{
    switch (cmp) {
    case OKO_CMP_EQ:
        return assume_order(st, a, b, 0) && assume_order(st, b, a, 0);
    case OKO_CMP_NE: /* an end of what is possible goes away: how "i != n" bounds a loop */
        if (oko_form_equal(a, b))
            return false;
        if (proves_order(st, a, b))
            return assume_order(st, a, b, 1);
        if (proves_order(st, b, a))
            return assume_order(st, b, a, 1);
        return true;
    case OKO_CMP_LT:
    case OKO_CMP_SLT:
        return assume_order(st, a, b, 1);
    case OKO_CMP_LE:
    case OKO_CMP_SLE:
        return assume_order(st, a, b, 0);
    case OKO_CMP_GT:
    case OKO_CMP_SGT:
        return assume_order(st, b, a, 1);
    case OKO_CMP_GE:
    case OKO_CMP_SGE:
        return assume_order(st, b, a, 0);
    default:
        return true;
    }
}

bool oko_state_assume(struct oko_state *st, bool is64, enum oko_cmp cmp, struct oko_reg *a,
                      struct oko_reg *b)
{
    bool is_signed = cmp >= OKO_CMP_SLT && cmp <= OKO_CMP_SGE;
    bool pointers = a->type != OKO_REG_SCALAR;
    struct oko_form fa = a->f, fb = b->f;
    bool linear = exact(st, a, is64, is_signed) && exact(st, b, is64, is_signed);
    if (pointers && !linear)
        return true; /* nothing is learnt */
    if (!oko_scalar_assume(is64, cmp, &a->s, &b->s))
        return false;
    if (!learn(st, a) || !learn(st, b))
        return false;
    if (linear && (fa.n > 0 || fb.n > 0) && !assume_relation(st, cmp, &fa, &fb))
        return false;
    if (st->rel.changed) {
        struct spread spread = {st, *a, true};
        st->rel.changed = false;
        oko_state_each(st, spread_form, &spread);
        if (b->f.n == 0 && !scalar_from_form(st, b))
            return false;
        return spread.possible;
    }
    return true;
}

struct null_test {
    uint32_t obj;
    bool is_null;
};

static void apply_null(void *arg, struct oko_reg *r)
{
    const struct null_test *test = arg;
    if (r->type != OKO_REG_VALUE || r->obj != test->obj || !r->maybe_null)
        return;
    r->maybe_null = false;
    if (test->is_null) { /* the pointer was 0 + offset: a number */
        r->type = OKO_REG_SCALAR;
        r->index = 0;
        r->obj = 0;
    }
}

void oko_state_null(struct oko_state *st, uint32_t obj, bool is_null)
{
    struct null_test test = {obj, is_null};
    oko_state_each(st, apply_null, &test);
    for (uint32_t i = 0; is_null && i < st->n_pieces; i++) { /* they hold a number now */
        const struct oko_piece *piece = &st->piece[i];
        for (uint32_t k = piece->pos;
             piece->r.type == OKO_REG_SCALAR && k < piece->pos + piece->size; k++)
            st->frame[piece->frame].init[k / 64] |= (uint64_t)1 << (k % 64);
    }
}
