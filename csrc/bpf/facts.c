/* Facts that claim nothing, and giving facts back; see facts.h. */
#include "facts.h"

#include <stdlib.h>
#include <string.h>

int oko_facts_none(const struct oko_prog_spec *spec, struct oko_facts *facts)
{
    memset(facts, 0, sizeof(*facts));
    facts->insn = calloc(spec->n_insns, sizeof(*facts->insn));
    facts->partitions = calloc(1, sizeof(*facts->partitions));
    if (facts->insn == NULL || facts->partitions == NULL) {
        oko_facts_destroy(facts);
        return OKO_E_NOMEM;
    }
    facts->n_insns = spec->n_insns;
    facts->n_partitions = 1;
    for (uint32_t i = 0; i < spec->n_insns; i++) {
        facts->insn[i].flags = OKO_FACT_REACHED;
        facts->insn[i].map = -1;
        facts->insn[i].guard_map = -1;
        facts->insn[i].regs_live = 0x7ff;
    }
    for (size_t f = 0; f < sizeof(facts->stack) / sizeof(facts->stack[0]); f++)
        facts->stack[f] = OKO_STACK_SIZE;
    facts->stateful = 1;
    facts->reads_meta = 1;
    return 0;
}

void oko_facts_destroy(struct oko_facts *facts)
{
    free(facts->insn);
    free(facts->partitions);
    facts->insn = NULL;
    facts->partitions = NULL;
    facts->n_insns = facts->n_partitions = 0;
}
