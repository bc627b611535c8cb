/* The instruction table: which of the 256 opcode bytes are legal, which fields each uses, the
 * decoder's refusals, and the printed form. The expectations are written from RFC 9669, not from
 * the table. */
#include "check.h"

#include "bpf/helper.h"
#include "bpf/insn.h"

/* ---------------------------------------------------------------- legality */

static const uint8_t legal[] = {
    /* 32-bit arithmetic: by constant, by register */
    0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0x84, 0x94, 0xa4, 0xb4, 0xc4, 0xd4, 0x0c, 0x1c,
    0x2c, 0x3c, 0x4c, 0x5c, 0x6c, 0x7c, 0x9c, 0xac, 0xbc, 0xcc, 0xdc,
    /* 64-bit arithmetic */
    0x07, 0x17, 0x27, 0x37, 0x47, 0x57, 0x67, 0x77, 0x87, 0x97, 0xa7, 0xb7, 0xc7, 0xd7, 0x0f, 0x1f,
    0x2f, 0x3f, 0x4f, 0x5f, 0x6f, 0x7f, 0x9f, 0xaf, 0xbf, 0xcf,
    /* jumps, call and exit */
    0x05, 0x15, 0x25, 0x35, 0x45, 0x55, 0x65, 0x75, 0x85, 0x95, 0xa5, 0xb5, 0xc5, 0xd5, 0x1d, 0x2d,
    0x3d, 0x4d, 0x5d, 0x6d, 0x7d, 0x8d, 0xad, 0xbd, 0xcd, 0xdd,
    /* 32-bit jumps */
    0x06, 0x16, 0x26, 0x36, 0x46, 0x56, 0x66, 0x76, 0xa6, 0xb6, 0xc6, 0xd6, 0x1e, 0x2e, 0x3e, 0x4e,
    0x5e, 0x6e, 0x7e, 0xae, 0xbe, 0xce, 0xde,
    /* 64-bit immediate, packet loads */
    0x18, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50,
    /* loads, sign-extending loads, stores, atomics */
    0x61, 0x69, 0x71, 0x79, 0x81, 0x89, 0x91, 0x62, 0x6a, 0x72, 0x7a, 0x63, 0x6b, 0x73, 0x7b, 0xc3,
    0xdb};

static bool is_legal(uint8_t code)
{
    return memchr(legal, code, sizeof(legal)) != NULL;
}

struct fields {
    bool dst, src, off, imm;
};

/* What RFC 9669 says an instruction uses. */
static struct fields uses(uint8_t code)
{
    uint8_t class = code & 7, op = code & 0xf0, by_register = code & 8;
    switch (class) {
    case 0:
        if (code == 0x18)
            return (struct fields){true, true, false, true}; /* src: pseudo */
        return (struct fields){false, (code & 0xe0) == 0x40, false, true};
    case 1:
        return (struct fields){true, true, true, false};
    case 2:
        return (struct fields){true, false, true, true};
    case 3:
        return (struct fields){true, true, true, (code & 0xe0) == 0xc0};
    case 4:
    case 7:
        if (op == 0x80)
            return (struct fields){true, false, false, false};
        if (op == 0xd0)
            return (struct fields){true, false, false, true};
        return (struct fields){true, by_register != 0, op == 0x30 || op == 0x90 || op == 0xb0,
                               by_register == 0};
    default:
        if (code == 0x05)
            return (struct fields){false, false, true, false};
        if (code == 0x06)
            return (struct fields){false, false, false, true};
        if (code == 0x85)
            return (struct fields){false, true, false, true};
        if (code == 0x8d)
            return (struct fields){true, false, false, true};
        if (code == 0x95)
            return (struct fields){false, false, false, false};
        return (struct fields){true, by_register != 0, true, by_register == 0};
    }
}

/* An instruction of this opcode that is legal as the first of a program of three exits. */
static struct oko_insn plain(uint8_t code)
{
    struct oko_insn i = {.code = code};
    if ((code & 0xf0) == 0xd0 && ((code & 7) == 4 || (code & 7) == 7))
        i.imm = 32; /* byte swap */
    if (code == 0x85)
        i.imm = OKO_HELPER_TIME_GET_NS;
    return i;
}

