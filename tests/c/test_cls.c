/* The classifier against a plain list: random rules, masks, priorities, programs and versions, with
 * commits in between. The list is searched from the top; it knows nothing of subtables. */
#include "check.h"
#include "cls.h"
#include "sieve.h"

#ifdef __SANITIZE_THREAD__ /* one thread: nothing to find, and slow */
enum { ROUNDS = 40 };
#else
enum { ROUNDS = 400 };
#endif

enum { MAX_RULES = 150, MAX_MASKS = 12 };

struct naive {
    struct oko_rule *rule; /* the classifier's, for identity */
    struct oko_match match;
    uint32_t mask; /* index of its mask */
    bool unlinked;
};

static struct oko_qsbr *qsbr;
static struct oko_gc_queue gc;
static struct oko_hash_key hash;
static uint64_t next_layout, seed = 7, next_sequence;
static struct oko_key masks[MAX_MASKS];
static struct naive rules[MAX_RULES];
static uint32_t n_rules;

static uint32_t pick(uint32_t n)
{
    return (uint32_t)(next_random(&seed) % n);
}

/* Few distinct values per field, so that keys meet rules. */
static void random_key(struct oko_key *key)
{
    memset(key, 0, sizeof *key);
    key->in_port[3] = (uint8_t)pick(3);
    key->ipv4_src[3] = (uint8_t)pick(4);
    key->ipv4_dst[0] = (uint8_t)pick(4);
    key->tp_dst[1] = (uint8_t)pick(3);
    key->ipv6_src[15] = (uint8_t)pick(2);
    key->reg[15][2] = (uint8_t)pick(3);
}

static void random_mask(struct oko_key *mask)
{
    memset(mask, 0, sizeof *mask);
    if (pick(2))
        mask->in_port[3] = 0xff;
    if (pick(2))
        mask->ipv4_src[3] = (uint8_t)(pick(2) ? 0xff : 2);
    if (pick(2))
        mask->ipv4_dst[0] = 3;
    if (pick(3) == 0)
        mask->tp_dst[1] = (uint8_t)pick(4);
    if (pick(3) == 0)
        mask->ipv6_src[15] = 1;
    if (pick(4) == 0)
        mask->reg[15][2] = 0xff;
}

static void apply_mask(struct oko_key *key, const struct oko_key *mask)
{
    for (size_t i = 0; i < sizeof *key; i++)
        ((uint8_t *)key)[i] &= ((const uint8_t *)mask)[i];
}

static struct oko_rule *make_rule(const struct oko_match *match, uint32_t priority, uint32_t slot)
{
    struct oko_flow_spec spec = {.priority = (uint16_t)priority};
    struct oko_ops_facts facts = {0};
    struct oko_rule *rule;
    CHECK(oko_rule_new(&spec, match, &facts, slot, 1, NULL, &rule) == 0);
    rule->rank = oko_rank(priority, slot != 0, ++next_sequence);
    return rule;
}

static bool fits(const struct naive *naive, const struct oko_key *key)
{
    struct oko_key masked = *key;
    apply_mask(&masked, &naive->match.mask);
    return memcmp(&masked, &naive->match.key, sizeof masked) == 0;
}

/* The rules that fit, best first, up to the first without program. */
static uint32_t naive_lookup(const struct oko_key *key, uint64_t version, uint64_t after,
                             const struct oko_rule **out)
{
    uint32_t n = 0;
    for (;;) {
        const struct oko_rule *best = NULL;
        for (uint32_t i = 0; i < n_rules; i++) {
            const struct oko_rule *rule = rules[i].rule;
            if (rules[i].unlinked || !fits(&rules[i], key) || rule->rank <= after ||
                !(rule->add_version <= version && version < rule->remove_version))
                continue;
            if (!best || rule->rank < best->rank)
                best = rule;
        }
        if (!best)
            return n;
        out[n++] = best;
        after = best->rank;
        if (!best->slot)
            return n;
    }
}

/* All candidates, asking again while there may be more. */
static void compare(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                    struct oko_cands first)
{
    const struct oko_rule *want[MAX_RULES + 1];
    uint32_t n = naive_lookup(key, version, 0, want), at = 0;
    struct oko_cands cands = first;
    for (;;) {
        for (uint32_t i = 0; i < cands.n; i++, at++)
            CHECK(at < n && cands.rule[i] == want[at]);
        if (!cands.more)
            break;
        oko_cls_lookup_more(cls, key, version, &cands);
    }
    CHECK(at == n);
}

