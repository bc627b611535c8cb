"""OpenFlow 1.5's extensible statistics (OXS, 1.5.1, 7.2.4): counters as a list of entries.

struct ofp_stats is reserved (2 bytes), length (2), entries of class, field and length, and padding
to a multiple of 8 bytes. Unknown entries are read over: they carry nothing that oko could show.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from oko.openflow.common import fail, padded

_HEAD = struct.Struct("!HH")
_ENTRY = struct.Struct("!HBB")
_BASIC = 0x8002  # OFPXSC_OPENFLOW_BASIC
_DURATION, _IDLE_TIME, _FLOW_COUNT, _PACKET_COUNT, _BYTE_COUNT = 0, 1, 3, 4, 5
_SIZES = {_DURATION: 8, _IDLE_TIME: 8, _FLOW_COUNT: 4, _PACKET_COUNT: 8, _BYTE_COUNT: 8}
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Counters:
    """What the entries said; 0 for what they did not. Times in ns; idle None: not told."""

    n_packets: int = 0
    n_bytes: int = 0
    n_flows: int = 0
    duration: int = 0
    idle: int | None = None


def encode_stats(
    n_packets: int,
    n_bytes: int,
    duration: int | None = None,
    idle: int | None = None,
    n_flows: int | None = None,
) -> bytes:
    """struct ofp_stats, padded."""
    parts = []

    def add(number: int, *values: int) -> None:
        form = "!I" if number == _FLOW_COUNT else "!" + "I" * len(values)
        if number in (_PACKET_COUNT, _BYTE_COUNT):
            form = "!Q"
        parts.append(_ENTRY.pack(_BASIC, number << 1, _SIZES[number]) + struct.pack(form, *values))

    if duration is not None:
        add(_DURATION, *divmod(duration, SECOND))
    if idle is not None:
        add(_IDLE_TIME, *divmod(idle, SECOND))
    if n_flows is not None:
        add(_FLOW_COUNT, n_flows)
    add(_PACKET_COUNT, n_packets)
    add(_BYTE_COUNT, n_bytes)
    body = b"".join(parts)
    return padded(_HEAD.pack(0, _HEAD.size + len(body)) + body)


def decode_stats(data: bytes, at: int) -> tuple[Counters, int]:
    """(counters, offset behind the padding) of the struct ofp_stats at this offset."""
    if len(data) - at < _HEAD.size:
        fail("OFPBRC_BAD_LEN", "there is no room for statistics")
    _, size = _HEAD.unpack_from(data, at)
    end = at + size
    if size < _HEAD.size or end + (-size % 8) > len(data):
        fail("OFPBRC_BAD_LEN", f"statistics cannot have {size} bytes here")
    values: dict[int, int] = {}
    place = at + _HEAD.size
    while place < end:
        if end - place < _ENTRY.size:
            fail("OFPBRC_BAD_LEN", "statistics end inside of an entry")
        kind, number, length = _ENTRY.unpack_from(data, place)
        start, place = place + _ENTRY.size, place + _ENTRY.size + length
        if place > end:
            fail("OFPBRC_BAD_LEN", "statistics end inside of an entry")
        number >>= 1
        if kind != _BASIC or number not in _SIZES:
            continue
        if length != _SIZES[number]:
            fail("OFPBRC_BAD_LEN", f"statistics field {number} has {_SIZES[number]} bytes")
        values[number] = int.from_bytes(data[start:place], "big")
    counters = Counters(
        values.get(_PACKET_COUNT, 0),
        values.get(_BYTE_COUNT, 0),
        values.get(_FLOW_COUNT, 0),
        _ns(values.get(_DURATION, 0)),
        _ns(values[_IDLE_TIME]) if _IDLE_TIME in values else None,
    )
    return counters, end + (-size % 8)


def _ns(code: int) -> int:
    """Seconds in the upper half, nanoseconds in the lower."""
    return (code >> 32) * SECOND + (code & 0xFFFFFFFF)
