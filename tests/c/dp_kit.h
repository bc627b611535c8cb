/* Small change for the datapath's tests: flows in a line, frames, programs. */
#ifndef OKO_DP_KIT_H
#define OKO_DP_KIT_H

#include "check.h"
#include "dp.h"

#define SECOND 1000000000ull

static inline struct oko_dp *kit_dp(uint32_t n_workers, uint32_t flags, uint32_t burst)
{
    struct oko_dp_opts opts = {
        .n_workers = n_workers, .flags = flags, .burst = burst, .secret = 42};
    struct oko_dp *dp;
    CHECK(oko_dp_new(&opts, &dp) == 0);
    return dp;
}

/* ---------------------------------------------------------------- instructions */

/* A string of ops under construction. */
struct kit_ops {
    _Alignas(8) uint8_t bytes[4096];
    uint32_t len;
    uint32_t open[8], n_open; /* heads whose length is not known yet */
};

static inline void *kit_op(struct kit_ops *ops, uint16_t op, uint32_t arg, uint32_t payload)
{
    struct oko_op_head head = {op, (uint16_t)(8 + (payload + 7) / 8 * 8), arg};
    CHECK(ops->len + head.len <= sizeof ops->bytes);
    uint8_t *at = ops->bytes + ops->len;
    memset(at, 0, head.len);
    memcpy(at, &head, sizeof head);
    ops->len += head.len;
    return at + 8;
}

static inline void kit_begin(struct kit_ops *ops, uint16_t op)
{
    ops->open[ops->n_open++] = ops->len;
    kit_op(ops, op, 0, 0);
}

static inline void kit_end(struct kit_ops *ops)
{
    uint32_t at = ops->open[--ops->n_open];
    uint16_t len = (uint16_t)(ops->len - at);
    memcpy(ops->bytes + at + 2, &len, 2);
}

static inline void kit_output(struct kit_ops *ops, uint32_t port)
{
    kit_op(ops, OKO_OP_OUTPUT, port, 0);
}

/* ---------------------------------------------------------------- flows */

/* A field by number, value as an integer, all bits matched unless mask is given. */
struct kit_field {
    uint32_t field;
    uint64_t value, mask; /* mask 0 = all */
};

static inline void kit_put_number(uint8_t out[16], uint32_t size, uint64_t value)
{
    for (uint32_t i = 0; i < size && i < 8; i++)
        out[size - 1 - i] = (uint8_t)(value >> 8 * i);
}

static inline struct oko_match_field kit_match(struct kit_field f)
{
    const struct oko_field *field = oko_field(f.field);
    struct oko_match_field out = {.field = f.field};
    uint64_t ones = field->bits >= 64 ? UINT64_MAX : (1ull << field->bits) - 1;
    kit_put_number(out.value, field->size, f.value);
    kit_put_number(out.mask, field->size, f.mask ? f.mask : ones);
    return out;
}

struct kit_flow {
    uint32_t table;
    uint16_t priority;
    uint16_t flags;
    uint32_t prog;
    uint32_t idle, hard;
    uint64_t cookie;
    struct kit_field match[6]; /* field 0 with value 0: end */
    uint32_t output;           /* 0: none; else apply(output) */
    const struct kit_ops *ops; /* instead of output */
    uint32_t command;
    uint64_t cookie_mask;
};

static inline void kit_mod(const struct kit_flow *flow, struct oko_flow_mod *mod,
                           struct oko_match_field match[6], struct kit_ops *ops)
{
    memset(mod, 0, sizeof *mod);
    ops->len = ops->n_open = 0;
    if (flow->output) {
        kit_begin(ops, OKO_OP_APPLY);
        kit_output(ops, flow->output);
        kit_end(ops);
    }
    const struct kit_ops *use = flow->ops ? flow->ops : ops;
    mod->spec = (struct oko_flow_spec){.cookie = flow->cookie,
                                       .table = flow->table,
                                       .priority = flow->priority,
                                       .flags = flow->flags,
                                       .idle_timeout = flow->idle,
                                       .hard_timeout = flow->hard,
                                       .filter_prog = flow->prog,
                                       .match = match,
                                       .ops = use->bytes,
                                       .ops_len = use->len};
    for (uint32_t i = 0; i < 6 && (flow->match[i].field || flow->match[i].value); i++)
        match[mod->spec.n_match++] = kit_match(flow->match[i]);
    mod->command = flow->command;
    mod->cookie_mask = flow->cookie_mask;
    mod->out_port = mod->out_group = 0xffffffff;
}

