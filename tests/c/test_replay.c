/* The replay engine on a datapath of its own: which packet comes when, in which round, to which
 * worker; and what is written. The real datapath is exercised from Python (tests/cli). */
#define _GNU_SOURCE
#include "replay.c"

#include "capture_files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* ---------------------------------------------------------------- the fake datapath */

enum { MAX_SEEN = 200000, MAX_FAKE_WORKERS = 4 };

struct seen {
    uint64_t seq, ns;
    uint32_t in_port, len, wire_len, first;
};

struct oko_worker {
    struct oko_dp *dp;
    uint32_t index, n, longest_burst;
    uint64_t ticked;
    bool online;
    struct seen *seen; /* [MAX_SEEN] */
};

struct oko_dp {
    struct oko_worker workers[MAX_FAKE_WORKERS];
    struct oko_port port;
    uint64_t clock_start;
};

static struct oko_dp fake;

struct oko_worker *oko_dp_worker(struct oko_dp *dp, uint32_t index)
{
    return &dp->workers[index];
}

void oko_worker_online(struct oko_worker *worker)
{
    CHECK(!worker->online);
    worker->online = true;
}

void oko_worker_offline(struct oko_worker *worker)
{
    CHECK(worker->online);
    worker->online = false;
}

void oko_worker_burst(struct oko_worker *worker, struct oko_pkt *pkts, uint32_t n)
{
    CHECK(worker->online && n >= 1 && n <= OKO_BURST);
    if (n > worker->longest_burst)
        worker->longest_burst = n;
    for (uint32_t i = 0; i < n; i++) {
        struct oko_pkt *p = &pkts[i];
        CHECK(!p->owned && worker->n < MAX_SEEN);
        CHECK(!worker->n || p->meta.rx_ns >= worker->seen[worker->n - 1].ns);
        CHECK(p->meta.in_port == p->in_port && p->meta.len == p->len);
        worker->seen[worker->n++] =
            (struct seen){p->seq, p->meta.rx_ns,    p->in_port,
                          p->len, p->meta.wire_len, p->len > OKO_FRAME_MAX ? 0 : p->data[0]};
        if (worker->dp->port.ops && p->len <= OKO_FRAME_MAX)
            worker->dp->port.ops->tx(&worker->dp->port, worker->index, p);
    }
}

void oko_worker_tick(struct oko_worker *worker, uint64_t now_ns)
{
    CHECK(!worker->n || now_ns >= worker->seen[worker->n - 1].ns);
    worker->ticked = now_ns;
}

void oko_dp_clock_start(struct oko_dp *dp, uint64_t ns)
{
    dp->clock_start = ns;
}

bool oko_dp_events_waiting(struct oko_dp *dp)
{
    (void)dp;
    return false;
}

int oko_dp_port_attach(struct oko_dp *dp, uint32_t number, const char *name,
                       const struct oko_port_ops *ops, void *ctx)
{
    (void)name;
    dp->port = (struct oko_port){.ops = ops, .number = number, .ctx = ctx};
    return 0;
}

enum { MAX_CAPTURES = 3 };

struct run {
    struct oko_replay_opts opts;
    int fds[MAX_CAPTURES];
    uint32_t n;
    int out; /* file to write, or -1 */
    struct oko_replay_status status;
    int code, source_errors[MAX_CAPTURES];
};

static void open_all(struct run *run, struct oko_capture **captures)
{
    struct oko_error error;
    for (uint32_t i = 0; i < run->n; i++) {
        oko_capture_close(captures[i]);
        CHECK(lseek(run->fds[i], 0, SEEK_SET) == 0);
        CHECK(oko_capture_open(run->fds[i], 0, &captures[i], &error) == 0);
    }
}

