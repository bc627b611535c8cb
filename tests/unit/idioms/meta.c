/* What the switch tells. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len, const struct oko_meta *meta)
{
    const uint8_t *wrong = (const void *)(meta + 1);

    if (WRONG)
        return *wrong;
    return meta->in_port == 1 && meta->len == len && meta->rx_ns == bpf_time_get_ns();
}
