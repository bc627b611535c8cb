"""Instructions on the wire, and how OpenFlow 1.0 says the same with actions.

1.3 to 1.5: a list of up to six instructions, each at most once, executed in a fixed order whatever
the order of the list (1.3.5, 5.9). In 1.5 the meter is an action instead, the first of the list.
1.0 has actions only; goto_table is shown as resubmit and write_metadata as Nicira's action, as Open
vSwitch does.
"""

from __future__ import annotations

import struct

from oko.model import actions as act
from oko.model.actions import Action
from oko.model.fields import Known
from oko.model.flow import METER_MAX, TABLE_MAX, Instructions
from oko.openflow.actions import METER, decode_list, encode_actions
from oko.openflow.common import NICIRA, OF10, OF15, fail
from oko.openflow.context import Context
from oko.openflow.nicira import EXPERIMENTER_ACTION, WRITE_METADATA, nicira

GOTO_TABLE, INST_METADATA, WRITE_ACTIONS, APPLY_ACTIONS, CLEAR_ACTIONS, INST_METER = range(1, 7)
INST_STAT_TRIGGER, INST_EXPERIMENTER = 7, 0xFFFF

_SIZES = {GOTO_TABLE: 8, INST_METADATA: 24, CLEAR_ACTIONS: 8, INST_METER: 8}
_METADATA = struct.Struct("!8xQQ")
_NX_METADATA = struct.Struct("!16xQQ")


def decode_instructions(version: int, data: bytes, known: Known | None) -> Instructions:
    """The instructions of these bytes (1.0: actions). known: what the match says of packets."""
    found = _decode(version, data, Context(version, known))
    other = found.meter or found.clear or found.metadata is not None or found.goto is not None
    if not act.conjunction_is_alone(found.apply, found.write, other=bool(other)):
        fail("NXBAC_BAD_CONJUNCTION", "only conjunctions and notes may stand beside a conjunction")
    return found


def _decode(version: int, data: bytes, context: Context) -> Instructions:
    if version == OF10:
        return _decode_10(data, context)
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            fail("OFPBIC_BAD_LEN", "an instruction has at least 8 bytes")
        kind, size = struct.unpack_from("!HH", data, at)
        if size < 8 or size % 8 or size > len(data) - at:
            fail("OFPBIC_BAD_LEN", f"an instruction cannot have {size} bytes here")
        if kind == INST_EXPERIMENTER:
            fail("OFPBIC_BAD_EXPERIMENTER", "no experimenter's instruction is supported")
        if kind == INST_STAT_TRIGGER and version >= OF15:
            fail("OFPBIC_UNSUP_INST", "stat_trigger is not supported")
        if not GOTO_TABLE <= kind <= INST_METER:
            fail("OFPBIC_UNKNOWN_INST", f"there is no instruction of type {kind}")
        if size != _SIZES.get(kind, size):
            fail("OFPBIC_BAD_LEN", f"an instruction of type {kind} has {_SIZES[kind]} bytes")
        if kind in found:
            fail("OFPBIC_DUP_INST", f"there are two instructions of type {kind}")
        found[kind] = data[at : at + size]
        at += size
    return _decode_found(found, context)


def _decode_found(found: dict[int, bytes], context: Context) -> Instructions:
    meter, apply_bytes = 0, found.get(APPLY_ACTIONS, bytes(8))[8:]
    if INST_METER in found:
        meter = _meter(found[INST_METER])
    elif context.version >= OF15 and apply_bytes[:4] == struct.pack("!HH", METER, 8):
        meter, apply_bytes = _meter(apply_bytes), apply_bytes[8:]
    apply = decode_list(apply_bytes, context)
    write: tuple[Action, ...] = ()
    if WRITE_ACTIONS in found:
        write = decode_list(found[WRITE_ACTIONS][8:], context)
        for action in write:
            if not isinstance(action, act.ACTION_SET_TYPES):
                name = type(action).__name__
                fail("OFPBAC_BAD_TYPE", f"{name} has no place in an action set")
    metadata = None
    if INST_METADATA in found:
        value, mask = _METADATA.unpack(found[INST_METADATA])
        metadata = (value & mask, mask)
    goto = None
    if GOTO_TABLE in found:
        goto = found[GOTO_TABLE][4]
        if goto > TABLE_MAX:
            fail("OFPBIC_BAD_TABLE_ID", f"there is no table {goto}")
    return Instructions(
        meter=meter,
        apply=apply,
        clear=CLEAR_ACTIONS in found,
        write=write,
        metadata=metadata,
        goto=goto,
    )


def _meter(data: bytes) -> int:
    (meter,) = struct.unpack_from("!I", data, 4)
    if not 1 <= meter <= METER_MAX:
        fail("OFPMMFC_INVALID_METER", f"{meter:#x} is not the number of a meter")
    return int(meter)


def _decode_10(data: bytes, context: Context) -> Instructions:
    """An action list, at whose end there may be Nicira's write_metadata."""
    head = struct.pack("!HHIH", EXPERIMENTER_ACTION, 32, NICIRA, WRITE_METADATA)
    metadata = None
    at, kept = 0, b""
    while len(data) - at >= 8:
        (size,) = struct.unpack_from("!H", data, at + 2)
        if size < 8 or size > len(data) - at:
            break  # decode_list() will say what is wrong
        if data[at : at + 10] == head:
            if metadata is not None:
                fail("OFPBIC_DUP_INST", "write_metadata is there twice")
            value, mask = _NX_METADATA.unpack_from(data, at)
            metadata = (value & mask, mask)
        else:
            kept += data[at : at + size]
        at += size
    return Instructions(apply=decode_list(kept + data[at:], context), metadata=metadata)


def encode_instructions(
    version: int,
    instructions: Instructions,
    *,
    ip_proto: int | None = None,
    lossy: bool = False,
    send_maps: bool = True,
) -> bytes:
    """The instructions as bytes; parameters as of encode_actions()."""

    def actions(some: tuple[Action, ...]) -> bytes:
        return encode_actions(version, some, ip_proto=ip_proto, lossy=lossy, send_maps=send_maps)

    if version == OF10:
        if (instructions.meter or instructions.clear or instructions.write) and not lossy:
            fail("OFPBIC_UNSUP_INST", "OpenFlow 1.0 has no meters and no action sets")
        result = actions(instructions.apply)
        if instructions.metadata is not None:
            result += nicira(WRITE_METADATA, struct.pack("!6xQQ", *instructions.metadata))
        if instructions.goto is not None:
            result += actions((act.Resubmit(table=instructions.goto),))
        return result
    parts: list[bytes] = []
    applied = actions(instructions.apply)
    if instructions.meter:
        if version >= OF15:
            applied = struct.pack("!HHI", METER, 8, instructions.meter) + applied
        else:
            parts.append(struct.pack("!HHI", INST_METER, 8, instructions.meter))
    if applied:
        parts.append(struct.pack("!HHI", APPLY_ACTIONS, 8 + len(applied), 0) + applied)
    if instructions.clear:
        parts.append(struct.pack("!HHI", CLEAR_ACTIONS, 8, 0))
    if instructions.write:
        written = actions(instructions.write)
        parts.append(struct.pack("!HHI", WRITE_ACTIONS, 8 + len(written), 0) + written)
    if instructions.metadata is not None:
        parts.append(struct.pack("!HHIQQ", INST_METADATA, 24, 0, *instructions.metadata))
    if instructions.goto is not None:
        parts.append(struct.pack("!HHB3x", GOTO_TABLE, 8, instructions.goto))
    return b"".join(parts)
