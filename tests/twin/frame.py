"""Reading and changing frames, the slow way.

Every field is a run of bits somewhere in the frame; `place()` says where by walking the headers
from the first byte each time it is asked. Checksums are handled by the book: the ones' complement
sum over everything that a checksum covers is taken before and after a change, and the difference
goes into the checksum (so a checksum that was wrong stays wrong by as much; RFC 1624).
Parsing itself is oracle_frames.parse(), which shares nothing with the core either.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from oracle_frames import parse

TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132


@dataclass
class Layout:
    """Byte offsets into a frame; None where there is nothing (whole)."""

    n_vlans: int
    type_at: int  # where the Ethernet type (or 802.3 length) lies that names the payload
    payload: int
    eth_type: int
    snap: bool
    mpls: int | None = None
    pbb: int | None = None
    arp: int | None = None
    ip: int | None = None
    version: int = 0
    l4: int | None = None  # a transport header that is all there, in a packet that is no fragment
    first_l4: int | None = None  # the same, or in a first fragment
    proto: int = 0
    end: int = 0  # of the IP packet
    routing_active: bool = False


def be(data: bytes | bytearray, at: int, n: int) -> int:
    return int.from_bytes(data[at : at + n], "big")


def layout(data: bytes | bytearray) -> Layout | None:
    """None for fewer than 14 bytes."""
    if len(data) < 14:
        return None
    at, n_vlans = 12, 0
    while n_vlans < 2 and be(data, at, 2) in (0x8100, 0x88A8) and len(data) - at >= 6:
        at, n_vlans = at + 4, n_vlans + 1
    eth_type, snap = be(data, at, 2), False
    if eth_type < 0x600:
        is_snap = data[at + 2 : at + 8] == b"\xaa\xaa\x03\0\0\0" and len(data) >= at + 10
        eth_type = 0x5FF
        if is_snap and be(data, at + 8, 2) >= 0x600:
            at, snap = at + 8, True
            eth_type = be(data, at, 2)
    found = Layout(n_vlans, at, at + 2, eth_type, snap)
    key = parse(bytes(data))
    here, left = found.payload, len(data) - found.payload
    if eth_type in (0x8847, 0x8848) and left >= 4:
        found.mpls = here
    elif eth_type == 0x88E7 and left >= 4:
        found.pbb = here
    elif eth_type in (0x806, 0x8035):
        if left >= 28 and data[here : here + 6] == b"\0\1\x08\0\6\4":
            found.arp = here
    elif eth_type == 0x800 and left >= 20:
        header, total = data[here] % 16 * 4, be(data, here + 2, 2)
        if 20 <= header <= total <= left:
            found.ip, found.version, found.proto = here, 4, data[here + 9]
            found.end = here + total
            _transport(data, found, key, here + header)
    elif eth_type == 0x86DD and left >= 40 and be(data, here + 4, 2) <= left - 40:
        found.ip, found.version = here, 6
        found.end = here + 40 + be(data, here + 4, 2)
        _ipv6(data, found, key)
    return found


def _ipv6(data: bytes | bytearray, found: Layout, key: dict[str, int]) -> None:
    assert found.ip is not None
    proto, at = data[found.ip + 6], found.ip + 40
    while proto in (0, 43, 44, 51, 60):
        left = found.end - at
        size = 8 if left < 8 or proto == 44 else (data[at + 1] + 1) * 8
        if left >= 8 and proto == 51:
            size = (data[at + 1] + 2) * 4
        if left < 8 or left < size or (proto == 44 and be(data, at + 2, 2) >= 8):
            found.proto = proto
            return
        if proto == 43 and data[at + 3]:
            found.routing_active = True
        proto, at = data[at], at + size
    found.proto = proto
    _transport(data, found, key, at)


def _transport(data: bytes | bytearray, found: Layout, key: dict[str, int], at: int) -> None:
    """at: where the header is, if this is not a later fragment."""
    least = {TCP: 20, UDP: 8, SCTP: 12, ICMP: 8, ICMPV6: 8}.get(found.proto)
    if least is None or key.get("ip_frag", 0) & 2 or found.end - at < least:
        return
    found.first_l4 = at
    if key.get("ip_frag", 0):
        return
    if (found.proto, found.version) in ((ICMP, 6), (ICMPV6, 4)):
        found.first_l4 = None
        return
    if found.proto == TCP:
        header = data[at + 12] // 16 * 4
        if not 20 <= header <= found.end - at:
            found.first_l4 = None
            return
    found.l4 = at


_ETHERNET = {"eth_dst": (0, 48), "eth_src": (48, 48)}
_MPLS = {"mpls_label": (0, 20), "mpls_tc": (20, 3), "mpls_bos": (23, 1), "mpls_ttl": (24, 8)}
_PBB = {"pbb_isid": (8, 24), "pbb_uca": (4, 1)}
_ARP = {
    "arp_op": (48, 16), "arp_sha": (64, 48), "arp_spa": (112, 32),
    "arp_tha": (144, 48), "arp_tpa": (192, 32),
}  # fmt: skip
_IPV4 = {
    "ip_dscp": (8, 6), "ip_ecn": (14, 2), "nw_ttl": (64, 8), "ipv4_src": (96, 32),
    "ipv4_dst": (128, 32),
}  # fmt: skip
_IPV6 = {
    "ip_dscp": (4, 6), "ip_ecn": (10, 2), "ipv6_label": (12, 20), "nw_ttl": (56, 8),
    "ipv6_src": (64, 128), "ipv6_dst": (192, 128),
}  # fmt: skip
_TRANSPORT = {
    TCP: {"tcp_src": (0, 16), "tcp_dst": (16, 16)},
    UDP: {"udp_src": (0, 16), "udp_dst": (16, 16)},
    SCTP: {"sctp_src": (0, 16), "sctp_dst": (16, 16)},
    ICMP: {"icmp_type": (0, 8), "icmp_code": (8, 8)},
    ICMPV6: {"icmpv6_type": (0, 8), "icmpv6_code": (8, 8)},
}


def place(data: bytes | bytearray, name: str) -> tuple[int, int] | None:
    """(first bit, bits) of a field in the frame; None when this packet does not have it."""
    found = layout(data)
    if found is None:
        return None
    if found.n_vlans and name in ("vlan_vid", "vlan_pcp"):
        return (14 * 8 + 4, 12) if name == "vlan_vid" else (14 * 8, 3)
    tables = [
        (0, _ETHERNET),
        (found.mpls, _MPLS),
        (found.pbb, _PBB),
        (found.arp, _ARP),
        (found.ip, _IPV4 if found.version == 4 else _IPV6),
        (found.l4, _TRANSPORT.get(found.proto, {})),
    ]
    for base, fields in tables:
        if base is not None and name in fields:
            first, bits = fields[name]
            return base * 8 + first, bits
    if name in ("nd_target", "nd_sll", "nd_tll") and found.l4 is not None:
        return _place_nd(data, found, name)
    return None


def _place_nd(data: bytes | bytearray, found: Layout, name: str) -> tuple[int, int] | None:
    """Neighbour solicitation and advertisement (RFC 4861, 4.3 and 4.4)."""
    at = found.l4
    assert at is not None
    if data[at] not in (135, 136) or data[at + 1] or found.end - at < 24:
        return None
    places: dict[str, tuple[int, int]] = {"nd_target": ((at + 8) * 8, 128)}
    option = at + 24
    nonzero = set()
    while found.end - option >= 8 and data[option + 1]:
        size = data[option + 1] * 8
        if found.end - option < size:
            break
        which = {1: "nd_sll", 2: "nd_tll"}.get(data[option])
        if which and size == 8:
            if which in nonzero:
                return None  # an option twice: not to be trusted
            if any(data[option + 2 : option + 8]):
                nonzero.add(which)
            places[which] = ((option + 2) * 8, 48)
        option += size
    return places.get(name)


def get_bits(data: bytes | bytearray, first: int, bits: int) -> int:
    whole = int.from_bytes(data, "big")
    return whole >> (len(data) * 8 - first - bits) & ((1 << bits) - 1)


def put_bits(data: bytearray, first: int, bits: int, value: int) -> None:
    whole = int.from_bytes(data, "big")
    shift = len(data) * 8 - first - bits
    whole = whole & ~(((1 << bits) - 1) << shift) | value << shift
    data[:] = whole.to_bytes(len(data), "big")


# ---------------------------------------------------------------- checksums


def ones_sum(data: bytes) -> int:
    total = sum(be(data, i, 2) for i in range(0, len(data) - 1, 2))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _covered(data: bytearray) -> list[tuple[int, str, int]]:
    """[(where the checksum is, kind, sum or CRC over what it covers)]."""
    found = layout(data)
    result: list[tuple[int, str, int]] = []
    if found is None or found.ip is None:
        return result
    ip = found.ip
    if found.version == 4:
        header = bytearray(data[ip : ip + data[ip] % 16 * 4])
        header[10:12] = b"\0\0"
        result.append((ip + 10, "sum", ones_sum(header)))
    at = found.first_l4
    if at is None:
        return result
    segment = bytearray(data[at : found.end])
    tail = struct.pack("!HH", found.proto, len(segment))  # of the pseudo header
    if found.version == 4:
        pseudo = data[ip + 12 : ip + 20] + tail
    else:
        pseudo = data[ip + 8 : ip + 24] + tail
        if not found.routing_active:
            pseudo = pseudo + data[ip + 24 : ip + 40]
    if found.proto == TCP:
        segment[16:18] = b"\0\0"
        result.append((at + 16, "sum", ones_sum(pseudo + segment)))
    elif found.proto == UDP:
        segment[6:8] = b"\0\0"
        result.append((at + 6, "udp", ones_sum(pseudo + segment)))
    elif found.proto == ICMPV6 and found.version == 6:
        segment[2:4] = b"\0\0"
        result.append((at + 2, "sum", ones_sum(pseudo + segment)))
    elif found.proto == ICMP and found.version == 4 and found.l4 is not None:
        segment[2:4] = b"\0\0"
        result.append((at + 2, "sum", ones_sum(segment)))
    elif found.proto == SCTP and found.l4 is not None:
        segment[8:12] = bytes(4)
        result.append((at + 8, "crc", crc32c(segment)))
    return result


def changed(data: bytearray, change: Callable[[], None]) -> None:
    """Carries out a change that moves no bytes and keeps checksums as right as they were."""
    before = _covered(data)
    change()
    after = _covered(data)
    assert [at for at, _, _ in before] == [at for at, _, _ in after]
    for (at, kind, old), (_, _, new) in zip(before, after, strict=True):
        if old == new:
            continue
        if kind == "crc":
            crc = int.from_bytes(data[at : at + 4], "little") ^ old ^ new
            data[at : at + 4] = crc.to_bytes(4, "little")
            continue
        checksum = be(data, at, 2)
        if kind == "udp" and checksum == 0:
            continue  # there is none
        if checksum == old ^ 0xFFFF:  # it was right
            checksum = new ^ 0xFFFF
        else:
            total = (checksum ^ 0xFFFF) + (old ^ 0xFFFF) + new
            while total >> 16:
                total = (total & 0xFFFF) + (total >> 16)
            checksum = total ^ 0xFFFF
        if kind == "udp" and checksum == 0:
            checksum = 0xFFFF
        data[at : at + 2] = checksum.to_bytes(2, "big")


def set_field(data: bytearray, name: str, value: int, mask: int) -> None:
    """Sets bits of a field, if the packet has it."""
    where = place(data, name)
    if where is None:
        return
    first, bits = where
    inside = (1 << bits) - 1  # vlan_vid's present bit is no bit of the frame
    value, mask = value & inside, mask & inside
    new = get_bits(data, first, bits) & ~mask | value & mask
    changed(data, lambda: put_bits(data, first, bits, new))


# ---------------------------------------------------------------- push and pop


def push_vlan(data: bytearray, tpid: int) -> None:
    if len(data) >= 14:
        data[12:12] = tpid.to_bytes(2, "big") + b"\0\0"


def pop_vlan(data: bytearray) -> None:
    found = layout(data)
    if found is not None and found.n_vlans:
        del data[12:16]


def set_vlan_tci(data: bytearray, value: int, mask: int) -> None:
    """As Open vSwitch's vlan_tci: bit 0x1000 of the result says whether there is a tag."""
    found = layout(data)
    if found is None:
        return
    old = be(data, 14, 2) | 0x1000 if found.n_vlans else 0
    new = old & ~mask | value
    if not new & 0x1000:
        pop_vlan(data)
        return
    if not old & 0x1000:
        push_vlan(data, 0x8100)
    set_field(data, "vlan_vid", new, 0xFFF)
    set_field(data, "vlan_pcp", new >> 13, 7)


