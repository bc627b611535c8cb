"""A frame made for a match has the match's fields when it is parsed."""

from __future__ import annotations

import dpkt
import pytest

from oko._binding_frame import parse_frame
from oko.errors import OkoError
from oko.model.compose import compose
from oko.text import parse_flow

CASES = [
    "in_port=3,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02",
    "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=1000,tp_dst=80,tcp_flags=0x12,nw_ttl=5",
    "udp,nw_src=10.0.0.1,nw_tos=32,nw_ecn=1,tp_dst=53,dl_vlan=9,dl_vlan_pcp=3",
    "icmp,icmp_type=8,icmp_code=0,nw_dst=1.2.3.4",
    "sctp,tp_src=5,tp_dst=6",
    "arp,arp_op=2,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_sha=02:00:00:00:00:01",
    "tcp6,ipv6_src=fe80::1,ipv6_dst=fe80::2,tp_dst=443,ipv6_label=5",
    "udp6,ipv6_dst=2001:db8::9,tp_src=7",
    "icmp6,icmp_type=135,nd_target=fe80::9,nd_sll=02:00:00:00:00:07",
    "mpls,mpls_label=77,mpls_tc=2,mpls_bos=1",
    "ip,nw_proto=89,ip_frag=later",
    "udp,ip_frag=first",
    "dl_type=0x88cc",
]


@pytest.mark.parametrize("text", CASES)
def test_fields_come_back(text):
    match = parse_flow(text + ",actions=drop").match
    in_port, frame = compose(match, b"payload")
    values = parse_frame(frame, in_port).fields
    assert len(frame) >= 60
    for f, value, mask in match:
        assert values[f.name] & mask == value, f.name


def ones_sum(data: bytes) -> int:
    """One's complement sum; 0xffff over anything with a right checksum in it."""
    total = sum(
        int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2)
    )
    return total % 0xFFFF or 0xFFFF


@pytest.mark.parametrize("text", CASES[1:4] + CASES[6:9])
def test_checksums_are_right(text):
    _, frame = compose(parse_flow(text + ",actions=drop").match, b"odd")
    ip = dpkt.ethernet.Ethernet(frame).data
    if isinstance(ip, dpkt.ip.IP):
        raw = frame[len(frame) - len(frame.split(b"\x08\x00", 1)[1]) :][: ip.len]
        assert ones_sum(raw[:20]) == 0xFFFF
        body, pseudo = raw[20:], raw[12:20] + bytes([0, ip.p]) + (ip.len - 20).to_bytes(2, "big")
        if ip.p == 1:
            pseudo = b""
    else:
        raw = frame[14 : 54 + ip.plen]
        body, pseudo = raw[40:], raw[8:40] + ip.plen.to_bytes(4, "big") + bytes([0, 0, 0, ip.nxt])
    assert body.endswith(b"odd") and ones_sum(pseudo + body) == 0xFFFF


def test_what_no_frame_carries():
    with pytest.raises(OkoError, match="reg3"):
        compose(parse_flow("reg3=1,actions=drop").match)
