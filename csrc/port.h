/* Ports: where packets leave, and for live ports where they come from. (In a replay they come from
 * the replay engine.)
 *
 * rx takes frames off the port into buffers of the forwarding thread's own, so that the port may go
 * at any time; only the thread that the port belongs to calls it (live.c), between two quiescent
 * points.
 *
 * tx gets one packet, valid only during the call, and copies what it keeps; it is called by the
 * forwarding thread `worker`, for one worker never concurrently, for different workers possibly at
 * once. flush marks the end of that worker's burst. A port without tx only counts (null port).
 * Counters are per worker, single-writer; readers sum them (counter.h). */
#ifndef OKO_PORT_H
#define OKO_PORT_H

#include "gc.h"
#include "pkt.h"

/* Reserved numbers (OpenFlow 1.3, 7.2.1). */
#define OKO_PORT_IN_PORT    0xfffffff8u
#define OKO_PORT_TABLE      0xfffffff9u
#define OKO_PORT_NORMAL     0xfffffffau
#define OKO_PORT_FLOOD      0xfffffffbu
#define OKO_PORT_ALL        0xfffffffcu
#define OKO_PORT_CONTROLLER 0xfffffffdu
#define OKO_PORT_LOCAL      0xfffffffeu
#define OKO_PORT_ANY        0xffffffffu

struct oko_port;

/* Room in front of a received frame, and for it with a tag put back; what is longer is cut, and
 * dropped by its length. */
enum { OKO_RX_ROOM = 64, OKO_RX_BUFFER = OKO_RX_ROOM + OKO_FRAME_MAX + 65 };

/* Frames received: frame i begins at data[i] inside buffer[i]. */
struct oko_rx {
    uint8_t *buffer[OKO_BURST]; /* OKO_RX_BUFFER bytes each */
    uint8_t *data[OKO_BURST];
    uint32_t len[OKO_BURST]; /* more than OKO_FRAME_MAX: too long, cut */
};

struct oko_port_ops {
    const char *name; /* "pcap", "null", "mem" */
    /* NULL: nothing ever arrives. Takes up to OKO_BURST frames that have arrived by now_ns
     * (the live clock), without waiting; returns how many. */
    uint32_t (*rx)(struct oko_port *port, struct oko_rx *rx, uint64_t now_ns);
    /* What to poll for arrivals, or -1. Needed with rx. */
    int (*fd)(struct oko_port *port);
    /* When the next frame comes, for ports that know, by the live clock; OKO_NEVER: not any more.
     */
    uint64_t (*due_ns)(struct oko_port *port);
    /* 0, or a negative OKO_E*: the packet is counted as dropped ("port-tx-failed"). */
    int (*tx)(struct oko_port *port, uint32_t worker, const struct oko_pkt *pkt);
    void (*flush)(struct oko_port *port, uint32_t worker);
    void (*close)(struct oko_port *port);
};

/* One cache line, at the beginning of one: no other worker's lies there. */
struct oko_port_counters {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, tx_dropped;
    uint64_t flush_burst; /* the worker's: burst in which flush is due */
    uint64_t pad[2];
};

_Static_assert(sizeof(struct oko_port_counters) == 64, "a cache line each");

struct oko_queues; /* queue.h */

struct oko_port {
    struct oko_gc gc;
    const struct oko_port_ops *ops; /* NULL: a null port */
    uint32_t number;                /* 1..OKO_PORT_MAX - 1, or LOCAL */
    char name[32];
    void *ctx;                          /* the implementation's own state */
    uint32_t flags;                     /* enum oko_port_flag; atomic */
    struct oko_port_counters *counters; /* [n_workers] */
    struct oko_queues *queues;          /* queue.h; atomic; NULL: none are declared */
    uint64_t rx_dropped;                /* atomic: lost before they came here, as the port knows */
};

struct oko_dp;
/* Adds a port of the given kind; ctx belongs to it from now on (close gives it back), also when
 * this fails. ops NULL: a null port. Errors as oko_dp_port_add_null(). */
int oko_dp_port_attach(struct oko_dp *dp, uint32_t number, const char *name,
                       const struct oko_port_ops *ops, void *ctx);

#endif
