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
/* Drops the owner's hold: the VM goes when its last program does. */
void oko_vm_free(struct oko_vm *vm);

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
/* What happened so far, summed over workers. */
struct oko_prog_stats {
    uint64_t runs;
    uint64_t matches;    /* results of exactly 1 */
    uint64_t faults;     /* runs stopped by a run-time check */
    uint64_t samples;    /* runs whose time was taken */
    uint64_t sampled_ns; /* their time */
};

void oko_prog_stats(const struct oko_prog *prog, struct oko_prog_stats *stats);
/* Disassembles instruction pc of a spec (which need not be loadable) as bpftool prints it; returns
 * the length, at most size - 1. The second half of a 64-bit load prints as nothing. */
uint32_t oko_prog_disasm(const struct oko_prog_spec *spec, uint32_t pc, char *out, uint32_t size);
/* Whether the instruction table has this opcode byte. */
bool oko_opcode_known(uint8_t code);
/* Instructions that guarded loading gave a run-time check: fills at most max indices in rising
 * order, returns how many there are. */
uint32_t oko_prog_guards(const struct oko_prog *prog, uint32_t *insns, uint32_t max);
/* Contents of a data section: copies at most size bytes out, returns its full size. */
int64_t oko_prog_data_read(struct oko_prog *prog, uint32_t index, uint8_t *out, uint64_t size);
/* Sets a writable data section as a whole; size is its size. For restoring, before it runs. */
int oko_prog_data_write(struct oko_prog *prog, uint32_t index, const uint8_t *bytes, uint64_t size);
/* The next line of the programs' log (helper printf), NUL-terminated; returns its length, 0 when
 * there is none. *lost gets how many were lost since the last call. */
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
/* Puts n dumped entries back, packed as oko_map_dump() gave them in a VM of n_workers, into a map
 * that oko_map_clear() has emptied and that no program uses yet. Of per-worker values, those of
 * workers that are not there now are left out, new workers begin with zeroes; sketches get their
 * merged counters. OKO_E_NOTFOUND, OKO_E_FULL: it does not fit, those before it are there. */
int oko_map_restore(struct oko_map *map, const uint8_t *entries, uint64_t n, uint32_t n_workers);
/* Bytes of one dumped entry: key and value. */
void oko_map_dump_sizes(const struct oko_map *map, uint32_t *key_size, uint32_t *value_size);

/* ---------------------------------------------------------------- flows */

/* Fields of the flow key; key.h's OKO_FIELDS says where each lies and how wide it is. */
enum oko_field_id {
    OKO_FIELD_IN_PORT = 0,
    OKO_FIELD_IN_PHY_PORT,
    OKO_FIELD_METADATA,
    OKO_FIELD_TUN_ID,
    OKO_FIELD_PKT_MARK,
    OKO_FIELD_CONJ_ID, /* of a complete conjunction; seen by lookups only */
    OKO_FIELD_REG0,
    OKO_FIELD_REG1,
    OKO_FIELD_REG2,
    OKO_FIELD_REG3,
    OKO_FIELD_REG4,
    OKO_FIELD_REG5,
    OKO_FIELD_REG6,
    OKO_FIELD_REG7,
    OKO_FIELD_REG8,
    OKO_FIELD_REG9,
    OKO_FIELD_REG10,
    OKO_FIELD_REG11,
    OKO_FIELD_REG12,
    OKO_FIELD_REG13,
    OKO_FIELD_REG14,
    OKO_FIELD_REG15,
    OKO_FIELD_XREG0,
    OKO_FIELD_XREG1,
    OKO_FIELD_XREG2,
    OKO_FIELD_XREG3,
    OKO_FIELD_XREG4,
    OKO_FIELD_XREG5,
    OKO_FIELD_XREG6,
    OKO_FIELD_XREG7,
    OKO_FIELD_XXREG0,
    OKO_FIELD_XXREG1,
    OKO_FIELD_XXREG2,
    OKO_FIELD_XXREG3,
    OKO_FIELD_ETH_DST,
    OKO_FIELD_ETH_SRC,
    OKO_FIELD_ETH_TYPE,
    OKO_FIELD_VLAN_VID,
    OKO_FIELD_VLAN_PCP,
    OKO_FIELD_MPLS_LABEL,
    OKO_FIELD_MPLS_TC,
    OKO_FIELD_MPLS_BOS,
    OKO_FIELD_MPLS_TTL,
    OKO_FIELD_PBB_ISID,
    OKO_FIELD_PBB_UCA,
    OKO_FIELD_IP_PROTO,
    OKO_FIELD_IP_DSCP,
    OKO_FIELD_IP_ECN,
    OKO_FIELD_IP_TTL,
    OKO_FIELD_IP_FRAG,
    OKO_FIELD_IPV4_SRC,
    OKO_FIELD_IPV4_DST,
    OKO_FIELD_ARP_OP,
    OKO_FIELD_ARP_SPA,
    OKO_FIELD_ARP_TPA,
    OKO_FIELD_ARP_SHA,
    OKO_FIELD_ARP_THA,
    OKO_FIELD_IPV6_SRC,
    OKO_FIELD_IPV6_DST,
    OKO_FIELD_IPV6_LABEL,
    OKO_FIELD_IPV6_EXTHDR,
    OKO_FIELD_TCP_SRC,
    OKO_FIELD_TCP_DST,
    OKO_FIELD_TCP_FLAGS,
    OKO_FIELD_UDP_SRC,
    OKO_FIELD_UDP_DST,
    OKO_FIELD_SCTP_SRC,
    OKO_FIELD_SCTP_DST,
    OKO_FIELD_ICMP_TYPE,
    OKO_FIELD_ICMP_CODE,
    OKO_FIELD_ICMPV6_TYPE,
    OKO_FIELD_ICMPV6_CODE,
    OKO_FIELD_ND_TARGET,
    OKO_FIELD_ND_SLL,
    OKO_FIELD_ND_TLL,
    OKO_N_FIELDS
};

/* name, width in bits and bytes of a field; OKO_E_NOTFOUND beyond the last. */
struct oko_field_info {
    char name[24];
    uint32_t bits;
    uint32_t size;
};
int oko_field_info(uint32_t field, struct oko_field_info *info);

/* One field of a match: value and mask are big-endian, right-aligned in the field's size bytes,
 * the rest zero. Bits of value outside mask must be zero. */
struct oko_match_field {
    uint32_t field; /* enum oko_field_id */
    uint32_t reserved;
    uint8_t value[16];
    uint8_t mask[16];
};

