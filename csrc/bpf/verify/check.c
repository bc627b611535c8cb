/* The checking interpreter's other half: does a run stay within what the verifier claimed?
 *
 * While a program is verified with OKO_LOAD_KEEP_STATES, each instruction collects the union of the
 * abstract states in which it was walked: for each register and piece of stack the types, ranges
 * and offsets seen. OKO_RUN_CHECKED calls oko_check_step() before each instruction with the
 * concrete registers. It tests membership only, and shares no operation of the abstract arithmetic:
 * a wrong transfer function shows as a value outside the claim. It also tests what must hold
 * whatever was claimed: each access lies inside an object that the program may access so, and the
 * facts that the machine code relies on are true.
 *
 * Bounded memory: a program with too many instructions keeps no claims about its stack.
 * Thread-safety: the claims are constant while the program runs. */
#include "walk.h"

#include "../../base/err.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECES = 48, MAX_INSNS_WITH_PIECES = 8192 };

/* Everything a location was seen to hold. */
struct claim {
    uint16_t types;       /* bits: enum oko_reg_type */
    bool null;            /* VALUE: may be 0 + offset */
    uint8_t frames;       /* STACK: bits */
    uint64_t index[8];    /* VALUE, DATA, MAP: bits by type */
    struct oko_scalar s;  /* SCALAR */
    int64_t lo[8], hi[8]; /* offsets by type */
};

struct piece_claim {
    uint16_t pos;
    uint8_t size;
    struct claim c;
};

struct insn_claim {
    bool visited;
    struct claim r[OKO_N_REGS];
    struct piece_claim *piece; /* that all states had */
    uint32_t n_pieces;
};

struct oko_check_states {
    uint32_t n_insns;
    struct insn_claim *insn;
};

/* ---------------------------------------------------------------- recording */

static void widen_claim(struct claim *c, const struct oko_reg *r)
{
    uint16_t bit = (uint16_t)(1u << r->type);
    bool first = (c->types & bit) == 0;
    c->types |= bit;
    if (r->type == OKO_REG_UNSET)
        return;
    if (r->type == OKO_REG_SCALAR) {
        c->s = first ? r->s : oko_scalar_join(c->s, r->s);
        return;
    }
    c->null |= r->maybe_null;
    c->frames |= (uint8_t)(1u << r->frame);
    c->index[r->type] |= (uint64_t)1 << (r->index & 63);
    int64_t lo = r->s.full.smin, hi = r->s.full.smax;
    c->lo[r->type] = first || lo < c->lo[r->type] ? lo : c->lo[r->type];
    c->hi[r->type] = first || hi > c->hi[r->type] ? hi : c->hi[r->type];
}

static int record_pieces(struct oko_walk *w, struct insn_claim *claim)
{
    const struct oko_state *st = &w->cur;
    uint32_t top = st->n_frames - 1, n = 0;
    if (!claim->visited && w->spec->n_insns <= MAX_INSNS_WITH_PIECES) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < st->n_pieces; i++)
            count += st->piece[i].frame == top;
        count = count > MAX_PIECES ? MAX_PIECES : count;
        if (count == 0)
            return 0;
        claim->piece = calloc(count, sizeof(*claim->piece));
        if (claim->piece == NULL)
            return oko_walk_no_memory(w);
        for (uint32_t i = 0; i < st->n_pieces && claim->n_pieces < count; i++)
            if (st->piece[i].frame == top) {
                struct piece_claim *p = &claim->piece[claim->n_pieces++];
                p->pos = st->piece[i].pos;
                p->size = st->piece[i].size;
                widen_claim(&p->c, &st->piece[i].r);
            }
        return 0;
    }
    for (uint32_t k = 0; k < claim->n_pieces; k++) {
        struct piece_claim p = claim->piece[k];
        const struct oko_piece *piece = oko_state_piece(&w->cur, top, p.pos, p.size);
        if (piece == NULL)
            continue;
        widen_claim(&p.c, &piece->r);
        claim->piece[n++] = p;
    }
    claim->n_pieces = n;
    return 0;
}

