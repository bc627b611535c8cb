/* Memory for tables: zeroed, aligned to a cache line, quick to get whatever its size.
 *
 * Idea. Large blocks come straight from the kernel as untouched zero pages, so creating a map of a
 * gigabyte costs microseconds and memory is really used only where entries are. Under a sanitizer
 * everything comes from the instrumented heap, so that reads past a table are seen.
 *
 * Fails safely: NULL when memory is short or the size is absurd. */
#ifndef OKO_BASE_ALLOC_H
#define OKO_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* size bytes of zeroes at a 64-byte boundary; size 0 gives a valid block too. */
void *oko_alloc(uint64_t size);
/* The same size as was asked for. Takes NULL. */
void oko_release(void *block, uint64_t size);

#endif
