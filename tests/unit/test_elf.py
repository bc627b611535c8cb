"""The ELF reader: entry, linking, maps, data; every malformed object is one clear ElfError."""

from __future__ import annotations

import struct

import pytest
from elf_maker import (
    ABS,
    COMMON,
    FUNC,
    LOCAL,
    NOTYPE,
    REL,
    UNDEF,
    Rel,
    Sec,
    Sym,
    make,
)
from hypothesis import given
from hypothesis import strategies as st

from oko.bpf.asm import assemble
from oko.bpf.elf import read_object
from oko.bpf.spec import DataSpec, FuncSpec, MapSpec, ProgramSpec, unpack
from oko.errors import ElfError

MAP = struct.pack("<5I", 4, 4, 8, 100, 0)
RETURN = assemble("mov %r0, 1\nexit")
ENTRY = Sym("entry", kind=FUNC)


def text(code: str, *relocs: Rel, syms: tuple[Sym, ...] = (ENTRY,), name: str = ".text") -> Sec:
    return Sec(name, assemble(code), list(syms), list(relocs))


def lookup(at: int = 0) -> str:
    """Code that looks something up in the map whose address is loaded first."""
    return "lddw %r1, 0\nmov %r2, %r10\nadd %r2, -4\nstw [%r10-4], 0\ncall 1\nmov %r0, 0\nexit"


def insns(spec: ProgramSpec) -> list[tuple[int, ...]]:
    return [tuple(insn) for insn in unpack(spec.insns)]


# ---------------------------------------------------------------- entry and functions


def test_the_only_function_is_the_entry() -> None:
    spec = read_object(make(Sec(".text", RETURN, [Sym("whatever", kind=FUNC)])), "name")
    assert spec == ProgramSpec("name", RETURN, (FuncSpec("whatever", 0),))


def test_a_function_called_entry_wins_wherever_it_is() -> None:
    other = Sec(".text", RETURN, [Sym("a", kind=FUNC)])
    code = assemble("mov %r0, 7\nexit")
    entry = Sec("filter/x", RETURN + code, [Sym("b", 0, 16, FUNC), Sym("entry", 16, 16, FUNC)])
    spec = read_object(make(other, entry))
    assert (spec.insns, spec.funcs) == (code, (FuncSpec("entry", 0),))


def test_an_empty_text_section_is_passed_over() -> None:
    """The 2018 Oko took the first executable section even when it was empty."""
    spec = read_object(make(Sec(".text"), Sec("filter", RETURN, [Sym("f", kind=FUNC)])))
    assert spec.insns == RETURN


def test_static_functions_do_not_make_the_entry_ambiguous() -> None:
    symbols = [Sym("helper", 0, 16, FUNC, LOCAL), Sym("main", 16, 16, FUNC)]
    assert read_object(make(Sec(".text", RETURN * 2, symbols))).funcs[0].name == "main"


def test_a_section_without_function_symbols_is_one_function() -> None:
    assert read_object(make(Sec(".text", RETURN))).funcs == (FuncSpec(".text", 0),)


def test_functions_are_laid_out_from_the_entry_and_only_those_reached() -> None:
    """Calls: without relocation in the section, by symbol and by section + addend across."""
    main = assemble(
        """
        call local +3
        call local -1
        call local +0
        exit
        mov %r0, 5
        exit
        """
    )
    entry = Sec(
        ".text",
        RETURN + main,
        [
            Sym("unused", 0, 16, FUNC),
            Sym("entry", 16, 32, FUNC),
            Sym("near", 48, 16, FUNC, LOCAL),
        ],
        [Rel(24, "far", 10), Rel(32, "section:sub", 10)],
    )
    # "call +0" against the section symbol: the function at instruction 1.
    sub = Sec("sub", RETURN + RETURN, [Sym("far", 16, 16, FUNC), Sym("low", 0, 16, FUNC, LOCAL)])
    broken = make(entry, sub)
    with pytest.raises(ElfError, match=r"leads to sub\+0x8: no function there"):
        read_object(broken)
    entry.data = entry.data.replace(assemble("call local +0"), assemble("call local -1"))
    spec = read_object(make(entry, sub))
    assert spec.funcs == (
        FuncSpec("entry", 0),
        FuncSpec("near", 4),
        FuncSpec("far", 6),
        FuncSpec("low", 8),
    )
    calls = [(i, insn[4]) for i, insn in enumerate(insns(spec)) if insn[0] == 0x85]
    assert [i + 1 + imm for i, imm in calls] == [4, 6, 8]


