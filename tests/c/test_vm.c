/* Loading and releasing programs, quotas, maps kept over a reload, data sections, counters, the
 * log, and helpers as programs see them. */
#include "check.h"

#include "bpf/helper.h"
#include "bpf/map_array.h"
#include "bpf/prog.h"
#include "bpf/vm.h"
#include "qsbr.h"

static const struct oko_load_opts unverified = {.flags = OKO_LOAD_CONFORMANCE};
static const struct oko_meta meta = {.rx_ns = 123456789, .in_port = 3};

static struct oko_vm *new_vm(uint32_t n_workers, uint32_t max_progs, uint64_t max_bytes)
{
    struct oko_vm_opts opts = {
        .n_workers = n_workers, .max_progs = max_progs, .max_map_bytes = max_bytes};
    struct oko_vm *vm;
    CHECK(oko_vm_new(&opts, &vm) == 0);
    return vm;
}

#define INSN_EXIT                                                                                  \
    {                                                                                              \
        0x95, 0, 0, 0                                                                              \
    }
#define INSN_LDDW(dst, src, low, high)                                                             \
    {0x18, (src) << 4 | (dst), 0, low},                                                            \
    {                                                                                              \
        0, 0, 0, high                                                                              \
    }

static const struct oko_insn return_1[] = {{0xb7, 0, 0, 1}, INSN_EXIT};

static struct oko_prog *load(struct oko_vm *vm, const struct oko_prog_spec *spec)
{
    struct oko_prog *prog;
    struct oko_error error;
    if (oko_prog_load(vm, spec, &unverified, NULL, &prog, &error) != 0) {
        fprintf(stderr, "instruction %d: %s\n", error.insn, error.reason);
        exit(1);
    }
    CHECK(error.code == 0 && error.reason[0] == 0);
    return prog;
}

static uint64_t run(struct oko_prog *prog, uint32_t worker, const void *pkt, uint64_t len)
{
    struct oko_prog_in in = {pkt, len, &meta};
    uint64_t r0, other;
    CHECK(oko_prog_run(prog, worker, OKO_RUN_INTERP, &in, &r0, NULL) == 0);
    if (oko_jit_available() && prog->info.stateful == 0) {
        CHECK(oko_prog_run(prog, worker, OKO_RUN_JIT, &in, &other, NULL) == 0);
        CHECK(other == r0);
    }
    return r0;
}

/* ---------------------------------------------------------------- the VM and its limits */

static void test_vm_options(void)
{
    struct oko_vm *vm;
    struct oko_vm_opts opts = {.n_workers = 0};
    CHECK(oko_vm_new(&opts, &vm) == OKO_E_INVAL && vm == NULL);
    opts.n_workers = 65;
    CHECK(oko_vm_new(&opts, &vm) == OKO_E_INVAL && vm == NULL);
    opts.n_workers = 64;
    CHECK(oko_vm_new(&opts, &vm) == 0);
    uint64_t secret = oko_vm_secret(vm);
    oko_vm_free(vm);
    CHECK(oko_vm_new(&opts, &vm) == 0);
    CHECK(secret != 0 && oko_vm_secret(vm) != secret);
    oko_vm_free(vm);
    opts.secret = 77;
    CHECK(oko_vm_new(&opts, &vm) == 0 && oko_vm_secret(vm) == 77);
    oko_vm_free(vm);
    oko_vm_free(NULL);
    oko_prog_unref(NULL);
}

static void test_program_limit(void)
{
    struct oko_vm *vm = new_vm(1, 3, 0);
    struct oko_prog_spec spec = {.name = "p", .insns = return_1, .n_insns = 2};
    struct oko_prog *progs[3], *more;
    struct oko_error error;
    for (int i = 0; i < 3; i++)
        progs[i] = load(vm, &spec);
    CHECK(oko_prog_load(vm, &spec, &unverified, NULL, &more, &error) == OKO_E_LIMIT);
    CHECK(more == NULL && strstr(error.reason, "3 programs") && strstr(error.hint, "max_progs"));
    /* At the limit a reload still works: the old instance goes afterwards. */
    CHECK(oko_prog_load(vm, &spec, &unverified, progs[0], &more, &error) == 0);
    oko_prog_unref(progs[0]);
    oko_prog_unref(more);
    progs[0] = load(vm, &spec);
    for (int i = 0; i < 3; i++)
        oko_prog_unref(progs[i]);
    oko_vm_free(vm);
}

