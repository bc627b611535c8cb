/* Loading, running and counting programs; see prog.h.
 *
 * Loading goes through its stages in order (check, verify, maps and data, interpreter, JIT). Each
 * may refuse; then prog_free(), which copes with any half-made program, undoes what was done. */
#include "prog.h"

#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "../qsbr.h"
#include "vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SAMPLE_EVERY = 128, /* calls of oko_prog_exec() between two whose time is taken */
    SAMPLE_AT = 4,      /* the first calls, which find cold caches, would tell too much */
    MAX_BATCH = 64
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---------------------------------------------------------------- copying the spec */

static void *copy_of(const void *from, size_t n, size_t size)
{
    if (n == 0)
        return NULL;
    void *copy = malloc(n * size);
    if (copy != NULL)
        memcpy(copy, from, n * size);
    return copy;
}

/* Line records with their strings behind them, in one block. Neighbours share their file's name. */
static struct oko_line_spec *copy_lines(const struct oko_line_spec *lines, uint32_t n)
{
    size_t size = n * sizeof(*lines);
    for (uint32_t i = 0; i < n; i++) {
        if (lines[i].file != NULL && (i == 0 || lines[i].file != lines[i - 1].file))
            size += strlen(lines[i].file) + 1;
        size += lines[i].text != NULL ? strlen(lines[i].text) + 1 : 0;
    }
    struct oko_line_spec *copy = malloc(size);
    if (copy == NULL)
        return NULL;
    memcpy(copy, lines, n * sizeof(*lines));
    char *strings = (char *)(copy + n);
    for (uint32_t i = 0; i < n; i++) {
        if (lines[i].file != NULL && i > 0 && lines[i].file == lines[i - 1].file) {
            copy[i].file = copy[i - 1].file;
        } else if (lines[i].file != NULL) {
            copy[i].file = strings;
            strings = stpcpy(strings, lines[i].file) + 1;
        }
        if (lines[i].text != NULL) {
            copy[i].text = strings;
            strings = stpcpy(strings, lines[i].text) + 1;
        }
    }
    return copy;
}

static int copy_spec(const struct oko_prog_spec *from, struct oko_prog_spec *to)
{
    *to = *from;
    to->name[sizeof(to->name) - 1] = 0;
    to->insns = copy_of(from->insns, from->n_insns, sizeof(*from->insns));
    to->funcs = copy_of(from->funcs, from->n_funcs, sizeof(*from->funcs));
    to->maps = copy_of(from->maps, from->n_maps, sizeof(*from->maps));
    to->lines = from->n_lines != 0 ? copy_lines(from->lines, from->n_lines) : NULL;
    struct oko_data_spec *data = copy_of(from->data, from->n_data, sizeof(*from->data));
    to->data = data;
    for (uint32_t i = 0; data != NULL && i < from->n_data; i++)
        data[i].bytes = NULL; /* the caller's; contents go to oko_data.bytes */
    bool complete = to->insns != NULL && (to->funcs != NULL || to->n_funcs == 0) &&
                    (to->maps != NULL || to->n_maps == 0) &&
                    (to->lines != NULL || to->n_lines == 0) && (data != NULL || to->n_data == 0);
    return complete ? 0 : OKO_E_NOMEM;
}

static void free_spec(struct oko_prog_spec *spec)
{
    free((void *)spec->insns);
    free((void *)spec->funcs);
    free((void *)spec->maps);
    free((void *)spec->data);
    free((void *)spec->lines);
}

/* ---------------------------------------------------------------- stages of loading */

bool oko_prog_has_sketch(const struct oko_prog_spec *spec)
{
    for (uint32_t i = 0; i < spec->n_maps; i++)
        if (oko_map_type_is_sketch(spec->maps[i].type))
            return true;
    return false;
}

static bool has_nul(const char name[64])
{
    return memchr(name, 0, 64) != NULL;
}

