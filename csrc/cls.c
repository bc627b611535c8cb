/* Tuple space search in place; see cls.h. The writer's half first, lookups at the end. */
#include "cls.h"

#include "base/bits.h"
#include "conj.h"
#include "sieve.h"

#include <stdlib.h>
#include <string.h>

/* A slot: 0 free, DEAD once taken, else a rule's address with the key's hash in the upper bits.
 * User space addresses have 47 bits on every platform we run on. */
enum { TAG_SHIFT = 48, MIN_SLOTS = 8, MAX_DEAD_LAYOUT = 1024 };
/* Sieves pay as long as they fit beside others into the first-level cache. */
enum { MAX_SIEVE_SLOTS = 8192, PLACES_PER_SLOT = 8 };
#define DEAD    1u
#define ADDRESS ((1ull << TAG_SHIFT) - 1)

struct oko_slots {
    struct oko_gc gc;
    uint64_t mask;   /* slots - 1 */
    uint64_t *sieve; /* behind the slots; NULL: none */
    uint64_t pad[3];
    uint64_t slot[];
};

struct oko_order {
    struct oko_gc gc;
    uint32_t n;
    struct {
        uint64_t min_rank;
        struct oko_subtable *subtable;
    } at[];
};

/* ---------------------------------------------------------------- slots and chains */

static struct oko_rule *rule_of(uint64_t slot)
{
    return (struct oko_rule *)(uintptr_t)(slot & ADDRESS);
}

static uint64_t slot_of(const struct oko_rule *rule, uint64_t hash)
{
    return (uintptr_t)rule | (hash & ~ADDRESS);
}

static struct oko_rule *next_of(const struct oko_rule *rule)
{
    return OKO_LOAD_ACQUIRE(&rule->next);
}

