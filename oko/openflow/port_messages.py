"""Ports and queues on the wire: descriptions, status, mod, counters, in both directions.

1.4 puts speeds and error counters into properties and adds optical ones, which oko neither sends
nor needs. OpenFlow 1.0 cannot name ports between 0xff00 and its reserved ones: it is not told of
them. Times are ns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from oko.model.fields import PORT_ANY
from oko.openflow.common import (
    MP_PORT,
    MP_PORT_DESC,
    MP_QUEUE,
    MP_QUEUE_DESC,
    OF10,
    OF14,
    OF15,
    PORT_STATUS,
    TYPES,
    OpenFlowError,
    decode_multipart,
    encode_multipart,
    fail,
    message,
    multipart_replies,
    port_from_10,
    port_to_10,
    take,
)

SECOND = 1_000_000_000
QUEUE_ALL = 0xFFFFFFFF
NO_FLOOD_10 = 16  # OFPPC_NO_FLOOD
_PORT_10 = struct.Struct("!H6s16sIIIIII")
_PORT_13 = struct.Struct("!I4x6s2x16sIIIIIIII")
_PORT_14 = struct.Struct("!IH2x6s2x16sII")
_ETHERNET_14 = struct.Struct("!HH4xIIIIII")
_PROPERTY = struct.Struct("!HH")


class PortLike(Protocol):
    """What is told of a port (oko.switch.ports.Port). Speeds in kbit/s."""

    @property
    def number(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def hw_addr(self) -> int: ...
    @property
    def config(self) -> int: ...
    @property
    def state(self) -> int: ...
    @property
    def curr(self) -> int: ...
    @property
    def advertised(self) -> int: ...
    @property
    def supported(self) -> int: ...
    @property
    def peer(self) -> int: ...
    @property
    def curr_speed(self) -> int: ...
    @property
    def max_speed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PortDesc:
    """struct ofp_port: config OFPPC_*, state OFPPS_*, speeds in kbit/s (1.0 has none)."""

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


def fits_10(port: int) -> bool:
    """Has this port a number in OpenFlow 1.0?"""
    return port < 0xFF00 or port >= 0xFFFFFFF8


# ---------------------------------------------------------------- descriptions


def encode_port(version: int, port: PortLike) -> bytes:
    """struct ofp_port (1.0: ofp_phy_port)."""
    address = port.hw_addr.to_bytes(6, "big")
    name = port.name.encode()[:15]
    speeds = (port.curr, port.advertised, port.supported, port.peer)
    if version == OF10:
        state = port.state & 1
        return _PORT_10.pack(port_to_10(port.number), address, name, port.config, state, *speeds)
    config = port.config & ~NO_FLOOD_10
    rates = (port.curr_speed, port.max_speed)
    if version < OF14:
        return _PORT_13.pack(port.number, address, name, config, port.state, *speeds, *rates)
    ethernet = _ETHERNET_14.pack(0, _ETHERNET_14.size, *speeds, *rates)
    size = _PORT_14.size + len(ethernet)
    return _PORT_14.pack(port.number, size, address, name, config, port.state) + ethernet


def _desc(number: int, address: bytes, name: bytes, *rest: int) -> PortDesc:
    text = name.split(b"\0", 1)[0].decode("utf-8", "replace")
    return PortDesc(number, text, int.from_bytes(address, "big"), *rest)


def decode_ports(version: int, data: bytes) -> list[PortDesc]:
    """Descriptions, one after another."""
    found = []
    at = 0
    while at < len(data):
        if version == OF10:
            number, *rest = take(_PORT_10, data[at:], "a port")
            found.append(_desc(port_from_10(number), *rest))
            at += _PORT_10.size
        elif version < OF14:
            found.append(_desc(*take(_PORT_13, data[at:], "a port")))
            at += _PORT_13.size
        else:
            number, size, *rest = take(_PORT_14, data[at:], "a port")
            if size < _PORT_14.size or at + size > len(data):
                fail("OFPBRC_BAD_LEN", f"a port's description cannot have {size} bytes here")
            speeds: tuple[int, ...] = ()
            for kind, body in properties(data[at + _PORT_14.size : at + size]):
                if kind == 0:
                    speeds = take(struct.Struct("!4xIIIIII"), body, "an Ethernet port")
            found.append(_desc(number, *rest, *speeds))
            at += size
    return found


def properties(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, what follows the length) of a list of properties, each padded to 8 bytes."""
    at = 0
    while at < len(data):
        kind, size = take(_PROPERTY, data[at:], "a property")
        if size < _PROPERTY.size or at + size > len(data):
            fail("OFPBRC_BAD_LEN", f"a property cannot have {size} bytes here")
        yield kind, data[at + _PROPERTY.size : at + size]
        at += size + (-size % 8)


