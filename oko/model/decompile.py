"""Strings of operations back to model values: the inverse of `compile`, for learned flows.

The control plane keeps the instructions of what it installs itself. A flow that a packet learned
exists only in the datapath; it consists of what learn.c can write: one APPLY with fin_timeout,
set-fields and outputs. Anything else is refused.
"""

from __future__ import annotations

import struct

from oko.model import compile as records
from oko.model.actions import Action, FinTimeout, Output, SetField
from oko.model.fields import FIELDS
from oko.model.flow import Instructions

_HEAD = struct.Struct("=HHI")


def decompile_learned(ops: bytes) -> Instructions:
    """The instructions of a flow that a packet installed. ValueError: not one of those."""
    if not ops:
        return Instructions()
    code, length, _ = _HEAD.unpack_from(ops)
    if code != records.OP_APPLY or length != len(ops):
        raise ValueError("not a learned flow's instructions")
    actions: list[Action] = []
    at = _HEAD.size
    while at < len(ops):
        code, length, arg = _HEAD.unpack_from(ops, at)
        payload = ops[at + _HEAD.size : at + length]
        if code == records.OP_SET_FIELD:
            field = FIELDS[arg]
            value, mask = payload[: field.size], payload[16 : 16 + field.size]
            actions.append(
                SetField(field, int.from_bytes(value, "big"), int.from_bytes(mask, "big"))
            )
        elif code == records.OP_OUTPUT:
            actions.append(Output(arg))
        elif code == records.OP_FIN_TIMEOUT:
            idle, hard = struct.unpack_from("=HH", payload)
            actions.append(FinTimeout(idle, hard))
        else:
            raise ValueError(f"operation {code} in a learned flow")
        at += length
    return Instructions(apply=tuple(actions))
