"""oko-bpf run: a filter over a capture, one packet after another.

The filter sees each packet as in the switch: its bytes, and oko_meta with the capture's time (which
never goes back), the length on the wire and the port. Records longer than a frame can be are
counted and left out. A capture that breaks off is processed as far as it goes; the end says where
it broke, exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._binding import BATCH, Engine, Meta, Program, Vm, disassemble_all
from ._binding_capture import Record
from .bpf import typed
from .bpf.disasm import listing
from .bpf.spec import MapSpec, ProgramSpec
from .bpftool import map_json, read_filter, report_error, source_context
from .captures import CaptureFile
from .errors import CaptureError, CoreError, LoadError, OkoError
from .filters import Map, Maps

SHOWN = 1000
"""Entries of a map that text output shows at most; --json has all."""


@dataclass
class _Result:
    """What a run did."""

    packets: int = 0
    bytes: int = 0
    matched: int = 0
    matched_bytes: int = 0
    too_long: int = 0
    faults: int = 0
    seconds: float = 0.0
    broken: str = ""
    log: list[str] = field(default_factory=list)


def run_command(args: argparse.Namespace) -> int:
    """One run, or with --watch one after each change until interrupted."""
    if not args.watch:
        return _run(args)
    return _watch(args, lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    spec = read_filter(args)
    updates = [typed.parse_update(text) for text in args.update_map]
    interpret = args.interpret or args.profile
    with Vm() as vm:
        try:
            program = vm.load(spec, guarded=args.guarded, jit=not interpret)
        except LoadError as exc:
            context = "\n".join(source_context(spec, exc))
            raise OkoError(f"{args.filter}: refused: {exc}", exc.hint, context) from None
        maps = Maps(program)
        for update in updates:
            maps.find(update.map).apply(update)
        counts = program.profile() if args.profile else None
        engine = Engine.INTERP if interpret else Engine.BEST
        result = _Result()
        with ExitStack() as stack:
            yes = stack.enter_context(_writer(args.matched)) if args.matched else None
            no = stack.enter_context(_writer(args.unmatched)) if args.unmatched else None
            capture = stack.enter_context(CaptureFile(args.capture))
            _process(args, program, engine, capture, yes, no, result)
        result.log = vm.log()
        _report(args, spec, program, maps, result, counts)
    if result.broken:
        print(f"oko-bpf: {args.capture}: {result.broken}", file=sys.stderr)
    return 1 if result.broken else 0


def _process(
    args: argparse.Namespace,
    program: Program,
    engine: Engine,
    file: CaptureFile,
    yes: Callable[[Record], None] | None,
    no: Callable[[Record], None] | None,
    result: _Result,
) -> None:
    """Runs the program on all records and hands them to the writers."""
    clock = 0
    batch: list[Record] = []
    metas: list[Meta] = []

    def flush() -> None:
        frames = [record.frame or b"" for record in batch]
        began = time.perf_counter()
        if args.guarded:
            verdicts = [
                _guarded(program, frame, meta, engine, result)
                for frame, meta in zip(frames, metas, strict=True)
            ]
        else:
            verdicts = program.run_batch(frames, metas, engine=engine)
        result.seconds += time.perf_counter() - began
        for record, verdict in zip(batch, verdicts, strict=True):
            result.packets += 1
            result.bytes += record.wire_len
            if verdict:
                result.matched += 1
                result.matched_bytes += record.wire_len
            writer = yes if verdict else no
            if writer is not None:
                writer(record)
        batch.clear()
        metas.clear()

    try:
        for record in file.capture:
            if record.frame is None:
                result.too_long += 1
                continue
            clock = max(clock, record.ns)
            batch.append(record)
            metas.append(Meta(clock, 0, args.in_port, record.wire_len))
            if len(batch) == BATCH:
                flush()
    except CaptureError as exc:
        result.broken = str(exc)
    # Where the compressed data broke is the cause, where the records then end a consequence.
    result.broken = file.damage or result.broken
    if batch:
        flush()


def _guarded(program: Program, frame: bytes, meta: Meta, engine: Engine, result: _Result) -> bool:
    try:
        return program.run(frame, meta, engine=engine) == 1
    except CoreError as exc:
        if exc.code != -12:  # OKO_E_FAULT
            raise
        result.faults += 1
        return False


# ---------------------------------------------------------------- files


@contextmanager
def _writer(path: str) -> Iterator[Callable[[Record], None]]:
    """Writes records to a pcap file with nanosecond times (magic a1b23c4d), link type Ethernet.

    A full disk is an error, never a silently short file: what was buffered is flushed and checked.
    """
    try:
        with open(path, "wb", buffering=1 << 20) as file:
            file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))

            def write(record: Record) -> None:
                frame = record.frame or b""
                seconds, rest = divmod(record.ns, 10**9)
                header = struct.pack("<IIII", seconds, rest, len(frame), record.wire_len)
                try:
                    file.write(header + frame)
                except OSError as exc:
                    raise OkoError(f"{path}: {exc.strerror}") from None

            yield write
    except OSError as exc:
        raise OkoError(f"{path}: {exc.strerror}") from None


# ---------------------------------------------------------------- results

# Dumps are sorted by key: the order in a hash table depends on a random secret, results may not.


def _report(
    args: argparse.Namespace,
    spec: ProgramSpec,
    program: Program,
    maps: Maps,
    result: _Result,
    counts: Callable[[], list[int]] | None,
) -> None:
    profile = counts() if counts is not None else None
    if args.json:
        print(json.dumps(_json(args, spec, maps, result, profile), indent=2))
        return
    share = f" ({100 * result.matched / result.packets:.1f} %)" if result.packets else ""
    print(f"{result.matched:,} of {result.packets:,} packets match{share}")
    if result.too_long:
        print(f"{result.too_long:,} records longer than 65,535 bytes left out")
    if result.faults:
        print(f"{result.faults:,} runs stopped by a run-time check (no match)")
    for line in result.log:
        print(f"log: {line}")
    for found in maps.values():
        entries = sorted(found.items()) if args.dump_maps else []
        print(f"map {found.number} {found.name}: {_summary(found)}")
        for line in _entries(found.spec, entries):
            print(f"  {line}")
    if profile is not None:
        indices = [index for index, _ in spec.decoded()]
        texts = dict(zip(indices, disassemble_all(spec, indices), strict=True))
        total = sum(profile)
        mean = f", {total / result.packets:.1f} per packet" if result.packets else ""
        print(f"profile: {total:,} instructions executed{mean}")
        for line in listing(spec, texts, counts=profile):
            print(line)


def _summary(found: Map) -> str:
    stats = found.stats
    if found.spec.type in (2, 3):
        return found.spec.type_label
    return f"{found.spec.type_label}, {stats.n_entries:,} of {found.spec.max_entries:,} entries"


def _entries(spec: MapSpec, entries: list[tuple[bytes, bytes]]) -> Iterator[str]:
    """Dump lines. Arrays and sketches always have all their entries: zeroes are counted only."""
    dense = spec.type in (1, 2, 3, 7)
    shown = [(key, value) for key, value in entries if not dense or any(value)]
    for key, value in shown[:SHOWN]:
        yield typed.entry_text(spec, key, value)
    if len(shown) > SHOWN:
        yield f"({len(shown) - SHOWN:,} more; --json has all)"
    if len(entries) > len(shown):
        yield f"({len(entries) - len(shown):,} zero entries)"


def _json(
    args: argparse.Namespace,
    spec: ProgramSpec,
    maps: Maps,
    result: _Result,
    profile: list[int] | None,
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "schema": "oko-bpf-run/1",
        "filter": args.filter,
        "capture": args.capture,
        "packets": result.packets,
        "bytes": result.bytes,
        "seconds": result.seconds,
        "matched": result.matched,
        "matched_bytes": result.matched_bytes,
        "too_long": result.too_long,
        "faults": result.faults,
        "log": result.log,
        "maps": [],
    }
    if result.broken:
        report["error"] = result.broken
    for found in maps.values():
        shown = map_json(found.number, found.spec) | {"n_entries": found.stats.n_entries}
        if args.dump_maps:
            shown["entries"] = [
                typed.entry_json(found.spec, key, value) for key, value in sorted(found.items())
            ]
        report["maps"].append(shown)
    if profile is not None:
        report["profile"] = [
            {
                "instruction": index,
                "count": profile[index],
                "file": record.file if record else None,
                "line": record.line if record else None,
            }
            for index, _ in spec.decoded()
            for record in [spec.line_at(index)]
        ]
    return report


# ---------------------------------------------------------------- watching


def _watch(args: argparse.Namespace, run: Callable[[], int]) -> int:
    """Runs, and again whenever the filter or a header beside it was saved."""
    status = 0
    try:
        while True:
            seen = _saved(args.filter)
            print(f"--- {time.strftime('%H:%M:%S')} {args.filter}", flush=True)
            try:
                status = run()
            except OkoError as exc:
                status = 1
                report_error(exc)
            sys.stdout.flush()
            while _saved(args.filter) == seen:
                time.sleep(0.2)
    except KeyboardInterrupt:
        return status


def _saved(path: str) -> tuple[tuple[str, int, int], ...]:
    """When the filter and the headers beside it were last written."""
    found = []
    for file in [Path(path), *sorted(Path(path).resolve().parent.glob("*.h"))]:
        try:
            status = os.stat(file)
        except OSError:  # an editor may be replacing it just now
            continue
        found.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(found)
