/* What the 2018 prototype of Oko got wrong about flows, each as a test that would have caught it.
 * The numbers are those of its list of bugs; each test runs with a cold and a warm cache (tables
 * with many masks use it) and in bursts of 32. */
#include "dp_kit.h"

enum { BURST = 32, TWICE = 64 /* a burst to fill the cache, and one that finds it */ };

/* Flows that nothing here matches, each with a mask of its own: the table now uses the cache. */
static void many_masks(struct oko_dp *dp, uint32_t table)
{
    for (uint32_t i = 0; i < 8; i++)
        kit_add(dp, .table = table, .priority = 60000, .cookie = 1000,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800},
                          {OKO_FIELD_IPV4_DST, 0xee000000, 0xff000000u | 1u << i}});
}

static struct oko_dp *new_dp(void)
{
    struct oko_dp *dp = kit_dp(1, 0, 0);
    kit_ports(dp, 40);
    many_masks(dp, 0);
    return dp;
}

static void send_frames(struct oko_dp *dp, uint8_t frames[][64], uint32_t n)
{
    struct oko_frame in[64];
    CHECK(n <= 64);
    for (uint32_t i = 0; i < n; i++)
        in[i] = (struct oko_frame){.data = frames[i], .len = 64, .in_port = 1, .ns = 1, .seq = i};
    CHECK(oko_dp_process(dp, 0, in, n) == 0);
}

static void check_cache_used(struct oko_dp *dp)
{
    struct oko_dp_stats stats;
    oko_dp_stats(dp, &stats);
    CHECK(stats.cache_hits > 0);
}

/* 1: "wrong decisions with batches > 1": memo slots belonged to places in the batch, and packets
 * moved. Here: five destinations, four with a filter of their own, each on its own port. */
static void test_1_batches_of_32(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frames[BURST][64];
    uint64_t seed = 1, want[6] = {0};
    for (uint32_t i = 1; i <= 4; i++) {
        /* program i matches when the payload's first byte is i */
        CHECK(kit_load_byte(dp, i, 42, (int32_t)i) == 0);
        kit_add(dp, .priority = 100, .prog = i, .output = 10 + i,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800}, {OKO_FIELD_IPV4_DST, i}});
    }
    kit_add(dp, .priority = 1, .output = 20);
    for (uint32_t round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < BURST; i++) {
            uint32_t to = (uint32_t)(next_random(&seed) % 5 + 1);
            uint8_t says = (uint8_t)(next_random(&seed) % 5 + 1);
            kit_frame(frames[i], &(struct kit_udp){.src = i % 7, .dst = to, .payload = {says}});
            want[to <= 4 && says == to ? to : 5]++;
        }
        send_frames(dp, frames, BURST);
    }
    for (uint32_t i = 1; i <= 4; i++)
        CHECK(kit_tx(dp, 10 + i) == want[i]);
    CHECK(kit_tx(dp, 20) == want[5]);
    check_cache_used(dp);
    oko_dp_free(dp);
}

/* 2: "stale memo": a recycled instance used the result of another program on another packet. Here:
 * the program of a flow is removed and another takes its number (and slot), between two bursts and
 * again and again. */
static void test_2_recycled_programs(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.dst = 4});
    kit_add(dp, .priority = 1, .output = 20);
    uint64_t yes = 0, no = 0;
    for (uint32_t round = 0; round < 40; round++) {
        int32_t result = (int32_t)(round % 2);
        uint32_t number = 1 + round % 3;
        CHECK(kit_load_const(dp, number, result) == 0);
        kit_add(dp, .priority = 100, .prog = number, .output = 10);
        kit_send(dp, 1, frame, TWICE, 1);
        *(result ? &yes : &no) += TWICE;
        CHECK(kit_tx(dp, 10) == yes && kit_tx(dp, 20) == no);
        CHECK(oko_dp_prog_unload(dp, number, true, NULL) == 0);
        kit_send(dp, 1, frame, TWICE, 1);
        no += TWICE;
        CHECK(kit_tx(dp, 10) == yes && kit_tx(dp, 20) == no);
    }
    check_cache_used(dp);
    oko_dp_free(dp);
}

