"""A bridge's state on disk: what controllers made is there again after a restart.

    DIR/<bridge>/journal        changes, in the order in which they were acknowledged (journal.py)
    DIR/<bridge>/programs/      ELF objects by SHA-256
    DIR/<bridge>/maps, idle     what packets change, every few seconds (checkpoint.py)

Each record has a number. The journal is compacted by writing the present state as records (all with
the number that is then the last) and what has been appended meanwhile behind them. The maps' file
says after which number it was taken: when the journal is replayed, its contents are put in place
there, and map changes with later numbers go on top; likewise idle times.

Every change is in the kernel's hands before it is acknowledged, so kill -9 loses nothing; once a
second it is handed to the disk, so a power cut loses a second at most, and never leaves half a
transaction. With sync, it is on the disk before it is acknowledged.

What does not come back: counters, learned flows, MAC addresses. Flows whose hard timeout passed
while the switch was down are gone. A record that cannot be carried out any more is logged and left
out.

Thread-safety: the asyncio loop's; formatting a snapshot and checkpoints run in an executor.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oko.errors import OkoError
from oko.model.flow import FlowMod, GroupMod, MeterMod
from oko.switch import checkpoint, journal, log
from oko.switch.record import Formatter, change_from, match_from, match_to

if TYPE_CHECKING:
    from oko.switch.bridge import Bridge, Change, FlowStats

logger = log.logger("state")

SECOND = 10**9
SYNC_SECONDS = 1.0
CHECKPOINT_SECONDS = 3.0
COMPACT_AT = 1 << 20  # bytes; and four times what the last compaction left
IDLE_SHARE = 20  # saving idle times takes at most a twentieth of the time


class State:
    """The state of one bridge. restore() first; then the bridge tells what happens."""

    def __init__(self, directory: Path, *, sync: bool = False) -> None:
        self.directory = directory
        (directory / "programs").mkdir(parents=True, exist_ok=True)
        self._sync = sync
        self._journal = journal.Journal(directory / "journal")
        self._number = max((r.get("s", 0) for r in self._journal.records), default=0)
        self._compact_at = max(COMPACT_AT, self._journal.size)
        self._format = Formatter()
        self._seen: object = None  # by the maps' last checkpoint
        self._idle_due = 0.0
        self._idle: checkpoint.SavedIdle | None = None  # while it is restored
        self._tasks: list[asyncio.Task[None]] = []
        self._restoring = False

    # ---------------------------------------------------------------- writing

    def _append(self, kind: str, **rest: Any) -> None:
        if self._restoring:
            return
        self._number += 1
        self._journal.append({"k": kind, "s": self._number, "at": time.time_ns(), **rest})
        if self._sync and not self._journal.broken:
            self._journal.sync()

    def changed(self, changes: Sequence[Change]) -> None:
        """A transaction was committed."""
        self._append("changes", c=[self._format.change(change) for change in changes])

    def removed(self, table: int, priority: int, match: Any, filter_prog: int) -> None:
        """A flow's time is over."""
        self._append("gone", f=[table, priority, match_to(match), filter_prog])

    def loaded(self, number: int, elf: bytes, sha256: str, keep_maps: bool, owner: str) -> None:
        """A program was loaded."""
        path = self._object(sha256)
        if not path.exists() and not self._restoring:
            try:
                journal.write_whole(path, [elf])
            except OSError as exc:
                logger.error("%s: %s; program %d is not kept", path, exc.strerror, number)
                return
        self._append("program", n=number, sha=sha256, keep=keep_maps, owner=owner)

    def unloaded(self, number: int, force: bool) -> None:
        """A program was unloaded."""
        self._append("unload", n=number, force=force)

    def map_changed(
        self, number: int, index: int, operation: str, entries: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Entries of a map were set ("set"), deleted ("delete", no values), added to a sketch
        ("add"), or all of them removed ("clear") or replaced ("replace")."""
        hexes = [[key.hex(), value.hex()] for key, value in entries]
        self._append("map", n=number, m=index, op=operation, e=hexes)

    def port_changed(self, number: int, config: int) -> None:
        """A port was configured."""
        self._append("port", n=number, config=config)

    def _object(self, sha256: str) -> Path:
        return self.directory / "programs" / f"{sha256}.o"

    # ---------------------------------------------------------------- reading

    def restore(self, bridge: Bridge) -> int:
        """Brings back what the journal says; the bridge forwards nothing yet. Returns how many
        records there were."""
        self._restoring = True
        self._ports: dict[int, int] = {}
        records, self._journal.records = self._journal.records, []
        contents = checkpoint.read_contents(self.directory / "maps")
        self._idle = checkpoint.read_idle(self.directory / "idle")
        now = time.time_ns()
        bridge.datapath.tick(now, worker=bridge.datapath.workers - 1)  # ages need a clock
        try:
            for record in records:
                if contents is not None and record.get("s", 0) > contents.number:
                    contents.put_back(bridge)
                    contents = None
                try:
                    self._redo(bridge, record, now)
                except (OkoError, ValueError, KeyError, TypeError, IndexError) as exc:
                    logger.error("record %s (%s): %s", record.get("s"), record.get("k"), exc)
            if contents is not None:
                contents.put_back(bridge)
            bridge.datapath.events()  # what was said while it was restored is nobody's business
        finally:
            self._restoring = False
            self._idle = None
        return len(records)

    def restore_ports(self, bridge: Bridge) -> None:
        """The ports' configuration, once there are ports."""
        self._restoring = True
        for number, config in self._ports.items():
            try:
                bridge.modify_port(number, None, config, 0xFFFFFFFF)
            except OkoError as exc:
                logger.warning("port %d: %s", number, exc)
        self._restoring = False

    def _redo(self, bridge: Bridge, record: dict[str, Any], now: int) -> None:
        kind = record["k"]
        if kind == "changes":
            changes = [change_from(change) for change in record["c"]]
            ages = record.get("ages") or [max(0, now - record["at"])] * len(changes)
            if "ages" in record:
                ages = [age + max(0, now - record["at"]) for age in ages]
            flows = [c.flow if isinstance(c, FlowMod) else None for c in changes]
            idle = checkpoint.ages_of(self._idle, record["s"], flows)
            self._redo_changes(bridge, changes, ages, idle)
        elif kind == "gone":
            table, priority, match, filter_prog = record["f"]
            bridge.forget_flow(table, priority, match_from(match), filter_prog)
        elif kind == "program":
            elf = self._object(record["sha"])
            try:
                data = elf.read_bytes()
            except OSError as exc:
                raise OkoError(f"{elf}: {exc.strerror}") from None
            if hashlib.sha256(data).hexdigest() != record["sha"]:
                raise OkoError(f"{elf} is damaged; program {record['n']} is not loaded")
            bridge.restore_program(record["n"], data, record["keep"], record["owner"], record["at"])
        elif kind == "unload":
            bridge.unload_program(record["n"], force=record["force"])
        elif kind == "map":
            entries = [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in record["e"]]
            if record["op"] == "delete":  # the maps' file may be ahead of this
                found = bridge.map(record["n"], record["m"])
                entries = [entry for entry in entries if found.get(entry[0]) is not None]
            bridge.change_map(record["n"], record["m"], record["op"], entries)
        elif kind == "port":
            self._ports[record["n"]] = record["config"]
        else:
            raise OkoError("no such kind of record")

    def _redo_changes(
        self, bridge: Bridge, changes: list[Any], ages: list[int], idle: list[int]
    ) -> None:
        """One transaction; flows that are over by now do no harm, they never match."""
        try:
            bridge.apply(changes, ages=ages, idle=idle)
        except OkoError:
            if len(changes) == 1:
                raise
            for i, change in enumerate(changes):  # as much as can be
                try:
                    bridge.apply([change], ages=ages[i : i + 1], idle=idle[i : i + 1])
                except OkoError as exc:
                    logger.error("left out: %s", exc)

    # ---------------------------------------------------------------- what packets change

    async def checkpoint(self, bridge: Bridge) -> None:
        """Saves contents of maps and data, if programs ran or anything was changed since the last
        time; and idle times, less often when that takes long."""
        loop = asyncio.get_running_loop()
        seen = (self._number, [(p.number, p.runs) for p in bridge.datapath.programs()])
        if seen != self._seen:
            await self._save_contents(bridge, self._number)
            self._seen = seen
        if loop.time() >= self._idle_due:
            await self._save_idle(bridge, self._number)

    async def _save_contents(self, bridge: Bridge, number: int) -> None:
        contents = checkpoint.Contents(bridge)
        path = self.directory / "maps"
        await asyncio.get_running_loop().run_in_executor(None, contents.save, path, number)

    async def _save_idle(self, bridge: Bridge, number: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        path = self.directory / "idle"
        await loop.run_in_executor(None, checkpoint.save_idle, bridge, path, number)
        took = loop.time() - began
        self._idle_due = began + took + IDLE_SHARE * took

    # ---------------------------------------------------------------- compaction

    def _present(self, bridge: Bridge, number: int) -> Iterator[dict[str, Any]]:
        """The present state as records. What can change is read before the first one is taken."""
        now = time.time_ns()
        programs = bridge.programs()
        groups, meters = bridge.groups(), bridge.meters()
        kept = (f for f in bridge.flow_stats() if not f.learned and not bridge.is_own(f))
        flows = sorted(kept, key=lambda f: f.id)
        configs = {p.number: p.config for p in bridge.ports() if p.config}
        return self._records(number, now, programs, groups, meters, flows, configs)

    def _records(
        self,
        number: int,
        now: int,
        programs: Sequence[Any],
        groups: Sequence[Any],
        meters: Sequence[Any],
        flows: Sequence[FlowStats],
        configs: dict[int, int],
    ) -> Iterator[dict[str, Any]]:
        form = Formatter()
        base = {"s": number, "at": now}
        for p in programs:
            record = {"k": "program", "n": p.number, "sha": p.sha256, "keep": False}
            yield {**base, **record, "owner": p.owner, "at": int(p.loaded_at * SECOND)}
        objects: list[Any] = [*(MeterMod(m) for m in meters), *(GroupMod(g) for g in groups)]
        for change in objects:
            yield {**base, "k": "changes", "c": [form.change(change)]}
        for i in range(0, len(flows), 256):
            part = flows[i : i + 256]
            yield {
                **base,
                "k": "changes",
                "c": [form.change(FlowMod(flow.flow)) for flow in part],
                "ages": [flow.hard_age for flow in part],
            }
        for port, config in configs.items():
            yield {**base, "k": "port", "n": port, "config": config}

    async def compact(self, bridge: Bridge) -> None:
        """Replaces the journal by the present state, and drops objects that nobody needs."""
        loop = asyncio.get_running_loop()
        number, since = self._number, self._journal.size
        records = self._present(bridge, number)
        await self._save_contents(bridge, number)
        await self._save_idle(bridge, number)
        new = self.directory / "journal.new"
        await loop.run_in_executor(None, journal.snapshot, new, records)
        self._journal.replace(new, since)
        self._compact_at = max(COMPACT_AT, 4 * self._journal.size)
        used = {p.sha256 for p in bridge.programs()}
        for path in (self.directory / "programs").glob("*.o"):
            if path.stem not in used:
                path.unlink(missing_ok=True)
        logger.info("journal compacted to %d bytes", self._journal.size)

    # ---------------------------------------------------------------- in the background

    def start(self, bridge: Bridge) -> None:
        """Begins to sync, checkpoint and compact from time to time."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._every(SYNC_SECONDS, self._sync_now)),
            loop.create_task(self._every(CHECKPOINT_SECONDS, lambda: self._tidy(bridge))),
        ]

    async def _every(self, seconds: float, what: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await what()
            except (OSError, OkoError) as exc:
                logger.error("%s: %s", self.directory, exc)

    async def _sync_now(self) -> None:
        if self._journal.dirty:
            await asyncio.get_running_loop().run_in_executor(None, self._journal.sync)

    async def _tidy(self, bridge: Bridge) -> None:
        if self._journal.size > self._compact_at or self._journal.broken:
            await self.compact(bridge)
        else:
            await self.checkpoint(bridge)

    async def close(self, bridge: Bridge) -> None:
        """A last checkpoint, and everything on the disk."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.checkpoint(bridge)
        except (OSError, OkoError) as exc:
            logger.error("%s: %s", self.directory, exc)
        self._journal.close()


__all__ = ["State"]
