"""What oko-switchd is to do: read from the command line and from a TOML file into one value.

    oko-switchd --bridge br0 --port 1=afpacket:veth0 --controller tcp:127.0.0.1:6653

    [[bridge]]                           # the same, as a file
    name = "br0"
    ports = ["1=afpacket:veth0"]
    controllers = ["tcp:127.0.0.1:6653"]

Options of a bridge on the command line belong to the --bridge before them; a bridge that the file
has too gets the command line's values on top. The file's keys are the long options' names. Both
become `Config`; what changed between two of them is the daemon's to compute, so that SIGHUP is
"read again, apply the difference". Every mistake is a ConfigError that names place and remedy.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oko.errors import OkoError
from oko.switch.ports import LOCAL

PORT_MAX = 0x7FFFFF00
KINDS = ("null", "mem", "pcap", "afpacket", "tap", "internal")
PROTOCOLS = {"OpenFlow10": 1, "OpenFlow13": 4, "OpenFlow14": 5, "OpenFlow15": 6}
DEFAULT_PROTOCOLS = (1, 4, 5)
LEVELS = ("debug", "info", "warning", "error")
NEEDS_NAME = ("pcap", "afpacket", "tap")
ACTIVE, PASSIVE = ("tcp", "ssl", "unix"), ("ptcp", "pssl", "punix")
OKO_2018 = "oko2018:"
SNOOP = "snoop:"  # before the address of a listener whose peers only listen in
"""Before an address: who is there speaks the dialect of the 2018 prototype Oko."""


class ConfigError(OkoError):
    """The command line or the configuration file is wrong; the message says where."""


@dataclass(frozen=True, slots=True)
class PortConfig:
    """A port: its OpenFlow number, kind, the device or file that it stands for, options, and queues
    as (number, highest rate in bit/s or 0)."""

    number: int
    kind: str
    name: str
    target: str = ""
    options: tuple[tuple[str, str], ...] = ()
    queues: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """A bridge. dpid None: made from its name. Limits: 0 = the default."""

    name: str
    dpid: int | None = None
    ports: tuple[PortConfig, ...] = ()
    controllers: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    protocols: tuple[int, ...] = DEFAULT_PROTOCOLS
    fail_mode: str = "secure"
    workers: int = 1
    busy_poll: bool = False
    max_flows: int = 0
    table_limits: tuple[tuple[int, int], ...] = ()
    max_programs: int = 1024
    max_map_bytes: int = 1 << 30
    max_uploads: int = 16
    flows: str = ""
    oko_2018: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The whole daemon."""

    bridges: tuple[BridgeConfig, ...] = ()
    run_dir: Path = Path("/run/oko")
    state_dir: Path | None = None
    sync: bool = False
    pid_file: Path | None = None
    unixctl: str = ""
    log_level: str = "info"
    log_json: bool = False
    log_file: Path | None = None
    metrics: str = ""
    private_key: Path | None = None
    certificate: Path | None = None
    ca_cert: Path | None = None
    file: Path | None = field(default=None, compare=False)


# ---------------------------------------------------------------- values


def default_run_dir() -> Path:
    """$OVS_RUNDIR, /run/oko for root, else a directory of the user's own."""
    given = os.environ.get("OVS_RUNDIR")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/run/oko")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/oko-{os.geteuid()}") / "oko"


def parse_port(text: str) -> PortConfig:
    """NUMBER=KIND[:TARGET][,option=value...], e.g. 2=pcap:in.pcap,write=out.pcap."""
    number_text, equals, rest = text.partition("=")
    if not equals:
        raise ConfigError(f"port {text!r}: NUMBER=KIND[:DEVICE] is wanted, e.g. 1=afpacket:veth0")
    if number_text.upper() == "LOCAL":
        number = LOCAL
    elif number_text.isdecimal() and 0 < int(number_text) < PORT_MAX:
        number = int(number_text)
    else:
        raise ConfigError(
            f"port {text!r}: {number_text!r} is no port number", f"1..{PORT_MAX - 1} or LOCAL"
        )
    head, *options = rest.split(",")
    kind, _, target = head.partition(":")
    if kind not in KINDS:
        raise ConfigError(f"port {text!r}: there is no kind {kind!r}", "kinds: " + ", ".join(KINDS))
    if kind in NEEDS_NAME and not target and not (kind == "pcap" and options):
        raise ConfigError(f"port {text!r}: {kind} of what?", f"{number_text}={kind}:NAME")
    pairs = []
    queues: dict[int, int] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key == "queue":
            queue, rate = parse_queue(value, text)
            if queue in queues:
                raise ConfigError(f"port {text!r}: queue {queue} twice")
            queues[queue] = rate
            continue
        if key not in (*PORT_OPTIONS.get(kind, ()), "name"):
            raise ConfigError(f"port {text!r}: {kind} has no option {key!r}")
        pairs.append((key, value))
    own = dict(pairs).get("name")
    name = own or (target if kind in ("afpacket", "tap", "internal") and target else "")
    if not name:
        name = "LOCAL" if number == LOCAL else f"port{number}"
    if len(name.encode()) > 31:
        raise ConfigError(f"port {text!r}: the name is longer than 31 bytes")
    left = tuple(p for p in pairs if p[0] != "name")
    return PortConfig(number, kind, name, target, left, tuple(sorted(queues.items())))


