"""Random flows, groups, meters and packets, out of small pools so that they meet.

Everything draws from a random.Random: a seeded one in loops over many cases, one from hypothesis
(st.randoms) where a failing case should be shrunk.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from oracle_frames import parse

from oko.model import actions as act
from oko.model import fields as f
from oko.model.actions import Action, Subfield
from oko.model.fields import Field, field, unmet
from oko.model.flow import Bucket, DropBand, DscpBand, Flow, Group, Instructions, Match, Meter
from twin import frame as fr

PORTS = (1, 2, 3, 4)
MACS = (0x020000000001, 0x020000000002, 0x0200000000FF, 0x01005E000001, 0xFFFFFFFFFFFF)
IPV4 = (0x0A000001, 0x0A000002, 0x0A000103, 0x0A010001, 0xC0A80001)
LINK_LOCAL = 0xFE80 << 112
IPV6 = (
    LINK_LOCAL | 1,
    LINK_LOCAL | 2,
    LINK_LOCAL | 0x10001,
    (0x20010DB8 << 96) | 1,
    (0xFF02 << 112) | 1,
)
PORT_NUMBERS = (53, 80, 81, 443, 1024, 40000)
VIDS = (1, 5, 100)
LABELS = (16, 17, 1000)

Known = dict[Field, tuple[int, int]]


@dataclass(frozen=True)
class Options:
    """What may occur."""

    tables: int = 4
    programs: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    meters: tuple[int, ...] = ()
    timeouts: bool = True
    learn: bool = True
    normal: bool = True
    resubmit: bool = True
    conjunctions: bool = False
    narrow: bool = False  # only the fields at the front of the key, as in ordinary rules
    text_only: bool = False  # also what only the grammar knows (truncation, send_maps...)


def chance(rng: Random, percent: int) -> bool:
    return rng.randrange(100) < percent


def value_of(rng: Random, fd: Field) -> int:
    """A value of a field, mostly out of the pools."""
    if fd.format == "port":
        return rng.choice(PORTS)
    if fd.format == "mac":
        return rng.choice(MACS)
    if fd.format == "ipv4":
        return rng.choice(IPV4)
    if fd.format == "ipv6":
        return rng.choice(IPV6)
    name = fd.name
    if name in ("tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst"):
        return rng.choice(PORT_NUMBERS)
    if name == "mpls_label":
        return rng.choice(LABELS)
    if name == "ip_frag":
        return rng.choice((0, 1, 3))
    if name == "arp_op":
        return rng.choice((1, 2))
    if name in ("nw_ttl", "mpls_ttl"):
        return rng.choice((0, 1, 2, 64, 255))
    if name == "icmp_type":
        return rng.choice((0, 3, 8))
    if name == "icmpv6_type":
        return rng.choice((128, 129, 135, 136))
    if name in ("icmp_code", "icmpv6_code"):
        return rng.choice((0, 0, 1))
    return rng.choice((0, 1, 2, fd.all_ones, rng.getrandbits(fd.bits)))


def mask_of(rng: Random, fd: Field) -> int:
    """A mask that a match on the field may have."""
    if not fd.maskable or chance(rng, 60):
        return fd.all_ones
    if fd.format in ("ipv4", "ipv6") and chance(rng, 70):
        prefix = rng.choice((8, 16, 24, 30, 31, 64, 112))
        return fd.all_ones ^ (fd.all_ones >> min(prefix, fd.bits))
    return rng.getrandbits(fd.bits) or 1


_PROTOCOLS: tuple[tuple[int, int | None, tuple[str, ...]], ...] = (
    (f.ETH_TYPE_IP, None, ("ipv4_src", "ipv4_dst", "ip_dscp", "ip_ecn", "nw_ttl", "ip_frag")),
    (f.ETH_TYPE_IP, 6, ("ipv4_src", "ipv4_dst", "tcp_src", "tcp_dst", "tcp_flags", "ip_frag")),
    (f.ETH_TYPE_IP, 17, ("ipv4_src", "udp_src", "udp_dst")),
    (f.ETH_TYPE_IP, 132, ("ipv4_dst", "sctp_src", "sctp_dst")),
    (f.ETH_TYPE_IP, 1, ("ipv4_src", "icmp_type", "icmp_code")),
    (f.ETH_TYPE_IPV6, None, ("ipv6_src", "ipv6_dst", "ipv6_label", "ip_dscp", "nw_ttl",
                             "ip_frag", "ipv6_exthdr")),
    (f.ETH_TYPE_IPV6, 6, ("ipv6_src", "tcp_src", "tcp_dst")),
    (f.ETH_TYPE_IPV6, 17, ("ipv6_dst", "udp_dst")),
    (f.ETH_TYPE_IPV6, 58, ("ipv6_src", "icmpv6_type", "icmpv6_code")),
    (f.ETH_TYPE_ARP, None, ("arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha")),
    (f.ETH_TYPE_MPLS, None, ("mpls_label", "mpls_tc", "mpls_bos", "mpls_ttl")),
    (f.ETH_TYPE_PBB, None, ("pbb_isid", "pbb_uca")),
    (0x1234, None, ()),
)  # fmt: skip
_ANYWHERE = (
    "in_port", "eth_src", "eth_dst", "vlan_vid", "metadata", "tun_id", "pkt_mark",
    "reg0", "reg1", "reg7", "reg15",
)  # fmt: skip


def match_known(rng: Random) -> Known:
    """The fields of a random match, prerequisites included."""
    known: Known = {}

    def add(name: str) -> None:
        fd = field(name)
        known[fd] = (value_of(rng, fd), mask_of(rng, fd))

    if chance(rng, 35):
        return known
    if chance(rng, 75):
        eth_type, proto, choices = rng.choice(_PROTOCOLS)
        known[f.ETH_TYPE] = (eth_type, 0xFFFF)
        if proto is not None:
            known[f.IP_PROTO] = (proto, 0xFF)
        for name in choices:
            if chance(rng, 30):
                add(name)
        nd = known.get(field("icmpv6_type"))
        if nd is not None and nd[0] in (135, 136) and chance(rng, 60):
            add(rng.choice(("nd_target", "nd_sll" if nd[0] == 135 else "nd_tll")))
    for name in _ANYWHERE:
        if chance(rng, 8 if name != "in_port" else 25):
            add(name)
    vlan = known.get(f.VLAN_VID)
    if vlan is not None:
        tagged = (f.VLAN_PRESENT | rng.choice(VIDS), 0x1FFF)
        known[f.VLAN_VID] = rng.choice((tagged, tagged, (0, 0x1FFF), (0x1000, 0x1000), vlan))
        value, mask = known[f.VLAN_VID]
        if value & mask & f.VLAN_PRESENT and chance(rng, 50):
            add("vlan_pcp")
    if chance(rng, 4):
        known[field(rng.choice(("xreg0", "xreg7", "xxreg0")))] = (
            rng.getrandbits(128) & 3,
            rng.choice((3, 0xFFFFFFFF)),
        )
    return known


_NARROW = tuple(
    field(name)
    for name in (
        "in_port", "eth_type", "vlan_vid", "ip_proto", "ip_frag", "ipv4_src", "ipv4_dst",
        "tcp_src", "tcp_dst", "tcp_flags", "udp_src", "udp_dst",
    )
)  # fmt: skip


def match_of_packet(rng: Random, frame: bytes, in_port: int, narrow: bool) -> Known:
    """A match that this packet fits: some of its fields, some of their bits."""
    found = parse(frame) | {"in_port": in_port}
    key = {field(name): value for name, value in found.items()}
    exact = {fd: (key.get(fd, 0), fd.all_ones) for fd in f.FIELDS}
    known: Known = {}
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5))):
        fd = rng.choice(_NARROW if narrow else f.FIELDS)
        if fd.name.startswith("x") or unmet(fd, exact) is not None:
            continue
        for alternatives in fd.prereqs:
            for name, value, mask in alternatives:
                if exact[field(name)][0] & mask == value:
                    known[field(name)] = (exact[field(name)][0], field(name).all_ones)
        mask = mask_of(rng, fd)
        known[fd] = (exact[fd][0] & mask, mask)
    return known


def actions_of(rng: Random, state: Known, options: Options, depth: int = 0) -> list[Action]:
    """A random action list for packets of which `state` is known; updates it."""
    has_ip = state.get(f.ETH_TYPE, (0, 0))[0] in (f.ETH_TYPE_IP, f.ETH_TYPE_IPV6)
    choices = ["output"] * 6 + ["set", "set", "reg", "reg", "move", "vlan", "vlan", "mod", "group",
               "ttl", "mpls", "clone", "stack", "queue", "note"]  # fmt: skip
    if options.learn and depth == 0:
        choices += ["learn", "learn"]
    if options.resubmit:
        choices += ["resubmit", "resubmit"]
    if options.text_only:
        choices += ["text"] * 3
    result: list[Action] = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        kind = rng.choice(choices)
        if kind == "output":
            result.append(_output(rng, options))
        elif kind == "set":
            result += _set_field(rng, state)
        elif kind == "reg":
            fd = field(rng.choice(("reg0", "reg1", "reg7", "metadata", "xreg0", "xxreg0", "tun_id",
                                   "pkt_mark", "eth_src", "eth_dst")))  # fmt: skip
            mask = mask_of(rng, fd)
            result.append(act.SetField(fd, value_of(rng, fd) & mask, mask))
        elif kind == "move":
            result.append(_move(rng))
        elif kind == "vlan":
            result.append(_vlan(rng, state))
        elif kind == "mod":
            result.append(_mod(rng))
        elif kind == "group" and options.groups:
            result.append(act.ToGroup(rng.choice(options.groups)))
        elif kind == "ttl" and (has_ip or chance(rng, 30)):
            result.append(
                rng.choice((act.DecTtl(), act.SetTtl(rng.choice((1, 2, 9))), act.CopyTtlOut()))
            )
        elif kind == "mpls" and chance(rng, 50):
            result += _mpls(rng, state)
        elif kind == "clone" and depth < 2:
            result.append(act.Clone(tuple(actions_of(rng, dict(state), options, depth + 1))))
        elif kind == "stack":
            result.append(act.PushBits(_register(rng, 16)))
            if chance(rng, 70):
                result.append(act.PopBits(_register(rng, 16)))
        elif kind == "queue":
            result.append(rng.choice((act.SetQueue(rng.randrange(4)), act.PopQueue())))
        elif kind == "note":
            result.append(act.Note(bytes(6)) if chance(rng, 80) else act.Exit())
        elif kind == "learn":
            result.append(learn_of(rng, state, options))
        elif kind == "resubmit":
            table = rng.choice((act.TABLE_CURRENT, *range(options.tables), options.tables - 1))
            port = f.PORT_IN_PORT if chance(rng, 80) else rng.choice(PORTS)
            if table != act.TABLE_CURRENT or port != f.PORT_IN_PORT:
                result.append(act.Resubmit(port, table))
        elif kind == "text":
            action = _text_only(rng)
            if isinstance(action, (act.PushPbb, act.PopPbb)):
                _forget(state)
            result.append(action)
    return result


def _output(rng: Random, options: Options) -> Action:
    special = (f.PORT_ALL, f.PORT_FLOOD, f.PORT_IN_PORT, f.PORT_CONTROLLER)
    if chance(rng, 75):
        return act.Output(rng.choice(PORTS))
    if options.normal and chance(rng, 25):
        return act.Output(f.PORT_NORMAL)
    if chance(rng, 15):
        return act.OutputReg(_register(rng, 16))
    if chance(rng, 10):
        return act.OutputTrunc(rng.choice(PORTS), rng.choice((14, 20, 60)))
    if chance(rng, 10):
        return act.Controller(rng.choice((0, 20, 65535)), rng.choice((0, 2)), rng.randrange(3))
    port = rng.choice(special)
    return act.Output(port, rng.choice((0, 64, 65535)) if port == f.PORT_CONTROLLER else 0)


def _register(rng: Random, n_bits: int) -> Subfield:
    return Subfield(field(rng.choice(("reg0", "reg1", "reg7"))), rng.randrange(17), n_bits)


def settable(state: Known) -> list[Field]:
    """Packet fields that set_field may write, given what is known."""
    return [
        fd
        for fd in f.FIELDS
        if fd.writable and fd.prereqs and fd is not f.VLAN_PCP and unmet(fd, state) is None
    ]


def _set_field(rng: Random, state: Known) -> list[Action]:
    choices = settable(state)
    if not choices:
        return []
    fd = rng.choice(choices)
    mask = mask_of(rng, fd)
    return [act.SetField(fd, value_of(rng, fd) & mask, mask)]


def _move(rng: Random) -> act.Move:
    n_bits = rng.choice((1, 8, 16))
    places = [
        Subfield(field("reg0"), 3, n_bits),
        Subfield(field("reg7"), 0, n_bits),
        Subfield(field("xreg1"), 20, n_bits),
        Subfield(field("metadata"), 30, n_bits),
        Subfield(field("eth_src"), 8, n_bits),
        Subfield(field("eth_dst"), 5, n_bits),
    ]
    if n_bits == 8:
        places.append(Subfield(f.VLAN_TCI, 1, 8))
    source, target = rng.choice(places), rng.choice(places)
    if chance(rng, 20) and n_bits == 16:
        source = Subfield(f.VLAN_TCI, 0, 16)
    if chance(rng, 20) and n_bits == 16:
        source = Subfield(f.IN_PORT_16, 0, 16)
    return act.Move(source, target)


def _vlan(rng: Random, state: Known) -> Action:
    kind = rng.randrange(5)
    if kind == 0:
        state[f.VLAN_VID] = (f.VLAN_PRESENT, 0x1FFF)
        return act.PushVlan(rng.choice((0x8100, 0x88A8)))
    if kind == 1:
        state.pop(f.VLAN_VID, None)
        return act.PopVlan()
    state[f.VLAN_VID] = (f.VLAN_PRESENT, f.VLAN_PRESENT)
    if kind == 2:
        return act.SetField(f.VLAN_TCI, 0x1000 | rng.choice(VIDS), 0x1FFF)
    if kind == 3:
        return act.SetField(f.VLAN_TCI, 0x1000 | rng.randrange(8) << 13, 0xF000)
    state.pop(f.VLAN_VID)
    mask = rng.getrandbits(16) or 1
    return act.SetField(f.VLAN_TCI, rng.getrandbits(16) & mask, mask)


def _mod(rng: Random) -> Action:
    """OpenFlow 1.0's actions, allowed on any packet."""
    kind = rng.randrange(4)
    if kind == 0:
        return act.SetTransport(chance(rng, 50), rng.choice(PORT_NUMBERS))
    if kind == 1:
        side = field(rng.choice(("ipv4_src", "ipv4_dst")))
        return act.SetField(side, rng.choice(IPV4), side.all_ones)
    if kind == 2:
        return act.SetField(f.IP_DSCP, rng.randrange(64), 0x3F)
    return act.SetField(f.IP_ECN, rng.randrange(4), 3)


