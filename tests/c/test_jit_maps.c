/* Verified programs that use maps: machine code, one packet at a time and in batches, against the
 * interpreter: results, and afterwards the contents of every map.
 *
 * The programs build keys, items and values on their stack in random pieces: copies of packet
 * fields (neighbours among them), registers, constants, overwritten parts, pieces that depend on a
 * branch, keys read straight from the packet. Packets have few different bytes, so that lookups
 * hit, and maps are small, so that they overflow. Each program is loaded three times into VMs of
 * the same secret, once per engine, so that the maps start equal and must end equal. What counts as
 * a large table is set so low that batches have their first pass (jit/prefetch.c).
 *
 * usage: test_jit_maps [seeds [first [skip]]] */
#include "jit_gen.h"

#include "bpf/jit/jit.h"
#include "qsbr.h"

#ifdef __SANITIZE_THREAD__ /* one thread: nothing to find, and slow */
enum { SEEDS = 150 };
#else
enum { SEEDS = 3000 };
#endif

enum { FRAME = 64, N_PACKETS = 96, MAX_MAPS = 4, N_ENGINES = 3 };

struct maker {
    struct code c;
    struct rng r;
    struct oko_map_spec maps[MAX_MAPS];
    uint32_t n_maps;
    uint32_t sub_call; /* index of the call of the sub-function, or 0 */
    uint32_t sub;      /* where it starts */
};

/* ---------------------------------------------------------------- maps */

static void make_map(struct maker *m, struct oko_map_spec *spec)
{
    static const uint8_t key_sizes[] = {1, 2, 3, 4, 4, 6, 8, 8, 12, 13, 16, 16, 16, 20, 24, 31, 40};
    static const uint8_t value_sizes[] = {1, 4, 8, 8, 12, 16, 24, 48};
    struct rng *r = &m->r;
    memset(spec, 0, sizeof(*spec));
    snprintf(spec->name, sizeof(spec->name), "m%u", m->n_maps);
    spec->type = 1 + rng_below(r, 8);
    spec->key_size = key_sizes[rng_below(r, sizeof(key_sizes))];
    spec->value_size = value_sizes[rng_below(r, sizeof(value_sizes))];
    spec->max_entries = 1 + rng_below(r, 40);
    switch (spec->type) {
    case OKO_MAP_ARRAY:
    case OKO_MAP_WORKER_ARRAY:
        spec->key_size = rng_below(r, 2) ? 4 : 8;
        break;
    case OKO_MAP_BLOOM:
        spec->max_entries = rng_below(r, 2) ? 256 : 100 + rng_below(r, 1000);
        spec->n_hashes = 1 + rng_below(r, 5);
        spec->value_size = 0;
        break;
    case OKO_MAP_COUNT_MIN:
        spec->max_entries = rng_below(r, 2) ? 64 : 1 + rng_below(r, 100);
        spec->n_hashes = 1 + rng_below(r, 5);
        spec->value_size = 4;
        break;
    case OKO_MAP_LPM_TRIE:
        spec->key_size = 8;
        break;
    }
}

static bool is_array(const struct oko_map_spec *spec)
{
    return spec->type == OKO_MAP_ARRAY || spec->type == OKO_MAP_WORKER_ARRAY;
}

static bool is_sketch(const struct oko_map_spec *spec)
{
    return spec->type == OKO_MAP_BLOOM || spec->type == OKO_MAP_COUNT_MIN;
}

/* ---------------------------------------------------------------- programs */

/* r6 = packet, r7 = accumulator, r8 and r9 = values kept from the packet. */
enum { KEY_AT = -64, VALUE_AT = -128, LEAVE = 2 /* an exit */ };

static const uint8_t sizes[4] = {BPF_B, BPF_H, BPF_W, BPF_DW};

static int log_width(struct rng *r, uint32_t at, uint32_t left)
{
    int lg = (int)rng_below(r, 4);
    while ((1u << lg) > left || (at & ((1u << lg) - 1)))
        lg--;
    return lg;
}

