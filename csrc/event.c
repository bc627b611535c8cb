/* The event ring; see event.h. Records are multiples of 8 bytes and so is the ring; one may wrap
 * around its end. */
#include "event.h"

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/bits.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct oko_ring {
    pthread_mutex_t mutex;
    uint8_t *bytes;
    uint64_t size;
    uint64_t head, tail; /* atomic: written and read so far, in bytes, never wrapped */
    uint64_t lost;
    int fd;
};

int oko_ring_new(uint64_t size, struct oko_ring **out)
{
    struct oko_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return OKO_E_NOMEM;
    ring->fd = -1;
    ring->size = oko_round_up(size, 8);
    ring->bytes = oko_alloc(ring->size);
    if (ring->bytes)
        ring->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ring->fd < 0 || pthread_mutex_init(&ring->mutex, NULL)) {
        if (ring->fd >= 0)
            close(ring->fd);
        oko_release(ring->bytes, ring->size);
        free(ring);
        return OKO_E_NOMEM;
    }
    *out = ring;
    return 0;
}

void oko_ring_free(struct oko_ring *ring)
{
    if (!ring)
        return;
    close(ring->fd);
    pthread_mutex_destroy(&ring->mutex);
    oko_release(ring->bytes, ring->size);
    free(ring);
}

void oko_ring_wake(const struct oko_ring *ring)
{
    eventfd_write(ring->fd, 1);
}

int oko_ring_fd(const struct oko_ring *ring)
{
    return ring->fd;
}

static void copy_in(struct oko_ring *ring, uint64_t at, const void *from, uint64_t n)
{
    uint64_t start = at % ring->size, first = ring->size - start;
    if (first > n)
        first = n;
    memcpy(ring->bytes + start, from, first);
    memcpy(ring->bytes, (const uint8_t *)from + first, n - first);
}

static void copy_out(const struct oko_ring *ring, uint64_t at, void *to, uint64_t n)
{
    uint64_t start = at % ring->size, first = ring->size - start;
    if (first > n)
        first = n;
    memcpy(to, ring->bytes + start, first);
    memcpy((uint8_t *)to + first, ring->bytes, n - first);
}

void oko_ring_put(struct oko_ring *ring, struct oko_event *event, const void *data)
{
    static const uint8_t zeroes[8];
    uint64_t size = sizeof *event + oko_round_up(event->data_len, 8);
    event->size = (uint32_t)size;
    bool was_empty = false, fits;
    pthread_mutex_lock(&ring->mutex);
    fits = size <= ring->size - (ring->head - ring->tail);
    if (fits) {
        was_empty = ring->head == ring->tail;
        copy_in(ring, ring->head, event, sizeof *event);
        if (event->data_len) {
            copy_in(ring, ring->head + sizeof *event, data, event->data_len);
            copy_in(ring, ring->head + sizeof *event + event->data_len, zeroes,
                    size - sizeof *event - event->data_len);
        }
        OKO_STORE(&ring->head, ring->head + size);
    } else {
        ring->lost++;
    }
    pthread_mutex_unlock(&ring->mutex);
    if (was_empty)
        eventfd_write(ring->fd, 1); /* full: it is readable already */
}

int64_t oko_ring_take(struct oko_ring *ring, uint8_t *out, uint64_t size, uint64_t *lost)
{
    uint64_t used = 0;
    pthread_mutex_lock(&ring->mutex);
    while (ring->tail != ring->head) {
        struct oko_event event;
        copy_out(ring, ring->tail, &event, sizeof event);
        if (event.size > size - used)
            break;
        copy_out(ring, ring->tail, out + used, event.size);
        used += event.size;
        OKO_STORE(&ring->tail, ring->tail + event.size);
    }
    if (lost)
        *lost = ring->lost;
    pthread_mutex_unlock(&ring->mutex);
    return (int64_t)used;
}

bool oko_ring_half_full(const struct oko_ring *ring)
{
    return OKO_LOAD(&ring->head) - OKO_LOAD(&ring->tail) >= ring->size / 2;
}
