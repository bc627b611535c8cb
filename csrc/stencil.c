/* Records of flows in somebody else's format, written by stencil: how a dump of 100,000 flows
 * leaves the core without Python looking at each.
 *
 * Idea. What a protocol makes of a flow depends on few things that differ from flow to flow: some
 * numbers and the values of the match. So the caller, who knows the protocol, encodes one flow of a
 * kind and says where in the result these stand; the records of all others of that kind are that
 * text with their own numbers and values put in. Kinds are told apart by fields and masks, values
 * of fixed fields (which change more than their own bytes), program and instructions.
 *
 * Fails safely: a flow of no known kind stops the writing, and the caller encodes it; what
 * contradicts itself is refused. At most OKO_STENCILS_MAX kinds are kept: tables of more get the
 * caller's way.
 *
 * Thread-safety: one thread at a time. What it leaves out: numbers whose place differs from kind to
 * kind, and values that do not stand in the record as they are. */
#include "oko.h"

#include "base/be.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { N_SLOTS = 2 * OKO_STENCILS_MAX };
#define SECOND UINT64_C(1000000000)

struct stencil {
    uint64_t hash;
    struct oko_flow_info info; /* of the flow that it was made of */
    struct oko_match_field *match;
    uint8_t *ops;
    uint8_t *wire;
    struct oko_stencil_hole *holes; /* one per field of the match */
    uint32_t wire_size;
    bool lossy;
};

struct oko_stencils {
    struct oko_stencil_number numbers[OKO_STENCIL_NUMBERS_MAX];
    uint32_t n_numbers;
    bool fixed[OKO_N_FIELDS];
    struct oko_hash_key key;
    uint32_t n;
    struct stencil *slots[N_SLOTS];
};

/* A flow taken apart. */
struct flow {
    struct oko_flow_info info;
    const uint8_t *match, *ops;
};

static bool read_flow(const uint8_t *bytes, uint64_t size, struct flow *flow)
{
    if (size < sizeof flow->info)
        return false;
    memcpy(&flow->info, bytes, sizeof flow->info);
    const struct oko_flow_info *info = &flow->info;
    if (info->n_match > OKO_N_FIELDS || info->size > size)
        return false;
    uint64_t match_size = info->n_match * sizeof(struct oko_match_field);
    flow->match = bytes + sizeof *info;
    flow->ops = flow->match + match_size;
    return sizeof *info + match_size + info->ops_len <= info->size;
}

static struct oko_match_field field_of(const uint8_t *match, uint32_t i)
{
    struct oko_match_field field;
    memcpy(&field, match + i * sizeof field, sizeof field);
    return field;
}

static bool is_fixed(const struct oko_stencils *s, uint32_t field)
{
    return field >= OKO_N_FIELDS || s->fixed[field];
}

static uint64_t hash_of(const struct oko_stencils *s, const struct flow *flow)
{
    uint64_t h = oko_hash_bytes(&s->key, flow->ops, flow->info.ops_len);
    h ^= (uint64_t)flow->info.n_match << 32 | flow->info.filter_prog;
    for (uint32_t i = 0; i < flow->info.n_match; i++) {
        struct oko_match_field field = field_of(flow->match, i);
        uint64_t words[6] = {h, field.field};
        memcpy(words + 2, field.mask, sizeof field.mask);
        if (is_fixed(s, field.field))
            memcpy(words + 4, field.value, sizeof field.value);
        h = oko_hash_bytes(&s->key, words, sizeof words);
    }
    return h;
}

static bool is_of(const struct oko_stencils *s, const struct stencil *stencil,
                  const struct flow *flow)
{
    const struct oko_flow_info *a = &stencil->info, *b = &flow->info;
    if (a->filter_prog != b->filter_prog || a->n_match != b->n_match || a->ops_len != b->ops_len ||
        memcmp(stencil->ops, flow->ops, b->ops_len) != 0)
        return false;
    for (uint32_t i = 0; i < b->n_match; i++) {
        const struct oko_match_field *x = &stencil->match[i];
        struct oko_match_field y = field_of(flow->match, i);
        if (x->field != y.field || memcmp(x->mask, y.mask, sizeof y.mask) != 0 ||
            (is_fixed(s, y.field) && memcmp(x->value, y.value, sizeof y.value) != 0))
            return false;
    }
    return true;
}

/* Where the stencil of such flows is, or would be put. */
static struct stencil **find(struct oko_stencils *s, const struct flow *flow, uint64_t hash)
{
    uint64_t at = hash % N_SLOTS;
    while (s->slots[at] && !(s->slots[at]->hash == hash && is_of(s, s->slots[at], flow)))
        at = (at + 1) % N_SLOTS;
    return &s->slots[at];
}

int oko_stencils_new(const struct oko_stencil_number *numbers, uint32_t n_numbers,
                     const uint8_t *fixed, struct oko_stencils **out)
{
    if (n_numbers > OKO_STENCIL_NUMBERS_MAX)
        return OKO_E_INVAL;
    for (uint32_t i = 0; i < n_numbers; i++)
        if (numbers[i].what >= OKO_STENCIL_N_WHATS || numbers[i].size > 8 ||
            __builtin_popcount(numbers[i].size) != 1)
            return OKO_E_INVAL;
    struct oko_stencils *s = calloc(1, sizeof *s);
    if (!s)
        return OKO_E_NOMEM;
    for (uint32_t i = 0; i < n_numbers; i++)
        s->numbers[i] = numbers[i];
    s->n_numbers = n_numbers;
    for (uint32_t i = 0; i < OKO_N_FIELDS; i++)
        s->fixed[i] = fixed[i];
    s->key = oko_hash_key_from((uint64_t)(uintptr_t)s);
    *out = s;
    return OKO_OK;
}

