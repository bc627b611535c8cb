/* The JIT's own declarations: the intermediate form and the state of one compilation.
 *
 * Stages, each in its own file: lower.c turns instructions and the verifier's facts into one
 * struct jit_op per instruction slot and finds functions and live registers; emit.c writes the
 * machine code of an operation; call.c that of calls; entry.c frames, the per-packet entry and the
 * batch loop, prefetch.c its first pass; jit.c drives them and owns the result. x64.c encodes,
 * exec.c owns pages.
 *
 * Registers. r0-r5 live in rax, rdi, rsi, rdx, rcx, r8, so that arguments of the entry, of local
 * calls and of helpers are where the C calling convention (System V AMD64) wants them; r6-r9 in the
 * callee-saved rbx, rbp, r14, r15. The frame pointer r10 is no register: the stack is addressed
 * through rsp. r9, r10, r11 are scratch inside one operation; r12 and r13, and those of r6-r9 that
 * no function of the program uses, hold "pins": what the entry keeps across the program (the
 * environment, the state of the batch loop).
 *
 * Thread-safety: a compilation belongs to one thread; its result is immutable. */
#ifndef OKO_BPF_JIT_JIT_H
#define OKO_BPF_JIT_JIT_H

#include "../prog.h"
#include "exec.h"
#include "x64.h"

/* What prog->jit points at. */
struct oko_jit_code {
    struct oko_exec exec;
    uint32_t size; /* bytes of code at exec.at */
};

enum jit_opcode {
    JIT_NOP,
    JIT_MOV,  /* dst = a or imm; w 0: zero-extended */
    JIT_SEXT, /* dst = the low width bytes of a, sign-extended to w */
    JIT_ZEXT, /* dst = the low width bytes of a */
    JIT_ADD,  /* dst = a + b or imm, and so on */
    JIT_SUB,
    JIT_MUL,
    JIT_DIV, /* sx: signed */
    JIT_MOD,
    JIT_OR,
    JIT_AND,
    JIT_XOR,
    JIT_LSH,
    JIT_RSH,
    JIT_ARSH,
    JIT_NEG,
    JIT_ROL,    /* dst = a rotated left by imm bits */
    JIT_CLOCK,  /* dst = the datapath clock: helper time_get_ns */
    JIT_BSWAP,  /* dst = the low width bytes of a, reversed */
    JIT_LOAD,   /* dst = width bytes of memory; sx: sign-extended */
    JIT_STORE,  /* width bytes of memory = b or imm */
    JIT_MODIFY, /* width bytes of memory, cc (an enum jit_opcode) = b or imm; never the stack */
    JIT_ATOMIC, /* on memory, with b; cc: operation; old value to dst if it fetches */
    JIT_ABS,    /* r0 = width big-endian bytes of the packet at imm (+ a) */
    JIT_JMP,
    JIT_JCC,    /* to target if a cc b or imm */
    JIT_SELECT, /* if a cc b or imm, dst = sel, or target if sel is none; else unchanged */
    JIT_LOCAL,  /* call of the function at target */
    JIT_HELPER, /* call of helper imm; off: its slot for the result of a sketch, or 0; target: where
                 * a null result goes, or JIT_UNLABELLED: on with the next */
    JIT_CALLX,  /* call of the helper whose number is in a */
    JIT_EXIT,   /* with the result in r0 */
    JIT_EXIT_IF /* with the result 1 if a cc b or imm, else 0 */
};

enum { JIT_NONE = 15, JIT_FP = 10, JIT_UNLABELLED = -1 };

/* Condition beside BPF's: no bit in common. */
enum { JIT_JNSET = 0xe0 };

/* One operation. It stands at the index of the instruction it was made from. Registers are BPF's
 * numbers, JIT_NONE where there is none. Targets beyond the last instruction stand for leaving with
 * a constant result: n for 0, n + 1 for 1. */
