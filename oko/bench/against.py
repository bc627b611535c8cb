"""`oko-bench --against PEER,..`: oko and others side by side, in one run, on one core.

    kernel     the kernel's BPF JIT        } the filters of tools/bench/filters,
    dpdk-bpf   DPDK's rte_bpf              } by csrc/bench/vm.c
    ovs-dpdk   Open vSwitch with DPDK      } captures and rules of tools/gen_workloads.py,
    testpmd    DPDK's forwarder, io mode   } by oko/bench/peers.py

Open vSwitch takes part as it comes, and as `ovs-dpdk-tuned` with the caches that suit it best.

Samples are interleaved: each round gives every contestant a turn, in an order that turns around,
so a machine that others use hits all alike. Times are those that the thread really ran, from which
Linux leaves out what the hypervisor stole; how much that was is reported. Results are medians.

A peer that cannot run here is left out with the reason. Nothing is installed and nothing is set.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from oko.bench.forwarding import replaying
from oko.bench.peers import Forwarder, OvsDpdk, Testpmd
from oko.bench.registry import Sample, Unavailable
from oko.bench.run import machine
from oko.bench.workloads import ROOT, workload

FILTER_PEERS = {"kernel": "libbpf-dev", "dpdk-bpf": "libdpdk-dev"}
"""Peers that run filters, and the Debian package that each needs."""
FORWARDING_PEERS: dict[str, Callable[[int], Forwarder]] = {"testpmd": Testpmd, "ovs-dpdk": OvsDpdk}
PEERS = (*FILTER_PEERS, *FORWARDING_PEERS)

CASES = (
    ("forward", "udp64_f1k"),
    ("forward", "udp64_f100k"),
    ("exact", "udp64_f1k"),
    ("exact", "udp64_f100k"),
    ("exact", "imix_f1k"),
    ("acl", "udp64_f1k"),
    ("acl", "udp64_f100k"),
    ("acl", "acl64_f100k"),
    ("normal", "udp64_f1k"),
    ("normal", "udp64_f100k"),
)
"""(rules, capture) of the suite, as in docs/benchmarks.md."""
BIG_CASES = (
    ("exact100k", "udp64_f100k"),
    ("exact", "udp64_f1m"),
    ("acl", "udp64_f1m"),
)
"""The one where every flow has a rule of its own, and those with a million flows."""


@dataclass
class Figure:
    """Samples of one contestant on one thing; ns per packet."""

    what: str
    who: str
    ns: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        """Median ns, 0 without samples."""
        return statistics.median(self.ns) if self.ns else 0.0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        if not self.ns:
            return {"what": self.what, "who": self.who, "left_out": self.note}
        return {
            "what": self.what,
            "who": self.who,
            "ns_median": round(self.median, 3),
            "ns_min": round(min(self.ns), 3),
            "ns_max": round(max(self.ns), 3),
            "mpps": round(1e3 / self.median, 3),
            "samples": len(self.ns),
            **({"note": self.note} if self.note else {}),
        }


@dataclass
class Comparison:
    """Everything that one run found."""

    command: str
    commit: str
    machine: dict[str, object]
    started: str
    stolen: float = 0.0
    """Share of the core's time that the hypervisor gave to others."""
    filters: list[Figure] = field(default_factory=list)
    forwarding: list[Figure] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{k: v for k, v in asdict(self).items() if k not in ("filters", "forwarding")},
            "filters": [figure.record() for figure in self.filters],
            "forwarding": [figure.record() for figure in self.forwarding],
        }


# ---------------------------------------------------------------- the machine


