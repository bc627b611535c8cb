/* The VM: where programs and their maps live, and what they share (quota, secret, log, readers).
 *
 * One per bridge. It outlives its programs: oko_vm_free() only drops the owner's reference, each
 * program holds one too, so a forgotten program never points into freed memory.
 *
 * Thread-safety. The mutex guards quotas and is taken by the control side only. The log ring has a
 * spin lock of its own for the time of copying one line. Everything else is constant after
 * oko_vm_new(). */
#ifndef OKO_BPF_VM_H
#define OKO_BPF_VM_H

#include "../base/hash.h"
#include "env.h"
#include "prog.h"

#include <pthread.h>

enum {
    OKO_LOG_LINE = 160,       /* bytes of one line, NUL included */
    OKO_LOG_LINES = 256,      /* of the ring */
    OKO_LOG_PER_SECOND = 1000 /* lines of one worker in a second of the datapath clock */
};

struct oko_vm_log {
    uint8_t lock;
    uint64_t head, tail; /* lines written and read so far */
    uint64_t lost;       /* since the last read; ring full, or over the rate */
    char lines[OKO_LOG_LINES][OKO_LOG_LINE];
};

/* Per worker, a cache line of its own. */
struct oko_vm_worker {
    _Alignas(64) struct oko_env env;
    uint64_t log_second; /* of the datapath clock, in which... */
    uint32_t log_count;  /* ... so many lines were written */
};

struct oko_vm {
    uint32_t refs; /* owner and programs; atomic */
    uint32_t n_workers;
    uint32_t max_progs;
    uint64_t max_bytes;
    struct oko_hash_key hash_key; /* of all hash tables */
    uint64_t secret;
    struct oko_qsbr *qsbr;
    pthread_mutex_t mutex; /* guards n_progs and bytes */
    uint32_t n_progs;
    uint64_t bytes; /* charged: maps, data and code */
    struct oko_vm_worker *workers;
    uint8_t *scratch; /* OKO_SCRATCH_SIZE per worker */
    struct oko_vm_log *log;
};

/* Takes bytes from the quota, or refuses saying what is used. what: "map blocked". */
int oko_vm_charge(struct oko_vm *vm, uint64_t bytes, const char *what, struct oko_error *error);
void oko_vm_refund(struct oko_vm *vm, uint64_t bytes);
/* Counts a program in. A reload may go one over the limit: the old instance still counts. */
int oko_vm_add_prog(struct oko_vm *vm, bool reload, struct oko_error *error);
void oko_vm_remove_prog(struct oko_vm *vm);

/* Adds a line to the log, after the running program's name; counts it as lost when there is no room
 * or the worker is over its rate. */
void oko_vm_log(struct oko_env *env, const char *text, uint32_t length);

#endif
