"""The header fields that flows match and actions change: one table for text, OXM and records.

Each row says what a field is called (canonical name, aliases, OXM and NXM names), how wide it is,
how its values are written, whether it takes a mask, whether actions may write it and which fields
must be matched first (its prerequisites). Names, numbers and widths are those of csrc/key.h's
OKO_FIELDS; a test compares the two through oko_field_info().

Beside the datapath's own fields there are a few *composed* ones that the text grammar and NXM
know but the flow key does not: vlan_tci is vlan_vid and vlan_pcp side by side, nw_tos holds
ip_dscp in its upper six bits, and NXM's 16-bit in_port is the lower half of in_port. `parts` says
which bits of which field they are made of.

Sources: OpenFlow 1.3.5 section 7.2.3.7 (OXM), Open vSwitch's ovs-fields(7) (NXM, text names).
Left out by name (`UNSUPPORTED`): connection tracking, tunnel metadata, NSH.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NONE: tuple[str, ...] = ()

OXM_OF = 0x8000  # OFPXMC_OPENFLOW_BASIC
OXM_REG = 0x8001  # OFPXMC_PACKET_REGS (xreg)
NXM_OF = 0x0000
NXM_NX = 0x0001

ETH_TYPE_IP = 0x0800
ETH_TYPE_ARP = 0x0806
ETH_TYPE_RARP = 0x8035
ETH_TYPE_VLAN = 0x8100
ETH_TYPE_IPV6 = 0x86DD
ETH_TYPE_MPLS = 0x8847
ETH_TYPE_MPLS_MCAST = 0x8848
ETH_TYPE_QINQ = 0x88A8
ETH_TYPE_PBB = 0x88E7

PROTO_ICMP = 1
PROTO_IGMP = 2
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_ICMPV6 = 58
PROTO_SCTP = 132

VLAN_PRESENT = 0x1000  # OFPVID_PRESENT: a tag is there

# A prerequisite: one of these (field name, value, mask) alternatives must be matched.
Prerequisite = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One header field. Fields are singletons: compare with `is` or `==`, use as dict keys."""

    name: str  # canonical, as in csrc/key.h (composed fields: as in text)
    bits: int
    format: str  # how values are written: dec hex mac ipv4 ipv6 port frag tcp_flags
    id: int = -1  # enum oko_field_id; -1: composed
    aliases: tuple[str, ...] = ()
    oxm: tuple[int, int] | None = None  # (class, field)
    nxm: tuple[int, int] | None = None
    wire_names: tuple[str, ...] = ()  # NXM_OF_... and OXM_OF_... names, preferred first
    maskable: bool = True
    writable: bool = True
    prereqs: tuple[Prerequisite, ...] = ()
    text_bits: int = 0  # width of NAME[] in text; bits unless Open vSwitch differs
    parts: tuple[tuple[str, int, int], ...] = ()  # composed: (field, first bit here, bits)
    text_name: str = ""  # what Open vSwitch prints, where it differs from name

    @property
    def size(self) -> int:
        """Bytes that a value takes, on the wire and in the key."""
        return (self.bits + 7) // 8

    @property
    def all_ones(self) -> int:
        """The mask that makes a match exact."""
        return (1 << self.bits) - 1

    @property
    def width(self) -> int:
        """Bits that NAME[] stands for in text."""
        return self.text_bits or self.bits

    @property
    def needs(self) -> str:
        """The prerequisites in words; empty if there are none."""
        return _NEEDS.get(self.prereqs, "") if self.prereqs else ""

    @property
    def label(self) -> str:
        """The name to show: what Open vSwitch calls the field."""
        return self.text_name or self.name

    @property
    def is_register_pair(self) -> bool:
        """xreg and xxreg, which overlay two or four registers."""
        return self.name.startswith("x")

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _is(name: str, *values: int) -> Prerequisite:
    mask = {"eth_type": 0xFFFF, "ip_proto": 0xFF, "icmpv6_type": 0xFF}[name]
    return tuple((name, value, mask) for value in values)


