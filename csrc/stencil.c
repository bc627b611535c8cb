/* Entries of replies about flows, written by stencil: how a dump of 100,000 flows leaves the core
 * without Python looking at each.
 *
 * Idea. What OpenFlow makes of a flow's match and instructions depends on few things that differ
 * from flow to flow: the values of the match. So the caller, who knows OpenFlow, encodes one flow
 * of a kind and says where in the result the values stand; all others of that kind are that text
 * with their values copied in. Kinds are told apart by fields and masks, values of fixed fields
 * (which change more than their own bytes), program and instructions. Heads of entries, which are
 * numbers only, are written here.
 *
 * Fails safely: a flow of no known kind stops the writing, and the caller encodes it; a record that
 * contradicts itself is refused. At most OKO_STENCILS_MAX kinds are kept: tables of more get the
 * caller's way.
 *
 * Thread-safety: one thread at a time. What it leaves out: versions whose entries have no head of
 * fixed size (1.5), and the fixed match of 1.0. */
#include "oko.h"

#include "base/be.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { N_SLOTS = 2 * OKO_STENCILS_MAX, HEAD = 48 };

struct stencil {
    uint64_t hash;
    struct oko_flow_info info; /* of the flow that it was made of */
    struct oko_match_field *match;
    uint8_t *ops;
    uint8_t *wire;
    struct oko_stencil_hole *holes; /* one per field of the match */
    uint32_t wire_size;
    uint16_t match_size;
    bool lossy;
};

struct oko_stencils {
    enum oko_entry_head head;
    bool fixed[OKO_N_FIELDS];
    struct oko_hash_key key;
    uint32_t n;
    struct stencil *slots[N_SLOTS];
};

/* A record taken apart. */
struct flow {
    struct oko_flow_info info;
    const uint8_t *match, *ops;
};

static bool read_flow(const uint8_t *record, uint64_t size, struct flow *flow)
{
    if (size < sizeof flow->info)
        return false;
    memcpy(&flow->info, record, sizeof flow->info);
    const struct oko_flow_info *info = &flow->info;
    if (info->n_match > OKO_N_FIELDS || info->size > size)
        return false;
    uint64_t match_size = info->n_match * sizeof(struct oko_match_field);
    flow->match = record + sizeof *info;
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

int oko_stencils_new(enum oko_entry_head head, const uint8_t *fixed, struct oko_stencils **out)
{
    struct oko_stencils *s = calloc(1, sizeof *s);
    if (!s)
        return OKO_E_NOMEM;
    s->head = head;
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

int oko_stencils_add(struct oko_stencils *s, const uint8_t *record, uint64_t size,
                     const uint8_t *wire, uint32_t wire_size, uint32_t match_size,
                     const struct oko_stencil_hole *holes, bool lossy)
{
    struct flow flow;
    if (!read_flow(record, size, &flow) || wire_size > UINT16_MAX - HEAD || match_size > wire_size)
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
    *stencil = (struct stencil){.hash = hash,
                                .info = flow.info,
                                .wire_size = wire_size,
                                .match_size = (uint16_t)match_size,
                                .lossy = lossy};
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

/* As NXST_FLOW tells an age: seconds and one, at most what fits. */
static uint16_t age(uint64_t ns)
{
    uint64_t code = ns / 1000000000u + 1;
    return (uint16_t)(code < UINT16_MAX ? code : UINT16_MAX);
}

static void write_head(const struct oko_stencils *s, const struct stencil *stencil,
                       const struct oko_flow_info *info, uint64_t now, uint8_t *out)
{
    uint64_t duration = since(info->created_ns, now);
    oko_put_be16(out, (uint16_t)(HEAD + stencil->wire_size));
    out[2] = (uint8_t)info->table;
    out[3] = 0;
    oko_put_be32(out + 4, (uint32_t)(duration / 1000000000u));
    oko_put_be32(out + 8, (uint32_t)(duration % 1000000000u));
    oko_put_be16(out + 12, info->priority);
    oko_put_be16(out + 14, (uint16_t)info->idle_timeout);
    oko_put_be16(out + 16, (uint16_t)info->hard_timeout);
    if (s->head == OKO_ENTRY_NX) {
        uint64_t used = info->used_ns > info->created_ns ? info->used_ns : info->created_ns;
        oko_put_be16(out + 18, stencil->match_size);
        oko_put_be16(out + 20, age(since(used, now)));
        oko_put_be16(out + 22, age(since(info->modified_ns, now)));
    } else {
        oko_put_be16(out + 18, info->flags & 31); /* those of OpenFlow */
        oko_put_be16(out + 20, s->head == OKO_ENTRY_14 ? (uint16_t)info->importance : 0);
        oko_put_be16(out + 22, 0);
    }
    oko_put_be64(out + 24, info->cookie);
    oko_put_be64(out + 32, info->packets);
    oko_put_be64(out + 40, info->bytes);
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
        if (!stencil || HEAD + stencil->wire_size > room - used)
            break;
        write_head(s, stencil, &flow.info, now_ns, out + used);
        uint8_t *body = out + used + HEAD;
        memcpy(body, stencil->wire, stencil->wire_size);
        for (uint32_t i = 0; i < flow.info.n_match; i++) {
            const struct oko_stencil_hole *hole = &stencil->holes[i];
            memcpy(body + hole->at,
                   flow.match + i * sizeof(struct oko_match_field) +
                       offsetof(struct oko_match_field, value),
                   hole->size);
        }
        *n_lossy += stencil->lossy;
        used += HEAD + stencil->wire_size;
        *at += flow.info.size;
    }
    return (int64_t)used;
}
