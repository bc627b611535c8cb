/* Maps under several workers and the control side at once.
 *
 * Each value carries its key, so that a lookup which pairs key A with value B is seen; a pointer is
 * looked at again later in the same run, so that early reuse is seen; what is counted must add up;
 * a dump must show what stays exactly once. Under ThreadSanitizer every unordered access is seen
 * too. */
#include "check.h"

#include "base/atomic.h"
#include "bpf/map.h"
#include "bpf/prog.h"
#include "qsbr.h"

#include <pthread.h>

enum { N_WORKERS = 3, N_CHURN = 64, N_STAY = 200 };

static int rounds = 20000; /* fewer under a sanitizer */

static struct oko_vm *vm;
static struct oko_map *map;
static uint32_t stop;

static void start_vm(void)
{
    struct oko_vm_opts opts = {.n_workers = N_WORKERS};
    CHECK(oko_vm_new(&opts, &vm) == 0);
}

static void new_map(struct oko_map_spec spec)
{
    CHECK(oko_map_create(vm, &spec, &map, NULL) == 0);
    stop = 0;
}

static void run_workers(void *(*body)(void *), void (*control)(void))
{
    pthread_t threads[N_WORKERS];
    for (uintptr_t i = 0; i < N_WORKERS; i++)
        CHECK(pthread_create(&threads[i], NULL, body, (void *)i) == 0);
    if (control != NULL)
        control();
    for (int i = 0; i < N_WORKERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* A key of 16 bytes (for LPM: a whole IPv4 address; eight are neighbours, so that ways become long
 * and short again) and a value of 24 that repeats it. */
static void make_key(uint64_t n, uint64_t key[2])
{
    uint64_t address = n / 8 | n % 8 << 24; /* its bytes in memory: n / 8, 0, 0, n % 8 */
    key[0] = map->spec.type == OKO_MAP_LPM_TRIE ? 32 | address << 32 : n;
    key[1] = map->spec.type == OKO_MAP_LPM_TRIE ? 0 : ~n;
}

static void make_value(uint64_t n, uint64_t value[3])
{
    value[0] = n;
    value[1] = n * 3;
    value[2] = ~n;
}

static void check_value(const uint64_t *value, uint64_t n)
{
    CHECK(OKO_LOAD(&value[0]) == n && OKO_LOAD(&value[1]) == n * 3 && OKO_LOAD(&value[2]) == ~n);
}

/* ---------------------------------------------------------------- churn */

static void *churn(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    struct oko_env *env = oko_vm_env(vm, me);
    struct oko_qsbr *qsbr = oko_vm_qsbr(vm);
    uint64_t state = me + 1, key[2], value[3];
    oko_qsbr_online(qsbr, me);
    for (int round = 0; round < rounds; round++) {
        const uint64_t *held[8];
        uint64_t held_n[8];
        int n_held = 0;
        for (int i = 0; i < 16; i++) {
            uint64_t random = next_random(&state);
            uint64_t n = random % N_CHURN;
            make_key(n, key);
            switch (random >> 32 & 3) {
            case 0:
                make_value(n, value);
                map->ops->update(map, key, value, env); /* full is fine */
                if (map->spec.type == OKO_MAP_LRU_HASH)
                    n_held = 0; /* what a run itself drops may be reused, if nothing else is left */
                break;
            case 1:
                map->ops->del(map, key, env);
                for (int h = n_held - 1; h >= 0; h--) /* the same */
                    if (held_n[h] == n) {
                        held[h] = held[--n_held];
                        held_n[h] = held_n[n_held];
                    }
                break;
            default: {
                const uint64_t *found = map->ops->lookup(map, key, env);
                if (found == NULL)
                    break;
                check_value(found, n);
                if (n_held < 8) {
                    held[n_held] = found;
                    held_n[n_held++] = n;
                }
                break;
            }
            }
        }
        for (int i = 0; i < n_held; i++) /* deleted meanwhile perhaps, but not reused */
            check_value(held[i], held_n[i]);
        if (round % 256 == 255) {
            oko_qsbr_offline(qsbr, me);
            sched_yield();
            oko_qsbr_online(qsbr, me);
        }
        oko_qsbr_quiescent(qsbr, me);
    }
    oko_qsbr_offline(qsbr, me);
    __atomic_add_fetch(&stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Entries beside the churned ones, which nobody touches. */
static void add_staying(void)
{
    for (uint64_t n = 1000; n < 1000 + N_STAY; n++) {
        uint64_t key[2], value[3];
        make_key(n, key), make_value(n, value);
        CHECK(oko_map_update(map, (uint8_t *)key, (uint8_t *)value, OKO_NOEXIST) == 0);
    }
}

static void check_dump(uint32_t chunk)
{
    uint32_t key_size = map->spec.key_size, seen[N_STAY] = {0};
    uint8_t *out = malloc((size_t)chunk * (key_size + 24));
    uint64_t cursor = 0;
    int64_t n;
    while ((n = oko_map_dump(map, &cursor, out, chunk)) > 0)
        for (int64_t i = 0; i < n; i++) {
            uint64_t value[3], key[2];
            memcpy(value, out + i * (key_size + 24) + key_size, 24);
            check_value(value, value[0]);
            make_key(value[0], key);
            CHECK(memcmp(key, out + i * (key_size + 24), key_size) == 0);
            if (value[0] >= 1000)
                seen[value[0] - 1000]++;
        }
    CHECK(n == 0);
    for (int i = 0; i < N_STAY; i++)
        CHECK(seen[i] == 1);
    free(out);
}

static void control_churn(void)
{
    uint64_t state = 99, key[2], value[3];
    while (OKO_LOAD(&stop) < N_WORKERS) {
        uint64_t n = next_random(&state) % N_CHURN;
        make_key(n, key), make_value(n, value);
        switch (next_random(&state) % 4) {
        case 0:
            oko_map_update(map, (uint8_t *)key, (uint8_t *)value, OKO_ANY);
            break;
        case 1:
            oko_map_delete(map, (uint8_t *)key);
            break;
        case 2:
            memset(value, 0, sizeof(value));
            if (oko_map_lookup(map, (uint8_t *)key, (uint8_t *)value) == 0)
                check_value(value, n);
            break;
        default:
            check_dump(1 + (uint32_t)n);
            break;
        }
    }
}

static void test_churn(uint32_t type)
{
    struct oko_map_spec spec = {"m", type, 16, 24, N_STAY + N_CHURN / 2, 0};
    if (type == OKO_MAP_LPM_TRIE)
        spec.key_size = 8;
    new_map(spec);
    add_staying();
    run_workers(churn, control_churn);
    check_dump(7);
    struct oko_map_info info;
    oko_map_info(map, &info);
    CHECK(info.n_entries >= N_STAY && info.n_entries <= spec.max_entries);
    oko_map_unref(map);
}

/* LRU: the same churn, but any entry may be dropped at any time. */
static void control_lru(void)
{
    struct oko_map_info info;
    while (OKO_LOAD(&stop) < N_WORKERS) {
        oko_map_info(map, &info);
        CHECK(info.n_entries <= map->spec.max_entries);
        sched_yield();
    }
}

static void test_lru_churn(void)
{
    new_map((struct oko_map_spec){"m", OKO_MAP_LRU_HASH, 16, 24, N_CHURN / 4, 0});
    run_workers(churn, control_lru);
    oko_map_unref(map);
}

/* ---------------------------------------------------------------- what adds up */

/* Per-worker hash: each worker counts in its own value, with plain stores. */
static void *count_own(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    struct oko_env *env = oko_vm_env(vm, me);
    for (int i = 0; i < rounds * 4; i++) {
        oko_qsbr_online(oko_vm_qsbr(vm), me);
        uint64_t key[2] = {(uint64_t)i % 50, 0};
        uint64_t *count = map->ops->lookup(map, key, env);
        if (count == NULL) {
            uint64_t zero = 0;
            struct oko_map_ops const *ops = map->ops;
            /* Another worker may have been first; then its value for us is 0 as well. */
            CHECK(ops->update(map, key, &zero, env) == 0);
            count = ops->lookup(map, key, env);
        }
        OKO_STORE(count, OKO_LOAD(count) + 1);
        oko_qsbr_offline(oko_vm_qsbr(vm), me);
    }
    return NULL;
}

static void test_worker_hash(void)
{
    new_map((struct oko_map_spec){"m", OKO_MAP_WORKER_HASH, 16, 8, 50, 0});
    run_workers(count_own, NULL);
    for (uint64_t n = 0; n < 50; n++) {
        uint64_t key[2] = {n, 0}, values[N_WORKERS];
        CHECK(oko_map_lookup(map, (uint8_t *)key, (uint8_t *)values) == 0);
        for (int w = 0; w < N_WORKERS; w++)
            CHECK(values[w] == (uint64_t)rounds * 4 / 50);
    }
    oko_map_unref(map);
}

static void *count_array(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    for (int i = 0; i < rounds * 4; i++) {
        uint32_t key = (uint32_t)i % 10;
        uint64_t *count = map->ops->lookup(map, &key, oko_vm_env(vm, me));
        OKO_STORE(count, OKO_LOAD(count) + 1);
    }
    return NULL;
}

static void test_worker_array(void)
{
    new_map((struct oko_map_spec){"m", OKO_MAP_WORKER_ARRAY, 4, 8, 10, 0});
    run_workers(count_array, NULL);
    uint64_t values[N_WORKERS];
    for (uint32_t key = 0; key < 10; key++) {
        CHECK(oko_map_lookup(map, (uint8_t *)&key, (uint8_t *)values) == 0);
        for (int w = 0; w < N_WORKERS; w++)
            CHECK(values[w] == (uint64_t)rounds * 4 / 10);
    }
    oko_map_unref(map);
}

/* Updates through the helper are whole: who reads under the lock never sees two mixed. */
static void *update_array(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg, key = 0;
    for (int i = 0; i < rounds; i++) {
        uint64_t value[3];
        make_value((uint64_t)i * N_WORKERS + me, value);
        CHECK(map->ops->update(map, &key, value, oko_vm_env(vm, me)) == 0);
    }
    __atomic_add_fetch(&stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void read_array(void)
{
    uint32_t key = 0;
    uint64_t value[3], last[3];
    make_value(0, last);
    while (OKO_LOAD(&stop) < N_WORKERS) {
        CHECK(oko_map_lookup(map, (uint8_t *)&key, (uint8_t *)value) == 0);
        if (value[2] != 0) /* else not written yet */
            check_value(value, value[0]);
    }
}

static void test_array_updates(void)
{
    new_map((struct oko_map_spec){"m", OKO_MAP_ARRAY, 4, 24, 1, 0});
    run_workers(update_array, read_array);
    oko_map_unref(map);
}

/* Sketches: adds of all workers and the control side; estimates only grow and are never short. */
static void *add_items(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    struct oko_env *env = oko_vm_env(vm, me);
    for (int i = 0; i < rounds; i++) {
        uint32_t item = (uint32_t)i % 20;
        CHECK(map->ops->add(map, &item, env) == 0);
        uint32_t seen = *(uint32_t *)map->ops->lookup(map, &item, env);
        CHECK(seen >= (map->spec.type == OKO_MAP_BLOOM ? 1 : (uint32_t)i / 20 + 1));
    }
    return NULL;
}

static void add_more(void)
{
    for (int i = 0; i < rounds; i++) {
        uint32_t item = (uint32_t)i % 20;
        CHECK(oko_map_add(map, (uint8_t *)&item) == 0);
    }
}

static void test_sketches(void)
{
    new_map((struct oko_map_spec){"m", OKO_MAP_COUNT_MIN, 4, 4, 5000, 3});
    run_workers(add_items, add_more);
    for (uint32_t item = 0; item < 20; item++) {
        uint32_t n;
        CHECK(oko_map_lookup(map, (uint8_t *)&item, (uint8_t *)&n) == 0);
        CHECK(n >= (uint32_t)rounds / 20 * (N_WORKERS + 1));
    }
    uint64_t cursor = 0, sum = 0;
    uint32_t cell[3];
    while (oko_map_dump(map, &cursor, (uint8_t *)cell, 1) == 1)
        sum += cell[2];
    CHECK(sum == (uint64_t)rounds * (N_WORKERS + 1) * 3);
    oko_map_unref(map);
    new_map((struct oko_map_spec){"m", OKO_MAP_BLOOM, 4, 4, 5000, 3});
    run_workers(add_items, add_more);
    oko_map_unref(map);
}

/* Many workers want the last places: exactly max_entries get one. */
static uint32_t n_inserted;

static void *grab(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    for (uint64_t i = 0; i < 500; i++) {
        uint64_t key[2] = {i * N_WORKERS + me, 1}, value = i;
        if (map->ops->update(map, key, &value, oko_vm_env(vm, me)) == 0)
            __atomic_add_fetch(&n_inserted, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void test_capacity(void)
{
    for (int round = 0; round < 20; round++) {
        new_map((struct oko_map_spec){"m", OKO_MAP_HASH, 16, 8, 777, 0});
        n_inserted = 0;
        run_workers(grab, NULL);
        struct oko_map_info info;
        oko_map_info(map, &info);
        CHECK(n_inserted == 777 && info.n_entries == 777);
        oko_map_unref(map);
    }
}

/* Clearing while workers insert: nothing is lost track of. */
static void clear_often(void)
{
    while (OKO_LOAD(&stop) < N_WORKERS) {
        CHECK(oko_map_clear(map) == 0);
        sched_yield();
    }
}

static void test_clear(void)
{
    static const uint32_t types[] = {OKO_MAP_HASH, OKO_MAP_LRU_HASH, OKO_MAP_LPM_TRIE};
    for (int i = 0; i < 3; i++) {
        new_map((struct oko_map_spec){"m", types[i], types[i] == OKO_MAP_LPM_TRIE ? 8 : 16, 24,
                                      N_CHURN, 0});
        run_workers(churn, clear_often);
        CHECK(oko_map_clear(map) == 0);
        struct oko_map_info info;
        oko_map_info(map, &info);
        CHECK(info.n_entries == 0 && info.overflow == 0);
        oko_map_unref(map);
    }
}

/* ---------------------------------------------------------------- values of one word */

/* Workers update values of one word without a lock. Each has keys of its own, which share buckets
 * with the others', and finds there what it wrote last; one key is everybody's, and everybody adds
 * to its value. */
enum { N_OWN = 40, SHARED = 1 << 20 };

static void *update_words(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    struct oko_env *env = oko_vm_env(vm, me);
    struct oko_qsbr *qsbr = oko_vm_qsbr(vm);
    uint64_t state = me + 1, last[N_OWN] = {0}, shared[2] = {SHARED, 0};
    oko_qsbr_online(qsbr, me);
    for (int round = 1; round <= rounds * 4; round++) {
        uint64_t random = next_random(&state), i = random % N_OWN;
        uint64_t key[2] = {i * N_WORKERS + me, 7}, value = (uint64_t)round << 8 | me;
        if ((random >> 32) % 8 == 0) {
            CHECK((map->ops->del(map, key, env) == 0) == (last[i] != 0));
            last[i] = 0;
        } else if ((random >> 32) % 2 == 0) {
            int code = map->ops->update(map, key, &value, env);
            CHECK(code == 0 || last[i] == 0); /* no slot: another's burst has lasted very long */
            last[i] = code == 0 ? value : 0;
        }
        uint64_t *found = map->ops->lookup(map, key, env);
        CHECK((found != NULL) == (last[i] != 0) && (found == NULL || OKO_LOAD(found) == last[i]));
        __atomic_fetch_add((uint64_t *)map->ops->lookup(map, shared, env), 1, __ATOMIC_RELAXED);
        if (round % 32 == 0)
            oko_qsbr_quiescent(qsbr, me);
    }
    oko_qsbr_offline(qsbr, me);
    return NULL;
}

static void test_words(uint32_t type)
{
    uint64_t shared[2] = {SHARED, 0}, value = 0;
    new_map((struct oko_map_spec){"m", type, 16, 8, 2 * N_OWN * N_WORKERS, 0});
    CHECK(oko_map_update(map, (uint8_t *)shared, (uint8_t *)&value, OKO_NOEXIST) == 0);
    run_workers(update_words, NULL);
    CHECK(oko_map_lookup(map, (uint8_t *)shared, (uint8_t *)&value) == 0);
    CHECK(value == (uint64_t)rounds * 4 * N_WORKERS);
    oko_map_unref(map);
}

int main(void)
{
#ifdef OKO_SANITIZED
    rounds = 1000;
#endif
    start_vm();
    test_churn(OKO_MAP_HASH);
    test_churn(OKO_MAP_LPM_TRIE);
    test_lru_churn();
    test_worker_hash();
    test_worker_array();
    test_array_updates();
    test_sketches();
    test_capacity();
    test_clear();
    test_words(OKO_MAP_HASH);
    test_words(OKO_MAP_LRU_HASH);
    oko_vm_free(vm);
    return 0;
}
