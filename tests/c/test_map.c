/* Each map against its naive twin on random operations; sizes, limits and quotas; what sketches
 * promise. */
#include "map_drive.h"

#include "bpf/map_hash.h"
#include "bpf/map_sketch.h"
#include "bpf/vm.h"

#include <sys/wait.h>
#include <time.h>

static const uint32_t all_types[] = {OKO_MAP_ARRAY,        OKO_MAP_BLOOM,      OKO_MAP_COUNT_MIN,
                                     OKO_MAP_HASH,         OKO_MAP_LRU_HASH,   OKO_MAP_LPM_TRIE,
                                     OKO_MAP_WORKER_ARRAY, OKO_MAP_WORKER_HASH};
enum { N_TYPES = sizeof(all_types) / sizeof(all_types[0]) };

static void test_twins(void)
{
    uint64_t state = 42;
    uint8_t bytes[3000];
    for (int round = 0; round < 400; round++)
        for (int i = 0; i < N_TYPES; i++) {
            size_t size = next_random(&state) % sizeof(bytes);
            for (size_t b = 0; b < size; b++)
                bytes[b] = (uint8_t)next_random(&state);
            drive_map(all_types[i], bytes, size);
        }
}

/* ---------------------------------------------------------------- broken maps */

/* A comparison that cannot fail is none: maps that are broken on purpose must be told from their
 * twins. */
static const struct oko_map_ops *real;
static struct oko_map_ops broken;

static int update_nothing(struct oko_map *map, const void *key, const void *value,
                          struct oko_env *env)
{
    (void)map, (void)key, (void)value, (void)env;
    return 0;
}

static int update_other_bytes(struct oko_map *map, const void *key, const void *value,
                              struct oko_env *env)
{
    uint8_t other[MAX_VALUE];
    memcpy(other, value, map->spec.value_size);
    other[map->spec.value_size - 1] ^= 1;
    return real->update(map, key, other, env);
}

static void *lookup_nothing(struct oko_map *map, const void *key, struct oko_env *env)
{
    (void)map, (void)key, (void)env;
    return NULL;
}

static int delete_nothing(struct oko_map *map, const void *key, struct oko_env *env)
{
    (void)env;
    uint8_t value[3 * MAX_VALUE];
    return real->get(map, key, value) == 0 ? 0 : OKO_HELPER_FULL;
}

static int set_whatever_flags(struct oko_map *map, const uint8_t *key, const uint8_t *value,
                              uint32_t flags)
{
    (void)flags;
    return real->set(map, key, value, OKO_ANY);
}

static int get_other_bytes(struct oko_map *map, const uint8_t *key, uint8_t *value)
{
    int status = real->get(map, key, value);
    value[0] ^= 0x80;
    return status;
}

static int64_t dump_nothing(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max)
{
    (void)map, (void)cursor, (void)out, (void)max;
    return 0;
}

static int clear_nothing(struct oko_map *map)
{
    (void)map;
    return 0;
}

static int add_nothing(struct oko_map *map, const void *item, struct oko_env *env)
{
    (void)map, (void)item, (void)env;
    return 0;
}

static int add_twice(struct oko_map *map, const void *item, struct oko_env *env)
{
    real->add(map, item, env);
    return real->add(map, item, env);
}

static void *lookup_one_more(struct oko_map *map, const void *item, struct oko_env *env)
{
    uint32_t *result = real->lookup(map, item, env);
    ++*result;
    return result;
}

static void spoil(struct oko_map *map)
{
    real = map->ops;
    struct oko_map_ops whole = *real;
    void **to = (void **)&whole, **from = (void **)&broken;
    for (size_t i = 0; i < sizeof(whole) / sizeof(void *); i++)
        if (from[i] != NULL && to[i] != NULL)
            to[i] = from[i];
    static struct oko_map_ops used;
    used = whole;
    map->ops = &used;
}

/* Does some run of operations show the difference? Each in a process of its own, as it ends one. */
static bool noticed(uint32_t type)
{
    uint64_t state = 7;
    uint8_t bytes[2000];
    for (int round = 0; round < 20; round++) {
        for (size_t b = 0; b < sizeof(bytes); b++)
            bytes[b] = (uint8_t)next_random(&state);
        fflush(NULL);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK(freopen("/dev/null", "w", stderr) != NULL);
            drive_map_with(type, bytes, sizeof(bytes), spoil);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            return true;
    }
    return false;
}

