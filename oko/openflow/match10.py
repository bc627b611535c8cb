"""The fixed match of OpenFlow 1.0 (struct ofp_match) to `Match` and back.

40 bytes: a word of wildcards and twelve fields. A field whose prerequisite is not matched counts
as a wildcard, as the specification (1.0.0, 3.4) and Open vSwitch have it. nw_src, nw_dst and
nw_proto are ARP's addresses and opcode where the Ethernet type says so; tp_src and tp_dst are
ICMP's type and code.
"""

from __future__ import annotations

import struct
from typing import Literal, overload

from oko.model.fields import (
    ETH_DST,
    ETH_SRC,
    ETH_TYPE,
    ETH_TYPE_ARP,
    ETH_TYPE_IP,
    ETH_TYPE_RARP,
    IN_PORT,
    IP_DSCP,
    IP_PROTO,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
    Field,
    Known,
    field,
)
from oko.model.flow import Match
from oko.openflow.common import fail, port_from_10, port_to_10

MATCH_10 = struct.Struct("!IH6s6sHBxHBB2xIIHH")
SIZE_10 = MATCH_10.size

WILD_IN_PORT, WILD_VLAN, WILD_SRC, WILD_DST, WILD_TYPE, WILD_PROTO, WILD_TP_SRC, WILD_TP_DST = (
    1 << i for i in range(8)
)
NW_SRC_SHIFT, NW_DST_SHIFT = 8, 14
WILD_PCP, WILD_TOS = 1 << 20, 1 << 21
WILD_ALL = (1 << 22) - 1
VLAN_NONE = 0xFFFF

_IPV4 = (field("ipv4_src"), field("ipv4_dst"), IP_PROTO)
_ARP = (field("arp_spa"), field("arp_tpa"), field("arp_op"))
_NETWORK: dict[int, tuple[Field, Field, Field]] = {
    ETH_TYPE_IP: _IPV4,
    ETH_TYPE_ARP: _ARP,
    ETH_TYPE_RARP: _ARP,
}
_TRANSPORT: dict[int, tuple[Field, Field]] = {
    6: (field("tcp_src"), field("tcp_dst")),
    17: (field("udp_src"), field("udp_dst")),
    132: (field("sctp_src"), field("sctp_dst")),
    1: (field("icmp_type"), field("icmp_code")),
}


def decode_match_10(data: bytes) -> Match:
    """The match of these 40 bytes."""
    (wild, in_port, dl_src, dl_dst, vlan, pcp, dl_type, tos, proto, nw_src, nw_dst, tp_src,
     tp_dst) = MATCH_10.unpack(data)  # fmt: skip
    known: Known = {}
    if not wild & WILD_IN_PORT:
        known[IN_PORT] = (port_from_10(in_port), 0xFFFFFFFF)
    if not wild & WILD_SRC:
        known[ETH_SRC] = (int.from_bytes(dl_src, "big"), ETH_SRC.all_ones)
    if not wild & WILD_DST:
        known[ETH_DST] = (int.from_bytes(dl_dst, "big"), ETH_DST.all_ones)
    if not wild & WILD_VLAN and vlan == VLAN_NONE:
        known[VLAN_VID] = (0, VLAN_VID.all_ones)
    elif wild & (WILD_VLAN | WILD_PCP) != WILD_VLAN | WILD_PCP:
        known[VLAN_VID] = (VLAN_PRESENT, VLAN_PRESENT)
        if not wild & WILD_VLAN:
            known[VLAN_VID] = (VLAN_PRESENT | vlan & 0xFFF, VLAN_VID.all_ones)
        if not wild & WILD_PCP:
            known[VLAN_PCP] = (pcp & 7, 7)
    if not wild & WILD_TYPE:
        known[ETH_TYPE] = (dl_type, 0xFFFF)
        if dl_type in _NETWORK:
            addresses = ((nw_src, NW_SRC_SHIFT), (nw_dst, NW_DST_SHIFT))
            src, dst, proto_field = _NETWORK[dl_type]
            for f, (address, shift) in zip((src, dst), addresses, strict=True):
                n_wild = wild >> shift & 63
                if n_wild < 32:
                    mask = 0xFFFFFFFF << n_wild & 0xFFFFFFFF
                    known[f] = (address & mask, mask)
            if not wild & WILD_PROTO:
                known[proto_field] = (proto, proto_field.all_ones)
            if dl_type == ETH_TYPE_IP:
                _decode_ip(known, wild, tos, tp_src, tp_dst)
    return Match.of(known)