static int check(struct oko_insn first, uint32_t flags, struct oko_error *error)
{
    struct oko_insn insns[4] = {first, {.code = 0x95}, {.code = 0x95}, {.code = 0x95}};
    if (first.code == 0x18)
        insns[1].code = 0;
    struct oko_prog_spec spec = {.name = "t", .insns = insns, .n_insns = 4};
    int status = oko_insn_check(&spec, flags, error);
    CHECK(status == 0 || (error->code == status && error->insn == 0 && error->reason[0] != 0));
    return status;
}

static void test_legality(void)
{
    struct oko_error error;
    for (int code = 0; code < 256; code++) {
        struct oko_insn i = plain((uint8_t)code);
        int expected = is_legal((uint8_t)code) ? 0 : OKO_E_INVAL;
        CHECK(check(i, OKO_LOAD_CONFORMANCE, &error) == expected);
        CHECK(check(i, 0, &error) == (code == 0x8d ? OKO_E_INVAL : expected));
        if (expected != 0) {
            char text[64];
            CHECK(strstr(error.reason, "unknown opcode") != NULL);
            CHECK(oko_insn_print(NULL, &i, 0, text, sizeof(text)) == 19);
            snprintf(error.reason, sizeof(error.reason), "unknown opcode 0x%02x", code);
            CHECK(strcmp(text, error.reason) == 0);
        }
    }
}

static void test_unused_fields(void)
{
    struct oko_error error;
    for (int code = 0; code < 256; code++) {
        if (!is_legal((uint8_t)code))
            continue;
        struct fields f = uses((uint8_t)code);
        struct oko_insn i = plain((uint8_t)code);
        i.regs = 1;
        CHECK((check(i, OKO_LOAD_CONFORMANCE, &error) == 0) == f.dst);
        if (!f.src) {
            i = plain((uint8_t)code), i.regs = 0x10;
            CHECK(check(i, OKO_LOAD_CONFORMANCE, &error) == OKO_E_INVAL);
        }
        i = plain((uint8_t)code), i.off = 1;
        CHECK((check(i, OKO_LOAD_CONFORMANCE, &error) == 0) ==
              (f.off && (code & 0xf7) != 0xb4 && (code & 0xf7) != 0xb7));
        if (!f.imm) {
            i = plain((uint8_t)code), i.imm = 1;
            CHECK(check(i, OKO_LOAD_CONFORMANCE, &error) == OKO_E_INVAL);
        }
        /* Registers beyond r10, and r10 as a target. */
        i = plain((uint8_t)code), i.regs = 11;
        CHECK(check(i, OKO_LOAD_CONFORMANCE, &error) == OKO_E_INVAL);
        i = plain((uint8_t)code), i.regs = 0xb0;
        CHECK(check(i, OKO_LOAD_CONFORMANCE, &error) == OKO_E_INVAL);
        uint8_t class = code & 7;
        bool writes = class == 1 || class == 4 || class == 7 || code == 0x18;
        i = plain((uint8_t)code), i.regs = 10;
        CHECK((check(i, OKO_LOAD_CONFORMANCE, &error) == 0) == (f.dst && !writes));
    }
}

static int check_variant(uint8_t code, int off, int32_t imm)
{
    struct oko_error error;
    struct oko_insn i = {.code = code, .off = (int16_t)off, .imm = imm};
    return check(i, 0, &error);
}

