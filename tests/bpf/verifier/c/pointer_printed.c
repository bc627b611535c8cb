/* refuse: argument r2 of printf is an address in the packet
 *
 * at: bpf_printf("at %lx", pkt);
 *
 * hint: addresses must not leave the program */
#include "oko_bpf.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    bpf_printf("at %lx", pkt);
    return 0;
}
