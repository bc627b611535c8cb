/* What a sender left to its network card, done in software: checksums and segmentation.
 *
 * A host that sends through a virtual device hands over packets whose checksum is still to be
 * completed, and TCP (or UDP) packets many times the MTU that the card is to cut up ("GSO"). The
 * kernel says so in a struct virtio_net_hdr in front of the frame. The datapath deals in frames as
 * they are on a wire, so both are done when such a frame is received.
 *
 * Fails safely: a header that makes no sense changes nothing, and the frame is dropped.
 * Thread-safety: pure functions on the caller's bytes. */
#ifndef OKO_OFFLOAD_H
#define OKO_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

/* Completes the checksum at start + offset: it holds the pseudo-header's sum already, and is to
 * cover everything from start on. False: that lies outside the frame. */
bool oko_offload_checksum(uint8_t *frame, uint32_t len, uint32_t start, uint32_t offset);

enum oko_gso_kind { OKO_GSO_TCP4, OKO_GSO_TCP6, OKO_GSO_UDP };

/* A large frame being cut up. Borrows it. */
struct oko_gso {
    const uint8_t *frame;
    uint32_t len;
    uint32_t l3, l4;  /* offsets of the IP and the TCP or UDP header */
    uint32_t headers; /* bytes that every segment begins with */
    uint32_t size;    /* payload of a segment; the last one may have less */
    uint32_t at;      /* payload bytes done */
    uint32_t n;       /* segments made */
    enum oko_gso_kind kind;
};

/* l4: where the TCP or UDP header begins; size: as gso_size. False: this is no such frame. */
bool oko_gso_begin(struct oko_gso *gso, const uint8_t *frame, uint32_t len, uint32_t l4,
                   uint32_t size, enum oko_gso_kind kind);
/* Writes the next segment (at most room bytes), checksums complete; returns its length, 0 at the
 * end. */
uint32_t oko_gso_next(struct oko_gso *gso, uint8_t *out, uint32_t room);

#endif
