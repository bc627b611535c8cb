/* Blocks, order, loops, calls, liveness; see cfg.h. */
#include "cfg.h"

#include "../../base/err.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A basic block; blocks are numbered in the order of their first instruction. */
struct block {
    uint32_t first, last;   /* instructions; last is the one that jumps or falls through */
    uint32_t succ[2];       /* blocks or OKO_CFG_NONE */
    uint32_t pred, n_preds; /* slice of builder.pred */
    uint32_t rank;          /* in the order at hand; OKO_CFG_NONE: not reachable */
    uint32_t dom;           /* immediate dominator */
    uint32_t loop;          /* innermost loop */
};

struct builder {
    struct oko_cfg *cfg;
    const struct oko_prog_spec *spec;
    struct oko_error *error;
    uint64_t budget;
    struct block *block;
    uint32_t n_blocks;
    uint32_t *pred;     /* predecessors of all blocks */
    uint32_t *block_at; /* [n_insns]: the block that starts there */
    uint32_t *order;    /* reachable blocks of the function at hand, in order */
    uint32_t n_order;
    uint32_t *stack, *state; /* scratch, [n_blocks] each */
};

static struct oko_insn insn_at(const struct builder *b, uint32_t pc)
{
    return b->spec->insns[pc];
}

static uint8_t op_at(const struct builder *b, uint32_t pc)
{
    return oko_opcodes[insn_at(b, pc).code].op;
}

static int no_memory(struct oko_error *error)
{
    return oko_err(error, OKO_E_NOMEM, "no memory to verify the program");
}

static int charge(struct builder *b, uint64_t work)
{
    b->cfg->work += work;
    if (b->cfg->work <= b->budget)
        return 0;
    oko_err(b->error, OKO_E_VERIFY, "the program's control flow is too complex to analyse");
    oko_err_hint(b->error, "split the program, or simplify its loops and branches");
    return OKO_E_VERIFY;
}

/* ---------------------------------------------------------------- registers */

uint32_t oko_cfg_func_at(const struct oko_cfg *cfg, uint32_t pc)
{
    for (uint32_t f = 0; f < cfg->n_funcs; f++)
        if (cfg->start[f] == pc)
            return f;
    return 0;
}

uint16_t oko_cfg_reads(const struct oko_cfg *cfg, uint32_t pc)
{
    struct oko_insn i = cfg->spec->insns[pc];
    const struct oko_opcode *row = &oko_opcodes[i.code];
    uint16_t dst = (uint16_t)(1u << oko_insn_dst(i)), src = (uint16_t)(1u << oko_insn_src(i));
    switch (row->op) {
    case OKO_BPF_LDDW:
        return 0;
    case OKO_BPF_ATOMIC:
        return (uint16_t)(dst | src | (i.imm == BPF_CMPXCHG ? 1u : 0u));
    case OKO_BPF_EXIT:
        return 1;
    case OKO_BPF_CALL: {
        if (oko_insn_src(i) == OKO_PSEUDO_LOCAL) {
            uint32_t target = (uint32_t)((int64_t)pc + 1 + i.imm);
            return cfg->insn[target].live_in & 0x3e;
        }
        const struct oko_helper *helper = oko_helper(i.imm);
        unsigned n = 0;
        while (helper != NULL && n < 5 && helper->arg[n] != OKO_ARG_NONE)
            n++;
        return (uint16_t)(((1u << n) - 1) << 1);
    }
    default:
        return (uint16_t)(((row->use & OKO_READS_DST) != 0 ? dst : 0u) |
                          ((row->use & OKO_USE_SRC) != 0 ? src : 0u));
    }
}

