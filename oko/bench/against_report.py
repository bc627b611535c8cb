"""Tables of a comparison (against.py).

What oko's filters are to reach stands here: beside native C, or in ns where it is a floor that was
measured, and beside every other JIT. A goal is judged with the batch entry, which the switch uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oko.bench.against import Comparison, Figure
from oko.bench.forwarding import MPPS

FILTER_COLUMNS = (
    "native",
    "jit",
    "jit-batch",
    "kernel",
    "kernel-given-clock",
    "dpdk",
    "dpdk-burst",
)
FORWARDING_COLUMNS = ("oko", "testpmd", "ovs-dpdk", "ovs-dpdk-tuned")
TIMES_OVS = {"exact100k/udp64_f100k": 4.0}
"""Goals beside Open vSwitch; others are rates (oko.bench.forwarding.MPPS)."""


@dataclass(frozen=True)
class FilterGoal:
    """What the batch entry is to reach; 0: nothing is said about that.

    of_native: time as a multiple of native C's, at most. ns: time, at most. of_jits: how many times
    as fast as the fastest form of each other JIT, at least."""

    of_native: float = 0.0
    ns: float = 0.0
    of_jits: float = 1.0


FLOOR = 1.3
"""Firewall and sketches may take 30 % more than their floor: C with the key in registers and the
loop over packets inside, which took 4.3 and 6.3 ns where the goals were set."""

FILTER_GOALS = {
    "b_parse": FilterGoal(of_native=1.25),
    "c_counter": FilterGoal(of_native=1.25, of_jits=1.3),
    "d_flow": FilterGoal(of_native=1 / 2.5, of_jits=2),
    "d_flow_100k": FilterGoal(of_native=1 / 1.8, of_jits=2),
    "e_bucket": FilterGoal(of_native=1.15, of_jits=2),
    "e_bucket_100k": FilterGoal(of_native=1.15, of_jits=2),
    "f_firewall": FilterGoal(ns=4.3 * FLOOR, of_jits=2),
    "g_payload": FilterGoal(of_native=1.4),
    "h_sketch": FilterGoal(ns=6.3 * FLOOR, of_jits=2),
}
"""By filter; of the others only that no JIT is faster."""


def _table(figures: Sequence[Figure], columns: Sequence[str]) -> dict[str, dict[str, Figure]]:
    rows: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        if figure.who in columns:
            rows.setdefault(figure.what, {})[figure.who] = figure
    return rows


def filter_rows(comparison: Comparison) -> list[list[str]]:
    """A heading, and a row per filter: ns per packet; peers' times as multiples of ours; and what
    became of the goals beside native C and beside other JITs.

    "ours" is the batch entry, which the switch uses, against the peer's best form."""
    rows = [["filter", *FILTER_COLUMNS, "kernel/oko", "dpdk/oko", "beside native", "beside JITs"]]
    for what, row in _table(comparison.filters, FILTER_COLUMNS).items():
        cells = [what]
        for who in FILTER_COLUMNS:
            figure = row.get(who)
            cells.append("-" if not figure else f"{figure.median:.1f}" if figure.ns else "refused")
        ours = row["jit-batch"].median if "jit-batch" in row else 0.0
        ratios = []
        for names in (("kernel", "kernel-given-clock"), ("dpdk", "dpdk-burst")):
            times = [row[name].median for name in names if name in row and row[name].ns]
            ratio = min(times) / ours if times and ours else 0.0
            cells.append(f"{ratio:.2f}x" if ratio else "-")
            if ratio:
                ratios.append(ratio)
        goal = FILTER_GOALS.get(what, FilterGoal())
        cells.append(_beside_native(goal, ours, row))
        cells.append(
            f"{goal.of_jits:g}x {_met(round(min(ratios), 2) >= goal.of_jits)}" if ratios else ""
        )
        rows.append(cells)
    return rows


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _beside_native(goal: FilterGoal, ours: float, row: Mapping[str, Figure]) -> str:
    """The goal beside native C or a floor, what was reached, and whether that is enough, all as
    they are printed."""
    if not ours:
        return ""
    if goal.ns:
        return f"{ours:.1f} ns, of {goal.ns:.1f}: {_met(round(ours, 1) <= round(goal.ns, 1))}"
    native = row["native"].median if "native" in row else 0.0
    if not goal.of_native or not native:
        return ""
    if goal.of_native < 1:  # said as times as fast
        least, times = round(1 / goal.of_native, 2), round(native / ours, 2)
        return f"{times:.2f}x as fast, of {least:g}x: {_met(times >= least)}"
    times = round(ours / native, 2)
    return f"{times:.2f}x the time, of {goal.of_native:g}x: {_met(times <= goal.of_native)}"


