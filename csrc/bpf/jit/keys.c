/* Calls of map helpers: which are made in place, and where their keys and values come from.
 *
 * A program builds a key on its stack in small pieces and passes a pointer; reading it back in
 * whole words right away costs more than the lookup, because a load that spans several younger
 * stores has to wait for all of them. So for each call the stores that made the key are found
 * (backward through the region), and the key is put together in registers: from the registers that
 * were stored if they still hold the value, from constants, or by loads of exactly the width and
 * place of a store. What lies before the region is read back as the verifier says it was written.
 * Pairs of copies that are neighbours on both sides (two fields of a header) first become one wider
 * copy. Stores that nobody reads any more go.
 *
 * Relies on the verifier's facts (constant map, place of the key on the stack, partition), so it
 * does nothing for unverified programs. A store through another register than the frame pointer
 * cannot reach the stack while no address of the stack is kept anywhere; else it ends the search.
 *
 * Thread-safety: as the compilation. */
#include <stdlib.h>
#include <string.h>

#include "../map_hash.h"
#include "region.h"

enum { MAX_BYTES = 8 * JIT_MAX_WORDS, IN_REGISTERS = 3 };

/* ---------------------------------------------------------------- which calls */

static uint32_t item_size(const struct oko_map *map)
{
    struct oko_map_class cls;
    return oko_map_class(&map->spec, &cls, NULL) ? 0 : cls.item_size;
}

static int kind_of(const struct jit_op *op, const struct oko_map *map)
{
    uint32_t type = map->spec.type;
    if (op->imm == OKO_HELPER_MAP_LOOKUP) {
        if (type == OKO_MAP_ARRAY || type == OKO_MAP_WORKER_ARRAY)
            return JIT_CALL_ARRAY;
        if (type == OKO_MAP_HASH || type == OKO_MAP_LRU_HASH || type == OKO_MAP_WORKER_HASH)
            return map->spec.key_size <= MAX_BYTES ? JIT_CALL_HASH : JIT_CALL_MAP;
    }
    if (!oko_map_is_sketch(map) || item_size(map) > MAX_BYTES)
        return JIT_CALL_MAP;
    if (op->imm == OKO_HELPER_MAP_ADD)
        return type == OKO_MAP_BLOOM ? JIT_CALL_BLOOM_ADD : JIT_CALL_COUNT_MIN_ADD;
    if (op->imm == OKO_HELPER_MAP_LOOKUP && jit_sketch_in_place(map))
        return type == OKO_MAP_BLOOM ? JIT_CALL_BLOOM : JIT_CALL_COUNT_MIN;
    return JIT_CALL_MAP;
}

static struct jit_call *add_call(struct jit *j, struct jit_op *op)
{
    if (j->n_calls == j->calls_room) {
        uint32_t room = j->calls_room ? 2 * j->calls_room : 4;
        struct jit_call *calls = realloc(j->calls, room * sizeof(*calls));
        if (!calls)
            return NULL;
        j->calls = calls;
        j->calls_room = room;
    }
    struct jit_call *call = &j->calls[j->n_calls++];
    memset(call, 0, sizeof(*call));
    op->call = j->n_calls;
    return call;
}

/* The function of the map that the helper comes down to; NULL: it has none. */
static bool has_operation(const struct jit_op *op, const struct oko_map *map)
{
    switch (op->imm) {
    case OKO_HELPER_MAP_LOOKUP:
        return map->ops->lookup;
    case OKO_HELPER_MAP_UPDATE:
        return map->ops->update;
    case OKO_HELPER_MAP_DELETE:
        return map->ops->del;
    default:
        return map->ops->add;
    }
}

