/* See team.h. Two counters do it: how many tasks were given, and per member how many it has done. A
 * sleeper announces itself under the mutex before it looks at the counters for the last time, and
 * who changes a counter looks for sleepers afterwards; both in sequential order, so that one of the
 * two sees the other. */
#include "team.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "oko.h"

#include <pthread.h>
#include <stdlib.h>

enum { LOOKS = 2000 }; /* before going to sleep: some 50 us, about the cost of being woken */

static const uint64_t QUIT = UINT64_MAX;

struct member {
    _Alignas(OKO_CACHE_LINE) uint64_t done; /* atomic: tasks */
    struct oko_team *team;
    uint32_t index;
    pthread_t id;
};

struct oko_team {
    _Alignas(OKO_CACHE_LINE) uint64_t given;      /* atomic: tasks, or QUIT */
    _Alignas(OKO_CACHE_LINE) uint32_t n_sleepers; /* atomic, changed under the mutex */
    uint32_t n;
    void (*work)(void *ctx, uint32_t member, uint64_t number);
    void *ctx;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct member members[];
};

static uint64_t slowest(const struct oko_team *team)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < team->n; i++) {
        uint64_t done = __atomic_load_n(&team->members[i].done, __ATOMIC_SEQ_CST);
        least = done < least ? done : least;
    }
    return least;
}

/* Something that somebody may sleep for has changed. */
static void tell(struct oko_team *team)
{
    if (!__atomic_load_n(&team->n_sleepers, __ATOMIC_SEQ_CST))
        return;
    pthread_mutex_lock(&team->mutex);
    pthread_cond_broadcast(&team->changed);
    pthread_mutex_unlock(&team->mutex);
}

/* Until is(team, x). */
static void wait_until(struct oko_team *team, bool (*is)(const struct oko_team *, uint64_t),
                       uint64_t x)
{
    for (uint32_t i = 0; i < LOOKS; i++) {
        if (is(team, x))
            return;
        oko_cpu_relax();
    }
    pthread_mutex_lock(&team->mutex);
    __atomic_add_fetch(&team->n_sleepers, 1, __ATOMIC_SEQ_CST);
    while (!is(team, x))
        pthread_cond_wait(&team->changed, &team->mutex);
    __atomic_sub_fetch(&team->n_sleepers, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&team->mutex);
}

/* ---------------------------------------------------------------- members */

static bool given_beyond(const struct oko_team *team, uint64_t done)
{
    return __atomic_load_n(&team->given, __ATOMIC_SEQ_CST) > done;
}

static void *member_main(void *arg)
{
    struct member *member = arg;
    struct oko_team *team = member->team;

    for (uint64_t done = 0;;) {
        wait_until(team, given_beyond, done);
        if (__atomic_load_n(&team->given, __ATOMIC_SEQ_CST) == QUIT)
            return NULL;
        team->work(team->ctx, member->index, done);
        __atomic_store_n(&member->done, ++done, __ATOMIC_SEQ_CST);
        tell(team);
    }
}

/* ---------------------------------------------------------------- the giver */

static bool done_from(const struct oko_team *team, uint64_t least)
{
    return slowest(team) >= least;
}

uint64_t oko_team_next(const struct oko_team *team)
{
    return OKO_LOAD(&team->given);
}

int oko_team_has_room(const struct oko_team *team)
{
    uint64_t given = OKO_LOAD(&team->given);
    return given < OKO_TEAM_AHEAD || done_from(team, given - OKO_TEAM_AHEAD + 1);
}

void oko_team_wait_room(struct oko_team *team)
{
    uint64_t given = OKO_LOAD(&team->given);
    if (given >= OKO_TEAM_AHEAD)
        wait_until(team, done_from, given - OKO_TEAM_AHEAD + 1);
}

void oko_team_wait_all(struct oko_team *team)
{
    wait_until(team, done_from, OKO_LOAD(&team->given));
}

void oko_team_give(struct oko_team *team)
{
    __atomic_store_n(&team->given, OKO_LOAD(&team->given) + 1, __ATOMIC_SEQ_CST);
    tell(team);
}

int oko_team_new(uint32_t n, uint32_t first,
                 void (*work)(void *ctx, uint32_t member, uint64_t number), void *ctx,
                 struct oko_team **out)
{
    size_t size = sizeof(struct oko_team) + n * sizeof(struct member);
    struct oko_team *team = aligned_alloc(OKO_CACHE_LINE, size);
    if (!team)
        return OKO_E_NOMEM;
    memset(team, 0, size);
    team->work = work;
    team->ctx = ctx;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->changed, NULL);
    for (uint32_t i = 0; i < n; i++) {
        struct member *member = &team->members[i];
        member->team = team;
        member->index = first + i;
        if (pthread_create(&member->id, NULL, member_main, member)) {
            oko_team_free(team);
            return OKO_E_NOMEM;
        }
        team->n++;
    }
    *out = team;
    return 0;
}

void oko_team_free(struct oko_team *team)
{
    if (!team)
        return;
    oko_team_wait_all(team);
    __atomic_store_n(&team->given, QUIT, __ATOMIC_SEQ_CST);
    tell(team);
    for (uint32_t i = 0; i < team->n; i++)
        pthread_join(team->members[i].id, NULL);
    pthread_mutex_destroy(&team->mutex);
    pthread_cond_destroy(&team->changed);
    free(team);
}
