/* Immutable sets of numbered objects (ports, groups, meters): what a view points to.
 *
 * Idea. Readers find an object by its number with one probe or two in an open-addressed table that
 * never changes once published; a commit that changes one makes a new table (they are small or
 * change rarely) and the old one goes through gc.h. The objects themselves are not copied.
 *
 * Thread-safety: as any immutable struct after publication. */
#ifndef OKO_SET_H
#define OKO_SET_H

#include "gc.h"

struct oko_set_slot {
    uint32_t id;
    void *object; /* NULL: free */
};

struct oko_set {
    struct oko_gc gc;
    uint32_t n;
    uint32_t mask;               /* slots - 1 */
    struct oko_set_slot *sorted; /* the n objects in rising number */
    struct oko_set_slot slot[];
};

/* A set that is empty, or NULL without memory. */
struct oko_set *oko_set_empty(void);
/* A copy of from with object under id: added, replaced, or removed if NULL. NULL without memory. */
struct oko_set *oko_set_with(const struct oko_set *from, uint32_t id, void *object);

static inline void *oko_set_find(const struct oko_set *set, uint32_t id)
{
    for (uint32_t i = id & set->mask;; i = (i + 1) & set->mask) {
        const struct oko_set_slot *slot = &set->slot[i];
        if (!slot->object || slot->id == id)
            return slot->object;
    }
}

#endif