def encode_port_desc_request(version: int, xid: int = 0, port: int = PORT_ANY) -> bytes:
    """Asks for descriptions; 1.5 can ask for one port's."""
    body = struct.pack("!I4x", port) if version >= OF15 else b""
    return encode_multipart(version, xid, MP_PORT_DESC, body)


def decode_port_desc_request(version: int, body: bytes) -> int | None:
    """The port asked for; None: all."""
    if version < OF15 or not body:
        return None
    (number,) = take(struct.Struct("!I4x"), body, "a request for ports")
    return None if number == PORT_ANY else int(number)


def port_desc_replies(version: int, xid: int, ports: Iterable[PortLike]) -> Iterator[bytes]:
    """The replies to a PORT_DESC request."""
    told = (encode_port(version, p) for p in ports if version != OF10 or fits_10(p.number))
    return multipart_replies(version, xid, MP_PORT_DESC, told)


def decode_port_desc(version: int, msg: bytes) -> list[PortDesc]:
    """The ports of one PORT_DESC reply."""
    return decode_ports(version, decode_multipart(version, msg[8:]).body)


def encode_port_status(version: int, reason: int, port: PortLike) -> bytes:
    """PORT_STATUS. reason: OFPPR_*."""
    body = struct.pack("!B7x", reason) + encode_port(version, port)
    return message(version, PORT_STATUS, 0, body)


def decode_port_status(version: int, msg: bytes) -> tuple[int, PortDesc]:
    """(reason, port)."""
    (reason,) = take(struct.Struct("!B7x"), msg[8:], "a port status")
    ports = decode_ports(version, msg[16:])
    if len(ports) != 1:
        fail("OFPBRC_BAD_LEN", "a port status tells of one port")
    return reason, ports[0]


# ---------------------------------------------------------------- port-mod

_MOD_10 = struct.Struct("!H6sIII4x")
_MOD_13 = struct.Struct("!I4x6s2xIII4x")
_MOD_14 = struct.Struct("!I4x6s2xII")
_CONFIG_10 = 0x7F
_CONFIG_13 = 1 | 4 | 32 | 64


@dataclass(frozen=True, slots=True)
class PortMod:
    """PORT_MOD: sets the OFPPC_* bits in mask. advertise: OFPPF_*, 0 = unchanged."""

    number: int
    hw_addr: int
    config: int
    mask: int
    advertise: int = 0


def encode_port_mod(version: int, mod: PortMod, xid: int = 0) -> bytes:
    """PORT_MOD."""
    address = mod.hw_addr.to_bytes(6, "big")
    rest = (mod.config, mod.mask, mod.advertise)
    if version == OF10:
        body = _MOD_10.pack(port_to_10(mod.number), address, *rest)
    elif version < OF14:
        body = _MOD_13.pack(mod.number, address, *rest)
    else:
        body = _MOD_14.pack(mod.number, address, mod.config, mod.mask)
        if mod.advertise:
            body += struct.pack("!HHI", 0, 8, mod.advertise)
    return message(version, TYPES[version]["PORT_MOD"], xid, body)