/* Runs to the end, in slices; leaves what was seen in fake. */
static void go(struct run *run)
{
    struct oko_capture *captures[MAX_CAPTURES] = {NULL};
    struct oko_replay_source sources[MAX_CAPTURES];
    struct oko_writer *writer = NULL;
    struct oko_replay *replay;
    struct oko_error error;

    if (!run->opts.n_workers)
        run->opts.n_workers = 1;
    if (!run->opts.loops && !run->opts.duration_ns)
        run->opts.loops = 1;
    memset(&fake.port, 0, sizeof fake.port);
    fake.clock_start = 0;
    for (uint32_t i = 0; i < MAX_FAKE_WORKERS; i++) {
        struct oko_worker *w = &fake.workers[i];
        if (!w->seen)
            w->seen = malloc(MAX_SEEN * sizeof *w->seen);
        *w = (struct oko_worker){.dp = &fake, .index = i, .seen = w->seen};
    }
    if (run->out >= 0) {
        CHECK(oko_writer_new(run->out, true, run->opts.n_workers, &writer, &error) == 0);
        CHECK(oko_dp_port_add_pcap(&fake, 9, "out", writer) == 0);
    }
    open_all(run, captures);
    for (uint32_t i = 0; i < run->n; i++)
        sources[i] = (struct oko_replay_source){.capture = captures[i], .in_port = i + 1};
    CHECK(oko_replay_new(&fake, &run->opts, sources, run->n, &writer, writer ? 1 : 0, &replay,
                         &error) == 0);
    while ((run->code = oko_replay_run(replay, 2000000, &error)) > 0)
        if (run->code == OKO_REPLAY_REWIND) {
            open_all(run, captures);
            CHECK(oko_replay_rewind(replay, captures) == 0);
        }
    oko_replay_status(replay, &run->status);
    for (uint32_t i = 0; i < run->n; i++)
        run->source_errors[i] = oko_replay_source_error(replay, i, &error);
    if (run->code == 0 && writer)
        CHECK(oko_writer_flush(writer, &error) == 0);
    oko_replay_free(replay);
    oko_writer_free(writer);
    for (uint32_t i = 0; i < run->n; i++)
        oko_capture_close(captures[i]);
    for (uint32_t i = 0; i < MAX_FAKE_WORKERS; i++)
        CHECK(!fake.workers[i].online);
}

static const struct seen *seen(uint32_t i)
{
    CHECK(i < fake.workers[0].n);
    return &fake.workers[0].seen[i];
}

static void expect_times(const uint64_t *us, uint32_t n)
{
    CHECK(fake.workers[0].n == n);
    for (uint32_t i = 0; i < n; i++) {
        if (seen(i)->ns != us[i] * 1000)
            fprintf(stderr, "packet %u at %llu ns, expected %llu us\n", i,
                    (unsigned long long)seen(i)->ns, (unsigned long long)us[i]);
        CHECK(seen(i)->ns == us[i] * 1000 && seen(i)->seq == i + 1);
    }
}

/* ---------------------------------------------------------------- tests */

#define HOUR_US 3600000000ull

static const struct packet jumps[] = {
    {1000000, 60, 0},
    {3000000, 60, 0},
    {2000000, 60, 1500},
    {3500000, 14, 0},
    {3500000 + 2 * HOUR_US, 100, 0},
};

static void each_mode(struct run *run, void (*check)(const struct run *))
{
    for (int preload = 0; preload < 2; preload++) {
        run->opts.preload = preload;
        go(run);
        check(run);
    }
}

static void once(const struct run *run)
{
    expect_times((const uint64_t[]){1000000, 3000000, 3000000, 3500000, 3500000 + 2 * HOUR_US}, 5);
    CHECK(run->code == 0 && run->status.packets == 5 && run->status.loops == 1);
    CHECK(run->status.bytes == 60 + 60 + 1500 + 14 + 100);
    CHECK(run->status.first_ns == 1000000000 && run->status.last_ns == seen(4)->ns);
    CHECK(fake.clock_start == 1000000000 && run->status.per_round == 5);
    CHECK(seen(2)->len == 60 && seen(2)->wire_len == 1500 && seen(2)->first == 2);
    CHECK(!run->status.copied);
}