_VLAN: Prerequisite = (("vlan_vid", VLAN_PRESENT, VLAN_PRESENT),)
_MPLS = _is("eth_type", ETH_TYPE_MPLS, ETH_TYPE_MPLS_MCAST)
_PBB = _is("eth_type", ETH_TYPE_PBB)
_IP = _is("eth_type", ETH_TYPE_IP)
_IPV6 = _is("eth_type", ETH_TYPE_IPV6)
_IP_ANY = _is("eth_type", ETH_TYPE_IP, ETH_TYPE_IPV6)
_ARP = _is("eth_type", ETH_TYPE_ARP, ETH_TYPE_RARP)
_TCP = (_IP_ANY, _is("ip_proto", PROTO_TCP))
_UDP = (_IP_ANY, _is("ip_proto", PROTO_UDP))
_SCTP = (_IP_ANY, _is("ip_proto", PROTO_SCTP))
_ICMP = (_IP, _is("ip_proto", PROTO_ICMP))
_ICMPV6 = (_IPV6, _is("ip_proto", PROTO_ICMPV6))
_ND = (*_ICMPV6, _is("icmpv6_type", 135, 136))
_ND_SOLICIT = (*_ICMPV6, _is("icmpv6_type", 135))
_ND_ADVERT = (*_ICMPV6, _is("icmpv6_type", 136))

_NEEDS: dict[tuple[Prerequisite, ...], str] = {
    (_VLAN,): "a VLAN tag (dl_vlan or vlan_tci=0x1000/0x1000)",
    (_MPLS,): "mpls or mplsm",
    (_PBB,): f"dl_type={ETH_TYPE_PBB:#x}",
    (_IP,): "ip",
    (_IPV6,): "ipv6",
    (_IP_ANY,): "ip or ipv6",
    (_ARP,): "arp or rarp",
    _TCP: "tcp or tcp6",
    _UDP: "udp or udp6",
    _SCTP: "sctp or sctp6",
    _ICMP: "icmp",
    _ICMPV6: "icmp6",
    _ND: "icmp6 with icmpv6_type=135 or 136",
    _ND_SOLICIT: "icmp6 with icmpv6_type=135",
    _ND_ADVERT: "icmp6 with icmpv6_type=136",
}

_rows: list[Field] = []


def _field(
    name: str,
    bits: int,
    format: str,
    *,
    aliases: tuple[str, ...] = (),
    oxm: tuple[str, int] | None = None,
    nxm: tuple[str, int] | None = None,
    maskable: bool = True,
    writable: bool = True,
    prereqs: tuple[Prerequisite, ...] = (),
    text_bits: int = 0,
    text_name: str = "",
) -> None:
    """Adds the next field of OKO_FIELDS. oxm, nxm: name on the wire and field number."""
    classes = {"OXM_OF": OXM_OF, "OXM_OF_PKT": OXM_REG, "NXM_OF": NXM_OF, "NXM_NX": NXM_NX}

    def header(entry: tuple[str, int] | None) -> tuple[int, int] | None:
        if entry is None:
            return None
        prefix = "OXM_OF_PKT" if entry[0].startswith("OXM_OF_PKT_REG") else entry[0][:6]
        return (classes[prefix], entry[1])

    names = tuple(entry[0] for entry in (nxm, oxm) if entry is not None)
    _rows.append(
        Field(
            name=name,
            bits=bits,
            format=format,
            id=len(_rows),
            aliases=aliases,
            oxm=header(oxm),
            nxm=header(nxm),
            wire_names=names,
            maskable=maskable,
            writable=writable,
            prereqs=prereqs,
            text_bits=text_bits,
            text_name=text_name,
        )
    )


# fmt: off
_field("in_port", 32, "port", aliases=("in_port_oxm",), oxm=("OXM_OF_IN_PORT", 0), maskable=False)
_field("in_phy_port", 32, "port", oxm=("OXM_OF_IN_PHY_PORT", 1), maskable=False, writable=False)
_field("metadata", 64, "hex", oxm=("OXM_OF_METADATA", 2))
_field("tun_id", 64, "hex", aliases=("tunnel_id",), oxm=("OXM_OF_TUNNEL_ID", 38),
       nxm=("NXM_NX_TUN_ID", 16))
_field("pkt_mark", 32, "hex", nxm=("NXM_NX_PKT_MARK", 33))
_field("conj_id", 32, "dec", nxm=("NXM_NX_CONJ_ID", 37), maskable=False, writable=False)
for _i in range(16):
    _field(f"reg{_i}", 32, "hex", nxm=(f"NXM_NX_REG{_i}", _i))
for _i in range(8):
    _field(f"xreg{_i}", 64, "hex", oxm=(f"OXM_OF_PKT_REG{_i}", _i))
for _i in range(4):
    _field(f"xxreg{_i}", 128, "hex", nxm=(f"NXM_NX_XXREG{_i}", 111 + _i))
_field("eth_dst", 48, "mac", aliases=("dl_dst",), oxm=("OXM_OF_ETH_DST", 3),
       nxm=("NXM_OF_ETH_DST", 1))
