"""What a bridge tells its listeners: values, one class per kind of event.

The C core puts events into a ring; Bridge.poll() takes them out on the control thread and hands
each to every listener in order. Nothing here knows OpenFlow's wire formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from oko.datapath import Event
from oko.model.flow import Match
from oko.switch.ports import Port
from oko.switch.values import FlowStats

# Reasons: OFPR_*, OFPRR_*, OFPPR_* and OFPTR_* have these values in every version.
NO_MATCH, ACTION, INVALID_TTL = 0, 1, 2
IDLE_TIMEOUT, HARD_TIMEOUT, DELETED, GROUP_DELETED, METER_DELETED, EVICTED = range(6)
PORT_ADD, PORT_DELETE, PORT_MODIFY = 0, 1, 2
VACANCY_DOWN, VACANCY_UP = 3, 4


@dataclass(frozen=True, slots=True)
class PacketIn:
    """A packet for the controllers. data is cut to what the flow asked for; total_len is the
    frame's length. controller: the id that NXAST_CONTROLLER names, 0 for all. implicit: there was
    no flow at all, not even a table-miss flow, and Bridge.send_misses() is on."""

    reason: int
    table: int
    cookie: int
    in_port: int
    data: bytes
    total_len: int
    metadata: int = 0
    tun_id: int = 0
    pkt_mark: int = 0
    regs: tuple[int, ...] = ()
    controller: int = 0
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class FlowRemoved:
    """A flow with SEND_FLOW_REM has gone. duration in ns; counters are final."""

    reason: int
    table: int
    priority: int
    match: Match
    filter_prog: int
    cookie: int
    duration: int
    idle_timeout: int
    hard_timeout: int
    n_packets: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class PortStatus:
    """A port came, went or changed."""

    reason: int
    port: Port


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table's vacancy, in percent, passed one of its marks (down, up); evict: as it is set."""

    reason: int
    table: int
    evict: bool
    marks: tuple[int, int]
    vacancy: int


@dataclass(frozen=True, slots=True)
class SendMaps:
    """A packet hit a flow with send_maps: these maps (none: all) are to be sent now."""

    program: int
    maps: tuple[int, ...]
    table: int
    priority: int
    cookie: int
    ns: int


@dataclass(frozen=True, slots=True)
class FlowChange:
    """What became of a flow. kind: "added", "modified" or "gone" (for a reason). change: index
    among the changes that were applied, None: it was none of them. old: whose place it took."""

    kind: str
    reason: int
    change: int | None
    flow: FlowStats
    old: FlowStats | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose changes these are. xids: what the messages that asked for them are called."""

    who: object
    xids: Callable[[], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class FlowChanges:
    """Changes of flows in their order, while Bridge.watch() is on. by: None for timeouts, packets
    and whoever did not say. lost: there were more, of which nothing is known."""

    changes: tuple[FlowChange, ...]
    by: Origin | None = None
    lost: bool = False


BridgeEvent: TypeAlias = PacketIn | FlowRemoved | PortStatus | TableStatus | SendMaps | FlowChanges


class Listener(Protocol):
    """Who wants to hear; called on the control thread, must not block."""

    def event(self, event: BridgeEvent) -> None:
        """Something happened on the bridge."""


_REASONS = {"no-match": 0, "action": 1, "invalid-ttl": 2}
REMOVED = {"idle": 0, "hard": 1, "delete": 2, "group": 3, "meter": 4, "eviction": 5}


def translate(event: Event) -> BridgeEvent | None:
    """What happened in the datapath, as the listeners hear it; None: not their business."""
    if event.kind == "packet-in":
        return PacketIn(
            reason=_REASONS.get(event.reason, 1),
            table=event.table,
            cookie=event.cookie,
            in_port=event.in_port,
            data=event.data,
            total_len=event.total_len,
            metadata=event.metadata,
            tun_id=event.tun_id,
            pkt_mark=event.pkt_mark,
            regs=event.regs,
            controller=event.controller,
            implicit=event.reason == "no-match" and not event.flow_id,
        )
    if event.kind == "flow-removed":
        return FlowRemoved(
            reason=REMOVED.get(event.reason, 2),
            table=event.table,
            priority=event.priority,
            match=event.match,
            filter_prog=event.filter_prog,
            cookie=event.cookie,
            duration=event.duration,
            idle_timeout=event.idle_timeout,
            hard_timeout=event.hard_timeout,
            n_packets=event.n_packets,
            n_bytes=event.n_bytes,
        )
    if event.kind == "send-maps":
        return SendMaps(
            program=event.program,
            maps=event.maps,
            table=event.table,
            priority=event.priority,
            cookie=event.cookie,
            ns=event.ns,
        )
    return None
