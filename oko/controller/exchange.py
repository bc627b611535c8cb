"""Requests and replies of oko's on one connection to a switch.

os-ken gives every application a thread (or green thread) of its own that handles one event after
another, and every connection one that receives. An application that waits for a reply inside of a
handler could never be handed that reply as an event; therefore replies are caught in the receiving
thread, by handlers of os-ken's own OpenFlow application, and passed on through a queue per xid.

Fails safely: a connection that ends, or a reply that does not come, ends the wait with NoAnswer. A
message that cannot be decoded is logged and left to others. Messages of other xids are not touched.

Thread-safety: any thread of os-ken's hub may ask. Queues are the hub's; the rest are single
dictionary operations. xids are counted half the number space away from os-ken's own, which are not
safe to draw from two threads.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from oko.errors import OkoError
from oko.openflow import common, extension
from oko.openflow.common import OpenFlowError
from oko.openflow.extension import MapContents

from . import events, framework

logger = logging.getLogger("oko.controller")

_SLICE = 0.25  # how often a wait looks whether the connection is still there, in seconds
_RECEIVES = "oko_receives"
_EXCHANGE = "oko_exchange"
_once = threading.Lock()
Answer = TypeVar("Answer", bound=extension.Message)


class Refused(OkoError):
    """The switch refuses. name: the OpenFlow error; str(): the switch's words."""

    def __init__(self, name: str, text: str = "", hint: str = "") -> None:
        super().__init__(text or f"the switch answers {name}", hint)
        self.name = name
        self.text = text


class NoAnswer(OkoError):
    """The connection ended, or the switch did not answer in time."""


def exchange_of(datapath: Any) -> Exchange:
    """The exchange of this connection, made when first asked for."""
    with _once:
        found = getattr(datapath, _EXCHANGE, None)
        if found is None:
            _receive_from(datapath.ofp_brick)
            found = Exchange(datapath)
            setattr(datapath, _EXCHANGE, found)
    assert isinstance(found, Exchange)
    return found


def _receive_from(brick: Any) -> None:
    """Adds our handlers to os-ken's OpenFlow application, once."""
    if getattr(brick, _RECEIVES, False):
        return
    handler = framework.module("controller.handler")
    ofp_event = framework.module("controller.ofp_event")
    states = [handler.CONFIG_DISPATCHER, handler.MAIN_DISPATCHER]
    for name in (
        "EventOFPExperimenter", "EventOFPVendor", "EventOFPExperimenterStatsReply",
        "EventOFPVendorStatsReply", "EventOFPErrorMsg", "EventOFPBarrierReply",
    ):  # fmt: skip
        framework.receive(brick, getattr(ofp_event, name), states, _received)
    setattr(brick, _RECEIVES, True)


def _received(event: Any) -> None:
    found = getattr(event.msg.datapath, _EXCHANGE, None)
    if found is not None:
        found.received(event.msg)


