/* Plays a sequence of bytes as operations on a map and on its naive twin, and compares everything.
 *
 * Used by test_map.c with random bytes and by the fuzz targets with libFuzzer's. The bytes choose
 * sizes, capacity, workers and hash secret, then operations of programs and of the control side, on
 * few keys, so that they meet. Value pointers that a worker's lookup returned are held until its
 * next quiescent point: an entry deleted meanwhile must keep its bytes. */
#ifndef OKO_MAP_DRIVE_H
#define OKO_MAP_DRIVE_H

#include "map_twin.h"

#include "bpf/map.h"
#include "bpf/prog.h"
#include "qsbr.h"

enum { N_HELD = 24, N_KEYS = 48, MAX_VALUE = 64 };

/* A value pointer that a worker's run still holds. */
struct held {
    uint8_t *pointer; /* NULL: none */
    uint32_t worker;
    bool deleted; /* its entry is; then these are its last bytes */
    uint8_t bytes[MAX_VALUE];
    uint8_t key[OKO_MAX_KEY_SIZE];
};

struct drive {
    const uint8_t *data;
    size_t left;
    struct oko_vm *vm;
    struct oko_map *map;
    struct twin *twin;
    struct held held[N_HELD];
    uint32_t next_held;
    uint32_t n_deleted; /* since all workers were quiescent: stay below the spare entries */
};

static inline uint8_t take_byte(struct drive *d)
{
    if (d->left == 0)
        return 0;
    d->left--;
    return *d->data++;
}

/* The bytes of key number n: full of sense for the type. */
static inline void make_key(const struct oko_map_spec *spec, uint32_t n, uint8_t *key)
{
    uint64_t state = n * 2654435761u + 1;
    if (spec->type == OKO_MAP_ARRAY || spec->type == OKO_MAP_WORKER_ARRAY) {
        uint64_t index = n % (spec->max_entries + 2);
        if (n == N_KEYS - 1)
            index = (uint64_t)1 << 32; /* with 4 bytes: index 0 */
        memcpy(key, &index, spec->key_size);
        return;
    }
    for (uint32_t i = 0; i < spec->key_size; i++)
        key[i] = (uint8_t)next_random(&state);
    if (spec->type == OKO_MAP_LPM_TRIE) {
        uint32_t bits = (spec->key_size - 4) * 8;
        uint32_t length = (uint32_t)(next_random(&state) % (bits + 1));
        if (n % 16 == 15)
            length = bits + (n == N_KEYS - 1); /* whole addresses, and one too long */
        memcpy(key, &length, 4);
        for (uint32_t i = 4; i < spec->key_size; i++)
            key[i] = (uint8_t)((key[i] & 1) * 0x80 | (key[i] & 2) >> 1); /* much in common */
    } else if (n % 3 != 0) {
        memset(key, 0, spec->key_size); /* differ in one byte only */
        key[n % spec->key_size] = (uint8_t)(n + 1);
    }
}

static inline void make_value(const struct oko_map_spec *spec, uint8_t seed, uint8_t *value)
{
    uint64_t state = seed;
    for (uint32_t i = 0; i < spec->value_size; i++)
        value[i] = (uint8_t)next_random(&state);
}

static inline int status_of_helper(const struct oko_map_spec *spec, int code, int if_minus4)
{
    if (code == 0)
        return 0;
    if (code == OKO_HELPER_INDEX)
        return spec->type == OKO_MAP_LPM_TRIE ? OKO_E_INVAL : OKO_E_NOTFOUND;
    CHECK(code == OKO_HELPER_FULL);
    return if_minus4;
}

/* ---------------------------------------------------------------- held pointers */

static inline void hold(struct drive *d, uint8_t *pointer, uint32_t worker, const uint8_t *key)
{
    struct held *h = &d->held[d->next_held++ % N_HELD];
    h->pointer = pointer;
    h->worker = worker;
    h->deleted = false;
    memcpy(h->key, key, d->twin->spec.key_size);
}

