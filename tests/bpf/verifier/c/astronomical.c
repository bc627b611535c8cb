/* refuse: the program may execute .. instructions for a packet; the limit is 1000000
 *
 * at: *
 *
 * hint: smaller bounds */
#include "oko_bpf.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t sum = len;
    for (uint64_t i = 0; i < 4000000000; i++)
        sum = sum * 31 + (i ^ len) * (sum >> 7);
    return sum & 1;
}
