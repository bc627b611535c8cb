/* Calls: helpers by their typed prototypes, local functions, and returning; see walk.h. */
#include "walk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- arguments */

struct call {
    const struct oko_helper *helper;
    int16_t map;     /* constant map of the first argument, or -1 */
    int n_varargs;   /* that the format uses */
    uint64_t weight; /* of a variable-sized argument */
};

static void name_argument(char *out, size_t size, unsigned arg, const char *role,
                          const struct oko_helper *helper)
{
    snprintf(out, size, "the %s (r%u) of %s", role, arg, helper->name);
}

static int check_map(struct oko_walk *w, struct call *call, unsigned arg)
{
    const struct oko_reg *r = oko_walk_reg(w, arg);
    if (r->type != OKO_REG_MAP)
        return oko_refuse(w, "pass the address of a map definition: &my_map",
                          "the first argument of %s is %s, not a map", call->helper->name,
                          oko_reg_describe(r));
    call->map = (int16_t)r->index;
    return 0;
}

static int check_size(struct oko_walk *w, struct call *call, unsigned arg)
{
    const struct oko_reg *r = oko_walk_reg(w, arg);
    if (r->type != OKO_REG_SCALAR)
        return oko_refuse(w, "pass a number of bytes", "the size (r%u) of %s is %s", arg,
                          call->helper->name, oko_reg_describe(r));
    call->weight += r->s.full.umax / 8;
    return 0;
}

/* printf's format: constant text, whose conversions say which arguments count. */
static int check_format(struct oko_walk *w, struct call *call, unsigned arg)
{
    const struct oko_reg *r = oko_walk_reg(w, arg);
    const char *hint = "pass a string literal";
    int64_t off;
    if (r->type != OKO_REG_DATA)
        return oko_refuse(w, hint, "the format (r%u) of %s is %s", arg, call->helper->name,
                          oko_reg_describe(r));
    const struct oko_data_spec *data = &w->spec->data[r->index];
    if (data->writable != 0)
        return oko_refuse(w, hint, "the format (r%u) of %s is in %s, which can change", arg,
                          call->helper->name, data->name);
    if (!oko_reg_offset_const(r, &off) || off < 0 || off >= (int64_t)data->size)
        return oko_refuse(w, hint, "the format (r%u) of %s is not one constant string", arg,
                          call->helper->name);
    struct oko_error why;
    const char *text = data->bytes != NULL ? (const char *)data->bytes + off : "";
    call->n_varargs =
        oko_printf_check(text, data->bytes != NULL ? data->size - (size_t)off : 1, &why);
    if (call->n_varargs < 0)
        return oko_refuse(w, why.hint, "%s", why.reason);
    return 0;
}

static int check_number(struct oko_walk *w, const struct call *call, unsigned arg)
{
    const struct oko_reg *r = oko_walk_reg(w, arg);
    int status = oko_need_set(w, arg);
    if (status != 0)
        return status;
    if (r->type != OKO_REG_SCALAR)
        return oko_refuse(w, "pass numbers; addresses must not leave the program",
                          "argument r%u of %s is %s", arg, call->helper->name, oko_reg_describe(r));
    return 0;
}

static int check_argument(struct oko_walk *w, struct call *call, unsigned arg)
{
    char what[64];
    enum oko_arg kind = call->helper->arg[arg - 1];
    int status = kind == OKO_ARG_NONE || kind == OKO_ARG_VARARG ? 0 : oko_need_set(w, arg);
    if (status != 0)
        return status;
    switch (kind) {
    case OKO_ARG_NONE:
        return 0;
    case OKO_ARG_MAP:
        return check_map(w, call, arg);
    case OKO_ARG_KEY:
        name_argument(what, sizeof(what), arg, "key", call->helper);
        return oko_walk_readable(w, arg, NULL, w->map[call->map].item_size, what);
    case OKO_ARG_VALUE:
        name_argument(what, sizeof(what), arg, "value", call->helper);
        return oko_walk_readable(w, arg, NULL, w->map[call->map].value_size, what);
    case OKO_ARG_MEM: /* with its size, which comes next */
        return 0;
    case OKO_ARG_SIZE: {
        status = check_size(w, call, arg);
        if (status != 0)
            return status;
        struct oko_reg size = *oko_walk_reg(w, arg);
        name_argument(what, sizeof(what), arg - 1, "memory", call->helper);
        return oko_walk_readable(w, arg - 1, &size, 0, what);
    }
    case OKO_ARG_FMT:
        return check_format(w, call, arg);
    case OKO_ARG_SCALAR:
        return check_number(w, call, arg);
    case OKO_ARG_VARARG:
        return (int)arg - 2 < call->n_varargs ? check_number(w, call, arg) : 0;
    }
    return 0;
}

/* ---------------------------------------------------------------- helpers */

/* What is known of an array's index: whether it is always inside, and its one value. */
static void look_at_index(struct oko_walk *w, const struct oko_map_spec *map, bool *ok,
                          bool *constant, uint64_t *index)
{
    const struct oko_reg *key = oko_walk_reg(w, 2);
    struct oko_reg value;
    int64_t off;
    *ok = *constant = false;
    *index = 0;
    if (map->type != OKO_MAP_ARRAY && map->type != OKO_MAP_WORKER_ARRAY)
        return;
    if (!oko_reg_offset_const(key, &off))
        return;
    if (key->type == OKO_REG_STACK) {
        value =
            oko_state_load(&w->cur, key->frame, (uint32_t)(off + OKO_STACK_SIZE), map->key_size);
    } else if (key->type == OKO_REG_DATA && w->spec->data[key->index].writable == 0) {
        uint64_t x = 0;
        if (w->spec->data[key->index].bytes != NULL)
            memcpy(&x, w->spec->data[key->index].bytes + off, map->key_size);
        value = oko_reg_const(x);
    } else {
        return;
    }
    if (value.type != OKO_REG_SCALAR || value.s.full.umax >= map->max_entries)
        return;
    *ok = true;
    *constant = oko_scalar_is_const(&value.s);
    *index = value.s.full.umin;
}

