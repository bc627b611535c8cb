/* What machine code must not leave out: run-time guards, fuel, calls by register, early ends from
 * any depth, the bound on frames, instructions that functions share, the last packets of a batch,
 * the caller's registers; and its pages, which never are writable and executable at once.
 *
 * Expectations are computed here, in C; the interpreter must meet them as well. */
#include "jit_gen.h"

#include "bpf/jit/jit.h"
#include "bpf/vm.h"
#include "qsbr.h"

#include <stdarg.h>
#include <sys/syscall.h>

static struct oko_vm *vm;
static const struct oko_meta no_meta;
static const enum oko_run_engine engines[2] = {OKO_RUN_INTERP, OKO_RUN_JIT};
static const uint8_t sizes[4] = {BPF_B, BPF_H, BPF_W, BPF_DW};

/* ---------------------------------------------------------------- pages */

/* These take the place of the C library's: every mapping that the VM asks for goes through here. */
static int protections_seen, both_seen;

static void see(int prot)
{
    protections_seen++;
    both_seen += (prot & PROT_WRITE) && (prot & PROT_EXEC);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    see(prot);
    return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

int mprotect(void *at, size_t size, int prot)
{
    see(prot);
    return (int)syscall(SYS_mprotect, at, size, prot);
}

/* Permissions of the mapping that holds address, as /proc/self/maps prints them; checks all others
 * on the way. */
static void permissions(const void *address, char perm[8])
{
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f, "/proc/self/maps");
    char line[512], p[8];
    strcpy(perm, "none");
    while (fgets(line, sizeof(line), f)) {
        unsigned long long from, to;
        if (sscanf(line, "%llx-%llx %7s", &from, &to, p) != 3)
            continue;
        CHECK(!(p[1] == 'w' && p[2] == 'x'), "writable and executable: %s", line);
        if ((uintptr_t)address >= from && (uintptr_t)address < to)
            strcpy(perm, p);
    }
    fclose(f);
}

/* ---------------------------------------------------------------- loading */

struct program {
    struct code c;
    struct oko_func_spec funcs[2]; /* verified programs with a sub-function name it */
    uint32_t n_funcs;
    struct oko_map_spec map; /* type 0: none */
};

static struct oko_prog *load(const struct program *p, uint32_t flags)
{
    struct oko_prog_spec spec = {.name = "test",
                                 .insns = p->c.insn,
                                 .n_insns = p->c.n,
                                 .funcs = p->funcs,
                                 .n_funcs = p->n_funcs,
                                 .maps = &p->map,
                                 .n_maps = p->map.type != 0};
    struct oko_load_opts opts = {.flags = flags};
    struct oko_error error = {0};
    struct oko_prog *prog = NULL;
    int err = oko_prog_load(vm, &spec, &opts, NULL, &prog, &error);
    CHECK(!err, "load: %d %s (instruction %d)", err, error.reason, error.insn);
    struct oko_prog_info info;
    oko_prog_info(prog, &info);
    CHECK(info.jit_bytes > 0, "no machine code");
    return prog;
}

/* Runs one packet on both engines: the status and, if it is 0, the result. */
static void expect(struct oko_prog *prog, uint8_t *data, uint64_t len, int status, uint64_t r0)
{
    struct oko_prog_in in = {data, len, &no_meta};
    for (int e = 0; e < 2; e++) {
        uint64_t got = 99;
        int s = oko_prog_run(prog, 0, engines[e], &in, &got, NULL);
        CHECK(s == status, "engine %d: status %d, not %d (result %llx)", e, s, status,
              (unsigned long long)got);
        CHECK(got == (status ? 0 : r0), "engine %d: %llx, not %llx", e, (unsigned long long)got,
              (unsigned long long)r0);
    }
}

/* Runs one packet on both engines, which must agree. */
static void expect_same(struct oko_prog *prog, uint8_t *data, uint64_t len)
{
    struct oko_prog_in in = {data, len, &no_meta};
    uint64_t r0[2];
    int status[2];
    for (int e = 0; e < 2; e++)
        status[e] = oko_prog_run(prog, 0, engines[e], &in, &r0[e], NULL);
    CHECK(status[0] == status[1] && r0[0] == r0[1], "status %d and %d, r0 %llx and %llx", status[0],
          status[1], (unsigned long long)r0[0], (unsigned long long)r0[1]);
}

/* The batch on both engines. */
static void expect_batch(struct oko_prog *prog, const struct oko_prog_in *in, uint64_t todo,
                         uint64_t matches)
{
    for (int e = 0; e < 2; e++) {
        uint64_t got = 99;
        CHECK(!oko_prog_run_batch(prog, 0, engines[e], in, todo, &got), "batch");
        CHECK(got == matches, "engine %d, todo %llx: %llx, not %llx", e, (unsigned long long)todo,
              (unsigned long long)got, (unsigned long long)matches);
    }
}

