/* oko_verify(): the verifier's entry; gears, and the loop that drives the walk; see walk.h. */
#include "walk.h"

#include "../../base/err.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_WORST_CASE = 1000000,
    DEFAULT_BUDGET = 4000000,
    MAX_DEPTH = 65536 /* branches between two nodes; a tree of blocks, so never that many */
};

static const uint64_t default_memory = (uint64_t)256 << 20;

/* From quick to patient. Fractions of the budget that may be used up to the end of each. */
static const struct {
    struct oko_gear gear;
    uint32_t eighths;
} gears[] = {
    {{4, 1}, 2},
    {{24, 72}, 5},
    {{200, 1200}, 8},
};

/* Ways not taken yet: between two nodes, the other sides of branches. */
struct fork {
    struct oko_packed *state;
    uint32_t pc, last_pc;
    uint64_t weight;
};

struct forks {
    struct fork *fork;
    uint32_t n, max;
};

/* ---------------------------------------------------------------- one node */

static int push_fork(struct oko_walk *w, struct forks *forks, uint32_t pc)
{
    if (forks->n == forks->max) {
        uint32_t max = forks->max == 0 ? 16 : 2 * forks->max;
        struct fork *larger =
            max <= 2 * MAX_DEPTH ? realloc(forks->fork, max * sizeof(*larger)) : NULL;
        if (larger == NULL)
            return oko_walk_no_memory(w);
        forks->fork = larger;
        forks->max = max;
    }
    struct oko_packed *packed = oko_state_pack(&w->other);
    if (packed == NULL || w->other.no_memory) {
        free(packed);
        return oko_walk_no_memory(w);
    }
    forks->fork[forks->n++] = (struct fork){packed, pc, w->pc, w->weight};
    return 0;
}

/* Whether the instruction has just made a form that will soon not fit. Settling replaces sums whose
 * parts nobody uses any more. */
static bool has_long_form(struct oko_walk *w, uint32_t pc)
{
    struct oko_insn i = w->spec->insns[pc];
    const struct oko_reg *r = oko_walk_reg(w, oko_insn_dst(i));
    return oko_opcodes[i.code].op == OKO_BPF_ALU && r->f.n > OKO_FORM_TERMS - 3;
}

/* Executes the path at hand from pc until it meets a place of nodes or ends. */
static int walk_path(struct oko_walk *w, struct forks *forks, uint32_t pc, uint32_t last_pc,
                     bool at_node)
{
    for (;;) {
        if (!at_node && (w->cfg.insn[pc].flags & OKO_CFG_JOIN) != 0)
            return oko_walk_arrive(w, pc, last_pc);
        at_node = false;
        w->pc = pc;
        oko_gather_visit(w);
        if ((w->opts->flags & OKO_LOAD_KEEP_STATES) != 0) {
            int status = oko_check_record(w);
            if (status != 0)
                return status;
        }
        uint32_t next, branch;
        int status = oko_walk_step(w, &next, &branch);
        if (status == 0)
            status = oko_walk_charge(w, 1 + w->cur.rel.work / 8);
        w->cur.rel.work = 0;
        if (status == 0 && w->cur.no_memory)
            status = oko_walk_no_memory(w);
        if (status == 0)
            oko_gather_result(w, pc);
        if (status == 0 && next != OKO_CFG_NONE && has_long_form(w, pc) &&
            !oko_state_settle(&w->cfg, &w->cur, next))
            status = oko_walk_no_memory(w);
        if (status == 0 && branch != OKO_CFG_NONE)
            status = push_fork(w, forks, branch);
        if (status != 0)
            return status;
        last_pc = pc;
        if (next == OKO_CFG_NONE) {
            bool ends = oko_opcodes[w->spec->insns[pc].code].op == OKO_BPF_EXIT;
            return ends ? oko_walk_finish(w) : 0;
        }
        if (oko_opcodes[w->spec->insns[pc].code].op == OKO_BPF_EXIT)
            last_pc = next - 1; /* back from a function: the call is what came before */
        pc = next;
    }
}

static int walk_node(struct oko_walk *w, struct forks *forks, uint32_t node)
{
    int status = walk_path(w, forks, w->node[node].pc, OKO_CFG_NONE, true);
    while (status == 0 && forks->n > 0) {
        struct fork fork = forks->fork[--forks->n];
        w->weight = fork.weight;
        w->pc = fork.pc;
        if (!oko_state_unpack(&w->cur, fork.state))
            status = oko_walk_no_memory(w);
        free(fork.state);
        if (status == 0)
            status = walk_path(w, forks, fork.pc, fork.last_pc, false);
    }
    while (forks->n > 0)
        free(forks->fork[--forks->n].state);
    return status;
}

/* ---------------------------------------------------------------- one gear */

