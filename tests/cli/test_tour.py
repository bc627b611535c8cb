"""docs/tour.md: an hour with oko-replay, oko-bpf and oko from Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from page import Reader, blocks

from oko.bpf import toolchain


def test_the_tour(tmp_path: Path) -> None:
    if not toolchain.compilers():
        pytest.skip("no compiler for BPF is installed")
    reader = Reader(tmp_path)
    kinds = set()
    for block in blocks("tour.md"):
        kinds.add((block.kind, block.file))
        if block.file:
            reader.save(block)
        elif block.kind == "python":
            (tmp_path / "tour.py").write_text(block.text)
            shown = reader.run(f"{sys.executable} tour.py")
            assert shown == "10.0.0.1 3867\n10.0.0.2 73235\n"
        else:
            assert block.kind == "console"
            reader.type(block)
    assert kinds == {("console", ""), ("python", ""), ("c", "talkers.c"), ("c", "careless.c")}
