/* Strings of instructions and actions: checking them once, so that executing them needs no check.
 *
 * The table `shapes` says for every op where it may stand and how long its payload is; the function
 * below adds what a table cannot say. Nothing is rewritten: action.c executes the bytes as they
 * came. */
#include "rule.h"

#include "base/err.h"
#include "edit.h"
#include "port.h"

#include <string.h>

enum { MAX_NESTING = 16 };

/* Where an op may stand. */
enum { TOP = 1, LIST = 2, SET = 4 };

struct shape {
    const char *name;
    uint8_t where;
    uint8_t frame;    /* 1: needs the whole frame parsed, because it changes or copies fields */
    uint16_t payload; /* bytes at least */
};

static const struct shape shapes[] = {
    [OKO_OP_METER] = {"meter", TOP | LIST, 1, 0},
    [OKO_OP_APPLY] = {"apply_actions", TOP, 0, 0},
    [OKO_OP_CLEAR] = {"clear_actions", TOP, 0, 0},
    [OKO_OP_WRITE] = {"write_actions", TOP, 0, 0},
    [OKO_OP_METADATA] = {"write_metadata", TOP, 0, 16},
    [OKO_OP_GOTO] = {"goto_table", TOP, 0, 0},
    [OKO_OP_OUTPUT] = {"output", LIST | SET, 0, 0},
    [OKO_OP_GROUP] = {"group", LIST | SET, 1, 0},
    [OKO_OP_SET_QUEUE] = {"set_queue", LIST | SET, 0, 0},
    [OKO_OP_SET_FIELD] = {"set_field", LIST | SET, 0, 32},
    [OKO_OP_MOVE] = {"move", LIST | SET, 0, 8},
    [OKO_OP_PUSH_VLAN] = {"push_vlan", LIST | SET, 1, 0},
    [OKO_OP_POP_VLAN] = {"pop_vlan", LIST | SET, 1, 0},
    [OKO_OP_PUSH_MPLS] = {"push_mpls", LIST | SET, 1, 0},
    [OKO_OP_POP_MPLS] = {"pop_mpls", LIST | SET, 1, 0},
    [OKO_OP_PUSH_PBB] = {"push_pbb", LIST | SET, 1, 0},
    [OKO_OP_POP_PBB] = {"pop_pbb", LIST | SET, 1, 0},
    [OKO_OP_SET_MPLS_TTL] = {"set_mpls_ttl", LIST | SET, 1, 0},
    [OKO_OP_DEC_MPLS_TTL] = {"dec_mpls_ttl", LIST | SET, 1, 0},
    [OKO_OP_SET_TTL] = {"set_nw_ttl", LIST | SET, 1, 0},
    [OKO_OP_DEC_TTL] = {"dec_ttl", LIST | SET, 1, 0},
    [OKO_OP_COPY_TTL_OUT] = {"copy_ttl_out", LIST | SET, 1, 0},
    [OKO_OP_COPY_TTL_IN] = {"copy_ttl_in", LIST | SET, 1, 0},
    [OKO_OP_RESUBMIT] = {"resubmit", LIST | SET, 0, 8},
    [OKO_OP_LEARN] = {"learn", LIST, 1, sizeof(struct oko_learn)},
    [OKO_OP_CLONE] = {"clone", LIST, 0, 0},
    [OKO_OP_CONTROLLER] = {"controller", LIST, 0, 8},
    [OKO_OP_NOTE] = {"note", LIST | SET, 0, 0},
    [OKO_OP_EXIT] = {"exit", LIST, 0, 0},
    [OKO_OP_PUSH] = {"push", LIST, 0, 8},
    [OKO_OP_POP] = {"pop", LIST, 0, 8},
    [OKO_OP_FIN_TIMEOUT] = {"fin_timeout", LIST, 1, 8},
    [OKO_OP_DEC_TTL_IDS] = {"dec_ttl", LIST | SET, 1, 0},
    [OKO_OP_OUTPUT_REG] = {"output", LIST, 0, 8},
    [OKO_OP_SEND_MAPS] = {"send_maps", LIST, 0, 4},
    [OKO_OP_SET_VLAN_TCI] = {"set_vlan_tci", LIST | SET, 1, 0},
    [OKO_OP_CONJUNCTION] = {"conjunction", LIST, 0, 8},
};

