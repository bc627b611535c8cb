"""From an object file to a ProgramSpec: choose the entry, link what it reaches, find the maps.

Steps, in read_object(): (1) the container is read and checked (elfobj.py); (2) functions are cut
out of the executable sections and the entry is chosen: the function `entry`, else the only
function of the first executable section; (3) from the entry, calls are followed across sections
and each function's instructions, jumps and relocations are checked; what is not reached is left
out; (4) every 64-bit load of an address is resolved to a map or to an offset in a data section
(mapuse.py tells which symbols of .data are maps); (5) functions are laid out one after another,
the entry first, and calls, map and data references become the pseudo-instructions of oko.h;
(6) source lines are attached (lines.py).

Objects come from clang 13-22, zig cc and gcc-bpf, and over the network from anybody. Every fault
is one ElfError that names the section, symbol or offset. Debug and unwind sections are never a
reason to fail. Legality of instructions is not judged here: the core's decoder check does that.

Pure functions, thread-safe.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import BtfError, ElfError
from .btf import Btf
from .elfobj import (
    R_BPF_64_32,
    R_BPF_64_64,
    SHN_ABS,
    SHN_COMMON,
    SHN_LORESERVE,
    SHN_UNDEF,
    ElfObject,
    Reloc,
    Section,
    Symbol,
)
from .lines import source_lines
from .mapdefs import UBPF_MAP_DEF, btf_map, ubpf_map
from .mapuse import find_maps
from .spec import (
    CALL,
    INSN_SIZE,
    LDDW,
    PSEUDO_DATA,
    PSEUDO_LOCAL,
    PSEUDO_MAP,
    DataSpec,
    FuncSpec,
    Insn,
    LineInfo,
    MapSpec,
    ProgramSpec,
    unpack,
)

ENTRY = "entry"
"""The function that is the program, where an object has several."""

MAX_DATA = 1 << 30
"""Bytes of the largest data section (the core's quota is usually far below)."""


def read_object(data: bytes, name: str = "") -> ProgramSpec:
    """Reads a BPF object. name is the program's, shown to users.

    Raises ElfError when the object is malformed or needs something that programs cannot have.
    """
    linker = _Linker(ElfObject(data))
    return linker.link(name)


@dataclass(eq=False)
class _Function:
    """A function as the object holds it; offsets are bytes in its section."""

    name: str
    section: Section
    start: int
    end: int
    is_global: bool
    insns: list[Insn] = field(default_factory=list)
    number: int = -1  # position among the functions that are kept
    base: int = 0  # index of its first instruction in the program

    def place(self, index: int) -> str:
        """Where instruction index is, for messages."""
        return f"{self.section.name}+{self.start + INSN_SIZE * index:#x} (in {self.name!r})"


class _Place(NamedTuple):
    """What a 64-bit load refers to: a symbol's start in a section, and the bytes beyond it."""

    section: int
    start: int
    delta: int

    @property
    def offset(self) -> int:
        return self.start + self.delta


class _Linker:
    def __init__(self, obj: ElfObject) -> None:
        self.obj = obj
        self.functions = {
            section.number: _functions(obj, section)
            for section in obj.sections
            if section.executable and section.size
        }
        self.relocs: dict[int, dict[int, Reloc]] = {}
        self.kept: list[_Function] = []  # what the entry reaches, in layout order
        self.calls: dict[tuple[int, int], int] = {}  # (function, instruction) -> function
        self.places: dict[tuple[int, int], _Place] = {}  # likewise -> what it refers to
        self.absolute: dict[tuple[int, int], int] = {}  # likewise -> a constant
        self.names: dict[tuple[int, int], str] = {}  # (section, value) -> symbol
        self.objects: dict[int, list[Symbol]] = defaultdict(list)  # ascending, sized
        for symbol in sorted(obj.symbols, key=lambda symbol: symbol.value):
            if symbol.kind in ("STT_OBJECT", "STT_NOTYPE") and symbol.name:
                self.names.setdefault((symbol.section, symbol.value), symbol.name)
                if symbol.size:
                    self.objects[symbol.section].append(symbol)
        self.warnings: list[str] = []

    def link(self, name: str) -> ProgramSpec:
        self._keep(_choose_entry(self.obj, self.functions))
        for number, function in enumerate(self.kept):  # grows while it is walked
            self._scan(number, function)
        base = 0
        for function in self.kept:
            function.base = base
            base += len(function.insns)
        btf = self._btf()
        maps = self._maps(btf)
        spec_maps = [self._map_spec(place, btf) for place in maps]
        _check_unique(spec_maps)
        data = self._data_sections(set(maps))
        insns = self._encode(maps, data)
        return ProgramSpec(
            name,
            insns,
            tuple(FuncSpec(f.name, f.base) for f in self.kept),
            tuple(spec_maps),
            tuple(self._data_spec(self.obj.sections[index]) for index in data),
            tuple(self._lines(btf)),
            tuple(self.warnings),
        )

    # -- step 3: functions, calls, relocations

    def _keep(self, function: _Function) -> None:
        if function.number < 0:
            function.number = len(self.kept)
            self.kept.append(function)

    def _scan(self, number: int, function: _Function) -> None:
        """Checks a function's instructions and resolves what they refer to."""
        section = function.section
        if section.number not in self.relocs:
            self.relocs[section.number] = _by_offset(self.obj, section)
        relocs = self.relocs[section.number]
        function.insns = unpack(section.data[function.start : function.end])
        index = 0
        while index < len(function.insns):
            insn = function.insns[index]
            offset = function.start + INSN_SIZE * index
            reloc = relocs.get(offset)
            place = function.place(index)
            wide = insn.code == LDDW
            if wide and index + 1 == len(function.insns):
                raise ElfError(f"64-bit load at {place} is cut in half by the function's end")
            for inner in range(offset + 1, offset + INSN_SIZE * (1 + wide)):
                if inner in relocs:
                    raise ElfError(f"relocation inside the instruction at {place}")
            if wide:
                self._scan_load(number, function, index, reloc)
            elif insn.code == CALL and insn.src == PSEUDO_LOCAL:
                self._scan_call(number, function, index, reloc)
            elif insn.code == CALL and reloc is not None and reloc.symbol.section == SHN_UNDEF:
                self._undefined(reloc.symbol, place)
            elif reloc is not None:
                raise ElfError(
                    f"relocation of type {reloc.type} at {place}: only 64-bit loads and calls can "
                    "be relocated"
                )
            _check_jump(function, index, insn)
            index += 1 + wide

    def _undefined(self, symbol: Symbol, place: str) -> None:
        hint = "a program is one object; helpers are called through oko_bpf.h"
        if symbol.name.startswith("__bswap"):
            hint = "this compiler cannot swap bytes; use clang, zig or a later gcc-bpf"
        raise ElfError(f"undefined symbol {symbol.name!r} at {place}", hint)

    def _scan_call(self, number: int, function: _Function, index: int, reloc: Reloc | None) -> None:
        insn, place = function.insns[index], function.place(index)
        here = function.start + INSN_SIZE * index
        section = function.section.number
        if reloc is None:
            target = here + INSN_SIZE * (1 + insn.imm)
        else:
            symbol = reloc.symbol
            if symbol.section == SHN_UNDEF:
                self._undefined(symbol, place)
            if reloc.type != R_BPF_64_32:
                raise ElfError(f"relocation of type {reloc.type} on the call at {place}")
            section = symbol.section
            target = self._call_target(symbol, insn, reloc)
        callee = next((f for f in self.functions.get(section, []) if f.start == target), None)
        if callee is None:
            where = self._section_name(section)
            raise ElfError(f"the call at {place} leads to {where}+{target:#x}: no function there")
        self._keep(callee)
        self.calls[number, index] = callee.number

    def _call_target(self, symbol: Symbol, insn: Insn, reloc: Reloc) -> int:
        """Offset of the called function in the symbol's section."""
        if reloc.addend is not None:
            return symbol.value + reloc.addend
        if self.obj.from_gcc:
            # GNU as up to 2.40 leaves (value in bytes) - 1 in imm; a function's own symbol says it.
            return symbol.value if symbol.kind != "STT_SECTION" else insn.imm + 1
        return symbol.value + INSN_SIZE * (insn.imm + 1)

    def _scan_load(self, number: int, function: _Function, index: int, reloc: Reloc | None) -> None:
        insn, place = function.insns[index], function.place(index)
        if reloc is None:
            if insn.src:
                raise ElfError(
                    f"64-bit load at {place} has source {insn.src} but no relocation: its map or "
                    "data cannot be found"
                )
            return
        symbol = reloc.symbol
        if reloc.type != R_BPF_64_64:
            raise ElfError(f"relocation of type {reloc.type} on the 64-bit load at {place}")
        if symbol.section == SHN_UNDEF:
            self._undefined(symbol, place)
        if symbol.section == SHN_COMMON:
            raise ElfError(f"common symbol {symbol.name!r} at {place}", "compile with -fno-common")
        addend = reloc.addend
        if addend is None:
            addend = insn.imm & 0xFFFFFFFF | function.insns[index + 1].imm << 32
            # GNU as up to 2.40 counts the symbol's value into the addend.
            within = symbol.value <= addend <= symbol.value + symbol.size
            if self.obj.from_gcc and symbol.kind != "STT_SECTION" and within:
                addend -= symbol.value
        offset = symbol.value + addend
        if symbol.section == SHN_ABS:
            self.absolute[number, index] = offset
            return
        if symbol.section >= min(SHN_LORESERVE, len(self.obj.sections)):
            raise ElfError(f"symbol {symbol.name!r} at {place} is in no section")
        section = self.obj.sections[symbol.section]
        if section.executable:
            raise ElfError(
                f"the address of code ({symbol.name or section.name!r}) is taken at {place}",
                "call functions directly",
            )
        if not section.holds_data:
            raise ElfError(f"the load at {place} refers to {section.name!r}, which is not data")
        if not 0 <= offset <= section.size:
            raise ElfError(
                f"the load at {place} refers to {section.name}+{offset:#x}, beyond its "
                f"{section.size:#x} bytes"
            )
        self.places[number, index] = self._symbol_place(section.number, offset)

    def _symbol_place(self, section: int, offset: int) -> _Place:
        symbols = self.objects[section]
        at = bisect_right(symbols, offset, key=lambda symbol: symbol.value) - 1
        if at >= 0 and offset < symbols[at].value + symbols[at].size:
            return _Place(section, symbols[at].value, offset - symbols[at].value)
        return _Place(section, offset, 0)

    # -- step 4: maps and data

    def _maps(self, btf: Btf | None) -> list[_Place]:
        """The maps, in the order of their first relocation in the text."""
        starts = {p: p._replace(delta=0) for p in self.places.values()}
        candidates = [
            p
            for p in dict.fromkeys(starts.values())
            if not _is_map_section(self._section_name(p.section)) and self._fits_map(p)
        ]
        bits = {place: bit for bit, place in enumerate(candidates)}
        # A load of an address inside a symbol is a use of it as data; bit after the last counts it.
        uses = {
            at: bits[starts[p]] + (len(bits) if p.delta else 0)
            for at, p in self.places.items()
            if starts[p] in bits
        }
        found = find_maps([f.insns for f in self.kept], uses, self.calls) if bits else 0
        inner = {bit - len(bits) for bit in uses.values() if bit >= len(bits)}
        chosen = {p for p, bit in bits.items() if found >> bit & 1 and bit not in inner}
        order: dict[_Place, None] = {}
        for at in sorted(self.places, key=self._text_order):
            place = self.places[at]
            if _is_map_section(self._section_name(place.section)):
                if place.delta:
                    function = self.kept[at[0]]
                    raise ElfError(f"the load at {function.place(at[1])} points inside a map")
                order[place] = None
            elif place in chosen:
                order[place] = None
        return list(order)

    def _text_order(self, at: tuple[int, int]) -> tuple[int, int]:
        function = self.kept[at[0]]
        return function.section.number, function.start + INSN_SIZE * at[1]

    def _fits_map(self, place: _Place) -> bool:
        section = self.obj.sections[place.section]
        return place.start + UBPF_MAP_DEF.size <= len(section.data)

    def _map_spec(self, place: _Place, btf: Btf | None) -> MapSpec:
        section = self.obj.sections[place.section]
        name = self._object_name(place)
        if section.name == ".maps" or section.name.startswith(".maps."):
            if btf is None:
                why = f": {self.warnings[0]}" if self.warnings else ""
                raise ElfError(
                    f"map {name!r} in {section.name!r} needs type information (BTF){why}",
                    "compile with -g",
                )
            return btf_map(btf, section.name, name)
        where = f"{section.name}+{place.start:#x}"
        return ubpf_map(section.data, place.start, name, where)

    def _object_name(self, place: _Place) -> str:
        unnamed = f"{self._section_name(place.section)}+{place.start:#x}"
        return self.names.get((place.section, place.start), unnamed)

    def _data_sections(self, maps: set[_Place]) -> list[int]:
        """Sections that the text refers to other than for maps, in the order of the file."""
        return sorted({p.section for p in self.places.values() if p not in maps})

    def _data_spec(self, section: Section) -> DataSpec:
        if section.size > MAX_DATA:
            raise ElfError(f"section {section.name!r} has {section.size} bytes, over {MAX_DATA}")
        for reloc in self.obj.relocs(section):
            raise ElfError(
                f"{section.name}+{reloc.offset:#x} holds the address of "
                f"{reloc.symbol.name or self._section_name(reloc.symbol.section)!r}",
                "pointers in initialised data are not supported; compute them in the code",
            )
        contents = None if section.type == "SHT_NOBITS" else section.data
        variables = tuple(
            (s.name, s.value, s.size)
            for s in self.objects[section.number]
            if s.value + s.size <= section.size
        )
        return DataSpec(section.name, section.size, contents, section.writable, variables)

    def _section_name(self, index: int) -> str:
        if index < len(self.obj.sections):
            return self.obj.sections[index].name
        return f"section {index}"

    def _btf(self) -> Btf | None:
        section = self.obj.named(".BTF")
        if section is None:
            return None
        try:
            return Btf(section.data)
        except BtfError as exc:
            self.warnings.append(f"type information left out: {exc}")
            return None

    # -- step 5: the program's own instructions

    def _encode(self, maps: list[_Place], data: list[int]) -> bytes:
        out = bytearray()
        map_index = {place: index for index, place in enumerate(maps)}
        data_index = {section: index for index, section in enumerate(data)}
        for number, function in enumerate(self.kept):
            insns = list(function.insns)
            for index, insn in enumerate(insns):
                at = (number, index)
                if at in self.calls:
                    target = self.kept[self.calls[at]].base
                    insns[index] = insn._replace(imm=target - (function.base + index + 1))
                elif at in self.absolute:
                    low, high = _halves(self.absolute[at])
                    insns[index] = insn._replace(src=0, imm=low)
                    insns[index + 1] = insns[index + 1]._replace(imm=high)
                elif at in self.places:
                    place = self.places[at]
                    if place in map_index:
                        source, imm, offset = PSEUDO_MAP, map_index[place], 0
                    else:
                        source, imm, offset = PSEUDO_DATA, data_index[place.section], place.offset
                    insns[index] = insn._replace(src=source, imm=imm)
                    insns[index + 1] = insns[index + 1]._replace(imm=offset)
            out += b"".join(insn.pack() for insn in insns)
        return bytes(out)

    # -- step 6: source lines

    def _lines(self, btf: Btf | None) -> list[LineInfo]:
        lines, warnings = source_lines(self.obj, btf)
        self.warnings += warnings
        return [
            LineInfo(
                function.base + (record.offset - function.start) // INSN_SIZE,
                record.line,
                record.file,
                record.text,
                record.column,
            )
            for function in self.kept
            for record in lines.get(function.section.number, [])
            if function.start <= record.offset < function.end
        ]


# -- step 2: functions and the entry


def _functions(obj: ElfObject, section: Section) -> list[_Function]:
    """The functions of an executable section, ascending; they do not overlap."""
    if section.size % INSN_SIZE:
        raise ElfError(
            f"section {section.name!r} has {section.size} bytes, not a multiple of {INSN_SIZE}"
        )
    found: dict[int, Symbol] = {}
    for symbol in obj.symbols:
        if symbol.section != section.number or symbol.kind != "STT_FUNC":
            continue
        if symbol.value % INSN_SIZE or symbol.value >= section.size:
            raise ElfError(
                f"function {symbol.name!r} starts at {section.name}+{symbol.value:#x}, which is no "
                "instruction"
            )
        # Aliases: prefer the entry's name, then a global one.
        known = found.get(symbol.value)
        if known is None or _rank(symbol) > _rank(known):
            found[symbol.value] = symbol
    if not found:  # hand-made objects may lack typed symbols: the section is one function
        return [_Function(section.name, section, 0, section.size, True)]
    starts = sorted(found)
    functions = []
    for start, after in zip(starts, [*starts[1:], section.size], strict=True):
        symbol = found[start]
        end = start + symbol.size if symbol.size else after
        if end % INSN_SIZE or end > after:
            raise ElfError(
                f"function {symbol.name!r} at {section.name}+{start:#x} has {symbol.size} bytes "
                "and does not end where the next one begins"
            )
        name = symbol.name or f"{section.name}+{start:#x}"
        functions.append(_Function(name, section, start, end, symbol.bind == "STB_GLOBAL"))
    return functions


def _rank(symbol: Symbol) -> tuple[bool, bool, bool]:
    return symbol.name == ENTRY, symbol.bind == "STB_GLOBAL", symbol.size > 0


def _choose_entry(obj: ElfObject, functions: dict[int, list[_Function]]) -> _Function:
    named = [f for found in functions.values() for f in found if f.name == ENTRY]
    if len(named) > 1:
        raise ElfError(f"{len(named)} functions are called {ENTRY!r}")
    if named:
        return named[0]
    if not functions:
        raise ElfError("there is no code in the object (no executable section has contents)")
    first = functions[min(functions)]
    # Sub-functions that the compiler did not inline are static; they do not make it ambiguous.
    chosen = first if len(first) == 1 else [f for f in first if f.is_global]
    if len(chosen) != 1:
        names = ", ".join(f.name for f in first)
        raise ElfError(
            f"section {first[0].section.name!r} has several functions ({names}) and none is called "
            f"{ENTRY!r}",
            f"call the filter {ENTRY!r}",
        )
    return chosen[0]


def _by_offset(obj: ElfObject, section: Section) -> dict[int, Reloc]:
    relocs: dict[int, Reloc] = {}
    for reloc in obj.relocs(section):
        if reloc.offset in relocs:
            raise ElfError(f"two relocations at {section.name}+{reloc.offset:#x}")
        relocs[reloc.offset] = reloc
    return relocs


def _check_jump(function: _Function, index: int, insn: Insn) -> None:
    """A jump out of its function would land elsewhere once functions are moved."""
    if insn.code & 7 not in (5, 6) or insn.code & 0xF0 in (0x80, 0x90):
        return
    target = index + 1 + (insn.imm if insn.code == 0x06 else insn.off)
    if not 0 <= target < len(function.insns):
        raise ElfError(f"the jump at {function.place(index)} leaves its function")


def _is_map_section(name: str) -> bool:
    return name in ("maps", ".maps") or name.startswith(("maps/", ".maps."))


def _check_unique(maps: list[MapSpec]) -> None:
    seen: set[str] = set()
    for spec in maps:
        if spec.name in seen:
            raise ElfError(f"two maps are called {spec.name!r}")
        seen.add(spec.name)


def _halves(value: int) -> tuple[int, int]:
    """The two signed 32-bit immediates of a 64-bit load."""
    low, high = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    return low - (low >> 31 << 32), high - (high >> 31 << 32)
