/* Checksums and segmentation in software; see offload.h. RFC 791, 9293, 8200, 768, 1071. */
#include "offload.h"

#include "base/be.h"
#include "checksum.h"
#include "parse.h"

#include <string.h>

enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };

bool oko_offload_checksum(uint8_t *frame, uint32_t len, uint32_t start, uint32_t offset)
{
    if (start >= len || offset + 2 > len - start)
        return false;
    uint16_t sum = (uint16_t)~oko_sum(frame + start, len - start);
    if (sum == 0 && offset == 6) /* UDP: zero would say that there is none */
        sum = 0xffff;
    oko_put_be16(frame + start + offset, sum);
    return true;
}

bool oko_gso_begin(struct oko_gso *gso, const uint8_t *frame, uint32_t len, uint32_t l4,
                   uint32_t size, enum oko_gso_kind kind)
{
    struct oko_l2 l2;
    bool tcp = kind != OKO_GSO_UDP;
    if (!oko_l2_walk(frame, len, &l2) || l2.payload + 20 > l4 || l4 + (tcp ? 20u : 8u) > len ||
        !size)
        return false;
    bool v4 = l2.eth_type == OKO_ETH_TYPE_IPV4;
    if ((!v4 && l2.eth_type != OKO_ETH_TYPE_IPV6) || (kind == OKO_GSO_TCP4 && !v4) ||
        (kind == OKO_GSO_TCP6 && v4) || (!v4 && l2.payload + 40 > l4))
        return false;
    uint32_t headers = l4 + (tcp ? (uint32_t)(frame[l4 + 12] >> 4) * 4 : 8);
    if (headers < l4 + 8 || headers >= len)
        return false;
    *gso = (struct oko_gso){.frame = frame,
                            .len = len,
                            .l3 = l2.payload,
                            .l4 = l4,
                            .headers = headers,
                            .size = size,
                            .kind = kind};
    return true;
}

/* The sum of a pseudo-header: addresses, protocol, length of what it covers. */
static uint16_t pseudo_sum(const uint8_t *ip, bool v4, uint8_t proto, uint32_t len)
{
    uint8_t tail[4] = {0, proto, (uint8_t)(len >> 8), (uint8_t)len};
    uint32_t sum = v4 ? oko_sum(ip + 12, 8) : oko_sum(ip + 8, 32);
    sum += oko_sum(tail, 4);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

uint32_t oko_gso_next(struct oko_gso *gso, uint8_t *out, uint32_t room)
{
    uint32_t left = gso->len - gso->headers - gso->at;
    uint32_t payload = left < gso->size ? left : gso->size, len = gso->headers + payload;
    bool tcp = gso->kind != OKO_GSO_UDP, v4 = gso->frame[gso->l3] >> 4 == 4;
    if (!left || len > room)
        return 0;
    memcpy(out, gso->frame, gso->headers);
    memcpy(out + gso->headers, gso->frame + gso->headers + gso->at, payload);
    uint8_t *ip = out + gso->l3, *l4 = out + gso->l4;
    uint32_t l4_len = len - gso->l4;
    if (v4) {
        uint32_t ip_len = (uint32_t)(ip[0] & 15) * 4;
        oko_put_be16(ip + 2, (uint16_t)(len - gso->l3));
        oko_put_be16(ip + 4, (uint16_t)(oko_be16(ip + 4) + gso->n));
        oko_put_be16(ip + 10, 0);
        if (ip_len >= 20 && gso->l3 + ip_len <= gso->l4)
            oko_put_be16(ip + 10, (uint16_t)~oko_sum(ip, ip_len));
    } else {
        oko_put_be16(ip + 4, (uint16_t)(len - gso->l3 - 40));
    }
    uint32_t csum = 6;
    if (tcp) {
        csum = 16;
        oko_put_be32(l4 + 4, oko_be32(l4 + 4) + gso->at);
        if (payload < left)
            l4[13] = (uint8_t)(l4[13] & ~(TCP_FIN | TCP_PSH));
        if (gso->n)
            l4[13] = (uint8_t)(l4[13] & ~TCP_CWR);
    } else {
        oko_put_be16(l4 + 4, (uint16_t)l4_len);
    }
    oko_put_be16(l4 + csum, pseudo_sum(ip, v4, tcp ? OKO_IP_PROTO_TCP : OKO_IP_PROTO_UDP, l4_len));
    oko_offload_checksum(out, len, gso->l4, csum);
    gso->at += payload;
    gso->n++;
    return len;
}