struct check {
    uint32_t table;
    struct oko_ops_facts *facts;
    struct oko_error *error;
};

static void raise(struct check *check, enum oko_layers layers)
{
    if (layers > check->facts->layers)
        check->facts->layers = layers;
}

/* Bits ofs..ofs+n_bits-1 of a field: do they exist? Fields of the frame need it parsed. */
static int check_bits(struct check *check, const char *name, uint32_t field, uint32_t ofs,
                      uint32_t n_bits)
{
    const struct oko_field *f = oko_field(field);
    if (!f)
        return oko_err(check->error, OKO_E_INVAL, "%s: there is no field number %u", name, field);
    if (n_bits == 0 || n_bits > f->bits || ofs > f->bits - n_bits)
        return oko_err(check->error, OKO_E_INVAL, "%s: %s has %u bits, not [%u..%u]", name, f->name,
                       f->bits, ofs, ofs + n_bits - 1);
    if (oko_field_in_frame(field))
        raise(check, OKO_LAYER_L4);
    return 0;
}

static int check_learn(struct check *check, const struct oko_op_head *op)
{
    struct oko_learn learn;
    memcpy(&learn, oko_op_payload(op), sizeof learn);
    if (op->arg >= OKO_N_TABLES)
        return oko_err(check->error, OKO_E_INVAL, "learn: table %u is not in 0..253", op->arg);
    if (learn.n_specs > 64 ||
        op->len < 8 + sizeof learn + learn.n_specs * sizeof(struct oko_learn_spec))
        return oko_err(check->error, OKO_E_INVAL, "learn: %u specs do not fit", learn.n_specs);
    if (learn.result != UINT32_MAX &&
        check_bits(check, "learn", learn.result & 0xffff, learn.result >> 16, 1))
        return OKO_E_INVAL;
    for (uint32_t i = 0; i < learn.n_specs; i++) {
        struct oko_learn_spec spec;
        memcpy(&spec, oko_op_payload(op) + sizeof learn + i * sizeof spec, sizeof spec);
        if (spec.n_bits == 0 || spec.n_bits > 128 || spec.dst > OKO_LEARN_OUTPUT)
            return oko_err(check->error, OKO_E_INVAL, "learn: spec %u is malformed", i);
        if (!spec.src_is_value &&
            check_bits(check, "learn", spec.src_field, spec.src_ofs, spec.n_bits))
            return OKO_E_INVAL;
        if (spec.dst != OKO_LEARN_OUTPUT &&
            check_bits(check, "learn", spec.dst_field, spec.dst_ofs, spec.n_bits))
            return OKO_E_INVAL;
    }
    check->facts->flags |= OKO_OPS_CHANGES;
    if (learn.flags & OKO_LEARN_DELETE_LEARNED)
        check->facts->flags |= OKO_OPS_FORGETS;
    return 0;
}

static int check_set_field(struct check *check, const struct oko_op_head *op)
{
    const struct oko_field *field = oko_field(op->arg);
    if (!field)
        return oko_err(check->error, OKO_E_INVAL, "set_field: there is no field number %u",
                       op->arg);
    struct oko_match_field as_match = {.field = op->arg};
    memcpy(as_match.value, oko_op_payload(op), 16);
    memcpy(as_match.mask, oko_op_payload(op) + 16, 16);
    struct oko_match scratch;
    if (oko_field_in_frame(op->arg))
        raise(check, OKO_LAYER_L4);
    return oko_match_from(&scratch, &as_match, 1, check->error);
}

static int check_list(struct check *check, const uint8_t *ops, uint32_t len, uint32_t where,
                      uint32_t nesting);

