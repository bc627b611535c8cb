/* Sending: ordinary ports, the reserved ones, NORMAL, and packet-ins. */
#include "pipeline.h"

#include "queue.h"

#include <stdlib.h>
#include <string.h>

static uint32_t in_port_of(const struct oko_exec *x)
{
    const uint8_t *b = x->key->in_port;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* The port's flush is called once at the end of the burst. */
static void flush_later(struct oko_worker *w, struct oko_port *port)
{
    struct oko_port_counters *counters = &port->counters[w->index];
    if (counters->flush_burst == w->burst)
        return;
    counters->flush_burst = w->burst;
    if (w->n_flush == w->flush_cap) {
        uint32_t cap = w->flush_cap ? 2 * w->flush_cap : 16;
        struct oko_port **flush = realloc(w->flush, cap * sizeof *flush);
        if (!flush) { /* without memory: at once */
            port->ops->flush(port, w->index);
            counters->flush_burst = 0;
            return;
        }
        w->flush = flush;
        w->flush_cap = cap;
    }
    w->flush[w->n_flush++] = port;
}

/* The packet goes no further than to this port. */
static void lose(struct oko_exec *x, struct oko_port *port, struct oko_queue *queue,
                 enum oko_drop reason)
{
    uint32_t worker = x->worker->index;
    oko_count(&port->counters[worker].tx_dropped, 1);
    if (queue)
        oko_count(&queue->counters[worker].errors, 1);
    oko_drop_note(x, reason);
}

/* A copy of the packet as it is now leaves through a port, whatever its flags. */
static void send(struct oko_exec *x, struct oko_port *port)
{
    struct oko_worker *w = x->worker;
    struct oko_port_counters *counters = &port->counters[w->index];
    const struct oko_port_ops *ops = port->ops;
    if (__builtin_expect(w->dry, 0)) {
        x->n_out++;
        OKO_TRACE(w, OKO_TRACE_OUTPUT, x->depth, x->table, NULL, port->number, x->pkt->len);
        return;
    }
    /* What the wire would carry: as it came, plus or minus what actions added. */
    uint32_t wire = x->pkt->meta.wire_len + (x->pkt->len - x->pkt->pass_len);
    const struct oko_queues *queues = OKO_LOAD_ACQUIRE(&port->queues);
    struct oko_queue *queue = queues ? oko_queues_find(queues, x->pkt->queue) : NULL;
    if (queue && !oko_queue_admits(queue, x->pkt->meta.rx_ns, wire)) {
        lose(x, port, queue, OKO_DROP_QUEUE_RATE);
        return;
    }
    if (ops && ops->tx) {
        if (ops->flush)
            flush_later(w, port);
        if (ops->tx(port, w->index, x->pkt)) {
            lose(x, port, queue, OKO_DROP_TX_FAILED);
            return;
        }
    }
    oko_count(&counters->tx_packets, 1);
    oko_count(&counters->tx_bytes, wire);
    if (queue) {
        oko_count(&queue->counters[w->index].packets, 1);
        oko_count(&queue->counters[w->index].bytes, wire);
    }
    x->n_out++;
    OKO_TRACE(w, OKO_TRACE_OUTPUT, x->depth, x->table, NULL, port->number, x->pkt->len);
}

static bool forwards(const struct oko_port *port)
{
    return !(OKO_LOAD(&port->flags) & (OKO_PORT_DOWN | OKO_PORT_NO_FWD));
}

void oko_flush_out(struct oko_worker *w)
{
    if (!w->out_packets)
        return;
    struct oko_port_counters *counters = &w->out_port->counters[w->index];
    oko_count(&counters->tx_packets, w->out_packets);
    oko_count(&counters->tx_bytes, w->out_bytes);
    w->out_packets = w->out_bytes = 0;
}

void oko_find_out(struct oko_worker *w, uint32_t number)
{
    oko_flush_out(w);
    w->out_number = number;
    w->out_port = oko_set_find(w->view->ports, number);
    if (w->out_port && (!forwards(w->out_port) || (w->out_port->ops && w->out_port->ops->tx) ||
                        OKO_LOAD(&w->out_port->queues)))
        w->out_port = NULL;
}

/* As send(), cut to max_len bytes (0: whole). */
static void send_cut(struct oko_exec *x, struct oko_port *port, uint32_t max_len)
{
    struct oko_pkt *pkt = x->pkt;
    if (max_len == 0 || max_len >= pkt->len) {
        send(x, port);
        return;
    }
    uint32_t len = pkt->len, wire_len = pkt->meta.wire_len;
    pkt->len = max_len;
    pkt->meta.wire_len = pkt->pass_len; /* what is left is all there is */
    send(x, port);
    pkt->len = len;
    pkt->meta.wire_len = wire_len;
}

static void send_to(struct oko_exec *x, uint32_t number, uint32_t max_len)
{
    struct oko_port *port = oko_set_find(x->worker->view->ports, number);
    if (port && forwards(port))
        send_cut(x, port, max_len);
    else
        oko_drop_note(x, OKO_DROP_PORT);
}

/* To every port but the one where the packet came from. */
static void send_to_all(struct oko_exec *x, uint32_t without_flags, uint32_t max_len)
{
    const struct oko_set *ports = x->worker->view->ports;
    uint32_t in_port = in_port_of(x);
    bool any = false;
    for (uint32_t i = 0; i < ports->n; i++) {
        struct oko_port *port = ports->sorted[i].object;
        if (port->number == in_port || !forwards(port) || OKO_LOAD(&port->flags) & without_flags)
            continue;
        any = true;
        send_cut(x, port, max_len);
    }
    if (!any)
        oko_drop_note(x, OKO_DROP_PORT);
}

/* Addresses that bridges keep to themselves (IEEE 802.1D, table 7-10): 01-80-c2-00-00-0x. */
static bool is_link_local(const uint8_t *mac)
{
    static const uint8_t block[5] = {0x01, 0x80, 0xc2, 0x00, 0x00};
    return memcmp(mac, block, 5) == 0 && mac[5] < 0x10;
}

uint32_t oko_normal(struct oko_worker *w, const struct oko_key *key, uint32_t in_port,
                    uint64_t now_ns)
{
    struct oko_macs *macs = w->dp->macs;
    struct oko_last_normal *last = &w->last_normal;
    uint16_t vlan = (uint16_t)((key->vlan_vid[0] & 0x0f) << 8 | key->vlan_vid[1]);
    if (last->burst == w->burst && last->vlan == vlan && last->in_port == in_port &&
        now_ns < last->until_ns && memcmp(last->eth_src, key->eth_src, 6) == 0 &&
        memcmp(last->eth_dst, key->eth_dst, 6) == 0) {
        last->seen_ns = now_ns;
        return last->out;
    }
    oko_flush_normal(w);
    if (is_link_local(key->eth_dst))
        return 0;
    bool learns = !(key->eth_src[0] & 1) && !w->dry && oko_set_find(w->view->ports, in_port);
    if (learns)
        oko_macs_learn(macs, key->eth_src, vlan, in_port, now_ns);
    uint64_t until_ns = 0;
    uint32_t out =
        key->eth_dst[0] & 1 ? 0 : oko_macs_find(macs, key->eth_dst, vlan, now_ns, &until_ns);
    if (out && learns) {
        *last = (struct oko_last_normal){.burst = w->burst,
                                         .seen_ns = now_ns,
                                         .until_ns = until_ns,
                                         .in_port = in_port,
                                         .out = out,
                                         .vlan = vlan};
        memcpy(last->eth_src, key->eth_src, 6);
        memcpy(last->eth_dst, key->eth_dst, 6);
    }
    return out;
}

void oko_flush_normal(struct oko_worker *w)
{
    struct oko_last_normal *last = &w->last_normal;
    if (last->burst)
        oko_macs_learn(w->dp->macs, last->eth_src, last->vlan, last->in_port, last->seen_ns);
    last->burst = 0;
}

static void send_normal(struct oko_exec *x)
{
    uint32_t in_port = in_port_of(x);
    uint32_t out = oko_normal(x->worker, x->key, in_port, x->pkt->meta.rx_ns);
    if (is_link_local(x->key->eth_dst) || (out && out == in_port))
        oko_drop_note(x, OKO_DROP_NORMAL);
    else if (out)
        send_to(x, out, 0);
    else
        send_to_all(x, OKO_PORT_NO_FLOOD, 0);
}

void oko_packet_in(struct oko_exec *x, uint32_t max_len, uint16_t reason, uint32_t controller)
{
    struct oko_worker *w = x->worker;
    const struct oko_pkt *pkt = x->pkt;
    const struct oko_port *from = oko_set_find(w->view->ports, pkt->in_port);
    if (from && OKO_LOAD(&from->flags) & OKO_PORT_NO_PACKET_IN)
        return;
    uint32_t n = max_len < pkt->len ? max_len : pkt->len;
    struct oko_event event = {.type = OKO_EVENT_PACKET_IN,
                              .reason = reason,
                              .ns = pkt->meta.rx_ns,
                              .seq = pkt->seq,
                              .table = x->table,
                              .in_port = in_port_of(x),
                              .data_len = n,
                              .total_len = pkt->meta.wire_len + (pkt->len - pkt->pass_len),
                              .arg = controller};
    if (x->rule) {
        event.cookie = x->rule->cookie;
        event.flow_id = x->rule->id;
        event.priority = x->rule->priority;
    }
    if (x->packet_out)
        event.cookie = UINT64_MAX; /* OpenFlow 1.3, 7.4.1: no flow */
    uint64_t u64;
    memcpy(&u64, x->key->metadata, 8);
    event.metadata = __builtin_bswap64(u64);
    memcpy(&u64, x->key->tun_id, 8);
    event.tun_id = __builtin_bswap64(u64);
    uint32_t u32;
    memcpy(&u32, x->key->pkt_mark, 4);
    event.pkt_mark = __builtin_bswap32(u32);
    memcpy(event.regs, x->key->reg, sizeof event.regs);
    if (!w->dry)
        oko_ring_put(w->dp->events, &event, pkt->data);
    x->n_out++;
    OKO_TRACE(w, OKO_TRACE_CONTROLLER, x->depth, x->table, x->rule, n, reason);
}

void oko_miss(struct oko_exec *x)
{
    uint32_t max_len = OKO_LOAD(&x->worker->dp->miss_len);
    oko_drop_note(x, OKO_DROP_MISS);
    if (max_len)
        oko_packet_in(x, max_len, OKO_REASON_NO_MATCH, 0);
}

/* The table-miss flow (OpenFlow 1.3, 5.4): lowest priority, matches everything. */
static bool is_table_miss(const struct oko_rule *rule)
{
    return rule && rule->priority == 0 && rule->n_match == 0 && rule->slot == 0;
}

void oko_output(struct oko_exec *x, uint32_t port, uint32_t max_len)
{
    switch (port) {
    case OKO_PORT_IN_PORT:
        send_to(x, in_port_of(x), max_len);
        break;
    case OKO_PORT_NORMAL:
        send_normal(x);
        break;
    case OKO_PORT_FLOOD:
        send_to_all(x, OKO_PORT_NO_FLOOD, max_len);
        break;
    case OKO_PORT_ALL:
        send_to_all(x, 0, max_len);
        break;
    case OKO_PORT_CONTROLLER:
        oko_packet_in(x, max_len, is_table_miss(x->rule) ? OKO_REASON_NO_MATCH : OKO_REASON_ACTION,
                      0);
        break;
    default:
        if (port == in_port_of(x))
            oko_drop_note(x, OKO_DROP_IN_PORT);
        else
            send_to(x, port, max_len);
    }
}
