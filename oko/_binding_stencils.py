"""Records of flows in a protocol's format, written in C: struct oko_stencils of csrc/oko.h.

What a record looks like is for who knows the protocol to say, once for each kind of flow
(oko/agent/dump.py); flows as the datapath tells of them go in, records come out.

Thread-safety: one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ._binding import Handle, check
from ._oko import ffi, lib

MAX_BYTES = 1 << 16
"""Of the records that one call writes."""


class Stencils(Handle):
    """Writes records of flows: struct oko_stencils. numbers: (what, offset in the record, bytes,
    what is added), what as in enum oko_stencil_what; fixed: numbers of the fields whose values are
    fixed."""

    _what = "set of stencils"

    def __init__(self, numbers: Iterable[tuple[str, int, int, int]], fixed: Iterable[int]) -> None:
        made = [
            (getattr(lib, f"OKO_STENCIL_{what.upper()}"), at, size, plus)
            for what, at, size, plus in numbers
        ]
        marks = bytearray(lib.OKO_N_FIELDS)
        for number in fixed:
            marks[number] = 1
        out = ffi.new("struct oko_stencils **")
        check(lib.oko_stencils_new(made, len(made), bytes(marks), out), what="stencils")
        self._out = ffi.new("uint8_t[]", MAX_BYTES)
        self._at = ffi.new("uint64_t *")
        self._lossy = ffi.new("uint64_t *")
        self.full = False
        super().__init__(out[0], lib.oko_stencils_free)

    def add(
        self, flow: bytes, record: bytes, holes: Sequence[tuple[int, int]], lossy: bool
    ) -> None:
        """The stencil of flows such as this one of Dp.flow_records(), unless there is room for no
        more, or its record is too long. holes: (offset in the record, bytes) for the value of each
        field of its match; lossy: the record does not tell all of the flow."""
        code = lib.oko_stencils_add(
            self._ptr, flow, len(flow), record, len(record), list(holes), lossy
        )
        self.full = code == lib.OKO_E_LIMIT

    def write(self, flows: bytes, at: int, now: int, room: int) -> tuple[bytes, int]:
        """(records, the offset behind the last flow written) of Dp.flow_records(), at most room
        bytes of them; none of a flow that has no stencil. now: ns of the datapath clock."""
        self._at[0] = at
        data = ffi.from_buffer("uint8_t[]", flows)
        used = lib.oko_stencils_write(
            self._ptr, data, len(flows), self._at, now, self._out, min(room, MAX_BYTES),
            self._lossy,
        )  # fmt: skip
        check(int(min(used, 0)), what="flows")
        return ffi.buffer(self._out, used)[:], int(self._at[0])

    @property
    def n_lossy(self) -> int:
        """How many records written so far do not tell all of their flow."""
        return int(self._lossy[0])
