"""What a switch says, read by a client: features, ports, counters, packets; and how one asks.

The other half of messages.py, which is the switch's side. Flows, groups and meters have modules of
their own. Layouts are those of OpenFlow 1.0 (section 5), 1.3.5 and 1.4 (section 7), and
nicira-ext.h.

Counters that a switch does not keep are all ones on the wire and None here. Pure functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from oko.model.actions import Action
from oko.model.fields import PORT_ANY, PORT_CONTROLLER, field
from oko.model.flow import Match
from oko.openflow.actions import encode_actions
from oko.openflow.common import (
    EXPERIMENTER,
    MP_PORT,
    MP_PORT_DESC,
    MP_QUEUE,
    NICIRA,
    OF10,
    OF14,
    OF15,
    PACKET_OUT,
    TYPES,
    decode_multipart,
    encode_multipart,
    fail,
    message,
    port_from_10,
    port_to_10,
    take,
)
from oko.openflow.flows import put_match, take_match, take_nxm

SECOND = 1_000_000_000
NO_BUFFER = 0xFFFFFFFF
NXT_PACKET_IN, NXT_PACKET_IN2 = 17, 30
_UNKNOWN = (1 << 64) - 1
QUEUE_ALL = 0xFFFFFFFF
_NOTHING = Match()


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def _known(value: int) -> int | None:
    return None if value == _UNKNOWN else value


# ---------------------------------------------------------------- ports


@dataclass(frozen=True, slots=True)
class PortDesc:
    """A port. config, state, curr, ..: bits of this version; speeds in kbit/s, 0 = not told."""

    number: int
    name: str
    hw_addr: int
    config: int = 0
    state: int = 0
    curr: int = 0
    advertised: int = 0
    supported: int = 0
    peer: int = 0
    curr_speed: int = 0
    max_speed: int = 0


_PORT_10 = struct.Struct("!H6s16sIIIIII")
_PORT_13 = struct.Struct("!I4x6s2x16sIIIIIIII")
_PORT_14 = struct.Struct("!IH2x6s2x16sII")
_ETHERNET = struct.Struct("!HH4xIIIIII")


def decode_ports(version: int, data: bytes) -> list[PortDesc]:
    """The ports that fill these bytes."""
    found = []
    at = 0
    while at < len(data):
        port, at = _decode_port(version, data, at)
        found.append(port)
    return found


def _decode_port(version: int, data: bytes, at: int) -> tuple[PortDesc, int]:
    if version == OF10:
        number, address, name, *rest = take(_PORT_10, data[at:], "a port")
        desc = PortDesc(port_from_10(number), _text(name), int.from_bytes(address, "big"), *rest)
        return desc, at + _PORT_10.size
    if version < OF14:
        number, address, name, *rest = take(_PORT_13, data[at:], "a port")
        return PortDesc(
            number, _text(name), int.from_bytes(address, "big"), *rest
        ), at + _PORT_13.size
    number, size, address, name, config, state = take(_PORT_14, data[at:], "a port")
    if size < _PORT_14.size or at + size > len(data):
        fail("OFPBRC_BAD_LEN", f"a port cannot have {size} bytes here")
    speeds: tuple[int, ...] = ()
    for kind, body in _properties(data[at + _PORT_14.size : at + size]):
        if kind == 0 and len(body) >= 28:
            speeds = struct.unpack_from("!4x6I", body)
    desc = PortDesc(number, _text(name), int.from_bytes(address, "big"), config, state, *speeds)
    return desc, at + size


def _properties(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, what follows type and length) of each property of 1.4."""
    at = 0
    while at < len(data):
        kind, size = take(struct.Struct("!HH"), data[at:], "a property")
        if size < 4 or at + size > len(data):
            fail("OFPBPC_BAD_LEN", f"a property cannot have {size} bytes here")
        yield kind, data[at + 4 : at + size]
        at += size + (-size % 8)


def decode_port_desc(version: int, msg: bytes) -> list[PortDesc]:
    """The ports of one PORT_DESC reply."""
    return decode_ports(version, decode_multipart(version, msg[8:]).body)


