/* Instructions and facts to operations; functions; live registers.
 *
 * The operation of instruction i stands in ops[i], so jump targets stay what they were; the second
 * half of a 64-bit load is a no-operation. What facts rule out (an untaken branch) is gone after
 * this stage. The decoder has checked every field, so nothing here can be out of range. */
#include <stdlib.h>

#include "jit.h"

#define NO_REGS                                                                                    \
    .dst = JIT_NONE, .a = JIT_NONE, .b = JIT_NONE, .base = JIT_NONE, .index = JIT_NONE,            \
    .sel = JIT_NONE

static const uint8_t alu_op[16] = {
    [BPF_ADD >> 4] = JIT_ADD,   [BPF_SUB >> 4] = JIT_SUB,   [BPF_MUL >> 4] = JIT_MUL,
    [BPF_DIV >> 4] = JIT_DIV,   [BPF_OR >> 4] = JIT_OR,     [BPF_AND >> 4] = JIT_AND,
    [BPF_LSH >> 4] = JIT_LSH,   [BPF_RSH >> 4] = JIT_RSH,   [BPF_NEG >> 4] = JIT_NEG,
    [BPF_MOD >> 4] = JIT_MOD,   [BPF_XOR >> 4] = JIT_XOR,   [BPF_MOV >> 4] = JIT_MOV,
    [BPF_ARSH >> 4] = JIT_ARSH, [BPF_END >> 4] = JIT_BSWAP,
};

static struct jit_op lower_alu(struct oko_insn i)
{
    uint8_t dst = oko_insn_dst(i), src = oko_insn_src(i);
    bool w = oko_insn_class(i) == BPF_ALU64, by_reg = i.code & BPF_X;
    struct jit_op op = {.op = alu_op[i.code >> 4],
                        .w = w,
                        .dst = dst,
                        .a = dst,
                        .b = by_reg ? src : JIT_NONE,
                        .base = JIT_NONE,
                        .index = JIT_NONE,
                        .sel = JIT_NONE,
                        .imm = w ? (int64_t)i.imm : (int64_t)(uint32_t)i.imm};
    switch (oko_insn_op(i)) {
    case BPF_MOV:
        op.a = op.b;
        op.b = JIT_NONE;
        if (i.off) { /* movsx */
            op.op = JIT_SEXT;
            op.width = (uint8_t)(i.off / 8);
        }
        break;
    case BPF_DIV:
    case BPF_MOD:
        op.sx = i.off == 1;
        break;
    case BPF_NEG:
        op.b = JIT_NONE;
        break;
    case BPF_LSH:
    case BPF_RSH:
    case BPF_ARSH:
        op.imm &= w ? 63 : 31;
        break;
    case BPF_END:
        op.b = JIT_NONE;
        op.width = (uint8_t)(i.imm / 8);
        if (!w && !by_reg) /* to little-endian on a little-endian machine: cut off */
            op.op = JIT_ZEXT;
        op.w = true;
        break;
    }
    return op;
}

static struct jit_op lower_atomic(struct oko_insn i)
{
    struct jit_op op = {.op = JIT_ATOMIC,
                        .dst = i.imm & BPF_FETCH ? oko_insn_src(i) : JIT_NONE,
                        .a = JIT_NONE,
                        .b = oko_insn_src(i),
                        .base = oko_insn_dst(i),
                        .index = JIT_NONE,
                        .sel = JIT_NONE,
                        .scale = 1,
                        .width = oko_insn_width(i),
                        .cc = (uint8_t)(i.imm & ~BPF_FETCH),
                        .off = i.off};
    op.w = op.width == 8;
    if (i.imm == BPF_CMPXCHG)
        op.dst = 0;
    return op;
}

static uint16_t bit(unsigned reg)
{
    return (uint16_t)(reg == JIT_NONE ? 0 : 1u << reg);
}

static uint16_t helper_reads(int64_t id) /* unknown ones (conformance): all */
{
    const struct oko_helper *h = oko_helper((int32_t)id);
    uint16_t reads = 0;
    for (unsigned i = 0; h && i < 5; i++)
        if (h->arg[i] != OKO_ARG_NONE)
            reads |= bit(i + 1);
    return h ? reads : 0x3e;
}

