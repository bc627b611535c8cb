/* What the verifier proved about each instruction: the JIT's and the interpreter's input.
 *
 * The verifier (or, in conformance mode, oko_facts_none()) fills one record per instruction.
 * A fact is a promise that holds on every path of every run; "unknown" is always a legal value and
 * costs only speed. Exception: OKO_FACT_GUARD demands a run-time check (guarded loading).
 *
 * Read-only once the program is loaded; freed with it. */
#ifndef OKO_BPF_FACTS_H
#define OKO_BPF_FACTS_H

#include "insn.h"

enum oko_fact_flag {
    OKO_FACT_REACHED = 1,      /* some path executes it; others may be left out of the code */
    OKO_FACT_DST_HI0 = 2,      /* after it, the upper 32 bits of dst are zero */
    OKO_FACT_NONZERO = 4,      /* divisor of a div/mod by register is never zero */
    OKO_FACT_INDEX_OK = 8,     /* lookup in an array: the index is below max_entries */
    OKO_FACT_KEY_STACK = 16,   /* helper argument r2 (key or item) is at fp + key_off, this frame */
    OKO_FACT_VAL_STACK = 32,   /* helper argument r3 (value) is at fp + val_off, this frame */
    OKO_FACT_NONNULL = 64,     /* a null check of a value pointer that always succeeds */
    OKO_FACT_GUARD = 128,      /* memory access to be checked at run time: see guard */
    OKO_FACT_FUEL = 256,       /* back edge to be counted at run time (guarded loading): before
                                * each execution of the jump, taken or not, env->fuel -= 1; below
                                * 0 is a fault. A run starts with facts.fuel */
    OKO_FACT_TAKEN = 512,      /* conditional jump that is always taken */
    OKO_FACT_NOT_TAKEN = 1024, /* ... never taken */
    OKO_FACT_INDEX_CONST = 2048 /* lookup in an array: the index is always index_const */
};

enum oko_guard {
    OKO_GUARD_NONE = 0,
    OKO_GUARD_PKT = 1,  /* pkt <= address and address + width <= pkt + len */
    OKO_GUARD_VALUE = 2 /* inside the value of map number guard_map, whose base the JIT/interpreter
                         * derives from the map (value_of(address)); never NULL */
};

/* How a stack buffer handed to a helper was written: the widths of its last stores, in address
 * order, when all paths agree. Reading at these widths never fails store-to-load forwarding. */
struct oko_partition {
    uint8_t n;         /* pieces, 0 = unknown */
    uint8_t width[16]; /* bytes of each: 1, 2, 4 or 8; they sum to the buffer's size */
};

struct oko_fact {
    uint16_t flags;  /* enum oko_fact_flag */
    int16_t map;     /* constant map of a helper call 1-4, or of a MAP load; -1 unknown */
    int16_t key_off; /* negative offsets from the frame pointer, with *_STACK */
    int16_t val_off;
    uint8_t guard;    /* enum oko_guard */
    uint8_t live_out; /* unused, 0 */
    int16_t guard_map;
    uint16_t regs_live; /* registers whose value may still be read after this instruction; 0x7ff
                           unknown */
    uint16_t key_part;  /* index into partitions, 0 = unknown */
    uint16_t val_part;
    uint64_t index_const;
};

struct oko_facts {
    uint32_t n_insns;
    uint32_t n_partitions; /* partitions[0] is the unknown one */
    struct oko_fact *insn;
    struct oko_partition *partitions;
    uint32_t worst_case; /* executed instructions, helper weights included; 0 unknown */
    uint32_t stateful;   /* enum value 0 or 1, as oko_prog_info */
    uint32_t reads_meta;
    uint32_t guards;    /* instructions with GUARD or FUEL */
    int64_t fuel;       /* FUEL jumps that a run may execute */
    uint16_t stack[64]; /* bytes of stack each function uses, by index in spec->funcs (< 64) */
    uint64_t verify_work;
    void *states; /* abstract states kept for OKO_RUN_CHECKED, or NULL; verify/check.h */
};

/* Facts that claim nothing: every instruction reached, all else unknown. */
int oko_facts_none(const struct oko_prog_spec *spec, struct oko_facts *facts);
void oko_facts_destroy(struct oko_facts *facts);

#endif
