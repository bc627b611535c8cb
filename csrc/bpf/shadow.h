/* Shadow programs: to ask what a program would say, without leaving a mark.
 *
 * A shadow shares the instructions and the verifier's facts of a loaded program, and runs in the
 * interpreter. Its writable data is a copy. Its maps are overlays: what the run touches is copied
 * (values on their first lookup, since a program may store through the pointer) or noted (updates,
 * deletions, items added to sketches), everything else is read from the real map. So a shadow costs
 * what the run touches, not what the maps hold, and the real ones stay as they are. What it prints
 * is not logged, and nothing is counted.
 *
 * Known differences, none of which can show in one run from a steady state: an LRU map never evicts
 * (its overlay only grows), and a Bloom filter's other bits do not combine with those of an item
 * that this run added.
 *
 * Thread-safety: a shadow is used by the thread that made it. */
#ifndef OKO_BPF_SHADOW_H
#define OKO_BPF_SHADOW_H

#include "prog.h"

/* as_worker: whose slots of per-worker maps it reads. The program must outlive its shadow. */
int oko_shadow_new(struct oko_prog *prog, uint32_t as_worker, struct oko_prog **shadow);
void oko_shadow_free(struct oko_prog *shadow); /* takes NULL */
/* r0 of a run, and where it ended; the worker is online. *faulted: a guard stopped it. */
uint64_t oko_shadow_run(struct oko_prog *shadow, struct oko_env *env, const struct oko_prog_in *in,
                        struct oko_path *path, bool *faulted);

#endif
