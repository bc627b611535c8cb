"""The wire format of the 2018 prototype Oko, so that its ovs-ofctl and controllers keep working.

That fork of Open vSwitch put a 16-bit filter_prog (0 = none) into fixed structures, which moves
what follows, and borrowed subtypes 31 to 34 of Nicira's experimenter for its messages. A peer
cannot be asked which of the two it speaks: whoever listens has to know. Here is the layout only:

- `standard_flow_mod` gives a flow-mod the layout that oko/openflow/flows.py reads, and the number;
- `Encoder2018` makes entries of flow statistics with the number in their midst;
- the four messages about programs and maps.

Requests for statistics and flow-removed are as in the standard; so a filter cannot be named there.
Offsets were measured on the wire (Oko 599e0a270). What a message names in little endian is so
because the prototype never swapped it. Thread-safety: pure functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oko.openflow.common import (
    EXPERIMENTER,
    MAX_MESSAGE,
    NICIRA,
    OF10,
    OF13,
    OF14,
    experimenter_message,
    fail,
    take,
)
from oko.openflow.flow_stats import FlowCounters, StatsEncoder

VERSIONS = (OF10, OF13, OF14)
"""What the prototype's tools speak."""

LOAD, UPDATE, DUMP_REQUEST, DUMP_REPLY = 31, 32, 33, 34

_LOAD = struct.Struct("!H2xI")
_UPDATE = struct.Struct("!HHIII")
_DUMP = struct.Struct("!HH")
_REPLY = struct.Struct("<HH")
_REPLY_MAP = struct.Struct("<H2xIII")


# ---------------------------------------------------------------- flow-mods

# By layout: (where filter_prog is, where what follows is in theirs, where it is in ours, its size,
# the end of their structure, the end of ours); from the beginning of the message.
_FLOW_MOD_10 = (70, 72, 70, 2, 80, 72)
_FLOW_MOD_NX = (38, 40, 38, 4, 48, 48)
_FLOW_MOD_13 = (46, 48, 46, 2, 56, 48)


def standard_flow_mod(version: int, msg: bytes) -> tuple[bytes, int]:
    """(the flow-mod in the standard's layout, its filter_prog). OpenFlowError: it is too short."""
    layout = _FLOW_MOD_13
    if version == OF10:
        layout = _FLOW_MOD_NX if msg[1] == EXPERIMENTER else _FLOW_MOD_10
    at, theirs, ours, size, their_end, our_end = layout
    if len(msg) < their_end:
        fail("OFPBRC_BAD_LEN", f"a flow-mod of Oko has at least {their_end} bytes")
    program = int.from_bytes(msg[at : at + 2], "big")
    moved = msg[theirs : theirs + size]
    made = msg[:at] + moved + bytes(our_end - ours - size) + msg[their_end:]
    return made[:2] + len(made).to_bytes(2, "big") + made[4:], program


# ---------------------------------------------------------------- flow statistics


class Encoder2018(StatsEncoder):
    """Entries of flow statistics as Oko's tools read them."""

    def __init__(self, version: int, *, nxm: bool = False) -> None:
        super().__init__(version, nxm=nxm)

    def numbers(self) -> None:
        """Its heads are of its own."""
        return None

    def entry(self, flow: FlowCounters) -> bytes:
        """One entry."""
        hidden = self.hidden
        ours = super().entry(flow)
        self.hidden = hidden  # nothing is: the number follows
        program = flow.filter_prog.to_bytes(2, "big")
        if self.version != OF10:  # takes the two bytes of padding that follow the importance
            made = ours[:14] + program + ours[14:22] + ours[24:]
        elif self.nxm:
            made = ours[:48] + program + bytes(6) + ours[48:]
        else:  # takes two of the six bytes of padding that follow the timeouts
            made = ours[:54] + program + ours[54:58] + ours[60:]
        return len(made).to_bytes(2, "big") + made[2:]


# ---------------------------------------------------------------- programs and maps


@dataclass(frozen=True, slots=True)
class Load:
    """LOAD_FILTER_PROG. There is no reply unless it fails."""

    program: int
    elf: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """UPDATE_MAP. map: its number. There is no reply unless it fails."""

    program: int
    map: int
    key_size: int
    value_size: int
    entries: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class DumpRequest:
    """DUMP_MAP_REQUEST. maps: numbers."""

    program: int
    maps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DumpedMap:
    """A map in a DUMP_MAP_REPLY."""

    number: int
    key_size: int
    value_size: int
    entries: tuple[tuple[bytes, bytes], ...]


