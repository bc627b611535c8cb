"""The match part of a flow: field=value items to a `Match`, and back.

The grammar is ovs-ofctl's (ovs-fields(7)): shorthand words (ip, tcp6, arp...), old and new field
names, masks. Names that mean different fields for different protocols (nw_src, nw_proto, tp_dst,
icmp_type) are settled when the whole match has been read. Stricter than Open vSwitch in one
respect: a field whose prerequisite is not matched is an error here, where ovs-ofctl drops it with
a note in its log and so installs a wider flow than was meant; and so is a field given twice with
different values.
"""

from __future__ import annotations

from collections.abc import Iterable

from oko.model.fields import (
    ETH_TYPE,
    ETH_TYPE_ARP,
    ETH_TYPE_IP,
    ETH_TYPE_IPV6,
    ETH_TYPE_MPLS,
    ETH_TYPE_MPLS_MCAST,
    ETH_TYPE_RARP,
    IP_DSCP,
    IP_PROTO,
    NW_TOS,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
    Field,
    Known,
    field,
    unmet,
)
from oko.model.flow import Match, parts_of
from oko.text.scan import Item, Span, number
from oko.text.values import (
    Ports,
    field_named,
    format_field,
    parse_field,
)

# word -> (eth_type, ip_proto)
SHORTHANDS: dict[str, tuple[int, int | None]] = {
    "ip": (ETH_TYPE_IP, None),
    "ipv4": (ETH_TYPE_IP, None),
    "icmp": (ETH_TYPE_IP, PROTO_ICMP),
    "tcp": (ETH_TYPE_IP, PROTO_TCP),
    "udp": (ETH_TYPE_IP, PROTO_UDP),
    "sctp": (ETH_TYPE_IP, PROTO_SCTP),
    "ipv6": (ETH_TYPE_IPV6, None),
    "ip6": (ETH_TYPE_IPV6, None),
    "icmp6": (ETH_TYPE_IPV6, PROTO_ICMPV6),
    "tcp6": (ETH_TYPE_IPV6, PROTO_TCP),
    "udp6": (ETH_TYPE_IPV6, PROTO_UDP),
    "sctp6": (ETH_TYPE_IPV6, PROTO_SCTP),
    "arp": (ETH_TYPE_ARP, None),
    "rarp": (ETH_TYPE_RARP, None),
    "mpls": (ETH_TYPE_MPLS, None),
    "mplsm": (ETH_TYPE_MPLS_MCAST, None),
}
_PREFERRED = {
    value: word for word, value in reversed(SHORTHANDS.items()) if word not in ("ipv4", "ip6")
}


