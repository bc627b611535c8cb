"""Flow monitors on the wire: who wants to hear of which changes of flows, and what they hear.

Three forms of the same: Nicira's (1.0: NXST_FLOW_MONITOR, and NXT_FLOW_MONITOR_*), ONF's extension
187 for 1.3, and OFPMP_FLOW_MONITOR of 1.4 and later (1.4.1, 7.3.5.18), where a request also changes
and deletes monitors, and PAUSED and RESUMED are updates. Requests and updates are parts of
statistics; updates that nobody asked for at that moment have the transaction 0.

1.4 has two flags for a controller's own changes; Open vSwitch sends ONLY_OWN where it means
NO_ABBREV, so here both mean that: own changes are told in full.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from oko.model.fields import PORT_ANY
from oko.model.flow import TABLE_ALL, Match
from oko.openflow.common import (
    MP_EXPERIMENTER,
    MP_FLOW_MONITOR,
    NICIRA,
    OF10,
    OF14,
    ONF,
    decode_multipart,
    encode_multipart,
    experimenter_message,
    fail,
    multipart_replies,
    padded,
    port_from_10,
    port_to_10,
    take,
)
from oko.openflow.flows import put_match, take_match, take_nxm
from oko.openflow.oxm import encode_match

NXST_FLOW_MONITOR, ONFST_FLOW_MONITOR = 2, 1870
NXT_CANCEL, NXT_PAUSED, NXT_RESUMED = 21, 22, 23
ONFT_CANCEL, ONFT_PAUSED, ONFT_RESUMED = 1870, 1871, 1872

# NXFMF_*, and the same bits in 1.4 but for the last.
INITIAL, ADD, DELETE, MODIFY, ACTIONS, OWN = 1, 2, 4, 8, 16, 32
_OWN_14 = 0x60  # OFPFMF_NO_ABBREV, OFPFMF_ONLY_OWN
ADD_MONITOR, MODIFY_MONITOR, DELETE_MONITOR = 0, 1, 2  # OFPFMC_*

# What an update tells.
ADDED, GONE, MODIFIED, ABBREVIATED, IS_THERE, PAUSED, RESUMED = range(7)
_EVENTS_NX = {ADDED: 0, GONE: 1, MODIFIED: 2, ABBREVIATED: 3, IS_THERE: 0}
_EVENTS_14 = {IS_THERE: 0, ADDED: 1, GONE: 2, MODIFIED: 3, ABBREVIATED: 4, PAUSED: 5, RESUMED: 6}

EVERYTHING = Match()
_EXPERIMENT = struct.Struct("!II")
_REQUEST_NX = struct.Struct("!IHHHB5x")
_REQUEST_ONF = struct.Struct("!IHHIB3x")
_REQUEST_14 = struct.Struct("!IIIHBB")
_FULL_NX = struct.Struct("!HHHHHHHBxQ")
_FULL_14 = struct.Struct("!HHBBHHH4xQ")
_SHORT = struct.Struct("!HHI")


@dataclass(frozen=True, slots=True)
class Monitor:
    """What somebody wants to hear of. flags: INITIAL | ...; filter_prog None: with and without."""

    id: int
    flags: int
    table: int = TABLE_ALL
    match: Match = EVERYTHING
    filter_prog: int | None = None
    out_port: int = PORT_ANY
    out_group: int = PORT_ANY


@dataclass(frozen=True, slots=True)
class Update:
    """What became of a flow. match and instructions are bytes of the wire, () for no instructions.
    match_size: without padding."""

    event: int
    reason: int
    table: int
    priority: int
    idle_timeout: int
    hard_timeout: int
    cookie: int
    match: bytes
    match_size: int
    instructions: bytes


def _prefix(version: int) -> bytes:
    if version == OF10:
        return struct.pack("!II4x", NICIRA, NXST_FLOW_MONITOR)
    return b"" if version >= OF14 else _EXPERIMENT.pack(ONF, ONFST_FLOW_MONITOR)


# ---------------------------------------------------------------- requests


def decode_requests(version: int, msg: bytes) -> list[tuple[int, Monitor]]:
    """(command, monitor) of each part of a request."""
    body = decode_multipart(version, msg[8:]).body[len(_prefix(version)) :]
    found = []
    at = 0
    while at < len(body):
        if version >= OF14:
            number, out_port, out_group, flags, table, command = take(
                _REQUEST_14, body[at:], "a flow monitor"
            )
            known = INITIAL | ADD | DELETE | MODIFY | ACTIONS | _OWN_14
            decoded, at = take_match(body, at + _REQUEST_14.size)
        elif version == OF10:
            number, flags, out_port, size, table = take(_REQUEST_NX, body[at:], "a flow monitor")
            out_port, out_group, command = port_from_10(out_port), PORT_ANY, ADD_MONITOR
            known = INITIAL | ADD | DELETE | MODIFY | ACTIONS | OWN
            decoded, at = take_nxm(body, at + _REQUEST_NX.size, size, cookie=False)
        else:
            number, flags, _, out_port, table = take(_REQUEST_ONF, body[at:], "a flow monitor")
            out_group, command = PORT_ANY, ADD_MONITOR
            known = INITIAL | ADD | DELETE | MODIFY | ACTIONS | OWN
            decoded, at = take_match(body, at + _REQUEST_ONF.size)
        if command > DELETE_MONITOR:
            fail("OFPMOFC_BAD_COMMAND", f"there is no command {command} for flow monitors")
        wants = flags & (ADD | DELETE | MODIFY | INITIAL)
        if flags & ~known or (command != DELETE_MONITOR and not wants):
            fail("OFPMOFC_BAD_FLAGS", f"a flow monitor cannot have the flags {flags:#x}")
        if version >= OF14 and flags & _OWN_14:
            flags = flags & ~_OWN_14 | OWN
        found.append(
            (
                command,
                Monitor(
                    number, flags, table, decoded.match, decoded.filter_prog or None, out_port,
                    out_group,
                ),
            )
        )  # fmt: skip
    return found


def encode_request(
    version: int, monitor: Monitor, xid: int = 0, command: int = ADD_MONITOR
) -> bytes:
    """Asks for a monitor; in 1.4 and later for whatever the command says."""
    m, program = monitor, monitor.filter_prog or 0
    if version >= OF14:
        flags = m.flags & ~OWN | (_OWN_14 & ~OWN if m.flags & OWN else 0)
        head = _REQUEST_14.pack(m.id, m.out_port, m.out_group, flags, m.table, command)
        body = head + put_match(version, m.match, program)
        return encode_multipart(version, xid, MP_FLOW_MONITOR, body)
    match = encode_match(version, m.match, program)
    if version == OF10:
        head = _REQUEST_NX.pack(m.id, m.flags, port_to_10(m.out_port), len(match), m.table)
        return encode_multipart(
            version, xid, MP_EXPERIMENTER, _prefix(version) + head + padded(match)
        )
    head = _REQUEST_ONF.pack(m.id, m.flags, 4 + len(match), m.out_port, m.table)
    body = _prefix(version) + head + put_match(version, m.match, program)
    return encode_multipart(version, xid, MP_EXPERIMENTER, body)


def decode_cancel(msg: bytes) -> int:
    """The monitor that is to end, by Nicira's or ONF's message (before 1.4)."""
    (number,) = take(struct.Struct("!I"), msg[16:], "the end of a flow monitor")
    return int(number)


def encode_cancel(version: int, number: int, xid: int = 0) -> bytes:
    """The end of a monitor; 1.4: a request that says so."""
    if version >= OF14:
        return encode_request(version, Monitor(number, 0), xid, DELETE_MONITOR)
    kinds = (NICIRA, NXT_CANCEL) if version == OF10 else (ONF, ONFT_CANCEL)
    return experimenter_message(version, xid, *kinds, number.to_bytes(4, "big"))


# ---------------------------------------------------------------- updates


def encode_update(version: int, update: Update) -> bytes:
    """One part of a reply."""
    u = update
    if version >= OF14:
        size = _FULL_14.size + len(u.match) + len(u.instructions)
        head = _FULL_14.pack(
            size, _EVENTS_14[u.event], u.table, u.reason, u.idle_timeout, u.hard_timeout,
            u.priority, u.cookie,
        )  # fmt: skip
    else:
        size = _FULL_NX.size + len(u.match) + len(u.instructions)
        head = _FULL_NX.pack(
            size, _EVENTS_NX[u.event], u.reason, u.priority, u.idle_timeout, u.hard_timeout,
            u.match_size, u.table, u.cookie,
        )  # fmt: skip
    return head + u.match + u.instructions


def encode_abbreviated(version: int, xid: int) -> bytes:
    """The part of a reply that says: what the peer's message with this xid asked for was done."""
    events = _EVENTS_14 if version >= OF14 else _EVENTS_NX
    return _SHORT.pack(_SHORT.size, events[ABBREVIATED], xid)


