"""What a bridge tells its listeners: values, one class per kind of event.

The C core puts events into a ring; Bridge.poll() takes them out on the control thread and hands
each to every listener in order. Nothing here knows OpenFlow's wire formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from oko.model.flow import Match
from oko.switch.ports import Port

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


BridgeEvent: TypeAlias = PacketIn | FlowRemoved | PortStatus | TableStatus | SendMaps


class Listener(Protocol):
    """Who wants to hear; called on the control thread, must not block."""

    def event(self, event: BridgeEvent) -> None:
        """Something happened on the bridge."""
