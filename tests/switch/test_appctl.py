"""ovs-appctl against oko-switchd: Debian's own where it is installed, raw JSON-RPC everywhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from switchd_process import Switchd

FLOWS = """
priority=9,tcp,tp_dst=80,actions=output:2
table=0,priority=5,arp,actions=NORMAL
"""


@pytest.fixture(scope="module")
def switch(tmp_path_factory):
    path = tmp_path_factory.mktemp("appctl")
    flows = path / "flows"
    flows.write_text(FLOWS)
    with Switchd(path / "run", "--bridge", "br0", "--port", "1=null", "--port", "2=null",
                 "--flows", str(flows), "--bridge", "br1") as running:  # fmt: skip
        yield running


class Client:
    """unixctl by hand."""

    def __init__(self, switch: Switchd) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(switch.run_dir / f"oko-switchd.{switch.pid}.ctl"))
        self.waiting = ""

    def receive(self) -> dict:
        while True:
            try:
                reply, end = json.JSONDecoder().raw_decode(self.waiting)
                self.waiting = self.waiting[end:]
                return reply
            except json.JSONDecodeError:
                data = self.socket.recv(65536)
                if not data:
                    raise EOFError from None
                self.waiting += data.decode()

    def ask(self, method: str, *params: str):
        request = {"id": 7, "method": method, "params": list(params)}
        self.socket.sendall(json.dumps(request).encode())
        reply = self.receive()
        assert reply["id"] == 7
        return reply["result"], reply["error"]


@pytest.fixture
def client(switch):
    made = Client(switch)
    yield made
    made.socket.close()


def test_every_command_answers(client):
    listed, error = client.ask("list-commands")
    assert error is None and listed.startswith("The available commands are:\n")
    names = [line.split()[0] for line in listed.splitlines()[1:]]
    assert {"version", "exit", "ofproto/trace", "fdb/show", "coverage/show", "vlog/set",
            "dpif-netdev/pmd-stats-show", "dpif-netdev/pmd-perf-show", "bridge/dump-flows",
            "memory/show", "oko/show-prog", "list-commands"} <= set(names)  # fmt: skip
    for name in sorted(set(names) - {"exit", "oko/reload", "vlog/set", "ofproto/trace"}):
        result, error = client.ask(name, *(["br0"] if name == "bridge/dump-flows" else []))
        assert error is None and isinstance(result, str), name


def test_texts(client):
    assert client.ask("version")[0].startswith("oko-switchd ")
    assert client.ask("ofproto/list")[0] == "br0\nbr1\n"
    assert client.ask("fdb/show", "br0")[0] == " port  VLAN  MAC                Age\n"
    flows = client.ask("bridge/dump-flows", "br0")[0].splitlines()
    assert flows[0].endswith("priority=9,tcp,tp_dst=80 actions=output:2") and len(flows) == 2
    memory = dict(word.split(":") for word in client.ask("memory/show")[0].split())
    assert (memory["rules"], memory["ports"], memory["programs"]) == ("2", "4", "0")
    coverage = client.ask("coverage/show")[0]
    assert coverage.startswith("Event coverage") and "commit " in coverage


def test_trace_leaves_nothing_behind(client):
    result, error = client.ask("ofproto/trace", "br0", "in_port=1,tcp,tp_dst=80")
    assert error is None
    assert result.splitlines() == [
        "Flow: tcp,in_port=1,tp_dst=80",
        "",
        'bridge("br0")',
        "-------------",
        "packet: 60 bytes, came in at port 1",
        "  table 0:",
        "    priority 9 tcp,tp_dst=80: chosen, actions=output:2",
        "    apply_actions",
        "    output:2",
        "    left through port 2",
    ]
    frame = "ffffffffffff020000000001" + "0806" + "00" * 46
    result, _ = client.ask("ofproto/trace", "br0", "in_port=1", frame)
    assert "priority 5 arp: chosen, actions=NORMAL" in result
    assert "02:00" not in client.ask("fdb/show", "br0")[0]  # nothing was learned
    assert all("n_packets=0" in line for line in
               client.ask("bridge/dump-flows", "br0")[0].splitlines())  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no/such"], '"no/such" is not a valid command'),
        (["fdb/show", "br9"], "no such bridge: br9"),
        (["bridge/dump-flows"], "requires at least 1 arguments"),
        (["version", "x"], "takes at most 0 arguments"),
        (["ofproto/trace", "br0", "tcp,colour=1"], "colour"),
        (["ofproto/trace", "br0", "reg3=1"], "a frame cannot carry reg3"),
        (["ofproto/trace", "br0", "in_port=1", "zz"], "not hexadecimal"),
        (["ofproto/trace", "br0", "in_port=1", "00" * 65536], "longer than 65,535"),
        (["vlog/set", "nonsense"], 'no module, destination, or level "nonsense"'),
        (["oko/show-prog", "br0", "4"], "program 4 is not loaded"),
        (["set-options", "--format", "xml"], "set-options takes"),
    ],
)
def test_errors_are_one_line(client, words, message):
    result, error = client.ask(*words)
    assert result is None and message in error and "Traceback" not in error


def test_json(client):
    assert client.ask("set-options", "--format", "json") == ("", None)
    assert client.ask("vlog/set", "info")[0] == {"reply-format": "plain", "reply": ""}
    flows, _ = client.ask("bridge/dump-flows", "br0")
    assert [(f["priority"], f["match"]) for f in flows] == [(9, "tcp,tp_dst=80"), (5, "arp")]
    assert client.ask("fdb/show")[0] == {"br0": [], "br1": []}
    trace, _ = client.ask("ofproto/trace", "br0", "in_port=1,tcp,tp_dst=80")
    assert [step["kind"] for step in trace["steps"]][-1] == "output"
    assert client.ask("set-options", "--format", "text") == ("", None)
    assert client.ask("fdb/show", "br0")[0].startswith(" port")


def test_levels(switch, client):
    client.ask("vlog/set", "daemon:off")
    assert "daemon               OFF" in client.ask("vlog/list")[0]
    client.ask("vlog/set", "ANY:console:info")
    assert "daemon              INFO" in client.ask("vlog/list")[0]


def test_requests_in_pieces_and_in_heaps(client):
    one = json.dumps({"id": 1, "method": "version", "params": []})
    for byte in one:
        client.socket.sendall(byte.encode())
    assert client.receive()["error"] is None
    client.socket.sendall((one * 100).encode())
    assert all(client.receive()["error"] is None for _ in range(100))


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xfe\xfd\xfc\xfb", b"hello", b"[1]", b'{"method": 5}', b'{"a":' * 100_000,
     b'{"method": "version", "params": [1]}', b'{"x": "' + b"y" * (2 << 20)],
)  # fmt: skip
def test_garbage_closes_only_its_connection(switch, client, garbage):
    other = Client(switch)
    try:
        other.socket.sendall(garbage)
        with pytest.raises(EOFError):
            other.receive()
    except ConnectionError:
        pass
    finally:
        other.socket.close()
    assert client.ask("version")[1] is None


def test_a_client_that_never_reads(switch, client):
    """Its replies are not collected without bound, and others are served meanwhile."""
    other = Client(switch)
    other.socket.setblocking(False)
    request = json.dumps({"id": 1, "method": "list-commands", "params": []}).encode()
    try:
        for _ in range(20_000):
            other.socket.send(request)
    except BlockingIOError:
        pass
    for _ in range(20):
        assert client.ask("version")[1] is None
    other.socket.close()


needs_ovs = pytest.mark.skipif(
    shutil.which("ovs-appctl") is None, reason="Open vSwitch's ovs-appctl is not installed"
)


def appctl(switch: Switchd, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ovs-appctl", "-t", "oko-switchd", *words],
        env=os.environ | {"OVS_RUNDIR": str(switch.run_dir)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@needs_ovs
def test_the_real_ovs_appctl(switch):
    assert appctl(switch, "version").stdout.startswith("oko-switchd ")
    listed = appctl(switch, "list-commands")
    assert listed.returncode == 0 and "ofproto/trace" in listed.stdout
    traced = appctl(switch, "ofproto/trace", "br0", "in_port=1,tcp,tp_dst=80")
    assert traced.returncode == 0 and "left through port 2" in traced.stdout
    wrong = appctl(switch, "fdb/show", "br9")
    assert wrong.returncode == 2 and "no such bridge: br9" in wrong.stderr
    assert appctl(switch, "vlog/set", "dbg").returncode == 0
    assert appctl(switch, "vlog/set", "info").returncode == 0


@needs_ovs
def test_exit(tmp_path):
    with Switchd(tmp_path, "--bridge", "br0") as own:
        assert appctl(own, "exit").returncode == 0
        assert own.process.wait(60) == 0
    assert not list(tmp_path.glob("*.ctl")) and not list(tmp_path.glob("*.pid"))
    assert Path(tmp_path).exists()
