"""The datapath's part of the binding: struct oko_dp and struct oko_txn as classes with bytes, ints
and dataclasses on the outside. oko.datapath is the API for people; this is what it stands on.

Thread-safety: as oko.h; the GIL is released during every call. Packets of one worker must not be
handled by two threads at once, which a lock per worker ensures here.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ._binding import CData, Handle, Program, _Flat, _string, check, load_error
from ._oko import ffi, lib
from .bpf.spec import ProgramSpec
from .errors import CoreError
from .model.compile import PACKED, FlowRecord, GroupRecord, MeterRecord

NO_CACHE = 1
INTERPRET = 2
ANY = 0xFFFFFFFF
N_DROPS = int(lib.OKO_N_DROPS)

T = TypeVar("T")


NO_INSN = 0xFFFFFFFF


def _record(cls: type[T], source: CData) -> T:
    """A dataclass from the C fields of the same names; char arrays become text."""
    values = []
    for own in fields(cls):  # type: ignore[arg-type]
        value = getattr(source, own.name)
        values.append(_string(value) if isinstance(value, ffi.CData) else int(value))
    return cls(*values)


@dataclass(frozen=True)
class PortInfo:
    """struct oko_port_info: a port and its counters. Bytes are those of the wire."""

    number: int
    flags: int
    name: str
    kind: str
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    tx_dropped: int
    rx_dropped: int


@dataclass(frozen=True)
class QueueInfo:
    """struct oko_queue_info: a declared queue of a port and its counters. max_rate: bit/s, 0 = no
    limit; created: ns of the datapath clock."""

    port: int
    id: int
    max_rate: int
    tx_packets: int
    tx_bytes: int
    tx_errors: int
    created_ns: int


@dataclass(frozen=True)
class ProgramInfo:
    """struct oko_dp_prog_info: a program under its number."""

    number: int
    n_flows: int
    runs: int
    matches: int
    faults: int
    sampled_ns: int
    samples: int
    batch_runs: int
    name: str


@dataclass(frozen=True)
class TableInfo:
    """struct oko_table_info."""

    n_flows: int
    n_masks: int
    lookups: int
    matches: int


@dataclass(frozen=True)
class Stats:
    """struct oko_dp_stats: what the workers did."""

    packets: int
    bursts: int
    cache_hits: int
    cache_restamped: int
    cache_misses: int
    direct: int
    relookups: int
    commits: int


@dataclass(frozen=True)
class TraceStep:
    """struct oko_trace_step: one step of a traced packet; kind is enum oko_trace_kind. insn and
    branch: where a program's run ended, NO_INSN = not known (only trace_frame() knows); not a part
    of the way."""

    kind: int
    depth: int
    table: int
    priority: int
    flow_id: int
    cookie: int
    arg: int
    value: int
    insn: int = field(default=NO_INSN, compare=False)
    branch: int = field(default=NO_INSN, compare=False)


class _Struct:
    """A C struct's layout for struct.unpack_from, checked against the compiled one."""

    def __init__(self, name: str, form: str) -> None:
        self._form = struct.Struct("=" + form)
        self.size = self._form.size
        real = ffi.sizeof(f"struct {name}")
        if real != self.size:
            raise ImportError(f"struct {name} has {real} bytes, its format {self.size}")

    def read(self, data: bytes, at: int) -> tuple[Any, ...]:
        return self._form.unpack_from(data, at)


FLOW = _Struct("oko_flow_info", "II7Q2H7I")
_Struct("oko_flow_mod", PACKED.format[1:])  # they agree
CHANGE = _Struct("oko_flow_change", "2I2HI")
EVENT = _Struct("oko_event", "I2H9Q6I2H3I64s")
GROUP = _Struct("oko_group_info", "5I4x3Q")
METER = _Struct("oko_meter_info", "5I4x3Q")
COUNTS = struct.Struct("=QQ")
FRAME = _Struct("oko_mem_frame", "2Q2I")
FRAME_IN = struct.Struct("=QIIIIQQ")
CACHE_ENTRY = _Struct("oko_cache_entry", "6I")
CACHE_FLOW = struct.Struct("=QQII")
MATCH_FIELD_SIZE = ffi.sizeof("struct oko_match_field")

CHUNK = 1 << 20


