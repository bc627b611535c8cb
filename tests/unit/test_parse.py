"""csrc/parse.c against an independent parser, on real frames, cut ones and made-up ones."""

from __future__ import annotations

import ipaddress
import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import dpkt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle_frames import frames, parse

from oko._binding_frame import NO_LAYER, parse_frame

CAPTURES = [
    "echo-connections.pcap.gz",
    "http-qinq-0.pcap",
    "ip-bogus-header-len.pcap",
    "ipv6-fragmented-dns.pcap",
    "ipv6-hbh-routing0.pcap",
    "irc-dcc-send.pcapng",
    "lan-mixed.pcap",
    "mix.pcap.gz",
    "mixed-vlan-mpls.pcap",
]
ALIASES = {  # fields that share a member of the key: which of them the prerequisites select
    "arp": ("arp_spa", "arp_tpa", "arp_sha", "arp_tha"),
    "nd": ("nd_sll", "nd_tll"),
}


def ours(frame: bytes) -> dict[str, int]:
    """parse_frame with the prerequisites applied: one name per value, zeroes left out."""
    f = parse_frame(frame).fields
    arp = f["eth_type"] in (0x806, 0x8035)
    v6 = f["eth_type"] == 0x86DD
    proto = f["ip_proto"]
    drop = set()
    drop |= {"ipv4_src", "ipv4_dst"} if arp else {*ALIASES["arp"]}
    if proto != 58 or not v6:
        drop |= {*ALIASES["nd"], "icmpv6_type", "icmpv6_code"}
    else:
        drop |= {"icmp_type", "icmp_code"}
    for name, number in (("tcp", 6), ("udp", 17), ("sctp", 132)):
        if proto != number:
            drop |= {f"{name}_src", f"{name}_dst"}
    return {name: value for name, value in f.items() if value and name not in drop}


@pytest.mark.parametrize("name", CAPTURES)
def test_real_frames(traces: Path, name: str) -> None:
    step = 7 if name.startswith("echo") else 1
    for i, (_, frame) in enumerate(frames(traces / name)):
        if i % step == 0:
            assert ours(frame) == parse(frame), f"{name}: packet {i + 1}: {frame.hex()}"


@pytest.mark.parametrize("name", CAPTURES)
def test_cut_frames(traces: Path, name: str) -> None:
    """Real frames cut at every length within their headers; each shape of frame once."""
    seen = set()
    for _, frame in frames(traces / name):
        shape = tuple(sorted((k, v) for k, v in parse(frame).items() if k in SHAPE))
        if shape in seen:
            continue
        seen.add(shape)
        for size in range(min(len(frame), 140)):
            assert ours(frame[:size]) == parse(frame[:size]), f"{size} of {frame.hex()}"


SHAPE = ("eth_type", "vlan_vid", "mpls_bos", "ip_proto", "ip_frag", "ipv6_exthdr", "icmpv6_type")


def shortened(frame: bytes, size: int) -> bytes:
    """The frame cut to size with its IP lengths adjusted, so that the upper layers are reached."""
    out = bytearray(frame[:size])
    key = parse(frame)
    at = parse_frame(frame).l3
    if at == NO_LAYER or size < at + 40:
        return bytes(out)
    if key["eth_type"] == 0x800:
        struct.pack_into("!H", out, at + 2, size - at)
    elif key["eth_type"] == 0x86DD:
        struct.pack_into("!H", out, at + 4, size - at - 40)
    return bytes(out)


@pytest.mark.parametrize("name", ["mix.pcap.gz", "ipv6-fragmented-dns.pcap", "lan-mixed.pcap"])
def test_cut_segments(traces: Path, name: str) -> None:
    """As above, but with the IP length shortened too: now the upper header is what is cut."""
    seen = set()
    for _, frame in frames(traces / name):
        shape = tuple(sorted((k, v) for k, v in parse(frame).items() if k in SHAPE))
        if shape in seen:
            continue
        seen.add(shape)
        for size in range(min(len(frame), 140)):
            cut = shortened(frame, size)
            assert ours(cut) == parse(cut), cut.hex()


def test_flipped_bytes(traces: Path) -> None:
    """Real headers with a few bytes changed to values that parsers trip over."""
    rng = random.Random(1)
    corpus = [frame[:200] for _, frame in frames(traces / "mix.pcap.gz")]
    for _ in range(20000):
        frame = bytearray(rng.choice(corpus))
        for _ in range(rng.randint(1, 4)):
            frame[rng.randrange(min(len(frame), 80))] = rng.choice(
                (0, 1, 4, 5, 6, 8, 0x0F, 17, 43, 44, 50, 51, 58, 59, 60, 0x60, 0x81, 0x88, 132, 255)
            )
        assert ours(bytes(frame)) == parse(bytes(frame)), frame.hex()


