/* Comparing and joining abstract states.
 *
 * Names of values (ids, objects) mean nothing beyond their state. That the new state lies within an
 * old one is shown by a map from the old one's ids to forms of the new one under which everything
 * the old state claims follows from the new one. A join finds such a description of both: where two
 * locations have the same form, the form stays; where they differ, a fresh id stands for the pair,
 * and other locations that differ alike (by the same amount, or a multiple of it) become forms of
 * the same id. So "i and p advance together" survives. Inequalities of either state that hold in
 * both, once rewritten, stay too: that is how the invariant i <= n of a loop is found.
 *
 * Widening is a join whose growing bounds jump to the next threshold (numbers that the program
 * compares with), so that a loop's states settle after a few rounds.
 *
 * Fails safely: a join forgets what it cannot express. "Within" answers no when unsure. */
#ifndef OKO_VERIFY_JOIN_H
#define OKO_VERIFY_JOIN_H

#include "state.h"

/* A pair of differing values that a join gave one id. */
struct oko_pair {
    struct oko_form a, b; /* in the old and the new state */
    uint32_t id;          /* in the joined one; 0 while matching for inclusion */
    uint32_t frame;
    uint32_t where; /* the location that holds it as such: register, 16 + pos, or OKO_NOWHERE */
    bool exact;     /* the forms are the integers, in both */
    bool done;
    struct oko_scalar s; /* of the location: bounds for the id */
};

/* A number at which widening may stop. */
struct oko_threshold {
    int64_t value;
    uint32_t loop; /* the outermost one in which the program has it, or OKO_EVERYWHERE */
};

enum { OKO_NOWHERE = UINT32_MAX, OKO_EVERYWHERE = UINT32_MAX - 1 };
enum { OKO_MAX_LOCAL = 90, OKO_MAX_EXITS = 8 };

/* Scratch memory and settings for comparing and joining; one per verification. */
struct oko_joiner {
    struct oko_pair *pair;
    uint32_t n_pairs, max_pairs;
    uint64_t *kept;         /* bits: ids of the old state that stand in the joined one */
    struct oko_form *image; /* of the old state's ids */
    bool *has_image;
    uint32_t max_ids;
    uint32_t (*obj)[3]; /* objects: old, new, joined */
    uint32_t n_objs, max_objs;
    const struct oko_threshold *threshold; /* ascending: the program's */
    uint32_t n_thresholds;
    uint32_t loop;               /* the outermost around the place, or OKO_CFG_NONE */
    int64_t exit[OKO_MAX_EXITS]; /* what the loops around the place leave at when equal */
    uint32_t n_exits;
    /* Those, and least and largest values of what the state at hand has in registers. */
    int64_t least[OKO_MAX_LOCAL], largest[OKO_MAX_LOCAL];
    uint32_t n_least, n_largest;
    bool no_memory;
    uint64_t work;
};

void oko_joiner_destroy(struct oko_joiner *j);

/* live[i]: registers of frame i that may still be read. fresh may get new ids, no more. */
bool oko_state_within(struct oko_joiner *j, const struct oko_state *old, struct oko_state *fresh,
                      const uint16_t live[OKO_MAX_FRAMES]);

/* How two states differ at live locations. */
struct oko_likeness {
    uint32_t lost;   /* types, ghosts and set bytes of stack that a join would lose */
    uint32_t flags;  /* small constants that differ */
    uint32_t values; /* forms that differ */
};
/* n_flags: constants below it are flags. */
struct oko_likeness oko_state_compare(const struct oko_state *old, const struct oko_state *fresh,
                                      uint64_t n_flags, const uint16_t live[OKO_MAX_FRAMES]);

enum oko_join_mode {
    OKO_JOIN,
    OKO_WIDEN,      /* growing bounds jump to the next threshold */
    OKO_WIDEN_MORE, /* ... to the end of a common width */
    OKO_WIDEN_MOST  /* growing bounds are dropped; only the old inequalities may stay */
};
/* out becomes a state that contains both. The pairs found remain in j until its next use. */
void oko_state_join(struct oko_joiner *j, enum oko_join_mode mode, struct oko_state *old,
                    struct oko_state *fresh, const uint16_t live[OKO_MAX_FRAMES],
                    struct oko_state *out);

#endif
