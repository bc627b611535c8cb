"""What a switch says about itself, and what asks for it: hello, features, configuration, desc.

Ports, tables, packets, roles and bundles have modules of their own beside this one, as have flows,
groups and meters. Everything is pure, in both directions: values in, bytes out, and back.
Structures are those of OpenFlow 1.0 (section 5) and 1.3.5 (section 7), with 1.4's properties where
they differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from oko.openflow.common import (
    FEATURES_REPLY,
    GET_CONFIG_REPLY,
    HELLO,
    MP_DESC,
    OF10,
    SET_CONFIG,
    decode_multipart,
    encode_multipart,
    message,
    take,
)
from oko.openflow.port_messages import PortDesc, PortLike, decode_ports, encode_port, fits_10

N_TABLES = 254

# ---------------------------------------------------------------- hello

_ELEMENT = struct.Struct("!HH")
_VERSION_BITMAP = 1


def encode_hello(versions: Iterable[int]) -> bytes:
    """HELLO that offers these versions (1.3.5, 7.5.1)."""
    offered = sorted(versions)
    bits = sum(1 << version for version in offered)
    element = struct.pack("!HHI", _VERSION_BITMAP, 8, bits)
    return message(offered[-1], HELLO, 0, element)


def negotiate(hello: bytes, own: Iterable[int]) -> int | None:
    """The version to speak with who sent this HELLO; None: there is none in common."""
    at, ours = 8, set(own)
    while at + _ELEMENT.size <= len(hello):
        kind, size = _ELEMENT.unpack_from(hello, at)
        if size < _ELEMENT.size:
            break
        if kind == _VERSION_BITMAP and size >= 8 and at + 8 <= len(hello):
            (bits,) = struct.unpack_from("!I", hello, at + 4)
            return max((v for v in ours if bits >> v & 1), default=None)
        at += size + (-size % 8)
    return hello[0] if hello[0] in ours else max((v for v in ours if v < hello[0]), default=None)


# ---------------------------------------------------------------- features

# OFPC_*; 1.0 and later versions mean different things by bits 3, 4 and 7.
FLOW_STATS, TABLE_STATS, PORT_STATS, GROUP_STATS, IP_REASM, QUEUE_STATS = 1, 2, 4, 8, 32, 64
ARP_MATCH_IP_10 = 128
CAPABILITIES_10 = FLOW_STATS | TABLE_STATS | PORT_STATS | QUEUE_STATS | ARP_MATCH_IP_10
CAPABILITIES = FLOW_STATS | TABLE_STATS | PORT_STATS | GROUP_STATS | QUEUE_STATS
ACTIONS_10 = 0xFFF
"""OFPAT_OUTPUT to OFPAT_ENQUEUE."""

_FEATURES = struct.Struct("!QIBB2xII")


@dataclass(frozen=True, slots=True)
class Features:
    """FEATURES_REPLY. actions and ports are 1.0's."""

    dpid: int
    n_buffers: int = 0
    n_tables: int = N_TABLES
    auxiliary: int = 0
    capabilities: int = CAPABILITIES
    actions: int = 0
    ports: tuple[PortDesc, ...] = ()


def encode_features(version: int, xid: int, dpid: int, ports: Iterable[PortLike]) -> bytes:
    """What oko says of itself; 1.0 tells the ports here too."""
    if version != OF10:
        body = _FEATURES.pack(dpid, 0, N_TABLES, 0, CAPABILITIES, 0)
        return message(version, FEATURES_REPLY, xid, body)
    body = _FEATURES.pack(dpid, 0, N_TABLES, 0, CAPABILITIES_10, ACTIONS_10)
    told = [encode_port(OF10, port) for port in ports if fits_10(port.number)]
    return message(version, FEATURES_REPLY, xid, body + b"".join(told[:1300]))


def decode_features(version: int, msg: bytes) -> Features:
    """FEATURES_REPLY."""
    dpid, n_buffers, n_tables, auxiliary, capabilities, actions = take(
        _FEATURES, msg[8:], "a features reply"
    )
    ports = decode_ports(version, msg[8 + _FEATURES.size :]) if version == OF10 else []
    return Features(dpid, n_buffers, n_tables, auxiliary, capabilities, actions, tuple(ports))


# ---------------------------------------------------------------- configuration

FRAG_MASK = 3  # OFPC_FRAG_*: normal is 0
INVALID_TTL_TO_CONTROLLER = 4  # 1.1 and 1.2
_CONFIG = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class Config:
    """How the switch handles fragments (flags), and how much of a packet that missed it sends."""

    flags: int = 0
    miss_send_len: int = 128


def encode_config(version: int, xid: int, config: Config, *, ask: bool = False) -> bytes:
    """GET_CONFIG_REPLY, or SET_CONFIG if ask."""
    kind = SET_CONFIG if ask else GET_CONFIG_REPLY
    return message(version, kind, xid, _CONFIG.pack(config.flags, config.miss_send_len))


def decode_config(msg: bytes) -> Config:
    """Either of them, in any version."""
    return Config(*take(_CONFIG, msg[8:], "a configuration"))


# ---------------------------------------------------------------- desc

_DESC = struct.Struct("!256s256s256s32s256s")


@dataclass(frozen=True, slots=True)
class Desc:
    """Who made the switch, and what its owner calls it."""

    manufacturer: str = "oko"
    hardware: str = "userspace"
    software: str = ""
    serial: str = "None"
    datapath: str = "None"


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def encode_desc(version: int, xid: int, desc: Desc) -> bytes:
    """The reply to a DESC request; texts that are too long are cut."""
    texts = (desc.manufacturer, desc.hardware, desc.software, desc.serial, desc.datapath)
    sizes = (255, 255, 255, 31, 255)
    cut = (text.encode()[:size] for text, size in zip(texts, sizes, strict=True))
    return encode_multipart(version, xid, MP_DESC, _DESC.pack(*cut), reply=True)


def decode_desc(version: int, msg: bytes) -> Desc:
    """The inverse."""
    body = decode_multipart(version, msg[8:]).body
    return Desc(*(_text(part) for part in take(_DESC, body, "a description")))
