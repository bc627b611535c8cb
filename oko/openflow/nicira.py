"""Nicira's actions (experimenter 0x2320) and oko's own, to `oko.model.actions` and back.

Layouts as in Open vSwitch's ovs-actions(7) and nicira-ext.h: type 0xffff, length, experimenter,
16-bit subtype, then what the subtype says, filled up with zeroes to a multiple of 8 bytes. Ports
are 16 bits wide here in every version of OpenFlow.

Refused by name (OFPBAC_BAD_VENDOR_TYPE): multipath, bundle, sample, connection
tracking, encap and decap, check_pkt_larger, delete_field, and controller's userdata.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from oko.model import actions as act
from oko.model.actions import Action, Subfield
from oko.model.fields import (
    ETH_TYPE_MPLS,
    ETH_TYPE_MPLS_MCAST,
    IP_DSCP,
    NW_TOS,
    PORT_ANY,
    PORT_CONTROLLER,
    VLAN_PRESENT,
    VLAN_TCI,
    field,
)
from oko.model.flow import GROUP_MAX
from oko.openflow.common import (
    NICIRA,
    OF15,
    OKO,
    OpenFlowError,
    fail,
    padded,
    port_from_10,
    port_to_10,
)
from oko.openflow.context import (
    Context,
    bits_code,
    bits_of,
    check_writable,
    load,
    named_header,
    subfield,
)
from oko.openflow.learn import decode_learn, encode_learn
from oko.openflow.oxm import encode_entry, entry_at

HEAD = struct.Struct("!HHIH")  # type, length, experimenter, subtype
EXPERIMENTER_ACTION = 0xFFFF

RESUBMIT, SET_TUNNEL, SET_QUEUE, POP_QUEUE, REG_MOVE, REG_LOAD, NOTE = 1, 2, 4, 5, 6, 7, 8
SET_TUNNEL64, RESUBMIT_TABLE, OUTPUT_REG, LEARN, EXIT, DEC_TTL = 9, 14, 15, 16, 17, 18
FIN_TIMEOUT, CONTROLLER, DEC_TTL_CNT_IDS, WRITE_METADATA = 19, 20, 21, 22
PUSH_MPLS, POP_MPLS, SET_MPLS_TTL, DEC_MPLS_TTL, STACK_PUSH, STACK_POP = 23, 24, 25, 26, 27, 28
SET_MPLS_LABEL, SET_MPLS_TC, REG_LOAD2, CONJUNCTION, OUTPUT_TRUNC, GROUP, CLONE, LEARN2 = (
    30, 31, 33, 34, 39, 40, 42, 45,
)  # fmt: skip

UNSUPPORTED = {
    10: "multipath", 12: "bundle", 13: "bundle_load", 29: "sample", 32: "output of a wide field",
    35: "ct", 36: "nat", 37: "controller with properties", 38: "sample",
    43: "ct_clear", 44: "resubmit to ct", 46: "encap", 47: "decap", 48: "dec_nsh_ttl",
    49: "check_pkt_larger", 50: "delete_field",
}  # fmt: skip

SEND_MAPS = 1  # oko's own action

Decode = Callable[[bytes, Context], tuple[Action, ...]]
"""Decodes an action list; handed down because clone has one inside."""


def nicira(kind: int, body: bytes = b"") -> bytes:
    """One action of Nicira's: what follows the subtype, and the header."""
    size = HEAD.size + len(body) + (-(HEAD.size + len(body)) % 8)
    return padded(HEAD.pack(EXPERIMENTER_ACTION, size, NICIRA, kind) + body)


def decode_nicira(kind: int, data: bytes, context: Context, decode: Decode) -> Action:
    """One action; data: all of it, header included."""
    handler = _DECODERS.get(kind)
    if handler is None:
        what = UNSUPPORTED.get(kind, f"{kind} of Nicira's")
        fail("OFPBAC_BAD_VENDOR_TYPE", f"action {what} is not supported")
    form, function = handler
    if form is None:
        return function(data, context, decode)
    if len(data) != form.size:
        fail("OFPBAC_BAD_LEN", f"action {kind} of Nicira's has {form.size} bytes, not {len(data)}")
    return function(context, *form.unpack(data))


