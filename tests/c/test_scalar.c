/* The verifier's arithmetic on sets of numbers: an operation on sets contains the operation on
 * members. Four-bit sets are tried exhaustively, 64-bit ones at random with a fixed seed.
 *
 * The concrete operations below are written from RFC 9669, not from range.c. */
#include "bpf/verify/scalar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned n_failures;

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond) && n_failures++ < 20) {                                                        \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #cond);                                      \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
        }                                                                                          \
    } while (0)

/* ---------------------------------------------------------------- concrete operations */

enum { SDIV = 0x100, SMOD = 0x101 };
static const int ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, SDIV,    SMOD,
                          BPF_OR,  BPF_AND, BPF_XOR, BPF_LSH, BPF_RSH, BPF_ARSH};
enum { N_OPS = sizeof(ops) / sizeof(ops[0]) };

static int64_t sign(unsigned w, uint64_t x)
{
    uint64_t top = (uint64_t)1 << (w - 1);
    return (int64_t)((x ^ top) - top);
}

static uint64_t concrete(unsigned w, int op, uint64_t a, uint64_t b)
{
    uint64_t all = w == 64 ? UINT64_MAX : ((uint64_t)1 << w) - 1;
    int64_t sa = sign(w, a), sb = sign(w, b);
    unsigned n = (unsigned)(b & (w - 1));
    switch (op) {
    case BPF_ADD:
        return (a + b) & all;
    case BPF_SUB:
        return (a - b) & all;
    case BPF_MUL:
        return (a * b) & all;
    case BPF_DIV:
        return b == 0 ? 0 : a / b;
    case BPF_MOD:
        return b == 0 ? a : a % b;
    case SDIV:
        return b == 0 ? 0 : (sb == -1 ? -a : (uint64_t)(sa / sb)) & all;
    case SMOD:
        return b == 0 ? a : (sb == -1 ? 0 : (uint64_t)(sa % sb)) & all;
    case BPF_OR:
        return a | b;
    case BPF_AND:
        return a & b;
    case BPF_XOR:
        return a ^ b;
    case BPF_LSH:
        return a << n & all;
    case BPF_RSH:
        return a >> n;
    default: {
        uint64_t fill = sa < 0 && n > 0 ? all & ~(all >> n) : 0;
        return a >> n | fill;
    }
    }
}

static struct oko_range abstract(unsigned w, int op, struct oko_range a, struct oko_range b)
{
    switch (op) {
    case BPF_ADD:
        return oko_range_add(w, a, b);
    case BPF_SUB:
        return oko_range_sub(w, a, b);
    case BPF_MUL:
        return oko_range_mul(w, a, b);
    case BPF_DIV:
        return oko_range_div(w, a, b);
    case BPF_MOD:
        return oko_range_mod(w, a, b);
    case SDIV:
        return oko_range_sdiv(w, a, b);
    case SMOD:
        return oko_range_smod(w, a, b);
    case BPF_OR:
        return oko_range_or(w, a, b);
    case BPF_AND:
        return oko_range_and(w, a, b);
    case BPF_XOR:
        return oko_range_xor(w, a, b);
    case BPF_LSH:
        return oko_range_lsh(w, a, b);
    case BPF_RSH:
        return oko_range_rsh(w, a, b);
    default:
        return oko_range_arsh(w, a, b);
    }
}

static bool holds(unsigned w, enum oko_cmp cmp, uint64_t a, uint64_t b)
{
    int64_t sa = sign(w, a), sb = sign(w, b);
    switch (cmp) {
    case OKO_CMP_EQ:
        return a == b;
    case OKO_CMP_NE:
        return a != b;
    case OKO_CMP_LT:
        return a < b;
    case OKO_CMP_LE:
        return a <= b;
    case OKO_CMP_GT:
        return a > b;
    case OKO_CMP_GE:
        return a >= b;
    case OKO_CMP_SLT:
        return sa < sb;
    case OKO_CMP_SLE:
        return sa <= sb;
    case OKO_CMP_SGT:
        return sa > sb;
    case OKO_CMP_SGE:
        return sa >= sb;
    case OKO_CMP_SET:
        return (a & b) != 0;
    default:
        return (a & b) == 0;
    }
}