def parse_queue(value: str, where: str) -> tuple[int, int]:
    """NUMBER[:RATE], RATE in bit/s with k, M or G: 1:10M."""
    found = re.fullmatch(r"(\d{1,10})(?::(\d+)([kMG]?))?", value)
    if not found or int(found[1]) >= 0xFFFFFFFF:
        raise ConfigError(
            f"port {where!r}: queue={value} is not NUMBER[:RATE]", "e.g. queue=1:10M, in bit/s"
        )
    rate = int(found[2] or 0) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[found[3] or ""]
    if found[2] and not 1000 <= rate <= 10**12:
        raise ConfigError(f"port {where!r}: queue={value}: the rate is not in 1k..1000G")
    return int(found[1]), rate


PORT_OPTIONS: dict[str, tuple[str, ...]] = {"pcap": ("write", "loop", "speed")}


def parse_target(text: str, kinds: Sequence[str]) -> str:
    """Checks the form of a controller's or listener's address, which OKO_2018 may precede."""
    kind, colon, rest = text.removeprefix(OKO_2018).partition(":")
    if kind not in kinds or not colon or (not rest and kind not in ("ptcp", "pssl")):
        raise ConfigError(
            f"{text!r} is no address", "one of " + ", ".join(f"{k}:..." for k in kinds)
        )
    return text


def parse_dpid(text: str | int) -> int:
    """A datapath id: hexadecimal, as ovs-vsctl writes it, or with 0x."""
    if isinstance(text, int):
        value = text
    else:
        if not re.fullmatch(r"(0x)?[0-9a-fA-F:]{1,23}", text):
            raise ConfigError(f"dpid {text!r}: up to 16 hexadecimal digits are wanted")
        value = int(text.replace(":", ""), 16)
    if not 0 < value < 1 << 64:
        raise ConfigError(f"dpid {text!r} is not in 1..2^64-1")
    return value


def parse_protocols(text: str | Sequence[str]) -> tuple[int, ...]:
    """Names such as OpenFlow10,OpenFlow13 to wire versions."""
    names = text.split(",") if isinstance(text, str) else text
    for name in names:
        if name not in PROTOCOLS:
            raise ConfigError(
                f"there is no protocol {name!r}", "protocols: " + ", ".join(PROTOCOLS)
            )
    return tuple(sorted({PROTOCOLS[name] for name in names}))


def parse_size(text: str | int) -> int:
    """Bytes, with K, M or G."""
    found = re.fullmatch(r"(\d+)([KMG]?)(i?B)?", str(text))
    if not found:
        raise ConfigError(f"{text!r} is no size", "e.g. 512M")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]


def _count(low: int, high: int) -> Callable[[str | int], int]:
    def parse(text: str | int) -> int:
        if not str(text).isdecimal() or not low <= int(text) <= high:
            raise ConfigError(f"{text!r} is not a number in {low}..{high}")
        return int(text)

    return parse


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ConfigError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return parse


def _bool(value: bool) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{value!r} is neither true nor false")
    return value


def _metrics(text: str) -> str:
    host, colon, number = text.rpartition(":")
    if not number.isdecimal() or not int(number) < 65536:
        raise ConfigError(f"metrics {text!r}: [ADDRESS:]PORT is wanted")
    return f"{host if colon and host else '127.0.0.1'}:{number}"


def parse_table_limit(text: str) -> tuple[int, int]:
    """TABLE=FLOWS. ConfigError."""
    table, _, limit = text.partition("=")
    if not (table.isdecimal() and limit.isdecimal() and int(table) < 254 and int(limit) > 0):
        raise ConfigError(f"table limit {text!r}: TABLE=FLOWS is wanted", "for example 0=1000")
    return int(table), min(int(limit), 1 << 24)


