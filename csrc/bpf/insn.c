/* THE instruction table, and what follows from it: the decoder's checks and the disassembler.
 *
 * One row per opcode byte. Rows are made from a few macros (ALU operations exist in four forms,
 * jumps in four, loads and stores in four widths), so that what two forms share is said once. Who
 * wants to know whether an instruction is legal, which fields it uses or how it prints asks here.
 *
 * Thread-safety: pure functions over constant tables. */
#include "insn.h"

#include "../base/bits.h"
#include "../base/err.h"
#include "helper.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- the table */

#define RW_DST (OKO_USE_DST | OKO_READS_DST | OKO_WRITES_DST)
#define R_DST  (OKO_USE_DST | OKO_READS_DST)
#define W_DST  (OKO_USE_DST | OKO_WRITES_DST)

/* Four forms of an ALU operation. OFF for those whose offset chooses a variant. */
#define ALU(code, op, dst, off, group32, group64, text)                                            \
    [BPF_ALU | code |                                                                              \
        BPF_K] = {op, dst | off | OKO_USE_IMM, group32, 1, 0, false, text},                        \
        [BPF_ALU | code | BPF_X] = {op, dst | off | OKO_USE_SRC, group32, 1, 0, false, text},      \
        [BPF_ALU64 | code | BPF_K] = {op, dst | off | OKO_USE_IMM, group64, 1, 0, true, text},     \
        [BPF_ALU64 | code | BPF_X] = {op, dst | off | OKO_USE_SRC, group64, 1, 0, true, text}
#define ALU_BASE(code, text)                                                                       \
    ALU(code, OKO_BPF_ALU, RW_DST, 0, OKO_GROUP_BASE32, OKO_GROUP_BASE64, text)
#define ALU_DIV(code, text)                                                                        \
    ALU(code, OKO_BPF_ALU, RW_DST, OKO_USE_OFF, OKO_GROUP_DIVMUL32, OKO_GROUP_DIVMUL64, text)

#define JUMP(code, first, text)                                                                    \
    [BPF_JMP | code |                                                                              \
        BPF_K] = {OKO_BPF_JCOND,                                                                   \
                  R_DST | OKO_USE_OFF | OKO_USE_IMM,                                               \
                  OKO_GROUP_BASE64,                                                                \
                  first,                                                                           \
                  0,                                                                               \
                  true,                                                                            \
                  text},                                                                           \
        [BPF_JMP | code | BPF_X] =                                                                 \
            {OKO_BPF_JCOND, R_DST | OKO_USE_OFF | OKO_USE_SRC, OKO_GROUP_BASE64, first, 0, true,   \
             text},                                                                                \
        [BPF_JMP32 | code | BPF_K] = {OKO_BPF_JCOND,                                               \
                                      R_DST | OKO_USE_OFF | OKO_USE_IMM,                           \
                                      OKO_GROUP_BASE32,                                            \
                                      3,                                                           \
                                      0,                                                           \
                                      false,                                                       \
                                      text},                                                       \
        [BPF_JMP32 | code | BPF_X] = {                                                             \
            OKO_BPF_JCOND, R_DST | OKO_USE_OFF | OKO_USE_SRC, OKO_GROUP_BASE32, 3, 0, false, text}

#define MEMORY(size, bytes, group)                                                                 \
    [BPF_LDX | BPF_MEM |                                                                           \
        size] = {OKO_BPF_LDX, W_DST | OKO_USE_SRC | OKO_USE_OFF, group, 1, bytes, true, "u"},      \
        [BPF_ST | BPF_MEM |                                                                        \
            size] = {OKO_BPF_ST, R_DST | OKO_USE_OFF | OKO_USE_IMM, group, 1, bytes, true, "u"},   \
        [BPF_STX | BPF_MEM |                                                                       \
            size] = {OKO_BPF_STX, R_DST | OKO_USE_SRC | OKO_USE_OFF, group, 1, bytes, true, "u"}

