/* What a run of a program carries besides its registers: one struct per forwarding thread.
 *
 * Owned by the VM (vm->envs[worker]); touched only by the thread that runs as that worker, except
 * the counters, which any thread may read (relaxed). The layout is known to the JIT. */
#ifndef OKO_BPF_ENV_H
#define OKO_BPF_ENV_H

#include "../oko.h"

struct oko_vm;
struct oko_prog;

struct oko_env {
    uint32_t worker;             /* index of the forwarding thread: slot in per-worker maps */
    uint32_t fault;              /* set to 1 by a failed run-time check, never cleared by engines */
    int64_t fuel;                /* back edges left (guarded loading) */
    const struct oko_meta *meta; /* of the packet at hand */
    const uint8_t *pkt;          /* of the packet at hand: LD_ABS/LD_IND and guards */
    uint64_t len;
    struct oko_vm *vm;       /* log, quiescence */
    struct oko_prog *prog;   /* being run: helpers that need names */
    uint64_t n_faults;       /* of all runs by this worker; counted by the engine where it faults */
    uint8_t *scratch;        /* results of sketch lookups: see helper.h; 64-byte aligned */
    uint64_t jit_sp, jit_ip; /* where machine code goes on when a sub-function ends the run */
    uint64_t jit_depth;      /* frames below the entry's, of programs that may have too many */
    bool quiet;              /* what the program prints goes nowhere (shadow.h) */
};

#endif
