/* The walk: abstract execution of all paths of a program.
 *
 * How it goes. Nodes are abstract states at places where paths meet (cfg.h: JOIN), told apart by
 * the chain of calls. The walk takes the pending node that comes first in program order, executes
 * from there (both ways at a branch that may go both ways) until each path meets a place of nodes
 * again, and hands the state over there (node.c): it lies within a state that has been walked, and
 * is done; or it becomes a new pending node; or, when a place has many, it is joined with another.
 * Because of the order, all paths that can arrive have arrived before a join is walked, a loop is
 * finished before what follows it, and one round of it, with all loops in it, before the next.
 *
 * Termination of the program is a property of the graph of nodes (trips.c): without cycles its
 * longest path is the worst case; each cycle needs a location that a loop drives towards a bound.
 *
 * Gears. The first run joins and widens early, which accepts most programs in milliseconds; if it
 * refuses, a second and third keep more states apart and walk loops round by round.
 *
 * Bounds. Work is counted in units of about one instruction executed abstractly, memory in bytes of
 * kept states; both have limits, so that what is accepted does not depend on the machine's load. */
#ifndef OKO_VERIFY_WALK_H
#define OKO_VERIFY_WALK_H

#include "cfg.h"
#include "join.h"

enum { OKO_NODE_WHERES = 12, OKO_NODE_EXIT = 0 };

/* A chain of calls: function `func` called from instruction call_pc in context parent. */
struct oko_ctx {
    uint32_t parent, call_pc, func, depth;
};

struct oko_node {
    struct oko_packed *state; /* NULL once walked and no longer compared with */
    uint32_t ctx, pc;
    uint32_t next; /* in its place's list; 0 ends */
    bool walked;
    bool round;        /* came round a loop: is walked after the loop's other nodes */
    bool widened;      /* a loop's head with ghosts */
    bool joined;       /* its state, or one before it, is more than one path's */
    uint16_t n_joins;  /* merges that led to its state: of paths that come from elsewhere, */
    uint16_t n_rounds; /* ... and of paths that come round the loop */
    uint8_t n_wheres;
    uint16_t where[OKO_NODE_WHERES]; /* locations that get ghosts when it is walked */
};

/* A location that moved in one direction since the path last passed the loop's head. */
struct oko_mover {
    uint16_t where;
    bool down;
    int64_t step;   /* at least so far */
    int64_t lo, hi; /* where it is now */
};

struct oko_edge {
    uint32_t from, to; /* nodes */
    uint32_t last_pc;  /* the last instruction before `to` */
    bool back;         /* a back edge of the loop at `to` */
    bool cut;          /* the graph without these has no cycle; trips.c */
    uint8_t n_movers;
    uint32_t movers; /* index of the first */
    uint64_t weight; /* instructions on the way, helpers by their weight */
};

/* A test that may leave a loop, for equality with a constant. */
struct oko_exit_test {
    uint32_t pc, loop;
    int64_t value;
};

/* A place: a pc in a context, with its nodes. */
struct oko_place {
    uint32_t ctx, pc;
    uint32_t first; /* node; 0: none */
    uint32_t n_nodes;
};

struct oko_gear {
    uint32_t max_nodes;  /* states kept apart at a join */
    uint32_t max_rounds; /* of a loop before it is widened */
};

struct oko_gather;
struct oko_check_states;

struct oko_walk {
    const struct oko_prog_spec *spec;
    const struct oko_load_opts *opts;
    struct oko_error *error;
    struct oko_cfg cfg;
    struct oko_gather *gather; /* facts so far */
    struct oko_check_states *states;
    struct oko_map_class *map; /* [spec->n_maps] */

    struct oko_exit_test *exit_test;
    uint32_t n_exit_tests;

    struct oko_state cur, other, joined;
    struct oko_joiner joiner;
    uint32_t next_id;
    struct oko_gear gear;

    struct oko_ctx *ctx;
    uint32_t n_ctxs, max_ctxs;
    struct oko_node *node; /* [0]: the end of the program */
    uint32_t n_nodes, max_nodes;
    struct oko_edge *edge;
    uint32_t n_edges, max_edges;
    struct oko_mover *mover;
    uint32_t n_movers, max_movers;
    struct oko_place *place; /* hash table, open addressing */
    uint32_t n_places, max_places;
    uint32_t *heap; /* pending nodes */
    uint32_t n_heap, max_heap;

    uint32_t pc;     /* being executed */
    uint32_t from;   /* node where the path at hand began */
    uint64_t weight; /* of the path since then */
    uint64_t work, budget, memory, max_memory;
    uint64_t straight, round; /* trips.c: most that a run costs without back edges; behind each */
    int64_t fuel;             /* guarded: back edges that a run may come to */
    bool walking;             /* a path is at hand: it is what is refused */
    bool exhausted;           /* the refusal is about work or memory */
};

