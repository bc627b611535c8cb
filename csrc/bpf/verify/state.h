/* The abstract state: what the walk knows of registers and stack at one point of one path.
 *
 * A location (register, or piece of stack written by one store) holds nothing usable, a number, or
 * a pointer into one object: the packet, a frame's stack, a map's value, a data section, the
 * metadata, or a map itself. Numbers, and the offsets of pointers, carry a scalar (scalar.h) and a
 * linear form (linear.h); the form's ids are bounded in the state's relation.
 *
 * Ids and object numbers are names for "some value": a state means all concrete states for which
 * values can be chosen that fit. Comparing and joining two states (join.c) therefore maps names of
 * one to forms of the other; equal names need not mean equal values. OKO_ID_LEN alone is fixed.
 *
 * Ghosts are values that locations had when the walk last passed a loop's head; they stand for
 * nothing that the program can read and serve the proof that the loop ends (loop.c).
 *
 * One struct oko_state is worked on; states to keep are packed into one block each. */
#ifndef OKO_VERIFY_STATE_H
#define OKO_VERIFY_STATE_H

#include "linear.h"
#include "scalar.h"

enum oko_reg_type {
    OKO_REG_UNSET = 0, /* never written, or of different kinds on different paths */
    OKO_REG_SCALAR,
    OKO_REG_PKT,   /* packet + offset */
    OKO_REG_STACK, /* frame pointer of frame `frame` + offset */
    OKO_REG_VALUE, /* value of map `index` + offset; 0 + offset too if maybe_null */
    OKO_REG_DATA,  /* data section `index` + offset */
    OKO_REG_META,  /* struct oko_meta + offset */
    OKO_REG_MAP    /* map `index` itself */
};

struct oko_reg {
    uint8_t type; /* enum oko_reg_type */
    bool maybe_null;
    uint8_t frame;
    uint16_t index;      /* UNSET: not 0 if loaded from unset stack, at r10 - index */
    uint32_t obj;        /* VALUE: which lookup's result; copies share it */
    struct oko_scalar s; /* the number, or the offset */
    struct oko_form f;   /* the same, modulo 2^64 */
};

/* Bytes of stack written by one store, that still hold what it wrote. */
struct oko_piece {
    uint8_t frame;
    uint8_t size; /* 1, 2, 4, 8 */
    uint16_t pos; /* of the first byte, from the frame's lowest: fp + (pos - 512) */
    struct oko_reg r;
};

struct oko_state_frame {
    uint32_t func;    /* index of the function */
    uint32_t call_pc; /* the caller's call instruction */
    uint32_t ctx;     /* which chain of calls; walk.c */
    struct oko_reg r[OKO_N_REGS];
    uint64_t init[OKO_STACK_SIZE / 64]; /* bytes that hold numbers; those of pointers are 0 */
};

struct oko_ghost {
    uint32_t loop; /* which loop, of the function of the frame */
    uint16_t frame;
    uint16_t where; /* register, or 16 + pos of a piece */
    struct oko_form f;
};

enum { OKO_MAX_GHOSTS = 24 };

struct oko_state {
    uint32_t n_frames;
    struct oko_state_frame frame[OKO_MAX_FRAMES];
    struct oko_piece *piece; /* ascending (frame, pos), not overlapping */
    uint32_t n_pieces, max_pieces;
    uint32_t n_ghosts;
    struct oko_ghost ghost[OKO_MAX_GHOSTS];
    struct oko_rel rel;
    uint32_t *next_id; /* the walk's counter of ids and objects */
    bool no_memory;    /* an allocation failed; the walk stops */
};

int oko_state_init(struct oko_state *st, uint32_t *next_id);
void oko_state_destroy(struct oko_state *st);

/* st->no_memory tells whether it worked. */
void oko_state_copy(struct oko_state *st, const struct oko_state *from);