uint16_t oko_cfg_writes(struct oko_insn i)
{
    const struct oko_opcode *row = &oko_opcodes[i.code];
    switch (row->op) {
    case OKO_BPF_CALL:
    case OKO_BPF_LD_ABS:
    case OKO_BPF_LD_IND:
        return 0x3f; /* the result, and r1 to r5 are lost */
    case OKO_BPF_ATOMIC:
        if (i.imm == BPF_CMPXCHG)
            return 1;
        return (uint16_t)((i.imm & BPF_FETCH) != 0 ? 1u << oko_insn_src(i) : 0);
    default:
        return (uint16_t)((row->use & OKO_WRITES_DST) != 0 ? 1u << oko_insn_dst(i) : 0);
    }
}

/* ---------------------------------------------------------------- blocks */

static uint32_t target_of(const struct builder *b, uint32_t pc)
{
    return (uint32_t)((int64_t)pc + 1 + oko_insn_jump(insn_at(b, pc)));
}

static uint32_t next_of(const struct builder *b, uint32_t pc)
{
    return pc + oko_insn_slots(insn_at(b, pc));
}

static void mark_leaders(struct builder *b)
{
    struct oko_cfg_insn *insn = b->cfg->insn;
    for (uint32_t f = 0; f < b->cfg->n_funcs; f++)
        insn[b->cfg->start[f]].flags |= OKO_CFG_LEADER;
    for (uint32_t pc = 0; pc < b->spec->n_insns; pc = next_of(b, pc)) {
        uint8_t op = op_at(b, pc);
        uint32_t next = next_of(b, pc);
        bool local = op == OKO_BPF_CALL && oko_insn_src(insn_at(b, pc)) == OKO_PSEUDO_LOCAL;
        if (op == OKO_BPF_JA || op == OKO_BPF_JCOND)
            insn[target_of(b, pc)].flags |= OKO_CFG_LEADER;
        if ((op == OKO_BPF_JA || op == OKO_BPF_JCOND || op == OKO_BPF_EXIT || local) &&
            next < b->spec->n_insns)
            insn[next].flags |= OKO_CFG_LEADER | (local ? OKO_CFG_JOIN : 0);
    }
}

static void make_blocks(struct builder *b)
{
    struct block *block = NULL;
    for (uint32_t pc = 0; pc < b->spec->n_insns; pc = next_of(b, pc)) {
        if ((b->cfg->insn[pc].flags & OKO_CFG_LEADER) != 0) {
            b->block_at[pc] = b->n_blocks;
            block = &b->block[b->n_blocks++];
            *block = (struct block){.first = pc,
                                    .succ = {OKO_CFG_NONE, OKO_CFG_NONE},
                                    .rank = OKO_CFG_NONE,
                                    .dom = OKO_CFG_NONE,
                                    .loop = OKO_CFG_NONE};
        }
        block->last = pc;
    }
    for (uint32_t i = 0; i < b->n_blocks; i++) {
        block = &b->block[i];
        uint8_t op = op_at(b, block->last);
        uint32_t n = 0;
        if (op != OKO_BPF_JA && op != OKO_BPF_EXIT)
            block->succ[n++] = b->block_at[next_of(b, block->last)];
        if (op == OKO_BPF_JA || op == OKO_BPF_JCOND)
            block->succ[n++] = b->block_at[target_of(b, block->last)];
        if (n == 2 && block->succ[0] == block->succ[1])
            block->succ[1] = OKO_CFG_NONE;
    }
}

/* ---------------------------------------------------------------- order */

static uint32_t loop_depth(const struct builder *b, uint32_t loop)
{
    return loop == OKO_CFG_NONE ? 0 : b->cfg->loop[loop].depth;
}

/* Depth-first from the function's entry; b->order gets the reverse postorder. A successor in a
 * shallower loop is visited first, so that it comes after the loop that it leaves. */
