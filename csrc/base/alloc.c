/* Memory for tables; see alloc.h. */
#define _GNU_SOURCE
#include "alloc.h"

#include "bits.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    FROM_KERNEL = 128 * 1024,          /* blocks from this size on are mapped */
    HUGE_PAGES_FROM = 4 * 1024 * 1024, /* and from this size on lie on huge pages, if the kernel
                                        * likes: a cold lookup in a large table then costs no page
                                        * walk */
    HUGE_PAGE = 2 * 1024 * 1024
};

#ifdef OKO_SANITIZED
static const uint64_t from_kernel = UINT64_MAX;
#else
static const uint64_t from_kernel = FROM_KERNEL;
#endif

static uint8_t *map_pages(size_t size)
{
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return block != MAP_FAILED ? block : NULL;
}

/* From the start of a huge page on, so that all of the block but its end can have them. */
static uint8_t *map_huge_pages(size_t size)
{
    size_t pages = (size_t)oko_round_up(size, 4096);
    uint8_t *block = map_pages(pages + HUGE_PAGE);
    if (block == NULL)
        return map_pages(size);
    size_t before = -(uintptr_t)block % HUGE_PAGE;
    if (before != 0)
        munmap(block, before);
    munmap(block + before + pages, HUGE_PAGE - before);
    (void)madvise(block + before, size, MADV_HUGEPAGE); /* only advice */
    return block + before;
}

void *oko_alloc(uint64_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    if (size >= from_kernel)
        return size < HUGE_PAGES_FROM ? map_pages((size_t)size) : map_huge_pages((size_t)size);
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