static void check_lookups(const struct oko_cls *cls, uint64_t version)
{
    struct oko_key keys[32];
    struct oko_cands cands[32];
    for (uint32_t i = 0; i < 32; i++)
        random_key(&keys[i]);
    uint32_t todo = (uint32_t)next_random(&seed);
    oko_cls_lookup_burst(cls, keys, todo, version, cands);
    for (uint32_t i = 0; i < 32; i++) {
        struct oko_cands single;
        oko_cls_lookup(cls, &keys[i], version, &single);
        compare(cls, &keys[i], version, single);
        if (todo >> i & 1)
            compare(cls, &keys[i], version, cands[i]);
    }
}

static void check_find(const struct oko_cls *cls, uint64_t version)
{
    const struct naive *naive = &rules[pick(n_rules)];
    struct oko_rule *found =
        oko_cls_find(cls, &naive->match, naive->rule->priority, naive->rule->slot, version);
    struct oko_rule *want = NULL;
    for (uint32_t i = 0; i < n_rules; i++) {
        struct oko_rule *rule = rules[i].rule;
        if (!rules[i].unlinked && rule->priority == naive->rule->priority &&
            rule->slot == naive->rule->slot && oko_rule_visible(rule, version) &&
            memcmp(&rules[i].match, &naive->match, sizeof naive->match) == 0)
            want = rule;
    }
    CHECK(found == want);
}

static int collect(struct oko_rule *rule, void *ctx)
{
    (void)rule;
    ++*(uint32_t *)ctx;
    return 0;
}

/* Rules at least as narrow, and rules of a priority that overlap. */
static void check_covering(const struct oko_cls *cls, uint64_t version)
{
    struct oko_match match;
    random_mask(&match.mask);
    random_key(&match.key);
    apply_mask(&match.key, &match.mask);
    uint32_t narrower = 0, found = 0, priority = pick(6);
    bool overlap = false;
    for (uint32_t i = 0; i < n_rules; i++) {
        if (rules[i].unlinked || !oko_rule_visible(rules[i].rule, version))
            continue;
        bool narrow = true, agree = true;
        for (size_t b = 0; b < sizeof match.key; b++) {
            uint8_t m = ((uint8_t *)&match.mask)[b], rm = ((uint8_t *)&rules[i].match.mask)[b];
            uint8_t difference = ((uint8_t *)&match.key)[b] ^ ((uint8_t *)&rules[i].match.key)[b];
            narrow &= !(m & ~rm) && !(difference & m);
            agree &= !(difference & m & rm);
        }
        narrower += narrow;
        overlap |= agree && rules[i].rule->priority == priority;
    }
    oko_cls_each(cls, &match, version, collect, &found);
    CHECK(found == narrower);
    CHECK(oko_cls_overlaps(cls, &match, priority, version) == overlap);
}

static void free_rule(struct oko_gc_queue *queue, struct oko_gc *item)
{
    (void)queue;
    oko_rule_free((struct oko_rule *)item);
}

static void unlink_rule(struct oko_cls *cls, struct naive *naive)
{
    oko_cls_unlink(cls, naive->rule);
    naive->unlinked = true;
    oko_gc_add(&gc, &naive->rule->gc, oko_qsbr_start(qsbr), free_rule);
}

static void drop_unlinked(void)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n_rules; i++)
        if (!rules[i].unlinked)
            rules[kept++] = rules[i];
    n_rules = kept;
}

static void insert_random(struct oko_cls *cls, uint64_t version)
{
    if (n_rules == MAX_RULES)
        return;
    struct naive *naive = &rules[n_rules];
    *naive = (struct naive){.mask = pick(MAX_MASKS)};
    naive->match.mask = masks[naive->mask];
    random_key(&naive->match.key);
    apply_mask(&naive->match.key, &naive->match.mask);
    uint32_t priority = pick(6), slot = pick(3) ? pick(3) : 0;
    for (uint32_t i = 0; i < n_rules; i++) /* one of each identity is visible at a time */
        if (rules[i].rule->priority == priority && rules[i].rule->slot == slot &&
            memcmp(&rules[i].match, &naive->match, sizeof naive->match) == 0 &&
            oko_rule_visible(rules[i].rule, version))
            return;
    naive->rule = make_rule(&naive->match, priority, slot);
    naive->rule->add_version = version;
    CHECK(oko_cls_insert(cls, naive->rule, &naive->match.mask) == 0);
    n_rules++;
}

