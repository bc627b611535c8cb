/* Values known on all paths: constants, and how many low bits of a register can be set.
 *
 * Idea. One forward pass over a function, repeated until nothing changes (conditional constant
 * propagation: Wegman & Zadeck 1991, without the graph): the state at a jump's target is the meet
 * of the states at all jumps there; blocks that no path has reached yet do not count. Then one more
 * pass rewrites operations with what is known: constant operands, masks and extensions that change
 * nothing, cheaper forms of multiplication and division, decided branches, and above all jumps to
 * an exit whose result is known on that path, which then leave with that constant and need no r0.
 *
 * Fails safely: a function whose states would take too long or too much memory stays as it is. */
#include <stdlib.h>
#include <string.h>

#include "jit.h"

enum { MAX_SWEEPS = 12, MAX_THREAD = 4 };

struct state {
    int64_t value[10];
    uint8_t bits[10];  /* value < 2^bits */
    uint16_t constant; /* registers whose value is known */
    bool reached;
};

struct flow {
    struct jit *j;
    struct state *at; /* by block */
    bool changed;
};

/* ---------------------------------------------------------------- states */

static uint8_t bits_of(uint64_t v)
{
    return v ? (uint8_t)(64 - __builtin_clzll(v)) : 0;
}

static void forget(struct state *s, unsigned reg)
{
    s->constant &= (uint16_t) ~(1u << reg);
    s->bits[reg] = 64;
}

static void learn(struct state *s, unsigned reg, int64_t value)
{
    s->constant |= (uint16_t)(1u << reg);
    s->value[reg] = value;
    s->bits[reg] = bits_of((uint64_t)value);
}

static bool constant(const struct state *s, unsigned reg)
{
    return reg < 10 && (s->constant & 1u << reg);
}

static uint8_t bits(const struct state *s, unsigned reg)
{
    return reg < 10 ? s->bits[reg] : 64;
}

/* Meets from into to. */
static void meet(struct flow *f, struct state *to, const struct state *from)
{
    if (!to->reached) {
        *to = *from;
        to->reached = true;
        f->changed = true;
        return;
    }
    for (unsigned r = 0; r < 10; r++) {
        if (constant(to, r) && (!constant(from, r) || to->value[r] != from->value[r])) {
            to->constant &= (uint16_t) ~(1u << r);
            f->changed = true;
        }
        if (from->bits[r] > to->bits[r]) {
            to->bits[r] = from->bits[r];
            f->changed = true;
        }
    }
}

/* ---------------------------------------------------------------- what an operation computes */

/* The result of an operation on constants; *ok false when it is not one of the simple ones. */
static int64_t evaluate(const struct jit_op *op, int64_t x, int64_t y, bool *ok)
{
    uint64_t a = (uint64_t)x, b = (uint64_t)y, r;
    unsigned mask = op->w ? 63 : 31;
    if (!op->w) {
        a = (uint32_t)a;
        b = (uint32_t)b;
    }
    switch ((enum jit_opcode)op->op) {
    case JIT_MOV:
        r = a;
        break;
    case JIT_ADD:
        r = a + b;
        break;
    case JIT_SUB:
        r = a - b;
        break;
    case JIT_MUL:
        r = a * b;
        break;
    case JIT_OR:
        r = a | b;
        break;
    case JIT_AND:
        r = a & b;
        break;
    case JIT_XOR:
        r = a ^ b;
        break;
    case JIT_LSH:
        r = a << (b & mask);
        break;
    case JIT_RSH:
        r = a >> (b & mask);
        break;
    case JIT_ARSH:
        r = op->w ? (uint64_t)((int64_t)a >> (b & mask))
                  : (uint64_t)(int64_t)((int32_t)(uint32_t)a >> (b & mask));
        break;
    case JIT_NEG:
        r = 0 - a;
        break;
    case JIT_ZEXT:
        r = op->width == 8 ? a : a & (((uint64_t)1 << 8 * op->width) - 1);
        break;
    case JIT_SEXT: {
        unsigned up = 64 - 8u * op->width;
        r = (uint64_t)((int64_t)(a << up) >> up);
        break;
    }
    default:
        *ok = false;
        return 0;
    }
    return (int64_t)(op->w ? r : (uint32_t)r);
}

