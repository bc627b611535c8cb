/* Lookups ahead: the batch entry touches the tables before it needs them.
 *
 * A lookup in a large hash table waits for memory, and the next packet's, behind the first one's
 * branches, mostly does too, although packets do not depend on each other. So the batch entry makes
 * two passes over a burst: the first runs what each packet's program does before its first such
 * lookup, hashes the key and prefetches the bucket; the second is the program as it is. ("Group
 * prefetching" of hash joins.)
 *
 * What the first pass runs. From the entry, forward only, whatever has no effect outside registers
 * and the run's own stack: computations, loads, branches, stores to the stack, lookups in arrays.
 * Additions to memory in place are left out, for nothing that they write is on the stack. It ends,
 * for the packet, at the first lookup in a large table and at everything else; of the branches only
 * those that lead to such a lookup are emitted. A program without one has no first pass.
 *
 * When. Only while one of the tables has so many entries that their buckets outgrow a share of the
 * second-level cache, and for bursts of some packets: with few of either the lines are near, or
 * there is nothing to overlap. Both are asked once per burst.
 *
 * Fails safely. The pass decides nothing: it leaves no value behind that the second one reads (a
 * verified program reads no stack that it did not write), and it prefetches only within the table,
 * at addresses computed as a lookup does. Its loads are the program's own, on the paths that the
 * verifier went; what they read may be older than what the program will read, of which the verifier
 * assumes nothing. Programs that are unverified or checked at run time have none.
 *
 * Left out: what a second lookup reads; lookups that call the map's function, as those of long keys
 * do; sketches and arrays, whose addresses wait for no branch. A table with few entries in which
 * very many keys are looked up in vain has its misses one by one: nothing tells it from one whose
 * few keys keep their lines near.
 *
 * Thread-safety: a compilation belongs to one thread; of the code made: as any lookup's. */
#include "jit.h"

#include <string.h>

enum {
    MIN_PACKETS = 4,
    MAX_OPS = 256, /* a longer way to the lookup would cost more than it hides */
    MAX_TABLES = 4
};

/* What the first pass does with an operation. */
enum step { STOP, SKIP, RUN, FETCH };

static enum step step_of(const struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    if (j->prog->facts.insn[pc].flags & (OKO_FACT_GUARD | OKO_FACT_FUEL))
        return STOP;
    switch ((enum jit_opcode)op->op) {
    case JIT_DIV:
    case JIT_MOD:
        return STOP; /* twice would be dear */
    case JIT_STORE:
        return op->base == JIT_FP ? RUN : STOP;
    case JIT_MODIFY:
        return SKIP;
    case JIT_JMP:
    case JIT_JCC:
        return op->target > pc ? RUN : STOP;
    case JIT_HELPER:
        if (jit_prefetches(j, pc))
            return FETCH;
        return jit_lookup_is_plain(j, pc) ? RUN : STOP;
    default:
        return op->op == JIT_NOP || jit_is_pure(op) ? RUN : STOP;
    }
}

/* ---------------------------------------------------------------- what is in the pass */

static bool branches(const struct jit *j, const struct jit_op *op)
{
    return op->op != JIT_HELPER && jit_has_target(j, op);
}

/* Marks in work[], by pc. */
enum { ELSEWHERE, LEADS_THERE, IN_PASS };

/* Does the operation at place k of the order lead to a lookup ahead? Those behind it are marked. */
static bool leads_there(const struct jit *j, uint32_t k)
{
    const struct jit_op *op = &j->ops[j->order[k]];
    switch (step_of(j, j->order[k])) {
    case FETCH:
        return true;
    case STOP:
        return false;
    default:
        return (branches(j, op) && j->work[op->target]) ||
               (!jit_is_jump(op) && k + 1 < j->n_order && j->work[j->order[k + 1]]);
    }
}

static void reach(struct jit *j, uint32_t pc)
{
    if (j->work[pc] == LEADS_THERE)
        j->work[pc] = IN_PASS;
}

