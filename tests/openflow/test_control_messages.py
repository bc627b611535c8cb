"""Ports, tables, packets, roles, bundles on the wire: there and back, and os-ken's packet files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oko.openflow import bundles, common, messages, packets, port_messages, roles, tables
from oko.openflow.common import OF10, OF13, OF14, VERSIONS, OpenFlowError

Again = Callable[[int, int, bytes], bytes]


def _multipart(entries: Callable[[int, int, bytes], object]) -> Again:
    """Replies of one message."""

    def again(version: int, xid: int, msg: bytes) -> bytes:
        (reply,) = entries(version, xid, msg)
        return reply

    return again


def _port_status(version: int, xid: int, msg: bytes) -> bytes:
    made = port_messages.encode_port_status(
        version, *port_messages.decode_port_status(version, msg)
    )
    return made[:4] + xid.to_bytes(4, "big") + made[8:]


def _features(version: int, xid: int, msg: bytes) -> bytes:
    told = messages.decode_features(version, msg)
    made = messages.encode_features(version, xid, told.dpid, told.ports)
    # What oko cannot do like others is not encoded: buffers, tables, capabilities.
    return made[:16] + msg[16:32] + made[32:]


def _table_features(version: int, xid: int, msg: bytes) -> bytes:
    body = common.decode_multipart(version, msg[8:]).body
    rest = b""
    for t in tables.decode_table_features(version, body):
        rest += b"".join(tables._property(*p) for p in t.properties)
    assert (rest and rest in body) or len(tables.decode_table_features(version, body)) > 1
    return msg


MESSAGES: dict[str, Again] = {
    "FEATURES_REPLY": _features,
    "GET_CONFIG_REPLY": lambda v, xid, m: messages.encode_config(v, xid, messages.decode_config(m)),
    "SET_CONFIG": lambda v, xid, m: messages.encode_config(
        v, xid, messages.decode_config(m), ask=True
    ),
    "PORT_STATUS": _port_status,
    "PORT_MOD": lambda v, xid, m: port_messages.encode_port_mod(
        v, port_messages.decode_port_mod(v, m), xid
    ),
    "PACKET_OUT": lambda v, xid, m: packets.encode_packet_out(
        v, packets.decode_packet_out(v, m), xid
    ),
    "TABLE_MOD": lambda v, xid, m: tables.encode_table_mod(v, tables.decode_table_mod(v, m), xid),
    "ROLE_REQUEST": lambda v, xid, m: roles.encode_role(
        v, xid, roles.decode_role(v, m), reply=False
    ),
    "ROLE_REPLY": lambda v, xid, m: roles.encode_role(v, xid, roles.decode_role(v, m)),
    "SET_ASYNC": lambda v, xid, m: roles.encode_async(
        v, xid, roles.decode_async(v, m, roles.AsyncConfig())
    ),
    "GET_ASYNC_REPLY": lambda v, xid, m: roles.encode_async(
        v, xid, roles.decode_async(v, m, roles.AsyncConfig()), kind="GET_ASYNC_REPLY"
    ),
    "BUNDLE_CONTROL": lambda v, xid, m: bundles.encode_bundle_control(
        v, bundles.decode_bundle_control(m), xid
    ),
    "BUNDLE_ADD_MESSAGE": lambda v, xid, m: bundles.encode_bundle_add(
        v, bundles.decode_bundle_add(m), xid
    ),
}
REPLIES: dict[int, Again] = {
    common.MP_DESC: lambda v, xid, m: messages.encode_desc(v, xid, messages.decode_desc(v, m)),
    common.MP_PORT: _multipart(
        lambda v, xid, m: port_messages.port_stats_replies(
            v, xid, port_messages.decode_port_stats(v, m)
        )
    ),
    common.MP_PORT_DESC: _multipart(
        lambda v, xid, m: port_messages.port_desc_replies(
            v, xid, port_messages.decode_port_desc(v, m)
        )
    ),
    common.MP_QUEUE: _multipart(
        lambda v, xid, m: port_messages.queue_stats_replies(
            v, xid, port_messages.decode_queue_stats(v, m)
        )
    ),
    common.MP_TABLE: _multipart(
        lambda v, xid, m: tables.table_stats_replies(
            v, xid, [(t.table, t.n_flows, t.lookups, t.matches) for t in
                     tables.decode_table_stats(v, m)]
        )
    ),
    common.MP_TABLE_FEATURES: _table_features,
}  # fmt: skip

DIFFERENT = {
    "properties that oko does not send": [
        "5-22-ofp_port_mod", "5-30-ofp_port_stats_reply", "5-36-ofp_queue_stats_reply",
        "5-37-ofp_port_status", "5-41-ofp_get_async_reply", "5-42-ofp_set_async",
        "5-52-ofp_port_desc_reply", "5-69-ofp_bundle_ctrl_msg", "5-70-ofp_bundle_add_msg",
    ],
    "spanning tree states": ["1-6-ofp_switch_features"],
    "max_len of a port that is no controller": ["ofp_packet_out"],
}  # fmt: skip


def test_os_kens_corpus() -> None:
    os_ken = pytest.importorskip("os_ken")
    corpus = Path(os_ken.__file__).parent / "tests" / "packet_data"
    if not corpus.is_dir():
        pytest.skip("this os-ken comes without its packet files")
    same, different = [], []
    for path in sorted(corpus.glob("of1[034]/*.packet")):
        msg = path.read_bytes()
        version, xid = msg[0], int.from_bytes(msg[4:8], "big")
        if version not in VERSIONS or int.from_bytes(msg[2:4], "big") != len(msg):
            continue
        name = common.TYPE_NAMES[version][msg[1]]
        again = MESSAGES.get(name)
        if name == "MULTIPART_REPLY":
            again = REPLIES.get(common.decode_multipart(version, msg[8:]).type)
        if again is None:
            continue
        try:
            equal = again(version, xid, msg) == msg
        except OpenFlowError:
            equal = False
        (same if equal else different).append(path.stem)
    excused = [part for parts in DIFFERENT.values() for part in parts]
    assert [name for name in different if not any(part in name for part in excused)] == []
    assert len(same) >= 20


@pytest.mark.parametrize("version", VERSIONS)
def test_ports_there_and_back(version):
    ports = [
        port_messages.PortDesc(1, "eth0", 0x020000000001, 1, 1, 2, 4, 8, 16),
        port_messages.PortDesc(0xFFFFFFFE, "br0", 0x020000000002),
    ]
    (reply,) = port_messages.port_desc_replies(version, 5, ports)
    assert port_messages.decode_port_desc(version, reply) == ports
    counters = port_messages.PortCounters(3, 1, 2, 3, 4, 5, 6, 7, 8, 9 * 10**9 + 1)
    (reply,) = port_messages.port_stats_replies(version, 5, [counters])
    (got,) = port_messages.decode_port_stats(version, reply)
    assert got.tx_errors == 8 and got.duration == (0 if version == OF10 else counters.duration)
    queue = port_messages.QueueCounters(3, 7, 100, 2, 1, 0)
    (reply,) = port_messages.queue_stats_replies(version, 5, [queue])
    assert port_messages.decode_queue_stats(version, reply) == [queue]


def test_large_bodies_are_refused_not_cut():
    add = bundles.BundleAdd(1, common.message(OF14, common.FLOW_MOD, 3, bytes(65524)))
    with pytest.raises(OpenFlowError, match="OFPBRC_BAD_LEN"):
        bundles.encode_bundle_add(OF14, add, 3)
    with pytest.raises(OpenFlowError, match="OFPBRC_BAD_TYPE"):
        bundles.encode_bundle_control(OF10, bundles.BundleControl(1, 0))


@pytest.mark.parametrize("version", [OF13, OF14])
def test_bundles_there_and_back(version):
    inside = common.message(version, common.FLOW_MOD, 9, bytes(48))
    add = bundles.BundleAdd(7, inside, bundles.ATOMIC)
    msg = bundles.encode_bundle_add(version, add, 9)
    assert bundles.decode_bundle_add(msg) == add
    with pytest.raises(OpenFlowError, match="OFPBFC_MSG_BAD_XID"):
        bundles.decode_bundle_add(msg[:7] + b"\x55" + msg[8:])
    with pytest.raises(OpenFlowError, match="OFPBFC_MSG_BAD_LEN"):
        bundles.decode_bundle_add(msg[:30])
