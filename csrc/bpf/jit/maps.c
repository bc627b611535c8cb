/* Map helpers as machine code: the steps that map_array.h, map_hash.h and map_sketch.h describe,
 * with addresses, sizes and secrets as constants.
 *
 * What is rare stands behind the function (an overflow chain, a false hit of a tag, a sketch that
 * the control side has added to) and calls C. A null result goes straight to where the program's
 * test of it leads. Where a map's own function is called, key and value are handed over as whole
 * words, so that it need not wait for the narrow stores that made them.
 *
 * Thread-safety: of the code made: as the C functions, whose loads and stores it repeats. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../map_array.h"
#include "../map_hash.h"
#include "../map_sketch.h"
#include "words.h"

enum { RED_ZONE = 128 };

static bool power_of_two(uint64_t v)
{
    return v && !(v & (v - 1));
}

bool jit_call_uses_env(const struct jit_call *call)
{
    switch ((enum jit_call_kind)call->kind) {
    case JIT_CALL_ARRAY:
        return call->map->spec.type == OKO_MAP_WORKER_ARRAY && call->map->n_workers > 1;
    case JIT_CALL_BLOOM_ADD:
    case JIT_CALL_COUNT_MIN_ADD:
        return call->map->n_workers > 1;
    case JIT_CALL_HASH:
        return call->map->spec.type != OKO_MAP_HASH;
    default:
        return true;
    }
}

/* ---------------------------------------------------------------- code behind the function */

/* A null result: r0 = 0 if somebody reads it, then to the target or back behind the call. */
static void emit_null(struct jit *j, const struct jit_op *op, uint32_t done)
{
    uint32_t target = op->target;
    bool leaves = target != (uint32_t)JIT_UNLABELLED && target >= j->n;
    bool read = target == (uint32_t)JIT_UNLABELLED || (!leaves && (jit_live_before(j, target) & 1));
    if (read)
        x64_mov_i(&j->a, RAX, 0);
    for (unsigned reg = 1; reg < 10 && target < j->n; reg++)
        if ((op->null_copies & 1 << reg) && (jit_live_before(j, target) & 1 << reg))
            x64_mov_i(&j->a, jit_reg[reg], 0);
    if (target == (uint32_t)JIT_UNLABELLED)
        x64_jmp(&j->a, done);
    else if (leaves)
        x64_jmp(&j->a, j->result_label[target - j->n]);
    else
        x64_jmp(&j->a, j->label[target]);
}

static struct jit_late *add_late(struct jit *j, uint32_t pc)
{
    if (j->n_late == j->late_room) {
        uint32_t room = j->late_room ? 2 * j->late_room : 4;
        struct jit_late *late = realloc(j->late, room * sizeof(*late));
        if (!late) {
            j->a.error = j->a.error ? j->a.error : OKO_E_NOMEM;
            return NULL;
        }
        j->late = late;
        j->late_room = room;
    }
    struct jit_late *late = &j->late[j->n_late++];
    memset(late, 0, sizeof(*late));
    late->pc = pc;
    late->entry = x64_label(&j->a);
    late->null = x64_label(&j->a);
    late->retry = x64_label(&j->a);
    late->next = x64_label(&j->a);
    late->done = x64_label(&j->a);
    return late;
}

/* A C call from code that did not prepare one: rsp moves below the red zone, aligned, with room for
 * size bytes at its top. */
static int32_t emit_open_frame(struct jit *j, uint32_t size)
{
    uint32_t taken = 8 + 8 * j->n_saved + j->frame_sub;
    uint32_t room = RED_ZONE + ((size + 7) & ~7u);
    room += (taken + room) % 16;
    x64_alu_i(&j->a, X64_SUB, true, RSP, (int32_t)room);
    return (int32_t)room;
}

/* Calls fn(map, words, rdx) with the words of the key, rdx being the environment if with_env, else
 * what it is; the frame stays open. */
static int32_t emit_late_call(struct jit *j, const struct oko_map *map, const struct jit_late *late,
                              const void *fn, bool with_env)
{
    struct x64 *a = &j->a;
    int32_t room = emit_open_frame(j, 8 * late->n_words);
    for (uint32_t i = 0; i < late->n_words; i++) {
        unsigned reg = late->w[i].reg;
        if (late->w[i].in_memory) {
            struct x64_mem mem = late->w[i].mem;
            mem.disp += room;
            reg = RAX;
            x64_load(a, 8, reg, mem);
        }
        x64_store(a, 8, x64_at(RSP, (int32_t)(8 * i)), reg);
    }
    x64_mov_i(a, RDI, (uintptr_t)map);
    x64_mov(a, true, RSI, RSP);
    if (with_env)
        x64_mov(a, true, RDX, jit_pin(j, PIN_ENV, RDX));
    x64_call_c(a, fn);
    return room;
}

