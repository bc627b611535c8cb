"""OpenFlow 1.5 with os-ken on the other side: each understands what the other writes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from conversation import Peer, made_agent

from oko.datapath import Frame
from oko.openflow import common
from oko.openflow.common import OF15

ofproto = pytest.importorskip("os_ken.ofproto.ofproto_v1_5", reason="os-ken is not installed")
from os_ken.ofproto import ofproto_parser  # noqa: E402
from os_ken.ofproto import ofproto_v1_5_parser as parser  # noqa: E402

FRAME = bytes.fromhex("020000000002020000000001") + bytes.fromhex("0800") + bytes(46)
DP = SimpleNamespace(
    ofproto=ofproto, ofproto_parser=parser, id=1, address=("", 0), set_xid=lambda m: m.set_xid(7)
)


class Switch:
    """A bridge whose peer is os-ken."""

    def __init__(self) -> None:
        self.agent = made_agent()
        self.peer = Peer(self.agent, OF15, passive=False)

    def __call__(self, msg) -> list:
        """os-ken's view of the replies to its message."""
        msg.set_xid(7)
        msg.serialize()
        return [self.read(reply) for reply in self.peer(bytes(msg.buf))]

    def told(self) -> list:
        """What came unasked."""
        self.agent.bridge.poll()
        return [self.read(msg) for msg in self.peer.told.take()]

    @staticmethod
    def read(msg: bytes):
        read = ofproto_parser.msg(
            DP, msg[0], msg[1], len(msg), int.from_bytes(msg[4:8], "big"), msg
        )
        assert read is not None, msg.hex(" ", 4)
        return read


@pytest.fixture
def switch() -> Iterator[Switch]:
    made = Switch()
    yield made
    made.agent.bridge.close()


def add(match, actions, **fields) -> parser.OFPFlowMod:
    apply = parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)
    return parser.OFPFlowMod(DP, match=match, instructions=[apply], **fields)


def test_flows(switch):
    match = parser.OFPMatch(in_port=1, eth_type=0x800, ipv4_dst=("0.0.0.0", "255.0.0.0"))
    actions = [parser.OFPActionOutput(2)]
    flow = add(match, actions, priority=9, cookie=5, importance=3, hard_timeout=60,
               flags=ofproto.OFPFF_SEND_FLOW_REM)  # fmt: skip
    assert switch(flow) == []
    assert switch(add(parser.OFPMatch(), [], priority=1, table_id=2)) == []
    switch.agent.bridge.datapath.process([Frame(FRAME, 1)] * 3)
    asked = (0, ofproto.OFPTT_ALL, ofproto.OFPP_ANY, ofproto.OFPG_ANY, 0, 0, parser.OFPMatch())

    (reply,) = switch(parser.OFPFlowDescStatsRequest(DP, *asked))
    assert reply.type == ofproto.OFPMP_FLOW_DESC and len(reply.body) == 2
    told = next(desc for desc in reply.body if desc.table_id == 0)
    assert (told.priority, told.cookie, told.importance, told.hard_timeout) == (9, 5, 3, 60)
    assert told.match.items() == match.items()
    assert told.instructions[0].actions[0].port == 2
    assert (told.stats["packet_count"], told.stats["byte_count"]) == (3, 180)

    (reply,) = switch(parser.OFPFlowStatsRequest(DP, *asked))
    assert reply.type == ofproto.OFPMP_FLOW_STATS
    told = sorted((s.table_id, s.priority, s.stats["packet_count"]) for s in reply.body)
    assert told == [(0, 9, 3), (2, 1, 0)]
    assert {s.reason for s in reply.body} == {ofproto.OFPFSR_STATS_REQUEST}

    (reply,) = switch(parser.OFPAggregateStatsRequest(DP, *asked))
    assert reply.body.stats["flow_count"] == 2
    assert (reply.body.stats["packet_count"], reply.body.stats["byte_count"]) == (3, 180)

    assert switch(parser.OFPFlowMod(
        DP, command=ofproto.OFPFC_DELETE, table_id=ofproto.OFPTT_ALL, out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY, match=parser.OFPMatch())) == []  # fmt: skip
    (gone,) = switch.told()
    assert isinstance(gone, parser.OFPFlowRemoved)
    assert (gone.reason, gone.priority, gone.cookie) == (ofproto.OFPRR_DELETE, 9, 5)
    assert gone.match.items() == match.items()
    assert (gone.stats["packet_count"], gone.stats["byte_count"]) == (3, 180)


