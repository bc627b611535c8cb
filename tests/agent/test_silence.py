"""Connections on which nothing is said are asked for an echo, and then given up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from conversation import made_agent

from oko.agent import connection as module

HELLO = bytes.fromhex("0400000800000001")


async def heard(path: Path, *, greet: bool, answer: int) -> list[int]:
    """Types of the messages that a peer gets until it is closed, or for a second. answer: how many
    echo requests it answers."""
    agent = made_agent(4)
    await agent.listen(f"punix:{path}")
    reader, writer = await asyncio.open_unix_connection(str(path))
    types: list[int] = []
    try:
        if greet:
            writer.write(HELLO)
        end = asyncio.get_running_loop().time() + 1
        while (left := end - asyncio.get_running_loop().time()) > 0:
            try:
                head = await asyncio.wait_for(reader.readexactly(8), left)
            except (asyncio.TimeoutError, TimeoutError):
                break
            except (asyncio.IncompleteReadError, ConnectionError):
                types.append(-1)
                break
            await reader.readexactly(int.from_bytes(head[2:4], "big") - 8)
            types.append(head[1])
            if head[1] == 2 and answer:
                answer -= 1
                writer.write(bytes([4, 3]) + head[2:])
        return types
    finally:
        writer.close()
        await agent.close()
        agent.bridge.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(module, "HELLO_SECONDS", 0.2)


def test_a_peer_that_does_not_greet(tmp_path):
    assert asyncio.run(heard(tmp_path / "s", greet=False, answer=0)) == [0, -1]


def test_a_peer_that_does_not_answer(tmp_path):
    assert asyncio.run(heard(tmp_path / "s", greet=True, answer=0)) == [0, 2, -1]


def test_a_peer_that_answers_twice(tmp_path):
    assert asyncio.run(heard(tmp_path / "s", greet=True, answer=2)) == [0, 2, 2, 2, -1]


def test_a_peer_that_always_answers(tmp_path):
    got = asyncio.run(heard(tmp_path / "s", greet=True, answer=99))
    assert got[0] == 0 and set(got[1:]) == {2} and len(got) > 3


def test_sockets_are_the_user_s_own(tmp_path):
    path = tmp_path / "s"

    async def listen() -> int:
        agent = made_agent(4)
        await agent.listen(f"punix:{path}")
        mode = path.stat().st_mode & 0o777
        await agent.close()
        agent.bridge.close()
        return mode

    assert asyncio.run(listen()) == 0o600
    assert not path.exists()
