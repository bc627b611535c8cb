"""oko's own messages: filter programs and their maps over OpenFlow.

Experimenter messages (1.0: vendor messages) with id 0x4f4b4f00 and a 32-bit type, the same after
the header in every version. All integers are big-endian; keys and values are in the memory order of
the map. What may be larger than a message comes in chunks: an ELF by offset, entries of a map with
a flag that says that more follow. Showing programs and dumping maps are experimenter multiparts.

  type            body
  1 HELLO         u16 version, u16 zero, u32 capabilities (OXM, error texts, send_maps)
  2 LOAD          u16 program (0: the switch picks), u16 flags, u32 total, u32 offset, bytes
  3 LOADED        u16 program, u16 zero: answers LOAD (its last chunk) and UNLOAD
  4 UNLOAD        u16 program, u16 flags
  5 UPDATE_MAP    map, u16 flags, u16 zero, u32 key size, u32 value size, u32 n, entries
  6 DELETE_KEYS   map, u16 flags, u16 zero, u32 key size, u32 n, keys
  7 UPDATED       u16 program, u16 map, u32 n: answers UPDATE_MAP and DELETE_KEYS (the last chunk)
  8 SUBSCRIBE     u16 program (0: any), u16 flags, u32 interval in ms, u16 n, n x u16 map
  9 SEND_MAPS     map, u16 flags, u8 table, u8 zero, u16 priority, u16 zero, u64 cookie, u64 packet
                  time in ns, u32 key size, u32 value size, u32 n, entries
  10 ERROR_TEXT   u32 flags, UTF-8

A map is u16 program, u16 number (0xffff: by name), 32 bytes of name. Multiparts:

  1 SHOW          request: u16 program (0: all), u16 zero; reply: entries, see ProgramEntry
  2 DUMP_MAP      request: map; reply: map, u32 key size, u32 value size, u32 n, entries
  3 MAP_TYPES     request: map; reply: map, UTF-8: the C types of key and value where the program's
                  object has them, as JSON (oko/bpf/layouts.py); what is long comes in several parts

HELLO is answered by HELLO. Whoever sends a body that does not fit its type gets OFPBRC_BAD_LEN,
for a type that there is not OFPBRC_BAD_SUBTYPE.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from oko.openflow.common import (
    HEADER_SIZE,
    MAX_MESSAGE,
    MP_EXPERIMENTER,
    OKO,
    decode_multipart,
    encode_multipart,
    experimenter_message,
    fail,
    multipart_replies,
    take,
)

HELLO, LOAD, LOADED, UNLOAD, UPDATE_MAP, DELETE_KEYS, UPDATED, SUBSCRIBE, SEND_MAPS, ERROR_TEXT = (
    range(1, 11)
)
MP_SHOW, MP_DUMP_MAP, MP_MAP_TYPES = 1, 2, 3

KNOWS_OXM, KNOWS_ERROR_TEXT, KNOWS_SEND_MAPS = 1, 2, 4
EXTENSION_VERSION = 1
CREATE_ONLY = 1  # LOAD: do not replace
FORCE = 1  # UNLOAD: also while flows use it (they go)
ANY, NO_EXIST, EXIST = 0, 1, 2  # UPDATE_MAP: which entries may be there before
_MUST = 3  # the bits of those
REPLACE = 4  # UPDATE_MAP: these are all entries there shall be
MORE = 8  # more chunks follow
UNSUBSCRIBE = 1
TRUNCATED = 1
BY_NAME = 0xFFFF
NAME_SIZE = 32
MAX_TEXT = 32 * 1024
MAX_ELF = 64 << 20

_HELLO = struct.Struct("!HHI")
_LOAD = struct.Struct("!HHII")
_LOADED = struct.Struct("!HH")
_MAP = struct.Struct("!HH32s")
_UPDATE = struct.Struct("!H2xIII")
_DELETE = struct.Struct("!H2xII")
_UPDATED = struct.Struct("!HHI")
_SUBSCRIBE = struct.Struct("!HHIH")
_SEND = struct.Struct("!HBxH2xQQIII")
_ERROR = struct.Struct("!I")
_DUMP = struct.Struct("!III")
_HEADS = HEADER_SIZE + 8
Entries: TypeAlias = tuple[tuple[bytes, bytes], ...]


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class Hello:
    """Who says it knows the extension. capabilities: KNOWS_*."""

    capabilities: int = KNOWS_OXM | KNOWS_ERROR_TEXT
    version: int = EXTENSION_VERSION


@dataclass(frozen=True, slots=True)
class LoadProgram:
    """A chunk of an ELF. program 0: the switch picks a number. total: bytes of the whole ELF."""

    program: int
    total: int
    offset: int
    data: bytes
    flags: int = 0

    @property
    def last(self) -> bool:
        """Whether the ELF is complete with this chunk."""
        return self.offset + len(self.data) == self.total


@dataclass(frozen=True, slots=True)
class Loaded:
    """The answer to LoadProgram and UnloadProgram."""

    program: int


@dataclass(frozen=True, slots=True)
class UnloadProgram:
    """Takes a program away. flags: FORCE."""

    program: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class MapName:
    """A map of a program, by number, or by name (then number is BY_NAME)."""

    program: int
    number: int = BY_NAME
    name: str = ""

    @property
    def label(self) -> str | int:
        """What Bridge.map() takes."""
        return self.name if self.number == BY_NAME else self.number


@dataclass(frozen=True, slots=True)
class UpdateMap:
    """Entries for a map. flags: ANY, NO_EXIST or EXIST, REPLACE, MORE."""

    map: MapName
    key_size: int
    value_size: int
    entries: Entries
    flags: int = ANY


@dataclass(frozen=True, slots=True)
class DeleteKeys:
    """Keys to take out of a map. flags: MORE."""

    map: MapName
    key_size: int
    keys: tuple[bytes, ...]
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Updated:
    """The answer to UpdateMap and DeleteKeys: how many entries changed."""

    program: int
    map: int
    n: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Asks for SendMaps of a program (0: any) and some maps (none: all). interval: ms between
    periodic ones, 0 = only when an action asks. flags: UNSUBSCRIBE."""

    program: int
    interval: int = 0
    maps: tuple[int, ...] = ()
    flags: int = 0


