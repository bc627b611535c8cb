/* The stack of a state: pieces written by single stores, and which bytes hold numbers; see state.h.
 *
 * Pieces keep what was stored (of any type, numbers of any width), so that a spilled register comes
 * back whole and the facts can tell how a map key was written. A byte outside pieces is known only
 * to hold some number, or nothing. A pointer's bytes hold nothing that could be read singly:
 * overwriting a part of a spilled pointer leaves the rest unreadable. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

static uint32_t key(uint32_t frame, uint32_t pos)
{
    return frame * OKO_STACK_SIZE + pos;
}

/* The first piece that ends behind (frame, pos). */
static uint32_t first_behind(const struct oko_state *st, uint32_t frame, uint32_t pos)
{
    uint32_t lo = 0, hi = st->n_pieces;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct oko_piece *piece = &st->piece[mid];
        if (key(piece->frame, piece->pos) + piece->size <= key(frame, pos))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct oko_piece *oko_state_piece(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size)
{
    uint32_t i = first_behind(st, frame, pos);
    if (i == st->n_pieces)
        return NULL;
    struct oko_piece *piece = &st->piece[i];
    return piece->frame == frame && piece->pos == pos && piece->size == size ? piece : NULL;
}

static void mark(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size, bool init)
{
    for (uint32_t k = pos; k < pos + size; k++) {
        uint64_t bit = (uint64_t)1 << (k % 64);
        uint64_t *word = &st->frame[frame].init[k / 64];
        *word = init ? *word | bit : *word & ~bit;
    }
}

/* Removes the pieces that have a byte in [pos, pos + size). Returns where they were. */
static uint32_t cut(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size)
{
    uint32_t first = first_behind(st, frame, pos), end = first;
    while (end < st->n_pieces &&
           key(st->piece[end].frame, st->piece[end].pos) < key(frame, pos) + size)
        end++;
    if (end > first) {
        memmove(&st->piece[first], &st->piece[end], (st->n_pieces - end) * sizeof(st->piece[0]));
        st->n_pieces -= end - first;
    }
    return first;
}

static void insert(struct oko_state *st, uint32_t at, struct oko_piece piece)
{
    if (st->n_pieces == st->max_pieces) {
        uint32_t max = st->max_pieces == 0 ? 32 : 2 * st->max_pieces;
        struct oko_piece *larger = realloc(st->piece, max * sizeof(*larger));
        if (larger == NULL) {
            st->no_memory = true;
            return;
        }
        st->piece = larger;
        st->max_pieces = max;
    }
    memmove(&st->piece[at + 1], &st->piece[at], (st->n_pieces - at) * sizeof(st->piece[0]));
    st->n_pieces++;
    st->piece[at] = piece;
}

void oko_state_put(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size,
                   const struct oko_reg *r)
{
    uint32_t at = cut(st, frame, pos, size);
    insert(st, at, (struct oko_piece){(uint8_t)frame, (uint8_t)size, (uint16_t)pos, *r});
}

void oko_state_store(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size,
                     const struct oko_reg *r)
{
    bool pointer = r != NULL && oko_reg_is_pointer(r);
    struct oko_reg some = r != NULL ? *r : oko_reg_loaded(st, size);
    if (!pointer)
        oko_reg_zext(st, 8 * size, &some);
    mark(st, frame, pos, size, !pointer);
    oko_state_put(st, frame, pos, size, &some);
}

void oko_state_unset(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size)
{
    cut(st, frame, pos, size);
    mark(st, frame, pos, size, false);
}

void oko_state_smear(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size)
{
    /* Bytes of numbers stay numbers; those of pointers become unreadable, as mark() left them. */
    cut(st, frame, pos, size);
}

bool oko_state_initialised(const struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size,
                           uint32_t *bad)
{
    for (uint32_t k = pos; k < pos + size; k++)
        if ((st->frame[frame].init[k / 64] >> (k % 64) & 1) == 0) {
            *bad = k;
            return false;
        }
    return true;
}

struct oko_reg oko_state_load(struct oko_state *st, uint32_t frame, uint32_t pos, uint32_t size)
{
    uint32_t i = first_behind(st, frame, pos);
    if (i < st->n_pieces) {
        const struct oko_piece *piece = &st->piece[i];
        bool around = piece->frame == frame && piece->pos <= pos &&
                      pos + size <= (uint32_t)piece->pos + piece->size;
        if (around && piece->size == size)
            return piece->r;
        if (around && !oko_reg_is_pointer(&piece->r)) { /* a part of a number */
            struct oko_reg r = piece->r, shift = oko_reg_const(8 * (pos - piece->pos));
            oko_reg_alu(st, BPF_RSH, true, false, &r, &shift);
            oko_reg_zext(st, 8 * size, &r);
            return r;
        }
    }
    return oko_reg_loaded(st, size);
}

static void drop_pointer(void *arg, struct oko_reg *r)
{
    const uint32_t *frame = arg;
    if (r->type == OKO_REG_STACK && r->frame == *frame)
        *r = oko_reg_unset();
}

void oko_state_drop_frame(struct oko_state *st, uint32_t frame)
{
    cut(st, frame, 0, OKO_STACK_SIZE);
    memset(st->frame[frame].init, 0, sizeof(st->frame[frame].init));
    oko_state_each(st, drop_pointer, &frame);
}
