"""Filter programs and maps over one connection: oko's own messages (oko/openflow/extension.py).

What comes in chunks (an ELF, many entries) is collected under its xid and takes effect with the
last chunk, which alone is answered. A collection belongs to the connection: it goes with it, after
UPLOAD_SECONDS, or when room is needed by nobody. How many there may be, and how large, is limited
for the whole bridge.

Map contents go out when a send_maps action asked for it (the forwarding thread only set a flag, the
control thread copies) or periodically, to connections that subscribed; within a budget of bytes per
second, beyond which they are dropped and counted.

Thread-safety: the asyncio loop's; only verification runs elsewhere, inside of Bridge.load_program.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oko.bpf import layouts
from oko.openflow import extension as ext
from oko.openflow.common import fail
from oko.openflow.extension import MapName
from oko.switch.bridge import BridgeError, LoadedProgram
from oko.switch.events import SendMaps

if TYPE_CHECKING:
    from oko.agent.session import Session

UPLOAD_SECONDS = 30.0
MAX_UPLOAD_BYTES = 64 << 20
MIN_INTERVAL_MS = 10
SEND_BYTES_PER_SECOND = 16 << 20


class Quota:
    """What the connections of a bridge share: room for uploads and bundles, bytes of map contents
    to send."""

    def __init__(self, max_uploads: int) -> None:
        self.max_uploads = max_uploads
        self.uploads = 0
        self.bytes = 0
        self.staged = 0  # of bundles
        self._allowance = float(SEND_BYTES_PER_SECOND)
        self._at = time.monotonic()

    def may_send(self, size: int) -> bool:
        """Takes so much from the budget, or says that it is spent."""
        now = time.monotonic()
        earned = (now - self._at) * SEND_BYTES_PER_SECOND
        self._allowance = min(self._allowance + earned, SEND_BYTES_PER_SECOND)
        self._at = now
        if self._allowance <= 0:
            return False
        self._allowance -= size
        return True


@dataclass(slots=True)
class Upload:
    """Chunks of one message so far. kind: LoadProgram, UpdateMap or DeleteKeys, as first seen."""

    first: ext.LoadProgram | ext.UpdateMap | ext.DeleteKeys
    expires: asyncio.TimerHandle
    size: int = 0
    elf: bytearray = field(default_factory=bytearray)
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)


class Programs:
    """oko's messages on one connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._uploads: dict[int, Upload] = {}
        self._subscriptions: dict[int, ext.Subscribe] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """The connection is gone."""
        for xid in list(self._uploads):
            self._forget(xid)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._subscriptions.clear()

    # ---------------------------------------------------------------- messages

    def answer(self, msg: bytes) -> Iterable[bytes] | Coroutine[Any, Any, Iterable[bytes]]:
        """What answers a message of oko's."""
        said = ext.decode(msg)
        xid = int.from_bytes(msg[4:8], "big")
        match said:
            case ext.Hello():
                if said.capabilities & ext.KNOWS_OXM:
                    self._session.aware = True
                able = ext.KNOWS_OXM | ext.KNOWS_ERROR_TEXT | ext.KNOWS_SEND_MAPS
                return [self._encode(ext.Hello(able), xid)]
            case ext.LoadProgram():
                return self._load(said, xid)
            case ext.UnloadProgram():
                self._session.need_write()
                force = bool(said.flags & ext.FORCE)
                self._session.bridge.unload_program(said.program, force=force)
                return [self._encode(ext.Loaded(said.program), xid)]
            case ext.UpdateMap():
                return self._update(said, xid)
            case ext.DeleteKeys():
                return self._delete(said, xid)
            case ext.Subscribe():
                return self._subscribe(said)
            case _:
                fail("OFPBRC_BAD_SUBTYPE", "this message is for controllers")

    def _encode(self, message: ext.Message, xid: int) -> bytes:
        return ext.encode(self._session.version, message, xid)

    # ---------------------------------------------------------------- chunks

    def _upload(self, xid: int, chunk: ext.LoadProgram | ext.UpdateMap | ext.DeleteKeys) -> Upload:
        """What was collected under this xid, made if it is new."""
        found = self._uploads.get(xid)
        if found is not None:
            if type(found.first) is not type(chunk):
                self._forget(xid)
                fail("OFPBRC_EPERM", "another message is being sent in chunks under this xid")
            return found
        quota = self._session.agent.quota
        if quota.uploads >= quota.max_uploads:
            fail("OFPBRC_EPERM", f"{quota.max_uploads} uploads are pending already")
        quota.uploads += 1
        timer = asyncio.get_running_loop().call_later(UPLOAD_SECONDS, self._expire, xid)
        self._uploads[xid] = found = Upload(chunk, timer)
        return found

    def _grow(self, xid: int, upload: Upload, size: int) -> None:
        quota = self._session.agent.quota
        upload.size += size
        quota.bytes += size
        if quota.bytes > MAX_UPLOAD_BYTES:
            self._forget(xid)
            fail("OFPBRC_EPERM", f"pending uploads hold {MAX_UPLOAD_BYTES} bytes already")

    def _forget(self, xid: int) -> None:
        gone = self._uploads.pop(xid)
        gone.expires.cancel()
        quota = self._session.agent.quota
        quota.uploads -= 1
        quota.bytes -= gone.size

    def _expire(self, xid: int) -> None:
        self._forget(xid)
        self._session.bridge.counters["upload_expired"] += 1

    # ---------------------------------------------------------------- programs

    def _load(
        self, chunk: ext.LoadProgram, xid: int
    ) -> Iterable[bytes] | Coroutine[Any, Any, Iterable[bytes]]:
        self._session.need_write()
        if chunk.last and not chunk.offset and xid not in self._uploads:
            return self._verify(chunk, chunk.data, xid)
        upload = self._upload(xid, chunk)
        first = upload.first
        assert isinstance(first, ext.LoadProgram)
        same = (first.program, first.total, first.flags)
        if chunk.offset != len(upload.elf) or same != (chunk.program, chunk.total, chunk.flags):
            self._forget(xid)
            fail("OFPBRC_BAD_LEN", f"a chunk at {chunk.offset} is not the next one")
        self._grow(xid, upload, len(chunk.data))
        upload.elf += chunk.data
        if not chunk.last:
            return []
        elf = bytes(upload.elf)
        self._forget(xid)
        return self._verify(chunk, elf, xid)

    async def _verify(self, chunk: ext.LoadProgram, elf: bytes, xid: int) -> Iterable[bytes]:
        session = self._session
        number = await session.bridge.load_program(
            chunk.program,
            elf,
            create_only=bool(chunk.flags & ext.CREATE_ONLY),
            keep_maps=True,
            owner=session.peer,
        )
        return [self._encode(ext.Loaded(number), xid)]

    def answer_multipart(self, msg: bytes) -> Iterable[bytes]:
        """SHOW, DUMP_MAP and MAP_TYPES."""
        session = self._session
        version, bridge = session.version, session.bridge
        asked = ext.decode_request(version, msg)
        xid = int.from_bytes(msg[4:8], "big")
        if isinstance(asked, ext.TypesOf):
            typed = bridge.map(asked.map.program, asked.map.label)
            name = MapName(asked.map.program, typed.number, typed.name[: ext.NAME_SIZE])
            text = layouts.encode(typed.spec.key_layout, typed.spec.value_layout)
            return ext.types_replies(version, xid, name, text)
        if isinstance(asked, MapName):
            found = bridge.map(asked.program, asked.label)
            name = MapName(asked.program, found.number, found.name[: ext.NAME_SIZE])
            key_size, value_size = found.entry_sizes
            return ext.dump_replies(version, xid, name, key_size, value_size, found.items())
        shown = [p for p in bridge.programs() if asked in (0, p.number)]
        if asked and not shown:
            fail("OFPBMC_BAD_VALUE", f"program {asked} is not loaded")
        return ext.show_replies(version, xid, (self._entry(p) for p in shown))

    def _entry(self, program: LoadedProgram) -> ext.ProgramEntry:
        maps = []
        for found in self._session.bridge.maps(program.number).values():
            spec, now = found.spec, found.stats
            maps.append(
                ext.MapEntry(
                    found.number, found.name, spec.type, spec.key_size, spec.value_size,
                    spec.max_entries, now.n_entries, now.memory,
                )
            )  # fmt: skip
        stats = program.stats
        return ext.ProgramEntry(
            program.number, program.name, program.owner, bytes.fromhex(program.sha256),
            int(program.loaded_at * 1e9), program.size, program.n_insns, stats.n_flows,
            stats.runs, stats.matches, stats.faults, tuple(maps),
        )  # fmt: skip

    # ---------------------------------------------------------------- maps

    def _update(self, chunk: ext.UpdateMap, xid: int) -> Iterable[bytes]:
        session = self._session
        session.need_write()
        sizes = (chunk.key_size, chunk.value_size)
        entries = self._collect(chunk, xid, chunk.entries)
        if entries is None:
            return []
        flags = chunk.flags & ~ext.MORE
        number, n = session.bridge.update_map(
            chunk.map.program,
            chunk.map.label,
            entries,
            sizes,
            may_exist=flags & 3 != ext.NO_EXIST,
            must_exist=flags & 3 == ext.EXIST,
            replace=bool(flags & ext.REPLACE),
        )
        return [self._encode(ext.Updated(chunk.map.program, number, n), xid)]

    def _delete(self, chunk: ext.DeleteKeys, xid: int) -> Iterable[bytes]:
        session = self._session
        session.need_write()
        entries = self._collect(chunk, xid, tuple((key, b"") for key in chunk.keys))
        if entries is None:
            return []
        number, n = session.bridge.delete_keys(
            chunk.map.program, chunk.map.label, [key for key, _ in entries], chunk.key_size
        )
        return [self._encode(ext.Updated(chunk.map.program, number, n), xid)]

    def _collect(
        self, chunk: ext.UpdateMap | ext.DeleteKeys, xid: int, entries: ext.Entries
    ) -> list[tuple[bytes, bytes]] | None:
        """All entries when this is the last chunk, else None."""
        if not chunk.flags & ext.MORE and xid not in self._uploads:
            return list(entries)
        upload = self._upload(xid, chunk)
        first = upload.first
        assert isinstance(first, (ext.UpdateMap, ext.DeleteKeys))
        if (first.map, first.key_size) != (chunk.map, chunk.key_size):
            self._forget(xid)
            fail("OFPBRC_EPERM", "chunks of one message name different maps")
        self._grow(xid, upload, sum(len(key) + len(value) + 64 for key, value in entries))
        upload.entries += entries
        if chunk.flags & ext.MORE:
            return None
        self._forget(xid)
        return upload.entries

    # ---------------------------------------------------------------- send_maps

    def _subscribe(self, asked: ext.Subscribe) -> Iterable[bytes]:
        timer = self._timers.pop(asked.program, None)
        if timer is not None:
            timer.cancel()
        self._subscriptions.pop(asked.program, None)
        if asked.flags & ext.UNSUBSCRIBE:
            return []
        if asked.program and all(
            p.number != asked.program for p in self._session.bridge.programs()
        ):
            fail("OFPBMC_BAD_VALUE", f"program {asked.program} is not loaded")
        if len(self._subscriptions) >= 1024:
            fail("OFPBRC_EPERM", "a connection has at most 1,024 subscriptions")
        self._subscriptions[asked.program] = asked
        if asked.interval:
            self._start_timer(asked)
        return []

    def _start_timer(self, asked: ext.Subscribe) -> None:
        seconds = max(asked.interval, MIN_INTERVAL_MS) / 1000
        loop = asyncio.get_running_loop()
        self._timers[asked.program] = loop.call_later(seconds, self._tick, asked)

    def _tick(self, asked: ext.Subscribe) -> None:
        self._start_timer(asked)
        bridge = self._session.bridge
        numbers = [asked.program] if asked.program else [p.number for p in bridge.programs()]
        for number in numbers:
            self._send(number, asked.maps, SendMaps(number, asked.maps, 0, 0, 0, 0))

    def event(self, event: SendMaps) -> None:
        """A packet hit a flow with send_maps."""
        asked = self._subscriptions.get(event.program) or self._subscriptions.get(0)
        if asked is None:
            return
        wanted = event.maps
        if asked.maps:
            wanted = tuple(n for n in asked.maps if not event.maps or n in event.maps)
            if not wanted:
                return
        self._send(event.program, wanted, event)

    def _send(self, program: int, numbers: tuple[int, ...], cause: SendMaps) -> None:
        session = self._session
        try:
            maps = session.bridge.maps(program)
        except BridgeError:
            return  # unloaded meanwhile
        for found in maps.values():
            if numbers and found.number not in numbers:
                continue
            key_size, value_size = found.entry_sizes
            size = found.stats.n_entries * (key_size + value_size)
            if not session.has_room(size) or not session.agent.quota.may_send(size + 128):
                session.bridge.counters["send_maps_dropped"] += 1
                continue
            first = ext.MapContents(
                MapName(program, found.number, found.name[: ext.NAME_SIZE]), key_size, value_size,
                (), cause.table, cause.priority, cause.cookie, cause.ns,
            )  # fmt: skip
            for part in self._parts(first, found.items()):
                session.push(self._encode(part, 0))

    def _parts(
        self, first: ext.MapContents, items: Iterable[tuple[bytes, bytes]]
    ) -> Iterator[ext.MapContents]:
        return ext.contents_chunks(first, items)