def output_port(port: int) -> int:
    """A port of 16 bits that an action may send to, as 32 bits."""
    if 0xFF00 <= port < 0xFFF8 or port in (0, 0xFFFF):
        fail("OFPBAC_BAD_OUT_PORT", f"cannot output to port {port:#x}")
    return port_from_10(port)


def _resubmit(context: Context, in_port: int, table: int) -> Action:
    return act.Resubmit(port_from_10(in_port), table)


def _move(
    context: Context, n_bits: int, src_ofs: int, dst_ofs: int, src: bytes, dst: bytes
) -> Action:
    source, _ = subfield(src, 0, src_ofs, n_bits)
    target, _ = subfield(dst, 0, dst_ofs, n_bits)
    return move(context, source, target)


def move(context: Context, source: Subfield, target: Subfield) -> Action:
    """A move, if both ends are good for it."""
    context.need(source.field)
    context.need_target(target)
    return act.Move(source, target)


def _load(context: Context, code: int, header: bytes, value: int) -> Action:
    target, _ = subfield(header, 0, *bits_of(code))
    check_writable(target.field)
    context.need(target.field)
    if value >> target.n_bits:
        fail("OFPBAC_BAD_ARGUMENT", f"{value:#x} does not fit into {target.n_bits} bits")
    return _noted(context, load(target, value))


def _noted(context: Context, action: Action) -> Action:
    """What writing vlan_tci tells about packets after it (mod_vlan_vid comes as such)."""
    if (
        isinstance(action, act.SetField)
        and action.field is VLAN_TCI
        and action.value & action.mask & VLAN_PRESENT
    ):
        context.learn_tag()
    return action


def _load2(data: bytes, context: Context, decode: Decode) -> Action:
    return set_field(data[HEAD.size :], context)


def set_field(data: bytes, context: Context) -> Action:
    """The action of an OXM entry and its padding."""
    try:
        entry = entry_at(data, 0, any_mask=True)
    except OpenFlowError as exc:
        name = {
            "OFPBMC_BAD_FIELD": "OFPBAC_BAD_SET_TYPE",
            "OFPBMC_BAD_LEN": "OFPBAC_BAD_SET_LEN",
            "OFPBMC_BAD_VALUE": "OFPBAC_BAD_SET_ARGUMENT",
            "OFPBMC_BAD_MASK": "OFPBAC_BAD_SET_MASK",
        }.get(exc.name, exc.name)
        raise OpenFlowError(name, "set_field: " + str(exc).split(": ", 1)[1]) from None
    if any(data[entry.end :]) or len(data) - entry.end > 7:
        fail("OFPBAC_BAD_SET_ARGUMENT", "there is more than padding behind set_field's value")
    f = entry.field
    check_writable(f)
    context.need(f)
    if not entry.mask:
        fail("OFPBAC_BAD_SET_MASK", "set_field needs a mask that is not 0")
    if f is NW_TOS:
        return act.SetField(IP_DSCP, entry.value >> 2, entry.mask >> 2)
    return _noted(context, act.SetField(f, entry.value, entry.mask))


def _output_reg(context: Context, code: int, header: bytes, max_len: int) -> Action:
    source, _ = subfield(header, 0, *bits_of(code))
    context.need(source.field)
    return act.OutputReg(source, max_len)


def _stack(kind: type[act.PushBits] | type[act.PopBits]) -> Callable[..., Action]:
    def decode(context: Context, ofs: int, header: bytes, n_bits: int) -> Action:
        sub, _ = subfield(header, 0, ofs, n_bits)
        if kind is act.PopBits:
            context.need_target(sub)
            return act.PopBits(sub)
        context.need(sub.field)
        return act.PushBits(sub)

    return decode


