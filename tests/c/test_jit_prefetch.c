/* The first pass of the batch entry (bpf/jit/prefetch.c): which buckets it fetches, and when.
 *
 * A prefetch leaves no trace, so the pass also marks the buckets (jit_marks_ahead), and they must
 * be those of the keys of just the packets that come to the lookup; or none, where the program, the
 * burst or the table is not for it. Results, and that a pass reads nothing but the packet, are
 * test_jit_maps' matter too, with random programs; here batches must match as the interpreter says.
 */
#include "jit_gen.h"

#include "bpf/jit/jit.h"
#include "bpf/map_hash.h"

enum { FRAME = 64, N_PACKETS = 32, ENTRIES = 512, N_WORKERS = 2, WORKER = 1 };

static struct oko_vm *vm;

/* What stands before the lookup. */
enum shape {
    PLAIN,     /* a copy of the key to the stack */
    IN_PACKET, /* nothing: the key is in the packet */
    LEAVES,    /* some packets leave early */
    CHOOSES,   /* some look into the other map */
    COUNTS,    /* an array's counter goes up */
    READS,     /* an array's value is part of the key */
    N_FETCHED,
    STORES = N_FETCHED, /* an array's value is set */
    DIVIDES,
    LOOPS,
    CALLS, /* the lookup is in a called function */
    LOOKS, /* another lookup, in a map that is small */
    N_SHAPES
};

struct program {
    struct code c;
    struct oko_map_spec maps[3]; /* 0, 1: tables; 2: array of one 8-byte value */
    enum shape shape;
};

static void put_map(struct code *c, unsigned reg, uint32_t map)
{
    put(c, BPF_LD | BPF_IMM | BPF_DW, reg, OKO_PSEUDO_MAP, 0, map);
    put(c, 0, 0, 0, 0, 0);
}