static void test_variants(void)
{
    /* Signed division. */
    for (int off = -1; off <= 3; off++) {
        static const uint8_t divisions[] = {0x34, 0x3c, 0x37, 0x3f, 0x94, 0x9c, 0x97, 0x9f};
        for (size_t i = 0; i < sizeof(divisions); i++)
            CHECK((check_variant(divisions[i], off, 0) == 0) == (off == 0 || off == 1));
    }
    /* Sign-extending moves: registers only; from 32 bits only to 64. */
    for (int off = -1; off <= 64; off++) {
        CHECK((check_variant(0xbf, off, 0) == 0) ==
              (off == 0 || off == 8 || off == 16 || off == 32));
        CHECK((check_variant(0xbc, off, 0) == 0) == (off == 0 || off == 8 || off == 16));
        CHECK((check_variant(0xb7, off, 0) == 0) == (off == 0));
        CHECK((check_variant(0xb4, off, 0) == 0) == (off == 0));
    }
    /* Byte swaps. */
    for (int32_t bits = -1; bits <= 128; bits++) {
        int expected = bits == 16 || bits == 32 || bits == 64 ? 0 : OKO_E_INVAL;
        CHECK(check_variant(0xd4, 0, bits) == expected);
        CHECK(check_variant(0xdc, 0, bits) == expected);
        CHECK(check_variant(0xd7, 0, bits) == expected);
    }
    /* Atomics: add, or, and, xor with and without fetch; exchange and compare-exchange fetch. */
    for (int32_t imm = -1; imm < 0x200; imm++) {
        bool expected = imm == 0x00 || imm == 0x40 || imm == 0x50 || imm == 0xa0 || imm == 0x01 ||
                        imm == 0x41 || imm == 0x51 || imm == 0xa1 || imm == 0xe1 || imm == 0xf1;
        CHECK((check_variant(0xc3, 0, imm) == 0) == expected);
        CHECK((check_variant(0xdb, 0, imm) == 0) == expected);
    }
    /* A fetching atomic writes src: not r10; compare-exchange writes r0 instead. */
    struct oko_error error;
    CHECK(check((struct oko_insn){0xdb, 0xa1, 0, 0x01}, 0, &error) == OKO_E_INVAL);
    CHECK(check((struct oko_insn){0xdb, 0xa1, 0, 0xe1}, 0, &error) == OKO_E_INVAL);
    CHECK(check((struct oko_insn){0xdb, 0xa1, 0, 0x00}, 0, &error) == 0);
    CHECK(check((struct oko_insn){0xdb, 0xa1, 0, 0xf1}, 0, &error) == 0);
    /* Helpers. */
    for (int32_t id = -1; id < 40; id++)
        CHECK((check_variant(0x85, 0, id) == 0) == (id >= 1 && id <= 7));
    /* A call by register names it in dst, or in imm with dst 0. */
    CHECK(check((struct oko_insn){0x8d, 2, 0, 0}, OKO_LOAD_CONFORMANCE, &error) == 0);
    CHECK(check((struct oko_insn){0x8d, 0, 0, 2}, OKO_LOAD_CONFORMANCE, &error) == 0);
    CHECK(check((struct oko_insn){0x8d, 2, 0, 2}, OKO_LOAD_CONFORMANCE, &error) == OKO_E_INVAL);
    CHECK(check((struct oko_insn){0x8d, 0, 0, 11}, OKO_LOAD_CONFORMANCE, &error) == OKO_E_INVAL);
}

/* ---------------------------------------------------------------- whole programs */

struct program {
    struct oko_insn insns[16];
    uint32_t n;
    struct oko_func_spec funcs[4];
    uint32_t n_funcs;
};

static const struct oko_map_spec one_map = {"blocked", OKO_MAP_HASH, 4, 4, 10, 0};
static const struct oko_data_spec one_section = {".rodata", NULL, 24, 0};

static int check_program(const struct program *p, uint32_t flags, const char *word, int at)
{
    struct oko_error error = {0};
    struct oko_prog_spec spec = {.name = "t",
                                 .insns = p->insns,
                                 .n_insns = p->n,
                                 .funcs = p->funcs,
                                 .n_funcs = p->n_funcs,
                                 .maps = &one_map,
                                 .n_maps = 1,
                                 .data = &one_section,
                                 .n_data = 1};
    int status = oko_insn_check(&spec, flags, &error);
    if (word != NULL) {
        CHECK(status < 0 && error.insn == at);
        CHECK(strstr(error.reason, word) != NULL);
    }
    return status;
}