/* ---------------------------------------------------------------- hashing */

static void xor_word(struct x64 *a, unsigned reg, struct jit_word w)
{
    if (w.in_memory)
        x64_alu_load(a, X64_XOR, true, reg, w.mem);
    else
        x64_alu(a, X64_XOR, true, reg, w.reg);
}

/* rax = oko_hash_words(key, w, n) before its last step (base/hash.h); destroys rdx. */
static void emit_hash(struct x64 *a, const struct oko_hash_key *key, const struct jit_word *w,
                      uint32_t n)
{
    x64_load(a, 8, RAX, x64_constant(a, key->s[0]));
    for (uint32_t i = 0; i < n; i += 2) {
        xor_word(a, RAX, w[i]);
        if (i + 1 < n) {
            x64_load(a, 8, RDX, x64_constant(a, key->s[1]));
            xor_word(a, RDX, w[i + 1]);
            x64_unary(a, X64_MUL, true, RDX);
        } else {
            x64_unary_m(a, X64_MUL, true, x64_constant(a, key->s[2]));
        }
        x64_alu(a, X64_XOR, true, RAX, RDX);
    }
    x64_imul_load(a, true, RAX, x64_constant(a, OKO_HASH_FACTOR));
}

static uint32_t make_words(struct jit_maker *m, const struct jit_buffer *b, struct jit_word *w,
                           bool may_stay)
{
    uint32_t n = (b->size + 7) / 8;
    for (uint32_t i = 0; i < n; i++)
        w[i] = jit_make_word(m, b, i, may_stay);
    return n;
}

/* ---------------------------------------------------------------- arrays */

/* reg *= stride */
static void emit_scale(struct x64 *a, unsigned reg, uint64_t stride)
{
    if (power_of_two(stride))
        x64_shift_i(a, X64_SHL, true, reg, (unsigned)__builtin_ctzll(stride));
    else
        x64_imul_i(a, true, reg, reg, (int32_t)stride);
}

static void emit_array(struct jit *j, const struct jit_op *op, const struct jit_call *call,
                       uint32_t pc)
{
    struct x64 *a = &j->a;
    const struct oko_map_array *array = (const struct oko_map_array *)call->map;
    const struct oko_fact *fact = &j->prog->facts.insn[pc];
    struct jit_maker m;
    jit_maker_init(&m, j, op);
    struct jit_late *late = NULL;
    uint64_t base = (uintptr_t)array->values;
    unsigned index = X64_NOREG;
    if (fact->flags & OKO_FACT_INDEX_CONST) {
        base += fact->index_const * array->stride;
    } else {
        index = jit_make_word(&m, &call->key, 0, false).reg;
        if (!(fact->flags & OKO_FACT_INDEX_OK)) {
            late = add_late(j, pc);
            x64_alu_i(a, X64_CMP, call->key.size == 8, index, (int32_t)array->map.spec.max_entries);
            if (late)
                x64_jcc(a, X64_AE, late->null);
        }
    }
    x64_mov_i(a, RAX, base);
    if (index != X64_NOREG && array->stride == 8) {
        x64_lea(a, true, RAX, x64_at_index(RAX, index, 8, 0));
    } else if (index != X64_NOREG) { /* only scratch registers: the others are kept */
        if (index != R9 && index != R10 && index != R11) {
            x64_mov(a, true, R11, index);
            index = R11;
        }
        emit_scale(a, index, array->stride);
        x64_alu(a, X64_ADD, true, RAX, index);
    }
    if (array->worker_stride && array->map.n_workers > 1) {
        x64_load(a, 4, R10,
                 x64_at(jit_pin(j, PIN_ENV, R10), (int32_t)offsetof(struct oko_env, worker)));
        x64_mov_i(a, R11, array->worker_stride);
        x64_imul(a, true, R10, R11);
        x64_alu(a, X64_ADD, true, RAX, R10);
    }
    if (late)
        x64_bind(a, late->done);
}

/* ---------------------------------------------------------------- hash tables */

