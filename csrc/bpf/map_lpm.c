/* LPM trie: the longest stored prefix of an address.
 *
 * A key is what the Linux kernel's trie takes: u32 prefix length in host order, then the address,
 * most significant bit first. A lookup's prefix length limits the match: 32 for a whole IPv4
 * address.
 *
 * Idea. A binary trie with path compression: a node stands for a prefix; its child 0 or 1 continues
 * it with that bit and is at least one bit longer. Where two prefixes part, a node without value
 * joins them, so there are at most 2 * max_entries - 1 nodes. All of them come from one
 * preallocated pool (map_pool.h).
 *
 * For addresses of at most 8 bytes a table of jumps, indexed by the first bits, spares lookups the
 * upper part of the way: a jump names the best entry shorter than that and the first node that is
 * not; or, where nothing is longer, just the entry of that very length. There are about four times
 * as many jumps as entries, 2^17 at most, so that most lookups touch a jump and one node. Real
 * tables of routes are not spread evenly: where an insert finds a long way below a jump, that jump
 * leads to a block of further ones instead, indexed by the next bits; blocks come from a pool of
 * their own, of one per 16 entries, and where that is empty the way stays long. A change writes the
 * jumps of its prefix anew, each once, so that a change of a prefix of n bits costs up to 2^(17 -
 * n) stores, and those of the blocks there.
 *
 * Thread-safety. Lookups take no lock: prefix, and the value's place, of a published node never
 * change; a writer, under the map's lock, changes one link at a time (release), each leaving a trie
 * that is right, and then the jumps; a node is retired after that. A node or block taken out keeps
 * its bytes until every worker has passed a quiescent point. Deleting an entry with two children
 * only takes its "real" mark off; adding it again makes a new node, so that a pointer to the old
 * value never sees the new one. An update of a present entry overwrites its value in place, word by
 * word. */
#include "../base/alloc.h"
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "map_pool.h"
#include "map_types.h"
#include "vm.h"

#include <stdlib.h>

/* Then the address, padded to 8 bytes, then the value. */
struct node {
    struct oko_pool_entry pool;
    uint32_t child[2]; /* links (map_pool.h); 0 = none. Atomic */
    uint32_t n_bits;   /* of the prefix */
    uint8_t real;      /* has a value: is an entry. Atomic */
    uint8_t unused[3];
    uint8_t address[];
};
_Static_assert(sizeof(struct node) % 8 == 0, "the value is 8-byte aligned");

/* Jumps for the next bits of an address, behind one jump. */
struct block {
    struct oko_pool_entry pool;
    uint64_t jumps[]; /* 2^block_bits */
};

struct lpm {
    struct oko_map map;
    uint32_t address_size;      /* bytes */
    uint32_t value_off;         /* of the value in its node */
    uint32_t jump_bits;         /* 0: no jumps */
    uint32_t block_bits;        /* those that a block adds */
    uint64_t *jumps;            /* 2^jump_bits, each atomic: link of the best entry of fewer bits |
                                 * link of the first node of at least as many << 32; or IN_BLOCK |
                                 * link of the block << 32 */
    _Alignas(64) uint32_t root; /* link; atomic */
    uint8_t lock;               /* of writers */
    uint32_t n_entries;         /* atomic */
    struct oko_pool pool;       /* of struct node */
    struct oko_pool blocks;     /* of struct block */
};

/* The lower half of a jump that leads to a block: links do not reach that far. */
#define IN_BLOCK UINT32_MAX

/* A key taken apart. */
struct prefix {
    uint32_t n_bits;
    const uint8_t *address;
};

static struct lpm *lpm_of(struct oko_map *map)
{
    return (struct lpm *)map;
}

static struct node *node_at(const struct lpm *lpm, uint32_t link)
{
    return oko_pool_at(&lpm->pool, link);
}

static struct block *block_at(const struct lpm *lpm, uint32_t link)
{
    return oko_pool_at(&lpm->blocks, link);
}

static uint64_t *value_of(const struct lpm *lpm, struct node *node)
{
    return (uint64_t *)((uint8_t *)node + lpm->value_off);
}

/* ---------------------------------------------------------------- life */

