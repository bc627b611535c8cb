/* The JIT against the interpreter: every operation on every register, random programs, large ones,
 * early ends, the batch entry; packets lie against unmapped pages.
 *
 * usage: test_jit [seeds [first [skip]]]
 *    how many random programs, from which seed on, without which stages of the JIT (JIT_SKIP_*) */
#include "jit_gen.h"

#include "bpf/jit/jit.h"

#include <sys/wait.h>

#ifdef __SANITIZE_THREAD__ /* one thread: nothing to find, and slow */
enum { SEEDS = 200 };
#else
enum { SEEDS = 4000 };
#endif

static struct oko_vm *vm;

static struct oko_prog *load(const struct code *c)
{
    struct oko_prog_spec spec = {.name = "test", .insns = c->insn, .n_insns = c->n};
    struct oko_load_opts opts = {.flags = OKO_LOAD_CONFORMANCE};
    struct oko_error error = {0};
    struct oko_prog *prog;
    int err = oko_prog_load(vm, &spec, &opts, NULL, &prog, &error);
    CHECK(!err, "load: %d %s (instruction %d)", err, error.reason, error.insn);
    struct oko_prog_info info;
    oko_prog_info(prog, &info);
    CHECK(info.jit_bytes > 0, "no machine code");
    return prog;
}

static void dump(const struct code *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        char text[128];
        struct oko_prog_spec spec = {.insns = c->insn, .n_insns = c->n};
        if (c->insn[i].code == (BPF_JMP | BPF_JA) && c->insn[i].off == 0)
            continue;
        oko_insn_print(&spec, c->insn, i, text, sizeof(text));
        fprintf(stderr, "%4u: %s\n", i, text);
        i += c->insn[i].code == (BPF_LD | BPF_IMM | BPF_DW);
    }
}

static void fill(uint8_t *mem, size_t size, uint64_t seed)
{
    struct rng r = {seed};
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t v = rng_value(&r);
        memcpy(mem + i, &v, 8);
    }
}

struct outcome {
    uint64_t r0[2]; /* interpreter, machine code */
    uint8_t mem[2][BUF_PAGE];
};

/* Runs on each engine from the same memory. */
static bool agree(struct oko_prog *prog, uint8_t *mem, size_t size, uint64_t seed,
                  struct outcome *out)
{
    for (int e = 0; e < 2; e++) {
        fill(mem, size, seed);
        CHECK(
            !oko_prog_run_raw(prog, e ? OKO_RUN_JIT : OKO_RUN_INTERP, mem, size, &out->r0[e], NULL),
            "run");
        memcpy(out->mem[e], mem, size);
    }
    return out->r0[0] == out->r0[1] && !memcmp(out->mem[0], out->mem[1], size);
}

/* Do the engines disagree about this? In a process of its own: what is left of a program whose
 * pointers are blanked may crash, which says nothing. */
static bool still_disagrees(struct code *c, uint8_t *mem, size_t size, uint64_t seed,
                            struct outcome *out)
{
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0)
        _exit(agree(load(c), mem, size, seed, out) ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

/* For whoever has to find the mistake: blanks instructions as long as the engines disagree. */
static void shrink(struct code *c, uint8_t *mem, size_t size, uint64_t seed, struct outcome *out)
{
    static const struct oko_insn blank = {BPF_JMP | BPF_JA, 0, 0, 0};
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < c->n; i++) {
            bool wide = c->insn[i].code == (BPF_LD | BPF_IMM | BPF_DW);
            struct oko_insn was[2] = {c->insn[i], wide ? c->insn[i + 1] : blank};
            if (was[0].code == (BPF_JMP | BPF_EXIT) || !memcmp(&was[0], &blank, sizeof(blank)))
                continue;
            if ((was[0].code == (BPF_JMP | BPF_JNE | BPF_K) && was[0].off < 0) ||
                (was[0].code == (BPF_ALU64 | BPF_SUB | BPF_K) && was[0].imm == 1) ||
                (was[0].code == (BPF_ALU64 | BPF_MOV | BPF_K) && was[0].imm > 0 && was[0].imm < 6))
                continue; /* loops must end */
            if (was[0].code == (BPF_ALU64 | BPF_MOV | BPF_X) && i < 2)
                continue; /* pointers */
            c->insn[i] = blank;
            if (wide)
                c->insn[i + 1] = blank; /* each alone is an instruction */
            i += wide;
            if (still_disagrees(c, mem, size, seed, out)) {
                changed = true;
            } else {
                c->insn[i - wide] = was[0];
                if (wide)
                    c->insn[i] = was[1];
            }
        }
    }
    struct oko_prog *prog = load(c);
    agree(prog, mem, size, seed, out);
    uint32_t n;
    const uint8_t *code = oko_prog_code(prog, &n);
    FILE *f = getenv("JIT_DUMP") ? fopen(getenv("JIT_DUMP"), "wb") : NULL;
    if (f) {
        fwrite(code, 1, n, f);
        fclose(f);
    }
    oko_prog_unref(prog);
}

