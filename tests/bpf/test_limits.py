"""What is refused before the verifier looks: limits, and specs and instructions that are no such.

Every reason that the sources of the decoder, of maps and of loading contain must come from a case
here or in refused.data, or be listed in NOT_FROM_A_SPEC.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from data_files import all_cases
from verifier_files import make_spec
from verifier_messages import CSRC, messages, sharpest

from oko._binding import Vm
from oko.bpf.asm import assemble
from oko.bpf.spec import DataSpec, FuncSpec, MapSpec, MapType, ProgramSpec
from oko.datapath import Datapath
from oko.errors import LoadError, OkoError

TRIVIAL = make_spec("mov %r0, 0\nexit")
NONE = replace(TRIVIAL, maps=(), data=())
GIB = 1 << 30


def with_map(type_: int, key: int, value: int, entries: int, hashes: int = 0) -> ProgramSpec:
    return replace(NONE, maps=(MapSpec("m", type_, key, value, entries, hashes),))


def with_code(text: str) -> ProgramSpec:
    return replace(TRIVIAL, insns=assemble(text))


LOOKUPS = """
    stw [%r10-4], 0
    mov %r2, %r10
    add %r2, -4
    lddw %r1, map 4
    call 1
"""

REFUSED: list[tuple[ProgramSpec, str]] = [
    (with_map(99, 4, 4, 1), "map m: there is no map type 99"),
    (with_map(0, 4, 4, 1), "map m: there is no map type 0"),
    (with_map(MapType.ARRAY, 2, 4, 1), "map m: the key of an array is neither 4 nor 8 bytes"),
    (
        with_map(MapType.LPM_TRIE, 4, 4, 1),
        "map m: the key of an LPM trie is not between 5 and 260 bytes",
    ),
    (
        with_map(MapType.LPM_TRIE, 261, 4, 1),
        "map m: the key of an LPM trie is not between 5 and 260 bytes",
    ),
    (with_map(MapType.HASH, 0, 4, 1), "map m: key_size is not between 1 and 512 bytes"),
    (with_map(MapType.LRU_HASH, 513, 4, 1), "map m: key_size is not between 1 and 512 bytes"),
    (with_map(MapType.HASH, 4, 0, 1), "map m: value_size is not between 1 byte and 1 MiB"),
    (
        with_map(MapType.ARRAY, 4, (1 << 20) + 1, 1),
        "map m: value_size is not between 1 byte and 1 MiB",
    ),
    (with_map(MapType.HASH, 4, 4, 0), "map m: max_entries is not between 1 and 1,073,741,824"),
    (
        with_map(MapType.HASH, 4, 4, GIB + 1),
        "map m: max_entries is not between 1 and 1,073,741,824",
    ),
    (
        with_map(MapType.BLOOM, 0, 0, 64, 2),
        "map m: the item's size is not between 1 and 512 bytes",
    ),
    (
        with_map(MapType.BLOOM, 4, 0, 64, 0),
        "map m: the number of hash functions is not between 1 and 16",
    ),
    (
        with_map(MapType.COUNT_MIN, 4, 0, 64, 17),
        "map m: the number of hash functions is not between 1 and 16",
    ),
    (
        replace(NONE, maps=tuple(MapSpec(f"m{i}", MapType.ARRAY, 4, 4, 1) for i in range(65))),
        "65 maps; at most 64 are possible",
    ),
    (
        replace(NONE, data=tuple(DataSpec(f".d{i}", 8, None, True) for i in range(65))),
        "65 data sections; at most 64 are possible",
    ),
    (
        with_code(LOOKUPS * 1024 + "mov %r0, 0\nexit"),
        "1024 calls of map_lookup in a program with sketches; at most 1023 are possible",
    ),
    (
        with_code("\n".join(["mov %r0, 0"] * 65536 + ["exit"])),
        "65537 instructions; at most 65536 are possible",
    ),
    (
        replace(NONE, funcs=tuple(FuncSpec(f"f{i}", 0) for i in range(65))),
        "65 functions; at most 64 are possible",
    ),
    (
        replace(NONE, funcs=(FuncSpec("entry", 0), FuncSpec("late", 9))),
        "function 1 (late) starts at instruction 9, which is out of order or out of the program",
    ),
    (
        replace(with_code("mov %r0, 0\nja +0\nexit"), funcs=(FuncSpec("a", 0), FuncSpec("b", 2))),
        "jump out of its function, to 2",
    ),
    (
        with_code("mov %r0, 0\ncall local +0\nexit"),
        "call to 2, which is not the start of a function",
    ),
    (with_code("lddw %r1, map 6\nexit"), "map number 6, but the program has 6"),
    (with_code(".word 0x100001118\n.word 0x100000000\nexit"), "a map reference has an offset"),
    (with_code("lddw %r1, data 2+0\nexit"), "data section number 2, but the program has 2"),
    (with_code("lddw %r1, data 1+33\nexit"), "offset 33 is outside data section .bss of 32 bytes"),
    (with_code(".word 0x7118\n.word 0\nexit"), "unknown kind 7 of 64-bit load"),
    (with_code("mov %r0, 0\n.word 0x118"), "the second half of a 64-bit load is missing"),
    (
        with_code(".word 0x118\n.word 0x100\nexit"),
        "the second half of a 64-bit load has non-zero fields beside imm",
    ),
]

NOT_FROM_A_SPEC = {
    "map %.63s: %s": "its parts are the other reasons of map.c",
    "a map's name is longer than 63 bytes": "the binding refuses it",
    "the program's name is longer than 63 bytes": "the binding shortens it",
    "the name of data section %u is longer than 63 bytes": "the binding refuses it",
    "no memory for the facts of the program": "malloc fails",
    "no memory for the list of maps": "malloc fails",
    "no memory for the list of data sections": "malloc fails",
    "no memory for %s": "malloc fails",
    "no memory for the program": "malloc fails",
    "the older instance belongs to another VM": "about a run or a call, not a program",
    "worker %u, but the VM has %u": "about a run",
    "the program has no machine code": "about a run",
    "the map does not fit this program": "about an exchange of maps",
    "the verifier's states were not kept": "about a run",
    "the packet has no metadata": "about a run",
    "the packet is longer than 65,535 bytes": "about a run",
    "a run-time check stopped the program": "about a run; test_guarded.py",
    "only programs loaded for conformance tests run on raw memory": "about a run",
    "malformed call by register": "conformance mode only",
    "%s: its size is beyond all memory": "no map within the other limits is so large",
    "%u programs are loaded, which is the limit": "test_a_thousand_programs",
    "%s takes %u bytes, but of the %u that maps of all programs may take %u are in use": (
        "test_a_gibibyte_of_maps"
    ),
}
"""format: why no spec alone makes the core say it."""


def reason_of(spec: ProgramSpec, **options: bool) -> str:
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(spec, **options)
    assert caught.value.reason in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(("spec", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_refused(spec: ProgramSpec, reason: str) -> None:
    assert reason_of(spec) == reason


def test_every_reason_has_a_case() -> None:
    found = messages(*(CSRC / "bpf" / name for name in ("map.c", "prog.c", "vm.c", "insn.c")))
    parts = [message for message in found if message.format != "map %.63s: %s"]
    reasons = [reason.removeprefix("map m: ") for _, reason in REFUSED]
    for case in all_cases():
        if case.error is not None:
            spec = ProgramSpec("case", case.program, (FuncSpec("entry", 0),))
            reasons.append(reason_of(spec, conformance=True))
    no_type = {reason for reason in reasons if reason.startswith("there is no map type")}
    tested = {sharpest(parts, reason) for reason in set(reasons) - no_type}
    assert no_type
    assert {message.format for message in found} - tested == NOT_FROM_A_SPEC.keys()


def test_a_thousand_programs() -> None:
    """1,024 by default; unloading makes room."""
    with Vm() as vm:
        loaded = [vm.load(NONE, jit=False) for _ in range(1024)]
        with pytest.raises(LoadError) as caught:
            vm.load(NONE, jit=False)
        assert caught.value.reason == "1024 programs are loaded, which is the limit"
        assert caught.value.hint == "unload programs, or raise the limit (max_progs)"
        loaded.pop().close()
        vm.load(NONE, jit=False)
    with Vm(max_progs=1025) as vm:
        for _ in range(1025):
            vm.load(NONE, jit=False)


def test_a_thousand_programs_of_a_bridge() -> None:
    with Datapath() as dp:
        for number in range(1, 1025):
            dp.load_program(number, NONE, jit=False)
        with pytest.raises(OkoError, match="1024 programs"):
            dp.load_program(2000, NONE, jit=False)
        dp.load_program(7, NONE, jit=False)  # replacing one is not one more
        dp.unload_program(7)
        dp.load_program(2000, NONE, jit=False)
        with pytest.raises(OkoError, match="there is no program number 65536"):
            dp.load_program(65536, NONE, jit=False)


def test_a_gibibyte_of_maps() -> None:
    """1 GiB for all programs by default; a refused program takes nothing; closing gives back."""
    part = with_map(MapType.ARRAY, 4, 1 << 20, 600)
    with Vm() as vm:
        first = vm.load(part, jit=False)
        for _ in range(2):
            with pytest.raises(LoadError) as caught:
                vm.load(part, jit=False)
            reason = caught.value.reason
            assert (
                reason.startswith("map m takes 629145") and f"but of the {GIB} that maps" in reason
            )
            assert "lower max_entries" in caught.value.hint
        first.close()
        vm.load(part, jit=False)
    with Vm(max_map_bytes=2 * GIB) as vm:
        vm.load(part, jit=False)
        vm.load(part, jit=False)


def test_one_map_beyond_the_limit() -> None:
    reason = reason_of(with_map(MapType.HASH, 16, 64, 100_000_000))
    assert f"but of the {GIB} that maps of all programs may take 0 are in use" in reason


def test_a_gibibyte_of_maps_of_a_bridge() -> None:
    part = with_map(MapType.ARRAY, 4, 1 << 20, 600)
    with Datapath() as dp:
        dp.load_program(1, part, jit=False)
        with pytest.raises(LoadError, match=f"of the {GIB} that maps"):
            dp.load_program(2, part, jit=False)
        dp.unload_program(1)
        dp.load_program(2, part, jit=False)
