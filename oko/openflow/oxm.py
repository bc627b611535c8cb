"""Matches on the wire: OXM and NXM entries, and the fixed match of OpenFlow 1.0, to `Match`.

An entry is class, field, has-mask bit and length (4 bytes), for class 0xffff an experimenter id,
then value and mask. oko's own field, `filter_prog` (experimenter 0x4f4b4f00, field 1, 16 bits), is
not part of a Match; it comes back beside it.

Fields need their prerequisites before them (tcp_dst needs ip_proto=6 needs eth_type), as Open
vSwitch has it and OpenFlow 1.3.5 (7.2.3.6) says. What is refused, by name: unknown fields
(BAD_FIELD), lengths (BAD_LEN), values out of range (BAD_VALUE), value bits outside the mask
(BAD_WILDCARDS), masks on fields that take none (BAD_MASK), fields given twice (DUP_FIELD).

Decoding is hot: flow-mods come by the hundred thousand in a handful of forms. So matches are
decoded by *form*: everything about them but the free bits, that is headers, masks and those values
that prerequisites look at. A form that passed once is kept; the next match of that form costs a
comparison of one big integer, one unpack, and one join of bytes for the datapath's record. What
fits no known form goes the naive way, entry by entry, which alone decides about errors.

Thread-safety: the memory of forms is shared and bounded; entries are only added, whole, or all of
them dropped. Two threads at worst learn the same form twice.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from oko.model.compile import compile_match
from oko.model.fields import (
    COMPOSED,
    ETH_TYPE,
    FIELDS,
    ICMPV6_TYPE,
    IN_PORT,
    IN_PORT_16,
    IP_DSCP,
    IP_PROTO,
    NW_TOS,
    NXM_NX,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_TCI,
    VLAN_VID,
    Field,
    Known,
    field,
    unmet,
)
from oko.model.flow import Instructions, Match, parts_of
from oko.openflow.common import (
    OF10,
    OF15,
    OKO,
    ONF,
    fail,
    port_from_10,
    port_to_10,
)

EXPERIMENTER_CLASS = 0xFFFF
FILTER_PROG = Field("filter_prog", 16, "dec")
"""oko's field in a match; never part of a Match."""
COOKIE = Field("cookie", 64, "hex")
"""NXM_NX_COOKIE, which NXM requests have among the fields: which flows are meant."""
_COOKIE_PLACE = (NXM_NX, 30)  # the number is mpls_ttl's too, the length tells them apart

TCP_FLAGS = field("tcp_flags")
_TCP_FLAGS_ONF = 42  # ONFOXM_ET_TCP_FLAGS, what 1.3 and 1.4 call the field


def _fields_by_header() -> dict[int, Field]:
    """By class << 7 | field number."""
    found: dict[int, Field] = {}
    for f in (*FIELDS, *COMPOSED):
        for place in (f.oxm, f.nxm):
            if place is not None:
                found[place[0] << 7 | place[1]] = f
    return found


BY_HEADER = _fields_by_header()
BY_EXPERIMENTER = {(OKO, 1): FILTER_PROG, (ONF, _TCP_FLAGS_ONF): TCP_FLAGS}


