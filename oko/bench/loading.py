"""Loading: from an object's bytes or instructions to a program that can run, as Python sees it.

Time of verifying, making machine code and creating maps, and of giving it all back; for objects
also of reading ELF.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from oko.bench.registry import Goal, Sample, Unavailable, benchmark
from oko.bench.workloads import ROOT
from oko.bpf.asm import assemble
from oko.bpf.spec import FuncSpec, ProgramSpec
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


def _register(name: str) -> None:
    @benchmark(f"load/{name}", "loading", "program")
    def body() -> Generator[Callable[[], Sample], None, None]:
        path = ROOT / "examples" / "bpf" / f"{name}.o"
        if not path.exists():
            raise Unavailable(f"no {path.name}: run from a source tree")
        yield from _loading(path.read_bytes())


for _name in ("stateless_firewall", "stateful_firewall", "rate_limiter", "dns_guard"):
    _register(_name)