static void test_random(uint32_t n_masks)
{
    struct oko_cls cls;
    CHECK(oko_cls_init(&cls, &gc, &hash, &next_layout) == 0);
    for (uint32_t i = 0; i < MAX_MASKS; i++)
        random_mask(&masks[i % n_masks]);
    for (uint32_t i = n_masks; i < MAX_MASKS; i++)
        masks[i] = masks[i % n_masks];
    n_rules = 0;
    uint64_t version = 1;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        /* a commit: some rules come, some go at the next version */
        bool growing = round / 100 % 2 == 0;
        for (uint32_t i = pick(growing ? 4 : 2); i; i--)
            insert_random(&cls, version + 1);
        for (uint32_t i = pick(growing ? 2 : 4); n_rules && i; i--) {
            struct naive *naive = &rules[pick(n_rules)];
            if (naive->rule->remove_version == OKO_NEVER)
                naive->rule->remove_version = version + 1;
        }
        check_lookups(&cls, version);     /* nothing of it shows yet */
        check_lookups(&cls, version + 1); /* all of it does */
        version++;
        if (n_rules) {
            check_find(&cls, version);
            check_covering(&cls, version);
        }
        for (uint32_t i = 0; i < n_rules; i++) /* later: what nobody can see goes */
            if (rules[i].rule->remove_version <= version && pick(3) == 0)
                unlink_rule(&cls, &rules[i]);
        drop_unlinked();
        oko_gc_poll(&gc);
        CHECK(cls.n_rules == n_rules);
    }
    for (uint32_t i = 0; i < n_rules; i++)
        unlink_rule(&cls, &rules[i]);
    CHECK(oko_cls_n_subtables(&cls) == 0);
    CHECK(cls.layout->n_words == 0);
    oko_gc_drain(&gc);
    oko_cls_destroy(&cls);
}

