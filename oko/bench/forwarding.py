"""Forwarding: preloaded captures through rule sets, one thread, nothing written.

Frames are borrowed from the preloaded capture, not copied. Rules and captures are those of
tools/gen_workloads.py; rates are CPU time of the forwarding thread per packet.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from oko.bench.registry import Goal, Sample, Unavailable, benchmark
from oko.bench.workloads import ROOT, five_tuples, workload
from oko.bpf.asm import assemble
from oko.bpf.elf import read_object
from oko.bpf.spec import FuncSpec, ProgramSpec
from oko.bpf.toolchain import compile_source
from oko.datapath import Datapath
from oko.errors import ToolchainError
from oko.model.flow import DELETE_STRICT
from oko.replayer import Replayer
from oko.text.flows import parse_flow_mod

Run = Generator[Callable[[], Sample], None, None]
SLICE = 0.2  # seconds of one sample
FLOWS = {"udp64_f1": 1, "udp64_f1k": 1_000, "udp64_f100k": 100_000, "udp64_f1m": 1_000_000}
FLOWS |= {"imix_f1k": 1_000, "acl64_f1k": 1_000, "acl64_f100k": 100_000}
RULES = {"forward": 1, "exact": 1_001, "exact100k": 100_001, "acl": 1_001, "normal": 1}


def replaying(
    capture: str | Path,
    rules: str | list[str],
    program: ProgramSpec | Path | dict[int, ProgramSpec | Path] | None = None,
    workers: int = 1,
    cache: bool = True,
    changes: int = 0,
    fill: Callable[[Datapath], None] | None = None,
) -> Run:
    """A benchmark body: the capture over and over through the rules. program: number 1, or several
    by number. changes: flow-mods a second that another thread makes meanwhile. fill: puts into the
    datapath what rules and programs do not say."""
    programs = program if isinstance(program, dict) else {1: program} if program else {}
    for source in programs.values():
        if isinstance(source, Path) and not source.exists():
            raise Unavailable(f"no {source.name}: run from a source tree")
    flows: list[str | Path] = [workload(rules)] if isinstance(rules, str) else [*rules]
    captures = [capture if isinstance(capture, Path) else workload(f"{capture}.pcap")]
    if rules == "normal.flows":  # once a round a frame from port 2, where the addressee is then
        captures.append(workload("reply.pcap"))
    with contextlib.ExitStack() as stack:
        replayer = stack.enter_context(
            Replayer(
                captures,
                ports=(2,),
                flows=flows,
                programs=programs,
                cache=cache,
                workers=workers,
                spread="5tuple",
                preload=True,
                duration=1e6,
                dump_maps=False,
            )
        )
        if fill:
            fill(replayer.datapath)
        if changes:
            stack.enter_context(_changing(replayer.datapath, changes))
        packets = 0
        while packets == 0:  # loads the capture, learns the addresses, fills the cache
            packets = replayer.run_for(SLICE)

        def sample() -> Sample:
            nonlocal packets
            before = packets
            clock = time.thread_time if workers == 1 else time.perf_counter
            start = clock()
            packets = replayer.run_for(SLICE)
            return Sample(packets - before, clock() - start)

        yield sample


@contextlib.contextmanager
def _changing(datapath: Datapath, per_second: int) -> Generator[None, None, None]:
    """Meanwhile a thread adds and deletes five-tuple flows, which no packet matches, at a steady
    rate."""
    texts = [f"priority=99,udp,nw_src=192.168.0.{k},nw_dst=192.168.1.1,tp_src=7" for k in range(99)]
    texts = [f"{text},tp_dst=9" for text in texts]
    mods = [parse_flow_mod(f"{text},actions=drop") for text in texts]
    mods += [parse_flow_mod(text, DELETE_STRICT) for text in texts]
    stop = threading.Event()

    def change() -> None:
        due = time.monotonic()
        for mod in itertools.cycle(mods):
            due += 1 / per_second
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            datapath.add_flow(mod)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


MPPS = {
    ("forward", "udp64_f1k"): 45,
    ("forward", "udp64_f100k"): 40,
    ("exact", "udp64_f1k"): 25,
    ("exact", "udp64_f100k"): 12,
    ("exact", "imix_f1k"): 20,
    ("acl", "udp64_f1k"): 22,
    ("acl", "udp64_f100k"): 8,
    ("acl", "udp64_f1m"): 4,
    ("acl", "acl64_f100k"): 8,
    ("normal", "udp64_f1k"): 30,
    ("normal", "udp64_f100k"): 20,
}
"""Goals, in million packets a second."""


def _register(rules: str, capture: str) -> None:
    @benchmark(
        f"forward/{rules}/{capture}",
        "forwarding",
        goal=Goal(ns=1e3 / MPPS[rules, capture]) if (rules, capture) in MPPS else None,
        rules=RULES[rules],
        flows=FLOWS[capture],
        programs=0,
    )
    def body() -> Run:
        yield from replaying(capture, f"{rules}.flows")


for _rules, _captures in {
    "forward": ("udp64_f1k", "udp64_f100k"),
    "exact": ("udp64_f1k", "udp64_f100k", "imix_f1k"),
    "acl": ("udp64_f1k", "udp64_f100k", "udp64_f1m", "acl64_f1k", "acl64_f100k"),
    "exact100k": ("udp64_f100k",),
    "normal": ("udp64_f1k", "udp64_f100k"),
}.items():
    for _capture in _captures:
        _register(_rules, _capture)


def _register_changing(rules: str) -> None:
    @benchmark(
        f"forward/{rules}/udp64_f1k/changing",
        "forwarding",
        goal=Goal(times=0.9, of=f"forward/{rules}/udp64_f1k"),
        rules=RULES[rules],
        flows=1_000,
        flow_mods_per_second=1_000,
    )
    def body() -> Run:
        yield from replaying("udp64_f1k", f"{rules}.flows", changes=1_000)


for _rules in ("exact", "acl"):
    _register_changing(_rules)


def _register_new(rules: str, known: str) -> None:
    """A million flows in turn: when one comes round, the cache, whether it was asked or stood
    aside, knows it no more. A new flow is to cost at most ten times a known one."""

    @benchmark(
        f"forward/{rules}/udp64_f1m/new",
        "forwarding",
        goal=Goal(times=0.1, of=f"forward/{rules}/{known}"),
        rules=RULES[rules],
        flows=1_000_000,
    )
    def body() -> Run:
        yield from replaying("udp64_f1m", f"{rules}.flows")


for _rules in ("forward", "exact", "acl", "normal"):
    _register_new(_rules, "udp64_f1k")
_register_new("exact100k", "udp64_f100k")


# ---------------------------------------------------------------- with a filter on every packet

TRIVIAL = ProgramSpec("trivial", assemble("mov %r0, 1\nexit"), (FuncSpec("entry", 0),))
FILTERED = ["priority=10,filter_prog=1,actions=output:2", "priority=1,actions=output:2"]


@benchmark("filter/none", "filter on every packet", flows=1_000, rules=2, programs=0)
def _none() -> Run:
    yield from replaying("udp64_f1k", ["priority=10,actions=output:2"])


@benchmark("filter/trivial", "filter on every packet", flows=1_000, rules=2, programs=1)
def _trivial() -> Run:
    yield from replaying("udp64_f1k", FILTERED, TRIVIAL)


def flow_map(entries: int) -> ProgramSpec:
    """tools/bench/filters/d_flow.c: is the 5-tuple in a hash table? compiled for so many entries.

    Raises Unavailable where source or compiler are missing."""
    source = ROOT / "tools" / "bench" / "filters" / "d_flow.c"
    try:
        return read_object(compile_source(source, defines=(f"ENTRIES={entries}",)), "flow_map")
    except ToolchainError as error:
        raise Unavailable(str(error)) from None


def _fill_flow_map(capture: str, datapath: Datapath) -> None:
    """Puts every flow of a capture into d_flow.c's table, so that each packet is found."""
    if datapath.programs():
        table = datapath.maps(1)["flows"]
        for source, destination in five_tuples(capture):
            table[source + destination + b"\x11\0\0\0"] = (1).to_bytes(8, "little")


