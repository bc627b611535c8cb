"""Refusals of real C: the reason, and the place a person looks for: file, line, column, source.

Each file of verifier/c says in its first comment how it is refused. ".." in a reason stands for a
word; "at: *" for a place that depends on the compiler.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from oko._binding import Vm
from oko.bpf.elf import read_object
from oko.bpf.toolchain import Compiler, compile_source, compilers
from oko.errors import LoadError

FILES = sorted((Path(__file__).parent / "verifier" / "c").glob("*.c"))
CLANGS = [c for c in compilers() if c.kind == "clang"]


def expectation(path: Path, name: str) -> str:
    """The paragraph of the first comment that begins with a name."""
    comment = path.read_text().partition("*/")[0].removeprefix("/*")
    lines = [re.sub(r"^ \* ?", "", line) for line in comment.splitlines()]
    for paragraph in "\n".join(lines).split("\n\n"):
        text = " ".join(paragraph.split())
        if text.startswith(f"{name}: "):
            return text.removeprefix(f"{name}: ")
    raise AssertionError(f"{path.name} does not say {name}")


def refusal(path: Path, compiler: Compiler, **options: str) -> LoadError:
    spec = read_object(compile_source(path, compiler=compiler, **options), path.stem)
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(spec)
    return caught.value


def check(path: Path, compiler: Compiler, **options: str) -> None:
    error = refusal(path, compiler, **options)
    reason = re.escape(expectation(path, "refuse")).replace(r"\.\.", r"\S+")
    assert re.fullmatch(reason, error.reason), error.reason
    assert expectation(path, "hint") in error.hint
    # Everything a person needs to find the place.
    assert error.insn >= 0 and error.text
    lines = path.read_text().splitlines()
    assert Path(error.file).name == path.name
    assert 1 <= error.line <= len(lines)
    assert error.source.strip() == lines[error.line - 1].strip()
    wanted = expectation(path, "at")
    if wanted != "*":
        assert wanted == error.source.strip(), f"line {error.line}: {error.source}"
        assert error.column >= 1
    place = f"{path.name}:{error.line}: instruction {error.insn} ({error.text}): "
    assert str(error) == place + error.reason


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_refused(path: Path) -> None:
    if not CLANGS:
        pytest.skip("no clang")
    clangs = sorted(CLANGS, key=lambda c: c.version)
    for compiler in {clangs[0], clangs[-1]}:
        check(path, compiler)


@pytest.mark.long
@pytest.mark.parametrize("compiler", CLANGS, ids=lambda c: c.label)
@pytest.mark.parametrize("level", ["1", "2", "3", "s"])
def test_refused_everywhere(compiler: Compiler, level: str) -> None:
    """Refused by any clang at any level; the reason may be another one."""
    for path in FILES:
        error = refusal(path, compiler, level=level)
        assert error.reason and error.line > 0


def test_without_debug_information() -> None:
    """No place in C then, but all the rest."""
    if not CLANGS:
        pytest.skip("no clang")
    path = next(path for path in FILES if path.stem == "writes")
    include = Path(__file__).resolve().parents[2] / "examples" / "bpf"
    command = [*CLANGS[0].command, "-O2", "-target", "bpf", "-mcpu=v3", "-I", str(include)]
    command += ["-c", str(path), "-o", "-"]
    made = subprocess.run(command, check=True, capture_output=True).stdout
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(read_object(made, "writes"))
    error = caught.value
    assert (error.file, error.line, error.column, error.source) == ("", 0, 0, "")
    assert error.reason == "the program writes to the packet"
    assert str(error) == f"instruction {error.insn} ({error.text}): {error.reason}"
    assert "copy what you want to change" in error.hint
