/* Stand-ins for parts of the VM that are not in the tree yet: the verifier (verify/) and the JIT
 * (jit/). Weak, so that each real definition replaces its stand-in when it arrives; this file goes
 * when all have. Nothing passes unverified: loading is refused, except for conformance tests, which
 * are not verified by nature. */
#include "../base/err.h"
#include "prog.h"

__attribute__((weak)) int oko_verify(const struct oko_prog_spec *spec,
                                     const struct oko_load_opts *opts, struct oko_facts *facts,
                                     struct oko_error *error)
{
    (void)spec, (void)opts, (void)facts;
    return oko_err(error, OKO_E_UNSUP, "this build has no verifier; only OKO_LOAD_CONFORMANCE");
}

__attribute__((weak)) int oko_check_step(const struct oko_prog *prog, const struct oko_env *env,
                                         uint32_t pc, const struct oko_check_frame *frames,
                                         uint32_t n_frames, struct oko_error *error)
{
    (void)prog, (void)env, (void)pc, (void)frames, (void)n_frames;
    return oko_err(error, OKO_E_UNSUP, "this build has no verifier to check against");
}

__attribute__((weak)) void oko_check_states_free(void *states)
{
    (void)states;
}

__attribute__((weak)) bool oko_jit_available(void)
{
    return false;
}

__attribute__((weak)) int oko_jit_compile(struct oko_prog *prog, struct oko_error *error)
{
    (void)prog;
    return oko_err(error, OKO_E_UNSUP, "this build has no JIT");
}

__attribute__((weak)) void oko_jit_free(struct oko_prog *prog)
{
    (void)prog;
}
