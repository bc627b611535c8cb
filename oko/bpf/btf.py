"""BTF: the type information that clang -g puts into BPF objects (.BTF and .BTF.ext).

Used for three things: BTF-style map definitions (their attributes are encoded as types), the
layout of map keys and values for typed dumps, and the source line of each instruction.
Format: the kernel's Documentation/bpf/btf.rst.

The reader takes untrusted bytes: every offset is checked, type chains and nesting are bounded, and
any fault is one BtfError with the place. Types are decoded on demand. Relocations of the section
are not applied: nothing used here depends on them. Objects are immutable once made.

Left out: CO-RE relocations, tags, functions' prototypes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ..errors import BtfError

MAGIC = 0xEB9F
MAX_CHAIN = 32  # typedefs and qualifiers in a row
MAX_DEPTH = 8  # structs within structs in a Layout
MAX_FIELDS = 512  # fields of one Layout in all
MAX_STRING = 4096


class Kind(IntEnum):
    """BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Bytes after the 12-byte head: fixed part, and per counted member.
_TAIL = {
    Kind.INT: (4, 0),
    Kind.PTR: (0, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FWD: (0, 0),
    Kind.TYPEDEF: (0, 0),
    Kind.VOLATILE: (0, 0),
    Kind.CONST: (0, 0),
    Kind.RESTRICT: (0, 0),
    Kind.FUNC: (0, 0),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.FLOAT: (0, 0),
    Kind.DECL_TAG: (4, 0),
    Kind.TYPE_TAG: (0, 0),
    Kind.ENUM64: (0, 12),
}
_KINDS = {int(kind): kind for kind in _TAIL}
_TRANSPARENT = {Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG}


class BtfType(NamedTuple):
    """The head of one type; value is its size or the type that it refers to, by kind."""

    kind: Kind
    name: str
    vlen: int  # members, enumerators, parameters
    bitfields: bool
    value: int
    tail: int  # offset of what follows the head, in the section


class Member(NamedTuple):
    """A member of a struct or union, offset and width in bits (width 0: the type's own)."""

    name: str
    type_id: int
    offset: int
    width: int


@dataclass(frozen=True)
class Layout:
    """The shape of a value in memory, for showing and parsing it.

    kind: "int", "bool", "char", "enum", "struct", "array" or "bytes" (anything else: unions,
    bit fields, floats). type_name: the outermost name that the source used (a typedef such as
    __be32), which tells byte order and meaning.
    """

    kind: str
    size: int
    type_name: str = ""
    signed: bool = False
    fields: tuple[tuple[str, int, Layout], ...] = ()
    """struct: (name, byte offset, layout)"""
    count: int = 0
    """array: elements"""
    element: Layout | None = None
    names: tuple[tuple[int, str], ...] = ()
    """enum: (value, name)"""


class LineRecord(NamedTuple):
    """One record of .BTF.ext's line_info; offset is in bytes from the section's start."""

    section: str
    offset: int
    file: str
    text: str
    line: int
    column: int


class Btf:
    """The types of a .BTF section. Raises BtfError when the section is malformed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        header = _unpack(data, "<HBBIIIII", 0, ".BTF header")
        magic, version, _flags, hdr_len, type_off, type_len, str_off, str_len = header
        if magic != MAGIC:
            raise BtfError(f".BTF: magic {magic:#x} instead of {MAGIC:#x}")
        if version != 1:
            raise BtfError(f".BTF: version {version} is unknown")
        end = hdr_len + type_off + type_len
        self._strings = _slice(data, hdr_len + str_off, str_len, ".BTF strings")
        _slice(data, hdr_len + type_off, type_len, ".BTF types")
        # Offsets of all types, in one pass: ids are positions, counted from 1.
        self._offsets: list[int] = [0]
        at = hdr_len + type_off
        while at < end:
            self._offsets.append(at)
            kind, count, _ = self._info(at)
            fixed, each = _TAIL[kind]
            at += 12 + fixed + each * count
        if at != end:
            raise BtfError(f".BTF: type {len(self._offsets) - 1} ends beyond the section")

    def __len__(self) -> int:
        return len(self._offsets)

    def _info(self, at: int) -> tuple[Kind, int, bool]:
        _, info = _unpack(self._data, "<II", at, ".BTF type")
        kind = _KINDS.get(info >> 24 & 0x1F)
        if kind is None:
            raise BtfError(f".BTF: unknown kind {info >> 24 & 0x1F} at offset {at}")
        return kind, info & 0xFFFF, bool(info >> 31)

    def string(self, offset: int) -> str:
        """The NUL-terminated string at offset of the string section."""
        end = self._strings.find(b"\0", offset, offset + MAX_STRING)
        if end < 0:
            raise BtfError(f".BTF: no string of at most {MAX_STRING} bytes at offset {offset}")
        return self._strings[offset:end].decode("utf-8", "replace")

    def type(self, type_id: int) -> BtfType:
        """The head of type type_id; 0 is void."""
        if type_id == 0:
            return BtfType(Kind.VOID, "void", 0, False, 0, 0)
        if type_id >= len(self._offsets):
            raise BtfError(f".BTF: there is no type {type_id}")
        at = self._offsets[type_id]
        name, _, value = _unpack(self._data, "<III", at, ".BTF type")
        kind, count, flag = self._info(at)
        return BtfType(kind, self.string(name), count, flag, value, at + 12)

    def resolve(self, type_id: int) -> tuple[int, BtfType]:
        """Follows typedefs and qualifiers to the type that says something."""
        for _ in range(MAX_CHAIN):
            found = self.type(type_id)
            if found.kind not in _TRANSPARENT:
                return type_id, found
            type_id = found.value
        raise BtfError(f".BTF: type {type_id} is a chain of more than {MAX_CHAIN} typedefs")

    def array(self, found: BtfType) -> tuple[int, int]:
        """(element type, number of elements) of an ARRAY."""
        element, _, count = _unpack(self._data, "<III", found.tail, ".BTF array")
        return element, count

    def members(self, found: BtfType) -> list[Member]:
        """The members of a STRUCT or UNION."""
        result = []
        for i in range(found.vlen):
            name, type_id, offset = _unpack(self._data, "<III", found.tail + 12 * i, ".BTF member")
            width = 0
            if found.bitfields:
                offset, width = offset & 0xFFFFFF, offset >> 24
            result.append(Member(self.string(name), type_id, offset, width))
        return result

    def size_of(self, type_id: int) -> int:
        """Bytes that a variable of the type takes. BtfError for void, functions, forwards."""
        factor = 1
        for _ in range(MAX_CHAIN):
            type_id, found = self.resolve(type_id)
            if found.kind in (
                Kind.INT,
                Kind.STRUCT,
                Kind.UNION,
                Kind.ENUM,
                Kind.ENUM64,
                Kind.FLOAT,
                Kind.DATASEC,
            ):
                return factor * found.value
            if found.kind is Kind.PTR:
                return factor * 8
            if found.kind is not Kind.ARRAY:
                break
            type_id, count = self.array(found)
            factor *= count
        raise BtfError(f".BTF: type {type_id} has no size")

    def datasec_vars(self, section: str) -> dict[str, int]:
        """name -> type of the variables of a section such as ".maps"."""
        result = {}
        for type_id in range(1, len(self._offsets)):
            found = self.type(type_id)
            if found.kind is not Kind.DATASEC or found.name != section:
                continue
            for i in range(found.vlen):
                var_id, _, _ = _unpack(self._data, "<III", found.tail + 12 * i, ".BTF section")
                var = self.type(var_id)
                if var.kind is Kind.VAR:
                    result[var.name] = var.value
        return result

    def layout(self, type_id: int) -> Layout:
        """The shape of a type, bounded in depth and fields; what is beyond becomes "bytes"."""
        return _Shaper(self).layout(type_id, MAX_DEPTH)


class _Shaper:
    """Builds one Layout; counts fields so that crafted nesting cannot explode."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.left = MAX_FIELDS

    def layout(self, type_id: int, depth: int) -> Layout:
        _, found = self.btf.resolve(type_id)  # so the chain below ends
        outer = self.btf.type(type_id)
        while outer.kind in _TRANSPARENT and outer.kind is not Kind.TYPEDEF:
            outer = self.btf.type(outer.value)
        name = outer.name
        size = self.btf.size_of(type_id)
        if found.kind is Kind.INT:
            encoding, offset, bits = self._int(found)
            if offset or bits != 8 * size or size not in (1, 2, 4, 8, 16):
                return Layout("bytes", size, name)
            kind = "bool" if encoding & 4 else "char" if encoding & 2 else "int"
            return Layout(kind, size, name, signed=bool(encoding & 1))
        if found.kind in (Kind.ENUM, Kind.ENUM64) and size in (1, 2, 4, 8):
            return Layout("enum", size, name, found.bitfields, names=self._enum(found))
        if found.kind is Kind.ARRAY and depth:
            element_id, count = self.btf.array(found)
            element = self.layout(element_id, depth - 1)
            return Layout("array", size, name, count=count, element=element)
        if found.kind is Kind.STRUCT and depth:
            return self._struct(found, size, name, depth)
        return Layout("bytes", size, name)

    def _struct(self, found: BtfType, size: int, name: str, depth: int) -> Layout:
        members = self.btf.members(found)
        self.left -= len(members)
        plain = all(not m.width and m.offset % 8 == 0 for m in members)
        if not plain or self.left < 0:
            return Layout("bytes", size, name)
        fields = []
        for member in members:
            layout = self.layout(member.type_id, depth - 1)
            if member.offset // 8 + layout.size > size:
                raise BtfError(f".BTF: member {member.name!r} of {name!r} lies outside it")
            fields.append((member.name, member.offset // 8, layout))
        return Layout("struct", size, name, fields=tuple(fields))

    def _int(self, found: BtfType) -> tuple[int, int, int]:
        (word,) = _unpack(self.btf._data, "<I", found.tail, ".BTF int")
        return word >> 24 & 0xF, word >> 16 & 0xFF, word & 0xFF

    def _enum(self, found: BtfType) -> tuple[tuple[int, str], ...]:
        self.left -= found.vlen
        if self.left < 0:
            return ()
        names = []
        for i in range(found.vlen):
            if found.kind is Kind.ENUM:
                name, value = _unpack(self.btf._data, "<Ii", found.tail + 8 * i, ".BTF enum")
            else:
                name, low, high = _unpack(
                    self.btf._data, "<IIi", found.tail + 12 * i, ".BTF enum64"
                )
                value = high << 32 | low
            names.append((value, self.btf.string(name)))
        return tuple(names)


def read_lines(ext: bytes, btf: Btf) -> list[LineRecord]:
    """The line records of a .BTF.ext section, in file order."""
    magic, version, _flags, hdr_len = _unpack(ext, "<HBBI", 0, ".BTF.ext header")
    if magic != MAGIC or version != 1:
        raise BtfError(f".BTF.ext: magic {magic:#x}, version {version} instead of {MAGIC:#x}, 1")
    _, _, line_off, line_len = _unpack(ext, "<IIII", 8, ".BTF.ext header")
    if not line_len:
        return []
    at = hdr_len + line_off
    body = _slice(ext, at, line_len, ".BTF.ext line_info")
    (rec_size,) = _unpack(body, "<I", 0, ".BTF.ext line_info")
    if rec_size < 16:
        raise BtfError(f".BTF.ext: line records of {rec_size} bytes instead of 16")
    records = []
    at = 4
    while at < len(body):
        name_off, count = _unpack(body, "<II", at, ".BTF.ext line_info section")
        section = btf.string(name_off)
        at += 8
        _slice(body, at, count * rec_size, ".BTF.ext line_info records")
        for _ in range(count):
            offset, file, text, place = _unpack(body, "<IIII", at, ".BTF.ext line record")
            records.append(
                LineRecord(
                    section,
                    offset,
                    btf.string(file),
                    btf.string(text).rstrip(),
                    place >> 10,
                    place & 0x3FF,
                )
            )
            at += rec_size
    return records


def _slice(data: bytes, offset: int, size: int, what: str) -> bytes:
    if offset + size > len(data):
        raise BtfError(f"{what}: bytes {offset} to {offset + size} of {len(data)}")
    return data[offset : offset + size]


def _unpack(data: bytes, fmt: str, offset: int, what: str) -> tuple[int, ...]:
    try:
        return struct.unpack_from(fmt, data, offset)
    except struct.error:
        raise BtfError(f"{what}: cut off at offset {offset} of {len(data)}") from None
