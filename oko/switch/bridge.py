"""A bridge as the control plane sees it: OpenFlow's truth over a Datapath.

The datapath has flows, groups, meters and programs as records, and forwards. A bridge adds what
OpenFlow wants to know and forwarding does not: the instructions of a flow as they were given (kept
once per distinct string of operations), groups and meters as values, port descriptions, who loaded
which program, and errors by their OpenFlow names.

Changes are values (`FlowMod`, `GroupMod`, `MeterMod`); `apply` carries out a list of them as one
transaction. The truth kept here changes only after the commit succeeded, so a failure leaves no
trace.

Thread-safety: everything runs on one control thread (the asyncio loop); only the verification of a
program runs in an executor. Forwarding threads never come here; what they have to say waits in the
datapath's event ring until poll().
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from oko import datapath as dataplane
from oko.datapath import Datapath, Frame, MacEntry, ProgramStats, TableInfo, TraceStep
from oko.errors import CoreError, OkoError
from oko.filters import Map, Maps
from oko.model import actions as act
from oko.model import compile as records
from oko.model.actions import Action
from oko.model.decompile import decompile_learned
from oko.model.fields import PORT_ANY, PORT_NORMAL
from oko.model.flow import (
    DELETE_STRICT,
    GROUP_ALL,
    SEND_FLOW_REM,
    TABLE_ALL,
    Flow,
    FlowMod,
    Group,
    GroupMod,
    Instructions,
    Match,
    Meter,
    MeterMod,
)
from oko.switch import buckets, map_changes
from oko.switch import ports as port
from oko.switch.buckets import BucketError
from oko.switch.config import PortConfig
from oko.switch.events import (
    PORT_ADD,
    PORT_DELETE,
    PORT_MODIFY,
    BridgeEvent,
    FlowRemoved,
    Listener,
    PacketIn,
    PortStatus,
    SendMaps,
)
from oko.switch.names import action_error_name, error_name
from oko.switch.ports import Port, PortStats, QueueStats
from oko.switch.state import State
from oko.switch.tables import N_TABLES, Tables
from oko.text.action_format import format_instructions
from oko.trace import KINDS, match_text, source_lines, tell

__all__ = [
    "Bridge",
    "BridgeError",
    "Change",
    "FlowStats",
    "GroupStats",
    "LoadedProgram",
    "MeterStats",
]

Change: TypeAlias = FlowMod | GroupMod | MeterMod

METER_ALL = 0xFFFFFFFF
TELL = 32  # OKO_FLOW_TELL
QUOTA_CODES = (-1, -5)  # OKO_E_NOMEM, OKO_E_LIMIT
STANDALONE = Flow(priority=0, instructions=Instructions(apply=(act.Output(PORT_NORMAL),)))
"""What a bridge does by itself in fail mode "standalone"."""


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


@dataclass(slots=True)
class _Origin:
    """What is remembered of a loaded program."""

    owner: str
    loaded_at: float
    elf: bytes
    sha256: str


class Trace:
    """A packet's way. steps: struct oko_trace_step; lines(): the same in words."""

    def __init__(self, bridge: Bridge, in_port: int, steps: tuple[TraceStep, ...]) -> None:
        self.in_port = in_port
        self.steps = steps
        wanted = {step.flow_id for step in steps if step.flow_id}
        self._flows = {
            flow.id: (
                match_text(flow.match, flow.filter_prog),
                format_instructions(flow.instructions),
            )
            for flow in bridge.flow_stats()
            if flow.id in wanted
        }
        self._programs = {p.number: p.name for p in bridge.datapath.programs()}
        self._specs = {number: bridge.datapath.program_spec(number) for number in self._programs}

    def lines(self) -> list[str]:
        """A line for each step, indented by table and nesting."""
        return list(tell(self.steps, "packet", self._flows.get, self._programs, self._specs))

    def _source(self, step: TraceStep) -> dict[str, str] | None:
        spec = self._specs.get(step.arg) if KINDS.get(step.kind) == "filter" else None
        return None if spec is None else source_lines(step, spec)

    def as_json(self) -> list[dict[str, object]]:
        """The steps as objects with their words."""
        words = tell(self.steps, "packet", self._flows.get, self._programs)
        return [
            {
                "kind": KINDS.get(step.kind, str(step.kind)),
                "depth": step.depth,
                "table": step.table,
                "priority": step.priority,
                "cookie": step.cookie,
                "arg": step.arg,
                "value": step.value,
                "text": line.strip(),
                "source": self._source(step),
            }
            for step, line in zip(self.steps, words, strict=True)
        ]


