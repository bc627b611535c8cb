/* Remembered lookups; see cache.h. */
#include "cache.h"

#include "base/alloc.h"
#include "base/bits.h"

#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    WAYS = 8,           /* entries of a set */
    WORDS = 14,         /* of an entry: key, then candidates */
    WINDOW = 1024,      /* lookups after which it is judged whether they were worth it */
    MISS_COSTS = 25,    /* as much as asking the classifier about so many masks */
    PROBE_OFTEN = 16,   /* if not, one burst in so many asks, */
    FEW_HITS = 4,       /* and with fewer hits in a window than this, after each half as many, */
    PROBE_RARELY = 256, /* down to this */
    MAX_BURST = 32
};

struct entry {
    uint64_t version;
    uint32_t layout; /* struct oko_layout's id, its low half: see fits() */
    uint16_t n_words;
    uint8_t n_cands;
    uint8_t more;
    uint64_t word[WORDS];
};
_Static_assert(sizeof(struct entry) == 128, "a 5-tuple with three candidates is the first line");

struct set {
    uint32_t tag[WAYS]; /* of the key's hash; 0 = free */
};

struct oko_cache {
    struct set *sets;
    struct entry *entries; /* [n_sets * WAYS] */
    uint64_t n_sets, mask;
    uint32_t turn;       /* whose entry goes when a set is full */
    uint32_t asked, hit; /* in this window */
    int64_t gain;        /* in this window: masks not asked, less what misses cost */
    uint32_t every;      /* one burst in so many asks: more than 1 while asking does not pay */
    uint32_t skip;       /* bursts until the next that asks */
    /* of the last find, for put */
    const struct oko_layout *layout;
    uint64_t hash[MAX_BURST];
    uint64_t words[MAX_BURST][OKO_KEY_WORDS];
};

int oko_cache_new(uint64_t bytes, struct oko_cache **out)
{
    struct oko_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return OKO_E_NOMEM;
    uint64_t per_set = sizeof(struct set) + WAYS * sizeof(struct entry);
    cache->n_sets = cache->every = 1;
    while (2 * cache->n_sets * per_set <= bytes)
        cache->n_sets *= 2;
    cache->mask = cache->n_sets - 1;
    cache->sets = oko_alloc(cache->n_sets * sizeof(struct set));
    cache->entries = oko_alloc(cache->n_sets * WAYS * sizeof(struct entry));
    if (!cache->sets || !cache->entries) {
        oko_cache_free(cache);
        return OKO_E_NOMEM;
    }
    *out = cache;
    return 0;
}

void oko_cache_free(struct oko_cache *cache)
{
    if (!cache)
        return;
    oko_release(cache->sets, cache->n_sets * sizeof(struct set));
    oko_release(cache->entries, cache->n_sets * WAYS * sizeof(struct entry));
    free(cache);
}

bool oko_cache_wanted(struct oko_cache *cache)
{
    if (cache->skip) {
        cache->skip--;
        return false;
    }
    cache->skip = cache->every - 1;
    return true;
}

static void judge(struct oko_cache *cache, const struct oko_cls *cls, uint32_t asked, uint32_t hit)
{
    cache->asked += asked;
    cache->hit += hit;
    cache->gain += (int64_t)hit * oko_cls_n_subtables(cls) - (int64_t)(asked - hit) * MISS_COSTS;
    if (cache->asked < WINDOW)
        return;
    if (cache->gain >= 0)
        cache->every = 1;
    else if (cache->every == 1 || cache->hit >= FEW_HITS)
        cache->every = PROBE_OFTEN;
    else if (cache->every < PROBE_RARELY)
        cache->every *= 2;
    cache->skip = cache->every - 1;
    cache->asked = cache->hit = 0;
    cache->gain = 0;
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1; /* the set comes from the low half */
}

/* Bit per way whose tag is this one. */
static uint32_t ways_with(const struct set *set, uint32_t tag)
{
#ifdef __SSE2__
    const __m128i *tags = (const __m128i *)(const void *)set->tag;
    __m128i want = _mm_set1_epi32((int)tag);
    __m128i low = _mm_cmpeq_epi32(_mm_load_si128(tags), want);
    __m128i high = _mm_cmpeq_epi32(_mm_load_si128(tags + 1), want);
    return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(low)) |
           (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(high)) << 4;
#else
    uint32_t ways = 0;
    for (uint32_t i = 0; i < WAYS; i++)
        ways |= (uint32_t)(set->tag[i] == tag) << i;
    return ways;
#endif
}

/* Layout ids are never reused within 2^32 changes of a layout, long before which an entry's version
 * has fallen out of the change log. */
