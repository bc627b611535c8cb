/* Ports on network devices: packet sockets (packet(7)).
 *
 * One raw socket per port, in promiscuous mode, receives what arrives at the device and sends by
 * it. The kernel hands over frames as the sender made them: without the VLAN tag (it comes beside
 * the frame and is put back here), and with checksums or segmentation left to the hardware (a
 * struct virtio_net_hdr says so; offload.h does it).
 *
 * Thread-safety: rx by the port's forwarding thread; tx by any worker: a send is one system call.
 * What the socket's buffer had no room for is in rx_dropped. */
#include "dp.h"

#include "base/be.h"
#include "base/err.h"
#include "offload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVE_BUFFER = 8 << 20, STATS_EVERY = 1024 };

struct afpacket {
    int fd;
    bool vnet; /* frames come and go with a struct virtio_net_hdr */
    uint32_t rounds;
    struct oko_gso gso; /* large frame being cut up, if gso.frame */
    uint8_t *large;     /* it; NULL before the first */
};

/* ---------------------------------------------------------------- receiving */

/* The VLAN tag that the kernel took off, back in front of the Ethernet type. */
static void restore_tag(struct oko_rx *rx, uint32_t i, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        struct tpacket_auxdata aux;
        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
            continue;
        memcpy(&aux, CMSG_DATA(c), sizeof aux);
        if (!(aux.tp_status & TP_STATUS_VLAN_VALID) || rx->len[i] < 12)
            continue;
        uint16_t tpid = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : 0x8100;
        uint8_t *data = rx->data[i] -= 4;
        memmove(data, data + 4, 12);
        oko_put_be16(data + 12, tpid);
        oko_put_be16(data + 14, aux.tp_vlan_tci);
        rx->len[i] += 4;
    }
}

/* Segments of the large frame at hand, from slot n on; returns the next free slot. */
static uint32_t cut_up(struct afpacket *p, struct oko_rx *rx, uint32_t n)
{
    while (p->gso.frame && n < OKO_BURST) {
        rx->data[n] = rx->buffer[n] + OKO_RX_ROOM;
        rx->len[n] = oko_gso_next(&p->gso, rx->data[n], OKO_FRAME_MAX);
        if (rx->len[n])
            n++;
        else
            p->gso.frame = NULL;
    }
    return n;
}

