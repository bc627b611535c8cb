/* Frames, the two entries, and leaving.
 *
 * The program's entry function is emitted twice. The per-packet entry is an ordinary function whose
 * arguments arrive as r1, r2, r3. The batch entry has the loop over the packets inside: the array,
 * the packets still to do and the matches so far are pins, so a packet costs a handful of
 * instructions beside the program's own, and no call. Sub-functions are emitted once and called
 * from both.
 *
 * Frame, from high to low addresses: return address, pushed registers, the program's stack (the
 * frame pointer r10 is its upper end), pins that found no register. A function that calls nothing
 * and needs at most 128 bytes keeps all of it in the red zone below rsp and moves nothing.
 *
 * A run that ends early (legacy load beyond the packet, failed check) does so from any depth: the
 * entry leaves its stack pointer and the place to go on at in the environment. */
#include "jit.h"

enum { RED_ZONE = 128 };

static bool callee_saved(unsigned reg)
{
    return reg == RBX || reg == RBP || reg >= R12;
}

/* ---------------------------------------------------------------- pins */

static struct x64_mem env_at(const struct jit *j, unsigned env, size_t offset)
{
    (void)j;
    return x64_at(env, (int32_t)offset);
}

/* The register that holds the pin: its own, or scratch after a load. */
unsigned jit_pin(struct jit *j, enum jit_pin pin, unsigned scratch)
{
    const struct jit_place *place = &j->pin[pin];
    if (!place->used && pin == PIN_META) { /* a sub-function: by way of the environment */
        unsigned env = jit_pin(j, PIN_ENV, scratch);
        x64_load(&j->a, 8, scratch, env_at(j, env, offsetof(struct oko_env, meta)));
        return scratch;
    }
    if (place->reg != X64_NOREG)
        return place->reg;
    x64_load(&j->a, 8, scratch, x64_at(RSP, place->slot));
    return scratch;
}

static void set_pin(struct jit *j, enum jit_pin pin, unsigned reg)
{
    const struct jit_place *place = &j->pin[pin];
    if (!place->used)
        return;
    if (place->reg == X64_NOREG)
        x64_store(&j->a, 8, x64_at(RSP, place->slot), reg);
    else if (place->reg != reg)
        x64_mov(&j->a, true, place->reg, reg);
}

/* Gives the pins of the body their registers and plans the frame. */
static void plan_frame(struct jit *j)
{
    static const uint8_t saved_regs[4] = {RBX, RBP, R14, R15}; /* r6-r9 */
    bool entry = j->func == &j->funcs[0];
    uint8_t pool[8];
    uint32_t n_pool = 0, next = 0, n_slots = 0;
    if (!j->has_calls) { /* registers a call would destroy: free of charge */
        static const uint8_t cheap[2] = {4, 5};
        for (unsigned i = 0; i < 2; i++)
            if (!(j->used & 1 << cheap[i]))
                pool[n_pool++] = jit_reg[cheap[i]];
    }
    for (unsigned i = 0; i < 4; i++)
        if (!(j->used & 1 << (6 + i)))
            pool[n_pool++] = saved_regs[i];
    pool[n_pool++] = R12;
    pool[n_pool++] = R13;

    bool wanted[N_PINS] = {[PIN_ENV] = j->uses_env,
                           [PIN_META] = entry && j->uses_meta,
                           [PIN_IN] = entry && j->batch,
                           [PIN_TODO] = entry && j->batch,
                           [PIN_MATCH] = entry && j->batch};
    static const uint8_t by_use[N_PINS] = {PIN_ENV, PIN_TODO, PIN_META, PIN_IN, PIN_MATCH};
    for (unsigned i = 0; i < N_PINS; i++) {
        struct jit_place *place = &j->pin[by_use[i]];
        *place = (struct jit_place){.used = wanted[by_use[i]], .reg = X64_NOREG};
        if (place->used && next < n_pool)
            place->reg = pool[next++];
        else if (place->used)
            place->slot = (int32_t)(8 * n_slots++);
    }

    j->n_saved = 0;
    /* A sub-function that ends the run does not come to its epilogue: the entry restores for it. */
    uint32_t saves = entry && j->aborts_in_sub ? j->used : j->func->used;
    for (unsigned i = 0; i < 4; i++)
        if (saves & 1u << (6 + i))
            j->saved[j->n_saved++] = saved_regs[i];
    for (uint32_t i = 0; entry && i < next; i++)
        if (callee_saved(pool[i]))
            j->saved[j->n_saved++] = pool[i];

    j->temp = (int32_t)(8 * n_slots);
    uint32_t size = 8 * n_slots + j->func->temp + ((j->func->stack + 7) & ~7u);
    if (!j->func->calls && size <= RED_ZONE) {
        j->frame = 0;
        j->frame_sub = 0;
        for (unsigned i = 0; i < N_PINS; i++)
            j->pin[i].slot -= (int32_t)size;
    } else {
        if (j->func->calls && (8 + 8 * j->n_saved + size) % 16)
            size += 8;
        j->frame = j->frame_sub = size;
    }
}