#define LOAD_SX(size, bytes)                                                                       \
    [BPF_LDX | BPF_MEMSX | size] = {                                                               \
        OKO_BPF_LDSX, W_DST | OKO_USE_SRC | OKO_USE_OFF, OKO_GROUP_BASE64, 4, bytes, true, "s"}

#define ATOMIC(size, bytes, group)                                                                 \
    [BPF_STX | BPF_ATOMIC | size] = {OKO_BPF_ATOMIC,                                               \
                                     R_DST | OKO_USE_SRC | OKO_USE_OFF | OKO_USE_IMM,              \
                                     group,                                                        \
                                     1,                                                            \
                                     bytes,                                                        \
                                     bytes == 8,                                                   \
                                     "u"}

#define PACKET(size, bytes)                                                                        \
    [BPF_LD | BPF_ABS |                                                                            \
        size] = {OKO_BPF_LD_ABS, OKO_USE_IMM, OKO_GROUP_PACKET, 1, bytes, true, "u"},              \
        [BPF_LD | BPF_IND | size] = {                                                              \
            OKO_BPF_LD_IND, OKO_USE_SRC | OKO_USE_IMM, OKO_GROUP_PACKET, 1, bytes, true, "u"}

const struct oko_opcode oko_opcodes[256] = {
    ALU_BASE(BPF_ADD, "+="),
    ALU_BASE(BPF_SUB, "-="),
    ALU_BASE(BPF_OR, "|="),
    ALU_BASE(BPF_AND, "&="),
    ALU_BASE(BPF_LSH, "<<="),
    ALU_BASE(BPF_RSH, ">>="),
    ALU_BASE(BPF_XOR, "^="),
    ALU_BASE(BPF_ARSH, "s>>="),
    ALU(BPF_MUL, OKO_BPF_ALU, RW_DST, 0, OKO_GROUP_DIVMUL32, OKO_GROUP_DIVMUL64, "*="),
    ALU_DIV(BPF_DIV, "/="),
    ALU_DIV(BPF_MOD, "%="),
    ALU(BPF_MOV, OKO_BPF_MOV, W_DST, OKO_USE_OFF, OKO_GROUP_BASE32, OKO_GROUP_BASE64, "="),
    [BPF_ALU | BPF_NEG] = {OKO_BPF_NEG, RW_DST, OKO_GROUP_BASE32, 1, 0, false, "-"},
    [BPF_ALU64 | BPF_NEG] = {OKO_BPF_NEG, RW_DST, OKO_GROUP_BASE64, 1, 0, true, "-"},
    [BPF_ALU | BPF_END |
        BPF_K] = {OKO_BPF_END, RW_DST | OKO_USE_IMM, OKO_GROUP_BASE32, 1, 0, true, "le"},
    [BPF_ALU | BPF_END |
        BPF_X] = {OKO_BPF_END, RW_DST | OKO_USE_IMM, OKO_GROUP_BASE32, 1, 0, true, "be"},
    [BPF_ALU64 | BPF_END |
        BPF_K] = {OKO_BPF_END, RW_DST | OKO_USE_IMM, OKO_GROUP_BASE32, 4, 0, true, "swap"},

    [BPF_LD | BPF_IMM | BPF_DW] = {OKO_BPF_LDDW, W_DST | OKO_USE_SRC | OKO_USE_IMM,
                                   OKO_GROUP_BASE64, 1, 0, true, "="},
    PACKET(BPF_B, 1),
    PACKET(BPF_H, 2),
    PACKET(BPF_W, 4),

    MEMORY(BPF_B, 1, OKO_GROUP_BASE32),
    MEMORY(BPF_H, 2, OKO_GROUP_BASE32),
    MEMORY(BPF_W, 4, OKO_GROUP_BASE32),
    MEMORY(BPF_DW, 8, OKO_GROUP_BASE64),
    LOAD_SX(BPF_B, 1),
    LOAD_SX(BPF_H, 2),
    LOAD_SX(BPF_W, 4),
    ATOMIC(BPF_W, 4, OKO_GROUP_ATOMIC32),
    ATOMIC(BPF_DW, 8, OKO_GROUP_ATOMIC64),

    [BPF_JMP | BPF_JA] = {OKO_BPF_JA, OKO_USE_OFF, OKO_GROUP_BASE32, 1, 0, true, ""},
    [BPF_JMP32 | BPF_JA] = {OKO_BPF_JA, OKO_USE_IMM, OKO_GROUP_BASE32, 4, 0, true, ""},
    JUMP(BPF_JEQ, 1, "=="),
    JUMP(BPF_JNE, 1, "!="),
    JUMP(BPF_JSET, 1, "&"),
    JUMP(BPF_JGT, 1, ">"),
    JUMP(BPF_JGE, 1, ">="),
    JUMP(BPF_JSGT, 1, "s>"),
    JUMP(BPF_JSGE, 1, "s>="),
    JUMP(BPF_JLT, 2, "<"),
    JUMP(BPF_JLE, 2, "<="),
    JUMP(BPF_JSLT, 2, "s<"),
    JUMP(BPF_JSLE, 2, "s<="),
    [BPF_JMP | BPF_CALL |
        BPF_K] = {OKO_BPF_CALL, OKO_USE_SRC | OKO_USE_IMM, OKO_GROUP_BASE32, 1, 0, true, ""},
    [BPF_JMP | BPF_CALL |
        BPF_X] = {OKO_BPF_CALLX, R_DST | OKO_USE_IMM, OKO_GROUP_CALLX, 1, 0, true, ""},
    [BPF_JMP | BPF_EXIT] = {OKO_BPF_EXIT, 0, OKO_GROUP_BASE32, 1, 0, true, ""},
};

