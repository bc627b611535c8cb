"""What packets change, saved every few seconds: contents of maps, programs' data, idle times.

    DIR/<bridge>/maps    contents of all maps, and of the programs' .data and .bss
    DIR/<bridge>/idle    how long flows with an idle timeout have been idle

Each file is replaced as a whole and says after which record of the journal it was taken:

    magic, u32 CRC-32 of the rest, u32 length of the head, head (JSON), then what the head lists

A map is kept as the core dumps it, sketches (mostly zeroes) compressed; it is put back where a
program of the same object is. A flow is known by a digest of its identity. Time during which the
switch was down does not count as idle: nothing could use the flow.

A file that is damaged is set aside, with a line in the log, and what it would have restored begins
anew. Thread-safety: functions of their arguments; saving runs in an executor beside forwarding
threads, so each entry is whole, and what changes meanwhile may be in it or not. A count-min item
that a controller adds in that moment may be counted once more after a restart.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oko.errors import OkoError
from oko.model import compile as records
from oko.model.flow import Flow
from oko.switch import journal, log
from oko.switch.map_changes import SKETCHES

if TYPE_CHECKING:
    from oko.switch.bridge import Bridge

logger = log.logger("state")

MAPS, IDLE = b"oko maps 2\n", b"oko idle 1\n"
_FRAME = struct.Struct(">II")
_IDENTITY = struct.Struct(">HHI")
_AGE = struct.Struct(">8sQ")


def _write(path: Path, magic: bytes, head: dict[str, Any], blobs: Iterable[bytes]) -> None:
    start = json.dumps(head).encode()
    rest = b"".join([start, *blobs])
    frame = _FRAME.pack(zlib.crc32(rest), len(start))
    journal.write_whole(path, [magic, frame, rest])


def _read(path: Path, magic: bytes, what: str) -> tuple[dict[str, Any], bytes] | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    at = len(magic) + _FRAME.size
    try:
        if not data.startswith(magic):
            raise ValueError
        checksum, length = _FRAME.unpack_from(data, len(magic))
        if zlib.crc32(data[at:]) != checksum:
            raise ValueError
        return json.loads(data[at : at + length]), data[at + length :]
    except (ValueError, struct.error):
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        path.replace(aside)
        logger.error("%s is damaged; it is now %s, %s", path, aside.name, what)
        return None


# ---------------------------------------------------------------- maps and data


class Contents:
    """Maps and data sections, as they are or as a file has them."""

    def __init__(self, bridge: Bridge) -> None:
        """What there is to save; taken on the control thread."""
        self._bridge = bridge
        self._programs = [(p.number, p.sha256) for p in bridge.programs()]
        self._maps = [
            (number, sha, found)
            for number, sha in self._programs
            for found in bridge.maps(number).values()
        ]

    def save(self, path: Path, number: int) -> None:
        """Writes the file: these are the contents after the journal's record of that number."""
        index: list[dict[str, Any]] = []
        blobs = []
        for program, sha, found in self._maps:
            packed = found.spec.type in SKETCHES
            blob = zlib.compress(found.dump(), 1) if packed else found.dump()
            index.append(
                {"p": program, "sha": sha, "m": found.number, "n": len(blob), "packed": packed}
            )
            blobs.append(blob)
        for program, sha in self._programs:
            try:
                sections = self._bridge.datapath.data(program)
            except OkoError:
                continue  # unloaded meanwhile
            for section, contents in sections.items():
                index.append({"p": program, "sha": sha, "d": section, "n": len(contents)})
                blobs.append(contents)
        head = {"s": number, "workers": self._bridge.datapath.workers, "parts": index}
        _write(path, MAPS, head, blobs)


class SavedContents:
    """What a file of maps has. number: of the last record that is in it."""

    def __init__(self, head: dict[str, Any], blob: bytes) -> None:
        self.number: int = head["s"]
        self._head = head
        self._blob = blob

    def put_back(self, bridge: Bridge) -> None:
        """Into the programs that are there; what does not fit is logged and left out."""
        shas = {p.number: p.sha256 for p in bridge.programs()}
        for part, contents in self._parts():
            if shas.get(part["p"]) != part["sha"]:
                continue
            try:
                if "d" in part:
                    bridge.datapath.set_data(part["p"], {part["d"]: contents})
                else:
                    dump = zlib.decompress(contents) if part["packed"] else contents
                    bridge.map(part["p"], part["m"]).restore(dump, self._head["workers"])
            except (OkoError, zlib.error) as exc:
                logger.error("program %d: not restored: %s", part["p"], exc)

    def _parts(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        at = 0
        for part in self._head["parts"]:
            yield part, self._blob[at : at + part["n"]]
            at += part["n"]


def read_contents(path: Path) -> SavedContents | None:
    """What was saved, if anything."""
    found = _read(path, MAPS, "maps begin empty")
    return None if found is None else SavedContents(*found)


# ---------------------------------------------------------------- idle times


def _identity(table: int, priority: int, filter_prog: int, match: bytes) -> bytes:
    head = _IDENTITY.pack(table, priority, filter_prog)
    return hashlib.blake2b(head + match, digest_size=8).digest()


def save_idle(bridge: Bridge, path: Path, number: int) -> int:
    """Writes how long flows with an idle timeout have been idle; returns how many there are."""
    now = bridge.now
    ages = []
    for info, match, _ in bridge.datapath.raw_flows():
        table, created, modified, used = info[1], *info[6:9]
        priority, idle, filter_prog = info[9], info[11], info[13]
        if idle:
            since = max(created, modified, used)
            ages.append(
                _AGE.pack(_identity(table, priority, filter_prog, match), max(0, now - since))
            )
    if ages or path.exists():
        _write(path, IDLE, {"s": number, "n": len(ages)}, ages)
    return len(ages)


class SavedIdle:
    """Idle times by flow. number: of the last record that is in it."""

    def __init__(self, head: dict[str, Any], blob: bytes) -> None:
        self.number: int = head["s"]
        self._ages = dict(_AGE.iter_unpack(blob))

    def of(self, flow: Flow) -> int:
        """How long a flow had been idle, ns; 0 when that is not known."""
        if not flow.idle_timeout:
            return 0
        match = records.compile_match(flow.match)
        age = self._ages.get(_identity(flow.table, flow.priority, flow.filter_prog, match), 0)
        return int(age)


def read_idle(path: Path) -> SavedIdle | None:
    """What was saved, if anything."""
    found = _read(path, IDLE, "idle timeouts begin anew")
    return None if found is None else SavedIdle(*found)


def ages_of(idle: SavedIdle | None, number: int, flows: Sequence[Flow | None]) -> list[int]:
    """Idle times of flows that record `number` adds (None: not a flow)."""
    if idle is None or number > idle.number:
        return []
    return [0 if flow is None else idle.of(flow) for flow in flows]
