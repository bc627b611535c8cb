/* The datapath's ordinary behaviour: forwarding, drops, priorities, tables, groups, meters,
 * NORMAL, timeouts, events, transactions, learn. What several threads do: test_dp_threads.c; random
 * rules against a naive twin: test_cls.c. */
#include "dp_kit.h"

static uint8_t frame_a[64], frame_b[64];

static void test_forward_and_drop(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    kit_ports(dp, 3);
    kit_add(dp, .priority = 5, .match = {{OKO_FIELD_IN_PORT, 1}}, .output = 2, .cookie = 1);
    kit_add(dp, .priority = 6, .match = {{OKO_FIELD_IN_PORT, 3}}, .cookie = 2);
    kit_send(dp, 1, frame_a, 33, 1 * SECOND);
    kit_send(dp, 2, frame_a, 2, 2 * SECOND);
    kit_send(dp, 3, frame_a, 4, 3 * SECOND);
    CHECK(kit_tx(dp, 2) == 33);
    CHECK(kit_drop(dp, OKO_DROP_MISS) == 2);
    CHECK(kit_drop(dp, OKO_DROP_ACTION) == 4);
    struct oko_flow_info info;
    CHECK(kit_flow_info(dp, 1, &info) && info.packets == 33 && info.bytes == 33 * 64);
    CHECK(info.used_ns == 1 * SECOND && info.created_ns == 1 * SECOND);
    CHECK(kit_packets(dp, 2) == 4);
    oko_dp_free(dp);
}

static void test_priority_and_overlap(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    kit_ports(dp, 9);
    kit_add(dp, .priority = 5, .match = {{OKO_FIELD_IN_PORT, 1}}, .output = 2);
    kit_add(dp, .priority = 9, .match = {{OKO_FIELD_ETH_TYPE, 0x800}}, .output = 3);
    /* Equal priority: the older one wins, and keeps its place when it is replaced. */
    kit_add(dp, .priority = 9, .match = {{OKO_FIELD_IP_PROTO, 17}}, .output = 4);
    kit_add(dp, .priority = 9, .match = {{OKO_FIELD_ETH_TYPE, 0x800}}, .output = 5);
    kit_send(dp, 1, frame_a, 1, 1);
    CHECK(kit_tx(dp, 5) == 1);
    CHECK(kit_try(dp, (struct kit_flow){.priority = 9,
                                        .flags = OKO_FLOW_CHECK_OVERLAP,
                                        .match = {{OKO_FIELD_UDP_DST, 7}}}) == OKO_E_EXISTS);
    kit_add(dp, .priority = 8, .flags = OKO_FLOW_CHECK_OVERLAP, .match = {{OKO_FIELD_UDP_DST, 7}});
    oko_dp_free(dp);
}

static void test_strict_and_loose(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    kit_ports(dp, 9);
    CHECK(kit_load_const(dp, 1, 1) == 0);
    kit_add(dp, .priority = 5, .match = {{OKO_FIELD_IN_PORT, 1}}, .output = 2, .cookie = 1);
    kit_add(dp, .priority = 5, .match = {{OKO_FIELD_IN_PORT, 1}}, .output = 3, .cookie = 2,
            .prog = 1);
    kit_add(dp, .priority = 6, .cookie = 3, .output = 4,
            .match = {{OKO_FIELD_IN_PORT, 1}, {OKO_FIELD_ETH_TYPE, 0x800}});
    struct oko_flow_info info;
    /* strict: without a program only the flow without */
    kit_add(dp, .command = OKO_FLOW_DELETE_STRICT, .priority = 5,
            .match = {{OKO_FIELD_IN_PORT, 1}});
    CHECK(!kit_flow_info(dp, 1, &info) && kit_flow_info(dp, 2, &info));
    /* loose with a program: only flows with it, whatever the priority */
    kit_add(dp, .command = OKO_FLOW_MODIFY, .match = {{OKO_FIELD_IN_PORT, 1}}, .prog = 1,
            .output = 7);
    kit_send(dp, 1, frame_a, 1, 1);
    CHECK(kit_tx(dp, 4) == 1);
    kit_add(dp, .command = OKO_FLOW_DELETE, .match = {{OKO_FIELD_ETH_TYPE, 0x800}});
    CHECK(!kit_flow_info(dp, 3, &info));
    kit_send(dp, 1, frame_a, 1, 1);
    CHECK(kit_tx(dp, 7) == 1 && kit_packets(dp, 2) == 1);
    CHECK(kit_flow_info(dp, 2, &info) && info.filter_prog == 1);
    /* by cookie */
    kit_add(dp, .command = OKO_FLOW_DELETE, .cookie = 3, .cookie_mask = 0xff);
    CHECK(kit_flow_info(dp, 2, &info));
    kit_add(dp, .command = OKO_FLOW_DELETE);
    CHECK(!kit_flow_info(dp, 2, &info));
    oko_dp_free(dp);
}

