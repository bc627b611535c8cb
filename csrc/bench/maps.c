/* What map operations cost by themselves: ns per call, beside DPDK's rte_hash and rte_lpm.
 *
 * usage: bench-maps [-r ROUNDS] [-f TEXT] [-j]; then what threads cost each other (map_threads.c)
 *
 *   -r  rounds; in each, every row runs once, interleaved; medians are reported
 *   -f  only rows whose name has this text
 *   -j  a JSON line per row instead of the table
 *
 * Each row is one operation on keys in random order: 8,192 of 1,000 entries, or each of 100,000
 * once. Before its time is taken, a row runs once over all of its keys, since the row before it
 * left the caches full of another table. So "1k" is a table in the nearer caches, and "100k" one
 * that only the last one holds, on both sides; keys themselves come in sequence and are prefetched.
 * Operations do not depend on each other: as many are in flight as the CPU looks ahead.
 *
 * The map's functions are called as helpers are, by pointer. "in a program" is what a program sees:
 * one that does nothing but the operation, with the packet as the key, run in bursts of 32 by the
 * JIT's batch entry. Keys of hashes are 5-tuples in 16 bytes, values 8 bytes; prefixes are IPv4, of
 * 16 to 32 bits, and addresses random ones below some prefix. Times are thread CPU time.
 *
 * DPDK's part is there when its library was. "rte_hash" is for one thread: hash by CRC, no locks,
 * keys with data. "rte_hash, shared" gives what our maps give: writers beside writers and readers
 * without locks. "rte_lpm" is a table of 2^24 entries. */
#define _GNU_SOURCE /* sched_setaffinity() */
#include "bench/maps.h"
#include "bpf/insn.h"
#include "bpf/map.h"
#include "bpf/prog.h"
#include "qsbr.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_DPDK
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lpm.h>
#pragma GCC diagnostic pop
#endif

enum { MIN_OPS = 8192, PASSES_OF = 100000, MAX_KEY = 16, BURST = 32 };

void oko_bench_die(const char *what, const char *why)
{
    fprintf(stderr, "bench-maps: %s: %s\n", what, why);
    exit(1);
}

/* ---------------------------------------------------------------- keys */

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* A map's traffic: its entries, and what is asked for. */
struct work {
    uint32_t n_entries, n_ops, key_size;
    uint8_t *entries; /* n_entries of key_size */
    uint8_t *ops;     /* n_ops of key_size: entries in random order */
    uint8_t *absent;  /* n_ops of key_size: none is in the map */
};

static void make_flow(uint8_t *key, uint32_t flow, uint8_t proto)
{
    uint32_t mixed = flow * 2654435761u;
    uint16_t ports[2] = {(uint16_t)mixed, (uint16_t)(flow % 4 ? 80 : 53)};
    memset(key, 0, 16);
    memcpy(key, &flow, 4);
    memcpy(key + 4, &mixed, 4);
    memcpy(key + 8, ports, 4);
    key[12] = proto;
}

/* [bits as u32][address, big-endian] */
static void make_prefix(uint8_t *key)
{
    static const uint8_t lengths[8] = {24, 24, 24, 24, 22, 20, 16, 32};
    uint32_t bits = lengths[next_random() >> 20 & 7];
    uint32_t address = (uint32_t)(next_random() >> 16);
    address = __builtin_bswap32(address & ~(uint32_t)0 << (32 - bits));
    memcpy(key, &bits, 4);
    memcpy(key + 4, &address, 4);
}

