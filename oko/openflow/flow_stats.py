"""Flow statistics, aggregates and flow-removed on the wire: 1.0, NXM, 1.3, 1.4 and 1.5.

Encoding is hot: a dump of 100,000 flows is encoded entry by entry. The datapath gives matches and
instructions as records of bytes (`match_bytes`, `ops`); what those are in one form of the wire is
remembered by `StatsEncoder` (instructions) and `MatchEncoder` (the form of matches).

Peers that do not know oko's extension get neither filter_prog nor send_maps (they would drop the
whole reply); StatsEncoder counts what it left out. Times are nanoseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from oko.model.compile import OP_SEND_MAPS
from oko.model.fields import FIELDS, PORT_ANY
from oko.model.flow import TABLE_ALL, Flow, Instructions, Match
from oko.openflow.common import (
    FLOW_REMOVED,
    MP_AGGREGATE,
    MP_EXPERIMENTER,
    MP_FLOW,
    MP_FLOW_STATS_15,
    NICIRA,
    OF10,
    OF13,
    OF14,
    OF15,
    OpenFlowError,
    decode_multipart,
    encode_multipart,
    experimenter_message,
    fail,
    message,
    multipart_replies,
    padded,
    port_from_10,
    port_to_10,
    sized_entries,
    take,
)
from oko.openflow.flows import encode_cookie, put_match, take_match, take_match_10, take_nxm
from oko.openflow.instructions import decode_instructions, encode_instructions
from oko.openflow.match10 import encode_match_10
from oko.openflow.match_forms import MatchEncoder
from oko.openflow.oxm import encode_match
from oko.openflow.oxs import decode_stats, encode_stats

SECOND = 1_000_000_000
EVERYTHING = Match()
NXST_FLOW, NXST_AGGREGATE = 0, 1
NXT_FLOW_REMOVED = 14

_ENTRY_10 = struct.Struct("!HBx40sIIHHH6xQQQ")
_ENTRY_NX = struct.Struct("!HBxIIHHHHHHQQQ")
_ENTRY_13 = struct.Struct("!HBxIIHHHHH2xQQQ")
# The numbers in them: what, offset, size, and what is added.
_NUMBERS = (
    ("table", 2, 1, 0), ("age_s", 4, 4, 0), ("age_ns", 8, 4, 0), ("priority", 12, 2, 0),
    ("idle_timeout", 14, 2, 0), ("hard_timeout", 16, 2, 0), ("cookie", 24, 8, 0),
    ("packets", 32, 8, 0), ("bytes", 40, 8, 0),
)  # fmt: skip
_FLAGS_13, _IMPORTANCE_14 = ("flags", 18, 2, 0), ("importance", 20, 2, 0)
_AGES_NX = (("since_use_s", 20, 2, 1), ("since_modified_s", 22, 2, 1))  # as _age()
assert _ENTRY_NX.size == _ENTRY_13.size
_ENTRY_15 = struct.Struct("!H2xBxHHHHHQ")
_COUNTERS_15 = struct.Struct("!H2xBBH")
_REQUEST_10 = struct.Struct("!40sBxH")
_REQUEST_NX = struct.Struct("!HHB3x")
_REQUEST_13 = struct.Struct("!B3xII4xQQ")
_NX_HEAD = struct.Struct("!II4x")  # experimenter, subtype
_AGGREGATE = struct.Struct("!QQI4x")


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class FlowRequest:
    """A request for flow statistics or an aggregate. filter_prog: None = not named.
    nxm: asked by NXST_*, to be answered so; counters_only: 1.5's FLOW_STATS, which tells of flows
    their match and counters alone."""

    table: int = TABLE_ALL
    match: Match = EVERYTHING
    filter_prog: int | None = None
    cookie: int = 0
    cookie_mask: int = 0
    out_port: int = PORT_ANY
    out_group: int = PORT_ANY
    aggregate: bool = False
    nxm: bool = False
    counters_only: bool = False


def decode_flow_request(version: int, msg: bytes) -> FlowRequest:
    """A multipart request of type FLOW or AGGREGATE, or NXST_FLOW or NXST_AGGREGATE."""
    part = decode_multipart(version, msg[8:])
    body = part.body
    aggregate = part.type == MP_AGGREGATE
    if part.type == MP_EXPERIMENTER:
        _, subtype = take(_NX_HEAD, body, "a statistics request of Nicira's")
        if subtype not in (NXST_FLOW, NXST_AGGREGATE):
            fail("OFPBRC_BAD_SUBTYPE", f"there are no statistics {subtype} of Nicira's")
        return _decode_nx_request(body[_NX_HEAD.size :], subtype == NXST_AGGREGATE)
    counters_only = part.type == MP_FLOW_STATS_15 and version >= OF15
    if part.type not in (MP_FLOW, MP_AGGREGATE) and not counters_only:
        fail("OFPBRC_BAD_STAT", f"multipart {part.type} does not ask for flows")
    if version == OF10:
        if len(body) != _REQUEST_10.size:
            fail("OFPBRC_BAD_LEN", f"a request for flows has {_REQUEST_10.size} bytes")
        match_bytes, table, out_port = _REQUEST_10.unpack(body)
        found = take_match_10(match_bytes)
        return FlowRequest(table, found.match, out_port=port_from_10(out_port), aggregate=aggregate)
    table, out_port, out_group, cookie, mask = take(_REQUEST_13, body, "a request for flows")
    found, end = take_match(body, _REQUEST_13.size)
    if end != len(body):
        fail("OFPBRC_BAD_LEN", "something follows the match of a request for flows")
    return FlowRequest(
        table, found.match, found.filter_prog or None, cookie, mask, out_port, out_group, aggregate,
        counters_only=counters_only,
    )  # fmt: skip


def _decode_nx_request(body: bytes, aggregate: bool) -> FlowRequest:
    out_port, size, table = take(_REQUEST_NX, body, "NXST_FLOW")
    found, end = take_nxm(body, _REQUEST_NX.size, size)
    if end != len(body):
        fail("OFPBRC_BAD_LEN", "something follows the match of NXST_FLOW")
    return FlowRequest(
        table,
        found.match,
        found.filter_prog or None,
        found.cookie,
        found.cookie_mask,
        port_from_10(out_port),
        PORT_ANY,
        aggregate,
        nxm=True,
    )


def encode_flow_request(version: int, request: FlowRequest, xid: int = 0) -> bytes:
    """The request; in 1.0 by NXM where request.nxm, or where the fixed match cannot say it."""
    program = request.filter_prog or 0
    kind = MP_AGGREGATE if request.aggregate else MP_FLOW
    if request.counters_only and version >= OF15:
        kind = MP_FLOW_STATS_15
    if version != OF10:
        body = _REQUEST_13.pack(
            request.table, request.out_port, request.out_group, request.cookie,
            request.cookie_mask,
        ) + put_match(version, request.match, program)  # fmt: skip
        return encode_multipart(version, xid, kind, body)
    out_port = port_to_10(request.out_port)
    fixed = None
    if not (program or request.cookie_mask or request.nxm):
        fixed = encode_match_10(request.match)
    if fixed is not None:
        return encode_multipart(
            version, xid, kind, _REQUEST_10.pack(fixed, request.table, out_port)
        )
    match = encode_match(version, request.match, program)
    if request.cookie_mask:
        match += encode_cookie(request.cookie, request.cookie_mask)
    head = _NX_HEAD.pack(NICIRA, NXST_AGGREGATE if request.aggregate else NXST_FLOW)
    body = head + _REQUEST_NX.pack(out_port, len(match), request.table) + padded(match)
    return encode_multipart(version, xid, MP_EXPERIMENTER, body)


# ---------------------------------------------------------------- entries


class FlowCounters(Protocol):
    """What an entry is made of: Bridge.flow_stats() gives such values."""

    @property
    def table(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def filter_prog(self) -> int: ...
    @property
    def cookie(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def importance(self) -> int: ...
    @property
    def idle_timeout(self) -> int: ...
    @property
    def hard_timeout(self) -> int: ...
    @property
    def n_packets(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...
    @property
    def duration(self) -> int: ...
    @property
    def idle_age(self) -> int: ...
    @property
    def hard_age(self) -> int: ...
    @property
    def instructions(self) -> Instructions: ...
    @property
    def match_bytes(self) -> bytes: ...
    @property
    def ops(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """A flow as a reply tells of it. Ages None: not told."""

    flow: Flow
    n_packets: int
    n_bytes: int
    duration: int
    idle_age: int | None = None
    hard_age: int | None = None


class StatsEncoder:
    """Encodes flow statistics for one peer. nxm: NXST_FLOW (1.0); counters_only: as in FlowRequest;
    aware: the peer knows oko's extension. hidden counts flows whose filter or send_maps was left
    out."""

    _LIMIT = 4096

    def __init__(
        self, version: int, *, nxm: bool = False, aware: bool = False, counters_only: bool = False
    ) -> None:
        self.version = version
        self.nxm = nxm
        self.counters_only = counters_only
        self.aware = aware
        self.hidden = 0
        self._tails: dict[tuple[bytes, int | None], tuple[bytes, bool]] = {}
        self._matches = MatchEncoder(version, nxm=nxm)
        self._match = self._matches.encode

    def _instructions(self, flow: FlowCounters, ip_proto: int | None) -> tuple[bytes, bool]:
        """(the instructions on the wire, whether something was left out)."""
        key = (flow.ops, ip_proto)
        found = self._tails.get(key)
        if found is None:
            data = encode_instructions(
                self.version, flow.instructions, ip_proto=ip_proto, lossy=True,
                send_maps=self.aware,
            )  # fmt: skip
            whole = data
            if not self.aware and OP_SEND_MAPS in flow.ops:  # perhaps: any byte may have that value
                whole = encode_instructions(
                    self.version, flow.instructions, ip_proto=ip_proto, lossy=True
                )
            found = (data, whole != data)
            if len(self._tails) >= self._LIMIT:
                self._tails.clear()
            self._tails[key] = found
        return found

    def match_and_instructions(self, flow: FlowCounters) -> tuple[bytes, int, bytes]:
        """(match with padding, its size without, instructions), for flow monitors."""
        program = flow.filter_prog if self.aware else 0
        match, ip_proto = self._match(flow.match_bytes, program)
        tail, stripped = self._instructions(flow, ip_proto)
        if stripped or program != flow.filter_prog:
            self.hidden += 1
        if self.nxm:
            return padded(match), len(match), tail
        return match, int.from_bytes(match[2:4], "big"), tail

    def numbers(self) -> tuple[tuple[str, int, int, int], ...] | None:
        """Where entry() puts the numbers of a flow, for _binding_stencils.Stencils; None: that
        differs from entry to entry, or its match has no holes()."""
        if self.version == OF10 and self.nxm:
            return _NUMBERS + _AGES_NX
        if self.version == OF13:
            return (*_NUMBERS, _FLAGS_13)
        return (*_NUMBERS, _FLAGS_13, _IMPORTANCE_14) if self.version == OF14 else None

    def fixed_fields(self) -> list[int]:
        """Numbers of the fields whose values change more of an entry than their own bytes."""
        return [number for number in range(len(FIELDS)) if not self._matches.is_free(number)]

    def holes(self, flow: FlowCounters) -> tuple[tuple[int, int], ...] | None:
        """Where entry() puts the values of a flow's match, if it has numbers(): (offset, size) of
        each, size 0 for fixed fields. None: a value does not stand there as it is."""
        match, _ = self._match(flow.match_bytes, flow.filter_prog if self.aware else 0)
        holes = self._matches.holes(flow.match_bytes, match)
        return holes and tuple((_ENTRY_13.size + at, size) for at, size in holes)

    def entry(self, flow: FlowCounters) -> bytes:
        """One entry of a reply. What the version cannot say of a flow is left out."""
        program = flow.filter_prog if self.aware else 0
        match, ip_proto = self._match(flow.match_bytes, program)
        tail, stripped = self._instructions(flow, ip_proto)
        if stripped or program != flow.filter_prog:
            self.hidden += 1
        seconds, ns = divmod(flow.duration, SECOND)
        version = self.version
        if version >= OF15:
            stats = encode_stats(flow.n_packets, flow.n_bytes, flow.duration, flow.idle_age)
            if self.counters_only:
                size = _COUNTERS_15.size + len(match) + len(stats)
                return _COUNTERS_15.pack(size, flow.table, 0, flow.priority) + match + stats
            size = _ENTRY_15.size + len(match) + len(stats) + len(tail)
            head = _ENTRY_15.pack(
                size, flow.table, flow.priority, flow.idle_timeout, flow.hard_timeout, flow.flags,
                flow.importance, flow.cookie,
            )  # fmt: skip
            return head + match + stats + tail
        if version != OF10:
            return (
                _ENTRY_13.pack(
                    _ENTRY_13.size + len(match) + len(tail), flow.table, seconds, ns,
                    flow.priority, flow.idle_timeout, flow.hard_timeout, flow.flags,
                    flow.importance if version >= OF14 else 0, flow.cookie, flow.n_packets,
                    flow.n_bytes,
                )
                + match
                + tail
            )  # fmt: skip
        if self.nxm:
            body = padded(match)
            return (
                _ENTRY_NX.pack(
                    _ENTRY_NX.size + len(body) + len(tail), flow.table, seconds, ns,
                    flow.priority, flow.idle_timeout, flow.hard_timeout, len(match),
                    _age(flow.idle_age), _age(flow.hard_age), flow.cookie, flow.n_packets,
                    flow.n_bytes,
                )
                + body
                + tail
            )  # fmt: skip
        return (
            _ENTRY_10.pack(
                _ENTRY_10.size + len(tail), flow.table, match, seconds, ns, flow.priority,
                flow.idle_timeout, flow.hard_timeout, flow.cookie, flow.n_packets, flow.n_bytes,
            )
            + tail
        )  # fmt: skip

    def replies(self, xid: int, flows: Iterable[FlowCounters]) -> Iterator[bytes]:
        """The reply messages, as few as hold all flows."""
        return self.replies_of(xid, (self.entry(flow) for flow in flows))

    def replies_of(self, xid: int, entries: Iterable[bytes]) -> Iterator[bytes]:
        """The same of entries."""
        if self.nxm:
            prefix = _NX_HEAD.pack(NICIRA, NXST_FLOW)
            return multipart_replies(self.version, xid, MP_EXPERIMENTER, entries, prefix)
        kind = MP_FLOW_STATS_15 if self.counters_only else MP_FLOW
        return multipart_replies(self.version, xid, kind, entries)


def _age(ns: int) -> int:
    """Seconds and one (0 says that the age is not known), at most what fits."""
    return min(ns // SECOND + 1, 0xFFFF)


def _age_of(code: int) -> int | None:
    return (code - 1) * SECOND if code else None


def decode_flow_stats(version: int, msg: bytes) -> list[FlowEntry]:
    """The entries of one reply (FLOW, NXST_FLOW, or 1.5's FLOW_STATS, which tells less)."""
    result = []
    for entry in iterate_flow_stats(version, msg):
        if isinstance(entry, OpenFlowError):
            raise entry
        result.append(entry)
    return result


def iterate_flow_stats(version: int, msg: bytes) -> Iterator[FlowEntry | OpenFlowError]:
    """As decode_flow_stats(); an entry with something that is not known here is its error."""
    part = decode_multipart(version, msg[8:])
    body = part.body
    nxm = part.type == MP_EXPERIMENTER
    if nxm:
        _, subtype = take(_NX_HEAD, body, "a reply of Nicira's")
        if subtype != NXST_FLOW:
            fail("OFPBRC_BAD_SUBTYPE", f"{subtype} is not NXST_FLOW")
        body = body[_NX_HEAD.size :]
    counters_only = part.type == MP_FLOW_STATS_15 and version >= OF15
    if part.type not in (MP_FLOW, MP_EXPERIMENTER) and not counters_only:
        fail("OFPBRC_BAD_STAT", f"multipart {part.type} has no flows")
    for entry in sized_entries(body, 16 if counters_only else 24):
        try:
            yield _decode_counters(entry) if counters_only else _decode_entry(version, entry, nxm)
        except OpenFlowError as exc:
            yield exc


def _decode_counters(entry: bytes) -> FlowEntry:
    _, table, _, priority = take(_COUNTERS_15, entry, "an entry")
    found, at = take_match(entry, _COUNTERS_15.size)
    stats, _ = decode_stats(entry, at)
    flow = Flow(
        table=table, priority=priority, match=found.match, filter_prog=found.filter_prog
    )  # fmt: skip
    return FlowEntry(flow, stats.n_packets, stats.n_bytes, stats.duration, stats.idle)


def _decode_entry(version: int, entry: bytes, nxm: bool) -> FlowEntry:
    flags = importance = 0
    idle_age = hard_age = None
    if version >= OF15:
        _, table, priority, idle, hard, flags, importance, cookie = take(
            _ENTRY_15, entry, "an entry"
        )
        found, at = take_match(entry, _ENTRY_15.size)
        stats, at = decode_stats(entry, at)
        n_packets, n_bytes, duration = stats.n_packets, stats.n_bytes, stats.duration
        idle_age = stats.idle
    elif version != OF10:
        (_, table, seconds, ns, priority, idle, hard, flags, importance, cookie, n_packets,
         n_bytes) = take(_ENTRY_13, entry, "an entry")  # fmt: skip
        duration = seconds * SECOND + ns
        found, at = take_match(entry, _ENTRY_13.size)
    elif nxm:
        (_, table, seconds, ns, priority, idle, hard, size, idle_code, hard_code, cookie,
         n_packets, n_bytes) = take(_ENTRY_NX, entry, "an entry")  # fmt: skip
        duration = seconds * SECOND + ns
        idle_age, hard_age = _age_of(idle_code), _age_of(hard_code)
        found, at = take_nxm(entry, _ENTRY_NX.size, size, cookie=False)
    else:
        (_, table, match, seconds, ns, priority, idle, hard, cookie, n_packets, n_bytes) = take(
            _ENTRY_10, entry, "an entry"
        )
        duration = seconds * SECOND + ns
        found, at = take_match_10(match), _ENTRY_10.size
    flow = Flow(
        table=table,
        priority=priority,
        match=found.match,
        filter_prog=found.filter_prog,
        instructions=decode_instructions(version, entry[at:], None),
        cookie=cookie,
        idle_timeout=idle,
        hard_timeout=hard,
        importance=importance if version >= OF14 else 0,
        flags=flags,
    )
    return FlowEntry(flow, n_packets, n_bytes, duration, idle_age, hard_age)


# ---------------------------------------------------------------- aggregates


def encode_aggregate(
    version: int, xid: int, n_packets: int, n_bytes: int, n_flows: int, *, nxm: bool = False
) -> bytes:
    """The reply to a request for an aggregate."""
    body = _AGGREGATE.pack(n_packets, n_bytes, n_flows)
    if version >= OF15:
        body = encode_stats(n_packets, n_bytes, n_flows=n_flows)
    if nxm:
        body = _NX_HEAD.pack(NICIRA, NXST_AGGREGATE) + body
        return encode_multipart(version, xid, MP_EXPERIMENTER, body, reply=True)
    return encode_multipart(version, xid, MP_AGGREGATE, body, reply=True)


def decode_aggregate(version: int, msg: bytes) -> tuple[int, int, int]:
    """(packets, bytes, flows) of a reply."""
    part = decode_multipart(version, msg[8:])
    body = part.body
    if part.type == MP_EXPERIMENTER:
        take(_NX_HEAD, body, "a reply of Nicira's")
        body = body[_NX_HEAD.size :]
    if version >= OF15:
        stats, _ = decode_stats(body, 0)
        return stats.n_packets, stats.n_bytes, stats.n_flows
    n_packets, n_bytes, n_flows = take(_AGGREGATE, body, "an aggregate")
    return n_packets, n_bytes, n_flows


# ---------------------------------------------------------------- flow-removed

_REMOVED_10 = struct.Struct("!40sQHBxIIH2xQQ")
_REMOVED_NX = struct.Struct("!QHBBIIHHQQ")
_REMOVED_13 = struct.Struct("!QHBBIIHHQQ")
_REMOVED_15 = struct.Struct("!BBHHHQ")
# enum ofp_flow_removed_reason
REMOVED_IDLE, REMOVED_HARD, REMOVED_DELETE, REMOVED_GROUP, REMOVED_METER, REMOVED_EVICTION = range(
    6
)


@dataclass(frozen=True, slots=True)
class RemovedFlow:
    """A flow has gone. reason: OFPRR_*. duration in ns. filter_prog 0: none, or not told."""

    reason: int
    table: int
    priority: int
    match: Match
    filter_prog: int
    cookie: int
    duration: int
    idle_timeout: int
    hard_timeout: int
    n_packets: int
    n_bytes: int


class Removed(Protocol):
    """What a flow-removed is made of: RemovedFlow, or the bridge's event."""

    @property
    def reason(self) -> int: ...
    @property
    def table(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def match(self) -> Match: ...
    @property
    def filter_prog(self) -> int: ...
    @property
    def cookie(self) -> int: ...
    @property
    def duration(self) -> int: ...
    @property
    def idle_timeout(self) -> int: ...
    @property
    def hard_timeout(self) -> int: ...
    @property
    def n_packets(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...


def encode_flow_removed(
    version: int, flow: Removed, xid: int = 0, *, nxm: bool = False, aware: bool = False
) -> bytes:
    """OFPT_FLOW_REMOVED, or NXT_FLOW_REMOVED. aware: the peer knows filter_prog."""
    program = flow.filter_prog if aware else 0
    seconds, ns = divmod(flow.duration, SECOND)
    reason = flow.reason
    if version == OF10:
        reason = min(reason, REMOVED_DELETE)  # 1.0 knows no other
    elif version < OF14 and reason in (REMOVED_METER, REMOVED_EVICTION):
        reason = REMOVED_DELETE  # these reasons came with 1.4
    if version >= OF15:
        head = _REMOVED_15.pack(
            flow.table, reason, flow.priority, flow.idle_timeout, flow.hard_timeout, flow.cookie
        )
        body = head + put_match(version, flow.match, program)
        body += encode_stats(flow.n_packets, flow.n_bytes, flow.duration)
        return message(version, FLOW_REMOVED, xid, body)
    if version != OF10:
        head = _REMOVED_13.pack(
            flow.cookie, flow.priority, reason, flow.table, seconds, ns, flow.idle_timeout,
            flow.hard_timeout, flow.n_packets, flow.n_bytes,
        )  # fmt: skip
        return message(version, FLOW_REMOVED, xid, head + put_match(version, flow.match, program))
    if nxm:
        match = encode_match(version, flow.match, program)
        head = _REMOVED_NX.pack(
            flow.cookie, flow.priority, reason, flow.table + 1, seconds, ns, flow.idle_timeout,
            len(match), flow.n_packets, flow.n_bytes,
        )  # fmt: skip
        return experimenter_message(version, xid, NICIRA, NXT_FLOW_REMOVED, head + padded(match))
    body = _REMOVED_10.pack(
        encode_match_10(flow.match, lossy=True), flow.cookie, flow.priority, reason, seconds, ns,
        flow.idle_timeout, flow.n_packets, flow.n_bytes,
    )  # fmt: skip
    return message(version, FLOW_REMOVED, xid, body)


def decode_flow_removed(version: int, msg: bytes) -> RemovedFlow:
    """The inverse of encode_flow_removed(). What 1.0 does not tell (table, hard timeout) is 0."""
    what = "a flow-removed"
    table = hard = 0
    if version >= OF15:
        table, reason, priority, idle, hard, cookie = take(_REMOVED_15, msg[8:], what)
        found, at = take_match(msg, 8 + _REMOVED_15.size)
        stats, _ = decode_stats(msg, at)
        n_packets, n_bytes, duration = stats.n_packets, stats.n_bytes, stats.duration
    elif version != OF10:
        (cookie, priority, reason, table, seconds, ns, idle, hard, n_packets, n_bytes) = take(
            _REMOVED_13, msg[8:], what
        )
        duration = seconds * SECOND + ns
        found, _ = take_match(msg, 8 + _REMOVED_13.size)
    elif msg[1:2] == bytes((FLOW_REMOVED,)):
        match, cookie, priority, reason, seconds, ns, idle, n_packets, n_bytes = take(
            _REMOVED_10, msg[8:], what
        )
        duration = seconds * SECOND + ns
        found = take_match_10(match)
    else:
        (cookie, priority, reason, code, seconds, ns, idle, size, n_packets, n_bytes) = take(
            _REMOVED_NX, msg[16:], what
        )
        duration, table = seconds * SECOND + ns, max(0, code - 1)
        found, _ = take_nxm(msg, 16 + _REMOVED_NX.size, size, cookie=False)
    return RemovedFlow(
        reason, table, priority, found.match, found.filter_prog, cookie, duration, idle, hard,
        n_packets, n_bytes,
    )  # fmt: skip
