"""Flow monitors and snoop: oko-ofctl prints what ovs-ofctl prints, at either switch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from stock import oko, open_stock
from waiting import wait_until

from oko.ofctl.commandline import UsageError
from oko.ofctl.monitor import parse_watch
from oko.openflow import flow_monitor
from oko.openflow.flow_monitor import Monitor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

ROOT = Path(__file__).resolve().parents[2]
FIREWALL = str(ROOT / "examples" / "bpf" / "stateless_firewall.o")
VERSIONS = ("OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15")
OWN = [sys.executable, "-m", "oko.ofctl.main"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The run directories of Debian's switch and of oko-switchd."""
    own = tmp_path_factory.mktemp("run")
    ports = ("--port", "1=null", "--port", "2=null")
    with ExitStack() as stack:
        started = Switchd(own, "--bridge", "br0", *ports, "--protocols", ",".join(VERSIONS))
        stack.enter_context(started)
        assert oko(own, "load-filter-prog", "br0", "1", FIREWALL).status == 0
        for stock in open_stock(tmp_path_factory):
            yield {"stock": stock.folder, "oko": own}


@contextmanager
def watcher(tool, run_dir, file, *arguments):
    """A tool that prints into a file until the block ends."""
    environment = os.environ | {"OVS_RUNDIR": str(run_dir), "PYTHONPATH": str(ROOT)}
    with file.open("w") as out:
        process = subprocess.Popen([*tool, *arguments], stdout=out, stderr=out, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def until(file, text):
    wait_until(lambda: text in file.read_text(), lambda: f"no {text!r}:\n{file.read_text()}")


def shown(file):
    """What a watcher printed: without numbers of messages, and without replies' boundaries, for
    switches may put several updates into one."""
    text = re.sub(r"xid=0x[0-9a-f]+", "xid=*", file.read_text())
    lines = [line for line in text.splitlines() if "terminating with signal" not in line]
    return [line for i, line in enumerate(lines) if i == 0 or not line.endswith("(xid=*):")]


CHANGES = (
    ("add-flow", "table=1,cookie=5,idle_timeout=9,hard_timeout=99,udp,actions=drop"),
    ("add-flow", "priority=9,actions=output:1,output:2"),
    ("mod-flows", "tcp,actions=output:2"),
    ("del-flows", "tcp"),
    ("del-flows", "table=1"),
    ("add-flow", "table=9,actions=IN_PORT"),
)
WATCHES = (
    "watch:",
    "watch:!initial,!add",
    "watch:!actions,table=1",
    "watch:udp",
    "watch:out_port=2",
)


QUICK = [(of, WATCHES[0]) for of in VERSIONS] + [(VERSIONS[0], watch) for watch in WATCHES[1:]]
LONG = [(of, watch) for of in VERSIONS[1:] for watch in WATCHES[1:]]


@pytest.mark.parametrize(
    ("of", "watch"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.long) for case in LONG)]
)
@pytest.mark.parametrize("switch", ["stock", "oko"])
def test_changes_of_flows(folders, tmp_path, switch, of, watch):
    run_dir = folders[switch]
    oko(run_dir, "del-flows", "br0")
    oko(run_dir, "add-flow", "br0", "priority=3,tcp,actions=output:1")
    files = [tmp_path / "theirs", tmp_path / "own"]
    with ExitStack() as stack:
        for tool, file in zip((["ovs-ofctl"], OWN), files, strict=True):
            stack.enter_context(watcher(tool, run_dir, file, "-O", of, "monitor", "br0", watch))
        for file in files:
            until(file, "FLOW_MONITOR reply")
        for command, flow in CHANGES:
            assert oko(run_dir, command, "br0", flow).status == 0
        if watch == "watch:":
            for file in files:
                until(file, "table=9")
        else:
            time.sleep(0.4)
    theirs, own = map(shown, files)
    assert own == theirs
    assert len(own) >= 2 and own[0].endswith("(xid=*):")


