/* One frame outside a datapath, for Python: traces, tests. */
#include "parse.h"

#include <string.h>

int oko_frame_parse(const uint8_t *frame, uint32_t len, uint32_t in_port, uint8_t *values,
                    struct oko_frame_info *info)
{
    if (len > OKO_FRAME_MAX)
        return OKO_E_INVAL;
    /* The parser only reads; struct oko_pkt has no const because edits share it. */
    struct oko_pkt pkt = {.data = (uint8_t *)(uintptr_t)frame, .len = len, .in_port = in_port};
    struct oko_key key;
    oko_parse(&pkt, OKO_LAYER_L4, &key);

    memset(values, 0, (size_t)OKO_N_FIELDS * 16);
    for (uint32_t id = 0; id < OKO_N_FIELDS; id++) {
        const struct oko_field *field = oko_field(id);
        memcpy(values + 16 * id + 16 - field->size, (const uint8_t *)&key + field->offset,
               field->size);
    }
    *info = (struct oko_frame_info){
        .n_vlans = pkt.n_vlans, .l2_5 = pkt.l2_5, .l3 = pkt.l3, .l4 = pkt.l4};
    return 0;
}