/* Reserved port numbers (OpenFlow 1.3, 7.2.1). */
enum oko_port_no { OKO_PORT_MAX = 0x7fffff00, OKO_PORT_BASE = 0x7ffffff0 };
/* The OFPP_* numbers need 32 unsigned bits, which an enum lacks: they are passed as u32 values
 * 0xfffffff8 IN_PORT, 0xfffffff9 TABLE, 0xfffffffa NORMAL, 0xfffffffb FLOOD, 0xfffffffc ALL,
 * 0xfffffffd CONTROLLER, 0xfffffffe LOCAL, 0xffffffff ANY. */

/* Instructions and actions of a flow are one byte string of items, each a struct oko_op_head and
 * its payload, padded to 8 bytes; len counts head, payload and padding. Lists nest: the payload of
 * APPLY, WRITE, CLONE and of a bucket is again a string of items. All integers in host order,
 * field values big-endian. The order of items at the top level is the order of execution
 * (METER, APPLY, CLEAR, WRITE, METADATA, GOTO). */
struct oko_op_head {
    uint16_t op;  /* enum oko_op */
    uint16_t len; /* bytes, a multiple of 8, at least 8 */
    uint32_t arg;
};

enum oko_op {
    /* instructions; arg: */
    OKO_OP_METER = 1, /* meter id */
    OKO_OP_APPLY = 2, /* payload: actions */
    OKO_OP_CLEAR = 3,
    OKO_OP_WRITE = 4,    /* payload: actions */
    OKO_OP_METADATA = 5, /* payload: u64 value, u64 mask (host order) */
    OKO_OP_GOTO = 6,     /* table */
    /* actions; arg: */
    OKO_OP_OUTPUT = 16, /* port (also reserved ones); payload: u32 max_len, u32 0. CONTROLLER: bytes
                           of the packet-in; other ports: cut the frame to it, 0 = whole */
    OKO_OP_GROUP = 17,  /* group id */
    OKO_OP_SET_QUEUE = 18, /* queue id (oko_dp_port_set_queues) */
    OKO_OP_SET_FIELD = 19, /* field; payload: u8 value[16], u8 mask[16] as oko_match_field */
    OKO_OP_MOVE = 20,      /* n_bits; payload: u16 src field, src ofs, dst field, dst ofs */
    OKO_OP_PUSH_VLAN = 21, /* TPID */
    OKO_OP_POP_VLAN = 22,
    OKO_OP_PUSH_MPLS = 23, /* Ethernet type */
    OKO_OP_POP_MPLS = 24,  /* Ethernet type */
    OKO_OP_PUSH_PBB = 25,  /* Ethernet type */
    OKO_OP_POP_PBB = 26,
    OKO_OP_SET_MPLS_TTL = 27, /* TTL */
    OKO_OP_DEC_MPLS_TTL = 28,
    OKO_OP_SET_TTL = 29, /* IP TTL or hop limit */
    OKO_OP_DEC_TTL = 30,
    OKO_OP_COPY_TTL_OUT = 31,
    OKO_OP_COPY_TTL_IN = 32,
    OKO_OP_RESUBMIT =
        33, /* table, 255 = the current one; payload: u32 in_port (0xfffffff8: as is), u32 0 */
    OKO_OP_LEARN = 34, /* table; payload: struct oko_learn, then n_specs struct oko_learn_spec */
    OKO_OP_CLONE = 35, /* payload: actions */
    OKO_OP_CONTROLLER = 36, /* max_len; payload: u16 controller id, u16 reason, u32 0 */
    OKO_OP_NOTE = 37,       /* payload ignored */
    OKO_OP_EXIT = 38,
    OKO_OP_PUSH = 39,        /* n_bits; payload: u16 field, u16 ofs, u32 0 (NXAST_STACK_PUSH) */
    OKO_OP_POP = 40,         /* likewise (NXAST_STACK_POP) */
    OKO_OP_FIN_TIMEOUT = 41, /* payload: u16 idle, u16 hard, u32 0 */
    OKO_OP_DEC_TTL_IDS =
        42, /* dec_ttl(id,...): n ids; payload: u16 ids, for the invalid-TTL packet-in */
    OKO_OP_OUTPUT_REG = 43, /* n_bits; payload: u16 field, u16 ofs, u16 max_len, u16 0 */
    OKO_OP_SEND_MAPS = 44,  /* interval in ms; payload: u16 program, u16 n, u16 maps[n]; n 0: all */
    OKO_OP_SET_VLAN_TCI = 45, /* value << 16 | mask: tci = (tci & ~mask) | value, untagged = 0; with
                                 bit 0x1000 in the result the packet is tagged afterwards (TPID
                                 0x8100 if it was not), else untagged */
    OKO_OP_CONJUNCTION = 46   /* conjunction id; payload: u16 dimension from 0, u16 dimensions, u32
                                 0. Only in apply_actions, beside nothing but its like and notes */
};

/* NXAST_LEARN (nicira-ext.h): a flow that a packet installs. */
struct oko_learn {
    uint16_t idle_timeout, hard_timeout; /* seconds */
    uint16_t priority, flags;            /* flags: enum oko_flow_flag, LEARN bits */
    uint64_t cookie;
    uint16_t fin_idle, fin_hard;
    uint32_t n_specs;
    uint32_t limit; /* 0 = none */
    uint32_t
        result; /* field | bit << 16, set to 1 when learned, 0 when limited; 0xffffffff: none */
};

enum oko_learn_dst { OKO_LEARN_MATCH = 0, OKO_LEARN_LOAD = 1, OKO_LEARN_OUTPUT = 2 };

struct oko_learn_spec {
    uint8_t src_is_value; /* 1: value; 0: n_bits of src_field from src_ofs of the packet's key */
    uint8_t dst;          /* enum oko_learn_dst */
    uint16_t n_bits;
    uint16_t src_field, src_ofs;
    uint16_t dst_field, dst_ofs;
    uint8_t reserved[4];
    uint8_t value[16]; /* n_bits right-aligned big-endian in the last bytes */
};

enum oko_flow_flag {
    OKO_FLOW_SEND_FLOW_REM = 1,
    OKO_FLOW_CHECK_OVERLAP = 2,
    OKO_FLOW_RESET_COUNTS = 4,
    OKO_FLOW_NO_PKT_COUNTS = 8,
    OKO_FLOW_NO_BYT_COUNTS = 16,
    OKO_FLOW_TELL = 32, /* as SEND_FLOW_REM, for the control plane's own use */
    OKO_LEARN_SEND_FLOW_REM = 1,
    OKO_LEARN_DELETE_LEARNED = 2
};