def decode_port_mod(version: int, msg: bytes) -> PortMod:
    """PORT_MOD."""
    body = msg[8:]
    advertise = 0
    if version == OF10:
        number, address, config, mask, advertise = take(_MOD_10, body, "a port-mod")
        number, bits = port_from_10(number), _CONFIG_10
    elif version < OF14:
        number, address, config, mask, advertise = take(_MOD_13, body, "a port-mod")
        bits = _CONFIG_13
    else:
        number, address, config, mask = take(_MOD_14, body, "a port-mod")
        bits = _CONFIG_13
        for kind, value in properties(body[_MOD_14.size :]):
            if kind == 0 and len(value) == 4:
                advertise = int.from_bytes(value, "big")
            elif kind != 1:  # optical: nothing to set
                fail("OFPBPC_BAD_TYPE", f"there is no property {kind} of a port-mod")
    if mask & ~bits:
        fail("OFPPMFC_BAD_CONFIG", f"there are no configuration bits {mask & ~bits:#x}")
    return PortMod(number, int.from_bytes(address, "big"), config, mask, advertise)


# ---------------------------------------------------------------- counters


@dataclass(frozen=True, slots=True)
class PortCounters:
    """Counters of a port, and ns since it is there (1.0 does not say: 0). None: the switch does not
    keep it. custom: what Open vSwitch adds in 1.4, by name."""

    number: int
    rx_packets: int | None
    tx_packets: int | None
    rx_bytes: int | None
    tx_bytes: int | None
    rx_dropped: int | None
    tx_dropped: int | None
    rx_errors: int | None = 0
    tx_errors: int | None = 0
    duration: int | None = 0
    rx_frame_errors: int | None = 0
    rx_over_errors: int | None = 0
    rx_crc_errors: int | None = 0
    collisions: int | None = 0
    custom: tuple[tuple[str, int], ...] = ()


class PortCountersLike(Protocol):
    """Counters of a port (oko.switch.ports.PortStats)."""

    @property
    def number(self) -> int: ...
    @property
    def rx_packets(self) -> int: ...
    @property
    def tx_packets(self) -> int: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def rx_dropped(self) -> int: ...
    @property
    def tx_dropped(self) -> int: ...
    @property
    def rx_errors(self) -> int: ...
    @property
    def tx_errors(self) -> int: ...
    @property
    def duration(self) -> int: ...


_COUNTERS = struct.Struct("!8Q")
_STATS_14 = struct.Struct("!H2xIII")
_DETAILS = 32  # frame, overrun and CRC errors, collisions: not counted


def encode_port_stats_request(version: int, port: int | None = None, xid: int = 0) -> bytes:
    """Asks for counters of one port, or (None) of all."""
    if version == OF10:
        body = struct.pack("!H6x", 0xFFFF if port is None else port_to_10(port))
    else:
        body = struct.pack("!I4x", PORT_ANY if port is None else port)
    return encode_multipart(version, xid, MP_PORT, body)


def decode_port_stats_request(version: int, body: bytes) -> int | None:
    """The port asked for; None: all."""
    if version == OF10:
        number = port_from_10(take(struct.Struct("!H6x"), body, "a request for ports")[0])
        return None if number == PORT_ANY else number
    (number,) = take(struct.Struct("!I4x"), body, "a request for ports")
    return None if number == PORT_ANY else int(number)


def encode_port_stats(version: int, p: PortCountersLike) -> bytes:
    """One entry of a PORT reply."""
    counters = _COUNTERS.pack(
        p.rx_packets, p.tx_packets, p.rx_bytes, p.tx_bytes,
        p.rx_dropped, p.tx_dropped, p.rx_errors, p.tx_errors,
    )  # fmt: skip
    duration = divmod(p.duration, SECOND)
    if version == OF10:
        return struct.pack("!H6x", port_to_10(p.number)) + counters + bytes(_DETAILS)
    if version < OF14:
        tail = bytes(_DETAILS) + struct.pack("!II", *duration)
        return struct.pack("!I4x", p.number) + counters + tail
    ethernet = struct.pack("!HH4x4Q", 0, 40, 0, 0, 0, 0)
    size = _STATS_14.size + len(counters) + len(ethernet)
    return _STATS_14.pack(size, p.number, *duration) + counters + ethernet