ETH = bytes.fromhex("0200000000020200000000 01".replace(" ", ""))
header = st.one_of(
    st.sampled_from([0, 43, 60]).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(0, 2).map(lambda u: (u, 8 * u + 8)))
    ),
    st.sampled_from([(44, (0, 8)), (51, (1, 12)), (51, (4, 24))]),
)


@given(st.lists(header, max_size=8), st.sampled_from([6, 17, 50, 58, 59, 132]), st.data())
@settings(max_examples=400, deadline=None)
def test_extension_chains(
    chain: list[tuple[int, tuple[int, int]]], last: int, data: st.DataObject
) -> None:
    """IPv6 chains in any order, whole and cut."""
    numbers = [number for number, _ in chain] + [last]
    body = b""
    for (number, (units, size)), following in zip(chain, numbers[1:], strict=False):
        field = data.draw(st.sampled_from([0, 1, 8, 9, 6])) if number == 44 else 0
        body += bytes((following, units)) + field.to_bytes(2, "big") + bytes(size - 4)
    body += bytes((0, 80, 1, 187, *(0 for _ in range(8)), 0x50, 0x12, *(0 for _ in range(12))))
    body = body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body
    head = struct.pack("!IHBB", 0x6ABCDEF0, len(body), numbers[0], 64) + bytes(range(32))
    frame = ETH + b"\x86\xdd" + head + body
    assert ours(frame) == parse(frame)


option = st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 2), st.binary(min_size=6, max_size=6))


@given(st.sampled_from([133, 135, 136]), st.integers(0, 1), st.lists(option, max_size=4))
@example(135, 0, [(1, 1, bytes(6)), (1, 1, b"abcdef")])
@example(136, 0, [(2, 1, b"abcdef"), (2, 1, b"abcdef")])
@settings(max_examples=300, deadline=None)
def test_neighbour_discovery(kind: int, code: int, options: list[tuple[int, int, bytes]]) -> None:
    icmp = bytes((kind, code, 0, 0, 0, 0, 0, 0)) + bytes(range(1, 17))
    for number, units, address in options:
        icmp += bytes((number, units)) + address + bytes(8 * max(units - 1, 0))
    head = struct.pack("!IHBB", 6 << 28, len(icmp), 58, 255) + bytes(range(32))
    for cut in (len(icmp), len(icmp) - 3, 24, 23, 8, 7):
        payload = icmp[: max(cut, 0)]
        frame = ETH + b"\x86\xdd" + head[:4] + struct.pack("!H", len(payload)) + head[6:] + payload
        assert ours(frame) == parse(frame)


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_bytes(data: bytes) -> None:
    assert ours(data) == parse(data)


def test_frame_too_long() -> None:
    parse_frame(bytes(65535))
    with pytest.raises(ValueError, match="65,535"):
        parse_frame(bytes(65536))


# ---------------------------------------------------------------- Open vSwitch's own opinion

OVS_NUMBER = {
    "dl_type": "eth_type",
    "nw_ttl": "nw_ttl",
    "nw_ecn": "ip_ecn",
    "nw_proto": "ip_proto",
    "tcp_flags": "tcp_flags",
    "icmp_type": "icmp_type",
    "icmp_code": "icmp_code",
    "arp_op": "arp_op",
    "mpls_label": "mpls_label",
    "mpls_tc": "mpls_tc",
    "mpls_bos": "mpls_bos",
    "mpls_ttl": "mpls_ttl",
    "ipv6_label": "ipv6_label",
}
OVS_WORD = {  # leading words of the flow format: Ethernet type and protocol that they stand for
    "tcp": (0x800, 6),
    "udp": (0x800, 17),
    "sctp": (0x800, 132),
    "icmp": (0x800, 1),
    "ip": (0x800, None),
    "arp": (0x806, None),
    "rarp": (0x8035, None),
    "tcp6": (0x86DD, 6),
    "udp6": (0x86DD, 17),
    "sctp6": (0x86DD, 132),
    "icmp6": (0x86DD, 58),
    "ipv6": (0x86DD, None),
    "mpls": (0x8847, None),
    "mplsm": (0x8848, None),
}
TCP_FLAG_BITS = {
    name: 1 << i
    for i, name in enumerate(("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"))
}