def wire_size(f: Field) -> int:
    """Bytes that a value takes in an entry: MPLS and flow labels come in four, not three."""
    return 4 if f.bits == 20 else f.size


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. has_mask: as sent; mask: all ones where it has none. start: offset of the value;
    end: offset of the next entry."""

    field: Field
    value: int
    mask: int
    has_mask: bool
    start: int
    end: int


def header_at(data: bytes, at: int) -> tuple[Field, bool, int, int]:
    """(field, has mask, offset of the value, its size) of the entry at this offset."""
    if len(data) - at < 4:
        fail("OFPBMC_BAD_LEN", "the match ends inside of an entry's header")
    kind, number, size = struct.unpack_from("!HBB", data, at)
    start = at + 4
    has_mask, number = bool(number & 1), number >> 1
    if kind == EXPERIMENTER_CLASS:
        if size < 4 or len(data) - start < 4:
            fail("OFPBMC_BAD_LEN", "an experimenter's match field is too short for its id")
        (experimenter,) = struct.unpack_from("!I", data, start)
        found = BY_EXPERIMENTER.get((experimenter, number))
        start, size = start + 4, size - 4
        if found is None:
            name = f"{number} of experimenter {experimenter:#x}"
            fail("OFPBMC_BAD_FIELD", f"there is no match field {name}")
    else:
        found = BY_HEADER.get(kind << 7 | number)
        if found is None:
            fail("OFPBMC_BAD_FIELD", f"there is no match field {number} of class {kind:#06x}")
    if (kind, number) == _COOKIE_PLACE and size == COOKIE.size << has_mask:
        return COOKIE, has_mask, start, COOKIE.size
    if size != wire_size(found) << has_mask:
        fail("OFPBMC_BAD_LEN", f"{found.label} does not have {size} bytes")
    return found, has_mask, start, wire_size(found)


def entries(data: bytes) -> Iterator[Entry]:
    """The entries, each checked by itself."""
    at = 0
    while at < len(data):
        entry = entry_at(data, at)
        yield entry
        at = entry.end


def entry_at(data: bytes, at: int, *, any_mask: bool = False) -> Entry:
    """The entry at this offset. any_mask: masks are good for all fields (set_field)."""
    f, has_mask, start, size = header_at(data, at)
    end = start + (size << has_mask)
    if len(data) < end:
        fail("OFPBMC_BAD_LEN", f"the match ends inside of {f.label}")
    value = int.from_bytes(data[start : start + size], "big")
    mask = f.all_ones
    if has_mask:
        written = int.from_bytes(data[start + size : end], "big")
        mask &= written
        if value & ~written:
            fail("OFPBMC_BAD_WILDCARDS", f"the value of {f.label} has bits outside its mask")
        if not any_mask and mask and mask != f.all_ones and not f.maskable:
            fail("OFPBMC_BAD_MASK", f"{f.label} takes no mask")
    if value > f.all_ones:
        fail("OFPBMC_BAD_VALUE", f"{value:#x} is too large for {f.label}")
    if f is NW_TOS:
        if value & 3:
            fail("OFPBMC_BAD_VALUE", f"TOS {value} has ECN bits")
        mask &= 0xFC
    if f is IN_PORT_16:
        f = IN_PORT
        if mask == 0xFFFF:
            value, mask = port_from_10(value), f.all_ones
    elif f is FILTER_PROG:
        if has_mask and mask != f.all_ones:
            fail("OFPBMC_BAD_MASK", "filter_prog takes no mask")
        if value == 0:
            fail("OFPBMC_BAD_VALUE", "there is no program 0")
    return Entry(f, value, mask, has_mask, start, end)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A match as it came. filter_prog: 0 = not matched. record: the match for the datapath
    (`compile_match`). known: what it says about the fields that prerequisites look at."""

    match: Match
    record: bytes
    filter_prog: int = 0
    known: tuple[tuple[Field, tuple[int, int]], ...] = ()
    cookie: int = 0
    cookie_mask: int = 0


def decode_naively(data: bytes, *, cookie: bool = False) -> Decoded:
    """What decode_match() gives, entry by entry. cookie: NXM_NX_COOKIE may be there."""
    known: Known = {}
    special: dict[Field, Entry] = {}
    seen: set[Field] = set()
    for entry in entries(data):
        f = entry.field
        if f in seen:
            fail("OFPBMC_DUP_FIELD", f"{f.label} is matched twice")
        seen.add(f)
        if f is COOKIE and not cookie:
            fail("OFPBMC_BAD_FIELD", "the cookie is no match field here")
        if f is FILTER_PROG or f is COOKIE:
            special[f] = entry
            continue
        if f.prereqs and unmet(f, known) is not None:
            fail("OFPBMC_BAD_PREREQ", f"{f.label} needs {f.needs} matched before it")
        for part, value, mask in parts_of(f, entry.value, entry.mask):
            old_value, old_mask = known.get(part, (0, 0))
            if old_mask & mask:
                fail("OFPBMC_DUP_FIELD", f"{part.label} is matched twice")
            known[part] = (old_value | value & mask, old_mask | mask)
    match = Match.of(known)
    which = special.get(COOKIE)
    return Decoded(
        match,
        compile_match(match),
        special[FILTER_PROG].value if FILTER_PROG in special else 0,
        known_of(match),
        which.value if which else 0,
        which.mask if which else 0,
    )


