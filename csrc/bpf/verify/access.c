/* Loads, stores, atomics, and the memory that helpers read; see walk.h.
 *
 * Every access is one of: within the packet (offset + width <= len, by form or interval), within a
 * fixed-size object (map value, data section, metadata), or on a stack. What cannot be proved of a
 * packet or a map value is refused, or in guarded loading left to a run-time check. */
#include "walk.h"

#include <inttypes.h>
#include <string.h>

/* An access as the checks below see it. */
struct access {
    const struct oko_reg *base;
    int64_t off;     /* of the instruction */
    oko_wide lo, hi; /* bounds of base offset + off */
    uint64_t width;  /* bytes */
    enum oko_access kind;
    const char *what; /* "this read"; "argument r2 (key) of map_lookup" */
};

static struct access make_access(struct oko_walk *w, const struct oko_reg *base, int64_t off,
                                 uint64_t width, enum oko_access kind, const char *what)
{
    struct access a = {base, off, 0, 0, width, kind, what};
    oko_gather_object(w, base);
    oko_reg_offset(&w->cur, base, &a.lo, &a.hi);
    a.lo += off;
    a.hi += off;
    return a;
}

static int64_t shown(oko_wide x)
{
    return x < INT64_MIN ? INT64_MIN : x > INT64_MAX ? INT64_MAX : (int64_t)x;
}

/* ---------------------------------------------------------------- packet */

/* offset + width <= len, as a form <= 0; false when it does not fit. */
static bool packet_form(const struct access *a, struct oko_form *out)
{
    struct oko_form len = oko_form_id(OKO_ID_LEN), end = oko_form_const(a->off);
    return a->width <= OKO_MAX_PKT && !__builtin_add_overflow(end.c, (int64_t)a->width, &end.c) &&
           oko_form_add_exact(out, &a->base->f, -1, &len) && oko_form_add_exact(out, out, 1, &end);
}

static bool packet_starts_inside(struct oko_walk *w, const struct access *a)
{
    struct oko_form start, zero = oko_form_const(0), off = oko_form_const(-a->off);
    if (a->lo >= 0)
        return true;
    return oko_form_add_exact(&start, &zero, -1, &a->base->f) &&
           oko_form_add_exact(&start, &start, 1, &off) && oko_rel_proves(&w->cur.rel, &start);
}

static bool packet_ends_inside(struct oko_walk *w, const struct access *a)
{
    struct oko_form end;
    const struct oko_bound *len = oko_rel_id(&w->cur.rel, OKO_ID_LEN);
    if (a->hi + (oko_wide)a->width <= len->lo)
        return true;
    return packet_form(a, &end) && oko_rel_proves(&w->cur.rel, &end);
}

static int refuse_packet(struct oko_walk *w, const struct access *a)
{
    const struct oko_bound *len = oko_rel_id(&w->cur.rel, OKO_ID_LEN);
    const char *hint = "compare first: if (offset + size > len) return 0; with the offset that is "
                       "used here";
    if (a->lo < 0 && !packet_starts_inside(w, a))
        return oko_refuse(w, "show that the offset is not negative before using it",
                          "%s may begin before the packet, at offset %" PRId64, a->what,
                          shown(a->lo));
    if (len->hi < OKO_MAX_PKT && (len->lo == 0 || a->lo + (oko_wide)a->width > len->hi))
        return oko_refuse(w,
                          "the test of the length is the wrong way round: leave when the packet "
                          "is too short, if (offset + size > len) return 0;",
                          "%s needs %" PRId64 " bytes of packet, but here it has %" PRId64
                          " to %" PRId64,
                          a->what, shown(a->lo + (oko_wide)a->width), len->lo, len->hi);
    if (a->lo == a->hi)
        return oko_refuse(w, hint,
                          "%s needs %" PRId64 " bytes of packet, but only %" PRId64
                          " are sure to be there",
                          a->what, shown(a->hi + (oko_wide)a->width), len->lo);
    if (a->hi > OKO_MAX_PKT)
        return oko_refuse(w, hint, "%s is at an unbounded offset of the packet", a->what);
    return oko_refuse(w, hint,
                      "%s may reach beyond the packet: it ends at offset %" PRId64 " to %" PRId64
                      ", and nothing shows that this is within len",
                      a->what, shown(a->lo + (oko_wide)a->width),
                      shown(a->hi + (oko_wide)a->width));
}

