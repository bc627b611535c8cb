"""Runs the .data files in conformance mode on interpreter, JIT and batch JIT."""

import subprocess
import sys

import pytest
from data_files import Case, all_cases

import oko._binding as binding
from oko.bpf.asm import assemble
from oko.bpf.conformance_plugin import main, run_program
from oko.bpf.spec import FuncSpec, Insn, ProgramSpec, unpack
from oko.errors import LoadError, OkoError

CASES = all_cases()
RUNNING = [case for case in CASES if case.result is not None]
REFUSED = [case for case in CASES if case.error is not None]
needs_jit = pytest.mark.skipif(
    "jit" not in binding.features(), reason="this build has no JIT for this CPU"
)


def by_name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", RUNNING, ids=by_name)
def test_interpreter(case: Case) -> None:
    assert hex(run_program(case.program, case.memory, binding.Engine.INTERP)) == hex(case.result)


@needs_jit
@pytest.mark.parametrize("case", RUNNING, ids=by_name)
def test_jit(case: Case) -> None:
    assert hex(run_program(case.program, case.memory, binding.Engine.JIT)) == hex(case.result)


def compared(case: Case, expected: int) -> bytes:
    """The case's program as a sub-function of one that returns 1 if its result is expected."""
    wrapper = f"""
        call local +5
        lddw %r1, {expected}
        jeq %r0, %r1, +1
        ja +2
        mov %r0, 1
        exit
        mov %r0, 0
        exit
    """
    head = assemble(wrapper)
    # The call leads to what follows the wrapper.
    return assemble(f"call local +{len(head) // 8 - 1}") + head[8:] + case.program


def ends_everything(insn: Insn) -> bool:
    """Legacy packet loads beyond the end, and helper 5 with 0, end the program from any depth."""
    legacy = insn.code & 7 == 0 and insn.code & 0x60 in (0x20, 0x40)
    return legacy or insn.code == 0x8D or (insn.code == 0x85 and insn.src == 0 and insn.imm == 5)


@needs_jit
@pytest.mark.parametrize("case", RUNNING, ids=by_name)
def test_batch_jit(case: Case) -> None:
    if any(ends_everything(insn) for insn in unpack(case.program)):
        # The wrapper would end with it.
        expected = case.result == 1
        assert run_program(case.program, case.memory, binding.Engine.JIT, batch=True) == expected
        return
    engine = binding.Engine.JIT
    assert run_program(compared(case, case.result), case.memory, engine, batch=True) == 1
    other = case.result ^ 1 << 63
    assert run_program(compared(case, other), case.memory, engine, batch=True) == 0


@pytest.mark.parametrize("case", REFUSED, ids=by_name)
def test_refused(case: Case) -> None:
    for engine in (binding.Engine.INTERP, binding.Engine.BEST):
        with pytest.raises(LoadError) as caught:
            run_program(case.program, case.memory, engine)
        assert case.error in str(caught.value)


def test_every_opcode_is_run() -> None:
    """Each opcode of the instruction table is executed by a case, each variant too."""
    executed = set()
    for case in RUNNING:
        spec = ProgramSpec("coverage", case.program, (FuncSpec("entry", 0),))
        with binding.Vm() as vm, vm.load(spec, conformance=True, jit=False) as loaded:
            counts = loaded.profile()
            loaded.run_raw(case.memory or None, engine=binding.Engine.INTERP)
            for index, insn in spec.decoded():
                if counts()[index]:
                    executed.add(variant(insn))
    wanted = set()
    for code in binding.known_opcodes():
        if code & 7 in (4, 7) and code & 0xF0 in (0x30, 0x90):
            wanted |= {(code, 0), (code, 1)}
        elif code == 0xBF:
            wanted |= {(code, width) for width in (0, 8, 16, 32)}
        elif code == 0xBC:
            wanted |= {(code, width) for width in (0, 8, 16)}
        elif code in (0xD4, 0xD7, 0xDC):
            wanted |= {(code, width) for width in (16, 32, 64)}
        elif code in (0xC3, 0xDB):
            plain = (0x00, 0x40, 0x50, 0xA0)
            wanted |= {(code, op | fetch) for op in plain for fetch in (0, 1)}
            wanted |= {(code, 0xE1), (code, 0xF1)}
        elif code == 0x85:
            wanted |= {(code, 1)}  # helpers have tests of their own
        else:
            wanted.add((code, 0))
    assert wanted - executed == set()


def variant(insn: Insn) -> tuple[int, int]:
    """The opcode with the field that chooses among its variants."""
    if insn.code in (0xD4, 0xD7, 0xDC, 0xC3, 0xDB):
        return insn.code, insn.imm
    if insn.code & 7 in (4, 7):
        return insn.code, insn.off
    if insn.code == 0x85:
        return insn.code, insn.src
    return insn.code, 0


def plugin(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oko.bpf.conformance_plugin", *arguments]
    return subprocess.run(command, input=program, capture_output=True, text=True, timeout=60)


def test_the_protocol() -> None:
    program = assemble("ldxw %r0, [%r1+1]\nadd %r0, %r2\nexit").hex()
    done = plugin(program, "00aabbccdd00", "--interpret")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{0xDDCCBBAA + 6:x}\n", "")
    spaced = " ".join(program[i : i + 2] for i in range(0, len(program), 2))
    assert plugin(spaced + "\n", "00 aa bb cc dd 00").stdout == done.stdout
    assert plugin(assemble("mov %r0, -1\nexit").hex(), "--interpret").stdout == "f" * 16 + "\n"
    nothing = assemble("mov %r0, %r1\nor %r0, %r2\nexit").hex()
    assert plugin(nothing, "").stdout == plugin(nothing, "--interpret").stdout == "0\n"


@needs_jit
def test_the_protocol_with_the_jit() -> None:
    done = plugin(assemble("mov %r0, 77\nexit").hex(), "--jit")
    assert (done.returncode, done.stdout) == (0, "4d\n")


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        ("9500000000000001", [], "imm"),
        ("95", [], "whole number"),
        ("zz", [], "program is not"),
        ("9500000000000000", ["0"], "memory is not"),
        ("9500000000000000", ["00", "--frobnicate"], "unknown option"),
        ("", [], ""),
    ],
)
def test_the_protocol_refuses(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    arguments: list[str],
    words: str,
) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(program))
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1


def test_an_odd_program_is_an_error() -> None:
    with pytest.raises(OkoError, match="whole number"):
        run_program(b"\x95")


@pytest.mark.parametrize("engine", [binding.Engine.INTERP, binding.Engine.BEST])
def test_a_batch_writes_to_a_copy_of_its_memory(engine: binding.Engine) -> None:
    """One-byte bytes objects are shared by the whole interpreter: writing to one is felt by all."""
    memory = bytes([0xFE])
    program = assemble("stb [%r1], 1\nldxb %r0, [%r1]\nexit")
    assert run_program(program, memory, engine, batch=True) == 1
    assert memory == bytes.fromhex("fe")
