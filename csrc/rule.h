/* A flow as the datapath holds it: match, visibility, instructions, counters.
 *
 * Idea. A rule never changes what it matches or does; a modification makes a new rule that shares
 * the old one's statistics and place. When it is visible is two numbers: the version from which on,
 * and the version from which on no longer. A commit inserts rules that nobody sees yet, marks those
 * that go, and publishes one number (view.h); so a bundle shows whole, and costs what it changes.
 *
 * Rank orders rules that fit the same packet, smaller first: priority, then filter before none,
 * then age (design, section 5). It is one integer, so that "can anything still beat this?" is one
 * comparison.
 *
 * Layout: what every lookup and every hit reads is one cache line, with keys of up to three words
 * (an IPv4 5-tuple) inside it.
 *
 * Thread-safety: forwarding threads read; the fields marked atomic change under the datapath's
 * mutex, read with relaxed loads. Freed through gc.h: unlinked after one grace period, freed after
 * the next. */
#ifndef OKO_RULE_H
#define OKO_RULE_H

#include "base/atomic.h"
#include "gc.h"
#include "parse.h"

/* ---------------------------------------------------------------- statistics of a flow */

/* Written by one worker, read by all. */
struct oko_flow_counter {
    uint64_t packets;
    uint64_t bytes;
    uint64_t used_ns; /* rx_ns of the last packet; 0 = never */
    uint64_t pad;
};

/* Shared by the rules that were one flow's successive forms. */
struct oko_flow_stats {
    uint32_t refs; /* under the datapath's mutex */
    uint32_t n_workers;
    uint32_t shift; /* worker i's counter is slot i << shift */
    uint32_t reserved;
    uint64_t maps_ns; /* atomic: when send_maps is due again */
    uint64_t pad;
    /* With several workers each has a cache line of its own: the header and the first counter fill
     * one, then every second slot is used. */
    struct oko_flow_counter slot[];
};

_Static_assert(sizeof(struct oko_flow_counter) == 32, "two to a cache line");
_Static_assert(offsetof(struct oko_flow_stats, slot) == 32, "header and first counter fill a line");

struct oko_flow_stats *oko_flow_stats_new(uint32_t n_workers);
void oko_flow_stats_unref(struct oko_flow_stats *stats);
void oko_flow_stats_sum(const struct oko_flow_stats *stats, uint64_t *packets, uint64_t *bytes,
                        uint64_t *used_ns);
uint64_t oko_flow_stats_used(const struct oko_flow_stats *stats);

/* Where a worker counts, without reading what is there. */
static inline const struct oko_flow_counter *oko_flow_counter(const struct oko_flow_stats *stats,
                                                              uint32_t worker, uint32_t n_workers)
{
    return &stats->slot[worker << (n_workers > 1)];
}

/* Does not read the header: the first worker writes to its cache line all the time. */
static inline void oko_flow_count(struct oko_flow_stats *stats, uint32_t worker, uint32_t n_workers,
                                  uint64_t packets, uint64_t bytes, uint64_t ns)
{
    struct oko_flow_counter *counter = &stats->slot[worker << (n_workers > 1)];
    oko_count(&counter->packets, packets);
    oko_count(&counter->bytes, bytes);
    if (ns > OKO_LOAD(&counter->used_ns)) /* packets of a burst may be counted out of order */
        OKO_STORE(&counter->used_ns, ns);
}

/* ---------------------------------------------------------------- match */

/* A match as key and mask; bits outside the mask are zero in the key. */
struct oko_match {
    struct oko_key key;
    struct oko_key mask;
};

/* From a list of fields. OKO_E_INVAL with the reason: unknown field, a bit outside mask or width,
 * fields that contradict each other. */
int oko_match_from(struct oko_match *match, const struct oko_match_field *fields, uint32_t n,
                   struct oko_error *error);

/* ---------------------------------------------------------------- instructions */

/* What a string of instructions or actions does, found once when it is checked. */
struct oko_ops_facts {
    enum oko_layers layers; /* how deep it looks into the frame */
    uint32_t flags;         /* enum oko_ops_flag */
    uint32_t out_port;      /* OKO_OPS_OUTPUT: the port; OKO_OPS_GOTO: the table */
};

enum oko_ops_flag {
    OKO_OPS_DROP = 1,     /* nothing at all */
    OKO_OPS_OUTPUT = 2,   /* just one output to an ordinary port */
    OKO_OPS_CHANGES = 4,  /* learn: changes tables */
    OKO_OPS_RESTART = 8,  /* resubmits to table 0 (or the current one) */
    OKO_OPS_REFERS = 16,  /* names groups or meters */
    OKO_OPS_FORGETS = 32, /* learn with delete_learned */
    OKO_OPS_NORMAL = 64,  /* just one output to NORMAL */
    OKO_OPS_GOTO = 128,   /* just a goto */
    OKO_OPS_SOFT = 256    /* names dimensions of conjunctions, and does nothing */
};

enum oko_ops_kind { OKO_OPS_INSTRUCTIONS, OKO_OPS_ACTIONS, OKO_OPS_ACTION_SET };

/* Checks structure and arguments. table: of the flow (goto must go up), 0 for buckets. */
int oko_ops_check(const uint8_t *ops, uint32_t len, enum oko_ops_kind kind, uint32_t table,
                  struct oko_ops_facts *facts, struct oko_error *error);