class Bridge:
    """A bridge. dpid: the 64-bit datapath id, None: made from the local port's address. max_flows:
    of the datapath, 0 = its default.

    fail_mode says what happens while no controller is connected: "secure" leaves the tables alone,
    "standalone" switches normally.
    """

    def __init__(
        self,
        name: str,
        datapath: Datapath | None = None,
        *,
        dpid: int | None = None,
        fail_mode: str = "secure",
        max_uploads: int = 16,
        max_flows: int = 0,
    ) -> None:
        self.name = name
        self.datapath = Datapath(workers=2) if datapath is None else datapath
        self.fail_mode = fail_mode
        self.max_uploads = max_uploads
        self.tables = Tables(self.datapath, max_flows)
        self._ports: dict[int, Port] = {}
        self._port_born: dict[int, int] = {}
        self._devices: dict[int, str] = {}
        self._listeners: list[Listener] = []
        self._instructions: dict[bytes, Instructions] = {}
        self._forget_at = 1024
        self._compiled: dict[int, tuple[Instructions, bytes]] = {}
        self._groups: dict[int, Group] = {}
        self._meters: dict[int, Meter] = {}
        self._origins: dict[int, _Origin] = {}
        self._pending: set[int] = set()
        self._loads: set[asyncio.Future[bool]] = set()
        self._detach: Callable[[], None] = _nothing
        self.events_seen = 0
        self.counters: Counter[str] = Counter()  # whatever the agent counts, for coverage/show
        self.state: State | None = None  # where changes are kept, if anywhere
        self._alone = False  # the standalone flow is there
        self.live = False  # forwarding threads run: the clock is the machine's
        self.add_port(port.LOCAL, name)
        self.dpid = self._ports[port.LOCAL].hw_addr if dpid is None else dpid

    def close(self) -> None:
        """Frees the datapath; calling it again does nothing."""
        self.detach()
        self.datapath.close()

    @property
    def now(self) -> int:
        """The datapath clock, ns."""
        return self.datapath.now

    # ---------------------------------------------------------------- ports

    def add_port(
        self,
        number: int,
        name: str,
        *,
        kind: str = "null",
        device: str = "",
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Adds a port to bridge and datapath and tells the listeners. device: for live kinds, or a
        capture; options: as in a configuration."""
        if number in self._ports:
            raise OkoError(f"bridge {self.name}: there is a port {number} already")
        if kind == "pcap":
            port.add_capture(self.datapath, number, name, device, options)
        else:
            self.datapath.add_port(number, name, kind=kind, device=device)
        added = Port(
            number=number,
            name=name,
            hw_addr=port.made_up_address(self.name, str(number)),
            kind=kind,
            state=port.LIVE,
        )
        if kind in port.DEVICE_KINDS:
            self._devices[number] = device or name
            added = port.with_liveness(port.look_at_device(added, device or name))
            self.datapath.set_port_flags(number, port.flags_of(added.config, added.state))
        self._ports[number] = added
        self._port_born[number] = time.monotonic_ns()
        self._tell(PortStatus(PORT_ADD, added))

    def open_port(self, config: PortConfig) -> None:
        """Adds the port that a configuration describes."""
        device = config.target
        if config.kind == "internal" and not device:
            device = self.name if config.number == port.LOCAL else config.name
        self.add_port(
            config.number, config.name, kind=config.kind, device=device,
            options=dict(config.options),
        )  # fmt: skip
        self.set_queues(config.number, dict(config.queues))

    def remove_port(self, number: int) -> None:
        """Removes a port; flows that name it stay, and drop."""
        gone = self._port(number)
        self.datapath.remove_port(number)
        del self._ports[number], self._port_born[number]
        self._devices.pop(number, None)
        self._tell(PortStatus(PORT_DELETE, gone))

    def ports(self) -> list[Port]:
        """All ports in rising number; the local one comes last."""
        return [self._ports[number] for number in sorted(self._ports)]

    def _port(self, number: int) -> Port:
        if number not in self._ports:
            raise BridgeError(f"there is no port {number}", "OFPPMFC_BAD_PORT")
        return self._ports[number]

    def check_port(self, number: int, hw_addr: int | None) -> Port:
        """The port that modify_port() would change; BridgeError if it would refuse."""
        found = self._port(number)
        if hw_addr and hw_addr != found.hw_addr:
            raise BridgeError(f"port {number} has another hardware address", "OFPPMFC_BAD_HW_ADDR")
        return found

    def modify_port(self, number: int, hw_addr: int | None, config: int, mask: int) -> None:
        """OFPT_PORT_MOD: sets the OFPPC_* bits in mask. hw_addr must be the port's own, 0 or None:
        not given."""
        old = self.check_port(number, hw_addr)
        mask &= port.CONFIG_BITS
        new = (old.config & ~mask) | (config & mask)
        self._change_port(replace(old, config=new))
        if self.state is not None and new != old.config:
            self.state.port_changed(number, new)

    def _change_port(self, new: Port) -> None:
        new = port.with_liveness(new)
        if new == self._ports[new.number]:
            return
        self.datapath.set_port_flags(new.number, port.flags_of(new.config, new.state))
        self._ports[new.number] = new
        self._tell(PortStatus(PORT_MODIFY, new))

    def look_at_links(self) -> None:
        """Looks whether devices went up or down, and tells the listeners."""
        for number, device in self._devices.items():
            self._change_port(port.look_at_device(self._ports[number], device))

    def port_stats(self, number: int | None = None) -> list[PortStats]:
        """Counters of one port, or (None) of all."""
        if number is not None:
            self._port(number)
        now = time.monotonic_ns()
        return [
            PortStats(
                number=p.number,
                rx_packets=p.rx_packets,
                tx_packets=p.tx_packets,
                rx_bytes=p.rx_bytes,
                tx_bytes=p.tx_bytes,
                rx_dropped=p.rx_dropped,
                tx_dropped=p.tx_dropped,
                rx_errors=0,
                tx_errors=0,
                duration=now - self._port_born[p.number],
            )
            for p in self.datapath.ports()
            if number in (None, p.number)
        ]

    def set_queues(self, number: int, queues: Mapping[int, int]) -> None:
        """Declares the queues of a port: by number, bit/s beyond which packets are dropped (0: no
        limit). Those that it has already keep their counters."""
        self._port(number)
        self.datapath.set_queues(number, queues)

    def queue_stats(self, number: int | None = None) -> list[QueueStats]:
        """Declared queues of one port, or (None) of all, with counters."""
        if number is not None:
            self._port(number)
        now = self.now
        return [
            QueueStats(
                q.port, q.id, q.tx_bytes, q.tx_packets, q.tx_errors,
                max(0, now - q.created_ns), q.max_rate,
            )
            for q in self.datapath.queues()
            if number in (None, q.port)
        ]  # fmt: skip

    # ---------------------------------------------------------------- changes

    def apply(
        self,
        changes: Sequence[Change],
        *,
        ages: Sequence[int] = (),
        compiled: Sequence[records.FlowRecord | None] = (),
        packet_outs: Sequence[tuple[Action, ...]] = (),
    ) -> None:
        """Carries out all changes as one transaction, or none: BridgeError tells which failed.

        packet_outs: actions that packet_out() has to be able to carry out afterwards; their indices
        follow those of the changes. ages: of flows that are being restored, ns since each was
        added. compiled: the records of the flows, where they are known already.
        """
        if self.state is not None:
            self.poll()  # flows whose time is over, first
        groups = self._groups
        if any(isinstance(change, GroupMod) for change in changes):
            groups = dict(groups)
        meters = self._meters
        if any(isinstance(change, MeterMod) for change in changes):
            meters = dict(meters)
        if len(self._instructions) >= self._forget_at:
            self._forget_instructions()
        added = 0
        done: list[Change] = []
        txn = self.datapath.transaction()
        try:
            for change in changes:
                if isinstance(change, FlowMod):
                    age = ages[added] if ages else 0
                    record = compiled[added] if compiled else None
                    txn.flow(change, self._record(change.flow, record), age_ns=age)
                elif isinstance(change, GroupMod):
                    change = self._resolve(change, groups)
                    txn.group(change)
                    _follow_group(groups, change)
                else:
                    txn.meter(change)
                    _follow_meter(meters, change)
                done.append(change)
                added += 1
            for actions in packet_outs:
                txn.packet_out(actions)
                added += 1
            txn.commit()
        except CoreError as exc:
            n_changes = len(changes) + len(packet_outs)
            failed = min(exc.index if exc.index >= 0 else added, n_changes - 1)
            packet_out = failed >= len(changes)
            name = action_error_name(exc) if packet_out else error_name(changes[failed], exc)
            raise BridgeError(str(exc), name, failed, exc.hint) from None
        except BucketError as exc:
            raise BridgeError(str(exc), exc.name, added) from None
        except ValueError as exc:
            raise BridgeError(str(exc), "OFPBAC_BAD_ARGUMENT", added) from None
        finally:
            txn.close()
        self._groups, self._meters = groups, meters
        if self.state is not None:
            self.state.changed(done)
        self._look_at_tables()

    def _resolve(self, change: GroupMod, groups: dict[int, Group]) -> GroupMod:
        """The change as one of the three that the datapath knows."""
        old = groups.get(change.group.id)
        if change.command == "add_or_mod":
            return GroupMod(change.group, "modify" if old is not None else "add")
        if change.command not in ("insert_bucket", "remove_bucket"):
            return change
        if old is None:
            raise BucketError(f"there is no group {change.group.id}", "OFPGMFC_UNKNOWN_GROUP")
        return GroupMod(buckets.changed(old, change), "modify")

    def _record(
        self, flow: Flow, known_record: records.FlowRecord | None = None
    ) -> records.FlowRecord:
        """The flow compiled; equal instructions are compiled once."""
        instructions = flow.instructions
        if known_record is not None and self.state is None:
            if known_record.ops not in self._instructions:
                self._instructions[known_record.ops] = instructions
            return known_record
        known = self._compiled.get(id(instructions))
        if known is not None and known[0] is instructions:
            ops = known[1]
        else:
            ops = records.compile_instructions(instructions)
            if len(self._compiled) >= 4096:
                self._compiled.clear()
            self._compiled[id(instructions)] = (instructions, ops)
        if ops not in self._instructions:
            self._instructions[ops] = instructions
        return records.FlowRecord(
            cookie=flow.cookie,
            table=flow.table,
            priority=flow.priority,
            flags=flow.flags | self._tell_flag(flow),
            idle_timeout=flow.idle_timeout,
            hard_timeout=flow.hard_timeout,
            filter_prog=flow.filter_prog,
            n_match=len(flow.match),
            match=records.compile_match(flow.match),
            ops=ops,
            importance=flow.importance,
        )

    def _tell_flag(self, flow: Flow) -> int:
        """With state, the end of every flow with a timeout is to be known."""
        timed = flow.idle_timeout or flow.hard_timeout
        return TELL if self.state is not None and timed else 0

    def forget_flow(self, table: int, priority: int, match: Match, filter_prog: int) -> None:
        """Removes a flow whose time was over before a restart."""
        flow = Flow(table, priority, match, filter_prog)
        self.apply([FlowMod(flow, DELETE_STRICT)])

    def _forget_instructions(self) -> None:
        """Drops what no flow has any more; to be called between transactions."""
        used = {ops for _, _, ops in self.datapath.raw_flows()}
        self._instructions = {k: v for k, v in self._instructions.items() if k in used}
        self._compiled.clear()
        self._forget_at = max(1024, 2 * len(self._instructions))

    def packet_out(self, data: bytes, in_port: int, actions: tuple[Action, ...]) -> None:
        """Carries out an action list on a frame, as if it had come in through in_port. What leaves
        has left when this returns. BridgeError has the name."""
        frame = Frame(data, in_port)
        try:
            self.datapath.packet_out(frame, actions, worker=self.datapath.workers - 1)
        except CoreError as exc:
            raise BridgeError(str(exc), action_error_name(exc), hint=exc.hint) from None
        except ValueError as exc:
            raise BridgeError(str(exc), "OFPBAC_BAD_ARGUMENT") from None
        self.poll()

    def trace(self, frame: bytes, in_port: int) -> Trace:
        """The way that a frame would take if it came in at a port now, without side effects."""
        steps = self.datapath.trace_frame(Frame(frame, in_port), worker=self.datapath.workers - 1)
        return Trace(self, in_port, tuple(steps))

    def send_misses(self, max_len: int) -> None:
        """So much of a packet that no flow matches goes to the listeners, as OpenFlow 1.0 has it;
        0: it is only dropped, as 1.3 has it."""
        self.datapath.send_misses(max_len)

    def controllers_changed(self, n_connected: int) -> None:
        """Tells how many controllers are connected. In fail mode "standalone" the bridge switches
        normally while there is none (OpenFlow 1.3.5, 6.3.2): an empty table gets a NORMAL flow,
        which goes when a controller comes."""
        if n_connected == 0 and self.fail_mode == "standalone":
            if not self._alone and next(self.datapath.raw_flows(), None) is None:
                self.apply([FlowMod(STANDALONE)])
                self._alone = True
        elif self._alone:
            self.apply([FlowMod(STANDALONE, DELETE_STRICT)])
            self._alone = False

    # ---------------------------------------------------------------- what is there

    def instructions_of(self, ops: bytes) -> Instructions:
        """The instructions that compiled to these operations."""
        found = self._instructions.get(ops)
        if found is None:
            found = self._instructions[ops] = decompile_learned(ops)
        return found

    def flow_stats(
        self,
        table: int = TABLE_ALL,
        match: Match = Match(),  # noqa: B008 a frozen value
        filter_prog: int | None = None,
        cookie: int = 0,
        cookie_mask: int = 0,
        out_port: int = PORT_ANY,
        out_group: int = PORT_ANY,
        strict: int | None = None,
    ) -> Iterator[FlowStats]:
        """Flows that a statistics request covers (1.3.5, 7.3.5.2), in no particular order.

        filter_prog None: with and without filter; 0: without. strict: only flows of exactly this
        match with this priority. A flow that is there throughout comes exactly once.
        """
        now = self.now
        covers = _coverage(match, strict)
        for info, match_bytes, ops in self.datapath.raw_flows():
            (
                _, flow_table, number, flow_cookie, n_packets, n_bytes, created, modified, used,
                priority, flags, idle, hard, prog, _, _, learned, importance,
            ) = info  # fmt: skip
            if table not in (TABLE_ALL, flow_table) or (flow_cookie ^ cookie) & cookie_mask:
                continue
            if filter_prog is not None and filter_prog != prog:
                continue
            if strict is not None and strict != priority:
                continue
            if covers is not None and not covers(match_bytes):
                continue
            instructions = self.instructions_of(ops)
            if out_port != PORT_ANY and not _names(instructions, act.Output, out_port):
                continue
            if out_group != PORT_ANY and not _names(instructions, act.ToGroup, out_group):
                continue
            yield FlowStats(
                id=number,
                table=flow_table,
                priority=priority,
                filter_prog=prog,
                cookie=flow_cookie,
                flags=flags & ~TELL,
                importance=importance,
                idle_timeout=idle,
                hard_timeout=hard,
                n_packets=n_packets,
                n_bytes=n_bytes,
                duration=max(0, now - created),
                idle_age=max(0, now - max(used, created)),
                hard_age=max(0, now - modified),
                learned=bool(learned),
                instructions=instructions,
                match_bytes=match_bytes,
                ops=ops,
            )

    def aggregate(
        self,
        table: int = TABLE_ALL,
        match: Match = Match(),  # noqa: B008 a frozen value
        filter_prog: int | None = None,
        cookie: int = 0,
        cookie_mask: int = 0,
        out_port: int = PORT_ANY,
        out_group: int = PORT_ANY,
    ) -> tuple[int, int, int]:
        """(packets, bytes, flows) of the flows that flow_stats() would give."""
        n_packets = n_bytes = n_flows = 0
        for flow in self.flow_stats(
            table, match, filter_prog, cookie, cookie_mask, out_port, out_group
        ):
            n_packets += flow.n_packets
            n_bytes += flow.n_bytes
            n_flows += 1
        return n_packets, n_bytes, n_flows

    def table_stats(self) -> list[tuple[int, TableInfo]]:
        """(table, flows and counters) of every table."""
        return [(number, self.datapath.table(number)) for number in range(N_TABLES)]

    def groups(self) -> list[Group]:
        """All groups in rising number, as they were given."""
        return [self._groups[number] for number in sorted(self._groups)]

    def group_stats(self, number: int | None = None) -> list[GroupStats]:
        """Counters of one group (none: an empty list) or of all."""
        now = self.now
        return [
            GroupStats(
                self._groups[g.id], g.n_flows, g.n_packets, g.n_bytes,
                max(0, now - g.created), g.buckets,
            )
            for g in self.datapath.groups()
            if number in (None, g.id) and g.id in self._groups
        ]  # fmt: skip

    def meters(self) -> list[Meter]:
        """All meters in rising number, as they were given."""
        return [self._meters[number] for number in sorted(self._meters)]

    def meter_stats(self, number: int | None = None) -> list[MeterStats]:
        """Counters of one meter (none: an empty list) or of all."""
        now = self.now
        return [
            MeterStats(
                self._meters[m.id], m.n_flows, m.n_packets, m.n_bytes,
                max(0, now - m.created), m.bands,
            )
            for m in self.datapath.meters()
            if number in (None, m.id) and m.id in self._meters
        ]  # fmt: skip

    def macs(self) -> list[MacEntry]:
        """The addresses that NORMAL knows."""
        return self.datapath.macs()

    # ---------------------------------------------------------------- programs

    async def load_program(
        self,
        number: int,
        elf: bytes,
        *,
        create_only: bool = False,
        keep_maps: bool = False,
        owner: str = "",
    ) -> int:
        """Verifies and loads a program under a number (0: the lowest free one); returns it.

        Verification runs in an executor; the old program, if any, stays until the new one is in
        force, and stays if it is refused. Raises BridgeError: "OFPFMFC_TABLE_FULL" beyond a quota
        (programs, memory of maps), else "OFPBRC_EPERM"; its cause is what the core said.
        """
        if number == 0:
            taken = self._origins.keys() | self._pending
            number = next(n for n in range(1, 65537) if n not in taken)
        if not 0 < number <= 65535:
            raise BridgeError(f"there is no program number {number}", "OFPBMC_BAD_VALUE")
        if number in self._pending:
            raise BridgeError(f"program {number} is being loaded", "OFPBRC_EPERM")
        if create_only and number in self._origins:
            raise BridgeError(f"program {number} is loaded already", "OFPBRC_EPERM")
        if len(self._pending) >= self.max_uploads:
            raise BridgeError(
                f"{self.max_uploads} programs are being loaded already", "OFPBRC_EPERM"
            )
        self._pending.add(number)
        try:
            load = partial(self.datapath.load_program, number, elf, keep_maps=keep_maps)
            loading = asyncio.get_running_loop().run_in_executor(None, load)
            self._loads.add(loading)
            loading.add_done_callback(self._loads.discard)
            await asyncio.shield(loading)  # C goes on if whoever asked for it is gone
        except OkoError as exc:
            over = isinstance(exc, CoreError) and exc.code in QUOTA_CODES
            name = "OFPFMFC_TABLE_FULL" if over else "OFPBRC_EPERM"
            raise BridgeError(str(exc), name, hint=exc.hint) from exc
        finally:
            self._pending.discard(number)
        digest = hashlib.sha256(elf).hexdigest()
        self._origins[number] = _Origin(owner, time.time(), elf, digest)
        if self.state is not None:
            self.state.loaded(number, elf, digest, keep_maps, owner)
        return number

    async def settle(self) -> None:
        """Waits until no program is being loaded: before that the datapath must not be closed."""
        await asyncio.gather(*self._loads, return_exceptions=True)

    def restore_program(
        self, number: int, elf: bytes, keep_maps: bool, owner: str, at_ns: int
    ) -> None:
        """Loads a program again that was loaded before a restart."""
        self.datapath.load_program(number, elf, keep_maps=keep_maps)
        digest = hashlib.sha256(elf).hexdigest()
        self._origins[number] = _Origin(owner, at_ns / 1e9, elf, digest)

    def unload_program(self, number: int, *, force: bool = False) -> None:
        """Unloads a program; force: flows that use it go too."""
        try:
            self.datapath.unload_program(number, force=force)
        except CoreError as exc:
            name = "OFPBRC_EPERM" if number in self._origins else "OFPBMC_BAD_VALUE"
            raise BridgeError(str(exc), name) from None
        self._origins.pop(number, None)
        if self.state is not None:
            self.state.unloaded(number, force)

    def programs(self) -> list[LoadedProgram]:
        """All programs in rising number."""
        found = []
        for stats in self.datapath.programs():
            origin = self._origins.get(stats.number)
            if origin is None:
                continue
            spec = self.datapath.program_spec(stats.number)
            found.append(
                LoadedProgram(
                    number=stats.number,
                    name=stats.name,
                    owner=origin.owner,
                    loaded_at=origin.loaded_at,
                    sha256=origin.sha256,
                    size=len(origin.elf),
                    n_insns=len(spec.insns),
                    maps=tuple(m.name for m in spec.maps),
                    stats=stats,
                )
            )
        return found

    def maps(self, number: int) -> Maps:
        """The maps of a loaded program. BridgeError when it is not loaded."""
        try:
            return self.datapath.maps(number)
        except OkoError as exc:
            raise BridgeError(str(exc), "OFPBMC_BAD_VALUE") from None

    def map(self, number: int, name: str | int) -> Map:
        """A map by name or number."""
        try:
            return self.maps(number).find(name)
        except BridgeError:
            raise
        except OkoError as exc:
            raise BridgeError(str(exc), "OFPBMC_BAD_VALUE") from None

    def change_map(
        self,
        number: int,
        name: str | int,
        operation: str,
        entries: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Changes a map's entries, and keeps that: "set" (key, value); "delete" (key, unused);
        "add" (item, unused), for sketches; "clear"; "replace", as update_map(). BridgeError or
        MapError; entries before the one that failed stay changed."""
        found = self.map(number, name)
        done: list[tuple[bytes, bytes]] = []
        try:
            if operation == "clear":
                found.clear()
            elif operation == "replace":
                self.datapath.replace_map(number, found.number, entries)
                done, entries = list(entries), ()
            for key, value in entries:
                if operation == "set":
                    found[key] = value
                elif operation == "delete":
                    del found[key]
                else:
                    found.add(key)
                done.append((key, value))
        finally:
            if self.state is not None and (done or operation == "clear"):
                self.state.map_changed(number, found.number, operation, done)

    def update_map(
        self,
        number: int,
        name: str | int,
        entries: Sequence[tuple[bytes, bytes]],
        sizes: tuple[int, int],
        *,
        may_exist: bool = True,
        must_exist: bool = False,
        replace: bool = False,
    ) -> tuple[int, int]:
        """Sets entries, all or (BridgeError) none; replace: these are all that there shall be, as
        by one store: packets see the old or the new contents. sizes: of a key and a value, as the
        caller has them. Returns the map's number and how many entries were set."""
        found = self.map(number, name)
        try:
            map_changes.check_sizes(found, entries, *sizes)
            map_changes.check_presence(found, entries, may_exist=may_exist, must_exist=must_exist)
            if replace:
                self.datapath.replace_map(number, found.number, entries)
            else:
                map_changes.update(found, entries)
        except OkoError as exc:
            over = isinstance(exc, CoreError) and exc.code in QUOTA_CODES
            name = "OFPFMFC_TABLE_FULL" if over else "OFPBRC_EPERM"
            raise BridgeError(str(exc), name, hint=exc.hint) from None
        if self.state is not None:
            sketch = found.spec.type in map_changes.SKETCHES
            operation = "replace" if replace else "add" if sketch else "set"
            self.state.map_changed(number, found.number, operation, entries)
        return found.number, len(entries)

    def delete_keys(
        self, number: int, name: str | int, keys: Sequence[bytes], key_size: int
    ) -> tuple[int, int]:
        """Removes entries, all or (BridgeError) none. Returns the map's number and how many."""
        found = self.map(number, name)
        entries = [(key, b"") for key in keys]
        try:
            map_changes.check_sizes(found, entries, key_size, None)
            map_changes.delete(found, keys)
        except OkoError as exc:
            raise BridgeError(str(exc), "OFPBRC_EPERM") from None
        if self.state is not None:
            self.state.map_changed(number, found.number, "delete", entries)
        return found.number, len(keys)

    # ---------------------------------------------------------------- events

    def listen(self, listener: Listener) -> None:
        """From now on the listener hears events."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """No more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lets the loop call poll() when events wait."""
        fd = self.datapath.event_fd()
        loop.add_reader(fd, self._readable, fd)

        def detach() -> None:
            loop.remove_reader(fd)

        self._detach = detach

    def start(self, threads: int = 1, *, busy_poll: bool = False) -> None:
        """Starts forwarding threads; from now on time is the machine's. The datapath has one worker
        more than there are threads: the control thread's, for packet-out."""
        if threads >= self.datapath.workers:
            raise OkoError(f"{threads} threads and the control thread need {threads + 1} workers")
        self.datapath.start(threads, busy_poll=busy_poll)
        self.live = True

    def detach(self) -> None:
        """Undoes attach()."""
        self._detach()
        self._detach = _nothing

    def _readable(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 8)
        self.poll()

    def poll(self) -> int:
        """Hands what happened to the listeners; returns how many events there were."""
        events = self.datapath.events()
        for event in events:
            if event.kind == "flow-removed" and event.flags & (SEND_FLOW_REM | TELL):
                if event.flags & TELL and event.reason in _ENDS_BY_ITSELF and self.state:
                    self.state.removed(event.table, event.priority, event.match, event.filter_prog)
                if not event.flags & SEND_FLOW_REM:
                    continue
            told = _translate(event)
            if told is not None:
                self._tell(told)
        self.events_seen += len(events)
        self._look_at_tables()
        return len(events)

    def _look_at_tables(self) -> None:
        for event in self.tables.events():
            self._tell(event)

    def _tell(self, event: BridgeEvent) -> None:
        for listener in tuple(self._listeners):
            listener.event(event)


# ---------------------------------------------------------------- parts


def _nothing() -> None:
    """Nothing is attached."""


def _follow_group(groups: dict[int, Group], change: GroupMod) -> None:
    """What a group change makes of the known groups."""
    group = change.group
    if change.command == "delete":
        if group.id == GROUP_ALL:
            groups.clear()
        else:
            groups.pop(group.id, None)
    else:
        groups[group.id] = group


def _follow_meter(meters: dict[int, Meter], change: MeterMod) -> None:
    meter = change.meter
    if change.command == "delete":
        if meter.id == METER_ALL:
            meters.clear()
        else:
            meters.pop(meter.id, None)
    else:
        meters[meter.id] = meter


def _coverage(match: Match, strict: int | None) -> Callable[[bytes], bool] | None:
    """Tells whether a flow's match record is one that a request with this match covers."""
    if strict is not None:
        exactly = records.compile_match(match)
        return lambda record: record == exactly
    if not match:
        return None
    wanted = match.fields

    def narrower(record: bytes) -> bool:
        have = {f: (value, mask) for f, value, mask in records.parse_match(record)}
        for f, value, mask in wanted:
            own_value, own_mask = have.get(f, (0, 0))
            if mask & ~own_mask or (value ^ own_value) & mask:
                return False
        return True

    return narrower


def _names(value: object, kind: type, number: int) -> bool:
    """Does an action among these, nested ones included, output to this port or group?"""
    if isinstance(value, Instructions):
        return _names(value.apply, kind, number) or _names(value.write, kind, number)
    if isinstance(value, tuple):
        return any(_names(action, kind, number) for action in value)
    if isinstance(value, act.Clone):
        return _names(value.actions, kind, number)
    if isinstance(value, act.ToGroup):
        return kind is act.ToGroup and value.group == number
    if isinstance(value, (act.Output, act.OutputTrunc)):
        return kind is act.Output and value.port == number
    return False


_ENDS_BY_ITSELF = ("idle", "hard", "eviction")
_REASONS = {"no-match": 0, "action": 1, "invalid-ttl": 2}
_REMOVED = {"idle": 0, "hard": 1, "delete": 2, "group": 3, "meter": 4, "eviction": 5}


def _translate(event: dataplane.Event) -> BridgeEvent | None:
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
            reason=_REMOVED.get(event.reason, 2),
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
