/* Encodings and jump relaxation; the idea is told in x64.h. */
#include "x64.h"

#include <stdlib.h>
#include <string.h>

#include "../../oko.h"

enum fix_kind { FIX_JMP, FIX_JCC, FIX_CALL, FIX_CALL_C, FIX_LEA, FIX_CONSTANT, FIX_ALIGN };

/* Bytes that are not in the buffer: they stand before code[pos]. */
struct x64_fix {
    uint32_t pos;
    uint32_t target; /* label, index into targets, or alignment */
    uint32_t before; /* bytes of all earlier fixups */
    uint8_t kind, cc, size;
};

/* A label stands before code[pos] and after n_fixes fixups. */
struct x64_place {
    uint32_t pos;
    uint32_t n_fixes; /* UNBOUND until bound */
};

enum { UNBOUND = -1, STUB_SIZE = 14, MAX_INSN = 24 };

/* Flags of an encoding. */
enum { W = 1, P66 = 2, PF3 = 4, PF2 = 8, BYTE_REG = 16, BYTE_RM = 32, LOCK = 64 };

void x64_init(struct x64 *a)
{
    memset(a, 0, sizeof(*a));
#ifdef __x86_64__
    a->bmi1 = __builtin_cpu_supports("bmi");
    a->bmi2 = __builtin_cpu_supports("bmi2");
#endif
}

void x64_destroy(struct x64 *a)
{
    free(a->code);
    free(a->fixes);
    free(a->labels);
    free(a->targets);
    free(a->constants);
    memset(a, 0, sizeof(*a));
}

/* ---------------------------------------------------------------- buffers */

/* Room for one more element of the array *p, or the sticky error. */
static bool grow(struct x64 *a, void *p, size_t n, size_t *room, size_t elem)
{
    if (a->error)
        return false;
    if (n < *room)
        return true;
    size_t want = *room ? *room * 2 : 64;
    void *old, *new;
    memcpy(&old, p, sizeof(old));
    if (want * elem > 4u * (size_t)X64_MAX_CODE || !(new = realloc(old, want * elem))) {
        a->error = want * elem > 4u * (size_t)X64_MAX_CODE ? OKO_E_LIMIT : OKO_E_NOMEM;
        return false;
    }
    memcpy(p, &new, sizeof(new));
    *room = want;
    return true;
}

/* True when one more instruction fits. */
static bool room(struct x64 *a)
{
    if (a->size > X64_MAX_CODE)
        a->error = a->error ? a->error : OKO_E_LIMIT;
    if (a->error)
        return false;
    if (a->size + MAX_INSN <= a->room)
        return true;
    size_t want = a->room ? a->room * 2 : 1024;
    uint8_t *new = realloc(a->code, want);
    if (!new) {
        a->error = OKO_E_NOMEM;
        return false;
    }
    a->code = new;
    a->room = want;
    return true;
}

static void byte(struct x64 *a, unsigned b)
{
    a->code[a->size++] = (uint8_t)b;
}

static void imm32(struct x64 *a, uint32_t v)
{
    memcpy(a->code + a->size, &v, 4);
    a->size += 4;
}

static void imm64(struct x64 *a, uint64_t v)
{
    memcpy(a->code + a->size, &v, 8);
    a->size += 8;
}

static void fix(struct x64 *a, enum fix_kind kind, unsigned cc, uint32_t target, unsigned size)
{
    if (!grow(a, &a->fixes, a->n_fixes, &a->fixes_room, sizeof(*a->fixes)))
        return;
    a->fixes[a->n_fixes++] =
        (struct x64_fix){(uint32_t)a->size, target, 0, (uint8_t)kind, (uint8_t)cc, (uint8_t)size};
}

/* ---------------------------------------------------------------- labels and final layout */

uint32_t x64_label(struct x64 *a)
{
    if (!grow(a, &a->labels, a->n_labels, &a->labels_room, sizeof(*a->labels)))
        return 0;
    a->labels[a->n_labels] = (struct x64_place){0, (uint32_t)UNBOUND};
    return (uint32_t)a->n_labels++;
}

void x64_bind(struct x64 *a, uint32_t label)
{
    if (a->error)
        return;
    a->labels[label] = (struct x64_place){(uint32_t)a->size, (uint32_t)a->n_fixes};
}

