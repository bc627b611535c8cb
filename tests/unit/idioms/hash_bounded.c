/* A helper's size from the packet, bounded; the buffer initialised in full. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint8_t buffer[32] = {0};

    if (len < 40)
        return 0;
    memcpy(buffer, pkt + 8, sizeof(buffer));

    uint64_t size = pkt[0];

    if (size > sizeof(buffer) + WRONG)
        return 0;
    return bpf_hash(buffer, size) & 1;
}
