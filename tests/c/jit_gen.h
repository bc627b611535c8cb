/* Building blocks of the JIT's tests: an instruction buffer, a generator of random well-formed
 * programs, memory with guard pages, and running one program on every engine.
 *
 * The generator makes structured programs: straight code, forward branches over a block, counted
 * loops, calls of sub-functions. Any register may hold the memory pointer or a loop counter, chosen
 * per program, so that every operation meets every register. At the end all registers that do not
 * hold a stack address are mixed into r0; memory is compared too. */
#ifndef OKO_TESTS_JIT_GEN_H
#define OKO_TESTS_JIT_GEN_H

#include "bpf/insn.h"
#include "oko.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* ---------------------------------------------------------------- random numbers */

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r) /* splitmix64 */
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(rng_next(r) % n);
}

/* Values that sit on edges of widths and signs, among plain random ones. */
static inline uint64_t rng_value(struct rng *r)
{
    static const uint64_t edge[] = {0,
                                    1,
                                    2,
                                    0x7f,
                                    0x80,
                                    0xff,
                                    0x7fff,
                                    0x8000,
                                    0xffff,
                                    0x7fffffff,
                                    0x80000000,
                                    0xffffffff,
                                    0x100000000,
                                    0x7fffffffffffffff,
                                    0x8000000000000000,
                                    0xffffffff80000000,
                                    0xffffffffffffffff,
                                    0xfffffffffffffffe};
    uint32_t kind = rng_below(r, 8);
    if (kind < 4)
        return edge[rng_below(r, sizeof(edge) / sizeof(edge[0]))];
    uint64_t v = rng_next(r);
    return kind < 6 ? v : v >> rng_below(r, 64);
}

/* ---------------------------------------------------------------- instruction buffer */

struct code {
    struct oko_insn *insn;
    uint32_t n, room;
};

static inline uint32_t put(struct code *c, unsigned code, unsigned dst, unsigned src, int off,
                           int64_t imm)
{
    if (c->n == c->room) {
        c->room = c->room ? 2 * c->room : 256;
        c->insn = realloc(c->insn, c->room * sizeof(*c->insn));
        CHECK(c->insn, "out of memory");
    }
    c->insn[c->n] = (struct oko_insn){(uint8_t)code, (uint8_t)(dst | src << 4), (int16_t)off,
                                      (int32_t)(uint32_t)(uint64_t)imm};
    return c->n++;
}

static inline void put_imm64(struct code *c, unsigned dst, uint64_t v)
{
    put(c, BPF_LD | BPF_IMM | BPF_DW, dst, 0, 0, (int64_t)(uint32_t)v);
    put(c, 0, 0, 0, 0, (int64_t)(v >> 32));
}

#define MOV_I(c, dst, imm) put(c, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define MOV_R(c, dst, src) put(c, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define EXIT(c)            put(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

static inline void put_mix(struct code *c, unsigned acc, uint32_t regs)
{
    for (unsigned r = 0; r < 10; r++) {
        if (r == acc || !(regs & 1u << r))
            continue;
        put(c, BPF_ALU64 | BPF_MUL | BPF_K, acc, 0, 0, 0x01000193);
        put(c, BPF_ALU64 | BPF_XOR | BPF_X, acc, r, 0, 0);
    }
}

/* ---------------------------------------------------------------- memory with guard pages */

enum { MEM_SIZE = 256, BUF_PAGE = 4096 };

/* size bytes that end at an unmapped page; another one lies before the buffer's page. */
struct guarded {
    uint8_t *map;
    uint8_t *page;
};

