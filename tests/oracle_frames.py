"""A second opinion on frames: an independent parser (struct, no shared code) and a capture reader
on dpkt. The naive twin of csrc/parse.c: slices and exceptions instead of bounds."""

from __future__ import annotations

import contextlib
import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import dpkt


def frames(path: Path) -> Iterator[tuple[float, bytes]]:
    """(time in seconds, frame) of each record of a pcap or pcapng, gzip or not."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from dpkt.pcap.UniversalReader(file)


class Short(Exception):
    """Fewer bytes than asked for."""


class Cursor:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def left(self) -> int:
        return len(self.data) - self.at

    def peek(self, n: int) -> bytes:
        if self.left() < n:
            raise Short
        return self.data[self.at : self.at + n]

    def take(self, n: int) -> bytes:
        got = self.peek(n)
        self.at += n
        return got


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def parse(frame: bytes) -> dict[str, int]:
    """Non-zero fields of a frame by OpenFlow name, by the rules that csrc/parse.h states."""
    key: dict[str, int] = {}
    with contextlib.suppress(Short):
        _ethernet(Cursor(frame), key)
    return {name: value for name, value in key.items() if value}


def _ethernet(c: Cursor, key: dict[str, int]) -> None:
    c.peek(14)
    key["eth_dst"] = number(c.take(6))
    key["eth_src"] = number(c.take(6))
    eth_type = number(c.take(2))
    for depth in range(2):
        if eth_type not in (0x8100, 0x88A8) or c.left() < 4:
            break
        tci, eth_type = struct.unpack("!HH", c.take(4))
        if depth == 0:
            key["vlan_vid"] = 0x1000 + tci % 4096
            key["vlan_pcp"] = tci // 8192
    if eth_type < 0x600:
        eth_type = 0x5FF
        if c.left() >= 8 and c.peek(8)[:6] == b"\xaa\xaa\x03\0\0\0" and c.peek(8)[6:] >= b"\6\0":
            eth_type = number(c.take(8)[6:])
    key["eth_type"] = eth_type
    if eth_type == 0x800:
        _ipv4(c, key)
    elif eth_type == 0x86DD:
        _ipv6(c, key)
    elif eth_type in (0x806, 0x8035):
        _arp(c, key)
    elif eth_type in (0x8847, 0x8848):
        label = f"{number(c.take(4)):032b}"
        key["mpls_label"] = int(label[:20], 2)
        key["mpls_tc"] = int(label[20:23], 2)
        key["mpls_bos"] = int(label[23], 2)
        key["mpls_ttl"] = int(label[24:], 2)
    elif eth_type == 0x88E7:
        tag = c.take(4)
        key["pbb_uca"] = tag[0] // 8 % 2
        key["pbb_isid"] = number(tag[1:])


def _arp(c: Cursor, key: dict[str, int]) -> None:
    hrd, pro, hln, pln, op, sha, spa, tha, tpa = struct.unpack("!HHBBH6s4s6s4s", c.take(28))
    if (hrd, pro, hln, pln) == (1, 0x800, 6, 4):
        key.update(
            arp_op=op,
            arp_sha=number(sha),
            arp_spa=number(spa),
            arp_tha=number(tha),
            arp_tpa=number(tpa),
        )


def _ipv4(c: Cursor, key: dict[str, int]) -> None:
    fixed = c.peek(20)
    header, total = fixed[0] % 16 * 4, number(fixed[2:4])
    if not 20 <= header <= total <= c.left():
        return
    key["ip_dscp"], key["ip_ecn"] = divmod(fixed[1], 4)
    key["nw_ttl"], key["ip_proto"] = fixed[8:10]
    key["ipv4_src"], key["ipv4_dst"] = number(fixed[12:16]), number(fixed[16:])
    flags, offset = divmod(number(fixed[6:8]), 8192)
    if offset:
        key["ip_frag"] = 3
    elif flags % 2:
        key["ip_frag"] = 1
    else:
        _transport(Cursor(c.take(total)[header:]), fixed[9], 4, key)


def _ipv6(c: Cursor, key: dict[str, int]) -> None:
    fixed = c.take(40)
    word, length, proto, ttl = struct.unpack("!IHBB", fixed[:8])
    if length > c.left():
        return
    c = Cursor(c.take(length))
    key["ip_dscp"], key["ip_ecn"] = word >> 22 & 63, word >> 20 & 3
    key["ipv6_label"] = word % 2**20
    key["nw_ttl"] = ttl
    key["ipv6_src"], key["ipv6_dst"] = number(fixed[8:24]), number(fixed[24:])

    bits = {0: 0x40, 43: 0x20, 44: 0x10, 51: 0x04, 60: 0x08}
    order = [0, 60, 43, 44, 51, 50]
    seen: list[int] = []
    complete = True
    fragment = 0
    while proto in bits:
        try:
            head = c.peek(8)
            size = {44: 8, 51: (head[1] + 2) * 4}.get(proto, (head[1] + 1) * 8)
            c.take(size)
        except Short:
            complete = False
            break
        seen.append(proto)
        if proto == 44:
            offset, more = number(head[2:4]) // 8, head[3] % 2
            if offset or more:
                fragment = 3 if offset else 1
            if offset:
                complete = False
                break
        proto = head[0]
    if complete and proto == 50 and c.left() >= 8:
        seen.append(50)
    key["ip_proto"] = proto
    key["ip_frag"] = fragment
    exthdr = 0
    place = -1  # of the last header that was in order; 6 = final destination options
    for header in seen:
        if header == 60 and place >= 1:
            if place == 6:
                exthdr |= 0x80
            place = 6
        elif order.index(header) < place:
            exthdr |= 0x100
        else:
            place = order.index(header)
        if header != 60 and seen.count(header) > 1:
            exthdr |= 0x80
        exthdr |= {**bits, 50: 0x02}[header]
    if complete and proto == 59:
        exthdr |= 0x01
    key["ipv6_exthdr"] = exthdr
    if complete and not fragment:
        _transport(c, proto, 6, key)


def _transport(c: Cursor, proto: int, version: int, key: dict[str, int]) -> None:
    if proto == 6:
        head = c.peek(20)
        if head[12] // 16 < 5:
            return
        c.peek(head[12] // 16 * 4)
        key["tcp_src"], key["tcp_dst"] = struct.unpack("!HH", head[:4])
        key["tcp_flags"] = number(head[12:14]) % 4096
    elif proto == 17:
        key["udp_src"], key["udp_dst"] = struct.unpack("!HH", c.take(8)[:4])
    elif proto == 132:
        key["sctp_src"], key["sctp_dst"] = struct.unpack("!HH", c.take(12)[:4])
    elif proto == 1 and version == 4:
        key["icmp_type"], key["icmp_code"] = c.take(8)[:2]
    elif proto == 58 and version == 6:
        key["icmpv6_type"], key["icmpv6_code"] = c.take(8)[:2]
        if key["icmpv6_type"] in (135, 136) and key["icmpv6_code"] == 0:
            key["nd_target"] = number(c.take(16))
            addresses = {1: 0, 2: 0}
            try:
                while True:
                    kind, units = c.peek(8)[:2]
                    if not units:
                        break
                    option = c.take(8 * units)
                    if units == 1 and kind in addresses:
                        if addresses[kind]:
                            key["nd_target"] = addresses[1] = addresses[2] = 0
                            break
                        addresses[kind] = number(option[2:])
            except Short:
                pass
            key["nd_sll"], key["nd_tll"] = addresses[1], addresses[2]
