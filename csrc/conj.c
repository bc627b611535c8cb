/* Conjunctive matches; see conj.h. */
#include "conj.h"

#define ONE_PRIORITY (1ull << 48) /* ranks of each */

static uint64_t base_of(uint64_t rank)
{
    return rank & ~(ONE_PRIORITY - 1);
}

/* ---------------------------------------------------------------- what is complete */

/* The dimensions that are there of the conjunction with the lowest id of at least `least`. */
struct tally {
    uint64_t least, id; /* id UINT64_MAX: there is none */
    uint64_t seen;
    uint32_t n;
};

static uint64_t count_dimensions(const struct oko_rule *rule, uint64_t limit, void *ctx)
{
    struct tally *tally = ctx;
    for (uint32_t at = 8; at < rule->ops_len; at += oko_op(rule->ops + at)->len) { /* in APPLY */
        const struct oko_op_head *op = oko_op(rule->ops + at);
        uint16_t dimension[2];
        if (op->op != OKO_OP_CONJUNCTION || op->arg < tally->least || op->arg > tally->id)
            continue;
        memcpy(dimension, oko_op_payload(op), sizeof dimension);
        if (op->arg < tally->id)
            *tally = (struct tally){tally->least, op->arg, 0, dimension[1]};
        tally->seen |= 1ull << dimension[0];
        tally->n = dimension[1] < tally->n ? dimension[1] : tally->n;
    }
    return limit;
}

static uint64_t note_rank(const struct oko_rule *rule, uint64_t limit, void *ctx)
{
    (void)limit;
    return *(uint64_t *)ctx = rule->rank;
}

/* A complete conjunction: what leads to a second lookup. */
struct stage {
    uint64_t base; /* rank where its priority starts */
    uint32_t id;
};

/* The first complete conjunction of a rank from `from` on; false: there is none. */
static bool find_stage(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                       uint64_t from, struct stage *stage)
{
    for (;;) {
        uint64_t rank = UINT64_MAX;
        oko_cls_fitting(cls->soft, key, version, from, UINT64_MAX, note_rank, &rank);
        if (rank == UINT64_MAX)
            return false;
        uint64_t base = base_of(rank), last = base + (ONE_PRIORITY - 1);
        for (uint64_t least = 0;;) {
            struct tally tally = {least, UINT64_MAX, 0, 0};
            oko_cls_fitting(cls->soft, key, version, base, last, count_dimensions, &tally);
            if (tally.id == UINT64_MAX)
                break;
            uint64_t all = UINT64_MAX >> (64 - tally.n);
            if ((tally.seen & all) == all) {
                *stage = (struct stage){base, (uint32_t)tally.id};
                return true;
            }
            least = tally.id + 1;
        }
        if (last == UINT64_MAX)
            return false;
        from = last + 1;
    }
}

static bool find_next_stage(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                            struct stage *stage)
{
    uint64_t last = stage->base + (ONE_PRIORITY - 1);
    return last != UINT64_MAX && find_stage(cls, key, version, last + 1, stage);
}

/* Was this id complete at a higher priority already? */
static bool is_repeated(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                        struct stage first, const struct stage *stage)
{
    while (first.base < stage->base) {
        if (first.id == stage->id)
            return true;
        if (!find_next_stage(cls, key, version, &first))
            break;
    }
    return false;
}

/* ---------------------------------------------------------------- the list */

/* An ordinary lookup, all flows that fit, one by one. */
struct search {
    const struct oko_cls *cls;
    const struct oko_key *key;
    uint64_t version;
    struct oko_cands cands;
    uint32_t at;
};

static void start(struct search *s, const struct oko_cls *cls, const struct oko_key *key,
                  uint64_t version)
{
    s->cls = cls;
    s->key = key;
    s->version = version;
    s->at = 0;
    oko_cls_lookup_hard(cls, key, version, &s->cands);
}