static int check_packet(struct oko_walk *w, const struct access *a, bool may_guard)
{
    struct oko_form end;
    if (a->kind != OKO_READ)
        return oko_refuse(w, "copy what you want to change to the stack or a map",
                          "the program writes to the packet");
    if (packet_starts_inside(w, a) && packet_ends_inside(w, a))
        return 0;
    if (!may_guard || !oko_walk_guarded(w))
        return refuse_packet(w, a);
    oko_gather_guard(w, OKO_GUARD_PKT, -1);
    /* Whoever passes the guard has been inside. */
    if (packet_form(a, &end) && a->lo >= 0 && a->hi <= INT32_MAX)
        oko_rel_assume(&w->cur.rel, &end);
    return 0;
}

/* ---------------------------------------------------------------- objects of fixed size */

static bool inside(const struct access *a, uint64_t size)
{
    return a->lo >= 0 && a->hi + (oko_wide)a->width <= (oko_wide)size;
}

static int refuse_bounds(struct oko_walk *w, const struct access *a, const char *object,
                         const char *name, uint64_t size)
{
    const char *hint = "compare the index with the size of the array first";
    if (a->lo == a->hi)
        return oko_refuse(
            w, NULL, "%s covers bytes %" PRId64 " to %" PRId64 " of %s %.63s, which has %" PRIu64,
            a->what, shown(a->lo), shown(a->hi + (oko_wide)a->width - 1), object, name, size);
    if (a->lo < 0)
        return oko_refuse(w, "show that the index is not negative, or make it unsigned",
                          "%s may begin before %s %.63s, at offset %" PRId64, a->what, object, name,
                          shown(a->lo));
    return oko_refuse(w, hint, "%s may reach byte %" PRId64 " of %s %.63s, which has %" PRIu64,
                      a->what, shown(a->hi + (oko_wide)a->width - 1), object, name, size);
}

static int check_value(struct oko_walk *w, const struct access *a, bool may_guard)
{
    const struct oko_map_class *cls = &w->map[a->base->index];
    const char *name = w->spec->maps[a->base->index].name;
    if (a->base->maybe_null)
        return oko_refuse(w, "test it: if (value == NULL) return 0;",
                          "%s goes through the result of a map lookup that may be NULL", a->what);
    if (a->kind != OKO_READ && !cls->value_writable)
        return oko_refuse(w, "add items with bpf_map_add",
                          "the program writes to a result of the sketch %.63s, which is read-only",
                          name);
    if (a->kind != OKO_READ)
        oko_gather_stateful(w);
    if (inside(a, cls->value_size))
        return 0;
    if (may_guard && oko_walk_guarded(w)) {
        oko_gather_guard(w, OKO_GUARD_VALUE, (int16_t)a->base->index);
        return 0;
    }
    return refuse_bounds(w, a, "a value of map", name, cls->value_size);
}

static int check_data(struct oko_walk *w, const struct access *a)
{
    const struct oko_data_spec *data = &w->spec->data[a->base->index];
    if (a->kind != OKO_READ && data->writable == 0)
        return oko_refuse(w, "constants cannot be changed; use a variable that is not const",
                          "the program writes to read-only data %.63s", data->name);
    if (a->kind != OKO_READ)
        oko_gather_stateful(w);
    return inside(a, data->size) ? 0 : refuse_bounds(w, a, "section", data->name, data->size);
}

static int check_meta(struct oko_walk *w, const struct access *a)
{
    oko_gather_meta(w);
    if (a->kind != OKO_READ)
        return oko_refuse(w, NULL, "the program writes to struct oko_meta, which is read-only");
    return inside(a, sizeof(struct oko_meta))
               ? 0
               : refuse_bounds(w, a, "struct", "oko_meta", sizeof(struct oko_meta));
}

/* ---------------------------------------------------------------- stack */

/* The bytes from *pos on, of the frame's lowest: *span of them where the offset varies. */
static int check_stack(struct oko_walk *w, const struct access *a, uint32_t *pos, uint32_t *span)
{
    oko_wide first = a->lo + OKO_STACK_SIZE, end = a->hi + OKO_STACK_SIZE + (oko_wide)a->width;
    if (first < 0 || end > OKO_STACK_SIZE || first > end) {
        if (a->lo == a->hi)
            return oko_refuse(w, "a frame has 512 bytes, below r10",
                              "%s is outside the stack: bytes %" PRId64 " to %" PRId64 " from r10",
                              a->what, shown(a->lo), shown(a->hi + (oko_wide)a->width - 1));
        return oko_refuse(w, "compare the index with the size of the array first",
                          "%s may be outside the stack: bytes %" PRId64 " to %" PRId64 " from r10",
                          a->what, shown(a->lo), shown(a->hi + (oko_wide)a->width - 1));
    }
    *pos = (uint32_t)first;
    *span = (uint32_t)(end - first);
    oko_gather_stack(w, a->base->frame, *pos);
    return 0;
}

