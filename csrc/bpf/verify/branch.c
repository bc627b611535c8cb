/* Conditional jumps: which ways are possible, and what each teaches; see walk.h. */
#include "walk.h"

static enum oko_cmp cmp_of(uint8_t op)
{
    switch (op) {
    case BPF_JEQ:
        return OKO_CMP_EQ;
    case BPF_JNE:
        return OKO_CMP_NE;
    case BPF_JGT:
        return OKO_CMP_GT;
    case BPF_JGE:
        return OKO_CMP_GE;
    case BPF_JLT:
        return OKO_CMP_LT;
    case BPF_JLE:
        return OKO_CMP_LE;
    case BPF_JSGT:
        return OKO_CMP_SGT;
    case BPF_JSGE:
        return OKO_CMP_SGE;
    case BPF_JSLT:
        return OKO_CMP_SLT;
    case BPF_JSLE:
        return OKO_CMP_SLE;
    default:
        return OKO_CMP_SET;
    }
}

static bool is_zero(const struct oko_reg *r)
{
    return r->type == OKO_REG_SCALAR && oko_scalar_is_const(&r->s) && r->s.full.umin == 0;
}

static const char *const compare_hint =
    "compare addresses only within one object, or with NULL after a map lookup";

/* Whether the address cannot be 0. One with any number added to it could be, if somebody guesses
 * where the object is. */
static bool far_from_null(const struct oko_reg *p)
{
    return p->s.full.smin >= INT16_MIN && p->s.full.smax <= INT32_MAX;
}

/* A pointer against NULL. *taken, *falls: whether the jump may be taken, may fall through. */
static int null_test(struct oko_walk *w, struct oko_reg *p, enum oko_cmp cmp, bool *taken,
                     bool *falls)
{
    int64_t off;
    bool equal = cmp == OKO_CMP_EQ || cmp == OKO_CMP_LE;
    if (cmp != OKO_CMP_EQ && cmp != OKO_CMP_NE && cmp != OKO_CMP_LE && cmp != OKO_CMP_GT)
        return oko_refuse(w, compare_hint, "%s is compared with a number", oko_reg_describe(p));
    if (p->maybe_null) {
        if (!oko_reg_offset_const(p, &off) || off != 0)
            return oko_refuse(w, "test the result of the lookup before adding to it",
                              "a map lookup's result is tested for NULL after arithmetic on it");
        *taken = *falls = true;
        return 0;
    }
    if (!far_from_null(p))
        return oko_refuse(w, compare_hint, "%s plus an unbounded number is compared with NULL",
                          oko_reg_describe(p));
    *taken = !equal;
    *falls = equal;
    return 0;
}

/* Whether a comparison of the two is allowed. *null: it is one of the first with NULL. */
static int comparable(struct oko_walk *w, const struct oko_reg *a, const struct oko_reg *b,
                      bool is64, enum oko_cmp cmp, bool *null)
{
    *null = false;
    if (a->type == OKO_REG_SCALAR && b->type == OKO_REG_SCALAR)
        return 0;
    const struct oko_reg *p = oko_reg_is_pointer(a) ? a : b;
    if (!is64)
        return oko_refuse(w, compare_hint, "a part of %s is compared", oko_reg_describe(p));
    if (oko_reg_is_pointer(a) && is_zero(b)) {
        *null = true;
        return 0;
    }
    if (a->type != b->type)
        return oko_refuse(w, compare_hint, "%s is compared with %s", oko_reg_describe(a),
                          oko_reg_describe(b));
    if (a->index != b->index || a->frame != b->frame || a->obj != b->obj || a->type == OKO_REG_MAP)
        return oko_refuse(w, compare_hint, "addresses in different objects are compared");
    if (a->maybe_null || b->maybe_null)
        return oko_refuse(w, "test the result of the lookup for NULL first",
                          "a map lookup's result, perhaps NULL, is compared");
    if (cmp == OKO_CMP_SET)
        return oko_refuse(w, compare_hint, "bits of %s are tested", oko_reg_describe(a));
    return 0;
}

/* Where the branch leads when it holds, or does not: the state after it, or "impossible". */
static bool follow(struct oko_state *st, struct oko_insn i, enum oko_cmp cmp)
{
    bool is64 = oko_opcodes[i.code].is64;
    struct oko_reg *a = &oko_state_top(st)->r[oko_insn_dst(i)];
    struct oko_reg imm = oko_reg_const(is64 ? (uint64_t)(int64_t)i.imm : (uint32_t)i.imm);
    struct oko_reg *b = (i.code & BPF_X) != 0 ? &oko_state_top(st)->r[oko_insn_src(i)] : &imm;
    return oko_state_assume(st, is64, cmp, a, b);
}

int oko_walk_branch(struct oko_walk *w, uint32_t *next, uint32_t *branch)
{
    struct oko_insn i = w->spec->insns[w->pc];
    bool is64 = oko_opcodes[i.code].is64, by_reg = (i.code & BPF_X) != 0, null;
    uint32_t target = (uint32_t)((int64_t)w->pc + 1 + oko_insn_jump(i));
    enum oko_cmp cmp = cmp_of(oko_insn_op(i));
    int status = oko_need_set(w, oko_insn_dst(i));
    if (status == 0 && by_reg)
        status = oko_need_set(w, oko_insn_src(i));
    if (status != 0)
        return status;
    struct oko_reg *a = oko_walk_reg(w, oko_insn_dst(i));
    struct oko_reg b = by_reg ? *oko_walk_reg(w, oko_insn_src(i))
                              : oko_reg_const(is64 ? (uint64_t)(int64_t)i.imm : (uint32_t)i.imm);
    if (is_zero(a) && oko_reg_is_pointer(&b)) { /* NULL on the left */
        struct oko_reg *p = oko_walk_reg(w, oko_insn_src(i));
        b = *a;
        a = p;
        cmp = oko_cmp_swap(cmp);
    }
    status = comparable(w, a, &b, is64, cmp, &null);
    if (status != 0)
        return status;

    bool taken = false, falls = false;
    if (null) {
        uint32_t obj = a->obj;
        bool tests = a->maybe_null, equal = cmp == OKO_CMP_EQ || cmp == OKO_CMP_LE;
        status = null_test(w, a, cmp, &taken, &falls);
        if (status != 0)
            return status;
        if (tests) {
            oko_state_copy(&w->other, &w->cur);
            oko_state_null(&w->other, obj, equal);
            oko_state_null(&w->cur, obj, !equal);
        }
    } else {
        oko_state_copy(&w->other, &w->cur);
        taken = follow(&w->other, i, cmp_of(oko_insn_op(i)));
        falls = follow(&w->cur, i, oko_cmp_negate(cmp_of(oko_insn_op(i))));
        if (taken && !falls)
            oko_state_copy(&w->cur, &w->other);
    }
    oko_gather_branch(w, taken, falls, null);
    if (taken && falls)
        *branch = target;
    else if (taken)
        *next = target;
    else if (!falls)
        *next = OKO_CFG_NONE; /* contradictory: the path itself is impossible */
    return 0;
}
