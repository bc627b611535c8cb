/* Teams: every member does every task once and in order, sees what was written before it was
 * given, and no slot is used again while somebody needs it; with members of very unequal speed. */
#include "check.h"
#include "team.h"

#include <stdlib.h>
#include <time.h>

enum { MEMBERS = 3, TASKS = 3000, FIRST = 5 };

static struct {
    uint64_t slots[OKO_TEAM_AHEAD]; /* plain: the team orders access to them */
    uint64_t done[MEMBERS];
    uint64_t sums[MEMBERS];
    uint32_t wrong;
} state;

static void pause_for(long ns)
{
    struct timespec t = {.tv_nsec = ns};
    nanosleep(&t, NULL);
}

static void work(void *ctx, uint32_t member, uint64_t number)
{
    uint32_t i = member - FIRST;
    if (ctx != &state || i >= MEMBERS || state.done[i] != number) {
        __atomic_add_fetch(&state.wrong, 1, __ATOMIC_RELAXED);
        return;
    }
    if (number % 500 == 100 * i) /* long enough for the others to go to sleep */
        pause_for(3000000);
    state.sums[i] += state.slots[number % OKO_TEAM_AHEAD];
    state.done[i] = number + 1;
}

int main(void)
{
    struct oko_team *team;
    uint64_t sum = 0;

    oko_team_free(NULL);
    CHECK(oko_team_new(MEMBERS, FIRST, work, &state, &team) == 0);
    for (uint64_t k = 0; k < TASKS; k++) {
        oko_team_wait_room(team);
        CHECK(oko_team_has_room(team));
        CHECK(oko_team_next(team) == k);
        state.slots[k % OKO_TEAM_AHEAD] = k * k + 1;
        sum += k * k + 1;
        oko_team_give(team);
        if (k % 700 == 699) {
            oko_team_wait_all(team);
            for (uint32_t i = 0; i < MEMBERS; i++)
                CHECK(state.done[i] == k + 1);
            pause_for(2000000); /* members sleep */
        }
    }
    oko_team_wait_all(team);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        CHECK(state.done[i] == TASKS);
        CHECK(state.sums[i] == sum);
    }
    CHECK(state.wrong == 0);
    oko_team_free(team);

    CHECK(oko_team_new(0, 0, work, &state, &team) == 0); /* nobody: all is done at once */
    oko_team_give(team);
    oko_team_wait_all(team);
    CHECK(oko_team_has_room(team));
    oko_team_free(team);
    puts("team: every member did every task");
    return 0;
}
