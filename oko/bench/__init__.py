"""`oko-bench`: every benchmark of the project, machine-readable.

    oko-bench [--list] [--rounds N] [--json FILE] [PATTERN...]

Figures are CPU time per operation, medians of interleaved samples. JSON lines: first the machine,
then one object per benchmark, which states what was measured (packets, flows, rules, entries).
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence

from oko.bench.registry import REGISTRY, Benchmark
from oko.bench.run import Result, machine, run


def select(patterns: Sequence[str]) -> list[Benchmark]:
    """The registered benchmarks whose name or group matches any shell pattern; all without one."""
    from oko.bench import forwarding  # registers them

    assert forwarding
    benches = list(REGISTRY.values())
    if not patterns:
        return benches
    return [
        bench
        for bench in benches
        if any(fnmatch.fnmatch(text, p) for p in patterns for text in (bench.name, bench.group))
    ]


def print_table(results: Sequence[Result]) -> None:
    """A table per group: name, median with range, and the rate."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for group in dict.fromkeys(result.benchmark.group for result in results):
        table = Table(title=group, title_justify="left")
        table.add_column("benchmark")
        for heading in ("ns", "min", "max", "M/s"):
            table.add_column(heading, justify="right")
        for result in results:
            if result.benchmark.group != group:
                continue
            if not result.samples:
                table.add_row(result.benchmark.name, "left out", "", "", result.reason)
                continue
            table.add_row(
                result.benchmark.name,
                f"{result.median:.2f}",
                f"{min(result.samples):.2f}",
                f"{max(result.samples):.2f}",
                f"{1e3 / result.median:.1f}",
            )
        console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="oko-bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pattern", nargs="*", help="shell pattern of names or groups; default all")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and stop")
    parser.add_argument("--rounds", type=int, default=11, help="samples of each (default 11)")
    parser.add_argument("--json", metavar="FILE", help="write JSON lines to FILE, - for stdout")
    options = parser.parse_args(argv)
    selected = select(options.pattern)
    if not selected:
        print("oko-bench: no benchmark matches; --list names them", file=sys.stderr)
        return 2
    if options.list:
        for bench in selected:
            print(bench.name)
        return 0
    if options.rounds < 1:
        print("oko-bench: --rounds takes a number from 1", file=sys.stderr)
        return 2
    results = run(selected, options.rounds)
    if options.json:
        lines = [{"machine": machine()}, *(result.record() for result in results)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if options.json == "-":
            sys.stdout.write(text)
            return 0
        try:
            with open(options.json, "w") as out:
                out.write(text)
        except OSError as error:
            print(f"oko-bench: {options.json}: {error.strerror}", file=sys.stderr)
            return 1
    print_table(results)
    return 0
