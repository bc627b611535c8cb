/* The classifier of one flow table: which rules fit this key, best first?
 *
 * Idea: tuple space search (Srinivasan, Suri, Varghese 1999), as Open vSwitch does it. Rules with
 * the same mask live in one subtable, a hash table of masked keys; a lookup asks the subtables in
 * falling order of their best rank and stops when nothing further down can beat what it has.
 * Because a filter program may say no, the answer is not one rule but a list of candidates in rank
 * order, up to and including the first without filter.
 *
 * In place, one writer: inserting and unlinking change single words, so the cost of a commit does
 * not depend on the table's size. A slot of a subtable is one word, the address of the best rule of
 * a key with 16 bits of the key's hash on top: a miss reads one word, and rules of one key hang
 * together in rank order. Tables grow by making a new one, published with one store.
 *
 * Thread-safety. Writers hold the datapath's mutex. Readers take no lock and write nothing; what
 * they may still see goes through gc.h. Which of the rules count is decided by the version that the
 * reader brings (rule.h), so it does not matter when exactly a rule appears here.
 *
 * In a table with many masks most probes find nothing; a sieve (sieve.h) spares a burst nearly all
 * of these.
 *
 * Flows with the action conjunction are kept in a second classifier inside the table's, and change
 * what its lookups find (conj.h).
 *
 * What it leaves out: prefix tries and staged lookups, which narrow megaflows; there are none
 * here. */
#ifndef OKO_CLS_H
#define OKO_CLS_H

#include "base/hash.h"
#include "rule.h"

enum { OKO_CANDS = 6 };

/* Candidates for one packet in one table. */
struct oko_cands {
    uint32_t n;
    uint32_t more; /* there may be others after the last: oko_cls_lookup_more() */
    const struct oko_rule *rule[OKO_CANDS];
};

/* The words of a key that some rule of a table looks at, and a number for this set of words that
 * no other set gets: what a cache needs to know about a table. */
struct oko_layout {
    struct oko_gc gc;
    uint64_t id;
    uint32_t n_words;
    uint8_t word[OKO_KEY_WORDS];
    uint64_t mask[OKO_KEY_WORDS];
};

struct oko_slots;
struct oko_order;

struct oko_subtable {
    struct oko_gc gc;
    struct oko_slots *slots; /* atomic */
    uint64_t min_rank;       /* no rule here ranks before it */
    uint32_t n_rules;
    uint32_t n_keys; /* slots taken */
    uint32_t n_dead; /* slots whose rule is gone */
    uint32_t n_top;  /* rules of the best priority */
    uint32_t n_gone; /* rules removed since min_rank was exact */
    uint32_t n_sown; /* keys that set a bit in the slots' sieve */
    uint32_t n_words;
    uint8_t word[OKO_KEY_WORDS];
    uint64_t mask[OKO_KEY_WORDS];
    uint64_t salt[OKO_KEY_WORDS]; /* of the sieve */
};

struct oko_cls {
    struct oko_order *order;   /* atomic: subtables in falling order of rank */
    struct oko_layout *layout; /* atomic */
    struct oko_gc_queue *gc;
    const struct oko_hash_key *hash;
    uint64_t *next_layout; /* where layout ids come from */
    uint32_t n_rules;      /* atomic */
    uint32_t layout_age;   /* subtables destroyed since the layout was exact */
    struct oko_cls *soft;  /* flows with conjunction (conj.h); atomic, NULL: never had any */
};

int oko_cls_init(struct oko_cls *cls, struct oko_gc_queue *gc, const struct oko_hash_key *hash,
                 uint64_t *next_layout);
void oko_cls_destroy(struct oko_cls *cls); /* no reader is left, every rule is unlinked */

/* mask: as the rule's match. rank is set, visibility is the caller's business. On OKO_E_NOMEM
 * nothing has changed. */
int oko_cls_insert(struct oko_cls *cls, struct oko_rule *rule, const struct oko_key *mask);
/* Takes a rule out that no new reader can see; readers that stand on it go on from there. */
void oko_cls_unlink(struct oko_cls *cls, struct oko_rule *rule);

/* The flow with exactly this match, priority and program that is visible at version, or NULL. Also
 * for readers. */
struct oko_rule *oko_cls_find(const struct oko_cls *cls, const struct oko_match *match,
                              uint32_t priority, uint32_t slot, uint64_t version);
/* Calls fn for every rule visible at version whose match is at least as narrow as match, in no
 * particular order; fn changes nothing. Stops at a result other than 0 and returns it. Writers
 * only. */
int oko_cls_each(const struct oko_cls *cls, const struct oko_match *match, uint64_t version,
                 int (*fn)(struct oko_rule *rule, void *ctx), void *ctx);
/* Is there a visible rule of this priority that fits some packet that match fits? */
bool oko_cls_overlaps(const struct oko_cls *cls, const struct oko_match *match, uint32_t priority,
                      uint64_t version);

void oko_cls_lookup(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                    struct oko_cands *cands);
/* Replaces candidates, at least one, by those that rank after the last of them. They were found for
 * this key, since the worker's last quiescent point. */
void oko_cls_lookup_more(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                         struct oko_cands *cands);
/* The two above for a table without conjunctions, or as if it were (conj.c). */
void oko_cls_lookup_hard(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                         struct oko_cands *cands);
void oko_cls_lookup_hard_more(const struct oko_cls *cls, const struct oko_key *key,
                              uint64_t version, struct oko_cands *cands);
/* Calls fn for rules visible at version that fit and rank from `from` to `limit`, in no particular
 * order; it returns the limit from then on. */
void oko_cls_fitting(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                     uint64_t from, uint64_t limit,
                     uint64_t (*fn)(const struct oko_rule *rule, uint64_t limit, void *ctx),
                     void *ctx);
/* The conj_id that a rule demands, 0 = none. */
uint32_t oko_rule_conj_id(const struct oko_rule *rule);
/* Do both keys have the same candidates, however many? False may mean that they do. */
bool oko_cls_same(const struct oko_cls *cls, const struct oko_key *a, const struct oko_key *b);
/* Of the packets todo, those with the same candidates as the first, it included. Not all of them if
 * they seem to be few. */
uint32_t oko_cls_like_first(const struct oko_cls *cls, const struct oko_key *keys, uint32_t todo);
/* cands[i] for key[i], for each bit i of todo (at most 32). */
void oko_cls_lookup_burst(const struct oko_cls *cls, const struct oko_key *keys, uint32_t todo,
                          uint64_t version, struct oko_cands *cands);

/* The mask that a subtable's rules have. */
void oko_subtable_mask(const struct oko_subtable *st, struct oko_key *mask);
uint32_t oko_cls_n_subtables(const struct oko_cls *cls);

#endif