/* Whatever stage refuses, nothing is left behind. */
static void refuse(struct oko_vm *vm, const struct oko_prog_spec *spec, int code, const char *word)
{
    struct oko_prog *prog;
    struct oko_error error;
    uint64_t bytes = vm->bytes;
    CHECK(oko_prog_load(vm, spec, &unverified, NULL, &prog, &error) == code);
    CHECK(prog == NULL && error.code == code);
    if (strstr(error.reason, word) == NULL)
        fprintf(stderr, "%s\n", error.reason);
    CHECK(strstr(error.reason, word) != NULL);
    CHECK(vm->bytes == bytes && vm->n_progs == 0);
}

static void test_refusals(void)
{
    struct oko_vm *vm = new_vm(1, 0, 1 << 20);
    struct oko_map_spec maps[65] = {{"a", OKO_MAP_ARRAY, 4, 8, 10, 0},
                                    {"b", OKO_MAP_ARRAY, 4, 8, 1000000, 0}};
    struct oko_data_spec data[65] = {{".data", NULL, 100, 1}, {".bss", NULL, 1 << 20, 1}};
    struct oko_prog_spec good = {.name = "p", .insns = return_1, .n_insns = 2};
    struct oko_prog_spec s;
    s = good, s.n_insns = 0, refuse(vm, &s, OKO_E_INVAL, "no instructions");
    s = good, s.n_insns = 1, refuse(vm, &s, OKO_E_INVAL, "falls off");
    s = good, s.maps = maps, s.n_maps = 2, refuse(vm, &s, OKO_E_NOMEM, "map b");
    s = good, s.maps = maps, s.n_maps = 3, refuse(vm, &s, OKO_E_INVAL, "type 0");
    s = good, s.maps = maps, s.n_maps = 65, refuse(vm, &s, OKO_E_LIMIT, "65 maps");
    s = good, s.data = data, s.n_data = 2, refuse(vm, &s, OKO_E_NOMEM, ".bss");
    s = good, s.data = data, s.n_data = 65, refuse(vm, &s, OKO_E_LIMIT, "65 data");
    s = good, s.maps = maps, s.n_maps = 1, s.data = data, s.n_data = 2,
    refuse(vm, &s, OKO_E_NOMEM, ".bss");
    s = good, memset(s.name, 'x', 64), refuse(vm, &s, OKO_E_INVAL, "name");
    memset(data[0].name, 'x', 64);
    s = good, s.data = data, s.n_data = 1, refuse(vm, &s, OKO_E_INVAL, "name");
    memset(maps[0].name, 'x', 64);
    s = good, s.maps = maps, s.n_maps = 1, refuse(vm, &s, OKO_E_INVAL, "name");
    oko_vm_free(vm);
}

/* More map lookups than there is scratch for sketches. */
static void test_sketch_sites(void)
{
    struct oko_vm *vm = new_vm(1, 0, 0);
    struct oko_map_spec map = {"c", OKO_MAP_COUNT_MIN, 4, 4, 64, 2};
    struct oko_insn *insns = calloc(1026, sizeof(*insns));
    for (int i = 0; i < 1024; i++)
        insns[i] = (struct oko_insn){0x85, 0, 0, OKO_HELPER_MAP_LOOKUP};
    insns[1024] = insns[1025] = (struct oko_insn)INSN_EXIT;
    struct oko_prog_spec spec = {.insns = insns, .n_insns = 1025, .maps = &map, .n_maps = 1};
    refuse(vm, &spec, OKO_E_LIMIT, "1024 calls");
    spec.insns = insns + 1, spec.n_insns = 1024;
    oko_prog_unref(load(vm, &spec));
    free(insns);
    oko_vm_free(vm);
}

/* The VM lives until its last program is gone, in whatever order they are freed. */
static void test_order_of_freeing(void)
{
    struct oko_vm *vm = new_vm(1, 0, 0);
    struct oko_map_spec map = {"a", OKO_MAP_ARRAY, 4, 8, 10, 0};
    struct oko_prog_spec spec = {
        .name = "p", .insns = return_1, .n_insns = 2, .maps = &map, .n_maps = 1};
    struct oko_prog *prog = load(vm, &spec);
    oko_vm_free(vm);
    uint8_t pkt[1] = {0};
    CHECK(run(prog, 0, pkt, 1) == 1);
    oko_prog_ref(prog);
    oko_prog_unref(prog);
    CHECK(run(prog, 0, pkt, 1) == 1);
    oko_prog_unref(prog);
}