def _bridge_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,31}", text) or text in (".", ".."):
        raise ConfigError(f"{text!r} is no bridge name", "up to 31 letters, digits, _ . -")
    return text


# Each option of a bridge: (parse one value, may be repeated). The file uses the same names.
BRIDGE_OPTIONS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "dpid": (parse_dpid, False),
    "ports": (parse_port, True),
    "controllers": (lambda text: parse_target(text, ACTIVE), True),
    "listeners": (lambda text: parse_target(text, PASSIVE), True),
    "protocols": (parse_protocols, False),
    "fail_mode": (_one_of(("secure", "standalone")), False),
    "workers": (_count(1, 63), False),
    "busy_poll": (_bool, False),
    "max_flows": (_count(1, 1 << 24), False),
    "table_limits": (parse_table_limit, True),
    "max_programs": (_count(1, 65535), False),
    "max_map_bytes": (parse_size, False),
    "max_uploads": (_count(1, 4096), False),
    "flows": (str, False),
    "oko_2018": (_bool, False),
}
OPTIONS: dict[str, Callable[[Any], Any]] = {
    "run_dir": Path,
    "state_dir": Path,
    "sync": _bool,
    "pid_file": Path,
    "unixctl": str,
    "log_level": _one_of(LEVELS),
    "log_json": _bool,
    "log_file": Path,
    "metrics": _metrics,
    "private_key": Path,
    "certificate": Path,
    "ca_cert": Path,
}


# ---------------------------------------------------------------- putting it together


def _bridge(name: str, given: Mapping[str, Any], place: str) -> BridgeConfig:
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in BRIDGE_OPTIONS:
            raise ConfigError(
                f"{place}: bridge {name} has no option {key!r}",
                "options: " + ", ".join(BRIDGE_OPTIONS),
            )
        parse, repeated = BRIDGE_OPTIONS[key]
        try:
            if repeated:
                if isinstance(value, str) or not isinstance(value, Sequence):
                    raise ConfigError("a list is wanted")
                values[key] = tuple(parse(item) for item in value)
            else:
                values[key] = parse(value)
        except ConfigError as exc:
            raise ConfigError(f"{place}: bridge {name}: {key}: {exc}", exc.hint) from None
        except (TypeError, AttributeError):
            raise ConfigError(f"{place}: bridge {name}: {key}: {value!r} cannot be") from None
    ports: dict[int, PortConfig] = {}
    names: set[str] = set()
    for port in values.get("ports", ()):
        if port.number in ports or port.name in names:
            raise ConfigError(f"{place}: bridge {name}: port {port.number} ({port.name}) twice")
        ports[port.number] = port
        names.add(port.name)
    return BridgeConfig(name=_bridge_name(name), **values)


def build(file: Mapping[str, Any], line: Mapping[str, Any], place: str) -> Config:
    """A Config from the file's contents with the command line's on top."""
    values: dict[str, Any] = {"run_dir": default_run_dir()}
    for source, where in ((file, place), (line, "command line")):
        for key, value in source.items():
            if key == "bridge":
                continue
            if key not in OPTIONS:
                raise ConfigError(
                    f"{where}: there is no option {key!r}",
                    "options: bridge, " + ", ".join(OPTIONS),
                )
            try:
                values[key] = OPTIONS[key](value)
            except ConfigError as exc:
                raise ConfigError(f"{where}: {key}: {exc}", exc.hint) from None
            except (TypeError, AttributeError):
                raise ConfigError(f"{where}: {key}: {value!r} cannot be") from None
    bridges: dict[str, tuple[dict[str, Any], str]] = {}
    for source, where in ((file, place), (line, "command line")):
        seen: set[str] = set()
        entries = source.get("bridge", [])
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ConfigError(f"{where}: bridge: [[bridge]] tables are wanted")
        for entry in entries:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
                raise ConfigError(f"{where}: a bridge without a name")
            own = {k: v for k, v in entry.items() if k != "name"}
            before, _ = bridges.get(entry["name"], ({}, ""))
            if source is file and entry["name"] in seen:
                raise ConfigError(f"{where}: bridge {entry['name']} twice")
            seen.add(entry["name"])
            for key, value in own.items():
                if key in before and BRIDGE_OPTIONS.get(key, (None, False))[1]:
                    before[key] = [*before[key], *value]
                else:
                    before[key] = value
            bridges[entry["name"]] = (before, where)
    made = tuple(_bridge(name, own, where) for name, (own, where) in bridges.items())
    return Config(bridges=made, **values)


