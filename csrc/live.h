/* Forwarding threads: packets from live ports through the datapath, until told to stop.
 *
 * Each thread is one worker and serves the ports whose number says so. Its loop: take a burst from
 * each of its ports in turn, hand it to oko_worker_burst(), and when nothing has come for a while
 * go offline and sleep in ppoll() until something does, a port is added or removed, or a timeout
 * may fall due. So an idle switch costs next to no CPU, and nothing that waits for a grace period
 * waits for traffic.
 *
 * The frames lie in the thread's own buffers; a port may be removed while they are on their way.
 *
 * Thread-safety: start and stop by one thread; wake and call from any other. */
#ifndef OKO_LIVE_H
#define OKO_LIVE_H

#include "oko.h"

#include <time.h>

/* The live clock: nanoseconds since 1970 as they were when the threads were started, and since then
 * as CLOCK_MONOTONIC goes: it never jumps, yet times that survive a restart keep their meaning. */
static inline uint64_t oko_live_clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
#define OKO_LIVE_NOW(dp) (OKO_LOAD(&(dp)->clock_ofs) + oko_live_clock_of(CLOCK_MONOTONIC))

struct oko_live;
struct oko_worker;

/* The threads look at the datapath's ports anew. Takes NULL. */
void oko_live_wake(struct oko_live *live);
/* Has a thread call fn between two bursts, online, and waits until it has. Not from a forwarding
 * thread, nor under the datapath's mutex, nor beside oko_dp_stop(). OKO_E_BUSY: it did not come to
 * it within a second, and will not call it. */
int oko_live_call(struct oko_live *live, uint32_t index, void (*fn)(struct oko_worker *, void *),
                  void *arg);
/* 0 for NULL. */
uint32_t oko_live_n_threads(const struct oko_live *live);

#endif
