"""One connection as the event loop sees it: bytes in, whole messages to the session, replies out.

Most messages are answered where they arrive: read, cut, carried out and answered in one turn of the
loop, without a task (a flow-mod and a barrier at a time are what a switch gets all day). Only what
takes long gets a task of its own: the verification of a program, a dump, a peer that does not take
its replies. Meanwhile nothing is read from this peer, so its later messages wait, and the kernel's
buffers make the peer wait; others do not notice. Events are no replies: beyond session.MAX_WAITING
bytes they are dropped and counted.

A peer that sends what is no OpenFlow is closed.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from oko.agent.session import Session, Slow, Work
from oko.openflow import common, messages
from oko.openflow.common import OpenFlowError
from oko.switch import log

if TYPE_CHECKING:
    from oko.agent.agent import Agent

logger = log.logger("agent")

CHUNK = 1 << 18
PROBE_SECONDS = 15
HELLO_SECONDS = 10
_view = memoryview(bytearray(CHUNK))


class Connection(asyncio.BufferedProtocol):
    """A connection to or from a peer. target: the controller that this is, "" for a peer that
    connected to us. closed: done when it has ended."""

    def __init__(self, agent: Agent, dialect: type[Session], target: str) -> None:
        self._agent = agent
        self._dialect = dialect
        self._target = target
        self._versions = tuple(v for v in agent.versions if v in dialect.versions)
        self._pending = b""
        self._batches: list[list[bytes]] = []
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None  # pending: the peer has to read first
        self._session: Session | None = None
        self._slow: Slow | None = None
        self._ended = False  # the peer writes no more
        self._transport: asyncio.Transport
        self._keeper: Keeper
        self.peer = target
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ---------------------------------------------------------------- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=CHUNK)
        self.peer = self._target or name_of(transport)
        self._keeper = Keeper(transport, self.peer)
        self._agent.connections.add(self)
        transport.write(messages.encode_hello(self._versions))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go. One buffer does for all: they are copied out at once."""
        return _view  # TLS wants slices that are no copies

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self._keeper.heard()
        data = bytes(_view[:nbytes])
        try:
            batch, self._pending = cut(self._pending + data if self._pending else data)
            if self._session is None and batch:
                self._greet(batch.pop(0))
        except OpenFlowError as exc:
            logger.warning("%s: %s; closed", self.peer, exc)
            self._transport.close()
            return
        if not batch or self._session is None:
            return
        if self._target and self._agent.snoopers:
            self._agent.snooped(b"".join(batch))
        if self._task is not None:  # it was under way when reading stopped
            self._batches.append(batch)
            return
        self._work(self._session.work(batch))

    def eof_received(self) -> bool:
        """The peer writes no more: what it asked for it still gets."""
        self._ended = True
        return self._task is not None

    def pause_writing(self) -> None:
        """The peer does not take what is there."""
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It does again."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        if exc is not None:
            logger.debug("%s: %s", self.peer, exc)
        self._keeper.close()
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()
        if self._slow is not None:
            self._slow.close()  # if it was not begun
        if self._session is not None:
            self._agent.end(self._session, self._target)
        self._agent.connections.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def abort(self) -> None:
        """Ends it now."""
        self._transport.abort()

    # ---------------------------------------------------------------- messages

    def _greet(self, hello: bytes) -> None:
        """The peer's first message: what to speak with it."""
        if hello[1] != common.HELLO:
            raise OpenFlowError("OFPBRC_BAD_TYPE", "the first message is no HELLO")
        version = messages.negotiate(hello, self._versions)
        if version is None:
            names = ", ".join(common.VERSION_NAMES[v] for v in self._versions)
            text = f"we support OpenFlow {names}"
            logger.info("%s: no version in common (%s)", self.peer, text)
            mine = max(self._versions)
            self._transport.write(
                common.encode_error(mine, 0, "OFPHFC_INCOMPATIBLE", text.encode())
            )
            self._transport.close()
            return
        self._session = self._dialect(
            self._agent,
            version,
            self.peer,
            Queue(self._transport, self._agent.snooped if self._target else None),
            passive=not self._target,
        )
        self._keeper.version = version
        self._agent.begin(self._session, self._target)

    def _work(self, work: Work) -> None:
        """Answers at once, until something takes long: that and the rest is a task's."""
        more = self._some(work)
        if more or self._room is not None:
            self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._go_on(more, work))
            self._task.add_done_callback(self._gone_on)

    def _some(self, work: Work) -> bool:
        """Writes replies until enough is written or something slow (self._slow) comes. True: there
        may be more."""
        replies: list[bytes] = []
        size = 0
        more = False
        for item in work:
            if not isinstance(item, bytes):
                self._slow, more = item, True
                break
            replies.append(item)
            size += len(item)
            if size > CHUNK:
                more = True
                break
        self._write(replies)
        return more

    def _write(self, replies: Sequence[bytes]) -> None:
        if replies and not self._transport.is_closing():
            data = replies[0] if len(replies) == 1 else b"".join(replies)
            if self._target and self._agent.snoopers:
                self._agent.snooped(data)
            self._transport.write(data)

    async def _go_on(self, more: bool, work: Work) -> None:
        """Carries out the rest in order, each when the peer has taken what was before."""
        session = self._session
        assert session is not None
        while True:
            while more:
                if self._slow is not None:
                    slow, self._slow = self._slow, None
                    self._write(await slow)
                await self._taken()
                await asyncio.sleep(0)  # others have their turn in a long dump
                more = self._some(work)
            await self._taken()
            if not self._batches:
                return
            work = session.work(self._batches.pop(0))
            more = True

    async def _taken(self) -> None:
        """Waits until the peer has taken most of the replies."""
        if self._room is not None:
            await self._room

    def _gone_on(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() or self._transport.is_closing():
            return
        if task.exception() is not None:
            logger.error("%s: %r", self.peer, task.exception(), exc_info=task.exception())
            self._transport.abort()
        elif self._ended:
            self._transport.close()
        else:
            self._transport.resume_reading()


class Keeper:
    """Breaks silence: after PROBE_SECONDS it asks for an echo, after as much again it gives the
    connection up. One that does not even greet is given up after HELLO_SECONDS."""

    def __init__(self, transport: asyncio.Transport, peer: str) -> None:
        self.version: int | None = None
        self._transport = transport
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
            self._transport.abort()
            return
        self._probed = self._quiet
        if self._quiet:
            self._transport.write(common.message(self.version, common.ECHO_REQUEST, 0))
        self._quiet = True
        self._timer = self._loop.call_later(PROBE_SECONDS, self._check)


class Queue:
    """What waits for a peer."""

    def __init__(
        self, transport: asyncio.Transport, snooped: Callable[[bytes], None] | None
    ) -> None:
        self._transport = transport
        self._snooped = snooped

    def write(self, data: bytes) -> None:
        """Queues it."""
        if self._snooped is not None:
            self._snooped(data)
        if not self._transport.is_closing():
            self._transport.write(data)

    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._transport.get_write_buffer_size()


def name_of(transport: asyncio.Transport) -> str:
    """Who opened this connection: tcp:127.0.0.1:4711, or unix for a local tool."""
    address = transport.get_extra_info("peername")
    if not isinstance(address, tuple):
        return "unix"
    kind = "ssl" if transport.get_extra_info("ssl_object") is not None else "tcp"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{kind}:{host}:{address[1]}"


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
