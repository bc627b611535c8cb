"""Frames from words: `tcp,nw_src=10.0.0.1,tp_dst=80,payload=6869` to bytes with right checksums.

The words are those of a match; what is not said has a plain default. For readable test cases only;
what cannot be said this way is written in hexadecimal.
"""

from __future__ import annotations

import struct

from oko.model import fields as f
from oko.model.fields import field
from oko.text.match import MatchParser
from oko.text.scan import Span, items
from twin.frame import crc32c, ones_sum

DEFAULTS = {
    "eth_src": 0x020000000001,
    "eth_dst": 0x020000000002,
    "ipv4_src": 0x0A000001,
    "ipv4_dst": 0x0A000002,
    "ipv6_src": (0xFE80 << 112) | 1,
    "ipv6_dst": (0xFE80 << 112) | 2,
    "nw_ttl": 64,
    "arp_op": 1,
    "tcp_flags": 0x10,
    "mpls_ttl": 64,
    "mpls_bos": 1,
}


def frame(text: str) -> tuple[bytes, int]:
    """(bytes, in_port) of a frame in words, or in hexadecimal after an optional in_port=N."""
    parser = MatchParser()
    payload = b""
    raw: bytes | None = None
    for item in items(Span.of(text)):
        if item.name == "payload":
            payload = bytes.fromhex(item.value.text)
        elif item.name == "hex":
            raw = bytes.fromhex(item.value.text)
        else:
            parser.add(item)
    match = parser.finish(Span.of(text))
    values = DEFAULTS | {fd.name: value for fd, value, _ in match}
    in_port = values.get("in_port", 1)
    if raw is not None:
        return raw, in_port
    eth_type = values.get("eth_type", 0x88B5)  # local experimental
    body = _network(eth_type, values, payload)
    head = values["eth_dst"].to_bytes(6, "big") + values["eth_src"].to_bytes(6, "big")
    if values.get("vlan_vid", 0) & f.VLAN_PRESENT:
        tci = values.get("vlan_pcp", 0) << 13 | values["vlan_vid"] & 0xFFF
        head += struct.pack("!HH", 0x8100, tci)
    return head + eth_type.to_bytes(2, "big") + body, in_port


def _network(eth_type: int, v: dict[str, int], payload: bytes) -> bytes:
    if eth_type in (f.ETH_TYPE_ARP, f.ETH_TYPE_RARP):
        mac = {"arp_sha": v["eth_src"], "arp_tha": 0} | v
        ip = {"arp_spa": v["ipv4_src"], "arp_tpa": v["ipv4_dst"]} | v
        return (
            struct.pack("!HHBBH", 1, 0x800, 6, 4, v["arp_op"])
            + mac["arp_sha"].to_bytes(6, "big") + ip["arp_spa"].to_bytes(4, "big")
            + mac["arp_tha"].to_bytes(6, "big") + ip["arp_tpa"].to_bytes(4, "big")
        )  # fmt: skip
    if eth_type in (f.ETH_TYPE_MPLS, f.ETH_TYPE_MPLS_MCAST):
        label = v.get("mpls_label", 0) << 12 | v.get("mpls_tc", 0) << 9 | v["mpls_bos"] << 8
        return (label | v["mpls_ttl"]).to_bytes(4, "big") + payload
    tos = v.get("ip_dscp", 0) << 2 | v.get("ip_ecn", 0)
    proto = v.get("ip_proto", 253)  # for experiments, RFC 3692
    if eth_type == f.ETH_TYPE_IP:
        addresses = v["ipv4_src"].to_bytes(4, "big") + v["ipv4_dst"].to_bytes(4, "big")
        body = _transport(proto, v, addresses, payload, 4)
        fragment = {0: 0, 1: 0x2000, 3: 0x2001}[v.get("ip_frag", 0)]
        head = struct.pack(
            "!BBHHHBBH", 0x45, tos, 20 + len(body), 1, fragment, v["nw_ttl"], proto, 0
        )
        checksum = ones_sum(head + addresses) ^ 0xFFFF
        return head[:10] + checksum.to_bytes(2, "big") + addresses + body
    if eth_type == f.ETH_TYPE_IPV6:
        addresses = v["ipv6_src"].to_bytes(16, "big") + v["ipv6_dst"].to_bytes(16, "big")
        body = _transport(proto, v, addresses, payload, 6)
        word = 6 << 28 | tos << 20 | v.get("ipv6_label", 0)
        return struct.pack("!IHBB", word, len(body), proto, v["nw_ttl"]) + addresses + body
    return payload


def _transport(proto: int, v: dict[str, int], pseudo: bytes, payload: bytes, version: int) -> bytes:
    def ports(name: str) -> bytes:
        return struct.pack("!HH", v.get(f"{name}_src", 0), v.get(f"{name}_dst", 0))

    if proto == 6:
        head = ports("tcp") + struct.pack("!IIHHHH", 1, 1, 5 << 12 | v["tcp_flags"], 512, 0, 0)
        return _summed(pseudo, proto, head + payload, 16)
    if proto == 17:
        head = ports("udp") + struct.pack("!HH", 8 + len(payload), 0)
        return _summed(pseudo, proto, head + payload, 6)
    if proto == 132:
        segment = ports("sctp") + bytes(8) + payload
        return segment[:8] + crc32c(segment).to_bytes(4, "little") + segment[12:]
    if proto == 1 and version == 4:
        head = bytes((v.get("icmp_type", 8), v.get("icmp_code", 0), 0, 0, 0, 1, 0, 1))
        return _summed(b"", 0, head + payload, 2)
    if proto == 58 and version == 6:
        kind = v.get("icmpv6_type", 128)
        head = bytes((kind, v.get("icmpv6_code", 0), 0, 0, 0, 0, 0, 0))
        if kind in (135, 136):
            head += v.get("nd_target", v["ipv6_dst"]).to_bytes(16, "big")
            address = v.get("nd_sll" if kind == 135 else "nd_tll")
            if address is not None:
                head += bytes((1 if kind == 135 else 2, 1)) + address.to_bytes(6, "big")
        return _summed(pseudo, proto, head + payload, 2)
    return payload


def _summed(pseudo: bytes, proto: int, segment: bytes, at: int) -> bytes:
    """With its checksum; pseudo: the addresses of the pseudo header, empty for none."""
    cover = pseudo + struct.pack("!HH", proto, len(segment)) if pseudo else b""
    checksum = ones_sum(cover + segment) ^ 0xFFFF
    return segment[:at] + checksum.to_bytes(2, "big") + segment[at + 2 :]


__all__ = ["field", "frame"]
