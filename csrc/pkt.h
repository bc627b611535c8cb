/* A packet on its way through the switch, and the burst it travels in.
 *
 * A packet is linear: len bytes at data, at most OKO_MAX_PKT, with OKO_HEADROOM bytes in front for
 * tags that actions push. `data` may be borrowed from a preloaded capture (owned == false): nobody
 * writes to a borrowed frame; the first action that modifies copies it into the worker's pool
 * (oko_pkt_writable). Programs see the frame as it was when the pass began: pass_data/pass_len keep
 * that, and a modified packet keeps both copies while a later table can still reach a program.
 *
 * Owned by one forwarding thread at a time; no locking. */
#ifndef OKO_PKT_H
#define OKO_PKT_H

#include "key.h"

enum { OKO_BURST = 32, OKO_HEADROOM = 128, OKO_FRAME_MAX = 65535 };

/* Layer offsets found by the parser, in bytes from data; OKO_NO_LAYER when absent. */
enum { OKO_NO_LAYER = 0xffff };

struct oko_pkt {
    uint8_t *data;
    uint32_t len; /* bytes present */
    uint32_t in_port;
    struct oko_meta meta;     /* what programs get as r3: rx_ns, wire_len ... of the pass's start */
    const uint8_t *pass_data; /* the frame as it was when the pass began */
    uint32_t pass_len;
    bool owned;      /* data is in the worker's pool and may be written */
    uint8_t n_vlans; /* tags parsed: 0, 1 or 2 */
    uint16_t l2_5;   /* first MPLS label */
    uint16_t l3;     /* IPv4, IPv6 or ARP header */
    uint16_t l4;     /* TCP, UDP, SCTP, ICMP header: set only when it is really all there */
    uint64_t seq;    /* input order over the whole replay; merges written captures */
    uint32_t queue;  /* set_queue */
    uint8_t *buffer; /* pool buffer backing owned data, or NULL */
};

#endif