/* The entry of this twin goes: remember what its holders must go on seeing. */
static inline void freeze(void *arg, const struct twin_entry *e)
{
    struct drive *d = arg;
    d->n_deleted++;
    for (int i = 0; i < N_HELD; i++) {
        struct held *h = &d->held[i];
        if (h->pointer == NULL || h->deleted || !twin_same(d->twin, h->key, e->key))
            continue;
        h->deleted = true;
        memcpy(h->bytes,
               e->values + (d->twin->n_values == 1 ? 0 : h->worker) * d->twin->spec.value_size,
               d->twin->spec.value_size);
    }
}

static inline void check_held(struct drive *d)
{
    for (int i = 0; i < N_HELD; i++) {
        struct held *h = &d->held[i];
        if (h->pointer == NULL)
            continue;
        struct twin_entry *e = h->deleted ? NULL : twin_exact(d->twin, h->key);
        const uint8_t *expected = h->deleted ? h->bytes : twin_value(d->twin, e, h->worker);
        CHECK(memcmp(h->pointer, expected, d->twin->spec.value_size) == 0);
        CHECK(d->map->ops->contains(d->map, h->pointer, d->twin->spec.value_size,
                                    oko_vm_env(d->vm, h->worker)));
        CHECK(!d->map->ops->contains(d->map, h->pointer + 1, d->twin->spec.value_size,
                                     oko_vm_env(d->vm, h->worker)));
    }
}

static inline void quiesce(struct drive *d, uint32_t worker)
{
    for (int i = 0; i < N_HELD; i++)
        if (d->held[i].worker == worker)
            d->held[i].pointer = NULL;
    oko_qsbr_quiescent(oko_vm_qsbr(d->vm), worker);
}

static inline void quiesce_all(struct drive *d)
{
    for (uint32_t w = 0; w < d->twin->n_workers; w++)
        quiesce(d, w);
    d->n_deleted = 0;
}

/* ---------------------------------------------------------------- comparing the whole */

static inline void check_dump(struct drive *d, uint32_t chunk)
{
    uint32_t key_size, value_size;
    oko_map_dump_sizes(d->map, &key_size, &value_size);
    CHECK(key_size == d->twin->spec.key_size);
    CHECK(value_size == d->twin->spec.value_size * d->twin->n_values);
    uint8_t *out = malloc((size_t)chunk * (key_size + value_size));
    bool *seen = calloc(d->twin->spec.max_entries, sizeof(*seen));
    uint64_t cursor = 0;
    uint32_t total = 0;
    int64_t n;
    while ((n = oko_map_dump(d->map, &cursor, out, chunk)) > 0) {
        CHECK(n <= chunk);
        for (int64_t i = 0; i < n; i++) {
            const uint8_t *entry = out + (size_t)i * (key_size + value_size);
            struct twin_entry *e = twin_exact(d->twin, entry);
            CHECK(e != NULL && !seen[e - d->twin->at]);
            seen[e - d->twin->at] = true;
            CHECK(memcmp(entry + key_size, e->values, value_size) == 0);
            total++;
        }
    }
    CHECK(n == 0 && total == d->twin->n_entries);
    struct oko_map_info info;
    oko_map_info(d->map, &info);
    CHECK(info.n_entries == d->twin->n_entries);
    free(out);
    free(seen);
}

/* ---------------------------------------------------------------- operations */

