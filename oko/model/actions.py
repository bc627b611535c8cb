"""Actions as values: what OpenFlow 1.3 and the Nicira extensions can do to a packet.

One small frozen dataclass per action; an action list is a tuple of them, executed in order.
Synonyms share a class: mod_dl_dst and load are SetField, strip_vlan is PopVlan, enqueue is
SetQueue, Output, PopQueue; so what a flow does has one representation, and one text.

Numbers are as on the wire: ports are 32-bit OpenFlow port numbers (`fields.PORT_*`), field values
integers in host order, right-aligned in the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from oko.model.fields import PORT_IN_PORT, Field

MAX_LEN_ALL = 0xFFFF  # OFPCML_NO_BUFFER: the whole packet
TABLE_CURRENT = 255  # resubmit: the table that the packet is in

# Reasons of a packet-in (OpenFlow 1.3.5, 7.4.1; NXAST_CONTROLLER).
REASONS = {"no_match": 0, "action": 1, "invalid_ttl": 2}


@dataclass(frozen=True, slots=True)
class Subfield:
    """n_bits of a field, from bit ofs up (bit 0 is the least significant)."""

    field: Field
    ofs: int
    n_bits: int


@dataclass(frozen=True, slots=True)
class Output:
    """To a port, or to a reserved one. max_len: CONTROLLER only."""

    port: int
    max_len: int = 0


@dataclass(frozen=True, slots=True)
class OutputTrunc:
    """To a port, at most max_len bytes of the packet (NXAST_OUTPUT_TRUNC)."""

    port: int
    max_len: int


@dataclass(frozen=True, slots=True)
class OutputReg:
    """To the port whose number these bits hold (NXAST_OUTPUT_REG)."""

    source: Subfield
    max_len: int = MAX_LEN_ALL


@dataclass(frozen=True, slots=True)
class Controller:
    """Packet-in with more to say than Output(CONTROLLER) (NXAST_CONTROLLER)."""

    max_len: int = MAX_LEN_ALL
    reason: int = 1
    id: int = 0


@dataclass(frozen=True, slots=True)
class ToGroup:
    """Through a group."""

    group: int


@dataclass(frozen=True, slots=True)
class SetQueue:
    """Outputs from here on use this queue."""

    queue: int


@dataclass(frozen=True, slots=True)
class PopQueue:
    """Back to the queue that the packet came with."""


@dataclass(frozen=True, slots=True)
class SetField:
    """field = (field & ~mask) | value. Never a composed field but vlan_tci.

    vlan_tci decides about the tag itself: with bit 0x1000 in the result there is a tag afterwards
    (pushed if need be), without it there is none. That is also what mod_vlan_vid and mod_vlan_pcp
    are. A field whose header the packet lacks is left alone.
    """

    field: Field
    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class SetTransport:
    """mod_tp_src, mod_tp_dst: the port of TCP, UDP or SCTP, whichever the packet has."""

    destination: bool
    port: int


@dataclass(frozen=True, slots=True)
class Move:
    """Copies bits between fields (NXAST_REG_MOVE)."""

    source: Subfield
    target: Subfield


@dataclass(frozen=True, slots=True)
class PushBits:
    """Pushes bits on the pass's stack (NXAST_STACK_PUSH)."""

    source: Subfield


@dataclass(frozen=True, slots=True)
class PopBits:
    """Pops bits off the pass's stack (NXAST_STACK_POP)."""

    target: Subfield


@dataclass(frozen=True, slots=True)
class PushVlan:
    """A new outer tag, TCI 0."""

    tpid: int


@dataclass(frozen=True, slots=True)
class PopVlan:
    """The outer tag off, if there is one."""


@dataclass(frozen=True, slots=True)
class PushMpls:
    """A new outer label."""

    eth_type: int


@dataclass(frozen=True, slots=True)
class PopMpls:
    """The outer label off; what is below has this Ethernet type."""

    eth_type: int


@dataclass(frozen=True, slots=True)
class PushPbb:
    """A new outer provider backbone header (IEEE 802.1ah)."""

    eth_type: int


@dataclass(frozen=True, slots=True)
class PopPbb:
    """The provider backbone header off."""


@dataclass(frozen=True, slots=True)
class SetMplsTtl:
    """TTL of the outer label."""

    ttl: int


@dataclass(frozen=True, slots=True)
class DecMplsTtl:
    """TTL of the outer label less one; at 1 or 0 the action list ends."""


