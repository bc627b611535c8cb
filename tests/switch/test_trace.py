"""Tracing a packet that never came: the way it would take, and not a trace of it anywhere."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import dpkt
import pytest
from test_packet_out import FRAME, TTL_64, actions

from oko.datapath import Datapath, Frame
from oko.model.flow import Bucket, DropBand, Group, Meter
from oko.switch.bridge import Bridge
from oko.text import parse_flow, parse_rules
from oko.trace import tell

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT / "examples" / "traces"
FILTER = 3  # enum oko_trace_kind
EXIT = 0x95  # RFC 9669
NO_INSN = 0xFFFFFFFF


def state(dp: Datapath, *programs: int) -> object:
    """All that a packet could have changed."""
    return (
        sorted(dataclasses.astuple(f) for f in dp.flows()),
        dp.ports(), dp.groups(), dp.meters(), dp.macs(), dp.drops(), dp.stats(),
        [dp.table(n) for n in range(4)], dp.programs(), dp.now,
        [(m.name, sorted(m.items())) for n in programs for m in dp.maps(n).values()],
        dp.log(),
    )  # fmt: skip


def traced_for_real(dp: Datapath, frame: Frame, seq: int) -> list:
    dp.trace(seq)
    dp.process([dataclasses.replace(frame, seq=seq)])
    return dp.trace_steps()


FLOWS = """
table=0,priority=9,filter_prog=1,udp,actions=set_field:7->reg0,resubmit(,1),goto_table:2
table=0,priority=5,actions=drop
table=1,priority=1,reg0=7,actions=clone(mod_nw_ttl:3,output:3),learn(table=3,NXM_OF_ETH_DST[],output:NXM_OF_IN_PORT[]),group:4
table=2,priority=1,actions=meter:6,controller,NORMAL,send_maps(2),resubmit(,3),write_actions(output:2)
"""


@pytest.fixture
def dp():
    with Datapath(workers=2) as made:
        for number in (1, 2, 3):
            made.add_port(number, kind="mem")
        made.load_program(1, TTL_64)
        made.load_program(2, TTL_64)
        made.clock_start(10**9)
        with made.transaction() as txn:
            txn.meter(Meter(6, pktps=True, bands=(DropBand(1000),)))
            txn.group(Group(4, 0, (Bucket(actions("output:1")), Bucket(actions("output:2")))))
            txn.group(Group(5, 3, (Bucket(actions("output:1"), watch_port=1),)))
            for rule in parse_rules(FLOWS, "flows"):
                txn.flow(rule)
        yield made


def test_it_is_the_way_that_the_packet_takes(dp):
    before = state(dp, 1)
    frame = Frame(FRAME, 1, 2 * 10**9)
    steps = dp.trace_frame(frame, worker=1)
    assert state(dp, 1) == before
    assert not dp.events()
    assert [dp.read_port(n) for n in (1, 2, 3)] == [[], [], []]
    real = traced_for_real(dp, frame, 5)
    # What the packet has learned on its way, only the real one can meet.
    learned = [i for i, step in enumerate(real) if step.table == 3 and step.kind == 4]
    assert len(learned) == 1
    assert [s for s in steps if s.kind != 5] == real[: learned[0]] + [
        s for s in real[learned[0] + 1 :] if s.table != 3
    ]
    assert {s.kind for s in steps} >= {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}


def test_words(dp):
    bridge = Bridge("br0", Datapath(workers=2))
    bridge.add_port(1, "one")
    bridge.apply([*parse_rules("priority=3,udp,tp_dst=2000,actions=output:1", "flows")])
    assert bridge.trace(FRAME, 7).lines() == [
        "packet: 64 bytes, came in at port 7",
        "  table 0:",
        "    priority 3 udp,tp_dst=2000: chosen, actions=output:1",
        "    apply_actions",
        "    output:1",
        "    left through port 1",
    ]
    assert bridge.trace(FRAME[:20], 7).lines()[-2:] == [
        "    no flow matches in table 0",
        "  dropped: table-miss",
    ]
    kinds = [step["kind"] for step in bridge.trace(FRAME, 7).as_json()]
    assert kinds == ["packet", "lookup", "flow", "action", "action", "output"]
    assert sum(p.rx_packets + p.tx_packets for p in bridge.port_stats()) == 0
    bridge.close()


def test_an_endless_resubmit_ends_here_too(dp):
    dp.add_flow(parse_flow("priority=99,actions=resubmit(,0)"))
    steps = dp.trace_frame(Frame(FRAME, 1), worker=1)
    assert steps[-1].kind == 11 and steps[-1].arg == 1
    assert dp.drops() == {}


def packets(name: str, n: int) -> list[bytes]:
    with (TRACES / name).open("rb") as file:
        return [data for _, data in islice(dpkt.pcap.Reader(file), n)]


OBJECTS = sorted((ROOT / "examples" / "bpf").glob("*.o"))


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_programs_say_the_same_and_keep_their_state(path):
    """Each example, on real traffic: asked before each packet it tells what it then says."""
    capture = {"port_scan": "scan.pcap", "syn_flood": "syn-flood.pcap"}.get(path.stem, "dns.pcap")
    with Datapath(workers=2) as dp:
        dp.add_port(2)
        dp.load_program(1, path)
        dp.add_flow(parse_flow("priority=9,filter_prog=1,actions=output:2"))
        dp.add_flow(parse_flow("priority=1,actions=drop"))
        for seq, data in enumerate(packets(capture, 50), 1):
            frame = Frame(data, 1, seq * 10**6)
            maps = [(m.name, sorted(m.items())) for m in dp.maps(1).values()]
            runs = dp.programs()[0].runs
            steps = dp.trace_frame(frame, worker=1)
            assert dp.programs()[0].runs == runs
            assert [(m.name, sorted(m.items())) for m in dp.maps(1).values()] == maps
            assert steps == traced_for_real(dp, frame, seq)
            (asked,) = (step for step in steps if step.kind == FILTER)
            insns = dict(dp.program_spec(1).decoded())
            assert insns[asked.insn].code == EXIT
            assert asked.branch == NO_INSN or insns[asked.branch].code & 7 in (5, 6)


def test_which_conjunction_was_complete():
    rules = (
        "priority=9,in_port=1,actions=conjunction(7,1/2)",
        "priority=9,udp,actions=conjunction(7,2/2)",
        "priority=3,conj_id=7,actions=output:2",
    )
    with Datapath() as dp:
        for number in (1, 2):
            dp.add_port(number, kind="mem")
        for rule in rules:
            dp.add_flow(parse_flow(rule))
        steps = dp.trace_frame(Frame(FRAME, 1, 10**9))
        told = list(tell(steps, "packet", lambda flow: None, {}))
    assert "    conjunction 7 is complete" in told
    assert steps[-1].kind == 7 and steps[-1].arg == 2