size_t x64_offset(const struct x64 *a, uint32_t label)
{
    const struct x64_place *l = &a->labels[label];
    if (l->n_fixes == 0)
        return l->pos;
    const struct x64_fix *f = &a->fixes[l->n_fixes - 1];
    return l->pos + f->before + f->size;
}

/* Distance from the end of fixup f to its label. */
static int64_t distance(const struct x64 *a, const struct x64_fix *f)
{
    return (int64_t)x64_offset(a, f->target) - (int64_t)(f->pos + f->before + f->size);
}

static void lay_out(struct x64 *a)
{
    uint32_t before = 0;
    for (size_t i = 0; i < a->n_fixes; i++) {
        struct x64_fix *f = &a->fixes[i];
        f->before = before;
        if (f->kind == FIX_ALIGN)
            f->size = (uint8_t)(-(f->pos + before) & (f->target - 1));
        before += f->size;
    }
}

int x64_relax(struct x64 *a)
{
    if (a->error)
        return a->error;
    for (size_t i = 0; i < a->n_fixes; i++) {
        const struct x64_fix *f = &a->fixes[i];
        if (f->kind != FIX_ALIGN && f->kind != FIX_CALL_C && f->kind != FIX_CONSTANT &&
            a->labels[f->target].n_fixes == (uint32_t)UNBOUND)
            return a->error = OKO_E_INVAL; /* a jump to nowhere: a bug of the caller */
    }
    bool changed = true;
    for (int round = 0; changed; round++) {
        changed = false;
        lay_out(a);
        for (size_t i = 0; i < a->n_fixes; i++) {
            struct x64_fix *f = &a->fixes[i];
            if ((f->kind != FIX_JMP && f->kind != FIX_JCC) || f->size != 2)
                continue;
            int64_t d = distance(a, f);
            /* After some rounds give up on the last few bytes: all in one go. */
            if (d < -128 || d > 127 || (round > 8 && (d < -64 || d > 64))) {
                f->size = f->kind == FIX_JMP ? 5 : 6;
                changed = true;
            }
        }
    }
    const struct x64_fix *last = a->n_fixes ? &a->fixes[a->n_fixes - 1] : NULL;
    size_t end = a->size + (last ? last->before + last->size : 0u);
    a->final_size =
        ((end + 7) & ~(size_t)7) + a->n_constants * sizeof(uint64_t) + a->n_targets * STUB_SIZE;
    return a->final_size > X64_MAX_CODE ? (a->error = OKO_E_LIMIT) : 0;
}

/* Fills with the recommended multi-byte no-operations (SDM, NOP). */
static void write_nops(uint8_t *dst, size_t n)
{
    static const uint8_t nop[9][9] = {
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0},
        {0x0f, 0x1f, 0x44, 0, 0},
        {0x66, 0x0f, 0x1f, 0x44, 0, 0},
        {0x0f, 0x1f, 0x80, 0, 0, 0, 0},
        {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0},
        {0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0},
    };
    while (n) {
        size_t k = n < 9 ? n : 9;
        memcpy(dst, nop[k - 1], k);
        dst += k;
        n -= k;
    }
}

static void put32(uint8_t *dst, int64_t v)
{
    int32_t narrow = (int32_t)v;
    memcpy(dst, &narrow, 4);
}

