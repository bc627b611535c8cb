/* What the kernel's programs work on: one global variable, filled by csrc/bench/peer_kernel.c. */
#ifndef OKO_BENCH_KERNEL_INPUT_H
#define OKO_BENCH_KERNEL_INPUT_H

enum { MAX_PACKETS = 1 << 17, FRAME_SPACE = MAX_PACKETS * 64 };

struct kernel_input {
    uint8_t frames[FRAME_SPACE + 4096]; /* room after the last frame, so no access is in doubt */
    uint32_t place[MAX_PACKETS];        /* offset of packet i */
    uint64_t rx_ns[MAX_PACKETS];        /* its time */
    uint64_t len;                       /* of each; not a constant, so filters test it */
    uint64_t n_packets;
};

#endif
