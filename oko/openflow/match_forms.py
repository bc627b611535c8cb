"""Matches of the datapath's records to the wire, by form: the fast way out of a dump.

Records of matches (`compile_match`) that differ only in values have the same form: the same fields
with the same masks, and the same values of those fields that the wire writes in other words. What
a form looks like on the wire is found once, naively; after that a match is a join of constant
bytes and of values copied from its record. The naive way decides what is right: a form that does
not give what it gave is not kept.

Thread-safety: an encoder belongs to one dump.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from oko.model.compile import MATCH_FIELD_SIZE, parse_match
from oko.model.fields import FIELDS, IN_PORT, IP_DSCP, IP_PROTO, VLAN_PCP, VLAN_VID
from oko.openflow.actions import protocol_of
from oko.openflow.common import OF10
from oko.openflow.flows import put_match
from oko.openflow.match10 import encode_match_10
from oko.openflow.oxm import encode_entry, encode_match, wire_size

_VALUE = 8  # offset of the value in a record's field; the mask follows it
_REWRITTEN = (IN_PORT, VLAN_VID, VLAN_PCP, IP_DSCP)
"""NXM has these in other words (oxm._nxm_rows)."""


@dataclass(frozen=True, slots=True)
class _Form:
    parts: tuple[tuple[bytes, slice], ...]
    tail: bytes
    ip_proto: int | None
    size: int
    layout: tuple[slice, ...]

    def encode(self, record: bytes) -> tuple[bytes, int | None]:
        """The match on the wire, and the IP protocol that it asks for."""
        pieces: list[bytes] = []
        for constant, at in self.parts:
            pieces += (constant, record[at])
        pieces.append(self.tail)
        return b"".join(pieces), self.ip_proto


class MatchEncoder:
    """Encodes matches for one version; nxm: as NXM in 1.0, else by its fixed match."""

    _LIMIT = 4096

    def __init__(self, version: int, *, nxm: bool = False) -> None:
        self._version = version
        self._nxm = nxm
        self._by_form = nxm or version != OF10
        self._layouts: dict[bytes, tuple[slice, ...]] = {}
        self._forms: dict[tuple[bytes, int], _Form] = {}
        self._last: tuple[slice, ...] = ()

    def encode(self, record: bytes, program: int) -> tuple[bytes, int | None]:
        """(the match on the wire, the IP protocol it asks for). program: 0 = none to be told."""
        if not self._by_form:
            return self._naively(record, program)
        # Most are like the one before. Fixed parts hold the fields' numbers: same parts, same form.
        last = self._last
        form = self._forms.get((b"".join([record[at] for at in last]), program))
        if form is not None and form.layout is last and form.size == len(record):
            return form.encode(record)
        size = MATCH_FIELD_SIZE
        ids = record[::size] + record[1::size] + record[2::size] + record[3::size]
        layout = self._layouts.get(ids)
        if layout is None:
            layout = self._layouts[ids] = self._layout(record)
        self._last = layout
        key = (b"".join([record[at] for at in layout]), program)
        form = self._forms.get(key)
        if form is not None:
            return form.encode(record)
        found = self._naively(record, program)
        form = self._form(record, found)
        if form is not None:
            if len(self._forms) >= self._LIMIT:
                self._forms.clear()
            self._forms[key] = form
        return found

    def _naively(self, record: bytes, program: int) -> tuple[bytes, int | None]:
        match = parse_match(record)
        if self._version != OF10:
            data = put_match(self._version, match, program)
        elif self._nxm:
            data = encode_match(self._version, match, program)
        else:
            data = encode_match_10(match, lossy=True) or b""
        return data, protocol_of(match)

    def is_free(self, number: int) -> bool:
        """May the value of this field differ within a form?"""
        f = FIELDS[number]
        return f is not IP_PROTO and not (self._nxm and f in _REWRITTEN)

    def _fields(self, record: bytes) -> list[tuple[int, int]]:
        """(offset, field number) of the fields of a record."""
        return [
            (at, int.from_bytes(record[at : at + 4], sys.byteorder))
            for at in range(0, len(record), MATCH_FIELD_SIZE)
        ]

    def _layout(self, record: bytes) -> tuple[slice, ...]:
        """Those parts of such records in which a form agrees."""
        found = []
        start = 0
        for at, number in self._fields(record):
            if self.is_free(number):
                found.append(slice(start, at + _VALUE))
                start = at + _VALUE + 16
        return (*found, slice(start, len(record)))

    def holes(self, record: bytes, wire: bytes) -> tuple[tuple[int, int], ...] | None:
        """(offset in the wire's bytes, size) of the value of each field of a record, size 0 where
        the value is fixed. None: a value does not stand there as it is."""
        holes = []
        at_wire = 0
        for at, number in self._fields(record):
            if not self.is_free(number):
                holes.append((0, 0))
                continue
            f = FIELDS[number]
            value = record[at + _VALUE : at + _VALUE + f.size]
            mask = record[at + _VALUE + 16 : at + _VALUE + 16 + f.size]
            numbers = int.from_bytes(value, "big"), int.from_bytes(mask, "big")
            entry = encode_entry(self._version, f, *numbers)
            start = wire.find(entry, at_wire)
            if start < 0:
                return None
            at_wire = start + len(entry)
            end = at_wire
            if numbers[1] != f.all_ones:
                end -= wire_size(f)  # the mask
            holes.append((end - f.size, f.size))
        return tuple(holes)

    def _form(self, record: bytes, found: tuple[bytes, int | None]) -> _Form | None:
        wire, ip_proto = found
        holes = self.holes(record, wire)
        if holes is None:
            return None
        parts = []
        end = 0
        for (at, _), (start, size) in zip(self._fields(record), holes, strict=True):
            if size:
                parts.append((wire[end:start], slice(at + _VALUE, at + _VALUE + size)))
                end = start + size
        form = _Form(tuple(parts), wire[end:], ip_proto, len(record), self._last)
        return form if form.encode(record) == found else None
