"""The container: sections, symbols and relocations of an ELF64 little-endian BPF relocatable.

pyelftools reads the structures; this module checks every one of them against the file before
anybody uses it, so that later stages index without fear. Whatever exception pyelftools meets on
malformed bytes becomes one ElfError that says which part was being read.

Immutable once made. Left out: archives, linked executables, 32-bit and big-endian objects (each
refused by name), compressed sections (debug information only: left out).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from ..errors import ElfError

MAX_OBJECT = 16 << 20
"""Bytes of the largest object that is read at all."""

SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_COMPRESSED = 1, 2, 4, 0x800

SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2

# Relocation types, named as LLVM does. GNU as up to 2.40 numbered data relocations its own way
# (12 = 64-bit address) but shares 1 and 10.
R_BPF_64_64, R_BPF_64_ABS64, R_BPF_64_32 = 1, 2, 10
R_BPF_GNU_DATA_64 = 12


class Section(NamedTuple):
    """A section header; data is the contents (empty for NOBITS, whose size counts all the same)."""

    number: int
    name: str
    type: str
    flags: int
    size: int
    link: int
    info: int
    data: bytes

    @property
    def executable(self) -> bool:
        """Code that is part of the program."""
        return self.flags & SHF_EXECINSTR != 0 and self.type == "SHT_PROGBITS"

    @property
    def writable(self) -> bool:
        """Memory that a program may change."""
        return self.flags & SHF_WRITE != 0

    @property
    def holds_data(self) -> bool:
        """Memory that a program may point to."""
        loaded = self.flags & SHF_ALLOC != 0 and not self.flags & SHF_EXECINSTR
        return loaded and self.type in ("SHT_PROGBITS", "SHT_NOBITS")


class Symbol(NamedTuple):
    """A symbol; section is its index or one of SHN_*."""

    name: str
    value: int
    size: int
    kind: str
    bind: str
    section: int


class Reloc(NamedTuple):
    """A relocation of the section's bytes at offset; addend is None when it stands in them."""

    offset: int
    type: int
    symbol: Symbol
    addend: int | None


@contextmanager
def _malformed(what: str) -> Iterator[None]:
    # pyelftools reports malformed input by whatever its parsers run into, from ELFParseError to
    # AttributeError; there is no common base class, hence the broad net around its calls only.
    try:
        yield
    except ElfError:
        raise
    except Exception as exc:
        raise ElfError(f"malformed object: {what}: {exc or type(exc).__name__}") from exc


