"""Conversations with the agent in memory, byte for byte where it matters."""

from __future__ import annotations

import asyncio
import struct

import pytest
from conversation import Peer, made_agent

from oko.datapath import Frame
from oko.model.flow import GroupMod
from oko.openflow import (
    bundles,
    common,
    flow_stats,
    groups,
    messages,
    packets,
    port_messages,
    roles,
    tables,
)
from oko.openflow import extension as ext
from oko.openflow.common import NICIRA, OF10, OF13, OF14, OF15
from oko.openflow.flows import encode_flow_mod
from oko.openflow.nicira_messages import (
    encode_flow_mod_table_id,
    encode_set_controller_id,
    encode_set_flow_format,
    encode_set_packet_in_format,
)
from oko.text import parse_flow, parse_rules
from oko.text.groups import parse_group

VERSIONS = (OF10, OF13, OF14, OF15)
UNKNOWN_ACTION = bytes.fromhex("0063000800000000")
FRAME = bytes.fromhex("020000000002020000000001080045") + bytes(45)


@pytest.fixture
def agent():
    made = made_agent()
    yield made
    made.bridge.close()


def add(version: int, text: str, xid: int = 7, **rest) -> bytes:
    (mod,) = parse_rules(text, "test")
    return encode_flow_mod(version, mod, xid, **rest)


def flow_texts(peer: Peer) -> list[tuple[int, int]]:
    """(table, priority) of all flows."""
    return sorted((f.table, f.priority) for f in peer.agent.bridge.flow_stats())


# ---------------------------------------------------------------- golden bytes


def test_golden_conversation_of_1_3(agent):
    peer = Peer(agent)

    def said(text: str) -> str:
        return b"".join(peer(bytes.fromhex(text.replace(" ", "")))).hex(" ", 4)

    assert said("04020010 00000001 01020304 05060708") == "04030010 00000001 01020304 05060708"
    assert said("04050008 00000002") == (
        "04060020 00000002 11223344 55667788 00000000 fe000000 0000004f 00000000"
    )
    assert said("04070008 00000003") == "0408000c 00000003 00000000"
    assert said("0409000c 00000004 00000080") == ""
    assert said("04070008 00000005") == "0408000c 00000005 00000080"
    assert said("04140008 00000006") == "04150008 00000006"
    # A type that there is not: OFPBRC_BAD_TYPE with the message.
    assert said("04630008 00000007") == "04010014 00000007 00010001 04630008 00000007"
    # A message of another version: OFPBRC_BAD_VERSION.
    assert said("05020008 00000008") == "04010014 00000008 00010000 05020008 00000008"
    # A flow-mod that is too short: OFPBRC_BAD_LEN.
    assert said("040e0008 00000009") == "04010014 00000009 00010006 040e0008 00000009"


def test_golden_conversation_of_1_0(agent):
    peer = Peer(agent, OF10)

    def said(text: str) -> str:
        return b"".join(peer(bytes.fromhex(text.replace(" ", "")))).hex(" ", 4)

    assert said("01020008 00000001") == "01030008 00000001"
    assert said("01120008 00000002") == "01130008 00000002"
    # NXT_SET_FLOW_FORMAT with a format that there is not: OFPBRC_EPERM.
    wrong = "01040014 00000003 00002320 0000000c 00000009"
    assert said(wrong) == "01010020 00000003 00010005 " + wrong
    # An unknown vendor.
    other = "01040010 00000004 12345678 00000001"
    assert said(other) == "0101001c 00000004 00010003 " + other


def test_hellos():
    assert messages.encode_hello((1, 4, 5)).hex() == "050000100000000000010008" + "00000032"
    ours = (OF10, OF13, OF14)
    bitmap = messages.encode_hello
    assert messages.negotiate(bitmap((1, 4, 5, 6)), ours) == OF14
    assert messages.negotiate(bitmap((1, 6)), ours) == OF10
    assert messages.negotiate(bitmap((6,)), ours) is None
    for version, settled in ((1, OF10), (2, OF10), (3, OF10), (4, OF13), (6, OF14), (9, OF14)):
        assert messages.negotiate(common.message(version, 0, 0), ours) == settled
    assert messages.negotiate(common.message(1, 0, 0), (OF13,)) is None
    junk = common.message(4, 0, 0, b"\x00\x07\x00\x02rubbish")
    assert messages.negotiate(junk, ours) == OF13


