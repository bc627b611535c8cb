"""A datapath as a library: ports, flows with filter programs, packets, counters, events.

    with oko.Datapath() as dp:
        dp.add_port(1)
        dp.add_port(2, kind="mem")
        dp.load_program(1, "blocked.c")
        dp.add_flow(oko.parse_flow("priority=9,filter_prog=1,actions=drop"))
        dp.add_flow(oko.parse_flow("actions=output:2"))
        dp.process([Frame(frame, in_port=1)])
        dp.read_port(2)

Changes go through transactions: what one commits shows to forwarding threads at once, or not at
all. The convenience methods (add_flow, ...) are transactions of one change. Whole captures are
oko.replay's business; it drives a Datapath.

Times are nanoseconds of the datapath clock, which packets advance. Everything here raises OkoError
only. Thread-safety: any thread may call anything; see docs/threading.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from . import _binding_dp as binding
from ._binding import Program
from ._binding_dp import PortInfo, QueueInfo, Stats, TableInfo, TraceStep
from .bpf import typed
from .bpf.spec import ProgramSpec
from .errors import CoreError, MapError, OkoError
from .filters import Maps, read_program
from .model import compile as records
from .model.actions import Action
from .model.flow import (
    ADD,
    Flow,
    FlowMod,
    Group,
    GroupMod,
    Match,
    Meter,
    MeterMod,
)

__all__ = [
    "CachedFlow",
    "CachedLookup",
    "Datapath",
    "Event",
    "FlowChange",
    "FlowStats",
    "Frame",
    "GroupStats",
    "MacEntry",
    "MeterStats",
    "PortInfo",
    "ProgramStats",
    "QueueInfo",
    "SentFrame",
    "Stats",
    "TableInfo",
    "TraceStep",
    "Transaction",
]

GROUP_COMMANDS = {"add": 0, "modify": 1, "delete": 2}

NO_FLOOD, NO_FWD, NO_RECV, NO_PACKET_IN, DOWN = 1, 2, 4, 8, 16
"""Port flags: enum oko_port_flag."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame to be handled. ns: when it arrives, 0 = now, at the newest time seen; wire_len: bytes
    it had on the wire, 0 = all are here; seq: any number that tells the packets apart."""

    data: bytes
    in_port: int = 1
    ns: int = 0
    wire_len: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame that left through a memory port: seq and ns are those of the packet it came from."""

    data: bytes
    seq: int
    ns: int
    wire_len: int


@dataclass(frozen=True, slots=True)
class FlowStats:
    """A flow in the tables, with exact counters.

    n_bytes counts wire lengths as the packets arrived. created, modified, used: ns, 0 = before the
    clock started, or never. ops: the instructions as the datapath holds them.
    """

    id: int
    table: int
    priority: int
    match: Match
    filter_prog: int
    cookie: int
    n_packets: int
    n_bytes: int
    created: int
    modified: int
    used: int
    idle_timeout: int
    hard_timeout: int
    flags: int
    learned: bool
    ops: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProgramStats:
    """A program under its number. runs, matches and faults count packets whose decision reached
    it; batch_runs packets that it ran on ahead of their decision."""

    number: int
    name: str
    n_flows: int
    runs: int
    matches: int
    faults: int
    batch_runs: int
    ns_per_run: float | None
    """Mean of the runs whose time was taken; None: none was."""


@dataclass(frozen=True, slots=True)
class GroupStats:
    """A group; buckets: (packets, bytes) each."""

    id: int
    type: int
    n_flows: int
    n_packets: int
    n_bytes: int
    created: int
    buckets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class MeterStats:
    """A meter; n_packets came to it; bands: (packets, bytes) that each applied to."""

    id: int
    flags: int
    n_flows: int
    n_packets: int
    n_bytes: int
    created: int
    bands: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class MacEntry:
    """An address that NORMAL has learned."""

    mac: bytes
    vlan: int
    port: int
    seen: int


@dataclass(frozen=True, slots=True)
class CachedFlow:
    """A flow in a remembered lookup."""

    id: int
    cookie: int
    priority: int
    filter_prog: int


