"""Multipart requests: what a bridge knows, in as many messages as it takes.

Replies are generators: a dump of 100,000 flows is encoded while it is sent, and other connections
have their turn in between. Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from oko.agent import dump
from oko.model.fields import PORT_ANY
from oko.openflow import (
    common,
    flow_monitor,
    flow_stats,
    groups,
    messages,
    meters,
    port_messages,
    tables,
)
from oko.openflow.common import NICIRA, OF10, OF14, OF15, OKO, ONF, OpenFlowError, fail, take
from oko.switch.bridge import BridgeError
from oko.switch.config import version as software_version
from oko.switch.ports import QueueStats
from oko.switch.tables import N_TABLES

if TYPE_CHECKING:
    from oko.agent.session import Session

Reply: TypeAlias = Iterable[bytes]

GROUP_ALL = 0xFFFFFFFC
METER_ALL = 0xFFFFFFFF
MAX_GROUPS = 0xFFFFFF00
MAX_METERS = 0xFFFF0000
GROUP_CAPABILITIES = 0x7  # weights, liveness, chaining
METER_BANDS = 1 << 1 | 1 << 2  # drop, dscp_remark
METER_CAPABILITIES = 0xF  # kbps, pktps, burst, stats


def answer_multipart(session: Session, msg: bytes) -> Reply:
    """The replies to a MULTIPART_REQUEST (1.0: OFPT_STATS_REQUEST)."""
    part = common.decode_multipart(session.version, msg[8:])
    kind = part.type
    handler = _HANDLERS.get(kind)
    if handler is None or not _exists(session.version, kind):
        fail("OFPBRC_BAD_STAT", f"there are no statistics {kind}")
    if part.more:
        if kind == common.MP_TABLE_FEATURES:
            fail("OFPTFFC_EPERM", "table features cannot be changed")
        name = "OFPBRC_MULTIPART_BUFFER_OVERFLOW"
        fail(name, "requests in several messages are not supported")
    return handler(session, msg, part.body)


def _exists(version: int, kind: int) -> bool:
    """Does this version have such statistics? 1.0 asks for PORT_DESC by Open vSwitch's number."""
    if kind in (common.MP_TABLE_DESC, common.MP_QUEUE_DESC, common.MP_FLOW_MONITOR):
        return version >= OF14
    if kind == common.MP_FLOW_STATS_15:
        return version >= OF15
    if version == OF10:
        return kind < common.MP_GROUP or kind in (common.MP_PORT_DESC, common.MP_EXPERIMENTER)
    return True


def _xid(msg: bytes) -> int:
    return int.from_bytes(msg[4:8], "big")


def _no_body(body: bytes) -> None:
    if body:
        fail("OFPBRC_BAD_LEN", "this request has no body")


# ---------------------------------------------------------------- switch, flows, tables


def _desc(session: Session, msg: bytes, body: bytes) -> Reply:
    _no_body(body)
    desc = messages.Desc(software=software_version(), datapath=session.bridge.name)
    return [messages.encode_desc(session.version, _xid(msg), desc)]


def _flows(session: Session, msg: bytes, body: bytes) -> Reply:
    version, bridge = session.version, session.bridge
    request = flow_stats.decode_flow_request(version, msg)
    if request.filter_prog is not None:
        session.aware = True
    asked = (
        request.table, request.match, request.filter_prog, request.cookie, request.cookie_mask,
        request.out_port, request.out_group,
    )  # fmt: skip
    if request.aggregate:
        sums = bridge.aggregate(*asked)
        return [flow_stats.encode_aggregate(version, _xid(msg), *sums, nxm=request.nxm)]
    encoder = session.stats_encoder(request)

    def replies() -> Iterator[bytes]:
        yield from encoder.replies_of(_xid(msg), dump.entries(bridge, encoder, *asked))
        session.told_less(encoder.hidden)

    return replies()


def _monitor(session: Session, msg: bytes, body: bytes) -> Reply:
    return session.monitors.request(msg)


def _tables(session: Session, msg: bytes, body: bytes) -> Reply:
    _no_body(body)
    rows = ((n, t.n_flows, t.lookups, t.matches) for n, t in session.bridge.table_stats())
    limits = session.bridge.tables.limits
    return tables.table_stats_replies(session.version, _xid(msg), rows, limits)


def _table_features(session: Session, msg: bytes, body: bytes) -> Reply:
    if body:
        fail("OFPTFFC_EPERM", "table features cannot be changed")
    limits = session.bridge.tables.limits
    return tables.table_features_replies(session.version, _xid(msg), limits)


def _table_desc(session: Session, msg: bytes, body: bytes) -> Reply:
    _no_body(body)
    known = session.bridge.tables
    settings = (
        tables.TableSettings(
            n, known[n].evict, known[n].vacancy, known.vacancy(n) if known[n].vacancy else 0
        )
        for n in range(N_TABLES)
    )
    return tables.table_desc_replies(session.version, _xid(msg), settings)


# ---------------------------------------------------------------- ports, queues


def _ports(session: Session, msg: bytes, body: bytes) -> Reply:
    number = port_messages.decode_port_stats_request(session.version, body)
    try:
        found = session.bridge.port_stats(number)
    except BridgeError as exc:
        raise OpenFlowError("OFPBRC_BAD_PORT", str(exc)) from None
    return port_messages.port_stats_replies(session.version, _xid(msg), found)


def _port_desc(session: Session, msg: bytes, body: bytes) -> Reply:
    number = port_messages.decode_port_desc_request(session.version, body)
    found = [port for port in session.bridge.ports() if number in (None, port.number)]
    if not found:
        fail("OFPBRC_BAD_PORT", f"there is no port {number}")
    return port_messages.port_desc_replies(session.version, _xid(msg), found)


