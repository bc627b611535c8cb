/* What threads that share a map cost each other, and that nothing is lost: 1, 2 and 4 workers run
 * one program on packets of their own, each doing one operation.
 *
 *   atomic add        all add to the same counter of an array
 *   per-worker array  each adds to a counter of its own, with plain loads and stores
 *   hash update       each writes values under keys of its own in one hash, by the helper; keys
 *                     of all of them share buckets
 *
 * Wall time from the first worker's start to the last one's end, over all operations. Afterwards
 * counters and entries have to add up exactly, or there is no result. */
#include "bench/maps.h"
#include "bpf/insn.h"
#include "bpf/map.h"
#include "bpf/prog.h"
#include "qsbr.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_THREADS = 4, N_KEYS = 1024, OPS = 1 << 21, BURST = 32 };
enum kind { ATOMIC_ADD, WORKER_ARRAY, HASH_UPDATE, N_KINDS };
static const char *const kind_names[N_KINDS] = {"atomic add", "per-worker array", "hash update"};
static const struct oko_map_spec map_specs[N_KINDS] = {
    {"counters", OKO_MAP_ARRAY, 4, 8, 1, 0},
    {"own", OKO_MAP_WORKER_ARRAY, 4, 8, 1, 0},
    {"flows", OKO_MAP_HASH, 16, 8, MAX_THREADS *N_KEYS, 0}};

struct packet {
    uint64_t key[2], value;
};

static struct worker {
    pthread_t thread;
    uint32_t index, n_ops;
    struct packet packets[N_KEYS];
    struct oko_prog_in in[N_KEYS];
    double start, end;
    uint64_t done; /* operations that succeeded */
} workers[MAX_THREADS];

static struct oko_vm *vm;
static struct oko_prog *prog;
static pthread_barrier_t barrier;

static struct oko_prog *make_program(enum kind kind)
{
    struct oko_insn code[32];
    uint32_t n = 0;
    uint32_t too_short = n;
    PUT(BPF_JMP | BPF_JLT | BPF_K, 2, 0, 0, sizeof(struct packet));
    PUT(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0);
    PUT(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 0); /* an array's index */
    PUT(BPF_LDX | BPF_MEM | BPF_DW, 1, 6, offsetof(struct packet, value), 0);
    PUT(BPF_STX | BPF_MEM | BPF_DW, 10, 1, -8, 0);
    PUT(BPF_LD | BPF_IMM | BPF_DW, 1, OKO_PSEUDO_MAP, 0, 0);
    PUT(0, 0, 0, 0, 0);
    if (kind == HASH_UPDATE) {
        PUT(BPF_ALU64 | BPF_MOV | BPF_X, 2, 6, 0, 0);
        PUT(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0);
        PUT(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -8);
        PUT(BPF_JMP | BPF_CALL, 0, 0, 0, OKO_HELPER_MAP_UPDATE);
        PUT(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 2, 0);
    } else {
        PUT(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0);
        PUT(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -16);
        PUT(BPF_JMP | BPF_CALL, 0, 0, 0, OKO_HELPER_MAP_LOOKUP);
        PUT(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, kind == ATOMIC_ADD ? 4 : 5, 0);
        if (kind == ATOMIC_ADD) {
            PUT(BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 1);
            PUT(BPF_STX | BPF_ATOMIC | BPF_DW, 0, 1, 0, BPF_ADD);
        } else {
            PUT(BPF_LDX | BPF_MEM | BPF_DW, 1, 0, 0, 0);
            PUT(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 1);
            PUT(BPF_STX | BPF_MEM | BPF_DW, 0, 1, 0, 0);
        }
    }
    return oko_bench_load(vm, code, n, too_short, &map_specs[kind]);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct oko_env *env = oko_vm_env(vm, w->index);
    struct oko_qsbr *qsbr = oko_vm_qsbr(vm);
    uint64_t done = 0;
    oko_qsbr_online(qsbr, w->index);
    pthread_barrier_wait(&barrier);
    w->start = now();
    for (uint32_t i = 0; i < w->n_ops; i += BURST) {
        uint64_t matched =
            oko_prog_exec(prog, env, false, w->in + i % N_KEYS, UINT64_MAX >> (64 - BURST), NULL);
        done += (uint64_t)__builtin_popcountll(matched);
        oko_qsbr_quiescent(qsbr, w->index);
    }
    w->end = now();
    w->done = done;
    oko_qsbr_offline(qsbr, w->index);
    return NULL;
}

