/* Small arithmetic that everybody needs: rounding, and sizes that must not wrap. */
#ifndef OKO_BASE_BITS_H
#define OKO_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OKO_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

enum { OKO_CACHE_LINE = 64 };

/* Rounds x up to a multiple of step, a power of two. x + step must not wrap. */
static inline uint64_t oko_round_up(uint64_t x, uint64_t step)
{
    return (x + step - 1) & ~(step - 1);
}

/* Smallest power of two that is at least x; x at most 2^63. */
static inline uint64_t oko_pow2_at_least(uint64_t x)
{
    return x <= 1 ? 1 : (uint64_t)1 << (64 - __builtin_clzll(x - 1));
}

/* A size computed step by step: once it has wrapped it stays at the largest value, which no quota
 * grants. */
static inline uint64_t oko_size_add(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static inline uint64_t oko_size_mul(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

#endif