/* ---------------------------------------------------------------- prologue and epilogue */

static void emit_prologue(struct jit *j)
{
    for (uint32_t i = 0; i < j->n_saved; i++)
        x64_push(&j->a, j->saved[i]);
    if (j->frame_sub)
        x64_alu_i(&j->a, X64_SUB, true, RSP, (int32_t)j->frame_sub);
}

static void emit_epilogue(struct jit *j)
{
    if (j->frame_sub)
        x64_alu_i(&j->a, X64_ADD, true, RSP, (int32_t)j->frame_sub);
    for (uint32_t i = j->n_saved; i-- > 0;)
        x64_pop(&j->a, j->saved[i]);
    x64_ret(&j->a);
}

/* dst = the lowest set bit of src alone; dst != src. */
static void emit_lowest(struct x64 *a, unsigned dst, unsigned src)
{
    if (a->bmi1) {
        x64_blsi(a, true, dst, src);
        return;
    }
    x64_mov(a, true, dst, src);
    x64_unary(a, X64_NEG, true, dst);
    x64_alu(a, X64_AND, true, dst, src);
}

void jit_emit_drop_lowest(struct x64 *a, unsigned reg, unsigned scratch)
{
    if (a->bmi1) {
        x64_blsr(a, true, reg, reg);
        return;
    }
    x64_lea(a, true, scratch, x64_at(reg, -1));
    x64_alu(a, X64_AND, true, reg, scratch);
}

static void emit_or_match(struct jit *j, unsigned reg)
{
    const struct jit_place *place = &j->pin[PIN_MATCH];
    if (place->reg == X64_NOREG)
        x64_alu_m(&j->a, X64_OR, 8, x64_at(RSP, place->slot), reg);
    else
        x64_alu(&j->a, X64_OR, true, place->reg, reg);
}

/* An exit needs no jump when this is all there is to leaving. */
static bool leaves_by_ret(const struct jit *j)
{
    return !j->batch && !j->n_saved && !j->frame_sub;
}

/* Ways to leave a body, in the order in which they stand behind it: with the result in r0, with the
 * constant 1 (of a batch: farther behind, if there is the first), with the constant 0. Those that
 * are not used are left out, and a body's last operation needs no jump to the first that is there.
 */
void jit_emit_exit(struct jit *j, bool last)
{
    if (leaves_by_ret(j))
        x64_ret(&j->a);
    else if (!last)
        x64_jmp(&j->a, j->exit_label);
}

void jit_emit_exit_const(struct jit *j, unsigned result, bool last)
{
    bool first = !j->leaves_r0 && (result == 1 || !j->leaves_1);
    if (!last || !first)
        x64_jmp(&j->a, j->result_label[result]);
}

/* match |= the low bit of reg, at the place of the packet at hand. */
static void emit_match_bit(struct jit *j, unsigned reg)
{
    struct x64 *a = &j->a;
    x64_tzcnt(a, true, R10, jit_pin(j, PIN_TODO, R10));
    x64_shiftx(a, X64_SHL, true, reg, reg, R10);
    emit_or_match(j, reg);
}

