"""Flow tables on the wire: counters, features, descriptions, table-mod, in both directions.

Table features (1.3.5, 7.3.5.5; 1.5 has a command and flags where 1.3 pads) say of each table what
it can match and do, in eight properties for all flows and eight for the table-miss flow that may
differ; a property of the second kind that is left out says the same as the first. oko's tables can
all do everything, but the last has nowhere to go to. They have no names, so that tools which say
"ditto" of equal tables in a row can.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from oko.model.fields import FIELDS
from oko.openflow.common import (
    MP_TABLE,
    MP_TABLE_DESC,
    MP_TABLE_FEATURES,
    OF10,
    OF14,
    OF15,
    TYPES,
    OpenFlowError,
    decode_multipart,
    encode_multipart,
    fail,
    message,
    multipart_replies,
    padded,
    take,
)
from oko.openflow.messages import N_TABLES
from oko.openflow.oxm import encode_header, header_at
from oko.openflow.port_messages import properties

MAX_ENTRIES = 1_000_000
NO_LIMITS: Mapping[int, int] = MappingProxyType({})
TABLE_ALL = 255

# ---------------------------------------------------------------- counters


@dataclass(frozen=True, slots=True)
class TableCounters:
    """Counters of a table. name and max_entries: 1.0 tells them too."""

    table: int
    n_flows: int
    lookups: int
    matches: int
    name: str = ""
    max_entries: int = 0


_STATS_10 = struct.Struct("!B3x32sIIIQQ")
_STATS_13 = struct.Struct("!B3xIQQ")
_WILDCARDS_10 = 0x3FFFFF  # every field may be left out


def table_stats_replies(
    version: int,
    xid: int,
    tables: Iterable[tuple[int, int, int, int]],
    limits: Mapping[int, int] = NO_LIMITS,
) -> Iterator[bytes]:
    """The replies to a TABLE request. tables: (number, flows, lookups, matches); limits: flows that
    a table holds, MAX_ENTRIES where nothing is said."""
    if version == OF10:
        entries = (
            _STATS_10.pack(n, b"", _WILDCARDS_10, limits.get(n, MAX_ENTRIES), flows, looked, hit)
            for n, flows, looked, hit in tables
        )
    else:
        entries = (_STATS_13.pack(*row) for row in tables)
    return multipart_replies(version, xid, MP_TABLE, entries)


def decode_table_stats(version: int, msg: bytes) -> list[TableCounters]:
    """The entries of one TABLE reply."""
    body = decode_multipart(version, msg[8:]).body
    form = _STATS_10 if version == OF10 else _STATS_13
    if len(body) % form.size:
        fail("OFPBRC_BAD_LEN", f"counters of tables have {form.size} bytes each")
    if version != OF10:
        return [TableCounters(*row) for row in form.iter_unpack(body)]
    return [
        TableCounters(table, flows, looked, hit, _text(name), most)
        for table, name, _, most, flows, looked, hit in form.iter_unpack(body)
    ]


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode("utf-8", "replace")


# ---------------------------------------------------------------- features

INSTRUCTIONS, NEXT_TABLES, WRITE_ACTIONS, APPLY_ACTIONS = 0, 2, 4, 6
MATCH, WILDCARDS, WRITE_SETFIELD, APPLY_SETFIELD = 8, 10, 12, 14
REQUIRED = (
    INSTRUCTIONS, NEXT_TABLES, WRITE_ACTIONS, APPLY_ACTIONS, MATCH, WILDCARDS, WRITE_SETFIELD,
    APPLY_SETFIELD,
)  # fmt: skip
"""OFPTFPT_*: the eight properties that a reply must have; each + 1 is the table-miss flow's."""

ACTION_IDS = (0, 11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27)
"""OFPAT_* of the actions that buckets, action sets and lists can have."""

_FEATURES = struct.Struct("!HBBI32sQQII")
_EVERYTHING = (1 << 64) - 1
_INSTRUCTION_IDS = (1, 2, 3, 4, 5, 6)  # goto_table, write_metadata, write, apply, clear, meter
_GOTO_TABLE, _METER = 1, 6


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """What a table can do. properties: (OFPTFPT_*, body) as they came; see ids() and fields().
    capabilities: EVICTION, VACANCY_EVENTS; None before 1.4, which does not tell."""

    table: int
    name: str
    metadata_match: int
    metadata_write: int
    capabilities: int | None
    max_entries: int
    properties: tuple[tuple[int, bytes], ...]

    def body(self, kind: int) -> bytes | None:
        """What a property holds; None if it is not there."""
        return next((body for found, body in self.properties if found == kind), None)

    def ids(self, kind: int) -> list[int]:
        """Instruction or action types of a property; tables of NEXT_TABLES."""
        body = self.body(kind) or b""
        return list(body) if kind in (2, 3) else ids(body)

    def fields(self, kind: int) -> list[str]:
        """Names of the fields in a property; fields that oko does not know are left out."""
        return _field_names(self.body(kind) or b"")