static struct work make_work(uint32_t n_entries, bool prefixes)
{
    struct work w = {.n_entries = n_entries,
                     .n_ops = n_entries < MIN_OPS ? MIN_OPS : n_entries,
                     .key_size = prefixes ? 8 : 16};
    w.entries = calloc(n_entries, w.key_size);
    w.ops = calloc(w.n_ops, w.key_size);
    w.absent = calloc(w.n_ops, w.key_size);
    if (!w.entries || !w.ops || !w.absent)
        oko_bench_die("keys", "out of memory");
    for (uint32_t i = 0; i < n_entries; i++)
        if (prefixes)
            make_prefix(w.entries + 8ull * i);
        else
            make_flow(w.entries + 16ull * i, i, 17);
    for (uint32_t i = 0; i < w.n_ops; i++) {
        memcpy(w.ops + (size_t)i * w.key_size, w.entries + (size_t)(i % n_entries) * w.key_size,
               w.key_size);
        if (!prefixes)
            make_flow(w.absent + 16ull * i, i, 6);
    }
    for (uint32_t i = w.n_ops - 1; i > 0; i--) {
        uint8_t *a = w.ops + (size_t)i * w.key_size, swap[MAX_KEY];
        uint8_t *b = w.ops + (size_t)(next_random() >> 11) % (i + 1) * w.key_size;
        memcpy(swap, a, w.key_size);
        memcpy(a, b, w.key_size);
        memcpy(b, swap, w.key_size);
    }
    for (uint32_t i = 0; prefixes && i < w.n_ops; i++) { /* ask for whole addresses */
        uint8_t *key = w.ops + 8ull * i;
        uint32_t bits, address, whole = 32;
        memcpy(&bits, key, 4);
        memcpy(&address, key + 4, 4);
        address = __builtin_bswap32(address);
        address |= bits == 32 ? 0 : (uint32_t)(next_random() >> 8) & UINT32_MAX >> bits;
        address = __builtin_bswap32(address);
        memcpy(key, &whole, 4);
        memcpy(key + 4, &address, 4);
    }
    return w;
}

/* ---------------------------------------------------------------- rows */

enum action { HIT, MISS, UPDATE, CHURN }; /* churn: delete and insert again, one call each */

struct row {
    const char *name;
    const struct work *work;
    enum action action;
    uint64_t (*run)(const struct row *row); /* all operations once: how many found or did it */
    void *peer;                             /* a table of DPDK's */
    struct oko_map *map;                    /* else ours */
    struct oko_prog *prog;                  /* in a program */
    struct oko_prog_in *in;                 /* a packet per operation: its key */
    double *ns;
    uint64_t found;
};

static uint64_t run_own(const struct row *row)
{
    const struct work *w = row->work;
    struct oko_map *map = row->map;
    struct oko_env *env = oko_vm_env(map->vm, 0);
    const uint8_t *key = row->action == MISS ? w->absent : w->ops;
    uint64_t found = 0, value = 1;
    for (uint32_t i = 0; i < w->n_ops; i++, key += w->key_size) {
        if (row->action == UPDATE) {
            found += map->ops->update(map, key, &value, env) == 0;
        } else if (row->action == CHURN) {
            found += map->ops->del(map, key, env) == 0;
            found += map->ops->update(map, key, &value, env) == 0;
            if (i % 32 == 31)
                oko_qsbr_quiescent(oko_vm_qsbr(map->vm), 0);
        } else {
            const uint64_t *at = map->ops->lookup(map, key, env);
            found += at != NULL && *at == 1;
        }
    }
    return found;
}

/* ---------------------------------------------------------------- in a program */