/* ---------------------------------------------------------------- keeping maps */

static void test_keep(void)
{
    struct oko_vm *vm = new_vm(1, 0, 0);
    struct oko_map_spec before[] = {
        {"same", OKO_MAP_ARRAY, 4, 8, 10, 0}, {"grows", OKO_MAP_ARRAY, 4, 8, 10, 0},
        {"type", OKO_MAP_ARRAY, 4, 8, 10, 0}, {"value", OKO_MAP_HASH, 4, 8, 10, 0},
        {"gone", OKO_MAP_HASH, 4, 8, 10, 0},  {"hashes", OKO_MAP_BLOOM, 4, 8, 10, 2}};
    struct oko_map_spec after[] = {{"grows", OKO_MAP_ARRAY, 4, 8, 11, 0},
                                   {"same", OKO_MAP_ARRAY, 4, 8, 10, 0},
                                   {"type", OKO_MAP_WORKER_ARRAY, 4, 8, 10, 0},
                                   {"value", OKO_MAP_HASH, 4, 9, 10, 0},
                                   {"hashes", OKO_MAP_BLOOM, 4, 8, 10, 3}};
    struct oko_data_spec data = {".data", (const uint8_t *)"abcd", 4, 1};
    struct oko_prog_spec spec = {.name = "p",
                                 .insns = return_1,
                                 .n_insns = 2,
                                 .maps = before,
                                 .n_maps = 6,
                                 .data = &data,
                                 .n_data = 1};
    struct oko_prog *old = load(vm, &spec), *new;
    spec.maps = after, spec.n_maps = 5;
    CHECK(oko_prog_load(vm, &spec, &unverified, old, &new, NULL) == 0);
    for (uint32_t i = 0; i < 5; i++)
        for (uint32_t j = 0; j < 6; j++)
            CHECK((oko_prog_map(new, i) == oko_prog_map(old, j)) == (i == 1 && j == 0));
    CHECK(oko_prog_map(new, 5) == NULL && oko_prog_map(new, UINT32_MAX) == NULL);
    CHECK(new->data[0].bytes != old->data[0].bytes); /* data starts anew */
    uint32_t key = 2;
    uint64_t value = 99;
    CHECK(oko_map_update(oko_prog_map(new, 1), (uint8_t *)&key, (uint8_t *)&value, OKO_ANY) == 0);
    oko_prog_unref(old);
    value = 0;
    CHECK(oko_map_lookup(oko_prog_map(new, 1), (uint8_t *)&key, (uint8_t *)&value) == 0);
    CHECK(value == 99);
    oko_prog_unref(new);
    CHECK(vm->bytes == 0);
    struct oko_vm *other = new_vm(1, 0, 0);
    old = load(vm, &spec);
    struct oko_error error;
    CHECK(oko_prog_load(other, &spec, &unverified, old, &new, &error) == OKO_E_INVAL);
    oko_prog_unref(old);
    oko_vm_free(other);
    oko_vm_free(vm);
}

/* ---------------------------------------------------------------- data, info, counters */