ENTRIES = {"udp64_f1k": 1_024, "udp64_f100k": 131_072}
"""Of the flow table, by capture; those that tools/compare measures d_flow with."""


def _flow_map(capture: str) -> Run:
    fill = functools.partial(_fill_flow_map, capture)
    yield from replaying(capture, FILTERED, flow_map(ENTRIES[capture]), fill=fill)


def _register_added(name: str, capture: str, goal: float, with_filter: Callable[[], Run]) -> None:
    """What a filter on every packet adds: the difference of two samples next to each other."""

    @benchmark(
        f"filter/{name}/added",
        "filter on every packet",
        goal=Goal(ns=goal),
        flows=FLOWS[capture],
        programs=1,
    )
    def body() -> Run:
        with contextlib.ExitStack() as stack:
            samples = []
            for one in (replaying(capture, FILTERED[-1:]), with_filter()):
                samples.append(next(one))
                stack.callback(next, one, None)

            def sample() -> Sample:
                without, filtered = samples[0](), samples[1]()
                return Sample(10**6, (filtered.ns - without.ns) * 1e-3)

            yield sample


def _register_capture(capture: str, trivial: float, lookup: float, bucket: float) -> None:
    """The three that goals are set for, in ns that they may add."""
    rate_limiter = ROOT / "examples" / "bpf" / "rate_limiter.o"
    for name, goal, with_filter in (
        ("trivial", trivial, lambda: replaying(capture, FILTERED, TRIVIAL)),
        ("flow_map", lookup, lambda: _flow_map(capture)),
        ("rate_limiter", bucket, lambda: replaying(capture, FILTERED, rate_limiter)),
    ):
        _register_added(f"{name}/{capture}", capture, goal, with_filter)


