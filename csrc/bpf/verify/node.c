/* Where paths meet: nodes, their order, and what becomes of a state that arrives; see walk.h.
 *
 * A state that arrives is first settled: registers that nobody will read are forgotten, and so are
 * ids that no location mentions. Then one of three things happens.
 *   - It lies within a node's state: an edge to that node is all that remains of the path. At a
 *     loop's head, a state that comes round the loop is compared only with widened nodes, whose
 *     ghosts let trips.c see progress.
 *   - It becomes a node.
 *   - The place has as many nodes as the gear allows: it is joined with one of them (at a loop's
 *     head: widened). A node not yet walked takes the join itself; a walked one gets a successor.
 */
#include "walk.h"

#include <stdlib.h>
#include <string.h>

enum {
    SOFT_WIDENS = 8,
    HARD_WIDENS = 16,
    MAX_JOINS = 64,
    MAX_GROUPS = 200, /* of nodes that are alike */
    JOIN_FLAGS = 8,   /* smaller constants are flags */
    ROUND_FLAGS = 2   /* ... in a loop, where small constants mostly count */
};

/* ---------------------------------------------------------------- growing arrays */

static bool grow(void **array, uint32_t *max, uint32_t n, size_t size)
{
    if (n < *max)
        return true;
    uint32_t wanted = *max == 0 ? 64 : 2 * *max;
    void *larger = realloc(*array, wanted * size);
    if (larger == NULL)
        return false;
    *array = larger;
    *max = wanted;
    return true;
}

/* ---------------------------------------------------------------- contexts and places */

uint32_t oko_walk_ctx(struct oko_walk *w, uint32_t parent, uint32_t call_pc, uint32_t func)
{
    for (uint32_t i = 0; i < w->n_ctxs; i++)
        if (w->ctx[i].parent == parent && w->ctx[i].call_pc == call_pc)
            return i;
    if (!grow((void **)&w->ctx, &w->max_ctxs, w->n_ctxs, sizeof(*w->ctx)))
        return OKO_CFG_NONE;
    uint32_t depth = parent == OKO_CFG_NONE ? 0 : w->ctx[parent].depth + 1;
    w->ctx[w->n_ctxs] = (struct oko_ctx){parent, call_pc, func, depth};
    return w->n_ctxs++;
}

static uint32_t hash(uint32_t ctx, uint32_t pc)
{
    return (ctx * 0x9e3779b1u) ^ (pc * 0x85ebca6bu);
}

static struct oko_place *find_place(struct oko_place *table, uint32_t max, uint32_t ctx,
                                    uint32_t pc)
{
    uint32_t at = hash(ctx, pc) & (max - 1);
    while (table[at].first != 0 && (table[at].ctx != ctx || table[at].pc != pc))
        at = (at + 1) & (max - 1);
    return &table[at];
}

/* The place of a pc; its `first` is 0 when it is new. NULL: no memory. */
static struct oko_place *place_of(struct oko_walk *w, uint32_t ctx, uint32_t pc)
{
    if (2 * (w->n_places + 1) > w->max_places) {
        uint32_t max = w->max_places == 0 ? 256 : 2 * w->max_places;
        struct oko_place *table = calloc(max, sizeof(*table));
        if (table == NULL)
            return NULL;
        for (uint32_t i = 0; i < w->max_places; i++)
            if (w->place[i].first != 0)
                *find_place(table, max, w->place[i].ctx, w->place[i].pc) = w->place[i];
        free(w->place);
        w->place = table;
        w->max_places = max;
    }
    struct oko_place *place = find_place(w->place, w->max_places, ctx, pc);
    place->ctx = ctx;
    place->pc = pc;
    return place;
}

/* ---------------------------------------------------------------- order of the walk */

/* Positions in program order of a node: of the calls that lead to it, then its own; that of a
 * loop's next round is behind the loop. */