static uint8_t at_most(unsigned n, bool w)
{
    unsigned most = w ? 64 : 32;
    return (uint8_t)(n < most ? n : most);
}

/* Bits that the result of a non-constant operation may have. */
static uint8_t result_bits(const struct jit_op *op, const struct state *s)
{
    unsigned x = bits(s, op->a), y = 64;
    bool w = op->w;
    if (op->b != JIT_NONE)
        y = bits(s, op->b);
    else
        y = bits_of(w ? (uint64_t)op->imm : (uint32_t)op->imm);
    if (!w) {
        x = x < 32 ? x : 32;
        y = y < 32 ? y : 32;
    }
    unsigned more = x > y ? x : y, less = x < y ? x : y;
    switch ((enum jit_opcode)op->op) {
    case JIT_MOV:
        return at_most(x, w);
    case JIT_ADD:
        return at_most(more + 1, w);
    case JIT_MUL:
        return at_most(x + y, w);
    case JIT_DIV:
        return at_most(op->sx ? 64 : x, w);
    case JIT_MOD: /* by zero: unchanged */
        return at_most(op->sx ? 64 : x, w);
    case JIT_OR:
    case JIT_XOR:
        return at_most(more, w);
    case JIT_AND:
        return at_most(less, w);
    case JIT_LSH:
        return op->b == JIT_NONE ? at_most(x + (unsigned)op->imm, w) : at_most(64, w);
    case JIT_RSH:
        return op->b == JIT_NONE ? (uint8_t)(x > op->imm ? x - (unsigned)op->imm : 0)
                                 : at_most(x, w);
    case JIT_ARSH:
        return x < (w ? 64u : 32u) ? at_most(x, w) : at_most(64, w);
    case JIT_ZEXT:
        return (uint8_t)(x < 8u * op->width ? x : 8u * op->width);
    case JIT_SEXT:
        return x < 8u * op->width ? (uint8_t)x : at_most(64, w);
    case JIT_BSWAP:
        return (uint8_t)(8 * op->width);
    case JIT_ABS:
        return (uint8_t)(8 * op->width);
    case JIT_LOAD:
        return op->sx ? 64 : (uint8_t)(8 * op->width);
    case JIT_ATOMIC:
        return (uint8_t)(8 * op->width);
    default:
        return at_most(64, w);
    }
}

static void step(const struct jit_op *op, struct state *s)
{
    if (op->op == JIT_LOCAL || op->op == JIT_HELPER || op->op == JIT_CALLX) {
        for (unsigned r = 0; r < 6; r++)
            forget(s, r);
        return;
    }
    if (op->dst == JIT_NONE)
        return;
    bool unary = op->op == JIT_MOV || op->op == JIT_NEG || op->op == JIT_ZEXT || op->op == JIT_SEXT;
    bool by_imm = op->op == JIT_MOV && op->a == JIT_NONE;
    bool ok = op->op != JIT_SELECT && (by_imm || constant(s, op->a)) &&
              (unary || op->b == JIT_NONE || constant(s, op->b));
    int64_t value = 0;
    if (ok)
        value = evaluate(op, by_imm ? op->imm : s->value[op->a],
                         unary || op->b == JIT_NONE ? op->imm : s->value[op->b], &ok);
    if (ok) {
        learn(s, op->dst, value);
    } else {
        uint8_t n = result_bits(op, s);
        forget(s, op->dst);
        s->bits[op->dst] = n;
    }
}