/* A flow as the model hands it over. match and ops are copied. */
struct oko_flow_spec {
    uint64_t cookie;
    uint32_t table; /* 0..253 */
    uint16_t priority;
    uint16_t flags;        /* enum oko_flow_flag */
    uint32_t idle_timeout; /* seconds, 0 = none */
    uint32_t hard_timeout;
    uint32_t filter_prog; /* program number on this datapath, 0 = none */
    uint32_t n_match;
    const struct oko_match_field *match;
    const uint8_t *ops; /* ops_len bytes, 8-byte aligned items */
    uint32_t ops_len;
    uint32_t importance; /* 0..65535: what is evicted first (OpenFlow 1.4) */
};

/* ---------------------------------------------------------------- one frame */

/* Where the parser found headers: bytes from the frame's start, 0xffff = absent (pkt.h). */
struct oko_frame_info {
    uint32_t n_vlans; /* tags parsed: 0, 1 or 2 */
    uint32_t l2_5, l3, l4;
};

/* Parses one frame (at most 65,535 bytes) as a port would. Field f's value goes to
 * values[16 * f ..], big-endian and right-aligned in 16 bytes; values has OKO_N_FIELDS * 16. */
int oko_frame_parse(const uint8_t *frame, uint32_t len, uint32_t in_port, uint8_t *values,
                    struct oko_frame_info *info);

/* ---------------------------------------------------------------- datapath */

/* A bridge: ports, tables, groups, meters, programs by number, and the forwarding threads' state.
 * Control functions may be called from any thread; they never wait for traffic. */
struct oko_dp;
/* Changes that become visible together or not at all. Used by one thread. */
struct oko_txn;

/* Flow tables are numbered from 0. */
enum oko_dp_limit { OKO_N_TABLES = 254 };

enum oko_dp_flag {
    OKO_DP_NO_CACHE = 1, /* every lookup asks the classifier */
    OKO_DP_INTERPRET = 2 /* programs run in the interpreter */
};

struct oko_dp_opts {
    uint32_t n_workers;     /* forwarding threads, 1..64 */
    uint32_t flags;         /* enum oko_dp_flag */
    uint32_t burst;         /* packets handled together, 1..32; 0 = 32. Never changes a result */
    uint32_t max_flows;     /* 0 = 4,194,304 */
    uint32_t max_macs;      /* MAC addresses that NORMAL keeps; 0 = 65,536 */
    uint32_t max_progs;     /* 0 = 1,024 */
    uint64_t max_map_bytes; /* 0 = 1 GiB */
    uint64_t event_bytes;   /* size of the event ring; 0 = 4 MiB */
    uint64_t cache_bytes;   /* per worker; 0 = 36 MiB, in huge pages if they can be had */
    uint64_t secret;        /* hash key; 0 = random. Results never depend on it */
};

/* OKO_E_INVAL: an option out of range. */
int oko_dp_new(const struct oko_dp_opts *opts, struct oko_dp **dp);
/* Every worker must be offline, every transaction freed, every program reference of
 * oko_dp_prog() given back. */
void oko_dp_free(struct oko_dp *dp);

/* The datapath clock: the newest rx_ns that a worker has seen; 0 before the first packet. */
uint64_t oko_dp_now(const struct oko_dp *dp);
/* Starts the clock of all workers at ns if it does not run yet; the first packet does so
 * otherwise. Flows added before are born then. With several workers, to be called before any of
 * them starts, so that a flow expires only when the slowest has passed its deadline. */
void oko_dp_clock_start(struct oko_dp *dp, uint64_t ns);

/* -- ports */

enum oko_port_flag {
    OKO_PORT_NO_FLOOD = 1,     /* not part of FLOOD and NORMAL's flooding */
    OKO_PORT_NO_FWD = 2,       /* nothing leaves here */
    OKO_PORT_NO_RECV = 4,      /* what arrives here is dropped */
    OKO_PORT_NO_PACKET_IN = 8, /* what arrives here never becomes a packet-in */
    OKO_PORT_DOWN = 16         /* no carrier: nothing leaves, watching buckets are dead */
};

struct oko_port_info {
    uint32_t number;
    uint32_t flags; /* enum oko_port_flag */
    char name[32];
    char kind[16]; /* "null", "mem", "pcap", "afpacket", "tap", "internal" */
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, tx_dropped;
    uint64_t rx_dropped; /* arrived, but were lost before the datapath saw them */
};

/* A port that only counts. number: 1..OKO_PORT_MAX - 1, or 0xfffffffe (LOCAL). */
int oko_dp_port_add_null(struct oko_dp *dp, uint32_t number, const char *name);
/* A port that keeps what leaves through it, at most max_bytes of it, for oko_dp_mem_read(). */
int oko_dp_port_add_mem(struct oko_dp *dp, uint32_t number, const char *name, uint64_t max_bytes);
/* A port on a network device, by packet socket (packet(7)): what the device receives comes in, what
 * leaves is sent by it. What a sender left to the hardware is done here: checksums, segmentation,
 * VLAN tags. OKO_E_IO: no such device, or not permitted (error.sys_errno). */
int oko_dp_port_add_afpacket(struct oko_dp *dp, uint32_t number, const char *name,
                             const char *device, struct oko_error *error);
/* A port on a TAP device, created if there is none of that name and then gone with the port.
 * internal: it is the host's own port: kind "internal", and set up. */
int oko_dp_port_add_tap(struct oko_dp *dp, uint32_t number, const char *name, const char *device,
                        bool internal, struct oko_error *error);
/* A port whose packets come from a capture (pcap, pcapng) in its own time, from when the forwarding
 * threads first look, and whose output goes to a pcap file. read_fd, write_fd: -1 = none; the port
 * closes them, also when this fails. speed: times as fast, 0 = all at once. loop: begins again at
 * the end (read_fd can seek). */
int oko_dp_port_add_file(struct oko_dp *dp, uint32_t number, const char *name, int read_fd,
                         int write_fd, double speed, bool loop, struct oko_error *error);
int oko_dp_port_remove(struct oko_dp *dp, uint32_t number);
int oko_dp_port_set_flags(struct oko_dp *dp, uint32_t number, uint32_t flags);
/* Fills at most max records in rising number; returns how many ports there are. */
uint32_t oko_dp_ports(struct oko_dp *dp, struct oko_port_info *out, uint32_t max);

/* A queue of a port, which set_queue chooses: counted for itself, and beyond max_rate bit/s (0 =
 * no limit; a tenth of a second may come at once) dropped. Nothing is put in order. */
struct oko_queue_spec {
    uint32_t id; /* 0..0xfffffffe */
    uint32_t reserved;
    uint64_t max_rate;
};
struct oko_queue_info {
    uint32_t port;
    uint32_t id;
    uint64_t max_rate;
    uint64_t tx_packets, tx_bytes;
    uint64_t tx_errors; /* dropped: beyond the rate, or the port could not take it */
    uint64_t created_ns;
};
/* From now on these are the port's queues (by rising id, at most 1,024); those that it has already
 * keep their counters. A packet with another queue uses queue 0 if that is declared, else none. */
