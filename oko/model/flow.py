"""Flows, groups and meters as values.

A match is a tuple of (field, value, mask), sorted by field, with prerequisites spelled out (tcp is
eth_type and ip_proto) and only the datapath's own fields (no vlan_tci, no xreg): one match, one
representation, so that flows compare and hash by meaning. A flow's identity is (table, priority,
match, filter_prog): `Flow.identity`.

Nothing here checks what a user wrote; `oko.text` and the OpenFlow codec do, because they can say
where the mistake is. Values that those two cannot produce are a programming error and surface in
the datapath as OKO_E_INVAL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from oko.model.actions import Action
from oko.model.fields import FIELDS, PORT_ANY, VLAN_PRESENT, Field, narrow

PRIORITY_DEFAULT = 32768

# enum oko_flow_flag; the first five are OFPFF_* of OpenFlow 1.3.
SEND_FLOW_REM = 1
CHECK_OVERLAP = 2
RESET_COUNTS = 4
NO_PKT_COUNTS = 8
NO_BYT_COUNTS = 16
FLAG_NAMES: dict[str, int] = {
    "send_flow_rem": SEND_FLOW_REM,
    "check_overlap": CHECK_OVERLAP,
    "reset_counts": RESET_COUNTS,
    "no_packet_counts": NO_PKT_COUNTS,
    "no_byte_counts": NO_BYT_COUNTS,
}


@dataclass(frozen=True, slots=True)
class Match:
    """Header fields that a packet must have: (field, value, mask), sorted; empty matches all."""

    fields: tuple[tuple[Field, int, int], ...] = ()

    @classmethod
    def of(cls, fields: Mapping[Field, tuple[int, int]]) -> Match:
        """From {field: (value, mask)}: sorts, clears value bits outside the mask, narrows
        xreg and vlan_tci to the fields they are made of, drops what matches everything."""
        flat: dict[Field, tuple[int, int]] = {}
        for wide, (value, mask) in fields.items():
            for part, part_value, part_mask in parts_of(wide, value, mask):
                old_value, old_mask = flat.get(part, (0, 0))
                flat[part] = (old_value & ~part_mask | part_value & part_mask, old_mask | part_mask)
        vlan, pcp = FIELDS_BY_NAME["vlan_vid"], FIELDS_BY_NAME["vlan_pcp"]
        value, mask = flat.get(vlan, (0, 0))
        if mask & VLAN_PRESENT and not value & VLAN_PRESENT and flat.get(pcp, (1, 0))[0] == 0:
            del flat[pcp]  # an untagged packet has no priority to speak of
        return cls(tuple((f, *flat[f]) for f in sorted(flat, key=lambda f: f.id)))

    def get(self, name: str) -> tuple[int, int] | None:
        """(value, mask) of a field by canonical name, or None where it is not matched."""
        for f, value, mask in self.fields:
            if f.name == name:
                return value, mask
        return None

    def exact(self, name: str) -> int | None:
        """The value of a field that is matched in full, else None."""
        for f, value, mask in self.fields:
            if f.name == name and mask == f.all_ones:
                return value
        return None

    def __iter__(self) -> Iterator[tuple[Field, int, int]]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


FIELDS_BY_NAME: dict[str, Field] = {f.name: f for f in FIELDS}


def parts_of(wide: Field, value: int, mask: int) -> list[tuple[Field, int, int]]:
    """The datapath's own fields that these bits of a field stand for; masks of 0 are left out."""
    if wide.parts:
        return [
            (FIELDS_BY_NAME[name], value >> ofs & (1 << bits) - 1, mask >> ofs & (1 << bits) - 1)
            for name, ofs, bits in wide.parts
            if mask >> ofs & (1 << bits) - 1
        ]
    if wide.is_register_pair:
        return list(narrow(wide, value, mask))
    return [(wide, value, mask)] if mask else []


