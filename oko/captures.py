"""Capture files as the C core's reader wants them: a file descriptor with pcap or pcapng bytes.

A plain file is handed over as it is. gzip and zstd are recognised by their first bytes and
decompressed by a thread, in large chunks, into a pipe that the core reads; so memory stays bounded
and Python never sees a packet. "-" is standard input.

    with CaptureFile("big.pcap.gz") as file:
        for record in file.capture: ...
        if file.damage: ...     # the compressed data broke off

Thread-safety: a CaptureFile belongs to one thread; its decompressor is its own business.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
import threading
import zlib
from collections.abc import Iterator
from typing import Any

from ._binding_capture import Capture
from .errors import CaptureError

CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4"}


class CaptureFile:
    """An open capture file; `path` may be "-" for standard input.

    Raises CaptureError, with the file's name, when it cannot be opened or is no capture.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.damage = ""
        """What is wrong with the compressed data, once the reader has come to the end."""
        self.size = 0
        """Bytes of the file, 0 when it is no plain file."""
        self._fd = -1
        self._pipe = -1
        self._wake = (-1, -1)  # a pipe that ends the thread's waiting
        self._thread: threading.Thread | None = None
        self._position = 0
        try:
            self._open()
        except OSError as exc:
            self.close()
            raise CaptureError(f"{self.name}: {exc.strerror or exc}") from None
        except CaptureError as exc:
            damage = self._stop() or self.damage
            self.close()
            raise CaptureError(f"{self.name}: {damage or exc}", exc.hint) from None

    @property
    def name(self) -> str:
        """For messages."""
        return "standard input" if self.path == "-" else self.path

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._fd < 0

    @property
    def position(self) -> int:
        """Bytes of the file (compressed, if it is) taken in so far: for progress."""
        if self._thread is not None:
            return self._position
        return self.capture.consumed

    def _open(self) -> None:
        self._fd = (
            os.dup(sys.stdin.fileno()) if self.path == "-" else os.open(self.path, os.O_RDONLY)
        )
        with contextlib.suppress(OSError):
            self.size = os.fstat(self._fd).st_size
        try:
            head = os.pread(self._fd, 6, 0)
            seekable = True
        except OSError:  # a pipe: what is read cannot be put back, so a thread passes it on
            head = _read_up_to(self._fd, 6)
            seekable = False
        for magic, kind in _OTHERS.items():
            if head.startswith(magic):
                raise CaptureError(
                    f"compressed with {kind}, which is not read: only gzip and zstd are",
                    "decompress it first",
                )
        pieces = self._pieces(b"" if seekable else head)
        if head.startswith(_GZIP):
            self._decompress(_gunzip(pieces))
        elif head.startswith(_ZSTD):
            self._decompress(_unzstd(pieces))
        elif not seekable:
            self._decompress(pieces)
        self.capture = Capture(self._pipe if self._thread else self._fd)

    def _pieces(self, head: bytes) -> Iterator[bytes]:
        """head, then what the file has, until its end or _stop()."""
        if head:
            yield head
        both = select.poll()
        both.register(self._fd, select.POLLIN)
        both.register(self._wake[0], select.POLLIN)
        while True:
            if any(fd == self._wake[0] for fd, _ in both.poll()):
                return
            piece = os.read(self._fd, CHUNK)
            if not piece:
                return
            self._position += len(piece)
            yield piece

    def _decompress(self, chunks: Iterator[bytes]) -> None:
        self._wake = os.pipe()
        self._pipe, writer = os.pipe()
        with contextlib.suppress(OSError):  # over the system's limit: a smaller one will do
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, CHUNK)
        self._thread = threading.Thread(
            target=self._feed, args=(chunks, writer), name="decompress", daemon=True
        )
        self._thread.start()

    def _feed(self, chunks: Iterator[bytes], writer: int) -> None:
        """The thread: pumps chunks into the pipe until the end, damage, or nobody listens."""
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(writer, view) :]
        except BrokenPipeError:
            pass
        except (CaptureError, OSError) as exc:
            self.damage = str(exc)
        finally:
            os.close(writer)

    def _stop(self) -> str:
        """Ends the thread, wherever it waits; what it found wrong."""
        if self._thread is not None:
            os.close(self._pipe)
            os.write(self._wake[1], b"x")
            self._thread.join()
            os.close(self._wake[0])
            os.close(self._wake[1])
            self._thread = None
        return self.damage

    def close(self) -> None:
        """Closes the capture and its files; calling it again does nothing."""
        capture = self.__dict__.get("capture")
        if capture is not None:
            capture.close()
        self._stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> CaptureFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _read_up_to(fd: int, n: int) -> bytes:
    data = b""
    while len(data) < n and (more := os.read(fd, n - len(data))):
        data += more
    return data


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 1952, any number of members; zeroes after the last one are padding."""
    position = 0
    member: Any = zlib.decompressobj(wbits=31)
    begun = False
    for piece in pieces:
        data = piece
        while data:
            if member.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, begun = zlib.decompressobj(wbits=31), False
            try:
                out = member.decompress(data, CHUNK)
            except zlib.error as exc:
                raise CaptureError(
                    f"the gzip data is corrupt, somewhere after byte {position:,}: "
                    f"{str(exc).rpartition(': ')[2]}"
                ) from None
            begun = True
            if out:
                yield out
            data = member.unused_data if member.eof else member.unconsumed_tail
        position += len(piece)
    while begun and not member.eof:
        out = member.decompress(member.unconsumed_tail, CHUNK)
        if not out:
            raise CaptureError(f"the gzip data is cut off after {position:,} bytes")
        yield out


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 8878, any number of frames."""
    import zstandard

    position = 0
    frame: Any = zstandard.ZstdDecompressor().decompressobj()
    begun = False
    for piece in pieces:
        # A few bytes may stand for 128 KiB each time, so little is handed in at once.
        for start in range(0, len(piece), 8192):
            data = piece[start : start + 8192]
            while data:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                try:
                    out = frame.decompress(data)
                except zstandard.ZstdError as exc:
                    raise CaptureError(
                        f"the zstd data is corrupt, somewhere after byte {position:,}: {exc}"
                    ) from None
                begun = True
                if out:
                    yield out
                data = frame.unused_data if frame.eof else b""
        position += len(piece)
    if begun and not frame.eof:
        raise CaptureError(f"the zstd data is cut off after {position:,} bytes")
