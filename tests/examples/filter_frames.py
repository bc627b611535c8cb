"""Frames made by hand, one kind per filter, in every wrapping that the filters must see through.

`STIMULI[filter]` is (what the controller puts into maps, packets): IPv4 packets in order, the last
of which must match. `wrapped()` puts a packet into a frame with VLAN tags and IPv4 options.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from filter_models import Contents, u32

CLIENT, SERVER, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
LINUX = bytes.fromhex("020405b4 0402080a 00000001 00000000 01030307")

# A packet is a function of the IPv4 options to put in.
Packet = Callable[[bytes], bytes]

TAGS = {
    "untagged": b"",
    "802.1Q": bytes.fromhex("8100602a"),
    "802.1ad": bytes.fromhex("88a80064"),
    "QinQ": bytes.fromhex("88a80064 81000007"),
    "Q in Q": bytes.fromhex("81000064 81000007"),
}
"""Wrappings that every filter sees through."""

FOREIGN_TAGS = {
    "three tags": bytes.fromhex("88a80064 81000007 81000008"),
    "0x9100": bytes.fromhex("91000064"),
    "MPLS": bytes.fromhex("8847 0001 01ff"),
}
"""Wrappings that none looks behind."""

OPTIONS = {
    "no options": b"",
    "4 bytes of options": b"\x01\x01\x01\x00",
    "record route": b"\x07\x0b\x04" + bytes(8) + b"\x00",
    "40 bytes of options": b"\x07\x27\x04" + bytes(36) + b"\x00",
}


def ipv4(proto: int, payload: bytes, src: str, dst: str, frag: int = 0) -> Packet:
    """An IPv4 packet; the checksum is right for the sake of other tools."""

    def build(options: bytes) -> bytes:
        size = 20 + len(options)
        header = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), 1, frag, 63,
                             proto, 0)  # fmt: skip
        header += socket.inet_aton(src) + socket.inet_aton(dst) + options
        total = sum(struct.unpack(f"!{size // 2}H", header))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + payload

    return build


def tcp(
    src_port: int,
    dst_port: int,
    flags: int,
    options: bytes = b"",
    payload: bytes = b"",
    *,
    src: str = CLIENT,
    dst: str = SERVER,
    seq: int = 1000,
    ack: int = 0,
    frag: int = 0,
) -> Packet:
    offset = (20 + len(options)) // 4 << 4
    header = struct.pack("!HHIIBBHHH", src_port, dst_port, seq, ack, offset, flags, 64240, 0, 0)
    return ipv4(6, header + options + payload, src, dst, frag)


def udp(src_port: int, dst_port: int, payload: bytes) -> Packet:
    header = struct.pack("!HHHH", src_port, dst_port, 8 + len(payload), 0)
    return ipv4(17, header + payload, CLIENT, SERVER)


def dns(qtype: int) -> Packet:
    header = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0)
    return udp(4096, 53, header + b"\x03www\x03Ads\x04test\0" + struct.pack("!HH", qtype, 1))


def wrapped(packet: bytes, tags: bytes = b"", pad: int = 0) -> bytes:
    """An Ethernet frame: addresses, tags, the EtherType of IPv4, packet, padding."""
    ether_type = b"" if tags[:2] == b"\x88\x47" else b"\x08\x00"
    return bytes(range(2, 14)) + tags + ether_type + packet + bytes(pad)


SYN, ACK, RST = 2, 16, 4

STIMULI: dict[str, tuple[dict[str, Contents], list[Packet]]] = {
    "stateless_firewall": (
        {"blocked": {socket.inet_aton(CLIENT): u32(1)}},
        [udp(1, 2, b"")],
    ),
    "stateful_firewall": (
        {},
        [
            tcp(1024, 80, SYN),
            tcp(80, 1024, SYN | ACK, src=SERVER, dst=CLIENT),
            tcp(1024, 80, ACK),
            tcp(80, 1024, ACK, payload=b"hello", src=SERVER, dst=CLIENT),
        ],
    ),
    "rate_limiter": ({}, [udp(1, 2, b"hello")]),
    "p0f": ({}, [tcp(1024, 80, SYN, LINUX, frag=0x4000)]),
    "dapper": ({}, [tcp(1024, 80, SYN, LINUX), tcp(1024, 80, ACK, payload=b"hello")]),
    "heavy_hitter": ({"threshold": {u32(0): u32(1)}}, [udp(1, 2, b""), udp(3, 4, b"")]),
    "port_scan": (
        {"threshold": {u32(0): u32(1)}},
        [tcp(1024, 80, SYN), tcp(1025, 80, SYN), tcp(1026, 81, SYN)],
    ),
    "dns_guard": (
        {"blocked": {b"ads.test".ljust(64, b"\0"): u32(1)}},
        [dns(1)],
    ),
    "syn_flood": ({"limit": {u32(0): u32(1)}}, [tcp(1, 80, SYN), tcp(2, 80, SYN, src=OTHER)]),
    "payload_match": ({}, [tcp(1, 80, ACK, LINUX, b"GET /\r\nUser-Agent: curl/8\r\n")]),
}