def _asked_queues(session: Session, body: bytes) -> list[QueueStats]:
    """The declared queues that a request names."""
    port, queue = port_messages.decode_queue_request(session.version, body)
    try:
        found = session.bridge.queue_stats(None if port == PORT_ANY else port)
    except BridgeError as exc:
        raise OpenFlowError("OFPQOFC_BAD_PORT", str(exc)) from None
    if queue != port_messages.QUEUE_ALL:
        found = [q for q in found if q.queue == queue]
        if not found:
            fail("OFPQOFC_BAD_QUEUE", f"queue {queue} is not declared")
    return found


def _queues(session: Session, msg: bytes, body: bytes) -> Reply:
    told = (
        port_messages.QueueCounters(
            q.port, q.queue, q.tx_bytes, q.tx_packets, q.tx_errors, q.duration
        )
        for q in _asked_queues(session, body)
    )
    return port_messages.queue_stats_replies(session.version, _xid(msg), told)


def _queue_desc(session: Session, msg: bytes, body: bytes) -> Reply:
    told = [(q.port, q.queue) for q in _asked_queues(session, body)]
    return port_messages.queue_desc_replies(session.version, _xid(msg), told)


# ---------------------------------------------------------------- groups, meters


def _groups(session: Session, msg: bytes, body: bytes) -> Reply:
    bridge, version, xid = session.bridge, session.version, _xid(msg)
    kind, number = groups.decode_group_request(version, msg)
    if kind == common.MP_GROUP_FEATURES:
        actions = sum(1 << number for number in tables.ACTION_IDS)
        features = groups.GroupFeatures(0xF, GROUP_CAPABILITIES, (MAX_GROUPS,) * 4, (actions,) * 4)
        return [groups.encode_group_features(version, xid, features)]
    everything = number in (GROUP_ALL, PORT_ANY)
    if kind == common.MP_GROUP_DESC:
        found = [g for g in bridge.groups() if everything or g.id == number]
        return groups.group_desc_replies(version, xid, found, aware=session.aware)
    counters = (
        groups.GroupCounters(g.group.id, g.n_flows, g.n_packets, g.n_bytes, g.duration, g.buckets)
        for g in bridge.group_stats(None if everything else number)
    )
    return groups.group_stats_replies(version, xid, counters)


def _meter_features(session: Session, msg: bytes, body: bytes) -> Reply:
    _no_body(body)
    features = meters.MeterFeatures(MAX_METERS, METER_BANDS, METER_CAPABILITIES, 255, 0)
    return [meters.encode_meter_features(session.version, _xid(msg), features)]


def _meters(session: Session, msg: bytes, body: bytes) -> Reply:
    bridge, version, xid = session.bridge, session.version, _xid(msg)
    kind, number = meters.decode_meter_request(version, msg)
    found = [m for m in bridge.meters() if number in (METER_ALL, m.id)]
    if not found and number != METER_ALL:
        fail("OFPMMFC_UNKNOWN_METER", f"there is no meter {number}")
    if kind == common.MP_METER_CONFIG:
        return meters.meter_config_replies(version, xid, found)
    counters = (
        meters.MeterCounters(m.meter.id, m.n_flows, m.n_packets, m.n_bytes, m.duration, m.bands)
        for m in bridge.meter_stats(None if number == METER_ALL else number)
    )
    return meters.meter_stats_replies(version, xid, counters)


# ---------------------------------------------------------------- experimenters


def _experimenter(session: Session, msg: bytes, body: bytes) -> Reply:
    vendor, kind = take(struct.Struct("!II"), body, "an experimenter's request")
    if vendor == OKO:
        return session.programs.answer_multipart(msg)
    if vendor == ONF and OF10 < session.version < OF14:
        if kind == flow_monitor.ONFST_FLOW_MONITOR:
            return session.monitors.request(msg)
        fail("OFPBRC_BAD_SUBTYPE", f"statistics {kind} of ONF are not supported")
    if vendor != NICIRA:
        fail("OFPBRC_BAD_VENDOR", f"nothing of experimenter {vendor:#x} is supported")
    if kind == flow_monitor.NXST_FLOW_MONITOR and session.version == OF10:
        return session.monitors.request(msg)
    if kind not in (flow_stats.NXST_FLOW, flow_stats.NXST_AGGREGATE):
        fail("OFPBRC_BAD_SUBTYPE", f"statistics {kind} of Nicira's are not supported")
    return _flows(session, msg, body)


_HANDLERS: dict[int, Callable[[Session, bytes, bytes], Reply]] = {
    common.MP_DESC: _desc,
    common.MP_FLOW: _flows,
    common.MP_AGGREGATE: _flows,
    common.MP_FLOW_STATS_15: _flows,
    common.MP_FLOW_MONITOR: _monitor,
    common.MP_TABLE: _tables,
    common.MP_PORT: _ports,
    common.MP_QUEUE: _queues,
    common.MP_GROUP: _groups,
    common.MP_GROUP_DESC: _groups,
    common.MP_GROUP_FEATURES: _groups,
    common.MP_METER: _meters,
    common.MP_METER_CONFIG: _meters,
    common.MP_METER_FEATURES: _meter_features,
    common.MP_TABLE_FEATURES: _table_features,
    common.MP_PORT_DESC: _port_desc,
    common.MP_TABLE_DESC: _table_desc,
    common.MP_QUEUE_DESC: _queue_desc,
    common.MP_EXPERIMENTER: _experimenter,
}
