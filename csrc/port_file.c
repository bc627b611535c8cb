/* Live ports on capture files: a host that says what it said once, and a record of what it is told.
 *
 * Packets come in when they are due: as long after the first look as they came after the capture's
 * first packet, divided by the speed. Times that run back count as no time. What leaves is written
 * with the time of the packet that it came from (port_pcap.h), and is in the file after each burst.
 *
 * Fails safely: a capture that breaks off just ends; a file that cannot be written refuses packets,
 * which are counted as not sent.
 *
 * Thread-safety: rx by the port's forwarding thread; tx by any worker, under a mutex. */
#include "dp.h"

#include "base/err.h"
#include "port_pcap.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file {
    int read_fd, write_fd;
    struct oko_capture *capture; /* NULL: nothing more comes */
    struct oko_record record;    /* the next one, if pending */
    bool pending, loop;
    double speed;
    uint64_t base_ns;    /* live clock when this round began; 0 = not yet */
    uint64_t last_ns;    /* the capture's clock */
    uint64_t elapsed_ns; /* of the capture since its first packet */
    bool started;        /* this round has had a packet */
    pthread_mutex_t mutex;
    struct oko_writer *writer; /* NULL: only counts */
};

/* ---------------------------------------------------------------- receiving */

static void end_round(struct file *f)
{
    struct oko_error error; /* a capture that breaks off just ends */
    bool again = f->loop && f->started;
    oko_capture_close(f->capture);
    f->capture = NULL;
    f->started = false;
    f->base_ns = 0;
    if (again && lseek(f->read_fd, 0, SEEK_SET) == 0 &&
        oko_capture_open(f->read_fd, 0, &f->capture, &error))
        f->capture = NULL;
}

/* Makes the next record pending; false: there is none now. */
static bool look_ahead(struct file *f)
{
    struct oko_error error;
    while (!f->pending && f->capture) {
        int got = oko_capture_next(f->capture, &f->record, &error);
        if (got == OKO_CAPTURE_REFILL) {
            int err = oko_capture_refill(f->capture, &error);
            if (!err)
                continue;
            if (err == OKO_E_BUSY) /* a pipe that has nothing now */
                return false;
        }
        if (got != OKO_CAPTURE_RECORD) {
            end_round(f);
            return false; /* the next round begins with the next look */
        }
        if (f->started && f->record.ns > f->last_ns)
            f->elapsed_ns += f->record.ns - f->last_ns;
        else if (!f->started)
            f->elapsed_ns = 0;
        f->started = f->pending = true;
        f->last_ns = f->record.ns;
    }
    return f->pending;
}

static uint64_t due(const struct file *f)
{
    return f->base_ns + (f->speed > 0 ? (uint64_t)((double)f->elapsed_ns / f->speed) : 0);
}

static uint32_t file_rx(struct oko_port *port, struct oko_rx *rx, uint64_t now_ns)
{
    struct file *f = port->ctx;
    uint32_t n = 0;
    if (!f->base_ns)
        f->base_ns = now_ns;
    while (n < OKO_BURST && look_ahead(f) && due(f) <= now_ns) {
        rx->data[n] = rx->buffer[n] + OKO_RX_ROOM;
        rx->len[n] = f->record.data ? f->record.len : OKO_FRAME_MAX + 1;
        if (f->record.data)
            memcpy(rx->data[n], f->record.data, f->record.len);
        f->pending = false;
        n++;
    }
    return n;
}

static int file_fd(struct oko_port *port)
{
    (void)port;
    return -1;
}

static uint64_t file_due(struct oko_port *port)
{
    const struct file *f = port->ctx;
    if (f->pending)
        return due(f);
    return f->capture ? 0 : OKO_NEVER;
}

/* ---------------------------------------------------------------- sending */

static int file_tx(struct oko_port *port, uint32_t worker, const struct oko_pkt *pkt)
{
    struct file *f = port->ctx;
    (void)worker;
    if (!f->writer)
        return 0;
    pthread_mutex_lock(&f->mutex);
    int rc = oko_writer_put(f->writer, pkt);
    pthread_mutex_unlock(&f->mutex);
    return rc;
}

static void file_flush(struct oko_port *port, uint32_t worker)
{
    struct file *f = port->ctx;
    struct oko_error error; /* tx says so, too */
    (void)worker;
    if (!f->writer)
        return;
    pthread_mutex_lock(&f->mutex);
    oko_writer_flush(f->writer, &error);
    pthread_mutex_unlock(&f->mutex);
}

/* ---------------------------------------------------------------- life */

static void free_file(struct file *f)
{
    oko_capture_close(f->capture);
    oko_writer_free(f->writer);
    if (f->read_fd >= 0)
        close(f->read_fd);
    if (f->write_fd >= 0)
        close(f->write_fd);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}

static void file_close(struct oko_port *port)
{
    file_flush(port, 0);
    free_file(port->ctx);
}

static const struct oko_port_ops file_ops = {.name = "pcap",
                                             .rx = file_rx,
                                             .fd = file_fd,
                                             .due_ns = file_due,
                                             .tx = file_tx,
                                             .flush = file_flush,
                                             .close = file_close};

int oko_dp_port_add_file(struct oko_dp *dp, uint32_t number, const char *name, int read_fd,
                         int write_fd, double speed, bool loop, struct oko_error *error)
{
    struct file *f = calloc(1, sizeof *f);
    struct oko_error own;
    if (!error)
        error = &own;
    oko_err_clear(error);
    if (!f || pthread_mutex_init(&f->mutex, NULL)) {
        free(f);
        if (read_fd >= 0)
            close(read_fd);
        if (write_fd >= 0)
            close(write_fd);
        return oko_err(error, OKO_E_NOMEM, "port %u: out of memory", number);
    }
    f->read_fd = read_fd;
    f->write_fd = write_fd;
    f->speed = speed;
    f->loop = loop;
    int rc = read_fd >= 0 ? oko_capture_open(read_fd, 0, &f->capture, error) : 0;
    if (!rc && write_fd >= 0)
        rc = oko_writer_new(write_fd, true, 1, &f->writer, error);
    if (rc) {
        free_file(f);
        return rc;
    }
    rc = oko_dp_port_attach(dp, number, name, &file_ops, f);
    return rc ? oko_err(error, rc, "port %u: there is one already, or it is no port number", number)
              : 0;
}