/* A state in one block, to keep. */
struct oko_packed {
    uint32_t size; /* bytes of the block */
    uint32_t n_frames, n_pieces, n_ghosts, n_bounds, n_cons;
    /* frames, pieces, ghosts, bounds, constraints follow */
};
struct oko_packed *oko_state_pack(const struct oko_state *st); /* NULL: no memory */
bool oko_state_unpack(struct oko_state *st, const struct oko_packed *packed);

static inline struct oko_state_frame *oko_state_top(struct oko_state *st)
{
    return &st->frame[st->n_frames - 1];
}

/* ---------------------------------------------------------------- registers */

struct oko_reg oko_reg_unset(void);
struct oko_reg oko_reg_const(uint64_t x);
/* A number of which only s is known: gets a fresh id (none if it is constant). */
struct oko_reg oko_reg_fresh(struct oko_state *st, struct oko_scalar s);
/* Numbers below 2^(8 * size). */
struct oko_reg oko_reg_loaded(struct oko_state *st, unsigned size);
struct oko_reg oko_reg_pointer(enum oko_reg_type type);
static inline bool oko_reg_is_pointer(const struct oko_reg *r)
{
    return r->type >= OKO_REG_PKT;
}
/* Whether the pointer points at its object's base + a constant, and which. */
bool oko_reg_offset_const(const struct oko_reg *r, int64_t *off);
/* Bounds of the offset as an integer, from scalar, form and inequalities. */
void oko_reg_offset(struct oko_state *st, const struct oko_reg *r, oko_wide *lo, oko_wide *hi);

/* dst = dst op src on numbers (or on the offset of a pointer, ADD and SUB, 64 bits). */
void oko_reg_alu(struct oko_state *st, uint8_t op, bool is64, bool sign, struct oko_reg *dst,
                 const struct oko_reg *src);
void oko_reg_neg(struct oko_state *st, bool is64, struct oko_reg *dst);
/* The lower bits, zero- or sign-extended, as in oko_scalar_zext() and _sext(). */
void oko_reg_zext(struct oko_state *st, unsigned bits, struct oko_reg *dst);
void oko_reg_sext(struct oko_state *st, unsigned bits, bool is64, struct oko_reg *dst);
void oko_reg_swap(struct oko_state *st, unsigned bits, struct oko_reg *dst);

/* ---------------------------------------------------------------- what branches teach */

/* a and b are registers of the top frame, or b is a constant of its own; both are numbers, or (64
 * bits) both point into the same object and addresses are compared. False: cannot hold. */
bool oko_state_assume(struct oko_state *st, bool is64, enum oko_cmp cmp, struct oko_reg *a,
                      struct oko_reg *b);
/* The lookup's result is NULL, or is not: in all copies. */
void oko_state_null(struct oko_state *st, uint32_t obj, bool is_null);

/* ---------------------------------------------------------------- stack */

/* The piece that is exactly there, or NULL. */
struct oko_piece *oko_state_piece(struct oko_state *st, uint32_t frame, uint32_t pos,
                                  uint32_t size);
/* A store to known bytes, of a register or (r NULL) of some number. */
void oko_state_store(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size,
                     const struct oko_reg *r);
/* Puts a piece there; what is known of the bytes outside pieces stays. */
void oko_state_put(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size,
                   const struct oko_reg *r);
/* The bytes hold nothing any more. */
void oko_state_unset(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size);
/* A store of a number somewhere into [pos, pos + size). */
void oko_state_smear(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size);
/* Whether all bytes hold numbers; *bad gets the first that does not. */
bool oko_state_initialised(const struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size,
                           uint32_t *bad);
/* What a load from known, initialised bytes gives. */
struct oko_reg oko_state_load(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size);
/* Removes a frame's pieces, and pointers into it from everywhere else. */
void oko_state_drop_frame(struct oko_state *st, uint32_t frame);

/* Calls fn on every register and piece of the state. */
void oko_state_each(struct oko_state *st, void (*fn)(void *arg, struct oko_reg *r), void *arg);

#endif
