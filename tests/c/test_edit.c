/* Edits keep key, offsets and checksums in step with the frame, change what they should and
 * nothing else; pushes and pops undo each other. On every frame shape of frames.h. */
#include "edits.h"
#include "frames.h"

#include "checksum.h"

static struct shape shapes[MAX_SHAPES];
static uint32_t n_shapes;
static const uint8_t ones[16] = {255, 255, 255, 255, 255, 255, 255, 255,
                                 255, 255, 255, 255, 255, 255, 255, 255};

/* A frame in a pool buffer, parsed. */
static void start(struct oko_pool *pool, const struct shape *s, struct oko_pkt *pkt,
                  struct oko_key *key)
{
    *pkt = (struct oko_pkt){.data = (uint8_t *)(uintptr_t)s->bytes, .len = s->len, .in_port = 3};
    CHECK(oko_pkt_writable(pkt, pool) == 0 && pkt->owned);
    oko_parse(pkt, OKO_LAYER_L4, key);
}

static void random_bytes(uint64_t *seed, uint8_t out[16])
{
    for (int i = 0; i < 16; i += 8) {
        uint64_t r = next_random(seed);
        memcpy(out + i, &r, 8);
    }
}

/* Sum over the pseudo header's addresses and the transport checksum: constant under any right
 * change of an address, verifiable also in a first fragment. */
static uint32_t invariant(uint8_t *data, uint32_t len, bool *known)
{
    struct transport t;
    *known = false;
    if (!find_transport(data, len, &t) || t.routed)
        return 0;
    struct oko_pkt pkt = {.data = data, .len = len};
    struct oko_key key;
    oko_parse(&pkt, OKO_LAYER_L4, &key);
    uint32_t at = t.proto == 6 ? 16 : t.proto == 17 ? 6 : t.proto == 58 && t.v6 ? 2 : 0;
    if (!at || key.ip_frag[0] & OKO_FRAG_LATER || oko_be16(t.p + at) == 0)
        return 0;
    *known = true;
    uint32_t sum = t.v6 ? sum_bytes(t.ip + 8, 32, 0) : sum_bytes(t.ip + 12, 8, 0);
    return sum_bytes(t.p + at, 2, sum) % 0xffff;
}

static void check_checksums(const struct shape *s, struct oko_pkt *pkt)
{
    uint32_t ip, l4;
    checksum_errors(pkt->data, pkt->len, &ip, &l4);
    if (ip || l4) {
        fprintf(stderr, "%s: checksum wrong by %x (IP), %x (L4)\n", s->name, ip, l4);
        exit(1);
    }
}

