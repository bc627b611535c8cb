"""os-ken with oko's extension: the codec of oko/openflow says what the bytes mean."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from os_ken.ofproto import (
    ofproto_parser,
    ofproto_protocol,
    ofproto_v1_0_parser,
    ofproto_v1_3_parser,
    ofproto_v1_4_parser,
    ofproto_v1_5_parser,
)

import oko.controller
from oko.model import actions as act
from oko.openflow import extension, flow_stats
from oko.openflow.actions import decode_actions, encode_actions
from oko.openflow.common import OF10, OF13, OF14, OF15, OKO
from oko.openflow.flows import decode_flow_mod, encode_flow_mod

ROOT = Path(__file__).resolve().parents[2]
PARSERS = {
    OF10: ofproto_v1_0_parser,
    OF13: ofproto_v1_3_parser,
    OF14: ofproto_v1_4_parser,
    OF15: ofproto_v1_5_parser,
}
WITH_OXM = (OF13, OF14, OF15)

ACTIONS = st.builds(
    act.SendMaps,
    st.integers(1, 0xFFFF),
    st.lists(st.integers(0, 0xFFFF), max_size=20).map(tuple),
    st.integers(10, 0xFFFFFFFF),
)


def datapath(version: int) -> Any:
    return ofproto_protocol.ProtocolDesc(version=version)


def flow_mod(version: int, match: dict[str, Any], actions: list[Any]) -> Any:
    parser, own = PARSERS[version], datapath(version)
    apply = parser.OFPInstructionActions(own.ofproto.OFPIT_APPLY_ACTIONS, actions)
    made = parser.OFPFlowMod(own, match=parser.OFPMatch(**match), instructions=[apply])
    made.xid = 7
    made.serialize()
    return made


@pytest.mark.parametrize("version", WITH_OXM)
@given(program=st.integers(1, 0xFFFF), action=ACTIONS)
def test_flow_mod_says_what_it_means(version: int, program: int, action: act.SendMaps) -> None:
    theirs = PARSERS[version].OFPActionOkoSendMaps(action.program, action.maps, action.interval)
    made = flow_mod(version, {"in_port": 3, "filter_prog": program}, [theirs])
    found = decode_flow_mod(version, bytes(made.buf)).mod.flow
    assert found.filter_prog == program
    assert found.instructions.apply == (action,)
    assert [(f.name, value) for f, value, _ in found.match.fields] == [("in_port", 3)]


@pytest.mark.parametrize("version", WITH_OXM)
@given(program=st.integers(1, 0xFFFF), action=ACTIONS)
def test_flow_mod_comes_back(version: int, program: int, action: act.SendMaps) -> None:
    theirs = PARSERS[version].OFPActionOkoSendMaps(action.program, action.maps, action.interval)
    made = flow_mod(version, {"filter_prog": program, "eth_type": 0x800}, [theirs])
    own = datapath(version)
    read = ofproto_parser.msg(own, version, made.msg_type, len(made.buf), 7, bytes(made.buf))
    assert read.match["filter_prog"] == program and read.match["eth_type"] == 0x800
    (found,) = read.instructions[0].actions
    assert type(found) is PARSERS[version].OFPActionOkoSendMaps
    assert (found.program, tuple(found.maps), found.interval) == (
        action.program,
        action.maps,
        action.interval,
    )
    for message in (made, read):
        again = ofproto_parser.ofp_msg_from_jsondict(own, message.to_jsondict())
        again.xid = 7
        again.serialize()
        assert again.buf == made.buf
    assert f"program={action.program}" in str(made)
    assert f"'filter_prog': {program}" in str(made.match)


@pytest.mark.parametrize("version", WITH_OXM)
def test_match_is_the_documented_bytes(version: int) -> None:
    made = flow_mod(version, {"filter_prog": 1}, [])
    assert bytes.fromhex("ffff0206 4f4b4f00 0001") in bytes(made.buf)  # protocol.md, section 1


@pytest.mark.parametrize("version", WITH_OXM)
def test_oko_makes_what_os_ken_reads(version: int) -> None:
    made = flow_mod(version, {"filter_prog": 9, "ip_proto": 6, "eth_type": 0x800}, [])
    ours = decode_flow_mod(version, bytes(made.buf))
    data = encode_flow_mod(version, ours.mod, 5)
    read = ofproto_parser.msg(datapath(version), version, data[1], len(data), 5, data)
    assert dict(read.match.items()) == {"eth_type": 0x800, "ip_proto": 6, "filter_prog": 9}


@pytest.mark.parametrize("version", (OF13, OF14))
def test_flow_statistics_show_the_field(version: int) -> None:
    """An aware peer gets filter_prog and send_maps in replies; os-ken reads them now."""
    parser = PARSERS[version]
    made = flow_mod(version, {"filter_prog": 4}, [parser.OFPActionOkoSendMaps(4, (1,), 20)])
    decoded = decode_flow_mod(version, bytes(made.buf))
    flow, record = decoded.mod.flow, decoded.record
    assert record is not None
    entry: Any = SimpleNamespace(
        **{name: getattr(flow, name) for name in flow.__dataclass_fields__},
        n_packets=3, n_bytes=180, duration=10**9, idle_age=0, hard_age=0,
        match_bytes=record.match, ops=record.ops,
    )  # fmt: skip
    (reply,) = flow_stats.StatsEncoder(version, aware=True).replies(6, [entry])
    read = ofproto_parser.msg(datapath(version), version, reply[1], len(reply), 6, reply)
    (found,) = read.body
    assert found.match["filter_prog"] == 4
    assert found.instructions[0].actions[0].maps == [1]


@given(action=ACTIONS)
def test_action_of_1_0(action: act.SendMaps) -> None:
    parser = PARSERS[OF10]
    theirs = parser.OFPActionOkoSendMaps(action.program, action.maps, action.interval)
    buf = bytearray(b"before")
    theirs.serialize(buf, 6)
    assert buf[:6] == b"before"
    assert decode_actions(OF10, bytes(buf[6:])) == (action,)
    found = parser.OFPAction.parser(encode_actions(OF10, (action,)), 0)
    assert type(found) is parser.OFPActionOkoSendMaps and found.len == len(buf) - 6
    assert (found.program, tuple(found.maps)) == (action.program, action.maps)


@pytest.mark.parametrize("version", PARSERS)
def test_other_experimenters_are_left_alone(version: int) -> None:
    parser = PARSERS[version]
    for data in (
        bytes.fromhex("ffff0018 00abcdef 0001 0007 000003e8 0000 000000000000"),  # of nobody known
        bytes.fromhex("ffff0010 4f4b4f00 0063000000000000"),  # oko's, but no such action
        bytes.fromhex("ffff0010 4f4b4f00 0001000000000000"),  # send_maps without a program
    ):
        found = parser.OFPAction.parser(data, 0)
        assert "Unknown" in type(found).__name__ and found.len == len(data)
    nicira = bytes.fromhex("ffff0010 00002320 000e 00000000 0000")  # resubmit of a table
    assert "NXAction" in type(parser.OFPAction.parser(nicira, 0)).__name__


@pytest.mark.parametrize("version", PARSERS)
@pytest.mark.parametrize("size", (*range(1, 9), 1001))
def test_multipart_replies_are_read_whole(version: int, size: int) -> None:
    entries = [(bytes(size), bytes(3)), (bytes([1]) * size, bytes(3))]
    (data,) = extension.dump_replies(version, 9, extension.MapName(1, 0), size, 3, entries)
    read = ofproto_parser.msg(datapath(version), version, data[1], len(data), 9, data)
    assert extension.decode_dump(version, bytes(read.buf)).entries == tuple(entries)
    if version != OF10:
        assert (read.body.experimenter, read.body.exp_type) == (OKO, extension.MP_DUMP_MAP)


def test_registering_twice_changes_nothing() -> None:
    parser = PARSERS[OF13]
    before = (parser.OFPActionExperimenter.parser.__func__, len(parser.ofproto.oxm_types))
    oko.controller.register()
    assert before == (parser.OFPActionExperimenter.parser.__func__, len(parser.ofproto.oxm_types))
    assert sum(known.name == "filter_prog" for known in parser.ofproto.oxm_types) == 1


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        PARSERS[OF13].OFPActionOkoSendMaps(1, colour=3)
    assert PARSERS[OF13].OFPActionOkoSendMaps(1, experimenter=OKO).program == 1


def test_import_brings_no_hub_and_no_core() -> None:
    code = "import sys, oko.controller; print('eventlet' in sys.modules, 'oko._oko' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == ["False", "False"]
