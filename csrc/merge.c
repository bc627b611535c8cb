/* A linear search for the earliest: captures are few, and one alone is the usual case. */
#include "merge.h"

#include <stdlib.h>

struct source {
    struct oko_capture *capture;
    uint32_t in_port;
    bool have;  /* record is the next one */
    bool ended; /* in this round */
    int broken; /* OKO_E_* that ended it early, ever */
    struct oko_error error;
    struct oko_record record;
    uint64_t ns; /* time of the newest record, never running back */
};

struct oko_merge {
    uint32_t n;
    struct source sources[];
};

int oko_merge_new(const struct oko_replay_source *sources, uint32_t n, struct oko_merge **out)
{
    struct oko_merge *merge = calloc(1, sizeof *merge + n * sizeof merge->sources[0]);
    if (!merge)
        return OKO_E_NOMEM;
    merge->n = n;
    for (uint32_t i = 0; i < n; i++) {
        merge->sources[i].capture = sources[i].capture;
        merge->sources[i].in_port = sources[i].in_port;
    }
    *out = merge;
    return 0;
}

void oko_merge_free(struct oko_merge *merge)
{
    free(merge);
}

static void broken(struct source *s, int code, const struct oko_error *error)
{
    s->ended = true;
    if (!s->broken) {
        s->broken = code;
        s->error = *error;
    }
}

/* Has every source that goes on a record at hand? NULL, or the one that must be refilled. */
static struct source *look_ahead(struct oko_merge *merge)
{
    for (uint32_t i = 0; i < merge->n; i++) {
        struct source *s = &merge->sources[i];
        if (s->have || s->ended)
            continue;
        struct oko_error error;
        int result = oko_capture_next(s->capture, &s->record, &error);
        if (result == OKO_CAPTURE_REFILL)
            return s;
        if (result < 0) {
            broken(s, result, &error);
        } else if (result == OKO_CAPTURE_END) {
            s->ended = true;
        } else {
            s->have = true;
            s->ns = s->record.ns > s->ns ? s->record.ns : s->ns;
        }
    }
    return NULL;
}

enum oko_merge_result oko_merge_next(struct oko_merge *merge, struct oko_merged *out)
{
    struct source *first = NULL;

    if (look_ahead(merge))
        return OKO_MERGE_REFILL;
    for (uint32_t i = 0; i < merge->n; i++) {
        struct source *s = &merge->sources[i];
        if (s->have && (!first || s->ns < first->ns))
            first = s;
    }
    if (!first)
        return OKO_MERGE_END;
    first->have = false;
    *out = (struct oko_merged){.record = first->record, .ns = first->ns, .in_port = first->in_port};
    return OKO_MERGE_RECORD;
}

int oko_merge_refill(struct oko_merge *merge)
{
    struct source *s = look_ahead(merge);
    struct oko_error error;
    int err = s ? oko_capture_refill(s->capture, &error) : 0;
    if (err == OKO_E_BUSY)
        return err;
    if (err)
        broken(s, err, &error);
    return 0;
}

void oko_merge_rewind(struct oko_merge *merge, struct oko_capture *const *captures)
{
    for (uint32_t i = 0; i < merge->n; i++) {
        struct source *s = &merge->sources[i];
        s->capture = captures[i];
        s->have = s->ended = false;
        s->ns = 0;
    }
}

int oko_merge_error(const struct oko_merge *merge, uint32_t i, struct oko_error *error)
{
    if (i >= merge->n)
        return OKO_E_INVAL;
    *error = merge->sources[i].error;
    return merge->sources[i].broken;
}
