/* Compiles a loaded program to x86-64 machine code; the stages are told in jit.h.
 *
 * Fails safely: whatever goes wrong (memory, a host that forbids executable pages, a program too
 * large), the program is left without code and the caller runs the interpreter. */
#include "jit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t jit_skip;
uint32_t jit_near = 512 * 1024; /* half of a usual second-level cache */
bool jit_marks_ahead;

bool oko_jit_available(void)
{
#if defined(__x86_64__)
    return true;
#else
    return false;
#endif
}

static int fail(struct oko_error *error, int code, const char *reason)
{
    if (error) {
        memset(error, 0, sizeof(*error));
        error->code = code;
        error->insn = -1;
        snprintf(error->reason, sizeof(error->reason), "cannot compile: %s", reason);
    }
    return code;
}

static int install(struct jit *j, uint32_t run, uint32_t batch, struct oko_jit_code **out)
{
    int err = x64_relax(&j->a);
    if (err)
        return err;
    struct oko_jit_code *code = calloc(1, sizeof(*code));
    if (!code)
        return OKO_E_NOMEM;
    const void *near = jit_skip & JIT_SKIP_NEAR ? NULL : (const void *)(uintptr_t)oko_helper;
    err = oko_exec_new(j->a.final_size, near, &code->exec);
    if (!err) {
        code->size = (uint32_t)j->a.final_size;
        x64_write(&j->a, code->exec.at, code->exec.at);
        err = oko_exec_seal(&code->exec);
    }
    if (err) {
        oko_exec_free(&code->exec);
        free(code);
        return err;
    }
    j->prog->jit_run = (oko_jit_run)(uintptr_t)(code->exec.at + x64_offset(&j->a, run));
    j->prog->jit_batch = (oko_jit_batch)(uintptr_t)(code->exec.at + x64_offset(&j->a, batch));
    *out = code;
    return 0;
}

int oko_jit_compile(struct oko_prog *prog, struct oko_error *error)
{
    if (!oko_jit_available())
        return fail(error, OKO_E_UNSUP, "no JIT for this CPU");
    struct jit j = {.prog = prog};
    uint32_t run, batch;
    x64_init(&j.a);
    if (jit_skip & JIT_SKIP_BMI)
        j.a.bmi1 = j.a.bmi2 = false;
    int err = jit_lower(&j);
    if (!err)
        err = jit_emit_program(&j, &run, &batch);
    if (!err)
        err = install(&j, run, batch, &prog->jit);
    if (!err)
        prog->info.jit_bytes = prog->jit->size;
    x64_destroy(&j.a);
    free(j.ops);
    free(j.funcs);
    free(j.label);
    free(j.order);
    free(j.work);
    free(j.seen);
    free(j.before);
    free(j.func_at);
    free(j.calls);
    free(j.late);
    switch (err) {
    case 0:
        return 0;
    case OKO_E_NOMEM:
        return fail(error, err, "out of memory");
    case OKO_E_LIMIT:
        return fail(error, err, "the program is too large");
    case OKO_E_UNSUP:
        return fail(error, err, "this system refuses executable memory");
    default:
        return fail(error, err, "internal error of the code generator");
    }
}

void oko_jit_free(struct oko_prog *prog)
{
    if (!prog->jit)
        return;
    oko_exec_free(&prog->jit->exec);
    free(prog->jit);
    prog->jit = NULL;
    prog->jit_run = NULL;
    prog->jit_batch = NULL;
}

const uint8_t *oko_prog_code(const struct oko_prog *prog, uint32_t *size)
{
    *size = prog->jit ? prog->jit->size : 0;
    return prog->jit ? prog->jit->exec.at : NULL;
}
