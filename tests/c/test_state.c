/* Abstract states against the concrete ones they stand for: arithmetic on registers, what branches
 * teach, inclusion, joins and widenings.
 *
 * The twin of a state is the list of all register contents that a small program can have made: a
 * few unknown numbers of few values each, then random arithmetic and comparisons carried out on
 * every one. A state must admit each of its twin's members; so must a join, of both its parts'; and
 * when one state lies within another, the other must admit its members. Membership is decided here
 * by solving for the ids, without any of the abstract operations. */
#include "bpf/verify/join.h"
#include "check.h"

#include <string.h>

enum { N = 5, MAX_MEMBERS = 600, N_VALUES = 5 }; /* registers r0 to r4 */

struct member {
    uint64_t r[N];
};

struct twin {
    struct oko_state st;
    struct member member[MAX_MEMBERS];
    uint32_t n;
};

static uint64_t seed = 7;
static uint32_t next_id;

static uint32_t draw(uint32_t below)
{
    return (uint32_t)(next_random(&seed) % below);
}

/* ---------------------------------------------------------------- membership */

struct solution {
    uint32_t id[64];
    int64_t value[64];
    uint32_t n;
};

static bool value_of(const struct solution *s, uint32_t id, int64_t *value)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->id[i] == id) {
            *value = s->value[i];
            return true;
        }
    return false;
}

/* Modulo 2^64; the term that has no value yet, or -1, or -2 when there are several. */
static int evaluate(const struct solution *s, const struct oko_form *f, uint64_t *sum)
{
    int open = -1;
    *sum = (uint64_t)f->c;
    for (uint32_t i = 0; i < f->n; i++) {
        int64_t value;
        if (value_of(s, f->id[i], &value))
            *sum += (uint64_t)f->coeff[i] * (uint64_t)value;
        else
            open = open == -1 ? (int)i : -2;
    }
    return open;
}

static oko_wide exact(const struct solution *s, const struct oko_form *f)
{
    oko_wide sum = f->c;
    for (uint32_t i = 0; i < f->n; i++) {
        int64_t value = 0;
        value_of(s, f->id[i], &value);
        sum += (oko_wide)f->coeff[i] * value;
    }
    return sum;
}

static bool admits(struct oko_state *st, const struct member *m, struct solution s);

/* Tries values for an id that no register tells. */
static bool guess(struct oko_state *st, const struct member *m, const struct solution *s)
{
    for (uint32_t i = 0; i < st->rel.n_bounds; i++) {
        const struct oko_bound *b = &st->rel.bound[i];
        int64_t value;
        if (value_of(s, b->id, &value))
            continue;
        struct solution more = *s;
        more.id[more.n++] = b->id;
        for (int64_t v = b->lo; v <= b->hi && v < b->lo + 64; v++) {
            more.value[more.n - 1] = v;
            if (admits(st, m, more))
                return true;
        }
        for (int64_t v = -8; v < 64; v++) { /* where numbers are, if the range is wide */
            more.value[more.n - 1] = v;
            if (v >= b->lo && v <= b->hi && admits(st, m, more))
                return true;
        }
        return false;
    }
    return true;
}

/* Whether values for the ids exist under which the registers hold these numbers. */
static bool admits(struct oko_state *st, const struct member *m, struct solution s)
{
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < N; i++) {
            const struct oko_reg *r = &st->frame[0].r[i];
            uint64_t sum;
            if (r->type == OKO_REG_UNSET)
                continue;
            if (r->type != OKO_REG_SCALAR || !oko_scalar_has(&r->s, m->r[i]))
                return false;
            int open = evaluate(&s, &r->f, &sum);
            if (open == -1 && sum != m->r[i])
                return false;
            if (open < 0)
                continue;
            int64_t rest = (int64_t)(m->r[i] - sum), k = r->f.coeff[open];
            if (k != 1 && k != -1 && rest % k != 0)
                continue; /* other numbers modulo 2^64 might do; guess() tries */
            s.id[s.n] = r->f.id[open];
            s.value[s.n++] = rest / k;
            again = true;
        }
    }
    if (s.n < st->rel.n_bounds)
        return guess(st, m, &s);
    for (uint32_t i = 0; i < st->rel.n_bounds; i++) {
        int64_t value = 0;
        value_of(&s, st->rel.bound[i].id, &value);
        if (value < st->rel.bound[i].lo || value > st->rel.bound[i].hi)
            return false;
    }
    for (uint32_t i = 0; i < st->rel.n_cons; i++)
        if (exact(&s, &st->rel.con[i]) > 0)
            return false;
    return true;
}

static bool admits_all(struct oko_state *st, const struct twin *of)
{
    for (uint32_t i = 0; i < of->n; i++)
        if (!admits(st, &of->member[i], (struct solution){.n = 0}))
            return false;
    return true;
}