static void test_data(void)
{
    struct oko_vm *vm = new_vm(1, 0, 0);
    /* return ++*(u32 *)(.data + 4) + *(u8 *)(.rodata + 1); also *(u64 *)(.bss + 8) = 7 */
    struct oko_insn insns[] = {INSN_LDDW(1, OKO_PSEUDO_DATA, 1, 4),
                               {0x61, 0x10, 0, 0},
                               {0x07, 0, 0, 1},
                               {0x63, 0x01, 0, 0},
                               INSN_LDDW(2, OKO_PSEUDO_DATA, 0, 1),
                               {0x71, 0x22, 0, 0},
                               {0x0f, 0x20, 0, 0},
                               INSN_LDDW(3, OKO_PSEUDO_DATA, 2, 8),
                               {0x7a, 3, 0, 7},
                               INSN_EXIT};
    uint8_t rodata[] = {10, 20}, initial[8] = {0, 0, 0, 0, 5, 0, 0, 0}, out[64];
    struct oko_data_spec data[] = {
        {".rodata", rodata, 2, 0}, {".data", initial, 8, 1}, {".bss", NULL, 16, 1}};
    struct oko_prog_spec spec = {.name = "p",
                                 .insns = insns,
                                 .n_insns = sizeof(insns) / sizeof(insns[0]),
                                 .data = data,
                                 .n_data = 3};
    struct oko_prog *prog = load(vm, &spec);
    uint8_t pkt = 0;
    struct oko_prog_in in = {&pkt, 1, &meta};
    uint64_t r0;
    CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0 && r0 == 26);
    CHECK(oko_prog_run(prog, 0, OKO_RUN_BEST, &in, &r0, NULL) == 0 && r0 == 27);
    CHECK(initial[4] == 5); /* copied */
    CHECK(oko_prog_data_read(prog, 1, out, sizeof(out)) == 8 && out[4] == 7);
    CHECK(oko_prog_data_read(prog, 2, out, 9) == 16 && out[8] == 7 && out[0] == 0);
    CHECK(oko_prog_data_read(prog, 0, out, 0) == 2);
    CHECK(oko_prog_data_read(prog, 3, out, 1) == OKO_E_NOTFOUND);
    struct oko_prog_info info;
    oko_prog_info(prog, &info);
    CHECK(info.n_insns == spec.n_insns && info.n_data == 3 && info.n_maps == 0);
    CHECK(info.memory == 2 + 8 + 16 + info.jit_bytes && vm->bytes == info.memory);
    oko_prog_unref(prog);
    oko_vm_free(vm);
}

static void test_runs(void)
{
    struct oko_vm *vm = new_vm(2, 0, 0);
    /* return *(u8 *)pkt */
    struct oko_insn insns[] = {{0x71, 0x10, 0, 0}, INSN_EXIT};
    struct oko_prog_spec spec = {.name = "p", .insns = insns, .n_insns = 2};
    struct oko_prog *prog = load(vm, &spec);
    uint8_t pkts[64];
    struct oko_prog_in in[64];
    uint64_t expected = 0, matched, r0;
    for (int i = 0; i < 64; i++) {
        pkts[i] = (uint8_t)(i % 3);
        in[i] = (struct oko_prog_in){&pkts[i], 1, &meta};
        expected |= (uint64_t)(i % 3 == 1) << i;
    }
    static const enum oko_run_engine engines[] = {OKO_RUN_BEST, OKO_RUN_INTERP, OKO_RUN_JIT};
    uint64_t runs = 0, matches = 0;
    for (int e = 0; e < (oko_jit_available() ? 3 : 2); e++) {
        CHECK(oko_prog_run_batch(prog, 1, engines[e], in, UINT64_MAX, &matched) == 0);
        CHECK(matched == expected);
        CHECK(oko_prog_run_batch(prog, 0, engines[e], in, 0x8000000000000ffe, &matched) == 0);
        CHECK(matched == (expected & 0x8000000000000ffe));
        CHECK(oko_prog_run_batch(prog, 0, engines[e], in, 0, &matched) == 0 && matched == 0);
        CHECK(oko_prog_run(prog, 0, engines[e], &in[2], &r0, NULL) == 0 && r0 == 2);
        runs += 64 + 12 + 1;
        matches += 21 + 4;
    }
    struct oko_prog_stats stats;
    oko_prog_stats(prog, &stats);
    CHECK(stats.runs == runs && stats.faults == 0);
    CHECK(stats.matches == matches);
    CHECK(stats.samples > 0 && stats.samples < runs);
    /* Arguments out of range. */
    struct oko_error error;
    CHECK(oko_prog_run(prog, 2, OKO_RUN_BEST, in, &r0, &error) == OKO_E_INVAL);
    CHECK(oko_prog_run_batch(prog, 2, OKO_RUN_BEST, in, 1, &matched) == OKO_E_INVAL);
    in[0].len = 65536;
    CHECK(oko_prog_run(prog, 0, OKO_RUN_BEST, in, &r0, &error) == OKO_E_INVAL);
    CHECK(oko_prog_run_batch(prog, 0, OKO_RUN_BEST, in, 1, &matched) == OKO_E_INVAL);
    CHECK(oko_prog_run_batch(prog, 0, OKO_RUN_BEST, in, 2, &matched) == 0);
    CHECK(oko_prog_run(prog, 0, OKO_RUN_CHECKED, &in[1], &r0, &error) == OKO_E_UNSUP);
    CHECK(strstr(error.hint, "KEEP_STATES") != NULL);
    oko_prog_unref(prog);

    struct oko_load_opts no_jit = {.flags = OKO_LOAD_CONFORMANCE | OKO_LOAD_NO_JIT};
    CHECK(oko_prog_load(vm, &spec, &no_jit, NULL, &prog, &error) == 0);
    CHECK(prog->jit == NULL && prog->info.jit_bytes == 0);
    CHECK(oko_prog_run(prog, 0, OKO_RUN_JIT, &in[1], &r0, &error) == OKO_E_UNSUP);
    CHECK(oko_prog_run(prog, 0, OKO_RUN_BEST, &in[1], &r0, &error) == 0 && r0 == 1);
    oko_prog_unref(prog);
    oko_vm_free(vm);
}