static void number_blocks(struct builder *b, uint32_t entry)
{
    uint32_t depth = 0, n = 0;
    b->stack[depth++] = entry;
    b->state[entry] = 1;
    while (depth > 0) {
        uint32_t at = b->stack[depth - 1];
        struct block *block = &b->block[at];
        uint32_t step = b->state[at]++ - 1; /* successors tried so far */
        if (step < 2) {
            uint32_t first = 0;
            if (block->succ[0] != OKO_CFG_NONE && block->succ[1] != OKO_CFG_NONE &&
                loop_depth(b, b->block[block->succ[1]].loop) <
                    loop_depth(b, b->block[block->succ[0]].loop))
                first = 1;
            uint32_t next = block->succ[step ^ first];
            if (next != OKO_CFG_NONE && b->state[next] == 0) {
                b->state[next] = 1;
                b->stack[depth++] = next;
            }
        } else {
            depth--;
            b->order[n++] = at; /* postorder */
        }
    }
    b->n_order = n;
    for (uint32_t i = 0; i < n / 2; i++) {
        uint32_t t = b->order[i];
        b->order[i] = b->order[n - 1 - i];
        b->order[n - 1 - i] = t;
    }
    for (uint32_t i = 0; i < n; i++) {
        b->block[b->order[i]].rank = i;
        b->state[b->order[i]] = 0;
    }
}

static void list_predecessors(struct builder *b)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < b->n_order; i++)
        b->block[b->order[i]].n_preds = 0;
    for (uint32_t i = 0; i < b->n_order; i++)
        for (int k = 0; k < 2; k++)
            if (b->block[b->order[i]].succ[k] != OKO_CFG_NONE)
                b->block[b->block[b->order[i]].succ[k]].n_preds++;
    for (uint32_t i = 0; i < b->n_order; i++) {
        struct block *block = &b->block[b->order[i]];
        block->pred = at;
        at += block->n_preds;
        block->n_preds = 0;
    }
    for (uint32_t i = 0; i < b->n_order; i++)
        for (int k = 0; k < 2; k++) {
            uint32_t succ = b->block[b->order[i]].succ[k];
            if (succ != OKO_CFG_NONE)
                b->pred[b->block[succ].pred + b->block[succ].n_preds++] = b->order[i];
        }
}

/* ---------------------------------------------------------------- dominators and loops */

/* Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001). */
static int find_dominators(struct builder *b)
{
    bool changed = true;
    b->block[b->order[0]].dom = b->order[0];
    while (changed) {
        changed = false;
        for (uint32_t i = 1; i < b->n_order; i++) {
            struct block *block = &b->block[b->order[i]];
            uint32_t dom = OKO_CFG_NONE;
            uint64_t work = 1;
            for (uint32_t p = 0; p < block->n_preds; p++) {
                uint32_t x = b->pred[block->pred + p], y = dom;
                if (b->block[x].dom == OKO_CFG_NONE)
                    continue;
                for (; y != OKO_CFG_NONE && x != y; work++)
                    if (b->block[x].rank > b->block[y].rank)
                        x = b->block[x].dom;
                    else
                        y = b->block[y].dom;
                dom = x;
            }
            changed |= block->dom != dom;
            block->dom = dom;
            int status = charge(b, work / 16);
            if (status != 0)
                return status;
        }
    }
    return 0;
}

static bool dominates(const struct builder *b, uint32_t above, uint32_t below)
{
    while (b->block[below].rank > b->block[above].rank)
        below = b->block[below].dom;
    return below == above;
}

/* The outermost loop found so far around a block, as its head's block; or the block itself. */
static uint32_t outermost(struct builder *b, uint32_t at)
{
    uint32_t loop = b->block[at].loop;
    if (loop == OKO_CFG_NONE)
        return at;
    while (b->cfg->loop[loop].parent != OKO_CFG_NONE)
        loop = b->cfg->loop[loop].parent;
    return b->block_at[b->cfg->loop[loop].head];
}

/* The natural loop of a head: blocks from which a back edge's source can be reached backwards.
 * Heads are taken innermost first, so an inner loop is one step. */