/* rdx = the home bucket of hash rax. */
static void emit_bucket(struct x64 *a, const struct oko_map_hash *table)
{
    unsigned log = (unsigned)__builtin_ctz(table->bucket_size);
    bool whole = power_of_two(table->bucket_size) && table->shift > log;
    uint64_t mask = (uint64_t)(table->n_buckets - 1) << log;
    if (whole && a->bmi2 && mask <= INT32_MAX) {
        x64_rorx(a, true, RDX, RAX, table->shift - log);
        x64_alu_i(a, X64_AND, false, RDX, (int32_t)mask);
        x64_alu_load(a, X64_ADD, true, RDX, x64_constant(a, (uintptr_t)table->buckets));
        return;
    }
    x64_mov(a, true, RDX, RAX);
    if (whole) {
        x64_shift_i(a, X64_SHR, true, RDX, table->shift - log);
        x64_alu_i(a, X64_AND, true, RDX, -(int32_t)table->bucket_size);
    } else {
        x64_shift_i(a, X64_SHR, true, RDX, table->shift);
        emit_scale(a, RDX, table->bucket_size);
    }
    x64_alu_load(a, X64_ADD, true, RDX, x64_constant(a, (uintptr_t)table->buckets));
}

/* hits = a bit, at 2 * lane, for each slot of bucket rdx with the tag of hash rax; Z: none. The
 * comparison of all lanes at once is exact, unlike the one in words that map_hash.h tells. */
static void emit_tags(struct x64 *a, unsigned hits)
{
    x64_alu_load(a, X64_OR, true, RAX, x64_constant(a, (uint64_t)1 << 32));
    x64_lanes_all(a, 0, RAX, 2);
    x64_lanes_equal(a, 0, x64_at(RDX, 0)); /* the four above are not tags */
    x64_lanes_mask(a, hits, 0);
    x64_alu_i(a, X64_AND, false, hits, 0x55);
}

/* Where in its slot rax points: at the value, unless something else of the slot is needed first. */
static uint32_t aim_of(const struct oko_map_hash *table)
{
    return table->values || table->referenced ? 0 : table->value_off;
}

/* rax = slot of the lane of the lowest hit, and so many bytes. */
static void emit_slot(struct x64 *a, const struct oko_map_hash *table, unsigned hits)
{
    uint32_t size = table->slot_size;
    int32_t header = (int32_t)(sizeof(struct oko_hash_bucket) + aim_of(table));
    x64_tzcnt(a, false, RAX, hits); /* 2 * lane */
    if (size == 8 || size == 16) {
        x64_lea(a, true, RAX, x64_at_index(RDX, RAX, size / 2, header));
    } else if (size == 24 || size == 40 || size == 72) {
        x64_lea(a, true, RAX, x64_at_index(RAX, RAX, size / 8 - 1, 0));
        x64_lea(a, true, RAX, x64_at_index(RDX, RAX, 4, header));
    } else {
        emit_scale(a, RAX, size / 2);
        x64_lea(a, true, RAX, x64_at_index(RDX, RAX, 1, header));
    }
}

/* LRU: sets the entry's referenced bit unless it is set. rax: the slot; destroys others. */
static void emit_touch(struct jit *j, const struct oko_map_hash *table)
{
    struct x64 *a = &j->a;
    uint32_t set = x64_label(a);
    x64_load(a, 4, RDX, x64_at(RAX, (int32_t)table->place_off));
    x64_mov_i(a, RCX, (uintptr_t)table->referenced);
    x64_mov(a, false, RSI, RDX);
    x64_shift_i(a, X64_SHR, false, RSI, 6);
    x64_lea(a, true, RCX, x64_at_index(RCX, RSI, 8, 0));
    x64_load(a, 8, RSI, x64_at(RCX, 0));
    x64_bt(a, true, RSI, RDX);
    x64_jcc(a, X64_B, set);
    x64_alu_i(a, X64_AND, false, RDX, 63);
    x64_lock_bts(a, x64_at(RCX, 0), RDX);
    x64_bind(a, set);
}

/* rax: from a place in the first worker's values to this worker's; destroys rcx, rdx. */
static void emit_own_values(struct jit *j, const struct oko_map_hash *table)
{
    struct x64 *a = &j->a;
    if (table->map.n_workers <= 1)
        return;
    x64_load(a, 4, RDX,
             x64_at(jit_pin(j, PIN_ENV, RDX), (int32_t)offsetof(struct oko_env, worker)));
    x64_mov_i(a, RCX, table->worker_stride);
    x64_imul(a, true, RDX, RCX);
    x64_alu(a, X64_ADD, true, RAX, RDX);
}

/* rax = the value of the slot that rax points into, found in the lane of the lowest hit of the
 * bucket rdx. */
