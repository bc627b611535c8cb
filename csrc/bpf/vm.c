/* The VM: quotas, environments of the workers, and the programs' log; see vm.h. */
#include "vm.h"

#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "../qsbr.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { DEFAULT_MAX_PROGS = 1024 };
static const uint64_t default_max_bytes = (uint64_t)1 << 30;

/* ---------------------------------------------------------------- life */

static uint64_t random_secret(void)
{
    uint64_t secret = 0;
    if (getrandom(&secret, sizeof(secret), 0) == (ssize_t)sizeof(secret) && secret != 0)
        return secret;
    struct timespec now; /* no entropy source: a guessable secret costs speed, not correctness */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((uint64_t)now.tv_sec << 32) ^ (uint64_t)now.tv_nsec ^ (uint64_t)(uintptr_t)&now;
}

static void destroy(struct oko_vm *vm)
{
    oko_qsbr_free(vm->qsbr);
    oko_release(vm->workers, vm->n_workers * sizeof(*vm->workers));
    oko_release(vm->scratch, (uint64_t)vm->n_workers * OKO_SCRATCH_SIZE);
    free(vm->log);
    pthread_mutex_destroy(&vm->mutex);
    free(vm);
}

int oko_vm_new(const struct oko_vm_opts *opts, struct oko_vm **vm_out)
{
    *vm_out = NULL;
    if (opts->n_workers == 0 || opts->n_workers > OKO_QSBR_MAX_READERS)
        return OKO_E_INVAL;
    struct oko_vm *vm = calloc(1, sizeof(*vm));
    if (vm == NULL)
        return OKO_E_NOMEM;
    if (pthread_mutex_init(&vm->mutex, NULL) != 0) {
        free(vm);
        return OKO_E_NOMEM;
    }
    vm->refs = 1;
    vm->n_workers = opts->n_workers;
    vm->max_progs = opts->max_progs != 0 ? opts->max_progs : DEFAULT_MAX_PROGS;
    vm->max_bytes = opts->max_map_bytes != 0 ? opts->max_map_bytes : default_max_bytes;
    vm->secret = opts->secret != 0 ? opts->secret : random_secret();
    vm->hash_key = oko_hash_key_from(vm->secret);
    vm->workers = oko_alloc(vm->n_workers * sizeof(*vm->workers));
    vm->scratch = oko_alloc((uint64_t)vm->n_workers * OKO_SCRATCH_SIZE);
    vm->log = calloc(1, sizeof(*vm->log));
    if (oko_qsbr_new(vm->n_workers, &vm->qsbr) != 0 || vm->workers == NULL || vm->scratch == NULL ||
        vm->log == NULL) {
        destroy(vm);
        return OKO_E_NOMEM;
    }
    for (uint32_t i = 0; i < vm->n_workers; i++) {
        struct oko_env *env = &vm->workers[i].env;
        env->worker = i;
        env->vm = vm;
        env->scratch = vm->scratch + (uint64_t)i * OKO_SCRATCH_SIZE;
    }
    *vm_out = vm;
    return 0;
}

static void unref(struct oko_vm *vm)
{
    if (__atomic_sub_fetch(&vm->refs, 1, __ATOMIC_ACQ_REL) == 0)
        destroy(vm);
}

void oko_vm_free(struct oko_vm *vm)
{
    if (vm != NULL)
        unref(vm);
}

struct oko_qsbr *oko_vm_qsbr(const struct oko_vm *vm)
{
    return vm->qsbr;
}

struct oko_env *oko_vm_env(struct oko_vm *vm, uint32_t worker)
{
    return &vm->workers[worker].env;
}

uint32_t oko_vm_n_workers(const struct oko_vm *vm)
{
    return vm->n_workers;
}

uint64_t oko_vm_secret(const struct oko_vm *vm)
{
    return vm->secret;
}

/* ---------------------------------------------------------------- quotas */