static int collect_loop(struct builder *b, uint32_t head)
{
    struct oko_cfg *cfg = b->cfg;
    uint32_t depth = 0, loop = cfg->n_loops;
    const struct block *h = &b->block[head];
    for (uint32_t p = 0; p < h->n_preds; p++) {
        uint32_t source = b->pred[h->pred + p];
        if (b->block[source].rank < h->rank)
            continue;
        if (!dominates(b, head, source)) {
            oko_err_at(b->error, OKO_E_VERIFY, b->block[source].last,
                       "this jump back enters a loop elsewhere than at its head");
            oko_err_hint(b->error, "do not jump into the middle of a loop; compile with -O2");
            return OKO_E_VERIFY;
        }
        b->stack[depth++] = source;
    }
    if (depth == 0)
        return 0;
    cfg->loop[cfg->n_loops++] = (struct oko_cfg_loop){h->first, OKO_CFG_NONE, 0, 0};
    cfg->insn[h->first].flags |= OKO_CFG_HEAD | OKO_CFG_JOIN;
    uint64_t work = 0;
    while (depth > 0) {
        uint32_t at = outermost(b, b->stack[--depth]);
        uint32_t inner = b->block[at].loop;
        work++;
        if (at == head) {
            continue;
        } else if (inner == OKO_CFG_NONE) {
            b->block[at].loop = loop;
        } else {
            while (cfg->loop[inner].parent != OKO_CFG_NONE)
                inner = cfg->loop[inner].parent;
            cfg->loop[inner].parent = loop;
        }
        const struct block *block = &b->block[at];
        for (uint32_t p = 0; p < block->n_preds; p++) {
            uint32_t before = outermost(b, b->pred[block->pred + p]);
            /* Not yet in this loop; each block and inner loop is pushed once. */
            if (before != head && before != at && b->state[before] != loop + 1) {
                b->state[before] = loop + 1;
                b->stack[depth++] = before;
            }
        }
    }
    if (b->block[head].loop == OKO_CFG_NONE)
        b->block[head].loop = loop;
    return charge(b, work);
}

static int find_loops(struct builder *b)
{
    for (uint32_t i = b->n_order; i-- > 0;) {
        int status = collect_loop(b, b->order[i]);
        if (status != 0)
            return status;
    }
    for (uint32_t i = 0; i < b->n_order; i++)
        b->state[b->order[i]] = 0;
    return 0;
}

static int analyse_function(struct builder *b, uint32_t func)
{
    uint32_t first_loop = b->cfg->n_loops;
    number_blocks(b, b->block_at[b->cfg->start[func]]);
    list_predecessors(b);
    int status = find_dominators(b);
    if (status == 0)
        status = find_loops(b);
    if (status != 0)
        return status;
    for (uint32_t k = b->cfg->n_loops; k-- > first_loop;) { /* outer loops have higher numbers */
        struct oko_cfg_loop *loop = &b->cfg->loop[k];
        loop->depth = loop->parent == OKO_CFG_NONE ? 1 : b->cfg->loop[loop->parent].depth + 1;
    }
    if (b->cfg->n_loops > first_loop)
        number_blocks(b, b->block_at[b->cfg->start[func]]);
    for (uint32_t i = 0; i < b->n_order; i++) {
        const struct block *block = &b->block[b->order[i]];
        if (block->n_preds > 1 || (block->n_preds == 1 && block->first == b->cfg->start[func]))
            b->cfg->insn[block->first].flags |= OKO_CFG_JOIN;
        for (uint32_t pc = block->first; pc <= block->last; pc = next_of(b, pc)) {
            struct oko_cfg_insn *insn = &b->cfg->insn[pc];
            insn->flags |= OKO_CFG_REACHABLE;
            insn->order = block->rank;
            insn->loop = block->loop;
        }
        if (block->loop != OKO_CFG_NONE)
            b->cfg->loop[block->loop].last = block->rank;
    }
    for (uint32_t k = first_loop; k < b->cfg->n_loops; k++) {
        const struct oko_cfg_loop *loop = &b->cfg->loop[k];
        if (loop->parent != OKO_CFG_NONE && b->cfg->loop[loop->parent].last < loop->last)
            b->cfg->loop[loop->parent].last = loop->last;
    }
    return 0;
}

