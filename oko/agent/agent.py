"""The connections of one bridge: passive ones on listeners, active ones that are kept up.

Each connection is a task: read what there is, cut it into messages, let the session answer them,
wait until the peer has taken the replies. A peer that does not read stops its own task only;
events for it are dropped and counted beyond session.MAX_WAITING bytes. A peer that sends what is no
OpenFlow is closed.

Active connections come back with a back-off of up to a second.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from oko.agent.programs import Quota
from oko.agent.session import Session
from oko.agent.session2018 import Session2018
from oko.errors import OkoError
from oko.openflow import common, messages
from oko.openflow.common import OpenFlowError
from oko.openflow.roles import MASTER
from oko.switch import log
from oko.switch.bridge import Bridge
from oko.switch.config import OKO_2018
from oko.switch.events import BridgeEvent

logger = log.logger("agent")

CHUNK = 1 << 18
PROBE_SECONDS = 15
HELLO_SECONDS = 10
LEAST_BACKOFF, MOST_BACKOFF = 0.05, 1.0
DEFAULT_PORT = 6653


class Tls:
    """Key and certificates for ssl: and pssl:."""

    def __init__(self, key: Path | None, certificate: Path | None, ca: Path | None) -> None:
        self._files = (key, certificate, ca)

    def context(self, server: bool) -> ssl.SSLContext:
        """OkoError: they are not given, or cannot be read."""
        key, certificate, ca = self._files
        if key is None or certificate is None or ca is None:
            raise OkoError("ssl needs --private-key, --certificate and --ca-cert")
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_REQUIRED
        try:
            made.load_cert_chain(certificate, key)
            made.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as exc:
            raise OkoError(f"{certificate}, {key}, {ca}: {exc}") from None
        return made


class Agent:
    """OpenFlow for one bridge. versions: those that it offers."""

    def __init__(self, bridge: Bridge, versions: Sequence[int], tls: Tls | None = None) -> None:
        self.bridge = bridge
        self.versions = tuple(versions)
        self.generation: int | None = None
        self.quota = Quota(bridge.max_uploads)
        self.sessions: list[Session] = []
        self._tls = tls or Tls(None, None, None)
        self._servers: dict[str, tuple[asyncio.AbstractServer, str]] = {}
        self._active: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connected: set[str] = set()
        bridge.listen(self)

    def check_generation(self, generation: int) -> None:
        """1.3.5, 6.3.5: an election that is over is answered by an error."""
        old = self.generation
        if old is not None and ((generation - old) & ((1 << 64) - 1)) >= 1 << 63:
            raise OpenFlowError("OFPRRFC_STALE", f"generation {generation} is older than {old}")
        self.generation = generation

    def demote_others(self, master: Session) -> None:
        """There is one master at most: the others become slaves, and are told."""
        for session in self.sessions:
            if session.role == MASTER and session is not master:
                told = session.demote()
                if told is not None:
                    session.push(told)

    def interests_changed(self) -> None:
        """A session begins or ends to want packets that no flow matches (OpenFlow 1.0)."""
        self.bridge.send_misses(max((session.miss_len for session in self.sessions), default=0))

    # ---------------------------------------------------------------- connections

    async def listen(self, target: str) -> None:
        """Starts to accept at punix:PATH, ptcp:[PORT[:HOST]] or pssl:[PORT[:HOST]]; behind
        "oko2018:" peers that speak that dialect. OkoError: that cannot be."""
        try:
            await self._listen(target)
        except (OSError, ValueError) as exc:
            raise OkoError(f"cannot listen at {target}: {exc}") from None

    async def _listen(self, target: str) -> None:
        dialect, address = dialect_of(target)
        kind, _, rest = address.partition(":")
        accept = partial(self._accept, dialect)
        if kind == "punix":
            server: asyncio.AbstractServer = await asyncio.start_unix_server(
                accept, sock=private_socket(rest), limit=CHUNK
            )
            self._servers[target] = (server, rest)
            return
        port, _, host = rest.partition(":")
        context = self._tls.context(True) if kind == "pssl" else None
        server = await asyncio.start_server(
            accept,
            host.strip("[]") or "127.0.0.1",
            port_number(port),
            limit=CHUNK,
            ssl=context,
        )
        self._servers[target] = (server, "")
        for there in server.sockets:
            logger.info("bridge %s: listening at %s", self.bridge.name, there.getsockname())

    async def unlisten(self, target: str) -> None:
        """Stops it; connections go on."""
        server, path = self._servers.pop(target)
        server.close()
        if path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def connect(self, target: str) -> None:
        """Keeps a connection to a controller from now on."""
        if target in self._active:
            return
        loop = asyncio.get_running_loop()
        self._active[target] = loop.create_task(self._keep_up(target))

    async def disconnect(self, target: str) -> None:
        """Ends that."""
        task = self._active.pop(target)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Ends everything."""
        self.bridge.unlisten(self)
        for target in list(self._servers):
            await self.unlisten(target)
        for target in list(self._active):
            await self.disconnect(target)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_up(self, target: str) -> None:
        dialect, address = dialect_of(target)
        kind, _, rest = address.partition(":")
        wait = LEAST_BACKOFF
        said = ""
        while True:
            began = asyncio.get_running_loop().time()
            try:
                if kind == "unix":
                    reader, writer = await asyncio.open_unix_connection(rest, limit=CHUNK)
                else:
                    host, _, port = rest.rpartition(":")
                    if not host or not port.isdecimal():
                        host, port = rest, ""
                    context = self._tls.context(False) if kind == "ssl" else None
                    reader, writer = await asyncio.open_connection(
                        host.strip("[]"), port_number(port), limit=CHUNK, ssl=context
                    )
                logger.info("bridge %s: connected to %s", self.bridge.name, target)
                await self._serve(dialect, reader, writer, target, target)
                logger.info("bridge %s: %s is gone", self.bridge.name, target)
                said = ""
            except (OSError, OkoError, ValueError) as exc:
                level = logging.DEBUG if str(exc) == said else logging.WARNING
                said = str(exc)
                logger.log(level, "bridge %s: %s: %s", self.bridge.name, target, exc)
            if asyncio.get_running_loop().time() - began > MOST_BACKOFF:
                wait = LEAST_BACKOFF  # that was a connection
            await asyncio.sleep(wait)
            wait = min(2 * wait, MOST_BACKOFF)

    async def _accept(
        self,
        dialect: type[Session],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(dialect, reader, writer, name_of(writer), "")
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)

    # ---------------------------------------------------------------- one connection

    async def _serve(
        self,
        dialect: type[Session],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        target: str,
    ) -> None:
        session: Session | None = None
        versions = tuple(v for v in self.versions if v in dialect.versions)
        writer.transport.set_write_buffer_limits(high=CHUNK)
        writer.write(messages.encode_hello(versions))
        keeper = Keeper(writer, peer)
        try:
            pending = b""
            while chunk := await reader.read(CHUNK):
                keeper.heard()
                batch, pending = cut(pending + chunk if pending else chunk)
                if session is None and batch:
                    version = self._greet(batch.pop(0), writer, peer, versions)
                    if version is None:
                        await writer.drain()
                        return
                    session = dialect(self, version, peer, Queue(writer), passive=not target)
                    keeper.version = version
                    self._begin(session, target)
                if session is not None and batch:
                    await self._reply(session, writer, batch)
        except OpenFlowError as exc:
            logger.warning("%s: %s; closed", peer, exc)
        except (ConnectionError, ssl.SSLError) as exc:
            logger.debug("%s: %s", peer, exc)
        finally:
            keeper.close()
            if session is not None:
                self._end(session, target)
            with contextlib.suppress(OSError):
                writer.close()

    def _greet(
        self, hello: bytes, writer: asyncio.StreamWriter, peer: str, versions: Sequence[int]
    ) -> int | None:
        """The version that both speak; None: there is none."""
        if hello[1] != common.HELLO:
            raise OpenFlowError("OFPBRC_BAD_TYPE", "the first message is no HELLO")
        version = messages.negotiate(hello, versions)
        if version is None:
            names = ", ".join(common.VERSION_NAMES[v] for v in versions)
            text = f"we support OpenFlow {names}"
            logger.info("%s: no version in common (%s)", peer, text)
            mine = max(versions)
            writer.write(common.encode_error(mine, 0, "OFPHFC_INCOMPATIBLE", text.encode()))
            return None
        return version

    def _begin(self, session: Session, target: str) -> None:
        self.sessions.append(session)
        if target:
            self._connected.add(target)
            self.bridge.controllers_changed(len(self._connected))
        self.interests_changed()

    def _end(self, session: Session, target: str) -> None:
        self.sessions.remove(session)
        session.close()
        if target:
            self._connected.discard(target)
            self.bridge.controllers_changed(len(self._connected))
        self.interests_changed()

    async def _reply(
        self, session: Session, writer: asyncio.StreamWriter, batch: list[bytes]
    ) -> None:
        waiting: list[bytes] = []
        size = 0
        async for reply in session.handle(batch):
            waiting.append(reply)
            size += len(reply)
            if size > CHUNK:
                writer.writelines(waiting)
                waiting, size = [], 0
                await writer.drain()
                await asyncio.sleep(0)  # others have their turn in a long dump
        writer.writelines(waiting)
        await writer.drain()

    # ---------------------------------------------------------------- events

    def event(self, event: BridgeEvent) -> None:
        """Tells the sessions that want to hear it."""
        for session in self.sessions:
            session.event(event)