/* 3: "instance id reused while old megaflows exist", with the old program and the new actions.
 * Here: a flow goes, another with another program takes its memory and its place in the cache. */
static void test_3_recycled_flows(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.dst = 4});
    CHECK(kit_load_const(dp, 1, 1) == 0);
    CHECK(kit_load_const(dp, 2, 0) == 0);
    kit_add(dp, .priority = 1, .output = 20);
    for (uint32_t round = 0; round < 50; round++) {
        kit_add(dp, .priority = 100, .prog = 1, .output = 10, .cookie = 7,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800}});
        kit_send(dp, 1, frame, TWICE, 1);
        kit_add(dp, .command = OKO_FLOW_DELETE, .cookie = 7, .cookie_mask = UINT64_MAX);
        kit_add(dp, .priority = 100, .prog = 2, .output = 11, .cookie = 7,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800}});
        kit_send(dp, 1, frame, TWICE, 1);
        kit_add(dp, .command = OKO_FLOW_DELETE, .cookie = 7, .cookie_mask = UINT64_MAX);
        CHECK(kit_tx(dp, 10) == (round + 1) * TWICE);
        CHECK(kit_tx(dp, 11) == 0 && kit_tx(dp, 20) == (round + 1) * TWICE);
    }
    check_cache_used(dp);
    oko_dp_free(dp);
}

/* 4: "memo shared by bridges": "return 0" matched in the second because "return 1" had run in the
 * first, under the same number. */
static void test_4_several_bridges(void)
{
    struct oko_dp *dp[3];
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.dst = 4});
    for (uint32_t i = 0; i < 3; i++) {
        dp[i] = new_dp();
        CHECK(kit_load_const(dp[i], 1, i != 1) == 0);
        kit_add(dp[i], .priority = 100, .prog = 1, .output = 10);
        kit_add(dp[i], .priority = 1, .output = 20);
    }
    for (uint32_t round = 1; round < 6; round++)
        for (uint32_t i = 0; i < 3; i++) {
            kit_send(dp[i], 1, frame, TWICE, 1);
            CHECK(kit_tx(dp[i], i != 1 ? 10 : 20) == round * TWICE);
            CHECK(kit_tx(dp[i], i != 1 ? 20 : 10) == 0);
        }
    for (uint32_t i = 0; i < 3; i++)
        oko_dp_free(dp[i]);
}

/* 5: "instance ids leak on every replaced rule": the 256th add-flow of an identical rule failed,
 * and there could be only 255 rules with filters. */
static void test_5_many_filter_flows(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frame[64];
    CHECK(kit_load_byte(dp, 1, 42, 'x') == 0);
    for (uint32_t i = 0; i < 2000; i++)
        kit_add(dp, .priority = 100, .prog = 1, .output = 10);
    for (uint32_t i = 0; i < 1000; i++)
        kit_add(dp, .priority = 200, .prog = 1, .output = 11,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800}, {OKO_FIELD_IPV4_DST, i}});
    kit_frame(frame, &(struct kit_udp){.dst = 999, .payload = {'x'}});
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 11) == TWICE);
    /* and 600 that all fit the same packet, of which the last matches */
    for (uint32_t i = 0; i < 600; i++) {
        CHECK(i >= 3 || kit_load_byte(dp, 2 + i, 42, (int32_t)i) == 0);
        kit_add(dp, .priority = (uint16_t)(20000 - i), .prog = 2 + i % 3, .output = 12,
                .match = {{OKO_FIELD_UDP_DST, 9}});
    }
    kit_add(dp, .priority = 15000, .prog = 1, .output = 13, .match = {{OKO_FIELD_UDP_DST, 9}});
    kit_frame(frame, &(struct kit_udp){.dst = 5, .dport = 9, .payload = {'x'}});
    kit_send(dp, 1, frame, TWICE, 1);
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 13) == 2 * TWICE && kit_tx(dp, 12) == 0);
    CHECK(kit_prog(dp, 2).runs == 2 * TWICE); /* once per packet, not per flow */
    oko_dp_free(dp);
}

/* 19: "reload does not replace": flows kept the old program and the old map. Here: everything uses
 * the new one from the next burst on, wherever it is remembered. */