def _forget(state: Known) -> None:
    """The Ethernet type changes: what was known of the headers below is void."""
    for known in list(state):
        if known.prereqs and known is not f.VLAN_PCP:
            del state[known]
    state.pop(f.ETH_TYPE, None)


def _mpls(rng: Random, state: Known) -> list[Action]:
    """A label on or off; nothing is known of the packet below afterwards."""
    eth_type = state.get(f.ETH_TYPE, (0, 0))[0]
    _forget(state)
    if eth_type == f.ETH_TYPE_MPLS and chance(rng, 60):
        under = rng.choice((f.ETH_TYPE_IP, f.ETH_TYPE_IPV6, f.ETH_TYPE_MPLS))
        state[f.ETH_TYPE] = (under, 0xFFFF)
        return [act.PopMpls(under)]
    state[f.ETH_TYPE] = (f.ETH_TYPE_MPLS, 0xFFFF)
    label = act.SetField(field("mpls_label"), rng.choice(LABELS), 0xFFFFF)
    return [act.PushMpls(f.ETH_TYPE_MPLS), label]


def learn_of(rng: Random, known: Known, options: Options) -> act.Learn:
    """A learn action whose source fields the packet has."""
    specs: list[act.LearnSpec] = []
    mac = Subfield(field("eth_src"), 0, 48)
    kind = rng.randrange(3)
    if kind == 0:
        specs.append(act.LearnMatch(Subfield(field("eth_dst"), 0, 48), mac))
        specs.append(act.LearnOutput(Subfield(f.IN_PORT_16, 0, 16)))
    elif kind == 1:
        tci = Subfield(f.VLAN_TCI, 0, 12)
        specs.append(act.LearnMatch(tci, tci))
        specs.append(act.LearnMatch(Subfield(field("eth_src"), 0, 48), mac))
        specs.append(act.LearnLoad(Subfield(field("reg0"), 0, 16), Subfield(f.IN_PORT_16, 0, 16)))
    else:
        specs.append(act.LearnMatch(Subfield(f.ETH_TYPE, 0, 16), f.ETH_TYPE_IP))
        if known.get(f.ETH_TYPE) == (f.ETH_TYPE_IP, 0xFFFF):
            specs.append(
                act.LearnMatch(
                    Subfield(field("ipv4_dst"), 0, 32), Subfield(field("ipv4_src"), 0, 32)
                )
            )
        specs.append(act.LearnLoad(Subfield(field("reg1"), 4, 8), rng.randrange(256)))
        specs.append(act.LearnOutput(Subfield(field("reg7"), 0, 16)))
    return act.Learn(
        specs=tuple(specs),
        table=rng.randrange(options.tables),
        priority=rng.choice((1, 100, 32768)),
        idle_timeout=rng.choice((0, 0, 2)) if options.timeouts else 0,
        hard_timeout=rng.choice((0, 0, 3)) if options.timeouts else 0,
        cookie=rng.randrange(3),
        send_flow_rem=chance(rng, 20),
        limit=rng.choice((0, 0, 0, 2)),
    )


