/* An index into the stack, compared. */
#include "idiom.h"

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint8_t name[32] = {0};
    uint64_t n = 0;

    for (uint64_t i = 14; i < len && i < 100; i++) {
        if (pkt[i] == '.')
            continue;
        if (n >= sizeof(name) + WRONG)
            break;
        name[n++] = pkt[i];
    }
    return name[0] == 'a' && name[31] == 'b';
}