int oko_dp_port_set_queues(struct oko_dp *dp, uint32_t number, const struct oko_queue_spec *specs,
                           uint32_t n, struct oko_error *error);
/* Fills at most max records in rising port and queue; returns how many there are. */
uint32_t oko_dp_queues(struct oko_dp *dp, struct oko_queue_info *out, uint32_t max);

/* A frame that left through a memory port; len bytes follow, padded to 8. */
struct oko_mem_frame {
    uint64_t seq; /* of the packet that it came from */
    uint64_t ns;  /* when that one arrived */
    uint32_t len;
    uint32_t wire_len;
};
/* Moves whole records out; returns the bytes used, 0 when there are none (or size is too small for
 * the next one). OKO_E_NOTFOUND: no memory port has that number. */
int64_t oko_dp_mem_read(struct oko_dp *dp, uint32_t number, uint8_t *out, uint64_t size);

/* -- programs by number */

/* Loads a program under a number 1..65535. One that is loaded there already is replaced in every
 * flow at once, and with keep_maps those of its maps that fit stay. *replaced tells. */
int oko_dp_prog_load(struct oko_dp *dp, uint32_t number, const struct oko_prog_spec *spec,
                     const struct oko_load_opts *opts, bool keep_maps, bool *replaced,
                     struct oko_error *error);
/* OKO_E_BUSY when flows use it, unless force: then they go too. */
int oko_dp_prog_unload(struct oko_dp *dp, uint32_t number, bool force, struct oko_error *error);
/* The program with a reference of its own (oko_prog_unref), or NULL. */
struct oko_prog *oko_dp_prog(struct oko_dp *dp, uint32_t number);

/* Replaces all contents of a program's map (0..n_maps - 1) as by one store: each run of the program
 * sees the old or the new map. n_entries packed keys and values of the spec's sizes (per-worker
 * maps: for all workers; sketches: items), others are gone, or zero in arrays. The new map is made
 * beside the old one, so there must be memory for both; what packets write meanwhile goes with the
 * old one. Handles of the old map stay valid as long as their program's. On failure nothing has
 * changed: OKO_E_NOTFOUND, OKO_E_FULL, OKO_E_NOMEM. */
int oko_dp_map_replace(struct oko_dp *dp, uint32_t number, uint32_t index, const uint8_t *entries,
                       uint32_t n_entries, struct oko_error *error);

struct oko_dp_prog_info {
    uint32_t number;
    uint32_t n_flows;    /* flows that name it */
    uint64_t runs;       /* packets whose decision reached it */
    uint64_t matches;    /* of these, with result 1 */
    uint64_t faults;     /* of these, stopped by a run-time check */
    uint64_t sampled_ns; /* time of the sampled runs ... */
    uint64_t samples;    /* ... and how many they were */
    uint64_t batch_runs; /* packets run through the batch entry, reached or not */
    char name[64];
};
/* Fills at most max records in rising number; returns how many programs there are. */
uint32_t oko_dp_progs(struct oko_dp *dp, struct oko_dp_prog_info *out, uint32_t max);
/* The next line of the programs' log, as oko_vm_log_read(). */
uint32_t oko_dp_log_read(struct oko_dp *dp, char *out, uint32_t size, uint64_t *lost);

/* -- transactions */

enum oko_flow_command {
    OKO_FLOW_ADD = 0,
    OKO_FLOW_MODIFY = 1,
    OKO_FLOW_MODIFY_STRICT = 2,
    OKO_FLOW_DELETE = 3,
    OKO_FLOW_DELETE_STRICT = 4
};

/* Identity of a flow: (table, priority, match, filter_prog).
 * ADD replaces the flow of the same identity: age restarts, its place among equals and, without
 * RESET_COUNTS, its counters stay. CHECK_OVERLAP: OKO_E_EXISTS when a flow of the same priority
 * can match a same packet, whatever its filter.
 * MODIFY changes only instructions (RESET_COUNTS: and counters); none found is no error.
 * The non-strict forms cover every flow whose match is at least as narrow, whatever its priority;
 * filter_prog 0 covers flows with and without filter, another only those with that program.
 * The strict ones take priority and filter_prog literally (0 = none).
 * MODIFY and DELETE: spec.table 255 = all tables (or_add then adds to table 0). DELETE ignores
 * instructions. */
struct oko_flow_mod {
    struct oko_flow_spec spec;
    uint32_t command;     /* enum oko_flow_command */
    uint32_t or_add;      /* MODIFY*: 1 = add the flow when none matched (OpenFlow 1.0) */
    uint64_t cookie_mask; /* not ADD: only flows with (cookie & mask) == (spec.cookie & mask) */
    uint32_t out_port;    /* DELETE*: only flows that output there; 0xffffffff = any */
    uint32_t out_group;   /* DELETE*: only flows that use this group; 0xffffffff = any */
    uint32_t new_cookie;  /* MODIFY*: 1 = what is covered gets spec.cookie (OpenFlow 1.0) */
    uint32_t reserved;
    uint64_t age_ns;  /* ADD: of a flow that is being restored: it counts as added so long ago */
    uint64_t idle_ns; /* and as used so long ago, 0 = now */
};

enum oko_object_command { OKO_OBJECT_ADD = 0, OKO_OBJECT_MODIFY = 1, OKO_OBJECT_DELETE = 2 };
enum oko_group_type {
    OKO_GROUP_ALL = 0,
    OKO_GROUP_SELECT = 1,
    OKO_GROUP_INDIRECT = 2,
    OKO_GROUP_FF = 3 /* fast failover */
};

struct oko_bucket_spec {
    uint32_t weight;      /* SELECT: share of the flows; 0 = none */
    uint32_t watch_port;  /* 0xffffffff = none */
    uint32_t watch_group; /* 0xffffffff = none */
    uint32_t ops_len;
    const uint8_t *ops; /* actions; executed as an action set, on a copy of the packet */
};

struct oko_group_spec {
    uint32_t id; /* 0..0xffffff00; DELETE: 0xfffffffc = all */
    uint32_t type;
    uint32_t n_buckets;
    uint32_t reserved;
    const struct oko_bucket_spec *buckets;
};

enum oko_band_type { OKO_BAND_DROP = 1, OKO_BAND_DSCP_REMARK = 2 };
enum oko_meter_flag {
    OKO_METER_KBPS = 1,  /* rates in kbit/s, bursts in kbit */
    OKO_METER_PKTPS = 2, /* rates in packets/s, bursts in packets */
    OKO_METER_BURST = 4, /* burst sizes are given; otherwise one second's worth */
    OKO_METER_STATS = 8
};

