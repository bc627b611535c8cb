/* Forwarding threads on live ports, packet-out and hypothetical packets beside them; segmentation
 * in software. Run it under the sanitizers: what it checks is little beside what it does. */
#include "capture_files.h"
#include "dp_kit.h"
#include "frames.h"

#include "offload.h"

enum { THREADS = 2, CONTROL = 2, ROUNDS = 100 };

static void add_file(struct oko_dp *dp, uint32_t number)
{
    int fd = make_conversations(500);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(oko_dp_port_add_file(dp, number, "", fd, -1, 0, true, NULL) == 0);
}

static void packet_out(struct oko_dp *dp, uint32_t port)
{
    static struct kit_ops ops;
    uint8_t bytes[64];
    ops.len = 0;
    kit_output(&ops, port);
    kit_output(&ops, 0xfffffff9); /* TABLE */
    kit_frame(bytes, &(struct kit_udp){.src = 1, .sport = 7});
    struct oko_frame frame = {.data = bytes, .len = 64, .in_port = 9};
    CHECK(oko_dp_packet_out(dp, CONTROL, &frame, ops.bytes, ops.len, NULL) == 0);
}

static uint32_t trace(struct oko_dp *dp, struct oko_trace_step *steps, uint32_t max)
{
    uint8_t bytes[64];
    uint32_t n;
    kit_frame(bytes, &(struct kit_udp){.src = 1, .sport = 7});
    struct oko_frame frame = {.data = bytes, .len = 64, .in_port = 1};
    CHECK(oko_dp_trace_frame(dp, CONTROL, &frame, steps, max, &n) == 0);
    return n;
}

static void read_events(struct oko_dp *dp)
{
    static uint8_t events[1 << 16];
    uint64_t lost;
    while (oko_dp_events(dp, events, sizeof events, &lost) > 0)
        continue;
}

/* Everything changes while threads forward: nothing is used after it is gone, nothing is lost. */
static void test_everything_at_once(void)
{
    struct oko_dp *dp = kit_dp(3, 0, 0);
    struct oko_trace_step steps[32];
    for (uint32_t number = 1; number <= 4; number++)
        add_file(dp, number);
    for (uint32_t number = 5; number <= 6; number++)
        CHECK(oko_dp_port_add_null(dp, number, "") == 0);
    CHECK(kit_load_every(dp, 1, 2, false) == 0);
    kit_add(dp, .priority = 9, .prog = 1, .cookie = 1, .output = 5);
    kit_add(dp, .priority = 1, .cookie = 2, .output = 6);
    struct oko_live_opts opts = {.n_threads = THREADS};
    CHECK(oko_dp_start(dp, &opts, NULL) == 0);
    CHECK(oko_dp_start(dp, &opts, NULL) == OKO_E_INVAL);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        packet_out(dp, 6);
        CHECK(trace(dp, steps, 32) >= 4 && steps[0].kind == OKO_TRACE_PACKET);
        uint32_t port = 1 + i % 4;
        CHECK(oko_dp_port_remove(dp, port) == 0);
        add_file(dp, port);
        kit_add(dp, .priority = 20, .cookie = 100 + i, .hard = 1, .flags = OKO_FLOW_TELL,
                .match = {{.field = OKO_FIELD_UDP_SRC, .value = i}}, .output = 5);
        if (i % 10 == 0)
            CHECK(kit_load_every(dp, 1, 2, true) == 0);
        read_events(dp);
    }
    while (kit_packets(dp, 2) < 10000)
        usleep(1000);
    oko_dp_stop(dp);
    CHECK(kit_packets(dp, 1) > 0);
    oko_dp_stop(dp);
    oko_dp_free(dp);
}

/* The caches are read while threads forward and flows come and go; every entry names flows that the
 * change before has left there. */
static void test_caches_are_read(void)
{
    struct oko_dp *dp = kit_dp(3, 0, 0);
    uint64_t seen = 0;
    for (uint32_t number = 1; number <= 2; number++)
        add_file(dp, number);
    CHECK(oko_dp_port_add_null(dp, 5, "") == 0);
    for (uint32_t i = 0; i < 6; i++) /* other masks, so that caches are used */
        kit_add(dp, .priority = 9, .cookie = 1, .output = 5,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800},
                          {OKO_FIELD_IPV4_SRC, 0xf0000000, 0xf0000000 | 1u << i}});
    CHECK(oko_dp_start(dp, &(struct oko_live_opts){.n_threads = THREADS}, NULL) == 0);
    for (uint32_t round = 2; round < 300 || (seen == 0 && round < 30000); round++) {
        kit_add(dp, .priority = 1, .cookie = round, .output = 5); /* replaces the one before */
        if (round % 4 == 0)
            usleep(500);
        for (uint32_t worker = 0; worker < 3; worker++) {
            static uint8_t out[1 << 12];
            int64_t n;
            for (uint64_t cursor = 0; cursor != UINT64_MAX;) {
                CHECK((n = oko_dp_cache(dp, worker, &cursor, out, sizeof out)) >= 0);
                struct oko_cache_entry entry;
                for (int64_t at = 0; at < n; at += entry.size, seen++) {
                    memcpy(&entry, out + at, sizeof entry);
                    struct oko_cache_flow flow;
                    CHECK(entry.table == 0 && entry.n_flows == 1);
                    memcpy(&flow, out + at + entry.size - sizeof flow, sizeof flow);
                    CHECK(flow.cookie == 1 || flow.cookie == round);
                }
            }
        }
    }
    CHECK(seen > 0);
    uint64_t cursor = 0;
    CHECK(oko_dp_cache(dp, 3, &cursor, NULL, 0) == OKO_E_INVAL);
    oko_dp_stop(dp);
    oko_dp_free(dp);
}