static uint32_t value_offset(const struct oko_map_spec *spec)
{
    return (uint32_t)(sizeof(struct node) + oko_round_up(spec->key_size - 4, 8));
}

static uint32_t node_size(const struct oko_map_spec *spec)
{
    return value_offset(spec) + (uint32_t)oko_round_up(spec->value_size, 8);
}

static uint32_t n_nodes(const struct oko_map_spec *spec, uint32_t n_workers)
{
    return oko_pool_n_entries(2 * spec->max_entries, n_workers);
}

/* About four times as many jumps as entries; none where there is little to gain. */
static uint32_t jump_bits_of(const struct oko_map_spec *spec)
{
    enum { MIN_ENTRIES = 16, MAX_BITS = 17 };
    uint32_t address_bits = (spec->key_size - 4) * 8, bits = 0;
    if (address_bits > 64 || spec->max_entries < MIN_ENTRIES)
        return 0;
    while (bits < MAX_BITS && bits < address_bits && (uint64_t)1 << bits < 4ull * spec->max_entries)
        bits++;
    return bits;
}

/* To bit 24 in large tables of IPv4, where most routes end. */
static uint32_t block_bits_of(const struct oko_map_spec *spec)
{
    enum { BITS = 7 };
    uint32_t rest = (spec->key_size - 4) * 8 - jump_bits_of(spec);
    return jump_bits_of(spec) == 0 ? 0 : rest < BITS ? rest : BITS;
}

static uint64_t jumps_size(const struct oko_map_spec *spec)
{
    uint32_t bits = jump_bits_of(spec);
    return bits == 0 ? 0 : sizeof(uint64_t) << bits;
}

static uint32_t n_blocks(const struct oko_map_spec *spec, uint32_t n_workers)
{
    enum { ENTRIES_PER_BLOCK = 16 };
    return block_bits_of(spec) == 0
               ? 0
               : spec->max_entries / ENTRIES_PER_BLOCK + n_workers; /* some may wait for reuse */
}

static uint32_t block_size(const struct oko_map_spec *spec)
{
    return (uint32_t)(sizeof(struct block) + (sizeof(uint64_t) << block_bits_of(spec)));
}

uint64_t oko_map_lpm_footprint(const struct oko_map_spec *spec, uint32_t n_workers)
{
    uint64_t nodes = oko_pool_size(n_nodes(spec, n_workers), node_size(spec));
    uint64_t blocks = oko_pool_size(n_blocks(spec, n_workers), block_size(spec));
    return oko_size_add(oko_size_add(nodes, blocks),
                        oko_size_add(jumps_size(spec), sizeof(struct lpm)));
}

static int lpm_create(struct oko_vm *vm, const struct oko_map_spec *spec, struct oko_map **map,
                      struct oko_error *error)
{
    struct lpm *lpm = oko_alloc(sizeof(*lpm));
    uint64_t *jumps = jumps_size(spec) != 0 ? oko_alloc(jumps_size(spec)) : NULL;
    if (lpm == NULL || (jumps == NULL && jumps_size(spec) != 0) ||
        oko_pool_init(&lpm->pool, vm->qsbr, n_nodes(spec, vm->n_workers), node_size(spec)) != 0 ||
        oko_pool_init(&lpm->blocks, vm->qsbr, n_blocks(spec, vm->n_workers), block_size(spec)) !=
            0) {
        if (lpm != NULL)
            oko_pool_destroy(&lpm->pool);
        oko_release(jumps, jumps_size(spec));
        oko_release(lpm, sizeof(*lpm));
        return oko_err(error, OKO_E_NOMEM, "map %.63s: out of memory", spec->name);
    }
    lpm->jump_bits = jump_bits_of(spec);
    lpm->block_bits = block_bits_of(spec);
    lpm->jumps = jumps;
    lpm->address_size = spec->key_size - 4;
    lpm->value_off = value_offset(spec);
    *map = &lpm->map;
    return 0;
}

static void lpm_destroy(struct oko_map *map)
{
    struct lpm *lpm = lpm_of(map);
    oko_pool_destroy(&lpm->pool);
    oko_pool_destroy(&lpm->blocks);
    oko_release(lpm->jumps, jumps_size(&map->spec));
    oko_release(lpm, sizeof(*lpm));
}