static void test_programs(void)
{
#define EXIT                                                                                       \
    {                                                                                              \
        0x95, 0, 0, 0                                                                              \
    }
#define JA(off)                                                                                    \
    {                                                                                              \
        0x05, 0, off, 0                                                                            \
    }
#define CALL(imm)                                                                                  \
    {                                                                                              \
        0x85, 0x10, 0, imm                                                                         \
    }
#define LDDW(src, first, second)                                                                   \
    {0x18, (src) << 4 | 1, 0, first},                                                              \
    {                                                                                              \
        0, 0, 0, second                                                                            \
    }
#define NOP                                                                                        \
    {                                                                                              \
        0xbf, 0, 0, 0                                                                              \
    }
    struct program p;
    p = (struct program){{{0}}, 0, {{"", 0}}, 0};
    check_program(&p, 0, "no instructions", -1);
    p = (struct program){{NOP}, 1, {{"", 0}}, 0};
    check_program(&p, 0, "falls off", 0);
    p = (struct program){{LDDW(0, 1, 2)}, 2, {{"", 0}}, 0};
    check_program(&p, 0, "falls off", 1);
    p = (struct program){{LDDW(0, 1, 2)}, 1, {{"", 0}}, 0};
    check_program(&p, 0, "missing", 0);
    p = (struct program){{{0x18, 1, 0, 0}, EXIT, EXIT}, 3, {{"", 0}}, 0};
    check_program(&p, 0, "second half", 0);
    p = (struct program){{LDDW(0, -1, -1), EXIT}, 3, {{"", 0}}, 0};
    CHECK(check_program(&p, 0, NULL, 0) == 0);

    /* Jumps: to the first and last instruction, and one too far; into the middle of a load. */
    p = (struct program){{NOP, {0x15, 0, -2, 0}, {0x15, 0, 0, 0}, EXIT}, 4, {{"", 0}}, 0};
    CHECK(check_program(&p, 0, NULL, 0) == 0);
    p.insns[1].off = -3;
    check_program(&p, 0, "out of the program", 1);
    p.insns[1].off = 2;
    check_program(&p, 0, "out of the program", 1);
    p = (struct program){{JA(1), LDDW(0, 0, 0), EXIT}, 4, {{"", 0}}, 0};
    check_program(&p, 0, "second half", 0);
    p = (struct program){{{0x06, 0, 0, 2}, LDDW(0, 0, 0), EXIT}, 4, {{"", 0}}, 0};
    CHECK(check_program(&p, 0, NULL, 0) == 0);
    p.insns[0].imm = INT32_MAX;
    check_program(&p, 0, "out of the program", 0);
    p.insns[0].imm = INT32_MIN;
    check_program(&p, 0, "out of the program", 0);

    /* Functions: calls to their starts only, no jump between them, each ends in an exit. */
    p = (struct program){{CALL(1), EXIT, NOP, EXIT}, 4, {{"main", 0}, {"f", 2}}, 2};
    CHECK(check_program(&p, 0, NULL, 0) == 0);
    p.insns[0].imm = 2;
    check_program(&p, 0, "not the start", 0);
    CHECK(check_program(&p, OKO_LOAD_CONFORMANCE, NULL, 0) != 0);
    p.n_funcs = 1;
    check_program(&p, 0, "not the start", 0);
    CHECK(check_program(&p, OKO_LOAD_CONFORMANCE, NULL, 0) == 0);
    p.insns[0].imm = 3;
    check_program(&p, OKO_LOAD_CONFORMANCE, "out of the program", 0);
    p = (struct program){{CALL(1), JA(0), NOP, EXIT}, 4, {{"main", 0}, {"f", 2}}, 2};
    check_program(&p, 0, "out of its function", 1);
    p = (struct program){{CALL(1), NOP, NOP, EXIT}, 4, {{"main", 0}, {"f", 2}}, 2};
    check_program(&p, 0, "falls off", 1);
    p = (struct program){{EXIT, EXIT}, 2, {{"main", 1}}, 1};
    check_program(&p, 0, "out of order", -1);
    p = (struct program){{EXIT, EXIT, EXIT}, 3, {{"a", 0}, {"b", 2}, {"c", 1}}, 3};
    check_program(&p, 0, "out of order", -1);
    p = (struct program){{EXIT, EXIT}, 2, {{"a", 0}, {"b", 2}}, 2};
    check_program(&p, 0, "out of order", -1);
    p = (struct program){{EXIT, LDDW(0, 0, 0), EXIT}, 4, {{"a", 0}, {"b", 2}}, 2};
    check_program(&p, 0, "out of order", -1);

    /* Maps and data sections: in range, offset at most the section's size. */
    p = (struct program){{LDDW(OKO_PSEUDO_MAP, 0, 0), EXIT}, 3, {{"", 0}}, 0};
    CHECK(check_program(&p, 0, NULL, 0) == 0);
    p.insns[0].imm = 1;
    check_program(&p, 0, "map number 1", 0);
    p.insns[0].imm = -1;
    check_program(&p, 0, "map number", 0);
    p.insns[0].imm = 0, p.insns[1].imm = 4;
    check_program(&p, 0, "offset", 0);
    p = (struct program){{LDDW(OKO_PSEUDO_DATA, 0, 24), EXIT}, 3, {{"", 0}}, 0};
    CHECK(check_program(&p, 0, NULL, 0) == 0);
    p.insns[1].imm = 25;
    check_program(&p, 0, ".rodata", 0);
    p.insns[1].imm = -1;
    check_program(&p, 0, ".rodata", 0);
    p.insns[0].imm = 1, p.insns[1].imm = 0;
    check_program(&p, 0, "section number 1", 0);
    p = (struct program){{LDDW(3, 0, 0), EXIT}, 3, {{"", 0}}, 0};
    check_program(&p, 0, "kind 3", 0);
    p = (struct program){{{0x85, 0x20, 0, 1}, EXIT}, 2, {{"", 0}}, 0};
    check_program(&p, 0, "kind 2", 0);
}