static void emit_value(struct jit *j, const struct oko_map_hash *table, unsigned hits)
{
    struct x64 *a = &j->a;
    if (table->referenced)
        emit_touch(j, table);
    if (!table->values) {
        if (table->value_off != aim_of(table))
            x64_alu_i(a, X64_ADD, true, RAX, (int32_t)(table->value_off - aim_of(table)));
        return;
    }
    /* number = bucket index * 4 + lane */
    x64_tzcnt(a, false, hits, hits);
    x64_shift_i(a, X64_SHR, false, hits, 1);
    x64_mov_i(a, RAX, (uintptr_t)table->buckets);
    x64_alu(a, X64_SUB, true, RDX, RAX);
    x64_mov(a, true, RAX, RDX);
    if (power_of_two(table->bucket_size)) {
        x64_shift_i(a, X64_SHR, true, RAX, (unsigned)__builtin_ctz(table->bucket_size));
    } else {
        unsigned size = hits == RCX ? RSI : RCX;
        x64_mov_i(a, RDX, 0);
        x64_mov_i(a, size, table->bucket_size);
        x64_unary(a, X64_DIV, true, size);
    }
    x64_lea(a, true, RDX, x64_at_index(hits, RAX, OKO_HASH_WINDOW, 0));
    emit_scale(a, RDX, table->value_stride);
    x64_mov_i(a, RAX, (uintptr_t)table->values);
    x64_alu(a, X64_ADD, true, RAX, RDX);
    emit_own_values(j, table);
}

static void emit_hash_lookup(struct jit *j, const struct jit_op *op, const struct jit_call *call,
                             uint32_t pc)
{
    struct x64 *a = &j->a;
    const struct oko_map_hash *table = (const struct oko_map_hash *)call->map;
    struct jit_late *late = add_late(j, pc);
    struct jit_maker m;
    if (!late)
        return;
    jit_maker_init(&m, j, op);
    late->n_words = make_words(&m, &call->key, late->w, true);
    emit_hash(a, &table->hash, late->w, late->n_words);
    emit_bucket(a, table);
    unsigned hits = jit_maker_take(&m), part = jit_maker_take(&m);
    late->hits = (uint8_t)hits;
    emit_tags(a, hits);
    x64_jcc(a, X64_E, late->entry);
    x64_bind(a, late->retry);
    emit_slot(a, table, hits);
    for (uint32_t i = 0; i < late->n_words; i++) {
        struct x64_mem key = x64_at(RAX, (int32_t)(8 * i) - (int32_t)aim_of(table));
        if (late->w[i].in_memory) {
            x64_load(a, 8, part, late->w[i].mem);
            x64_alu_load(a, X64_CMP, true, part, key);
        } else {
            x64_alu_load(a, X64_CMP, true, late->w[i].reg, key);
        }
        x64_jcc(a, X64_NE, late->next);
    }
    emit_value(j, table, hits);
    x64_bind(a, late->done);
}

/* The rest of a hash lookup: other hits, the chain, a miss. */
static void emit_hash_late(struct jit *j, const struct jit_op *op, const struct jit_call *call,
                           const struct jit_late *late)
{
    struct x64 *a = &j->a;
    const struct oko_map_hash *table = (const struct oko_map_hash *)call->map;
    uint32_t chain = x64_label(a);
    x64_bind(a, late->next);
    x64_lea(a, true, RAX, x64_at(late->hits, -1));
    x64_alu(a, X64_AND, true, late->hits, RAX);
    x64_jcc(a, X64_NE, late->retry);
    x64_bind(a, late->entry);
    x64_alu_mi(a, X64_CMP, 4, x64_at(RDX, (int32_t)offsetof(struct oko_hash_bucket, chain)), 0);
    x64_jcc(a, X64_NE, chain);
    x64_bind(a, late->null);
    emit_null(j, op, late->done);
    x64_bind(a, chain);
    bool plain = table->map.spec.type == OKO_MAP_HASH;
    int32_t room = emit_late_call(j, call->map, late,
                                  plain ? (const void *)(uintptr_t)oko_hash_chained
                                        : (const void *)(uintptr_t)table->map.ops->lookup,
                                  !plain);
    x64_alu_i(a, X64_ADD, true, RSP, room);
    if (op->target != (uint32_t)JIT_UNLABELLED) {
        x64_test(a, true, RAX, RAX);
        x64_jcc(a, X64_E, late->null);
    }
    x64_jmp(a, late->done);
}

/* ---------------------------------------------------------------- ahead of a lookup */

enum { LINE = 64, MAX_LINES = 2 };

/* Lines of a bucket that a lookup is likely to read: the header and the slots filled first. */
static uint32_t bucket_lines(const struct oko_map_hash *table)
{
    uint32_t lines = table->bucket_size / LINE;
    return lines < MAX_LINES ? lines : MAX_LINES;
}