static void test_broken_maps(void)
{
    static const struct oko_map_ops keyed[] = {
        {.update = update_nothing},  {.update = update_other_bytes}, {.lookup = lookup_nothing},
        {.set = set_whatever_flags}, {.get = get_other_bytes},       {.dump = dump_nothing},
        {.clear = clear_nothing},    {.del = delete_nothing}};
    static const struct oko_map_ops sketch[] = {{.add = add_nothing},
                                                {.add = add_twice},
                                                {.lookup = lookup_one_more},
                                                {.get = get_other_bytes}};
    for (int i = 0; i < N_TYPES; i++) {
        uint32_t type = all_types[i];
        bool array = type == OKO_MAP_ARRAY || type == OKO_MAP_WORKER_ARRAY;
        bool sketchy = oko_map_type_is_sketch(type);
        size_t n = sketchy ? sizeof(sketch) / sizeof(sketch[0]) : sizeof(keyed) / sizeof(keyed[0]);
        for (size_t k = 0; k < n; k++) {
            broken = sketchy ? sketch[k] : keyed[k];
            if (array && broken.del != NULL)
                continue; /* nothing can be deleted */
            if (type == OKO_MAP_BLOOM && broken.add == add_twice)
                continue; /* makes no difference */
            if (!noticed(type)) {
                fprintf(stderr, "type %u: nobody noticed broken map %zu\n", type, k);
                exit(1);
            }
        }
    }
}

static struct oko_vm *new_vm(uint32_t n_workers, uint64_t max_bytes)
{
    struct oko_vm_opts opts = {.n_workers = n_workers, .max_map_bytes = max_bytes};
    struct oko_vm *vm;
    CHECK(oko_vm_new(&opts, &vm) == 0);
    return vm;
}

/* ---------------------------------------------------------------- specs and quota */

static void refuse(struct oko_map_spec spec, const char *word)
{
    struct oko_vm *vm = new_vm(1, 0);
    struct oko_map *map;
    struct oko_error error;
    int status = oko_map_create(vm, &spec, &map, &error);
    CHECK(status < 0 && map == NULL && error.code == status);
    CHECK(strstr(error.reason, word) != NULL);
    CHECK(error.hint[0] != 0);
    CHECK(vm->bytes == 0);
    oko_vm_free(vm);
}

static void test_specs(void)
{
    struct oko_map_spec good = {"m", OKO_MAP_HASH, 4, 4, 10, 0};
    struct oko_map_spec s;
    s = good, s.type = 0, refuse(s, "type 0");
    s = good, s.type = 9, refuse(s, "type 9");
    s = good, s.type = UINT32_MAX, refuse(s, "type");
    s = good, s.key_size = 0, refuse(s, "key_size");
    s = good, s.key_size = 513, refuse(s, "key_size");
    s = good, s.value_size = 0, refuse(s, "value_size");
    s = good, s.value_size = (1 << 20) + 1, refuse(s, "value_size");
    s = good, s.max_entries = 0, refuse(s, "max_entries");
    s = good, s.max_entries = UINT32_MAX, refuse(s, "max_entries");
    s = good, s.type = OKO_MAP_ARRAY, s.key_size = 2, refuse(s, "neither 4 nor 8");
    s = good, s.type = OKO_MAP_LPM_TRIE, refuse(s, "LPM");
    s = good, s.type = OKO_MAP_LPM_TRIE, s.key_size = 261, refuse(s, "LPM");
    s = good, s.type = OKO_MAP_BLOOM, refuse(s, "hash functions");
    s = good, s.type = OKO_MAP_BLOOM, s.n_hashes = 17, refuse(s, "hash functions");
    s = good, s.type = OKO_MAP_COUNT_MIN, s.n_hashes = 4, s.key_size = s.value_size = 0,
    refuse(s, "item");
    /* Products that wrap 32 and 64 bits are counted right, so the quota refuses them. */
    s = good, s.max_entries = 1 << 30, s.value_size = 1 << 20, refuse(s, "takes");
    s = good, s.type = OKO_MAP_ARRAY, s.max_entries = 1 << 30, s.value_size = 1 << 20,
    refuse(s, "takes");
    s = good, s.type = OKO_MAP_COUNT_MIN, s.max_entries = 1 << 30, s.n_hashes = 16,
    refuse(s, "takes");
    s = good, s.type = OKO_MAP_LPM_TRIE, s.key_size = 260, s.max_entries = 1 << 30,
    s.value_size = 1 << 20, refuse(s, "takes");
}

