/* A string of a length that a map tells, or a fixed one, looked for behind a header of one of two
 * lengths: loops in loops whose bounds are variables. */
#include "idiom.h"

struct pattern {
    uint32_t size;
    uint8_t bytes[16];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct pattern);
    __uint(max_entries, 1);
} patterns SEC(".maps");

static const struct pattern common = {4, {0, 1, 2, 3}};

uint64_t entry(const uint8_t *pkt, uint64_t len)
{
    uint64_t start;
    uint32_t zero = 0;

    if (len < 20)
        return 0;
    if (pkt[0] == 6)
        start = (pkt[12] >> 4) * 4;
    else
        start = 8;

    const struct pattern *want = bpf_map_lookup(&patterns, &zero);

    if (!want || want->size == 0)
        want = &common;

    uint32_t size = want->size;

    if (size > sizeof(want->bytes))
        return 0;
    for (uint32_t i = 0; i < 500; i++) {
        if (start + i + size - WRONG > len)
            return 0;

        uint32_t same = 0;

        while (same < size && pkt[start + i + same] == want->bytes[same])
            same++;
        if (same == size)
            return 1;
    }
    return 0;
}
