/* The parser never reads past a frame, whatever it is cut to (guard pages), and a shallower parse
 * equals the deep one as far as it goes. That the fields are right is for tests/unit/test_parse.py,
 * which has an independent parser and real captures. */
#include "frames.h"

static struct shape shapes[MAX_SHAPES];

/* Parses a copy of the frame that ends at the guard page. */
static void parse_guarded(uint8_t *end, const uint8_t *bytes, uint32_t len, struct oko_key *key)
{
    struct oko_pkt pkt = {.data = end - len, .len = len, .in_port = 7, .meta.tun_id = 9};
    memcpy(pkt.data, bytes, len);
    oko_parse(&pkt, OKO_LAYER_L4, key);
    CHECK(oko_be32(key->in_port) == 7 && oko_be64(key->tun_id) == 9);
    CHECK(pkt.l2_5 == OKO_NO_LAYER || pkt.l2_5 + 4u <= len);
    CHECK(pkt.l3 == OKO_NO_LAYER || pkt.l3 + 20u <= len);
    CHECK(pkt.l4 == OKO_NO_LAYER || pkt.l4 + 8u <= len);
}

/* Fields of this layer and above of the deep key equal the shallow key; the rest is zero there. */
static void check_depth(const struct shape *s, const struct oko_key *deep)
{
    for (int depth = OKO_LAYER_PORT; depth <= OKO_LAYER_L4; depth++) {
        struct oko_pkt pkt = {.data = (uint8_t *)(uintptr_t)s->bytes, .len = s->len, .in_port = 7};
        pkt.meta.tun_id = 9;
        struct oko_key key;
        memset(&key, 0xee, sizeof key);
        oko_parse(&pkt, (enum oko_layers)depth, &key);
        for (uint32_t id = 0; id < OKO_N_FIELDS; id++) {
            const struct oko_field *f = oko_field(id);
            struct oko_key mask = {0};
            memset((uint8_t *)&mask + f->offset, 0xff, f->size);
            const uint8_t *got = (const uint8_t *)&key + f->offset;
            static const uint8_t zero[16];
            if ((int)oko_layers_of(&mask) <= depth)
                CHECK(!memcmp(got, (const uint8_t *)deep + f->offset, f->size));
            else if (depth < OKO_LAYER_L3 || f->offset < offsetof(struct oko_key, arp_sha) ||
                     oko_be16(key.eth_type) != OKO_ETH_TYPE_ARP)
                CHECK(!memcmp(got, zero, f->size));
        }
    }
}

static void test_shapes(void)
{
    uint8_t *memory = guarded(SHAPE_MAX);
    uint8_t *end = memory + SHAPE_MAX;
    uint32_t n = make_shapes(shapes);
    uint64_t seed = 1;

    CHECK(n > 100);
    for (uint32_t i = 0; i < n; i++) {
        struct shape *s = &shapes[i];
        struct oko_key key;
        uint32_t ip, l4;
        checksum_errors(s->bytes, s->len, &ip, &l4);
        CHECK(ip == 0 && l4 == 0);
        for (uint32_t len = 0; len <= s->len; len++)
            parse_guarded(end, s->bytes, len, &key);
        check_depth(s, &key);

        /* Random damage, again cut at every length. */
        for (int round = 0; round < 50; round++) {
            struct shape bad = *s;
            for (int flips = 0; flips < 3; flips++)
                bad.bytes[next_random(&seed) % s->len] = (uint8_t)next_random(&seed);
            for (uint32_t len = 0; len <= s->len; len += 1 + (uint32_t)round % 3)
                parse_guarded(end, bad.bytes, len, &key);
        }
    }
}

/* A reparse keeps what does not come from the frame, and only that. */
static void test_reparse(void)
{
    for (uint32_t i = 0; shapes[i].len; i++) {
        struct oko_pkt pkt = {.data = shapes[i].bytes, .len = shapes[i].len, .in_port = 7};
        struct oko_key key, again;
        memset(&again, 0xaa, sizeof again);
        oko_parse(&pkt, OKO_LAYER_L4, &key);
        oko_reparse(&pkt, &again);
        for (uint32_t id = 0; id < OKO_N_FIELDS; id++) {
            const struct oko_field *f = oko_field(id);
            const uint8_t *got = (const uint8_t *)&again + f->offset;
            if (id >= OKO_FIELD_ETH_DST)
                CHECK(!memcmp(got, (const uint8_t *)&key + f->offset, f->size));
            else
                CHECK(got[0] == 0xaa && got[f->size - 1] == 0xaa);
        }
    }
}

int main(void)
{
    test_shapes();
    test_reparse();
    return 0;
}
