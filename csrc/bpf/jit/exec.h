/* Executable memory: pages that are writable or executable, never both.
 *
 * oko_exec_new() maps fresh writable pages, within reach of near (a rel32 call: 2 GiB) unless that
 * is NULL or the address space does not allow it; oko_exec_seal() makes them readable and
 * executable for good. A host that forbids the change (SELinux execmem, hardened kernels) makes
 * seal fail; callers then fall back to the interpreter. Thread-safe: no state of its own. */
#ifndef OKO_BPF_JIT_EXEC_H
#define OKO_BPF_JIT_EXEC_H

#include <stddef.h>
#include <stdint.h>

struct oko_exec {
    uint8_t *at;
    size_t size; /* bytes mapped, whole pages */
};

int oko_exec_new(size_t size, const void *near, struct oko_exec *exec);
int oko_exec_seal(struct oko_exec *exec);
void oko_exec_free(struct oko_exec *exec);

#endif