def test_packet_out_names_its_port_in_a_match(switch):
    actions = [parser.OFPActionOutput(2)]
    out = parser.OFPPacketOut(
        DP, ofproto.OFP_NO_BUFFER, parser.OFPMatch(in_port=ofproto.OFPP_CONTROLLER), actions, FRAME
    )
    assert switch(out) == []
    (frame,) = switch.agent.bridge.datapath.read_port(2)
    assert frame.data == FRAME
    nowhere = common.message(
        OF15, common.PACKET_OUT, 7, bytes.fromhex("ffffffff00000000 0001000400000000")
    )
    (error,) = map(switch.read, switch.peer(nowhere))
    assert (error.type, error.code) == (ofproto.OFPET_BAD_REQUEST, ofproto.OFPBRC_BAD_PORT)


def test_actions_that_came_with_1_5(switch):
    actions = [
        parser.OFPActionMeter(meter_id=4),
        parser.OFPActionCopyField(
            n_bits=32, src_offset=0, dst_offset=0,
            oxm_ids=[parser.OFPOxmId("ipv4_src"), parser.OFPOxmId("ipv4_dst")],
        ),
        parser.OFPActionSetField(ipv4_src=("10.0.0.0", "255.0.0.0")),
        parser.OFPActionOutput(2, 0),
    ]  # fmt: skip
    band = parser.OFPMeterBandDrop(1000, 0)
    assert switch(parser.OFPMeterMod(DP, flags=ofproto.OFPMF_KBPS, meter_id=4, bands=[band])) == []
    assert switch(add(parser.OFPMatch(eth_type=0x800), actions)) == []
    asked = parser.OFPFlowDescStatsRequest(DP)
    asked.serialize()
    (reply,) = switch.peer(bytes(asked.buf))
    written = bytearray()
    for action in actions:
        room = bytearray()
        action.serialize(room, 0)
        written += room
    assert reply.endswith(written)  # os-ken writes copy_field, but cannot read it
    frame = bytearray(FRAME + bytes(10))
    frame[14] = 0x45
    frame[16:18] = (56).to_bytes(2, "big")
    frame[26:34] = bytes([1, 2, 3, 4, 5, 6, 7, 8])
    switch.agent.bridge.datapath.process([Frame(bytes(frame), 1)])
    (left,) = switch.agent.bridge.datapath.read_port(2)
    assert left.data[26:34] == bytes([10, 2, 3, 4, 1, 2, 3, 4])


def test_packet_in(switch):
    actions = [parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, 30)]
    assert switch(add(parser.OFPMatch(), actions, cookie=11)) == []
    switch.agent.bridge.datapath.process([Frame(FRAME, 2)])
    (told,) = switch.told()
    assert isinstance(told, parser.OFPPacketIn)
    assert (told.match["in_port"], told.cookie, told.total_len) == (2, 11, 60)
    assert told.data == FRAME[:30]


def test_stat_trigger_is_refused(switch):
    trigger = parser.OFPInstructionStatTrigger(0, parser.OFPStats(packet_count=9))
    (error,) = switch(parser.OFPFlowMod(DP, instructions=[trigger]))
    assert (error.type, error.code) == (ofproto.OFPET_BAD_INSTRUCTION, ofproto.OFPBIC_UNSUP_INST)
