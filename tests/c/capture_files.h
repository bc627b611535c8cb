/* Captures in memory files, for tests of the replay engine. */
#ifndef OKO_CAPTURE_FILES_H
#define OKO_CAPTURE_FILES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include "check.h"

#include <sys/mman.h>

struct packet {
    uint64_t us;
    uint32_t len, wire_len; /* 0 = len */
};

/* A pcap of packets whose bytes are their number, in a memory file. */
static inline int make_capture(const struct packet *packets, uint32_t n, uint32_t cut)
{
    int fd = memfd_create("capture", 0);
    static uint8_t frame[100000];
    uint32_t header[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 262144, 1};

    CHECK(fd >= 0 && write(fd, header, 24) == 24);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t wire_len = packets[i].wire_len ? packets[i].wire_len : packets[i].len;
        uint32_t record[4] = {(uint32_t)(packets[i].us / 1000000),
                              (uint32_t)(packets[i].us % 1000000), packets[i].len, wire_len};
        memset(frame, (int)i, packets[i].len);
        CHECK(write(fd, record, 16) == 16);
        uint32_t len = i == n - 1 ? packets[i].len - cut : packets[i].len;
        CHECK(write(fd, frame, len) == (ssize_t)len);
    }
    return fd;
}

/* IPv4 UDP frames between a few hosts, in both directions. */
static inline int make_conversations(uint32_t n)
{
    int fd = memfd_create("capture", 0);
    uint32_t header[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 262144, 1};
    uint64_t seed = 1;

    CHECK(fd >= 0 && write(fd, header, 24) == 24);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t r[16 + 60] = {0}, *f = r + 16;
        uint32_t record[4] = {i / 1000, i % 1000 * 1000, 60, 60};
        memcpy(r, record, 16);
        uint8_t host = (uint8_t)(next_random(&seed) % 20), way = (uint8_t)(next_random(&seed) & 1);
        f[12] = 8;
        f[14] = 0x45;
        f[17] = 46;
        f[23] = 17;
        f[26] = f[30] = 10;
        f[way ? 29 : 33] = host;
        f[way ? 33 : 29] = (uint8_t)(host + 100);
        f[59] = (uint8_t)i;
        CHECK(write(fd, r, sizeof r) == sizeof r);
    }
    return fd;
}

#endif
