"""Each example filter against its model, packet by packet and map by map: over captures, over
frames made by hand, over every prefix of these, and over damaged frames.

The models (filter_models.py) are written from the filters' descriptions. What a filter must *find*
in a capture is asserted separately (test_findings.py), so that a model and a filter that are wrong
together do not go unnoticed.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from filter_cases import FILTERS, NAMES, OWN_TRACES, Frame, read_capture
from filter_frames import FOREIGN_TAGS, OPTIONS, STIMULI, TAGS, wrapped
from filter_models import MODELS, Contents, Model, u32

from oko.filters import Engine, FilterProgram, Map, Meta

HAS_JIT = platform.machine() in ("x86_64", "AMD64")
ENGINES = [Engine.INTERP, Engine.JIT] if HAS_JIT else [Engine.INTERP]
BLOOM, COUNT_MIN, ARRAY, WORKER_ARRAY = 2, 3, 1, 7

CONFIGS: dict[str, dict[str, Contents]] = {
    "stateless_firewall": {
        "blocked": {bytes([10, 0, 0, 11]): u32(1), bytes([10, 0, 0, 1]): u32(0)},
        "blocked_nets": {
            u32(24) + bytes([198, 51, 100, 0]): u32(1),
            u32(26) + bytes([198, 51, 100, 64]): u32(0),
            u32(8) + bytes([192, 0, 0, 0]): u32(5),
        },
        "closed_ports": {u32(80): b"\x01", u32(9000): b"\x02", u32(53): b"\x03"},
    },
    "stateful_firewall": {"inside_port": {u32(0): u32(2)}},
    "rate_limiter": {"limit": {u32(0): (50_000_000).to_bytes(8, "little") + bytes(8)}},
    "p0f": {"wanted": {u32(0): u32(4)}},
    "heavy_hitter": {"threshold": {u32(0): u32(7)}},
    "port_scan": {"threshold": {u32(0): u32(3)}},
    "dns_guard": {
        "blocked": {
            b"ads.test".ljust(64, b"\0"): u32(1),
            b"example.test".ljust(64, b"\0"): u32(0),
            b"example.com".ljust(64, b"\0"): u32(2),
        }
    },
    "syn_flood": {"limit": {u32(0): u32(2)}},
    "payload_match": {"pattern": {u32(0): u32(4) + b"HTTP" + bytes(12)}},
}
"""A second run of each filter, with its maps filled: these contents."""


def load(name: str, config: dict[str, Contents]) -> FilterProgram:
    program = FilterProgram.load(FILTERS / f"{name}.o")
    for map_name, entries in config.items():
        for key, value in entries.items():
            program.maps[map_name][key] = value
    return program


def contents(found: Map) -> Contents:
    """A map as the models have it: of arrays, only what is not all zero."""
    entries = dict(found.items())
    if found.spec.type in (ARRAY, WORKER_ARRAY):
        return {key: value for key, value in entries.items() if any(value)}
    return entries


def assert_same_maps(program: FilterProgram, model: Model) -> None:
    expected = model.maps()
    for name, found in program.maps.items():
        if found.spec.type not in (BLOOM, COUNT_MIN):
            assert contents(found) == {
                key: value
                for key, value in expected.get(name, {}).items()
                if any(value) or found.spec.type not in (ARRAY, WORKER_ARRAY)
            }, f"map {name}"


def compare(
    name: str, frames: Iterable[Frame], config: dict[str, Contents], *, in_port: int = 1
) -> None:
    """Runs frames through the filter on every engine and through the model."""
    model = MODELS[name](config)
    programs = [load(name, config) for _ in ENGINES]
    try:
        for number, (data, now) in enumerate(frames, start=1):
            expected = model.packet(data, now, in_port)
            meta = Meta(rx_ns=now, in_port=in_port)
            for engine, program in zip(ENGINES, programs, strict=True):
                result = program.run(data, meta, engine=engine)
                assert (result == 1) == expected, f"packet {number}, {engine.name}: {data.hex()}"
        for program in programs:
            assert_same_maps(program, model)
            if name == "payload_match":
                counted = program.data(".bss")
                searched, found = (int.from_bytes(counted[i : i + 8], "little") for i in (0, 8))
                assert sorted((searched, found)) == sorted((model.searched, model.found))  # type: ignore[attr-defined]
    finally:
        for program in programs:
            program.close()


# ---------------------------------------------------------------- captures

OWN = sorted(path.name for path in OWN_TRACES.glob("*.pcap"))
SHARED = (
    "http-qinq-0.pcap",
    "ip-bogus-header-len.pcap",
    "ipv6-fragmented-dns.pcap",
    "ipv6-hbh-routing0.pcap",
    "irc-dcc-send.pcapng",
    "lan-mixed.pcap",
    "mixed-vlan-mpls.pcap",
    "mix.pcap.gz",
)


@pytest.mark.parametrize("trace", OWN)
@pytest.mark.parametrize("name", NAMES)
def test_own_captures(name: str, trace: str) -> None:
    compare(name, read_capture(OWN_TRACES / trace), {})
    compare(name, read_capture(OWN_TRACES / trace), CONFIGS.get(name, {}), in_port=2)


@pytest.mark.parametrize("trace", SHARED)
@pytest.mark.parametrize("name", NAMES)
def test_real_captures(name: str, trace: str, traces: Path) -> None:
    compare(name, read_capture(traces / trace), CONFIGS.get(name, {}), in_port=2)


@pytest.mark.long
@pytest.mark.parametrize("trace", ["mix.pcap.gz", "echo-connections.pcap.gz"])
@pytest.mark.parametrize("name", NAMES)
def test_large_captures(name: str, trace: str, traces: Path) -> None:
    compare(name, read_capture(traces / trace), {})


# ---------------------------------------------------------------- frames made by hand


def stimulus(name: str, options: bytes, tags: bytes, pad: int = 0) -> list[Frame]:
    packets = STIMULI[name][1]
    return [
        Frame(wrapped(packet(options), tags, pad), 1000 * number)
        for number, packet in enumerate(packets)
    ]


def verdicts(name: str, frames: list[Frame]) -> tuple[list[bool], dict[str, Contents]]:
    """What the filter says on its fresh, configured maps, and what is in these afterwards."""
    with load(name, STIMULI[name][0]) as program:
        said = [program.matches(data, Meta(rx_ns=now, in_port=1)) for data, now in frames]
        return said, {m.name: contents(m) for m in program.maps.values()}


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_sees_through_tags_and_options(name: str, options: str, tags: str) -> None:
    frames = stimulus(name, OPTIONS[options], TAGS[tags], pad=6)
    said, maps = verdicts(name, frames)
    if name == "dapper":  # never matches: what it has learnt must not depend on the wrapping
        assert not any(said)
        assert maps == verdicts(name, stimulus(name, b"", b""))[1] and maps["flows"]
    else:
        assert said[-1]
    compare(name, frames, STIMULI[name][0])


@pytest.mark.parametrize("tags", FOREIGN_TAGS)
@pytest.mark.parametrize("name", NAMES)
def test_does_not_guess_behind_other_tags(name: str, tags: str) -> None:
    said, maps = verdicts(name, stimulus(name, b"", FOREIGN_TAGS[tags]))
    assert not any(said)
    assert maps == verdicts(name, [])[1]


@pytest.mark.parametrize("size", [0, 1, 16, 17, 0xFFFFFFFF])
def test_payload_match_by_size_of_pattern(size: int) -> None:
    config: dict[str, Contents] = {"pattern": {u32(0): u32(size) + b"User-Agent: curl"}}
    frames = stimulus("payload_match", b"", b"")
    with load("payload_match", config) as program:
        assert [program.matches(data) for data, _ in frames] == [size <= 16]
    compare("payload_match", frames, config)


@pytest.mark.parametrize("name", NAMES)
def test_every_prefix_of_a_frame(name: str) -> None:
    def prefixes() -> Iterator[Frame]:
        now = 0
        for options in ("no options", "40 bytes of options"):
            for tags in ("untagged", "QinQ"):
                for data, _ in stimulus(name, OPTIONS[options], TAGS[tags]):
                    for size in range(len(data) + 1):
                        now += 1_000_000
                        yield Frame(data[:size], now)

    compare(name, prefixes(), STIMULI[name][0])


@pytest.mark.parametrize("name", NAMES)
def test_damaged_frames(name: str) -> None:
    """Bytes of real frames changed at random, most of them in headers."""
    chance = random.Random(name)
    corpus = [
        frame.data
        for trace in ("dns.pcap", "ip-options.pcap", "qinq.pcap", "scan.pcap", "ipv6.pcap")
        for frame in read_capture(OWN_TRACES / trace)
    ]

    def damaged() -> Iterator[Frame]:
        for number in range(4000):
            data = bytearray(chance.choice(corpus))
            for _ in range(chance.randrange(4)):
                at = min(int(chance.expovariate(1 / 40)) + 12, len(data) - 1)
                data[at] = chance.choice((0, 1, 0xFF, data[at] ^ 1 << chance.randrange(8)))
            if chance.random() < 0.2:
                del data[chance.randrange(len(data)) :]
            yield Frame(bytes(data), number * 10_000_000)

    compare(name, damaged(), CONFIGS.get(name, {}), in_port=2)
