"""A small blocking OpenFlow client: one connection, requests and their answers.

    with connect("unix:/run/oko/br0.mgmt", (OF10,)) as switch:
        for reply in switch.multipart(encode_multipart(switch.version, 0, MP_DESC)):
            ...

The client numbers the messages it sends (xid) and pairs answers with them. What comes unasked
(packet-ins, port status) goes to `listener`, echo requests are answered on the way. An OFPT_ERROR
becomes RefusedError, with the failed message and the words that an oko switch sends along.

It fails safely: a peer that is silent longer than the timeout, that closes or that sends what is no
OpenFlow is a ConnectionFailed with a reason, never a wait without end.

Left out: reconnecting, several connections at once (oko.agent has that). Thread-safety: one thread
per connection.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oko.errors import OkoError
from oko.openflow.common import (
    ECHO_REPLY,
    ECHO_REQUEST,
    ERROR,
    EXPERIMENTER,
    HEADER,
    HEADER_SIZE,
    HELLO,
    OKO,
    REPLY_MORE,
    TYPES,
    VERSION_NAMES,
    VERSIONS,
    decode_error,
    experimenter_message,
    message,
)

if TYPE_CHECKING:
    from oko.openflow.extension import ErrorText

DEFAULT_PORT = 6653
CHUNK = 1 << 16
_MOST_UNANSWERED = 64


class ConnectionFailed(OkoError):
    """There is no connection, or no longer."""


class SilenceError(ConnectionFailed):
    """The peer did not answer in time."""


class NoVersionError(ConnectionFailed):
    """The peer speaks none of the versions that were offered."""


class RefusedError(OkoError):
    """The switch answered OFPT_ERROR. name: as in the table of errors; request: the message that
    failed, as far as it is known; reason: the switch's own words, or ""."""

    def __init__(
        self, version: int, xid: int, name: str, request: bytes, reason: str = "", data: bytes = b""
    ) -> None:
        super().__init__(f"the switch answers {name}" + (f": {reason}" if reason else ""))
        self.version = version
        self.xid = xid
        self.name = name
        self.request = request
        self.reason = reason
        self.data = data


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files for ssl: targets. ca "none": the peer's certificate is not checked."""

    key: str = ""
    certificate: str = ""
    ca: str = ""


# ---------------------------------------------------------------- opening


def connect(
    target: str,
    versions: Sequence[int] = VERSIONS,
    *,
    timeout: float | None = 10.0,
    tls: TlsFiles | None = None,
) -> Connection:
    """A connection to tcp:HOST[:PORT], ssl:HOST[:PORT], unix:FILE, or the file's name alone, which
    speaks the highest of the versions that both sides have.

    timeout: seconds of silence to bear, None = any. Raises ConnectionFailed, NoVersionError.
    """
    made = _open(target, timeout, tls or TlsFiles())
    try:
        return Connection(made, versions, target)
    except BaseException:
        made.close()
        raise


def _open(target: str, timeout: float | None, tls: TlsFiles) -> socket.socket:
    kind, colon, rest = target.partition(":")
    try:
        if colon and kind in ("tcp", "ssl"):
            host, port = _host_port(target, rest)
            made = socket.create_connection((host, port), timeout)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _secured(made, tls) if kind == "ssl" else made
        path = rest if kind == "unix" and colon else target
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(timeout)
        try:
            made.connect(path)
        except BaseException:
            made.close()
            raise
        return made
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise ConnectionFailed(f"connecting to {target} ({reason})") from None


def _host_port(target: str, rest: str) -> tuple[str, int]:
    host, port = rest, str(DEFAULT_PORT)
    if rest.startswith("["):
        host, _, after = rest[1:].partition("]")
        port = after.removeprefix(":") or port
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConnectionFailed(f"{target}: not of the form tcp:HOST[:PORT]")
    return host, int(port)


