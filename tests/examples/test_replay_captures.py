"""oko-replay with each example filter on each capture, confirmed packet by packet.

The filter's packets leave through port 2, all others through port 3; both are written and must be,
in order, with their times and bytes, what the filter's model says. The maps must end up as the
model's. Captures and results are read by dpkt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filter_cases import FILTERS, NAMES, OWN_TRACES, read_capture
from filter_models import MODELS
from replay_command import assert_maps, replay

QUICK = (
    "http-qinq-0.pcap",
    "ip-bogus-header-len.pcap",
    "ipv6-fragmented-dns.pcap",
    "ipv6-hbh-routing0.pcap",
    "lan-mixed.pcap",
    "linuxsll-arp.pcap",
    "mixed-vlan-mpls.pcap",
    "mix.pcap.gz",
)
LONG = ("irc-dcc-send.pcapng", "echo-connections.pcap.gz")


def confirm(
    name: str, capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> None:
    matched, rest = tmp_path / "matched.pcap", tmp_path / "rest.pcap"
    arguments = [
        *("--load-filter-prog", f"1={FILTERS / name}.o"),
        *("-f", "priority=10,filter_prog=1,actions=output:2"),
        *("-f", "priority=1,actions=output:3"),
        *("--write", f"2={matched}", "--write", f"3={rest}"),
        *("--dump-maps", *options, str(capture)),
    ]
    result = replay(arguments, capsys)
    model = MODELS[name]()
    expected: dict[bool, list[Any]] = {True: [], False: []}
    for frame in read_capture(capture):
        expected[model.packet(frame.data, frame.now, 1)].append(frame)
    for path, verdict in ((matched, True), (rest, False)):
        for number, (got, want) in enumerate(
            zip(read_capture(path), expected[verdict], strict=True), start=1
        ):
            assert got == want, f"packet {number} of {path.name}"
    assert [flow["n_packets"] for flow in result["flows"]] == [
        len(expected[True]),
        len(expected[False]),
    ]
    assert_maps(result, model)


def test_no_capture_is_forgotten(traces: Path) -> None:
    captures = {path.name for path in traces.iterdir() if path.suffix != ".md"}
    assert captures <= {*QUICK, *LONG}


@pytest.mark.parametrize("trace", QUICK)
@pytest.mark.parametrize("name", NAMES)
def test_real_capture(
    name: str, trace: str, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    confirm(name, traces / trace, tmp_path, capsys)


@pytest.mark.parametrize("trace", ["dns.pcap", "qinq.pcap", "syn-flood.pcap", "ip-options.pcap"])
@pytest.mark.parametrize("name", NAMES)
def test_own_capture_one_by_one_without_cache(
    name: str, trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    confirm(name, OWN_TRACES / trace, tmp_path, capsys, "--burst", "1", "--no-cache")
    confirm(name, OWN_TRACES / trace, tmp_path, capsys, "--interpret")


@pytest.mark.long
@pytest.mark.parametrize("trace", LONG)
@pytest.mark.parametrize("name", NAMES)
def test_long_capture(
    name: str, trace: str, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    confirm(name, traces / trace, tmp_path, capsys)
