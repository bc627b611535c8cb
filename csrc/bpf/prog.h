/* A loaded program: spec -> checked -> verified -> maps and data created -> compiled.
 *
 * oko_prog_load() (prog.c) runs the stages in that order; each can refuse, and then everything made
 * so far is undone. Afterwards a program is immutable but for its counters and the contents of its
 * maps and writable data. Freed when the last reference goes; references of flow tables are dropped
 * through QSBR, so a running burst never sees a freed program.
 *
 * A map is replaced as a whole by an instance that has the new one (oko_prog_with_map). What does
 * not depend on maps, the body, belongs to the first instance and goes with the last one; maps and
 * code go with their own instance. */
#ifndef OKO_BPF_PROG_H
#define OKO_BPF_PROG_H

#include "facts.h"
#include "helper.h"

struct oko_jit_code; /* jit/jit.h */

typedef uint64_t (*oko_jit_run)(const uint8_t *pkt, uint64_t len, const struct oko_meta *meta,
                                struct oko_env *env);
/* Runs packets in[i] for each set bit of todo in rising order; returns the mask of r0 == 1.
 * Sets env->meta/pkt/len itself where the program needs them. */
typedef uint64_t (*oko_jit_batch)(struct oko_env *env, const struct oko_prog_in *in, uint64_t todo);

struct oko_data {
    struct oko_data_spec spec; /* bytes: unused after load */
    uint8_t *bytes;            /* spec.size bytes, 64-byte aligned, never moves */
};

/* Single-writer counters of one worker; a cache line each. */
struct oko_prog_counters {
    uint64_t runs, matches, faults;
    uint64_t sampled_ns, samples;
    uint64_t calls;      /* of oko_prog_exec(): which are sampled */
    uint64_t batch_runs; /* packets run ahead of their decision (filter.c) */
    uint64_t pad;
};

struct oko_prog {
    struct oko_vm *vm;
    uint32_t refs;             /* atomic */
    uint32_t flags;            /* enum oko_load_flags */
    struct oko_prog_spec spec; /* own deep copy: insns with pseudo-relocations as loaded */
    struct oko_facts facts;
    struct oko_map **maps;    /* spec.n_maps */
    struct oko_data *data;    /* spec.n_data */
    void *interp;             /* predecoded form, interp.h */
    struct oko_jit_code *jit; /* NULL without machine code */
    oko_jit_run jit_run;      /* NULL likewise */
    oko_jit_batch jit_batch;
    struct oko_prog_counters *counters; /* [vm->n_workers] */
    uint64_t *profile;                  /* n_insns counts, or NULL; atomic */
    int64_t fuel;                       /* env->fuel at the start of each packet (guarded) */
    uint64_t own_memory;                /* charged: data */
    uint64_t code_memory;               /* charged: machine code */
    struct oko_prog *body;              /* whose spec, facts, data and counters these are */
    uint32_t holds;                     /* of the body: instances that share it; atomic */
    struct oko_prog_info info;
};

/* Another instance of the same program, with a different map (of the same spec) under that index:
 * spec, facts, data sections and counters are shared with prog, other maps as well; the code is
 * made anew, since maps' addresses stand in it. Takes a reference of its own to the map. */
int oko_prog_with_map(struct oko_prog *prog, uint32_t index, struct oko_map *map,
                      struct oko_prog **out, struct oko_error *error);

/* Runs without touching the program's counters, for callers that know which packets count: bit i
 * of the result is set when packet in[i] of todo gave 1, bit i of *faulted (may be NULL) when a
 * guard stopped it. The worker must be online in the VM's qsbr. */
uint64_t oko_prog_exec(struct oko_prog *prog, struct oko_env *env, bool interpret,
                       const struct oko_prog_in *in, uint64_t todo, uint64_t *faulted);
/* Adds to the counters of one worker; by that worker's thread. */
void oko_prog_count(struct oko_prog *prog, uint32_t worker, uint64_t runs, uint64_t matches,
                    uint64_t faults);

/* Has the program Bloom filters or count-min sketches? Their lookups need scratch (helper.h). */
bool oko_prog_has_sketch(const struct oko_prog_spec *spec);

struct oko_qsbr;
/* The reader registry whose quiescent points protect what programs hold of maps; reader i is
 * worker i. A datapath uses it as its own. oko_prog_run*() go online for the call when the worker
 * is not. */
struct oko_qsbr *oko_vm_qsbr(const struct oko_vm *vm);

struct oko_env *oko_vm_env(struct oko_vm *vm, uint32_t worker);
uint32_t oko_vm_n_workers(const struct oko_vm *vm);
uint64_t oko_vm_secret(const struct oko_vm *vm);

/* interp.c: the reference. Sets env->prog/meta/pkt/len/fuel. Returns r0 (0 after a fault).
 * Counts into prog->profile when that is set. The checked form asks oko_check_step() before every
 * instruction. */
int oko_interp_prepare(struct oko_prog *prog, struct oko_error *error);
void oko_interp_free(struct oko_prog *prog);
uint64_t oko_interp_run(struct oko_prog *prog, struct oko_env *env, const struct oko_prog_in *in);
#define OKO_NO_INSN UINT32_MAX
/* Where a run came to its end: its last instruction, and the last conditional jump before that. */
struct oko_path {
    uint32_t last, branch; /* OKO_NO_INSN: there was none */
};
uint64_t oko_interp_run_path(struct oko_prog *prog, struct oko_env *env,
                             const struct oko_prog_in *in, struct oko_path *path);
int oko_interp_run_checked(struct oko_prog *prog, struct oko_env *env, const struct oko_prog_in *in,
                           uint64_t *r0, struct oko_error *error);

/* verify/: fills facts or refuses with the reason. Needs no maps, only the spec. */
int oko_verify(const struct oko_prog_spec *spec, const struct oko_load_opts *opts,
               struct oko_facts *facts, struct oko_error *error);
/* verify/check.c: called by the checking interpreter before instruction pc with the concrete
 * registers; 0, or OKO_E_VERIFY with *error filled when a value lies outside the claimed state. */
struct oko_check_frame {
    const uint64_t *regs; /* r0..r10 */
    const uint8_t *stack; /* the frame's 512 bytes; r10 = stack + 512 */
    uint32_t depth;       /* 0 = entry */
    uint32_t func;        /* index into spec.funcs */
};
int oko_check_step(const struct oko_prog *prog, const struct oko_env *env, uint32_t pc,
                   const struct oko_check_frame *frames, uint32_t n_frames,
                   struct oko_error *error);
void oko_check_states_free(void *states);

/* jit/: compiles from spec, facts, maps and data. OKO_E_UNSUP on other CPUs. Sets prog->jit,
 * jit_run, jit_batch, info.jit_bytes. */
int oko_jit_compile(struct oko_prog *prog, struct oko_error *error);
void oko_jit_free(struct oko_prog *prog);
bool oko_jit_available(void);

#endif
