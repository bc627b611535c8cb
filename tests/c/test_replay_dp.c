/* Replays with several workers through the real datapath, with everything that workers share:
 * timeouts, learned flows, NORMAL, a written capture. The point is ThreadSanitizer's silence;
 * beside that every packet is accounted for, and what does not depend on shared state is the same
 * for any number of workers. */
#define _GNU_SOURCE
#include "capture_files.h"
#include "dp_kit.h"

enum { N_PACKETS = 12000, LOOPS = 3, TOTAL = N_PACKETS * LOOPS };

static uint64_t flow_packets(struct oko_dp *dp, uint16_t priority)
{
    static _Alignas(8) uint8_t out[1 << 20];
    uint64_t cursor = 0, n = 0;
    int64_t used;
    while ((used = oko_dp_flows(dp, &cursor, out, sizeof out)) > 0)
        for (int64_t at = 0; at < used;) {
            const struct oko_flow_info *info = (const void *)(out + at);
            if (info->priority == priority)
                n += info->packets;
            at += info->size;
        }
    CHECK(used == 0);
    return n;
}

static void add_rules(struct oko_dp *dp)
{
    static struct kit_ops learn, normal;

    /* 1. UDP from port 10.0.0.0-7 as source: sent on; gone after 5 s. */
    kit_add(
        dp, .priority = 30, .hard = 5, .output = 2,
        .match = {{OKO_FIELD_ETH_TYPE, 0x0800, 0}, {OKO_FIELD_IPV4_SRC, 0x0a000000, 0xfffffff8}});
    /* 2. Towards the low hosts: learn a flow per source, which expires when idle, and send. */
    learn.len = learn.n_open = 0;
    kit_begin(&learn, OKO_OP_APPLY);
    uint8_t *payload = kit_op(&learn, OKO_OP_LEARN, 1,
                              (uint32_t)(sizeof(struct oko_learn) + sizeof(struct oko_learn_spec)));
    struct oko_learn head = {.priority = 40, .idle_timeout = 1, .n_specs = 1, .result = UINT32_MAX};
    struct oko_learn_spec spec = {.dst = OKO_LEARN_MATCH,
                                  .n_bits = 48,
                                  .src_field = OKO_FIELD_ETH_SRC,
                                  .dst_field = OKO_FIELD_ETH_SRC};
    memcpy(payload, &head, sizeof head);
    memcpy(payload + sizeof head, &spec, sizeof spec);
    kit_output(&learn, 3);
    kit_end(&learn);
    kit_add(
        dp, .priority = 20, .ops = &learn,
        .match = {{OKO_FIELD_ETH_TYPE, 0x0800, 0}, {OKO_FIELD_IPV4_DST, 0x0a000000, 0xfffffffc}});
    /* 3. The rest as an ordinary switch does it. */
    normal.len = normal.n_open = 0;
    kit_begin(&normal, OKO_OP_APPLY);
    kit_op(&normal, OKO_OP_OUTPUT, OKO_PORT_NORMAL, 0);
    kit_end(&normal);
    kit_add(dp, .priority = 10, .ops = &normal);
}

static void run(uint32_t n_workers, bool preload, uint64_t want[2])
{
    struct oko_dp *dp = kit_dp(n_workers, 0, 0);
    int in = make_conversations(N_PACKETS), out = memfd_create("out", 0);
    struct oko_capture *capture;
    struct oko_writer *writer;
    struct oko_replay *replay;
    struct oko_replay_status status;
    struct oko_error error;

    CHECK(oko_writer_new(out, false, n_workers, &writer, &error) == 0);
    for (uint32_t port = 1; port <= 3; port++)
        CHECK((port == 2 ? oko_dp_port_add_pcap(dp, port, "out", writer)
                         : oko_dp_port_add_null(dp, port, "")) == 0);
    add_rules(dp);
    CHECK(lseek(in, 0, SEEK_SET) == 0 && oko_capture_open(in, 0, &capture, &error) == 0);
    struct oko_replay_opts opts = {.n_workers = n_workers, .loops = LOOPS, .preload = preload};
    struct oko_replay_source source = {.capture = capture, .in_port = 1};
    CHECK(oko_replay_new(dp, &opts, &source, 1, &writer, 1, &replay, &error) == 0);
    int result;
    while ((result = oko_replay_run(replay, 5000000, &error)) > 0)
        if (result == OKO_REPLAY_REWIND) {
            oko_capture_close(capture);
            CHECK(lseek(in, 0, SEEK_SET) == 0);
            CHECK(oko_capture_open(in, 0, &capture, &error) == 0);
            CHECK(oko_replay_rewind(replay, &capture) == 0);
        }
    CHECK(result == 0);
    oko_replay_status(replay, &status);
    CHECK(status.packets == TOTAL);
    CHECK(oko_writer_flush(writer, &error) == 0);
    oko_replay_free(replay);

    /* Exactly one fate each: a port, or a drop. */
    struct oko_port_info ports[3];
    uint64_t drops[OKO_N_DROPS], dropped = 0;
    CHECK(oko_dp_ports(dp, ports, 3) == 3);
    oko_dp_drops(dp, drops);
    for (uint32_t i = 0; i < OKO_N_DROPS; i++)
        dropped += drops[i];
    CHECK(ports[0].rx_packets == TOTAL);
    /* NORMAL floods to 2 and 3 what it does not know: at least one port each. */
    CHECK(ports[1].tx_packets + ports[2].tx_packets + dropped >= TOTAL);
    CHECK(lseek(out, 0, SEEK_END) == 24 + (int64_t)ports[1].tx_packets * 76);
    uint64_t fixed[2] = {flow_packets(dp, 20), ports[2].tx_packets};
    if (n_workers == 1 && !preload)
        memcpy(want, fixed, sizeof fixed);
    CHECK(!memcmp(want, fixed, sizeof fixed));

    oko_capture_close(capture);
    oko_dp_free(dp);
    oko_writer_free(writer);
    close(in);
    close(out);
}

int main(void)
{
    uint64_t want[2];
    for (uint32_t n = 1; n <= 4; n += n == 1 ? 1 : 2)
        for (int preload = 0; preload < 2; preload++)
            run(n, preload, want);
    return 0;
}
