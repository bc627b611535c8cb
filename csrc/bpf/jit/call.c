/* Calls of helpers: directly, with constant arguments resolved, or replaced by code.
 *
 * Arguments already are where the calling convention wants them; the environment goes to r9, the
 * sixth argument. A call leaves r1-r5 undefined, so everything but r6-r9 is free around it. */
#include "jit.h"

#include <string.h>

enum { CONFORMANCE_UNWIND = 5 };

bool jit_is_unwind(const struct jit *j, const struct jit_op *op)
{
    return op->op == JIT_HELPER && op->imm == CONFORMANCE_UNWIND &&
           (j->prog->flags & OKO_LOAD_CONFORMANCE);
}

static void call_helper_fn(struct jit *j, const void *fn)
{
    unsigned env = jit_pin(j, PIN_ENV, R9);
    if (env != R9)
        x64_mov(&j->a, true, R9, env);
    x64_call_c(&j->a, fn);
}

/* Of a program with sketches: a sketch's result goes to the call site's own slot (helper.h). */
static uint64_t lookup_at_site(uint64_t map, uint64_t key, uint64_t site, uint64_t r4, uint64_t r5,
                               struct oko_env *env)
{
    uint64_t r0 = oko_helper(OKO_HELPER_MAP_LOOKUP)->fn(map, key, 0, r4, r5, env);
    if (!oko_map_is_sketch((const struct oko_map *)map))
        return r0;
    uint8_t *slot = env->scratch + 8 * site;
    memcpy(slot, env->scratch, sizeof(uint32_t));
    return (uint64_t)slot;
}

/* Helper 5 of conformance programs: r0 = r1, and 0 ends the run. */
static void emit_unwind(struct jit *j)
{
    x64_mov(&j->a, true, RAX, RDI);
    x64_test(&j->a, true, RAX, RAX);
    jit_emit_abort_if(j, X64_E, false);
}

void jit_emit_helper(struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    if (jit_is_unwind(j, op)) {
        emit_unwind(j);
        return;
    }
    if (op->call) {
        jit_emit_call(j, pc);
        return;
    }
    if (op->imm == OKO_HELPER_MAP_LOOKUP && op->off) {
        x64_mov_i(&j->a, RDX, (uint64_t)op->off);
        call_helper_fn(j, (const void *)(uintptr_t)lookup_at_site);
        return;
    }
    call_helper_fn(j, (const void *)(uintptr_t)oko_helper((int32_t)op->imm)->fn);
}

static const void *callx_target(uint64_t number)
{
    const struct oko_helper *h = number <= INT32_MAX ? oko_helper((int32_t)number) : NULL;
    return h ? (const void *)(uintptr_t)h->fn : NULL;
}

/* Conformance only: the helper's number is known at run time. */
void jit_emit_callx(struct jit *j, uint32_t pc)
{
    static const uint8_t args[6] = {RDI, RSI, RDX, RCX, R8, R8}; /* an even number: alignment */
    struct x64 *a = &j->a;
    uint32_t call = x64_label(a), end = x64_label(a);
    x64_mov(a, true, R11, jit_use(j, j->ops[pc].a, R11));
    x64_alu_i(a, X64_CMP, true, R11, CONFORMANCE_UNWIND);
    x64_jcc(a, X64_NE, call);
    emit_unwind(j);
    x64_jmp(a, end);
    x64_bind(a, call);
    for (unsigned i = 0; i < 6; i++)
        x64_push(a, args[i]);
    x64_mov(a, true, RDI, R11);
    x64_call_c(a, (const void *)(uintptr_t)callx_target);
    x64_mov(a, true, R11, RAX);
    for (unsigned i = 6; i-- > 0;)
        x64_pop(a, args[i]);
    x64_test(a, true, R11, R11);
    jit_emit_abort_if(j, X64_E, true);
    x64_mov(a, true, R9, jit_pin(j, PIN_ENV, R9));
    x64_call_r(a, R11);
    x64_bind(a, end);
}

/* A local call. Where frames could pile up beyond the limit (conformance programs only; the
 * verifier refuses recursion) they are counted. */
void jit_emit_local(struct jit *j, uint32_t pc)
{
    struct x64 *a = &j->a;
    uint32_t label = jit_func_at(j, j->ops[pc].target)->label;
    if (!j->counts_depth) {
        x64_call(a, label);
        return;
    }
    struct x64_mem depth =
        x64_at(jit_pin(j, PIN_ENV, R11), (int32_t)offsetof(struct oko_env, jit_depth));
    x64_alu_mi(a, X64_CMP, 8, depth, OKO_MAX_FRAMES - 1);
    jit_emit_abort_if(j, X64_AE, true);
    x64_alu_mi(a, X64_ADD, 8, depth, 1);
    x64_call(a, label);
    x64_alu_mi(a, X64_SUB, 8, depth, 1);
}
