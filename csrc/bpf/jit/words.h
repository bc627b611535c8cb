/* Keys, items and values as 8-byte words in registers.
 *
 * At a helper call r0-r5 are about to be destroyed, so their registers and the scratch ones are
 * free but for those that still hold pieces to come. A maker hands them out: a word is built in the
 * register of one of its pieces where that is its last use, else in a free one. rax and rdx are
 * only lent for a moment (multiplication wants them).
 *
 * Fails safely: planning (keys.c) keeps the number of words low enough; running out all the same
 * sets the assembler's error. */
#ifndef OKO_BPF_JIT_WORDS_H
#define OKO_BPF_JIT_WORDS_H

#include "jit.h"

struct jit_maker {
    struct jit *j;
    uint32_t free;    /* x86 registers, as a mask */
    uint8_t uses[11]; /* pieces to come, by BPF register */
};

void jit_maker_init(struct jit_maker *m, struct jit *j, const struct jit_op *op);
unsigned jit_maker_take(struct jit_maker *m); /* a register, never rax or rdx */
void jit_maker_give(struct jit_maker *m, unsigned reg);
/* Makes word `index` (of 8 bytes) of the buffer. may_stay: memory is good enough. */
struct jit_word jit_make_word(struct jit_maker *m, const struct jit_buffer *b, uint32_t index,
                              bool may_stay);

#endif