static void test_tables_and_action_set(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    struct kit_ops ops = {0};
    kit_ports(dp, 9);
    /* table 0: write output:2, metadata, goto 5; table 5 misses for port 1, for port 3 it goes to
     * output:4 by overwriting the set. */
    kit_begin(&ops, OKO_OP_WRITE);
    kit_output(&ops, 2);
    kit_end(&ops);
    uint64_t metadata[2] = {0x1234, 0xffff};
    memcpy(kit_op(&ops, OKO_OP_METADATA, 0, 16), metadata, 16);
    kit_op(&ops, OKO_OP_GOTO, 5, 0);
    kit_add(dp, .priority = 1, .ops = &ops);
    struct kit_ops five = {0};
    kit_begin(&five, OKO_OP_WRITE);
    kit_output(&five, 4);
    kit_end(&five);
    kit_add(dp, .table = 5, .priority = 1, .ops = &five, .cookie = 5,
            .match = {{OKO_FIELD_METADATA, 0x1234}, {OKO_FIELD_IN_PORT, 3}});
    kit_send(dp, 1, frame_a, 3, 1);
    kit_send(dp, 3, frame_a, 2, 1);
    CHECK(kit_tx(dp, 2) == 3 && kit_tx(dp, 4) == 2 && kit_packets(dp, 5) == 2);
    CHECK(kit_drop(dp, OKO_DROP_MISS) == 0);
    /* goto must go up */
    struct kit_ops back = {0};
    kit_op(&back, OKO_OP_GOTO, 5, 0);
    CHECK(kit_try(dp, (struct kit_flow){.table = 5, .ops = &back}) == OKO_E_INVAL);
    oko_dp_free(dp);
}

static void test_filter_chain(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    kit_ports(dp, 9);
    CHECK(kit_load_byte(dp, 1, 42, 'a') == 0);
    CHECK(kit_load_byte(dp, 2, 42, 'b') == 0);
    CHECK(kit_try(dp, (struct kit_flow){.prog = 3, .output = 2}) == OKO_E_NOTFOUND);
    kit_add(dp, .priority = 5, .prog = 1, .output = 2, .cookie = 1);
    kit_add(dp, .priority = 5, .prog = 2, .output = 3, .cookie = 2);
    kit_add(dp, .priority = 5, .output = 4, .cookie = 3);
    kit_add(dp, .priority = 4, .prog = 1, .output = 5, .cookie = 4);
    kit_send(dp, 1, frame_a, 32, 1);
    kit_send(dp, 1, frame_b, 5, 1);
    CHECK(kit_tx(dp, 2) == 32 && kit_tx(dp, 3) == 5);
    CHECK(kit_prog(dp, 1).runs == 37 && kit_prog(dp, 1).matches == 32);
    CHECK(kit_prog(dp, 2).runs == 5 && kit_prog(dp, 2).matches == 5); /* reached by 5 only */
    struct oko_error error;
    CHECK(oko_dp_prog_unload(dp, 1, false, &error) == OKO_E_BUSY && error.reason[0]);
    CHECK(oko_dp_prog_unload(dp, 1, true, NULL) == 0);
    kit_send(dp, 1, frame_a, 1, 1);
    CHECK(kit_tx(dp, 4) == 1);
    struct oko_flow_info info;
    CHECK(!kit_flow_info(dp, 1, &info) && !kit_flow_info(dp, 4, &info));
    oko_dp_free(dp);
}

