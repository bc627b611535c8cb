/* Rewriting by looking at few operations: copies, addresses, rotations, comparisons, selections.
 *
 * A region is a run of operations that control enters only at its first (branches out of it are
 * allowed: what they need counts as read there). Within one, "the definition of r" is the last
 * write of r before a place, and moving a computation to its only use is safe when nothing in
 * between writes what it reads. What such rewriting leaves unused is swept up by liveness.
 *
 * Everything here only ever replaces operations by others that compute the same; when in doubt it
 * leaves them alone. Guarded programs (checks at run time) keep their memory operations as they
 * are, because a check belongs to its place. */
#include "region.h"

/* ---------------------------------------------------------------- copies */

struct copies {
    uint8_t of[10];    /* the register that holds the same, or JIT_NONE */
    uint16_t low_only; /* ... in its low 32 bits; the copy's upper half is zero */
};

static uint8_t source(const struct copies *c, uint8_t reg, bool low_is_enough, bool fp_is_fine)
{
    if (reg >= 10 || c->of[reg] == JIT_NONE || (c->of[reg] == JIT_FP && !fp_is_fine) ||
        ((c->low_only & jit_bit(reg)) && !low_is_enough))
        return reg;
    return c->of[reg];
}

static void forget_copies(struct copies *c, uint16_t written)
{
    for (unsigned r = 0; r < 10; r++)
        if ((written & jit_bit(r)) || (c->of[r] < 10 && (written & jit_bit(c->of[r]))))
            c->of[r] = JIT_NONE;
}

/* Reads the originals instead of copies, so that the copies may become unused. */
static void propagate_copies(const struct jit_region *r)
{
    struct copies c = {.low_only = 0};
    for (unsigned reg = 0; reg < 10; reg++)
        c.of[reg] = JIT_NONE;
    for (uint32_t k = r->from; k < r->to; k++) {
        struct jit_op *op = jit_op_at(r, k);
        bool narrow = !op->w || (op->op == JIT_STORE && op->width <= 4) ||
                      ((op->op == JIT_ZEXT || op->op == JIT_BSWAP) && op->width <= 4);
        bool add = op->op == JIT_ADD && op->b == JIT_NONE;
        bool in_out = op->op == JIT_ATOMIC || op->op == JIT_CALLX || op->op == JIT_HELPER;
        if (!in_out) {
            op->a = source(&c, op->a, narrow, add || op->op == JIT_MOV);
            op->b = source(&c, op->b, narrow, false);
            op->sel = source(&c, op->sel, false, false);
        }
        op->base = source(&c, op->base, false, !r->keep_memory);
        op->index = source(&c, op->index, false, false);
        forget_copies(&c, jit_writes(op));
        if (op->op == JIT_MOV && op->a != JIT_NONE && op->a != op->dst) {
            c.of[op->dst] = op->a;
            c.low_only =
                (uint16_t)(op->w ? c.low_only & ~jit_bit(op->dst) : c.low_only | jit_bit(op->dst));
        }
    }
}

/* A value computed into one register only to be moved to another goes there at once. */
static void name_results(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++) {
        const struct jit_op *move = jit_op_at(r, k);
        if (move->op != JIT_MOV || !move->w || move->a >= 10 || move->a == move->dst)
            continue;
        uint32_t p = jit_definition(r, k, move->a);
        if (p == (uint32_t)JIT_NOWHERE || !jit_only_use(r, p, k, move->a))
            continue;
        struct jit_op *def = jit_op_at(r, p);
        if (!jit_is_pure(def) || def->op == JIT_SELECT || def->dst != move->a ||
            jit_read_between(r, p, k, move->dst) || jit_written_between(r, p, k, move->dst))
            continue;
        def->dst = move->dst;
        jit_become_nop(jit_op_at(r, k));
    }
}

/* ---------------------------------------------------------------- addresses */

static bool fits32(int64_t v)
{
    return v == (int32_t)v;
}

/* May the operation at k read what was in src at p? With src == dst of p only if p goes. */
static bool reaches(const struct jit_region *r, uint32_t p, uint32_t k, unsigned src)
{
    return src >= 10 || (src == jit_op_at(r, p)->dst ? true : !jit_written_between(r, p, k, src));
}

