/* The interpreter's predecoded form, private to interp.c and interp_loop.h.
 *
 * One op per instruction slot (so that op number = instruction number), everything resolved: the
 * handler's address, the 64-bit immediate, the jump's target, the helper's function. */
#ifndef OKO_BPF_INTERP_H
#define OKO_BPF_INTERP_H

#include "prog.h"

/* Each ALU operation and jump in four forms: 64 or 32 bits, second operand K(onstant) or X
 * (register). */
#define OKO_FOUR_FORMS(X, name) X(name##64_K) X(name##64_X) X(name##32_K) X(name##32_X)

/* What a handler does. CALL_LOOKUP: helper 1 in a program with sketches; UNWIND: helper 5 in
 * conformance mode; GUARD and FUEL: a run-time check, then the op's kind; NEVER: the second half of
 * a 64-bit load. */
// clang-format off
#define OKO_INTERP_KINDS(X) \
    OKO_FOUR_FORMS(X, ADD) OKO_FOUR_FORMS(X, SUB) OKO_FOUR_FORMS(X, MUL) OKO_FOUR_FORMS(X, DIV) \
    OKO_FOUR_FORMS(X, SDIV) OKO_FOUR_FORMS(X, MOD) OKO_FOUR_FORMS(X, SMOD) OKO_FOUR_FORMS(X, OR) \
    OKO_FOUR_FORMS(X, AND) OKO_FOUR_FORMS(X, XOR) OKO_FOUR_FORMS(X, LSH) OKO_FOUR_FORMS(X, RSH) \
    OKO_FOUR_FORMS(X, ARSH) OKO_FOUR_FORMS(X, MOV) \
    X(MOVSX8_64) X(MOVSX16_64) X(MOVSX32_64) X(MOVSX8_32) X(MOVSX16_32) X(NEG64) X(NEG32) \
    X(LE16) X(LE32) X(LE64) X(SWAP16) X(SWAP32) X(SWAP64) \
    X(LDDW) X(LD_ABS8) X(LD_ABS16) X(LD_ABS32) X(LD_IND8) X(LD_IND16) X(LD_IND32) \
    X(LDX8) X(LDX16) X(LDX32) X(LDX64) X(LDSX8) X(LDSX16) X(LDSX32) \
    X(ST8) X(ST16) X(ST32) X(ST64) X(STX8) X(STX16) X(STX32) X(STX64) X(ATOMIC32) X(ATOMIC64) \
    X(JA) \
    OKO_FOUR_FORMS(X, JEQ) OKO_FOUR_FORMS(X, JNE) OKO_FOUR_FORMS(X, JSET) OKO_FOUR_FORMS(X, JGT) \
    OKO_FOUR_FORMS(X, JGE) OKO_FOUR_FORMS(X, JLT) OKO_FOUR_FORMS(X, JLE) OKO_FOUR_FORMS(X, JSGT) \
    OKO_FOUR_FORMS(X, JSGE) OKO_FOUR_FORMS(X, JSLT) OKO_FOUR_FORMS(X, JSLE) \
    X(CALL_HELPER) X(CALL_LOOKUP) X(CALL_LOCAL) X(CALLX) X(UNWIND) X(EXIT) X(GUARD) X(FUEL) X(NEVER)
// clang-format on

enum oko_interp_kind {
#define OKO_KIND(name) OKO_KIND_##name,
    OKO_INTERP_KINDS(OKO_KIND)
#undef OKO_KIND
        OKO_N_KINDS
};

struct oko_interp_op {
    const void *handler; /* where the fast loop jumps */
    uint64_t imm;        /* sign-extended immediate, resolved address, or helper */
    int32_t target;      /* jump: op number; memory: offset; CALL_LOOKUP: scratch slot */
    uint8_t dst, src;
    uint8_t kind;  /* what the instruction does */
    uint8_t entry; /* kind, or GUARD or FUEL before it */
};

/* The oldest caller's registers are in frames[0]; the running function's are in the loop. */
struct oko_interp_frame {
    uint64_t regs[OKO_N_REGS]; /* of the caller: all when checked, else r6-r9 */
    const struct oko_interp_op *back;
    uint32_t func; /* that the caller belongs to */
};

#endif