def encode_port_desc_request(version: int, port: int | None = None) -> bytes:
    """Asks for the ports (1.5: for one)."""
    body = b""
    if version >= OF15:
        body = struct.pack("!I4x", PORT_ANY if port is None else port)
    return encode_multipart(version, 0, MP_PORT_DESC, body)


@dataclass(frozen=True, slots=True)
class PortStatusMessage:
    """A port came (0), went (1) or changed (2)."""

    reason: int
    port: PortDesc


def decode_port_status(version: int, msg: bytes) -> PortStatusMessage:
    """PORT_STATUS."""
    (reason,) = take(struct.Struct("!B7x"), msg[8:], "a port's status")
    return PortStatusMessage(reason, _decode_port(version, msg, 16)[0])


def encode_port_mod(version: int, port: PortDesc, config: int, mask: int) -> bytes:
    """Changes the bits of mask in a port's configuration."""
    address = port.hw_addr.to_bytes(6, "big")
    kind = TYPES[version]["PORT_MOD"]
    if version == OF10:
        body = struct.pack("!H6sIII4x", port_to_10(port.number), address, config, mask, 0)
    elif version < OF14:
        body = struct.pack("!I4x6s2xIII4x", port.number, address, config, mask, 0)
    else:
        body = struct.pack("!I4x6s2xIIHHI", port.number, address, config, mask, 0, 8, 0)
    return message(version, kind, 0, body)


# ---------------------------------------------------------------- the switch


@dataclass(frozen=True, slots=True)
class Features:
    """FEATURES_REPLY. actions and ports: 1.0 only (bits 1 << OFPAT_*)."""

    dpid: int
    n_buffers: int
    n_tables: int
    auxiliary: int
    capabilities: int
    actions: int
    ports: tuple[PortDesc, ...]


def decode_features(version: int, msg: bytes) -> Features:
    """FEATURES_REPLY."""
    form = struct.Struct("!QIBB2xII")
    dpid, n_buffers, n_tables, auxiliary, capabilities, last = take(form, msg[8:], "features")
    ports = decode_ports(version, msg[8 + form.size :]) if version == OF10 else []
    if version == OF10:
        auxiliary = 0
    else:
        last = 0
    return Features(dpid, n_buffers, n_tables, auxiliary, capabilities, last, tuple(ports))


@dataclass(frozen=True, slots=True)
class SwitchConfig:
    """GET_CONFIG_REPLY. flags: OFPC_FRAG_*."""

    flags: int
    miss_send_len: int


def decode_config(msg: bytes) -> SwitchConfig:
    """GET_CONFIG_REPLY, SET_CONFIG."""
    return SwitchConfig(*take(struct.Struct("!HH"), msg[8:], "a configuration"))


@dataclass(frozen=True, slots=True)
class Description:
    """Who made the switch."""

    manufacturer: str
    hardware: str
    software: str
    serial: str
    dp: str


def decode_description(version: int, msg: bytes) -> Description:
    """The reply to a DESC request."""
    form = struct.Struct("!256s256s256s32s256s")
    fields = take(form, decode_multipart(version, msg[8:]).body, "a description")
    return Description(*(_text(part) for part in fields))


# ---------------------------------------------------------------- counters


@dataclass(frozen=True, slots=True)
class PortCounters:
    """Counters of a port; None: not kept. custom: names and values that a switch adds."""

    number: int
    rx_packets: int | None
    tx_packets: int | None
    rx_bytes: int | None
    tx_bytes: int | None
    rx_dropped: int | None
    tx_dropped: int | None
    rx_errors: int | None
    tx_errors: int | None
    rx_frame_errors: int | None = None
    rx_over_errors: int | None = None
    rx_crc_errors: int | None = None
    collisions: int | None = None
    duration: int | None = None
    custom: tuple[tuple[str, int], ...] = ()


def encode_port_request(version: int, port: int | None = None) -> bytes:
    """Asks for the counters of a port, or of all."""
    number = PORT_ANY if port is None else port
    if version == OF10:
        body = struct.pack("!H6x", 0xFFFF if port is None else port_to_10(number))
    else:
        body = struct.pack("!I4x", number)
    return encode_multipart(version, 0, MP_PORT, body)


