/* oko.h: THE boundary. Every handle, record, enum and function that Python may use.
 *
 * The C compiler includes this text and cffi's cdef() reads the same text (lines that start with
 * '#' are dropped for cdef), so the two cannot drift apart. Hence: enums instead of macros, no
 * attributes, no inline functions, no static asserts here.
 *
 * Conventions. Functions return 0 or a negative OKO_E*; creators return the object through their
 * last argument; destroyers take NULL. Handles are opaque; only small value records have a visible
 * layout. Buffers are borrowed for the call unless a comment says otherwise. Byte strings that
 * stand for header fields are big-endian as on the wire; everything else is in host order.
 *
 * Thread-safety. Unless a comment says otherwise a function of the control side (load, map access,
 * transactions) may be called from any thread; the object's own mutex serialises them and never
 * blocks a forwarding thread. */
#ifndef OKO_H
#define OKO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---------------------------------------------------------------- errors */

enum oko_err {
    OKO_OK = 0,
    OKO_E_NOMEM = -1,    /* out of memory, or a quota of memory */
    OKO_E_INVAL = -2,    /* malformed argument or record */
    OKO_E_NOTFOUND = -3, /* no such object */
    OKO_E_EXISTS = -4,   /* there is one already */
    OKO_E_LIMIT = -5,    /* a quota other than memory */
    OKO_E_VERIFY = -6,   /* program refused by the verifier */
    OKO_E_UNSUP = -7,    /* not supported here (no JIT on this CPU, map without that operation) */
    OKO_E_IO = -8,       /* a read or write failed; error.sys_errno says why */
    OKO_E_FORMAT = -9,   /* a file's contents are malformed */
    OKO_E_BUSY = -10,    /* in use */
    OKO_E_FULL = -11,    /* map at max_entries */
    OKO_E_FAULT = -12    /* a run-time check of a guarded program failed */
};

/* Where a call leaves its reason. text is always NUL-terminated. */
struct oko_error {
    int code;         /* the OKO_E* also returned */
    int sys_errno;    /* errno where the cause is the system, else 0 */
    int insn;         /* index of the offending instruction, or -1 */
    char reason[512]; /* one line */
    char hint[512];   /* what would make it pass; may be empty */
};

/* What this build can do on this CPU; bits of oko_features(). */
enum oko_feature {
    OKO_FEATURE_JIT = 1,       /* x86-64 JIT */
    OKO_FEATURE_SANITIZED = 2, /* built with a sanitizer */
    OKO_FEATURE_CHECKED = 4    /* the checking interpreter is compiled in */
};

uint64_t oko_features(void);

/* ---------------------------------------------------------------- filter programs */

/* One BPF instruction, RFC 9669 section 3; little-endian hosts. regs: dst in the low nibble. */
struct oko_insn {
    uint8_t code;
    uint8_t regs;
    int16_t off;
    int32_t imm;
};

/* Values of the src register of a 64-bit immediate load (0x18) and of a call (0x85).
 * MAP: imm = index into the spec's maps. DATA: imm = index into the spec's data sections,
 * the second half's imm = byte offset. LOCAL (call): imm = target - (this + 1), in instructions;
 * a call with src 0 is a helper call, imm = its number. */
enum oko_pseudo { OKO_PSEUDO_MAP = 1, OKO_PSEUDO_DATA = 2, OKO_PSEUDO_LOCAL = 1 };

enum oko_map_type {
    OKO_MAP_ARRAY = 1,
    OKO_MAP_BLOOM = 2,
    OKO_MAP_COUNT_MIN = 3,
    OKO_MAP_HASH = 4,
    OKO_MAP_LRU_HASH = 5,
    OKO_MAP_LPM_TRIE = 6,
    OKO_MAP_WORKER_ARRAY = 7,
    OKO_MAP_WORKER_HASH = 8
};

enum oko_helper_id {
    OKO_HELPER_MAP_LOOKUP = 1,
    OKO_HELPER_MAP_UPDATE = 2,
    OKO_HELPER_MAP_DELETE = 3,
    OKO_HELPER_MAP_ADD = 4,
    OKO_HELPER_TIME_GET_NS = 5,
    OKO_HELPER_HASH = 6,
    OKO_HELPER_PRINTF = 7
};

struct oko_map_spec {
    char name[64];
    uint32_t type;        /* enum oko_map_type */
    uint32_t key_size;    /* bytes; arrays: 4 or 8; Bloom, count-min: the item (value_size if 0) */
    uint32_t value_size;  /* bytes */
    uint32_t max_entries; /* array, hash, LRU, LPM: entries; Bloom: bits; count-min: width */
    uint32_t n_hashes;    /* Bloom: hash functions; count-min: depth; else 0 */
};

