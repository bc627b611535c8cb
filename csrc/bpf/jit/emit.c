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
    case JIT_JNSET:
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

struct x64_mem jit_mem(struct jit *j, const struct jit_op *op)
{
    struct x64_mem m = {X64_NOREG, X64_NOREG, op->scale, op->off};
    if (op->base == JIT_FP)
        m = x64_at(RSP, (int32_t)j->frame + op->off);
    else if (op->base != JIT_NONE)
        m.base = jit_reg[op->base];
    if (op->index != JIT_NONE) {
        m.index = jit_reg[op->index];
        m.scale = op->scale;
    }
    return m;
}

unsigned jit_use(struct jit *j, unsigned reg, unsigned scratch)
{
    if (reg != JIT_FP)
        return jit_reg[reg];
    x64_lea(&j->a, true, scratch, x64_at(RSP, (int32_t)j->frame));
    return scratch;
}

/* dst = reg, unless it is there. w false must zero-extend even then. */
void jit_move(struct jit *j, bool w, unsigned dst, unsigned reg)
{
    unsigned src = jit_use(j, reg, dst);
    if (src != dst || !w)
        x64_mov(&j->a, w, dst, src);
}

/* The same before an operation of width w that zero-extends anyway. */
void jit_move_operand(struct jit *j, bool w, unsigned dst, unsigned reg)
{
    unsigned src = jit_use(j, reg, dst);
    if (src != dst)
        x64_mov(&j->a, w, dst, src);
}

/* ---------------------------------------------------------------- arithmetic */

/* dst = a + imm without touching a. */
static void add_imm(struct jit *j, bool w, unsigned dst, unsigned reg, int32_t imm)
{
    struct x64 *a = &j->a;
    if (reg == JIT_FP) {
        x64_lea(a, true, dst, x64_at(RSP, (int32_t)j->frame + imm));
        if (!w)
            x64_mov(a, false, dst, dst);
    } else if (jit_reg[reg] == dst && imm == 128) {
        x64_alu_i(a, X64_SUB, w, dst, -128); /* fits in a byte */
    } else if (jit_reg[reg] == dst) {
        x64_alu_i(a, X64_ADD, w, dst, imm);
    } else {
        x64_lea(a, w, dst, x64_at(jit_reg[reg], imm));
    }
}

static void emit_alu_imm(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    int32_t imm = (int32_t)op->imm;
    if (op->op == JIT_ADD) {
        add_imm(j, op->w, dst, op->a, imm);
    } else if (op->op == JIT_SUB && imm != INT32_MIN) {
        add_imm(j, op->w, dst, op->a, -imm);
    } else if (op->op == JIT_AND && (imm == 0xff || imm == 0xffff)) {
        x64_movzx(a, imm == 0xff ? 1 : 2, dst, jit_use(j, op->a, dst));
    } else { /* a positive mask clears the upper half: 32-bit and saves the prefix */
        bool w = op->w && !(op->op == JIT_AND && imm >= 0);
        jit_move_operand(j, w, dst, op->a);
        x64_alu_i(a, alu_of[op->op], w, dst, imm);
    }
}

static void emit_alu(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    if (op->b == JIT_NONE) {
        emit_alu_imm(j, op);
        return;
    }
    unsigned dst = jit_reg[op->dst], left = op->a, right = op->b;
    bool commutes = op->op != JIT_SUB;
    if (commutes && right != JIT_FP && jit_reg[right] == dst) {
        right = left;
        left = op->b;
    }
    if (left != JIT_FP && jit_reg[left] == dst) {
        x64_alu(a, alu_of[op->op], op->w, dst, jit_use(j, right, R11));
    } else if (op->op == JIT_ADD && left != JIT_FP && right != JIT_FP) {
        x64_lea(a, op->w, dst, x64_at_index(jit_reg[left], jit_reg[right], 1, 0));
    } else if (right != JIT_FP && jit_reg[right] == dst) { /* dst = left - dst */
        x64_unary(a, X64_NEG, op->w, dst);
        x64_alu(a, X64_ADD, op->w, dst, jit_use(j, left, R11));
    } else {
        jit_move_operand(j, op->w, dst, left);
        x64_alu(a, alu_of[op->op], op->w, dst, jit_use(j, right, R11));
    }
}

static void emit_mul(struct jit *j, const struct jit_op *op)
{
    unsigned dst = jit_reg[op->dst], left = op->a, right = op->b;
    if (right == JIT_NONE) {
        unsigned src = jit_use(j, left, R11);
        if (op->imm == 3 || op->imm == 5 || op->imm == 9)
            x64_lea(&j->a, op->w, dst, x64_at_index(src, src, (unsigned)op->imm - 1, 0));
        else
            x64_imul_i(&j->a, op->w, dst, src, (int32_t)op->imm);
        return;
    }
    if (right != JIT_FP && jit_reg[right] == dst) {
        right = left;
        left = op->b;
    }
    jit_move_operand(j, op->w, dst, left);
    x64_imul(&j->a, op->w, dst, jit_use(j, right, R11));
}

