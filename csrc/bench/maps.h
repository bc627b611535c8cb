/* What the parts of bench-maps share. */
#ifndef OKO_BENCH_MAPS_H
#define OKO_BENCH_MAPS_H

#include "oko.h"

#include <stdbool.h>

/* Appends an instruction to `code` at `n`. */
#define PUT(op, dst, src, o, i)                                                                    \
    (code[n++] =                                                                                   \
         (struct oko_insn){.code = (op), .regs = (dst) | (src) << 4, .off = (o), .imm = (i)})

void oko_bench_die(const char *what, const char *why);
/* A program with one map from its first n instructions, which fall through when they succeed; then
 * r0 = 1. The jump at too_short leads to r0 = 0, two instructions on. code has room for four more.
 */
struct oko_prog *oko_bench_load(struct oko_vm *vm, struct oko_insn *code, uint32_t n,
                                uint32_t too_short, const struct oko_map_spec *map);
int oko_bench_ascending(const void *a, const void *b); /* of doubles, for qsort */

/* map_threads.c: only rows whose name has the filter's text, unless that is NULL. */
void oko_bench_map_threads(int rounds, const char *filter, bool json);

#endif