static inline const struct oko_op_head *oko_op(const uint8_t *at)
{
    return (const struct oko_op_head *)(const void *)at;
}

static inline const uint8_t *oko_op_payload(const struct oko_op_head *op)
{
    return (const uint8_t *)(op + 1);
}

/* Calls fn for each item, lists inside lists too; stops when it returns true, and returns that. */
bool oko_ops_walk(const uint8_t *ops, uint32_t len,
                  bool (*fn)(const struct oko_op_head *op, void *ctx), void *ctx);

/* ---------------------------------------------------------------- rule */

enum oko_rule_flag {
    OKO_RULE_DROP = 1,    /* as OKO_OPS_DROP */
    OKO_RULE_OUTPUT = 2,  /* as OKO_OPS_OUTPUT, to out_port */
    OKO_RULE_TIMED = 4,   /* has a timeout */
    OKO_RULE_SOFT = 8,    /* as OKO_OPS_SOFT */
    OKO_RULE_NORMAL = 64, /* as OKO_OPS_NORMAL */
    OKO_RULE_GOTO = 128   /* as OKO_OPS_GOTO, to table out_port */
};

#define OKO_NEVER UINT64_MAX

struct oko_subtable; /* cls.h */

struct oko_rule {
    struct oko_gc gc;
    struct oko_rule *next;         /* the same match, next in rank; atomic */
    struct oko_subtable *subtable; /* cls.h; NULL while not inserted */
    const uint8_t *ops;            /* 8-byte aligned, checked */
    const uint8_t *match;          /* the fields as given, packed: oko_rule_match() */
    uint64_t id;                   /* of the flow, kept by modifications */
    uint64_t cookie;
    uint64_t created_ns;   /* 0 = before the clock started */
    uint64_t modified_ns;  /* atomic; timeouts count from here */
    uint32_t idle_timeout; /* seconds; atomic */
    uint32_t hard_timeout; /* seconds; atomic */
    uint32_t heap;         /* place in the heap of deadlines, from 1; 0 = none */
    uint32_t index;        /* place in the datapath's list of flows */
    uint32_t ops_len;
    uint16_t filter_prog; /* program number, 0 = none */
    uint16_t importance;  /* who is evicted first: the least */
    uint16_t n_match;
    uint16_t priority;
    uint16_t flags;     /* enum oko_flow_flag */
    uint8_t ops_flags;  /* enum oko_ops_flag */
    uint8_t layers : 2; /* enum oko_layers that match and instructions need */
    uint8_t learned : 1;
    uint8_t modified : 1; /* it took the place of one by a modify */
    uint8_t announce : 1; /* a flow-removed event is still to be sent ... */
    uint8_t reason : 3;   /* ... with this enum oko_removed_reason ... */
    uint64_t removed_ns;  /* ... and this time */

    _Alignas(64) uint64_t rank;
    uint64_t add_version;
    uint64_t remove_version; /* atomic */
    uint32_t out_port;
    uint16_t slot; /* of the program, 0 = none */
    uint8_t kind;  /* enum oko_rule_flag; atomic */
    uint8_t table;
    struct oko_flow_stats *stats;
    uint64_t key[]; /* the match's words under the subtable's mask */
};

_Static_assert(offsetof(struct oko_rule, rank) == 128, "the hot part is one cache line");
_Static_assert(offsetof(struct oko_rule, key) == 128 + 40, "with room for a 5-tuple");

/* Rank of all rules of a priority starts here. */
static inline uint64_t oko_rank_base(uint32_t priority)
{
    return (uint64_t)(65535 - priority) << 48;
}

static inline uint64_t oko_rank(uint32_t priority, bool filter, uint64_t sequence)
{
    return oko_rank_base(priority) | (uint64_t)!filter << 47 | (sequence & ((1ull << 47) - 1));
}

#define OKO_RANK_SEQUENCE ((1ull << 47) - 1)

static inline bool oko_rule_visible(const struct oko_rule *rule, uint64_t version)
{
    return rule->add_version <= version && version < OKO_LOAD(&rule->remove_version);
}

/* From a spec whose ops have passed oko_ops_check() with these facts. Makes new statistics unless
 * stats (whose reference it then takes) are given. */
int oko_rule_new(const struct oko_flow_spec *spec, const struct oko_match *match,
                 const struct oko_ops_facts *facts, uint32_t slot, uint32_t n_workers,
                 struct oko_flow_stats *stats, struct oko_rule **rule);
/* Like old with other instructions. */
int oko_rule_modified(const struct oko_rule *old, const uint8_t *ops, uint32_t ops_len,
                      const struct oko_ops_facts *facts, struct oko_flow_stats *stats,
                      struct oko_rule **rule);
void oko_rule_free(struct oko_rule *rule);

/* The i-th field of the match as it was given. */
void oko_rule_match(const struct oko_rule *rule, struct oko_match_field *fields);

/* When the flow stops matching: its hard or idle deadline, whichever is first, OKO_NEVER without.
 * born: the clock's first value, for flows that are older. *hard tells which it was. */
uint64_t oko_rule_deadline(const struct oko_rule *rule, uint64_t born, bool *hard);

#endif
