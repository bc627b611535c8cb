"""Dumps by stencil are, byte for byte, what encoding each flow by itself gives."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from oko._binding_stencils import Stencils
from oko.agent import dump
from oko.errors import CoreError
from oko.model.flow import TABLE_ALL, FlowMod
from oko.openflow.common import OF10, OF13, OF14, OF15
from oko.openflow.flow_stats import StatsEncoder
from oko.openflow.oko2018 import Encoder2018
from oko.switch.bridge import Bridge, BridgeError
from oko.text import parse_flow, parse_rules

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from twin.generate import Options, flow_of

FIREWALL = Path(__file__).resolve().parents[2] / "examples" / "bpf" / "stateless_firewall.o"
PEERS = [
    (version, nxm, aware)
    for version, nxm in ((OF10, False), (OF10, True), (OF13, False), (OF14, False), (OF15, False))
    for aware in (False, True)
]


@pytest.fixture(scope="module")
def bridge():
    """With whatever flows there are, several of a kind; some have filters, some counters."""
    made = Bridge("br0")
    for port in (1, 2, 3):
        made.add_port(port, f"p{port}")
    for number in range(1, 5):
        made.datapath.load_program(number, FIREWALL)
    rng = random.Random(7)
    added = 0
    while added < 1500:
        try:
            made.apply([FlowMod(flow_of(rng, Options()))])
            added += 1
        except BridgeError:  # a group that is not there, a filter of its own
            pass
    made.apply(parse_rules("".join(
        f"table=60,priority={i},filter_prog={i % 5 or 1},tcp,nw_src=10.0.{i}.0/24,tp_dst={i + 1},"
        f"idle_timeout={i},hard_timeout={2 * i},cookie={i},importance={i},send_flow_rem "
        f"actions=send_maps(1),output:{i % 3 + 1}\n" for i in range(200)
    ), "test"))  # fmt: skip
    frame = bytes.fromhex("020000000002020000000001080045") + bytes(45)
    for port in (1, 2, 3):
        made.packet_out(frame, port, (parse_flow("actions=table").instructions.apply))
    yield made
    made.close()


def naively(bridge: Bridge, encoder: StatsEncoder, *asked) -> bytes:
    return b"".join(map(encoder.entry, bridge.flow_stats(*asked)))


@pytest.mark.parametrize(("version", "nxm", "aware"), PEERS)
def test_as_each_by_itself(bridge, version, nxm, aware):
    one, all_ = (StatsEncoder(version, nxm=nxm, aware=aware) for _ in range(2))
    expected = naively(bridge, one)
    pieces = list(dump.entries(bridge, all_))
    assert b"".join(pieces) == expected and len(expected) > 100_000
    assert all_.hidden == one.hidden and (aware or one.hidden >= 200)
    by_stencil = version in (OF13, OF14) or nxm
    n_flows = sum(1 for _ in bridge.flow_stats())
    assert (len(pieces) < n_flows) == by_stencil  # there are more flows than kinds
    assert max(map(len, pieces)) <= dump.ROOM


@pytest.mark.parametrize("text", ["table=60", "tcp", "cookie=8/8", "out_port=2", "ip,table=60"])
def test_of_some_flows(bridge, text):
    (mod,) = parse_rules(f"delete {text}", "test")
    flow = mod.flow
    asked = (flow.table, flow.match, None, flow.cookie, mod.cookie_mask, mod.out_port)
    expected = naively(bridge, StatsEncoder(OF13), *asked)
    assert b"".join(dump.entries(bridge, StatsEncoder(OF13), *asked)) == expected
    assert 0 < len(expected) < len(naively(bridge, StatsEncoder(OF13), TABLE_ALL))


@pytest.mark.parametrize(("version", "nxm"), [(OF10, False), (OF10, True), (OF13, False)])
def test_the_prototypes_entries_have_each_flows_filter(bridge, version, nxm):
    made = b"".join(dump.entries(bridge, Encoder2018(version, nxm=nxm)))
    assert made == naively(bridge, Encoder2018(version, nxm=nxm))
    assert made != naively(bridge, StatsEncoder(version, nxm=nxm))


def test_more_kinds_than_are_kept():
    bridge = Bridge("br0")
    n = 4200
    rules = "".join(f"priority={i},ip actions=load:{i}->NXM_NX_REG0[]\n" for i in range(n))
    bridge.apply(parse_rules(rules + "tcp actions=drop\nudp actions=drop", "test"))
    made = b"".join(dump.entries(bridge, StatsEncoder(OF13)))
    assert made == naively(bridge, StatsEncoder(OF13))
    bridge.close()


def test_replies_are_messages_that_are_full(bridge):
    encoder = StatsEncoder(OF13)
    sizes = [len(reply) for reply in encoder.replies_of(5, dump.entries(bridge, encoder))]
    assert max(sizes) <= 0xFFFF and sum(sizes[:-1]) > 0.9 * 0xFFFF * (len(sizes) - 1)


def test_records_that_end_inside_of_a_flow(bridge):
    (records, *_) = bridge.flow_records()
    with Stencils((), ()) as stencils:
        for size in (1, 50, 111, 113):
            with pytest.raises(CoreError, match="flows"):
                stencils.write(records[:size], 0, 0, 1000)