_register_capture("udp64_f1k", 2, 8, 6)
_register_capture("udp64_f100k", 2, 35, 35)


def _register_example(name: str, flows: int) -> None:
    capture = {count: capture for capture, count in FLOWS.items() if capture[:5] == "udp64"}[flows]

    @benchmark(
        f"filter/{name}/{capture}", "filter on every packet", flows=flows, rules=2, programs=1
    )
    def body() -> Run:
        yield from replaying(capture, FILTERED, ROOT / "examples" / "bpf" / f"{name}.o")


def _register_flow_map(capture: str) -> None:
    @benchmark(
        f"filter/flow_map/{capture}",
        "filter on every packet",
        flows=FLOWS[capture],
        rules=2,
        programs=1,
    )
    def body() -> Run:
        yield from _flow_map(capture)


for _capture in ENTRIES:
    _register_flow_map(_capture)
for _name in ("stateless_firewall", "rate_limiter", "heavy_hitter", "port_scan"):
    for _flows in (1_000, 100_000):
        _register_example(_name, _flows)


# ---------------------------------------------------------------- several workers


def _register_workers(rules: str, workers: int) -> None:
    one = f"workers/{rules}/1"

    @benchmark(
        f"workers/{rules}/{workers}",
        "workers, wall time",
        goal=Goal(times=1.8, of=one) if workers == 2 else None,
        rules=RULES[rules],
        flows=1_000,
        workers=workers,
    )
    def body() -> Run:
        if len(os.sched_getaffinity(0)) < workers:
            raise Unavailable(f"fewer than {workers} cores")
        yield from replaying("udp64_f1k", f"{rules}.flows", workers=workers)


for _rules in ("forward", "exact", "acl", "normal"):
    for _workers in (1, 2):
        _register_workers(_rules, _workers)