def _secured(plain: socket.socket, tls: TlsFiles) -> socket.socket:
    import ssl  # takes a while, and few need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # certificates of switches carry no host names
    try:
        if tls.ca == "none":
            context.verify_mode = ssl.CERT_NONE
        elif tls.ca:
            context.load_verify_locations(tls.ca)
        else:
            hint = "or --ca-cert=none not to check whom you talk to"
            raise ConnectionFailed("ssl needs --ca-cert", hint)
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None)
        return context.wrap_socket(plain)
    except OSError as exc:  # SSLError is one
        plain.close()
        raise ConnectionFailed(f"ssl: {exc.strerror or exc}") from None


def bridge_target(name: str, run_dirs: Iterable[str], suffix: str = "mgmt") -> str:
    """What a person calls a switch as a target: a bridge's name is looked for in the run
    directories (NAME.mgmt; suffix: or another of its sockets), a socket's path and anything with a
    method stays."""
    kind, colon, _ = name.partition(":")
    if colon and kind in ("tcp", "ssl", "unix"):
        return name
    candidates = [name] if "/" in name else [f"{folder}/{name}.{suffix}" for folder in run_dirs]
    for path in candidates:
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                return f"unix:{path}"
        except OSError:
            continue
    looked = ", ".join(candidates)
    raise ConnectionFailed(f"{name} is not a bridge or a socket", f"looked for {looked}")


# ---------------------------------------------------------------- a connection


