"""What a switch says about itself, and what asks for it: hello, features, ports, tables, packets.

Flow, group and meter messages have modules of their own. Everything here is pure: values in, bytes
out, and back. Structures are those of OpenFlow 1.0 (section 5) and 1.3.5 (section 7), with 1.4's
properties where they differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Protocol

from oko.model.actions import Action
from oko.model.fields import FIELDS, PORT_ANY, field
from oko.model.flow import Match
from oko.openflow.actions import decode_actions
from oko.openflow.common import (
    FEATURES_REPLY,
    HELLO,
    MP_DESC,
    MP_PORT,
    MP_PORT_DESC,
    MP_TABLE,
    MP_TABLE_FEATURES,
    NICIRA,
    OF10,
    OF14,
    OF15,
    PACKET_IN,
    PORT_STATUS,
    VERSIONS,
    OpenFlowError,
    encode_multipart,
    experimenter_message,
    message,
    multipart_replies,
    padded,
    port_from_10,
    port_to_10,
    take,
)
from oko.openflow.flows import put_match, take_match
from oko.openflow.oxm import encode_header, encode_match

SECOND = 1_000_000_000
NO_BUFFER = 0xFFFFFFFF
NXT_PACKET_IN = 17
N_TABLES = 254


class PortLike(Protocol):
    """What is told of a port (oko.switch.ports.Port)."""

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


# ---------------------------------------------------------------- hello, features, config


def encode_hello(versions: Iterable[int], xid: int = 0) -> bytes:
    """HELLO with the bitmap of versions (1.3.5, 7.5.1)."""
    bits = sum(1 << version for version in versions)
    element = struct.pack("!HHI", 1, 8, bits)
    return message(max(v for v in VERSIONS if bits >> v & 1), HELLO, xid, element)


def negotiate(hello: bytes, own: Iterable[int]) -> int | None:
    """The version to speak with a peer that sent this HELLO; None: there is none in common."""
    at, ours = 8, set(own)
    while at + 4 <= len(hello):
        kind, size = struct.unpack_from("!HH", hello, at)
        if size < 4:
            break
        if kind == 1 and size >= 8 and at + 8 <= len(hello):
            (bits,) = struct.unpack_from("!I", hello, at + 4)
            return max((v for v in ours if bits >> v & 1), default=None)
        at += size + (-size % 8)
    return hello[0] if hello[0] in ours else max((v for v in ours if v < hello[0]), default=None)


def encode_features(version: int, xid: int, dpid: int, ports: Iterable[PortLike]) -> bytes:
    """FEATURES_REPLY; 1.0's tells the ports too."""
    if version == OF10:
        head = struct.pack("!QIB3xII", dpid, 0, N_TABLES, 0xC7, 0xFFF)
        told = [encode_port(OF10, port) for port in ports if fits_10(port.number)]
        return message(version, FEATURES_REPLY, xid, head + b"".join(told))
    head = struct.pack("!QIBB2xII", dpid, 0, N_TABLES, 0, 0x4F, 0)
    return message(version, FEATURES_REPLY, xid, head)


# ---------------------------------------------------------------- ports

_PORT_10 = struct.Struct("!H6s16sIIIIII")
_PORT_13 = struct.Struct("!I4x6s2x16sIIIIIIII")
_PORT_14 = struct.Struct("!IH2x6s2x16sII")
_ETHERNET_14 = struct.Struct("!HH4xIIIIII")


def fits_10(port: int) -> bool:
    """Has this port a number in OpenFlow 1.0?"""
    return port < 0xFF00 or port >= 0xFFFFFFF8


def encode_port(version: int, port: PortLike) -> bytes:
    """struct ofp_port (1.0: ofp_phy_port)."""
    address = port.hw_addr.to_bytes(6, "big")
    name = port.name.encode()[:15]
    speeds = (port.curr, port.advertised, port.supported, port.peer)
    if version == OF10:
        state = port.state & 1
        return _PORT_10.pack(port_to_10(port.number), address, name, port.config, state, *speeds)
    config = port.config & ~16  # NO_FLOOD is 1.0's
    rates = (port.curr_speed, port.max_speed)
    if version < OF14:
        return _PORT_13.pack(port.number, address, name, config, port.state, *speeds, *rates)
    ethernet = _ETHERNET_14.pack(0, _ETHERNET_14.size, *speeds, *rates)
    size = _PORT_14.size + len(ethernet)
    return _PORT_14.pack(port.number, size, address, name, config, port.state) + ethernet