struct oko_band_spec {
    uint32_t type;
    uint32_t rate;
    uint32_t burst;
    uint32_t prec_level; /* DSCP_REMARK: by how much the drop precedence rises */
};

struct oko_meter_spec {
    uint32_t id; /* from 1; DELETE: 0xffffffff = all */
    uint32_t flags;
    uint32_t n_bands;
    uint32_t reserved;
    const struct oko_band_spec *bands;
};

int oko_dp_begin(struct oko_dp *dp, struct oko_txn **txn);
/* Each adds one change; everything is copied. A malformed record is refused here (OKO_E_INVAL),
 * what depends on the tables' contents at commit. */
int oko_txn_flow(struct oko_txn *txn, const struct oko_flow_mod *mod, struct oko_error *error);
/* The same for many at once: struct oko_flow_mod records, each followed by its n_match fields and
 * ops_len bytes of instructions (its pointers mean nothing). *n: how many were added before one was
 * refused. */
int oko_txn_flows(struct oko_txn *txn, const uint8_t *records, uint64_t size, uint32_t *n,
                  struct oko_error *error);
int oko_txn_group(struct oko_txn *txn, uint32_t command, const struct oko_group_spec *spec,
                  struct oko_error *error);
int oko_txn_meter(struct oko_txn *txn, uint32_t command, const struct oko_meter_spec *spec,
                  struct oko_error *error);
/* Not a change: refuses the commit, with this index, unless oko_dp_packet_out() of these actions
 * would be valid as things stand at this place among the changes. Malformed ones are refused
 * here. */
int oko_txn_packet_out(struct oko_txn *txn, const uint8_t *ops, uint32_t ops_len,
                       struct oko_error *error);
/* Carries out all changes in order, each seeing those before it, and shows them to forwarding
 * threads at once. If one fails nothing has changed and *failed is its index (from 0). failed and
 * error may be NULL. Afterwards the transaction is empty and may be used again. */
int oko_txn_commit(struct oko_txn *txn, uint32_t *failed, struct oko_error *error);
void oko_txn_free(struct oko_txn *txn); /* uncommitted changes are forgotten */

/* -- what is there */

/* One flow; n_match struct oko_match_field and ops_len bytes of instructions follow. Times are of
 * the datapath clock, 0 = before it started (used_ns: never). */
struct oko_flow_info {
    uint32_t size; /* bytes of this record with everything that follows, a multiple of 8 */
    uint32_t table;
    uint64_t id; /* of this flow in this datapath, never used again */
    uint64_t cookie;
    uint64_t packets;
    uint64_t bytes; /* wire length when the pass began */
    uint64_t created_ns;
    uint64_t modified_ns;
    uint64_t used_ns;
    uint16_t priority;
    uint16_t flags; /* enum oko_flow_flag */
    uint32_t idle_timeout;
    uint32_t hard_timeout;
    uint32_t filter_prog;
    uint32_t n_match;
    uint32_t ops_len;
    uint32_t learned; /* 1: a packet installed it */
    uint32_t importance;
};
/* Fills out with whole records starting at *cursor (0 at first) and advances it; returns the bytes
 * used, 0 at the end, OKO_E_LIMIT when size is too small for the next record. A flow that is
 * present throughout comes exactly once. Counters are exact. */
int64_t oko_dp_flows(struct oko_dp *dp, uint64_t *cursor, uint8_t *out, uint64_t size);

/* -- flows by stencil */

/* Stencils write a record for each flow in somebody else's format, which they know nothing of: a
 * stencil is the bytes of one flow's record, with holes for the value of each field of the match
 * and for numbers such as counters, and serves all flows with the same fields, masks, program and
 * instructions. Values of fixed fields have to be the same too. One thread at a time. */
enum { OKO_STENCILS_MAX = 4096, OKO_STENCIL_NUMBERS_MAX = 16 };
enum oko_stencil_what {
    OKO_STENCIL_TABLE,
    OKO_STENCIL_PRIORITY,
    OKO_STENCIL_FLAGS, /* without OKO_FLOW_TELL */
    OKO_STENCIL_IMPORTANCE,
    OKO_STENCIL_IDLE_TIMEOUT,
    OKO_STENCIL_HARD_TIMEOUT,
    OKO_STENCIL_COOKIE,
    OKO_STENCIL_PACKETS,
    OKO_STENCIL_BYTES,
    OKO_STENCIL_AGE_S,       /* whole seconds since it was added, */
    OKO_STENCIL_AGE_NS,      /* and the nanoseconds beyond these */
    OKO_STENCIL_SINCE_USE_S, /* since its last packet, or since it was added */
    OKO_STENCIL_SINCE_MODIFIED_S,
    OKO_STENCIL_N_WHATS
};
struct oko_stencil_number {
    uint16_t what; /* enum oko_stencil_what */
    uint16_t at;   /* where in the record it goes, big-endian; the greatest if it does not fit */
    uint16_t size; /* bytes: 1, 2, 4 or 8 */
    uint16_t plus; /* is added to it */
};
struct oko_stencil_hole {
    uint16_t at;   /* where in the record the value of this field of the match goes */
    uint16_t size; /* bytes of the value from its first; 0: it goes nowhere */
};
struct oko_stencils;
/* fixed: OKO_N_FIELDS bytes, 1 = a fixed field. OKO_E_INVAL: there are no such numbers. */
int oko_stencils_new(const struct oko_stencil_number *numbers, uint32_t n_numbers,
                     const uint8_t *fixed, struct oko_stencils **out);
/* The stencil of flows such as this one of oko_dp_flows(). wire: its record; holes: one per field
 * of its match; lossy: the record does not tell all of the flow. OKO_E_EXISTS, OKO_E_LIMIT beyond
 * OKO_STENCILS_MAX, OKO_E_INVAL: something goes outside of the record, or it has over 64 KB. */
int oko_stencils_add(struct oko_stencils *stencils, const uint8_t *flow, uint64_t size,
                     const uint8_t *wire, uint32_t wire_size, const struct oko_stencil_hole *holes,
                     bool lossy);
/* Writes the records of the flows of oko_dp_flows() from *at on and advances it, until room is used
 * up, or a flow has no stencil. Returns the bytes used, or OKO_E_INVAL. now_ns: time of the
 * datapath clock. *n_lossy grows by the records of lossy stencils. */
int64_t oko_stencils_write(struct oko_stencils *stencils, const uint8_t *flows, uint64_t size,
                           uint64_t *at, uint64_t now_ns, uint8_t *out, uint64_t room,
                           uint64_t *n_lossy);
void oko_stencils_free(struct oko_stencils *stencils);

/* What became of a flow; its struct oko_flow_info, with match and instructions, follows. A flow
 * that another takes the place of (REPLACED) has the other right behind it, ADDED or MODIFIED, with
 * the same id. */
