"""What growth costs: packets against flows, rules, masks, programs and tables; commits against
rules. Points of curves, not to be compared with anything but their neighbours.

    scale/flows/N      1,000 five-tuple rules, N flows in turn; ten million with --big
    scale/rules/N      N five-tuple rules, 1,000 flows, each of which has a rule if N allows; a
                       million with --big
    scale/masks/N      N masks, a rule each that never matches, 1,000 flows: the cache answers
    scale/attack/N     the same, but nearly every packet is a new flow: a tuple space attack
    scale/nocache/N    the same without the cache, for comparison
    scale/programs/N   N rules with a filter program each, which all say no
    scale/tables/N     N tables, each sends the packet on to the next
    scale/commits/N    adding and deleting one flow in a table of N; a million with --big
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from oko.bench import big
from oko.bench.forwarding import Run, replaying
from oko.bench.registry import Goal, Sample, benchmark
from oko.bpf.asm import assemble
from oko.bpf.spec import FuncSpec, ProgramSpec
from oko.datapath import Datapath
from oko.model.flow import DELETE_STRICT
from oko.text.flows import parse_flow_mod

SAYS_NO = ProgramSpec("no", assemble("mov %r0, 0\nexit"), (FuncSpec("entry", 0),))
BYTES_PER_RULE = 2_000
"""More than a rule takes, with what Python needs to make it."""
TRACES = {1: "udp64_f1", 1_000: "udp64_f1k", 100_000: "udp64_f100k", 1_000_000: "udp64_f1m"}


def mask_rules(n: int) -> list[str]:
    """n rules with a mask each, none of which any packet of the suite matches (its destinations
    lie in 172.16/12), and one that sends everything on. Both addresses are looked at in full, so
    every flow of the suite is another one to the cache, too."""
    pairs = [(src, dst) for dst in range(32, 8, -1) for src in range(32, 0, -1)][:n]
    rules = [
        f"priority={1000 + k},udp,nw_dst=192.168.1.1/{dst},nw_src=10.1.1.1/{src},actions=drop"
        for k, (src, dst) in enumerate(pairs)
    ]
    return [*rules, "priority=1,actions=output:2"]


def _flows(n: int) -> None:
    @benchmark(f"scale/flows/{n}", "scale: flows", flows=n, rules=1_001, big=n not in TRACES)
    def body() -> Run:
        with contextlib.ExitStack() as stack:
            packets = TRACES.get(n) or stack.enter_context(big.capture(n))
            yield from replaying(packets, "exact.flows")


def _rules(n: int) -> None:
    @benchmark(f"scale/rules/{n}", "scale: rules", flows=1_000, rules=n + 1, big=n > 100_000)
    def body() -> Run:
        big.need(n * BYTES_PER_RULE)
        yield from replaying(
            "udp64_f1k",
            ["priority=0,actions=output:2"],
            fill=lambda dp: big.add_rules(dp, big.exact_rules(n)),
        )


def _masks(n: int) -> None:
    @benchmark(f"scale/masks/{n}", "scale: masks", flows=1_000, masks=n)
    def known() -> Run:
        yield from replaying("udp64_f1k", mask_rules(n))

    @benchmark(
        f"scale/attack/{n}", "scale: masks", goal=Goal(ns=50 + 10 * n), flows=1_000_000, masks=n
    )
    def new() -> Run:
        yield from replaying("udp64_f1m", mask_rules(n))

    @benchmark(f"scale/nocache/{n}", "scale: masks", flows=1_000_000, masks=n)
    def uncached() -> Run:
        yield from replaying("udp64_f1m", mask_rules(n), cache=False)


def _programs(n: int) -> None:
    @benchmark(f"scale/programs/{n}", "scale: programs", flows=1_000, programs=n)
    def body() -> Run:
        rules = [f"priority={9 + k},filter_prog={k},actions=drop" for k in range(1, n + 1)]
        programs: dict[int, ProgramSpec | Path] = dict.fromkeys(range(1, n + 1), SAYS_NO)
        yield from replaying("udp64_f1k", [*rules, "priority=1,actions=output:2"], programs)


def _tables(n: int) -> None:
    @benchmark(f"scale/tables/{n}", "scale: tables", flows=1_000, tables=n)
    def body() -> Run:
        rules = [f"table={k},udp,actions=goto_table:{k + 1}" for k in range(n - 1)]
        yield from replaying("udp64_f1k", [*rules, f"table={n - 1},actions=output:2"])


def _commits(n: int) -> None:
    @benchmark(f"scale/commits/{n}", "scale: commits", "commit", rules=n, big=n > 100_000)
    def body() -> Run:
        big.need(n * BYTES_PER_RULE)
        with contextlib.ExitStack() as stack:
            dp = stack.enter_context(Datapath())
            big.add_rules(dp, big.exact_rules(n))
            text = "priority=7,udp,nw_src=10.0.0.1,tp_dst=7"
            add = parse_flow_mod(f"{text},actions=drop")
            delete = parse_flow_mod(text, DELETE_STRICT)

            def sample() -> Sample:
                start = time.thread_time()
                for _ in range(500):
                    dp.add_flow(add)
                    dp.add_flow(delete)
                return Sample(1_000, time.thread_time() - start)

            yield sample


for _n in (*TRACES, 10_000_000):
    _flows(_n)
for _n in (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000):
    _rules(_n)
for _n in (1, 3, 10, 30, 100, 300):
    _masks(_n)
for _n in (1, 4, 16, 64, 256, 1_000):
    _programs(_n)
for _n in (1, 2, 5, 20, 50):
    _tables(_n)
for _n in (10, 1_000, 100_000, 1_000_000):
    _commits(_n)
