/* Executing instructions and actions, one packet at a time, eagerly: each takes effect on the frame
 * and its key before the next begins.
 *
 * The strings were checked when the flow was made (ops.c), so nothing is checked here but what
 * depends on the packet: nesting, room, the TTL. Frames of captures are borrowed; the first action
 * that writes copies the frame (pkt.h), and what must not leak out of a clone or bucket is undone
 * by going back to the frame, key and action set from before.
 *
 * What Open vSwitch does and the specification leaves open: an invalid TTL ends the flow's
 * remaining instructions too; exit ends everything but the action set; resubmit shows the other
 * in_port only to the lookup. */
#include "pipeline.h"

#include "edit.h"

#include <string.h>

static void limit(struct oko_exec *x)
{
    oko_drop_note(x, OKO_DROP_LIMIT);
    x->stop = x->over = true;
}

/* Makes the frame writable; false: no buffer, the packet ends here. */
static bool writable(struct oko_exec *x)
{
    if (oko_pkt_writable(x->pkt, x->worker->pool) == 0)
        return true;
    oko_drop_note(x, OKO_DROP_NO_BUFFER);
    x->stop = true;
    return false;
}

/* The result of an edit that needs room. */
static void grown(struct oko_exec *x, int rc)
{
    if (rc < 0) {
        oko_drop_note(x, OKO_DROP_NO_BUFFER);
        x->stop = true;
    }
}

static bool execute_list(struct oko_exec *x, const uint8_t *ops, uint32_t len);

/* ---------------------------------------------------------------- numbers and fields */

static void number_shift_left(uint8_t number[16], uint32_t bits)
{
    uint32_t bytes = bits / 8;
    bits %= 8;
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t high = i + bytes < 16 ? number[i + bytes] : 0;
        uint32_t low = i + bytes + 1 < 16 ? number[i + bytes + 1] : 0;
        number[i] = (uint8_t)(high << bits | low >> (8 - bits));
    }
}

static void number_ones(uint8_t number[16], uint32_t bits)
{
    memset(number, 0, 16);
    for (uint32_t i = 0; i < bits; i++)
        number[15 - i / 8] = (uint8_t)(number[15 - i / 8] | 1u << i % 8);
}

/* Sets bits ofs.. of a field to the low n_bits of a big-endian number. */
static void set_bits(struct oko_exec *x, uint32_t field, uint32_t ofs, uint32_t n_bits,
                     const uint8_t number[16])
{
    uint8_t value[16], mask[16], shifted[2][16];
    uint32_t size = oko_field(field)->size;
    memcpy(value, number, 16);
    number_ones(mask, n_bits);
    for (uint32_t i = 0; i < 16; i++)
        value[i] &= mask[i];
    number_shift_left(value, ofs);
    number_shift_left(mask, ofs);
    /* From the end of a 16-byte number to the start of the field's own size. */
    memset(shifted, 0, sizeof shifted);
    memcpy(shifted[0], value + 16 - size, size);
    memcpy(shifted[1], mask + 16 - size, size);
    if (!oko_field_in_frame(field) || writable(x))
        grown(x, oko_edit_set_field(x->pkt, x->key, field, shifted[0], shifted[1]));
}

static uint16_t u16_at(const struct oko_op_head *op, uint32_t i)
{
    uint16_t value;
    memcpy(&value, oko_op_payload(op) + 2 * i, 2);
    return value;
}

static void push(struct oko_exec *x, const struct oko_op_head *op)
{
    if (x->n_stack == OKO_STACK) {
        limit(x);
        return;
    }
    oko_key_get_bits(x->key, u16_at(op, 0), u16_at(op, 1), op->arg, x->worker->stack[x->n_stack++]);
}

static void pop(struct oko_exec *x, const struct oko_op_head *op)
{
    if (x->n_stack) /* an empty stack: nothing, as Open vSwitch */
        set_bits(x, u16_at(op, 0), u16_at(op, 1), op->arg, x->worker->stack[--x->n_stack]);
}