static void test_quota(void)
{
    struct oko_map_spec spec = {"table", OKO_MAP_ARRAY, 4, 8, 10000, 0};
    uint64_t one = oko_map_footprint(&spec, 1);
    CHECK(one >= 80000 && one < 82000);
    struct oko_vm *vm = new_vm(1, 2 * one + 10);
    struct oko_map *a, *b, *c;
    struct oko_error error;
    CHECK(oko_map_create(vm, &spec, &a, &error) == 0);
    CHECK(oko_map_create(vm, &spec, &b, &error) == 0);
    CHECK(oko_map_create(vm, &spec, &c, &error) == OKO_E_NOMEM && c == NULL);
    CHECK(strstr(error.reason, "table") != NULL && strstr(error.hint, "max_entries") != NULL);
    CHECK(a->memory == one && vm->bytes == 2 * one);
    oko_map_unref(a);
    CHECK(vm->bytes == one);
    CHECK(oko_map_create(vm, &spec, &c, &error) == 0);
    oko_map_unref(b);
    oko_map_unref(c);
    CHECK(vm->bytes == 0);
    oko_vm_free(vm);
}

/* ---------------------------------------------------------------- capacity */

/* Exactly max_entries fit, whatever the keys; the next is refused and changes nothing. */
static void test_capacity(void)
{
    for (uint32_t n = 1; n <= 3000; n = n * 3 + 1) {
        struct oko_vm *vm = new_vm(2, 0);
        struct oko_map_spec spec = {"m", OKO_MAP_HASH, 8, 8, n, 0};
        struct oko_map *map;
        CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
        for (uint64_t round = 0; round < 3; round++) {
            for (uint64_t i = 0; i < n; i++) {
                uint64_t key = i << 20 | round;
                CHECK(oko_map_update(map, (uint8_t *)&key, (uint8_t *)&i, OKO_NOEXIST) == 0);
            }
            uint64_t key = ~(uint64_t)0, value;
            CHECK(oko_map_update(map, (uint8_t *)&key, (uint8_t *)&key, OKO_ANY) == OKO_E_FULL);
            CHECK(map->ops->update(map, &key, &key, oko_vm_env(vm, 0)) == OKO_HELPER_FULL);
            CHECK(oko_map_lookup(map, (uint8_t *)&key, (uint8_t *)&value) == OKO_E_NOTFOUND);
            struct oko_map_info info;
            oko_map_info(map, &info);
            CHECK(info.n_entries == n);
            for (uint64_t i = 0; i < n; i++) {
                key = i << 20 | round;
                CHECK(oko_map_lookup(map, (uint8_t *)&key, (uint8_t *)&value) == 0 && value == i);
                CHECK(oko_map_delete(map, (uint8_t *)&key) == 0);
            }
        }
        oko_map_unref(map);
        oko_vm_free(vm);
    }
}

/* Keys that all fall into one bucket: everything goes to the overflow chain, and works. */
static void test_one_bucket(void)
{
    struct oko_vm *vm = new_vm(1, 0);
    struct oko_map_spec spec = {"m", OKO_MAP_HASH, 8, 8, 64, 0};
    struct oko_map *map;
    CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
    struct oko_map_hash *table = (struct oko_map_hash *)map;
    uint64_t keys[64];
    uint32_t n = 0;
    for (uint64_t key = 0; n < 64; key++)
        if (oko_hash_index(table, oko_hash_words(&table->hash, &key, 1)) == 0)
            keys[n++] = key;
    for (uint32_t i = 0; i < 64; i++)
        CHECK(oko_map_update(map, (uint8_t *)&keys[i], (uint8_t *)&keys[i], OKO_NOEXIST) == 0);
    struct oko_map_info info;
    oko_map_info(map, &info);
    CHECK(info.n_entries == 64 && info.overflow == 60);
    for (uint32_t i = 0; i < 64; i++) {
        uint64_t *value = map->ops->lookup(map, &keys[i], oko_vm_env(vm, 0));
        CHECK(value != NULL && *value == keys[i]);
    }
    for (uint32_t i = 0; i < 64; i += 2)
        CHECK(oko_map_delete(map, (uint8_t *)&keys[i]) == 0);
    for (uint32_t i = 0; i < 64; i++)
        CHECK((map->ops->lookup(map, &keys[i], oko_vm_env(vm, 0)) != NULL) == (i % 2 == 1));
    oko_map_info(map, &info);
    CHECK(info.n_entries == 32 && info.overflow == 30);
    oko_map_unref(map);
    oko_vm_free(vm);
}