def ids(body: bytes) -> list[int]:
    """Types of instructions or actions, given by their headers."""
    found = []
    at = 0
    while at + 4 <= len(body):
        kind, size = struct.unpack_from("!HH", body, at)
        found.append(kind)
        at += max(size, 4)
    return found


def _field_names(body: bytes) -> list[str]:
    names = []
    at = 0
    while at + 4 <= len(body):
        try:
            f, _, at, _ = header_at(body, at)
            names.append(f.name)
        except OpenFlowError:
            at += 8 if body[at : at + 2] == b"\xff\xff" else 4
    return names


def _property(kind: int, body: bytes) -> bytes:
    return padded(struct.pack("!HH", kind, 4 + len(body)) + body)


def _headers(version: int, *, settable: bool = False, masks: bool = False) -> bytes:
    """Headers of the fields that can be matched, or set. masks: those that take one say so."""
    found = b""
    for f in FIELDS:
        if settable and not f.writable:
            continue
        try:
            found += encode_header(version, f, masks and f.maskable)
        except (OpenFlowError, KeyError):
            continue  # a field that this version cannot name
    return found


@lru_cache(maxsize=8)
def _common(version: int) -> bytes:
    """The properties that all tables share."""
    actions = b"".join(struct.pack("!HH", kind, 4) for kind in ACTION_IDS)
    settable = _headers(version, settable=True)
    return (
        _property(WRITE_ACTIONS, actions)
        + _property(APPLY_ACTIONS, actions)
        + _property(MATCH, _headers(version, masks=True))
        + _property(WILDCARDS, _headers(version))
        + _property(WRITE_SETFIELD, settable)
        + _property(APPLY_SETFIELD, settable)
    )


def _entry(version: int, table: int, max_entries: int) -> bytes:
    last = table == N_TABLES - 1
    without = {_GOTO_TABLE: last, _METER: version >= OF15}  # there it is an action
    kinds = [kind for kind in _INSTRUCTION_IDS if not without.get(kind)]
    instructions = b"".join(struct.pack("!HH", kind, 4) for kind in kinds)
    body = (
        _property(INSTRUCTIONS, instructions)
        + _property(NEXT_TABLES, bytes(range(table + 1, N_TABLES)))
        + _common(version)
    )
    head = _FEATURES.pack(
        _FEATURES.size + len(body), table, 0, 0, b"", _EVERYTHING, _EVERYTHING,
        EVICTION | VACANCY_EVENTS if version >= OF14 else 0, max_entries,
    )  # fmt: skip
    return head + body


def table_features_replies(
    version: int, xid: int, limits: Mapping[int, int] = NO_LIMITS
) -> Iterator[bytes]:
    """The replies to a TABLE_FEATURES request; limits as in table_stats_replies()."""
    if version == OF10:
        fail("OFPBRC_BAD_STAT", "OpenFlow 1.0 has no table features")
    entries = (_entry(version, n, limits.get(n, MAX_ENTRIES)) for n in range(N_TABLES))
    return multipart_replies(version, xid, MP_TABLE_FEATURES, entries)


def decode_table_features(version: int, body: bytes) -> list[TableFeatures]:
    """The tables in the body of a TABLE_FEATURES request or reply."""
    found = []
    at = 0
    while at < len(body):
        size, table, _, _, name, match, write, config, most = take(
            _FEATURES, body[at:], "table features", "OFPTFFC_BAD_LEN"
        )
        if size < _FEATURES.size or at + size > len(body):
            fail("OFPTFFC_BAD_LEN", f"table features cannot have {size} bytes here")
        told = tuple(properties(body[at + _FEATURES.size : at + size]))
        capabilities = None if version < OF14 else config
        found.append(TableFeatures(table, _text(name), match, write, capabilities, most, told))
        at += size
    return found


# ---------------------------------------------------------------- table-mod, table descriptions

EVICTION, VACANCY_EVENTS = 4, 8  # OFPTC_*, since 1.4
EVICTION_PROPERTY, VACANCY_PROPERTY = 2, 3  # OFPTMPT_*
EVICTION_FLAGS = 7
"""What decides who is evicted: importance, then lifetime, then (OFPTMPEF_OTHER) age."""
_MOD = struct.Struct("!B3xI")
_DESC = struct.Struct("!HBxI")


@dataclass(frozen=True, slots=True)
class TableMod:
    """TABLE_MOD: OFPTC_* bits for a table, or TABLE_ALL. properties: (type, body), since 1.4."""

    table: int
    config: int
    properties: tuple[tuple[int, bytes], ...] = ()


def encode_table_mod(version: int, mod: TableMod, xid: int = 0) -> bytes:
    """TABLE_MOD."""
    kind = TYPES[version].get("TABLE_MOD")
    if kind is None:
        fail("OFPBRC_BAD_TYPE", "OpenFlow 1.0 has no table-mod")
    body = _MOD.pack(mod.table, mod.config)
    return message(version, kind, xid, body + b"".join(_property(*p) for p in mod.properties))


