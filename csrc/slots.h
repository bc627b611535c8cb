/* Inside a flow table's classifier: what the writer (cls.c) and lookups (cls_lookup.c) both know of
 * subtables. Nobody else includes it. */
#ifndef OKO_SLOTS_H
#define OKO_SLOTS_H

#include "cls.h"
#include "sieve.h"

/* A slot: 0 free, OKO_SLOT_DEAD once taken, else a rule's address with the key's hash in the upper
 * bits. User space addresses have 47 bits on every platform we run on. */
enum { OKO_TAG_SHIFT = 48 };
/* The sieve has so many bits for each slot. */
enum { OKO_PLACES_PER_SLOT = 8 };
#define OKO_SLOT_DEAD    1u
#define OKO_SLOT_ADDRESS ((1ull << OKO_TAG_SHIFT) - 1)

struct oko_slots {
    struct oko_gc gc;
    uint64_t mask;   /* slots - 1 */
    uint64_t *sieve; /* behind the slots; NULL: none */
    uint64_t pad[3];
    uint64_t slot[];
};

struct oko_order {
    struct oko_gc gc;
    uint32_t n;
    struct {
        uint64_t min_rank;
        struct oko_subtable *subtable;
    } at[];
};

static inline struct oko_rule *oko_slot_rule(uint64_t slot)
{
    return (struct oko_rule *)(uintptr_t)(slot & OKO_SLOT_ADDRESS);
}

static inline uint64_t oko_slot_of(const struct oko_rule *rule, uint64_t hash)
{
    return (uintptr_t)rule | (hash & ~OKO_SLOT_ADDRESS);
}

static inline struct oko_rule *oko_rule_next(const struct oko_rule *rule)
{
    return OKO_LOAD_ACQUIRE(&rule->next);
}

static inline bool oko_same_words(const uint64_t *a, const uint64_t *b, uint32_t n)
{
    uint64_t difference = 0;
    for (uint32_t i = 0; i < n; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

static inline uint64_t oko_cls_hash(const struct oko_cls *cls, const uint64_t *words, uint32_t n)
{
    return oko_hash_words(cls->hash, words, n);
}

static inline struct oko_sieve_form oko_subtable_form(const struct oko_subtable *st)
{
    return (struct oko_sieve_form){st->n_words, st->word, st->mask, st->salt};
}

static inline uint32_t oko_slots_last_place(const struct oko_slots *slots)
{
    return (uint32_t)(slots->mask + 1) * OKO_PLACES_PER_SLOT - 1;
}

#endif