def port_desc_replies(version: int, xid: int, ports: Iterable[PortLike]) -> Iterator[bytes]:
    """The replies to a PORT_DESC request."""
    told = (encode_port(version, p) for p in ports if version != OF10 or fits_10(p.number))
    return multipart_replies(version, xid, MP_PORT_DESC, told)


def encode_port_status(version: int, reason: int, port: PortLike) -> bytes:
    """PORT_STATUS."""
    return message(
        version, PORT_STATUS, 0, struct.pack("!B7x", reason) + encode_port(version, port)
    )


def decode_port_mod(version: int, body: bytes) -> tuple[int, int, int, int]:
    """(port, hardware address, config, mask)."""
    if version == OF10:
        number, address, config, mask = take(struct.Struct("!H6sII8x"), body, "a port-mod")
        number = port_from_10(number)
    else:
        number, address, config, mask = take(struct.Struct("!I4x6s2xII"), body, "a port-mod")
    return number, int.from_bytes(address, "big"), config, mask


class PortCounters(Protocol):
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


def decode_port_request(version: int, body: bytes) -> int | None:
    """The port asked for; None: all."""
    if version == OF10:
        number = port_from_10(take(struct.Struct("!H6x"), body, "a request for ports")[0])
        return None if number in (PORT_ANY, 0xFFFF) else number
    number = take(struct.Struct("!I4x"), body, "a request for ports")[0]
    return None if number == PORT_ANY else number


def _port_stats(version: int, p: PortCounters) -> bytes:
    counters = struct.pack(
        "!8Q", p.rx_packets, p.tx_packets, p.rx_bytes, p.tx_bytes,
        p.rx_dropped, p.tx_dropped, p.rx_errors, p.tx_errors,
    )  # fmt: skip
    duration = divmod(p.duration, SECOND)
    if version == OF10:
        return struct.pack("!H6x", port_to_10(p.number)) + counters + bytes(32)
    if version < OF14:
        return struct.pack("!I4x", p.number) + counters + bytes(32) + struct.pack("!II", *duration)
    ethernet = struct.pack("!HH4x4Q", 0, 40, 0, 0, 0, 0)
    head = struct.pack("!H2xIII", 16 + len(counters) + len(ethernet), p.number, *duration)
    return head + counters + ethernet


def port_stats_replies(version: int, xid: int, counters: Iterable[PortCounters]) -> Iterator[bytes]:
    """The replies to a PORT request."""
    told = (_port_stats(version, p) for p in counters if version != OF10 or fits_10(p.number))
    return multipart_replies(version, xid, MP_PORT, told)


# ---------------------------------------------------------------- the switch, tables


def encode_desc(version: int, xid: int, software: str, dp: str) -> bytes:
    """The reply to a DESC request."""
    texts = ("oko", "userspace", software, "None", dp)
    body = struct.pack("!256s256s256s32s256s", *(text.encode()[:255] for text in texts))
    return encode_multipart(version, xid, MP_DESC, body, reply=True)


def table_name(table: int) -> bytes:
    """As Open vSwitch calls it in OpenFlow 1.0."""
    return b"classifier" if table == 0 else f"table{table}".encode()


def table_stats_replies(
    version: int, xid: int, tables: Iterable[tuple[int, int, int, int]]
) -> Iterator[bytes]:
    """tables: (number, flows, lookups, matches)."""
    if version == OF10:
        entries = (
            struct.pack("!B3x32sIIIQQ", n, table_name(n), 0x3FFFFF, 1_000_000, flows, looked, hit)
            for n, flows, looked, hit in tables
        )
    else:
        entries = (struct.pack("!B3xIQQ", *row) for row in tables)
    return multipart_replies(version, xid, MP_TABLE, entries)


_FEATURE_FIELDS = [f for f in FIELDS if not f.name.startswith(("xreg", "xxreg", "in_phy_port"))]
_ACTION_IDS = (0, 11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27)  # OFPAT_*


def _ids(kind: int, body: bytes) -> bytes:
    return padded(struct.pack("!HH", kind, 4 + len(body)) + body)


def _fields(version: int, writable: bool) -> bytes:
    found = b""
    for f in _FEATURE_FIELDS:
        if writable and f.name in ("in_port", "eth_type", "ip_proto", "ip_frag", "ipv6_exthdr"):
            continue
        try:
            found += encode_header(version, f)
        except (OpenFlowError, KeyError):
            continue  # a field that this version cannot name
    return found


