/* Rules: matches from fields, one allocation per rule, deadlines. Instructions: ops.c. */
#include "rule.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- statistics */

struct oko_flow_stats *oko_flow_stats_new(uint32_t n_workers)
{
    size_t size = n_workers * 2 * sizeof(struct oko_flow_counter);
    struct oko_flow_stats *stats = aligned_alloc(64, size);
    if (stats) {
        memset(stats, 0, size);
        stats->shift = n_workers > 1;
        stats->refs = 1;
        stats->n_workers = n_workers;
    }
    return stats;
}

void oko_flow_stats_unref(struct oko_flow_stats *stats)
{
    if (stats && --stats->refs == 0)
        free(stats);
}

void oko_flow_stats_sum(const struct oko_flow_stats *stats, uint64_t *packets, uint64_t *bytes,
                        uint64_t *used_ns)
{
    *packets = *bytes = *used_ns = 0;
    for (uint32_t i = 0; i < stats->n_workers; i++) {
        const struct oko_flow_counter *counter = &stats->slot[i << stats->shift];
        *packets += OKO_LOAD(&counter->packets);
        *bytes += OKO_LOAD(&counter->bytes);
        uint64_t used = OKO_LOAD(&counter->used_ns);
        if (used > *used_ns)
            *used_ns = used;
    }
}

uint64_t oko_flow_stats_used(const struct oko_flow_stats *stats)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < stats->n_workers; i++) {
        uint64_t used = OKO_LOAD(&stats->slot[i << stats->shift].used_ns);
        if (used > newest)
            newest = used;
    }
    return newest;
}

/* ---------------------------------------------------------------- match */

int oko_match_from(struct oko_match *match, const struct oko_match_field *fields, uint32_t n,
                   struct oko_error *error)
{
    memset(match, 0, sizeof *match);
    for (uint32_t i = 0; i < n; i++) {
        const struct oko_field *field = oko_field(fields[i].field);
        if (!field)
            return oko_err(error, OKO_E_INVAL, "match: there is no field number %u",
                           fields[i].field);
        uint8_t *key = (uint8_t *)&match->key + field->offset;
        uint8_t *mask = (uint8_t *)&match->mask + field->offset;
        for (uint32_t b = 0; b < 16; b++) {
            uint8_t v = fields[i].value[b], m = fields[i].mask[b];
            uint32_t width = b < field->size ? 0xff : 0;
            if (b == 0 && field->bits % 8)
                width >>= 8 - field->bits % 8;
            if (m & ~width)
                return oko_err(error, OKO_E_INVAL, "match: %s has %u bits, the mask is wider",
                               field->name, field->bits);
            if (v & ~m)
                return oko_err(error, OKO_E_INVAL, "match: %s has value bits outside its mask",
                               field->name);
            if (b >= field->size)
                continue;
            if ((key[b] ^ v) & mask[b] & m)
                return oko_err(error, OKO_E_INVAL, "match: %s contradicts a field before it",
                               field->name);
            key[b] |= v;
            mask[b] |= m;
        }
    }
    uint32_t conj;
    memcpy(&conj, match->mask.conj_id, sizeof conj);
    if (conj && conj != UINT32_MAX)
        return oko_err(error, OKO_E_INVAL, "match: conj_id takes no mask");
    return 0;
}

/* The fields as given, packed: per field its number (one byte), value and mask in its own size. */
_Static_assert(OKO_N_FIELDS <= 255, "a field's number is packed into a byte");

static uint32_t packed_size(const struct oko_match_field *fields, uint32_t n)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < n; i++)
        size += 1 + 2u * oko_field(fields[i].field)->size;
    return size;
}

static void pack(uint8_t *out, const struct oko_match_field *fields, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t size = oko_field(fields[i].field)->size;
        *out++ = (uint8_t)fields[i].field;
        memcpy(out, fields[i].value, size);
        memcpy(out + size, fields[i].mask, size);
        out += 2 * size;
    }
}

void oko_rule_match(const struct oko_rule *rule, struct oko_match_field *fields)
{
    const uint8_t *at = rule->match;
    for (uint32_t i = 0; i < rule->n_match; i++) {
        memset(&fields[i], 0, sizeof fields[i]);
        fields[i].field = *at++;
        uint32_t size = oko_field(fields[i].field)->size;
        memcpy(fields[i].value, at, size);
        memcpy(fields[i].mask, at + size, size);
        at += 2 * size;
    }
}

/* ---------------------------------------------------------------- rule */

static void set_ops(struct oko_rule *rule, const uint8_t *ops, uint32_t ops_len,
                    const struct oko_ops_facts *facts)
{
    if (ops_len)
        memcpy((uint8_t *)(uintptr_t)rule->ops, ops, ops_len);
    rule->ops_len = ops_len;
    rule->ops_flags = (uint8_t)facts->flags;
    rule->out_port = facts->out_port;
    uint32_t kind = facts->flags & (OKO_OPS_DROP | OKO_OPS_OUTPUT | OKO_OPS_NORMAL | OKO_OPS_GOTO);
    if (rule->idle_timeout || rule->hard_timeout)
        kind |= OKO_RULE_TIMED;
    if (facts->flags & OKO_OPS_SOFT)
        kind |= OKO_RULE_SOFT;
    rule->kind = (uint8_t)kind;
}

