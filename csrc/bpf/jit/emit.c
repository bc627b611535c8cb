/* Machine code of one operation: arithmetic, memory, jumps.
 *
 * Division by zero, shifts, and the most negative number divided by -1 follow RFC 9669 section 4.1;
 * x86-64 agrees on masking shift counts and on zero-extending 32-bit results, and on nothing else.
 * Scratch registers r9, r10, r11 are free inside each operation. */
#include "jit.h"

const uint8_t jit_reg[11] = {RAX, RDI, RSI, RDX, RCX, R8, RBX, RBP, R14, R15, X64_NOREG};

static const enum x64_alu alu_of[] = {
    [JIT_ADD] = X64_ADD, [JIT_SUB] = X64_SUB, [JIT_OR] = X64_OR,
    [JIT_AND] = X64_AND, [JIT_XOR] = X64_XOR,
};

/* The condition codes of jumps other than BPF_JSET. */
static enum x64_cc cc_of(uint8_t jump)
{
    switch (jump) {
    case BPF_JEQ:
        return X64_E;
    case BPF_JNE:
    case BPF_JSET:
        return X64_NE;
    case BPF_JGT:
        return X64_A;
    case BPF_JGE:
        return X64_AE;
    case BPF_JLT:
        return X64_B;
    case BPF_JLE:
        return X64_BE;
    case BPF_JSGT:
        return X64_G;
    case BPF_JSGE:
        return X64_GE;
    case BPF_JSLT:
        return X64_L;
    default:
        return X64_LE;
    }
}

struct x64_mem jit_mem(struct jit *j, unsigned base, int32_t off)
{
    if (base == JIT_FP)
        return x64_at(RSP, (int32_t)j->frame + off);
    return x64_at(jit_reg[base], off);
}

unsigned jit_use(struct jit *j, unsigned reg, unsigned scratch)
{
    if (reg != JIT_FP)
        return jit_reg[reg];
    x64_lea(&j->a, true, scratch, jit_mem(j, JIT_FP, 0));
    return scratch;
}

/* dst = a, unless it is there. w 0 must zero-extend even then. */
static void move(struct jit *j, const struct jit_op *op)
{
    unsigned dst = jit_reg[op->dst];
    unsigned src = jit_use(j, op->a, dst);
    if (src != dst || !op->w)
        x64_mov(&j->a, op->w, dst, src);
}

/* ---------------------------------------------------------------- arithmetic */

static void emit_alu(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    enum x64_alu alu = alu_of[op->op];
    if (op->b != JIT_NONE) {
        x64_alu(a, alu, op->w, dst, jit_use(j, op->b, R11));
        return;
    }
    int32_t imm = (int32_t)op->imm;
    if (op->op == JIT_AND && imm == 0xff)
        x64_movzx(a, 1, dst, dst);
    else if (op->op == JIT_AND && imm == 0xffff)
        x64_movzx(a, 2, dst, dst);
    else /* a positive mask clears the upper half: 32-bit and saves the prefix */
        x64_alu_i(a, alu, op->w && !(op->op == JIT_AND && imm >= 0), dst, imm);
}

static void emit_mul(struct jit *j, const struct jit_op *op)
{
    unsigned dst = jit_reg[op->dst];
    if (op->b == JIT_NONE)
        x64_imul_i(&j->a, op->w, dst, dst, (int32_t)op->imm);
    else
        x64_imul(&j->a, op->w, dst, jit_use(j, op->b, R11));
}

/* Unsigned and signed division and remainder. The divisor goes to r11 (rax and rdx are taken);
 * what lives in rax and rdx waits in r10 and r9. */
