#include "words.h"

#include <string.h>

#include "../../oko.h"

static const uint8_t order[] = {R9, R10, R11, R8, RCX, RSI, RDI};
static const uint8_t lendable[] = {RAX, RDX, R9, R10, R11, R8, RCX, RSI, RDI};

static bool takeable(unsigned reg)
{
    return memchr(order, (int)reg, sizeof(order));
}

static void count(struct jit_maker *m, const struct jit_buffer *b)
{
    for (uint32_t i = 0; i < b->n_pieces; i++) {
        const struct jit_piece *p = &b->piece[i];
        if (p->kind == JIT_PIECE_CONST || p->reg == JIT_FP)
            continue;
        m->uses[p->reg]++;
        m->free &= ~(1u << jit_reg[p->reg]);
    }
}

void jit_maker_init(struct jit_maker *m, struct jit *j, const struct jit_op *op)
{
    const struct jit_call *call = &j->calls[op->call - 1];
    memset(m, 0, sizeof(*m));
    m->j = j;
    for (unsigned i = 0; i < sizeof(lendable); i++)
        m->free |= 1u << lendable[i];
    for (unsigned reg = 1; reg < 6; reg++) { /* what the call is to leave alone */
        if (!(op->clobbers & 1u << reg) && (op->live & 1u << reg)) {
            m->uses[reg]++;
            m->free &= ~(1u << jit_reg[reg]);
        }
    }
    count(m, &call->key);
    count(m, &call->value);
    if (call->key.size && !call->key.n_pieces) /* by pointer: arguments of the call itself */
        m->free &= ~(1u << RSI);
    if (call->value.size && !call->value.n_pieces)
        m->free &= ~(1u << RDX);
}

static unsigned take_from(struct jit_maker *m, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (m->free & 1u << from[i]) {
            m->free &= ~(1u << from[i]);
            return from[i];
        }
    }
    if (!m->j->a.error)
        m->j->a.error = OKO_E_LIMIT;
    return R11;
}

unsigned jit_maker_take(struct jit_maker *m)
{
    return take_from(m, order, sizeof(order));
}

void jit_maker_give(struct jit_maker *m, unsigned reg)
{
    if (memchr(lendable, (int)reg, sizeof(lendable)))
        m->free |= 1u << reg;
}

/* One use of the piece's register is over: is it ours now? */
static bool last_use(struct jit_maker *m, const struct jit_piece *p)
{
    unsigned reg = jit_reg[p->reg];
    bool last = --m->uses[p->reg] == 0;
    return last && (takeable(reg) || reg == RAX || reg == RDX);
}

static struct x64_mem at(const struct jit *j, const struct jit_piece *p)
{
    return p->reg == JIT_FP ? x64_at(RSP, (int32_t)j->frame + p->off)
                            : x64_at(jit_reg[p->reg], p->off);
}

/* dst = the piece alone, at its place in the word. */
static void load_piece(struct jit_maker *m, unsigned dst, const struct jit_piece *p)
{
    struct x64 *a = &m->j->a;
    unsigned left = 8 * (p->at & 7u), width = 8u * p->width;
    if (p->kind == JIT_PIECE_MEM) {
        x64_load(a, p->width, dst, at(m->j, p));
        if (p->reg != JIT_FP && last_use(m, p))
            jit_maker_give(m, jit_reg[p->reg]);
    } else {
        unsigned src = jit_reg[p->reg];
        bool ours = last_use(m, p);
        bool exact = p->clean || left + width == 64; /* what is above goes or is not there */
        if (p->shift) {
            x64_mov(a, true, dst, src);
            x64_shift_i(a, X64_SHR, true, dst, p->shift);
            if (p->shift + width < 64 && left + width < 64) {
                x64_shift_i(a, X64_SHL, true, dst, 64 - width);
                x64_shift_i(a, X64_SHR, true, dst, 64 - width);
            }
        } else if (exact) {
            if (dst != src)
                x64_mov(a, width > 32 || !p->clean, dst, src);
        } else if (width == 8 || width == 16 || width == 32) {
            x64_movzx(a, p->width, dst, src);
        } else {
            x64_mov(a, true, dst, src);
            x64_shift_i(a, X64_SHL, true, dst, 64 - width);
            x64_shift_i(a, X64_SHR, true, dst, 64 - width);
        }
        if (ours && src != dst)
            jit_maker_give(m, src);
    }
    if (left)
        x64_shift_i(a, X64_SHL, true, dst, left);
}

