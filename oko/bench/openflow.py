"""Flow-mods and dumps over OpenFlow: oko-switchd beside Open vSwitch, as their clients see it.

Wall time: what is measured is a conversation of two processes. `each`: `ovs-ofctl add-flows`, one
flow and one barrier at a time; `bundle`: the same with --bundle; `pipelined`: a client that writes
everything and one barrier; `dump`: `ovs-ofctl dump-flows`. Both switches have two ports where
nothing comes in. Flows differ in address and priority, as a router's do.

Left out where ovs-ofctl, or Open vSwitch's own switch, is not installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

from oko.bench.registry import Goal, Sample, Unavailable, benchmark
from oko.bench.workloads import ROOT
from oko.openflow import common
from oko.openflow.common import OF13
from oko.openflow.flows import encode_flow_mod
from oko.openflow.messages import encode_hello
from oko.text import parse_flow_mod

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
START_SECONDS = 20


def flow_texts(n: int) -> list[str]:
    """n flows."""
    return [
        f"priority={i % 60_000 + 1},ip,nw_dst=10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255},"
        f"actions=output:{i % 2 + 1}"
        for i in range(n)
    ]


class Switch:
    """A switch with a bridge br0, in a directory of its own; ended by close()."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory("-oko-bench")))
        self.management = self.directory / "br0.mgmt"

    def start(self, *command: str, environment: dict[str, str]) -> None:
        """Starts one of its processes."""
        log = self.stack.enter_context((self.directory / f"{Path(command[0]).name}.log").open("wb"))
        started = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=self.directory
        )
        self.stack.callback(_end, started)

    def wait_for(self, path: Path) -> None:
        """Waits for a socket."""
        end = time.monotonic() + START_SECONDS
        while not path.exists():
            if time.monotonic() > end:
                self.close()
                raise Unavailable(f"{path.name} does not appear in {START_SECONDS} s")
            time.sleep(0.02)

    def ofctl(self, *arguments: str) -> None:
        """Runs ovs-ofctl in OpenFlow 1.4, which has bundles."""
        subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow14", *arguments],
            env={"OVS_RUNDIR": str(self.directory), "PATH": SYSTEM_PATH},
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def close(self) -> None:
        """Ends it."""
        self.stack.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_oko() -> Switch:
    """oko-switchd."""
    switch = Switch()
    switch.start(
        sys.executable, "-m", "oko.switchd", "--run-dir", str(switch.directory),
        "--bridge", "br0", "--port", "1=null", "--port", "2=null",
        environment=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    switch.wait_for(switch.management)
    return switch


def start_open_vswitch() -> Switch:
    """ovs-vswitchd with dummy ports, and its database."""
    for name in ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"):
        if shutil.which(name, path=SYSTEM_PATH) is None:
            raise Unavailable(f"no {name} (package openvswitch-switch)")
    switch = Switch()
    here = switch.directory
    environment = {"OVS_RUNDIR": str(here), "OVS_DBDIR": str(here), "PATH": SYSTEM_PATH}
    database = f"unix:{here}/db.sock"

    def run(*command: str) -> None:
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    run("ovsdb-tool", "create", f"{here}/conf.db", str(SCHEMA))
    switch.start("ovsdb-server", f"{here}/conf.db", f"--remote=p{database}",
                 f"--unixctl={here}/db.ctl", environment=environment)  # fmt: skip
    switch.wait_for(here / "db.sock")
    switch.start("ovs-vswitchd", database, "--enable-dummy", "--disable-system",
                 f"--unixctl={here}/switch.ctl", environment=environment)  # fmt: skip
    run("ovs-vsctl", f"--db={database}", "--timeout=20",
        "--", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy",
        "fail_mode=secure", "protocols=[OpenFlow10,OpenFlow13,OpenFlow14]",
        "--", "add-port", "br0", "p1", "--", "set", "interface", "p1", "type=dummy",
        "--", "add-port", "br0", "p2", "--", "set", "interface", "p2", "type=dummy")  # fmt: skip
    switch.wait_for(switch.management)
    return switch


SWITCHES: dict[str, Callable[[], Switch]] = {"oko": start_oko, "ovs": start_open_vswitch}
Run = Generator[Callable[[], Sample], None, None]


def _started(name: str) -> Switch:
    if shutil.which("ovs-ofctl", path=SYSTEM_PATH) is None:
        raise Unavailable("no ovs-ofctl (package openvswitch-common)")
    return SWITCHES[name]()


def _timed(n: int, run: Callable[[], None]) -> Sample:
    start = time.monotonic()
    run()
    return Sample(n, time.monotonic() - start)


def _by_ofctl(name: str, n: int, options: Sequence[str]) -> Run:
    switch = _started(name)
    try:
        file = switch.directory / "flows"
        file.write_text("\n".join(flow_texts(n)) + "\n")

        def sample() -> Sample:
            switch.ofctl("del-flows", "br0")
            return _timed(n, lambda: switch.ofctl(*options, "add-flows", "br0", str(file)))

        yield sample
    finally:
        switch.close()


def _pipelined(name: str, n: int) -> Run:
    switch = _started(name)
    try:
        mods = [
            encode_flow_mod(OF13, parse_flow_mod(text), i) for i, text in enumerate(flow_texts(n))
        ]
        barrier = common.message(OF13, common.TYPES[OF13]["BARRIER_REQUEST"], n)
        everything = b"".join(mods) + barrier

        def sample() -> Sample:
            switch.ofctl("del-flows", "br0")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(switch.management))
                client.sendall(encode_hello([OF13]))
                client.recv(4096)

                def run() -> None:
                    client.sendall(everything)
                    reply = client.recv(4096)
                    if reply[1] != common.TYPES[OF13]["BARRIER_REPLY"]:
                        raise RuntimeError(f"the switch answers {reply[:16].hex()}")

                return _timed(n, run)

        yield sample
    finally:
        switch.close()


def _dump(name: str, n: int) -> Run:
    switch = _started(name)
    try:
        file = switch.directory / "flows"
        file.write_text("\n".join(flow_texts(n)) + "\n")
        switch.ofctl("--bundle", "add-flows", "br0", str(file))
        yield lambda: _timed(n, lambda: switch.ofctl("dump-flows", "br0"))
    finally:
        switch.close()


def _register(name: str) -> None:
    """The benchmarks of one switch; the goals are oko's."""
    own = name == "oko"
    group = "openflow, wall time"

    @benchmark(f"openflow/each/{name}", group, "flow", Goal(ns=1e9 / 7e3) if own else None,
               flows=5_000)  # fmt: skip
    def each() -> Run:
        yield from _by_ofctl(name, 5_000, ())

    @benchmark(f"openflow/bundle/{name}", group, "flow", Goal(ns=1e9 / 30e3) if own else None,
               flows=20_000)  # fmt: skip
    def bundle() -> Run:
        yield from _by_ofctl(name, 20_000, ("--bundle",))

    @benchmark(f"openflow/pipelined/{name}", group, "flow", Goal(ns=1e9 / 40e3) if own else None,
               flows=20_000)  # fmt: skip
    def pipelined() -> Run:
        yield from _pipelined(name, 20_000)

    @benchmark(f"openflow/dump/{name}", group, "flow", Goal(ns=1e9 / 100e3) if own else None,
               flows=100_000)  # fmt: skip
    def dump() -> Run:
        yield from _dump(name, 100_000)


for _name in SWITCHES:
    _register(_name)
