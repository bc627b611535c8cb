"""Workloads that are too large to be kept as files: rules as records, packets made in memory.

A million rules of text take minutes to read and ten million packets take 800 MB. Here rules are
struct oko_flow_mod records, made from one template, as the OpenFlow agent hands them over; packets
are a capture in a memory file (memfd), made column by column. Both depend on nothing but their
number, and nothing is left behind.

The flows of rules are those of tools/gen_workloads.py. Those of packets are not: they only lie in
the same networks, so that all but a few take the default rule (as 99.9 % of udp64_f1m do).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

from oko.bench.registry import Unavailable
from oko.bench.workloads import GENERATOR
from oko.datapath import Datapath
from oko.model.compile import MATCH_FIELD_SIZE, PACKED, PackedFlowMod, compile_flow, pack_change
from oko.model.flow import FlowMod
from oko.text.flows import parse_flow

RECORD = 16 + 64  # of a packet in the capture: its head and the smallest Ethernet frame's bytes
PORTION = 10_000
"""Flows of one transaction: so much is copied before it is in the tables."""


def available() -> int:
    """Bytes of memory that can be had without swapping (MemAvailable)."""
    with contextlib.suppress(OSError), open("/proc/meminfo") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def need(size: int) -> None:
    """Raises Unavailable where less than `size` bytes of memory are available."""
    have = available()
    if have < size:
        raise Unavailable(f"needs {size >> 20:,} MiB of memory, {have >> 20:,} MiB are available")


# ---------------------------------------------------------------- rules


def _generator() -> ModuleType:
    """tools/gen_workloads.py."""
    spec = importlib.util.spec_from_file_location("gen_workloads", GENERATOR)
    if not GENERATOR.exists() or not spec or not spec.loader:
        raise Unavailable(f"no {GENERATOR.name}: run from a source tree")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exact_rules(n: int) -> Iterator[PackedFlowMod]:
    """The suite's first n five-tuple rules, as `exact.flows` has them, without the default rule."""
    text = "priority=100,udp,nw_src=1.1.1.1,nw_dst=1.1.1.1,tp_src=1,tp_dst=1,actions=output:2"
    flow = parse_flow(text)
    ops = compile_flow(flow).ops
    template = bytearray(pack_change(FlowMod(flow)))
    at = {
        field.name: PACKED.size + MATCH_FIELD_SIZE * k + 8
        for k, (field, _, _) in enumerate(flow.match)
    }
    places = [at[name] for name in ("ipv4_src", "ipv4_dst", "udp_src", "udp_dst")]
    generator = _generator()
    flows = generator.flow_tuples(n, generator.DEFAULT_SEED)
    for k, values in enumerate(flows, 1):
        struct.pack_into("=Q", template, 0, k)
        for place, value, form in zip(places, values, ("!I", "!I", "!H", "!H"), strict=True):
            struct.pack_into(form, template, place, value)
        yield PackedFlowMod(bytes(template), ops, flow.instructions, 0)


def add_rules(dp: Datapath, rules: Iterator[PackedFlowMod], at_once: int = PORTION) -> None:
    """Adds flows, in transactions of so many."""
    while portion := list(islice(rules, at_once)):
        with dp.transaction() as txn:
            txn.flows(portion)


# ---------------------------------------------------------------- packets


def _frames(n: int) -> bytearray:
    """n capture records: UDP in frames of 64 bytes, nearly all of another flow each. IPv4 checksums
    are right: what one field adds, another takes away."""
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 50, 0, 0x4000, 64, 17, 0, 0x0A000000, 0xAC100000)
    total = sum(struct.unpack("!10H", ip)) + 0xFF + 0xFFFF  # of what varies, see below
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    frame = bytes.fromhex("0200000000020200000000010800") + ip[:10]
    frame += struct.pack("!H", checksum) + ip[12:] + struct.pack("!HHHH", 0, 0, 30, 0) + bytes(22)
    records = bytearray(struct.pack("<IIII", 0, 0, 64, 64) + frame) * n
    random_bytes = random.Random(n).randbytes
    opposite = bytes(range(255, -1, -1))
    no_low_port = bytes(4 + b * 252 // 256 for b in range(256))  # from 1024
    first = 16 + 14  # of the IPv4 header
    for source, opposed in ((13, 5), (14, 18), (15, 19)):  # an address's byte; identification, dst
        column = random_bytes(n)
        records[first + source :: RECORD] = column
        records[first + opposed :: RECORD] = column.translate(opposite)
    for port in (20, 22):
        records[first + port :: RECORD] = random_bytes(n).translate(no_low_port)
        records[first + port + 1 :: RECORD] = random_bytes(n)
    return records


@contextlib.contextmanager
def capture(n: int) -> Iterator[Path]:
    """A capture of n packets, nearly all of another flow each, in memory while it is used.

    Raises Unavailable where there is not enough memory to make, keep and preload it."""
    need(4 * n * RECORD)
    memory = os.memfd_create("oko-bench")
    try:
        with open(memory, "wb", closefd=False) as out:
            out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
            out.write(_frames(n))
        yield Path(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
