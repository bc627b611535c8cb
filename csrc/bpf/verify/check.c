/* Placeholder while the checker is written: nothing is recorded yet. */
#include "walk.h"

#include "../../base/err.h"

int oko_check_record(struct oko_walk *w)
{
    (void)w;
    return 0;
}

void oko_check_states_free(void *states)
{
    (void)states;
}

int oko_check_step(const struct oko_prog *prog, const struct oko_env *env, uint32_t pc,
                   const struct oko_check_frame *frames, uint32_t n_frames, struct oko_error *error)
{
    (void)prog, (void)env, (void)pc, (void)frames, (void)n_frames;
    return oko_err(error, OKO_E_UNSUP, "this build keeps no verifier states");
}