/* A table grows and shrinks without losing rules, and lookups stop early. */
static void test_big(void)
{
    enum { N = 20000 };
    struct oko_cls cls;
    struct oko_match match = {0};
    static struct oko_rule *big[N];
    CHECK(oko_cls_init(&cls, &gc, &hash, &next_layout) == 0);
    memset(match.mask.ipv4_src, 0xff, 4);
    for (uint32_t i = 0; i < N; i++) {
        memcpy(match.key.ipv4_src, &i, 4);
        big[i] = make_rule(&match, 1 + i % 7, 0);
        CHECK(oko_cls_insert(&cls, big[i], &match.mask) == 0);
        oko_gc_poll(&gc);
    }
    struct oko_cands cands;
    struct oko_key key = {0};
    for (uint32_t i = 0; i < N; i++) {
        memcpy(key.ipv4_src, &i, 4);
        oko_cls_lookup(&cls, &key, 1, &cands);
        CHECK(cands.n == 1 && cands.rule[0] == big[i] && !cands.more);
    }
    for (uint32_t i = 0; i < N; i += 2) {
        oko_cls_unlink(&cls, big[i]);
        oko_rule_free(big[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        memcpy(key.ipv4_src, &i, 4);
        oko_cls_lookup(&cls, &key, 1, &cands);
        CHECK(cands.n == i % 2);
    }
    for (uint32_t i = 1; i < N; i += 2) {
        oko_cls_unlink(&cls, big[i]);
        oko_rule_free(big[i]);
    }
    oko_gc_drain(&gc);
    oko_cls_destroy(&cls);
}

/* Hundreds of flows with filters fit one packet: the list comes in portions. */
static void test_long_chain(void)
{
    enum { N = 300 };
    struct oko_cls cls;
    struct oko_match match = {0};
    struct oko_rule *chain[N];
    CHECK(oko_cls_init(&cls, &gc, &hash, &next_layout) == 0);
    for (uint32_t i = 0; i < N; i++) {
        memset(&match, 0, sizeof match);
        match.mask.reg[i % 3][0] = 0xff; /* three subtables */
        chain[i] = make_rule(&match, 1000 - i, 1 + i % 9);
        CHECK(oko_cls_insert(&cls, chain[i], &match.mask) == 0);
    }
    struct oko_cands cands;
    struct oko_key key = {0};
    uint32_t at = 0;
    oko_cls_lookup(&cls, &key, 1, &cands);
    for (;;) {
        for (uint32_t i = 0; i < cands.n; i++)
            CHECK(cands.rule[i] == chain[at++]);
        if (!cands.more)
            break;
        oko_cls_lookup_more(&cls, &key, 1, &cands);
    }
    CHECK(at == N);
    for (uint32_t i = 0; i < N; i++) {
        oko_cls_unlink(&cls, chain[i]);
        oko_rule_free(chain[i]);
    }
    oko_gc_drain(&gc);
    oko_cls_destroy(&cls);
}

/* A sieve lets every key through that it was given, with vectors and without, hardly any other, and
 * nothing but the bits of its masks counts. */
static void test_sieve(void)
{
    enum { PLACES = 1 << 14, KEYS = 256 };
    static struct oko_key keys[KEYS], strangers[OKO_SIEVE_BURST];
    static struct oko_columns columns;
    static uint64_t bits[PLACES / 64];
    _Static_assert(OKO_KEY_WORDS >= 25, "five words, of five each");
    for (uint32_t n = 0; n <= 5; n++) {
        uint8_t word[5];
        uint64_t mask[5], salt[5], packed[5];
        struct oko_sieve_form form = {n, word, mask, salt};
        for (uint32_t i = 0; i < n; i++) {
            word[i] = (uint8_t)(5 * i + pick(5));
            mask[i] = next_random(&seed) | 0xff;
            salt[i] = next_random(&seed);
        }
        memset(bits, 0, sizeof bits);
        for (uint32_t k = 0; k < KEYS; k++) {
            for (uint32_t i = 0; i < OKO_KEY_WORDS; i++)
                ((uint64_t *)(void *)&keys[k])[i] = next_random(&seed);
            for (uint32_t i = 0; i < n; i++)
                packed[i] = oko_key_words(&keys[k])[word[i]] & mask[i];
            uint32_t place = oko_sieve_place(&form, packed, PLACES - 1);
            CHECK(place < PLACES);
            bits[place / 64] |= 1ull << place % 64;
            for (uint32_t i = 0; i < n; i++) /* what is masked out does not count */
                ((uint64_t *)(void *)&keys[k])[word[i]] ^= next_random(&seed) & ~mask[i];
        }
        uint32_t passed = 0, asked = 0;
        for (uint32_t k = 0; k < KEYS; k += OKO_SIEVE_BURST) {
            uint32_t todo = k ? (uint32_t)next_random(&seed) : UINT32_MAX;
            columns.have = 0;
            CHECK(oko_sieve(&form, &keys[k], todo, &columns, bits, PLACES - 1) == todo);
            CHECK(oko_sieve_plain(&form, &keys[k], todo, bits, PLACES - 1) == todo);
            for (uint32_t i = 0; i < OKO_SIEVE_BURST; i++)
                for (uint32_t w = 0; w < OKO_KEY_WORDS; w++)
                    ((uint64_t *)(void *)&strangers[i])[w] = next_random(&seed);
            columns.have = 0;
            uint32_t pass = oko_sieve(&form, strangers, todo, &columns, bits, PLACES - 1);
            CHECK(pass == oko_sieve_plain(&form, strangers, todo, bits, PLACES - 1));
            passed += (uint32_t)__builtin_popcount(pass);
            asked += (uint32_t)__builtin_popcount(todo);
        }
        CHECK(n == 0 ? passed == asked : passed < asked / 8); /* expected: 1 in 64 */
    }
}

/* The sieve of a subtable whose keys come and go is made anew before it lets everything through. */
static void test_clogged_sieve(void)
{
    struct oko_cls cls;
    CHECK(oko_cls_init(&cls, &gc, &hash, &next_layout) == 0);
    struct oko_match match = {0};
    memset(match.mask.ipv4_src, 0xff, 4);
    const struct oko_subtable *st = NULL;
    for (uint32_t i = 0; i < 2000; i++) {
        memcpy(match.key.ipv4_src, &i, 4);
        struct oko_rule *rule = make_rule(&match, 1, 0);
        CHECK(oko_cls_insert(&cls, rule, &match.mask) == 0);
        CHECK(st == NULL || rule->subtable == st);
        st = rule->subtable;
        CHECK(st->n_sown >= st->n_keys && st->n_sown <= 64); /* eleven keys have 64 slots */
        if (i >= 10) {
            struct oko_match old = match;
            uint32_t gone = i - 10;
            memcpy(old.key.ipv4_src, &gone, 4);
            struct oko_rule *found = oko_cls_find(&cls, &old, 1, 0, 1);
            CHECK(found);
            oko_cls_unlink(&cls, found);
            free_rule(&gc, &found->gc);
        }
    }
    for (uint32_t i = 1990; i < 2000; i++) {
        memcpy(match.key.ipv4_src, &i, 4);
        struct oko_rule *found = oko_cls_find(&cls, &match, 1, 0, 1);
        CHECK(found);
        oko_cls_unlink(&cls, found);
        free_rule(&gc, &found->gc);
    }
    oko_gc_drain(&gc);
    oko_cls_destroy(&cls);
}

int main(void)
{
    CHECK(oko_qsbr_new(1, &qsbr) == 0);
    gc = (struct oko_gc_queue){.qsbr = qsbr};
    hash = oko_hash_key_from(99);
    test_random(1);
    test_random(4);
    test_random(MAX_MASKS);
    test_big();
    test_long_chain();
    test_sieve();
    test_clogged_sieve();
    oko_qsbr_free(qsbr);
    printf("test_cls: ok\n");
    return 0;
}
