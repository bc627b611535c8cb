"""Guarded loading: what could not be proved is checked at run time.

What it promises: an access outside its object does not happen, a loop without end ends; either
stops the program, which then does not match, and is counted; every engine stops the same runs at
the same place. What it does not make up for (writes to the packet, leaks, unset variables, helpers'
arguments) is refused as without it. Random programs: test_engines.py.
"""

from __future__ import annotations

import pytest
from verifier_files import Case, all_cases, make_spec

import oko._binding as binding
from oko._binding import Engine, Meta, Vm
from oko.datapath import Datapath, Frame
from oko.errors import CoreError, LoadError
from oko.model import actions as act
from oko.model.flow import Flow, Instructions

FAULT = -12  # OKO_E_FAULT

ENGINES = [Engine.INTERP]
if "checked" in binding.features():
    ENGINES.append(Engine.CHECKED)
if "jit" in binding.features():
    ENGINES.append(Engine.JIT)


def outcomes(text: str, frames: list[bytes], **options: int) -> list[int | None]:
    """Results of a program on packets, the same by every engine; None: a check stopped it."""
    spec, seen = make_spec(text), []
    for engine in ENGINES:
        results: list[int | None] = []
        with Vm() as vm, vm.load(spec, guarded=True, keep_states=True, **options) as program:  # type: ignore[arg-type]
            for frame in frames:
                try:
                    results.append(program.run(frame, Meta(), engine=engine))
                except CoreError as error:
                    assert error.code == FAULT, error
                    results.append(None)
            for start in range(0, len(frames), 64):
                some = frames[start : start + 64]
                matches = program.run_batch(some, [Meta()] * len(some), engine=engine)
                assert matches == [r == 1 for r in results[start : start + 64]]
        seen.append(results)
    assert all(results == seen[0] for results in seen)
    return seen[0]


def guards(text: str, **options: int) -> list[str]:
    """The instructions that are checked at run time."""
    spec = make_spec(text)
    with Vm() as vm, vm.load(spec, guarded=True, **options) as program:  # type: ignore[arg-type]
        return [binding.disassemble(spec, insn) for insn in program.guards()]


LENGTHS = [bytes(n) for n in range(40)]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("off", [0, 1, 13, 31])
def test_a_constant_offset(size: int, off: int) -> None:
    name = {1: "b", 2: "h", 4: "w", 8: "dw"}[size]
    text = f"ldx{name} %r0, [%r1+{off}]\nadd %r0, 1\nexit"
    assert outcomes(text, LENGTHS) == [1 if off + size <= n else None for n in range(40)]
    assert len(guards(text)) == 1


def test_a_read_beyond_the_packet_ends_without_match() -> None:
    text = "ldxb %r0, [%r1+13]\nmov %r0, 1\nexit"
    assert outcomes(text, [bytes(13), bytes(14)]) == [None, 1]


def test_a_negative_offset() -> None:
    text = "add %r1, {}\nldxb %r0, [%r1]\nmov %r0, 1\nexit"
    for offset in (-1, -8, -(1 << 31)):
        assert outcomes(text.format(offset), LENGTHS) == [None] * 40


@pytest.mark.parametrize(
    "value", [0, 1, 7, 8, 31, 32, (1 << 32) - 1, 1 << 32, (1 << 63), (1 << 64) - 8, (1 << 64) - 1]
)
def test_an_offset_of_any_size(value: int) -> None:
    """The offset comes from the packet: sums that wrap around lead nowhere."""
    text = "jlt %r2, 8, +4\nldxdw %r3, [%r1]\nadd %r1, %r3\nldxb %r0, [%r1]\nmov %r0, 1\nexit"
    text = text.replace("+4", "done").replace("exit", "exit\ndone: mov %r0, 0\nexit")
    frames = [value.to_bytes(8, "little") + bytes(n) for n in range(40)]
    expected = [1 if value < len(frame) else None for frame in frames]
    assert outcomes(text, frames) == expected