_field("eth_src", 48, "mac", aliases=("dl_src",), oxm=("OXM_OF_ETH_SRC", 4),
       nxm=("NXM_OF_ETH_SRC", 2))
_field("eth_type", 16, "hex", aliases=("dl_type",), oxm=("OXM_OF_ETH_TYPE", 5),
       nxm=("NXM_OF_ETH_TYPE", 3), maskable=False, writable=False)
_field("vlan_vid", 13, "dec", oxm=("OXM_OF_VLAN_VID", 6), text_bits=12)
_field("vlan_pcp", 3, "dec", oxm=("OXM_OF_VLAN_PCP", 7), prereqs=(_VLAN,))
_field("mpls_label", 20, "dec", oxm=("OXM_OF_MPLS_LABEL", 34), maskable=False, prereqs=(_MPLS,))
_field("mpls_tc", 3, "dec", oxm=("OXM_OF_MPLS_TC", 35), maskable=False, prereqs=(_MPLS,))
_field("mpls_bos", 1, "dec", oxm=("OXM_OF_MPLS_BOS", 36), maskable=False, writable=False,
       prereqs=(_MPLS,))
_field("mpls_ttl", 8, "dec", nxm=("NXM_NX_MPLS_TTL", 30), maskable=False, prereqs=(_MPLS,))
_field("pbb_isid", 24, "hex", oxm=("OXM_OF_PBB_ISID", 37), prereqs=(_PBB,))
_field("pbb_uca", 1, "dec", oxm=("OXM_OF_PBB_UCA", 41), maskable=False, prereqs=(_PBB,))
_field("ip_proto", 8, "dec", aliases=("nw_proto",), oxm=("OXM_OF_IP_PROTO", 10),
       nxm=("NXM_OF_IP_PROTO", 6), maskable=False, writable=False, prereqs=(_IP_ANY,),
       text_name="nw_proto")
_field("ip_dscp", 6, "dec", oxm=("OXM_OF_IP_DSCP", 8), maskable=False, prereqs=(_IP_ANY,))
_field("ip_ecn", 2, "dec", aliases=("nw_ecn",), oxm=("OXM_OF_IP_ECN", 9),
       nxm=("NXM_NX_IP_ECN", 28), maskable=False, prereqs=(_IP_ANY,), text_name="nw_ecn")
_field("nw_ttl", 8, "dec", aliases=("ip_ttl",), nxm=("NXM_NX_IP_TTL", 29), maskable=False,
       prereqs=(_IP_ANY,))
_field("ip_frag", 2, "frag", aliases=("nw_frag",), nxm=("NXM_NX_IP_FRAG", 26), writable=False,
       prereqs=(_IP_ANY,))
_field("ipv4_src", 32, "ipv4", aliases=("ip_src", "nw_src"), oxm=("OXM_OF_IPV4_SRC", 11),
       nxm=("NXM_OF_IP_SRC", 7), prereqs=(_IP,), text_name="ip_src")
_field("ipv4_dst", 32, "ipv4", aliases=("ip_dst", "nw_dst"), oxm=("OXM_OF_IPV4_DST", 12),
       nxm=("NXM_OF_IP_DST", 8), prereqs=(_IP,), text_name="ip_dst")
_field("arp_op", 16, "dec", oxm=("OXM_OF_ARP_OP", 21), nxm=("NXM_OF_ARP_OP", 15), maskable=False,
       prereqs=(_ARP,))
_field("arp_spa", 32, "ipv4", oxm=("OXM_OF_ARP_SPA", 22), nxm=("NXM_OF_ARP_SPA", 16),
       prereqs=(_ARP,))
_field("arp_tpa", 32, "ipv4", oxm=("OXM_OF_ARP_TPA", 23), nxm=("NXM_OF_ARP_TPA", 17),
       prereqs=(_ARP,))
_field("arp_sha", 48, "mac", oxm=("OXM_OF_ARP_SHA", 24), nxm=("NXM_NX_ARP_SHA", 17),
       prereqs=(_ARP,))
_field("arp_tha", 48, "mac", oxm=("OXM_OF_ARP_THA", 25), nxm=("NXM_NX_ARP_THA", 18),
       prereqs=(_ARP,))
_field("ipv6_src", 128, "ipv6", oxm=("OXM_OF_IPV6_SRC", 26), nxm=("NXM_NX_IPV6_SRC", 19),
       prereqs=(_IPV6,))
_field("ipv6_dst", 128, "ipv6", oxm=("OXM_OF_IPV6_DST", 27), nxm=("NXM_NX_IPV6_DST", 20),
       prereqs=(_IPV6,))