void jit_plan_calls(struct jit *j)
{
    if (j->prog->flags & OKO_LOAD_CONFORMANCE)
        return;
    for (uint32_t k = 0; k < j->n_order; k++) {
        uint32_t pc = j->order[k];
        struct jit_op *op = &j->ops[pc];
        const struct oko_fact *fact = &j->prog->facts.insn[pc];
        if (op->op != JIT_HELPER || op->call || op->imm < OKO_HELPER_MAP_LOOKUP ||
            op->imm > OKO_HELPER_MAP_ADD || fact->map < 0)
            continue;
        struct oko_map *map = j->prog->maps[fact->map];
        if (!has_operation(op, map))
            continue;
        struct jit_call *call = add_call(j, op);
        if (!call)
            return; /* then it is made the long way */
        call->map = map;
        call->kind = (uint8_t)kind_of(op, map);
        call->key.size = item_size(map);
        call->value.size = op->imm == OKO_HELPER_MAP_UPDATE ? map->spec.value_size : 0;
        bool key = (fact->flags & OKO_FACT_KEY_STACK) && call->key.size <= MAX_BYTES;
        bool value = (fact->flags & OKO_FACT_VAL_STACK) && call->value.size <= MAX_BYTES;
        bool constant = call->kind == JIT_CALL_ARRAY && (fact->flags & OKO_FACT_INDEX_CONST);
        bool in_registers = !key && !constant && call->kind != JIT_CALL_MAP;
        if (in_registers && call->key.size > 8 * IN_REGISTERS)
            call->kind = JIT_CALL_MAP;
        op->clobbers = call->kind == JIT_CALL_ARRAY ? 1 : 0x3f;
        op->args = 0;
        if (!key && !constant)
            op->args |= jit_bit(2);
        if (call->value.size && !value)
            op->args |= jit_bit(3);
    }
}

/* ---------------------------------------------------------------- the stack */

static bool on_stack(const struct jit_op *op)
{
    return op->base == JIT_FP && op->index == JIT_NONE;
}

static bool takes_address(const struct jit_op *op)
{
    bool as_base = jit_is_access(op) || op->mem;
    return op->a == JIT_FP || op->b == JIT_FP || op->sel == JIT_FP || op->index == JIT_FP ||
           (op->base == JIT_FP && !as_base);
}

/* Is an address of the stack kept where a store or a sub-function could use it? Passing one to a
 * helper is fine: none keeps it. */
static bool escapes(const struct jit_region *r, uint32_t k)
{
    const struct jit_op *op = jit_op_at(r, k);
    if (!takes_address(op))
        return false;
    if (op->op != JIT_MOV && op->op != JIT_ADD)
        return true;
    unsigned reg = op->dst;
    for (k++; k < r->to; k++) {
        const struct jit_op *user = jit_op_at(r, k);
        if ((jit_reads_at(r, k) & jit_bit(reg)) && user->op != JIT_HELPER)
            return true;
        if (jit_writes(user) & jit_bit(reg))
            return false;
    }
    return (jit_op_at(r, r->to - 1)->live & jit_bit(reg)) != 0;
}

static void find_escapes(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to && !r->j->stack_escapes; k++)
        r->j->stack_escapes = escapes(r, k);
}

/* May this operation change the stack in a way that is not plain to see? */
static bool clouds_stack(const struct jit_region *r, const struct jit_op *op)
{
    if (op->op == JIT_STORE)
        return op->base == JIT_FP ? op->index != JIT_NONE : r->j->stack_escapes;
    if (op->op == JIT_ATOMIC || op->op == JIT_MODIFY)
        return op->base == JIT_FP || r->j->stack_escapes;
    if (op->op == JIT_LOCAL || op->op == JIT_CALLX)
        return r->j->stack_escapes;
    return false;
}

/* ---------------------------------------------------------------- wider copies */

/* The load whose value is stored at k and used nowhere else, or JIT_NOWHERE. */
static uint32_t copied_from(const struct jit_region *r, uint32_t k)
{
    const struct jit_op *store = jit_op_at(r, k);
    if (store->op != JIT_STORE || !on_stack(store) || store->b >= 10)
        return (uint32_t)JIT_NOWHERE;
    uint32_t p = jit_definition(r, k, store->b);
    if (p == (uint32_t)JIT_NOWHERE || !jit_only_use(r, p, k, store->b))
        return (uint32_t)JIT_NOWHERE;
    const struct jit_op *load = jit_op_at(r, p);
    bool plain = load->op == JIT_LOAD && load->width == store->width && load->base < 10;
    return plain ? p : (uint32_t)JIT_NOWHERE;
}

