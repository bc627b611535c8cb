"""One OpenFlow connection: what a peer asks, and what it hears.

A session takes whole messages in the order in which they came and yields replies; it never touches
a socket. Flow-mods that arrive together go to the bridge as one call; if one of them fails, those
before it are in force, it is answered by its error, and the rest go on: as one after another. A
barrier therefore needs no waiting: what came before it has been carried out when it is answered.

Errors: whatever is wrong with a message is one OFPT_ERROR with its data, and the connection goes
on.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from oko.errors import OkoError
from oko.model.fields import PORT_ANY
from oko.openflow import common, flow_stats, groups, messages, meters
from oko.openflow.common import (
    NICIRA,
    OF10,
    OF14,
    OF15,
    ONF,
    OpenFlowError,
    encode_error,
    fail,
    message,
    multipart_replies,
    take,
)
from oko.openflow.flows import NO_BUFFER, FlowModMessage, decode_flow_mod
from oko.switch import log
from oko.switch.bridge import Bridge, BridgeError, Change
from oko.switch.events import BridgeEvent, FlowRemoved, PacketIn, PortStatus

if TYPE_CHECKING:
    from oko.agent.agent import Agent

logger = log.logger("agent")

NOCHANGE, EQUAL, MASTER, SLAVE = range(4)
NXT_ROLE_REQUEST, NXT_ROLE_REPLY, NXT_SET_FLOW_FORMAT, NXT_FLOW_MOD = 10, 11, 12, 13
NXT_FLOW_MOD_TABLE_ID, NXT_SET_PACKET_IN_FORMAT = 15, 16
NXT_SET_ASYNC_CONFIG, NXT_SET_CONTROLLER_ID = 19, 20
NXST_FLOW, NXST_AGGREGATE = 0, 1

Reply = Iterable[bytes]


class Session:
    """A connection after its HELLO. version: what both speak."""

    def __init__(self, agent: Agent, version: int, peer: str) -> None:
        self.agent = agent
        self.bridge: Bridge = agent.bridge
        self.version = version
        self.peer = peer
        self.role = EQUAL
        self.aware = False
        self.miss_send_len = 128
        self._table_id_ext = False
        self._nxm_packets = False
        self._nxm_removed = False
        self._controller_id = 0
        # (master or equal, slave) masks of packet-in, port-status, flow-removed reasons.
        self._async = [[7, 0], [7, 7], [15, 0]]
        self._types = common.TYPE_NAMES[version]

    # ---------------------------------------------------------------- messages

    def handle(self, batch: list[bytes]) -> Iterator[bytes]:
        """Replies to messages that came together, in order."""
        mods: list[tuple[bytes, Change, FlowModMessage | None]] = []
        for msg in batch:
            self.bridge.counters[f"openflow_{self._name(msg).lower()}"] += 1
            try:
                changed = self._change(msg)
                if changed is not None:
                    mods.append((msg, *changed))
                    continue
            except (OkoError, ValueError) as exc:
                yield from self._apply(mods)
                yield self._error(msg, exc)
                continue
            yield from self._apply(mods)
            try:
                yield from self._answer(msg)
            except (OkoError, ValueError) as exc:
                yield self._error(msg, exc)
            except Exception:
                logger.exception("%s: %s failed", self.peer, self._name(msg))
                yield encode_error(self.version, _xid(msg), "OFPBRC_BAD_TYPE", msg[:64])
        yield from self._apply(mods)

    def _name(self, msg: bytes) -> str:
        return self._types[msg[1]] if msg[1] < len(self._types) else f"TYPE_{msg[1]}"

    def _error(self, msg: bytes, exc: Exception) -> bytes:
        name = getattr(exc, "name", "OFPBRC_BAD_TYPE")
        logger.info("%s: %s: %s", self.peer, self._name(msg), exc)
        self.bridge.counters["openflow_error_sent"] += 1
        return encode_error(self.version, _xid(msg), name, msg[:64])

    def _change(self, msg: bytes) -> tuple[Change, FlowModMessage | None] | None:
        """The change that a message asks for; None: it is none."""
        name = self._name(msg)
        if name == "FLOW_MOD" or (
            name == "EXPERIMENTER" and _vendor(msg) == (NICIRA, NXT_FLOW_MOD)
        ):
            self._need_write()
            decoded = decode_flow_mod(self.version, msg, table_id_ext=self._table_id_ext)
            if decoded.buffer_id != NO_BUFFER:
                fail("OFPBRC_BUFFER_UNKNOWN", "there are no buffers")
            self.aware = self.aware or decoded.names_program
            return decoded.mod, decoded
        if name == "GROUP_MOD":
            self._need_write()
            return groups.decode_group_mod(self.version, msg), None
        if name == "METER_MOD":
            self._need_write()
            return meters.decode_meter_mod(self.version, msg), None
        return None

    def _need_write(self) -> None:
        if self.role == SLAVE:
            fail("OFPBRC_IS_SLAVE", "a slave only reads")

    def _apply(self, mods: list[tuple[bytes, Change, FlowModMessage | None]]) -> Iterator[bytes]:
        """Carries out what was collected, one after another in effect; errors as replies."""
        while mods:
            compiled = [m.record if m is not None else None for _, _, m in mods]
            try:
                self.bridge.apply([change for _, change, _ in mods], compiled=compiled)
                mods.clear()
            except BridgeError as exc:
                failed = exc.index
                if failed:
                    self.bridge.apply(
                        [change for _, change, _ in mods[:failed]], compiled=compiled[:failed]
                    )
                yield self._error(mods[failed][0], exc)
                del mods[: failed + 1]

    def _answer(self, msg: bytes) -> Reply:
        handler = _HANDLERS.get(self._name(msg))
        if handler is None:
            fail("OFPBRC_BAD_TYPE", f"{self._name(msg)} is not supported")
        return handler(self, msg)

    # ---------------------------------------------------------------- simple ones

    def _echo(self, msg: bytes) -> Reply:
        return [message(self.version, common.ECHO_REPLY, _xid(msg), msg[8:])]

    def _nothing(self, msg: bytes) -> Reply:
        return []

    def _features(self, msg: bytes) -> Reply:
        bridge = self.bridge
        return [messages.encode_features(self.version, _xid(msg), bridge.dpid, bridge.ports())]

    def _get_config(self, msg: bytes) -> Reply:
        body = struct.pack("!HH", 0, self.miss_send_len)
        return [message(self.version, common.GET_CONFIG_REPLY, _xid(msg), body)]

    def _set_config(self, msg: bytes) -> Reply:
        _, self.miss_send_len = take(struct.Struct("!HH"), msg[8:], "a configuration")
        return []

    def _barrier(self, msg: bytes) -> Reply:
        return [message(self.version, self._number("BARRIER_REPLY"), _xid(msg))]

    def _number(self, name: str) -> int:
        return common.TYPES[self.version][name]

    def _packet_out(self, msg: bytes) -> Reply:
        self._need_write()
        buffer, in_port, actions, data = messages.decode_packet_out(self.version, msg[8:])
        if buffer != NO_BUFFER:
            fail("OFPBRC_BUFFER_UNKNOWN", "there are no buffers")
        if len(data) > 65535:
            fail("OFPBRC_BAD_PACKET", "the packet is longer than 65,535 bytes")
        self.bridge.packet_out(data, in_port, actions)
        return []

    def _port_mod(self, msg: bytes) -> Reply:
        self._need_write()
        self.bridge.modify_port(*messages.decode_port_mod(self.version, msg[8:]))
        return []

    def _table_mod(self, msg: bytes) -> Reply:
        self._need_write()
        return []

    def _queue_config(self, msg: bytes) -> Reply:
        if self.version == OF10:
            (port,) = take(struct.Struct("!H2x"), msg[8:], "a request for queues")
            body = struct.pack("!H6x", port)
        else:
            (port,) = take(struct.Struct("!I4x"), msg[8:], "a request for queues")
            body = struct.pack("!I4x", port)
        return [message(self.version, self._number("QUEUE_GET_CONFIG_REPLY"), _xid(msg), body)]

    # ---------------------------------------------------------------- roles and async

    def _set_role(self, role: int, generation: int | None) -> None:
        if role > SLAVE:
            fail("OFPRRFC_BAD_ROLE", f"there is no role {role}")
        if role in (MASTER, SLAVE) and generation is not None:
            self.agent.check_generation(generation)
        if role == MASTER:
            for other in self.agent.sessions:
                if other.role == MASTER and other is not self:
                    other.role = SLAVE
        if role != NOCHANGE:
            self.role = role

    def _role(self, msg: bytes) -> Reply:
        role, generation = take(struct.Struct("!I4xQ"), msg[8:], "a role request")
        self._set_role(role, generation)
        body = struct.pack("!I4xQ", self.role, self.agent.generation or 0)
        return [message(self.version, self._number("ROLE_REPLY"), _xid(msg), body)]

    def _get_async(self, msg: bytes) -> Reply:
        if self.version >= OF14:
            fail("OFPBRC_BAD_TYPE", "async configuration of 1.4 is not supported")
        body = struct.pack("!6I", *(mask for pair in self._async for mask in pair))
        return [message(self.version, self._number("GET_ASYNC_REPLY"), _xid(msg), body)]

    def _set_async(self, msg: bytes) -> Reply:
        if self.version >= OF14:
            fail("OFPBRC_BAD_TYPE", "async configuration of 1.4 is not supported")
        masks = take(struct.Struct("!6I"), msg[8:], "an async configuration")
        self._async = [list(masks[i : i + 2]) for i in (0, 2, 4)]
        return []

    def wants(self, event: BridgeEvent) -> bytes | None:
        """The message that tells of an event, or None: this peer is not to hear it."""
        slave = self.role == SLAVE
        if isinstance(event, PacketIn):
            if event.controller != self._controller_id or not self._hears(0, event.reason, slave):
                return None
            return messages.encode_packet_in(self.version, event, nxm=self._nxm_packets)
        if isinstance(event, PortStatus):
            if not self._hears(1, event.reason, slave):
                return None
            if self.version == OF10 and not messages.fits_10(event.port.number):
                return None
            return messages.encode_port_status(self.version, event.reason, event.port)
        if isinstance(event, FlowRemoved):
            if not self._hears(2, event.reason, slave):
                return None
            return flow_stats.encode_flow_removed(
                self.version, event, nxm=self._nxm_removed, aware=self.aware
            )
        return None

    def _hears(self, kind: int, reason: int, slave: bool) -> bool:
        return bool(self._async[kind][slave] >> reason & 1)

    # ---------------------------------------------------------------- experimenters

    def _experimenter(self, msg: bytes) -> Reply:
        vendor, kind = _vendor(msg)
        if vendor != NICIRA:
            name = "OFPBRC_BAD_EXPERIMENTER"
            fail(name, "bundles of 1.3 are not there yet" if vendor == ONF else f"{vendor:#x}")
        body = msg[16:]
        if kind == NXT_SET_FLOW_FORMAT:
            (form,) = take(struct.Struct("!I"), body, "a flow format")
            if form not in (0, 2):
                fail("OFPBRC_EPERM", f"there is no flow format {form}")
            self._nxm_removed = form == 2
        elif kind == NXT_FLOW_MOD_TABLE_ID:
            self._table_id_ext = bool(take(struct.Struct("!B"), body, "a switch")[0])
        elif kind == NXT_SET_PACKET_IN_FORMAT:
            (form,) = take(struct.Struct("!I"), body, "a packet-in format")
            if form not in (0, 1):
                fail("OFPBRC_EPERM", f"there is no packet-in format {form}")
            self._nxm_packets = form == 1
        elif kind == NXT_SET_CONTROLLER_ID:
            (self._controller_id,) = take(struct.Struct("!6xH"), body, "a controller's id")
        elif kind == NXT_SET_ASYNC_CONFIG:
            masks = take(struct.Struct("!6I"), body, "an async configuration")
            self._async = [list(masks[i : i + 2]) for i in (0, 2, 4)]
        elif kind == NXT_ROLE_REQUEST:
            (role,) = take(struct.Struct("!I"), body, "a role request")
            if role > 2:
                fail("OFPRRFC_BAD_ROLE", f"there is no role {role}")
            self._set_role(role + 1, None)
            body = struct.pack("!I", self.role - 1)
            return [
                common.experimenter_message(self.version, _xid(msg), NICIRA, NXT_ROLE_REPLY, body)
            ]
        else:
            fail("OFPBRC_BAD_SUBTYPE", f"Nicira message {kind} is not supported")
        return []

    # ---------------------------------------------------------------- statistics

    def _multipart(self, msg: bytes) -> Reply:
        part = common.decode_multipart(self.version, msg[8:])
        if part.more:
            fail("OFPBRC_MULTIPART_BUFFER_OVERFLOW", "requests in several parts are not supported")
        handler = _MULTIPARTS.get(part.type)
        since_13 = part.type in range(6, 13)
        if handler is None or (since_13 and self.version == OF10 and part.type != 13):
            fail("OFPBRC_BAD_STAT", f"there are no statistics {part.type}")
        return handler(self, msg, part.body)

    def _desc(self, msg: bytes, body: bytes) -> Reply:
        from oko.switch.config import version

        yield messages.encode_desc(self.version, _xid(msg), version(), self.bridge.name)

    def _flows(self, msg: bytes, body: bytes) -> Reply:
        request = flow_stats.decode_flow_request(self.version, msg)
        self.aware = self.aware or request.filter_prog is not None
        if request.aggregate:
            sums = self.bridge.aggregate(
                request.table, request.match, request.filter_prog, request.cookie,
                request.cookie_mask, request.out_port, request.out_group,
            )  # fmt: skip
            yield flow_stats.encode_aggregate(self.version, _xid(msg), *sums, nxm=request.nxm)
            return
        found = self.bridge.flow_stats(
            request.table, request.match, request.filter_prog, request.cookie,
            request.cookie_mask, request.out_port, request.out_group,
        )  # fmt: skip
        encoder = flow_stats.StatsEncoder(self.version, nxm=request.nxm, aware=self.aware)
        yield from encoder.replies(_xid(msg), found)

    def _tables(self, msg: bytes, body: bytes) -> Reply:
        rows = ((n, t.n_flows, t.lookups, t.matches) for n, t in self.bridge.table_stats())
        return messages.table_stats_replies(self.version, _xid(msg), rows)

    def _ports(self, msg: bytes, body: bytes) -> Reply:
        number = messages.decode_port_request(self.version, body)
        try:
            found = self.bridge.port_stats(number)
        except BridgeError as exc:
            raise OpenFlowError("OFPBRC_BAD_PORT", str(exc)) from None
        return messages.port_stats_replies(self.version, _xid(msg), found)

    def _queues(self, msg: bytes, body: bytes) -> Reply:
        return multipart_replies(self.version, _xid(msg), common.MP_QUEUE, [])

    def _port_desc(self, msg: bytes, body: bytes) -> Reply:
        return messages.port_desc_replies(self.version, _xid(msg), self.bridge.ports())

    def _table_features(self, msg: bytes, body: bytes) -> Reply:
        if body:
            fail("OFPTFFC_EPERM", "table features cannot be changed")
        if self.version >= OF15:
            fail("OFPBRC_BAD_STAT", "table features of 1.5 are not supported")
        return messages.table_features_replies(self.version, _xid(msg))

    def _groups(self, msg: bytes, body: bytes) -> Reply:
        kind, number = groups.decode_group_request(self.version, msg)
        xid = _xid(msg)
        if kind == common.MP_GROUP_FEATURES:
            most = 0xFFFFFF00
            actions = sum(1 << bit for bit in messages._ACTION_IDS)
            features = groups.GroupFeatures(0xF, 0x7, (most,) * 4, (actions,) * 4)
            return [groups.encode_group_features(self.version, xid, features)]
        everything = number in (0xFFFFFFFC, PORT_ANY)
        if kind == common.MP_GROUP_DESC:
            found = [g for g in self.bridge.groups() if everything or g.id == number]
            return groups.group_desc_replies(self.version, xid, found, aware=self.aware)
        counters = (
            groups.GroupCounters(
                g.group.id, g.n_flows, g.n_packets, g.n_bytes, g.duration, g.buckets
            )
            for g in self.bridge.group_stats(None if everything else number)
        )
        return groups.group_stats_replies(self.version, xid, counters)

    def _meters(self, msg: bytes, body: bytes) -> Reply:
        xid = _xid(msg)
        kind = common.decode_multipart(self.version, msg[8:]).type
        if kind == common.MP_METER_FEATURES:
            features = meters.MeterFeatures(0xFFFF0000, 0x6, 0xF, 255, 0)
            return [meters.encode_meter_features(self.version, xid, features)]
        kind, number = meters.decode_meter_request(self.version, msg)
        everything = number == 0xFFFFFFFF
        if kind == common.MP_METER_CONFIG:
            found = [m for m in self.bridge.meters() if everything or m.id == number]
            return meters.meter_config_replies(self.version, xid, found)
        counters = (
            meters.MeterCounters(m.meter.id, m.n_flows, m.n_packets, m.n_bytes, m.duration, m.bands)
            for m in self.bridge.meter_stats(None if everything else number)
        )
        return meters.meter_stats_replies(self.version, xid, counters)

    def _experimenter_stats(self, msg: bytes, body: bytes) -> Reply:
        vendor, kind = take(struct.Struct("!II"), body, "an experimenter's request")
        if vendor == NICIRA and kind in (NXST_FLOW, NXST_AGGREGATE):
            return self._flows(msg, body)
        fail("OFPBRC_BAD_EXPERIMENTER", f"no statistics {kind} of {vendor:#x}")


def _xid(msg: bytes) -> int:
    return int.from_bytes(msg[4:8], "big")


def _vendor(msg: bytes) -> tuple[int, int]:
    vendor, kind = take(struct.Struct("!II"), msg[8:], "an experimenter message")
    return vendor, kind


_HANDLERS: dict[str, Callable[[Session, bytes], Reply]] = {
    "HELLO": Session._nothing,
    "ERROR": Session._nothing,
    "ECHO_REQUEST": Session._echo,
    "ECHO_REPLY": Session._nothing,
    "EXPERIMENTER": Session._experimenter,
    "FEATURES_REQUEST": Session._features,
    "GET_CONFIG_REQUEST": Session._get_config,
    "SET_CONFIG": Session._set_config,
    "PACKET_OUT": Session._packet_out,
    "PORT_MOD": Session._port_mod,
    "TABLE_MOD": Session._table_mod,
    "MULTIPART_REQUEST": Session._multipart,
    "BARRIER_REQUEST": Session._barrier,
    "QUEUE_GET_CONFIG_REQUEST": Session._queue_config,
    "ROLE_REQUEST": Session._role,
    "GET_ASYNC_REQUEST": Session._get_async,
    "SET_ASYNC": Session._set_async,
}
_MULTIPARTS: dict[int, Callable[[Session, bytes, bytes], Reply]] = {
    common.MP_DESC: Session._desc,
    common.MP_FLOW: Session._flows,
    common.MP_AGGREGATE: Session._flows,
    common.MP_TABLE: Session._tables,
    common.MP_PORT: Session._ports,
    common.MP_QUEUE: Session._queues,
    common.MP_GROUP: Session._groups,
    common.MP_GROUP_DESC: Session._groups,
    common.MP_GROUP_FEATURES: Session._groups,
    common.MP_METER: Session._meters,
    common.MP_METER_CONFIG: Session._meters,
    common.MP_METER_FEATURES: Session._meters,
    common.MP_TABLE_FEATURES: Session._table_features,
    common.MP_PORT_DESC: Session._port_desc,
    common.MP_EXPERIMENTER: Session._experimenter_stats,
}