# ---------------------------------------------------------------- flow-mods together


@pytest.mark.parametrize("version", VERSIONS)
def test_one_bad_flow_mod_among_many(agent, version):
    peer = Peer(agent, version)
    barrier = common.message(version, common.TYPES[version]["BARRIER_REQUEST"], 99)
    bad = add(version, "priority=3,in_port=2,actions=dec_ttl", 3)[:-8] + UNKNOWN_ACTION
    replies = peer(
        add(version, "priority=1,in_port=1,actions=output:2", 1),
        add(version, "priority=2,in_port=1,actions=output:2", 2),
        bad,
        add(version, "priority=4,in_port=1,actions=output:2", 4),
        barrier,
    )
    assert [reply[1] for reply in replies] == [
        common.ERROR, common.TYPES[version]["BARRIER_REPLY"],
    ]  # fmt: skip
    assert int.from_bytes(replies[0][4:8], "big") == 3
    assert flow_texts(peer) == [(0, 1), (0, 2), (0, 4)]


def test_a_refusal_leaves_the_rest(agent):
    """What fails at the bridge, not at decoding."""
    peer = Peer(agent)
    barrier = common.message(OF13, common.TYPES[OF13]["BARRIER_REQUEST"], 9)
    texts = ["priority=1,actions=drop", "priority=2,actions=group:9", "priority=3,actions=drop"]
    replies = peer(*(add(OF13, text, i) for i, text in enumerate(texts)), barrier)
    assert [(reply[1], reply[7]) for reply in replies] == [(common.ERROR, 1), (21, 9)]
    assert flow_texts(peer) == [(0, 1), (0, 3)]


def test_buffers_do_not_exist(agent):
    peer = Peer(agent)
    assert peer.error(add(OF13, "actions=drop", buffer_id=5)) == "OFPBRC_BUFFER_UNKNOWN"
    out = packets.PacketOut(1, (), b"", 5)
    assert peer.error(packets.encode_packet_out(OF13, out)) == "OFPBRC_BUFFER_UNKNOWN"


