"""Faults of the verifier: the eleven holes of the 2018 prototype's, one by one, and others that
would let a program out of its cage.
"""

from __future__ import annotations

from fault import Fault

CASES = "tests/bpf/test_verifier.py::"
NAMED = CASES + "test_refused[oko2018: "
REFUSED = CASES + "test_refused[refused: "

VERIFIER = [
    Fault(
        "verifier-a-longest-packet",
        "what a packet may have at most is taken for what it has at least",
        "csrc/bpf/verify/access.c",
        "    if (a->hi + (oko_wide)a->width <= len->lo)\n        return true;",
        "    if (a->hi + (oko_wide)a->width <= len->hi)\n        return true;",
        NAMED + "a: the length is not 1, so byte 30000 is there]",
    ),
    Fault(
        "verifier-b-length-plus-constant",
        "the length plus a constant is the packet's length too",
        "csrc/bpf/verify/state.c",
        "    case BPF_ADD:\n        return oko_form_add(out, &a->f, 1, &b->f);",
        "    case BPF_ADD:\n        if (known) {\n            *out = a->f;\n"
        "            return true;\n        }\n        return oko_form_add(out, &a->f, 1, &b->f);",
        NAMED + "b: the length grows by 1000 and the packet with it]",
    ),
    Fault(
        "verifier-c-own-offset",
        "only the instruction's own offset is compared with the stack's size",
        "csrc/bpf/verify/access.c",
        "    oko_wide first = a->lo + OKO_STACK_SIZE, end = a->hi + OKO_STACK_SIZE + "
        "(oko_wide)a->width;",
        "    oko_wide first = a->off + OKO_STACK_SIZE, end = first + (oko_wide)a->width;",
        NAMED + "c: a store far above the stack]",
    ),
    Fault(
        "verifier-d-registers-survive",
        "r1 to r5 are still there after a call",
        "csrc/bpf/verify/invoke.c",
        "    *oko_walk_reg(w, 0) = result;\n    for (unsigned r = 1; r <= 5; r++)",
        "    *oko_walk_reg(w, 0) = result;\n    for (unsigned r = 1; r <= 0; r++)",
        NAMED + "d: the packet through a register that the call clobbered]",
    ),
    Fault(
        "verifier-e-number-as-map",
        "any number is a map",
        "csrc/bpf/verify/invoke.c",
        "    if (r->type != OKO_REG_MAP)",
        "    if (r->type != OKO_REG_MAP && r->type != OKO_REG_SCALAR)",
        NAMED + "e: a number as map]",
    ),
    Fault(
        "verifier-f-value-as-map",
        "a map's value is a map",
        "csrc/bpf/verify/invoke.c",
        "    if (r->type != OKO_REG_MAP)",
        "    if (r->type != OKO_REG_MAP && r->type != OKO_REG_VALUE)",
        NAMED + "f: a map's value as map]",
    ),
    Fault(
        "verifier-g-unset-source",
        "arithmetic takes an unset register as its source",
        "csrc/bpf/verify/step.c",
        "    if (status == 0 && (i.code & BPF_X) != 0)\n"
        "        status = oko_need_set(w, oko_insn_src(i));",
        "",
        NAMED + "g: an unset register as source [1: add_%r0,_%r6 r6 r0_+=_r6]]",
    ),
    Fault(
        "verifier-h-patched-pointer",
        "a spilled pointer stays one when a part of it is overwritten",
        "csrc/bpf/verify/stack.c",
        "    uint32_t at = cut(st, frame, pos, size);\n    insert(",
        "    uint32_t at = first_behind(st, frame, pos);\n"
        "    if (at < st->n_pieces && st->piece[at].frame == frame && st->piece[at].pos <= pos &&\n"
        "        size < st->piece[at].size)\n"
        "        return;\n"
        "    at = cut(st, frame, pos, size);\n    insert(",
        NAMED + "h: a pointer with another low byte]",
    ),
    Fault(
        "verifier-i-print-anything",
        "printf takes addresses",
        "csrc/bpf/verify/invoke.c",
        "    if (r->type != OKO_REG_SCALAR)\n"
        '        return oko_refuse(w, "pass numbers; addresses must not leave the program",',
        "    if (r->type == OKO_REG_UNSET)\n"
        '        return oko_refuse(w, "pass numbers; addresses must not leave the program",',
        NAMED + "i: an address to the log]",
    ),
    Fault(
        "verifier-j-call-is-helper",
        "a call of a function is taken for one of the helper with that number",
        "csrc/bpf/verify/invoke.c",
        "    if (oko_insn_src(i) == OKO_PSEUDO_LOCAL)",
        "    if (oko_insn_src(i) == OKO_PSEUDO_LOCAL && oko_helper(i.imm) == NULL)",
        NAMED + "j: call +5 leads to a function, which is verified]",
    ),
    Fault(
        "verifier-k-address-as-result",
        "a program may return an address",
        "csrc/bpf/verify/invoke.c",
        "    if (r0->type != OKO_REG_SCALAR)",
        "    if (r0->type == OKO_REG_UNSET)",
        NAMED + "k: the result is an address [1: mov_%r0,_%r1 an_address_in_the_packet]]",
    ),
    Fault(
        "verifier-write-to-packet",
        "a program may write to the packet",
        "csrc/bpf/verify/access.c",
        "    if (a->kind != OKO_READ)\n"
        '        return oko_refuse(w, "copy what you want to change to the stack or a map",',
        "    if (0)\n"
        '        return oko_refuse(w, "copy what you want to change to the stack or a map",',
        REFUSED + "a write to the packet [1: stb_[%r1+22],_7 *(u8_*)(r1_+_22)_=_7]]",
    ),
    Fault(
        "verifier-untested-lookup",
        "the result of a lookup is used without a test for NULL",
        "csrc/bpf/verify/invoke.c",
        "        result.maybe_null = w->map[call.map].lookup_may_fail && !index_ok;",
        "        result.maybe_null = false;",
        REFUSED
        + "a lookup that may have failed [1: ldxdw_%r0,_[%r0] this_read r0_=_*(u64_*)(r0_+_0)]]",
    ),
    Fault(
        "verifier-guessed-address",
        "an address plus anything is never NULL",
        "csrc/bpf/verify/branch.c",
        "    return p->s.full.smin >= INT16_MIN && p->s.full.smax <= INT32_MAX;",
        "    return p->type != OKO_REG_UNSET;",
        REFUSED + "an address that somebody may have guessed]",
    ),
    Fault(
        "verifier-step-may-be-zero",
        "a loop whose counter may stand still is taken for one that ends",
        "csrc/bpf/verify/node.c",
        "(least < 1 && most > -1)",
        "(least < 0 && most > 0)",
        REFUSED + "a step that may be zero]",
    ),
    Fault(
        "verifier-unguarded-read",
        "guarded loading forgets to check a read of the packet",
        "csrc/bpf/verify/access.c",
        "    oko_gather_guard(w, OKO_GUARD_PKT, -1);",
        "",
        "tests/bpf/test_guarded.py::test_a_read_beyond_the_packet_ends_without_match",
    ),
    Fault(
        "verifier-no-fuel",
        "guarded loading forgets to count the rounds of a loop",
        "csrc/bpf/verify/walk.c",
        "                oko_gather_fuel(w, w->edge[e].last_pc);",
        "                (void)w->edge[e].last_pc;",
        "tests/bpf/test_guarded.py::test_a_loop_without_end_runs_out_of_fuel",
    ),
    Fault(
        "verifier-join-of-one-side",
        "a join keeps what only one of the two states knows",
        "csrc/bpf/verify/invariant.c",
        "    if (holds(join, true, con) && holds(join, false, con))",
        "    if (holds(join, true, con))",
        "test_state",
    ),
    Fault(
        "verifier-inclusion-without-relations",
        "a state lies within another one that knows more inequalities",
        "csrc/bpf/verify/within.c",
        "        if (!oko_rel_proves(&fresh->rel, &con))",
        "        if (0)",
        "test_state",
    ),
    Fault(
        "verifier-32-bit-sum-as-64",
        "a 32-bit sum that wraps around keeps the 64-bit sum's form",
        "csrc/bpf/verify/state.c",
        "    if (bits == 32) {",
        "    if (bits == 16) {",
        "test_state",
    ),
    Fault(
        "verifier-off-by-one",
        "what is at most 1 is taken for what is at most 0",
        "csrc/bpf/verify/linear.c",
        "        if (oko_rel_upper(rel, form, depth) <= 0)",
        "        if (oko_rel_upper(rel, form, depth) <= 1)",
        "test_linear",
    ),
    Fault(
        "verifier-forgetting-the-wrong-end",
        "what is forgotten gives way to the wrong end of its interval",
        "csrc/bpf/verify/linear.c",
        "oko_form_const(a > 0 ? bound->lo : bound->hi)",
        "oko_form_const(a > 0 ? bound->hi : bound->lo)",
        "test_linear",
    ),
    Fault(
        "verifier-borrow-free",
        "the smallest difference leaves out the larger subtrahend",
        "csrc/bpf/verify/range.c",
        "bound_unsigned(w, &r, (wide)a.umin - b.umax, (wide)a.umax - b.umin);",
        "bound_unsigned(w, &r, (wide)a.umin - b.umin, (wide)a.umax - b.umin);",
        "test_scalar",
    ),
]
