/* How long a program may run: the longest path through the graph of nodes; see walk.h.
 *
 * An edge stands for the instructions that were walked between two nodes; every run of the program
 * is a path. Without cycles the longest path is the worst case, loops that were walked round by
 * round included. A cycle comes from a loop whose states settled. Take a strongly connected
 * component and the outermost loop in it: each way round must pass a back edge to its head, and
 * the edges say what moved there (node.c). If one location moves in the same direction on each of
 * them, by at least `step`, and stays within [lo, hi], then a run comes round at most
 * (hi - lo) / step + 1 times. So the component costs at most that, plus one, times the longest path
 * through it without these edges; in which inner loops are smaller components, and so on inward.
 *
 * Level by level: components of the graph, then of what remains without the back edges found, until
 * no cycle is left; costs are then computed from the innermost level outward. */
#include "walk.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LEVELS = 48 };

struct graph {
    struct oko_walk *w;
    uint32_t n_nodes, n_edges;
    uint32_t *first, *out;          /* edges by source: out[first[n] .. first[n + 1]) */
    uint8_t *level;                 /* of an edge: the last level at which it is there */
    uint32_t *comp[MAX_LEVELS + 1]; /* component of each node */
    uint32_t n_comps[MAX_LEVELS + 1];
    uint64_t *trips[MAX_LEVELS + 1]; /* of a component: times that its head is come to again */
    uint32_t n_levels;
    uint32_t *index, *low, *stack, *calls, *at; /* scratch of components() */
    uint64_t *dist;
    bool fuel; /* some cycle is counted at run time */
};

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* ---------------------------------------------------------------- components */

/* Tarjan's algorithm, with its own stack. Components are numbered so that edges between them go
 * from larger to smaller numbers. */
static void components(struct graph *g, uint32_t level)
{
    uint32_t *comp = g->comp[level], n_index = 0, n_stack = 0, n_comps = 0;
    memset(g->index, 0, g->n_nodes * sizeof(*g->index));
    memset(comp, 0xff, g->n_nodes * sizeof(*comp));
    for (uint32_t root = 0; root < g->n_nodes; root++) {
        uint32_t depth = 0;
        if (g->index[root] != 0)
            continue;
        g->calls[depth++] = root;
        g->index[root] = g->low[root] = ++n_index;
        g->stack[n_stack++] = root;
        g->at[root] = g->first[root];
        while (depth > 0) {
            uint32_t v = g->calls[depth - 1];
            if (g->at[v] < g->first[v + 1]) {
                uint32_t e = g->out[g->at[v]++], to = g->w->edge[e].to;
                if (g->level[e] < level)
                    continue;
                if (g->index[to] == 0) {
                    g->index[to] = g->low[to] = ++n_index;
                    g->stack[n_stack++] = to;
                    g->at[to] = g->first[to];
                    g->calls[depth++] = to;
                } else if (comp[to] == UINT32_MAX && g->index[to] < g->low[v]) {
                    g->low[v] = g->index[to];
                }
                continue;
            }
            depth--;
            if (depth > 0 && g->low[v] < g->low[g->calls[depth - 1]])
                g->low[g->calls[depth - 1]] = g->low[v];
            if (g->low[v] != g->index[v])
                continue;
            uint32_t member;
            do {
                member = g->stack[--n_stack];
                comp[member] = n_comps;
            } while (member != v);
            n_comps++;
        }
    }
    g->n_comps[level] = n_comps;
}

/* ---------------------------------------------------------------- heads and their trips */

static bool inside(const struct graph *g, uint32_t level, const struct oko_edge *edge)
{
    return g->comp[level][edge->from] == g->comp[level][edge->to];
}

/* Whether node a's place encloses b's: fewer calls deep, or earlier in the program. */
static bool encloses(const struct oko_walk *w, uint32_t a, uint32_t b)
{
    uint32_t da = w->ctx[w->node[a].ctx].depth, db = w->ctx[w->node[b].ctx].depth;
    if (da != db)
        return da < db;
    return w->cfg.insn[w->node[a].pc].order < w->cfg.insn[w->node[b].pc].order;
}

/* The bounds of one location that moves on all the edges into a component's head. */
struct trend {
    uint16_t where;
    bool down, dead;
    int64_t step, lo, hi;
};

