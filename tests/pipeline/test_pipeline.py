"""Text cases of the whole pipeline, each run on the datapath and on the naive twin.

A case is a file of sections, carried out in order:

    == ports 1 2 3                  which exist (default 1 2 3 4)
    == program 1                    assembler text (oko.bpf.asm) up to the next section; a line
    map NAME TYPE KEY VALUE N       declares a map, numbered from 0
    == program 2 = path.o           or an object, from the project's root
    == rules                        flows, groups, meters, commands: one transaction per line
    == bundle                       the same, all lines in one transaction
    == packets                      lines: [at SECONDS] in_port=1,tcp,... (twin/build.py) [xN]
    == tick SECONDS                 the clock, without packets
    == port 2 down                  or up
    == outputs                      what left since the last such section, in order per port:
    2 tcp,...                       port, frame in words; in_port= is ignored
    == counters                     packets of flows: "FLOW : N", all flows in this section
    == drops                        reasons and numbers since the start
    == events                       since the last such section, sorted: "packet-in ...", ...
    == runs                         of programs: "NUMBER RUNS MATCHES"

Comments start with "#". The first comment says what the case shows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from twin.build import frame
from twin.compare import TwinProgram
from twin.switch import DROPS, Switch

from oko.bpf.asm import assemble
from oko.bpf.elf import read_object
from oko.bpf.spec import FuncSpec, MapSpec, MapType, ProgramSpec
from oko.datapath import DOWN, Datapath, Event, Frame
from oko.model.flow import FlowMod, GroupMod, MeterMod
from oko.text import parse_flow, parse_rules
from oko.text.match import format_match

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))
START = 10**18


@dataclass
class Section:
    head: str
    lines: list[str]
    line: int


def sections(text: str) -> list[Section]:
    result: list[Section] = []
    for n, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].rstrip()
        if line.startswith("=="):
            result.append(Section(line[2:].strip(), [], n))
        elif line.strip():
            result[-1].lines.append(line.strip())
    return result


def program(section: Section) -> ProgramSpec:
    if "=" in section.head:
        return read_object((ROOT / section.head.split("=")[1].strip()).read_bytes())
    maps = []
    code = []
    for line in section.lines:
        words = line.split()
        if words[0] == "map":
            sizes = [int(w) for w in words[3:]]
            maps.append(MapSpec(words[1], MapType[words[2].upper()], *sizes))
        else:
            code.append(line)
    return ProgramSpec("case", assemble("\n".join(code)), (FuncSpec("entry", 0),), tuple(maps))


class OnDatapath:
    """The core's side of a case."""

    def __init__(self, ports: list[int], **options: Any) -> None:
        self.dp = Datapath(**options)
        self.ports = ports
        for port in ports:
            self.dp.add_port(port, kind="mem")

    def load(self, number: int, spec: ProgramSpec) -> None:
        self.dp.load_program(number, spec)

    def apply(self, rules: list[FlowMod | GroupMod | MeterMod]) -> None:
        with self.dp.transaction() as txn:
            for rule in rules:
                if isinstance(rule, FlowMod):
                    txn.flow(rule)
                elif isinstance(rule, GroupMod):
                    txn.group(rule)
                else:
                    txn.meter(rule)

    def process(self, packets: list[tuple[bytes, int, int, int]]) -> None:
        self.dp.process([Frame(data, port, ns, seq=seq) for data, port, ns, seq in packets])

    def tick(self, ns: int) -> None:
        self.dp.tick(ns)

    def set_down(self, port: int, down: bool) -> None:
        self.dp.set_port_flags(port, DOWN if down else 0)

    def outputs(self) -> dict[int, list[bytes]]:
        sent = {port: [f.data for f in self.dp.read_port(port)] for port in self.ports}
        return {port: frames for port, frames in sent.items() if frames}

    def counters(self) -> dict[str, int]:
        return {
            f"{f.table} {f.priority} {f.filter_prog} {format_match(f.match)}": f.n_packets
            for f in self.dp.flows()
        }

    def drops(self) -> dict[str, int]:
        return dict(self.dp.drops())

    def events(self) -> list[str]:
        return sorted(map(self._words, self.dp.events()))

    @staticmethod
    def _words(e: Event) -> str:
        seconds = f"{(e.ns - START) / 1e9:g}"
        if e.kind == "packet-in":
            where = f"table {e.table} cookie {e.cookie} bytes {len(e.data)}"
            return f"packet-in {e.reason} at {seconds} {where}"
        if e.kind == "learned":
            return f"learned at {seconds} table {e.table} {format_match(e.match)}"
        where = f"table {e.table} cookie {e.cookie} packets {e.n_packets}"
        return f"removed {e.reason} at {seconds} {where}"

    def runs(self) -> dict[int, tuple[int, int]]:
        return {p.number: (p.runs, p.matches) for p in self.dp.programs()}

    def close(self) -> None:
        self.dp.close()


