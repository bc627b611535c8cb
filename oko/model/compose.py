"""A frame that has the fields of a match: for tracing "in_port=1,tcp,nw_dst=10.0.0.1,tp_dst=80".

Every field that is not given is zero, but what a host would never send: TTL and hop limit are 64,
and the lengths and checksums are right. Frames are padded to 60 bytes, as on a wire. Fields that no
frame carries (registers, metadata, tunnel key) are refused by name; in_port is given back.
"""

from __future__ import annotations

import struct

from oko.errors import OkoError
from oko.model.flow import Match

MIN_FRAME = 60
_TCP, _UDP, _ICMP, _ICMPV6, _SCTP = 6, 17, 1, 58, 132
_NOT_IN_FRAMES = ("metadata", "tun_id", "pkt_mark", "in_phy_port")


def _sum16(data: bytes) -> int:
    """RFC 1071: the checksum of data."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def compose(match: Match, payload: bytes = b"") -> tuple[int, bytes]:
    """(in_port, frame). payload: what follows the last header. OkoError: not possible."""
    known = {f.name: value for f, value, _ in match}
    for name in known:
        if name in _NOT_IN_FRAMES or name.startswith("reg"):
            raise OkoError(f"a frame cannot carry {name}")
    get = known.get
    eth_type = get("eth_type", 0)
    body = _network(known, eth_type, payload)
    head = get("eth_dst", 0).to_bytes(6, "big") + get("eth_src", 0).to_bytes(6, "big")
    vid = get("vlan_vid", 0)
    if vid & 0x1000:
        tci = get("vlan_pcp", 0) << 13 | vid & 0xFFF
        head += struct.pack(">HH", 0x8100, tci)
    if "eth_type" in known and eth_type >= 0x600:
        frame = head + struct.pack(">H", eth_type) + body
    else:  # 802.3: a length
        frame = head + struct.pack(">H", min(len(body), 1500)) + body
    return get("in_port", 0), frame.ljust(MIN_FRAME, b"\0")


def _network(known: dict[str, int], eth_type: int, payload: bytes) -> bytes:
    get = known.get
    if eth_type == 0x0800:
        return _ipv4(known, payload)
    if eth_type == 0x86DD:
        return _ipv6(known, payload)
    if eth_type in (0x0806, 0x8035):
        return (
            struct.pack(">HHBBH", 1, 0x0800, 6, 4, get("arp_op", 0))
            + get("arp_sha", 0).to_bytes(6, "big")
            + get("arp_spa", 0).to_bytes(4, "big")
            + get("arp_tha", 0).to_bytes(6, "big")
            + get("arp_tpa", 0).to_bytes(4, "big")
        )
    if eth_type in (0x8847, 0x8848):
        word = get("mpls_label", 0) << 12 | get("mpls_tc", 0) << 9
        return struct.pack(">I", word | get("mpls_bos", 1) << 8 | get("mpls_ttl", 64)) + payload
    return payload


def _ipv4(known: dict[str, int], payload: bytes) -> bytes:
    get = known.get
    proto, frag = get("ip_proto", 0), get("ip_frag", 0)
    src, dst = (get(name, 0).to_bytes(4, "big") for name in ("ipv4_src", "ipv4_dst"))
    flags = 0x2000 if frag & 1 and not frag & 2 else 100 if frag & 2 else 0
    body = payload if frag & 2 else _transport(known, proto, src + dst, payload)
    tos = get("ip_dscp", 0) << 2 | get("ip_ecn", 0)
    head = struct.pack(
        ">BBHHHBBH", 0x45, tos, 20 + len(body), 0, flags, get("nw_ttl", 64), proto, 0
    )
    checksum = _sum16(head + src + dst)
    return head[:10] + struct.pack(">H", checksum) + src + dst + body


def _ipv6(known: dict[str, int], payload: bytes) -> bytes:
    get = known.get
    proto, frag = get("ip_proto", 0), get("ip_frag", 0)
    src, dst = (get(name, 0).to_bytes(16, "big") for name in ("ipv6_src", "ipv6_dst"))
    body = payload if frag & 2 else _transport(known, proto, src + dst, payload)
    next_header = proto
    if frag:
        offset = 100 << 3 if frag & 2 else 1
        body = struct.pack(">BBHI", proto, 0, offset, 0) + body
        next_header = 44
    traffic = get("ip_dscp", 0) << 2 | get("ip_ecn", 0)
    first = 6 << 28 | traffic << 20 | get("ipv6_label", 0)
    return struct.pack(">IHBB", first, len(body), next_header, get("nw_ttl", 64)) + src + dst + body


def _transport(known: dict[str, int], proto: int, addresses: bytes, payload: bytes) -> bytes:
    """The transport header, checksum included, and the payload."""
    get = known.get

    def checked(segment: bytes, at: int) -> bytes:
        """With the checksum over the pseudo-header at this offset."""
        pseudo = addresses + struct.pack(">II", len(segment), proto)
        value = _sum16(pseudo + segment)
        if proto == _UDP and value == 0:
            value = 0xFFFF
        return segment[:at] + struct.pack(">H", value) + segment[at + 2 :]

    if proto == _TCP:
        ports = (get("tcp_src", 0), get("tcp_dst", 0))
        flags = 5 << 12 | get("tcp_flags", 0) & 0xFFF
        return checked(struct.pack(">HHIIHHHH", *ports, 0, 0, flags, 0, 0, 0) + payload, 16)
    if proto == _UDP:
        ports = (get("udp_src", 0), get("udp_dst", 0))
        return checked(struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload, 6)
    if proto == _SCTP:
        return struct.pack(">HHII", get("sctp_src", 0), get("sctp_dst", 0), 0, 0) + payload
    if proto == _ICMP:
        head = struct.pack(">BBHI", get("icmp_type", 0), get("icmp_code", 0), 0, 0)
        return head[:2] + struct.pack(">H", _sum16(head + payload)) + head[4:] + payload
    if proto == _ICMPV6:
        head = struct.pack(">BBHI", get("icmpv6_type", 0), get("icmpv6_code", 0), 0, 0)
        if get("icmpv6_type") in (135, 136):
            head += get("nd_target", 0).to_bytes(16, "big")
            for name, option in (("nd_sll", 1), ("nd_tll", 2)):
                if name in known:
                    head += bytes([option, 1]) + known[name].to_bytes(6, "big")
        return checked(head + payload, 2)
    return payload