class MatchParser:
    """Collects the items of one match; finish() gives the Match.

    others: names that may stand beside a match's, for hints about unknown ones.
    """

    def __init__(self, ports: Ports | None = None, others: Iterable[str] = ()) -> None:
        self.ports = ports
        self.others = [*SHORTHANDS, *others]
        self.known: Known = {}
        self._places: dict[Field, Span] = {}
        self._late: list[Item] = []  # names whose meaning depends on the protocol

    def add(self, item: Item) -> None:
        """One item; errors name it."""
        name = item.name
        if name in SHORTHANDS:
            if item.separator:
                item.value.fail(f'"{name}" takes no value')
            eth_type, ip_proto = SHORTHANDS[name]
            self._set(ETH_TYPE, eth_type, ETH_TYPE.all_ones, item.key)
            if ip_proto is not None:
                self._set(IP_PROTO, ip_proto, IP_PROTO.all_ones, item.key)
            return
        if name == "eth" and not item.separator:
            return  # every packet here is an Ethernet frame
        if name in _LATE:
            item.required("a value")
            self._late.append(item)
        elif name == "dl_vlan":
            self._add_dl_vlan(item.key, item.required("a value"))
        elif name == "dl_vlan_pcp" or name in ("vlan_pcp", "OXM_OF_VLAN_PCP"):
            pcp, mask = parse_field(VLAN_PCP, item.required("a value"), self.ports)
            if mask:
                self._set(VLAN_VID, VLAN_PRESENT, VLAN_PRESENT, item.key)
                self._set(VLAN_PCP, pcp, mask, item.key)
        else:
            found = field_named(item.key, self.others)
            number_, mask = parse_field(found, item.required("a value"), self.ports)
            self._set(found, number_, mask, item.key)

    def finish(self, where: Span) -> Match:
        """Settles what depends on the protocol and checks prerequisites."""
        for item in sorted(self._late, key=lambda item: item.name != "nw_proto"):
            self._add_late(item)
        match = Match.of(self.known)
        self.known = {f: (value, mask) for f, value, mask in match}
        for field_ in self.known:
            if field_.prereqs and unmet(field_, self.known) is not None:
                place = self._places[field_]
                place.fail(f'"{place}" needs {field_.needs} in the match')
        return match

    def _add_dl_vlan(self, key: Span, value: Span) -> None:
        if value.text == "*":
            return
        if value.text in ("0xffff", "0xFFFF", "65535"):  # OFP_VLAN_NONE
            self._set(VLAN_VID, 0, VLAN_VID.all_ones, key)
            return
        if "/" in value.text:
            value.fail("dl_vlan takes no mask", "vlan_vid and vlan_tci do")
        vid = number(value, 12, "dl_vlan")
        self._set(VLAN_VID, vid | VLAN_PRESENT, VLAN_VID.all_ones, key)

    def _add_late(self, item: Item) -> None:
        eth_type, ip_proto = self._exact(ETH_TYPE), self._exact(IP_PROTO)
        options = _LATE[item.name]
        for protocol, candidate in options:
            if protocol in (eth_type, ip_proto):
                chosen = field(candidate)
                break
        else:
            words = {field(candidate).needs: None for _, candidate in options}
            item.key.fail(f'"{item.name}" needs {_either(words)} in the match')
        value, mask = parse_field(chosen, item.value, self.ports)
        self._set(chosen, value, mask, item.key)

    def _exact(self, field_: Field) -> int | None:
        value, mask = self.known.get(field_, (0, 0))
        return value if mask == field_.all_ones else None

    def _set(self, field_: Field, value: int, mask: int, place: Span) -> None:
        if field_ is NW_TOS:
            mask &= 0xFC
        for part, part_value, part_mask in parts_of(field_, value, mask):
            part_value &= part_mask
            old_value, old_mask = self.known.get(part, (0, 0))
            both = old_mask & part_mask
            if (old_value ^ part_value) & both:
                before = self._places[part]
                place.fail(f'"{place}" contradicts "{before}" before it')
            self.known[part] = (old_value | part_value, old_mask | part_mask)
            self._places.setdefault(part, place)


def _either(words: Iterable[str]) -> str:
    listed = list(dict.fromkeys(part for word in words for part in word.split(" or ")))
    return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " or " + listed[-1]


# name -> [(eth_type or ip_proto, field)]: the first whose protocol is matched is meant.
_IPV4_OR_ARP = ((ETH_TYPE_IP, "ipv4"), (ETH_TYPE_ARP, "arp"), (ETH_TYPE_RARP, "arp"))
_SRC = [(eth_type, "ipv4_src" if kind == "ipv4" else "arp_spa") for eth_type, kind in _IPV4_OR_ARP]
_DST = [(eth_type, "ipv4_dst" if kind == "ipv4" else "arp_tpa") for eth_type, kind in _IPV4_OR_ARP]
_LATE: dict[str, list[tuple[int, str]]] = {
    "nw_proto": [
        (ETH_TYPE_IP, "ip_proto"), (ETH_TYPE_IPV6, "ip_proto"),
        (ETH_TYPE_ARP, "arp_op"), (ETH_TYPE_RARP, "arp_op"),
    ],
    "nw_src": _SRC,
    "ip_src": _SRC,
    "nw_dst": _DST,
    "ip_dst": _DST,
    "tp_src": [
        (PROTO_TCP, "tcp_src"), (PROTO_UDP, "udp_src"), (PROTO_SCTP, "sctp_src"),
        (PROTO_ICMP, "icmp_type"), (PROTO_ICMPV6, "icmpv6_type"),
    ],
    "tp_dst": [
        (PROTO_TCP, "tcp_dst"), (PROTO_UDP, "udp_dst"), (PROTO_SCTP, "sctp_dst"),
        (PROTO_ICMP, "icmp_code"), (PROTO_ICMPV6, "icmpv6_code"),
    ],
    "icmp_type": [(PROTO_ICMP, "icmp_type"), (PROTO_ICMPV6, "icmpv6_type")],
    "icmp_code": [(PROTO_ICMP, "icmp_code"), (PROTO_ICMPV6, "icmpv6_code")],
}  # fmt: skip


# ---------------------------------------------------------------- formatting