struct jit_op {
    uint8_t op; /* enum jit_opcode */
    bool w;     /* 64-bit operands */
    uint8_t dst;
    uint8_t a, b;               /* b none: imm instead */
    uint8_t base, index, scale; /* memory: base + index * scale + off */
    uint8_t sel;
    uint8_t width; /* bytes of memory, or of what is extended; JIT_EXIT: 1 if r0 is 0 or 1 */
    uint8_t cc;    /* BPF_JEQ..., or the atomic operation without BPF_FETCH */
    bool mem;      /* of a comparison (JIT_JCC, JIT_SELECT, JIT_EXIT_IF): a is in memory */
    bool sx;
    int32_t off;
    uint32_t target;
    int64_t imm;
    uint32_t call;        /* JIT_HELPER: 1 + index into calls of how it is made, or 0 */
    uint16_t args;        /* JIT_HELPER: registers it reads */
    uint16_t clobbers;    /* JIT_HELPER: registers it destroys or writes */
    uint16_t null_copies; /* JIT_HELPER with target: registers that a null result is in */
    uint16_t live;        /* registers whose value is still read after it */
};

/* Bytes [at, at + width) of a key, item or value that a helper is given, within one 8-byte word. */
struct jit_piece {
    uint8_t at, width;
    uint8_t kind;   /* enum jit_piece_kind */
    uint8_t reg;    /* REG: BPF register; MEM: base, JIT_FP or the argument's register */
    bool clean;     /* REG: no bits above the piece's width, and it starts at bit 0 */
    uint8_t shift;  /* REG: the piece starts at this bit of the register */
    int16_t off;    /* MEM: offset from the base */
    uint64_t value; /* CONST */
};

enum jit_piece_kind { JIT_PIECE_CONST, JIT_PIECE_REG, JIT_PIECE_MEM };
enum { JIT_MAX_PIECES = 40, JIT_MAX_WORDS = 8 };

/* Where a whole buffer comes from. */
struct jit_buffer {
    uint32_t size;     /* bytes */
    uint32_t n_pieces; /* rising at, no gaps; 0: by the pointer that the program passes */
    struct jit_piece piece[JIT_MAX_PIECES];
};

/* How a helper call on a known map is made. */
enum jit_call_kind {
    JIT_CALL_MAP,   /* the map's own function, with key and value as whole words */
    JIT_CALL_ARRAY, /* lookups and additions in place */
    JIT_CALL_HASH,
    JIT_CALL_BLOOM,
    JIT_CALL_COUNT_MIN,
    JIT_CALL_BLOOM_ADD,
    JIT_CALL_COUNT_MIN_ADD
};

struct jit_call {
    uint8_t kind;
    struct oko_map *map;
    struct jit_buffer key, value;
};

/* An 8-byte word of a key: in a register, or in memory as it is. */
struct jit_word {
    bool in_memory;
    uint8_t reg;
    struct x64_mem mem;
};

/* The rest of a call, behind the function: labels, and the words of the key while they last. */
struct jit_late {
    uint32_t pc;
    uint32_t entry, null, retry, next, done;
    struct jit_word w[JIT_MAX_WORDS];
    uint32_t n_words;
    uint8_t hits; /* register */
};

/* A function of the program: the entry, or what a local call names. */
struct jit_func {
    uint32_t start;
    uint32_t label;
    uint16_t used; /* registers that its own instructions touch */
    uint16_t live_in;
    bool calls;     /* needs an aligned stack: calls something on its main path */
    bool clobbers;  /* ... or at least destroys what a call would */
    bool shares;    /* instructions with another function: they are not rewritten */
    uint32_t stack; /* bytes below the frame pointer that it may touch */
    uint32_t temp;  /* bytes for keys and values of calls */
};

/* What the entry keeps for the whole run: in a callee-saved register, or in a slot of the frame. */
enum jit_pin { PIN_ENV, PIN_META, PIN_IN, PIN_TODO, PIN_MATCH, N_PINS };

struct jit_place {
    bool used;
    uint8_t reg;  /* X64_NOREG: in the frame */
    int32_t slot; /* byte offset from rsp */
};