class Keeper:
    """Breaks silence: after PROBE_SECONDS it asks for an echo, after as much again it gives the
    connection up. One that does not even greet is given up after HELLO_SECONDS."""

    def __init__(self, writer: asyncio.StreamWriter, peer: str) -> None:
        self.version: int | None = None
        self._writer = writer
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._quiet = False  # nothing came since the timer was set
        self._probed = False
        self._timer = self._loop.call_later(HELLO_SECONDS, self._check)

    def heard(self) -> None:
        """The peer said something."""
        self._quiet = False

    def close(self) -> None:
        """No longer."""
        self._timer.cancel()

    def _check(self) -> None:
        if self.version is None or (self._quiet and self._probed):
            logger.info("%s: silent, closed", self._peer)
            self._writer.transport.abort()
            return
        self._probed = self._quiet
        if self._quiet:
            self._writer.write(common.message(self.version, common.ECHO_REQUEST, 0))
        self._quiet = True
        self._timer = self._loop.call_later(PROBE_SECONDS, self._check)


class Queue:
    """What waits for a peer."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Queues it."""
        self._writer.write(data)

    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._writer.transport.get_write_buffer_size()


def dialect_of(target: str) -> tuple[type[Session], str]:
    """(what serves such a peer, its address alone)."""
    if target.startswith(OKO_2018):
        return Session2018, target.removeprefix(OKO_2018)
    return Session, target


def name_of(writer: asyncio.StreamWriter) -> str:
    """Who opened this connection: tcp:127.0.0.1:4711, or unix for a local tool."""
    address = writer.get_extra_info("peername")
    if not isinstance(address, tuple):
        return "unix"
    kind = "ssl" if writer.get_extra_info("ssl_object") is not None else "tcp"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{kind}:{host}:{address[1]}"


def private_socket(path: str) -> socket.socket:
    """A socket bound there, in place of an old one, for this user only from the start."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    made = socket.socket(socket.AF_UNIX)
    old = os.umask(0o177)
    try:
        made.bind(path)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(old)
    return made


def port_number(text: str) -> int:
    """A TCP port, DEFAULT_PORT where there is none; ValueError."""
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"{text!r} is no port")
    return int(text)


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole messages, and what is left. OpenFlowError: this is no OpenFlow."""
    batch = []
    at = 0
    while len(data) - at >= common.HEADER_SIZE:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < common.HEADER_SIZE:
            raise OpenFlowError("OFPBRC_BAD_LEN", f"a message of {size} bytes")
        if len(data) - at < size:
            break
        batch.append(data[at : at + size])
        at += size
    return batch, data[at:]