static uint32_t large_from(const struct oko_map_hash *table)
{
    return jit_near / (LINE * (bucket_lines(table) + (table->values != NULL)));
}

bool jit_prefetches(const struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    const struct jit_call *call = op->call ? &j->calls[op->call - 1] : NULL;
    return call && call->kind == JIT_CALL_HASH &&
           call->map->spec.max_entries >= large_from((const struct oko_map_hash *)call->map);
}

bool jit_lookup_is_plain(const struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    return op->imm == OKO_HELPER_MAP_LOOKUP && op->call &&
           j->calls[op->call - 1].kind == JIT_CALL_ARRAY &&
           (j->prog->facts.insn[pc].flags & (OKO_FACT_INDEX_CONST | OKO_FACT_INDEX_OK));
}

void jit_emit_is_large(struct jit *j, const struct oko_map *map)
{
    const struct oko_map_hash *table = (const struct oko_map_hash *)map;
    x64_mov_i(&j->a, RAX, (uintptr_t)&table->n_entries);
    x64_alu_mi(&j->a, X64_CMP, 4, x64_at(RAX, 0), (int32_t)large_from(table));
}

/* The bucket's lines; of a per-worker table the values' too, as if the first slot were the one. */
void jit_emit_prefetch(struct jit *j, uint32_t pc)
{
    struct x64 *a = &j->a;
    const struct jit_op *op = &j->ops[pc];
    const struct jit_call *call = &j->calls[op->call - 1];
    const struct oko_map_hash *table = (const struct oko_map_hash *)call->map;
    struct jit_word w[JIT_MAX_WORDS];
    struct jit_maker m;
    jit_maker_init(&m, j, op);
    uint32_t n = make_words(&m, &call->key, w, true);
    emit_hash(a, &table->hash, w, n);
    emit_bucket(a, table);
    if (jit_marks_ahead)
        x64_alu_mi(a, X64_ADD, 1, x64_at(RDX, offsetof(struct oko_hash_bucket, unused)), 1);
    for (uint32_t i = 0; i < bucket_lines(table); i++)
        x64_prefetch(a, x64_at(RDX, (int32_t)(LINE * i)));
    if (!table->values)
        return;
    x64_shift_i(a, X64_SHR, true, RAX, table->shift);
    emit_scale(a, RAX, OKO_HASH_WINDOW * table->value_stride);
    x64_mov_i(a, RDX, (uintptr_t)table->values);
    x64_alu(a, X64_ADD, true, RAX, RDX);
    emit_own_values(j, table);
    x64_prefetch(a, x64_at(RAX, 0));
}

/* ---------------------------------------------------------------- sketches */

/* dst = position of the cell that x (32 bits, zero-extended) stands for: x * width >> 32. */
static void emit_position(struct x64 *a, const struct oko_map_sketch *sketch, unsigned dst,
                          unsigned x, unsigned width)
{
    if (power_of_two(sketch->width)) {
        unsigned log = (unsigned)__builtin_ctz(sketch->width);
        if (log == 0) {
            x64_mov_i(a, dst, 0);
            return;
        }
        x64_mov(a, false, dst, x);
        if (log < 32)
            x64_shift_i(a, X64_SHR, false, dst, 32 - log);
    } else {
        x64_mov(a, true, dst, x);
        x64_imul(a, true, dst, width);
        x64_shift_i(a, X64_SHR, true, dst, 32);
    }
}

struct sketch_regs {
    unsigned x, step, cells, cell, other, width;
};

/* Lookups read the blocks of up to so many workers in place. */
enum { MAX_BLOCKS = 4 };

bool jit_sketch_in_place(const struct oko_map *map)
{
    const struct oko_map_sketch *sketch = (const struct oko_map_sketch *)map;
    return map->n_workers <= MAX_BLOCKS &&
           sketch->block_size * (map->n_workers - 1) <= INT32_MAX / 2;
}

/* Hashes the item; x = h1, step = h2, cells = the block of the worker, or block 0 for a lookup,
 * which goes another way when there are more blocks than the workers' (the control side added). */