@dataclass(frozen=True, slots=True)
class MapContents:
    """SEND_MAPS: (some of) a map, and the packet and flow that caused it. flags: MORE."""

    map: MapName
    key_size: int
    value_size: int
    entries: Entries
    table: int = 0
    priority: int = 0
    cookie: int = 0
    ns: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ErrorText:
    """Why the message of the same xid fails, in words."""

    text: str
    truncated: bool = False


Message: TypeAlias = (
    Hello | LoadProgram | Loaded | UnloadProgram | UpdateMap | DeleteKeys | Updated | Subscribe
    | MapContents | ErrorText
)  # fmt: skip


# ---------------------------------------------------------------- parts


def _pack_map(name: MapName) -> bytes:
    encoded = name.name.encode()
    if len(encoded) > NAME_SIZE:
        fail("OFPBRC_BAD_LEN", f"a map's name has at most {NAME_SIZE} bytes")
    return _MAP.pack(name.program, name.number, encoded)


def _unpack_map(data: bytes) -> MapName:
    program, number, name = take(_MAP, data, "a map")
    return MapName(program, number, name.rstrip(b"\0").decode("utf-8", "replace"))


def _pack_entries(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([part for entry in entries for part in entry])


def _unpack_entries(data: bytes, key_size: int, value_size: int, n: int) -> Entries:
    size = key_size + value_size
    if size * n != len(data) or (n and not size):
        fail("OFPBRC_BAD_LEN", f"{n} entries of {size} bytes do not make {len(data)} bytes")
    cut = key_size
    return tuple(
        (data[at : at + cut], data[at + cut : at + size]) for at in range(0, len(data), size or 1)
    )


# ---------------------------------------------------------------- messages


def encode(version: int, message: Message, xid: int = 0) -> bytes:
    """A message of oko's; OpenFlowError if it is too long (then send it in chunks)."""
    kind, body = _pack(message)
    return experimenter_message(version, xid, OKO, kind, body)


def _pack(message: Message) -> tuple[int, bytes]:
    match message:
        case Hello():
            return HELLO, _HELLO.pack(message.version, 0, message.capabilities)
        case LoadProgram():
            head = _LOAD.pack(message.program, message.flags, message.total, message.offset)
            return LOAD, head + message.data
        case Loaded():
            return LOADED, _LOADED.pack(message.program, 0)
        case UnloadProgram():
            return UNLOAD, _LOADED.pack(message.program, message.flags)
        case UpdateMap():
            head = _UPDATE.pack(
                message.flags, message.key_size, message.value_size, len(message.entries)
            )
            return UPDATE_MAP, _pack_map(message.map) + head + _pack_entries(message.entries)
        case DeleteKeys():
            head = _DELETE.pack(message.flags, message.key_size, len(message.keys))
            return DELETE_KEYS, _pack_map(message.map) + head + b"".join(message.keys)
        case Updated():
            return UPDATED, _UPDATED.pack(message.program, message.map, message.n)
        case Subscribe():
            n = len(message.maps)
            head = _SUBSCRIBE.pack(message.program, message.flags, message.interval, n)
            return SUBSCRIBE, head + struct.pack(f"!{n}H", *message.maps)
        case MapContents():
            head = _SEND.pack(
                message.flags, message.table, message.priority, message.cookie, message.ns,
                message.key_size, message.value_size, len(message.entries),
            )  # fmt: skip
            return SEND_MAPS, _pack_map(message.map) + head + _pack_entries(message.entries)
        case ErrorText():
            data = message.text.encode()
            flags = TRUNCATED if message.truncated or len(data) > MAX_TEXT else 0
            return ERROR_TEXT, _ERROR.pack(flags) + data[:MAX_TEXT]


def decode(msg: bytes) -> Message:
    """The message of oko's in this experimenter message (any version)."""
    if len(msg) < _HEADS:
        fail("OFPBRC_BAD_LEN", "an experimenter message is too short for its type")
    experimenter, kind = struct.unpack_from("!II", msg, HEADER_SIZE)
    if experimenter != OKO:
        fail("OFPBRC_BAD_VENDOR", f"experimenter {experimenter:#x} is not oko")
    decoder = _DECODERS.get(kind)
    if decoder is None:
        fail("OFPBRC_BAD_SUBTYPE", f"there is no message {kind} of oko's")
    return decoder(msg[_HEADS:])


def _exactly(form: struct.Struct, body: bytes, what: str) -> tuple[int, ...]:
    if len(body) != form.size:
        fail("OFPBRC_BAD_LEN", f"{what} has {form.size} bytes, not {len(body)}")
    return form.unpack(body)


def _hello(body: bytes) -> Hello:
    version, _, capabilities = take(_HELLO, body, "hello")  # later versions may have more
    return Hello(capabilities, version)


def _load(body: bytes) -> LoadProgram:
    program, flags, total, offset = take(_LOAD, body, "load")
    data = body[_LOAD.size :]
    if flags & ~CREATE_ONLY:
        fail("OFPBRC_BAD_LEN", f"unknown flags {flags:#x} in load")
    if not data or offset + len(data) > total:
        fail("OFPBRC_BAD_LEN", f"{len(data)} bytes at {offset} are no part of {total} bytes")
    if total > MAX_ELF:
        fail("OFPBRC_BAD_LEN", f"an object of {total} bytes is too large")
    return LoadProgram(program, total, offset, data, flags)


def _loaded(body: bytes) -> Loaded:
    return Loaded(_exactly(_LOADED, body, "the answer to load")[0])


def _unload(body: bytes) -> UnloadProgram:
    program, flags = _exactly(_LOADED, body, "unload")
    if flags & ~FORCE:
        fail("OFPBRC_BAD_LEN", f"unknown flags {flags:#x} in unload")
    return UnloadProgram(program, flags)


def _update(body: bytes) -> UpdateMap:
    name, rest = _unpack_map(body), body[_MAP.size :]
    flags, key_size, value_size, n = take(_UPDATE, rest, "update")
    if flags & ~(_MUST | REPLACE | MORE) or flags & _MUST == _MUST:
        fail("OFPBRC_BAD_LEN", f"unknown flags {flags:#x} in update")
    entries = _unpack_entries(rest[_UPDATE.size :], key_size, value_size, n)
    return UpdateMap(name, key_size, value_size, entries, flags)


def _delete(body: bytes) -> DeleteKeys:
    name, rest = _unpack_map(body), body[_MAP.size :]
    flags, key_size, n = take(_DELETE, rest, "delete")
    if flags & ~MORE:
        fail("OFPBRC_BAD_LEN", f"unknown flags {flags:#x} in delete")
    entries = _unpack_entries(rest[_DELETE.size :], key_size, 0, n)
    return DeleteKeys(name, key_size, tuple(key for key, _ in entries), flags)


def _updated(body: bytes) -> Updated:
    return Updated(*_exactly(_UPDATED, body, "the answer to update"))


def _subscribe(body: bytes) -> Subscribe:
    program, flags, interval, n = take(_SUBSCRIBE, body, "subscribe")
    if len(body) != _SUBSCRIBE.size + 2 * n or flags & ~UNSUBSCRIBE:
        fail("OFPBRC_BAD_LEN", f"subscribe does not have the length for {n} maps")
    return Subscribe(program, interval, struct.unpack_from(f"!{n}H", body, _SUBSCRIBE.size), flags)


def _contents(body: bytes) -> MapContents:
    name, rest = _unpack_map(body), body[_MAP.size :]
    flags, table, priority, cookie, ns, key_size, value_size, n = take(_SEND, rest, "send_maps")
    entries = _unpack_entries(rest[_SEND.size :], key_size, value_size, n)
    return MapContents(name, key_size, value_size, entries, table, priority, cookie, ns, flags)


def _error_text(body: bytes) -> ErrorText:
    (flags,) = take(_ERROR, body, "an error text")
    return ErrorText(body[_ERROR.size :].decode("utf-8", "replace"), bool(flags & TRUNCATED))


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    HELLO: _hello,
    LOAD: _load,
    LOADED: _loaded,
    UNLOAD: _unload,
    UPDATE_MAP: _update,
    DELETE_KEYS: _delete,
    UPDATED: _updated,
    SUBSCRIBE: _subscribe,
    SEND_MAPS: _contents,
    ERROR_TEXT: _error_text,
}


