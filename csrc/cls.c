/* Tuple space search in place; see cls.h. The writer's half, and who is there; lookups of packets
 * are in cls_lookup.c. */
#include "base/bits.h"
#include "conj.h"
#include "slots.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_SLOTS = 8, MAX_DEAD_LAYOUT = 1024 };
/* Sieves pay as long as they fit beside others into the first-level cache. */
enum { MAX_SIEVE_SLOTS = 8192 };

/* ---------------------------------------------------------------- slots and chains */

/* Index of the slot that holds this key, or UINT64_MAX. */
static uint64_t find_slot(const struct oko_slots *slots, uint64_t hash, const uint64_t *words,
                          uint32_t n)
{
    for (uint64_t i = hash & slots->mask;; i = (i + 1) & slots->mask) {
        uint64_t slot = OKO_LOAD_ACQUIRE(&slots->slot[i]);
        if (slot == 0)
            return UINT64_MAX;
        if (slot != OKO_SLOT_DEAD && !((slot ^ hash) & ~OKO_SLOT_ADDRESS) &&
            oko_same_words(oko_slot_rule(slot)->key, words, n))
            return i;
    }
}

static struct oko_slots *slots_new(uint64_t n)
{
    size_t size = sizeof(struct oko_slots) + n * sizeof(uint64_t);
    size_t sieve = n <= MAX_SIEVE_SLOTS ? n * OKO_PLACES_PER_SLOT / 8 : 0;
    size += sieve;
    struct oko_slots *slots = aligned_alloc(64, (size + 63) / 64 * 64);
    if (slots) {
        memset(slots, 0, size);
        slots->mask = n - 1;
        slots->sieve = sieve ? slots->slot + n : NULL;
    }
    return slots;
}

static void put_slot(struct oko_slots *slots, uint64_t hash, uint64_t value)
{
    uint64_t i = hash & slots->mask;
    while (slots->slot[i] > OKO_SLOT_DEAD)
        i = (i + 1) & slots->mask;
    slots->slot[i] = value;
}

/* Before the key's rule can be seen. */
static void sow(struct oko_subtable *st, struct oko_slots *slots, const uint64_t *words)
{
    if (!slots->sieve)
        return;
    struct oko_sieve_form form = oko_subtable_form(st);
    uint32_t place = oko_sieve_place(&form, words, oko_slots_last_place(slots));
    uint64_t *bits = &slots->sieve[place / 64];
    OKO_STORE(bits, *bits | 1ull << place % 64);
    st->n_sown++;
}

/* Room for one more key at a load of at most a half, so that a miss ends soon; and a sieve that is
 * not clogged by keys that are gone. */
static int make_room(const struct oko_cls *cls, struct oko_subtable *st)
{
    struct oko_slots *old = st->slots;
    if (old && 2 * ((uint64_t)st->n_keys + st->n_dead + 1) <= old->mask + 1 &&
        st->n_sown <= old->mask)
        return 0;
    uint64_t n = oko_pow2_at_least(4 * ((uint64_t)st->n_keys + 1));
    struct oko_slots *slots = slots_new(n < MIN_SLOTS ? MIN_SLOTS : n);
    if (!slots)
        return OKO_E_NOMEM;
    st->n_sown = 0;
    for (uint64_t i = 0; old && i <= old->mask; i++)
        if (old->slot[i] > OKO_SLOT_DEAD) {
            const struct oko_rule *rule = oko_slot_rule(old->slot[i]);
            put_slot(slots, oko_cls_hash(cls, rule->key, st->n_words), old->slot[i]);
            sow(st, slots, rule->key);
        }
    st->n_dead = 0;
    OKO_STORE_RELEASE(&st->slots, slots);
    oko_gc_free(cls->gc, old);
    return 0;
}

/* ---------------------------------------------------------------- order and layout */

static int by_rank(const void *a, const void *b)
{
    const struct oko_subtable *x = *(struct oko_subtable *const *)a;
    const struct oko_subtable *y = *(struct oko_subtable *const *)b;
    return x->min_rank < y->min_rank ? -1 : x->min_rank > y->min_rank;
}