static uint32_t path_of(const struct oko_walk *w, const struct oko_node *node,
                        uint32_t path[OKO_MAX_FRAMES])
{
    uint32_t n = w->ctx[node->ctx].depth, ctx = node->ctx;
    const struct oko_cfg_insn *insn = &w->cfg.insn[node->pc];
    path[n] = 2 * (node->round ? w->cfg.loop[insn->loop].last : insn->order) + node->round;
    for (uint32_t k = n; k-- > 0; ctx = w->ctx[ctx].parent)
        path[k] = 2 * w->cfg.insn[w->ctx[ctx].call_pc].order;
    return n + 1;
}

/* Calls in the same block are told apart by their instruction; the rest by age. */
static bool comes_before(const struct oko_walk *w, uint32_t a, uint32_t b)
{
    uint32_t pa[OKO_MAX_FRAMES], pb[OKO_MAX_FRAMES];
    uint32_t na = path_of(w, &w->node[a], pa), nb = path_of(w, &w->node[b], pb);
    for (uint32_t i = 0; i < na && i < nb; i++)
        if (pa[i] != pb[i])
            return pa[i] < pb[i];
    if (na != nb)
        return na > nb; /* finish the callee first */
    return a < b;
}

static bool push(struct oko_walk *w, uint32_t node)
{
    if (!grow((void **)&w->heap, &w->max_heap, w->n_heap, sizeof(*w->heap)))
        return false;
    uint32_t at = w->n_heap++;
    while (at > 0 && comes_before(w, node, w->heap[(at - 1) / 2])) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = node;
    return true;
}

static uint32_t pop(struct oko_walk *w)
{
    uint32_t top = w->heap[0], last = w->heap[--w->n_heap], at = 0;
    while (2 * at + 1 < w->n_heap) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < w->n_heap && comes_before(w, w->heap[child + 1], w->heap[child]))
            child++;
        if (!comes_before(w, w->heap[child], last))
            break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    w->heap[at] = last;
    return top;
}

/* ---------------------------------------------------------------- nodes and edges */

static bool add_edge(struct oko_walk *w, uint32_t to, uint32_t last_pc, bool back, uint32_t movers)
{
    if (!grow((void **)&w->edge, &w->max_edges, w->n_edges, sizeof(*w->edge)))
        return false;
    w->edge[w->n_edges++] = (struct oko_edge){.from = w->from,
                                              .to = to,
                                              .last_pc = last_pc,
                                              .back = back,
                                              .n_movers = (uint8_t)(w->n_movers - movers),
                                              .movers = movers,
                                              .weight = w->weight};
    return true;
}

static bool set_state(struct oko_walk *w, struct oko_node *node, const struct oko_state *st)
{
    struct oko_packed *packed = oko_state_pack(st);
    if (packed == NULL)
        return false;
    if (node->state != NULL)
        w->memory -= node->state->size;
    free(node->state);
    node->state = packed;
    w->memory += packed->size;
    return true;
}

/* A pending node with this state; 0: no memory. */
static uint32_t add_node(struct oko_walk *w, struct oko_place *place, const struct oko_state *st,
                         bool round)
{
    if (!grow((void **)&w->node, &w->max_nodes, w->n_nodes, sizeof(*w->node)))
        return 0;
    uint32_t index = w->n_nodes++;
    struct oko_node *node = &w->node[index];
    *node =
        (struct oko_node){.ctx = place->ctx, .pc = place->pc, .next = place->first, .round = round};
    if (!set_state(w, node, st) || !push(w, index))
        return 0;
    w->n_places += place->first == 0;
    place->first = index;
    place->n_nodes++;
    return index;
}

/* ---------------------------------------------------------------- movers */

static const struct oko_reg *at_location(struct oko_state *st, uint32_t frame, uint32_t where)
{
    if (where < 16)
        return &st->frame[frame].r[where];
    for (uint32_t i = 0; i < st->n_pieces; i++)
        if (st->piece[i].frame == frame && st->piece[i].pos == where - 16)
            return &st->piece[i].r;
    return NULL;
}

