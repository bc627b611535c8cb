/* The shape of a program: blocks, order, loops, calls, liveness; before anything is executed.
 *
 * Per function: basic blocks; a depth-first order; dominators; natural loops (a back edge goes to a
 * block that dominates its source; any other retreating edge makes the loop irreducible, and the
 * program is refused); the final order, reverse postorder with what leaves a loop after all of the
 * loop. Between functions: no recursion, chains of at most OKO_MAX_FRAMES calls. Registers: which
 * may still be read.
 *
 * Unreachable instructions are legal and belong to no block. Work is linear but for dominators,
 * whose worst case is charged to the budget. No recursion in C. Read-only once built. */
#ifndef OKO_VERIFY_CFG_H
#define OKO_VERIFY_CFG_H

#include "../prog.h"

enum { OKO_CFG_NONE = UINT32_MAX };

enum oko_cfg_flag {
    OKO_CFG_REACHABLE = 1, /* by control flow alone */
    OKO_CFG_LEADER = 2,    /* first of its block */
    OKO_CFG_JOIN = 4,      /* leader with several predecessors, or behind a local call */
    OKO_CFG_HEAD = 8       /* leader of a loop's head */
};

struct oko_cfg_insn {
    uint8_t flags;     /* enum oko_cfg_flag */
    uint8_t func;      /* index of its function */
    uint16_t live_in;  /* registers that may be read from here on */
    uint16_t live_out; /* after this instruction */
    uint32_t order;    /* of its block, in the function's final order */
    uint32_t loop;     /* innermost loop around it, or OKO_CFG_NONE */
};

struct oko_cfg_loop {
    uint32_t head;   /* instruction */
    uint32_t parent; /* loop around it, or OKO_CFG_NONE */
    uint32_t depth;  /* 1: outermost */
    uint32_t last;   /* order of its last block */
};

struct oko_cfg {
    const struct oko_prog_spec *spec;
    uint32_t n_funcs;
    uint32_t start[OKO_MAX_FUNCS + 1]; /* first instruction of each; the end */
    uint32_t height[OKO_MAX_FUNCS];    /* frames that a call of it needs; 0: never called */
    struct oko_cfg_insn *insn;         /* [n_insns] */
    struct oko_cfg_loop *loop;
    uint32_t n_loops;
    uint64_t work;
};

int oko_cfg_build(const struct oko_prog_spec *spec, uint64_t budget, struct oko_cfg *cfg,
                  struct oko_error *error);
void oko_cfg_destroy(struct oko_cfg *cfg);

/* Whether the loop (or OKO_CFG_NONE: the function) contains instruction pc of the same function. */
bool oko_cfg_in_loop(const struct oko_cfg *cfg, uint32_t loop, uint32_t pc);
/* The outermost loop around an instruction, or OKO_CFG_NONE. */
uint32_t oko_cfg_outermost(const struct oko_cfg *cfg, uint32_t pc);
/* Registers that an instruction reads and writes (calls: by prototype), as bit masks. */
uint16_t oko_cfg_reads(const struct oko_cfg *cfg, uint32_t pc);
uint16_t oko_cfg_writes(struct oko_insn i);
/* Index of the function that starts at pc. */
uint32_t oko_cfg_func_at(const struct oko_cfg *cfg, uint32_t pc);

#endif