static void put_call(struct maker *m, int helper)
{
    put(&m->c, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

static void put_key_pointer(struct maker *m, bool packet, unsigned reg, int at)
{
    MOV_R(&m->c, reg, packet ? 6 : 10);
    put(&m->c, BPF_ALU64 | BPF_ADD | BPF_K, reg, 0, 0, at);
}

/* r0 = a hash of something on the stack. */
static void put_hash(struct maker *m)
{
    struct code *c = &m->c;
    put(c, BPF_STX | BPF_MEM | BPF_DW, 10, 8, -200, 0);
    put_key_pointer(m, false, 1, -200);
    MOV_I(c, 2, 1 + rng_below(&m->r, 8));
    put_call(m, OKO_HELPER_HASH);
}

/* One piece of a buffer: [fp + at] = something of 1 << lg bytes. */
static void put_piece(struct maker *m, int at, int lg, int *pkt_off)
{
    struct code *c = &m->c;
    struct rng *r = &m->r;
    unsigned t = 1 + rng_below(r, 5);
    switch (rng_below(r, 14)) {
    case 12: /* a number that has many bits */
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, 7, at, 0);
        return;
    case 13: /* the result of a helper */
        put_hash(m);
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, 0, at, 0);
        return;
    case 10: { /* a register known to be short, in several ways */
        static const uint8_t ways[] = {BPF_ALU64 | BPF_AND, BPF_ALU | BPF_AND, BPF_ALU | BPF_OR,
                                       BPF_ALU | BPF_END | BPF_X};
        unsigned way = ways[rng_below(r, sizeof(ways))];
        put(c, BPF_LDX | BPF_MEM | BPF_DW, t, 6, (int)rng_below(r, FRAME - 8), 0);
        put(c, way, t, 0, 0, (way & 0xf0) == BPF_END ? 16 : 3);
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, t, at, 0);
        return;
    }
    case 11: /* one of two registers */
        MOV_R(c, t, 8);
        put(c, BPF_JMP | BPF_JGT, 9, 0, 1, 1);
        MOV_R(c, t, 9);
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, t, at, 0);
        return;
    case 0:
        put(c, BPF_ST | BPF_MEM | sizes[lg], 10, 0, at, (int64_t)rng_below(r, 3));
        return;
    case 1:
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, 8 + rng_below(r, 2), at, 0);
        return;
    case 2:
        MOV_I(c, t, rng_below(r, 3));
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, t, at, 0);
        return;
    case 3: /* depends on a branch */
        put(c, BPF_LDX | BPF_MEM | sizes[lg], t, 6, 8, 0);
        put(c, BPF_JMP | BPF_JEQ, 8, 0, 1, (int64_t)rng_below(r, 3));
        put(c, BPF_LDX | BPF_MEM | sizes[lg], t, 6, 16, 0);
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, t, at, 0);
        return;
    case 4: /* the other way round */
        put(c, BPF_ST | BPF_MEM | sizes[lg], 10, 0, at, 1);
        put(c, BPF_JMP | BPF_JSET, 8, 0, 1, 1);
        put(c, BPF_ST | BPF_MEM | sizes[lg], 10, 0, at, 2);
        return;
    case 5: /* with dirt above the piece */
        put(c, BPF_LDX | BPF_MEM | BPF_DW, t, 6, 24, 0);
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, t, at, 0);
        return;
    case 6: /* computed */
        put(c, BPF_LDX | BPF_MEM | BPF_B, t, 6, (int)rng_below(r, FRAME), 0);
        put(c, BPF_ALU64 | BPF_AND | BPF_K, t, 0, 0, 1);
        put(c, BPF_ALU64 | BPF_LSH | BPF_K, t, 0, 0, rng_below(r, 4));
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, t, at, 0);
        return;
    default: /* a field, often the neighbour of the last one */
        if (*pkt_off + 8 > FRAME || rng_below(r, 3) == 0)
            *pkt_off = (int)rng_below(r, FRAME - 8);
        put(c, BPF_LDX | BPF_MEM | sizes[lg], t, 6, *pkt_off, 0);
        put(c, BPF_STX | BPF_MEM | sizes[lg], 10, t, at, 0);
        *pkt_off += 1 << lg;
        return;
    }
}

