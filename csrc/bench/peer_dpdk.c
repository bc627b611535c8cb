/* DPDK's BPF (librte_bpf): its machine code called once per packet, and its burst call, which is
 * the interpreter in a loop; there is no machine code for bursts. Maps are the inline functions of
 * tools/bench/filters/native.h behind a function pointer each, with memory of the run's own. */
#include "bench/peer.h"

/* its headers are not clean of our warnings */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <rte_bpf.h>
#include <rte_errno.h>
#include <rte_log.h>
#pragma GCC diagnostic pop

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_MAPS = 64, MAX_SYMBOLS = 16, MAP_BYTES = 1 << 26, FRAME = 64, BURST = 32 };

typedef uint64_t (*function)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

/* As in native.h. */
struct dpdk_map {
    const char *filter, *name;
    uint64_t key, value;
    function lookup, update, add;
};

static const struct dpdk_map *maps[MAX_MAPS];
static unsigned n_maps;

void oko_peer_dpdk_map(const struct dpdk_map *map);

void oko_peer_dpdk_map(const struct dpdk_map *map)
{
    if (n_maps < MAX_MAPS)
        maps[n_maps++] = map;
}

struct run {
    struct rte_bpf *bpf;
    struct rte_bpf_jit jit;
    const struct peer_traffic *traffic;
    const struct dpdk_map *first;
    uint8_t *memory[4];
    unsigned n_memory;
    struct rte_bpf_xsym symbols[MAX_SYMBOLS];
    uint32_t n_symbols;
    char names[MAX_SYMBOLS][64];
    bool asks_time; /* the token buckets do: only they are given it */
    void **data;    /* rte_bpf_exec_burst wants an array of pointers */
};

static uint64_t packet_time;

static uint64_t clock_now(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    (void)a, (void)b, (void)c, (void)d, (void)e;
    return packet_time;
}

static struct rte_bpf_xsym *add_function(struct run *run, const char *name, const char *suffix,
                                         function f)
{
    char *text = run->names[run->n_symbols];
    struct rte_bpf_xsym *symbol = &run->symbols[run->n_symbols++];

    snprintf(text, sizeof run->names[0], "%s%s", name, suffix);
    symbol->name = text;
    symbol->type = RTE_BPF_XTYPE_FUNC;
    symbol->func.val = f;
    return symbol;
}

static struct rte_bpf_arg pointer(uint64_t size)
{
    return (struct rte_bpf_arg){.type = RTE_BPF_ARG_PTR, .size = size};
}

static void add_map(struct run *run, const struct dpdk_map *map)
{
    uint8_t *memory =
        mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    run->memory[run->n_memory++] = memory;
    if (!run->first)
        run->first = map;

    const struct rte_bpf_arg nothing = {.type = RTE_BPF_ARG_RAW, .size = 8};
    struct rte_bpf_xsym *variable = add_function(run, map->name, "", NULL);
    variable->type = RTE_BPF_XTYPE_VAR;
    variable->var.val = memory;
    variable->var.desc = pointer(MAP_BYTES);

    struct rte_bpf_xsym *lookup = add_function(run, map->name, "_lookup", map->lookup);
    lookup->func.nb_args = 2;
    lookup->func.args[0] = pointer(MAP_BYTES);
    lookup->func.args[1] = pointer(map->key);
    lookup->func.ret = pointer(map->value);
    struct rte_bpf_xsym *update = add_function(run, map->name, "_update", map->update);
    update->func.nb_args = 3;
    update->func.args[0] = pointer(MAP_BYTES);
    update->func.args[1] = pointer(map->key);
    update->func.args[2] = pointer(map->value);
    update->func.ret = nothing;
    struct rte_bpf_xsym *add = add_function(run, map->name, "_add", map->add);
    add->func.nb_args = 2;
    add->func.args[0] = pointer(MAP_BYTES);
    add->func.args[1] = pointer(map->key);
    add->func.ret = nothing;
}

