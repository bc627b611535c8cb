/* Entries by stencil: what is told apart and what is not, holes, room, and records cut anywhere. */
#include "base/be.h"
#include "check.h"
#include "oko.h"

enum { FIELD = 5, FIXED = 6, WIRE = 40, ENTRY = 48 + WIRE };

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

static struct oko_stencils *made(enum oko_entry_head head)
{
    uint8_t fixed[OKO_N_FIELDS] = {[FIXED] = 1}, wire[WIRE];
    struct oko_stencil_hole holes[2] = {{.at = 4, .size = 4}, {0}};
    struct record example = flow(1, 2, 3);
    struct oko_stencils *s;
    CHECK(oko_stencils_new(head, fixed, &s) == OKO_OK);
    memset(wire, 0xee, sizeof wire);
    const uint8_t *record = (const uint8_t *)&example;
    CHECK(oko_stencils_add(s, record, sizeof example, wire, WIRE, 13, holes, true) == OKO_OK);
    CHECK(oko_stencils_add(s, record, sizeof example, wire, WIRE, 13, holes, true) == OKO_E_EXISTS);
    holes[0].at = WIRE - 3;
    CHECK(oko_stencils_add(s, record, sizeof example, wire, WIRE, 13, holes, true) == OKO_E_INVAL);
    for (uint64_t size = 0; size < sizeof example; size++)
        CHECK(oko_stencils_add(s, record, size, wire, WIRE, 13, holes, true) == OKO_E_INVAL);
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

static void test_entries(void)
{
    uint8_t *out = guarded(ENTRY);
    struct oko_stencils *s = made(OKO_ENTRY_14);
    CHECK(write_one(s, flow(0x55, 2, 3), out, ENTRY - 1) == 0); /* no room */
    CHECK(write_one(s, flow(0x55, 2, 3), out, ENTRY) == ENTRY);
    CHECK(oko_be16(out) == ENTRY && out[2] == 7);
    CHECK(oko_be32(out + 4) == 4 && oko_be32(out + 8) == 500000000);
    CHECK(oko_be16(out + 12) == 0x1122 && oko_be16(out + 14) == 10 && oko_be16(out + 16) == 20);
    CHECK(oko_be16(out + 18) == 1 && oko_be16(out + 20) == 9 && oko_be16(out + 22) == 0);
    CHECK(oko_be64(out + 24) == 0x0102030405060708 && oko_be64(out + 32) == 3);
    CHECK(oko_be64(out + 40) == 180);
    CHECK(oko_be32(out + 48) == 0xeeeeeeee && oko_be32(out + 52) == 0x55555555);
    CHECK(oko_be32(out + 56) == 0xeeeeeeee && out[ENTRY - 1] == 0xee);
    CHECK(write_one(s, flow(0x55, 1, 3), out, ENTRY) == 0); /* another fixed value */
    CHECK(write_one(s, flow(0x55, 2, 4), out, ENTRY) == 0); /* other instructions */
    struct record other = flow(0x55, 2, 3);
    other.info.filter_prog = 1;
    CHECK(write_one(s, other, out, ENTRY) == 0);
    other = flow(0x55, 2, 3);
    other.match[0].mask[3] = 0;
    CHECK(write_one(s, other, out, ENTRY) == 0);
    other = flow(0x55, 2, 3);
    other.info.n_match = 1000;
    CHECK(write_one(s, other, out, ENTRY) == OKO_E_INVAL);
    other.info.n_match = 3;
    CHECK(write_one(s, other, out, ENTRY) == OKO_E_INVAL);
    other = flow(0x55, 2, 3);
    other.info.size += 8;
    CHECK(write_one(s, other, out, ENTRY) == OKO_E_INVAL);
    oko_stencils_free(s);
    s = made(OKO_ENTRY_13);
    CHECK(write_one(s, flow(0, 2, 3), out, ENTRY) == ENTRY && oko_be16(out + 20) == 0);
    oko_stencils_free(s);
    s = made(OKO_ENTRY_NX);
    CHECK(write_one(s, flow(0, 2, 3), out, ENTRY) == ENTRY);
    CHECK(oko_be16(out + 18) == 13 && oko_be16(out + 20) == 5 && oko_be16(out + 22) == 3);
    oko_stencils_free(s);
    oko_stencils_free(NULL);
}

/* Up to the limit each kind finds its own stencil; beyond it there is none. */
static void test_many_kinds(void)
{
    uint8_t fixed[OKO_N_FIELDS] = {[FIXED] = 1}, wire[8], out[56];
    struct oko_stencil_hole holes[2] = {{0}, {0}};
    struct oko_stencils *s;
    CHECK(oko_stencils_new(OKO_ENTRY_13, fixed, &s) == OKO_OK);
    for (uint32_t i = 0; i <= OKO_STENCILS_MAX; i++) {
        struct record r = flow(0, (uint8_t)i, (uint8_t)(i >> 8));
        oko_put_be64(wire, i);
        CHECK(oko_stencils_add(s, (const uint8_t *)&r, sizeof r, wire, sizeof wire, 8, holes,
                               true) == (i < OKO_STENCILS_MAX ? OKO_OK : OKO_E_LIMIT));
    }
    for (uint32_t i = 0; i <= OKO_STENCILS_MAX; i++) {
        bool there = i < OKO_STENCILS_MAX;
        CHECK(write_one(s, flow(0, (uint8_t)i, (uint8_t)(i >> 8)), out, sizeof out) ==
              (there ? 56 : 0));
        CHECK(!there || oko_be64(out + 48) == i);
    }
    oko_stencils_free(s);
}

int main(void)
{
    test_entries();
    test_many_kinds();
    return 0;
}