def _cpu_times(core: int) -> tuple[int, int]:
    """(stolen, all) ticks of a core since boot."""
    with open("/proc/stat") as stat:
        for line in stat:
            if line.startswith(f"cpu{core} "):
                ticks = [int(word) for word in line.split()[1:9]]
                return ticks[7], sum(ticks)
    return 0, 1


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """This thread, and the children it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


# ---------------------------------------------------------------- filters


def compare_filters(peers: Sequence[str], core: int, rounds: int, into: Comparison) -> None:
    """Runs csrc/bench/vm.c, which interleaves all engines itself."""
    csrc = ROOT / "csrc"
    if not (csrc / "bench" / "vm.c").exists():
        raise Unavailable("the filters are compared in a source tree only")
    make = ["make", "-s", "-C", str(csrc), "BUILD=build-compare", "CFLAGS=-O3 -g"]
    make += [f"PYTHON={sys.executable}", "bench-build"]
    if "kernel" not in peers:
        make.append("BENCH_KERNEL=")
    if "dpdk-bpf" not in peers:
        make.append("BENCH_DPDK=")
    built = subprocess.run(make, capture_output=True, text=True)
    if built.returncode:
        raise Unavailable(f"cannot build bench-vm: {built.stderr.strip().splitlines()[-1:]}")
    folder = csrc / "build-compare" / "bench"
    with _pinned(core):
        done = subprocess.run(
            [str(folder / "bench-vm"), "-j", "-p", "-r", str(rounds), str(folder)],
            capture_output=True,
            text=True,
        )
    if done.returncode or done.stderr:
        raise Unavailable(f"bench-vm: {done.stderr.strip()}")
    seen = set()
    for line in done.stdout.splitlines():
        row = json.loads(line)
        seen.add(row["engine"])
        figure = Figure(row["filter"], row["engine"], note=row.get("refused", ""))
        if "ns" in row:
            figure.ns = [row["min"], row["ns"], row["max"]]
        into.filters.append(figure)
    for peer, package in FILTER_PEERS.items():
        if peer in peers and peer.split("-")[0] not in seen:
            into.left_out[peer] = f"needs Debian's {package}"
    if "kernel" in peers and all(f.note for f in into.filters if f.who == "kernel"):
        reasons = {f.note for f in into.filters if f.who == "kernel"}
        into.left_out.setdefault("kernel", "; ".join(sorted(reasons)))


# ---------------------------------------------------------------- forwarding


class _Oko:
    """Ours, in this process: preloaded, frames borrowed, one thread."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._stack = ExitStack()

    def prepare(self, capture: Path, rules: Path) -> str:
        """See Forwarder."""
        self.close()
        body = replaying(capture.stem, rules.name)
        self._sample = next(body)
        self._stack.callback(next, body, None)
        return ""

    def sample(self, seconds: float) -> Sample:
        """See Forwarder. Slices of a fifth of a second."""
        operations, ran = 0, 0.0
        with _pinned(self._core):
            self._sample()  # caches are warm again, as the peers' are
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                one = self._sample()
                operations, ran = operations + one.operations, ran + one.seconds
        return Sample(operations, ran)

    def close(self) -> None:
        """See Forwarder."""
        self._stack.close()


def compare_forwarding(
    peers: Sequence[str],
    core: int,
    rounds: int,
    seconds: float,
    cases: Sequence[tuple[str, str]],
    into: Comparison,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Case after case: everybody gets ready, then rounds of a sample each."""
    with ExitStack() as stack:
        contestants: dict[str, Forwarder] = {"oko": _Oko(core)}
        for name in peers:
            try:
                contestants[name] = FORWARDING_PEERS[name](core)
            except Unavailable as error:
                into.left_out[name] = str(error)
        for contestant in contestants.values():
            stack.callback(contestant.close)
        if isinstance(switch := contestants.get("ovs-dpdk"), OvsDpdk):
            contestants["ovs-dpdk-tuned"] = switch.tuned()
        for rules, capture in cases:
            progress(f"{rules} {capture}")
            paths = workload(f"{capture}.pcap"), workload(f"{rules}.flows")
            figures, ready = {}, []
            for name, contestant in contestants.items():
                figures[name] = Figure(f"{rules}/{capture}", name)
                into.forwarding.append(figures[name])
                try:
                    figures[name].note = contestant.prepare(*paths)
                except Unavailable as error:
                    figures[name].note = str(error)
                    continue
                if _can_sample(contestant, figures[name]):
                    ready.append(name)
            for number in range(rounds):
                for name in ready if number % 2 == 0 else reversed(ready):
                    sample = contestants[name].sample(seconds)
                    if sample.operations:
                        figures[name].ns.append(sample.ns)


def _can_sample(contestant: Forwarder, figure: Figure) -> bool:
    """One unmeasured sample."""
    try:
        if contestant.sample(0.2).operations > 0:
            return True
        figure.note = "forwarded nothing in 0.2 s"
    except Unavailable as error:
        figure.note = str(error)
    return False


# ---------------------------------------------------------------- the command


def compare(
    peers: Sequence[str],
    *,
    core: int,
    rounds: int,
    seconds: float,
    cases: Sequence[tuple[str, str]] = CASES,
    progress: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Compares with the named peers."""
    result = Comparison(
        command="oko-bench " + " ".join(sys.argv[1:]),
        commit=_commit(),
        machine=machine(),
        started=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
    )
    stolen, ticks = _cpu_times(core)
    filter_peers = [peer for peer in peers if peer in FILTER_PEERS]
    if filter_peers:
        progress("filters")
        try:
            compare_filters(filter_peers, core, 3 * rounds, result)
        except Unavailable as error:
            result.left_out.update(dict.fromkeys(filter_peers, str(error)))
    forwarding = [peer for peer in peers if peer in FORWARDING_PEERS]
    if forwarding:
        compare_forwarding(forwarding, core, rounds, seconds, cases, result, progress)
    now_stolen, now_ticks = _cpu_times(core)
    result.stolen = round((now_stolen - stolen) / max(1, now_ticks - ticks), 4)
    return result