static bool fits(const struct entry *entry, const struct oko_layout *layout, const uint64_t *words)
{
    if (entry->layout != (uint32_t)layout->id)
        return false;
    uint64_t difference = 0;
    for (uint32_t i = 0; i < layout->n_words; i++)
        difference |= entry->word[i] ^ words[i];
    return difference == 0;
}

static void take(const struct entry *entry, struct oko_cands *cands)
{
    cands->n = entry->n_cands;
    cands->more = entry->more;
    for (uint32_t i = 0; i < entry->n_cands; i++)
        cands->rule[i] = (const struct oko_rule *)(uintptr_t)entry->word[entry->n_words + i];
}

uint32_t oko_cache_find(struct oko_cache *cache, const struct oko_cls *cls, uint32_t table,
                        const struct oko_log *log, uint64_t version, const struct oko_key *keys,
                        uint32_t todo, struct oko_cands *cands, struct oko_cache_counts *counts)
{
    const struct oko_layout *layout = OKO_LOAD_ACQUIRE(&cls->layout);
    struct entry *entry[MAX_BURST];
    uint32_t left = todo, n = (uint32_t)__builtin_popcount(todo);
    cache->layout = layout;
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        const uint64_t *key = oko_key_words(&keys[i]);
        for (uint32_t w = 0; w < layout->n_words; w++)
            cache->words[i][w] = key[layout->word[w]] & layout->mask[w];
        cache->hash[i] = oko_hash_words(cls->hash, cache->words[i], layout->n_words) ^
                         layout->id * 0x9e3779b97f4a7c15u; /* tables share the cache */
        __builtin_prefetch(&cache->sets[cache->hash[i] & cache->mask]);
    }
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        uint64_t set = cache->hash[i] & cache->mask;
        uint32_t ways = ways_with(&cache->sets[set], tag_of(cache->hash[i]));
        entry[i] = ways ? &cache->entries[set * WAYS + (uint32_t)__builtin_ctz(ways)] : NULL;
        if (entry[i])
            __builtin_prefetch(entry[i]);
    }
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        struct entry *e = entry[i];
        if (!e || !fits(e, layout, cache->words[i]))
            continue;
        if (e->version != version) {
            if (!oko_log_spares(log, e->version, version, table, &keys[i]))
                continue;
            e->version = version;
            counts->restamped++;
        }
        take(e, &cands[i]);
        left &= ~(1u << i);
    }
    uint32_t missed = (uint32_t)__builtin_popcount(left);
    counts->hits += n - missed;
    counts->misses += missed;
    judge(cache, cls, n, n - missed);
    return left;
}

/* The entry for a key that is not known: the one with its tag, a free one, or another's. */
static struct entry *make_room(struct oko_cache *cache, uint64_t hash)
{
    uint64_t index = hash & cache->mask;
    struct set *set = &cache->sets[index];
    uint32_t tag = tag_of(hash), ways = ways_with(set, tag);
    if (!ways)
        ways = ways_with(set, 0);
    uint32_t way = ways ? (uint32_t)__builtin_ctz(ways) : cache->turn++ % WAYS;
    set->tag[way] = tag;
    return &cache->entries[index * WAYS + way];
}

void oko_cache_put(struct oko_cache *cache, uint64_t version, uint32_t todo,
                   const struct oko_cands *cands)
{
    const struct oko_layout *layout = cache->layout;
    struct entry *entries[MAX_BURST];
    for (uint32_t rest = todo; rest; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        if (layout->n_words + cands[i].n > WORDS) {
            todo &= ~(1u << i);
            continue;
        }
        entries[i] = make_room(cache, cache->hash[i]);
        __builtin_prefetch(entries[i], 1);
    }
    for (; todo; todo &= todo - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(todo);
        struct entry *entry = entries[i];
        entry->version = version;
        entry->layout = (uint32_t)layout->id;
        entry->n_words = (uint16_t)layout->n_words;
        entry->n_cands = (uint8_t)cands[i].n;
        entry->more = cands[i].more != 0;
        memcpy(entry->word, cache->words[i], layout->n_words * sizeof entry->word[0]);
        for (uint32_t c = 0; c < cands[i].n; c++)
            entry->word[layout->n_words + c] = (uintptr_t)cands[i].rule[c];
    }
}

uint64_t oko_cache_n_places(const struct oko_cache *cache)
{
    return cache->n_sets * WAYS;
}

bool oko_cache_look(const struct oko_cache *cache, uint64_t place, struct oko_cache_place *out)
{
    const struct entry *entry = &cache->entries[place];
    if (!cache->sets[place / WAYS].tag[place % WAYS])
        return false;
    out->version = entry->version;
    out->layout = entry->layout;
    out->words = entry->word;
    take(entry, &out->cands);
    return true;
}
