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
from oko.errors import CoreError, LoadError

FAULT = -12  # OKO_E_FAULT


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


def run(
    program: Program, engine: Engine, batch: bool, seed: int, guarded: bool = False
) -> tuple[Outcome, list[int | None]]:
    """What came of it, and the result of each packet (None: a run-time check stopped the run)."""
    frames, metas = packets(seed)
    results: list[int | None] = []
    with Vm() as vm:
        jit = engine is not Engine.INTERP
        keep = engine is Engine.CHECKED
        with vm.load(program.spec, jit=jit, keep_states=keep, guarded=guarded) as loaded:
            if batch:
                matches = loaded.run_batch(frames, metas, engine=engine)
            else:
                for frame, meta in zip(frames, metas, strict=True):
                    try:
                        results.append(loaded.run(frame, meta, engine=engine))
                    except CoreError as exc:
                        if exc.code != FAULT or not guarded:
                            raise
                        results.append(None)
                matches = [result == 1 for result in results]
            maps = [sorted(loaded.map(i).items()) for i in range(len(MAPS))]
            data = [loaded.data(i) for i in range(len(program.spec.data))]
            return Outcome(matches, maps, data), results


PROGRAMS = st.binary(max_size=300).map(make_program)
UNPROVED = st.binary(max_size=120).map(lambda data: make_program(data, unproved=True))
SEEDS = st.integers(0, 1000)
quick = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=20000, deadline=None, suppress_health_check=list(HealthCheck))


def compare(program: Program, seed: int, guarded: bool = False) -> None:
    note(program.text)
    expected, results = run(program, Engine.INTERP, False, seed, guarded)
    assert run(program, Engine.INTERP, True, seed, guarded)[0] == expected
    if "checked" in binding.features():
        checked, seen = run(program, Engine.CHECKED, False, seed, guarded)
        assert (checked, seen) == (expected, results)
    if "jit" in binding.features():
        compiled, found = run(program, Engine.JIT, False, seed, guarded)
        assert found == results
        assert compiled == expected
        assert run(program, Engine.JIT, True, seed, guarded)[0] == expected


@given(PROGRAMS, SEEDS)
@quick
def test_engines_agree(program: Program, seed: int) -> None:
    compare(program, seed)


@given(UNPROVED, SEEDS)
@quick
def test_engines_agree_on_what_guards_stop(program: Program, seed: int) -> None:
    """Guarded loading: the same runs are stopped, at the same place."""
    try:
        compare(program, seed, guarded=True)
    except LoadError as exc:
        assert exc.reason  # guards do not make up for everything


@pytest.mark.long
@given(st.binary(max_size=600).map(make_program), SEEDS)
@thorough
def test_engines_agree_on_more_and_longer_programs(program: Program, seed: int) -> None:
    compare(program, seed)
