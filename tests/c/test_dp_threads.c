/* Forwarding threads while everything changes under them: bundles are seen whole or not at all,
 * counters lose nothing, memory is not used after it is freed (run it under the sanitizers). */
#include "dp_kit.h"

#include <pthread.h>
#include <sched.h>

enum { N_WORKERS = 2 };

static bool stop;

struct forwarder {
    struct oko_dp *dp;
    uint32_t index;
    uint64_t packets; /* atomic: `seen_by` watches it grow */
    bool sources;     /* each packet from another source port */
};

static void *forward(void *arg)
{
    struct forwarder *f = arg;
    struct oko_worker *worker = oko_dp_worker(f->dp, f->index);
    static _Thread_local uint8_t frames[32][64];
    uint64_t ns = SECOND, packets = 0;
    oko_worker_online(worker);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct oko_pkt pkts[32];
        memset(pkts, 0, sizeof pkts);
        for (uint32_t i = 0; i < 32; i++) {
            uint16_t source = (uint16_t)(f->sources ? packets + i : i % 4);
            kit_frame(frames[i], &(struct kit_udp){.src = i, .sport = source});
            pkts[i].data = frames[i];
            pkts[i].len = 64;
            pkts[i].in_port = 1;
            pkts[i].meta.rx_ns = ns += 1000;
            pkts[i].meta.wire_len = 64;
        }
        oko_worker_burst(worker, pkts, 32);
        packets += 32;
        __atomic_store_n(&f->packets, packets, __ATOMIC_RELAXED);
        if (packets % 4096 == 0) { /* idle for a moment */
            oko_worker_offline(worker);
            oko_worker_online(worker);
        }
    }
    oko_worker_offline(worker);
    return NULL;
}

static void start(struct oko_dp *dp, struct forwarder *f, pthread_t *threads, bool sources)
{
    __atomic_store_n(&stop, false, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < N_WORKERS; i++) {
        f[i] = (struct forwarder){.dp = dp, .index = i, .sources = sources};
        CHECK(pthread_create(&threads[i], NULL, forward, &f[i]) == 0);
    }
}

/* Wait until every forwarder has done a whole burst that began after this call. */
static void seen_by(const struct forwarder *f)
{
    for (uint32_t i = 0; i < N_WORKERS; i++) {
        uint64_t before = __atomic_load_n(&f[i].packets, __ATOMIC_RELAXED);
        while (__atomic_load_n(&f[i].packets, __ATOMIC_RELAXED) < before + 64)
            sched_yield();
    }
}

static uint64_t finish(struct forwarder *f, pthread_t *threads)
{
    uint64_t packets = 0;
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < N_WORKERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        packets += f[i].packets;
    }
    return packets;
}

static void add(struct oko_txn *txn, struct kit_flow flow)
{
    struct oko_flow_mod mod;
    struct oko_match_field match[6];
    static struct kit_ops ops;
    kit_mod(&flow, &mod, match, &ops);
    CHECK(oko_txn_flow(txn, &mod, NULL) == 0);
}

/* Table 0 marks packets with a number, table 1 forwards only that number, and a bundle changes
 * both. A packet that saw half of a bundle would find nothing in table 1. */
