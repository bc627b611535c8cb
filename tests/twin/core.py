"""The datapath behind the same few verbs as the naive twin, so that both can be asked the same.

Straight on the extension module: what is compared here is the core, not the pleasant API.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from oko._oko import ffi, lib

from oko import _binding
from oko.bpf.spec import ProgramSpec
from oko.model import compile as records
from oko.model.flow import FlowMod, Group, Meter
from twin.generate import Arrival
from twin.switch import DROPS

REASONS = {0: "idle", 1: "hard", 2: "delete", 3: "group", 4: "meter"}


class CoreError(Exception):
    """A change that the datapath refuses."""


class Core:
    """One datapath with memory ports. burst, cache, interpret: none of them may show."""

    def __init__(
        self,
        ports: Sequence[int] = (1, 2, 3, 4),
        *,
        burst: int = 32,
        cache: bool = True,
        interpret: bool = False,
        n_workers: int = 1,
        null_ports: bool = False,
        cache_bytes: int = 0,
        secret: int = 0,
    ) -> None:
        flags = (0 if cache else lib.OKO_DP_NO_CACHE) | (lib.OKO_DP_INTERPRET if interpret else 0)
        opts = ffi.new(
            "struct oko_dp_opts *",
            {
                "n_workers": n_workers,
                "flags": flags,
                "burst": burst,
                "cache_bytes": cache_bytes,
                "secret": secret,
            },
        )
        out = ffi.new("struct oko_dp **")
        _check(lib.oko_dp_new(opts, out))
        self.dp = out[0]
        self.interpret = interpret
        self.ports = tuple(ports)
        self.events: list[tuple[object, ...]] = []
        self.outputs: dict[int, list[bytes]] = {}
        self.sequences: dict[int, list[int]] = {}
        for port in ports:
            name = b"p%d" % port
            if null_ports:
                _check(lib.oko_dp_port_add_null(self.dp, port, name))
            else:
                _check(lib.oko_dp_port_add_mem(self.dp, port, name, 1 << 30))

    def close(self) -> None:
        lib.oko_dp_free(self.dp)

    # ------------------------------------------------------------ changes

    def load(self, number: int, spec: ProgramSpec, keep_maps: bool = False) -> None:
        error, replaced = ffi.new("struct oko_error *"), ffi.new("bool *")
        opts = ffi.new("struct oko_load_opts *")
        with _binding._Flat(spec) as flat:
            code = lib.oko_dp_prog_load(
                self.dp, number, flat.spec, opts, keep_maps, replaced, error
            )
        _check(code, error)

    def unload(self, number: int, force: bool = False) -> None:
        error = ffi.new("struct oko_error *")
        _check(lib.oko_dp_prog_unload(self.dp, number, force, error), error)

    def apply(self, mods: Sequence[FlowMod]) -> None:
        """All of these changes in one transaction."""
        with self._transaction() as txn:
            for mod in mods:
                record = records.compile_flow(mod.flow)
                match = ffi.from_buffer("struct oko_match_field[]", record.match)
                ops = ffi.new("uint64_t[]", len(record.ops) // 8 + 1)
                ffi.memmove(ops, record.ops, len(record.ops))
                flow_mod = ffi.new("struct oko_flow_mod *")
                spec = flow_mod.spec
                spec.cookie, spec.table, spec.priority = (
                    record.cookie,
                    record.table,
                    record.priority,
                )
                spec.flags = record.flags
                spec.idle_timeout, spec.hard_timeout = record.idle_timeout, record.hard_timeout
                spec.filter_prog, spec.n_match = record.filter_prog, record.n_match
                spec.match, spec.ops = match, ffi.cast("uint8_t *", ops)
                spec.ops_len = len(record.ops)
                flow_mod.command, flow_mod.cookie_mask = mod.command, mod.cookie_mask
                flow_mod.out_port, flow_mod.out_group = mod.out_port, mod.out_group
                error = ffi.new("struct oko_error *")
                _check(lib.oko_txn_flow(txn, flow_mod, error), error)

    def set_group(self, group: Group, command: int = 0) -> None:
        record = records.compile_group(group)
        keep = []
        buckets = ffi.new("struct oko_bucket_spec[]", max(1, len(record.buckets)))
        for out, bucket in zip(buckets, record.buckets, strict=False):
            ops = ffi.new("uint64_t[]", len(bucket.ops) // 8 + 1)
            ffi.memmove(ops, bucket.ops, len(bucket.ops))
            keep.append(ops)
            out.weight = bucket.weight
            out.watch_port, out.watch_group = bucket.watch_port, bucket.watch_group
            out.ops, out.ops_len = ffi.cast("uint8_t *", ops), len(bucket.ops)
        spec = ffi.new(
            "struct oko_group_spec *",
            {
                "id": record.id,
                "type": record.type,
                "n_buckets": len(record.buckets),
                "buckets": buckets,
            },
        )
        error = ffi.new("struct oko_error *")
        with self._transaction() as txn:
            _check(lib.oko_txn_group(txn, command, spec, error), error)

    def set_meter(self, meter: Meter, command: int = 0) -> None:
        record = records.compile_meter(meter)
        bands = ffi.new("struct oko_band_spec[]", record.bands or [(0, 0, 0, 0)])
        spec = ffi.new(
            "struct oko_meter_spec *",
            {"id": record.id, "flags": record.flags, "n_bands": len(record.bands), "bands": bands},
        )
        error = ffi.new("struct oko_error *")
        with self._transaction() as txn:
            _check(lib.oko_txn_meter(txn, command, spec, error), error)

    @contextmanager
    def _transaction(self) -> Iterator[object]:
        out = ffi.new("struct oko_txn **")
        _check(lib.oko_dp_begin(self.dp, out))
        try:
            yield out[0]
            error = ffi.new("struct oko_error *")
            _check(lib.oko_txn_commit(out[0], ffi.NULL, error), error)
        finally:
            lib.oko_txn_free(out[0])

    def port_flags(self, port: int, flags: int) -> None:
        _check(lib.oko_dp_port_set_flags(self.dp, port, flags))

    # ------------------------------------------------------------ packets

    @staticmethod
    def prepare(arrivals: Sequence[Arrival], seq: int = 0) -> Any:
        """These packets as the core takes them; may be run any number of times."""
        frames = ffi.new("struct oko_frame[]", max(1, len(arrivals)))
        keep = [frames]
        for i, arrival in enumerate(arrivals):
            data = ffi.new("uint8_t[]", arrival.data or b"\0")
            keep.append(data)
            frame = frames[i]
            frame.data, frame.len, frame.wire_len = data, len(arrival.data), arrival.wire_len
            frame.in_port, frame.ns, frame.seq = arrival.in_port, arrival.ns, seq + i
        return len(arrivals), keep

    def run(self, prepared: Any, worker: int = 0) -> None:
        """Handles prepared packets; the interpreter's lock is released meanwhile."""
        n, keep = prepared
        _check(lib.oko_dp_process(self.dp, worker, keep[0], n))

    def process(self, arrivals: Sequence[Arrival], seq: int = 0, worker: int = 0) -> None:
        """These packets, in order."""
        self.run(self.prepare(arrivals, seq), worker)

    def tick(self, ns: int, worker: int = 0) -> None:
        _check(lib.oko_dp_tick(self.dp, worker, ns))

    def collect(self) -> None:
        """Moves outputs and events of the core here."""
        buffer = ffi.new("uint8_t[]", 1 << 20)
        for port in self.ports:
            while (used := lib.oko_dp_mem_read(self.dp, port, buffer, len(buffer))) > 0:
                data = bytes(ffi.buffer(buffer, used))
                at = 0
                while at < len(data):
                    seq, _, size, _ = struct.unpack_from("=QQII", data, at)
                    self.outputs.setdefault(port, []).append(data[at + 24 : at + 24 + size])
                    self.sequences.setdefault(port, []).append(seq)
                    at += 24 + (size + 7) // 8 * 8
        lost = ffi.new("uint64_t *")
        while (used := lib.oko_dp_events(self.dp, buffer, len(buffer), lost)) > 0:
            at = 0
            while at < used:
                event = ffi.cast("struct oko_event *", buffer + at)
                data = bytes(
                    ffi.buffer(buffer + at + ffi.sizeof("struct oko_event"), event.data_len)
                )
                self.events.append(_event(event, data))
                at += event.size
        assert lost[0] == 0

    # ------------------------------------------------------------ what is there

    def flows(self) -> dict[tuple[object, ...], tuple[int, int]]:
        """identity -> (packets, bytes)."""
        result = {}
        cursor, buffer = ffi.new("uint64_t *"), ffi.new("uint8_t[]", 1 << 20)
        while (used := lib.oko_dp_flows(self.dp, cursor, buffer, len(buffer))) > 0:
            at = 0
            while at < used:
                info = ffi.cast("struct oko_flow_info *", buffer + at)
                start = at + ffi.sizeof("struct oko_flow_info")
                match = bytes(ffi.buffer(buffer + start, info.n_match * 40))
                identity = (info.table, info.priority, records.parse_match(match), info.filter_prog)
                result[identity] = (info.packets, info.bytes)
                at += info.size
        return result

    def drops(self) -> Counter[str]:
        counts = ffi.new("uint64_t[]", lib.OKO_N_DROPS)
        lib.oko_dp_drops(self.dp, counts)
        assert len(DROPS) + 1 == lib.OKO_N_DROPS
        for i, name in enumerate(DROPS):
            assert ffi.string(lib.oko_drop_name(i + 1)).decode() == name
        return Counter({name: counts[i + 1] for i, name in enumerate(DROPS) if counts[i + 1]})

    def sent(self) -> dict[int, int]:
        """Packets that left, by port."""
        infos = ffi.new("struct oko_port_info[]", 64)
        n = lib.oko_dp_ports(self.dp, infos, 64)
        return {infos[i].number: infos[i].tx_packets for i in range(n)}

    def stats(self) -> dict[str, int]:
        stats = ffi.new("struct oko_dp_stats *")
        lib.oko_dp_stats(self.dp, stats)
        return {name: getattr(stats, name) for name, _ in ffi.typeof("struct oko_dp_stats").fields}

    def groups(self) -> dict[int, list[int]]:
        """id -> packets of the group and of each bucket."""
        return self._counted("oko_dp_groups", "struct oko_group_info", "n_buckets")

    def meters(self) -> dict[int, list[int]]:
        """id -> packets of the meter and of each band."""
        return self._counted("oko_dp_meters", "struct oko_meter_info", "n_bands")

    def _counted(self, function: str, record: str, n: str) -> dict[int, list[int]]:
        result = {}
        cursor, buffer = ffi.new("uint64_t *"), ffi.new("uint8_t[]", 1 << 16)
        read = getattr(lib, function)
        while (used := read(self.dp, cursor, buffer, len(buffer))) > 0:
            at = 0
            while at < used:
                info = ffi.cast(f"{record} *", buffer + at)
                counts = ffi.cast("struct oko_counts *", buffer + at + ffi.sizeof(record))
                result[info.id] = [info.packets] + [
                    counts[i].packets for i in range(getattr(info, n))
                ]
                at += info.size
        return result

    def programs(self) -> dict[int, tuple[int, int]]:
        """number -> (runs, matches)."""
        infos = ffi.new("struct oko_dp_prog_info[]", 64)
        n = lib.oko_dp_progs(self.dp, infos, 64)
        return {infos[i].number: (infos[i].runs, infos[i].matches) for i in range(n)}

    def maps(self, number: int, spec: ProgramSpec) -> list[list[tuple[bytes, bytes]]]:
        """The contents of a program's maps, sorted."""
        prog = lib.oko_dp_prog(self.dp, number)
        try:
            return [sorted(_dump(lib.oko_prog_map(prog, index))) for index in range(len(spec.maps))]
        finally:
            lib.oko_prog_unref(prog)


