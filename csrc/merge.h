/* Several captures as one stream, ordered by time.
 *
 * Each capture is taken in its own order; where its times run back they count as standing still, so
 * that the stream's never run back. At equal times the captures' order decides. A capture that
 * turns out broken ends there, and says why; the others go on.
 *
 * Thread-safety: one thread. */
#ifndef OKO_MERGE_H
#define OKO_MERGE_H

#include "oko.h"

struct oko_merge;

struct oko_merged {
    struct oko_record record; /* its ns as captured */
    uint64_t ns;              /* its place in the stream's time */
    uint32_t in_port;
};

enum oko_merge_result { OKO_MERGE_RECORD, OKO_MERGE_END, OKO_MERGE_REFILL };

int oko_merge_new(const struct oko_replay_source *sources, uint32_t n, struct oko_merge **merge);
void oko_merge_free(struct oko_merge *merge);
/* A record's data stays valid until oko_merge_refill(), which OKO_MERGE_REFILL asks for. */
enum oko_merge_result oko_merge_next(struct oko_merge *merge, struct oko_merged *out);
/* Until the capture that asked for it has its bytes. OKO_E_BUSY: a signal interrupted it, or there
 * was nothing to read for a moment. */
int oko_merge_refill(struct oko_merge *merge);
/* The same captures, opened anew: the stream starts over. */
void oko_merge_rewind(struct oko_merge *merge, struct oko_capture *const *captures);
/* Why capture i ended early, the first time; 0 if it did not. */
int oko_merge_error(const struct oko_merge *merge, uint32_t i, struct oko_error *error);

#endif