/* Maps and data sections as such; instructions are oko_insn_check()'s. */
static int check_spec(const struct oko_prog_spec *spec, struct oko_error *error)
{
    if (!has_nul(spec->name))
        return oko_err(error, OKO_E_INVAL, "the program's name is longer than 63 bytes");
    if (spec->n_maps > OKO_MAX_MAPS)
        return oko_err(error, OKO_E_LIMIT, "%" PRIu32 " maps; at most %d are possible",
                       spec->n_maps, OKO_MAX_MAPS);
    if (spec->n_data > OKO_MAX_DATA)
        return oko_err(error, OKO_E_LIMIT, "%" PRIu32 " data sections; at most %d are possible",
                       spec->n_data, OKO_MAX_DATA);
    for (uint32_t i = 0; i < spec->n_maps; i++) {
        struct oko_map_class cls;
        int status = oko_map_class(&spec->maps[i], &cls, error);
        if (status != 0)
            return status;
    }
    for (uint32_t i = 0; i < spec->n_data; i++)
        if (!has_nul(spec->data[i].name))
            return oko_err(error, OKO_E_INVAL,
                           "the name of data section %" PRIu32 " is longer than 63 bytes", i);
    uint32_t n_lookups = 0;
    if (oko_prog_has_sketch(spec))
        for (uint32_t pc = 0; pc < spec->n_insns; pc++)
            n_lookups += spec->insns[pc].code == (BPF_JMP | BPF_CALL) &&
                         oko_insn_src(spec->insns[pc]) == 0 &&
                         spec->insns[pc].imm == OKO_HELPER_MAP_LOOKUP;
    if (n_lookups > OKO_MAX_SKETCH_SITES)
        return oko_err(error, OKO_E_LIMIT,
                       "%" PRIu32 " calls of map_lookup in a program with sketches; at most %d are "
                       "possible",
                       n_lookups, OKO_MAX_SKETCH_SITES);
    return 0;
}

/* from: the caller's spec, whose data sections still have their contents. */
static int make_facts(struct oko_prog *prog, const struct oko_prog_spec *from,
                      const struct oko_load_opts *opts, struct oko_error *error)
{
    uint64_t start = now_ns();
    int status = (opts->flags & OKO_LOAD_CONFORMANCE) != 0
                     ? oko_facts_none(&prog->spec, &prog->facts)
                     : oko_verify(from, opts, &prog->facts, error);
    prog->info.verify_ns = now_ns() - start;
    if (status == OKO_E_NOMEM && (opts->flags & OKO_LOAD_CONFORMANCE) != 0)
        return oko_err(error, status, "no memory for the facts of the program");
    prog->info.worst_case = prog->facts.worst_case;
    prog->info.stateful = prog->facts.stateful;
    prog->info.guards = prog->facts.guards;
    prog->info.reads_meta = prog->facts.reads_meta;
    prog->info.verify_work = prog->facts.verify_work;
    return status;
}

/* The map of an older instance that this spec may go on using, or NULL. */
static struct oko_map *kept_map(const struct oko_prog *keep, const struct oko_map_spec *spec)
{
    for (uint32_t i = 0; keep != NULL && i < keep->spec.n_maps; i++)
        if (oko_map_spec_equal(&keep->maps[i]->spec, spec))
            return keep->maps[i];
    return NULL;
}

static int make_maps(struct oko_prog *prog, const struct oko_prog *keep, struct oko_error *error)
{
    if (prog->spec.n_maps == 0)
        return 0;
    prog->maps = calloc(prog->spec.n_maps, sizeof(*prog->maps));
    if (prog->maps == NULL)
        return oko_err(error, OKO_E_NOMEM, "no memory for the list of maps");
    for (uint32_t i = 0; i < prog->spec.n_maps; i++) {
        struct oko_map *map = kept_map(keep, &prog->spec.maps[i]);
        if (map != NULL) {
            oko_map_ref(map);
            prog->maps[i] = map;
        } else {
            int status = oko_map_create(prog->vm, &prog->spec.maps[i], &prog->maps[i], error);
            if (status != 0)
                return status;
        }
        prog->info.memory += prog->maps[i]->memory;
    }
    return 0;
}

static int make_data(struct oko_prog *prog, const struct oko_prog_spec *from,
                     struct oko_error *error)
{
    if (from->n_data == 0)
        return 0;
    prog->data = calloc(from->n_data, sizeof(*prog->data));
    if (prog->data == NULL)
        return oko_err(error, OKO_E_NOMEM, "no memory for the list of data sections");
    for (uint32_t i = 0; i < from->n_data; i++) {
        struct oko_data *data = &prog->data[i];
        char what[96];
        snprintf(what, sizeof(what), "data section %.63s", from->data[i].name);
        int status = oko_vm_charge(prog->vm, from->data[i].size, what, error);
        if (status != 0)
            return status;
        data->spec = prog->spec.data[i];
        prog->own_memory += data->spec.size;
        data->bytes = oko_alloc(data->spec.size);
        if (data->bytes == NULL)
            return oko_err(error, OKO_E_NOMEM, "no memory for %s", what);
        if (from->data[i].bytes != NULL && data->spec.size != 0)
            memcpy(data->bytes, from->data[i].bytes, data->spec.size);
    }
    return 0;
}

