"""Packets between switch and controller: packet-in in its five forms, packet-out.

  1.0          PACKET_IN: the ingress port in 16 bits
  NXT          NXT_PACKET_IN: what 1.3 has, with NXM fields
  NXT 2        NXT_PACKET_IN2: properties; what ovs-ofctl monitor asks for first
  1.3 and on   PACKET_IN with an OXM match of the pipeline's fields

oko keeps no packets back: buffer ids are NO_BUFFER, always.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from oko.model.actions import Action
from oko.model.fields import field
from oko.model.flow import Match
from oko.openflow.actions import decode_actions, encode_actions
from oko.openflow.common import (
    EXPERIMENTER,
    NICIRA,
    OF10,
    OF15,
    PACKET_IN,
    PACKET_OUT,
    OpenFlowError,
    experimenter_message,
    fail,
    message,
    padded,
    port_from_10,
    port_to_10,
    take,
)
from oko.openflow.flows import NO_BUFFER, put_match, take_match, take_nxm
from oko.openflow.oxm import encode_match
from oko.openflow.port_messages import fits_10, properties

NXT_PACKET_IN, NXT_PACKET_IN2 = 17, 30
STANDARD, NXM, NXM2 = 0, 1, 2
"""Forms that NXT_SET_PACKET_IN_FORMAT chooses."""

_HEAD_10 = struct.Struct("!IHHBx")
_HEAD_13 = struct.Struct("!IHBBQ")
_HEAD_NX = struct.Struct("!IHBBQH6x")
_PROP_PACKET, _PROP_LEN, _PROP_BUFFER, _PROP_TABLE, _PROP_COOKIE, _PROP_REASON, _PROP_METADATA = (
    range(7)
)


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


@dataclass(frozen=True, slots=True)
class PacketIn:
    """A packet-in as decoded. match: the pipeline's fields, in_port among them."""

    reason: int
    in_port: int
    data: bytes
    total_len: int
    table: int = 0
    cookie: int = 0
    buffer_id: int = NO_BUFFER
    match: Match = Match()  # noqa: RUF009 a frozen value


def pipeline_fields(packet: PacketLike) -> Match:
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


def encode_packet_in(version: int, packet: PacketLike, *, form: int = STANDARD) -> bytes:
    """A packet-in in the form that the peer chose; the nearest one if it cannot say it."""
    total = min(packet.total_len, 0xFFFF)
    if form == NXM2:
        return _encode_2(version, packet)
    if form == NXM:
        match = encode_match(OF10, pipeline_fields(packet))
        head = _HEAD_NX.pack(
            NO_BUFFER, total, packet.reason, packet.table, packet.cookie, len(match)
        )
        body = head + padded(match) + b"\0\0" + packet.data
        return experimenter_message(version, 0, NICIRA, NXT_PACKET_IN, body)
    if version == OF10:
        in_port = port_to_10(packet.in_port) if fits_10(packet.in_port) else 0xFFFF
        # OFPR_INVALID_TTL came later; Open vSwitch says "no match" for it.
        head = _HEAD_10.pack(NO_BUFFER, total, in_port, packet.reason & 1)
        return message(version, PACKET_IN, 0, head + packet.data)
    head = _HEAD_13.pack(NO_BUFFER, total, packet.reason, packet.table, packet.cookie)
    match = put_match(version, pipeline_fields(packet))
    return message(version, PACKET_IN, 0, head + match + b"\0\0" + packet.data)


def _prop(kind: int, body: bytes) -> bytes:
    return padded(struct.pack("!HH", kind, 4 + len(body)) + body)


def _encode_2(version: int, packet: PacketLike) -> bytes:
    body = _prop(_PROP_PACKET, packet.data)
    if len(packet.data) < packet.total_len:
        body += _prop(_PROP_LEN, struct.pack("!I", packet.total_len))
    body += _prop(_PROP_TABLE, bytes([packet.table]))
    if packet.cookie:
        body += _prop(_PROP_COOKIE, struct.pack("!4xQ", packet.cookie))
    body += _prop(_PROP_REASON, bytes([packet.reason]))
    body += _prop(_PROP_METADATA, encode_match(version, pipeline_fields(packet)))
    return experimenter_message(version, 0, NICIRA, NXT_PACKET_IN2, body)