/* A run makes its worker a reader for its time, unless it is one already. */
static void test_online(void)
{
    struct oko_vm *vm = new_vm(2, 0, 0);
    struct oko_prog_spec spec = {.name = "p", .insns = return_1, .n_insns = 2};
    struct oko_qsbr *qsbr = oko_vm_qsbr(vm);
    struct oko_prog *prog = load(vm, &spec);
    uint8_t pkt = 0;
    CHECK(run(prog, 1, &pkt, 1) == 1 && !oko_qsbr_is_online(qsbr, 1));
    oko_qsbr_online(qsbr, 1);
    uint64_t epoch = oko_qsbr_start(qsbr);
    CHECK(run(prog, 1, &pkt, 1) == 1 && oko_qsbr_is_online(qsbr, 1));
    CHECK(!oko_qsbr_passed(qsbr, epoch));
    oko_qsbr_offline(qsbr, 1);
    oko_prog_unref(prog);
    oko_vm_free(vm);
}

/* ---------------------------------------------------------------- helpers */

/* Values computed by another implementation of lookup3, over bytes 7 * i + 3. */
static void test_lookup3(void)
{
    static const struct {
        size_t size;
        uint32_t hash;
    } vectors[] = {{0, 0xdeadbeef},  {1, 0xbb60a9ce},  {2, 0xb97dd76b},  {3, 0x147ae71f},
                   {4, 0xdd608fec},  {5, 0x1694ce8d},  {7, 0x9477affd},  {8, 0x9521e0d6},
                   {9, 0x2e5373e1},  {11, 0x5be3b601}, {12, 0xe96b1a98}, {13, 0xd3177396},
                   {14, 0xf7d76fe2}, {16, 0x9472ea81}, {23, 0x0a8e79fb}, {24, 0xb448afab},
                   {25, 0x13438157}, {36, 0x23e17057}, {37, 0x7af75402}, {63, 0x77d3f48b}};
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        for (size_t shift = 0; shift < 8; shift++) { /* any alignment, nothing read beyond */
            uint8_t *bytes = guarded(vectors[i].size + shift) + shift;
            for (size_t b = 0; b < vectors[i].size; b++)
                bytes[b] = (uint8_t)(7 * b + 3);
            CHECK(oko_hash_lookup3(bytes, vectors[i].size) == vectors[i].hash);
        }
    CHECK(oko_hash_lookup3("Four score and seven years ago", 30) == 0x17770551);
}

static void test_helper_table(void)
{
    static const char *const names[] = {NULL,      "map_lookup",  "map_update", "map_delete",
                                        "map_add", "time_get_ns", "hash",       "printf",
                                        NULL,      NULL,          NULL};
    for (int32_t id = -1; id < 11; id++) {
        const struct oko_helper *helper = oko_helper(id);
        const char *name = id < 0 ? NULL : names[id];
        CHECK((helper != NULL) == (name != NULL));
        if (helper != NULL)
            CHECK(strcmp(helper->name, name) == 0 && helper->fn != NULL && helper->weight > 0);
    }
    CHECK(oko_helper(INT32_MAX) == NULL && oko_helper(INT32_MIN) == NULL);
}