uint8_t oko_insn_width(struct oko_insn i)
{
    return oko_opcodes[i.code].width;
}

/* ---------------------------------------------------------------- decoder checks */

struct checker {
    const struct oko_prog_spec *spec;
    uint32_t flags;
    struct oko_error *error;
    uint32_t first, end; /* of the function that holds the instruction at hand */
};

static bool is_second_half(const struct oko_prog_spec *spec, uint32_t pc)
{
    /* The byte code 0 is no instruction, so the slot before tells. That slot cannot itself be a
     * second half: its code would be 0. */
    return pc > 0 && spec->insns[pc - 1].code == (BPF_LD | BPF_IMM | BPF_DW);
}

static bool in_conformance(const struct checker *c)
{
    return (c->flags & OKO_LOAD_CONFORMANCE) != 0;
}

static bool is_func_start(const struct oko_prog_spec *spec, uint32_t pc)
{
    for (uint32_t i = 0; i < spec->n_funcs; i++)
        if (spec->funcs[i].insn == pc)
            return true;
    return false;
}

static int check_registers(const struct checker *c, uint32_t pc, struct oko_insn i)
{
    const struct oko_opcode *row = &oko_opcodes[i.code];
    if (oko_insn_dst(i) >= OKO_N_REGS || oko_insn_src(i) >= OKO_N_REGS)
        return oko_err_at(c->error, OKO_E_INVAL, pc, "there is no register r%u",
                          oko_insn_dst(i) >= OKO_N_REGS ? oko_insn_dst(i) : oko_insn_src(i));
    bool load_result = row->op == OKO_BPF_ATOMIC && (i.imm & BPF_FETCH) != 0 &&
                       i.imm != (int32_t)BPF_CMPXCHG && oko_insn_src(i) == 10;
    if (((row->use & OKO_WRITES_DST) != 0 && oko_insn_dst(i) == 10) || load_result)
        return oko_err_at(c->error, OKO_E_INVAL, pc, "r10, the frame pointer, is read-only");
    return 0;
}

