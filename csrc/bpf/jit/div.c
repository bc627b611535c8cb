/* Division and remainder.
 *
 * By a constant, unsigned: multiplication by its reciprocal (Granlund & Montgomery 1994, "Division
 * by invariant integers using multiplication"), three to five times as fast as the instruction.
 * Everything else: the instruction, with the results that RFC 9669 section 4.1 wants where x86-64
 * traps: x / 0 = 0, x % 0 = x, the most negative number / -1 = itself. */
#include "jit.h"

/* What waits elsewhere while rax and rdx are used. */
struct saved {
    bool rax, rdx;
};

static struct saved save(struct jit *j, const struct jit_op *op)
{
    unsigned dst = jit_reg[op->dst];
    struct saved s = {dst != RAX && (op->live & 1 << 0), dst != RDX && (op->live & 1 << 3)};
    if (s.rax)
        x64_mov(&j->a, true, R10, RAX);
    if (s.rdx)
        x64_mov(&j->a, true, R9, RDX);
    return s;
}

static void restore(struct jit *j, struct saved s)
{
    if (s.rax)
        x64_mov(&j->a, true, RAX, R10);
    if (s.rdx)
        x64_mov(&j->a, true, RDX, R9);
}

/* ---------------------------------------------------------------- by a constant */

/* n / d = (n >> before) * factor >> 64 >> after, or with add (the factor has a 65th bit):
 * t = n * factor >> 64; ((n - t) / 2 + t) >> after. */
struct reciprocal {
    uint64_t factor;
    unsigned before, after;
    bool add;
};

/* For n below 2^bits; d is not a power of two. */
static struct reciprocal reciprocal_of(uint64_t d, unsigned bits)
{
    __extension__ typedef unsigned __int128 wide;
    struct reciprocal r = {0};
    if (bits == 32) { /* ceil(2^64 / d) is exact enough for 32-bit dividends */
        r.factor = UINT64_MAX / d + 1;
        return r;
    }
    for (;;) {
        /* log: 2^log >= d; the factor 2^(64 + log) / d rounded up has 65 bits */
        unsigned log = 64 - (unsigned)__builtin_clzll(d - 1);
        wide numerator = ((wide)1 << 64 << log) - ((wide)d << 64); /* without the 65th bit */
        r.factor = (uint64_t)(numerator / d) + 1;
        r.after = log - 1;
        r.add = true;
        /* Is one bit less enough? The error of a 64-bit factor must not reach n / d. */
        wide power = (wide)1 << (64 + log - 1);
        wide small = power / d + 1;
        wide error = small * d - power;
        if (small <= UINT64_MAX && error <= (wide)1 << (64 + log - 1 - bits)) {
            r.factor = (uint64_t)small;
            r.after = log - 1;
            r.add = false;
            return r;
        }
        unsigned even = (unsigned)__builtin_ctzll(d);
        if (even == 0)
            return r;
        d >>= even; /* shifting both first leaves room for the bit */
        r.before = even;
        bits -= even;
    }
}

/* With mulx, which leaves rax alone and writes where it is told (twice the same register: the high
 * half). */
static void emit_by_constant_bmi(struct jit *j, const struct jit_op *op, uint64_t d)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    bool div = op->op == JIT_DIV, save_rdx = dst != RDX && (op->live & 1 << 3);
    struct reciprocal r = reciprocal_of(d, op->w ? 64 : 32);
    unsigned quotient = div && !r.add ? dst : R10;
    if (save_rdx)
        x64_mov(a, true, R9, RDX);
    unsigned n = jit_use(j, op->a, RDX);
    if (n != RDX || !op->w)
        x64_mov(a, op->w, RDX, n);
    if (!div)
        x64_mov(a, true, R11, RDX);
    if (r.before)
        x64_shift_i(a, X64_SHR, true, RDX, r.before);
    x64_load(a, 8, R10, x64_constant(a, r.factor));
    x64_mulx(a, true, quotient, quotient, R10);
    if (r.add) {
        x64_alu(a, X64_SUB, true, RDX, R10);
        x64_shift_i(a, X64_SHR, true, RDX, 1);
        x64_alu(a, X64_ADD, true, R10, RDX);
    }
    if (r.after)
        x64_shift_i(a, X64_SHR, true, quotient, r.after);
    if (save_rdx)
        x64_mov(a, true, RDX, R9);
    if (div && quotient != dst) {
        x64_mov(a, true, dst, quotient);
    } else if (!div) {
        if ((int64_t)d == (int32_t)d) {
            x64_imul_i(a, true, R10, R10, (int32_t)d);
        } else {
            x64_mov_i(a, R9, d);
            x64_imul(a, true, R10, R9);
        }
        x64_alu(a, X64_SUB, op->w, R11, R10);
        x64_mov(a, op->w, dst, R11);
    }
}

