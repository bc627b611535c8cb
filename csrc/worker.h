/* A forwarding thread's share of the datapath, and the burst function: start reading here.
 *
 *     rx (the caller) -> parse -> look up -> filter -> act -> tx
 *
 * A worker is one struct per forwarding thread (index 0..n_workers-1): its cache, its packet pool,
 * its counters, its programs' environment. The thread brackets its work with online/offline;
 * between two bursts it is quiescent (qsbr.h), so a commit waits for one burst at most and never
 * for traffic.
 *
 * Thread-safety: a worker belongs to the thread that runs it. Thread and control side share only
 * the published version, the rules' visibility stamps, and counters (relaxed, single-writer). */
#ifndef OKO_WORKER_H
#define OKO_WORKER_H

#include "port.h"

struct oko_dp;
struct oko_worker;

struct oko_worker *oko_dp_worker(struct oko_dp *dp, uint32_t index);

void oko_worker_online(struct oko_worker *worker);
void oko_worker_offline(struct oko_worker *worker);

/* Handles n packets (at most OKO_BURST) in arrival order, each to its end, as if one after another.
 * The caller has set data, len, in_port, meta (rx_ns never runs back for one worker), seq; data is
 * borrowed (owned = false) and stays valid and unchanged until the call returns. Contains the
 * quiescent point. */
void oko_worker_burst(struct oko_worker *worker, struct oko_pkt *pkts, uint32_t n);

/* Advances the datapath clock without packets: timeouts that fall due until now_ns become events.
 */
void oko_worker_tick(struct oko_worker *worker, uint64_t now_ns);

/* Is the event ring at least half full? Whoever feeds the workers pauses until it was read. */
bool oko_dp_events_waiting(struct oko_dp *dp);

#endif