/* [main: call sub; r0 as it comes; exit] when sub, and the place to go on writing at. */
static void begin(struct program *p, bool sub)
{
    memset(&p->funcs, 0, sizeof(p->funcs));
    p->c.n = 0;
    p->n_funcs = sub ? 2 : 1;
    strcpy(p->funcs[0].name, "entry");
    strcpy(p->funcs[1].name, "sub");
    p->funcs[1].insn = 2;
    if (!sub)
        return;
    put(&p->c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 1);
    EXIT(&p->c);
}

static void test_pages(void)
{
    struct program p = {.n_funcs = 1};
    begin(&p, false);
    for (int i = 0; i < 3000; i++) /* several pages */
        put(&p.c, BPF_ALU64 | BPF_ADD, 1, 0, 0, 0x12345678 + i);
    MOV_R(&p.c, 0, 1);
    EXIT(&p.c);
    protections_seen = both_seen = 0;
    struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
    CHECK(protections_seen > 0, "the test sees no mappings");
    uint32_t size;
    const uint8_t *code = oko_prog_code(prog, &size);
    CHECK(size > 4096, "one page only");
    char perm[8];
    permissions(code, perm);
    CHECK(!strncmp(perm, "r-x", 3), "first page: %s", perm);
    permissions(code + size - 1, perm);
    CHECK(!strncmp(perm, "r-x", 3), "last page: %s", perm);
    oko_prog_unref(prog);
    CHECK(both_seen == 0, "%d mappings were asked for writable and executable", both_seen);
    free(p.c.insn);
}

/* ---------------------------------------------------------------- the caller's registers */

/* Calls fn(a, b, c, d) with known values in the registers that a callee must keep; false if one
 * changed. */
extern bool call_keeps(uint64_t *result, void *fn, const void *a, uint64_t b, uint64_t c, void *d);
__asm__(".text\n"
        ".globl call_keeps\n"
        ".type call_keeps, @function\n"
        "call_keeps:\n"
        "    push %rbx\n    push %rbp\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    push %rdi\n"
        "    mov %rsi, %rax\n    mov %rdx, %rdi\n    mov %rcx, %rsi\n    mov %r8, %rdx\n"
        "    mov %r9, %rcx\n"
        "    mov $0x1111, %rbx\n    mov $0x2222, %rbp\n    mov $0x3333, %r12\n"
        "    mov $0x4444, %r13\n    mov $0x5555, %r14\n    mov $0x6666, %r15\n"
        "    call *%rax\n"
        "    pop %rdi\n    mov %rax, (%rdi)\n"
        "    mov $1, %eax\n    xor %ecx, %ecx\n"
        "    cmp $0x1111, %rbx\n    cmovne %ecx, %eax\n    cmp $0x2222, %rbp\n"
        "    cmovne %ecx, %eax\n    cmp $0x3333, %r12\n    cmovne %ecx, %eax\n"
        "    cmp $0x4444, %r13\n    cmovne %ecx, %eax\n    cmp $0x5555, %r14\n"
        "    cmovne %ecx, %eax\n    cmp $0x6666, %r15\n    cmovne %ecx, %eax\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbp\n    pop %rbx\n"
        "    ret\n");

/* Both entries give the caller its registers back, however the run ends. */
static void keeps_registers(struct oko_prog *prog, uint8_t *data, uint64_t len)
{
    struct oko_env *env = oko_vm_env(vm, 0);
    struct oko_prog_in in[2] = {{data, len, &no_meta}, {data, len, &no_meta}};
    uint64_t r0, matched;
    oko_qsbr_online(oko_vm_qsbr(vm), 0);
    env->prog = prog;
    env->pkt = data;
    env->len = len;
    env->meta = &no_meta;
    env->fuel = prog->fuel;
    CHECK(call_keeps(&r0, (void *)(uintptr_t)prog->jit_run, data, len,
                     (uint64_t)(uintptr_t)&no_meta, env),
          "the entry changed a register of its caller");
    CHECK(call_keeps(&matched, (void *)(uintptr_t)prog->jit_batch, env, (uint64_t)(uintptr_t)in, 3,
                     NULL),
          "the batch entry changed a register of its caller");
    CHECK(matched == (r0 == 1 ? 3 : 0), "batch %llx, r0 %llx", (unsigned long long)matched,
          (unsigned long long)r0);
    oko_qsbr_offline(oko_vm_qsbr(vm), 0);
}

/* ---------------------------------------------------------------- guards */