/* A program of one helper call: r1 = map, r2 = pkt, r3 = pkt + 16. */
static uint64_t call(struct oko_vm *vm, const struct oko_map_spec *map, int32_t helper,
                     const uint8_t pkt[32], struct oko_prog *keep, struct oko_prog **out)
{
    struct oko_insn insns[] = {{0xbf, 0x12, 0, 0},   {0xbf, 0x13, 0, 0},
                               {0x07, 3, 0, 16},     INSN_LDDW(1, OKO_PSEUDO_MAP, 0, 0),
                               {0x85, 0, 0, helper}, INSN_EXIT};
    struct oko_prog_spec spec = {
        .name = "p", .insns = insns, .n_insns = 7, .maps = map, .n_maps = 1};
    struct oko_error error;
    CHECK(oko_prog_load(vm, &spec, &unverified, keep, out, &error) == 0);
    struct oko_prog_in in = {pkt, 32, &meta};
    uint64_t r0;
    CHECK(oko_prog_run(*out, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0);
    return r0;
}

/* Each map helper on each type: results and codes, with maps kept from program to program. */
static void test_map_helpers(void)
{
    for (uint32_t type = OKO_MAP_ARRAY; type <= OKO_MAP_WORKER_HASH; type++) {
        struct oko_vm *vm = new_vm(2, 0, 0);
        struct oko_map_spec map = {"m", type, 8, 8, 1, 0};
        struct oko_map_class cls;
        bool sketch = oko_map_type_is_sketch(type);
        map.n_hashes = sketch ? 3 : 0;
        CHECK(oko_map_class(&map, &cls, NULL) == 0);
        uint8_t pkt[32] = {0}, other[32] = {0};
        pkt[16] = 77;
        other[0] = type == OKO_MAP_LPM_TRIE ? 32 : 1;
        struct oko_prog *p[8];
        uint64_t r0 = call(vm, &map, OKO_HELPER_MAP_UPDATE, pkt, NULL, &p[0]);
        CHECK(r0 == (cls.has_update ? 0 : (uint64_t)OKO_HELPER_NO_OP));
        r0 = call(vm, &map, OKO_HELPER_MAP_UPDATE, other, p[0], &p[1]);
        int64_t full = type == OKO_MAP_ARRAY || type == OKO_MAP_WORKER_ARRAY ? OKO_HELPER_INDEX
                       : type == OKO_MAP_LRU_HASH                            ? 0
                                                                             : OKO_HELPER_FULL;
        CHECK((int64_t)r0 == (sketch ? OKO_HELPER_NO_OP : full));
        r0 = call(vm, &map, OKO_HELPER_MAP_ADD, pkt, p[1], &p[2]);
        CHECK((int64_t)r0 == (sketch ? 0 : OKO_HELPER_NO_OP));
        /* LRU: the second key took the place of the first. LPM: 0/0 holds every address. */
        const uint8_t *present = type == OKO_MAP_LRU_HASH ? other : pkt;
        const uint8_t *absent = type == OKO_MAP_LRU_HASH ? pkt : other;
        r0 = call(vm, &map, OKO_HELPER_MAP_LOOKUP, present, p[2], &p[3]);
        CHECK(r0 != 0);
        if (sketch)
            CHECK(*(uint32_t *)r0 == 1);
        else
            CHECK(*(uint64_t *)r0 == present[16]);
        r0 = call(vm, &map, OKO_HELPER_MAP_LOOKUP, absent, p[3], &p[4]);
        CHECK((r0 != 0) == (sketch || type == OKO_MAP_LPM_TRIE));
        r0 = call(vm, &map, OKO_HELPER_MAP_DELETE, absent, p[4], &p[5]);
        CHECK((int64_t)r0 == (cls.has_delete ? OKO_HELPER_FULL : OKO_HELPER_NO_OP));
        r0 = call(vm, &map, OKO_HELPER_MAP_DELETE, present, p[5], &p[6]);
        CHECK((int64_t)r0 == (cls.has_delete ? 0 : OKO_HELPER_NO_OP));
        r0 = call(vm, &map, OKO_HELPER_MAP_LOOKUP, present, p[6], &p[7]);
        CHECK((r0 != 0) == !cls.has_delete);
        for (int i = 0; i < 8; i++)
            oko_prog_unref(p[i]);
        CHECK(vm->bytes == 0);
        oko_vm_free(vm);
    }
}

/* Each lookup in a sketch has a result of its own. */
static void test_sketch_results(void)
{
    struct oko_vm *vm = new_vm(1, 0, 0);
    struct oko_map_spec map = {"c", OKO_MAP_COUNT_MIN, 1, 4, 1000, 4};
    /* add(pkt), add(pkt), add(pkt + 1); r6 = lookup(pkt), r7 = lookup(pkt + 1);
     * return *r6 * 16 + *r7 */
    struct oko_insn insns[] = {{0xbf, 0x18, 0, 0},
                               INSN_LDDW(1, OKO_PSEUDO_MAP, 0, 0),
                               {0xbf, 0x82, 0, 0},
                               {0x85, 0, 0, 4},
                               INSN_LDDW(1, OKO_PSEUDO_MAP, 0, 0),
                               {0xbf, 0x82, 0, 0},
                               {0x85, 0, 0, 4},
                               INSN_LDDW(1, OKO_PSEUDO_MAP, 0, 0),
                               {0xbf, 0x82, 0, 0},
                               {0x07, 2, 0, 1},
                               {0x85, 0, 0, 4},
                               INSN_LDDW(1, OKO_PSEUDO_MAP, 0, 0),
                               {0xbf, 0x82, 0, 0},
                               {0x85, 0, 0, 1},
                               {0xbf, 0x06, 0, 0},
                               INSN_LDDW(1, OKO_PSEUDO_MAP, 0, 0),
                               {0xbf, 0x82, 0, 0},
                               {0x07, 2, 0, 1},
                               {0x85, 0, 0, 1},
                               {0x61, 0x00, 0, 0},
                               {0x61, 0x66, 0, 0},
                               {0x67, 6, 0, 4},
                               {0x0f, 0x60, 0, 0},
                               INSN_EXIT};
    struct oko_prog_spec spec = {.name = "p",
                                 .insns = insns,
                                 .n_insns = sizeof(insns) / sizeof(insns[0]),
                                 .maps = &map,
                                 .n_maps = 1};
    struct oko_prog *prog = load(vm, &spec);
    uint8_t pkt[2] = {1, 2};
    struct oko_prog_in in = {pkt, 2, &meta};
    uint64_t r0;
    CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0 && r0 == 0x21);
    CHECK(oko_prog_run(prog, 0, OKO_RUN_BEST, &in, &r0, NULL) == 0 && r0 == 0x42);
    oko_prog_unref(prog);
    oko_vm_free(vm);
}

