"""A session in memory: messages in, replies and events out, no socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from oko.agent.agent import Agent
from oko.agent.connection import cut
from oko.agent.session import Session
from oko.openflow import common
from oko.openflow.common import OF13
from oko.switch.bridge import Bridge


class Told:
    """What a session sends unasked; full: the peer reads nothing."""

    def __init__(self) -> None:
        self.data = b""
        self.full = 0

    def write(self, data: bytes) -> None:
        self.data += data

    def waiting(self) -> int:
        return self.full

    def take(self) -> list[bytes]:
        """The events since the last call."""
        batch, rest = cut(self.data)
        assert not rest
        self.data = b""
        return batch


class Peer:
    """One connection to a bridge, in memory."""

    def __init__(self, agent: Agent, version: int = OF13, *, passive: bool = True) -> None:
        self.told = Told()
        self.agent = agent
        self.session = Session(agent, version, "a test", self.told, passive=passive)
        self.version = version
        agent.sessions.append(self.session)
        agent.interests_changed()

    async def replies(self, *msgs: bytes) -> AsyncIterator[bytes]:
        """The replies to messages that come together, each when it is there."""
        for item in self.session.work(list(msgs)):
            if isinstance(item, bytes):
                yield item
            else:
                for reply in await item:
                    yield reply

    async def ask(self, *msgs: bytes) -> list[bytes]:
        """The same, all of them."""
        return [reply async for reply in self.replies(*msgs)]

    def __call__(self, *msgs: bytes) -> list[bytes]:
        """The same, from outside of a loop."""
        return asyncio.run(self.ask(*msgs))

    def error(self, *msgs: bytes) -> str:
        """The name of the one error that answers."""
        replies = self(*msgs)
        assert len(replies) == 1, replies
        return common.decode_error(self.version, replies[0]).name

    def leave(self) -> None:
        self.agent.sessions.remove(self.session)
        self.session.close()
        self.agent.interests_changed()


def made_agent(*versions: int) -> Agent:
    """An agent of a bridge with three ports; what leaves through 2 and 3 is kept."""
    bridge = Bridge("br0", dpid=0x1122334455667788)
    bridge.add_port(1, "p1")
    bridge.add_port(2, "p2", kind="mem")
    bridge.add_port(3, "p3", kind="mem")
    return Agent(bridge, versions or (1, 4, 5, 6))
