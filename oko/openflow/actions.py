"""Action lists on the wire: OpenFlow 1.0, 1.3, 1.4 and 1.5, to `oko.model.actions` and back.

Nicira's and oko's own actions are in nicira.py; they may stand in any version. Where a version has
an action of its own for something it is used, else Nicira's (moves and loads of bits, fin_timeout).
What one version cannot say at all fails with OFPBAC_BAD_TYPE, or is left out where the caller would
rather show less than nothing (statistics for a 1.0 peer; Open vSwitch does the same).

Equal bytes decode to equal actions, but several forms mean one action (load and set_field; enqueue
and set_queue, output, pop_queue), and one of them comes out. mod_tp_src and mod_tp_dst, which name
no protocol, exist in 1.0 only: later versions say set_field, thrice where the match does not tell
the protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

from oko.model import actions as act
from oko.model.actions import Action
from oko.model.fields import (
    ETH_DST,
    ETH_SRC,
    ETH_TYPE_PBB,
    ETH_TYPE_QINQ,
    ETH_TYPE_VLAN,
    IN_PORT,
    IN_PORT_16,
    IP_DSCP,
    IP_PROTO,
    PORT_ANY,
    PORT_IN_PORT,
    PORT_MAX,
    VLAN_PRESENT,
    VLAN_TCI,
    VLAN_VID,
    Field,
    Known,
    field,
)
from oko.openflow import nicira
from oko.openflow.common import (
    NICIRA,
    OF10,
    OF15,
    OKO,
    ONF,
    OpenFlowError,
    fail,
    padded,
    port_to_10,
)
from oko.openflow.context import Context, subfield
from oko.openflow.nicira import EXPERIMENTER_ACTION, move, output_port, pop_mpls, push_mpls
from oko.openflow.oxm import encode_entry, encode_header

# OFPAT_* of 1.0.
(OUTPUT_10, SET_VLAN_VID, SET_VLAN_PCP, STRIP_VLAN, SET_DL_SRC, SET_DL_DST, SET_NW_SRC, SET_NW_DST,
 SET_NW_TOS, SET_TP_SRC, SET_TP_DST, ENQUEUE) = range(12)  # fmt: skip
# OFPAT_* of 1.3 and later.
OUTPUT, COPY_TTL_OUT, COPY_TTL_IN, SET_MPLS_TTL, DEC_MPLS_TTL = 0, 11, 12, 15, 16
PUSH_VLAN, POP_VLAN, PUSH_MPLS, POP_MPLS, SET_QUEUE, GROUP = 17, 18, 19, 20, 21, 22
SET_NW_TTL, DEC_NW_TTL, SET_FIELD, PUSH_PBB, POP_PBB, COPY_FIELD, METER = range(23, 30)

_IPV4_SRC, _IPV4_DST = field("ipv4_src"), field("ipv4_dst")

MAX_DEPTH = 16  # clones in clones; Open vSwitch stops at 64 resubmits, nobody nests 16 clones


# ---------------------------------------------------------------- decoding


def decode_actions(version: int, data: bytes, known: Known | None = None) -> tuple[Action, ...]:
    """The actions of these bytes. known: what packets are known to be, or None (no checks)."""
    return decode_list(data, Context(version, known))


def decode_list(data: bytes, context: Context, depth: int = 0) -> tuple[Action, ...]:
    """As decode_actions(); what the actions say about packets goes into the context."""
    if depth > MAX_DEPTH:
        fail("OFPBAC_TOO_MANY", "clones are nested too deeply")
    result: list[Action] = []
    decoders = _DECODERS_10 if context.version == OF10 else _DECODERS_13
    at, end = 0, len(data)
    while at < end:
        if end - at < 8:
            fail("OFPBAC_BAD_LEN", "an action has at least 8 bytes")
        kind, size = struct.unpack_from("!HH", data, at)
        if size < 8 or size % 8 or size > end - at:
            fail("OFPBAC_BAD_LEN", f"an action cannot have {size} bytes here")
        body = data[at : at + size]
        at += size
        if kind == EXPERIMENTER_ACTION:
            result.append(_decode_experimenter(body, context, depth))
            continue
        found = decoders.get(kind)
        if found is None or (kind >= COPY_FIELD and context.version < OF15):
            fail("OFPBAC_BAD_TYPE", f"there is no action of type {kind}")
        form, function = found
        if form is None:
            actions = function(context, body)
        elif form.size != size:
            fail("OFPBAC_BAD_LEN", f"an action of type {kind} has {form.size} bytes, not {size}")
        else:
            actions = function(context, *form.unpack(body))
        if isinstance(actions, list):
            result += actions
        else:
            result.append(actions)
    return tuple(result)


def _decode_experimenter(data: bytes, context: Context, depth: int) -> Action:
    if len(data) < 16 and int.from_bytes(data[4:8], "big") not in (NICIRA, OKO):
        fail("OFPBAC_BAD_VENDOR", "an action of an unknown experimenter")
    if len(data) < 10:
        fail("OFPBAC_BAD_LEN", "an experimenter action is too short for its type")
    experimenter, kind = struct.unpack_from("!IH", data, 4)
    if experimenter == NICIRA:
        return nicira.decode_nicira(
            kind, data, context, lambda inner, state: decode_list(inner, state, depth + 1)
        )
    if experimenter == OKO:
        return nicira.decode_own(kind, data)
    if experimenter == ONF and kind == _ONF_COPY_FIELD:
        return _copy_field(context, b"\0\0\0\0" + data[10:])
    fail("OFPBAC_BAD_VENDOR", f"an action of experimenter {experimenter:#x}")


_ONF_COPY_FIELD = 3200  # EXT-320, for 1.3 and 1.4


def _output_10(context: Context, port: int, max_len: int) -> act.Output:
    wide = output_port(port)
    return act.Output(wide, max_len if wide == 0xFFFFFFFD else 0)


def _output(context: Context, port: int, max_len: int) -> act.Output:
    if port == 0 or port == PORT_ANY or PORT_MAX <= port < PORT_IN_PORT:
        fail("OFPBAC_BAD_OUT_PORT", f"cannot output to port {port:#x}")
    return act.Output(port, max_len if port == 0xFFFFFFFD else 0)


def _enqueue(context: Context, port: int, queue: int) -> list[Action]:
    if (port >= 0xFF00 and port not in (0xFFF8, 0xFFFE)) or port == 0:
        fail("OFPBAC_BAD_OUT_PORT", f"cannot enqueue to port {port:#x}")
    return [act.SetQueue(queue), act.Output(output_port(port)), act.PopQueue()]


def _mod_vlan_vid(context: Context, vid: int) -> Action:
    if vid > 0xFFF:
        fail("OFPBAC_BAD_ARGUMENT", f"{vid} is not a VLAN id")
    context.learn_tag()
    return act.SetField(VLAN_TCI, VLAN_PRESENT | vid, 0x1FFF)


def _mod_vlan_pcp(context: Context, pcp: int) -> Action:
    if pcp > 7:
        fail("OFPBAC_BAD_ARGUMENT", f"{pcp} is not a VLAN priority")
    context.learn_tag()
    return act.SetField(VLAN_TCI, VLAN_PRESENT | pcp << 13, 0xF000)


def _mod_nw_tos(context: Context, tos: int) -> Action:
    if tos & 3:
        fail("OFPBAC_BAD_ARGUMENT", f"TOS {tos} has ECN bits")
    return act.SetField(IP_DSCP, tos >> 2, 0x3F)


def _pop_vlan(context: Context) -> Action:
    context.forget_tag()
    return act.PopVlan()


def _push_vlan(context: Context, tpid: int) -> Action:
    if tpid not in (ETH_TYPE_VLAN, ETH_TYPE_QINQ):
        fail("OFPBAC_BAD_ARGUMENT", f"{tpid:#06x} is not a VLAN Ethernet type")
    context.learn_tag()
    return act.PushVlan(tpid)


def _push_pbb(context: Context, eth_type: int) -> Action:
    if eth_type != ETH_TYPE_PBB:
        fail("OFPBAC_BAD_ARGUMENT", f"{eth_type:#06x} is not the PBB Ethernet type")
    context.change_eth_type(eth_type)
    return act.PushPbb(eth_type)


def _pop_pbb(context: Context) -> Action:
    context.change_eth_type(None)
    return act.PopPbb()


_OXM_IN_PORT = encode_header(OF15, IN_PORT)[:3]


def _set_field(context: Context, data: bytes) -> Action:
    action = nicira.set_field(data[4:], context)
    assert isinstance(action, act.SetField)
    whole = action.mask == action.field.all_ones
    if data[4:7] == _OXM_IN_PORT:  # NXM's in_port may be set, by Nicira's rules
        fail("OFPBAC_BAD_SET_ARGUMENT", "set_field cannot change in_port")
    if not whole and context.version < OF15:
        fail("OFPBAC_BAD_SET_MASK", "set_field takes no mask before OpenFlow 1.5")
    if action.field is VLAN_VID:
        if not action.value & action.mask & VLAN_PRESENT:
            fail("OFPBAC_BAD_SET_ARGUMENT", "set_field of vlan_vid must keep the tag")
        context.need_tag()
    return action


def _copy_field(context: Context, data: bytes) -> Action:
    """OFPAT_COPY_FIELD: number of bits, first bits, two field headers."""
    if len(data) < 20:
        fail("OFPBAC_BAD_LEN", "copy_field has at least 20 bytes")
    n_bits, src_ofs, dst_ofs = struct.unpack_from("!HHH", data, 4)
    source, at = subfield(data, 12, src_ofs, n_bits)
    target, at = subfield(data, at, dst_ofs, n_bits)
    if any(data[at:]):
        fail("OFPBAC_BAD_ARGUMENT", "padding of copy_field is not zero")
    return move(context, source, target)


def _meter(context: Context, meter: int) -> Action:
    fail("OFPBAC_UNSUPPORTED_ORDER", "meter must be the first of all actions")


def _form(rest: str) -> struct.Struct:
    return struct.Struct("!4x" + rest)


_Decoder = tuple[struct.Struct | None, Callable[..., Action | list[Action]]]
_DECODERS_10: dict[int, _Decoder] = {
    OUTPUT_10: (_form("HH"), _output_10),
    SET_VLAN_VID: (_form("H2x"), _mod_vlan_vid),
    SET_VLAN_PCP: (_form("B3x"), _mod_vlan_pcp),
    STRIP_VLAN: (_form("4x"), _pop_vlan),
    SET_DL_SRC: (
        _form("6s6x"),
        lambda c, mac: act.SetField(ETH_SRC, int.from_bytes(mac, "big"), ETH_SRC.all_ones),
    ),
    SET_DL_DST: (
        _form("6s6x"),
        lambda c, mac: act.SetField(ETH_DST, int.from_bytes(mac, "big"), ETH_DST.all_ones),
    ),
    SET_NW_SRC: (_form("I"), lambda c, address: act.SetField(_IPV4_SRC, address, 0xFFFFFFFF)),
    SET_NW_DST: (_form("I"), lambda c, address: act.SetField(_IPV4_DST, address, 0xFFFFFFFF)),
    SET_NW_TOS: (_form("B3x"), _mod_nw_tos),
    SET_TP_SRC: (_form("H2x"), lambda c, port: act.SetTransport(False, port)),
    SET_TP_DST: (_form("H2x"), lambda c, port: act.SetTransport(True, port)),
    ENQUEUE: (_form("H6xI"), _enqueue),
}
_DECODERS_13: dict[int, _Decoder] = {
    OUTPUT: (_form("IH6x"), _output),
    COPY_TTL_OUT: (_form("4x"), lambda c: act.CopyTtlOut()),
    COPY_TTL_IN: (_form("4x"), lambda c: act.CopyTtlIn()),
    SET_MPLS_TTL: (_form("B3x"), lambda c, ttl: act.SetMplsTtl(ttl)),
    DEC_MPLS_TTL: (_form("4x"), lambda c: act.DecMplsTtl()),
    PUSH_VLAN: (_form("H2x"), _push_vlan),
    POP_VLAN: (_form("4x"), _pop_vlan),
    PUSH_MPLS: (_form("H2x"), push_mpls),
    POP_MPLS: (_form("H2x"), pop_mpls),
    SET_QUEUE: (_form("I"), lambda c, queue: act.SetQueue(queue)),
    GROUP: (_form("I"), nicira.to_group),
    SET_NW_TTL: (_form("B3x"), lambda c, ttl: act.SetTtl(ttl)),
    DEC_NW_TTL: (_form("4x"), lambda c: act.DecTtl()),
    SET_FIELD: (None, _set_field),
    PUSH_PBB: (_form("H2x"), _push_pbb),
    POP_PBB: (_form("4x"), _pop_pbb),
    COPY_FIELD: (None, _copy_field),
    METER: (_form("I"), _meter),
}


# ---------------------------------------------------------------- encoding


def encode_actions(
    version: int,
    actions: Sequence[Action],
    *,
    ip_proto: int | None = None,
    lossy: bool = False,
    send_maps: bool = True,
) -> bytes:
    """The actions as bytes.

    ip_proto: of the packets, if the match tells, for mod_tp_*. lossy: leave out what the version
    cannot say instead of failing. send_maps: False leaves out oko's own action (for peers that
    do not know it).
    """
    parts: list[bytes] = []
    i = 0
    while i < len(actions):
        action = actions[i]
        i += 1
        if isinstance(action, act.SendMaps) and not send_maps:
            continue
        try:
            if version == OF10 and isinstance(action, act.SetQueue) and _is_enqueue(actions, i - 1):
                output = actions[i]
                assert isinstance(output, act.Output)
                parts.append(_encode_enqueue(action.queue, output.port))
                i += 2
            elif isinstance(action, act.SetTransport) and version != OF10:
                parts += [encode_action(version, a) for a in _set_ports(action, ip_proto)]
            elif isinstance(action, act.Clone):
                inner = encode_actions(
                    version, action.actions, ip_proto=ip_proto, lossy=lossy, send_maps=send_maps
                )
                parts.append(nicira.nicira(nicira.CLONE, bytes(6) + inner))
            else:
                parts.append(encode_action(version, action))
        except OpenFlowError:
            if not lossy:
                raise
    return b"".join(parts)


def _is_enqueue(actions: Sequence[Action], i: int) -> bool:
    if len(actions) < i + 3 or not isinstance(actions[i + 2], act.PopQueue):
        return False
    output = actions[i + 1]
    return isinstance(output, act.Output) and (
        output.port < 0xFF00 or output.port in (PORT_IN_PORT, 0xFFFFFFFE)
    )


def _encode_enqueue(queue: int, port: int) -> bytes:
    return struct.pack("!HHH6xI", ENQUEUE, 16, port_to_10(port), queue)


def _set_ports(action: act.SetTransport, ip_proto: int | None) -> Iterable[act.SetField]:
    side = "dst" if action.destination else "src"
    names = {6: "tcp", 17: "udp", 132: "sctp"}
    chosen = (names[ip_proto],) if ip_proto in names else tuple(names.values())
    return [act.SetField(field(f"{name}_{side}"), action.port, 0xFFFF) for name in chosen]


def encode_action(version: int, action: Action) -> bytes:
    """One action; OpenFlowError if the version cannot say it."""
    if isinstance(action, act.SetField):
        return _encode_set(version, action)
    encoder = (_ENCODERS_10 if version == OF10 else _ENCODERS_13).get(type(action))
    if encoder is not None:
        return encoder(action)
    if version >= OF15 and isinstance(action, act.Move):
        return _encode_copy(action)
    encoder = nicira.ENCODERS.get(type(action))
    if encoder is None:
        name = type(action).__name__
        fail("OFPBAC_BAD_TYPE", f"action {name} does not exist in this version of OpenFlow")
    return encoder(action)


def _encode_set(version: int, action: act.SetField) -> bytes:
    f, value, mask = action.field, action.value, action.mask
    whole = mask == f.all_ones
    if version == OF10:
        if f is VLAN_TCI and mask == 0x1FFF and value & VLAN_PRESENT:
            return struct.pack("!HHH2x", SET_VLAN_VID, 8, value & 0xFFF)
        if f is VLAN_TCI and mask == 0xF000 and value & VLAN_PRESENT:
            return struct.pack("!HHB3x", SET_VLAN_PCP, 8, value >> 13)
        if whole and f in (ETH_SRC, ETH_DST):
            kind = SET_DL_SRC if f is ETH_SRC else SET_DL_DST
            return struct.pack("!HH6s6x", kind, 16, value.to_bytes(6, "big"))
        if whole and f in (_IPV4_SRC, _IPV4_DST):
            kind = SET_NW_SRC if f is _IPV4_SRC else SET_NW_DST
            return struct.pack("!HHI", kind, 8, value)
        if whole and f is IP_DSCP:
            return struct.pack("!HHB3x", SET_NW_TOS, 8, value << 2)
    if f is IN_PORT and whole and (value < 0xFF00 or value >= PORT_IN_PORT):
        f, value, mask = IN_PORT_16, port_to_10(value), 0xFFFF
    elif f is IN_PORT and mask <= 0xFFFF:
        f = IN_PORT_16
    if version == OF10 or not _settable(version, f, value, mask):
        return nicira.encode_load(act.SetField(f, value, mask))
    body = padded(struct.pack("!HH", SET_FIELD, 0) + encode_entry(version, f, value, mask))
    return body[:2] + struct.pack("!H", len(body)) + body[4:]


def _settable(version: int, f: Field, value: int, mask: int) -> bool:
    """Whether the set_field of 1.3 or later will do; in 1.5 it must, there is no load."""
    if version >= OF15:
        return f is not VLAN_VID or bool(value & mask & VLAN_PRESENT)
    if f in (IN_PORT, IN_PORT_16, VLAN_TCI) or mask != f.all_ones:
        return False
    return f is not VLAN_VID or bool(value & VLAN_PRESENT)


def _encode_copy(action: act.Move) -> bytes:
    source, target = action.source, action.target
    head = struct.pack(
        "!HHHHH2x", COPY_FIELD, 24, source.n_bits, source.ofs, target.ofs
    )  # 12 bytes, then two headers of 4
    return padded(head + encode_header(OF15, source.field) + encode_header(OF15, target.field))


_ENCODERS_10: dict[type, Callable[..., bytes]] = {
    act.Output: lambda a: struct.pack("!HHHH", OUTPUT_10, 8, port_to_10(a.port), a.max_len),
    act.PopVlan: lambda a: struct.pack("!HH4x", STRIP_VLAN, 8),
    act.SetTransport: lambda a: struct.pack(
        "!HHH2x", SET_TP_DST if a.destination else SET_TP_SRC, 8, a.port
    ),
    act.SetTtl: lambda a: nicira.encode_load(act.SetField(field("nw_ttl"), a.ttl, 0xFF)),
    act.ToGroup: lambda a: nicira.nicira(nicira.GROUP, struct.pack("!2xI", a.group)),
}
_ENCODERS_13: dict[type, Callable[..., bytes]] = {
    act.Output: lambda a: struct.pack("!HHIH6x", OUTPUT, 16, a.port, a.max_len),
    act.CopyTtlOut: lambda a: struct.pack("!HH4x", COPY_TTL_OUT, 8),
    act.CopyTtlIn: lambda a: struct.pack("!HH4x", COPY_TTL_IN, 8),
    act.SetMplsTtl: lambda a: struct.pack("!HHB3x", SET_MPLS_TTL, 8, a.ttl),
    act.DecMplsTtl: lambda a: struct.pack("!HH4x", DEC_MPLS_TTL, 8),
    act.PushVlan: lambda a: struct.pack("!HHH2x", PUSH_VLAN, 8, a.tpid),
    act.PopVlan: lambda a: struct.pack("!HH4x", POP_VLAN, 8),
    act.PushMpls: lambda a: struct.pack("!HHH2x", PUSH_MPLS, 8, a.eth_type),
    act.PopMpls: lambda a: struct.pack("!HHH2x", POP_MPLS, 8, a.eth_type),
    act.SetQueue: lambda a: struct.pack("!HHI", SET_QUEUE, 8, a.queue),
    act.ToGroup: lambda a: struct.pack("!HHI", GROUP, 8, a.group),
    act.SetTtl: lambda a: struct.pack("!HHB3x", SET_NW_TTL, 8, a.ttl),
    act.DecTtl: lambda a: (
        nicira.ENCODERS[act.DecTtl](a) if a.controllers else struct.pack("!HH4x", DEC_NW_TTL, 8)
    ),
    act.PushPbb: lambda a: struct.pack("!HHH2x", PUSH_PBB, 8, a.eth_type),
    act.PopPbb: lambda a: struct.pack("!HH4x", POP_PBB, 8),
}


def protocol_of(match: Iterable[tuple[object, int, int]]) -> int | None:
    """The IP protocol that a match asks for, or None."""
    for f, value, mask in match:
        if f is IP_PROTO and mask == 0xFF:
            return value
    return None