static void test_time_and_hash(void)
{
    struct oko_vm *vm = new_vm(1, 0, 0);
    const struct oko_helper *time = oko_helper(OKO_HELPER_TIME_GET_NS);
    struct oko_env *env = oko_vm_env(vm, 0);
    env->meta = &meta;
    CHECK(time->fn(0, 0, 0, 0, 0, env) == meta.rx_ns);
    const struct oko_helper *hash = oko_helper(OKO_HELPER_HASH);
    uint8_t bytes[5] = {3, 10, 17, 24, 31};
    CHECK(hash->fn((uint64_t)bytes, 5, 0, 0, 0, env) == 0x1694ce8d);
    oko_vm_free(vm);
}

/* ---------------------------------------------------------------- printf and the log */

static void expect_format(const char *format, int n_args, uint64_t a, uint64_t b, const char *text)
{
    uint64_t args[4] = {a, b, 3, 4};
    char out[64];
    struct oko_error error;
    CHECK(oko_printf_check(format, strlen(format) + 1, &error) == n_args);
    if (n_args < 0) {
        CHECK(error.code == OKO_E_INVAL && error.reason[0] != 0);
        return;
    }
    uint32_t n = oko_printf_format(out, sizeof(out), format, args);
    if (strcmp(out, text) != 0)
        fprintf(stderr, "printed %s, not %s\n", out, text);
    CHECK(strcmp(out, text) == 0 && n == strlen(text));
}

