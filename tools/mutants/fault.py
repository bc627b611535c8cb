"""What a deliberate fault is; see run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    name: str
    why: str  # what would be wrong if nobody noticed
    file: str
    old: str  # occurs exactly once in file
    new: str
    red: str  # C test program (tests/c/NAME.c) or pytest node id