struct head {
    uint32_t node; /* one of the place's; OKO_CFG_NONE: the component has no cycle */
    uint32_t edge; /* the first back edge */
    bool seen;
    uint32_t n_trends;
    struct trend trend[OKO_NODE_WHERES + OKO_MAX_GHOSTS];
};

static void start_trends(struct head *head, const struct oko_walk *w, const struct oko_edge *edge)
{
    head->seen = true;
    for (uint32_t i = 0; i < edge->n_movers && i < OKO_NODE_WHERES; i++) {
        const struct oko_mover *m = &w->mover[edge->movers + i];
        head->trend[head->n_trends++] =
            (struct trend){m->where, m->down, false, m->step, m->lo, m->hi};
    }
}

static void narrow_trends(struct head *head, const struct oko_walk *w, const struct oko_edge *edge)
{
    for (uint32_t t = 0; t < head->n_trends; t++) {
        struct trend *trend = &head->trend[t];
        const struct oko_mover *m = NULL;
        for (uint32_t i = 0; i < edge->n_movers && m == NULL; i++)
            if (w->mover[edge->movers + i].where == trend->where)
                m = &w->mover[edge->movers + i];
        if (m == NULL || m->down != trend->down) {
            trend->dead = true;
            continue;
        }
        trend->step = m->step < trend->step ? m->step : trend->step;
        trend->lo = m->lo < trend->lo ? m->lo : trend->lo;
        trend->hi = m->hi > trend->hi ? m->hi : trend->hi;
    }
}

/* How often a run may come to the head again, by the best trend; UINT64_MAX: no trend. */
static uint64_t trips_of(const struct head *head)
{
    uint64_t best = UINT64_MAX;
    for (uint32_t t = 0; t < head->n_trends; t++) {
        const struct trend *trend = &head->trend[t];
        if (trend->dead)
            continue;
        uint64_t trips =
            trend->hi < trend->lo
                ? 1
                : ((uint64_t)trend->hi - (uint64_t)trend->lo) / (uint64_t)trend->step + 1;
        best = trips < best ? trips : best;
    }
    return best;
}

static int no_progress(struct graph *g, const struct oko_edge *edge)
{
    struct oko_walk *w = g->w;
    return oko_refuse_at(w, edge->last_pc,
                         "count up (or down) by a constant to a bound that the loop tests, e.g. "
                         "for (i = 0; i < 64; i++), and do not change the counter elsewhere",
                         "the loop from here back to instruction %" PRIu32
                         " may never end: nothing moves towards a bound in every round",
                         w->node[edge->to].pc);
}

/* Finds the head of each component that has a cycle and takes its back edges away. *cycles tells
 * whether there was one. */
static int cut_cycles(struct graph *g, uint32_t level, bool *cycles)
{
    struct oko_walk *w = g->w;
    uint32_t n = g->n_comps[level];
    struct head *head = calloc(n, sizeof(*head));
    *cycles = false;
    if (head == NULL)
        return oko_walk_no_memory(w);
    for (uint32_t c = 0; c < n; c++)
        head[c].node = OKO_CFG_NONE;
    for (uint32_t e = 0; e < g->n_edges; e++) {
        const struct oko_edge *edge = &w->edge[e];
        struct head *h = &head[g->comp[level][edge->to]];
        if (g->level[e] < level || !inside(g, level, edge))
            continue;
        *cycles = true;
        if (edge->back && (h->node == OKO_CFG_NONE || encloses(w, edge->to, h->node)))
            h->node = edge->to, h->edge = e;
    }
    int status = 0;
    for (uint32_t e = 0; e < g->n_edges; e++) {
        const struct oko_edge *edge = &w->edge[e];
        struct head *h = &head[g->comp[level][edge->to]];
        if (g->level[e] < level || !inside(g, level, edge))
            continue;
        if (h->node == OKO_CFG_NONE) { /* cannot be: a cycle passes a loop's head */
            status = no_progress(g, edge);
            break;
        }
        if (!edge->back || w->node[edge->to].pc != w->node[h->node].pc ||
            w->node[edge->to].ctx != w->node[h->node].ctx)
            continue;
        g->level[e] = (uint8_t)level;
        if (h->seen)
            narrow_trends(h, w, edge);
        else
            start_trends(h, w, edge);
    }
    for (uint32_t c = 0; c < n && status == 0; c++) {
        g->trips[level][c] = head[c].seen ? trips_of(&head[c]) : 0;
        if (g->trips[level][c] != UINT64_MAX)
            continue;
        if (!oko_walk_guarded(w)) {
            status = no_progress(g, &w->edge[head[c].edge]);
            break;
        }
        g->fuel = true;
        g->trips[level][c] = 0;
    }
    free(head);
    return status;
}