/* Marks the operations of the pass over the function at hand; their number. */
static uint32_t mark(struct jit *j)
{
    uint32_t n = 0;
    memset(j->work, 0, j->n * sizeof(*j->work));
    for (uint32_t k = j->n_order; k-- > 0;)
        j->work[j->order[k]] = leads_there(j, k) ? LEADS_THERE : ELSEWHERE;
    reach(j, j->func->start);
    for (uint32_t k = 0; k < j->n_order; k++) {
        uint32_t pc = j->order[k];
        const struct jit_op *op = &j->ops[pc];
        if (j->work[pc] != IN_PASS)
            continue;
        n += op->op != JIT_NOP;
        if (step_of(j, pc) == FETCH)
            continue;
        if (branches(j, op))
            reach(j, op->target);
        if (!jit_is_jump(op) && k + 1 < j->n_order)
            reach(j, j->order[k + 1]);
    }
    return n;
}

bool jit_plan_ahead(struct jit *j)
{
    if ((jit_skip & JIT_SKIP_AHEAD) || (j->prog->flags & OKO_LOAD_CONFORMANCE) ||
        j->prog->facts.guards != 0)
        return false;
    uint32_t n = mark(j);
    return n != 0 && n <= MAX_OPS;
}

/* ---------------------------------------------------------------- its code */

void jit_emit_ahead_test(struct jit *j, uint32_t skip)
{
    struct x64 *a = &j->a;
    const struct oko_map *tables[MAX_TABLES];
    uint32_t n = 0, go = x64_label(a);
    for (uint32_t k = 0; k < j->n_order && n < MAX_TABLES; k++) {
        uint32_t pc = j->order[k], i = 0;
        if (j->work[pc] != IN_PASS || step_of(j, pc) != FETCH)
            continue;
        const struct oko_map *map = j->calls[j->ops[pc].call - 1].map;
        while (i < n && tables[i] != map)
            i++;
        if (i == n)
            tables[n++] = map;
    }
    for (uint32_t i = 0; i < n; i++) {
        jit_emit_is_large(j, tables[i]);
        x64_jcc(a, i + 1 < n ? X64_AE : X64_B, i + 1 < n ? go : skip);
    }
    x64_bind(a, go);
    x64_mov(a, true, R9, jit_pin(j, PIN_TODO, R9));
    for (unsigned i = 1; i < MIN_PACKETS; i++)
        jit_emit_drop_lowest(a, R9, R10);
    x64_jcc(a, X64_E, skip);
}

void jit_emit_ahead(struct jit *j, uint32_t next)
{
    struct x64 *a = &j->a;
    uint32_t results[2] = {j->result_label[0], j->result_label[1]};
    j->result_label[0] = j->result_label[1] = next;
    for (uint32_t k = 0; k < j->n_order; k++)
        j->label[j->order[k]] = (uint32_t)JIT_UNLABELLED;
    for (uint32_t k = 0; k < j->n_order; k++) {
        const struct jit_op *op = &j->ops[j->order[k]];
        if (j->work[j->order[k]] == IN_PASS && branches(j, op) &&
            j->label[op->target] == (uint32_t)JIT_UNLABELLED)
            j->label[op->target] = j->work[op->target] == IN_PASS ? x64_label(a) : next;
    }
    j->flags_valid = false;
    for (uint32_t k = 0; k < j->n_order && !a->error; k++) {
        uint32_t pc = j->order[k], after = k + 1;
        if (j->work[pc] != IN_PASS)
            continue;
        if (j->label[pc] != (uint32_t)JIT_UNLABELLED) {
            x64_bind(a, j->label[pc]);
            j->flags_valid = false;
        }
        while (after < j->n_order &&
               (j->work[j->order[after]] != IN_PASS || j->ops[j->order[after]].op == JIT_NOP))
            after++;
        enum step step = step_of(j, pc);
        if (step == FETCH)
            jit_emit_prefetch(j, pc);
        else if (step == RUN)
            jit_emit_op(j, pc, after < j->n_order ? j->order[after] : j->n);
        bool ends =
            step == FETCH || (!jit_is_jump(&j->ops[pc]) && j->work[j->order[k + 1]] != IN_PASS);
        if (ends && after < j->n_order)
            x64_jmp(a, next);
    }
    j->flags_valid = false;
    j->result_label[0] = results[0];
    j->result_label[1] = results[1];
}
