/* An assembler for the x86-64 instructions that the JIT uses.
 *
 * Idea: instructions are appended to a growable buffer. Jumps, calls and alignments are not encoded
 * on the way but recorded as fixups between the bytes; x64_relax() then starts with every jump in
 * its two-byte form and widens those that do not reach, until nothing changes (widening only ever
 * lengthens distances, so it ends), and x64_write() copies everything to its final address.
 *
 * Fails safely: running out of memory or space sets a sticky error that x64_relax() returns; the
 * appending functions need not be checked one by one. Encodings follow the Intel SDM, volume 2.
 *
 * Thread-safety: none; an assembler belongs to one compilation. */
#ifndef OKO_BPF_JIT_X64_H
#define OKO_BPF_JIT_X64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum x64_reg {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    X64_RIP = 30, /* as base: relative to the code, see x64_constant() */
    X64_NOREG = 31
};

/* [base + index * scale + disp]; base or index may be X64_NOREG. */
struct x64_mem {
    uint8_t base, index, scale;
    int32_t disp;
};

static inline struct x64_mem x64_at(unsigned base, int32_t disp)
{
    return (struct x64_mem){(uint8_t)base, X64_NOREG, 1, disp};
}
static inline struct x64_mem x64_at_index(unsigned base, unsigned index, unsigned scale,
                                          int32_t disp)
{
    return (struct x64_mem){(uint8_t)base, (uint8_t)index, (uint8_t)scale, disp};
}

/* Operations of the group 81/83 and their two-operand forms. */
enum x64_alu {
    X64_ADD = 0,
    X64_OR = 1,
    X64_ADC = 2,
    X64_AND = 4,
    X64_SUB = 5,
    X64_XOR = 6,
    X64_CMP = 7
};
enum x64_shift { X64_ROL = 0, X64_ROR = 1, X64_SHL = 4, X64_SHR = 5, X64_SAR = 7 };
/* One-operand operations of the group F7. */
enum x64_unary { X64_NOT = 2, X64_NEG = 3, X64_MUL = 4, X64_DIV = 6, X64_IDIV = 7 };
/* Condition codes, as in jcc, setcc and cmovcc. */
enum x64_cc {
    X64_B = 2,
    X64_AE = 3,
    X64_E = 4,
    X64_NE = 5,
    X64_BE = 6,
    X64_A = 7,
    X64_S = 8,
    X64_NS = 9,
    X64_L = 12,
    X64_GE = 13,
    X64_LE = 14,
    X64_G = 15
};

struct x64_fix;   /* x64.c: a jump, call or alignment */
struct x64_place; /* x64.c: where a label is */

struct x64 {
    uint8_t *code; /* bytes between the fixups */
    size_t size, room;
    struct x64_fix *fixes;
    size_t n_fixes, fixes_room;
    struct x64_place *labels;
    size_t n_labels, labels_room;
    const void **targets; /* distinct addresses outside the buffer that are called */
    size_t n_targets, targets_room;
    uint64_t *constants;
    size_t n_constants, constants_room;
    size_t final_size; /* after x64_relax() */
    bool bmi1, bmi2;   /* what the CPU has */
    int error;         /* sticky OKO_E_* */
};

enum { X64_MAX_CODE = 1 << 26 }; /* 64 MiB: more is refused with OKO_E_LIMIT */

void x64_init(struct x64 *a);
void x64_destroy(struct x64 *a);
/* Chooses the sizes of all jumps; afterwards only x64_write() and x64_offset(). */
int x64_relax(struct x64 *a);
/* Copies the code to dst, as it must be when it runs at address at. dst has final_size bytes. */
void x64_write(const struct x64 *a, uint8_t *dst, const uint8_t *at);

/* Labels: made unbound, bound once at the current position. */
uint32_t x64_label(struct x64 *a);
void x64_bind(struct x64 *a, uint32_t label);
/* Final offset of a bound label. */
size_t x64_offset(const struct x64 *a, uint32_t label);
void x64_align(struct x64 *a, uint32_t to);
/* Operand that is an 8-byte constant, kept behind the code. Not for instructions that end with an
 * immediate. */
struct x64_mem x64_constant(struct x64 *a, uint64_t value);

void x64_jmp(struct x64 *a, uint32_t label);
void x64_jcc(struct x64 *a, enum x64_cc cc, uint32_t label);
void x64_call(struct x64 *a, uint32_t label);
/* Calls a C function: rel32 where it is in reach, else through a stub behind the code. */
void x64_call_c(struct x64 *a, const void *fn);
void x64_call_r(struct x64 *a, unsigned reg);
void x64_lea_label(struct x64 *a, unsigned dst, uint32_t label);
void x64_jmp_m(struct x64 *a, struct x64_mem m);
void x64_ret(struct x64 *a);
void x64_push(struct x64 *a, unsigned reg);
void x64_pop(struct x64 *a, unsigned reg);