def port_stats_replies(
    version: int, xid: int, counters: Iterable[PortCountersLike]
) -> Iterator[bytes]:
    """The replies to a PORT request."""
    told = (encode_port_stats(version, p) for p in counters if version != OF10 or fits_10(p.number))
    return multipart_replies(version, xid, MP_PORT, told)


_UNKNOWN = (1 << 64) - 1
_FOUR = struct.Struct("!4Q")
_INTEL, _INTEL_CUSTOM = 0x0000AA01, 2  # Open vSwitch's intel-ext.h: counters by name


def _kept(value: int) -> int | None:
    return None if value == _UNKNOWN else value


def _age(seconds: int, ns: int) -> int | None:
    return None if seconds == 0xFFFFFFFF else seconds * SECOND + ns


def decode_port_stats(version: int, msg: bytes) -> list[PortCounters]:
    """The entries of one PORT reply."""
    body = decode_multipart(version, msg[8:]).body
    found = []
    at = 0
    while at < len(body):
        seconds = ns = 0
        custom: tuple[tuple[str, int], ...] = ()
        details = bytes([255]) * _FOUR.size
        if version >= OF14:
            size, number, seconds, ns = take(_STATS_14, body[at:], "a port's counters")
            start = at + _STATS_14.size
            if size < _STATS_14.size + _COUNTERS.size or at + size > len(body):
                fail("OFPBRC_BAD_LEN", f"a port's counters cannot have {size} bytes here")
            for kind, inner in properties(body[start + _COUNTERS.size : at + size]):
                if kind == 0 and len(inner) >= 4 + _FOUR.size:
                    details = inner[4:]
                elif kind == 0xFFFF:
                    custom += _custom(inner)
        else:
            (number,) = take(struct.Struct("!H6x" if version == OF10 else "!I4x"), body[at:], "it")
            number = port_from_10(number) if version == OF10 else number
            start = at + 8
            size = 8 + _COUNTERS.size + _DETAILS + (0 if version == OF10 else 8)
            if version != OF10:
                seconds, ns = take(struct.Struct("!II"), body[at + size - 8 :], "a port's age")
            details = body[start + _COUNTERS.size :]
        a, b, c, d, e, f, g, h = map(_kept, take(_COUNTERS, body[start:], "a port's counters"))
        frame, over, crc, collisions = map(_kept, take(_FOUR, details, "a port's counters"))
        found.append(
            PortCounters(
                number, a, b, c, d, e, f, g, h, _age(seconds, ns), frame, over, crc, collisions,
                custom,
            )
        )  # fmt: skip
        at += size
    return found


def _custom(data: bytes) -> tuple[tuple[str, int], ...]:
    """Counters by name: u16 how many, then of each a length, its name, and 64 bits."""
    if len(data) < 12 or struct.unpack_from("!II", data) != (_INTEL, _INTEL_CUSTOM):
        return ()
    (n,) = struct.unpack_from("!H", data, 10)
    found = []
    at = 12
    for _ in range(n):
        if at >= len(data) or at + 1 + data[at] + 8 > len(data):
            break
        end = at + 1 + data[at]
        name = data[at + 1 : end].split(b"\0", 1)[0].decode("utf-8", "replace")
        found.append((name, int.from_bytes(data[end : end + 8], "big")))
        at = end + 8
    return tuple(found)


# ---------------------------------------------------------------- queues


@dataclass(frozen=True, slots=True)
class QueueCounters:
    """Counters of a queue, and ns since it is there (1.0 does not say: 0). None: the switch does
    not keep it."""

    port: int
    queue: int
    tx_bytes: int | None
    tx_packets: int | None
    tx_errors: int | None = 0
    duration: int | None = 0


