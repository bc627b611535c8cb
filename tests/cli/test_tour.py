"""docs/tour.md, read from top to bottom as a newcomer does: files are saved, commands print what
the page shows ("..." stands for what differs between machines), the Python works.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from oko.bpf import toolchain

BLOCKS = re.findall(
    r"^```(console|python|c (\S+))\n(.*?)^```",
    (ROOT / "docs" / "tour.md").read_text(),
    re.MULTILINE | re.DOTALL,
)
COMMANDS = {"oko-replay": "oko.replaytool", "oko-bpf": "oko.bpftool"}


def run(command: str, folder: Path, bin_dir: Path) -> str:
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )
    assert "Traceback" not in done.stderr
    return done.stdout or done.stderr


def test_the_tour(tmp_path: Path) -> None:
    if not toolchain.compilers():
        pytest.skip("no compiler for BPF is installed")
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name, module in COMMANDS.items():
        script = bin_dir / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")

    kinds = set()
    for kind, file, text in BLOCKS:
        kinds.add(kind)
        if file:
            (tmp_path / file).write_text(text)
        elif kind == "python":
            (tmp_path / "tour.py").write_text(text)
            assert run(f"{sys.executable} tour.py", tmp_path, bin_dir) == (
                "10.0.0.1 3867\n10.0.0.2 73235\n"
            )
        else:
            command, _, expected = text.partition("\n")
            shown = run(command.removeprefix("$ "), tmp_path, bin_dir)
            pattern = re.escape(expected.rstrip()).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, shown.rstrip(), re.S), f"{command}\n{shown}"
    assert kinds == {"console", "python", "c talkers.c", "c careless.c"}
