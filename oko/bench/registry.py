"""Benchmarks registered like tests.

A benchmark is a generator function with `@benchmark(...)`: it sets up, yields one callable, and
cleans up after the yield. The callable runs one sample and returns `Sample(operations, seconds)`.
The runner (run.py) interleaves the samples of all selected benchmarks, so that a noisy machine
hits all alike, and reports medians.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """What one sample did: how many operations in how many seconds of CPU time."""

    operations: int
    seconds: float

    @property
    def ns(self) -> float:
        """Nanoseconds per operation."""
        return self.seconds * 1e9 / self.operations


Body = Callable[[], Generator[Callable[[], Sample], None, None]]


@dataclass(frozen=True)
class Benchmark:
    """A registered benchmark. `group` gathers what may be compared; `facts` states packets,
    flows, rules, masks, programs, entries: whatever a reader must know to judge the figure."""

    name: str
    group: str
    body: Body
    unit: str
    facts: dict[str, int | str]


class Unavailable(Exception):
    """Raised by a benchmark's set-up when this machine lacks what it needs; the text says what."""


REGISTRY: dict[str, Benchmark] = {}


def benchmark(
    name: str, group: str, unit: str = "packet", **facts: int | str
) -> Callable[[Body], Body]:
    """Registers the decorated generator function under `name` (unique, `group/what`-like)."""

    def register(body: Body) -> Body:
        if name in REGISTRY:
            raise ValueError(f"benchmark {name} is registered twice")
        REGISTRY[name] = Benchmark(name, group, body, unit, facts)
        return body

    return register
