/* What a filter costs: native C, interpreter, machine code per packet and in batches, side by side.
 *
 * usage: bench-vm [-r ROUNDS] [-f NAME] [-j] [-p] [-l] [-c ENGINE] DIRECTORY
 *
 *   -r  rounds; each runs every engine once over the packets, interleaved; medians are reported
 *   -f  only this filter
 *   -j  a JSON line per result instead of the table
 *   -p  peers too, if compiled in: the kernel's BPF and DPDK's (peer.h); tools/compare uses it
 *   -l  instead of that, what loading costs: in this process' first load of the filter, and the
 *       median of the rounds; with maps made, verified and compiled
 *   -c  one engine, one pass after a warm-up, inside measured_pass(): for callgrind with
 *       --toggle-collect=measured_pass; prints the number of packets
 *
 * DIRECTORY has NAME.flat for each filter (tools/bench/flatten.py). The filters in C are linked in
 * (tools/bench/filters), compiled by the host's compiler with maps inlined: "native" calls one
 * through a pointer per packet as a switch would; "native-batch" has it inlined in the loop.
 * Packets of 64 bytes lie in memory, flows in random order. Times are thread CPU time. */
#include "bench/peer.h"
#include "bpf/prog.h"
#include "qsbr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FRAME = 64, BURST = 32 };

/* ---------------------------------------------------------------- the filters */

#define FILTERS(X)                                                                                 \
    X(a_trivial, no_fill, 1024, 17)                                                                \
    X(b_parse, no_fill, 1024, 17)                                                                  \
    X(c_counter, no_fill, 1024, 17)                                                                \
    X(d_flow, fill_d_flow, 1024, 17)                                                               \
    X(d_flow_100k, fill_d_flow_100k, 100000, 17)                                                   \
    X(e_bucket, no_fill, 1024, 17)                                                                 \
    X(e_bucket_100k, no_fill, 100000, 17)                                                          \
    X(f_firewall, no_fill, 1024, 6)                                                                \
    X(g_payload, no_fill, 1024, 17)                                                                \
    X(h_sketch, no_fill, 1024, 17)

typedef uint64_t (*native_fn)(const uint8_t *pkt, uint64_t len, const struct oko_meta *meta);
typedef uint64_t (*native_batch_fn)(const struct oko_prog_in *in, uint64_t todo);
typedef void (*fill_fn)(const void *key, const void *value);

static void no_fill(const void *key, const void *value)
{
    (void)key;
    (void)value;
}
void fill_d_flow(const void *key, const void *value);
void fill_d_flow_100k(const void *key, const void *value);

#define DECLARE(name, fill, flows, proto)                                                          \
    uint64_t filter_##name(const uint8_t *pkt, uint64_t len, const struct oko_meta *meta);         \
    uint64_t batch_##name(const struct oko_prog_in *in, uint64_t todo);
FILTERS(DECLARE)

static const struct filter {
    const char *name;
    native_fn native;
    native_batch_fn native_batch;
    fill_fn fill;
    uint32_t n_flows;
    uint8_t proto;
} filters[] = {
#define ROW(name, fill, flows, proto) {#name, filter_##name, batch_##name, fill, flows, proto},
    FILTERS(ROW)};

enum { N_FILTERS = sizeof(filters) / sizeof(filters[0]) };

/* ---------------------------------------------------------------- programs */

struct flat {
    char magic[8];
    uint32_t n_insns, n_maps, n_funcs, n_data;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-vm: %s: %s\n", what, why);
    exit(1);
}