/* Queues come, go and change their rates while threads send through them: every packet is counted
 * in one of them, or in none, and at the port. */
static void test_queues_change(void)
{
    struct oko_dp *dp = kit_dp(3, 0, 0);
    struct kit_ops ops = {0};
    struct oko_queue_info infos[8];
    for (uint32_t number = 1; number <= 2; number++)
        add_file(dp, number);
    CHECK(oko_dp_port_add_null(dp, 5, "") == 0);
    kit_begin(&ops, OKO_OP_APPLY);
    for (uint32_t queue = 0; queue < 4; queue++) {
        kit_op(&ops, OKO_OP_SET_QUEUE, queue, 0);
        kit_output(&ops, 5);
    }
    kit_end(&ops);
    kit_add(dp, .priority = 1, .cookie = 1, .ops = &ops);
    struct oko_queue_spec always = {.id = 0};
    CHECK(oko_dp_port_set_queues(dp, 5, &always, 1, NULL) == 0);
    CHECK(oko_dp_start(dp, &(struct oko_live_opts){.n_threads = THREADS}, NULL) == 0);
    for (uint32_t round = 0; round < 500; round++) {
        struct oko_queue_spec specs[4] = {{.id = 0}};
        uint32_t n = 1;
        for (uint32_t queue = 1; queue < 4; queue++)
            if (round >> queue & 1)
                specs[n++] = (struct oko_queue_spec){.id = queue, .max_rate = round % 3 * 1000000};
        CHECK(oko_dp_port_set_queues(dp, 5, specs, n, NULL) == 0);
        CHECK(oko_dp_queues(dp, infos, 8) == n && infos[0].id == 0 && infos[0].port == 5);
    }
    while (kit_packets(dp, 1) < 10000)
        usleep(1000);
    oko_dp_stop(dp);
    CHECK(oko_dp_port_set_queues(dp, 5, &always, 1, NULL) == 0);
    CHECK(oko_dp_queues(dp, infos, 8) == 1 && infos[0].tx_errors == 0);
    CHECK(infos[0].tx_packets >= kit_packets(dp, 1) && infos[0].tx_packets <= kit_tx(dp, 5));
    CHECK(kit_tx(dp, 5) <= 4 * kit_packets(dp, 1));
    CHECK(oko_dp_port_set_queues(dp, 5, NULL, 0, NULL) == 0 && oko_dp_queues(dp, infos, 8) == 0);
    oko_dp_free(dp);
}

/* Freed while threads run. */
static void test_freed_in_full_flight(void)
{
    struct oko_dp *dp = kit_dp(3, 0, 0);
    add_file(dp, 1);
    kit_add(dp, .priority = 1, .output = 1);
    CHECK(oko_dp_start(dp, &(struct oko_live_opts){.n_threads = 2, .busy_poll = true}, NULL) == 0);
    usleep(20000);
    oko_dp_free(dp);
}

/* What a program would say, and that asking changes nothing. */
static void test_asking_leaves_no_mark(void)
{
    struct oko_dp *dp = kit_dp(3, 0, 0);
    struct oko_trace_step steps[32];
    kit_ports(dp, 3);
    CHECK(kit_load_every(dp, 1, 2, false) == 0);
    kit_add(dp, .priority = 9, .prog = 1, .cookie = 1, .output = 2);
    kit_add(dp, .priority = 1, .cookie = 2, .output = 3);
    uint8_t frame[64];
    kit_frame(frame, &(struct kit_udp){.src = 1, .sport = 7});
    for (uint64_t i = 0; i < 6; i++) {
        for (uint32_t again = 0; again < 3; again++) {
            uint32_t n = trace(dp, steps, 32);
            CHECK(n >= 5 && steps[2].kind == OKO_TRACE_FILTER && steps[2].value == i % 2);
            CHECK(kit_map_value(dp, 1) == i && kit_prog(dp, 1).runs == i);
            CHECK(kit_packets(dp, 1) + kit_packets(dp, 2) == i);
            CHECK(kit_tx(dp, 2) + kit_tx(dp, 3) == i);
        }
        kit_send(dp, 1, frame, 1, i * 1000);
    }
    uint32_t n = trace(dp, steps, 1); /* fewer steps than there are */
    CHECK(n >= 5);
    oko_dp_free(dp);
}

