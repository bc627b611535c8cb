"""Nicira's control messages: how a connection of OpenFlow 1.0 wants flows and packets told.

Flow-mods, statistics, packet-ins and roles of Nicira's are where the standard ones are.
"""

from __future__ import annotations

import struct

from oko.openflow.common import NICIRA, experimenter_message, fail, take

NXT_SET_FLOW_FORMAT, NXT_FLOW_MOD_TABLE_ID, NXT_SET_PACKET_IN_FORMAT = 12, 15, 16
NXT_SET_CONTROLLER_ID = 20
FLOW_FORMAT_10, FLOW_FORMAT_NXM = 0, 2
_U32 = struct.Struct("!I")
_FLAG = struct.Struct("!B7x")
_ID = struct.Struct("!6xH")


def encode_set_flow_format(version: int, form: int = FLOW_FORMAT_NXM, xid: int = 0) -> bytes:
    """NXT_SET_FLOW_FORMAT: FLOW_FORMAT_*."""
    return experimenter_message(version, xid, NICIRA, NXT_SET_FLOW_FORMAT, _U32.pack(form))


def decode_flow_format(msg: bytes) -> int:
    """NXT_SET_FLOW_FORMAT."""
    (form,) = take(_U32, msg[16:], "a flow format")
    if form not in (FLOW_FORMAT_10, FLOW_FORMAT_NXM):
        fail("OFPBRC_EPERM", f"there is no flow format {form}")
    return int(form)


def encode_flow_mod_table_id(version: int, on: bool = True, xid: int = 0) -> bytes:
    """NXT_FLOW_MOD_TABLE_ID: flow-mods of 1.0 name a table from now on."""
    return experimenter_message(version, xid, NICIRA, NXT_FLOW_MOD_TABLE_ID, _FLAG.pack(on))


def decode_flow_mod_table_id(msg: bytes) -> bool:
    """NXT_FLOW_MOD_TABLE_ID."""
    return bool(take(struct.Struct("!B"), msg[16:], "a switch")[0])


def encode_set_packet_in_format(version: int, form: int, xid: int = 0) -> bytes:
    """NXT_SET_PACKET_IN_FORMAT: packets.STANDARD, NXM or NXM2."""
    return experimenter_message(version, xid, NICIRA, NXT_SET_PACKET_IN_FORMAT, _U32.pack(form))


def decode_packet_in_format(msg: bytes) -> int:
    """NXT_SET_PACKET_IN_FORMAT."""
    (form,) = take(_U32, msg[16:], "a packet-in format")
    if form > 2:
        fail("OFPBRC_EPERM", f"there is no packet-in format {form}")
    return int(form)


def encode_set_controller_id(version: int, number: int, xid: int = 0) -> bytes:
    """NXT_SET_CONTROLLER_ID: which controller actions mean this connection."""
    return experimenter_message(version, xid, NICIRA, NXT_SET_CONTROLLER_ID, _ID.pack(number))


def decode_controller_id(msg: bytes) -> int:
    """NXT_SET_CONTROLLER_ID."""
    return int(take(_ID, msg[16:], "a controller's id")[0])
