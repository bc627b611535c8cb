/* Linear forms over values of a run, and what is known of these values.
 *
 * The idea. Each number that the walk meets for the first time (a byte of the packet, a helper's
 * result, a register joined from two paths) gets an id. A register's content is then a form
 * c + a*x + b*y + ..., and so is a pointer's offset. clang computes a sum in one register, compares
 * it with the length, and reads through another register with the same parts: the two forms are the
 * same, whatever registers hold them.
 *
 * What a form means. An id stands for one integer in [INT64_MIN, INT64_MAX]. A register holds its
 * form modulo 2^64, which addition, subtraction, multiplication and shifting left preserve
 * without any proof. Where an inequality is wanted it is about the integers themselves; whoever
 * asks first shows by bounds that no wrap-around separates the two (state.c).
 *
 * A relation (struct oko_rel) holds an interval for each id and a few inequalities "form <= 0". It
 * proves others from up to three of them; that is incomplete by choice and quick.
 *
 * Fails safely: an inequality that does not fit is forgotten, a form that does not fit is refused,
 * and the caller then takes a fresh id. Thread-safety: none needed, a walk is one thread's. */
#ifndef OKO_VERIFY_LINEAR_H
#define OKO_VERIFY_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

typedef __int128 oko_wide; /* exact bounds of forms */

enum { OKO_FORM_TERMS = 6, OKO_REL_CONS = 32, OKO_ID_LEN = 1 /* the packet's length */ };

struct oko_form {
    uint32_t n;                    /* terms used */
    uint32_t id[OKO_FORM_TERMS];   /* ascending */
    int64_t coeff[OKO_FORM_TERMS]; /* not 0, magnitude at most 2^40 */
    int64_t c;
};

struct oko_form oko_form_const(int64_t c);
struct oko_form oko_form_id(uint32_t id);
/* a + k * b, the constant modulo 2^64. False when it does not fit: too many terms, or coefficients
 * too large. */
bool oko_form_add(struct oko_form *out, const struct oko_form *a, int64_t k,
                  const struct oko_form *b);
/* The same, false also when the constant overflows: for integers. */
bool oko_form_add_exact(struct oko_form *out, const struct oko_form *a, int64_t k,
                        const struct oko_form *b);
bool oko_form_equal(const struct oko_form *a, const struct oko_form *b);
int64_t oko_form_coeff(const struct oko_form *form, uint32_t id); /* 0 if absent */
/* The greatest common divisor of coefficients and constant; 0 for the form 0. */
int64_t oko_form_content(const struct oko_form *form);

struct oko_bound {
    uint32_t id;
    int64_t lo, hi;
};

struct oko_rel {
    struct oko_bound *bound; /* ascending id */
    uint32_t n_bounds, max_bounds;
    uint32_t n_cons;
    struct oko_form con[OKO_REL_CONS]; /* each <= 0 */
    bool changed;                      /* some interval has shrunk since the caller cleared this */
    uint64_t work;                     /* evaluations so far; the walk charges them */
};

void oko_rel_init(struct oko_rel *rel);
void oko_rel_destroy(struct oko_rel *rel);
/* Replaces the contents; false: out of memory. The bytes may be unaligned. */
bool oko_rel_set(struct oko_rel *rel, const void *bounds, uint32_t n_bounds, const void *cons,
                 uint32_t n_cons);
/* Adds an id larger than all there. False: out of memory. */
bool oko_rel_add_id(struct oko_rel *rel, uint32_t id, int64_t lo, int64_t hi);
const struct oko_bound *oko_rel_id(const struct oko_rel *rel, uint32_t id); /* NULL if absent */
/* Intersects an id's interval; false when that is empty. */
bool oko_rel_narrow(struct oko_rel *rel, uint32_t id, int64_t lo, int64_t hi);

/* Bounds of a form by the intervals alone. */
void oko_rel_bounds(struct oko_rel *rel, const struct oko_form *form, oko_wide *lo, oko_wide *hi);
/* The same, sharpened by sums with up to depth inequalities. */
oko_wide oko_rel_upper(struct oko_rel *rel, const struct oko_form *form, int depth);
oko_wide oko_rel_lower(struct oko_rel *rel, const struct oko_form *form, int depth);
/* Whether form <= 0 follows. */
bool oko_rel_proves(struct oko_rel *rel, const struct oko_form *inequality);
/* Takes form <= 0 as true; false when that contradicts what is known. */
bool oko_rel_assume(struct oko_rel *rel, const struct oko_form *inequality);
/* Forgets all ids but those whose bit (by position in bound) is set; consequences for those that
 * stay are drawn first. */
void oko_rel_forget(struct oko_rel *rel, const uint64_t *keep);

#endif
