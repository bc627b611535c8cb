"""Faucet from PyPI, in an environment of its own: a learning switch with ACLs between real hosts.

With the plugin an ACL says filter_prog: 1. A port scan is played into port 1; Faucet's ACL drops
what the filter port_scan matches, and the rest travels through its learning switch to port 2.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from controller_process import ROOT, Controller, environment, free_port
from environments import environment_with
from namespaces import Host, hosts
from switchd_process import Switchd
from test_apps import TRACES, sources_of, split
from waiting import wait_until

SWITCH = """
vlans:
  office:
    vid: 100
dps:
  sw1:
    dp_id: 0x51
    hardware: "Open vSwitch"
    interfaces:
      1:
        native_vlan: office
        acls_in: [guard]
      2:
        native_vlan: office
acls:
  guard:
"""
FILTERED = """
    - rule:
        filter_prog: FILTER
        actions:
          allow: False
    - rule:
        actions:
          allow: True
"""
PLAIN = """
    - rule:
        dl_type: 0x800
        nw_proto: 6
        tcp_dst: 8080
        actions:
          allow: 0
    - rule:
        actions:
          allow: 1
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with(tmp_path_factory.mktemp("faucet") / "environment", "faucet==1.10.12")


def variables(folder: Path, program: str = "1", acl: str = FILTERED) -> dict[str, str]:
    (folder / "faucet.yaml").write_text(SWITCH + acl.replace("FILTER", program))
    return {
        "FAUCET_CONFIG": str(folder / "faucet.yaml"),
        "FAUCET_LOG": str(folder / "faucet.log"),
        "FAUCET_EXCEPTION_LOG": str(folder / "exceptions.log"),
        "FAUCET_PROMETHEUS_PORT": str(free_port()),
        "FAUCET_PROMETHEUS_ADDR": "127.0.0.1",
        "OKO_FAUCET_PROGRAMS": f"1={ROOT / 'examples/bpf/port_scan.o'}",
    }


def wait_for_metric(port: str, line: str) -> None:
    def metrics() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
                return reply.read().decode()
        except OSError:
            return ""

    wait_until(lambda: line in metrics(), lambda: f"no {line}:\n{metrics()[-2000:]}", every=0.1)


def start(python: Path, how: str, folder: Path, env: dict[str, str]) -> Controller:
    """Faucet by its own command, or in oko-controller."""
    env = env | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    if how == "oko-controller":
        command = [str(python), "-m", "oko.controller.launcher"]
        apps = ["oko.controller.faucet", "faucet.faucet"]
        return Controller(*apps, hub="eventlet", command=command, env=env)
    port = free_port()
    command = [
        str(python.parent / "faucet"), "--use-stderr", "--ryu-app-lists", "oko.controller.faucet",
        f"--ryu-ofp-tcp-listen-port={port}",
    ]  # fmt: skip
    return Controller(hub="eventlet", port=port, command=command, env=env, plain=True)


def test_learning_switch_with_an_acl(python: Path, tmp_path: Path) -> None:
    """Without anything of oko's: two hosts ping each other, one port of TCP is closed to one."""
    env = variables(tmp_path, acl=PLAIN)
    del env["OKO_FAUCET_PROGRAMS"]
    env["PATH"] = f"{python.parent}:{os.environ['PATH']}"
    port = free_port()
    command = [str(python.parent / "faucet"), "--use-stderr", f"--ryu-ofp-tcp-listen-port={port}"]
    with (
        hosts("10.0.0.1/24", "10.0.0.2/24") as (one, two),
        Controller(hub="eventlet", port=port, command=command, env=env, plain=True) as controller,
        Switchd(
            tmp_path / "run", "--bridge", "br0", "--dpid", "0x51",
            f"--port=1=afpacket:{one.device}", f"--port=2=afpacket:{two.device}",
            "--controller", f"tcp:127.0.0.1:{port}",
        ) as switch,
    ):  # fmt: skip
        wait_for_metric(env["FAUCET_PROMETHEUS_PORT"], 'dp_status{dp_id="0x51",dp_name="sw1"} 1.0')
        wait_until(lambda: one.ping(two.address, n=1))
        assert one.ping(two.address, n=5) and two.ping(one.address, n=5)
        assert connects(two, one, 8080) and connects(one, two, 8081)
        assert not connects(one, two, 8080), "the ACL"
        assert switch.stop() == 0
        assert not [line for line in switch.log() if " error " in line or "FLOW_MOD" in line]
        controller.stop()