def test_recursion_is_laid_out_once() -> None:
    """Refusing it is the verifier's business; the reader must end."""
    spec = read_object(make(text("call local -1\nexit")))
    assert (spec.n_insns, len(spec.funcs)) == (2, 1)


def test_calls_with_explicit_addends() -> None:
    section = text("call local +0\nexit\nmov %r0, 1\nexit", Rel(0, "section:.text", 10, 16))
    section.syms = [Sym("entry", 0, 16, FUNC), Sym("f", 16, 16, FUNC)]
    assert insns(read_object(make(section, rela=True)))[0][4] == 1


def test_aliases_of_the_entry() -> None:
    symbols = [Sym("a", 0, 16, FUNC, LOCAL), Sym("entry", 0, 16, FUNC), Sym("z", 0, 16, FUNC)]
    assert read_object(make(Sec(".text", RETURN, symbols))).funcs == (FuncSpec("entry", 0),)


def test_unwind_and_debug_sections_are_skipped() -> None:
    spec = read_object(
        make(
            Sec(".text", RETURN, [ENTRY]),
            Sec(".eh_frame", bytes(32), relocs=[Rel(8, "section:.text", 2)]),
            Sec(".debug_info", bytes(8), relocs=[Rel(0, "section:.text", 99)]),
            Sec(".BTF", b"nonsense"),
            Sec(".debug_line", b"\xff" * 40),
        )
    )
    assert spec.insns == RETURN and not spec.lines
    assert any("BTF" in warning for warning in spec.warnings)


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize("section", ["maps", "maps/x", ".data", ".data.maps"])
def test_ubpf_map_definitions(section: str) -> None:
    definition = Sec(section, bytes(8) + MAP, [Sym("m", 8, 20)])
    spec = read_object(make(text(lookup(), Rel(0, "m")), definition))
    assert spec.maps == (MapSpec("m", 4, 4, 8, 100, 0),)
    assert insns(spec)[:2] == [(0x18, 1, 1, 0, 0), (0, 0, 0, 0, 0)]
    assert spec.data == ()


def test_a_map_by_section_symbol_and_addend() -> None:
    code = lookup().replace("lddw %r1, 0", "lddw %r1, 20", 1)
    definitions = Sec("maps", MAP * 2, [Sym("one", 0, 20, bind=LOCAL), Sym("two", 20, 20)])
    spec = read_object(make(text(code, Rel(0, "section:maps")), definitions))
    assert [m.name for m in spec.maps] == ["two"]


def test_a_map_without_a_symbol_has_a_name_all_the_same() -> None:
    spec = read_object(make(text(lookup(), Rel(0, "section:maps")), Sec("maps", MAP)))
    assert spec.maps[0].name == "maps+0x0"


def test_map_numbers_follow_the_first_relocation_in_the_text() -> None:
    """In text order, whatever the order of definitions, and whichever function comes first."""
    early = "lddw %r1, 0\ncall 1\nexit\n"
    late = "lddw %r1, 0\ncall 1\nlddw %r1, 0\ncall 3\ncall local -8\nexit"
    section = text(early + late, Rel(0, "c"), Rel(32, "a"), Rel(56, "c"))
    section.syms = [Sym("f", 0, 32, FUNC), Sym("entry", 32, 64, FUNC)]
    section.data = section.data[:80] + assemble("call local -11") + section.data[88:]
    maps = Sec("maps", MAP * 3, [Sym(name, 20 * i, 20) for i, name in enumerate("abc")])
    spec = read_object(make(section, maps))
    assert [f.name for f in spec.funcs] == ["entry", "f"]
    assert [m.name for m in spec.maps] == ["c", "a"]
    references = [insn[4] for insn in insns(spec) if insn[0] == 0x18]
    assert references == [1, 0, 0]


