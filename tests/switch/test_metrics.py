"""Prometheus metrics: the page against the counters, the server against clients."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request

import pytest
from switchd_process import ROOT, Switchd
from test_bridge import FRAME

from oko.datapath import Frame
from oko.switch import metrics
from oko.switch.bridge import Bridge
from oko.text import parse_rules

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (-?[0-9.e+-]+)$')


def read(text: str) -> dict[tuple[str, str], float]:
    """Samples by (name, labels); every line must be of the format, and typed."""
    found, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            assert match and match[1] in typed, line
            assert (match[1], match[2]) not in found
            found[match[1], match[2]] = float(match[3])
    return found


def test_the_page_has_the_counters():
    bridge = Bridge("br0")
    bridge.add_port(1, 'one"\\')
    bridge.add_port(2, "two")
    elf = ROOT / "examples" / "bpf" / "syn_flood.o"
    bridge.datapath.load_program(4, elf)
    rules = (
        "priority=9,cookie=0x7,ip,actions=output:2\ntable=1,cookie=0x7,filter_prog=4,actions=2\n"
    )
    bridge.apply(list(parse_rules(rules, "flows")))
    bridge.datapath.process([Frame(FRAME, 1)] * 5 + [Frame(bytes(60), 1)])
    page = read(metrics.render([bridge]))
    assert page["oko_port_rx_packets_total", r'bridge="br0",port="1",name="one\"\\"'] == 6
    assert page["oko_port_tx_packets_total", 'bridge="br0",port="2",name="two"'] == 5
    assert page["oko_port_tx_bytes_total", 'bridge="br0",port="2",name="two"'] == 5 * len(FRAME)
    assert page["oko_drops_total", 'bridge="br0",reason="table-miss"'] == 1
    assert page["oko_flow_packets_total", 'bridge="br0",cookie="0x7"'] == 5
    assert page["oko_table_flows", 'bridge="br0",table="1"'] == 1
    assert page["oko_program_runs_total", 'bridge="br0",program="4",name="syn_flood"'] == 0
    bridge.close()


def test_many_cookies_are_not_many_series(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_COOKIES", 3)
    bridge = Bridge("br0")
    rules = "\n".join(f"cookie={i},reg0={i},actions=drop" for i in range(1, 11))
    bridge.apply(list(parse_rules(rules, "flows")))
    page = read(metrics.render([bridge]))
    assert page["oko_cookies", 'bridge="br0"'] == 10
    assert sum(name == "oko_flow_packets_total" for name, _ in page) == 3
    bridge.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path = tmp_path_factory.mktemp("metrics")
    with Switchd(path, "--bridge", "br0", "--port", "1=null", "--metrics", "0") as switch:
        line = switch.wait_for("metrics at http://")
        yield line.split(" at ")[1]


def test_over_http(served):
    assert served.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(served, timeout=60) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert ("oko_packets_total", 'bridge="br0"') in read(reply.read().decode())
    for url, data, code in ((served + "x", None, 404), (served, b"x", 405)):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(url, data, timeout=60)
        assert error.value.code == code
        error.value.close()


@pytest.mark.parametrize("garbage", [b"\r\n\r\n", b"x" * 100_000, b"GET\r\n\r\n", b""])
def test_garbage_over_http(served, garbage):
    host, port = served.split("/")[2].split(":")
    try:
        with socket.create_connection((host, int(port)), 10) as peer:
            peer.sendall(garbage)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass
    except ConnectionError:
        pass
    test_over_http(served)