/* Nothing between the two positions writes memory that a load could see, or registers of mask. */
static bool quiet_between(const struct jit_region *r, uint32_t after, uint32_t before,
                          uint16_t mask)
{
    for (uint32_t i = after + 1; i < before; i++) {
        const struct jit_op *op = jit_op_at(r, i);
        if (jit_writes(op) & mask)
            return false;
        if (jit_writes_memory(op) && !(op->op == JIT_STORE && on_stack(op)))
            return false;
    }
    return true;
}

/* Copies [x] -> [y] and [x + w] -> [y + w] of w bytes each become one of 2w, made where the second
 * value was loaded and stored; nobody may look at the stack from the first store on. */
static bool widen_copy(const struct jit_region *r, uint32_t k)
{
    uint32_t p = copied_from(r, k);
    struct jit_op *store = jit_op_at(r, k);
    if (p == (uint32_t)JIT_NOWHERE || store->width > 4)
        return false;
    struct jit_op *load = jit_op_at(r, p);
    for (uint32_t i = k; i-- > r->from && k - i < JIT_WINDOW;) {
        struct jit_op *other = jit_op_at(r, i);
        bool reads_stack = (other->op == JIT_LOAD || other->mem) && other->base == JIT_FP;
        if (clouds_stack(r, other) || reads_stack || other->op == JIT_HELPER)
            return false;
        if (other->op != JIT_STORE || !on_stack(other))
            continue;
        int32_t apart = other->off - store->off;
        if (other->width != store->width || (apart != store->width && apart != -store->width)) {
            if (other->off < store->off + 2 * store->width &&
                other->off + other->width > store->off - store->width)
                return false;
            continue;
        }
        uint32_t q = copied_from(r, i);
        if (q == (uint32_t)JIT_NOWHERE || q > p)
            return false;
        struct jit_op *first = jit_op_at(r, q);
        int32_t low = apart < 0 ? other->off : store->off;
        /* Aligned on the stack: so it will be part of one word, and of wider copies in turn. */
        if (first->base != load->base || first->index != load->index ||
            first->scale != load->scale || first->off - load->off != apart ||
            (low & (2 * store->width - 1)) != 0 || first->dst == load->base ||
            first->dst == load->index ||
            !quiet_between(r, q, p, jit_bit(load->base) | jit_bit(load->index)))
            return false;
        load->width = store->width = (uint8_t)(2 * load->width);
        load->off = apart < 0 ? first->off : load->off;
        store->off = low;
        jit_become_nop(first);
        jit_become_nop(other);
        return true;
    }
    return false;
}

static void widen_copies(const struct jit_region *r)
{
    if (r->keep_memory)
        return;
    for (int round = 0; round < 3; round++) /* 1 to 2, 2 to 4, 4 to 8 bytes */
        for (uint32_t k = r->from; k < r->to; k++)
            widen_copy(r, k);
}

/* ---------------------------------------------------------------- pieces */

/* Has the register, as defined at or before k, no bits above width bytes? */
static bool is_clean(const struct jit_region *r, uint32_t k, unsigned reg, unsigned width,
                     int depth)
{
    uint32_t p = jit_definition(r, k, reg);
    if (p == (uint32_t)JIT_NOWHERE || depth == 0)
        return width == 8;
    const struct jit_op *op = jit_op_at(r, p);
    uint64_t limit = width == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * width) - 1;
    switch ((enum jit_opcode)op->op) {
    case JIT_LOAD:
        return width == 8 || (!op->sx && op->width <= width);
    case JIT_ZEXT:
    case JIT_BSWAP:
    case JIT_ABS:
        return op->width <= width;
    case JIT_MOV:
        if (op->a == JIT_NONE)
            return (uint64_t)op->imm <= limit;
        return (!op->w && width >= 4) || is_clean(r, p, op->a, width, depth - 1);
    case JIT_AND:
        return (!op->w && width >= 4) ||
               (op->b == JIT_NONE && op->imm >= 0 && (uint64_t)op->imm <= limit);
    case JIT_SELECT:
        return (op->sel == JIT_NONE ? op->target <= limit
                                    : is_clean(r, p, op->sel, width, depth - 1)) &&
               is_clean(r, p, op->dst, width, depth - 1);
    case JIT_LOCAL:
    case JIT_HELPER:
    case JIT_CALLX:
    case JIT_ATOMIC:
        return width == 8;
    default:
        return width == 8 || (!op->w && width >= 4);
    }
}

