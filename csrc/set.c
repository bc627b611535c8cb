/* Immutable sets of numbered objects; see set.h. */
#include "set.h"

#include "base/bits.h"

#include <stdlib.h>

static struct oko_set *allocate(uint32_t n)
{
    uint64_t n_slots = oko_pow2_at_least(2 * (uint64_t)n + 1); /* always one free slot */
    size_t slots = n_slots * sizeof(struct oko_set_slot);
    struct oko_set *set = calloc(1, sizeof *set + slots + n * sizeof(struct oko_set_slot));
    if (!set)
        return NULL;
    set->n = n;
    set->mask = (uint32_t)(n_slots - 1);
    set->sorted = set->slot + n_slots;
    return set;
}

static void put(struct oko_set *set, struct oko_set_slot entry)
{
    uint32_t i = entry.id & set->mask;
    while (set->slot[i].object)
        i = (i + 1) & set->mask;
    set->slot[i] = entry;
}

struct oko_set *oko_set_empty(void)
{
    return allocate(0);
}

struct oko_set *oko_set_with(const struct oko_set *from, uint32_t id, void *object)
{
    bool there = oko_set_find(from, id) != NULL;
    struct oko_set *set = allocate(from->n + (object != NULL) - there);
    if (!set)
        return NULL;
    uint32_t n = 0;
    bool placed = object == NULL;
    for (uint32_t i = 0; i < from->n; i++) {
        struct oko_set_slot slot = from->sorted[i];
        if (!placed && id <= slot.id) {
            set->sorted[n++] = (struct oko_set_slot){id, object};
            placed = true;
        }
        if (slot.id != id)
            set->sorted[n++] = slot;
    }
    if (!placed)
        set->sorted[n++] = (struct oko_set_slot){id, object};
    for (uint32_t i = 0; i < n; i++)
        put(set, set->sorted[i]);
    return set;
}
