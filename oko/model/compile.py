"""Model values to the flat records of csrc/oko.h: matches and strings of operations.

What C gets is bytes: each match field as a struct oko_match_field, instructions and actions as one
string of items (struct oko_op_head and payload, padded to 8 bytes). This module knows that layout
through `struct` formats only, so it needs neither cffi nor the extension; a test compares the
constants with the compiled header. `oko.datapath` hands the records over.

Composed fields are taken apart here: vlan_tci moves become moves of vlan_vid and vlan_pcp,
mod_tp_dst writes the port of whichever transport there is (each of the three does nothing without
its header).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from oko.model import actions as act
from oko.model.actions import Action, Subfield
from oko.model.fields import FIELDS, VLAN_TCI, field
from oko.model.flow import (
    DropBand,
    Flow,
    FlowMod,
    Group,
    Instructions,
    Match,
    Meter,
)

# enum oko_op
OP_METER, OP_APPLY, OP_CLEAR, OP_WRITE, OP_METADATA, OP_GOTO = range(1, 7)
OP_OUTPUT = 16
OP_GROUP = 17
OP_SET_QUEUE = 18
OP_SET_FIELD = 19
OP_MOVE = 20
OP_PUSH_VLAN = 21
OP_POP_VLAN = 22
OP_PUSH_MPLS = 23
OP_POP_MPLS = 24
OP_PUSH_PBB = 25
OP_POP_PBB = 26
OP_SET_MPLS_TTL = 27
OP_DEC_MPLS_TTL = 28
OP_SET_TTL = 29
OP_DEC_TTL = 30
OP_COPY_TTL_OUT = 31
OP_COPY_TTL_IN = 32
OP_RESUBMIT = 33
OP_LEARN = 34
OP_CLONE = 35
OP_CONTROLLER = 36
OP_NOTE = 37
OP_EXIT = 38
OP_PUSH = 39
OP_POP = 40
OP_FIN_TIMEOUT = 41
OP_DEC_TTL_IDS = 42
OP_OUTPUT_REG = 43
OP_SEND_MAPS = 44
OP_SET_VLAN_TCI = 45
OP_CONJUNCTION = 46

_HEAD = struct.Struct("=HHI")
_MATCH_FIELD = struct.Struct("=II16s16s")
MATCH_FIELD_SIZE = _MATCH_FIELD.size
_LEARN = struct.Struct("=HHHHQHHIII")
_LEARN_SPEC = struct.Struct("=BBHHHHH4x16s")
LEARN_MATCH, LEARN_LOAD, LEARN_OUTPUT = 0, 1, 2
NO_RESULT = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """struct oko_flow_spec: match is n_match struct oko_match_field, ops the instructions."""

    cookie: int
    table: int
    priority: int
    flags: int
    idle_timeout: int
    hard_timeout: int
    filter_prog: int
    n_match: int
    match: bytes
    ops: bytes
    importance: int = 0


PACKED = struct.Struct("=QIHHIIIIQQIIIIQIIIIQQ")
"""struct oko_flow_mod: cookie, table, priority, flags, idle and hard timeout, filter_prog, n_match,
two pointers, length of ops, importance, command, or_add, cookie_mask, out_port, out_group,
new_cookie, reserved, age, idle time."""


class PackedFlowMod:
    """A flow-mod ready for the datapath: data is struct oko_flow_mod with match and instructions,
    ops and instructions those alone. One of a hundred thousand, so it has nothing else."""

    __slots__ = ("data", "instructions", "ops", "program")

    def __init__(self, data: bytes, ops: bytes, instructions: Instructions, program: int) -> None:
        self.data = data
        self.ops = ops
        self.instructions = instructions
        self.program = program


def compile_flow(flow: Flow, ops: bytes | None = None) -> FlowRecord:
    """The record of a flow. ops: its instructions, where they are compiled already."""
    return FlowRecord(
        cookie=flow.cookie,
        table=flow.table,
        priority=flow.priority,
        flags=flow.flags,
        idle_timeout=flow.idle_timeout,
        hard_timeout=flow.hard_timeout,
        filter_prog=flow.filter_prog,
        n_match=len(flow.match),
        match=compile_match(flow.match),
        ops=compile_instructions(flow.instructions) if ops is None else ops,
        importance=flow.importance,
    )


def pack_change(mod: FlowMod, record: FlowRecord | None = None) -> bytes:
    """PackedFlowMod.data of a flow-mod. record: its flow compiled, where that is known already."""
    r = record or compile_flow(mod.flow)
    head = PACKED.pack(
        r.cookie, r.table, r.priority, r.flags, r.idle_timeout, r.hard_timeout, r.filter_prog,
        r.n_match, 0, 0, len(r.ops), r.importance, mod.command, mod.or_add, mod.cookie_mask,
        mod.out_port, mod.out_group, mod.new_cookie, 0, 0, 0,
    )  # fmt: skip
    return head + r.match + r.ops


def _number(value: int, bits: int) -> bytes:
    """Big-endian, right-aligned in the field's bytes, then zeroes up to 16."""
    return value.to_bytes((bits + 7) // 8, "big").ljust(16, b"\0")


def compile_match(match: Match) -> bytes:
    """struct oko_match_field, one per field."""
    return b"".join(
        _MATCH_FIELD.pack(f.id, 0, _number(value, f.bits), _number(mask, f.bits))
        for f, value, mask in match
    )


def parse_match(data: bytes) -> Match:
    """The inverse of compile_match()."""
    fields = {}
    for number, _, value, mask in _MATCH_FIELD.iter_unpack(data):
        f = FIELDS[number]
        fields[f] = (
            int.from_bytes(value[: f.size], "big"),
            int.from_bytes(mask[: f.size], "big"),
        )
    return Match.of(fields)


def _op(code: int, arg: int = 0, payload: bytes = b"") -> bytes:
    payload += bytes(-len(payload) % 8)
    return _HEAD.pack(code, _HEAD.size + len(payload), arg) + payload


def compile_instructions(instructions: Instructions) -> bytes:
    """The items of a flow, in the order of execution; empty for drop."""
    items = []
    if instructions.meter:
        items.append(_op(OP_METER, instructions.meter))
    if instructions.apply:
        items.append(_op(OP_APPLY, 0, compile_actions(instructions.apply)))
    if instructions.clear:
        items.append(_op(OP_CLEAR))
    if instructions.write:
        items.append(_op(OP_WRITE, 0, compile_actions(instructions.write)))
    if instructions.metadata is not None:
        items.append(_op(OP_METADATA, 0, struct.pack("=QQ", *instructions.metadata)))
    if instructions.goto is not None:
        items.append(_op(OP_GOTO, instructions.goto))
    return b"".join(items)


def compile_actions(actions: Iterable[Action]) -> bytes:
    """The items of an action list."""
    return b"".join(_COMPILERS[type(action)](action) for action in actions)


def split(sub: Subfield) -> list[tuple[int, int, int]]:
    """The datapath's own bits that a sub-field stands for: [(field id, first bit, bits)], least
    significant first."""
    if not sub.field.parts:
        return [(sub.field.id, sub.ofs, sub.n_bits)]
    pieces = []
    for name, start, bits in sub.field.parts:
        low, high = max(sub.ofs, start), min(sub.ofs + sub.n_bits, start + bits)
        if low < high:
            pieces.append((field(name).id, low - start, high - low))
    return pieces


def _whole(sub: Subfield) -> tuple[int, int, int]:
    """As split(), for places that take one piece only; the grammar allows no others."""
    pieces = split(sub)
    if len(pieces) != 1 or pieces[0][2] != sub.n_bits:
        raise ValueError(f"{sub.field.name}[{sub.ofs}+{sub.n_bits}] is not one field's bits")
    return pieces[0]


def _set_field(action: act.SetField) -> bytes:
    if action.field is VLAN_TCI:
        return _op(OP_SET_VLAN_TCI, action.value << 16 | action.mask)
    bits = action.field.bits
    payload = _number(action.value, bits) + _number(action.mask, bits)
    return _op(OP_SET_FIELD, action.field.id, payload)


def _set_transport(action: act.SetTransport) -> bytes:
    side = "dst" if action.destination else "src"
    return b"".join(
        _set_field(act.SetField(field(f"{transport}_{side}"), action.port, 0xFFFF))
        for transport in ("tcp", "udp", "sctp")
    )


def _pair(source: Subfield, target: Subfield) -> list[tuple[int, int, int, int, int]]:
    """Cuts both sides into (n_bits, source field, bit, target field, bit)."""
    left, right = split(source), split(target)
    result = []
    while left and right:
        (src, src_ofs, src_bits), (dst, dst_ofs, dst_bits) = left[0], right[0]
        bits = min(src_bits, dst_bits)
        result.append((bits, src, src_ofs, dst, dst_ofs))
        left[0] = (src, src_ofs + bits, src_bits - bits)
        right[0] = (dst, dst_ofs + bits, dst_bits - bits)
        if not left[0][2]:
            left.pop(0)
        if not right[0][2]:
            right.pop(0)
    return result


def _move(action: act.Move) -> bytes:
    return b"".join(
        _op(OP_MOVE, bits, struct.pack("=HHHH", *places))
        for bits, *places in _pair(action.source, action.target)
    )


def _stack(code: int, sub: Subfield) -> bytes:
    number, ofs, bits = _whole(sub)
    return _op(code, bits, struct.pack("=HHI", number, ofs, 0))


def _output_reg(action: act.OutputReg) -> bytes:
    number, ofs, bits = _whole(action.source)
    return _op(OP_OUTPUT_REG, bits, struct.pack("=HHHH", number, ofs, action.max_len, 0))


def _learn(action: act.Learn) -> bytes:
    specs: list[bytes] = []
    for spec in action.specs:
        if isinstance(spec, act.LearnOutput):
            number, ofs, bits = _whole(spec.source)
            specs.append(_LEARN_SPEC.pack(0, LEARN_OUTPUT, bits, number, ofs, 0, 0, bytes(16)))
            continue
        kind = LEARN_MATCH if isinstance(spec, act.LearnMatch) else LEARN_LOAD
        if isinstance(spec.source, Subfield):
            for bits, src, src_ofs, dst, dst_ofs in _pair(spec.source, spec.target):
                specs.append(_LEARN_SPEC.pack(0, kind, bits, src, src_ofs, dst, dst_ofs, bytes(16)))
            continue
        value = spec.source
        for dst, dst_ofs, bits in split(spec.target):
            part = value & ((1 << bits) - 1)
            value >>= bits
            specs.append(
                _LEARN_SPEC.pack(1, kind, bits, 0, 0, dst, dst_ofs, part.to_bytes(16, "big"))
            )
    flags = (1 if action.send_flow_rem else 0) | (2 if action.delete_learned else 0)
    result = NO_RESULT
    if action.result is not None:
        number, ofs, _ = _whole(action.result)
        result = number | ofs << 16
    head = _LEARN.pack(
        action.idle_timeout, action.hard_timeout, action.priority, flags, action.cookie,
        action.fin_idle_timeout, action.fin_hard_timeout, len(specs), action.limit, result,
    )  # fmt: skip
    return _op(OP_LEARN, action.table, head + b"".join(specs))


def _simple(code: int) -> Callable[[Action], bytes]:
    return lambda action: _op(code)


_COMPILERS: dict[type, Callable[..., bytes]] = {
    act.Output: lambda a: _op(OP_OUTPUT, a.port, struct.pack("=II", a.max_len, 0)),
    act.OutputTrunc: lambda a: _op(OP_OUTPUT, a.port, struct.pack("=II", a.max_len, 0)),
    act.OutputReg: _output_reg,
    act.Controller: lambda a: _op(OP_CONTROLLER, a.max_len, struct.pack("=HHI", a.id, a.reason, 0)),
    act.ToGroup: lambda a: _op(OP_GROUP, a.group),
    act.SetQueue: lambda a: _op(OP_SET_QUEUE, a.queue),
    act.PopQueue: lambda a: _op(OP_SET_QUEUE, 0),
    act.SetField: _set_field,
    act.SetTransport: _set_transport,
    act.Move: _move,
    act.PushBits: lambda a: _stack(OP_PUSH, a.source),
    act.PopBits: lambda a: _stack(OP_POP, a.target),
    act.PushVlan: lambda a: _op(OP_PUSH_VLAN, a.tpid),
    act.PopVlan: _simple(OP_POP_VLAN),
    act.PushMpls: lambda a: _op(OP_PUSH_MPLS, a.eth_type),
    act.PopMpls: lambda a: _op(OP_POP_MPLS, a.eth_type),
    act.PushPbb: lambda a: _op(OP_PUSH_PBB, a.eth_type),
    act.PopPbb: _simple(OP_POP_PBB),
    act.SetMplsTtl: lambda a: _op(OP_SET_MPLS_TTL, a.ttl),
    act.DecMplsTtl: _simple(OP_DEC_MPLS_TTL),
    act.SetTtl: lambda a: _op(OP_SET_TTL, a.ttl),
    act.DecTtl: lambda a: (
        _op(
            OP_DEC_TTL_IDS,
            len(a.controllers),
            struct.pack(f"={len(a.controllers)}H", *a.controllers),
        )
        if a.controllers
        else _op(OP_DEC_TTL)
    ),
    act.CopyTtlOut: _simple(OP_COPY_TTL_OUT),
    act.CopyTtlIn: _simple(OP_COPY_TTL_IN),
    act.Resubmit: lambda a: _op(OP_RESUBMIT, a.table, struct.pack("=II", a.in_port, 0)),
    act.Learn: _learn,
    act.Clone: lambda a: _op(OP_CLONE, 0, compile_actions(a.actions)),
    act.Note: lambda a: _op(OP_NOTE, 0, a.data),
    act.Conjunction: lambda a: _op(
        OP_CONJUNCTION, a.id, struct.pack("=HHI", a.dimension - 1, a.dimensions, 0)
    ),
    act.Exit: _simple(OP_EXIT),
    act.FinTimeout: lambda a: _op(
        OP_FIN_TIMEOUT, 0, struct.pack("=HHI", a.idle_timeout, a.hard_timeout, 0)
    ),
    act.SendMaps: lambda a: _op(
        OP_SEND_MAPS,
        a.interval,
        struct.pack(f"=HH{len(a.maps)}H", a.program, len(a.maps), *a.maps),
    ),
}


# ---------------------------------------------------------------- groups and meters


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """struct oko_bucket_spec."""

    weight: int
    watch_port: int
    watch_group: int
    ops: bytes


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """struct oko_group_spec."""

    id: int
    type: int
    buckets: tuple[BucketRecord, ...]


def compile_group(group: Group) -> GroupRecord:
    """The record of a group."""
    return GroupRecord(
        group.id,
        group.type,
        tuple(
            BucketRecord(b.weight, b.watch_port, b.watch_group, compile_actions(b.actions))
            for b in group.buckets
        ),
    )


BAND_DROP, BAND_DSCP_REMARK = 1, 2
METER_KBPS, METER_PKTPS, METER_BURST, METER_STATS = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class MeterRecord:
    """struct oko_meter_spec; bands are (type, rate, burst, prec_level)."""

    id: int
    flags: int
    bands: tuple[tuple[int, int, int, int], ...]


def compile_meter(meter: Meter) -> MeterRecord:
    """The record of a meter."""
    flags = METER_PKTPS if meter.pktps else METER_KBPS
    flags |= (METER_BURST if meter.burst else 0) | (METER_STATS if meter.stats else 0)
    return MeterRecord(
        meter.id,
        flags,
        tuple(
            (BAND_DROP, band.rate, band.burst, 0)
            if isinstance(band, DropBand)
            else (BAND_DSCP_REMARK, band.rate, band.burst, band.prec_level)
            for band in meter.bands
        ),
    )
