/* What every instruction does, on each engine, against a naive statement of RFC 9669; packet
 * loads, calls, helpers, run-time guards. */
#include "check.h"

#include "bpf/map_array.h"
#include "bpf/prog.h"
#include "bpf/vm.h"

static struct oko_vm *vm;

static struct oko_prog *load(const struct oko_insn *insns, uint32_t n)
{
    struct oko_prog_spec spec = {.name = "t", .insns = insns, .n_insns = n};
    struct oko_load_opts opts = {.flags = OKO_LOAD_CONFORMANCE};
    struct oko_prog *prog;
    struct oko_error error;
    if (oko_prog_load(vm, &spec, &opts, NULL, &prog, &error) != 0) {
        fprintf(stderr, "instruction %d: %s\n", error.insn, error.reason);
        exit(1);
    }
    return prog;
}

/* Runs on memory with each engine; results and memory must agree. */
static int run(struct oko_prog *prog, uint8_t *mem, uint64_t size, uint64_t *r0)
{
    uint8_t first[256], before[256];
    uint64_t other;
    CHECK(size <= sizeof(first));
    memcpy(before, mem, size);
    int status = oko_prog_run_raw(prog, OKO_RUN_INTERP, mem, size, r0, NULL);
    if (!oko_jit_available())
        return status;
    memcpy(first, mem, size);
    memcpy(mem, before, size);
    CHECK(oko_prog_run_raw(prog, OKO_RUN_JIT, mem, size, &other, NULL) == status);
    CHECK(other == *r0 && memcmp(first, mem, size) == 0);
    return status;
}

static const uint64_t values[] = {0,
                                  1,
                                  2,
                                  3,
                                  7,
                                  31,
                                  32,
                                  33,
                                  63,
                                  64,
                                  0x7f,
                                  0x80,
                                  0xff80,
                                  0x7fff,
                                  0x8000,
                                  0x7fffffff,
                                  0x80000000,
                                  0xfffffffe,
                                  0xffffffff,
                                  0x100000000,
                                  0x1234567890abcdef,
                                  0x7fffffffffffffff,
                                  0x8000000000000000,
                                  0x8000000000000001,
                                  0xffffffff80000000,
                                  0xfffffffffffffffe,
                                  0xffffffffffffffff};
enum { N_VALUES = sizeof(values) / sizeof(values[0]) };

/* ---------------------------------------------------------------- arithmetic */

__extension__ typedef __int128 wide; /* nothing overflows in it */

/* The n low bits of x as a signed number. */
static wide signed_of(uint64_t x, int bits)
{
    wide v = (wide)(bits == 64 ? x : x & (((uint64_t)1 << bits) - 1));
    return v >= ((wide)1 << (bits - 1)) ? v - ((wide)1 << bits) : v;
}

static wide unsigned_of(uint64_t x, int bits)
{
    return (wide)(bits == 64 ? x : x & (((uint64_t)1 << bits) - 1));
}

static uint64_t naive_alu(uint8_t code, int off, uint64_t dst, uint64_t src)
{
    int bits = (code & 7) == 7 ? 64 : 32;
    wide a = unsigned_of(dst, bits), b = unsigned_of(src, bits);
    wide sa = signed_of(dst, bits), sb = signed_of(src, bits);
    wide r = 0;
    switch (code >> 4) {
    case 0x0:
        r = a + b;
        break;
    case 0x1:
        r = a - b;
        break;
    case 0x2:
        r = (wide)((uint64_t)a * (uint64_t)b); /* modulo 2^64 is all that counts */
        break;
    case 0x3:
        r = b == 0 ? 0 : off == 1 ? sa / sb : a / b;
        break;
    case 0x4:
        r = a | b;
        break;
    case 0x5:
        r = a & b;
        break;
    case 0x6:
        r = (wide)((uint64_t)a << (int)(b % bits));
        break;
    case 0x7:
        r = a >> (int)(b % bits);
        break;
    case 0x8:
        r = -a;
        break;
    case 0x9:
        r = b == 0 ? a : off == 1 ? sa % sb : a % b;
        break;
    case 0xa:
        r = a ^ b;
        break;
    case 0xb:
        r = off == 0 ? b : signed_of(src, off);
        break;
    default:
        CHECK(code >> 4 == 0xc);
        r = sa >> (int)(b % bits);
        break;
    }
    return (uint64_t)unsigned_of((uint64_t)r, bits);
}

