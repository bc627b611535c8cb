"""Runs benchmarks interleaved and reports medians."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import statistics
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from oko.bench.registry import Benchmark, Sample, Unavailable


@dataclass(frozen=True)
class Result:
    """Medians over all samples of one benchmark; `reason` tells why there are none."""

    benchmark: Benchmark
    samples: tuple[float, ...]  # ns per operation
    reason: str = ""

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
            "ns_median": round(self.median, 3),
            "ns_min": round(min(self.samples), 3),
            "ns_max": round(max(self.samples), 3),
            "mops": round(1e3 / self.median, 3),
            "samples": len(self.samples),
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
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Sets every benchmark up, takes `rounds` samples of each in turn (the order reversed every
    second round, after one unmeasured sample), cleans up, and returns results in the given order.
    """
    with contextlib.ExitStack() as stack:
        ready: list[tuple[Benchmark, Callable[[], Sample], list[float]]] = []
        left_out: dict[str, str] = {}
        for bench in selected:
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
            if progress:
                progress(number + 1, rounds)
        measured = {bench.name: tuple(samples) for bench, _, samples in ready}
    return [
        Result(bench, measured.get(bench.name, ()), left_out.get(bench.name, ""))
        for bench in selected
    ]


def _finish(generator: Generator[Callable[[], Sample], None, None]) -> None:
    with contextlib.suppress(StopIteration):
        next(generator)