static void move(struct oko_exec *x, const struct oko_op_head *op)
{
    if (!oko_field_in_frame(u16_at(op, 2)) || writable(x))
        grown(x, oko_edit_move(x->pkt, x->key, op->arg, u16_at(op, 0), u16_at(op, 1), u16_at(op, 2),
                               u16_at(op, 3)));
}

static void write_metadata(struct oko_exec *x, const struct oko_op_head *op)
{
    uint64_t value[2], metadata;
    memcpy(value, oko_op_payload(op), sizeof value);
    memcpy(&metadata, x->key->metadata, 8);
    uint64_t mask = __builtin_bswap64(value[1]);
    metadata = (metadata & ~mask) | (__builtin_bswap64(value[0]) & mask);
    memcpy(x->key->metadata, &metadata, 8);
}

/* ---------------------------------------------------------------- nested lists */

/* What a clone or bucket starts from and goes back to. */
struct aside {
    struct oko_pkt pkt;
    struct oko_key key;
    struct oko_action_set set;
    uint32_t n_stack;
    uint8_t stack[OKO_STACK][16];
};

/* Copy on write: until go_back(), the frame counts as borrowed from the packet that is put
 * aside. */
static void put_aside(struct oko_exec *x, struct aside *aside)
{
    const struct oko_action_set *set = &x->worker->set;
    aside->pkt = *x->pkt;
    aside->key = *x->key;
    aside->set.present = set->present;
    aside->set.n_fields = set->n_fields;
    memcpy(aside->set.kind, set->kind, sizeof set->kind);
    memcpy(aside->set.field, set->field, set->n_fields * sizeof set->field[0]);
    aside->n_stack = x->n_stack;
    memcpy(aside->stack, x->worker->stack, x->n_stack * sizeof aside->stack[0]);
    x->pkt->owned = false;
    x->pkt->buffer = NULL;
    x->depth++;
}

static void go_back(struct oko_exec *x, const struct aside *aside)
{
    struct oko_action_set *set = &x->worker->set;
    oko_pkt_release(x->pkt, x->worker->pool);
    *x->pkt = aside->pkt;
    *x->key = aside->key;
    set->present = aside->set.present;
    set->n_fields = aside->set.n_fields;
    memcpy(set->kind, aside->set.kind, sizeof set->kind);
    memcpy(set->field, aside->set.field, set->n_fields * sizeof set->field[0]);
    x->n_stack = aside->n_stack;
    memcpy(x->worker->stack, aside->stack, x->n_stack * sizeof aside->stack[0]);
    x->depth--;
}

/* A list on a copy of everything: frame, key, stack, action set. Its exit is its own, and what ends
 * the copy (a meter, a push without room) does not end the packet. */
static void execute_apart(struct oko_exec *x, const uint8_t *ops, uint32_t len)
{
    if (x->depth >= OKO_MAX_DEPTH) {
        limit(x);
        return;
    }
    struct aside aside;
    put_aside(x, &aside);
    execute_list(x, ops, len);
    go_back(x, &aside);
    x->exit = false;
    x->stop = x->over;
}

static void execute_group(struct oko_exec *x, uint32_t id)
{
    struct oko_worker *w = x->worker;
    struct oko_group *group = oko_set_find(w->view->groups, id);
    if (!group) {
        oko_drop_note(x, OKO_DROP_GROUP);
        return;
    }
    uint32_t wire = x->pkt->meta.wire_len;
    if (!w->dry)
        oko_group_count(group, w->index, group->n_buckets, wire);
    const struct oko_bucket *only = NULL;
    if (group->type != OKO_GROUP_ALL && !(only = oko_group_choose(group, w->view, x->key))) {
        oko_drop_note(x, OKO_DROP_GROUP);
        return;
    }
    for (uint32_t i = 0; i < group->n_buckets && !x->stop; i++) {
        const struct oko_bucket *bucket = &group->bucket[i];
        if (only ? bucket != only : !oko_group_live(w->view, bucket, 0))
            continue;
        if (!w->dry)
            oko_group_count(group, w->index, i, wire);
        OKO_TRACE(w, OKO_TRACE_BUCKET, x->depth, x->table, NULL, id, i);
        execute_apart(x, bucket->ops, bucket->ops_len);
    }
}