@dataclass(frozen=True, slots=True)
class SetTtl:
    """IP TTL or hop limit."""

    ttl: int


@dataclass(frozen=True, slots=True)
class DecTtl:
    """IP TTL or hop limit less one; at 1 or 0 the action list ends and these controllers hear."""

    controllers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyTtlOut:
    """From the next-to-outermost TTL to the outermost."""


@dataclass(frozen=True, slots=True)
class CopyTtlIn:
    """From the outermost TTL to the next."""


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Looks the packet up again, in this table and as if from in_port (NXAST_RESUBMIT_TABLE)."""

    in_port: int = PORT_IN_PORT
    table: int = TABLE_CURRENT


@dataclass(frozen=True, slots=True)
class LearnMatch:
    """The learned flow matches target against the packet's source bits, or a constant."""

    target: Subfield
    source: Subfield | int


@dataclass(frozen=True, slots=True)
class LearnLoad:
    """The learned flow loads the packet's source bits, or a constant, into target."""

    target: Subfield
    source: Subfield | int


@dataclass(frozen=True, slots=True)
class LearnOutput:
    """The learned flow outputs to the port that the packet's source bits name."""

    source: Subfield


LearnSpec: TypeAlias = LearnMatch | LearnLoad | LearnOutput


@dataclass(frozen=True, slots=True)
class Learn:
    """Adds or modifies a flow made from this packet (NXAST_LEARN, nicira-ext.h)."""

    specs: tuple[LearnSpec, ...] = ()
    table: int = 1
    priority: int = 32768
    idle_timeout: int = 0
    hard_timeout: int = 0
    fin_idle_timeout: int = 0
    fin_hard_timeout: int = 0
    cookie: int = 0
    send_flow_rem: bool = False
    delete_learned: bool = False
    limit: int = 0
    result: Subfield | None = None


@dataclass(frozen=True, slots=True)
class Clone:
    """These actions on a copy; the packet itself goes on unchanged."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Does nothing: a place to keep bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Conjunction:
    """Says that dimension `dimension` of `dimensions` (2 to 64, counted from 1) of a conjunction is
    there: a flow with this action ends no lookup (NXAST_CONJUNCTION, ovs-fields(7))."""

    id: int
    dimension: int
    dimensions: int


@dataclass(frozen=True, slots=True)
class Exit:
    """Ends the whole walk through the tables."""


@dataclass(frozen=True, slots=True)
class FinTimeout:
    """Shortens the flow's timeouts once a packet has FIN or RST (NXAST_FIN_TIMEOUT)."""

    idle_timeout: int = 0
    hard_timeout: int = 0


@dataclass(frozen=True, slots=True)
class SendMaps:
    """Sends maps of a filter program to the controllers that subscribed (oko extension).

    maps: numbers; empty: all. interval: at most once per so many milliseconds.
    """

    program: int
    maps: tuple[int, ...] = ()
    interval: int = 1000


Action: TypeAlias = (
    Output | OutputTrunc | OutputReg | Controller | ToGroup | SetQueue | PopQueue | SetField
    | SetTransport | Move | PushBits | PopBits | PushVlan | PopVlan | PushMpls | PopMpls
    | PushPbb | PopPbb | SetMplsTtl | DecMplsTtl | SetTtl | DecTtl | CopyTtlOut | CopyTtlIn
    | Resubmit | Learn | Clone | Note | Exit | FinTimeout | SendMaps | Conjunction
)  # fmt: skip

MAX_DIMENSIONS = 64
"""Of a conjunction; at least 2."""


def conjunction_is_alone(
    apply: tuple[Action, ...], write: tuple[Action, ...] = (), *, other: bool = False
) -> bool:
    """Does nothing but notes stand beside the conjunctions, if there are any? other: there are
    instructions beside these two."""
    if not any(isinstance(action, Conjunction) for action in apply):
        return True
    return not write and not other and all(isinstance(a, Conjunction | Note) for a in apply)


ACTION_SET_TYPES: tuple[type, ...] = (
    Output, ToGroup, SetQueue, SetField, SetTransport, Move,
    PushVlan, PopVlan, PushMpls, PopMpls, PushPbb, PopPbb,
    SetMplsTtl, DecMplsTtl, SetTtl, DecTtl, CopyTtlOut, CopyTtlIn, Resubmit,
)  # fmt: skip
"""What an action set may hold (OpenFlow 1.3.5, 5.10; Open vSwitch allows load, move, resubmit)."""