static void test_19_reload_replaces(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.dst = 4});
    CHECK(kit_load_const(dp, 5, 1) == 0);
    kit_add(dp, .priority = 100, .prog = 5, .output = 10);
    kit_add(dp, .priority = 1, .output = 20);
    for (uint32_t round = 0; round < 20; round++) {
        CHECK(kit_load_const(dp, 5, round % 2 == 0) == 0);
        kit_send(dp, 1, frame, TWICE, 1);
        CHECK(kit_tx(dp, 10) == (round / 2 + 1) * TWICE);
        CHECK(kit_tx(dp, 20) == (round + 1) / 2 * TWICE);
    }
    /* maps: kept when asked, else new */
    CHECK(kit_load_every(dp, 6, 1, false) == 0);
    kit_add(dp, .priority = 200, .prog = 6, .output = 11);
    kit_send(dp, 1, frame, 3, 1);
    CHECK(kit_map_value(dp, 6) == 3);
    CHECK(kit_load_every(dp, 6, 1, true) == 0);
    kit_send(dp, 1, frame, 4, 1);
    CHECK(kit_map_value(dp, 6) == 7);
    CHECK(kit_load_every(dp, 6, 1, false) == 0);
    kit_send(dp, 1, frame, 2, 1);
    CHECK(kit_map_value(dp, 6) == 2 && kit_tx(dp, 11) == 9);
    check_cache_used(dp);
    oko_dp_free(dp);
}

/* 18 and 20: deleting, modifying or counting one of several entries that differ only in their
 * programs hit the first. */
static void test_20_same_match_other_program(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.dst = 4, .payload = {3}});
    for (uint32_t i = 1; i <= 4; i++) {
        CHECK(kit_load_byte(dp, i, 42, (int32_t)i) == 0);
        kit_add(dp, .priority = 100, .prog = i, .output = 10 + i, .cookie = i);
    }
    kit_add(dp, .priority = 100, .output = 20, .cookie = 9);
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_packets(dp, 3) == TWICE && kit_packets(dp, 1) == 0 && kit_packets(dp, 9) == 0);
    kit_add(dp, .command = OKO_FLOW_MODIFY_STRICT, .priority = 100, .prog = 3, .output = 33);
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 33) == TWICE && kit_packets(dp, 3) == 2 * TWICE);
    struct oko_flow_info info;
    kit_add(dp, .command = OKO_FLOW_DELETE_STRICT, .priority = 100, .prog = 3);
    CHECK(!kit_flow_info(dp, 3, &info) && kit_flow_info(dp, 1, &info));
    CHECK(kit_flow_info(dp, 2, &info) && kit_flow_info(dp, 4, &info));
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 20) == TWICE && kit_packets(dp, 9) == TWICE);
    oko_dp_free(dp);
}

/* 22: "chain not canonical; kept after a rule is deleted": entries went on running the program of a
 * flow that was gone, and programs of flows that cannot decide any more. */
static void test_22_no_program_of_a_gone_flow(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.dst = 4});
    for (uint32_t i = 1; i <= 3; i++)
        CHECK(kit_load_const(dp, i, i == 3) == 0);
    for (uint32_t i = 1; i <= 3; i++)
        kit_add(dp, .priority = (uint16_t)(200 - i), .prog = i, .output = 10 + i, .cookie = i);
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 13) == TWICE);
    kit_add(dp, .command = OKO_FLOW_DELETE_STRICT, .priority = 198, .prog = 2);
    uint64_t before = kit_prog(dp, 2).runs;
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 13) == 2 * TWICE && kit_prog(dp, 2).runs == before);
    CHECK(kit_prog(dp, 1).runs == 2 * TWICE);
    /* a flow above that decides: none of the others' programs runs */
    kit_add(dp, .priority = 300, .output = 20);
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 20) == TWICE && kit_prog(dp, 1).runs == 2 * TWICE);
    check_cache_used(dp);
    oko_dp_free(dp);
}

/* 23: "packet-out and slow path without packet never match filter rules". Here every way to a
 * table comes with the packet: goto, resubmit, clone, bucket. */
