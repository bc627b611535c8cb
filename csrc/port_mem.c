/* A port that keeps what leaves through it in memory, for tests and for Python.
 *
 * Records (struct oko_mem_frame and the frame) are appended to one growing block under a mutex;
 * beyond max_bytes a packet is refused, and so counted as dropped. */
#include "dp.h"

#include "base/bits.h"

#include <stdlib.h>
#include <string.h>

struct mem {
    pthread_mutex_t mutex;
    uint8_t *bytes;
    uint64_t start, end, cap, max; /* bytes: read, written, allocated, allowed */
};

/* Room for n more bytes at the end. */
static bool make_room(struct mem *mem, uint64_t n)
{
    uint64_t kept = mem->end - mem->start;
    if (kept + n > mem->max)
        return false;
    if (mem->end + n <= mem->cap)
        return true;
    if (mem->bytes && mem->start >= kept) { /* cheap enough: move what is kept to the front */
        memmove(mem->bytes, mem->bytes + mem->start, kept);
        mem->start = 0;
        mem->end = kept;
        if (kept + n <= mem->cap)
            return true;
    }
    uint64_t cap = 2 * (mem->end + n);
    uint8_t *bytes = realloc(mem->bytes, cap);
    if (!bytes)
        return false;
    mem->bytes = bytes;
    mem->cap = cap;
    return true;
}

static int mem_tx(struct oko_port *port, uint32_t worker, const struct oko_pkt *pkt)
{
    (void)worker;
    struct mem *mem = port->ctx;
    uint64_t padded = oko_round_up(pkt->len, 8);
    struct oko_mem_frame head = {.seq = pkt->seq,
                                 .ns = pkt->meta.rx_ns,
                                 .len = pkt->len,
                                 .wire_len = pkt->meta.wire_len + (pkt->len - pkt->pass_len)};
    pthread_mutex_lock(&mem->mutex);
    bool fits = make_room(mem, sizeof head + padded);
    if (fits) {
        uint8_t *at = mem->bytes + mem->end;
        memcpy(at, &head, sizeof head);
        memcpy(at + sizeof head, pkt->data, pkt->len);
        memset(at + sizeof head + pkt->len, 0, padded - pkt->len);
        mem->end += sizeof head + padded;
    }
    pthread_mutex_unlock(&mem->mutex);
    return fits ? 0 : OKO_E_FULL;
}

static void mem_close(struct oko_port *port)
{
    struct mem *mem = port->ctx;
    pthread_mutex_destroy(&mem->mutex);
    free(mem->bytes);
    free(mem);
}

static const struct oko_port_ops mem_ops = {.name = "mem", .tx = mem_tx, .close = mem_close};

int oko_dp_port_add_mem(struct oko_dp *dp, uint32_t number, const char *name, uint64_t max_bytes)
{
    struct mem *mem = calloc(1, sizeof *mem);
    if (!mem || pthread_mutex_init(&mem->mutex, NULL)) {
        free(mem);
        return OKO_E_NOMEM;
    }
    mem->max = max_bytes;
    return oko_dp_port_attach(dp, number, name, &mem_ops, mem);
}

int64_t oko_dp_mem_read(struct oko_dp *dp, uint32_t number, uint8_t *out, uint64_t size)
{
    int64_t rc = OKO_E_NOTFOUND;
    oko_dp_lock(dp); /* the port stays */
    struct oko_port *port = oko_set_find(dp->view->ports, number);
    if (port && port->ops == &mem_ops) {
        struct mem *mem = port->ctx;
        pthread_mutex_lock(&mem->mutex);
        uint64_t used = 0;
        while (mem->start < mem->end) {
            struct oko_mem_frame head;
            memcpy(&head, mem->bytes + mem->start, sizeof head);
            uint64_t n = sizeof head + oko_round_up(head.len, 8);
            if (n > size - used)
                break;
            memcpy(out + used, mem->bytes + mem->start, n);
            used += n;
            mem->start += n;
        }
        rc = (int64_t)used;
        pthread_mutex_unlock(&mem->mutex);
    }
    oko_dp_unlock(dp);
    return rc;
}