/* A .rodata/.data/.bss section: memory private to the program, kept across packets. */
struct oko_data_spec {
    char name[64];
    const uint8_t *bytes; /* size bytes, or NULL for zeroes */
    uint32_t size;
    uint32_t writable; /* 0: .rodata */
};

struct oko_func_spec {
    char name[64];
    uint32_t insn; /* index of its first instruction; the entry function is at 0 */
};

/* Debug information: insn and those after it, up to the next record, come from this line. */
struct oko_line_spec {
    uint32_t insn;
    uint32_t line;
    const char *file; /* may be NULL */
    const char *text; /* source text of the line; may be NULL */
};

/* A program as Python's ELF reader hands it over: flat, position-independent, unverified.
 * Everything is copied by oko_prog_load(). */
struct oko_prog_spec {
    char name[64];
    const struct oko_insn *insns;
    uint32_t n_insns;
    uint32_t n_funcs;
    const struct oko_func_spec *funcs; /* ascending insn; funcs[0].insn == 0 */
    const struct oko_map_spec *maps;
    uint32_t n_maps;
    uint32_t n_data;
    const struct oko_data_spec *data;
    const struct oko_line_spec *lines; /* ascending insn */
    uint32_t n_lines;
};

enum oko_load_flags {
    OKO_LOAD_GUARDED = 1,     /* check at run time what could not be proved */
    OKO_LOAD_NO_JIT = 2,      /* interpreter only */
    OKO_LOAD_CONFORMANCE = 4, /* bpf_conformance: no verifier, writable memory, own helpers */
    OKO_LOAD_KEEP_STATES = 8  /* keep the verifier's abstract states for OKO_RUN_CHECKED */
};

struct oko_load_opts {
    uint32_t flags;          /* enum oko_load_flags */
    uint32_t max_worst_case; /* executed instructions a packet may cost; 0 = 1,000,000 */
    uint64_t verify_budget;  /* verifier work units; 0 = default (about a second) */
    uint64_t verify_memory;  /* bytes of verifier states; 0 = default (256 MiB) */
};

/* What a program sees beside the frame: r3. Constant for the pass. Part of the program ABI. */
struct oko_meta {
    uint64_t rx_ns;  /* the datapath clock of this packet, ns; also what time_get_ns() returns */
    uint64_t tun_id; /* tunnel key, 0 if none */
    uint32_t in_port;
    uint32_t wire_len; /* bytes the frame had on the wire */
    uint32_t len;      /* bytes present, as r2 */
    uint32_t reserved; /* 0 */
};

/* One packet of a batch. */
struct oko_prog_in {
    const uint8_t *data;
    uint64_t len; /* bytes readable at data, at most 65,535 */
    const struct oko_meta *meta;
};

enum oko_run_engine {
    OKO_RUN_BEST = 0,   /* JIT if the program has code, else the interpreter */
    OKO_RUN_INTERP = 1, /* the reference */
    OKO_RUN_JIT = 2,    /* OKO_E_UNSUP if there is no code */
    OKO_RUN_CHECKED = 3 /* interpreter that asserts the verifier's state at each step */
};

struct oko_prog_info {
    uint32_t n_insns;
    uint32_t n_maps;
    uint32_t n_data;
    uint32_t jit_bytes;   /* 0: no machine code */
    uint32_t worst_case;  /* proven bound of executed instructions per packet */
    uint32_t stateful;    /* 1: writes maps, data or log, or looks up in an LRU map */
    uint32_t guards;      /* run-time checks inserted by guarded loading */
    uint32_t reads_meta;  /* 1: may read struct oko_meta */
    uint64_t memory;      /* bytes of maps, data and code charged to the VM's quota */
    uint64_t verify_work; /* work units spent */
    uint64_t verify_ns;
    uint64_t jit_ns;
};

/* Home of programs and their maps: quota, hash secret, worker count. One per bridge. */
struct oko_vm;
/* A verified program with its maps; reference-counted. */
struct oko_prog;
/* A map of a program; lives as long as any program instance that holds it. */
struct oko_map;

struct oko_vm_opts {
    uint32_t n_workers;     /* forwarding threads, 1..64: how many slots per-worker maps have */
    uint32_t max_progs;     /* 0 = 1,024 */
    uint64_t max_map_bytes; /* 0 = 1 GiB */
    uint64_t secret;        /* hash key; 0 = random. Results never depend on it */
};