/* Each field alone: set to random bits under a random mask. */
static void test_set_field(struct oko_pool *pool)
{
    uint64_t seed = 7;
    uint32_t n_set[OKO_N_FIELDS] = {0};

    for (uint32_t i = 0; i < 8 * n_shapes; i++)
        for (uint32_t field = 0; field < OKO_N_FIELDS; field++) {
            struct shape *s = &shapes[i % n_shapes];
            const struct oko_field *f = oko_field(field);
            struct oko_pkt pkt;
            struct oko_key before, key;
            struct transport t;
            uint8_t value[16] = {0}, mask[16] = {0}, random[16], old[16], want[16], got[16];
            bool known;

            start(pool, s, &pkt, &key);
            before = key;
            random_bytes(&seed, random);
            memcpy(mask, random, f->size);
            if (next_random(&seed) & 1)
                memset(mask, 255, f->size);
            mask[0] &= (uint8_t)(f->bits % 8 ? (1u << f->bits % 8) - 1 : 255);
            random_bytes(&seed, random);
            for (int j = 0; j < 16; j++)
                value[j] = random[j] & mask[j];
            oko_key_get_bits(&key, field, 0, f->bits, old);
            uint32_t sum = invariant(pkt.data, pkt.len, &known);
            bool routed = find_transport(pkt.data, pkt.len, &t) && t.routed;

            int err = oko_edit_set_field(&pkt, &key, field, value, mask);
            CHECK(err == 0 || err == OKO_E_UNSUP);
            CHECK(in_step(&pkt, &key));
            bool changed =
                memcmp(&key, &before, sizeof key) != 0 || memcmp(pkt.data, s->bytes, s->len) != 0;
            CHECK(!(err && changed));
            if (!(routed && field == OKO_FIELD_IPV6_DST))
                check_checksums(s, &pkt);
            bool known_after;
            uint32_t sum_after = invariant(pkt.data, pkt.len, &known_after);
            if (known && known_after &&
                (field == OKO_FIELD_IPV4_SRC || field == OKO_FIELD_IPV4_DST ||
                 field == OKO_FIELD_IPV6_SRC || field == OKO_FIELD_IPV6_DST))
                CHECK(sum == sum_after);

            /* The field has its new value where it is there, and the others their old ones. */
            uint32_t pad = 16u - f->size; /* a number has its bytes last, a field first */
            for (uint32_t j = 0; j < 16; j++)
                want[j] = j < pad ? 0 : (uint8_t)((old[j] & ~mask[j - pad]) | value[j - pad]);
            if (field == OKO_FIELD_VLAN_VID)
                want[14] = (uint8_t)((want[14] & ~0x10) | (old[14] & 0x10));
            oko_key_get_bits(&key, field, 0, f->bits, got);
            if (changed) {
                n_set[field]++;
                CHECK(!memcmp(got, want, 16));
            }
            if (oko_field_in_frame(field) && field != OKO_FIELD_ICMPV6_TYPE &&
                field != OKO_FIELD_ICMPV6_CODE) {
                struct oko_key masked = key;
                memcpy((uint8_t *)&masked + f->offset, (uint8_t *)&before + f->offset, f->size);
                CHECK(!memcmp(&masked, &before, sizeof masked));
            }
            oko_pkt_release(&pkt, pool);
        }
    /* Every writable field was met in some shape. */
    for (uint32_t field = 0; field < OKO_N_FIELDS; field++) {
        bool fixed = field == OKO_FIELD_IN_PHY_PORT || field == OKO_FIELD_ETH_TYPE ||
                     field == OKO_FIELD_MPLS_BOS || field == OKO_FIELD_IP_PROTO ||
                     field == OKO_FIELD_IP_FRAG || field == OKO_FIELD_IPV6_EXTHDR ||
                     field == OKO_FIELD_TCP_FLAGS;
        CHECK(fixed ? n_set[field] == 0 : n_set[field] > 0);
    }
}

/* Random sequences of all verbs: key, offsets and checksums stay in step. */
static void test_sequences(struct oko_pool *pool)
{
    uint64_t seed = 3;
    uint8_t bytes[16], mask[16];

    for (uint32_t i = 0; i < n_shapes; i++)
        for (int round = 0; round < 30; round++) {
            struct shape *s = &shapes[i];
            struct oko_pkt pkt;
            struct oko_key key;
            struct transport t;
            start(pool, s, &pkt, &key);
            bool routed = find_transport(pkt.data, pkt.len, &t) && t.routed;
            bool sane = true; /* until a pop calls bytes IP that are none */
            for (int step = 0; step < 12; step++) {
                uint32_t verb = (uint32_t)(next_random(&seed) % (N_EDIT_VERBS + 10));
                uint32_t field = (uint32_t)(next_random(&seed) % OKO_N_FIELDS);
                verb = verb < N_EDIT_VERBS ? verb : N_EDIT_VERBS - 1;
                random_bytes(&seed, bytes);
                memcpy(mask, ones, 16);
                int err = random_edit(&pkt, &key, verb, field, bytes, mask);
                CHECK(err == 0 || err == 1 || err == OKO_E_LIMIT || err == OKO_E_UNSUP);
                CHECK(in_step(&pkt, &key));
                CHECK(pkt.data >= pkt.buffer &&
                      pkt.data + pkt.len <= pkt.buffer + OKO_HEADROOM + OKO_FRAME_MAX);
                sane = sane && verb != 3;
                if (sane && !routed)
                    check_checksums(s, &pkt);
            }
            oko_pkt_release(&pkt, pool);
        }
}

