"""Debian's Open vSwitch in a folder of its own, and oko-ofctl run beside its ovs-ofctl."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from oko.ofctl.main import main

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
BRIDGE = (
    "set bridge br0 datapath_type=dummy fail-mode=secure "
    "protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"
)


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    status: int
    out: str
    err: str


def oko(run_dir: Path, *arguments: str, stdin: str = "") -> Done:
    """oko-ofctl, in this process."""
    out, err = io.StringIO(), io.StringIO()
    old_stdin, old_dir = sys.stdin, os.environ.get("OVS_RUNDIR")
    os.environ["OVS_RUNDIR"] = str(run_dir)
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(arguments))
    finally:
        sys.stdin = old_stdin
        if old_dir is None:
            del os.environ["OVS_RUNDIR"]
        else:
            os.environ["OVS_RUNDIR"] = old_dir
    return Done(status, out.getvalue(), err.getvalue())


def ovs(run_dir: Path, *arguments: str, stdin: str = "") -> Done:
    """ovs-ofctl, towards a switch of that run directory."""
    done = subprocess.run(
        ["ovs-ofctl", *arguments], env=os.environ | {"OVS_RUNDIR": str(run_dir)}, input=stdin,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def plain(text: str) -> str:
    """Text without what changes by itself: numbers of messages, times."""
    text = re.sub(r"xid=0x[0-9a-f]+", "xid=*", text)
    text = re.sub(r"duration=[0-9.]+s", "duration=*", text)
    text = re.sub(r"duration:[0-9.]+s", "duration:*", text)
    return re.sub(r"(idle|hard)_age=[0-9]+", r"\1_age=*", text)


def open_stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """What a fixture yields: a private Open vSwitch with bridge br0 and dummy ports p1, p2."""
    if shutil.which("ovs-vswitchd") is None or shutil.which("ovs-ofctl") is None:
        pytest.skip("Open vSwitch (Debian: openvswitch-switch) is missing")
    with Stock(tmp_path_factory.mktemp("ovs")) as switch:
        yield switch


class Stock:
    """ovsdb-server and ovs-vswitchd with a dummy datapath."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            f"OVS_{name}": str(folder) for name in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")
        }

    def __enter__(self) -> Stock:
        quiet = ["--detach", "--no-chdir", "--pidfile", "-vconsole:off"]
        database = str(self.folder / "conf.db")
        self.run("ovsdb-tool", "create", database, str(SCHEMA))
        self.run("ovsdb-server", *quiet, f"--remote=punix:{self.folder}/db.sock", database)
        self._vsctl("--no-wait", "init")
        dummy = ["--enable-dummy=override", "--disable-system", "--disable-system-route"]
        self.run("ovs-vswitchd", *quiet, *dummy, f"unix:{self.folder}/db.sock")
        command = ["add-br", "br0", "--", *BRIDGE.split()]
        for port in (1, 2):
            command += ["--", "add-port", "br0", f"p{port}", "--", "set", "interface", f"p{port}"]
            command += ["type=dummy", f"ofport_request={port}"]
        self._vsctl(*command)
        return self

    def __exit__(self, *exc: object) -> None:
        for name in ("ovs-vswitchd", "ovsdb-server"):
            pid = self.folder / f"{name}.pid"
            if pid.exists():
                os.kill(int(pid.read_text()), 15)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _vsctl(self, *command: str) -> None:
        self.run("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "--timeout=20", *command)

    def appctl(self, *command: str) -> str:
        """ovs-appctl."""
        return self.run("ovs-appctl", *command)

    def ovs(self, *arguments: str, stdin: str = "") -> Done:
        """ovs-ofctl."""
        return ovs(self.folder, *arguments, stdin=stdin)

    def oko(self, *arguments: str, stdin: str = "") -> Done:
        """oko-ofctl."""
        return oko(self.folder, *arguments, stdin=stdin)

    def same(self, *arguments: str) -> str:
        """The output of both, which must be the same and a success; what oko-ofctl printed."""
        stock, own = self.ovs(*arguments), self.oko(*arguments)
        assert stock.status == own.status == 0, (arguments, stock, own)
        assert plain(own.out) == plain(stock.out), arguments
        assert own.err == ""
        return own.out