static void emit_sketch_start(struct jit *j, const struct jit_op *op, struct jit_late *late,
                              struct sketch_regs *r)
{
    struct x64 *a = &j->a;
    const struct jit_call *call = &j->calls[op->call - 1];
    const struct oko_map_sketch *sketch = (const struct oko_map_sketch *)call->map;
    struct jit_maker m;
    struct jit_word w[JIT_MAX_WORDS];
    jit_maker_init(&m, j, op);
    uint32_t n = make_words(&m, &call->key, w, true);
    if (late) {
        memcpy(late->w, w, n * sizeof(*w));
        late->n_words = n;
        x64_mov_i(a, RAX, (uintptr_t)&sketch->n_blocks);
        x64_alu_mi(a, X64_CMP, 4, x64_at(RAX, 0), (int32_t)sketch->map.n_workers);
        x64_jcc(a, X64_NE, late->entry);
    }
    emit_hash(a, &sketch->hash, w, n);
    /* The words are used up: everything but rax is free. */
    *r = (struct sketch_regs){
        .x = RDX, .step = RCX, .cells = RSI, .cell = RDI, .other = R8, .width = R9};
    x64_mov(a, true, r->x, RAX);
    x64_shift_i(a, X64_SHR, true, r->x, 32);
    x64_mov(a, false, r->step, RAX);
    x64_alu(a, X64_XOR, false, r->step, r->x); /* the last step of the hash */
    x64_alu_i(a, X64_OR, false, r->step, 1);
    x64_mov_i(a, r->cells, (uintptr_t)sketch->cells);
    if (!late && sketch->map.n_workers > 1) {
        x64_load(a, 4, RAX,
                 x64_at(jit_pin(j, PIN_ENV, RAX), (int32_t)offsetof(struct oko_env, worker)));
        x64_mov_i(a, r->other, sketch->block_size);
        x64_imul(a, true, RAX, r->other);
        x64_alu(a, X64_ADD, true, r->cells, RAX);
    }
    if (!power_of_two(sketch->width))
        x64_mov_i(a, r->width, sketch->width);
}

static void emit_bloom_add(struct jit *j, const struct jit_op *op, const struct jit_call *call)
{
    struct x64 *a = &j->a;
    const struct oko_map_sketch *sketch = (const struct oko_map_sketch *)call->map;
    struct sketch_regs r;
    emit_sketch_start(j, op, NULL, &r);
    for (uint32_t i = 0; i < sketch->n_hashes; i++) {
        uint32_t set = x64_label(a);
        if (i)
            x64_alu(a, X64_ADD, false, r.x, r.step);
        emit_position(a, sketch, r.cell, r.x, r.width);
        x64_mov(a, false, RAX, r.cell);
        x64_shift_i(a, X64_SHR, false, RAX, 6);
        x64_load(a, 8, r.other, x64_at_index(r.cells, RAX, 8, 0));
        x64_bts(a, true, r.other, r.cell);
        x64_jcc(a, X64_B, set);
        x64_store(a, 8, x64_at_index(r.cells, RAX, 8, 0), r.other);
        x64_bind(a, set);
    }
    x64_mov_i(a, RAX, 0);
}

/* Address of row i's counters: beyond 2 GiB the displacement would not reach, so rows advance. */
static void emit_next_row(struct x64 *a, const struct oko_map_sketch *sketch,
                          const struct sketch_regs *r)
{
    uint64_t row = 4ull * sketch->width;
    x64_alu(a, X64_ADD, false, r->x, r->step);
    if (row <= INT32_MAX) {
        x64_alu_i(a, X64_ADD, true, r->cells, (int32_t)row);
    } else {
        x64_mov_i(a, RAX, row);
        x64_alu(a, X64_ADD, true, r->cells, RAX);
    }
}

static void emit_count_min_add(struct jit *j, const struct jit_op *op, const struct jit_call *call)
{
    struct x64 *a = &j->a;
    const struct oko_map_sketch *sketch = (const struct oko_map_sketch *)call->map;
    struct sketch_regs r;
    emit_sketch_start(j, op, NULL, &r);
    for (uint32_t i = 0; i < sketch->n_hashes; i++) {
        if (i)
            emit_next_row(a, sketch, &r);
        emit_position(a, sketch, r.cell, r.x, r.width);
        struct x64_mem counter = x64_at_index(r.cells, r.cell, 4, 0);
        x64_alu_mi(a, X64_CMP, 4, counter, -1); /* carry unless it is at its end */
        x64_alu_mi(a, X64_ADC, 4, counter, 0);
    }
    x64_mov_i(a, RAX, 0);
}

/* Stores the u32 in eax at the call site's slot and leaves its address in rax. */
static void emit_result(struct jit *j, const struct jit_op *op)
{
    struct x64 *a = &j->a;
    unsigned env = jit_pin(j, PIN_ENV, RCX);
    x64_load(a, 8, RCX, x64_at(env, (int32_t)offsetof(struct oko_env, scratch)));
    x64_store(a, 4, x64_at(RCX, 8 * op->off), RAX);
    x64_lea(a, true, RAX, x64_at(RCX, 8 * op->off));
}

