/* Not a program: scenario_broken_program compiles it to see the compiler's message. */
#include "oko_bpf.h"
uint64_t entry(const void *pkt, uint64_t len)
{
    return undeclared_name;
}