static void compare(struct oko_prog *prog, struct code *c, uint8_t *mem, size_t size, uint64_t seed)
{
    static struct outcome out;
    if (agree(prog, mem, size, seed, &out))
        return;
    if (c->n < 2000) {
        shrink(c, mem, size, seed, &out);
        dump(c);
    }
    for (size_t i = 0; i < size; i++)
        if (out.mem[0][i] != out.mem[1][i])
            fprintf(stderr, "memory %zu: interpreter %02x, jit %02x\n", i, out.mem[0][i],
                    out.mem[1][i]);
    CHECK(0, "interpreter %llx, jit %llx, memory seed %llu", (unsigned long long)out.r0[0],
          (unsigned long long)out.r0[1], (unsigned long long)seed);
}

/* ---------------------------------------------------------------- every operation */

static const uint64_t some_values[][2] = {
    {0, 0},
    {1, 0},
    {0x8000000000000000, 0xffffffffffffffff},
    {0xffffffff80000000, 0xffffffff},
    {0x80000000, 0xffffffffffffffff},
    {0x123456789abcdef0, 0x7fedcba987654321},
    {0xfedcba9876543210, 33},
    {0xffffffffffffff85, 7},
    {0x00000000ffffff85, 0xfffffffffffffff9},
};

struct op_form {
    unsigned code;
    int off;
    int32_t imm;
};

static uint32_t all_forms(struct op_form *out)
{
    static const uint8_t plain[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_OR,  BPF_AND,
                                    BPF_LSH, BPF_RSH, BPF_XOR, BPF_ARSH};
    static const int32_t imms[] = {0, 1, -1, 7, 127, 128, 255, 65535, 65536, INT32_MIN, INT32_MAX};
    uint32_t n = 0;
    for (int w = 0; w < 2; w++) {
        unsigned cls = w ? BPF_ALU64 : BPF_ALU;
        for (unsigned i = 0; i < sizeof(plain); i++) {
            bool shift = plain[i] == BPF_LSH || plain[i] == BPF_RSH || plain[i] == BPF_ARSH;
            out[n++] = (struct op_form){cls | plain[i] | BPF_X, 0, 0};
            for (unsigned k = 0; k < sizeof(imms) / sizeof(imms[0]); k++)
                out[n++] =
                    (struct op_form){cls | plain[i], 0, shift ? imms[k] & (w ? 63 : 31) : imms[k]};
        }
        for (int sx = 0; sx < 2; sx++) {
            out[n++] = (struct op_form){cls | BPF_DIV | BPF_X, sx, 0};
            out[n++] = (struct op_form){cls | BPF_MOD | BPF_X, sx, 0};
            for (unsigned k = 0; k < sizeof(imms) / sizeof(imms[0]); k++) {
                out[n++] = (struct op_form){cls | BPF_DIV, sx, imms[k]};
                out[n++] = (struct op_form){cls | BPF_MOD, sx, imms[k]};
            }
        }
        out[n++] = (struct op_form){cls | BPF_NEG, 0, 0};
        out[n++] = (struct op_form){cls | BPF_MOV | BPF_X, 0, 0};
        out[n++] = (struct op_form){cls | BPF_MOV | BPF_X, 8, 0};
        out[n++] = (struct op_form){cls | BPF_MOV | BPF_X, 16, 0};
        if (w)
            out[n++] = (struct op_form){cls | BPF_MOV | BPF_X, 32, 0};
        out[n++] = (struct op_form){cls | BPF_MOV, 0, INT32_MIN};
        out[n++] = (struct op_form){cls | BPF_MOV, 0, 77};
        for (int bits = 16; bits <= 64; bits *= 2) {
            out[n++] = (struct op_form){cls | BPF_END, 0, bits};
            if (!w)
                out[n++] = (struct op_form){cls | BPF_END | BPF_X, 0, bits};
        }
    }
    return n;
}

static bool reads_src(unsigned code)
{
    return (code & BPF_X) && (code & 0xf0) != BPF_END;
}

