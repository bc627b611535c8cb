"""The programs in docs/filters.md: those it offers are accepted, those it warns of are refused.

Code blocks are marked "```c accept" or "```c refuse"; after the latter, the reason is quoted.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from filter_cases import ROOT

from oko.bpf.toolchain import preferred
from oko.errors import LoadError
from oko.filters import FilterProgram

PAGE = (ROOT / "docs" / "filters.md").read_text()
BLOCKS = re.findall(r"^```c (accept|refuse)\n(.*?)^```$(?:\n\n> ([^\n]+)$)?", PAGE, re.M | re.S)


@pytest.mark.parametrize(("mark", "source", "reason"), BLOCKS)
def test_program(mark: str, source: str, reason: str, tmp_path: Path) -> None:
    if preferred() is None:
        pytest.skip("no BPF compiler")
    path = tmp_path / "filter.c"
    path.write_text(source)
    if mark == "accept":
        FilterProgram.load(path).close()
        return
    with pytest.raises(LoadError) as caught:
        FilterProgram.load(path)
    assert reason in caught.value.reason


def test_page_has_both_kinds_and_marks_every_block() -> None:
    assert len(re.findall(r"^```c", PAGE, re.M)) == len(BLOCKS)
    assert {mark for mark, _, _ in BLOCKS} == {"accept", "refuse"}
    assert all(bool(reason) == (mark == "refuse") for mark, _, reason in BLOCKS)