static void test_bundles_show_whole(void)
{
    struct oko_dp *dp = kit_dp(N_WORKERS, 0, 0);
    struct forwarder f[N_WORKERS];
    pthread_t threads[N_WORKERS];
    struct oko_txn *txn;
    kit_ports(dp, 3);
    for (uint32_t i = 0; i < 6; i++) /* other masks, so that caches are used */
        for (uint32_t table = 0; table < 2; table++)
            kit_add(dp, .table = table, .priority = 9,
                    .match = {{OKO_FIELD_ETH_TYPE, 0x800},
                              {OKO_FIELD_IPV4_SRC, 0xf0000000, 0xf0000000 | 1u << i}});
    CHECK(oko_dp_begin(dp, &txn) == 0);
    for (uint32_t round = 0; round < 2000; round++) {
        struct kit_ops mark = {0};
        uint64_t metadata[2] = {round, UINT64_MAX};
        memcpy(kit_op(&mark, OKO_OP_METADATA, 0, 16), metadata, 16);
        kit_op(&mark, OKO_OP_GOTO, 1, 0);
        if (round % 3 == 0)
            add(txn, (struct kit_flow){
                         .command = OKO_FLOW_DELETE, .cookie = 5, .cookie_mask = UINT64_MAX});
        else
            add(txn, (struct kit_flow){.command = OKO_FLOW_DELETE,
                                       .table = 1,
                                       .cookie = 5,
                                       .cookie_mask = UINT64_MAX});
        add(txn, (struct kit_flow){.priority = 5, .ops = &mark, .cookie = 5});
        add(txn, (struct kit_flow){.table = 1,
                                   .priority = 5,
                                   .output = 2 + round % 2,
                                   .cookie = 5,
                                   .match = {{OKO_FIELD_METADATA, round, UINT64_MAX}}});
        CHECK(oko_txn_commit(txn, NULL, NULL) == 0);
        if (round == 0)
            start(dp, f, threads, false);
    }
    uint64_t packets = finish(f, threads);
    CHECK(kit_drop(dp, OKO_DROP_MISS) == 0);
    CHECK(kit_tx(dp, 2) + kit_tx(dp, 3) == packets);
    oko_txn_free(txn);
    oko_dp_free(dp);
}

/* Conjunctions come and go, in any order of their parts: every packet goes one way or the other. */
static void test_conjunctions_change(void)
{
    struct oko_dp *dp = kit_dp(N_WORKERS, 0, 0);
    struct forwarder f[N_WORKERS];
    pthread_t threads[N_WORKERS];
    kit_ports(dp, 3);
    kit_add(dp, .priority = 1, .output = 2);
    kit_soft(dp, (struct kit_flow){.priority = 9, .match = {{OKO_FIELD_ETH_TYPE, 0x800}}}, 7, 0, 2);
    start(dp, f, threads, false);
    for (uint32_t round = 0; round < 500; round++) {
        for (uint32_t part = 0; part < 2; part++)
            if ((round + part) % 2)
                kit_add(dp, .priority = 5, .output = 3, .cookie = 5,
                        .match = {{OKO_FIELD_CONJ_ID, 7}});
            else
                kit_soft(dp,
                         (struct kit_flow){
                             .priority = 9, .cookie = 5, .match = {{OKO_FIELD_UDP_SRC, round % 4}}},
                         7, 1, 2);
        if (round % 16 == 0)
            seen_by(f);
        kit_add(dp, .command = OKO_FLOW_DELETE, .cookie = 5, .cookie_mask = UINT64_MAX);
    }
    uint64_t packets = finish(f, threads);
    CHECK(kit_drop(dp, OKO_DROP_MISS) == 0 && kit_tx(dp, 2) + kit_tx(dp, 3) == packets);
    CHECK(kit_tx(dp, 3) > 0);
    oko_dp_free(dp);
}

/* Programs come, go and are replaced; ports too; everything is read all the while. */
static void test_everything_changes(void)
{
    struct oko_dp *dp = kit_dp(N_WORKERS, 0, 0);
    struct forwarder f[N_WORKERS];
    pthread_t threads[N_WORKERS];
    static uint8_t buffer[1 << 16];
    kit_ports(dp, 3);
    CHECK(kit_load_const(dp, 1, 1) == 0);
    kit_add(dp, .priority = 1, .output = 2, .cookie = 1);
    start(dp, f, threads, false);
    for (uint32_t round = 0; round < 300; round++) {
        CHECK(kit_load_const(dp, 1, (int32_t)(round % 2)) == 0);
        kit_add(dp, .priority = 5, .prog = 1, .output = 3, .cookie = 2);
        CHECK(oko_dp_port_add_null(dp, 7, "") == 0);
        kit_add(dp, .priority = 6, .output = 7, .cookie = 3, .flags = OKO_FLOW_SEND_FLOW_REM,
                .match = {{OKO_FIELD_UDP_SRC, round % 4}});
        CHECK(oko_dp_port_remove(dp, 7) == 0);
        uint64_t cursor = 0, lost;
        CHECK(oko_dp_flows(dp, &cursor, buffer, sizeof buffer) > 0);
        CHECK(oko_dp_events(dp, buffer, sizeof buffer, &lost) >= 0);
        CHECK(oko_dp_port_set_flags(dp, 3, round % 2 ? OKO_PORT_DOWN : 0) == 0);
        if (round % 3 == 0)
            CHECK(oko_dp_prog_unload(dp, 1, true, NULL) == 0);
        kit_add(dp, .command = OKO_FLOW_DELETE, .cookie = 3, .cookie_mask = UINT64_MAX);
    }
    uint64_t packets = finish(f, threads), sum = 0;
    for (uint32_t port = 2; port <= 3; port++)
        sum += kit_tx(dp, port);
    for (uint32_t i = 1; i < OKO_N_DROPS; i++)
        sum += kit_drop(dp, i);
    struct oko_dp_stats stats;
    oko_dp_stats(dp, &stats);
    CHECK(stats.packets == packets);
    CHECK(sum <= packets); /* the counters of port 7 went with it */
    oko_dp_free(dp);
}

