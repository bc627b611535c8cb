/* Looking into programs: the set of opcodes, where guards were put.
 *
 * Thin wrappers around the instruction table and the facts for tools (oko-bpf) and tests; nothing
 * here is used while packets run. Pure functions over immutable data, thread-safe. */
#include "prog.h"

bool oko_opcode_known(uint8_t code)
{
    return oko_opcodes[code].op != OKO_BPF_NONE;
}

uint32_t oko_prog_guards(const struct oko_prog *prog, uint32_t *insns, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < prog->facts.n_insns; i++) {
        if ((prog->facts.insn[i].flags & (OKO_FACT_GUARD | OKO_FACT_FUEL)) == 0)
            continue;
        if (n < max)
            insns[n] = i;
        n++;
    }
    return n;
}