bool oko_cfg_in_loop(const struct oko_cfg *cfg, uint32_t loop, uint32_t pc)
{
    if (loop == OKO_CFG_NONE)
        return true;
    for (uint32_t at = cfg->insn[pc].loop; at != OKO_CFG_NONE; at = cfg->loop[at].parent)
        if (at == loop)
            return true;
    return false;
}

uint32_t oko_cfg_outermost(const struct oko_cfg *cfg, uint32_t pc)
{
    uint32_t loop = cfg->insn[pc].loop;
    while (loop != OKO_CFG_NONE && cfg->loop[loop].parent != OKO_CFG_NONE)
        loop = cfg->loop[loop].parent;
    return loop;
}

/* ---------------------------------------------------------------- calls */

/* Depth-first over the call graph; functions get their height when all they call have theirs.
 * order gets callees before callers. */
static int order_calls(struct builder *b, uint32_t order[OKO_MAX_FUNCS], uint32_t *n)
{
    struct oko_cfg *cfg = b->cfg;
    struct {
        uint32_t func, pc, height;
    } stack[OKO_MAX_FUNCS];
    bool open[OKO_MAX_FUNCS] = {false};
    uint32_t depth = 1;
    stack[0].func = 0, stack[0].pc = cfg->start[0], stack[0].height = 0;
    open[0] = true;
    *n = 0;
    while (depth > 0) {
        uint32_t func = stack[depth - 1].func, pc = stack[depth - 1].pc;
        if (pc >= cfg->start[func + 1]) {
            uint32_t height = stack[depth - 1].height + 1;
            cfg->height[func] = height;
            open[func] = false;
            order[(*n)++] = func;
            if (--depth > 0 && stack[depth - 1].height < height)
                stack[depth - 1].height = height;
            continue;
        }
        stack[depth - 1].pc = next_of(b, pc);
        struct oko_insn i = insn_at(b, pc);
        if ((cfg->insn[pc].flags & OKO_CFG_REACHABLE) == 0 || op_at(b, pc) != OKO_BPF_CALL ||
            oko_insn_src(i) != OKO_PSEUDO_LOCAL)
            continue;
        uint32_t callee = oko_cfg_func_at(cfg, target_of(b, pc));
        if (open[callee]) {
            oko_err_at(b->error, OKO_E_VERIFY, pc, "recursive call of %.63s",
                       b->spec->n_funcs > 0 ? b->spec->funcs[callee].name : "the program");
            oko_err_hint(b->error, "turn the recursion into a bounded loop");
            return OKO_E_VERIFY;
        }
        if (cfg->height[callee] != 0) {
            if (stack[depth - 1].height < cfg->height[callee])
                stack[depth - 1].height = cfg->height[callee];
            continue;
        }
        open[callee] = true;
        stack[depth].func = callee;
        stack[depth].pc = cfg->start[callee];
        stack[depth++].height = 0;
    }
    if (cfg->height[0] > OKO_MAX_FRAMES) {
        oko_err_at(b->error, OKO_E_VERIFY, 0, "calls are nested %" PRIu32 " deep; the limit is %d",
                   cfg->height[0], OKO_MAX_FRAMES);
        oko_err_hint(b->error, "inline some of the functions");
        return OKO_E_VERIFY;
    }
    return 0;
}

/* ---------------------------------------------------------------- liveness */