_field("ipv6_label", 20, "hex", oxm=("OXM_OF_IPV6_FLABEL", 28), nxm=("NXM_NX_IPV6_LABEL", 27),
       prereqs=(_IPV6,))
_field("ipv6_exthdr", 9, "hex", oxm=("OXM_OF_IPV6_EXTHDR", 39), writable=False, prereqs=(_IPV6,))
_field("tcp_src", 16, "dec", oxm=("OXM_OF_TCP_SRC", 13), nxm=("NXM_OF_TCP_SRC", 9), prereqs=_TCP)
_field("tcp_dst", 16, "dec", oxm=("OXM_OF_TCP_DST", 14), nxm=("NXM_OF_TCP_DST", 10), prereqs=_TCP)
_field("tcp_flags", 12, "tcp_flags", oxm=("OXM_OF_TCP_FLAGS", 42), nxm=("NXM_NX_TCP_FLAGS", 34),
       writable=False, prereqs=_TCP)
_field("udp_src", 16, "dec", oxm=("OXM_OF_UDP_SRC", 15), nxm=("NXM_OF_UDP_SRC", 11), prereqs=_UDP)
_field("udp_dst", 16, "dec", oxm=("OXM_OF_UDP_DST", 16), nxm=("NXM_OF_UDP_DST", 12), prereqs=_UDP)
_field("sctp_src", 16, "dec", oxm=("OXM_OF_SCTP_SRC", 17), prereqs=_SCTP)
_field("sctp_dst", 16, "dec", oxm=("OXM_OF_SCTP_DST", 18), prereqs=_SCTP)
_field("icmp_type", 8, "dec", aliases=("icmpv4_type",), oxm=("OXM_OF_ICMPV4_TYPE", 19),
       nxm=("NXM_OF_ICMP_TYPE", 13), maskable=False, prereqs=_ICMP)
_field("icmp_code", 8, "dec", aliases=("icmpv4_code",), oxm=("OXM_OF_ICMPV4_CODE", 20),
       nxm=("NXM_OF_ICMP_CODE", 14), maskable=False, prereqs=_ICMP)
_field("icmpv6_type", 8, "dec", oxm=("OXM_OF_ICMPV6_TYPE", 29), nxm=("NXM_NX_ICMPV6_TYPE", 21),
       maskable=False, prereqs=_ICMPV6)
_field("icmpv6_code", 8, "dec", oxm=("OXM_OF_ICMPV6_CODE", 30), nxm=("NXM_NX_ICMPV6_CODE", 22),
       maskable=False, prereqs=_ICMPV6)
_field("nd_target", 128, "ipv6", oxm=("OXM_OF_IPV6_ND_TARGET", 31), nxm=("NXM_NX_ND_TARGET", 23),
       prereqs=_ND)
_field("nd_sll", 48, "mac", oxm=("OXM_OF_IPV6_ND_SLL", 32), nxm=("NXM_NX_ND_SLL", 24),
       prereqs=_ND_SOLICIT)
_field("nd_tll", 48, "mac", oxm=("OXM_OF_IPV6_ND_TLL", 33), nxm=("NXM_NX_ND_TLL", 25),
       prereqs=_ND_ADVERT)
# fmt: on

FIELDS: tuple[Field, ...] = tuple(_rows)
"""The datapath's fields, indexed by enum oko_field_id."""

VLAN_TCI = Field(
    "vlan_tci",
    16,
    "hex",
    nxm=(NXM_OF, 4),
    wire_names=("NXM_OF_VLAN_TCI",),
    parts=(("vlan_vid", 0, 13), ("vlan_pcp", 13, 3)),
)
NW_TOS = Field(
    "nw_tos",
    8,
    "dec",
    nxm=(NXM_OF, 5),
    wire_names=("NXM_OF_IP_TOS",),
    maskable=False,
    prereqs=(_IP_ANY,),
    parts=(("ip_dscp", 2, 6),),
)
# NXM_OF_IN_PORT: 16 bits, OpenFlow 1.0 port numbers.
IN_PORT_16 = Field(
    "in_port16",
    16,
    "port",
    nxm=(NXM_OF, 0),
    wire_names=("NXM_OF_IN_PORT",),
    maskable=False,
    parts=(("in_port", 0, 16),),
    text_name="in_port",
)
COMPOSED: tuple[Field, ...] = (VLAN_TCI, NW_TOS, IN_PORT_16)

BY_NAME: dict[str, Field] = {}
"""Every name that means a field in a match or as set_field's destination."""
for _f in (*FIELDS, *COMPOSED):
    for _name in (_f.name, *_f.aliases, *_f.wire_names):
        BY_NAME[_name] = _f
