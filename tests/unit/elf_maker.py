"""Makes BPF objects byte by byte, well-formed or not, for tests of the ELF reader.

    make(Sec(".text", code, syms=[Sym("entry", kind=FUNC)], relocs=[Rel(8, "m")]), Sec(".data", ..))

Independent of the reader: plain struct.pack after the ELF specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

NOTYPE, OBJECT, FUNC, SECTION = 0, 1, 2, 3
LOCAL, GLOBAL = 0, 1
PROGBITS, SYMTAB, STRTAB, RELA, NOBITS, REL = 1, 2, 3, 4, 8, 9
WRITE, ALLOC, EXEC = 1, 2, 4
UNDEF, ABS, COMMON = 0, 0xFFF1, 0xFFF2


@dataclass
class Sym:
    """A symbol of the section it is listed in; where overrides the section's index."""

    name: str
    value: int = 0
    size: int = 0
    kind: int = OBJECT
    bind: int = GLOBAL
    where: int | None = None


@dataclass
class Rel:
    """A relocation at offset against a symbol's name, or "section:NAME"; type 1 = R_BPF_64_64."""

    offset: int
    symbol: str
    type: int = 1
    addend: int | None = None


@dataclass
class Sec:
    """A section; flags and type follow from the usual names."""

    name: str
    data: bytes = b""
    syms: list[Sym] = field(default_factory=list)
    relocs: list[Rel] = field(default_factory=list)
    type: int | None = None
    flags: int | None = None
    size: int | None = None


def usual_flags(name: str) -> int:
    if name.startswith((".text", "filter", "sub")):
        return ALLOC | EXEC
    if name.startswith((".data", ".bss", "maps", ".maps")):
        return ALLOC | WRITE
    return ALLOC if name.startswith((".rodata", ".eh_frame")) else 0


def make(
    *sections: Sec,
    machine: int = 247,
    kind: int = 1,
    symbols: tuple[Sym, ...] = (),
    rela: bool = False,
) -> bytes:
    """The object. symbols: more of them, with where set (ABS, UNDEF, COMMON)."""
    strings = _Strings()
    names = _Strings()
    table = [struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)]
    numbers: dict[str, int] = {}

    def add(symbol: Sym, index: int, key: str) -> None:
        numbers[key] = len(table)
        where = index if symbol.where is None else symbol.where
        table.append(
            struct.pack(
                "<IBBHQQ",
                strings.add(symbol.name),
                symbol.bind << 4 | symbol.kind,
                0,
                where,
                symbol.value,
                symbol.size,
            )
        )

    for index, section in enumerate(sections, 1):
        add(Sym("", kind=SECTION, bind=LOCAL), index, f"section:{section.name}")
    for index, section in enumerate(sections, 1):
        for symbol in section.syms:
            add(symbol, index, symbol.name)
    for symbol in symbols:
        add(symbol, 0, symbol.name)

    headers: list[tuple[int, ...]] = [(0,) * 10]
    body = bytearray(64)
    n_own = len(sections)
    with_relocs = [i for i, section in enumerate(sections, 1) if section.relocs]
    symtab = 1 + n_own + len(with_relocs)

    def put(name: str, data: bytes, type_: int, flags: int, size: int, *rest: int) -> None:
        body.extend(b"\0" * (-len(body) % 8))
        headers.append((names.add(name), type_, flags, 0, len(body), size, *rest))
        body.extend(data)

    for section in sections:
        type_ = section.type or (NOBITS if section.name.startswith(".bss") else PROGBITS)
        flags = usual_flags(section.name) if section.flags is None else section.flags
        size = len(section.data) if section.size is None else section.size
        put(section.name, section.data, type_, flags, size, 0, 0, 8, 0)
    for index in with_relocs:
        section = sections[index - 1]
        packed = b""
        for reloc in section.relocs:
            packed += struct.pack("<QII", reloc.offset, reloc.type, numbers[reloc.symbol])
            if rela:
                packed += struct.pack("<q", reloc.addend or 0)
        prefix, type_, each = (".rela", RELA, 24) if rela else (".rel", REL, 16)
        put(prefix + section.name, packed, type_, 0, len(packed), symtab, index, 8, each)
    joined = b"".join(table)
    put(".symtab", joined, SYMTAB, 0, len(joined), symtab + 1, 1 + n_own, 8, 24)
    put(".strtab", strings.data, STRTAB, 0, len(strings.data), 0, 0, 1, 0)
    names.add(".shstrtab")
    put(".shstrtab", names.data, STRTAB, 0, len(names.data), 0, 0, 1, 0)
    body.extend(b"\0" * (-len(body) % 8))
    offset = len(body)
    for header in headers:
        body.extend(struct.pack("<IIQQQQIIQQ", *header))
    body[:64] = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF",
        2,
        1,
        1,
        0,
        kind,
        machine,
        1,
        0,
        0,
        offset,
        0,
        64,
        0,
        0,
        64,
        len(headers),
        len(headers) - 1,
    )
    return bytes(body)


class _Strings:
    """A string table."""

    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at