void x64_write(const struct x64 *a, uint8_t *dst, const uint8_t *at)
{
    size_t stubs = a->final_size - a->n_targets * STUB_SIZE;
    size_t constants = stubs - a->n_constants * sizeof(uint64_t);
    size_t from = 0, to = 0;
    for (size_t i = 0; i < a->n_fixes; i++) {
        const struct x64_fix *f = &a->fixes[i];
        memcpy(dst + to, a->code + from, f->pos - from);
        to += f->pos - from;
        from = f->pos;
        uint8_t *p = dst + to;
        to += f->size;
        switch ((enum fix_kind)f->kind) {
        case FIX_JMP:
            p[0] = f->size == 2 ? 0xeb : 0xe9;
            if (f->size == 2)
                p[1] = (uint8_t)distance(a, f);
            else
                put32(p + 1, distance(a, f));
            break;
        case FIX_JCC:
            if (f->size == 2) {
                p[0] = (uint8_t)(0x70 | f->cc);
                p[1] = (uint8_t)distance(a, f);
            } else {
                p[0] = 0x0f;
                p[1] = (uint8_t)(0x80 | f->cc);
                put32(p + 2, distance(a, f));
            }
            break;
        case FIX_CALL:
            p[0] = 0xe8;
            put32(p + 1, distance(a, f));
            break;
        case FIX_CALL_C: {
            int64_t d = (int64_t)((uintptr_t)a->targets[f->target] - ((uintptr_t)at + to));
            if (d != (int32_t)d)
                d = (int64_t)(stubs + f->target * STUB_SIZE) - (int64_t)to;
            p[0] = 0xe8;
            put32(p + 1, d);
            break;
        }
        case FIX_LEA:
            p[0] = (uint8_t)(0x48 | (f->cc & 8 ? 4 : 0));
            p[1] = 0x8d;
            p[2] = (uint8_t)(5 | (f->cc & 7) << 3);
            put32(p + 3, distance(a, f));
            break;
        case FIX_CONSTANT:
            put32(p, (int64_t)(constants + f->target * sizeof(uint64_t)) - (int64_t)to);
            break;
        case FIX_ALIGN:
            write_nops(p, f->size);
            break;
        }
    }
    if (a->size > from)
        memcpy(dst + to, a->code + from, a->size - from);
    to += a->size - from;
    write_nops(dst + to, constants - to);
    if (a->n_constants)
        memcpy(dst + constants, a->constants, a->n_constants * sizeof(uint64_t));
    for (size_t i = 0; i < a->n_targets; i++) {
        static const uint8_t jmp_next[6] = {0xff, 0x25, 0, 0, 0, 0}; /* jmp [rip + 0] */
        uint8_t *p = dst + stubs + i * STUB_SIZE;
        memcpy(p, jmp_next, 6);
        memcpy(p + 6, &a->targets[i], 8);
    }
}

struct x64_mem x64_constant(struct x64 *a, uint64_t value)
{
    size_t i = 0;
    while (i < a->n_constants && a->constants[i] != value)
        i++;
    if (i == a->n_constants) {
        if (!grow(a, &a->constants, i, &a->constants_room, sizeof(*a->constants)))
            return x64_at(RAX, 0);
        a->constants[a->n_constants++] = value;
    }
    return (struct x64_mem){X64_RIP, X64_NOREG, 1, (int32_t)i};
}

void x64_align(struct x64 *a, uint32_t to)
{
    fix(a, FIX_ALIGN, 0, to, 0);
}

void x64_jmp(struct x64 *a, uint32_t label)
{
    fix(a, FIX_JMP, 0, label, 2);
}

void x64_jcc(struct x64 *a, enum x64_cc cc, uint32_t label)
{
    fix(a, FIX_JCC, cc, label, 2);
}

void x64_call(struct x64 *a, uint32_t label)
{
    fix(a, FIX_CALL, 0, label, 5);
}

void x64_lea_label(struct x64 *a, unsigned dst, uint32_t label)
{
    fix(a, FIX_LEA, dst, label, 7);
}

void x64_call_c(struct x64 *a, const void *fn)
{
    size_t i = 0;
    while (i < a->n_targets && a->targets[i] != fn)
        i++;
    if (i == a->n_targets) {
        if (!grow(a, &a->targets, i, &a->targets_room, sizeof(*a->targets)))
            return;
        a->targets[a->n_targets++] = fn;
    }
    fix(a, FIX_CALL_C, 0, (uint32_t)i, 5);
}

/* ---------------------------------------------------------------- encodings */

static void prefixes(struct x64 *a, unsigned flags)
{
    if (flags & LOCK)
        byte(a, 0xf0);
    if (flags & P66)
        byte(a, 0x66);
    if (flags & PF3)
        byte(a, 0xf3);
    if (flags & PF2)
        byte(a, 0xf2);
}

/* op: 0xNN, 0x0fNN or 0x0f38NN. */
static void opcode(struct x64 *a, unsigned op)
{
    if (op > 0xffff)
        byte(a, op >> 16);
    if (op > 0xff)
        byte(a, op >> 8 & 0xff);
    byte(a, op & 0xff);
}

static void rex(struct x64 *a, unsigned flags, unsigned reg, unsigned index, unsigned rm)
{
    unsigned r =
        (flags & W ? 8u : 0u) | (reg & 8 ? 4u : 0u) | (index & 8 ? 2u : 0u) | (rm & 8 ? 1u : 0u);
    /* spl, bpl, sil and dil need a REX prefix to be named. */
    bool low = ((flags & BYTE_REG) && reg >= 4) || ((flags & BYTE_RM) && rm >= 4);
    if (r || low)
        byte(a, 0x40 | r);
}