/* r10 = word of the bit that x stands for; cell % 64 = its place there. */
static void emit_bit(struct x64 *a, const struct oko_map_sketch *sketch,
                     const struct sketch_regs *r)
{
    if (a->bmi2 && power_of_two(sketch->width) && sketch->width > 64 &&
        sketch->width <= UINT64_C(1) << 31) {
        unsigned log = (unsigned)__builtin_ctzll(sketch->width);
        x64_rorx(a, false, r->cell, r->x, 32 - log);
        x64_mov(a, false, R10, r->x);
        x64_shift_i(a, X64_SHR, false, R10, 38 - log);
        return;
    }
    emit_position(a, sketch, r->cell, r->x, r->width);
    x64_mov(a, false, R10, r->cell);
    x64_shift_i(a, X64_SHR, false, R10, 6);
}

static void emit_bloom(struct jit *j, const struct jit_op *op, const struct jit_call *call,
                       struct jit_late *late)
{
    struct x64 *a = &j->a;
    const struct oko_map_sketch *sketch = (const struct oko_map_sketch *)call->map;
    struct sketch_regs r;
    emit_sketch_start(j, op, late, &r);
    for (uint32_t i = 0; i < sketch->n_hashes; i++) {
        if (i)
            x64_alu(a, X64_ADD, false, r.x, r.step);
        emit_bit(a, sketch, &r);
        /* bit 0 of the word shifted by cell % 64 */
        unsigned bit = i == 0 ? RAX : r.other;
        struct x64_mem word = x64_at_index(r.cells, R10, 8, 0);
        if (a->bmi2 && sketch->map.n_workers == 1) {
            x64_shiftx_load(a, X64_SHR, true, bit, word, r.cell);
        } else {
            x64_load(a, 8, bit, word);
            for (uint32_t b = 1; b < sketch->map.n_workers; b++)
                x64_alu_load(a, X64_OR, true, bit,
                             x64_at_index(r.cells, R10, 8, (int32_t)(b * sketch->block_size)));
            if (a->bmi2) {
                x64_shiftx(a, X64_SHR, true, bit, bit, r.cell);
            } else {
                x64_bt(a, true, bit, r.cell);
                x64_setcc(a, X64_B, bit);
            }
        }
        if (i != 0)
            x64_alu(a, X64_AND, false, RAX, r.other);
    }
    x64_alu_i(a, X64_AND, false, RAX, 1);
}

static void emit_count_min(struct jit *j, const struct jit_op *op, const struct jit_call *call,
                           struct jit_late *late)
{
    struct x64 *a = &j->a;
    const struct oko_map_sketch *sketch = (const struct oko_map_sketch *)call->map;
    struct sketch_regs r;
    bool several = sketch->map.n_workers > 1;
    emit_sketch_start(j, op, late, &r);
    for (uint32_t i = 0; i < sketch->n_hashes; i++) {
        if (i)
            emit_next_row(a, sketch, &r);
        emit_position(a, sketch, r.cell, r.x, r.width);
        x64_load(a, 4, r.other, x64_at_index(r.cells, r.cell, 4, 0));
        for (uint32_t b = 1; b < sketch->map.n_workers; b++) {
            x64_load(a, 4, R10,
                     x64_at_index(r.cells, r.cell, 4, (int32_t)(b * sketch->block_size)));
            x64_alu(a, X64_ADD, true, r.other, R10);
        }
        if (i == 0) {
            x64_mov(a, true, R11, r.other);
        } else {
            x64_alu(a, X64_CMP, true, r.other, R11);
            x64_cmov(a, X64_B, true, R11, r.other);
        }
    }
    x64_mov(a, true, RAX, R11);
    if (several) { /* sums stop at 2^32 - 1 */
        x64_mov_i(a, RCX, UINT32_MAX);
        x64_alu(a, X64_CMP, true, RAX, RCX);
        x64_cmov(a, X64_A, true, RAX, RCX);
    }
}

static void emit_sketch_lookup(struct jit *j, const struct jit_op *op, const struct jit_call *call,
                               uint32_t pc)
{
    struct jit_late *late = add_late(j, pc);
    if (!late)
        return;
    if (call->kind == JIT_CALL_BLOOM)
        emit_bloom(j, op, call, late);
    else
        emit_count_min(j, op, call, late);
    x64_bind(&j->a, late->done);
    emit_result(j, op);
}

