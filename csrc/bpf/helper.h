/* Helpers: the functions that programs may call, as a typed table.
 *
 * Numbers are Oko's (design: 1-7), 8-10 reserved for P4rt-OVS, ours start at 32. The verifier
 * checks calls against the prototypes; the interpreter and the JIT call fn directly. */
#ifndef OKO_BPF_HELPER_H
#define OKO_BPF_HELPER_H

#include "map.h"

enum oko_arg {
    OKO_ARG_NONE = 0,
    OKO_ARG_MAP,    /* constant map */
    OKO_ARG_KEY,    /* readable, the map's item_size bytes, initialised */
    OKO_ARG_VALUE,  /* readable, the map's value_size bytes, initialised */
    OKO_ARG_MEM,    /* readable, next argument's size bytes, initialised */
    OKO_ARG_SIZE,   /* bounded scalar, size of the previous argument */
    OKO_ARG_FMT,    /* constant NUL-terminated string in a read-only data section */
    OKO_ARG_SCALAR, /* any initialised scalar (never a pointer) */
    OKO_ARG_VARARG  /* scalar if the format uses it */
};

enum oko_ret {
    OKO_RET_SCALAR = 0,
    OKO_RET_VALUE_OR_NULL, /* pointer to the map's value; NULL if oko_map_class.lookup_may_fail */
};

typedef uint64_t (*oko_helper_fn)(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                                  struct oko_env *env);

struct oko_helper {
    const char *name; /* NULL: no such helper */
    enum oko_arg arg[5];
    enum oko_ret ret;
    uint32_t weight; /* worst-case cost in instructions (plus size/8 for MEM arguments) */
    bool stateful;   /* always makes the program stateful (map ones: by the map's class) */
    bool inlinable;  /* the JIT may replace the call */
    oko_helper_fn fn;
};

/* NULL when there is no such helper. At run time a map argument is a struct oko_map *; codes
 * (enum in map.h) come back sign-extended to 64 bits. */
const struct oko_helper *oko_helper(int32_t id);

/* Sketch lookups (helper 1 on Bloom and count-min): fn leaves the u32 result at env->scratch and
 * returns its address. The engine then copies it to the call site's own slot,
 * env->scratch + 8 * site with site 1, 2, ... in the order of the text, and puts that address into
 * r0. A program has at most OKO_MAX_SKETCH_SITES such calls (oko_prog_load checks). */
enum { OKO_MAX_SKETCH_SITES = 1023, OKO_SCRATCH_SIZE = 8 * (OKO_MAX_SKETCH_SITES + 1) };

/* Checks a printf format of helper 7 and counts its arguments (at most 4). Conversions: %d %i %u
 * %x %X %c with optional 0, width below 100 and l, ll or h, and %%; no strings, no floating point.
 * size: bytes readable at format. Returns the count, or OKO_E_INVAL with the reason. */
int oko_printf_check(const char *format, size_t size, struct oko_error *error);
/* Formats into out (at most size - 1 bytes and a NUL); returns the length. format was checked. */
uint32_t oko_printf_format(char *out, uint32_t size, const char *format, const uint64_t args[4]);

/* lookup3 hashlittle with seed 0 (helper 6): Bob Jenkins, 2006; programs may depend on its values.
 */
uint32_t oko_hash_lookup3(const void *data, size_t size);

#endif
