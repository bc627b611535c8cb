"""Random rules, programs and packets: the core does what the naive twin does.

However it is set up: burst of 1 or 32, cache or none, interpreter, JIT or batch JIT. A failing
script is shrunk and shown in words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle_frames import frames
from twin.compare import (
    CONFIGURATIONS,
    Packets,
    Step,
    Tick,
    check,
    run_core,
    script_of,
    shrink,
)
from twin.generate import PORTS, Arrival

from oko.bpf.elf import read_object
from oko.bpf.spec import ProgramSpec

QUICK = 250


def check_and_shrink(script: list[Step]) -> None:
    """check(), with a short script in the message."""
    try:
        check(script)
    except AssertionError:

        def fails(steps: list[Step]) -> bool:
            try:
                check(steps)
            except AssertionError:
                return True
            except Exception:  # no script that makes sense any more
                return False
            return False

        check(shrink(script, fails))
        raise


@pytest.mark.parametrize("part", range(4))
def test_core_equals_twin(part: int) -> None:
    """Everything together: programs, groups, meters, learning, timeouts, changes in between."""
    for seed in range(part, QUICK, 4):
        check_and_shrink(script_of(Random(seed)))


@pytest.mark.parametrize("part", range(2))
def test_without_programs(part: int) -> None:
    """More of header matches and actions."""
    for seed in range(10_000 + part, 10_000 + QUICK, 2):
        check_and_shrink(script_of(Random(seed), programs=()))


CONJUNCTIONS: dict[str, Any] = {"conjunctions": True, "n_flows": 40, "tables": 2}


@pytest.mark.parametrize("part", range(2))
def test_conjunctions(part: int) -> None:
    """Soft flows and flows that match conj_id, with filters above, among and below them."""
    for seed in range(20_000 + part, 20_000 + QUICK, 2):
        check_and_shrink(script_of(Random(seed), **CONJUNCTIONS))


def test_streams_of_conjunctions() -> None:
    """The same through the cache, with changes in between."""
    options = STREAMS | CONJUNCTIONS | {"n_flows": 80, "narrow": True}
    for seed in range(12):
        check_and_shrink(script_of(Random(seed), **options))


def test_conjunctions_are_complete() -> None:
    """Else the two above would say nothing: flows that match a conj_id get packets."""
    hit = 0
    for seed in range(20_000, 20_060):
        flows = run_core(script_of(Random(seed), **CONJUNCTIONS)).flows
        hit += sum(bool(match.exact("conj_id") and packets)
                   for (_, _, match, _), (packets, _) in flows.items())  # fmt: skip
    assert hit > 10


def test_workers_by_turns() -> None:
    """Packets handed to three workers by turns: one table, one clock, the same results."""
    turns = {"one by one": {"n_workers": 3, "pieces": 1}, "five": {"n_workers": 2, "pieces": 5}}
    for seed in range(40):
        check(in_order(script_of(Random(seed))), turns)


def in_order(script: list[Step]) -> list[Step]:
    """With times that never run back (each worker has its own newest time) and a tick for all at
    the end."""
    last, result = 0, []
    for step in script:
        if isinstance(step, Packets):
            arrivals = []
            for arrival in step.arrivals:
                last = max(last, arrival.ns)
                arrivals.append(replace(arrival, ns=last))
            step = Packets(tuple(arrivals))
        result.append(step)
    return [*result, Tick(last)]


STREAMS: dict[str, Any] = {
    "n_flows": 60, "n_packets": 900, "rounds": 6, "n_frames": 8, "narrow": True, "tables": 2,
}  # fmt: skip


@pytest.mark.parametrize("part", range(2))
def test_streams(part: int) -> None:
    """Few different packets, many times over, and changes: what the cache lives on."""
    for seed in range(part, 16, 2):
        check_and_shrink(script_of(Random(seed), **STREAMS))


def test_streams_do_use_the_cache() -> None:
    """Else the tests above would say nothing about it."""
    stats: Counter[str] = Counter()
    for seed in range(4):
        stats.update(run_core(script_of(Random(seed), **STREAMS)).stats)
    for name in ("cache_hits", "cache_restamped", "cache_misses", "relookups"):
        assert stats[name] > 100, (name, stats)


def from_capture(path: Path, rng: Random, most: int) -> list[Arrival]:
    """Frames of a capture with their times, at ports by their source address."""
    found = [(ns, data) for ns, data in frames(path) if len(data) < 4000]
    at = rng.randrange(max(1, len(found) - most))
    return [
        Arrival(data, PORTS[sum(data[6:12]) % len(PORTS)], int(seconds * 10**6) * 1000, len(data))
        for seconds, data in found[at : at + most]
    ]


def filters_of_examples() -> list[ProgramSpec]:
    return [read_object(p.read_bytes(), p.stem) for p in sorted(ROOT.glob("examples/bpf/*.o"))]


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/traces/*.pcap")), ids=lambda p: p.stem)
def test_real_packets_and_real_filters(path: Path) -> None:
    """Captures of real programs, the example filters, and flows aimed at these packets."""
    rng = Random(path.stem)
    packets = from_capture(path, rng, 150)
    check_and_shrink(script_of(rng, 25, packets=packets, filters=filters_of_examples()))


@pytest.mark.long
def test_real_packets_and_real_filters_long(traces: Path) -> None:
    filters = filters_of_examples()
    names = [
        "mix.pcap.gz", "echo-connections.pcap.gz", "lan-mixed.pcap", "irc-dcc-send.pcapng",
        "mixed-vlan-mpls.pcap", "http-qinq-0.pcap", "ipv6-fragmented-dns.pcap",
        "ipv6-hbh-routing0.pcap", "ip-bogus-header-len.pcap",
    ]  # fmt: skip
    for name in names:
        for seed in range(60 if name == "mix.pcap.gz" else 10):
            rng = Random(f"{name} {seed}")
            packets = from_capture(traces / name, rng, 400)
            check_and_shrink(script_of(rng, 40, packets=packets, filters=filters))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_core_equals_twin_shrinking(rng: Random) -> None:
    check(script_of(rng, n_flows=5, n_packets=9))


def test_secret_does_not_show() -> None:
    """The hash secret changes where things lie, never what comes out."""
    secrets = {f"secret {s}": {"secret": s} for s in (1, 2**63, 12345)}
    for seed in range(20):
        check(script_of(Random(seed)), secrets)


def test_calls_of_any_size() -> None:
    """How many packets one call hands over is nobody's business."""
    sizes = {f"{n} at a time": {"pieces": n} for n in (1, 3, 31, 33)}
    for seed in range(20):
        check(script_of(Random(seed)), sizes)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_core_equals_twin_long(part: int) -> None:
    for seed in range(100_000 + part, 104_000, 20):
        n_flows = (5, 20, 60)[seed % 3]
        check_and_shrink(script_of(Random(seed), n_flows=n_flows, n_packets=90, rounds=5))


@pytest.mark.long
@pytest.mark.parametrize("part", range(8))
def test_streams_long(part: int) -> None:
    for seed in range(1000 + part, 1800, 8):
        tables = {"tables": 1, "learn": False, "timeouts": False} if seed % 2 else {}
        check_and_shrink(script_of(Random(seed), **(STREAMS | tables)))


@pytest.mark.long
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_core_equals_twin_shrinking_long(rng: Random) -> None:
    check(script_of(rng), {k: CONFIGURATIONS[k] for k in list(CONFIGURATIONS)[:2]})
