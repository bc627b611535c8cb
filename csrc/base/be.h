/* Big-endian integers at any address: what network headers and capture files are made of.
 *
 * memcpy of a constant size compiles to one (unaligned) load or store, and byte swapping to one
 * more instruction; no pointer casts, so no aliasing or alignment rules are broken. */
#ifndef OKO_BASE_BE_H
#define OKO_BASE_BE_H

#include <stdint.h>
#include <string.h>

static inline uint16_t oko_be16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap16(v);
}

static inline uint32_t oko_be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

static inline uint64_t oko_be64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

static inline void oko_put_be16(uint8_t *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(p, &v, sizeof v);
}

static inline void oko_put_be32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof v);
}

static inline void oko_put_be64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "oko runs on little-endian hosts");

#endif
