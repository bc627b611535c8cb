"""Compilers for filter programs: finds clang, zig or gcc-bpf, and runs it.

Order of preference: $OKO_CLANG if set, clang, clang-NN (newest first), zig (`python -m ziglang` or
`zig`), GCC (`bpf-gcc`, as Debian's gcc-bpf calls it, or `bpf-unknown-none-gcc`). The header
oko_bpf.h is put on the include path, so `#include "oko_bpf.h"` works from any directory.

A compiler is asked once per process which version it is. Left out: the network, and linking: a
program is one object.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import OkoError, ToolchainError
from .spec import ProgramSpec

CPUS = ("v1", "v2", "v3", "v4")
"""Instruction set versions of -mcpu (RFC 9669 and before)."""

LEVELS = ("1", "2", "3", "s")
"""Optimisation levels that make verifiable code; -O0 does not."""

TIMEOUT = 60.0
"""Seconds a compiler may take."""

MISSING = (
    "install one: 'apt install clang' (Debian, Ubuntu), 'dnf install clang' (Fedora), or "
    "'pip install ziglang'"
)


@dataclass(frozen=True)
class Compiler:
    """A BPF compiler. kind: "clang", "zig" or "gcc"; command: how to call it."""

    kind: str
    command: tuple[str, ...]
    version: int

    @property
    def label(self) -> str:
        """For messages: "clang 14 (clang-14)"."""
        return f"{self.kind} {self.version} ({' '.join(self.command)})"

    def cpus(self) -> tuple[str, ...]:
        """The -mcpu values it knows: v4 came with LLVM 18 (Debian: clang 19)."""
        if self.kind == "gcc":
            return ("v3",)
        return CPUS if self.kind == "zig" or self.version >= 18 else CPUS[:3]

    def flags(self, level: str, cpu: str) -> list[str]:
        """Options for an object with debug information."""
        if self.kind == "gcc":
            # -mxbpf adds a wide stack and indirect calls that no VM has; not used.
            return [f"-O{level}", "-g", "-gbtf", "-mlittle-endian", "-mcpu=" + cpu, "-c"]
        target = "bpfel-freestanding" if self.kind == "zig" else "bpfel"
        flags = [f"-O{level}", "-g", "-target", target, f"-mcpu={cpu}", "-c"]
        if self.kind == "zig":
            # zig adds instrumentation and unwind tables of its own accord.
            flags += ["-fno-sanitize=undefined", "-fno-stack-protector"]
            flags += ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
        return flags


def include_dir() -> Path:
    """The directory of oko_bpf.h: examples/bpf in a checkout, oko/bpf/include when installed.

    Raises ToolchainError when neither is there.
    """
    here = Path(__file__).resolve().parent
    for place in (here / "include", here.parents[1] / "examples" / "bpf"):
        if (place / "oko_bpf.h").is_file():
            return place
    raise ToolchainError("oko_bpf.h is missing from this installation", "reinstall oko")


@lru_cache(maxsize=1)
def compilers() -> tuple[Compiler, ...]:
    """Every BPF compiler that was found, the preferred one first."""
    return tuple(_find())


@lru_cache(maxsize=1)
def preferred() -> Compiler | None:
    """The first of compilers(), without asking the others."""
    return next(_find(), None)


def _find() -> Iterator[Compiler]:
    chosen = os.environ.get("OKO_CLANG")
    names = [chosen] if chosen else ["clang", *_versioned("clang")]
    for name in names:
        path = shutil.which(name)
        version = _version((path,)) if path else 0
        if path and version and "bpf" in _output((path, "--print-targets")):
            yield Compiler("clang", (name,), version)
    for command in ((sys.executable, "-m", "ziglang"), ("zig",)):
        if shutil.which(command[0]) and _output((*command, "version")):
            yield Compiler("zig", (*command, "cc"), _version((*command, "cc")))
            break
    for name in ("bpf-gcc", "bpf-unknown-none-gcc"):
        version = _version((name,)) if shutil.which(name) else 0
        if version:
            yield Compiler("gcc", (name,), version)
            break


def choose(name: str = "") -> Compiler:
    """The preferred compiler, or the one called name ("clang-14", "zig", "gcc", a path).

    Raises ToolchainError when there is none; the hint says how to get one.
    """
    if not name:
        first = preferred()
        if first is None:
            raise ToolchainError("no compiler for BPF was found (clang, zig or gcc-bpf)", MISSING)
        return first
    found = compilers()
    for compiler in found:
        if name in (compiler.kind, compiler.command[0], f"{compiler.kind}-{compiler.version}"):
            return compiler
    path = shutil.which(name)
    version = _version((path,)) if path else 0
    if path and version:
        kind = "gcc" if "gcc" in Path(path).name else "clang"
        return Compiler(kind, (name,), version)
    have = ", ".join(compiler.label for compiler in found) or "none"
    raise ToolchainError(f"there is no compiler {name!r}; found: {have}", MISSING)


def compile_source(
    source: Path | str,
    *,
    level: str = "2",
    cpu: str = "v3",
    compiler: Compiler | None = None,
    defines: tuple[str, ...] = (),
) -> bytes:
    """Compiles a C file and returns the object.

    level: "1", "2", "3" or "s"; cpu: "v1" to "v4"; defines: "NAME=VALUE". Raises ToolchainError
    with the compiler's first error; its output attribute has all messages.
    """
    chosen = compiler or choose()
    path = Path(source)
    if not path.is_file():
        raise ToolchainError(f"{path}: no such file")
    with tempfile.TemporaryDirectory(prefix="oko-") as work:
        out = Path(work) / "filter.o"
        command = [*chosen.command, *chosen.flags(level, cpu)]
        command += [f"-D{define}" for define in defines]
        command += ["-I", str(path.resolve().parent), "-I", str(include_dir())]
        command += [str(path), "-o", str(out)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            raise ToolchainError(f"{path}: {chosen.label} took over {TIMEOUT:.0f} s") from None
        except OSError as exc:
            raise ToolchainError(f"{chosen.label}: {exc.strerror}") from None
        if done.returncode != 0 or not out.is_file():
            raise ToolchainError(_first_error(path, done.stderr, chosen), output=done.stderr)
        return out.read_bytes()


def read_filter(
    path: Path | str, *, level: str = "2", cpu: str = "v3", compiler: Compiler | None = None
) -> ProgramSpec:
    """The program in an object (.o) or in C source (.c, compiled on the fly).

    Raises OkoError: ElfError with the file's name in front, or ToolchainError.
    """
    from .elf import read_object  # pyelftools takes 50 ms to import: only where there is an object

    path = Path(path)
    if path.suffix == ".c":
        data = compile_source(path, level=level, cpu=cpu, compiler=compiler)
    else:
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise OkoError(f"{path}: {exc.strerror}") from None
    try:
        return read_object(data, path.stem)
    except OkoError as exc:
        raise type(exc)(f"{path}: {exc}", exc.hint) from None


def _first_error(path: Path, output: str, compiler: Compiler) -> str:
    for line in output.splitlines():
        if "error:" in line:
            return line.strip()
    words = output.strip().splitlines()
    return f"{path}: {compiler.label} failed: {words[-1] if words else 'no message'}"


def _versioned(prefix: str) -> list[str]:
    """clang-22, clang-19, .. on the path, newest first."""
    pattern = re.compile(rf"{prefix}-(\d+)\Z")
    versions = set()
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            names = os.listdir(directory or ".")
        except OSError:
            continue
        versions |= {int(match[1]) for match in map(pattern.match, names) if match}
    return [f"{prefix}-{version}" for version in sorted(versions, reverse=True)]


def _version(command: tuple[str, ...]) -> int:
    match = re.search(r"(?:version |\) )(\d+)\.", _output((*command, "--version")))
    return int(match[1]) if match else 0


def _output(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
