"""One OpenFlow connection: what a peer asks, and what it hears.

A session takes whole messages in the order in which they came and yields replies; it never touches
a socket. Flow-mods that arrive together go to the bridge as one call; if one of them fails, those
before it are in force, it is answered by its error, and the rest go on: as one after another. A
barrier therefore needs no waiting: what came before it has been carried out when it is answered.
Only the verification of a program takes time; the connection's later messages wait for it, others
do not.

Errors: whatever is wrong with a message is one OFPT_ERROR with its data, and the connection goes
on. A peer that knows oko's extension is told in words first.

A connection that a controller or tool opened to us hears no events until it says how much of a
packet it wants (SET_CONFIG), as with Open vSwitch: tools would not know what to do with them.

Statistics, bundles and programs are in modules of their own. Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from oko.agent.monitors import Monitors
from oko.agent.programs import Programs
from oko.agent.staging import Bundles
from oko.agent.statistics import answer_multipart
from oko.errors import OkoError
from oko.model.actions import Action
from oko.model.compile import PackedFlowMod
from oko.model.fields import PORT_ANY
from oko.openflow import (
    bundles,
    common,
    extension,
    flow_monitor,
    flow_stats,
    flows,
    groups,
    messages,
    meters,
    nicira_messages,
    packets,
    port_messages,
    roles,
    tables,
)
from oko.openflow.common import (
    NICIRA,
    OF10,
    OF14,
    OKO,
    ONF,
    OpenFlowError,
    encode_error,
    fail,
    message,
)
from oko.openflow.flows import (
    NO_BUFFER,
    NXT_FLOW_MOD,
    FlowModMessage,
    decode_flow_mod,
    pack_flow_mod,
)
from oko.openflow.roles import MASTER, NOCHANGE, SLAVE, AsyncConfig, Role
from oko.switch import log
from oko.switch.bridge import Bridge, BridgeError, Change
from oko.switch.events import (
    BridgeEvent,
    FlowChanges,
    FlowRemoved,
    Origin,
    PacketIn,
    PortStatus,
    SendMaps,
    TableStatus,
)
from oko.switch.tables import N_TABLES

if TYPE_CHECKING:
    from oko.agent.agent import Agent

logger = log.logger("agent")

MAX_WAITING = 4 << 20
"""Bytes of events that may wait for a peer that does not read; a map sent may have so many."""

Reply: TypeAlias = Iterable[bytes]
Slow: TypeAlias = Coroutine[Any, Any, list[bytes]]
Work: TypeAlias = Iterator[bytes | Slow]
Mod: TypeAlias = tuple[bytes, Change | PackedFlowMod, FlowModMessage | None]
"""A message that changes tables: itself, the change, and for flow-mods what was decoded."""


class Channel(Protocol):
    """Where events go."""

    def write(self, data: bytes) -> None:
        """Queues it."""

    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""


class Session:
    """A connection after its HELLO. version: what both speak; passive: the peer opened it.

    versions: those in which such a peer can be spoken to.
    """

    versions: tuple[int, ...] = common.VERSIONS
    packs = True  # its flow-mods are the standard's

    def __init__(
        self,
        agent: Agent,
        version: int,
        peer: str,
        channel: Channel,
        *,
        passive: bool = True,
    ) -> None:
        self.agent = agent
        self._channel = channel
        self.bridge: Bridge = agent.bridge
        self.version = version
        self.peer = peer
        self.role = roles.EQUAL
        self.aware = False
        self.hides_told = False
        self.config = messages.Config(miss_send_len=0 if passive else 128)
        self.table_id_ext = False
        self.packet_form = packets.STANDARD
        self.programs = Programs(self)
        self.bundles = Bundles(self)
        self.monitors = Monitors(self)
        self._nxm_removed = False
        self._controller_id = 0
        self._quiet = passive
        self._async = AsyncConfig()
        self._may_pack = self.packs and version != OF10
        names = common.TYPE_NAMES[version]
        self._types = names
        self._counters = tuple(f"openflow_{name.lower()}" for name in names)
        kinds = common.TYPES[version]
        self._handlers = {n: _HANDLERS[name] for n, name in enumerate(names) if name in _HANDLERS}
        self._flow_mod = kinds["FLOW_MOD"]
        changes = ("FLOW_MOD", "GROUP_MOD", "METER_MOD", *(["EXPERIMENTER"] * (version == OF10)))
        self._mod_kinds = frozenset(kinds[name] for name in changes if name in kinds)

    def close(self) -> None:
        """The connection is gone: what belongs to it goes too."""
        self.programs.close()
        self.bundles.close()
        self.monitors.close()

    def push(self, data: bytes) -> bool:
        """Sends what was not asked for, unless too much of it waits already: then it is dropped
        and counted."""
        if not self.has_room(len(data)):
            self.bridge.counters["openflow_event_dropped"] += 1
            return False
        self._channel.write(data)
        return True

    def say(self, data: bytes) -> None:
        """Sends what was not asked for, however much waits."""
        self._channel.write(data)

    def has_room(self, size: int) -> bool:
        """May so many bytes of events be sent now?"""
        return self._channel.waiting() + size <= MAX_WAITING

    # ---------------------------------------------------------------- messages

    def work(self, batch: list[bytes]) -> Work:
        """Carries out messages that came together, in order. What comes from it are replies, and
        here and there something slow that has to be waited for before going on: it gives replies
        too. Nothing raises."""
        mods: list[Mod] = []
        counters, flow_mod, n_types = self.bridge.counters, self._flow_mod, len(self._types)
        for msg in batch:
            kind = msg[1]
            counters[self._counters[kind] if kind < n_types else "openflow_unknown"] += 1
            try:
                mod = self.quickly(msg) if kind == flow_mod else None
                if mod is None:
                    mod = self.decode_mod(msg)
                if mod is not None:
                    mods.append(mod)
                    continue
                if mods:
                    yield from self.apply(mods)
                answer = self._answer(msg)
                if type(answer) is list:
                    yield from answer
                elif isinstance(answer, Coroutine):
                    yield self._settle(msg, answer)
                else:
                    yield from answer
            except Exception as exc:  # whatever a peer sends, the others go on
                yield from self.apply(mods)
                yield from self.errors(msg, exc)
        yield from self.apply(mods)

    async def _settle(self, msg: bytes, answer: Coroutine[Any, Any, Reply]) -> list[bytes]:
        try:
            return list(await answer)
        except Exception as exc:
            return list(self.errors(msg, exc))

    def name_of(self, msg: bytes) -> str:
        """The message's type in words."""
        return self._types[msg[1]] if msg[1] < len(self._types) else f"TYPE_{msg[1]}"

    def errors(self, msg: bytes, exc: Exception) -> Iterator[bytes]:
        """What answers a message that failed."""
        if not isinstance(exc, OkoError):
            logger.exception("%s: %s failed", self.peer, self.name_of(msg), exc_info=exc)
        name = self.error_name(exc)
        xid = xid_of(msg)
        logger.info("%s: %s: %s", self.peer, self.name_of(msg), exc)
        self.bridge.counters["openflow_error_sent"] += 1
        if self.aware:
            hint = getattr(exc, "hint", "")
            text = f"{exc}\n{hint}" if hint else str(exc)
            yield extension.encode(self.version, extension.ErrorText(text), xid)
        yield encode_error(self.version, xid, name, msg)

    def error_name(self, exc: Exception) -> str:
        """The error of OpenFlow's that says it to this peer."""
        name: str = getattr(exc, "name", "OFPBRC_BAD_TYPE")
        return name

    # ---------------------------------------------------------------- changes

    def decode_mod(self, msg: bytes) -> Mod | None:
        """The change of tables that a message asks for; None: it is none."""
        if msg[0] != self.version:
            self._check_version(msg)
        if msg[1] not in self._mod_kinds:
            return None
        name = self.name_of(msg)
        if name == "FLOW_MOD" or (
            name == "EXPERIMENTER" and msg[8:16] == _NXT_FLOW_MOD and self.version == OF10
        ):
            return self._decode_flow_mod(msg)
        if name == "GROUP_MOD":
            self.need_write()
            return msg, groups.decode_group_mod(self.version, msg), None
        if name == "METER_MOD":
            self.need_write()
            return msg, meters.decode_meter_mod(self.version, msg), None
        return None

    def quickly(self, msg: bytes) -> Mod | None:
        """A flow-mod like others before, ready for the datapath; None: decode_mod() has to look."""
        if not self._may_pack or msg[0] != self.version or msg[1] != self._flow_mod:
            return None
        if self.role == SLAVE or not self.bridge.takes_packed:
            return None
        packed = pack_flow_mod(self.version, msg)
        if packed is None:
            return None
        if packed.program:
            self.aware = True
        return msg, packed, None

    def _check_version(self, msg: bytes) -> None:
        if msg[1] not in (common.HELLO, common.ERROR):
            fail("OFPBRC_BAD_VERSION", f"version {msg[0]:#x} on a connection of {self.version:#x}")

    def _decode_flow_mod(self, msg: bytes) -> Mod:
        if msg[0] != self.version:
            self._check_version(msg)
        if self.role == SLAVE:
            self.need_write()
        decoded = self.read_flow_mod(msg)
        if decoded.buffer_id != NO_BUFFER:
            fail("OFPBRC_BUFFER_UNKNOWN", "there are no buffers")
        if decoded.names_program:
            self.aware = True
        return msg, decoded.mod, decoded

    def read_flow_mod(self, msg: bytes) -> FlowModMessage:
        """FLOW_MOD or NXT_FLOW_MOD as this peer writes it."""
        return decode_flow_mod(self.version, msg, table_id_ext=self.table_id_ext)

    def stats_encoder(self, request: flow_stats.FlowRequest) -> flow_stats.StatsEncoder:
        """What makes the flow statistics asked for so that this peer can read them."""
        return flow_stats.StatsEncoder(
            self.version, nxm=request.nxm, aware=self.aware, counters_only=request.counters_only
        )

    def need_write(self) -> None:
        """OpenFlowError for slaves."""
        if self.role == SLAVE:
            fail("OFPBRC_IS_SLAVE", "a slave only reads")

    def apply(self, mods: list[Mod]) -> Iterator[bytes]:
        """Carries out what was collected, one after another in effect; errors as replies."""
        while mods:
            try:
                self.carry_out(mods)
                mods.clear()
            except BridgeError as exc:
                failed = exc.index
                if failed:
                    self.carry_out(mods[:failed])
                msg = mods[failed][0]
                del mods[: failed + 1]
                yield from self.errors(msg, exc)

    def carry_out(self, mods: list[Mod], packet_outs: Sequence[tuple[Action, ...]] = ()) -> None:
        """All of them as one transaction. BridgeError: which was refused."""
        by = self.origin(mods)
        if self.bridge.takes_packed and not packet_outs:
            packed: list[PackedFlowMod] = []
            for _, change, decoded in mods:
                if isinstance(change, PackedFlowMod):
                    packed.append(change)
                elif decoded is not None:
                    packed.append(flows.packed(decoded))
                else:
                    break
            else:
                self.bridge.apply_packed(packed, by=by)
                return
        changes: list[Change] = []
        compiled = []
        for msg, change, decoded in mods:
            if isinstance(change, PackedFlowMod):
                decoded = self.read_flow_mod(msg)
                change = decoded.mod
            changes.append(change)
            compiled.append(decoded.record if decoded is not None else None)
        self.bridge.apply(changes, compiled=compiled, packet_outs=packet_outs, by=by)

    def origin(self, mods: list[Mod]) -> Origin:
        """Whose changes these are, for flow monitors."""
        return Origin(self, lambda: tuple(xid_of(msg) for msg, _, _ in mods))

    # ---------------------------------------------------------------- the rest

    def _answer(self, msg: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        handler = self._handlers.get(msg[1])
        if handler is None:
            fail("OFPBRC_BAD_TYPE", f"{self.name_of(msg)} is not supported")
        return handler(self, msg)

    def _number(self, name: str) -> int:
        return common.TYPES[self.version][name]

    def _echo(self, msg: bytes) -> Reply:
        return [message(self.version, common.ECHO_REPLY, xid_of(msg), msg[8:])]

    def _nothing(self, msg: bytes) -> Reply:
        return []

    def _peer_error(self, msg: bytes) -> Reply:
        error = common.decode_error(self.version, msg)
        logger.info("%s: says %s", self.peer, error.name)
        return []

    def _features(self, msg: bytes) -> Reply:
        bridge = self.bridge
        return [messages.encode_features(self.version, xid_of(msg), bridge.dpid, bridge.ports())]

    def _get_config(self, msg: bytes) -> Reply:
        return [messages.encode_config(self.version, xid_of(msg), self.config)]

    def _set_config(self, msg: bytes) -> Reply:
        # Fragments are always handled as "normal": Open vSwitch too ignores what it cannot do.
        wanted = messages.decode_config(msg)
        self.config = messages.Config(0, wanted.miss_send_len)
        if wanted.miss_send_len:
            self._quiet = False
        self.agent.interests_changed()
        return []

    def _barrier(self, msg: bytes) -> Reply:
        return [message(self.version, self._number("BARRIER_REPLY"), xid_of(msg))]

    def _packet_out(self, msg: bytes) -> Reply:
        self.send_packet(self.decode_packet_out(msg))
        return []

    def decode_packet_out(self, msg: bytes) -> packets.PacketOut:
        """PACKET_OUT, checked as far as it can be before it is carried out."""
        self.need_write()
        out = packets.decode_packet_out(self.version, msg)
        if out.buffer_id != NO_BUFFER:
            fail("OFPBRC_BUFFER_UNKNOWN", "there are no buffers")
        if len(out.data) > 65535:
            fail("OFPBRC_BAD_PACKET", "the packet is longer than 65,535 bytes")
        return out

    def send_packet(self, out: packets.PacketOut) -> None:
        """Carries it out."""
        self.bridge.packet_out(out.data, out.in_port, out.actions)

    def _port_mod(self, msg: bytes) -> Reply:
        self.change_port(self.decode_port_mod(msg))
        return []

    def decode_port_mod(self, msg: bytes) -> port_messages.PortMod:
        """PORT_MOD."""
        self.need_write()
        return port_messages.decode_port_mod(self.version, msg)

    def change_port(self, mod: port_messages.PortMod) -> None:
        """Carries it out."""
        self.bridge.modify_port(mod.number, mod.hw_addr, mod.config, mod.mask)

    def _table_mod(self, msg: bytes) -> Reply:
        self.need_write()
        mod = tables.decode_table_mod(self.version, msg)
        if mod.table >= N_TABLES and mod.table != tables.TABLE_ALL:
            fail("OFPTMFC_BAD_TABLE", f"there is no table {mod.table}")
        if self.version >= OF14:
            wanted = tables.settings_of(mod)
            numbers = range(N_TABLES) if mod.table == tables.TABLE_ALL else (mod.table,)
            self.bridge.tables.configure(numbers, evict=wanted.evict, vacancy=wanted.vacancy)
        return []

    def _queue_config(self, msg: bytes) -> Reply:
        port = port_messages.decode_queue_config_request(self.version, msg)
        try:
            found = self.bridge.queue_stats(None if port == PORT_ANY else port)
        except BridgeError as exc:
            fail("OFPQOFC_BAD_PORT", str(exc))
        told = [(q.port, q.queue) for q in found[:4000]]  # what one message has room for
        return [port_messages.encode_queue_config_reply(self.version, xid_of(msg), port, told)]

    # ---------------------------------------------------------------- roles and events

    def _role(self, msg: bytes) -> Reply:
        wanted = roles.decode_role(self.version, msg)
        if wanted.role in (MASTER, SLAVE) and wanted.generation is not None:
            self.agent.check_generation(wanted.generation)
        if wanted.role == MASTER:
            self.agent.demote_others(self)
        if wanted.role != NOCHANGE:
            self.role = wanted.role
        self.agent.interests_changed()
        return [
            roles.encode_role(self.version, xid_of(msg), Role(self.role, self.agent.generation))
        ]

    def demote(self) -> bytes | None:
        """Another controller became master. Returns what tells this one, if it is to hear."""
        self.role = SLAVE
        if self.version < OF14 or not self._async.hears(roles.ROLE_STATUS, 0, True):
            return None
        generation = self.agent.generation
        return roles.encode_role_status(
            self.version, SLAVE, roles.ROLE_MASTER_REQUEST,
            (1 << 64) - 1 if generation is None else generation,
        )  # fmt: skip

    def _get_async(self, msg: bytes) -> Reply:
        return [roles.encode_async(self.version, xid_of(msg), self._async, kind="GET_ASYNC_REPLY")]

    def _set_async(self, msg: bytes) -> Reply:
        self._async = roles.decode_async(self.version, msg, self._async)
        return []

    @property
    def miss_len(self) -> int:
        """How much of a packet that no flow matches this controller wants: OpenFlow 1.0 sends them
        unasked, 1.3 drops them."""
        if self.version != OF10 or self._quiet or self.role == SLAVE:
            return 0
        return self.config.miss_send_len

    def event(self, event: BridgeEvent) -> None:
        """Tells the peer, if it is to hear it."""
        if isinstance(event, SendMaps):
            self.programs.event(event)
            return
        if isinstance(event, FlowChanges):
            self.monitors.changed(event)
            return
        told = self._tell(event)
        if told is not None:
            self.push(told)

    def _tell(self, event: BridgeEvent) -> bytes | None:
        """The message that tells of an event, or None: this peer is not to hear it."""
        slave = self.role == SLAVE
        if self._quiet:
            return None
        if isinstance(event, PacketIn):
            if event.controller != self._controller_id:
                return None
            if not self._async.hears(roles.PACKET_IN, event.reason, slave):
                return None
            if event.implicit:
                if not self.miss_len:
                    return None
                event = replace(event, data=event.data[: self.config.miss_send_len])
            return packets.encode_packet_in(self.version, event, form=self.packet_form)
        if isinstance(event, PortStatus):
            if not self._async.hears(roles.PORT_STATUS, event.reason, slave):
                return None
            if self.version == OF10 and not port_messages.fits_10(event.port.number):
                return None
            return port_messages.encode_port_status(self.version, event.reason, event.port)
        if isinstance(event, TableStatus):
            if self.version < OF14:
                return None
            if not self._async.hears(roles.TABLE_STATUS, event.reason, slave):
                return None
            now = tables.TableSettings(event.table, event.evict, event.marks, event.vacancy)
            return tables.encode_table_status(self.version, event.reason, now)
        if isinstance(event, FlowRemoved):
            if not self._async.hears(roles.FLOW_REMOVED, event.reason, slave):
                return None
            return flow_stats.encode_flow_removed(
                self.version, event, nxm=self._nxm_removed, aware=self.aware
            )
        return None

    def told_less(self, n_hidden: int) -> None:
        """Replies hid what this peer could not read of so many flows; that is said once."""
        if not n_hidden:
            return
        self.bridge.counters["openflow_filter_hidden"] += n_hidden
        if not self.hides_told:
            self.hides_told = True
            logger.info("%s: does not know filter_prog: flows are shown without it", self.peer)

    # ---------------------------------------------------------------- experimenters

    def _experimenter(self, msg: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        if len(msg) < 16:
            fail("OFPBRC_BAD_LEN", "an experimenter message has at least 16 bytes")
        vendor, kind = int.from_bytes(msg[8:12], "big"), int.from_bytes(msg[12:16], "big")
        if vendor == OKO:
            return self.programs.answer(msg)
        if vendor == ONF:
            if self.version < OF14 and self.version != OF10:
                if kind == bundles.ONF_CONTROL:
                    return self.bundles.control(msg)
                if kind == bundles.ONF_ADD:
                    return self.bundles.add(msg)
                if kind == flow_monitor.ONFT_CANCEL:
                    return self.monitors.cancel(msg)
            fail("OFPBRC_BAD_SUBTYPE", f"message {kind} of ONF is not supported")
        if vendor != NICIRA:
            fail("OFPBRC_BAD_VENDOR", f"nothing of experimenter {vendor:#x} is supported")
        handler = _NICIRA.get(kind)
        if handler is None:
            fail("OFPBRC_BAD_SUBTYPE", f"Nicira message {kind} is not supported")
        return handler(self, msg)

    def _flow_format(self, msg: bytes) -> Reply:
        form = nicira_messages.decode_flow_format(msg)
        self._nxm_removed = form == nicira_messages.FLOW_FORMAT_NXM
        return []

    def _flow_mod_table_id(self, msg: bytes) -> Reply:
        self.table_id_ext = nicira_messages.decode_flow_mod_table_id(msg)
        return []

    def _packet_in_format(self, msg: bytes) -> Reply:
        self.packet_form = nicira_messages.decode_packet_in_format(msg)
        return []

    def _set_controller_id(self, msg: bytes) -> Reply:
        self._controller_id = nicira_messages.decode_controller_id(msg)
        return []

    def _cancel_monitor(self, msg: bytes) -> Reply:
        return self.monitors.cancel(msg)

    def _bundle_control(self, msg: bytes) -> Reply:
        return self.bundles.control(msg)

    def _bundle_add(self, msg: bytes) -> Reply:
        return self.bundles.add(msg)

    def _multipart(self, msg: bytes) -> Reply:
        return answer_multipart(self, msg)


def xid_of(msg: bytes) -> int:
    """The transaction that a message belongs to."""
    return int.from_bytes(msg[4:8], "big")


_NXT_FLOW_MOD = NICIRA.to_bytes(4, "big") + NXT_FLOW_MOD.to_bytes(4, "big")
_Handler: TypeAlias = Callable[[Session, bytes], Reply | Coroutine[Any, Any, Reply]]
_HANDLERS: dict[str, _Handler] = {
    "HELLO": Session._nothing,
    "ERROR": Session._peer_error,
    "ECHO_REQUEST": Session._echo,
    "ECHO_REPLY": Session._nothing,
    "EXPERIMENTER": lambda session, msg: session._experimenter(msg),  # as its class has it
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
    "BUNDLE_CONTROL": Session._bundle_control,
    "BUNDLE_ADD_MESSAGE": Session._bundle_add,
}
_NICIRA: dict[int, _Handler] = {
    nicira_messages.NXT_SET_FLOW_FORMAT: Session._flow_format,
    nicira_messages.NXT_FLOW_MOD_TABLE_ID: Session._flow_mod_table_id,
    nicira_messages.NXT_SET_PACKET_IN_FORMAT: Session._packet_in_format,
    nicira_messages.NXT_SET_CONTROLLER_ID: Session._set_controller_id,
    flow_monitor.NXT_CANCEL: Session._cancel_monitor,
    roles.NXT_ROLE_REQUEST: Session._role,
    roles.NXT_SET_ASYNC_CONFIG: Session._set_async,
    roles.NXT_SET_ASYNC_CONFIG2: Session._set_async,
}

__all__ = ["BridgeError", "OpenFlowError", "Session", "xid_of"]
