/* Sets of w-bit numbers, as known bits plus an unsigned and a signed interval.
 *
 * The idea. A range stands for the numbers that satisfy all three descriptions at once: bits where
 * mask is 0 equal those of value (a "tnum"), umin <= x <= umax, smin <= (signed)x <= smax. Each
 * description is poor alone and they complete each other: masks and shifts are exact in bits,
 * comparisons in intervals. oko_range_tidy() lets each sharpen the others.
 *
 * Every operation takes the width in bits, so the same code computes on 64-bit registers, on their
 * lower halves, and, in the tests, on 4-bit numbers where all cases can be tried. Unsigned members
 * have no bits above the width; signed ones are sign-extended to 64.
 *
 * Fails safely: the result of an operation contains every result of the operation on members
 * (soundness); it may contain more. An empty range (no member) says that a path cannot be taken.
 *
 * Thread-safety: pure functions on values. */
#ifndef OKO_VERIFY_RANGE_H
#define OKO_VERIFY_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct oko_range {
    uint64_t value, mask; /* known bits: value; mask has 1 where unknown; value & mask == 0 */
    uint64_t umin, umax;
    int64_t smin, smax;
};

/* Comparisons, by what must hold. SET: some common bit; CLEAR: none. */
enum oko_cmp {
    OKO_CMP_EQ,
    OKO_CMP_NE,
    OKO_CMP_LT,
    OKO_CMP_LE,
    OKO_CMP_GT,
    OKO_CMP_GE,
    OKO_CMP_SLT,
    OKO_CMP_SLE,
    OKO_CMP_SGT,
    OKO_CMP_SGE,
    OKO_CMP_SET,
    OKO_CMP_CLEAR
};

static inline uint64_t oko_bits_mask(unsigned w)
{
    return w >= 64 ? UINT64_MAX : ((uint64_t)1 << w) - 1;
}
/* Reads the lower w bits of x as a signed number. */
static inline int64_t oko_bits_signed(unsigned w, uint64_t x)
{
    return w >= 64 ? (int64_t)x : (int64_t)(x << (64 - w)) >> (64 - w);
}

struct oko_range oko_range_all(unsigned w);
struct oko_range oko_range_const(unsigned w, uint64_t x);
struct oko_range oko_range_unsigned(unsigned w, uint64_t umin, uint64_t umax);
struct oko_range oko_range_signed(unsigned w, int64_t smin, int64_t smax);

/* Lets the three descriptions sharpen each other; returns false when no number satisfies them. */
bool oko_range_tidy(unsigned w, struct oko_range *r);

static inline bool oko_range_is_const(const struct oko_range *r)
{
    return r->umin == r->umax;
}
bool oko_range_has(unsigned w, const struct oko_range *r, uint64_t x);
/* Whether every number that a's description admits is admitted by b's. */
bool oko_range_within(const struct oko_range *a, const struct oko_range *b);
bool oko_range_equal(const struct oko_range *a, const struct oko_range *b);
/* Union, hull and intersection. The latter returns false when it is empty. */
struct oko_range oko_range_join(unsigned w, struct oko_range a, struct oko_range b);
bool oko_range_meet(unsigned w, struct oko_range *a, const struct oko_range *b);

/* Arithmetic modulo 2^w, as BPF defines it: x / 0 = 0, x % 0 = x, shift counts modulo w (w must
 * then be a power of two), MIN / -1 = MIN, MIN % -1 = 0. */
struct oko_range oko_range_add(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_sub(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_mul(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_div(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_mod(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_sdiv(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_smod(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_and(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_or(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_xor(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_lsh(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_rsh(unsigned w, struct oko_range a, struct oko_range b);
struct oko_range oko_range_arsh(unsigned w, struct oko_range a, struct oko_range b);

/* Changes of width: the lower to bits; zero- and sign-extension to a larger width. */
struct oko_range oko_range_trunc(unsigned from, unsigned to, struct oko_range a);
struct oko_range oko_range_zext(unsigned from, unsigned to, struct oko_range a);
struct oko_range oko_range_sext(unsigned from, unsigned to, struct oko_range a);
/* The lower w bits (16, 32 or 64) with their bytes reversed, as a 64-bit range. */
struct oko_range oko_range_swap(unsigned w, struct oko_range a);

/* 1: holds for all members of a and b; 0: for none; -1: unknown. */
int oko_range_decide(unsigned w, enum oko_cmp cmp, const struct oko_range *a,
                     const struct oko_range *b);
/* Keeps the members of a and b that can satisfy the comparison; false when there are none. */
bool oko_range_assume(unsigned w, enum oko_cmp cmp, struct oko_range *a, struct oko_range *b);
enum oko_cmp oko_cmp_negate(enum oko_cmp cmp);
enum oko_cmp oko_cmp_swap(enum oko_cmp cmp); /* the same with the operands exchanged */

#endif