/* Keys as traffic makes them. */
static uint32_t pattern_key(int pattern, uint32_t i, uint8_t key[16])
{
    uint64_t state = i, *w = (uint64_t *)key;
    memset(key, 0, 16);
    switch (pattern) {
    case 0: /* small integers */
        w[0] = i;
        return 4;
    case 1: /* counted in the high half */
        w[0] = (uint64_t)i << 40;
        return 8;
    case 2: /* one server's clients: address and port in network order */
        w[0] = 0x0100000a | (uint64_t)(__builtin_bswap32(0x0a020000 + i / 100)) << 32;
        w[1] = 0x5000 | (uint64_t)__builtin_bswap16((uint16_t)(40000 + i % 100)) << 16 | 6ull << 32;
        return 16;
    case 3: /* the same, packed */
        w[0] = __builtin_bswap32(0x0a020000 + i / 100) | 0x0100000aull << 32;
        w[1] = __builtin_bswap16((uint16_t)(40000 + i % 100)) | 0x5000ull << 16 | 6ull << 32;
        return 13;
    case 4: /* both words change together */
        w[0] = w[1] = i;
        return 16;
    case 5: /* a scan: destination ports of one pair, then the next pair */
        w[0] = 0x0a0000020a000001ull + i / 1024;
        w[1] = i % 1024;
        return 12;
    default:
        w[0] = next_random(&state);
        w[1] = next_random(&state);
        return 16;
    }
}

/* At most 4.5 % of the entries lie outside their window at full load, whatever the keys' pattern:
 * about what keys thrown at random would give (3.7 %). */
static void test_spread(void)
{
    for (int pattern = 0; pattern < 7; pattern++)
        for (uint64_t secret = 1; secret < 6; secret++) {
            struct oko_vm_opts opts = {.n_workers = 1, .secret = secret * 0x1234567};
            struct oko_vm *vm;
            CHECK(oko_vm_new(&opts, &vm) == 0);
            uint64_t key[2];
            struct oko_map_spec spec = {"m", OKO_MAP_HASH, pattern_key(pattern, 0, (uint8_t *)key),
                                        8,   65536,        0};
            struct oko_map *map;
            CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
            for (uint32_t i = 0; i < 65536; i++) {
                uint64_t value = i;
                pattern_key(pattern, i, (uint8_t *)key);
                CHECK(oko_map_update(map, (uint8_t *)key, (uint8_t *)&value, OKO_NOEXIST) == 0);
            }
            struct oko_map_info info;
            oko_map_info(map, &info);
            CHECK(info.n_entries == 65536 && info.overflow < 65536 * 45 / 1000);
            oko_map_unref(map);
            oko_vm_free(vm);
        }
}

/* While one worker never becomes quiescent, deleted slots are not reused: a long series of
 * insertions and deletions by another worker runs into a full map in the end, never into a reused
 * slot; when the first goes offline there is room again. */
static void test_stuck_reader(void)
{
    struct oko_vm *vm = new_vm(2, 0);
    struct oko_qsbr *qsbr = oko_vm_qsbr(vm);
    struct oko_map_spec spec = {"m", OKO_MAP_HASH, 8, 8, 8, 0};
    struct oko_map *map;
    CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
    struct oko_env *reader = oko_vm_env(vm, 0), *writer = oko_vm_env(vm, 1);
    oko_qsbr_online(qsbr, 0);
    uint64_t key = 1, value = 0x1111;
    CHECK(map->ops->update(map, &key, &value, writer) == 0);
    uint64_t *seen = map->ops->lookup(map, &key, reader);
    CHECK(map->ops->del(map, &key, writer) == 0);
    uint32_t n = 0;
    for (key = 2; n < 100000; n++, key++) {
        oko_qsbr_online(qsbr, 1);
        value = 0x2222;
        int code = map->ops->update(map, &key, &value, writer);
        CHECK(code == 0 || code == OKO_HELPER_FULL);
        if (code != 0)
            break;
        CHECK(map->ops->del(map, &key, writer) == 0);
        oko_qsbr_offline(qsbr, 1);
        CHECK(*seen == 0x1111);
    }
    CHECK(n >= 300 && n < 100000);
    oko_qsbr_offline(qsbr, 0);
    CHECK(map->ops->update(map, &key, &value, writer) == 0);
    oko_map_unref(map);
    oko_vm_free(vm);
}