static void emit_div(struct jit *j, const struct jit_op *op, uint32_t pc)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    bool div = op->op == JIT_DIV, w = op->w;
    bool by_imm = op->b == JIT_NONE;
    bool may_be_zero = by_imm ? (w ? op->imm : (int32_t)op->imm) == 0
                              : !(j->prog->facts.insn[pc].flags & OKO_FACT_NONZERO);
    bool save_rax = dst != RAX && (op->live & 1 << 0);
    bool save_rdx = dst != RDX && (op->live & 1 << 3);
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
    if (save_rax)
        x64_mov(a, true, R10, RAX);
    if (save_rdx)
        x64_mov(a, true, R9, RDX);
    if (dst != RAX)
        x64_mov(a, w, RAX, dst);
    if (op->sx)
        x64_cdq(a, w);
    else
        x64_mov_i(a, RDX, 0);
    x64_unary(a, op->sx ? X64_IDIV : X64_DIV, w, R11);
    if (dst != (div ? RAX : RDX))
        x64_mov(a, w, dst, div ? RAX : RDX);
    if (save_rax)
        x64_mov(a, true, RAX, R10);
    if (save_rdx)
        x64_mov(a, true, RDX, R9);
    if (may_be_zero || op->sx)
        x64_jmp(a, end);
    x64_bind(a, zero);
    if (may_be_zero) {
        if (div)
            x64_mov_i(a, dst, 0);
        else if (!w)
            x64_mov(a, false, dst, dst);
        if (op->sx)
            x64_jmp(a, end);
    }
    x64_bind(a, minus);
    if (op->sx) {
        if (div)
            x64_unary(a, X64_NEG, w, dst);
        else
            x64_mov_i(a, dst, 0);
    }
    x64_bind(a, end);
}

static void emit_shift(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    enum x64_shift shift = op->op == JIT_LSH ? X64_SHL : op->op == JIT_RSH ? X64_SHR : X64_SAR;
    if (op->b == JIT_NONE) {
        if (op->imm)
            x64_shift_i(a, shift, op->w, dst, (unsigned)op->imm);
        else if (!op->w)
            x64_mov(a, false, dst, dst);
        return;
    }
    unsigned count = jit_use(j, op->b, R11);
    if (a->bmi2) {
        x64_shiftx(a, shift, op->w, dst, dst, count);
    } else if (count == RCX && dst != RCX) {
        x64_shift_cl(a, shift, op->w, dst);
    } else if (dst == RCX) {
        x64_mov(a, true, R10, RCX);
        x64_mov(a, false, RCX, count);
        x64_shift_cl(a, shift, op->w, R10);
        x64_mov(a, true, RCX, R10);
    } else {
        x64_mov(a, true, R10, RCX);
        x64_mov(a, false, RCX, count);
        x64_shift_cl(a, shift, op->w, dst);
        x64_mov(a, true, RCX, R10);
    }
}

static void emit_bswap(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    if (op->width == 2) {
        x64_rol16(a, dst, 8);
        x64_movzx(a, 2, dst, dst);
    } else {
        x64_bswap(a, op->width == 8, dst);
    }
}

/* ---------------------------------------------------------------- memory */

static uint32_t guarded(const struct jit *j, uint32_t pc)
{
    const struct oko_fact *fact = &j->prog->facts.insn[pc];
    return fact->flags & OKO_FACT_GUARD ? fact->guard : OKO_GUARD_NONE;
}

static void emit_load(struct jit *j, const struct jit_op *op)
{
    struct x64_mem m = jit_mem(j, op->a, op->off);
    if (op->sx)
        x64_load_sx(&j->a, op->width, jit_reg[op->dst], m);
    else
        x64_load(&j->a, op->width, jit_reg[op->dst], m);
}

static void emit_store(struct jit *j, const struct jit_op *op)
{
    struct x64_mem m = jit_mem(j, op->a, op->off);
    if (op->b == JIT_NONE)
        x64_store_i(&j->a, op->width, m, (int32_t)op->imm);
    else
        x64_store(&j->a, op->width, m, jit_use(j, op->b, R11));
}

/* and, or, xor that fetch: a loop around cmpxchg, which wants rax. */
static void emit_fetch_loop(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned src = jit_use(j, op->b, R11);
    struct x64_mem m = jit_mem(j, op->a, op->off);
    bool save_rax = src != RAX && (op->live & 1 << 0);
    if (save_rax || src == RAX)
        x64_mov(a, true, R10, RAX);
    if (src == RAX)
        src = R10;
    if (m.base == RAX) {
        x64_mov(a, true, R11, RAX);
        m.base = R11;
    }
    x64_load(a, op->width, RAX, m);
    uint32_t again = x64_label(a);
    x64_bind(a, again);
    x64_mov(a, op->w, R9, RAX);
    x64_alu(a, op->cc == BPF_AND ? X64_AND : op->cc == BPF_OR ? X64_OR : X64_XOR, op->w, R9, src);
    x64_lock_cmpxchg(a, op->width, m, R9);
    x64_jcc(a, X64_NE, again);
    if (op->b != 0)
        x64_mov(a, op->w, jit_reg[op->b], RAX);
    if (save_rax)
        x64_mov(a, true, RAX, R10);
}