static int check_op(struct check *check, const struct oko_op_head *op, uint32_t where,
                    uint32_t nesting)
{
    const uint8_t *payload = oko_op_payload(op);
    const char *name = shapes[op->op].name;
    uint32_t size = op->len - 8u;
    uint16_t u16[4] = {0};
    memcpy(u16, payload, size < sizeof u16 ? size : sizeof u16);

    if (shapes[op->op].frame)
        raise(check, OKO_LAYER_L4);
    switch (op->op) {
    case OKO_OP_APPLY:
    case OKO_OP_CLONE:
        return check_list(check, payload, size, LIST, nesting + 1);
    case OKO_OP_WRITE:
        return check_list(check, payload, size, SET, nesting + 1);
    case OKO_OP_GOTO:
        if (where == TOP && (op->arg <= check->table || op->arg >= OKO_N_TABLES))
            return oko_err(check->error, OKO_E_INVAL, "goto_table: %u is not above table %u",
                           op->arg, check->table);
        return 0;
    case OKO_OP_METER:
    case OKO_OP_GROUP:
        check->facts->flags |= OKO_OPS_REFERS;
        return 0;
    case OKO_OP_OUTPUT:
        if (op->arg == OKO_PORT_NORMAL)
            raise(check, OKO_LAYER_L2);
        if (op->arg == OKO_PORT_TABLE)
            check->facts->flags |= OKO_OPS_RESTART;
        if (op->arg == 0 || (op->arg >= OKO_PORT_MAX && op->arg < OKO_PORT_IN_PORT) ||
            op->arg == OKO_PORT_ANY)
            return oko_err(check->error, OKO_E_INVAL, "output: there is no port 0x%x", op->arg);
        return 0;
    case OKO_OP_SET_FIELD:
        return check_set_field(check, op);
    case OKO_OP_MOVE: /* n_bits; src field, src ofs, dst field, dst ofs */
        return check_bits(check, name, u16[0], u16[1], op->arg)
                   ? OKO_E_INVAL
                   : check_bits(check, name, u16[2], u16[3], op->arg);
    case OKO_OP_PUSH:
    case OKO_OP_POP:
    case OKO_OP_OUTPUT_REG:
        if (op->op == OKO_OP_OUTPUT_REG)
            raise(check, OKO_LAYER_L2); /* it may say NORMAL, or restart at table 0 */
        if (op->op == OKO_OP_OUTPUT_REG)
            check->facts->flags |= OKO_OPS_RESTART;
        return check_bits(check, name, u16[0], u16[1], op->arg);
    case OKO_OP_RESUBMIT:
        if (op->arg != 255 && op->arg >= OKO_N_TABLES)
            return oko_err(check->error, OKO_E_INVAL, "resubmit: table %u is not in 0..253",
                           op->arg);
        if (op->arg == 0 || (op->arg == 255 && check->table == 0))
            check->facts->flags |= OKO_OPS_RESTART;
        return 0;
    case OKO_OP_LEARN:
        return check_learn(check, op);
    case OKO_OP_FIN_TIMEOUT:
        check->facts->flags |= OKO_OPS_CHANGES; /* of deadlines */
        return 0;
    case OKO_OP_DEC_TTL_IDS:
        if (size < 2 * (uint64_t)op->arg)
            return oko_err(check->error, OKO_E_INVAL, "dec_ttl: %u ids do not fit", op->arg);
        return 0;
    case OKO_OP_SEND_MAPS:
        if (size < 4 + 2u * u16[1])
            return oko_err(check->error, OKO_E_INVAL, "send_maps: %u maps do not fit", u16[1]);
        return 0;
    case OKO_OP_CONJUNCTION: /* dimension, dimensions */
        if (u16[1] < 2 || u16[1] > 64 || u16[0] >= u16[1])
            return oko_err(check->error, OKO_E_INVAL,
                           "conjunction: %u/%u is not one of 2 to 64 dimensions", u16[0] + 1u,
                           u16[1]);
        check->facts->flags |= OKO_OPS_SOFT;
        return 0;
    default:
        return 0;
    }
}

static int check_list(struct check *check, const uint8_t *ops, uint32_t len, uint32_t where,
                      uint32_t nesting)
{
    if (nesting > MAX_NESTING)
        return oko_err(check->error, OKO_E_INVAL, "actions: nested deeper than %d", MAX_NESTING);
    for (uint32_t at = 0; at < len;) {
        const struct oko_op_head *op = oko_op(ops + at);
        if (len - at < 8 || op->len < 8 || op->len % 8 || op->len > len - at)
            return oko_err(check->error, OKO_E_INVAL, "actions: bad length at byte %u", at);
        if (op->op >= sizeof shapes / sizeof shapes[0] || !shapes[op->op].name)
            return oko_err(check->error, OKO_E_INVAL, "actions: there is no action number %u",
                           op->op);
        const struct shape *shape = &shapes[op->op];
        if (!(shape->where & where))
            return oko_err(check->error, OKO_E_INVAL, "%s: not allowed in %s", shape->name,
                           where == TOP    ? "instructions"
                           : where == LIST ? "an action list"
                                           : "an action set");
        if (op->len - 8 < shape->payload)
            return oko_err(check->error, OKO_E_INVAL, "%s: shorter than its arguments",
                           shape->name);
        int rc = check_op(check, op, where, nesting);
        if (rc)
            return rc;
        at += op->len;
    }
    return 0;
}