static void modrm(struct x64 *a, unsigned mod, unsigned reg, unsigned rm)
{
    byte(a, mod << 6 | (reg & 7) << 3 | (rm & 7));
}

/* Register form: op rm, reg (or reg, rm: the opcode says). */
static void op_r(struct x64 *a, unsigned flags, unsigned op, unsigned reg, unsigned rm)
{
    if (!room(a))
        return;
    prefixes(a, flags);
    rex(a, flags, reg, 0, rm);
    opcode(a, op);
    modrm(a, 3, reg, rm);
}

/* The ModRM, SIB and displacement bytes of a memory operand. */
static void operand(struct x64 *a, unsigned reg, struct x64_mem m)
{
    bool d8 = m.disp == (int8_t)m.disp;
    if (m.base == X64_RIP) {
        modrm(a, 0, reg, 5);
        fix(a, FIX_CONSTANT, 0, (uint32_t)m.disp, 4);
        return;
    }
    /* rbp and r13 have no form without displacement. */
    unsigned mod = m.disp == 0 && (m.base & 7) != 5 ? 0 : d8 ? 1 : 2;
    if (m.index != X64_NOREG || (m.base & 7) == 4) {
        unsigned ss = m.scale == 8 ? 3 : m.scale == 4 ? 2 : m.scale == 2 ? 1 : 0;
        modrm(a, mod, reg, 4);
        byte(a, ss << 6 | (m.index == X64_NOREG ? 4u : m.index & 7u) << 3 | (m.base & 7));
    } else {
        modrm(a, mod, reg, m.base);
    }
    if (mod == 1)
        byte(a, (uint8_t)m.disp);
    else if (mod == 2)
        imm32(a, (uint32_t)m.disp);
}

static unsigned high_bits(unsigned reg)
{
    return reg == X64_NOREG || reg == X64_RIP ? 0 : reg;
}

static void op_m(struct x64 *a, unsigned flags, unsigned op, unsigned reg, struct x64_mem m)
{
    if (!room(a))
        return;
    prefixes(a, flags);
    rex(a, flags & ~(unsigned)BYTE_RM, reg, high_bits(m.index), high_bits(m.base));
    opcode(a, op);
    operand(a, reg, m);
}

static bool is8(int32_t v)
{
    return v == (int8_t)v;
}

static unsigned wide(bool w)
{
    return w ? W : 0;
}

/* Appends the immediate of an instruction just encoded. */
static void with_imm(struct x64 *a, unsigned size, int32_t imm)
{
    if (a->error)
        return;
    if (size == 1)
        byte(a, (uint8_t)imm);
    else if (size == 2) {
        byte(a, (uint8_t)imm);
        byte(a, (uint8_t)(imm >> 8));
    } else
        imm32(a, (uint32_t)imm);
}

/* VEX-coded BMI instruction; map 2 = 0f38, 3 = 0f3a; pp 0 none, 1 66, 2 f3, 3 f2. */
static void vex(struct x64 *a, unsigned map, unsigned pp, bool w, unsigned op, unsigned reg,
                unsigned vvvv, unsigned rm)
{
    if (!room(a))
        return;
    byte(a, 0xc4);
    byte(a, (reg & 8 ? 0u : 0x80u) | 0x40u | (rm & 8 ? 0u : 0x20u) | map);
    byte(a, (w ? 0x80u : 0u) | (~vvvv & 15) << 3 | pp);
    byte(a, op);
    modrm(a, 3, reg, rm);
}

/* The same with a memory operand. */
static void vex_m(struct x64 *a, unsigned map, unsigned pp, bool w, unsigned op, unsigned reg,
                  unsigned vvvv, struct x64_mem m)
{
    if (!room(a))
        return;
    byte(a, 0xc4);
    byte(a, (reg & 8 ? 0u : 0x80u) | (high_bits(m.index) & 8 ? 0u : 0x40u) |
                (high_bits(m.base) & 8 ? 0u : 0x20u) | map);
    byte(a, (w ? 0x80u : 0u) | (~vvvv & 15) << 3 | pp);
    byte(a, op);
    operand(a, reg, m);
}

/* ---------------------------------------------------------------- instructions */

