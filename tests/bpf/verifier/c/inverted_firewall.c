/* refuse: this read needs .. bytes of packet, but here it has 0 to 34
 *
 * at: uint32_t src = *(const uint32_t *)(pkt + 26);
 *
 * hint: the wrong way round
 *
 * The prototype's stateless firewall: leaves when the packet is long enough. */
#include "oko_bpf.h"

struct ubpf_map_def blacklist SEC("maps") = {
    .type = UBPF_MAP_TYPE_HASH,
    .key_size = sizeof(uint32_t),
    .value_size = sizeof(uint32_t),
    .max_entries = 65536,
};

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len > 34)
        return 0;
    uint32_t src = *(const uint32_t *)(pkt + 26);
    return bpf_map_lookup(&blacklist, &src) == NULL;
}
