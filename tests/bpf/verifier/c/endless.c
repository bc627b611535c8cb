/* refuse: the loop from here back to instruction .. may never end: nothing moves towards a bound in
 * every round
 *
 * at: *
 *
 * hint: count up
 *
 * An option of length zero. */
#include "oko_bpf.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t at = 34;
    while (at + 2 < len) {
        if (pkt[at] == 8)
            return 1;
        at += pkt[at + 1];
    }
    return 0;
}
