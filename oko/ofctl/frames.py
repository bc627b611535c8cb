"""A frame on one line, as ovs-ofctl monitor shows packets.

    tcp,vlan_tci=0x0000,dl_src=02:..,dl_dst=ff:..,nw_src=10.0.0.1,...,tcp_flags=syn tcp_csum:0

A small parser of its own, because monitor must work without the C core: Ethernet, one VLAN tag,
ARP, MPLS, IPv4, IPv6 without extension headers, TCP, UDP, SCTP, ICMP, neighbour discovery. What is
cut off is left out; nothing here raises.
"""

from __future__ import annotations

import ipaddress
import struct

from oko.text.values import format_mac, format_tcp_flags

IPV4, ARP, RARP, VLAN, QINQ, IPV6, MPLS, MPLS_MULTICAST = (
    0x0800, 0x0806, 0x8035, 0x8100, 0x88A8, 0x86DD, 0x8847, 0x8848,
)  # fmt: skip
_TCP, _UDP, _SCTP, _ICMP, _ICMP6 = 6, 17, 132, 1, 58
_NAMES = {_TCP: "tcp", _UDP: "udp", _SCTP: "sctp", _ICMP: "icmp"}


def summary(frame: bytes) -> str:
    """The frame's fields, and the checksum of its transport header."""
    if len(frame) < 14:
        return f"a frame of {len(frame)} bytes"
    kind, at, tag = int.from_bytes(frame[12:14], "big"), 14, "vlan_tci=0x0000"
    if kind in (VLAN, QINQ) and len(frame) >= 18:
        tci, kind = struct.unpack_from("!HH", frame, 14)
        at, tag = 18, f"dl_vlan={tci & 0xFFF},dl_vlan_pcp={tci >> 13},vlan_tci1=0x0000"
    addresses = [
        tag,
        f"dl_src={format_mac(int.from_bytes(frame[6:12], 'big'))}",
        f"dl_dst={format_mac(int.from_bytes(frame[:6], 'big'))}",
    ]
    name, words, checksum = _network(kind, frame[at:])
    return ",".join([*([name] if name else []), *addresses, *words]) + checksum


def _network(kind: int, data: bytes) -> tuple[str, list[str], str]:
    """(protocol, words, checksum) of what follows the Ethernet header."""
    if kind == IPV4 and len(data) >= 20 and data[0] >> 4 == 4 and data[0] & 15 >= 5:
        return _ipv4(data)
    if kind == IPV6 and len(data) >= 40 and data[0] >> 4 == 6:
        return _ipv6(data)
    if kind in (ARP, RARP) and len(data) >= 28:
        (operation,) = struct.unpack_from("!H", data, 6)
        return (
            "arp" if kind == ARP else "rarp",
            [
                f"arp_spa={ipaddress.IPv4Address(data[14:18])}",
                f"arp_tpa={ipaddress.IPv4Address(data[24:28])}",
                f"arp_op={operation}",
                f"arp_sha={format_mac(int.from_bytes(data[8:14], 'big'))}",
                f"arp_tha={format_mac(int.from_bytes(data[18:24], 'big'))}",
            ],
            "",
        )
    if kind in (MPLS, MPLS_MULTICAST) and len(data) >= 4:
        label = int.from_bytes(data[:4], "big")
        words = [f"mpls_label={label >> 12}", f"mpls_tc={label >> 9 & 7}"]
        words += [f"mpls_ttl={label & 255}", f"mpls_bos={label >> 8 & 1}"]
        return "mpls" if kind == MPLS else "mplsm", words, ""
    names = {IPV4: "ip", IPV6: "ipv6", ARP: "arp"}
    if kind in names:
        return names[kind], [], ""
    return "", [f"dl_type=0x{kind if kind >= 0x600 else 0x5FF:04x}"], ""


def _ipv4(data: bytes) -> tuple[str, list[str], str]:
    size, protocol = (data[0] & 15) * 4, data[9]
    (fragment,) = struct.unpack_from("!H", data, 6)
    first = fragment & 0x1FFF == 0
    shown = "no" if not fragment & 0x3FFF else "first" if first else "later"
    words = [
        f"nw_src={ipaddress.IPv4Address(data[12:16])}",
        f"nw_dst={ipaddress.IPv4Address(data[16:20])}",
    ]
    name = _NAMES.get(protocol, "")
    words += [] if name else [f"nw_proto={protocol}"]
    words += [f"nw_tos={data[1] & 0xFC}", f"nw_ecn={data[1] & 3}", f"nw_ttl={data[8]}"]
    words.append(f"nw_frag={shown}")
    more, checksum = _transport(protocol, data[size:]) if first else ([], "")
    return name or "ip", words + more, checksum


def _ipv6(data: bytes) -> tuple[str, list[str], str]:
    (head,) = struct.unpack_from("!I", data)
    protocol, traffic = data[6], head >> 20 & 255
    words = [
        f"ipv6_src={ipaddress.IPv6Address(data[8:24])}",
        f"ipv6_dst={ipaddress.IPv6Address(data[24:40])}",
        f"ipv6_label=0x{head & 0xFFFFF:05x}",
    ]
    named = protocol in (_TCP, _UDP, _SCTP, _ICMP6)
    name = f"{_NAMES.get(protocol, 'icmp')}6" if named else "ipv6"
    words += [] if named else [f"nw_proto={protocol}"]
    words += [f"nw_tos={traffic & 0xFC}", f"nw_ecn={traffic & 3}", f"nw_ttl={data[7]}"]
    more, checksum = _transport(protocol, data[40:])
    return name, [*words, "nw_frag=no", *more], checksum


def _transport(protocol: int, data: bytes) -> tuple[list[str], str]:
    if protocol in (_TCP, _UDP, _SCTP) and len(data) >= 8:
        source, target = struct.unpack_from("!HH", data)
        words = [f"tp_src={source}", f"tp_dst={target}"]
        if protocol == _UDP:
            return words, f" udp_csum:{int.from_bytes(data[6:8], 'big'):x}"
        if protocol == _SCTP:
            return words, f" sctp_csum:{int.from_bytes(data[8:12], 'big'):x}"
        if len(data) >= 20:
            flags = int.from_bytes(data[12:14], "big") & 0xFFF
            words.append(f"tcp_flags={format_tcp_flags(flags, 0xFFF)}")
            return words, f" tcp_csum:{int.from_bytes(data[16:18], 'big'):x}"
        return words, ""
    if protocol in (_ICMP, _ICMP6) and len(data) >= 4:
        words = [f"icmp_type={data[0]}", f"icmp_code={data[1]}"]
        version6 = protocol == _ICMP6
        if version6 and data[0] in (135, 136) and len(data) >= 24:
            words.append(f"nd_target={ipaddress.IPv6Address(data[8:24])}")
            option = {1: "nd_sll", 2: "nd_tll"}
            shown = {"nd_sll": bytes(6), "nd_tll": bytes(6)}
            if len(data) >= 32 and data[24] in option and data[25] == 1:
                shown[option[data[24]]] = data[26:32]
            words += [
                f"{name}={format_mac(int.from_bytes(raw, 'big'))}" for name, raw in shown.items()
            ]
        name = "icmp6" if version6 else "icmp"
        return words, f" {name}_csum:{int.from_bytes(data[2:4], 'big'):x}"
    return [], ""
