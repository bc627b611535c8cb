"""Reads the .data files: one behaviour each, cases as text.

    -- case NAME          begins a case; then sections, each after a line `-- section`:
    -- asm                assembler text (oko.bpf.asm)
    -- raw                or instruction slots as 64-bit words
    -- mem                memory in hex: r1 points to a copy, r2 is its length
    -- result             expected r0
    -- error              or a part of the message with which the program is refused; may be empty
    -- table              a header of column names, then rows: the case once per row, {column}
                          replaced in every section; a column `result` is that section.
                          "_" in a cell stands for a space, "__" for "_".

Lines that begin with # are comments. verifier_files.py reads other sections with the same syntax.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from oko.bpf.asm import assemble

HERE = Path(__file__).parent
SECTIONS = {"asm", "raw", "mem", "result", "error", "table"}


@dataclass(frozen=True)
class Case:
    """One program, its memory and what must come of it: result, or error."""

    name: str
    program: bytes
    memory: bytes
    result: int | None
    error: str | None


def read_cases(path: Path) -> list[Case]:
    """All cases of a file."""
    return [_case(name, texts) for name, texts in read_sections(path, SECTIONS)]


def read_sections(path: Path, known: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, text by section) of each case of a file, tables expanded."""
    blocks = re.split(r"^-- case ", path.read_text(), flags=re.M)[1:]
    assert blocks, f"{path.name} has no cases"
    for block in blocks:
        name, _, body = block.partition("\n")
        sections: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in body.splitlines():
            if line.startswith("-- "):
                title = line[3:].strip()
                assert title in known, f"{path.name}: unknown section {title!r}"
                lines = sections.setdefault(title, [])
            elif not line.startswith("#"):
                lines.append(line)
        yield from _expand(f"{path.stem}: {name}", sections, known)


def _expand(
    name: str, sections: dict[str, list[str]], known: Collection[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    table = [line.split() for line in sections.pop("table", []) if line.strip()]
    texts = {title: "\n".join(lines) for title, lines in sections.items()}
    if not table:
        yield name, texts
        return
    header = table[0]
    for number, row in enumerate(table[1:], 1):
        assert len(row) == len(header), f"{name}: row {number} has {len(row)} cells"
        cells = dict(zip(header, map(_cell, row), strict=True))
        filled = {title: _fill(text, cells) for title, text in texts.items()}
        for title in set(known) & set(cells):
            filled[title] = cells[title]
        yield f"{name} [{number}: {' '.join(row)}]", filled


def _cell(text: str) -> str:
    return text.replace("__", "\0").replace("_", " ").replace("\0", "_")


def _fill(text: str, cells: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: cells[match[1]], text)


def _case(name: str, texts: dict[str, str]) -> Case:
    if "asm" in texts:
        program = assemble(texts["asm"])
    else:
        words = texts["raw"].split()
        program = b"".join(int(word, 16).to_bytes(8, "little") for word in words)
    result = int(texts["result"].strip(), 0) if "result" in texts else None
    error = texts["error"].strip() if "error" in texts else None
    assert (result is None) != (error is None), f"{name}: needs a result or an error"
    return Case(name, program, bytes.fromhex(texts.get("mem", "")), result, error)


def all_cases() -> list[Case]:
    """The cases of every file here."""
    return [case for path in sorted(HERE.glob("*.data")) for case in read_cases(path)]
