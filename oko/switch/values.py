"""What a bridge is given and what it answers: changes, statistics, errors; values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from oko.datapath import ProgramStats
from oko.errors import OkoError
from oko.model import compile as records
from oko.model.flow import Flow, FlowMod, Group, GroupMod, Instructions, Match, Meter, MeterMod

Change: TypeAlias = FlowMod | GroupMod | MeterMod


class BridgeError(OkoError):
    """A change was refused. name: the OpenFlow error, such as "OFPFMFC_TABLE_FULL"; index: which
    change of the list, from 0."""

    def __init__(self, message: str, name: str, index: int = 0, hint: str = "") -> None:
        super().__init__(message, hint)
        self.name = name
        self.index = index


@dataclass(slots=True)
class FlowStats:
    """A flow with exact counters. Times in ns: duration since it was added, idle_age since it was
    last used (or added), hard_age since it was last modified.

    match_bytes and ops are the datapath's records of match and instructions, equal for equal
    values: keys for who wants to remember a translation. match is parsed when it is asked for.
    """

    id: int
    table: int
    priority: int
    filter_prog: int
    cookie: int
    flags: int
    importance: int
    idle_timeout: int
    hard_timeout: int
    n_packets: int
    n_bytes: int
    duration: int
    idle_age: int
    hard_age: int
    learned: bool
    instructions: Instructions
    match_bytes: bytes
    ops: bytes

    @property
    def match(self) -> Match:
        """What it matches, but for filter_prog."""
        return records.parse_match(self.match_bytes)

    @property
    def flow(self) -> Flow:
        """The same as a flow, to be printed or added again."""
        return Flow(
            table=self.table,
            priority=self.priority,
            match=self.match,
            filter_prog=self.filter_prog,
            instructions=self.instructions,
            cookie=self.cookie,
            idle_timeout=self.idle_timeout,
            hard_timeout=self.hard_timeout,
            importance=self.importance,
            flags=self.flags,
        )


@dataclass(frozen=True, slots=True)
class GroupStats:
    """A group and its counters; buckets: (packets, bytes) each; duration in ns."""

    group: Group
    n_flows: int
    n_packets: int
    n_bytes: int
    duration: int
    buckets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class MeterStats:
    """A meter and its counters; bands: (packets, bytes) each; duration in ns."""

    meter: Meter
    n_flows: int
    n_packets: int
    n_bytes: int
    duration: int
    bands: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    """A filter program and where it came from. loaded_at: seconds since 1970."""

    number: int
    name: str
    owner: str
    loaded_at: float
    sha256: str
    size: int
    n_insns: int
    maps: tuple[str, ...]
    stats: ProgramStats