def test_filters_are_told(folders, tmp_path):
    run_dir, file = folders["oko"], tmp_path / "own"
    oko(run_dir, "del-flows", "br0")
    with watcher(OWN, run_dir, file, "monitor", "br0", "watch:!initial", "--json"):
        until(file, "FLOW_MONITOR")
        oko(run_dir, "add-flow", "br0", "filter_prog=1,tcp,actions=drop")
        until(file, "filter_prog=1,tcp")
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert told[-1]["message"] == "OFPT_VENDOR" or "NXST" in told[-1]["text"]


def test_a_filter_can_be_watched(folders, tmp_path):
    run_dir, file = folders["oko"], tmp_path / "own"
    oko(run_dir, "del-flows", "br0")
    with watcher(OWN, run_dir, file, "monitor", "br0", "watch:filter_prog=1"):
        until(file, "FLOW_MONITOR")
        oko(run_dir, "add-flow", "br0", "udp,actions=drop")
        oko(run_dir, "add-flow", "br0", "filter_prog=1,actions=output:1")
        until(file, "filter_prog=1 actions=output:1")
    assert "udp" not in file.read_text()


CONTROLLER = """
import socket, sys, time
there = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    switch, _ = there.accept()
    switch.sendall(bytes.fromhex("0400000800000001") + bytes.fromhex("0405000800000002"))
    for n in range(3, 200):
        time.sleep(0.1)
        switch.sendall(bytes.fromhex("041400080000%04x" % n))
"""


def test_snoop(tmp_path, free_port):
    command = [sys.executable, "-c", CONTROLLER, str(free_port)]
    with subprocess.Popen(command) as controller:
        try:
            target = f"tcp:127.0.0.1:{free_port}"
            ports = ("--port", "1=null", "--controller", target)
            with Switchd(tmp_path / "run", "--bridge", "br0", *ports) as daemon:
                daemon.wait_for("connected to")
                files = [tmp_path / "theirs", tmp_path / "own"]
                with ExitStack() as stack:
                    for tool, file in zip((["ovs-ofctl"], OWN), files, strict=True):
                        stack.enter_context(watcher(tool, daemon.run_dir, file, "snoop", "br0"))
                    for file in files:
                        until(file, "OFPT_BARRIER_REPLY (OF1.3)")
                theirs, own = (set(file.read_text().splitlines()) for file in files)
                assert "OFPT_BARRIER_REQUEST" in "".join(theirs & own)
                done = oko(daemon.run_dir, "snoop", "br0", "--json", "--count=1")
                assert done.status == 0 and json.loads(done.out)["message"].startswith("OFPT_BARR")
        finally:
            controller.kill()
    done = oko(tmp_path, "snoop", "br7")
    assert done.status == 1 and "br7.snoop" in done.err


@pytest.fixture
def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_what_is_watched():
    every = flow_monitor.INITIAL | flow_monitor.ADD | flow_monitor.DELETE | flow_monitor.MODIFY
    every |= flow_monitor.ACTIONS | flow_monitor.OWN
    assert parse_watch("", 3, {}) == Monitor(3, every)
    found = parse_watch("!own,table=4,!add,tcp,out_port=7,out_group=8,filter_prog=9", 0, {})
    assert found.flags == every & ~flow_monitor.OWN & ~flow_monitor.ADD
    assert (found.table, found.out_port, found.out_group, found.filter_prog) == (4, 7, 8, 9)
    with pytest.raises(UsageError, match="!no: unknown flag"):
        parse_watch("!no", 0, {})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("monitor", "br0", "watch:!nosuch"), "!nosuch: unknown flag"),
        (("monitor", "br0", "watch:tpc"), 'unknown field "tpc"'),
        (("monitor", "br0", "70000"), "0 to 65535"),
        (("monitor", "br0", "loudly"), 'unsupported "monitor" argument'),
        (("-O", "OpenFlow13", "monitor", "br0", "watch:out_group=1"), "needs OpenFlow 1.4"),
    ],
)
def test_what_cannot_be_watched(folders, arguments, reason):
    done = oko(folders["oko"], *arguments)
    assert (done.status, done.out) == (1, "") and reason in done.err
