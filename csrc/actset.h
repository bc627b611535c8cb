/* The action set: what write-actions collects and the end of the pipeline executes.
 *
 * At most one action of each kind, the last one written; executed in the order of OpenFlow 1.3,
 * section 5.10, whatever the order of writing: TTL inwards, pop, push MPLS, PBB, VLAN, TTL
 * outwards, decrement TTL, set (set-field, move and TTL setters keep the order in which they came,
 * as in Open vSwitch, since a masked set-field does not replace another), queue, and then one of
 * group, output, resubmit: the first of these that is there.
 *
 * The set points into the instructions of rules, which outlive the burst. One packet's, one
 * thread's. */
#ifndef OKO_ACTSET_H
#define OKO_ACTSET_H

#include "rule.h"

enum { OKO_SET_KINDS = 14, OKO_SET_FIELDS = 256, OKO_SET_MAX = OKO_SET_FIELDS + OKO_SET_KINDS };

struct oko_action_set {
    uint32_t present; /* bit per kind */
    uint32_t n_fields;
    const struct oko_op_head *kind[OKO_SET_KINDS];
    const struct oko_op_head *field[OKO_SET_FIELDS];
};

static inline void oko_action_set_clear(struct oko_action_set *set)
{
    set->present = 0;
    set->n_fields = 0;
}

static inline bool oko_action_set_empty(const struct oko_action_set *set)
{
    return !set->present && !set->n_fields;
}

/* Adds a checked list of actions; false: the set is full. */
bool oko_action_set_write(struct oko_action_set *set, const uint8_t *ops, uint32_t len);
/* The actions in the order of execution; returns how many (at most OKO_SET_MAX). */
uint32_t oko_action_set_sort(const struct oko_action_set *set, const struct oko_op_head **out);

#endif