static int64_t clamp(oko_wide x)
{
    return x < INT64_MIN ? INT64_MIN : x > INT64_MAX ? INT64_MAX : (int64_t)x;
}

/* Compares a location with its ghost: has it moved for certain, within what bounds is it? The
 * forms must be the numbers themselves. */
static bool look_at_mover(struct oko_walk *w, const struct oko_ghost *ghost,
                          struct oko_mover *mover)
{
    struct oko_state *st = &w->cur;
    const struct oko_reg *r = at_location(st, ghost->frame, ghost->where);
    struct oko_form moved;
    if (r == NULL || r->type == OKO_REG_UNSET || r->type == OKO_REG_MAP ||
        !oko_form_add_exact(&moved, &r->f, -1, &ghost->f))
        return false;
    oko_wide lo = oko_rel_lower(&st->rel, &r->f, 2), hi = oko_rel_upper(&st->rel, &r->f, 2);
    oko_wide least = oko_rel_lower(&st->rel, &moved, 2), most = oko_rel_upper(&st->rel, &moved, 2);
    if (lo < INT64_MIN / 2 || hi > INT64_MAX / 2 || (least < 1 && most > -1))
        return false;
    mover->where = ghost->where;
    mover->down = least < 1;
    mover->step = clamp(mover->down ? -most : least);
    mover->lo = (int64_t)lo;
    mover->hi = (int64_t)hi;
    return true;
}

/* Coming round the loop: what moved goes to the mover list, the loop's ghosts go away. */
static bool come_round(struct oko_walk *w, uint32_t loop)
{
    struct oko_state *st = &w->cur;
    uint32_t n = 0, frame = st->n_frames - 1;
    for (uint32_t i = 0; i < st->n_ghosts; i++) {
        const struct oko_ghost *ghost = &st->ghost[i];
        if (ghost->loop != loop || ghost->frame != frame) {
            st->ghost[n++] = *ghost;
            continue;
        }
        if (!grow((void **)&w->mover, &w->max_movers, w->n_movers, sizeof(*w->mover)))
            return false;
        w->n_movers += look_at_mover(w, ghost, &w->mover[w->n_movers]);
    }
    st->n_ghosts = n;
    return true;
}

/* The locations that a widening gave new ids: they get ghosts when the node is walked. */
static void set_wheres(struct oko_walk *w, struct oko_node *node, const struct oko_node *old)
{
    uint8_t n = 0;
    uint32_t frame = w->joined.n_frames - 1;
    for (uint8_t i = 0; old != NULL && i < old->n_wheres; i++)
        node->where[n++] = old->where[i];
    for (uint32_t i = 0; i < w->joiner.n_pairs; i++) {
        const struct oko_pair *pair = &w->joiner.pair[i];
        bool known = pair->where == OKO_NOWHERE || pair->frame != frame;
        for (uint8_t k = 0; k < n && !known; k++)
            known = node->where[k] == pair->where;
        if (!known && n < OKO_NODE_WHERES)
            node->where[n++] = (uint16_t)pair->where;
    }
    node->n_wheres = n;
    node->widened = true;
}

/* ---------------------------------------------------------------- arriving */

struct arrival {
    struct oko_place *place;
    uint32_t last_pc, movers;
    bool back;
    uint16_t live[OKO_MAX_FRAMES];
};

/* What the loops around the place compare with. */
static void set_loop(struct oko_walk *w, uint32_t pc)
{
    struct oko_joiner *j = &w->joiner;
    j->n_exits = 0;
    j->loop = oko_cfg_outermost(&w->cfg, pc);
    for (uint32_t i = 0; i < w->n_exit_tests && j->n_exits < OKO_MAX_EXITS; i++) {
        const struct oko_exit_test *test = &w->exit_test[i];
        if (w->cfg.insn[test->pc].func == w->cfg.insn[pc].func &&
            oko_cfg_in_loop(&w->cfg, test->loop, pc))
            j->exit[j->n_exits++] = test->value;
    }
}

