/* Records by stencil: what is told apart and what is not, numbers, holes, room, and flows cut
 * anywhere. */
#include "base/be.h"
#include "check.h"
#include "oko.h"

enum { FIELD = 5, FIXED = 6, WIRE = 40 };

struct record {
    struct oko_flow_info info;
    struct oko_match_field match[2];
    uint8_t ops[16];
};

static struct record flow(uint8_t value, uint8_t fixed, uint8_t op)
{
    struct record r = {.info = {.size = sizeof r,
                                .table = 7,
                                .cookie = 0x0102030405060708,
                                .packets = 3,
                                .bytes = 180,
                                .created_ns = 1000000000,
                                .modified_ns = 3000000000,
                                .priority = 0x1122,
                                .flags = 32 | 1,
                                .idle_timeout = 10,
                                .hard_timeout = 20,
                                .n_match = 2,
                                .ops_len = 16,
                                .importance = 9},
                       .match = {{.field = FIELD}, {.field = FIXED}}};
    memset(r.match[0].mask, 0xff, 4);
    memset(r.match[1].mask, 0xff, 1);
    memset(r.match[0].value, value, 4);
    r.match[1].value[0] = fixed;
    r.ops[3] = op;
    return r;
}

static struct oko_stencils *made(const struct oko_stencil_number *numbers, uint32_t n)
{
    uint8_t fixed[OKO_N_FIELDS] = {[FIXED] = 1}, wire[WIRE];
    struct oko_stencil_hole holes[2] = {{.at = 4, .size = 4}, {0}};
    struct record example = flow(1, 2, 3);
    struct oko_stencils *s;
    CHECK(oko_stencils_new(numbers, n, fixed, &s) == OKO_OK);
    memset(wire, 0xee, sizeof wire);
    const uint8_t *bytes = (const uint8_t *)&example;
    CHECK(oko_stencils_add(s, bytes, sizeof example, wire, WIRE, holes, true) == OKO_OK);
    CHECK(oko_stencils_add(s, bytes, sizeof example, wire, WIRE, holes, true) == OKO_E_EXISTS);
    holes[0].at = WIRE - 3;
    CHECK(oko_stencils_add(s, bytes, sizeof example, wire, WIRE, holes, true) == OKO_E_INVAL);
    for (uint64_t size = 0; size < sizeof example; size++)
        CHECK(oko_stencils_add(s, bytes, size, wire, WIRE, holes, true) == OKO_E_INVAL);
    return s;
}

static int64_t write_one(struct oko_stencils *s, struct record r, uint8_t *out, uint64_t room)
{
    uint64_t at = 0, lossy = 0;
    uint8_t *end = guarded(sizeof r);
    memcpy(end, &r, sizeof r);
    int64_t used = oko_stencils_write(s, end, sizeof r, &at, 5500000000, out, room, &lossy);
    CHECK(used < 0 || at == (used ? sizeof r : 0));
    CHECK(used < 0 || lossy == (used ? 1 : 0));
    return used;
}

static void test_kinds(void)
{
    uint8_t *out = guarded(WIRE);
    struct oko_stencils *s = made(NULL, 0);
    CHECK(write_one(s, flow(0x55, 2, 3), out, WIRE - 1) == 0); /* no room */
    CHECK(write_one(s, flow(0x55, 2, 3), out, WIRE) == WIRE);
    CHECK(oko_be32(out) == 0xeeeeeeee && oko_be32(out + 4) == 0x55555555);
    CHECK(oko_be32(out + 8) == 0xeeeeeeee && out[WIRE - 1] == 0xee);
    CHECK(write_one(s, flow(0x55, 1, 3), out, WIRE) == 0); /* another fixed value */
    CHECK(write_one(s, flow(0x55, 2, 4), out, WIRE) == 0); /* other instructions */
    struct record other = flow(0x55, 2, 3);
    other.info.filter_prog = 1;
    CHECK(write_one(s, other, out, WIRE) == 0);
    other = flow(0x55, 2, 3);
    other.match[0].mask[3] = 0;
    CHECK(write_one(s, other, out, WIRE) == 0);
    other = flow(0x55, 2, 3);
    other.info.n_match = 1000;
    CHECK(write_one(s, other, out, WIRE) == OKO_E_INVAL);
    other.info.n_match = 3;
    CHECK(write_one(s, other, out, WIRE) == OKO_E_INVAL);
    other = flow(0x55, 2, 3);
    other.info.size += 8;
    CHECK(write_one(s, other, out, WIRE) == OKO_E_INVAL);
    oko_stencils_free(s);
    oko_stencils_free(NULL);
}

