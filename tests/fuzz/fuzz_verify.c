/* Fuzz target: whatever the verifier accepts runs cleanly.
 *
 * The input is a program as flat records (below), so that mutations reach the verifier instead of
 * ending in an ELF reader. The program is loaded with its abstract states kept and run in the
 * checking interpreter, which asserts the verifier's claims before each instruction, on packets
 * made from the input's own bytes. A claim that fails, or a fault of a program without guards,
 * aborts.
 *
 * Format, little-endian: u8 n_maps, n_data, n_funcs, flags; u16 n_insns; maps: u8 type, u16
 * key_size, value_size, max_entries, u8 n_hashes; data: u16 size, u8 writable, bytes; functions:
 * u16 instruction; instructions: 8 bytes each as in oko_insn; what remains are packets. */
#include "bpf/prog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 24, MAX_INSNS = 2000 };

struct input {
    const uint8_t *at;
    size_t left;
};

static uint32_t take(struct input *in, unsigned size)
{
    uint32_t x = 0;
    for (unsigned i = 0; i < size && in->left > 0; i++, in->left--)
        x |= (uint32_t)*in->at++ << (8 * i);
    return x;
}

struct program {
    struct oko_prog_spec spec;
    struct oko_map_spec map[8];
    struct oko_data_spec data[4];
    uint8_t bytes[4][512];
    struct oko_func_spec func[8];
    struct oko_insn insn[MAX_INSNS];
};

static void read_program(struct input *in, struct program *p, uint32_t *flags)
{
    memset(p, 0, sizeof(*p));
    p->spec.n_maps = take(in, 1) % 9;
    p->spec.n_data = take(in, 1) % 5;
    p->spec.n_funcs = take(in, 1) % 9;
    *flags = (take(in, 1) & 1) != 0 ? OKO_LOAD_GUARDED : 0;
    p->spec.n_insns = take(in, 2) % (MAX_INSNS + 1);
    for (uint32_t i = 0; i < p->spec.n_maps; i++) {
        struct oko_map_spec *map = &p->map[i];
        snprintf(map->name, sizeof(map->name), "map%u", i);
        map->type = take(in, 1);
        map->key_size = take(in, 2) % 100;
        map->value_size = take(in, 2) % 200;
        map->max_entries = take(in, 2) % 2048;
        map->n_hashes = take(in, 1) % 8;
    }
    for (uint32_t i = 0; i < p->spec.n_data; i++) {
        struct oko_data_spec *data = &p->data[i];
        snprintf(data->name, sizeof(data->name), "data%u", i);
        data->size = take(in, 2) % sizeof(p->bytes[0]);
        data->writable = take(in, 1) & 1;
        for (uint32_t k = 0; k < data->size; k++)
            p->bytes[i][k] = (uint8_t)take(in, 1);
        data->bytes = p->bytes[i];
    }
    for (uint32_t i = 0; i < p->spec.n_funcs; i++)
        p->func[i].insn = take(in, 2);
    for (uint32_t i = 0; i < p->spec.n_insns; i++) {
        struct oko_insn *insn = &p->insn[i];
        insn->code = (uint8_t)take(in, 1);
        insn->regs = (uint8_t)take(in, 1);
        insn->off = (int16_t)take(in, 2);
        insn->imm = (int32_t)take(in, 4);
    }
    p->spec.insns = p->insn;
    p->spec.funcs = p->func;
    p->spec.maps = p->map;
    p->spec.data = p->data;
    strcpy(p->spec.name, "fuzz");
}

/* A packet in a block of its own, so that a sanitizer sees a read behind it. */
static void run(struct oko_prog *prog, const uint8_t *bytes, size_t size, uint64_t rx_ns,
                bool guarded)
{
    uint8_t *packet = malloc(size + (size == 0));
    struct oko_meta meta = {rx_ns, 0, 1, (uint32_t)size, (uint32_t)size, 0};
    struct oko_prog_in in = {packet, size, &meta};
    struct oko_error error;
    uint64_t r0;
    if (packet == NULL)
        return;
    memcpy(packet, bytes, size);
    int status = oko_prog_run(prog, 0, OKO_RUN_CHECKED, &in, &r0, &error);
    if (status != 0 && !(guarded && status == OKO_E_FAULT)) {
        fprintf(stderr, "instruction %d: %s\n", error.insn, error.reason);
        abort();
    }
    free(packet);
}

static void try_program(struct oko_vm *vm, struct input *in)
{
    static struct program p;
    uint32_t flags;
    struct oko_prog *prog;
    struct oko_error error;
    read_program(in, &p, &flags);
    struct oko_load_opts opts = {.flags = flags | OKO_LOAD_KEEP_STATES | OKO_LOAD_NO_JIT,
                                 .max_worst_case = 1000000,
                                 .verify_budget = 100000,
                                 .verify_memory = 64u << 20};
    int status = oko_prog_load(vm, &p.spec, &opts, NULL, &prog, &error);
    if (status != 0) {
        if (error.reason[0] == 0)
            abort();
        return;
    }
    uint8_t likely[128];
    for (size_t i = 0; i < sizeof(likely); i++)
        likely[i] = (uint8_t)(i < 12    ? 2
                              : i == 12 ? 8
                              : i == 14 ? 0x45
                              : i == 23 ? 6
                              : i == 46 ? 0x50
                                        : 0);
    for (uint32_t i = 0; i < MAX_RUNS; i++) {
        size_t size = i < 12 ? 10 * i : in->left > 0 ? take(in, 1) % 200 : 7 * i;
        const uint8_t *bytes = likely;
        if (in->left >= size && i % 2 == 0)
            bytes = in->at;
        else if (size > sizeof(likely))
            size = sizeof(likely);
        run(prog, bytes, size, i, (flags & OKO_LOAD_GUARDED) != 0);
    }
    oko_prog_unref(prog);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct oko_vm_opts opts = {.n_workers = 1, .max_map_bytes = 16u << 20, .secret = 1};
    struct oko_vm *vm;
    struct input in = {data, size};
    if (oko_vm_new(&opts, &vm) != 0)
        return 0;
    try_program(vm, &in);
    oko_vm_free(vm);
    return 0;
}