/* What the comparison's outcome tells about its first operand. */
static void refine(const struct jit_op *op, bool taken, struct state *s)
{
    if (op->b != JIT_NONE || op->mem || op->a >= 10)
        return;
    if ((op->cc == BPF_JEQ && taken) || (op->cc == BPF_JNE && !taken)) {
        if (op->w)
            learn(s, op->a, op->imm);
        else if (s->bits[op->a] <= 32)
            learn(s, op->a, (int64_t)(uint32_t)op->imm);
    }
}

/* ---------------------------------------------------------------- the passes */

static void mark_blocks(struct jit *j, uint32_t *n_blocks)
{
    for (uint32_t k = 0; k < j->n_order; k++)
        j->label[j->order[k]] = (uint32_t)JIT_UNLABELLED;
    *n_blocks = 0;
    for (uint32_t k = 0; k < j->n_order; k++) {
        const struct jit_op *op = &j->ops[j->order[k]];
        if (jit_has_target(j, op) && j->label[op->target] == (uint32_t)JIT_UNLABELLED)
            j->label[op->target] = (*n_blocks)++;
    }
}

/* Enters the block at pc, if one starts there. */
static void enter(struct flow *f, uint32_t pc, struct state *s)
{
    uint32_t block = f->j->label[pc];
    if (block == (uint32_t)JIT_UNLABELLED)
        return;
    if (s->reached)
        meet(f, &f->at[block], s);
    *s = f->at[block];
}

static void sweep(struct flow *f)
{
    struct jit *j = f->j;
    struct state s = {.reached = true};
    memset(s.bits, 64, sizeof(s.bits));
    for (uint32_t k = 0; k < j->n_order; k++) {
        uint32_t pc = j->order[k];
        const struct jit_op *op = &j->ops[pc];
        enter(f, pc, &s);
        if (!s.reached)
            continue;
        if (jit_has_target(j, op)) {
            struct state there = s;
            if (op->op == JIT_JCC)
                refine(op, true, &there);
            meet(f, &f->at[j->label[op->target]], &there);
        }
        if (op->op == JIT_JCC)
            refine(op, false, &s);
        step(op, &s);
        if (jit_is_jump(op))
            s.reached = false;
    }
}

/* ---------------------------------------------------------------- rewriting */

static bool fits32(int64_t v)
{
    return v == (int32_t)v;
}

static bool power_of_two(uint64_t v)
{
    return v && !(v & (v - 1));
}

static void become_move(struct jit_op *op, bool w)
{
    op->op = JIT_MOV;
    op->b = JIT_NONE;
    op->w = w;
}

static void become_constant(struct jit_op *op, int64_t value)
{
    op->op = JIT_MOV;
    op->a = op->b = JIT_NONE;
    op->imm = value;
    op->w = true;
}

static bool arithmetic(const struct jit_op *op)
{
    return op->op >= JIT_ADD && op->op <= JIT_ARSH;
}

/* Register operands that are known become immediates. */
static void use_immediates(struct jit_op *op, const struct state *s)
{
    bool compares = op->op == JIT_JCC || op->op == JIT_SELECT || op->op == JIT_EXIT_IF;
    bool commutes = op->op == JIT_ADD || op->op == JIT_MUL || op->op == JIT_OR ||
                    op->op == JIT_AND || op->op == JIT_XOR;
    if (commutes && op->b != JIT_NONE && constant(s, op->a) && !constant(s, op->b)) {
        uint8_t swap = op->a;
        op->a = op->b;
        op->b = swap;
    }
    if (!constant(s, op->b))
        return;
    int64_t v = s->value[op->b];
    if (arithmetic(op) || compares) {
        if (op->w && !fits32(v) && op->op != JIT_DIV && op->op != JIT_MOD)
            return;
        bool shift = op->op == JIT_LSH || op->op == JIT_RSH || op->op == JIT_ARSH;
        op->b = JIT_NONE;
        op->imm = shift      ? v & (op->w ? 63 : 31)
                  : op->w    ? v
                  : compares ? (int32_t)(uint32_t)(uint64_t)v
                             : (int64_t)(uint32_t)(uint64_t)v;
    } else if (op->op == JIT_STORE && (op->width < 8 || fits32(v))) {
        op->b = JIT_NONE;
        op->imm = (int32_t)(uint32_t)(uint64_t)v;
    }
}