static void add_piece(struct jit_buffer *b, struct jit_piece piece)
{
    if (b->n_pieces < JIT_MAX_PIECES)
        b->piece[b->n_pieces] = piece;
    b->n_pieces++;
}

/* Largest power of two that fits a run of n bytes at an offset, at most 8. */
static uint32_t load_width(uint32_t at, uint32_t n)
{
    uint32_t width = 8;
    while (width > n || (at & 7) + width > 8)
        width /= 2;
    return width;
}

static void add_loads(struct jit_buffer *b, uint32_t at, uint32_t n, unsigned base, int32_t off)
{
    while (n) {
        uint32_t width = load_width(at, n);
        add_piece(b, (struct jit_piece){.at = (uint8_t)at,
                                        .width = (uint8_t)width,
                                        .kind = JIT_PIECE_MEM,
                                        .reg = (uint8_t)base,
                                        .off = (int16_t)off});
        at += width;
        off += (int32_t)width;
        n -= width;
    }
}

/* n bytes from byte `from` of what the operation at k stores. */
static void add_stored(const struct jit_region *r, uint32_t call, uint32_t k, uint32_t from,
                       uint32_t at, uint32_t n, struct jit_buffer *b)
{
    const struct jit_op *op = jit_op_at(r, k);
    uint32_t def = op->b == JIT_NONE ? (uint32_t)JIT_NOWHERE : jit_definition(r, k, op->b);
    const struct jit_op *constant =
        op->b == JIT_NONE                                                      ? op
        : def == (uint32_t)JIT_NOWHERE                                         ? NULL
        : jit_op_at(r, def)->op == JIT_MOV && jit_op_at(r, def)->a == JIT_NONE ? jit_op_at(r, def)
                                                                               : NULL;
    while (n) { /* word by word */
        uint32_t part = 8 - (at & 7) < n ? 8 - (at & 7) : n;
        uint64_t mask = part == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * part) - 1;
        if (constant) {
            add_piece(b, (struct jit_piece){.at = (uint8_t)at,
                                            .width = (uint8_t)part,
                                            .kind = JIT_PIECE_CONST,
                                            .value = (uint64_t)constant->imm >> 8 * from & mask});
        } else if (op->b < 10 && !jit_written_between(r, k, call, op->b)) {
            add_piece(b, (struct jit_piece){.at = (uint8_t)at,
                                            .width = (uint8_t)part,
                                            .kind = JIT_PIECE_REG,
                                            .reg = op->b,
                                            .shift = (uint8_t)(8 * from),
                                            .clean = from == 0 && is_clean(r, k, op->b, part, 3)});
        } else {
            add_loads(b, at, part, JIT_FP, op->off + (int32_t)from);
        }
        at += part;
        from += part;
        n -= part;
    }
}

/* Bytes that no store of the region made: at the widths the verifier saw, if it did. */
static void add_earlier(const struct jit *j, uint32_t part, uint32_t at, uint32_t n, int32_t off,
                        struct jit_buffer *b)
{
    const struct oko_partition *p = &j->prog->facts.partitions[part];
    uint32_t start = 0;
    for (uint32_t i = 0; i < p->n && n; i++) {
        uint32_t end = start + p->width[i];
        if (end > at) {
            uint32_t most = end - at < n ? end - at : n;
            add_loads(b, at, most, JIT_FP, off + (int32_t)at);
            at += most;
            n -= most;
        }
        start = end;
    }
    add_loads(b, at, n, JIT_FP, off + (int32_t)at);
}