enum oko_flow_change_kind {
    OKO_FLOW_ADDED = 0,
    OKO_FLOW_MODIFIED = 1,
    OKO_FLOW_GONE = 2,
    OKO_FLOW_REPLACED = 3
};
struct oko_flow_change {
    uint32_t size;   /* bytes of this record with everything that follows */
    uint32_t change; /* index of the change in its transaction, 0xffffffff = nobody's */
    uint16_t kind;   /* enum oko_flow_change_kind */
    uint16_t reason; /* GONE: enum oko_removed_reason */
    uint32_t reserved;
};
/* From now on changes of flows are kept for oko_dp_changes(), or no longer. */
void oko_dp_watch(struct oko_dp *dp, bool on);
/* Hands over all changes since the last call in their order, and returns their bytes; if that is
 * more than size, it hands over nothing. lost: there were more than could be kept. The event file
 * descriptor becomes readable when there are some. */
int64_t oko_dp_changes(struct oko_dp *dp, uint8_t *out, uint64_t size, bool *lost);

/* One group; n_buckets struct oko_counts follow. */
struct oko_counts {
    uint64_t packets, bytes;
};
struct oko_group_info {
    uint32_t size;
    uint32_t id;
    uint32_t type;
    uint32_t n_buckets;
    uint32_t n_flows; /* that refer to it */
    uint32_t reserved;
    uint64_t packets, bytes;
    uint64_t created_ns;
};
int64_t oko_dp_groups(struct oko_dp *dp, uint64_t *cursor, uint8_t *out, uint64_t size);

/* One meter; n_bands struct oko_counts follow. */
struct oko_meter_info {
    uint32_t size;
    uint32_t id;
    uint32_t flags;
    uint32_t n_bands;
    uint32_t n_flows;
    uint32_t reserved;
    uint64_t packets, bytes; /* that came to it */
    uint64_t created_ns;
};
int64_t oko_dp_meters(struct oko_dp *dp, uint64_t *cursor, uint8_t *out, uint64_t size);

struct oko_table_info {
    uint32_t n_flows;
    uint32_t n_masks;
    uint64_t lookups;
    uint64_t matches;
};
int oko_dp_table(struct oko_dp *dp, uint32_t table, struct oko_table_info *info);
/* What an add meets that finds a table full: with evict, a flow with a timeout makes room, unless
 * all are more important than the one to come; else OKO_E_LIMIT. max_flows: of this table, 0 = only
 * the datapath's limit. Flows that are there already stay. */
int oko_dp_table_set(struct oko_dp *dp, uint32_t table, uint32_t max_flows, bool evict);

struct oko_mac_info {
    uint8_t mac[6];
    uint16_t vlan;
    uint32_t port;
    uint32_t reserved;
    uint64_t seen_ns;
};
/* Fills at most max records; returns how many MAC addresses are known. */
uint32_t oko_dp_macs(struct oko_dp *dp, struct oko_mac_info *out, uint32_t max);

/* Why a packet left through no port and became no packet-in; exactly one reason each. The first
 * that applies, in this order. */
enum oko_drop {
    OKO_DROP_NONE = 0,
    OKO_DROP_LIMIT,       /* resubmits nested too deep (64), too many (4,096), stack or set full */
    OKO_DROP_TOO_LONG,    /* more than 65,535 bytes */
    OKO_DROP_NO_RECV,     /* the port does not receive */
    OKO_DROP_METER,       /* a meter's band */
    OKO_DROP_INVALID_TTL, /* decremented at 0 or 1 */
    OKO_DROP_NO_BUFFER,   /* out of frame buffers, or of room in front of the frame */
    OKO_DROP_GROUP,       /* no such group, or no live bucket */
    OKO_DROP_QUEUE_RATE,  /* beyond the highest rate of its queue */
    OKO_DROP_TX_FAILED,   /* the port could not take it */
    OKO_DROP_PORT,        /* output to a port that is absent, down or does not forward */
    OKO_DROP_IN_PORT,     /* output to the port where it came from */
    OKO_DROP_NORMAL,      /* NORMAL: reserved address, or the destination is where it came from */
    OKO_DROP_MISS,        /* no flow matched */
    OKO_DROP_ACTION,      /* the flow says so */
    OKO_N_DROPS
};
/* "table-miss", "drop", "meter" ...; NULL beyond the last. */
const char *oko_drop_name(uint32_t drop);
/* Packets by reason, OKO_N_DROPS of them. */
void oko_dp_drops(struct oko_dp *dp, uint64_t *out);

/* What the workers did, summed. */
struct oko_dp_stats {
    uint64_t packets;
    uint64_t bursts;
    uint64_t cache_hits;      /* lookups answered by the cache */
    uint64_t cache_restamped; /* of these, after looking through the change log */
    uint64_t cache_misses;    /* lookups that asked the cache and then the classifier */
    uint64_t direct;          /* lookups in tables so simple that no cache is asked */
    uint64_t relookups;       /* packets looked up again because one before them changed a table */
    uint64_t commits;         /* versions published, learned flows and expiries included */
};
void oko_dp_stats(struct oko_dp *dp, struct oko_dp_stats *stats);

/* A remembered lookup: packets with this key in this table are decided between these flows, in this
 * order; the first whose program matches, or that has none, is it. n_match struct oko_match_field
 * follow, the key's bits that some flow of the table looks at (of fields that share their place,
 * the first), then n_flows struct oko_cache_flow. */
struct oko_cache_entry {
    uint32_t size; /* bytes, what follows included */
    uint32_t table;
    uint32_t n_match;
    uint32_t n_flows;
    uint32_t more; /* 1: all of these have programs, and there may be more flows after them */
    uint32_t reserved;
};
struct oko_cache_flow {
    uint64_t id;
    uint64_t cookie;
    uint32_t priority;
    uint32_t filter_prog; /* 0 = none: ends the list */
};
/* Moves whole records of a worker's cache out, as far as they are still good; returns the bytes
 * used, which may be 0 before the end. *cursor: 0 at first, UINT64_MAX at the end. A forwarding
 * thread reads its cache itself, between two bursts; of another worker nobody may be running as it
 * meanwhile. OKO_E_LIMIT: size is too small for the next one; OKO_E_BUSY: the thread did not answer
 * within a second. Not beside oko_dp_stop(). */
int64_t oko_dp_cache(struct oko_dp *dp, uint32_t worker, uint64_t *cursor, uint8_t *out,
                     uint64_t size);

/* -- events */