/* w: 64-bit operands, else 32-bit ones whose results are zero-extended. */
void x64_mov(struct x64 *a, bool w, unsigned dst, unsigned src);
void x64_mov_i(struct x64 *a, unsigned dst, uint64_t imm);       /* shortest form; keeps no flags */
void x64_mov_i_flags(struct x64 *a, unsigned dst, uint64_t imm); /* keeps the flags */
void x64_alu(struct x64 *a, enum x64_alu op, bool w, unsigned dst, unsigned src);
void x64_alu_i(struct x64 *a, enum x64_alu op, bool w, unsigned dst, int32_t imm);
void x64_alu_load(struct x64 *a, enum x64_alu op, bool w, unsigned dst, struct x64_mem m);
/* op [m], src and op [m], imm on width bytes. */
void x64_alu_m(struct x64 *a, enum x64_alu op, unsigned width, struct x64_mem m, unsigned src);
void x64_alu_mi(struct x64 *a, enum x64_alu op, unsigned width, struct x64_mem m, int32_t imm);
void x64_test(struct x64 *a, bool w, unsigned x, unsigned y);
void x64_test_i(struct x64 *a, bool w, unsigned x, int32_t imm);
void x64_test_m(struct x64 *a, unsigned width, struct x64_mem m, int32_t imm);
void x64_unary(struct x64 *a, enum x64_unary op, bool w, unsigned reg);
/* Four 16-bit lanes in an SSE2 register, those above are 0: all = a 16-bit word (0 to 3) of src;
 * those equal to the lanes of memory (16 bytes, aligned) become ones; the top bits of the bytes as
 * a mask. */
void x64_lanes_all(struct x64 *a, unsigned xmm, unsigned src, unsigned word);
void x64_lanes_equal(struct x64 *a, unsigned xmm, struct x64_mem m);
void x64_lanes_mask(struct x64 *a, unsigned dst, unsigned xmm);
void x64_unary_m(struct x64 *a, enum x64_unary op, bool w, struct x64_mem m);
void x64_imul(struct x64 *a, bool w, unsigned dst, unsigned src);
void x64_imul_i(struct x64 *a, bool w, unsigned dst, unsigned src, int32_t imm);
void x64_imul_load(struct x64 *a, bool w, unsigned dst, struct x64_mem m);
void x64_cdq(struct x64 *a, bool w); /* sign of rax to rdx */
void x64_shift_i(struct x64 *a, enum x64_shift op, bool w, unsigned reg, unsigned count);
void x64_shift_cl(struct x64 *a, enum x64_shift op, bool w, unsigned reg);
void x64_shiftx(struct x64 *a, enum x64_shift op, bool w, unsigned dst, unsigned src,
                unsigned count); /* BMI2; SHL, SHR, SAR */
void x64_shiftx_load(struct x64 *a, enum x64_shift op, bool w, unsigned dst, struct x64_mem m,
                     unsigned count);                                             /* of memory */
void x64_rorx(struct x64 *a, bool w, unsigned dst, unsigned src, unsigned count); /* BMI2 */
void x64_mulx(struct x64 *a, bool w, unsigned high, unsigned low, unsigned src);  /* BMI2; rdx */
void x64_bswap(struct x64 *a, bool w, unsigned reg);
void x64_rol16(struct x64 *a, unsigned reg, unsigned count); /* of the low 16 bits */
/* dst = the low width bytes of src, zero- or sign-extended (to w). */
void x64_movzx(struct x64 *a, unsigned width, unsigned dst, unsigned src);
void x64_movsx(struct x64 *a, bool w, unsigned width, unsigned dst, unsigned src);
void x64_lea(struct x64 *a, bool w, unsigned dst, struct x64_mem m);
void x64_load(struct x64 *a, unsigned width, unsigned dst, struct x64_mem m);
void x64_load_sx(struct x64 *a, unsigned width, unsigned dst, struct x64_mem m); /* to 64 bits */
void x64_store(struct x64 *a, unsigned width, struct x64_mem m, unsigned src);
void x64_store_i(struct x64 *a, unsigned width, struct x64_mem m, int32_t imm);
void x64_setcc(struct x64 *a, enum x64_cc cc, unsigned reg); /* low byte only */
void x64_cmov(struct x64 *a, enum x64_cc cc, bool w, unsigned dst, unsigned src);
void x64_tzcnt(struct x64 *a, bool w, unsigned dst, unsigned src); /* bsf without BMI1 */
void x64_blsr(struct x64 *a, bool w, unsigned dst, unsigned src);  /* BMI1 */
void x64_blsi(struct x64 *a, bool w, unsigned dst, unsigned src);  /* BMI1 */
void x64_bt(struct x64 *a, bool w, unsigned bits, unsigned index);
void x64_bts(struct x64 *a, bool w, unsigned bits, unsigned index);
void x64_prefetch(struct x64 *a, struct x64_mem m); /* to all levels */
/* Atomic, width 4 or 8. xadd and xchg leave the old value in reg, cmpxchg uses rax. */
void x64_lock_alu(struct x64 *a, enum x64_alu op, unsigned width, struct x64_mem m, unsigned src);
void x64_lock_bts(struct x64 *a, struct x64_mem m, unsigned index); /* 64 bits; index below 64 */
void x64_lock_xadd(struct x64 *a, unsigned width, struct x64_mem m, unsigned reg);
void x64_lock_cmpxchg(struct x64 *a, unsigned width, struct x64_mem m, unsigned src);
void x64_xchg(struct x64 *a, unsigned width, struct x64_mem m, unsigned reg);

#endif
