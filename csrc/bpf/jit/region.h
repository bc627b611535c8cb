/* Regions: runs of operations that control enters only at the first; branches out are allowed. The
 * helpers look at definitions and uses within one. A definition is the last write of a register
 * before a place; a computation may move to its only use when nothing in between writes what it
 * reads. What a branch out of the region needs counts as read at the branch.
 *
 * Thread-safety: none, as the compilation they belong to. */
#ifndef OKO_BPF_JIT_REGION_H
#define OKO_BPF_JIT_REGION_H

#include "jit.h"

enum { JIT_WINDOW = 48, JIT_NOWHERE = -1 }; /* how far back a definition is looked for */

/* Positions [from, to) in j->order. */
struct jit_region {
    struct jit *j;
    uint32_t from, to;
    bool keep_memory; /* guarded program: checks belong to the places of the accesses */
};

static inline struct jit_op *jit_op_at(const struct jit_region *r, uint32_t k)
{
    return &r->j->ops[r->j->order[k]];
}

static inline uint16_t jit_bit(unsigned reg)
{
    return (uint16_t)(reg == JIT_NONE ? 0 : 1u << reg);
}

static inline bool jit_compares(const struct jit_op *op)
{
    return op->op == JIT_JCC || op->op == JIT_SELECT || op->op == JIT_EXIT_IF;
}

static inline bool jit_is_access(const struct jit_op *op)
{
    return op->op == JIT_LOAD || op->op == JIT_STORE || op->op == JIT_MODIFY ||
           op->op == JIT_ATOMIC;
}

static inline bool jit_writes_memory(const struct jit_op *op)
{
    return op->op == JIT_STORE || op->op == JIT_MODIFY || op->op == JIT_ATOMIC ||
           op->op == JIT_LOCAL || op->op == JIT_HELPER || op->op == JIT_CALLX;
}

/* Calls pass on each region of the function at hand. */
void jit_each_region(struct jit *j, void (*pass)(const struct jit_region *r));
/* Removes what computes something that nobody reads; the live sets are right afterwards. */
void jit_sweep_dead(struct jit *j);

void jit_become_nop(struct jit_op *op);
/* Registers read at k: by the operation, or by who it may branch to. */
uint16_t jit_reads_at(const struct jit_region *r, uint32_t k);
/* Position of the last write of reg before k, or JIT_NOWHERE in the region (or too far). */
uint32_t jit_definition(const struct jit_region *r, uint32_t k, unsigned reg);
bool jit_read_between(const struct jit_region *r, uint32_t after, uint32_t before, unsigned reg);
bool jit_written_between(const struct jit_region *r, uint32_t after, uint32_t before, unsigned reg);
/* Is the value that p defines in reg used at k and nowhere else? */
bool jit_only_use(const struct jit_region *r, uint32_t p, uint32_t k, unsigned reg);

#endif