def _note(data: bytes, context: Context, decode: Decode) -> Action:
    return act.Note(data[HEAD.size :])


def _clone(data: bytes, context: Context, decode: Decode) -> Action:
    if len(data) < 16:
        fail("OFPBAC_BAD_LEN", "clone has at least 16 bytes")
    return act.Clone(decode(data[16:], context.nested()))


def _dec_ttl_ids(data: bytes, context: Context, decode: Decode) -> Action:
    if len(data) < 16:
        fail("OFPBAC_BAD_LEN", "dec_ttl with controllers has at least 16 bytes")
    (n,) = struct.unpack_from("!H", data, 10)
    if len(data) < 16 + 2 * n or n == 0:
        fail("OFPBAC_BAD_LEN", f"dec_ttl is not long enough for {n} controllers")
    return act.DecTtl(struct.unpack_from(f"!{n}H", data, 16))


def _learn(data: bytes, context: Context, decode: Decode) -> Action:
    (kind,) = struct.unpack_from("!H", data, 8)
    return decode_learn(data, context, extended=kind == LEARN2)


def _controller(context: Context, max_len: int, number: int, reason: int) -> Action:
    if reason not in act.REASONS.values():
        fail("OFPBAC_BAD_ARGUMENT", f"there is no packet-in reason {reason}")
    if reason == act.REASONS["action"] and number == 0:
        return act.Output(PORT_CONTROLLER, max_len)
    return act.Controller(max_len, reason, number)


def push_mpls(context: Context, eth_type: int) -> Action:
    """push_mpls, from here on with that Ethernet type."""
    if eth_type not in (ETH_TYPE_MPLS, ETH_TYPE_MPLS_MCAST):
        fail("OFPBAC_BAD_ARGUMENT", f"{eth_type:#06x} is not an MPLS Ethernet type")
    context.change_eth_type(eth_type)
    return act.PushMpls(eth_type)


def pop_mpls(context: Context, eth_type: int) -> Action:
    """pop_mpls, from here on with that Ethernet type."""
    context.change_eth_type(eth_type)
    return act.PopMpls(eth_type)


def _set(name: str) -> Callable[..., Action]:
    f = field(name)

    def decode(context: Context, value: int) -> Action:
        if value > f.all_ones:
            fail("OFPBAC_BAD_ARGUMENT", f"{value} is too large for {f.label}")
        return act.SetField(f, value, f.all_ones)

    return decode


def _trunc(context: Context, port: int, max_len: int) -> Action:
    if max_len < 14:
        fail("OFPBAC_BAD_ARGUMENT", "a packet cannot be truncated to less than 14 bytes")
    wide = output_port(port)
    if 0xFFFFFFF9 <= wide <= 0xFFFFFFFD or wide == PORT_ANY:
        fail("OFPBAC_BAD_OUT_PORT", f"cannot truncate to port {port:#x}")
    return act.OutputTrunc(wide, max_len)


def to_group(context: Context, group: int) -> Action:
    """The action group, which 1.0 has from Nicira only."""
    if group > GROUP_MAX:
        fail("OFPBAC_BAD_OUT_GROUP", f"{group:#x} is not the number of a group")
    return act.ToGroup(group)


def _conjunction(context: Context, dimension: int, dimensions: int, number: int) -> Action:
    if not 2 <= dimensions <= act.MAX_DIMENSIONS or dimension >= dimensions:
        fail(
            "NXBAC_BAD_CONJUNCTION",
            f"{dimension + 1}/{dimensions} is not one of 2 to {act.MAX_DIMENSIONS} dimensions",
        )
    return act.Conjunction(number, dimension + 1, dimensions)


def _always(action: Action) -> Callable[..., Action]:
    return lambda context: action


def _form(rest: str) -> struct.Struct:
    return struct.Struct("!10x" + rest)


