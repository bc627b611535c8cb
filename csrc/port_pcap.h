/* Ports that write a pcap file.
 *
 * Idea. With one worker a record goes straight into one large buffer, written out when full. With
 * several, each worker appends to a list of its own, and oko_writer_merge(), called while all of
 * them rest, moves the records to the buffer in the order of the packets they came from (seq): the
 * file is the same whatever the number of workers.
 *
 * Fails safely: the first failed write is remembered, every later packet is refused (and counted as
 * not sent), and merge, flush say so: a file is never silently short.
 *
 * Thread-safety: tx by each worker on its own list; everything else while no worker runs. */
#ifndef OKO_PORT_PCAP_H
#define OKO_PORT_PCAP_H

#include "port.h"

/* The workers are at rest: bring what they sent into order. OKO_E_IO with *error when a write
 * failed, now or before. */
int oko_writer_merge(struct oko_writer *writer, struct oko_error *error);

/* One record, by a writer made for one worker. 0, or OKO_E_IO. */
int oko_writer_put(struct oko_writer *writer, const struct oko_pkt *pkt);

#endif
