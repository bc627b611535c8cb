/* refuse: this read may reach byte 1023 of section .bss, which has 256
 *
 * at: return seen[pkt[33]]++ > 10;
 *
 * hint: compare the index */
#include "oko_bpf.h"

uint32_t seen[64];

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    if (len < 34)
        return 0;
    return seen[pkt[33]]++ > 10;
}