def encode_updates(version: int, parts: Iterable[bytes], xid: int = 0) -> Iterator[bytes]:
    """The replies with these parts; xid: of the request, 0 = they come by themselves."""
    kind = MP_FLOW_MONITOR if version >= OF14 else MP_EXPERIMENTER
    return multipart_replies(version, xid, kind, parts, _prefix(version))


def encode_pause(version: int, paused: bool) -> bytes:
    """Updates are held back from now on (the peer does not read), or come again."""
    if version >= OF14:
        part = _SHORT.pack(_SHORT.size, _EVENTS_14[PAUSED if paused else RESUMED], 0)
        return next(encode_updates(version, [part]))
    if version == OF10:
        return experimenter_message(version, 0, NICIRA, NXT_PAUSED if paused else NXT_RESUMED, b"")
    return experimenter_message(version, 0, ONF, ONFT_PAUSED if paused else ONFT_RESUMED, b"")


def split_updates(version: int, msg: bytes) -> list[tuple[int, bytes]]:
    """(event, the whole part) of each part of a reply."""
    body = decode_multipart(version, msg[8:]).body[len(_prefix(version)) :]
    events = {v: k for k, v in (_EVENTS_14 if version >= OF14 else _EVENTS_NX).items()}
    if version < OF14:
        events[0] = ADDED
    found = []
    at = 0
    while at < len(body):
        size, event = take(struct.Struct("!HH"), body[at:], "a flow monitor's update")
        if size < 8 or at + size > len(body) or event not in events:
            fail("OFPBRC_BAD_LEN", f"an update of {size} bytes and type {event} cannot be here")
        found.append((events[event], body[at : at + size]))
        at += size
    return found


def decode_update(version: int, event: int, part: bytes) -> Update:
    """A part that tells of a flow."""
    if version >= OF14:
        _, _, table, reason, idle, hard, priority, cookie = take(_FULL_14, part, "an update")
        at, (_, end) = _FULL_14.size, take_match(part, _FULL_14.size)
        size = end - at
    else:
        _, _, reason, priority, idle, hard, size, table, cookie = take(_FULL_NX, part, "an update")
        at = _FULL_NX.size
        end = at + size + (-size % 8)
    return Update(
        event, reason, table, priority, idle, hard, cookie, part[at:end], size, part[end:]
    )  # fmt: skip