/* return pkt[r2 byte offset...]: a 16-bit signed offset from the packet's start, read at width. */
static void test_packet_guard(const struct guarded *buf)
{
    for (int lg = 0; lg < 4; lg++) {
        for (int sub = 0; sub < 2; sub++) {
            struct program p = {.n_funcs = 1};
            begin(&p, sub);
            for (unsigned r = 6; r < 10; r++)
                MOV_I(&p.c, r, r);
            put(&p.c, BPF_JMP | BPF_JGE, 2, 0, 2, 2);
            MOV_I(&p.c, 0, 5);
            EXIT(&p.c);
            put(&p.c, BPF_LDX | BPF_MEMSX | BPF_H, 4, 1, 0, 0);
            put(&p.c, BPF_ALU64 | BPF_ADD | BPF_X, 4, 1, 0, 0);
            put(&p.c, BPF_LDX | BPF_MEM | sizes[lg], 0, 4, 3, 0);
            put(&p.c, BPF_ALU64 | BPF_AND, 0, 0, 0, 0xff);
            EXIT(&p.c);
            struct oko_prog *prog = load(&p, OKO_LOAD_GUARDED);
            enum { LEN = 40 };
            uint8_t *data = guarded_tail(buf, LEN);
            int width = 1 << lg;
            struct oko_prog_in in[64];
            uint8_t copies[64][LEN];
            uint64_t want = 0;
            for (int off = -60; off < 60; off++) {
                memset(data, 1, LEN);
                int16_t half = (int16_t)off;
                memcpy(data, &half, 2);
                bool inside = off + 3 >= 0 && off + 3 + width <= LEN;
                uint64_t got = inside ? data[off + 3] : 0;
                expect(prog, data, LEN, inside ? 0 : OKO_E_FAULT, got);
                keeps_registers(prog, data, LEN);
                if (off >= -12 && off < 52) {
                    memcpy(copies[off + 12], data, LEN);
                    in[off + 12] = (struct oko_prog_in){copies[off + 12], LEN, &no_meta};
                    want |= (uint64_t)(inside && got == 1) << (off + 12);
                }
            }
            expect_batch(prog, in, UINT64_MAX, want);
            int16_t least = -3; /* shorter than the access is wide, whatever the offset */
            for (uint64_t len = 2; len < (uint64_t)width; len++) {
                memcpy(guarded_tail(buf, len), &least, 2);
                expect(prog, guarded_tail(buf, len), len, OKO_E_FAULT, 0);
            }
            oko_prog_unref(prog);
            free(p.c.insn);
        }
    }
}

/* A value of a map, at a signed offset from the packet: read or counted up. */
static void test_value_guard(const struct guarded *buf)
{
    static const uint32_t types[] = {OKO_MAP_ARRAY, OKO_MAP_HASH, OKO_MAP_LRU_HASH,
                                     OKO_MAP_WORKER_ARRAY, OKO_MAP_WORKER_HASH};
    for (unsigned t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        for (int sub = 0; sub < 2; sub++) {
            for (int writes = 0; writes < 2; writes++) {
                struct program p = {.map = {"m", types[t], 4, 12, 1, 0}};
                begin(&p, sub);
                MOV_R(&p.c, 6, 1);
                MOV_I(&p.c, 7, 7);
                MOV_I(&p.c, 0, 3);
                put(&p.c, BPF_JMP | BPF_JGE, 2, 0, 1, 2);
                EXIT(&p.c);
                put(&p.c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0);
                put(&p.c, BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16, 0x01010101);
                put(&p.c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -8, 0x01010101);
                for (int call = 0; call < 2; call++) { /* update, then lookup */
                    put(&p.c, BPF_LD | BPF_IMM | BPF_DW, 1, OKO_PSEUDO_MAP, 0, 0);
                    put(&p.c, 0, 0, 0, 0, 0);
                    MOV_R(&p.c, 2, 10);
                    put(&p.c, BPF_ALU64 | BPF_ADD, 2, 0, 0, -4);
                    MOV_R(&p.c, 3, 10);
                    put(&p.c, BPF_ALU64 | BPF_ADD, 3, 0, 0, -16);
                    put(&p.c, BPF_JMP | BPF_CALL, 0, 0, 0, call ? 1 : 2);
                }
                put(&p.c, BPF_JMP | BPF_JNE, 0, 0, 1, 0);
                EXIT(&p.c);
                put(&p.c, BPF_LDX | BPF_MEMSX | BPF_H, 4, 6, 0, 0);
                put(&p.c, BPF_ALU64 | BPF_ADD | BPF_X, 4, 0, 0, 0);
                if (writes)
                    put(&p.c, BPF_ST | BPF_MEM | BPF_H, 4, 0, 0, 0x101);
                put(&p.c, BPF_LDX | BPF_MEM | BPF_W, 0, 4, 0, 0);
                put(&p.c, BPF_ALU64 | BPF_ADD | BPF_X, 0, 7, 0, 0);
                EXIT(&p.c);
                struct oko_prog *prog = load(&p, OKO_LOAD_GUARDED);
                for (int off = -40; off < 60; off++) {
                    int16_t half = (int16_t)off;
                    uint8_t *data = guarded_tail(buf, 2);
                    memcpy(data, &half, 2);
                    bool inside = off >= 0 && off + 4 <= 12;
                    uint8_t value[12];
                    uint64_t wide = 0x01010101;
                    memcpy(value, &wide, 8);
                    memset(value + 8, 1, 4);
                    uint32_t word = 0;
                    if (inside) {
                        if (writes)
                            memset(value + off, 1, 2);
                        memcpy(&word, value + off, 4);
                    }
                    /* Beyond it may lie another value of the map, which is allowed. */
                    if (inside || types[t] == OKO_MAP_ARRAY)
                        expect(prog, data, 2, inside ? 0 : OKO_E_FAULT, (uint64_t)word + 7);
                    else
                        expect_same(prog, data, 2);
                    keeps_registers(prog, data, 2);
                }
                oko_prog_unref(prog);
                free(p.c.insn);
            }
        }
    }
}