static int check_unused(const struct checker *c, uint32_t pc, struct oko_insn i)
{
    const struct oko_opcode *row = &oko_opcodes[i.code];
    const char *field = NULL;
    if ((row->use & OKO_USE_DST) == 0 && oko_insn_dst(i) != 0)
        field = "dst";
    else if ((row->use & OKO_USE_SRC) == 0 && oko_insn_src(i) != 0)
        field = "src";
    else if ((row->use & OKO_USE_OFF) == 0 && i.off != 0)
        field = "offset";
    else if ((row->use & OKO_USE_IMM) == 0 && i.imm != 0)
        field = "imm";
    if (field == NULL)
        return 0;
    return oko_err_at(c->error, OKO_E_INVAL, pc,
                      "opcode 0x%02x does not use its %s field, which must be zero", i.code, field);
}

/* Fields that choose among variants of an opcode. */
static int check_variant(const struct checker *c, uint32_t pc, struct oko_insn i)
{
    const struct oko_opcode *row = &oko_opcodes[i.code];
    uint8_t operation = oko_insn_op(i);
    switch (row->op) {
    case OKO_BPF_ALU:
        if ((operation == BPF_DIV || operation == BPF_MOD) && i.off != 0 && i.off != 1)
            return oko_err_at(c->error, OKO_E_INVAL, pc,
                              "offset %d of a division is neither 0 nor 1 (signed)", i.off);
        return 0;
    case OKO_BPF_MOV:
        if (i.off == 0 ||
            ((i.code & BPF_X) != 0 && (i.off == 8 || i.off == 16 || (i.off == 32 && row->is64))))
            return 0;
        return oko_err_at(c->error, OKO_E_INVAL, pc,
                          "offset %d of a move is not a width to sign-extend from", i.off);
    case OKO_BPF_END:
        if (i.imm != 16 && i.imm != 32 && i.imm != 64)
            return oko_err_at(c->error, OKO_E_INVAL, pc,
                              "byte swap of %d bits: only 16, 32 and 64 exist", i.imm);
        return 0;
    case OKO_BPF_ATOMIC:
        switch ((uint32_t)i.imm) {
        case BPF_ADD:
        case BPF_OR:
        case BPF_AND:
        case BPF_XOR:
        case BPF_ADD | BPF_FETCH:
        case BPF_OR | BPF_FETCH:
        case BPF_AND | BPF_FETCH:
        case BPF_XOR | BPF_FETCH:
        case BPF_XCHG:
        case BPF_CMPXCHG:
            return 0;
        default:
            return oko_err_at(c->error, OKO_E_INVAL, pc, "unknown atomic operation 0x%" PRIx32,
                              (uint32_t)i.imm);
        }
    default:
        return 0;
    }
}

static int check_lddw(const struct checker *c, uint32_t pc, struct oko_insn i)
{
    const struct oko_prog_spec *spec = c->spec;
    if (pc + 1 >= spec->n_insns)
        return oko_err_at(c->error, OKO_E_INVAL, pc, "the second half of a 64-bit load is missing");
    struct oko_insn second = spec->insns[pc + 1];
    if (second.code != 0 || second.regs != 0 || second.off != 0)
        return oko_err_at(c->error, OKO_E_INVAL, pc,
                          "the second half of a 64-bit load has non-zero fields beside imm");
    uint32_t index = (uint32_t)i.imm;
    switch (oko_insn_src(i)) {
    case 0:
        return 0;
    case OKO_PSEUDO_MAP:
        if (index >= spec->n_maps)
            return oko_err_at(c->error, OKO_E_INVAL, pc,
                              "map number %" PRIu32 ", but the program has %" PRIu32, index,
                              spec->n_maps);
        if (second.imm != 0)
            return oko_err_at(c->error, OKO_E_INVAL, pc, "a map reference has an offset");
        return 0;
    case OKO_PSEUDO_DATA:
        if (index >= spec->n_data)
            return oko_err_at(c->error, OKO_E_INVAL, pc,
                              "data section number %" PRIu32 ", but the program has %" PRIu32,
                              index, spec->n_data);
        if ((uint32_t)second.imm > spec->data[index].size)
            return oko_err_at(c->error, OKO_E_INVAL, pc,
                              "offset %" PRIu32 " is outside data section %.63s of %" PRIu32
                              " bytes",
                              (uint32_t)second.imm, spec->data[index].name, spec->data[index].size);
        return 0;
    default:
        return oko_err_at(c->error, OKO_E_INVAL, pc, "unknown kind %u of 64-bit load",
                          oko_insn_src(i));
    }
}