def read_file(path: Path) -> Mapping[str, Any]:
    """A TOML file's contents."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from None


class _OfBridge(argparse.Action):
    """An option of the --bridge before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if not namespace.bridge:
            parser.error(f"{option_string} belongs behind a --bridge")
        bridge = namespace.bridge[-1]
        if BRIDGE_OPTIONS[self.dest][1]:
            bridge.setdefault(self.dest, []).append(values)
        else:
            bridge[self.dest] = True if self.nargs == 0 else values


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="oko-switchd",
        description="An OpenFlow switch whose flows can match with BPF filter programs.",
        epilog="A bridge's options follow its --bridge. docs/switchd.md has the whole story.",
        argument_default=argparse.SUPPRESS,
    )
    add = made.add_argument
    add("--version", action="version", version=f"oko-switchd {version()}")
    add("-c", "--config", metavar="FILE", type=Path, help="TOML file; SIGHUP reads it again")
    add("--run-dir", metavar="DIR", help="sockets and pid file; $OVS_RUNDIR, else /run/oko")
    add("--state-dir", metavar="DIR", help="keep programs, flows and maps here over restarts")
    add("--sync", action="store_true", help="acknowledge only what the disk has (--state-dir)")
    add("--pid-file", metavar="FILE", help="instead of oko-switchd.pid in the run directory")
    add("--unixctl", metavar="FILE", help="socket for ovs-appctl, or none")
    add("--log-level", metavar="LEVEL", help=", ".join(LEVELS))
    add("--log-json", action="store_true", help="one JSON object per line")
    add("--log-file", metavar="FILE", help="instead of standard error")
    add("--metrics", metavar="[ADDR:]PORT", help="serve Prometheus metrics; 127.0.0.1 by default")
    add("-p", "--private-key", metavar="FILE", help="TLS key of ssl: and pssl:")
    add("-C", "--ca-cert", metavar="FILE", help="TLS certificates that peers are checked against")
    add("--certificate", metavar="FILE", help="TLS certificate of ssl: and pssl:")
    group = made.add_argument_group("bridges")
    group.add_argument("--bridge", metavar="NAME", action="append", type=lambda n: {"name": n})

    def own(flag: str, dest: str, **rest: Any) -> None:
        group.add_argument(flag, dest=dest, action=_OfBridge, **rest)

    own("--dpid", "dpid", metavar="HEX", help="datapath id; made from the name otherwise")
    own("--port", "ports", metavar="N=KIND[:DEVICE]",
        help=f"kinds: {', '.join(KINDS)}; ,queue=N[:RATE] declares a queue")  # fmt: skip
    own("--controller", "controllers", metavar="TARGET", help="tcp:HOST:PORT, ssl:..., unix:PATH")
    own("--listen", "listeners", metavar="TARGET", help="ptcp:[PORT[:HOST]], pssl:..., punix:PATH")
    own("--protocols", "protocols", metavar="LIST", help="e.g. OpenFlow10,OpenFlow13")
    own("--fail-mode", "fail_mode", metavar="MODE", help="secure (default) or standalone")
    own("--workers", "workers", metavar="N", help="forwarding threads, 1 by default")
    own("--busy-poll", "busy_poll", nargs=0, help="forwarding threads never sleep")
    own("--max-flows", "max_flows", metavar="N")
    own("--table-limit", "table_limits", metavar="TABLE=N", help="flows in one table")
    own("--max-programs", "max_programs", metavar="N", help="1024 by default")
    own("--max-map-bytes", "max_map_bytes", metavar="SIZE", help="1G by default")
    own("--max-uploads", "max_uploads", metavar="N", help="16 by default")
    own("--flows", "flows", metavar="FILE", help="flows to start with, in ovs-ofctl's grammar")
    own("--oko-2018", "oko_2018", nargs=0, help="a socket BRIDGE.oko for tools of Oko 2018")
    return made


def version() -> str:
    """The package's version."""
    from importlib import metadata

    try:
        return metadata.version("oko")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def load(argv: Sequence[str]) -> Config:
    """From the command line, and the file that it names."""
    given = {"bridge": [], **vars(parser().parse_args(argv, argparse.Namespace(bridge=[])))}
    path = given.pop("config", None)
    for bridge in given["bridge"]:
        _bridge_name(bridge["name"])
    config = build(read_file(path) if path else {}, given, str(path))
    if not config.bridges:
        raise ConfigError("there is no bridge to run", "--bridge br0 --port 1=null")
    return dataclasses.replace(config, file=path)