/* For one pair of registers: each form on each pair of values, the result stored; in the end all
 * registers, so that what an operation should leave alone is seen too. */
static void test_alu_pair(struct code *c, uint8_t *mem, unsigned dst, unsigned src)
{
    static struct op_form forms[512];
    uint32_t n_forms = all_forms(forms);
    unsigned base = 0;
    while (base == dst || base == src)
        base++;
    uint32_t n_values = sizeof(some_values) / sizeof(some_values[0]);
    for (uint32_t f = 0; f < n_forms;) {
        c->n = 0;
        if (base != 1)
            MOV_R(c, base, 1);
        for (unsigned r = 0; r < 10; r++)
            if (r != base)
                put_imm64(c, r, 0x1111111111111111u * (r + 1));
        int at = 0;
        for (; f < n_forms && at + 8 * (int)n_values + 80 <= BUF_PAGE; f++) {
            for (uint32_t v = 0; v < n_values; v++) {
                put_imm64(c, src, some_values[v][1]);
                put_imm64(c, dst, some_values[v][0]);
                put(c, forms[f].code, dst, reads_src(forms[f].code) ? src : 0, forms[f].off,
                    forms[f].imm);
                put(c, BPF_STX | BPF_MEM | BPF_DW, base, dst, at, 0);
                at += 8;
            }
        }
        for (unsigned r = 0; r < 10; r++)
            put(c, BPF_STX | BPF_MEM | BPF_DW, base, r, at + 8 * (int)r, 0);
        MOV_I(c, 0, 0);
        EXIT(c);
        struct oko_prog *prog = load(c);
        compare(prog, c, mem, BUF_PAGE, 1);
        oko_prog_unref(prog);
    }
}

static void test_jump_pair(struct code *c, uint8_t *mem, unsigned dst, unsigned src)
{
    static const uint8_t jumps[] = {BPF_JEQ,  BPF_JNE,  BPF_JGT,  BPF_JGE,  BPF_JLT, BPF_JLE,
                                    BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE, BPF_JSET};
    static const int32_t imms[] = {0, 1, -1, INT32_MIN, 0x7fffffff, 255};
    unsigned acc = 0;
    while (acc == dst || acc == src)
        acc++;
    c->n = 0;
    put_imm64(c, acc, 0);
    for (unsigned i = 0; i < sizeof(jumps); i++) {
        for (unsigned form = 0; form < 4; form++) {
            unsigned code = (form & 1 ? BPF_JMP : BPF_JMP32) | jumps[i] | (form & 2 ? BPF_X : 0u);
            for (uint32_t v = 0; v < sizeof(some_values) / sizeof(some_values[0]); v++) {
                put_imm64(c, src, some_values[v][1]);
                put_imm64(c, dst, some_values[v][0]);
                put(c, BPF_ALU64 | BPF_LSH, acc, 0, 0, 1);
                put(c, BPF_ALU64 | BPF_MUL, acc, 0, 0, 0x1000193);
                put(c, code, dst, form & 2 ? src : 0, 1, form & 2 ? 0 : imms[v % 6]);
                put(c, BPF_ALU64 | BPF_ADD, acc, 0, 0, 1);
            }
        }
    }
    MOV_R(c, 0, acc);
    EXIT(c);
    struct oko_prog *prog = load(c);
    compare(prog, c, mem, 64, 1);
    oko_prog_unref(prog);
}