static const struct oko_rule *next_of(struct search *s)
{
    if (s->at == s->cands.n && s->at) {
        oko_cls_lookup_hard_more(s->cls, s->key, s->version, &s->cands);
        s->at = 0;
    }
    return s->at < s->cands.n ? s->cands.rule[s->at++] : NULL;
}

struct list {
    const struct oko_rule *after; /* NULL once it has come */
    struct oko_cands *cands;
};

/* Adds a flow; false: the list has ended. */
static bool put(struct list *list, const struct oko_rule *rule)
{
    struct oko_cands *cands = list->cands;
    if (list->after) {
        if (list->after == rule)
            list->after = NULL;
        return true;
    }
    cands->rule[cands->n++] = rule;
    cands->more = cands->n == OKO_CANDS && rule->slot;
    return rule->slot && cands->n < OKO_CANDS;
}

/* Does it say what conj_id must be? Then the second lookup does not find what the first did. */
static bool names_conj_id(const struct oko_rule *rule)
{
    const struct oko_subtable *st = rule->subtable;
    uint64_t bits = 0;
    for (uint32_t i = 0; i < st->n_words; i++)
        bits |= st->mask[i] & oko_conj_bits(st->word[i]);
    return bits != 0;
}

/* The list in the making. Flows that do not name conj_id are found by every lookup: those behind
 * the first conjunction come with its second lookup, and not again. */
struct making {
    const struct oko_cls *cls;
    const struct oko_key *key;
    uint64_t version;
    struct list list;
    struct search hard;
    const struct oko_rule *next; /* of hard, not put yet; NULL: all are */
    uint64_t known;              /* rank that flows which do not name conj_id are put up to */
    bool second;                 /* there has been a second lookup */
};

/* What the ordinary lookup finds up to this rank. False: the list has ended. */
static bool put_hard(struct making *m, uint64_t limit)
{
    for (; m->next && m->next->rank <= limit; m->next = next_of(&m->hard))
        if ((!m->second || names_conj_id(m->next)) && !put(&m->list, m->next))
            return false;
    return true;
}

/* What the packet finds with conj_id = id. False: the list has ended. */
static bool put_second(struct making *m, uint32_t id)
{
    struct oko_key with = *m->key;
    struct search again;
    if (id == 0 && !put_hard(m, UINT64_MAX)) /* it finds what the first did */
        return false;
    if (id == 0)
        m->known = UINT64_MAX;
    id = __builtin_bswap32(id);
    memcpy(with.conj_id, &id, sizeof id);
    start(&again, m->cls, &with, m->version);
    for (const struct oko_rule *rule; (rule = next_of(&again));)
        if ((oko_rule_conj_id(rule) || rule->rank > m->known) && !put(&m->list, rule))
            return false;
    m->second = true;
    m->known = UINT64_MAX;
    return true;
}

void oko_conj_lookup(const struct oko_cls *cls, const struct oko_key *key, uint64_t version,
                     const struct oko_rule *after, struct oko_cands *cands)
{
    struct making m = {.cls = cls, .key = key, .version = version, .list = {after, cands}};
    struct stage first, stage;
    start(&m.hard, cls, key, version);
    const struct oko_cands *hard = &m.hard.cands;
    const struct oko_rule *last = hard->n ? hard->rule[hard->n - 1] : NULL;
    bool found = find_stage(cls, key, version, 0, &first);
    if (!after && (!found || (last && !last->slot && last->rank < first.base + ONE_PRIORITY))) {
        *cands = *hard; /* as if there were no conjunction */
        return;
    }
    cands->n = cands->more = 0;
    m.next = next_of(&m.hard);
    for (stage = first; found; found = find_next_stage(cls, key, version, &stage)) {
        uint64_t limit = stage.base + (ONE_PRIORITY - 1);
        if (!put_hard(&m, limit))
            return;
        if (!m.second)
            m.known = limit;
        if (!is_repeated(cls, key, version, first, &stage) && !put_second(&m, stage.id))
            return;
    }
    put_hard(&m, UINT64_MAX);
}