class Exchange:
    """Sends messages and waits for what answers them."""

    def __init__(self, datapath: Any) -> None:
        self.datapath = datapath
        self.version: int = datapath.ofproto.OFP_VERSION
        self._hub = framework.module("lib.hub")
        self._dead = framework.module("controller.handler").DEAD_DISPATCHER
        self._xids = itertools.count((datapath.xid or 0) + 0x80000000)
        self._waiting: dict[int, Any] = {}
        self._loads: dict[int, None] = {}
        self._texts: dict[int, str] = {}
        self._parts: dict[tuple[int, int], list[tuple[bytes, bytes]]] = {}
        self._greeted = False

    # ---------------------------------------------------------------- sending

    def xid(self) -> int:
        """One that nobody uses."""
        return next(self._xids) & 0xFFFFFFFF

    def send(self, data: bytes) -> None:
        """Puts a message into os-ken's queue; NoAnswer: the connection is closed."""
        if self._closed() or not self.datapath.send(data):
            raise NoAnswer("the connection to the switch is closed")

    def say(self, message: extension.Message, xid: int) -> None:
        """Sends one of oko's messages."""
        self.send(extension.encode(self.version, message, xid))

    def greet(self, timeout: float) -> None:
        """Tells the switch that this controller knows the extension; Refused: it does not."""
        if self._greeted:
            return
        try:
            self.ask([HELLO], extension.Hello, timeout)
        except Refused as exc:
            raise Refused(
                exc.name, "this switch does not know oko's extension", "is it oko-switchd?"
            ) from None
        self._greeted = True

    def announce(self) -> None:
        """As greet(), without waiting for the answer."""
        if not self._greeted:
            self.say(HELLO, self.xid())

    def _closed(self) -> bool:
        # With threads os-ken notices an end only at its next echo; the socket is closed at once.
        datapath = self.datapath
        return bool(datapath.state == self._dead or datapath.socket.fileno() < 0)

    # ---------------------------------------------------------------- asking

    def ask(
        self,
        messages: Iterable[extension.Message],
        answer: type[Answer],
        timeout: float,
        *,
        loads: bool = False,
    ) -> Answer:
        """Sends messages of oko's, all with one xid, and returns what answers the last one.

        loads: they are a program; the events tell of the result, too.
        """
        xid = self.xid()
        if loads:
            self._loads[xid] = None
        with self._answers(xid) as queue:
            for message in messages:
                self.say(message, xid)
            found = self._next(queue, timeout)
        if not isinstance(found, answer):
            raise NoAnswer(f"the switch answers with {type(found).__name__}, oddly")
        return found

    def ask_multipart(self, request: Callable[[int], bytes], timeout: float) -> list[bytes]:
        """Sends request(xid) and returns the replies, which are multiparts."""
        xid = self.xid()
        replies: list[bytes] = []
        with self._answers(xid) as queue:
            self.send(request(xid))
            more = True
            while more:
                reply = self._next(queue, timeout)
                if not isinstance(reply, bytes):
                    raise NoAnswer(f"the switch answers with {type(reply).__name__}, oddly")
                replies.append(reply)
                more = common.decode_multipart(self.version, reply[common.HEADER_SIZE :]).more
        return replies

    def confirm(self, message: extension.Message, timeout: float) -> None:
        """Sends a message that nothing answers, and a barrier: an error comes before its reply."""
        xid = self.xid()
        barrier = common.TYPES[self.version]["BARRIER_REQUEST"]
        with self._answers(xid) as queue:
            self.say(message, xid)
            self.send(common.message(self.version, barrier, xid))
            self._next(queue, timeout)

    def start_load(self, chunks: Iterable[extension.LoadProgram]) -> int:
        """Sends a program; the events tell of the result. Returns the xid."""
        xid = self.xid()
        self._loads[xid] = None
        for chunk in chunks:
            self.say(chunk, xid)
        return xid

    @contextmanager
    def _answers(self, xid: int) -> Iterator[Any]:
        """A queue into which whatever comes with this xid is put."""
        queue = self._waiting[xid] = self._hub.Queue()
        try:
            yield queue
        finally:
            self._waiting.pop(xid, None)
            self._loads.pop(xid, None)
            self._texts.pop(xid, None)

    def _next(self, queue: Any, timeout: float) -> extension.Message | bytes:
        """The next answer; raises Refused if it is an error."""
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            try:
                found: Any = queue.get(timeout=max(0.001, min(_SLICE, left)))
                break
            except self._hub.QueueEmpty:
                if self._closed():
                    raise NoAnswer("the connection ended before the switch answered") from None
                if left <= _SLICE:
                    raise NoAnswer(
                        f"the switch did not answer within {timeout:g} s",
                        "packet-ins that fill an application's queue hold replies back: ask from "
                        "a thread of its own (hub.spawn)",
                    ) from None
        if isinstance(found, Refused):
            raise found
        assert isinstance(found, bytes | extension.Message)
        return found

    # ---------------------------------------------------------------- receiving

    def received(self, msg: Any) -> None:
        """A message from the switch, in the thread that receives."""
        data = bytes(msg.buf)
        xid = msg.xid
        try:
            found = self._read(data)
        except OpenFlowError as exc:
            logger.warning("a message of the switch cannot be understood: %s", exc)
            return
        match found:
            case extension.ErrorText():
                if xid in self._waiting or xid in self._loads:
                    self._texts[xid] = found.text
                else:
                    self._tell(events.EventOkoErrorText(self.datapath, xid, found.text))
                return
            case MapContents():
                self._contents(found)
                return
            case Refused():
                found = Refused(found.name, self._texts.pop(xid, ""))
                if xid in self._loads:
                    text = str(found)
                    event = events.EventOkoProgramRefused(self.datapath, xid, found.name, text)
                    del self._loads[xid]
                    self._tell(event)
            case extension.Loaded():
                if xid in self._loads:
                    del self._loads[xid]
                    self._tell(events.EventOkoProgramLoaded(self.datapath, xid, found.program))
            case None:
                return
        queue = self._waiting.get(xid)
        if queue is not None:
            queue.put(found)

    def _read(self, data: bytes) -> extension.Message | Refused | bytes | None:
        """None: it is not of interest."""
        kind = data[1]
        if kind == common.ERROR:
            return Refused(common.decode_error(self.version, data).name)
        if kind != common.EXPERIMENTER:
            return data
        if int.from_bytes(data[8:12], "big") != common.OKO:
            return None
        return extension.decode(data)

    def _contents(self, part: MapContents) -> None:
        """Puts the chunks of a map together; the event has the whole."""
        key = (part.map.program, part.map.number)
        entries = self._parts.setdefault(key, [])
        entries += part.entries
        if part.flags & extension.MORE:
            return
        del self._parts[key]
        self._tell(
            events.EventOkoSendMaps(
                self.datapath, part.map.program, part.map.number, part.map.name, dict(entries),
                part.table, part.priority, part.cookie, part.ns,
            )
        )  # fmt: skip

    def _tell(self, event: Any) -> None:
        self.datapath.ofp_brick.send_event_to_observers(event, self.datapath.state)


HELLO = extension.Hello(
    extension.KNOWS_OXM | extension.KNOWS_ERROR_TEXT | extension.KNOWS_SEND_MAPS
)

__all__ = ["Exchange", "NoAnswer", "Refused", "exchange_of"]
