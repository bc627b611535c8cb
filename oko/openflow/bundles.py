"""Bundles: several messages that take effect together (1.4.1, 7.3.9; ONF extension 230 in 1.3).

Both forms have the same bodies. A message inside a bundle carries a header of its own, with the
version and xid of the BUNDLE_ADD_MESSAGE that brings it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from oko.openflow.common import (
    EXPERIMENTER,
    OF10,
    OF14,
    ONF,
    TYPES,
    experimenter_message,
    fail,
    message,
    split_header,
    take,
)

ONF_CONTROL, ONF_ADD = 2300, 2301
OPEN_REQUEST, OPEN_REPLY, CLOSE_REQUEST, CLOSE_REPLY = 0, 1, 2, 3
COMMIT_REQUEST, COMMIT_REPLY, DISCARD_REQUEST, DISCARD_REPLY = 4, 5, 6, 7
ATOMIC, ORDERED = 1, 2
_CONTROL = struct.Struct("!IHH")
_ADD = struct.Struct("!I2xH")
_ADD_WHOLE = struct.Struct("!I2xHBxH4s")  # with the header of the message inside


@dataclass(frozen=True, slots=True)
class BundleControl:
    """Opens, closes, commits or discards a bundle, or says that this was done. type: *_REQUEST or
    *_REPLY; flags: ATOMIC, ORDERED."""

    id: int
    type: int
    flags: int = ATOMIC | ORDERED


class BundleAdd(NamedTuple):
    """A message for a bundle, whole, with its header."""

    id: int
    message: bytes
    flags: int = ATOMIC | ORDERED


def encode_bundle_control(version: int, control: BundleControl, xid: int = 0) -> bytes:
    """BUNDLE_CONTROL, or ONF's in 1.3."""
    body = _CONTROL.pack(control.id, control.type, control.flags)
    return _encode(version, "BUNDLE_CONTROL", ONF_CONTROL, xid, body)


def encode_bundle_add(version: int, add: BundleAdd, xid: int = 0) -> bytes:
    """BUNDLE_ADD_MESSAGE, or ONF's in 1.3. The message inside gets its xid."""
    inside = add.message[:4] + xid.to_bytes(4, "big") + add.message[8:]
    return _encode(
        version, "BUNDLE_ADD_MESSAGE", ONF_ADD, xid, _ADD.pack(add.id, add.flags) + inside
    )


def _encode(version: int, name: str, experimental: int, xid: int, body: bytes) -> bytes:
    if version == OF10:
        fail("OFPBRC_BAD_TYPE", "OpenFlow 1.0 has no bundles")
    if version >= OF14:
        return message(version, TYPES[version][name], xid, body)
    return experimenter_message(version, xid, ONF, experimental, body)


def _body(msg: bytes) -> bytes:
    return msg[16:] if msg[1] == EXPERIMENTER else msg[8:]


def decode_bundle_control(msg: bytes) -> BundleControl:
    """Either form, in any version."""
    return BundleControl(*take(_CONTROL, _body(msg), "a bundle control message"))


def decode_bundle_add(msg: bytes) -> BundleAdd:
    """Either form. OpenFlowError: what it brings is no whole message of this version and xid."""
    at = 16 if msg[1] == EXPERIMENTER else 8
    if len(msg) >= at + 16:
        number, flags, version, size, xid = _ADD_WHOLE.unpack_from(msg, at)
        if version == msg[0] and 8 <= size <= len(msg) - at - 8 and xid == msg[4:8]:
            return BundleAdd(number, msg[at + 8 : at + 8 + size], flags)
    body = _body(msg)
    number, flags = take(_ADD, body, "a message for a bundle")
    rest = body[_ADD.size :]
    if len(rest) < 8:
        fail("OFPBFC_MSG_BAD_LEN", "there is no message in it")
    size = int.from_bytes(rest[2:4], "big")
    if not 8 <= size <= len(rest):
        fail("OFPBFC_MSG_BAD_LEN", f"the message in it cannot have {size} bytes")
    inside = rest[:size]
    version, _, xid, _ = split_header(inside)
    if version != msg[0]:
        fail("OFPBRC_BAD_VERSION", "the message in it is of another version")
    if xid != int.from_bytes(msg[4:8], "big"):
        fail("OFPBFC_MSG_BAD_XID", "the message in it has another xid")
    return BundleAdd(number, inside, flags)