/* Takes one addition (or shift of the index) into the memory operand of the operation at k. */
static bool fold_address_once(const struct jit_region *r, uint32_t k, bool index)
{
    struct jit_op *op = jit_op_at(r, k);
    unsigned reg = index ? op->index : op->base;
    uint32_t p = jit_definition(r, k, reg);
    if (p == (uint32_t)JIT_NOWHERE)
        return false;
    struct jit_op *def = jit_op_at(r, p);
    if (!def->w || def->dst != reg)
        return false;
    bool own = def->a == reg || def->b == reg; /* it changes its own operand */
    bool several = (op->base == reg) + (op->index == reg) + (op->a == reg) + (op->b == reg) +
                       (op->sel == reg) >
                   1;
    if (own && (several || !jit_only_use(r, p, k, reg)))
        return false;
    if (!reaches(r, p, k, def->a) || (def->b != JIT_NONE && !reaches(r, p, k, def->b)))
        return false;
    if (own && (def->a == reg ? jit_written_between(r, p, k, reg) : false))
        return false;
    uint8_t x = def->a, y = def->b;
    if (def->op == JIT_ADD && y == JIT_NONE && def->imm == (int32_t)def->imm) {
        int64_t off = op->off + def->imm * (index ? op->scale : 1);
        if (!fits32(off) || (index && x == JIT_FP))
            return false;
        op->off = (int32_t)off;
        *(index ? &op->index : &op->base) = x;
    } else if (def->op == JIT_ADD && y != JIT_NONE && !index && op->index == JIT_NONE) {
        if (x == JIT_FP && y == JIT_FP)
            return false;
        op->base = y == JIT_FP ? y : x;
        op->index = y == JIT_FP ? x : y;
        op->scale = 1;
    } else if (def->op == JIT_LSH && y == JIT_NONE && index && x != JIT_FP &&
               (unsigned)op->scale << def->imm <= 8 && def->imm <= 3) {
        op->index = x;
        op->scale = (uint8_t)(op->scale << def->imm);
    } else {
        return false;
    }
    if (own)
        jit_become_nop(def);
    return true;
}

static void fold_addresses(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++) {
        struct jit_op *op = jit_op_at(r, k);
        if (!jit_is_access(op) || r->keep_memory)
            continue;
        for (int i = 0; i < 6; i++)
            if (!fold_address_once(r, k, false) &&
                (op->index == JIT_NONE || !fold_address_once(r, k, true)))
                break;
    }
}

/* ---------------------------------------------------------------- counters */

/* Load, compute, store at the same place, and nobody else wants the value: one instruction on
 * memory. */
static void find_modify(const struct jit_region *r, uint32_t k)
{
    struct jit_op *store = jit_op_at(r, k);
    if (store->op != JIT_STORE || store->b >= 10 || store->base >= 10 || r->keep_memory)
        return;
    uint32_t p = jit_definition(r, k, store->b);
    if (p == (uint32_t)JIT_NOWHERE || !jit_only_use(r, p, k, store->b) || store->b == store->base ||
        store->b == store->index)
        return;
    struct jit_op *alu = jit_op_at(r, p);
    bool computes = alu->op == JIT_ADD || alu->op == JIT_SUB || alu->op == JIT_OR ||
                    alu->op == JIT_AND || alu->op == JIT_XOR;
    if (!computes || (store->width == 8 && !alu->w) || alu->a >= 10 || alu->a == alu->b ||
        alu->b == JIT_FP || (alu->b == alu->dst && alu->b != JIT_NONE))
        return;
    uint32_t q = jit_definition(r, p, alu->a);
    if (q == (uint32_t)JIT_NOWHERE || !jit_only_use(r, q, p, alu->a))
        return;
    struct jit_op *load = jit_op_at(r, q);
    if (load->op != JIT_LOAD || load->width != store->width || load->base != store->base ||
        load->index != store->index || load->off != store->off ||
        (load->index != JIT_NONE && load->scale != store->scale))
        return;
    uint16_t keep = jit_bit(load->base) | jit_bit(load->index);
    for (uint32_t i = q; i < k; i++)
        if ((i != q && jit_writes_memory(jit_op_at(r, i))) || (jit_writes(jit_op_at(r, i)) & keep))
            return;
    if (alu->b != JIT_NONE && jit_written_between(r, p, k, alu->b))
        return;
    store->op = JIT_MODIFY;
    store->cc = alu->op;
    store->b = alu->b;
    store->imm = (int32_t)alu->imm;
    jit_become_nop(alu);
    jit_become_nop(load);
}

