"""Listings: a program's instructions with functions, source lines, maps and data names.

The words for one instruction come from the core's instruction table; the caller passes them in, so
that this module needs no compiled extension. What relocations referred to shows as the map's or
section's name. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .spec import PSEUDO_DATA, LineInfo, ProgramSpec


def place(record: LineInfo) -> str:
    """ "filter.c:12" for a source line."""
    return f"{record.file.rpartition('/')[2] or '?'}:{record.line}"


def caret(record: LineInfo, text: str) -> list[str]:
    """The source line with a mark below the column, [] where the object has no text.

    text: the line when the object does not carry it, or "".
    """
    source = record.text or text
    if not source:
        return []
    shown = source.expandtabs(4)
    lines = [f"{record.line:>6} | {shown}"]
    if 0 < record.column <= len(source):
        indent = len(source[: record.column - 1].expandtabs(4))
        lines.append(f"{'':>6} | {' ' * indent}^")
    return lines


def listing(
    spec: ProgramSpec,
    texts: Mapping[int, str],
    *,
    raw: bool = False,
    counts: Sequence[int] | None = None,
) -> list[str]:
    """The program as text lines. texts: the words for each instruction, by index.

    raw: with the bytes of each slot. counts: how often each ran (a profile), shown in front; source
    lines then carry the sum over their instructions.
    """
    names = {func.insn: func.name for func in spec.funcs}
    starts: dict[int, LineInfo] = {record.insn: record for record in spec.lines}
    sums = line_sums(spec, counts) if counts is not None else {}
    width = max((len(f"{n:,}") for n in (*(counts or ()), *sums.values())), default=1)
    out: list[str] = []
    shown: LineInfo | None = None
    for index, insn in spec.decoded():
        if index in names:
            out += ["", f"{names[index]}:"] if out else [f"{names[index]}:"]
            shown = None
        record = starts.get(index)
        if record is not None and not (shown and same_line(record, shown)):
            total = sums.get((record.file, record.line))
            front = (
                "" if counts is None else f"{total or 0:>{width},} " if total else " " * (width + 1)
            )
            out.append(
                f"{front}; {place(record)}{': ' if record.text else ''}{record.text.strip()}"
            )
            shown = record
        front = "" if counts is None else f"{counts[index]:>{width},} "
        code = f"{_bytes(spec, index)}  " if raw else ""
        out.append(
            f"{front}{index:>6}: {code}{texts[index]}{_note(spec, index, insn.src, insn.code)}"
        )
    return out


def line_sums(spec: ProgramSpec, counts: Sequence[int]) -> dict[tuple[str, int], int]:
    """Executed instructions by (file, line), of those that have debug information."""
    sums: dict[tuple[str, int], int] = {}
    starts = {record.insn: record for record in spec.lines}
    functions = {func.insn for func in spec.funcs}
    current: LineInfo | None = None
    for index, _ in spec.decoded():
        if index in functions:
            current = None
        current = starts.get(index, current)
        if current is not None:
            key = (current.file, current.line)
            sums[key] = sums.get(key, 0) + counts[index]
    return sums


def same_line(a: LineInfo, b: LineInfo) -> bool:
    """Whether two records are of one source line."""
    return (a.file, a.line) == (b.file, b.line)


def _bytes(spec: ProgramSpec, index: int) -> str:
    return spec.insns[8 * index : 8 * index + 8].hex(" ")


def _note(spec: ProgramSpec, index: int, src: int, code: int) -> str:
    """The variable that a reference into a data section names."""
    if code != 0x18 or src != PSEUDO_DATA:
        return ""
    number = int.from_bytes(spec.insns[8 * index + 4 : 8 * index + 8], "little")
    offset = int.from_bytes(spec.insns[8 * index + 12 : 8 * index + 16], "little")
    for name, start, size in spec.data[number].variables:
        if start <= offset < start + size:
            return f"  ; {name}" + (f"+{offset - start}" if offset > start else "")
    return ""