def _grow_length(data: bytearray, found: Layout, n: int) -> None:
    """An 802.3 length counts what comes after it."""
    if found.snap:
        at = found.payload - 10
        length = be(data, at, 2) + n
        if 0 <= length < 0x600:
            data[at : at + 2] = length.to_bytes(2, "big")


def push_mpls(data: bytearray, eth_type: int) -> None:
    """Copies the label below; on IP: explicit null, TC from the DSCP, its TTL (as Open vSwitch)."""
    found = layout(data)
    if found is None:
        return
    if found.mpls is not None:
        entry = be(data, found.mpls, 4) & ~0x100
    elif found.ip is not None:
        key = parse(bytes(data))
        label = 0 if found.version == 4 else 2
        tc, ttl = key.get("ip_dscp", 0) & 7, key.get("nw_ttl", 0)
        entry = label << 12 | tc << 9 | 0x100 | ttl
    else:
        entry = 0x100 | 64
    _grow_length(data, found, 4)
    data[found.type_at : found.type_at + 2] = eth_type.to_bytes(2, "big")
    data[found.payload : found.payload] = entry.to_bytes(4, "big")


def pop_mpls(data: bytearray, eth_type: int) -> None:
    found = layout(data)
    if found is None or found.mpls is None:
        return
    _grow_length(data, found, -4)
    data[found.type_at : found.type_at + 2] = eth_type.to_bytes(2, "big")
    del data[found.payload : found.payload + 4]


