/* What within.c, join.c and invariant.c share; private to them. */
#ifndef OKO_VERIFY_JOIN_IMPL_H
#define OKO_VERIFY_JOIN_IMPL_H

#include "join.h"

/* A join under way. */
struct join {
    struct oko_joiner *j;
    enum oko_join_mode mode;
    struct oko_state *old, *fresh, *out;
};

/* within.c */
bool oko_joiner_prepare(struct oko_joiner *j, uint32_t n_ids);
struct oko_pair *oko_joiner_pair(struct oko_joiner *j); /* a new one; NULL: no memory */
uint32_t oko_joiner_obj(struct oko_joiner *j, uint32_t a, uint32_t b, uint32_t *next_id);
uint32_t oko_joiner_index(const struct oko_state *st, uint32_t id); /* UINT32_MAX: unknown id */
bool oko_same_object(const struct oko_reg *a, const struct oko_reg *b);

/* join.c */
bool oko_join_kept(const struct join *join, uint32_t id);
/* By how much a form grows from the old state to the new one, if that is a constant. */
bool oko_join_growth(const struct oko_form *a, const struct oko_form *b, int64_t *by);
int64_t oko_join_below(const struct oko_joiner *j, enum oko_join_mode mode, int64_t x);
int64_t oko_join_above(const struct oko_joiner *j, enum oko_join_mode mode, int64_t x);

/* invariant.c */
void oko_join_inequalities(struct join *join);
void oko_join_similar(struct join *join);
void oko_join_distances(struct join *join);

#endif