def data_or_map(code: str) -> ProgramSpec:
    """A program that does something with a symbol of .data loaded into r6 first."""
    section = text("lddw %r6, 0\n" + code, Rel(0, "m"))
    if "call local" in code:  # what follows the first exit is a function of its own
        at = section.data.index(assemble("exit")) + 8
        section.syms = [Sym("entry", 0, at, FUNC), Sym("sub", at, 0, FUNC)]
    data = Sec(".data", MAP + bytes(8), [Sym("m", 0, 20), Sym("n", 20, 8)])
    return read_object(make(section, data))


CALL_LOOKUP = "mov %r1, %r6\nmov %r2, %r10\nadd %r2, -8\ncall 1\n"


@pytest.mark.parametrize(
    "code",
    [
        CALL_LOOKUP + "exit",
        "mov %r1, %r6\ncall 2\nexit",
        "mov %r1, %r6\ncall 3\nexit",
        "mov %r1, %r6\ncall 4\nexit",
        # through the stack
        "stxdw [%r10-16], %r6\nmov %r6, 0\nldxdw %r1, [%r10-16]\ncall 1\nexit",
        # on one branch only, and in a loop
        "jeq %r1, 0, +1\nmov %r6, 0\nmov %r1, %r6\ncall 1\nexit",
        "mov %r7, 5\nmov %r1, %r6\ncall 1\nsub %r7, 1\njne %r7, 0, -4\nexit",
        # what is in r3 at the call of a helper with two arguments does not count
        "mov %r3, %r6\nmov %r1, %r6\ncall 1\nexit",
        # handed to a sub-function
        "mov %r1, %r6\ncall local +1\nexit\ncall 1\nexit",
    ],
)
def test_a_symbol_of_data_is_a_map_when_it_is_used_as_one(code: str) -> None:
    spec = data_or_map(code)
    assert [m.name for m in spec.maps] == ["m"] and spec.data == ()


@pytest.mark.parametrize(
    "code",
    [
        "ldxw %r0, [%r6]\nexit",
        CALL_LOOKUP + "ldxw %r0, [%r6+4]\nexit",
        CALL_LOOKUP + "stw [%r6], 1\nexit",
        CALL_LOOKUP + "lock add [%r6], %r7\nexit",
        CALL_LOOKUP + "add %r6, 8\nldxb %r0, [%r6]\nexit",
        # its address goes somewhere else, or serves as a key
        CALL_LOOKUP + "mov %r1, %r10\nstxdw [%r1-8], %r6\nexit",
        CALL_LOOKUP + "mov %r2, %r6\nmov %r1, 0\ncall 1\nexit",
        "mov %r1, %r6\ncall 6\nexit",
        # read on the other branch
        "jeq %r1, 0, +3\nmov %r1, %r6\ncall 1\nexit\nldxw %r0, [%r6]\nexit",
        # read in a sub-function
        CALL_LOOKUP + "mov %r1, %r6\ncall local +1\nexit\nldxb %r0, [%r1]\nexit",
        "exit",
    ],
)
def test_a_symbol_of_data_that_is_read_or_written_is_data(code: str) -> None:
    spec = data_or_map(code)
    assert spec.maps == () and [d.name for d in spec.data] == [".data"]


def test_an_address_inside_a_symbol_counts_as_an_access_of_it() -> None:
    code = "lddw %r1, 0\ncall 1\nlddw %r2, 12\nldxw %r0, [%r2]\nexit"
    spec = read_object(
        make(text(code, Rel(0, "m"), Rel(24, "m")), Sec(".data", MAP, [Sym("m", 0, 20)]))
    )
    assert spec.maps == ()


# ---------------------------------------------------------------- data