def test_what_passed_a_check_is_known_afterwards() -> None:
    """One check serves the reads behind it: guards cost what the proofs would have cost."""
    text = "ldxb %r3, [%r1+33]\nldxb %r4, [%r1+12]\nldxh %r5, [%r1+32]\nmov %r0, 1\nexit"
    assert guards(text) == ["r3 = *(u8 *)(r1 + 33)"]
    assert outcomes(text, LENGTHS) == [None] * 34 + [1] * 6


LOOKUP = """
    mov %r6, %r2
    stw [%r10-4], 0
    mov %r2, %r10
    add %r2, -4
    lddw %r1, map 0
    call 1
    add %r0, %r6
    sub %r0, 8
    {insn}
    mov %r0, 1
    exit
"""


@pytest.mark.parametrize("insn", ["ldxdw %r3, [%r0]", "stdw [%r0], -1", "lock add [%r0], %r6"])
def test_a_map_value(insn: str) -> None:
    """The access has 8 bytes and begins at length - 8 of the first of four values of 16 bytes.

    It must lie inside a value of the map, if not the one that was looked up.
    """
    if insn.startswith("lock"):
        with Vm() as vm, pytest.raises(LoadError, match="not aligned"):
            vm.load(make_spec(LOOKUP.format(insn=insn)), guarded=True)
        return
    found = outcomes(LOOKUP.format(insn=insn), LENGTHS)
    assert found == [1 if n >= 8 and (n - 8) % 16 <= 8 else None for n in range(40)]


def test_a_write_that_fails_its_check_does_not_happen() -> None:
    spec = make_spec(LOOKUP.format(insn="stdw [%r0], -1"))
    for engine in (Engine.INTERP, Engine.BEST):
        with Vm() as vm, vm.load(spec, guarded=True) as program:
            for frame in [bytes(0), bytes(7), bytes(17), bytes(400)]:
                with pytest.raises(CoreError) as caught:
                    program.run(frame, Meta(), engine=engine)
                assert caught.value.code == FAULT
            assert all(value == bytes(16) for _, value in program.map(0).items())
            program.run(bytes(16), Meta(), engine=engine)
            assert dict(program.map(0).items())[bytes(4)] == bytes(8) + b"\xff" * 8


ENDLESS = "mov %r0, 0\nagain: call 5\njne %r0, 7, again\nmov %r0, 1\nexit"


def test_a_loop_without_end_runs_out_of_fuel() -> None:
    assert len(guards(ENDLESS)) == 1  # first, since without it the run would not end
    assert outcomes(ENDLESS, [bytes(1)]) == [None]


def test_a_loop_that_ends_in_time_is_left_alone() -> None:
    """A step of 1 to 4 bytes that nobody could prove to end."""
    text = """
        mov %r0, 0
        mov %r3, 0
        again:
        jge %r3, %r2, done
        mov %r4, %r1
        add %r4, %r3
        ldxb %r4, [%r4]
        add %r3, %r4
        ja again
        done:
        mov %r0, 1
        exit
    """
    frames = [bytes([4]) * 1000, bytes([1]) * 9, bytes([1, 0]), b""]
    assert outcomes(text, frames) == [1, 1, None, 1]


CALLS = """
    mov %r0, 0
    again:
    {calls}
    call 5
    jne %r0, 7, again
    exit
    one: {more}
    mov %r0, 0
    exit
    two: {most}
    mov %r0, 0
    exit
"""


