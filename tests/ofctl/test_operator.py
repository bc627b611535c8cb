"""What an operator meets: JSON everywhere, colour, full disks, dead and silent daemons."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stock import oko
from test_start import slow_imports

from oko.ofctl.commandline import COMMANDS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

ROOT = Path(__file__).resolve().parents[2]
FIREWALL = str(ROOT / "examples" / "bpf" / "stateless_firewall.o")
SYN_FLOOD = str(ROOT / "examples" / "bpf" / "syn_flood.o")
PORTS = ("--port", "1=null", "--port", "2=null")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with Switchd(folder, "--bridge", "br0", *PORTS):
        for command in (
            ("load-filter-prog", "br0", "1", FIREWALL),
            ("add-flow", "br0", "priority=5,filter_prog=1,ip,actions=drop"),
            ("add-group", "br0", "group_id=1,type=all,bucket=output:1"),
            ("add-meter", "br0", "meter=1,kbps,bands=type=drop,rate=5"),
        ):
            assert oko(folder, *command).status == 0, command
        yield folder


def process(run_dir, *arguments, **options):
    """oko-ofctl as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "oko.ofctl.main", *arguments],
        env=os.environ | {"OVS_RUNDIR": str(run_dir), "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        **options,
    )


READING = {
    "load-filter-prog": ("br0", "7", SYN_FLOOD),
    "dump-map": ("br0", "1", "blocked"),
    "send-maps": ("br0", "1", "--interval=0.05", "--count=1"),
    "diff-flows": ("br0", "br0"),
    "trace": ("br0", "ip"),
    "ping": ("br0", "--count=1"),
    "benchmark": ("br0", "10", "5"),
    "print-error": ("OFPBRC_EPERM",),
}
ELSEWHERE = ("monitor", "ofp-parse", "snoop")  # their own tests; monitor prints an object a line


@pytest.mark.parametrize(
    "command", [c.name for c in COMMANDS if c.json and c.name not in ELSEWHERE]
)
def test_every_reading_command_has_json(run_dir, command):
    arguments = READING.get(command, ("br0",))
    done = oko(run_dir, command, *arguments, "--json")
    assert (done.status, done.err) == (0, ""), done
    assert isinstance(json.loads(done.out), dict)
    words = oko(run_dir, command, *arguments)
    assert words.status == 0 and not words.out.startswith("{")


def test_commands_that_read_are_those_with_json():
    """What prints something about a switch can print it as JSON."""
    others = {c.name for c in COMMANDS if not c.json}
    reads = re.compile(r"show|dump|stats|get-|features|trace|monitor|snoop|ping")
    assert not {name for name in others if reads.search(name)}


def on_a_terminal(run_dir, *arguments):
    """What a command prints to a terminal."""
    ours, theirs = pty.openpty()
    child = process(run_dir, *arguments, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert child.wait(60) == 0
    return text.decode()


def test_colour_on_a_terminal_only(run_dir):
    assert "\x1b[1;35mfilter_prog=1\x1b[0m" in on_a_terminal(run_dir, "dump-flows", "br0")
    assert "\x1b" not in on_a_terminal(run_dir, "dump-flows", "br0", "--color=never")
    assert "\x1b" not in oko(run_dir, "dump-flows", "br0").out
    assert "\x1b" in oko(run_dir, "dump-flows", "br0", "--color=always").out


def test_output_that_cannot_be_written(run_dir, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # else nothing is left for the end
    with open("/dev/full", "w") as full:
        child = process(run_dir, "show", "br0", stdout=full, stderr=subprocess.PIPE, text=True)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert err == "oko-ofctl: No space left on device\n"
    child = process(run_dir, "show", "br0", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()  # as `| head` does
    assert child.wait(60) == 1 and child.stderr.read() == b""
    child.stderr.close()


def test_a_daemon_that_is_silent_or_dead(tmp_path):
    with Switchd(tmp_path, "--bridge", "br0", *PORTS) as daemon:
        daemon.signal(signal.SIGSTOP)
        try:
            for command in (("show", "br0"), ("add-flow", "br0", "actions=drop")):
                done = oko(tmp_path, "--timeout=0.5", *command)
                assert (done.status, done.out) == (1, "")
                assert done.err == f"oko-ofctl: unix:{tmp_path}/br0.mgmt: no answer in time\n"
        finally:
            daemon.signal(signal.SIGCONT)
        assert oko(tmp_path, "show", "br0").status == 0
        daemon.process.kill()
        daemon.process.wait()
        done = oko(tmp_path, "show", "br0")
        assert done.status == 1 and "(Connection refused)" in done.err
        done = oko(tmp_path, "trace", "br0", "ip")
        assert done.status == 1 and "Connection refused" in done.err


def test_hints(run_dir):
    done = oko(run_dir, "unload-filter-prog", "br0", "1")
    assert done.status == 1 and done.err.endswith(
        "\nhint: --force deletes the flows that use it, too\n"
    )
    done = oko(run_dir, "show", "br9")
    assert f"hint: looked for {run_dir}/br9.mgmt" in done.err
    assert "did you mean show?" in oko(run_dir, "shwo", "br0").err
    assert 'did you mean "tcp"?' in oko(run_dir, "add-flow", "br0", "tpc,actions=drop").err
    for packet in ("nosuch.pcap:1", "folder/nosuch:1", "pcap:nosuch:1", "nosuch.pcapng.gz:7"):
        done = oko(run_dir, "trace", "br0", packet)
        assert done.status == 1 and "nosuch" in done.err and "open failed" in done.err, done
    done = oko(run_dir, "-O", "OpenFlow15", "show", "br0")
    assert done.status == 1 and "speaks OpenFlow 1.0, 1.3, 1.4, not 1.5" in done.err


@pytest.mark.parametrize("command", ["show", "dump-flows", "dump-tables", "dump-ports"])
def test_a_command_imports_nothing_slow(run_dir, command):
    arguments = ("-m", "oko.ofctl.main", f"--run-dir={run_dir}", command, "br0")
    assert slow_imports(*arguments) == set()
