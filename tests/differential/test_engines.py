"""Interpreter = JIT = batch on made programs: results, maps and data, packet after packet.

The interpreter is the reference. Every engine loads the program anew, with maps and a hash secret
of its own, and handles the same packets in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from program_maker import MAPS, Program, make_program

import oko._binding as binding
from oko._binding import Engine, Meta, Vm
from oko.bpf.asm import assemble
from oko.bpf.spec import FuncSpec, ProgramSpec
from oko.errors import LoadError


def has_verifier() -> bool:
    with Vm() as vm:
        try:
            vm.load(ProgramSpec("probe", assemble("mov %r0, 0\nexit"), (FuncSpec("entry", 0),)))
        except LoadError as exc:
            return exc.code != -7
    return True


pytestmark = pytest.mark.skipif(not has_verifier(), reason="this build has no verifier yet")

LENGTHS = (0, 1, 13, 14, 34, 59, 60, 64, 65, 200)


@dataclass(frozen=True)
class Outcome:
    """What can be observed after a run: matches, maps' and data sections' contents."""

    matches: list[bool]
    maps: list[list[tuple[bytes, bytes]]]
    data: list[bytes]


def packets(seed: int) -> tuple[list[bytes], list[Meta]]:
    """Frames of many lengths with contents from a seed, and their metadata."""
    frames, metas = [], []
    state = seed * 2654435761 + 12345
    for number in range(2 * len(LENGTHS)):
        length = LENGTHS[number % len(LENGTHS)]
        raw = bytearray()
        while len(raw) < length:
            state = (state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
            # Few distinct values, so that keys meet again.
            raw += (state >> 33 & 0x0303FF03).to_bytes(4, "big")
        frames.append(bytes(raw[:length]))
        metas.append(Meta(1000 * number, seed, number % 4, length + 4))
    return frames, metas


def run(program: Program, engine: Engine, batch: bool, seed: int) -> tuple[Outcome, list[int]]:
    frames, metas = packets(seed)
    results: list[int] = []
    with Vm() as vm:
        jit = engine is not Engine.INTERP
        with vm.load(program.spec, jit=jit, keep_states=engine is Engine.CHECKED) as loaded:
            if batch:
                matches = loaded.run_batch(frames, metas, engine=engine)
            else:
                for frame, meta in zip(frames, metas, strict=True):
                    results.append(loaded.run(frame, meta, engine=engine))
                matches = [result == 1 for result in results]
            maps = [sorted(loaded.map(i).items()) for i in range(len(MAPS))]
            data = [loaded.data(i) for i in range(len(program.spec.data))]
            return Outcome(matches, maps, data), results


PROGRAMS = st.binary(max_size=160).map(make_program)
SEEDS = st.integers(0, 1000)
quick = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=20000, deadline=None, suppress_health_check=list(HealthCheck))


def compare(program: Program, seed: int) -> None:
    note(program.text)
    expected, results = run(program, Engine.INTERP, False, seed)
    assert run(program, Engine.INTERP, True, seed)[0] == expected
    if "checked" in binding.features():
        checked, seen = run(program, Engine.CHECKED, False, seed)
        assert (checked, seen) == (expected, results)
    if "jit" in binding.features():
        compiled, found = run(program, Engine.JIT, False, seed)
        assert found == results
        assert compiled == expected
        assert run(program, Engine.JIT, True, seed)[0] == expected


@given(PROGRAMS, SEEDS)
@quick
def test_engines_agree(program: Program, seed: int) -> None:
    compare(program, seed)


@pytest.mark.long
@given(st.binary(max_size=600).map(make_program), SEEDS)
@thorough
def test_engines_agree_on_more_and_longer_programs(program: Program, seed: int) -> None:
    compare(program, seed)
