/* Conjunctive matches: "the source is one of these and the destination one of those" in m + n flows
 * instead of m * n (Open vSwitch's `conjunction`, ovs-fields(7)).
 *
 * A flow with conjunction(id,k/n) is *soft*: it says that dimension k of n of a conjunction is
 * there, and ends no lookup. Soft flows live in a classifier of their own beside the table's
 * (struct oko_cls, soft), so a table without them pays for one load per lookup.
 *
 * The rule: let hard be what an ordinary lookup finds. Soft flows of hard's priority or below do
 * not count. Of the others, from the highest priority down: if all dimensions of a conjunction are
 * there at one priority (of several complete ones the lowest id; where flows disagree about n, the
 * smallest), the packet is looked up once more with conj_id = id; what that finds is the result.
 * If it finds nothing, the next priority has its turn, and hard after the last.
 *
 * Whether filters match is not known here, so the answer is a list of candidates that comes to the
 * same: those above the first complete priority, then the second lookup's, then what later
 * conjunctions add to it, each flow once. It depends on the key only, so the cache may keep it.
 *
 * Soft flows have no filter (txn.c) and count nothing. One with a timeout is there until all
 * workers have passed it, where other flows end for each worker on time.
 *
 * Thread-safety: as cls.h; readers, nothing is written. What it leaves out: a bound on the work of
 * very many conjunctions at one priority, which grows with their number times the flows that fit.
 */
#ifndef OKO_CONJ_H
#define OKO_CONJ_H

#include "cls.h"

/* Candidates, those after a given one if it is not NULL: it came from this list. */
void oko_conj_lookup(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                     const struct oko_rule *after, struct oko_cands *cands);

#endif