_QUEUE_REQUEST_10 = struct.Struct("!H2xI")
_QUEUE_REQUEST = struct.Struct("!II")
_QUEUE_10 = struct.Struct("!H2xIQQQ")
_QUEUE_13 = struct.Struct("!IIQQQII")
_QUEUE_14 = struct.Struct("!H6xIIQQQII")


def encode_queue_request(
    version: int, kind: int = MP_QUEUE, port: int = PORT_ANY, queue: int = QUEUE_ALL, xid: int = 0
) -> bytes:
    """Asks for counters (MP_QUEUE), or in 1.4 descriptions (MP_QUEUE_DESC)."""
    if version == OF10:
        body = _QUEUE_REQUEST_10.pack(0xFFFC if port == PORT_ANY else port_to_10(port), queue)
    else:
        body = _QUEUE_REQUEST.pack(port, queue)
    return encode_multipart(version, xid, kind, body)


def decode_queue_request(version: int, body: bytes) -> tuple[int, int]:
    """(port, queue): PORT_ANY and QUEUE_ALL stand for all."""
    if version != OF10:
        port, queue = take(_QUEUE_REQUEST, body, "a request for queues")
        return port, queue
    port, queue = take(_QUEUE_REQUEST_10, body, "a request for queues")
    return PORT_ANY if port in (0xFFFC, 0xFFFF) else port_from_10(port), queue  # OFPP_ALL


def encode_queue_stats(version: int, q: QueueCounters) -> bytes:
    """One entry of a QUEUE reply."""
    kept = (q.tx_bytes, q.tx_packets, q.tx_errors)
    counters = [_UNKNOWN if counter is None else counter for counter in kept]
    if version == OF10:
        return _QUEUE_10.pack(port_to_10(q.port), q.queue, *counters)
    unknown = (0xFFFFFFFF, 0xFFFFFFFF)
    duration = unknown if q.duration is None else divmod(q.duration, SECOND)
    if version < OF14:
        return _QUEUE_13.pack(q.port, q.queue, *counters, *duration)
    return _QUEUE_14.pack(_QUEUE_14.size, q.port, q.queue, *counters, *duration)


def queue_stats_replies(
    version: int, xid: int, counters: Iterable[QueueCounters]
) -> Iterator[bytes]:
    """The replies to a QUEUE request."""
    told = (encode_queue_stats(version, q) for q in counters)
    return multipart_replies(version, xid, MP_QUEUE, told)


def decode_queue_stats(version: int, msg: bytes) -> list[QueueCounters]:
    """The entries of one QUEUE reply."""
    body = decode_multipart(version, msg[8:]).body
    form = _QUEUE_10 if version == OF10 else _QUEUE_13 if version < OF14 else _QUEUE_14
    found = []
    at = 0
    while at < len(body):
        row = take(form, body[at:], "a queue's counters")
        size = form.size
        if version >= OF14:
            size, row = row[0], row[1:]
            if size < form.size:
                fail("OFPBRC_BAD_LEN", f"a queue's counters cannot have {size} bytes")
        port, queue = row[:2]
        n_bytes, n_packets, n_errors = map(_kept, row[2:5])
        seconds, ns = (0, 0) if version == OF10 else row[5:7]
        port = port_from_10(port) if version == OF10 else port
        found.append(QueueCounters(port, queue, n_bytes, n_packets, n_errors, _age(seconds, ns)))
        at += size
    return found


def encode_queue_config_reply(
    version: int, xid: int, port: int, queues: Iterable[tuple[int, int]] = ()
) -> bytes:
    """QUEUE_GET_CONFIG_REPLY (before 1.4): (port, queue) of each, without properties: OpenFlow has
    rates only as shares of the port's, which is not known."""
    number = TYPES[version].get("QUEUE_GET_CONFIG_REPLY")
    if number is None or version >= OF14:
        raise OpenFlowError("OFPBRC_BAD_TYPE", "1.4 asks for QUEUE_DESC")
    if version == OF10:
        body = struct.pack("!H6x", port_to_10(port))
        told = (_QUEUE_CONFIG_10.pack(queue, _QUEUE_CONFIG_10.size) for _, queue in queues)
    else:
        body = struct.pack("!I4x", port)
        told = (_QUEUE_CONFIG_13.pack(queue, of, _QUEUE_CONFIG_13.size) for of, queue in queues)
    return message(version, number, xid, body + b"".join(told))