def table_features_replies(version: int, xid: int) -> Iterator[bytes]:
    """The replies to a TABLE_FEATURES request (1.3.5, 7.3.5.5): every table can do everything."""
    instructions = b"".join(struct.pack("!HH", kind, 4) for kind in (1, 2, 3, 4, 5, 6))
    actions = b"".join(struct.pack("!HH", kind, 4) for kind in _ACTION_IDS)
    match, settable = _fields(version, False), _fields(version, True)
    common = (
        _ids(4, actions) + _ids(6, actions) + _ids(8, match) + _ids(10, match)
        + _ids(12, settable) + _ids(14, settable)
    )  # fmt: skip
    last = instructions[:-8] + struct.pack("!HH", 6, 4)

    def entries() -> Iterator[bytes]:
        everything = (1 << 64) - 1
        for table in range(N_TABLES):
            own = instructions if table < N_TABLES - 1 else last
            body = _ids(0, own) + _ids(2, bytes(range(table + 1, N_TABLES))) + common
            head = struct.pack(
                "!HB5x32sQQII", 64 + len(body), table, table_name(table), everything, everything,
                0, 1_000_000,
            )  # fmt: skip
            yield head + body

    return multipart_replies(version, xid, MP_TABLE_FEATURES, entries())


# ---------------------------------------------------------------- packets


class PacketLike(Protocol):
    """A packet for the controllers (oko.switch.events.PacketIn)."""

    @property
    def reason(self) -> int: ...
    @property
    def table(self) -> int: ...
    @property
    def cookie(self) -> int: ...
    @property
    def in_port(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def total_len(self) -> int: ...
    @property
    def metadata(self) -> int: ...
    @property
    def tun_id(self) -> int: ...
    @property
    def pkt_mark(self) -> int: ...
    @property
    def regs(self) -> tuple[int, ...]: ...


def _pipeline_fields(packet: PacketLike) -> Match:
    """What the packet carried beside its bytes."""
    values = {"in_port": packet.in_port, "metadata": packet.metadata, "tun_id": packet.tun_id}
    values["pkt_mark"] = packet.pkt_mark
    values |= {f"reg{i}": value for i, value in enumerate(packet.regs)}
    fields = {
        field(name): (value, field(name).all_ones)
        for name, value in values.items()
        if value or name == "in_port"
    }
    return Match.of(fields)


def encode_packet_in(version: int, packet: PacketLike, *, nxm: bool = False) -> bytes:
    """PACKET_IN, or NXT_PACKET_IN."""
    total = min(packet.total_len, 0xFFFF)
    if nxm:
        match = encode_match(version, _pipeline_fields(packet))
        head = struct.pack(
            "!IHBBQH6x", NO_BUFFER, total, packet.reason, packet.table, packet.cookie, len(match)
        )
        body = head + padded(match) + b"\0\0" + packet.data
        return experimenter_message(version, 0, NICIRA, NXT_PACKET_IN, body)
    if version == OF10:
        in_port = port_to_10(packet.in_port) if fits_10(packet.in_port) else 0xFFFF
        head = struct.pack("!IHHBx", NO_BUFFER, total, in_port, min(packet.reason, 1))
        return message(version, PACKET_IN, 0, head + packet.data)
    reason = packet.reason
    if version >= OF14 and reason == 1:
        reason = 1  # OFPR_APPLY_ACTION
    head = struct.pack("!IHBBQ", NO_BUFFER, total, reason, packet.table, packet.cookie)
    match = put_match(version, _pipeline_fields(packet))
    return message(version, PACKET_IN, 0, head + match + b"\0\0" + packet.data)


def decode_packet_out(version: int, body: bytes) -> tuple[int, int, tuple[Action, ...], bytes]:
    """(buffer, in_port, actions, frame)."""
    if version == OF10:
        buffer, in_port, size = take(struct.Struct("!IHH"), body, "a packet-out")
        at, in_port = 8, port_from_10(in_port)
    elif version < OF15:
        buffer, in_port, size = take(struct.Struct("!IIH6x"), body, "a packet-out")
        at = 16
    else:
        buffer, size = take(struct.Struct("!IH2x"), body, "a packet-out")
        found, at = take_match(body, 8)
        in_port = found.match.exact("in_port") or 0
    if at + size > len(body):
        raise OpenFlowError("OFPBRC_BAD_LEN", f"there is no room for {size} bytes of actions")
    actions = decode_actions(version, body[at : at + size])
    return buffer, in_port, actions, body[at + size :]