def form_of(data: bytes) -> _Form | None:
    """The form that such a match was decoded by before, if it was."""
    bits = int.from_bytes(data, "big")
    for form in _forms.get((len(data), data[:4]), ()):
        if bits & form.fixed == form.value:
            return form
    return None


def decode_match(data: bytes, *, cookie: bool = False) -> Decoded:
    """OXM or NXM entries, unpadded. cookie: NXM_NX_COOKIE may be among them."""
    place = (len(data), data[:4])
    known = _forms.get(place, ())
    bits = int.from_bytes(data, "big")
    for form in known:
        if bits & form.fixed == form.value:
            return form.decode(data)
    decoded = decode_naively(data, cookie=cookie)
    if len(known) < _FORMS_ALIKE:
        _learn(place, data, decoded)
    return decoded


_LOOKED_AT = {ETH_TYPE: 0xFFFF, IP_PROTO: 0xFF, ICMPV6_TYPE: 0xFF, VLAN_VID: VLAN_PRESENT}
"""Fields, and their bits, that prerequisites ask for."""


def known_of(match: Match) -> tuple[tuple[Field, tuple[int, int]], ...]:
    """What the match says about the fields that prerequisites look at."""
    return tuple(
        (f, (value & _LOOKED_AT[f], mask & _LOOKED_AT[f]))
        for f, value, mask in match
        if f in _LOOKED_AT and mask & _LOOKED_AT[f]
    )


# ---------------------------------------------------------------- forms

_FORMS, _FORMS_ALIKE = 1024, 32


@dataclass(frozen=True, slots=True)
class _Form:
    """All matches that differ in free bits only. fixed, value: of the whole, as one integer, the
    bits that are not free, and what they are; fields: (field, where its value stands, mask), as in
    a Match; parts: the record's constant bytes, and between them where values come from; free,
    template: where free values stand, and the record with a %b for each. instructions: by version
    and bytes, those of flow-mods with such a match, and their operations."""

    fixed: int
    value: int
    fields: tuple[tuple[Field, slice, int], ...]
    parts: tuple[tuple[bytes, slice], ...]
    tail: bytes
    filter_prog: int
    known: tuple[tuple[Field, tuple[int, int]], ...]
    free: Callable[[bytes], Any]
    template: bytes
    instructions: dict[tuple[int, bytes], tuple[Instructions, bytes]]

    def record(self, data: bytes) -> bytes:
        """A match of this form, for the datapath only."""
        record: bytes = self.template % self.free(data)
        return record

    def decode(self, data: bytes) -> Decoded:
        """A match of this form."""
        number = int.from_bytes
        match = Match(tuple([(f, number(data[at], "big"), mask) for f, at, mask in self.fields]))
        pieces: list[bytes] = []
        for constant, at in self.parts:
            pieces += (constant, data[at])
        pieces.append(self.tail)
        return Decoded(match, b"".join(pieces), self.filter_prog, self.known)


def _nothing(data: bytes) -> tuple[()]:
    """No value is free."""
    return ()


_forms: dict[tuple[int, bytes], tuple[_Form, ...]] = {}


def _learn(place: tuple[int, bytes], data: bytes, decoded: Decoded) -> None:
    """Keeps the form of a match that was decoded naively, if it is one of plain fields."""
    free = 0
    rows: list[tuple[Field, slice, int]] = []
    at = 0
    while at < len(data):
        named, _, start, size = header_at(data, at)
        entry = entry_at(data, at)
        at = entry.end
        f = entry.field
        if f is FILTER_PROG:
            continue
        plain = f is named and f.id >= 0 and not f.parts and not f.is_register_pair
        if not plain or not entry.mask or f is COOKIE:
            return
        looked_at = _LOOKED_AT.get(f, 0)
        free |= (entry.mask & ~looked_at) << 8 * (len(data) - start - size)
        rows.append((f, slice(start, start + size), entry.mask))
    if not rows:
        return
    rows.sort(key=lambda row: row[0].id)
    fixed = ((1 << 8 * len(data)) - 1) & ~free
    parts: list[tuple[bytes, slice]] = []
    tail = b""
    for f, where, mask in rows:
        record = compile_match(Match(((f, 0, mask),)))
        parts.append((tail + record[:8], slice(where.stop - f.size, where.stop)))
        tail = record[8 + f.size :]
    varying: list[slice] = []
    template = b""
    for (f, _, mask), (before, at_value) in zip(rows, parts, strict=True):
        template += before.replace(b"%", b"%%")
        if mask & ~_LOOKED_AT.get(f, 0):
            varying.append(at_value)
            template += b"%b"
        else:
            template += data[at_value].replace(b"%", b"%%")
    template += tail.replace(b"%", b"%%")
    form = _Form(
        fixed, int.from_bytes(data, "big") & fixed, tuple(rows), tuple(parts), tail,
        decoded.filter_prog, decoded.known, itemgetter(*varying) if varying else _nothing, template,
        {},
    )  # fmt: skip
    if form.decode(data) != decoded or form.record(data) != decoded.record:
        return
    if sum(map(len, _forms.values())) >= _FORMS:
        _forms.clear()
    _forms[place] = (*_forms.get(place, ()), form)