/* Conjunctions lead to a second lookup, filters included; thousands are searched to their end. */
static void test_conjunctions(void)
{
    for (uint32_t flags = 0; flags < 2; flags++) {
        struct oko_dp *dp = kit_dp(1, flags ? OKO_DP_NO_CACHE : 0, 0);
        kit_ports(dp, 9);
        CHECK(kit_load_byte(dp, 1, 42, 'a') == 0);
        kit_add(dp, .priority = 1, .output = 5);
        for (uint32_t port = 1; port <= 2; port++)
            kit_soft(dp, (struct kit_flow){.priority = 10, .match = {{OKO_FIELD_IN_PORT, port}}}, 7,
                     0, 2);
        kit_soft(
            dp,
            (struct kit_flow){.priority = 10, .cookie = 3, .match = {{OKO_FIELD_ETH_TYPE, 0x800}}},
            7, 1, 2);
        for (uint32_t id = 100; id < 600; id++) /* never complete: one dimension of 64 each */
            kit_soft(dp,
                     (struct kit_flow){
                         .priority = (uint16_t)(20 + id % 7),
                         .match = {{OKO_FIELD_ETH_TYPE, 0x800}, {OKO_FIELD_IN_PORT, 1 + id % 3}}},
                     id, (uint16_t)(id % 64), 64);
        kit_add(dp, .priority = 3, .prog = 1, .output = 2, .match = {{OKO_FIELD_CONJ_ID, 7}});
        kit_add(dp, .priority = 2, .output = 4, .cookie = 4, .match = {{OKO_FIELD_CONJ_ID, 7}});
        kit_send(dp, 1, frame_a, 32, 1);
        kit_send(dp, 2, frame_b, 5, 1);
        kit_send(dp, 3, frame_a, 3, 1);
        CHECK(kit_tx(dp, 2) == 32 && kit_tx(dp, 4) == 5 && kit_tx(dp, 5) == 3);
        kit_add(dp, .command = OKO_FLOW_DELETE, .cookie = 3, .cookie_mask = 0xff);
        kit_send(dp, 1, frame_a, 2, 1);
        CHECK(kit_tx(dp, 2) == 32 && kit_tx(dp, 4) == 5 && kit_tx(dp, 5) == 5);
        CHECK(kit_packets(dp, 4) == 5);
        oko_dp_free(dp);
    }
}