static inline void step(struct drive *d)
{
    struct twin *t = d->twin;
    struct oko_map *map = d->map;
    uint8_t op = take_byte(d);
    uint32_t worker = op / 16 % t->n_workers;
    struct oko_env *env = oko_vm_env(d->vm, worker);
    uint8_t key[OKO_MAX_KEY_SIZE], value[MAX_VALUE], got[3 * MAX_VALUE];
    memset(key, 0xee, sizeof(key)); /* what follows a key is not part of it */
    make_key(&t->spec, take_byte(d) % N_KEYS, key);
    struct twin_entry *e = twin_exact(t, key);
    switch (op % 16) {
    case 0:
    case 1:
    case 2: { /* lookup, and sometimes a store through the pointer */
        struct twin_entry *found = twin_lookup(t, key);
        uint8_t *pointer = map->ops->lookup(map, key, env);
        CHECK((pointer != NULL) == (found != NULL));
        if (pointer == NULL)
            break;
        CHECK(memcmp(pointer, twin_value(t, found, worker), t->spec.value_size) == 0);
        hold(d, pointer, worker, found->key);
        if (op % 16 == 2) {
            uint32_t at = take_byte(d) % t->spec.value_size;
            uint8_t byte = take_byte(d);
            pointer[at] = twin_value(t, found, worker)[at] = byte;
        }
        break;
    }
    case 3:
    case 4:
    case 5:
    case 6: { /* a program's update */
        make_value(&t->spec, take_byte(d), value);
        int code = map->ops->update(map, key, value, env);
        int expected = twin_set(t, worker, key, value, OKO_ANY, freeze, d);
        CHECK(status_of_helper(&t->spec, code, OKO_E_FULL) == expected);
        break;
    }
    case 7:
    case 8:
    case 9: { /* a program's delete */
        if (map->ops->del == NULL) {
            CHECK(twin_is_array(t));
            break;
        }
        if (e != NULL)
            freeze(d, e);
        int code = map->ops->del(map, key, env);
        CHECK(status_of_helper(&t->spec, code, OKO_E_NOTFOUND) == twin_remove(t, key));
        break;
    }
    case 10: { /* the control side's get: for LPM the longest match */
        struct twin_entry *found = twin_find(t, key);
        int expected = found != NULL ? 0 : OKO_E_NOTFOUND;
        if (twin_is(t, OKO_MAP_LPM_TRIE) && twin_prefix_length(key) > (t->spec.key_size - 4) * 8)
            expected = OKO_E_INVAL;
        CHECK(oko_map_lookup(map, key, got) == expected);
        if (found != NULL)
            CHECK(memcmp(got, found->values, (size_t)t->spec.value_size * t->n_values) == 0);
        break;
    }
    case 11:
    case 12: { /* its set */
        uint32_t flags = take_byte(d) % 3;
        make_value(&t->spec, take_byte(d), value);
        if (d->n_deleted > 100)
            quiesce_all(d); /* it waits for workers when entries run out */
        int status = oko_map_update(map, key, value, flags);
        CHECK(status == twin_set(t, TWIN_ALL, key, value, flags, freeze, d));
        break;
    }
    case 13: /* its delete */
        if (e != NULL && !twin_is_array(t))
            freeze(d, e);
        CHECK(oko_map_delete(map, key) == twin_remove(t, key));
        break;
    case 14:
        quiesce(d, worker);
        break;
    case 15:
        if (take_byte(d) % 8 == 0) {
            quiesce_all(d);
            CHECK(oko_map_clear(map) == 0);
            twin_clear(t);
        }
        check_dump(d, 1 + op / 16);
        break;
    }
    if (d->n_deleted > 200)
        quiesce_all(d);
    check_held(d);
}

static inline void drive_keyed(struct drive *d, struct oko_map_spec *spec, uint32_t n_workers)
{
    d->twin = twin_new(spec, n_workers);
    for (uint32_t w = 0; w < n_workers; w++)
        oko_qsbr_online(oko_vm_qsbr(d->vm), w);
    while (d->left > 0)
        step(d);
    quiesce_all(d);
    check_dump(d, 5);
    for (uint32_t w = 0; w < n_workers; w++)
        oko_qsbr_offline(oko_vm_qsbr(d->vm), w);
    twin_free(d->twin);
}

