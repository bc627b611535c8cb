/* Internet checksums (RFC 1071), updated incrementally (RFC 1624), and SCTP's CRC32c (RFC 9260).
 *
 * An incremental update carries an error that was in the checksum over to the new one: a frame that
 * was broken stays recognisably broken. CRC32c has the same property here, by exclusive or.
 *
 * Thread-safety: pure functions on the caller's bytes. */
#ifndef OKO_CHECKSUM_H
#define OKO_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

/* One's complement sum of n bytes as big-endian words, folded to 16 bits; an odd last byte is the
 * high half of its word. */
uint16_t oko_sum(const uint8_t *p, uint32_t n);
/* The checksum at csum[0..2) covers words whose sum changed from `before` to `after`. udp: zero
 * means that there is none, so it stays, and is never the result. */
void oko_checksum_update(uint8_t *csum, uint16_t before, uint16_t after, bool udp);
/* CRC32c of an SCTP packet (at least 12 bytes) with its checksum field taken as zero, in the order
 * in which it stands on the wire when stored with memcpy. */
uint32_t oko_sctp_crc(const uint8_t *sctp, uint32_t n);

#endif
