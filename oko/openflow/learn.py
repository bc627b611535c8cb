"""The learn action (NXAST_LEARN, NXAST_LEARN2) on the wire.

A fixed part of 32 bytes (NXAST_LEARN2: limit and result field behind it), then specifications:
a 16-bit header (bits 0-10 number of bits, 11-12 what to do, 13 constant source), the source (field
header and first bit, or the constant in 16-bit words) and the target (field header and first bit;
none for output). A header of 0 ends them; the rest is padding.
"""

from __future__ import annotations

import struct

from oko.model import actions as act
from oko.model.actions import LearnSpec, Subfield
from oko.model.fields import Known, unmet
from oko.model.flow import TABLE_MAX, Match
from oko.openflow.common import fail
from oko.openflow.context import Context, check_writable, field_header, named_header, subfield

_FIXED = struct.Struct("!10xHHHQHBBHH")
_EXTENDED = struct.Struct("!IH2x")  # limit, first bit of result; its field follows
_HEAD_SIZE = 10
SEND_FLOW_REM, DELETE_LEARNED, WRITE_RESULT = 1, 2, 4
MATCH, LOAD, OUTPUT = 0, 1, 2
IMMEDIATE = 1 << 13


def decode_learn(data: bytes, context: Context, *, extended: bool) -> act.Learn:
    """The action of all its bytes, header included."""
    end = _FIXED.size + (_EXTENDED.size if extended else 0)
    if len(data) < end:
        fail("OFPBAC_BAD_LEN", f"learn has at least {end} bytes")
    idle, hard, priority, cookie, flags, table, pad, fin_idle, fin_hard = _FIXED.unpack_from(data)
    if pad:
        fail("OFPBAC_BAD_ARGUMENT", "padding of learn is not zero")
    known_flags = SEND_FLOW_REM | DELETE_LEARNED | (WRITE_RESULT if extended else 0)
    if flags & ~known_flags:
        fail("OFPBAC_BAD_ARGUMENT", f"learn has unknown flags {flags:#x}")
    if table > TABLE_MAX:
        fail("OFPBAC_BAD_ARGUMENT", f"learn cannot add to table {table}")
    limit, result = 0, None
    if extended:
        limit, ofs = _EXTENDED.unpack_from(data, _FIXED.size)
        if flags & WRITE_RESULT:
            result, end = subfield(data, end, ofs, 1)
            context.need_target(result)
    return act.Learn(
        specs=_decode_specs(data, end, context),
        table=table,
        priority=priority,
        idle_timeout=idle,
        hard_timeout=hard,
        fin_idle_timeout=fin_idle,
        fin_hard_timeout=fin_hard,
        cookie=cookie,
        send_flow_rem=bool(flags & SEND_FLOW_REM),
        delete_learned=bool(flags & DELETE_LEARNED),
        limit=limit,
        result=result,
    )


def _take_subfield(data: bytes, at: int, n_bits: int) -> tuple[Subfield, int]:
    """(sub-field, offset behind it) of a field header and first bit."""
    _, end = field_header(data, at)
    if len(data) < end + 2:
        fail("OFPBAC_BAD_LEN", "learn ends inside of a specification")
    (ofs,) = struct.unpack_from("!H", data, end)
    sub, _ = subfield(data, at, ofs, n_bits)
    return sub, end + 2


def _decode_specs(data: bytes, at: int, context: Context) -> tuple[LearnSpec, ...]:
    specs: list[LearnSpec] = []
    learned: Known = {}
    while at + 2 <= len(data):
        (header,) = struct.unpack_from("!H", data, at)
        if not header:
            break
        at += 2
        n_bits, kind = header & 0x7FF, header >> 11 & 3
        if header >> 14 or kind == 3 or (kind == OUTPUT and header & IMMEDIATE) or not n_bits:
            fail("OFPBAC_BAD_ARGUMENT", f"learn has a specification of unknown form {header:#06x}")
        source: Subfield | int
        if header & IMMEDIATE:
            size = (n_bits + 15) // 16 * 2
            if len(data) < at + size:
                fail("OFPBAC_BAD_LEN", "learn ends inside of a constant")
            source = int.from_bytes(data[at : at + size], "big")
            if source >> n_bits:
                fail("OFPBAC_BAD_ARGUMENT", f"learn's {source:#x} has more than {n_bits} bits")
            at += size
        else:
            source, at = _take_subfield(data, at, n_bits)
            context.need(source.field)
        if kind == OUTPUT:
            assert isinstance(source, Subfield)
            specs.append(act.LearnOutput(source))
            continue
        target, at = _take_subfield(data, at, n_bits)
        if unmet(target.field, learned) is not None:
            fail("OFPBAC_MATCH_INCONSISTENT", f"learn must match {target.field.needs} first")
        if kind == LOAD:
            check_writable(target.field)
            specs.append(act.LearnLoad(target, source))
            continue
        if isinstance(source, int) and target.ofs == 0 and target.n_bits == target.field.bits:
            whole = Match.of({target.field: (source, target.field.all_ones)})
            learned.update({f: (value, mask) for f, value, mask in whole})
        specs.append(act.LearnMatch(target, source))
    if any(data[at:]):
        fail("OFPBAC_BAD_ARGUMENT", "padding of learn is not zero")
    return tuple(specs)


def encode_learn(action: act.Learn) -> bytes:
    """What follows the subtype; the form with a limit and a result if the action has either."""
    flags = (SEND_FLOW_REM if action.send_flow_rem else 0) | (
        DELETE_LEARNED if action.delete_learned else 0
    )
    extended = b""
    if action.limit or action.result:
        ofs = 0
        if action.result is not None:
            flags |= WRITE_RESULT
            ofs = action.result.ofs
        extended = _EXTENDED.pack(action.limit, ofs)
        if action.result is not None:
            extended += named_header(action.result.field)
    fixed = _FIXED.pack(
        action.idle_timeout, action.hard_timeout, action.priority, action.cookie, flags,
        action.table, 0, action.fin_idle_timeout, action.fin_hard_timeout,
    )[_HEAD_SIZE:]  # fmt: skip
    return fixed + extended + b"".join(map(_encode_spec, action.specs))


def _place(sub: Subfield) -> bytes:
    return named_header(sub.field) + struct.pack("!H", sub.ofs)


def _encode_spec(spec: LearnSpec) -> bytes:
    if isinstance(spec, act.LearnOutput):
        return struct.pack("!H", OUTPUT << 11 | spec.source.n_bits) + _place(spec.source)
    header = (MATCH if isinstance(spec, act.LearnMatch) else LOAD) << 11 | spec.target.n_bits
    if isinstance(spec.source, Subfield):
        return struct.pack("!H", header) + _place(spec.source) + _place(spec.target)
    size = (spec.target.n_bits + 15) // 16 * 2
    constant = spec.source.to_bytes(size, "big")
    return struct.pack("!H", header | IMMEDIATE) + constant + _place(spec.target)
