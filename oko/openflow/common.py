"""What all OpenFlow messages share: versions, the header, types, errors, multiparts, ports.

A message is `bytes` with its 8-byte header; `split_header` checks version and length, and all
decoders take whole messages. Numbers of ports are 32 bits wide everywhere above this module;
OpenFlow 1.0 has 16, with its reserved ports at 0xfff8 and up.

Pure functions and constants: any thread may call anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from oko.errors import OkoError
from oko.openflow.error_names import ALIASES, INSTEAD, TABLE

OF10, OF13, OF14, OF15 = 1, 4, 5, 6
VERSIONS = (OF10, OF13, OF14, OF15)
VERSION_NAMES = {OF10: "1.0", OF13: "1.3", OF14: "1.4", OF15: "1.5"}

NICIRA = 0x00002320
ONF = 0x4F4E4600
OKO = 0x4F4B4F00
"""Experimenter ids; OKO is ours, unregistered, and this is the one place to change it."""

HEADER = struct.Struct("!BBHI")  # version, type, length, xid
HEADER_SIZE = 8
MAX_MESSAGE = 0xFFFF

# Message types with one number in all versions (OpenFlow 1.3.5, 7.1; 1.0, 5.1).
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER = range(5)
FEATURES_REQUEST, FEATURES_REPLY, GET_CONFIG_REQUEST, GET_CONFIG_REPLY, SET_CONFIG = range(5, 10)
PACKET_IN, FLOW_REMOVED, PORT_STATUS, PACKET_OUT, FLOW_MOD = range(10, 15)

_COMMON_TYPES = (
    "HELLO", "ERROR", "ECHO_REQUEST", "ECHO_REPLY", "EXPERIMENTER", "FEATURES_REQUEST",
    "FEATURES_REPLY", "GET_CONFIG_REQUEST", "GET_CONFIG_REPLY", "SET_CONFIG", "PACKET_IN",
    "FLOW_REMOVED", "PORT_STATUS", "PACKET_OUT", "FLOW_MOD",
)  # fmt: skip
_TYPES_10 = (
    *_COMMON_TYPES, "PORT_MOD", "MULTIPART_REQUEST", "MULTIPART_REPLY", "BARRIER_REQUEST",
    "BARRIER_REPLY", "QUEUE_GET_CONFIG_REQUEST", "QUEUE_GET_CONFIG_REPLY",
)  # fmt: skip
_TYPES_13 = (
    *_COMMON_TYPES, "GROUP_MOD", "PORT_MOD", "TABLE_MOD", "MULTIPART_REQUEST", "MULTIPART_REPLY",
    "BARRIER_REQUEST", "BARRIER_REPLY", "QUEUE_GET_CONFIG_REQUEST", "QUEUE_GET_CONFIG_REPLY",
    "ROLE_REQUEST", "ROLE_REPLY", "GET_ASYNC_REQUEST", "GET_ASYNC_REPLY", "SET_ASYNC", "METER_MOD",
)  # fmt: skip
_TYPES_14 = (*_TYPES_13, "ROLE_STATUS", "TABLE_STATUS", "REQUESTFORWARD", "BUNDLE_CONTROL",
             "BUNDLE_ADD_MESSAGE")  # fmt: skip
_TYPES_15 = (*_TYPES_14, "CONTROLLER_STATUS")

TYPE_NAMES: dict[int, tuple[str, ...]] = {
    OF10: _TYPES_10,
    OF13: _TYPES_13,
    OF14: _TYPES_14,
    OF15: _TYPES_15,
}
"""By version: the names of its message types, in the order of their numbers. 1.0's statistics
messages are called MULTIPART_* here too."""

TYPES: dict[int, dict[str, int]] = {
    version: {name: number for number, name in enumerate(names)}
    for version, names in TYPE_NAMES.items()
}

# Multipart (1.0: statistics) types with one number in all versions that have them.
MP_DESC, MP_FLOW, MP_AGGREGATE, MP_TABLE, MP_PORT, MP_QUEUE = range(6)
MP_GROUP, MP_GROUP_DESC, MP_GROUP_FEATURES = 6, 7, 8
MP_METER, MP_METER_CONFIG, MP_METER_FEATURES = 9, 10, 11
MP_TABLE_FEATURES, MP_PORT_DESC, MP_TABLE_DESC, MP_QUEUE_DESC, MP_FLOW_MONITOR = 12, 13, 14, 15, 16
MP_FLOW_STATS_15 = 17  # OFPMP_FLOW_STATS of 1.5, where 1 is OFPMP_FLOW_DESC
MP_EXPERIMENTER = 0xFFFF
REPLY_MORE = 1


# ---------------------------------------------------------------- errors


class OpenFlowError(OkoError):
    """A message is malformed or asks for something that cannot be. name: "OFPBMC_BAD_FIELD"."""

    def __init__(self, name: str, message: str, hint: str = "") -> None:
        super().__init__(f"{name}: {message}", hint)
        self.name = name


def fail(name: str, message: str, hint: str = "") -> NoReturn:
    """Raises OpenFlowError."""
    raise OpenFlowError(name, message, hint)


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """The numbers of an error. experimenter: 0 for those of the standard."""

    experimenter: int
    type: int
    code: int


_EXPERIMENTERS = {"N": NICIRA, "O": ONF}


def _read_table() -> dict[int, dict[str, ErrorCode]]:
    codes: dict[int, dict[str, ErrorCode]] = {version: {} for version in VERSIONS}
    for line in TABLE.split("\n"):
        if not line:
            continue
        name, *cells = line.split()
        for version, cell in zip(VERSIONS, cells, strict=True):
            if cell != "-":
                number, _, code = cell.lstrip("NO").partition("/")
                experimenter = _EXPERIMENTERS.get(cell[0], 0)
                codes[version][name] = ErrorCode(experimenter, int(number), int(code or 0))
    return codes


ERRORS: dict[int, dict[str, ErrorCode]] = _read_table()
"""By version: the numbers of each error that it has."""

_ERROR_NAMES = {
    version: {code: name for name, code in reversed(codes.items())}
    for version, codes in ERRORS.items()
}
_NICIRA_ERROR_10 = 0xB0C2  # NXVEC_VENDOR_ERROR: in 1.0, errors of Nicira follow a type and code
_EXPERIMENTER_ERROR = 0xFFFF


def error_code(version: int, name: str) -> ErrorCode:
    """The numbers of an error, or of the nearest one that the version has."""
    codes = ERRORS[version]
    name = ALIASES.get(name, name)
    if name not in codes:
        name = INSTEAD.get(name, "NXBRC_UNENCODABLE_ERROR")
    return codes.get(name) or codes["NXBRC_UNENCODABLE_ERROR"]


def encode_error(version: int, xid: int, name: str, data: bytes) -> bytes:
    """OFPT_ERROR. data: the message that failed; as much of it goes along as there is room."""
    found = error_code(version, name)
    if not found.experimenter:
        head = struct.pack("!HH", found.type, found.code)
    elif version == OF10:
        head = struct.pack(
            "!HHIHH", _NICIRA_ERROR_10, 0, found.experimenter, found.type, found.code
        )
    else:
        head = struct.pack("!HHI", _EXPERIMENTER_ERROR, found.type, found.experimenter)
    return message(version, ERROR, xid, head + data[: MAX_MESSAGE - HEADER_SIZE - len(head)])


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """OFPT_ERROR. name: as in the table, or "type/code" for one that is not there."""

    name: str
    data: bytes


def decode_error(version: int, msg: bytes) -> ErrorMessage:
    """The inverse of encode_error()."""
    if len(msg) < 12:
        fail("OFPBRC_BAD_LEN", "an error message has at least 12 bytes")
    kind, code = struct.unpack_from("!HH", msg, 8)
    found, data = ErrorCode(0, kind, code), msg[12:]
    if version == OF10 and (kind, code) == (_NICIRA_ERROR_10, 0) and len(msg) >= 20:
        found, data = ErrorCode(*struct.unpack_from("!IHH", msg, 12)), msg[20:]
    elif version != OF10 and kind == _EXPERIMENTER_ERROR and len(msg) >= 16:
        found, data = ErrorCode(struct.unpack_from("!I", msg, 12)[0], code, 0), msg[16:]
    name = _ERROR_NAMES[version].get(found)
    if name is None:
        name = f"{found.type}/{found.code}"
        if found.experimenter:
            name = f"{found.experimenter:#x}/{name}"
    return ErrorMessage(name, data)


# ---------------------------------------------------------------- messages


def message(version: int, kind: int, xid: int, body: bytes = b"") -> bytes:
    """A message: the header and what follows it. More than 65,535 bytes cannot be sent."""
    size = HEADER_SIZE + len(body)
    if size > MAX_MESSAGE:
        fail("OFPBRC_BAD_LEN", f"a message of {size} bytes is longer than OpenFlow can say")
    return HEADER.pack(version, kind, size, xid) + body


def experimenter_message(
    version: int, xid: int, experimenter: int, kind: int, body: bytes = b""
) -> bytes:
    """OFPT_EXPERIMENTER (1.0: OFPT_VENDOR) with its 32-bit type."""
    head = struct.pack("!II", experimenter, kind)
    return message(version, EXPERIMENTER, xid, head + body)


def split_header(data: bytes) -> tuple[int, int, int, bytes]:
    """(version, type, xid, body) of a whole message."""
    if len(data) < HEADER_SIZE:
        fail("OFPBRC_BAD_LEN", f"a message has at least {HEADER_SIZE} bytes, this one {len(data)}")
    version, kind, size, xid = HEADER.unpack_from(data)
    if size != len(data):
        fail("OFPBRC_BAD_LEN", f"the header says {size} bytes, there are {len(data)}")
    return version, kind, xid, data[HEADER_SIZE:]


def take(
    form: struct.Struct, data: bytes, what: str, name: str = "OFPBRC_BAD_LEN"
) -> tuple[Any, ...]:
    """The fields at the start of data; OpenFlowError if it is too short for them."""
    if len(data) < form.size:
        fail(name, f"{what} needs {form.size} bytes, there are {len(data)}")
    return form.unpack_from(data)


# ---------------------------------------------------------------- multipart framing

_MP_10 = struct.Struct("!HH")  # type, flags
_MP_13 = struct.Struct("!HH4x")


@dataclass(frozen=True, slots=True)
class Multipart:
    """A multipart request or reply without its header."""

    type: int
    more: bool
    body: bytes


def decode_multipart(version: int, body: bytes) -> Multipart:
    """What follows the OpenFlow header of a multipart (1.0: statistics) message."""
    form = _MP_10 if version == OF10 else _MP_13
    kind, flags = take(form, body, "a multipart message")
    return Multipart(kind, bool(flags & REPLY_MORE), body[form.size :])


def encode_multipart(
    version: int, xid: int, kind: int, body: bytes = b"", *, reply: bool = False, more: bool = False
) -> bytes:
    """One multipart message."""
    form = _MP_10 if version == OF10 else _MP_13
    number = TYPES[version]["MULTIPART_REPLY" if reply else "MULTIPART_REQUEST"]
    return message(version, number, xid, form.pack(kind, int(more)) + body)


def multipart_replies(
    version: int, xid: int, kind: int, entries: Iterable[bytes], prefix: bytes = b""
) -> Iterator[bytes]:
    """As few replies as hold the entries, in order; at least one, all but the last with MORE.

    prefix stands at the start of each body (an experimenter's id and type). An entry is never
    split; one that no message can hold raises OpenFlowError.
    """
    form = _MP_10 if version == OF10 else _MP_13
    room = MAX_MESSAGE - HEADER_SIZE - form.size - len(prefix)
    parts: list[bytes] = []
    size = 0
    for entry in entries:
        if size + len(entry) > room and parts:
            body = prefix + b"".join(parts)
            yield encode_multipart(version, xid, kind, body, reply=True, more=True)
            parts, size = [], 0
        parts.append(entry)
        size += len(entry)
    yield encode_multipart(version, xid, kind, prefix + b"".join(parts), reply=True)


def sized_entries(body: bytes, least: int, at_size: int = 0) -> Iterator[bytes]:
    """The entries of a reply's body, each of which has its size in 16 bits at this offset and at
    least so many bytes. OpenFlowError (BAD_LEN): they do not fill the body."""
    at = 0
    while at < len(body):
        if len(body) - at < least:
            fail("OFPBRC_BAD_LEN", "the reply ends inside of an entry")
        size = int.from_bytes(body[at + at_size : at + at_size + 2], "big")
        if size < least or size > len(body) - at:
            fail("OFPBRC_BAD_LEN", f"an entry cannot have {size} bytes here")
        yield body[at : at + size]
        at += size


# ---------------------------------------------------------------- ports


def port_from_10(port: int) -> int:
    """A 16-bit port number of OpenFlow 1.0 as one of 32 bits."""
    return port | 0xFFFF0000 if port >= 0xFFF8 else port


def port_to_10(port: int) -> int:
    """A 32-bit port number as one of 16 bits; OpenFlowError for ports that 1.0 cannot name."""
    if port >= 0xFFFFFFF8:
        return port & 0xFFFF
    if port >= 0xFF00:
        fail("OFPBRC_BAD_PORT", f"port {port} has no number in OpenFlow 1.0")
    return port


def padded(data: bytes, to: int = 8) -> bytes:
    """The data, filled up with zeroes to a multiple of `to` bytes."""
    return data + bytes(-len(data) % to)
