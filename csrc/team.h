/* A team of threads that carry out numbered tasks, each thread every task, in order.
 *
 * One thread, the giver, hands out tasks 0, 1, 2, ...; a task is only its number, what it means the
 * giver keeps in slot number % OKO_TEAM_AHEAD of a table of its own, which is free again when
 * oko_team_wait_room() has returned. A member that is quick may be up to OKO_TEAM_AHEAD tasks ahead
 * of one that is slow, so nobody waits for the slowest at each task.
 *
 * Who has nothing to do looks for a while, then sleeps: on a virtual machine, waking a thread costs
 * more than a task of some thousand packets, and threads that keep waking each other end up on one
 * core.
 *
 * Thread-safety: all functions by the giver. Everything that it wrote before giving a task is
 * visible to the members in that task, and what they wrote to the giver after waiting. */
#ifndef OKO_TEAM_H
#define OKO_TEAM_H

#include <stdint.h>

enum { OKO_TEAM_AHEAD = 4 };

struct oko_team;

/* Member i of `n` calls work(ctx, first + i, number) for each task. OKO_E_NOMEM: no threads. */
int oko_team_new(uint32_t n, uint32_t first,
                 void (*work)(void *ctx, uint32_t member, uint64_t number), void *ctx,
                 struct oko_team **team);
/* Ends the members after what they have been given. */
void oko_team_free(struct oko_team *team);

/* The next task's number. */
uint64_t oko_team_next(const struct oko_team *team);
/* There is room for the next task. */
int oko_team_has_room(const struct oko_team *team);
/* Until there is room for the next task, or until everything given is done. */
void oko_team_wait_room(struct oko_team *team);
void oko_team_wait_all(struct oko_team *team);
/* Gives the next task; there must be room. */
void oko_team_give(struct oko_team *team);

#endif
