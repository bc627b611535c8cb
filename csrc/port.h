/* Ports: where packets leave. (Where they come from is the business of whoever runs the workers:
 * the replay engine, later the receive loops of live ports.)
 *
 * tx gets one packet, valid only during the call, and copies what it keeps; it is called by the
 * forwarding thread `worker`, for one worker never concurrently, for different workers possibly at
 * once. flush marks the end of that worker's burst. A port without tx only counts (null port).
 * Counters are per worker, single-writer; readers sum them (counter.h). */
#ifndef OKO_PORT_H
#define OKO_PORT_H

#include "pkt.h"

struct oko_port;

struct oko_port_ops {
    const char *name; /* "pcap", "null", "mem" */
    /* 0, or a negative OKO_E*: the packet is counted as dropped ("port-tx-failed"). */
    int (*tx)(struct oko_port *port, uint32_t worker, const struct oko_pkt *pkt);
    void (*flush)(struct oko_port *port, uint32_t worker);
    void (*close)(struct oko_port *port);
};

struct oko_port_counters {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, tx_dropped, pad[3];
};

struct oko_port {
    const struct oko_port_ops *ops;
    uint32_t number; /* 1..OKO_PORT_MAX - 1 */
    char name[32];
    void *ctx; /* the implementation's own state */
    bool no_flood, no_fwd, no_recv, no_packet_in;
    struct oko_port_counters *counters; /* [n_workers] */
};

#endif
