"""The verifier is kind, and sound: what people write in C and clang makes of it.

Each file of idioms/ is a small filter with one way of proving an offset or bounding a loop. As it
stands it must be accepted, whatever the compiler, level and instruction set; then it runs on
packets of all lengths in the checking interpreter, which asserts the verifier's claims at every
step, and in the other engines. With -DWRONG=1 its proof has a hole, mostly of one byte, and it must
be refused.

A new idiom is one more file. One that the verifier cannot do yet is listed in NOT_YET with the
reason (as a strict xfail: the day it passes, the entry has to go).
"""

from __future__ import annotations

import platform
import random
from pathlib import Path

import pytest

from oko._binding import Engine, Meta, Vm, features
from oko.bpf.elf import read_object
from oko.bpf.spec import ProgramSpec
from oko.bpf.toolchain import LEVELS, Compiler, compile_source, compilers
from oko.errors import LoadError

ROOT = Path(__file__).resolve().parents[2]
IDIOMS = sorted((Path(__file__).parent / "idioms").glob("*.c"))
EXAMPLES = sorted((ROOT / "examples" / "bpf").glob("*.c"))

NOT_YET: dict[str, str] = {}
"""idiom: why the verifier refuses it (with some compiler)."""

REFUSED: dict[str, set[str]] = {}
"""compiler and level: what the verifier refuses of it, always."""

GCC_REFUSED = {
    *("checksum", "dns_guard", "key_copied", "key_in_place", "key_two_branches", "len_clamped"),
    *("loop_len", "loop_len_int", "loop_len_u32", "loop_nested_variable", "loop_while_count"),
    *("loop_words", "loop_words_tail", "p0f", "payload_match", "pointer_walk", "search_pattern"),
    *("search_payload", "udp_length", "vlan_any"),
}
"""What the verifier refuses at some level of gcc: calculations with addresses, mostly."""

NOT_WRONG: dict[str, str] = {}
"""idiom: why its WRONG form is accepted."""


def name_of(path: Path) -> str:
    return path.stem


def marked(paths: list[Path], known: dict[str, str]) -> list[object]:
    """The paths as parameters, the known failures marked."""
    assert known.keys() <= {path.stem for path in paths}
    return [
        pytest.param(
            path, id=path.stem, marks=pytest.mark.xfail(strict=True, reason=known[path.stem])
        )
        if path.stem in known
        else pytest.param(path, id=path.stem)
        for path in paths
    ]


def made_by(
    path: Path, compiler: Compiler, level: str, cpu: str, wrong: bool = False
) -> ProgramSpec:
    defines = ("WRONG=1",) if wrong else ()
    made = compile_source(path, level=level, cpu=cpu, compiler=compiler, defines=defines)
    return read_object(made, path.stem)


def choices() -> list[tuple[Compiler, str, str]]:
    """Two of all (compiler, level, cpu): the oldest clang with the default, the newest with v4."""
    clangs = sorted((c for c in compilers() if c.kind == "clang"), key=lambda c: c.version)
    if not clangs:
        return []
    return [(clangs[0], "2", "v3"), (clangs[-1], "s", clangs[-1].cpus()[-1])]


def every_choice() -> list[tuple[Compiler, str, str]]:
    """All levels and cpus of each compiler, those with the same name for one compiler once."""
    seen: dict[tuple[str, int], Compiler] = {}
    for compiler in compilers():
        seen.setdefault((compiler.kind, compiler.version), compiler)
    return [
        (compiler, level, cpu)
        for compiler in seen.values()
        for level in LEVELS
        for cpu in compiler.cpus()
    ]


def label(choice: tuple[Compiler, str, str]) -> str:
    compiler, level, cpu = choice
    return f"{compiler.kind}-{compiler.version}-O{level}-{cpu}"


def packets(chance: random.Random) -> list[bytes]:
    """Packets of every length to 80 and some beyond, with bytes that take rare branches."""
    likely = (0, 0, 1, 2, 3, 6, 7, 17, 0x45, 0x4F, 0x50, 0x81, 0x08, 0xFF)
    lengths = [*range(81), 100, 199, 200, 201, 300, 1499, 1500, 1501]
    made = []
    for length in lengths:
        made.append(bytes(chance.choice(likely) for _ in range(length)))
        made.append(chance.randbytes(length))
    tagged = b"\x81\x00"
    made.append(bytes(12) + tagged * 200)
    made.append(bytes(12) + b"\x08\x00\x45" + bytes(100))
    return made


def run_everywhere(vm: Vm, spec: ProgramSpec) -> None:
    """Loads (or raises LoadError) and runs; every engine gives the same on the same packets."""
    chance = random.Random(spec.name)
    frames = packets(chance)
    engines = [Engine.INTERP]
    if "checked" in features():
        engines.append(Engine.CHECKED)
    if platform.machine() in ("x86_64", "AMD64"):
        engines.append(Engine.JIT)
    results = []
    for engine in engines:
        with vm.load(spec, keep_states=engine == Engine.CHECKED) as program:
            results.append(
                [
                    program.run(frame, Meta(rx_ns=number, in_port=1), engine=engine)
                    for number, frame in enumerate(frames)
                ]
            )
    assert all(result == results[0] for result in results)


def test_there_is_a_compiler() -> None:
    if not choices():
        pytest.skip("no clang: nothing can be compiled")


@pytest.mark.parametrize("choice", choices(), ids=label)
@pytest.mark.parametrize("path", marked(IDIOMS, NOT_YET))
def test_idiom_is_accepted(path: Path, choice: tuple[Compiler, str, str]) -> None:
    with Vm() as vm:
        run_everywhere(vm, made_by(path, *choice))


@pytest.mark.parametrize("choice", choices(), ids=label)
@pytest.mark.parametrize("path", marked(IDIOMS, NOT_WRONG))
def test_idiom_with_a_hole_is_refused(path: Path, choice: tuple[Compiler, str, str]) -> None:
    spec = made_by(path, *choice, wrong=True)
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(spec)
    assert str(caught.value)


@pytest.mark.parametrize("choice", choices(), ids=label)
@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_example_is_accepted(path: Path, choice: tuple[Compiler, str, str]) -> None:
    with Vm() as vm:
        run_everywhere(vm, made_by(path, *choice))


@pytest.mark.long
@pytest.mark.parametrize("choice", every_choice(), ids=label)
def test_every_compiler_level_and_cpu(choice: tuple[Compiler, str, str]) -> None:
    """All idioms and examples, right and wrong, with one choice of compiler, level and cpu."""
    refused, taken = {}, []
    with Vm() as vm:
        for path in [*IDIOMS, *EXAMPLES]:
            try:
                run_everywhere(vm, made_by(path, *choice))
            except LoadError as error:
                refused[path.stem] = str(error)
        for path in IDIOMS:
            try:
                vm.load(made_by(path, *choice, wrong=True)).close()
                taken.append(path.stem)
            except LoadError:
                pass
    known = REFUSED.get(label(choice).rpartition("-")[0], set()) | NOT_YET.keys()
    if choice[0].kind == "gcc":
        assert not {name: refused[name] for name in refused.keys() - GCC_REFUSED - known}
    else:
        assert not {name: refused[name] for name in refused.keys() - known}
        assert refused.keys() >= known, "accepted now: remove it from the list"
    assert not [name for name in taken if name not in NOT_WRONG]
