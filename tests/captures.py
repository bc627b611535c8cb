"""Writes captures of every dialect, byte by byte, independently of the reader."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Packet = tuple[int, bytes]  # (time in ns, bytes)


def pcap(
    packets: Sequence[Packet],
    *,
    nanoseconds: bool = False,
    order: str = "<",
    link: int = 1,
    wire_lens: Sequence[int] | None = None,
) -> bytes:
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)]
    for i, (ns, data) in enumerate(packets):
        fraction = ns % 10**9 // (1 if nanoseconds else 1000)
        wire = wire_lens[i] if wire_lens else len(data)
        out.append(struct.pack(order + "IIII", ns // 10**9, fraction, len(data), wire) + data)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", link: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def enhanced(
    units: int, data: bytes, order: str = "<", number: int = 0, options: bytes = b""
) -> bytes:
    head = struct.pack(order + "IIIII", number, units >> 32, units % 2**32, len(data), len(data))
    return block(6, head + data + bytes(-len(data) % 4) + options, order)


def old_packet(units: int, data: bytes, order: str = "<", number: int = 0) -> bytes:
    head = struct.pack(
        order + "HHIIII", number, 0, units >> 32, units % 2**32, len(data), len(data)
    )
    return block(2, head + data, order)


def simple(data: bytes, order: str = "<", wire_len: int | None = None) -> bytes:
    wire = len(data) if wire_len is None else wire_len
    return block(3, struct.pack(order + "I", wire) + data, order)


def pcapng(packets: Sequence[Packet], order: str = "<", link: int = 1) -> bytes:
    return b"".join(
        [section(order), interface(order, link)]
        + [enhanced(ns // 1000, data, order) for ns, data in packets]
    )