/* Whether a byte of the frame belongs to a saved pointer, and which. */
static const struct oko_reg *pointer_at(const struct oko_state *st, uint32_t frame, uint32_t pos)
{
    for (uint32_t i = 0; i < st->n_pieces; i++) {
        const struct oko_piece *piece = &st->piece[i];
        if (piece->frame == frame && piece->pos <= pos &&
            pos < (uint32_t)piece->pos + piece->size && oko_reg_is_pointer(&piece->r))
            return &piece->r;
    }
    return NULL;
}

static int refuse_part(struct oko_walk *w, const struct access *a, const struct oko_reg *pointer)
{
    return oko_refuse(w, "load a saved pointer whole, into one register",
                      "%s takes a part of %s as a number", a->what, oko_reg_describe(pointer));
}

/* All bytes must hold numbers. */
static int check_numbers(struct oko_walk *w, const struct access *a, uint32_t pos, uint32_t span)
{
    uint32_t bad;
    if (oko_state_initialised(&w->cur, a->base->frame, pos, span, &bad))
        return 0;
    const struct oko_reg *pointer = pointer_at(&w->cur, a->base->frame, bad);
    if (pointer != NULL)
        return refuse_part(w, a, pointer);
    return oko_refuse(w, "initialise the variable, padding included: struct key key = {0};",
                      "%s reads stack byte r10%+d, which has not been set on every path to here",
                      a->what, (int)bad - OKO_STACK_SIZE);
}

/* A load from the stack. Loading what has not been set is harmless until somebody uses it: clang
 * reloads a slot where paths meet, whether or not the path that did not set it needs it. */
static int load_from_stack(struct oko_walk *w, const struct access *a, struct oko_reg *result)
{
    uint32_t pos, span, bad, frame = a->base->frame, width = (uint32_t)a->width;
    int status = check_stack(w, a, &pos, &span);
    if (status != 0)
        return status;
    if (span != width) {
        *result = oko_reg_loaded(&w->cur, width);
        return check_numbers(w, a, pos, span);
    }
    const struct oko_piece *piece = oko_state_piece(&w->cur, frame, pos, width);
    if (piece != NULL) {
        *result = piece->r;
        return 0;
    }
    if (oko_state_initialised(&w->cur, frame, pos, width, &bad)) {
        *result = oko_state_load(&w->cur, frame, pos, width);
        return 0;
    }
    for (uint32_t k = pos; k < pos + width; k++)
        if (pointer_at(&w->cur, frame, k) != NULL)
            return refuse_part(w, a, pointer_at(&w->cur, frame, k));
    *result = oko_reg_unset();
    result->index = (uint16_t)(OKO_STACK_SIZE - bad); /* for the message */
    return 0;
}

/* ---------------------------------------------------------------- loads */

static int check_object(struct oko_walk *w, const struct access *a, bool may_guard)
{
    switch (a->base->type) {
    case OKO_REG_PKT:
        return check_packet(w, a, may_guard);
    case OKO_REG_VALUE:
        return check_value(w, a, may_guard);
    case OKO_REG_DATA:
        return check_data(w, a);
    case OKO_REG_META:
        return check_meta(w, a);
    default:
        return oko_refuse(w, "only the packet, the stack, map values and data can be accessed",
                          "%s goes through %s", a->what, oko_reg_describe(a->base));
    }
}

/* A constant from read-only data. */
static struct oko_reg load_constant(struct oko_walk *w, const struct access *a)
{
    const struct oko_data_spec *data = &w->spec->data[a->base->index];
    uint64_t x = 0;
    if (a->lo != a->hi || data->writable != 0)
        return oko_reg_loaded(&w->cur, (unsigned)a->width);
    if (data->bytes != NULL)
        memcpy(&x, data->bytes + a->lo, a->width);
    return oko_reg_const(x);
}