/* Publishes the order anew, with `added` and without `removed` (either may be NULL). */
static int reorder(struct oko_cls *cls, struct oko_subtable *added, struct oko_subtable *removed)
{
    struct oko_order *old = cls->order;
    uint32_t n = old->n + (added != NULL);
    struct oko_order *order = malloc(sizeof *order + n * sizeof order->at[0]);
    struct oko_subtable **list = malloc((n ? n : 1) * sizeof *list);
    if (!order || !list) {
        free(order);
        free(list);
        return OKO_E_NOMEM;
    }
    n = 0;
    for (uint32_t i = 0; i < old->n; i++)
        if (old->at[i].subtable != removed)
            list[n++] = old->at[i].subtable;
    if (added)
        list[n++] = added;
    qsort(list, n, sizeof *list, by_rank);
    order->n = n;
    for (uint32_t i = 0; i < n; i++) {
        order->at[i].min_rank = list[i]->min_rank;
        order->at[i].subtable = list[i];
    }
    free(list);
    OKO_STORE_RELEASE(&cls->order, order);
    oko_gc_free(cls->gc, old);
    return 0;
}

static int relayout(struct oko_cls *cls, const uint64_t masks[OKO_KEY_WORDS])
{
    struct oko_layout *layout = calloc(1, sizeof *layout);
    if (!layout)
        return OKO_E_NOMEM;
    layout->id = ++*cls->next_layout;
    for (uint32_t i = 0; i < OKO_KEY_WORDS; i++)
        if (masks[i]) {
            layout->word[layout->n_words] = (uint8_t)i;
            layout->mask[layout->n_words++] = masks[i];
        }
    struct oko_layout *old = cls->layout;
    OKO_STORE_RELEASE(&cls->layout, layout);
    oko_gc_free(cls->gc, old);
    cls->layout_age = 0;
    return 0;
}

static void add_masks(uint64_t masks[OKO_KEY_WORDS], uint32_t n, const uint8_t *word,
                      const uint64_t *mask)
{
    for (uint32_t i = 0; i < n; i++)
        masks[word[i]] |= mask[i];
}

/* The layout grows before the first rule that needs it can be seen. */
static int widen_layout(struct oko_cls *cls, const struct oko_subtable *st)
{
    uint64_t masks[OKO_KEY_WORDS] = {0}, before[OKO_KEY_WORDS];
    add_masks(masks, cls->layout->n_words, cls->layout->word, cls->layout->mask);
    memcpy(before, masks, sizeof before);
    add_masks(masks, st->n_words, st->word, st->mask);
    return memcmp(masks, before, sizeof before) == 0 ? 0 : relayout(cls, masks);
}

/* It shrinks late, because each new layout empties the caches for this table. */
static void narrow_layout(struct oko_cls *cls)
{
    if (cls->order->n != 0 && ++cls->layout_age < MAX_DEAD_LAYOUT)
        return;
    uint64_t masks[OKO_KEY_WORDS] = {0};
    for (uint32_t i = 0; i < cls->order->n; i++) {
        const struct oko_subtable *st = cls->order->at[i].subtable;
        add_masks(masks, st->n_words, st->word, st->mask);
    }
    if (cls->soft)
        add_masks(masks, cls->soft->layout->n_words, cls->soft->layout->word,
                  cls->soft->layout->mask);
    relayout(cls, masks); /* without memory: wider than need be */
}

/* ---------------------------------------------------------------- subtables */

static struct oko_subtable *find_subtable(const struct oko_order *order, const struct oko_key *mask)
{
    const uint64_t *words = oko_key_words(mask);
    uint64_t packed[OKO_KEY_WORDS];
    uint8_t word[OKO_KEY_WORDS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < OKO_KEY_WORDS; i++)
        if (words[i]) {
            packed[n] = words[i];
            word[n++] = (uint8_t)i;
        }
    for (uint32_t i = 0; i < order->n; i++) {
        struct oko_subtable *st = order->at[i].subtable;
        if (st->n_words == n && memcmp(st->word, word, n) == 0 &&
            memcmp(st->mask, packed, n * sizeof packed[0]) == 0)
            return st;
    }
    return NULL;
}

static void set_words(struct oko_subtable *st, const struct oko_key *mask)
{
    st->n_words = 0;
    for (uint32_t i = 0; i < OKO_KEY_WORDS; i++)
        if (oko_key_words(mask)[i]) {
            st->word[st->n_words] = (uint8_t)i;
            st->mask[st->n_words++] = oko_key_words(mask)[i];
        }
}

static struct oko_subtable *subtable_new(const struct oko_cls *cls, const struct oko_key *mask)
{
    struct oko_subtable *st = calloc(1, sizeof *st);
    if (!st)
        return NULL;
    st->min_rank = UINT64_MAX;
    uint64_t secret = cls->hash->s[0];
    set_words(st, mask);
    for (uint32_t i = 0; i < st->n_words; i++)
        st->salt[i] = oko_hash_splitmix(&secret);
    return st;
}