/* Flow-removed events carry final counters: together they saw every packet. */
static void test_counters_of_removed_flows(void)
{
    struct oko_dp *dp = kit_dp(N_WORKERS, 0, 0);
    struct forwarder f[N_WORKERS];
    pthread_t threads[N_WORKERS];
    static uint8_t buffer[1 << 16];
    uint64_t counted = 0, lost = 0;
    kit_ports(dp, 3);
    kit_add(dp, .priority = 5, .output = 2, .flags = OKO_FLOW_SEND_FLOW_REM, .cookie = 1);
    start(dp, f, threads, false);
    struct oko_txn *txn;
    CHECK(oko_dp_begin(dp, &txn) == 0);
    for (uint32_t round = 0; round < 1000; round++) {
        /* another flow takes over without a gap */
        uint16_t now = (uint16_t)(5 + round % 2), next = (uint16_t)(5 + (round + 1) % 2);
        add(txn, (struct kit_flow){.command = OKO_FLOW_DELETE_STRICT, .priority = now});
        add(txn, (struct kit_flow){
                     .priority = next, .output = 2, .cookie = 1, .flags = OKO_FLOW_SEND_FLOW_REM});
        CHECK(oko_txn_commit(txn, NULL, NULL) == 0);
    }
    uint64_t packets = finish(f, threads);
    add(txn, (struct kit_flow){.command = OKO_FLOW_DELETE});
    CHECK(oko_txn_commit(txn, NULL, NULL) == 0);
    for (int64_t n; (n = oko_dp_events(dp, buffer, sizeof buffer, &lost)) > 0;)
        for (int64_t at = 0; at < n;) {
            struct oko_event event;
            memcpy(&event, buffer + at, sizeof event);
            counted += event.packets;
            at += event.size;
        }
    CHECK(lost == 0 && counted == packets && kit_tx(dp, 2) == packets);
    oko_txn_free(txn);
    oko_dp_free(dp);
}

/* Several threads learn and let expire at once. */
static void test_learning_threads(void)
{
    struct oko_dp *dp = kit_dp(N_WORKERS, 0, 0);
    struct forwarder f[N_WORKERS];
    pthread_t threads[N_WORKERS];
    struct kit_ops ops = {0};
    static uint8_t buffer[1 << 16];
    uint32_t to[2] = {OKO_PORT_IN_PORT, 0};
    kit_ports(dp, 3);
    kit_begin(&ops, OKO_OP_APPLY);
    struct oko_learn learn = {.hard_timeout = 1,
                              .priority = 7,
                              .cookie = 77,
                              .n_specs = 2,
                              .limit = 500,
                              .result = UINT32_MAX};
    struct oko_learn_spec specs[2] = {
        {.dst = OKO_LEARN_MATCH,
         .n_bits = 10,
         .src_field = OKO_FIELD_UDP_SRC,
         .dst_field = OKO_FIELD_UDP_SRC},
        {.dst = OKO_LEARN_OUTPUT, .n_bits = 32, .src_is_value = 1, .value = {[15] = 2}}};
    uint8_t *payload = kit_op(&ops, OKO_OP_LEARN, 1, sizeof learn + sizeof specs);
    memcpy(payload, &learn, sizeof learn);
    memcpy(payload + sizeof learn, specs, sizeof specs);
    memcpy(kit_op(&ops, OKO_OP_RESUBMIT, 1, 8), to, 8);
    kit_end(&ops);
    kit_add(dp, .ops = &ops);
    kit_add(dp, .table = 1, .output = 3);
    oko_dp_clock_start(dp, SECOND);
    start(dp, f, threads, true);
    for (uint32_t i = 0; i < 50; i++) {
        seen_by(f);
        uint64_t cursor = 0, lost;
        while (oko_dp_flows(dp, &cursor, buffer, sizeof buffer) > 0)
            ;
        CHECK(oko_dp_events(dp, buffer, sizeof buffer, &lost) >= 0);
    }
    uint64_t packets = finish(f, threads);
    CHECK(kit_tx(dp, 2) + kit_tx(dp, 3) == packets);
    CHECK(kit_tx(dp, 2) > 0);
    struct oko_table_info info;
    CHECK(oko_dp_table(dp, 1, &info) == 0 && info.n_flows <= 501);
    oko_dp_free(dp);
}