BY_NAME["ONFOXM_ET_TCP_FLAGS"] = BY_NAME["tcp_flags"]
del BY_NAME["in_port16"]

# Names that depend on the protocol matched: see oko.text.match.
AMBIGUOUS = ("tp_src", "tp_dst", "dl_vlan", "dl_vlan_pcp")

_UNSUPPORTED_NAMES = """
    tun_src tun_dst tun_ipv6_src tun_ipv6_dst tun_gbp_id tun_gbp_flags tun_erspan_ver
    tun_erspan_idx tun_erspan_dir tun_erspan_hwid tun_gtpu_flags tun_gtpu_msgtype tun_flags
    skb_priority actset_output packet_type ct_state ct_zone ct_mark ct_label ct_nw_src ct_nw_dst
    ct_ipv6_src ct_ipv6_dst ct_nw_proto ct_tp_src ct_tp_dst nsh_flags nsh_ttl nsh_mdtype nsh_np
    nsh_spi nsp nsh_si nsi nsh_c1 nshc1 nsh_c2 nshc2 nsh_c3 nshc3 nsh_c4 nshc4 nd_reserved
    nd_options_type recirc_id dp_hash mpls_lse
"""
UNSUPPORTED: frozenset[str] = frozenset(_UNSUPPORTED_NAMES.split()) | frozenset(
    f"tun_metadata{i}" for i in range(64)
)
"""Fields of Open vSwitch that are refused by name."""


def field(name: str) -> Field:
    """The field of this canonical name; KeyError if there is none."""
    return BY_NAME[name]


Known = dict[Field, tuple[int, int]]
"""What is known of a packet's fields: (value, mask)."""


def unmet(field_: Field, known: Known) -> Prerequisite | None:
    """The first prerequisite of a field that `known` does not imply, or None."""
    for alternatives in field_.prereqs:
        for name, value, mask in alternatives:
            known_value, known_mask = known.get(field(name), (0, 0))
            if known_mask & mask == mask and known_value & mask == value:
                break
        else:
            return alternatives
    return None


PREREQUISITES = tuple(
    field(name)
    for name in dict.fromkeys(
        name for f in FIELDS for options in f.prereqs for name, _, _ in options
    )
)
"""The fields that prerequisites look at."""

IN_PORT = field("in_port")
METADATA = field("metadata")
ETH_TYPE = field("eth_type")
ETH_SRC = field("eth_src")
ETH_DST = field("eth_dst")
VLAN_VID = field("vlan_vid")
VLAN_PCP = field("vlan_pcp")
IP_PROTO = field("ip_proto")
IP_DSCP = field("ip_dscp")
IP_ECN = field("ip_ecn")
IP_FRAG = field("ip_frag")
ICMPV6_TYPE = field("icmpv6_type")

_ALIASED = {f"xreg{i}": tuple(f"reg{2 * i + j}" for j in range(2)) for i in range(8)} | {
    f"xxreg{i}": tuple(f"reg{4 * i + j}" for j in range(4)) for i in range(4)
}


def narrow(field_: Field, value: int, mask: int) -> Iterator[tuple[Field, int, int]]:
    """Splits xreg and xxreg into the registers they overlay, most significant first.

    A match has one way to be written down: parts whose mask is 0 are left out.
    """
    parts = _ALIASED.get(field_.name)
    if parts is None:
        yield field_, value, mask
        return
    for i, name in enumerate(parts):
        shift = 32 * (len(parts) - 1 - i)
        part_mask = mask >> shift & 0xFFFFFFFF
        if part_mask:
            yield field(name), value >> shift & 0xFFFFFFFF, part_mask


# Reserved port numbers (OpenFlow 1.3.5, 7.2.1).
PORT_MAX = 0x7FFFFF00
PORT_IN_PORT = 0xFFFFFFF8
PORT_TABLE = 0xFFFFFFF9
PORT_NORMAL = 0xFFFFFFFA
PORT_FLOOD = 0xFFFFFFFB
PORT_ALL = 0xFFFFFFFC
PORT_CONTROLLER = 0xFFFFFFFD
PORT_LOCAL = 0xFFFFFFFE
PORT_ANY = 0xFFFFFFFF
PORT_NAMES: dict[int, str] = {
    PORT_IN_PORT: "IN_PORT",
    PORT_TABLE: "TABLE",
    PORT_NORMAL: "NORMAL",
    PORT_FLOOD: "FLOOD",
    PORT_ALL: "ALL",
    PORT_CONTROLLER: "CONTROLLER",
    PORT_LOCAL: "LOCAL",
    PORT_ANY: "ANY",
}