static uint64_t base_of(const struct oko_rule *rule)
{
    return oko_rank_base(rule->priority);
}

/* min_rank exact again, from all rules. */
static void recount_top(struct oko_subtable *st)
{
    st->min_rank = UINT64_MAX;
    st->n_top = st->n_gone = 0;
    for (uint64_t i = 0; i <= st->slots->mask; i++) {
        if (st->slots->slot[i] <= OKO_SLOT_DEAD)
            continue;
        for (struct oko_rule *rule = oko_slot_rule(st->slots->slot[i]); rule; rule = rule->next) {
            if (base_of(rule) < st->min_rank) {
                st->min_rank = base_of(rule);
                st->n_top = 0;
            }
            st->n_top += base_of(rule) == st->min_rank;
        }
    }
}

/* ---------------------------------------------------------------- insert, unlink */

static int insert(struct oko_cls *cls, struct oko_rule *rule, const struct oko_key *mask)
{
    struct oko_subtable *st = find_subtable(cls->order, mask);
    bool fresh = st == NULL;
    if (fresh && !(st = subtable_new(cls, mask)))
        return OKO_E_NOMEM;
    uint64_t old_rank = st->min_rank;
    int rc = make_room(cls, st);
    if (!rc && fresh)
        rc = widen_layout(cls, st);
    if (!rc && base_of(rule) < st->min_rank) {
        st->min_rank = base_of(rule);
        rc = reorder(cls, fresh ? st : NULL, NULL);
    }
    if (rc) {
        st->min_rank = old_rank;
        if (fresh) {
            free(st->slots);
            free(st);
        }
        return rc;
    }
    if (st->min_rank != old_rank)
        st->n_top = 0;
    st->n_top += base_of(rule) == st->min_rank;
    st->n_rules++;
    OKO_STORE(&cls->n_rules, cls->n_rules + 1);
    rule->subtable = st;

    uint64_t hash = oko_cls_hash(cls, rule->key, st->n_words);
    uint64_t at = find_slot(st->slots, hash, rule->key, st->n_words);
    if (at == UINT64_MAX) {
        uint64_t i = hash & st->slots->mask;
        while (st->slots->slot[i] > OKO_SLOT_DEAD)
            i = (i + 1) & st->slots->mask;
        st->n_dead -= st->slots->slot[i] == OKO_SLOT_DEAD;
        st->n_keys++;
        sow(st, st->slots, rule->key);
        OKO_STORE_RELEASE(&st->slots->slot[i], oko_slot_of(rule, hash));
        return 0;
    }
    struct oko_rule *before = NULL, *after = oko_slot_rule(st->slots->slot[at]);
    while (after && after->rank < rule->rank) {
        before = after;
        after = after->next;
    }
    OKO_STORE(&rule->next, after);
    if (before)
        OKO_STORE_RELEASE(&before->next, rule);
    else
        OKO_STORE_RELEASE(&st->slots->slot[at], oko_slot_of(rule, hash));
    return 0;
}

/* A flow with conjunction: beside the others, but what it looks at belongs to the table's layout.
 */
static int insert_soft(struct oko_cls *cls, struct oko_rule *rule, const struct oko_key *mask)
{
    struct oko_subtable like = {.n_words = 0};
    if (!cls->soft) {
        struct oko_cls *soft = calloc(1, sizeof *soft);
        if (!soft || oko_cls_init(soft, cls->gc, cls->hash, cls->next_layout)) {
            free(soft);
            return OKO_E_NOMEM;
        }
        OKO_STORE_RELEASE(&cls->soft, soft);
    }
    set_words(&like, mask);
    int rc = widen_layout(cls, &like);
    return rc ? rc : insert(cls->soft, rule, mask);
}

int oko_cls_insert(struct oko_cls *cls, struct oko_rule *rule, const struct oko_key *mask)
{
    return rule->kind & OKO_RULE_SOFT ? insert_soft(cls, rule, mask) : insert(cls, rule, mask);
}