def _text_only(rng: Random) -> Action:
    return rng.choice((
        act.FinTimeout(rng.randrange(3), rng.randrange(1, 5)),
        act.DecTtl((1, 2)),
        act.SendMaps(rng.randrange(1, 4), (0,) * rng.randrange(2), rng.choice((1000, 250))),
        act.PushPbb(f.ETH_TYPE_PBB),
        act.PopPbb(),
        act.CopyTtlIn(),
        act.SetMplsTtl(7),
        act.DecMplsTtl(),
        act.Controller(100, 2, 5),
        act.OutputTrunc(3, 100),
        act.OutputReg(Subfield(field("reg3"), 0, 16)),
    ))  # fmt: skip


def flow_of(rng: Random, options: Options, arrivals: Sequence[Arrival] = ()) -> Flow:
    """A random flow, which often fits one of these packets."""
    if arrivals and (options.narrow or chance(rng, 70)):
        packet = rng.choice(arrivals)
        known = match_of_packet(rng, packet.data, packet.in_port, options.narrow)
    else:
        known = match_known(rng)
    table = 0 if chance(rng, 25) else rng.randrange(options.tables)
    if options.conjunctions and chance(rng, 50):
        known = {k: v for k, v in known.items() if not k.prereqs and chance(rng, 50)}
    if options.conjunctions and chance(rng, 50):
        return _soft_flow(rng, known, table, options)
    if options.conjunctions and chance(rng, 50):
        known[field("conj_id")] = (rng.choice((0, 1, 1, 2, 3)), 0xFFFFFFFF)
    meter = rng.choice(options.meters) if options.meters and chance(rng, 15) else 0
    match = Match.of(known)
    apply = tuple(actions_of(rng, known, options))
    write: tuple[Action, ...] = ()
    if chance(rng, 20):
        write = tuple(
            a
            for a in actions_of(rng, known, options, depth=2)
            if isinstance(a, act.ACTION_SET_TYPES) and not isinstance(a, act.Resubmit)
        )
    goto = None
    if table + 1 < options.tables and chance(rng, 40):
        goto = rng.randrange(table + 1, options.tables)
    metadata = None
    if chance(rng, 15):
        mask = rng.choice((3, (1 << 64) - 1))
        metadata = (rng.randrange(4) & mask, mask)
    timeouts = options.timeouts and chance(rng, 20)
    return Flow(
        table=table,
        priority=rng.choice((0, 1, 10, 10, 100, 32768, 65535)),
        match=match,
        filter_prog=rng.choice(options.programs) if options.programs and chance(rng, 35) else 0,
        instructions=Instructions(
            meter=meter,
            apply=apply,
            clear=chance(rng, 5),
            write=write,
            metadata=metadata,
            goto=goto,
        ),
        cookie=rng.randrange(4),
        idle_timeout=rng.choice((0, 1, 3)) if timeouts else 0,
        hard_timeout=rng.choice((0, 2, 5)) if timeouts else 0,
        flags=1 if chance(rng, 25) else 0,
    )


