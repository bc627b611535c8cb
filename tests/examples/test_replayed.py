"""oko-replay on real captures with each example filter: what leaves where, maps and counters are
what the filter's model says, packet by packet."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from filter_cases import FILTERS, NAMES, OWN_TRACES, read_capture
from filter_models import MODELS
from test_filters import BLOOM, CONFIGS, COUNT_MIN, OWN, SHARED

import oko
from oko.bpf.typed import MapUpdate

MATCHED, OTHERS = 2, 3


def frames_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """(ns, frame) of a pcap that oko wrote."""
    data = path.read_bytes()
    unit = 1000 if data[:4] == b"\xd4\xc3\xb2\xa1" else 1
    at = 24
    while at < len(data):
        seconds, fraction, size, _ = struct.unpack_from("<IIII", data, at)
        yield seconds * 10**9 + fraction * unit, data[at + 16 : at + 16 + size]
        at += 16 + size


def check(name: str, capture: Path, tmp_path: Path) -> None:
    config = CONFIGS.get(name, {})
    outputs = {port: tmp_path / f"{port}.pcap" for port in (MATCHED, OTHERS)}
    result = oko.replay(
        capture,
        programs={1: FILTERS / f"{name}.o"},
        map_updates=[MapUpdate("1", m, tuple(entries.items())) for m, entries in config.items()],
        flows=["priority=9,filter_prog=1,actions=output:2", "priority=1,actions=output:3"],
        in_ports=1,
        write=outputs,
    )

    model = MODELS[name](config)
    want: dict[int, list[tuple[int, bytes]]] = {MATCHED: [], OTHERS: []}
    for data, now in read_capture(capture):
        matched = model.packet(data, now, 1)
        want[MATCHED if matched else OTHERS].append((now, data))
    for port, path in outputs.items():
        assert list(frames_of(path)) == want[port]
        assert result.ports[port].tx_packets == len(want[port])

    program = result.programs[1]
    assert program.runs == result.packets == len(want[MATCHED]) + len(want[OTHERS])
    assert program.matches == len(want[MATCHED]) == result.flows[0].n_packets
    expected = model.maps()
    for found in result.maps:
        if found.spec.type not in (BLOOM, COUNT_MIN) and found.entries is not None:
            dense = found.spec.type in (1, 7)
            entries = {k: v for k, v in found.entries if any(v) or not dense}
            assert entries == {
                k: v for k, v in expected.get(found.name, {}).items() if any(v) or not dense
            }


@pytest.mark.parametrize("trace", SHARED)
@pytest.mark.parametrize("name", NAMES)
def test_real_captures(name: str, trace: str, traces: Path, tmp_path: Path) -> None:
    check(name, traces / trace, tmp_path)


@pytest.mark.parametrize("trace", OWN)
@pytest.mark.parametrize("name", NAMES)
def test_own_captures(name: str, trace: str, tmp_path: Path) -> None:
    check(name, OWN_TRACES / trace, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_large_capture(name: str, traces: Path, tmp_path: Path) -> None:
    check(name, traces / "echo-connections.pcap.gz", tmp_path)