/* *start, unless NULL: when the file had been read. */
static struct oko_prog *load(struct oko_vm *vm, const char *directory, const char *name,
                             struct timespec *start)
{
    static uint8_t bytes[1 << 20];
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.flat", directory, name);
    FILE *f = fopen(path, "rb");
    size_t size = f ? fread(bytes, 1, sizeof(bytes), f) : 0;
    if (f)
        fclose(f);
    struct flat head;
    if (size < sizeof(head))
        die(path, "cannot read it");
    memcpy(&head, bytes, sizeof(head));
    if (memcmp(head.magic, "okoflat1", 8) || head.n_data)
        die(path, "not a flat program, or one with data sections");
    const uint8_t *p = bytes + sizeof(head);
    struct oko_prog_spec spec = {.n_insns = head.n_insns,
                                 .n_maps = head.n_maps,
                                 .n_funcs = head.n_funcs,
                                 .insns = (const struct oko_insn *)p};
    snprintf(spec.name, sizeof(spec.name), "%s", name);
    p += head.n_insns * sizeof(struct oko_insn);
    spec.maps = (const struct oko_map_spec *)p;
    p += head.n_maps * sizeof(struct oko_map_spec);
    spec.funcs = (const struct oko_func_spec *)p;
    struct oko_prog *prog;
    struct oko_error error = {0};
    if (start)
        clock_gettime(CLOCK_MONOTONIC, start);
    if (oko_prog_load(vm, &spec, NULL, NULL, &prog, &error))
        die(path, error.reason);
    return prog;
}

/* ---------------------------------------------------------------- packets */

struct traffic {
    uint8_t *frames; /* n of FRAME bytes */
    struct oko_prog_in *in;
    struct oko_meta *meta;
    uint32_t n;
};

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % n);
}

static void make_frame(uint8_t *p, uint32_t flow, uint8_t proto)
{
    memset(p, 0, FRAME);
    p[0] = 2;
    p[12] = 8;
    p[14] = 0x45;
    p[17] = FRAME - 14;
    p[22] = 64;
    p[23] = proto;
    uint32_t mixed = flow * 2654435761u;
    p[26] = (flow & 1) || proto != 6 ? 10 : 11;
    p[27] = (uint8_t)(flow >> 16);
    p[28] = (uint8_t)(flow >> 8);
    p[29] = (uint8_t)flow;
    p[30] = p[26] == 10 ? 11 : 10;
    p[31] = (uint8_t)(mixed >> 8);
    p[32] = (uint8_t)(mixed >> 16);
    p[33] = (uint8_t)(mixed >> 24);
    p[34] = (uint8_t)(mixed >> 4);
    p[35] = (uint8_t)mixed;
    p[36] = 0;
    p[37] = flow % 4 ? 80 : 53;
    p[46] = 0x50;
    p[47] = random_below(16) == 0 ? 0x02 : random_below(16) == 0 ? 0x11 : 0x10;
    for (int i = 48; i < FRAME; i++)
        p[i] = (uint8_t)(mixed + (uint32_t)i);
}