static inline int kit_try(struct oko_dp *dp, struct kit_flow flow)
{
    struct oko_flow_mod mod;
    struct oko_match_field match[6];
    static _Thread_local struct kit_ops ops;
    struct oko_txn *txn;
    kit_mod(&flow, &mod, match, &ops);
    CHECK(oko_dp_begin(dp, &txn) == 0);
    int rc = oko_txn_flow(txn, &mod, NULL);
    if (!rc)
        rc = oko_txn_commit(txn, NULL, NULL);
    oko_txn_free(txn);
    return rc;
}

#define kit_add(dp, ...) CHECK(kit_try(dp, (struct kit_flow){__VA_ARGS__}) == 0)

/* ---------------------------------------------------------------- frames */

/* Ethernet, IPv4, UDP; 64 bytes. */
struct kit_udp {
    uint32_t src, dst;
    uint16_t sport, dport;
    uint8_t payload[22];
};

/* A soft flow: dimension (from 0) of n of conjunction id. */
static inline void kit_soft(struct oko_dp *dp, struct kit_flow flow, uint32_t id,
                            uint16_t dimension, uint16_t n)
{
    struct kit_ops ops = {0};
    uint16_t payload[2] = {dimension, n};
    kit_begin(&ops, OKO_OP_APPLY);
    memcpy(kit_op(&ops, OKO_OP_CONJUNCTION, id, 8), payload, sizeof payload);
    kit_end(&ops);
    flow.ops = &ops;
    CHECK(kit_try(dp, flow) == 0);
}