/* Time passes differently for two workers: a flow is removed only when both have passed its
 * deadline, but no one uses it beyond it. */
static void test_two_clocks(void)
{
    struct oko_dp *dp = kit_dp(2, 0, 0);
    uint8_t frame[64], buffer[1024];
    uint64_t lost;
    kit_frame(frame, &(struct kit_udp){.src = 1});
    kit_ports(dp, 3);
    kit_add(dp, .priority = 9, .idle = 5, .output = 2, .flags = OKO_FLOW_SEND_FLOW_REM);
    kit_add(dp, .priority = 1, .output = 3);
    oko_dp_clock_start(dp, 1 * SECOND);
    struct oko_frame late = {.data = frame, .len = 64, .in_port = 1, .ns = 10 * SECOND};
    struct oko_frame early = {.data = frame, .len = 64, .in_port = 1, .ns = 2 * SECOND};
    oko_worker_online(oko_dp_worker(dp, 1)); /* takes part, but has seen nothing so far */
    CHECK(oko_dp_process(dp, 0, &late, 1) == 0);
    CHECK(kit_tx(dp, 2) == 0 && kit_tx(dp, 3) == 1);
    CHECK(oko_dp_events(dp, buffer, sizeof buffer, &lost) == 0); /* still there */
    oko_worker_offline(oko_dp_worker(dp, 1));
    oko_dp_free(dp);

    dp = kit_dp(2, 0, 0);
    kit_ports(dp, 3);
    kit_add(dp, .priority = 9, .idle = 5, .output = 2, .flags = OKO_FLOW_SEND_FLOW_REM);
    kit_add(dp, .priority = 1, .output = 3);
    oko_dp_clock_start(dp, 1 * SECOND);
    CHECK(oko_dp_process(dp, 0, &late, 1) == 0);
    CHECK(oko_dp_events(dp, buffer, sizeof buffer, &lost) == 0); /* worker 1 has not begun */
    CHECK(oko_dp_process(dp, 1, &early, 1) == 0);
    CHECK(kit_tx(dp, 2) == 1);
    CHECK(oko_dp_tick(dp, 1, 20 * SECOND) == 0);
    CHECK(oko_dp_events(dp, buffer, sizeof buffer, &lost) > 0);
    struct oko_event event;
    memcpy(&event, buffer, sizeof event);
    CHECK(event.ns == 7 * SECOND && event.packets == 1);
    oko_dp_free(dp);
}

/* Whether entries 0 and 1 of the map (u32 -> u64) have the same value; a lookup that finds nothing
 * gives 0 as well. Prog 1's flow outputs, so a program that saw a mixture would miss. */