static void test_23_filters_on_every_way(void)
{
    struct oko_dp *dp = new_dp();
    struct kit_ops go = {0}, again = {0}, copy = {0}, group = {0}, bucket = {0};
    uint32_t to[2] = {OKO_PORT_IN_PORT, 0};
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.payload = {'y'}});
    many_masks(dp, 7);
    CHECK(kit_load_byte(dp, 1, 42, 'y') == 0);
    CHECK(kit_load_every(dp, 2, 2, false) == 0);
    kit_add(dp, .table = 7, .priority = 9, .prog = 1, .output = 11,
            .match = {{OKO_FIELD_IP_DSCP, 5}});
    kit_add(dp, .table = 7, .priority = 8, .output = 12);
    /* the program must see the frame as it came, the header match what actions made of it */
    uint8_t dscp[32] = {5, [16] = 0x3f};
    kit_begin(&go, OKO_OP_APPLY);
    memcpy(kit_op(&go, OKO_OP_SET_FIELD, OKO_FIELD_IP_DSCP, 32), dscp, 32);
    kit_op(&go, OKO_OP_PUSH_VLAN, 0x8100, 0); /* moves every byte */
    kit_end(&go);
    kit_op(&go, OKO_OP_GOTO, 7, 0);
    kit_add(dp, .priority = 5, .ops = &go, .match = {{OKO_FIELD_IN_PORT, 1}});
    kit_begin(&again, OKO_OP_APPLY);
    memcpy(kit_op(&again, OKO_OP_SET_FIELD, OKO_FIELD_IP_DSCP, 32), dscp, 32);
    memcpy(kit_op(&again, OKO_OP_RESUBMIT, 7, 8), to, 8);
    memcpy(kit_op(&again, OKO_OP_RESUBMIT, 7, 8), to, 8);
    kit_end(&again);
    kit_add(dp, .priority = 5, .ops = &again, .match = {{OKO_FIELD_IN_PORT, 2}});
    kit_begin(&copy, OKO_OP_APPLY);
    kit_begin(&copy, OKO_OP_CLONE);
    memcpy(kit_op(&copy, OKO_OP_SET_FIELD, OKO_FIELD_IP_DSCP, 32), dscp, 32);
    memcpy(kit_op(&copy, OKO_OP_RESUBMIT, 7, 8), to, 8);
    kit_end(&copy);
    memcpy(kit_op(&copy, OKO_OP_RESUBMIT, 7, 8), to, 8); /* without the mark: the other flow */
    kit_end(&copy);
    kit_add(dp, .priority = 5, .ops = &copy, .match = {{OKO_FIELD_IN_PORT, 3}});
    memcpy(kit_op(&bucket, OKO_OP_SET_FIELD, OKO_FIELD_IP_DSCP, 32), dscp, 32);
    memcpy(kit_op(&bucket, OKO_OP_RESUBMIT, 7, 8), to, 8);
    struct oko_bucket_spec spec = {
        .watch_port = ~0u, .watch_group = ~0u, .ops = bucket.bytes, .ops_len = bucket.len};
    struct oko_group_spec all = {
        .id = 1, .type = OKO_GROUP_INDIRECT, .n_buckets = 1, .buckets = &spec};
    struct oko_txn *txn;
    CHECK(oko_dp_begin(dp, &txn) == 0);
    CHECK(oko_txn_group(txn, OKO_OBJECT_ADD, &all, NULL) == 0);
    CHECK(oko_txn_commit(txn, NULL, NULL) == 0);
    oko_txn_free(txn);
    kit_begin(&group, OKO_OP_APPLY);
    kit_op(&group, OKO_OP_GROUP, 1, 0);
    kit_end(&group);
    kit_add(dp, .priority = 5, .ops = &group, .match = {{OKO_FIELD_IN_PORT, 4}});

    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 11) == TWICE && kit_tx(dp, 12) == 0);
    kit_send(dp, 2, frame, TWICE, 1);
    CHECK(kit_tx(dp, 11) == 3 * TWICE && kit_tx(dp, 12) == 0);
    kit_send(dp, 3, frame, TWICE, 1);
    CHECK(kit_tx(dp, 11) == 4 * TWICE && kit_tx(dp, 12) == TWICE);
    kit_send(dp, 4, frame, TWICE, 1);
    CHECK(kit_tx(dp, 11) == 5 * TWICE);
    CHECK(kit_prog(dp, 1).runs == 4 * TWICE); /* once per packet, however often it came by */
    check_cache_used(dp);
    oko_dp_free(dp);
}

