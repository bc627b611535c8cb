/* The MAC table; see mac.h. */
#include "mac.h"

#include "base/bits.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    uint64_t address; /* MAC and VLAN; 0 = free */
    uint64_t seen_ns;
    uint32_t port; /* 0 = forgotten */
    uint32_t pad;
};

struct table {
    uint64_t mask; /* entries - 1 */
    struct entry entry[];
};

struct oko_macs {
    struct table *table; /* atomic */
    struct oko_qsbr *qsbr;
    struct oko_hash_key hash;
    uint32_t n, max; /* addresses in the table */
    uint64_t next_sweep_ns;
    uint8_t lock; /* around n, next_sweep_ns and new entries */
};

static struct table *table_new(uint32_t max)
{
    uint64_t n = oko_pow2_at_least(2 * (uint64_t)max);
    struct table *table = calloc(1, sizeof *table + n * sizeof table->entry[0]);
    if (table)
        table->mask = n - 1;
    return table;
}

int oko_macs_new(uint32_t max, uint64_t secret, struct oko_qsbr *qsbr, struct oko_macs **out)
{
    struct oko_macs *macs = calloc(1, sizeof *macs);
    struct table *table = table_new(max);
    if (!macs || !table) {
        free(macs);
        free(table);
        return OKO_E_NOMEM;
    }
    macs->table = table;
    macs->qsbr = qsbr;
    macs->hash = oko_hash_key_from(secret);
    macs->max = max;
    *out = macs;
    return 0;
}

void oko_macs_free(struct oko_macs *macs)
{
    if (!macs)
        return;
    free(macs->table);
    free(macs);
}

/* 0 for the address 0, which no host has. */
static uint64_t address_of(const uint8_t *mac, uint16_t vlan)
{
    uint32_t low; /* in registers: a word assembled in memory and read at once would stall */
    uint16_t high;
    memcpy(&low, mac, 4);
    memcpy(&high, mac + 4, 2);
    uint64_t address = low | (uint64_t)high << 32;
    return address ? address | (uint64_t)vlan << 48 : 0;
}

/* The entry of this address, or the free one where it would be. */
static struct entry *probe(const struct oko_macs *macs, struct table *table, uint64_t address)
{
    uint64_t i = oko_hash_words(&macs->hash, &address, 1);
    for (;; i++) {
        struct entry *entry = &table->entry[i & table->mask];
        uint64_t there = OKO_LOAD_ACQUIRE(&entry->address);
        if (there == address || there == 0)
            return entry;
    }
}

static bool live(const struct entry *entry, uint64_t now_ns)
{
    uint64_t seen = OKO_LOAD(&entry->seen_ns);
    return OKO_LOAD(&entry->port) && (now_ns < seen || now_ns - seen < OKO_MAC_AGE);
}

/* A new table with only what is live. Under the lock. */
static void sweep(struct oko_macs *macs, uint64_t now_ns)
{
    if (now_ns < macs->next_sweep_ns)
        return;
    macs->next_sweep_ns = now_ns + 1000000000u;
    struct table *old = macs->table, *table = table_new(macs->max);
    if (!table)
        return;
    uint32_t n = 0;
    for (uint64_t i = 0; i <= old->mask; i++)
        if (old->entry[i].address && live(&old->entry[i], now_ns)) {
            *probe(macs, table, old->entry[i].address) = old->entry[i];
            n++;
        }
    if (n == macs->n || oko_qsbr_defer(macs->qsbr, free, old)) {
        free(table);
        return;
    }
    macs->n = n;
    OKO_STORE_RELEASE(&macs->table, table);
}

static void learn_new(struct oko_macs *macs, uint64_t address, uint32_t port, uint64_t now_ns)
{
    oko_spin_lock(&macs->lock);
    if (macs->n == macs->max)
        sweep(macs, now_ns);
    struct entry *entry = probe(macs, macs->table, address);
    if (entry->address || macs->n < macs->max) {
        OKO_STORE(&entry->port, port);
        OKO_STORE(&entry->seen_ns, now_ns);
        if (!entry->address) {
            OKO_STORE_RELEASE(&entry->address, address);
            macs->n++;
        }
    }
    oko_spin_unlock(&macs->lock);
}

void oko_macs_learn(struct oko_macs *macs, const uint8_t *mac, uint16_t vlan, uint32_t port,
                    uint64_t now_ns)
{
    uint64_t address = address_of(mac, vlan);
    if (!address)
        return;
    struct entry *entry = probe(macs, OKO_LOAD_ACQUIRE(&macs->table), address);
    if (!OKO_LOAD(&entry->address)) {
        learn_new(macs, address, port, now_ns);
        return;
    }
    if (OKO_LOAD(&entry->port) != port)
        OKO_STORE(&entry->port, port);
    if (OKO_LOAD(&entry->seen_ns) != now_ns)
        OKO_STORE(&entry->seen_ns, now_ns);
}

uint32_t oko_macs_find(const struct oko_macs *macs, const uint8_t *mac, uint16_t vlan,
                       uint64_t now_ns, uint64_t *until_ns)
{
    uint64_t address = address_of(mac, vlan);
    if (!address)
        return 0;
    const struct entry *entry = probe(macs, OKO_LOAD_ACQUIRE(&macs->table), address);
    if (!OKO_LOAD(&entry->address) || !live(entry, now_ns))
        return 0;
    *until_ns = OKO_LOAD(&entry->seen_ns) + OKO_MAC_AGE;
    return OKO_LOAD(&entry->port);
}

void oko_macs_forget(struct oko_macs *macs, uint32_t port)
{
    oko_spin_lock(&macs->lock);
    struct table *table = macs->table;
    for (uint64_t i = 0; i <= table->mask; i++)
        if (OKO_LOAD(&table->entry[i].port) == port)
            OKO_STORE(&table->entry[i].port, 0);
    oko_spin_unlock(&macs->lock);
}

uint32_t oko_macs_list(struct oko_macs *macs, uint64_t now_ns, struct oko_mac_info *out,
                       uint32_t max)
{
    uint32_t n = 0;
    oko_spin_lock(&macs->lock);
    struct table *table = macs->table;
    for (uint64_t i = 0; i <= table->mask; i++) {
        const struct entry *entry = &table->entry[i];
        uint64_t address = OKO_LOAD(&entry->address);
        if (!address || !live(entry, now_ns))
            continue;
        if (n < max) {
            out[n] = (struct oko_mac_info){.vlan = (uint16_t)(address >> 48),
                                           .port = OKO_LOAD(&entry->port),
                                           .seen_ns = OKO_LOAD(&entry->seen_ns)};
            memcpy(out[n].mac, &address, 6);
        }
        n++;
    }
    oko_spin_unlock(&macs->lock);
    return n;
}
