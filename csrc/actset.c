/* The action set; see actset.h. */
#include "actset.h"

/* Kinds in the order of execution. FIELDS stands for the list. */
enum kind {
    TTL_IN,
    POP_VLAN,
    POP_MPLS,
    POP_PBB,
    PUSH_MPLS,
    PUSH_PBB,
    PUSH_VLAN,
    TTL_OUT,
    DEC_TTL,
    DEC_MPLS_TTL,
    QUEUE,
    GROUP,
    OUTPUT,
    RESUBMIT,
    FIELDS,
    NOTHING
};
_Static_assert((int)FIELDS == (int)OKO_SET_KINDS, "a slot for each kind");

static enum kind kind_of(uint16_t op)
{
    switch (op) {
    case OKO_OP_COPY_TTL_IN:
        return TTL_IN;
    case OKO_OP_POP_VLAN:
        return POP_VLAN;
    case OKO_OP_POP_MPLS:
        return POP_MPLS;
    case OKO_OP_POP_PBB:
        return POP_PBB;
    case OKO_OP_PUSH_MPLS:
        return PUSH_MPLS;
    case OKO_OP_PUSH_PBB:
        return PUSH_PBB;
    case OKO_OP_PUSH_VLAN:
        return PUSH_VLAN;
    case OKO_OP_COPY_TTL_OUT:
        return TTL_OUT;
    case OKO_OP_DEC_TTL:
    case OKO_OP_DEC_TTL_IDS:
        return DEC_TTL;
    case OKO_OP_DEC_MPLS_TTL:
        return DEC_MPLS_TTL;
    case OKO_OP_SET_QUEUE:
        return QUEUE;
    case OKO_OP_GROUP:
        return GROUP;
    case OKO_OP_OUTPUT:
        return OUTPUT;
    case OKO_OP_RESUBMIT:
        return RESUBMIT;
    case OKO_OP_NOTE:
        return NOTHING;
    default:
        return FIELDS;
    }
}

bool oko_action_set_write(struct oko_action_set *set, const uint8_t *ops, uint32_t len)
{
    for (uint32_t at = 0; at < len; at += oko_op(ops + at)->len) {
        const struct oko_op_head *op = oko_op(ops + at);
        enum kind kind = kind_of(op->op);
        if (kind == FIELDS) {
            if (set->n_fields == OKO_SET_FIELDS)
                return false;
            set->field[set->n_fields++] = op;
        } else if (kind != NOTHING) {
            set->kind[kind] = op;
            set->present |= 1u << kind;
        }
    }
    return true;
}

uint32_t oko_action_set_sort(const struct oko_action_set *set, const struct oko_op_head **out)
{
    uint32_t n = 0;
    for (uint32_t kind = 0; kind < QUEUE; kind++)
        if (set->present >> kind & 1)
            out[n++] = set->kind[kind];
    for (uint32_t i = 0; i < set->n_fields; i++)
        out[n++] = set->field[i];
    for (uint32_t kind = QUEUE; kind < FIELDS; kind++)
        if (set->present >> kind & 1) {
            out[n++] = set->kind[kind];
            if (kind != QUEUE)
                break; /* only one of group, output, resubmit */
        }
    return n;
}