/* r3 = mem[0], r4 = mem[1]; the operation; mem[2] = r3; r0 = 0 */
static void check_alu(uint8_t code, int off, int32_t imm, bool by_register)
{
    struct oko_insn insns[] = {
        {0x79, 0x13, 0, 0},
        {0x79, 0x14, 8, 0},
        {code, (uint8_t)(by_register ? 0x43 : 0x03), (int16_t)off, by_register ? 0 : imm},
        {0x7b, 0x31, 16, 0},
        {0xb7, 0, 0, 0},
        {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 6);
    for (int i = 0; i < N_VALUES; i++)
        for (int j = 0; j < (by_register ? N_VALUES : 1); j++) {
            uint64_t mem[3] = {values[i], values[j], 0x5555}, r0;
            CHECK(run(prog, (uint8_t *)mem, sizeof(mem), &r0) == 0);
            uint64_t b = by_register ? values[j] : (uint64_t)(int64_t)imm;
            uint64_t expected = naive_alu(code, off, values[i], b);
            if (mem[2] != expected)
                fprintf(stderr, "code %02x off %d: %llx by %llx gave %llx, not %llx\n", code, off,
                        (unsigned long long)values[i], (unsigned long long)b,
                        (unsigned long long)mem[2], (unsigned long long)expected);
            CHECK(mem[2] == expected);
        }
    oko_prog_unref(prog);
}

static void test_alu(void)
{
    static const int32_t imms[] = {0,   1,          2,         3,          7,
                                   31,  32,         33,        63,         64,
                                   -1,  -2,         -32,       0x7fffffff, (int32_t)0x80000000,
                                   255, 0x12345678, -0x1234567};
    for (int op = 0; op <= 0xc; op++) {
        if (op == 8)
            continue;
        for (int is64 = 0; is64 < 2; is64++) {
            uint8_t code = (uint8_t)(op << 4 | (is64 ? 7 : 4));
            for (size_t i = 0; i < sizeof(imms) / sizeof(imms[0]); i++) {
                check_alu(code, 0, imms[i], false);
                if (op == 3 || op == 9)
                    check_alu(code, 1, imms[i], false);
            }
            check_alu(code | 8, 0, 0, true);
            if (op == 3 || op == 9)
                check_alu(code | 8, 1, 0, true);
        }
    }
    check_alu(0x84, 0, 0, false);
    check_alu(0x87, 0, 0, false);
    check_alu(0xbf, 8, 0, true);
    check_alu(0xbf, 16, 0, true);
    check_alu(0xbf, 32, 0, true);
    check_alu(0xbc, 8, 0, true);
    check_alu(0xbc, 16, 0, true);
}

static void test_byte_order(void)
{
    static const struct {
        uint8_t code;
        int32_t bits;
        uint64_t expected; /* of 0x1122334455667788 */
    } cases[] = {{0xd4, 16, 0x7788}, {0xd4, 32, 0x55667788}, {0xd4, 64, 0x1122334455667788},
                 {0xdc, 16, 0x8877}, {0xdc, 32, 0x88776655}, {0xdc, 64, 0x8877665544332211},
                 {0xd7, 16, 0x8877}, {0xd7, 32, 0x88776655}, {0xd7, 64, 0x8877665544332211}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct oko_insn insns[] = {
            {0x79, 0x10, 0, 0}, {cases[i].code, 0, 0, cases[i].bits}, {0x95, 0, 0, 0}};
        struct oko_prog *prog = load(insns, 3);
        uint64_t mem = 0x1122334455667788, r0;
        CHECK(run(prog, (uint8_t *)&mem, 8, &r0) == 0 && r0 == cases[i].expected);
        oko_prog_unref(prog);
    }
}

/* ---------------------------------------------------------------- jumps */

static bool naive_jump(uint8_t code, uint64_t dst, uint64_t src)
{
    int bits = (code & 7) == 5 ? 64 : 32;
    wide a = unsigned_of(dst, bits), b = unsigned_of(src, bits);
    wide sa = signed_of(dst, bits), sb = signed_of(src, bits);
    switch (code >> 4) {
    case 0x1:
        return a == b;
    case 0x2:
        return a > b;
    case 0x3:
        return a >= b;
    case 0x4:
        return (a & b) != 0;
    case 0x5:
        return a != b;
    case 0x6:
        return sa > sb;
    case 0x7:
        return sa >= sb;
    case 0xa:
        return a < b;
    case 0xb:
        return a <= b;
    case 0xc:
        return sa < sb;
    default:
        CHECK(code >> 4 == 0xd);
        return sa <= sb;
    }
}

static void check_jump(uint8_t code, int32_t imm, bool by_register)
{
    struct oko_insn insns[] = {
        {0x79, 0x13, 0, 0}, {0x79, 0x14, 8, 0},
        {0xb7, 0, 0, 1},    {code, (uint8_t)(by_register ? 0x43 : 0x03), 1, by_register ? 0 : imm},
        {0xb7, 0, 0, 0},    {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 6);
    for (int i = 0; i < N_VALUES; i++)
        for (int j = 0; j < (by_register ? N_VALUES : 1); j++) {
            uint64_t mem[2] = {values[i], values[j]}, r0;
            CHECK(run(prog, (uint8_t *)mem, sizeof(mem), &r0) == 0);
            uint64_t b = by_register ? values[j] : (uint64_t)(int64_t)imm;
            if (r0 != naive_jump(code, values[i], b))
                fprintf(stderr, "code %02x: %llx, %llx\n", code, (unsigned long long)values[i],
                        (unsigned long long)b);
            CHECK(r0 == naive_jump(code, values[i], b));
        }
    oko_prog_unref(prog);
}

static void test_jumps(void)
{
    static const int32_t imms[] = {0, 1, 2, 127, -1, -2, 0x7fffffff, (int32_t)0x80000000};
    for (int op = 1; op <= 0xd; op++) {
        if (op == 8 || op == 9)
            continue;
        for (uint8_t class = 5; class <= 6; class ++) {
            uint8_t code = (uint8_t)(op << 4 | class);
            for (size_t i = 0; i < sizeof(imms) / sizeof(imms[0]); i++)
                check_jump(code, imms[i], false);
            check_jump(code | 8, 0, true);
        }
    }
    /* Unconditional ones, forward and back. */
    struct oko_insn insns[] = {{0xb7, 0, 0, 0},  {0x05, 0, 1, 0}, {0x95, 0, 0, 0},
                               {0x07, 0, 0, 1},  {0x06, 0, 0, 1}, {0x05, 0, -4, 0},
                               {0xa5, 0, -2, 3}, {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 8);
    uint64_t r0, mem = 0;
    CHECK(run(prog, (uint8_t *)&mem, 8, &r0) == 0 && r0 == 1);
    oko_prog_unref(prog);
}

/* ---------------------------------------------------------------- memory */

static void test_loads_and_stores(void)
{
    static const struct {
        uint8_t load, load_signed, store, store_imm;
        int width;
    } widths[] = {{0x71, 0x91, 0x73, 0x72, 1},
                  {0x69, 0x89, 0x6b, 0x6a, 2},
                  {0x61, 0x81, 0x63, 0x62, 4},
                  {0x79, 0x00, 0x7b, 0x7a, 8}};
    for (int w = 0; w < 4; w++)
        for (int at = -4; at < 8; at++) { /* misaligned ones too; r2 points into the middle */
            struct oko_insn insns[] = {
                {0xbf, 0x12, 0, 0},
                {0x07, 2, 0, 8},
                {widths[w].load, 0x23, (int16_t)at, 0},
                {0x7b, 0x31, 24, 0},
                {widths[w].load_signed != 0 ? widths[w].load_signed : 0x79, 0x24, (int16_t)at, 0},
                {0x7b, 0x41, 32, 0},
                {0x79, 0x15, 56, 0},
                {widths[w].store, 0x51, (int16_t)(at + 44), 0},
                {widths[w].store_imm, 1, (int16_t)(at + 64), -3},
                {0xb7, 0, 0, 0},
                {0x95, 0, 0, 0}};
            struct oko_prog *prog = load(insns, 11);
            uint8_t mem[80], expected[80];
            uint64_t r0, value, zero = 0;
            for (int i = 0; i < 80; i++)
                mem[i] = (uint8_t)(0x71 + i * 37);
            memcpy(expected, mem, sizeof(mem));
            memcpy(&value, mem + 8 + at, (size_t)widths[w].width);
            value = (uint64_t)unsigned_of(value, widths[w].width * 8);
            memcpy(expected + 24, &zero, 8);
            memcpy(expected + 24, mem + 8 + at, (size_t)widths[w].width);
            int64_t extended = (int64_t)signed_of(value, widths[w].width * 8);
            memcpy(expected + 32, &extended, 8);
            memmove(expected + 44 + at, expected + 56, (size_t)widths[w].width);
            int64_t minus3 = -3;
            memcpy(expected + 64 + at, &minus3, (size_t)widths[w].width);
            CHECK(run(prog, mem, sizeof(mem), &r0) == 0);
            CHECK(memcmp(mem, expected, sizeof(mem)) == 0);
            oko_prog_unref(prog);
        }
}

static uint64_t naive_atomic(int32_t imm, uint64_t old, uint64_t src, uint64_t r0, int bits)
{
    switch (imm & ~1) {
    case 0x00:
        return old + src;
    case 0x40:
        return old | src;
    case 0x50:
        return old & src;
    case 0xa0:
        return old ^ src;
    case 0xe0:
        return src;
    default:
        return unsigned_of(old, bits) == unsigned_of(r0, bits) ? src : old;
    }
}

/* mem: 0 the operand, 1 src, 2 r0; after: 3 src, 4 r0 */
static void test_atomics(void)
{
    static const int32_t operations[] = {0x00, 0x40, 0x50, 0xa0, 0x01,
                                         0x41, 0x51, 0xa1, 0xe1, 0xf1};
    for (int bits = 32; bits <= 64; bits += 32)
        for (size_t o = 0; o < sizeof(operations) / sizeof(operations[0]); o++) {
            int32_t imm = operations[o];
            struct oko_insn insns[] = {{0x79, 0x13, 8, 0},
                                       {0x79, 0x10, 16, 0},
                                       {(uint8_t)(bits == 64 ? 0xdb : 0xc3), 0x31, 0, imm},
                                       {0x7b, 0x31, 24, 0},
                                       {0x7b, 0x01, 32, 0},
                                       {0x95, 0, 0, 0}};
            struct oko_prog *prog = load(insns, 6);
            for (int i = 0; i < N_VALUES; i++)
                for (int j = 0; j < N_VALUES; j += 2)
                    for (int equal = 0; equal < 2; equal++) {
                        uint64_t compare = equal ? values[i] : values[j];
                        uint64_t mem[5] = {values[i], values[j], compare, 0, 0}, r0;
                        uint64_t result = naive_atomic(imm, values[i], values[j], compare, bits);
                        uint64_t old = (uint64_t)unsigned_of(values[i], bits);
                        uint64_t kept = bits == 64 ? 0 : values[i] >> 32 << 32;
                        CHECK(run(prog, (uint8_t *)mem, sizeof(mem), &r0) == 0);
                        CHECK(mem[0] == (kept | (uint64_t)unsigned_of(result, bits)));
                        bool fetches = (imm & 1) != 0, exchange = imm == 0xf1;
                        CHECK(mem[3] == (fetches && !exchange ? old : values[j]));
                        CHECK(mem[4] == (exchange ? old : compare));
                    }
            oko_prog_unref(prog);
        }
}

/* ---------------------------------------------------------------- packet loads */

static uint64_t packet_load(uint8_t code, uint64_t src, int32_t imm, uint64_t length, int *ended)
{
    struct oko_insn insns[] = {{0x18, 6, 0, (int32_t)src},
                               {0, 0, 0, (int32_t)(src >> 32)},
                               {0xb7, 0, 0, 77},
                               {code, (uint8_t)((code & 0xe0) == 0x40 ? 0x60 : 0), 0, imm},
                               {0x7b, 0x0a, -8, 0},
                               {0xb7, 0, 0, 1},
                               {0x79, 0xa0, -8, 0},
                               {0x47, 0, 0, 0x40000000},
                               {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 9);
    uint8_t *mem = guarded(length);
    uint64_t r0;
    for (uint64_t i = 0; i < length; i++)
        mem[i] = (uint8_t)(0x11 * (i + 1));
    CHECK(run(prog, mem, length, &r0) == 0);
    oko_prog_unref(prog);
    *ended = (r0 & 0x40000000) == 0; /* the bytes never have that bit in a 32-bit load below */
    return r0 & ~(uint64_t)0x40000000;
}

static void test_packet_loads(void)
{
    int ended;
    CHECK(packet_load(0x30, 0, 0, 4, &ended) == 0x11 && !ended);
    CHECK(packet_load(0x28, 0, 0, 4, &ended) == 0x1122 && !ended);
    CHECK(packet_load(0x20, 0, 0, 4, &ended) == 0x11223344 && !ended);
    CHECK(packet_load(0x28, 0, 2, 4, &ended) == 0x3344 && !ended);
    CHECK(packet_load(0x30, 0, 3, 4, &ended) == 0x44 && !ended);
    CHECK(packet_load(0x48, 1, 1, 4, &ended) == 0x3344 && !ended);
    CHECK(packet_load(0x50, 5, -2, 4, &ended) == 0x44 && !ended);
    /* A sum is of 64 bits: -2 + 3 = 1, but 2^32 - 1 + 2 is no 1. */
    CHECK(packet_load(0x50, (uint64_t)-2, 3, 4, &ended) == 0x22 && !ended);
    CHECK(packet_load(0x50, 0xffffffff, 2, 4, &ended) == 0 && ended);
    CHECK(packet_load(0x50, 0x100000000, 0, 4, &ended) == 0 && ended);
    static const uint8_t codes[] = {0x30, 0x28, 0x20, 0x50, 0x48, 0x40};
    for (int i = 0; i < 6; i++) {
        int width = i % 3 == 0 ? 1 : i % 3 == 1 ? 2 : 4;
        for (uint64_t length = 0; length < 8; length++)
            for (int32_t at = -2; at < 10; at++) {
                bool inside = at >= 0 && (uint64_t)at + (uint64_t)width <= length;
                uint64_t expected = 0;
                for (int b = 0; b < width && inside; b++)
                    expected = expected << 8 | (uint8_t)(0x11 * (at + b + 1));
                uint64_t got = packet_load(codes[i], 0, at, length, &ended);
                CHECK(got == (expected & ~(uint64_t)0x40000000));
                CHECK(inside || (ended && got == 0));
            }
        CHECK(packet_load(codes[i], 0, INT32_MAX, 4, &ended) == 0 && ended);
        CHECK(packet_load(codes[i], 0, INT32_MIN, 4, &ended) == 0 && ended);
        if (i >= 3) {
            CHECK(packet_load(codes[i], UINT64_MAX, 0, 4, &ended) == 0 && ended);
            CHECK(packet_load(codes[i], INT64_MAX, INT32_MAX, 4, &ended) == 0 && ended);
            CHECK(packet_load(codes[i], (uint64_t)INT64_MIN, -1, 4, &ended) == 0 && ended);
        }
    }
}

/* A load beyond the end inside a function ends the whole program. */
static void test_packet_load_in_function(void)
{
    struct oko_insn insns[] = {
        {0x85, 0x10, 0, 2}, {0xb7, 0, 0, 1}, {0x95, 0, 0, 0}, {0x30, 0, 0, 8}, {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 5);
    uint8_t mem[9] = {0};
    uint64_t r0;
    CHECK(run(prog, mem, 9, &r0) == 0 && r0 == 1);
    CHECK(run(prog, mem, 8, &r0) == 0 && r0 == 0);
    oko_prog_unref(prog);
}

/* ---------------------------------------------------------------- calls */

/* Callee-saved registers come back, each frame has a stack of its own, r0 carries the result. */
static void test_calls(void)
{
    struct oko_insn insns[] = {{0xb7, 6, 0, 60},
                               {0xb7, 7, 0, 70},
                               {0xb7, 8, 0, 80},
                               {0xb7, 9, 0, 90},
                               {0x7a, 10, -8, 1},
                               {0xb7, 1, 0, 5},
                               {0x85, 0x10, 0, 8}, /* r0 = f(5) */
                               {0x79, 0xa1, -8, 0},
                               {0x0f, 0x10, 0, 0}, /* + 1, still on the stack */
                               {0x0f, 0x60, 0, 0},
                               {0x0f, 0x70, 0, 0},
                               {0x0f, 0x80, 0, 0},
                               {0x0f, 0x90, 0, 0},
                               {0x95, 0, 0, 0},
                               {0x95, 0, 0, 0},
                               /* f(n): n == 0 ? 100 : f(n - 1) + n, clobbering everything */
                               {0x55, 1, 2, 0},
                               {0xb7, 0, 0, 100},
                               {0x95, 0, 0, 0},
                               {0x7b, 0x1a, -8, 0},
                               {0xb7, 6, 0, -1},
                               {0xb7, 7, 0, -1},
                               {0xb7, 8, 0, -1},
                               {0xb7, 9, 0, -1},
                               {0x07, 1, 0, -1},
                               {0x85, 0x10, 0, -10},
                               {0x79, 0xa1, -8, 0},
                               {0x0f, 0x10, 0, 0},
                               {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, sizeof(insns) / sizeof(insns[0]));
    uint64_t r0, mem = 0;
    CHECK(run(prog, (uint8_t *)&mem, 8, &r0) == 0);
    CHECK(r0 == 100 + 1 + 2 + 3 + 4 + 5 + 1 + 60 + 70 + 80 + 90);
    oko_prog_unref(prog);
    insns[5].imm = 6; /* main and seven more frames */
    prog = load(insns, sizeof(insns) / sizeof(insns[0]));
    CHECK(run(prog, (uint8_t *)&mem, 8, &r0) == 0 && r0 == 100 + 21 + 301);
    oko_prog_unref(prog);
    insns[5].imm = 7; /* a ninth frame: only unverified programs can try */
    prog = load(insns, sizeof(insns) / sizeof(insns[0]));
    CHECK(oko_prog_run_raw(prog, OKO_RUN_INTERP, (uint8_t *)&mem, 8, &r0, NULL) == OKO_E_FAULT);
    CHECK(r0 == 0);
    oko_prog_unref(prog);
}

/* Conformance helper 5 ends the program when its argument is 0; also called by register. */
static void test_unwind(void)
{
    for (int by_register = 0; by_register < 2; by_register++)
        for (int argument = -1; argument <= 0; argument++) {
            struct oko_insn insns[] = {{0xb7, 1, 0, argument},
                                       {0xb7, 2, 0, 5},
                                       {0x85, 0, 0, 5},
                                       {0xb7, 0, 0, 2},
                                       {0x95, 0, 0, 0}};
            if (by_register)
                insns[2] = (struct oko_insn){0x8d, 2, 0, 0};
            struct oko_prog *prog = load(insns, 5);
            uint64_t r0, mem = 0;
            CHECK(run(prog, (uint8_t *)&mem, 8, &r0) == 0 && r0 == (argument == 0 ? 0 : 2));
            oko_prog_unref(prog);
        }
}

/* ---------------------------------------------------------------- arguments and profile */

static void test_arguments(void)
{
    /* r0 = *(u8 *)pkt + len * 256 + rx_ns * 65536 */
    struct oko_insn insns[] = {{0x71, 0x10, 0, 0}, {0x67, 2, 0, 8},  {0x0f, 0x20, 0, 0},
                               {0x79, 0x33, 0, 0}, {0x67, 3, 0, 16}, {0x0f, 0x30, 0, 0},
                               {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 7);
    struct oko_meta meta = {.rx_ns = 5};
    uint8_t pkt[200] = {9};
    struct oko_prog_in in = {pkt, 200, &meta};
    uint64_t r0, counts[7] = {0};
    CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0 && r0 == 9 + 51200 + 327680);
    oko_prog_profile(prog, counts);
    for (int i = 0; i < 3; i++)
        CHECK(oko_prog_run(prog, 0, OKO_RUN_BEST, &in, &r0, NULL) == 0);
    oko_prog_profile(prog, NULL);
    CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL) == 0);
    for (int i = 0; i < 7; i++)
        CHECK(counts[i] == 3);
    oko_prog_unref(prog);
}

/* ---------------------------------------------------------------- guards */

/* Marks an instruction as the verifier of guarded loading would. */
static void mark(struct oko_prog *prog, uint32_t pc, uint16_t flags, uint8_t guard)
{
    prog->facts.insn[pc].flags |= flags;
    prog->facts.insn[pc].guard = guard;
    prog->facts.insn[pc].guard_map = 0;
    prog->facts.guards++;
    oko_interp_free(prog);
    CHECK(oko_interp_prepare(prog, NULL) == 0);
}

static void test_packet_guard(void)
{
    /* return *(u16 *)(pkt + *(s8 *)pkt) */
    struct oko_insn insns[] = {
        {0x91, 0x13, 0, 0}, {0x0f, 0x31, 0, 0}, {0x69, 0x10, 1, 0}, {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 4);
    mark(prog, 2, OKO_FACT_GUARD, OKO_GUARD_PKT);
    struct oko_meta meta = {0};
    uint8_t *pkt = guarded(10);
    struct oko_prog_in in = {pkt, 10, &meta};
    struct oko_error error;
    for (int at = -128; at < 128; at++) {
        uint64_t r0;
        memset(pkt, 1, 10);
        pkt[0] = (uint8_t)at;
        int status = oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, &error);
        bool inside = at + 1 >= 0 && at + 3 <= 10;
        CHECK(status == (inside ? 0 : OKO_E_FAULT));
        CHECK((r0 & 0xff00) == (inside ? 0x100 : 0));
    }
    struct oko_prog_stats stats;
    oko_prog_stats(prog, &stats);
    CHECK(stats.runs == 256 && stats.faults == 256 - 9);
    struct oko_prog_in tiny = {pkt, 1, &meta}; /* shorter than the access is wide */
    uint64_t result;
    pkt[0] = 0;
    CHECK(oko_prog_run(prog, 0, OKO_RUN_INTERP, &tiny, &result, &error) == OKO_E_FAULT);
    /* In a batch a fault is no match and the others go on. */
    struct oko_prog_in batch[3] = {in, in, in};
    uint64_t matched, faulted;
    uint8_t other[10] = {0, 1, 0};
    pkt[0] = 100;
    batch[0].data = batch[2].data = other;
    matched = oko_prog_exec(prog, oko_vm_env(vm, 0), true, batch, 7, &faulted);
    CHECK(matched == 5 && faulted == 2);
    oko_prog_unref(prog);
}

static void test_fuel(void)
{
    /* r3 = *(u64 *)pkt; do r3--; while (r3 != 0); return 1 */
    struct oko_insn insns[] = {
        {0x79, 0x13, 0, 0}, {0x07, 3, 0, -1}, {0x55, 3, -2, 0}, {0xb7, 0, 0, 1}, {0x95, 0, 0, 0}};
    struct oko_prog *prog = load(insns, 5);
    mark(prog, 2, OKO_FACT_FUEL, OKO_GUARD_NONE);
    prog->fuel = 200000; /* how much is the verifier's to say */
    struct oko_meta meta = {0};
    for (uint64_t n = 199999; n <= 200001; n++) {
        uint64_t rounds = n, r0;
        struct oko_prog_in in = {(uint8_t *)&rounds, 8, &meta};
        int status = oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL);
        CHECK(status == (n <= 200000 ? 0 : OKO_E_FAULT) && r0 == (n <= 200000));
    }
    oko_prog_unref(prog);
}

static void test_value_guard(void)
{
    /* v = lookup(array, 1); return *(u32 *)(v + *(s8 *)pkt) */
    struct oko_insn insns[] = {{0xbf, 0x16, 0, 0}, {0x62, 10, -4, 1},  {0x18, 0x11, 0, 0},
                               {0, 0, 0, 0},       {0xbf, 0xa2, 0, 0}, {0x07, 2, 0, -4},
                               {0x85, 0, 0, 1},    {0x91, 0x61, 0, 0}, {0x0f, 0x10, 0, 0},
                               {0x61, 0x00, 0, 0}, {0x95, 0, 0, 0}};
    struct oko_map_spec map = {"a", OKO_MAP_ARRAY, 4, 12, 3, 0};
    struct oko_prog_spec spec = {
        .name = "t", .insns = insns, .n_insns = 11, .maps = &map, .n_maps = 1};
    struct oko_load_opts opts = {.flags = OKO_LOAD_CONFORMANCE | OKO_LOAD_NO_JIT};
    struct oko_prog *prog;
    CHECK(oko_prog_load(vm, &spec, &opts, NULL, &prog, NULL) == 0);
    mark(prog, 9, OKO_FACT_GUARD, OKO_GUARD_VALUE);
    struct oko_meta meta = {0};
    for (int at = -128; at < 128; at++) {
        uint8_t pkt = (uint8_t)at;
        uint64_t r0;
        struct oko_prog_in in = {&pkt, 1, &meta};
        int status = oko_prog_run(prog, 0, OKO_RUN_INTERP, &in, &r0, NULL);
        /* The values are 16 bytes apart; the last 4 of them belong to nobody. */
        int inside = at + 16;
        bool allowed = inside >= 0 && inside / 16 < 3 && inside % 16 + 4 <= 12;
        CHECK(status == (allowed ? 0 : OKO_E_FAULT) && r0 == 0);
    }
    oko_prog_unref(prog);
}

int main(void)
{
    struct oko_vm_opts opts = {.n_workers = 1};
    CHECK(oko_vm_new(&opts, &vm) == 0);
    test_alu();
    test_byte_order();
    test_jumps();
    test_loads_and_stores();
    test_atomics();
    test_packet_loads();
    test_packet_load_in_function();
    test_calls();
    test_unwind();
    test_arguments();
    test_packet_guard();
    test_fuel();
    test_value_guard();
    oko_vm_free(vm);
    return 0;
}
