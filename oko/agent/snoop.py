"""Snooping: a copy of what the switch and its controllers say to each other, for `ovs-ofctl snoop`.

A snooper connects to the socket BRIDGE.snoop, greets, and from then on gets every message of the
connections that the switch keeps to controllers, both ways, whole and in order, but for the HELLOs
and the echo requests that break silence. What it says itself is read over. One that does not read
loses messages, which are counted; nobody waits for it.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from oko.openflow import common, messages

if TYPE_CHECKING:
    from oko.agent.agent import Agent

MAX_WAITING = 4 << 20


class Snooper(asyncio.Protocol):
    """One that listens in."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._heard = b""
        self._greeted = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(messages.encode_hello(self._agent.versions))

    def data_received(self, data: bytes) -> None:
        """Its HELLO; the rest is nobody's business."""
        if self._greeted:
            return
        self._heard += data
        if len(self._heard) < common.HEADER_SIZE:
            return
        self._greeted = True
        if self._heard[1] != common.HELLO:
            self._transport.close()
            return
        self._agent.snoopers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has heard enough."""
        self._agent.snoopers.discard(self)

    def copy(self, msgs: bytes) -> None:
        """Whole messages that were sent or came."""
        if self._transport.get_write_buffer_size() + len(msgs) > MAX_WAITING:
            self._agent.bridge.counters["openflow_snoop_dropped"] += 1
        else:
            self._transport.write(msgs)

    def abort(self) -> None:
        """Ends it now."""
        self._transport.abort()