static inline void guarded_new(struct guarded *g)
{
    g->map = mmap(NULL, 3 * BUF_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(g->map != MAP_FAILED, "mmap");
    g->page = g->map + BUF_PAGE;
    CHECK(!mprotect(g->page, BUF_PAGE, PROT_READ | PROT_WRITE), "mprotect");
}

static inline uint8_t *guarded_tail(const struct guarded *g, size_t size)
{
    return g->page + BUF_PAGE - size;
}

static inline uint8_t *guarded_head(const struct guarded *g)
{
    return g->page;
}

static inline void guarded_free(struct guarded *g)
{
    munmap(g->map, 3 * BUF_PAGE);
}

/* ---------------------------------------------------------------- the generator */

enum { GEN_STACK = 64, GEN_MAX_FUNCS = 4 };

struct gen {
    struct code c;
    struct rng r;
    uint32_t free_regs; /* registers random code may write */
    unsigned mem;       /* holds the memory pointer */
    unsigned fp;        /* 10, or a copy of it */
    bool abs;           /* may use legacy packet loads */
    bool subs;          /* may call */
    bool shares;        /* sub-functions may go on in the middle of later ones */
    uint32_t calls[64]; /* call sites to patch */
    uint32_t n_calls;
};

static inline unsigned gen_reg(struct gen *g)
{
    unsigned r;
    do
        r = rng_below(&g->r, 10);
    while (!(g->free_regs & 1u << r));
    return r;
}

static inline int32_t gen_imm(struct gen *g)
{
    return (int32_t)(uint32_t)rng_value(&g->r);
}

static inline void gen_memory(struct gen *g)
{
    static const uint8_t sizes[4] = {BPF_B, BPF_H, BPF_W, BPF_DW};
    struct rng *r = &g->r;
    uint32_t lg = rng_below(r, 4);
    int width = 1 << lg;
    bool stack = rng_below(r, 2);
    unsigned base = stack ? (rng_below(r, 2) ? 10 : g->fp) : g->mem;
    int off = stack ? -(int)rng_below(r, GEN_STACK - 8) - 8
                    : (int)rng_below(r, (uint32_t)(MEM_SIZE - width));
    unsigned size = sizes[lg];
    switch (rng_below(r, 8)) {
    case 0:
    case 1:
        put(&g->c, BPF_LDX | BPF_MEM | size, gen_reg(g), base, off, 0);
        break;
    case 2:
        if (lg == 3)
            lg = 2;
        put(&g->c, BPF_LDX | BPF_MEMSX | sizes[lg], gen_reg(g), base, off, 0);
        break;
    case 3:
        put(&g->c, BPF_ST | BPF_MEM | size, base, 0, off, gen_imm(g));
        break;
    case 4:
    case 5:
        put(&g->c, BPF_STX | BPF_MEM | size, base, gen_reg(g), off, 0);
        break;
    default: {
        static const int32_t ops[] = {BPF_ADD,
                                      BPF_OR,
                                      BPF_AND,
                                      BPF_XOR,
                                      BPF_ADD | BPF_FETCH,
                                      BPF_OR | BPF_FETCH,
                                      BPF_AND | BPF_FETCH,
                                      BPF_XOR | BPF_FETCH,
                                      BPF_XCHG,
                                      BPF_CMPXCHG};
        size = rng_below(r, 2) ? BPF_DW : BPF_W;
        off &= ~7;
        int32_t op = ops[rng_below(r, 10)];
        if (op == BPF_CMPXCHG && !(g->free_regs & 1))
            op = BPF_XCHG;
        put(&g->c, BPF_STX | BPF_ATOMIC | size, base, gen_reg(g), off, op);
    }
    }
}

static inline void gen_alu(struct gen *g)
{
    static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,  BPF_LSH,
                                  BPF_RSH, BPF_NEG, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH, BPF_END};
    struct rng *r = &g->r;
    unsigned op = ops[rng_below(r, sizeof(ops))];
    bool w = rng_below(r, 2), by_reg = rng_below(r, 2);
    unsigned cls = w ? BPF_ALU64 : BPF_ALU;
    unsigned dst = gen_reg(g), src = by_reg ? gen_reg(g) : 0;
    int off = 0;
    int32_t imm = by_reg ? 0 : gen_imm(g);
    switch (op) {
    case BPF_DIV:
    case BPF_MOD:
        off = (int)rng_below(r, 2);
        break;
    case BPF_LSH:
    case BPF_RSH:
    case BPF_ARSH:
        if (!by_reg)
            imm = (int32_t)rng_below(r, w ? 64 : 32);
        break;
    case BPF_NEG:
        by_reg = false;
        src = 0;
        imm = 0;
        break;
    case BPF_MOV:
        if (by_reg) {
            static const uint8_t widths[4] = {0, 8, 16, 32};
            off = widths[rng_below(r, w ? 4 : 3)];
        }
        break;
    case BPF_END:
        imm = 16 << rng_below(r, 3);
        src = 0;
        if (w)
            by_reg = false;
        break;
    }
    put(&g->c, cls | op | (by_reg ? BPF_X : BPF_K), dst, src, off, imm);
}

