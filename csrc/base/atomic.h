/* Memory that several threads touch: relaxed accesses, copies made of them, and a spin lock.
 *
 * Programs of several workers read and write one map's values as C programs would share memory.
 * Each access is an atomic of its own width, with no order: whole words never tear, and
 * ThreadSanitizer sees no race. Misaligned accesses cannot be atomic; they are memcpy.
 *
 * The lock is for critical sections of a few hundred cycles on the packet path (one bucket of a
 * table); a waiter yields the CPU after a while because the holder may have been descheduled. */
#ifndef OKO_BASE_ATOMIC_H
#define OKO_BASE_ATOMIC_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OKO_LOAD(p)             __atomic_load_n((p), __ATOMIC_RELAXED)
#define OKO_STORE(p, v)         __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define OKO_LOAD_ACQUIRE(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define OKO_STORE_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Adds to a counter that only the calling thread writes and any thread reads: no locked
 * instruction. */
static inline void oko_count(uint64_t *counter, uint64_t n)
{
    OKO_STORE(counter, OKO_LOAD(counter) + n);
}

static inline bool oko_aligned(const void *p, size_t width)
{
    return ((uintptr_t)p & (width - 1)) == 0;
}

/* Loads and stores of the widths programs use; misaligned ones are plain copies. */
#define OKO_SHARED_ACCESS(bits)                                                                    \
    static inline uint##bits##_t oko_shared_load##bits(const void *p)                              \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        if (__builtin_expect(oko_aligned(p, bits / 8), 1))                                         \
            return OKO_LOAD((const uint##bits##_t *)p);                                            \
        memcpy(&v, p, sizeof(v));                                                                  \
        return v;                                                                                  \
    }                                                                                              \
    static inline void oko_shared_store##bits(void *p, uint##bits##_t v)                           \
    {                                                                                              \
        if (__builtin_expect(oko_aligned(p, bits / 8), 1))                                         \
            OKO_STORE((uint##bits##_t *)p, v);                                                     \
        else                                                                                       \
            memcpy(p, &v, sizeof(v));                                                              \
    }
OKO_SHARED_ACCESS(8)
OKO_SHARED_ACCESS(16)
OKO_SHARED_ACCESS(32)
OKO_SHARED_ACCESS(64)
#undef OKO_SHARED_ACCESS

/* The first n bytes (n in 1..8) at p as a little-endian word, the rest zero: how keys and values
 * become words. Reads nothing beyond n bytes. */
static inline uint64_t oko_word_part(const void *p, size_t n)
{
    const uint8_t *b = p;
    if (n == 8)
        return oko_shared_load64(b);
    uint64_t word = 0;
    size_t done = 0;
    if (n & 4) {
        word = oko_shared_load32(b);
        done = 4;
    }
    if (n & 2) {
        word |= (uint64_t)oko_shared_load16(b + done) << (8 * done);
        done += 2;
    }
    if (n & 1)
        word |= (uint64_t)oko_shared_load8(b + done) << (8 * done);
    return word;
}

/* Copies size bytes from anywhere to whole 8-byte words, the last one padded with zeroes; every
 * word is written by one store, so a value of up to 8 bytes changes in one go. */
static inline void oko_words_put(uint64_t *words, const void *from, size_t size)
{
    const uint8_t *b = from;
    size_t i = 0;
    for (; size >= 8; size -= 8, b += 8)
        OKO_STORE(&words[i++], oko_shared_load64(b));
    if (size != 0)
        OKO_STORE(&words[i], oko_word_part(b, size));
}

/* Copies the first size bytes of whole words to anywhere private. */
static inline void oko_words_get(void *to, const uint64_t *words, size_t size)
{
    uint8_t *b = to;
    size_t i = 0;
    for (; size >= 8; size -= 8, b += 8) {
        uint64_t word = OKO_LOAD(&words[i++]);
        memcpy(b, &word, 8);
    }
    if (size != 0) {
        uint64_t word = OKO_LOAD(&words[i]);
        memcpy(b, &word, size);
    }
}

static inline void oko_words_zero(uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        OKO_STORE(&words[i], 0);
}

/* A full barrier. ThreadSanitizer does not model fences; its runtime orders more than x86 does. */
static inline void oko_fence(void)
{
#if !defined(__SANITIZE_THREAD__) && !defined(OKO_TSAN)
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline void oko_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline void oko_spin_lock(uint8_t *lock)
{
    for (uint32_t spins = 0; __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0;) {
        while (OKO_LOAD(lock) != 0) {
            if (++spins < 200)
                oko_cpu_relax();
            else
                sched_yield();
        }
    }
}

static inline void oko_spin_unlock(uint8_t *lock)
{
    OKO_STORE_RELEASE(lock, 0);
}

#endif
