#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "exec.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../oko.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { REACH = 0x7f000000, STEP = 0x1000000 };

static bool in_reach(const uint8_t *at, size_t size, const void *near)
{
    int64_t from = (int64_t)((uintptr_t)at - (uintptr_t)near);
    int64_t to = from + (int64_t)size;
    return from > -(int64_t)REACH && to < (int64_t)REACH;
}

static uint8_t *map_at(uintptr_t hint, size_t size, int fixed)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | fixed;
    void *at = mmap((void *)hint, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

int oko_exec_new(size_t size, const void *near, struct oko_exec *exec)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size = (size + page - 1) & ~(page - 1);
    /* Behind what it calls, or wherever the kernel puts it: next to the shared libraries. */
    uintptr_t behind = near ? ((uintptr_t)near & ~(uintptr_t)(STEP - 1)) + STEP : 0;
    uint8_t *at = map_at(behind, size, 0);
    if (!at)
        return OKO_E_NOMEM;
    if (near && !in_reach(at, size, near)) {
        uintptr_t base = (uintptr_t)near & ~(uintptr_t)(STEP - 1);
        for (uintptr_t away = STEP; away < REACH; away += STEP) {
            uintptr_t hint[2] = {base + away, base > away ? base - away : 0};
            uint8_t *better = NULL;
            for (int i = 0; i < 2 && !better; i++) {
                better = hint[i] ? map_at(hint[i], size, MAP_FIXED_NOREPLACE) : NULL;
                if (better && !in_reach(better, size, near)) {
                    munmap(better, size);
                    better = NULL;
                }
            }
            if (better) {
                munmap(at, size);
                at = better;
                break;
            }
        }
    }
    exec->at = at;
    exec->size = size;
    return 0;
}

int oko_exec_seal(struct oko_exec *exec)
{
    return mprotect(exec->at, exec->size, PROT_READ | PROT_EXEC) ? OKO_E_UNSUP : 0;
}

void oko_exec_free(struct oko_exec *exec)
{
    if (exec && exec->at)
        munmap(exec->at, exec->size);
}