/* A number alone in a record, at an odd place. */
static uint64_t number(enum oko_stencil_what what, uint16_t size, uint16_t plus)
{
    struct oko_stencil_number one = {(uint16_t)what, 11, size, plus};
    struct oko_stencils *s = made(&one, 1);
    uint8_t *out = guarded(WIRE);
    uint64_t value = 0;
    CHECK(write_one(s, flow(0x55, 2, 3), out, WIRE) == WIRE);
    CHECK(out[10] == 0xee && out[11 + size] == 0xee);
    for (uint16_t i = 0; i < size; i++)
        value = value << 8 | out[11 + i];
    oko_stencils_free(s);
    return value;
}

static void test_numbers(void)
{
    CHECK(number(OKO_STENCIL_TABLE, 1, 0) == 7);
    CHECK(number(OKO_STENCIL_PRIORITY, 2, 0) == 0x1122);
    CHECK(number(OKO_STENCIL_FLAGS, 2, 0) == OKO_FLOW_SEND_FLOW_REM);
    CHECK(number(OKO_STENCIL_IMPORTANCE, 4, 0) == 9);
    CHECK(number(OKO_STENCIL_IDLE_TIMEOUT, 2, 1) == 11);
    CHECK(number(OKO_STENCIL_HARD_TIMEOUT, 1, 0) == 20);
    CHECK(number(OKO_STENCIL_COOKIE, 8, 0) == 0x0102030405060708);
    CHECK(number(OKO_STENCIL_COOKIE, 4, 0) == UINT32_MAX); /* does not fit */
    CHECK(number(OKO_STENCIL_PRIORITY, 2, 0xf000) == UINT16_MAX);
    CHECK(number(OKO_STENCIL_PACKETS, 8, 0) == 3);
    CHECK(number(OKO_STENCIL_BYTES, 8, 0) == 180);
    CHECK(number(OKO_STENCIL_AGE_S, 4, 0) == 4);
    CHECK(number(OKO_STENCIL_AGE_NS, 4, 0) == 500000000);
    CHECK(number(OKO_STENCIL_SINCE_USE_S, 2, 1) == 5);
    CHECK(number(OKO_STENCIL_SINCE_MODIFIED_S, 2, 1) == 3);
}

static void test_no_such_numbers(void)
{
    static const struct oko_stencil_number wrong[] = {{OKO_STENCIL_N_WHATS, 0, 8, 0},
                                                      {OKO_STENCIL_COOKIE, 0, 0, 0},
                                                      {OKO_STENCIL_COOKIE, 0, 3, 0},
                                                      {OKO_STENCIL_COOKIE, 0, 16, 0}};
    struct oko_stencil_number outside = {OKO_STENCIL_COOKIE, WIRE - 7, 8, 0};
    struct oko_stencil_number many[OKO_STENCIL_NUMBERS_MAX + 1] = {{0}};
    uint8_t fixed[OKO_N_FIELDS] = {0}, wire[WIRE] = {0};
    struct oko_stencil_hole holes[2] = {{0}, {0}};
    struct record example = flow(1, 2, 3);
    struct oko_stencils *s;
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(oko_stencils_new(&wrong[i], 1, fixed, &s) == OKO_E_INVAL);
    for (uint32_t i = 0; i <= OKO_STENCIL_NUMBERS_MAX; i++)
        many[i].size = 1;
    CHECK(oko_stencils_new(many, OKO_STENCIL_NUMBERS_MAX + 1, fixed, &s) == OKO_E_INVAL);
    CHECK(oko_stencils_new(&outside, 1, fixed, &s) == OKO_OK);
    CHECK(oko_stencils_add(s, (const uint8_t *)&example, sizeof example, wire, WIRE, holes,
                           false) == OKO_E_INVAL);
    oko_stencils_free(s);
}

/* Up to the limit each kind finds its own stencil; beyond it there is none. */
static void test_many_kinds(void)
{
    uint8_t fixed[OKO_N_FIELDS] = {[FIXED] = 1}, wire[8], out[8];
    struct oko_stencil_hole holes[2] = {{0}, {0}};
    struct oko_stencils *s;
    CHECK(oko_stencils_new(NULL, 0, fixed, &s) == OKO_OK);
    for (uint32_t i = 0; i <= OKO_STENCILS_MAX; i++) {
        struct record r = flow(0, (uint8_t)i, (uint8_t)(i >> 8));
        oko_put_be64(wire, i);
        CHECK(oko_stencils_add(s, (const uint8_t *)&r, sizeof r, wire, sizeof wire, holes, true) ==
              (i < OKO_STENCILS_MAX ? OKO_OK : OKO_E_LIMIT));
    }
    for (uint32_t i = 0; i <= OKO_STENCILS_MAX; i++) {
        bool there = i < OKO_STENCILS_MAX;
        CHECK(write_one(s, flow(0, (uint8_t)i, (uint8_t)(i >> 8)), out, sizeof out) ==
              (there ? 8 : 0));
        CHECK(!there || oko_be64(out) == i);
    }
    oko_stencils_free(s);
}

int main(void)
{
    test_kinds();
    test_numbers();
    test_no_such_numbers();
    test_many_kinds();
    return 0;
}
