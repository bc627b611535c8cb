/* The change log; see view.h. */
#include "view.h"

static bool spares(const struct oko_changes *changes, uint32_t table, const uint64_t *key)
{
    const uint64_t *at = changes->data, *end = at + changes->n;
    while (at < end) {
        uint32_t in = (uint32_t)(at[0] >> 32), n = (uint32_t)at[0];
        bool fits = in == table;
        for (uint32_t i = 0; fits && i < n; i++)
            fits = ((key[at[1 + 3 * i]] ^ at[3 + 3 * i]) & at[2 + 3 * i]) == 0;
        if (fits)
            return false;
        at += 1 + 3 * n;
    }
    return true;
}

bool oko_log_spares(const struct oko_log *log, uint64_t from, uint64_t to, uint32_t table,
                    const struct oko_key *key)
{
    if (to - from > OKO_LOG || from > to)
        return false;
    for (uint64_t version = from + 1; version <= to; version++) {
        const struct oko_changes *changes = OKO_LOAD_ACQUIRE(&log->at[version % OKO_LOG]);
        if (!changes || changes->version != version || changes->all ||
            !spares(changes, table, oko_key_words(key)))
            return false;
    }
    return true;
}
