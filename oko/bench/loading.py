"""Loading: from an object's bytes or instructions to a program that can run, as Python sees it.

Time of verifying, making machine code and creating maps, and of giving it all back; for objects
also of reading ELF. `load/d_flow` stands for an ordinary filter's object, of 40 instructions with
a map and BTF. `load/c30` is what the core alone spends on verifying and compiling a program
of 30 instructions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator

from oko.bench.registry import Goal, Sample, Unavailable, benchmark
from oko.bench.workloads import ROOT
from oko.bpf.asm import assemble
from oko.bpf.spec import FuncSpec, ProgramSpec
from oko.bpf.toolchain import compile_source
from oko.errors import ToolchainError
from oko.filters import FilterProgram


def thousand_instructions() -> ProgramSpec:
    """A program of 1,000 instructions like a long list of conditions: bytes of the packet, each
    compared, two ways that meet again, and a running sum."""
    lines = ["mov %r0, 0", "mov %r6, 0", "jlt %r2, 64, exit"]
    for i in range(165):
        lines += [
            f"ldxb %r3, [%r1+{i % 64}]",
            f"jgt %r3, {7 * i % 251}, over{i}",
            f"xor %r6, {i + 1}",
            f"over{i}:",
            "add %r6, %r3",
            "lsh %r6, 1",
            f"and %r6, {0x7FFFFFFF}",
        ]
    lines += ["jset %r6, 1, exit", "mov %r0, 1", "mov %r4, %r6", "add %r4, 1", "rsh %r4, 3"]
    lines += ["mov %r5, %r4", "exit"]
    text = "\n".join(lines)
    return ProgramSpec("thousand", assemble(text), (FuncSpec("entry", 0),))


def _loading(source: ProgramSpec | bytes) -> Generator[Callable[[], Sample], None, None]:
    def sample() -> Sample:
        start = time.thread_time()
        FilterProgram.load(source, name="benchmark").close()
        return Sample(1, time.thread_time() - start)

    yield sample


@benchmark("load/1000", "loading", "program", Goal(ns=50e6), instructions=1_000)
def _thousand() -> Generator[Callable[[], Sample], None, None]:
    yield from _loading(thousand_instructions())


THIRTY = """
    mov %r0, 0
    jlt %r2, 42, out        ; Ethernet, IPv4, UDP
    ldxh %r3, [%r1+12]
    be16 %r3
    jne %r3, 0x0800, out
    ldxb %r4, [%r1+14]
    mov %r5, %r4
    rsh %r5, 4
    jne %r5, 4, out
    and %r4, 15
    lsh %r4, 2
    jlt %r4, 20, out
    ldxb %r5, [%r1+23]
    jne %r5, 17, out
    ldxh %r5, [%r1+20]
    jset %r5, 0xff1f, out       ; not a later fragment
    mov %r6, %r4
    add %r6, 22
    jgt %r6, %r2, out
    add %r1, %r4
    ldxh %r7, [%r1+14]
    be16 %r7
    ldxh %r8, [%r1+16]
    be16 %r8
    jeq %r8, 53, yes
    jgt %r7, 1024, out
yes:
    mov %r0, %r8
    and %r0, 1
    xor %r0, 1
out:
    exit
"""
"""A filter of ordinary length: UDP to port 53, or from a low port to an even one."""


@benchmark("load/c30", "loading", "program", Goal(ns=100e3), instructions=30)
def _thirty() -> Generator[Callable[[], Sample], None, None]:
    spec = ProgramSpec("thirty", assemble(THIRTY), (FuncSpec("entry", 0),))
    if spec.n_insns != 30:
        raise AssertionError(f"{spec.n_insns} instructions")

    def sample() -> Sample:
        ns = []  # by the clock on the wall, so the median of many
        for _ in range(99):
            with FilterProgram.load(spec, name="benchmark") as program:
                ns.append(program.info.verify_ns + program.info.jit_ns)
        return Sample(1, statistics.median(ns) * 1e-9)

    yield sample


@benchmark("load/d_flow", "loading", "program", Goal(ns=5e6), instructions="about 40")
def _d_flow() -> Generator[Callable[[], Sample], None, None]:
    """From the object of a C file: what the goal says of 30 instructions."""
    source = ROOT / "tools" / "bench" / "filters" / "d_flow.c"
    try:
        data = compile_source(source)
    except ToolchainError as error:
        raise Unavailable(str(error)) from None
    yield from _loading(data)


def _register(name: str) -> None:
    @benchmark(f"load/{name}", "loading", "program")
    def body() -> Generator[Callable[[], Sample], None, None]:
        path = ROOT / "examples" / "bpf" / f"{name}.o"
        if not path.exists():
            raise Unavailable(f"no {path.name}: run from a source tree")
        yield from _loading(path.read_bytes())


for _name in ("stateless_firewall", "stateful_firewall", "rate_limiter", "dns_guard"):
    _register(_name)