void jit_emit_exit_if(struct jit *j, enum x64_cc cc, bool last)
{
    struct x64 *a = &j->a;
    if (!j->batch) {
        x64_setcc(a, cc, RAX);
        x64_movzx(a, 1, RAX, RAX);
        jit_emit_exit(j, last);
    } else if (a->bmi2) {
        x64_setcc(a, cc, R9);
        x64_movzx(a, 1, R9, R9);
        emit_match_bit(j, R9);
        jit_emit_exit_const(j, 0, last);
    } else {
        x64_jcc(a, cc, j->result_label[1]);
        jit_emit_exit_const(j, 0, last);
    }
}

void jit_emit_abort(struct jit *j, bool fault)
{
    j->abort_used[fault] = true;
    x64_jmp(&j->a, j->abort_label[fault]);
}

void jit_emit_abort_if(struct jit *j, enum x64_cc cc, bool fault)
{
    j->abort_used[fault] = true;
    x64_jcc(&j->a, cc, j->abort_label[fault]);
}

/* What the aborts of this body jump to; to: the place of the entry that ends a packet. */
static void emit_aborts(struct jit *j, uint32_t to)
{
    struct x64 *a = &j->a;
    bool entry = j->func == &j->funcs[0];
    for (unsigned fault = 2; fault-- > 0;) {
        if (!j->abort_used[fault] && !(fault == 0 && j->abort_used[1]))
            continue;
        x64_bind(a, j->abort_label[fault]);
        unsigned env = fault || !entry ? jit_pin(j, PIN_ENV, R11) : X64_NOREG;
        if (fault) { /* and on to the other */
            x64_store_i(a, 4, env_at(j, env, offsetof(struct oko_env, fault)), 1);
            x64_alu_mi(a, X64_ADD, 8, env_at(j, env, offsetof(struct oko_env, n_faults)), 1);
        } else if (entry)
            x64_jmp(a, to);
        else {
            x64_load(a, 8, RSP, env_at(j, env, offsetof(struct oko_env, jit_sp)));
            x64_jmp_m(a, env_at(j, env, offsetof(struct oko_env, jit_ip)));
        }
    }
}

/* ---------------------------------------------------------------- bodies */

/* The pc of the first operation from k on that does something. */
static uint32_t first_of(const struct jit *j, uint32_t k)
{
    while (k < j->n_order && j->ops[j->order[k]].op == JIT_NOP)
        k++;
    return k < j->n_order ? j->order[k] : j->n;
}

/* Operations [from, to) of the order; what follows the last one is at pc `after`. */
static void emit_range(struct jit *j, uint32_t from, uint32_t to, uint32_t after)
{
    struct x64 *a = &j->a;
    for (uint32_t k = from; k < to && !a->error; k++) {
        uint32_t pc = j->order[k], next = k + 1;
        if (j->label[pc] != (uint32_t)JIT_UNLABELLED) {
            x64_bind(a, j->label[pc]);
            j->flags_valid = false;
        }
        while (next < to && j->ops[j->order[next]].op == JIT_NOP)
            next++; /* a jump over nothing is none */
        jit_emit_op(j, pc, next < to ? j->order[next] : after);
    }
}

/* What a lookup's miss alone comes to may stand elsewhere: if operation k is the jump of the hit
 * over it, the place in the order that it leads to, else 0. *miss: where the miss goes, while
 * nothing but copies of the result lies between. */
static uint32_t after_miss(const struct jit *j, uint32_t k, uint32_t *miss)
{
    const struct jit_op *op = &j->ops[j->order[k]];
    if (op->op == JIT_HELPER)
        *miss = op->target;
    else if (op->op == JIT_JMP && k + 1 < j->n_order && *miss == j->order[k + 1] &&
             op->target < j->n && op->target > *miss)
        for (uint32_t i = k + 1; i < j->n_order; i++)
            if (j->order[i] == op->target)
                return i;
    if (op->op != JIT_HELPER && op->op != JIT_MOV && op->op != JIT_NOP)
        *miss = (uint32_t)JIT_UNLABELLED;
    return 0;
}