static void same_frame(const struct oko_pkt *pkt, const struct shape *s)
{
    CHECK(pkt->len == s->len && !memcmp(pkt->data, s->bytes, s->len));
}

/* What is pushed comes off again, and the frame is the same to the byte. */
static void test_push_pop(struct oko_pool *pool)
{
    for (uint32_t i = 0; i < n_shapes; i++) {
        struct shape *s = &shapes[i];
        struct oko_pkt pkt;
        struct oko_key key, before;
        start(pool, s, &pkt, &key);
        before = key;

        CHECK(oko_edit_push_vlan(&pkt, &key, 0x8100) == 0 && pkt.len == s->len + 4);
        CHECK(oko_be16(key.vlan_vid) == 0x1000 && key.vlan_pcp[0] == 0);
        CHECK(oko_edit_pop_vlan(&pkt, &key) == 0);
        same_frame(&pkt, s);
        CHECK(!memcmp(&key, &before, sizeof key));

        struct oko_l2 l2;
        CHECK(oko_l2_walk(pkt.data, pkt.len, &l2));
        CHECK(oko_edit_push_mpls(&pkt, &key, 0x8847) == 0 && pkt.len == s->len + 4);
        bool mpls = before.eth_type[0] == 0x88 && before.eth_type[1] == 0x47;
        CHECK(key.mpls_bos[0] == !mpls);
        if (mpls)
            CHECK(!memcmp(key.mpls_label, before.mpls_label, 4) &&
                  key.mpls_ttl[0] == before.mpls_ttl[0] && key.mpls_tc[0] == before.mpls_tc[0]);
        else if (pkt.l3 == OKO_NO_LAYER && before.ip_ttl[0])
            CHECK(key.mpls_ttl[0] == before.ip_ttl[0]);
        uint16_t type = oko_be16(s->bytes + l2.type);
        CHECK(oko_edit_pop_mpls(&pkt, &key, type) == 0);
        same_frame(&pkt, s);
        CHECK(!memcmp(&key, &before, sizeof key));

        CHECK(oko_edit_push_pbb(&pkt, &key, 0x88e7) == 0 && pkt.len == s->len + 18);
        CHECK(!memcmp(key.eth_src, before.eth_src, 6) && oko_be16(key.eth_type) == 0x88e7);
        CHECK(!memcmp(key.pbb_isid, before.pbb_isid, 4));
        CHECK(pkt.data[14] >> 5 == before.vlan_pcp[0]);
        uint8_t backbone[16] = {6, 6, 6, 6, 6, 6};
        CHECK(oko_edit_set_field(&pkt, &key, OKO_FIELD_ETH_DST, backbone, ones) == 0);
        CHECK(oko_edit_pop_pbb(&pkt, &key) == 0);
        same_frame(&pkt, s);
        CHECK(!memcmp(&key, &before, sizeof key));
        oko_pkt_release(&pkt, pool);
    }
}

/* Writing a tag's priority or number leaves its drop eligibility as it was. */
static void test_drop_eligibility(struct oko_pool *pool)
{
    uint8_t priority[16] = {2}, number[16] = {0x01, 0x23};
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_shapes; i++) {
        struct oko_pkt pkt;
        struct oko_key key;
        start(pool, &shapes[i], &pkt, &key);
        for (uint8_t dei = 0; key.vlan_vid[0] != 0 && dei <= 0x10; dei += 0x10) {
            pkt.data[14] = (uint8_t)((pkt.data[14] & 0xef) | dei);
            CHECK(oko_edit_set_field(&pkt, &key, OKO_FIELD_VLAN_PCP, priority, ones) == 0);
            CHECK(oko_edit_set_field(&pkt, &key, OKO_FIELD_VLAN_VID, number, ones) == 0);
            CHECK(pkt.data[14] == (2 << 5 | dei | 0x01) && pkt.data[15] == 0x23);
            n++;
        }
        oko_pkt_release(&pkt, pool);
    }
    CHECK(n > 0);
}