/* Looping: the two hours count as a second; a round lasts 3.5 s and is followed by a mean gap of
 * 3.5/4 s. */
static void looped(const struct run *run)
{
    expect_times((const uint64_t[]){1000000, 3000000, 3000000, 3500000, 4500000, 5375000, 7375000,
                                    7375000, 7875000, 8875000, 9750000, 11750000, 11750000,
                                    12250000, 13250000},
                 15);
    CHECK(run->status.loops == 3 && run->status.packets == 15);
}

static void limited(const struct run *run)
{
    expect_times((const uint64_t[]){1000000, 3000000, 3000000, 3500000, 4500000, 5375000, 7375000},
                 7);
    CHECK(run->status.packets == 7 && run->code == 0);
}

/* 1,000 packets/s from the first one on, whatever the capture says. */
static void at_rate(const struct run *run)
{
    uint64_t us[10];
    for (uint32_t i = 0; i < 10; i++)
        us[i] = 1000000 + 1000 * i;
    expect_times(us, 10);
    CHECK(run->status.run_ns >= 9000000);
}

/* 8 Mbit/s is a byte of wire length a microsecond. */
static void at_bits(const struct run *run)
{
    expect_times((const uint64_t[]){1000000, 1000060, 1000120, 1001620, 1001634, 1001734, 1001794,
                                    1001854, 1003354, 1003368},
                 10);
    CHECK(run->status.run_ns >= 2368000);
}

/* A thousand times faster than life: 3.5 s take 3.5 ms. */
static void real_time(const struct run *run)
{
    expect_times((const uint64_t[]){1000000, 3000000, 3000000, 3500000, 4500000}, 5);
    CHECK(run->status.run_ns >= 3500000);
}

static void test_clock(void)
{
    struct run run = {.fds = {make_capture(jumps, 5, 0)}, .n = 1, .out = -1};

    each_mode(&run, once);
    for (run.opts.burst = 1; run.opts.burst <= 4; run.opts.burst += 3) {
        each_mode(&run, once);
        CHECK(fake.workers[0].longest_burst == run.opts.burst);
    }
    run.opts.burst = 0;
    run.opts.loops = 3;
    each_mode(&run, looped);
    run.opts.max_packets = 7;
    each_mode(&run, limited);
    run.opts = (struct oko_replay_opts){.pace = OKO_PACE_PPS, .rate = 1000, .loops = 2};
    each_mode(&run, at_rate);
    run.opts = (struct oko_replay_opts){.pace = OKO_PACE_BITS, .rate = 8e6, .loops = 2};
    each_mode(&run, at_bits);
    run.opts = (struct oko_replay_opts){.pace = OKO_PACE_REALTIME, .rate = 1000};
    each_mode(&run, real_time);
    close(run.fds[0]);
}

static void ends_in_time(const struct run *run)
{
    CHECK(run->code == 0 && run->status.packets > 10);
    CHECK(run->status.run_ns >= 20000000 && run->status.run_ns < 2000000000);
}

static void test_duration(void)
{
    struct run run = {.fds = {make_capture(jumps, 5, 0)}, .n = 1, .out = -1};
    run.opts =
        (struct oko_replay_opts){.pace = OKO_PACE_PPS, .rate = 10000, .duration_ns = 20000000};
    each_mode(&run, ends_in_time);
    close(run.fds[0]);
}

static void merged(const struct run *run)
{
    static const uint32_t ports[] = {2, 1, 3, 1, 2, 3, 1};
    expect_times((const uint64_t[]){5, 10, 10, 20, 20, 20, 30}, 7);
    for (uint32_t i = 0; i < 7; i++)
        CHECK(seen(i)->in_port == ports[i]);
    CHECK(run->source_errors[0] == 0 && run->source_errors[2] == OKO_E_FORMAT);
    CHECK(run->code == 0 && run->status.packets == 7);
}