static void find_counters(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++)
        find_modify(r, k);
}

/* ---------------------------------------------------------------- rotations */

static bool shift_by_imm(const struct jit_op *op, enum jit_opcode shift, bool w)
{
    return op->op == shift && op->b == JIT_NONE && op->w == w;
}

/* x << n | x >> (width - n), the halves computed anywhere before: the later half becomes the
 * rotation, into the register of the or. */
static void find_rotation(const struct jit_region *r, uint32_t k)
{
    struct jit_op *op = jit_op_at(r, k);
    if (op->op != JIT_OR || op->b == JIT_NONE || op->a >= 10 || op->b >= 10 || op->a == op->b)
        return;
    uint32_t p = jit_definition(r, k, op->a), q = jit_definition(r, k, op->b);
    if (p == (uint32_t)JIT_NOWHERE || q == (uint32_t)JIT_NOWHERE)
        return;
    unsigned width = op->w ? 64 : 32;
    uint8_t late_reg = op->a, early_reg = op->b;
    if (q > p) {
        uint32_t swap = p;
        p = q;
        q = swap;
        late_reg = op->b;
        early_reg = op->a;
    }
    struct jit_op *late = jit_op_at(r, p), *early = jit_op_at(r, q);
    bool left_late = shift_by_imm(late, JIT_LSH, op->w) && shift_by_imm(early, JIT_RSH, op->w);
    bool left_early = shift_by_imm(late, JIT_RSH, op->w) && shift_by_imm(early, JIT_LSH, op->w);
    if ((!left_late && !left_early) || late->imm + early->imm != width || late->imm == 0 ||
        late->imm == width || late->a != early->a || late->a >= 10 || early->dst == early->a ||
        jit_written_between(r, q, p, late->a))
        return;
    /* The halves must have no other use; the or's register is free from p on. */
    if (!jit_only_use(r, p, k, late_reg) && op->dst != late_reg)
        return;
    if (jit_read_between(r, p, k, late_reg) || jit_read_between(r, q, k, early_reg) ||
        (op->dst != early_reg && (op->live & jit_bit(early_reg))) ||
        (op->dst != late_reg && (op->live & jit_bit(late_reg))) ||
        (op->dst != late_reg && op->dst != early_reg) || jit_written_between(r, p, k, op->dst))
        return;
    int64_t left = left_late ? late->imm : early->imm;
    late->op = JIT_ROL;
    late->imm = left;
    late->dst = op->dst;
    jit_become_nop(early);
    jit_become_nop(op);
}

/* The same where the compiler has pulled the left shift into a multiplication:
 * x * (c << n) | (x * c) >> (width - n). */
static void find_product_rotation(const struct jit_region *r, uint32_t k)
{
    struct jit_op *op = jit_op_at(r, k);
    if (op->op != JIT_OR || op->b == JIT_NONE || op->a >= 10 || op->b >= 10 || op->a == op->b)
        return;
    for (int swap = 0; swap < 2; swap++) {
        uint8_t low = swap ? op->b : op->a, high = swap ? op->a : op->b;
        uint32_t p = jit_definition(r, k, low), q = jit_definition(r, k, high);
        if (p == (uint32_t)JIT_NOWHERE || q == (uint32_t)JIT_NOWHERE)
            continue;
        struct jit_op *shift = jit_op_at(r, p), *big = jit_op_at(r, q);
        unsigned width = op->w ? 64 : 32;
        if (!shift_by_imm(shift, JIT_RSH, op->w) || !shift_by_imm(big, JIT_MUL, op->w) ||
            shift->imm == 0)
            continue;
        uint32_t m = jit_definition(r, p, shift->a);
        if (m == (uint32_t)JIT_NOWHERE || !shift_by_imm(jit_op_at(r, m), JIT_MUL, op->w))
            continue;
        const struct jit_op *small = jit_op_at(r, m);
        unsigned n = width - (unsigned)shift->imm;
        uint64_t want = (uint64_t)small->imm << n;
        bool same = op->w ? want == (uint64_t)big->imm : (uint32_t)want == (uint32_t)big->imm;
        uint32_t first = m < q ? m : q, second = m < q ? q : m;
        if (!same || small->a != big->a || small->a >= 10 || jit_op_at(r, first)->dst == small->a ||
            jit_written_between(r, first, second, small->a))
            continue;
        if (op->dst != low || jit_read_between(r, p, k, low) || jit_read_between(r, q, k, high) ||
            (op->live & jit_bit(high)))
            continue;
        shift->op = JIT_ROL;
        shift->imm = n;
        jit_become_nop(big);
        jit_become_nop(op);
        return;
    }
}