int oko_vm_charge(struct oko_vm *vm, uint64_t bytes, const char *what, struct oko_error *error)
{
    pthread_mutex_lock(&vm->mutex);
    uint64_t used = vm->bytes;
    bool fits = bytes <= vm->max_bytes && used <= vm->max_bytes - bytes;
    if (fits)
        vm->bytes += bytes;
    pthread_mutex_unlock(&vm->mutex);
    if (fits)
        return 0;
    if (bytes == UINT64_MAX)
        oko_err(error, OKO_E_NOMEM, "%s: its size is beyond all memory", what);
    else
        oko_err(error, OKO_E_NOMEM,
                "%s takes %" PRIu64 " bytes, but of the %" PRIu64
                " that maps of all programs may take %" PRIu64 " are in use",
                what, bytes, vm->max_bytes, used);
    oko_err_hint(error, "lower max_entries, unload programs, or raise the limit (max_map_bytes)");
    return OKO_E_NOMEM;
}

void oko_vm_refund(struct oko_vm *vm, uint64_t bytes)
{
    pthread_mutex_lock(&vm->mutex);
    vm->bytes -= bytes;
    pthread_mutex_unlock(&vm->mutex);
}

int oko_vm_add_prog(struct oko_vm *vm, bool reload, struct oko_error *error)
{
    pthread_mutex_lock(&vm->mutex);
    bool fits = vm->n_progs < vm->max_progs + (reload ? 1u : 0u);
    if (fits)
        vm->n_progs++;
    pthread_mutex_unlock(&vm->mutex);
    if (!fits) {
        oko_err(error, OKO_E_LIMIT, "%" PRIu32 " programs are loaded, which is the limit",
                vm->max_progs);
        oko_err_hint(error, "unload programs, or raise the limit (max_progs)");
        return OKO_E_LIMIT;
    }
    __atomic_add_fetch(&vm->refs, 1, __ATOMIC_RELAXED);
    return 0;
}

void oko_vm_remove_prog(struct oko_vm *vm)
{
    pthread_mutex_lock(&vm->mutex);
    vm->n_progs--;
    pthread_mutex_unlock(&vm->mutex);
    unref(vm);
}

/* ---------------------------------------------------------------- the log */

/* Is the worker still below its rate? Judged by the packet's time, so that the same capture logs
 * the same lines at any speed. */
static bool within_rate(struct oko_vm_worker *worker)
{
    const struct oko_meta *meta = worker->env.meta;
    uint64_t second = meta != NULL ? meta->rx_ns / 1000000000u : 0;
    if (second != worker->log_second) {
        worker->log_second = second;
        worker->log_count = 0;
    }
    return worker->log_count < OKO_LOG_PER_SECOND && ++worker->log_count != 0;
}

void oko_vm_log(struct oko_env *env, const char *text, uint32_t length)
{
    struct oko_vm_log *log = env->vm->log;
    if (env->quiet)
        return;
    if (!within_rate(&env->vm->workers[env->worker])) {
        __atomic_add_fetch(&log->lost, 1, __ATOMIC_RELAXED);
        return;
    }
    oko_spin_lock(&log->lock);
    if (log->head - log->tail < OKO_LOG_LINES) {
        char *line = log->lines[log->head % OKO_LOG_LINES];
        snprintf(line, OKO_LOG_LINE, "%.63s: %.*s", env->prog->spec.name, (int)length, text);
        log->head++;
    } else {
        __atomic_add_fetch(&log->lost, 1, __ATOMIC_RELAXED);
    }
    oko_spin_unlock(&log->lock);
}

uint32_t oko_vm_log_read(struct oko_vm *vm, char *out, uint32_t size, uint64_t *lost)
{
    struct oko_vm_log *log = vm->log;
    uint32_t length = 0;
    if (size == 0)
        return 0;
    out[0] = 0;
    oko_spin_lock(&log->lock);
    if (log->head != log->tail) {
        int n = snprintf(out, size, "%s", log->lines[log->tail % OKO_LOG_LINES]);
        length = n < 0 ? 0 : (uint32_t)n < size ? (uint32_t)n : size - 1;
        log->tail++;
    }
    oko_spin_unlock(&log->lock);
    if (lost != NULL)
        *lost = __atomic_exchange_n(&log->lost, 0, __ATOMIC_RELAXED);
    return length;
}