static void put_call(struct code *c, int helper)
{
    put(c, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

/* r0 = 1 if the map has the key at r2, else 0. */
static void put_lookup(struct code *c, uint32_t map)
{
    put_map(c, 1, map);
    put_call(c, OKO_HELPER_MAP_LOOKUP);
    put(c, BPF_JMP | BPF_JEQ, 0, 0, 1, 0);
    MOV_I(c, 0, 1);
}

/* r0 = the array's value, which is never null. */
static void put_array(struct code *c)
{
    put(c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0);
    MOV_R(c, 2, 10);
    put(c, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4);
    put_map(c, 1, 2);
    put_call(c, OKO_HELPER_MAP_LOOKUP);
    put(c, BPF_JMP | BPF_JNE, 0, 0, 1, 0);
    EXIT(c);
}

enum { KEY_AT = -64 };

/* r2 = fp + KEY_AT, where the key then is: the first bytes of the packet at r6. */
static void put_key(struct code *c, uint32_t size)
{
    for (int i = 0; i < (int)size; i++) {
        put(c, BPF_LDX | BPF_MEM | BPF_B, 3, 6, i, 0);
        put(c, BPF_STX | BPF_MEM | BPF_B, 10, 3, KEY_AT + i, 0);
    }
    MOV_R(c, 2, 10);
    put(c, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, KEY_AT);
}

static uint32_t put_jump(struct code *c, unsigned cc, unsigned reg, int64_t imm)
{
    return put(c, BPF_JMP | cc | BPF_K, reg, 0, 0, imm);
}

static void here(struct code *c, uint32_t jump)
{
    c->insn[jump].off = (int16_t)(c->n - jump - 1);
}

static void put_shape(struct code *c, enum shape shape, uint32_t key_size)
{
    uint32_t jump;
    switch (shape) {
    case LEAVES:
        jump = put_jump(c, BPF_JLT, 7, 128);
        MOV_I(c, 0, 1);
        EXIT(c);
        here(c, jump);
        break;
    case COUNTS:
        put_array(c);
        put(c, BPF_LDX | BPF_MEM | BPF_DW, 3, 0, 0, 0);
        put(c, BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, 1);
        put(c, BPF_STX | BPF_MEM | BPF_DW, 0, 3, 0, 0);
        break;
    case STORES:
        put_array(c);
        put(c, BPF_STX | BPF_MEM | BPF_DW, 0, 7, 0, 0);
        break;
    case DIVIDES:
        put(c, BPF_LDX | BPF_MEM | BPF_B, 3, 6, 1, 0);
        put(c, BPF_ALU64 | BPF_OR | BPF_K, 3, 0, 0, 1);
        put(c, BPF_ALU64 | BPF_DIV | BPF_X, 7, 3, 0, 0);
        jump = put_jump(c, BPF_JLT, 7, 200);
        EXIT(c);
        here(c, jump);
        break;
    case LOOPS:
        MOV_I(c, 8, 3);
        put(c, BPF_ALU64 | BPF_ADD | BPF_K, 7, 0, 0, 1);
        put(c, BPF_ALU64 | BPF_SUB | BPF_K, 8, 0, 0, 1);
        put(c, BPF_JMP | BPF_JNE | BPF_K, 8, 0, -3, 0);
        break;
    case LOOKS:
        put(c, BPF_STX | BPF_MEM | BPF_DW, 10, 7, -8, 0);
        MOV_R(c, 2, 10);
        put(c, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -8);
        put_lookup(c, 1);
        jump = put_jump(c, BPF_JEQ, 0, 0);
        EXIT(c);
        here(c, jump);
        break;
    case CHOOSES:
        jump = put_jump(c, BPF_JLT, 7, 128);
        put_key(c, key_size);
        put_lookup(c, 1);
        EXIT(c);
        here(c, jump);
        break;
    default:
        break;
    }
}

static struct oko_prog *make(struct program *p, uint32_t type, uint32_t key_size, enum shape shape)
{
    struct code *c = &p->c;
    struct oko_func_spec funcs[2] = {{.name = "entry"}, {.name = "sub"}};
    c->n = 0;
    memset(p->maps, 0, sizeof(p->maps));
    p->shape = shape;
    for (uint32_t i = 0; i < 3; i++) {
        p->maps[i] = (struct oko_map_spec){
            .type = type, .key_size = key_size, .value_size = 16, .max_entries = ENTRIES};
        snprintf(p->maps[i].name, sizeof(p->maps[i].name), "m%u", i);
    }
    if (shape == LOOKS) {
        p->maps[1].key_size = 8;
        p->maps[1].max_entries = 2;
    }
    p->maps[2].type = OKO_MAP_ARRAY;
    p->maps[2].key_size = 4;
    p->maps[2].value_size = 8;
    p->maps[2].max_entries = 1;

    MOV_I(c, 0, 0);
    put(c, BPF_JMP | BPF_JGE | BPF_K, 2, 0, 1, FRAME);
    EXIT(c);
    MOV_R(c, 6, 1);
    put(c, BPF_LDX | BPF_MEM | BPF_B, 7, 6, 0, 0);
    put_shape(c, shape, key_size);
    if (shape == CALLS) {
        MOV_R(c, 1, 6);
        uint32_t call = put(c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 0);
        EXIT(c);
        c->insn[call].imm = (int32_t)(c->n - call - 1);
        funcs[1].insn = c->n;
        MOV_R(c, 6, 1);
    }
    if (shape == IN_PACKET)
        MOV_R(c, 2, 6);
    else
        put_key(c, key_size);
    if (shape == READS) {
        MOV_R(c, 8, 2);
        put_array(c);
        put(c, BPF_LDX | BPF_MEM | BPF_B, 3, 0, 0, 0);
        put(c, BPF_LDX | BPF_MEM | BPF_B, 4, 10, KEY_AT, 0);
        put(c, BPF_ALU64 | BPF_XOR | BPF_X, 3, 4, 0, 0);
        put(c, BPF_STX | BPF_MEM | BPF_B, 10, 3, KEY_AT, 0);
        MOV_R(c, 2, 8);
    }
    put_lookup(c, 0);
    EXIT(c);

    struct oko_prog_spec spec = {.name = "test",
                                 .insns = c->insn,
                                 .n_insns = c->n,
                                 .funcs = funcs,
                                 .n_funcs = shape == CALLS ? 2 : 1,
                                 .maps = p->maps,
                                 .n_maps = 3};
    struct oko_error error = {0};
    struct oko_prog *prog;
    int err = oko_prog_load(vm, &spec, NULL, NULL, &prog, &error);
    CHECK(!err, "shape %d: %d %s (instruction %d)", shape, err, error.reason, error.insn);
    return prog;
}

/* ---------------------------------------------------------------- packets and marks */

static struct oko_prog_in in[N_PACKETS];

static void make_packets(struct rng *r)
{
    static struct guarded bufs[N_PACKETS];
    static const struct oko_meta meta;
    for (uint32_t i = 0; i < N_PACKETS; i++) {
        if (!bufs[i].map)
            guarded_new(&bufs[i]);
        uint32_t len = rng_below(r, 8) ? FRAME : rng_below(r, FRAME);
        uint8_t *p = guarded_tail(&bufs[i], len);
        for (uint32_t k = 0; k < len; k++)
            p[k] = (uint8_t)rng_next(r);
        in[i] = (struct oko_prog_in){p, len, &meta};
    }
}

static struct oko_map_hash *table(struct oko_prog *prog, uint32_t map)
{
    return (struct oko_map_hash *)oko_prog_map(prog, map);
}

static uint8_t *mark(struct oko_map_hash *t, uint64_t index)
{
    return &((struct oko_hash_bucket *)(t->buckets + index * t->bucket_size))->unused;
}

/* Takes the marks that the packets' keys leave off again, and counts them. */
static uint32_t take_marks(const struct program *p, struct oko_prog *prog, uint64_t todo)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_PACKETS; i++) {
        if (!(todo >> i & 1) || in[i].len < FRAME)
            continue;
        uint8_t key[FRAME];
        memcpy(key, in[i].data, FRAME);
        if (p->shape == LEAVES && key[0] >= 128)
            continue;
        uint32_t map = p->shape == CHOOSES && key[0] >= 128;
        struct oko_hash_probe probe;
        if (p->shape == READS)
            key[0] ^= 0x5a;
        oko_hash_probe_init(table(prog, map), &probe, key);
        --*mark(table(prog, map), oko_hash_index(table(prog, map), probe.h));
        n++;
    }
    return n;
}