/* ---------------------------------------------------------------- fuel */

/* do r3 -= 1 while (r3 != 0), r3 from the packet: each test of the loop takes one unit. */
static void test_fuel(const struct guarded *buf)
{
    for (int sub = 0; sub < 2; sub++) {
        struct program p = {.n_funcs = 1};
        begin(&p, sub);
        MOV_I(&p.c, 0, 3);
        MOV_I(&p.c, 8, 1);
        put(&p.c, BPF_JMP | BPF_JGE, 2, 0, 1, 8);
        EXIT(&p.c);
        put(&p.c, BPF_LDX | BPF_MEM | BPF_DW, 3, 1, 0, 0);
        put(&p.c, BPF_ALU64 | BPF_ADD, 3, 0, 0, -1);
        put(&p.c, BPF_JMP | BPF_JNE, 3, 0, -2, 0);
        MOV_R(&p.c, 0, 8);
        EXIT(&p.c);
        struct oko_prog *prog = load(&p, OKO_LOAD_GUARDED);
        CHECK(prog->facts.guards == 1 && prog->fuel > 1000, "%u guards, fuel %lld",
              prog->facts.guards, (long long)prog->fuel);
        uint64_t fuel = (uint64_t)prog->fuel, rounds[4] = {1, fuel, fuel + 1, 0};
        uint8_t *data = guarded_tail(buf, 8);
        struct oko_prog_in in[4];
        for (int i = 0; i < 4; i++) {
            memcpy(data, &rounds[i], 8);
            expect(prog, data, 8, i < 2 ? 0 : OKO_E_FAULT, 1);
            keeps_registers(prog, data, 8);
            in[i] = (struct oko_prog_in){(const uint8_t *)&rounds[i], 8, &no_meta};
        }
        expect_batch(prog, in, 0xf, 3);
        struct oko_prog_in again[3] = {in[2], in[1], in[3]}; /* fuel is each packet's own */
        expect_batch(prog, again, 7, 2);
        oko_prog_unref(prog);
        free(p.c.insn);
    }
}

/* ---------------------------------------------------------------- calls by register, helper 5 */

/* callx through each register: helper 6 (hash) with its arguments, helper 5, no such helper. */
static void test_callx(const struct guarded *buf)
{
    static const uint64_t numbers[] = {6, 5, 4, 0x100000006, UINT64_MAX, 0, 77};
    uint8_t *data = guarded_tail(buf, 16);
    for (unsigned reg = 0; reg < 10; reg++) {
        for (unsigned k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
            for (int sub = 0; sub < 2; sub++) {
                /* The helper's own arguments are r1 and r2: there the number is one of them. */
                if ((reg == 1 || reg == 2) && numbers[k] != 5)
                    continue;
                if (numbers[k] == 4 || numbers[k] == 0)
                    continue; /* wants a map */
                struct program p = {.n_funcs = 1};
                begin(&p, sub);
                MOV_I(&p.c, 2, 16);
                for (unsigned r = 3; r < 10; r++)
                    MOV_I(&p.c, r, r);
                put_imm64(&p.c, reg, numbers[k]);
                put(&p.c, BPF_JMP | BPF_CALL | BPF_X, reg, 0, 0, 0);
                for (unsigned r = 6; r < 10; r++) { /* still there */
                    put(&p.c, BPF_ALU64 | BPF_MUL, 0, 0, 0, 31);
                    put(&p.c, BPF_ALU64 | BPF_ADD | BPF_X, 0, r, 0, 0);
                }
                EXIT(&p.c);
                struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
                memset(data, 0x5a, 16);
                uint64_t r0 = numbers[k] == 6 ? oko_hash_lookup3(data, 16)
                              : reg == 1      ? 5
                                              : (uintptr_t)data;
                for (unsigned r = 6; r < 10; r++)
                    r0 = r0 * 31 + (r == reg ? numbers[k] : r);
                bool known = numbers[k] == 5 || numbers[k] == 6;
                expect(prog, data, 16, known ? 0 : OKO_E_FAULT, r0);
                keeps_registers(prog, data, 16);
                oko_prog_unref(prog);
                free(p.c.insn);
            }
        }
    }
}