def decode(msg: bytes) -> Load | Update | DumpRequest:
    """A message of subtype 31, 32 or 33. OpenFlowError: malformed, or none of these."""
    subtype, body = int.from_bytes(msg[12:16], "big"), msg[16:]
    if subtype == LOAD:
        program, size = take(_LOAD, body, "LOAD_FILTER_PROG")
        elf = body[_LOAD.size :]
        if not 0 < size <= len(elf):
            fail("OFPBMC_BAD_LEN", f"a program of {size} bytes in a message that has {len(elf)}")
        return Load(program, elf[:size])
    if subtype == UPDATE:
        program, number, key_size, value_size, n = take(_UPDATE, body, "UPDATE_MAP")
        data, entry = body[_UPDATE.size :], key_size + value_size
        if n and (not key_size or entry * n > len(data)):
            fail("OFPBMC_BAD_LEN", f"{n} entries of {entry} bytes in a message with {len(data)}")
        starts = range(0, n * entry, entry or 1)
        entries = tuple((data[i : i + key_size], data[i + key_size : i + entry]) for i in starts)
        return Update(program, number, key_size, value_size, entries)
    if subtype == DUMP_REQUEST:
        program, n = take(_DUMP, body, "DUMP_MAP_REQUEST")
        if not 0 < n * 2 <= len(body) - _DUMP.size:
            fail("OFPBMC_BAD_LEN", f"{n} maps in a message that names {len(body) // 2 - 2}")
        return DumpRequest(program, struct.unpack_from(f"<{n}H", body, _DUMP.size))
    fail("OFPBRC_BAD_TYPE", f"Oko's message {subtype} is for controllers")


def encode_load(version: int, xid: int, load: Load) -> bytes:
    """LOAD_FILTER_PROG."""
    return _message(version, xid, LOAD, _LOAD.pack(load.program, len(load.elf)) + load.elf)


def encode_update(version: int, xid: int, update: Update) -> bytes:
    """UPDATE_MAP."""
    head = _UPDATE.pack(
        update.program, update.map, update.key_size, update.value_size, len(update.entries)
    )
    return _message(version, xid, UPDATE, head + _packed(update.entries))


def encode_dump_request(version: int, xid: int, asked: DumpRequest) -> bytes:
    """DUMP_MAP_REQUEST."""
    head = _DUMP.pack(asked.program, len(asked.maps))
    numbers = struct.pack(f"<{len(asked.maps)}H", *asked.maps)
    return _message(version, xid, DUMP_REQUEST, head + numbers)


def encode_dump_reply(version: int, xid: int, program: int, maps: Sequence[DumpedMap]) -> bytes:
    """DUMP_MAP_REPLY. OpenFlowError: it does not fit into one message, which is all there is."""
    body = bytearray(_REPLY.pack(program, len(maps)))
    for one in maps:
        body += _REPLY_MAP.pack(one.number, one.key_size, one.value_size, len(one.entries))
        body += _packed(one.entries)
    if len(body) + 16 > MAX_MESSAGE:
        fail("OFPBRC_EPERM", "the maps do not fit into one message of Oko's", "use oko-ofctl")
    return _message(version, xid, DUMP_REPLY, bytes(body))


def decode_dump_reply(msg: bytes) -> tuple[int, list[DumpedMap]]:
    """(program, maps) of a DUMP_MAP_REPLY."""
    body = msg[16:]
    program, n = take(_REPLY, body, "DUMP_MAP_REPLY")
    at, maps = _REPLY.size, []
    for _ in range(n):
        number, key_size, value_size, count = take(_REPLY_MAP, body[at:], "a map of a reply")
        at += _REPLY_MAP.size
        entry = key_size + value_size
        if count * entry > len(body) - at:
            fail("OFPBMC_BAD_LEN", "a reply ends inside of a map")
        entries = tuple(
            (body[i : i + key_size], body[i + key_size : i + entry])
            for i in range(at, at + count * entry, entry or 1)
        )
        at += count * entry
        maps.append(DumpedMap(number, key_size, value_size, entries))
    return program, maps


def _packed(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(key + value for key, value in entries)


def _message(version: int, xid: int, subtype: int, body: bytes) -> bytes:
    return experimenter_message(version, xid, NICIRA, subtype, body)
