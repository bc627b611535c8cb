"""Replays captures through flow rules with filter programs: oko.replay() and what it returns.

    result = oko.replay(
        "scan.pcap",
        flows=["priority=10,filter_prog=1,actions=drop", "priority=1,actions=output:2"],
        programs={1: "port_scan.o"},
        write={2: "clean.pcap"},
    )
    result.packets, result.ports[2].tx_packets, result.flows[0].n_packets

The work is done by the C core (csrc/replay.c) in slices of a tenth of a second without the GIL;
between two slices this module collects events and shows progress. Replayer does the same step by
step, for those who want to stop early and see what was done so far.

A capture that breaks off is processed as far as it goes and named in result.errors; everything
else that is wrong raises OkoError. Thread-safety: a Replayer belongs to one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ._binding_replay import MAX_WORKERS, Pace, Replay, Spread, Status, Step, Writer, add_pcap_port
from .bpf import typed
from .bpf.spec import MapSpec, ProgramSpec
from .captures import CaptureFile
from .datapath import (
    Datapath,
    Event,
    PortInfo,
    ProgramStats,
    Stats,
    TraceStep,
    Transaction,
)
from .errors import CoreError, OkoError
from .model import actions as act
from .model.compile import compile_flow
from .model.flow import Bucket, FlowMod, GroupMod, Match, MeterMod
from .text.action_format import format_instructions
from .text.flows import format_flow, iterate_rules, parse_flow_mod
from .text.groups import format_group, format_meter

Rule = FlowMod | GroupMod | MeterMod
PathLike = str | os.PathLike[str]
Flows = str | Path | Sequence[str | Path]
PORT_MAX = 0x7FFFFF00  # enum oko_port_no
SLICE_NS = 50_000_000
MAX_EVENTS = 100_000
"""Events that a result keeps at most; the rest is counted."""
MAX_LOG = 10_000
"""Lines that programs print, likewise."""

SPREADS = {
    "addr": Spread.ADDR,
    "5tuple": Spread.FIVE_TUPLE,
    "src": Spread.SRC,
    "dst": Spread.DST,
    "port": Spread.PORT,
}


# ---------------------------------------------------------------- results


@dataclass(frozen=True)
class FlowResult:
    """A flow at the end, with its counters. actions is "" for a flow that a packet installed."""

    table: int
    priority: int
    match: Match
    filter_prog: int
    cookie: int
    actions: str
    n_packets: int
    n_bytes: int
    learned: bool
    id: int


@dataclass(frozen=True)
class MapResult:
    """A map of a program at the end. entries: (key, value) sorted, None without dump_maps."""

    program: int
    id: int
    spec: MapSpec
    n_entries: int
    entries: list[tuple[bytes, bytes]] | None

    @property
    def name(self) -> str:
        """The symbol's name."""
        return self.spec.name


@dataclass
class ReplayResult:
    """What a replay did."""

    packets: int
    bytes: int
    """Wire length of all packets."""
    seconds: float
    """From the first packet to the end; loading and verifying excluded."""
    loops: int
    """Rounds over the captures that were completed."""
    first_ns: int
    last_ns: int
    """The datapath clock at the first and the last packet."""
    workers: int
    preloaded: bool
    copied: bool
    """Were frames copied between the read buffer and the worker that handled them?"""
    ports: dict[int, PortInfo]
    """rx is what the captures brought, tx what left; bytes are those of the wire."""
    flows: list[FlowResult]
    programs: dict[int, ProgramStats]
    maps: list[MapResult]
    drops: dict[str, int]
    events: list[Event]
    events_lost: int
    """Events beyond MAX_EVENTS, or lost because they came too fast."""
    errors: list[str]
    """Captures that broke off, one line each."""
    notes: list[str]
    """Adapted link types and the like, one line each."""
    log: list[str]
    """What programs printed."""
    trace: list[TraceStep]
    stats: Stats
    """How lookups were answered."""
    interrupted: bool

    @property
    def rate(self) -> float:
        """Packets per second."""
        return self.packets / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Progress:
    """How far a replay has come."""

    packets: int
    bytes: int
    seconds: float
    fraction: float | None
    """Of the whole work; None where that is not known."""
    loading: bool = False


# ---------------------------------------------------------------- replaying


def replay(captures: PathLike | Sequence[PathLike], **options: Any) -> ReplayResult:
    """Replays captures (pcap, pcapng, gzip or zstd; "-" is standard input) and returns the result.

    The options are those of Replayer.
    """
    with Replayer(captures, **options) as replayer:
        replayer.run()
        return replayer.result()


