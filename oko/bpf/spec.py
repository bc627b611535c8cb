"""What a filter program is before it is loaded: plain frozen data.

A ProgramSpec is the Python side of `struct oko_prog_spec` (csrc/oko.h): flat, position-independent,
unverified. elf.py makes one from an object file, asm.py from text; the binding copies it into C.
Loading is a separate step that can fail.

Immutable, so thread-safe. Values are not checked here: the core checks every record that it gets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from .btf import Layout

INSN_SIZE = 8
"""Bytes of one instruction slot (RFC 9669 section 3); a 64-bit immediate load takes two."""

LDDW = 0x18
"""Opcode of the 64-bit immediate load, the only two-slot instruction."""

CALL = 0x85
"""Opcode of a call by immediate: of a helper or of another function of the program."""

# Values of the src register in LDDW and CALL: enum oko_pseudo in oko.h.
PSEUDO_MAP = 1
PSEUDO_DATA = 2
PSEUDO_LOCAL = 1


class MapType(IntEnum):
    """enum oko_map_type: Oko's numbers 1-4, then ours."""

    ARRAY = 1
    BLOOM = 2
    COUNT_MIN = 3
    HASH = 4
    LRU_HASH = 5
    LPM_TRIE = 6
    WORKER_ARRAY = 7
    WORKER_HASH = 8

    @property
    def label(self) -> str:
        """The name shown to users: "lru_hash"."""
        return self.name.lower()


class Insn(NamedTuple):
    """One instruction slot, fields as in RFC 9669 section 3.1; off and imm are signed."""

    code: int
    dst: int
    src: int
    off: int
    imm: int

    def pack(self) -> bytes:
        """The slot's 8 bytes, little-endian."""
        return _SLOT.pack(self.code, self.dst | self.src << 4, self.off, self.imm)


_SLOT = struct.Struct("<BBhi")


def unpack(insns: bytes) -> list[Insn]:
    """Decodes slots; len(insns) must be a multiple of 8."""
    return [
        Insn(code, regs & 15, regs >> 4, off, imm)
        for code, regs, off, imm in _SLOT.iter_unpack(insns)
    ]


@dataclass(frozen=True)
class MapSpec:
    """A map definition. Sizes in bytes; see `struct oko_map_spec` for what they mean per type.

    key_layout, value_layout: the C types of key and value, where BTF tells; used only for display
    and for typed input.
    """

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    n_hashes: int = 0
    key_layout: Layout | None = None
    value_layout: Layout | None = None

    @property
    def type_label(self) -> str:
        """The type's name, or "type N" for a number that no map type has."""
        try:
            return MapType(self.type).label
        except ValueError:
            return f"type {self.type}"


@dataclass(frozen=True)
class DataSpec:
    """A .rodata/.data/.bss section. contents is None for zeroes (.bss)."""

    name: str
    size: int
    contents: bytes | None
    writable: bool
    variables: tuple[tuple[str, int, int], ...] = ()
    """(name, offset, size) of the section's symbols, for display."""


@dataclass(frozen=True)
class FuncSpec:
    """A function and the index of its first instruction; the entry function is at 0."""

    name: str
    insn: int


@dataclass(frozen=True)
class LineInfo:
    """The instructions from insn up to the next record come from this source line.

    column counts from 1, 0 when unknown; text is the source line, "" when the object has none.
    """

    insn: int
    line: int
    file: str = ""
    text: str = ""
    column: int = 0


@dataclass(frozen=True)
class ProgramSpec:
    """A whole program; insns are 8-byte slots with pseudo-relocations as oko.h defines them."""

    name: str
    insns: bytes
    funcs: tuple[FuncSpec, ...] = ()
    maps: tuple[MapSpec, ...] = ()
    data: tuple[DataSpec, ...] = ()
    lines: tuple[LineInfo, ...] = ()
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """Things left out of the spec that a user may want to know, such as broken debug sections."""

    @property
    def n_insns(self) -> int:
        """Number of instruction slots."""
        return len(self.insns) // INSN_SIZE

    def decoded(self) -> Iterator[tuple[int, Insn]]:
        """(index, first slot) of each instruction; the second half of an LDDW is left out."""
        skip = False
        for index, insn in enumerate(unpack(self.insns)):
            if skip:
                skip = False
                continue
            skip = insn.code == LDDW
            yield index, insn

    def func_at(self, insn: int) -> FuncSpec | None:
        """The function that holds instruction insn."""
        return next((f for f in reversed(self.funcs) if f.insn <= insn), None)

    def line_at(self, insn: int) -> LineInfo | None:
        """The source line of instruction insn; None without debug information.

        A record does not reach past the end of its function.
        """
        func = self.func_at(insn)
        start = func.insn if func else 0
        found = None
        for record in self.lines:
            if record.insn > insn:
                break
            if record.insn >= start:
                found = record
        return found

    def map_named(self, name: str) -> int | None:
        """Index of the map with this name, or None."""
        return next((i for i, m in enumerate(self.maps) if m.name == name), None)