/* ---------------------------------------------------------------- four bits, all cases */

enum { W = 4, MAX_SETS = 400 };

struct set {
    struct oko_range range;
    uint8_t member[16];
    unsigned n;
};
static struct set sets[MAX_SETS];
static unsigned n_sets;

/* Adds the tidied range unless it is there already; its members are listed by its description
 * before tidying, so that a tidying that loses a member is seen. */
static void add_set(struct oko_range raw)
{
    struct set set = {.range = raw};
    for (unsigned x = 0; x < 16; x++)
        if (oko_range_has(W, &raw, x))
            set.member[set.n++] = (uint8_t)x;
    bool possible = oko_range_tidy(W, &set.range);
    CHECK(possible || set.n == 0, "tidying emptied a set with members");
    for (unsigned i = 0; i < set.n && possible; i++)
        CHECK(oko_range_has(W, &set.range, set.member[i]), "tidying lost %u", set.member[i]);
    if (set.n == 0)
        return;
    for (unsigned i = 0; i < n_sets; i++)
        if (oko_range_equal(&sets[i].range, &set.range))
            return;
    if (n_sets < MAX_SETS)
        sets[n_sets++] = set;
}

static void make_sets(void)
{
    struct oko_range all = oko_range_all(W);
    for (uint64_t lo = 0; lo < 16; lo++)
        for (uint64_t hi = lo; hi < 16; hi++) {
            struct oko_range r = all;
            r.umin = lo, r.umax = hi;
            add_set(r);
        }
    for (int lo = -8; lo < 8; lo++)
        for (int hi = lo; hi < 8; hi++) {
            struct oko_range r = all;
            r.smin = lo, r.smax = hi;
            add_set(r);
        }
    for (uint64_t mask = 0; mask < 16; mask++)
        for (uint64_t value = 0; value < 16; value++)
            if ((value & mask) == 0) {
                struct oko_range r = all;
                r.mask = mask, r.value = value;
                add_set(r);
            }
}

static void test_tidy_mixed(void)
{
    /* Descriptions that disagree, or that sharpen each other: no member may be lost. */
    for (uint64_t umin = 0; umin < 16; umin++)
        for (uint64_t umax = umin; umax < 16; umax++)
            for (int smin = -8; smin < 8; smin++)
                for (int smax = smin; smax < 8; smax++)
                    for (uint64_t mask = 0; mask < 16; mask += 3) {
                        struct oko_range raw = {5 & ~mask, mask, umin, umax, smin, smax};
                        struct oko_range tidy = raw;
                        bool possible = oko_range_tidy(W, &tidy);
                        for (unsigned x = 0; x < 16; x++)
                            CHECK(!oko_range_has(W, &raw, x) ||
                                      (possible && oko_range_has(W, &tidy, x)),
                                  "tidying lost %u", x);
                    }
}

static void test_small_operations(void)
{
    for (unsigned i = 0; i < n_sets; i++)
        for (unsigned j = 0; j < n_sets; j++)
            for (unsigned k = 0; k < N_OPS; k++) {
                const struct set *a = &sets[i], *b = &sets[j];
                struct oko_range r = abstract(W, ops[k], a->range, b->range);
                for (unsigned x = 0; x < a->n; x++)
                    for (unsigned y = 0; y < b->n; y++) {
                        uint64_t z = concrete(W, ops[k], a->member[x], b->member[y]);
                        CHECK(oko_range_has(W, &r, z), "op 0x%x of %u and %u gives %u", ops[k],
                              a->member[x], b->member[y], (unsigned)z);
                    }
                if (a->n == 1 && b->n == 1)
                    CHECK(oko_range_is_const(&r), "op 0x%x of constants is not constant", ops[k]);
            }
}