static void test_limits(void)
{
    uint32_t n = OKO_MAX_INSNS + 1;
    struct oko_insn *insns = calloc(n, sizeof(*insns));
    for (uint32_t i = 0; i < n; i++)
        insns[i] = (struct oko_insn){0x95, 0, 0, 0};
    struct oko_prog_spec spec = {.insns = insns, .n_insns = n};
    struct oko_error error;
    CHECK(oko_insn_check(&spec, 0, &error) == OKO_E_LIMIT);
    spec.n_insns--;
    CHECK(oko_insn_check(&spec, 0, &error) == 0);
    struct oko_func_spec funcs[OKO_MAX_FUNCS + 1] = {{"", 0}};
    for (uint32_t i = 0; i <= OKO_MAX_FUNCS; i++)
        funcs[i].insn = i;
    spec.funcs = funcs, spec.n_funcs = OKO_MAX_FUNCS + 1;
    CHECK(oko_insn_check(&spec, 0, &error) == OKO_E_LIMIT);
    spec.n_funcs--;
    CHECK(oko_insn_check(&spec, 0, &error) == 0);
    free(insns);
}

/* ---------------------------------------------------------------- printing */

static const struct {
    struct oko_insn insn;
    const char *text;
} prints[] = {
    {{0x07, 1, 0, -4}, "r1 += -4"},
    {{0x0c, 0x21, 0, 0}, "w1 += w2"},
    {{0xc7, 3, 0, 7}, "r3 s>>= 7"},
    {{0x3f, 0x21, 1, 0}, "r1 s/= r2"},
    {{0x94, 1, 1, 5}, "w1 s%= 5"},
    {{0x9f, 0x21, 0, 0}, "r1 %= r2"},
    {{0xbf, 0x21, 0, 0}, "r1 = r2"},
    {{0xbf, 0x21, 8, 0}, "r1 = (s8)r2"},
    {{0xbc, 0x21, 16, 0}, "w1 = (s16)w2"},
    {{0xb4, 5, 0, 9}, "w5 = 9"},
    {{0x84, 1, 0, 0}, "w1 = -w1"},
    {{0xdc, 1, 0, 16}, "r1 = be16 r1"},
    {{0xd4, 1, 0, 64}, "r1 = le64 r1"},
    {{0xd7, 1, 0, 32}, "r1 = bswap32 r1"},
    {{0x69, 0x10, 12, 0}, "r0 = *(u16 *)(r1 + 12)"},
    {{0x91, 0x10, -1, 0}, "r0 = *(s8 *)(r1 - 1)"},
    {{0x7b, 0x1a, -8, 0}, "*(u64 *)(r10 - 8) = r1"},
    {{0x62, 10, -4, 5}, "*(u32 *)(r10 - 4) = 5"},
    {{0xdb, 0x21, 8, 0x00}, "lock *(u64 *)(r1 + 8) += r2"},
    {{0xc3, 0x21, 8, 0x50}, "lock *(u32 *)(r1 + 8) &= w2"},
    {{0xdb, 0x21, 0, 0xa1}, "r2 = atomic_fetch_xor((u64 *)(r1 + 0), r2)"},
    {{0xc3, 0x21, -4, 0xe1}, "w2 = xchg_32(r1 - 4, w2)"},
    {{0xdb, 0x21, 0, 0xf1}, "r0 = cmpxchg_64(r1 + 0, r0, r2)"},
    {{0x05, 0, -3, 0}, "goto pc-3"},
    {{0x06, 0, 0, 70000}, "gotol pc+70000"},
    {{0x15, 1, 5, 0}, "if r1 == 0x0 goto pc+5"},
    {{0x4d, 0x21, 5, 0}, "if r1 & r2 goto pc+5"},
    {{0xce, 0x21, 5, 0}, "if w1 s< w2 goto pc+5"},
    {{0x56, 1, 1, -1}, "if w1 != 0xffffffff goto pc+1"},
    {{0x85, 0, 0, 1}, "call map_lookup#1"},
    {{0x85, 0x10, 0, 1}, "call pc+1 <helper_of_mine>"},
    {{0x8d, 3, 0, 0}, "callx r3"},
    {{0x95, 0, 0, 0}, "exit"},
    {{0x28, 0, 0, 12}, "r0 = *(u16 *)skb[12]"},
    {{0x50, 0x30, 0, -2}, "r0 = *(u8 *)skb[r3 - 2]"},
};