static void test_formats(void)
{
    expect_format("plain", 0, 0, 0, "plain");
    expect_format("line\n", 0, 0, 0, "line");
    expect_format("%d %u", 2, (uint64_t)-5, (uint64_t)-5, "-5 4294967291");
    expect_format("%ld %lu", 2, (uint64_t)-5, (uint64_t)-5, "-5 18446744073709551611");
    expect_format("%lld|%llx", 2, 1ull << 63, 0xabcdef0123456789,
                  "-9223372036854775808|abcdef0123456789");
    expect_format("%x %X", 2, 0xffffffff0000beef, 0xBEEF, "beef BEEF");
    expect_format("%hu %hd", 2, 0x12345, 0xffff, "9029 -1");
    expect_format("%08x|%5d|%05i", 3, 0xbeef, 42, "0000beef|   42|00003");
    expect_format("100%% of %u", 1, 7, 0, "100% of 7");
    expect_format("%c%c", 2, 'a', '\n', "a.");
    expect_format("a\tb\x01"
                  "c",
                  0, 0, 0, "a.b.c");
    expect_format("%u %u %u %u", 4, 1, 2, "1 2 3 4");
    expect_format("%u %u %u %u %u", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%s", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%n", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%p", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%f", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%*d", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%123d", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%-5d", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%5%", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%", OKO_E_INVAL, 0, 0, NULL);
    expect_format("%l", OKO_E_INVAL, 0, 0, NULL);
    struct oko_error error;
    CHECK(oko_printf_check("abc", 3, &error) == OKO_E_INVAL); /* no zero */
    CHECK(oko_printf_check("", 1, &error) == 0);
    /* Whatever the size, never beyond it. */
    char out[16];
    uint64_t args[4] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    for (uint32_t size = 1; size < sizeof(out); size++) {
        memset(out, 0x55, sizeof(out));
        uint32_t n = oko_printf_format(out, size, "%99lu%99lu", args);
        CHECK(n < size && out[n] == 0 && out[size] == 0x55);
    }
}

static void test_log(void)
{
    struct oko_vm *vm = new_vm(1, 0, 0);
    /* printf("n=%u", *(u8 *)pkt); return r0 */
    struct oko_insn insns[] = {{0x71, 0x12, 0, 0},
                               INSN_LDDW(1, OKO_PSEUDO_DATA, 0, 0),
                               {0x85, 0, 0, OKO_HELPER_PRINTF},
                               INSN_EXIT};
    struct oko_data_spec data = {".rodata", (const uint8_t *)"n=%u", 5, 0};
    struct oko_prog_spec spec = {
        .name = "noisy", .insns = insns, .n_insns = 5, .data = &data, .n_data = 1};
    struct oko_prog *prog = load(vm, &spec);
    struct oko_meta now = {.rx_ns = 5000000000};
    uint8_t pkt = 0;
    struct oko_prog_in in = {&pkt, 1, &now};
    uint64_t r0, lost;
    char line[200], small[4];
    CHECK(oko_vm_log_read(vm, line, sizeof(line), &lost) == 0 && lost == 0);
    for (int i = 0; i < 300; i++, pkt++) {
        CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0);
        CHECK(r0 == strlen("n=0") + (pkt > 9) + (pkt > 99));
    }
    CHECK(oko_vm_log_read(vm, line, sizeof(line), &lost) == 10 && strcmp(line, "noisy: n=0") == 0);
    CHECK(lost == 300 - OKO_LOG_LINES);
    CHECK(oko_vm_log_read(vm, small, sizeof(small), &lost) == 3 && strcmp(small, "noi") == 0);
    for (int i = 2; i < OKO_LOG_LINES; i++) {
        char expected[32];
        snprintf(expected, sizeof(expected), "noisy: n=%d", i);
        CHECK(oko_vm_log_read(vm, line, sizeof(line), &lost) == strlen(expected));
        CHECK(strcmp(line, expected) == 0 && lost == 0);
    }
    CHECK(oko_vm_log_read(vm, line, sizeof(line), &lost) == 0);
    /* At most so many in a second of the packets' clock. */
    uint32_t n_lines = 300;
    for (int i = 0; i < 2000; i++) {
        CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0);
        n_lines += oko_vm_log_read(vm, line, sizeof(line), &lost) != 0;
    }
    CHECK(n_lines == OKO_LOG_PER_SECOND);
    now.rx_ns += 1000000000;
    CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0);
    CHECK(oko_vm_log_read(vm, line, sizeof(line), &lost) != 0);
    oko_prog_unref(prog);
    oko_vm_free(vm);
}

int main(void)
{
    test_vm_options();
    test_program_limit();
    test_refusals();
    test_sketch_sites();
    test_order_of_freeing();
    test_keep();
    test_data();
    test_runs();
    test_online();
    test_lookup3();
    test_helper_table();
    test_map_helpers();
    test_sketch_results();
    test_time_and_hash();
    test_formats();
    test_log();
    return 0;
}
