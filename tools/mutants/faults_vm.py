"""Faults of the VM: interpreter, JIT, maps, and the tests' own twins of maps."""

from __future__ import annotations

from fault import Fault

CHECKS = "test_jit_checks"
COST = "test_jit_cost"

VM = [
    # Results stay equal; only speed is lost.
    Fault(
        "jit-falls-back",
        "asked for machine code, the interpreter runs instead",
        "csrc/bpf/prog.c",
        "    if (interpret)\n        return oko_interp_run(prog, env, in);",
        "    (void)interpret;\n    if (prog->interp != NULL)\n"
        "        return oko_interp_run(prog, env, in);",
        CHECKS,
    ),
    Fault(
        "no-code",
        "programs are loaded without machine code, and nobody says so",
        "csrc/bpf/prog.c",
        "    status = oko_jit_compile(prog, error);",
        "    status = OKO_E_UNSUP;",
        CHECKS,
    ),
    Fault(
        "no-batches",
        "a batch is run packet by packet",
        "csrc/bpf/prog.c",
        "    if (interpret || prog->facts.guards != 0)\n",
        "    if (prog->interp != NULL)\n",
        CHECKS,
    ),
    Fault(
        "no-key-fusion",
        "keys are read from the stack, wider than they were stored",
        "csrc/bpf/jit/keys.c",
        "    if (b->n_pieces > JIT_MAX_PIECES) {",
        "    if (b->n_pieces != 0) {",
        COST,
    ),
    Fault(
        "no-inlined-maps",
        "lookups call the map's function",
        "csrc/bpf/jit/peep.c",
        "    bool in_place = !(jit_skip & JIT_SKIP_INLINE);",
        "    bool in_place = false;",
        COST,
    ),
    # Results are wrong.
    Fault(
        "shared-instructions",
        "instructions of two functions are rewritten with what one of them knows",
        "csrc/bpf/jit/entry.c",
        "        jit_find_sharing(j);",
        "        (void)j;",
        CHECKS,
    ),
    Fault(
        "stale-flags",
        "a comparison with memory leaves an earlier one's flags valid",
        "csrc/bpf/jit/emit.c",
        "        j->flags_valid = false;\n        if (tests_bits(op))",
        "        if (tests_bits(op))",
        "test_jit",
    ),
    Fault(
        "endless-frames",
        "unverified programs recurse until the stack is full",
        "csrc/bpf/jit/call.c",
        "    jit_emit_abort_if(j, X64_AE, true);",
        "    (void)depth;",
        CHECKS,
    ),
    Fault(
        "no-guards",
        "machine code leaves out the checks of guarded loading",
        "csrc/bpf/jit/emit.c",
        "    if (guarded(j, pc))\n        emit_guard(j, op, pc);",
        "    if (0)\n        emit_guard(j, op, pc);",
        CHECKS,
    ),
    Fault(
        "guard-of-a-byte",
        "the check of a wide access looks at its first byte only",
        "csrc/bpf/jit/emit.c",
        "        x64_alu_i(a, X64_SUB, true, R10, op->width);",
        "        x64_alu_i(a, X64_SUB, true, R10, 1);",
        CHECKS,
    ),
    Fault(
        "endless-loops",
        "machine code does not count back edges",
        "csrc/bpf/jit/emit.c",
        "        jit_emit_abort_if(j, X64_S, true);",
        "        (void)pc;",
        CHECKS,
    ),
    Fault(
        "unwind-goes-on",
        "helper 5 of conformance programs does not end the run",
        "csrc/bpf/jit/call.c",
        "    x64_test(&j->a, true, RAX, RAX);\n    jit_emit_abort_if(j, X64_E, false);",
        "    x64_test(&j->a, true, RAX, RAX);",
        CHECKS,
    ),
    Fault(
        "callx-of-nothing",
        "a call by register of no helper goes on",
        "csrc/bpf/jit/call.c",
        "    return h ? (const void *)(uintptr_t)h->fn : NULL;",
        "    return (const void *)(uintptr_t)(h ? h : oko_helper(6))->fn;",
        CHECKS,
    ),
    Fault(
        "caller-loses-registers",
        "a run that a sub-function ends leaves that function's registers to the caller",
        "csrc/bpf/jit/entry.c",
        "    uint32_t saves = entry && j->aborts_in_sub ? j->used : j->func->used;",
        "    uint32_t saves = j->func->used;",
        CHECKS,
    ),
    Fault(
        "one-byte-further",
        "a legacy load by register reads one byte beyond the packet",
        "csrc/bpf/jit/emit.c",
        "        x64_alu_i(a, X64_SUB, true, R10, (int32_t)width);",
        "        x64_alu_i(a, X64_SUB, true, R10, (int32_t)width - 1);",
        CHECKS,
    ),
    Fault(
        "writable-code",
        "code is executable while it is written",
        "csrc/bpf/jit/exec.c",
        "mmap((void *)hint, size, PROT_READ | PROT_WRITE, flags",
        "mmap((void *)hint, size, PROT_READ | PROT_WRITE | PROT_EXEC, flags",
        CHECKS,
    ),
    Fault(
        "no-chains",
        "an inlined lookup does not see entries that overflowed their bucket",
        "csrc/bpf/jit/maps.c",
        "    x64_jcc(a, X64_NE, chain);",
        "    (void)a;",
        "test_jit_maps",
    ),
    Fault(
        "untouched",
        "an inlined lookup does not keep an LRU entry from being dropped",
        "csrc/bpf/jit/maps.c",
        "    if (table->referenced)\n        emit_touch(j, table);",
        "    if (0)\n        emit_touch(j, table);",
        "test_jit_maps",
    ),
    Fault(
        "stale-jumps",
        "lookups in an LPM trie come to entries that were deleted",
        "csrc/bpf/map_lpm.c",
        "    refresh_jumps(lpm, &prefix);",
        "    (void)prefix;",
        "test_map",
    ),
    # The tests' own means.
    Fault(
        "agreeable-twin",
        "the twin agrees with whatever bytes the map has",
        "tests/c/map_drive.h",
        '#include "map_twin.h"\n',
        '#include "map_twin.h"\n#define memcmp(a, b, n) ((void)(a), (void)(b), 0)\n',
        "test_map",
    ),
    Fault(
        "blind-twin",
        "a dump is not compared with the twin's entries",
        "tests/c/map_drive.h",
        "    CHECK(n == 0 && total == d->twin->n_entries);",
        "    CHECK(n == 0);",
        "test_map",
    ),
]
