/* Fuzz target: whatever the verifier accepts runs cleanly.
 *
 * The input is a program as flat records (below), so that mutations reach the verifier instead of
 * ending in an ELF reader. The program is loaded with its abstract states kept and run in the
 * checking interpreter, which asserts the verifier's claims before each instruction, on packets
 * made from the input's own bytes. A claim that fails, or a fault of a program without guards,
 * aborts.
 *
 * Mutations mostly change one instruction into another legal one: bytes changed at random would
 * end in the decoder. Seeds: tests/fuzz/verify_seeds.py.
 *
 * Format, little-endian: u8 n_maps, n_data, n_funcs, flags; u16 n_insns; maps: u8 type, u16
 * key_size, value_size, max_entries, u8 n_hashes; data: u16 size, u8 writable, bytes; functions:
 * u16 instruction; instructions: 8 bytes each as in oko_insn; what remains are packets. */
#include "bpf/insn.h"
#include "bpf/prog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 24, MAX_INSNS = 2000, MAX_MAPS = 16, MAX_DATA = 4, MAX_FUNCS = 8 };

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
    struct oko_map_spec map[MAX_MAPS];
    struct oko_data_spec data[MAX_DATA];
    uint8_t bytes[MAX_DATA][512];
    struct oko_func_spec func[MAX_FUNCS];
    struct oko_insn insn[MAX_INSNS];
};

static void read_program(struct input *in, struct program *p, uint32_t *flags)
{
    memset(p, 0, sizeof(*p));
    p->spec.n_maps = take(in, 1) % (MAX_MAPS + 1);
    p->spec.n_data = take(in, 1) % (MAX_DATA + 1);
    p->spec.n_funcs = take(in, 1) % (MAX_FUNCS + 1);
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
                                 .max_worst_case = 20000, /* the checking interpreter is slow */
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

/* ---------------------------------------------------------------- mutations */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

/* Where the instructions begin and how many there are; 0 when the input is too short for any. */
static size_t find_insns(const uint8_t *data, size_t size, uint32_t *n)
{
    struct input in = {data, size};
    uint32_t n_maps = take(&in, 1) % (MAX_MAPS + 1), n_data = take(&in, 1) % (MAX_DATA + 1);
    uint32_t n_funcs = take(&in, 1) % (MAX_FUNCS + 1);
    take(&in, 1);
    *n = take(&in, 2) % (MAX_INSNS + 1);
    for (uint32_t i = 0; i < 8 * n_maps; i++)
        take(&in, 1);
    for (uint32_t i = 0; i < n_data; i++) {
        uint32_t bytes = take(&in, 2) % 512;
        for (uint32_t k = 0; k < bytes + 1; k++)
            take(&in, 1);
    }
    for (uint32_t i = 0; i < 2 * n_funcs; i++)
        take(&in, 1);
    *n = in.left / 8 < *n ? (uint32_t)(in.left / 8) : *n;
    return *n > 0 ? size - in.left : 0;
}

/* An opcode of the same shape, so that the other fields still fit it. */
static uint8_t similar(uint64_t *state, uint8_t code)
{
    for (int i = 0; i < 40; i++) {
        uint8_t other = (uint8_t)draw(state, 256);
        if (oko_opcodes[other].op == oko_opcodes[code].op &&
            oko_opcodes[other].use == oko_opcodes[code].use)
            return other;
    }
    return code;
}

static void change(uint64_t *state, uint8_t *insn)
{
    static const int32_t imms[] = {0, 1, -1, 2, 7, 8, 14, 15, 34, 63, 64, 255, 256, 65535, 65536};
    int16_t off;
    int32_t imm;
    memcpy(&off, insn + 2, 2);
    memcpy(&imm, insn + 4, 4);
    uint32_t reg = draw(state, 11);
    switch (draw(state, 8)) {
    case 0:
        insn[0] = similar(state, insn[0]);
        return;
    case 1:
        insn[1] = (uint8_t)((insn[1] & 0xf0) | reg);
        return;
    case 2:
        insn[1] = (uint8_t)((insn[1] & 0x0f) | reg << 4);
        return;
    case 3:
        off = (int16_t)(off + (int)draw(state, 3) - 1);
        break;
    case 4:
        off = (int16_t)(off + 8 * ((int)draw(state, 5) - 2));
        break;
    case 5:
        imm = (int32_t)((uint32_t)imm + draw(state, 3) - 1);
        break;
    case 6:
        imm = imms[draw(state, sizeof(imms) / sizeof(imms[0]))];
        break;
    default:
        imm = (int32_t)((uint32_t)imm ^ 1u << draw(state, 32));
        break;
    }
    memcpy(insn + 2, &off, 2);
    memcpy(insn + 4, &imm, 4);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint64_t state = seed * 2654435761u + 1u;
    uint32_t n, n_changes = 1 + draw(&state, 3);
    size_t at = find_insns(data, size, &n);
    if (at == 0 || draw(&state, 8) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    for (uint32_t i = 0; i < n_changes; i++) {
        uint8_t *a = data + at + 8 * draw(&state, n), *b = data + at + 8 * draw(&state, n), tmp[8];
        switch (draw(&state, 6)) {
        case 0: /* instead of another */
            memmove(a, b, 8);
            break;
        case 1: /* in another order */
            memcpy(tmp, a, 8);
            memmove(a, b, 8);
            memcpy(b, tmp, 8);
            break;
        default:
            change(&state, a);
        }
    }
    return size;
}
