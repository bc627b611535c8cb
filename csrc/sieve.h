/* Sieves: most packets are not in most subtables, and this is known without asking them.
 *
 * Idea. Beside its slots a subtable has a bit for each of eight times as many places; the keys it
 * has set theirs. A packet whose place is not set cannot be there. Compared with a probe this costs
 * a fraction: the hash needs to be good only at telling keys apart, so it is NH (Black, Halevi,
 * Krawczyk, Krovetz, Rogaway 1999: UMAC), a sum of 32-bit products that vector units do for four
 * packets at once, and the answer is nearly always the same, so that branches are predicted.
 *
 * Fails safely: a set bit only means that the subtable is asked. Bits of keys that are gone stay
 * until the slots are made anew; cls.c sees to that.
 *
 * The constants come from the datapath's secret. With or without vectors the places are the same.
 *
 * Thread-safety: as the slots that a sieve belongs to: one writer, which sets bits before it
 * publishes a version in which the key counts. */
#ifndef OKO_SIEVE_H
#define OKO_SIEVE_H

#include "key.h"

enum { OKO_SIEVE_BURST = 32 };

/* The keys of a burst by words, as far as somebody wanted them. */
struct oko_columns {
    uint64_t have; /* bit per word */
    _Alignas(32) uint64_t word[OKO_KEY_WORDS][OKO_SIEVE_BURST];
};
_Static_assert(OKO_KEY_WORDS <= 64, "a bit per word");

/* What to look at: n words of a key, their masks, and a random constant for each. */
struct oko_sieve_form {
    uint32_t n;
    const uint8_t *word;
    const uint64_t *mask;
    const uint64_t *salt;
};

/* A key's place, from 0 to last (a power of two less one, below 2^20). words: masked and packed. */
uint32_t oko_sieve_place(const struct oko_sieve_form *form, const uint64_t *words, uint32_t last);
/* Of the packets todo, those whose place in bits is set. */
uint32_t oko_sieve(const struct oko_sieve_form *form, const struct oko_key *keys, uint32_t todo,
                   struct oko_columns *columns, const uint64_t *bits, uint32_t last);
/* The same without vector instructions: for tests. */
uint32_t oko_sieve_plain(const struct oko_sieve_form *form, const struct oko_key *keys,
                         uint32_t todo, const uint64_t *bits, uint32_t last);

#endif