static uint32_t other_marks(struct oko_prog *prog)
{
    uint32_t n = 0;
    for (uint32_t map = 0; map < 2; map++) {
        struct oko_map_hash *t = table(prog, map);
        for (uint64_t i = 0; i < t->n_buckets; i++) {
            n += *mark(t, i) != 0;
            *mark(t, i) = 0;
        }
    }
    return n;
}

static void run(struct oko_prog *prog, uint64_t todo)
{
    uint64_t matched[2];
    CHECK(!oko_prog_run_batch(prog, WORKER, OKO_RUN_INTERP, in, todo, &matched[0]), "interpreter");
    CHECK(other_marks(prog) == 0, "the interpreter marks");
    CHECK(!oko_prog_run_batch(prog, WORKER, OKO_RUN_JIT, in, todo, &matched[1]), "batch");
    CHECK(matched[0] == matched[1], "todo %llx: interpreter %llx, batch %llx",
          (unsigned long long)todo, (unsigned long long)matched[0], (unsigned long long)matched[1]);
}

/* The batch fetches exactly what the packets' keys need. */
static void expect_marks(const struct program *p, struct oko_prog *prog, uint64_t todo)
{
    run(prog, todo);
    take_marks(p, prog, todo);
    CHECK(other_marks(prog) == 0, "shape %d, type %u, key of %u, todo %llx: other buckets",
          p->shape, p->maps[0].type, p->maps[0].key_size, (unsigned long long)todo);
}

static void expect_none(const struct program *p, struct oko_prog *prog, uint64_t todo)
{
    run(prog, todo);
    CHECK(other_marks(prog) == 0, "shape %d, todo %llx: fetches", p->shape,
          (unsigned long long)todo);
}

/* Puts the first packets' keys, and others, into the tables. */
static void fill(struct oko_prog *prog, uint32_t n, struct rng *r)
{
    for (uint32_t map = 0; map < 2; map++) {
        struct oko_map *m = oko_prog_map(prog, map);
        for (uint32_t i = 0; i < n && i < m->spec.max_entries; i++) {
            uint8_t key[FRAME], value[16] = {1};
            for (uint32_t k = 0; k < FRAME; k++)
                key[k] = (uint8_t)rng_next(r);
            if (i < N_PACKETS && in[i].len == FRAME && i % 2 == 0)
                memcpy(key, in[i].data, FRAME);
            CHECK(m->ops->set(m, key, value, 0) == 0, "set");
        }
    }
    uint8_t zero[4] = {0}, part[8] = {0x5a};
    struct oko_map *array = oko_prog_map(prog, 2);
    CHECK(array->ops->set(array, zero, part, 0) == 0, "set");
}

/* ---------------------------------------------------------------- tests */