# What is printed, in Open vSwitch's order; a name after the field's where it differs. "protocol"
# and "vlan" stand for the words made of several fields.
_ORDER = (
    "pkt_mark", "conj_id", "protocol", *(f"reg{i}" for i in range(16)), "tun_id", "metadata",
    "in_port", "in_phy_port", "vlan", "eth_src dl_src", "eth_dst dl_dst", "eth_type dl_type",
    "pbb_isid", "pbb_uca", "ipv6_src", "ipv6_dst", "ipv6_label", "ipv6_exthdr", "arp_spa",
    "arp_tpa", "ipv4_src nw_src", "ipv4_dst nw_dst", "ip_proto nw_proto", "arp_op", "arp_sha",
    "arp_tha",
    "ip_dscp nw_tos", "ip_ecn nw_ecn", "nw_ttl", "mpls_label", "mpls_tc", "mpls_ttl", "mpls_bos",
    "ip_frag nw_frag", "icmp_type", "icmp_code", "icmpv6_type icmp_type", "icmpv6_code icmp_code",
    "nd_target", "nd_sll", "nd_tll", "tcp_src tp_src", "tcp_dst tp_dst", "udp_src tp_src",
    "udp_dst tp_dst", "sctp_src tp_src", "sctp_dst tp_dst", "tcp_flags",
)  # fmt: skip
_PROTOCOL_PLACE, _VLAN_PLACE = _ORDER.index("protocol"), _ORDER.index("vlan")
_PLACES: dict[Field, tuple[int, str]] = {
    field(entry.split()[0]): (place, entry.split()[-1])
    for place, entry in enumerate(_ORDER)
    if entry not in ("protocol", "vlan")
}


def format_match(match: Match) -> str:
    """The fields as ovs-ofctl prints them, comma separated; empty for a match of everything."""
    left: Known = {f: (value, mask) for f, value, mask in match}
    words: list[str] = []
    _format_protocol(left, words)
    placed = [(_PROTOCOL_PLACE, word) for word in words]
    if VLAN_VID in left or VLAN_PCP in left:
        words = []
        _format_vlan(left, words)
        placed += [(_VLAN_PLACE, ",".join(words))] if words else []
    for f, (value, mask) in left.items():
        place, name = _PLACES.get(f) or (len(_ORDER) + f.id, f.name)
        if f is IP_DSCP:
            exact = mask == 0x3F
            word = f"nw_tos={value << 2}" if exact else f"ip_dscp={value}/{mask:#x}"
        else:
            word = f"{name}={_match_value(f, value, mask)}"
        placed.append((place, word))
    placed.sort()
    return ",".join([word for _, word in placed])


def _match_value(field_: Field, value: int, mask: int) -> str:
    """As match_format(): decimals with a mask are in hexadecimal."""
    exact = mask == field_.all_ones
    if field_.name == "ipv6_label":
        return f"0x{value:05x}" if exact else f"0x{value:05x}/0x{mask:05x}"
    if field_.name == "eth_type":
        return f"0x{value:04x}"
    if field_.format == "dec" and not exact:
        return f"0x{value:x}/0x{mask:x}"
    return format_field(field_, value, mask)


def _format_protocol(left: Known, words: list[str]) -> None:
    """The shorthand word, if there is one, for the fields that it covers."""
    eth_type = left.get(ETH_TYPE)
    if eth_type is None:
        return
    proto = left.get(IP_PROTO)
    if proto is not None and proto[1] == 0xFF and (eth_type[0], proto[0]) in _PREFERRED:
        words.append(_PREFERRED[eth_type[0], proto[0]])
        del left[ETH_TYPE], left[IP_PROTO]
    elif (eth_type[0], None) in _PREFERRED:
        words.append(_PREFERRED[eth_type[0], None])
        del left[ETH_TYPE]


def _format_vlan(left: Known, words: list[str]) -> None:
    vid, vid_mask = left.pop(VLAN_VID, (0, 0))
    pcp, pcp_mask = left.pop(VLAN_PCP, (0, 0))
    if not vid_mask and not pcp_mask:
        return
    tagged = bool(vid & vid_mask & VLAN_PRESENT)
    whole_vid, no_vid = vid_mask & 0xFFF == 0xFFF, vid_mask & 0xFFF == 0
    whole_pcp, no_pcp = pcp_mask == 7, pcp_mask == 0
    if tagged and (whole_vid or no_vid) and (whole_pcp or no_pcp) and not (no_vid and no_pcp):
        if whole_vid:
            words.append(f"dl_vlan={vid & 0xFFF}")
        if whole_pcp:
            words.append(f"dl_vlan_pcp={pcp}")
        return
    tci, mask = pcp << 13 | vid, pcp_mask << 13 | vid_mask
    words.append(f"vlan_tci=0x{tci:04x}" + ("" if mask == 0xFFFF else f"/0x{mask:04x}"))