int oko_vm_new(const struct oko_vm_opts *opts, struct oko_vm **vm);
void oko_vm_free(struct oko_vm *vm); /* every program must have been released */

/* Verifies, compiles and creates the maps. keep: an older instance whose maps of the same name,
 * type, sizes and capacity are shared instead of created anew, or NULL. On failure nothing
 * changed and *error says why. */
int oko_prog_load(struct oko_vm *vm, const struct oko_prog_spec *spec,
                  const struct oko_load_opts *opts, struct oko_prog *keep, struct oko_prog **prog,
                  struct oko_error *error);
void oko_prog_ref(struct oko_prog *prog);
void oko_prog_unref(struct oko_prog *prog);
void oko_prog_info(const struct oko_prog *prog, struct oko_prog_info *info);

/* Runs on one packet as the given worker. *r0 gets the result; 1 = match. OKO_E_FAULT when a
 * guard stopped it (r0 = 0). OKO_RUN_CHECKED: OKO_E_VERIFY with the place in *error when a
 * concrete value lies outside the verifier's claim. error may be NULL. The caller makes sure
 * that no two threads run as the same worker at once. */
int oko_prog_run(struct oko_prog *prog, uint32_t worker, enum oko_run_engine engine,
                 const struct oko_prog_in *in, uint64_t *r0, struct oko_error *error);
/* Runs on the packets in[i] for each bit i of todo (at most 64), in rising order; bit i of
 * *matched tells that packet i's result was exactly 1. */
int oko_prog_run_batch(struct oko_prog *prog, uint32_t worker, enum oko_run_engine engine,
                       const struct oko_prog_in *in, uint64_t todo, uint64_t *matched);
/* Conformance only: r1 = mem, r2 = size; the memory is writable. */
int oko_prog_run_raw(struct oko_prog *prog, enum oko_run_engine engine, uint8_t *mem, uint64_t size,
                     uint64_t *r0, struct oko_error *error);
/* The machine code, for disassembly; *size 0 without JIT. Valid while prog lives. */
const uint8_t *oko_prog_code(const struct oko_prog *prog, uint32_t *size);
/* Executions of each instruction in the interpreter since profiling was turned on. counts has
 * n_insns slots, or is NULL to turn profiling off; it must outlive the runs. */
void oko_prog_profile(struct oko_prog *prog, uint64_t *counts);
/* Contents of a data section: copies at most size bytes out, returns its full size. */
int64_t oko_prog_data_read(struct oko_prog *prog, uint32_t index, uint8_t *out, uint64_t size);
/* The next line of the programs' log (helper printf), NUL-terminated; returns its length, 0 when
 * there is none. Lost lines are counted in *lost. */
uint32_t oko_vm_log_read(struct oko_vm *vm, char *out, uint32_t size, uint64_t *lost);

struct oko_map *oko_prog_map(struct oko_prog *prog, uint32_t index); /* NULL beyond n_maps */

struct oko_map_info {
    struct oko_map_spec spec;
    uint64_t n_entries; /* present now; arrays and sketches: max_entries */
    uint64_t memory;    /* bytes */
    uint64_t overflow;  /* entries outside their probe window */
};

enum oko_update_flags { OKO_ANY = 0, OKO_NOEXIST = 1, OKO_EXIST = 2 };

void oko_map_info(struct oko_map *map, struct oko_map_info *info);
/* Copies the value out. Arrays: key = index. LPM: longest match. Bloom: u32 0/1, count-min: u32
 * estimate. Per-worker maps: the values of all workers, one after another (value_size each). */
int oko_map_lookup(struct oko_map *map, const uint8_t *key, uint8_t *value);
/* Per-worker maps: sets every worker's slot to value. Sketches: OKO_E_UNSUP. */
int oko_map_update(struct oko_map *map, const uint8_t *key, const uint8_t *value, uint32_t flags);
int oko_map_delete(struct oko_map *map, const uint8_t *key);
int oko_map_add(struct oko_map *map, const uint8_t *item); /* sketches */
int oko_map_clear(struct oko_map *map);
/* Dump: copies up to max entries (key, then value as oko_map_lookup gives it) to out, starting at
 * *cursor (0 at first), and advances it; returns how many, 0 at the end. Each entry that was
 * present throughout comes exactly once. Sketches: the merged counters, key = row u32, column u32
 * (count-min) or 64-bit word index u64 (Bloom). */
int64_t oko_map_dump(struct oko_map *map, uint64_t *cursor, uint8_t *out, uint32_t max);
/* Bytes of one dumped entry: key and value. */
void oko_map_dump_sizes(const struct oko_map *map, uint32_t *key_size, uint32_t *value_size);

#endif