/* ---------------------------------------------------------------- comparisons */

static uint8_t negated(uint8_t cc)
{
    switch (cc) {
    case BPF_JEQ:
        return BPF_JNE;
    case BPF_JNE:
        return BPF_JEQ;
    case BPF_JGT:
        return BPF_JLE;
    case BPF_JLE:
        return BPF_JGT;
    case BPF_JGE:
        return BPF_JLT;
    case BPF_JLT:
        return BPF_JGE;
    case BPF_JSGT:
        return BPF_JSLE;
    case BPF_JSLE:
        return BPF_JSGT;
    case BPF_JSGE:
        return BPF_JSLT;
    case BPF_JSLT:
        return BPF_JSGE;
    case BPF_JSET:
        return JIT_JNSET;
    default:
        return BPF_JSET;
    }
}

static bool is_signed(uint8_t cc)
{
    return cc == BPF_JSGT || cc == BPF_JSGE || cc == BPF_JSLT || cc == BPF_JSLE;
}

/* a = x & mask; if a ==/!= 0: tests the bits. */
static void fold_and(const struct jit_region *r, uint32_t k)
{
    struct jit_op *op = jit_op_at(r, k);
    if (op->b != JIT_NONE || op->imm != 0 || op->mem || (op->cc != BPF_JEQ && op->cc != BPF_JNE))
        return;
    uint32_t p = jit_definition(r, k, op->a);
    if (p == (uint32_t)JIT_NOWHERE || !jit_only_use(r, p, k, op->a) || op->b == op->a)
        return;
    struct jit_op *and = jit_op_at(r, p);
    if (and->op != JIT_AND || and->a >= 10 || (and->w && !op->w) ||
        (and->a != and->dst && jit_written_between(r, p, k, and->a)))
        return;
    if (and->b != JIT_NONE &&
        (and->b >= 10 || jit_written_between(r, p, k, and->b) || and->b == and->dst))
        return;
    if (op->sel == op->a || op->dst == op->a)
        return;
    op->cc = op->cc == BPF_JNE ? BPF_JSET : JIT_JNSET;
    op->w = and->w;
    op->a = and->a;
    op->b = and->b;
    op->imm = (int32_t) and->imm;
    jit_become_nop(and);
}

/* Can a comparison of a loaded value of this width compare memory instead? */
static bool comparable(const struct jit_op *op, unsigned width)
{
    bool full = width == (op->w ? 8u : 4u);
    if (op->b != JIT_NONE)
        return full && op->cc != BPF_JSET && op->cc != JIT_JNSET;
    if (full)
        return true;
    int64_t most = width == 1 ? 0xff : width == 2 ? 0x7f : INT32_MAX;
    if (op->cc == BPF_JSET || op->cc == JIT_JNSET) /* no 16-bit immediates: slow to decode */
        return width != 2 && op->imm >= 0 && op->imm <= most;
    return !is_signed(op->cc) && op->imm >= 0 && op->imm <= most;
}

/* A value that is loaded only to be compared stays in memory. */
static void fold_load(const struct jit_region *r, uint32_t k)
{
    struct jit_op *op = jit_op_at(r, k);
    if (op->mem || op->a >= 10 || op->a == op->b || op->a == op->sel || r->keep_memory)
        return;
    uint32_t p = jit_definition(r, k, op->a);
    if (p == (uint32_t)JIT_NOWHERE || !jit_only_use(r, p, k, op->a) || op->dst == op->a)
        return;
    struct jit_op *load = jit_op_at(r, p);
    uint8_t width = load->width == 8 && !op->w ? 4 : load->width; /* the low half comes first */
    if (load->op != JIT_LOAD || load->sx || !comparable(op, width))
        return;
    for (uint32_t i = p + 1; i < k; i++)
        if (jit_writes_memory(jit_op_at(r, i)) ||
            (jit_writes(jit_op_at(r, i)) & (jit_bit(load->base) | jit_bit(load->index))))
            return;
    if (load->base == load->dst || load->index == load->dst)
        return; /* the address is gone, unless nothing but the load changes it: rare */
    op->mem = true;
    op->a = JIT_NONE;
    op->base = load->base;
    op->index = load->index;
    op->scale = load->scale;
    op->off = load->off;
    op->width = width;
    jit_become_nop(load);
}