/* A run that deletes and inserts more often than there are spare slots takes its own again. */
static void test_own_reuse(void)
{
    static const uint32_t types[] = {OKO_MAP_HASH, OKO_MAP_LRU_HASH, OKO_MAP_WORKER_HASH,
                                     OKO_MAP_LPM_TRIE};
    for (int t = 0; t < 4; t++) {
        struct oko_vm *vm = new_vm(1, 0);
        struct oko_map_spec spec = {"m", types[t], 8, 8, 4, 0};
        struct oko_map *map;
        CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
        struct oko_env *env = oko_vm_env(vm, 0);
        oko_qsbr_online(oko_vm_qsbr(vm), 0);
        for (uint32_t i = 0; i < 20000; i++) {
            uint32_t key[2] = {32, i}; /* for LPM: a whole address */
            uint64_t value = i;
            CHECK(map->ops->update(map, key, &value, env) == 0);
            CHECK(*(uint64_t *)map->ops->lookup(map, key, env) == i);
            CHECK(map->ops->del(map, key, env) == 0);
        }
        oko_qsbr_offline(oko_vm_qsbr(vm), 0);
        oko_map_unref(map);
        oko_vm_free(vm);
    }
}

/* ---------------------------------------------------------------- LRU, LPM by example */

static void lru_use(struct oko_map *map, struct oko_vm *vm, const char *sequence)
{
    for (; *sequence != 0; sequence++) {
        uint32_t key = (uint8_t)(*sequence | 0x20), value = key;
        if (*sequence >= 'a')
            CHECK(map->ops->lookup(map, &key, oko_vm_env(vm, 0)) != NULL); /* lower case */
        else
            CHECK(map->ops->update(map, &key, &value, oko_vm_env(vm, 0)) == 0);
    }
}

static bool has_letter(struct oko_map *map, char letter)
{
    uint32_t key = (uint8_t)letter, value;
    return oko_map_lookup(map, (uint8_t *)&key, (uint8_t *)&value) == 0;
}

static void lru_expect(const char *sequence, const char *present, const char *absent)
{
    for (uint64_t secret = 1; secret < 20; secret++) { /* the order never depends on the hash */
        struct oko_vm_opts opts = {.n_workers = 1, .secret = secret};
        struct oko_vm *vm;
        CHECK(oko_vm_new(&opts, &vm) == 0);
        struct oko_map_spec spec = {"m", OKO_MAP_LRU_HASH, 4, 4, 3, 0};
        struct oko_map *map;
        CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
        lru_use(map, vm, sequence);
        for (const char *p = present; *p != 0; p++)
            CHECK(has_letter(map, *p));
        for (const char *p = absent; *p != 0; p++)
            CHECK(!has_letter(map, *p));
        oko_map_unref(map);
        oko_vm_free(vm);
    }
}

static void test_lru(void)
{
    lru_expect("ABC", "abc", "");
    lru_expect("ABCD", "bcd", "a");  /* the oldest goes */
    lru_expect("ABCaD", "acd", "b"); /* but not when it was used */
    lru_expect("ABCAD", "acd", "b"); /* an update is a use */
    lru_expect("ABCaDE", "ade", "bc");
    lru_expect("ABCabcD", "bcd", "a"); /* all used: one round, then the oldest */
}