/* Three captures by time, ties in argument order, the third cut off in its last packet. A capture
 * that runs back in time keeps its own order. */
static void test_merge(void)
{
    static const struct packet a[] = {{10, 60, 0}, {20, 60, 0}, {30, 60, 0}};
    static const struct packet b[] = {{5, 60, 0}, {20, 60, 0}};
    static const struct packet c[] = {{10, 60, 0}, {20, 60, 0}, {25, 60, 0}};
    struct run run = {.fds = {make_capture(a, 3, 0), make_capture(b, 2, 0), make_capture(c, 3, 1)},
                      .n = 3,
                      .out = -1};
    each_mode(&run, merged);
    for (uint32_t i = 0; i < 3; i++)
        close(run.fds[i]);
}

static void nothing(const struct run *run)
{
    CHECK(run->code == 0 && run->status.packets == 0 && fake.workers[0].n == 0);
}

static void too_long(const struct run *run)
{
    CHECK(run->code == 0 && run->status.packets == 3);
    CHECK(seen(1)->len > OKO_FRAME_MAX && seen(1)->wire_len == 70000);
    CHECK(seen(2)->len == 65535);
}

static void test_odd_captures(void)
{
    static const struct packet big[] = {{1, 60, 0}, {2, 70000, 0}, {3, 65535, 0}};
    struct run run = {.fds = {make_capture(NULL, 0, 0)}, .n = 1, .out = -1};
    run.opts.loops = 5;
    each_mode(&run, nothing);
    close(run.fds[0]);
    run = (struct run){.fds = {make_capture(big, 3, 0)}, .n = 1, .out = -1};
    each_mode(&run, too_long);
    close(run.fds[0]);
}

/* ---------------------------------------------------------------- several workers */

static uint8_t *contents(int fd, size_t *size)
{
    *size = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *bytes = malloc(*size);
    CHECK(pread(fd, bytes, *size, 0) == (ssize_t)*size);
    return bytes;
}

/* One worker and several write the same file, streaming and preloaded, over several rounds; each
 * packet is handled once, both directions of a conversation by the same worker. */
static void test_workers(void)
{
    enum { N = 30000 };
    struct run run = {.fds = {make_conversations(N)}, .n = 1};
    uint8_t *want = NULL;
    size_t want_size = 0;

    for (uint32_t n = 1; n <= MAX_FAKE_WORKERS; n++)
        for (int preload = 0; preload < 2; preload++) {
            run.out = memfd_create("out", 0);
            run.opts = (struct oko_replay_opts){.n_workers = n, .preload = preload, .loops = 3};
            go(&run);
            CHECK(run.code == 0 && run.status.packets == 3 * N && run.status.loops == 3);
            CHECK(run.status.copied == (n > 1 && !preload));
            size_t size;
            uint8_t *got = contents(run.out, &size);
            if (want) {
                CHECK(size == want_size && !memcmp(got, want, size));
                free(got);
            } else {
                CHECK(size == 24 + 3 * N * 76u);
                want = got;
                want_size = size;
            }
            close(run.out);

            uint32_t total = 0, busy = 0;
            for (uint32_t i = 0; i < n; i++) {
                total += fake.workers[i].n;
                busy += fake.workers[i].n > 0;
                CHECK(n == 1 || fake.workers[i].ticked == run.status.last_ns);
                for (uint32_t j = 1; j < fake.workers[i].n; j++)
                    CHECK(fake.workers[i].seen[j].seq > fake.workers[i].seen[j - 1].seq);
            }
            CHECK(total == 3 * N && busy == n);
        }
    free(want);
    close(run.fds[0]);
}