static void emit_atomic(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    struct x64_mem m = jit_mem(j, op->a, op->off);
    unsigned src = jit_use(j, op->b, R11);
    switch (op->cc) {
    case BPF_XCHG & ~BPF_FETCH:
        x64_xchg(a, op->width, m, src);
        return;
    case BPF_CMPXCHG & ~BPF_FETCH:
        x64_lock_cmpxchg(a, op->width, m, src);
        if (!op->w) /* success leaves rax alone, its upper half included */
            x64_mov(a, false, RAX, RAX);
        return;
    case BPF_ADD:
        if (op->dst == JIT_NONE)
            x64_lock_alu(a, X64_ADD, op->width, m, src);
        else
            x64_lock_xadd(a, op->width, m, src);
        return;
    default:
        if (op->dst == JIT_NONE)
            x64_lock_alu(a,
                         op->cc == BPF_AND  ? X64_AND
                         : op->cc == BPF_OR ? X64_OR
                                            : X64_XOR,
                         op->width, m, src);
        else
            emit_fetch_loop(j, op);
        return;
    }
}

/* Legacy packet load: env->pkt[imm + a], big-endian; beyond env->len the run ends with 0. */
static void emit_abs(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned env = jit_pin(j, PIN_ENV, R11);
    unsigned width = op->width;
    struct x64_mem len = x64_at(env, (int32_t)offsetof(struct oko_env, len));
    struct x64_mem pkt = x64_at(env, (int32_t)offsetof(struct oko_env, pkt));
    struct x64_mem at;
    if (op->a == JIT_NONE) {
        if (op->imm < 0 || op->imm > OKO_MAX_PKT) {
            jit_emit_abort(j, false);
            return;
        }
        x64_alu_mi(a, X64_CMP, 8, len, (int32_t)op->imm + (int32_t)width);
        jit_emit_abort_if(j, X64_B, false);
        x64_load(a, 8, R10, pkt);
        at = x64_at(R10, (int32_t)op->imm);
    } else { /* the sum is taken modulo 2^64; then it must be <= len - width */
        x64_load(a, 8, R10, len);
        x64_alu_i(a, X64_SUB, true, R10, (int32_t)width);
        jit_emit_abort_if(j, X64_B, false);
        x64_lea(a, true, R9, x64_at(jit_use(j, op->a, R9), (int32_t)op->imm));
        x64_alu(a, X64_CMP, true, R9, R10);
        jit_emit_abort_if(j, X64_A, false);
        x64_load(a, 8, R10, pkt);
        at = x64_at_index(R10, R9, 1, 0);
    }
    x64_load(a, width, RAX, at);
    if (width == 2)
        x64_rol16(a, RAX, 8);
    else if (width > 2)
        x64_bswap(a, width == 8, RAX);
}

/* ---------------------------------------------------------------- run-time checks */

/* The slow check: asks the map. Saves what the call destroys; slow is fine here. */
static void guard_value(struct jit *j, const struct jit_op *op, uint32_t pc)
{
    static const uint8_t saved[6] = {RAX, RDI, RSI, RDX, RCX, R8};
    struct x64 *a = &j->a;
    struct oko_map *map = j->prog->maps[j->prog->facts.insn[pc].guard_map];
    x64_lea(a, true, R9, jit_mem(j, op->a, op->off));
    for (unsigned i = 0; i < 6; i++)
        x64_push(a, saved[i]);
    x64_mov_i(a, RDI, (uintptr_t)map);
    x64_mov(a, true, RSI, R9);
    x64_mov_i(a, RDX, op->width);
    x64_mov(a, true, RCX, jit_pin(j, PIN_ENV, RCX));
    x64_call_c(a, (const void *)(uintptr_t)map->ops->contains);
    x64_movzx(a, 1, R11, RAX);
    for (unsigned i = 6; i-- > 0;)
        x64_pop(a, saved[i]);
    x64_test(a, false, R11, R11);
    jit_emit_abort_if(j, X64_E, true);
}

