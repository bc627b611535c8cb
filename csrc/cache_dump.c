/* What the workers' caches hold, for people: whose key leads to which chain of decisions.
 *
 * A cache is its worker's own (cache.h), so the worker reads it out: a forwarding thread between
 * two bursts (oko_live_call), any other worker on the calling thread. A call looks at a bounded
 * number of places, so that a thread is held up for some ten microseconds at most, however large
 * the cache is.
 *
 * Shown is what would be used if its packet came now: entries of the table's present layout, at the
 * present version or spared by every change since (as oko_cache_find decides). The flows that they
 * name are there, because a worker that is online keeps them. */
#include "cache.h"
#include "live.h"
#include "pipeline.h"

#include <string.h>

enum { PLACES_PER_CALL = 16384 };

/* One call's work. */
struct reading {
    uint64_t *cursor;
    uint8_t *out;
    uint64_t size, used;
    bool too_small;
};

/* The table whose layout an entry has; OKO_N_TABLES: none. */
static uint32_t table_of(const struct oko_dp *dp, uint32_t layout)
{
    uint32_t table = 0;
    while (table < OKO_N_TABLES &&
           (uint32_t)OKO_LOAD_ACQUIRE(&dp->tables[table].layout)->id != layout)
        table++;
    return table;
}

/* Where a field lies in another one that comes before it: fields of protocols that exclude each
 * other, and registers taken together. */
static bool is_alias(uint32_t id)
{
    if (id >= OKO_FIELD_XREG0 && id <= OKO_FIELD_XXREG3)
        return true;
    for (uint32_t other = 0; other < id; other++)
        if (oko_field(other)->offset == oko_field(id)->offset &&
            (other < OKO_FIELD_XREG0 || other > OKO_FIELD_XXREG3))
            return true;
    return false;
}

/* The masked key as fields; returns how many. */
static uint32_t fields_of(const struct oko_layout *layout, const struct oko_key *key,
                          struct oko_match_field *fields)
{
    struct oko_key mask;
    uint32_t n = 0;
    memset(&mask, 0, sizeof mask);
    for (uint32_t i = 0; i < layout->n_words; i++)
        memcpy((uint8_t *)&mask + 8u * layout->word[i], &layout->mask[i], 8);
    for (uint32_t id = 0; id < OKO_N_FIELDS; id++) {
        const struct oko_field *field = oko_field(id);
        struct oko_match_field found = {.field = id};
        memcpy(found.value, (const uint8_t *)key + field->offset, field->size);
        memcpy(found.mask, (const uint8_t *)&mask + field->offset, field->size);
        bool looked_at = false;
        for (uint32_t i = 0; i < field->size; i++)
            looked_at |= found.mask[i] != 0;
        if (looked_at && !is_alias(id) && id != OKO_FIELD_CONJ_ID)
            fields[n++] = found;
    }
    return n;
}

static bool still_good(const struct oko_worker *w, const struct oko_cache_place *place,
                       uint32_t table, const struct oko_key *key)
{
    uint64_t now = w->view->version;
    return place->version == now || oko_log_spares(&w->dp->log, place->version, now, table, key);
}

/* Adds a record. False: there is no room for it. */
static bool put(struct reading *r, const struct oko_worker *w, const struct oko_cache_place *place)
{
    uint32_t table = table_of(w->dp, place->layout);
    if (table == OKO_N_TABLES)
        return true;
    const struct oko_layout *layout = OKO_LOAD_ACQUIRE(&w->dp->tables[table].layout);
    struct oko_match_field fields[OKO_N_FIELDS];
    struct oko_key key;
    memset(&key, 0, sizeof key);
    for (uint32_t i = 0; i < layout->n_words; i++)
        memcpy((uint8_t *)&key + 8u * layout->word[i], &place->words[i], 8);
    if (!still_good(w, place, table, &key))
        return true;
    const struct oko_cands *cands = &place->cands;
    struct oko_cache_entry entry = {.table = table,
                                    .n_match = fields_of(layout, &key, fields),
                                    .n_flows = cands->n,
                                    .more = cands->more};
    entry.size = (uint32_t)(sizeof entry + entry.n_match * sizeof fields[0] +
                            entry.n_flows * sizeof(struct oko_cache_flow));
    if (entry.size > r->size - r->used) {
        r->too_small = r->used == 0;
        return false;
    }
    uint8_t *at = r->out + r->used;
    memcpy(at, &entry, sizeof entry);
    at += sizeof entry;
    memcpy(at, fields, entry.n_match * sizeof fields[0]);
    at += entry.n_match * sizeof fields[0];
    for (uint32_t i = 0; i < cands->n; i++) {
        const struct oko_rule *rule = cands->rule[i];
        struct oko_cache_flow flow = {rule->id, rule->cookie, rule->priority, rule->filter_prog};
        memcpy(at + i * sizeof flow, &flow, sizeof flow);
    }
    r->used += entry.size;
    return true;
}

/* By the worker's own thread, online. */
static void read_some(struct oko_worker *w, void *arg)
{
    struct reading *r = arg;
    uint64_t n = w->cache ? oko_cache_n_places(w->cache) : 0, left = PLACES_PER_CALL;
    struct oko_cache_place place;
    oko_worker_look(w);
    for (; *r->cursor < n && left; ++*r->cursor, left--)
        if (oko_cache_look(w->cache, *r->cursor, &place) && !put(r, w, &place))
            return;
    if (*r->cursor >= n)
        *r->cursor = UINT64_MAX;
}

int64_t oko_dp_cache(struct oko_dp *dp, uint32_t worker, uint64_t *cursor, uint8_t *out,
                     uint64_t size)
{
    struct reading r = {cursor, out, size, 0, false};
    struct oko_worker *w = oko_dp_worker(dp, worker);
    if (!w)
        return OKO_E_INVAL;
    if (worker < oko_live_n_threads(dp->live)) {
        int rc = oko_live_call(dp->live, worker, read_some, &r);
        if (rc)
            return rc;
    } else {
        oko_worker_online(w);
        read_some(w, &r);
        oko_worker_offline(w);
    }
    return r.too_small ? OKO_E_LIMIT : (int64_t)r.used;
}