/* The misses' parts that emit_body() left out. */
static void emit_cold(struct jit *j)
{
    for (uint32_t i = 0; i < j->n_cold; i++) {
        uint32_t from = j->work[2 * i], to = j->work[2 * i + 1];
        emit_range(j, from, to, (uint32_t)JIT_UNLABELLED);
        if (!jit_is_jump(&j->ops[j->order[to - 1]]))
            x64_jmp(&j->a, j->label[j->order[to]]);
    }
}

/* Instructions of the function at hand, in order. */
static void emit_body(struct jit *j)
{
    struct x64 *a = &j->a;
    for (uint32_t k = 0; k < j->n_order; k++)
        j->label[j->order[k]] = (uint32_t)JIT_UNLABELLED;
    for (uint32_t k = 0; k < j->n_order; k++) {
        const struct jit_op *op = &j->ops[j->order[k]];
        if (jit_has_target(j, op) && j->label[op->target] == (uint32_t)JIT_UNLABELLED)
            j->label[op->target] = x64_label(a);
    }
    uint32_t from = 0, miss = (uint32_t)JIT_UNLABELLED;
    j->n_cold = 0;
    for (uint32_t k = 0; k < j->n_order; k++) {
        uint32_t to = after_miss(j, k, &miss);
        if (!to)
            continue;
        emit_range(j, from, k + 1, first_of(j, to));
        j->work[2 * j->n_cold] = k + 1;
        j->work[2 * j->n_cold++ + 1] = to;
        from = to;
        k = to - 1;
    }
    emit_range(j, from, j->n_order, j->n);
}

static void start_body(struct jit *j, const struct jit_func *func, bool batch)
{
    if (j->func != func)
        jit_analyse(j, &j->funcs[func - j->funcs]);
    j->func = func;
    j->batch = batch;
    j->flags_valid = false;
    j->exit_label = x64_label(&j->a);
    for (unsigned i = 0; i < 2; i++)
        j->result_label[i] = x64_label(&j->a);
    j->leaves_r0 = j->leaves_1 = j->leaves_0 = false;
    j->leaves_bit = true;
    for (uint32_t k = 0; k < j->n_order; k++) {
        const struct jit_op *op = &j->ops[j->order[k]];
        bool jumps = op->op == JIT_JMP || op->op == JIT_JCC || op->op == JIT_HELPER;
        bool by_bit = batch && op->op == JIT_EXIT_IF;
        j->leaves_r0 |= op->op == JIT_EXIT || (op->op == JIT_EXIT_IF && !batch);
        j->leaves_bit &= op->op != JIT_EXIT || op->width == 1;
        j->leaves_1 |= (jumps && op->target == j->n + 1) || (by_bit && !j->a.bmi2);
        j->leaves_0 |= (jumps && op->target == j->n) || by_bit;
    }
    for (int i = 0; i < 2; i++) {
        j->abort_label[i] = x64_label(&j->a);
        j->abort_used[i] = false;
    }
    plan_frame(j);
    x64_align(&j->a, 16);
}

static void store_to_env(struct jit *j, size_t offset, uint64_t value)
{
    unsigned env = jit_pin(j, PIN_ENV, R11);
    x64_mov_i(&j->a, R10, value);
    x64_store(&j->a, 8, env_at(j, env, offset), R10);
}

/* What each packet starts with anew: its budget of back edges, no frames. */
static void reset_env(struct jit *j)
{
    if (j->has_fuel)
        store_to_env(j, offsetof(struct oko_env, fuel), (uint64_t)j->prog->fuel);
    if (j->counts_depth)
        store_to_env(j, offsetof(struct oko_env, jit_depth), 0);
}

/* Unverified programs may read stack that they did not write: zero, as in the interpreter. */
static void clear_stack(struct jit *j)
{
    if (j->prog->flags & OKO_LOAD_CONFORMANCE)
        for (int32_t at = -(int32_t)((j->func->stack + 7) & ~7u); at < 0; at += 8)
            x64_store_i(&j->a, 8, x64_at(RSP, (int32_t)j->frame + at), 0);
}