_DECODERS: dict[int, tuple[struct.Struct | None, Callable[..., Action]]] = {
    RESUBMIT: (_form("H4x"), lambda c, port: _resubmit(c, port, act.TABLE_CURRENT)),
    RESUBMIT_TABLE: (_form("HB3x"), _resubmit),
    SET_TUNNEL: (_form("2xI"), _set("tun_id")),
    SET_TUNNEL64: (_form("6xQ"), _set("tun_id")),
    SET_QUEUE: (_form("2xI"), lambda c, queue: act.SetQueue(queue)),
    POP_QUEUE: (_form("6x"), _always(act.PopQueue())),
    REG_MOVE: (_form("HHH4s4s"), _move),
    REG_LOAD: (_form("H4sQ"), _load),
    REG_LOAD2: (None, _load2),
    NOTE: (None, _note),
    OUTPUT_REG: (_form("H4sH6x"), _output_reg),
    LEARN: (None, _learn),
    LEARN2: (None, _learn),
    EXIT: (_form("6x"), _always(act.Exit())),
    DEC_TTL: (_form("6x"), _always(act.DecTtl())),
    DEC_TTL_CNT_IDS: (None, _dec_ttl_ids),
    FIN_TIMEOUT: (_form("HH2x"), lambda c, idle, hard: act.FinTimeout(idle, hard)),
    CONTROLLER: (_form("HHBx"), _controller),
    PUSH_MPLS: (_form("H4x"), push_mpls),
    POP_MPLS: (_form("H4x"), pop_mpls),
    SET_MPLS_TTL: (_form("B5x"), lambda c, ttl: act.SetMplsTtl(ttl)),
    DEC_MPLS_TTL: (_form("6x"), _always(act.DecMplsTtl())),
    SET_MPLS_LABEL: (_form("2xI"), _set("mpls_label")),
    SET_MPLS_TC: (_form("B5x"), _set("mpls_tc")),
    STACK_PUSH: (_form("H4sH6x"), _stack(act.PushBits)),
    STACK_POP: (_form("H4sH6x"), _stack(act.PopBits)),
    OUTPUT_TRUNC: (_form("HI"), _trunc),
    CONJUNCTION: (_form("BBI"), _conjunction),
    GROUP: (_form("2xI"), to_group),
    CLONE: (None, _clone),
}


# ---------------------------------------------------------------- oko's own action

_SEND_MAPS = struct.Struct("!10xHIH")  # program, interval in ms, number of maps


def decode_own(kind: int, data: bytes) -> Action:
    """An action of experimenter 0x4f4b4f00."""
    if kind != SEND_MAPS:
        fail("OFPBAC_BAD_VENDOR_TYPE", f"there is no action {kind} of oko's")
    if len(data) < _SEND_MAPS.size:
        fail("OFPBAC_BAD_LEN", "send_maps is too short")
    program, interval, n_maps = _SEND_MAPS.unpack_from(data)
    if len(data) != _SEND_MAPS.size + 2 * n_maps + (-(_SEND_MAPS.size + 2 * n_maps) % 8):
        fail("OFPBAC_BAD_LEN", f"send_maps does not have the length for {n_maps} maps")
    if not program:
        fail("OFPBAC_BAD_ARGUMENT", "send_maps needs a program")
    if interval < 10:
        fail("OFPBAC_BAD_ARGUMENT", "send_maps has an interval of at least 10 ms")
    maps = struct.unpack_from(f"!{n_maps}H", data, _SEND_MAPS.size)
    return act.SendMaps(program, maps, interval)


def encode_send_maps(action: act.SendMaps) -> bytes:
    """send_maps as an experimenter action."""
    n = len(action.maps)
    body = struct.pack(f"!HIH{n}H", action.program, action.interval, n, *action.maps)
    size = HEAD.size + len(body) + (-(HEAD.size + len(body)) % 8)
    return padded(HEAD.pack(EXPERIMENTER_ACTION, size, OKO, SEND_MAPS) + body)


# ---------------------------------------------------------------- encoding