/* Calls `depth` sub-functions, each with registers and stack of its own; the innermost runs body
 * (r6 = the packet), whose r0 comes back through all of them. */
static void nest(struct program *p, int depth, void (*body)(struct code *c))
{
    begin(p, false);
    for (int d = 0; d < depth; d++) {
        for (unsigned r = 6; r < 10; r++)
            MOV_I(&p->c, r, 100 * d + (int)r);
        put(&p->c, BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8 - 8 * d, d);
        put(&p->c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 1);
        EXIT(&p->c);
    }
    MOV_R(&p->c, 6, 1);
    body(&p->c);
    EXIT(&p->c);
}

static void unwind_body(struct code *c) /* r1 = the first byte; 0 ends the run, else 1 */
{
    MOV_I(c, 9, 9);
    put(c, BPF_LDX | BPF_MEM | BPF_B, 1, 6, 0, 0);
    put(c, BPF_JMP | BPF_CALL, 0, 0, 0, 5);
    MOV_I(c, 0, 1);
}

static void unwind_by_register_body(struct code *c)
{
    put(c, BPF_LDX | BPF_MEM | BPF_B, 1, 6, 0, 0);
    MOV_I(c, 7, 5);
    put(c, BPF_JMP | BPF_CALL | BPF_X, 7, 0, 0, 0);
    MOV_I(c, 0, 1);
}

static void unknown_body(struct code *c) /* a failed check, unless the first byte is 0 */
{
    put(c, BPF_LDX | BPF_MEM | BPF_B, 7, 6, 0, 0);
    put(c, BPF_ALU64 | BPF_MUL, 7, 0, 0, 95);
    put(c, BPF_ALU64 | BPF_ADD, 7, 0, 0, 5);
    MOV_I(c, 1, 1);
    put(c, BPF_JMP | BPF_CALL | BPF_X, 7, 0, 0, 0);
}

static void abs_body(struct code *c) /* needs 8 bytes */
{
    put(c, BPF_LD | BPF_ABS | BPF_W, 0, 0, 0, 4);
    MOV_I(c, 0, 1);
}

static void ind_body(struct code *c) /* needs what the first byte says, and 2 more */
{
    put(c, BPF_LDX | BPF_MEM | BPF_B, 8, 6, 0, 0);
    put(c, BPF_LD | BPF_IND | BPF_H, 0, 8, 0, 0);
    MOV_I(c, 0, 1);
}

struct ending {
    void (*body)(struct code *c);
    uint8_t byte; /* the first one of the packet */
    uint32_t len;
    int status;
    uint64_t r0;
};

/* Runs that end early from every depth, one by one and among others in a batch. */
static void test_early_ends(const struct guarded *buf)
{
    static const struct ending endings[] = {{unwind_body, 0, 1, 0, 0},
                                            {unwind_body, 1, 1, 0, 1},
                                            {unwind_by_register_body, 0, 1, 0, 0},
                                            {unwind_by_register_body, 7, 1, 0, 1},
                                            {unknown_body, 0, 1, 0, 1},
                                            {unknown_body, 1, 1, OKO_E_FAULT, 0},
                                            {abs_body, 0, 7, 0, 0},
                                            {abs_body, 0, 8, 0, 1},
                                            {ind_body, 10, 11, 0, 0},
                                            {ind_body, 10, 12, 0, 1}};
    enum { N = sizeof(endings) / sizeof(endings[0]) };
    for (unsigned i = 0; i < N; i += 2) {
        for (int depth = 0; depth < 8; depth++) {
            struct program p = {.n_funcs = 1};
            nest(&p, depth, endings[i].body);
            struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
            struct oko_prog_in in[64];
            static uint8_t bytes[2][16];
            for (unsigned k = 0; k < 2; k++) {
                const struct ending *end = &endings[i + k];
                uint8_t *data = guarded_tail(buf, end->len);
                memset(data, 0, end->len);
                data[0] = bytes[k][0] = end->byte;
                expect(prog, data, end->len, end->status, end->r0);
                keeps_registers(prog, data, end->len);
            }
            uint64_t ones = 0, pattern = 0x9249b6d0f0f03c5a;
            for (unsigned n = 0; n < 64; n++) {
                unsigned k = pattern >> n & 1;
                in[n] = (struct oko_prog_in){bytes[k], endings[i + k].len, &no_meta};
                ones |= (endings[i + k].r0 & 1) << n;
            }
            expect_batch(prog, in, UINT64_MAX, ones);
            oko_prog_unref(prog);
            free(p.c.insn);
        }
    }
}

