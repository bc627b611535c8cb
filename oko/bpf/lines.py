"""Source lines of a section's instructions: from .BTF.ext, else from DWARF's .debug_line.

clang -g writes both for BPF; .BTF.ext is preferred because it carries the text of each line. GCC
writes DWARF only. Debug information is a courtesy: whatever is wrong with it leads to fewer lines
and a warning, never to a refusal.

Nothing is read from the file system: an object names its own source files, and one that came over
the network must not make a switch read files.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import BtfError
from .btf import Btf, read_lines
from .elfobj import (
    R_BPF_64_64,
    R_BPF_64_ABS64,
    R_BPF_GNU_DATA_64,
    SHF_COMPRESSED,
    ElfObject,
    Section,
)

MAX_DEBUG_LINE = 1 << 20
"""Bytes of the largest DWARF line table that is read; each may become a record."""


class Line(NamedTuple):
    """The instructions from offset (bytes in the section) on come from this line."""

    offset: int
    line: int
    column: int
    file: str
    text: str


Lines = dict[int, list[Line]]
"""By section index, ascending offset, one record per offset."""


def source_lines(obj: ElfObject, btf: Btf | None) -> tuple[Lines, list[str]]:
    """The lines of all executable sections, and warnings about what could not be read."""
    warnings: list[str] = []
    ext = obj.named(".BTF.ext")
    if btf is not None and ext is not None:
        try:
            lines = _from_btf(obj, ext.data, btf)
            if lines:
                return lines, warnings
        except BtfError as exc:
            warnings.append(f"source lines left out: {exc}")
    section = obj.named(".debug_line")
    if section is not None and (problem := _unsuited(obj, section)):
        warnings.append(f"source lines left out: {problem}")
    elif section is not None:
        # pyelftools has no common error class for malformed DWARF, and none of it may matter.
        try:
            return _from_dwarf(obj), warnings
        except Exception as exc:
            warnings.append(f"source lines left out: malformed DWARF: {exc or type(exc).__name__}")
    return {}, warnings


def _unsuited(obj: ElfObject, section: Section) -> str:
    """Why DWARF is not even looked at: what is small here must not become large."""
    if any(s.flags & SHF_COMPRESSED or s.name.startswith(".zdebug") for s in obj.sections):
        return "the debug information is compressed"
    if section.size > MAX_DEBUG_LINE:
        return f".debug_line has {section.size} bytes, over {MAX_DEBUG_LINE}"
    return ""


def _from_btf(obj: ElfObject, ext: bytes, btf: Btf) -> Lines:
    index = {s.name: s.number for s in reversed(obj.sections) if s.executable}
    found: Lines = {}
    for record in read_lines(ext, btf):
        section = index.get(record.section)
        if section is not None and record.line:  # line 0: made by the compiler
            found.setdefault(section, []).append(
                Line(record.offset, record.line, record.column, record.file, record.text)
            )
    return {section: _sorted(lines) for section, lines in found.items()}


def _from_dwarf(obj: ElfObject) -> Lines:
    """Reads .debug_line, its addresses relocated to (section index << 32 | offset)."""
    dwarf = obj.elf.get_dwarf_info(relocate_dwarf_sections=False)
    section = obj.named(".debug_line")
    assert section is not None and dwarf.debug_line_sec is not None
    stream = dwarf.debug_line_sec.stream
    for reloc in obj.relocs(section):
        wide = reloc.type in (R_BPF_64_ABS64, R_BPF_64_64, R_BPF_GNU_DATA_64)
        if wide and reloc.symbol.section < len(obj.sections):
            stream.seek(reloc.offset)
            (addend,) = struct.unpack("<Q", stream.read(8))
            if reloc.symbol.kind == "STT_SECTION" or not obj.from_gcc:
                addend += reloc.symbol.value
            stream.seek(reloc.offset)
            stream.write(struct.pack("<Q", reloc.symbol.section << 32 | addend & 0xFFFFFFFF))
    found: Lines = {}
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        files = _dwarf_files(program)
        for entry in program.get_entries():
            state = entry.state
            if state is None or state.end_sequence or not 0 < state.line < 1 << 31:
                continue
            file = files.get(state.file, "")
            line = Line(state.address & 0xFFFFFFFF, state.line, max(0, state.column), file, "")
            found.setdefault(state.address >> 32, []).append(line)
    return {section: _sorted(lines) for section, lines in found.items()}


def _dwarf_files(program: object) -> dict[int, str]:
    header = program.header  # type: ignore[attr-defined]  # pyelftools has no types
    version = header["version"]
    first = 0 if version >= 5 else 1
    directories = [_text(d) for d in header["include_directory"]]
    if version < 5:
        directories.insert(0, "")
    files = {}
    for number, entry in enumerate(header["file_entry"], first):
        name = _text(entry.name)
        where = directories[entry.dir_index] if entry.dir_index < len(directories) else ""
        files[number] = name if name.startswith("/") or not where else f"{where}/{name}"
    return files


def _text(value: object) -> str:
    raw = getattr(value, "DW_LNCT_path", value)
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def _sorted(lines: list[Line]) -> list[Line]:
    """Ascending; of several records for one instruction the last one, as debuggers have it."""
    return [line for _, line in sorted({line.offset: line for line in lines}.items())]