/* ---------------------------------------------------------------- prefixes */

/* False when the length is beyond the address. copy: room for the address, which may be in memory
 * that other threads write. */
static bool take_key(const struct lpm *lpm, const void *key, uint64_t *copy, struct prefix *prefix)
{
    prefix->n_bits = oko_shared_load32(key);
    prefix->address = (const uint8_t *)copy;
    if (prefix->n_bits > lpm->address_size * 8)
        return false;
    oko_words_put(copy, (const uint8_t *)key + 4, lpm->address_size);
    return true;
}

enum { ADDRESS_WORDS = 256 / 8 };

static uint32_t bit_of(const uint8_t *address, uint32_t index)
{
    return address[index / 8] >> (7 - index % 8) & 1;
}

/* How many leading bits a node and a prefix share; at most the shorter one's. */
static uint32_t shared_bits(const struct node *node, const struct prefix *prefix)
{
    uint32_t limit = node->n_bits < prefix->n_bits ? node->n_bits : prefix->n_bits;
    for (uint32_t bits = 0; bits < limit; bits += 64) { /* both are padded to whole words */
        uint64_t a, b;
        memcpy(&a, node->address + bits / 8, 8);
        memcpy(&b, prefix->address + bits / 8, 8);
        if (a != b) {
            uint32_t first = bits + (uint32_t)__builtin_clzll(__builtin_bswap64(a ^ b));
            return first < limit ? first : limit;
        }
    }
    return limit;
}

/* ---------------------------------------------------------------- lookup */

/* The address of a node or prefix as a number, when it is at most 8 bytes. */
static uint64_t number_of(const uint8_t *address)
{
    uint64_t word;
    memcpy(&word, address, 8);
    return __builtin_bswap64(word);
}

/* Of addresses of one word: the way down depends on nothing but each node's length and children. */
static struct node *longest_of_word(const struct lpm *lpm, uint64_t address, uint32_t limit)
{
    struct node *best = NULL;
    uint32_t link;
    if (lpm->jump_bits != 0 && limit >= lpm->jump_bits + lpm->block_bits) {
        uint64_t jump = OKO_LOAD_ACQUIRE(&lpm->jumps[address >> (64 - lpm->jump_bits)]);
        if ((uint32_t)jump == IN_BLOCK) {
            const struct block *block = block_at(lpm, (uint32_t)(jump >> 32));
            jump = OKO_LOAD_ACQUIRE(
                &block->jumps[address << lpm->jump_bits >> (64 - lpm->block_bits)]);
        }
        best = (uint32_t)jump != 0 ? node_at(lpm, (uint32_t)jump) : NULL;
        link = (uint32_t)(jump >> 32);
    } else {
        link = OKO_LOAD_ACQUIRE(&lpm->root);
    }
    while (link != 0) {
        struct node *node = node_at(lpm, link);
        uint32_t n_bits = node->n_bits;
        uint64_t differs = number_of(node->address) ^ address;
        if (n_bits > limit || (n_bits != 0 && differs >> (64 - n_bits) != 0))
            break;
        if (OKO_LOAD_ACQUIRE(&node->real))
            best = node;
        if (n_bits == limit)
            break;
        link = OKO_LOAD_ACQUIRE(&node->child[address << n_bits >> 63]);
    }
    return best;
}

static struct node *longest(const struct lpm *lpm, const struct prefix *prefix)
{
    if (lpm->address_size <= 8)
        return longest_of_word(lpm, number_of(prefix->address), prefix->n_bits);
    struct node *best = NULL;
    uint32_t link = OKO_LOAD_ACQUIRE(&lpm->root);
    while (link != 0) {
        struct node *node = node_at(lpm, link);
        if (shared_bits(node, prefix) < node->n_bits)
            break;
        if (OKO_LOAD_ACQUIRE(&node->real))
            best = node;
        if (node->n_bits == prefix->n_bits)
            break;
        link = OKO_LOAD_ACQUIRE(&node->child[bit_of(prefix->address, node->n_bits)]);
    }
    return best;
}

/* A function of its own, so that short addresses need no room for a long one. */
static __attribute__((noinline)) struct node *longest_of_key(const struct lpm *lpm, const void *key)
{
    uint64_t copy[ADDRESS_WORDS];
    struct prefix prefix;
    return take_key(lpm, key, copy, &prefix) ? longest(lpm, &prefix) : NULL;
}

