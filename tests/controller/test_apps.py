"""examples/apps, each run for real: oko-controller, oko-switchd, and packets between two ports.

Port 1 plays what host A sent in a capture, port 2 what host B sent, again and again; what the
switch sends to B is written to a file.
"""

from __future__ import annotations

import os
import pty
import socket
import time
from pathlib import Path

import dpkt
import pytest
from controller_process import ROOT, Controller
from switchd_process import Switchd

APPS = ROOT / "examples" / "apps"
TRACES = ROOT / "examples" / "traces"
MAC_A = bytes.fromhex("02000000000a")


def split(capture: Path, folder: Path) -> tuple[Path, Path]:
    """What A sent, and what B sent."""
    paths = folder / "a.pcap", folder / "b.pcap"
    with paths[0].open("wb") as a, paths[1].open("wb") as b:
        writers = dpkt.pcap.Writer(b), dpkt.pcap.Writer(a)
        with capture.open("rb") as source:
            for at, frame in dpkt.pcap.Reader(source):
                writers[frame[6:12] == MAC_A].writepkt(frame, at)
    return paths


def switch_with(capture: str, controller: Controller, folder: Path, loop: str = ",loop") -> Switchd:
    a, b = split(TRACES / capture, folder)
    return Switchd(
        folder / "run", "--bridge", "br0",
        "--port", f"1=pcap:{a}{loop}", "--port", f"2=pcap:{b},write={folder / 'out.pcap'}{loop}",
        "--controller", f"tcp:127.0.0.1:{controller.port}",
    )  # fmt: skip


def sources_of(path: Path, after: float = 0.0) -> dict[str, int]:
    """IPv4 sources of the packets in a capture that began TCP connections, with their numbers."""
    found: dict[str, int] = {}
    with path.open("rb") as file:
        for at, frame in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(frame).data
            if (
                at < after
                or not isinstance(ip, dpkt.ip.IP)
                or not isinstance(ip.data, dpkt.tcp.TCP)
            ):
                continue
            if ip.data.flags & (dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK) == dpkt.tcp.TH_SYN:
                source = socket.inet_ntoa(ip.src)
                found[source] = found.get(source, 0) + 1
    return found


def test_ddos_guard(tmp_path: Path) -> None:
    options = ["--", "--guard-limit", "30", "--guard-sources", "10", "--guard-seconds", "60"]
    with Controller(APPS / "ddos_guard.py", arguments=options) as controller:
        with switch_with("syn-flood.pcap", controller, tmp_path) as switch:
            controller.wait_for("guarded by program 1")
            controller.wait_for("SYNs dropped so far")
            blocked = controller.wait_for("blocked 198.51.100.0/24")
            assert int(blocked.split(": ")[-1].split()[0]) > 10
            time.sleep(1)
            since = time.time()
            time.sleep(3)  # more than once through the capture
            assert switch.stop() == 0
        assert controller.stop() == 0
    before, later = sources_of(tmp_path / "out.pcap"), sources_of(tmp_path / "out.pcap", since)
    assert any(source.startswith("198.51.100.") for source in before), (
        "the flood reached B at first"
    )
    assert set(later) == {"10.0.0.1"}, "later only the ordinary client's SYNs did"
    assert "Traceback" not in "\n".join(controller.log())


def test_heavy_hitters(tmp_path: Path) -> None:
    options = ["--", "--hitters-threshold", "40", "--hitters-interval", "0.2"]
    with Controller(APPS / "heavy_hitters.py", arguments=options) as controller:
        with switch_with("udp-burst.pcap", controller, tmp_path):
            controller.wait_for("10.0.0.1 ")
            controller.wait_for("10.0.0.11 ")  # it sends less, and takes longer
        assert controller.stop() == 0
    lines = [line for line in controller.log() if line.startswith("10.0.0.1 ")]
    counts = [int(line.split()[1]) for line in lines]
    assert counts == sorted(counts) and counts[-1] > counts[0]
    assert any(not line.endswith(" 0/s") for line in lines)
    assert "Traceback" not in "\n".join(controller.log())


def test_heavy_hitters_on_a_terminal(tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    options = ["--", "--hitters-threshold", "40", "--hitters-interval", "0.2"]
    app, variables = APPS / "heavy_hitters.py", {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with Controller(app, arguments=options, stdout=terminal, env=variables) as controller:
        os.close(terminal)
        with switch_with("udp-burst.pcap", controller, tmp_path):
            shown, end = "", time.monotonic() + 15
            while shown.count("10.0.0.1 ") < 3 and time.monotonic() < end:
                shown += os.read(master, 65536).decode()
        assert controller.stop() == 0
    os.close(master)
    assert shown.count("10.0.0.1 ") >= 3 and "Heavy hitters of switch" in shown
    assert "\x1b[" in shown, "the table is drawn over the last one"
    assert "Traceback" not in "\n".join(controller.log())


def test_intrusion_filter(tmp_path: Path) -> None:
    options = ["--", "--scan-threshold", "10", "--host-seconds", "2"]
    with Controller(APPS / "intrusion_filter.py", arguments=options) as controller:
        with switch_with("scan.pcap", controller, tmp_path) as switch:
            controller.wait_for("02:00:00:00:00:0a at port 1 is watched")
            controller.wait_for("02:00:00:00:00:0b at port 2 is watched")
            alarm = controller.wait_for("10.0.0.11 (02:00:00:00:00:0a) scans")
            assert int(alarm.split(": ")[-1].split()[0]) > 10
            time.sleep(1)
            since = time.time()
            time.sleep(3)
            assert switch.stop() == 0
        assert controller.stop() == 0
    assert set(sources_of(tmp_path / "out.pcap", since)) == {"10.0.0.1"}
    assert "Traceback" not in "\n".join(controller.log())


@pytest.mark.long
def test_intrusion_filter_forgets(tmp_path: Path) -> None:
    """A host that went silent takes its flows and its program with it."""
    with Controller(
        APPS / "intrusion_filter.py", arguments=["--", "--host-seconds", "1"]
    ) as controller:
        with switch_with("ping.pcap", controller, tmp_path, loop=",speed=0.5"):
            controller.wait_for("02:00:00:00:00:0a at port 1 is watched")
            controller.wait_for("02:00:00:00:00:0a at port 1 is forgotten")
        assert controller.stop() == 0
    assert "Traceback" not in "\n".join(controller.log())
