"""Flow monitors of one connection: it hears of changes of flows as they happen.

The bridge hands over what each transaction, packet or timeout did to flows (events.FlowChanges). Of
that a connection gets what its monitors cover, in the order of events, flows in full; what it asked
for itself only as its transaction, unless it wants that in full too. A modify that leaves a flow as
it was is no change.

A peer that does not read is not buried: when its queue is full it is told PAUSED, last, and changes
are only noted. When there is room again it gets the deletions, then all flows that came or changed
meanwhile, as added, then RESUMED, as nicira-ext.h has it.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oko.model import actions as act
from oko.model.fields import PORT_ANY
from oko.model.flow import TABLE_ALL, TABLE_MAX
from oko.openflow import flow_monitor as wire
from oko.openflow import flow_stats
from oko.openflow.common import OF10, OF14, OpenFlowError, fail
from oko.openflow.flow_monitor import Monitor
from oko.switch import log
from oko.switch.bridge import FlowStats
from oko.switch.events import DELETED, GROUP_DELETED, FlowChange, FlowChanges
from oko.switch.selection import coverage, names_target

if TYPE_CHECKING:
    from oko.agent.session import Session

logger = log.logger("agent")

MAX_MONITORS = 1024
RETRY_SECONDS = 0.1
_WANTS = {"added": wire.ADD, "modified": wire.MODIFY, "gone": wire.DELETE}
_EVENTS = {"added": wire.ADDED, "modified": wire.MODIFIED, "gone": wire.GONE}


@dataclass(frozen=True, slots=True)
class _Watching:
    """A monitor, and how its match is looked at."""

    monitor: Monitor
    covers: Callable[[bytes], bool] | None

    def sees(self, flow: FlowStats, old: FlowStats | None = None) -> bool:
        """Is this flow, which took the place of an old one, one of the monitor's?"""
        wanted = self.monitor
        if wanted.table not in (TABLE_ALL, flow.table):
            return False
        if wanted.filter_prog not in (None, flow.filter_prog):
            return False
        if self.covers is not None and not self.covers(flow.match_bytes):
            return False
        for number, kind in ((wanted.out_port, act.Output), (wanted.out_group, act.ToGroup)):
            if number != PORT_ANY and not any(
                names_target(one.instructions, kind, number) for one in (flow, old) if one
            ):
                return False
        return True