static void test_lpm(void)
{
    struct oko_vm *vm = new_vm(1, 0);
    struct oko_map_spec spec = {"routes", OKO_MAP_LPM_TRIE, 8, 4, 16, 0};
    struct oko_map *map;
    CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
    static const struct {
        uint32_t bits;
        uint8_t address[4];
        uint32_t value;
    } routes[] = {{0, {0, 0, 0, 0}, 1},   {8, {10, 0, 0, 0}, 2},  {16, {10, 1, 0, 0}, 3},
                  {24, {10, 1, 2, 0}, 4}, {32, {10, 1, 2, 3}, 5}, {25, {10, 1, 2, 128}, 6}},
      lookups[] = {{32, {192, 168, 0, 1}, 1}, {32, {10, 9, 9, 9}, 2}, {32, {10, 1, 9, 9}, 3},
                   {32, {10, 1, 2, 4}, 4},    {32, {10, 1, 2, 3}, 5}, {32, {10, 1, 2, 200}, 6},
                   {24, {10, 1, 2, 3}, 4},    {9, {10, 1, 2, 3}, 2},  {0, {10, 1, 2, 3}, 1}};
    uint8_t key[8];
    uint32_t value;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        memcpy(key, &routes[i], 8);
        CHECK(oko_map_update(map, key, (const uint8_t *)&routes[i].value, OKO_NOEXIST) == 0);
    }
    for (size_t i = 0; i < sizeof(lookups) / sizeof(lookups[0]); i++) {
        memcpy(key, &lookups[i], 8);
        CHECK(oko_map_lookup(map, key, (uint8_t *)&value) == 0 && value == lookups[i].value);
    }
    memcpy(key, &routes[2], 8); /* with 10.1/16 gone, its addresses belong to 10/8 */
    CHECK(oko_map_delete(map, key) == 0);
    memcpy(key, &lookups[2], 8);
    CHECK(oko_map_lookup(map, key, (uint8_t *)&value) == 0 && value == 2);
    key[0] = 33;
    CHECK(oko_map_lookup(map, key, (uint8_t *)&value) == OKO_E_INVAL);
    CHECK(map->ops->lookup(map, key, oko_vm_env(vm, 0)) == NULL);
    oko_map_unref(map);
    oko_vm_free(vm);
}

/* ---------------------------------------------------------------- sketches */

/* False positives near the theory: 10,000 items in 100,000 bits with 4 functions give
 * (1 - e^(-0.4))^4 = 1.2 %. */
/* Many prefixes of all lengths come and go; each lookup is compared with a search of all.
 * Capacities on both sides of every step of the table of jumps, addresses of 1, 2, 4, 7 and 8 bytes
 * and one too long for it. Dense ones have a few short prefixes, and the others below one jump or
 * two, so that blocks of jumps come and go, and not all that would like one get it. */
static void test_lpm_jumps(void)
{
    static const struct {
        uint32_t entries, address, dense; /* dense: bytes that are alike */
    } shapes[] = {{15, 4, 0},   {16, 4, 0},   {64, 4, 0},    {1000, 4, 0},   {20000, 4, 0},
                  {300, 1, 0},  {3000, 7, 0}, {3000, 8, 0},  {1000, 9, 0},   {200, 4, 1},
                  {1000, 4, 1}, {20, 4, 2},   {300, 4, 2},   {100000, 4, 2}, {200, 2, 1},
                  {3000, 8, 1}, {3000, 8, 2}, {100000, 4, 1}};
#ifdef OKO_SANITIZED
    enum { N = 200, OPS = 1500 };
#else
    enum { N = 200, OPS = 6000 };
#endif
    uint64_t state = 11;
    for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        struct oko_vm *vm = new_vm(1, 0);
        struct oko_map_spec spec = {"m", OKO_MAP_LPM_TRIE,  4 + shapes[s].address,
                                    4,   shapes[s].entries, 0};
        struct oko_map *map;
        CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
        struct oko_env *env = oko_vm_env(vm, 0);
        uint8_t keys[N][16];
        bool present[N] = {false};
        uint32_t n_present = 0, bits = 8 * shapes[s].address;
        for (int i = 0; i < N; i++) {
            uint32_t length = (uint32_t)(next_random(&state) % (bits + 1));
            memcpy(keys[i], &length, 4);
            for (int b = 4; b < 16; b++) /* often like the one before */
                keys[i][b] = i > 0 && next_random(&state) % 2 ? keys[i - 1][b]
                                                              : (uint8_t)next_random(&state);
            for (uint32_t b = 0; b < shapes[s].dense; b++)
                keys[i][4 + b] = (uint8_t)(b == 1 ? i % 3 : 77);
            if (shapes[s].dense != 0 && i % 16 != 0 && length < 8 * shapes[s].dense) {
                length += 8 * shapes[s].dense;
                memcpy(keys[i], &length, 4);
            }
            for (int k = 0; k < i; k++) /* none twice */
                if (memcmp(keys[i], keys[k], 4) == 0 &&
                    twin_bits_equal(keys[i] + 4, keys[k] + 4, length))
                    i--, k = N;
        }
        for (int op = 0; op < OPS; op++) {
            uint32_t i = (uint32_t)(next_random(&state) % N);
            if (present[i] ? op % 4 == 0 : op % 4 != 0) {
                int code = present[i] ? map->ops->del(map, keys[i], env)
                                      : map->ops->update(map, keys[i], &i, env);
                bool full = !present[i] && n_present == spec.max_entries;
                CHECK(code == (full ? OKO_HELPER_FULL : 0));
                n_present = full ? n_present : present[i] ? n_present - 1 : n_present + 1;
                present[i] = full ? false : !present[i];
            }
            uint8_t key[16];
            memcpy(key, keys[next_random(&state) % N], 16);
            for (int b = 4; b < 16; b++)
                key[b] ^= next_random(&state) % 8 == 0 ? (uint8_t)(next_random(&state) & 7) : 0;
            uint32_t length = op % 8 ? bits : (uint32_t)(next_random(&state) % (bits + 1));
            uint32_t best = UINT32_MAX, best_length = 0, at;
            memcpy(key, &length, 4);
            for (uint32_t k = 0; k < N; k++) {
                memcpy(&at, keys[k], 4);
                if (present[k] && at <= length && twin_bits_equal(keys[k] + 4, key + 4, at) &&
                    (best == UINT32_MAX || at > best_length)) {
                    best = k;
                    best_length = at;
                }
            }
            const uint32_t *value = map->ops->lookup(map, key, env);
            CHECK((value != NULL) == (best != UINT32_MAX));
            CHECK(value == NULL || *value == best);
        }
        CHECK(oko_map_clear(map) == 0);
        for (int i = 0; i < N; i++)
            CHECK(map->ops->lookup(map, keys[i], env) == NULL);
        oko_map_unref(map);
        oko_vm_free(vm);
    }
}

