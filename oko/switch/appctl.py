"""ovs-appctl's server: JSON-RPC over a Unix socket ("unixctl"), and what can be asked.

    ovs-appctl -t oko-switchd ofproto/trace br0 in_port=1,tcp,tp_dst=80

A request is {"id": 0, "method": NAME, "params": [TEXT...]}, the reply {"id": 0, "result": ...,
"error": null}; one object after another, without framing (RFC-less; lib/jsonrpc.c of Open vSwitch
is the reference). A connection that asks `set-options --format json` gets results as JSON from
then on: commands that have a JSON form give it, others {"reply-format": "plain", "reply": TEXT}.

Commands (appctl_commands.py) are functions from words to an Answer, found by name in a table that
also makes the help. A command that fails answers one line in "error", and nothing a client sends
can end the daemon: requests are limited in size, a client that does not read is closed.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path
from typing import Any, TypeAlias

from oko.errors import OkoError
from oko.switch import log

logger = log.logger("unixctl")

MAX_REQUEST = 1 << 20
MAX_WAITING = 1 << 24


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say: as text, and (None: only text) as JSON."""

    text: str = ""
    data: Any = None


Handler: TypeAlias = Callable[[Sequence[str]], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its usage, how many words it takes, what carries it out."""

    usage: str
    at_least: int
    at_most: int
    run: Handler


class Unixctl:
    """The server. commands: by name."""

    def __init__(self, path: Path, commands: dict[str, Command]) -> None:
        self.path = path
        self._commands = {
            "list-commands": Command("", 0, 0, self._list),
            "help": Command("", 0, 0, self._list),
            **commands,
        }
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to listen; a socket that a dead process left behind is replaced."""
        with suppress(FileNotFoundError):
            self.path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        os.chmod(self.path, 0o600)

    async def close(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        with suppress(OSError):
            self.path.unlink()

    # ---------------------------------------------------------------- a connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        writer.transport.set_write_buffer_limits(high=MAX_WAITING)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except ValueError as exc:
            logger.warning("a client is closed: %s", exc)
        finally:
            self._clients.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting, as_json = "", False
        decoder = json.JSONDecoder()
        pending = b""
        while chunk := await reader.read(1 << 16):
            pending += chunk
            try:
                waiting += pending.decode()
                pending = b""
            except UnicodeDecodeError as exc:
                if len(pending) - exc.start > 3:
                    raise ValueError("not UTF-8") from None
                waiting += pending[: exc.start].decode()
                pending = pending[exc.start :]
            while waiting := waiting.lstrip():
                try:
                    request, end = decoder.raw_decode(waiting)
                except RecursionError:
                    raise ValueError("nested too deep") from None
                except json.JSONDecodeError:
                    if waiting[0] != "{" or len(waiting) > MAX_REQUEST:
                        raise ValueError("not JSON-RPC") from None
                    break  # not all of it has come
                waiting = waiting[end:]
                reply, as_json = await self._answer(request, as_json)
                writer.write(json.dumps(reply).encode())
                await writer.drain()

    async def _answer(self, request: Any, as_json: bool) -> tuple[dict[str, Any], bool]:
        """The reply, and whether the next ones are JSON."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            raise ValueError("not JSON-RPC")
        params = request.get("params") or []
        if not isinstance(params, list) or not all(isinstance(word, str) for word in params):
            raise ValueError("params are not words")
        result: Any = None
        error: str | None = None
        name = request["method"]
        try:
            if name == "set-options":
                as_json = _set_options(params)
                result = ""
            else:
                answer = await self._run(name, params)
                result = _rendered(answer, as_json)
        except OkoError as exc:
            error = f"{exc}\n" + (f"{exc.hint}\n" if exc.hint else "")
        except Exception:
            logger.exception("%s failed", name)
            error = f"{name}: internal error; the log has more\n"
        return {"id": request.get("id"), "result": result, "error": error}, as_json

    async def _run(self, name: str, words: list[str]) -> Answer:
        command = self._commands.get(name)
        if command is None:
            raise OkoError(f'"{name}" is not a valid command (use "list-commands" to see a list)')
        if not command.at_least <= len(words) <= command.at_most:
            few = "at least" if len(words) < command.at_least else "takes at most"
            n = command.at_least if few == "at least" else command.at_most
            needs = f"requires {few}" if few == "at least" else few
            raise OkoError(f'"{name}" command {needs} {n} arguments')
        answer = command.run(words)
        return await answer if isawaitable(answer) else answer

    def _list(self, words: Sequence[str]) -> Answer:
        lines = [
            f"  {name:<23} {self._commands[name].usage}".rstrip() for name in sorted(self._commands)
        ]
        data = {name: command.usage for name, command in sorted(self._commands.items())}
        return Answer("The available commands are:\n" + "\n".join(lines) + "\n", data)


def _set_options(words: Sequence[str]) -> bool:
    """set-options --format FORMAT: is it JSON?"""
    joined = " ".join(words).replace("=", " ").split()
    if len(joined) != 2 or joined[0] != "--format" or joined[1] not in ("text", "json"):
        raise OkoError("set-options takes --format text or --format json")
    return joined[1] == "json"


def _rendered(answer: Answer, as_json: bool) -> Any:
    if not as_json:
        text = answer.text
        return text if not text or text.endswith("\n") else text + "\n"
    if answer.data is None:
        return {"reply-format": "plain", "reply": answer.text}
    return answer.data
