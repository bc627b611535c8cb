"""The capture reader against dpkt and against captures built byte by byte, whole and broken."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from captures import (
    block,
    enhanced,
    interface,
    old_packet,
    option,
    pcap,
    pcapng,
    section,
    simple,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_frames import frames

from oko._binding_capture import Capture, Record
from oko.errors import CaptureError

NS = 1_700_000_000_123_456_789
PACKETS = [(NS + i * 1000, bytes([i]) * (14 + 13 * i)) for i in range(20)]


def read(data: bytes, chunk: int = 0) -> list[Record]:
    """Reads through a pipe, in dribs and drabs."""
    got, error = read_broken(data, chunk)
    assert error is None, error
    return got


def read_broken(data: bytes, chunk: int = 0) -> tuple[list[Record], str | None]:
    """Records before the damage, and the error if any."""
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            view = memoryview(data)
            while view:
                try:
                    sent = pipe.write(view[:40_000])
                except BrokenPipeError:
                    return
                view = view[sent:]

    thread = threading.Thread(target=feed)
    thread.start()
    got: list[Record] = []
    try:
        with Capture(reader, chunk) as capture:
            for record in capture:
                got.append(record)
        return got, None
    except CaptureError as error:
        return got, str(error)
    finally:
        os.close(reader)
        thread.join()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap(order: str, nanoseconds: bool) -> None:
    got = read(pcap(PACKETS, nanoseconds=nanoseconds, order=order))
    unit = 1 if nanoseconds else 1000
    assert got == [Record(ns // unit * unit, len(data), data) for ns, data in PACKETS]


def test_wire_length() -> None:
    got = read(pcap(PACKETS, wire_lens=[9000] * 10 + [0] * 10))
    assert [r.wire_len for r in got] == [9000] * 10 + [len(data) for _, data in PACKETS[10:]]


@pytest.mark.parametrize("order", "<>")
def test_pcapng(order: str) -> None:
    got = read(pcapng(PACKETS, order))
    assert got == [Record(ns // 1000 * 1000, len(data), data) for ns, data in PACKETS]


def test_pcapng_mixed_sections_interfaces_and_blocks() -> None:
    data = section("<") + interface("<", snaplen=20)
    data += block(4, b"name resolution") + simple(b"x" * 20, wire_len=60)
    data += interface("<", options=option(2, b"eth0") + option(9, b"\x09"))
    data += enhanced(NS, b"y" * 31, number=1, options=option(1, b"comment"))
    data += block(0x0BAD, bytes(100)) + old_packet(NS // 1000, b"z" * 15)
    data += section(">") + interface(">", options=option(9, b"\x94", ">") + option(0, b"", ">"))
    data += enhanced(5 << 20 | 1 << 19, b"w" * 17, ">") + block(5, bytes(24), ">")
    assert read(data) == [
        Record(0, 60, b"x" * 20),
        Record(NS, 31, b"y" * 31),
        Record(NS // 1000 * 1000, 15, b"z" * 15),
        Record(5_500_000_000, 17, b"w" * 17),
    ]


@pytest.mark.parametrize(
    ("resolution", "units", "offset", "ns"),
    [
        (0, 7, 0, 7 * 10**9),
        (3, 7, 100, 100 * 10**9 + 7 * 10**6),
        (9, 2**64 - 1, 0, 2**64 - 1),
        (6, 2**64 - 1, 0, 2**64 - 1),  # does not fit: the latest time there is
        (12, 123456789, 0, 123456),
        (127, 2**64 - 1, 0, 0),
        (0x80 | 32, 3 << 31, 0, 1_500_000_000),
        (0x80 | 127, 2**64 - 1, 0, 0),
        (6, 5, -1, 0),  # before 1970: the earliest time there is
    ],
)
def test_pcapng_time(resolution: int, units: int, offset: int, ns: int) -> None:
    options = option(9, bytes([resolution])) + option(14, offset.to_bytes(8, "little", signed=True))
    data = section() + interface(options=options) + enhanced(units, b"x" * 14)
    assert [r.ns for r in read(data)] == [ns]


@pytest.mark.parametrize(
    "name",
    ["lan-mixed.pcap", "irc-dcc-send.pcapng", "mixed-vlan-mpls.pcap", "ipv6-fragmented-dns.pcap"],
)
def test_real_captures(traces: Path, name: str) -> None:
    want = list(frames(traces / name))
    with open(traces / name, "rb") as file, Capture(file.fileno()) as capture:
        got = list(capture)
    assert [r.frame for r in got] == [frame for _, frame in want]
    assert all(abs(r.ns / 1e9 - seconds) < 1e-5 for r, (seconds, _) in zip(got, want, strict=True))


# ---------------------------------------------------------------- link types

IPV4 = bytes.fromhex("4500001c00010000401166cf0a0000010a000002003500350008 0000".replace(" ", ""))
IPV6 = bytes.fromhex("6000000000003b40") + bytes(32)


@pytest.mark.parametrize("form", [pcap, pcapng])
@pytest.mark.parametrize(
    ("link", "header", "payload", "ethernet"),
    [
        (101, "", IPV4, "0800"),
        (12, "", IPV4, "0800"),
        (101, "", IPV6, "86dd"),
        (228, "", IPV4, "0800"),
        (229, "", IPV6, "86dd"),
        (0, "02000000", IPV4, "0800"),
        (0, "0000001e", IPV6, "86dd"),
        (108, "00000018", IPV6, "86dd"),
        (0, "07000000", IPV4, "05ff"),
        (113, "0000 0001 0006 0a0b0c0d0e0f 0000 0800", IPV4, "0a0b0c0d0e0f 0800"),
        (113, "0001 0001 0006 0a0b0c0d0e0f 0000 0806", b"arp", "ff 0a0b0c0d0e0f 0806"),
        (113, "0000 0304 0000 000000000000 0000 86dd", IPV6, "86dd"),
        (113, "0000 0338 0000 000000000000 0000 0010", b"netlink", "0000"),
        (276, "86dd 0000 00000001 0001 00 06 0a0b0c0d0e0f 0000", IPV6, "0a0b0c0d0e0f 86dd"),
        (276, "0806 0000 00000001 0001 01 06 0a0b0c0d0e0f 0000", b"a", "ff 0a0b0c0d0e0f 0806"),
    ],
)
def test_adapted(
    form: Callable[..., bytes], link: int, header: str, payload: bytes, ethernet: str
) -> None:
    words = ethernet.split()
    dst = b"\xff" * 6 if words[0] == "ff" else bytes(6)
    src = bytes.fromhex(words[-2]) if len(words) > 1 else bytes(6)
    want = dst + src + bytes.fromhex(words[-1]) + payload
    body = bytes.fromhex(header.replace(" ", "")) + payload
    got = read(form([(NS, body)] * 3, link=link))
    assert [r.frame for r in got] == [want] * 3
    assert got[0].wire_len == len(want)


def test_adapted_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([(0, IPV4)], link=101))
    with open(path, "rb") as file, Capture(file.fileno()) as capture:
        list(capture)
        assert (capture.format, capture.adapted) == ("pcap", "RAW")


def test_adapted_too_short() -> None:
    got = read(pcap([(NS, b"\0\1\2"), (NS, b"")], link=113))
    assert [r.frame for r in got] == [b"", b""]


@pytest.mark.parametrize("form", [pcap, pcapng])
def test_foreign_link_type(form: Callable[..., bytes]) -> None:
    got, error = read_broken(form(PACKETS, link=105))
    assert got == []
    assert error is not None and "link type 105 (IEEE802_11)" in error


# ---------------------------------------------------------------- long, cut and corrupt


@pytest.mark.parametrize("form", [pcap, pcapng])
@pytest.mark.parametrize("size", [65534, 65535, 65536, 70_000, 300_000, 5_000_000])
def test_long_records(form: Callable[..., bytes], size: int) -> None:
    long = bytes(range(256)) * (size // 256) + bytes(size % 256)
    packets = [PACKETS[3], (NS, long), PACKETS[4], (NS, long), PACKETS[5]]
    got = read(form(packets), chunk=1)
    assert [r.wire_len for r in got] == [len(data) for _, data in packets]
    assert [r.frame for r in got] == [data if len(data) < 65536 else None for _, data in packets]


@pytest.mark.parametrize("form", [pcap, pcapng])
def test_cut_everywhere(form: Callable[..., bytes]) -> None:
    data = form(PACKETS[:4])
    ends = [len(form(PACKETS[:n])) for n in range(5)]
    for cut in range(1, len(data)):
        got, error = read_broken(data[:cut])
        assert len(got) == sum(end <= cut for end in ends[1:]), cut
        if cut in ends:
            assert error is None
        elif cut > ends[0]:
            assert error is not None
            assert f"byte {cut}:" in error and f"of packet {len(got) + 1}" in error


def test_cut_in_a_long_record() -> None:
    got, error = read_broken(pcap([PACKETS[0], (NS, bytes(200_000))])[:-7])
    assert len(got) == 2
    assert error is not None and "7 bytes before the end of packet 2" in error


def test_empty() -> None:
    assert read_broken(b"") == ([], "the file is empty: expected a pcap or pcapng capture")
    assert read(pcap([])) == []
    assert read(section()) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n" * 9, "starts with bytes 47 45 54 20"),
        (b"\xa1\xb2\xcd\x34" + bytes(40), "modified pcap"),
        (b"abc", "only 3 bytes"),
        (pcap([])[:4] + b"\x09" + pcap([])[5:], "version 9"),
        (pcap(PACKETS[:1]) + b"\0" * 8 + b"\xff" * 8 + bytes(50), "claims 4294967295 bytes"),
        (section() + b"\1\0\0\0\x0d\0\0\0" + bytes(20), "the length of the interface"),
        (section() + interface()[:-4] + b"\7\0\0\0", "the trailing length"),
        (section() + enhanced(1, b"x" * 20), "the interface, which is not described,"),
        (section() + interface() + enhanced(1, b"x" * 20).replace(b"\x14\0\0\0", b"\x15\0\0\0", 1)
         , "the captured length"),
        (section() + interface(options=b"\2\0\xff\0" + bytes(8)), "an option's length"),
        (section().replace(b"\x1a", b"\x1c"), "byte-order magic"),
        (block(0x0A0D0D0A, b"\x4d\x3c\x2b\x1a\2\0\0\0" + bytes(8)), "major version"),
        (section() + block(1, bytes(300_000)), "the length of the interface description block"),
    ],
)  # fmt: skip
def test_corrupt(data: bytes, words: str) -> None:
    _, error = read_broken(data)
    assert error is not None and words in error
    assert "\n" not in error


def test_error_repeats(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(PACKETS)[:-1])
    with open(path, "rb") as file, Capture(file.fileno()) as capture:
        with pytest.raises(CaptureError) as first:
            list(capture)
        with pytest.raises(CaptureError) as second:
            list(capture)
    assert str(first.value) == str(second.value)


def test_unreadable(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(CaptureError, match="Is a directory"):
        Capture(fd)
    os.close(fd)


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=60)), max_size=30),
    st.sampled_from("<>"),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_round_trip(packets: list[tuple[int, bytes]], order: str, ng: bool) -> None:
    packets = [(seconds * 10**9, data) for seconds, data in packets]
    data = pcapng(packets, order) if ng else pcap(packets, order=order)
    assert read(data) == [Record(ns, len(frame), frame) for ns, frame in packets]
