/* Two conditions in one test, the second reading what the first has shown to be there. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 14 - WRONG || *(const uint16_t *)(pkt + 12) != bpf_htons(0x0800))
        return 0;
    return pkt[13] == pkt[0];
}