/* Fills size bytes at fp + at; now and then in two layers, or in falling order. */
static void put_buffer(struct maker *m, int at, uint32_t size)
{
    struct rng *r = &m->r;
    int pkt_off = FRAME;
    uint32_t under = rng_below(r, 4); /* a layer below, of which parts may stay */
    for (uint32_t i = 0; i < size && under < 2; i += 8)
        if (under == 0)
            put(&m->c, BPF_ST | BPF_MEM | BPF_DW, 10, 0, at + (int)i, (int64_t)rng_below(r, 2));
        else
            put(&m->c, BPF_STX | BPF_MEM | BPF_DW, 10, 8 + rng_below(r, 2), at + (int)i, 0);
    uint32_t starts[64], n = 0;
    int widths[64];
    bool crumbs = rng_below(r, 16) == 0; /* byte by byte */
    for (uint32_t i = 0; i < size;) {
        int lg = crumbs ? 0 : log_width(r, i, size - i);
        starts[n] = i;
        widths[n++] = lg;
        i += 1u << lg;
    }
    bool falling = rng_below(r, 4) == 0;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = falling ? n - 1 - k : k;
        if (under < 2 && rng_below(r, 2))
            continue;
        put_piece(m, at + (int)starts[i], widths[i], &pkt_off);
    }
}

static void put_mixed(struct maker *m, unsigned reg)
{
    put(&m->c, BPF_ALU64 | BPF_MUL | BPF_K, 7, 0, 0, 0x01000193);
    put(&m->c, BPF_ALU64 | BPF_XOR | BPF_X, 7, reg, 0, 0);
}

static void put_map(struct maker *m, unsigned reg, uint32_t map)
{
    put(&m->c, BPF_LD | BPF_IMM | BPF_DW, reg, OKO_PSEUDO_MAP, 0, map);
    put(&m->c, 0, 0, 0, 0, 0);
}

/* Makes the key of a map: on the stack, or where one lies in the packet. */
static void put_key(struct maker *m, const struct oko_map_spec *spec, uint32_t map)
{
    struct rng *r = &m->r;
    int at = KEY_AT + 8 * (int)rng_below(r, 3);
    if (at + (int)((spec->key_size + 7) & ~7u) > 0)
        at = KEY_AT;
    bool packet = !is_array(spec) && spec->type != OKO_MAP_LPM_TRIE && rng_below(r, 8) == 0;
    if (is_array(spec)) {
        /* an index: constant, bounded, or out of range at times */
        unsigned t = 1 + rng_below(r, 5);
        unsigned size = spec->key_size == 4 ? BPF_W : BPF_DW;
        uint32_t kind = rng_below(r, 4);
        if (kind == 0) {
            put(&m->c, BPF_ST | BPF_MEM | size, 10, 0, at, (int64_t)rng_below(r, 50));
        } else {
            put(&m->c, BPF_LDX | BPF_MEM | BPF_B, t, 6, (int)rng_below(r, FRAME), 0);
            if (kind == 1)
                put(&m->c, BPF_ALU64 | BPF_MOD | BPF_K, t, 0, 0, (int64_t)spec->max_entries);
            if (kind == 2)
                put(&m->c, BPF_ALU64 | BPF_MUL | BPF_K, t, 0, 0, 13);
            put(&m->c, BPF_STX | BPF_MEM | size, 10, t, at, 0);
        }
    } else if (spec->type == OKO_MAP_LPM_TRIE) {
        put(&m->c, BPF_ST | BPF_MEM | BPF_W, 10, 0, at, (int64_t)rng_below(r, 33));
        int off = FRAME;
        put_piece(m, at + 4, 2, &off);
    } else if (!packet) {
        put_buffer(m, at, spec->key_size);
    }
    if (packet)
        at = (int)rng_below(r, FRAME - spec->key_size);
    if (rng_below(r, 2)) { /* the pointers in either order */
        put_map(m, 1, map);
        put_key_pointer(m, packet, 2, at);
    } else {
        put_key_pointer(m, packet, 2, at);
        put_map(m, 1, map);
    }
}

