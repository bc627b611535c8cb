/* The keyed multiply-mix hash of tables, and the unkeyed one of sketches.
 *
 * Idea. The 128-bit product of two words, folded by xor (lo ^ hi), mixes 16 bytes in about four
 * cycles; xoring a secret into each factor first makes the result unpredictable from outside, so
 * nobody can send packets that collide. (crc32 would be as quick, but it is linear: keys that
 * collide under one seed collide under every seed.) One fold alone spreads keys that are counted up
 * badly, for some secrets: a closing multiplication by a constant costs three cycles more and makes
 * its upper bits as good as random ones (measured: tests/c/test_map.c), and a closing shift the
 * lower ones.
 *
 * Definition, for a key of n bytes, w[i] its 8-byte little-endian words, the last one padded with
 * zeroes, N = ceil(n / 8) of them, and secrets s[0..2]:
 *
 *     h = s[0]
 *     for i = 0, 2, 4, ... while i + 1 < N:   h = fold(w[i] ^ h, w[i + 1] ^ s[1])
 *     if N is odd:                            h = fold(w[N - 1] ^ h, s[2])
 *     g = h * 0x9e3779b97f4a7c15              (modulo 2^64)
 *     the hash is g ^ (g >> 32)
 *
 * Who needs only upper 32 bits may leave out the last step: they are those of g. Code that
 * generates machine code repeats exactly these steps with the words in registers. The size is not
 * mixed in: all keys of one table have the same.
 *
 * Thread-safety: pure functions. What it leaves out: any claim against an attacker who can measure
 * single lookups. */
#ifndef OKO_BASE_HASH_H
#define OKO_BASE_HASH_H

#include "atomic.h"

/* 2^64 / golden ratio, odd. */
#define OKO_HASH_FACTOR UINT64_C(0x9e3779b97f4a7c15)

struct oko_hash_key {
    uint64_t s[3]; /* s[2] is odd */
};

static inline uint64_t oko_hash_fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* One step of the splitmix64 generator (Steele, Lea, Flood 2014): expands a seed. */
static inline uint64_t oko_hash_splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline struct oko_hash_key oko_hash_key_from(uint64_t seed)
{
    struct oko_hash_key key;
    for (int i = 0; i < 3; i++)
        key.s[i] = oko_hash_splitmix(&seed);
    key.s[2] |= 1;
    return key;
}

static inline uint64_t oko_hash_finish(uint64_t h)
{
    uint64_t g = h * OKO_HASH_FACTOR;
    return g ^ g >> 32;
}

/* Hash of n_words whole words. */
static inline uint64_t oko_hash_words(const struct oko_hash_key *key, const uint64_t *w,
                                      uint32_t n_words)
{
    uint64_t h = key->s[0];
    uint32_t i = 0;
    for (; i + 1 < n_words; i += 2)
        h = oko_hash_fold(w[i] ^ h, w[i + 1] ^ key->s[1]);
    if (i < n_words)
        h = oko_hash_fold(w[i] ^ h, key->s[2]);
    return oko_hash_finish(h);
}

/* The same of size bytes anywhere. */
static inline uint64_t oko_hash_bytes(const struct oko_hash_key *key, const void *data, size_t size)
{
    const uint8_t *b = data;
    uint64_t h = key->s[0];
    for (; size > 8; b += 16, size -= size < 16 ? size : 16) {
        uint64_t second = oko_word_part(b + 8, size < 16 ? size - 8 : 8);
        h = oko_hash_fold(oko_word_part(b, 8) ^ h, second ^ key->s[1]);
    }
    if (size != 0)
        h = oko_hash_fold(oko_word_part(b, size) ^ h, key->s[2]);
    return oko_hash_finish(h);
}

#endif
