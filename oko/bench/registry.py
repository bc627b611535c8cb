"""Benchmarks registered like tests.

A benchmark is a generator function with `@benchmark(...)`: it sets up, yields one callable, and
cleans up after the yield. The callable runs one sample and returns `Sample(operations, seconds)`.
The runner (run.py) interleaves the samples of a group's benchmarks, so that a noisy machine hits
all alike, and reports medians.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """What one sample did: how many operations in how many seconds, of CPU time unless the group
    says otherwise."""

    operations: int
    seconds: float

    @property
    def ns(self) -> float:
        """Nanoseconds per operation."""
        return self.seconds * 1e9 / self.operations


@dataclass(frozen=True)
class Goal:
    """What a median is to reach: at most `ns`, or `times` as fast as benchmark `of`."""

    ns: float = 0.0
    times: float = 0.0
    of: str = ""

    def __str__(self) -> str:
        if self.of:
            return f"{self.times:g} times as fast as {self.of}"
        for unit, ns in (("ms", 1e6), ("us", 1e4)):
            if self.ns >= ns:
                return f"{self.ns / (1e6 if unit == 'ms' else 1e3):g} {unit}"
        return f"{round(self.ns, 1):g} ns"


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
    goal: Goal | None = None
    measure: str = "ns"  # what figures are in; "bytes": a sample's seconds are billions of them
    big: bool = False  # takes long or much memory: runs with --big, or by its name


class Unavailable(Exception):
    """Raised by a benchmark's set-up when this machine lacks what it needs; the text says what."""


REGISTRY: dict[str, Benchmark] = {}


def benchmark(
    name: str,
    group: str,
    unit: str = "packet",
    goal: Goal | None = None,
    measure: str = "ns",
    big: bool = False,
    **facts: int | str,
) -> Callable[[Body], Body]:
    """Registers the decorated generator function under `name` (unique, `group/what`-like)."""

    def register(body: Body) -> Body:
        if name in REGISTRY:
            raise ValueError(f"benchmark {name} is registered twice")
        REGISTRY[name] = Benchmark(name, group, body, unit, facts, goal, measure, big)
        return body

    return register
