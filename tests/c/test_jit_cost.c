/* What machine code costs where wrong code would still give right results: executed instructions,
 * and stores to the stack (a key made there by narrow stores and read by wide loads costs more than
 * the lookup).
 *
 * A child runs one entry of a loaded program while its parent steps it, counts the instructions
 * that lie in the program's code and looks at the stack after each. The numbers are exact and the
 * same on any machine with the same CPU features, so that a stage of the JIT that has stopped
 * working shows. Bounds leave room for a few instructions; who needs more has to say why. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "jit_gen.h"

#include "bpf/jit/jit.h"
#include "bpf/vm.h"
#include "qsbr.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { FRAME = 64, N_PACKETS = 8, BELOW = 512 };

static struct oko_vm *vm;
static uint8_t frames[N_PACKETS][FRAME];
static struct oko_meta metas[N_PACKETS];
static struct oko_prog_in in[N_PACKETS];

/* ---------------------------------------------------------------- counting */

static void run_child(struct oko_prog *prog, bool batch)
{
    struct oko_env *env = oko_vm_env(vm, 0);
    uint64_t sum = 0;
    volatile uint8_t below[2 * BELOW]; /* no program stores this pattern */
    for (size_t i = 0; i < sizeof(below); i++)
        below[i] = 0xa5;
    if (batch)
        sum = prog->jit_batch(env, in, (1u << N_PACKETS) - 1);
    else
        for (int i = 0; i < N_PACKETS; i++)
            sum += prog->jit_run(in[i].data, in[i].len, in[i].meta, env);
    _exit(sum == 0 ? 0 : 1);
}

struct counts {
    double insns, stores; /* per packet */
    bool traced;          /* false: the system forbids it */
};

/* Has the stack below the stack pointer of the entry changed since the last look? */
static bool stack_changed(pid_t child, uint64_t top, uint8_t was[BELOW])
{
    uint8_t now[BELOW];
    struct iovec to = {now, BELOW}, from = {(void *)(uintptr_t)(top - BELOW), BELOW};
    CHECK(process_vm_readv(child, &to, 1, &from, 1, 0) == BELOW, "the child's stack");
    bool changed = memcmp(was, now, BELOW) != 0;
    memcpy(was, now, BELOW);
    return changed;
}

static struct counts count(struct oko_prog *prog, bool batch)
{
    uint32_t size;
    const uint8_t *code = oko_prog_code(prog, &size);
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
            _exit(99);
        raise(SIGSTOP);
        run_child(prog, batch);
    }
    uint64_t n = 0, stores = 0, top = 0;
    uint8_t stack[BELOW] = {0};
    int status;
    for (;;) {
        CHECK(waitpid(child, &status, 0) == child, "waitpid");
        if (WIFEXITED(status))
            break;
        CHECK(WIFSTOPPED(status), "the child ended by signal %d", WTERMSIG(status));
        struct user_regs_struct regs;
        CHECK(!ptrace(PTRACE_GETREGS, child, NULL, &regs), "registers");
        bool inside = regs.rip - (uintptr_t)code < size;
        if (inside && top == 0) { /* at the entry */
            top = regs.rsp;
            stack_changed(child, top, stack);
        } else if (top != 0) {
            stores += stack_changed(child, top, stack);
        }
        if (!inside)
            top = 0;
        n += inside;
        CHECK(!ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), "step");
    }
    return (struct counts){.insns = (double)n / N_PACKETS,
                           .stores = (double)stores / N_PACKETS,
                           .traced = WEXITSTATUS(status) != 99};
}

/* ---------------------------------------------------------------- programs */

struct program {
    struct code c;
    struct oko_map_spec map; /* type 0: none */
};