/* Backwards over the blocks until nothing changes; blocks are in order, so few rounds suffice. */
static int find_live(struct builder *b, uint32_t func)
{
    struct oko_cfg *cfg = b->cfg;
    bool changed = true;
    number_blocks(b, b->block_at[cfg->start[func]]);
    while (changed) {
        changed = false;
        for (uint32_t i = b->n_order; i-- > 0;) {
            const struct block *block = &b->block[b->order[i]];
            uint16_t live = 0;
            for (int k = 0; k < 2; k++)
                if (block->succ[k] != OKO_CFG_NONE)
                    live |= cfg->insn[b->block[block->succ[k]].first].live_in;
            cfg->insn[block->last].live_out = live;
            uint16_t before = cfg->insn[block->first].live_in;
            uint32_t pc = block->last;
            uint64_t work = 1;
            for (;; work++) {
                struct oko_cfg_insn *insn = &cfg->insn[pc];
                insn->live_out = live;
                live =
                    (uint16_t)((live & ~oko_cfg_writes(insn_at(b, pc))) | oko_cfg_reads(cfg, pc));
                insn->live_in = live;
                if (pc == block->first)
                    break;
                pc--;
                if (pc > block->first && (cfg->insn[pc].flags & OKO_CFG_REACHABLE) == 0)
                    pc--; /* the second half of a 64-bit load */
            }
            changed |= live != before;
            int status = charge(b, work / 8);
            if (status != 0)
                return status;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- all */

static int build(struct builder *b)
{
    uint32_t order[OKO_MAX_FUNCS], n;
    mark_leaders(b);
    make_blocks(b);
    for (uint32_t f = 0; f < b->cfg->n_funcs; f++) {
        int status = analyse_function(b, f);
        if (status != 0)
            return status;
    }
    int status = order_calls(b, order, &n);
    for (uint32_t k = 0; k < n && status == 0; k++)
        status = find_live(b, order[k]);
    return status;
}

int oko_cfg_build(const struct oko_prog_spec *spec, uint64_t budget, struct oko_cfg *cfg,
                  struct oko_error *error)
{
    uint32_t n = spec->n_insns;
    struct builder b = {.cfg = cfg, .spec = spec, .error = error, .budget = budget};
    memset(cfg, 0, sizeof(*cfg));
    cfg->spec = spec;
    cfg->n_funcs = spec->n_funcs == 0 ? 1 : spec->n_funcs;
    for (uint32_t f = 0; f < cfg->n_funcs; f++)
        cfg->start[f] = f == 0 ? 0 : spec->funcs[f].insn;
    cfg->start[cfg->n_funcs] = n;
    cfg->insn = calloc(n, sizeof(*cfg->insn));
    cfg->loop = calloc(n, sizeof(*cfg->loop));
    b.block = calloc(n, sizeof(*b.block));
    b.pred = calloc(2 * (size_t)n, sizeof(*b.pred));
    b.block_at = calloc(n, sizeof(*b.block_at));
    b.order = calloc(n, sizeof(*b.order));
    b.stack = calloc(2 * (size_t)n, sizeof(*b.stack));
    b.state = calloc(n, sizeof(*b.state));
    int status = 0;
    if (cfg->insn == NULL || cfg->loop == NULL || b.block == NULL || b.pred == NULL ||
        b.block_at == NULL || b.order == NULL || b.stack == NULL || b.state == NULL)
        status = no_memory(error);
    for (uint32_t f = 0; f < cfg->n_funcs && status == 0; f++)
        for (uint32_t pc = cfg->start[f]; pc < cfg->start[f + 1]; pc++) {
            cfg->insn[pc].func = (uint8_t)f;
            cfg->insn[pc].loop = OKO_CFG_NONE;
        }
    if (status == 0)
        status = build(&b);
    free(b.block);
    free(b.pred);
    free(b.block_at);
    free(b.order);
    free(b.stack);
    free(b.state);
    if (status != 0)
        oko_cfg_destroy(cfg);
    return status;
}

void oko_cfg_destroy(struct oko_cfg *cfg)
{
    free(cfg->insn);
    free(cfg->loop);
    cfg->insn = NULL;
    cfg->loop = NULL;
}
