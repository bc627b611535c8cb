/* The interpreter's loop: the semantics of each instruction, RFC 9669 section 4 and 5.
 *
 * Included twice by interp.c, because a function with computed gotos cannot be specialised by the
 * compiler: once plain, and once (LOOP_TRACED) with a stop before each instruction that counts for
 * the profile and asks the checker. LOOP_NAME is the function's name. */

static uint64_t LOOP_NAME(struct oko_prog *prog, struct oko_env *env, const struct oko_prog_in *in,
                          struct trace *trace, const void *const **labels_out)
{
    static const void *const labels[OKO_N_KINDS] = {
#define OKO_KIND(name) [OKO_KIND_##name] = &&do_##name,
        OKO_INTERP_KINDS(OKO_KIND)
#undef OKO_KIND
    };
    if (labels_out != NULL) {
        *labels_out = labels;
        return 0;
    }

    const struct oko_interp_op *ops = ((const struct interp *)prog->interp)->ops;
    const struct oko_interp_op *op = ops;
    struct oko_interp_frame frames[OKO_MAX_FRAMES];
    _Alignas(16) uint8_t stack[OKO_MAX_FRAMES][OKO_STACK_SIZE];
    uint32_t depth = 0;
    uint64_t r[OKO_N_REGS] = {0, (uint64_t)in->data, in->len, (uint64_t)in->meta};
    r[10] = (uint64_t)(stack[0] + OKO_STACK_SIZE);
    if ((prog->flags & OKO_LOAD_CONFORMANCE) != 0)
        memset(stack[0], 0, OKO_STACK_SIZE); /* it may read what it did not write */
    env->prog = prog;
    env->meta = in->meta;
    env->pkt = in->data;
    env->len = in->len;
    env->fuel = prog->fuel;

#if LOOP_TRACED
    if (trace->checked)
        poison(stack[0], OKO_STACK_SIZE);
    uint32_t func = 0;
#define DISPATCH() goto traced
#else
    (void)trace;
#define DISPATCH() goto * op->handler
#endif
#define NEXT()                                                                                     \
    do {                                                                                           \
        op++;                                                                                      \
        DISPATCH();                                                                                \
    } while (0)
#define DST r[op->dst]
#define SRC r[op->src]
#define IMM op->imm

    DISPATCH();

#if LOOP_TRACED
traced : {
    uint32_t pc = (uint32_t)(op - ops);
    if (trace->profile != NULL)
        __atomic_add_fetch(&trace->profile[pc], 1, __ATOMIC_RELAXED);
    if (trace->path != NULL) {
        trace->path->last = pc;
        if (op->kind >= OKO_KIND_JEQ64_K && op->kind <= OKO_KIND_JSLE32_X)
            trace->path->branch = pc;
    }
    if (trace->checked) {
        struct oko_check_frame seen[OKO_MAX_FRAMES];
        for (uint32_t d = 0; d <= depth; d++)
            seen[d] = (struct oko_check_frame){d < depth ? frames[d].regs : r, stack[d], d,
                                               d < depth ? frames[d].func : func};
        trace->status = oko_check_step(prog, env, pc, seen, depth + 1, trace->error);
        if (trace->status != 0)
            return 0;
    }
    goto *labels[op->entry];
}
#endif

/* Arithmetic: a op b on 64 bits, or on 32 with the upper half of dst cleared. */
#define ALU(name, expression64, expression32)                                                      \
    do_##name##64_K:                                                                               \
    {                                                                                              \
        uint64_t a = DST, b = IMM;                                                                 \
        (void)a;                                                                                   \
        DST = (expression64);                                                                      \
        NEXT();                                                                                    \
    }                                                                                              \
    do_##name##64_X:                                                                               \
    {                                                                                              \
        uint64_t a = DST, b = SRC;                                                                 \
        (void)a;                                                                                   \
        DST = (expression64);                                                                      \
        NEXT();                                                                                    \
    }                                                                                              \
    do_##name##32_K:                                                                               \
    {                                                                                              \
        uint32_t a = (uint32_t)DST, b = (uint32_t)IMM;                                             \
        (void)a;                                                                                   \
        DST = (uint32_t)(expression32);                                                            \
        NEXT();                                                                                    \
    }                                                                                              \
    do_##name##32_X:                                                                               \
    {                                                                                              \
        uint32_t a = (uint32_t)DST, b = (uint32_t)SRC;                                             \
        (void)a;                                                                                   \
        DST = (uint32_t)(expression32);                                                            \
        NEXT();                                                                                    \
    }
    ALU(ADD, a + b, a + b)
    ALU(SUB, a - b, a - b)
    ALU(MUL, a * b, a * b)
    ALU(OR, a | b, a | b)
    ALU(AND, a & b, a & b)
    ALU(XOR, a ^ b, a ^ b)
    ALU(MOV, b, b)
    ALU(LSH, a << (b & 63), a << (b & 31))
    ALU(RSH, a >> (b & 63), a >> (b & 31))
    ALU(ARSH, (uint64_t)((int64_t)a >> (b & 63)), (uint32_t)((int32_t)a >> (b & 31)))
    /* Section 4.1: x / 0 = 0 and x % 0 = x; the smallest number / -1 is itself, % -1 is 0. */
    ALU(DIV, b == 0 ? 0 : a / b, b == 0 ? 0 : a / b)
    ALU(MOD, b == 0 ? a : a % b, b == 0 ? a : a % b)
    ALU(SDIV,
        b == 0            ? 0
        : b == UINT64_MAX ? 0 - a
                          : (uint64_t)((int64_t)a / (int64_t)b),
        b == 0            ? 0
        : b == UINT32_MAX ? 0 - a
                          : (uint32_t)((int32_t)a / (int32_t)b))
    ALU(SMOD,
        b == 0            ? a
        : b == UINT64_MAX ? 0
                          : (uint64_t)((int64_t)a % (int64_t)b),
        b == 0            ? a
        : b == UINT32_MAX ? 0
                          : (uint32_t)((int32_t)a % (int32_t)b))
#undef ALU

#define UNARY(name, expression)                                                                    \
    do_##name : DST = (uint64_t)(expression);                                                      \
    NEXT();
    UNARY(MOVSX8_64, (uint64_t)(int64_t)(int8_t)SRC)
    UNARY(MOVSX16_64, (uint64_t)(int64_t)(int16_t)SRC)
    UNARY(MOVSX32_64, (uint64_t)(int64_t)(int32_t)SRC)
    UNARY(MOVSX8_32, (uint32_t)(int32_t)(int8_t)SRC)
    UNARY(MOVSX16_32, (uint32_t)(int32_t)(int16_t)SRC)
    UNARY(NEG64, 0 - DST)
    UNARY(NEG32, (uint32_t)(0 - (uint32_t)DST))
    UNARY(LE16, (uint16_t)DST)
    UNARY(LE32, (uint32_t)DST)
    UNARY(LE64, DST)
    UNARY(SWAP16, __builtin_bswap16((uint16_t)DST))
    UNARY(SWAP32, __builtin_bswap32((uint32_t)DST))
    UNARY(SWAP64, __builtin_bswap64(DST))
#undef UNARY

do_LDDW:
    DST = IMM;
    op += 2; /* over the second half */
    DISPATCH();

