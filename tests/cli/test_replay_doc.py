"""docs/replay.md: commands print what it shows, its Python works, its JSON is complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from oko.replaytool import main

TEXT = (ROOT / "docs" / "replay.md").read_text()
CONSOLE = re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def split(block: str) -> tuple[str, list[str]]:
    """The command, continuation lines joined, and the output shown below it."""
    command, _, shown = re.sub(r"\\\n\s*", "", block).partition("\n")
    return command.removeprefix("$ "), shown.splitlines()


def timeless(lines: list[str]) -> list[str]:
    """Without what differs from run to run."""
    lines = [re.sub(r" in [0-9.]+ s( \(.*\))?$", "", line) for line in lines]
    return [re.sub(r" +[-0-9]+$", " N", line) if "port_scan" in line else line for line in lines]


@pytest.mark.parametrize("block", CONSOLE)
def test_commands(block: str, tmp_path: Path) -> None:
    command, shown = split(block)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    script = bin_dir / "oko-replay"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m oko.replaytool "$@"\n'
    )
    script.chmod(0o755)
    for name in ("examples", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    if shown:
        assert timeless(done.stdout.splitlines()) == timeless(shown)


@pytest.mark.parametrize("block", PYTHON)
def test_python(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(block, "docs/replay.md", "exec"), {})


def test_json_members(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / "examples/traces/scan.pcap"), "--json"]) == 0
    section = TEXT[TEXT.index("## JSON") : TEXT.index("## From Python")]
    rows = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    named = {
        name.removesuffix("[]") for row in rows for name in re.findall(r"`([a-z_\[\]]+)`", row)
    }
    assert set(json.loads(capsys.readouterr().out)) == named - {"trace"}