/* Two different free registers. */
static inline bool gen_pair(struct gen *g, unsigned *x, unsigned *y)
{
    if (!(g->free_regs & (g->free_regs - 1)))
        return false;
    *x = gen_reg(g);
    do
        *y = gen_reg(g);
    while (*y == *x);
    return true;
}

static inline unsigned gen_jump(struct gen *g, bool by_reg)
{
    static const uint8_t jumps[] = {BPF_JEQ,  BPF_JNE,  BPF_JGT,  BPF_JGE,  BPF_JLT, BPF_JLE,
                                    BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE, BPF_JSET};
    return (rng_below(&g->r, 2) ? BPF_JMP : BPF_JMP32) | jumps[rng_below(&g->r, sizeof(jumps))] |
           (by_reg ? BPF_X : 0u);
}

/* What compilers make of rotations, selections, array indices, counters, tests of flags: the
 * shapes that an optimising JIT looks for, with registers and order varied. */
static inline void gen_idiom(struct gen *g)
{
    static const uint8_t sizes[4] = {BPF_B, BPF_H, BPF_W, BPF_DW};
    struct rng *r = &g->r;
    struct code *c = &g->c;
    unsigned x, y;
    if (!gen_pair(g, &x, &y))
        return;
    bool w = rng_below(r, 2), flip = rng_below(r, 2);
    unsigned alu = w ? BPF_ALU64 : BPF_ALU;
    int32_t small = (int32_t)rng_below(r, 16), n = 1 + (int32_t)rng_below(r, w ? 63 : 31);
    uint32_t lg = rng_below(r, 4);
    switch (rng_below(r, 16)) {
    case 0: /* rotation */
        put(c, alu | BPF_MOV | BPF_X, x, y, 0, 0);
        put(c, alu | (flip ? BPF_LSH : BPF_RSH), x, 0, 0, n);
        if (rng_below(r, 4) == 0)
            gen_alu(g);
        put(c, alu | (flip ? BPF_RSH : BPF_LSH), y, 0, 0, (w ? 64 : 32) - n);
        if (rng_below(r, 2))
            put(c, alu | BPF_OR | BPF_X, x, y, 0, 0);
        else
            put(c, alu | BPF_OR | BPF_X, y, x, 0, 0);
        if (rng_below(r, 2))
            MOV_I(c, rng_below(r, 2) ? x : y, small);
        break;
    case 1: { /* rotation of a product */
        int32_t k = gen_imm(g);
        put(c, alu | BPF_MOV | BPF_X, x, y, 0, 0);
        put(c, alu | BPF_MUL | BPF_K, flip ? x : y, 0, 0, (int64_t)((uint64_t)(int64_t)k << n));
        put(c, alu | BPF_MUL | BPF_K, flip ? y : x, 0, 0, k);
        put(c, alu | BPF_RSH | BPF_K, flip ? y : x, 0, 0, (w ? 64 : 32) - n);
        put(c, alu | BPF_OR | BPF_X, flip ? y : x, flip ? x : y, 0, 0);
        if (rng_below(r, 4))
            MOV_I(c, flip ? x : y, small);
        break;
    }
    case 2: /* array index */
    case 3:
        put(c, BPF_ALU64 | BPF_AND | BPF_K, y, 0, 0, 15);
        if (rng_below(r, 2))
            put(c, BPF_ALU64 | BPF_LSH | BPF_K, y, 0, 0, rng_below(r, 4));
        MOV_R(c, x, g->mem);
        if (rng_below(r, 2))
            put(c, BPF_ALU64 | BPF_ADD | BPF_K, x, 0, 0, small);
        put(c, BPF_ALU64 | BPF_ADD | BPF_X, x, y, 0, 0);
        for (uint32_t i = 1 + rng_below(r, 3); i > 0; i--) {
            if (rng_below(r, 3) == 0)
                put(c, BPF_STX | BPF_MEM | sizes[lg], x, rng_below(r, 2) ? y : gen_reg(g),
                    (int)rng_below(r, 64), 0);
            else
                put(c, BPF_LDX | BPF_MEM | sizes[lg],
                    i > 1 && rng_below(r, 2) ? y : (i > 1 ? y : x), x, (int)rng_below(r, 64), 0);
        }
        break;
    case 4: /* the same on the stack; the address must not be seen */
        MOV_R(c, x, 10);
        put(c, BPF_ALU64 | BPF_ADD | BPF_K, x, 0, 0, -32);
        put(c, BPF_ALU64 | BPF_AND | BPF_K, y, 0, 0, 7);
        if (flip)
            put(c, BPF_ALU64 | BPF_ADD | BPF_X, x, y, 0, 0);
        put(c, BPF_STX | BPF_MEM | sizes[lg], x, y, 4, 0);
        put(c, BPF_LDX | BPF_MEM | sizes[rng_below(r, 4)], flip ? x : y, x, 3, 0);
        MOV_I(c, x, small);
        break;
    case 5: /* selection */
    case 6: {
        bool by_reg = rng_below(r, 2);
        put(c, alu | BPF_MOV | (flip ? BPF_X : BPF_K), x, flip ? y : 0, 0, flip ? 0 : small);
        put(c, gen_jump(g, by_reg), gen_reg(g), by_reg ? gen_reg(g) : 0, 1,
            by_reg ? 0 : gen_imm(g));
        if (rng_below(r, 2))
            put(c, alu | BPF_MOV | BPF_K, x, 0, 0, gen_imm(g));
        else
            put(c, alu | BPF_MOV | BPF_X, x, gen_reg(g), 0, 0);
        break;
    }
    case 7: /* flags */
        put(c, alu | BPF_MOV | BPF_X, x, y, 0, 0);
        if (rng_below(r, 2))
            put(c, BPF_LDX | BPF_MEM | sizes[lg], x, g->mem, small, 0);
        put(c, alu | BPF_AND | BPF_K, x, 0, 0, gen_imm(g));
        put(c, (rng_below(r, 2) ? BPF_JMP : BPF_JMP32) | (flip ? BPF_JEQ : BPF_JNE), x, 0, 1, 0);
        put(c, alu | BPF_ADD | BPF_K, y, 0, 0, 77);
        MOV_I(c, x, small);
        break;
    case 8: { /* a loaded value compared */
        bool by_reg = rng_below(r, 3) == 0;
        put(c, BPF_LDX | BPF_MEM | sizes[lg], x, g->mem, (int)rng_below(r, 200), 0);
        put(c, gen_jump(g, by_reg), flip && by_reg ? y : x, by_reg ? (flip ? x : y) : 0, 1,
            by_reg            ? 0
            : rng_below(r, 2) ? small * 9
                              : gen_imm(g));
        put(c, alu | BPF_ADD | BPF_K, y, 0, 0, 99);
        if (rng_below(r, 4))
            MOV_I(c, x, small);
        break;
    }
    case 9: { /* counter in memory */
        int off = (int)rng_below(r, 200);
        static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_OR, BPF_AND, BPF_XOR};
        put(c, BPF_LDX | BPF_MEM | sizes[lg], x, g->mem, off, 0);
        put(c, alu | ops[rng_below(r, 5)] | (flip ? BPF_X : BPF_K), x, flip ? y : 0, 0,
            flip ? 0 : gen_imm(g));
        put(c, BPF_STX | BPF_MEM | sizes[rng_below(r, 4) ? lg : 0], g->mem, x, off, 0);
        if (rng_below(r, 2))
            MOV_I(c, x, small);
        break;
    }
    case 10: /* sub-registers before v3 */
        put(c, BPF_ALU64 | BPF_LSH | BPF_K, x, 0, 0, 32);
        put(c, BPF_ALU64 | (flip ? BPF_RSH : BPF_ARSH) | BPF_K, x, 0, 0, 32);
        put(c, BPF_ALU64 | BPF_AND | BPF_K, y, 0, 0, flip ? 0xff : 0xffff);
        put(c, BPF_ALU64 | BPF_ADD | BPF_X, x, y, 0, 0);
        break;
    case 11: /* constant operands */
        MOV_I(c, x, rng_below(r, 2) ? small : gen_imm(g));
        for (int i = 0; i < 2; i++) {
            static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,
                                          BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR, BPF_ARSH};
            unsigned op = ops[rng_below(r, sizeof(ops))];
            put(c, alu | op | BPF_X, flip ? y : x, flip ? x : y, 0, 0);
        }
        break;
    case 12: /* a big-endian field */
        if (lg < 1 || lg > 2)
            lg = 1;
        put(c, BPF_LDX | BPF_MEM | sizes[lg], x, g->mem, (int)rng_below(r, 200), 0);
        put(c, BPF_ALU | BPF_END | BPF_X, x, 0, 0, 8 << lg);
        put(c, gen_jump(g, false), x, 0, 1, (int64_t)rng_below(r, 70000));
        put(c, alu | BPF_ADD | BPF_K, y, 0, 0, 99);
        if (flip)
            MOV_I(c, x, small);
        break;
    case 13: { /* the same comparison again, with others, a write or nothing in between */
        unsigned jump = gen_jump(g, flip), again = rng_below(r, 4) ? jump : gen_jump(g, flip);
        int32_t imm = flip ? 0 : rng_below(r, 2) ? small : gen_imm(g);
        uint32_t out[3], n_out = 0;
        unsigned z = gen_reg(g);
        out[n_out++] = put(c, jump, x, flip ? y : 0, 0, imm);
        if (rng_below(r, 2) && z != x && z != y) { /* of a loaded value */
            put(c, BPF_LDX | BPF_MEM | sizes[lg], z, g->mem, small, 0);
            out[n_out++] = put(c, gen_jump(g, false), z, 0, 0, gen_imm(g));
            MOV_I(c, z, small + 1);
        } else if (rng_below(r, 2)) {
            MOV_R(c, rng_below(r, 2) ? x : y, z);
        }
        out[n_out++] = put(c, again, x, flip ? y : 0, 0, imm);
        put(c, alu | BPF_ADD | BPF_K, x, 0, 0, 1000 + small);
        for (uint32_t i = 0; i < n_out; i++)
            c->insn[out[i]].off = (int16_t)(c->n - out[i] - 1);
        MOV_I(c, z, small + 2);
        break;
    }
    case 14: { /* a difference into the register of its subtrahend */
        unsigned z = gen_reg(g);
        if (z == x || z == y)
            break;
        MOV_R(c, x, y);
        put(c, alu | BPF_SUB | BPF_X, x, z, 0, 0);
        MOV_R(c, z, x);
        MOV_I(c, x, small);
        break;
    }
    default: /* an unaligned field, byte by byte */
        if (x == g->mem || y == g->mem)
            break;
        put(c, BPF_LDX | BPF_MEM | BPF_B, x, g->mem, flip ? 9 : 8, 0);
        put(c, BPF_LDX | BPF_MEM | BPF_B, y, g->mem, flip ? 8 : 9, 0);
        put(c, alu | BPF_LSH | BPF_K, flip ? x : y, 0, 0, 8);
        put(c, alu | BPF_OR | BPF_X, x, y, 0, 0);
        if (rng_below(r, 2))
            MOV_I(c, y, small);
        break;
    }
}

