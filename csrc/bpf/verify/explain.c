/* Refusals in words: the reason, the instruction's number, and a hint.
 *
 * The reason is one line that needs no other context than the program; whoever shows it adds the
 * instruction's text and its line of C (the number in the error leads to both). The hint says what
 * would make the program pass. */
#include "walk.h"

#include "../../base/err.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static int explain(struct oko_walk *w, uint32_t pc, const char *hint, const char *format,
                   va_list args)
{
    char reason[sizeof(w->error->reason)];
    vsnprintf(reason, sizeof(reason), format, args);
    oko_err_at(w->error, OKO_E_VERIFY, pc, "%s", reason);
    if (hint != NULL)
        oko_err_hint(w->error, "%s", hint);
    return OKO_E_VERIFY;
}

int oko_refuse(struct oko_walk *w, const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int status = explain(w, w->pc, hint, format, args);
    va_end(args);
    return status;
}

int oko_refuse_at(struct oko_walk *w, uint32_t pc, const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int status = explain(w, pc, hint, format, args);
    va_end(args);
    return status;
}

int oko_walk_no_memory(struct oko_walk *w)
{
    return oko_err(w->error, OKO_E_NOMEM, "no memory to verify the program");
}

int oko_walk_charge(struct oko_walk *w, uint64_t work)
{
    w->work += work;
    if (w->work <= w->budget)
        return 0;
    w->exhausted = true;
    return oko_refuse(w, "split the program, or simplify its loops and branches",
                      "the program is too complex: verifying it takes more than %" PRIu64
                      " units of work",
                      w->budget);
}

const char *oko_reg_describe(const struct oko_reg *r)
{
    switch (r->type) {
    case OKO_REG_SCALAR:
        return oko_scalar_is_const(&r->s) && r->s.full.umin == 0 ? "zero (a NULL pointer)"
                                                                 : "a number";
    case OKO_REG_PKT:
        return "an address in the packet";
    case OKO_REG_STACK:
        return "an address on the stack";
    case OKO_REG_VALUE:
        return r->maybe_null ? "the result of a map lookup, perhaps NULL"
                             : "an address in a map's value";
    case OKO_REG_DATA:
        return "an address in a data section";
    case OKO_REG_META:
        return "an address in struct oko_meta";
    case OKO_REG_MAP:
        return "a map";
    default:
        return "nothing";
    }
}

int oko_need_set(struct oko_walk *w, unsigned reg)
{
    const struct oko_reg *r = oko_walk_reg(w, reg);
    if (r->type != OKO_REG_UNSET)
        return 0;
    if (r->index != 0)
        return oko_refuse(w, "initialise the variable on every path: struct key key = {0};",
                          "r%u was loaded from stack byte r10-%u, which has not been set on every "
                          "path to here",
                          reg, r->index);
    if (reg >= 1 && reg <= 5)
        return oko_refuse(w, "a call leaves nothing in r1 to r5; set the variable on every path",
                          "r%u is read but has not been set on every path to here", reg);
    return oko_refuse(w, "set the variable on every path that leads to its use",
                      "r%u is read but has not been set on every path to here", reg);
}