static int make_code(struct oko_prog *prog, struct oko_error *error)
{
    int status = oko_interp_prepare(prog, error);
    if (status != 0 || (prog->flags & OKO_LOAD_NO_JIT) != 0 || !oko_jit_available())
        return status;
    uint64_t start = now_ns();
    status = oko_jit_compile(prog, error);
    prog->info.jit_ns = now_ns() - start;
    if (status == OKO_E_UNSUP || status == OKO_E_LIMIT) { /* the interpreter runs it as well */
        oko_err_clear(error);
        return 0;
    }
    if (status != 0)
        return status;
    status = oko_vm_charge(prog->vm, prog->info.jit_bytes, "machine code", error);
    if (status == 0)
        prog->code_memory = prog->info.jit_bytes;
    return status;
}

/* One instance less has this body; the last one takes it along. */
static void drop_body(struct oko_prog *body)
{
    if (__atomic_sub_fetch(&body->holds, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    for (uint32_t i = 0; body->data != NULL && i < body->spec.n_data; i++)
        oko_release(body->data[i].bytes, body->data[i].spec.size);
    free(body->data);
    oko_release(body->counters, oko_vm_n_workers(body->vm) * sizeof(*body->counters));
    if (body->facts.states != NULL)
        oko_check_states_free(body->facts.states);
    oko_facts_destroy(&body->facts);
    free_spec(&body->spec);
    oko_vm_refund(body->vm, body->own_memory);
    oko_vm_remove_prog(body->vm);
    free(body);
}

static void prog_free(struct oko_prog *prog)
{
    struct oko_prog *body = prog->body;
    oko_jit_free(prog);
    oko_interp_free(prog);
    for (uint32_t i = 0; prog->maps != NULL && i < prog->spec.n_maps; i++)
        oko_map_unref(prog->maps[i]);
    free(prog->maps);
    oko_vm_refund(prog->vm, prog->code_memory);
    if (body != prog)
        free(prog);
    drop_body(body);
}

static int make_prog(struct oko_prog *prog, const struct oko_prog_spec *spec,
                     const struct oko_load_opts *opts, const struct oko_prog *keep,
                     struct oko_error *error)
{
    prog->counters = oko_alloc(oko_vm_n_workers(prog->vm) * sizeof(*prog->counters));
    if (prog->counters == NULL || copy_spec(spec, &prog->spec) != 0)
        return oko_err(error, OKO_E_NOMEM, "no memory for the program");
    int status = make_facts(prog, spec, opts, error);
    if (status != 0)
        return status;
    prog->fuel = prog->facts.fuel;
    status = make_maps(prog, keep, error);
    if (status == 0)
        status = make_data(prog, spec, error);
    if (status == 0)
        status = make_code(prog, error);
    prog->info.n_insns = prog->spec.n_insns;
    prog->info.n_maps = prog->spec.n_maps;
    prog->info.n_data = prog->spec.n_data;
    prog->info.memory += prog->own_memory + prog->code_memory;
    return status;
}

int oko_prog_load(struct oko_vm *vm, const struct oko_prog_spec *spec,
                  const struct oko_load_opts *opts, struct oko_prog *keep,
                  struct oko_prog **prog_out, struct oko_error *error)
{
    static const struct oko_load_opts defaults;
    if (opts == NULL)
        opts = &defaults;
    *prog_out = NULL;
    oko_err_clear(error);
    if (keep != NULL && keep->vm != vm)
        return oko_err(error, OKO_E_INVAL, "the older instance belongs to another VM");
    int status = check_spec(spec, error);
    if (status == 0)
        status = oko_insn_check(spec, opts->flags, error);
    if (status == 0)
        status = oko_vm_add_prog(vm, keep != NULL, error);
    if (status != 0)
        return status;
    struct oko_prog *prog = calloc(1, sizeof(*prog));
    if (prog == NULL) {
        oko_vm_remove_prog(vm);
        return oko_err(error, OKO_E_NOMEM, "no memory for the program");
    }
    prog->vm = vm;
    prog->refs = 1;
    prog->body = prog;
    prog->holds = 1;
    prog->flags = opts->flags;
    status = make_prog(prog, spec, opts, keep, error);
    if (status != 0)
        prog_free(prog);
    else
        *prog_out = prog;
    return status;
}

static int with_map(struct oko_prog *prog, const struct oko_prog *from, uint32_t index,
                    struct oko_map *map, struct oko_error *error)
{
    prog->maps = calloc(prog->spec.n_maps, sizeof(*prog->maps));
    if (prog->maps == NULL)
        return oko_err(error, OKO_E_NOMEM, "no memory for the list of maps");
    for (uint32_t i = 0; i < prog->spec.n_maps; i++) {
        prog->maps[i] = i == index ? map : from->maps[i];
        oko_map_ref(prog->maps[i]);
    }
    int status = make_code(prog, error);
    prog->info.memory = from->info.memory - from->code_memory + prog->code_memory;
    return status;
}

int oko_prog_with_map(struct oko_prog *from, uint32_t index, struct oko_map *map,
                      struct oko_prog **prog_out, struct oko_error *error)
{
    *prog_out = NULL;
    oko_err_clear(error);
    if (index >= from->spec.n_maps || !oko_map_spec_equal(&from->spec.maps[index], &map->spec))
        return oko_err(error, OKO_E_INVAL, "the map does not fit this program");
    struct oko_prog *prog = calloc(1, sizeof(*prog));
    if (prog == NULL)
        return oko_err(error, OKO_E_NOMEM, "no memory for the program");
    prog->vm = from->vm;
    prog->refs = 1;
    prog->flags = from->flags;
    prog->spec = from->spec;
    prog->facts = from->facts;
    prog->data = from->data;
    prog->counters = from->counters;
    prog->fuel = from->fuel;
    prog->body = from->body;
    prog->info = from->info;
    prog->info.jit_bytes = 0;
    __atomic_add_fetch(&prog->body->holds, 1, __ATOMIC_RELAXED);
    int status = with_map(prog, from, index, map, error);
    if (status != 0)
        prog_free(prog);
    else
        *prog_out = prog;
    return status;
}

void oko_prog_ref(struct oko_prog *prog)
{
    __atomic_add_fetch(&prog->refs, 1, __ATOMIC_RELAXED);
}

void oko_prog_unref(struct oko_prog *prog)
{
    if (prog != NULL && __atomic_sub_fetch(&prog->refs, 1, __ATOMIC_ACQ_REL) == 0)
        prog_free(prog);
}

/* ---------------------------------------------------------------- running */

/* Makes the worker a reader for the call, unless its thread is one already. */
static bool enter(struct oko_vm *vm, uint32_t worker)
{
    if (oko_qsbr_is_online(vm->qsbr, worker))
        return false;
    oko_qsbr_online(vm->qsbr, worker);
    return true;
}

static void leave(struct oko_vm *vm, uint32_t worker, bool entered)
{
    if (entered)
        oko_qsbr_offline(vm->qsbr, worker);
}

static uint64_t run_one(struct oko_prog *prog, struct oko_env *env, bool interpret,
                        const struct oko_prog_in *in)
{
    if (interpret)
        return oko_interp_run(prog, env, in);
    env->meta = in->meta;
    env->pkt = in->data;
    env->len = in->len;
    env->fuel = prog->fuel;
    return prog->jit_run(in->data, in->len, in->meta, env);
}

static uint64_t run_each(struct oko_prog *prog, struct oko_env *env, bool interpret,
                         const struct oko_prog_in *in, uint64_t todo, uint64_t *faulted)
{
    uint64_t matched = 0;
    for (; todo != 0; todo &= todo - 1) {
        unsigned i = (unsigned)__builtin_ctzll(todo);
        uint64_t n_faults = env->n_faults;
        if (run_one(prog, env, interpret, &in[i]) == 1)
            matched |= (uint64_t)1 << i;
        if (env->n_faults != n_faults)
            *faulted |= (uint64_t)1 << i;
    }
    return matched;
}

static uint64_t run_mask(struct oko_prog *prog, struct oko_env *env, bool interpret,
                         const struct oko_prog_in *in, uint64_t todo, uint64_t *faulted)
{
    env->prog = prog;
    if (interpret || prog->facts.guards != 0)
        return run_each(prog, env, interpret, in, todo, faulted);
    return prog->jit_batch(env, in, todo);
}

uint64_t oko_prog_exec(struct oko_prog *prog, struct oko_env *env, bool interpret,
                       const struct oko_prog_in *in, uint64_t todo, uint64_t *faulted)
{
    uint64_t faults = 0;
    uint64_t matched;
    struct oko_prog_counters *counters = &prog->counters[env->worker];
    interpret = interpret || prog->jit == NULL || OKO_LOAD(&prog->profile) != NULL;
    if (counters->calls++ % SAMPLE_EVERY != SAMPLE_AT) {
        matched = run_mask(prog, env, interpret, in, todo, &faults);
    } else {
        uint64_t start = now_ns();
        matched = run_mask(prog, env, interpret, in, todo, &faults);
        oko_count(&counters->sampled_ns, now_ns() - start);
        oko_count(&counters->samples, (uint64_t)__builtin_popcountll(todo));
    }
    if (faulted != NULL)
        *faulted = faults;
    return matched;
}

void oko_prog_count(struct oko_prog *prog, uint32_t worker, uint64_t runs, uint64_t matches,
                    uint64_t faults)
{
    struct oko_prog_counters *counters = &prog->counters[worker];
    oko_count(&counters->runs, runs);
    if (matches != 0)
        oko_count(&counters->matches, matches);
    if (faults != 0)
        oko_count(&counters->faults, faults);
}

static int check_run(const struct oko_prog *prog, uint32_t worker, enum oko_run_engine engine,
                     struct oko_error *error)
{
    if (worker >= oko_vm_n_workers(prog->vm))
        return oko_err(error, OKO_E_INVAL, "worker %" PRIu32 ", but the VM has %" PRIu32, worker,
                       oko_vm_n_workers(prog->vm));
    if (engine == OKO_RUN_JIT && prog->jit == NULL)
        return oko_err(error, OKO_E_UNSUP, "the program has no machine code");
    if (engine == OKO_RUN_CHECKED && prog->facts.states == NULL) {
        oko_err(error, OKO_E_UNSUP, "the verifier's states were not kept");
        oko_err_hint(error, "load the program with OKO_LOAD_KEEP_STATES");
        return OKO_E_UNSUP;
    }
    return 0;
}

static int check_in(const struct oko_prog_in *in, struct oko_error *error)
{
    if (in->len > OKO_MAX_PKT || in->meta == NULL)
        return oko_err(error, OKO_E_INVAL,
                       in->meta == NULL ? "the packet has no metadata"
                                        : "the packet is longer than 65,535 bytes");
    return 0;
}

/* One run by the engine asked for; the worker is online. */
static int run_engine(struct oko_prog *prog, struct oko_env *env, enum oko_run_engine engine,
                      const struct oko_prog_in *in, uint64_t *r0, struct oko_error *error)
{
    uint64_t n_faults = env->n_faults;
    int status = 0;
    env->prog = prog;
    if (engine == OKO_RUN_CHECKED) {
        status = oko_interp_run_checked(prog, env, in, r0, error);
    } else {
        bool profiling = OKO_LOAD(&prog->profile) != NULL;
        bool interpret = engine == OKO_RUN_INTERP ||
                         (engine == OKO_RUN_BEST && (prog->jit == NULL || profiling));
        *r0 = run_one(prog, env, interpret, in);
    }
    if (status == 0 && env->n_faults != n_faults)
        status = oko_err(error, OKO_E_FAULT, "a run-time check stopped the program");
    return status;
}

int oko_prog_run(struct oko_prog *prog, uint32_t worker, enum oko_run_engine engine,
                 const struct oko_prog_in *in, uint64_t *r0, struct oko_error *error)
{
    *r0 = 0;
    int status = check_run(prog, worker, engine, error);
    if (status == 0)
        status = check_in(in, error);
    if (status != 0)
        return status;
    bool entered = enter(prog->vm, worker);
    status = run_engine(prog, oko_vm_env(prog->vm, worker), engine, in, r0, error);
    leave(prog->vm, worker, entered);
    oko_prog_count(prog, worker, 1, *r0 == 1, status == OKO_E_FAULT);
    return status;
}

int oko_prog_run_batch(struct oko_prog *prog, uint32_t worker, enum oko_run_engine engine,
                       const struct oko_prog_in *in, uint64_t todo, uint64_t *matched)
{
    *matched = 0;
    int status = check_run(prog, worker, engine, NULL);
    for (unsigned i = 0; i < MAX_BATCH && status == 0; i++)
        if ((todo >> i & 1) != 0)
            status = check_in(&in[i], NULL);
    if (status != 0)
        return status;
    uint64_t faulted = 0;
    struct oko_env *env = oko_vm_env(prog->vm, worker);
    bool entered = enter(prog->vm, worker);
    if (engine == OKO_RUN_CHECKED) {
        for (uint64_t left = todo; left != 0 && status == 0; left &= left - 1) {
            unsigned i = (unsigned)__builtin_ctzll(left);
            uint64_t r0;
            status = run_engine(prog, env, engine, &in[i], &r0, NULL);
            *matched |= (uint64_t)(r0 == 1) << i;
            if (status == OKO_E_FAULT) {
                faulted |= (uint64_t)1 << i;
                status = 0;
            }
        }
    } else {
        *matched = oko_prog_exec(prog, env, engine == OKO_RUN_INTERP, in, todo, &faulted);
    }
    leave(prog->vm, worker, entered);
    oko_prog_count(prog, worker, (uint64_t)__builtin_popcountll(todo),
                   (uint64_t)__builtin_popcountll(*matched),
                   (uint64_t)__builtin_popcountll(faulted));
    return status;
}

int oko_prog_run_raw(struct oko_prog *prog, enum oko_run_engine engine, uint8_t *mem, uint64_t size,
                     uint64_t *r0, struct oko_error *error)
{
    static const struct oko_meta no_meta;
    const struct oko_prog_in in = {mem, size, &no_meta};
    *r0 = 0;
    if ((prog->flags & OKO_LOAD_CONFORMANCE) == 0)
        return oko_err(error, OKO_E_INVAL,
                       "only programs loaded for conformance tests run on raw memory");
    int status = check_run(prog, 0, engine, error);
    if (status != 0)
        return status;
    bool entered = enter(prog->vm, 0);
    status = run_engine(prog, oko_vm_env(prog->vm, 0), engine, &in, r0, error);
    leave(prog->vm, 0, entered);
    return status;
}

/* ---------------------------------------------------------------- looking at it */

void oko_prog_info(const struct oko_prog *prog, struct oko_prog_info *info)
{
    *info = prog->info;
}

void oko_prog_stats(const struct oko_prog *prog, struct oko_prog_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    for (uint32_t i = 0; i < oko_vm_n_workers(prog->vm); i++) {
        const struct oko_prog_counters *counters = &prog->counters[i];
        stats->runs += OKO_LOAD(&counters->runs);
        stats->matches += OKO_LOAD(&counters->matches);
        stats->faults += OKO_LOAD(&counters->faults);
        stats->samples += OKO_LOAD(&counters->samples);
        stats->sampled_ns += OKO_LOAD(&counters->sampled_ns);
    }
}

uint32_t oko_prog_disasm(const struct oko_prog_spec *spec, uint32_t pc, char *out, uint32_t size)
{
    return oko_insn_print(spec, spec->insns, pc, out, size);
}

void oko_prog_profile(struct oko_prog *prog, uint64_t *counts)
{
    OKO_STORE_RELEASE(&prog->profile, counts);
}

int64_t oko_prog_data_read(struct oko_prog *prog, uint32_t index, uint8_t *out, uint64_t size)
{
    if (index >= prog->spec.n_data)
        return OKO_E_NOTFOUND;
    const struct oko_data *data = &prog->data[index];
    uint64_t n = size < data->spec.size ? size : data->spec.size;
    for (uint64_t i = 0; i < n; i++) /* programs may be writing */
        out[i] = oko_shared_load8(data->bytes + i);
    return (int64_t)data->spec.size;
}

int oko_prog_data_write(struct oko_prog *prog, uint32_t index, const uint8_t *bytes, uint64_t size)
{
    if (index >= prog->spec.n_data)
        return OKO_E_NOTFOUND;
    const struct oko_data *data = &prog->data[index];
    if (!data->spec.writable || size != data->spec.size)
        return OKO_E_INVAL;
    for (uint64_t i = 0; i < size; i++) /* programs may be reading */
        OKO_STORE(data->bytes + i, bytes[i]);
    return 0;
}

struct oko_map *oko_prog_map(struct oko_prog *prog, uint32_t index)
{
    return index < prog->spec.n_maps ? prog->maps[index] : NULL;
}