@pytest.mark.parametrize("limit", [1_000_000, 20_000])
@pytest.mark.parametrize(
    "text",
    [
        ENDLESS,
        CALLS.format(
            calls="\n".join(["call local one"] * 10),
            more="\n".join(["call local two"] * 10),
            most="\n".join(["add %r1, 1"] * 10).replace("add %r1, 1", "mov %r3, 1"),
        ),
        CALLS.format(
            calls="\n".join(f"mov %r6, {n}\nl{n}: sub %r6, 1\njne %r6, 0, l{n}" for n in (5, 300)),
            more="",
            most="",
        ),
    ],
    ids=["plain", "calls", "inner loops"],
)
def test_fuel_keeps_a_run_within_the_limit(text: str, limit: int) -> None:
    """No more instructions than max_worst_case, sub-functions included; and a fair part of it."""
    with Vm() as vm, vm.load(make_spec(text), guarded=True, max_worst_case=limit) as program:
        assert program.info.worst_case == limit
        counts = program.profile()
        with pytest.raises(CoreError):
            program.run(bytes(1), Meta(), engine=Engine.INTERP)
        assert limit // 25 < sum(counts()) <= limit


def test_more_than_the_limit_without_a_loop_is_refused() -> None:
    """Fuel is counted where loops come round; nothing else would stop these."""
    text = CALLS.format(
        calls="\n".join(["call local one"] * 30),
        more="\n".join(["call local two"] * 30),
        most="\n".join(["mov %r3, 1"] * 5),
    )
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(make_spec(text), guarded=True, max_worst_case=5000)
    assert "instructions for a packet; the limit is 5000" in caught.value.reason


def test_a_proved_program_has_no_checks() -> None:
    text = "mov %r0, 0\njlt %r2, 14, done\nldxb %r0, [%r1+13]\ndone: exit"
    assert guards(text) == []


def frames_for_cases() -> list[bytes]:
    return [bytes([k % 256]) * n for n in (0, 1, 13, 14, 34, 38, 64, 300) for k in (0, 1, 7, 255)]


REFUSED = [case for case in all_cases() if case.error and not case.options]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_programs(case: Case) -> None:
    """Each is refused with guards too, or runs within what the verifier then claims."""
    if "checked" not in binding.features():
        pytest.skip("this build has no checking interpreter")
    with Vm() as vm:
        try:
            program = vm.load(case.spec, guarded=True, keep_states=True, max_worst_case=10000)
        except LoadError as error:
            assert error.reason
            return
        with program:
            assert program.guards()
            for frame in frames_for_cases():
                try:
                    program.run(frame, Meta(), engine=Engine.CHECKED)
                except CoreError as error:
                    assert error.code == FAULT, error


@pytest.mark.parametrize(
    "words",
    ["writes to", "has not been set", "argument", "returns", "written into", "compared", "a map"],
)
def test_guards_do_not_make_up_for_everything(words: str) -> None:
    """What would still be wrong with a check in front is refused with the same reason."""
    cases = [c for c in all_cases() if words in c.error and not c.options]
    assert cases
    for case in cases:
        with Vm() as vm, pytest.raises(LoadError) as caught:
            vm.load(case.spec, guarded=True)
        assert caught.value.reason == case.error


@pytest.mark.parametrize("jit", [True, False])
def test_a_fault_is_no_match_and_is_counted(jit: bool) -> None:
    """The next flow decides; statistics tell runs, matches and faults."""

    def to(port: int) -> Instructions:
        return Instructions(apply=(act.Output(port),))

    with Datapath() as dp:
        dp.add_port(1, "in", kind="null")
        for number in (2, 3):
            dp.add_port(number, f"p{number}", kind="mem")
        spec = make_spec("ldxb %r0, [%r1+60]\nmov %r0, 1\nexit")
        with pytest.raises(LoadError):
            dp.load_program(1, spec)
        dp.load_program(1, spec, guarded=True, jit=jit)
        dp.add_flow(Flow(priority=10, filter_prog=1, instructions=to(2)))
        dp.add_flow(Flow(priority=1, instructions=to(3)))
        dp.process([Frame(bytes(n), 1) for n in (60, 61, 60, 100, 14)])
        assert [len(f.data) for f in dp.read_port(2)] == [61, 100]
        assert [len(f.data) for f in dp.read_port(3)] == [60, 60, 14]
        (info,) = dp.programs()
        assert (info.runs, info.matches, info.faults) == (5, 2, 3)
