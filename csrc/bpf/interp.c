/* The interpreter: the reference semantics that the JIT must agree with, bit for bit.
 *
 * Idea. Instructions are decoded once, at load, into ops of fixed size that carry the address of
 * their handler (direct threading), so a step is one indirect jump. There are no checks in verified
 * programs; guarded loading puts a GUARD or FUEL handler in front of single ops.
 *
 * Memory shared with other threads (map values, writable data) is accessed with relaxed atomics of
 * the access's width, as is everything else: on the machines we care about they are plain
 * instructions.
 *
 * Thread-safety: the predecoded form is constant; a run touches only its env and its own C stack
 * (4 KiB of frames). */
#include "interp.h"

#include "../base/atomic.h"
#include "../base/err.h"
#include "map.h"

#include <stdlib.h>
#include <string.h>

enum { OKO_CONFORMANCE_UNWIND = 5 };

struct interp {
    uint32_t n_ops;
    struct oko_interp_op ops[];
};

/* What the traced loop is asked to do, and what came of it. */
struct trace {
    uint64_t *profile; /* or NULL */
    bool checked;
    int status; /* of the checker */
    struct oko_error *error;
    struct oko_path *path; /* or NULL */
};

/* ---------------------------------------------------------------- used by the loop */

/* Checked runs fill what a program must not read with a pattern that no test expects. */
static void poison(uint8_t *bytes, size_t size)
{
    memset(bytes, 0xa7, size);
}

static uint32_t func_at(const struct oko_prog *prog, uint32_t pc)
{
    uint32_t func = 0;
    while (func + 1 < prog->spec.n_funcs && prog->spec.funcs[func + 1].insn <= pc)
        func++;
    return func;
}

/* RFC 9669 section 5.3. All operations are sequentially consistent, as on x86 they are anyway. */
#define ATOMIC(bits)                                                                               \
    static uint64_t atomic##bits(uint##bits##_t *p, uint32_t operation, uint##bits##_t value,      \
                                 uint##bits##_t expected)                                          \
    {                                                                                              \
        switch (operation & ~(uint32_t)BPF_FETCH) {                                                \
        case BPF_ADD:                                                                              \
            return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);                                 \
        case BPF_OR:                                                                               \
            return __atomic_fetch_or(p, value, __ATOMIC_SEQ_CST);                                  \
        case BPF_AND:                                                                              \
            return __atomic_fetch_and(p, value, __ATOMIC_SEQ_CST);                                 \
        case BPF_XOR:                                                                              \
            return __atomic_fetch_xor(p, value, __ATOMIC_SEQ_CST);                                 \
        case BPF_XCHG & ~BPF_FETCH:                                                                \
            return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                \
        default: /* compare and exchange; returns what was there */                                \
            __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_SEQ_CST,              \
                                        __ATOMIC_SEQ_CST);                                         \
            return expected;                                                                       \
        }                                                                                          \
    }
ATOMIC(32)
ATOMIC(64)
#undef ATOMIC

/* The run-time check of guarded loading. */
static bool access_allowed(const struct oko_prog *prog, const struct oko_env *env, uint32_t pc,
                           const uint64_t *r)
{
    const struct oko_fact *fact = &prog->facts.insn[pc];
    struct oko_insn i = prog->spec.insns[pc];
    uint8_t op = oko_opcodes[i.code].op;
    bool load = op == OKO_BPF_LDX || op == OKO_BPF_LDSX;
    uint64_t base = r[load ? oko_insn_src(i) : oko_insn_dst(i)];
    uint64_t address = base + (uint64_t)(int64_t)i.off;
    uint32_t width = oko_insn_width(i);
    if (fact->guard == OKO_GUARD_PKT) {
        uint64_t at = address - (uint64_t)env->pkt;
        return env->len >= width && at <= env->len - width;
    }
    const struct oko_map *map = prog->maps[fact->guard_map];
    return map->ops->contains(map, (const void *)address, width, env);
}

#define LOOP_NAME   run_fast
#define LOOP_TRACED 0
#include "interp_loop.h"
#undef LOOP_NAME
#undef LOOP_TRACED

#define LOOP_NAME   run_traced
#define LOOP_TRACED 1
#include "interp_loop.h"
#undef LOOP_NAME
#undef LOOP_TRACED

/* ---------------------------------------------------------------- predecoding */

/* The form of an operation that exists in four. */
static uint8_t form(uint8_t first_form, struct oko_insn i)
{
    bool is64 = oko_opcodes[i.code].is64;
    return (uint8_t)(first_form + (is64 ? 0 : 2) + ((i.code & BPF_X) != 0));
}