class Monitors:
    """All flow monitors of a connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._all: dict[int, _Watching] = {}
        self._deleted: list[bytes] = []
        self._changed: set[int] | None = None  # while it is paused: flows that came or changed

    def close(self) -> None:
        """The connection is gone."""
        if self._all:
            self._all.clear()
            self._session.bridge.watch(-1)

    # ---------------------------------------------------------------- requests

    def request(self, msg: bytes) -> Iterator[bytes]:
        """Makes (1.4: or changes, or ends) monitors, all or none. Answers with the flows that are
        there, for those that want them."""
        version = self._session.version
        after = dict(self._all)
        begun = []
        for command, monitor in wire.decode_requests(version, msg):
            if monitor.table > TABLE_MAX and monitor.table != TABLE_ALL:
                fail("OFPBRC_BAD_TABLE_ID", f"there is no table {monitor.table}")
            there = monitor.id in after
            if command == wire.ADD_MONITOR and there:
                fail("OFPMOFC_MONITOR_EXISTS", f"there is a flow monitor {monitor.id} already")
            if command != wire.ADD_MONITOR and not there:
                fail("OFPMOFC_UNKNOWN_MONITOR", f"there is no flow monitor {monitor.id}")
            if command == wire.DELETE_MONITOR:
                del after[monitor.id]
                continue
            watching = _Watching(monitor, coverage(monitor.match, None))
            after[monitor.id] = watching
            begun.append(watching)
            if monitor.filter_prog is not None:
                self._session.aware = True
        if len(after) > MAX_MONITORS:
            fail("OFPBRC_EPERM", f"a connection has at most {MAX_MONITORS} flow monitors")
        self._set(after)
        there_now = self._initial([w for w in begun if w.monitor.flags & wire.INITIAL])
        return wire.encode_updates(version, there_now, int.from_bytes(msg[4:8], "big"))

    def cancel(self, msg: bytes) -> Iterable[bytes]:
        """Ends a monitor."""
        number = wire.decode_cancel(msg)
        if number not in self._all:
            raise OpenFlowError("OFPMOFC_UNKNOWN_MONITOR", f"there is no flow monitor {number}")
        self._set({n: watching for n, watching in self._all.items() if n != number})
        return []

    def _set(self, after: dict[int, _Watching]) -> None:
        delta = bool(after) - bool(self._all)
        self._all = after
        if delta:
            self._session.bridge.watch(delta)

    def _initial(self, begun: list[_Watching]) -> Iterator[bytes]:
        if not begun:
            return
        encode = self._encoder()
        for flow in self._session.bridge.flow_stats():
            seeing = [w.monitor.flags for w in begun if w.sees(flow)]
            if seeing:
                actions = any(flags & wire.ACTIONS for flags in seeing)
                yield encode(flow, wire.IS_THERE, 0, actions)

    # ---------------------------------------------------------------- changes

    def changed(self, event: FlowChanges) -> None:
        """Something became of flows."""
        if not self._all:
            return
        if event.lost:
            logger.warning("%s: more changes of flows than can be told", self._session.peer)
            self._pause()
            if self._changed is not None:
                self._changed.update(flow.id for flow in self._session.bridge.flow_stats())
        if self._changed is not None:
            self._note(event)
            return
        own = event.by is not None and event.by.who is self._session
        parts = self._parts(event.changes, event.by.xids() if own and event.by else ())
        for reply in wire.encode_updates(self._session.version, parts) if parts else ():
            if not self._session.push(reply):
                self._pause()
                self._note(event)
                return

    def _parts(self, changes: Iterable[FlowChange], xids: tuple[int, ...]) -> list[bytes]:
        """What to say of changes. xids: of the messages that asked for them, if this peer did."""
        version = self._session.version
        encode = self._encoder()
        parts: list[bytes] = []
        said = -1
        for change in changes:
            flags = self._flags(change)
            if not flags:
                continue
            if not flags & wire.OWN and change.change is not None and change.change < len(xids):
                if said != xids[change.change]:
                    said = xids[change.change]
                    parts.append(wire.encode_abbreviated(version, said))
                continue
            said = -1
            reason = change.reason if change.kind == "gone" else 0
            if version < OF14 and reason > GROUP_DELETED:
                reason = DELETED
            actions = bool(flags & wire.ACTIONS) and change.kind != "gone"
            parts.append(encode(change.flow, _EVENTS[change.kind], reason, actions))
        return parts

    def _flags(self, change: FlowChange) -> int:
        """Of all monitors that this change is for."""
        old = change.old
        same = old is not None and (old.ops, old.cookie) == (change.flow.ops, change.flow.cookie)
        if same and change.kind == "modified":
            return 0
        flags = 0
        for watching in self._all.values():
            if watching.monitor.flags & _WANTS[change.kind] and watching.sees(change.flow, old):
                flags |= watching.monitor.flags
        return flags

    def _encoder(self) -> Callable[[FlowStats, int, int, bool], bytes]:
        version = self._session.version
        encoder = flow_stats.StatsEncoder(version, nxm=version == OF10, aware=self._session.aware)

        def encode(flow: FlowStats, event: int, reason: int, actions: bool) -> bytes:
            match, size, instructions = encoder.match_and_instructions(flow)
            update = wire.Update(
                event, reason, flow.table, flow.priority, flow.idle_timeout, flow.hard_timeout,
                flow.cookie, match, size, instructions if actions else b"",
            )  # fmt: skip
            return wire.encode_update(version, update)

        return encode

    # ---------------------------------------------------------------- peers that do not read

    def _pause(self) -> None:
        if self._changed is None:
            self._changed = set()
            self._session.say(wire.encode_pause(self._session.version, True))
            self._try_later()

    def _try_later(self) -> None:
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self.resume)

    def _note(self, event: FlowChanges) -> None:
        assert self._changed is not None
        gone = []
        for change in event.changes:
            if change.kind != "gone":
                self._changed.add(change.flow.id)
            elif change.flow.id in self._changed:
                self._changed.discard(change.flow.id)
                gone.append(change)
            else:
                gone.append(change)
        self._deleted += self._parts((replace(change, change=None) for change in gone), ())

    def resume(self) -> None:
        """Goes on if the peer has read enough meanwhile."""
        if self._changed is None or not self._all:
            return
        if not self._session.has_room(RESUME_ROOM):
            self._try_later()
            return
        changed, self._changed = self._changed, None
        deleted, self._deleted = self._deleted, []
        there = (
            FlowChange("added", 0, None, flow, None)
            for flow in self._session.bridge.flow_stats()
            if flow.id in changed
        )
        parts = deleted + self._parts(there, ())
        for reply in wire.encode_updates(self._session.version, parts) if parts else ():
            self._session.say(reply)
        self._session.say(wire.encode_pause(self._session.version, False))


RESUME_ROOM = 2 << 20
"""Bytes of events that a peer must be ready for."""