/* The same in C, when there are more blocks to read. */
static void emit_sketch_late(struct jit *j, const struct jit_call *call,
                             const struct jit_late *late)
{
    struct x64 *a = &j->a;
    x64_bind(a, late->entry);
    int32_t room =
        emit_late_call(j, call->map, late, (const void *)(uintptr_t)call->map->ops->lookup, true);
    x64_load(a, 4, RAX, x64_at(RAX, 0));
    x64_alu_i(a, X64_ADD, true, RSP, room);
    x64_jmp(a, late->done);
}

/* ---------------------------------------------------------------- the map's own functions */

/* Writes the words of a buffer to the frame and points the argument's register there. */
static void emit_temp(struct jit_maker *m, const struct jit_buffer *b, int32_t *at)
{
    struct x64 *a = &m->j->a;
    for (uint32_t i = 0; i < (b->size + 7) / 8; i++) {
        unsigned reg = jit_make_word(m, b, i, false).reg;
        x64_store(a, 8, x64_at(RSP, *at), reg);
        jit_maker_give(m, reg);
        *at += 8;
    }
}

static void emit_map_call(struct jit *j, const struct jit_op *op, const struct jit_call *call)
{
    struct x64 *a = &j->a;
    const struct oko_map_ops *ops = call->map->ops;
    bool update = op->imm == OKO_HELPER_MAP_UPDATE;
    int32_t key = j->temp, value = key, end = key;
    struct jit_maker m;
    jit_maker_init(&m, j, op);
    if (call->key.n_pieces) {
        emit_temp(&m, &call->key, &end);
        value = end;
    }
    if (call->value.n_pieces)
        emit_temp(&m, &call->value, &end);
    if (call->key.n_pieces)
        x64_lea(a, true, RSI, x64_at(RSP, key));
    if (call->value.n_pieces)
        x64_lea(a, true, RDX, x64_at(RSP, value));
    x64_mov_i(a, RDI, (uintptr_t)call->map);
    x64_mov(a, true, update ? RCX : RDX, jit_pin(j, PIN_ENV, update ? RCX : RDX));
    switch (op->imm) {
    case OKO_HELPER_MAP_LOOKUP:
        x64_call_c(a, (const void *)(uintptr_t)ops->lookup);
        if (oko_map_is_sketch(call->map)) { /* the result goes to the call site's slot */
            x64_load(a, 4, RCX, x64_at(RAX, 0));
            x64_alu_i(a, X64_ADD, true, RAX, 8 * op->off);
            x64_store(a, 4, x64_at(RAX, 0), RCX);
        }
        return;
    case OKO_HELPER_MAP_UPDATE:
        x64_call_c(a, (const void *)(uintptr_t)ops->update);
        break;
    case OKO_HELPER_MAP_DELETE:
        x64_call_c(a, (const void *)(uintptr_t)ops->del);
        break;
    default:
        x64_call_c(a, (const void *)(uintptr_t)ops->add);
        break;
    }
    x64_movsx(a, true, 4, RAX, RAX); /* they return int */
}

void jit_emit_call(struct jit *j, uint32_t pc)
{
    const struct jit_op *op = &j->ops[pc];
    const struct jit_call *call = &j->calls[op->call - 1];
    switch ((enum jit_call_kind)call->kind) {
    case JIT_CALL_MAP:
        emit_map_call(j, op, call);
        break;
    case JIT_CALL_ARRAY:
        emit_array(j, op, call, pc);
        break;
    case JIT_CALL_HASH:
        emit_hash_lookup(j, op, call, pc);
        break;
    case JIT_CALL_BLOOM:
    case JIT_CALL_COUNT_MIN:
        emit_sketch_lookup(j, op, call, pc);
        break;
    case JIT_CALL_BLOOM_ADD:
        emit_bloom_add(j, op, call);
        break;
    case JIT_CALL_COUNT_MIN_ADD:
        emit_count_min_add(j, op, call);
        break;
    }
}

void jit_emit_late(struct jit *j)
{
    for (uint32_t i = 0; i < j->n_late; i++) {
        const struct jit_late *late = &j->late[i];
        const struct jit_op *op = &j->ops[late->pc];
        const struct jit_call *call = &j->calls[op->call - 1];
        switch (call->kind) {
        case JIT_CALL_HASH:
            emit_hash_late(j, op, call, late);
            break;
        case JIT_CALL_ARRAY:
            x64_bind(&j->a, late->null);
            emit_null(j, op, late->done);
            break;
        default:
            emit_sketch_late(j, call, late);
            break;
        }
    }
    j->n_late = 0;
}
