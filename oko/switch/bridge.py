"""A bridge as the control plane sees it: OpenFlow's truth over a Datapath.

The datapath has flows, groups, meters and programs as records, and forwards. A bridge adds what
OpenFlow wants to know and forwarding does not: the instructions of a flow as they were given (kept
once per distinct string of operations), groups and meters as values, and errors by their OpenFlow
names; port descriptions are in bridge_ports.py, who loaded which program in bridge_programs.py.

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
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from oko.datapath import Datapath, Frame, MacEntry, TableInfo, Transaction
from oko.errors import CoreError, OkoError
from oko.model import actions as act
from oko.model import compile as records
from oko.model.actions import Action
from oko.model.decompile import decompile_learned
from oko.model.fields import PORT_ANY, PORT_NORMAL
from oko.model.flow import (
    ADD,
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
from oko.switch import buckets
from oko.switch import ports as port
from oko.switch.bridge_ports import BridgePorts
from oko.switch.bridge_programs import BridgePrograms
from oko.switch.buckets import BucketError
from oko.switch.events import (
    REMOVED,
    BridgeEvent,
    FlowChange,
    FlowChanges,
    Listener,
    Origin,
    translate,
)
from oko.switch.names import action_error_name, error_name
from oko.switch.selection import coverage, names_target
from oko.switch.state import State
from oko.switch.tables import N_TABLES, Tables
from oko.switch.trace import Trace
from oko.switch.values import BridgeError, Change, FlowStats, GroupStats, LoadedProgram, MeterStats

__all__ = [
    "Bridge",
    "BridgeError",
    "Change",
    "FlowStats",
    "GroupStats",
    "LoadedProgram",
    "MeterStats",
]

METER_ALL = 0xFFFFFFFF
TELL = 32  # OKO_FLOW_TELL
ENDS_BY_ITSELF = ("idle", "hard", "eviction")
STANDALONE = Flow(priority=0, instructions=Instructions(apply=(act.Output(PORT_NORMAL),)))
"""What a bridge does by itself in fail mode "standalone"."""

_SOME_FLOW_MOD = FlowMod(Flow())
_Kept = TypeVar("_Kept", Group, Meter)


class Bridge(BridgePorts, BridgePrograms):
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
        BridgePorts.__init__(self)
        BridgePrograms.__init__(self, max_uploads)
        self.name = name
        self.datapath = Datapath(workers=2) if datapath is None else datapath
        self.fail_mode = fail_mode
        self.tables = Tables(self.datapath, max_flows)
        self._listeners: list[Listener] = []
        self._instructions: dict[bytes, Instructions] = {}
        self._forget_at = 1024
        self._compiled: dict[int, tuple[Instructions, bytes]] = {}
        self._groups: dict[int, Group] = {}
        self._meters: dict[int, Meter] = {}
        self._detach: Callable[[], None] = _nothing
        self.events_seen = 0
        self.counters: Counter[str] = Counter()  # whatever the agent counts, for coverage/show
        self.state: State | None = None  # where changes are kept, if anywhere
        self._alone = False  # the standalone flow is there
        self._n_watching = 0
        self._packed: Transaction | None = None
        self.live = False  # forwarding threads run: the clock is the machine's
        self.add_port(port.LOCAL, name)
        self.dpid = self._ports[port.LOCAL].hw_addr if dpid is None else dpid

    def close(self) -> None:
        """Frees the datapath; calling it again does nothing."""
        self.detach()
        if self._packed is not None:
            self._packed.close()
            self._packed = None
        self.datapath.close()

    # ---------------------------------------------------------------- changes

    def apply(
        self,
        changes: Sequence[Change],
        *,
        ages: Sequence[int] = (),
        idle: Sequence[int] = (),
        compiled: Sequence[records.FlowRecord | None] = (),
        packet_outs: Sequence[tuple[Action, ...]] = (),
        by: Origin | None = None,
    ) -> None:
        """Carries out all changes as one transaction, or none: BridgeError tells which failed.

        packet_outs: actions that packet_out() has to be able to carry out afterwards; their indices
        follow those of the changes. ages: of flows that are being restored, ns since each was
        added; idle: ns since each was used. compiled: the records of the flows, where they are
        known already. by: for those who watch changes of flows.
        """
        if self.state is not None:
            self.poll()  # flows whose time is over, first
        elif self._n_watching:
            self._tell_changes(None)  # what others did
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
                    unused = idle[added] if idle else 0
                    flow = self._record(change.flow, record)
                    txn.flow(change, flow, age_ns=age, idle_ns=unused)
                elif isinstance(change, GroupMod):
                    change = self._resolve(change, groups)
                    txn.group(change)
                    _follow(groups, change.group, change.command, GROUP_ALL)
                else:
                    txn.meter(change)
                    _follow(meters, change.meter, change.command, METER_ALL)
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
        if self._alone and any(
            isinstance(c, FlowMod) and c.command == ADD and self.is_own(c.flow) for c in done
        ):
            self._alone = False
        if self.state is not None:
            self.state.changed(done)
        if self._n_watching:
            self._tell_changes(by)
        self._look_at_tables()

    @property
    def takes_packed(self) -> bool:
        """May apply_packed() be used? Not where the flows themselves are wanted: for a log of
        changes, or to see whether one takes the place of the standalone flow."""
        return self.state is None and not self._alone

    def apply_packed(
        self, packed: Sequence[records.PackedFlowMod], *, by: Origin | None = None
    ) -> None:
        """apply() for flow-mods that are ready for the datapath, while takes_packed."""
        assert self.takes_packed
        if self._n_watching:
            self._tell_changes(None)
        if len(self._instructions) >= self._forget_at:
            self._forget_instructions()
        known = self._instructions
        for mod in packed:
            if mod.ops not in known:
                known[mod.ops] = mod.instructions
        txn, self._packed = self._packed or self.datapath.transaction(), None
        try:
            txn.flows(packed)
            txn.commit()
        except CoreError as exc:
            txn.close()
            name = error_name(_SOME_FLOW_MOD, exc)
            raise BridgeError(str(exc), name, max(0, exc.index), exc.hint) from None
        self._packed = txn  # empty again, for the next
        if self._n_watching:
            self._tell_changes(by)
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

    def _record(self, flow: Flow, compiled: records.FlowRecord | None = None) -> records.FlowRecord:
        """The flow's record. compiled: the same, where a message's decoder made it already."""
        record = compiled or records.compile_flow(flow, self._ops(flow.instructions))
        if record.ops not in self._instructions:
            self._instructions[record.ops] = flow.instructions
        if self.state is not None and (flow.idle_timeout or flow.hard_timeout):
            return replace(record, flags=record.flags | TELL)  # its end is to be kept too
        return record

    def _ops(self, instructions: Instructions) -> bytes:
        """Instructions compiled: the same object only once."""
        known = self._compiled.get(id(instructions))
        if known is not None and known[0] is instructions:
            return known[1]
        ops = records.compile_instructions(instructions)
        if len(self._compiled) >= 4096:
            self._compiled.clear()
        self._compiled[id(instructions)] = (instructions, ops)
        return ops

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
                self._apply_unkept(FlowMod(STANDALONE))
                self._alone = True
        elif self._alone:
            self._apply_unkept(FlowMod(STANDALONE, DELETE_STRICT))
            self._alone = False

    def _apply_unkept(self, change: FlowMod) -> None:
        """A change of the bridge's own, which is not to be there after a restart."""
        state, self.state = self.state, None
        try:
            self.apply([change])
        finally:
            self.state = state

    def is_own(self, flow: Flow | FlowStats) -> bool:
        """Is it the flow that the bridge has made in fail mode "standalone"? Not any more when a
        controller has added the same one."""
        place = (flow.table, flow.priority, flow.filter_prog)
        return self._alone and place == (0, 0, 0) and not flow.match

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
        for found in self.flow_records(
            table, match, filter_prog, cookie, cookie_mask, out_port, out_group, strict
        ):
            for flow in self.datapath.flows_of(found):
                yield self.stats_of(*flow, now)

    def flow_records(
        self,
        table: int = TABLE_ALL,
        match: Match = Match(),  # noqa: B008 a frozen value
        filter_prog: int | None = None,
        cookie: int = 0,
        cookie_mask: int = 0,
        out_port: int = PORT_ANY,
        out_group: int = PORT_ANY,
        strict: int | None = None,
    ) -> Iterator[bytes]:
        """The same flows as the datapath's records, many at a time."""
        chosen = (table, filter_prog, strict, cookie_mask, out_port, out_group)
        covers = coverage(match, strict)
        if covers is None and chosen == (TABLE_ALL, None, None, 0, PORT_ANY, PORT_ANY):
            yield from self.datapath.flow_records()
            return

        def is_meant(flow: tuple[tuple[Any, ...], bytes, bytes]) -> bool:
            info, match_bytes, ops = flow
            flow_table, flow_cookie, priority, prog = info[1], info[3], info[9], info[13]
            if table not in (TABLE_ALL, flow_table) or (flow_cookie ^ cookie) & cookie_mask:
                return False
            if filter_prog is not None and filter_prog != prog:
                return False
            if strict is not None and strict != priority:
                return False
            if covers is not None and not covers(match_bytes):
                return False
            if out_port == PORT_ANY and out_group == PORT_ANY:
                return True
            does = self.instructions_of(ops)
            return (out_port == PORT_ANY or names_target(does, act.Output, out_port)) and (
                out_group == PORT_ANY or names_target(does, act.ToGroup, out_group)
            )

        for found in self.datapath.flow_records():
            kept = []
            at = 0
            for flow in self.datapath.flows_of(found):
                end = at + flow[0][0]
                if is_meant(flow):
                    kept.append(found[at:end])
                at = end
            yield b"".join(kept)

    def stats_of(self, info: tuple[Any, ...], match: bytes, ops: bytes, now: int) -> FlowStats:
        """A record of the datapath as a flow."""
        (
            _, table, number, cookie, n_packets, n_bytes, created, modified, used, priority, flags,
            idle, hard, prog, _, _, learned, importance,
        ) = info  # fmt: skip
        return FlowStats(
            number, table, priority, prog, cookie, flags & ~TELL, importance, idle, hard, n_packets,
            n_bytes, max(0, now - created), max(0, now - max(used, created)),
            max(0, now - modified), bool(learned), self.instructions_of(ops), match, ops,
        )  # fmt: skip

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
                if event.flags & TELL and event.reason in ENDS_BY_ITSELF and self.state:
                    self.state.removed(event.table, event.priority, event.match, event.filter_prog)
                if not event.flags & SEND_FLOW_REM:
                    continue
            told = translate(event)
            if told is not None:
                self._tell(told)
        self.events_seen += len(events)
        if self._n_watching:
            self._tell_changes(None)
        self._look_at_tables()
        return len(events)

    def watch(self, delta: int) -> None:
        """One more (1) or one less (-1) wants to hear of FlowChanges."""
        self._n_watching += delta
        self.datapath.watch(self._n_watching > 0)

    def _tell_changes(self, by: Origin | None) -> None:
        changes, lost = self.datapath.changes()
        told = []
        old: FlowStats | None = None
        now = self.now
        for change in changes:
            flow = self.stats_of(change.info, change.match, change.ops, now)
            if change.kind == "replaced":
                old = flow
                continue
            reason = REMOVED.get(change.reason, 0)
            told.append(FlowChange(change.kind, reason, change.change, flow, old))
            old = None
        if told or lost:
            self._tell(FlowChanges(tuple(told), by, lost))

    def _look_at_tables(self) -> None:
        for event in self.tables.events():
            self._tell(event)

    def _tell(self, event: BridgeEvent) -> None:
        for listener in tuple(self._listeners):
            listener.event(event)


# ---------------------------------------------------------------- parts


def _nothing() -> None:
    """Nothing is attached."""


def _follow(known: dict[int, _Kept], thing: _Kept, command: str, everything: int) -> None:
    """What a change of a group or meter makes of those known; everything: the number for all."""
    if command != "delete":
        known[thing.id] = thing
    elif thing.id == everything:
        known.clear()
    else:
        known.pop(thing.id, None)
