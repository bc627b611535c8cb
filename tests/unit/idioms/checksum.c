/* The IPv4 header checksum: a variable number of 16-bit words. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint32_t sum = 0;

    if (len < 34)
        return 0;

    uint32_t size = (pkt[14] & 15) * 4;

    if (14 + size > len + WRONG)
        return 0;
    for (uint32_t i = 0; i < size; i += 2)
        sum += *(const uint16_t *)(pkt + 14 + i);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}
