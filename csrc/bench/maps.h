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
int oko_bench_ascending(const void *a, const void *b); /* of doubles, for qsort */

/* map_threads.c: only rows whose name has the filter's text, unless that is NULL. */
void oko_bench_map_threads(int rounds, const char *filter, bool json);

#endif