/* Where a conjunction stands, nothing else is done. */
static int check_soft(const uint8_t *ops, uint32_t len, enum oko_ops_kind kind,
                      struct oko_error *error)
{
    const struct oko_op_head *list = oko_op(ops);
    bool alone = kind == OKO_OPS_INSTRUCTIONS && list->op == OKO_OP_APPLY && list->len == len;
    for (uint32_t at = 8; alone && at < len; at += oko_op(ops + at)->len) {
        uint32_t op = oko_op(ops + at)->op;
        alone = op == OKO_OP_CONJUNCTION || op == OKO_OP_NOTE;
    }
    return alone ? 0
                 : oko_err(error, OKO_E_INVAL,
                           "conjunction: only other conjunctions and notes may stand beside it, in "
                           "a flow's actions");
}

/* Does it send the packet whole, to an ordinary port or NORMAL? */
static bool is_plain_output(const struct oko_op_head *op)
{
    uint32_t max_len = 0;
    if (op->op != OKO_OP_OUTPUT || (op->arg >= OKO_PORT_MAX && op->arg != OKO_PORT_NORMAL))
        return false;
    if (op->len > 8)
        memcpy(&max_len, oko_op_payload(op), 4);
    return max_len == 0;
}

int oko_ops_check(const uint8_t *ops, uint32_t len, enum oko_ops_kind kind, uint32_t table,
                  struct oko_ops_facts *facts, struct oko_error *error)
{
    *facts = (struct oko_ops_facts){0};
    struct check check = {table, facts, error};
    static const uint32_t where[] = {
        [OKO_OPS_INSTRUCTIONS] = TOP, [OKO_OPS_ACTIONS] = LIST, [OKO_OPS_ACTION_SET] = SET};
    int rc = check_list(&check, ops, len, where[kind], 0);
    if (!rc && facts->flags & OKO_OPS_SOFT)
        rc = check_soft(ops, len, kind, error);
    if (rc)
        return rc;
    if (kind != OKO_OPS_INSTRUCTIONS)
        return 0;
    /* The forms that most flows have go past the executor. */
    if (len == 0) {
        facts->flags |= OKO_OPS_DROP;
        return 0;
    }
    const struct oko_op_head *list = oko_op(ops);
    if (list->op == OKO_OP_GOTO && list->len == len) {
        facts->flags |= OKO_OPS_GOTO;
        facts->out_port = list->arg;
        return 0;
    }
    if ((list->op == OKO_OP_APPLY || list->op == OKO_OP_WRITE) && list->len == len) {
        const struct oko_op_head *only = oko_op(oko_op_payload(list));
        if (len == 8)
            facts->flags |= OKO_OPS_DROP;
        else if (only->len == len - 8 && is_plain_output(only)) {
            facts->flags |= only->arg == OKO_PORT_NORMAL ? OKO_OPS_NORMAL : OKO_OPS_OUTPUT;
            facts->out_port = only->arg;
        }
    }
    return 0;
}

bool oko_ops_walk(const uint8_t *ops, uint32_t len,
                  bool (*fn)(const struct oko_op_head *op, void *ctx), void *ctx)
{
    for (uint32_t at = 0; at < len;) {
        const struct oko_op_head *op = oko_op(ops + at);
        if (fn(op, ctx))
            return true;
        if ((op->op == OKO_OP_APPLY || op->op == OKO_OP_WRITE || op->op == OKO_OP_CLONE) &&
            oko_ops_walk(oko_op_payload(op), op->len - 8u, fn, ctx))
            return true;
        at += op->len;
    }
    return false;
}
