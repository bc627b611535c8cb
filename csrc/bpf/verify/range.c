/* Sets of w-bit numbers; see range.h. */
#include "range.h"

typedef __int128 wide; /* exact sums and products of 64-bit numbers */
typedef unsigned __int128 uwide;

static uint64_t max_u(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static uint64_t min_u(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static int64_t max_s(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static int64_t min_s(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static int64_t lowest(unsigned w)
{
    return oko_bits_signed(w, (uint64_t)1 << (w - 1));
}
static int64_t highest(unsigned w)
{
    return (int64_t)(oko_bits_mask(w) >> 1);
}
/* All bits up to and including the highest one of x. */
static uint64_t fill(uint64_t x)
{
    return x == 0 ? 0 : UINT64_MAX >> __builtin_clzll(x);
}

/* ---------------------------------------------------------------- making */

struct oko_range oko_range_all(unsigned w)
{
    return (struct oko_range){0, oko_bits_mask(w), 0, oko_bits_mask(w), lowest(w), highest(w)};
}

struct oko_range oko_range_const(unsigned w, uint64_t x)
{
    x &= oko_bits_mask(w);
    int64_t s = oko_bits_signed(w, x);
    return (struct oko_range){x, 0, x, x, s, s};
}

struct oko_range oko_range_unsigned(unsigned w, uint64_t umin, uint64_t umax)
{
    struct oko_range r = oko_range_all(w);
    r.umin = umin, r.umax = umax;
    oko_range_tidy(w, &r);
    return r;
}

struct oko_range oko_range_signed(unsigned w, int64_t smin, int64_t smax)
{
    struct oko_range r = oko_range_all(w);
    r.smin = smin, r.smax = smax;
    oko_range_tidy(w, &r);
    return r;
}

static struct oko_range from_bits(unsigned w, uint64_t value, uint64_t mask)
{
    struct oko_range r = oko_range_all(w);
    r.mask = mask & oko_bits_mask(w);
    r.value = value & oko_bits_mask(w) & ~r.mask;
    oko_range_tidy(w, &r);
    return r;
}

/* ---------------------------------------------------------------- tidying */

static void intervals_from_bits(unsigned w, struct oko_range *r)
{
    uint64_t sign = (uint64_t)1 << (w - 1);
    r->umin = max_u(r->umin, r->value);
    r->umax = min_u(r->umax, r->value | r->mask);
    r->smin = max_s(r->smin, oko_bits_signed(w, r->value | (r->mask & sign)));
    r->smax = min_s(r->smax, oko_bits_signed(w, r->value | (r->mask & ~sign)));
}

/* The numbers of a signed interval are, unsigned, one interval or two (when it crosses zero: those
 * from 0, and those up to the maximum). The same the other way at the sign bit. */
static void intervals_from_each_other(unsigned w, struct oko_range *r)
{
    uint64_t m = oko_bits_mask(w);
    uint64_t neg = (uint64_t)r->smin & m, pos = (uint64_t)r->smax & m;
    if ((r->smin < 0) == (r->smax < 0)) {
        r->umin = max_u(r->umin, neg);
        r->umax = min_u(r->umax, pos);
    } else if (r->umin > pos) {
        r->umin = max_u(r->umin, neg);
    } else if (r->umax < neg) {
        r->umax = min_u(r->umax, pos);
    }
    int64_t low = oko_bits_signed(w, r->umin), high = oko_bits_signed(w, r->umax);
    if ((low < 0) == (high < 0)) {
        r->smin = max_s(r->smin, low);
        r->smax = min_s(r->smax, high);
    } else if (r->smin > high) { /* then not among those with the sign bit */
        r->smin = max_s(r->smin, low);
    } else if (r->smax < low) {
        r->smax = min_s(r->smax, high);
    }
}

/* Bits above the highest one in which the bounds differ are those of the bounds. */
static bool bits_from_interval(unsigned w, struct oko_range *r)
{
    uint64_t unknown = fill(r->umin ^ r->umax) & oko_bits_mask(w);
    uint64_t both = ~unknown & ~r->mask & oko_bits_mask(w);
    if (((r->value ^ r->umin) & both) != 0)
        return false;
    r->value = (r->value | (r->umin & ~unknown)) & oko_bits_mask(w);
    r->mask &= unknown;
    return true;
}

bool oko_range_tidy(unsigned w, struct oko_range *r)
{
    for (int i = 0; i < 3; i++) {
        struct oko_range before = *r;
        intervals_from_bits(w, r);
        intervals_from_each_other(w, r);
        if (r->umin > r->umax || r->smin > r->smax || !bits_from_interval(w, r))
            return false;
        if (oko_range_equal(&before, r))
            break;
    }
    return true;
}

/* ---------------------------------------------------------------- order */

bool oko_range_has(unsigned w, const struct oko_range *r, uint64_t x)
{
    int64_t s = oko_bits_signed(w, x);
    return (x & ~oko_bits_mask(w)) == 0 && (x & ~r->mask) == r->value && r->umin <= x &&
           x <= r->umax && r->smin <= s && s <= r->smax;
}

bool oko_range_within(const struct oko_range *a, const struct oko_range *b)
{
    return b->umin <= a->umin && a->umax <= b->umax && b->smin <= a->smin && a->smax <= b->smax &&
           (a->mask & ~b->mask) == 0 && (a->value & ~b->mask) == b->value;
}

bool oko_range_equal(const struct oko_range *a, const struct oko_range *b)
{
    return a->value == b->value && a->mask == b->mask && a->umin == b->umin && a->umax == b->umax &&
           a->smin == b->smin && a->smax == b->smax;
}

struct oko_range oko_range_join(unsigned w, struct oko_range a, struct oko_range b)
{
    struct oko_range r;
    r.mask = a.mask | b.mask | (a.value ^ b.value);
    r.value = a.value & ~r.mask;
    r.umin = min_u(a.umin, b.umin);
    r.umax = max_u(a.umax, b.umax);
    r.smin = min_s(a.smin, b.smin);
    r.smax = max_s(a.smax, b.smax);
    oko_range_tidy(w, &r);
    return r;
}

bool oko_range_meet(unsigned w, struct oko_range *a, const struct oko_range *b)
{
    uint64_t both = ~a->mask & ~b->mask & oko_bits_mask(w);
    if (((a->value ^ b->value) & both) != 0)
        return false;
    a->value |= b->value;
    a->mask &= b->mask;
    a->umin = max_u(a->umin, b->umin);
    a->umax = min_u(a->umax, b->umax);
    a->smin = max_s(a->smin, b->smin);
    a->smax = min_s(a->smax, b->smax);
    return a->umin <= a->umax && a->smin <= a->smax && oko_range_tidy(w, a);
}

/* ---------------------------------------------------------------- sums and products */

/* The w-bit numbers congruent to an integer in [lo, hi]: one interval if none of them wraps, or all
 * wrap alike; otherwise nothing is said. */
static void bound_unsigned(unsigned w, struct oko_range *r, wide lo, wide hi)
{
    if (lo >> w == hi >> w) {
        r->umin = (uint64_t)lo & oko_bits_mask(w);
        r->umax = (uint64_t)hi & oko_bits_mask(w);
    }
}

static void bound_signed(unsigned w, struct oko_range *r, wide lo, wide hi)
{
    wide half = (wide)1 << (w - 1);
    if ((lo + half) >> w == (hi + half) >> w) {
        r->smin = oko_bits_signed(w, (uint64_t)lo);
        r->smax = oko_bits_signed(w, (uint64_t)hi);
    }
}

/* Known bits of a sum. A result bit is known where neither operand's bit nor the carry into it is
 * in doubt; carries are the same in the smallest and the largest sum wherever they are certain. */
static void add_bits(unsigned w, struct oko_range *r, const struct oko_range *a,
                     const struct oko_range *b)
{
    uint64_t low = a->value + b->value;
    uint64_t high = (a->value | a->mask) + (b->value | b->mask);
    r->mask = (a->mask | b->mask | (low ^ high)) & oko_bits_mask(w);
    r->value = low & ~r->mask & oko_bits_mask(w);
}

struct oko_range oko_range_add(unsigned w, struct oko_range a, struct oko_range b)
{
    struct oko_range r = oko_range_all(w);
    add_bits(w, &r, &a, &b);
    bound_unsigned(w, &r, (wide)a.umin + b.umin, (wide)a.umax + b.umax);
    bound_signed(w, &r, (wide)a.smin + b.smin, (wide)a.smax + b.smax);
    oko_range_tidy(w, &r);
    return r;
}

struct oko_range oko_range_sub(unsigned w, struct oko_range a, struct oko_range b)
{
    struct oko_range r = oko_range_all(w);
    /* As for sums, with borrows: smallest minus largest against largest minus smallest. */
    uint64_t low = a.value - (b.value | b.mask), high = (a.value | a.mask) - b.value;
    r.mask = (a.mask | b.mask | (low ^ high)) & oko_bits_mask(w);
    r.value = (a.value - b.value) & ~r.mask & oko_bits_mask(w);
    bound_unsigned(w, &r, (wide)a.umin - b.umax, (wide)a.umax - b.umin);
    bound_signed(w, &r, (wide)a.smin - b.smax, (wide)a.smax - b.smin);
    oko_range_tidy(w, &r);
    return r;
}

/* School multiplication: the sum over a's bits of b shifted; a doubtful bit adds b or nothing. */
static void mul_bits(unsigned w, struct oko_range *r, struct oko_range a, struct oko_range b)
{
    if ((a.mask != 0 && b.mask == 0) ||
        __builtin_popcountll(b.value | b.mask) < __builtin_popcountll(a.value | a.mask)) {
        struct oko_range other = a;
        a = b, b = other;
    }
    struct oko_range sum = oko_range_const(w, 0);
    for (uint64_t left = a.value | a.mask; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        struct oko_range term = {0};
        if ((a.value >> i & 1) != 0)
            term.value = b.value << i, term.mask = b.mask << i;
        else
            term.mask = (b.value | b.mask) << i;
        term.value &= oko_bits_mask(w);
        term.mask &= oko_bits_mask(w);
        struct oko_range partial = sum;
        add_bits(w, &sum, &partial, &term);
    }
    r->value = sum.value;
    r->mask = sum.mask;
}

struct oko_range oko_range_mul(unsigned w, struct oko_range a, struct oko_range b)
{
    struct oko_range r = oko_range_all(w);
    mul_bits(w, &r, a, b);
    uwide lo = (uwide)a.umin * b.umin, hi = (uwide)a.umax * b.umax;
    if (lo >> w == hi >> w) {
        r.umin = (uint64_t)lo & oko_bits_mask(w);
        r.umax = (uint64_t)hi & oko_bits_mask(w);
    }
    wide corner[4] = {(wide)a.smin * b.smin, (wide)a.smin * b.smax, (wide)a.smax * b.smin,
                      (wide)a.smax * b.smax};
    wide least = corner[0], most = corner[0];
    for (int i = 1; i < 4; i++) {
        least = corner[i] < least ? corner[i] : least;
        most = corner[i] > most ? corner[i] : most;
    }
    bound_signed(w, &r, least, most);
    oko_range_tidy(w, &r);
    return r;
}

/* ---------------------------------------------------------------- quotients */

struct oko_range oko_range_div(unsigned w, struct oko_range a, struct oko_range b)
{
    if (b.umax == 0)
        return oko_range_const(w, 0);
    if (b.umin == 0) /* x / 0 = 0 */
        return oko_range_unsigned(w, 0, a.umax);
    return oko_range_unsigned(w, a.umin / b.umax, a.umax / b.umin);
}

struct oko_range oko_range_mod(unsigned w, struct oko_range a, struct oko_range b)
{
    if (b.umax == 0)
        return a; /* x % 0 = x */
    if (b.umin > a.umax)
        return a;
    if (oko_range_is_const(&b)) {
        if ((b.umin & (b.umin - 1)) == 0)
            return oko_range_and(w, a, oko_range_const(w, b.umin - 1));
        if (a.umin / b.umin == a.umax / b.umin)
            return oko_range_unsigned(w, a.umin % b.umin, a.umax % b.umin);
    }
    return oko_range_unsigned(w, 0, b.umin == 0 ? a.umax : min_u(a.umax, b.umax - 1));
}

static int64_t quotient(unsigned w, int64_t a, int64_t b)
{
    return a == lowest(w) && b == -1 ? a : a / b;
}

struct oko_range oko_range_sdiv(unsigned w, struct oko_range a, struct oko_range b)
{
    if (b.umax == 0)
        return oko_range_const(w, 0);
    if (a.smin == lowest(w) && b.smin <= -1 && b.smax >= -1 && !oko_range_is_const(&a))
        return oko_range_all(w); /* MIN / -1 jumps from one end to the other */
    /* Magnitudes shrink as b grows away from zero, so the extremes lie at the corners of each of
     * the two intervals that b has without zero. */
    int64_t divisors[4];
    int n = 0;
    if (b.smin < 0) {
        divisors[n++] = b.smin;
        divisors[n++] = min_s(b.smax, -1);
    }
    if (b.smax > 0) {
        divisors[n++] = max_s(b.smin, 1);
        divisors[n++] = b.smax;
    }
    int64_t least = INT64_MAX, most = INT64_MIN;
    if (oko_range_has(w, &b, 0))
        least = most = 0;
    for (int i = 0; i < n; i++) {
        int64_t q1 = quotient(w, a.smin, divisors[i]), q2 = quotient(w, a.smax, divisors[i]);
        least = min_s(least, min_s(q1, q2));
        most = max_s(most, max_s(q1, q2));
    }
    if (a.smin == lowest(w) && b.smin <= -1 && b.smax >= -1) /* a is MIN alone: -MIN is missing */
        return b.smin == -1 && b.smax == -1 ? a : oko_range_all(w);
    return oko_range_signed(w, least, most);
}

struct oko_range oko_range_smod(unsigned w, struct oko_range a, struct oko_range b)
{
    if (b.umax == 0)
        return a;
    if (oko_range_is_const(&a) && oko_range_is_const(&b))
        return oko_range_const(w, b.smin == -1 ? 0 : (uint64_t)(a.smin % b.smin));
    /* |x % y| < |y| and |x % y| <= |x|, with the sign of x. */
    uint64_t most = max_u(b.smin < 0 ? -(uint64_t)b.smin : (uint64_t)b.smin,
                          b.smax < 0 ? -(uint64_t)b.smax : (uint64_t)b.smax);
    bool zero = oko_range_has(w, &b, 0);
    int64_t limit = most - 1 > (uint64_t)highest(w) ? highest(w) : (int64_t)(most - 1);
    int64_t smin = a.smin < 0 ? (zero ? a.smin : max_s(a.smin, -limit)) : 0;
    int64_t smax = a.smax > 0 ? (zero ? a.smax : min_s(a.smax, limit)) : 0;
    if (most > (uint64_t)highest(w) && a.smin < 0) /* y may be MIN: x % MIN = x */
        smin = a.smin;
    return oko_range_signed(w, smin, smax);
}

/* ---------------------------------------------------------------- bits */

struct oko_range oko_range_and(unsigned w, struct oko_range a, struct oko_range b)
{
    struct oko_range r = oko_range_all(w);
    r.value = a.value & b.value;
    r.mask = (a.value | a.mask) & (b.value | b.mask) & ~r.value;
    r.umax = min_u(a.umax, b.umax);
    oko_range_tidy(w, &r);
    return r;
}

struct oko_range oko_range_or(unsigned w, struct oko_range a, struct oko_range b)
{
    struct oko_range r = oko_range_all(w);
    r.value = a.value | b.value;
    r.mask = (a.mask | b.mask) & ~r.value;
    r.umin = max_u(a.umin, b.umin);
    r.umax = fill(a.umax | b.umax);
    oko_range_tidy(w, &r);
    return r;
}

struct oko_range oko_range_xor(unsigned w, struct oko_range a, struct oko_range b)
{
    struct oko_range r = oko_range_all(w);
    r.mask = a.mask | b.mask;
    r.value = (a.value ^ b.value) & ~r.mask;
    r.umax = fill(a.umax | b.umax);
    oko_range_tidy(w, &r);
    return r;
}

static struct oko_range lsh_by(unsigned w, struct oko_range a, unsigned n)
{
    struct oko_range r = oko_range_all(w);
    r.value = a.value << n & oko_bits_mask(w);
    r.mask = a.mask << n & oko_bits_mask(w);
    bound_unsigned(w, &r, (wide)a.umin << n, (wide)a.umax << n);
    wide factor = (wide)1 << n; /* << of a negative number is undefined */
    bound_signed(w, &r, a.smin * factor, a.smax * factor);
    oko_range_tidy(w, &r);
    return r;
}

static struct oko_range rsh_by(unsigned w, struct oko_range a, unsigned n)
{
    struct oko_range r = oko_range_all(w);
    r.value = a.value >> n;
    r.mask = a.mask >> n;
    r.umin = a.umin >> n;
    r.umax = a.umax >> n;
    oko_range_tidy(w, &r);
    return r;
}

static struct oko_range arsh_by(unsigned w, struct oko_range a, unsigned n)
{
    struct oko_range r = oko_range_all(w);
    r.value = (uint64_t)(oko_bits_signed(w, a.value) >> n) & oko_bits_mask(w);
    r.mask = (uint64_t)(oko_bits_signed(w, a.mask) >> n) & oko_bits_mask(w);
    r.value &= ~r.mask;
    r.smin = a.smin >> n;
    r.smax = a.smax >> n;
    oko_range_tidy(w, &r);
    return r;
}

/* Shifts by an unknown count: the union over the possible ones. */
static struct oko_range shift(unsigned w, struct oko_range a, struct oko_range b,
                              struct oko_range (*by)(unsigned, struct oko_range, unsigned))
{
    b = oko_range_and(w, b, oko_range_const(w, w - 1));
    struct oko_range r = {0};
    bool first = true;
    for (unsigned n = (unsigned)b.umin; n <= (unsigned)b.umax; n++) {
        if (!oko_range_has(w, &b, n))
            continue;
        struct oko_range one = by(w, a, n);
        r = first ? one : oko_range_join(w, r, one);
        first = false;
    }
    return first ? oko_range_all(w) : r;
}

struct oko_range oko_range_lsh(unsigned w, struct oko_range a, struct oko_range b)
{
    return shift(w, a, b, lsh_by);
}

struct oko_range oko_range_rsh(unsigned w, struct oko_range a, struct oko_range b)
{
    return shift(w, a, b, rsh_by);
}

struct oko_range oko_range_arsh(unsigned w, struct oko_range a, struct oko_range b)
{
    return shift(w, a, b, arsh_by);
}

/* ---------------------------------------------------------------- widths */

struct oko_range oko_range_trunc(unsigned from, unsigned to, struct oko_range a)
{
    (void)from;
    struct oko_range r = oko_range_all(to);
    r.value = a.value & oko_bits_mask(to);
    r.mask = a.mask & oko_bits_mask(to);
    bound_unsigned(to, &r, (wide)a.umin, (wide)a.umax);
    bound_signed(to, &r, a.smin, a.smax);
    oko_range_tidy(to, &r);
    return r;
}

struct oko_range oko_range_zext(unsigned from, unsigned to, struct oko_range a)
{
    (void)from;
    struct oko_range r = oko_range_all(to);
    r.value = a.value;
    r.mask = a.mask;
    r.umin = a.umin;
    r.umax = a.umax;
    oko_range_tidy(to, &r);
    return r;
}

struct oko_range oko_range_sext(unsigned from, unsigned to, struct oko_range a)
{
    struct oko_range r = oko_range_all(to);
    r.mask = (uint64_t)oko_bits_signed(from, a.mask) & oko_bits_mask(to);
    r.value = (uint64_t)oko_bits_signed(from, a.value) & oko_bits_mask(to) & ~r.mask;
    r.smin = a.smin;
    r.smax = a.smax;
    oko_range_tidy(to, &r);
    return r;
}

struct oko_range oko_range_swap(unsigned w, struct oko_range a)
{
    return from_bits(64, __builtin_bswap64(a.value) >> (64 - w),
                     __builtin_bswap64(a.mask) >> (64 - w));
}

/* ---------------------------------------------------------------- comparisons */

enum oko_cmp oko_cmp_negate(enum oko_cmp cmp)
{
    static const enum oko_cmp table[] = {
        [OKO_CMP_EQ] = OKO_CMP_NE,   [OKO_CMP_NE] = OKO_CMP_EQ,     [OKO_CMP_LT] = OKO_CMP_GE,
        [OKO_CMP_LE] = OKO_CMP_GT,   [OKO_CMP_GT] = OKO_CMP_LE,     [OKO_CMP_GE] = OKO_CMP_LT,
        [OKO_CMP_SLT] = OKO_CMP_SGE, [OKO_CMP_SLE] = OKO_CMP_SGT,   [OKO_CMP_SGT] = OKO_CMP_SLE,
        [OKO_CMP_SGE] = OKO_CMP_SLT, [OKO_CMP_SET] = OKO_CMP_CLEAR, [OKO_CMP_CLEAR] = OKO_CMP_SET};
    return table[cmp];
}

enum oko_cmp oko_cmp_swap(enum oko_cmp cmp)
{
    switch (cmp) {
    case OKO_CMP_LT:
        return OKO_CMP_GT;
    case OKO_CMP_LE:
        return OKO_CMP_GE;
    case OKO_CMP_GT:
        return OKO_CMP_LT;
    case OKO_CMP_GE:
        return OKO_CMP_LE;
    case OKO_CMP_SLT:
        return OKO_CMP_SGT;
    case OKO_CMP_SLE:
        return OKO_CMP_SGE;
    case OKO_CMP_SGT:
        return OKO_CMP_SLT;
    case OKO_CMP_SGE:
        return OKO_CMP_SLE;
    default:
        return cmp;
    }
}

int oko_range_decide(unsigned w, enum oko_cmp cmp, const struct oko_range *a,
                     const struct oko_range *b)
{
    struct oko_range x = *a, y = *b;
    if (!oko_range_assume(w, cmp, &x, &y))
        return 0;
    x = *a, y = *b;
    if (!oko_range_assume(w, oko_cmp_negate(cmp), &x, &y))
        return 1;
    return -1;
}

/* Removes the number x from a where it is an end of an interval. */
static void exclude(unsigned w, struct oko_range *a, uint64_t x)
{
    int64_t s = oko_bits_signed(w, x);
    if (a->umin == x)
        a->umin = a->umin == a->umax ? a->umin : a->umin + 1;
    else if (a->umax == x)
        a->umax--;
    if (a->smin == s)
        a->smin = a->smin == a->smax ? a->smin : a->smin + 1;
    else if (a->smax == s)
        a->smax--;
}

static bool assume_ne(unsigned w, struct oko_range *a, struct oko_range *b)
{
    bool a_const = oko_range_is_const(a), b_const = oko_range_is_const(b);
    if (a_const && b_const)
        return a->umin != b->umin;
    if (b_const)
        exclude(w, a, b->umin);
    else if (a_const)
        exclude(w, b, a->umin);
    return oko_range_tidy(w, a) && oko_range_tidy(w, b);
}

/* a < b, or a <= b when strict is 0. */
static bool assume_less(unsigned w, struct oko_range *a, struct oko_range *b, unsigned strict)
{
    if (strict != 0 && (b->umax == 0 || a->umin == oko_bits_mask(w)))
        return false;
    a->umax = min_u(a->umax, b->umax - strict);
    b->umin = max_u(b->umin, a->umin + strict);
    return a->umin <= a->umax && b->umin <= b->umax && oko_range_tidy(w, a) && oko_range_tidy(w, b);
}

static bool assume_sless(unsigned w, struct oko_range *a, struct oko_range *b, int strict)
{
    if (strict != 0 && (b->smax == lowest(w) || a->smin == highest(w)))
        return false;
    a->smax = min_s(a->smax, b->smax - strict);
    b->smin = max_s(b->smin, a->smin + strict);
    return a->smin <= a->smax && b->smin <= b->smax && oko_range_tidy(w, a) && oko_range_tidy(w, b);
}

/* (a & b) != 0, or == 0. Only masks that are constants teach something about the other. */
static bool assume_bits(unsigned w, struct oko_range *a, struct oko_range *b, bool set)
{
    if (set && ((a->value | a->mask) & (b->value | b->mask)) == 0)
        return false;
    if (!set && (a->value & b->value) != 0)
        return false;
    for (int turn = 0; turn < 2; turn++) {
        struct oko_range *x = turn == 0 ? a : b, *y = turn == 0 ? b : a;
        if (set && y->mask == 0 && (y->value & (y->value - 1)) == 0) { /* one bit: it is set */
            x->value |= y->value;
            x->mask &= ~y->value;
        } else if (!set) { /* bits certainly set in y are clear in x */
            x->mask &= ~y->value;
        }
    }
    return oko_range_tidy(w, a) && oko_range_tidy(w, b);
}

bool oko_range_assume(unsigned w, enum oko_cmp cmp, struct oko_range *a, struct oko_range *b)
{
    switch (cmp) {
    case OKO_CMP_EQ:
        if (!oko_range_meet(w, a, b))
            return false;
        *b = *a;
        return true;
    case OKO_CMP_NE:
        return assume_ne(w, a, b);
    case OKO_CMP_LT:
        return assume_less(w, a, b, 1);
    case OKO_CMP_LE:
        return assume_less(w, a, b, 0);
    case OKO_CMP_GT:
        return assume_less(w, b, a, 1);
    case OKO_CMP_GE:
        return assume_less(w, b, a, 0);
    case OKO_CMP_SLT:
        return assume_sless(w, a, b, 1);
    case OKO_CMP_SLE:
        return assume_sless(w, a, b, 0);
    case OKO_CMP_SGT:
        return assume_sless(w, b, a, 1);
    case OKO_CMP_SGE:
        return assume_sless(w, b, a, 0);
    case OKO_CMP_SET:
        return assume_bits(w, a, b, true);
    case OKO_CMP_CLEAR:
        return assume_bits(w, a, b, false);
    }
    return true;
}