class OnTwin:
    """The twin's side."""

    def __init__(self, ports: list[int]) -> None:
        self.switch = Switch(ports)
        self.loaded: dict[int, TwinProgram] = {}
        self.all: list[TwinProgram] = []

    def load(self, number: int, spec: ProgramSpec) -> None:
        self.loaded[number] = TwinProgram(spec)
        self.all.append(self.loaded[number])
        self.switch.programs[number] = self.loaded[number]

    def apply(self, rules: list[FlowMod | GroupMod | MeterMod]) -> None:
        flows = []
        for rule in rules:
            if isinstance(rule, FlowMod):
                flows.append(rule)
            elif isinstance(rule, GroupMod) and rule.command == "delete":
                self.switch.delete_group(rule.group.id)
            elif isinstance(rule, GroupMod):
                self.switch.set_group(rule.group)
            else:
                self.switch.set_meter(rule.meter)
        self.switch.apply(flows)

    def process(self, packets: list[tuple[bytes, int, int, int]]) -> None:
        for data, port, ns, seq in packets:
            self.switch.process(data, port, ns, seq=seq)

    def tick(self, ns: int) -> None:
        self.switch.tick(ns)

    def set_down(self, port: int, down: bool) -> None:
        (self.switch.down.add if down else self.switch.down.discard)(port)

    def outputs(self) -> dict[int, list[bytes]]:
        sent, self.switch.outputs = self.switch.outputs, {}
        return sent

    def counters(self) -> dict[str, int]:
        return {
            f"{f.table} {f.priority} {f.filter_prog} {format_match(f.match)}": e.packets
            for e in self.switch.entries
            for f in [e.flow]
        }

    def drops(self) -> dict[str, int]:
        assert set(self.switch.drops) <= set(DROPS)
        return dict(self.switch.drops)

    def events(self) -> list[str]:
        events, self.switch.events = self.switch.events, []
        return sorted(map(self._words, events))

    @staticmethod
    def _words(e: tuple[Any, ...]) -> str:
        if e[0] == "packet-in":
            reason = ("no-match", "action", "invalid-ttl")[e[3]]
            return (
                f"packet-in {reason} at {(e[1] - START) / 1e9:g} table {e[5]} cookie {e[6]} "
                f"bytes {len(e[8])}"
            )
        if e[0] == "learned":
            return f"learned at {(e[1] - START) / 1e9:g} table {e[2]} {format_match(e[4])}"
        return (
            f"removed {e[1]} at {(e[2] - START) / 1e9:g} table {e[3]} cookie {e[7]} packets {e[8]}"
        )

    def runs(self) -> dict[int, tuple[int, int]]:
        return {n: (p.runs, p.matches) for n, p in self.loaded.items()}

    def close(self) -> None:
        for loaded in self.all:
            loaded.program.close()


def run(text: str, side: Any) -> None:
    """Carries out a case."""
    clock, seq = START, 0
    for section in sections(text):
        verb, _, rest = section.head.partition(" ")
        place = f"line {section.line}: == {section.head}"
        if verb == "program":
            side.load(int(rest.split("=")[0]), program(section))
        elif verb == "rules":
            for line in section.lines:
                side.apply(parse_rules(line))
        elif verb == "bundle":
            side.apply(parse_rules("\n".join(section.lines)))
        elif verb == "tick":
            clock = START + round(float(rest) * 1e9)
            side.tick(clock)
        elif verb == "port":
            number, state = rest.split()
            side.set_down(int(number), state == "down")
        elif verb == "packets":
            packets = []
            for line in section.lines:
                found = re.fullmatch(r"(?:at ([\d.]+) )?(.*?)(?: x(\d+))?", line)
                assert found, line
                if found[1]:
                    clock = START + round(float(found[1]) * 1e9)
                data, port = frame(found[2])
                for _ in range(int(found[3] or 1)):
                    packets.append((data, port, clock, seq))
                    seq += 1
            side.process(packets)
        elif verb == "outputs":
            expected: dict[int, list[bytes]] = {}
            for line in section.lines:
                found = re.fullmatch(r"(\d+) (.*?)(?: x(\d+))?", line)
                assert found, line
                data, _ = frame(found[2])
                expected.setdefault(int(found[1]), []).extend([data] * int(found[3] or 1))
            assert hexed(side.outputs()) == hexed(expected), place
        elif verb == "counters":
            wanted = {}
            for line in section.lines:
                flow_text, n = line.rsplit(":", 1)
                flow = parse_flow(flow_text.strip() + ",actions=drop")
                name = f"{flow.table} {flow.priority} {flow.filter_prog} {format_match(flow.match)}"
                wanted[name] = int(n)
            assert side.counters() == wanted, place
        elif verb == "drops":
            assert side.drops() == {a: int(b) for a, b in map(str.split, section.lines)}, place
        elif verb == "events":
            assert side.events() == sorted(section.lines), place
        elif verb == "runs":
            numbers = [[int(w) for w in line.split()] for line in section.lines]
            assert side.runs() == {n: (runs, matches) for n, runs, matches in numbers}, place
        else:
            assert verb == "ports", place


def hexed(outputs: dict[int, list[bytes]]) -> dict[int, list[str]]:
    return {port: [data.hex() for data in frames] for port, frames in sorted(outputs.items())}


def ports_of(text: str) -> list[int]:
    head = next((s.head for s in sections(text) if s.head.startswith("ports")), "ports 1 2 3 4")
    return [int(word) for word in head.split()[1:]]


@pytest.mark.parametrize("case", CASES, ids=[c.stem for c in CASES])
@pytest.mark.parametrize("side", ["twin", "burst 32", "burst 1", "no cache, interpreter"])
def test_case(case: Path, side: str) -> None:
    text = case.read_text()
    options: dict[str, Any] = {
        "burst 32": {},
        "burst 1": {"burst": 1},
        "no cache, interpreter": {"cache": False, "interpret": True},
    }.get(side, {})
    ports = ports_of(text)
    runner = OnTwin(ports) if side == "twin" else OnDatapath(ports, **options)
    try:
        run(text, runner)
    finally:
        runner.close()


def test_every_case_says_what_it_shows_and_checks_something() -> None:
    assert len(CASES) >= 25
    checks = {"outputs", "counters", "drops", "events", "runs"}
    for case in CASES:
        text = case.read_text()
        assert text.startswith("# "), case
        assert any(s.head.split()[0] in checks for s in sections(text)), case
