"""oko-ofctl trace against oko-switchd; completion and man page from the tables of commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stock import oko

from oko.model.compose import compose
from oko.ofctl.commandline import COMMANDS, OPTIONS
from oko.text import parse_flow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

ROOT = Path(__file__).resolve().parents[2]
FIREWALL = str(ROOT / "examples" / "bpf" / "stateless_firewall.o")
SCAN = str(ROOT / "examples" / "traces" / "scan.pcap")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    ports = ("--port", "1=null", "--port", "2=null,name=uplink")
    with Switchd(folder, "--bridge", "br0", *ports) as daemon:
        daemon.wait_for("ready")
        for command in (
            ("load-filter-prog", "br0", "1", FIREWALL),
            ("update-map", "br0", "1", "map=blocked", "key=ip:10.0.0.1", "value=1"),
            ("add-flow", "br0", "priority=5,filter_prog=1,ip,actions=drop"),
            ("add-flow", "br0", "priority=1,actions=output:2"),
        ):
            assert oko(folder, *command).status == 0, command
        yield folder


def trace(run_dir, *arguments):
    done = oko(run_dir, "trace", "br0", *arguments)
    assert (done.status, done.err) == (0, ""), done
    return done.out


def test_a_flow_as_text(run_dir):
    text = trace(run_dir, "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_dst=80")
    assert "came in at port 1" in text
    assert "priority 5 filter_prog=1,ip: program 1 says match\n" in text
    assert "      decided at stateless_firewall.c:" in text
    text = trace(run_dir, "in_port=2,tcp,nw_src=10.0.0.9,nw_dst=10.0.0.2,tp_dst=80")
    assert "came in at port 2" in text and "left through" not in text
    text = trace(run_dir, "arp", "--in-port=uplink")
    assert "came in at port 2" in text


def test_nothing_is_counted(run_dir):
    trace(run_dir, "tcp,nw_src=10.0.0.1")
    assert " packet_count=0 " in oko(run_dir, "dump-aggregate", "br0").out


def test_a_frame_and_a_capture(run_dir):
    _, frame = compose(parse_flow("udp,nw_src=10.0.0.7,tp_dst=53,actions=drop").match)
    text = trace(run_dir, frame.hex())
    assert f"{len(frame)} bytes, came in at port 1" in text and "left through port 2" in text
    assert trace(run_dir, frame.hex(":")) == text
    text = trace(run_dir, f"{SCAN}:3", "--in-port=2")
    assert "came in at port 2" in text
    assert trace(run_dir, f"pcap:{SCAN}:3", "--in-port=2") == text


def test_json(run_dir):
    found = json.loads(trace(run_dir, "udp,nw_src=10.0.0.7", "--json"))
    assert found["bridge"] == "br0"
    assert [step["kind"] for step in found["steps"]][:3] == ["packet", "lookup", "filter"]
    assert [step["source"] is None for step in found["steps"]][:3] == [True, True, False]
    place = found["steps"][2]["source"]["decided"]
    number, _, text = place.removeprefix("stateless_firewall.c:").partition(": ")
    source = (ROOT / "examples" / "bpf" / "stateless_firewall.c").read_text().splitlines()
    assert source[int(number) - 1].strip() == text


def test_what_cannot_be_traced(run_dir, tmp_path):
    for arguments, text in (
        (("br0", "tcp,nosuch=1"), "nosuch"),
        (("br0", "reg0=5"), "cannot carry reg0"),
        (("nosuch", "tcp"), "nosuch"),
        (("br0", f"{SCAN}:9999999"), "has no packet 9999999"),
        (("br0", "pcap:nowhere"), "pcap:FILE:NUMBER is wanted"),
        (("tcp:127.0.0.1:6653", "tcp"), "needs a bridge's name"),
        (("br0", "tcp", "--in-port=nosuch"), 'unknown port "nosuch"'),
    ):
        done = oko(run_dir, "trace", *arguments)
        assert (done.status, done.out) == (1, "") and text in done.err, (arguments, done)
    done = oko(tmp_path, "trace", "br0", "tcp")
    assert done.status == 1 and "there is no oko-switchd to ask" in done.err


# ---------------------------------------------------------------- completion


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    program = (
        f'. "{script}"; compopt() {{ :; }}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        'COMPREPLY=(); _oko_ofctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "-c", program, "bash", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "bash"
    path.write_text(oko(path, "completion", "bash").out)
    return path


def test_bash_completes_commands_options_and_bridges(script, run_dir, monkeypatch):
    assert completed(script, "oko-ofctl", "load") == ["load-filter-prog"]
    assert completed(script, "oko-ofctl", "") == [command.name for command in COMMANDS]
    assert completed(script, "oko-ofctl", "--bu") == ["--bundle"]
    assert completed(script, "oko-ofctl", "--prot") == ["--protocols="]
    monkeypatch.setenv("OVS_RUNDIR", str(run_dir))
    assert completed(script, "oko-ofctl", "--strict", "dump-flows", "b") == ["br0"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command(shell, tmp_path):
    text = oko(tmp_path, "completion", shell).out
    for command in COMMANDS:
        assert command.name in text
    for option in OPTIONS:
        assert option.name in text
    assert oko(tmp_path, "completion", "tcsh").status == 1


def test_the_man_page_has_everything(tmp_path):
    page = oko(tmp_path, "man").out
    assert page.startswith(".TH OKO-OFCTL 8")
    plain = page.replace("\\-", "-")
    for command in COMMANDS:
        assert f"\n\\fB{command.name}\\fR" in plain
    for option in OPTIONS:
        assert f"--{option.name}" in plain
    # Lines that begin with a dot are requests of man(7), and known ones.
    requests = {line.split(" ")[0] for line in page.splitlines() if line.startswith(".")}
    assert requests == {".TH", ".SH", ".SS", ".TP", ".B", ".BR"}