/* The batch entry is used whenever that cannot be observed, and only then. */
static void test_programs_run_in_batches(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    kit_ports(dp, 9);
    CHECK(kit_load_byte(dp, 1, 42, 'b') == 0);
    CHECK(kit_load_every(dp, 2, 2, false) == 0);
    kit_add(dp, .priority = 9, .prog = 1, .output = 2);
    kit_add(dp, .priority = 8, .prog = 2, .output = 3);
    kit_add(dp, .priority = 1, .output = 4);
    kit_send(dp, 1, frame_a, 32, 1); /* the pure one says no to all, then all stand before 2 */
    CHECK(kit_prog(dp, 1).batch_runs == 32 && kit_prog(dp, 2).batch_runs == 32);
    CHECK(kit_tx(dp, 3) == 16 && kit_tx(dp, 4) == 16 && kit_map_value(dp, 2) == 32);
    /* another table uses the stateful one as well: a packet might get there first */
    kit_add(dp, .table = 3, .prog = 2, .output = 5);
    kit_send(dp, 1, frame_a, 32, 1);
    CHECK(kit_prog(dp, 1).batch_runs == 64 && kit_prog(dp, 2).batch_runs == 32);
    CHECK(kit_prog(dp, 2).runs == 64 && kit_map_value(dp, 2) == 64);
    kit_add(dp, .command = OKO_FLOW_DELETE, .table = 3);
    kit_send(dp, 1, frame_a, 32, 1);
    CHECK(kit_prog(dp, 2).batch_runs == 64);
    /* so might one for which 2 comes behind another stateful program */
    CHECK(kit_load_every(dp, 4, 1000, false) == 0);
    kit_add(dp, .priority = 10, .prog = 4, .output = 6, .match = {{OKO_FIELD_UDP_SRC, 7}});
    uint8_t other[64];
    kit_frame(other, &(struct kit_udp){.sport = 7, .payload = {'a'}});
    struct oko_frame mixed[4] = {{.data = frame_a, .len = 64, .in_port = 1, .ns = 1},
                                 {.data = other, .len = 64, .in_port = 1, .ns = 1},
                                 {.data = frame_a, .len = 64, .in_port = 1, .ns = 1},
                                 {.data = other, .len = 64, .in_port = 1, .ns = 1}};
    CHECK(oko_dp_process(dp, 0, mixed, 4) == 0);
    CHECK(kit_prog(dp, 4).batch_runs == 2);
    CHECK(kit_prog(dp, 2).batch_runs == 68); /* 4 has answered: all stand before 2 again */
    /* a flow that learns: no packet's way is certain any more */
    struct kit_ops ops = {0};
    struct oko_learn learn = {.result = UINT32_MAX};
    kit_begin(&ops, OKO_OP_APPLY);
    memcpy(kit_op(&ops, OKO_OP_LEARN, 9, sizeof learn), &learn, sizeof learn);
    kit_end(&ops);
    kit_add(dp, .ops = &ops);
    kit_send(dp, 1, frame_a, 32, 1);
    CHECK(kit_prog(dp, 2).batch_runs == 68 && kit_prog(dp, 2).runs == 132);
    oko_dp_free(dp);
}

static void test_transaction_fails_whole(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    struct oko_txn *txn;
    struct oko_flow_mod mod;
    struct oko_match_field match[6];
    struct kit_ops ops;
    struct oko_error error;
    uint32_t failed;
    kit_ports(dp, 9);
    kit_add(dp, .priority = 1, .output = 2, .cookie = 1);
    CHECK(oko_dp_begin(dp, &txn) == 0);
    struct kit_flow good = {.priority = 7, .output = 3, .cookie = 7};
    struct kit_flow gone = {.command = OKO_FLOW_DELETE_STRICT, .priority = 1};
    struct kit_flow bad = {.priority = 8, .output = 3, .prog = 77};
    kit_mod(&good, &mod, match, &ops);
    CHECK(oko_txn_flow(txn, &mod, &error) == 0);
    kit_mod(&gone, &mod, match, &ops);
    CHECK(oko_txn_flow(txn, &mod, &error) == 0);
    kit_mod(&bad, &mod, match, &ops);
    CHECK(oko_txn_flow(txn, &mod, &error) == 0);
    CHECK(oko_txn_commit(txn, &failed, &error) == OKO_E_NOTFOUND);
    CHECK(failed == 2 && strstr(error.reason, "77"));
    kit_send(dp, 1, frame_a, 3, 1);
    CHECK(kit_tx(dp, 2) == 3 && kit_tx(dp, 3) == 0);
    struct oko_flow_info info;
    CHECK(!kit_flow_info(dp, 7, &info) && kit_flow_info(dp, 1, &info));
    /* the same without the bad one */
    kit_mod(&good, &mod, match, &ops);
    CHECK(oko_txn_flow(txn, &mod, &error) == 0);
    kit_mod(&gone, &mod, match, &ops);
    CHECK(oko_txn_flow(txn, &mod, &error) == 0);
    CHECK(oko_txn_commit(txn, &failed, &error) == 0);
    kit_send(dp, 1, frame_a, 4, 1);
    CHECK(kit_tx(dp, 3) == 4 && !kit_flow_info(dp, 1, &info));
    oko_txn_free(txn);
    oko_dp_free(dp);
}

static uint32_t next_event(struct oko_dp *dp, struct oko_event *event)
{
    uint8_t buffer[4096];
    uint64_t lost;
    int64_t n = oko_dp_events(dp, buffer, sizeof *event + 256, &lost);
    CHECK(n >= 0 && lost == 0);
    if (n == 0)
        return 0;
    memcpy(event, buffer, sizeof *event);
    CHECK(n == event->size);
    return event->type;
}