/* ---------------------------------------------------------------- frames */

/* f(n) = n ? f(n - 1) + 1 : 1, from a byte of the packet. The entry and seven more are allowed. */
static void test_recursion(void)
{
    struct program p = {.n_funcs = 1};
    begin(&p, false);
    put(&p.c, BPF_LDX | BPF_MEM | BPF_B, 1, 1, 0, 0);
    put(&p.c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 1);
    EXIT(&p.c);
    MOV_I(&p.c, 0, 1);
    put(&p.c, BPF_JMP | BPF_JEQ, 1, 0, 3, 0);
    put(&p.c, BPF_ALU64 | BPF_SUB, 1, 0, 0, 1);
    put(&p.c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, -4);
    put(&p.c, BPF_ALU64 | BPF_ADD, 0, 0, 0, 1);
    EXIT(&p.c);
    struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
    struct oko_prog_in in[64];
    static uint8_t bytes[64];
    for (unsigned i = 0; i < 64; i++) {
        bytes[i] = (uint8_t)(i % 16 ? i % 13 : 0); /* 0 gives 1, a match */
        bool fits = bytes[i] + 2 <= OKO_MAX_FRAMES;
        expect(prog, &bytes[i], 1, fits ? 0 : OKO_E_FAULT, bytes[i] + 1u);
        keeps_registers(prog, &bytes[i], 1);
        in[i] = (struct oko_prog_in){&bytes[i], 1, &no_meta};
    }
    uint64_t zeros = 0;
    for (unsigned i = 0; i < 64; i++)
        zeros |= (uint64_t)(bytes[i] == 0) << i;
    expect_batch(prog, in, UINT64_MAX, zeros);
    oko_prog_unref(prog);
    free(p.c.insn);
}

/* A program that calls itself from its first instruction on, until the count in its memory is 0. */
static void test_recursion_into_the_entry(void)
{
    struct program p = {.n_funcs = 1};
    begin(&p, false);
    put(&p.c, BPF_LDX | BPF_MEM | BPF_B, 3, 1, 0, 0);
    MOV_I(&p.c, 0, 1);
    put(&p.c, BPF_JMP | BPF_JEQ, 3, 0, 4, 0);
    put(&p.c, BPF_ALU64 | BPF_SUB, 3, 0, 0, 1);
    put(&p.c, BPF_STX | BPF_MEM | BPF_B, 1, 3, 0, 0);
    put(&p.c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, -6);
    put(&p.c, BPF_ALU64 | BPF_ADD, 0, 0, 0, 1);
    EXIT(&p.c);
    struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
    for (unsigned n = 0; n < 12; n++) {
        bool fits = n + 1 <= OKO_MAX_FRAMES;
        for (int e = 0; e < 2; e++) {
            uint8_t byte = (uint8_t)n;
            uint64_t r0;
            int status = oko_prog_run_raw(prog, engines[e], &byte, 1, &r0, NULL);
            CHECK(status == (fits ? 0 : OKO_E_FAULT) && r0 == (fits ? n + 1 : 0),
                  "engine %d, %u deep: status %d, r0 %llu", e, n, status, (unsigned long long)r0);
            CHECK(byte == (fits ? 0 : n - OKO_MAX_FRAMES), "engine %d, %u deep: %u left", e, n,
                  byte);
        }
    }
    oko_prog_unref(prog);
    free(p.c.insn);
}

/* A frame's stack is its own and, for unverified programs, zero at first, however often called. */
static void test_stack_of_frames(void)
{
    struct program p = {.n_funcs = 1};
    begin(&p, false);
    for (int i = 0; i < 3; i++) /* three calls */
        put(&p.c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, 3 - i);
    EXIT(&p.c);
    put(&p.c, BPF_LDX | BPF_MEM | BPF_DW, 0, 10, -512, 0);
    put(&p.c, BPF_ALU64 | BPF_ADD, 0, 0, 0, 1);
    put(&p.c, BPF_STX | BPF_MEM | BPF_DW, 10, 0, -512, 0);
    EXIT(&p.c);
    struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
    uint8_t byte = 0;
    expect(prog, &byte, 1, 0, 1);
    oko_prog_unref(prog);
    free(p.c.insn);
}

/* Two functions that end with the same instructions, of which each knows something else:
 * r2 = 1 in one and 5 in the other, r3 = r2 only in one. The verifier refuses such programs. */