def test_data_sections() -> None:
    code = """
        lddw %r1, 4
        lddw %r2, 0
        lddw %r3, 2
        lddw %r4, 0
        exit
    """
    spec = read_object(
        make(
            text(
                code,
                Rel(0, "section:.rodata"),
                Rel(16, "b"),
                Rel(32, "section:.bss"),
                Rel(48, "five"),
            ),
            Sec(".data", b"abcdefgh", [Sym("a", 0, 4), Sym("b", 4, 4)]),
            Sec(".rodata", b"12345", [Sym("c", 4, 1)]),
            Sec(".bss", size=64, syms=[Sym("z", 0, 64)]),
            Sec(".data.unused", b"x"),
            symbols=(Sym("five", 0x500000005, where=ABS),),
        )
    )
    assert spec.data == (
        DataSpec(".data", 8, b"abcdefgh", True, (("a", 0, 4), ("b", 4, 4))),
        DataSpec(".rodata", 5, b"12345", False, (("c", 4, 1),)),
        DataSpec(".bss", 64, None, True, (("z", 0, 64),)),
    )
    found = insns(spec)
    assert [(found[i][2], found[i][4], found[i + 1][4]) for i in (0, 2, 4, 6)] == [
        (2, 1, 4),
        (2, 0, 4),
        (2, 2, 2),
        (0, 5, 5),
    ]


# ---------------------------------------------------------------- malformed


def refused(words: str, *sections: Sec, **options: object) -> None:
    with pytest.raises(ElfError, match=words) as caught:
        read_object(make(*sections, **options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


GOOD = Sec(".text", RETURN, [ENTRY])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x7fELF", "cut off after 4 bytes"),
        (b"MZ" + bytes(200), "not an ELF object"),
        (b"BC\xc0\xde" + bytes(200), "bitcode"),
        (b"\x7fELF\1\1" + bytes(200), "not a 64-bit"),
        (b"\x7fELF\2\2" + bytes(200), "big-endian"),
        (b"\x7fELF\2\7" + bytes(200), "byte order 7"),
        (make(GOOD)[:-1], "cut off"),
        (make(GOOD)[:100], "cut off|malformed"),
    ],
)
def test_not_an_object(data: bytes, words: str) -> None:
    with pytest.raises(ElfError, match=words):
        read_object(data)


def test_wrong_kinds_of_objects() -> None:
    refused("compiled for X86_64, not for BPF", GOOD, machine=62)
    refused("not a relocatable object", GOOD, kind=2)
    read_object(make(GOOD, machine=0))  # what the 2018 Oko accepted, too


def test_malformed_code() -> None:
    refused("no code in the object", Sec(".data", MAP))
    refused("no code in the object", Sec(".text"))
    refused("'.text' has 15 bytes", Sec(".text", RETURN[:-1], [ENTRY]))
    refused("two|2 functions are called 'entry'", GOOD, Sec("sub", RETURN, [ENTRY]))
    symbols = [Sym("a", 0, 16, FUNC), Sym("b", 16, 16, FUNC)]
    refused(r"several functions \(a, b\)", Sec(".text", RETURN * 2, symbols))
    refused("starts at .text.0x4", Sec(".text", RETURN, [Sym("entry", 4, 8, FUNC)]))
    refused("starts at .text.0x40", Sec(".text", RETURN, [Sym("entry", 64, 8, FUNC)]))
    refused("has 100 bytes", Sec(".text", RETURN, [Sym("entry", 0, 100, FUNC)]))
    overlap = [Sym("entry", 0, 16, FUNC), Sym("b", 8, 8, FUNC)]
    refused("does not end where the next", Sec(".text", RETURN, overlap))
    refused("cut in half", Sec(".text", assemble("lddw %r0, 1")[:8], [ENTRY]))
    refused(r"jump at .text\+0x0 .*leaves its function", text("ja +5\nexit"))
    refused("leaves its function", text("mov %r0, 0\njeq %r0, 0, -5\nexit"))
    refused("leaves its function", text("ja32 0\nexit".replace("0", "+9")))