/* What the map has of that many workers: counts, or entries that have their value. */
static uint64_t count(enum kind kind, uint32_t n_threads)
{
    struct oko_map *map = oko_prog_map(prog, 0);
    uint64_t sum = 0, values[MAX_THREADS];
    if (kind == HASH_UPDATE) {
        for (uint32_t t = 0; t < n_threads; t++)
            for (uint32_t i = 0; i < N_KEYS; i++) {
                const struct packet *p = &workers[t].packets[i];
                sum += oko_map_lookup(map, (const uint8_t *)p->key, (uint8_t *)values) == 0 &&
                       values[0] == p->value;
            }
        return sum;
    }
    static const uint8_t index[4];
    memset(values, 0, sizeof(values));
    oko_map_lookup(map, index, (uint8_t *)values);
    for (uint32_t t = 0; t < MAX_THREADS; t++)
        sum += values[t];
    return sum;
}

/* One run: ns per operation. It starts from an empty map, so that all of the sum is its own. */
static double run(enum kind kind, uint32_t n_threads, uint64_t round)
{
    prog = make_program(kind);
    pthread_barrier_init(&barrier, NULL, n_threads);
    for (uint32_t t = 0; t < n_threads; t++) {
        struct worker *w = &workers[t];
        w->index = t;
        w->n_ops = OPS / n_threads;
        for (uint32_t i = 0; i < N_KEYS; i++)
            w->packets[i].value = round << 32 | i;
        if (pthread_create(&w->thread, NULL, work, w))
            oko_bench_die("threads", "cannot start one");
    }
    double start = 0, end = 0;
    uint64_t done = 0;
    for (uint32_t t = 0; t < n_threads; t++) {
        struct worker *w = &workers[t];
        pthread_join(w->thread, NULL);
        start = t == 0 || w->start < start ? w->start : start;
        end = w->end > end ? w->end : end;
        done += w->done;
    }
    pthread_barrier_destroy(&barrier);
    uint64_t want = kind == HASH_UPDATE ? (uint64_t)n_threads * N_KEYS : OPS;
    if (done != OPS || count(kind, n_threads) != want)
        oko_bench_die(kind_names[kind], "something was lost");
    oko_prog_unref(prog);
    return (end - start) / OPS;
}

void oko_bench_map_threads(int rounds, const char *filter, bool json)
{
    static const uint32_t n_threads[] = {1, 2, 4};
    static struct oko_meta meta;
    struct oko_vm_opts opts = {.n_workers = MAX_THREADS, .secret = 1};
    if (oko_vm_new(&opts, &vm))
        oko_bench_die("vm", "out of memory");
    for (uint32_t t = 0; t < MAX_THREADS; t++)
        for (uint32_t i = 0; i < N_KEYS; i++) {
            struct packet *p = &workers[t].packets[i];
            p->key[0] = i * 2654435761u;
            p->key[1] = t;
            workers[t].in[i] = (struct oko_prog_in){(uint8_t *)p, sizeof(*p), &meta};
        }
    double *ns = calloc((size_t)rounds * 9, sizeof(*ns));
    if (!ns)
        oko_bench_die("results", "out of memory");
    for (int r = 0; r < rounds; r++) /* interleaved */
        for (int k = 0; k < N_KINDS; k++)
            for (int t = 0; t < 3; t++)
                if (!filter || strstr(kind_names[k], filter))
                    ns[(k * 3 + t) * rounds + r] = run((enum kind)k, n_threads[t], (uint64_t)r + 1);
    for (int k = 0; k < N_KINDS; k++)
        for (int t = 0; t < 3; t++) {
            double *of = ns + (k * 3 + t) * rounds;
            if (filter && !strstr(kind_names[k], filter))
                continue;
            qsort(of, (size_t)rounds, sizeof(*of), oko_bench_ascending);
            printf(json ? "{\"bench\":\"map threads\",\"row\":\"%s\",\"threads\":%u,\"ns\":%.2f,"
                          "\"min\":%.2f,\"max\":%.2f,\"lost\":0}\n"
                        : "%s, %u threads: %.2f  [%.2f-%.2f], nothing lost\n",
                   kind_names[k], n_threads[t], of[rounds / 2], of[0], of[rounds - 1]);
        }
    free(ns);
    oko_vm_free(vm);
}
