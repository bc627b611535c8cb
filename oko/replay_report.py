"""What a replay did, for people (tables) and for programs (JSON).

On a terminal the tables are drawn by rich; elsewhere they are aligned columns of plain text, so
that grep and diff work on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from .bpf import typed
from .datapath import Event
from .replayer import MapResult, ReplayResult
from .text.match import format_match
from .text.values import format_port
from .trace import match_text, tell

SCHEMA = "oko-replay/1"
SHOWN = 1000
"""Entries of a map, and events, that text output shows at most; JSON has all."""


"""enum oko_op in the words of the flow grammar."""


# ---------------------------------------------------------------- JSON


def as_json(result: ReplayResult, captures: Sequence[str]) -> dict[str, Any]:
    """The object that --json prints; docs/replay.md describes it."""
    return {
        "schema": SCHEMA,
        "captures": list(captures),
        "packets": result.packets,
        "bytes": result.bytes,
        "seconds": result.seconds,
        "loops": result.loops,
        "first_ns": result.first_ns,
        "last_ns": result.last_ns,
        "workers": result.workers,
        "mode": "preloaded" if result.preloaded else "streaming",
        "frames": "copied" if result.copied else "borrowed",
        "interrupted": result.interrupted,
        "errors": result.errors,
        "notes": result.notes,
        "ports": [
            {
                "port": port.number,
                "name": port.name,
                "kind": port.kind,
                "rx_packets": port.rx_packets,
                "rx_bytes": port.rx_bytes,
                "tx_packets": port.tx_packets,
                "tx_bytes": port.tx_bytes,
                "tx_dropped": port.tx_dropped,
            }
            for port in result.ports.values()
        ],
        "flows": [
            {
                "table": flow.table,
                "priority": flow.priority,
                "match": format_match(flow.match),
                "filter_prog": flow.filter_prog,
                "cookie": flow.cookie,
                "actions": flow.actions,
                "n_packets": flow.n_packets,
                "n_bytes": flow.n_bytes,
                "learned": flow.learned,
            }
            for flow in result.flows
        ],
        "programs": [
            {
                "id": program.number,
                "name": program.name,
                "runs": program.runs,
                "matches": program.matches,
                "faults": program.faults,
                "ns_per_run": program.ns_per_run,
            }
            for program in result.programs.values()
        ],
        "maps": [_map_json(found) for found in result.maps],
        "drops": result.drops,
        "events": [_event_json(event) for event in result.events],
        "events_lost": result.events_lost,
        "lookups": {
            "cache_hits": result.stats.cache_hits,
            "cache_restamped": result.stats.cache_restamped,
            "cache_misses": result.stats.cache_misses,
            "direct": result.stats.direct,
        },
        "log": result.log,
    }


def _map_json(found: MapResult) -> dict[str, Any]:
    """entries only where they were asked for: a sketch has megabytes of them."""
    shown: dict[str, Any] = {
        "program": found.program,
        "id": found.id,
        "name": found.name,
        "type": found.spec.type_label,
        "n_entries": found.n_entries,
    }
    if found.entries is not None:
        shown["entries"] = [
            typed.entry_json(found.spec, key, value) for key, value in found.entries
        ]
    return shown


def _event_json(event: Event) -> dict[str, Any]:
    """The fields that its kind has."""
    common = {"type": event.kind, "ns": event.ns, "table": event.table, "cookie": event.cookie}
    if event.kind == "packet-in":
        return common | {
            "reason": event.reason,
            "packet": event.seq,
            "in_port": event.in_port,
            "controller": event.controller,
            "metadata": event.metadata,
            "total_len": event.total_len,
            "data": event.data.hex(),
        }
    if event.kind == "send-maps":
        return common | {"packet": event.seq, "program": event.program, "maps": list(event.maps)}
    flow = {
        "priority": event.priority,
        "match": format_match(event.match),
        "filter_prog": event.filter_prog,
    }
    if event.kind == "flow-removed":
        flow |= {
            "reason": event.reason,
            "n_packets": event.n_packets,
            "n_bytes": event.n_bytes,
            "duration_ns": event.duration,
        }
    return common | flow


# ---------------------------------------------------------------- tables


class Table:
    """Rows under headings; columns named in `left` are text, the others numbers."""

    def __init__(self, title: str, *headings: str, left: Iterable[str] = ()) -> None:
        self.title, self.headings = title, headings
        self.left = set(left)
        self.rows: list[list[str]] = []

    def add(self, *cells: object) -> None:
        self.rows.append([f"{c:,}" if isinstance(c, int) else str(c) for c in cells])

    def plain(self) -> Iterator[str]:
        """Aligned columns, two spaces apart."""
        table = [list(self.headings), *self.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.headings))]
        yield ""
        yield self.title
        for row in table:
            cells = [
                cell.ljust(width) if heading in self.left else cell.rjust(width)
                for cell, width, heading in zip(row, widths, self.headings, strict=True)
            ]
            yield ("  " + "  ".join(cells)).rstrip()

    def rich(self) -> Any:
        """The same as a rich table."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD)
        for heading in self.headings:
            table.add_column(heading, justify="left" if heading in self.left else "right")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table