static struct jit_op lower_jump(const struct jit *j, uint32_t pc)
{
    struct oko_insn i = j->prog->spec.insns[pc];
    bool w = oko_insn_class(i) == BPF_JMP;
    uint16_t flags = j->prog->facts.insn[pc].flags;
    uint32_t target = (uint32_t)((int64_t)pc + 1 + i.off);
    bool by_reg = i.code & BPF_X;
    struct jit_op op = {NO_REGS, .w = w, .target = target};
    switch (oko_insn_op(i)) {
    case BPF_JA:
        op.op = JIT_JMP;
        if (!w)
            op.target = pc + 1 + (uint32_t)i.imm;
        return op;
    case BPF_EXIT:
        op.op = JIT_EXIT;
        return op;
    case BPF_CALL:
        if (by_reg) {
            op.op = JIT_CALLX;
            op.a = oko_insn_callx_reg(i);
        } else if (oko_insn_src(i) == OKO_PSEUDO_LOCAL) {
            op.op = JIT_LOCAL;
            op.target = pc + 1 + (uint32_t)i.imm;
        } else {
            op.op = JIT_HELPER;
            op.imm = i.imm;
            op.target = (uint32_t)JIT_UNLABELLED;
            op.clobbers = 0x3f;
            op.args = jit_is_unwind(j, &op) ? bit(1) : helper_reads(i.imm);
            if (i.imm == OKO_HELPER_TIME_GET_NS && !(j->prog->flags & OKO_LOAD_CONFORMANCE))
                op.op = JIT_CLOCK;
        }
        op.dst = 0;
        return op;
    }
    op.op = JIT_JCC;
    op.cc = oko_insn_op(i);
    op.a = oko_insn_dst(i);
    op.b = by_reg ? oko_insn_src(i) : JIT_NONE;
    op.imm = i.imm;
    bool always = (flags & OKO_FACT_TAKEN) || ((flags & OKO_FACT_NONNULL) && op.cc == BPF_JNE);
    bool never = (flags & OKO_FACT_NOT_TAKEN) || ((flags & OKO_FACT_NONNULL) && op.cc == BPF_JEQ);
    if (always || never) {
        op.op = always ? JIT_JMP : JIT_NOP;
        op.a = op.b = JIT_NONE;
    }
    return op;
}

static struct jit_op lower_load_imm(const struct jit *j, uint32_t pc)
{
    struct oko_insn i = j->prog->spec.insns[pc], next = j->prog->spec.insns[pc + 1];
    uint64_t value = (uint32_t)i.imm | (uint64_t)(uint32_t)next.imm << 32;
    if (oko_insn_src(i) == OKO_PSEUDO_MAP)
        value = (uintptr_t)j->prog->maps[i.imm];
    else if (oko_insn_src(i) == OKO_PSEUDO_DATA)
        value = (uintptr_t)j->prog->data[i.imm].bytes + (uint32_t)next.imm;
    struct jit_op op = {NO_REGS, .op = JIT_MOV, .w = true, .imm = (int64_t)value};
    op.dst = oko_insn_dst(i);
    return op;
}

static struct jit_op lower(const struct jit *j, uint32_t pc)
{
    struct oko_insn i = j->prog->spec.insns[pc];
    uint8_t mode = i.code & 0xe0;
    struct jit_op op = {NO_REGS,      .w = true,   .scale = 1, .width = oko_insn_width(i),
                        .off = i.off, .imm = i.imm};
    switch (oko_insn_class(i)) {
    case BPF_ALU:
    case BPF_ALU64:
        return lower_alu(i);
    case BPF_JMP:
    case BPF_JMP32:
        return lower_jump(j, pc);
    case BPF_LDX:
        op.op = JIT_LOAD;
        op.dst = oko_insn_dst(i);
        op.base = oko_insn_src(i);
        op.sx = mode == BPF_MEMSX;
        return op;
    case BPF_ST:
    case BPF_STX:
        if (mode == BPF_ATOMIC)
            return lower_atomic(i);
        op.op = JIT_STORE;
        op.base = oko_insn_dst(i);
        op.b = oko_insn_class(i) == BPF_STX ? oko_insn_src(i) : JIT_NONE;
        return op;
    default: /* BPF_LD */
        if (mode == BPF_IMM)
            return lower_load_imm(j, pc);
        op.op = JIT_ABS;
        op.dst = 0;
        op.a = mode == BPF_IND ? oko_insn_src(i) : JIT_NONE;
        op.imm = i.imm; /* signed, as the interpreter has it */
        return op;
    }
}

struct jit_func *jit_func_at(struct jit *j, uint32_t start)
{
    return j->func_at[start] ? &j->funcs[j->func_at[start] - 1] : NULL;
}

static int add_func(struct jit *j, uint32_t start)
{
    if (j->n_funcs == j->funcs_room) {
        uint32_t room = j->funcs_room ? 2 * j->funcs_room : 8;
        struct jit_func *funcs = realloc(j->funcs, room * sizeof(*funcs));
        if (!funcs)
            return OKO_E_NOMEM;
        j->funcs = funcs;
        j->funcs_room = room;
    }
    j->funcs[j->n_funcs++] = (struct jit_func){.start = start, .label = x64_label(&j->a)};
    return 0;
}

