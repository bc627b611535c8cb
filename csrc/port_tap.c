/* Ports on TAP devices: the other end is the host's network stack (or a virtual machine).
 *
 * The kernel hands over and takes whole frames, checksums complete, by read and write on one file
 * descriptor. A device that this creates goes when the port does.
 *
 * Thread-safety: rx by the port's forwarding thread; tx by any worker: a write is one frame. */
#include "dp.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct tap {
    int fd;
};

static uint32_t tap_rx(struct oko_port *port, struct oko_rx *rx, uint64_t now_ns)
{
    const struct tap *tap = port->ctx;
    (void)now_ns;
    uint32_t n = 0;
    for (; n < OKO_BURST; n++) {
        rx->data[n] = rx->buffer[n] + OKO_RX_ROOM;
        ssize_t got = read(tap->fd, rx->data[n], OKO_RX_BUFFER - OKO_RX_ROOM);
        if (got <= 0)
            break;
        rx->len[n] = (uint32_t)got;
    }
    return n;
}

static int tap_fd(struct oko_port *port)
{
    return ((const struct tap *)port->ctx)->fd;
}

static int tap_tx(struct oko_port *port, uint32_t worker, const struct oko_pkt *pkt)
{
    const struct tap *tap = port->ctx;
    (void)worker;
    return write(tap->fd, pkt->data, pkt->len) < 0 ? OKO_E_IO : 0;
}

static void tap_close(struct oko_port *port)
{
    struct tap *tap = port->ctx;
    close(tap->fd);
    free(tap);
}

static const struct oko_port_ops tap_ops = {
    .name = "tap", .rx = tap_rx, .fd = tap_fd, .tx = tap_tx, .close = tap_close};
static const struct oko_port_ops internal_ops = {
    .name = "internal", .rx = tap_rx, .fd = tap_fd, .tx = tap_tx, .close = tap_close};

/* errno, or 0. */
static int set_up(const struct ifreq *device)
{
    struct ifreq request = *device;
    int cause = 0, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    if (ioctl(fd, SIOCGIFFLAGS, &request))
        cause = errno;
    request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
    if (!cause && ioctl(fd, SIOCSIFFLAGS, &request))
        cause = errno;
    close(fd);
    return cause;
}

int oko_dp_port_add_tap(struct oko_dp *dp, uint32_t number, const char *name, const char *device,
                        bool internal, struct oko_error *error)
{
    oko_err_clear(error);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    if (strlen(device) >= sizeof request.ifr_name)
        return oko_err(error, OKO_E_INVAL, "port %u: device name %s is longer than %zu bytes",
                       number, device, sizeof request.ifr_name - 1);
    strcpy(request.ifr_name, device);
    struct tap *tap = malloc(sizeof *tap);
    if (!tap)
        return oko_err(error, OKO_E_NOMEM, "port %u: out of memory", number);
    int cause = 0;
    tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tap->fd < 0 || ioctl(tap->fd, TUNSETIFF, &request))
        cause = errno;
    if (!cause && internal)
        cause = set_up(&request);
    if (cause) {
        if (tap->fd >= 0)
            close(tap->fd);
        free(tap);
        oko_err(error, OKO_E_IO, "port %u: TAP device %s: %s", number, device, strerror(cause));
        if (error)
            error->sys_errno = cause;
        return OKO_E_IO;
    }
    int rc = oko_dp_port_attach(dp, number, name, internal ? &internal_ops : &tap_ops, tap);
    return rc ? oko_err(error, rc, "port %u: there is one already, or it is no port number", number)
              : 0;
}
