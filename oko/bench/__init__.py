"""`oko-bench`: every benchmark of the project, machine-readable.

    oko-bench [--list] [--big] [--rounds N] [--json FILE] [PATTERN...]
    oko-bench --against kernel,dpdk-bpf,testpmd,ovs-dpdk [--json FILE] [--plot FILE]
    oko-bench plot RESULTS [PICTURE.svg]

Figures are CPU time per operation (of `workers` and `openflow`: wall time; of `memory`: bytes),
medians of interleaved samples, beside the project's goals. JSON lines: first the machine, then one
object per benchmark, which states what was measured (packets, flows, rules, entries). `plot` draws
the curves among them (scale, memory, workers), or the bars of a comparison.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from oko.bench.registry import REGISTRY, Benchmark
from oko.bench.run import Result, machine, run


def select(patterns: Sequence[str], big: bool = False) -> list[Benchmark]:
    """The registered benchmarks whose name or group matches any shell pattern; all without one.
    Those that take long are left out unless `big` asks for them or a pattern is their name."""
    from oko.bench import forwarding, loading, memory, openflow, scale  # registers them

    assert forwarding and loading and memory and openflow and scale
    benches = [b for b in REGISTRY.values() if big or not b.big or b.name in patterns]
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
        table.add_column("benchmark", no_wrap=True, overflow="fold")
        measure = next(r.benchmark.measure for r in results if r.benchmark.group == group)
        for heading in (measure, "min", "max", "M/s"):
            table.add_column(heading, justify="right")
        table.add_column("goal")
        for result in results:
            if result.benchmark.group != group:
                continue
            if not result.samples:
                table.add_row(result.benchmark.name, "left out", "", "", "", result.reason)
                continue
            table.add_row(
                result.benchmark.name,
                f"{result.median:,.2f}",
                f"{min(result.samples):,.2f}",
                f"{max(result.samples):,.2f}",
                f"{1e3 / result.median:.3g}" if result.median > 0 and measure == "ns" else "",
                _goal(result),
            )
        console.print(table)


def _goal(result: Result) -> str:
    if not result.benchmark.goal:
        return ""
    verdict = {True: "met", False: "missed", None: "not compared"}[result.met]
    return f"{result.benchmark.goal}: {verdict}"


def run_against(options: argparse.Namespace) -> int:
    """`--against`; returns the exit status."""
    from oko.bench import against, against_report, plot

    peers = against.PEERS if options.against == "all" else options.against.split(",")
    cores = sorted(os.sched_getaffinity(0))
    core = cores[-1] if options.core is None else options.core
    problem = ""
    for peer in peers:
        if peer not in against.PEERS:
            problem = f"no peer {peer!r}: there are {', '.join(against.PEERS)}"
    if core not in cores:
        problem = f"no core {core}"
    if options.rounds < 1 or not 0.05 <= options.seconds <= 60:
        problem = "--rounds takes a number from 1, --seconds one from 0.05 to 60"
    if problem:
        print(f"oko-bench: {problem}", file=sys.stderr)
        return 2
    comparison = against.compare(
        peers,
        core=core,
        rounds=options.rounds,
        seconds=options.seconds,
        cases=against.CASES + (against.BIG_CASES if options.big else ()),
        progress=lambda text: print(f"oko-bench: {text}", file=sys.stderr),
    )
    try:
        if options.json:
            text = json.dumps(comparison.record(), indent=1) + "\n"
            if options.json == "-":
                sys.stdout.write(text)
            else:
                Path(options.json).write_text(text)
        if options.markdown:
            Path(options.markdown).write_text(
                against_report.markdown(against_report.filter_rows(comparison))
                + "\n"
                + against_report.markdown(against_report.forwarding_rows(comparison))
            )
        if options.plot:
            Path(options.plot).write_text(plot.bars(comparison.record()))
    except OSError as error:
        print(f"oko-bench: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"oko-bench: {options.plot}: {error}", file=sys.stderr)
        return 1
    if options.json != "-":
        against_report.print_comparison(comparison)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["plot"]:
        from oko.bench import plot

        problem = plot.main(given[1:])
        if problem:
            print(f"oko-bench: {problem}", file=sys.stderr)
        return 2 if problem.startswith("usage") else 1 if problem else 0
    parser = argparse.ArgumentParser(prog="oko-bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pattern", nargs="*", help="shell pattern of names or groups; default all")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and stop")
    parser.add_argument(
        "--big",
        action="store_true",
        help="also what takes long: 10,000,000 flows, 1,000,000 rules (--against: a tenth of each)",
    )
    parser.add_argument("--rounds", type=int, default=11, help="samples of each (default 11)")
    parser.add_argument("--json", metavar="FILE", help="write JSON lines to FILE, - for stdout")
    against = parser.add_argument_group("side by side with others")
    against.add_argument(
        "--against",
        metavar="PEERS",
        help="comma-separated: kernel, dpdk-bpf (filters), testpmd, ovs-dpdk (forwarding), or all",
    )
    against.add_argument("--core", type=int, help="where everybody runs (default: the last)")
    against.add_argument("--seconds", type=float, default=0.6, help="of a sample (default 0.6)")
    against.add_argument("--plot", metavar="FILE", help="a picture (SVG)")
    against.add_argument("--markdown", metavar="FILE", help="the tables as in docs/benchmarks.md")
    options = parser.parse_args(given)
    if options.against:
        return run_against(options)
    selected = select(options.pattern, options.big)
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