def connects(client: Host, server: Host, port: int) -> bool:
    """Does a TCP connection come about?"""
    listen = (
        f"import socket; s = socket.create_server(('', {port})); print('x', flush=True); s.accept()"
    )
    call = f"import socket; socket.create_connection(('{server.address}', {port}), 1.5)"
    there = server.popen(sys.executable, "-c", listen, stdout=subprocess.PIPE)
    try:
        assert there.stdout is not None and there.stdout.readline()
        return client.run(sys.executable, "-c", call, check=False).returncode == 0
    finally:
        there.kill()
        there.communicate()


@pytest.mark.long
@pytest.mark.parametrize("how", ("faucet", "oko-controller"))
def test_acl_with_a_filter(python: Path, how: str, tmp_path: Path) -> None:
    env = variables(tmp_path)
    a, b = split(TRACES / "scan.pcap", tmp_path)
    out = tmp_path / "out.pcap"
    with start(python, how, tmp_path, env) as controller:
        with Switchd(
            tmp_path / "run", "--bridge", "br0", "--dpid", "0x51",
            "--port", f"1=pcap:{a},loop", "--port", f"2=pcap:{b},write={out},loop",
            "--controller", f"tcp:127.0.0.1:{controller.port}",
        ) as switch:  # fmt: skip
            controller.wait_for("program 1 is")
            wait_for_metric(
                env["FAUCET_PROMETHEUS_PORT"], 'dp_status{dp_id="0x51",dp_name="sw1"} 1.0'
            )
            time.sleep(4)
            since = time.time()
            time.sleep(3)
            assert switch.stop() == 0
            refused = [line for line in switch.log() if "FLOW_MOD" in line]
        exceptions = tmp_path / "exceptions.log"  # at its end Faucet logs that its threads end
        assert not exceptions.exists() or exceptions.read_text() == ""
        # osken-manager leaves SIGTERM alone.
        assert controller.stop() == (0 if how == "oko-controller" else -signal.SIGTERM)
    assert refused == []
    assert "10.0.0.11" in sources_of(out), "the scan passed until it was one"
    assert set(sources_of(out, since)) == {"10.0.0.1"}


@pytest.mark.long
@pytest.mark.parametrize("wrong", ("0", "70000", "first"))
def test_faucet_refuses_a_wrong_number(python: Path, wrong: str, tmp_path: Path) -> None:
    env = variables(tmp_path, wrong)
    with start(python, "oko-controller", tmp_path, env) as controller:
        log, said = tmp_path / "faucet.log", f"filter_prog: {wrong} is not a number from 1 to 65535"
        wait_until(lambda: log.exists() and said in log.read_text(), log.read_text, every=0.1)
        controller.stop()


@pytest.mark.long
def test_says_what_is_wrong_with_the_programs(python: Path, tmp_path: Path) -> None:
    command = [
        str(python), "-m", "oko.controller.launcher", "oko.controller.faucet",
        f"--ofp-listen-port={free_port()}",
    ]  # fmt: skip
    for value, words in (
        ("port_scan.o", "is not NUMBER=PATH"),
        ("1=no/such.o", "no/such.o: No such"),
    ):
        env = environment("eventlet") | variables(tmp_path) | {"OKO_FAUCET_PROGRAMS": value}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