/* Leaves in the middle with a constant. */
static inline void gen_leave(struct gen *g)
{
    if (!(g->free_regs & 1))
        return;
    bool by_reg = rng_below(&g->r, 2);
    uint32_t at = put(&g->c, gen_jump(g, by_reg), gen_reg(g), by_reg ? gen_reg(g) : 0, 2,
                      by_reg ? 0 : gen_imm(g));
    (void)at;
    MOV_I(&g->c, 0, rng_below(&g->r, 3));
    EXIT(&g->c);
}

static inline void gen_straight(struct gen *g)
{
    struct rng *r = &g->r;
    uint32_t kind = rng_below(r, 45);
    if (kind >= 33 && g->mem != 10) {
        gen_idiom(g);
    } else if (kind == 32 && rng_below(r, 8) == 0) {
        gen_leave(g);
    } else if (kind < 18) {
        gen_alu(g);
    } else if (kind < 29) {
        gen_memory(g);
    } else if (kind == 29) {
        put_imm64(&g->c, gen_reg(g), rng_value(r));
    } else if (kind == 30 && g->abs && (g->free_regs & 1)) {
        static const uint8_t sizes[3] = {BPF_B, BPF_H, BPF_W};
        int32_t imm = (int32_t)rng_below(r, rng_below(r, 8) ? MEM_SIZE - 4 : MEM_SIZE + 64);
        put(&g->c, BPF_LD | BPF_ABS | sizes[rng_below(r, 3)], 0, 0, 0, imm);
        /* what the load may clobber */
        for (unsigned reg = 1; reg <= 5; reg++)
            if (g->free_regs & 1u << reg)
                MOV_I(&g->c, reg, gen_imm(g));
    } else if (kind == 31 && g->subs && g->n_calls < 64 && (g->free_regs & 0x3f) == 0x3f) {
        g->calls[g->n_calls++] = put(&g->c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 0);
        for (unsigned reg = 1; reg <= 5; reg++)
            MOV_I(&g->c, reg, gen_imm(g));
    } else {
        gen_alu(g);
    }
}

