"""Writes BPF objects as flat program files for the C benchmark (csrc/bench/vm.c): it reads no ELF.

usage: flatten.py OBJECT OUTPUT

A flat file is `struct flat` of csrc/bench/vm.c followed by the records of oko.h that it counts:
instructions, map definitions, functions, then the data sections with their bytes.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from oko.bpf.elf import read_object
from oko.bpf.spec import ProgramSpec

MAGIC = b"okoflat1"


def flatten(spec: ProgramSpec) -> bytes:
    """The file's contents."""
    parts = [
        MAGIC,
        struct.pack("<4I", spec.n_insns, len(spec.maps), len(spec.funcs), len(spec.data)),
        spec.insns,
    ]
    for m in spec.maps:
        parts.append(
            struct.pack(
                "<64s5I",
                m.name.encode(),
                m.type,
                m.key_size,
                m.value_size,
                m.max_entries,
                m.n_hashes,
            )
        )
    for f in spec.funcs:
        parts.append(struct.pack("<64sI", f.name.encode(), f.insn))
    for d in spec.data:
        parts.append(struct.pack("<64s2I", d.name.encode(), d.size, int(d.writable)))
        parts.append(d.contents or bytes(d.size))
    return b"".join(parts)


def main(argv: list[str]) -> int:
    """Flattens one object."""
    source, target = (Path(arg) for arg in argv)
    target.write_bytes(flatten(read_object(source.read_bytes(), source.stem)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
