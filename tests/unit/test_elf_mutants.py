"""Real objects with a few bytes changed, or cut off: an ElfError or a program, nothing else.

What the reader accepts goes on to the core's decoder check (in conformance mode, which runs no
verifier), which must refuse or accept it without reading outside the spec.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from oko._binding import Vm
from oko.bpf import toolchain
from oko.bpf.elf import read_object
from oko.errors import ElfError, LoadError

OBJECTS = sorted((Path(__file__).resolve().parents[2] / "examples" / "bpf").glob("*.o"))
SLOW = 30.0  # seconds: an object of this size takes milliseconds, unless something is exponential


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Changes up to 16 places: anywhere, in the ELF header, in the section headers at the end."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.choice(
            (
                chance.randrange(len(out)),
                chance.randrange(64),
                len(out) - 1 - chance.randrange(1800),
            )
        )
        width = chance.choice((1, 1, 2, 4, 8))
        top = 1 << 8 * width
        old = int.from_bytes(out[at : at + width], "little")
        value = chance.choice(
            (
                chance.randrange(top),
                0,
                1,
                top - 1,
                top // 2,
                old + chance.choice((-1, 1, 8, -8, 24)),
            )
        )
        out[at : at + width] = (value % top).to_bytes(width, "little")[: len(out) - at]
    if chance.random() < 0.1:
        del out[chance.randrange(len(out)) :]
    return bytes(out)


def try_mutants(objects: list[bytes], seed: int, count: int) -> int:
    """Reads count mutants; returns how many made a program."""
    chance = random.Random(seed)
    accepted = 0
    with Vm() as vm:
        for number in range(count):
            mutant = mutate(chance.choice(objects), chance)
            began = time.monotonic()
            try:
                spec = read_object(mutant, f"mutant {seed}.{number}")
            except ElfError as exc:
                assert "\n" not in str(exc)
                continue
            finally:
                assert time.monotonic() - began < SLOW, f"mutant {seed}.{number} is slow"
            accepted += 1
            for insn in range(0, spec.n_insns, 7):
                spec.line_at(insn)
            if all(found.max_entries < 1 << 20 for found in spec.maps):
                try:
                    vm.load(spec, conformance=True).close()
                except LoadError as exc:
                    assert "\n" not in str(exc)
    return accepted


def test_mutants_of_the_examples() -> None:
    objects = [path.read_bytes() for path in OBJECTS]
    accepted = try_mutants(objects, 1, 1500)
    assert 500 < accepted < 1300  # most changes hit debug sections


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 6))
def test_more_mutants_of_more_compilers(seed: int) -> None:
    source = OBJECTS[0].with_suffix(".c")
    objects = [path.read_bytes() for path in OBJECTS]
    for compiler in toolchain.compilers():
        if compiler.kind != "gcc":
            objects.append(toolchain.compile_source(source, level="1", cpu="v1", compiler=compiler))
    try_mutants(objects, seed, 30000)
