"""Filters with one instruction changed: refused, or every engine runs them alike and cleanly.

The checking interpreter asserts the verifier's claims at every step of every run, so a mutant that
is accepted for a wrong reason shows, even where the other engines happen to agree.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_engines import packets

from oko._binding import Engine, Vm, features
from oko.bpf.elf import read_object
from oko.bpf.spec import ProgramSpec, unpack
from oko.errors import LoadError

ROOT = Path(__file__).resolve().parents[2]
SMALL = 64  # entries: large maps would only cost time
FILTERS = [
    read_object(path.read_bytes(), path.stem)
    for path in sorted((ROOT / "examples" / "bpf").glob("*.o"))
]

INTERESTING = (0, 1, 2, 3, 4, 7, 8, 13, 14, 16, 20, 31, 32, 34, 60, 63, 64, 255, 256, 65535, 65536)


def small(spec: ProgramSpec) -> ProgramSpec:
    maps = tuple(replace(found, max_entries=min(found.max_entries, SMALL)) for found in spec.maps)
    return replace(spec, maps=maps)


def mutate(spec: ProgramSpec, chance: random.Random) -> ProgramSpec:
    """The program with one field of one instruction changed, or two instructions swapped."""
    insns = unpack(spec.insns)
    places = [index for index, _ in spec.decoded()]
    at = chance.choice(places)
    insn = insns[at]
    kind = chance.randrange(7)
    if kind == 0:
        insn = insn._replace(imm=near(insn.imm, chance, 31))
    elif kind == 1:
        insn = insn._replace(off=near(insn.off, chance, 15))
    elif kind == 2:
        insn = insn._replace(dst=chance.randrange(11))
    elif kind == 3:
        insn = insn._replace(src=chance.randrange(11))
    elif kind == 4:
        insn = insn._replace(code=chance.choice(insns).code)
    elif kind == 5:
        insn = insn._replace(code=insn.code ^ 1 << chance.randrange(8))
    else:
        other = chance.choice(places)
        if insn.code != 0x18 and insns[other].code != 0x18:
            insns[at], insns[other] = insns[other], insns[at]
            insn = insns[at]
    insns[at] = insn
    return replace(spec, insns=b"".join(each.pack() for each in insns))


def near(value: int, chance: random.Random, bits: int) -> int:
    """Another value for a signed field: close to the old one, or one that matters."""
    chosen = chance.choice(
        (
            value + 1,
            value - 1,
            -value,
            value ^ 1 << chance.randrange(bits),
            chance.choice(INTERESTING),
        )
    )
    return max(-(1 << bits), min((1 << bits) - 1, chosen))


def frames_of(chance: random.Random) -> tuple[list[bytes], list]:  # type: ignore[type-arg]
    """Made frames, with TCP and UDP over IPv4 among them, cut at all sorts of places."""
    frames, metas = packets(chance.randrange(1000))
    for number in range(0, len(frames), 2):
        proto = chance.choice((6, 17))
        header = bytes(12) + b"\x08\x00\x45\0\0\x40\0\0\0\0\x40" + bytes([proto]) + bytes(2)
        ports = chance.choice((b"\0\x35\0\x35", b"\xc0\0\0\x50"))
        tcp = ports + bytes(8) + b"\x50" + chance.choice((b"\x02", b"\x10", b"\x12", b"\x11"))
        whole = header + bytes([10, 0, 0, chance.randrange(4)]) * 2 + tcp + bytes(20)
        frames[number] = whole[: chance.choice((len(whole), len(whole), chance.randrange(75)))]
    return frames, metas


def outcomes(vm: Vm, spec: ProgramSpec, chance: random.Random) -> Iterator[object]:
    """What each engine makes of the same packets; the first is the reference."""
    frames, metas = frames_of(chance)
    engines = [Engine.INTERP]
    if "checked" in features():
        engines.append(Engine.CHECKED)
    if "jit" in features():
        engines.append(Engine.JIT)
    for engine in engines:
        with vm.load(spec, keep_states=engine is Engine.CHECKED) as program:
            results = [
                program.run(frame, meta, engine=engine)
                for frame, meta in zip(frames, metas, strict=True)
            ]
            maps = [sorted(program.map(i).items()) for i in range(len(spec.maps))]
            yield [result == 1 for result in results], results, maps
        if engine is Engine.JIT:
            with vm.load(spec) as program:
                matches = program.run_batch(frames, metas, engine=engine)
                maps = [sorted(program.map(i).items()) for i in range(len(spec.maps))]
                yield matches, results, maps


def try_mutants(seed: int, count: int) -> int:
    """Returns how many of count mutants were accepted."""
    chance = random.Random(seed)
    accepted = 0
    with Vm() as vm:
        for number in range(count):
            spec = small(mutate(chance.choice(FILTERS), chance))
            try:
                vm.load(spec).close()
            except LoadError as exc:
                assert "\n" not in str(exc)
                continue
            accepted += 1
            reference, *others = outcomes(vm, spec, chance)
            assert all(other == reference for other in others), (seed, number)
    return accepted


def test_mutants() -> None:
    assert try_mutants(1, 400) > 50


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 6))
def test_more_mutants(seed: int) -> None:
    assert try_mutants(seed, 1500) > 180
