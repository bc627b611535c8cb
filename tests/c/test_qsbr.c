/* Quiescent-state reclamation: the rules one by one, then readers and a writer at once. */
#include "check.h"

#include "base/atomic.h"
#include "oko.h"
#include "qsbr.h"

#include <pthread.h>

static void count_call(void *arg)
{
    ++*(int *)arg;
}

static void test_rules(void)
{
    struct oko_qsbr *q;
    CHECK(oko_qsbr_new(0, &q) == OKO_E_INVAL && q == NULL);
    CHECK(oko_qsbr_new(65, &q) == OKO_E_INVAL && q == NULL);
    CHECK(oko_qsbr_new(3, &q) == 0 && oko_qsbr_n_readers(q) == 3);
    uint64_t a = oko_qsbr_start(q);
    CHECK(a > 0 && oko_qsbr_passed(q, a)); /* nobody is online */
    oko_qsbr_online(q, 0);
    oko_qsbr_online(q, 2);
    CHECK(oko_qsbr_is_online(q, 0) && !oko_qsbr_is_online(q, 1));
    CHECK(oko_qsbr_passed(q, a)); /* they came afterwards */
    uint64_t b = oko_qsbr_start(q);
    CHECK(b > a && !oko_qsbr_passed(q, b));
    oko_qsbr_quiescent(q, 0);
    CHECK(!oko_qsbr_passed(q, b));
    CHECK(oko_qsbr_passed_but(q, b, 2) && !oko_qsbr_passed_but(q, b, 0));
    uint64_t c = oko_qsbr_start(q);
    oko_qsbr_quiescent(q, 2);
    CHECK(oko_qsbr_passed(q, b)); /* 0 has seen b, 2 has seen c */
    CHECK(!oko_qsbr_passed(q, c));
    oko_qsbr_offline(q, 0);
    CHECK(oko_qsbr_passed(q, c));
    oko_qsbr_offline(q, 2);
    oko_qsbr_free(q);
    oko_qsbr_free(NULL);
}

static void test_defer(void)
{
    struct oko_qsbr *q;
    int first = 0, second = 0;
    CHECK(oko_qsbr_new(2, &q) == 0);
    CHECK(oko_qsbr_defer(q, count_call, &first) == 0 && first == 1); /* nobody to wait for */
    oko_qsbr_online(q, 1);
    CHECK(oko_qsbr_defer(q, count_call, &first) == 0 && first == 1);
    oko_qsbr_quiescent(q, 1);
    CHECK(oko_qsbr_defer(q, count_call, &second) == 0 && first == 2 && second == 0);
    CHECK(oko_qsbr_poll(q) == 1);
    oko_qsbr_offline(q, 1);
    CHECK(oko_qsbr_poll(q) == 0 && second == 1);
    oko_qsbr_online(q, 0);
    CHECK(oko_qsbr_defer(q, count_call, &second) == 0 && second == 1);
    oko_qsbr_free(q); /* runs what is left */
    CHECK(second == 2);
}

/* ---------------------------------------------------------------- at once */

enum { N_READERS = 3, N_OBJECTS = 3000 };

struct object {
    uint64_t magic;
};

static struct oko_qsbr *qsbr;
static struct object *published; /* atomic */
static uint32_t stop;
static uint64_t n_freed;

static void bury(void *arg)
{
    struct object *object = arg;
    CHECK(object->magic == 0x600d);
    object->magic = 0xdead; /* plain: ThreadSanitizer would see a reader */
    free(object);
    n_freed++;
}

static void *reader(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t state = me;
    while (!OKO_LOAD(&stop)) {
        oko_qsbr_online(qsbr, me);
        for (int burst = 0; burst < 50; burst++) {
            struct object *object = OKO_LOAD_ACQUIRE(&published);
            for (uint64_t i = next_random(&state) % 20; i-- > 0;)
                CHECK(object->magic == 0x600d);
            oko_qsbr_quiescent(qsbr, me);
        }
        oko_qsbr_offline(qsbr, me);
        sched_yield();
    }
    return NULL;
}

static struct object *new_object(void)
{
    struct object *object = malloc(sizeof(*object));
    object->magic = 0x600d;
    return object;
}

static void test_threads(void)
{
    pthread_t threads[N_READERS];
    CHECK(oko_qsbr_new(N_READERS, &qsbr) == 0);
    published = new_object();
    for (uintptr_t i = 0; i < N_READERS; i++)
        CHECK(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int i = 0; i < N_OBJECTS; i++) {
        struct object *old = published;
        OKO_STORE_RELEASE(&published, new_object());
        if (i % 16 == 0) {
            oko_qsbr_synchronize(qsbr);
            bury(old);
        } else {
            CHECK(oko_qsbr_defer(qsbr, bury, old) == 0);
        }
    }
    OKO_STORE(&stop, 1);
    for (int i = 0; i < N_READERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(oko_qsbr_poll(qsbr) == 0);
    CHECK(n_freed == N_OBJECTS);
    free(published);
    oko_qsbr_free(qsbr);
}

int main(void)
{
    test_rules();
    test_defer();
    test_threads();
    return 0;
}
