/* The MAC table of NORMAL: where was this address last seen?
 *
 * Idea. An open-addressed hash table of (VLAN, address) -> (port, time), twice as large as the
 * number of addresses it may hold. An entry's address never changes, so readers need no lock; port
 * and time are single words. An address unseen for 300 seconds of the datapath clock is unknown
 * from that moment on. A table that is full is made anew without those (at most once a second of
 * that clock), and the old one freed after a grace period.
 *
 * Fails safely: while max addresses are known, newcomers are not learned and frames to them are
 * flooded; those that are known stay known.
 *
 * Thread-safety: finding takes no lock; a new address takes the table's spin lock; seeing a known
 * one stores its time, and its port if it moved.
 */
#ifndef OKO_MAC_H
#define OKO_MAC_H

#include "oko.h"
#include "qsbr.h"

#define OKO_MAC_AGE (300ull * 1000000000u)

struct oko_macs;

int oko_macs_new(uint32_t max, uint64_t secret, struct oko_qsbr *qsbr, struct oko_macs **macs);
/* Before the registry of readers goes. */
void oko_macs_free(struct oko_macs *macs);

/* mac: 6 bytes. Learns that it is behind port. */
void oko_macs_learn(struct oko_macs *macs, const uint8_t *mac, uint16_t vlan, uint32_t port,
                    uint64_t now_ns);
/* The port, or 0 when it is not known; *until_ns: when it would be forgotten. now_ns: the packet's
 * time, as everywhere here. */
uint32_t oko_macs_find(const struct oko_macs *macs, const uint8_t *mac, uint16_t vlan,
                       uint64_t now_ns, uint64_t *until_ns);
/* Forgets a port that is going away. */
void oko_macs_forget(struct oko_macs *macs, uint32_t port);
uint32_t oko_macs_list(struct oko_macs *macs, uint64_t now_ns, struct oko_mac_info *out,
                       uint32_t max);

#endif