class Replayer:
    """A replay that is ready to run.

    captures: one or several, merged by time; the first one's packets come in at port 1, the
        second one's at port 2, and so on, or at in_ports.
    flows: rules in ovs-ofctl's grammar; a str is one flow, a pathlib.Path a file of rules.
    programs: {number: object or C file, bytes of an object, or ProgramSpec}.
    map_updates: "prog=1,map=blocked,key=ip:10.0.0.1,value=u32:1" or typed.MapUpdate.
    ports: further ports; those of captures, write and flows are there anyway.
    write: {port: file}: what leaves through the port goes to a pcap file.
    workers, spread: forwarding threads, and by what packets go to them ("addr", "5tuple", "src",
        "dst", "port"). docs/replay.md says when the result is that of one worker.
    loop: rounds over the captures; duration: instead, so many seconds of wall time.
    pps, mbit, realtime: the pace (packets/s, Mbit/s, speed factor; True = 1); none: no pause.
    preload: read everything into memory first.
    max_packets: stop after so many. trace: stop after this packet (1 = the first), and tell its
        way in result.trace.
    cache, burst, interpret: for tests and the curious; none of them changes a result.
    dump_maps: with the contents of all maps in the result.
    progress: called now and then with a Progress.

    Raises OkoError for whatever is wrong with files, flows, programs or options.
    """

    def __init__(
        self,
        captures: PathLike | Sequence[PathLike],
        *,
        flows: Flows = (),
        programs: Mapping[int, ProgramSpec | bytes | PathLike] | None = None,
        map_updates: Iterable[str | typed.MapUpdate] = (),
        in_ports: int | Sequence[int] = (),
        ports: Iterable[int] = (),
        write: Mapping[int, PathLike] | None = None,
        workers: int = 1,
        spread: str = "addr",
        loop: int = 1,
        duration: float | None = None,
        pps: float | None = None,
        mbit: float | None = None,
        realtime: float | bool | None = None,
        preload: bool = False,
        max_packets: int = 0,
        trace: int = 0,
        cache: bool = True,
        burst: int = 32,
        interpret: bool = False,
        guarded: bool = False,
        dump_maps: bool = True,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._paths = [captures] if isinstance(captures, (str, os.PathLike)) else list(captures)
        if not self._paths:
            raise OkoError("no capture is given")
        self._in_ports = _in_ports(in_ports, len(self._paths))
        self._loop, self._duration = loop, duration
        self._preload, self._dump_maps, self._progress = preload, dump_maps, progress
        self._trace, self._max_packets = trace, trace or max_packets
        self._workers = workers
        pace, rate = _pace(pps, mbit, realtime)
        _in_range("workers", workers, 1, MAX_WORKERS)
        _in_range("burst", burst, 1, 32)
        _in_range("loop", loop, 1, 2**63)
        _in_range("trace", trace, 0, 2**63)
        if duration is not None and not 0 < duration < 1e9:
            raise OkoError(f"duration {duration!r} is not a number of seconds")
        if spread not in SPREADS:
            raise OkoError(f"no spread {spread!r}: there are {', '.join(SPREADS)}")

        self._stack = ExitStack()
        self._files: list[CaptureFile] = []
        self._events: list[Event] = []
        self._log: list[str] = []
        self._notes_so_far: list[str] = []
        self._events_dropped = 0
        self._status: Status | None = None
        self._finished = False
        try:
            self.datapath = self._stack.enter_context(
                Datapath(
                    workers=workers,
                    burst=burst,
                    cache=cache,
                    interpret=interpret,
                    event_bytes=16 << 20,
                )
            )
            self._texts: dict[bytes, str] = {}
            changes = self._stack.enter_context(closing(self.datapath.transaction()))
            named = self._read(flows, changes)
            self._open_captures()
            self._writers = self._add_ports({*named, *ports}, dict(write or {}), pace)
            for number, source in (programs or {}).items():
                self._load(number, source, guarded)
            for update in map_updates:
                self._update(typed.parse_update(update) if isinstance(update, str) else update)
            self._commit(changes, flows)
            if trace:
                self.datapath.trace(trace)
            self._replay = self._stack.enter_context(
                Replay(
                    self.datapath._dp,
                    [(f.capture, p) for f, p in zip(self._files, self._in_ports, strict=True)],
                    [writer for writer, _ in self._writers],
                    n_workers=workers,
                    spread=SPREADS[spread],
                    pace=pace,
                    rate=rate,
                    burst=burst,
                    loops=0 if duration is not None else loop,
                    duration_ns=int((duration or 0) * 1e9),
                    max_packets=self._max_packets,
                    preload=preload,
                )
            )
        except BaseException:
            self._stack.close()
            raise

    def _open_captures(self) -> None:
        for file in self._files:
            file.close()
        self._files = [self._stack.enter_context(CaptureFile(path)) for path in self._paths]

    def _add_ports(
        self, ports: set[int], write: dict[int, PathLike], pace: Pace
    ) -> list[tuple[Writer, str]]:
        """All ports, and the writers of those that have one."""
        nanoseconds = pace in (Pace.PPS, Pace.BITS) or any(
            f.capture.nanoseconds or f.capture.format == "pcapng" for f in self._files
        )
        writers: list[tuple[Writer, str]] = []
        for number, path in write.items():
            _check_port(number, f"write {os.fspath(path)}")
            others = [*self._paths, *(other for _, other in writers)]
            file = self._stack.enter_context(_Output(path, others))
            try:
                writer = self._stack.enter_context(Writer(file.fd, nanoseconds, self._workers))
            except CoreError as exc:
                raise OkoError(f"{os.fspath(path)}: {exc}") from None
            add_pcap_port(self.datapath._dp, number, "", writer)
            writers.append((writer, os.fspath(path)))
        for number in sorted({*self._in_ports, *ports} - write.keys()):
            _check_port(number, "port")
            self.datapath.add_port(number)
        return writers

    def _load(self, number: int, source: ProgramSpec | bytes | PathLike, guarded: bool) -> None:
        if isinstance(source, os.PathLike):
            source = os.fspath(source)
        try:
            self.datapath.load_program(number, source, guarded=guarded)
        except OkoError as exc:
            exc.args = (f"program {number}: {exc}",)
            raise

    def _update(self, update: typed.MapUpdate) -> None:
        numbers = [program.number for program in self.datapath.programs()]
        if not update.prog and len(numbers) == 1:
            number = numbers[0]
        elif not update.prog.isdecimal() or int(update.prog) not in numbers:
            have = ", ".join(map(str, numbers)) or "none"
            what = f"no program {update.prog!r}" if update.prog else "'prog=' is missing"
            raise OkoError(f"update of map {update.map!r}: {what}; loaded programs: {have}")
        else:
            number = int(update.prog)
        self.datapath.maps(number).find(update.map).apply(update)

    def _read(self, flows: Flows, changes: Transaction) -> set[int]:
        """Adds all rules to a transaction, one at a time since they may be a million; returns the
        ports that they name."""
        ports: set[int] = set()
        for rule, place in _rules(flows):
            try:
                if not isinstance(rule, FlowMod):
                    _add(changes, rule)
                    ports.update(_ports_in(rule))
                    continue
                record = compile_flow(rule.flow)
                changes.flow(rule, record)
            except OkoError as exc:
                raise self._refused(rule, place, exc) from None
            ports.update(_ports_in(rule.flow.match))
            if record.ops not in self._texts:  # most rules do what others do
                self._texts[record.ops] = format_instructions(rule.flow.instructions)
                ports.update(_ports_in(rule.flow.instructions))
        return ports

    def _commit(self, changes: Transaction, flows: Flows) -> None:
        """All rules at once; an error says which of them is wrong."""
        try:
            changes.commit()
        except CoreError as exc:
            given = [flows] if isinstance(flows, (str, Path)) else flows
            if all(rules.is_file() for rules in given if isinstance(rules, Path)):
                for found in islice(_rules(flows), exc.index, None):  # none was kept: read again
                    raise self._refused(*found, exc) from None
            what = str(exc).removeprefix("flow: ")
            raise OkoError(f"rule {exc.index + 1}: {what}", exc.hint) from None

    def _refused(self, rule: Rule, place: str, exc: OkoError) -> OkoError:
        """The error about a rule, with where it stands, its text and what to do."""
        hint = exc.hint
        number = rule.flow.filter_prog if isinstance(rule, FlowMod) else 0
        if number and number not in (program.number for program in self.datapath.programs()):
            hint = f"load it: --load-filter-prog {number}=FILE"
        return OkoError(f"{place}: {_text(rule)}: {str(exc).removeprefix('flow: ')}", hint)

    # ------------------------------------------------------------ running

    def run(self) -> None:
        """Replays to the end. Interrupted (KeyboardInterrupt), it may be called again to go on."""
        while not self._finished:
            try:
                step = self._replay.run(SLICE_NS)
            except CoreError as exc:
                raise OkoError(self._write_error(exc)) from None
            self._status = self._replay.status
            self._collect_events()
            if self._progress is not None:
                self._progress(self._how_far(self._status))
            if step is Step.REWIND:
                self._notes_so_far += self._notes()
                self._open_captures()
                self._replay.rewind([file.capture for file in self._files])
            self._finished = step is Step.DONE

    def run_for(self, seconds: float) -> int:
        """Goes on for about so many seconds of wall time, in this thread with one worker; returns
        the number of packets handled so far. For benchmarks: collects no events, shows no
        progress, and needs preload."""
        self._replay.run(int(seconds * 1e9))
        packets: int = self._replay.status.packets
        return packets

    def _write_error(self, exc: CoreError) -> str:
        """Which file a failed write was about."""
        for writer, path in self._writers:
            try:
                writer.flush()
            except CoreError as failed:
                return f"{path}: {failed}"
        return str(exc)

    def _collect_events(self) -> None:
        self._log += self.datapath.log()[: MAX_LOG - len(self._log)]
        for event in self.datapath.events():
            if len(self._events) < MAX_EVENTS:
                self._events.append(event)
            else:
                self._events_dropped += 1

    def _how_far(self, status: Status) -> Progress:
        seconds = status.run_ns / 1e9
        sizes = sum(file.size for file in self._files)
        read = min(sum(file.position for file in self._files) / sizes, 1.0) if sizes else None
        if self._preload and status.per_round == 0:
            return Progress(status.loaded, 0, seconds, read, loading=True)
        if self._duration is not None:
            fraction: float | None = min(seconds / self._duration, 1.0)
        elif self._max_packets:
            fraction = status.packets / self._max_packets
        elif status.per_round:
            fraction = min(status.packets / (status.per_round * self._loop), 1.0)
        else:
            fraction = read / self._loop if read is not None else None
        return Progress(status.packets, status.bytes, seconds, fraction)

    # ------------------------------------------------------------ result

    def result(self) -> ReplayResult:
        """What was done so far. Writes out what is buffered; OkoError when that fails."""
        for writer, path in self._writers:
            try:
                writer.flush()
            except CoreError as exc:
                raise OkoError(f"{path}: {exc}") from None
        status = self._replay.status
        self._collect_events()
        datapath = self.datapath
        return ReplayResult(
            packets=status.packets,
            bytes=status.bytes,
            seconds=status.run_ns / 1e9,
            loops=status.loops,
            first_ns=status.first_ns,
            last_ns=status.last_ns,
            workers=self._workers,
            preloaded=self._preload,
            copied=status.copied,
            ports={p.number: p for p in datapath.ports()},
            flows=sorted(self._flow_results(), key=lambda f: (f.table, -f.priority, f.id)),
            programs={p.number: p for p in datapath.programs()},
            maps=list(self._map_results()),
            drops=dict(datapath.drops()),
            events=list(self._events),
            events_lost=self._events_dropped + datapath.events_lost(),
            errors=self._errors(),
            notes=list(dict.fromkeys(self._notes_so_far + self._notes())),
            log=list(self._log),
            trace=datapath.trace_steps() if self._trace else [],
            interrupted=not self._finished,
            stats=datapath.stats(),
        )

    def _flow_results(self) -> Iterator[FlowResult]:
        for flow in self.datapath.flows():
            yield FlowResult(
                table=flow.table,
                priority=flow.priority,
                match=flow.match,
                filter_prog=flow.filter_prog,
                cookie=flow.cookie,
                actions=self._texts.get(flow.ops, ""),
                n_packets=flow.n_packets,
                n_bytes=flow.n_bytes,
                learned=flow.learned,
                id=flow.id,
            )

    def _map_results(self) -> Iterator[MapResult]:
        for program in self.datapath.programs():
            for found in self.datapath.maps(program.number).values():
                # A hash table has no order worth showing, so that two runs give the same.
                entries = sorted(found.items()) if self._dump_maps else None
                n_entries = found.stats.n_entries
                yield MapResult(program.number, found.number, found.spec, n_entries, entries)

    def _errors(self) -> list[str]:
        """Captures that ended early, with the reason nearest to the cause."""
        errors = []
        for index, file in enumerate(self._files):
            error = self._replay.source_error(index)
            if error is not None or file.damage:
                errors.append(f"{file.name}: {file.damage or error}")
        return errors

    def _notes(self) -> list[str]:
        return [
            f"{file.name}: link type {file.capture.adapted} has no Ethernet header: one was made up"
            for file in self._files
            if not file.closed and file.capture.adapted
        ]

    def close(self) -> None:
        """Closes files and datapath; calling it again does nothing."""
        self._stack.close()

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# ---------------------------------------------------------------- options


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise OkoError(f"{name} is {value!r}, not a number from {low} to {high}")


def _check_port(number: int, what: str) -> None:
    if not isinstance(number, int) or not 1 <= number < PORT_MAX:
        raise OkoError(f"{what}: port {number!r} is not a number from 1 to {PORT_MAX - 1}")


def _in_ports(given: int | Sequence[int], n: int) -> list[int]:
    """The port of each of n captures."""
    ports = [given] if isinstance(given, int) else list(given)
    if not ports:
        ports = list(range(1, n + 1))
    elif len(ports) == 1:
        ports *= n
    elif len(ports) != n:
        raise OkoError(f"{len(ports)} input ports for {n} captures")
    for port in ports:
        _check_port(port, "input port")
    return ports


def _pace(
    pps: float | None, mbit: float | None, realtime: float | bool | None
) -> tuple[Pace, float]:
    given = [
        (name, pace, float(rate) * unit)
        for name, pace, rate, unit in (
            ("pps", Pace.PPS, pps, 1.0),
            ("mbit", Pace.BITS, mbit, 1e6),
            ("realtime", Pace.REALTIME, realtime or None, 1.0),
        )
        if rate is not None
    ]
    if len(given) > 1:
        raise OkoError(f"{' and '.join(name for name, _, _ in given)}: a replay has one pace")
    for name, pace, rate in given:
        if not 0 < rate < 1e15:
            raise OkoError(f"{name}: {rate:g} is no rate")
        return pace, rate
    return Pace.MAX, 0.0


# ---------------------------------------------------------------- rules


def _rules(flows: Flows) -> Iterator[tuple[Rule, str]]:
    """Each rule with the place where it came from."""
    for given in [flows] if isinstance(flows, (str, Path)) else flows:
        if isinstance(given, Path):
            try:
                with given.open(encoding="utf-8") as lines:
                    for rule in iterate_rules(lines, str(given)):
                        yield rule, str(given)
            except OSError as exc:
                raise OkoError(f"{given}: {exc.strerror}") from None
            except UnicodeDecodeError:
                raise OkoError(f"{given}: not UTF-8 text") from None
        else:
            yield parse_flow_mod(given), "flow"


def _add(txn: Transaction, rule: GroupMod | MeterMod) -> None:
    if isinstance(rule, GroupMod):
        txn.group(rule)
    else:
        txn.meter(rule)


def _text(rule: Rule) -> str:
    if isinstance(rule, FlowMod):
        return format_flow(rule.flow)
    if isinstance(rule, GroupMod):
        return format_group(rule.group)
    return format_meter(rule.meter)


def _ports_in(value: object) -> Iterator[int]:
    """Ordinary ports that rules name: outputs, buckets' watch ports, in_port matches."""
    if isinstance(value, (act.Output, act.OutputTrunc)):
        found: Iterable[int] = [value.port]
    elif isinstance(value, Match):
        port = value.exact("in_port")
        found = [] if port is None else [port]
    elif isinstance(value, (list, tuple)):
        found = (port for item in value for port in _ports_in(item))
    elif is_dataclass(value):
        found = (port for f in fields(value) for port in _ports_in(getattr(value, f.name)))
        if isinstance(value, Bucket):
            found = [*found, value.watch_port]
    else:
        found = []
    yield from (port for port in found if 1 <= port < PORT_MAX)


# ---------------------------------------------------------------- files


class _Output:
    """A file to write a capture to; never one that is read from or written to twice."""

    def __init__(self, path: PathLike, taken: Iterable[PathLike]) -> None:
        self.path = os.fspath(path)
        for other in taken:
            try:
                same = os.path.samefile(self.path, other)
            except OSError:
                continue
            if same and os.path.isfile(self.path):
                raise OkoError(f"{self.path}: is read or written already")
        try:
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as exc:
            raise OkoError(f"{self.path}: {exc.strerror}") from None

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)