def decode_packet_in(version: int, msg: bytes) -> PacketIn:
    """A packet-in in any form."""
    if msg[1] == EXPERIMENTER:
        vendor, kind = take(struct.Struct("!II"), msg[8:], "an experimenter message")
        if vendor == NICIRA and kind == NXT_PACKET_IN:
            buffer, total, reason, table, cookie, size = take(_HEAD_NX, msg[16:], "a packet-in")
            found, end = take_nxm(msg, 16 + _HEAD_NX.size, size, cookie=False)
            return _packet_in(found.match, msg[end + 2 :], reason, total, table, cookie, buffer)
        if vendor == NICIRA and kind == NXT_PACKET_IN2:
            return _decode_2(msg[16:])
        fail("OFPBRC_BAD_SUBTYPE", "this is no packet-in")
    if version == OF10:
        buffer, total, in_port, reason = take(_HEAD_10, msg[8:], "a packet-in")
        data = msg[8 + _HEAD_10.size :]
        return PacketIn(reason, port_from_10(in_port), data, total, buffer_id=buffer)
    buffer, total, reason, table, cookie = take(_HEAD_13, msg[8:], "a packet-in")
    found, end = take_match(msg, 8 + _HEAD_13.size)
    return _packet_in(found.match, msg[end + 2 :], reason, total, table, cookie, buffer)


def _packet_in(
    match: Match, data: bytes, reason: int, total: int, table: int, cookie: int, buffer: int
) -> PacketIn:
    in_port = match.exact("in_port") or 0
    return PacketIn(reason, in_port, data, total, table, cookie, buffer, match)


def _decode_2(body: bytes) -> PacketIn:
    found = dict(properties(body))
    data = found.get(_PROP_PACKET, b"")

    def number(kind: int, otherwise: int, skip: int = 0) -> int:
        there = found.get(kind)
        return otherwise if there is None else int.from_bytes(there[skip:], "big")

    metadata = found.get(_PROP_METADATA, b"")
    match = take_nxm(padded(metadata), 0, len(metadata), cookie=False)[0].match
    return _packet_in(
        match, data, number(_PROP_REASON, 1), number(_PROP_LEN, len(data)),
        number(_PROP_TABLE, 0), number(_PROP_COOKIE, 0, 4), number(_PROP_BUFFER, NO_BUFFER),
    )  # fmt: skip


# ---------------------------------------------------------------- packet-out

_OUT_10 = struct.Struct("!IHH")
_OUT_13 = struct.Struct("!IIH6x")
_OUT_15 = struct.Struct("!IH2x")


@dataclass(frozen=True, slots=True)
class PacketOut:
    """A frame, or (buffer_id) one that the switch kept, to go through an action list."""

    in_port: int
    actions: tuple[Action, ...]
    data: bytes
    buffer_id: int = NO_BUFFER


def encode_packet_out(version: int, out: PacketOut, xid: int = 0) -> bytes:
    """PACKET_OUT."""
    actions = encode_actions(version, out.actions)
    if version == OF10:
        head = _OUT_10.pack(out.buffer_id, port_to_10(out.in_port), len(actions))
    elif version < OF15:
        head = _OUT_13.pack(out.buffer_id, out.in_port, len(actions))
    else:
        in_port = Match.of({field("in_port"): (out.in_port, field("in_port").all_ones)})
        head = _OUT_15.pack(out.buffer_id, len(actions)) + put_match(version, in_port)
    return message(version, PACKET_OUT, xid, head + actions + out.data)


def decode_packet_out(version: int, msg: bytes) -> PacketOut:
    """PACKET_OUT."""
    body = msg[8:]
    if version == OF10:
        buffer, in_port, size = take(_OUT_10, body, "a packet-out")
        at, in_port = _OUT_10.size, port_from_10(in_port)
    elif version < OF15:
        buffer, in_port, size = take(_OUT_13, body, "a packet-out")
        at = _OUT_13.size
    else:
        buffer, size = take(_OUT_15, body, "a packet-out")
        found, at = take_match(body, _OUT_15.size)
        port = found.match.exact("in_port")
        if port is None:
            raise OpenFlowError("OFPBRC_BAD_PORT", "a packet-out of 1.5 names its in_port")
        in_port = port
    if at + size > len(body):
        raise OpenFlowError("OFPBRC_BAD_LEN", f"there is no room for {size} bytes of actions")
    actions = decode_actions(version, body[at : at + size])
    return PacketOut(in_port, actions, body[at + size :], buffer)