def _decode_ip(known: Known, wild: int, tos: int, tp_src: int, tp_dst: int) -> None:
    if not wild & WILD_TOS:
        known[IP_DSCP] = (tos >> 2, 0x3F)
    pair = _TRANSPORT.get(known[IP_PROTO][0]) if IP_PROTO in known else None
    if pair is None:
        return
    for f, value, bit in zip(pair, (tp_src, tp_dst), (WILD_TP_SRC, WILD_TP_DST), strict=True):
        if not wild & bit:
            if value > f.all_ones:
                fail("OFPBMC_BAD_VALUE", f"{value} is too large for {f.label}")
            known[f] = (value, f.all_ones)


@overload
def encode_match_10(match: Match) -> bytes | None: ...
@overload
def encode_match_10(match: Match, *, lossy: Literal[True]) -> bytes: ...
def encode_match_10(match: Match, *, lossy: bool = False) -> bytes | None:
    """The match as 40 bytes; None if OpenFlow 1.0 cannot say it (then NXM can). lossy: leave out
    what it cannot say, as Open vSwitch does in replies to plain 1.0 peers."""
    left: Known = {f: (value, mask) for f, value, mask in match}
    wild = WILD_ALL & ~(63 << NW_SRC_SHIFT | 63 << NW_DST_SHIFT)
    wild |= 32 << NW_SRC_SHIFT | 32 << NW_DST_SHIFT

    def exact(f: Field, bit: int) -> int:
        nonlocal wild
        value, mask = left.get(f, (0, 0))
        if mask == f.all_ones:
            wild &= ~bit
            del left[f]
            return value
        return 0

    in_port = left.get(IN_PORT, (0, 0))[0]
    if 0xFF00 <= in_port < 0xFFFFFFF8:
        if not lossy:
            return None
        del left[IN_PORT]
    in_port = port_to_10(exact(IN_PORT, WILD_IN_PORT))
    dl_src, dl_dst = exact(ETH_SRC, WILD_SRC), exact(ETH_DST, WILD_DST)
    vlan, pcp = 0, 0
    if left.get(VLAN_VID) == (VLAN_PRESENT, VLAN_PRESENT):
        if VLAN_PCP in left:
            del left[VLAN_VID]
    elif VLAN_VID in left:
        tagged = left[VLAN_VID][0] & VLAN_PRESENT
        vlan = exact(VLAN_VID, WILD_VLAN)
        if not tagged and vlan and not lossy:
            return None
        vlan = vlan & 0xFFF if tagged else VLAN_NONE
    pcp = exact(VLAN_PCP, WILD_PCP)
    dl_type = exact(ETH_TYPE, WILD_TYPE)
    tos = proto = tp_src = tp_dst = 0
    addresses = [0, 0]
    if dl_type in _NETWORK:
        src, dst, proto_field = _NETWORK[dl_type]
        for i, (f, shift) in enumerate(((src, NW_SRC_SHIFT), (dst, NW_DST_SHIFT))):
            value, mask = left.get(f, (0, 0))
            n_wild = (mask ^ 0xFFFFFFFF).bit_length()
            if mask and mask == 0xFFFFFFFF << n_wild & 0xFFFFFFFF:
                wild = wild & ~(63 << shift) | n_wild << shift
                addresses[i] = value
                del left[f]
        if left.get(proto_field, (0, 0))[0] < 256:
            proto = exact(proto_field, WILD_PROTO)
        if dl_type == ETH_TYPE_IP:
            tos = exact(IP_DSCP, WILD_TOS) << 2
            if not wild & WILD_PROTO and proto in _TRANSPORT:
                tp_src = exact(_TRANSPORT[proto][0], WILD_TP_SRC)
                tp_dst = exact(_TRANSPORT[proto][1], WILD_TP_DST)
    if left and not lossy:
        return None
    return MATCH_10.pack(
        wild, in_port, dl_src.to_bytes(6, "big"), dl_dst.to_bytes(6, "big"), vlan, pcp, dl_type,
        tos, proto, *addresses, tp_src, tp_dst,
    )  # fmt: skip