class Connection:
    """An OpenFlow connection after its HELLOs. version: what both speak."""

    def __init__(self, sock: socket.socket, versions: Sequence[int], target: str) -> None:
        self.target = target
        self.listener: Callable[[bytes], None] | None = None
        self.sent_bytes = self.received_bytes = 0
        self._socket = sock
        # TLS keeps data that select() does not see.
        self._can_select = type(sock) is socket.socket
        self._xid = 0
        self._buffer = bytearray()
        self._ready: deque[bytes] = deque()
        self._reasons: dict[int, ErrorText] = {}
        self._ignored: set[int] = set()
        self._unanswered: dict[int, bytes] = {}
        self.version = self._greet(tuple(versions))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calling it again does nothing."""
        self._socket.close()

    def fileno(self) -> int:
        """For select()."""
        return self._socket.fileno()

    # ---------------------------------------------------------------- bytes

    def _greet(self, versions: tuple[int, ...]) -> int:
        bits = sum(1 << version for version in versions)
        element = struct.pack("!HHI", 1, 8, bits)
        self._write(message(max(versions), HELLO, self.next_xid(), element))
        hello = self._next()
        if hello[1] == ERROR:
            self._no_version(versions, hello)
        if hello[1] != HELLO:
            raise ConnectionFailed(f"{self.target}: the first message is no HELLO")
        theirs = versions_of(hello)
        common = [v for v in versions if theirs >> v & 1]
        if not common:
            self._no_version(versions, hello)
        return max(common)

    def _no_version(self, versions: tuple[int, ...], answer: bytes) -> None:
        own = ", ".join(VERSION_NAMES[v] for v in versions)
        theirs = versions_of(answer) if answer[1] == HELLO else 0
        names = [VERSION_NAMES.get(v, f"1.{v - 1}") for v in range(32) if theirs >> v & 1]
        has = f"speaks OpenFlow {', '.join(names)}, not" if names else "does not speak OpenFlow"
        raise NoVersionError(f"{self.target} {has} {own}", "choose with -O, such as -O OpenFlow13")

    def _write(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        try:
            if self._can_select:
                self._write_and_read(data)
            else:
                self._socket.sendall(data)
        except TimeoutError:
            raise ConnectionFailed(f"{self.target}: the peer does not read") from None
        except OSError as exc:
            # An error that the peer sent before it closed says more than "broken pipe".
            raise ConnectionFailed(f"{self.target}: {exc.strerror or exc}") from None

    def _write_and_read(self, data: bytes) -> None:
        """Sends, and reads while the peer does not: it may wait for us to read its answers."""
        view, sent = memoryview(data), 0
        seconds = self._socket.gettimeout()
        while sent < len(view):
            readable, writable, _ = select.select([self._socket], [self._socket], [], seconds)
            if writable:
                sent += self._socket.send(view[sent : sent + CHUNK])
            elif readable:
                self._fill()
            else:
                raise TimeoutError

    def _fill(self) -> None:
        """Reads what there is."""
        try:
            chunk = self._socket.recv(CHUNK)
        except TimeoutError:
            raise SilenceError(f"{self.target}: no answer in time") from None
        except OSError as exc:
            raise ConnectionFailed(f"{self.target}: {exc.strerror or exc}") from None
        if not chunk:
            raise ConnectionFailed(f"{self.target}: the peer closed the connection")
        self.received_bytes += len(chunk)
        self._buffer += chunk
        self._cut()

    def _next(self) -> bytes:
        """The next whole message."""
        while not self._ready:
            self._fill()
        return self._ready.popleft()

    def _cut(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= HEADER_SIZE:
            size = buffer[at + 2] << 8 | buffer[at + 3]
            if size < HEADER_SIZE:
                raise ConnectionFailed(f"{self.target}: what the peer sends is no OpenFlow")
            if len(buffer) - at < size:
                break
            self._ready.append(bytes(buffer[at : at + size]))
            at += size
        del buffer[:at]

    # ---------------------------------------------------------------- messages

    def next_xid(self) -> int:
        """A number for the next message."""
        self._xid = self._xid + 1 & 0xFFFFFFFF
        return self._xid

    @property
    def coming_xid(self) -> int:
        """The number that the next message will have."""
        return self._xid + 1 & 0xFFFFFFFF

    def send(self, *messages: bytes, ignore_errors: bool = False) -> int:
        """Sends messages, each under an xid of its own; returns the last one's.

        ignore_errors: a refusal of these is nobody's business. Others are raised by barrier().
        """
        data = []
        xid = 0
        for msg in messages:
            xid = self.next_xid()
            numbered = msg[:4] + xid.to_bytes(4, "big") + msg[8:]
            data.append(numbered)
            if ignore_errors:
                self._ignored.add(xid)
            else:
                self._unanswered[xid] = numbered
        self._write(b"".join(data))
        return xid

    def receive(self) -> bytes:
        """The next message that is neither an echo request nor an error to be ignored."""
        while True:
            msg = self._next()
            kind = msg[1]
            if kind == ECHO_REQUEST:
                xid = int.from_bytes(msg[4:8], "big")
                self._write(message(self.version, ECHO_REPLY, xid, msg[8:]))
            elif not self._is_noise(msg):
                return msg

    def _is_noise(self, msg: bytes) -> bool:
        """Something that no caller waits for."""
        if msg[1] == ERROR:
            return int.from_bytes(msg[4:8], "big") in self._ignored
        return msg[1] == EXPERIMENTER and self._keep_reason(msg)

    def _keep_reason(self, msg: bytes) -> bool:
        """Keeps oko's words about an error that is to follow."""
        if msg[8:16] != _ERROR_TEXT_HEAD:
            return msg[8:16] == _HELLO_HEAD
        from oko.openflow import extension

        found = extension.decode(msg)
        if isinstance(found, extension.ErrorText):
            if len(self._reasons) > _MOST_UNANSWERED:
                self._reasons.clear()
            self._reasons[int.from_bytes(msg[4:8], "big")] = found
        return True

    def error(self, msg: bytes) -> RefusedError:
        """An OFPT_ERROR as an exception."""
        xid = int.from_bytes(msg[4:8], "big")
        found = decode_error(msg[0] if msg[0] in TYPES else self.version, msg)
        text = self._reasons.pop(xid, None)
        request = self._unanswered.get(xid, found.data)
        reason = "" if text is None else text.text + (" ..." if text.truncated else "")
        return RefusedError(self.version, xid, found.name, request, reason, found.data)

    def _await(self, xid: int) -> bytes:
        """The answer to a message. Errors about this message are raised; others wait."""
        while True:
            msg = self.receive()
            if int.from_bytes(msg[4:8], "big") == xid and not self._is_event(msg):
                if msg[1] == ERROR:
                    raise self.error(msg)
                return msg
            if msg[1] == ERROR:
                raise self.error(msg)
            if self.listener is not None:
                self.listener(msg)

    def _is_event(self, msg: bytes) -> bool:
        return 10 <= msg[1] <= 12  # packet-in, flow-removed, port-status

    def transact(self, *chunks: bytes) -> bytes:
        """Sends a request and returns its answer, a whole message; RefusedError.

        Several chunks make one request: they go out under one xid.
        """
        xid = self.next_xid()
        number = xid.to_bytes(4, "big")
        self._unanswered[xid] = chunks[-1][:4] + number + chunks[-1][8:]
        self._write(b"".join([chunk[:4] + number + chunk[8:] for chunk in chunks]))
        answer = self._await(xid)
        self._unanswered.pop(xid, None)
        return answer

    def multipart(self, request: bytes) -> Iterator[bytes]:
        """Sends a multipart (statistics) request and yields the replies as they come."""
        xid = self.send(request)
        kind = TYPES[self.version]["MULTIPART_REPLY"]
        while True:
            reply = self._await(xid)
            if reply[1] != kind:
                raise ConnectionFailed(f"{self.target}: a message of type {reply[1]} is no answer")
            yield reply
            if len(reply) < 12 or not reply[11] & REPLY_MORE:
                self._unanswered.pop(xid, None)
                return

    def barrier(self) -> list[RefusedError]:
        """Waits until everything sent before is done; the refusals in the order they came."""
        return self.end_barrier(self.begin_barrier())

    def begin_barrier(self) -> int:
        """Asks to be told when everything sent before is done; end_barrier() waits for that."""
        request = message(self.version, TYPES[self.version]["BARRIER_REQUEST"], 0)
        return self.send(request)

    def end_barrier(self, xid: int) -> list[RefusedError]:
        """Waits for a barrier; the refusals since the last one, in the order they came."""
        refused: list[RefusedError] = []
        while True:
            msg = self.receive()
            if msg[1] == ERROR:
                refused.append(self.error(msg))
                if refused[-1].xid == xid:
                    break
            elif int.from_bytes(msg[4:8], "big") == xid and not self._is_event(msg):
                break
            elif self.listener is not None:
                self.listener(msg)
        # Numbers rise, and dicts keep their order.
        for answered in list(itertools.takewhile(lambda sent: sent <= xid, self._unanswered)):
            del self._unanswered[answered]
        return refused

    def finish(self) -> None:
        """barrier(), and the first refusal is raised."""
        refused = self.barrier()
        if refused:
            raise refused[0]

    def wait(self, seconds: float | None, *, everything: bool = False) -> bytes | None:
        """The next message, or None after so many seconds of silence (None: waits for ever).

        everything: what comes is a copy of what others say, so nothing of it is answered or kept.
        """
        old = self._socket.gettimeout()
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while True:
                left = None if end is None else max(0.001, end - time.monotonic())
                self._socket.settimeout(left)
                try:
                    return self._next() if everything else self.receive()
                except SilenceError:
                    return None
        finally:
            self._socket.settimeout(old)


_ERROR_TEXT_HEAD = struct.pack("!II", OKO, 10)
_HELLO_HEAD = struct.pack("!II", OKO, 1)


def versions_of(hello: bytes) -> int:
    """The bit map of versions that a HELLO offers (1.3.5, 7.5.1)."""
    at = HEADER_SIZE
    while at + 8 <= len(hello):
        kind, size = struct.unpack_from("!HH", hello, at)
        if size < 4:
            break
        if kind == 1 and size >= 8:
            return int(struct.unpack_from("!I", hello, at + 4)[0])
        at += size + (-size % 8)
    version = HEADER.unpack_from(hello)[0]
    return (1 << version + 1) - 2 if version < 31 else 0


def oko_hello(version: int) -> bytes:
    """extension.Hello() without that module, which takes its time to import: most commands have
    nothing else to say in oko's own messages."""
    return experimenter_message(version, 0, OKO, 1, struct.pack("!HHI", 1, 0, 3))
