"""Captures read by the C core, record by record: for tools and tests, not for replays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ._binding import Handle, _string
from ._oko import ffi, lib
from .errors import CaptureError


class Record(NamedTuple):
    """One packet of a capture."""

    ns: int
    """Time since 1970, in nanoseconds."""
    wire_len: int
    """Bytes it had on the wire."""
    frame: bytes | None
    """An Ethernet frame; None if the record has more than 65,535 bytes."""


class Capture(Handle):
    """A pcap or pcapng stream, read from a file descriptor that stays the caller's.

    Iterating yields every Record up to the end or the damage; then CaptureError.
    """

    _what = "capture"

    def __init__(self, fd: int, chunk: int = 0) -> None:
        out = ffi.new("struct oko_capture **")
        self._error = ffi.new("struct oko_error *")
        code = lib.OKO_E_BUSY
        while code == lib.OKO_E_BUSY:  # Python's signal handlers run between two calls
            code = lib.oko_capture_open(fd, chunk, out, self._error)
        self._check(code)
        super().__init__(out[0], lib.oko_capture_close)

    def _check(self, code: int) -> None:
        if code < 0:
            raise CaptureError(
                _string(self._error.reason) or "out of memory", _string(self._error.hint)
            )

    def __iter__(self) -> Iterator[Record]:
        record = ffi.new("struct oko_record *")
        while True:
            code = lib.oko_capture_next(self._ptr, record, self._error)
            self._check(code)
            if code == lib.OKO_CAPTURE_END:
                return
            if code == lib.OKO_CAPTURE_REFILL:
                refilled = lib.oko_capture_refill(self._ptr, self._error)
                if refilled != lib.OKO_E_BUSY:
                    self._check(refilled)
                continue
            data = bytes(ffi.buffer(record.data, record.len)) if record.data else None
            yield Record(record.ns, record.wire_len, data)

    @property
    def format(self) -> str:
        """ "pcap" or "pcapng"."""
        return self._info()[0]

    @property
    def adapted(self) -> str:
        """Link type whose records got an Ethernet header so far, or ""."""
        return self._info()[1]

    @property
    def nanoseconds(self) -> bool:
        """Does the capture have times finer than a microsecond?"""
        return self._info()[2]

    @property
    def consumed(self) -> int:
        """Bytes of the stream read and handed out so far."""
        return self._info()[3]

    def _info(self) -> tuple[str, str, bool, int]:
        info = ffi.new("struct oko_capture_info *")
        lib.oko_capture_info(self._ptr, info)
        return (
            _string(info.format),
            _string(info.adapted),
            bool(info.nanoseconds),
            int(info.consumed),
        )