enum oko_event_type {
    OKO_EVENT_PACKET_IN = 1,    /* data: the frame, cut to max_len */
    OKO_EVENT_FLOW_REMOVED = 2, /* data: n_match struct oko_match_field; arg: the flow's flags */
    OKO_EVENT_LEARNED = 3,      /* data: likewise; a packet installed a flow */
    OKO_EVENT_SEND_MAPS = 4     /* data: u16 map ids; arg: program number, n_match: how many */
};
enum oko_packet_in_reason {
    OKO_REASON_NO_MATCH = 0,
    OKO_REASON_ACTION = 1,
    OKO_REASON_INVALID_TTL = 2
};
enum oko_removed_reason {
    OKO_REMOVED_IDLE = 0,
    OKO_REMOVED_HARD = 1,
    OKO_REMOVED_DELETE = 2,
    OKO_REMOVED_GROUP = 3,
    OKO_REMOVED_METER = 4,
    OKO_REMOVED_EVICTION = 5 /* another took its place in a full table */
};

/* Fields that an event's type does not have are 0. */
struct oko_event {
    uint32_t size; /* bytes of this record and its data, a multiple of 8 */
    uint16_t type;
    uint16_t reason;
    uint64_t ns;  /* datapath clock: of the packet; of the deadline; of the commit */
    uint64_t seq; /* packet's place in the input */
    uint64_t cookie, flow_id, metadata, tun_id;
    uint64_t packets, bytes; /* of the removed flow, final */
    uint64_t duration_ns;
    uint32_t table, in_port;
    uint32_t data_len;  /* bytes of data that follow */
    uint32_t total_len; /* packet-in: length of the whole frame */
    uint32_t arg;       /* packet-in: controller id */
    uint32_t pkt_mark;
    uint16_t priority, n_match;
    uint32_t filter_prog;
    uint32_t idle_timeout, hard_timeout;
    uint8_t regs[64]; /* registers, as in the key */
};

/* Moves whole events out, oldest first; returns the bytes used, 0 when there are none (or size is
 * too small for the next one). *lost: events lost so far because the ring was full. */
int64_t oko_dp_events(struct oko_dp *dp, uint8_t *out, uint64_t size, uint64_t *lost);
/* Becomes readable when an event is there; to be read (8 bytes) before oko_dp_events(). */
int oko_dp_event_fd(struct oko_dp *dp);
/* From now on a packet that no flow matches is an event as well, OKO_REASON_NO_MATCH, cut to
 * max_len bytes (OpenFlow 1.0, 3.4); 0, as at first: it is only dropped. Not after a resubmit. */
void oko_dp_send_misses(struct oko_dp *dp, uint32_t max_len);

/* -- packets */

/* A frame to be handled by oko_dp_process(). */
struct oko_frame {
    const uint8_t *data;
    uint32_t len;      /* bytes present */
    uint32_t wire_len; /* bytes on the wire; 0 = len */
    uint32_t in_port;
    uint32_t reserved;
    uint64_t ns;  /* arrival; taken as the newest seen if it lies before that */
    uint64_t seq; /* any number that tells the caller which packet it is */
};
/* Handles frames in order on the calling thread as the given worker, which no other thread may be
 * running meanwhile. */
int oko_dp_process(struct oko_dp *dp, uint32_t worker, const struct oko_frame *frames, uint32_t n);
/* Carries out a list of actions (ops: items as in a flow's APPLY) on a frame, at once, as the given
 * worker: when this returns, what leaves has left. Output to TABLE starts a pass of its own.
 * frame->in_port may be any number, CONTROLLER (0xfffffffd) too. OKO_E_INVAL: the list is
 * malformed, or has send_maps, which belongs to flows; OKO_E_NOTFOUND: a group that does not exist.
 */
int oko_dp_packet_out(struct oko_dp *dp, uint32_t worker, const struct oko_frame *frame,
                      const uint8_t *ops, uint32_t ops_len, struct oko_error *error);
/* Advances a worker's clock without packets, as oko_worker_tick(). */
int oko_dp_tick(struct oko_dp *dp, uint32_t worker, uint64_t ns);

/* Forwarding threads: they take packets from live ports and bring them through the datapath, each
 * as the worker of its index. A port belongs to thread (number % n_threads). While they run, the
 * datapath clock goes by itself: nanoseconds since 1970, without jumps. */
struct oko_live_opts {
    uint32_t n_threads; /* at most the datapath's workers; nobody else may run as one of these */
    bool busy_poll;     /* never sleep: less latency, all of a CPU */
};
int oko_dp_start(struct oko_dp *dp, const struct oko_live_opts *opts, struct oko_error *error);
/* Waits for them to end; nothing when there are none. oko_dp_free() does so too. Not called by two
 * threads at once, or beside start. */
void oko_dp_stop(struct oko_dp *dp);

/* One step of a traced packet's way. */
enum oko_trace_kind {
    OKO_TRACE_PACKET = 1, /* begins: arg = in_port, value = bytes */
    OKO_TRACE_LOOKUP,     /* in table */
    OKO_TRACE_FILTER,     /* flow's program `arg` said value (1 = match) */
    OKO_TRACE_FLOW,       /* flow chosen */
    OKO_TRACE_MISS,       /* no flow in table */
    OKO_TRACE_OP,         /* arg = enum oko_op, value = its arg */
    OKO_TRACE_OUTPUT,     /* left through port arg */
    OKO_TRACE_CONTROLLER, /* became a packet-in; arg = bytes */
    OKO_TRACE_BUCKET,     /* group arg, bucket value */
    OKO_TRACE_ACTION_SET, /* the action set is executed */
    OKO_TRACE_DROP,       /* ends: arg = enum oko_drop */
    OKO_TRACE_CONJUNCTION /* arg = id of the complete conjunction that led to the flow after it */
};
struct oko_trace_step {
    uint32_t kind;
    uint32_t depth; /* nesting of resubmits, clones and buckets */
    uint32_t table;
    uint32_t priority;
    uint64_t flow_id;
    uint64_t cookie;
    uint64_t arg;
    uint64_t value;
    uint32_t insn;   /* FILTER, of a packet that never came: the program's last instruction, */
    uint32_t branch; /* and the last conditional jump before it; 0xffffffff: not known */
};
/* Records the way of the packet whose seq this is, when it comes. */
int oko_dp_trace(struct oko_dp *dp, uint64_t seq);
/* Fills at most max steps of the recorded way; returns how many there are, 0 when the packet has
 * not come yet. */
uint32_t oko_dp_trace_read(struct oko_dp *dp, struct oko_trace_step *out, uint32_t max);

/* The way that a frame would take now, if it came in through in_port, without side effects: nothing
 * is sent, counted or learned, meters let it pass, and programs run on copies of what they write
 * (bpf/shadow.h). As the given worker, as oko_dp_process(). Fills at most max steps and *n_steps
 * with how many there are. frame->ns 0: now. */
