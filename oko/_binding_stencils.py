"""Entries of replies about flows, written in C: struct oko_stencils of csrc/oko.h.

What an entry's match and instructions look like is for who knows OpenFlow to say, once for each
kind of flow (oko/agent/dump.py); records of flows go in, entries come out.

Thread-safety: one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ._binding import Handle, check
from ._oko import ffi, lib

MAX_ENTRIES = 1 << 16
"""More bytes of entries than an OpenFlow message holds."""


class Stencils(Handle):
    """Writes entries of replies about flows: struct oko_stencils. head: "13", "14" or "NX", whose
    entries they are; fixed: numbers of the fields whose values are fixed."""

    _what = "set of stencils"

    def __init__(self, head: str, fixed: Iterable[int]) -> None:
        marks = bytearray(lib.OKO_N_FIELDS)
        for number in fixed:
            marks[number] = 1
        out = ffi.new("struct oko_stencils **")
        code = getattr(lib, f"OKO_ENTRY_{head}")
        check(lib.oko_stencils_new(code, bytes(marks), out), what="stencils")
        self._out = ffi.new("uint8_t[]", MAX_ENTRIES)
        self._at = ffi.new("uint64_t *")
        self._lossy = ffi.new("uint64_t *")
        self.full = False
        super().__init__(out[0], lib.oko_stencils_free)

    def add(
        self,
        record: bytes,
        wire: bytes,
        match_size: int,
        holes: Sequence[tuple[int, int]],
        lossy: bool,
    ) -> None:
        """The stencil of flows such as this record, unless there is room for no more, or the entry
        is too long. wire: its match, padded, and instructions; match_size: of the match, unpadded;
        holes: (offset in wire, bytes) for the value of each field."""
        code = lib.oko_stencils_add(
            self._ptr, record, len(record), wire, len(wire), match_size, list(holes), lossy
        )
        self.full = code == lib.OKO_E_LIMIT

    def write(self, records: bytes, at: int, now: int, room: int) -> tuple[bytes, int]:
        """(entries, the offset behind the last record written) of Dp.flow_records(), at most room
        bytes of them; none of a record that has no stencil. now: ns of the datapath clock."""
        self._at[0] = at
        data = ffi.from_buffer("uint8_t[]", records)
        used = lib.oko_stencils_write(
            self._ptr, data, len(records), self._at, now, self._out, min(room, MAX_ENTRIES),
            self._lossy,
        )  # fmt: skip
        check(int(min(used, 0)), what="records of flows")
        return ffi.buffer(self._out, used)[:], int(self._at[0])

    @property
    def n_lossy(self) -> int:
        """How many entries written so far do not tell all of their flow."""
        return int(self._lossy[0])
