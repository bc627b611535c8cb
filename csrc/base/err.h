/* Filling struct oko_error: one line that says what is wrong, one that says what to do about it.
 *
 * Every function takes a NULL error (the caller only wants the code) and returns the code, so that
 * "return oko_err(error, OKO_E_INVAL, ...)" is the idiom. Texts that do not fit are cut. */
#ifndef OKO_BASE_ERR_H
#define OKO_BASE_ERR_H

#include "../oko.h"

/* Sets code and reason, clears hint, insn (-1) and sys_errno. */
int oko_err(struct oko_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, about instruction insn. */
int oko_err_at(struct oko_error *error, int code, uint32_t insn, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Adds what would make it pass to an error already set. */
void oko_err_hint(struct oko_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* No error: code 0, empty texts. */
void oko_err_clear(struct oko_error *error);

#endif
