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
    struct oko_meta meta;     /* what programs get as r3: all of it as at the pass's start */
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

/* A worker's frame buffers: each has OKO_HEADROOM bytes in front of OKO_FRAME_MAX, so that no edit
 * ever needs another one. Last released, first taken: the warm one. Grows on demand up to its
 * limit and keeps what it has. One thread. */
struct oko_pool;

int oko_pool_new(uint32_t max_buffers, struct oko_pool **pool);
void oko_pool_free(struct oko_pool *pool); /* every buffer must have been released */

/* Makes data writable: copies a borrowed frame (at most OKO_FRAME_MAX bytes) into a buffer of its
 * own; nothing to do when it is owned. OKO_E_NOMEM: out of buffers, the packet is unchanged. */
int oko_pkt_writable(struct oko_pkt *pkt, struct oko_pool *pool);
/* Like *src, with a frame of its own when src's is owned (later edits of one do not show in the
 * other). OKO_E_NOMEM: out of buffers, *copy is not valid. */
int oko_pkt_clone(const struct oko_pkt *src, struct oko_pool *pool, struct oko_pkt *copy);
/* Gives an owned frame's buffer back. data becomes NULL if it lay there. */
void oko_pkt_release(struct oko_pkt *pkt, struct oko_pool *pool);

#endif
