"""The daemon's life: bridges from a configuration, signals, sockets, a clean end.

    start -> (SIGHUP: read again, apply the difference)* -> SIGTERM or `exit` -> stop

What the configuration says is compared with what is there, bridge by bridge and port by port, so a
reload touches only what changed and nothing that is forwarding. A reload that does not parse or
cannot be carried out is logged and leaves the rest as it was.

Files in the run directory: oko-switchd.pid (locked while the daemon lives, so that two never share
a directory), <bridge>.mgmt (OpenFlow, for ovs-ofctl), oko-switchd.<pid>.ctl (ovs-appctl).

Thread-safety: one thread, the asyncio loop's.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from oko.datapath import Datapath
from oko.errors import OkoError, why
from oko.switch import config as configuration
from oko.switch import coverage, log, ports
from oko.switch.appctl import Unixctl
from oko.switch.appctl_commands import Commands
from oko.switch.bridge import Bridge
from oko.switch.config import OKO_2018, SNOOP, BridgeConfig, Config
from oko.switch.metrics import MetricsServer, render
from oko.switch.ports import LOCAL
from oko.switch.state import State

logger = log.logger("daemon")

LOOK_SECONDS = 0.5
# What does not change while the daemon, or a bridge, runs.
FIXED = ("run_dir", "state_dir", "sync", "pid_file", "unixctl", "metrics")
FIXED_OF_BRIDGE = (
    "dpid", "workers", "busy_poll", "protocols", "max_flows", "table_limits", "max_programs",
    "max_map_bytes", "max_uploads",
)  # fmt: skip

Ports = tuple[configuration.PortConfig, ...]


class BridgeAgent(Protocol):
    """What speaks OpenFlow for a bridge."""

    async def listen(self, target: str) -> None:
        """Starts to accept connections at punix:PATH, ptcp:[PORT[:HOST]] or pssl:..."""

    async def unlisten(self, target: str) -> None:
        """Stops it."""

    def connect(self, target: str) -> None:
        """Keeps a connection to tcp:HOST:PORT, ssl:... or unix:PATH from now on."""

    async def disconnect(self, target: str) -> None:
        """Ends that."""

    async def close(self) -> None:
        """Ends everything."""


AgentMaker = Callable[[Bridge, BridgeConfig, Config], BridgeAgent]


class Silent:
    """The agent of a bridge that nobody talks to."""

    async def listen(self, target: str) -> None:
        """Nothing."""

    async def unlisten(self, target: str) -> None:
        """Nothing."""

    def connect(self, target: str) -> None:
        """Nothing."""

    async def disconnect(self, target: str) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


def silent(bridge: Bridge, own: BridgeConfig, config: Config) -> BridgeAgent:
    """Makes no agent."""
    return Silent()


def notify(message: str) -> None:
    """Tells systemd, if it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect("\0" + address[1:] if address.startswith("@") else address)
        systemd.send(message.encode())


