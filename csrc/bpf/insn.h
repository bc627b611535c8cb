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
enum { OKO_MAX_INSNS = 65536, OKO_MAX_FUNCS = 64, OKO_MAX_MAPS = 64, OKO_MAX_DATA = 64 };

/* What an opcode byte does. */
enum oko_bpf_op {
    OKO_BPF_NONE = 0, /* illegal */
    OKO_BPF_ALU,      /* dst = dst op (src or imm); off 1 makes DIV and MOD signed */
    OKO_BPF_MOV,      /* dst = src or imm; off 8, 16, 32: sign-extended from so many bits */
    OKO_BPF_NEG,
    OKO_BPF_END,    /* byte order: 0xd4 to little, 0xdc to big endian, 0xd7 swap; imm = bits */
    OKO_BPF_LDDW,   /* 64-bit immediate, two slots; src: enum oko_pseudo */
    OKO_BPF_LD_ABS, /* r0 = packet[imm], big-endian */
    OKO_BPF_LD_IND, /* r0 = packet[src + imm], big-endian; the sum is of 64 bits, modulo 2^64 */
    OKO_BPF_LDX,    /* dst = memory[src + off], zero-extended */
    OKO_BPF_LDSX,   /* the same, sign-extended */
    OKO_BPF_ST,     /* memory[dst + off] = imm */
    OKO_BPF_STX,    /* memory[dst + off] = src */
    OKO_BPF_ATOMIC, /* imm says which */
    OKO_BPF_JA,     /* always jumps: by off, or by imm (0x06, gotol) */
    OKO_BPF_JCOND,  /* if dst op (src or imm) jump by off */
    OKO_BPF_CALL,   /* helper or local function */
    OKO_BPF_CALLX,  /* helper whose number is in a register; conformance only. The register is in
                     * dst, or (as old compilers had it) in imm with dst 0 */
    OKO_BPF_EXIT
};

/* Which fields an opcode uses, and how its registers. Fields not used must be zero. */
enum oko_use {
    OKO_USE_DST = 1, /* names a register in dst */
    OKO_USE_SRC = 2,
    OKO_USE_OFF = 4,
    OKO_USE_IMM = 8,
    OKO_READS_DST = 16,
    OKO_WRITES_DST = 32
};

/* Conformance groups of RFC 9669 section 2.4. */
enum oko_insn_group {
    OKO_GROUP_BASE32 = 1,
    OKO_GROUP_BASE64,
    OKO_GROUP_ATOMIC32,
    OKO_GROUP_ATOMIC64,
    OKO_GROUP_DIVMUL32,
    OKO_GROUP_DIVMUL64,
    OKO_GROUP_PACKET,
    OKO_GROUP_CALLX /* not of the RFC */
};

struct oko_opcode {
    uint8_t op;      /* enum oko_bpf_op */
    uint8_t use;     /* enum oko_use bits */
    uint8_t group;   /* enum oko_insn_group */
    uint8_t version; /* first -mcpu=vN whose compilers emit it; 0 with op NONE */
    uint8_t width;   /* bytes of memory touched, else 0 */
    bool is64;       /* ALU and jumps: on all 64 bits */
    char text[5];    /* operator as printed: "+=", "s<" */
};

extern const struct oko_opcode oko_opcodes[256];

/* The first instruction after this one that may follow it in the text: 2 for a 64-bit load. */
static inline uint32_t oko_insn_slots(struct oko_insn i)
{
    return i.code == (BPF_LD | BPF_IMM | BPF_DW) ? 2 : 1;
}
/* Distance of a jump or local call in instructions, from the next one. */
static inline int32_t oko_insn_jump(struct oko_insn i)
{
    bool by_imm = i.code == (BPF_JMP32 | BPF_JA) || i.code == (BPF_JMP | BPF_CALL);
    return by_imm ? i.imm : i.off;
}
/* The register that a CALLX names. */
static inline uint8_t oko_insn_callx_reg(struct oko_insn i)
{
    return (uint8_t)((i.regs & 15) != 0 ? i.regs & 15 : i.imm & 15);
}

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
/* Bytes a load or store of this opcode touches: 1, 2, 4 or 8; 0 for others. */
uint8_t oko_insn_width(struct oko_insn i);

/* Decoder check of a whole program: legal opcodes, register numbers, r10 not written, zero unused
 * fields, jump and call targets inside and not into the second half of a 64-bit load, pseudo
 * indices in range of spec, known helpers. With spec->funcs: jumps stay in their function, calls go
 * to a function's first instruction, and each function ends with an exit or jump. flags: enum
 * oko_load_flags; OKO_LOAD_CONFORMANCE allows CALLX, and local calls to anywhere when there is at
 * most one function. Both halves of a 64-bit load keep their slots. */
int oko_insn_check(const struct oko_prog_spec *spec, uint32_t flags, struct oko_error *error);

/* Prints instruction pc in the syntax that clang and bpftool print ("r0 = *(u16 *)(r1 + 12)").
 * Returns the length, at most size - 1. spec gives map and data names; may be NULL. */
uint32_t oko_insn_print(const struct oko_prog_spec *spec, const struct oko_insn *insns, uint32_t pc,
                        char *out, uint32_t size);

#endif