/* Joins the arrived state with a node's. */
static int merge(struct oko_walk *w, struct arrival *a, uint32_t into, enum oko_join_mode mode)
{
    if (!oko_state_unpack(&w->other, w->node[into].state))
        return oko_walk_no_memory(w);
    set_loop(w, a->place->pc);
    oko_state_join(&w->joiner, mode, &w->other, &w->cur, a->live, &w->joined);
    if (!oko_state_settle(&w->cfg, &w->joined, a->place->pc) || w->joiner.no_memory)
        return oko_walk_no_memory(w);
    uint32_t node = into;
    uint16_t n_joins = w->node[into].n_joins, n_rounds = w->node[into].n_rounds;
    uint16_t *counter = a->back ? &n_rounds : &n_joins;
    *counter = (uint16_t)(*counter + (*counter < UINT16_MAX));
    if (!w->node[into].walked) {
        if (!set_state(w, &w->node[into], &w->joined))
            return oko_walk_no_memory(w);
    } else {
        node = add_node(w, a->place, &w->joined, a->back);
        if (node == 0)
            return oko_walk_no_memory(w);
    }
    w->node[node].joined = true;
    w->node[node].n_joins = n_joins;
    w->node[node].n_rounds = n_rounds;
    if (a->back) {
        struct oko_node old = w->node[into];
        set_wheres(w, &w->node[node], old.widened ? &old : NULL);
    }
    return add_edge(w, node, a->last_pc, a->back, a->movers) ? 0 : oko_walk_no_memory(w);
}

/* The node to join with: the one with which the least is lost; among those a widened one if the
 * state comes round a loop, and the most similar. */
struct partner {
    uint32_t node; /* 0: none */
    uint32_t score;
    uint32_t n_same; /* nodes with which no type, ghost or flag would be lost */
};

/* Considers node n, whose state is in w->other. */
static void consider(struct oko_walk *w, const struct arrival *a, uint32_t n, struct partner *best)
{
    struct oko_likeness here =
        oko_state_compare(&w->other, &w->cur, a->back ? ROUND_FLAGS : JOIN_FLAGS, a->live);
    uint32_t score =
        10000 * here.lost + 100 * here.flags + 2 * here.values + (a->back && !w->node[n].widened);
    best->n_same += here.lost == 0 && here.flags == 0;
    if (best->node == 0 || score < best->score) {
        best->node = n;
        best->score = score;
    }
}

static enum oko_join_mode mode_of(const struct arrival *a, const struct oko_node *partner)
{
    uint32_t n = a->back ? partner->n_rounds : partner->n_joins;
    if (!a->back) /* plain joins settle when the heads around them have */
        return n <= MAX_JOINS ? OKO_JOIN : n <= 2 * MAX_JOINS ? OKO_WIDEN_MORE : OKO_WIDEN_MOST;
    return n <= SOFT_WIDENS ? OKO_WIDEN : n <= HARD_WIDENS ? OKO_WIDEN_MORE : OKO_WIDEN_MOST;
}

static int become_node(struct oko_walk *w, struct arrival *a)
{
    uint32_t node = add_node(w, a->place, &w->cur, a->back);
    if (node != 0)
        w->node[node].joined = w->node[w->from].joined;
    if (node == 0 || !add_edge(w, node, a->last_pc, a->back, a->movers))
        return oko_walk_no_memory(w);
    return 0;
}