def test_malformed_relocations() -> None:
    data = Sec(".data", MAP, [Sym("m", 0, 20)])
    refused("type 77 on the 64-bit load", text(lookup(), Rel(0, "m", 77)), data)
    refused("only 64-bit loads and calls", text("mov %r0, 0\nexit", Rel(0, "m")), data)
    refused("inside the instruction", text(lookup(), Rel(4, "m")), data)
    refused("inside the instruction", text(lookup(), Rel(8, "m")), data)
    refused("beyond the 0x40 bytes", text(lookup(), Rel(4096, "m")), data)
    refused("two relocations at .text", text(lookup(), Rel(0, "m"), Rel(0, "m")), data)
    refused("no relocation", text("lddw %r1, map 0\nexit"), data)
    refused("type 3 on the call", text("call local -1\nexit", Rel(0, "entry", 3)))
    refused(r"leads to .text\+0x1000", text("call local +511\nexit"))
    refused("leads to .data", text("call local -1\nexit", Rel(0, "m", 10)), data)
    refused(
        "leads to section 65521",
        text("call local -1\nexit", Rel(0, "x", 10)),
        symbols=(Sym("x", where=ABS),),
    )


def test_malformed_references() -> None:
    data = Sec(".data", MAP, [Sym("m", 0, 20)])
    undefined = (Sym("printk", where=UNDEF, kind=NOTYPE),)
    refused(
        "undefined symbol 'printk' at .text", text(lookup(), Rel(0, "printk")), symbols=undefined
    )
    refused(
        "undefined symbol 'printk'",
        text("call local -1\nexit", Rel(0, "printk", 10)),
        symbols=undefined,
    )
    refused(
        "undefined symbol 'printk'", text("call -1\nexit", Rel(0, "printk", 10)), symbols=undefined
    )
    refused("common symbol 'c'", text(lookup(), Rel(0, "c")), symbols=(Sym("c", where=COMMON),))
    refused("in no section", text(lookup(), Rel(0, "c")), symbols=(Sym("c", where=0xFF42),))
    refused("in no section", text(lookup(), Rel(0, "c")), symbols=(Sym("c", where=999),))
    refused("address of code", text(lookup(), Rel(0, "entry")))
    refused("which is not data", text(lookup(), Rel(0, "section:.debug_x")), Sec(".debug_x", MAP))
    far = lookup().replace("lddw %r1, 0", "lddw %r1, 21")
    refused(r"refers to .data\+0x15, beyond", text(far, Rel(0, "m")), data)
    negative = lookup().replace("lddw %r1, 0", "lddw %r1, -1")
    refused("beyond its 0x14 bytes", text(negative, Rel(0, "m")), data)
    pointer = Sec(".data", bytes(16), [Sym("m", 0, 8)], [Rel(8, "entry", 2)])
    load = "lddw %r1, 0\nldxdw %r0, [%r1]\nexit"
    refused(r".data\+0x8 holds the address of 'entry'", text(load, Rel(0, "m")), pointer)
    refused(
        "over 1073741824", text(load, Rel(0, "z")), Sec(".bss", size=1 << 40, syms=[Sym("z", 0, 8)])
    )


def test_malformed_maps() -> None:
    cut = Sec("maps", MAP[:19], [Sym("m", 0, 19)])
    refused("'m' at maps.0x0: a struct ubpf_map_def has 20 bytes", text(lookup(), Rel(0, "m")), cut)
    inside = lookup().replace("lddw %r1, 0", "lddw %r1, 4")
    refused("points inside a map", text(inside, Rel(0, "m")), Sec("maps", MAP, [Sym("m", 0, 20)]))
    long = "m" * 64
    refused("longer than 63 bytes", text(lookup(), Rel(0, long)), Sec("maps", MAP, [Sym(long)]))
    refused("needs type information", text(lookup(), Rel(0, "m")), Sec(".maps", MAP, [Sym("m")]))
    refused(
        "needs type information .*magic",
        text(lookup(), Rel(0, "m")),
        Sec(".maps", MAP, [Sym("m", 0, 20)]),
        Sec(".BTF", bytes(24)),
    )
    twice = text(
        "lddw %r1, 0\ncall 1\nlddw %r1, 0\ncall 1\nexit",
        Rel(0, "section:maps"),
        Rel(24, "section:maps"),
    )
    twice.data = twice.data[:28] + struct.pack("<I", 20) + twice.data[32:]
    names = [Sym("a", 0, 20), Sym("a", 20, 20, bind=LOCAL)]
    refused("two maps are called 'a'", twice, Sec("maps", MAP * 2, names))


