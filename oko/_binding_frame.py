"""Frames and flow-key fields of the C core: bytes in, plain numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from oko._oko import ffi, lib

NO_LAYER = 0xFFFF
"""Offset of a header that is not there."""


class Field(NamedTuple):
    """A field of the flow key."""

    name: str
    bits: int
    size: int  # bytes


def _fields() -> tuple[Field, ...]:
    info = ffi.new("struct oko_field_info *")
    fields = []
    for number in range(lib.OKO_N_FIELDS):
        lib.oko_field_info(number, info)
        fields.append(Field(ffi.string(info.name).decode(), info.bits, info.size))
    return tuple(fields)


FIELDS: tuple[Field, ...] = _fields()
"""Indexed by `enum oko_field_id`."""


@dataclass(frozen=True)
class ParsedFrame:
    """What the parser found: each field's value by name, and header offsets in bytes."""

    fields: dict[str, int]
    n_vlans: int
    l2_5: int
    l3: int
    l4: int


def parse_frame(frame: bytes, in_port: int = 0) -> ParsedFrame:
    """Parses an Ethernet frame of at most 65,535 bytes as a port of the switch would.

    Fields that the frame lacks are 0; `csrc/parse.h` says what counts as lacking.
    """
    values = ffi.new("uint8_t[]", lib.OKO_N_FIELDS * 16)
    info = ffi.new("struct oko_frame_info *")
    if lib.oko_frame_parse(frame, len(frame), in_port, values, info) < 0:
        raise ValueError(f"a frame has at most 65,535 bytes, not {len(frame):,}")
    raw = bytes(ffi.buffer(values))
    fields = {
        field.name: int.from_bytes(raw[16 * i : 16 * i + 16], "big")
        for i, field in enumerate(FIELDS)
    }
    return ParsedFrame(fields, info.n_vlans, info.l2_5, info.l3, info.l4)