void oko_stencils_free(struct oko_stencils *s)
{
    for (uint32_t i = 0; s && i < N_SLOTS; i++)
        free(s->slots[i]);
    free(s);
}

int oko_stencils_add(struct oko_stencils *s, const uint8_t *bytes, uint64_t size,
                     const uint8_t *wire, uint32_t wire_size, const struct oko_stencil_hole *holes,
                     bool lossy)
{
    struct flow flow;
    if (!read_flow(bytes, size, &flow) || wire_size > UINT16_MAX)
        return OKO_E_INVAL;
    for (uint32_t i = 0; i < s->n_numbers; i++)
        if (s->numbers[i].at + s->numbers[i].size > wire_size)
            return OKO_E_INVAL;
    for (uint32_t i = 0; i < flow.info.n_match; i++)
        if (holes[i].size > 16 || holes[i].at + holes[i].size > wire_size)
            return OKO_E_INVAL;
    if (s->n >= OKO_STENCILS_MAX)
        return OKO_E_LIMIT;
    uint64_t hash = hash_of(s, &flow);
    struct stencil **slot = find(s, &flow, hash);
    if (*slot)
        return OKO_E_EXISTS;
    size_t n = flow.info.n_match, match_bytes = n * sizeof(struct oko_match_field);
    size_t hole_bytes = n * sizeof *holes;
    struct stencil *stencil =
        malloc(sizeof *stencil + match_bytes + hole_bytes + flow.info.ops_len + wire_size);
    if (!stencil)
        return OKO_E_NOMEM;
    *stencil =
        (struct stencil){.hash = hash, .info = flow.info, .wire_size = wire_size, .lossy = lossy};
    stencil->match = (struct oko_match_field *)(stencil + 1);
    stencil->holes = (struct oko_stencil_hole *)(stencil->match + n);
    stencil->ops = (uint8_t *)(stencil->holes + n);
    stencil->wire = stencil->ops + flow.info.ops_len;
    memcpy(stencil->match, flow.match, match_bytes);
    memcpy(stencil->holes, holes, hole_bytes);
    memcpy(stencil->ops, flow.ops, flow.info.ops_len);
    memcpy(stencil->wire, wire, wire_size);
    *slot = stencil;
    s->n++;
    return OKO_OK;
}

static uint64_t since(uint64_t then, uint64_t now)
{
    return now > then ? now - then : 0;
}

static uint64_t number_of(const struct oko_flow_info *info, enum oko_stencil_what what,
                          uint64_t now)
{
    switch (what) {
    case OKO_STENCIL_TABLE:
        return info->table;
    case OKO_STENCIL_PRIORITY:
        return info->priority;
    case OKO_STENCIL_FLAGS:
        return info->flags & ~(uint32_t)OKO_FLOW_TELL;
    case OKO_STENCIL_IMPORTANCE:
        return info->importance;
    case OKO_STENCIL_IDLE_TIMEOUT:
        return info->idle_timeout;
    case OKO_STENCIL_HARD_TIMEOUT:
        return info->hard_timeout;
    case OKO_STENCIL_COOKIE:
        return info->cookie;
    case OKO_STENCIL_PACKETS:
        return info->packets;
    case OKO_STENCIL_BYTES:
        return info->bytes;
    case OKO_STENCIL_AGE_S:
        return since(info->created_ns, now) / SECOND;
    case OKO_STENCIL_AGE_NS:
        return since(info->created_ns, now) % SECOND;
    case OKO_STENCIL_SINCE_USE_S:
        return since(info->used_ns > info->created_ns ? info->used_ns : info->created_ns, now) /
               SECOND;
    case OKO_STENCIL_SINCE_MODIFIED_S:
        return since(info->modified_ns, now) / SECOND;
    case OKO_STENCIL_N_WHATS:
        break;
    }
    return 0;
}

static void put_number(const struct oko_stencil_number *number, const struct oko_flow_info *info,
                       uint64_t now, uint8_t *out)
{
    uint64_t most = UINT64_MAX >> (64 - 8 * number->size);
    uint64_t value = number_of(info, number->what, now);
    value = value > most || number->plus > most - value ? most : value + number->plus;
    out += number->at;
    switch (number->size) {
    case 1:
        *out = (uint8_t)value;
        break;
    case 2:
        oko_put_be16(out, (uint16_t)value);
        break;
    case 4:
        oko_put_be32(out, (uint32_t)value);
        break;
    default:
        oko_put_be64(out, value);
    }
}

int64_t oko_stencils_write(struct oko_stencils *s, const uint8_t *flows, uint64_t size,
                           uint64_t *at, uint64_t now_ns, uint8_t *out, uint64_t room,
                           uint64_t *n_lossy)
{
    uint64_t used = 0;
    struct flow flow;
    while (*at < size) {
        if (!read_flow(flows + *at, size - *at, &flow))
            return OKO_E_INVAL;
        const struct stencil *stencil = *find(s, &flow, hash_of(s, &flow));
        if (!stencil || stencil->wire_size > room - used)
            break;
        uint8_t *to = out + used;
        memcpy(to, stencil->wire, stencil->wire_size);
        for (uint32_t i = 0; i < s->n_numbers; i++)
            put_number(&s->numbers[i], &flow.info, now_ns, to);
        for (uint32_t i = 0; i < flow.info.n_match; i++) {
            const struct oko_stencil_hole *hole = &stencil->holes[i];
            memcpy(to + hole->at,
                   flow.match + i * sizeof(struct oko_match_field) +
                       offsetof(struct oko_match_field, value),
                   hole->size);
        }
        *n_lossy += stencil->lossy;
        used += stencil->wire_size;
        *at += flow.info.size;
    }
    return (int64_t)used;
}
