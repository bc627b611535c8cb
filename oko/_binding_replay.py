"""The replay engine and pcap writers of the C core: handles, and plain numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ._binding import Handle, _string
from ._binding_capture import Capture
from ._oko import ffi, lib
from .errors import CaptureError, CoreError

MAX_WORKERS = 64


class Spread(IntEnum):
    """Which worker gets a packet: enum oko_spread."""

    ADDR = 0
    FIVE_TUPLE = 1
    SRC = 2
    DST = 3
    PORT = 4


class Pace(IntEnum):
    """When packets are handed on: enum oko_pace."""

    MAX = 0
    PPS = 1
    BITS = 2
    REALTIME = 3


class Step(IntEnum):
    """What a slice ended with: enum oko_replay_result."""

    DONE = 0
    MORE = 1
    REWIND = 2


@dataclass(frozen=True)
class Status:
    """struct oko_replay_status."""

    packets: int
    bytes: int
    loops: int
    loaded: int
    first_ns: int
    last_ns: int
    run_ns: int
    per_round: int
    copied: bool


class Writer(Handle):
    """A pcap file being written to a file descriptor that stays the caller's.

    Raises CoreError, with the system's reason, when the header cannot be written.
    """

    _what = "writer"

    def __init__(self, fd: int, nanoseconds: bool, n_workers: int) -> None:
        out = ffi.new("struct oko_writer **")
        error = ffi.new("struct oko_error *")
        _check(lib.oko_writer_new(fd, nanoseconds, n_workers, out, error), error)
        super().__init__(out[0], lib.oko_writer_free)

    def flush(self) -> None:
        """Writes out what is buffered; CoreError if the file lacks packets."""
        error = ffi.new("struct oko_error *")
        _check(lib.oko_writer_flush(self._ptr, error), error)


def add_pcap_port(dp: Any, number: int, name: str, writer: Writer) -> None:
    """A port of the datapath (the binding's handle) that writes what leaves through it."""
    code = lib.oko_dp_port_add_pcap(dp._ptr, number, name.encode()[:31], writer._ptr)
    if code < 0:
        _check(code, None)


class Replay(Handle):
    """Captures on their way through a datapath: struct oko_replay.

    The datapath's handle, captures and writers must stay open until it is closed.
    """

    _what = "replay"

    def __init__(
        self,
        dp: Any,
        sources: Sequence[tuple[Capture, int]],
        writers: Sequence[Writer],
        *,
        n_workers: int = 1,
        spread: Spread = Spread.ADDR,
        pace: Pace = Pace.MAX,
        rate: float = 0.0,
        burst: int = 0,
        loops: int = 1,
        duration_ns: int = 0,
        max_packets: int = 0,
        preload: bool = False,
    ) -> None:
        opts = ffi.new(
            "struct oko_replay_opts *",
            {
                "n_workers": n_workers,
                "spread": spread,
                "pace": pace,
                "burst": burst,
                "rate": rate,
                "loops": loops,
                "duration_ns": duration_ns,
                "max_packets": max_packets,
                "preload": preload,
            },
        )
        records = ffi.new("struct oko_replay_source[]", max(1, len(sources)))
        for record, (capture, in_port) in zip(records, sources, strict=False):
            record.capture = capture._ptr
            record.in_port = in_port
        pointers = ffi.new("struct oko_writer *[]", [w._ptr for w in writers] or 1)
        out = ffi.new("struct oko_replay **")
        self._error = ffi.new("struct oko_error *")
        code = lib.oko_replay_new(
            dp._ptr, opts, records, len(sources), pointers, len(writers), out, self._error
        )
        _check(code, self._error)
        super().__init__(out[0], lib.oko_replay_free)
        self._status = ffi.new("struct oko_replay_status *")
        self._kept = (dp, [capture for capture, _ in sources], list(writers))

    def run(self, slice_ns: int) -> Step:
        """Goes on for about slice_ns; CoreError when a file cannot be written."""
        code = lib.oko_replay_run(self._ptr, slice_ns, self._error)
        _check(code, self._error)
        return Step(code)

    def rewind(self, captures: Sequence[Capture]) -> None:
        """The same captures opened anew, after Step.REWIND."""
        pointers = ffi.new("struct oko_capture *[]", [c._ptr for c in captures])
        _check(lib.oko_replay_rewind(self._ptr, pointers), None)
        self._kept = (self._kept[0], list(captures), self._kept[2])

    def source_error(self, index: int) -> CaptureError | None:
        """Why a source ended early, or None."""
        if lib.oko_replay_source_error(self._ptr, index, self._error) == 0:
            return None
        return CaptureError(_string(self._error.reason), _string(self._error.hint))

    @property
    def status(self) -> Status:
        """How far it has come."""
        s = self._status
        lib.oko_replay_status(self._ptr, s)
        return Status(
            int(s.packets),
            int(s.bytes),
            int(s.loops),
            int(s.loaded),
            int(s.first_ns),
            int(s.last_ns),
            int(s.run_ns),
            int(s.per_round),
            bool(s.copied),
        )


def drop_name(reason: int) -> str:
    """enum oko_drop in words."""
    name = lib.oko_drop_name(reason)
    return _string(name) if name != ffi.NULL else str(reason)


def _check(code: int, error: Any) -> None:
    if code < 0:
        reason = _string(error.reason) if error is not None else ""
        errno = int(error.sys_errno) if error is not None else 0
        hint = _string(error.hint) if error is not None else ""
        raise CoreError(reason or f"error {code}", code, hint, errno)