/* settle.c: forgets what no longer matters at pc; false: no memory. */
bool oko_state_settle(const struct oko_cfg *cfg, struct oko_state *st, uint32_t pc);
/* Registers of each frame that may still be read when the top one goes on at pc. */
void oko_live_registers(const struct oko_cfg *cfg, const struct oko_state *st, uint32_t pc,
                        uint16_t live[OKO_MAX_FRAMES]);

/* node.c: where paths meet. */
int oko_walk_arrive(struct oko_walk *w, uint32_t pc, uint32_t last_pc);
int oko_walk_finish(struct oko_walk *w);               /* the path at hand ends the program */
int oko_walk_take(struct oko_walk *w, uint32_t *node); /* next pending node into cur; 0: none */
void oko_walk_clear(struct oko_walk *w);               /* forgets nodes, for the next gear */
uint32_t oko_walk_ctx(struct oko_walk *w, uint32_t parent, uint32_t call_pc, uint32_t func);

/* trips.c: the longest path, or a refusal of a loop without end; w->straight and round. */
int oko_walk_worst_case(struct oko_walk *w, uint64_t *worst);

/* step.c: one instruction on w->cur. *next: where to go on; *branch: another place to go on with
 * the state left in w->other, or OKO_CFG_NONE. OKO_CFG_NONE as *next: the path ends here. */
int oko_walk_step(struct oko_walk *w, uint32_t *next, uint32_t *branch);
/* branch.c */
int oko_walk_branch(struct oko_walk *w, uint32_t *next, uint32_t *branch);
/* invoke.c */
int oko_walk_call(struct oko_walk *w, uint32_t *next);
int oko_walk_exit(struct oko_walk *w, uint32_t *next);
/* access.c */
enum oko_access { OKO_READ, OKO_WRITE, OKO_UPDATE /* atomic */ };
int oko_walk_load(struct oko_walk *w);
int oko_walk_store(struct oko_walk *w);
int oko_walk_atomic(struct oko_walk *w);
int oko_walk_packet_load(struct oko_walk *w);
/* A helper reads `size` bytes (a register or, if NULL, n_bytes) at a pointer. */
int oko_walk_readable(struct oko_walk *w, unsigned arg, const struct oko_reg *size,
                      uint32_t n_bytes, const char *what);

/* explain.c: refusals. */
int oko_refuse(struct oko_walk *w, const char *hint, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* About another instruction than the one at hand. */
int oko_refuse_at(struct oko_walk *w, uint32_t pc, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int oko_walk_no_memory(struct oko_walk *w);
int oko_walk_charge(struct oko_walk *w, uint64_t work);
/* "an address in the packet" */
const char *oko_reg_describe(const struct oko_reg *r);
/* "r1 has not been set"; name: "r1". 0 when the register holds something. */
int oko_need_set(struct oko_walk *w, unsigned reg);

/* gather.c: facts from all visits of an instruction. */
int oko_gather_new(struct oko_walk *w);
void oko_gather_free(struct oko_gather *g);
void oko_gather_reset(struct oko_walk *w);
void oko_gather_visit(struct oko_walk *w);               /* before the instruction */
void oko_gather_result(struct oko_walk *w, uint32_t pc); /* after it */
void oko_gather_divisor(struct oko_walk *w, bool nonzero);
void oko_gather_branch(struct oko_walk *w, bool taken, bool not_taken, bool null_test);
void oko_gather_guard(struct oko_walk *w, uint8_t guard, int16_t map);
void oko_gather_object(struct oko_walk *w, const struct oko_reg *base); /* which is accessed */
int oko_gather_check(struct oko_walk *w); /* refuses what cannot be guarded, at the end */
void oko_gather_fuel(struct oko_walk *w, uint32_t pc);
void oko_gather_call(struct oko_walk *w, int16_t map, bool index_ok, bool index_const,
                     uint64_t index);
void oko_gather_stack(struct oko_walk *w, uint32_t frame, uint32_t lowest);
void oko_gather_stateful(struct oko_walk *w);
void oko_gather_meta(struct oko_walk *w);
int oko_gather_finish(struct oko_walk *w, struct oko_facts *facts, uint64_t worst);
uint8_t oko_gather_guard_of(const struct oko_walk *w, uint32_t pc, int16_t *map);

/* check.c: abstract states kept for OKO_RUN_CHECKED. */
int oko_check_record(struct oko_walk *w);

static inline bool oko_walk_guarded(const struct oko_walk *w)
{
    return (w->opts->flags & OKO_LOAD_GUARDED) != 0;
}
static inline struct oko_reg *oko_walk_reg(struct oko_walk *w, unsigned reg)
{
    return &oko_state_top(&w->cur)->r[reg];
}

#endif