/* ---------------------------------------------------------------- making states */

static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_ADD, BPF_MUL, BPF_AND,
                              BPF_OR,  BPF_LSH, BPF_RSH, BPF_MOV};

static uint64_t concrete(uint8_t op, bool is64, uint64_t a, uint64_t b)
{
    unsigned width = is64 ? 64 : 32;
    uint64_t all = is64 ? UINT64_MAX : UINT32_MAX, n = b & (width - 1);
    a &= all;
    b &= all;
    switch (op) {
    case BPF_ADD:
        return (a + b) & all;
    case BPF_SUB:
        return (a - b) & all;
    case BPF_MUL:
        return (a * b) & all;
    case BPF_AND:
        return a & b;
    case BPF_OR:
        return a | b;
    case BPF_LSH:
        return a << n & all;
    case BPF_RSH:
        return a >> n;
    default:
        return b;
    }
}

static bool holds(enum oko_cmp cmp, bool is64, uint64_t a, uint64_t b)
{
    int64_t sa = is64 ? (int64_t)a : (int32_t)a, sb = is64 ? (int64_t)b : (int32_t)b;
    a = is64 ? a : (uint32_t)a;
    b = is64 ? b : (uint32_t)b;
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
    default:
        return false;
    }
}

/* Every combination of up to N_VALUES values of r1, r2 and r3; r0 and r4 are 0. */
static void begin(struct twin *t)
{
    struct oko_reg *r = t->st.frame[0].r;
    t->st.n_frames = 1;
    t->st.n_pieces = t->st.n_ghosts = t->st.rel.n_bounds = t->st.rel.n_cons = 0;
    memset(&t->st.frame[0], 0, sizeof(t->st.frame[0]));
    uint32_t base[3], count[3];
    for (uint32_t i = 0; i < 3; i++) {
        base[i] = draw(12);
        count[i] = 1 + draw(N_VALUES);
        /* The first id made is the packet's length. */
        r[1 + i] = oko_reg_fresh(&t->st, oko_scalar_unsigned(base[i], base[i] + count[i] - 1));
    }
    r[0] = r[4] = oko_reg_const(0);
    t->n = 0;
    for (uint32_t a = 0; a < count[0]; a++)
        for (uint32_t b = 0; b < count[1]; b++)
            for (uint32_t c = 0; c < count[2]; c++)
                t->member[t->n++] = (struct member){{0, base[0] + a, base[1] + b, base[2] + c, 0}};
}

/* One instruction on the state and on all members; false: no member is left. */
static bool step(struct twin *t)
{
    struct oko_reg *r = t->st.frame[0].r;
    uint32_t dst = draw(N), src = draw(N);
    bool is64 = draw(4) != 0, by_reg = draw(2) != 0;
    uint64_t imm = draw(20) - (uint64_t)(draw(6) == 0 ? 10 : 0);
    struct oko_reg constant = oko_reg_const(is64 ? imm : (uint32_t)imm);
    if (draw(3) == 0) { /* a comparison; the way on which it holds */
        enum oko_cmp cmp = (enum oko_cmp)draw(10);
        uint32_t n = 0;
        for (uint32_t i = 0; i < t->n; i++)
            if (holds(cmp, is64, t->member[i].r[dst], by_reg ? t->member[i].r[src] : imm))
                t->member[n++] = t->member[i];
        t->n = n;
        bool possible = oko_state_assume(&t->st, is64, cmp, &r[dst], by_reg ? &r[src] : &constant);
        CHECK(possible || n == 0);
        return possible && n > 0;
    }
    uint8_t op = ops[draw(sizeof(ops))];
    if (op == BPF_MUL || op == BPF_LSH) { /* small, so that forms stay exact now and then */
        by_reg = false;
        imm = draw(4);
        constant = oko_reg_const(imm);
    }
    for (uint32_t i = 0; i < t->n; i++)
        t->member[i].r[dst] =
            concrete(op, is64, t->member[i].r[dst], by_reg ? t->member[i].r[src] : imm);
    struct oko_reg operand = by_reg ? r[src] : constant;
    if (op == BPF_MOV) {
        r[dst] = operand;
        if (!is64)
            oko_reg_zext(&t->st, 32, &r[dst]);
    } else {
        oko_reg_alu(&t->st, op, is64, false, &r[dst], &operand);
    }
    return true;
}

static bool make(struct twin *t, uint32_t n_steps)
{
    begin(t);
    for (uint32_t i = 0; i < n_steps; i++)
        if (!step(t))
            return false;
    return true;
}

/* ---------------------------------------------------------------- tests */

static struct twin one, two;
static struct oko_joiner joiner;
static const uint16_t live[OKO_MAX_FRAMES] = {(1u << N) - 1};