int oko_walk_load(struct oko_walk *w)
{
    struct oko_insn i = w->spec->insns[w->pc];
    unsigned width = oko_insn_width(i);
    struct oko_reg base = *oko_walk_reg(w, oko_insn_src(i)), result;
    int status = oko_need_set(w, oko_insn_src(i));
    if (status != 0)
        return status;
    struct access a = make_access(w, &base, i.off, width, OKO_READ, "this read");
    if (base.type == OKO_REG_STACK) {
        status = load_from_stack(w, &a, &result);
        if (status == 0 && oko_reg_is_pointer(&result) && oko_opcodes[i.code].op == OKO_BPF_LDSX)
            return refuse_part(w, &a, &result);
    } else {
        status = check_object(w, &a, true);
        result = status == 0 && base.type == OKO_REG_DATA ? load_constant(w, &a)
                                                          : oko_reg_loaded(&w->cur, width);
    }
    if (status != 0)
        return status;
    struct oko_reg *dst = oko_walk_reg(w, oko_insn_dst(i));
    *dst = result;
    if (oko_opcodes[i.code].op == OKO_BPF_LDSX && dst->type == OKO_REG_SCALAR)
        oko_reg_sext(&w->cur, 8 * width, true, dst);
    return 0;
}

/* Legacy loads at a packet offset: beyond the end the program ends without a match, so there is
 * nothing to prove; and who goes on knows that the packet is that long. */
int oko_walk_packet_load(struct oko_walk *w)
{
    struct oko_insn i = w->spec->insns[w->pc];
    unsigned width = oko_insn_width(i);
    if (oko_opcodes[i.code].op == OKO_BPF_LD_IND) {
        int status = oko_need_set(w, oko_insn_src(i));
        if (status != 0)
            return status;
        const struct oko_reg *src = oko_walk_reg(w, oko_insn_src(i));
        if (src->type != OKO_REG_SCALAR)
            return oko_refuse(w, "the offset of a packet load is a number",
                              "%s is used as an offset in the packet", oko_reg_describe(src));
    } else if (i.imm >= 0) {
        const struct oko_bound *len = oko_rel_id(&w->cur.rel, OKO_ID_LEN);
        if ((int64_t)i.imm + width > len->hi) { /* never succeeds */
            for (unsigned r = 0; r <= 5; r++)
                *oko_walk_reg(w, r) = oko_reg_unset();
            *oko_walk_reg(w, 0) = oko_reg_loaded(&w->cur, width);
            return 0;
        }
        oko_rel_narrow(&w->cur.rel, OKO_ID_LEN, (int64_t)i.imm + width, INT64_MAX);
    }
    for (unsigned r = 1; r <= 5; r++)
        *oko_walk_reg(w, r) = oko_reg_unset();
    *oko_walk_reg(w, 0) = oko_reg_loaded(&w->cur, width);
    return 0;
}

/* ---------------------------------------------------------------- stores */

static int refuse_leak(struct oko_walk *w, const struct oko_reg *value, const struct oko_reg *base)
{
    return oko_refuse(w, "store numbers only; addresses must not outlive the run",
                      "%s is written into %s", oko_reg_describe(value),
                      base->type == OKO_REG_VALUE ? "a map's value, where it would leak"
                                                  : oko_reg_describe(base));
}

static int store_to_stack(struct oko_walk *w, const struct access *a, const struct oko_reg *value)
{
    uint32_t pos, span;
    int status = check_stack(w, a, &pos, &span);
    if (status != 0)
        return status;
    bool pointer = oko_reg_is_pointer(value);
    if (pointer && (a->width != 8 || span != 8 || pos % 8 != 0))
        return oko_refuse(w, "save addresses whole, in aligned variables",
                          a->width != 8 ? "a part of %s is stored"
                                        : "%s is stored at a misaligned or variable place",
                          oko_reg_describe(value));
    if (value->type == OKO_REG_UNSET) /* saved again by clang; harmless until it is used */
        oko_state_unset(&w->cur, a->base->frame, pos, span);
    else if (span == a->width)
        oko_state_store(&w->cur, a->base->frame, pos, span, value);
    else
        oko_state_smear(&w->cur, a->base->frame, pos, span);
    return 0;
}

int oko_walk_store(struct oko_walk *w)
{
    struct oko_insn i = w->spec->insns[w->pc];
    bool by_reg = oko_opcodes[i.code].op == OKO_BPF_STX;
    struct oko_reg base = *oko_walk_reg(w, oko_insn_dst(i));
    struct oko_reg value =
        by_reg ? *oko_walk_reg(w, oko_insn_src(i)) : oko_reg_const((uint64_t)(int64_t)i.imm);
    int status = oko_need_set(w, oko_insn_dst(i));
    if (status == 0 && by_reg && base.type != OKO_REG_STACK)
        status = oko_need_set(w, oko_insn_src(i));
    if (status != 0)
        return status;
    struct access a = make_access(w, &base, i.off, oko_insn_width(i), OKO_WRITE, "this write");
    if (base.type == OKO_REG_STACK)
        return store_to_stack(w, &a, &value);
    status = check_object(w, &a, true);
    if (status == 0 && oko_reg_is_pointer(&value))
        return refuse_leak(w, &value, &base);
    return status;
}