static uint8_t kind_of_alu(struct oko_insn i)
{
    static const uint8_t kinds[16] = {
        [BPF_ADD >> 4] = OKO_KIND_ADD64_K, [BPF_SUB >> 4] = OKO_KIND_SUB64_K,
        [BPF_MUL >> 4] = OKO_KIND_MUL64_K, [BPF_DIV >> 4] = OKO_KIND_DIV64_K,
        [BPF_OR >> 4] = OKO_KIND_OR64_K,   [BPF_AND >> 4] = OKO_KIND_AND64_K,
        [BPF_LSH >> 4] = OKO_KIND_LSH64_K, [BPF_RSH >> 4] = OKO_KIND_RSH64_K,
        [BPF_MOD >> 4] = OKO_KIND_MOD64_K, [BPF_XOR >> 4] = OKO_KIND_XOR64_K,
        [BPF_MOV >> 4] = OKO_KIND_MOV64_K, [BPF_ARSH >> 4] = OKO_KIND_ARSH64_K};
    uint8_t operation = oko_insn_op(i);
    if (i.off == 1 && operation == BPF_DIV)
        return form(OKO_KIND_SDIV64_K, i);
    if (i.off == 1 && operation == BPF_MOD)
        return form(OKO_KIND_SMOD64_K, i);
    if (operation == BPF_MOV && i.off != 0) {
        bool is64 = oko_opcodes[i.code].is64;
        if (i.off == 8)
            return is64 ? OKO_KIND_MOVSX8_64 : OKO_KIND_MOVSX8_32;
        if (i.off == 16)
            return is64 ? OKO_KIND_MOVSX16_64 : OKO_KIND_MOVSX16_32;
        return OKO_KIND_MOVSX32_64;
    }
    return form(kinds[operation >> 4], i);
}

static uint8_t kind_of_jump(struct oko_insn i)
{
    static const uint8_t kinds[16] = {
        [BPF_JEQ >> 4] = OKO_KIND_JEQ64_K,   [BPF_JNE >> 4] = OKO_KIND_JNE64_K,
        [BPF_JSET >> 4] = OKO_KIND_JSET64_K, [BPF_JGT >> 4] = OKO_KIND_JGT64_K,
        [BPF_JGE >> 4] = OKO_KIND_JGE64_K,   [BPF_JLT >> 4] = OKO_KIND_JLT64_K,
        [BPF_JLE >> 4] = OKO_KIND_JLE64_K,   [BPF_JSGT >> 4] = OKO_KIND_JSGT64_K,
        [BPF_JSGE >> 4] = OKO_KIND_JSGE64_K, [BPF_JSLT >> 4] = OKO_KIND_JSLT64_K,
        [BPF_JSLE >> 4] = OKO_KIND_JSLE64_K};
    return form(kinds[oko_insn_op(i) >> 4], i);
}

/* Little-endian hosts: "to little" only truncates. */
static uint8_t kind_of_end(struct oko_insn i)
{
    uint8_t size = i.imm == 16 ? 0 : i.imm == 32 ? 1 : 2;
    bool to_little = i.code == (BPF_ALU | BPF_END | BPF_K);
    return (uint8_t)((to_little ? OKO_KIND_LE16 : OKO_KIND_SWAP16) + size);
}

/* first: the kind of 1 byte, those of 2, 4 and 8 follow it. */
static uint8_t by_width(uint8_t first, struct oko_insn i)
{
    return (uint8_t)(first + __builtin_ctz(oko_insn_width(i)));
}

static uint8_t kind_of(const struct oko_prog *prog, struct oko_insn i)
{
    switch ((enum oko_bpf_op)oko_opcodes[i.code].op) {
    case OKO_BPF_ALU:
    case OKO_BPF_MOV:
        return kind_of_alu(i);
    case OKO_BPF_NEG:
        return oko_opcodes[i.code].is64 ? OKO_KIND_NEG64 : OKO_KIND_NEG32;
    case OKO_BPF_END:
        return kind_of_end(i);
    case OKO_BPF_LDDW:
        return OKO_KIND_LDDW;
    case OKO_BPF_LD_ABS:
        return by_width(OKO_KIND_LD_ABS8, i);
    case OKO_BPF_LD_IND:
        return by_width(OKO_KIND_LD_IND8, i);
    case OKO_BPF_LDX:
        return by_width(OKO_KIND_LDX8, i);
    case OKO_BPF_LDSX:
        return by_width(OKO_KIND_LDSX8, i);
    case OKO_BPF_ST:
        return by_width(OKO_KIND_ST8, i);
    case OKO_BPF_STX:
        return by_width(OKO_KIND_STX8, i);
    case OKO_BPF_ATOMIC:
        return oko_insn_width(i) == 8 ? OKO_KIND_ATOMIC64 : OKO_KIND_ATOMIC32;
    case OKO_BPF_JA:
        return OKO_KIND_JA;
    case OKO_BPF_JCOND:
        return kind_of_jump(i);
    case OKO_BPF_CALL:
        if (oko_insn_src(i) == OKO_PSEUDO_LOCAL)
            return OKO_KIND_CALL_LOCAL;
        if (i.imm == OKO_CONFORMANCE_UNWIND && (prog->flags & OKO_LOAD_CONFORMANCE) != 0)
            return OKO_KIND_UNWIND;
        if (i.imm == OKO_HELPER_MAP_LOOKUP && oko_prog_has_sketch(&prog->spec))
            return OKO_KIND_CALL_LOOKUP;
        return OKO_KIND_CALL_HELPER;
    case OKO_BPF_CALLX:
        return OKO_KIND_CALLX;
    case OKO_BPF_EXIT:
        return OKO_KIND_EXIT;
    case OKO_BPF_NONE:
        break;
    }
    return OKO_KIND_NEVER;
}

