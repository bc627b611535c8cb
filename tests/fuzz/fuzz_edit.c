/* Any bytes are a frame and a list of edits: after each one key and offsets are what the parser
 * finds in the new frame, and nothing outside the buffer is touched (ASan).
 * Input: number of edits, 35 bytes for each, the frame. */
#include "edits.h"

#include <stdlib.h>

enum { EDIT_SIZE = 35 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct oko_pool *pool;
    if (!pool && oko_pool_new(1, &pool))
        abort();
    if (size < 1)
        return 0;
    uint32_t n = data[0] % 16;
    if (size < 1 + (size_t)n * EDIT_SIZE || size > OKO_FRAME_MAX)
        return 0;
    const uint8_t *frame = data + 1 + n * EDIT_SIZE;
    uint32_t len = (uint32_t)(size - 1 - n * EDIT_SIZE);

    struct oko_pkt pkt = {.data = (uint8_t *)(uintptr_t)frame, .len = len};
    struct oko_key key;
    if (oko_pkt_writable(&pkt, pool))
        abort();
    oko_parse(&pkt, OKO_LAYER_L4, &key);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *edit = data + 1 + i * EDIT_SIZE;
        uint32_t verb = edit[0] % (N_EDIT_VERBS + 10);
        verb = verb < N_EDIT_VERBS ? verb : N_EDIT_VERBS - 1;
        random_edit(&pkt, &key, verb, edit[1] % OKO_N_FIELDS, edit + 3, edit + 19);
        if (!in_step(&pkt, &key))
            abort();
        if (pkt.data < pkt.buffer || pkt.len > OKO_FRAME_MAX)
            abort();
    }
    oko_pkt_release(&pkt, pool);
    return 0;
}