/* r1 = packet, r2 = length, r3 = metadata. */
static void first_state(struct oko_walk *w)
{
    struct oko_state *st = &w->cur;
    st->n_frames = 1;
    st->n_pieces = st->n_ghosts = st->rel.n_bounds = st->rel.n_cons = 0;
    st->rel.changed = false;
    memset(&st->frame[0], 0, sizeof(st->frame[0]));
    w->next_id = OKO_ID_LEN;
    struct oko_state_frame *frame = &st->frame[0];
    frame->r[1] = oko_reg_pointer(OKO_REG_PKT);
    frame->r[2] = oko_reg_fresh(st, oko_scalar_unsigned(0, OKO_MAX_PKT));
    frame->r[3] = oko_reg_pointer(OKO_REG_META);
    frame->r[10] = oko_reg_pointer(OKO_REG_STACK);
    frame->call_pc = OKO_CFG_NONE;
}

static int run_gear(struct oko_walk *w, struct oko_gear gear, uint64_t *worst)
{
    struct forks forks = {0};
    uint32_t node = 0;
    w->gear = gear;
    oko_walk_clear(w);
    oko_gather_reset(w);
    oko_check_states_free(w->states);
    w->states = NULL;
    first_state(w);
    w->from = OKO_NODE_EXIT;
    w->weight = 0;
    w->pc = 0;
    if (oko_walk_ctx(w, OKO_CFG_NONE, 0, 0) == OKO_CFG_NONE)
        return oko_walk_no_memory(w);
    /* Node 0 is the end; it doubles as the source of the edge to the beginning. */
    if (w->node == NULL) {
        w->node = calloc(64, sizeof(*w->node));
        w->max_nodes = 64;
        if (w->node == NULL)
            return oko_walk_no_memory(w);
    }
    memset(&w->node[0], 0, sizeof(w->node[0]));
    w->n_nodes = 1;
    int status = oko_walk_arrive(w, 0, OKO_CFG_NONE);
    w->n_edges = 0; /* from the end to the beginning */
    while (status == 0) {
        status = oko_walk_take(w, &node);
        if (status != 0 || node == 0)
            break;
        status = walk_node(w, &forks, node);
    }
    free(forks.fork);
    w->walking = status != 0;
    return status != 0 ? status : oko_walk_worst_case(w, worst);
}

static int check_worst_case(struct oko_walk *w, uint64_t *worst)
{
    uint64_t limit = w->opts->max_worst_case != 0 ? w->opts->max_worst_case : DEFAULT_WORST_CASE;
    if (*worst <= limit)
        return 0;
    if (oko_walk_guarded(w) && w->straight <= limit) {
        w->fuel = (int64_t)((limit - w->straight) / (w->round > 0 ? w->round : 1));
        for (uint32_t e = 0; e < w->n_edges; e++)
            if (w->edge[e].cut)
                oko_gather_fuel(w, w->edge[e].last_pc);
        *worst = limit;
        return 0;
    }
    if (oko_walk_guarded(w))
        *worst = w->straight; /* more than the limit, loops or not */
    return oko_refuse_at(w, 0, "give loops smaller bounds, or raise the limit (max_worst_case)",
                         "the program may execute %" PRIu64
                         " instructions for a packet; the limit is %" PRIu64,
                         *worst, limit);
}

/* ---------------------------------------------------------------- all */

