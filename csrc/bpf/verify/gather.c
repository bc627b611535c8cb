/* Facts for the JIT and the interpreter, gathered while the walk goes: what held at every visit of
 * an instruction is a fact (../facts.h).
 *
 * States that lie within a walked one are not walked again, so facts drawn from the walked ones
 * hold for them too. The exception is the partition of a stack buffer, which says how bytes were
 * written and not what they are; it is advice about speed, and a path that disagrees costs only
 * that. */
#include "walk.h"

#include <stdlib.h>
#include <string.h>

/* Of one instruction. */
struct note {
    bool visited, called;     /* a helper call has been noted */
    bool hi0;                 /* dst's upper half always zero */
    bool nonzero, divides;    /* divisor */
    bool taken, falls, nulls; /* nulls: a null test */
    bool fuel;
    bool accesses, mixed; /* memory; of different objects */
    uint8_t object;       /* enum oko_reg_type */
    uint16_t object_index;
    uint8_t guard;
    int16_t guard_map;
    int16_t map; /* -1: none or several */
    bool index_ok, index_const;
    uint64_t index;
    bool on_stack[2]; /* key, value */
    int16_t off[2];
    uint16_t part[2]; /* partitions; 0: unknown */
};

struct oko_gather {
    struct note *note; /* [n_insns] */
    struct oko_partition *part;
    uint32_t n_parts, max_parts;
    uint16_t stack[64];
    bool stateful, reads_meta;
};

int oko_gather_new(struct oko_walk *w)
{
    struct oko_gather *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return oko_walk_no_memory(w);
    w->gather = g;
    g->note = calloc(w->spec->n_insns, sizeof(*g->note));
    g->part = calloc(16, sizeof(*g->part));
    g->max_parts = 16;
    if (g->note == NULL || g->part == NULL)
        return oko_walk_no_memory(w);
    oko_gather_reset(w);
    return 0;
}

void oko_gather_free(struct oko_gather *g)
{
    if (g == NULL)
        return;
    free(g->note);
    free(g->part);
    free(g);
}

void oko_gather_reset(struct oko_walk *w)
{
    struct oko_gather *g = w->gather;
    memset(g->note, 0, w->spec->n_insns * sizeof(*g->note));
    memset(g->stack, 0, sizeof(g->stack));
    g->n_parts = 1;
    g->stateful = g->reads_meta = false;
    for (uint32_t i = 0; i < w->spec->n_insns; i++) {
        struct note *note = &g->note[i];
        note->hi0 = note->nonzero = note->nulls = true;
        note->map = note->guard_map = -1;
    }
}

static struct note *note_at(struct oko_walk *w, uint32_t pc)
{
    return &w->gather->note[pc];
}

void oko_gather_visit(struct oko_walk *w)
{
    note_at(w, w->pc)->visited = true;
}

void oko_gather_result(struct oko_walk *w, uint32_t pc)
{
    struct oko_insn i = w->spec->insns[pc];
    uint16_t writes = oko_cfg_writes(i);
    if (oko_opcodes[i.code].op == OKO_BPF_CALL && oko_insn_src(i) == OKO_PSEUDO_LOCAL)
        writes = 0;
    unsigned reg = writes == 0x3f ? 0 : oko_insn_dst(i);
    if (oko_opcodes[i.code].op == OKO_BPF_ATOMIC)
        reg = i.imm == (int32_t)BPF_CMPXCHG ? 0 : oko_insn_src(i);
    const struct oko_reg *r = oko_walk_reg(w, reg);
    if (writes == 0 || r->type != OKO_REG_SCALAR || !oko_scalar_fits32(&r->s))
        note_at(w, pc)->hi0 = false;
}

void oko_gather_divisor(struct oko_walk *w, bool nonzero)
{
    note_at(w, w->pc)->divides = true;
    note_at(w, w->pc)->nonzero &= nonzero;
}

void oko_gather_branch(struct oko_walk *w, bool taken, bool falls, bool null_test)
{
    struct note *note = note_at(w, w->pc);
    note->taken |= taken;
    note->falls |= falls;
    note->nulls &= null_test;
}

void oko_gather_guard(struct oko_walk *w, uint8_t guard, int16_t map)
{
    note_at(w, w->pc)->guard = guard;
    note_at(w, w->pc)->guard_map = map;
}