    /* Packet loads: beyond the end, the program's answer is no match. */
#define PACKET(kind, offset, width, load)                                                          \
    do_##kind:                                                                                     \
    {                                                                                              \
        uint64_t at = (offset);                                                                    \
        if (env->len < width || at > env->len - width)                                             \
            return 0;                                                                              \
        const uint8_t *p = env->pkt + at;                                                          \
        r[0] = (load);                                                                             \
        NEXT();                                                                                    \
    }
    PACKET(LD_ABS8, IMM, 1, *p)
    PACKET(LD_ABS16, IMM, 2, __builtin_bswap16(oko_shared_load16(p)))
    PACKET(LD_ABS32, IMM, 4, __builtin_bswap32(oko_shared_load32(p)))
    PACKET(LD_IND8, SRC + IMM, 1, *p)
    PACKET(LD_IND16, SRC + IMM, 2, __builtin_bswap16(oko_shared_load16(p)))
    PACKET(LD_IND32, SRC + IMM, 4, __builtin_bswap32(oko_shared_load32(p)))
#undef PACKET

#define ADDRESS(base) ((void *)((base) + (uint64_t)(int64_t)op->target))
#define LOAD(kind, expression)                                                                     \
    do_##kind:                                                                                     \
    {                                                                                              \
        const void *p = ADDRESS(SRC);                                                              \
        DST = (expression);                                                                        \
        NEXT();                                                                                    \
    }
    LOAD(LDX8, oko_shared_load8(p))
    LOAD(LDX16, oko_shared_load16(p))
    LOAD(LDX32, oko_shared_load32(p))
    LOAD(LDX64, oko_shared_load64(p))
    LOAD(LDSX8, (uint64_t)(int64_t)(int8_t)oko_shared_load8(p))
    LOAD(LDSX16, (uint64_t)(int64_t)(int16_t)oko_shared_load16(p))
    LOAD(LDSX32, (uint64_t)(int64_t)(int32_t)oko_shared_load32(p))
#undef LOAD

#define STORE(bits)                                                                                \
    do_ST##bits : oko_shared_store##bits(ADDRESS(DST), (uint##bits##_t)IMM);                       \
    NEXT();                                                                                        \
    do_STX##bits : oko_shared_store##bits(ADDRESS(DST), (uint##bits##_t)SRC);                      \
    NEXT();
    STORE(8)
    STORE(16)
    STORE(32)
    STORE(64)
#undef STORE

#define ATOMIC(bits)                                                                               \
    do_ATOMIC##bits:                                                                               \
    {                                                                                              \
        uint##bits##_t *p = ADDRESS(DST);                                                          \
        uint64_t old = atomic##bits(p, (uint32_t)IMM, (uint##bits##_t)SRC, (uint##bits##_t)r[0]);  \
        if ((uint32_t)IMM == BPF_CMPXCHG)                                                          \
            r[0] = old;                                                                            \
        else if ((IMM & BPF_FETCH) != 0)                                                           \
            SRC = old;                                                                             \
        NEXT();                                                                                    \
    }
    ATOMIC(32)
    ATOMIC(64)
#undef ATOMIC

do_JA:
    op = ops + op->target;
    DISPATCH();

#define JUMP(name, type64, type32, operator)                                                       \
    do_##name##64_K : op = (type64)DST operator(type64) IMM ? ops + op->target : op + 1;           \
    DISPATCH();                                                                                    \
    do_##name##64_X : op = (type64)DST operator(type64) SRC ? ops + op->target : op + 1;           \
    DISPATCH();                                                                                    \
    do_##name##32_K : op = (type32)DST operator(type32) IMM ? ops + op->target : op + 1;           \
    DISPATCH();                                                                                    \
    do_##name##32_X : op = (type32)DST operator(type32) SRC ? ops + op->target : op + 1;           \
    DISPATCH();
    JUMP(JEQ, uint64_t, uint32_t, ==)
    JUMP(JNE, uint64_t, uint32_t, !=)
    JUMP(JSET, uint64_t, uint32_t, &)
    JUMP(JGT, uint64_t, uint32_t, >)
    JUMP(JGE, uint64_t, uint32_t, >=)
    JUMP(JLT, uint64_t, uint32_t, <)
    JUMP(JLE, uint64_t, uint32_t, <=)
    JUMP(JSGT, int64_t, int32_t, >)
    JUMP(JSGE, int64_t, int32_t, >=)
    JUMP(JSLT, int64_t, int32_t, <)
    JUMP(JSLE, int64_t, int32_t, <=)
#undef JUMP

do_CALL_HELPER:
    r[0] = ((oko_helper_fn)IMM)(r[1], r[2], r[3], r[4], r[5], env);
#if LOOP_TRACED
    if (trace->checked)
        poison((uint8_t *)&r[1], 5 * sizeof(r[1])); /* a call leaves r1-r5 undefined */
#endif
    NEXT();

do_CALL_LOOKUP : {
    const struct oko_map *map = (const struct oko_map *)r[1];
    r[0] = ((oko_helper_fn)IMM)(r[1], r[2], r[3], r[4], r[5], env);
    if (oko_map_is_sketch(map)) {
        uint8_t *slot = env->scratch + 8 * (size_t)op->target;
        memcpy(slot, env->scratch, sizeof(uint32_t));
        r[0] = (uint64_t)slot;
    }
#if LOOP_TRACED
    if (trace->checked)
        poison((uint8_t *)&r[1], 5 * sizeof(r[1]));
#endif
    NEXT();
}

do_CALLX : { /* conformance only */
    const struct oko_helper *helper = r[op->dst] <= INT32_MAX ? oko_helper((int32_t)DST) : NULL;
    if (r[op->dst] == OKO_CONFORMANCE_UNWIND)
        goto do_UNWIND;
    if (helper == NULL)
        goto fault;
    r[0] = helper->fn(r[1], r[2], r[3], r[4], r[5], env);
    NEXT();
}

do_UNWIND:
    r[0] = r[1];
    if (r[0] == 0)
        return 0;
    NEXT();

do_CALL_LOCAL:
    if (depth + 1 >= OKO_MAX_FRAMES)
        goto fault; /* only unverified programs get here */
    frames[depth].back = op + 1;
#if LOOP_TRACED
    memcpy(frames[depth].regs, r, sizeof(r));
    frames[depth].func = func;
    func = func_at(prog, (uint32_t)op->target);
    if (trace->checked)
        poison(stack[depth + 1], OKO_STACK_SIZE);
#else
    memcpy(&frames[depth].regs[6], &r[6], 4 * sizeof(r[6]));
#endif
    depth++;
    if ((prog->flags & OKO_LOAD_CONFORMANCE) != 0)
        memset(stack[depth], 0, OKO_STACK_SIZE);
    r[10] = (uint64_t)(stack[depth] + OKO_STACK_SIZE);
    op = ops + op->target;
    DISPATCH();

do_EXIT:
    if (depth == 0)
        return r[0];
    depth--;
    memcpy(&r[6], &frames[depth].regs[6], 4 * sizeof(r[6]));
    r[10] = (uint64_t)(stack[depth] + OKO_STACK_SIZE);
    op = frames[depth].back;
#if LOOP_TRACED
    func = frames[depth].func;
    if (trace->checked)
        poison((uint8_t *)&r[1], 5 * sizeof(r[1]));
#endif
    DISPATCH();

do_GUARD:
    if (!access_allowed(prog, env, (uint32_t)(op - ops), r))
        goto fault;
    goto *labels[op->kind];

do_FUEL:
    if (--env->fuel < 0)
        goto fault;
    goto *labels[op->kind];

do_NEVER:
fault:
    env->fault = 1;
    oko_count(&env->n_faults, 1);
    return 0;

#undef DISPATCH
#undef NEXT
#undef DST
#undef SRC
#undef IMM
#undef ADDRESS
}