static void test_memory_pair(struct code *c, uint8_t *mem, unsigned base, unsigned reg)
{
    static const uint8_t sizes[4] = {BPF_B, BPF_H, BPF_W, BPF_DW};
    static const int32_t atomics[] = {BPF_ADD,
                                      BPF_OR,
                                      BPF_AND,
                                      BPF_XOR,
                                      BPF_ADD | BPF_FETCH,
                                      BPF_OR | BPF_FETCH,
                                      BPF_AND | BPF_FETCH,
                                      BPF_XOR | BPF_FETCH,
                                      BPF_XCHG,
                                      BPF_CMPXCHG};
    if (base == reg)
        return;
    c->n = 0;
    if (base != 1)
        MOV_R(c, base, 1);
    for (unsigned r = 0; r < 10; r++)
        if (r != base)
            put_imm64(c, r, 0x1122334455667788u * (r + 1));
    int at = 0;
    for (unsigned s = 0; s < 4; s++, at += 64) {
        put(c, BPF_STX | BPF_MEM | sizes[s], base, reg, at, 0);
        put(c, BPF_ST | BPF_MEM | sizes[s], base, 0, at + 8, INT32_MIN + 0x55aa);
        put(c, BPF_LDX | BPF_MEM | sizes[s], reg, base, at + 3, 0);
        put(c, BPF_STX | BPF_MEM | BPF_DW, base, reg, at + 16, 0);
        if (s < 3) {
            put(c, BPF_LDX | BPF_MEMSX | sizes[s], reg, base, at + 5, 0);
            put(c, BPF_STX | BPF_MEM | BPF_DW, base, reg, at + 24, 0);
        }
        put(c, BPF_STX | BPF_MEM | sizes[s], 10, reg, -8 - (int)s, 0);
        put(c, BPF_LDX | BPF_MEM | sizes[s], reg, 10, -8 - (int)s, 0);
        put(c, BPF_STX | BPF_MEM | BPF_DW, base, reg, at + 32, 0);
        put(c, BPF_LDX | BPF_MEM | BPF_DW, reg, base, 2048, 0); /* disp32 */
    }
    for (unsigned i = 0; i < 20; i++, at += 16) {
        unsigned size = i < 10 ? BPF_W : BPF_DW;
        if (base == 0 && i % 10 == 9)
            continue; /* cmpxchg would replace the base */
        put(c, BPF_STX | BPF_ATOMIC | size, base, reg, at, atomics[i % 10]);
        put(c, BPF_STX | BPF_MEM | BPF_DW, base, reg, at + 8, 0);
        if (base != 0) /* once more, now succeeding; 32 bits: with a sign in the upper half */
            put(c, BPF_LDX | (size == BPF_W ? BPF_MEMSX : BPF_MEM) | size, 0, base, at, 0);
        put(c, BPF_STX | BPF_ATOMIC | size, base, reg, at, atomics[i % 10]);
    }
    for (unsigned r = 0; r < 10; r++)
        if (r != base)
            put(c, BPF_STX | BPF_MEM | BPF_DW, base, r, at + 8 * (int)r, 0);
    MOV_I(c, 0, 3);
    EXIT(c);
    struct oko_prog *prog = load(c);
    for (uint64_t seed = 1; seed < 4; seed++)
        compare(prog, c, mem, BUF_PAGE, seed);
    oko_prog_unref(prog);
}

static void test_operations(uint8_t *page)
{
    struct code c = {0};
    for (unsigned dst = 0; dst < 10; dst++) {
        for (unsigned src = 0; src < 10; src++) {
            test_alu_pair(&c, page, dst, src);
            test_jump_pair(&c, page, dst, src);
            test_memory_pair(&c, page, dst, src);
        }
    }
    free(c.insn);
}

/* ---------------------------------------------------------------- random programs */

static void compare_batch(struct oko_prog *prog, const struct code *c, const struct guarded *bufs,
                          uint32_t n, uint64_t seed)
{
    struct oko_prog_in in[64];
    struct oko_meta meta[64] = {0};
    static uint8_t want[64][MEM_SIZE];
    struct rng r = {seed};
    uint64_t todo = rng_next(&r) | (rng_below(&r, 2) ? rng_next(&r) : 0);
    todo &= n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
    uint64_t matched[2] = {0, 0};
    for (int engine = 0; engine < 2; engine++) {
        for (uint32_t i = 0; i < n; i++) {
            uint8_t *mem = guarded_tail(&bufs[i], MEM_SIZE);
            fill(mem, MEM_SIZE, seed + i);
            meta[i].rx_ns = seed * 1000 + i;
            in[i] = (struct oko_prog_in){mem, MEM_SIZE, &meta[i]};
        }
        int err = oko_prog_run_batch(prog, 0, engine ? OKO_RUN_JIT : OKO_RUN_INTERP, in, todo,
                                     &matched[engine]);
        CHECK(!err, "batch: %d", err);
        for (uint32_t i = 0; i < n; i++) {
            uint8_t *mem = guarded_tail(&bufs[i], MEM_SIZE);
            if (engine == 0)
                memcpy(want[i], mem, MEM_SIZE);
            else if (memcmp(want[i], mem, MEM_SIZE)) {
                dump(c);
                CHECK(0, "memory of packet %u differs", i);
            }
        }
    }
    if (matched[0] != matched[1]) {
        dump(c);
        CHECK(0, "todo %llx: interpreter %llx, jit %llx", (unsigned long long)todo,
              (unsigned long long)matched[0], (unsigned long long)matched[1]);
    }
}

