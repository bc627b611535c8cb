/* One instruction, executed on the abstract state: dispatch and arithmetic; see walk.h. */
#include "walk.h"

/* ---------------------------------------------------------------- pointers */

static const char *const pointer_hint =
    "add or subtract 64-bit offsets only; keep addresses in pointer variables";

/* Alignment that an object's base has for certain; 1: none. */
static uint64_t base_alignment(const struct oko_reg *r)
{
    return r->type == OKO_REG_STACK || r->type == OKO_REG_VALUE || r->type == OKO_REG_DATA ? 8 : 1;
}

/* pointer |= number adds it if the bits are clear: clang indexes aligned stack arrays like this. */
static bool or_adds(const struct oko_reg *pointer, const struct oko_reg *number)
{
    uint64_t bits = number->s.full.value | number->s.full.mask;
    uint64_t set = pointer->s.full.value | pointer->s.full.mask;
    return bits < base_alignment(pointer) && (bits & set) == 0;
}

static bool same_object(const struct oko_reg *a, const struct oko_reg *b)
{
    return a->type == b->type && a->index == b->index && a->frame == b->frame && a->obj == b->obj &&
           !a->maybe_null && !b->maybe_null && a->type != OKO_REG_MAP;
}

static int pointer_alu(struct oko_walk *w, struct oko_insn i, struct oko_reg *dst,
                       const struct oko_reg *src)
{
    uint8_t op = oko_insn_op(i);
    if (!oko_opcodes[i.code].is64)
        return oko_refuse(w, pointer_hint, "32-bit arithmetic on %s",
                          oko_reg_describe(oko_reg_is_pointer(dst) ? dst : src));
    if (dst->type == OKO_REG_MAP || src->type == OKO_REG_MAP)
        return oko_refuse(w, "pass maps to helpers as they are", "arithmetic on a map");
    if (op == BPF_SUB && oko_reg_is_pointer(src)) {
        if (!oko_reg_is_pointer(dst) || !same_object(dst, src))
            return oko_refuse(w, "subtract addresses within one object only",
                              "%s is subtracted from %s", oko_reg_describe(src),
                              oko_reg_describe(dst));
        dst->type = OKO_REG_SCALAR;
        dst->index = dst->frame = 0;
        dst->obj = 0;
        oko_reg_alu(&w->cur, BPF_SUB, true, false, dst, src);
        return 0;
    }
    if (op == BPF_ADD && oko_reg_is_pointer(src) && dst->type == OKO_REG_SCALAR) {
        struct oko_reg number = *dst;
        *dst = *src;
        oko_reg_alu(&w->cur, BPF_ADD, true, false, dst, &number);
        return 0;
    }
    if (src->type != OKO_REG_SCALAR)
        return oko_refuse(w, pointer_hint, "arithmetic on %s and %s", oko_reg_describe(dst),
                          oko_reg_describe(src));
    if (op == BPF_OR && or_adds(dst, src))
        op = BPF_ADD;
    if (op != BPF_ADD && op != BPF_SUB)
        return oko_refuse(w, pointer_hint, "arithmetic other than addition on %s",
                          oko_reg_describe(dst));
    oko_reg_alu(&w->cur, op, true, false, dst, src);
    return 0;
}

/* ---------------------------------------------------------------- arithmetic */

static struct oko_reg operand(struct oko_walk *w, struct oko_insn i)
{
    bool is64 = oko_opcodes[i.code].is64;
    if ((i.code & BPF_X) != 0)
        return *oko_walk_reg(w, oko_insn_src(i));
    return oko_reg_const(is64 ? (uint64_t)(int64_t)i.imm : (uint32_t)i.imm);
}

static int step_alu(struct oko_walk *w, struct oko_insn i)
{
    bool is64 = oko_opcodes[i.code].is64;
    uint8_t op = oko_insn_op(i);
    struct oko_reg *dst = oko_walk_reg(w, oko_insn_dst(i)), src;
    bool by_itself = (i.code & BPF_X) != 0 && oko_insn_src(i) == oko_insn_dst(i);
    int status = oko_need_set(w, oko_insn_dst(i));
    if (status == 0 && (i.code & BPF_X) != 0)
        status = oko_need_set(w, oko_insn_src(i));
    if (status != 0)
        return status;
    src = operand(w, i);
    if ((i.code & BPF_X) != 0 && (op == BPF_DIV || op == BPF_MOD))
        oko_gather_divisor(w, !oko_range_has(is64 ? 64 : 32, is64 ? &src.s.full : &src.s.low, 0));
    if (oko_reg_is_pointer(dst) || oko_reg_is_pointer(&src))
        return pointer_alu(w, i, dst, &src);
    if (by_itself && (op == BPF_XOR || op == BPF_SUB))
        *dst = oko_reg_const(0);
    else
        oko_reg_alu(&w->cur, op, is64, i.off == 1, dst, &src);
    return 0;
}

