"""A bridge's filter programs and their maps: who loaded what, and changes that are kept. A part of
Bridge.

Verification runs in an executor; everything else on the control thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from oko.datapath import Datapath
from oko.errors import CoreError, OkoError
from oko.filters import Map, Maps
from oko.switch import map_changes
from oko.switch.state import State
from oko.switch.values import BridgeError, LoadedProgram

QUOTA_CODES = (-1, -5)  # OKO_E_NOMEM, OKO_E_LIMIT


@dataclass(slots=True)
class _Origin:
    """What is remembered of a loaded program."""

    owner: str
    loaded_at: float
    elf: bytes
    sha256: str


class BridgePrograms:
    """What a bridge knows of its programs. max_uploads: programs that may be loaded at once."""

    datapath: Datapath
    state: State | None

    def __init__(self, max_uploads: int) -> None:
        self.max_uploads = max_uploads
        self._origins: dict[int, _Origin] = {}
        self._pending: set[int] = set()
        self._loads: set[asyncio.Future[bool]] = set()

    async def load_program(
        self,
        number: int,
        elf: bytes,
        *,
        create_only: bool = False,
        keep_maps: bool = False,
        owner: str = "",
    ) -> int:
        """Verifies and loads a program under a number (0: the lowest free one); returns it.

        Verification runs in an executor; the old program, if any, stays until the new one is in
        force, and stays if it is refused. Raises BridgeError: "OFPFMFC_TABLE_FULL" beyond a quota
        (programs, memory of maps), else "OFPBRC_EPERM"; its cause is what the core said.
        """
        if number == 0:
            taken = self._origins.keys() | self._pending
            number = next(n for n in range(1, 65537) if n not in taken)
        if not 0 < number <= 65535:
            raise BridgeError(f"there is no program number {number}", "OFPBMC_BAD_VALUE")
        if number in self._pending:
            raise BridgeError(f"program {number} is being loaded", "OFPBRC_EPERM")
        if create_only and number in self._origins:
            raise BridgeError(f"program {number} is loaded already", "OFPBRC_EPERM")
        if len(self._pending) >= self.max_uploads:
            raise BridgeError(
                f"{self.max_uploads} programs are being loaded already", "OFPBRC_EPERM"
            )
        self._pending.add(number)
        try:
            load = partial(self.datapath.load_program, number, elf, keep_maps=keep_maps)
            loading = asyncio.get_running_loop().run_in_executor(None, load)
            self._loads.add(loading)
            loading.add_done_callback(self._loads.discard)
            await asyncio.shield(loading)  # C goes on if whoever asked for it is gone
        except OkoError as exc:
            over = isinstance(exc, CoreError) and exc.code in QUOTA_CODES
            name = "OFPFMFC_TABLE_FULL" if over else "OFPBRC_EPERM"
            raise BridgeError(str(exc), name, hint=exc.hint) from exc
        finally:
            self._pending.discard(number)
        digest = hashlib.sha256(elf).hexdigest()
        self._origins[number] = _Origin(owner, time.time(), elf, digest)
        if self.state is not None:
            self.state.loaded(number, elf, digest, keep_maps, owner)
        return number

    async def settle(self) -> None:
        """Waits until no program is being loaded: before that the datapath must not be closed."""
        await asyncio.gather(*self._loads, return_exceptions=True)

    def restore_program(
        self, number: int, elf: bytes, keep_maps: bool, owner: str, at_ns: int
    ) -> None:
        """Loads a program again that was loaded before a restart."""
        self.datapath.load_program(number, elf, keep_maps=keep_maps)
        digest = hashlib.sha256(elf).hexdigest()
        self._origins[number] = _Origin(owner, at_ns / 1e9, elf, digest)

    def unload_program(self, number: int, *, force: bool = False) -> None:
        """Unloads a program; force: flows that use it go too."""
        try:
            self.datapath.unload_program(number, force=force)
        except CoreError as exc:
            name = "OFPBRC_EPERM" if number in self._origins else "OFPBMC_BAD_VALUE"
            raise BridgeError(str(exc), name) from None
        self._origins.pop(number, None)
        if self.state is not None:
            self.state.unloaded(number, force)

    def programs(self) -> list[LoadedProgram]:
        """All programs in rising number."""
        found = []
        for stats in self.datapath.programs():
            origin = self._origins.get(stats.number)
            if origin is None:
                continue
            spec = self.datapath.program_spec(stats.number)
            found.append(
                LoadedProgram(
                    number=stats.number,
                    name=stats.name,
                    owner=origin.owner,
                    loaded_at=origin.loaded_at,
                    sha256=origin.sha256,
                    size=len(origin.elf),
                    n_insns=len(spec.insns),
                    maps=tuple(m.name for m in spec.maps),
                    stats=stats,
                )
            )
        return found

    def maps(self, number: int) -> Maps:
        """The maps of a loaded program. BridgeError when it is not loaded."""
        try:
            return self.datapath.maps(number)
        except OkoError as exc:
            raise BridgeError(str(exc), "OFPBMC_BAD_VALUE") from None

    def map(self, number: int, name: str | int) -> Map:
        """A map by name or number."""
        try:
            return self.maps(number).find(name)
        except BridgeError:
            raise
        except OkoError as exc:
            raise BridgeError(str(exc), "OFPBMC_BAD_VALUE") from None

    def change_map(
        self,
        number: int,
        name: str | int,
        operation: str,
        entries: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Changes a map's entries, and keeps that: "set" (key, value); "delete" (key, unused);
        "add" (item, unused), for sketches; "clear"; "replace", as update_map(). BridgeError or
        MapError; entries before the one that failed stay changed."""
        found = self.map(number, name)
        done: list[tuple[bytes, bytes]] = []
        try:
            if operation == "clear":
                found.clear()
            elif operation == "replace":
                self.datapath.replace_map(number, found.number, entries)
                done, entries = list(entries), ()
            for key, value in entries:
                if operation == "set":
                    found[key] = value
                elif operation == "delete":
                    del found[key]
                else:
                    found.add(key)
                done.append((key, value))
        finally:
            if self.state is not None and (done or operation == "clear"):
                self.state.map_changed(number, found.number, operation, done)

    def update_map(
        self,
        number: int,
        name: str | int,
        entries: Sequence[tuple[bytes, bytes]],
        sizes: tuple[int, int],
        *,
        may_exist: bool = True,
        must_exist: bool = False,
        replace: bool = False,
    ) -> tuple[int, int]:
        """Sets entries, all or (BridgeError) none; replace: these are all that there shall be, as
        by one store: packets see the old or the new contents. sizes: of a key and a value, as the
        caller has them. Returns the map's number and how many entries were set."""
        found = self.map(number, name)
        try:
            map_changes.check_sizes(found, entries, *sizes)
            map_changes.check_presence(found, entries, may_exist=may_exist, must_exist=must_exist)
            if replace:
                self.datapath.replace_map(number, found.number, entries)
            else:
                map_changes.update(found, entries)
        except OkoError as exc:
            over = isinstance(exc, CoreError) and exc.code in QUOTA_CODES
            name = "OFPFMFC_TABLE_FULL" if over else "OFPBRC_EPERM"
            raise BridgeError(str(exc), name, hint=exc.hint) from None
        if self.state is not None:
            sketch = found.spec.type in map_changes.SKETCHES
            operation = "replace" if replace else "add" if sketch else "set"
            self.state.map_changed(number, found.number, operation, entries)
        return found.number, len(entries)

    def delete_keys(
        self, number: int, name: str | int, keys: Sequence[bytes], key_size: int
    ) -> tuple[int, int]:
        """Removes entries, all or (BridgeError) none. Returns the map's number and how many."""
        found = self.map(number, name)
        entries = [(key, b"") for key in keys]
        try:
            map_changes.check_sizes(found, entries, key_size, None)
            map_changes.delete(found, keys)
        except OkoError as exc:
            raise BridgeError(str(exc), "OFPBRC_EPERM") from None
        if self.state is not None:
            self.state.map_changed(number, found.number, "delete", entries)
        return found.number, len(keys)