void oko_gather_object(struct oko_walk *w, const struct oko_reg *base)
{
    struct note *note = note_at(w, w->pc);
    if (note->accesses && (note->object != base->type || note->object_index != base->index))
        note->mixed = true;
    note->accesses = true;
    note->object = base->type;
    note->object_index = base->index;
}

/* A run-time check looks at one object. */
int oko_gather_check(struct oko_walk *w)
{
    for (uint32_t pc = 0; pc < w->spec->n_insns; pc++)
        if (w->gather->note[pc].guard != OKO_GUARD_NONE && w->gather->note[pc].mixed)
            return oko_refuse_at(w, pc, "access each through a variable of its own",
                                 "this accesses different objects on different paths, and a check "
                                 "at run time can look at one only");
    return 0;
}

uint8_t oko_gather_guard_of(const struct oko_walk *w, uint32_t pc, int16_t *map)
{
    *map = w->gather->note[pc].guard_map;
    return w->gather->note[pc].guard;
}

void oko_gather_fuel(struct oko_walk *w, uint32_t pc)
{
    note_at(w, pc)->fuel = true;
}

void oko_gather_stack(struct oko_walk *w, uint32_t frame, uint32_t lowest)
{
    uint16_t *used = &w->gather->stack[w->cur.frame[frame].func];
    uint16_t bytes = (uint16_t)(OKO_STACK_SIZE - lowest);
    *used = bytes > *used ? bytes : *used;
}

void oko_gather_stateful(struct oko_walk *w)
{
    w->gather->stateful = true;
}

void oko_gather_meta(struct oko_walk *w)
{
    w->gather->reads_meta = true;
}

/* ---------------------------------------------------------------- buffers of helper calls */

/* How [pos, pos + size) of the frame was written; n 0 if the pieces do not tile it. */
static struct oko_partition partition_of(const struct oko_state *st, uint32_t frame, uint32_t pos,
                                         uint32_t size)
{
    struct oko_partition part = {0}, unknown = {0};
    uint32_t at = pos;
    for (uint32_t i = 0; i < st->n_pieces && at < pos + size; i++) {
        const struct oko_piece *piece = &st->piece[i];
        if (piece->frame != frame || piece->pos < at)
            continue;
        if (piece->pos != at || at + piece->size > pos + size || part.n == sizeof(part.width))
            return unknown;
        part.width[part.n++] = piece->size;
        at += piece->size;
    }
    return at == pos + size ? part : unknown;
}

static uint16_t intern(struct oko_gather *g, const struct oko_partition *part)
{
    if (part->n == 0)
        return 0;
    for (uint32_t i = 1; i < g->n_parts; i++)
        if (memcmp(&g->part[i], part, sizeof(*part)) == 0)
            return (uint16_t)i;
    if (g->n_parts == UINT16_MAX)
        return 0;
    if (g->n_parts == g->max_parts) {
        struct oko_partition *larger = realloc(g->part, 2 * g->max_parts * sizeof(*larger));
        if (larger == NULL)
            return 0; /* unknown will do */
        g->part = larger;
        g->max_parts *= 2;
    }
    g->part[g->n_parts] = *part;
    return (uint16_t)g->n_parts++;
}

static void note_buffer(struct oko_walk *w, struct note *note, int which, unsigned arg,
                        uint32_t size)
{
    const struct oko_reg *r = oko_walk_reg(w, arg);
    int64_t off = 0;
    bool here = r->type == OKO_REG_STACK && r->frame == w->cur.n_frames - 1 &&
                oko_reg_offset_const(r, &off);
    struct oko_partition part = {0};
    if (here)
        part = partition_of(&w->cur, r->frame, (uint32_t)(off + OKO_STACK_SIZE), size);
    uint16_t index = intern(w->gather, &part);
    if (!note->called) {
        note->on_stack[which] = here;
        note->off[which] = (int16_t)off;
        note->part[which] = index;
    } else {
        note->on_stack[which] &= here && note->off[which] == (int16_t)off;
        if (note->part[which] != index)
            note->part[which] = 0;
    }
}

