"""What the example filters do when their tables are full: as described, and never a crash."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from filter_cases import FILTERS
from filter_frames import ACK, LINUX, SYN, tcp, udp, wrapped

from oko.filters import FilterProgram, Meta

SERVER = "192.0.2.2"


def addresses(n: int) -> Iterator[str]:
    """n different source addresses."""
    for number in range(n):
        yield socket.inet_ntoa(struct.pack("!I", 0x0A000000 + number))


def load(name: str, **config: int) -> FilterProgram:
    program = FilterProgram.load(FILTERS / f"{name}.o")
    for map_name, value in config.items():
        program.maps[map_name][0] = value
    return program


def says(program: FilterProgram, frame: bytes, now: int = 0) -> bool:
    return program.matches(frame, Meta(rx_ns=now, in_port=1))


def from_source(frame: bytes, source: str) -> bytes:
    """The frame with another IPv4 source address (checksums are not looked at)."""
    return frame[:26] + socket.inet_aton(source) + frame[30:]


def test_rate_limiter_turns_new_sources_away() -> None:
    frame = wrapped(udp(1, 2, b"")(b""))
    with load("rate_limiter") as program:
        size = program.maps["buckets"].spec.max_entries
        assert all(says(program, from_source(frame, source)) for source in addresses(size))
        newcomer, known = "192.0.2.1", "10.0.0.0"
        assert not says(program, from_source(frame, newcomer))
        assert says(program, from_source(frame, known))
        assert len(program.maps["buckets"]) == size


def test_stateful_firewall_forgets_the_oldest() -> None:
    frame = wrapped(tcp(1024, 80, SYN)(b""))
    answer = wrapped(tcp(80, 1024, SYN | ACK, src=SERVER)(b""))

    def answer_to(client: str) -> bytes:
        return answer[:30] + socket.inet_aton(client) + answer[34:]

    with load("stateful_firewall") as program:
        table = program.maps["connections"]
        size = table.spec.max_entries
        clients = list(addresses(size + size // 2))
        assert all(says(program, from_source(frame, client)) for client in clients)
        assert len(table) == size
        assert says(program, answer_to(clients[-1]))
        assert not says(program, answer_to(clients[0]))


def test_p0f_still_recognises() -> None:
    frame = wrapped(tcp(1024, 80, SYN, LINUX, frag=0x4000)(b""))
    with load("p0f") as program:
        size = program.maps["hosts"].spec.max_entries
        assert all(says(program, from_source(frame, source)) for source in addresses(size + 10))
        assert len(program.maps["hosts"]) == size
        assert int.from_bytes(program.maps["systems"][1], "little") == size + 10


def test_dapper_adds_no_more_flows() -> None:
    frame = wrapped(tcp(1024, 80, ACK, payload=b"x")(b""))
    with load("dapper") as program:
        size = program.maps["flows"].spec.max_entries
        for source in addresses(size + 10):
            assert not says(program, from_source(frame, source))
        assert len(program.maps["flows"]) == size


def test_heavy_hitter_matches_those_it_cannot_list() -> None:
    frame = wrapped(udp(1, 2, b"")(b""))
    with load("heavy_hitter", threshold=1) as program:
        size = program.maps["hitters"].spec.max_entries
        for source in addresses(size + 10):
            says(program, from_source(frame, source))
            assert says(program, from_source(frame, source))
        assert len(program.maps["hitters"]) == size


def test_port_scan_leaves_new_sources_out() -> None:
    frames = [wrapped(tcp(1024, port, SYN)(b"")) for port in (80, 81)]
    with load("port_scan", threshold=1) as program:
        size = program.maps["scanners"].spec.max_entries
        for source in addresses(size):
            assert not says(program, from_source(frames[0], source))
        assert len(program.maps["scanners"]) == size
        assert says(program, from_source(frames[1], "10.0.0.7"))
        assert not any(says(program, from_source(frame, "192.0.2.9")) for frame in frames)


def test_syn_flood_knows_no_more_services() -> None:
    frame = wrapped(tcp(1024, 80, SYN)(b""))
    other = wrapped(tcp(1025, 80, SYN)(b""))
    with load("syn_flood", limit=1) as program:
        size = program.maps["services"].spec.max_entries
        for server in addresses(size):
            at = frame[:30] + socket.inet_aton(server) + frame[34:]
            assert not says(program, at)
        assert len(program.maps["services"]) == size
        known = other[:30] + socket.inet_aton("10.0.0.5") + other[34:]
        assert says(program, known)
        assert not says(program, frame) and not says(program, other)
