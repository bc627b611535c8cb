"""The captures and rule sets that the benchmarks use: tools/gen_workloads.py's, made once.

They lie in the folder that OKO_WORKLOADS names, by default `oko/workloads` in the user's cache
folder. The same generator feeds the peers (tools/compare), so figures can be put side by side.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from oko.bench.registry import Unavailable

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "tools" / "gen_workloads.py"


def folder() -> Path:
    """Where workloads are kept."""
    named = os.environ.get("OKO_WORKLOADS")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "oko" / "workloads"


def workload(name: str) -> Path:
    """The file `name` of the suite (udp64_f1k.pcap, acl.flows, ..); made when it is missing.

    Raises Unavailable where the generator is not at hand (an installed wheel without the source
    tree)."""
    path = folder() / name
    if path.exists():
        return path
    if not GENERATOR.exists():
        raise Unavailable(f"no {path}; tools/gen_workloads.py suite -o {path.parent} makes it")
    path.parent.mkdir(parents=True, exist_ok=True)
    big = ["--big"] if "f1m" in name or "exact100k" in name else []
    subprocess.run(
        [sys.executable, str(GENERATOR), "suite", "-o", str(path.parent), *big],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return path


def five_tuples(capture: str) -> Iterator[tuple[bytes, bytes]]:
    """Each flow of a capture of the suite once: (both addresses, both ports) as in the packet."""
    data = workload(f"{capture}.pcap").read_bytes()
    seen, at = set(), 24
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        ends = data[at + 42 : at + 50], data[at + 50 : at + 54]
        if ends not in seen:
            seen.add(ends)
            yield ends
        at += 16 + length