# ---------------------------------------------------------------- chunks


def load_chunks(program: int, elf: bytes, flags: int = 0) -> Iterator[LoadProgram]:
    """An ELF as messages that fit."""
    room = MAX_MESSAGE - _HEADS - _LOAD.size
    for at in range(0, max(1, len(elf)), room):
        yield LoadProgram(program, len(elf), at, elf[at : at + room], flags)


def update_chunks(
    name: MapName,
    key_size: int,
    value_size: int,
    entries: Iterable[tuple[bytes, bytes]],
    flags: int = ANY,
) -> Iterator[UpdateMap]:
    """Entries as messages that fit, all but the last with MORE; at least one."""
    room = MAX_MESSAGE - _HEADS - _MAP.size - _UPDATE.size
    for part, more in _parts(entries, room // max(1, key_size + value_size)):
        yield UpdateMap(name, key_size, value_size, part, flags | (MORE if more else 0))


def contents_chunks(
    first: MapContents, entries: Iterable[tuple[bytes, bytes]]
) -> Iterator[MapContents]:
    """Entries as messages like the first one, all but the last with MORE; at least one."""
    room = MAX_MESSAGE - _HEADS - _MAP.size - _SEND.size
    for part, more in _parts(entries, room // max(1, first.key_size + first.value_size)):
        yield replace(first, entries=part, flags=MORE if more else 0)


def delete_chunks(name: MapName, key_size: int, keys: Iterable[bytes]) -> Iterator[DeleteKeys]:
    """Keys as messages that fit, all but the last with MORE; at least one."""
    room = MAX_MESSAGE - _HEADS - _MAP.size - _DELETE.size
    for part, more in _parts(((key, b"") for key in keys), room // max(1, key_size)):
        yield DeleteKeys(name, key_size, tuple(key for key, _ in part), MORE if more else 0)


def _parts(entries: Iterable[tuple[bytes, bytes]], n: int) -> Iterator[tuple[Entries, bool]]:
    """(at most n entries, whether more follow); at least one."""
    if n < 1:
        fail("OFPBRC_BAD_LEN", "an entry of this map does not fit into a message")
    held: list[tuple[bytes, bytes]] = []
    for entry in entries:
        if len(held) == n:
            yield tuple(held), True
            held = []
        held.append(entry)
    yield tuple(held), False


# ---------------------------------------------------------------- multiparts

_PREFIX_FORM = struct.Struct("!II")
_SHOW_REQUEST = struct.Struct("!HH")
_PROGRAM = struct.Struct("!HHIIIIQQQQ32s")
_MAP_ENTRY = struct.Struct("!HHIIIIQ32s")


@dataclass(frozen=True, slots=True)
class MapEntry:
    """A map in a list of programs. type: enum oko_map_type; memory in bytes."""

    number: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    n_entries: int
    memory: int


@dataclass(frozen=True, slots=True)
class ProgramEntry:
    """A program in a list. loaded_at: ns since 1970; size of the ELF in bytes; owner: who loaded
    it, such as "tcp:127.0.0.1:4711"."""

    number: int
    name: str
    owner: str
    sha256: bytes
    loaded_at: int
    size: int
    n_insns: int
    n_flows: int
    runs: int
    matches: int
    faults: int
    maps: tuple[MapEntry, ...] = ()


def encode_show_request(version: int, program: int = 0, xid: int = 0) -> bytes:
    """Asks for the programs; 0: all."""
    body = _PREFIX_FORM.pack(OKO, MP_SHOW) + _SHOW_REQUEST.pack(program, 0)
    return encode_multipart(version, xid, MP_EXPERIMENTER, body)


def encode_dump_request(version: int, name: MapName, xid: int = 0) -> bytes:
    """Asks for the contents of a map."""
    body = _PREFIX_FORM.pack(OKO, MP_DUMP_MAP) + _pack_map(name)
    return encode_multipart(version, xid, MP_EXPERIMENTER, body)


def encode_types_request(version: int, name: MapName, xid: int = 0) -> bytes:
    """Asks for the types of a map's keys and values."""
    body = _PREFIX_FORM.pack(OKO, MP_MAP_TYPES) + _pack_map(name)
    return encode_multipart(version, xid, MP_EXPERIMENTER, body)


@dataclass(frozen=True, slots=True)
class TypesOf:
    """A request for the types of a map."""

    map: MapName


def decode_request(version: int, msg: bytes) -> int | MapName | TypesOf:
    """A multipart request of oko's: the program to show (0: all), the map to dump, or the one whose
    types are asked for."""
    kind, body = _split(version, msg)
    if kind == MP_SHOW:
        return _exactly(_SHOW_REQUEST, body, "a request to show programs")[0]
    if len(body) != _MAP.size:
        fail("OFPBRC_BAD_LEN", f"a request about a map has {_MAP.size} bytes")
    return _unpack_map(body) if kind == MP_DUMP_MAP else TypesOf(_unpack_map(body))


def _split(version: int, msg: bytes) -> tuple[int, bytes]:
    part = decode_multipart(version, msg[HEADER_SIZE:])
    if part.type != MP_EXPERIMENTER:
        fail("OFPBRC_BAD_STAT", f"multipart {part.type} is not an experimenter's")
    experimenter, kind = take(_PREFIX_FORM, part.body, "an experimenter's multipart")
    if experimenter != OKO:
        fail("OFPBRC_BAD_VENDOR", f"experimenter {experimenter:#x} is not oko")
    if kind not in (MP_SHOW, MP_DUMP_MAP, MP_MAP_TYPES):
        fail("OFPBRC_BAD_SUBTYPE", f"there is no multipart {kind} of oko's")
    return kind, part.body[_PREFIX_FORM.size :]


def _name(text: str, size: int) -> bytes:
    return text.encode()[:size]


def encode_program(entry: ProgramEntry) -> bytes:
    """One entry of a SHOW reply: u16 length, then as ProgramEntry."""
    name, owner = _name(entry.name, 255), _name(entry.owner, 255)
    maps = b"".join(
        _MAP_ENTRY.pack(
            m.number, m.type, m.key_size, m.value_size, m.max_entries, m.n_entries, m.memory,
            _name(m.name, NAME_SIZE),
        )
        for m in entry.maps
    )  # fmt: skip
    size = _PROGRAM.size + 4 + len(name) + len(owner) + len(maps)
    head = _PROGRAM.pack(
        size, entry.number, entry.size, entry.n_insns, entry.n_flows, len(entry.maps),
        entry.loaded_at, entry.runs, entry.matches, entry.faults, entry.sha256,
    )  # fmt: skip
    return head + struct.pack("!HH", len(name), len(owner)) + name + owner + maps


def show_replies(version: int, xid: int, programs: Iterable[ProgramEntry]) -> Iterator[bytes]:
    """The replies to a request to show programs."""
    prefix = _PREFIX_FORM.pack(OKO, MP_SHOW)
    return multipart_replies(version, xid, MP_EXPERIMENTER, map(encode_program, programs), prefix)


def decode_programs(version: int, msg: bytes) -> list[ProgramEntry]:
    """The entries of one SHOW reply."""
    kind, body = _split(version, msg)
    if kind != MP_SHOW:
        fail("OFPBRC_BAD_SUBTYPE", "this reply does not show programs")
    result = []
    at = 0
    while at < len(body):
        (size, number, elf_size, n_insns, n_flows, n_maps, loaded_at, runs, matches, faults,
         sha256) = take(_PROGRAM, body[at:], "a program")  # fmt: skip
        entry = body[at : at + size]
        names = entry[_PROGRAM.size :]
        n_name, n_owner = take(_LOADED, names, "a program's names")
        maps = names[4 + n_name + n_owner :]
        if len(entry) < size or len(maps) != n_maps * _MAP_ENTRY.size:
            fail("OFPBRC_BAD_LEN", f"a program's entry cannot have {size} bytes")
        result.append(
            ProgramEntry(
                number,
                names[4 : 4 + n_name].decode("utf-8", "replace"),
                names[4 + n_name : 4 + n_name + n_owner].decode("utf-8", "replace"),
                sha256,
                loaded_at,
                elf_size,
                n_insns,
                n_flows,
                runs,
                matches,
                faults,
                tuple(_decode_map_entry(*row) for row in _MAP_ENTRY.iter_unpack(maps)),
            )
        )
        at += size
    return result


def _decode_map_entry(
    number: int, kind: int, key: int, value: int, most: int, now: int, memory: int, name: bytes
) -> MapEntry:
    text = name.rstrip(b"\0").decode("utf-8", "replace")
    return MapEntry(number, text, kind, key, value, most, now, memory)


@dataclass(frozen=True, slots=True)
class MapDump:
    """(Some of) the contents of a map."""

    map: MapName
    key_size: int
    value_size: int
    entries: Entries


def dump_replies(
    version: int,
    xid: int,
    name: MapName,
    key_size: int,
    value_size: int,
    entries: Iterable[tuple[bytes, bytes]],
) -> Iterator[bytes]:
    """The replies to a request to dump a map; at least one."""
    prefix = _PREFIX_FORM.pack(OKO, MP_DUMP_MAP) + _pack_map(name)
    room = MAX_MESSAGE - HEADER_SIZE - 8 - len(prefix) - _DUMP.size
    for part, more in _parts(entries, room // max(1, key_size + value_size)):
        body = prefix + _DUMP.pack(key_size, value_size, len(part)) + _pack_entries(part)
        yield encode_multipart(version, xid, MP_EXPERIMENTER, body, reply=True, more=more)


def decode_dump(version: int, msg: bytes) -> MapDump:
    """One reply to a request to dump a map."""
    kind, body = _split(version, msg)
    if kind != MP_DUMP_MAP:
        fail("OFPBRC_BAD_SUBTYPE", "this reply does not dump a map")
    name, rest = _unpack_map(body), body[_MAP.size :]
    key_size, value_size, n = take(_DUMP, rest, "a map's contents")
    entries = _unpack_entries(rest[_DUMP.size :], key_size, value_size, n)
    return MapDump(name, key_size, value_size, entries)


def types_replies(version: int, xid: int, name: MapName, text: bytes) -> Iterator[bytes]:
    """The replies to a request for the types of a map."""
    prefix = _PREFIX_FORM.pack(OKO, MP_MAP_TYPES) + _pack_map(name)
    room = MAX_MESSAGE - HEADER_SIZE - 8 - len(prefix)
    for at in range(0, max(1, len(text)), room):
        body = prefix + text[at : at + room]
        more = at + room < len(text)
        yield encode_multipart(version, xid, MP_EXPERIMENTER, body, reply=True, more=more)


def decode_types(version: int, msg: bytes) -> bytes:
    """(Some of) the text in one reply to a request for types."""
    kind, body = _split(version, msg)
    if kind != MP_MAP_TYPES:
        fail("OFPBRC_BAD_SUBTYPE", "this reply does not tell types")
    _unpack_map(body)
    return body[_MAP.size :]