class PidFile:
    """The pid file, locked: a second daemon in the same directory is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as ovs-appctl looks for it
        except OSError:
            pid = os.read(self._fd, 32).decode(errors="replace").strip()
            os.close(self._fd)
            raise OkoError(
                f"{path}: another oko-switchd runs here (pid {pid or 'unknown'})",
                "give this one a --run-dir of its own",
            ) from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        """Removes it."""
        with suppress(OSError):
            self.path.unlink()
        os.close(self._fd)


class Running:
    """A bridge, its configuration and its agent."""

    def __init__(self, bridge: Bridge, config: BridgeConfig, agent: BridgeAgent) -> None:
        self.bridge = bridge
        self.config = config
        self.agent = agent


class Daemon:
    """One process of oko-switchd. arguments: the command line, for SIGHUP."""

    def __init__(
        self, config: Config, arguments: Sequence[str], make_agent: AgentMaker = silent
    ) -> None:
        self.config = config
        self.running: dict[str, Running] = {}
        self._arguments = list(arguments)
        self._make_agent = make_agent
        self._end = asyncio.Event()
        self.coverage = coverage.Coverage()
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def stop(self) -> None:
        """run() ends soon."""
        self._end.set()

    async def run(self) -> int:
        """Starts, serves until it is told to end, and stops; returns the exit status."""
        loop = asyncio.get_running_loop()
        self.config.run_dir.mkdir(parents=True, exist_ok=True)
        pid_file = PidFile(self.config.pid_file or self.config.run_dir / "oko-switchd.pid")
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
            for own in self.config.bridges:
                await self._start(own)
            self._watch_links(loop)
            self._sample(loop)
            self._look_around(loop)
            await self._open_unixctl()
            await self._open_metrics()
            logger.info("ready, pid %d, run directory %s", os.getpid(), self.config.run_dir)
            notify("READY=1")
            await self._end.wait()
            logger.info("ending")
            notify("STOPPING=1")
            return 0
        finally:
            for close in reversed(self._closers):
                await close()
            for name in list(self.running):
                await self._stop(name)
            pid_file.close()

    def _watch_links(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ports follow their devices at once."""
        watch = ports.watch_links()

        def changed() -> None:
            with suppress(OSError):
                while watch.recv(65536):
                    pass
            for there in self.running.values():
                there.bridge.look_at_links()

        async def close() -> None:
            loop.remove_reader(watch)
            watch.close()

        loop.add_reader(watch, changed)
        self._closers.append(close)

    async def _open_unixctl(self) -> None:
        if self.config.unixctl == "none":
            return
        for left in self.config.run_dir.glob("oko-switchd.*.ctl"):  # by a process that was killed
            pid = left.name.split(".")[1]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                left.unlink(missing_ok=True)
        path = self.config.run_dir / f"oko-switchd.{os.getpid()}.ctl"
        server = Unixctl(Path(self.config.unixctl or path), Commands(self).table())
        await server.start()
        self._closers.append(server.close)

    async def _open_metrics(self) -> None:
        if not self.config.metrics:
            return
        server = MetricsServer(
            self.config.metrics,
            lambda: render(there.bridge for there in self.running.values()),
        )
        await server.start()
        self._closers.append(server.close)

    def _look_around(self, loop: asyncio.AbstractEventLoop) -> None:
        """Twice a second: what nobody announces."""
        for there in self.running.values():
            there.bridge.poll()  # ends of flows that waited for their last packets
            for line in there.bridge.datapath.log():
                log.logger("program").info("bridge %s: %s", there.bridge.name, line)
        self._looker = loop.call_later(LOOK_SECONDS, self._look_around, loop)

    def _sample(self, loop: asyncio.AbstractEventLoop) -> None:
        """Every few seconds: counters, for their rates."""
        self.coverage.sample(self.counters())
        self._sampler = loop.call_later(coverage.SECONDS, self._sample, loop)

    def counters(self) -> dict[str, int]:
        """Event counters of all bridges together."""
        total: Counter[str] = Counter()
        for there in self.running.values():
            total.update(coverage.counters_of(there.bridge))
        return dict(total)

    # ---------------------------------------------------------------- bridges

    async def _start(self, own: BridgeConfig) -> None:
        datapath = Datapath(
            workers=own.workers + 1,  # the last one is the control thread's
            max_flows=own.max_flows,
            max_progs=own.max_programs,
            max_map_bytes=own.max_map_bytes,
        )
        bridge = Bridge(
            own.name,
            datapath,
            dpid=own.dpid,
            fail_mode=own.fail_mode,
            max_uploads=own.max_uploads,
            max_flows=own.max_flows,
        )
        try:
            restored = self._restore(bridge)
            for table, limit in own.table_limits:  # behind what evicted flows there once were
                bridge.tables.limit(table, limit)
            for port in own.ports:
                self._add_port(bridge, port)
            if bridge.state is not None:
                bridge.state.restore_ports(bridge)
                bridge.state.start(bridge)
            if own.flows and not restored:
                self._read_flows(bridge, own.flows)
            bridge.attach(asyncio.get_running_loop())
            bridge.start(own.workers, busy_poll=own.busy_poll)
            agent = self._make_agent(bridge, own, self.config)
            self.running[own.name] = Running(bridge, own, agent)
            bridge.controllers_changed(0)
            for target in self._listeners(own):
                await agent.listen(target)
        except BaseException:
            self.running.pop(own.name, None)
            bridge.close()
            raise
        for target in own.controllers:
            agent.connect(target)
        logger.info(
            "bridge %s: dpid %016x, %d ports", own.name, bridge.dpid, len(bridge.ports()) - 1
        )

    def _listeners(self, own: BridgeConfig) -> tuple[str, ...]:
        """Where a bridge accepts connections: the sockets that tools look for, and its own."""
        path = self.config.run_dir / own.name
        old_tools = (f"{OKO_2018}punix:{path}.oko",) if own.oko_2018 else ()
        return (f"punix:{path}.mgmt", f"{SNOOP}punix:{path}.snoop", *old_tools, *own.listeners)

    async def _stop(self, name: str) -> None:
        gone = self.running.pop(name)
        await gone.agent.close()
        await gone.bridge.settle()
        if gone.bridge.state is not None:
            await gone.bridge.state.close(gone.bridge)
        gone.bridge.close()
        logger.info("bridge %s: gone", name)

    def _restore(self, bridge: Bridge) -> int:
        """What the state directory says, if there is one; how many records."""
        if self.config.state_dir is None:
            return 0
        began = time.monotonic()
        bridge.state = State(self.config.state_dir / bridge.name, sync=self.config.sync)
        n = bridge.state.restore(bridge)
        logger.info(
            "bridge %s: %d flows, %d programs restored from %d records in %.2f s",
            bridge.name, sum(1 for _ in bridge.datapath.raw_flows()), len(bridge.programs()), n,
            time.monotonic() - began,
        )  # fmt: skip
        return n

    def _add_port(self, bridge: Bridge, port: configuration.PortConfig) -> None:
        if port.number == LOCAL:
            bridge.remove_port(LOCAL)
        try:
            bridge.open_port(port)
        except BaseException:
            if port.number == LOCAL:
                bridge.add_port(LOCAL, bridge.name)
            raise
        number = "LOCAL" if port.number == LOCAL else port.number
        what = f"{port.kind} {port.target}" if port.target else port.kind
        logger.info("bridge %s: port %s (%s) is %s", bridge.name, number, port.name, what)

    def _read_flows(self, bridge: Bridge, path: str) -> None:
        from oko.text import parse_rules

        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise OkoError(f"{path}: {exc}") from None
        bridge.apply(list(parse_rules(text, path)))

    # ---------------------------------------------------------------- SIGHUP

    def _hang_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self.reload())
        self._reloading = task  # the loop holds tasks weakly

    async def reload(self) -> None:
        """Reads the configuration again and applies what changed."""
        try:
            new = configuration.load(self._arguments)
        except (OkoError, SystemExit) as exc:
            logger.error("configuration not read again: %s", exc)
            return
        if new.log_level != self.config.log_level or new.log_json != self.config.log_json:
            log.start(new.log_level, as_json=new.log_json, file=new.log_file)
        for key in FIXED:
            if getattr(new, key) != getattr(self.config, key):
                logger.warning("%s changes at the next start", key)
        self.config = replace(new, **{key: getattr(self.config, key) for key in FIXED})
        wanted = {own.name: own for own in new.bridges}
        for name in [name for name in self.running if name not in wanted]:
            await self._stop(name)
        for name, own in wanted.items():
            try:
                if name in self.running:
                    await self._change(self.running[name], own)
                else:
                    await self._start(own)
            except (OkoError, OSError) as exc:
                logger.error("bridge %s: %s", name, why(exc))
        logger.info("configuration read again")

    async def _change(self, there: Running, own: BridgeConfig) -> None:
        """Makes a running bridge what its new configuration says. What cannot be done is logged,
        and tried again at the next reload."""
        old, bridge, agent = there.config, there.bridge, there.agent
        for key in FIXED_OF_BRIDGE:
            if getattr(old, key) != getattr(own, key):
                logger.warning("bridge %s: %s changes at the next start", own.name, key)
        bridge.fail_mode = own.fail_mode
        if own.fail_mode != old.fail_mode and not own.controllers:
            bridge.controllers_changed(0)
        there.config = replace(own, ports=self._change_ports(bridge, old.ports, own.ports))
        for target in set(old.controllers) - set(own.controllers):
            await agent.disconnect(target)
        for target in own.controllers:
            if target not in old.controllers:
                agent.connect(target)
        before, after = self._listeners(old), self._listeners(own)
        for target in set(before) - set(after):
            await agent.unlisten(target)
        for target in after:
            if target in before:
                continue
            try:
                await agent.listen(target)
            except (OkoError, OSError) as exc:
                logger.error("bridge %s: %s", own.name, why(exc))
                left = tuple(t for t in there.config.listeners if t != target)
                there.config = replace(there.config, listeners=left)

    def _change_ports(self, bridge: Bridge, old: Ports, new: Ports) -> Ports:
        """Returns the ports that are there then."""
        bare = {port: replace(port, queues=()) for port in (*old, *new)}
        before, after = {bare[port]: port for port in old}, {bare[port]: port for port in new}
        for port in before.keys() - after.keys():
            bridge.remove_port(port.number)
            if port.number == LOCAL:
                bridge.add_port(LOCAL, bridge.name)
        there = []
        for key, port in sorted(after.items(), key=lambda item: item[0].number):
            try:
                if key not in before:
                    self._add_port(bridge, port)
                elif before[key] != port:  # only other queues: the port stays
                    bridge.set_queues(port.number, dict(port.queues))
                there.append(port)
            except (OkoError, OSError) as exc:
                logger.error("bridge %s: %s", bridge.name, why(exc))
        return tuple(there)