/* Looks up what r2 points at in the map in r1. */
static void put_lookup(struct maker *m, uint32_t map)
{
    const struct oko_map_spec *spec = &m->maps[map];
    struct code *c = &m->c;
    struct rng *r = &m->r;
    put_call(m, OKO_HELPER_MAP_LOOKUP);
    uint32_t size = is_sketch(spec) ? 4 : spec->value_size;
    int lg = log_width(r, 0, size);
    if (is_sketch(spec)) {
        if (rng_below(r, 3) == 0) /* a test that never fails */
            put(c, BPF_JMP | BPF_JEQ, 0, 0, 0, 0);
        put(c, BPF_LDX | BPF_MEM | sizes[lg], 1, 0, 0, 0);
        put_mixed(m, 1);
        return;
    }
    /* null: skip, by a branch in either direction */
    uint32_t at = 0;
    uint32_t test = rng_below(r, 6);
    if (test == 0) { /* a miss leaves */
        put(c, BPF_JMP | BPF_JNE, 0, 0, 2, 0);
        MOV_I(c, 0, rng_below(r, 3));
        EXIT(c);
        at = put(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
    } else if (test < 3) {
        at = put(c, BPF_JMP | BPF_JEQ, 0, 0, 0, 0);
    } else if (test == 3) { /* goes on with a copy of the null pointer */
        MOV_R(c, 4, 0);
        put(c, BPF_JMP | BPF_JEQ, 0, 0, 1, 0);
        put(c, BPF_JMP | BPF_JA, 0, 0, 2, 0);
        put(c, BPF_ALU64 | BPF_ADD | BPF_X, 7, 4, 0, 0);
        at = put(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
    } else if (test == 4) { /* leaves by an exit that others use too */
        put(c, BPF_JMP | BPF_JEQ, 0, 0, LEAVE - (int)c->n - 1, 0);
    } else {
        put(c, BPF_JMP | BPF_JNE, 0, 0, 2, 0);
        put(c, BPF_ALU64 | BPF_ADD | BPF_K, 7, 0, 0, 5);
        at = put(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
    }
    put(c, BPF_LDX | BPF_MEM | sizes[lg], 1, 0, (int)(rng_below(r, size >> lg) << lg), 0);
    put_mixed(m, 1);
    switch (rng_below(r, 4)) {
    case 0:
        put(c, BPF_LDX | BPF_MEM | sizes[lg], 1, 0, 0, 0);
        put(c, BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 1);
        put(c, BPF_STX | BPF_MEM | sizes[lg], 0, 1, 0, 0);
        break;
    case 1:
        put(c, BPF_STX | BPF_MEM | sizes[lg], 0, 8, 0, 0);
        break;
    case 2:
        if (lg >= 2)
            put(c, BPF_STX | BPF_ATOMIC | sizes[lg], 0, 9, 0, BPF_ADD);
        break;
    }
    if (at)
        c->insn[at].off = (int16_t)(c->n - at - 1);
}

static void put_operation(struct maker *m)
{
    struct rng *r = &m->r;
    uint32_t map = rng_below(r, m->n_maps);
    const struct oko_map_spec *spec = &m->maps[map];
    uint32_t kind = rng_below(r, 8);
    if (is_sketch(spec) && kind >= 3) {
        put_key(m, spec, map);
        put_call(m, OKO_HELPER_MAP_ADD);
        put_mixed(m, 0);
    } else if (!is_sketch(spec) && kind >= 4 && kind < 7) {
        bool packet = rng_below(r, 6) == 0;
        if (!packet)
            put_buffer(m, VALUE_AT, spec->value_size);
        put_key(m, spec, map);
        put_key_pointer(m, packet, 3, packet ? (int)rng_below(r, 8) : VALUE_AT);
        put_call(m, OKO_HELPER_MAP_UPDATE);
        put_mixed(m, 0);
    } else if (!is_sketch(spec) && kind == 7) {
        put_key(m, spec, map);
        put_call(m, OKO_HELPER_MAP_DELETE);
        put_mixed(m, 0);
    } else {
        put_key(m, spec, map);
        put_lookup(m, map);
    }
    if (rng_below(r, 6) == 0) {
        put_call(m, OKO_HELPER_TIME_GET_NS);
        put_mixed(m, 0);
    }
    if (rng_below(r, 10) == 0) {
        put(&m->c, BPF_JMP | BPF_JSET, 7, 0, 2, 12);
        MOV_I(&m->c, 0, rng_below(r, 2));
        EXIT(&m->c);
    }
    if (rng_below(r, 6) == 0) { /* a hash of something on the stack */
        put_hash(m);
        put_mixed(m, 0);
    }
}

static void make_program(struct maker *m, uint64_t seed)
{
    m->c.n = 0;
    m->r.state = seed;
    struct rng *r = &m->r;
    uint32_t n_maps = 1 + rng_below(r, MAX_MAPS);
    for (m->n_maps = 0; m->n_maps < n_maps; m->n_maps++)
        make_map(m, &m->maps[m->n_maps]);
    MOV_I(&m->c, 0, 0);
    put(&m->c, BPF_JMP | BPF_JGE, 2, 0, 1, FRAME);
    EXIT(&m->c);
    MOV_R(&m->c, 6, 1);
    MOV_I(&m->c, 7, 17);
    put(&m->c, BPF_LDX | BPF_MEM | BPF_B, 8, 6, 3, 0);
    put(&m->c, BPF_LDX | BPF_MEM | sizes[rng_below(r, 4)], 9, 6, 40, 0);
    for (uint32_t n = 1 + rng_below(r, 8); n > 0; n--)
        put_operation(m);
    bool sub = rng_below(r, 4) == 0;
    if (sub) {
        put(&m->c, BPF_STX | BPF_MEM | BPF_DW, 10, 8, KEY_AT, 0);
        put_key_pointer(m, false, 2, KEY_AT); /* whose first byte it will change */
        MOV_R(&m->c, 1, 9);
        m->sub_call = put(&m->c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 0);
        put_mixed(m, 0);
        put(&m->c, BPF_LDX | BPF_MEM | BPF_DW, 1, 10, KEY_AT, 0);
        put_mixed(m, 1);
        if (m->maps[0].key_size == 8 && !is_array(&m->maps[0]))
            put_map(m, 1, 0), put_key_pointer(m, false, 2, KEY_AT), put_lookup(m, 0);
    }
    MOV_R(&m->c, 0, 7);
    if (rng_below(r, 2))
        put(&m->c, BPF_ALU64 | BPF_AND | BPF_K, 0, 0, 0, 1);
    EXIT(&m->c);
    m->sub = 0;
    if (!sub)
        return;
    /* A sub-function with a stack and a lookup of its own. */
    m->sub = m->c.n;
    m->c.insn[m->sub_call].imm = (int32_t)(m->sub - m->sub_call - 1);
    const struct oko_map_spec *spec = &m->maps[0];
    MOV_R(&m->c, 9, 1);
    put(&m->c, BPF_STX | BPF_MEM | BPF_B, 2, 1, 0, 0);
    for (int i = 0; i < (int)spec->key_size; i += 8)
        put(&m->c, BPF_ST | BPF_MEM | BPF_DW, 10, 0, KEY_AT + i, 0);
    put(&m->c, BPF_STX | BPF_MEM | BPF_B, 10, 9, KEY_AT, 0);
    put_call(m, OKO_HELPER_TIME_GET_NS);
    MOV_R(&m->c, 6, 0);
    put_map(m, 1, 0);
    put_key_pointer(m, false, 2, KEY_AT);
    put_call(m, OKO_HELPER_MAP_LOOKUP);
    put(&m->c, BPF_JMP | BPF_JNE, 0, 0, 2, 0);
    MOV_R(&m->c, 0, 6);
    EXIT(&m->c);
    put(&m->c, BPF_LDX | BPF_MEM | BPF_B, 0, 0, 0, 0);
    put(&m->c, BPF_ALU64 | BPF_ADD | BPF_X, 0, 9, 0, 0);
    EXIT(&m->c);
}

/* ---------------------------------------------------------------- running */

static struct oko_vm *vms[N_ENGINES];

static struct oko_prog *load(struct oko_vm *vm, const struct maker *m)
{
    struct oko_func_spec funcs[2] = {{.name = "entry"}, {.name = "sub", .insn = m->sub}};
    struct oko_prog_spec spec = {.name = "test",
                                 .insns = m->c.insn,
                                 .n_insns = m->c.n,
                                 .funcs = funcs,
                                 .n_funcs = m->sub ? 2 : 1,
                                 .maps = m->maps,
                                 .n_maps = m->n_maps};
    struct oko_error error = {0};
    struct oko_prog *prog;
    int err = oko_prog_load(vm, &spec, NULL, NULL, &prog, &error);
    if (err) {
        for (uint32_t i = 0; i < m->c.n; i++) {
            char text[128];
            oko_insn_print(&spec, m->c.insn, i, text, sizeof(text));
            fprintf(stderr, "%4u: %s\n", i, text);
            i += m->c.insn[i].code == (BPF_LD | BPF_IMM | BPF_DW);
        }
        CHECK(0, "load: %d %s (instruction %d)", err, error.reason, error.insn);
    }
    struct oko_prog_info info;
    oko_prog_info(prog, &info);
    CHECK(info.jit_bytes > 0, "no machine code");
    return prog;
}

static void show(const struct maker *m)
{
    struct oko_prog_spec spec = {
        .insns = m->c.insn, .n_insns = m->c.n, .maps = m->maps, .n_maps = m->n_maps};
    for (uint32_t i = 0; i < m->n_maps; i++)
        fprintf(stderr, "map %u: type %u, key %u, value %u, entries %u, hashes %u\n", i,
                m->maps[i].type, m->maps[i].key_size, m->maps[i].value_size, m->maps[i].max_entries,
                m->maps[i].n_hashes);
    for (uint32_t i = 0; i < m->c.n; i++) {
        char text[128];
        oko_insn_print(&spec, m->c.insn, i, text, sizeof(text));
        fprintf(stderr, "%4u: %s\n", i, text);
        i += m->c.insn[i].code == (BPF_LD | BPF_IMM | BPF_DW);
    }
}

static size_t entry_size;

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, entry_size);
}

/* Entries may lie in other slots: a batch reuses those of deleted entries later. */
static void compare_maps(const struct maker *m, struct oko_prog *a, struct oko_prog *b,
                         const char *engine, uint64_t seed)
{
    static uint8_t dumps[2][1 << 20];
    for (uint32_t i = 0; i < m->n_maps; i++) {
        uint64_t cursor[2] = {0, 0};
        uint32_t key_size, value_size;
        oko_map_dump_sizes(oko_prog_map(a, i), &key_size, &value_size);
        uint32_t max = (uint32_t)(sizeof(dumps[0]) / (key_size + value_size));
        int64_t n[2];
        n[0] = oko_map_dump(oko_prog_map(a, i), &cursor[0], dumps[0], max);
        n[1] = oko_map_dump(oko_prog_map(b, i), &cursor[1], dumps[1], max);
        entry_size = key_size + value_size;
        for (int k = 0; k < 2; k++)
            qsort(dumps[k], (size_t)n[k], entry_size, by_bytes);
        bool same = n[0] == n[1] && !memcmp(dumps[0], dumps[1], (size_t)n[0] * entry_size);
        if (!same)
            show(m);
        CHECK(same, "seed %llu: map %u (type %u) differs after %s", (unsigned long long)seed, i,
              m->maps[i].type, engine);
    }
}

static void run_seed(struct maker *m, uint64_t seed, uint32_t n_workers)
{
    static struct guarded bufs[N_PACKETS];
    static struct oko_meta metas[N_PACKETS];
    struct oko_prog_in in[N_PACKETS];
    struct rng r = {seed ^ 0x5555};
    make_program(m, seed);
    if (!bufs[0].map)
        for (int i = 0; i < N_PACKETS; i++)
            guarded_new(&bufs[i]);
    for (uint32_t i = 0; i < N_PACKETS; i++) {
        uint32_t len = rng_below(&r, 12) == 0 ? rng_below(&r, FRAME + 10) : FRAME;
        uint8_t *p = guarded_tail(&bufs[i], len);
        for (uint32_t k = 0; k < len; k++)
            p[k] = (uint8_t)(rng_below(&r, 4) == 0 ? rng_below(&r, 3) : 0);
        metas[i].rx_ns = 1000 + i;
        in[i] = (struct oko_prog_in){p, len, &metas[i]};
    }
    static const uint8_t item[64] = {1, 0, 1};
    struct oko_prog *prog[N_ENGINES];
    jit_near = rng_below(&r, 4) * 256; /* a first pass always, or while there are some entries */
    jit_marks_ahead = seed % 2 == 0;   /* which touches what else would only be prefetched */
    for (int e = 0; e < N_ENGINES; e++) {
        prog[e] = load(vms[e], m);
        for (uint32_t i = 0; i < m->n_maps && seed % 5 == 0; i++) /* the control side adds too */
            if (is_sketch(&m->maps[i]))
                oko_map_add(oko_prog_map(prog[e], i), item);
    }
    for (uint32_t i = 0; i < N_PACKETS;) {
        uint32_t n = 1 + rng_below(&r, 40), worker = rng_below(&r, n_workers);
        n = n > N_PACKETS - i ? N_PACKETS - i : n;
        uint64_t todo = (((uint64_t)1 << n) - 1) & ~(rng_next(&r) & rng_next(&r) & rng_next(&r));
        uint64_t matched[N_ENGINES] = {0}, r0[2] = {0};
        for (uint32_t k = 0; k < n; k++) {
            if (!(todo >> k & 1))
                continue;
            for (int e = 0; e < 2; e++) {
                CHECK(!oko_prog_run(prog[e], worker, e ? OKO_RUN_JIT : OKO_RUN_INTERP, &in[i + k],
                                    &r0[e], NULL),
                      "run");
                matched[e] |= (uint64_t)(r0[e] == 1) << k;
            }
            if (r0[0] != r0[1])
                show(m);
            CHECK(r0[0] == r0[1], "seed %llu packet %u: interpreter %llx, jit %llx",
                  (unsigned long long)seed, i + k, (unsigned long long)r0[0],
                  (unsigned long long)r0[1]);
        }
        CHECK(!oko_prog_run_batch(prog[2], worker, OKO_RUN_JIT, &in[i], todo, &matched[2]),
              "batch");
        if (matched[0] != matched[2])
            show(m);
        CHECK(matched[0] == matched[2], "seed %llu packets %u+%u: interpreter %llx, batch %llx",
              (unsigned long long)seed, i, n, (unsigned long long)matched[0],
              (unsigned long long)matched[2]);
        i += n;
    }
    compare_maps(m, prog[0], prog[1], "jit", seed);
    compare_maps(m, prog[0], prog[2], "batch", seed);
    for (int e = 0; e < N_ENGINES; e++)
        oko_prog_unref(prog[e]);
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 0) : SEEDS;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    jit_skip = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 0) : 0;
    if (!(oko_features() & OKO_FEATURE_JIT)) {
        printf("test_jit_maps: left out: this CPU has no JIT\n");
        return 0;
    }
    struct maker m = {.n_maps = 0};
    for (uint32_t workers = 1; workers <= 3; workers++) {
        struct oko_vm_opts opts = {.n_workers = workers, .secret = 7};
        for (int e = 0; e < N_ENGINES; e++)
            CHECK(!oko_vm_new(&opts, &vms[e]), "vm");
        for (uint64_t seed = first; seed < first + seeds; seed++)
            if (seed % 3 == workers - 1)
                run_seed(&m, seed, workers);
        for (int e = 0; e < N_ENGINES; e++)
            oko_vm_free(vms[e]);
    }
    free(m.c.insn);
    /* Once more with helpers called, and as on an older CPU, with far calls. */
    char *next = argc > 3 ? NULL : "4", *last = jit_skip == JIT_SKIP_INLINE ? "24" : NULL;
    char *rest[] = {argv[0], "300", "1", next ? next : last, NULL};
    if (rest[3])
        return main(4, rest);
    printf("test_jit_maps: ok\n");
    return 0;
}