class ElfObject:
    """The checked container. Raises ElfError when the file is not a well-formed BPF object."""

    def __init__(self, data: bytes) -> None:
        _check_ident(data)
        self.elf: ELFFile
        with _malformed("ELF header"):
            self.elf = ELFFile(io.BytesIO(data))
        self._check_header(len(data))
        self.sections: list[Section] = []
        with _malformed("section headers"):
            for index in range(self.elf.num_sections()):
                self.sections.append(self._section(index, data))

    def _check_header(self, size: int) -> None:
        header = self.elf.header
        if header["e_type"] != "ET_REL":
            raise ElfError(
                f"not a relocatable object (ELF type {_tail(header['e_type'])})",
                "compile with -c and do not link",
            )
        machine = self.elf.header["e_machine"]
        if machine not in ("EM_BPF", "EM_NONE"):
            raise ElfError(
                f"compiled for {_tail(machine)}, not for BPF", "compile with -target bpf"
            )
        if header["e_shentsize"] != 64:
            raise ElfError(f"malformed object: section headers of {header['e_shentsize']} bytes")
        with _malformed("section headers"):
            count, offset = self.elf.num_sections(), header["e_shoff"]
        if count > 65535 or offset + 64 * count > size:
            raise ElfError(
                f"malformed object: {count} section headers at offset {offset:#x} reach beyond "
                f"the file's {size} bytes (cut off?)"
            )

    def _section(self, index: int, data: bytes) -> Section:
        header = self.elf._get_section_header(index)
        name = self.elf._get_section_name(header)
        kind = str(header["sh_type"])
        offset, size = header["sh_offset"], header["sh_size"]
        contents = b""
        if kind not in ("SHT_NOBITS", "SHT_NULL"):
            if offset + size > len(data) and _is_debug(name):
                kind, size = "SHT_NULL", 0  # as if it were not there
            elif offset + size > len(data):
                raise ElfError(
                    f"malformed object: section {index} ({name!r}) takes bytes {offset:#x} to "
                    f"{offset + size:#x} of a file of {len(data):#x}"
                )
            contents = data[offset : offset + size]
        return Section(
            index,
            name,
            kind,
            header["sh_flags"],
            size,
            header["sh_link"],
            header["sh_info"],
            contents,
        )

    def named(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)

    @cached_property
    def _symtab(self) -> Section | None:
        return next((s for s in self.sections if s.type == "SHT_SYMTAB"), None)

    @cached_property
    def symbols(self) -> list[Symbol]:
        """The symbol table, [] when there is none. Values are checked where they are used."""
        table = self._symtab
        if table is None:
            return []
        with _malformed(f"symbol table {table.name!r}"):
            section = self.elf.get_section(table.number)
            if not isinstance(section, SymbolTableSection) or section["sh_entsize"] != 24:
                raise ElfError(f"malformed object: entries of symbol table {table.name!r}")
            return [
                Symbol(
                    symbol.name,
                    symbol["st_value"],
                    symbol["st_size"],
                    str(symbol["st_info"]["type"]),
                    str(symbol["st_info"]["bind"]),
                    _shndx(symbol["st_shndx"]),
                )
                for symbol in section.iter_symbols()
            ]
        raise AssertionError("unreachable")

    def relocs(self, target: Section) -> list[Reloc]:
        """The relocations of a section's bytes, in file order; offsets lie inside it."""
        result = []
        for section in self.sections:
            if section.type not in ("SHT_REL", "SHT_RELA") or section.info != target.number:
                continue
            with _malformed(f"relocation section {section.name!r}"):
                result += list(self._relocs_of(section, target))
        return result

    def _relocs_of(self, section: Section, target: Section) -> Iterator[Reloc]:
        table = self.elf.get_section(section.number)
        if not isinstance(table, RelocationSection) or table["sh_size"] % table["sh_entsize"]:
            raise ElfError(f"malformed object: entries of relocation section {section.name!r}")
        if self.sections[section.link : section.link + 1] != [self._symtab]:
            raise ElfError(
                f"malformed object: relocation section {section.name!r} refers to symbol table "
                f"{section.link}, which is not one"
            )
        for number, entry in enumerate(table.iter_relocations()):
            offset, index = entry["r_offset"], entry["r_info_sym"]
            if offset >= target.size:
                raise ElfError(
                    f"malformed object: relocation {number} of {section.name!r} is at offset "
                    f"{offset:#x}, beyond the {target.size:#x} bytes of {target.name!r}"
                )
            if index >= len(self.symbols):
                raise ElfError(
                    f"malformed object: relocation {number} of {section.name!r} names symbol "
                    f"{index} of {len(self.symbols)}"
                )
            addend = entry["r_addend"] if entry.is_RELA() else None
            yield Reloc(offset, entry["r_info_type"], self.symbols[index], addend)

    @cached_property
    def from_gcc(self) -> bool:
        """Made by GCC and GNU as, whose in-place addends contain the symbol's value."""
        comment = self.named(".comment")
        return comment is not None and b"GCC: (" in comment.data


def _is_debug(name: str) -> bool:
    """Sections that no program needs: whatever is wrong with them must not matter."""
    base = name.removeprefix(".rela").removeprefix(".rel")
    return base.startswith((".debug", ".eh_frame", ".BTF", ".comment", ".note", ".llvm"))


def _shndx(value: int | str) -> int:
    if isinstance(value, int):
        return value
    return {"SHN_UNDEF": SHN_UNDEF, "SHN_ABS": SHN_ABS, "SHN_COMMON": SHN_COMMON}.get(
        value, SHN_LORESERVE
    )


def _tail(value: object) -> str:
    return str(value).partition("_")[2] or str(value)


def _check_ident(data: bytes) -> None:
    """The reasons a wrong file is most often given, each in plain words."""
    if len(data) > MAX_OBJECT:
        raise ElfError(f"an object of {len(data)} bytes is over the limit of {MAX_OBJECT}")
    if not data:
        raise ElfError("the object is empty (0 bytes)")
    if data[:4] == b"BC\xc0\xde":
        raise ElfError("this is LLVM bitcode, not an object", "compile without -emit-llvm/-flto")
    if data[:4] != b"\x7fELF":
        raise ElfError("not an ELF object (it does not begin with 7f 45 4c 46)")
    if len(data) < 64:
        raise ElfError(f"malformed object: cut off after {len(data)} bytes of its ELF header")
    if data[4] != 2:
        raise ElfError("not a 64-bit ELF object")
    if data[5] == 2:
        raise ElfError("a big-endian BPF object", "compile with -target bpfel")
    if data[5] != 1:
        raise ElfError(f"malformed object: byte order {data[5]} in the ELF header")
