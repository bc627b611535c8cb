"""An append-only file of checksummed records: what survives kill -9 and a power cut.

    header "oko journal 1\\n", then records: u32 length, u32 CRC-32 of the body, u32 CRC-32 of these
    eight bytes (all big-endian), body

append() hands the record to the kernel before it returns, so it survives the process; sync()
hands it to the disk. A record that was only partly written when the power went is the file's last;
it is cut off when the file is opened again. A record that is wrong but not the last means that the
file is damaged: it is set aside under another name, and what stands before the damage is used.

Thread-safety: append and replace by one thread; sync() may run in another.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from oko.switch import log

logger = log.logger("state")

HEADER = b"oko journal 1\n"
_HEAD = struct.Struct(">II")
_CHECK = struct.Struct(">I")
MAX_RECORD = 1 << 28


def pack(record: Any) -> bytes:
    """A record as it stands in the file."""
    body = json.dumps(record, separators=(",", ":")).encode()
    head = _HEAD.pack(len(body), zlib.crc32(body))
    return head + _CHECK.pack(zlib.crc32(head)) + body


def fsync_directory(path: Path) -> None:
    """Makes a rename in it last."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Replaces a file as a whole: after a crash it is the old or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    fsync_directory(path.parent)


class Journal:
    """The file. size: its bytes; broken: an append failed, nothing is written any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken = False
        self.records = self._recover()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size
        self.dirty = False

    def _recover(self) -> list[Any]:
        """What the file holds, after it was made good."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            write_whole(self.path, [HEADER])
            return []
        records: list[Any] = []
        good = len(HEADER)
        reason = "" if data.startswith(HEADER) else "it does not begin as one"
        if HEADER.startswith(data):
            reason, data = "", HEADER  # cut off while it was made
            write_whole(self.path, [HEADER])
        while not reason and good < len(data):
            record, end = _read(data, good)
            if record is None:
                if end is None:  # the last one, incomplete
                    logger.warning("%s: %d bytes cut off at the end", self.path, len(data) - good)
                    os.truncate(self.path, good)
                    break
                reason = f"the record at byte {good} is damaged"
                break
            records.append(record[0])
            good = end or good
        if reason:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.replace(aside)
            logger.error(
                "%s is no good: %s; it is now %s, the %d records before that are used",
                self.path, reason, aside.name, len(records),
            )  # fmt: skip
            write_whole(self.path, [HEADER, *map(pack, records)])
        return records

    def append(self, record: Any) -> None:
        """Writes a record; a disk that refuses is logged once."""
        if self.broken:
            return
        data = pack(record)
        try:
            n = os.write(self._fd, data)
            if n != len(data):
                raise OSError(28, "the disk is full")
        except OSError as exc:
            logger.error("%s: %s; state is no longer kept", self.path, exc.strerror)
            self.broken = True
            os.ftruncate(self._fd, self.size)
            return
        self.size += n
        self.dirty = True

    def sync(self) -> None:
        """What was appended is on the disk when this returns."""
        self.dirty = False
        os.fdatasync(self._fd)

    def replace(self, snapshot: Path, since: int) -> None:
        """The snapshot (a whole journal) and what was appended here since that size take this
        file's place."""
        with self.path.open("rb") as old, snapshot.open("ab") as new:
            old.seek(since)
            new.write(old.read())
            new.flush()
            os.fsync(new.fileno())
        snapshot.replace(self.path)
        fsync_directory(self.path.parent)
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size
        self.broken = False

    def close(self) -> None:
        """Syncs and closes it."""
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1


def _read(data: bytes, at: int) -> tuple[tuple[Any] | None, int | None]:
    """((record,), its end); (None, None): incomplete, and the last; (None, at): damaged."""
    start = at + _HEAD.size + _CHECK.size
    rest = memoryview(data)[at:]
    if start > len(data) or not any(rest):  # zeroes: the file system had only made room
        return None, None
    head = data[at : at + _HEAD.size]
    (check,) = _CHECK.unpack_from(data, at + _HEAD.size)
    length, checksum = _HEAD.unpack(head)
    if check != zlib.crc32(head) or length > MAX_RECORD:
        return None, at
    body = data[start : start + length]
    if len(body) < length:
        return None, None
    if zlib.crc32(body) != checksum:
        return None, (None if start + length == len(data) else at)
    try:
        return (json.loads(body),), start + length
    except ValueError:
        return None, at


def snapshot(path: Path, records: Iterator[Any]) -> None:
    """A whole journal of these records."""
    with path.open("wb") as file:
        file.write(HEADER)
        for record in records:
            file.write(pack(record))
