/* The sequential rule (design, section 3): bursts, caches, batch entries and the hash secret must
 * not be observable.
 *
 * Random flows in several tables, with pure and stateful programs at different depths, timeouts,
 * learn, resubmit, clones, rewrites and packet-ins; random packets; commits in between. The same is
 * played to datapaths that differ only in burst size, cache, engine and secret, and everything that
 * can be seen must be the same: frames, events, counters, maps. (What is right is the naive twin's
 * business, tests/differential.) */
#include "dp_kit.h"

enum { PORTS = 4, PROGS = 7, FLOWS = 40, STEPS = 30, PACKETS = 96, HOSTS = 4 };

/* Everything observable, as one growing text of bytes. */
struct record {
    uint8_t *bytes;
    uint64_t n, cap;
};

static void note(struct record *record, const void *bytes, uint64_t n)
{
    if (n == 0)
        return;
    if (record->n + n > record->cap) {
        record->cap = 2 * (record->n + n);
        record->bytes = realloc(record->bytes, record->cap);
        CHECK(record->bytes);
    }
    memcpy(record->bytes + record->n, bytes, n);
    record->n += n;
}

static uint32_t pick(uint64_t *seed, uint32_t n)
{
    return (uint32_t)(next_random(seed) % n);
}

static void load(struct oko_dp *dp, uint32_t number, uint64_t *seed)
{
    if (number % 2)
        CHECK(kit_load_byte(dp, number, (int16_t)(42 + pick(seed, 2)), (int32_t)pick(seed, 3)) ==
              0);
    else
        CHECK(kit_load_every(dp, number, 1 + (int32_t)pick(seed, 4), pick(seed, 2)) == 0);
}

static void random_actions(struct kit_ops *ops, uint32_t table, bool learns, uint64_t *seed)
{
    for (uint32_t n = 1 + pick(seed, 3); n; n--) {
        uint8_t value[32] = {0};
        uint32_t to[2] = {OKO_PORT_IN_PORT, 0};
        switch (pick(seed, 10)) {
        case 0:
        case 1:
            kit_output(ops, 1 + pick(seed, PORTS));
            break;
        case 2: /* rewrite what later tables match, and what programs must not see */
            value[0] = (uint8_t)pick(seed, 3);
            value[16] = 0x3f;
            memcpy(kit_op(ops, OKO_OP_SET_FIELD, OKO_FIELD_IP_DSCP, 32), value, 32);
            break;
        case 3:
            kit_op(ops, OKO_OP_PUSH_VLAN, 0x8100, 0);
            break;
        case 4:
            memcpy(kit_op(ops, OKO_OP_RESUBMIT, table + 1 + pick(seed, 2), 8), to, 8);
            break;
        case 5:
            kit_begin(ops, OKO_OP_CLONE);
            kit_op(ops, OKO_OP_DEC_TTL, 0, 0);
            memcpy(kit_op(ops, OKO_OP_RESUBMIT, table + 1, 8), to, 8);
            kit_end(ops);
            break;
        case 6:
            kit_output(ops, OKO_PORT_CONTROLLER);
            break;
        case 7:
            if (learns) {
                struct oko_learn learn = {.hard_timeout = 1,
                                          .idle_timeout = (uint16_t)pick(seed, 3),
                                          .priority = 7,
                                          .cookie = 99,
                                          .n_specs = 2,
                                          .flags = OKO_LEARN_SEND_FLOW_REM,
                                          .result = UINT32_MAX};
                struct oko_learn_spec specs[2] = {
                    {.dst = OKO_LEARN_MATCH,
                     .n_bits = 16,
                     .src_field = OKO_FIELD_UDP_SRC,
                     .dst_field = OKO_FIELD_UDP_SRC},
                    {.dst = OKO_LEARN_OUTPUT, .n_bits = 32, .src_field = OKO_FIELD_IN_PORT}};
                uint8_t *payload =
                    kit_op(ops, OKO_OP_LEARN, pick(seed, 3), sizeof learn + sizeof specs);
                memcpy(payload, &learn, sizeof learn);
                memcpy(payload + sizeof learn, specs, sizeof specs);
            }
            break;
        case 8:
            kit_output(ops, OKO_PORT_NORMAL);
            break;
        default:
            kit_output(ops, OKO_PORT_FLOOD);
        }
    }
}