static void *lpm_lookup(struct oko_map *map, const void *key, struct oko_env *env)
{
    (void)env;
    struct lpm *lpm = lpm_of(map);
    uint32_t size = lpm->address_size;
    struct node *node;
    if (size <= 8) {
        uint32_t n_bits = oko_shared_load32(key);
        if (n_bits > 8 * size)
            return NULL;
        uint64_t word = oko_word_part((const uint8_t *)key + 4, size);
        node = longest_of_word(lpm, __builtin_bswap64(word), n_bits);
    } else {
        node = longest_of_key(lpm, key);
    }
    return node != NULL ? value_of(lpm, node) : NULL;
}

/* ---------------------------------------------------------------- jumps */

/* Jumps that are written: all of the map's, those of a block, or a single one. */
struct row {
    uint64_t *jumps;
    uint32_t n_bits;              /* of the address, that index all of them */
    uint32_t mask;                /* of these, what indexes this row */
    const struct prefix *changed; /* look into blocks, for what is below this; NULL: write over */
};

static void fill_jumps(struct lpm *lpm, const struct row *row, uint32_t start, uint32_t n_bits,
                       uint32_t link, uint32_t best);

static struct row row_of_block(const struct lpm *lpm, struct block *block)
{
    return (struct row){block->jumps, lpm->jump_bits + lpm->block_bits,
                        ((uint32_t)1 << lpm->block_bits) - 1, NULL};
}

/* The first n_bits of an address, as the first index of a row that has those. */
static uint32_t index_of(uint64_t address, uint32_t n_bits, uint32_t row_bits)
{
    return n_bits == 0 ? 0 : (uint32_t)(address >> (64 - n_bits)) << (row_bits - n_bits);
}

/* The jumps of a block that has the place of one jump, as far as the changed prefix reaches. */
static void fill_block(struct lpm *lpm, struct block *block, const struct prefix *changed,
                       uint32_t at, uint32_t link, uint32_t best)
{
    struct row row = row_of_block(lpm, block);
    uint32_t start = at << lpm->block_bits, n_bits = lpm->jump_bits;
    if (changed->n_bits > n_bits) {
        n_bits = changed->n_bits < row.n_bits ? changed->n_bits : row.n_bits;
        start = index_of(number_of(changed->address), n_bits, row.n_bits);
    }
    fill_jumps(lpm, &row, start, n_bits, link, best);
}

static void set_jumps(struct lpm *lpm, const struct row *row, uint32_t from, uint32_t to,
                      uint32_t best, uint32_t next)
{
    for (; from < to; from++) {
        uint64_t *jump = &row->jumps[from & row->mask], old = OKO_LOAD(jump);
        if (row->changed != NULL && (uint32_t)old == IN_BLOCK)
            fill_block(lpm, block_at(lpm, (uint32_t)(old >> 32)), row->changed, from, next, best);
        else
            OKO_STORE_RELEASE(jump, best | (uint64_t)next << 32);
    }
}

/* Writes the jumps whose first n_bits are those of `start`, the first of them: link leads on from
 * what is known of them, best is the best entry on the way so far. Each is written once. */
static void fill_jumps(struct lpm *lpm, const struct row *row, uint32_t start, uint32_t n_bits,
                       uint32_t link, uint32_t best)
{
    uint32_t all = row->n_bits, end = start + (1u << (all - n_bits));
    if (link == 0) {
        set_jumps(lpm, row, start, end, best, 0);
        return;
    }
    struct node *node = node_at(lpm, link);
    uint32_t own = node->n_bits < all ? node->n_bits : all;
    uint32_t first = index_of(number_of(node->address), own, all);
    uint32_t last = first + (1u << (all - own));
    if (first >= end || last <= start) { /* elsewhere */
        set_jumps(lpm, row, start, end, best, 0);
        return;
    }
    if (own > n_bits) { /* one part of them */
        set_jumps(lpm, row, start, first, best, 0);
        set_jumps(lpm, row, last, end, best, 0);
        start = first;
        end = last;
    }
    if (node->n_bits >= all) {
        bool alone = node->n_bits == all && OKO_LOAD(&node->real) &&
                     (OKO_LOAD(&node->child[0]) | OKO_LOAD(&node->child[1])) == 0;
        set_jumps(lpm, row, start, end, alone ? link : best, alone ? 0 : link);
        return;
    }
    if (OKO_LOAD(&node->real))
        best = link;
    uint32_t child[2] = {OKO_LOAD(&node->child[0]), OKO_LOAD(&node->child[1])};
    if (own < n_bits) {
        fill_jumps(lpm, row, start, n_bits, child[start >> (all - own - 1) & 1], best);
        return;
    }
    uint32_t half = 1u << (all - own - 1);
    fill_jumps(lpm, row, start, own + 1, child[0], best);
    fill_jumps(lpm, row, start + half, own + 1, child[1], best);
}