/* Sketches: an estimate is never below the truth, nor above the number of adds. */
static inline void drive_sketch(struct drive *d, const struct oko_map_spec *spec,
                                uint32_t n_workers)
{
    struct truth *truth = calloc(1, sizeof(*truth));
    truth->item_size = spec->key_size != 0 ? spec->key_size : spec->value_size;
    struct oko_map_spec keyed = *spec;
    keyed.key_size = truth->item_size;
    while (d->left > 0) {
        uint8_t op = take_byte(d);
        struct oko_env *env = oko_vm_env(d->vm, op / 16 % n_workers);
        uint8_t item[OKO_MAX_KEY_SIZE];
        make_key(&keyed, take_byte(d) % N_KEYS, item);
        uint64_t *count = truth_of(truth, item);
        uint32_t control, program;
        switch (op % 8) {
        case 0:
        case 1:
        case 2:
            CHECK(d->map->ops->add(d->map, item, env) == 0);
            ++*count, truth->n_adds++;
            break;
        case 3:
            CHECK(oko_map_add(d->map, item) == 0);
            ++*count, truth->n_adds++;
            break;
        case 4:
        case 5:
        case 6:
            program = *(uint32_t *)d->map->ops->lookup(d->map, item, env);
            CHECK(oko_map_lookup(d->map, item, (uint8_t *)&control) == 0);
            CHECK(program == control);
            if (spec->type == OKO_MAP_COUNT_MIN)
                CHECK(program >= *count && program <= truth->n_adds);
            else
                CHECK(program <= 1 && program >= (*count > 0) && program <= truth->n_adds);
            break;
        case 7:
            if (op / 16 == 0) {
                CHECK(oko_map_clear(d->map) == 0);
                truth->n_items = 0;
                truth->n_adds = 0;
            }
            break;
        }
    }
    /* The merged counters of each row sum to the adds; a Bloom filter has no more bits than were
     * set. */
    uint64_t cursor = 0, sum = 0;
    uint8_t out[16];
    uint32_t key_size, value_size;
    oko_map_dump_sizes(d->map, &key_size, &value_size);
    CHECK(key_size + value_size <= sizeof(out));
    while (oko_map_dump(d->map, &cursor, out, 1) == 1) {
        uint64_t cell = 0;
        memcpy(&cell, out + key_size, value_size);
        sum += spec->type == OKO_MAP_COUNT_MIN ? cell : (uint64_t)__builtin_popcountll(cell);
    }
    if (spec->type == OKO_MAP_COUNT_MIN)
        CHECK(sum == truth->n_adds * spec->n_hashes);
    else
        CHECK(sum <= truth->n_adds * spec->n_hashes && (sum > 0) == (truth->n_adds > 0));
    free(truth);
}

/* spoil: does something to the map before it is used, or NULL. */
static inline void drive_map_with(uint32_t type, const uint8_t *data, size_t size,
                                  void (*spoil)(struct oko_map *map))
{
    struct drive d = {.data = data, .left = size};
    static const uint8_t value_sizes[] = {1, 4, 8, 12, 24, 33, 64};
    static const uint8_t key_sizes[] = {1, 4, 7, 8, 12, 13, 16, 24, 40};
    uint32_t n_workers = 1 + take_byte(&d) % 3;
    struct oko_vm_opts opts = {.n_workers = n_workers, .secret = 1u + take_byte(&d)};
    struct oko_map_spec spec = {.name = "m", .type = type};
    spec.max_entries = 1 + take_byte(&d) % 40;
    spec.value_size = value_sizes[take_byte(&d) % sizeof(value_sizes)];
    spec.key_size = key_sizes[take_byte(&d) % sizeof(key_sizes)];
    if (type == OKO_MAP_ARRAY || type == OKO_MAP_WORKER_ARRAY)
        spec.key_size = spec.key_size % 2 == 0 ? 4 : 8;
    else if (type == OKO_MAP_LPM_TRIE)
        spec.key_size += 4;
    if (oko_map_type_is_sketch(type)) {
        spec.n_hashes = 1 + spec.value_size % 7;
        if (spec.key_size % 2 == 0)
            spec.key_size = 0; /* then the item is value_size bytes */
        spec.max_entries += spec.max_entries * 16u;
    }
    struct oko_error error;
    CHECK(oko_vm_new(&opts, &d.vm) == 0);
    CHECK(oko_map_create(d.vm, &spec, &d.map, &error) == 0);
    if (spoil != NULL)
        spoil(d.map);
    if (oko_map_type_is_sketch(type))
        drive_sketch(&d, &spec, n_workers);
    else
        drive_keyed(&d, &spec, n_workers);
    oko_map_unref(d.map);
    oko_vm_free(d.vm);
}

static inline void drive_map(uint32_t type, const uint8_t *data, size_t size)
{
    drive_map_with(type, data, size, NULL);
}

#endif