static void close_run(void *arg)
{
    struct run *run = arg;

    if (!run)
        return;
    rte_bpf_destroy(run->bpf);
    for (unsigned i = 0; i < run->n_memory; i++)
        munmap(run->memory[i], MAP_BYTES);
    free(run->data);
    free(run);
}

static bool open_run(const char *directory, const char *filter, const struct peer_traffic *traffic,
                     void **out, char *why, size_t why_size)
{
    char path[512];
    struct run *run = calloc(1, sizeof *run);
    void **data = calloc(traffic->n, sizeof *data);

    if (!run || !data)
        abort();
    run->data = data;
    run->asks_time = !strncmp(filter, "e_", 2);
    run->traffic = traffic;
    for (uint32_t i = 0; i < traffic->n; i++) /* programs get no way to say "read only" */
        memcpy(&data[i], &traffic->in[i].data, sizeof data[i]);
    struct rte_bpf_xsym *clock = add_function(run, "clock_now", "", clock_now);
    clock->func.ret = (struct rte_bpf_arg){.type = RTE_BPF_ARG_RAW, .size = 8};
    for (unsigned i = 0; i < n_maps; i++)
        if (!strcmp(maps[i]->filter, filter))
            add_map(run, maps[i]);

    snprintf(path, sizeof path, "%s/%s.dpdk.o", directory, filter);
    const struct rte_bpf_prm prm = {
        .xsym = run->symbols, .nb_xsym = run->n_symbols, .prog_arg = pointer(FRAME)};
    char *said = NULL; /* why it refuses is only in its log */
    size_t n_said;
    FILE *log = open_memstream(&said, &n_said);
    rte_openlog_stream(log);
    rte_log_set_global_level(RTE_LOG_ERR);
    run->bpf = rte_bpf_elf_load(&prm, path, "filter");
    rte_openlog_stream(NULL);
    if (log)
        fclose(log);
    if (!run->bpf)
        snprintf(why, why_size, "refused: %.*s", (int)strcspn(said ? said : "", "\n"),
                 said && *said ? said : rte_strerror(rte_errno));
    free(said);
    if (!run->bpf) {
        close_run(run);
        return false;
    }
    if (rte_bpf_get_jit(run->bpf, &run->jit) || !run->jit.func) {
        snprintf(why, why_size, "rte_bpf makes no machine code here");
        close_run(run);
        return false;
    }
    *out = run;
    return true;
}

static bool put(void *arg, const void *key, const void *value)
{
    struct run *run = arg;
    return run->first &&
           !run->first->update((uint64_t)run->memory[0], (uint64_t)key, (uint64_t)value, 0, 0);
}

static uint64_t pass(void *arg)
{
    struct run *run = arg;
    const struct oko_prog_in *in = run->traffic->in;
    uint64_t (*code)(void *) = run->jit.func;
    uint64_t matched = 0;
    uint32_t n = run->traffic->n;

    if (!run->asks_time) {
        for (uint32_t i = 0; i < n; i++)
            matched += code(run->data[i]) == 1;
        return matched;
    }
    for (uint32_t i = 0; i < n; i++) {
        packet_time = in[i].meta->rx_ns;
        matched += code(run->data[i]) == 1;
    }
    return matched;
}

static uint64_t pass_burst(void *arg)
{
    struct run *run = arg;
    uint64_t matched = 0, result[BURST];

    for (uint32_t i = 0; i < run->traffic->n; i += BURST) {
        uint32_t n = run->traffic->n - i < BURST ? run->traffic->n - i : BURST;
        packet_time = run->traffic->in[i].meta->rx_ns;
        rte_bpf_exec_burst(run->bpf, run->data + i, result, n);
        for (uint32_t k = 0; k < n; k++)
            matched += result[k] == 1;
    }
    return matched;
}

const struct peer oko_peer_dpdk = {"dpdk", open_run, put, pass, close_run};
const struct peer oko_peer_dpdk_burst = {"dpdk-burst", open_run, put, pass_burst, close_run};
