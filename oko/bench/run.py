"""Runs benchmarks, those of a group interleaved, and reports medians."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import statistics
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from oko.bench.registry import Benchmark, Goal, Sample, Unavailable


@dataclass(frozen=True)
class Result:
    """Medians over all samples of one benchmark; `reason` tells why there are none."""

    benchmark: Benchmark
    samples: tuple[float, ...]  # ns per operation
    reason: str = ""
    met: bool | None = None  # of the goal; None without one, or where it cannot be told

    @property
    def median(self) -> float:
        """Median ns per operation."""
        return statistics.median(self.samples)

    def record(self) -> dict[str, object]:
        """One JSON line."""
        bench = self.benchmark
        head: dict[str, object] = {
            "name": bench.name,
            "group": bench.group,
            "unit": bench.unit,
            **bench.facts,
        }
        if not self.samples:
            return {**head, "left_out": self.reason}
        return {
            **head,
            f"{bench.measure}_median": round(self.median, 3),
            f"{bench.measure}_min": round(min(self.samples), 3),
            f"{bench.measure}_max": round(max(self.samples), 3),
            **({"mops": round(1e3 / self.median, 3)} if bench.measure == "ns" else {}),
            "samples": len(self.samples),
            **({"goal": str(bench.goal), "met": self.met} if bench.goal else {}),
        }


def machine() -> dict[str, object]:
    """What the figures were measured on: one JSON object."""
    model = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def run(
    selected: Sequence[Benchmark],
    rounds: int,
    progress: Callable[[str], None] = lambda group: None,
) -> list[Result]:
    """Runs group after group; returns results in the given order. Within a group sets every
    benchmark up, takes `rounds` samples of each in turn (the order reversed every second round,
    after one unmeasured sample), and cleans up."""
    measured: dict[str, tuple[float, ...]] = {}
    left_out: dict[str, str] = {}
    for group in dict.fromkeys(bench.group for bench in selected):
        progress(group)
        _run_group([b for b in selected if b.group == group], rounds, measured, left_out)
    return [
        Result(
            bench,
            measured.get(bench.name, ()),
            left_out.get(bench.name, ""),
            _met(bench.goal, measured.get(bench.name, ()), measured),
        )
        for bench in selected
    ]


def _run_group(
    group: Sequence[Benchmark],
    rounds: int,
    measured: dict[str, tuple[float, ...]],
    left_out: dict[str, str],
) -> None:
    with contextlib.ExitStack() as stack:
        ready: list[tuple[Benchmark, Callable[[], Sample], list[float]]] = []
        for bench in group:
            generator = bench.body()
            try:
                sample = next(generator)
            except Unavailable as error:
                left_out[bench.name] = str(error)
                continue
            stack.callback(_finish, generator)
            ready.append((bench, sample, []))
        for _, sample, _ in ready:
            sample()
        for number in range(rounds):
            for _, sample, samples in ready if number % 2 == 0 else reversed(ready):
                samples.append(sample().ns)
        measured |= {bench.name: tuple(samples) for bench, _, samples in ready}


def _met(
    goal: Goal | None, samples: Sequence[float], measured: dict[str, tuple[float, ...]]
) -> bool | None:
    if not goal or not samples:
        return None
    median = statistics.median(samples)
    if not goal.of:
        return median <= goal.ns
    other = measured.get(goal.of)
    return statistics.median(other) / median >= goal.times if other else None


def _finish(generator: Generator[Callable[[], Sample], None, None]) -> None:
    with contextlib.suppress(StopIteration):
        next(generator)