static int check_jump(const struct checker *c, uint32_t pc, struct oko_insn i)
{
    int64_t target = (int64_t)pc + 1 + oko_insn_jump(i);
    if (target < 0 || target >= (int64_t)c->spec->n_insns)
        return oko_err_at(c->error, OKO_E_INVAL, pc, "jump out of the program");
    if (is_second_half(c->spec, (uint32_t)target))
        return oko_err_at(c->error, OKO_E_INVAL, pc,
                          "jump into the second half of a 64-bit load at %" PRId64, target);
    if (target < (int64_t)c->first || target >= (int64_t)c->end)
        return oko_err_at(c->error, OKO_E_INVAL, pc, "jump out of its function, to %" PRId64,
                          target);
    return 0;
}

static int check_call(const struct checker *c, uint32_t pc, struct oko_insn i)
{
    if (oko_insn_src(i) == 0) {
        if (oko_helper(i.imm) == NULL) {
            oko_err_at(c->error, OKO_E_INVAL, pc, "there is no helper number %" PRId32, i.imm);
            oko_err_hint(c->error, "helpers are map_lookup 1, map_update 2, map_delete 3, "
                                   "map_add 4, time_get_ns 5, hash 6, printf 7");
            return OKO_E_INVAL;
        }
        return 0;
    }
    if (oko_insn_src(i) != OKO_PSEUDO_LOCAL)
        return oko_err_at(c->error, OKO_E_INVAL, pc, "unknown kind %u of call", oko_insn_src(i));
    int64_t target = (int64_t)pc + 1 + i.imm;
    if (target < 0 || target >= (int64_t)c->spec->n_insns)
        return oko_err_at(c->error, OKO_E_INVAL, pc, "call out of the program");
    if (is_second_half(c->spec, (uint32_t)target))
        return oko_err_at(c->error, OKO_E_INVAL, pc,
                          "call into the second half of a 64-bit load at %" PRId64, target);
    bool anywhere = in_conformance(c) && c->spec->n_funcs <= 1;
    if (!anywhere && !is_func_start(c->spec, (uint32_t)target))
        return oko_err_at(c->error, OKO_E_INVAL, pc,
                          "call to %" PRId64 ", which is not the start of a function", target);
    return 0;
}

static int check_insn(const struct checker *c, uint32_t pc)
{
    struct oko_insn i = c->spec->insns[pc];
    const struct oko_opcode *row = &oko_opcodes[i.code];
    if (row->op == OKO_BPF_NONE || (row->op == OKO_BPF_CALLX && !in_conformance(c)))
        return oko_err_at(c->error, OKO_E_INVAL, pc, "unknown opcode 0x%02x", i.code);
    int status = check_registers(c, pc, i);
    if (status == 0)
        status = check_unused(c, pc, i);
    if (status == 0)
        status = check_variant(c, pc, i);
    if (status != 0)
        return status;
    switch (row->op) {
    case OKO_BPF_LDDW:
        return check_lddw(c, pc, i);
    case OKO_BPF_JA:
    case OKO_BPF_JCOND:
        return check_jump(c, pc, i);
    case OKO_BPF_CALL:
        return check_call(c, pc, i);
    case OKO_BPF_CALLX:
        if ((i.imm != 0 && oko_insn_dst(i) != 0) || (uint32_t)i.imm >= OKO_N_REGS)
            return oko_err_at(c->error, OKO_E_INVAL, pc, "malformed call by register");
        return 0;
    default:
        return 0;
    }
}