def decode_port_stats(version: int, msg: bytes) -> list[PortCounters]:
    """The entries of one PORT reply."""
    body = decode_multipart(version, msg[8:]).body
    found = []
    at = 0
    twelve = struct.Struct("!12Q")
    while at < len(body):
        duration: int | None = None
        custom: tuple[tuple[str, int], ...] = ()
        if version == OF10:
            (number,) = take(struct.Struct("!H6x"), body[at:], "a port's counters")
            values = take(twelve, body[at + 8 :], "a port's counters")
            number, at = port_from_10(number), at + 8 + twelve.size
        elif version < OF14:
            (number,) = take(struct.Struct("!I4x"), body[at:], "a port's counters")
            values = take(twelve, body[at + 8 :], "a port's counters")
            duration = _duration(body[at + 104 :])
            at += 112
        else:
            form = struct.Struct("!H2xIII8Q")
            size, number, seconds, ns, *some = take(form, body[at:], "a port's counters")
            if size < form.size or at + size > len(body):
                fail("OFPBRC_BAD_LEN", f"an entry cannot have {size} bytes here")
            duration = None if seconds == 0xFFFFFFFF else seconds * SECOND + ns
            more: tuple[int, ...] = (_UNKNOWN,) * 4
            for kind, inner in _properties(body[at + form.size : at + size]):
                if kind == 0 and len(inner) >= 36:
                    more = struct.unpack_from("!4x4Q", inner)
                elif kind == 0xFFFF:
                    custom += _custom(inner)
            values, at = (*some, *more), at + size
        a, b, c, d, e, f, g, h, i, j, k, n = (_known(value) for value in values)
        found.append(PortCounters(number, a, b, c, d, e, f, g, h, i, j, k, n, duration, custom))
    return found


def _duration(data: bytes) -> int | None:
    seconds, ns = take(struct.Struct("!II"), data, "a duration")
    return None if seconds == 0xFFFFFFFF else int(seconds * SECOND + ns)


_INTEL = 0x0000AA01
_INTEL_CUSTOM = 2


def _custom(data: bytes) -> tuple[tuple[str, int], ...]:
    """Counters by name, as Open vSwitch adds them (intel-ext.h, INTEL_PORT_STATS_CUSTOM)."""
    if len(data) < 12 or struct.unpack_from("!II", data) != (_INTEL, _INTEL_CUSTOM):
        return ()
    (n,) = struct.unpack_from("!H", data, 10)
    found = []
    at = 12
    for _ in range(n):
        if at >= len(data) or at + 1 + data[at] + 8 > len(data):
            break
        end = at + 1 + data[at]
        name, value = _text(data[at + 1 : end]), int.from_bytes(data[end : end + 8], "big")
        found.append((name, value))
        at = end + 8
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TableCounters:
    """Counters of a table. wildcards, max_entries: 1.0 only."""

    number: int
    name: str
    n_flows: int
    lookups: int
    matches: int
    max_entries: int = 0
    wildcards: int = 0


def decode_table_stats(version: int, msg: bytes) -> list[TableCounters]:
    """The entries of one TABLE reply."""
    body = decode_multipart(version, msg[8:]).body
    form = struct.Struct("!B3x32sIIIQQ" if version == OF10 else "!B3xIQQ")
    if len(body) % form.size:
        fail("OFPBRC_BAD_LEN", "the reply ends inside of an entry")
    if version != OF10:
        return [TableCounters(row[0], "", *row[1:]) for row in form.iter_unpack(body)]
    return [
        TableCounters(number, _text(name), flows, looked, hit, most, wild)
        for number, name, wild, most, flows, looked, hit in form.iter_unpack(body)
    ]


@dataclass(frozen=True, slots=True)
class QueueCounters:
    """Counters of a queue; None: not kept."""

    port: int
    queue: int
    n_bytes: int | None
    n_packets: int | None
    n_errors: int | None
    duration: int | None = None


def encode_queue_request(version: int, port: int | None, queue: int | None) -> bytes:
    """Asks for the counters of queues."""
    number = QUEUE_ALL if queue is None else queue
    if version == OF10:
        wanted = 0xFFFC if port is None else port_to_10(port)
        body = struct.pack("!H2xI", wanted, number)
    else:
        body = struct.pack("!II", PORT_ANY if port is None else port, number)
    return encode_multipart(version, 0, MP_QUEUE, body)