/* Cheaper operations with the same result. */
static void simplify(struct jit_op *op, const struct state *s)
{
    unsigned x = bits(s, op->a);
    bool w = op->w, by_imm = op->b == JIT_NONE;
    uint64_t imm = w ? (uint64_t)op->imm : (uint32_t)op->imm;
    switch ((enum jit_opcode)op->op) {
    case JIT_MOV:
        if (op->a != JIT_NONE && x <= 32)
            op->w = true; /* a plain copy */
        break;
    case JIT_ZEXT:
        if (x <= 8u * op->width)
            become_move(op, true);
        break;
    case JIT_SEXT:
        if (x < 8u * op->width)
            become_move(op, true);
        break;
    case JIT_AND:
        if (by_imm && (~imm & (x >= 64 ? UINT64_MAX : ((uint64_t)1 << x) - 1)) == 0)
            become_move(op, true); /* the mask keeps all bits there are (32: x <= 32 then) */
        else if (by_imm && !w && x > 32 && imm == UINT32_MAX)
            become_move(op, false);
        break;
    case JIT_ADD:
    case JIT_SUB:
    case JIT_OR:
    case JIT_XOR:
        if (by_imm && imm == 0)
            become_move(op, w || x <= 32);
        break;
    case JIT_LSH:
    case JIT_RSH:
    case JIT_ARSH:
        if (by_imm && imm == 0)
            become_move(op, w || x <= 32);
        else if (op->op == JIT_ARSH && x < (w ? 64u : 32u))
            op->op = JIT_RSH;
        break;
    case JIT_MUL:
        if (by_imm && power_of_two(imm)) {
            op->op = JIT_LSH;
            op->imm = __builtin_ctzll(imm);
            if (op->imm == 0)
                become_move(op, w || x <= 32);
        }
        break;
    case JIT_DIV:
        if (by_imm && !op->sx && power_of_two(imm)) {
            op->op = JIT_RSH;
            op->imm = __builtin_ctzll(imm);
            if (op->imm == 0)
                become_move(op, w || x <= 32);
        }
        break;
    case JIT_MOD:
        if (by_imm && !op->sx && power_of_two(imm) && imm <= 0x80000000u) {
            op->op = JIT_AND;
            op->imm = (int64_t)(imm - 1);
        }
        break;
    default:
        break;
    }
}

/* Comparisons of short values need no 64-bit operands. */
static void narrow_comparison(struct jit_op *op, const struct state *s)
{
    bool is_signed =
        op->cc == BPF_JSGT || op->cc == BPF_JSGE || op->cc == BPF_JSLT || op->cc == BPF_JSLE;
    unsigned most = is_signed ? 31 : 32;
    bool b_short = op->b == JIT_NONE ? op->imm >= 0 : bits(s, op->b) <= most;
    if (op->w && !op->mem && bits(s, op->a) <= most && b_short)
        op->w = false;
}

static bool holds(const struct jit_op *op, int64_t x, int64_t y)
{
    uint64_t a = (uint64_t)x, b = (uint64_t)y;
    if (!op->w) {
        a = (uint32_t)a;
        b = (uint32_t)b;
        x = (int32_t)(uint32_t)a;
        y = (int32_t)(uint32_t)b;
    }
    switch (op->cc) {
    case BPF_JEQ:
        return a == b;
    case BPF_JNE:
        return a != b;
    case BPF_JSET:
        return (a & b) != 0;
    case BPF_JGT:
        return a > b;
    case BPF_JGE:
        return a >= b;
    case BPF_JLT:
        return a < b;
    case BPF_JLE:
        return a <= b;
    case BPF_JSGT:
        return x > y;
    case BPF_JSGE:
        return x >= y;
    case BPF_JSLT:
        return x < y;
    default:
        return x <= y;
    }
}