def tables(result: ReplayResult) -> Iterator[Table]:
    """Ports, flows, programs, drops: those that have something to say."""
    ports = Table(
        "ports", "port", "rx packets", "rx bytes", "tx packets", "tx bytes", "tx failed", left=[]
    )
    for port in result.ports.values():
        ports.add(
            format_port(port.number), port.rx_packets, port.rx_bytes, port.tx_packets,
            port.tx_bytes, port.tx_dropped,
        )  # fmt: skip
    yield ports
    if result.flows:
        flows = Table(
            "flows", "packets", "bytes", "table", "priority", "match", "actions",
            left=["match", "actions"],
        )  # fmt: skip
        for flow in result.flows:
            flows.add(
                flow.n_packets, flow.n_bytes, str(flow.table), str(flow.priority),
                match_text(flow.match, flow.filter_prog), flow.actions or "(learned)",
            )  # fmt: skip
        yield flows
    if result.programs:
        programs = Table(
            "programs", "program", "name", "runs", "matches", "faults", "ns per run", left=["name"]
        )
        for program in result.programs.values():
            spent = "-" if program.ns_per_run is None else f"{program.ns_per_run:.0f}"
            programs.add(
                str(program.number), program.name, program.runs, program.matches, program.faults,
                spent,
            )  # fmt: skip
        yield programs
    if result.drops:
        drops = Table("dropped", "packets", "reason", left=["reason"])
        for reason, n in sorted(result.drops.items(), key=lambda item: -item[1]):
            drops.add(n, reason)
        yield drops


def summary(result: ReplayResult) -> Iterator[str]:
    """The headline: how much, how fast, how."""
    speed = f" ({rate_text(result.rate)}, {bits_text(result.bytes, result.seconds)})"
    yield (
        f"{count(result.packets, 'packet')}, {result.bytes:,} bytes in {result.seconds:.3f} s"
        f"{speed if result.seconds else ''}"
    )
    how = [f"round {result.loops:,}"] if result.interrupted else []
    if result.loops > 1 and not result.interrupted:
        how.append(f"{result.loops:,} rounds")
    how.append("preloaded" if result.preloaded else "streaming")
    how.append(f"frames {'copied' if result.copied else 'borrowed, not copied'}")
    if result.workers > 1:
        how.append(f"{result.workers} workers")
    yield ", ".join(how)
    yield from (f"note: {note}" for note in result.notes)