@dataclass(frozen=True, slots=True)
class CachedLookup:
    """What a worker remembers of a table: packets with this key (the bits that flows of the table
    look at) are decided between these flows, in this order. The first whose program matches, or
    that has none, is it; more: there may be others after them."""

    worker: int
    table: int
    key: Match
    flows: tuple[CachedFlow, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the packet path; fields that a kind lacks are 0 or empty.

    kind: "packet-in", "flow-removed", "learned", "send-maps". reason: "no-match", "action",
    "invalid-ttl"; "idle", "hard", "delete", "group", "meter", "eviction". ns: of the packet, of the
    deadline, of the commit. controller: id of the controller action; program, maps: of send-maps
    (no maps: all of them).
    """

    kind: str
    reason: str
    ns: int
    seq: int
    table: int
    priority: int
    cookie: int
    flow_id: int
    match: Match
    filter_prog: int
    n_packets: int
    n_bytes: int
    duration: int
    idle_timeout: int
    hard_timeout: int
    in_port: int
    data: bytes
    total_len: int
    metadata: int
    tun_id: int
    pkt_mark: int
    regs: tuple[int, ...]
    controller: int = 0
    flags: int = 0
    program: int = 0
    maps: tuple[int, ...] = ()


_CHANGES = ("added", "modified", "gone", "replaced")


@dataclass(frozen=True, slots=True)
class FlowChange:
    """What became of a flow. kind: "added", "modified", "gone" (for a reason, as in events), or
    "replaced": what takes its place comes next. change: index in the transaction that did it, None:
    none did. info, match, ops: as raw_flows() has them."""

    kind: str
    reason: str
    change: int | None
    info: tuple[Any, ...]
    match: bytes
    ops: bytes


_KINDS = {1: "packet-in", 2: "flow-removed", 3: "learned", 4: "send-maps"}
_PACKET_IN, _REMOVED, _LEARNED, _SEND_MAPS = _KINDS
_REASONS = {
    _PACKET_IN: ("no-match", "action", "invalid-ttl"),
    _REMOVED: ("idle", "hard", "delete", "group", "meter", "eviction"),
}


def _event(raw: tuple[Any, ...], data: bytes) -> Event:
    kind, reason = raw[1], raw[2]
    names = _REASONS.get(kind, ("",))
    with_match = kind in (_REMOVED, _LEARNED)
    maps = kind == _SEND_MAPS
    return Event(
        kind=_KINDS.get(kind, str(kind)),
        reason=names[reason] if reason < len(names) else str(reason),
        ns=raw[3],
        seq=raw[4],
        cookie=raw[5],
        flow_id=raw[6],
        metadata=raw[7],
        tun_id=raw[8],
        n_packets=raw[9],
        n_bytes=raw[10],
        duration=raw[11],
        table=raw[12],
        in_port=raw[13],
        total_len=raw[15],
        pkt_mark=raw[17],
        priority=raw[18],
        filter_prog=raw[20],
        idle_timeout=raw[21],
        hard_timeout=raw[22],
        regs=tuple(int.from_bytes(raw[23][i : i + 4], "big") for i in range(0, 64, 4)),
        match=records.parse_match(data) if with_match else Match(),
        data=data if kind == _PACKET_IN else b"",
        controller=raw[16] if kind == _PACKET_IN else 0,
        flags=raw[16] if kind == _REMOVED else 0,
        program=raw[16] if maps else 0,
        maps=tuple(memoryview(data).cast("H")) if maps else (),
    )


class Transaction:
    """Changes that become visible together or not at all.

    As a context manager it commits at the end of the block, unless an exception ends it. Forms
    are checked when a change is added, what depends on the tables at commit; then the error's
    index tells which change failed, and nothing has changed.
    """

    def __init__(self, dp: Datapath) -> None:
        self._txn = binding.Txn(dp._dp)

    def flow(
        self,
        change: Flow | FlowMod,
        record: records.FlowRecord | None = None,
        *,
        age_ns: int = 0,
        idle_ns: int = 0,
    ) -> None:
        """Adds a flow, or carries out another command of a FlowMod. record: the flow compiled,
        where that is known already. age_ns: a flow being restored was added so long ago, and
        used idle_ns ago."""
        mod = change if isinstance(change, FlowMod) else FlowMod(change, ADD)
        self._txn.flow(
            record or records.compile_flow(mod.flow),
            mod.command,
            cookie_mask=mod.cookie_mask,
            or_add=mod.or_add,
            new_cookie=mod.new_cookie,
            age_ns=age_ns,
            idle_ns=idle_ns,
            out_port=mod.out_port,
            out_group=mod.out_group,
        )

    def flows(self, packed: Iterable[records.PackedFlowMod]) -> None:
        """Many flow changes. CoreError: its index tells which is malformed."""
        self._txn.flows(b"".join([mod.data for mod in packed]))

    def group(self, change: Group | GroupMod) -> None:
        """Adds a group, or carries out another command."""
        mod = change if isinstance(change, GroupMod) else GroupMod(change, "add")
        if mod.command == "add_or_mod":
            raise OkoError("add_or_mod is the control plane's to resolve: add or modify")
        self._txn.group(records.compile_group(mod.group), GROUP_COMMANDS[mod.command])

    def meter(self, change: Meter | MeterMod) -> None:
        """Adds a meter, or carries out another command."""
        mod = change if isinstance(change, MeterMod) else MeterMod(change, "add")
        self._txn.meter(records.compile_meter(mod.meter), GROUP_COMMANDS[mod.command])

    def packet_out(self, actions: Sequence[Action]) -> None:
        """Changes nothing: the commit fails unless Datapath.packet_out() could carry these out
        after the changes before."""
        self._txn.packet_out(records.compile_actions(actions))

    def commit(self) -> None:
        """Carries out everything added so far; afterwards the transaction is empty."""
        self._txn.commit()

    def close(self) -> None:
        """Forgets what was not committed."""
        self._txn.close()

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()


class Datapath:
    """A bridge with its flow tables, programs, ports and forwarding threads' state.

    workers: forwarding threads, 1..64. cache, interpret, burst: never change a result (for tests
    and the curious). secret: key of the hash tables, 0 = random. The limits are those of
    struct oko_dp_opts, 0 = default.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        cache: bool = True,
        interpret: bool = False,
        burst: int = 0,
        max_flows: int = 0,
        max_macs: int = 0,
        max_progs: int = 0,
        max_map_bytes: int = 0,
        event_bytes: int = 0,
        cache_bytes: int = 0,
        secret: int = 0,
    ) -> None:
        self.workers = workers
        self._dp = binding.Dp(
            n_workers=workers,
            flags=(0 if cache else binding.NO_CACHE) | (binding.INTERPRET if interpret else 0),
            burst=burst,
            max_flows=max_flows,
            max_macs=max_macs,
            max_progs=max_progs,
            max_map_bytes=max_map_bytes,
            event_bytes=event_bytes,
            cache_bytes=cache_bytes,
            secret=secret,
        )
        self._specs: dict[int, ProgramSpec] = {}

    def close(self) -> None:
        """Frees everything; calling it again does nothing."""
        self._dp.close()

    def __enter__(self) -> Datapath:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---------------------------------------------------------------- clock

    @property
    def now(self) -> int:
        """The newest packet's time, 0 before the first."""
        return self._dp.now()

    def clock_start(self, ns: int) -> None:
        """Starts the clock, if no packet has; flows added before are born then."""
        self._dp.clock_start(ns)

    def tick(self, ns: int, *, worker: int = 0) -> None:
        """Advances a worker's clock without packets: timeouts that fall due take effect."""
        self._dp.tick(worker, ns)

    # ---------------------------------------------------------------- forwarding threads

    def start(self, threads: int = 1, *, busy_poll: bool = False) -> None:
        """Starts forwarding threads, as the first of the workers: from now on live ports are
        served, time is the machine's (ns since 1970, without jumps), and process() and
        packet_out() may only name other workers. busy_poll: they never sleep."""
        self._dp.start(threads, busy_poll)

    def stop(self) -> None:
        """Ends the forwarding threads, if any."""
        self._dp.stop()

    # ---------------------------------------------------------------- ports

    def add_port(
        self,
        number: int,
        name: str = "",
        *,
        kind: str = "null",
        device: str = "",
        max_bytes: int = 1 << 28,
    ) -> None:
        """kind "null" only counts; "mem" keeps what leaves (up to max_bytes) for read_port().

        Live ports, which forwarding threads serve (start()): "afpacket", "tap" and "internal" on a
        network device, name if not given. They raise CoreError with errno where the system refused.
        """
        device = device or name
        if kind == "afpacket":
            self._dp.add_afpacket_port(number, name, device)
        elif kind in ("tap", "internal"):
            self._dp.add_tap_port(number, name, device, kind == "internal")
        elif kind == "null":
            self._dp.add_null_port(number, name)
        elif kind == "mem":
            self._dp.add_mem_port(number, name, max_bytes)
        else:
            raise OkoError(
                f"there is no kind of port {kind!r}; null, mem, afpacket, tap or internal"
            )

    def add_file_port(
        self,
        number: int,
        name: str = "",
        *,
        read: str | Path | None = None,
        write: str | Path | None = None,
        speed: float = 1.0,
        loop: bool = False,
    ) -> None:
        """A live port whose packets come from a capture, in its own time from the start of the
        forwarding threads on (speed: times as fast, 0 = all at once; loop: again and again), and
        whose output goes to a pcap file. OSError, CoreError."""
        read_fd = write_fd = -1
        try:
            if read is not None:
                read_fd = os.open(read, os.O_RDONLY | os.O_CLOEXEC)
            if write is not None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                write_fd = os.open(write, flags, 0o644)
        except OSError:
            if read_fd >= 0:
                os.close(read_fd)
            raise
        self._dp.add_file_port(number, name, read_fd, write_fd, speed, loop)

    def remove_port(self, number: int) -> None:
        """Flows that output to it stay, and drop."""
        self._dp.remove_port(number)

    def set_port_flags(self, number: int, flags: int) -> None:
        """NO_FLOOD, NO_FWD, NO_RECV, NO_PACKET_IN, DOWN."""
        self._dp.set_port_flags(number, flags)

    def set_queues(self, number: int, queues: Mapping[int, int]) -> None:
        """Declares a port's queues, which set_queue chooses: by number, the highest rate in bit/s
        (0 = no limit) beyond which packets are dropped. Queues that it has already keep their
        counters. A packet with another queue uses queue 0 if that is declared."""
        self._dp.set_queues(number, sorted(queues.items()))

    def queues(self) -> list[QueueInfo]:
        """All declared queues in rising port and queue, with counters."""
        return self._dp.queues()

    def ports(self) -> list[PortInfo]:
        """All ports in rising number, with counters."""
        return self._dp.ports()

    def read_port(self, number: int) -> list[SentFrame]:
        """What left through a memory port since the last call."""
        return [SentFrame(data, seq, ns, wire) for seq, ns, wire, data in self._dp.mem_read(number)]

    # ---------------------------------------------------------------- programs

    def load_program(
        self,
        number: int,
        source: ProgramSpec | bytes | str | Path,
        *,
        name: str = "",
        keep_maps: bool = False,
        guarded: bool = False,
        jit: bool = True,
        max_worst_case: int = 0,
    ) -> bool:
        """Reads (compiles), verifies and loads a program under a number, for filter_prog=number.

        A program that is there already is replaced in all flows at once (then True is returned);
        keep_maps: maps of the same name, type, sizes and capacity stay. Raises ElfError,
        ToolchainError or LoadError.
        """
        spec = read_program(source, name)
        flags = (1 if guarded else 0) | (0 if jit else 2)
        replaced = self._dp.load_program(
            number, spec, keep_maps=keep_maps, flags=flags, max_worst_case=max_worst_case
        )
        self._specs[number] = spec
        return replaced

    def unload_program(self, number: int, *, force: bool = False) -> None:
        """force: flows that use it go too; without it they are an error."""
        self._dp.unload_program(number, force)
        self._specs.pop(number, None)

    def maps(self, number: int) -> Maps:
        """The maps of the program loaded under number."""
        return Maps(self._program(number))

    def replace_map(
        self,
        number: int,
        name: str | int,
        entries: Iterable[tuple[typed.Value, typed.Value]],
    ) -> None:
        """Makes these entries all that a map of program number has (sketches: items, values unused;
        per-worker maps: for all workers), as by one store: every run of the program sees the old or
        the new contents. Needs memory for both. Map objects of before show the old contents.
        MapError, CoreError: nothing has changed."""
        found = self.maps(number).find(name)
        packed = [found.packed(key, value) for key, value in entries]
        try:
            self._dp.replace_map(number, found.number, b"".join(packed), len(packed))
        except CoreError as exc:
            raise MapError(str(exc), exc.code, exc.hint) from None

    def program_spec(self, number: int) -> ProgramSpec:
        """What was loaded under number."""
        if number not in self._specs:
            raise OkoError(f"program {number} is not loaded")
        return self._specs[number]

    def data(self, number: int) -> dict[int, bytes]:
        """The writable data sections (.data, .bss) of a program, by number, as they are now."""
        spec = self.program_spec(number)
        with contextlib.closing(self._program(number)) as program:
            return {i: program.data(i) for i, d in enumerate(spec.data) if d.writable}

    def set_data(self, number: int, sections: Mapping[int, bytes]) -> None:
        """Sets writable data sections of a program as a whole; for restoring, before it runs."""
        with contextlib.closing(self._program(number)) as program:
            for index, contents in sections.items():
                program.set_data(index, contents)

    def _program(self, number: int) -> Program:
        spec = self._specs.get(number)
        program = self._dp.program(number, spec) if spec is not None else None
        if program is None:
            raise OkoError(f"program {number} is not loaded")
        return program

    def programs(self) -> list[ProgramStats]:
        """All programs in rising number, with counters."""
        return [
            ProgramStats(
                p.number, p.name, p.n_flows, p.runs, p.matches, p.faults, p.batch_runs,
                p.sampled_ns / p.samples if p.samples else None,
            )
            for p in self._dp.programs()
        ]  # fmt: skip

    def log(self) -> list[str]:
        """Lines that programs printed (helper 7) since the last call."""
        return self._dp.log()

    # ---------------------------------------------------------------- changes

    def transaction(self) -> Transaction:
        """A new, empty transaction."""
        return Transaction(self)

    def add_flow(self, change: Flow | FlowMod) -> None:
        """A transaction of one flow or flow command."""
        with self.transaction() as txn:
            txn.flow(change)

    def add_flows(self, changes: Iterable[Flow | FlowMod]) -> None:
        """All of them in one transaction."""
        with self.transaction() as txn:
            for change in changes:
                txn.flow(change)

    def add_group(self, change: Group | GroupMod) -> None:
        """A transaction of one group."""
        with self.transaction() as txn:
            txn.group(change)

    def add_meter(self, change: Meter | MeterMod) -> None:
        """A transaction of one meter."""
        with self.transaction() as txn:
            txn.meter(change)

    # ---------------------------------------------------------------- packets

    def process(self, frames: Sequence[Frame | bytes], *, worker: int = 0) -> None:
        """Handles frames in order, on the calling thread, as the given worker."""
        self._dp.process(
            worker,
            [
                (1, 0, f, 0, i)
                if isinstance(f, bytes)
                else (f.in_port, f.ns, f.data, f.wire_len, f.seq)
                for i, f in enumerate(frames)
            ],
        )

    def packet_out(self, frame: Frame, actions: Sequence[Action], *, worker: int = 0) -> None:
        """Carries out actions on a frame, at once, as the given worker; output to TABLE sends it
        through the tables. frame.in_port may be any number."""
        self._dp.packet_out(
            worker,
            (frame.in_port, frame.ns, frame.data, frame.wire_len, frame.seq),
            records.compile_actions(actions),
        )

    def trace(self, seq: int) -> None:
        """Records the way of the packet with this seq, when it comes."""
        self._dp.trace(seq)

    def trace_frame(self, frame: Frame, *, worker: int = 0) -> list[TraceStep]:
        """The way that a frame would take if it came in now: nothing is sent, counted or learned,
        meters let it pass, and programs run on copies of what they write. worker: one that nobody
        else is running."""
        return self._dp.trace_frame(
            worker, (frame.in_port, frame.ns, frame.data, frame.wire_len, frame.seq)
        )

    def trace_steps(self) -> list[TraceStep]:
        """The recorded way; empty until the packet has come."""
        return self._dp.trace_steps()

    # ---------------------------------------------------------------- what is there

    def flows(self) -> Iterator[FlowStats]:
        """Every flow. One that is there throughout comes exactly once."""
        for i, match, ops in self.raw_flows():
            yield FlowStats(
                id=i[2], table=i[1], priority=i[9], match=records.parse_match(match),
                filter_prog=i[13], cookie=i[3], n_packets=i[4], n_bytes=i[5], created=i[6],
                modified=i[7], used=i[8], idle_timeout=i[11], hard_timeout=i[12], flags=i[10],
                learned=bool(i[16]), ops=ops,
            )  # fmt: skip

    def raw_flows(self) -> Iterator[tuple[tuple[Any, ...], bytes, bytes]]:
        """As flows(), but as flows_of() has them."""
        for some in self.flow_records():
            yield from self.flows_of(some)

    def flow_records(self) -> Iterator[bytes]:
        """All flows as flows() has them, many at a time, as the core's records."""
        return self._dp.flow_records()

    @staticmethod
    def flows_of(
        flow_records: bytes, at: int = 0
    ) -> Iterator[tuple[tuple[Any, ...], bytes, bytes]]:
        """The flows of such records from that offset on: struct oko_flow_info's fields, of which
        the first is the record's size, match, instructions."""
        return binding.flows_of(flow_records, at)

    def groups(self) -> list[GroupStats]:
        """All groups in rising number."""
        return [
            GroupStats(i[1], i[2], i[4], i[5], i[6], i[7], buckets)
            for i, buckets in self._dp.groups()
        ]

    def meters(self) -> list[MeterStats]:
        """All meters in rising number."""
        return [
            MeterStats(i[1], i[2], i[4], i[5], i[6], i[7], bands) for i, bands in self._dp.meters()
        ]

    def table(self, number: int) -> TableInfo:
        """Flows, masks and counters of a table."""
        return self._dp.table(number)

    def set_table(self, number: int, *, max_flows: int = 0, evict: bool = False) -> None:
        """max_flows: 0 = only the datapath's limit. evict: an add to the full table pushes out the
        least important flow that has a timeout, unless that is more important than the new one;
        otherwise it is an error."""
        self._dp.set_table(number, max_flows, evict)

    def macs(self) -> list[MacEntry]:
        """The addresses that NORMAL knows now."""
        return [MacEntry(*entry) for entry in self._dp.macs()]

    def drops(self) -> Mapping[str, int]:
        """Packets by reason; only reasons that occurred."""
        return self._dp.drops()

    def cache(self, worker: int) -> Iterator[CachedLookup]:
        """The lookups that a worker remembers and would use now, in no order. A forwarding thread
        reads its own between two bursts; they come in portions, and may change in between."""
        if not 0 <= worker < self.workers:
            raise OkoError(f"there is no worker {worker}")
        for table, key, flows, more in self._dp.cache(worker):
            yield CachedLookup(
                worker,
                table,
                records.parse_match(key),
                tuple(CachedFlow(*flow) for flow in flows),
                more,
            )

    def stats(self) -> Stats:
        """What the workers did: packets, bursts, cache."""
        return self._dp.stats()

    # ---------------------------------------------------------------- events

    def watch(self, on: bool) -> None:
        """From now on changes of flows are kept for changes(), or no longer."""
        self._dp.watch(on)

    def changes(self) -> tuple[list[FlowChange], bool]:
        """What became of flows since the last call, in order, and whether some of it was lost."""
        found, lost = self._dp.changes()
        return [
            FlowChange(
                _CHANGES[kind], _REASONS[_REMOVED][reason] if kind == 2 else "",
                None if change == 0xFFFFFFFF else change, info, match, ops,
            )
            for (_, change, kind, reason, _), info, match, ops in found
        ], lost  # fmt: skip

    def events(self) -> list[Event]:
        """What happened since the last call, oldest first."""
        return [_event(raw, data) for raw, data in self._dp.events()[0]]

    def events_lost(self) -> int:
        """Events lost so far because nobody read them in time."""
        return self._dp.events_lost()

    def event_fd(self) -> int:
        """A file descriptor that is readable while events wait."""
        return self._dp.event_fd()

    def send_misses(self, max_len: int) -> None:
        """From now on packets that no flow matches are "packet-in" events of reason "no-match",
        cut to max_len bytes; 0, as at first: they are only dropped."""
        self._dp.send_misses(max_len)
