/* Finding regions, definitions and uses; see region.h. */
#include "region.h"

void jit_become_nop(struct jit_op *op)
{
    op->op = JIT_NOP;
    op->dst = op->a = op->b = op->base = op->index = op->sel = JIT_NONE;
    op->mem = false;
}

uint16_t jit_reads_at(const struct jit_region *r, uint32_t k)
{
    const struct jit_op *op = jit_op_at(r, k);
    uint16_t reads = jit_reads(op);
    return jit_has_target(r->j, op) ? reads | jit_live_before(r->j, op->target) : reads;
}

uint32_t jit_definition(const struct jit_region *r, uint32_t k, unsigned reg)
{
    if (reg >= 10)
        return (uint32_t)JIT_NOWHERE;
    for (uint32_t i = k, n = 0; i-- > r->from && n < JIT_WINDOW; n++)
        if (jit_writes(jit_op_at(r, i)) & jit_bit(reg))
            return i;
    return (uint32_t)JIT_NOWHERE;
}

bool jit_read_between(const struct jit_region *r, uint32_t after, uint32_t before, unsigned reg)
{
    for (uint32_t i = after + 1; i < before; i++)
        if (jit_reads_at(r, i) & jit_bit(reg))
            return true;
    return false;
}

bool jit_written_between(const struct jit_region *r, uint32_t after, uint32_t before, unsigned reg)
{
    for (uint32_t i = after + 1; i < before; i++)
        if (jit_writes(jit_op_at(r, i)) & jit_bit(reg))
            return true;
    return false;
}

bool jit_only_use(const struct jit_region *r, uint32_t p, uint32_t k, unsigned reg)
{
    const struct jit_op *user = jit_op_at(r, k);
    bool dead = (jit_writes(user) & jit_bit(reg)) || !(user->live & jit_bit(reg));
    if (jit_has_target(r->j, user) && (jit_live_before(r->j, user->target) & jit_bit(reg)))
        dead = false;
    return dead && !jit_read_between(r, p, k, reg);
}

/* Going backward with the live sets brought up to date on the way, one round takes a whole chain of
 * unused operations; more rounds are for what only a loop kept alive. */
void jit_sweep_dead(struct jit *j)
{
    enum { MAX_ROUNDS = 4 };
    bool removed = true;
    for (int round = 0; removed && round < MAX_ROUNDS; round++) {
        removed = false;
        jit_find_live(j);
        for (uint32_t k = j->n_order; k-- > 0;) {
            uint32_t pc = j->order[k];
            struct jit_op *op = &j->ops[pc];
            bool checked = j->prog->facts.insn[pc].flags & OKO_FACT_GUARD;
            bool self = op->op == JIT_MOV && op->a == op->dst && op->w;
            jit_update_live(j, pc);
            if (jit_is_pure(op) && !checked && (self || !(op->live & jit_bit(op->dst)))) {
                jit_become_nop(op);
                j->before[pc] = op->live;
                removed = true;
            }
        }
    }
}

static void mark_entries(struct jit *j)
{
    for (uint32_t k = 0; k < j->n_order; k++)
        j->label[j->order[k]] = 0;
    for (uint32_t k = 0; k < j->n_order; k++) {
        const struct jit_op *op = &j->ops[j->order[k]];
        if (jit_has_target(j, op))
            j->label[op->target] = 1;
    }
}

void jit_each_region(struct jit *j, void (*pass)(const struct jit_region *r))
{
    struct jit_region r = {.j = j, .keep_memory = j->prog->facts.guards != 0};
    mark_entries(j);
    for (r.from = 0; r.from < j->n_order; r.from = r.to) {
        r.to = r.from + 1;
        while (r.to < j->n_order && !j->label[j->order[r.to]] &&
               !jit_is_jump(&j->ops[j->order[r.to - 1]]))
            r.to++;
        pass(&r);
    }
}