@dataclass(frozen=True, slots=True)
class Instructions:
    """What a flow does, in the order of execution (OpenFlow 1.3.5, 5.9). The default drops."""

    meter: int = 0  # 0: none
    apply: tuple[Action, ...] = ()
    clear: bool = False
    write: tuple[Action, ...] = ()
    metadata: tuple[int, int] | None = None  # (value, mask)
    goto: int | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow entry: what to match and what to do."""

    table: int = 0
    priority: int = PRIORITY_DEFAULT
    match: Match = Match()
    filter_prog: int = 0  # 0: none
    instructions: Instructions = Instructions()
    cookie: int = 0
    idle_timeout: int = 0  # seconds; 0: none
    hard_timeout: int = 0
    importance: int = 0
    flags: int = 0

    @property
    def identity(self) -> tuple[int, int, Match, int]:
        """Two flows of the same identity replace each other."""
        return (self.table, self.priority, self.match, self.filter_prog)


TABLE_MAX = 253
TABLE_ALL = 255

# Commands of a flow-mod (OFPFC_*).
ADD, MODIFY, MODIFY_STRICT, DELETE, DELETE_STRICT = range(5)
COMMANDS: dict[str, int] = {
    "add": ADD,
    "modify": MODIFY,
    "modify_strict": MODIFY_STRICT,
    "delete": DELETE,
    "delete_strict": DELETE_STRICT,
}


@dataclass(frozen=True, slots=True)
class FlowMod:
    """A change to the flow tables.

    flow.table is TABLE_ALL for all tables (modify and delete). flow.filter_prog 0 means "no
    filter" for ADD and the strict commands and "any" for the others. cookie_mask: with MODIFY and
    DELETE, only flows whose cookie agrees with flow.cookie in these bits. new_cookie: MODIFY also
    sets the cookie. out_port and out_group restrict DELETE. or_add: MODIFY adds the flow when it
    covers none (OpenFlow 1.0, and NXM).
    """

    flow: Flow
    command: int = ADD
    cookie_mask: int = 0
    new_cookie: bool = False
    out_port: int = PORT_ANY
    out_group: int = PORT_ANY
    or_add: bool = False


# Group types (enum ofp_group_type); names as ovs-ofctl writes them.
GROUP_TYPES: dict[str, int] = {"all": 0, "select": 1, "indirect": 2, "ff": 3}
GROUP_TYPE_KNOWN = -1  # in changes of single buckets: the type that the group has
GROUP_MAX = 0xFFFFFF00
GROUP_ALL = 0xFFFFFFFC
GROUP_ANY = 0xFFFFFFFF
BUCKET_MAX = 0xFFFFFF00


@dataclass(frozen=True, slots=True)
class Bucket:
    """A set of actions of a group. weight: select; watch_*: fast failover (and select)."""

    actions: tuple[Action, ...] = ()
    weight: int = 1
    watch_port: int = PORT_ANY
    watch_group: int = GROUP_ANY
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A group entry (OpenFlow 1.3.5, 5.6.1)."""

    id: int
    type: int
    buckets: tuple[Bucket, ...] = ()
    selection: str = ""  # selection_method: "", "hash" or "dp_hash"


@dataclass(frozen=True, slots=True)
class DropBand:
    """Drops what exceeds rate (kbit/s or packets/s); burst in kbit or packets, 0: the default."""

    rate: int
    burst: int = 0


@dataclass(frozen=True, slots=True)
class DscpBand:
    """Raises the drop precedence of what exceeds rate by prec_level."""

    rate: int
    burst: int = 0
    prec_level: int = 1


Band: TypeAlias = DropBand | DscpBand

METER_MAX = 0xFFFF0000


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter entry (OpenFlow 1.3.5, 5.7)."""

    id: int
    pktps: bool = False  # rates are packets/s, not kbit/s
    burst: bool = False  # bands give burst sizes
    stats: bool = False
    bands: tuple[Band, ...] = field(default=())


BUCKET_FIRST, BUCKET_LAST, BUCKET_ALL = 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF
"""enum ofp_group_bucket (OpenFlow 1.5.1, 7.3.4.3): places, where a bucket's number may stand."""


@dataclass(frozen=True, slots=True)
class GroupMod:
    """A change to the groups. bucket: behind which one insert_bucket puts the group's buckets, or
    BUCKET_FIRST, BUCKET_LAST: which one remove_bucket takes away, or one of the three places."""

    group: Group
    command: str = "add"  # add, modify, add_or_mod, delete, insert_bucket, remove_bucket
    bucket: int = BUCKET_ALL


@dataclass(frozen=True, slots=True)
class MeterMod:
    """A change to the meters."""

    meter: Meter
    command: str = "add"  # add, modify, delete