int oko_check_record(struct oko_walk *w)
{
    if (w->states == NULL) {
        w->states = calloc(1, sizeof(*w->states));
        if (w->states == NULL)
            return oko_walk_no_memory(w);
        w->states->insn = calloc(w->spec->n_insns, sizeof(*w->states->insn));
        if (w->states->insn == NULL)
            return oko_walk_no_memory(w);
        w->states->n_insns = w->spec->n_insns;
    }
    struct insn_claim *claim = &w->states->insn[w->pc];
    for (unsigned i = 0; i < OKO_N_REGS; i++)
        widen_claim(&claim->r[i], oko_walk_reg(w, i));
    int status = record_pieces(w, claim);
    claim->visited = true;
    return status;
}

void oko_check_states_free(void *states)
{
    struct oko_check_states *s = states;
    if (s == NULL)
        return;
    for (uint32_t i = 0; s->insn != NULL && i < s->n_insns; i++)
        free(s->insn[i].piece);
    free(s->insn);
    free(s);
}

/* ---------------------------------------------------------------- membership */

struct run {
    const struct oko_prog *prog;
    const struct oko_env *env;
    const struct oko_check_frame *frames;
    uint32_t n_frames, pc;
    struct oko_error *error;
};

/* address - base, as the signed offset that the claim is about. */
static bool between(const struct claim *c, enum oko_reg_type type, uint64_t address,
                    const void *base)
{
    int64_t off = (int64_t)(address - (uint64_t)(uintptr_t)base);
    return c->lo[type] <= off && off <= c->hi[type];
}

static bool is_value(const struct run *run, const struct claim *c, uint64_t v)
{
    int64_t lo = c->lo[OKO_REG_VALUE], hi = c->hi[OKO_REG_VALUE];
    if (c->null && (int64_t)v >= lo && (int64_t)v <= hi)
        return true;
    if ((uint64_t)hi - (uint64_t)lo > 65536)
        return true; /* too wide to try all */
    for (uint32_t m = 0; m < run->prog->spec.n_maps; m++) {
        const struct oko_map *map = run->prog->maps[m];
        struct oko_map_class cls;
        if ((c->index[OKO_REG_VALUE] >> m & 1) == 0 || map->ops->contains == NULL ||
            oko_map_class(&map->spec, &cls, NULL) != 0)
            continue;
        for (int64_t off = lo; off <= hi; off++)
            if (map->ops->contains(map, (const void *)(uintptr_t)(v - (uint64_t)off),
                                   cls.value_size, run->env))
                return true;
    }
    return false;
}

static bool admits(const struct run *run, const struct claim *c, uint64_t v)
{
    if ((c->types & 1u << OKO_REG_UNSET) != 0)
        return true;
    if ((c->types & 1u << OKO_REG_SCALAR) != 0 && oko_scalar_has(&c->s, v))
        return true;
    if ((c->types & 1u << OKO_REG_PKT) != 0 && between(c, OKO_REG_PKT, v, run->env->pkt))
        return true;
    if ((c->types & 1u << OKO_REG_META) != 0 && between(c, OKO_REG_META, v, run->env->meta))
        return true;
    if ((c->types & 1u << OKO_REG_VALUE) != 0 && is_value(run, c, v))
        return true;
    for (uint32_t f = 0; (c->types & 1u << OKO_REG_STACK) != 0 && f < run->n_frames; f++)
        if ((c->frames >> f & 1) != 0 &&
            between(c, OKO_REG_STACK, v, run->frames[f].stack + OKO_STACK_SIZE))
            return true;
    for (uint32_t i = 0; (c->types & 1u << OKO_REG_DATA) != 0 && i < run->prog->spec.n_data; i++)
        if ((c->index[OKO_REG_DATA] >> i & 1) != 0 &&
            between(c, OKO_REG_DATA, v, run->prog->data[i].bytes))
            return true;
    for (uint32_t i = 0; (c->types & 1u << OKO_REG_MAP) != 0 && i < run->prog->spec.n_maps; i++)
        if ((c->index[OKO_REG_MAP] >> i & 1) != 0 && v == (uint64_t)(uintptr_t)run->prog->maps[i])
            return true;
    return false;
}

/* ---------------------------------------------------------------- accesses */

static bool in_object(uint64_t at, uint64_t width, const void *base, uint64_t size)
{
    uint64_t off = at - (uint64_t)(uintptr_t)base;
    return width <= size && off <= size - width;
}