/* The pieces of size bytes at fp + off as the call at k finds them. */
static void find_pieces(const struct jit_region *r, uint32_t call, int32_t off, uint32_t part,
                        struct jit_buffer *b)
{
    uint32_t maker[MAX_BYTES], left = b->size;
    for (uint32_t i = 0; i < b->size; i++)
        maker[i] = (uint32_t)JIT_NOWHERE;
    for (uint32_t k = call; left && k-- > r->from;) {
        const struct jit_op *op = jit_op_at(r, k);
        if (clouds_stack(r, op))
            break;
        if (op->op != JIT_STORE || !on_stack(op))
            continue;
        for (int32_t i = op->off - off; i < op->off - off + op->width; i++) {
            if (i >= 0 && i < (int32_t)b->size && maker[i] == (uint32_t)JIT_NOWHERE) {
                maker[i] = k;
                left--;
            }
        }
    }
    b->n_pieces = 0;
    for (uint32_t at = 0; at < b->size;) {
        uint32_t n = 1;
        while (at + n < b->size && maker[at + n] == maker[at])
            n++;
        if (maker[at] == (uint32_t)JIT_NOWHERE)
            add_earlier(r->j, part, at, n, off, b);
        else
            add_stored(r, call, maker[at],
                       (uint32_t)(off + (int32_t)at - jit_op_at(r, maker[at])->off), at, n, b);
        at += n;
    }
}

static uint16_t registers_of(const struct jit_buffer *b)
{
    uint16_t regs = 0;
    for (uint32_t i = 0; i < b->n_pieces; i++)
        if (b->piece[i].kind != JIT_PIECE_CONST)
            regs |= jit_bit(b->piece[i].reg);
    return regs;
}

/* A buffer of which so many words have to sit in registers at once. */
static uint32_t words_in_registers(const struct jit_buffer *b)
{
    uint32_t n = 0;
    for (uint32_t at = 0; at < b->size; at += 8) {
        bool plain = false;
        for (uint32_t i = 0; i < b->n_pieces; i++)
            plain |= b->piece[i].at == at && b->piece[i].width == 8 &&
                     b->piece[i].kind == JIT_PIECE_MEM && b->piece[i].reg == JIT_FP;
        n += !plain;
    }
    return n;
}

static void plan_buffer(const struct jit_region *r, uint32_t k, int32_t off, uint32_t part,
                        struct jit_buffer *b)
{
    find_pieces(r, k, off, part, b);
    if (b->n_pieces > JIT_MAX_PIECES) { /* made of crumbs: wait for the stores instead */
        b->n_pieces = 0;
        add_loads(b, 0, b->size, JIT_FP, off);
    }
}

static void plan_call(const struct jit_region *r, uint32_t k)
{
    struct jit *j = r->j;
    struct jit_op *op = jit_op_at(r, k);
    if (op->op != JIT_HELPER || !op->call)
        return;
    struct jit_call *call = &j->calls[op->call - 1];
    const struct oko_fact *fact = &j->prog->facts.insn[j->order[k]];
    bool key = !(op->args & jit_bit(2)), value = !(op->args & jit_bit(3));
    if (call->kind == JIT_CALL_ARRAY && (fact->flags & OKO_FACT_INDEX_CONST))
        return;
    if (key)
        plan_buffer(r, k, fact->key_off, fact->key_part, &call->key);
    else if (call->kind != JIT_CALL_MAP)
        add_loads(&call->key, 0, call->key.size, 2, 0);
    if (value && call->value.size)
        plan_buffer(r, k, fact->val_off, fact->val_part, &call->value);
    if (call->kind != JIT_CALL_MAP && words_in_registers(&call->key) > IN_REGISTERS)
        call->kind = JIT_CALL_MAP; /* too many at once: through memory, word by word */
    op->args |= registers_of(&call->key) | registers_of(&call->value);
    op->args &= (uint16_t)~jit_bit(JIT_FP);
}

static void plan_region(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++)
        plan_call(r, k);
}

/* ---------------------------------------------------------------- stores nobody reads */

static void mark(uint8_t *read, int32_t from, uint32_t n)
{
    for (int32_t i = from; i < from + (int32_t)n; i++)
        if (i < 0 && i >= -OKO_STACK_SIZE)
            read[i + OKO_STACK_SIZE] = 1;
}

static void mark_buffer(uint8_t *read, const struct jit_buffer *b)
{
    for (uint32_t i = 0; i < b->n_pieces; i++)
        if (b->piece[i].kind == JIT_PIECE_MEM && b->piece[i].reg == JIT_FP)
            mark(read, b->piece[i].off, b->piece[i].width);
}

