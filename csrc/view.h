/* What a forwarding thread sees: one pointer, taken once per burst.
 *
 * Idea. A view is small: a version, which decides what rules are visible (rule.h), and pointers to
 * immutable sets of programs, ports, groups and meters, shared with the view before it. A commit
 * makes the next view and publishes it with one store, so each packet sees all of a bundle or none
 * of it. Old views go through gc.h.
 *
 * The change log tells caches what happened between two versions: for each of the last 1,024, the
 * matches of the rules that came or went. An entry made at an older version is still good if none
 * of these fits its key.
 *
 * Thread-safety: immutable once published. */
#ifndef OKO_VIEW_H
#define OKO_VIEW_H

#include "bpf/prog.h"
#include "rule.h"
#include "set.h"

struct oko_dp;

/* Programs by slot; a slot keeps its number as long as flows may name it. */
struct oko_progs {
    struct oko_gc gc;
    uint32_t n; /* slots 1..n-1; slot 0 is "no program" */
    struct oko_prog *slot[];
};

enum oko_view_flag {
    OKO_VIEW_CHANGES = 1,  /* some rule learns */
    OKO_VIEW_RESTARTS = 2, /* some rule resubmits to table 0 */
    OKO_VIEW_PROGS = 4,    /* some rule has a filter */
    OKO_VIEW_GOTOS = 8     /* some rule does nothing but goto */
};

struct oko_view {
    struct oko_gc gc;
    uint64_t version;
    const struct oko_progs *progs;
    const struct oko_set *ports;
    const struct oko_set *groups;
    const struct oko_set *meters;
    enum oko_layers layers; /* how deep any rule looks */
    uint32_t flags;         /* enum oko_view_flag */
    uint64_t later[];       /* bit per slot: rules in tables other than 0 use it */
};

static inline bool oko_view_later(const struct oko_view *view, uint32_t slot)
{
    return view->later[slot / 64] >> slot % 64 & 1;
}

/* ---------------------------------------------------------------- change log */

enum { OKO_LOG = 1024, OKO_LOG_CHANGES = 64 };

/* The matches that one commit touched, packed: per change a word with table and number of words,
 * then for each word its index, mask and key. */
struct oko_changes {
    struct oko_gc gc;
    uint64_t version;
    bool all;   /* too many to list */
    uint32_t n; /* words of data */
    uint64_t data[];
};

struct oko_log {
    struct oko_changes *at[OKO_LOG]; /* by version, modulo; atomic */
};

/* Can what was found for key in table at version `from` still be used at `to`? */
bool oko_log_spares(const struct oko_log *log, uint64_t from, uint64_t to, uint32_t table,
                    const struct oko_key *key);

#endif