static void test_timeouts(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    struct oko_event event;
    kit_ports(dp, 9);
    uint64_t t = 1000 * SECOND;
    kit_add(dp, .priority = 9, .hard = 10, .output = 2, .cookie = 1,
            .flags = OKO_FLOW_SEND_FLOW_REM, .match = {{OKO_FIELD_IN_PORT, 1}});
    kit_add(dp, .priority = 5, .idle = 4, .output = 3, .cookie = 2,
            .flags = OKO_FLOW_SEND_FLOW_REM);
    kit_send(dp, 1, frame_a, 2, t); /* both are born now */
    kit_send(dp, 2, frame_a, 1, t + 3 * SECOND);
    kit_send(dp, 2, frame_a, 1, t + 7 * SECOND - 1); /* just in time */
    kit_send(dp, 1, frame_a, 1, t + 10 * SECOND - 1);
    CHECK(kit_tx(dp, 2) == 3 && kit_tx(dp, 3) == 2);
    kit_send(dp, 1, frame_a, 1, t + 10 * SECOND); /* the hard one is over, the idle one is hit */
    CHECK(kit_tx(dp, 2) == 3 && kit_tx(dp, 3) == 3);
    CHECK(next_event(dp, &event) == OKO_EVENT_FLOW_REMOVED);
    CHECK(event.reason == OKO_REMOVED_HARD && event.cookie == 1 && event.packets == 3);
    CHECK(event.duration_ns == 10 * SECOND && event.ns == t + 10 * SECOND && event.n_match == 1);
    kit_send(dp, 2, frame_a, 1, t + 14 * SECOND); /* exactly at its deadline */
    CHECK(kit_drop(dp, OKO_DROP_MISS) == 1);
    CHECK(next_event(dp, &event) == OKO_EVENT_FLOW_REMOVED);
    CHECK(event.reason == OKO_REMOVED_IDLE && event.duration_ns == 14 * SECOND);
    CHECK(next_event(dp, &event) == 0);
    /* no packets at all: a tick is enough */
    kit_add(dp, .priority = 5, .idle = 4, .cookie = 3, .flags = OKO_FLOW_SEND_FLOW_REM);
    CHECK(oko_dp_tick(dp, 0, t + 100 * SECOND) == 0);
    CHECK(next_event(dp, &event) == OKO_EVENT_FLOW_REMOVED && event.ns == t + 18 * SECOND);
    oko_dp_free(dp);
}

/* Expiry between two packets of one burst. */
static void test_timeout_within_burst(void)
{
    for (uint32_t burst = 1; burst <= 32; burst += 31) {
        struct oko_dp *dp = kit_dp(1, 0, burst);
        kit_ports(dp, 3);
        kit_add(dp, .priority = 9, .hard = 1, .output = 2);
        kit_add(dp, .priority = 5, .output = 3);
        struct oko_frame frames[32];
        for (uint32_t i = 0; i < 32; i++)
            frames[i] = (struct oko_frame){
                .data = frame_a, .len = 64, .in_port = 1, .ns = SECOND + i * SECOND / 16};
        CHECK(oko_dp_process(dp, 0, frames, 32) == 0);
        CHECK(kit_tx(dp, 2) == 16 && kit_tx(dp, 3) == 16);
        oko_dp_free(dp);
    }
}

