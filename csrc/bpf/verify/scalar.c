/* 64-bit numbers with their lower halves; see scalar.h. */
#include "scalar.h"

/* ---------------------------------------------------------------- making */

struct oko_scalar oko_scalar_all(void)
{
    return (struct oko_scalar){oko_range_all(64), oko_range_all(32)};
}

struct oko_scalar oko_scalar_const(uint64_t x)
{
    return (struct oko_scalar){oko_range_const(64, x), oko_range_const(32, x)};
}

struct oko_scalar oko_scalar_from(struct oko_range full)
{
    struct oko_scalar s = {full, oko_range_trunc(64, 32, full)};
    oko_scalar_tidy(&s);
    return s;
}

struct oko_scalar oko_scalar_unsigned(uint64_t umin, uint64_t umax)
{
    return oko_scalar_from(oko_range_unsigned(64, umin, umax));
}

struct oko_scalar oko_scalar_signed(int64_t smin, int64_t smax)
{
    return oko_scalar_from(oko_range_signed(64, smin, smax));
}

/* ---------------------------------------------------------------- tidying */

/* The smallest number from x on whose lower half lies in [lo, hi]; false when there is none. */
static bool round_up(uint64_t *x, uint64_t lo, uint64_t hi)
{
    uint64_t half = *x & UINT32_MAX, rest = *x - half;
    if (half < lo) {
        *x = rest + lo;
    } else if (half > hi) {
        if (rest == UINT64_MAX - UINT32_MAX)
            return false;
        *x = rest + ((uint64_t)1 << 32) + lo;
    }
    return true;
}

/* The largest number up to x whose lower half lies in [lo, hi]. */
static bool round_down(uint64_t *x, uint64_t lo, uint64_t hi)
{
    uint64_t half = *x & UINT32_MAX, rest = *x - half;
    if (half > hi) {
        *x = rest + hi;
    } else if (half < lo) {
        if (rest == 0)
            return false;
        *x = rest - ((uint64_t)1 << 32) + hi;
    }
    return true;
}

bool oko_scalar_tidy(struct oko_scalar *s)
{
    struct oko_range low = oko_range_trunc(64, 32, s->full);
    if (!oko_range_meet(32, &s->low, &low))
        return false;
    struct oko_range full = s->full;
    uint64_t half = UINT32_MAX;
    full.value = (full.value & ~half) | s->low.value;
    full.mask = (full.mask & ~half) | s->low.mask;
    if (!round_up(&full.umin, s->low.umin, s->low.umax) ||
        !round_down(&full.umax, s->low.umin, s->low.umax) || full.umin > full.umax ||
        !oko_range_tidy(64, &full))
        return false;
    if (oko_range_equal(&full, &s->full))
        return true;
    s->full = full;
    low = oko_range_trunc(64, 32, full);
    return oko_range_meet(32, &s->low, &low);
}

/* ---------------------------------------------------------------- order */

bool oko_scalar_has(const struct oko_scalar *s, uint64_t x)
{
    return oko_range_has(64, &s->full, x) && oko_range_has(32, &s->low, x & UINT32_MAX);
}

bool oko_scalar_within(const struct oko_scalar *a, const struct oko_scalar *b)
{
    return oko_range_within(&a->full, &b->full) && oko_range_within(&a->low, &b->low);
}

bool oko_scalar_equal(const struct oko_scalar *a, const struct oko_scalar *b)
{
    return oko_range_equal(&a->full, &b->full) && oko_range_equal(&a->low, &b->low);
}

struct oko_scalar oko_scalar_join(struct oko_scalar a, struct oko_scalar b)
{
    struct oko_scalar s = {oko_range_join(64, a.full, b.full), oko_range_join(32, a.low, b.low)};
    oko_scalar_tidy(&s);
    return s;
}

bool oko_scalar_meet(struct oko_scalar *a, const struct oko_scalar *b)
{
    return oko_range_meet(64, &a->full, &b->full) && oko_range_meet(32, &a->low, &b->low) &&
           oko_scalar_tidy(a);
}

/* ---------------------------------------------------------------- operations */

