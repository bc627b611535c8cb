"""Tables and the plot of a comparison (against.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oko.bench.against import Comparison, Figure
from oko.errors import OkoError

FILTER_COLUMNS = (
    "native",
    "jit",
    "jit-batch",
    "kernel",
    "kernel-given-clock",
    "dpdk",
    "dpdk-burst",
)
FORWARDING_COLUMNS = ("oko", "testpmd", "ovs-dpdk")
STATEFUL = ("d_flow", "d_flow_100k", "e_bucket", "e_bucket_100k")
"""Filters on which oko is to be twice as fast as others, not only as fast."""


def _table(figures: Sequence[Figure], columns: Sequence[str]) -> dict[str, dict[str, Figure]]:
    rows: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        if figure.who in columns:
            rows.setdefault(figure.what, {})[figure.who] = figure
    return rows


def filter_rows(comparison: Comparison) -> list[list[str]]:
    """A heading, and a row per filter: ns per packet, then peers' times as multiples of ours.

    "ours" is the batch entry, which the switch uses, against the peer's best form."""
    rows = [["filter", *FILTER_COLUMNS, "kernel/oko", "dpdk/oko", "goal"]]
    for what, row in _table(comparison.filters, FILTER_COLUMNS).items():
        cells = [what]
        for who in FILTER_COLUMNS:
            figure = row.get(who)
            cells.append("-" if not figure else f"{figure.median:.1f}" if figure.ns else "refused")
        ours = row["jit-batch"].median if "jit-batch" in row else 0.0
        least = 2.0 if what in STATEFUL else 1.0
        met = []
        for names in (("kernel", "kernel-given-clock"), ("dpdk", "dpdk-burst")):
            times = [row[name].median for name in names if name in row and row[name].ns]
            ratio = min(times) / ours if times and ours else 0.0
            cells.append(f"{ratio:.2f}x" if ratio else "-")
            if ratio:
                met.append(ratio >= least)
        cells.append(f"{least:.0f}x " + ("met" if all(met) else "missed") if met else "")
        rows.append(cells)
    return rows


def forwarding_rows(comparison: Comparison) -> list[list[str]]:
    """A heading, and a row per case: Mpps, and our rate as a multiple of theirs.

    "less input": the peer's time per packet without that of its input and output, for which
    testpmd's io mode stands, so that what is left is the cost of switching."""
    rows = [["rules/capture", *FORWARDING_COLUMNS, "oko/ovs", "oko/ovs less input", "note"]]
    for what, row in _table(comparison.forwarding, FORWARDING_COLUMNS).items():
        cells = [what]
        for who in FORWARDING_COLUMNS:
            figure = row.get(who)
            cells.append(f"{1e3 / figure.median:.2f}" if figure and figure.ns else "-")
        ns = {who: figure.median for who, figure in row.items() if figure.ns}
        if "oko" in ns and "ovs-dpdk" in ns:
            cells.append(f"{ns['ovs-dpdk'] / ns['oko']:.2f}x")
            less = ns["ovs-dpdk"] - ns.get("testpmd", 0.0)
            cells.append(f"{less / ns['oko']:.2f}x" if "testpmd" in ns else "-")
        else:
            cells += ["-", "-"]
        notes = [f"{who}: {figure.note}" for who, figure in row.items() if figure.note]
        rows.append([*cells, "; ".join(notes)])
    return rows


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
    for title, figures, rows in (
        ("filters, ns per packet", comparison.filters, filter_rows(comparison)),
        ("forwarding, Mpps", comparison.forwarding, forwarding_rows(comparison)),
    ):
        if not figures:
            continue
        table = Table(title=title, title_justify="left")
        for number, heading in enumerate(rows[0]):
            table.add_column(heading, justify="right" if number else "left")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
        refused = {(f.what, f.who): f.note for f in figures if not f.ns and f.note}
        for (what, who), why in refused.items():
            console.print(f"{what}: {who}: {why}", markup=False)
    for peer, why in comparison.left_out.items():
        console.print(f"left out: {peer}: {why}", markup=False)
    console.print(f"stolen by the hypervisor: {100 * comparison.stolen:.1f} % of the core's time")


def plot(comparison: Comparison, path: Path) -> None:
    """Bars, one group per filter and per case. Raises OkoError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise OkoError("no plot without matplotlib (Debian: python3-matplotlib)") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = [
        ("ns per packet", comparison.filters, FILTER_COLUMNS, 1.0),
        ("Mpps", comparison.forwarding, FORWARDING_COLUMNS, 1e3),
    ]
    parts = [part for part in parts if part[1]]
    figure, axes = pyplot.subplots(len(parts), 1, figsize=(12, 5 * len(parts)), squeeze=False)
    for axis, (unit, figures, columns, rate) in zip(axes[:, 0], parts, strict=True):
        rows = _table(figures, columns)
        width = 0.8 / len(columns)
        for k, who in enumerate(columns):
            places = [i + k * width for i, row in enumerate(rows.values()) if who in row]
            medians = [row[who].median for row in rows.values() if who in row]
            heights = [(rate / m if rate > 1 else m) if m else 0.0 for m in medians]
            axis.bar(places, heights, width, label=who)
        middle = (len(columns) - 1) * width / 2
        axis.set_xticks([i + middle for i in range(len(rows))], list(rows), rotation=25, ha="right")
        axis.set_ylabel(unit)
        axis.set_yscale("log")
        axis.legend()
    figure.suptitle(f"{comparison.machine['cpu']}, {comparison.started}, {comparison.commit}")
    figure.tight_layout()
    figure.savefig(path)