/* Looks up in a table and executes what is found; the packet then goes on behind the resubmit. */
static void resubmit(struct oko_exec *x, uint32_t in_port, uint32_t table)
{
    if (x->depth >= OKO_MAX_DEPTH || x->n_resubmits >= OKO_MAX_RESUBMITS) {
        limit(x);
        return;
    }
    x->n_resubmits++;
    const struct oko_rule *rule_before = x->rule;
    uint8_t table_before = x->table, port_before[4];
    memcpy(port_before, x->key->in_port, 4);
    if (in_port != OKO_PORT_IN_PORT) {
        uint32_t port = __builtin_bswap32(in_port);
        memcpy(x->key->in_port, &port, 4);
    }
    x->depth++;
    x->table = (uint8_t)table;
    struct oko_cands cands;
    oko_lookup(x->worker, table, x->key, &cands);
    const struct oko_rule *rule = oko_decide(x->worker, x->index, table, x->key, &cands);
    memcpy(x->key->in_port, port_before, 4);
    if (rule)
        oko_execute(x, rule);
    else
        oko_drop_note(x, OKO_DROP_MISS);
    x->depth--;
    x->rule = rule_before;
    x->table = table_before;
}

/* Output to TABLE in a packet-out: the packet as it is now takes a pass of its own, as if it had
 * just come in; the list then goes on with the packet as it was. */
static void start_pass(struct oko_exec *x)
{
    struct oko_worker *w = x->worker;
    struct aside aside;
    uint8_t table = x->table;
    put_aside(x, &aside);
    oko_filter_end(w); /* what programs said before is about another pass */
    w->burst++;
    x->pkt->pass_data = x->pkt->data;
    x->pkt->pass_len = x->pkt->meta.len = x->pkt->meta.wire_len = x->pkt->len;
    x->pkt->meta.in_port = x->pkt->in_port;
    oko_show_packet(&w->pkts[x->index], &w->in[x->index]);
    oko_action_set_clear(&w->set);
    x->packet_out = false;
    struct oko_cands cands;
    x->table = 0;
    oko_lookup(w, 0, x->key, &cands);
    const struct oko_rule *rule = oko_decide(w, x->index, 0, x->key, &cands);
    if (rule) {
        oko_execute(x, rule);
        if (!x->stop)
            oko_execute_set(x);
    } else {
        oko_miss(x);
    }
    x->packet_out = true;
    x->rule = NULL;
    x->table = table;
    go_back(x, &aside);
    x->exit = false;
    x->stop = x->over;
}

void oko_execute_actions(struct oko_exec *x, const uint8_t *ops, uint32_t len)
{
    execute_list(x, ops, len);
}

/* ---------------------------------------------------------------- single actions */

/* Port numbers from registers may be OpenFlow 1.0's 16 bits wide. */
static uint32_t wide_port(uint64_t port)
{
    return port >= 0xff00 && port <= 0xffff ? 0xffff0000u | (uint32_t)port
           : port > UINT32_MAX              ? OKO_PORT_ANY
                                            : (uint32_t)port;
}

static void output(struct oko_exec *x, uint32_t port, uint32_t max_len)
{
    if (port == OKO_PORT_TABLE && x->packet_out)
        start_pass(x);
    else if (port == OKO_PORT_TABLE)
        resubmit(x, OKO_PORT_IN_PORT, 0);
    else
        oko_output(x, port, max_len);
}