/* Registers that some path reads before writing them start as zero, as in the interpreter. */
static void clear_unset(struct jit *j)
{
    for (unsigned r = 0; r < 10; r++)
        if ((j->func->live_in & 1 << r) && !(r >= 1 && r <= 3))
            x64_mov_i(&j->a, jit_reg[r], 0);
}

/* The ways out of a function: its epilogues. */
static void emit_leaving(struct jit *j)
{
    struct x64 *a = &j->a;
    bool shared = j->n_saved + (j->frame_sub != 0) > 2; /* else a second copy is as short */
    if (j->leaves_r0 && !leaves_by_ret(j)) {
        x64_bind(a, j->exit_label);
        emit_epilogue(j);
    }
    for (unsigned result = 2; result-- > 0;) {
        if (!(result ? j->leaves_1 : j->leaves_0))
            continue;
        x64_bind(a, j->result_label[result]);
        x64_mov_i(a, RAX, result);
        if (shared && j->leaves_r0)
            x64_jmp(a, j->exit_label);
        else
            emit_epilogue(j);
    }
}

static void emit_sub(struct jit *j, const struct jit_func *func)
{
    start_body(j, func, false);
    x64_bind(&j->a, func->label);
    emit_prologue(j);
    clear_stack(j);
    emit_body(j);
    emit_leaving(j);
    emit_cold(j);
    jit_emit_late(j);
    emit_aborts(j, 0);
}

/* Where aborts in sub-functions come back to. */
static void leave_way_back(struct jit *j, uint32_t to)
{
    if (!j->aborts_in_sub)
        return;
    unsigned env = jit_pin(j, PIN_ENV, R11);
    x64_lea_label(&j->a, R10, to);
    x64_store(&j->a, 8, env_at(j, env, offsetof(struct oko_env, jit_sp)), RSP);
    x64_store(&j->a, 8, env_at(j, env, offsetof(struct oko_env, jit_ip)), R10);
}

/* run(pkt, len, meta, env): rdi, rsi, rdx, rcx. */
static void emit_run(struct jit *j)
{
    struct x64 *a = &j->a;
    uint32_t none = x64_label(a);
    emit_prologue(j);
    set_pin(j, PIN_ENV, RCX);
    set_pin(j, PIN_META, RDX);
    if (j->stores_meta)
        x64_store(a, 8, env_at(j, RCX, offsetof(struct oko_env, meta)), RDX);
    if (j->stores_pkt) {
        x64_store(a, 8, env_at(j, RCX, offsetof(struct oko_env, pkt)), RDI);
        x64_store(a, 8, env_at(j, RCX, offsetof(struct oko_env, len)), RSI);
    }
    if (j->stores_meta)
        store_to_env(j, offsetof(struct oko_env, prog), (uintptr_t)j->prog);
    leave_way_back(j, none);
    reset_env(j);
    clear_stack(j);
    clear_unset(j);
    emit_body(j);
    emit_leaving(j);
    emit_cold(j);
    jit_emit_late(j);
    emit_aborts(j, none);
    x64_bind(a, none);
    if (j->aborts_in_sub || j->abort_used[0] || j->abort_used[1]) {
        x64_mov_i(a, RAX, 0);
        emit_epilogue(j);
    }
}