static void emit_shift(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    enum x64_shift shift = op->op == JIT_LSH ? X64_SHL : op->op == JIT_RSH ? X64_SHR : X64_SAR;
    if (op->b == JIT_NONE) {
        if (op->imm == 0) {
            jit_move(j, op->w, dst, op->a);
        } else if (op->op == JIT_LSH && op->imm == 1 && op->a != JIT_FP && jit_reg[op->a] != dst) {
            x64_lea(a, op->w, dst, x64_at_index(jit_reg[op->a], jit_reg[op->a], 1, 0));
        } else {
            jit_move_operand(j, op->w, dst, op->a);
            x64_shift_i(a, shift, op->w, dst, (unsigned)op->imm);
        }
        return;
    }
    unsigned count = jit_use(j, op->b, R11);
    if (a->bmi2) {
        x64_shiftx(a, shift, op->w, dst, jit_use(j, op->a, R10), count);
    } else if (count == RCX && dst != RCX) {
        jit_move_operand(j, op->w, dst, op->a);
        x64_shift_cl(a, shift, op->w, dst);
    } else {
        x64_mov(a, true, R9, RCX);
        jit_move_operand(j, true, R10, op->a);
        x64_mov(a, false, RCX, count);
        x64_shift_cl(a, shift, op->w, R10);
        x64_mov(a, true, RCX, R9);
        x64_mov(a, true, dst, R10);
    }
}

static void emit_rol(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst], src = jit_use(j, op->a, R11);
    if (dst != src && a->bmi2) {
        x64_rorx(a, op->w, dst, src, (op->w ? 64u : 32u) - (unsigned)op->imm);
    } else {
        jit_move_operand(j, op->w, dst, op->a);
        x64_shift_i(a, X64_ROL, op->w, dst, (unsigned)op->imm);
    }
}

static void emit_bswap(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned dst = jit_reg[op->dst];
    if (op->width == 2) {
        x64_movzx(a, 2, dst, jit_use(j, op->a, dst));
        x64_rol16(a, dst, 8);
    } else {
        jit_move_operand(j, op->width == 8, dst, op->a);
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
    struct x64_mem m = jit_mem(j, op);
    if (op->sx)
        x64_load_sx(&j->a, op->width, jit_reg[op->dst], m);
    else
        x64_load(&j->a, op->width, jit_reg[op->dst], m);
}

static void emit_modify(struct jit *j, const struct jit_op *op)
{
    struct x64_mem m = jit_mem(j, op);
    if (op->b == JIT_NONE)
        x64_alu_mi(&j->a, alu_of[op->cc], op->width, m, (int32_t)op->imm);
    else
        x64_alu_m(&j->a, alu_of[op->cc], op->width, m, jit_reg[op->b]);
}

static void emit_store(struct jit *j, const struct jit_op *op)
{
    struct x64_mem m = jit_mem(j, op);
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
    struct x64_mem m = jit_mem(j, op);
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
    struct x64_mem m = jit_mem(j, op);
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
    x64_lea(a, true, R9, jit_mem(j, op));
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
        x64_lea(a, true, R9, jit_mem(j, op));
        x64_alu_load(a, X64_SUB, true, R9, x64_at(env, (int32_t)offsetof(struct oko_env, pkt)));
        x64_alu(a, X64_CMP, true, R9, R10);
        jit_emit_abort_if(j, X64_A, true);
    } else {
        guard_value(j, op, pc);
    }
}

/* ---------------------------------------------------------------- jumps */

static bool tests_bits(const struct jit_op *op)
{
    return op->cc == BPF_JSET || op->cc == JIT_JNSET;
}

/* Do the flags already tell? */
static bool same_comparison(const struct jit *j, const struct jit_op *op)
{
    const struct jit_op *f = &j->flags;
    return j->flags_valid && !op->mem && f->a == op->a && f->b == op->b && f->w == op->w &&
           f->imm == op->imm && tests_bits(f) == tests_bits(op);
}

/* Operations whose code leaves the flags alone. */
static bool keeps_flags(const struct jit_op *op)
{
    switch ((enum jit_opcode)op->op) {
    case JIT_NOP:
    case JIT_MOV:
    case JIT_SEXT:
    case JIT_ZEXT:
    case JIT_CLOCK:
    case JIT_LOAD:
    case JIT_STORE:
    case JIT_SELECT:
    case JIT_JCC:
        return true;
    default:
        return false;
    }
}