/* Not in the list, but of the kind: what is remembered under one table, or before a mask came in,
 * must not answer for another. */
static void test_cache_knows_tables_and_masks(void)
{
    struct oko_dp *dp = new_dp();
    struct kit_ops go = {0};
    uint8_t frames[2][64];
    for (uint32_t table = 1; table < 4; table++) {
        many_masks(dp, table);
        kit_add(dp, .table = table, .priority = 1, .output = 10 + table, .cookie = table);
    }
    for (uint32_t port = 1; port < 4; port++) {
        go.len = 0;
        kit_op(&go, OKO_OP_GOTO, port, 0);
        kit_add(dp, .priority = 1, .ops = &go, .match = {{OKO_FIELD_IN_PORT, port}});
    }
    kit_frame(frames[0], &(struct kit_udp){.sport = 1});
    kit_frame(frames[1], &(struct kit_udp){.sport = 2});
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t port = 1; port < 4; port++)
            kit_send(dp, port, frames[0], TWICE, 1);
    for (uint32_t table = 1; table < 4; table++)
        CHECK(kit_tx(dp, 10 + table) == 3 * TWICE);
    /* nobody looked at ports so far: both frames were the same key */
    kit_send(dp, 1, frames[1], TWICE, 1);
    CHECK(kit_tx(dp, 11) == 4 * TWICE);
    kit_add(dp, .table = 1, .priority = 2, .output = 20, .match = {{OKO_FIELD_UDP_SRC, 2}});
    kit_send(dp, 1, frames[0], TWICE, 1);
    kit_send(dp, 1, frames[1], TWICE, 1);
    CHECK(kit_tx(dp, 11) == 5 * TWICE && kit_tx(dp, 20) == TWICE);
    check_cache_used(dp);
    oko_dp_free(dp);
}

/* 1,000 changes that have nothing to do with a flow do not make it unknown; one that has, does. */
static void test_cache_survives_changes(void)
{
    struct oko_dp *dp = new_dp();
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.dst = 4});
    kit_add(dp, .priority = 1, .output = 10);
    kit_send(dp, 1, frame, TWICE, 1);
    struct oko_dp_stats before, after;
    for (uint32_t i = 0; i < 1000; i++) {
        if (i == 500 || i == 600)
            kit_send(dp, 1, frame, TWICE, 1);
        kit_add(dp, .priority = 50, .output = 11,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800}, {OKO_FIELD_IPV4_DST, 0xee000000 + i}});
    }
    oko_dp_stats(dp, &before);
    kit_send(dp, 1, frame, TWICE, 1);
    oko_dp_stats(dp, &after);
    CHECK(after.cache_hits - before.cache_hits == TWICE && after.cache_restamped == 2);
    kit_add(dp, .priority = 51, .output = 12,
            .match = {{OKO_FIELD_ETH_TYPE, 0x800}, {OKO_FIELD_IPV4_DST, 4}});
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 12) == TWICE);
    for (uint32_t i = 0; i < 3000; i++) /* more than the log remembers */
        kit_add(dp, .priority = 50, .output = 11,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800}, {OKO_FIELD_IPV4_DST, 0xef000000 + i}});
    kit_send(dp, 1, frame, TWICE, 1);
    CHECK(kit_tx(dp, 12) == 2 * TWICE);
    oko_dp_free(dp);
}

int main(void)
{
    test_1_batches_of_32();
    test_2_recycled_programs();
    test_3_recycled_flows();
    test_4_several_bridges();
    test_5_many_filter_flows();
    test_19_reload_replaces();
    test_20_same_match_other_program();
    test_22_no_program_of_a_gone_flow();
    test_23_filters_on_every_way();
    test_cache_knows_tables_and_masks();
    test_cache_survives_changes();
    printf("test_mistakes: ok\n");
    return 0;
}