/* ---------------------------------------------------------------- costs */

/* dist of a component of the level: the longest path to its end from anywhere in the same component
 * of the level above (or, at the first level, in the graph). */
static void longest_paths(struct graph *g, uint32_t level, const uint64_t *cost)
{
    const struct oko_walk *w = g->w;
    uint32_t n = g->n_comps[level];
    /* Nodes by component, in topological order: counting sort into stack. */
    uint32_t *start = g->index;
    memset(start, 0, g->n_nodes * sizeof(*start));
    for (uint32_t v = 0; v < g->n_nodes; v++)
        start[n - 1 - g->comp[level][v]]++;
    for (uint32_t c = 0, sum = 0; c < n; c++) {
        uint32_t size = start[c];
        start[c] = sum;
        sum += size;
    }
    for (uint32_t v = 0; v < g->n_nodes; v++)
        g->stack[start[n - 1 - g->comp[level][v]]++] = v;
    memset(g->dist, 0, n * sizeof(*g->dist));
    uint32_t entered = UINT32_MAX;
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        uint32_t v = g->stack[k], c = g->comp[level][v];
        if (c != entered) { /* all edges into it have been seen */
            g->dist[c] = add(g->dist[c], cost[c]);
            entered = c;
        }
        for (uint32_t i = g->first[v]; i < g->first[v + 1]; i++) {
            const struct oko_edge *edge = &w->edge[g->out[i]];
            uint32_t to = g->comp[level][edge->to];
            if (g->level[g->out[i]] < level || to == c ||
                (level > 0 && !inside(g, level - 1, edge)))
                continue;
            uint64_t d = add(g->dist[c], edge->weight);
            if (d > g->dist[to])
                g->dist[to] = d;
        }
    }
}

/* Costs of the components of a level, from the longest paths of the level below it: a run that
 * comes to the head `trips` times ends with a path and before that takes as many ways round. */
static void component_costs(struct graph *g, uint32_t level, uint64_t *cost, uint64_t *round)
{
    const struct oko_walk *w = g->w;
    memset(cost, 0, g->n_nodes * sizeof(*cost));
    memset(round, 0, g->n_nodes * sizeof(*round));
    for (uint32_t v = 0; v < g->n_nodes; v++) {
        uint64_t d = g->dist[g->comp[level + 1][v]];
        uint32_t c = g->comp[level][v];
        cost[c] = d > cost[c] ? d : cost[c];
    }
    for (uint32_t e = 0; e < g->n_edges; e++) {
        const struct oko_edge *edge = &w->edge[e];
        uint32_t c = g->comp[level][edge->to];
        if (g->level[e] != level || !inside(g, level, edge))
            continue;
        uint64_t d = add(g->dist[g->comp[level + 1][edge->from]], edge->weight);
        round[c] = d > round[c] ? d : round[c];
    }
    for (uint32_t c = 0; c < g->n_comps[level]; c++)
        cost[c] = add(cost[c], multiply(g->trips[level][c], round[c]));
}

static int costs(struct graph *g, uint64_t *worst)
{
    uint64_t *cost = calloc(g->n_nodes, sizeof(*cost)), *round = calloc(g->n_nodes, sizeof(*round));
    *worst = 0;
    if (cost == NULL || round == NULL) {
        free(cost);
        free(round);
        return oko_walk_no_memory(g->w);
    }
    longest_paths(g, g->n_levels, cost);
    for (uint32_t level = g->n_levels; level-- > 0;) {
        component_costs(g, level, cost, round);
        longest_paths(g, level, cost);
    }
    for (uint32_t c = 0; c < g->n_comps[0]; c++)
        *worst = g->dist[c] > *worst ? g->dist[c] : *worst;
    free(cost);
    free(round);
    return 0;
}

/* The most that a run can cost up to the first back edge that is cut, or between two of them or
 * behind the last (from_heads): what remains of the graph without these has no cycle. */