static void test_steps(void)
{
    for (int round = 0; round < 3000; round++) {
        next_id = OKO_ID_LEN;
        begin(&one);
        for (uint32_t i = 0; i < 8 && step(&one); i++)
            CHECK(admits_all(&one.st, &one));
    }
}

/* Two paths that begin with the same unknown numbers and part. */
static bool make_two(void)
{
    next_id = OKO_ID_LEN;
    if (!make(&one, draw(4)))
        return false;
    oko_state_copy(&two.st, &one.st);
    memcpy(two.member, one.member, sizeof(one.member));
    two.n = one.n;
    for (uint32_t i = 0, n = draw(4); i < n; i++)
        if (!step(&one))
            return false;
    for (uint32_t i = 0, n = draw(4); i < n; i++)
        if (!step(&two))
            return false;
    return true;
}

static void test_joins(void)
{
    struct oko_state joined;
    uint32_t n_sharp = 0, n_joins = 0;
    CHECK(oko_state_init(&joined, &next_id) == 0);
    for (int round = 0; round < 6000; round++) {
        if (!make_two())
            continue;
        enum oko_join_mode mode = (enum oko_join_mode)draw(OKO_WIDEN_MOST + 1);
        oko_state_join(&joiner, mode, &one.st, &two.st, live, &joined);
        CHECK(!joiner.no_memory && !joined.no_memory);
        CHECK(admits_all(&joined, &one));
        CHECK(admits_all(&joined, &two));
        n_joins++;
        for (uint32_t i = 0; i < N; i++)
            n_sharp += joined.frame[0].r[i].s.full.umax < UINT32_MAX;
        /* A join contains its parts for the walk too, or a loop would never settle. */
        if (mode == OKO_WIDEN_MOST)
            CHECK(oko_state_within(&joiner, &joined, &joined, live));
    }
    CHECK(n_joins > 2000);
    CHECK(n_sharp > 3 * n_joins); /* of five registers */
    oko_state_destroy(&joined);
}

static void test_inclusion(void)
{
    uint32_t n_within = 0;
    for (int round = 0; round < 20000; round++) {
        if (!make_two())
            continue;
        bool within = oko_state_within(&joiner, &one.st, &two.st, live);
        n_within += within;
        if (within)
            CHECK(admits_all(&one.st, &two));
    }
    CHECK(n_within > 1000);
}

/* x and x + 1 advance together, whatever the step: what a loop's invariant is made of. */
static void test_a_join_keeps_what_moves_together(int64_t step_size)
{
    struct oko_state joined;
    struct oko_reg *a = one.st.frame[0].r, *b = two.st.frame[0].r;
    CHECK(oko_state_init(&joined, &next_id) == 0);
    next_id = OKO_ID_LEN;
    begin(&one);
    oko_state_copy(&two.st, &one.st);
    for (uint32_t i = 0; i < N; i++) {
        a[i] = oko_reg_const(100 + i);
        b[i] = oko_reg_const(100 + i + (uint64_t)step_size);
    }
    oko_state_join(&joiner, OKO_JOIN, &one.st, &two.st, live, &joined);
    const struct oko_form *first = &joined.frame[0].r[0].f;
    CHECK(first->n == 1);
    for (uint32_t i = 1; i < N; i++) {
        struct oko_form distance;
        CHECK(oko_form_add_exact(&distance, &joined.frame[0].r[i].f, -1, first));
        CHECK(distance.n == 0 && distance.c == (int64_t)i);
    }
    oko_state_destroy(&joined);
}

/* Packing a state loses nothing. */
static void test_packing(void)
{
    for (int round = 0; round < 1000; round++) {
        if (!make_two())
            continue;
        struct oko_packed *packed = oko_state_pack(&one.st);
        CHECK(packed != NULL && oko_state_unpack(&two.st, packed));
        CHECK(admits_all(&two.st, &one));
        CHECK(two.st.rel.n_cons == one.st.rel.n_cons && two.st.rel.n_bounds == one.st.rel.n_bounds);
        for (uint32_t i = 0; i < N; i++)
            CHECK(oko_form_equal(&one.st.frame[0].r[i].f, &two.st.frame[0].r[i].f));
        free(packed);
    }
}

int main(void)
{
    CHECK(oko_state_init(&one.st, &next_id) == 0 && oko_state_init(&two.st, &next_id) == 0);
    test_steps();
    test_joins();
    test_inclusion();
    static const int64_t steps[] = {1, -1, 2, 4, 8, -8, 16};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        test_a_join_keeps_what_moves_together(steps[i]);
    test_packing();
    oko_state_destroy(&one.st);
    oko_state_destroy(&two.st);
    oko_joiner_destroy(&joiner);
    return 0;
}
