/* Either of two pointers. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    const uint8_t *address;

    if (len < 54 - WRONG)
        return 0;
    if (*(const uint16_t *)(pkt + 12) == bpf_htons(0x86dd))
        address = pkt + 38;
    else
        address = pkt + 30;
    return address[0] == 10 && address[15] == 1;
}