static inline void kit_frame(uint8_t out[64], const struct kit_udp *udp)
{
    static const uint8_t head[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
    memset(out, 0, 64);
    memcpy(out, head, sizeof head);
    uint8_t *ip = out + 14;
    ip[0] = 0x45;
    ip[3] = 50;
    ip[8] = 64;
    ip[9] = 17;
    kit_put_number(ip + 12, 4, udp->src);
    kit_put_number(ip + 16, 4, udp->dst);
    kit_put_number(ip + 20, 2, udp->sport);
    kit_put_number(ip + 22, 2, udp->dport);
    kit_put_number(ip + 24, 2, 30);
    memcpy(ip + 28, udp->payload, 22);
}

/* Handles n copies of one frame that arrive together. */
static inline void kit_send(struct oko_dp *dp, uint32_t in_port, const uint8_t frame[64],
                            uint32_t n, uint64_t ns)
{
    struct oko_frame frames[64];
    CHECK(n <= 64);
    for (uint32_t i = 0; i < n; i++)
        frames[i] =
            (struct oko_frame){.data = frame, .len = 64, .in_port = in_port, .ns = ns, .seq = i};
    CHECK(oko_dp_process(dp, 0, frames, n) == 0);
}

static inline uint64_t kit_tx(struct oko_dp *dp, uint32_t number)
{
    struct oko_port_info ports[64];
    uint32_t n = oko_dp_ports(dp, ports, 64);
    for (uint32_t i = 0; i < n; i++)
        if (ports[i].number == number)
            return ports[i].tx_packets;
    return UINT64_MAX;
}

static inline void kit_ports(struct oko_dp *dp, uint32_t n)
{
    for (uint32_t i = 1; i <= n; i++)
        CHECK(oko_dp_port_add_null(dp, i, "") == 0);
}

static inline uint64_t kit_drop(struct oko_dp *dp, enum oko_drop reason)
{
    uint64_t drops[OKO_N_DROPS];
    oko_dp_drops(dp, drops);
    return drops[reason];
}

/* The flow with this cookie; false: there is none. */
static inline bool kit_flow_info(struct oko_dp *dp, uint64_t cookie, struct oko_flow_info *info)
{
    static _Thread_local uint8_t buffer[1 << 16];
    uint64_t cursor = 0;
    for (int64_t n; (n = oko_dp_flows(dp, &cursor, buffer, sizeof buffer)) > 0;)
        for (int64_t at = 0; at < n; at += info->size) {
            memcpy(info, buffer + at, sizeof *info);
            if (info->cookie == cookie)
                return true;
        }
    return false;
}

static inline uint64_t kit_packets(struct oko_dp *dp, uint64_t cookie)
{
    struct oko_flow_info info;
    return kit_flow_info(dp, cookie, &info) ? info.packets : UINT64_MAX;
}

/* ---------------------------------------------------------------- programs */

#define KIT_INSN(c, r, o, i) ((struct oko_insn){(c), (r), (o), (i)})

static inline int kit_load_insns(struct oko_dp *dp, uint32_t number, const struct oko_insn *insns,
                                 uint32_t n, const struct oko_map_spec *map, bool keep)
{
    struct oko_func_spec func = {.name = "entry"};
    struct oko_prog_spec spec = {.name = "kit",
                                 .insns = insns,
                                 .n_insns = n,
                                 .n_funcs = 1,
                                 .funcs = &func,
                                 .maps = map,
                                 .n_maps = map != NULL};
    struct oko_error error;
    struct oko_load_opts opts = {0};
    int rc = oko_dp_prog_load(dp, number, &spec, &opts, keep, NULL, &error);
    if (rc)
        fprintf(stderr, "program: %s\n", error.reason);
    return rc;
}

/* Returns a constant. */
static inline int kit_load_const(struct oko_dp *dp, uint32_t number, int32_t result)
{
    struct oko_insn insns[] = {KIT_INSN(0xb7, 0, 0, result), KIT_INSN(0x95, 0, 0, 0)};
    return kit_load_insns(dp, number, insns, 2, NULL, false);
}

/* Matches frames whose byte at offset is value. Pure. */
static inline int kit_load_byte(struct oko_dp *dp, uint32_t number, int16_t offset, int32_t value)
{
    struct oko_insn insns[] = {
        KIT_INSN(0xb7, 0, 0, 0),          /* r0 = 0 */
        KIT_INSN(0x35, 2, 1, offset + 1), /* if r2 >= offset + 1 goto +1 */
        KIT_INSN(0x95, 0, 0, 0),          /* exit */
        KIT_INSN(0x71, 0x13, offset, 0),  /* r3 = *(u8 *)(r1 + offset) */
        KIT_INSN(0x55, 3, 1, value),      /* if r3 != value goto +1 */
        KIT_INSN(0xb7, 0, 0, 1),          /* r0 = 1 */
        KIT_INSN(0x95, 0, 0, 0),
    };
    return kit_load_insns(dp, number, insns, 7, NULL, false);
}

/* Counts its runs in an array of one u64 and matches every n-th run. Stateful. */
static inline int kit_load_every(struct oko_dp *dp, uint32_t number, int32_t n, bool keep)
{
    struct oko_map_spec map = {
        .name = "runs", .type = OKO_MAP_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};
    struct oko_insn insns[] = {
        KIT_INSN(0x62, 10, -4, 0),  /* *(u32 *)(r10 - 4) = 0 */
        KIT_INSN(0x18, 0x11, 0, 0), /* r1 = map 0 */
        KIT_INSN(0, 0, 0, 0),
        KIT_INSN(0xbf, 0xa2, 0, 0), /* r2 = r10 */
        KIT_INSN(0x07, 2, 0, -4),   /* r2 += -4 */
        KIT_INSN(0x85, 0, 0, OKO_HELPER_MAP_LOOKUP),
        KIT_INSN(0x55, 0, 1, 0), /* if r0 != 0 goto +1 */
        KIT_INSN(0x95, 0, 0, 0),
        KIT_INSN(0x79, 0x01, 0, 0), /* r1 = *(u64 *)r0 */
        KIT_INSN(0x07, 1, 0, 1),    /* r1 += 1 */
        KIT_INSN(0x7b, 0x10, 0, 0), /* *(u64 *)r0 = r1 */
        KIT_INSN(0x97, 1, 0, n),    /* r1 %= n */
        KIT_INSN(0xb7, 0, 0, 0),
        KIT_INSN(0x55, 1, 1, 0), /* if r1 != 0 goto +1 */
        KIT_INSN(0xb7, 0, 0, 1),
        KIT_INSN(0x95, 0, 0, 0),
    };
    return kit_load_insns(dp, number, insns, sizeof insns / sizeof insns[0], &map, keep);
}

/* Value of entry 0 of the program's first map (of worker 0). */
static inline uint64_t kit_map_value(struct oko_dp *dp, uint32_t number)
{
    struct oko_prog *prog = oko_dp_prog(dp, number);
    CHECK(prog);
    uint64_t values[64] = {0};
    uint8_t key[4] = {0};
    CHECK(oko_map_lookup(oko_prog_map(prog, 0), key, (uint8_t *)values) == 0);
    oko_prog_unref(prog);
    return values[0];
}

static inline struct oko_dp_prog_info kit_prog(struct oko_dp *dp, uint32_t number)
{
    struct oko_dp_prog_info infos[64];
    uint32_t n = oko_dp_progs(dp, infos, 64);
    for (uint32_t i = 0; i < n; i++)
        if (infos[i].number == number)
            return infos[i];
    CHECK(false); /* no such program */
    return infos[0];
}

#endif