static void put_map_call(struct code *c, int key, int value, int helper)
{
    put(c, BPF_LD | BPF_IMM | BPF_DW, 1, OKO_PSEUDO_MAP, 0, 0);
    put(c, 0, 0, 0, 0, 0);
    MOV_R(c, 2, 10);
    put(c, BPF_ALU64 | BPF_ADD, 2, 0, 0, key);
    if (value) {
        MOV_R(c, 3, 10);
        put(c, BPF_ALU64 | BPF_ADD, 3, 0, 0, value);
    }
    put(c, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

/* if (len < 64) return 0 */
static void put_length_check(struct code *c)
{
    MOV_I(c, 0, 0);
    put(c, BPF_JMP | BPF_JGE, 2, 0, 1, FRAME);
    EXIT(c);
}

static void make_trivial(struct program *p)
{
    MOV_I(&p->c, 0, 1);
    EXIT(&p->c);
}

/* Counts packets in an array by their protocol. */
static void make_counter(struct program *p)
{
    struct code *c = &p->c;
    p->map = (struct oko_map_spec){"count", OKO_MAP_ARRAY, 4, 8, 256, 0};
    put_length_check(c);
    put(c, BPF_LDX | BPF_MEM | BPF_B, 3, 1, 23, 0);
    put(c, BPF_STX | BPF_MEM | BPF_W, 10, 3, -4, 0);
    put_map_call(c, -4, 0, OKO_HELPER_MAP_LOOKUP);
    put(c, BPF_JMP | BPF_JEQ, 0, 0, 3, 0);
    put(c, BPF_LDX | BPF_MEM | BPF_DW, 1, 0, 0, 0);
    put(c, BPF_ALU64 | BPF_ADD, 1, 0, 0, 1);
    put(c, BPF_STX | BPF_MEM | BPF_DW, 0, 1, 0, 0);
    MOV_I(c, 0, 1);
    EXIT(c);
}

/* Looks a 5-tuple up: the key made of five fields on the stack, as a compiler would. */
static void make_flow(struct program *p)
{
    static const struct {
        uint8_t size;
        int from, to;
    } fields[] = {
        {BPF_W, 26, -16}, {BPF_W, 30, -12}, {BPF_H, 34, -8}, {BPF_H, 36, -6}, {BPF_B, 23, -4}};
    struct code *c = &p->c;
    p->map = (struct oko_map_spec){"flows", OKO_MAP_HASH, 16, 8, 1024, 0};
    put_length_check(c);
    put(c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0);
    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        put(c, BPF_LDX | BPF_MEM | fields[i].size, 3, 1, fields[i].from, 0);
        put(c, BPF_STX | BPF_MEM | fields[i].size, 10, 3, fields[i].to, 0);
    }
    put_map_call(c, -16, 0, OKO_HELPER_MAP_LOOKUP);
    put(c, BPF_JMP | BPF_JEQ, 0, 0, 1, 0);
    put(c, BPF_LDX | BPF_MEM | BPF_DW, 0, 0, 0, 0);
    EXIT(c);
}

struct cost {
    const char *name;
    void (*make)(struct program *p);
    double most, most_in_batch; /* instructions per packet */
    double stores;              /* to the stack, without those of the batch entry's prologue */
};

static const struct cost costs[] = {{"trivial", make_trivial, 2, 8, 0},
                                    {"counter", make_counter, 9, 17, 0},
                                    {"flow", make_flow, 37, 49, 2}};

static struct oko_prog *load(const struct program *p)
{
    struct oko_prog_spec spec = {.name = "cost",
                                 .insns = p->c.insn,
                                 .n_insns = p->c.n,
                                 .funcs = &(struct oko_func_spec){.name = "entry"},
                                 .n_funcs = 1,
                                 .maps = &p->map,
                                 .n_maps = p->map.type != 0};
    struct oko_error error = {0};
    struct oko_prog *prog;
    CHECK(!oko_prog_load(vm, &spec, NULL, NULL, &prog, &error), "load: %s", error.reason);
    return prog;
}

static void make_packets(void)
{
    struct rng r = {1};
    for (int i = 0; i < N_PACKETS; i++) {
        for (int k = 0; k < FRAME; k++)
            frames[i][k] = (uint8_t)rng_next(&r);
        in[i] = (struct oko_prog_in){frames[i], FRAME, &metas[i]};
    }
}

/* All flows are known, so that lookups hit. */
static void fill(struct oko_prog *prog)
{
    for (int i = 0; i < N_PACKETS; i++) {
        uint8_t key[16] = {0}, value[8] = {1};
        memcpy(key, frames[i] + 26, 12);
        key[12] = frames[i][23];
        CHECK(!oko_map_update(oko_prog_map(prog, 0), key, value, OKO_ANY), "fill");
    }
}

int main(void)
{
    if (!(oko_features() & OKO_FEATURE_JIT)) {
        printf("test_jit_cost: left out: this CPU has no JIT\n");
        return 0;
    }
    struct oko_vm_opts opts = {.n_workers = 1, .secret = 1};
    CHECK(!oko_vm_new(&opts, &vm), "vm");
    make_packets();
    oko_qsbr_online(oko_vm_qsbr(vm), 0);
    for (unsigned i = 0; i < sizeof(costs) / sizeof(costs[0]); i++) {
        struct program p = {.map = {.type = 0}};
        costs[i].make(&p);
        struct oko_prog *prog = load(&p);
        if (p.map.type == OKO_MAP_HASH)
            fill(prog);
        struct counts one = count(prog, false), many = count(prog, true);
        if (!one.traced) {
            printf("test_jit_cost: left out: this system forbids tracing\n");
            return 0;
        }
        printf("%-10s %5.1f instructions, %.1f stores; in a batch %5.1f, %.1f\n", costs[i].name,
               one.insns, one.stores, many.insns, many.stores);
        CHECK(one.insns <= costs[i].most, "%s", costs[i].name);
        CHECK(many.insns <= costs[i].most_in_batch, "%s", costs[i].name);
        CHECK(one.stores <= costs[i].stores, "%s", costs[i].name);
        CHECK(many.stores <= costs[i].stores + 1, "%s", costs[i].name);
        oko_prog_unref(prog);
        free(p.c.insn);
    }
    oko_qsbr_offline(oko_vm_qsbr(vm), 0);
    oko_vm_free(vm);
    return 0;
}