/* Later fragments have no transport header whose checksum could be adjusted. */
static void test_later_fragments(struct oko_pool *pool)
{
    uint8_t address[16] = {10, 9, 8, 7};
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_shapes; i++) {
        struct oko_pkt pkt;
        struct oko_key key;
        start(pool, &shapes[i], &pkt, &key);
        if (oko_be16(key.eth_type) == 0x0800 &&
            (key.ip_proto[0] == OKO_IP_PROTO_TCP || key.ip_proto[0] == OKO_IP_PROTO_UDP)) {
            uint8_t payload[sizeof shapes[i].bytes];
            uint32_t at = pkt.l3 + (pkt.data[pkt.l3] & 15) * 4u;
            oko_put_be16(pkt.data + pkt.l3 + 6, 1); /* 8 bytes from the beginning */
            oko_parse(&pkt, OKO_LAYER_L4, &key);
            CHECK(key.ip_frag[0] & OKO_FRAG_LATER);
            memcpy(payload, pkt.data + at, pkt.len - at);
            CHECK(oko_edit_set_field(&pkt, &key, OKO_FIELD_IPV4_DST, address, ones) == 0);
            CHECK(!memcmp(pkt.data + pkt.l3 + 16, address, 4));
            CHECK(!memcmp(payload, pkt.data + at, pkt.len - at));
            n++;
        }
        oko_pkt_release(&pkt, pool);
    }
    CHECK(n > 0);
}

/* Pushing until there is no room: refused, and the packet is as it was. */
static void test_limit(struct oko_pool *pool)
{
    struct oko_pkt pkt;
    struct oko_key key;
    int n = 0;
    start(pool, &shapes[0], &pkt, &key);
    while (oko_edit_push_pbb(&pkt, &key, 0x88e7) == 0)
        n++;
    CHECK(n == OKO_HEADROOM / 18);
    struct oko_key before = key;
    uint32_t len = pkt.len;
    CHECK(oko_edit_push_pbb(&pkt, &key, 0x88e7) == OKO_E_LIMIT);
    CHECK(pkt.len == len && !memcmp(&key, &before, sizeof key) && in_step(&pkt, &key));
    oko_pkt_release(&pkt, pool);

    static uint8_t longest[OKO_FRAME_MAX];
    memcpy(longest, shapes[0].bytes, shapes[0].len);
    pkt = (struct oko_pkt){.data = longest, .len = sizeof longest};
    CHECK(oko_pkt_writable(&pkt, pool) == 0);
    oko_parse(&pkt, OKO_LAYER_L4, &key);
    CHECK(oko_edit_push_vlan(&pkt, &key, 0x8100) == OKO_E_LIMIT && pkt.len == OKO_FRAME_MAX);
    CHECK(oko_edit_push_vlan(&pkt, &key, 0x1234) == OKO_E_INVAL);
    oko_pkt_release(&pkt, pool);
}

