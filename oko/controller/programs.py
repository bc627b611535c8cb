"""Filter programs of a switch, from an os-ken application.

    programs = FilterPrograms(datapath)
    number = programs.load("syn_flood.c")
    programs.update(number, "blocked", {"ip:10.0.0.1": "u32:1"})
    programs.subscribe(number, interval=1.0)               # EventOkoSendMaps, once a second

Each call sends one of oko's messages and waits for what answers it; whatever the switch refuses is
Refused with the switch's words (for a program the verifier's, with the line of the source). Waiting
holds up the application that waits, and only that one: calls that may take long are best made in a
thread of their own (`hub.spawn`), or with start_load(), which does not wait.

Thread-safety: any thread of os-ken's hub, several at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oko.bpf import layouts, toolchain, typed
from oko.bpf.btf import Layout
from oko.bpf.typed import Value
from oko.errors import OkoError
from oko.openflow import extension
from oko.openflow.extension import MapEntry, MapName, ProgramEntry

from .exchange import Exchange, NoAnswer, Refused, exchange_of

__all__ = ["FilterPrograms", "NoAnswer", "Refused"]

Source = str | Path | bytes
"""A program: the path of an object (.o) or of C source (.c), or the bytes of an object."""


class FilterPrograms:
    """The programs of one connected switch. timeout: how long a call waits, in seconds.

    Errors of every call: Refused (the switch says no), NoAnswer (the connection ended, or the
    switch did not answer in time), OkoError (what was given makes no sense).
    """

    def __init__(self, datapath: Any, timeout: float = 10.0) -> None:
        self.datapath = datapath
        self.timeout = timeout
        self._exchange: Exchange = exchange_of(datapath)

    # ---------------------------------------------------------------- programs

    def load(self, source: Source, number: int = 0, *, create_only: bool = False) -> int:
        """Loads a program and returns its number, which flows name as filter_prog.

        number: 0 lets the switch pick one. A program that has the number already is replaced, its
        flows staying; with create_only that is refused.
        """
        chunks = _chunks(source, number, create_only)
        self._exchange.greet(self.timeout)
        return self._exchange.ask(chunks, extension.Loaded, self.timeout, loads=True).program

    def start_load(self, source: Source, number: int = 0, *, create_only: bool = False) -> int:
        """As load() without waiting: EventOkoProgramLoaded or EventOkoProgramRefused has the result
        and the xid that is returned here."""
        chunks = _chunks(source, number, create_only)
        self._exchange.announce()
        return self._exchange.start_load(chunks)

    def unload(self, number: int, *, force: bool = False) -> None:
        """Takes a program away. force: also while flows use it; they go with it."""
        asked = extension.UnloadProgram(number, extension.FORCE if force else 0)
        self._exchange.greet(self.timeout)
        self._exchange.ask([asked], extension.Loaded, self.timeout)

    def programs(self, number: int = 0) -> list[ProgramEntry]:
        """What is loaded: owner, SHA-256, counters, maps. number: only this one."""
        exchange = self._exchange
        exchange.greet(self.timeout)
        replies = exchange.ask_multipart(
            lambda xid: extension.encode_show_request(exchange.version, number, xid), self.timeout
        )
        found = []
        for reply in replies:
            found += extension.decode_programs(exchange.version, reply)
        return found

    # ---------------------------------------------------------------- maps

    def dump(self, program: int, map: int | str) -> dict[bytes, bytes]:
        """The entries of a map, given by number or name."""
        exchange, name = self._exchange, _map_name(program, map)
        exchange.greet(self.timeout)
        replies = exchange.ask_multipart(
            lambda xid: extension.encode_dump_request(exchange.version, name, xid), self.timeout
        )
        found: dict[bytes, bytes] = {}
        for reply in replies:
            found.update(extension.decode_dump(exchange.version, reply).entries)
        return found

    def update(
        self,
        program: int,
        map: int | str,
        entries: Mapping[Any, Value] | Iterable[tuple[Value, Value]],
        *,
        may_exist: bool = True,
        must_exist: bool = False,
        replace: bool = False,
    ) -> int:
        """Writes entries, all or none, and returns how many.

        Keys and values are bytes, or what oko's command lines accept: "ip:10.0.0.1", "u32:1", 5,
        and structs by field: {"src": "ip:10.0.0.1", "port": 53}, where the program's object has
        type information.
        replace: these are all entries that the map shall have.
        """
        pairs = list(entries.items() if isinstance(entries, Mapping) else entries)
        if must_exist and not may_exist:
            raise OkoError("an entry that must exist may not be forbidden to exist")
        flags = extension.EXIST if must_exist else 0 if may_exist else extension.NO_EXIST
        flags |= extension.REPLACE if replace else 0
        self._exchange.greet(self.timeout)
        if not pairs and not replace:
            return 0
        raw, key_size, value_size = self._encoded(program, map, pairs)
        chunks = extension.update_chunks(_map_name(program, map), key_size, value_size, raw, flags)
        return self._exchange.ask(chunks, extension.Updated, self.timeout).n

    def delete(self, program: int, map: int | str, keys: Iterable[Value]) -> int:
        """Takes keys out of a map, all or none, and returns how many. Refused: one is not there."""
        asked = list(keys)
        self._exchange.greet(self.timeout)
        if not asked:
            return 0
        raw, key_size, _ = self._encoded(program, map, [(key, b"") for key in asked])
        chunks = extension.delete_chunks(_map_name(program, map), key_size, [key for key, _ in raw])
        return self._exchange.ask(chunks, extension.Updated, self.timeout).n

    def _encoded(
        self, program: int, map: int | str, pairs: Sequence[tuple[Value, Value]]
    ) -> tuple[list[tuple[bytes, bytes]], int, int]:
        """(entries as bytes, size of a key, size of a value)."""
        raw = [(k, v) for k, v in pairs if isinstance(k, bytes) and isinstance(v, bytes)]
        if raw and len(raw) == len(pairs):  # the sizes are those of the first, the switch checks
            key_size, value_size = len(raw[0][0]), len(raw[0][1])
            for number, (key, value) in enumerate(raw):
                if (len(key), len(value)) != (key_size, value_size):
                    raise OkoError(f"entry {number} has other sizes than entry 0")
            return raw, key_size, value_size
        entry = self._map(program, map)
        key_type, value_type = self._types(program, entry)
        key_what, value_what = f"key of map {entry.name!r}", f"value of map {entry.name!r}"
        encoded = [
            (
                typed.parse(key, entry.key_size, key_type, key_what),
                b""
                if value == b""
                else typed.parse(value, entry.value_size, value_type, value_what),
            )
            for key, value in pairs
        ]
        return encoded, entry.key_size, entry.value_size

    def _types(self, program: int, entry: MapEntry) -> tuple[Layout | None, Layout | None]:
        """The C types of keys and values, where the switch tells them."""
        exchange, name = self._exchange, MapName(program, entry.number)
        try:
            replies = exchange.ask_multipart(
                lambda xid: extension.encode_types_request(exchange.version, name, xid),
                self.timeout,
            )
        except Refused as exc:
            if exc.name != "OFPBRC_BAD_SUBTYPE":
                raise
            return None, None  # a switch that cannot tell
        text = b"".join(extension.decode_types(exchange.version, reply) for reply in replies)
        return layouts.decode(text, entry.key_size, entry.value_size)

    def _map(self, program: int, map: int | str) -> MapEntry:
        """What the switch tells of a map; Refused: there is no such one."""
        for shown in self.programs(program):
            for entry in shown.maps:
                if map in (entry.number, entry.name):
                    return entry
            there = ", ".join(f"{entry.number} ({entry.name})" for entry in shown.maps)
            raise OkoError(f"program {program} has no map {map!r}", f"it has: {there or 'none'}")
        raise OkoError(f"program {program} is not loaded")

    # ---------------------------------------------------------------- subscriptions

    def subscribe(
        self, program: int = 0, maps: Sequence[int] = (), *, interval: float = 0.0
    ) -> None:
        """Asks for EventOkoSendMaps: when a packet hits a flow whose actions have send_maps and, if
        interval is given, every so many seconds (0.01 at least). program 0: any; no maps: all."""
        ms = round(interval * 1000)
        if ms and ms < 10:
            raise OkoError("an interval is at least 0.01 s")
        self._confirm(extension.Subscribe(program, ms, tuple(maps)))

    def unsubscribe(self, program: int = 0) -> None:
        """Ends that."""
        self._confirm(extension.Subscribe(program, flags=extension.UNSUBSCRIBE))

    def _confirm(self, message: extension.Message) -> None:
        self._exchange.greet(self.timeout)
        self._exchange.confirm(message, self.timeout)


def _chunks(source: Source, number: int, create_only: bool) -> Iterator[extension.LoadProgram]:
    """A program as messages; OkoError: it cannot be read or compiled."""
    if not 0 <= number <= 0xFFFF:
        raise OkoError(f"program {number}: numbers are from 1 to 65535")
    flags = extension.CREATE_ONLY if create_only else 0
    return extension.load_chunks(number, read_program(source), flags)


def read_program(source: Source) -> bytes:
    """The object; OkoError: it cannot be read or compiled."""
    if isinstance(source, bytes):
        return source
    path = Path(source)
    if path.suffix == ".c":
        return toolchain.compile_source(path)
    try:
        return path.read_bytes()
    except OSError as exc:
        raise OkoError(f"{path}: {exc.strerror}") from None


def _map_name(program: int, map: int | str) -> MapName:
    return MapName(program, name=map) if isinstance(map, str) else MapName(program, map)
