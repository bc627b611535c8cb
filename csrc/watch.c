/* The change feed: every flow that comes, changes or goes, as a record, for flow monitors.
 *
 * Idea. Nobody watches most of the time, and then a commit pays one comparison. While somebody
 * does, each published commit appends its steps, in order, to a list that the control side takes.
 * The list grows as transactions do, up to OKO_WATCH_BYTES; what comes when that is full is lost,
 * and the taker is told.
 *
 * Thread-safety: under the datapath's mutex. */
#include "commit.h"

#include "event.h"

#include <stdlib.h>
#include <string.h>

enum { OKO_WATCH_BYTES = 256 << 20 };

void oko_dp_watch(struct oko_dp *dp, bool on)
{
    oko_dp_lock(dp);
    dp->watch.on = on;
    if (!on) {
        free(dp->watch.data);
        dp->watch = (struct oko_watch){0};
    }
    oko_dp_unlock(dp);
}

static uint8_t *room(struct oko_watch *watch, uint64_t size)
{
    if (size > OKO_WATCH_BYTES - watch->used)
        return NULL;
    if (size > watch->cap - watch->used) {
        uint64_t cap = 2 * watch->cap > watch->used + size ? 2 * watch->cap : watch->used + size;
        uint8_t *data = realloc(watch->data, cap);
        if (!data)
            return NULL;
        watch->data = data;
        watch->cap = cap;
    }
    uint8_t *at = watch->data + watch->used;
    watch->used += size;
    return at;
}

void oko_watch_rule(struct oko_dp *dp, const struct oko_rule *rule, uint32_t kind, uint32_t change)
{
    struct oko_flow_change head = {.size = (uint32_t)sizeof head + oko_flow_record_size(rule),
                                   .change = change,
                                   .kind = (uint16_t)kind,
                                   .reason = rule->reason};
    uint8_t *at = room(&dp->watch, head.size);
    if (!at) {
        dp->watch.lost = true;
        return;
    }
    memcpy(at, &head, sizeof head);
    oko_flow_record(rule, dp->born_ns, at + sizeof head);
    oko_ring_wake(dp->events);
}

int64_t oko_dp_changes(struct oko_dp *dp, uint8_t *out, uint64_t size, bool *lost)
{
    int64_t used = 0;
    oko_dp_lock(dp);
    struct oko_watch *watch = &dp->watch;
    if (size < watch->used) {
        used = (int64_t)watch->used;
    } else {
        if (watch->used)
            memcpy(out, watch->data, watch->used);
        used = (int64_t)watch->used;
        *lost = watch->lost;
        watch->used = 0;
        watch->lost = false;
    }
    oko_dp_unlock(dp);
    return used;
}