static bool access_is_legal(const struct run *run, uint64_t at, uint64_t width, bool write)
{
    const struct oko_prog *prog = run->prog;
    if (!write && (in_object(at, width, run->env->pkt, run->env->len) ||
                   in_object(at, width, run->env->meta, sizeof(struct oko_meta))))
        return true;
    for (uint32_t f = 0; f < run->n_frames; f++)
        if (in_object(at, width, run->frames[f].stack, OKO_STACK_SIZE))
            return true;
    for (uint32_t i = 0; i < prog->spec.n_data; i++)
        if ((!write || prog->spec.data[i].writable != 0) &&
            in_object(at, width, prog->data[i].bytes, prog->spec.data[i].size))
            return true;
    for (uint32_t i = 0; i < prog->spec.n_maps; i++) {
        const struct oko_map *map = prog->maps[i];
        struct oko_map_class cls;
        if (map->ops->contains != NULL && oko_map_class(&map->spec, &cls, NULL) == 0 &&
            (!write || cls.value_writable) &&
            map->ops->contains(map, (const void *)(uintptr_t)at, (uint32_t)width, run->env))
            return true;
    }
    return false;
}

static int check_access(const struct run *run, const uint64_t *r)
{
    struct oko_insn i = run->prog->spec.insns[run->pc];
    uint8_t op = oko_opcodes[i.code].op;
    bool load = op == OKO_BPF_LDX || op == OKO_BPF_LDSX;
    if (!load && op != OKO_BPF_ST && op != OKO_BPF_STX && op != OKO_BPF_ATOMIC)
        return 0;
    uint64_t at = r[load ? oko_insn_src(i) : oko_insn_dst(i)] + (uint64_t)(int64_t)i.off;
    if ((run->prog->facts.insn[run->pc].flags & OKO_FACT_GUARD) != 0 ||
        access_is_legal(run, at, oko_insn_width(i), !load))
        return 0;
    return oko_err_at(run->error, OKO_E_VERIFY, run->pc,
                      "a verified program %s outside of what it may access",
                      load ? "reads" : "writes");
}

/* ---------------------------------------------------------------- facts */

static bool condition(struct oko_insn i, const uint64_t *r)
{
    bool is64 = oko_opcodes[i.code].is64;
    uint64_t a = r[oko_insn_dst(i)];
    uint64_t b = (i.code & BPF_X) != 0 ? r[oko_insn_src(i)] : (uint64_t)(int64_t)i.imm;
    int64_t sa = is64 ? (int64_t)a : (int32_t)a, sb = is64 ? (int64_t)b : (int32_t)b;
    if (!is64)
        a = (uint32_t)a, b = (uint32_t)b;
    switch (oko_insn_op(i)) {
    case BPF_JEQ:
        return a == b;
    case BPF_JNE:
        return a != b;
    case BPF_JGT:
        return a > b;
    case BPF_JGE:
        return a >= b;
    case BPF_JLT:
        return a < b;
    case BPF_JLE:
        return a <= b;
    case BPF_JSET:
        return (a & b) != 0;
    case BPF_JSGT:
        return sa > sb;
    case BPF_JSGE:
        return sa >= sb;
    case BPF_JSLT:
        return sa < sb;
    default:
        return sa <= sb;
    }
}