def map_lines(maps: Iterable[MapResult]) -> Iterator[str]:
    """Contents of maps, an entry a line; of arrays, which are always full, what is not zero."""
    for found in maps:
        spec, entries = found.spec, found.entries or []
        if spec.type in (1, 7):
            entries = [entry for entry in entries if any(entry[1])]
        head = f"map {found.name} (program {found.program}, map {found.id}, {spec.type_label})"
        yield ""
        if spec.type in (2, 3):  # a sketch's counters mean nothing to a reader
            used = sum(any(value) for _, value in entries)
            yield f"{head}: {used:,} of {len(entries):,} words are not zero (--json has them)"
            continue
        yield f"{head}: {count(len(entries), 'entry', 'entries')}"
        for key, value in entries[:SHOWN]:
            yield f"  {typed.entry_text(spec, key, value)}"
        if len(entries) > SHOWN:
            yield f"  and {len(entries) - SHOWN:,} more (--json has all)"


def event_lines(result: ReplayResult) -> Iterator[str]:
    """Packet-ins by reason and flow-removed in words."""
    if not result.events and not result.events_lost:
        return
    yield ""
    yield f"events: {len(result.events):,}"
    packet_ins: dict[tuple[str, int], int] = {}
    for event in result.events:
        if event.kind == "packet-in":
            kind = event.reason, event.table
            packet_ins[kind] = packet_ins.get(kind, 0) + 1
    for (reason, table), n in packet_ins.items():
        yield f"  {count(n, 'packet')} to the controller from table {table} ({reason})"
    others = [event for event in result.events if event.kind != "packet-in"]
    for event in others[:SHOWN]:
        yield f"  {_event_line(event, result.first_ns)}"
    if len(others) > SHOWN:
        yield f"  and {len(others) - SHOWN:,} more"
    if result.events_lost:
        yield f"  {result.events_lost:,} more were not kept"


def _event_line(event: Event, first_ns: int) -> str:
    at = f"at {(event.ns - first_ns) / 1e9:.6f} s: "
    if event.kind == "send-maps":
        which = ", ".join(map(str, event.maps)) or "all"
        return f"{at}maps {which} of program {event.program} sent"
    words = [f"table {event.table}", f"priority {event.priority}"]
    if event.filter_prog:
        words.append(f"filter_prog={event.filter_prog}")
    words.append(format_match(event.match) or "(all)")
    flow = " ".join(words)
    if event.kind == "learned":
        return f"{at}flow learned: {flow}"
    return f"{at}flow removed ({event.reason}) after {count(event.n_packets, 'packet')}: {flow}"


# ---------------------------------------------------------------- trace


def trace_lines(result: ReplayResult, number: int) -> Iterator[str]:
    """A packet's way, a step a line, indented by table and nesting."""
    if not result.trace:
        yield f"packet {number}: there is none; the captures have {count(result.packets, 'packet')}"
        return
    flows = {
        flow.id: (match_text(flow.match, flow.filter_prog), flow.actions) for flow in result.flows
    }
    names = {number: program.name for number, program in result.programs.items()}
    yield from tell(result.trace, f"packet {number}", flows.get, names)


# ---------------------------------------------------------------- words


def count(n: int, one: str, many: str = "") -> str:
    """ "1 packet", "2 packets"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def rate_text(rate: float) -> str:
    """Packets per second, three digits."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:.2f} {unit}pps"
    return f"{rate:.1f} pps"


def bits_text(n_bytes: int, seconds: float) -> str:
    """Wire bits per second, three digits."""
    rate = 8 * n_bytes / seconds if seconds else 0.0
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:.2f} {unit}bit/s"
    return f"{rate:.0f} bit/s"


def print_report(result: ReplayResult, out: TextIO, *, dump_maps: bool, color: bool) -> None:
    """The final tables. color: out is a terminal, rich draws."""
    lines = [*summary(result)]
    after = [*event_lines(result)]
    if dump_maps:
        after += map_lines(result.maps)
    if result.log:
        after += ["", "log:", *(f"  {line}" for line in result.log)]
    if color:
        from rich.console import Console

        console = Console(file=out, highlight=False, soft_wrap=True)
        for line in lines:
            console.print(line, markup=False)
        for table in tables(result):
            console.print(table.rich())
        for line in after:
            console.print(line, markup=False)
        return
    for line in lines:
        print(line, file=out)
    for table in tables(result):
        for line in table.plain():
            print(line, file=out)
    for line in after:
        print(line, file=out)
