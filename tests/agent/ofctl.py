"""Debian's ovs-ofctl against a real oko-switchd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

needs_ovs_ofctl = pytest.mark.skipif(
    shutil.which("ovs-ofctl") is None, reason="ovs-ofctl (openvswitch-common) is not installed"
)


class Ofctl:
    """ovs-ofctl in one version of OpenFlow, finding bridges through a run directory."""

    def __init__(self, run_dir: Path, version: str = "OpenFlow10") -> None:
        self._environment = os.environ | {"OVS_RUNDIR": str(run_dir)}
        self.version = version

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Whatever the exit status is."""
        return subprocess.run(
            ["ovs-ofctl", "-O", self.version, *arguments],
            env=self._environment, input=stdin, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that has to work."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        assert not done.stderr, f"{arguments}: {done.stderr}"
        return done.stdout

    def flows(self, *arguments: str) -> list[str]:
        """dump-flows br0 without times and counters, in order."""
        text = self("dump-flows", "br0", *arguments)
        return [plain(line) for line in text.splitlines() if line.startswith(" ")]


def plain(line: str) -> str:
    """A flow without what changes by itself."""
    line = re.sub(r"(duration|idle_age|hard_age)=[^ ]+ ", "", line)
    return re.sub(r"cookie=0x0, |n_packets=0, |n_bytes=0, ", "", line).strip()


def switch(tmp_path: Path, *arguments: str) -> Switchd:
    """oko-switchd with a bridge br0 that has two ports where nothing comes in."""
    ports = ("--port", "1=null", "--port", "2=null")
    return Switchd(tmp_path / "run", "--bridge", "br0", *ports, *arguments)