static int check_funcs(const struct oko_prog_spec *spec, struct oko_error *error)
{
    if (spec->n_funcs > OKO_MAX_FUNCS)
        return oko_err(error, OKO_E_LIMIT, "%" PRIu32 " functions; at most %d are possible",
                       spec->n_funcs, OKO_MAX_FUNCS);
    for (uint32_t i = 0; i < spec->n_funcs; i++) {
        uint32_t start = spec->funcs[i].insn;
        if ((i == 0 && start != 0) || (i > 0 && start <= spec->funcs[i - 1].insn) ||
            start >= spec->n_insns || is_second_half(spec, start))
            return oko_err(error, OKO_E_INVAL,
                           "function %" PRIu32 " (%.63s) starts at instruction %" PRIu32
                           ", which is out of order or out of the program",
                           i, spec->funcs[i].name, start);
    }
    return 0;
}

/* Control must not run past the end of [first, end). */
static int check_end(const struct checker *c)
{
    uint32_t last = c->end - 1;
    uint8_t op = oko_opcodes[c->spec->insns[last].code].op;
    if (!is_second_half(c->spec, last) && (op == OKO_BPF_EXIT || op == OKO_BPF_JA))
        return 0;
    return oko_err_at(c->error, OKO_E_INVAL, last,
                      "control falls off the end of the %s: its last instruction is neither an "
                      "exit nor a jump",
                      c->spec->n_funcs > 1 ? "function" : "program");
}

int oko_insn_check(const struct oko_prog_spec *spec, uint32_t flags, struct oko_error *error)
{
    struct checker c = {spec, flags, error, 0, spec->n_insns};
    if (spec->n_insns == 0 || spec->insns == NULL)
        return oko_err(error, OKO_E_INVAL, "the program has no instructions");
    if (spec->n_insns > OKO_MAX_INSNS)
        return oko_err(error, OKO_E_LIMIT, "%" PRIu32 " instructions; at most %d are possible",
                       spec->n_insns, OKO_MAX_INSNS);
    int status = check_funcs(spec, error);
    uint32_t n_funcs = spec->n_funcs == 0 ? 1 : spec->n_funcs;
    for (uint32_t f = 0; f < n_funcs && status == 0; f++) {
        c.first = f == 0 ? 0 : spec->funcs[f].insn;
        c.end = f + 1 < n_funcs ? spec->funcs[f + 1].insn : spec->n_insns;
        for (uint32_t pc = c.first; pc < c.end && status == 0;
             pc += oko_insn_slots(spec->insns[pc]))
            status = check_insn(&c, pc);
        if (status == 0)
            status = check_end(&c);
    }
    return status;
}

/* ---------------------------------------------------------------- disassembler */

struct printer {
    char *out;
    uint32_t size, length;
};

static void __attribute__((format(printf, 2, 3))) put(struct printer *p, const char *format, ...)
{
    if (p->length + 1 >= p->size)
        return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(p->out + p->length, p->size - p->length, format, args);
    va_end(args);
    if (n > 0)
        p->length += (uint32_t)n;
    if (p->length >= p->size)
        p->length = p->size - 1;
}

/* "(r1 + 12)" */
static void put_address(struct printer *p, uint8_t reg, int off)
{
    put(p, "(r%u %c %d)", reg, off < 0 ? '-' : '+', off < 0 ? -off : off);
}