def _soft_flow(rng: Random, known: Known, table: int, options: Options) -> Flow:
    """A flow with conjunctions, out of a few ids so that some are complete."""
    actions: list[Action] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        n = rng.choice((2, 2, 2, 2, 3))
        actions.append(act.Conjunction(rng.choice((1, 1, 1, 2, 3, 0)), rng.randrange(n) + 1, n))
    if chance(rng, 10):
        actions.append(act.Note(bytes(6)))
    timeouts = options.timeouts and chance(rng, 20)
    return Flow(
        table=table,
        priority=rng.choice((0, 10, 10, 100, 100, 65535)),
        match=Match.of(known),
        filter_prog=rng.choice(options.programs) if options.programs and chance(rng, 2) else 0,
        instructions=Instructions(apply=tuple(actions)),
        cookie=rng.randrange(4),
        idle_timeout=rng.choice((0, 1, 3)) if timeouts else 0,
        hard_timeout=rng.choice((0, 2, 5)) if timeouts else 0,
        flags=1 if chance(rng, 25) else 0,
    )


def group_of(rng: Random, number: int, options: Options) -> Group:
    """A random group; it may refer to groups of a higher number only."""
    kind = rng.randrange(4)
    inner = Options(
        tables=options.tables,
        groups=tuple(g for g in options.groups if g > number),
        learn=False,
        resubmit=False,
        normal=False,
    )
    buckets = []
    for _ in range(1 if kind == 2 else rng.randrange(1, 4)):
        actions = tuple(
            a for a in actions_of(rng, {}, inner, depth=2) if isinstance(a, act.ACTION_SET_TYPES)
        )
        buckets.append(
            Bucket(
                actions or (act.Output(rng.choice(PORTS)),),
                weight=rng.choice((0, 1, 1, 5)) if kind == 1 else 0,
                watch_port=rng.choice(PORTS) if kind == 3 else f.PORT_ANY,
            )
        )
    return Group(number, kind, tuple(buckets))