/* Sets the flags for a cc b; returns the condition that then holds. */
static enum x64_cc compare(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    bool by_imm = op->b == JIT_NONE;
    int32_t imm = (int32_t)op->imm;
    if (op->mem) {
        struct x64_mem m = jit_mem(j, op);
        j->flags_valid = false;
        if (tests_bits(op))
            x64_test_m(a, op->width, m, imm);
        else if (by_imm)
            x64_alu_mi(a, X64_CMP, op->width, m, imm);
        else
            x64_alu_m(a, X64_CMP, op->width, m, jit_use(j, op->b, R11));
        return cc_of(op->cc);
    }
    if (same_comparison(j, op))
        return cc_of(op->cc);
    unsigned x = jit_use(j, op->a, R10);
    j->flags = *op;
    j->flags_valid = true;
    if (tests_bits(op)) {
        if (by_imm)
            x64_test_i(a, op->w, x, imm);
        else
            x64_test(a, op->w, x, jit_use(j, op->b, R11));
    } else if (by_imm && imm == 0 && (op->cc == BPF_JEQ || op->cc == BPF_JNE)) {
        x64_test(a, op->w, x, x);
    } else if (by_imm) {
        x64_alu_i(a, X64_CMP, op->w, x, imm);
    } else {
        x64_alu(a, X64_CMP, op->w, x, jit_use(j, op->b, R11));
    }
    return cc_of(op->cc);
}

static void emit_select(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned value = R9;
    if (op->sel != JIT_NONE)
        value = jit_reg[op->sel];
    else /* before the comparison, if there is one: it may clear the flags */
        x64_mov_i_flags(a, R9, op->target);
    enum x64_cc cc = compare(j, op);
    x64_cmov(a, cc, true, jit_reg[op->dst], value);
}

/* Label of a jump's target; the two constant results have one each. */
static uint32_t target_label(const struct jit *j, const struct jit_op *op)
{
    return op->target < j->n ? j->label[op->target] : j->result_label[op->target - j->n];
}

/* The operation that a jump to pc executes first. */
static uint32_t first_after(const struct jit *j, uint32_t pc)
{
    while (pc + 1 < j->n && j->ops[pc].op == JIT_NOP)
        pc++;
    return pc;
}

void jit_emit_op(struct jit *j, uint32_t pc, uint32_t next)
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
    if (!keeps_flags(op) || (fact->flags & (OKO_FACT_GUARD | OKO_FACT_FUEL)))
        j->flags_valid = false;
    switch ((enum jit_opcode)op->op) {
    case JIT_NOP:
        break;
    case JIT_MOV:
        if (op->a == JIT_NONE && j->flags_valid)
            x64_mov_i_flags(a, jit_reg[op->dst], (uint64_t)op->imm);
        else if (op->a == JIT_NONE)
            x64_mov_i(a, jit_reg[op->dst], (uint64_t)op->imm);
        else
            jit_move(j, op->w, jit_reg[op->dst], op->a);
        break;
    case JIT_SEXT:
        x64_movsx(a, op->w, op->width, jit_reg[op->dst], jit_use(j, op->a, R11));
        break;
    case JIT_ZEXT:
        if (op->width == 8)
            jit_move(j, true, jit_reg[op->dst], op->a);
        else
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
        jit_emit_div(j, pc);
        break;
    case JIT_LSH:
    case JIT_RSH:
    case JIT_ARSH:
        emit_shift(j, op);
        break;
    case JIT_NEG:
        jit_move_operand(j, op->w, jit_reg[op->dst], op->a);
        x64_unary(a, X64_NEG, op->w, jit_reg[op->dst]);
        break;
    case JIT_ROL:
        emit_rol(j, op);
        break;
    case JIT_CLOCK: {
        unsigned dst = jit_reg[op->dst];
        x64_load(a, 8, dst,
                 x64_at(jit_pin(j, PIN_META, dst), (int32_t)offsetof(struct oko_meta, rx_ns)));
        break;
    }
    case JIT_BSWAP:
        emit_bswap(j, op);
        break;
    case JIT_LOAD:
        emit_load(j, op);
        break;
    case JIT_STORE:
        emit_store(j, op);
        break;
    case JIT_MODIFY:
        emit_modify(j, op);
        break;
    case JIT_ATOMIC:
        emit_atomic(j, op);
        break;
    case JIT_ABS:
        emit_abs(j, op);
        break;
    case JIT_JMP:
        if (op->target >= j->n)
            jit_emit_exit_const(j, op->target - j->n, next == j->n);
        else if (first_after(j, op->target) != next)
            x64_jmp(a, target_label(j, op));
        break;
    case JIT_JCC: {
        enum x64_cc cc = compare(j, op);
        x64_jcc(a, cc, target_label(j, op));
        break;
    }
    case JIT_SELECT:
        emit_select(j, op);
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
        jit_emit_exit(j, next == j->n);
        break;
    case JIT_EXIT_IF:
        jit_emit_exit_if(j, compare(j, op), next == j->n);
        break;
    }
    uint16_t compared = (uint16_t)((j->flags.a < 10 ? 1u << j->flags.a : 0u) |
                                   (j->flags.b < 10 ? 1u << j->flags.b : 0u));
    if (jit_writes(op) & compared)
        j->flags_valid = false;
}