static const uint32_t types[3] = {OKO_MAP_HASH, OKO_MAP_LRU_HASH, OKO_MAP_WORKER_HASH};
static const uint8_t key_sizes[] = {2, 4, 6, 8, 13, 16, 24, 40};

static void test_shapes(struct program *p)
{
    struct rng r = {1};
    jit_near = 0;
    for (uint32_t t = 0; t < 3; t++) {
        for (uint32_t k = 0; k < sizeof(key_sizes); k++) {
            for (int shape = 0; shape < N_SHAPES; shape++) {
                make_packets(&r);
                jit_near = shape == LOOKS ? 64 * 16 : 0;
                struct oko_prog *prog = make(p, types[t], key_sizes[k], (enum shape)shape);
                fill(prog, 64, &r);
                for (int i = 0; i < 4; i++) {
                    uint64_t todo = 0xffffffff & (i ? rng_next(&r) | 0xf0 : UINT64_MAX);
                    /* a long key in the packet is looked up by the map's function */
                    if (shape < N_FETCHED && (shape != IN_PACKET || key_sizes[k] <= 24))
                        expect_marks(p, prog, todo);
                    else
                        expect_none(p, prog, todo);
                }
                oko_prog_unref(prog);
            }
        }
    }
}

/* What the pass leaves out it does not do: the counter has each packet once. */
static void test_counter(struct program *p)
{
    struct rng r = {2};
    jit_near = 0;
    make_packets(&r);
    struct oko_prog *prog = make(p, OKO_MAP_HASH, 4, COUNTS);
    fill(prog, 64, &r);
    uint64_t matched, before, after;
    uint8_t zero[4] = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_PACKETS; i++)
        n += in[i].len == FRAME;
    struct oko_map *array = oko_prog_map(prog, 2);
    CHECK(!array->ops->get(array, zero, (uint8_t *)&before), "get");
    CHECK(!oko_prog_run_batch(prog, WORKER, OKO_RUN_JIT, in, 0xffffffff, &matched), "batch");
    CHECK(!array->ops->get(array, zero, (uint8_t *)&after), "get");
    CHECK(after - before == n, "%u packets, counted %u", n, (unsigned)(after - before));
    oko_prog_unref(prog);
}

/* Bursts of three and tables with few entries are not worth a pass. */
static void test_worth(struct program *p)
{
    struct rng r = {3};
    make_packets(&r);
    jit_near = 0;
    struct oko_prog *prog = make(p, OKO_MAP_HASH, 8, PLAIN);
    for (unsigned i = 0; i < N_PACKETS - 16; i++) {
        expect_none(p, prog, 1ull << i);
        expect_none(p, prog, 0x111ull << i);
        expect_marks(p, prog, 0x10111ull << i);
    }
    oko_prog_unref(prog);

    jit_near = 2 * 64 * 100; /* two lines of a bucket: from 100 entries on */
    make_packets(&r);
    prog = make(p, OKO_MAP_HASH, 8, PLAIN);
    fill(prog, 99, &r);
    expect_none(p, prog, 0xffffffff);
    fill(prog, 1, &r); /* its key may be there already */
    for (uint32_t n = table(prog, 0)->n_entries; n < 100; n = table(prog, 0)->n_entries)
        fill(prog, 1 + N_PACKETS, &r);
    expect_marks(p, prog, 0xffffffff);
    oko_prog_unref(prog);

    jit_near = 2 * 64 * (ENTRIES + 1); /* more than it can ever have */
    prog = make(p, OKO_MAP_HASH, 8, PLAIN);
    fill(prog, ENTRIES, &r);
    expect_none(p, prog, 0xffffffff);
    oko_prog_unref(prog);
}

int main(void)
{
    if (!(oko_features() & OKO_FEATURE_JIT)) {
        printf("test_jit_prefetch: left out: this CPU has no JIT\n");
        return 0;
    }
    struct oko_vm_opts opts = {.n_workers = N_WORKERS, .secret = 7};
    CHECK(!oko_vm_new(&opts, &vm), "vm");
    struct program p = {.c = {0}};
    jit_marks_ahead = true;
    for (int older = 0; older < 2; older++) {
        jit_skip = older ? JIT_SKIP_BMI | JIT_SKIP_NEAR : 0;
        test_shapes(&p);
        test_counter(&p);
        test_worth(&p);
    }
    free(p.c.insn);
    oko_vm_free(vm);
    printf("test_jit_prefetch: ok\n");
    return 0;
}