/* Stages to leave out. Only tests and benchmarks set it, and before threads start: what a stage
 * does, and whether a wrong result is its fault. */
enum {
    JIT_SKIP_FLOW = 1,
    JIT_SKIP_PEEP = 2,
    JIT_SKIP_INLINE = 4,
    JIT_SKIP_BMI = 8,   /* as on an older CPU */
    JIT_SKIP_NEAR = 16, /* code far from what it calls */
    JIT_SKIP_AHEAD = 32
};
extern uint32_t jit_skip;

/* Bytes of a table that lookups touch from which on the batch entry fetches ahead (prefetch.c).
 * Tests set it as they do jit_skip; and whether each bucket fetched is marked, in the byte it has
 * to spare.
 */
extern uint32_t jit_near;
extern bool jit_marks_ahead;

struct jit {
    struct oko_prog *prog;
    struct x64 a;
    struct jit_op *ops; /* one per instruction slot */
    uint32_t n;
    struct jit_func *funcs; /* funcs[0] is the entry */
    uint32_t n_funcs, funcs_room;
    struct jit_call *calls;
    uint32_t n_calls, calls_room;
    struct jit_late *late; /* of the body being emitted */
    uint32_t n_late, late_room;
    uint32_t *label; /* of each pc in the body being emitted, or JIT_UNLABELLED */
    uint32_t *order; /* pcs of the function at hand, rising */
    uint32_t n_order;
    uint32_t *work; /* n slots for searches; of the body being emitted: pairs [from, to) of order */
    uint32_t n_cold; /* ... that are emitted behind it */
    uint32_t *seen;  /* n marks: == stamp, reached from the function at hand */
    uint32_t stamp;
    uint16_t *before;             /* of each pc: registers live before it, as of jit_find_live() */
    uint32_t *func_at;            /* of each pc: 1 + index of the function called there, or 0 */
    uint16_t used;                /* registers used by any function */
    bool has_local;               /* has local calls */
    bool counts_depth;            /* local calls may recurse, or nest deeper than OKO_MAX_FRAMES */
    bool has_calls;               /* destroys the registers that a call may destroy */
    bool stack_escapes;           /* the function at hand keeps addresses of its stack */
    bool has_fuel;                /* counts back edges */
    bool uses_env;                /* PIN_ENV */
    bool uses_meta;               /* PIN_META, in the entry */
    bool stores_meta, stores_pkt; /* env->meta; env->pkt and env->len */
    bool aborts_in_sub;           /* a function other than the entry may end the run */

    /* The body being emitted. */
    const struct jit_func *func;
    bool batch;
    struct jit_place pin[N_PINS];
    int32_t temp;        /* words of keys and values for calls: offset from rsp */
    uint32_t frame;      /* the frame pointer is rsp + frame */
    struct jit_op flags; /* the comparison that the CPU's flags stand for */
    bool flags_valid;
    uint32_t frame_sub; /* bytes that the prologue takes off rsp */
    uint8_t saved[6];   /* callee-saved registers, in the order of their pushes */
    uint32_t n_saved;
    uint32_t exit_label, result_label[2]; /* leave with r0; with the constant result 0 or 1 */
    bool leaves_r0, leaves_1, leaves_0;   /* which of them the body uses */
    bool leaves_bit;                      /* r0 then is 0 or 1 */
    uint32_t abort_label[2];              /* without and with a fault */
    bool abort_used[2];
};

extern const uint8_t jit_reg[11]; /* x86 register of each BPF register; r10: X64_NOREG */