static void output_op(struct oko_exec *x, const struct oko_op_head *op)
{
    uint32_t max_len = op->arg == OKO_PORT_CONTROLLER ? 0xffff : 0;
    if (op->len > 8)
        memcpy(&max_len, oko_op_payload(op), 4);
    output(x, op->arg, max_len);
}

static void output_reg(struct oko_exec *x, const struct oko_op_head *op)
{
    uint8_t number[16];
    uint64_t port;
    oko_key_get_bits(x->key, u16_at(op, 0), u16_at(op, 1), op->arg, number);
    memcpy(&port, number + 8, 8);
    uint32_t to = wide_port(__builtin_bswap64(port));
    output(x, to, to == OKO_PORT_CONTROLLER ? u16_at(op, 2) : 0);
}

/* The 802.1Q tag as one number, as OpenFlow 1.0 and NXM_OF_VLAN_TCI see it: bit 12 says whether
 * there is one. */
static void set_vlan_tci(struct oko_exec *x, uint32_t value, uint32_t mask)
{
    const uint8_t *vid = x->key->vlan_vid;
    bool tagged = vid[0] & 0x10;
    uint32_t before = (uint32_t)x->key->vlan_pcp[0] << 13 | (uint32_t)vid[0] << 8 | vid[1];
    uint32_t tci = ((tagged ? before : 0) & ~mask) | value;
    if ((!tagged && !(tci & 0x1000)) || !writable(x))
        return;
    if (!(tci & 0x1000)) {
        grown(x, oko_edit_pop_vlan(x->pkt, x->key));
        return;
    }
    if (!tagged)
        grown(x, oko_edit_push_vlan(x->pkt, x->key, 0x8100));
    if (x->stop)
        return;
    const uint8_t new_vid[16] = {(uint8_t)(tci >> 8 & 0x1f), (uint8_t)tci};
    const uint8_t new_pcp[16] = {(uint8_t)(tci >> 13 & 7)};
    static const uint8_t vid_mask[16] = {0x1f, 0xff}, pcp_mask[16] = {0x07};
    grown(x, oko_edit_set_field(x->pkt, x->key, OKO_FIELD_VLAN_VID, new_vid, vid_mask));
    grown(x, oko_edit_set_field(x->pkt, x->key, OKO_FIELD_VLAN_PCP, new_pcp, pcp_mask));
}

/* False: the TTL cannot be decremented; the list ends. */
static bool decremented(struct oko_exec *x, int rc, const struct oko_op_head *op)
{
    if (rc != 1)
        return true;
    oko_drop_note(x, OKO_DROP_INVALID_TTL);
    uint32_t n = op->op == OKO_OP_DEC_TTL_IDS ? op->arg : 1;
    for (uint32_t i = 0; i < n; i++)
        oko_packet_in(x, 0xffff, OKO_REASON_INVALID_TTL,
                      op->op == OKO_OP_DEC_TTL_IDS ? u16_at(op, i) : 0);
    return false;
}

/* False: dropped. */
static bool meter(struct oko_exec *x, uint32_t id)
{
    struct oko_meter *m = oko_set_find(x->worker->view->meters, id);
    const struct oko_band *band =
        m && !x->worker->dry ? oko_meter_run(m, x->pkt->meta.rx_ns, x->pkt->meta.wire_len) : NULL;
    if (!band)
        return true;
    if (band->type == OKO_BAND_DROP) {
        oko_drop_note(x, OKO_DROP_METER);
        x->stop = true;
        return false;
    }
    uint8_t dscp[16] = {oko_meter_remark(x->key->ip_dscp[0], band->prec_level)};
    static const uint8_t mask[16] = {0x3f};
    if (dscp[0] != x->key->ip_dscp[0] && writable(x))
        grown(x, oko_edit_set_field(x->pkt, x->key, OKO_FIELD_IP_DSCP, dscp, mask));
    return !x->stop;
}

