/* Two variable offsets, added. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;

    uint64_t tcp = 14 + (pkt[14] & 15) * 4;

    if (tcp + 20 > len)
        return 0;

    uint64_t payload = tcp + (pkt[tcp + 12] >> 4) * 4;

    if (payload + 4 - WRONG > len)
        return 0;
    return *(const uint32_t *)(pkt + payload) == bpf_htonl(0x47455420);
}
