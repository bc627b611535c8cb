"""`python -m oko.bpf.conformance_plugin`: lets the public bpf_conformance suite run this VM.

Protocol: the program as hex digits on standard input; memory as hex digits in the first argument,
absent when there is none; options after it: --interpret, --jit (default: JIT if there is one) and,
our own, --batch (through the batch entry: prints 1 or 0 for r0 == 1 or not). r1 is the memory, r2
its length. r0 goes to standard output in hex with exit status 0; otherwise a message goes to
standard error with exit status 1.

Only here memory is writable, nothing is verified (decoding is checked all the same: non-zero
unused fields are refused) and the suite's own helpers apply.
"""

from __future__ import annotations

import sys

from .._binding import Engine, Vm
from ..errors import OkoError
from .spec import FuncSpec, ProgramSpec

MAX_PROGRAM = 1 << 20
"""Bytes of the largest program that is read."""


def run_program(
    program: bytes, memory: bytes = b"", engine: Engine = Engine.BEST, batch: bool = False
) -> int:
    """Runs a program of 8-byte slots in conformance mode and returns r0.

    batch: 1 if r0 is exactly 1, else 0, through the batch entry. Raises OkoError.
    """
    if len(program) % 8:
        raise OkoError(f"a program of {len(program)} bytes is not a whole number of instructions")
    spec = ProgramSpec("conformance", program, (FuncSpec("entry", 0),))
    jit = engine is not Engine.INTERP
    with Vm() as vm, vm.load(spec, conformance=True, jit=jit) as loaded:
        if batch:
            return int(loaded.run_batch([memory], engine=engine)[0])
        return int(loaded.run_raw(memory or None, engine=engine))


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    memory = b""
    engine, batch = Engine.BEST, False
    try:
        if words and not words[0].startswith("-"):
            memory = _hex(words.pop(0), "memory")
        for word in words:
            if word == "--interpret":
                engine = Engine.INTERP
            elif word == "--jit":
                engine = Engine.JIT
            elif word == "--batch":
                batch = True
            elif word:
                raise OkoError(f"unknown option {word!r}")
        program = _hex(sys.stdin.read(4 * MAX_PROGRAM), "program")
        print(f"{run_program(program, memory, engine, batch):x}")
    except OkoError as exc:
        print(f"conformance_plugin: {exc}", file=sys.stderr)
        return 1
    return 0


def _hex(text: str, what: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise OkoError(f"the {what} is not pairs of hex digits") from None
    if len(raw) > MAX_PROGRAM:
        raise OkoError(f"the {what} is over {MAX_PROGRAM} bytes")
    return raw


if __name__ == "__main__":
    sys.exit(main())