void x64_ret(struct x64 *a)
{
    if (room(a))
        byte(a, 0xc3);
}

void x64_push(struct x64 *a, unsigned reg)
{
    if (!room(a))
        return;
    rex(a, 0, 0, 0, reg);
    byte(a, 0x50 | (reg & 7));
}

void x64_pop(struct x64 *a, unsigned reg)
{
    if (!room(a))
        return;
    rex(a, 0, 0, 0, reg);
    byte(a, 0x58 | (reg & 7));
}

void x64_jmp_m(struct x64 *a, struct x64_mem m)
{
    op_m(a, 0, 0xff, 4, m);
}

void x64_call_r(struct x64 *a, unsigned reg)
{
    op_r(a, 0, 0xff, 2, reg);
}

void x64_mov(struct x64 *a, bool w, unsigned dst, unsigned src)
{
    op_r(a, wide(w), 0x89, src, dst);
}

void x64_mov_i(struct x64 *a, unsigned dst, uint64_t imm)
{
    if (imm == 0) {
        op_r(a, 0, 0x31, dst, dst);
    } else if (imm <= UINT32_MAX) {
        if (!room(a))
            return;
        rex(a, 0, 0, 0, dst);
        byte(a, 0xb8 | (dst & 7));
        imm32(a, (uint32_t)imm);
    } else if ((int64_t)imm == (int32_t)imm) {
        op_r(a, W, 0xc7, 0, dst);
        with_imm(a, 4, (int32_t)imm);
    } else {
        if (!room(a))
            return;
        rex(a, W, 0, 0, dst);
        byte(a, 0xb8 | (dst & 7));
        imm64(a, imm);
    }
}

void x64_mov_i_flags(struct x64 *a, unsigned dst, uint64_t imm)
{
    if (imm) {
        x64_mov_i(a, dst, imm);
    } else if (room(a)) {
        rex(a, 0, 0, 0, dst);
        byte(a, 0xb8 | (dst & 7));
        imm32(a, 0);
    }
}

void x64_lanes_all(struct x64 *a, unsigned xmm, unsigned src, unsigned word)
{
    op_r(a, P66 | W, 0x0f6e, xmm, src); /* movq */
    op_r(a, PF2, 0x0f70, xmm, xmm);     /* pshuflw */
    with_imm(a, 1, (int32_t)(word * 0x55));
}

void x64_lanes_equal(struct x64 *a, unsigned xmm, struct x64_mem m)
{
    op_m(a, P66, 0x0f75, xmm, m); /* pcmpeqw */
}

void x64_lanes_mask(struct x64 *a, unsigned dst, unsigned xmm)
{
    op_r(a, P66, 0x0fd7, dst, xmm); /* pmovmskb */
}

void x64_alu(struct x64 *a, enum x64_alu op, bool w, unsigned dst, unsigned src)
{
    op_r(a, wide(w), op * 8u + 1, src, dst);
}

void x64_alu_i(struct x64 *a, enum x64_alu op, bool w, unsigned dst, int32_t imm)
{
    if (is8(imm)) {
        op_r(a, wide(w), 0x83, op, dst);
        with_imm(a, 1, imm);
    } else if (dst == RAX) {
        if (!room(a))
            return;
        rex(a, wide(w), 0, 0, 0);
        byte(a, op * 8u + 5);
        imm32(a, (uint32_t)imm);
    } else {
        op_r(a, wide(w), 0x81, op, dst);
        with_imm(a, 4, imm);
    }
}

void x64_alu_load(struct x64 *a, enum x64_alu op, bool w, unsigned dst, struct x64_mem m)
{
    op_m(a, wide(w), op * 8u + 3, dst, m);
}

static unsigned width_flags(unsigned width)
{
    return width == 8 ? W : width == 2 ? P66 : width == 1 ? BYTE_REG : 0;
}

void x64_alu_m(struct x64 *a, enum x64_alu op, unsigned width, struct x64_mem m, unsigned src)
{
    op_m(a, width_flags(width), op * 8u + (width > 1), src, m);
}

void x64_alu_mi(struct x64 *a, enum x64_alu op, unsigned width, struct x64_mem m, int32_t imm)
{
    unsigned flags = width_flags(width) & ~(unsigned)BYTE_REG;
    if (width == 1) {
        op_m(a, flags, 0x80, op, m);
        with_imm(a, 1, imm);
    } else if (is8(imm)) {
        op_m(a, flags, 0x83, op, m);
        with_imm(a, 1, imm);
    } else {
        op_m(a, flags, 0x81, op, m);
        with_imm(a, width == 2 ? 2 : 4, imm);
    }
}