/* After a change of the trie at this prefix. Nodes that it took out are retired only then. */
static void refresh_jumps(struct lpm *lpm, const struct prefix *prefix)
{
    uint32_t all = lpm->jump_bits;
    if (all == 0)
        return;
    struct row row = {lpm->jumps, all, ((uint32_t)1 << all) - 1, prefix};
    uint32_t n_bits = prefix->n_bits < all ? prefix->n_bits : all;
    uint32_t start = index_of(number_of(prefix->address), n_bits, all);
    fill_jumps(lpm, &row, start, n_bits, OKO_LOAD(&lpm->root), 0);
}

/* ---------------------------------------------------------------- blocks */

static uint32_t take_from(struct oko_pool *pool, uint32_t worker)
{
    uint32_t link = oko_pool_take(pool, worker, false);
    if (link == 0 && worker != OKO_POOL_NOBODY)
        link = oko_pool_take(pool, worker, true);
    return link;
}

/* The jump of a prefix that may have a block, or NULL. */
static uint64_t *jump_of(const struct lpm *lpm, const struct prefix *prefix)
{
    if (lpm->block_bits == 0 || prefix->n_bits <= lpm->jump_bits)
        return NULL;
    return &lpm->jumps[number_of(prefix->address) >> (64 - lpm->jump_bits)];
}

/* Nodes on the way to a prefix from this link on. */
static uint32_t length_of_way(const struct lpm *lpm, uint32_t link, const struct prefix *prefix)
{
    uint32_t length = 0;
    while (link != 0) {
        struct node *node = node_at(lpm, link);
        length++;
        if (node->n_bits >= prefix->n_bits || shared_bits(node, prefix) < node->n_bits)
            break;
        link = OKO_LOAD(&node->child[bit_of(prefix->address, node->n_bits)]);
    }
    return length;
}

/* After an insert: a block where the way has become long, if there is one left. */
static void shorten_way(struct lpm *lpm, const struct prefix *prefix, uint32_t worker)
{
    enum { LONG = 4 };
    uint64_t *jump = jump_of(lpm, prefix), old = jump != NULL ? OKO_LOAD(jump) : 0;
    if (jump == NULL || (uint32_t)old == IN_BLOCK)
        return;
    uint32_t next = (uint32_t)(old >> 32);
    uint32_t link = length_of_way(lpm, next, prefix) >= LONG ? take_from(&lpm->blocks, worker) : 0;
    if (link == 0)
        return;
    struct row row = row_of_block(lpm, block_at(lpm, link));
    uint32_t start = (uint32_t)(jump - lpm->jumps) << lpm->block_bits;
    fill_jumps(lpm, &row, start, lpm->jump_bits, next, (uint32_t)old);
    OKO_STORE_RELEASE(jump, IN_BLOCK | (uint64_t)link << 32);
}

/* Entries from this link on, as far as there are less than limit. */
static uint32_t count_entries(const struct lpm *lpm, uint32_t link, uint32_t limit)
{
    if (link == 0 || limit == 0)
        return 0;
    struct node *node = node_at(lpm, link);
    uint32_t n = OKO_LOAD(&node->real);
    n += count_entries(lpm, OKO_LOAD(&node->child[0]), limit - n);
    return n + count_entries(lpm, OKO_LOAD(&node->child[1]), limit - n);
}

