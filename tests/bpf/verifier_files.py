"""Reads verifier/*.data: programs that the verifier must refuse, or accept, as text.

    -- case NAME          begins a case; then sections, each after a line `-- section`:
    -- asm                assembler text (oko.bpf.asm)
    -- error              the whole reason, word for word ("..." stands for a word), ..
    -- at                 .. the disassembly of the instruction that it names, ..
    -- hint               .. and a part of the hint. None of them: the program is accepted
    -- options            of loading: guarded, max_worst_case=N, verify_budget=N, verify_memory=N
    -- info               of an accepted program: stateful=0|1, guards=N, worst_case=N
    -- table              as in data_files.py

Every program may use the maps and data sections below. What a local call leads to is a function.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_files import read_sections

from oko.bpf.asm import assemble
from oko.bpf.spec import CALL, PSEUDO_LOCAL, DataSpec, FuncSpec, MapSpec, MapType, ProgramSpec

HERE = Path(__file__).parent / "verifier"
SECTIONS = {"asm", "error", "at", "hint", "options", "info", "table"}

MAPS = (
    MapSpec("counters", MapType.ARRAY, 4, 16, 4),
    MapSpec("flows", MapType.HASH, 8, 24, 8),
    MapSpec("recent", MapType.LRU_HASH, 4, 8, 8),
    MapSpec("routes", MapType.LPM_TRIE, 8, 8, 8),
    MapSpec("seen", MapType.BLOOM, 4, 0, 64, 2),
    MapSpec("counts", MapType.COUNT_MIN, 4, 0, 16, 2),
)
FORMATS = b"one %d\n\0two %x %c\0bad %q\0%d %d %d %d %d\0none\0end"
DATA = (
    DataSpec(".rodata", len(FORMATS), FORMATS, False),
    DataSpec(".bss", 32, None, True),
)


@dataclass(frozen=True)
class Case:
    """A program and what the verifier must say: error, or nothing."""

    name: str
    spec: ProgramSpec
    error: str
    at: str
    hint: str
    options: dict[str, int]
    info: dict[str, int]


def make_spec(text: str, name: str = "case") -> ProgramSpec:
    """The program that an assembler text stands for, with the maps and data above."""
    plain = ProgramSpec(name, assemble(text))
    starts = {0}
    for index, insn in plain.decoded():
        if insn.code == CALL and insn.src == PSEUDO_LOCAL:
            starts.add(index + 1 + insn.imm)
    funcs = tuple(FuncSpec(f"f{i}" if i else "entry", i) for i in sorted(starts))
    return ProgramSpec(name, plain.insns, funcs, MAPS, DATA)


def _numbers(text: str) -> dict[str, int]:
    """ "guarded max_worst_case=7" as a dict; a word alone is 1."""
    pairs = (word.partition("=") for word in text.split())
    return {name: int(value or "1", 0) for name, _, value in pairs}


def read_cases(path: Path) -> list[Case]:
    """All cases of a file."""
    made = []
    for name, texts in read_sections(path, SECTIONS):
        texts = {title: text.strip() for title, text in texts.items()}
        case = Case(
            name,
            make_spec(texts["asm"]),
            texts.get("error", ""),
            texts.get("at", ""),
            texts.get("hint", ""),
            _numbers(texts.get("options", "")),
            _numbers(texts.get("info", "")),
        )
        assert bool(case.error) != bool(case.info), f"{name}: needs an error, or info"
        made.append(case)
    return made


def all_cases() -> list[Case]:
    """The cases of every file in verifier/."""
    return [case for path in sorted(HERE.glob("*.data")) for case in read_cases(path)]
