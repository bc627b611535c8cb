"""Mistakes of the 2018 prototype that could come back, as far as the other files have not got them.

The numbers are those of the list of its bugs that tests/differential/test_oko2018.py follows too.
Wrong decisions (1 to 4, 6, 19) are in faults_datapath.py, the verifier's holes (7) in
faults_verifier.py. Of the list's rest, 15, 16, 18, 21 and 24 are about the protocol.
"""

from __future__ import annotations

from fault import Fault

OKO2018 = "tests/differential/test_oko2018.py::"
PROGRAM = "tests/unit/test_filter_program.py::"

MISTAKES_2018 = [
    Fault(
        "2018-5-uses-leak",
        "a flow that is gone still counts as a user of its program",
        "csrc/commit.c",
        "    dp->slots[rule->slot].n_flows--;",
        "    (void)0;",
        OKO2018 + "test_2_a_recycled_number_does_not_remember",
    ),
    Fault(
        "2018-8-large-code",
        "machine code that outgrows its buffer is refused",
        "csrc/bpf/jit/x64.c",
        "    uint8_t *new = realloc(a->code, want);",
        "    uint8_t *new = want > 8192 ? NULL : realloc(a->code, want);",
        "test_jit",
    ),
    Fault(
        "2018-10-falls-off-the-end",
        "a program may run past its last instruction",
        "csrc/bpf/insn.c",
        "            status = check_end(&c);",
        "            (void)check_end;",
        "test_insn",
    ),
    Fault(
        "2018-11-exponential",
        "the verifier walks every path on its own, though one like it was walked",
        "csrc/bpf/verify/node.c",
        "        if (within)\n",
        "        if (within && full)\n",
        "tests/bpf/test_verifier_work.py::test_many_loops_side_by_side",
    ),
    Fault(
        "2018-12-times-zero",
        "7 * 0 is not 0",
        "csrc/bpf/jit/emit.c",
        "            x64_imul_i(&j->a, op->w, dst, src, (int32_t)op->imm);",
        "            x64_imul_i(&j->a, op->w, dst, src, op->imm ? (int32_t)op->imm : 1);",
        "test_jit",
    ),
    Fault(
        "2018-12-divisor",
        "the test for division by zero looks at the wrong register",
        "csrc/bpf/jit/div.c",
        "        x64_test(a, w, R11, R11);",
        "        x64_test(a, w, RAX, RAX);",
        "test_jit",
    ),
    Fault(
        "2018-12-upper-half",
        "a 32-bit move keeps the upper half",
        "csrc/bpf/jit/emit.c",
        "    if (src != dst || !w)\n        x64_mov(&j->a, w, dst, src);",
        "    if (src != dst)\n        x64_mov(&j->a, true, dst, src);",
        "test_jit",
    ),
    Fault(
        "2018-12-le16",
        "a conversion to 16-bit little endian does not cut off the rest",
        "csrc/bpf/jit/emit.c",
        "            x64_movzx(a, op->width, jit_reg[op->dst], jit_use(j, op->a, R11));",
        "            x64_mov(a, true, jit_reg[op->dst], jit_use(j, op->a, R11));",
        "test_jit",
    ),
    Fault(
        "2018-14-sizes-wrap",
        "entries times their size wraps at 32 bits: a huge map gets little memory",
        "csrc/bpf/map_array.c",
        "    uint64_t values = oko_size_mul(spec->max_entries, stride_of(spec));",
        "    uint64_t values = (uint32_t)oko_size_mul(spec->max_entries, stride_of(spec));",
        PROGRAM + "test_impossible_maps_are_refused",
    ),
    Fault(
        "2018-17-array-index",
        "only the lower half of an array's 8-byte index is compared with its size",
        "csrc/bpf/map_array.c",
        "    return index < map->spec.max_entries ? value_at(",
        "    return (uint32_t)index < map->spec.max_entries ? value_at(",
        "test_map",
    ),
    Fault(
        "2018-22-order-of-masks",
        "the first mask that fits decides, not the priority",
        "csrc/cls_lookup.c",
        "go_on(cls, order->at[s].subtable, key, &before);\n        if (rule)",
        "go_on(cls, order->at[s].subtable, key, &before);\n        if (rule && !cands->n)",
        OKO2018 + "test_a_no_leads_to_the_next_flow_at_any_depth",
    ),
    Fault(
        "2018-23-no-frame-for-programs",
        "a packet sent by the controller meets programs that see another frame",
        "csrc/packet_out.c",
        "    oko_show_packet(w->pkts, w->in); /* for a resubmit */",
        "",
        "tests/switch/test_packet_out.py::test_resubmit_without_a_pass_runs_programs",
    ),
    Fault(
        "2018-25-programs-leak",
        "a program that was replaced or unloaded is never freed",
        "csrc/commit.c",
        "    if (progs->slot[0]) /* put there by retire() */",
        "    if (0)",
        "tests/soak/test_leaks.py::test_flows_of_a_datapath",
    ),
]