/* Frees a slot: as if never taken when nobody probes past it, else dead. */
static void empty_slot(struct oko_subtable *st, uint64_t at)
{
    uint64_t *slot = st->slots->slot, mask = st->slots->mask;
    st->n_keys--;
    if (slot[(at + 1) & mask] != 0) {
        OKO_STORE_RELEASE(&slot[at], OKO_SLOT_DEAD);
        st->n_dead++;
        return;
    }
    OKO_STORE_RELEASE(&slot[at], 0);
    for (at = (at - 1) & mask; slot[at] == OKO_SLOT_DEAD; at = (at - 1) & mask) {
        OKO_STORE_RELEASE(&slot[at], 0);
        st->n_dead--;
    }
}

static void free_subtable(struct oko_gc_queue *queue, struct oko_gc *gc)
{
    (void)queue;
    struct oko_subtable *st = (struct oko_subtable *)gc;
    free(st->slots);
    free(st);
}

void oko_cls_unlink(struct oko_cls *cls, struct oko_rule *rule)
{
    if (OKO_LOAD(&rule->kind) & OKO_RULE_SOFT)
        cls = cls->soft;
    struct oko_subtable *st = rule->subtable;
    uint64_t hash = oko_cls_hash(cls, rule->key, st->n_words);
    uint64_t at = find_slot(st->slots, hash, rule->key, st->n_words);
    struct oko_rule *before = NULL, *here = oko_slot_rule(st->slots->slot[at]);
    while (here != rule) {
        before = here;
        here = here->next;
    }
    if (before)
        OKO_STORE_RELEASE(&before->next, rule->next);
    else if (rule->next)
        OKO_STORE_RELEASE(&st->slots->slot[at], oko_slot_of(rule->next, hash));
    else
        empty_slot(st, at);
    rule->subtable = NULL;
    st->n_rules--;
    st->n_gone++;
    OKO_STORE(&cls->n_rules, cls->n_rules - 1);
    st->n_top -= base_of(rule) == st->min_rank;
    if (st->n_rules == 0) {
        if (reorder(cls, NULL, st) == 0) { /* without memory it stays, empty */
            oko_gc_add(cls->gc, &st->gc, oko_qsbr_start(cls->gc->qsbr), free_subtable);
            narrow_layout(cls);
        }
    } else if (st->n_top == 0 && st->n_gone > st->n_rules / 2) {
        recount_top(st);
        reorder(cls, NULL, NULL); /* without memory: less early exit */
    }
}

int oko_cls_init(struct oko_cls *cls, struct oko_gc_queue *gc, const struct oko_hash_key *hash,
                 uint64_t *next_layout)
{
    *cls = (struct oko_cls){.gc = gc, .hash = hash, .next_layout = next_layout};
    cls->order = calloc(1, sizeof *cls->order);
    cls->layout = calloc(1, sizeof *cls->layout);
    if (!cls->order || !cls->layout) {
        oko_cls_destroy(cls);
        return OKO_E_NOMEM;
    }
    cls->layout->id = ++*next_layout;
    return 0;
}

void oko_cls_destroy(struct oko_cls *cls)
{
    for (uint32_t i = 0; cls->order && i < cls->order->n; i++)
        free_subtable(NULL, &cls->order->at[i].subtable->gc);
    free(cls->order);
    free(cls->layout);
    if (cls->soft)
        oko_cls_destroy(cls->soft);
    free(cls->soft);
    cls->order = NULL;
    cls->layout = NULL;
    cls->soft = NULL;
}

void oko_subtable_mask(const struct oko_subtable *st, struct oko_key *mask)
{
    uint64_t words[OKO_KEY_WORDS] = {0};
    add_masks(words, st->n_words, st->word, st->mask);
    memcpy(mask, words, sizeof *mask);
}

uint32_t oko_cls_n_subtables(const struct oko_cls *cls)
{
    const struct oko_cls *soft = OKO_LOAD_ACQUIRE(&cls->soft);
    uint32_t n = soft ? OKO_LOAD_ACQUIRE(&soft->order)->n : 0;
    return n + OKO_LOAD_ACQUIRE(&cls->order)->n;
}

uint32_t oko_rule_conj_id(const struct oko_rule *rule)
{
    const struct oko_subtable *st = rule->subtable;
    for (uint32_t i = 0; i < st->n_words; i++) {
        uint64_t bits = rule->key[i] & oko_conj_bits(st->word[i]);
        uint32_t id;
        if (!bits)
            continue;
        memcpy(&id, (const uint8_t *)&bits + offsetof(struct oko_key, conj_id) % 8, sizeof id);
        return __builtin_bswap32(id);
    }
    return 0;
}

/* ---------------------------------------------------------------- finding flows */