/* After a delete: a block that has hardly anything left goes. */
static void drop_block(struct lpm *lpm, const struct prefix *prefix, uint32_t worker)
{
    enum { FEW = 3 };
    uint64_t *jump = jump_of(lpm, prefix), old = jump != NULL ? OKO_LOAD(jump) : 0, plain;
    if (jump == NULL || (uint32_t)old != IN_BLOCK)
        return;
    struct row row = {&plain, lpm->jump_bits, 0, NULL};
    fill_jumps(lpm, &row, (uint32_t)(jump - lpm->jumps), lpm->jump_bits, OKO_LOAD(&lpm->root), 0);
    if (count_entries(lpm, (uint32_t)(plain >> 32), FEW) >= FEW)
        return;
    OKO_STORE_RELEASE(jump, plain);
    oko_pool_retire(&lpm->blocks, (uint32_t)(old >> 32), worker);
}

/* ---------------------------------------------------------------- insert */

/* Where a prefix is or belongs: the link that leads there, and the node now behind it. */
struct position {
    uint32_t *from, *parent_from; /* parent_from: leads to the node that holds from; NULL at root */
    struct node *node;            /* NULL: none */
    uint32_t shared;              /* bits that the node shares with the prefix */
};

static struct position locate(struct lpm *lpm, const struct prefix *prefix)
{
    struct position p = {&lpm->root, NULL, NULL, 0};
    for (;;) {
        uint32_t link = OKO_LOAD(p.from);
        p.node = link != 0 ? node_at(lpm, link) : NULL;
        if (p.node == NULL)
            return p;
        p.shared = shared_bits(p.node, prefix);
        if (p.shared < p.node->n_bits || p.node->n_bits == prefix->n_bits)
            return p;
        p.parent_from = p.from;
        p.from = &p.node->child[bit_of(prefix->address, p.node->n_bits)];
    }
}

static bool is_exact(const struct position *p, const struct prefix *prefix)
{
    return p->node != NULL && p->node->n_bits == prefix->n_bits && p->shared == prefix->n_bits;
}

static struct node *init_node(struct lpm *lpm, uint32_t link, const struct prefix *prefix,
                              uint32_t n_bits, bool real)
{
    struct node *node = node_at(lpm, link);
    node->child[0] = node->child[1] = 0;
    node->n_bits = n_bits;
    OKO_STORE(&node->real, real);
    memcpy(node->address, prefix->address, oko_round_up(lpm->address_size, 8));
    return node;
}

/* Adds an absent prefix at p. OKO_E_BUSY: no node is reusable now. */
static int insert(struct lpm *lpm, const struct position *p, const struct prefix *prefix,
                  uint32_t worker, const void *value)
{
    bool exact = is_exact(p, prefix); /* a node without value */
    bool above = p->node != NULL && !exact && p->shared == prefix->n_bits;
    bool beside = p->node != NULL && !exact && !above; /* under a new node that joins them */
    uint32_t old = OKO_LOAD(p->from);
    uint32_t link = take_from(&lpm->pool, worker);
    uint32_t joint = beside && link != 0 ? take_from(&lpm->pool, worker) : 0;
    if (link == 0 || (beside && joint == 0)) {
        if (link != 0)
            oko_pool_give_back(&lpm->pool, link);
        return OKO_E_BUSY;
    }
    struct node *node = init_node(lpm, link, prefix, prefix->n_bits, true);
    oko_words_put(value_of(lpm, node), value, lpm->map.spec.value_size);
    if (exact) {
        node->child[0] = OKO_LOAD(&p->node->child[0]);
        node->child[1] = OKO_LOAD(&p->node->child[1]);
    } else if (above) {
        node->child[bit_of(p->node->address, prefix->n_bits)] = old;
    } else if (beside) {
        struct node *fork = init_node(lpm, joint, prefix, p->shared, false);
        uint32_t side = bit_of(prefix->address, p->shared);
        fork->child[side] = link;
        fork->child[1 - side] = old;
    }
    OKO_STORE_RELEASE(p->from, beside ? joint : link);
    refresh_jumps(lpm, prefix);
    shorten_way(lpm, prefix, worker);
    if (exact)
        oko_pool_retire(&lpm->pool, old, worker);
    OKO_STORE(&lpm->n_entries, lpm->n_entries + 1);
    return 0;
}

