"""One run of the command: its options, the connections it opens, what it prints.

OpenFlow versions: -O says which to offer. Without it a command has its favourites (1.0 for most, as
ovs-ofctl; 1.3 where 1.0 lacks the thing), and where the switch has none of those, any other.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oko.errors import OkoError
from oko.ofctl.commandline import Line, UsageError
from oko.openflow.client import (
    Connection,
    NoVersionError,
    TlsFiles,
    bridge_target,
    connect,
    oko_hello,
)
from oko.openflow.common import OF10, OF13, OF14, OF15, VERSION_NAMES, VERSIONS

VERSION_WORDS = {
    "openflow10": OF10, "of1.0": OF10, "1.0": OF10,
    "openflow13": OF13, "of1.3": OF13, "1.3": OF13,
    "openflow14": OF14, "of1.4": OF14, "1.4": OF14,
    "openflow15": OF15, "of1.5": OF15, "1.5": OF15,
}  # fmt: skip
FIRST = (OF10,)
"""What most commands try first."""
SINCE_13 = (OF13,)


def run_dirs(given: str = "") -> list[str]:
    """Where bridges' sockets may be."""
    if given:
        return [given]
    named = os.environ.get("OVS_RUNDIR")
    if named:
        return [named]
    if os.geteuid() == 0:
        return ["/run/oko", "/run/openvswitch", "/var/run/openvswitch"]
    own = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/oko-{os.geteuid()}"
    return [f"{own}/oko", "/run/oko"]


class Run:
    """Options, connections, output."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.json = line.has("json")
        self.more = line.has("more")
        self._open: list[Connection] = []

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc: object) -> None:
        for switch in self._open:
            switch.close()

    # ---------------------------------------------------------------- options

    def number(self, key: str, what: str) -> float | None:
        """An option that is a number of seconds or of things."""
        text = self.line.get(key)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e9:
            raise UsageError(f"--{key}={text}: {what} is wanted")
        return value

    @property
    def versions(self) -> tuple[int, ...] | None:
        """Those of -O, or None."""
        text = self.line.get("protocols")
        if not text:
            return None
        found = []
        for word in text.replace(",", " ").split():
            version = VERSION_WORDS.get(word.lower())
            if version is None:
                raise UsageError(
                    f"{word}: unknown OpenFlow version",
                    "OpenFlow10, OpenFlow13, OpenFlow14 and OpenFlow15 there are",
                )
            found.append(version)
        return tuple(found)

    def need(self, least: int, what: str) -> None:
        """UsageError if -O has no version since this one."""
        if self.versions is not None and max(self.versions) < least:
            text = VERSION_NAMES[least]
            option = f"-O OpenFlow{text.replace('.', '')}"
            raise UsageError(f"{what} needs OpenFlow {text} or later ('{option}')")

    @property
    def color(self) -> bool:
        """Whether output is coloured."""
        when = (self.line.get("color") or "always") if self.line.has("color") else "auto"
        if when not in ("always", "never", "auto"):
            raise UsageError(f"--color={when}: always, never or auto")
        if when == "auto":
            terminal = sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"
            return terminal and not os.environ.get("NO_COLOR")
        return when == "always"

    @property
    def wants_names(self) -> bool:
        """Whether ports are shown by name."""
        if self.line.has("names") or self.line.has("no_names"):
            return self.line.has("names")
        return sys.stdout.isatty()

    # ---------------------------------------------------------------- connections

    def connect(
        self,
        name: str,
        versions: Sequence[int] = FIRST,
        *,
        aware: bool = False,
        suffix: str = "mgmt",
    ) -> Connection:
        """A connection to a switch. aware: tell it that oko's fields are understood here (a switch
        that is not oko answers with an error, which is overlooked). suffix: of its socket."""
        target = bridge_target(name, run_dirs(self.line.get("run_dir")), suffix)
        chosen = self.versions
        try:
            switch = self._connect(target, chosen or versions)
        except NoVersionError:
            if chosen:
                raise
            switch = self._connect(target, VERSIONS)
        self._open.append(switch)
        if aware:
            switch.send(oko_hello(switch.version), ignore_errors=True)
        return switch

    def _connect(self, target: str, versions: Sequence[int]) -> Connection:
        line = self.line
        tls = TlsFiles(line.get("private_key"), line.get("certificate"), line.get("ca_cert"))
        seconds = self.number("timeout", "a number of seconds") or 10.0
        return connect(target, versions, timeout=seconds, tls=tls)

    def ports(self, name: str) -> Ports:
        """The ports of a switch by name, asked for only when text names one."""
        return Ports(self, name)

    # ---------------------------------------------------------------- output

    def print_json(self, value: Any) -> None:
        """One JSON value."""
        print(json.dumps(value, indent=2, ensure_ascii=False))


class Ports(Mapping[str, int]):
    """Numbers of ports by name; the switch is asked on the first use."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self._name = name
        self._found: dict[str, int] | None = None

    def _ports(self) -> dict[str, int]:
        if self._found is None:
            try:
                switch = self._run.connect(self._name)
            except OkoError:
                self._found = {}  # the command itself will say so
            else:
                self._found = {name: n for n, name in port_names(switch).items()}
        return self._found

    def __getitem__(self, name: str) -> int:
        return self._ports()[name]

    def __contains__(self, name: object) -> bool:
        # Most ports are numbers: no question for those.
        text = str(name)
        return not text[:1].isdigit() and text in self._ports()

    def __iter__(self) -> Iterator[str]:
        return iter(self._ports())

    def __len__(self) -> int:
        return len(self._ports())


def port_names(switch: Connection) -> dict[int, str]:
    """Names of a switch's ports by number."""
    from oko.openflow import port_messages

    request = port_messages.encode_port_desc_request(switch.version)
    return {
        port.number: port.name
        for reply in switch.multipart(request)
        for port in port_messages.decode_port_desc(switch.version, reply)
    }