_Static_assert((int)OKO_OPS_DROP == (int)OKO_RULE_DROP, "the flags coincide");
_Static_assert((int)OKO_OPS_NORMAL == (int)OKO_RULE_NORMAL, "the flags coincide");
_Static_assert((int)OKO_OPS_GOTO == (int)OKO_RULE_GOTO, "the flags coincide");
_Static_assert((int)OKO_OPS_OUTPUT == (int)OKO_RULE_OUTPUT, "the flags coincide");

static struct oko_rule *allocate(uint32_t n_words, uint32_t ops_len, uint32_t match_size)
{
    size_t size = sizeof(struct oko_rule) + 8 * n_words + ops_len + match_size;
    struct oko_rule *rule = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!rule)
        return NULL;
    memset(rule, 0, sizeof *rule);
    rule->ops = (uint8_t *)(rule->key + n_words);
    rule->match = rule->ops + ops_len;
    rule->remove_version = OKO_NEVER;
    return rule;
}

static uint32_t n_words_of(const struct oko_key *mask)
{
    const uint64_t *words = oko_key_words(mask);
    uint32_t n = 0;
    for (uint32_t i = 0; i < OKO_KEY_WORDS; i++)
        n += words[i] != 0;
    return n;
}

int oko_rule_new(const struct oko_flow_spec *spec, const struct oko_match *match,
                 const struct oko_ops_facts *facts, uint32_t slot, uint32_t n_workers,
                 struct oko_flow_stats *stats, struct oko_rule **out)
{
    uint32_t n_words = n_words_of(&match->mask);
    uint32_t match_size = packed_size(spec->match, spec->n_match);
    struct oko_rule *rule = allocate(n_words, spec->ops_len, match_size);
    if (!rule)
        return OKO_E_NOMEM;
    rule->stats = stats ? stats : oko_flow_stats_new(n_workers);
    if (!rule->stats) {
        free(rule);
        return OKO_E_NOMEM;
    }
    const uint64_t *mask = oko_key_words(&match->mask), *key = oko_key_words(&match->key);
    for (uint32_t i = 0, w = 0; i < OKO_KEY_WORDS; i++)
        if (mask[i])
            rule->key[w++] = key[i];
    pack((uint8_t *)(uintptr_t)rule->match, spec->match, spec->n_match);
    rule->cookie = spec->cookie;
    rule->idle_timeout = spec->idle_timeout;
    rule->hard_timeout = spec->hard_timeout;
    rule->filter_prog = (uint16_t)spec->filter_prog;
    rule->importance = (uint16_t)spec->importance;
    rule->n_match = (uint16_t)spec->n_match;
    rule->priority = spec->priority;
    rule->flags = spec->flags;
    rule->slot = (uint16_t)slot;
    rule->table = (uint8_t)spec->table;
    enum oko_layers layers = oko_layers_of(&match->mask);
    rule->layers = (layers > facts->layers ? layers : facts->layers) & 3;
    set_ops(rule, spec->ops, spec->ops_len, facts);
    *out = rule;
    return 0;
}

int oko_rule_modified(const struct oko_rule *old, const uint8_t *ops, uint32_t ops_len,
                      const struct oko_ops_facts *facts, struct oko_flow_stats *stats,
                      struct oko_rule **out)
{
    struct oko_match_field fields[OKO_N_FIELDS];
    struct oko_match match;
    oko_rule_match(old, fields);
    oko_match_from(&match, fields, old->n_match, NULL); /* it was accepted once */
    struct oko_flow_spec spec = {.cookie = old->cookie,
                                 .table = old->table,
                                 .priority = old->priority,
                                 .flags = old->flags,
                                 .idle_timeout = old->idle_timeout,
                                 .hard_timeout = old->hard_timeout,
                                 .filter_prog = old->filter_prog,
                                 .importance = old->importance,
                                 .n_match = old->n_match,
                                 .match = fields,
                                 .ops = ops,
                                 .ops_len = ops_len};
    struct oko_rule *rule;
    int rc = oko_rule_new(&spec, &match, facts, old->slot, stats->n_workers, stats, &rule);
    if (rc)
        return rc;
    rule->id = old->id;
    rule->rank = old->rank;
    rule->created_ns = old->created_ns;
    rule->learned = old->learned;
    *out = rule;
    return 0;
}

void oko_rule_free(struct oko_rule *rule)
{
    if (!rule)
        return;
    oko_flow_stats_unref(rule->stats);
    free(rule);
}

uint64_t oko_rule_deadline(const struct oko_rule *rule, uint64_t born, bool *is_hard)
{
    uint64_t idle = OKO_LOAD(&rule->idle_timeout), hard = OKO_LOAD(&rule->hard_timeout);
    uint64_t since = OKO_LOAD(&rule->modified_ns);
    uint64_t deadline = OKO_NEVER;
    *is_hard = false;
    if (!since)
        since = born;
    if (idle) {
        uint64_t used = oko_flow_stats_used(rule->stats);
        deadline = (used > since ? used : since) + idle * 1000000000u;
    }
    if (hard) {
        uint64_t at = since + hard * 1000000000u;
        if (at <= deadline) {
            deadline = at;
            *is_hard = true;
        }
    }
    return deadline;
}