static int check_alignment(struct oko_walk *w, const struct access *a)
{
    /* Objects begin at multiples of 8. */
    uint64_t low = a->width - 1;
    uint64_t bits = (a->base->s.full.value + (uint64_t)a->off) & low;
    if ((a->base->s.full.mask & low) == 0 && bits == 0)
        return 0;
    return oko_refuse(w, "align the counter to its size",
                      "an atomic operation on %" PRIu64 " bytes is not aligned", a->width);
}

int oko_walk_atomic(struct oko_walk *w)
{
    struct oko_insn i = w->spec->insns[w->pc];
    unsigned width = oko_insn_width(i);
    struct oko_reg base = *oko_walk_reg(w, oko_insn_dst(i));
    const struct oko_reg *src = oko_walk_reg(w, oko_insn_src(i)), *r0 = oko_walk_reg(w, 0);
    bool exchange = i.imm == (int32_t)BPF_CMPXCHG;
    int status = oko_need_set(w, oko_insn_dst(i));
    if (status == 0)
        status = oko_need_set(w, oko_insn_src(i));
    if (status == 0 && exchange)
        status = oko_need_set(w, 0);
    if (status != 0)
        return status;
    if (oko_reg_is_pointer(src) || (exchange && oko_reg_is_pointer(r0)))
        return oko_refuse(w, "atomic operations are for numbers", "an atomic operation on %s",
                          oko_reg_describe(oko_reg_is_pointer(src) ? src : r0));
    struct access a = make_access(w, &base, i.off, width, OKO_UPDATE, "this atomic operation");
    if (base.type == OKO_REG_STACK) {
        uint32_t pos, span;
        status = check_stack(w, &a, &pos, &span);
        if (status == 0)
            status = check_numbers(w, &a, pos, span);
        if (status == 0 && span == width)
            oko_state_store(&w->cur, base.frame, pos, span, NULL);
        else if (status == 0)
            oko_state_smear(&w->cur, base.frame, pos, span);
    } else {
        status = check_object(w, &a, true);
    }
    if (status == 0)
        status = check_alignment(w, &a);
    if (status != 0)
        return status;
    if (exchange)
        *oko_walk_reg(w, 0) = oko_reg_loaded(&w->cur, width);
    else if ((i.imm & BPF_FETCH) != 0)
        *oko_walk_reg(w, oko_insn_src(i)) = oko_reg_loaded(&w->cur, width);
    return 0;
}

/* ---------------------------------------------------------------- helpers' memory */

/* offset + size <= len where the size varies: the forms may know more than the intervals. */
static bool packet_holds(struct oko_walk *w, const struct oko_reg *base, const struct oko_reg *size)
{
    struct oko_form end, len = oko_form_id(OKO_ID_LEN);
    return oko_form_add_exact(&end, &base->f, 1, &size->f) &&
           oko_form_add_exact(&end, &end, -1, &len) && oko_rel_proves(&w->cur.rel, &end);
}

int oko_walk_readable(struct oko_walk *w, unsigned arg, const struct oko_reg *size,
                      uint32_t n_bytes, const char *what)
{
    struct oko_reg base = *oko_walk_reg(w, arg);
    oko_wide least = n_bytes, most = n_bytes;
    if (size != NULL)
        oko_reg_offset(&w->cur, size, &least, &most);
    if (size != NULL && (least < 0 || most > INT32_MAX))
        return oko_refuse(w, "bound the size first: if (size > sizeof(buffer)) return 0;",
                          "the size of %s is unbounded, or may be negative", what);
    if (most == 0)
        return 0;
    struct access a = make_access(w, &base, 0, (uint64_t)most, OKO_READ, what);
    if (base.type == OKO_REG_STACK) {
        uint32_t pos, span;
        int status = check_stack(w, &a, &pos, &span);
        return status != 0 ? status : check_numbers(w, &a, pos, span);
    }
    if (base.type == OKO_REG_PKT && size != NULL && packet_starts_inside(w, &a) &&
        packet_holds(w, &base, size))
        return 0;
    return check_object(w, &a, false);
}
