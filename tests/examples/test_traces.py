"""The project's own captures contain what their README says, and can be recorded anew."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dpkt
import pytest
from filter_cases import OWN_TRACES, ROOT, read_capture

TABLE = dict(
    re.findall(r"^\| `(\S+\.pcap)` \| (\d+) \|", (OWN_TRACES / "README.md").read_text(), re.M)
)
SCRIPT = ROOT / "tools" / "record-traces.py"


def test_readme_lists_every_capture_with_its_packets() -> None:
    found = {path.name: str(len(list(read_capture(path)))) for path in OWN_TRACES.glob("*.pcap")}
    assert found == TABLE and len(found) == 12


def test_together_they_stay_small() -> None:
    assert sum(path.stat().st_size for path in OWN_TRACES.iterdir()) < 500_000


def ipv4(data: bytes) -> dpkt.ip.IP | None:
    packet = dpkt.ethernet.Ethernet(data).data
    return packet if isinstance(packet, dpkt.ip.IP) else None


def tcp_flags(data: bytes) -> int:
    packet = ipv4(data)
    return packet.data.flags if packet and isinstance(packet.data, dpkt.tcp.TCP) else 0


def is_fragment(data: bytes) -> bool:
    packet = ipv4(data)
    return packet is not None and bool(packet.offset or packet.mf)


def is_ipv6_fragment(data: bytes) -> bool:
    return data[12:14] == b"\x86\xdd" and data[20] == 44


def is_small_segment(data: bytes) -> bool:
    packet = ipv4(data)
    return packet is not None and packet.p == 6 and len(packet.data.data) == 1


def is_tagged(*types: bytes) -> Callable[[bytes], bool]:
    def check(data: bytes) -> bool:
        return all(data[12 + 4 * i : 14 + 4 * i] == wanted for i, wanted in enumerate(types))

    return check


def has_options(data: bytes) -> bool:
    packet = ipv4(data)
    return packet is not None and packet.hl > 5


# What is in a capture: how many frames of it at least, and a test for them.
CONTENTS: list[tuple[str, int, Callable[[bytes], bool]]] = [
    ("http.pcap", 4, lambda data: b"GET /" in data),
    ("http.pcap", 3, lambda data: b"HTTP/1.0 200 OK" in data),
    ("dns.pcap", 20, lambda data: data[12:14] == b"\x86\xdd" and b"\x07example\x04test" in data),
    ("ping.pcap", 9, is_fragment),
    ("ping.pcap", 6, is_ipv6_fragment),
    ("ping.pcap", 6, has_options),
    ("interactive.pcap", 30, is_small_segment),
    ("ipv6.pcap", 20, lambda data: data[12:14] == b"\x86\xdd" and data[20] == 6),
    ("scan.pcap", 150, lambda data: tcp_flags(data) == 2),
    ("scan.pcap", 140, lambda data: tcp_flags(data) & 4 == 4),
    ("vlan.pcap", 100, is_tagged(b"\x81\x00")),
    ("qinq.pcap", 100, is_tagged(b"\x88\xa8", b"\x81\x00")),
    ("syn-flood.pcap", 250, lambda data: data[26:29] == bytes([198, 51, 100])),
    ("ip-options.pcap", 20, has_options),
]


@pytest.mark.parametrize(("trace", "at_least", "wanted"), CONTENTS)
def test_capture_contains(trace: str, at_least: int, wanted: Callable[[bytes], bool]) -> None:
    frames = [frame.data for frame in read_capture(OWN_TRACES / trace)]
    assert sum(1 for data in frames if wanted(data)) >= at_least


def test_lossy_repeats_segments() -> None:
    seen, repeated = set(), 0
    for frame in read_capture(OWN_TRACES / "lossy.pcap"):
        packet = ipv4(frame.data)
        if packet and packet.p == 6 and len(packet.data.data) > 500:
            key = socket.inet_ntoa(packet.src), packet.data.sport, packet.data.dport
            repeated += (key, packet.data.seq) in seen
            seen.add((key, packet.data.seq))
    assert repeated >= 2


def test_all_tagged_frames_only() -> None:
    for trace, tags in (("vlan.pcap", 1), ("qinq.pcap", 2)):
        check = is_tagged(*[b"\x81\x00"] if tags == 1 else [b"\x88\xa8", b"\x81\x00"])
        assert all(check(frame.data) for frame in read_capture(OWN_TRACES / trace))


@pytest.mark.long
def test_recording_anew(tmp_path: Path) -> None:
    """Two recordings, plain and tagged; afterwards no namespace is left."""
    missing = [t for t in ("ip", "tcpdump", "curl", "nmap", "dnsmasq") if not shutil.which(t)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"recording needs root and {', '.join(missing) or 'its tools'}")
    command = [sys.executable, SCRIPT, "--out", tmp_path, "scan", "qinq"]
    subprocess.run(command, check=True, timeout=120)
    for name in ("scan.pcap", "qinq.pcap"):
        for trace, at_least, wanted in CONTENTS:
            if trace == name:
                frames = [frame.data for frame in read_capture(tmp_path / name)]
                # on a busy machine nmap gives up on some ports
                assert sum(1 for data in frames if wanted(data)) >= at_least * 3 // 4
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert "oko-rec" not in listed.stdout


def test_recorder_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no recording nonsense" in done.stderr and "scan" in done.stderr