static bool same_words(const uint64_t *a, const uint64_t *b, uint32_t n)
{
    uint64_t difference = 0;
    for (uint32_t i = 0; i < n; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

static uint64_t hash_words(const struct oko_cls *cls, const uint64_t *words, uint32_t n)
{
    return oko_hash_words(cls->hash, words, n);
}

/* Index of the slot that holds this key, or UINT64_MAX. */
static uint64_t find_slot(const struct oko_slots *slots, uint64_t hash, const uint64_t *words,
                          uint32_t n)
{
    for (uint64_t i = hash & slots->mask;; i = (i + 1) & slots->mask) {
        uint64_t slot = OKO_LOAD_ACQUIRE(&slots->slot[i]);
        if (slot == 0)
            return UINT64_MAX;
        if (slot != DEAD && !((slot ^ hash) & ~ADDRESS) && same_words(rule_of(slot)->key, words, n))
            return i;
    }
}

static struct oko_slots *slots_new(uint64_t n)
{
    size_t size = sizeof(struct oko_slots) + n * sizeof(uint64_t);
    size_t sieve = n <= MAX_SIEVE_SLOTS ? n * PLACES_PER_SLOT / 8 : 0;
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
    while (slots->slot[i] > DEAD)
        i = (i + 1) & slots->mask;
    slots->slot[i] = value;
}

static struct oko_sieve_form form_of(const struct oko_subtable *st)
{
    return (struct oko_sieve_form){st->n_words, st->word, st->mask, st->salt};
}

static uint32_t last_place(const struct oko_slots *slots)
{
    return (uint32_t)(slots->mask + 1) * PLACES_PER_SLOT - 1;
}

/* Before the key's rule can be seen. */
static void sow(struct oko_subtable *st, struct oko_slots *slots, const uint64_t *words)
{
    if (!slots->sieve)
        return;
    struct oko_sieve_form form = form_of(st);
    uint32_t place = oko_sieve_place(&form, words, last_place(slots));
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
        if (old->slot[i] > DEAD) {
            const struct oko_rule *rule = rule_of(old->slot[i]);
            put_slot(slots, hash_words(cls, rule->key, st->n_words), old->slot[i]);
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
        if (st->slots->slot[i] <= DEAD)
            continue;
        for (struct oko_rule *rule = rule_of(st->slots->slot[i]); rule; rule = rule->next) {
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

    uint64_t hash = hash_words(cls, rule->key, st->n_words);
    uint64_t at = find_slot(st->slots, hash, rule->key, st->n_words);
    if (at == UINT64_MAX) {
        uint64_t i = hash & st->slots->mask;
        while (st->slots->slot[i] > DEAD)
            i = (i + 1) & st->slots->mask;
        st->n_dead -= st->slots->slot[i] == DEAD;
        st->n_keys++;
        sow(st, st->slots, rule->key);
        OKO_STORE_RELEASE(&st->slots->slot[i], slot_of(rule, hash));
        return 0;
    }
    struct oko_rule *before = NULL, *after = rule_of(st->slots->slot[at]);
    while (after && after->rank < rule->rank) {
        before = after;
        after = after->next;
    }
    OKO_STORE(&rule->next, after);
    if (before)
        OKO_STORE_RELEASE(&before->next, rule);
    else
        OKO_STORE_RELEASE(&st->slots->slot[at], slot_of(rule, hash));
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
        OKO_STORE_RELEASE(&slot[at], DEAD);
        st->n_dead++;
        return;
    }
    OKO_STORE_RELEASE(&slot[at], 0);
    for (at = (at - 1) & mask; slot[at] == DEAD; at = (at - 1) & mask) {
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
    uint64_t hash = hash_words(cls, rule->key, st->n_words);
    uint64_t at = find_slot(st->slots, hash, rule->key, st->n_words);
    struct oko_rule *before = NULL, *here = rule_of(st->slots->slot[at]);
    while (here != rule) {
        before = here;
        here = here->next;
    }
    if (before)
        OKO_STORE_RELEASE(&before->next, rule->next);
    else if (rule->next)
        OKO_STORE_RELEASE(&st->slots->slot[at], slot_of(rule->next, hash));
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
    uint64_t at = find_slot(slots, hash_words(cls, words, st->n_words), words, st->n_words);
    if (at == UINT64_MAX)
        return NULL;
    struct oko_rule *rule = rule_of(OKO_LOAD_ACQUIRE(&slots->slot[at]));
    /* Between the two loads the slot may have changed hands; then the key is another one. */
    if ((uintptr_t)rule <= DEAD || !same_words(rule->key, words, st->n_words))
        return NULL;
    for (; rule; rule = next_of(rule))
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
            if (slots->slot[i] <= DEAD)
                continue;
            for (struct oko_rule *rule = rule_of(slots->slot[i]); rule; rule = rule->next) {
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
            if (st->slots->slot[i] <= DEAD)
                continue;
            for (struct oko_rule *rule = rule_of(st->slots->slot[i]); rule; rule = rule->next)
                if (rule->priority == priority && oko_rule_visible(rule, version) &&
                    agree(rule, match))
                    return true;
        }
    }
    return cls->soft && oko_cls_overlaps(cls->soft, match, priority, version);
}

/* ---------------------------------------------------------------- lookups */

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
        if (!(rule = next_of(rule)))
            return UINT64_MAX;
    }
    for (; rule && rule->rank < limit; rule = next_of(rule)) {
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
        if (!((slot ^ hash) & ~ADDRESS) && slot != DEAD) {
            const struct oko_rule *rule = rule_of(slot);
            if (same_words(rule->key, words, n))
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
    return hash_words(cls, words, n);
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
            return next_of(before->rule[i]);
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
        for (; rule && rule->rank <= limit; rule = next_of(rule))
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
        __builtin_prefetch(&rule_of(slot)->rank);
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
    struct oko_sieve_form form = form_of(st);
    return oko_sieve(&form, keys, todo, columns, slots->sieve, last_place(slots));
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
