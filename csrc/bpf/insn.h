/* Opcodes of BPF (RFC 9669 section 3 and 4, plus the legacy packet loads of its section 5.4).
 *
 * THE instruction table (insn.c) says for each of the 256 opcode bytes whether it is legal, which
 * fields it uses, and how it prints; decoder checks, verifier, interpreter, disassembler and tests
 * are driven by it. Legality is data: nobody else decides what an instruction may look like. */
#ifndef OKO_BPF_INSN_H
#define OKO_BPF_INSN_H

#include "../oko.h"

/* Instruction classes: the low three bits of code. */
enum {
    BPF_LD = 0,
    BPF_LDX = 1,
    BPF_ST = 2,
    BPF_STX = 3,
    BPF_ALU = 4,
    BPF_JMP = 5,
    BPF_JMP32 = 6,
    BPF_ALU64 = 7
};
/* Operand source of ALU and JMP. */
enum { BPF_K = 0x00, BPF_X = 0x08 };
/* ALU operations: the high four bits. */
enum {
    BPF_ADD = 0x00,
    BPF_SUB = 0x10,
    BPF_MUL = 0x20,
    BPF_DIV = 0x30,
    BPF_OR = 0x40,
    BPF_AND = 0x50,
    BPF_LSH = 0x60,
    BPF_RSH = 0x70,
    BPF_NEG = 0x80,
    BPF_MOD = 0x90,
    BPF_XOR = 0xa0,
    BPF_MOV = 0xb0,
    BPF_ARSH = 0xc0,
    BPF_END = 0xd0
};
/* Jumps: the high four bits. */
enum {
    BPF_JA = 0x00,
    BPF_JEQ = 0x10,
    BPF_JGT = 0x20,
    BPF_JGE = 0x30,
    BPF_JSET = 0x40,
    BPF_JNE = 0x50,
    BPF_JSGT = 0x60,
    BPF_JSGE = 0x70,
    BPF_CALL = 0x80,
    BPF_EXIT = 0x90,
    BPF_JLT = 0xa0,
    BPF_JLE = 0xb0,
    BPF_JSLT = 0xc0,
    BPF_JSLE = 0xd0
};
/* Sizes and modes of loads and stores. */
enum { BPF_W = 0x00, BPF_H = 0x08, BPF_B = 0x10, BPF_DW = 0x18 };
enum {
    BPF_IMM = 0x00,
    BPF_ABS = 0x20,
    BPF_IND = 0x40,
    BPF_MEM = 0x60,
    BPF_MEMSX = 0x80,
    BPF_ATOMIC = 0xc0
};
/* Atomic operations, in imm. */
enum { BPF_FETCH = 0x01, BPF_XCHG = 0xe0 | 0x01, BPF_CMPXCHG = 0xf0 | 0x01 };

enum { OKO_N_REGS = 11, OKO_STACK_SIZE = 512, OKO_MAX_FRAMES = 8, OKO_MAX_PKT = 65535 };

static inline uint8_t oko_insn_class(struct oko_insn i)
{
    return i.code & 7;
}
static inline uint8_t oko_insn_op(struct oko_insn i)
{
    return i.code & 0xf0;
}
static inline uint8_t oko_insn_dst(struct oko_insn i)
{
    return i.regs & 15;
}
static inline uint8_t oko_insn_src(struct oko_insn i)
{
    return i.regs >> 4;
}
/* Bytes a load or store of this opcode touches: 1, 2, 4 or 8. */
uint8_t oko_insn_width(struct oko_insn i);

/* Decoder check of a whole program: legal opcodes, register numbers, zero unused fields, jump and
 * call targets inside and not into the second half of a 64-bit load, last instruction an exit or
 * jump, pseudo indices in range of spec. Both halves of a 64-bit load keep their slots. */
int oko_insn_check(const struct oko_prog_spec *spec, uint32_t flags, struct oko_error *error);

/* Prints instruction pc in the syntax that clang and bpftool print ("r0 = *(u16 *)(r1 + 12)").
 * Returns the length, at most size - 1. spec gives map and data names; may be NULL. */
uint32_t oko_insn_print(const struct oko_prog_spec *spec, const struct oko_insn *insns, uint32_t pc,
                        char *out, uint32_t size);

#endif