static uint64_t resolve_lddw(const struct oko_prog *prog, uint32_t pc)
{
    struct oko_insn i = prog->spec.insns[pc];
    uint32_t high = (uint32_t)prog->spec.insns[pc + 1].imm;
    switch (oko_insn_src(i)) {
    case OKO_PSEUDO_MAP:
        return (uint64_t)prog->maps[i.imm];
    case OKO_PSEUDO_DATA:
        return (uint64_t)(prog->data[i.imm].bytes + high);
    default:
        return (uint64_t)high << 32 | (uint32_t)i.imm;
    }
}

int oko_interp_prepare(struct oko_prog *prog, struct oko_error *error)
{
    uint32_t n = prog->spec.n_insns;
    struct interp *interp = calloc(1, sizeof(*interp) + n * sizeof(interp->ops[0]));
    if (interp == NULL)
        return oko_err(error, OKO_E_NOMEM, "no memory to decode %u instructions", n);
    const void *const *labels;
    run_fast(NULL, NULL, NULL, NULL, &labels);
    int32_t n_lookups = 0;
    for (uint32_t pc = 0; pc < n; pc++) {
        struct oko_insn i = prog->spec.insns[pc];
        struct oko_interp_op *op = &interp->ops[pc];
        uint16_t flags = prog->facts.insn[pc].flags;
        op->kind = kind_of(prog, i);
        op->entry = (flags & OKO_FACT_GUARD) != 0  ? OKO_KIND_GUARD
                    : (flags & OKO_FACT_FUEL) != 0 ? OKO_KIND_FUEL
                                                   : op->kind;
        op->handler = labels[op->entry];
        op->dst = oko_insn_dst(i);
        op->src = oko_insn_src(i);
        op->imm = (uint64_t)(int64_t)i.imm;
        op->target = i.off;
        switch (op->kind) {
        case OKO_KIND_LDDW:
            op->imm = resolve_lddw(prog, pc);
            break;
        case OKO_KIND_CALL_LOOKUP:
            op->target = ++n_lookups;
            op->imm = (uint64_t)oko_helper(i.imm)->fn;
            break;
        case OKO_KIND_CALL_HELPER:
            op->imm = (uint64_t)oko_helper(i.imm)->fn;
            break;
        case OKO_KIND_CALLX:
            op->dst = oko_insn_callx_reg(i);
            break;
        case OKO_KIND_NEVER:
            break;
        default:
            if ((op->kind >= OKO_KIND_JA && op->kind <= OKO_KIND_JSLE32_X) ||
                op->kind == OKO_KIND_CALL_LOCAL)
                op->target = (int32_t)pc + 1 + oko_insn_jump(i);
            break;
        }
        if (op->kind == OKO_KIND_LDDW)
            pc++; /* the second half is an instruction of kind NEVER */
    }
    for (uint32_t pc = 0; pc < n; pc++)
        if (interp->ops[pc].handler == NULL) {
            interp->ops[pc].kind = interp->ops[pc].entry = OKO_KIND_NEVER;
            interp->ops[pc].handler = labels[OKO_KIND_NEVER];
        }
    interp->n_ops = n;
    prog->interp = interp;
    return 0;
}

void oko_interp_free(struct oko_prog *prog)
{
    free(prog->interp);
    prog->interp = NULL;
}

/* ---------------------------------------------------------------- running */

uint64_t oko_interp_run(struct oko_prog *prog, struct oko_env *env, const struct oko_prog_in *in)
{
    uint64_t *profile = OKO_LOAD_ACQUIRE(&prog->profile);
    if (profile == NULL)
        return run_fast(prog, env, in, NULL, NULL);
    struct trace trace = {profile, false, 0, NULL, NULL};
    return run_traced(prog, env, in, &trace, NULL);
}

uint64_t oko_interp_run_path(struct oko_prog *prog, struct oko_env *env,
                             const struct oko_prog_in *in, struct oko_path *path)
{
    *path = (struct oko_path){OKO_NO_INSN, OKO_NO_INSN};
    struct trace trace = {OKO_LOAD_ACQUIRE(&prog->profile), false, 0, NULL, path};
    return run_traced(prog, env, in, &trace, NULL);
}

int oko_interp_run_checked(struct oko_prog *prog, struct oko_env *env, const struct oko_prog_in *in,
                           uint64_t *r0, struct oko_error *error)
{
    struct trace trace = {OKO_LOAD_ACQUIRE(&prog->profile), true, 0, error, NULL};
    *r0 = run_traced(prog, env, in, &trace, NULL);
    return trace.status;
}