static void test_printing(void)
{
    char text[128], small[8];
    struct oko_func_spec funcs[2] = {{"main", 0}, {"helper_of_mine", 2}};
    struct oko_insn insns[3] = {{0}};
    struct oko_prog_spec spec = {.insns = insns,
                                 .n_insns = 3,
                                 .funcs = funcs,
                                 .n_funcs = 2,
                                 .maps = &one_map,
                                 .n_maps = 1,
                                 .data = &one_section,
                                 .n_data = 1};
    for (size_t i = 0; i < sizeof(prints) / sizeof(prints[0]); i++) {
        insns[0] = prints[i].insn;
        uint32_t n = oko_prog_disasm(&spec, 0, text, sizeof(text));
        if (strcmp(text, prints[i].text) != 0)
            fprintf(stderr, "printed %s, not %s\n", text, prints[i].text);
        CHECK(strcmp(text, prints[i].text) == 0 && n == strlen(text));
        for (uint32_t size = 1; size <= sizeof(small); size++) { /* cut, never overrun */
            memset(small, 0x55, sizeof(small));
            n = oko_prog_disasm(&spec, 0, small, size);
            CHECK(n < size && small[n] == 0);
            CHECK(size == sizeof(small) || small[size] == 0x55);
        }
    }
    insns[0] = (struct oko_insn){0x18, 0x12, 0, 0};
    oko_prog_disasm(&spec, 0, text, sizeof(text));
    CHECK(strcmp(text, "r2 = map[blocked]") == 0);
    CHECK(oko_prog_disasm(&spec, 1, text, sizeof(text)) == 0 && text[0] == 0);
    insns[0] = (struct oko_insn){0x18, 0x22, 0, 0}, insns[1].imm = 16;
    oko_prog_disasm(&spec, 0, text, sizeof(text));
    CHECK(strcmp(text, "r2 = .rodata[16]") == 0);
    insns[0] = (struct oko_insn){0x18, 0x02, 0, -1}, insns[1].imm = 1;
    oko_prog_disasm(&spec, 0, text, sizeof(text));
    CHECK(strcmp(text, "r2 = 0x1ffffffff ll") == 0);
}

int main(void)
{
    test_legality();
    test_unused_fields();
    test_variants();
    test_programs();
    test_limits();
    test_printing();
    return 0;
}