static void put_alu(struct printer *p, struct oko_insn i)
{
    const struct oko_opcode *row = &oko_opcodes[i.code];
    char r = row->is64 ? 'r' : 'w';
    uint8_t operation = oko_insn_op(i);
    bool is_signed = i.off == 1 && (operation == BPF_DIV || operation == BPF_MOD);
    put(p, "%c%u %s%s ", r, oko_insn_dst(i), is_signed ? "s" : "", row->text);
    if ((i.code & BPF_X) == 0)
        put(p, "%" PRId32, i.imm);
    else if (row->op == OKO_BPF_MOV && i.off != 0)
        put(p, "(s%d)%c%u", i.off, r, oko_insn_src(i));
    else
        put(p, "%c%u", r, oko_insn_src(i));
}

static void put_lddw(struct printer *p, const struct oko_prog_spec *spec,
                     const struct oko_insn *insns, uint32_t pc)
{
    struct oko_insn i = insns[pc];
    uint32_t index = (uint32_t)i.imm;
    bool whole = spec == NULL || pc + 1 < spec->n_insns; /* cut-off programs are printed, too */
    uint32_t high = whole ? (uint32_t)insns[pc + 1].imm : 0;
    put(p, "r%u = ", oko_insn_dst(i));
    if (oko_insn_src(i) == OKO_PSEUDO_MAP) {
        if (spec != NULL && index < spec->n_maps && spec->maps[index].name[0] != 0)
            put(p, "map[%.63s]", spec->maps[index].name);
        else
            put(p, "map[%" PRIu32 "]", index);
    } else if (oko_insn_src(i) == OKO_PSEUDO_DATA) {
        if (spec != NULL && index < spec->n_data && spec->data[index].name[0] != 0)
            put(p, "%.63s[%" PRIu32 "]", spec->data[index].name, high);
        else
            put(p, "data%" PRIu32 "[%" PRIu32 "]", index, high);
    } else {
        put(p, "0x%" PRIx64 " ll", (uint64_t)high << 32 | index);
    }
}

static void put_atomic(struct printer *p, struct oko_insn i)
{
    const struct oko_opcode *row = &oko_opcodes[i.code];
    unsigned bits = row->width * 8u;
    uint8_t src = oko_insn_src(i);
    char r = row->is64 ? 'r' : 'w';
    static const char *const names[16] = {[BPF_ADD >> 4] = "add",
                                          [BPF_OR >> 4] = "or",
                                          [BPF_AND >> 4] = "and",
                                          [BPF_XOR >> 4] = "xor"};
    if (i.imm == (int32_t)BPF_CMPXCHG) {
        put(p, "%c0 = cmpxchg_%u", r, bits);
        put_address(p, oko_insn_dst(i), i.off);
        p->length -= p->length > 0 && p->length + 1 < p->size; /* over the ')' */
        put(p, ", %c0, %c%u)", r, r, src);
    } else if (i.imm == (int32_t)BPF_XCHG) {
        put(p, "%c%u = xchg_%u", r, src, bits);
        put_address(p, oko_insn_dst(i), i.off);
        p->length -= p->length > 0 && p->length + 1 < p->size;
        put(p, ", %c%u)", r, src);
    } else if ((i.imm & BPF_FETCH) != 0) {
        const char *name = names[(i.imm & 0xf0) >> 4];
        if (name == NULL) /* programs that are refused are printed, too */
            name = "?";
        put(p, "%c%u = atomic_fetch_%s((u%u *)", r, src, name, bits);
        put_address(p, oko_insn_dst(i), i.off);
        put(p, ", %c%u)", r, src);
    } else {
        put(p, "lock *(u%u *)", bits);
        put_address(p, oko_insn_dst(i), i.off);
        put(p, " %s %c%u", oko_opcodes[BPF_ALU64 | (uint8_t)i.imm].text, r, src);
    }
}

