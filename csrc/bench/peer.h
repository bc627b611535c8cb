/* Other implementations of BPF that bench-vm runs beside ours. Each is compiled in where its
 * library is installed (csrc/Makefile); a peer that refuses a filter says why. */
#ifndef OKO_BENCH_PEER_H
#define OKO_BENCH_PEER_H

#include "oko.h"

/* What a pass goes over. in[i].data lie within frames, which has room for each to be FRAME long. */
struct peer_traffic {
    const struct oko_prog_in *in;
    uint32_t n;
    const uint8_t *frames;
    size_t size;
};

struct peer {
    const char *name;
    /* Loads the filter's object; false and a reason if that cannot be done, false and an empty
     * reason if there is no such form of it. */
    bool (*open)(const char *directory, const char *filter, const struct peer_traffic *traffic,
                 void **run, char *why, size_t why_size);
    bool (*put)(void *run, const void *key, const void *value); /* into the filter's first map */
    uint64_t (*pass)(void *run); /* all packets once: how many matched */
    void (*close)(void *run);
};

extern const struct peer oko_peer_kernel;             /* the kernel's JIT, needs libbpf-dev */
extern const struct peer oko_peer_kernel_given_clock; /* the clock is the packet's time */
extern const struct peer oko_peer_dpdk;       /* rte_bpf's machine code, needs libdpdk-dev */
extern const struct peer oko_peer_dpdk_burst; /* rte_bpf_exec_burst(): its interpreter */

#endif