static struct oko_range alu(unsigned w, uint8_t op, bool sign, struct oko_range a,
                            struct oko_range b)
{
    switch (op) {
    case BPF_ADD:
        return oko_range_add(w, a, b);
    case BPF_SUB:
        return oko_range_sub(w, a, b);
    case BPF_MUL:
        return oko_range_mul(w, a, b);
    case BPF_DIV:
        return sign ? oko_range_sdiv(w, a, b) : oko_range_div(w, a, b);
    case BPF_MOD:
        return sign ? oko_range_smod(w, a, b) : oko_range_mod(w, a, b);
    case BPF_OR:
        return oko_range_or(w, a, b);
    case BPF_AND:
        return oko_range_and(w, a, b);
    case BPF_XOR:
        return oko_range_xor(w, a, b);
    case BPF_LSH:
        return oko_range_lsh(w, a, b);
    case BPF_RSH:
        return oko_range_rsh(w, a, b);
    case BPF_ARSH:
        return oko_range_arsh(w, a, b);
    default:
        return oko_range_all(w);
    }
}

/* A 32-bit result: the upper half is zero. */
static struct oko_scalar from_low(struct oko_range low)
{
    struct oko_scalar s = {oko_range_zext(32, 64, low), low};
    oko_scalar_tidy(&s);
    return s;
}

/* 64-bit shift left by exactly 32: the lower half becomes the upper one. Pairs of such shifts are
 * how ISA v1 and v2 extend 32-bit numbers, so the bounds of the half must survive. */
static struct oko_scalar lsh32(const struct oko_scalar *a)
{
    struct oko_range r = oko_range_all(64);
    r.value = a->low.value << 32;
    r.mask = a->low.mask << 32;
    r.umin = a->low.umin << 32;
    r.umax = a->low.umax << 32;
    r.smin = a->low.smin * ((int64_t)1 << 32);
    r.smax = a->low.smax * ((int64_t)1 << 32);
    oko_range_tidy(64, &r);
    return oko_scalar_from(r);
}

struct oko_scalar oko_scalar_alu(uint8_t op, bool is64, bool sign, const struct oko_scalar *a,
                                 const struct oko_scalar *b)
{
    if (!is64)
        return from_low(alu(32, op, sign, a->low, b->low));
    if (op == BPF_LSH && oko_scalar_is_const(b) && (b->full.umin & 63) == 32)
        return lsh32(a);
    struct oko_scalar s = {alu(64, op, sign, a->full, b->full), oko_range_all(32)};
    switch (op) { /* these commute with cutting off the upper half */
    case BPF_ADD:
    case BPF_SUB:
    case BPF_MUL:
    case BPF_OR:
    case BPF_AND:
    case BPF_XOR:
        s.low = alu(32, op, sign, a->low, b->low);
        break;
    case BPF_LSH:
        if (b->full.umax < 32)
            s.low = oko_range_lsh(32, a->low, b->low);
        break;
    default:
        break;
    }
    oko_scalar_tidy(&s);
    return s;
}

struct oko_scalar oko_scalar_neg(bool is64, const struct oko_scalar *a)
{
    struct oko_scalar zero = oko_scalar_const(0);
    return oko_scalar_alu(BPF_SUB, is64, false, &zero, a);
}

struct oko_scalar oko_scalar_zext(unsigned bits, const struct oko_scalar *a)
{
    if (bits == 32)
        return from_low(a->low);
    return oko_scalar_from(oko_range_zext(bits, 64, oko_range_trunc(64, bits, a->full)));
}

struct oko_scalar oko_scalar_sext(unsigned bits, bool is64, const struct oko_scalar *a)
{
    struct oko_range part = bits == 32 ? a->low : oko_range_trunc(64, bits, a->full);
    if (is64)
        return oko_scalar_from(oko_range_sext(bits, 64, part));
    return from_low(bits == 32 ? part : oko_range_sext(bits, 32, part));
}

struct oko_scalar oko_scalar_swap(unsigned bits, const struct oko_scalar *a)
{
    return oko_scalar_from(oko_range_swap(bits, a->full));
}

/* ---------------------------------------------------------------- comparisons */

int oko_scalar_decide(bool is64, enum oko_cmp cmp, const struct oko_scalar *a,
                      const struct oko_scalar *b)
{
    struct oko_scalar x = *a, y = *b;
    if (!oko_scalar_assume(is64, cmp, &x, &y))
        return 0;
    x = *a, y = *b;
    if (!oko_scalar_assume(is64, oko_cmp_negate(cmp), &x, &y))
        return 1;
    return -1;
}

bool oko_scalar_assume(bool is64, enum oko_cmp cmp, struct oko_scalar *a, struct oko_scalar *b)
{
    bool possible = is64 ? oko_range_assume(64, cmp, &a->full, &b->full)
                         : oko_range_assume(32, cmp, &a->low, &b->low);
    return possible && oko_scalar_tidy(a) && oko_scalar_tidy(b);
}