def push_pbb(data: bytearray) -> None:
    """IEEE 802.1ah: priority of the VLAN tag, I-SID of a service tag that is there already."""
    if len(data) < 14:
        return
    key = parse(bytes(data))
    tag = key.get("vlan_pcp", 0) << 29 | key.get("pbb_isid", 0)
    data[12:12] = b"\x88\xe7" + tag.to_bytes(4, "big") + data[0:12]


def pop_pbb(data: bytearray) -> None:
    found = layout(data)
    if found is None or found.eth_type != 0x88E7 or len(data) - found.payload < 18:
        return
    _grow_length(data, found, -18)
    data[0:12] = data[found.payload + 4 : found.payload + 16]
    del data[found.type_at : found.type_at + 18]


# ---------------------------------------------------------------- TTLs


def ttl_name(data: bytearray) -> str | None:
    """The outermost header that has a TTL."""
    found = layout(data)
    if found is None:
        return None
    return "mpls_ttl" if found.mpls is not None else "nw_ttl" if found.ip is not None else None


def inner_ttl(data: bytearray) -> tuple[int, int | None] | None:
    """(where the next TTL below the outermost is, its IPv4 header if it has one)."""
    found = layout(data)
    if found is None:
        return None
    if found.mpls is not None:
        below = found.mpls + 4
        if not data[found.mpls + 2] & 1:
            return (below + 3, None) if len(data) - below >= 4 else None
        return _ip_ttl(data, below, len(data))
    key = parse(bytes(data))
    if found.ip is None or key.get("ip_frag") or found.proto not in (4, 41):
        return None
    if found.version == 4:
        return _ip_ttl(data, found.ip + data[found.ip] % 16 * 4, found.end)
    proto, at = data[found.ip + 6], found.ip + 40
    while proto in (0, 43, 44, 51, 60):
        size = {44: 8, 51: (data[at + 1] + 2) * 4}.get(proto, (data[at + 1] + 1) * 8)
        proto, at = data[at], at + size
    return _ip_ttl(data, at, found.end)


def _ip_ttl(data: bytearray, at: int, end: int) -> tuple[int, int | None] | None:
    if end - at >= 20 and data[at] >> 4 == 4 and data[at] & 15 >= 5:
        return at + 8, at
    if end - at >= 40 and data[at] >> 4 == 6:
        return at + 7, None
    return None


def copy_ttl_out(data: bytearray) -> None:
    inner, outer = inner_ttl(data), ttl_name(data)
    if inner is not None and outer is not None:
        set_field(data, outer, data[inner[0]], 0xFF)


def copy_ttl_in(data: bytearray) -> None:
    inner, outer = inner_ttl(data), ttl_name(data)
    if inner is None or outer is None:
        return
    at, ipv4 = inner
    word = at & ~1 if ipv4 is None else at  # TTL and protocol, within the inner header
    before = ones_sum(data[word : word + 2])
    data[at] = parse(bytes(data)).get(outer, 0)
    if ipv4 is not None:
        total = (be(data, ipv4 + 10, 2) ^ 0xFFFF) + (before ^ 0xFFFF)
        total += ones_sum(data[word : word + 2])
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        data[ipv4 + 10 : ipv4 + 12] = (total ^ 0xFFFF).to_bytes(2, "big")