static void test_random(uint64_t first, uint64_t seeds)
{
    enum { N = 12 };
    struct gen g = {0};
    struct guarded bufs[N];
    for (int i = 0; i < N; i++)
        guarded_new(&bufs[i]);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        uint32_t size = 1 + (uint32_t)(seed % 40);
        g.shares = seed % 4 == 0;
        gen_program(&g, seed, size, seed % 3 == 0);
        struct oko_prog *prog = load(&g.c);
        for (uint64_t k = 0; k < 3; k++)
            compare(prog, &g.c, guarded_tail(&bufs[0], MEM_SIZE), MEM_SIZE, seed * 7 + k);
        compare(prog, &g.c, guarded_head(&bufs[0]), MEM_SIZE, seed);
        compare_batch(prog, &g.c, bufs, N, seed);
        oko_prog_unref(prog);
    }
    for (int i = 0; i < N; i++)
        guarded_free(&bufs[i]);
    free(g.c.insn);
}

/* ---------------------------------------------------------------- particular shapes */

/* Jumps over all of a program that is far longer than rel8 reaches, in both directions. */
static void test_large(uint8_t *mem)
{
    struct code c = {0};
    struct rng r = {42};
    MOV_I(&c, 0, 0);
    MOV_I(&c, 2, 3);
    uint32_t top = c.n, skip[64];
    for (int i = 0; i < 60; i++) {
        skip[i] = put(&c, BPF_JMP | BPF_JEQ, 2, 0, 0, i % 4);
        for (int k = 0; k < 500; k++) {
            put(&c, BPF_ALU64 | BPF_ADD, 0, 0, 0, (int32_t)rng_next(&r));
            put(&c, BPF_ALU64 | BPF_MUL, 0, 0, 0, 0x1000193);
        }
        c.insn[skip[i]].off = (int16_t)(c.n - skip[i] - 1);
    }
    put(&c, BPF_ALU64 | BPF_SUB, 2, 0, 0, 1);
    put(&c, BPF_JMP | BPF_JEQ, 2, 0, 1, 0);
    uint32_t back = put(&c, BPF_JMP32 | BPF_JA, 0, 0, 0, 0);
    c.insn[back].imm = (int32_t)top - (int32_t)back - 1;
    EXIT(&c);
    struct oko_prog *prog = load(&c);
    compare(prog, &c, mem, 64, 1);
    oko_prog_unref(prog);
    free(c.insn);
}

/* Legacy loads at and over the end, in the entry and two calls deep: the run ends with 0, and in a
 * batch the next packet is run as if nothing had happened. */
static void test_early_end(void)
{
    enum { N = 64 };
    struct guarded buf;
    guarded_new(&buf);
    for (int deep = 0; deep < 3; deep++) {
        for (int form = 0; form < 6; form++) {
            struct code c = {0};
            static const uint8_t sizes[3] = {BPF_B, BPF_H, BPF_W};
            bool ind = form >= 3;
            MOV_I(&c, 6, 1);
            MOV_I(&c, 9, 10);
            for (int d = 0; d < deep; d++) { /* main: call +2; the next function follows */
                put(&c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 2);
                MOV_R(&c, 0, 6);
                EXIT(&c);
                MOV_I(&c, 6, 7 + d);
                MOV_I(&c, 9, 10);
            }
            put(&c, BPF_LD | (ind ? BPF_IND : BPF_ABS) | sizes[form % 3], 0, ind ? 9 : 0, 0,
                ind ? 10 : 20);
            MOV_R(&c, 0, 6);
            if (deep == 0)
                MOV_I(&c, 0, 1);
            EXIT(&c);
            struct oko_prog *prog = load(&c);
            struct oko_prog_in in[N];
            struct oko_meta meta = {0};
            uint64_t want = 0, got[2];
            uint32_t width = 1u << form % 3;
            for (uint32_t i = 0; i < N; i++) {
                uint64_t len = i * 7 % 40;
                in[i] = (struct oko_prog_in){guarded_tail(&buf, len), len, &meta};
                if (20 + width <= len)
                    want |= (uint64_t)1 << i;
                uint64_t r0[2] = {9, 9};
                for (int engine = 0; engine < 2; engine++)
                    CHECK(!oko_prog_run(prog, 0, engine ? OKO_RUN_JIT : OKO_RUN_INTERP, &in[i],
                                        &r0[engine], NULL),
                          "run");
                CHECK(r0[0] == (20 + width <= len), "interpreter: len %llu gives %llu",
                      (unsigned long long)len, (unsigned long long)r0[0]);
                CHECK(r0[1] == r0[0], "jit: deep %d form %d len %llu gives %llu", deep, form,
                      (unsigned long long)len, (unsigned long long)r0[1]);
            }
            for (int engine = 0; engine < 2; engine++)
                CHECK(!oko_prog_run_batch(prog, 0, engine ? OKO_RUN_JIT : OKO_RUN_INTERP, in,
                                          UINT64_MAX, &got[engine]),
                      "batch");
            CHECK(got[0] == want && got[1] == want, "deep %d form %d: %llx %llx %llx", deep, form,
                  (unsigned long long)want, (unsigned long long)got[0], (unsigned long long)got[1]);
            oko_prog_unref(prog);
            free(c.insn);
        }
    }
    guarded_free(&buf);
}

