"""Flow-mods on the wire: OpenFlow 1.0, NXT_FLOW_MOD, 1.3, 1.4 and 1.5.

A decoded flow-mod has the change as `FlowMod`, and the flow's record for the datapath, so that
nothing is compiled twice. Instructions repeat from flow to flow: their bytes, together with what
the match says of packets, are the key under which instructions and their compiled form are kept.

What the versions mean by the same words (OpenFlow 1.0.0, 4.6; 1.3.5, 6.4; Open vSwitch):
- a modify that finds nothing adds a flow in 1.0 and NXM, and not later;
- a modify changes the cookie in 1.0 and NXM (unless it is all ones there), and not later;
- 1.0 has no table in a flow-mod, unless the connection asked for NXT_FLOW_MOD_TABLE_ID;
- in 1.0 an add resets the counters of the flow that it replaces.

Statistics and flow-removed are in flow_stats.py. Thread-safety: as of oxm.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from oko.model.compile import (
    MATCH_FIELD_SIZE,
    PACKED,
    FlowRecord,
    PackedFlowMod,
    compile_instructions,
    compile_match,
    pack_change,
)
from oko.model.fields import PORT_ANY, Field
from oko.model.flow import (
    ADD,
    CHECK_OVERLAP,
    DELETE,
    DELETE_STRICT,
    RESET_COUNTS,
    SEND_FLOW_REM,
    TABLE_ALL,
    TABLE_MAX,
    Flow,
    FlowMod,
    Instructions,
    Match,
)
from oko.openflow.actions import protocol_of
from oko.openflow.common import (
    EXPERIMENTER,
    FLOW_MOD,
    NICIRA,
    OF10,
    OF14,
    experimenter_message,
    fail,
    message,
    padded,
    port_from_10,
    port_to_10,
)
from oko.openflow.instructions import decode_instructions, encode_instructions
from oko.openflow.match10 import SIZE_10, decode_match_10, encode_match_10
from oko.openflow.oxm import Decoded, decode_match, encode_match, form_of, known_of

NO_BUFFER = 0xFFFFFFFF
_NO_INSTRUCTIONS = Instructions()
NXT_FLOW_MOD = 13
_COOKIE_KEEP = (1 << 64) - 1
_EMERGENCY = 4  # OFPFF_EMERG of 1.0

# What follows the OpenFlow header, up to the match.
_FIXED_13 = struct.Struct("!QQBBHHHIIIHH")
_FIXED_10 = struct.Struct("!QHHHHIHH")  # after the match of 40 bytes
_FIXED_NX = struct.Struct("!QHHHHIHHH6x")  # after experimenter and subtype
_MATCH_HEAD = struct.Struct("!HH")
_OXM_MATCH = 1  # OFPMT_OXM


@dataclass(frozen=True, slots=True)
class FlowModMessage:
    """A flow-mod as decoded. record: mod.flow compiled. buffer_id: NO_BUFFER = none.
    names_program: the message had the filter_prog field, so the peer knows it."""

    mod: FlowMod
    record: FlowRecord
    buffer_id: int = NO_BUFFER
    names_program: bool = False


# ---------------------------------------------------------------- matches and instructions

_MEMORY_LIMIT = 4096
_Known = tuple[tuple[Field, tuple[int, int]], ...]
_instructions: dict[tuple[int, bytes, _Known], tuple[Instructions, bytes]] = {}


def compiled_instructions(version: int, data: bytes, known: _Known) -> tuple[Instructions, bytes]:
    """The instructions of these bytes, and their operations for the datapath."""
    key = (version, data, known)
    found = _instructions.get(key)
    if found is None:
        instructions = decode_instructions(version, data, dict(known))
        found = (instructions, compile_instructions(instructions))
        if len(_instructions) >= _MEMORY_LIMIT:
            _instructions.clear()
        _instructions[key] = found
    return found


def take_match(data: bytes, at: int) -> tuple[Decoded, int]:
    """(match, offset behind its padding) of the struct ofp_match of 1.3 and later."""
    if len(data) - at < 8:
        fail("OFPBMC_BAD_LEN", "there is no room for a match")
    kind, size = _MATCH_HEAD.unpack_from(data, at)
    if kind != _OXM_MATCH:
        fail("OFPBMC_BAD_TYPE", f"there is no match of type {kind}")
    end = at + size + (-size % 8)
    if size < 4 or end > len(data):
        fail("OFPBMC_BAD_LEN", f"a match cannot have {size} bytes here")
    return decode_match(data[at + 4 : at + size]), end


def put_match(version: int, match: Match, filter_prog: int = 0) -> bytes:
    """struct ofp_match of 1.3 and later, padded."""
    body = encode_match(version, match, filter_prog)
    return padded(_MATCH_HEAD.pack(_OXM_MATCH, 4 + len(body)) + body)


def take_match_10(data: bytes) -> Decoded:
    """The fixed match at the start of data."""
    if len(data) < SIZE_10:
        fail("OFPBRC_BAD_LEN", "there is no room for a match")
    match = decode_match_10(data[:SIZE_10])
    return Decoded(match, compile_match(match), 0, known_of(match))


def take_nxm(data: bytes, at: int, size: int, *, cookie: bool = True) -> tuple[Decoded, int]:
    """(match, offset behind its padding) of NXM entries."""
    end = at + size + (-size % 8)
    if end > len(data):
        fail("OFPBMC_BAD_LEN", f"a match cannot have {size} bytes here")
    return decode_match(data[at : at + size], cookie=cookie), end


# ---------------------------------------------------------------- flow-mod


def decode_flow_mod(version: int, msg: bytes, *, table_id_ext: bool = False) -> FlowModMessage:
    """OFPT_FLOW_MOD, or NXT_FLOW_MOD. table_id_ext: NXT_FLOW_MOD_TABLE_ID is on."""
    if version != OF10:
        return _decode_13(version, msg)
    if len(msg) > 1 and msg[1] == EXPERIMENTER:
        return _decode_nx(msg, table_id_ext)
    return _decode_10(msg, table_id_ext)


_WHOLE_13 = struct.Struct("!QQBBHHHIIIHHHH")  # with the head of the match
_TAILS = 256


def pack_flow_mod(version: int, msg: bytes) -> PackedFlowMod | None:
    """A flow-mod of 1.3 or later straight to what the datapath takes, when its match is of a form
    that is known and nothing about it is special. None: decode_flow_mod() has to look."""
    n = len(msg)
    if n < 56 or n & 7:
        return None
    (cookie, cookie_mask, table, command, idle, hard, priority, buffer_id, out_port, out_group,
     flags, importance, kind, size) = _WHOLE_13.unpack_from(msg, 8)  # fmt: skip
    end = 48 + size + (-size % 8)
    special = command > DELETE_STRICT or flags & ~31 or table > TABLE_MAX or kind != _OXM_MATCH
    if special or end > n or buffer_id != NO_BUFFER:
        return None
    data = msg[52 : 48 + size]
    form = form_of(data)
    if form is None:
        return None
    key = (version, msg[end:])
    found = form.instructions.get(key)
    if found is None:
        found = compiled_instructions(version, key[1], form.known)
        if len(form.instructions) >= _TAILS:
            form.instructions.clear()
        form.instructions[key] = found
    instructions, ops = found
    if instructions.goto is not None and instructions.goto <= table:
        return None
    if command >= DELETE:
        instructions, ops = _NO_INSTRUCTIONS, b""
    else:
        out_port = out_group = PORT_ANY
        if command == ADD:
            cookie_mask = 0
    record = form.record(data)
    head = PACKED.pack(
        cookie, table, priority, flags, idle, hard, form.filter_prog,
        len(record) // MATCH_FIELD_SIZE, 0, 0, len(ops), importance if version >= OF14 else 0,
        command, 0, cookie_mask, out_port, out_group, 0, 0, 0, 0,
    )  # fmt: skip
    return PackedFlowMod(head + record + ops, ops, instructions, form.filter_prog)


def packed(decoded: FlowModMessage) -> PackedFlowMod:
    """What was decoded, as pack_flow_mod() gives it."""
    mod, r = decoded.mod, decoded.record
    return PackedFlowMod(pack_change(mod, r), r.ops, mod.flow.instructions, r.filter_prog)


def _decode_13(version: int, msg: bytes) -> FlowModMessage:
    if len(msg) < 56:
        fail("OFPBRC_BAD_LEN", "a flow-mod has at least 56 bytes")
    (cookie, cookie_mask, table, command, idle, hard, priority, buffer_id, out_port, out_group,
     flags, importance) = _FIXED_13.unpack_from(msg, 8)  # fmt: skip
    found, end = take_match(msg, 48)
    if len(msg) & 7:
        fail("OFPBRC_BAD_LEN", "a flow-mod's length is a multiple of 8")
    if command > DELETE_STRICT:
        fail("OFPFMFC_BAD_COMMAND", f"there is no flow-mod command {command}")
    if flags & ~31:
        fail("OFPFMFC_BAD_FLAGS", f"unknown flags {flags:#x} in a flow-mod")
    if command == ADD:
        cookie_mask = 0
    if table > TABLE_MAX and not (table == TABLE_ALL and command != ADD):
        fail("OFPFMFC_BAD_TABLE_ID", f"there is no table {table}")
    if version < OF14:
        importance = 0
    deleting = command >= DELETE
    instructions, ops = compiled_instructions(version, msg[end:], found.known)
    if instructions.goto is not None and instructions.goto <= table and table != TABLE_ALL:
        fail("OFPBIC_BAD_TABLE_ID", f"goto_table leads from table {table} to {instructions.goto}")
    if deleting:
        instructions, ops = Instructions(), b""
    match, program = found.match, found.filter_prog
    return FlowModMessage(
        FlowMod(
            Flow(
                table, priority, match, program, instructions, cookie, idle, hard, importance,
                flags,
            ),
            command,
            cookie_mask,
            False,
            out_port if deleting else PORT_ANY,
            out_group if deleting else PORT_ANY,
        ),
        FlowRecord(
            cookie, table, priority, flags, idle, hard, program, len(match.fields), found.record,
            ops, importance,
        ),
        buffer_id,
        program != 0,
    )  # fmt: skip


def _decode_10(msg: bytes, table_id_ext: bool) -> FlowModMessage:
    if len(msg) < 72:
        fail("OFPBRC_BAD_LEN", "a flow-mod has at least 72 bytes")
    found = take_match_10(msg[8:48])
    cookie, command, idle, hard, priority, buffer_id, out_port, flags = _FIXED_10.unpack_from(
        msg, 48
    )
    # In 1.0 a flow of full match had no priority; like Open vSwitch, take it as sent.
    return _finish_10(
        found, msg[72:], cookie, command, idle, hard, priority, buffer_id, out_port, flags,
        table_id_ext,
    )  # fmt: skip


def _decode_nx(msg: bytes, table_id_ext: bool) -> FlowModMessage:
    if len(msg) < 48:
        fail("OFPBRC_BAD_LEN", "NXT_FLOW_MOD has at least 48 bytes")
    cookie, command, idle, hard, priority, buffer_id, out_port, flags, size = _FIXED_NX.unpack_from(
        msg, 16
    )
    found, end = take_nxm(msg, 48, size)
    return _finish_10(
        found, msg[end:], cookie, command, idle, hard, priority, buffer_id, out_port, flags,
        table_id_ext,
    )  # fmt: skip


def _finish_10(
    found: Decoded,
    actions: bytes,
    cookie: int,
    command: int,
    idle: int,
    hard: int,
    priority: int,
    buffer_id: int,
    out_port: int,
    flags: int,
    table_id_ext: bool,
) -> FlowModMessage:
    table = TABLE_ALL
    if table_id_ext:
        table, command = command >> 8, command & 0xFF
    if command > DELETE_STRICT:
        fail("OFPFMFC_BAD_COMMAND", f"there is no flow-mod command {command}")
    if table == TABLE_ALL and command == ADD:
        table = 0
    if table > TABLE_MAX and table != TABLE_ALL:
        fail("OFPFMFC_BAD_TABLE_ID", f"there is no table {table}")
    if flags & _EMERGENCY:
        fail("OFPFMFC_TABLE_FULL", "there is no emergency flow table")
    if flags & ~(SEND_FLOW_REM | CHECK_OVERLAP):
        fail("OFPFMFC_BAD_FLAGS", f"unknown flags {flags:#x} in a flow-mod")
    instructions, ops = compiled_instructions(OF10, actions, found.known)
    deleting = command >= DELETE
    new_cookie = False
    cookie_mask = 0
    if command == ADD:
        flags |= RESET_COUNTS
    elif deleting:
        instructions, ops = Instructions(), b""
        cookie, cookie_mask = found.cookie, found.cookie_mask
    else:
        new_cookie = cookie != _COOKIE_KEEP
        cookie_mask = found.cookie_mask
        if not new_cookie:
            cookie = found.cookie
        elif cookie_mask and (cookie ^ found.cookie) & cookie_mask:
            fail("OFPFMFC_EPERM", "changing the cookie of flows chosen by cookie is not supported")
    flow = Flow(
        table, priority, found.match, found.filter_prog, instructions, cookie, idle, hard, 0, flags
    )
    record = FlowRecord(
        cookie, table, priority, flags, idle, hard, found.filter_prog, len(found.match),
        found.record, ops,
    )  # fmt: skip
    return FlowModMessage(
        FlowMod(
            flow,
            command,
            cookie_mask,
            new_cookie,
            port_from_10(out_port) if deleting else PORT_ANY,
            PORT_ANY,
            or_add=new_cookie and not cookie_mask,
        ),
        record,
        buffer_id,
        found.filter_prog != 0,
    )


def encode_flow_mod(
    version: int,
    mod: FlowMod,
    xid: int = 0,
    *,
    buffer_id: int = NO_BUFFER,
    table_id_ext: bool = False,
    nxm: bool | None = None,
) -> bytes:
    """A flow-mod. nxm: in 1.0, NXT_FLOW_MOD (None: where the fixed match cannot say it)."""
    flow = mod.flow
    body = encode_instructions(version, flow.instructions, ip_proto=protocol_of(flow.match))
    deleting = mod.command >= DELETE
    if version != OF10:
        fixed = _FIXED_13.pack(
            flow.cookie, mod.cookie_mask, flow.table, mod.command, flow.idle_timeout,
            flow.hard_timeout, flow.priority, buffer_id, mod.out_port, mod.out_group, flow.flags,
            flow.importance if version >= OF14 else 0,
        )  # fmt: skip
        return message(
            version, FLOW_MOD, xid, fixed + put_match(version, flow.match, flow.filter_prog) + body
        )
    command = mod.command
    if table_id_ext:
        command |= flow.table << 8
    elif flow.table not in (TABLE_ALL, 0):
        fail("OFPFMFC_BAD_TABLE_ID", "a table needs the flow_mod_table_id extension in 1.0")
    cookie = flow.cookie
    if mod.cookie_mask and not deleting and not mod.new_cookie:
        cookie = _COOKIE_KEEP
    chosen = (flow.cookie, mod.cookie_mask) if mod.cookie_mask and mod.command != ADD else None
    if deleting:
        cookie = 0
    out_port = port_to_10(mod.out_port)
    flags = flow.flags & (SEND_FLOW_REM | CHECK_OVERLAP)
    fixed_match = None if flow.filter_prog or chosen or nxm else encode_match_10(flow.match)
    if fixed_match is not None:
        fixed = _FIXED_10.pack(
            cookie, command, flow.idle_timeout, flow.hard_timeout, flow.priority, buffer_id,
            out_port, flags,
        )  # fmt: skip
        return message(version, FLOW_MOD, xid, fixed_match + fixed + body)
    if nxm is False:
        fail("OFPBMC_BAD_FIELD", "OpenFlow 1.0's fixed match cannot say this")
    match = encode_match(version, flow.match, flow.filter_prog)
    if chosen:
        match += encode_cookie(*chosen)
    fixed = _FIXED_NX.pack(
        cookie, command, flow.idle_timeout, flow.hard_timeout, flow.priority, buffer_id, out_port,
        flags, len(match),
    )  # fmt: skip
    return experimenter_message(version, xid, NICIRA, NXT_FLOW_MOD, fixed + padded(match) + body)


def encode_cookie(cookie: int, mask: int) -> bytes:
    """NXM_NX_COOKIE, with a mask."""
    return struct.pack("!HBBQQ", 1, 30 << 1 | 1, 16, cookie & mask, mask)
