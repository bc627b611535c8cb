"""What an action decoder knows: the version, and what the match says about packets.

Actions that write or read a field need its prerequisites, from the match or from an action before
them (push_vlan, push_mpls); without them the answer is OFPBAC_MATCH_INCONSISTENT, as Open vSwitch
has it. Buckets and packet-outs come without a match, and nothing is checked.
"""

from __future__ import annotations

import struct

from oko.model.actions import Action, SetField, Subfield
from oko.model.fields import (
    ETH_TYPE,
    IN_PORT,
    IN_PORT_16,
    IP_DSCP,
    NW_TOS,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_TCI,
    VLAN_VID,
    Field,
    Known,
    unmet,
)
from oko.openflow.common import OpenFlowError, fail, port_from_10
from oko.openflow.oxm import FILTER_PROG, header_at, wire_size


class Context:
    """State of one action list. known: None where nothing is known and nothing checked."""

    __slots__ = ("known", "version")

    def __init__(self, version: int, known: Known | None) -> None:
        self.version = version
        self.known = None if known is None else dict(known)

    def nested(self) -> Context:
        """For the actions inside of a clone: what they change is not known outside."""
        return Context(self.version, self.known)

    def need(self, f: Field) -> None:
        """Fails if the field's prerequisites are not met."""
        if self.known is not None and f.prereqs and unmet(f, self.known) is not None:
            fail("OFPBAC_MATCH_INCONSISTENT", f"an action on {f.label} needs {f.needs} matched")

    def need_tag(self) -> None:
        """Fails if packets may come without a VLAN tag."""
        if self.known is not None and not self.known.get(VLAN_VID, (0, 0))[0] & VLAN_PRESENT:
            fail("OFPBAC_MATCH_INCONSISTENT", "set_field of vlan_vid needs a VLAN tag matched")

    def need_target(self, target: Subfield) -> None:
        """Fails unless bits known only at run time may go there."""
        f = target.field
        check_writable(f)
        self.need(f)
        if f in (VLAN_TCI, VLAN_VID) and target.ofs <= 12 < target.ofs + target.n_bits:
            fail("OFPBAC_BAD_SET_ARGUMENT", "moving bits over the tag-present bit is not supported")

    def learn_tag(self) -> None:
        """From here on packets have a VLAN tag."""
        if self.known is not None:
            self.known[VLAN_VID] = (VLAN_PRESENT, VLAN_PRESENT)

    def forget_tag(self) -> None:
        """From here on they may or may not."""
        if self.known is not None:
            self.known.pop(VLAN_VID, None)
            self.known.pop(VLAN_PCP, None)

    def change_eth_type(self, eth_type: int | None) -> None:
        """Another protocol follows the Ethernet header: what was known below is void."""
        if self.known is None:
            return
        for known in list(self.known):
            if known.prereqs and known is not VLAN_PCP:
                del self.known[known]
        self.known.pop(ETH_TYPE, None)
        if eth_type is not None:
            self.known[ETH_TYPE] = (eth_type, 0xFFFF)


def check_writable(f: Field) -> None:
    """Fails if no action may change the field."""
    if not f.writable or f is FILTER_PROG:
        fail("OFPBAC_BAD_SET_ARGUMENT", f"{f.label} cannot be changed")


def field_header(data: bytes, at: int) -> tuple[Field, int]:
    """(field, offset behind it) of an OXM or NXM header without value, in an action."""
    if not any(data[at : at + 4]):  # NXM_OF_IN_PORT has a length, so this is no field
        fail("OFPBAC_BAD_SET_TYPE", "a field's header is missing")
    try:
        f, has_mask, start, _ = header_at(data, at)
    except OpenFlowError as exc:
        name = "OFPBAC_BAD_SET_TYPE" if exc.name == "OFPBMC_BAD_FIELD" else "OFPBAC_BAD_SET_LEN"
        raise OpenFlowError(name, "a field in an action: " + str(exc).split(": ", 1)[1]) from None
    if has_mask or f is FILTER_PROG:
        fail("OFPBAC_BAD_SET_TYPE", f"{f.label} cannot be named so in an action")
    return f, start


def subfield(data: bytes, at: int, ofs: int, n_bits: int) -> tuple[Subfield, int]:
    """(sub-field, offset behind its header)."""
    f, end = field_header(data, at)
    if not n_bits or ofs + n_bits > f.bits:
        fail("OFPBAC_BAD_SET_LEN", f"{f.label} has no bits {ofs} to {ofs + n_bits - 1}")
    return Subfield(f, ofs, n_bits), end


def load(target: Subfield, value: int) -> Action:
    """The action that puts a value into some bits, in its one representation."""
    f, mask = target.field, (1 << target.n_bits) - 1 << target.ofs
    value <<= target.ofs
    if f is IN_PORT_16:
        if target.n_bits == 16:
            return SetField(IN_PORT, port_from_10(value), IN_PORT.all_ones)
        return SetField(IN_PORT, value, mask)
    if f is NW_TOS:
        return SetField(IP_DSCP, (value & 0xFC) >> 2, (mask & 0xFC) >> 2)
    return SetField(f, value, mask)


U16 = struct.Struct("!H")
U32 = struct.Struct("!I")


def named_header(f: Field) -> bytes:
    """The header by which Nicira's actions name a field: NXM's where there is one."""
    place = f.nxm or f.oxm
    if place is None:
        fail("OFPBAC_BAD_SET_TYPE", f"{f.label} has no number on the wire")
    return struct.pack("!HBB", place[0], place[1] << 1, wire_size(f))


def bits_code(target: Subfield) -> int:
    """A sub-field's place in 16 bits: ofs << 6 | n_bits - 1."""
    return target.ofs << 6 | target.n_bits - 1


def bits_of(code: int) -> tuple[int, int]:
    """The inverse: (ofs, n_bits)."""
    return code >> 6, (code & 63) + 1