def decode_table_mod(version: int, msg: bytes) -> TableMod:
    """TABLE_MOD."""
    table, config = take(_MOD, msg[8:], "a table-mod")
    told = tuple(properties(msg[8 + _MOD.size :])) if version >= OF14 else ()
    known = 3 if version < OF14 else EVICTION | VACANCY_EVENTS
    if config & ~known:
        fail("OFPTMFC_BAD_CONFIG", f"there is no table configuration {config:#x}")
    return TableMod(table, config, told)


def encode_table_desc_request(version: int, xid: int = 0) -> bytes:
    """Asks for table descriptions (1.4)."""
    return encode_multipart(version, xid, MP_TABLE_DESC)


@dataclass(frozen=True, slots=True)
class TableSettings:
    """What TABLE_MOD settles, and descriptions tell (1.4). vacancy: of which percentages (down, up)
    a controller hears, None: of none. free: percent of the table that is free now."""

    table: int
    evict: bool = False
    vacancy: tuple[int, int] | None = None
    free: int = 0


def settings_of(mod: TableMod) -> TableSettings:
    """A table-mod of 1.4 read. OpenFlowError: it asks for what cannot be."""
    told: dict[int, bytes] = {}
    for kind, body in mod.properties:
        if kind not in (EVICTION_PROPERTY, VACANCY_PROPERTY):
            fail("OFPBPC_BAD_TYPE", f"a table-mod has no property {kind}")
        if kind in told:
            fail("OFPBPC_DUP_TYPE", f"property {kind} is there twice")
        if len(body) != 4:
            fail("OFPBPC_BAD_LEN", f"property {kind} of a table-mod has 8 bytes")
        told[kind] = body
    flags = int.from_bytes(told.get(EVICTION_PROPERTY, b"\0"), "big")
    if flags and flags != EVICTION_FLAGS:
        fail("OFPTMFC_BAD_CONFIG", f"what is evicted first is fixed: flags {EVICTION_FLAGS:#x}")
    vacancy = None
    if mod.config & VACANCY_EVENTS:
        if VACANCY_PROPERTY not in told:
            fail("OFPTMFC_BAD_CONFIG", "vacancy events need the percentages at which to come")
        down, up = told[VACANCY_PROPERTY][:2]
        if not down <= up <= 100 or down == up:
            fail("OFPBPC_BAD_VALUE", f"vacancy cannot fall below {down} % and rise above {up} %")
        vacancy = (down, up)
    return TableSettings(mod.table, bool(mod.config & EVICTION), vacancy)


def _describe(settings: TableSettings) -> bytes:
    """struct ofp_table_desc."""
    config = EVICTION if settings.evict else 0
    body = _property(EVICTION_PROPERTY, struct.pack("!I", EVICTION_FLAGS))
    if settings.vacancy is not None:
        config |= VACANCY_EVENTS
        body += _property(VACANCY_PROPERTY, bytes((*settings.vacancy, settings.free, 0)))
    return _DESC.pack(_DESC.size + len(body), settings.table, config) + body


def table_desc_replies(version: int, xid: int, tables: Iterable[TableSettings]) -> Iterator[bytes]:
    """The replies to a TABLE_DESC request of 1.4."""
    if version < OF14:
        fail("OFPBRC_BAD_STAT", "table descriptions came with OpenFlow 1.4")
    return multipart_replies(version, xid, MP_TABLE_DESC, map(_describe, tables))


_STATUS = struct.Struct("!B7x")


def encode_table_status(version: int, reason: int, settings: TableSettings) -> bytes:
    """TABLE_STATUS (1.4): a table's vacancy passed a mark (reason: OFPTR_VACANCY_*)."""
    body = _STATUS.pack(reason) + _describe(settings)
    return message(version, TYPES[version]["TABLE_STATUS"], 0, body)


def decode_table_status(msg: bytes) -> tuple[int, TableMod]:
    """(reason, the table's description)."""
    (reason,) = take(_STATUS, msg[8:], "a table's status")
    found = _descriptions(msg[8 + _STATUS.size :])
    if len(found) != 1:
        fail("OFPBRC_BAD_LEN", "a table's status describes one table")
    return reason, found[0]


def decode_table_desc(version: int, msg: bytes) -> list[TableMod]:
    """The tables of one TABLE_DESC reply."""
    return _descriptions(decode_multipart(version, msg[8:]).body)


def _descriptions(body: bytes) -> list[TableMod]:
    found = []
    at = 0
    while at < len(body):
        size, table, config = take(_DESC, body[at:], "a table's description")
        if size < _DESC.size or at + size > len(body):
            fail("OFPBRC_BAD_LEN", f"a table's description cannot have {size} bytes here")
        told = tuple(properties(body[at + _DESC.size : at + size]))
        found.append(TableMod(table, config, told))
        at += size
    return found
