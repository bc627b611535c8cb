/* Lookups of packets in a classifier (cls.h): which rules fit, best first; for one packet, and for
 * the packets of a burst together. Readers only: nothing here writes to the table. */
#include "conj.h"
#include "slots.h"

#include <string.h>

/* ---------------------------------------------------------------- candidates */

/* Puts a rule at its place among the candidates; returns the new limit: a rule that ranks after it
 * need not be looked at. */
static uint64_t add_candidate(struct oko_cands *cands, const struct oko_rule *rule)
{
    uint32_t at = cands->n;
    if (at && at < OKO_CANDS - 1 &&
        cands->rule[at - 1]->rank < rule->rank) { /* at the end, with room */
        cands->rule[cands->n++] = rule;
        return rule->slot ? UINT64_MAX : rule->rank;
    }
    while (at > 0 && cands->rule[at - 1]->rank > rule->rank)
        at--;
    if (at == OKO_CANDS) {
        cands->more = 1;
        return cands->rule[OKO_CANDS - 1]->rank;
    }
    if (!rule->slot) { /* the list ends with it */
        cands->rule[at] = rule;
        cands->n = at + 1;
        cands->more = 0;
        return rule->rank;
    }
    if (cands->n == OKO_CANDS) {
        cands->n--;
        cands->more = 1;
    }
    memmove(&cands->rule[at + 1], &cands->rule[at], (cands->n - at) * sizeof cands->rule[0]);
    cands->rule[at] = rule;
    const struct oko_rule *last = cands->rule[cands->n++];
    if (cands->n == OKO_CANDS)
        cands->more = last->slot != 0; /* others may have been passed over, or will be */
    return !last->slot || cands->n == OKO_CANDS ? last->rank : UINT64_MAX;
}

static inline uint64_t collect(struct oko_cands *cands, const struct oko_rule *rule,
                               uint64_t version, uint64_t after, uint64_t limit)
{
    if (cands->n == 0 && rule->rank > after && oko_rule_visible(rule, version)) {
        cands->n = 1; /* by far the most common: the first candidate, if not the only one */
        cands->rule[0] = rule;
        if (!rule->slot)
            return rule->rank;
        if (!(rule = oko_rule_next(rule)))
            return UINT64_MAX;
    }
    for (; rule && rule->rank < limit; rule = oko_rule_next(rule)) {
        if (rule->rank <= after || !oko_rule_visible(rule, version))
            continue;
        if (cands->n && cands->n < OKO_CANDS - 1 && cands->rule[cands->n - 1]->rank < rule->rank) {
            cands->rule[cands->n++] = rule; /* the usual place, at the end */
            if (!rule->slot)
                return rule->rank;
            continue;
        }
        limit = add_candidate(cands, rule);
    }
    return limit;
}

/* The best rule of a key, or NULL; from slot i on. */
static inline const struct oko_rule *head_from(const struct oko_slots *slots, uint64_t i,
                                               uint64_t hash, const uint64_t *words, uint32_t n)
{
    for (;; i++) {
        uint64_t slot = OKO_LOAD_ACQUIRE(&slots->slot[i & slots->mask]);
        if (slot == 0)
            return NULL;
        if (!((slot ^ hash) & ~OKO_SLOT_ADDRESS) && slot != OKO_SLOT_DEAD) {
            const struct oko_rule *rule = oko_slot_rule(slot);
            if (oko_same_words(rule->key, words, n))
                return rule;
        }
    }
}

static inline uint64_t gather(const struct oko_cls *cls, const struct oko_subtable *st,
                              const struct oko_key *key, uint64_t *words, uint32_t n)
{
    const uint64_t *key_words = oko_key_words(key);
    for (uint32_t i = 0; i < n; i++)
        words[i] = key_words[st->word[i]] & st->mask[i];
    return oko_cls_hash(cls, words, n);
}

/* The best rule of one packet's key in a subtable, or NULL. Inlined for each small number of
 * words. */
static inline __attribute__((always_inline)) const struct oko_rule *
find_head(const struct oko_cls *cls, const struct oko_subtable *st, const struct oko_key *key,
          uint32_t n)
{
    uint64_t words[OKO_KEY_WORDS];
    words[0] = 0; /* n may be 0; gcc warns otherwise, with sanitizers */
    uint64_t hash = gather(cls, st, key, words, n);
    return head_from(OKO_LOAD_ACQUIRE(&st->slots), hash, hash, words, n);
}

static const struct oko_rule *find_any(const struct oko_cls *cls, const struct oko_subtable *st,
                                       const struct oko_key *key)
{
    switch (st->n_words) {
    case 0:
        return find_head(cls, st, key, 0);
    case 1:
        return find_head(cls, st, key, 1);
    case 2:
        return find_head(cls, st, key, 2);
    case 3:
        return find_head(cls, st, key, 3);
    default:
        return find_head(cls, st, key, st->n_words);
    }
}

