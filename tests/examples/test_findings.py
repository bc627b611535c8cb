"""What each example filter finds in the captures made for it: the scanner, the flood, the loss.

The cast is that of examples/traces/README.md; counts are taken from the captures with dpkt, so that
they survive a new recording.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import dpkt
import pytest
from filter_cases import FILTERS, OWN_TRACES, Frame, read_capture

from oko.filters import FilterProgram, Meta

A, A_SECOND, B = "10.0.0.1", "10.0.0.11", "10.0.0.2"


class Run:
    """A capture's way through a filter. updates: {map: {key: value}}, typed."""

    def __init__(
        self, name: str, trace: str, updates: dict[str, dict[Any, Any]] | None = None
    ) -> None:
        self.matched: list[Frame] = []
        self.passed: list[Frame] = []
        with FilterProgram.load(FILTERS / f"{name}.o") as program:
            for map_name, entries in (updates or {}).items():
                for key, value in entries.items():
                    program.maps[map_name][key] = value
            for frame in read_capture(OWN_TRACES / trace):
                meta = Meta(rx_ns=frame.now, in_port=1)
                hit = program.matches(frame.data, meta)
                (self.matched if hit else self.passed).append(frame)
            self.maps = {name: dict(m.items()) for name, m in program.maps.items()}
            self.typed = {name: list(m.items_typed()) for name, m in program.maps.items()}


def address(text: str) -> bytes:
    return socket.inet_aton(text)


def ip(frame: Frame) -> dpkt.ip.IP | None:
    """The IPv4 packet in a frame, tags or not, by dpkt."""
    packet = dpkt.ethernet.Ethernet(frame.data).data
    return packet if isinstance(packet, dpkt.ip.IP) else None


def sources(frames: list[Frame]) -> Counter[str]:
    found = [packet for packet in map(ip, frames) if packet]
    return Counter(socket.inet_ntoa(packet.src) for packet in found)


def count(trace: str, wanted: Callable[[dpkt.ip.IP], bool]) -> int:
    """IPv4 packets of a capture that are wanted."""
    packets = map(ip, read_capture(OWN_TRACES / trace))
    return sum(1 for packet in packets if packet and wanted(packet))


def is_syn(packet: dpkt.ip.IP) -> bool:
    return isinstance(packet.data, dpkt.tcp.TCP) and packet.data.flags & 0x12 == 0x02


def test_stateless_firewall_blocks_the_listed_host() -> None:
    run = Run("stateless_firewall", "scan.pcap", {"blocked": {f"ip:{A_SECOND}": 1}})
    scanned = count("scan.pcap", lambda p: p.src == address(A_SECOND))
    assert sources(run.matched) == {A_SECOND: scanned} and scanned > 150


def test_stateful_firewall_passes_connections_and_nothing_else() -> None:
    run = Run("stateful_firewall", "http.pcap")
    assert len(run.matched) == count("http.pcap", lambda p: p.p == 6) > 50
    assert {state["state"] for _, state in run.typed["connections"]} == {4}  # all closed
    nobody = Run("stateful_firewall", "http.pcap", {"inside_port": {0: 2}})
    assert not nobody.matched and not nobody.maps["connections"]


def test_rate_limiter_lets_a_burst_of_twenty_through() -> None:
    run = Run("rate_limiter", "udp-burst.pcap")
    steady = count("udp-burst.pcap", lambda p: p.src == address(A_SECOND))
    assert sources(run.matched)[A_SECOND] == steady == 30
    assert 60 <= sources(run.matched)[A] <= 66  # of 180: 20 of each burst, and what time brings
    assert sources(run.passed)[A] == 180 - sources(run.matched)[A]


def test_p0f_tells_linux_from_a_scanner() -> None:
    run = Run("p0f", "scan.pcap")
    systems = {key: host[0] for key, host in run.maps["hosts"].items()}
    assert systems == {address(A): 1, address(A_SECOND): 4}
    assert len(run.matched) == count("scan.pcap", is_syn)
    scanner = Run("p0f", "scan.pcap", {"wanted": {0: 4}})
    assert set(sources(scanner.matched)) == {A_SECOND}


def test_dapper_sees_loss_where_there_is_loss() -> None:
    lossy, clean = Run("dapper", "lossy.pcap"), Run("dapper", "http.pcap")
    assert not lossy.matched
    for run, lost in ((lossy, True), (clean, False)):
        downloads = [flow for key, flow in run.typed["flows"] if flow["bytes"] > 60000]
        assert len(downloads) == 1
        (flow,) = downloads
        assert (flow["retransmits"] > 0) == lost and (flow["dup_acks"] > 0) == lost
        assert 60000 < flow["bytes"] < 61000 and flow["mss"] == 1448
        assert 0 < flow["min_rtt_ns"] <= flow["srtt_ns"] < 1_000_000_000


def test_heavy_hitter_names_the_burster() -> None:
    run = Run("heavy_hitter", "udp-burst.pcap")
    sent = count("udp-burst.pcap", lambda p: p.src == address(A))
    hitter = bytes(10) + b"\xff\xff" + address(A)
    assert run.maps["hitters"] == {hitter: (sent - 100).to_bytes(8, "little")}
    assert sources(run.matched) == {A: sent - 100}


@pytest.mark.parametrize(
    ("trace", "scanner", "ports"),
    [("scan.pcap", A_SECOND, 150), ("vlan.pcap", A, 30), ("qinq.pcap", A, 30)],
)
def test_port_scan_names_the_scanner(trace: str, scanner: str, ports: int) -> None:
    run = Run("port_scan", trace)
    assert set(sources(run.matched)) == {scanner}
    tried = int.from_bytes(run.maps["scanners"][address(scanner)], "little")
    assert ports <= tried <= ports + 1
    others = {key: n for key, n in run.maps["scanners"].items() if key != address(scanner)}
    assert all(int.from_bytes(n, "little") <= 1 for n in others.values())


def test_dns_guard_sorts_queries() -> None:
    run = Run("dns_guard", "dns.pcap", {"blocked": {"str:ads.test": 1}})
    classes = {
        int.from_bytes(key, "little"): int.from_bytes(value, "little")
        for key, value in run.maps["classes"].items()
    }
    assert {c: classes[c] for c in (1, 2, 3, 4)} == {1: 16, 2: 10, 3: 6, 4: 2}
    assert len(run.matched) == 34
    assert classes[0] > 20


def test_syn_flood_spares_the_server() -> None:
    run = Run("syn_flood", "syn-flood.pcap")
    spoofed = count("syn-flood.pcap", lambda p: p.src[:3] == bytes([198, 51, 100]))
    refused = sources(run.matched)
    assert spoofed == 250
    # 64 got through. The client that came during the flood was refused once, the others were not.
    assert sum(n for src, n in refused.items() if src != A) == 250 - 64
    assert refused[A] <= 1
    assert run.maps["refused"][bytes(4)] == len(run.matched).to_bytes(8, "little")


def test_payload_match_finds_curl() -> None:
    run = Run("payload_match", "http.pcap")
    expected = [f for f in read_capture(OWN_TRACES / "http.pcap") if b"User-Agent: curl" in f.data]
    assert run.matched == expected and len(expected) == 4