static int class_maps(struct oko_walk *w)
{
    const struct oko_prog_spec *spec = w->spec;
    w->map = calloc(spec->n_maps + 1, sizeof(*w->map));
    if (w->map == NULL)
        return oko_walk_no_memory(w);
    for (uint32_t i = 0; i < spec->n_maps; i++) {
        int status = oko_map_class(&spec->maps[i], &w->map[i], w->error);
        if (status != 0)
            return status;
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct oko_threshold *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

/* Where widening stops: numbers that the program compares with, and the ends of common widths. */
static struct oko_threshold *thresholds(const struct oko_walk *w, uint32_t *n)
{
    static const int64_t common[] = {INT32_MIN, -1, 0, 1, 255, OKO_MAX_PKT, INT32_MAX, UINT32_MAX};
    const struct oko_prog_spec *spec = w->spec;
    size_t n_common = sizeof(common) / sizeof(common[0]);
    struct oko_threshold *list = calloc(n_common + 3 * (size_t)spec->n_insns, sizeof(*list));
    if (list == NULL)
        return NULL;
    *n = 0;
    for (size_t i = 0; i < n_common; i++)
        list[(*n)++] = (struct oko_threshold){common[i], OKO_EVERYWHERE};
    for (uint32_t pc = 0; pc < spec->n_insns; pc += oko_insn_slots(spec->insns[pc])) {
        struct oko_insn i = spec->insns[pc];
        uint8_t op = oko_opcodes[i.code].op;
        bool compares = op == OKO_BPF_JCOND || (op == OKO_BPF_MOV && i.off == 0);
        if (!compares || (i.code & BPF_X) != 0)
            continue;
        for (int64_t d = -1; d <= 1; d++)
            list[(*n)++] = (struct oko_threshold){i.imm + d, oko_cfg_outermost(&w->cfg, pc)};
    }
    qsort(list, *n, sizeof(*list), compare);
    return list;
}

static bool find_exit_tests(struct oko_walk *w)
{
    const struct oko_prog_spec *spec = w->spec;
    w->exit_test = calloc(spec->n_insns + 1, sizeof(*w->exit_test));
    if (w->exit_test == NULL)
        return false;
    for (uint32_t pc = 0; pc < spec->n_insns; pc += oko_insn_slots(spec->insns[pc])) {
        struct oko_insn i = spec->insns[pc];
        uint32_t loop = w->cfg.insn[pc].loop;
        bool equality = oko_insn_op(i) == BPF_JEQ || oko_insn_op(i) == BPF_JNE;
        if (loop == OKO_CFG_NONE || oko_opcodes[i.code].op != OKO_BPF_JCOND || !equality ||
            (i.code & BPF_X) != 0 ||
            (oko_cfg_in_loop(&w->cfg, loop, pc + 1) &&
             oko_cfg_in_loop(&w->cfg, loop, pc + 1 + (uint32_t)oko_insn_jump(i))))
            continue;
        w->exit_test[w->n_exit_tests++] = (struct oko_exit_test){pc, loop, i.imm};
    }
    return true;
}

/* How much a refusal says: all but the number of instructions was proved; what is wrong; that work
 * or memory ran out. */
enum rank { EXHAUSTED, WRONG, COUNTED };

/* A refusal is final when no gear could do better: the path to it is one path of the program, on
 * which nothing was joined. Of several gears' refusals the one that says most is shown, the latest
 * if several do. */
static int run_gears(struct oko_walk *w, uint64_t total, uint64_t *worst)
{
    size_t n = sizeof(gears) / sizeof(gears[0]);
    struct oko_error best = {0};
    enum rank best_rank = EXHAUSTED;
    int status = OKO_E_VERIFY;
    for (size_t g = 0; g < n && status == OKO_E_VERIFY; g++) {
        w->budget = total / 8 * gears[g].eighths + total % 8 * gears[g].eighths / 8;
        w->exhausted = false;
        w->walking = true;
        status = run_gear(w, gears[g].gear, worst);
        enum rank rank = status == 0 ? COUNTED : w->exhausted ? EXHAUSTED : WRONG;
        if (status == 0)
            status = check_worst_case(w, worst);
        if (status == OKO_E_VERIFY && rank == WRONG && w->walking && !w->node[w->from].joined)
            return status;
        if (rank >= best_rank)
            best = *w->error;
        best_rank = rank > best_rank ? rank : best_rank;
    }
    if (status == OKO_E_VERIFY)
        *w->error = best;
    return status;
}

static int verify(struct oko_walk *w, struct oko_facts *facts)
{
    uint64_t total = w->opts->verify_budget != 0 ? w->opts->verify_budget : DEFAULT_BUDGET;
    uint64_t worst = 0;
    uint32_t n = 0;
    struct oko_threshold *list = NULL;
    int status = class_maps(w);
    if (status == 0)
        status = oko_cfg_build(w->spec, total, &w->cfg, w->error);
    w->work = w->cfg.work;
    if (status == 0) {
        list = thresholds(w, &n);
        w->joiner.threshold = list;
        w->joiner.n_thresholds = n;
        if (list == NULL || !find_exit_tests(w))
            status = oko_walk_no_memory(w);
    }
    if (status == 0)
        status = oko_gather_new(w);
    if (status == 0)
        status = run_gears(w, total, &worst);
    if (status == 0)
        status = oko_gather_check(w);
    if (status == 0)
        status = oko_gather_finish(w, facts, worst);
    free(list);
    free(w->exit_test);
    return status;
}

int oko_verify(const struct oko_prog_spec *spec, const struct oko_load_opts *opts,
               struct oko_facts *facts, struct oko_error *error)
{
    static const struct oko_load_opts defaults;
    struct oko_walk *w = calloc(1, sizeof(*w));
    struct oko_error mine;
    oko_err_clear(&mine);
    memset(facts, 0, sizeof(*facts));
    if (w == NULL)
        return oko_err(error, OKO_E_NOMEM, "no memory to verify the program");
    w->spec = spec;
    w->opts = opts != NULL ? opts : &defaults;
    w->error = &mine;
    w->max_memory = w->opts->verify_memory != 0 ? w->opts->verify_memory : default_memory;
    oko_state_init(&w->cur, &w->next_id);
    oko_state_init(&w->other, &w->next_id);
    oko_state_init(&w->joined, &w->next_id);
    int status = verify(w, facts);
    if (status == 0)
        oko_err_clear(&mine);
    if (error != NULL)
        *error = mine;
    oko_walk_clear(w);
    oko_state_destroy(&w->cur);
    oko_state_destroy(&w->other);
    oko_state_destroy(&w->joined);
    oko_joiner_destroy(&w->joiner);
    oko_cfg_destroy(&w->cfg);
    oko_gather_free(w->gather);
    oko_check_states_free(w->states);
    free(w->map);
    free(w->ctx);
    free(w->node);
    free(w->edge);
    free(w->mover);
    free(w->place);
    free(w->heap);
    free(w);
    return status;
}