static void test_bloom_rate(void)
{
    struct oko_vm *vm = new_vm(2, 0);
    struct oko_map_spec spec = {"m", OKO_MAP_BLOOM, 8, 0, 100000, 4};
    struct oko_map *map;
    CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
    for (uint64_t i = 0; i < 10000; i++)
        CHECK(map->ops->add(map, &i, oko_vm_env(vm, i % 2)) == 0);
    uint32_t wrong = 0;
    for (uint64_t i = 0; i < 10000; i++)
        CHECK(*(uint32_t *)map->ops->lookup(map, &i, oko_vm_env(vm, 0)) == 1);
    for (uint64_t i = 1000000; i < 1100000; i++)
        wrong += *(uint32_t *)map->ops->lookup(map, &i, oko_vm_env(vm, 1));
    CHECK(wrong > 900 && wrong < 1500);
    oko_map_unref(map);
    oko_vm_free(vm);
}

/* 500 items, 10 times each, in 1,000 columns. The 2018 Oko's rows overlapped, so depth did not
 * help (5.2 at depth 1, 7.9 at 5); rows that do not give about 5.2, 1.7, 0.7, 0.2, 0.1. */
static void test_count_min_error(void)
{
    static const double limit[] = {0, 6.5, 2.5, 1.2, 0.7, 0.4};
    for (uint32_t depth = 1; depth <= 5; depth++) {
        struct oko_vm *vm = new_vm(1, 0);
        struct oko_map_spec spec = {"m", OKO_MAP_COUNT_MIN, 8, 4, 1000, depth};
        struct oko_map *map;
        CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
        uint64_t excess = 0;
        for (int times = 0; times < 10; times++)
            for (uint64_t i = 0; i < 500; i++) {
                uint64_t state = i, item = next_random(&state);
                CHECK(map->ops->add(map, &item, oko_vm_env(vm, 0)) == 0);
            }
        for (uint64_t i = 0; i < 500; i++) {
            uint64_t state = i, item = next_random(&state);
            uint32_t n = *(uint32_t *)map->ops->lookup(map, &item, oko_vm_env(vm, 0));
            CHECK(n >= 10);
            excess += n - 10;
        }
        CHECK((double)excess / 500 < limit[depth]);
        CHECK(depth > 1 || excess > 1500);
        oko_map_unref(map);
        oko_vm_free(vm);
    }
}

