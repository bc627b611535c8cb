/* Stand-ins for the part of the VM that is not in the tree yet, the verifier (verify/). Weak, so
 * that each real definition replaces its stand-in when it arrives; this file goes when all have.
 * Nothing passes unverified: loading is refused, except for conformance tests, which are not
 * verified by nature. */
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