def decode_queue_config_request(version: int, msg: bytes) -> int:
    """The port that QUEUE_GET_CONFIG_REQUEST names; PORT_ANY: all."""
    if version == OF10:
        return port_from_10(take(struct.Struct("!H2x"), msg[8:], "a request for queues")[0])
    return int(take(struct.Struct("!I4x"), msg[8:], "a request for queues")[0])


def encode_queue_config_request(version: int, port: int, xid: int = 0) -> bytes:
    """QUEUE_GET_CONFIG_REQUEST (before 1.4). 1.0 must name a port."""
    number = TYPES[version].get("QUEUE_GET_CONFIG_REQUEST")
    if number is None or version >= OF14:
        raise OpenFlowError("OFPBRC_BAD_TYPE", "1.4 asks for QUEUE_DESC")
    body = struct.pack("!H2x", port_to_10(port)) if version == OF10 else struct.pack("!I4x", port)
    return message(version, number, xid, body)


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """A queue's rates in tenths of a percent; None: none is set, or 1.0 to 1.3's (disabled)."""

    port: int
    queue: int
    min_rate: int | None = None
    max_rate: int | None = None


_QUEUE_CONFIG_10 = struct.Struct("!IH2x")
_QUEUE_CONFIG_13 = struct.Struct("!IIH6x")
_MIN_RATE, _MAX_RATE = 1, 2


def _queue_config(version: int, data: bytes, port: int) -> tuple[QueueConfig, int]:
    """The first of these queues, and its size. port: of the reply, for 1.0."""
    if version == OF10:
        queue, size = take(_QUEUE_CONFIG_10, data, "a queue")
        least = _QUEUE_CONFIG_10.size
    else:
        first, second, size = take(_QUEUE_CONFIG_13, data, "a queue")
        port, queue = (first, second) if version >= OF14 else (second, first)
        least = _QUEUE_CONFIG_13.size
    if size < least or size > len(data):
        fail("OFPBRC_BAD_LEN", f"a queue cannot have {size} bytes here")
    rates = {}
    for kind, body in properties(data[least:size]):
        at = 0 if version >= OF14 else 4
        rates[kind] = int.from_bytes(body[at : at + 2], "big")
    return QueueConfig(port, queue, rates.get(_MIN_RATE), rates.get(_MAX_RATE)), size


def decode_queue_configs(version: int, msg: bytes) -> tuple[int, list[QueueConfig]]:
    """The port that a QUEUE_GET_CONFIG_REPLY names, or PORT_ANY for QUEUE_DESC, and the queues."""
    if version >= OF14:
        port, body = PORT_ANY, decode_multipart(version, msg[8:]).body
    else:
        form = struct.Struct("!H6x" if version == OF10 else "!I4x")
        (port,) = take(form, msg[8:], "a reply about queues")
        port, body = port_from_10(port) if version == OF10 else port, msg[16:]
    found = []
    while body:
        queue, size = _queue_config(version, body, port)
        found.append(queue)
        body = body[size:]
    return port, found


def queue_desc_replies(
    version: int, xid: int, queues: Iterable[tuple[int, int]] = ()
) -> Iterator[bytes]:
    """The replies to a QUEUE_DESC request of 1.4: (port, queue) of each, without properties."""
    told = (_QUEUE_CONFIG_13.pack(port, queue, _QUEUE_CONFIG_13.size) for port, queue in queues)
    return multipart_replies(version, xid, MP_QUEUE_DESC, told)
