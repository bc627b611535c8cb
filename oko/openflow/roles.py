"""What a controller is and what it wants to hear: roles and asynchronous configuration.

Masks of reasons per kind of event, one for masters and equals, one for slaves (1.3.5, 7.3.10);
1.4 puts each into a property and adds kinds. Nicira's forms are those of 1.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from oko.openflow.common import (
    NICIRA,
    OF10,
    OF14,
    TYPES,
    OpenFlowError,
    experimenter_message,
    fail,
    message,
    take,
)
from oko.openflow.port_messages import properties

NOCHANGE, EQUAL, MASTER, SLAVE = range(4)
ROLE_NAMES = ("nochange", "equal", "master", "slave")
NXT_ROLE_REQUEST, NXT_ROLE_REPLY, NXT_SET_ASYNC_CONFIG, NXT_SET_ASYNC_CONFIG2 = 10, 11, 19, 27

# ---------------------------------------------------------------- roles

_ROLE = struct.Struct("!I4xQ")
_NX_ROLE = struct.Struct("!I")
_STATUS = struct.Struct("!IB3xQ")


@dataclass(frozen=True, slots=True)
class Role:
    """A request or reply. generation: of the election, None where Nicira's form has none."""

    role: int
    generation: int | None = None


def encode_role(version: int, xid: int, role: Role, *, reply: bool = True) -> bytes:
    """ROLE_REPLY, or ROLE_REQUEST; in 1.0 by Nicira's messages, which have no NOCHANGE."""
    if version == OF10:
        kind = NXT_ROLE_REPLY if reply else NXT_ROLE_REQUEST
        return experimenter_message(version, xid, NICIRA, kind, _NX_ROLE.pack(role.role - 1))
    kind = TYPES[version]["ROLE_REPLY" if reply else "ROLE_REQUEST"]
    generation = (1 << 64) - 1 if role.generation is None else role.generation
    return message(version, kind, xid, _ROLE.pack(role.role, generation))


def decode_role(version: int, msg: bytes) -> Role:
    """Any of them."""
    if msg[1] == 4:  # Nicira's
        (number,) = take(_NX_ROLE, msg[16:], "a role request")
        if number > 2:
            fail("OFPRRFC_BAD_ROLE", f"there is no role {number}")
        return Role(number + 1)
    role, generation = take(_ROLE, msg[8:], "a role request")
    if role > SLAVE:
        fail("OFPRRFC_BAD_ROLE", f"there is no role {role}")
    return Role(role, generation)


ROLE_MASTER_REQUEST = 0  # OFPCRR_*: another controller became master


def encode_role_status(version: int, role: int, reason: int, generation: int) -> bytes:
    """ROLE_STATUS (1.4): the switch changed a controller's role."""
    body = _STATUS.pack(role, reason, generation)
    return message(version, TYPES[version]["ROLE_STATUS"], 0, body)


def decode_role_status(msg: bytes) -> tuple[int, int, int]:
    """(role, reason, generation)."""
    role, reason, generation = take(_STATUS, msg[8:], "a role status")
    return role, reason, generation


# ---------------------------------------------------------------- asynchronous configuration

PACKET_IN, PORT_STATUS, FLOW_REMOVED, ROLE_STATUS, TABLE_STATUS, REQUESTFORWARD = range(6)
_KINDS_13 = 3
_KINDS = 6
_SIX = struct.Struct("!6I")
Masks = tuple[int, int]
"""For master and equal, for slave: bit per reason."""
# 1.3.5, 6.3.4: everything but packets of invalid TTL; slaves hear of ports only.
_DEFAULT: tuple[Masks, ...] = ((0b111011, 0), (0b111, 0b111), (0b111111, 0), (7, 7), (0, 0), (0, 0))
_REASONS_14 = (0b111111, 0b111, 0b111111, 0b111, 0b11000, 0b11)


@dataclass(frozen=True, slots=True)
class AsyncConfig:
    """What is told to a controller."""

    masks: tuple[Masks, ...] = field(default=_DEFAULT)

    def hears(self, kind: int, reason: int, slave: bool) -> bool:
        """Is an event of this kind and reason for a controller of this role?"""
        return bool(self.masks[kind][slave] >> reason & 1)

    def with_masks(self, kind: int, masks: Masks) -> AsyncConfig:
        """The same but for one kind."""
        every = list(self.masks)
        every[kind] = masks
        return replace(self, masks=tuple(every))


def encode_async(version: int, xid: int, config: AsyncConfig, *, kind: str = "SET_ASYNC") -> bytes:
    """SET_ASYNC, GET_ASYNC_REPLY; in 1.0 NXT_SET_ASYNC_CONFIG."""
    if version >= OF14:
        body = b""
        for i, (master, slave) in enumerate(config.masks):
            body += struct.pack("!HHIHHI", 2 * i, 8, slave, 2 * i + 1, 8, master)
        return message(version, TYPES[version][kind], xid, body)
    body = _SIX.pack(*(mask for pair in config.masks[:_KINDS_13] for mask in pair))
    if version == OF10:
        return experimenter_message(version, xid, NICIRA, NXT_SET_ASYNC_CONFIG, body)
    return message(version, TYPES[version][kind], xid, body)


def decode_async(version: int, msg: bytes, old: AsyncConfig) -> AsyncConfig:
    """The configuration after this message of a peer that had another."""
    experimenter = msg[1] == 4
    body = msg[16:] if experimenter else msg[8:]
    modern = version >= OF14
    if experimenter:
        modern = int.from_bytes(msg[12:16], "big") == NXT_SET_ASYNC_CONFIG2
    if not modern:
        masks = take(_SIX, body, "an asynchronous configuration")
        for i in range(_KINDS_13):
            old = old.with_masks(i, (masks[2 * i], masks[2 * i + 1]))
        return old
    for kind, value in properties(body):
        i, for_master = kind >> 1, kind & 1
        if i >= _KINDS:
            raise OpenFlowError("OFPACFC_UNSUPPORTED", f"there is no property {kind} of it")
        if len(value) != 4:
            raise OpenFlowError("OFPBPC_BAD_LEN", "a mask has 4 bytes")
        mask = int.from_bytes(value, "big")
        if mask & ~_REASONS_14[i]:
            raise OpenFlowError("OFPACFC_INVALID", f"there are no reasons {mask:#x}")
        master, slave = old.masks[i]
        old = old.with_masks(i, (mask, slave) if for_master else (master, mask))
    return old