static void random_flow(struct oko_dp *dp, bool learns, bool timed, bool deep, uint64_t *seed)
{
    struct kit_ops ops = {0};
    struct kit_flow flow = {.table = pick(seed, 4),
                            .priority = (uint16_t)pick(seed, 6),
                            .cookie = pick(seed, 4),
                            .flags = OKO_FLOW_SEND_FLOW_REM,
                            .ops = &ops};
    flow.prog = pick(seed, deep ? 30 : 3) ? 1 + pick(seed, PROGS) : 0;
    if (deep && pick(seed, 8)) { /* many candidates in one table */
        flow.table = 0;
        flow.priority = (uint16_t)pick(seed, 40);
    }
    if (timed && pick(seed, 3) == 0)
        flow.idle = 1;
    if (timed && pick(seed, 4) == 0)
        flow.hard = 1 + pick(seed, 2);
    uint32_t n = 0;
    if (pick(seed, deep ? 6 : 2) == 0)
        flow.match[n++] = (struct kit_field){OKO_FIELD_UDP_SRC, pick(seed, 3), 0};
    if (pick(seed, 3) == 0)
        flow.match[n++] = (struct kit_field){OKO_FIELD_IN_PORT, 1 + pick(seed, PORTS), 0};
    if (pick(seed, 3) == 0)
        flow.match[n++] = (struct kit_field){OKO_FIELD_IP_DSCP, pick(seed, 3), 0};
    if (pick(seed, 4) == 0)
        flow.match[n++] = (struct kit_field){OKO_FIELD_IPV4_SRC, pick(seed, 2), 1};
    if (pick(seed, 8)) {
        kit_begin(&ops, OKO_OP_APPLY);
        random_actions(&ops, flow.table, learns, seed);
        kit_end(&ops);
    }
    if (pick(seed, 3) == 0) {
        kit_begin(&ops, OKO_OP_WRITE);
        kit_output(&ops, 1 + pick(seed, PORTS));
        kit_end(&ops);
    }
    if (pick(seed, 2))
        kit_op(&ops, OKO_OP_GOTO, flow.table + 1 + pick(seed, 2), 0);
    flow.command = pick(seed, 5) ? OKO_FLOW_ADD : pick(seed, 2) ? OKO_FLOW_MODIFY : OKO_FLOW_DELETE;
    CHECK(kit_try(dp, flow) == 0);
}

static void note_state(struct oko_dp *dp, struct record *record)
{
    static uint8_t buffer[1 << 22];
    uint64_t drops[OKO_N_DROPS], lost, cursor = 0;
    struct oko_port_info ports[PORTS];
    for (uint32_t port = 1; port <= PORTS; port++)
        for (int64_t n; (n = oko_dp_mem_read(dp, port, buffer, sizeof buffer)) > 0;)
            note(record, buffer, (uint64_t)n);
    int64_t n = oko_dp_events(dp, buffer, sizeof buffer, &lost);
    CHECK(n >= 0 && lost == 0);
    note(record, buffer, (uint64_t)n);
    for (; (n = oko_dp_flows(dp, &cursor, buffer, sizeof buffer)) > 0;)
        note(record, buffer, (uint64_t)n);
    oko_dp_drops(dp, drops);
    note(record, drops, sizeof drops);
    CHECK(oko_dp_ports(dp, ports, PORTS) == PORTS);
    note(record, ports, sizeof ports);
    struct oko_mac_info macs[HOSTS]; /* the table's order is the secret's; their times are added */
    uint64_t seen[3] = {oko_dp_macs(dp, macs, HOSTS), 0, 0};
    CHECK(seen[0] <= HOSTS);
    for (uint32_t i = 0; i < seen[0]; i++) {
        seen[1] += macs[i].seen_ns * (1 + macs[i].mac[5]);
        seen[2] += macs[i].port * (1ull << 8 * macs[i].mac[5]);
    }
    note(record, seen, sizeof seen);
    for (uint32_t number = 1; number <= PROGS; number++) {
        struct oko_dp_prog_info info = kit_prog(dp, number);
        uint64_t counts[3] = {info.runs, info.matches, info.faults};
        note(record, counts, sizeof counts);
        if (number % 2 == 0) {
            uint64_t value = kit_map_value(dp, number);
            note(record, &value, sizeof value);
        }
    }
    for (uint32_t table = 0; table < 6; table++) {
        struct oko_table_info info;
        CHECK(oko_dp_table(dp, table, &info) == 0);
        uint64_t counts[2] = {info.lookups, info.matches};
        note(record, counts, sizeof counts);
    }
}

struct setup {
    uint32_t flags, burst, others;
    uint64_t secret, cache_bytes;
};