/* The lock is held. */
static int put(struct lpm *lpm, const struct prefix *prefix, uint32_t worker, const void *value,
               uint32_t flags)
{
    struct position p = locate(lpm, prefix);
    if (is_exact(&p, prefix) && p.node->real) {
        if (flags == OKO_NOEXIST)
            return OKO_E_EXISTS;
        oko_words_put(value_of(lpm, p.node), value, lpm->map.spec.value_size);
        return 0;
    }
    if (flags == OKO_EXIST)
        return OKO_E_NOTFOUND;
    if (lpm->n_entries >= lpm->map.spec.max_entries)
        return OKO_E_FULL;
    return insert(lpm, &p, prefix, worker, value);
}

static int lpm_update(struct oko_map *map, const void *key, const void *value, struct oko_env *env)
{
    struct lpm *lpm = lpm_of(map);
    uint64_t copy[ADDRESS_WORDS];
    struct prefix prefix;
    if (!take_key(lpm, key, copy, &prefix))
        return OKO_HELPER_INDEX;
    oko_spin_lock(&lpm->lock);
    int status = put(lpm, &prefix, env->worker, value, OKO_ANY);
    oko_spin_unlock(&lpm->lock);
    return status == 0 ? 0 : OKO_HELPER_FULL;
}

static int lpm_set(struct oko_map *map, const uint8_t *key, const uint8_t *value, uint32_t flags)
{
    struct lpm *lpm = lpm_of(map);
    uint64_t copy[ADDRESS_WORDS];
    struct prefix prefix;
    int status;
    if (!take_key(lpm, key, copy, &prefix))
        return OKO_E_INVAL;
    do {
        oko_spin_lock(&lpm->lock);
        status = put(lpm, &prefix, OKO_POOL_NOBODY, value, flags);
        oko_spin_unlock(&lpm->lock);
        if (status == OKO_E_BUSY)
            oko_qsbr_synchronize(lpm->pool.qsbr); /* then the retired nodes are free */
    } while (status == OKO_E_BUSY);
    return status;
}

/* ---------------------------------------------------------------- delete */

/* Takes the entry at p out of the trie. gone: links of the nodes that are no longer in it. */
static void unlink_node(struct lpm *lpm, const struct position *p, uint32_t gone[2])
{
    struct node *node = p->node;
    uint32_t link = OKO_LOAD(p->from);
    uint32_t left = OKO_LOAD(&node->child[0]), right = OKO_LOAD(&node->child[1]);
    OKO_STORE_RELEASE(&node->real, 0);
    OKO_STORE(&lpm->n_entries, lpm->n_entries - 1);
    if (left != 0 && right != 0)
        return; /* still joins its children */
    OKO_STORE_RELEASE(p->from, left != 0 ? left : right);
    gone[0] = link;
    if (left != 0 || right != 0 || p->parent_from == NULL)
        return;
    uint32_t above = OKO_LOAD(p->parent_from); /* it may have joined the entry to one other */
    struct node *parent = node_at(lpm, above);
    if (OKO_LOAD(&parent->real))
        return;
    left = OKO_LOAD(&parent->child[0]);
    right = OKO_LOAD(&parent->child[1]);
    OKO_STORE_RELEASE(p->parent_from, left != 0 ? left : right);
    gone[1] = above;
}

static void take_out(struct lpm *lpm, const struct position *p, uint32_t worker)
{
    struct prefix prefix = {p->node->n_bits, p->node->address};
    uint32_t gone[2] = {0, 0};
    unlink_node(lpm, p, gone);
    refresh_jumps(lpm, &prefix);
    drop_block(lpm, &prefix, worker);
    for (int i = 0; i < 2; i++)
        if (gone[i] != 0)
            oko_pool_retire(&lpm->pool, gone[i], worker);
}

static bool erase(struct lpm *lpm, const struct prefix *prefix, uint32_t worker)
{
    oko_spin_lock(&lpm->lock);
    struct position p = locate(lpm, prefix);
    bool present = is_exact(&p, prefix) && p.node->real;
    if (present)
        take_out(lpm, &p, worker);
    oko_spin_unlock(&lpm->lock);
    return present;
}

