"""docs/ofctl.md: its sessions are run line for line against oko-switchd, Oko's own first."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from stock import oko, plain

from oko.ofctl.commandline import COMMANDS, OPTIONS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ofctl.md").read_text()


def steps(block: str) -> list[tuple[str, str]]:
    """(command, what it prints) of a session."""
    found = re.split(r"^\$ ", block, flags=re.M)[1:]
    return [(line, rest) for line, _, rest in (part.partition("\n") for part in found)]


def test_the_sessions(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(ROOT)
    run_dir = tmp_path_factory.mktemp("run")
    blocks = re.findall(r"^```session\n(.*?)^```", PAGE, flags=re.M | re.S)
    assert len(blocks) == 3
    with Switchd(run_dir, "--bridge", "br0", "--port", "1=null", "--port", "2=null") as daemon:
        daemon.wait_for("ready")
        session = [step for block in blocks for step in steps(block)]
        assert len(session) == 11
        for command, printed in session:
            name, *arguments = shlex.split(command)
            assert name == "oko-ofctl"
            done = oko(run_dir, *arguments)
            assert (done.status, done.err) == (0, ""), (command, done)
            assert plain(done.out) == plain(printed), command


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_told_of(command):
    assert f"`{command.name}" in PAGE or f"oko-ofctl {command.name}" in PAGE


def test_options_that_are_told_of_exist():
    known = {option.name for option in OPTIONS}
    told = set(re.findall(r"--([a-z][a-z-]+)", PAGE)) - {"update-map"}
    assert told <= known
