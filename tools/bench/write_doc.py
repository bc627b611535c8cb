"""Writes measured tables into docs/benchmarks.md, between its `begin` and `end` marks, and draws
the pictures beside it: benchmarks.svg (curves) and compare.svg (bars), as `oko-bench plot` does.

usage: write_doc.py COMPARISON.json BENCHMARKS.jsonl MAPS.jsonl [DOCUMENT]

COMPARISON.json is what `tools/compare --json` wrote, BENCHMARKS.jsonl what `oko-bench --json` did,
MAPS.jsonl what `make -C csrc bench-maps BENCH_ARGS=-j` printed.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from oko.bench.against import Comparison, Figure
from oko.bench.against_report import filter_rows, forwarding_rows, markdown
from oko.bench.plot import bars, svg

ROOT = Path(__file__).resolve().parents[2]


def comparison_of(record: dict[str, Any]) -> Comparison:
    """The comparison that a JSON record was made of, as far as tables need it."""
    parts = {}
    for part in ("filters", "forwarding"):
        parts[part] = [
            Figure(
                row["what"],
                row["who"],
                [row["ns_median"]] if "ns_median" in row else [],
                row.get("note", row.get("left_out", "")),
            )
            for row in record[part]
        ]
    return Comparison(
        record["command"],
        record["commit"],
        record["machine"],
        record["started"],
        record["stolen"],
        parts["filters"],
        parts["forwarding"],
        record["left_out"],
    )


def rate(record: dict[str, Any]) -> str:
    """Millions a second, or nothing where that says nothing."""
    return f"{record['mops']:.1f}" if record["mops"] >= 0.1 else ""


def nanoseconds(ns: float) -> str:
    """A time as the tables print it: with a decimal place where that says something."""
    return f"{ns:,.1f}" if ns < 1000 else f"{ns:,.0f}"


def bench_rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """A heading and a row per benchmark: median with range, rate, goal."""
    rows = [["benchmark", "ns", "range", "M/s", "goal"]]
    for record in records:
        if "left_out" in record:
            rows.append([record["name"], "left out", "", "", record["left_out"]])
            continue
        goal = ""
        if "goal" in record:
            goal = record["goal"] + ": " + ("met" if record["met"] else "**missed**")
        numbers = [nanoseconds(record[k]) for k in ("ns_median", "ns_min", "ns_max")]
        rows.append(
            [record["name"], numbers[0], f"{numbers[1]} - {numbers[2]}", rate(record), goal]
        )
    return rows


def curve_rows(records: list[dict[str, Any]], names: list[str]) -> list[list[str]]:
    """A heading and a row per point: the number, then ns of each curve."""
    curves: dict[str, dict[int, str]] = {name: {} for name in names}
    for record in records:
        _, curve, number = record["name"].split("/")
        if curve in curves:
            value = nanoseconds(record["ns_median"]) if "ns_median" in record else "left out"
            curves[curve][int(number)] = value
    points = sorted({n for points in curves.values() for n in points})
    return [
        ["N", *(f"{name}, ns" for name in names)],
        *([f"{n:,}", *(curves[name].get(n, "") for name in names)] for n in points),
    ]


def memory_rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """A heading and a row per point: bytes for each rule or flow, and for all of them."""
    rows = [["what", "N", "bytes each", "MiB in all"]]
    for record in records:
        _, what, number = record["name"].split("/")
        n, each = int(number), record.get("bytes_median")
        sizes = ["left out", record["left_out"]] if each is None else _sizes(n, each)
        rows.append([what, f"{n:,}", *sizes])
    return rows


def _sizes(n: int, each: float) -> list[str]:
    return [f"{each:,.0f}" if each >= 100 else f"{each:.1f}", f"{n * each / 2**20:,.1f}"]


def map_rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """A heading and a row per operation and number of entries: ns in each kind of table."""
    kinds: list[str] = []
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for record in records:
        found = re.fullmatch(r"(.+?),? (\d+k) (.+)", record["row"])
        assert found, record["row"]
        kind, entries, action = found.groups()
        if kind not in kinds:
            kinds.append(kind)
        cells.setdefault((entries, action), {})[kind] = nanoseconds(record["ns"])
    return [
        ["operation, ns", *kinds],
        *(
            [f"{action}, {entries}", *(row.get(kind, "") for kind in kinds)]
            for (entries, action), row in cells.items()
        ),
    ]


def thread_rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """A heading and a row per operation on a shared map: millions a second of all threads."""
    rows: dict[str, dict[int, str]] = {}
    for record in records:
        rows.setdefault(record["row"], {})[record["threads"]] = f"{1000 / record['ns']:.1f}"
    threads = sorted({n for row in rows.values() for n in row})
    return [
        ["operation, M/s", *(f"{n} thread{'s' * (n > 1)}" for n in threads)],
        *([name, *(row.get(n, "") for n in threads)] for name, row in rows.items()),
    ]


def tables(
    comparison: dict[str, Any], lines: list[dict[str, Any]], maps: list[dict[str, Any]]
) -> dict[str, str]:
    """What goes between the marks, by name."""
    machine, records = lines[0]["machine"], lines[1:]
    by_group: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_group.setdefault(record["group"], []).append(record)
    compared = comparison_of(comparison)
    refused = sorted(
        {
            f"- {figure.what}, {figure.who}: {figure.note}\n"
            for figure in compared.filters
            if not figure.ns and figure.note
        }
    )
    left_out = [f"- {peer} was left out: {why}\n" for peer, why in compared.left_out.items()]
    scale = [record for group in by_group for record in by_group[group] if group[:5] == "scale"]
    return {
        "machine": (
            f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python"
            f" {machine['python']}; {compared.started[:16].replace('T', ' ')} UTC, commit"
            f" {compared.commit}; the hypervisor stole {100 * compared.stolen:.1f} % of the core.\n"
        ),
        "filters": markdown(filter_rows(compared)) + "\n" + "".join([*refused, *left_out]),
        "forwarding": markdown(forwarding_rows(compared)),
        "rates": markdown(bench_rows(by_group.get("forwarding", []))),
        "added": markdown(bench_rows(by_group.get("filter on every packet", []))),
        "loading": markdown(bench_rows(by_group.get("loading", []))),
        "maps": markdown(map_rows([m for m in maps if "threads" not in m])),
        "threads": markdown(thread_rows([m for m in maps if "threads" in m])),
        "openflow": markdown(bench_rows(by_group.get("openflow, wall time", []))),
        "workers": markdown(bench_rows(by_group.get("workers, wall time", []))),
        "masks": markdown(curve_rows(scale, ["masks", "attack", "nocache"])),
        "curves": "\n".join(
            markdown(curve_rows(scale, [name]))
            for name in ("flows", "rules", "programs", "tables", "commits")
        ),
        "memory": markdown(memory_rows(by_group.get("memory", []))),
    }


def fill(text: str, parts: dict[str, str]) -> str:
    """The document with its marked parts replaced. Raises ValueError for a part without marks."""
    for name, part in parts.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text, n = re.subn(pattern, lambda m, p=part: m[1] + p + m[2], text, flags=re.DOTALL)
        if n != 1:
            raise ValueError(f"the document has no marks for {name}")
    return text


def main(argv: list[str]) -> int:
    """Rewrites the document and its pictures."""
    comparison = json.loads(Path(argv[0]).read_text())
    lines, maps = (
        [json.loads(line) for line in Path(name).read_text().splitlines()] for name in argv[1:3]
    )
    document = Path(argv[3]) if len(argv) > 3 else ROOT / "docs" / "benchmarks.md"
    document.with_name("benchmarks.svg").write_text(svg(lines))
    document.with_name("compare.svg").write_text(bars(comparison))
    document.write_text(fill(document.read_text(), tables(comparison, lines, maps)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