def decode_queue_stats(version: int, msg: bytes) -> list[QueueCounters]:
    """The entries of one QUEUE reply."""
    body = decode_multipart(version, msg[8:]).body
    found = []
    at = 0
    while at < len(body):
        duration: int | None = None
        if version == OF10:
            form = struct.Struct("!H2xIQQQ")
            port, queue, *counters = take(form, body[at:], "a queue's counters")
            port, at = port_from_10(port), at + form.size
        elif version < OF14:
            form = struct.Struct("!IIQQQII")
            port, queue, *counters, seconds, ns = take(form, body[at:], "a queue's counters")
            duration = None if seconds == 0xFFFFFFFF else seconds * SECOND + ns
            at += form.size
        else:
            form = struct.Struct("!H6xIIQQQII")
            size, port, queue, *counters, seconds, ns = take(form, body[at:], "a queue's counters")
            if size < form.size:
                fail("OFPBRC_BAD_LEN", f"an entry cannot have {size} bytes")
            duration = None if seconds == 0xFFFFFFFF else seconds * SECOND + ns
            at += size
        n_bytes, n_packets, n_errors = (_known(c) for c in counters)
        found.append(QueueCounters(port, queue, n_bytes, n_packets, n_errors, duration))
    return found


# ---------------------------------------------------------------- packets


@dataclass(frozen=True, slots=True)
class PacketInMessage:
    """A packet that the switch sends up. match: what it carried beside its bytes; total_len: the
    frame's length, of which data may be a part. table None: not told."""

    reason: int
    data: bytes
    total_len: int
    in_port: int
    buffer_id: int = NO_BUFFER
    table: int | None = None
    cookie: int | None = None
    match: Match = _NOTHING


def decode_packet_in(version: int, msg: bytes) -> PacketInMessage:
    """PACKET_IN, or NXT_PACKET_IN."""
    if msg[1] == EXPERIMENTER:
        return _decode_nx_packet_in(msg)
    if version == OF10:
        form = struct.Struct("!IHHBx")
        buffer_id, total, port, reason = take(form, msg[8:], "a packet-in")
        return PacketInMessage(reason, msg[18:], total, port_from_10(port), buffer_id)
    form = struct.Struct("!IHBBQ")
    buffer_id, total, reason, table, cookie = take(form, msg[8:], "a packet-in")
    found, end = take_match(msg, 24)
    in_port = found.match.exact("in_port") or 0
    return PacketInMessage(
        reason, msg[end + 2 :], total, in_port, buffer_id, table, cookie, found.match
    )


def _decode_nx_packet_in(msg: bytes) -> PacketInMessage:
    experimenter, kind = take(struct.Struct("!II"), msg[8:], "an experimenter's message")
    if (experimenter, kind) != (NICIRA, NXT_PACKET_IN):
        fail("OFPBRC_BAD_SUBTYPE", f"message {kind} of {experimenter:#x} is no packet-in")
    form = struct.Struct("!IHBBQH6x")
    buffer_id, total, reason, table, cookie, size = take(form, msg[16:], "NXT_PACKET_IN")
    found, end = take_nxm(msg, 16 + form.size, size, cookie=False)
    in_port = found.match.exact("in_port") or 0
    return PacketInMessage(
        reason, msg[end + 2 :], total, in_port, buffer_id, table, cookie, found.match
    )


def encode_packet_out(
    version: int, in_port: int, actions: tuple[Action, ...], data: bytes
) -> bytes:
    """Sends a packet through actions. OpenFlowError if it is too long."""
    body = encode_actions(version, actions)
    if version == OF10:
        port = 0xFFFF if in_port == PORT_ANY else port_to_10(in_port)
        head = struct.pack("!IHH", NO_BUFFER, port, len(body))
    elif version < OF15:
        number = PORT_CONTROLLER if in_port == PORT_ANY else in_port
        head = struct.pack("!IIH6x", NO_BUFFER, number, len(body))
    else:
        in_port_field = field("in_port")
        match = Match.of({in_port_field: (in_port, in_port_field.all_ones)})
        head = struct.pack("!IH2x", NO_BUFFER, len(body)) + put_match(version, match)
    return message(version, PACKET_OUT, 0, head + body + data)
