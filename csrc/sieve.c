/* Which packets of a burst a subtable may know; see sieve.h. */
#include "sieve.h"

#include "base/atomic.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VECTORS 1
#endif

enum { SHIFT = 24 }; /* the places: bits of the product that all bits of the sum have a part in */
static const uint32_t factor = 0x9e3779b1; /* 2^32 / golden ratio, a prime */

static inline uint64_t add_product(uint64_t sum, uint64_t word, uint64_t salt)
{
    uint32_t low = (uint32_t)word + (uint32_t)salt;
    uint32_t high = (uint32_t)(word >> 32) + (uint32_t)(salt >> 32);
    return sum + (uint64_t)low * high;
}

static inline uint32_t place_of(uint64_t sum, uint32_t last)
{
    uint64_t product = (uint64_t)(uint32_t)(sum ^ sum >> 32) * factor;
    return (uint32_t)(product >> SHIFT) & last;
}

static inline uint32_t is_set(const uint64_t *bits, uint64_t place)
{
    return (uint32_t)(OKO_LOAD(&bits[place / 64]) >> place % 64) & 1;
}

uint32_t oko_sieve_place(const struct oko_sieve_form *form, const uint64_t *words, uint32_t last)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < form->n; i++)
        sum = add_product(sum, words[i], form->salt[i]);
    return place_of(sum, last);
}

uint32_t oko_sieve_plain(const struct oko_sieve_form *form, const struct oko_key *keys,
                         uint32_t todo, const uint64_t *bits, uint32_t last)
{
    uint32_t pass = 0;
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(rest);
        const uint64_t *key = oko_key_words(&keys[k]);
        uint64_t sum = 0;
        for (uint32_t i = 0; i < form->n; i++)
            sum = add_product(sum, key[form->word[i]] & form->mask[i], form->salt[i]);
        pass |= is_set(bits, place_of(sum, last)) << k;
    }
    return pass;
}

#ifdef VECTORS

static void want(struct oko_columns *columns, uint32_t word, const struct oko_key *keys,
                 uint32_t todo)
{
    if (columns->have >> word & 1)
        return;
    columns->have |= 1ull << word;
    for (; todo; todo &= todo - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(todo);
        columns->word[word][k] = oko_key_words(&keys[k])[word];
    }
}

/* Places of all packets; inlined for each small number of words. */
__attribute__((target("avx2"), always_inline)) static inline void
places(const struct oko_sieve_form *form, const struct oko_columns *columns, uint32_t last,
       uint32_t n, uint64_t *place)
{
    __m256i mask = _mm256_set1_epi64x(last), by = _mm256_set1_epi64x(factor);
    for (uint32_t k = 0; k < OKO_SIEVE_BURST; k += 4) {
        __m256i sum = _mm256_setzero_si256();
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t *at = &columns->word[form->word[i]][k];
            __m256i word = _mm256_load_si256((const __m256i *)(const void *)at);
            word = _mm256_and_si256(word, _mm256_set1_epi64x((long long)form->mask[i]));
            word = _mm256_add_epi32(word, _mm256_set1_epi64x((long long)form->salt[i]));
            sum = _mm256_add_epi64(sum, _mm256_mul_epu32(word, _mm256_srli_epi64(word, 32)));
        }
        sum = _mm256_xor_si256(sum, _mm256_srli_epi64(sum, 32));
        __m256i product = _mm256_srli_epi64(_mm256_mul_epu32(sum, by), SHIFT);
        _mm256_store_si256((__m256i *)(void *)&place[k], _mm256_and_si256(product, mask));
    }
}

__attribute__((target("avx2"))) static void places_of(const struct oko_sieve_form *form,
                                                      const struct oko_columns *columns,
                                                      uint32_t last, uint64_t *place)
{
    if (form->n == 3)
        places(form, columns, last, 3, place);
    else if (form->n == 2)
        places(form, columns, last, 2, place);
    else
        places(form, columns, last, form->n, place);
}

uint32_t oko_sieve(const struct oko_sieve_form *form, const struct oko_key *keys, uint32_t todo,
                   struct oko_columns *columns, const uint64_t *bits, uint32_t last)
{
    if (!__builtin_cpu_supports("avx2"))
        return oko_sieve_plain(form, keys, todo, bits, last);
    _Alignas(32) uint64_t place[OKO_SIEVE_BURST];
    for (uint32_t i = 0; i < form->n; i++)
        want(columns, form->word[i], keys, todo);
    places_of(form, columns, last, place);
    uint32_t pass = 0;
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(rest);
        pass |= is_set(bits, place[k]) << k;
    }
    return pass;
}

#else

uint32_t oko_sieve(const struct oko_sieve_form *form, const struct oko_key *keys, uint32_t todo,
                   struct oko_columns *columns, const uint64_t *bits, uint32_t last)
{
    (void)columns;
    return oko_sieve_plain(form, keys, todo, bits, last);
}

#endif