static void test_small_comparisons(void)
{
    for (unsigned i = 0; i < n_sets; i++)
        for (unsigned j = 0; j < n_sets; j++)
            for (int c = OKO_CMP_EQ; c <= OKO_CMP_CLEAR; c++) {
                const struct set *a = &sets[i], *b = &sets[j];
                enum oko_cmp cmp = (enum oko_cmp)c;
                struct oko_range ra = a->range, rb = b->range;
                bool possible = oko_range_assume(W, cmp, &ra, &rb);
                int decided = oko_range_decide(W, cmp, &a->range, &b->range);
                for (unsigned x = 0; x < a->n; x++)
                    for (unsigned y = 0; y < b->n; y++) {
                        bool is = holds(W, cmp, a->member[x], b->member[y]);
                        CHECK(decided == -1 || decided == (int)is, "decision on comparison %d", c);
                        CHECK(is == holds(W, oko_cmp_swap(cmp), b->member[y], a->member[x]),
                              "swapped comparison %d", c);
                        CHECK(is != holds(W, oko_cmp_negate(cmp), a->member[x], b->member[y]),
                              "negated comparison %d", c);
                        CHECK(!is || (possible && oko_range_has(W, &ra, a->member[x]) &&
                                      oko_range_has(W, &rb, b->member[y])),
                              "comparison %d lost %u, %u", c, a->member[x], b->member[y]);
                    }
            }
}

static void test_small_order(void)
{
    for (unsigned i = 0; i < n_sets; i++)
        for (unsigned j = 0; j < n_sets; j++) {
            const struct set *a = &sets[i], *b = &sets[j];
            struct oko_range join = oko_range_join(W, a->range, b->range), meet = a->range;
            bool possible = oko_range_meet(W, &meet, &b->range);
            for (unsigned x = 0; x < 16; x++) {
                bool in_a = oko_range_has(W, &a->range, x), in_b = oko_range_has(W, &b->range, x);
                CHECK(!(in_a || in_b) || oko_range_has(W, &join, x), "join lost %u", x);
                CHECK(!(in_a && in_b) || (possible && oko_range_has(W, &meet, x)), "meet lost %u",
                      x);
                CHECK(!oko_range_within(&a->range, &b->range) || !in_a || in_b,
                      "within although %u is not", x);
            }
            CHECK(oko_range_within(&a->range, &join), "join does not contain its part");
        }
}

static void test_small_widths(void)
{
    for (unsigned i = 0; i < n_sets; i++) {
        const struct set *a = &sets[i];
        struct oko_range cut = oko_range_trunc(W, 2, a->range);
        struct oko_range zext = oko_range_zext(W, 8, a->range);
        struct oko_range sext = oko_range_sext(W, 8, a->range);
        for (unsigned x = 0; x < a->n; x++) {
            CHECK(oko_range_has(2, &cut, a->member[x] & 3), "truncation");
            CHECK(oko_range_has(8, &zext, a->member[x]), "zero-extension");
            CHECK(oko_range_has(8, &sext, (uint64_t)sign(W, a->member[x]) & 255), "sign-extension");
        }
    }
}

/* ---------------------------------------------------------------- 64 bits, at random */

static uint64_t state = 0x9e3779b97f4a7c15;