def meter_of(rng: Random, number: int) -> Meter:
    """A random meter with low rates, so that bands act."""
    pktps = chance(rng, 60)
    band = rng.choice((
        DropBand(rng.choice((1, 2, 5)), rng.choice((1, 3))),
        DscpBand(rng.choice((1, 4)), 2, 1),
    ))  # fmt: skip
    return Meter(number, pktps=pktps, burst=True, stats=True, bands=(band,))


# ---------------------------------------------------------------- frames


def _checksummed(pseudo: bytes, segment: bytearray, at: int, proto: int = 0) -> bytes:
    """The segment with its checksum (RFC 1071) at this offset; pseudo: addresses, if summed."""
    segment[at : at + 2] = b"\0\0"
    tail = struct.pack("!HH", proto, len(segment)) if pseudo else b""
    checksum = fr.ones_sum(pseudo + tail + bytes(segment)) ^ 0xFFFF
    segment[at : at + 2] = checksum.to_bytes(2, "big")
    return bytes(segment)


def _transport(rng: Random, proto: int, pseudo: bytes, payload: bytes) -> bytes:
    """A transport header with right checksums. pseudo: the addresses."""
    source, destination = rng.choice(PORT_NUMBERS), rng.choice(PORT_NUMBERS)
    ports = struct.pack("!HH", source, destination)
    if proto == 6:
        flags = rng.choice((0x02, 0x10, 0x12, 0x18, 0x11, 0x04))
        words = rng.choice((5, 5, 5, 6, 8))
        head = ports + struct.pack("!IIBBHHH", 1, 2, words << 4, flags, 512, 0, 0)
        return _checksummed(pseudo, bytearray(head + bytes(words * 4 - 20) + payload), 16, 6)
    if proto == 17:
        head = ports + struct.pack("!HH", 8 + len(payload), 0)
        segment = _checksummed(pseudo, bytearray(head + payload), 6, 17)
        return segment if chance(rng, 85) else segment[:6] + b"\0\0" + segment[8:]
    if proto == 132:
        segment = bytearray(ports + bytes(8) + payload)
        segment[8:12] = fr.crc32c(segment).to_bytes(4, "little")
        return bytes(segment)
    kind = rng.choice((0, 3, 8) if proto == 1 else (128, 129, 135, 136))
    code = 1 if chance(rng, 10) else 0
    body = bytes(4) + payload
    if proto == 58 and kind in (135, 136):
        body = bytes(4) + rng.choice(IPV6).to_bytes(16, "big")
        if chance(rng, 80):
            body += bytes((1 if kind == 135 else 2, 1)) + rng.choice(MACS).to_bytes(6, "big")
    segment = bytearray(bytes((kind, code, 0, 0)) + body)
    return _checksummed(pseudo if proto == 58 else b"", segment, 2, proto)


