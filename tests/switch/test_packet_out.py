"""Packet-out: a list of actions on a frame; a pass of its own through TABLE."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from twin.programs import byte_is

from oko.datapath import Datapath, Frame
from oko.model.fields import PORT_CONTROLLER
from oko.model.flow import Bucket, Group
from oko.switch.bridge import Bridge, BridgeError
from oko.text import parse_flow

TTL_64 = byte_is(22, 0xFF, 64)
ROOT = Path(__file__).resolve().parents[2]
FRAME = (
    bytes.fromhex("02000000000202000000000108004500003200000000401100000a0000010a000002")
    + struct.pack(">HHHH", 1000, 2000, 30, 0)
    + bytes(22)
)


def actions(text):
    return parse_flow(f"actions={text}").instructions.apply


@pytest.fixture(params=[1, 2])
def dp(request):
    with Datapath(workers=request.param) as made:
        for number in (1, 2, 3):
            made.add_port(number, kind="mem")
        yield made


def sent(dp):
    return {n: [f.data for f in dp.read_port(n)] for n in (1, 2, 3)}


def out(dp, text, in_port=PORT_CONTROLLER):
    dp.packet_out(Frame(FRAME, in_port), actions(text), worker=dp.workers - 1)


def test_to_ports(dp):
    out(dp, "output:1")
    assert sent(dp) == {1: [FRAME], 2: [], 3: []}
    out(dp, "all", in_port=2)
    assert sent(dp) == {1: [FRAME], 2: [], 3: [FRAME]}
    out(dp, "in_port", in_port=2)
    assert sent(dp) == {1: [], 2: [FRAME], 3: []}
    out(dp, "output:2", in_port=2)  # not where it came from
    assert sent(dp) == {1: [], 2: [], 3: []}
    assert dp.drops() == {"output-to-in-port": 1}


def test_edits_show_only_afterwards(dp):
    out(dp, "output:1,mod_dl_dst:02:00:00:00:00:99,output:2,strip_vlan,output:3")
    edited = bytes.fromhex("020000000099") + FRAME[6:]
    assert sent(dp) == {1: [FRAME], 2: [edited], 3: [edited]}


def test_no_table_and_no_program_unless_asked(dp):
    dp.load_program(1, ROOT / "examples" / "bpf" / "syn_flood.o")
    dp.add_flow(parse_flow("filter_prog=1,actions=output:3"))
    dp.add_flow(parse_flow("priority=1,actions=output:2"))
    out(dp, "output:1")
    assert dp.programs()[0].runs == 0 and dp.table(0).lookups == 0
    assert dp.ports()[0].rx_packets == 0


def test_table_is_a_pass_of_its_own(dp):
    dp.load_program(1, TTL_64)
    dp.add_flow(parse_flow("priority=9,filter_prog=1,actions=mod_nw_ttl:7,output:2"))
    dp.add_flow(parse_flow("priority=1,actions=output:3"))
    # The program sees the frame as it entered the pass, in each pass anew.
    out(dp, "table,mod_nw_ttl:9,table,output:1")
    got = sent(dp)
    assert [f[22] for f in got[2]] == [7]
    assert [f[22] for f in got[3]] == [9]
    assert [f[22] for f in got[1]] == [9]
    assert [(f.priority, f.n_packets) for f in sorted(dp.flows(), key=lambda f: f.priority)] == [
        (1, 1),
        (9, 1),
    ]
    (program,) = dp.programs()
    assert (program.runs, program.matches) == (2, 1)


def test_resubmit_without_a_pass_runs_programs(dp):
    dp.load_program(1, TTL_64)
    dp.add_flow(parse_flow("table=5,filter_prog=1,actions=output:2"))
    out(dp, "resubmit(,5)")
    assert sent(dp)[2] == [FRAME]


def test_groups_learning_and_packet_ins(dp):
    dp.add_group(Group(4, 0, (Bucket(actions("output:1")), Bucket(actions("table")))))
    dp.add_flow(parse_flow("actions=controller"))
    out(dp, "group:4,controller,learn(table=2,NXM_OF_ETH_DST[],output:NXM_OF_IN_PORT[])", 3)
    assert sent(dp)[1] == [FRAME]
    from_table, from_list = [e for e in dp.events() if e.kind == "packet-in"]
    assert (from_table.reason, from_table.cookie, from_table.in_port) == ("action", 0, 3)
    assert (from_list.reason, from_list.cookie) == ("action", (1 << 64) - 1)
    assert [f.table for f in dp.flows()].count(2) == 1


def test_the_clock_goes_on_and_flows_expire_first(dp):
    dp.clock_start(10**9)
    dp.add_flow(parse_flow("priority=9,hard_timeout=1,actions=output:1"))
    dp.add_flow(parse_flow("priority=1,actions=output:2"))
    dp.packet_out(Frame(FRAME, 3, 3 * 10**9), actions("table"), worker=dp.workers - 1)
    assert (sent(dp)[2], dp.now) == ([FRAME], 3 * 10**9)


def test_errors():
    bridge = Bridge("br0", Datapath(workers=2))
    for text, name in (
        ("group:9", "OFPBAC_BAD_OUT_GROUP"),
        ("send_maps(1)", "OFPBAC_BAD_ARGUMENT"),
    ):
        with pytest.raises(BridgeError) as error:
            bridge.packet_out(FRAME, 1, actions(text))
        assert error.value.name == name
    bridge.packet_out(b"", 1, actions("output:1"))
    bridge.packet_out(FRAME[:13], 1, actions("mod_nw_ttl:1,table"))
    bridge.close()