def test_malformed_tables() -> None:
    whole = make(text(lookup(), Rel(0, "m")), Sec(".data", MAP, [Sym("m", 0, 20)]))
    headers = struct.unpack_from("<Q", whole, 40)[0]

    def patched(section: int, offset: int, fmt: str, value: int) -> bytes:
        data = bytearray(whole)
        struct.pack_into(fmt, data, headers + 64 * section + offset, value)
        return bytes(data)

    for section, offset, fmt, value, words in (
        (1, 24, "<Q", 1 << 40, r"section 1 \('.text'\) takes bytes"),
        (2, 32, "<Q", 1 << 63, r"section 2 \('.data'\) takes bytes"),
        (3, 56, "<Q", 7, "relocation section '.rel.text'"),
        (3, 32, "<Q", 15, "relocation section '.rel.text'"),
        (3, 40, "<I", 99, "refers to symbol table 99"),
        (4, 56, "<Q", 25, "symbol table '.symtab'"),
        (4, 40, "<I", 0, "symbol table|string"),
    ):
        with pytest.raises(ElfError, match=words):
            read_object(patched(section, offset, fmt, value))
    data = bytearray(whole)
    struct.pack_into("<H", data, 58, 40)
    with pytest.raises(ElfError, match="section headers of 40 bytes"):
        read_object(bytes(data))
    # A relocation that names a symbol beyond the table.
    data = bytearray(whole)
    reloc = struct.unpack_from("<Q", whole, headers + 64 * 3 + 24)[0]
    struct.pack_into("<I", data, reloc + 12, 1000)
    with pytest.raises(ElfError, match="names symbol 1000 of"):
        read_object(bytes(data))


def test_debug_sections_may_lie_outside_the_file() -> None:
    whole = bytearray(make(Sec(".text", RETURN, [ENTRY]), Sec(".debug_info", bytes(8))))
    headers = struct.unpack_from("<Q", whole, 40)[0]
    struct.pack_into("<Q", whole, headers + 128 + 24, 1 << 40)
    assert read_object(bytes(whole)).insns == RETURN


MUTANT_BASE = make(
    text(lookup() + "\ncall local -1\nexit", Rel(0, "m"), Rel(64, "far", 10)),
    Sec("sub", RETURN, [Sym("far", kind=FUNC)]),
    Sec(".data", MAP + bytes(8), [Sym("m", 0, 20), Sym("n", 20, 8)]),
    Sec(".rodata", b"abc"),
    Sec(".bss", size=8),
    Sec(".eh_frame", bytes(16), relocs=[Rel(0, "section:.text", 2)]),
)


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(MUTANT_BASE) - 1), st.sampled_from((1, 2, 4, 8)), st.integers()
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, len(MUTANT_BASE)),
)
def test_mutants_are_an_error_or_a_program(changes: list[tuple[int, int, int]], keep: int) -> None:
    data = bytearray(MUTANT_BASE)
    for at, width, value in changes:
        raw = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        data[at : at + width] = raw[: len(data) - at]
    for mutant in (bytes(data), bytes(data[:keep])):
        try:
            spec = read_object(mutant)
        except ElfError as exc:
            assert "\n" not in str(exc)
        else:
            assert spec.n_insns and spec.funcs[0].insn == 0


def test_relocations_of_other_kinds_of_sections_do_not_count() -> None:
    """A REL section whose target is not there (info 0) concerns nobody."""
    extra = Sec(".rel.nothing", struct.pack("<QQ", 0, 1 | 1 << 32), type=REL, flags=0)
    assert read_object(make(GOOD, extra)).insns == RETURN


def test_compressed_debug_information_is_left_out() -> None:
    """It could be a bomb; nobody needs it."""
    packed = Sec(".debug_line", bytes(24), flags=0x800)
    spec = read_object(make(GOOD, packed))
    assert spec.insns == RETURN
    assert spec.warnings == ("source lines left out: the debug information is compressed",)
    large = Sec(".debug_line", bytes((1 << 20) + 1))
    assert "over 1048576" in read_object(make(GOOD, large)).warnings[0]


def test_huge_files_are_refused_unread() -> None:
    with pytest.raises(ElfError, match="over the limit of 16777216"):
        read_object(b"\x7fELF" + bytes(16 << 20))