def address(text: str) -> int:
    if "." in text:
        return int.from_bytes(bytes(int(part) for part in text.split(".")), "big")
    if text.count(":") == 5 and "::" not in text:
        return int(text.replace(":", ""), 16)
    return int.from_bytes(ipaddress.ip_address(text).packed, "big")


def ovs_fields(line: str) -> dict[str, int]:
    """A flow as ovs-ofctl prints it, in our names."""
    out: dict[str, int] = {}
    items = [part.partition("=") for part in re.split(r",(?![^(]*\))", line.strip())]
    ports = "tcp"
    for name, _, value in items:
        if name in OVS_WORD and not value:
            out["eth_type"], proto = OVS_WORD[name]
            if proto is not None:
                out["ip_proto"] = proto
                ports = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmpv6"}[proto]
    arp = out.get("eth_type") in (0x806, 0x8035)
    for name, _, value in items:
        if name in ("dl_src", "dl_dst"):
            out["eth_" + name[3:]] = address(value)
        elif name in ("nw_src", "nw_dst", "arp_spa", "arp_tpa"):
            side = {"nw_src": "src", "nw_dst": "dst", "arp_spa": "src", "arp_tpa": "dst"}[name]
            shared = {"src": "arp_spa", "dst": "arp_tpa"} if arp else {}
            out[shared.get(side, "ipv4_" + side)] = address(value)
        elif name in ("ipv6_src", "ipv6_dst", "nd_target", *ALIASES["arp"][2:], *ALIASES["nd"]):
            out[name] = address(value)
        elif name in ("tp_src", "tp_dst"):
            out[f"{ports}_{name[3:]}"] = int(value, 0)
        elif name == "nw_tos":
            out["ip_dscp"] = int(value) // 4
        elif name in ("dl_vlan", "vlan_tci", "vlan_tci1", "dl_vlan_pcp", "dl_vlan1"):
            if name == "dl_vlan":
                out["vlan_vid"] = 0x1000 + int(value)
            elif name == "dl_vlan_pcp":
                out["vlan_pcp"] = int(value)
        elif name == "nw_frag":
            out["ip_frag"] = {"no": 0, "first": 1, "later": 3}[value]
        elif name in ("mpls_lse1", "mpls_lse2"):
            continue
        elif name == "tcp_flags" and not value[0].isdigit():
            out[name] = sum(TCP_FLAG_BITS[flag] for flag in value.split("|"))
        elif name in ("icmp_type", "icmp_code"):
            out[(ports if ports.startswith("icmp") else "icmp") + name[4:]] = int(value)
        elif name in OVS_NUMBER:
            out[OVS_NUMBER[name]] = int(value, 0)
    return {name: value for name, value in out.items() if value}


@pytest.mark.skipif(shutil.which("ovs-ofctl") is None, reason="ovs-ofctl is not installed")
@pytest.mark.parametrize("name", [n for n in CAPTURES if n != "echo-connections.pcap.gz"])
def test_open_vswitch_agrees(traces: Path, tmp_path: Path, name: str) -> None:
    plain = tmp_path / "plain.pcap"
    kept = [frame for _, frame in frames(traces / name) if 14 <= len(frame) < 65536]
    with open(plain, "wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=65535)
        for frame in kept:
            writer.writepkt(frame, 1)
    out = subprocess.run(
        ["ovs-ofctl", "parse-pcap", str(plain)], capture_output=True, text=True, check=True
    )
    lines = out.stdout.splitlines()
    assert len(lines) == len(kept)
    for frame, line in zip(kept, lines, strict=True):
        theirs, mine = ovs_fields(line), ours(frame)
        mine.pop("ipv6_exthdr", None)  # Open vSwitch has no such field
        mine.pop("pbb_isid", None)
        if mine.get("ip_proto") == 2:  # IGMP type and code are no OpenFlow fields
            theirs.pop("tcp_src", None)
            theirs.pop("tcp_dst", None)
        if mine.get("ip_frag"):  # frags=normal is applied later there
            for field in ("tcp_src", "tcp_dst", "tcp_flags", "udp_src", "udp_dst", "icmp_type"):
                theirs.pop(field, None)
        if theirs.get("arp_op", 1) != mine.get("arp_op", 1):
            assert mine["arp_op"] > 255
            mine.pop("arp_op")
        assert mine == theirs, f"{line}\n{frame.hex()}"