int oko_dp_trace_frame(struct oko_dp *dp, uint32_t worker, const struct oko_frame *frame,
                       struct oko_trace_step *out, uint32_t max, uint32_t *n_steps);

/* ---------------------------------------------------------------- captures */

/* A pcap or pcapng file that is being read, from a file descriptor. Used by one thread. */
struct oko_capture;

struct oko_record {
    uint8_t *data;     /* an Ethernet frame of len bytes; NULL: more than 65,535 */
    uint32_t len;      /* bytes present */
    uint32_t wire_len; /* bytes on the wire, at least len */
    uint64_t ns;       /* since 1970 */
};

enum oko_capture_result { OKO_CAPTURE_END = 0, OKO_CAPTURE_RECORD = 1, OKO_CAPTURE_REFILL = 2 };

/* fd is read from where it stands and not closed. chunk: bytes of the buffer, 0 = 4 MiB (at least
 * 1 MiB). Reads the start: OKO_E_FORMAT when that is no capture; OKO_E_BUSY when nothing came
 * for 100 ms, or a signal interrupted the read (call again). */
int oko_capture_open(int fd, uint32_t chunk, struct oko_capture **capture, struct oko_error *error);
void oko_capture_close(struct oko_capture *capture);
/* An oko_capture_result, or OKO_E_FORMAT / OKO_E_IO with *error filled in. A record's data stays
 * valid until oko_capture_refill(). */
int oko_capture_next(struct oko_capture *capture, struct oko_record *record,
                     struct oko_error *error);
/* To be called after OKO_CAPTURE_REFILL; blocks until some bytes or the end have come. OKO_E_IO
 * when the read failed; OKO_E_BUSY as above. */
int oko_capture_refill(struct oko_capture *capture, struct oko_error *error);

struct oko_capture_info {
    char format[8];    /* "pcap" or "pcapng" */
    char adapted[16];  /* name of the first link type that got an Ethernet header, or empty */
    bool nanoseconds;  /* times finer than a microsecond */
    uint64_t consumed; /* bytes of the stream */
};
void oko_capture_info(const struct oko_capture *capture, struct oko_capture_info *info);

/* A pcap file that ports write to. */
struct oko_writer;

/* fd is written from where it stands and not closed. nanoseconds: times of that resolution, else
 * microseconds. n_workers: as the datapath's that will use it. */
int oko_writer_new(int fd, bool nanoseconds, uint32_t n_workers, struct oko_writer **writer,
                   struct oko_error *error);
/* Writes out what is buffered. OKO_E_IO when that or an earlier write failed: then the file lacks
 * packets. No worker may be running. */
int oko_writer_flush(struct oko_writer *writer, struct oko_error *error);
/* What is still buffered is lost. The ports that write to it must be gone. */
void oko_writer_free(struct oko_writer *writer);
/* A port that writes what leaves through it; times are those of arrival by the datapath clock. */
int oko_dp_port_add_pcap(struct oko_dp *dp, uint32_t number, const char *name,
                         struct oko_writer *writer);

/* ---------------------------------------------------------------- replay */

/* Captures on their way through a datapath. Used by one thread; forwarding threads of its own when
 * there are several workers. */
struct oko_replay;

/* Which worker gets a packet. The hash of two addresses or of two ends is symmetric; packets
 * without IP addresses (ARP's count) go by their MAC addresses. */
enum oko_spread {
    OKO_SPREAD_ADDR = 0,   /* outer source and destination address */
    OKO_SPREAD_5TUPLE = 1, /* also protocol and ports; fragments without ports */
    OKO_SPREAD_SRC = 2,
    OKO_SPREAD_DST = 3,
    OKO_SPREAD_PORT = 4 /* where it came in */
};

enum oko_pace {
    OKO_PACE_MAX = 0,     /* as fast as it goes; capture time */
    OKO_PACE_PPS = 1,     /* rate packets/s; the time follows from it */
    OKO_PACE_BITS = 2,    /* rate bits/s of wire length; the time follows from it */
    OKO_PACE_REALTIME = 3 /* capture time, rate times as fast */
};

struct oko_replay_opts {
    uint32_t n_workers;   /* at most the datapath's */
    uint32_t spread;      /* enum oko_spread */
    uint32_t pace;        /* enum oko_pace */
    uint32_t burst;       /* 1..32; 0 = 32 */
    double rate;          /* as pace says */
    uint64_t loops;       /* rounds over the captures; 0 = until duration_ns */
    uint64_t duration_ns; /* wall time after which it ends; 0 = no limit */
    uint64_t max_packets; /* 0 = no limit */
    bool preload;         /* read everything first; packets are then borrowed, not copied */
};

/* A capture and the port where its packets come in. */
struct oko_replay_source {
    struct oko_capture *capture;
    uint32_t in_port;
    uint32_t reserved;
};

enum oko_replay_result {
    OKO_REPLAY_DONE = 0,
    OKO_REPLAY_MORE = 1,  /* call again */
    OKO_REPLAY_REWIND = 2 /* a round is over, the next one needs the captures from their start */
};

struct oko_replay_status {
    uint64_t packets;           /* handled so far, all rounds */
    uint64_t bytes;             /* their wire length */
    uint64_t loops;             /* rounds finished */
    uint64_t loaded;            /* preload: packets read so far */
    uint64_t first_ns, last_ns; /* datapath clock of the first and the newest packet */
    uint64_t run_ns;    /* wall time since the first packet was asked for; loading excluded */
    uint64_t per_round; /* packets of one round; 0 = not known yet */
    bool copied;        /* were frames copied on their way from the read buffer to a worker? */
};

/* Everything is borrowed until oko_replay_free(). */
int oko_replay_new(struct oko_dp *dp, const struct oko_replay_opts *opts,
                   const struct oko_replay_source *sources, uint32_t n_sources,
                   struct oko_writer *const *writers, uint32_t n_writers,
                   struct oko_replay **replay, struct oko_error *error);
/* Goes on for about slice_ns, until the end, until a signal interrupts a wait, or until events fill
 * half of the ring; returns an oko_replay_result. OKO_E_IO when a writer failed. A capture that
 * turns out broken ends there, the others go on: oko_replay_source_error() has why. */
int oko_replay_run(struct oko_replay *replay, uint64_t slice_ns, struct oko_error *error);
/* The same captures, opened anew, after OKO_REPLAY_REWIND. */
int oko_replay_rewind(struct oko_replay *replay, struct oko_capture *const *captures);
/* Why source i ended early; 0 if it did not. */
int oko_replay_source_error(const struct oko_replay *replay, uint32_t i, struct oko_error *error);
void oko_replay_status(const struct oko_replay *replay, struct oko_replay_status *status);
void oko_replay_free(struct oko_replay *replay);

#endif