# ---------------------------------------------------------------- encoding


def _header(version: int, f: Field) -> tuple[int, int, int]:
    """(class, field number, experimenter or 0) by which a version calls a field."""
    if f is FILTER_PROG:
        return EXPERIMENTER_CLASS, 1, OKO
    if f is TCP_FLAGS and OF10 < version < OF15:
        return EXPERIMENTER_CLASS, _TCP_FLAGS_ONF, ONF
    places = (f.nxm, f.oxm) if version == OF10 else (f.oxm, f.nxm)
    place = places[0] or places[1]
    if place is None:
        fail("OFPBMC_BAD_FIELD", f"{f.label} has no number on the wire")
    return *place, 0


_headers: dict[tuple[int, Field, bool], bytes] = {}


def encode_header(version: int, f: Field, has_mask: bool = False) -> bytes:
    """What stands before the value."""
    key = (version, f, has_mask)
    found = _headers.get(key)
    if found is None:
        kind, number, experimenter = _header(version, f)
        size = (wire_size(f) << has_mask) + (4 if experimenter else 0)
        found = struct.pack("!HBB", kind, number << 1 | has_mask, size)
        if experimenter:
            found += struct.pack("!I", experimenter)
        _headers[key] = found
    return found


def encode_entry(version: int, f: Field, value: int, mask: int) -> bytes:
    """One entry; a mask of all ones is left out."""
    size = wire_size(f)
    if mask == f.all_ones:
        return encode_header(version, f) + value.to_bytes(size, "big")
    header = encode_header(version, f, True)
    return header + value.to_bytes(size, "big") + mask.to_bytes(size, "big")


def encode_match(version: int, match: Match, filter_prog: int = 0) -> bytes:
    """The entries, unpadded: NXM in OpenFlow 1.0, else OXM (with NXM for what OXM lacks)."""
    rows: Iterable[tuple[Field, int, int]] = match.fields
    if version == OF10:
        rows = _nxm_rows(match)
    parts = [encode_entry(version, f, value, mask) for f, value, mask in rows]
    if filter_prog:
        parts.append(encode_entry(version, FILTER_PROG, filter_prog, 0xFFFF))
    return b"".join(parts)


def _nxm_rows(match: Match) -> Iterator[tuple[Field, int, int]]:
    """The fields as NXM has them: 16-bit ports, the TCI in one piece, TOS."""
    tci = tci_mask = 0
    tci_shown = False
    for f, value, mask in match:
        if f is VLAN_VID or f is VLAN_PCP:
            shift = 0 if f is VLAN_VID else 13
            tci, tci_mask = tci | value << shift, tci_mask | mask << shift
            continue
        if tci_mask and not tci_shown and f.id > VLAN_PCP.id:
            yield VLAN_TCI, tci, tci_mask
            tci_shown = True
        if f is IN_PORT and (value < 0xFF00 or value >= 0xFFFFFFF8):
            yield IN_PORT_16, port_to_10(value), 0xFFFF
        elif f is IP_DSCP:
            yield NW_TOS, value << 2, 0xFF
        else:
            yield f, value, mask
    if tci_mask and not tci_shown:
        yield VLAN_TCI, tci, tci_mask