/* Guarded loading: the access of this operation must lie in the packet or in a map's value. */
static void emit_guard(struct jit *j, const struct jit_op *op, uint32_t pc)
{
    struct x64 *a = &j->a;
    unsigned env = jit_pin(j, PIN_ENV, R11);
    if (guarded(j, pc) == OKO_GUARD_PKT) {
        /* address - pkt <= len - width, unsigned; len < width is checked first */
        x64_load(a, 8, R10, x64_at(env, (int32_t)offsetof(struct oko_env, len)));
        x64_alu_i(a, X64_SUB, true, R10, op->width);
        jit_emit_abort_if(j, X64_B, true);
        x64_lea(a, true, R9, jit_mem(j, op->a, op->off));
        x64_alu_load(a, X64_SUB, true, R9, x64_at(env, (int32_t)offsetof(struct oko_env, pkt)));
        x64_alu(a, X64_CMP, true, R9, R10);
        jit_emit_abort_if(j, X64_A, true);
    } else {
        guard_value(j, op, pc);
    }
}

/* ---------------------------------------------------------------- jumps */

static void emit_jcc(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned x = jit_use(j, op->a, R10);
    bool by_imm = op->b == JIT_NONE;
    if (op->cc == BPF_JSET) {
        if (by_imm)
            x64_test_i(a, op->w, x, (int32_t)op->imm);
        else
            x64_test(a, op->w, x, jit_use(j, op->b, R11));
    } else if (by_imm && op->imm == 0 && (op->cc == BPF_JEQ || op->cc == BPF_JNE)) {
        x64_test(a, op->w, x, x);
    } else if (by_imm) {
        x64_alu_i(a, X64_CMP, op->w, x, (int32_t)op->imm);
    } else {
        x64_alu(a, X64_CMP, op->w, x, jit_use(j, op->b, R11));
    }
    x64_jcc(a, cc_of(op->cc), j->label[op->target]);
}

void jit_emit_op(struct jit *j, uint32_t pc)
{
    struct x64 *a = &j->a;
    const struct jit_op *op = &j->ops[pc];
    const struct oko_fact *fact = &j->prog->facts.insn[pc];
    if (fact->flags & OKO_FACT_FUEL) {
        x64_alu_mi(a, X64_SUB, 8,
                   x64_at(jit_pin(j, PIN_ENV, R11), (int32_t)offsetof(struct oko_env, fuel)), 1);
        jit_emit_abort_if(j, X64_S, true);
    }
    if (guarded(j, pc))
        emit_guard(j, op, pc);
    switch ((enum jit_opcode)op->op) {
    case JIT_NOP:
        break;
    case JIT_MOV:
        if (op->a == JIT_NONE)
            x64_mov_i(a, jit_reg[op->dst], (uint64_t)op->imm);
        else
            move(j, op);
        break;
    case JIT_SEXT:
        x64_movsx(a, op->w, op->width, jit_reg[op->dst], jit_use(j, op->a, R11));
        break;
    case JIT_ZEXT:
        if (op->width < 8)
            x64_movzx(a, op->width, jit_reg[op->dst], jit_use(j, op->a, R11));
        break;
    case JIT_ADD:
    case JIT_SUB:
    case JIT_OR:
    case JIT_AND:
    case JIT_XOR:
        emit_alu(j, op);
        break;
    case JIT_MUL:
        emit_mul(j, op);
        break;
    case JIT_DIV:
    case JIT_MOD:
        emit_div(j, op, pc);
        break;
    case JIT_LSH:
    case JIT_RSH:
    case JIT_ARSH:
        emit_shift(j, op);
        break;
    case JIT_NEG:
        x64_unary(a, X64_NEG, op->w, jit_reg[op->dst]);
        break;
    case JIT_BSWAP:
        emit_bswap(j, op);
        break;
    case JIT_LOAD:
        emit_load(j, op);
        break;
    case JIT_STORE:
        emit_store(j, op);
        break;
    case JIT_ATOMIC:
        emit_atomic(j, op);
        break;
    case JIT_ABS:
        emit_abs(j, op);
        break;
    case JIT_JMP:
        x64_jmp(a, j->label[op->target]);
        break;
    case JIT_JCC:
        emit_jcc(j, op);
        break;
    case JIT_LOCAL:
        jit_emit_local(j, pc);
        break;
    case JIT_HELPER:
        jit_emit_helper(j, pc);
        break;
    case JIT_CALLX:
        jit_emit_callx(j, pc);
        break;
    case JIT_EXIT:
        jit_emit_exit(j, pc == j->order[j->n_order - 1]);
        break;
    }
}