static void test_shared_instructions(void)
{
    for (int order = 0; order < 2; order++) {
        struct program p = {.n_funcs = 1};
        begin(&p, false);
        put(&p.c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, order ? 8 : 5);
        MOV_R(&p.c, 6, 0);
        put(&p.c, BPF_JMP | BPF_CALL, 0, OKO_PSEUDO_LOCAL, 0, order ? 3 : 6);
        put(&p.c, BPF_ALU64 | BPF_MUL, 6, 0, 0, 1000);
        put(&p.c, BPF_ALU64 | BPF_ADD | BPF_X, 0, 6, 0, 0);
        EXIT(&p.c);
        MOV_I(&p.c, 2, 1); /* 6: the one */
        MOV_R(&p.c, 3, 2);
        put(&p.c, BPF_JMP | BPF_JA, 0, 0, 3, 0);
        MOV_I(&p.c, 2, 5); /* 9: the other */
        MOV_I(&p.c, 3, 7);
        put(&p.c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
        MOV_R(&p.c, 0, 2); /* 12: both; r2 * 10 + r3, and 2 more if r2 is 1 */
        put(&p.c, BPF_ALU64 | BPF_MUL, 0, 0, 0, 10);
        put(&p.c, BPF_ALU64 | BPF_ADD | BPF_X, 0, 3, 0, 0);
        put(&p.c, BPF_JMP | BPF_JNE, 2, 0, 1, 1);
        put(&p.c, BPF_ALU64 | BPF_ADD, 0, 0, 0, 2);
        EXIT(&p.c);
        struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
        uint8_t byte = 0;
        expect(prog, &byte, 1, 0, order ? 57 * 1000 + 13 : 13 * 1000 + 57);
        oko_prog_unref(prog);
        free(p.c.insn);
    }
}

/* ---------------------------------------------------------------- batches */

/* Programs of several kinds: what the loop keeps lies in different places. All match when the
 * packet's first byte is odd. */
static void leaf_body(struct code *c)
{
    put(c, BPF_LDX | BPF_MEM | BPF_B, 0, 1, 0, 0);
    put(c, BPF_ALU64 | BPF_AND, 0, 0, 0, 1);
}

static void branch_body(struct code *c)
{
    put(c, BPF_LDX | BPF_MEM | BPF_B, 2, 1, 0, 0);
    MOV_I(c, 0, 1);
    put(c, BPF_JMP | BPF_JSET, 2, 0, 1, 1);
    MOV_I(c, 0, 0);
}

static void other_result_body(struct code *c) /* 1, or many other numbers */
{
    put(c, BPF_LDX | BPF_MEM | BPF_B, 2, 1, 0, 0);
    MOV_I(c, 0, 1);
    put(c, BPF_JMP | BPF_JSET, 2, 0, 2, 1);
    MOV_R(c, 0, 2);
    put(c, BPF_ALU64 | BPF_LSH, 0, 0, 0, 32);
}

static void all_registers_body(struct code *c)
{
    put(c, BPF_LDX | BPF_MEM | BPF_B, 0, 1, 0, 0);
    for (unsigned r = 2; r < 10; r++)
        MOV_R(c, r, 0);
    for (unsigned r = 2; r < 10; r++) {
        put(c, BPF_ALU64 | BPF_ADD | BPF_X, r, r == 9 ? 2 : r + 1, 0, 0);
        put(c, BPF_ALU64 | BPF_AND | BPF_K, r, 0, 0, 2);
        put(c, BPF_ALU64 | BPF_OR | BPF_X, 0, r, 0, 0);
    }
    put(c, BPF_ALU64 | BPF_AND, 0, 0, 0, 1);
}

static void call_body(struct code *c) /* a helper: hash of nothing, which is not looked at */
{
    MOV_R(c, 6, 1);
    MOV_I(c, 2, 1);
    put(c, BPF_JMP | BPF_CALL, 0, 0, 0, 6);
    put(c, BPF_LDX | BPF_MEM | BPF_B, 7, 6, 0, 0);
    put(c, BPF_ALU64 | BPF_AND, 7, 0, 0, 1);
    MOV_R(c, 0, 7);
}

static void legacy_body(struct code *c)
{
    put(c, BPF_LD | BPF_ABS | BPF_B, 0, 0, 0, 0);
    put(c, BPF_ALU64 | BPF_AND, 0, 0, 0, 1);
}

/* Batches of 1 to 64 packets whose array ends at an unmapped page, with all packets to do, with
 * only the last, and with holes: the right ones match and no other entry is read. */
static void test_batch_tails(void)
{
    static void (*const bodies[])(struct code *) = {
        leaf_body, branch_body, other_result_body, all_registers_body, call_body, legacy_body};
    struct guarded array, packet;
    guarded_new(&array);
    guarded_new(&packet);
    for (unsigned b = 0; b < sizeof(bodies) / sizeof(bodies[0]); b++) {
        struct program p = {.n_funcs = 1};
        begin(&p, false);
        bodies[b](&p.c);
        EXIT(&p.c);
        struct oko_prog *prog = load(&p, OKO_LOAD_CONFORMANCE);
        for (uint32_t n = 1; n <= 64; n++) {
            struct oko_prog_in *in =
                (struct oko_prog_in *)(void *)guarded_tail(&array, n * sizeof(*in));
            struct rng r = {n};
            uint64_t all = n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX, odd = 0;
            for (uint32_t i = 0; i < n; i++) {
                uint8_t *data = guarded_tail(&packet, i + 1); /* one byte each */
                *data = (uint8_t)rng_next(&r);
                odd |= (uint64_t)(*data & 1) << i;
                in[i] = (struct oko_prog_in){data, 1, &no_meta};
            }
            uint64_t last = (uint64_t)1 << (n - 1);
            uint64_t masks[] = {all, last, 1, rng_next(&r) & all, (rng_next(&r) & all) | last, 0};
            for (unsigned m = 0; m < sizeof(masks) / sizeof(masks[0]); m++)
                expect_batch(prog, in, masks[m], odd & masks[m]);
        }
        keeps_registers(prog, guarded_tail(&packet, 1), 1);
        oko_prog_unref(prog);
        free(p.c.insn);
    }
    guarded_free(&array);
    guarded_free(&packet);
}

/* ---------------------------------------------------------------- which engine runs */

static uint32_t run_calls, batch_calls;

static uint64_t counted_run(const uint8_t *pkt, uint64_t len, const struct oko_meta *meta,
                            struct oko_env *env)
{
    (void)pkt, (void)len, (void)meta, (void)env;
    run_calls++;
    return 1;
}

static uint64_t counted_batch(struct oko_env *env, const struct oko_prog_in *packets, uint64_t todo)
{
    (void)env, (void)packets;
    batch_calls++;
    return todo;
}

/* Machine code is run when it is there and not otherwise, and a batch is one call. */
static void test_engines(void)
{
    struct program p = {.n_funcs = 1};
    begin(&p, false);
    MOV_I(&p.c, 0, 7); /* what the interpreter says; the code put in its place says 1 */
    EXIT(&p.c);
    struct oko_prog *prog = load(&p, 0);
    oko_jit_run run = prog->jit_run;
    oko_jit_batch batch = prog->jit_batch;
    prog->jit_run = counted_run;
    prog->jit_batch = counted_batch;
    static const struct {
        enum oko_run_engine engine;
        bool code;
    } cases[] = {{OKO_RUN_JIT, true}, {OKO_RUN_BEST, true}, {OKO_RUN_INTERP, false}};
    uint8_t byte = 0;
    struct oko_prog_in in[3] = {{&byte, 1, &no_meta}, {&byte, 1, &no_meta}, {&byte, 1, &no_meta}};
    for (int i = 0; i < 3; i++) {
        uint64_t r0, matched;
        run_calls = batch_calls = 0;
        CHECK(!oko_prog_run(prog, 0, cases[i].engine, in, &r0, NULL), "run");
        CHECK(r0 == (cases[i].code ? 1 : 7), "case %d: %llu", i, (unsigned long long)r0);
        CHECK(run_calls == cases[i].code, "case %d: machine code was called %u times", i,
              run_calls);
        CHECK(!oko_prog_run_batch(prog, 0, cases[i].engine, in, 5, &matched), "batch");
        CHECK(matched == (cases[i].code ? 5 : 0), "case %d: %llx", i, (unsigned long long)matched);
        CHECK(batch_calls == cases[i].code, "case %d: %u batches", i, batch_calls);
        CHECK(run_calls == cases[i].code, "case %d: the batch ran packet by packet", i);
    }
    prog->jit_run = run;
    prog->jit_batch = batch;
    oko_prog_unref(prog);
    prog = load(&p, OKO_LOAD_GUARDED); /* nothing to guard: compiled all the same */
    oko_prog_unref(prog);
    free(p.c.insn);
}

static void test_all(void)
{
    struct guarded buf;
    guarded_new(&buf);
    test_packet_guard(&buf);
    test_value_guard(&buf);
    test_fuel(&buf);
    test_callx(&buf);
    test_early_ends(&buf);
    test_recursion();
    test_recursion_into_the_entry();
    test_stack_of_frames();
    test_shared_instructions();
    test_batch_tails();
    test_engines();
    guarded_free(&buf);
}

int main(void)
{
    if (!(oko_features() & OKO_FEATURE_JIT)) {
        printf("test_jit_checks: left out: this CPU has no JIT\n");
        return 0;
    }
    struct oko_vm_opts opts = {.n_workers = 2, .secret = 1};
    CHECK(!oko_vm_new(&opts, &vm), "vm");
    test_pages();
    test_all();
    jit_skip = JIT_SKIP_BMI | JIT_SKIP_NEAR; /* without newer instructions, with far calls */
    test_all();
    jit_skip = JIT_SKIP_FLOW | JIT_SKIP_PEEP;
    test_all();
    oko_vm_free(vm);
    printf("test_jit_checks: ok\n");
    return 0;
}
