/* Quiescent-state-based reclamation; see qsbr.h.
 *
 * Memory order. A writer unpublishes, then increments the epoch (release). A reader that loads the
 * new epoch (acquire) therefore sees the object gone, and its store of that epoch (release) comes
 * after all its earlier reads, so a writer that sees it (acquire) may free. Going online is the one
 * place that needs a full barrier: the reader's "I am here" must be visible before its first read,
 * or a writer could find it offline and free what it is about to read. */
#include "qsbr.h"

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "oko.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct reader {
    _Alignas(OKO_CACHE_LINE) uint64_t seen; /* newest epoch seen; 0 = offline */
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *);
    void *arg;
    uint64_t epoch; /* has to pass before the call */
};

struct oko_qsbr {
    struct reader readers[OKO_QSBR_MAX_READERS];
    _Alignas(OKO_CACHE_LINE) uint64_t epoch; /* starts at 1, only grows */
    uint32_t n_readers;
    pthread_mutex_t mutex;         /* guards the list */
    struct deferred *first, *last; /* in order of epochs */
    uint32_t n_deferred;
};

int oko_qsbr_new(uint32_t n_readers, struct oko_qsbr **qsbr)
{
    *qsbr = NULL;
    if (n_readers == 0 || n_readers > OKO_QSBR_MAX_READERS)
        return OKO_E_INVAL;
    struct oko_qsbr *q = oko_alloc(sizeof(*q));
    if (q == NULL)
        return OKO_E_NOMEM;
    if (pthread_mutex_init(&q->mutex, NULL) != 0) {
        oko_release(q, sizeof(*q));
        return OKO_E_NOMEM;
    }
    q->epoch = 1;
    q->n_readers = n_readers;
    *qsbr = q;
    return 0;
}

void oko_qsbr_free(struct oko_qsbr *qsbr)
{
    if (qsbr == NULL)
        return;
    while (qsbr->first != NULL) {
        struct deferred *d = qsbr->first;
        qsbr->first = d->next;
        d->fn(d->arg);
        free(d);
    }
    pthread_mutex_destroy(&qsbr->mutex);
    oko_release(qsbr, sizeof(*qsbr));
}

/* ---------------------------------------------------------------- readers */

void oko_qsbr_online(struct oko_qsbr *qsbr, uint32_t reader)
{
    uint64_t *seen = &qsbr->readers[reader].seen;
    uint64_t epoch = OKO_LOAD_ACQUIRE(&qsbr->epoch);
    __atomic_exchange_n(seen, epoch, __ATOMIC_SEQ_CST);
    oko_fence();
}

void oko_qsbr_quiescent(struct oko_qsbr *qsbr, uint32_t reader)
{
    uint64_t *seen = &qsbr->readers[reader].seen;
    uint64_t epoch = OKO_LOAD_ACQUIRE(&qsbr->epoch);
    if (OKO_LOAD(seen) != epoch) /* no store, no shared line touched, while nothing happens */
        OKO_STORE_RELEASE(seen, epoch);
}

void oko_qsbr_offline(struct oko_qsbr *qsbr, uint32_t reader)
{
    OKO_STORE_RELEASE(&qsbr->readers[reader].seen, 0);
}

bool oko_qsbr_is_online(const struct oko_qsbr *qsbr, uint32_t reader)
{
    return OKO_LOAD(&qsbr->readers[reader].seen) != 0;
}

uint32_t oko_qsbr_n_readers(const struct oko_qsbr *qsbr)
{
    return qsbr->n_readers;
}

/* ---------------------------------------------------------------- writers */

uint64_t oko_qsbr_start(struct oko_qsbr *qsbr)
{
    return __atomic_add_fetch(&qsbr->epoch, 1, __ATOMIC_SEQ_CST);
}

bool oko_qsbr_passed_but(struct oko_qsbr *qsbr, uint64_t epoch, uint32_t reader)
{
    oko_fence(); /* pairs with the one in online */
    for (uint32_t i = 0; i < qsbr->n_readers; i++) {
        uint64_t seen = __atomic_load_n(&qsbr->readers[i].seen, __ATOMIC_SEQ_CST);
        if (seen != 0 && seen < epoch && i != reader)
            return false;
    }
    return true;
}

bool oko_qsbr_passed(struct oko_qsbr *qsbr, uint64_t epoch)
{
    return oko_qsbr_passed_but(qsbr, epoch, UINT32_MAX);
}

void oko_qsbr_synchronize(struct oko_qsbr *qsbr)
{
    uint64_t epoch = oko_qsbr_start(qsbr);
    for (uint32_t tries = 0; !oko_qsbr_passed(qsbr, epoch); tries++) {
        if (tries < 100) {
            sched_yield();
        } else {
            struct timespec pause = {0, 50 * 1000};
            nanosleep(&pause, NULL);
        }
    }
}

/* ---------------------------------------------------------------- deferred calls */

/* Takes one due call off the list, or NULL. */
static struct deferred *take_due(struct oko_qsbr *qsbr, uint32_t *n_left)
{
    pthread_mutex_lock(&qsbr->mutex);
    struct deferred *d = qsbr->first;
    if (d != NULL && oko_qsbr_passed(qsbr, d->epoch)) {
        qsbr->first = d->next;
        if (d->next == NULL)
            qsbr->last = NULL;
        qsbr->n_deferred--;
    } else {
        d = NULL;
    }
    *n_left = qsbr->n_deferred;
    pthread_mutex_unlock(&qsbr->mutex);
    return d;
}

uint32_t oko_qsbr_poll(struct oko_qsbr *qsbr)
{
    uint32_t n_left;
    for (struct deferred *d; (d = take_due(qsbr, &n_left)) != NULL; free(d))
        d->fn(d->arg); /* without the mutex: it may defer again */
    return n_left;
}

int oko_qsbr_defer(struct oko_qsbr *qsbr, void (*fn)(void *), void *arg)
{
    struct deferred *d = malloc(sizeof(*d));
    if (d == NULL)
        return OKO_E_NOMEM;
    d->next = NULL;
    d->fn = fn;
    d->arg = arg;
    pthread_mutex_lock(&qsbr->mutex);
    d->epoch = oko_qsbr_start(qsbr); /* under the mutex, so that the list is in order */
    if (qsbr->last != NULL)
        qsbr->last->next = d;
    else
        qsbr->first = d;
    qsbr->last = d;
    qsbr->n_deferred++;
    pthread_mutex_unlock(&qsbr->mutex);
    oko_qsbr_poll(qsbr);
    return 0;
}