void x64_test(struct x64 *a, bool w, unsigned x, unsigned y)
{
    op_r(a, wide(w), 0x85, y, x);
}

void x64_test_i(struct x64 *a, bool w, unsigned x, int32_t imm)
{
    if (imm >= 0)
        w = false; /* the upper half of the mask is zero; so is the result's sign either way */
    if (imm >= 0 && imm < 128) {
        op_r(a, BYTE_RM, 0xf6, 0, x);
        with_imm(a, 1, imm);
    } else {
        op_r(a, wide(w), 0xf7, 0, x);
        with_imm(a, 4, imm);
    }
}

void x64_test_m(struct x64 *a, unsigned width, struct x64_mem m, int32_t imm)
{
    op_m(a, width_flags(width) & ~(unsigned)BYTE_REG, width == 1 ? 0xf6 : 0xf7, 0, m);
    with_imm(a, width == 1 ? 1 : width == 2 ? 2 : 4, imm);
}

void x64_unary(struct x64 *a, enum x64_unary op, bool w, unsigned reg)
{
    op_r(a, wide(w), 0xf7, op, reg);
}

void x64_unary_m(struct x64 *a, enum x64_unary op, bool w, struct x64_mem m)
{
    op_m(a, wide(w), 0xf7, op, m);
}

void x64_imul(struct x64 *a, bool w, unsigned dst, unsigned src)
{
    op_r(a, wide(w), 0x0faf, dst, src);
}

void x64_imul_i(struct x64 *a, bool w, unsigned dst, unsigned src, int32_t imm)
{
    op_r(a, wide(w), is8(imm) ? 0x6b : 0x69, dst, src);
    with_imm(a, is8(imm) ? 1 : 4, imm);
}

void x64_imul_load(struct x64 *a, bool w, unsigned dst, struct x64_mem m)
{
    op_m(a, wide(w), 0x0faf, dst, m);
}

void x64_cdq(struct x64 *a, bool w)
{
    if (!room(a))
        return;
    rex(a, wide(w), 0, 0, 0);
    byte(a, 0x99);
}

void x64_shift_i(struct x64 *a, enum x64_shift op, bool w, unsigned reg, unsigned count)
{
    op_r(a, wide(w), count == 1 ? 0xd1 : 0xc1, op, reg);
    if (count != 1)
        with_imm(a, 1, (int32_t)count);
}

void x64_shift_cl(struct x64 *a, enum x64_shift op, bool w, unsigned reg)
{
    op_r(a, wide(w), 0xd3, op, reg);
}

void x64_shiftx(struct x64 *a, enum x64_shift op, bool w, unsigned dst, unsigned src,
                unsigned count)
{
    unsigned pp = op == X64_SHL ? 1 : op == X64_SHR ? 3 : 2;
    vex(a, 2, pp, w, 0xf7, dst, count, src);
}

void x64_shiftx_load(struct x64 *a, enum x64_shift op, bool w, unsigned dst, struct x64_mem m,
                     unsigned count)
{
    unsigned pp = op == X64_SHL ? 1 : op == X64_SHR ? 3 : 2;
    vex_m(a, 2, pp, w, 0xf7, dst, count, m);
}

void x64_rorx(struct x64 *a, bool w, unsigned dst, unsigned src, unsigned count)
{
    vex(a, 3, 3, w, 0xf0, dst, 0, src);
    with_imm(a, 1, (int32_t)count);
}

void x64_mulx(struct x64 *a, bool w, unsigned high, unsigned low, unsigned src)
{
    vex(a, 2, 3, w, 0xf6, high, low, src);
}

void x64_bswap(struct x64 *a, bool w, unsigned reg)
{
    if (!room(a))
        return;
    rex(a, wide(w), 0, 0, reg);
    byte(a, 0x0f);
    byte(a, 0xc8 | (reg & 7));
}

void x64_rol16(struct x64 *a, unsigned reg, unsigned count)
{
    op_r(a, P66, 0xc1, X64_ROL, reg);
    with_imm(a, 1, (int32_t)count);
}

