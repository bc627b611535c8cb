/* The pcap writer; the format is draft-ietf-opsawg-pcap's, in this host's byte order. */
#include "port_pcap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_SIZE = 1 << 20, HEADER_SIZE = 24, RECORD_HEADER = 16, SNAPLEN = 262144 };

/* What one worker has sent since the last merge: struct entry, record header, frame; and so on. */
struct lane {
    uint8_t *bytes;
    size_t used, size;
    size_t next;     /* merge: offset of the next entry */
    int failed;      /* ENOMEM */
    uint64_t pad[4]; /* lanes of two workers on different cache lines */
};

struct entry {
    uint64_t seq;
    uint32_t size; /* of header and frame */
    uint32_t reserved;
};

struct oko_writer {
    int fd;
    int failed; /* errno of the first failure, or ENOMEM */
    bool nanoseconds;
    uint32_t n_lanes;
    struct lane *lanes; /* NULL with one worker */
    size_t used;
    uint8_t buffer[BUFFER_SIZE];
};

static int io_error(const struct oko_writer *w, struct oko_error *error)
{
    *error = (struct oko_error){.code = OKO_E_IO, .sys_errno = w->failed, .insn = -1};
    snprintf(error->reason, sizeof error->reason, "%s", strerror(w->failed));
    return OKO_E_IO;
}

/* Writes all n bytes, or remembers why not. */
static int write_all(struct oko_writer *w, const uint8_t *p, size_t n)
{
    while (n && !w->failed) {
        ssize_t done = write(w->fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            w->failed = done < 0 ? errno : ENOSPC;
            break;
        }
        p += done;
        n -= (size_t)done;
    }
    return w->failed ? OKO_E_IO : 0;
}

static int drain(struct oko_writer *w)
{
    int err = write_all(w, w->buffer, w->used);
    w->used = 0;
    return err;
}

/* n bytes at the end of the buffer, at most a record; NULL after a failure. */
static uint8_t *reserve(struct oko_writer *w, size_t n)
{
    if (w->failed || (BUFFER_SIZE - w->used < n && drain(w)))
        return NULL;
    w->used += n;
    return w->buffer + w->used - n;
}

static void put_record(const struct oko_writer *w, uint8_t *out, const struct oko_pkt *pkt)
{
    uint64_t ns = pkt->meta.rx_ns;
    /* What an action added or took away is added to or taken from what the wire carried. */
    int64_t wire_len = (int64_t)pkt->meta.wire_len + pkt->len - pkt->meta.len;
    if (wire_len < pkt->len)
        wire_len = pkt->len;
    uint32_t header[4] = {
        (uint32_t)(ns / 1000000000),
        (uint32_t)(ns % 1000000000 / (w->nanoseconds ? 1 : 1000)),
        pkt->len,
        wire_len > UINT32_MAX ? UINT32_MAX : (uint32_t)wire_len,
    };
    memcpy(out, header, sizeof header);
    memcpy(out + RECORD_HEADER, pkt->data, pkt->len);
}

/* ---------------------------------------------------------------- several workers */

static int append(const struct oko_writer *w, struct lane *lane, const struct oko_pkt *pkt)
{
    if (lane->failed)
        return OKO_E_NOMEM;
    struct entry entry = {.seq = pkt->seq, .size = RECORD_HEADER + pkt->len};
    size_t need = lane->used + sizeof entry + entry.size;
    if (need > lane->size) {
        size_t size = need * 2 + 65536;
        uint8_t *grown = realloc(lane->bytes, size);
        if (!grown) {
            lane->failed = ENOMEM;
            return OKO_E_NOMEM;
        }
        lane->bytes = grown;
        lane->size = size;
    }
    memcpy(lane->bytes + lane->used, &entry, sizeof entry);
    put_record(w, lane->bytes + lane->used + sizeof entry, pkt);
    lane->used = need;
    return 0;
}

int oko_writer_merge(struct oko_writer *w, struct oko_error *error)
{
    for (;;) {
        struct lane *first = NULL;
        struct entry best = {.seq = UINT64_MAX}, entry;
        for (uint32_t i = 0; w->lanes && i < w->n_lanes; i++) {
            struct lane *lane = &w->lanes[i];
            if (lane->next == lane->used)
                continue;
            memcpy(&entry, lane->bytes + lane->next, sizeof entry);
            if (!first || entry.seq < best.seq) {
                first = lane;
                best = entry;
            }
        }
        if (!first)
            break;
        uint8_t *out = reserve(w, best.size);
        if (!out)
            break;
        memcpy(out, first->bytes + first->next + sizeof best, best.size);
        first->next += sizeof best + best.size;
    }
    for (uint32_t i = 0; w->lanes && i < w->n_lanes; i++) {
        w->lanes[i].next = w->lanes[i].used = 0;
        if (!w->failed)
            w->failed = w->lanes[i].failed;
    }
    return w->failed ? io_error(w, error) : 0;
}

/* ---------------------------------------------------------------- the port */

int oko_writer_put(struct oko_writer *w, const struct oko_pkt *pkt)
{
    uint8_t *out = reserve(w, RECORD_HEADER + (size_t)pkt->len);
    if (!out)
        return OKO_E_IO;
    put_record(w, out, pkt);
    return 0;
}

static int pcap_tx(struct oko_port *port, uint32_t worker, const struct oko_pkt *pkt)
{
    struct oko_writer *w = port->ctx;

    if (w->lanes)
        return w->failed ? OKO_E_IO : append(w, &w->lanes[worker], pkt);
    return oko_writer_put(w, pkt);
}

static const struct oko_port_ops pcap_ops = {.name = "pcap", .tx = pcap_tx};

int oko_dp_port_add_pcap(struct oko_dp *dp, uint32_t number, const char *name,
                         struct oko_writer *writer)
{
    return oko_dp_port_attach(dp, number, name, &pcap_ops, writer);
}

int oko_writer_new(int fd, bool nanoseconds, uint32_t n_workers, struct oko_writer **writer,
                   struct oko_error *error)
{
    struct oko_writer *w = malloc(sizeof *w);
    *error = (struct oko_error){.insn = -1};
    if (!w)
        return OKO_E_NOMEM;
    memset(w, 0, offsetof(struct oko_writer, buffer));
    w->fd = fd;
    w->nanoseconds = nanoseconds;
    w->n_lanes = n_workers;
    if (n_workers > 1) {
        w->lanes = calloc(n_workers, sizeof *w->lanes);
        if (!w->lanes) {
            free(w);
            return OKO_E_NOMEM;
        }
    }
    uint32_t header[6] = {nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4, 2 | 4 << 16, 0, 0, SNAPLEN, 1};
    memcpy(reserve(w, HEADER_SIZE), header, HEADER_SIZE);
    if (drain(w)) { /* at once: a full disk is better known before the work */
        io_error(w, error);
        oko_writer_free(w);
        return OKO_E_IO;
    }
    *writer = w;
    return 0;
}

int oko_writer_flush(struct oko_writer *w, struct oko_error *error)
{
    int err = oko_writer_merge(w, error);
    if (!err && drain(w))
        err = io_error(w, error);
    return err;
}

void oko_writer_free(struct oko_writer *w)
{
    if (!w)
        return;
    for (uint32_t i = 0; w->lanes && i < w->n_lanes; i++)
        free(w->lanes[i].bytes);
    free(w->lanes);
    free(w);
}