/* word |= the piece. */
static void merge_piece(struct jit_maker *m, unsigned word, const struct jit_piece *p)
{
    struct x64 *a = &m->j->a;
    unsigned src = p->kind == JIT_PIECE_REG ? jit_reg[p->reg] : X64_NOREG;
    bool mine = p->kind == JIT_PIECE_REG && m->uses[p->reg] == 1 &&
                (takeable(src) || src == RAX || src == RDX);
    unsigned part = mine ? src : take_from(m, lendable, sizeof(lendable));
    load_piece(m, part, p);
    x64_alu(a, X64_OR, true, word, part);
    jit_maker_give(m, part);
}

struct jit_word jit_make_word(struct jit_maker *m, const struct jit_buffer *b, uint32_t index,
                              bool may_stay)
{
    struct x64 *a = &m->j->a;
    const struct jit_piece *in[JIT_MAX_PIECES];
    uint32_t n = 0, first = 0;
    uint64_t constant = 0;
    for (uint32_t i = 0; i < b->n_pieces; i++) {
        const struct jit_piece *p = &b->piece[i];
        if (p->at / 8u != index)
            continue;
        if (p->kind == JIT_PIECE_CONST)
            constant |= p->value << 8 * (p->at & 7u);
        else
            in[n++] = p;
    }
    if (n == 0) {
        unsigned reg = jit_maker_take(m);
        x64_mov_i(a, reg, constant);
        return (struct jit_word){.reg = (uint8_t)reg};
    }
    if (n == 1 && in[0]->kind == JIT_PIECE_MEM && in[0]->reg == JIT_FP && in[0]->width == 8 &&
        may_stay)
        return (struct jit_word){.in_memory = true, .mem = at(m->j, in[0])};
    if (n == 1 && in[0]->kind == JIT_PIECE_REG && in[0]->clean && (in[0]->at & 7) == 0 &&
        !constant && in[0]->reg >= 6) { /* as it is; nobody changes it */
        m->uses[in[0]->reg]--;
        return (struct jit_word){.reg = jit_reg[in[0]->reg]};
    }

    /* Start with a register that need not be copied, else with a load. */
    unsigned word = X64_NOREG;
    for (uint32_t i = 0; i < n && word == X64_NOREG; i++) {
        if (in[i]->kind == JIT_PIECE_REG && m->uses[in[i]->reg] == 1 &&
            takeable(jit_reg[in[i]->reg])) {
            word = jit_reg[in[i]->reg];
            first = i;
        }
    }
    for (uint32_t i = 0; i < n && word == X64_NOREG; i++)
        if (in[i]->kind == JIT_PIECE_MEM)
            first = i;
    if (word == X64_NOREG)
        word = jit_maker_take(m);
    load_piece(m, word, in[first]);
    m->free &= ~(1u << word);
    for (uint32_t i = 0; i < n; i++)
        if (i != first)
            merge_piece(m, word, in[i]);
    if (constant == (uint64_t)(int32_t)constant) {
        if (constant)
            x64_alu_i(a, X64_OR, true, word, (int32_t)constant);
    } else {
        unsigned part = take_from(m, lendable, sizeof(lendable));
        x64_mov_i(a, part, constant);
        x64_alu(a, X64_OR, true, word, part);
        jit_maker_give(m, part);
    }
    return (struct jit_word){.reg = (uint8_t)word};
}