void x64_movzx(struct x64 *a, unsigned width, unsigned dst, unsigned src)
{
    if (width == 1)
        op_r(a, BYTE_RM, 0x0fb6, dst, src);
    else if (width == 2)
        op_r(a, 0, 0x0fb7, dst, src);
    else
        x64_mov(a, width == 8, dst, src);
}

void x64_movsx(struct x64 *a, bool w, unsigned width, unsigned dst, unsigned src)
{
    if (width == 1)
        op_r(a, wide(w) | BYTE_RM, 0x0fbe, dst, src);
    else if (width == 2)
        op_r(a, wide(w), 0x0fbf, dst, src);
    else if (width == 4 && w)
        op_r(a, W, 0x63, dst, src);
    else
        x64_mov(a, width == 8, dst, src);
}

void x64_lea(struct x64 *a, bool w, unsigned dst, struct x64_mem m)
{
    op_m(a, wide(w), 0x8d, dst, m);
}

void x64_load(struct x64 *a, unsigned width, unsigned dst, struct x64_mem m)
{
    if (width == 1)
        op_m(a, 0, 0x0fb6, dst, m);
    else if (width == 2)
        op_m(a, 0, 0x0fb7, dst, m);
    else
        op_m(a, wide(width == 8), 0x8b, dst, m);
}

void x64_load_sx(struct x64 *a, unsigned width, unsigned dst, struct x64_mem m)
{
    op_m(a, W, width == 1 ? 0x0fbe : width == 2 ? 0x0fbf : width == 4 ? 0x63 : 0x8b, dst, m);
}

void x64_store(struct x64 *a, unsigned width, struct x64_mem m, unsigned src)
{
    op_m(a, width_flags(width), width == 1 ? 0x88 : 0x89, src, m);
}

void x64_store_i(struct x64 *a, unsigned width, struct x64_mem m, int32_t imm)
{
    op_m(a, width_flags(width) & ~(unsigned)BYTE_REG, width == 1 ? 0xc6 : 0xc7, 0, m);
    with_imm(a, width == 8 ? 4 : width, imm);
}

void x64_setcc(struct x64 *a, enum x64_cc cc, unsigned reg)
{
    op_r(a, BYTE_RM, 0x0f90 | cc, 0, reg);
}

void x64_cmov(struct x64 *a, enum x64_cc cc, bool w, unsigned dst, unsigned src)
{
    op_r(a, wide(w), 0x0f40 | cc, dst, src);
}

void x64_tzcnt(struct x64 *a, bool w, unsigned dst, unsigned src)
{
    op_r(a, wide(w) | (a->bmi1 ? PF3 : 0u), 0x0fbc, dst, src);
}

void x64_blsr(struct x64 *a, bool w, unsigned dst, unsigned src)
{
    vex(a, 2, 0, w, 0xf3, 1, dst, src);
}

void x64_blsi(struct x64 *a, bool w, unsigned dst, unsigned src)
{
    vex(a, 2, 0, w, 0xf3, 3, dst, src);
}

void x64_bt(struct x64 *a, bool w, unsigned bits, unsigned index)
{
    op_r(a, wide(w), 0x0fa3, index, bits);
}

void x64_bts(struct x64 *a, bool w, unsigned bits, unsigned index)
{
    op_r(a, wide(w), 0x0fab, index, bits);
}

void x64_prefetch(struct x64 *a, struct x64_mem m)
{
    op_m(a, 0, 0x0f18, 1, m);
}

void x64_lock_alu(struct x64 *a, enum x64_alu op, unsigned width, struct x64_mem m, unsigned src)
{
    op_m(a, width_flags(width) | LOCK, op * 8u + 1, src, m);
}

void x64_lock_bts(struct x64 *a, struct x64_mem m, unsigned index)
{
    op_m(a, W | LOCK, 0x0fab, index, m);
}

void x64_lock_xadd(struct x64 *a, unsigned width, struct x64_mem m, unsigned reg)
{
    op_m(a, width_flags(width) | LOCK, 0x0fc1, reg, m);
}

void x64_lock_cmpxchg(struct x64 *a, unsigned width, struct x64_mem m, unsigned src)
{
    op_m(a, width_flags(width) | LOCK, 0x0fb1, src, m);
}

void x64_xchg(struct x64 *a, unsigned width, struct x64_mem m, unsigned reg)
{
    op_m(a, width_flags(width), 0x87, reg, m);
}