/* Bytes of the stack that the operation may read by the frame pointer; false: any. */
static bool mark_reads(const struct jit *j, const struct jit_op *op, uint8_t *read)
{
    if (op->op == JIT_HELPER && op->call) {
        mark_buffer(read, &j->calls[op->call - 1].key);
        mark_buffer(read, &j->calls[op->call - 1].value);
        return true;
    }
    bool reads = op->op == JIT_LOAD || op->op == JIT_ATOMIC || op->op == JIT_MODIFY || op->mem;
    if (!reads || op->base != JIT_FP)
        return true;
    if (op->index != JIT_NONE)
        return false;
    mark(read, op->off, op->width);
    return true;
}

/* With no pointer to the stack left, all reads of it are plain to see. */
static void drop_dead_stores(struct jit *j)
{
    uint8_t read[OKO_STACK_SIZE] = {0};
    for (uint32_t k = 0; k < j->n_order; k++) {
        const struct jit_op *op = &j->ops[j->order[k]];
        if (takes_address(op) || !mark_reads(j, op, read))
            return;
    }
    for (uint32_t k = 0; k < j->n_order; k++) {
        struct jit_op *op = &j->ops[j->order[k]];
        if (op->op != JIT_STORE || !on_stack(op))
            continue;
        bool used = op->off < -OKO_STACK_SIZE;
        for (int32_t i = op->off; i < op->off + op->width && i < 0 && !used; i++)
            used = read[i + OKO_STACK_SIZE];
        if (!used)
            jit_become_nop(op);
    }
}

/* ---------------------------------------------------------------- null results */

/* A lookup followed by a test of its result for null: the path of the miss goes straight to where
 * the test would send it, and the path of the hit needs no test. */
static void join_null_test(const struct jit_region *r, uint32_t k)
{
    struct jit *j = r->j;
    struct jit_op *op = jit_op_at(r, k);
    if (op->op != JIT_HELPER || !op->call)
        return;
    uint8_t kind = j->calls[op->call - 1].kind;
    uint32_t t = k + 1;
    uint16_t copies = 1;
    for (; t < r->to; t++) {
        const struct jit_op *between = jit_op_at(r, t);
        if (between->op == JIT_MOV && between->a == 0 && between->w)
            copies |= jit_bit(between->dst);
        else if (between->op != JIT_NOP)
            break;
    }
    if (t >= r->to || (kind != JIT_CALL_ARRAY && kind != JIT_CALL_HASH))
        return;
    struct jit_op *test = jit_op_at(r, t);
    if (test->op != JIT_JCC || test->mem || !(copies & jit_bit(test->a)) || test->b != JIT_NONE ||
        test->imm != 0 || !test->w || (test->cc != BPF_JEQ && test->cc != BPF_JNE) ||
        (j->prog->facts.insn[j->order[t]].flags & OKO_FACT_FUEL))
        return;
    op->null_copies = copies;
    if (test->cc == BPF_JEQ) {
        op->target = test->target;
        jit_become_nop(test);
    } else if (t + 1 < j->n_order) { /* the hit jumps, the miss goes on */
        op->target = j->order[t + 1];
        test->op = JIT_JMP;
        test->a = JIT_NONE;
    }
}

static void join_null_tests(const struct jit_region *r)
{
    for (uint32_t k = r->from; k < r->to; k++)
        join_null_test(r, k);
}

/* ---------------------------------------------------------------- all together */

static void find_all_escapes(struct jit *j)
{
    j->stack_escapes = false;
    jit_each_region(j, find_escapes);
}

void jit_widen_copies(struct jit *j)
{
    find_all_escapes(j);
    if (!j->stack_escapes)
        jit_each_region(j, widen_copies);
}

void jit_plan_buffers(struct jit *j)
{
    find_all_escapes(j);
    jit_each_region(j, plan_region);
    jit_sweep_dead(j);
    if (!j->stack_escapes)
        drop_dead_stores(j);
    jit_sweep_dead(j);
    jit_each_region(j, join_null_tests);
    jit_sweep_dead(j);
}
