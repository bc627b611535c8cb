/* A line in the log. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    static const char format[] = "%u bytes\n";

    bpf_printf(WRONG ? (const char *)pkt : format, len);
    return 0;
}