def ipv4_of(rng: Random, payload: bytes) -> bytes:
    """An IPv4 packet, sometimes with options or a fragment."""
    proto = rng.choice((6, 6, 6, 17, 17, 1, 132, 47))
    addresses = rng.choice(IPV4).to_bytes(4, "big") + rng.choice(IPV4).to_bytes(4, "big")
    options = bytes(rng.choice((0, 0, 0, 4, 12)))
    body = payload
    if proto != 47:
        body = _transport(rng, proto, addresses, payload)
    fragment = rng.choice((0, 0, 0, 0, 0x4000, 0x2000, 0x2001, 0x0010))
    words = 5 + len(options) // 4
    head = struct.pack(
        "!BBHHHBBH", 0x40 | words, rng.choice((0, 0x28, 0xB8, 0x01, rng.randrange(256))),
        words * 4 + len(body), rng.randrange(65536), fragment,
        rng.choice((64, 64, 2, 1, 0, 255)), proto, 0,
    )  # fmt: skip
    return _checksummed(b"", bytearray(head + addresses + options), 10) + body


def ipv6_of(rng: Random, payload: bytes) -> bytes:
    """An IPv6 packet, sometimes with extension headers."""
    proto = rng.choice((6, 6, 17, 17, 58, 58, 132, 59))
    addresses = rng.choice(IPV6).to_bytes(16, "big") + rng.choice(IPV6).to_bytes(16, "big")
    body = payload if proto == 59 else _transport(rng, proto, addresses, payload)
    first = proto
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        kind = rng.choice((0, 43, 44, 60, 51))
        if kind == 44:
            offset = rng.choice((0, 1, 8, 9))  # more fragments, offset, both, none
            body = struct.pack("!BBHI", first, 0, offset, 7) + body
        elif kind == 43:
            body = bytes((first, 2, 0, rng.randrange(2))) + bytes(20) + body
        else:
            body = bytes((first, 0 if kind != 51 else 1)) + bytes(6 if kind != 51 else 10) + body
        first = kind
    word = 6 << 28 | rng.choice((0, 0x28, 0xB9)) << 20 | rng.choice((0, 1, 0xFFFFF))
    return (
        struct.pack("!IHBB", word, len(body), first, rng.choice((64, 64, 2, 1, 0)))
        + addresses
        + body
    )