/* ---------------------------------------------------------------- selections and results */

/* The next operation that does something, if control can only come to it from k. */
static uint32_t follower(const struct jit_region *r, uint32_t k)
{
    for (k++; k < r->to; k++)
        if (jit_op_at(r, k)->op != JIT_NOP)
            return k;
    return (uint32_t)JIT_NOWHERE;
}

/* A branch around one move becomes a conditional move: such branches come from the compiler's
 * selections and are often hard to predict. */
static void find_select(const struct jit_region *r, uint32_t k)
{
    struct jit *j = r->j;
    struct jit_op *op = jit_op_at(r, k);
    uint32_t m = follower(r, k);
    if (op->op != JIT_JCC || op->target >= j->n || m == (uint32_t)JIT_NOWHERE)
        return;
    struct jit_op *move = jit_op_at(r, m);
    if (move->op != JIT_MOV || !move->w || move->a == JIT_FP ||
        (move->a == JIT_NONE && (uint64_t)move->imm > UINT32_MAX))
        return;
    uint32_t after = m + 1;
    while (after < j->n_order && j->ops[j->order[after]].op == JIT_NOP)
        after++;
    uint32_t target = op->target;
    while (target < j->n && j->ops[target].op == JIT_NOP)
        target++;
    if (after >= j->n_order || j->order[after] != target || j->order[m] > target)
        return;
    if (j->prog->facts.insn[j->order[k]].flags & OKO_FACT_FUEL)
        return;
    op->op = JIT_SELECT;
    op->cc = negated(op->cc);
    op->dst = move->dst;
    op->sel = move->a;
    op->target = (uint32_t)move->imm;
    op->live = move->live;
    jit_become_nop(move);
    move->live = op->live;
}

/* Leaving with 1 on one branch and 0 on the other: the condition is the result. */
static void find_exit_if(const struct jit_region *r, uint32_t k)
{
    struct jit *j = r->j;
    struct jit_op *op = jit_op_at(r, k);
    if (op->op != JIT_JCC || op->target < j->n)
        return;
    uint32_t next = k + 1;
    while (next < j->n_order && j->ops[j->order[next]].op == JIT_NOP)
        next++;
    if (next >= j->n_order)
        return;
    const struct jit_op *other = &j->ops[j->order[next]];
    if (other->op != JIT_JMP || other->target < j->n || other->target == op->target ||
        (j->prog->facts.insn[j->order[k]].flags & OKO_FACT_FUEL))
        return;
    if (op->target == j->n)
        op->cc = negated(op->cc);
    op->op = JIT_EXIT_IF;
    op->live = 0;
}

/* ---------------------------------------------------------------- all together */

static void rotate(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++) {
        find_rotation(r, k);
        find_product_rotation(r, k);
    }
}

static void fold_comparisons(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++) {
        if (!jit_compares(jit_op_at(r, k)))
            continue;
        fold_and(r, k);
        fold_load(r, k);
    }
}

static void select_values(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++) {
        find_exit_if(r, k);
        find_select(r, k);
    }
}

void jit_peep(struct jit *j, struct jit_func *func)
{
    bool in_place = !(jit_skip & JIT_SKIP_INLINE);
    jit_each_region(j, propagate_copies);
    if (in_place)
        jit_plan_calls(j); /* their arguments may become unused */
    jit_sweep_dead(j);
    jit_each_region(j, rotate);
    jit_sweep_dead(j);
    if (in_place)
        jit_widen_copies(j);
    jit_sweep_dead(j);
    jit_each_region(j, fold_addresses);
    jit_sweep_dead(j);
    jit_each_region(j, select_values);
    jit_analyse(j, func);
    jit_each_region(j, propagate_copies);
    jit_sweep_dead(j);
    jit_each_region(j, find_counters);
    jit_sweep_dead(j);
    jit_each_region(j, name_results);
    jit_sweep_dead(j);
    jit_each_region(j, fold_comparisons);
    jit_analyse(j, func);
    if (in_place)
        jit_plan_buffers(j);
}