static void test_workers_paced(void)
{
    struct run run = {.fds = {make_conversations(200)}, .n = 1, .out = -1};
    for (int preload = 0; preload < 2; preload++) {
        run.opts = (struct oko_replay_opts){
            .n_workers = 2, .preload = preload, .pace = OKO_PACE_PPS, .rate = 20000, .loops = 2};
        go(&run);
        CHECK(run.code == 0 && run.status.packets == 400);
        CHECK(run.status.run_ns >= 399 * 50000);
        CHECK(run.status.last_ns == run.status.first_ns + 399 * 50000);
        run.opts.max_packets = 77;
        go(&run);
        CHECK(run.code == 0 && run.status.packets == 77);
        CHECK(fake.workers[0].n + fake.workers[1].n == 77);
    }
    close(run.fds[0]);
}

/* Both ends of a conversation, every fragment, and a host's ARP meet at one worker. */
static void test_spread(void)
{
    struct oko_key there = {0}, back, fragment, arp;
    there.eth_type[0] = 8;
    memcpy(there.ipv4_src, "\x0a\0\0\1", 4);
    memcpy(there.ipv4_dst, "\x0a\0\0\2", 4);
    there.ip_proto[0] = 6;
    there.tp_src[1] = 7;
    there.tp_dst[1] = 80;
    for (uint32_t host = 0; host < 50; host++) {
        there.ipv4_src[3] = (uint8_t)host;
        back = fragment = arp = there;
        memcpy(back.ipv4_src, there.ipv4_dst, 4);
        memcpy(back.ipv4_dst, there.ipv4_src, 4);
        memcpy(back.tp_src, there.tp_dst, 2);
        memcpy(back.tp_dst, there.tp_src, 2);
        memset(fragment.tp_src, 0, 4);
        arp.eth_type[1] = 6;
        arp.ip_proto[0] = 0;
        for (uint32_t n = 1; n <= 64; n++) {
            uint32_t w = oko_spread_of(&there, OKO_SPREAD_ADDR, n);
            CHECK(w < n && w == oko_spread_of(&back, OKO_SPREAD_ADDR, n));
            CHECK(w == oko_spread_of(&fragment, OKO_SPREAD_ADDR, n));
            CHECK(w == oko_spread_of(&arp, OKO_SPREAD_ADDR, n));
            CHECK(oko_spread_of(&there, OKO_SPREAD_5TUPLE, n) ==
                  oko_spread_of(&back, OKO_SPREAD_5TUPLE, n));
            CHECK(oko_spread_of(&there, OKO_SPREAD_SRC, n) ==
                  oko_spread_of(&back, OKO_SPREAD_DST, n));
        }
    }
}

/* A file that cannot be written ends the replay with the reason. */
static void test_disk_full(void)
{
    struct oko_writer *writer;
    struct oko_error error;
    int full = open("/dev/full", O_WRONLY);
    CHECK(oko_writer_new(full, false, 1, &writer, &error) == OKO_E_IO);
    CHECK(error.sys_errno == ENOSPC && error.reason[0]);
    close(full);

    /* Full later: a pipe whose reader goes away. */
    for (uint32_t n = 1; n <= 2; n++) {
        int ends[2];
        CHECK(pipe(ends) == 0);
        struct run run = {.fds = {make_conversations(40000)}, .n = 1, .out = ends[1]};
        run.opts.n_workers = n;
        char header[24];
        CHECK(oko_writer_new(ends[1], false, 1, &writer, &error) == 0);
        CHECK(read(ends[0], header, 24) == 24);
        oko_writer_free(writer);
        CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0); /* EAGAIN once the pipe is full */
        go(&run);
        CHECK(run.code == OKO_E_IO);
        close(ends[0]);
        close(ends[1]);
        close(run.fds[0]);
    }
}

int main(void)
{
    test_clock();
    test_duration();
    test_merge();
    test_odd_captures();
    test_workers();
    test_workers_paced();
    test_spread();
    test_disk_full();
    for (uint32_t i = 0; i < MAX_FAKE_WORKERS; i++)
        free(fake.workers[i].seen);
    return 0;
}
