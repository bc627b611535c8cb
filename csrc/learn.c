/* learn and fin_timeout: packets that change tables.
 *
 * learn makes a flow from the packet: fields to match, fields to load, ports to output to. As in
 * Open vSwitch it behaves like a strict modify that adds the flow when it is not there, and seeing
 * it again restarts the flow's timeouts. When the flow is there already with the same
 * instructions, nothing else happens and no lock is taken: that is the common case, once per
 * packet.
 *
 * A learned flow is visible at once, also to the rest of this packet's way. (If somebody else's
 * commit came in between, this packet would see that one halfway; then it keeps its view to its
 * end.)
 *
 * Thread-safety: takes the datapath's mutex from a forwarding thread; whoever holds it never waits
 * for forwarding threads. */
#include "commit.h"
#include "edit.h"
#include "pipeline.h"

#include <string.h>

/* The most that a learned flow's instructions can take: a head and 64 set-fields or outputs. */
enum { MAX_LEARNED_OPS = 8 + 64 * 40 + 16 };

/* The flow that one learn action makes of the packet at hand. */
struct learned {
    struct oko_flow_mod mod;
    struct oko_match_field match[OKO_N_FIELDS];
    uint8_t slot_of[OKO_N_FIELDS]; /* 1 + index in match of a field; 0 = not there yet */
    _Alignas(8) uint8_t ops[MAX_LEARNED_OPS];
};

/* Adds bits ofs.. of a field, given as a big-endian number, to value and mask in the field's own
 * size. */
static void place_bits(uint32_t field, uint32_t ofs, uint32_t n_bits, const uint8_t number[16],
                       uint8_t value[16], uint8_t mask[16])
{
    uint32_t size = oko_field(field)->size;
    for (uint32_t i = 0; i < n_bits; i++) {
        uint32_t at = ofs + i, byte = size - 1 - at / 8;
        uint8_t bit = (uint8_t)(1u << at % 8);
        mask[byte] |= bit;
        if (number[15 - i / 8] >> i % 8 & 1)
            value[byte] |= bit;
        else
            value[byte] &= (uint8_t)~bit;
    }
}

static void learn_match(struct learned *flow, const struct oko_learn_spec *spec,
                        const uint8_t number[16])
{
    uint8_t *slot = &flow->slot_of[spec->dst_field];
    if (!*slot) {
        struct oko_match_field *fresh = &flow->match[flow->mod.spec.n_match++];
        memset(fresh, 0, sizeof *fresh);
        fresh->field = spec->dst_field;
        *slot = (uint8_t)flow->mod.spec.n_match;
    }
    struct oko_match_field *match = &flow->match[*slot - 1];
    place_bits(spec->dst_field, spec->dst_ofs, spec->n_bits, number, match->value, match->mask);
}

static uint8_t *add_op(struct learned *flow, uint32_t *len, uint16_t op, uint16_t payload,
                       uint32_t arg)
{
    uint16_t op_len = (uint16_t)(8 + (payload + 7) / 8 * 8);
    struct oko_op_head head = {op, op_len, arg};
    uint8_t *at = flow->ops + *len;
    memset(at, 0, op_len);
    memcpy(at, &head, sizeof head);
    *len += op_len;
    return at + sizeof head;
}

static uint32_t port_number(const uint8_t number[16], uint32_t n_bits)
{
    uint64_t port;
    memcpy(&port, number + 8, 8);
    port = __builtin_bswap64(port);
    return n_bits <= 16 && port >= 0xff00 ? 0xffff0000u | (uint32_t)port : (uint32_t)port;
}

static void build(struct learned *flow, const struct oko_exec *x, const struct oko_op_head *op)
{
    struct oko_learn learn;
    memcpy(&learn, oko_op_payload(op), sizeof learn);
    memset(&flow->mod, 0, sizeof flow->mod);
    memset(flow->slot_of, 0, sizeof flow->slot_of);
    struct oko_flow_spec *spec = &flow->mod.spec;
    spec->cookie = learn.cookie;
    spec->table = op->arg;
    spec->priority = learn.priority;
    spec->flags = learn.flags & OKO_LEARN_SEND_FLOW_REM ? OKO_FLOW_SEND_FLOW_REM : 0;
    spec->idle_timeout = learn.idle_timeout;
    spec->hard_timeout = learn.hard_timeout;
    spec->match = flow->match;
    spec->ops = flow->ops;
    flow->mod.command = OKO_FLOW_MODIFY_STRICT;
    flow->mod.or_add = 1;

    uint32_t len = 8; /* the head of APPLY comes last */
    if (learn.fin_idle || learn.fin_hard) {
        uint16_t timeouts[2] = {learn.fin_idle, learn.fin_hard};
        memcpy(add_op(flow, &len, OKO_OP_FIN_TIMEOUT, 8, 0), timeouts, sizeof timeouts);
    }
    for (uint32_t i = 0; i < learn.n_specs; i++) {
        struct oko_learn_spec from;
        memcpy(&from, oko_op_payload(op) + sizeof learn + i * sizeof from, sizeof from);
        uint8_t number[16];
        if (from.src_is_value)
            memcpy(number, from.value, 16);
        else
            oko_key_get_bits(x->key, from.src_field, from.src_ofs, from.n_bits, number);
        if (from.dst == OKO_LEARN_MATCH) {
            learn_match(flow, &from, number);
        } else if (from.dst == OKO_LEARN_LOAD) {
            uint8_t *payload = add_op(flow, &len, OKO_OP_SET_FIELD, 32, from.dst_field);
            place_bits(from.dst_field, from.dst_ofs, from.n_bits, number, payload, payload + 16);
        } else {
            uint32_t port = port_number(number, from.n_bits);
            /* Ports that cannot be are left out, as an output to them would do nothing. */
            if (port && (port < OKO_PORT_MAX || port >= OKO_PORT_IN_PORT) && port != OKO_PORT_ANY)
                add_op(flow, &len, OKO_OP_OUTPUT, 0, port);
        }
    }
    if (len == 8)
        return; /* no actions: drop */
    struct oko_op_head apply = {OKO_OP_APPLY, (uint16_t)len, 0};
    memcpy(flow->ops, &apply, sizeof apply);
    spec->ops_len = len;
}