/* Does the table have flows with conjunction? */
static bool has_soft(const struct oko_cls *cls)
{
    const struct oko_cls *soft = OKO_LOAD_ACQUIRE(&cls->soft);
    return __builtin_expect(soft != NULL, 0) && OKO_LOAD(&soft->n_rules);
}

void oko_cls_lookup_hard(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                         struct oko_cands *cands)
{
    const struct oko_order *order = OKO_LOAD_ACQUIRE(&cls->order);
    uint64_t limit = UINT64_MAX;
    cands->n = cands->more = 0;
    for (uint32_t s = 0; s < order->n && order->at[s].min_rank <= limit; s++) {
        const struct oko_rule *rule = find_any(cls, order->at[s].subtable, key);
        if (rule)
            limit = collect(cands, rule, version, 0, limit);
    }
}

void oko_cls_lookup(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                    struct oko_cands *cands)
{
    if (has_soft(cls))
        oko_conj_lookup(cls, key, version, NULL, cands);
    else
        oko_cls_lookup_hard(cls, key, version, cands);
}

/* Where a subtable's chain goes on after the candidates that were found in it, from its head when
 * there were none: a chain of thousands is not walked from its beginning each time. */
static const struct oko_rule *go_on(const struct oko_cls *cls, const struct oko_subtable *st,
                                    const struct oko_key *key, const struct oko_cands *before)
{
    for (uint32_t i = before->n; i-- > 0;)
        if (before->rule[i]->subtable == st)
            return oko_rule_next(before->rule[i]);
    return find_any(cls, st, key);
}

void oko_cls_lookup_hard_more(const struct oko_cls *cls, const struct oko_key *key,
                              uint64_t version, struct oko_cands *cands)
{
    const struct oko_order *order = OKO_LOAD_ACQUIRE(&cls->order);
    const struct oko_cands before = *cands;
    uint64_t limit = UINT64_MAX, after = before.rule[before.n - 1]->rank;
    cands->n = cands->more = 0;
    for (uint32_t s = 0; s < order->n && order->at[s].min_rank <= limit; s++) {
        const struct oko_rule *rule = go_on(cls, order->at[s].subtable, key, &before);
        if (rule)
            limit = collect(cands, rule, version, after, limit);
    }
}

void oko_cls_lookup_more(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                         struct oko_cands *cands)
{
    if (has_soft(cls))
        oko_conj_lookup(cls, key, version, cands->rule[cands->n - 1], cands);
    else
        oko_cls_lookup_hard_more(cls, key, version, cands);
}

void oko_cls_fitting(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                     uint64_t from, uint64_t limit,
                     uint64_t (*fn)(const struct oko_rule *rule, uint64_t limit, void *ctx),
                     void *ctx)
{
    const struct oko_order *order = OKO_LOAD_ACQUIRE(&cls->order);
    for (uint32_t s = 0; s < order->n && order->at[s].min_rank <= limit; s++) {
        const struct oko_rule *rule = find_any(cls, order->at[s].subtable, key);
        for (; rule && rule->rank <= limit; rule = oko_rule_next(rule))
            if (rule->rank >= from && oko_rule_visible(rule, version))
                limit = fn(rule, limit, ctx);
    }
}

bool oko_cls_same(const struct oko_cls *cls, const struct oko_key *a, const struct oko_key *b)
{
    const struct oko_layout *layout = OKO_LOAD_ACQUIRE(&cls->layout);
    uint64_t difference = 0;
    for (uint32_t i = 0; i < layout->n_words; i++) {
        uint32_t w = layout->word[i];
        difference |= (oko_key_words(a)[w] ^ oko_key_words(b)[w]) & layout->mask[i];
    }
    return difference == 0;
}

uint32_t oko_cls_like_first(const struct oko_cls *cls, const struct oko_key *keys, uint32_t todo)
{
    enum { TRY = 2 }; /* others that differ, and it does not pay */
    const struct oko_layout *layout = OKO_LOAD_ACQUIRE(&cls->layout);
    const struct oko_key *first = &keys[__builtin_ctz(todo)];
    uint32_t rest = todo;
    for (uint32_t i = 0; i < TRY; i++) {
        rest &= rest - 1;
        if (rest && oko_cls_same(cls, first, &keys[__builtin_ctz(rest)]))
            break;
        if (!rest || i + 1 == TRY)
            return todo & -todo;
    }
    uint32_t same = todo;
    for (uint32_t i = 0; i < layout->n_words; i++) {
        uint32_t w = layout->word[i];
        uint64_t mask = layout->mask[i], want = oko_key_words(first)[w] & mask;
        for (rest = same; rest; rest &= rest - 1) {
            uint32_t k = (uint32_t)__builtin_ctz(rest);
            same ^= (uint32_t)((oko_key_words(&keys[k])[w] & mask) != want) << k;
        }
    }
    return same;
}

/* ---------------------------------------------------------------- lookups of a burst */