static void note_state(struct oko_walk *w, const struct call *call, int32_t id)
{
    const struct oko_map_class *cls = call->map >= 0 ? &w->map[call->map] : NULL;
    bool writes = call->helper->stateful;
    if (cls != NULL)
        writes |= (id == OKO_HELPER_MAP_LOOKUP && cls->lookup_writes) ||
                  (id == OKO_HELPER_MAP_UPDATE && cls->has_update) ||
                  (id == OKO_HELPER_MAP_DELETE && cls->has_delete) ||
                  (id == OKO_HELPER_MAP_ADD && cls->has_add);
    if (writes)
        oko_gather_stateful(w);
}

static int call_helper(struct oko_walk *w, int32_t id)
{
    struct call call = {oko_helper(id), -1, 0, 0};
    if (call.helper == NULL)
        return oko_refuse(w, NULL, "there is no helper number %" PRId32, id);
    for (unsigned arg = 1; arg <= 5; arg++) {
        int status = check_argument(w, &call, arg);
        if (status != 0)
            return status;
    }
    if (id == OKO_HELPER_MAP_LOOKUP && !w->map[call.map].has_lookup)
        return oko_refuse(w, NULL, "map %.63s has no lookup", w->spec->maps[call.map].name);
    note_state(w, &call, id);
    w->weight += call.helper->weight + call.weight;

    struct oko_reg result;
    bool index_ok = false, index_const = false;
    uint64_t index = 0;
    if (call.helper->ret == OKO_RET_VALUE_OR_NULL) {
        look_at_index(w, &w->spec->maps[call.map], &index_ok, &index_const, &index);
        result = oko_reg_pointer(OKO_REG_VALUE);
        result.index = (uint16_t)call.map;
        result.obj = w->next_id++;
        result.maybe_null = w->map[call.map].lookup_may_fail && !index_ok;
    } else if (id == OKO_HELPER_HASH) {
        result = oko_reg_loaded(&w->cur, 4);
    } else {
        result = oko_reg_loaded(&w->cur, 8);
    }
    oko_gather_call(w, call.map, index_ok, index_const, index);
    *oko_walk_reg(w, 0) = result;
    for (unsigned r = 1; r <= 5; r++)
        *oko_walk_reg(w, r) = oko_reg_unset();
    return 0;
}

/* ---------------------------------------------------------------- local functions */

static int enter(struct oko_walk *w, uint32_t target, uint32_t *next)
{
    struct oko_state *st = &w->cur;
    struct oko_state_frame *caller = oko_state_top(st);
    if (st->n_frames == OKO_MAX_FRAMES) /* cfg.c has seen to it; a belt beside the braces */
        return oko_refuse(w, NULL, "calls are nested too deep");
    uint32_t func = oko_cfg_func_at(&w->cfg, target);
    uint32_t ctx = oko_walk_ctx(w, caller->ctx, w->pc, func);
    if (ctx == OKO_CFG_NONE)
        return oko_walk_no_memory(w);
    struct oko_state_frame *frame = &st->frame[st->n_frames];
    memset(frame, 0, sizeof(*frame));
    frame->func = func;
    frame->call_pc = w->pc;
    frame->ctx = ctx;
    for (unsigned r = 0; r <= 5; r++) {
        if (r > 0)
            frame->r[r] = caller->r[r];
        caller->r[r] = oko_reg_unset();
    }
    frame->r[10] = oko_reg_pointer(OKO_REG_STACK);
    frame->r[10].frame = (uint8_t)st->n_frames;
    st->n_frames++;
    *next = target;
    return 0;
}

int oko_walk_call(struct oko_walk *w, uint32_t *next)
{
    struct oko_insn i = w->spec->insns[w->pc];
    if (oko_insn_src(i) == OKO_PSEUDO_LOCAL)
        return enter(w, (uint32_t)((int64_t)w->pc + 1 + i.imm), next);
    return call_helper(w, i.imm);
}

static void leave(struct oko_walk *w, uint32_t *next)
{
    struct oko_state *st = &w->cur;
    struct oko_state_frame *callee = oko_state_top(st);
    uint32_t depth = st->n_frames - 1, n = 0;
    *next = callee->call_pc + 1;
    st->frame[depth - 1].r[0] = callee->r[0];
    oko_state_drop_frame(st, depth);
    for (uint32_t i = 0; i < st->n_ghosts; i++)
        if (st->ghost[i].frame < depth)
            st->ghost[n++] = st->ghost[i];
    st->n_ghosts = n;
    st->n_frames = depth;
}

int oko_walk_exit(struct oko_walk *w, uint32_t *next)
{
    const struct oko_reg *r0 = oko_walk_reg(w, 0);
    if (w->cur.n_frames > 1) {
        if (r0->type == OKO_REG_STACK && r0->frame == w->cur.n_frames - 1)
            return oko_refuse(w, "let the caller pass a buffer",
                              "the function returns an address on its own stack");
        leave(w, next);
        return 0;
    }
    *next = OKO_CFG_NONE;
    if (r0->type == OKO_REG_UNSET)
        return oko_refuse(w, "return a value on every path",
                          "the program ends without a result: r0 "
                          "has not been set on every path");
    if (r0->type != OKO_REG_SCALAR)
        return oko_refuse(w, "return a number", "the program returns %s", oko_reg_describe(r0));
    return 0;
}
