/* Quiescent-state-based reclamation: when may what readers could still hold be freed?
 *
 * Idea (McKenney & Slingwine 1998; Hart et al. 2007). Each forwarding thread (reader) owns a cache
 * line with the last epoch it has seen, or 0 while it is offline (idle or not started). A writer
 * unpublishes an object, advances the global epoch, and may free the object once every online
 * reader has reported that epoch or a later one. A reader reports between bursts, with one store;
 * it never waits and never writes a line that another reader writes. An idle reader goes offline,
 * so nothing ever waits for traffic.
 *
 * Thread-safety: online/quiescent/offline only by the reader's own thread; defer, poll and
 * synchronize from any thread. Fails safely: an object whose grace period never ends leaks, it is
 * never freed early. */
#ifndef OKO_QSBR_H
#define OKO_QSBR_H

#include <stdbool.h>
#include <stdint.h>

enum { OKO_QSBR_MAX_READERS = 64 };

struct oko_qsbr;

int oko_qsbr_new(uint32_t n_readers, struct oko_qsbr **qsbr);
void oko_qsbr_free(struct oko_qsbr *qsbr); /* runs what is still deferred */

void oko_qsbr_online(struct oko_qsbr *qsbr, uint32_t reader);
void oko_qsbr_quiescent(struct oko_qsbr *qsbr, uint32_t reader);
void oko_qsbr_offline(struct oko_qsbr *qsbr, uint32_t reader);

/* Is the reader online? For the reader's own thread. */
bool oko_qsbr_is_online(const struct oko_qsbr *qsbr, uint32_t reader);
uint32_t oko_qsbr_n_readers(const struct oko_qsbr *qsbr);

/* Starts a grace period: returns the epoch that has to pass; never 0. */
uint64_t oko_qsbr_start(struct oko_qsbr *qsbr);
/* Has every reader passed it? */
bool oko_qsbr_passed(struct oko_qsbr *qsbr, uint64_t epoch);
/* The same, but the calling reader does not count: it knows what it holds itself. */
bool oko_qsbr_passed_but(struct oko_qsbr *qsbr, uint64_t epoch, uint32_t reader);
/* Waits until every reader that is online now has been quiescent once. Not from a reader. */
void oko_qsbr_synchronize(struct oko_qsbr *qsbr);
/* Calls fn(arg) after a grace period, from some later defer/poll/free call. */
int oko_qsbr_defer(struct oko_qsbr *qsbr, void (*fn)(void *), void *arg);
/* Runs what is due; returns how many are still waiting. */
uint32_t oko_qsbr_poll(struct oko_qsbr *qsbr);

#endif