/* Calls eight frames deep; each frame has its own stack and its own r6-r9. */
static void test_deep_calls(uint8_t *mem)
{
    struct code c = {0};
    for (int d = 0; d < 8; d++) {
        for (unsigned r = 6; r < 10; r++)
            put_imm64(&c, r, 0x123456789 * (r + (unsigned)d));
        put(&c, BPF_STX | BPF_MEM | BPF_DW, 10, 6, -8, 0);
        put(&c, BPF_STX | BPF_MEM | BPF_DW, 10, 7, -512, 0);
        MOV_I(&c, 0, d + 5);
        if (d < 7) { /* the next function starts after this one's remaining instructions */
            uint32_t call = put(&c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 0);
            c.insn[call].imm = 4 * 2 + 4;
        }
        put_mix(&c, 0, 0x3c0);
        for (int k = 0; k < 2; k++) {
            put(&c, BPF_LDX | BPF_MEM | BPF_DW, 3, 10, k ? -512 : -8, 0);
            put(&c, BPF_ALU64 | BPF_XOR | BPF_X, 0, 3, 0, 0);
            if (k == 0)
                put(&c, BPF_ALU64 | BPF_MUL | BPF_K, 0, 0, 0, 31);
        }
        EXIT(&c);
        if (d < 7)
            for (uint32_t i = c.n; i-- > 0;)
                if (c.insn[i].code == (BPF_JMP | BPF_CALL)) {
                    c.insn[i].imm = (int32_t)(c.n - i - 1);
                    break;
                }
    }
    struct oko_prog *prog = load(&c);
    compare(prog, &c, mem, 64, 1);
    oko_prog_unref(prog);
    free(c.insn);
}

/* Machine code is readable and executable, and no page of the process is writable as well. */
static void test_pages(void)
{
    struct code c = {0};
    MOV_I(&c, 0, 1);
    EXIT(&c);
    struct oko_prog *prog = load(&c);
    uint32_t size;
    const uint8_t *code = oko_prog_code(prog, &size);
    CHECK(code && size > 0, "no code");
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f, "/proc/self/maps");
    char line[512];
    bool found = false;
    while (fgets(line, sizeof(line), f)) {
        unsigned long long from, to;
        char perm[8];
        if (sscanf(line, "%llx-%llx %7s", &from, &to, perm) != 3)
            continue;
        CHECK(!(perm[1] == 'w' && perm[2] == 'x'), "writable and executable: %s", line);
        if ((uintptr_t)code >= from && (uintptr_t)code < to) {
            CHECK(!strncmp(perm, "r-x", 3), "code pages: %s", line);
            found = true;
        }
    }
    fclose(f);
    CHECK(found, "the code is in no mapping");
    oko_prog_unref(prog);
    free(c.insn);
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 0) : SEEDS;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    jit_skip = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 0) : 0;
    struct oko_vm_opts opts = {.n_workers = 1, .secret = 1};
    CHECK(!oko_vm_new(&opts, &vm), "vm");
    if (!(oko_features() & OKO_FEATURE_JIT)) {
        printf("test_jit: left out: this CPU has no JIT\n");
        oko_vm_free(vm);
        return 0;
    }
    struct guarded page;
    guarded_new(&page);
    test_pages();
    test_operations(page.page);
    test_large(page.page);
    test_early_end();
    test_deep_calls(page.page);
    test_random(first, seeds);
    jit_skip |= JIT_SKIP_BMI; /* as on a CPU without the newer instructions */
    test_operations(page.page);
    test_random(first, seeds / 4);
    guarded_free(&page);
    oko_vm_free(vm);
    printf("test_jit: ok, %llu random programs\n", (unsigned long long)seeds);
    return 0;
}