static void test_groups(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    struct oko_txn *txn;
    struct kit_ops b2 = {0}, b3 = {0}, use = {0};
    kit_ports(dp, 9);
    kit_output(&b2, 2);
    /* set order: the push comes before the output whatever the order of writing */
    kit_output(&b3, 3);
    kit_op(&b3, OKO_OP_PUSH_VLAN, 0x8100, 0);
    struct oko_bucket_spec buckets[] = {
        {.weight = 1, .watch_port = 2, .watch_group = ~0u, .ops = b2.bytes, .ops_len = b2.len},
        {.weight = 3, .watch_port = 3, .watch_group = ~0u, .ops = b3.bytes, .ops_len = b3.len}};
    struct oko_group_spec spec = {
        .id = 1, .type = OKO_GROUP_FF, .n_buckets = 2, .buckets = buckets};
    kit_begin(&use, OKO_OP_APPLY);
    kit_op(&use, OKO_OP_GROUP, 1, 0);
    kit_output(&use, 4); /* sees the packet as it was before */
    kit_end(&use);
    CHECK(kit_try(dp, (struct kit_flow){.ops = &use}) == OKO_E_NOTFOUND);
    CHECK(oko_dp_begin(dp, &txn) == 0);
    CHECK(oko_txn_group(txn, OKO_OBJECT_ADD, &spec, NULL) == 0);
    spec.id = 2;
    spec.type = OKO_GROUP_SELECT;
    CHECK(oko_txn_group(txn, OKO_OBJECT_ADD, &spec, NULL) == 0);
    CHECK(oko_txn_commit(txn, NULL, NULL) == 0);
    kit_add(dp, .ops = &use, .cookie = 1);
    kit_send(dp, 1, frame_a, 4, 1);
    CHECK(kit_tx(dp, 2) == 4 && kit_tx(dp, 3) == 0 && kit_tx(dp, 4) == 4);
    CHECK(oko_dp_port_set_flags(dp, 2, OKO_PORT_DOWN) == 0);
    kit_send(dp, 1, frame_a, 4, 1);
    CHECK(kit_tx(dp, 2) == 4 && kit_tx(dp, 3) == 4 && kit_tx(dp, 4) == 8);
    struct oko_port_info ports[16];
    CHECK(oko_dp_ports(dp, ports, 16) == 9);
    CHECK(ports[2].tx_bytes == 4 * 68 && ports[3].tx_bytes == 8 * 64); /* the tag stayed inside */
    CHECK(oko_dp_port_set_flags(dp, 2, 0) == 0);

    /* select: both buckets, about 1 : 3, the same one for the same flow */
    struct kit_ops select = {0};
    kit_begin(&select, OKO_OP_WRITE);
    kit_op(&select, OKO_OP_GROUP, 2, 0);
    kit_output(&select, 5); /* a group in the set goes before an output */
    kit_end(&select);
    kit_add(dp, .priority = 9, .ops = &select, .match = {{OKO_FIELD_IN_PORT, 7}});
    for (uint32_t i = 0; i < 1000; i++) {
        uint8_t frame[64];
        kit_frame(frame, &(struct kit_udp){i, 9, 1000, 2000, {0}});
        kit_send(dp, 7, frame, 2, 1);
    }
    uint64_t two = kit_tx(dp, 2) - 4, three = kit_tx(dp, 3) - 4;
    CHECK(two + three == 2000 && two % 2 == 0 && two > 400 && two < 600);
    CHECK(kit_tx(dp, 5) == 0);
    uint8_t buffer[512];
    uint64_t cursor = 0;
    CHECK(oko_dp_groups(dp, &cursor, buffer, sizeof buffer) > 0);
    struct oko_group_info *info = (struct oko_group_info *)buffer;
    CHECK(info->id == 1 && info->packets == 8 && info->n_flows == 1 && info->n_buckets == 2);
    struct oko_counts *counts = (struct oko_counts *)(info + 1);
    CHECK(counts[0].packets == 4 && counts[1].packets == 4 && counts[1].bytes == 256);

    /* deleting the group takes its flows along */
    spec.id = 1;
    CHECK(oko_txn_group(txn, OKO_OBJECT_DELETE, &spec, NULL) == 0);
    CHECK(oko_txn_commit(txn, NULL, NULL) == 0);
    struct oko_flow_info flow;
    CHECK(!kit_flow_info(dp, 1, &flow));
    oko_txn_free(txn);
    oko_dp_free(dp);
}

