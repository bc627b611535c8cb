/* Remembered lookups: a table's key -> the candidates that the classifier found for it.
 *
 * Idea. In a table with many masks a lookup asks them all; a flow's next packets need not. The
 * cache keeps, for the words of a key that some rule of the table looks at (struct oko_layout), the
 * list of candidates. Programs are not part of it: their verdicts differ from packet to packet, so
 * they are asked each time, in the order of the list.
 *
 * Sets of eight entries, found by 32 bits of the key's hash each, then compared in full: an entry
 * is used only for exactly its key, layout and version. An entry of an older version is looked at
 * again: if none of the matches that came or went since (view.h's change log) fits its key, its
 * version is brought up to date; else the classifier is asked. So 1,000 changes a second do not
 * empty it, and an entry never names a rule that is gone.
 *
 * Bounded and per worker. A lookup in vain, and remembering, cost as much as asking the classifier
 * about 25 masks; a hit spares it all of the table's. While that does not pay (with 10 masks three
 * quarters of the lookups have to hit, with 100 a fifth) the cache stands aside, and is asked about
 * one burst in 16 only, to notice when that changes; while nothing hits at all, fewer and fewer,
 * down to one in 256. So an attack, each packet a new flow, costs what the classifier costs.
 *
 * Thread-safety: a worker's own. */
#ifndef OKO_CACHE_H
#define OKO_CACHE_H

#include "view.h"

#include "cls.h"

struct oko_cache;

/* What the cache saw: added to the worker's statistics. */
struct oko_cache_counts {
    uint32_t hits, restamped, misses;
};

int oko_cache_new(uint64_t bytes, struct oko_cache **cache);
void oko_cache_free(struct oko_cache *cache);

/* Is this a burst that asks the cache? False most of the time while hardly anything hits. */
bool oko_cache_wanted(struct oko_cache *cache);
/* Fills cands[i] for the packets i of todo that it knows, and returns those it does not. */
uint32_t oko_cache_find(struct oko_cache *cache, const struct oko_cls *cls, uint32_t table,
                        const struct oko_log *log, uint64_t version, const struct oko_key *keys,
                        uint32_t todo, struct oko_cands *cands, struct oko_cache_counts *counts);
/* Remembers what the classifier said about the packets todo of the last find, at that version. */
void oko_cache_put(struct oko_cache *cache, uint64_t version, uint32_t todo,
                   const struct oko_cands *cands);

/* A place of the cache, for who wants to see all of it. */
struct oko_cache_place {
    uint64_t version;
    uint32_t layout;       /* its id's low half */
    const uint64_t *words; /* of the key */
    struct oko_cands cands;
};
uint64_t oko_cache_n_places(const struct oko_cache *cache);
/* False: it is free. */
bool oko_cache_look(const struct oko_cache *cache, uint64_t place, struct oko_cache_place *out);

#endif