static void put_call(struct printer *p, const struct oko_prog_spec *spec, uint32_t pc,
                     struct oko_insn i)
{
    if (oko_insn_src(i) != OKO_PSEUDO_LOCAL) {
        const struct oko_helper *helper = oko_helper(i.imm);
        put(p, "call %s#%" PRId32, helper != NULL ? helper->name : "helper", i.imm);
        return;
    }
    put(p, "call pc%+" PRId32, i.imm);
    for (uint32_t f = 0; spec != NULL && f < spec->n_funcs; f++)
        if ((int64_t)spec->funcs[f].insn == (int64_t)pc + 1 + i.imm && spec->funcs[f].name[0] != 0)
            put(p, " <%.63s>", spec->funcs[f].name);
}

uint32_t oko_insn_print(const struct oko_prog_spec *spec, const struct oko_insn *insns, uint32_t pc,
                        char *out, uint32_t size)
{
    if (size == 0)
        return 0;
    struct printer printer = {out, size, 0};
    struct printer *p = &printer;
    struct oko_insn i = insns[pc];
    const struct oko_opcode *row = &oko_opcodes[i.code];
    uint8_t dst = oko_insn_dst(i), src = oko_insn_src(i);
    unsigned bits = row->width * 8u;
    out[0] = 0;
    switch ((enum oko_bpf_op)row->op) {
    case OKO_BPF_NONE:
        if (i.code == 0 && pc > 0 && insns[pc - 1].code == (BPF_LD | BPF_IMM | BPF_DW))
            break; /* second half: printed with the first */
        put(p, "unknown opcode 0x%02x", i.code);
        break;
    case OKO_BPF_ALU:
    case OKO_BPF_MOV:
        put_alu(p, i);
        break;
    case OKO_BPF_NEG:
        put(p, "%c%u = -%c%u", row->is64 ? 'r' : 'w', dst, row->is64 ? 'r' : 'w', dst);
        break;
    case OKO_BPF_END:
        put(p, "r%u = %s%s%" PRId32 " r%u", dst, row->text[0] == 's' ? "b" : "", row->text, i.imm,
            dst);
        break;
    case OKO_BPF_LDDW:
        put_lddw(p, spec, insns, pc);
        break;
    case OKO_BPF_LD_ABS:
        put(p, "r0 = *(u%u *)skb[%" PRId32 "]", bits, i.imm);
        break;
    case OKO_BPF_LD_IND:
        put(p, "r0 = *(u%u *)skb[r%u %c %" PRId64 "]", bits, src, i.imm < 0 ? '-' : '+',
            i.imm < 0 ? -(int64_t)i.imm : (int64_t)i.imm);
        break;
    case OKO_BPF_LDX:
    case OKO_BPF_LDSX:
        put(p, "r%u = *(%s%u *)", dst, row->text, bits);
        put_address(p, src, i.off);
        break;
    case OKO_BPF_ST:
    case OKO_BPF_STX:
        put(p, "*(u%u *)", bits);
        put_address(p, dst, i.off);
        if (row->op == OKO_BPF_ST)
            put(p, " = %" PRId32, i.imm);
        else
            put(p, " = r%u", src);
        break;
    case OKO_BPF_ATOMIC:
        put_atomic(p, i);
        break;
    case OKO_BPF_JA:
        put(p, i.code == (BPF_JMP32 | BPF_JA) ? "gotol pc%+" PRId32 : "goto pc%+" PRId32,
            oko_insn_jump(i));
        break;
    case OKO_BPF_JCOND: {
        char r = row->is64 ? 'r' : 'w';
        put(p, "if %c%u %s ", r, dst, row->text);
        if ((i.code & BPF_X) != 0)
            put(p, "%c%u", r, src);
        else
            put(p, "0x%" PRIx32, (uint32_t)i.imm);
        put(p, " goto pc%+d", i.off);
        break;
    }
    case OKO_BPF_CALL:
        put_call(p, spec, pc, i);
        break;
    case OKO_BPF_CALLX:
        put(p, "callx r%u", oko_insn_callx_reg(i));
        break;
    case OKO_BPF_EXIT:
        put(p, "exit");
        break;
    }
    return p->length;
}