def forwarding_rows(comparison: Comparison) -> list[list[str]]:
    """A heading, and a row per case: Mpps, our rate as a multiple of Open vSwitch's in its faster
    form, and the goal.

    "less input": the peer's time per packet without that of its input and output, for which
    testpmd's io mode stands, so that what is left is the cost of switching."""
    heading = ["rules/capture", *FORWARDING_COLUMNS, "oko/ovs", "oko/ovs less input", "goal"]
    rows = [[*heading, "note"]]
    for what, row in _table(comparison.forwarding, FORWARDING_COLUMNS).items():
        cells = [what]
        for who in FORWARDING_COLUMNS:
            figure = row.get(who)
            cells.append(f"{1e3 / figure.median:.2f}" if figure and figure.ns else "-")
        ns = {who: figure.median for who, figure in row.items() if figure.ns}
        theirs = min((ns[who] for who in ("ovs-dpdk", "ovs-dpdk-tuned") if who in ns), default=0.0)
        if "oko" in ns and theirs:
            cells.append(f"{theirs / ns['oko']:.2f}x")
            less = theirs - ns.get("testpmd", 0.0)
            cells.append(f"{less / ns['oko']:.2f}x" if "testpmd" in ns else "-")
        else:
            cells += ["-", "-"]
        cells.append(_forwarding_goal(what, ns.get("oko", 0.0), theirs))
        notes = [f"{who}: {figure.note}" for who, figure in row.items() if figure.note]
        rows.append([*cells, "; ".join(notes)])
    return rows


def _forwarding_goal(what: str, ours: float, theirs: float) -> str:
    """The goal of a case, in Mpps or in times Open vSwitch's rate, and whether it is met."""
    if not ours:
        return ""
    if what in TIMES_OVS:
        times = TIMES_OVS[what]
        return f"{times:g}x {_met(round(theirs / ours, 2) >= times)}" if theirs else ""
    rules, capture = what.split("/")
    mpps = MPPS.get((rules, capture))
    return f"{mpps:g} {_met(round(1e3 / ours, 2) >= mpps)}" if mpps else ""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for docs/benchmarks.md."""
    head, *body = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def print_comparison(comparison: Comparison) -> None:
    """Tables on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a file has room for all columns
        console = Console(width=150)
    for title, figures, rows in (
        ("filters, ns per packet", comparison.filters, filter_rows(comparison)),
        ("forwarding, Mpps", comparison.forwarding, forwarding_rows(comparison)),
    ):
        if not figures:
            continue
        table = Table(title=title, title_justify="left")
        for number, heading in enumerate(rows[0]):
            if heading != "note":
                table.add_column(heading, justify="right" if number else "left")
        for row in rows[1:]:
            cells = [cell.replace("**", "") for cell in row]
            table.add_row(*cells[: len(table.columns)])
        console.print(table)
        notes = {(f.what, f.who): f.note for f in figures if f.note}
        for (what, who), why in notes.items():
            console.print(f"{what}: {who}: {why}", markup=False)
    for peer, why in comparison.left_out.items():
        console.print(f"left out: {peer}: {why}", markup=False)
    console.print(f"stolen by the hypervisor: {100 * comparison.stolen:.1f} % of the core's time")
