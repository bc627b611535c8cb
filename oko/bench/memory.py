"""Memory: what a flow costs the switch, and what the packets' flows cost its cache.

    memory/rules/N     bytes per flow in a table of N five-tuple flows
    memory/flows/N     bytes of lookup cache per flow that passes, 1,000 rules with 30 masks

Ten million flows and a million rules with --big. Measured as growth of a process of its own, so
that nothing that went before is in it; once, since it does not vary. Pages that the process holds
count, what Python needs to make the rules does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from oko.bench import big
from oko.bench.registry import Sample, benchmark
from oko.bench.scale import TRACES
from oko.bench.workloads import workload
from oko.datapath import Datapath
from oko.replayer import Replayer

PORTION = 1_000  # flows added at a time


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def of_rules(n: int) -> int:
    """Bytes by which a datapath grows when n flows are added."""
    rules = big.exact_rules(n)
    with Datapath() as dp:
        big.add_rules(dp, islice(rules, PORTION), PORTION)
        before = resident()  # Python has what it needs from here on
        big.add_rules(dp, rules, PORTION)
        return (resident() - before) * n // max(n - PORTION, 1)


def of_flows(n: int, cache: bool) -> int:
    """Bytes by which a process grows while n flows pass, the capture's pages among them."""
    with ExitStack() as stack:
        name = TRACES.get(n)
        path = workload(f"{name}.pcap") if name else stack.enter_context(big.capture(n))
        return _of_capture(path, n, cache)


def _of_capture(path: Path, n: int, cache: bool) -> int:
    """The same with the capture at `path`, of n flows."""
    with Replayer(
        path,
        ports=(2,),
        flows=[workload("acl.flows")],
        cache=cache,
        preload=True,
        duration=1e6,
        dump_maps=False,
    ) as replayer:
        before = resident()
        while replayer.run_for(0.5) < 2 * n:  # two rounds
            pass
        return resident() - before


def measured(what: str, n: int) -> int:
    """The same, in a process of its own."""
    command = [sys.executable, "-m", "oko.bench.memory", what, str(n)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def _register(what: str, n: int) -> None:
    n_rules, n_flows = (n, 0) if what == "rules" else (1_001, n)

    @benchmark(
        f"memory/{what}/{n}",
        "memory",
        "flow",
        measure="bytes",
        big=n >= (1_000_000 if what == "rules" else 10_000_000),
        rules=n_rules,
        flows=n_flows,
    )
    def body() -> Generator[Callable[[], Sample], None, None]:
        grown = measured(what, n)
        if what == "flows":  # what the cache added
            grown -= measured("uncached", n)
        yield lambda: Sample(n, max(grown, 0) * 1e-9)


for _n in (10_000, 100_000, 1_000_000):
    _register("rules", _n)
for _n in (1_000, 100_000, 1_000_000, 10_000_000):
    _register("flows", _n)

if __name__ == "__main__":
    what, number = sys.argv[1], int(sys.argv[2])
    print(of_rules(number) if what == "rules" else of_flows(number, what == "flows"))
