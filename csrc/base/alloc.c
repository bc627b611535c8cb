/* Memory for tables; see alloc.h. */
#define _GNU_SOURCE
#include "alloc.h"

#include "bits.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    FROM_KERNEL = 128 * 1024,         /* blocks from this size on are mapped */
    HUGE_PAGES_FROM = 4 * 1024 * 1024 /* and from this size on ask for huge pages: a cold lookup in
                                       * a large table then costs no page walk */
};

#ifdef OKO_SANITIZED
static const uint64_t from_kernel = UINT64_MAX;
#else
static const uint64_t from_kernel = FROM_KERNEL;
#endif

void *oko_alloc(uint64_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    if (size >= from_kernel) {
        void *block = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (block == MAP_FAILED)
            return NULL;
        if (size >= HUGE_PAGES_FROM)
            (void)madvise(block, (size_t)size, MADV_HUGEPAGE); /* only advice */
        return block;
    }
    size_t rounded = (size_t)oko_round_up(size == 0 ? 1 : size, OKO_CACHE_LINE);
    void *block = aligned_alloc(OKO_CACHE_LINE, rounded);
    if (block != NULL)
        memset(block, 0, rounded);
    return block;
}

void oko_release(void *block, uint64_t size)
{
    if (block == NULL)
        return;
    if (size >= from_kernel)
        munmap(block, (size_t)size);
    else
        free(block);
}