/* Counters stop at the top, in one block and in the sum of several. */
static void test_count_min_saturates(void)
{
    struct oko_vm *vm = new_vm(2, 0);
    struct oko_map_spec spec = {"m", OKO_MAP_COUNT_MIN, 4, 4, 1, 1};
    struct oko_map *map;
    CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
    uint32_t item = 7, n;
    uint32_t *cells[2] = {(uint32_t *)((struct oko_map_sketch *)map)->cells, NULL};
    cells[1] = (uint32_t *)((uint8_t *)cells[0] + ((struct oko_map_sketch *)map)->block_size);
    *cells[0] = UINT32_MAX - 1;
    *cells[1] = 0;
    for (int i = 0; i < 4; i++) {
        CHECK(map->ops->add(map, &item, oko_vm_env(vm, 0)) == 0);
        CHECK(oko_map_lookup(map, (uint8_t *)&item, (uint8_t *)&n) == 0 && n == UINT32_MAX);
    }
    CHECK(map->ops->add(map, &item, oko_vm_env(vm, 1)) == 0);
    CHECK(oko_map_lookup(map, (uint8_t *)&item, (uint8_t *)&n) == 0 && n == UINT32_MAX);
    CHECK(*cells[0] == UINT32_MAX && *cells[1] == 1);
    oko_map_unref(map);
    oko_vm_free(vm);
}

/* Results of sketches are the same in every VM, whatever its secret. */
static void test_sketch_unkeyed(void)
{
    uint8_t first[8192], out[8192];
    for (uint64_t secret = 1; secret <= 3; secret++) {
        struct oko_vm_opts opts = {.n_workers = 1, .secret = secret};
        struct oko_vm *vm;
        CHECK(oko_vm_new(&opts, &vm) == 0);
        struct oko_map_spec spec = {"m", OKO_MAP_BLOOM, 4, 0, 8192, 3};
        struct oko_map *map;
        CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
        for (uint32_t i = 0; i < 100; i++)
            CHECK(oko_map_add(map, (uint8_t *)&i) == 0);
        uint64_t cursor = 0;
        CHECK(oko_map_dump(map, &cursor, out, 128) == 128);
        if (secret == 1)
            memcpy(first, out, 128 * 16);
        CHECK(memcmp(first, out, 128 * 16) == 0);
        oko_map_unref(map);
        oko_vm_free(vm);
    }
}

/* ---------------------------------------------------------------- other promises */

/* Operations that a type lacks. */
static void test_operations(void)
{
    for (int i = 0; i < N_TYPES; i++) {
        struct oko_vm *vm = new_vm(1, 0);
        struct oko_map_spec spec = {"m", all_types[i], 8, 8, 8, 0};
        if (oko_map_type_is_sketch(spec.type))
            spec.n_hashes = 2;
        struct oko_map *map;
        struct oko_map_class cls;
        CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
        CHECK(oko_map_class(&spec, &cls, NULL) == 0);
        CHECK(cls.has_lookup == (map->ops->lookup != NULL));
        CHECK(cls.has_update == (map->ops->update != NULL));
        CHECK(cls.has_delete == (map->ops->del != NULL));
        CHECK(cls.has_add == (map->ops->add != NULL));
        uint8_t key[8] = {0}, value[8] = {0};
        if (!cls.has_update)
            CHECK(oko_map_update(map, key, value, OKO_ANY) == OKO_E_UNSUP);
        if (!cls.has_delete)
            CHECK(oko_map_delete(map, key) == OKO_E_UNSUP);
        if (!cls.has_add)
            CHECK(oko_map_add(map, key) == OKO_E_UNSUP);
        if (cls.has_update)
            CHECK(oko_map_update(map, key, value, 3) == OKO_E_INVAL);
        struct oko_map_info info;
        oko_map_info(map, &info);
        CHECK(strcmp(info.spec.name, "m") == 0 && info.memory == map->memory);
        CHECK(oko_map_clear(map) == 0);
        oko_map_unref(map);
        oko_vm_free(vm);
    }
}

/* A map of hundreds of megabytes is made at once: its pages are not touched. */
static void test_quick_creation(void)
{
#ifndef OKO_SANITIZED
    struct oko_vm *vm = new_vm(1, (uint64_t)1 << 33);
    struct oko_map_spec spec = {"big", OKO_MAP_HASH, 16, 64, 2000000, 0};
    struct oko_map *map;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK(map->memory > (uint64_t)300 << 20);
    CHECK((end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 < 100);
    oko_map_unref(map);
    oko_vm_free(vm);
#endif
}

int main(void)
{
    test_twins();
    test_broken_maps();
    test_specs();
    test_quota();
    test_capacity();
    test_one_bucket();
    test_spread();
    test_stuck_reader();
    test_own_reuse();
    test_lru();
    test_lpm();
    test_lpm_jumps();
    test_bloom_rate();
    test_count_min_error();
    test_count_min_saturates();
    test_sketch_unkeyed();
    test_operations();
    test_quick_creation();
    return 0;
}