/* Called while r1 to r5 still hold the arguments. */
void oko_gather_call(struct oko_walk *w, int16_t map, bool index_ok, bool index_const,
                     uint64_t index)
{
    struct note *note = note_at(w, w->pc);
    const struct oko_helper *helper = oko_helper(w->spec->insns[w->pc].imm);
    if (!note->called) {
        note->map = map;
        note->index_ok = index_ok;
        note->index_const = index_const;
        note->index = index;
    } else {
        if (note->map != map)
            note->map = -1;
        note->index_ok &= index_ok;
        note->index_const &= index_const && note->index == index;
    }
    if (map >= 0 && helper->arg[1] == OKO_ARG_KEY)
        note_buffer(w, note, 0, 2, w->map[map].item_size);
    if (map >= 0 && helper->arg[2] == OKO_ARG_VALUE)
        note_buffer(w, note, 1, 3, w->map[map].value_size);
    note->called = true;
}

/* ---------------------------------------------------------------- the result */

static void set_fact(const struct oko_walk *w, const struct note *note, uint32_t pc,
                     struct oko_fact *fact)
{
    struct oko_insn i = w->spec->insns[pc];
    uint8_t op = oko_opcodes[i.code].op;
    unsigned flags = OKO_FACT_REACHED;
    flags |= note->hi0 ? OKO_FACT_DST_HI0 : 0;
    flags |= note->divides && note->nonzero ? OKO_FACT_NONZERO : 0;
    if (op == OKO_BPF_JCOND) {
        flags |= note->taken && !note->falls ? OKO_FACT_TAKEN : 0;
        flags |= note->falls && !note->taken ? OKO_FACT_NOT_TAKEN : 0;
        flags |= note->nulls && note->taken != note->falls ? OKO_FACT_NONNULL : 0;
    }
    if (note->called && note->map >= 0) {
        flags |= note->index_ok ? OKO_FACT_INDEX_OK : 0;
        flags |= note->index_ok && note->index_const ? OKO_FACT_INDEX_CONST : 0;
        flags |= note->on_stack[0] ? OKO_FACT_KEY_STACK : 0;
        flags |= note->on_stack[1] ? OKO_FACT_VAL_STACK : 0;
        fact->key_off = note->on_stack[0] ? note->off[0] : 0;
        fact->val_off = note->on_stack[1] ? note->off[1] : 0;
        fact->key_part = note->on_stack[0] ? note->part[0] : 0;
        fact->val_part = note->on_stack[1] ? note->part[1] : 0;
        fact->index_const = note->index_const ? note->index : 0;
        fact->map = note->map;
    }
    if (op == OKO_BPF_LDDW && oko_insn_src(i) == OKO_PSEUDO_MAP)
        fact->map = (int16_t)i.imm;
    if (note->guard != OKO_GUARD_NONE) {
        flags |= OKO_FACT_GUARD;
        fact->guard = note->guard;
        fact->guard_map = note->guard_map;
    }
    flags |= note->fuel ? OKO_FACT_FUEL : 0;
    fact->flags = (uint16_t)flags;
    fact->regs_live = w->cfg.insn[pc].live_out;
}

int oko_gather_finish(struct oko_walk *w, struct oko_facts *facts, uint64_t worst)
{
    struct oko_gather *g = w->gather;
    if (oko_facts_none(w->spec, facts) != 0)
        return oko_walk_no_memory(w);
    facts->guards = 0;
    for (uint32_t pc = 0; pc < w->spec->n_insns; pc++) {
        const struct note *note = &g->note[pc];
        struct oko_fact *fact = &facts->insn[pc];
        fact->flags = 0;
        if (note->visited)
            set_fact(w, note, pc, fact);
        facts->guards += (fact->flags & (OKO_FACT_GUARD | OKO_FACT_FUEL)) != 0;
    }
    free(facts->partitions);
    facts->partitions = g->part;
    facts->n_partitions = g->n_parts;
    memset(&facts->partitions[0], 0, sizeof(facts->partitions[0]));
    g->part = NULL;
    memcpy(facts->stack, g->stack, sizeof(facts->stack));
    facts->worst_case = (uint32_t)worst;
    facts->fuel = w->fuel;
    facts->stateful = g->stateful;
    facts->reads_meta = g->reads_meta;
    facts->verify_work = w->work;
    facts->states = w->states;
    w->states = NULL;
    return 0;
}