int oko_walk_arrive(struct oko_walk *w, uint32_t pc, uint32_t last_pc)
{
    struct arrival a = {.last_pc = last_pc, .movers = w->n_movers};
    struct oko_state *st = &w->cur;
    uint32_t loop = w->cfg.insn[pc].loop;
    bool head = (w->cfg.insn[pc].flags & OKO_CFG_HEAD) != 0;
    a.back = head && last_pc != OKO_CFG_NONE && oko_cfg_in_loop(&w->cfg, loop, last_pc);
    if (a.back && !come_round(w, loop))
        return oko_walk_no_memory(w);
    if (!oko_state_settle(&w->cfg, st, pc))
        return oko_walk_no_memory(w);
    oko_live_registers(&w->cfg, st, pc, a.live);
    a.place = place_of(w, oko_state_top(st)->ctx, pc);
    if (a.place == NULL)
        return oko_walk_no_memory(w);

    uint32_t limit = a.back ? w->gear.max_rounds : w->gear.max_nodes;
    struct partner best = {0};
    bool full = a.place->n_nodes >= MAX_GROUPS * limit;
    for (uint32_t n = a.place->first; n != 0; n = w->node[n].next) {
        if (!oko_state_unpack(&w->other, w->node[n].state))
            return oko_walk_no_memory(w);
        /* A node with other ghosts would hide the outer loops' progress. */
        bool within = (w->node[n].widened || !a.back) &&
                      (w->other.n_ghosts == st->n_ghosts || full) &&
                      oko_state_within(&w->joiner, &w->other, st, a.live);
        int status = oko_walk_charge(w, 1 + w->joiner.work);
        w->joiner.work = 0;
        if (status != 0)
            return status;
        if (within)
            return add_edge(w, n, last_pc, a.back, a.movers) ? 0 : oko_walk_no_memory(w);
        consider(w, &a, n, &best);
    }
    if (w->joiner.no_memory || st->no_memory)
        return oko_walk_no_memory(w);
    w->exhausted = w->memory > w->max_memory;
    if (w->exhausted)
        return oko_refuse_at(w, pc, "split the program, or simplify its branches",
                             "the program is too complex: verifying it takes more than %llu MiB",
                             (unsigned long long)(w->max_memory >> 20));
    if (best.node == 0 || (best.n_same < limit && !full))
        return become_node(w, &a);
    return merge(w, &a, best.node, mode_of(&a, &w->node[best.node]));
}

int oko_walk_finish(struct oko_walk *w)
{
    return add_edge(w, OKO_NODE_EXIT, w->pc, false, w->n_movers) ? 0 : oko_walk_no_memory(w);
}

/* ---------------------------------------------------------------- taking */

int oko_walk_take(struct oko_walk *w, uint32_t *node)
{
    *node = 0;
    if (w->n_heap == 0)
        return 0;
    uint32_t index = pop(w);
    struct oko_node *n = &w->node[index];
    n->walked = true;
    if (!oko_state_unpack(&w->cur, n->state))
        return oko_walk_no_memory(w);
    uint32_t frame = w->cur.n_frames - 1;
    for (uint8_t i = 0; i < n->n_wheres && w->cur.n_ghosts < OKO_MAX_GHOSTS; i++) {
        const struct oko_reg *r = at_location(&w->cur, frame, n->where[i]);
        if (r == NULL || r->type == OKO_REG_UNSET || r->type == OKO_REG_MAP)
            continue;
        w->cur.ghost[w->cur.n_ghosts++] =
            (struct oko_ghost){w->cfg.insn[n->pc].loop, (uint16_t)frame, n->where[i], r->f};
    }
    w->from = index;
    w->weight = 0;
    *node = index;
    return 0;
}

void oko_walk_clear(struct oko_walk *w)
{
    for (uint32_t i = 0; i < w->n_nodes; i++)
        free(w->node[i].state);
    w->n_nodes = w->n_edges = w->n_movers = w->n_heap = w->n_places = w->n_ctxs = 0;
    if (w->place != NULL)
        memset(w->place, 0, w->max_places * sizeof(*w->place));
    w->memory = 0;
}