static inline void gen_block(struct gen *g, uint32_t n, int depth)
{
    struct rng *r = &g->r;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t kind = depth > 0 ? rng_below(r, 10) : 9;
        if (kind < 3) { /* jump over a block; now and then with an else */
            bool by_reg = rng_below(r, 2);
            uint32_t at = put(&g->c, gen_jump(g, by_reg), gen_reg(g), by_reg ? gen_reg(g) : 0, 0,
                              by_reg ? 0 : gen_imm(g));
            gen_block(g, 1 + rng_below(r, 4), depth - 1);
            if (rng_below(r, 2)) {
                bool gotol = rng_below(r, 2);
                uint32_t over = put(&g->c, (gotol ? BPF_JMP32 : BPF_JMP) | BPF_JA, 0, 0, 0, 0);
                g->c.insn[at].off = (int16_t)(g->c.n - at - 1);
                gen_block(g, 1 + rng_below(r, 4), depth - 1);
                if (gotol)
                    g->c.insn[over].imm = (int32_t)(g->c.n - over - 1);
                else
                    g->c.insn[over].off = (int16_t)(g->c.n - over - 1);
            } else {
                g->c.insn[at].off = (int16_t)(g->c.n - at - 1);
            }
        } else if (kind == 3 && depth > 1) { /* a loop on a counter nobody else writes */
            unsigned counter = gen_reg(g);
            uint32_t others = g->free_regs & ~(1u << counter);
            if (!(others & (others - 1)))
                continue;
            uint32_t was = g->free_regs;
            MOV_I(&g->c, counter, 1 + (int32_t)rng_below(r, 5));
            g->free_regs = others;
            uint32_t top = g->c.n;
            bool calls = g->subs;
            g->subs = false; /* a call would destroy r0-r5 */
            gen_block(g, 1 + rng_below(r, 4), depth - 2);
            g->subs = calls;
            put(&g->c, BPF_ALU64 | BPF_SUB | BPF_K, counter, 0, 0, 1);
            uint32_t at = put(&g->c, BPF_JMP | BPF_JNE | BPF_K, counter, 0, 0, 0);
            g->c.insn[at].off = (int16_t)((int)top - (int)at - 1);
            g->free_regs = was;
        } else {
            gen_straight(g);
        }
    }
}