/* Where control that goes to pc with state s really ends up. Moves on the way matter to nobody if
 * that is an exit. */
static uint32_t follow(const struct jit *j, uint32_t pc, const struct state *start)
{
    struct state s = *start;
    uint32_t end = pc;
    bool moved = false;
    for (int i = 0; i < MAX_THREAD && pc < j->n; i++) {
        const struct jit_op *op = &j->ops[pc];
        if (j->prog->facts.insn[pc].flags & OKO_FACT_FUEL)
            break;
        if (op->op == JIT_EXIT) {
            bool known = constant(&s, 0) && (s.value[0] == 0 || s.value[0] == 1);
            return known ? j->n + (uint32_t)s.value[0] : end;
        }
        if (op->op == JIT_JMP) {
            pc = op->target;
        } else if (op->op == JIT_NOP) {
            pc++;
        } else if (op->op == JIT_MOV) {
            step(op, &s);
            moved = true;
            pc++;
        } else {
            break;
        }
        if (!moved || pc >= j->n)
            end = pc;
    }
    return end;
}

static void rewrite(struct flow *f)
{
    struct jit *j = f->j;
    struct state s = {.reached = true};
    memset(s.bits, 64, sizeof(s.bits));
    for (uint32_t k = 0; k < j->n_order; k++) {
        uint32_t pc = j->order[k];
        struct jit_op *op = &j->ops[pc];
        enter(f, pc, &s);
        if (!s.reached)
            continue;
        struct state after = s;
        step(op, &after);
        use_immediates(op, &s);
        simplify(op, &s);
        bool cheap = op->op == JIT_MOV && op->a != JIT_NONE; /* than a large immediate */
        if (op->dst < 10 && constant(&after, op->dst) && jit_is_pure(op) &&
            !(cheap && !fits32(after.value[op->dst])))
            become_constant(op, after.value[op->dst]);
        if (op->op == JIT_JCC && !op->mem && op->a < 10) {
            narrow_comparison(op, &s);
            if (constant(&s, op->a) && op->b == JIT_NONE) {
                bool taken = holds(op, s.value[op->a], op->imm);
                op->op = taken ? JIT_JMP : JIT_NOP;
                op->a = JIT_NONE;
            }
        }
        if (op->op == JIT_JMP || op->op == JIT_JCC) {
            struct state there = s;
            if (op->op == JIT_JCC) {
                refine(op, true, &there);
                refine(op, false, &after);
            }
            op->target = follow(j, op->target, &there);
        } else if (op->op == JIT_EXIT && constant(&s, 0) && (s.value[0] == 0 || s.value[0] == 1)) {
            op->op = JIT_JMP;
            op->target = j->n + (uint32_t)s.value[0];
        } else if (op->op == JIT_EXIT) {
            op->width = bits(&s, 0) <= 1;
        }
        s = after;
        if (jit_is_jump(op))
            s.reached = false;
    }
}

/* Two rounds: leaving with constants in the first lets the rest meet in the second. */
void jit_flow(struct jit *j, struct jit_func *func)
{
    for (int round = 0; round < 2; round++) {
        uint32_t n_blocks;
        mark_blocks(j, &n_blocks);
        struct flow f = {.j = j};
        f.at = n_blocks ? calloc(n_blocks, sizeof(*f.at)) : NULL;
        if (n_blocks && !f.at)
            return;
        int sweeps = 0;
        do {
            f.changed = false;
            sweep(&f);
        } while (f.changed && ++sweeps < MAX_SWEEPS);
        if (!f.changed)
            rewrite(&f);
        free(f.at);
        jit_analyse(j, func);
    }
}
