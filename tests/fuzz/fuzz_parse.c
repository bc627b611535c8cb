/* Any bytes are a frame: parsing stays inside them (ASan) and finds headers inside them. */
#include "parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > OKO_FRAME_MAX)
        return 0;
    uint8_t *copy = malloc(size ? size : 1); /* exactly as long: one byte further is an error */
    memcpy(copy, data, size);
    struct oko_pkt pkt = {.data = copy, .len = (uint32_t)size};
    struct oko_key deep, key;

    oko_parse(&pkt, OKO_LAYER_L4, &deep);
    if ((pkt.l3 != OKO_NO_LAYER && pkt.l3 + 20u > size) ||
        (pkt.l4 != OKO_NO_LAYER && (pkt.l4 + 8u > size || pkt.l4 < pkt.l3)) ||
        (pkt.l2_5 != OKO_NO_LAYER && pkt.l2_5 + 4u > size))
        abort();
    for (int layers = OKO_LAYER_PORT; layers < OKO_LAYER_L4; layers++)
        oko_parse(&pkt, (enum oko_layers)layers, &key);
    oko_reparse(&pkt, &key);
    if (memcmp(&key, &deep, sizeof key) != 0)
        abort();
    free(copy);
    return 0;
}