static void make_traffic(struct traffic *t, const struct filter *f)
{
    t->n = f->n_flows < 8192 ? 8192 : (f->n_flows + 31) & ~31u;
    t->frames = aligned_alloc(4096, (size_t)t->n * FRAME);
    t->in = calloc(t->n, sizeof(*t->in));
    t->meta = calloc(t->n, sizeof(*t->meta));
    uint32_t *order = calloc(t->n, sizeof(*order));
    if (!t->frames || !t->in || !t->meta || !order)
        die("packets", "out of memory");
    for (uint32_t i = 0; i < t->n; i++)
        order[i] = i % f->n_flows;
    for (uint32_t i = t->n - 1; i > 0; i--) {
        uint32_t k = random_below(i + 1), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    for (uint32_t i = 0; i < t->n; i++) {
        uint8_t *p = t->frames + (size_t)(f->n_flows < 8192 ? order[i] : i) * FRAME;
        make_frame(p, order[i], f->proto);
        t->meta[i].rx_ns = 1000000000u + 10u * i;
        t->meta[i].len = t->meta[i].wire_len = FRAME;
        t->in[i] = (struct oko_prog_in){p, FRAME, &t->meta[i]};
    }
    free(order);
}

static void free_traffic(struct traffic *t)
{
    free(t->frames);
    free(t->in);
    free(t->meta);
}

/* ---------------------------------------------------------------- engines */

enum engine { NATIVE, NATIVE_BATCH, INTERP, JIT, JIT_BATCH, N_OWN, MAX_ENGINES = N_OWN + 4 };

static const char *const own_names[N_OWN] = {"native", "native-batch", "interpreter", "jit",
                                             "jit-batch"};

static const struct peer *const peers[] = {
#ifdef HAVE_KERNEL
    &oko_peer_kernel,
    &oko_peer_kernel_given_clock,
#endif
#ifdef HAVE_DPDK
    &oko_peer_dpdk,
    &oko_peer_dpdk_burst,
#endif
    NULL,
};

static const char *name_of(int engine)
{
    return engine < N_OWN ? own_names[engine] : peers[engine - N_OWN]->name;
}

struct bench {
    const struct filter *filter;
    struct oko_prog *prog;
    struct oko_env *env;
    struct traffic traffic;
    struct peer_traffic peer_traffic;
    int n_engines;
    void *peer_runs[MAX_ENGINES - N_OWN]; /* NULL: refused the filter, or has no form of it */
};

/* All packets once; returns how many matched. */
static uint64_t pass(const struct bench *b, int engine)
{
    const struct oko_prog_in *in = b->traffic.in;
    uint32_t n = b->traffic.n;
    uint64_t matches = 0;
    switch (engine) {
    case NATIVE: {
        native_fn run = b->filter->native;
        for (uint32_t i = 0; i < n; i++)
            matches += run(in[i].data, in[i].len, in[i].meta) == 1;
        break;
    }
    case NATIVE_BATCH: {
        native_batch_fn run = b->filter->native_batch;
        for (uint32_t i = 0; i < n; i += BURST)
            matches += (uint64_t)__builtin_popcountll(run(in + i, UINT32_MAX));
        break;
    }
    case INTERP:
        for (uint32_t i = 0; i < n; i++)
            matches += oko_interp_run(b->prog, b->env, &in[i]) == 1;
        break;
    case JIT: {
        oko_jit_run run = b->prog->jit_run;
        for (uint32_t i = 0; i < n; i++)
            matches += run(in[i].data, in[i].len, in[i].meta, b->env) == 1;
        break;
    }
    case JIT_BATCH: {
        oko_jit_batch run = b->prog->jit_batch;
        for (uint32_t i = 0; i < n; i += BURST)
            matches += (uint64_t)__builtin_popcountll(run(b->env, in + i, UINT32_MAX));
        break;
    }
    default:
        return peers[engine - N_OWN]->pass(b->peer_runs[engine - N_OWN]);
    }
    return matches;
}

uint64_t measured_pass(const struct bench *b, int engine);

/* By a name of its own, for callgrind. */
__attribute__((noinline)) uint64_t measured_pass(const struct bench *b, int engine)
{
    return pass(b, engine);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static bool takes_part(const struct bench *b, int engine)
{
    return engine < N_OWN || b->peer_runs[engine - N_OWN];
}

/* Loads the filter into every peer; those that refuse are named with their reason. */
static void open_peers(struct bench *b, const char *directory, bool json)
{
    b->peer_traffic = (struct peer_traffic){b->traffic.in, b->traffic.n, b->traffic.frames,
                                            (size_t)b->traffic.n * FRAME};
    for (int i = 0; peers[i]; i++) {
        char why[512] = "";
        b->n_engines = N_OWN + i + 1;
        if (peers[i]->open(directory, b->filter->name, &b->peer_traffic, &b->peer_runs[i], why,
                           sizeof(why)))
            continue;
        b->peer_runs[i] = NULL;
        if (!why[0])
            continue;
        for (char *c = why; *c; c++)
            if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
                *c = ' '; /* it goes into JSON */
        if (json)
            printf("{\"bench\":\"vm\",\"filter\":\"%s\",\"engine\":\"%s\",\"refused\":\"%s\"}\n",
                   b->filter->name, peers[i]->name, why);
        else
            printf("%-14s %s: %s\n", b->filter->name, peers[i]->name, why);
    }
}

static void close_peers(struct bench *b)
{
    for (int i = 0; i < b->n_engines - N_OWN; i++)
        if (b->peer_runs[i])
            peers[i]->close(b->peer_runs[i]);
}

/* Every second flow is in the table with value 1, the others with 0. */
static void fill_flows(const struct bench *b)
{
    const struct filter *f = b->filter;
    if (f->fill == no_fill)
        return;
    for (uint32_t i = 0; i < b->traffic.n; i++) {
        const uint8_t *p = b->traffic.in[i].data;
        uint8_t key[16] = {0};
        memcpy(key, p + 26, 12);
        key[12] = p[23];
        uint64_t value = p[29] & 1;
        f->fill(key, &value);
        if (oko_map_update(oko_prog_map(b->prog, 0), key, (const uint8_t *)&value, OKO_ANY))
            die(f->name, "cannot fill the map");
        for (int e = N_OWN; e < b->n_engines; e++)
            if (takes_part(b, e) && !peers[e - N_OWN]->put(b->peer_runs[e - N_OWN], key, &value))
                die(peers[e - N_OWN]->name, "cannot fill the map");
    }
}

static void report_one(const struct bench *b, int engine, const double *ns, int rounds,
                       double native, uint64_t matches, bool json)
{
    double median = ns[rounds / 2];
    if (json)
        printf("{\"bench\":\"vm\",\"filter\":\"%s\",\"engine\":\"%s\",\"ns\":%.2f,"
               "\"min\":%.2f,\"max\":%.2f,\"native_ratio\":%.3f,\"packets\":%u,\"flows\":%u,"
               "\"matches\":%llu}\n",
               b->filter->name, name_of(engine), median, ns[0], ns[rounds - 1], median / native,
               b->traffic.n, b->filter->n_flows, (unsigned long long)matches);
    else
        printf(" %8.2f %5.2fx", median, median / native);
}

static void report(const struct bench *b, int rounds, bool json)
{
    double *ns[MAX_ENGINES] = {NULL};
    uint64_t matches[MAX_ENGINES] = {0};
    for (int e = 0; e < b->n_engines; e++) {
        ns[e] = calloc((size_t)rounds, sizeof(double));
        if (!ns[e])
            die("results", "out of memory");
        if (takes_part(b, e))
            matches[e] = pass(b, e);
    }
    for (int r = 0; r < rounds; r++) {
        for (int k = 0; k < b->n_engines; k++) {
            int e = (k + r) % b->n_engines; /* nobody always runs after the same neighbour */
            if (!takes_part(b, e))
                continue;
            double start = now();
            matches[e] = measured_pass(b, e);
            ns[e][r] = (now() - start) / b->traffic.n;
        }
    }
    for (int e = 0; e < b->n_engines; e++)
        qsort(ns[e], (size_t)rounds, sizeof(double), ascending);
    double native = ns[NATIVE][rounds / 2];
    if (!json)
        printf("%-14s", b->filter->name);
    for (int e = 0; e < b->n_engines; e++) {
        if (takes_part(b, e))
            report_one(b, e, ns[e], rounds, native, matches[e], json);
        else if (!json)
            printf(" %15s", "-");
        if (takes_part(b, e) && matches[e] != matches[INTERP])
            fprintf(stderr, "bench-vm: %s: %s matches %llu packets, the interpreter %llu\n",
                    b->filter->name, name_of(e), (unsigned long long)matches[e],
                    (unsigned long long)matches[INTERP]);
        free(ns[e]);
    }
    if (!json)
        printf(" %6u B\n", b->prog->info.jit_bytes);
    fflush(stdout);
}

/* ---------------------------------------------------------------- loading */

enum { ALL, VERIFY, COMPILE, N_PARTS };

/* Loads the filter and drops it again; us[]: the microseconds it took. */
static void load_once(struct oko_vm *vm, const char *directory, const char *name, double us[])
{
    struct timespec start, end;
    struct oko_prog_info info;
    struct oko_prog *prog = load(vm, directory, name, &start);
    clock_gettime(CLOCK_MONOTONIC, &end);
    oko_prog_info(prog, &info);
    us[ALL] =
        (double)(end.tv_sec - start.tv_sec) * 1e6 + (double)(end.tv_nsec - start.tv_nsec) / 1e3;
    us[VERIFY] = (double)info.verify_ns / 1e3;
    us[COMPILE] = (double)info.jit_ns / 1e3;
    oko_prog_unref(prog);
}

static void report_loading(struct oko_vm *vm, const char *directory, const char *name, int rounds,
                           bool json)
{
    double first[N_PARTS], *us[N_PARTS], one[N_PARTS];
    load_once(vm, directory, name, first);
    for (int p = 0; p < N_PARTS; p++)
        if (!(us[p] = calloc((size_t)rounds, sizeof(double))))
            die("results", "out of memory");
    for (int r = 0; r < rounds; r++) {
        load_once(vm, directory, name, one);
        for (int p = 0; p < N_PARTS; p++)
            us[p][r] = one[p];
    }
    for (int p = 0; p < N_PARTS; p++)
        qsort(us[p], (size_t)rounds, sizeof(double), ascending);
    int m = rounds / 2;
    printf(json ? "{\"bench\":\"vm-load\",\"filter\":\"%s\",\"us\":%.1f,\"verify_us\":%.1f,"
                  "\"jit_us\":%.1f,\"first_us\":%.1f,\"first_verify_us\":%.1f,"
                  "\"first_jit_us\":%.1f}\n"
                : "%-14s %7.1f %7.1f %7.1f %10.1f %7.1f %7.1f\n",
           name, us[ALL][m], us[VERIFY][m], us[COMPILE][m], first[ALL], first[VERIFY],
           first[COMPILE]);
    for (int p = 0; p < N_PARTS; p++)
        free(us[p]);
}

int main(int argc, char **argv)
{
    int rounds = 31, opt;
    bool json = false, with_peers = false, loading = false;
    const char *only = NULL, *count = NULL;
    while ((opt = getopt(argc, argv, "r:f:jplc:")) != -1) {
        if (opt == 'r')
            rounds = atoi(optarg);
        else if (opt == 'f')
            only = optarg;
        else if (opt == 'j')
            json = true;
        else if (opt == 'p')
            with_peers = true;
        else if (opt == 'l')
            loading = true;
        else if (opt == 'c')
            count = optarg;
        else
            return 2;
    }
    if (optind + 1 != argc || rounds < 1)
        die("usage", "bench-vm [-r ROUNDS] [-f NAME] [-j] [-p] [-l] [-c ENGINE] DIRECTORY");
    struct oko_vm_opts opts = {.n_workers = 1, .secret = 1};
    struct oko_vm *vm;
    if (oko_vm_new(&opts, &vm))
        die("vm", "out of memory");
    if (!json && loading) {
        printf("us per load\n%-14s %7s %7s %7s %10s %7s %7s\n", "filter", "all", "verify", "jit",
               "first: all", "verify", "jit");
    } else if (!json && !count) {
        printf("ns/packet, and as a multiple of native\n%-14s", "filter");
        for (int e = 0; e < N_OWN || (with_peers && peers[e - N_OWN]); e++)
            printf(" %15s", name_of(e));
        printf("     code\n");
    }
    for (int i = 0; i < N_FILTERS; i++) {
        struct bench b = {.filter = &filters[i], .n_engines = N_OWN};
        if (only && strcmp(only, b.filter->name))
            continue;
        if (loading) {
            report_loading(vm, argv[optind], b.filter->name, rounds, json);
            continue;
        }
        b.prog = load(vm, argv[optind], b.filter->name, NULL);
        b.env = oko_vm_env(vm, 0);
        b.env->prog = b.prog;
        make_traffic(&b.traffic, b.filter);
        if (with_peers)
            open_peers(&b, argv[optind], json);
        fill_flows(&b);
        oko_qsbr_online(oko_vm_qsbr(vm), 0);
        if (count) {
            for (int e = 0; e < b.n_engines; e++) {
                if (strcmp(count, name_of(e)) || !takes_part(&b, e))
                    continue;
                pass(&b, e);
                measured_pass(&b, e);
                printf("%s %s %u packets\n", b.filter->name, count, b.traffic.n);
            }
        } else {
            report(&b, rounds, json);
        }
        oko_qsbr_offline(oko_vm_qsbr(vm), 0);
        close_peers(&b);
        free_traffic(&b.traffic);
        oko_prog_unref(b.prog);
    }
    oko_vm_free(vm);
    return 0;
}
