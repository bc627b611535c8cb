"""The BTF reader: types, layouts, map definitions, source lines; malformed sections are errors."""

from __future__ import annotations

import struct

import pytest
from elf_maker import FUNC, Rel, Sec, Sym, make
from hypothesis import given
from hypothesis import strategies as st

from oko.bpf.asm import assemble
from oko.bpf.btf import MAX_FIELDS, Btf, Kind, Layout, read_lines
from oko.bpf.elf import read_object
from oko.bpf.mapdefs import btf_map
from oko.bpf.spec import MapSpec, MapType
from oko.errors import BtfError, ElfError


class Maker:
    """Writes a .BTF section after the format's specification; types are numbered from 1."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.types = b""
        self.count = 0

    def string(self, text: str) -> int:
        if not text:
            return 0
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def add(self, kind: Kind, name: str, value: int, tail: bytes = b"", vlen: int = 0) -> int:
        info = int(kind) << 24 | vlen
        self.types += struct.pack("<III", self.string(name), info, value) + tail
        self.count += 1
        return self.count

    def integer(self, name: str, size: int, encoding: int = 0) -> int:
        return self.add(Kind.INT, name, size, struct.pack("<I", encoding << 24 | 8 * size))

    def pointer(self, target: int) -> int:
        return self.add(Kind.PTR, "", target)

    def array(self, element: int, count: int) -> int:
        return self.add(Kind.ARRAY, "", 0, struct.pack("<III", element, 1, count))

    def struct(self, name: str, size: int, *members: tuple[str, int, int]) -> int:
        tail = b"".join(struct.pack("<III", self.string(n), t, 8 * at) for n, t, at in members)
        return self.add(Kind.STRUCT, name, size, tail, len(members))

    def number(self, value: int) -> int:
        """int (*)[value], as map attributes are encoded."""
        return self.pointer(self.array(1, value))

    def map(self, name: str, **members: int) -> int:
        each = [(n, t, 8 * i) for i, (n, t) in enumerate(members.items())]
        definition = self.struct("", 8 * len(each), *each)
        return self.add(Kind.VAR, name, definition, struct.pack("<I", 1))

    def section(self, name: str, *variables: int) -> int:
        tail = b"".join(struct.pack("<III", v, 0, 8) for v in variables)
        return self.add(Kind.DATASEC, name, 0, tail, len(variables))

    def bytes(self) -> bytes:
        header = struct.pack(
            "<HBBIIIII",
            0xEB9F,
            1,
            0,
            24,
            0,
            len(self.types),
            len(self.types),
            len(self.strings),
        )
        return header + self.types + self.strings


def small() -> Maker:
    maker = Maker()
    assert maker.integer("int", 4, 1) == 1
    assert maker.integer("unsigned int", 4) == 2
    assert maker.integer("unsigned char", 1) == 3
    assert maker.integer("char", 1, 1) == 4
    assert maker.add(Kind.TYPEDEF, "__be32", 2) == 5
    return maker


def test_sizes() -> None:
    maker = small()
    array = maker.array(maker.array(2, 3), 5)
    pointer = maker.pointer(array)
    volatile = maker.add(Kind.VOLATILE, "", maker.add(Kind.CONST, "", array))
    void = maker.add(Kind.CONST, "", 0)
    function = maker.add(Kind.FUNC, "f", 1)
    btf = Btf(maker.bytes())
    assert [btf.size_of(t) for t in (1, 3, 5, array, pointer, volatile)] == [4, 1, 4, 60, 8, 60]
    for bad in (0, void, function):
        with pytest.raises(BtfError, match="no size"):
            btf.size_of(bad)
    with pytest.raises(BtfError, match="there is no type 99"):
        btf.size_of(99)


def test_layouts() -> None:
    maker = small()
    boolean = maker.integer("_Bool", 1, 4)
    choice = maker.add(
        Kind.ENUM, "state", 4, struct.pack("<IiIi", maker.string("A"), 0, maker.string("B"), -1), 2
    )
    name = maker.array(4, 16)
    inner = maker.struct("inner", 4, ("a", 5, 0))
    union = maker.add(Kind.UNION, "u", 8, struct.pack("<III", 0, 1, 0), 1)
    outer = maker.struct(
        "outer",
        40,
        ("src", 5, 0),
        ("ok", boolean, 4),
        ("state", choice, 8),
        ("name", name, 12),
        ("inner", maker.add(Kind.CONST, "", inner), 28),
        ("u", union, 32),
    )
    address = Layout("int", 4, "__be32")
    char = Layout("int", 1, "char", signed=True)
    assert Btf(maker.bytes()).layout(outer) == Layout(
        "struct",
        40,
        "outer",
        fields=(
            ("src", 0, address),
            ("ok", 4, Layout("bool", 1, "_Bool")),
            ("state", 8, Layout("enum", 4, "state", names=((0, "A"), (-1, "B")))),
            ("name", 12, Layout("array", 16, "", count=16, element=char)),
            ("inner", 28, Layout("struct", 4, "inner", fields=(("a", 0, address),))),
            ("u", 32, Layout("bytes", 8, "u")),
        ),
    )


def test_bit_fields_become_bytes() -> None:
    maker = small()
    tail = struct.pack("<III", maker.string("f"), 1, 3 | 5 << 24)
    flagged = maker.add(Kind.STRUCT, "bits", 4, tail, 1 | 1 << 31)
    assert Btf(maker.bytes()).layout(flagged) == Layout("bytes", 4, "bits")


def test_layouts_are_bounded() -> None:
    """A tower of structs, each twice the one below, does not take exponential time."""
    maker = small()
    below = 2
    for level in range(40):
        size = 4 << level
        below = maker.struct(f"s{level}", 2 * size & 0xFFFFFFFF, ("a", below, 0), ("b", below, 0))
    wide = maker.struct("wide", 8 * MAX_FIELDS, *[("x", 2, 8 * i) for i in range(MAX_FIELDS + 1)])
    btf = Btf(maker.bytes())
    assert btf.layout(below).kind in ("struct", "bytes")
    assert btf.layout(wide).kind == "bytes"


def test_map_definitions() -> None:
    maker = small()
    key = maker.pointer(maker.struct("k", 8, ("src", 5, 0), ("dst", 5, 4)))
    value = maker.pointer(2)
    number = maker.number
    variables = [
        maker.map("h", type=number(1), key=key, value=value, max_entries=number(100)),
        maker.map("a", type=number(2), key_size=number(4), value_size=number(16)),
        maker.map("bloom", type=number(30), value=value, map_extra=number(3)),
        maker.map("bloom5", type=number(30), value=value),
        maker.map("cms", type=number(0x4F01), key=key, nb_hash_functions=number(7)),
        maker.map("flags", type=number(9), key=key, value=value, map_flags=number(1)),
        maker.map("odd", type=number(3)),
        maker.map("untyped", key=key),
        maker.map("values", type=number(1), values=key),
        maker.map("int", type=2),
        maker.map("pointer", type=value),
        maker.add(Kind.VAR, "scalar", 2, struct.pack("<I", 1)),
    ]
    maker.section(".maps", *variables)
    btf = Btf(maker.bytes())

    def definition(name: str) -> tuple[int, ...]:
        spec = btf_map(btf, ".maps", name)
        return spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.n_hashes

    assert definition("h") == (MapType.HASH, 8, 4, 100, 0)
    assert definition("a") == (MapType.ARRAY, 4, 16, 0, 0)
    assert definition("bloom") == (MapType.BLOOM, 0, 4, 0, 3)
    assert definition("bloom5") == (MapType.BLOOM, 0, 4, 0, 5)
    assert definition("cms") == (MapType.COUNT_MIN, 8, 0, 0, 7)
    assert definition("flags") == (MapType.LRU_HASH, 8, 4, 0, 0)
    layout = btf_map(btf, ".maps", "h").key_layout
    assert layout is not None and [name for name, _, _ in layout.fields] == ["src", "dst"]
    for name, words in (
        ("odd", "type 3 is not supported"),
        ("untyped", "no member 'type'"),
        ("values", "maps that hold maps"),
        ("int", "not a pointer$"),
        ("pointer", "not a pointer to an array"),
        ("scalar", "not defined as a struct"),
        ("absent", "has no BTF type"),
    ):
        with pytest.raises(ElfError, match=words):
            btf_map(btf, ".maps", name)


def test_a_map_in_an_object() -> None:
    maker = small()
    key = maker.pointer(5)
    maker.section(
        ".maps",
        maker.map("m", type=maker.number(1), key=key, value=key, max_entries=maker.number(10)),
    )
    code = assemble("lddw %r1, 0\ncall 1\nexit")
    spec = read_object(
        make(
            Sec(".text", code, [Sym("entry", kind=FUNC)], [Rel(0, "section:.maps")]),
            Sec(".maps", bytes(32), [Sym("m", 0, 32)]),
            Sec(".BTF", maker.bytes()),
        )
    )
    layout = Layout("int", 4, "__be32")
    assert spec.maps == (MapSpec("m", MapType.HASH, 4, 4, 10, 0, layout, layout),)


def lines_section(records: list[tuple[int, int, int, int]], section: int, size: int = 16) -> bytes:
    body = struct.pack("<I", size) + struct.pack("<II", section, len(records))
    for record in records:
        body += struct.pack("<IIII", *record) + bytes(size - 16)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, len(body)) + body


@pytest.mark.parametrize("size", [16, 24])
def test_source_lines(size: int) -> None:
    maker = small()
    text, file = maker.string(".text"), maker.string("/src/f.c")
    line1, line2 = maker.string("int a;"), maker.string("  return a;  ")
    records = [
        (0, file, line1, 12 << 10 | 3),
        (8, file, line2, 0 << 10),  # made by the compiler: stays with the line before
        (16, file, line2, 13 << 10 | 1),
    ]
    ext = lines_section(records, text, size)
    found = read_lines(ext, Btf(maker.bytes()))
    assert [(r.offset, r.line, r.column, r.text) for r in found] == [
        (0, 12, 3, "int a;"),
        (8, 0, 0, "  return a;"),
        (16, 13, 1, "  return a;"),
    ]
    code = assemble("mov %r0, 1\nmov %r0, 2\nexit")
    spec = read_object(
        make(
            Sec(".text", code, [Sym("entry", kind=FUNC)]),
            Sec(".BTF", maker.bytes()),
            Sec(".BTF.ext", ext),
        )
    )
    assert [(r.insn, r.line) for r in spec.lines] == [(0, 12), (2, 13)]
    place = spec.line_at(1)
    assert place is not None and (place.line, place.file, place.column) == (12, "/src/f.c", 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d[:10], "cut off"),
        (lambda d: b"\0\0" + d[2:], "magic 0x0"),
        (lambda d: d[:2] + b"\2" + d[3:], "version 2"),
        (lambda d: d[:12] + struct.pack("<I", 10**6) + d[16:], "types: bytes"),
        (lambda d: d[:20] + struct.pack("<I", 10**6) + d[24:], "strings: bytes"),
        (lambda d: d[:28] + struct.pack("<I", 25 << 24) + d[32:], "unknown kind 25"),
        (lambda d: d[:28] + struct.pack("<I", 4 << 24 | 0xFFFF) + d[32:], "ends beyond"),
        (lambda d: d[:12] + struct.pack("<I", 14) + d[16:], "ends beyond|cut off"),
    ],
)
def test_malformed_sections(change, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BtfError, match=words):
        Btf(change(small().bytes()))


def test_malformed_types() -> None:
    maker = small()
    loop = maker.add(Kind.TYPEDEF, "loop", maker.count + 1)
    outside = maker.struct("outside", 4, ("a", 2, 4))
    stray = maker.add(Kind.TYPEDEF, "", 2)
    maker.types = maker.types[:-12] + struct.pack("<III", 10**6, 8 << 24, 2)
    btf = Btf(maker.bytes())
    with pytest.raises(BtfError, match="chain of more than"):
        btf.layout(loop)
    with pytest.raises(BtfError, match="member 'a' of 'outside' lies outside"):
        btf.layout(outside)
    with pytest.raises(BtfError, match="no string"):
        btf.type(stray)


def test_malformed_lines() -> None:
    maker = small()
    btf = Btf(maker.bytes())
    good = lines_section([(0, 0, 0, 1024)], 0)
    assert len(read_lines(good, btf)) == 1
    for bad, words in (
        (good[:20], "cut off"),
        (b"\0" + good[1:], "magic"),
        (good[:-1], "bytes"),
        (good[:24] + struct.pack("<I", 15) + good[28:], "records of 15 bytes"),
        (good[:24] + struct.pack("<I", 0) + good[28:], "records of 0 bytes"),
        (good[:32] + struct.pack("<I", 10**9) + good[36:], "records: bytes"),
        (lines_section([(0, 5000, 0, 1024)], 0), "no string"),
        (lines_section([(0, 0, 0, 1024)], 5000), "no string"),
    ):
        with pytest.raises(BtfError, match=words):
            read_lines(bad, btf)


def whole() -> tuple[bytes, bytes]:
    maker = small()
    key = maker.pointer(maker.struct("k", 8, ("src", 5, 0), ("dst", maker.array(3, 4), 4)))
    variable = maker.map("m", type=maker.number(1), key=key, value=key, max_entries=key)
    maker.section(".maps", variable)
    text = maker.string(".text")
    return maker.bytes(), lines_section([(0, text, text, 1024), (8, text, text, 2048)], text)


BASE, EXT = whole()


@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutants_are_an_error_or_types(changes: list[tuple[int, int]]) -> None:
    data, ext = bytearray(BASE), bytearray(EXT)
    for at, value in changes:
        data[at % len(data)] = value
        ext[at % len(ext)] = value
    try:
        btf = Btf(bytes(data))
        for number in range(len(btf)):
            btf.layout(number)
    except BtfError as exc:
        assert "\n" not in str(exc)
    for types in (BASE, bytes(data)):
        try:
            btf = Btf(types)
            read_lines(bytes(ext), btf)
        except BtfError:
            pass
        try:
            btf_map(btf, ".maps", "m")
        except ElfError as exc:
            assert "\n" not in str(exc)