static uint64_t random64(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Numbers near the places where arithmetic is delicate. */
static uint64_t random_number(void)
{
    uint64_t near = (random64() & 7) - 3;
    switch (random64() % 6) {
    case 0:
        return near;
    case 1:
        return ((uint64_t)1 << (random64() & 63)) + near;
    case 2:
        return (uint64_t)INT64_MIN + near;
    case 3:
        return (random64() & UINT32_MAX) + near;
    case 4:
        return (uint64_t)(int64_t)(int32_t)random64();
    default:
        return random64() >> (random64() & 63);
    }
}

enum { N_MEMBERS = 4 };

/* A set as programs make them: the hull of a few numbers, perhaps narrowed by a comparison. */
static struct oko_scalar random_scalar(uint64_t member[N_MEMBERS])
{
    uint64_t base = random_number();
    unsigned spread = (unsigned)(random64() & 63);
    struct oko_scalar s = {0};
    for (int i = 0; i < N_MEMBERS; i++) {
        member[i] = i == 0                  ? base
                    : random64() % 4 == 0   ? base
                    : (random64() & 1) != 0 ? base + (random64() >> spread)
                                            : random_number();
        struct oko_scalar one = oko_scalar_const(member[i]);
        s = i == 0 ? one : oko_scalar_join(s, one);
    }
    return s;
}

static void test_operations(void)
{
    for (int round = 0; round < 60000; round++) {
        uint64_t ma[N_MEMBERS], mb[N_MEMBERS];
        struct oko_scalar a = random_scalar(ma), b = random_scalar(mb);
        int op = ops[random64() % N_OPS];
        bool is64 = (random64() & 1) != 0;
        bool is_signed = op == SDIV || op == SMOD;
        uint8_t code = op == SDIV ? BPF_DIV : op == SMOD ? BPF_MOD : (uint8_t)op;
        struct oko_scalar r = oko_scalar_alu(code, is64, is_signed, &a, &b);
        for (int i = 0; i < N_MEMBERS; i++)
            for (int j = 0; j < N_MEMBERS; j++) {
                uint64_t z = is64 ? concrete(64, op, ma[i], mb[j])
                                  : concrete(32, op, ma[i] & UINT32_MAX, mb[j] & UINT32_MAX);
                CHECK(oko_scalar_has(&r, z), "op 0x%x (%d bits) of %llx and %llx gives %llx", op,
                      is64 ? 64 : 32, (unsigned long long)ma[i], (unsigned long long)mb[j],
                      (unsigned long long)z);
            }
    }
}

static void test_unary(void)
{
    static const unsigned widths[] = {8, 16, 32};
    for (int round = 0; round < 30000; round++) {
        uint64_t m[N_MEMBERS];
        struct oko_scalar a = random_scalar(m);
        unsigned bits = widths[random64() % 3];
        struct oko_scalar zext = oko_scalar_zext(bits, &a), sext = oko_scalar_sext(bits, true, &a);
        struct oko_scalar sext32 = oko_scalar_sext(bits, false, &a);
        struct oko_scalar neg = oko_scalar_neg(true, &a), neg32 = oko_scalar_neg(false, &a);
        struct oko_scalar swap16 = oko_scalar_swap(16, &a), swap32 = oko_scalar_swap(32, &a);
        struct oko_scalar swap64 = oko_scalar_swap(64, &a);
        for (int i = 0; i < N_MEMBERS; i++) {
            uint64_t x = m[i], cut = x & (((uint64_t)1 << bits) - 1);
            CHECK(oko_scalar_has(&zext, cut), "zero-extension");
            CHECK(oko_scalar_has(&sext, (uint64_t)sign(bits, cut)), "sign-extension");
            CHECK(oko_scalar_has(&sext32, (uint64_t)sign(bits, cut) & UINT32_MAX),
                  "sign-extension to 32 bits");
            CHECK(oko_scalar_has(&neg, 0 - x), "negation");
            CHECK(oko_scalar_has(&neg32, (0 - x) & UINT32_MAX), "negation of 32 bits");
            CHECK(oko_scalar_has(&swap16, __builtin_bswap16((uint16_t)x)), "swap of 16 bits");
            CHECK(oko_scalar_has(&swap32, __builtin_bswap32((uint32_t)x)), "swap of 32 bits");
            CHECK(oko_scalar_has(&swap64, __builtin_bswap64(x)), "swap of 64 bits");
        }
    }
}

static void test_comparisons(void)
{
    for (int round = 0; round < 60000; round++) {
        uint64_t ma[N_MEMBERS], mb[N_MEMBERS];
        struct oko_scalar a = random_scalar(ma), b = random_scalar(mb);
        enum oko_cmp cmp = (enum oko_cmp)(random64() % (OKO_CMP_CLEAR + 1));
        bool is64 = (random64() & 1) != 0;
        int decided = oko_scalar_decide(is64, cmp, &a, &b);
        struct oko_scalar ra = a, rb = b;
        bool possible = oko_scalar_assume(is64, cmp, &ra, &rb);
        for (int i = 0; i < N_MEMBERS; i++)
            for (int j = 0; j < N_MEMBERS; j++) {
                bool is = is64 ? holds(64, cmp, ma[i], mb[j])
                               : holds(32, cmp, ma[i] & UINT32_MAX, mb[j] & UINT32_MAX);
                CHECK(decided == -1 || decided == (int)is, "decision on comparison %d", cmp);
                CHECK(!is || (possible && oko_scalar_has(&ra, ma[i]) && oko_scalar_has(&rb, mb[j])),
                      "comparison %d (%d bits) of %llx and %llx", cmp, is64 ? 64 : 32,
                      (unsigned long long)ma[i], (unsigned long long)mb[j]);
            }
    }
}

/* ---------------------------------------------------------------- what programs rely on */

/* Sharpness where clang's idioms need it: soundness alone would be met by "anything". */
static void test_sharpness(void)
{
    struct oko_scalar byte = oko_scalar_unsigned(0, 255), four = oko_scalar_const(4);
    struct oko_scalar fifteen = oko_scalar_const(15), two = oko_scalar_const(2);
    struct oko_scalar nibble = oko_scalar_alu(BPF_AND, true, false, &byte, &fifteen);
    struct oko_scalar ihl = oko_scalar_alu(BPF_LSH, true, false, &nibble, &two);
    CHECK(ihl.full.umax == 60 && (ihl.full.mask & 3) == 0, "ihl up to %llu",
          (unsigned long long)ihl.full.umax);
    struct oko_scalar doff = oko_scalar_alu(BPF_RSH, false, false, &byte, &four);
    CHECK(doff.full.umax == 15, "data offset up to %llu", (unsigned long long)doff.full.umax);

    /* A 32-bit number extended by two shifts keeps bounds that only its lower half had. */
    struct oko_scalar x = oko_scalar_all(), limit = oko_scalar_const(100);
    struct oko_scalar shift = oko_scalar_const(32);
    CHECK(oko_scalar_assume(false, OKO_CMP_LT, &x, &limit), "possible");
    struct oko_scalar up = oko_scalar_alu(BPF_LSH, true, false, &x, &shift);
    struct oko_scalar down = oko_scalar_alu(BPF_RSH, true, false, &up, &shift);
    CHECK(down.full.umax == 99, "zero-extended up to %llu", (unsigned long long)down.full.umax);
    x = oko_scalar_all();
    struct oko_scalar minus = oko_scalar_const((uint64_t)-5);
    CHECK(oko_scalar_assume(false, OKO_CMP_SLT, &x, &limit), "possible");
    CHECK(oko_scalar_assume(false, OKO_CMP_SGE, &x, &minus), "possible");
    up = oko_scalar_alu(BPF_LSH, true, false, &x, &shift);
    down = oko_scalar_alu(BPF_ARSH, true, false, &up, &shift);
    CHECK(down.full.smin == -5 && down.full.smax == 99, "sign-extended");

    struct oko_scalar any = oko_scalar_all();
    struct oko_scalar rest = oko_scalar_alu(BPF_MOD, true, false, &any, &limit);
    CHECK(rest.full.umax == 99, "remainder up to %llu", (unsigned long long)rest.full.umax);
    struct oko_scalar zero = oko_scalar_const(0);
    CHECK(oko_scalar_decide(true, OKO_CMP_NE, &byte, &zero) == -1, "undecided");
    CHECK(oko_scalar_assume(true, OKO_CMP_NE, &byte, &zero) && byte.full.umin == 1, "not zero");
}

int main(void)
{
    make_sets();
    test_tidy_mixed();
    test_small_operations();
    test_small_comparisons();
    test_small_order();
    test_small_widths();
    test_operations();
    test_unary();
    test_comparisons();
    test_sharpness();
    printf("%u four-bit sets\n", n_sets);
    if (n_failures != 0)
        printf("%u checks failed\n", n_failures);
    return n_failures != 0;
}