/* What is left to do to frame n, received with this header; returns the next free slot. */
static uint32_t complete(struct afpacket *p, struct oko_port *port, struct oko_rx *rx, uint32_t n,
                         const struct virtio_net_hdr *hdr, uint32_t tag)
{
    uint8_t *data = rx->data[n];
    uint32_t len = rx->len[n], kind = hdr->gso_type & 0x7f; /* without _ECN */
    if (!(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return n + 1;
    if (kind == VIRTIO_NET_HDR_GSO_NONE) {
        if (len <= OKO_FRAME_MAX)
            oko_offload_checksum(data, len, hdr->csum_start + tag, hdr->csum_offset);
        return n + 1;
    }
    if (!p->large)
        p->large = malloc(OKO_RX_BUFFER);
    bool good = p->large && len <= OKO_RX_BUFFER - OKO_RX_ROOM;
    if (good) {
        memcpy(p->large, data, len);
        good = oko_gso_begin(&p->gso, p->large, len, hdr->csum_start + tag, hdr->gso_size,
                             kind == VIRTIO_NET_HDR_GSO_TCPV4   ? OKO_GSO_TCP4
                             : kind == VIRTIO_NET_HDR_GSO_TCPV6 ? OKO_GSO_TCP6
                                                                : OKO_GSO_UDP);
    }
    if (!good) {
        p->gso.frame = NULL;
        oko_count(&port->rx_dropped, 1);
    }
    return cut_up(p, rx, n);
}

/* Frames that the socket had no room for; asking sets the kernel's count back. */
static void count_lost(struct afpacket *p, struct oko_port *port)
{
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;
    if (!getsockopt(p->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) && stats.tp_drops)
        oko_count(&port->rx_dropped, stats.tp_drops);
}

static uint32_t afpacket_rx(struct oko_port *port, struct oko_rx *rx, uint64_t now_ns)
{
    struct afpacket *p = port->ctx;
    (void)now_ns;
    uint32_t n = cut_up(p, rx, 0);
    if (++p->rounds % STATS_EVERY == 0)
        count_lost(p, port);
    while (n < OKO_BURST && !p->gso.frame) {
        struct virtio_net_hdr hdr = {0};
        struct sockaddr_ll from;
        _Alignas(8) char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
        uint32_t header = p->vnet ? sizeof hdr : 0;
        struct iovec parts[2] = {{&hdr, header},
                                 {rx->buffer[n] + OKO_RX_ROOM, OKO_RX_BUFFER - OKO_RX_ROOM}};
        struct msghdr msg = {.msg_name = &from,
                             .msg_namelen = sizeof from,
                             .msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
        ssize_t got = recvmsg(p->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
        if (got < (ssize_t)header)
            break; /* nothing there, or the device is down */
        if (from.sll_pkttype == PACKET_OUTGOING)
            continue; /* what others on this host send by the device */
        rx->data[n] = rx->buffer[n] + OKO_RX_ROOM;
        rx->len[n] = (uint32_t)got - header;
        restore_tag(rx, n, &msg);
        uint32_t tag = (uint32_t)(rx->buffer[n] + OKO_RX_ROOM - rx->data[n]);
        n = complete(p, port, rx, n, &hdr, tag);
    }
    return n;
}

static int afpacket_fd(struct oko_port *port)
{
    return ((struct afpacket *)port->ctx)->fd;
}

static uint64_t afpacket_due(struct oko_port *port)
{
    return ((struct afpacket *)port->ctx)->gso.frame ? 0 : OKO_NEVER;
}

/* ---------------------------------------------------------------- sending */

static int afpacket_tx(struct oko_port *port, uint32_t worker, const struct oko_pkt *pkt)
{
    struct afpacket *p = port->ctx;
    (void)worker;
    struct virtio_net_hdr hdr = {0};
    struct iovec parts[2] = {{&hdr, p->vnet ? sizeof hdr : 0}, {pkt->data, pkt->len}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(p->fd, &msg, MSG_DONTWAIT) < 0 ? OKO_E_IO : 0;
}

/* ---------------------------------------------------------------- life */

static void free_afpacket(struct afpacket *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->large);
    free(p);
}

static void afpacket_close(struct oko_port *port)
{
    free_afpacket(port->ctx);
}

static const struct oko_port_ops afpacket_ops = {.name = "afpacket",
                                                 .rx = afpacket_rx,
                                                 .fd = afpacket_fd,
                                                 .due_ns = afpacket_due,
                                                 .tx = afpacket_tx,
                                                 .close = afpacket_close};

/* Opens and binds the socket; errno on failure. */
static int open_socket(struct afpacket *p, unsigned int device)
{
    int one = 1, size = RECEIVE_BUFFER;
    p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0)
        return errno;
    p->vnet = !setsockopt(p->fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one);
    /* Older kernels lack it; then what goes out is told by its type. */
    setsockopt(p->fd, SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, &one, sizeof one);
    if (setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    struct packet_mreq promiscuous = {.mr_ifindex = (int)device, .mr_type = PACKET_MR_PROMISC};
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)device};
    if (setsockopt(p->fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) ||
        setsockopt(p->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) ||
        bind(p->fd, (struct sockaddr *)&to, sizeof to))
        return errno;
    return 0;
}

int oko_dp_port_add_afpacket(struct oko_dp *dp, uint32_t number, const char *name,
                             const char *device, struct oko_error *error)
{
    oko_err_clear(error);
    unsigned int index = if_nametoindex(device);
    struct afpacket *p = calloc(1, sizeof *p);
    if (!p)
        return oko_err(error, OKO_E_NOMEM, "port %u: out of memory", number);
    p->fd = -1;
    int cause = index ? open_socket(p, index) : errno;
    if (cause) {
        free_afpacket(p);
        oko_err(error, OKO_E_IO, "port %u: device %s: %s", number, device, strerror(cause));
        if (error)
            error->sys_errno = cause;
        return OKO_E_IO;
    }
    int rc = oko_dp_port_attach(dp, number, name, &afpacket_ops, p);
    return rc ? oko_err(error, rc, "port %u: there is one already, or it is no port number", number)
              : 0;
}