def test_tables_in_1_0_need_nicira_s_switch(agent):
    peer = Peer(agent, OF10)
    assert peer(encode_flow_mod_table_id(OF10)) == []
    assert peer(add(OF10, "table=9,priority=5,actions=drop", table_id_ext=True)) == []
    assert flow_texts(peer) == [(9, 5)]


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize("version", VERSIONS)
def test_flows_and_sums(agent, version):
    peer = Peer(agent, version)
    peer(add(version, "priority=1,in_port=1,actions=output:2"))
    peer(add(version, "priority=2,in_port=2,actions=output:1"))
    agent.bridge.datapath.process([Frame(FRAME, 1)])
    ask = flow_stats.encode_flow_request(version, flow_stats.FlowRequest(), 5)
    (reply,) = peer(ask)
    got = flow_stats.decode_flow_stats(version, reply)
    assert sorted((f.flow.priority, f.n_packets, f.n_bytes) for f in got) == [(1, 1, 60), (2, 0, 0)]
    total = flow_stats.FlowRequest(aggregate=True)
    (reply,) = peer(flow_stats.encode_flow_request(version, total, 5))
    assert flow_stats.decode_aggregate(version, reply) == (1, 60, 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_ports_both_ways(agent, version):
    peer = Peer(agent, version)
    ask = port_messages.encode_port_desc_request(version, 3)
    (reply,) = peer(ask)
    got = port_messages.decode_port_desc(version, reply)
    assert [(p.number, p.name) for p in got] == [
        (1, "p1"), (2, "p2"), (3, "p3"), (0xFFFFFFFE, "br0"),
    ]  # fmt: skip
    mod = port_messages.PortMod(2, got[1].hw_addr, 1, 1)
    assert peer(port_messages.encode_port_mod(version, mod)) == []
    (reply,) = peer(ask)
    assert port_messages.decode_port_desc(version, reply)[1].config == 1
    wrong = port_messages.PortMod(2, 5, 0, 1)
    assert peer.error(port_messages.encode_port_mod(version, wrong)) == "OFPPMFC_BAD_HW_ADDR"
    wrong = port_messages.PortMod(77, 0, 0, 1)
    assert peer.error(port_messages.encode_port_mod(version, wrong)) == "OFPPMFC_BAD_PORT"
    (reply,) = peer(port_messages.encode_port_stats_request(version))
    assert [p.number for p in port_messages.decode_port_stats(version, reply)] == [
        1, 2, 3, 0xFFFFFFFE,
    ]  # fmt: skip
    (reply,) = peer(port_messages.encode_port_stats_request(version, 3))
    assert [p.number for p in port_messages.decode_port_stats(version, reply)] == [3]
    assert peer.error(port_messages.encode_port_stats_request(version, 9)) == "OFPBRC_BAD_PORT"
    (reply,) = peer(port_messages.encode_queue_request(version))
    assert port_messages.decode_queue_stats(version, reply) == []
    asked = port_messages.encode_queue_request(version, queue=4)
    assert peer.error(asked) == "OFPQOFC_BAD_QUEUE"


def test_table_features_have_all_eight_properties(agent):
    peer = Peer(agent)
    replies = peer(common.encode_multipart(OF13, 1, common.MP_TABLE_FEATURES))
    got = []
    for reply in replies:
        body = common.decode_multipart(OF13, reply[8:]).body
        got += tables.decode_table_features(OF13, body)
    assert [t.table for t in got] == list(range(254))
    for table in got:
        kinds = [kind for kind, _ in table.properties]
        assert set(tables.REQUIRED) <= set(kinds)
        assert table.ids(tables.NEXT_TABLES) == list(range(table.table + 1, 254))
        assert (1 in table.ids(tables.INSTRUCTIONS)) == (table.table != 253)
        assert {"in_port", "eth_type", "tcp_dst", "metadata"} <= set(table.fields(tables.MATCH))
        assert "eth_type" not in table.fields(tables.APPLY_SETFIELD)
    body = common.decode_multipart(OF13, replies[0][8:]).body
    asked = common.encode_multipart(OF13, 1, common.MP_TABLE_FEATURES, body)
    assert peer.error(asked) == "OFPTFFC_EPERM"


@pytest.mark.parametrize("version", VERSIONS)
def test_statistics_that_there_are_not(agent, version):
    peer = Peer(agent, version)
    assert peer.error(common.encode_multipart(version, 1, 99)) == "OFPBRC_BAD_STAT"
    if version < OF14:
        monitor = common.encode_multipart(version, 1, common.MP_FLOW_MONITOR)
        assert peer.error(monitor) == "OFPBRC_BAD_STAT"
    body = struct.pack("!II", NICIRA, 77)
    asked = common.encode_multipart(version, 1, common.MP_EXPERIMENTER, body)
    assert peer.error(asked) == "OFPBRC_BAD_SUBTYPE"


# ---------------------------------------------------------------- packets


@pytest.mark.parametrize("version", VERSIONS)
def test_packet_out_and_in(agent, version):
    peer = Peer(agent, version, passive=False)
    actions = parse_flow("actions=output:2,controller").instructions.apply
    out = packets.PacketOut(0xFFFFFFFD, actions, FRAME)
    assert peer(packets.encode_packet_out(version, out)) == []
    assert [frame.data for frame in agent.bridge.datapath.read_port(2)] == [FRAME]
    (event,) = peer.told.take()
    got = packets.decode_packet_in(version, event)
    assert (got.in_port, got.data, got.total_len) == (0xFFFFFFFD, FRAME, 60)


@pytest.mark.parametrize("form", [packets.STANDARD, packets.NXM, packets.NXM2])
def test_packet_in_formats_of_nicira(agent, form):
    peer = Peer(agent, OF10, passive=False)
    peer(encode_set_packet_in_format(OF10, form))
    peer(add(OF10, "in_port=1,actions=load:5->NXM_NX_REG2[],controller:20", nxm=True))
    agent.bridge.datapath.process([Frame(FRAME, 1)])
    agent.bridge.poll()
    (event,) = peer.told.take()
    got = packets.decode_packet_in(OF10, event)
    assert (got.in_port, got.data, got.total_len, got.reason) == (1, FRAME[:20], 60, 1)
    if form:
        assert got.match.exact("reg2") == 5


def test_misses_go_to_controllers_of_1_0_only(agent):
    old, new = Peer(agent, OF10, passive=False), Peer(agent, OF13, passive=False)
    tool = Peer(agent, OF10)
    old(messages.encode_config(OF10, 1, messages.Config(0, 32), ask=True))
    agent.bridge.datapath.process([Frame(FRAME, 1)])
    agent.bridge.poll()
    (event,) = old.told.take()
    got = packets.decode_packet_in(OF10, event)
    assert (got.reason, got.in_port, got.data, got.total_len) == (0, 1, FRAME[:32], 60)
    assert new.told.take() == [] and tool.told.take() == []
    old.leave()
    agent.bridge.datapath.process([Frame(FRAME, 1)])
    assert agent.bridge.poll() == 0


def test_a_tool_hears_events_after_it_asked(agent):
    peer = Peer(agent)
    peer(add(OF13, "actions=controller"))
    agent.bridge.datapath.process([Frame(FRAME, 1)])
    agent.bridge.poll()
    assert peer.told.take() == []
    peer(messages.encode_config(OF13, 1, messages.Config(0, 64), ask=True))
    agent.bridge.datapath.process([Frame(FRAME, 1)])
    agent.bridge.poll()
    assert len(peer.told.take()) == 1


def test_controller_ids(agent):
    one, two = Peer(agent, passive=False), Peer(agent, passive=False)
    two(encode_set_controller_id(OF13, 7))
    one(add(OF13, "actions=controller(id=7)"))
    agent.bridge.datapath.process([Frame(FRAME, 1)])
    agent.bridge.poll()
    assert one.told.take() == [] and len(two.told.take()) == 1


def test_a_peer_that_does_not_read_loses_events_only(agent):
    slow, quick = Peer(agent, passive=False), Peer(agent, passive=False)
    slow(add(OF13, "actions=controller"))
    slow.told.full = 4 << 20
    agent.bridge.datapath.process([Frame(FRAME, 1)] * 3)
    agent.bridge.poll()
    assert slow.told.take() == [] and len(quick.told.take()) == 3
    assert agent.bridge.counters["openflow_event_dropped"] == 3


# ---------------------------------------------------------------- roles and events


@pytest.mark.parametrize("version", [OF13, OF14])
def test_one_master(agent, version):
    first, second = Peer(agent, version, passive=False), Peer(agent, version, passive=False)

    def role(peer: Peer, number: int, generation: int = 0) -> roles.Role:
        asked = roles.encode_role(version, 1, roles.Role(number, generation), reply=False)
        (reply,) = peer(asked)
        return roles.decode_role(version, reply)

    assert role(first, roles.MASTER, 5) == roles.Role(roles.MASTER, 5)
    assert role(second, roles.MASTER, 6) == roles.Role(roles.MASTER, 6)
    assert role(first, roles.NOCHANGE, 6) == roles.Role(roles.SLAVE, 6)
    told = first.told.take()
    if version == OF14:
        assert roles.decode_role_status(told[0]) == (roles.SLAVE, 0, 6)
    else:
        assert told == []
    assert first.error(add(version, "actions=drop")) == "OFPBRC_IS_SLAVE"
    old = roles.encode_role(version, 1, roles.Role(roles.SLAVE, 2), reply=False)
    assert second.error(old) == "OFPRRFC_STALE"
    wrong = roles.encode_role(version, 1, roles.Role(9, 7), reply=False)
    assert second.error(wrong) == "OFPRRFC_BAD_ROLE"
    ask = flow_stats.encode_flow_request(version, flow_stats.FlowRequest(), 5)
    assert len(first(ask)) == 1  # slaves may read


def test_roles_of_nicira_s(agent):
    peer = Peer(agent, OF10)
    (reply,) = peer(roles.encode_role(OF10, 3, roles.Role(roles.SLAVE), reply=False))
    assert roles.decode_role(OF10, reply) == roles.Role(roles.SLAVE)
    assert peer.error(add(OF10, "actions=drop")) == "OFPBRC_EPERM"


@pytest.mark.parametrize("version", [OF10, OF13, OF14])
def test_asynchronous_configuration(agent, version):
    peer = Peer(agent, version, passive=False)
    none = roles.AsyncConfig(((0, 0),) * 6)
    assert peer(roles.encode_async(version, 1, none)) == []
    agent.bridge.add_port(9, "p9")
    assert peer.told.take() == []
    wanted = none.with_masks(roles.PORT_STATUS, (2, 0))
    assert peer(roles.encode_async(version, 1, wanted)) == []
    agent.bridge.remove_port(9)
    (event,) = peer.told.take()
    reason, gone = port_messages.decode_port_status(version, event)
    assert (reason, gone.name) == (1, "p9")
    if version != OF10:
        ask = common.message(version, common.TYPES[version]["GET_ASYNC_REQUEST"], 8)
        (reply,) = peer(ask)
        start = roles.AsyncConfig(((1, 1),) * 6)
        assert roles.decode_async(version, reply, start).masks[:3] == wanted.masks[:3]


@pytest.mark.parametrize("version", VERSIONS)
def test_flow_removed(agent, version):
    peer = Peer(agent, version, passive=False)
    peer(encode_set_flow_format(version)) if version == OF10 else None
    peer(add(version, "priority=5,in_port=1,send_flow_rem,actions=drop"))
    peer(add(version, "delete in_port=1"))
    agent.bridge.poll()
    (event,) = peer.told.take()
    gone = flow_stats.decode_flow_removed(version, event)
    assert (gone.priority, gone.reason) == (5, 2)


def test_vacancy_events_go_to_who_wants_them(agent):
    peer, other = Peer(agent, OF14, passive=False), Peer(agent, OF14, passive=False)
    wanted = roles.AsyncConfig().with_masks(roles.TABLE_STATUS, (0b11000, 0))
    peer(roles.encode_async(OF14, 7, wanted))
    marks = ((tables.VACANCY_PROPERTY, bytes((20, 80, 0, 0))),)
    assert other(tables.encode_table_mod(OF14, tables.TableMod(9, 8, marks))) == []
    agent.bridge.tables.limit(9, 4)
    for n in range(4):
        peer(add(OF14, f"table=9,priority={n},actions=drop"))
    (told,) = peer.told.take()
    reason, desc = tables.decode_table_status(told)
    assert (reason, desc.table, desc.config) == (3, 9, tables.VACANCY_EVENTS)
    assert dict(desc.properties)[tables.VACANCY_PROPERTY][:3] == bytes((20, 80, 0))
    peer(add(OF14, "delete table=9"))
    (told,) = peer.told.take()
    assert tables.decode_table_status(told)[0] == 4
    assert other.told.take() == []


@pytest.mark.parametrize(
    ("mod", "name"),
    [
        (tables.TableMod(9, 8), "OFPTMFC_BAD_CONFIG"),
        (tables.TableMod(9, 1), "OFPTMFC_BAD_CONFIG"),
        (tables.TableMod(254, 4), "OFPTMFC_BAD_TABLE"),
        (tables.TableMod(9, 8, ((3, bytes((80, 20, 0, 0))),)), "OFPBPC_BAD_VALUE"),
        (tables.TableMod(9, 8, ((3, bytes((20, 101, 0, 0))),)), "OFPBPC_BAD_VALUE"),
        (tables.TableMod(9, 4, ((2, bytes(8)),)), "OFPBPC_BAD_LEN"),
        (tables.TableMod(9, 4, ((2, bytes(4)),) * 2), "OFPBPC_DUP_TYPE"),
        (tables.TableMod(9, 4, ((7, bytes(4)),)), "OFPBPC_BAD_TYPE"),
        (tables.TableMod(9, 4, ((2, bytes((0, 0, 0, 2))),)), "OFPTMFC_BAD_CONFIG"),
    ],
)
def test_table_mods_that_cannot_be(agent, mod, name):
    peer = Peer(agent, OF14)
    assert peer.error(tables.encode_table_mod(OF14, mod)) == name


# ---------------------------------------------------------------- bundles


def control(peer: Peer, kind: int, number: int = 1, flags: int = 3) -> bytes:
    asked = bundles.BundleControl(number, kind, flags)
    return bundles.encode_bundle_control(peer.version, asked, 8)


def put(peer: Peer, msg: bytes, number: int = 1, flags: int = 3) -> bytes:
    return bundles.encode_bundle_add(peer.version, bundles.BundleAdd(number, msg, flags), 7)


@pytest.mark.parametrize("version", [OF13, OF14])
def test_life_of_a_bundle(agent, version):
    peer = Peer(agent, version)
    (reply,) = peer(control(peer, bundles.OPEN_REQUEST))
    assert bundles.decode_bundle_control(reply) == bundles.BundleControl(1, bundles.OPEN_REPLY)
    assert peer(put(peer, add(version, "priority=5,actions=drop"))) == []
    out = packets.encode_packet_out(
        version, packets.PacketOut(1, parse_flow("actions=output:2").instructions.apply, FRAME)
    )
    assert peer(put(peer, out)) == []
    assert flow_texts(peer) == [] and agent.quota.staged > 0
    (reply,) = peer(control(peer, bundles.CLOSE_REQUEST))
    assert peer.error(put(peer, add(version, "actions=drop"))) == "OFPBFC_BUNDLE_CLOSED"
    assert agent.bridge.datapath.read_port(2) == []
    (reply,) = peer(control(peer, bundles.COMMIT_REQUEST))
    assert bundles.decode_bundle_control(reply).type == bundles.COMMIT_REPLY
    assert flow_texts(peer) == [(0, 5)] and agent.quota.staged == 0
    assert [frame.data for frame in agent.bridge.datapath.read_port(2)] == [FRAME]
    assert peer.error(control(peer, bundles.COMMIT_REQUEST)) == "OFPBFC_BAD_ID"


@pytest.mark.parametrize("version", [OF13, OF14])
def test_what_bundles_refuse(agent, version):
    peer = Peer(agent, version)
    assert peer.error(control(peer, bundles.CLOSE_REQUEST)) == "OFPBFC_BAD_ID"
    assert peer.error(control(peer, bundles.DISCARD_REQUEST)) == "OFPBFC_BAD_ID"
    assert peer.error(control(peer, bundles.OPEN_REPLY)) == "OFPBFC_BAD_TYPE"
    assert peer.error(control(peer, bundles.OPEN_REQUEST, flags=8)) == "OFPBFC_BAD_FLAGS"
    peer(control(peer, bundles.OPEN_REQUEST))
    assert peer.error(put(peer, common.message(version, 2, 7))) == "OFPBFC_MSG_UNSUP"
    hello = ext.encode(version, ext.Hello(), 7)
    assert peer.error(put(peer, hello)) == "OFPBFC_MSG_UNSUP"
    assert peer.error(put(peer, add(version, "actions=drop"), flags=1)) == "OFPBFC_BAD_FLAGS"
    assert peer.error(control(peer, bundles.OPEN_REQUEST)) == "OFPBFC_BAD_ID"
    for number in range(16):
        assert len(peer(control(peer, bundles.OPEN_REQUEST, number))) == 1
    assert peer.error(control(peer, bundles.OPEN_REQUEST, 99)) == "OFPBFC_OUT_OF_BUNDLES"
    peer(put(peer, add(version, "actions=drop"), 3))
    peer.leave()
    assert agent.quota.staged == 0


def test_a_bundle_that_fails_changes_nothing(agent):
    peer = Peer(agent)
    peer(add(OF13, "priority=1,actions=drop"))
    peer(control(peer, bundles.OPEN_REQUEST))
    peer(put(peer, add(OF13, "delete")), put(peer, add(OF13, "priority=2,actions=group:9")))
    first, second = peer(control(peer, bundles.COMMIT_REQUEST))
    assert common.decode_error(OF13, first).name == "OFPBAC_BAD_OUT_GROUP"
    assert (first[4:8], second[4:8]) == (bytes([0, 0, 0, 7]), bytes([0, 0, 0, 8]))
    assert common.decode_error(OF13, second).name == "OFPBFC_MSG_FAILED"
    assert flow_texts(peer) == [(0, 1)]


def packet_out(actions: str) -> bytes:
    carried_out = parse_flow(f"actions={actions}").instructions.apply
    return packets.encode_packet_out(OF13, packets.PacketOut(1, carried_out, FRAME))


def no_packet_in(number: int) -> bytes:
    return port_messages.encode_port_mod(OF13, port_messages.PortMod(number, 0, 64, 64))


@pytest.mark.parametrize("order", [1, -1])
def test_packets_and_ports_of_a_bundle_that_fails(agent, order):
    peer = Peer(agent)
    peer(control(peer, bundles.OPEN_REQUEST))
    parts = [
        put(peer, add(OF13, "priority=2,actions=output:2")),
        put(peer, no_packet_in(2)),
        put(peer, packet_out("output:2")),
        put(peer, packet_out("group:9")),
    ]
    assert peer(*parts[::order]) == []
    first, second = peer(control(peer, bundles.COMMIT_REQUEST))
    assert common.decode_error(OF13, first).name == "OFPBAC_BAD_OUT_GROUP"
    assert common.decode_error(OF13, second).name == "OFPBFC_MSG_FAILED"
    assert flow_texts(peer) == [] and agent.bridge.datapath.read_port(2) == []
    assert [port.config for port in agent.bridge.ports() if port.number == 2] == [0]


def test_a_port_that_leaves_while_a_bundle_waits(agent):
    peer = Peer(agent)
    peer(control(peer, bundles.OPEN_REQUEST))
    peer(put(peer, add(OF13, "priority=2,actions=output:2")), put(peer, no_packet_in(3)))
    agent.bridge.remove_port(3)
    first, second = peer(control(peer, bundles.COMMIT_REQUEST))
    assert common.decode_error(OF13, first).name == "OFPPMFC_BAD_PORT"
    assert common.decode_error(OF13, second).name == "OFPBFC_MSG_FAILED"
    assert flow_texts(peer) == []


def test_a_bundle_makes_the_group_that_its_packet_needs(agent):
    peer = Peer(agent)
    peer(control(peer, bundles.OPEN_REQUEST))
    change = GroupMod(parse_group("group_id=9,type=all,bucket=output:2,bucket=output:3"))
    group = groups.encode_group_mod(OF13, change, 7)
    peer(put(peer, packet_out("group:9")), put(peer, group), put(peer, no_packet_in(2)))
    (reply,) = peer(control(peer, bundles.COMMIT_REQUEST))
    assert bundles.decode_bundle_control(reply).type == bundles.COMMIT_REPLY
    assert [frame.data for frame in agent.bridge.datapath.read_port(3)] == [FRAME]
    assert [port.config for port in agent.bridge.ports() if port.number == 2] == [64]


def test_a_tool_that_adds_the_standalone_flow_makes_it_last(agent):
    bridge = agent.bridge
    bridge.fail_mode = "standalone"
    tool = Peer(agent)
    for adds in (False, True):
        bridge.controllers_changed(0)
        assert flow_texts(tool) == [(0, 0)]
        if adds:
            assert tool(add(OF13, "priority=0,actions=NORMAL")) == []
        bridge.controllers_changed(1)
        assert flow_texts(tool) == [(0, 0)] * adds


def test_a_dump_while_others_change_flows(agent):
    peer, other = Peer(agent), Peer(agent)
    n = 6000
    lasting = [add(OF13, f"table=1,priority={i + 1},ip,actions=output:2") for i in range(n)]
    peer(*lasting)
    passing = [add(OF13, f"table=2,priority={i + 1},arp,actions=output:2") for i in range(500)]
    ask = flow_stats.encode_flow_request(OF13, flow_stats.FlowRequest(), 5)

    async def dump() -> list[tuple[int, int]]:
        seen = []
        changes = 0
        async for reply in peer.replies(ask):
            seen += [(f.flow.table, f.flow.priority)
                     for f in flow_stats.decode_flow_stats(OF13, reply)]  # fmt: skip
            assert await other.ask(*passing) == []
            assert await other.ask(add(OF13, "delete table=2")) == []
            changes += 1
        assert changes > 5
        return seen

    seen = asyncio.run(dump())
    assert sorted(p for table, p in seen if table == 1) == list(range(1, n + 1))
