"""The connections of one bridge: passive ones on listeners, active ones that are kept up.

What happens on a connection is connection.py's. Active connections come back with a back-off of up
to a second.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from oko.agent.connection import Connection
from oko.agent.programs import Quota
from oko.agent.session import Session
from oko.agent.session2018 import Session2018
from oko.agent.snoop import Snooper
from oko.errors import OkoError, why
from oko.openflow.common import OpenFlowError
from oko.openflow.roles import MASTER
from oko.switch import log
from oko.switch.bridge import Bridge
from oko.switch.config import OKO_2018, SNOOP
from oko.switch.events import BridgeEvent

logger = log.logger("agent")

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
            raise OkoError(f"{certificate}, {key}, {ca}: {why(exc)}") from None
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
        self.connections: set[Connection] = set()
        self.snoopers: set[Snooper] = set()
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
        "oko2018:" peers that speak that dialect, behind "snoop:" those who listen in. OkoError:
        that cannot be."""
        try:
            await self._listen(target)
        except (OSError, ValueError) as exc:
            raise OkoError(f"cannot listen at {target}: {why(exc)}") from None

    async def _listen(self, target: str) -> None:
        dialect, address = dialect_of(target.removeprefix(SNOOP))
        kind, _, rest = address.partition(":")
        loop = asyncio.get_running_loop()
        accept: Callable[[], asyncio.BaseProtocol] = partial(Connection, self, dialect, "")
        if target.startswith(SNOOP):
            accept = partial(Snooper, self)
        if kind == "punix":
            server: asyncio.AbstractServer = await loop.create_unix_server(
                accept, sock=private_socket(rest)
            )
            self._servers[target] = (server, rest)
            return
        port, _, host = rest.partition(":")
        context = self._tls.context(True) if kind == "pssl" else None
        server = await loop.create_server(
            accept, host.strip("[]") or "127.0.0.1", port_number(port), ssl=context
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
        for snooper in tuple(self.snoopers):
            snooper.abort()
        connections = tuple(self.connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.closed for connection in connections))

    async def _keep_up(self, target: str) -> None:
        dialect, address = dialect_of(target)
        kind, _, rest = address.partition(":")
        wait = LEAST_BACKOFF
        said = ""
        loop = asyncio.get_running_loop()
        make = partial(Connection, self, dialect, target)
        while True:
            began = loop.time()
            try:
                if kind == "unix":
                    _, connection = await loop.create_unix_connection(make, rest)
                else:
                    host, _, port = rest.rpartition(":")
                    if not host or not port.isdecimal():
                        host, port = rest, ""
                    context = self._tls.context(False) if kind == "ssl" else None
                    _, connection = await loop.create_connection(
                        make, host.strip("[]"), port_number(port), ssl=context
                    )
                logger.info("bridge %s: connected to %s", self.bridge.name, target)
                try:
                    await asyncio.shield(connection.closed)
                finally:
                    connection.abort()
                logger.info("bridge %s: %s is gone", self.bridge.name, target)
                said = ""
            except (OSError, OkoError, ValueError) as exc:
                level = logging.DEBUG if why(exc) == said else logging.WARNING
                said = why(exc)
                logger.log(level, "bridge %s: %s: %s", self.bridge.name, target, said)
            if loop.time() - began > MOST_BACKOFF:
                wait = LEAST_BACKOFF  # that was a connection
            await asyncio.sleep(wait)
            wait = min(2 * wait, MOST_BACKOFF)

    # ---------------------------------------------------------------- sessions

    def begin(self, session: Session, target: str) -> None:
        """A peer has greeted."""
        self.sessions.append(session)
        if target:
            self._connected.add(target)
            self.bridge.controllers_changed(len(self._connected))
        self.interests_changed()

    def end(self, session: Session, target: str) -> None:
        """It is gone."""
        self.sessions.remove(session)
        session.close()
        if target:
            self._connected.discard(target)
            self.bridge.controllers_changed(len(self._connected))
        self.interests_changed()

    def snooped(self, msgs: bytes) -> None:
        """A controller was told this, or said it: whole messages."""
        for snooper in self.snoopers:
            snooper.copy(msgs)

    # ---------------------------------------------------------------- events

    def event(self, event: BridgeEvent) -> None:
        """Tells the sessions that want to hear it."""
        for session in self.sessions:
            session.event(event)


def dialect_of(target: str) -> tuple[type[Session], str]:
    """(what serves such a peer, its address alone)."""
    if target.startswith(OKO_2018):
        return Session2018, target.removeprefix(OKO_2018)
    return Session, target


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