def frame_of(rng: Random) -> bytes:
    """A frame: mostly well-formed, out of the pools; sometimes cut off or with bytes changed."""
    payload = rng.randbytes(rng.choice((0, 1, 6, 20, 40)))
    kind = rng.choice(("ip",) * 8 + ("ipv6",) * 4 + ("arp", "mpls", "pbb", "snap", "other"))
    if kind == "ip":
        eth_type, body = f.ETH_TYPE_IP, ipv4_of(rng, payload)
    elif kind == "ipv6":
        eth_type, body = f.ETH_TYPE_IPV6, ipv6_of(rng, payload)
    elif kind == "arp":
        eth_type = rng.choice((f.ETH_TYPE_ARP, f.ETH_TYPE_RARP))
        body = b"\0\1\x08\0\6\4" + rng.choice((1, 2)).to_bytes(2, "big")
        for _ in range(2):
            body += rng.choice(MACS).to_bytes(6, "big") + rng.choice(IPV4).to_bytes(4, "big")
    elif kind == "mpls":
        eth_type, body = f.ETH_TYPE_MPLS, b""
        for _ in range(rng.choice((0, 0, 1))):
            body += (rng.choice(LABELS) << 12 | 64).to_bytes(4, "big")
        ttl = rng.choice((0, 1, 2, 64))
        body += (rng.choice(LABELS) << 12 | rng.randrange(8) << 9 | 0x100 | ttl).to_bytes(4, "big")
        body += ipv4_of(rng, payload) if chance(rng, 70) else ipv6_of(rng, payload)
    elif kind == "pbb":
        eth_type = f.ETH_TYPE_PBB
        inner = rng.choice(MACS).to_bytes(6, "big") + rng.choice(MACS).to_bytes(6, "big")
        body = rng.randbytes(4) + inner + b"\x08\0" + ipv4_of(rng, payload)
    elif kind == "snap":
        body = b"\xaa\xaa\x03\0\0\0\x08\0" + ipv4_of(rng, payload)
        eth_type = len(body)
    else:
        eth_type, body = rng.choice((0x1234, 0x0042, 0x88CC)), payload
    tags = b""
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        tci = rng.randrange(8) << 13 | rng.randrange(2) << 12 | rng.choice(VIDS)
        tags += struct.pack("!HH", rng.choice((0x8100, 0x8100, 0x88A8)), tci)
    frame = rng.choice(MACS).to_bytes(6, "big") + rng.choice(MACS[:3]).to_bytes(6, "big")
    frame += tags + eth_type.to_bytes(2, "big") + body
    if chance(rng, 10):
        frame += rng.randbytes(rng.randrange(1, 20))  # padding
    if chance(rng, 6):
        frame = frame[: rng.randrange(len(frame) + 1)]
    if chance(rng, 6) and frame:
        damaged = bytearray(frame)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(frame))] = rng.randrange(256)
        frame = bytes(damaged)
    return frame


@dataclass(frozen=True)
class Arrival:
    """A packet that comes in."""

    data: bytes
    in_port: int
    ns: int
    wire_len: int


def arrivals_of(rng: Random, n: int, n_frames: int = 0, start: int = 10**18) -> list[Arrival]:
    """n packets, n_frames different ones mostly (default a quarter), with times that mostly grow
    and sometimes jump."""
    frames = [(frame_of(rng), rng.choice(PORTS)) for _ in range(n_frames or max(1, n // 4))]
    ns, result = start, []
    for _ in range(n):
        ns += rng.choice((0, 1000, 10**6, 10**8, 10**9 if chance(rng, 20) else 0))
        shown = ns - 5000 if chance(rng, 3) else ns
        data, port = rng.choice(frames)
        if chance(rng, 3 if n_frames else 20):
            data = frame_of(rng)
        if chance(rng, 3 if n_frames else 70):
            port = rng.choice(PORTS)
        wire = len(data) if chance(rng, 90) else len(data) + rng.randrange(100)
        result.append(Arrival(data, port, shown, wire))
    return result