static void test_meters(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    struct oko_txn *txn;
    struct kit_ops use = {0};
    struct oko_band_spec bands[] = {{.type = OKO_BAND_DROP, .rate = 10, .burst = 5}};
    struct oko_meter_spec spec = {
        .id = 3, .flags = OKO_METER_PKTPS | OKO_METER_BURST, .n_bands = 1, .bands = bands};
    kit_ports(dp, 3);
    CHECK(oko_dp_begin(dp, &txn) == 0);
    CHECK(oko_txn_meter(txn, OKO_OBJECT_ADD, &spec, NULL) == 0);
    CHECK(oko_txn_commit(txn, NULL, NULL) == 0);
    kit_op(&use, OKO_OP_METER, 3, 0);
    kit_begin(&use, OKO_OP_APPLY);
    kit_output(&use, 2);
    kit_end(&use);
    kit_add(dp, .ops = &use, .cookie = 1);
    kit_send(dp, 1, frame_a, 8, 1 * SECOND); /* five in the bucket */
    CHECK(kit_tx(dp, 2) == 5 && kit_drop(dp, OKO_DROP_METER) == 3);
    kit_send(dp, 1, frame_a, 1, 1 * SECOND + SECOND / 10 - 1);
    CHECK(kit_tx(dp, 2) == 5);
    kit_send(dp, 1, frame_a, 1, 1 * SECOND + SECOND / 10); /* one came back, exactly now */
    CHECK(kit_tx(dp, 2) == 6);
    kit_send(dp, 1, frame_a, 8, 100 * SECOND);
    CHECK(kit_tx(dp, 2) == 11 && kit_packets(dp, 1) == 18);
    oko_txn_free(txn);
    oko_dp_free(dp);
}

static void test_normal(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    uint8_t there[64], back[64];
    kit_ports(dp, 3);
    kit_add(dp, .output = OKO_PORT_NORMAL);
    memcpy(there, frame_a, 64);
    memcpy(back, frame_a, 64);
    memcpy(back, frame_a + 6, 6);
    memcpy(back + 6, frame_a, 6);
    uint64_t t = SECOND;
    kit_send(dp, 1, there, 1, t); /* unknown: flooded to 2 and 3 */
    CHECK(kit_tx(dp, 1) == 0 && kit_tx(dp, 2) == 1 && kit_tx(dp, 3) == 1);
    kit_send(dp, 2, back, 1, t);
    CHECK(kit_tx(dp, 1) == 1 && kit_tx(dp, 3) == 1);
    kit_send(dp, 1, there, 2, t); /* known by now */
    CHECK(kit_tx(dp, 2) == 3 && kit_tx(dp, 3) == 1);
    kit_send(dp, 2, there, 1, t); /* to where it came from; and a moved to 2 */
    CHECK(kit_drop(dp, OKO_DROP_NORMAL) == 1);
    kit_send(dp, 3, back, 1, t);
    CHECK(kit_tx(dp, 2) == 4);
    t += 300 * SECOND - 1;
    kit_send(dp, 1, there, 1, t);
    CHECK(kit_tx(dp, 3) == 2 && kit_tx(dp, 2) == 4); /* b is behind 3, just not forgotten */
    kit_send(dp, 1, there, 1, t + 1);
    CHECK(kit_tx(dp, 3) == 3 && kit_tx(dp, 2) == 5); /* forgotten: flooded */
    oko_dp_free(dp);
}