struct oko_prog *oko_bench_load(struct oko_vm *vm, struct oko_insn *code, uint32_t n,
                                uint32_t too_short, const struct oko_map_spec *map)
{
    PUT(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
    PUT(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    code[too_short].off = (int16_t)(n - too_short - 1);
    PUT(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    PUT(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    struct oko_func_spec func = {.insn = 0};
    struct oko_prog_spec spec = {.name = "row",
                                 .insns = code,
                                 .n_insns = n,
                                 .n_funcs = 1,
                                 .funcs = &func,
                                 .n_maps = 1,
                                 .maps = map};
    struct oko_prog *prog;
    struct oko_error error = {0};
    if (oko_prog_load(vm, &spec, NULL, NULL, &prog, &error))
        oko_bench_die("program", error.reason);
    return prog;
}

/* r0 = 1 if the map has, or was given, the first bytes of the packet with the value 1. */
static struct oko_prog *make_program(struct oko_map *map, enum action action)
{
    enum { SIZE = 32 };
    struct oko_insn code[SIZE];
    uint32_t n = 0;
    int key_size = (int)map->spec.key_size;
    uint32_t too_short = n;
    PUT(BPF_JMP | BPF_JLT | BPF_K, 2, 0, 0, key_size);
    PUT(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0);
    PUT(BPF_LD | BPF_IMM | BPF_DW, 1, OKO_PSEUDO_MAP, 0, 0);
    PUT(0, 0, 0, 0, 0);
    PUT(BPF_ALU64 | BPF_MOV | BPF_X, 2, 6, 0, 0);
    if (action == UPDATE) {
        PUT(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8, 1);
        PUT(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0);
        PUT(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -8);
        PUT(BPF_JMP | BPF_CALL, 0, 0, 0, OKO_HELPER_MAP_UPDATE);
        PUT(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 2, 0);
    } else {
        PUT(BPF_JMP | BPF_CALL, 0, 0, 0, OKO_HELPER_MAP_LOOKUP);
        PUT(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 4, 0);
        PUT(BPF_LDX | BPF_MEM | BPF_DW, 1, 0, 0, 0);
        PUT(BPF_JMP | BPF_JNE | BPF_K, 1, 0, 2, 1);
    }
    struct oko_prog *prog, *first = oko_bench_load(map->vm, code, n, too_short, &map->spec);
    struct oko_error error = {0};
    if (oko_prog_with_map(first, 0, map, &prog, &error))
        oko_bench_die("program", error.reason);
    oko_prog_unref(first);
    return prog;
}

static uint64_t run_program(const struct row *row)
{
    struct oko_env *env = oko_vm_env(row->map->vm, 0);
    uint64_t found = 0;
    for (uint32_t i = 0; i < row->work->n_ops; i += BURST) {
        uint32_t n = row->work->n_ops - i < BURST ? row->work->n_ops - i : BURST;
        uint64_t todo = UINT64_MAX >> (64 - n);
        found += (uint64_t)__builtin_popcountll(
            oko_prog_exec(row->prog, env, false, row->in + i, todo, NULL));
    }
    return found;
}

static struct row program_row(const struct work *w, struct oko_map *map, enum action action)
{
    static struct oko_meta meta;
    const uint8_t *keys = action == MISS ? w->absent : w->ops;
    struct row row = {.work = w, .map = map, .run = run_program, .prog = make_program(map, action)};
    row.in = calloc(w->n_ops, sizeof(*row.in));
    if (!row.in)
        oko_bench_die("packets", "out of memory");
    for (uint32_t i = 0; i < w->n_ops; i++)
        row.in[i] = (struct oko_prog_in){keys + (size_t)i * w->key_size, w->key_size, &meta};
    return row;
}

/* ---------------------------------------------------------------- DPDK's tables */

#ifdef HAVE_DPDK
static uint64_t run_rte_hash(const struct row *row)
{
    const struct work *w = row->work;
    const uint8_t *key = row->action == MISS ? w->absent : w->ops;
    uint64_t found = 0;
    for (uint32_t i = 0; i < w->n_ops; i++, key += w->key_size) {
        void *data;
        if (row->action == UPDATE) {
            found += rte_hash_add_key_data(row->peer, key, (void *)1) == 0;
        } else if (row->action == CHURN) {
            found += rte_hash_del_key(row->peer, key) >= 0;
            found += rte_hash_add_key_data(row->peer, key, (void *)1) == 0;
        } else {
            found += rte_hash_lookup_data(row->peer, key, &data) >= 0 && data == (void *)1;
        }
    }
    return found;
}

/* 32 at a time, with DPDK's own prefetching. */
static uint64_t run_rte_hash_bulk(const struct row *row)
{
    const struct work *w = row->work;
    const uint8_t *key = row->action == MISS ? w->absent : w->ops;
    uint64_t found = 0;
    for (uint32_t i = 0; i + 32 <= w->n_ops; i += 32) {
        const void *keys[32];
        void *data[32];
        uint64_t hits = 0;
        for (int k = 0; k < 32; k++, key += w->key_size)
            keys[k] = key;
        rte_hash_lookup_bulk_data(row->peer, keys, 32, &hits, data);
        for (; hits; hits &= hits - 1)
            found += data[__builtin_ctzll(hits)] == (void *)1;
    }
    return found;
}

static uint64_t run_rte_lpm(const struct row *row)
{
    const struct work *w = row->work;
    const uint8_t *key = w->ops;
    uint64_t found = 0;
    for (uint32_t i = 0; i < w->n_ops; i++, key += w->key_size) {
        uint32_t address, next;
        memcpy(&address, key + 4, 4);
        found += rte_lpm_lookup(row->peer, __builtin_bswap32(address), &next) == 0 && next == 1;
    }
    return found;
}

static bool start_dpdk(void)
{
    cpu_set_t cpus; /* DPDK pins its caller to one */
    static char *arguments[] = {
        "bench-maps",     "--no-huge",     "-m", "512", "--no-pci", "--no-shconf",
        "--no-telemetry", "--log-level=1", NULL};
    bool known = sched_getaffinity(0, sizeof(cpus), &cpus) == 0;
    bool started = rte_eal_init(8, arguments) >= 0;
    if (known)
        sched_setaffinity(0, sizeof(cpus), &cpus);
    return started;
}

static void *make_rte_hash(const struct work *w, uint8_t flags)
{
    static int n;
    char name[32];
    snprintf(name, sizeof(name), "hash%d", n++);
    struct rte_hash_parameters p = {.name = name,
                                    .entries = w->n_entries * 2, /* it fills up to about 90 % */
                                    .key_len = w->key_size,
                                    .hash_func = rte_hash_crc,
                                    .extra_flag = flags};
    struct rte_hash *hash = rte_hash_create(&p);
    for (uint32_t i = 0; hash && i < w->n_entries; i++)
        if (rte_hash_add_key_data(hash, w->entries + 16ull * i, (void *)1))
            oko_bench_die("rte_hash", "full");
    return hash;
}

static void *make_rte_lpm(const struct work *w)
{
    static int n;
    char name[32];
    snprintf(name, sizeof(name), "lpm%d", n++);
    struct rte_lpm_config config = {.max_rules = w->n_entries + 1, .number_tbl8s = 65536};
    struct rte_lpm *lpm = rte_lpm_create(name, -1, &config);
    for (uint32_t i = 0; lpm && i < w->n_entries; i++) {
        uint32_t bits, address;
        memcpy(&bits, w->entries + 8ull * i, 4);
        memcpy(&address, w->entries + 8ull * i + 4, 4);
        if (rte_lpm_add(lpm, __builtin_bswap32(address), (uint8_t)bits, 1))
            oko_bench_die("rte_lpm", "full");
    }
    return lpm;
}
#endif

/* ---------------------------------------------------------------- measuring */

enum { MAX_ROWS = 64 };
static struct row rows[MAX_ROWS];
static int n_rows;

static void add_row(const char *filter, const char *kind, uint32_t entries, enum action action,
                    struct row row)
{
    static const char *const actions[] = {"hit", "miss", "update", "delete+insert"};
    char name[64];
    snprintf(name, sizeof(name), "%s %uk %s", kind, entries / 1000, actions[action]);
    if ((filter && !strstr(name, filter)) || n_rows == MAX_ROWS)
        return;
    row.name = strdup(name);
    row.action = action;
    rows[n_rows++] = row;
}

static struct oko_map *make_map(struct oko_vm *vm, uint32_t type, const struct work *w)
{
    struct oko_map_spec spec = {"m", type, w->key_size, 8, w->n_entries, 0};
    struct oko_map *map;
    struct oko_error error;
    if (oko_map_create(vm, &spec, &map, &error))
        oko_bench_die("map", error.reason);
    uint64_t value = 1;
    for (uint32_t i = 0; i < w->n_entries; i++)
        if (oko_map_update(map, w->entries + (size_t)i * w->key_size, (uint8_t *)&value, OKO_ANY))
            oko_bench_die("map", "cannot fill it");
    return map;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int oko_bench_ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(int rounds, bool json)
{
    for (int i = 0; i < n_rows; i++)
        if (!(rows[i].ns = calloc((size_t)rounds, sizeof(double))))
            oko_bench_die("results", "out of memory");
    for (int r = -1; r < rounds; r++) { /* the first warms up */
        for (int k = 0; k < n_rows; k++) {
            struct row *row = &rows[(k + r + n_rows) % n_rows];
            uint32_t n_ops = row->work->n_ops, passes = (PASSES_OF + n_ops - 1) / n_ops;
            row->found = row->run(row); /* fills the caches again */
            double start = now();
            for (uint32_t i = 0; i < passes; i++)
                row->found = row->run(row);
            if (r >= 0)
                row->ns[r] = (now() - start) / passes / n_ops / (row->action == CHURN ? 2 : 1);
        }
    }
    for (int i = 0; i < n_rows; i++) {
        struct row *row = &rows[i];
        qsort(row->ns, (size_t)rounds, sizeof(double), oko_bench_ascending);
        printf(json ? "{\"bench\":\"maps\",\"row\":\"%s\",\"ns\":%.2f,\"min\":%.2f,\"max\":%.2f,"
                      "\"found\":%llu}\n"
                    : "%-36s %8.2f  [%.2f-%.2f]  %llu\n",
               row->name, row->ns[rounds / 2], row->ns[0], row->ns[rounds - 1],
               (unsigned long long)row->found);
    }
}

int main(int argc, char **argv)
{
    int rounds = 15, opt;
    bool json = false;
    const char *filter = NULL;
    while ((opt = getopt(argc, argv, "r:f:j")) != -1) {
        if (opt == 'r')
            rounds = atoi(optarg);
        else if (opt == 'f')
            filter = optarg;
        else if (opt == 'j')
            json = true;
        else
            return 2;
    }
    if (optind != argc || rounds < 1)
        oko_bench_die("usage", "bench-maps [-r ROUNDS] [-f TEXT] [-j]");
    struct oko_vm_opts opts = {.n_workers = 1, .secret = 1};
    struct oko_vm *vm;
    if (oko_vm_new(&opts, &vm))
        oko_bench_die("vm", "out of memory");
#ifdef HAVE_DPDK
    bool dpdk = start_dpdk();
    if (!dpdk)
        fprintf(stderr, "bench-maps: DPDK does not start: left out\n");
#endif
    static const uint32_t sizes[] = {1000, 100000};
    static struct work works[2][2]; /* by size; flows, prefixes */
    for (int s = 0; s < 2; s++) {
        uint32_t n = sizes[s];
        works[s][0] = make_work(n, false);
        works[s][1] = make_work(n, true);
        const struct work *flows = &works[s][0], *prefixes = &works[s][1];
        static const struct {
            const char *name, *in_program;
            uint32_t type;
        } kinds[] = {{"hash", "hash, in a program,", OKO_MAP_HASH},
                     {"lru", "lru, in a program,", OKO_MAP_LRU_HASH},
                     {"lpm", "lpm, in a program,", OKO_MAP_LPM_TRIE}};
        for (int k = 0; k < 3; k++) {
            const struct work *w = kinds[k].type == OKO_MAP_LPM_TRIE ? prefixes : flows;
            enum action last = kinds[k].type == OKO_MAP_LPM_TRIE ? HIT : CHURN;
            struct oko_map *map = make_map(vm, kinds[k].type, w);
            for (enum action action = HIT; action <= last; action++)
                add_row(filter, kinds[k].name, n, action,
                        (struct row){.work = w, .map = map, .run = run_own});
            for (enum action action = HIT; action <= UPDATE && action <= last; action++)
                add_row(filter, kinds[k].in_program, n, action, program_row(w, map, action));
        }
#ifdef HAVE_DPDK
        static const struct {
            const char *name;
            uint8_t flags;
        } hashes[] = {{"rte_hash", 0},
                      {"rte_hash, shared,", RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF |
                                                RTE_HASH_EXTRA_FLAGS_MULTI_WRITER_ADD}};
        for (int h = 0; dpdk && h < 2; h++) {
            void *hash = make_rte_hash(flows, hashes[h].flags);
            /* without locks a deleted key's place has to be given back by its user */
            enum action last = h == 0 ? CHURN : UPDATE;
            for (enum action action = HIT; hash && action <= last; action++)
                add_row(filter, hashes[h].name, n, action,
                        (struct row){.work = flows, .peer = hash, .run = run_rte_hash});
            for (enum action action = HIT; h == 0 && hash && action <= MISS; action++)
                add_row(filter, "rte_hash, bulk of 32,", n, action,
                        (struct row){.work = flows, .peer = hash, .run = run_rte_hash_bulk});
        }
        void *lpm = dpdk ? make_rte_lpm(prefixes) : NULL;
        if (lpm)
            add_row(filter, "rte_lpm", n, HIT,
                    (struct row){.work = prefixes, .peer = lpm, .run = run_rte_lpm});
#endif
    }
    oko_qsbr_online(oko_vm_qsbr(vm), 0);
    if (!json)
        printf("%-36s %8s  [least-most]  found\n", "ns per call", "median");
    measure(rounds, json);
    oko_qsbr_offline(oko_vm_qsbr(vm), 0);
    oko_bench_map_threads(rounds, filter, json);
    return 0;
}
