/* What is known of a 64-bit number in a register: a range of the whole and one of its lower half.
 *
 * The idea. Half of clang's arithmetic is on 32-bit sub-registers, and programs in ISA v1 and v2
 * make 32-bit numbers with pairs of shifts; so the lower half is a range of its own, computed by
 * the same code at width 32. The two sharpen each other after each step (oko_scalar_tidy).
 *
 * As range.h: results contain every concrete result; false or an empty range means that a path
 * cannot be taken. Pure functions on values. */
#ifndef OKO_VERIFY_SCALAR_H
#define OKO_VERIFY_SCALAR_H

#include "range.h"

#include "../insn.h"

struct oko_scalar {
    struct oko_range full; /* 64 bits */
    struct oko_range low;  /* bits 0 to 31, as a 32-bit number */
};

struct oko_scalar oko_scalar_all(void);
struct oko_scalar oko_scalar_const(uint64_t x);
struct oko_scalar oko_scalar_unsigned(uint64_t umin, uint64_t umax);
struct oko_scalar oko_scalar_signed(int64_t smin, int64_t smax);
struct oko_scalar oko_scalar_from(struct oko_range full);

bool oko_scalar_tidy(struct oko_scalar *s);
static inline bool oko_scalar_is_const(const struct oko_scalar *s)
{
    return oko_range_is_const(&s->full);
}
/* Whether the upper half is known to be zero. */
static inline bool oko_scalar_fits32(const struct oko_scalar *s)
{
    return s->full.umax <= UINT32_MAX;
}
bool oko_scalar_has(const struct oko_scalar *s, uint64_t x);
bool oko_scalar_within(const struct oko_scalar *a, const struct oko_scalar *b);
bool oko_scalar_equal(const struct oko_scalar *a, const struct oko_scalar *b);
struct oko_scalar oko_scalar_join(struct oko_scalar a, struct oko_scalar b);
bool oko_scalar_meet(struct oko_scalar *a, const struct oko_scalar *b);

/* One ALU operation of BPF: op is BPF_ADD ... BPF_ARSH but not BPF_MOV, BPF_NEG, BPF_END;
 * is64 false: on the lower halves, upper half of the result zero; sign: signed division. */
struct oko_scalar oko_scalar_alu(uint8_t op, bool is64, bool sign, const struct oko_scalar *a,
                                 const struct oko_scalar *b);
struct oko_scalar oko_scalar_neg(bool is64, const struct oko_scalar *a);
/* The lower bits of a, zero-extended or sign-extended to 64 (or to 32, upper half zero). */
struct oko_scalar oko_scalar_zext(unsigned bits, const struct oko_scalar *a);
struct oko_scalar oko_scalar_sext(unsigned bits, bool is64, const struct oko_scalar *a);
struct oko_scalar oko_scalar_swap(unsigned bits, const struct oko_scalar *a);

/* As oko_range_decide() and oko_range_assume(), on 64 bits or on the lower halves. */
int oko_scalar_decide(bool is64, enum oko_cmp cmp, const struct oko_scalar *a,
                      const struct oko_scalar *b);
bool oko_scalar_assume(bool is64, enum oko_cmp cmp, struct oko_scalar *a, struct oko_scalar *b);

#endif