enum { MAX_BURST = 32, MAX_QUICK_WORDS = 4 };
enum { MANY_MASKS = 4, MANY_PACKETS = 8 }; /* from so many on it pays to ask sieves first */

/* One subtable's heads for the packets todo: head[i], NULL where nothing fits. In three passes, so
 * that the processor works on all packets at once and memory answers meanwhile. Inlined for each
 * small number of words. */
static inline __attribute__((always_inline)) uint32_t
probe(const struct oko_cls *cls, const struct oko_subtable *st, const struct oko_key *keys,
      uint32_t todo, uint32_t n, const struct oko_rule **head)
{
    const struct oko_slots *slots = OKO_LOAD_ACQUIRE(&st->slots);
    uint64_t words[MAX_BURST][MAX_QUICK_WORDS], hash[MAX_BURST];
    bool far = slots->mask >= 4096; /* larger than the first-level cache */
    uint32_t found = 0;
    if (!far) { /* memory answers at once: one pass */
        for (uint32_t rest = todo; rest; rest &= rest - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(rest);
            hash[i] = gather(cls, st, &keys[i], words[i], n);
            head[i] = head_from(slots, hash[i], hash[i], words[i], n);
            found |= head[i] ? 1u << i : 0;
        }
        return found;
    }
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        hash[i] = gather(cls, st, &keys[i], words[i], n);
        __builtin_prefetch(&slots->slot[hash[i] & slots->mask]);
    }
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        uint64_t slot = OKO_LOAD_ACQUIRE(&slots->slot[hash[i] & slots->mask]);
        if (slot == 0)
            continue;
        found |= 1u << i;
        __builtin_prefetch(&oko_slot_rule(slot)->rank);
    }
    for (uint32_t rest = found; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        head[i] = head_from(slots, hash[i], hash[i], words[i], n);
        if (!head[i])
            found &= ~(1u << i);
    }
    return found;
}

static uint32_t probe_any(const struct oko_cls *cls, const struct oko_subtable *st,
                          const struct oko_key *keys, uint32_t todo, const struct oko_rule **head)
{
    switch (st->n_words) {
    case 0:
        return probe(cls, st, keys, todo, 0, head);
    case 1:
        return probe(cls, st, keys, todo, 1, head);
    case 2:
        return probe(cls, st, keys, todo, 2, head);
    case 3:
        return probe(cls, st, keys, todo, 3, head);
    case 4:
        return probe(cls, st, keys, todo, 4, head);
    }
    uint32_t found = 0;
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        head[i] = find_head(cls, st, &keys[i], st->n_words);
        found |= head[i] ? 1u << i : 0;
    }
    return found;
}

/* Of the packets todo, those that the subtable may know. */
static uint32_t sift(const struct oko_subtable *st, const struct oko_key *keys, uint32_t todo,
                     struct oko_columns *columns)
{
    const struct oko_slots *slots = OKO_LOAD_ACQUIRE(&st->slots);
    if (!slots->sieve || st->n_words == 0)
        return todo;
    struct oko_sieve_form form = oko_subtable_form(st);
    return oko_sieve(&form, keys, todo, columns, slots->sieve, oko_slots_last_place(slots));
}

void oko_cls_lookup_burst(const struct oko_cls *cls, const struct oko_key *keys, uint32_t todo,
                          uint64_t version, struct oko_cands *cands)
{
    const struct oko_order *order = OKO_LOAD_ACQUIRE(&cls->order);
    const struct oko_rule *head[MAX_BURST];
    uint64_t limit[MAX_BURST];
    struct oko_columns columns;
    bool many = order->n >= MANY_MASKS && __builtin_popcount(todo) >= MANY_PACKETS;
    uint32_t limited = 0; /* packets whose search may end early */
    if (has_soft(cls)) {
        for (; todo; todo &= todo - 1)
            oko_conj_lookup(cls, &keys[__builtin_ctz(todo)], version, NULL,
                            &cands[__builtin_ctz(todo)]);
        return;
    }
    columns.have = 0;
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        cands[i].n = cands[i].more = 0;
        limit[i] = UINT64_MAX;
    }
    for (uint32_t s = 0; s < order->n && todo; s++) {
        const struct oko_subtable *st = order->at[s].subtable;
        uint32_t known = many ? sift(st, keys, todo, &columns) : todo;
        uint32_t found = probe_any(cls, st, keys, known, head);
        for (uint32_t rest = found; rest; rest &= rest - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(rest);
            limit[i] = collect(&cands[i], head[i], version, 0, limit[i]);
            limited |= limit[i] != UINT64_MAX ? 1u << i : 0;
        }
        if (s + 1 == order->n)
            break;
        uint64_t next_rank = order->at[s + 1].min_rank; /* nothing further down ranks before */
        for (uint32_t rest = todo & limited; rest; rest &= rest - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(rest);
            if (limit[i] < next_rank)
                todo &= ~(1u << i);
        }
    }
}
