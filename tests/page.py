"""A page of the documentation, read from top to bottom as a newcomer does.

Fenced blocks with a file's name behind the language are saved; `console` blocks are commands and
what they print ("..." stands for what differs from run to run).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

MODULES = {
    "oko-replay": "oko.replaytool",
    "oko-bpf": "oko.bpftool",
    "oko-ofctl": "oko.ofctl.main",
    "oko-switchd": "oko.switchd",
}


@dataclass(frozen=True)
class Block:
    """What stands between fences: ```kind file."""

    kind: str
    file: str
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of docs/PAGE."""
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found]


class Reader:
    """Someone with the commands in PATH, in a folder of their own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        commands = folder / "bin"
        commands.mkdir()
        for name, module in MODULES.items():
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            script.chmod(0o755)
        (folder / "examples").symlink_to(ROOT / "examples")
        path = f"{commands}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}

    def run(self, command: str) -> str:
        """What it prints."""
        done = subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def save(self, block: Block) -> None:
        """A file of the page."""
        (self.folder / block.file).write_text(block.text)

    def type(self, block: Block) -> None:
        """The commands of a console block; each prints what the page shows."""
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            shown = self.run(command)
            pattern = re.escape(expected.rstrip()).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, shown.rstrip(), re.S), f"{command}\n{shown}"