static struct record play(uint64_t seed, const struct setup *setup)
{
    struct record record = {0};
    struct oko_dp_opts opts = {.n_workers = setup->others + 1,
                               .flags = setup->flags,
                               .burst = setup->burst,
                               .secret = setup->secret,
                               .cache_bytes = setup->cache_bytes};
    struct oko_dp *dp;
    CHECK(oko_dp_new(&opts, &dp) == 0);
    bool learns = seed % 3 == 0, timed = seed % 2 == 0, deep = seed % 5 < 2;
    for (uint32_t i = 1; i <= PORTS; i++)
        CHECK(oko_dp_port_add_mem(dp, i, "", 1 << 24) == 0);
    for (uint32_t i = 1; i <= PROGS; i++)
        load(dp, i, &seed);
    for (uint32_t i = 0; i < FLOWS; i++)
        random_flow(dp, learns, timed, deep, &seed);
    static uint8_t frames[PACKETS][64];
    struct oko_frame in[PACKETS];
    uint64_t ns = SECOND, packets = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        for (uint32_t i = 0; i < PACKETS; i++) {
            struct kit_udp udp = {.src = pick(&seed, 4),
                                  .sport = (uint16_t)pick(&seed, 3),
                                  .dport = 9,
                                  .payload = {(uint8_t)pick(&seed, 3), (uint8_t)pick(&seed, 3)}};
            kit_frame(frames[i], &udp);
            frames[i][22] = (uint8_t)(1 + pick(&seed, 3)); /* TTL */
            frames[i][0] = frames[i][6] = 2;               /* addresses of HOSTS */
            frames[i][5] = (uint8_t)pick(&seed, HOSTS);
            frames[i][11] = (uint8_t)pick(&seed, HOSTS);
            ns += pick(&seed, SECOND / 100);
            in[i] = (struct oko_frame){.data = frames[i],
                                       .len = pick(&seed, 9) ? 64 : 40,
                                       .in_port = 1 + pick(&seed, PORTS),
                                       .ns = ns,
                                       .seq = packets++};
        }
        CHECK(oko_dp_process(dp, 0, in, PACKETS) == 0);
        note_state(dp, &record);
        for (uint32_t i = pick(&seed, 4); i; i--)
            random_flow(dp, learns, timed, deep, &seed);
        if (pick(&seed, 6) == 0)
            load(dp, 1 + pick(&seed, PROGS), &seed);
        if (timed && pick(&seed, 6) == 0)
            CHECK(oko_dp_tick(dp, 0, ns += pick(&seed, SECOND)) == 0);
    }
    CHECK(oko_dp_tick(dp, 0, ns + 100 * SECOND) == 0);
    note_state(dp, &record);
    oko_dp_free(dp);
    return record;
}

static uint64_t first_difference(const struct record *a, const struct record *b)
{
    uint64_t n = a->n < b->n ? a->n : b->n;
    for (uint64_t i = 0; i < n; i++)
        if (a->bytes[i] != b->bytes[i])
            return i;
    return n;
}

int main(int argc, char **argv)
{
    static const struct setup setups[] = {
        {.burst = 1, .flags = OKO_DP_NO_CACHE | OKO_DP_INTERPRET, .secret = 1},
        {.burst = 32, .secret = 2},
        {.burst = 32, .secret = 3, .flags = OKO_DP_NO_CACHE},
        {.burst = 32, .secret = 4, .cache_bytes = 4096}, /* entries are replaced all the time */
        {.burst = 7, .secret = 5},
        {.burst = 32, .secret = 7, .others = 1}, /* a worker that rests */
        {.burst = 1, .secret = 6},
    };
#ifdef __SANITIZE_THREAD__ /* one thread: nothing to find, and slow */
    const uint64_t usual = 3;
#else
    const uint64_t usual = 24;
#endif
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 0) : usual;
    for (uint64_t seed = 1; seed <= n; seed++) {
        struct record want = play(seed, &setups[0]);
        CHECK(want.n > 10000);
        for (uint32_t i = 1; i < sizeof setups / sizeof setups[0]; i++) {
            struct record got = play(seed, &setups[i]);
            if (got.n != want.n || memcmp(got.bytes, want.bytes, want.n)) {
                fprintf(stderr, "seed %llu, setup %u: %llu bytes, not %llu; differ at %llu\n",
                        (unsigned long long)seed, i, (unsigned long long)got.n,
                        (unsigned long long)want.n,
                        (unsigned long long)first_difference(&got, &want));
                exit(1);
            }
            free(got.bytes);
        }
        free(want.bytes);
    }
    printf("test_bursts: ok\n");
    return 0;
}
