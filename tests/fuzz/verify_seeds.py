"""Writes seeds for fuzz_verify: real programs in its input format (see fuzz_verify.c).

    python tests/fuzz/verify_seeds.py FOLDER

Seeds are the programs of tests/bpf/verifier/*.data, the example filters' objects, and programs from
tests/differential/program_maker.py; so they follow what the tests know, and are not kept in the
repository. A program that the format cannot hold (too many instructions, data or maps) is left out.
"""

from __future__ import annotations

import hashlib
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
sys.path[:0] = [str(ROOT), str(TESTS / "bpf"), str(TESTS / "differential")]

from program_maker import make_program  # noqa: E402
from verifier_files import all_cases  # noqa: E402

from oko.bpf.elf import read_object  # noqa: E402
from oko.bpf.spec import ProgramSpec  # noqa: E402

MAX_INSNS, MAX_MAPS, MAX_DATA, MAX_FUNCS, MAX_SECTION = 2000, 16, 4, 8, 511

# A TCP segment and its like, for the runs.
PACKETS = bytes.fromhex(
    "020000000001020000000002080045000034000040004006000a0000010a000002"
    "04d2005000000001000000008018ffff0000000003030700"
) + bytes(range(120))


def seed(spec: ProgramSpec, guarded: bool) -> bytes | None:
    """The program in fuzz_verify's format; None when it does not fit."""
    counts = ((len(spec.maps), MAX_MAPS), (len(spec.data), MAX_DATA), (len(spec.funcs), MAX_FUNCS))
    if spec.n_insns > MAX_INSNS or any(count > most for count, most in counts):
        return None
    if any(section.size > MAX_SECTION for section in spec.data):
        return None
    out = struct.pack("<BBBBH", *(count for count, _ in counts), guarded, spec.n_insns)
    for found in spec.maps:
        sizes = (found.key_size % 100, found.value_size % 200, found.max_entries % 2048)
        out += struct.pack("<BHHHB", found.type, *sizes, found.n_hashes)
    for section in spec.data:
        contents = section.contents if section.contents is not None else bytes(section.size)
        out += struct.pack("<HB", section.size, section.writable) + contents
    for function in spec.funcs:
        out += struct.pack("<H", function.insn)
    return out + spec.insns + PACKETS


def programs() -> Iterator[ProgramSpec]:
    """All that seeds are made of."""
    for case in all_cases():
        yield case.spec
    for path in sorted((ROOT / "examples" / "bpf").glob("*.o")):
        yield read_object(path.read_bytes(), path.stem)
    chance = random.Random(7)
    for _ in range(100):
        yield make_program(chance.randbytes(80)).spec
    for _ in range(40):
        yield make_program(chance.randbytes(60), unproved=True).spec


def seeds() -> list[bytes]:
    """Every program, plain and guarded, each once."""
    made = (seed(spec, guarded) for spec in programs() for guarded in (False, True))
    return list(dict.fromkeys(data for data in made if data is not None))


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for data in seeds():
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
    print(f"{len(seeds())} seeds in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
