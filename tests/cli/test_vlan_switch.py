"""docs/vlan-switch.md: a VLAN switch of five tables, typed in at a running oko-switchd."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from conftest import ROOT
from page import Reader, blocks

sys.path.insert(0, str(ROOT / "tests" / "switch"))
from switchd_process import Switchd


def test_the_vlan_switch(tmp_path: Path) -> None:
    first, *rest = blocks("vlan-switch.md")
    assert first.kind == "sh"
    program, option, run_dir, *arguments = shlex.split(first.text)
    assert (program, option) == ("oko-switchd", "--run-dir")
    reader = Reader(tmp_path, OVS_RUNDIR=str(tmp_path / run_dir))
    typed = 0
    with Switchd(tmp_path / run_dir, *arguments):
        for block in rest:
            if block.kind == "text":
                reader.save(block)
            else:
                assert block.kind == "console"
                reader.type(block)
                typed += block.text.count("$ ")
    assert typed == 13