/* Loads the registers of the packet at the lowest bit of todo. */
static void emit_next_packet(struct jit *j)
{
    struct x64 *a = &j->a;
    unsigned in = jit_pin(j, PIN_IN, R10);
    unsigned todo = jit_pin(j, PIN_TODO, R9);
    x64_tzcnt(a, true, R9, todo);
    x64_lea(a, true, R9, x64_at_index(R9, R9, 2, 0)); /* 24 bytes each */
    if (in == R10)
        x64_lea(a, true, R9, x64_at_index(in, R9, 8, 0));
    bool need[3] = {(j->func->live_in & 2) || j->stores_pkt,
                    (j->func->live_in & 4) || j->stores_pkt,
                    (j->func->live_in & 8) || j->stores_meta || j->pin[PIN_META].used};
    for (unsigned i = 0; i < 3; i++) {
        bool live = j->func->live_in & 2 << i;
        unsigned reg = live ? jit_reg[1 + i] : R10;
        if (i == 2 && !live && j->pin[PIN_META].used && j->pin[PIN_META].reg != X64_NOREG)
            reg = j->pin[PIN_META].reg;
        if (need[i])
            x64_load(a, 8, reg,
                     in == R10 ? x64_at(R9, (int32_t)(8 * i))
                               : x64_at_index(in, R9, 8, (int32_t)(8 * i)));
        if (i == 2 && need[i])
            set_pin(j, PIN_META, reg);
        static const size_t field[3] = {offsetof(struct oko_env, pkt),
                                        offsetof(struct oko_env, len),
                                        offsetof(struct oko_env, meta)};
        if (i < 2 ? j->stores_pkt : j->stores_meta)
            x64_store(a, 8, env_at(j, jit_pin(j, PIN_ENV, R11), field[i]), reg);
    }
}

_Static_assert(sizeof(struct oko_prog_in) == 24 && offsetof(struct oko_prog_in, data) == 0 &&
                   offsetof(struct oko_prog_in, len) == 8 &&
                   offsetof(struct oko_prog_in, meta) == 16,
               "the batch loop knows this layout");

/* Leaving with the result in r0: a match if it is 1. */
static void emit_match_r0(struct jit *j)
{
    struct x64 *a = &j->a;
    x64_bind(a, j->exit_label);
    if (j->leaves_bit && a->bmi2) {
        emit_match_bit(j, RAX);
        return;
    }
    emit_lowest(a, R9, jit_pin(j, PIN_TODO, R10));
    x64_mov_i(a, R11, 0);
    x64_alu_i(a, X64_CMP, true, RAX, 1);
    x64_cmov(a, X64_E, true, R11, R9);
    emit_or_match(j, R11);
}

static void emit_match_1(struct jit *j)
{
    x64_bind(&j->a, j->result_label[1]);
    emit_lowest(&j->a, R9, jit_pin(j, PIN_TODO, R10));
    emit_or_match(j, R9);
}

/* The first pass over the packets (prefetch.c). The mask waits in the place of the matches. */
static void emit_first_pass(struct jit *j)
{
    struct x64 *a = &j->a;
    uint32_t loop = x64_label(a), next = x64_label(a), skip = x64_label(a);
    jit_emit_ahead_test(j, skip);
    set_pin(j, PIN_MATCH, jit_pin(j, PIN_TODO, R9));
    x64_align(a, 16);
    x64_bind(a, loop);
    emit_next_packet(j);
    clear_unset(j);
    jit_emit_ahead(j, next);
    x64_bind(a, next);
    unsigned todo = jit_pin(j, PIN_TODO, R10);
    jit_emit_drop_lowest(a, todo, R9);
    set_pin(j, PIN_TODO, todo);
    x64_jcc(a, X64_NE, loop);
    set_pin(j, PIN_TODO, jit_pin(j, PIN_MATCH, R9));
    x64_mov_i(a, RAX, 0);
    set_pin(j, PIN_MATCH, RAX);
    x64_bind(a, skip);
}