def encode_move(action: act.Move) -> bytes:
    """NXAST_REG_MOVE."""
    source, target = action.source, action.target
    head = struct.pack("!HHH", source.n_bits, source.ofs, target.ofs)
    return nicira(REG_MOVE, head + named_header(source.field) + named_header(target.field))


def encode_load(action: act.SetField) -> bytes:
    """NXAST_REG_LOAD where the bits are in one piece of at most 64, else NXAST_REG_LOAD2."""
    f, value, mask = action.field, action.value, action.mask
    ofs = (mask & -mask).bit_length() - 1
    n_bits = mask.bit_length() - ofs
    if n_bits <= 64 and mask >> ofs == (1 << n_bits) - 1 and ofs < 1024:
        code = bits_code(Subfield(f, ofs, n_bits))
        return nicira(REG_LOAD, struct.pack("!H4sQ", code, named_header(f), value >> ofs))
    return nicira(REG_LOAD2, encode_entry(OF15, f, value, mask))


def _encode_stack(kind: int, sub: Subfield) -> bytes:
    return nicira(kind, struct.pack("!H4sH", sub.ofs, named_header(sub.field), sub.n_bits))


def _encode_resubmit(action: act.Resubmit) -> bytes:
    port = port_to_10(action.in_port)
    if action.table == act.TABLE_CURRENT:
        return nicira(RESUBMIT, struct.pack("!H4x", port))
    return nicira(RESUBMIT_TABLE, struct.pack("!HB3x", port, action.table))


def _encode_dec_ttl(action: act.DecTtl) -> bytes:
    ids = action.controllers
    if not ids:
        return nicira(DEC_TTL)
    return nicira(DEC_TTL_CNT_IDS, struct.pack(f"!H4x{len(ids)}H", len(ids), *ids))


ENCODERS: dict[type, Callable[..., bytes]] = {
    act.OutputTrunc: lambda a: nicira(
        OUTPUT_TRUNC, struct.pack("!HI", port_to_10(a.port), a.max_len)
    ),
    act.OutputReg: lambda a: nicira(
        OUTPUT_REG,
        struct.pack("!H4sH6x", bits_code(a.source), named_header(a.source.field), a.max_len),
    ),
    act.Controller: lambda a: nicira(CONTROLLER, struct.pack("!HHBx", a.max_len, a.id, a.reason)),
    act.Conjunction: lambda a: nicira(
        CONJUNCTION, struct.pack("!BBI", a.dimension - 1, a.dimensions, a.id)
    ),
    act.SetQueue: lambda a: nicira(SET_QUEUE, struct.pack("!2xI", a.queue)),
    act.PopQueue: lambda a: nicira(POP_QUEUE),
    act.Move: encode_move,
    act.PushBits: lambda a: _encode_stack(STACK_PUSH, a.source),
    act.PopBits: lambda a: _encode_stack(STACK_POP, a.target),
    act.PushMpls: lambda a: nicira(PUSH_MPLS, struct.pack("!H", a.eth_type)),
    act.PopMpls: lambda a: nicira(POP_MPLS, struct.pack("!H", a.eth_type)),
    act.SetMplsTtl: lambda a: nicira(SET_MPLS_TTL, bytes((a.ttl,))),
    act.DecMplsTtl: lambda a: nicira(DEC_MPLS_TTL),
    act.DecTtl: _encode_dec_ttl,
    act.Resubmit: _encode_resubmit,
    act.Note: lambda a: nicira(NOTE, a.data),
    act.Exit: lambda a: nicira(EXIT),
    act.FinTimeout: lambda a: nicira(
        FIN_TIMEOUT, struct.pack("!HH2x", a.idle_timeout, a.hard_timeout)
    ),
    act.Learn: lambda a: nicira(LEARN2 if a.limit or a.result else LEARN, encode_learn(a)),
    act.SendMaps: encode_send_maps,
}
"""Actions whose form is the same in every version (clone and set_field are in actions.py)."""