static uint64_t longest_segment(struct graph *g, bool from_heads)
{
    const struct oko_walk *w = g->w;
    uint64_t longest = 0;
    uint32_t n = g->n_comps[g->n_levels], *order = g->index, *starts = g->low;
    for (uint32_t v = 0; v < g->n_nodes; v++) { /* a component each */
        order[n - 1 - g->comp[g->n_levels][v]] = v;
        starts[v] = !from_heads;
    }
    for (uint32_t e = 0; e < g->n_edges; e++)
        starts[w->edge[e].to] |= w->edge[e].cut;
    memset(g->dist, 0, g->n_nodes * sizeof(*g->dist));
    for (uint32_t k = 0; k < n; k++) {
        uint32_t v = order[k];
        for (uint32_t i = g->first[v]; i < g->first[v + 1] && starts[v] != 0; i++) {
            const struct oko_edge *edge = &w->edge[g->out[i]];
            uint64_t d = add(g->dist[v], edge->weight);
            longest = d > longest ? d : longest;
            if (edge->cut)
                continue;
            starts[edge->to] = 1; /* a segment leads here */
            g->dist[edge->to] = d > g->dist[edge->to] ? d : g->dist[edge->to];
        }
    }
    return longest;
}

/* ---------------------------------------------------------------- all */

static bool make_graph(struct graph *g)
{
    const struct oko_walk *w = g->w;
    size_t n = g->n_nodes + 1;
    g->first = calloc(n + 1, sizeof(*g->first));
    g->out = calloc(g->n_edges + 1, sizeof(*g->out));
    g->level = malloc(g->n_edges + 1);
    g->index = calloc(n, sizeof(*g->index));
    g->low = calloc(n, sizeof(*g->low));
    g->stack = calloc(n, sizeof(*g->stack));
    g->calls = calloc(n, sizeof(*g->calls));
    g->at = calloc(n, sizeof(*g->at));
    g->dist = calloc(n, sizeof(*g->dist));
    if (g->first == NULL || g->out == NULL || g->level == NULL || g->index == NULL ||
        g->low == NULL || g->stack == NULL || g->calls == NULL || g->at == NULL || g->dist == NULL)
        return false;
    memset(g->level, 0xff, g->n_edges + 1);
    for (uint32_t e = 0; e < g->n_edges; e++)
        g->first[w->edge[e].from + 2]++;
    for (uint32_t v = 0; v < g->n_nodes; v++)
        g->first[v + 1] += g->first[v];
    for (uint32_t e = 0; e < g->n_edges; e++)
        g->out[g->first[w->edge[e].from + 1]++] = e;
    return true;
}

static void free_graph(struct graph *g)
{
    free(g->first);
    free(g->out);
    free(g->level);
    free(g->index);
    free(g->low);
    free(g->stack);
    free(g->calls);
    free(g->at);
    free(g->dist);
    for (uint32_t i = 0; i <= MAX_LEVELS; i++) {
        free(g->comp[i]);
        free(g->trips[i]);
    }
}

static int find_levels(struct graph *g)
{
    struct oko_walk *w = g->w;
    for (uint32_t level = 0;; level++) {
        bool cycles;
        if (level > MAX_LEVELS)
            return oko_refuse_at(w, 0, "make one loop of several, or place them side by side",
                                 "loops are nested more than %d deep", MAX_LEVELS);
        g->comp[level] = calloc(g->n_nodes, sizeof(*g->comp[0]));
        g->trips[level] = calloc(g->n_nodes, sizeof(*g->trips[0]));
        if (g->comp[level] == NULL || g->trips[level] == NULL)
            return oko_walk_no_memory(w);
        components(g, level);
        int status = oko_walk_charge(w, g->n_edges / 16);
        if (status == 0)
            status = cut_cycles(g, level, &cycles);
        if (status != 0)
            return status;
        g->n_levels = level;
        if (!cycles)
            return 0;
    }
}

int oko_walk_worst_case(struct oko_walk *w, uint64_t *worst)
{
    struct graph g = {.w = w, .n_nodes = w->n_nodes, .n_edges = w->n_edges};
    int status = make_graph(&g) ? find_levels(&g) : oko_walk_no_memory(w);
    if (status == 0)
        status = costs(&g, worst);
    if (g.fuel)
        *worst = UINT64_MAX;
    for (uint32_t e = 0; status == 0 && e < g.n_edges; e++)
        w->edge[e].cut = g.level[e] != UINT8_MAX;
    if (status == 0) {
        w->straight = longest_segment(&g, false);
        w->round = longest_segment(&g, true);
    }
    free_graph(&g);
    return status;
}