/* An event at most once per interval of the datapath clock and flow. */
static void send_maps(struct oko_exec *x, const struct oko_op_head *op)
{
    if (!x->rule || x->worker->dry)
        return; /* in a packet-out: refused before it comes here */
    uint64_t now = x->pkt->meta.rx_ns, *due = &x->rule->stats->maps_ns;
    uint64_t at = OKO_LOAD(due);
    uint64_t next = now + (uint64_t)op->arg * 1000000u;
    if (now < at ||
        !__atomic_compare_exchange_n(due, &at, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    struct oko_event event = {.type = OKO_EVENT_SEND_MAPS,
                              .ns = now,
                              .seq = x->pkt->seq,
                              .cookie = x->rule->cookie,
                              .flow_id = x->rule->id,
                              .table = x->table,
                              .in_port = x->pkt->in_port,
                              .priority = x->rule->priority,
                              .filter_prog = x->rule->filter_prog,
                              .arg = u16_at(op, 0),
                              .n_match = u16_at(op, 1),
                              .data_len = 2u * u16_at(op, 1)};
    oko_ring_put(x->worker->dp->events, &event, oko_op_payload(op) + 4);
}

static bool writes_frame(uint16_t op)
{
    return op >= OKO_OP_PUSH_VLAN && op <= OKO_OP_COPY_TTL_IN;
}

/* The actions that change the frame and nothing else; the packet is writable. */
static int edit(struct oko_exec *x, const struct oko_op_head *op)
{
    struct oko_pkt *pkt = x->pkt;
    struct oko_key *key = x->key;
    switch (op->op) {
    case OKO_OP_PUSH_VLAN:
        return oko_edit_push_vlan(pkt, key, (uint16_t)op->arg);
    case OKO_OP_POP_VLAN:
        return oko_edit_pop_vlan(pkt, key);
    case OKO_OP_PUSH_MPLS:
        return oko_edit_push_mpls(pkt, key, (uint16_t)op->arg);
    case OKO_OP_POP_MPLS:
        return oko_edit_pop_mpls(pkt, key, (uint16_t)op->arg);
    case OKO_OP_PUSH_PBB:
        return oko_edit_push_pbb(pkt, key, (uint16_t)op->arg);
    case OKO_OP_POP_PBB:
        return oko_edit_pop_pbb(pkt, key);
    case OKO_OP_SET_MPLS_TTL:
        return oko_edit_set_mpls_ttl(pkt, key, (uint8_t)op->arg);
    case OKO_OP_DEC_MPLS_TTL:
        return oko_edit_dec_mpls_ttl(pkt, key);
    case OKO_OP_SET_TTL:
        return oko_edit_set_ttl(pkt, key, (uint8_t)op->arg);
    case OKO_OP_DEC_TTL:
    case OKO_OP_DEC_TTL_IDS:
        return oko_edit_dec_ttl(pkt, key);
    case OKO_OP_COPY_TTL_OUT:
        return oko_edit_copy_ttl_out(pkt, key);
    case OKO_OP_COPY_TTL_IN:
        return oko_edit_copy_ttl_in(pkt, key);
    }
    return 0;
}

/* One action; false: its list ends here. */
static bool execute_op(struct oko_exec *x, const struct oko_op_head *op)
{
    const uint8_t *payload = oko_op_payload(op);
    uint32_t u32;
    OKO_TRACE(x->worker, OKO_TRACE_OP, x->depth, x->table, x->rule, op->op, op->arg);
    if (writes_frame(op->op) || op->op == OKO_OP_DEC_TTL_IDS) {
        if (!writable(x))
            return false;
        int rc = edit(x, op);
        grown(x, rc);
        return decremented(x, rc, op) && !x->stop;
    }
    switch (op->op) {
    case OKO_OP_METER:
        return meter(x, op->arg);
    case OKO_OP_APPLY:
        return execute_list(x, payload, op->len - 8u);
    case OKO_OP_CLEAR:
        oko_action_set_clear(&x->worker->set);
        break;
    case OKO_OP_WRITE:
        if (!oko_action_set_write(&x->worker->set, payload, op->len - 8u))
            limit(x);
        break;
    case OKO_OP_METADATA:
        write_metadata(x, op);
        break;
    case OKO_OP_OUTPUT:
        output_op(x, op);
        break;
    case OKO_OP_GROUP:
        execute_group(x, op->arg);
        break;
    case OKO_OP_SET_QUEUE:
        x->pkt->queue = op->arg;
        break;
    case OKO_OP_SET_FIELD:
        if (!oko_field_in_frame(op->arg) || writable(x))
            grown(x, oko_edit_set_field(x->pkt, x->key, op->arg, payload, payload + 16));
        break;
    case OKO_OP_MOVE:
        move(x, op);
        break;
    case OKO_OP_RESUBMIT:
        memcpy(&u32, payload, 4);
        resubmit(x, u32, op->arg == 255 ? x->table : op->arg);
        break;
    case OKO_OP_LEARN:
        oko_learn(x, op);
        break;
    case OKO_OP_CLONE:
        execute_apart(x, payload, op->len - 8u);
        break;
    case OKO_OP_CONTROLLER:
        oko_packet_in(x, op->arg, u16_at(op, 1), u16_at(op, 0));
        break;
    case OKO_OP_EXIT:
        x->exit = true;
        break;
    case OKO_OP_PUSH:
        push(x, op);
        break;
    case OKO_OP_POP:
        pop(x, op);
        break;
    case OKO_OP_FIN_TIMEOUT:
        oko_fin_timeout(x, op);
        break;
    case OKO_OP_OUTPUT_REG:
        output_reg(x, op);
        break;
    case OKO_OP_SEND_MAPS:
        send_maps(x, op);
        break;
    case OKO_OP_SET_VLAN_TCI:
        set_vlan_tci(x, op->arg >> 16, op->arg & 0xffff);
        break;
    default: /* note */
        break;
    }
    return !x->stop && !x->exit;
}

static bool execute_list(struct oko_exec *x, const uint8_t *ops, uint32_t len)
{
    for (uint32_t at = 0; at < len; at += oko_op(ops + at)->len)
        if (!execute_op(x, oko_op(ops + at)))
            return false;
    return true;
}

/* ---------------------------------------------------------------- rules and the action set */

void oko_execute(struct oko_exec *x, const struct oko_rule *rule)
{
    for (;;) {
        uint32_t to = OKO_N_TABLES;
        x->rule = rule;
        x->table = rule->table;
        oko_count_rule(x->worker, rule, x->pkt);
        for (uint32_t at = 0; at < rule->ops_len; at += oko_op(rule->ops + at)->len) {
            const struct oko_op_head *op = oko_op(rule->ops + at);
            if (op->op == OKO_OP_GOTO)
                to = op->arg;
            else if (!execute_op(x, op))
                return;
        }
        if (to == OKO_N_TABLES)
            return;
        struct oko_cands cands;
        x->table = (uint8_t)to;
        oko_lookup(x->worker, to, x->key, &cands);
        rule = oko_decide(x->worker, x->index, to, x->key, &cands);
        if (!rule) { /* a miss ends the pipeline; the action set is still executed */
            x->rule = NULL;
            oko_miss(x);
            return;
        }
    }
}

void oko_execute_set(struct oko_exec *x)
{
    if (oko_action_set_empty(&x->worker->set))
        return;
    const struct oko_op_head *ops[OKO_SET_MAX];
    uint32_t n = oko_action_set_sort(&x->worker->set, ops);
    oko_action_set_clear(&x->worker->set);
    x->exit = false;
    OKO_TRACE(x->worker, OKO_TRACE_ACTION_SET, x->depth, x->table, NULL, n, 0);
    for (uint32_t i = 0; i < n; i++)
        if (!execute_op(x, ops[i]))
            return;
}
