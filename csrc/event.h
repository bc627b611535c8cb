/* The event ring: what happened on the packet path, for whoever reads it later.
 *
 * A byte ring of records (struct oko_event with data). Events are rare beside packets, so one mutex
 * guards it; a forwarding thread holds it for one copy. A record that does not fit is lost and
 * counted; nothing waits for a slow reader. An eventfd tells that there is something to read. */
#ifndef OKO_EVENT_H
#define OKO_EVENT_H

#include "oko.h"

struct oko_ring;

int oko_ring_new(uint64_t size, struct oko_ring **ring);
void oko_ring_free(struct oko_ring *ring);
int oko_ring_fd(const struct oko_ring *ring);

/* event->size is set here, from data_len bytes of data. */
void oko_ring_put(struct oko_ring *ring, struct oko_event *event, const void *data);
/* As oko_dp_events(). */
int64_t oko_ring_take(struct oko_ring *ring, uint8_t *out, uint64_t size, uint64_t *lost);
/* Makes the file descriptor readable. */
void oko_ring_wake(const struct oko_ring *ring);
/* From any thread, without the mutex: a hint. */
bool oko_ring_half_full(const struct oko_ring *ring);

#endif