static int step_mov(struct oko_walk *w, struct oko_insn i)
{
    bool is64 = oko_opcodes[i.code].is64;
    struct oko_reg *dst = oko_walk_reg(w, oko_insn_dst(i));
    struct oko_reg src = operand(w, i);
    if (oko_reg_is_pointer(&src) && (!is64 || i.off != 0))
        return oko_refuse(w, pointer_hint, "a part of %s is taken as a number",
                          oko_reg_describe(&src));
    *dst = src; /* a copy of an unset register is harmless until it is read */
    if (src.type != OKO_REG_SCALAR)
        return 0;
    if (i.off != 0)
        oko_reg_sext(&w->cur, (unsigned)i.off, is64, dst);
    else if (!is64)
        oko_reg_zext(&w->cur, 32, dst);
    return 0;
}

static int step_unary(struct oko_walk *w, struct oko_insn i)
{
    struct oko_reg *dst = oko_walk_reg(w, oko_insn_dst(i));
    int status = oko_need_set(w, oko_insn_dst(i));
    if (status != 0)
        return status;
    if (dst->type != OKO_REG_SCALAR)
        return oko_refuse(w, pointer_hint, "arithmetic other than addition on %s",
                          oko_reg_describe(dst));
    if (oko_opcodes[i.code].op == OKO_BPF_NEG)
        oko_reg_neg(&w->cur, oko_opcodes[i.code].is64, dst);
    else if (i.code == (BPF_ALU | BPF_END | BPF_K)) /* hosts are little-endian: only cuts */
        oko_reg_zext(&w->cur, (unsigned)i.imm, dst);
    else
        oko_reg_swap(&w->cur, (unsigned)i.imm, dst);
    return 0;
}

static int step_lddw(struct oko_walk *w, struct oko_insn i)
{
    struct oko_reg *dst = oko_walk_reg(w, oko_insn_dst(i));
    uint32_t high = (uint32_t)w->spec->insns[w->pc + 1].imm;
    switch (oko_insn_src(i)) {
    case OKO_PSEUDO_MAP:
        *dst = oko_reg_pointer(OKO_REG_MAP);
        dst->index = (uint16_t)i.imm;
        break;
    case OKO_PSEUDO_DATA:
        *dst = oko_reg_const(high);
        dst->type = OKO_REG_DATA;
        dst->index = (uint16_t)i.imm;
        break;
    default:
        *dst = oko_reg_const((uint64_t)high << 32 | (uint32_t)i.imm);
        break;
    }
    return 0;
}

/* ---------------------------------------------------------------- dispatch */

int oko_walk_step(struct oko_walk *w, uint32_t *next, uint32_t *branch)
{
    struct oko_insn i = w->spec->insns[w->pc];
    *next = w->pc + oko_insn_slots(i);
    *branch = OKO_CFG_NONE;
    w->weight++;
    switch (oko_opcodes[i.code].op) {
    case OKO_BPF_ALU:
        return step_alu(w, i);
    case OKO_BPF_MOV:
        return step_mov(w, i);
    case OKO_BPF_NEG:
    case OKO_BPF_END:
        return step_unary(w, i);
    case OKO_BPF_LDDW:
        return step_lddw(w, i);
    case OKO_BPF_LD_ABS:
    case OKO_BPF_LD_IND:
        return oko_walk_packet_load(w);
    case OKO_BPF_LDX:
    case OKO_BPF_LDSX:
        return oko_walk_load(w);
    case OKO_BPF_ST:
    case OKO_BPF_STX:
        return oko_walk_store(w);
    case OKO_BPF_ATOMIC:
        return oko_walk_atomic(w);
    case OKO_BPF_JA:
        *next = (uint32_t)((int64_t)w->pc + 1 + oko_insn_jump(i));
        return 0;
    case OKO_BPF_JCOND:
        return oko_walk_branch(w, next, branch);
    case OKO_BPF_CALL:
        return oko_walk_call(w, next);
    case OKO_BPF_EXIT:
        return oko_walk_exit(w, next);
    default:
        return oko_refuse(w, NULL, "this instruction is not for filter programs");
    }
}