/* Gives every free register a value and the stack contents. */
static inline void gen_fill(struct gen *g, bool keep_args)
{
    for (unsigned reg = 0; reg < 10; reg++) {
        if (!(g->free_regs & 1u << reg) || (keep_args && reg >= 1 && reg <= 5))
            continue;
        if (rng_below(&g->r, 2))
            put_imm64(&g->c, reg, rng_value(&g->r));
        else
            MOV_I(&g->c, reg, gen_imm(g));
    }
    for (int off = 8; off <= GEN_STACK; off += 8)
        put(&g->c, BPF_ST | BPF_MEM | BPF_DW, 10, 0, -off, gen_imm(g));
}

/* A whole program: r1 = memory of MEM_SIZE bytes. */
static inline void gen_program(struct gen *g, uint64_t seed, uint32_t size, bool abs)
{
    g->c.n = 0;
    g->r.state = seed;
    g->n_calls = 0;
    g->abs = abs;
    bool with_subs = rng_below(&g->r, 3) == 0;
    g->mem = with_subs ? 6 + rng_below(&g->r, 4) : rng_below(&g->r, 10);
    if (g->mem != 1)
        MOV_R(&g->c, g->mem, 1);
    g->fp = 10;
    g->free_regs = 0x3ff & ~(1u << g->mem);
    if (rng_below(&g->r, 2)) {
        do
            g->fp = with_subs ? 6 + rng_below(&g->r, 4) : rng_below(&g->r, 10);
        while (g->fp == g->mem);
        MOV_R(&g->c, g->fp, 10);
        g->free_regs &= ~(1u << g->fp);
    }
    g->subs = with_subs;
    gen_fill(g, false);
    gen_block(g, size, 4);
    uint32_t known = g->free_regs | 1u << g->mem;
    if (!(g->free_regs & 1)) { /* r0 holds a pointer: the memory pointer may be mixed in */
        known |= g->mem == 0 ? 1u : 0u;
        if (g->mem != 0)
            MOV_I(&g->c, 0, 0);
    }
    put_mix(&g->c, 0, known);
    switch (rng_below(&g->r, 4)) { /* results that often are 0 or 1, reached in several ways */
    case 0:
        put(&g->c, BPF_ALU64 | BPF_AND | BPF_K, 0, 0, 0, 1);
        break;
    case 1:
        if (g->free_regs & 0x3fe) {
            unsigned other = 1;
            while (!(g->free_regs & 1u << other))
                other++;
            MOV_R(&g->c, other, 0);
            MOV_I(&g->c, 0, rng_below(&g->r, 2));
            put(&g->c, gen_jump(g, false), other, 0, 1, gen_imm(g));
            MOV_I(&g->c, 0, rng_below(&g->r, 3));
        }
        break;
    }
    EXIT(&g->c);

    uint32_t n_main_calls = g->n_calls;
    uint32_t starts[GEN_MAX_FUNCS], bodies[GEN_MAX_FUNCS], leaves[GEN_MAX_FUNCS];
    uint32_t n_subs = n_main_calls ? 1 + rng_below(&g->r, GEN_MAX_FUNCS) : 0;
    /* Later ones first in the call graph: function f may call those after it. */
    for (uint32_t f = 0; f < n_subs; f++) {
        starts[f] = g->c.n;
        g->free_regs = 0x3ff;
        g->subs = f + 1 < n_subs;
        g->fp = 10;
        g->mem = 10; /* no memory but the stack */
        gen_fill(g, true);
        bodies[f] = g->c.n;
        /* gen_memory takes the memory pointer for MEM_SIZE bytes: restrict to the stack */
        for (uint32_t i = 0; i < size / 2; i++)
            if (rng_below(&g->r, 8) == 0 && g->subs && g->n_calls < 64) {
                g->calls[g->n_calls++] = put(&g->c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 0);
                for (unsigned reg = 1; reg <= 5; reg++)
                    MOV_I(&g->c, reg, gen_imm(g));
            } else {
                gen_alu(g);
            }
        leaves[f] = g->c.n;
        if (g->shares && f + 1 < n_subs && rng_below(&g->r, 4))
            put(&g->c, rng_below(&g->r, 2) ? BPF_JMP | BPF_JA : gen_jump(g, false), 0, 0, 0, 0);
        put_mix(&g->c, 0, 0x3ff);
        EXIT(&g->c);
    }
    for (uint32_t f = 0; g->shares && f + 1 < n_subs; f++) { /* all registers have values there */
        uint32_t into = f + 1 + rng_below(&g->r, n_subs - f - 1), at = leaves[f];
        if ((g->c.insn[at].code & 7) != BPF_JMP && (g->c.insn[at].code & 7) != BPF_JMP32)
            continue;
        uint32_t to = bodies[into] + rng_below(&g->r, leaves[into] - bodies[into] + 1);
        g->c.insn[at].off = (int16_t)(to - at - 1);
    }
    for (uint32_t i = 0; i < g->n_calls; i++) {
        uint32_t at = g->calls[i], lowest = 0;
        while (lowest < n_subs && starts[lowest] <= at)
            lowest++;
        uint32_t target = starts[lowest + rng_below(&g->r, n_subs - lowest)];
        g->c.insn[at].imm = (int32_t)target - (int32_t)at - 1;
    }
}

#endif
