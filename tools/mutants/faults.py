"""Deliberate faults: each must turn its named test red (tools/mutants/run).

One for each unsound acceptance of the 2018 verifier, one for each of its mistakes that could come
back, and the faults that leave results equal but lose speed. `red` is a C test program
(tests/c/NAME.c) or a pytest node id.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    name: str
    why: str  # what would be wrong if nobody noticed
    file: str
    old: str  # occurs exactly once in file
    new: str
    red: str


FAULTS: list[Fault] = []