static int lpm_delete(struct oko_map *map, const void *key, struct oko_env *env)
{
    uint64_t copy[ADDRESS_WORDS];
    struct prefix prefix;
    if (!take_key(lpm_of(map), key, copy, &prefix))
        return OKO_HELPER_INDEX;
    return erase(lpm_of(map), &prefix, env->worker) ? 0 : OKO_HELPER_FULL;
}

static int lpm_remove(struct oko_map *map, const uint8_t *key)
{
    uint64_t copy[ADDRESS_WORDS];
    struct prefix prefix;
    if (!take_key(lpm_of(map), key, copy, &prefix))
        return OKO_E_INVAL;
    return erase(lpm_of(map), &prefix, OKO_POOL_NOBODY) ? 0 : OKO_E_NOTFOUND;
}

static int lpm_clear(struct oko_map *map)
{
    struct lpm *lpm = lpm_of(map);
    for (uint32_t link = 1; link <= OKO_LOAD(&lpm->pool.high); link++) {
        oko_spin_lock(&lpm->lock);
        struct node *node = node_at(lpm, link);
        if (OKO_LOAD(&node->real)) {
            struct prefix prefix = {node->n_bits, node->address};
            struct position p = locate(lpm, &prefix);
            take_out(lpm, &p, OKO_POOL_NOBODY);
        }
        oko_spin_unlock(&lpm->lock);
    }
    return 0;
}

/* ---------------------------------------------------------------- the control side's reads */

static int lpm_get(struct oko_map *map, const uint8_t *key, uint8_t *value)
{
    struct lpm *lpm = lpm_of(map);
    uint64_t copy[ADDRESS_WORDS];
    struct prefix prefix;
    if (!take_key(lpm, key, copy, &prefix))
        return OKO_E_INVAL;
    oko_spin_lock(&lpm->lock);
    struct node *node = longest(lpm, &prefix);
    if (node != NULL)
        oko_words_get(value, value_of(lpm, node), map->spec.value_size);
    oko_spin_unlock(&lpm->lock);
    return node != NULL ? 0 : OKO_E_NOTFOUND;
}

/* cursor: how many nodes of the pool were looked at. An entry stays in its node. */
static int64_t lpm_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max)
{
    struct lpm *lpm = lpm_of(map);
    int64_t n = 0;
    for (; n < max && *cursor < OKO_LOAD(&lpm->pool.high); (*cursor)++) {
        struct node *node = node_at(lpm, (uint32_t)*cursor + 1);
        oko_spin_lock(&lpm->lock); /* per entry, so that no worker waits for long */
        bool real = OKO_LOAD(&node->real) != 0;
        if (real) {
            memcpy(out, &node->n_bits, 4);
            memcpy(out + 4, node->address, lpm->address_size);
            oko_words_get(out + map->spec.key_size, value_of(lpm, node), map->spec.value_size);
        }
        oko_spin_unlock(&lpm->lock);
        if (real) {
            out += map->spec.key_size + map->spec.value_size;
            n++;
        }
    }
    return n;
}

static void lpm_info(struct oko_map *map, struct oko_map_info *info)
{
    info->n_entries = OKO_LOAD(&lpm_of(map)->n_entries);
}

static bool lpm_contains(const struct oko_map *map, const void *address, uint32_t width,
                         const struct oko_env *env)
{
    (void)env;
    const struct lpm *lpm = (const struct lpm *)map;
    uint64_t at = (uint64_t)address - (uint64_t)lpm->pool.entries;
    if (at >= oko_pool_size(lpm->pool.n_entries, lpm->pool.entry_size))
        return false;
    at %= lpm->pool.entry_size;
    return at >= lpm->value_off && at - lpm->value_off + width <= map->spec.value_size;
}

const struct oko_map_ops oko_map_lpm_ops = {
    .name = "LPM trie",
    .create = lpm_create,
    .destroy = lpm_destroy,
    .lookup = lpm_lookup,
    .update = lpm_update,
    .del = lpm_delete,
    .get = lpm_get,
    .set = lpm_set,
    .remove = lpm_remove,
    .clear = lpm_clear,
    .dump = lpm_dump,
    .info = lpm_info,
    .contains = lpm_contains,
};