static void emit_by_constant(struct jit *j, const struct jit_op *op, uint64_t d)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    bool div = op->op == JIT_DIV;
    struct reciprocal r = reciprocal_of(d, op->w ? 64 : 32);
    x64_mov(a, op->w, R11, jit_use(j, op->a, R11)); /* n */
    struct saved s = save(j, op);
    x64_mov(a, true, RAX, R11);
    if (r.before)
        x64_shift_i(a, X64_SHR, true, RAX, r.before);
    x64_unary_m(a, X64_MUL, true, x64_constant(a, r.factor));
    if (r.add) {
        x64_mov(a, true, RAX, R11);
        x64_alu(a, X64_SUB, true, RAX, RDX);
        x64_shift_i(a, X64_SHR, true, RAX, 1);
        x64_alu(a, X64_ADD, true, RDX, RAX);
    }
    if (r.after)
        x64_shift_i(a, X64_SHR, true, RDX, r.after);
    if (div) {
        if (dst != RDX)
            x64_mov(a, op->w, dst, RDX);
    } else {
        if ((int64_t)d == (int32_t)d) {
            x64_imul_i(a, true, RDX, RDX, (int32_t)d);
        } else {
            x64_mov_i(a, RAX, d);
            x64_imul(a, true, RDX, RAX);
        }
        x64_alu(a, X64_SUB, op->w, R11, RDX);
        x64_mov(a, op->w, dst, R11);
    }
    restore(j, s);
}

/* ---------------------------------------------------------------- by a register */

/* The divisor goes to r11: rax and rdx are taken. */
static void emit_division(struct jit *j, const struct jit_op *op, uint32_t pc)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    bool div = op->op == JIT_DIV, w = op->w;
    bool by_imm = op->b == JIT_NONE;
    bool may_be_zero = by_imm ? (w ? op->imm : (int32_t)op->imm) == 0
                              : !(j->prog->facts.insn[pc].flags & OKO_FACT_NONZERO);
    uint32_t zero = x64_label(a), minus = x64_label(a), end = x64_label(a);

    if (by_imm)
        x64_mov_i(a, R11, w ? (uint64_t)op->imm : (uint32_t)op->imm);
    else
        x64_mov(a, w, R11, jit_use(j, op->b, R11));
    if (may_be_zero) {
        x64_test(a, w, R11, R11);
        x64_jcc(a, X64_E, zero);
    }
    if (op->sx) { /* idiv traps on the most negative number by -1 */
        x64_alu_i(a, X64_CMP, w, R11, -1);
        x64_jcc(a, X64_E, minus);
    }
    struct saved s = save(j, op);
    jit_move_operand(j, w, RAX, op->a);
    if (op->sx)
        x64_cdq(a, w);
    else
        x64_mov_i(a, RDX, 0);
    x64_unary(a, op->sx ? X64_IDIV : X64_DIV, w, R11);
    if (dst != (div ? RAX : RDX))
        x64_mov(a, w, dst, div ? RAX : RDX);
    restore(j, s);
    if (may_be_zero || op->sx)
        x64_jmp(a, end);
    x64_bind(a, zero);
    if (may_be_zero) {
        if (div)
            x64_mov_i(a, dst, 0);
        else
            jit_move(j, w, dst, op->a);
        if (op->sx)
            x64_jmp(a, end);
    }
    x64_bind(a, minus);
    if (op->sx) {
        if (div) {
            jit_move_operand(j, w, dst, op->a);
            x64_unary(a, X64_NEG, w, dst);
        } else {
            x64_mov_i(a, dst, 0);
        }
    }
    x64_bind(a, end);
}

void jit_emit_div(struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    uint64_t d = op->w ? (uint64_t)op->imm : (uint32_t)op->imm;
    if (op->b == JIT_NONE && !op->sx && (d & (d - 1)) != 0)
        (j->a.bmi2 ? emit_by_constant_bmi : emit_by_constant)(j, op, d);
    else
        emit_division(j, op, pc);
}