/* TTLs: the floor, and copies between the headers of a stack. */
static void test_ttl(struct oko_pool *pool)
{
    for (uint32_t i = 0; i < n_shapes; i++) {
        struct oko_pkt pkt;
        struct oko_key key;
        start(pool, &shapes[i], &pkt, &key);
        uint16_t type = oko_be16(key.eth_type);
        if (type == 0x0800 || type == 0x86dd) {
            CHECK(oko_edit_dec_ttl(&pkt, &key) == 0 && key.ip_ttl[0] == 62);
            CHECK(oko_edit_set_ttl(&pkt, &key, 2) == 0);
            CHECK(oko_edit_dec_ttl(&pkt, &key) == 0 && key.ip_ttl[0] == 1);
            CHECK(oko_edit_dec_ttl(&pkt, &key) == 1 && key.ip_ttl[0] == 1);
            check_checksums(&shapes[i], &pkt);
            /* Down into a label, changed there, and back up. */
            CHECK(oko_edit_push_mpls(&pkt, &key, 0x8847) == 0 && key.mpls_ttl[0] == 1);
            CHECK(oko_edit_dec_mpls_ttl(&pkt, &key) == 1);
            CHECK(oko_edit_set_mpls_ttl(&pkt, &key, 99) == 0);
            CHECK(oko_edit_dec_mpls_ttl(&pkt, &key) == 0 && key.mpls_ttl[0] == 98);
            CHECK(oko_edit_copy_ttl_in(&pkt, &key) == 0);
            CHECK(oko_edit_set_mpls_ttl(&pkt, &key, 7) == 0);
            CHECK(oko_edit_copy_ttl_out(&pkt, &key) == 0 && key.mpls_ttl[0] == 98);
            CHECK(oko_edit_push_mpls(&pkt, &key, 0x8847) == 0 && key.mpls_ttl[0] == 98);
            CHECK(oko_edit_set_mpls_ttl(&pkt, &key, 50) == 0);
            CHECK(oko_edit_copy_ttl_in(&pkt, &key) == 0);
            CHECK(oko_edit_pop_mpls(&pkt, &key, 0x8847) == 0 && key.mpls_ttl[0] == 50);
            CHECK(oko_edit_pop_mpls(&pkt, &key, type) == 0 && key.ip_ttl[0] == 98);
            check_checksums(&shapes[i], &pkt);
        } else {
            CHECK(oko_edit_dec_ttl(&pkt, &key) == 0 && oko_edit_set_ttl(&pkt, &key, 9) == 0);
            if (!key.mpls_ttl[0])
                CHECK(oko_edit_dec_mpls_ttl(&pkt, &key) == 0);
        }
        CHECK(in_step(&pkt, &key));
        oko_pkt_release(&pkt, pool);
    }
}

/* Bits of fields, one against the other: get, move, and registers that overlap. */
static void test_move(struct oko_pool *pool)
{
    struct oko_pkt pkt;
    struct oko_key key;
    uint8_t out[16], value[16] = {[0] = 1, [7] = 0xab, [8] = 0xcd, [15] = 0xef};

    start(pool, &shapes[0], &pkt, &key); /* IPv4 TCP, 10.1.2.3 to 192.168.200.4 */
    CHECK(oko_edit_set_field(&pkt, &key, OKO_FIELD_XXREG0, value, ones) == 0);
    CHECK(key.reg[0][0] == 1 && key.reg[1][3] == 0xab && key.reg[3][3] == 0xef);
    oko_key_get_bits(&key, OKO_FIELD_XXREG0, 60, 12, out);
    CHECK(oko_be16(out + 14) == 0xabc);
    CHECK(oko_edit_move(&pkt, &key, 16, OKO_FIELD_IPV4_SRC, 8, OKO_FIELD_REG5, 4) == 0);
    CHECK(oko_be32(key.reg[5]) == 0x0102 << 4);
    CHECK(oko_edit_move(&pkt, &key, 32, OKO_FIELD_IPV4_SRC, 0, OKO_FIELD_IPV4_DST, 0) == 0);
    CHECK(oko_be32(key.ipv4_dst) == 0x0a010203 && in_step(&pkt, &key));
    check_checksums(&shapes[0], &pkt);
    CHECK(oko_edit_move(&pkt, &key, 48, OKO_FIELD_ETH_SRC, 0, OKO_FIELD_ETH_DST, 0) == 0);
    CHECK(!memcmp(pkt.data, pkt.data + 6, 6));
    /* A field that the packet lacks is zero, and cannot be written. */
    CHECK(oko_edit_move(&pkt, &key, 16, OKO_FIELD_UDP_SRC, 0, OKO_FIELD_REG5, 0) == 0);
    CHECK(oko_be32(key.reg[5]) == 0);
    CHECK(oko_edit_move(&pkt, &key, 16, OKO_FIELD_TCP_DST, 0, OKO_FIELD_UDP_SRC, 0) == 0);
    CHECK(in_step(&pkt, &key) && oko_be16(key.tp_src) == 0x3039);
    CHECK(oko_edit_move(&pkt, &key, 33, OKO_FIELD_REG0, 0, OKO_FIELD_XREG1, 0) == OKO_E_INVAL);
    CHECK(oko_edit_move(&pkt, &key, 8, OKO_FIELD_REG0, 25, OKO_FIELD_REG1, 0) == OKO_E_INVAL);
    CHECK(oko_edit_move(&pkt, &key, 0, OKO_FIELD_REG0, 0, OKO_FIELD_REG1, 0) == OKO_E_INVAL);
    CHECK(oko_edit_move(&pkt, &key, 8, OKO_N_FIELDS, 0, OKO_FIELD_REG1, 0) == OKO_E_INVAL);
    oko_pkt_release(&pkt, pool);
}

