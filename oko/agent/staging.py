"""Bundles of one connection: collected, checked, then in force together or not at all.

Flow, group and meter changes of a bundle are one transaction of the bridge. Changes of ports and
packet-outs, which bundles may carry too, follow it in their order; everything that could be refused
about them is looked at before (ports) and within the transaction (packet-outs: by then the groups
are as the bundle makes them), so that nothing fails after it. What else a message could ask for
does not belong into a bundle.

A bundle is dropped when its connection ends, and when nothing was added to it for IDLE_SECONDS and
room is needed. Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from oko.openflow import bundles
from oko.openflow.bundles import BundleControl
from oko.openflow.common import OpenFlowError, encode_error, fail
from oko.openflow.packets import PacketOut
from oko.openflow.port_messages import PortMod
from oko.switch.bridge import BridgeError

if TYPE_CHECKING:
    from oko.agent.session import Mod, Session

MAX_BUNDLES = 16
MAX_BYTES = 1 << 30
OVERHEAD = 1024
"""About what a message takes when it is decoded, beside its own bytes."""
IDLE_SECONDS = 10.0

Later: TypeAlias = tuple[bytes, PortMod | PacketOut]


@dataclass(slots=True)
class Bundle:
    """What was added so far."""

    flags: int
    closed: bool = False
    size: int = 0
    used: float = 0.0
    mods: list[Mod] = field(default_factory=list)
    later: list[Later] = field(default_factory=list)


class Bundles:
    """All bundles of a connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._open: dict[int, Bundle] = {}

    def close(self) -> None:
        """The connection is gone."""
        for number in list(self._open):
            self._take(number)

    def _take(self, number: int) -> Bundle:
        """The bundle, no longer open."""
        bundle = self._open.pop(number)
        self._session.agent.quota.staged -= bundle.size
        return bundle

    # ---------------------------------------------------------------- messages

    def control(self, msg: bytes) -> Iterable[bytes]:
        """BUNDLE_CONTROL."""
        asked = bundles.decode_bundle_control(msg)
        if asked.type == bundles.OPEN_REQUEST:
            self._new(asked.id, asked.flags)
        elif asked.type == bundles.CLOSE_REQUEST:
            bundle = self._find(asked)
            if bundle.closed:
                self._take(asked.id)
                fail("OFPBFC_BUNDLE_CLOSED", f"bundle {asked.id} is closed already")
            bundle.closed = True
        elif asked.type == bundles.COMMIT_REQUEST:
            self._find(asked)
            return self._commit(msg, asked)
        elif asked.type == bundles.DISCARD_REQUEST:
            if asked.id not in self._open:
                fail("OFPBFC_BAD_ID", f"there is no bundle {asked.id}")
            self._take(asked.id)
        else:
            fail("OFPBFC_BAD_TYPE", f"{asked.type} is no request about bundles")
        return [self._done(msg, asked)]

    def _done(self, msg: bytes, asked: BundleControl) -> bytes:
        reply = BundleControl(asked.id, asked.type + 1, asked.flags)
        xid = int.from_bytes(msg[4:8], "big")
        return bundles.encode_bundle_control(self._session.version, reply, xid)

    def _new(self, number: int, flags: int) -> Bundle:
        self._session.need_write()
        if flags & ~(bundles.ATOMIC | bundles.ORDERED):
            fail("OFPBFC_BAD_FLAGS", f"there are no bundle flags {flags:#x}")
        if number in self._open:
            self._take(number)
            fail("OFPBFC_BAD_ID", f"there was a bundle {number} already; both are gone")
        now = time.monotonic()
        if len(self._open) >= MAX_BUNDLES:
            idle = [n for n, b in self._open.items() if now - b.used > IDLE_SECONDS]
            for old in idle:
                self._take(old)
            if not idle:
                fail("OFPBFC_OUT_OF_BUNDLES", f"a connection has at most {MAX_BUNDLES} bundles")
        bundle = self._open[number] = Bundle(flags, used=now)
        return bundle

    def _find(self, asked: BundleControl) -> Bundle:
        bundle = self._open.get(asked.id)
        if bundle is None:
            fail("OFPBFC_BAD_ID", f"there is no bundle {asked.id}")
        if bundle.flags != asked.flags:
            self._take(asked.id)
            fail("OFPBFC_BAD_FLAGS", f"bundle {asked.id} has other flags")
        return bundle

    def add(self, msg: bytes) -> Iterable[bytes]:
        """BUNDLE_ADD_MESSAGE: errors name the message inside."""
        session = self._session
        added = bundles.decode_bundle_add(msg)
        bundle = self._open.get(added.id)
        if bundle is None:
            bundle = self._new(added.id, added.flags)
        elif bundle.closed:
            fail("OFPBFC_BUNDLE_CLOSED", f"bundle {added.id} is closed")
        elif bundle.flags != added.flags:
            fail("OFPBFC_BAD_FLAGS", f"bundle {added.id} has other flags")
        inside = added.message
        bundle.used = time.monotonic()
        size = len(inside) + OVERHEAD
        bundle.size += size
        quota = session.agent.quota
        quota.staged += size
        if quota.staged > MAX_BYTES:
            self._take(added.id)
            fail("OFPBFC_MSG_TOO_MANY", f"a bridge's bundles hold at most {MAX_BYTES} bytes")
        try:
            mod = session.quickly(inside) or session.decode_mod(inside)
            if mod is not None:
                bundle.mods.append(mod)
                return []
            name = session.name_of(inside)
            if name == "PORT_MOD":
                port_mod = session.decode_port_mod(inside)
                session.bridge.check_port(port_mod.number, port_mod.hw_addr)
                bundle.later.append((inside, port_mod))
            elif name == "PACKET_OUT":
                bundle.later.append((inside, session.decode_packet_out(inside)))
            else:
                raise OpenFlowError("OFPBFC_MSG_UNSUP", f"{name} does not go into a bundle")
        except (OpenFlowError, BridgeError) as exc:
            return list(session.errors(inside, exc))
        return []

    # ---------------------------------------------------------------- commit

    def _commit(self, msg: bytes, asked: BundleControl) -> Iterator[bytes]:
        session = self._session
        bundle = self._take(asked.id)
        session.need_write()
        checked: list[bytes] = []  # messages in the order of the errors' indices
        try:
            for inside, what in bundle.later:
                if isinstance(what, PortMod):
                    checked = [inside]
                    session.bridge.check_port(what.number, what.hw_addr)
            outs = [(inside, what) for inside, what in bundle.later if isinstance(what, PacketOut)]
            checked = [inside for inside, _, _ in bundle.mods] + [inside for inside, _ in outs]
            if checked:
                session.carry_out(bundle.mods, [out.actions for _, out in outs])
        except BridgeError as exc:
            yield from session.errors(checked[exc.index], exc)
            yield self._failed(msg)
            return
        for _, what in bundle.later:
            if isinstance(what, PortMod):
                session.change_port(what)
            else:
                session.send_packet(what)
        yield self._done(msg, asked)

    def _failed(self, msg: bytes) -> bytes:
        xid = int.from_bytes(msg[4:8], "big")
        return encode_error(self._session.version, xid, "OFPBFC_MSG_FAILED", msg)