def _dump(handle: object) -> list[tuple[bytes, bytes]]:
    key_size, value_size = ffi.new("uint32_t *"), ffi.new("uint32_t *")
    lib.oko_map_dump_sizes(handle, key_size, value_size)
    size = key_size[0] + value_size[0]
    cursor, out = ffi.new("uint64_t *"), ffi.new("uint8_t[]", size * 64)
    result = []
    while (n := lib.oko_map_dump(handle, cursor, out, 64)) > 0:
        for i in range(n):
            entry = bytes(ffi.buffer(out + i * size, size))
            result.append((entry[: key_size[0]], entry[key_size[0] :]))
    return result


def _check(code: int, error: Any = None) -> None:
    if code:
        reason = ffi.string(error.reason).decode() if error else ""
        raise CoreError(f"{code}: {reason}")


def _event(e: Any, data: bytes) -> tuple[object, ...]:
    """In the twin's form."""
    if e.type == lib.OKO_EVENT_PACKET_IN:
        regs = {f"reg{i}": v for i, v in enumerate(struct.unpack(">16I", bytes(e.regs)))}
        for name in ("in_port", "metadata", "tun_id", "pkt_mark"):
            regs[name] = getattr(e, name)
        shown = tuple(sorted((name, value) for name, value in regs.items() if value))
        return (
            "packet-in", e.ns, e.seq, e.reason, e.arg, e.table, e.cookie, shown, data, e.total_len,
        )  # fmt: skip
    if e.type == lib.OKO_EVENT_FLOW_REMOVED:
        return (
            "removed", REASONS[e.reason], e.ns, e.table, e.priority, e.filter_prog,
            records.parse_match(data), e.cookie, e.packets, e.bytes,
        )  # fmt: skip
    if e.type == lib.OKO_EVENT_LEARNED:
        return ("learned", e.ns, e.table, e.priority, records.parse_match(data))
    return ("other", e.type)