static int load_equal(struct oko_dp *dp, uint32_t type, bool keep)
{
    struct oko_map_spec map = {
        .name = "pair", .type = type, .key_size = 4, .value_size = 8, .max_entries = 2};
    struct oko_insn insns[] = {
        KIT_INSN(0x62, 10, -4, 0),                            /* key 0 */
        KIT_INSN(0x18, 0x11, 0, 0), KIT_INSN(0, 0, 0, 0),     /* r1 = map 0 */
        KIT_INSN(0xbf, 0xa2, 0, 0), KIT_INSN(0x07, 2, 0, -4), /* r2 = &key */
        KIT_INSN(0x85, 0, 0, 1),    KIT_INSN(0x15, 0, 12, 0), /* lookup; 0: out */
        KIT_INSN(0x79, 0x06, 0, 0),                           /* r6 = *r0 */
        KIT_INSN(0x62, 10, -4, 1),                            /* key 1 */
        KIT_INSN(0x18, 0x11, 0, 0), KIT_INSN(0, 0, 0, 0),     /* r1 = map 0 */
        KIT_INSN(0xbf, 0xa2, 0, 0), KIT_INSN(0x07, 2, 0, -4), /* r2 = &key */
        KIT_INSN(0x85, 0, 0, 1),    KIT_INSN(0x15, 0, 4, 0),  /* lookup; 0: out */
        KIT_INSN(0x79, 0x07, 0, 0),                           /* r7 = *r0 */
        KIT_INSN(0xb7, 0, 0, 1),                              /* r0 = 1 */
        KIT_INSN(0x1d, 0x76, 1, 0),                           /* r6 == r7: done */
        KIT_INSN(0xb7, 0, 0, 0),    KIT_INSN(0x95, 0, 0, 0),
    };
    return kit_load_insns(dp, 1, insns, sizeof insns / sizeof insns[0], &map, keep);
}

static int put_pair(struct oko_dp *dp, uint64_t value)
{
    uint8_t entries[2][12];
    for (uint32_t i = 0; i < 2; i++) {
        memcpy(entries[i], &i, 4);
        memcpy(entries[i] + 4, &value, 8);
    }
    return oko_dp_map_replace(dp, 1, 0, entries[0], 2, NULL);
}

/* A map that is replaced is seen old or new, never half of each. */
static void test_maps_are_replaced_whole(void)
{
    static const uint32_t types[] = {OKO_MAP_ARRAY, OKO_MAP_HASH, OKO_MAP_LRU_HASH,
                                     OKO_MAP_WORKER_ARRAY, OKO_MAP_WORKER_HASH};
    for (uint32_t flags = 0; flags <= OKO_DP_INTERPRET; flags += OKO_DP_INTERPRET)
        for (uint32_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            struct oko_dp *dp = kit_dp(N_WORKERS, flags, 0);
            struct forwarder f[N_WORKERS];
            pthread_t threads[N_WORKERS];
            kit_ports(dp, 2);
            CHECK(load_equal(dp, types[t], false) == 0);
            kit_add(dp, .priority = 5, .prog = 1, .output = 2);
            CHECK(put_pair(dp, 1) == 0);
            start(dp, f, threads, false);
            for (uint64_t round = 2; round < 300; round++) {
                CHECK(put_pair(dp, round) == 0);
                if (round % 50 == 0) /* the new instance takes the newest map over */
                    CHECK(load_equal(dp, types[t], true) == 0);
            }
            uint64_t packets = finish(f, threads);
            CHECK(kit_map_value(dp, 1) == 299);
            CHECK(kit_drop(dp, OKO_DROP_MISS) == 0);
            CHECK(kit_tx(dp, 2) == packets);
            oko_dp_free(dp);
        }
}

/* Someone reloads with the maps kept while another replaces the map: what was replaced last stays.
 */
static void *reloads(void *dp)
{
    for (uint32_t round = 0; round < 100; round++)
        CHECK(load_equal(dp, OKO_MAP_HASH, true) == 0);
    return NULL;
}

static void test_replacing_beside_reloads(void)
{
    struct oko_dp *dp = kit_dp(N_WORKERS, 0, 0);
    pthread_t thread;
    CHECK(load_equal(dp, OKO_MAP_HASH, false) == 0);
    CHECK(pthread_create(&thread, NULL, reloads, dp) == 0);
    for (uint64_t round = 0; round < 100; round++) {
        CHECK(put_pair(dp, round) == 0);
        CHECK(kit_map_value(dp, 1) == round);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(kit_map_value(dp, 1) == 99);
    oko_dp_free(dp);
}

int main(void)
{
    test_bundles_show_whole();
    test_conjunctions_change();
    test_everything_changes();
    test_counters_of_removed_flows();
    test_learning_threads();
    test_two_clocks();
    test_maps_are_replaced_whole();
    test_replacing_beside_reloads();
    printf("test_dp_threads: ok\n");
    return 0;
}