/* batch(env, in, todo): rdi, rsi, rdx; the mask of matches in rax. */
static void emit_batch(struct jit *j)
{
    struct x64 *a = &j->a;
    uint32_t loop = x64_label(a), next = x64_label(a), done = x64_label(a);
    emit_prologue(j);
    set_pin(j, PIN_ENV, RDI);
    set_pin(j, PIN_IN, RSI);
    set_pin(j, PIN_TODO, RDX);
    x64_mov_i(a, RAX, 0);
    set_pin(j, PIN_MATCH, RAX);
    if (j->stores_meta)
        store_to_env(j, offsetof(struct oko_env, prog), (uintptr_t)j->prog);
    leave_way_back(j, next);
    x64_test(a, true, RDX, RDX);
    x64_jcc(a, X64_E, done);
    if (jit_plan_ahead(j))
        emit_first_pass(j);
    x64_align(a, 16);
    x64_bind(a, loop);
    emit_next_packet(j);
    reset_env(j);
    clear_stack(j);
    clear_unset(j);
    emit_body(j);
    if (j->leaves_r0)
        emit_match_r0(j);
    else if (j->leaves_1)
        emit_match_1(j);
    x64_bind(a, j->result_label[0]);
    x64_bind(a, next);
    unsigned todo = jit_pin(j, PIN_TODO, R10);
    jit_emit_drop_lowest(a, todo, R9);
    set_pin(j, PIN_TODO, todo);
    x64_jcc(a, X64_NE, loop);
    x64_mov(a, true, RAX, jit_pin(j, PIN_MATCH, RAX));
    x64_bind(a, done);
    emit_epilogue(j);
    if (j->leaves_r0 && j->leaves_1) {
        emit_match_1(j);
        x64_jmp(a, next);
    }
    emit_cold(j);
    jit_emit_late(j);
    emit_aborts(j, next);
}

/* ---------------------------------------------------------------- the program */

/* What the program as a whole uses, before any frame is planned. */
static int survey(struct jit *j)
{
    uint64_t total = 0;
    if (j->n_funcs > 1 && (j->prog->flags & OKO_LOAD_CONFORMANCE))
        jit_find_sharing(j);
    for (uint32_t f = 0; f < j->n_funcs; f++) {
        struct jit_func *func = &j->funcs[f];
        jit_analyse(j, func);
        if (!(jit_skip & JIT_SKIP_FLOW) && !func->shares)
            jit_flow(j, func);
        if (!(jit_skip & JIT_SKIP_PEEP) && !func->shares)
            jit_peep(j, func);
        jit_analyse(j, func);
        j->func = func;
        j->used |= func->used;
        j->has_calls |= func->clobbers;
        total += j->n_order;
        if (total > 65536 + 4ull * j->n) /* functions that share code: refuse the quadratic */
            return OKO_E_LIMIT;
        for (uint32_t k = 0; k < j->n_order; k++) {
            const struct jit_op *op = &j->ops[j->order[k]];
            uint16_t flags = j->prog->facts.insn[j->order[k]].flags;
            j->has_fuel |= (flags & OKO_FACT_FUEL) != 0;
            bool checks = flags & (OKO_FACT_GUARD | OKO_FACT_FUEL);
            bool time = op->op == JIT_CLOCK;
            bool unwinds = op->op == JIT_CALLX || jit_is_unwind(j, op);
            bool map_call = op->op == JIT_HELPER && op->call;
            bool c_call = (op->op == JIT_HELPER && !unwinds && !map_call) || op->op == JIT_CALLX;
            bool pkt = op->op == JIT_ABS || (flags & OKO_FACT_GUARD);
            j->uses_env |= checks || pkt || c_call || (time && f) ||
                           (map_call && jit_call_uses_env(&j->calls[op->call - 1]));
            j->uses_meta |= time && !f;
            j->stores_meta |= c_call || (time && f);
            j->stores_pkt |= pkt || c_call;
            j->aborts_in_sub |= f && (checks || unwinds || op->op == JIT_ABS);
        }
    }
    /* The verifier refuses recursion and more than OKO_MAX_FRAMES frames; nobody else does. */
    j->counts_depth = j->n_funcs > 1 && (j->prog->flags & OKO_LOAD_CONFORMANCE);
    j->uses_env |= j->counts_depth;
    j->aborts_in_sub |= j->counts_depth;
    return 0;
}

int jit_emit_program(struct jit *j, uint32_t *run, uint32_t *batch)
{
    int err = survey(j);
    if (err)
        return err;
    *run = x64_label(&j->a);
    *batch = x64_label(&j->a);
    start_body(j, &j->funcs[0], false);
    x64_bind(&j->a, *run);
    emit_run(j);
    start_body(j, &j->funcs[0], true);
    x64_bind(&j->a, *batch);
    emit_batch(j);
    for (uint32_t f = 1; f < j->n_funcs && !j->a.error; f++)
        emit_sub(j, &j->funcs[f]);
    return j->a.error;
}