/* Is it there as it would be made? Then only its timeouts start again. Without a lock: the
 * rule is visible to this thread, so it stays until the burst ends. */
static bool refresh(struct oko_worker *w, const struct learned *flow, const struct oko_match *match,
                    uint64_t now_ns)
{
    const struct oko_flow_spec *spec = &flow->mod.spec;
    struct oko_rule *rule =
        oko_cls_find(&w->dp->tables[spec->table], match, spec->priority, 0, w->view->version);
    if (!rule || rule->ops_len != spec->ops_len || memcmp(rule->ops, spec->ops, spec->ops_len))
        return false;
    if (OKO_LOAD(&rule->modified_ns) < now_ns)
        OKO_STORE(&rule->modified_ns, now_ns);
    return true;
}

static uint32_t n_learned(const struct oko_dp *dp, uint32_t table, uint64_t cookie)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < dp->flows_end; i++)
        n += dp->flows[i] && dp->flows[i]->table == table && dp->flows[i]->cookie == cookie;
    return n;
}

/* Sets the bit that tells whether the limit left room. */
static void set_result(struct oko_exec *x, uint32_t result, bool learned)
{
    if (result == UINT32_MAX)
        return;
    uint8_t value[16] = {0}, mask[16] = {0}, number[16] = {[15] = learned};
    uint32_t field = result & 0xffff;
    place_bits(field, result >> 16, 1, number, value, mask);
    if (!oko_field_in_frame(field) || oko_pkt_writable(x->pkt, x->worker->pool) == 0)
        oko_edit_set_field(x->pkt, x->key, field, value, mask);
}

void oko_learn(struct oko_exec *x, const struct oko_op_head *op)
{
    struct oko_worker *w = x->worker;
    struct oko_dp *dp = w->dp;
    uint64_t now = x->pkt->meta.rx_ns;
    struct oko_learn learn;
    struct learned flow;
    struct oko_match match;
    struct oko_ops_facts facts;
    if (w->dry)
        return;
    memcpy(&learn, oko_op_payload(op), sizeof learn);
    build(&flow, x, op);
    /* What the packet put together may not make sense, e.g. match bits that contradict. */
    if (oko_match_from(&match, flow.match, flow.mod.spec.n_match, NULL) ||
        oko_ops_check(flow.ops, flow.mod.spec.ops_len, OKO_OPS_INSTRUCTIONS, op->arg, &facts, NULL))
        return;
    if (refresh(w, &flow, &match, now)) {
        set_result(x, learn.result, true);
        return;
    }
    oko_flush_runs(w);
    oko_dp_lock(dp);
    struct oko_commit c;
    oko_commit_begin(dp, now, w->index, &c);
    bool there = oko_cls_find(&dp->tables[op->arg], &match, learn.priority, 0, c.version) != NULL;
    bool room = there || !learn.limit || n_learned(dp, op->arg, learn.cookie) < learn.limit;
    if (room && oko_commit_flow(&c, &flow.mod, &match, &facts, true, NULL) == 0)
        oko_commit_publish(&c);
    else
        oko_commit_rollback(&c); /* full: as if the limit were reached */
    bool alone = c.version == w->view->version + 1;
    if (room && !there) {
        const struct oko_rule *rule =
            oko_cls_find(&dp->tables[op->arg], &match, learn.priority, 0, c.version);
        if (rule)
            oko_event_flow(dp, rule, OKO_EVENT_LEARNED, 0, now, x->pkt->seq);
    }
    oko_dp_unlock(dp);
    w->changed = true;
    if (alone)
        oko_worker_look(w);
    set_result(x, learn.result, room);
}

/* NXAST_FIN_TIMEOUT: a flow that saw FIN or RST gets shorter timeouts. */
void oko_fin_timeout(struct oko_exec *x, const struct oko_op_head *op)
{
    struct oko_dp *dp = x->worker->dp;
    struct oko_rule *rule = (struct oko_rule *)(uintptr_t)x->rule;
    static const uint8_t tcp = 6, fin_or_rst = 0x05;
    if (!rule || x->worker->dry || x->key->ip_proto[0] != tcp ||
        !(x->key->tcp_flags[1] & fin_or_rst))
        return;
    uint16_t limits[2];
    memcpy(limits, oko_op_payload(op), sizeof limits);
    uint32_t idle = OKO_LOAD(&rule->idle_timeout), hard = OKO_LOAD(&rule->hard_timeout);
    bool less_idle = limits[0] && (!idle || limits[0] < idle);
    bool less_hard = limits[1] && (!hard || limits[1] < hard);
    if (!less_idle && !less_hard)
        return;
    oko_flush_runs(x->worker);
    oko_dp_lock(dp);
    if (OKO_LOAD(&rule->remove_version) == OKO_NEVER) {
        if (less_idle)
            OKO_STORE(&rule->idle_timeout, limits[0]);
        if (less_hard)
            OKO_STORE(&rule->hard_timeout, limits[1]);
        OKO_STORE(&rule->kind, (uint8_t)(rule->kind | OKO_RULE_TIMED));
        oko_heap_touch(dp, rule);
    }
    oko_dp_unlock(dp);
    x->worker->changed = true;
}