static const char *false_fact(const struct run *run, const uint64_t *r)
{
    const struct oko_prog *prog = run->prog;
    const struct oko_fact *fact = &prog->facts.insn[run->pc];
    struct oko_insn i = prog->spec.insns[run->pc];
    uint8_t op = oko_opcodes[i.code].op;
    bool is64 = oko_opcodes[i.code].is64;
    if ((fact->flags & OKO_FACT_REACHED) == 0)
        return "never reached";
    if (op == OKO_BPF_JCOND && (fact->flags & OKO_FACT_TAKEN) != 0 && !condition(i, r))
        return "always taken";
    if (op == OKO_BPF_JCOND && (fact->flags & OKO_FACT_NOT_TAKEN) != 0 && condition(i, r))
        return "never taken";
    if (op == OKO_BPF_ALU && (fact->flags & OKO_FACT_NONZERO) != 0 &&
        (is64 ? r[oko_insn_src(i)] : (uint32_t)r[oko_insn_src(i)]) == 0)
        return "never divides by zero";
    if (op != OKO_BPF_CALL || oko_insn_src(i) != 0)
        return NULL;
    if (fact->map >= 0 && r[1] != (uint64_t)(uintptr_t)prog->maps[fact->map])
        return "always calls with the same map";
    if ((fact->flags & OKO_FACT_KEY_STACK) != 0 && r[2] != r[10] + (uint64_t)(int64_t)fact->key_off)
        return "always has its key at the same place";
    if ((fact->flags & OKO_FACT_VAL_STACK) != 0 && r[3] != r[10] + (uint64_t)(int64_t)fact->val_off)
        return "always has its value at the same place";
    if ((fact->flags & OKO_FACT_INDEX_OK) != 0) {
        uint64_t index = 0;
        memcpy(&index, (const void *)(uintptr_t)r[2], prog->spec.maps[fact->map].key_size);
        if (index >= prog->spec.maps[fact->map].max_entries)
            return "always has its index inside the array";
        if ((fact->flags & OKO_FACT_INDEX_CONST) != 0 && index != fact->index_const)
            return "always has the same index";
    }
    return NULL;
}

/* The instruction that this thread executed before, for facts about results. */
static _Thread_local struct {
    const struct oko_prog *prog;
    uint32_t pc, n_frames;
} before;

static const char *false_result(const struct run *run, const uint64_t *r)
{
    if (before.prog != run->prog || before.n_frames != run->n_frames || run->pc == 0)
        return NULL;
    struct oko_insn i = run->prog->spec.insns[before.pc];
    uint8_t op = oko_opcodes[i.code].op;
    if ((run->prog->facts.insn[before.pc].flags & OKO_FACT_DST_HI0) == 0 || op == OKO_BPF_EXIT)
        return NULL;
    unsigned reg = oko_cfg_writes(i) == 0x3f ? 0 : oko_insn_dst(i);
    if (op == OKO_BPF_ATOMIC)
        reg = i.imm == (int32_t)BPF_CMPXCHG ? 0 : oko_insn_src(i);
    return r[reg] >> 32 != 0 ? "leaves the upper half of its result zero" : NULL;
}

/* ---------------------------------------------------------------- a step */

int oko_check_step(const struct oko_prog *prog, const struct oko_env *env, uint32_t pc,
                   const struct oko_check_frame *frames, uint32_t n_frames, struct oko_error *error)
{
    const struct oko_check_states *states = prog->facts.states;
    struct run run = {prog, env, frames, n_frames, pc, error};
    const struct oko_check_frame *top = &frames[n_frames - 1];
    if (states == NULL)
        return oko_err(error, OKO_E_UNSUP,
                       "the program was loaded without OKO_LOAD_KEEP_STATES: nothing to check");
    const struct insn_claim *claim = &states->insn[pc];
    if (!claim->visited)
        return oko_err_at(error, OKO_E_VERIFY, pc, "the verifier believes that no path leads here");
    for (unsigned i = 0; i < OKO_N_REGS; i++)
        if (!admits(&run, &claim->r[i], top->regs[i]))
            return oko_err_at(error, OKO_E_VERIFY, pc,
                              "r%u is 0x%" PRIx64 ", outside of the verifier's claim", i,
                              top->regs[i]);
    for (uint32_t k = 0; k < claim->n_pieces; k++) {
        const struct piece_claim *p = &claim->piece[k];
        uint64_t v = 0;
        memcpy(&v, top->stack + p->pos, p->size);
        if (!admits(&run, &p->c, v))
            return oko_err_at(error, OKO_E_VERIFY, pc,
                              "the %u bytes of stack at r10%+d are 0x%" PRIx64
                              ", outside of the verifier's claim",
                              p->size, (int)p->pos - OKO_STACK_SIZE, v);
    }
    const char *fact = false_fact(&run, top->regs);
    if (fact != NULL)
        return oko_err_at(error, OKO_E_VERIFY, pc, "a fact is false: this instruction %s", fact);
    fact = false_result(&run, top->regs);
    if (fact != NULL)
        return oko_err_at(error, OKO_E_VERIFY, before.pc, "a fact is false: this instruction %s",
                          fact);
    before.prog = prog;
    before.pc = pc;
    before.n_frames = n_frames;
    return check_access(&run, top->regs);
}