static void test_checksums(void)
{
    uint64_t seed = 5;
    uint8_t bytes[300];

    for (int round = 0; round < 2000; round++) {
        uint32_t n = 12 + (uint32_t)(next_random(&seed) % (sizeof bytes - 12));
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)next_random(&seed);
        CHECK(oko_sctp_crc(bytes, n) == naive_crc32c(bytes, n));
        CHECK(oko_sum(bytes, n) == sum_bytes(bytes, n, 0));

        /* An updated checksum is the recomputed one. */
        n &= ~1u;
        oko_put_be16(bytes, 0);
        oko_put_be16(bytes, (uint16_t)~sum_bytes(bytes, n, 0));
        uint32_t at = 2 + (uint32_t)(next_random(&seed) % (n / 2 - 1)) * 2;
        uint16_t before = oko_be16(bytes + at), after = (uint16_t)next_random(&seed);
        oko_put_be16(bytes + at, after);
        oko_checksum_update(bytes, before, after, false);
        CHECK(sum_bytes(bytes, n, 0) == 0xffff);
    }
    /* UDP: none stays none, and a sum of zero is written as ones. */
    uint8_t none[2] = {0, 0}, some[2] = {0, 1};
    oko_checksum_update(none, 5, 9, true);
    CHECK(oko_be16(none) == 0);
    oko_checksum_update(some, 5, 6, true);
    CHECK(oko_be16(some) == 0xffff);
}

/* Buffers: copies are independent, and the limit holds. */
static void test_pool(void)
{
    struct oko_pool *pool;
    uint8_t frame[60] = {1};
    struct oko_pkt a = {.data = frame, .len = 60}, b, c, d;

    CHECK(oko_pool_new(2, &pool) == 0);
    CHECK(oko_pkt_clone(&a, pool, &b) == 0 && b.data == frame && !b.owned);
    CHECK(oko_pkt_writable(&a, pool) == 0 && a.data != frame && a.data[0] == 1);
    CHECK(oko_pkt_writable(&a, pool) == 0);
    CHECK(oko_pkt_clone(&a, pool, &c) == 0 && c.owned && c.data != a.data);
    c.data[0] = 2;
    CHECK(a.data[0] == 1 && frame[0] == 1);
    CHECK(oko_pkt_clone(&a, pool, &d) == OKO_E_NOMEM);
    CHECK(oko_pkt_writable(&b, pool) == OKO_E_NOMEM && b.data == frame && !b.owned);
    oko_pkt_release(&a, pool);
    CHECK(oko_pkt_writable(&b, pool) == 0);
    oko_pkt_release(&b, pool);
    oko_pkt_release(&c, pool);
    oko_pool_free(pool);
    oko_pool_free(NULL);
}

int main(void)
{
    struct oko_pool *pool;

    n_shapes = make_shapes(shapes);
    CHECK(oko_pool_new(1, &pool) == 0);
    test_checksums();
    test_set_field(pool);
    test_sequences(pool);
    test_push_pop(pool);
    test_drop_eligibility(pool);
    test_later_fragments(pool);
    test_limit(pool);
    test_ttl(pool);
    test_move(pool);
    oko_pool_free(pool);
    test_pool();
    return 0;
}