/* The entry is no function to be called: a call of its first instruction gets another one. */
static int add_callee(struct jit *j, uint32_t start)
{
    if (jit_func_at(j, start))
        return 0;
    int err = add_func(j, start);
    j->func_at[start] = j->n_funcs;
    return err;
}

int jit_lower(struct jit *j)
{
    const struct oko_insn *insns = j->prog->spec.insns;
    j->n = j->prog->spec.n_insns;
    j->ops = calloc(j->n, sizeof(*j->ops));
    j->label = malloc(j->n * sizeof(*j->label));
    j->order = malloc(j->n * sizeof(*j->order));
    j->work = malloc(j->n * sizeof(*j->work));
    j->seen = calloc(j->n, sizeof(*j->seen));
    j->before = malloc(j->n * sizeof(*j->before));
    j->func_at = calloc(j->n, sizeof(*j->func_at));
    if (!j->ops || !j->label || !j->order || !j->work || !j->seen || !j->before || !j->func_at ||
        add_func(j, 0))
        return OKO_E_NOMEM;
    bool sketches = oko_prog_has_sketch(&j->prog->spec);
    int32_t n_lookups = 0;
    for (uint32_t pc = 0; pc < j->n; pc++) {
        j->ops[pc] = lower(j, pc);
        if (sketches && j->ops[pc].op == JIT_HELPER && j->ops[pc].imm == OKO_HELPER_MAP_LOOKUP)
            j->ops[pc].off = ++n_lookups;
        if (j->ops[pc].op == JIT_LOCAL && add_callee(j, j->ops[pc].target))
            return OKO_E_NOMEM;
        if (insns[pc].code == (BPF_LD | BPF_IMM | BPF_DW)) {
            pc++;
            j->ops[pc] = (struct jit_op){NO_REGS};
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- registers */

uint16_t jit_reads(const struct jit_op *op)
{
    uint16_t reads = bit(op->a) | bit(op->b) | bit(op->base) | bit(op->index) | bit(op->sel);
    switch (op->op) {
    case JIT_ATOMIC:
        return op->cc == (BPF_CMPXCHG & ~BPF_FETCH) ? reads | 1 : reads;
    case JIT_LOCAL:
    case JIT_CALLX:
        return reads | 0x3e;
    case JIT_HELPER:
        return reads | op->args;
    case JIT_EXIT:
        return 1;
    case JIT_SELECT:
        return reads | bit(op->dst);
    default:
        return reads;
    }
}

uint16_t jit_writes(const struct jit_op *op)
{
    switch (op->op) {
    case JIT_LOCAL:
    case JIT_CALLX:
        return 0x3f;
    case JIT_HELPER:
        return op->clobbers;
    default:
        return bit(op->dst);
    }
}

bool jit_is_pure(const struct jit_op *op)
{
    return (op->op >= JIT_MOV && op->op <= JIT_LOAD) || op->op == JIT_SELECT;
}

bool jit_has_target(const struct jit *j, const struct jit_op *op)
{
    return (op->op == JIT_JMP || op->op == JIT_JCC || op->op == JIT_HELPER) && op->target < j->n;
}

bool jit_is_jump(const struct jit_op *op)
{
    return op->op == JIT_JMP || op->op == JIT_EXIT || op->op == JIT_EXIT_IF;
}

/* ---------------------------------------------------------------- one function */

/* Puts the pcs that func reaches into order. */
static void reach(struct jit *j, const struct jit_func *func)
{
    uint32_t n_work = 0, low = func->start, high = func->start;
    uint32_t stamp = ++j->stamp;
    j->work[n_work++] = func->start;
    j->seen[func->start] = stamp;
    while (n_work) {
        uint32_t pc = j->work[--n_work];
        const struct jit_op *op = &j->ops[pc];
        uint32_t next[2], n_next = 0;
        if (jit_has_target(j, op))
            next[n_next++] = op->target;
        if (!jit_is_jump(op) && pc + 1 < j->n)
            next[n_next++] = pc + 1;
        low = pc < low ? pc : low;
        high = pc > high ? pc : high;
        for (uint32_t k = 0; k < n_next; k++) {
            if (j->seen[next[k]] != stamp) {
                j->seen[next[k]] = stamp;
                j->work[n_work++] = next[k];
            }
        }
    }
    j->n_order = 0;
    for (uint32_t pc = low; pc <= high; pc++)
        if (j->seen[pc] == stamp)
            j->order[j->n_order++] = pc;
}

/* Functions of unverified programs may run into each other's instructions. What is known about an
 * operation in one of them need not hold in the other. */
void jit_find_sharing(struct jit *j)
{
    uint32_t *owner = j->label;
    for (uint32_t pc = 0; pc < j->n; pc++)
        owner[pc] = (uint32_t)JIT_UNLABELLED;
    for (uint32_t f = 0; f < j->n_funcs; f++) {
        reach(j, &j->funcs[f]);
        for (uint32_t k = 0; k < j->n_order; k++) {
            uint32_t *first = &owner[j->order[k]];
            if (*first == (uint32_t)JIT_UNLABELLED)
                *first = f;
            else
                j->funcs[f].shares = j->funcs[*first].shares = true;
        }
    }
}

uint16_t jit_live_before(const struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    return (uint16_t)((op->live & ~jit_writes(op)) | jit_reads(op));
}

uint16_t jit_live_after(const struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    uint16_t live = 0;
    if (jit_has_target(j, op))
        live |= jit_live_before(j, op->target);
    if (!jit_is_jump(op) && pc + 1 < j->n)
        live |= jit_live_before(j, pc + 1);
    return live;
}

/* Sets the live registers of the operation at pc from those before its successors, and those before
 * it; true if they were others. */
bool jit_update_live(struct jit *j, uint32_t pc)
{
    struct jit_op *op = &j->ops[pc];
    uint16_t live = 0;
    if (jit_has_target(j, op))
        live |= j->before[op->target];
    if (!jit_is_jump(op) && pc + 1 < j->n)
        live |= j->before[pc + 1];
    if (live == op->live)
        return false;
    op->live = live;
    j->before[pc] = jit_live_before(j, pc);
    return true;
}

/* Backward sweeps until nothing changes; the sets only grow. */
void jit_find_live(struct jit *j)
{
    for (uint32_t k = 0; k < j->n_order; k++) {
        struct jit_op *op = &j->ops[j->order[k]];
        op->live = 0;
        j->before[j->order[k]] = jit_reads(op);
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t k = j->n_order; k-- > 0;)
            changed |= jit_update_live(j, j->order[k]);
    }
}

/* Bytes of stack a function may touch. Once the frame pointer is copied, all of it. */
static uint32_t stack_of(const struct jit_op *op)
{
    if (!(jit_reads(op) & 1 << JIT_FP) || op->op == JIT_HELPER)
        return 0;
    bool access = op->op == JIT_LOAD || op->op == JIT_STORE || op->op == JIT_ATOMIC ||
                  op->op == JIT_MODIFY || op->mem;
    if (!access || op->a == JIT_FP || op->b == JIT_FP || op->index != JIT_NONE || op->off >= 0)
        return OKO_STACK_SIZE;
    return (uint32_t)-op->off;
}

static bool makes_call(const struct jit *j, const struct jit_op *op)
{
    if (op->op == JIT_HELPER && op->call)
        return j->calls[op->call - 1].kind == JIT_CALL_MAP;
    return op->op == JIT_LOCAL || op->op == JIT_CALLX ||
           (op->op == JIT_HELPER && !jit_is_unwind(j, op));
}

static uint32_t buffer_stack(const struct jit_call *call)
{
    uint32_t stack = 0;
    const struct jit_buffer *both[2] = {&call->key, &call->value};
    for (unsigned i = 0; i < 2; i++)
        for (uint32_t k = 0; k < both[i]->n_pieces; k++) {
            const struct jit_piece *p = &both[i]->piece[k];
            if (p->kind == JIT_PIECE_MEM && p->reg == JIT_FP && -p->off > (int32_t)stack)
                stack = (uint32_t)-p->off;
        }
    return stack;
}

/* Room for key and value of a call made with whole words. */
static uint32_t temp_of(const struct jit *j, const struct jit_op *op)
{
    if (op->op != JIT_HELPER || !op->call || j->calls[op->call - 1].kind != JIT_CALL_MAP)
        return 0;
    const struct jit_call *call = &j->calls[op->call - 1];
    return ((call->key.n_pieces ? call->key.size + 7 : 0) & ~7u) +
           ((call->value.n_pieces ? call->value.size + 7 : 0) & ~7u);
}

void jit_analyse(struct jit *j, struct jit_func *func)
{
    reach(j, func);
    jit_find_live(j);
    func->used = 0;
    func->calls = func->clobbers = false;
    func->stack = func->temp = 0;
    for (uint32_t k = 0; k < j->n_order; k++) {
        const struct jit_op *op = &j->ops[j->order[k]];
        bool checks = j->prog->facts.insn[j->order[k]].guard == OKO_GUARD_VALUE;
        func->used |= jit_reads(op) | jit_writes(op);
        func->calls |= makes_call(j, op) || checks;
        func->clobbers |=
            makes_call(j, op) || (op->op == JIT_HELPER && op->call && op->clobbers != 1);
        uint32_t stack = stack_of(op), temp = temp_of(j, op);
        if (op->op == JIT_HELPER && op->call)
            stack = buffer_stack(&j->calls[op->call - 1]);
        func->stack = stack > func->stack ? stack : func->stack;
        func->temp = temp > func->temp ? temp : func->temp;
    }
    func->live_in = jit_live_before(j, func->start);
}