static struct oko_rule *find(const struct oko_cls *cls, const struct oko_match *match,
                             uint32_t priority, uint32_t slot, uint64_t version)
{
    const struct oko_subtable *st = find_subtable(OKO_LOAD_ACQUIRE(&cls->order), &match->mask);
    if (!st)
        return NULL;
    uint64_t words[OKO_KEY_WORDS];
    for (uint32_t i = 0; i < st->n_words; i++)
        words[i] = oko_key_words(&match->key)[st->word[i]];
    const struct oko_slots *slots = OKO_LOAD_ACQUIRE(&st->slots);
    uint64_t at = find_slot(slots, oko_cls_hash(cls, words, st->n_words), words, st->n_words);
    if (at == UINT64_MAX)
        return NULL;
    struct oko_rule *rule = oko_slot_rule(OKO_LOAD_ACQUIRE(&slots->slot[at]));
    /* Between the two loads the slot may have changed hands; then the key is another one. */
    if ((uintptr_t)rule <= OKO_SLOT_DEAD || !oko_same_words(rule->key, words, st->n_words))
        return NULL;
    for (; rule; rule = oko_rule_next(rule))
        if (rule->priority == priority && rule->slot == slot && oko_rule_visible(rule, version))
            return rule;
    return NULL;
}

struct oko_rule *oko_cls_find(const struct oko_cls *cls, const struct oko_match *match,
                              uint32_t priority, uint32_t slot, uint64_t version)
{
    const struct oko_cls *soft = OKO_LOAD_ACQUIRE(&cls->soft);
    struct oko_rule *rule = find(cls, match, priority, slot, version);
    return rule || !soft ? rule : find(soft, match, priority, slot, version);
}

/* Is every packet that the subtable's rules fit described at least as narrowly as by mask? */
static bool covers(const struct oko_key *mask, const struct oko_subtable *st)
{
    uint64_t words[OKO_KEY_WORDS] = {0};
    add_masks(words, st->n_words, st->word, st->mask);
    for (uint32_t i = 0; i < OKO_KEY_WORDS; i++)
        if (oko_key_words(mask)[i] & ~words[i])
            return false;
    return true;
}

/* Do rule and match agree in every bit that both look at? */
static bool agree(const struct oko_rule *rule, const struct oko_match *match)
{
    const struct oko_subtable *st = rule->subtable;
    for (uint32_t i = 0; i < st->n_words; i++) {
        uint32_t w = st->word[i];
        if ((rule->key[i] ^ oko_key_words(&match->key)[w]) & oko_key_words(&match->mask)[w] &
            st->mask[i])
            return false;
    }
    return true;
}

int oko_cls_each(const struct oko_cls *cls, const struct oko_match *match, uint64_t version,
                 int (*fn)(struct oko_rule *rule, void *ctx), void *ctx)
{
    const struct oko_order *order = cls->order;
    for (uint32_t s = 0; s < order->n; s++) {
        struct oko_subtable *st = order->at[s].subtable;
        if (!covers(&match->mask, st))
            continue;
        struct oko_slots *slots = st->slots;
        for (uint64_t i = 0; i <= slots->mask; i++) {
            if (slots->slot[i] <= OKO_SLOT_DEAD)
                continue;
            for (struct oko_rule *rule = oko_slot_rule(slots->slot[i]); rule; rule = rule->next) {
                if (!agree(rule, match) || !oko_rule_visible(rule, version))
                    continue;
                int rc = fn(rule, ctx);
                if (rc)
                    return rc;
            }
        }
    }
    return cls->soft ? oko_cls_each(cls->soft, match, version, fn, ctx) : 0;
}

bool oko_cls_overlaps(const struct oko_cls *cls, const struct oko_match *match, uint32_t priority,
                      uint64_t version)
{
    for (uint32_t s = 0; s < cls->order->n; s++) {
        const struct oko_subtable *st = cls->order->at[s].subtable;
        if (st->min_rank > oko_rank_base(priority))
            break; /* all of lower priority from here on */
        for (uint64_t i = 0; i <= st->slots->mask; i++) {
            if (st->slots->slot[i] <= OKO_SLOT_DEAD)
                continue;
            for (struct oko_rule *rule = oko_slot_rule(st->slots->slot[i]); rule; rule = rule->next)
                if (rule->priority == priority && oko_rule_visible(rule, version) &&
                    agree(rule, match))
                    return true;
        }
    }
    return cls->soft && oko_cls_overlaps(cls->soft, match, priority, version);
}
