"""A script of changes and packets, carried out by the twin and by the core, and what came of it.

Whatever differs in a Result is a bug in one of the two: frames that left, in order per port;
events; counters of flows, groups, meters and programs; reasons of drops; contents of maps; which
changes were refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from oko._binding import Meta
from oko.bpf.spec import ProgramSpec
from oko.filters import Engine, FilterProgram
from oko.model.fields import unmet
from oko.model.flow import (
    CHECK_OVERLAP,
    DELETE,
    DELETE_STRICT,
    MODIFY,
    MODIFY_STRICT,
    RESET_COUNTS,
    Flow,
    FlowMod,
    Group,
    Match,
    Meter,
)
from oko.text import format_flow, format_group, format_meter
from twin.core import Core, CoreError
from twin.generate import (
    Arrival,
    Options,
    arrivals_of,
    chance,
    flow_of,
    group_of,
    meter_of,
)
from twin.programs import PURE, STATEFUL
from twin.switch import PassMeta, Switch, TwinError


@dataclass(frozen=True)
class Load:
    """A program comes under a number, perhaps in place of another."""

    number: int
    spec: ProgramSpec


@dataclass(frozen=True)
class Packets:
    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True)
class Change:
    """One transaction."""

    mods: tuple[FlowMod, ...]


@dataclass(frozen=True)
class Tick:
    ns: int


Step = Load | Packets | Change | Tick | Group | Meter


@dataclass
class Result:
    outputs: dict[int, list[bytes]]
    events: list[str]  # sorted: when removals are reported is not fixed to the packet
    drops: Counter[str]
    flows: dict[Any, tuple[int, int]]
    refused: list[bool]
    programs: dict[int, tuple[int, int]]  # runs, matches
    maps: dict[int, Any]
    groups: dict[int, list[int]]
    meters: dict[int, list[int]]
    stats: dict[str, int] = field(default_factory=dict)  # of the core only


# ---------------------------------------------------------------- carrying out


class TwinProgram:
    """A program as the twin runs it: the reference interpreter, one packet at a time."""

    def __init__(self, spec: ProgramSpec) -> None:
        self.program = FilterProgram.load(spec, jit=False)
        self.runs = self.matches = 0

    def __call__(self, meta: PassMeta, frame: bytes) -> bool:
        seen = Meta(rx_ns=meta.rx_ns, in_port=meta.in_port, wire_len=meta.wire_len)
        verdict = self.program.run(frame, seen, engine=Engine.INTERP) == 1
        self.runs += 1
        self.matches += verdict
        return verdict


def run_twin(script: list[Step]) -> Result:
    """By the twin."""
    switch = Switch()
    programs: dict[int, TwinProgram] = {}
    loaded: list[TwinProgram] = []
    refused, seq = [], 0
    try:
        for step in script:
            if isinstance(step, Load):
                programs[step.number] = TwinProgram(step.spec)
                loaded.append(programs[step.number])
                switch.programs[step.number] = programs[step.number]
            elif isinstance(step, Group):
                switch.set_group(step)
            elif isinstance(step, Meter):
                switch.set_meter(step)
            elif isinstance(step, Change):
                try:
                    switch.apply(step.mods)
                    refused.append(False)
                except TwinError:
                    refused.append(True)
            elif isinstance(step, Tick):
                switch.tick(step.ns)
            else:
                for arrival in step.arrivals:
                    a = arrival
                    switch.process(a.data, a.in_port, a.ns, a.wire_len, seq)
                    seq += 1
        return Result(
            outputs=switch.outputs,
            events=sorted(map(repr, switch.events)),
            drops=switch.drops,
            flows={e.flow.identity: (e.packets, e.bytes) for e in switch.entries},
            refused=refused,
            programs={n: (p.runs, p.matches) for n, p in programs.items()},
            maps={
                n: [sorted(m.items()) for m in p.program.maps.values()] for n, p in programs.items()
            },
            groups=dict(switch.group_counts),
            meters={
                n: [m.packets] + [band.packets for band in m.bands]
                for n, m in switch.meters.items()
            },
        )
    finally:
        for program in loaded:
            program.program.close()


def run_core(script: list[Step], pieces: int = 0, **options: Any) -> Result:
    """By the core. pieces: at most so many packets per call. With n_workers, these calls go to the
    workers by turns, so that still only one packet is handled at a time."""
    core = Core(**options)
    n_workers = options.get("n_workers", 1)
    specs: dict[int, ProgramSpec] = {}
    refused, seq = [], 0
    try:
        for step in script:
            if isinstance(step, Load):
                core.load(step.number, step.spec)
                specs[step.number] = step.spec
            elif isinstance(step, Group):
                core.set_group(step)
            elif isinstance(step, Meter):
                core.set_meter(step)
            elif isinstance(step, Change):
                try:
                    core.apply(step.mods)
                    refused.append(False)
                except CoreError:
                    refused.append(True)
            elif isinstance(step, Tick):
                for worker in range(n_workers):
                    core.tick(step.ns, worker)
            else:
                size = pieces or len(step.arrivals)
                for turn, at in enumerate(range(0, len(step.arrivals), max(1, size))):
                    core.process(step.arrivals[at : at + size], seq + at, turn % n_workers)
                seq += len(step.arrivals)
        core.collect()
        return Result(
            outputs=core.outputs,
            events=sorted(map(repr, core.events)),
            drops=core.drops(),
            flows=core.flows(),
            refused=refused,
            programs=core.programs(),
            maps={n: core.maps(n, spec) for n, spec in specs.items()},
            groups=core.groups(),
            meters=core.meters(),
            stats=core.stats(),
        )
    finally:
        core.close()


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "one by one, no cache, interpreter": {"burst": 1, "cache": False, "interpret": True},
    "bursts, cache, JIT": {},
    "bursts of 7, small cache": {"burst": 7, "cache_bytes": 4096},
    "bursts, no cache": {"cache": False},
    "bursts, interpreter": {"interpret": True},
}


def check(script: list[Step], configurations: dict[str, dict[str, Any]] | None = None) -> Result:
    """The twin's result, after making sure that the core's is the same, however it is set up."""
    expected = run_twin(script)
    for name, options in (configurations or CONFIGURATIONS).items():
        got = run_core(script, **options)
        for part in set(Result.__dataclass_fields__) - {"stats"}:
            mine, theirs = getattr(expected, part), getattr(got, part)
            assert mine == theirs, explain(script, name, part, mine, theirs)
    return expected


def explain(script: list[Step], name: str, part: str, twin: Any, core: Any) -> str:
    """The difference, and the script in words."""
    lines = [f"core ({name}) differs from the twin in {part}:"]
    if isinstance(twin, dict):
        for key in sorted(set(twin) | set(core), key=repr):
            if twin.get(key) != core.get(key):
                lines += [f"  {key}:", f"    twin {show(twin.get(key))}",
                          f"    core {show(core.get(key))}"]  # fmt: skip
                if part == "outputs":
                    lines += first_difference(twin.get(key, []), core.get(key, []))
    elif isinstance(twin, list):
        lines += [f"  twin only: {x}" for x in twin if x not in core]
        lines += [f"  core only: {x}" for x in core if x not in twin]
        lines.append(f"  lengths {len(twin)} and {len(core)}")
    else:
        lines += [f"  twin {twin}", f"  core {core}"]
    return "\n".join([*lines, "script:", *words(script)])


def show(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return f"{len(value)} frames"
    return repr(value)


def first_difference(a: list[bytes], b: list[bytes]) -> list[str]:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if at is None:
        at = min(len(a), len(b))
    return [f"    frame {at}:"] + [
        f"    {name} {frames[at].hex() if at < len(frames) else 'none'}"
        for name, frames in (("twin", a), ("core", b))
    ]


def words(script: list[Step]) -> list[str]:
    """The script, one line per thing."""
    lines = []
    for step in script:
        if isinstance(step, Load):
            lines.append(f"  load {step.number} = {step.spec.name}")
        elif isinstance(step, Group):
            lines.append(f"  group {format_group(step)}")
        elif isinstance(step, Meter):
            lines.append(f"  meter {format_meter(step)!r}")
        elif isinstance(step, Change):
            commands = ("add", "modify", "modify_strict", "delete", "delete_strict")
            for mod in step.mods:
                lines.append(f"  {commands[mod.command]} {format_flow(mod.flow)}")
            lines.append("  commit")
        elif isinstance(step, Tick):
            lines.append(f"  tick {step.ns}")
        else:
            for a in step.arrivals:
                lines.append(
                    f"  packet in_port={a.in_port} ns={a.ns} wire={a.wire_len} {a.data.hex()}"
                )
    return lines


def shrink(script: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """A shorter script that still fails: leaves out steps, then mods and packets, while it does."""

    def without(steps: list[Step]) -> list[Step]:
        for size in (16, 8, 4, 2, 1):
            at = 0
            while at < len(steps):
                shorter = steps[:at] + steps[at + size :]
                if fails(shorter):
                    steps = shorter
                else:
                    at += size
        return steps

    flat: list[Step] = []
    for step in script:
        if isinstance(step, Packets):
            flat += [Packets((a,)) for a in step.arrivals]
        elif isinstance(step, Change):
            flat += [Change((mod,)) for mod in step.mods]
        else:
            flat.append(step)
    return without(flat if fails(flat) else script)


# ---------------------------------------------------------------- making scripts


def script_of(
    rng: Random,
    n_flows: int = 20,
    n_packets: int = 60,
    rounds: int = 3,
    n_frames: int = 0,
    packets: Sequence[Arrival] = (),
    filters: Sequence[ProgramSpec] = PURE + STATEFUL,
    **options: Any,
) -> list[Step]:
    """A random script: objects, flows, then packets and changes by turns. n_frames: so many
    different packets (streams, which caches live on); packets: these instead of random ones;
    filters: what may be loaded."""
    chosen = Options(
        programs=(1, 2, 3),
        groups=(1, 2, 3) if chance(rng, 60) else (),
        meters=(1, 2) if chance(rng, 40) else (),
        learn=chance(rng, 40),
        resubmit=chance(rng, 50),
        timeouts=chance(rng, 50),
    )
    chosen = replace(chosen, **options)
    script: list[Step] = [Load(number, rng.choice(filters)) for number in chosen.programs]
    script += [group_of(rng, number, chosen) for number in reversed(chosen.groups)]
    script += [meter_of(rng, number) for number in chosen.meters]
    packets = list(packets) or arrivals_of(rng, n_packets, n_frames)
    n_packets = len(packets)
    flows: list[Flow] = []
    for _ in range(n_flows):
        flow = flow_of(rng, chosen, packets)
        flows.append(flow)
        script.append(Change((FlowMod(flow),)))
    later = 0
    rounds = min(rounds, n_packets)  # a capture may have a single packet
    for i in range(rounds):
        part = packets[i * n_packets // rounds : (i + 1) * n_packets // rounds]
        part = [replace(a, ns=a.ns + later) for a in part]
        start = max(a.ns for a in part)
        script.append(Packets(tuple(part)))
        script.append(Change(tuple(mods_of(rng, flows, chosen, packets))))
        if chance(rng, 30):
            later += rng.choice((10**9, 3 * 10**9, 10**10))
            script.append(Tick(start + later))
        if chosen.programs and chance(rng, 20):
            script.append(Load(rng.choice(chosen.programs), rng.choice(filters)))
    return script


def mods_of(
    rng: Random, flows: list[Flow], options: Options, packets: list[Arrival]
) -> list[FlowMod]:
    """A transaction: adds, replaces, modifies, deletes; sometimes one that is refused."""
    mods = []
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        kind = rng.randrange(6)
        flow = rng.choice(flows)
        fresh = flow_of(rng, options, packets)
        if kind <= 1:
            if chance(rng, 10):
                fresh = replace(fresh, flags=fresh.flags | CHECK_OVERLAP)
            if chance(rng, 5):
                fresh = replace(fresh, filter_prog=99)
            mods.append(FlowMod(fresh))
            flows.append(fresh)
        elif kind == 2:
            mods.append(FlowMod(replace(flow, flags=rng.choice((0, RESET_COUNTS)))))
        elif kind == 3:
            command = rng.choice((MODIFY, MODIFY_STRICT))
            target = replace(flow, instructions=replace(fresh.instructions, goto=None))
            if command == MODIFY:
                target = replace(
                    target, match=_wider(rng, flow.match), filter_prog=rng.choice((0, 1))
                )
            mods.append(FlowMod(target, command))
        else:
            command = rng.choice((DELETE, DELETE_STRICT))
            target = replace(flow, instructions=type(flow.instructions)())
            mask = 0
            if command == DELETE:
                target = replace(
                    target, match=_wider(rng, flow.match), filter_prog=rng.choice((0, 0, 1, 2))
                )
                mask = rng.choice((0, 0, 1, 3))
            mods.append(FlowMod(target, command, cookie_mask=mask))
    return mods


def _wider(rng: Random, match: Match) -> Match:
    """Some of a match's fields, with what they need."""
    known = {f: (value, mask) for f, value, mask in match if chance(rng, 50)}
    while unfit := [f for f in known if unmet(f, known) is not None]:
        for f in unfit:
            del known[f]
    return Match.of(known)