/* ---------------------------------------------------------------- segmentation */

static uint32_t tcp_frame(uint8_t *out, bool v6, uint32_t payload)
{
    uint32_t l4 = v6 ? 54 : 34, len = l4 + 32 + payload;
    memset(out, 0, l4 + 32);
    out[12] = v6 ? 0x86 : 0x08;
    out[13] = v6 ? 0xdd : 0x00;
    uint8_t *ip = out + 14;
    if (v6) {
        ip[0] = 0x60;
        ip[6] = 6;
        ip[7] = 64;
        ip[8] = ip[24] = 0xfe;
    } else {
        ip[0] = 0x45;
        ip[4] = 0xff; /* the identification wraps */
        ip[5] = 0xff;
        ip[8] = 64;
        ip[9] = 6;
        ip[12] = ip[16] = 10;
    }
    out[l4 + 4] = 0xff; /* so does the sequence number */
    out[l4 + 5] = 0xff;
    out[l4 + 6] = 0xff;
    out[l4 + 12] = 0x80; /* 32 bytes of header */
    out[l4 + 13] = 0x99; /* CWR, ACK, PSH, FIN */
    for (uint32_t i = 0; i < payload; i++)
        out[l4 + 32 + i] = (uint8_t)(i * 7);
    return len;
}

static void test_segments(bool v6, uint32_t payload, uint32_t size)
{
    static uint8_t frame[70000], segment[70000];
    uint32_t l4 = v6 ? 54 : 34, len = tcp_frame(frame, v6, payload), done = 0, n = 0, got;
    struct oko_gso gso;
    CHECK(oko_gso_begin(&gso, frame, len, l4, size, v6 ? OKO_GSO_TCP6 : OKO_GSO_TCP4));
    CHECK(!oko_gso_begin(&gso, frame, len, l4, size, v6 ? OKO_GSO_TCP4 : OKO_GSO_TCP6));
    CHECK(oko_gso_begin(&gso, frame, len, l4, size, v6 ? OKO_GSO_TCP6 : OKO_GSO_TCP4));
    while ((got = oko_gso_next(&gso, segment, OKO_FRAME_MAX))) {
        uint32_t ip_error, l4_error;
        checksum_errors(segment, got, &ip_error, &l4_error);
        CHECK(ip_error == 0 && l4_error == 0);
        uint32_t part = got - l4 - 32;
        CHECK(part == (payload - done < size ? payload - done : size));
        CHECK(memcmp(segment + l4 + 32, frame + l4 + 32 + done, part) == 0);
        uint32_t sequence = (uint32_t)segment[l4 + 4] << 24 | (uint32_t)segment[l4 + 5] << 16 |
                            (uint32_t)segment[l4 + 6] << 8 | segment[l4 + 7];
        CHECK(sequence == 0xffffff00u + done);
        bool first = done == 0, last = done + part == payload;
        CHECK(segment[l4 + 13] == (0x10 | (first ? 0x80 : 0) | (last ? 0x09 : 0)));
        if (!v6)
            CHECK((uint16_t)(segment[18] << 8 | segment[19]) == (uint16_t)(0xffff + n));
        done += part;
        n++;
    }
    CHECK(done == payload && n == (payload + size - 1) / size);
}

/* Headers that make no sense change nothing and read nothing beyond the frame. */
static void test_nonsense(void)
{
    uint64_t seed = 1;
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t len = (uint32_t)(next_random(&seed) % 200);
        uint8_t *bytes = guarded(len ? len : 1);
        static uint8_t frame[70000], out[70000];
        tcp_frame(frame, i & 1, 200);
        for (uint32_t at = 0; at < len; at++)
            bytes[at] = next_random(&seed) % 20 ? frame[at] : (uint8_t)next_random(&seed);
        struct oko_gso gso;
        uint32_t l4 = (uint32_t)(next_random(&seed) % 80), n = 0;
        if (oko_gso_begin(&gso, bytes, len, l4, (uint32_t)(next_random(&seed) % 50),
                          (enum oko_gso_kind)(i % 3)))
            while (oko_gso_next(&gso, out, OKO_FRAME_MAX))
                CHECK(++n < 1000);
        oko_offload_checksum(bytes, len, l4, (uint32_t)(next_random(&seed) % 40));
    }
}

int main(void)
{
    test_asking_leaves_no_mark();
    test_everything_at_once();
    test_caches_are_read();
    test_queues_change();
    test_freed_in_full_flight();
    for (uint32_t v6 = 0; v6 < 2; v6++) {
        test_segments(v6, 5000, 1448);
        test_segments(v6, 1448, 1448);
        test_segments(v6, 1, 1448);
        test_segments(v6, 60000, 536);
    }
    test_nonsense();
    return 0;
}