def flows_of(records: bytes, at: int = 0) -> Iterator[tuple[tuple[Any, ...], bytes, bytes]]:
    """(fields of struct oko_flow_info, match records, instructions) of each flow of such records,
    from that offset on. The first field is the size of a flow's record."""
    while at < len(records):
        info = FLOW.read(records, at)
        match = at + FLOW.size
        ops = match + info[14] * MATCH_FIELD_SIZE
        yield info, records[match:ops], records[ops : ops + info[15]]
        at += info[0]


class Dp(Handle):
    """A bridge: struct oko_dp."""

    _what = "datapath"

    def __init__(self, **options: int) -> None:
        opts = ffi.new("struct oko_dp_opts *")
        for name, value in options.items():
            setattr(opts, name, value)
        out = ffi.new("struct oko_dp **")
        check(lib.oko_dp_new(opts, out), what="datapath")
        self.n_workers = int(opts.n_workers)
        self._running = [threading.Lock() for _ in range(self.n_workers)]
        self._programs = threading.Lock()
        super().__init__(out[0], lib.oko_dp_free)

    @property
    def pointer(self) -> CData:
        """The struct oko_dp *, for other parts of the binding."""
        return self._ptr

    # ---------------------------------------------------------------- clock

    def now(self) -> int:
        return int(lib.oko_dp_now(self._ptr))

    def clock_start(self, ns: int) -> None:
        lib.oko_dp_clock_start(self._ptr, ns)

    # ---------------------------------------------------------------- forwarding threads

    def start(self, n_threads: int, busy_poll: bool) -> None:
        opts = ffi.new("struct oko_live_opts *")
        opts.n_threads, opts.busy_poll = n_threads, busy_poll
        error = ffi.new("struct oko_error *")
        check(lib.oko_dp_start(self._ptr, opts, error), error)

    def stop(self) -> None:
        lib.oko_dp_stop(self._ptr)

    # ---------------------------------------------------------------- ports

    def add_null_port(self, number: int, name: str) -> None:
        check(lib.oko_dp_port_add_null(self._ptr, number, name.encode()), what=f"port {number}")

    def add_mem_port(self, number: int, name: str, max_bytes: int) -> None:
        code = lib.oko_dp_port_add_mem(self._ptr, number, name.encode(), max_bytes)
        check(code, what=f"port {number}")

    def add_afpacket_port(self, number: int, name: str, device: str) -> None:
        error = ffi.new("struct oko_error *")
        check(
            lib.oko_dp_port_add_afpacket(self._ptr, number, name.encode(), device.encode(), error),
            error,
        )

    def add_file_port(
        self, number: int, name: str, read_fd: int, write_fd: int, speed: float, loop: bool
    ) -> None:
        error = ffi.new("struct oko_error *")
        check(
            lib.oko_dp_port_add_file(
                self._ptr, number, name.encode(), read_fd, write_fd, speed, loop, error
            ),
            error,
        )

    def add_tap_port(self, number: int, name: str, device: str, internal: bool) -> None:
        error = ffi.new("struct oko_error *")
        check(
            lib.oko_dp_port_add_tap(
                self._ptr, number, name.encode(), device.encode(), internal, error
            ),
            error,
        )

    def remove_port(self, number: int) -> None:
        check(lib.oko_dp_port_remove(self._ptr, number), what=f"port {number}")

    def set_port_flags(self, number: int, flags: int) -> None:
        check(lib.oko_dp_port_set_flags(self._ptr, number, flags), what=f"port {number}")

    def set_queues(self, number: int, queues: Sequence[tuple[int, int]]) -> None:
        """(id, highest rate in bit/s or 0) of each, ids rising."""
        specs = ffi.new("struct oko_queue_spec[]", max(1, len(queues)))
        for out, (number_of_queue, max_rate) in zip(specs, queues, strict=False):
            out.id, out.max_rate = number_of_queue, max_rate
        error = ffi.new("struct oko_error *")
        check(lib.oko_dp_port_set_queues(self._ptr, number, specs, len(queues), error), error)

    def queues(self) -> list[QueueInfo]:
        return self._listed("struct oko_queue_info[]", lib.oko_dp_queues, QueueInfo)

    def ports(self) -> list[PortInfo]:
        return self._listed("struct oko_port_info[]", lib.oko_dp_ports, PortInfo)

    def _listed(self, array: str, fill: Any, cls: type[T]) -> list[T]:
        n = fill(self._ptr, ffi.NULL, 0)
        while True:
            out = ffi.new(array, max(1, n))
            there = fill(self._ptr, out, n)
            if there <= n:
                return [_record(cls, out[i]) for i in range(there)]
            n = there

    def mem_read(self, number: int) -> Iterator[tuple[int, int, int, bytes]]:
        """(seq, ns, wire_len, frame) of what left through a memory port since the last call."""
        size = CHUNK
        out = ffi.new("uint8_t[]", size)
        while True:
            used = lib.oko_dp_mem_read(self._ptr, number, out, size)
            check(used, what=f"memory port {number}")
            if used == 0:
                return
            data = ffi.buffer(out, used)[:]
            at = 0
            while at < used:
                seq, ns, length, wire_len = FRAME.read(data, at)
                at += FRAME.size
                yield seq, ns, wire_len, data[at : at + length]
                at += (length + 7) // 8 * 8

    # ---------------------------------------------------------------- programs

    def load_program(
        self,
        number: int,
        spec: ProgramSpec,
        *,
        keep_maps: bool,
        flags: int = 0,
        max_worst_case: int = 0,
        verify_budget: int = 0,
        verify_memory: int = 0,
    ) -> bool:
        """True: replaced the program that was there. Raises LoadError."""
        opts = ffi.new("struct oko_load_opts *")
        opts.flags = flags
        opts.max_worst_case = max_worst_case
        opts.verify_budget = verify_budget
        opts.verify_memory = verify_memory
        replaced = ffi.new("bool *")
        error = ffi.new("struct oko_error *")
        error.insn = -1
        with _Flat(spec) as flat:
            code = lib.oko_dp_prog_load(
                self._ptr, number, flat.spec, opts, keep_maps, replaced, error
            )
        if code < 0:
            raise load_error(spec, code, error)
        return bool(replaced[0])

    def unload_program(self, number: int, force: bool) -> None:
        error = ffi.new("struct oko_error *")
        check(lib.oko_dp_prog_unload(self._ptr, number, force, error), error)

    def program(self, number: int, spec: ProgramSpec) -> Program | None:
        """The program loaded under number, as a handle of its own; spec describes it."""
        pointer = lib.oko_dp_prog(self._ptr, number)
        return None if pointer == ffi.NULL else Program(pointer, spec, self._programs)

    def replace_map(self, number: int, index: int, entries: bytes, n_entries: int) -> None:
        """Packed keys and values, each of the map's sizes, become all that the map has."""
        error = ffi.new("struct oko_error *")
        data = ffi.from_buffer("uint8_t[]", entries)
        check(lib.oko_dp_map_replace(self._ptr, number, index, data, n_entries, error), error)

    def programs(self) -> list[ProgramInfo]:
        return self._listed("struct oko_dp_prog_info[]", lib.oko_dp_progs, ProgramInfo)

    def log(self) -> list[str]:
        """Lines that programs printed since the last call."""
        lines = []
        buffer = ffi.new("char[]", 1024)
        lost = ffi.new("uint64_t *")
        while lib.oko_dp_log_read(self._ptr, buffer, 1024, lost):
            lines.append(_string(buffer))
        if lost[0]:
            lines.append(f"({lost[0]} lines lost)")
        return lines

    # ---------------------------------------------------------------- what is there

    def _dump(self, fill: Any) -> Iterator[bytes]:
        """Chunks of whole records."""
        cursor = ffi.new("uint64_t *")
        size = CHUNK
        while True:
            out = ffi.new("uint8_t[]", size)
            used = fill(self._ptr, cursor, out, size)
            if used == lib.OKO_E_LIMIT:
                size *= 4
                continue
            if used <= 0:
                return
            yield ffi.buffer(out, used)[:]

    def flow_records(self) -> Iterator[bytes]:
        """All flows, many at a time, for flows_of() and _binding_stencils.Stencils."""
        return self._dump(lib.oko_dp_flows)

    def _objects(
        self, fill: Any, layout: _Struct
    ) -> Iterator[tuple[tuple[Any, ...], tuple[tuple[int, int], ...]]]:
        for chunk in self._dump(fill):
            at = 0
            while at < len(chunk):
                info = layout.read(chunk, at)
                parts = chunk[at + layout.size : at + info[0]]
                yield info, tuple((n, b) for n, b in COUNTS.iter_unpack(parts))
                at += info[0]

    def groups(self) -> Iterator[tuple[tuple[Any, ...], tuple[tuple[int, int], ...]]]:
        """(fields of struct oko_group_info, (packets, bytes) of each bucket) of each group."""
        return self._objects(lib.oko_dp_groups, GROUP)

    def meters(self) -> Iterator[tuple[tuple[Any, ...], tuple[tuple[int, int], ...]]]:
        """(fields of struct oko_meter_info, (packets, bytes) of each band) of each meter."""
        return self._objects(lib.oko_dp_meters, METER)

    def table(self, table: int) -> TableInfo:
        out = ffi.new("struct oko_table_info *")
        check(lib.oko_dp_table(self._ptr, table, out), what=f"table {table}")
        return _record(TableInfo, out)

    def set_table(self, table: int, max_flows: int, evict: bool) -> None:
        check(lib.oko_dp_table_set(self._ptr, table, max_flows, evict), what=f"table {table}")

    def macs(self) -> list[tuple[bytes, int, int, int]]:
        """(address, VLAN, port, last seen in ns) of each known MAC address."""
        n = lib.oko_dp_macs(self._ptr, ffi.NULL, 0)
        out = ffi.new("struct oko_mac_info[]", max(1, n))
        n = min(n, lib.oko_dp_macs(self._ptr, out, n))
        return [
            (bytes(ffi.buffer(out[i].mac)), int(out[i].vlan), int(out[i].port), int(out[i].seen_ns))
            for i in range(n)
        ]

    def drops(self) -> dict[str, int]:
        """Packets by reason; only reasons that occurred."""
        out = ffi.new("uint64_t[]", N_DROPS)
        lib.oko_dp_drops(self._ptr, out)
        return {_string(lib.oko_drop_name(i)): int(out[i]) for i in range(N_DROPS) if out[i]}

    def cache(self, worker: int) -> Iterator[tuple[int, bytes, list[tuple[int, ...]], bool]]:
        """(table, match records of the key, [(id, cookie, priority, filter_prog) of each flow in
        the order of decision], whether there may be more) of each lookup that a worker
        remembers."""
        cursor = ffi.new("uint64_t *")
        size = 1 << 16
        while cursor[0] != (1 << 64) - 1:
            out = ffi.new("uint8_t[]", size)
            with self._running[worker]:
                used = lib.oko_dp_cache(self._ptr, worker, cursor, out, size)
            check(used, what=f"cache of worker {worker}")
            data, at = ffi.buffer(out, used)[:], 0
            while at < used:
                length, table, n_match, _, more, _ = CACHE_ENTRY.read(data, at)
                flows = at + CACHE_ENTRY.size + n_match * MATCH_FIELD_SIZE
                yield (
                    table,
                    data[at + CACHE_ENTRY.size : flows],
                    list(CACHE_FLOW.iter_unpack(data[flows : at + length])),
                    bool(more),
                )
                at += length

    def stats(self) -> Stats:
        out = ffi.new("struct oko_dp_stats *")
        lib.oko_dp_stats(self._ptr, out)
        return _record(Stats, out)

    # ---------------------------------------------------------------- events, trace

    def watch(self, on: bool) -> None:
        lib.oko_dp_watch(self._ptr, on)

    def changes(self) -> tuple[list[tuple[tuple[int, ...], tuple[Any, ...], bytes, bytes]], bool]:
        """(struct oko_flow_change, struct oko_flow_info, match, instructions) of each change of a
        flow since the last call, and whether some were lost."""
        lost = ffi.new("bool *")
        size = 1 << 12
        while True:
            out = ffi.new("uint8_t[]", size)
            used = lib.oko_dp_changes(self._ptr, out, size, lost)
            if used <= size:
                break
            size = used
        data = ffi.buffer(out, used)[:]
        found = []
        at = 0
        while at < used:
            head = CHANGE.read(data, at)
            info = FLOW.read(data, at + CHANGE.size)
            match = at + CHANGE.size + FLOW.size
            ops = match + info[14] * MATCH_FIELD_SIZE
            found.append((head, info, data[match:ops], data[ops : ops + info[15]]))
            at += head[0]
        return found, bool(lost[0])

    def events(self) -> tuple[list[tuple[tuple[Any, ...], bytes]], int]:
        """Events since the last call, (fields of struct oko_event, data), and how many were lost
        so far."""
        events: list[tuple[tuple[Any, ...], bytes]] = []
        size = CHUNK
        out = ffi.new("uint8_t[]", size)
        lost = ffi.new("uint64_t *")
        while True:
            used = lib.oko_dp_events(self._ptr, out, size, lost)
            if used <= 0:
                return events, int(lost[0])
            data = ffi.buffer(out, used)[:]
            at = 0
            while at < used:
                event = EVENT.read(data, at)
                start = at + EVENT.size
                events.append((event, data[start : start + event[14]]))
                at += event[0]

    def events_lost(self) -> int:
        lost = ffi.new("uint64_t *")
        lib.oko_dp_events(self._ptr, ffi.NULL, 0, lost)
        return int(lost[0])

    def send_misses(self, max_len: int) -> None:
        lib.oko_dp_send_misses(self._ptr, max_len)

    def event_fd(self) -> int:
        return int(lib.oko_dp_event_fd(self._ptr))

    def trace(self, seq: int) -> None:
        check(lib.oko_dp_trace(self._ptr, seq), what="trace")

    def trace_steps(self) -> list[TraceStep]:
        return self._listed("struct oko_trace_step[]", lib.oko_dp_trace_read, TraceStep)

    def trace_frame(self, worker: int, frame: tuple[int, int, bytes, int, int]) -> list[TraceStep]:
        """The way that one (in_port, ns, data, wire_len, seq) would take, without side effects."""
        if not 0 <= worker < self.n_workers:
            raise CoreError(f"there is no worker {worker}", lib.OKO_E_INVAL)
        in_port, ns, data, wire_len, _ = frame
        buffer = ffi.from_buffer("uint8_t[]", data)
        record = ffi.new("struct oko_frame *")
        record.data, record.len, record.wire_len = buffer, len(data), wire_len
        record.in_port, record.ns = in_port, ns
        out = ffi.new("struct oko_trace_step[]", 1024)
        n = ffi.new("uint32_t *")
        with self._running[worker]:
            code = lib.oko_dp_trace_frame(self._ptr, worker, record, out, 1024, n)
        check(code, what="trace")
        return [_record(TraceStep, out[i]) for i in range(min(int(n[0]), 1024))]

    # ---------------------------------------------------------------- packets

    def process(self, worker: int, frames: Sequence[tuple[int, int, bytes, int, int]]) -> None:
        """Handles (in_port, ns, data, wire_len, seq) in order on the calling thread."""
        if not 0 <= worker < self.n_workers:
            raise CoreError(f"there is no worker {worker}", lib.OKO_E_INVAL)
        buffers = [ffi.from_buffer("uint8_t[]", data) for _, _, data, _, _ in frames]
        records = ffi.new("struct oko_frame[]", max(1, len(frames)))
        raw = ffi.buffer(records)
        for i, (in_port, ns, data, wire_len, seq) in enumerate(frames):
            address = int(ffi.cast("uintptr_t", buffers[i]))
            FRAME_IN.pack_into(
                raw, i * FRAME_IN.size, address, len(data), wire_len, in_port, 0, ns, seq
            )
        with self._running[worker]:
            check(lib.oko_dp_process(self._ptr, worker, records, len(frames)), what="process")

    def packet_out(self, worker: int, frame: tuple[int, int, bytes, int, int], ops: bytes) -> None:
        """Carries out actions on one (in_port, ns, data, wire_len, seq)."""
        if not 0 <= worker < self.n_workers:
            raise CoreError(f"there is no worker {worker}", lib.OKO_E_INVAL)
        in_port, ns, data, wire_len, seq = frame
        buffer = ffi.from_buffer("uint8_t[]", data)
        record = ffi.new("struct oko_frame *")
        record.data, record.len, record.wire_len = buffer, len(data), wire_len
        record.in_port, record.ns, record.seq = in_port, ns, seq
        items = ffi.new("uint64_t[]", max(1, len(ops) // 8))  # aligned
        ffi.memmove(items, ops, len(ops))
        error = ffi.new("struct oko_error *")
        with self._running[worker]:
            code = lib.oko_dp_packet_out(
                self._ptr, worker, record, ffi.cast("uint8_t *", items), len(ops), error
            )
        check(code, error)

    def tick(self, worker: int, ns: int) -> None:
        if not 0 <= worker < self.n_workers:
            raise CoreError(f"there is no worker {worker}", lib.OKO_E_INVAL)
        with self._running[worker]:
            check(lib.oko_dp_tick(self._ptr, worker, ns), what="tick")


class Txn(Handle):
    """Changes that become visible together or not at all: struct oko_txn."""

    _what = "transaction"

    def __init__(self, dp: Dp) -> None:
        out = ffi.new("struct oko_txn **")
        check(lib.oko_dp_begin(dp.pointer, out), what="transaction")
        self._dp = dp  # lives longer than this
        self._index = ffi.new("uint32_t *")
        self._error = ffi.new("struct oko_error *")
        super().__init__(out[0], lib.oko_txn_free)

    def flow(
        self,
        record: FlowRecord,
        command: int,
        *,
        cookie_mask: int = 0,
        or_add: bool = False,
        new_cookie: bool = False,
        age_ns: int = 0,
        idle_ns: int = 0,
        out_port: int = ANY,
        out_group: int = ANY,
    ) -> None:
        mod = ffi.new("struct oko_flow_mod *")
        spec = mod.spec
        match = ffi.from_buffer("uint8_t[]", record.match)
        ops = ffi.from_buffer("uint8_t[]", record.ops)
        spec.cookie, spec.table, spec.priority = record.cookie, record.table, record.priority
        spec.flags, spec.filter_prog = record.flags, record.filter_prog
        spec.idle_timeout, spec.hard_timeout = record.idle_timeout, record.hard_timeout
        spec.n_match = len(record.match) // MATCH_FIELD_SIZE
        spec.match = ffi.cast("struct oko_match_field *", match)
        spec.ops, spec.ops_len = ops, len(record.ops)
        spec.importance = record.importance
        mod.command, mod.or_add, mod.cookie_mask = command, or_add, cookie_mask
        mod.out_port, mod.out_group, mod.new_cookie = out_port, out_group, new_cookie
        mod.age_ns, mod.idle_ns = age_ns, idle_ns
        error = ffi.new("struct oko_error *")
        check(lib.oko_txn_flow(self._ptr, mod, error), error)

    def group(self, record: GroupRecord, command: int) -> None:
        buckets = ffi.new("struct oko_bucket_spec[]", max(1, len(record.buckets)))
        keep = [ffi.from_buffer("uint8_t[]", bucket.ops) for bucket in record.buckets]
        for out, ops, bucket in zip(buckets, keep, record.buckets, strict=False):
            out.weight, out.ops, out.ops_len = bucket.weight, ops, len(bucket.ops)
            out.watch_port, out.watch_group = bucket.watch_port, bucket.watch_group
        spec = ffi.new("struct oko_group_spec *")
        spec.id, spec.type = record.id, record.type
        spec.n_buckets, spec.buckets = len(record.buckets), buckets
        error = ffi.new("struct oko_error *")
        check(lib.oko_txn_group(self._ptr, command, spec, error), error)

    def meter(self, record: MeterRecord, command: int) -> None:
        bands = ffi.new("struct oko_band_spec[]", max(1, len(record.bands)))
        for out, band in zip(bands, record.bands, strict=False):
            out.type, out.rate, out.burst, out.prec_level = band
        spec = ffi.new("struct oko_meter_spec *")
        spec.id, spec.flags = record.id, record.flags
        spec.n_bands, spec.bands = len(record.bands), bands
        error = ffi.new("struct oko_error *")
        check(lib.oko_txn_meter(self._ptr, command, spec, error), error)

    def flows(self, packed: bytes) -> None:
        """PackedFlowMod.data of many. CoreError's index tells which was refused."""
        data = ffi.from_buffer("uint8_t[]", packed)
        self._check(lib.oko_txn_flows(self._ptr, data, len(packed), self._index, self._error))

    def packet_out(self, ops: bytes) -> None:
        """The commit fails unless these actions would be valid for a packet-out then."""
        error = ffi.new("struct oko_error *")
        data = ffi.from_buffer("uint8_t[]", ops)
        check(lib.oko_txn_packet_out(self._ptr, data, len(ops), error), error)

    def commit(self) -> None:
        """Raises CoreError; its index tells which change failed (from 0)."""
        self._check(lib.oko_txn_commit(self._ptr, self._index, self._error))

    def _check(self, code: int) -> None:
        """Raises CoreError with the index that the call left."""
        if code < 0:
            error, self._error = self._error, ffi.new("struct oko_error *")
            try:
                check(code, error)
            except CoreError as exc:
                exc.index = int(self._index[0])
                raise