static void test_learn(void)
{
    /* table 0: learn(table=1, dl_dst=dl_src, output:in_port), resubmit(,1); table 1 floods */
    struct oko_dp *dp = kit_dp(1, 0, 0);
    struct kit_ops ops = {0};
    uint8_t back[64];
    kit_ports(dp, 4);
    kit_begin(&ops, OKO_OP_APPLY);
    struct oko_learn learn = {
        .hard_timeout = 10, .priority = 7, .cookie = 77, .n_specs = 2, .result = UINT32_MAX};
    struct oko_learn_spec specs[2] = {
        {.dst = OKO_LEARN_MATCH,
         .n_bits = 48,
         .src_field = OKO_FIELD_ETH_SRC,
         .dst_field = OKO_FIELD_ETH_DST},
        {.dst = OKO_LEARN_OUTPUT, .n_bits = 32, .src_field = OKO_FIELD_IN_PORT}};
    uint8_t *payload = kit_op(&ops, OKO_OP_LEARN, 1, sizeof learn + sizeof specs);
    memcpy(payload, &learn, sizeof learn);
    memcpy(payload + sizeof learn, specs, sizeof specs);
    uint32_t as_is[2] = {OKO_PORT_IN_PORT, 0};
    memcpy(kit_op(&ops, OKO_OP_RESUBMIT, 1, 8), as_is, 8);
    kit_end(&ops);
    kit_add(dp, .ops = &ops);
    kit_add(dp, .table = 1, .output = OKO_PORT_FLOOD);
    memcpy(back, frame_a, 64);
    memcpy(back, frame_a + 6, 6);
    memcpy(back + 6, frame_a, 6);
    kit_send(dp, 1, frame_a, 1, SECOND);
    CHECK(kit_tx(dp, 2) == 1 && kit_tx(dp, 3) == 1 && kit_tx(dp, 4) == 1);
    kit_send(dp, 2, back, 2, 2 * SECOND);
    CHECK(kit_tx(dp, 1) == 2 && kit_tx(dp, 3) == 1);
    struct oko_event event;
    CHECK(next_event(dp, &event) == OKO_EVENT_LEARNED && event.cookie == 77 && event.table == 1);
    CHECK(next_event(dp, &event) == OKO_EVENT_LEARNED);
    CHECK(next_event(dp, &event) == 0);      /* the second of two found it there */
    kit_send(dp, 1, frame_a, 1, 9 * SECOND); /* refreshes the way to 1 */
    kit_send(dp, 2, back, 1, 18 * SECOND);
    CHECK(kit_tx(dp, 1) == 3 && kit_tx(dp, 3) == 1);
    kit_send(dp, 2, back, 1, 19 * SECOND); /* over */
    CHECK(kit_tx(dp, 1) == 4 && kit_tx(dp, 3) == 2);
    oko_dp_free(dp);
}

static void test_trace(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    struct oko_trace_step steps[64];
    kit_ports(dp, 3);
    CHECK(kit_load_byte(dp, 4, 42, 'b') == 0);
    kit_add(dp, .priority = 5, .prog = 4, .output = 3, .cookie = 1);
    kit_add(dp, .priority = 4, .output = 2, .cookie = 2);
    CHECK(oko_dp_trace(dp, 5) == 0);
    CHECK(oko_dp_trace_read(dp, steps, 64) == 0);
    kit_send(dp, 1, frame_a, 32, 1);
    uint32_t n = oko_dp_trace_read(dp, steps, 64);
    CHECK(n == 7);
    CHECK(steps[0].kind == OKO_TRACE_PACKET && steps[1].kind == OKO_TRACE_LOOKUP);
    CHECK(steps[2].kind == OKO_TRACE_FILTER && steps[2].arg == 4 && steps[2].value == 0);
    CHECK(steps[3].kind == OKO_TRACE_FLOW && steps[3].cookie == 2);
    CHECK(steps[4].kind == OKO_TRACE_OP && steps[4].arg == OKO_OP_APPLY);
    CHECK(steps[5].kind == OKO_TRACE_OP && steps[5].arg == OKO_OP_OUTPUT && steps[5].value == 2);
    CHECK(steps[6].kind == OKO_TRACE_OUTPUT && steps[6].arg == 2);
    oko_dp_free(dp);
}

int main(void)
{
    kit_frame(frame_a, &(struct kit_udp){0x0a000001, 0x0a000002, 1000, 2000, {'a'}});
    kit_frame(frame_b, &(struct kit_udp){0x0a000001, 0x0a000002, 1000, 2000, {'b'}});
    test_forward_and_drop();
    test_priority_and_overlap();
    test_strict_and_loose();
    test_tables_and_action_set();
    test_filter_chain();
    test_conjunctions();
    test_programs_run_in_batches();
    test_transaction_fails_whole();
    test_timeouts();
    test_timeout_within_burst();
    test_groups();
    test_meters();
    test_normal();
    test_learn();
    test_trace();
    printf("test_dp: ok\n");
    return 0;
}