/* lower.c */
int jit_lower(struct jit *j);
/* Fills order, the live sets and *func (used, live_in, calls, stack). */
void jit_analyse(struct jit *j, struct jit_func *func);
void jit_find_live(struct jit *j);
bool jit_update_live(struct jit *j, uint32_t pc); /* after a change there, going backward */
void jit_find_sharing(struct jit *j);             /* before any operation is rewritten */
uint16_t jit_live_after(const struct jit *j, uint32_t pc); /* from the sets of those that follow */
uint16_t jit_live_before(const struct jit *j, uint32_t pc);
bool jit_is_pure(const struct jit_op *op); /* does nothing but write dst */
uint16_t jit_reads(const struct jit_op *op);
uint16_t jit_writes(const struct jit_op *op); /* clobbered ones included */
bool jit_is_jump(const struct jit_op *op);    /* control never reaches the next operation */
bool jit_has_target(const struct jit *j, const struct jit_op *op); /* within the function */
struct jit_func *jit_func_at(struct jit *j, uint32_t start);

/* flow.c and peep.c: rewrite the operations of the function at hand */
void jit_flow(struct jit *j, struct jit_func *func);
void jit_peep(struct jit *j, struct jit_func *func);

/* emit.c */
void jit_emit_op(struct jit *j, uint32_t pc, uint32_t next); /* next: the pc emitted after it */
/* dst = reg, unless it is there; w false: zero-extended even then. The operand's form: only as
 * wide as an operation of that width reads it. */
void jit_move(struct jit *j, bool w, unsigned dst, unsigned reg);
void jit_move_operand(struct jit *j, bool w, unsigned dst, unsigned reg);
unsigned jit_use(struct jit *j, unsigned reg, unsigned scratch); /* x86 register with its value */
struct x64_mem jit_mem(struct jit *j, const struct jit_op *op);

/* div.c */
void jit_emit_div(struct jit *j, uint32_t pc);

/* keys.c */
void jit_plan_calls(struct jit *j); /* chooses how calls are made; arguments may become unused */
void jit_widen_copies(struct jit *j);
void jit_plan_buffers(struct jit *j); /* finds where keys and values come from */

/* maps.c */
bool jit_call_uses_env(const struct jit_call *call);
bool jit_sketch_in_place(const struct oko_map *map); /* few enough blocks to read */
void jit_emit_call(struct jit *j, uint32_t pc);
void jit_emit_late(struct jit *j);
bool jit_lookup_is_plain(const struct jit *j, uint32_t pc); /* never null, changes nothing */
bool jit_prefetches(const struct jit *j, uint32_t pc);      /* a lookup in a table worth it */
void jit_emit_prefetch(struct jit *j, uint32_t pc);         /* instead of that lookup */
/* Condition AE: the map, of such a lookup, now has so many entries that most are not near. */
void jit_emit_is_large(struct jit *j, const struct oko_map *map);

/* prefetch.c: the first pass of the batch entry. Between plan and emit, work[] is its own. */
bool jit_plan_ahead(struct jit *j); /* is there one, for the body being emitted? */
void jit_emit_ahead_test(struct jit *j, uint32_t skip); /* to skip unless it is worth it now */
void jit_emit_ahead(struct jit *j, uint32_t next);      /* for the packet at hand; then to next */

/* call.c */
void jit_emit_helper(struct jit *j, uint32_t pc);
void jit_emit_local(struct jit *j, uint32_t pc);
void jit_emit_callx(struct jit *j, uint32_t pc);
bool jit_is_unwind(const struct jit *j, const struct jit_op *op);

/* entry.c */
int jit_emit_program(struct jit *j, uint32_t *run, uint32_t *batch);
unsigned jit_pin(struct jit *j, enum jit_pin pin, unsigned scratch);
/* Clears the lowest set bit of reg; Z tells whether none is left. */
void jit_emit_drop_lowest(struct x64 *a, unsigned reg, unsigned scratch);
void jit_emit_exit(struct jit *j, bool last);
void jit_emit_exit_const(struct jit *j, unsigned result, bool last);
void jit_emit_exit_if(struct jit *j, enum x64_cc cc, bool last); /* result 1 if cc, else 0 */
/* Ends the run from any depth with r0 = 0; fault: also counts a failed check. */
void jit_emit_abort(struct jit *j, bool fault);
void jit_emit_abort_if(struct jit *j, enum x64_cc cc, bool fault);

#endif
