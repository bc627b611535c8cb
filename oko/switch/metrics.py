"""Prometheus metrics: GET /metrics over HTTP, when asked for, on the loopback by default.

Text exposition format 0.0.4. Counters are the datapath's own, exact, read when somebody asks; flows
are summed by cookie, so that the number of series is what the controllers make it. At most
MAX_COOKIES of them are shown per bridge, those with most packets, and a gauge says how many there
are.

The server knows one path and one method, reads at most 8 KiB of a request and closes after the
answer; a client that does not finish its request within ten seconds is closed.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from oko.switch import log
from oko.switch.bridge import Bridge
from oko.switch.config import version
from oko.switch.coverage import counters_of

logger = log.logger("metrics")

MAX_COOKIES = 1000
SECONDS = 10

Sample = tuple[dict[str, object], float]


def _escape(value: object) -> str:
    return str(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Page:
    """The text, a family after another."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, list[str]]] = {}

    def add(self, name: str, kind: str, about: str, samples: Iterable[Sample]) -> None:
        """Adds samples (labels, value) to a family."""
        lines = self._families.setdefault(name, (kind, about, []))[2]
        for labels, value in samples:
            inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
            lines.append(f"{name}{{{inside}}} {value:.17g}" if inside else f"{name} {value:.17g}")

    def text(self) -> str:
        """All families that have samples."""
        found = []
        for name, (kind, about, lines) in self._families.items():
            if lines:
                found += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *lines]
        return "\n".join(found) + "\n"


def render(bridges: Iterable[Bridge]) -> str:
    """The whole page."""
    page = _Page()
    page.add("oko_info", "gauge", "Version of oko-switchd.", [({"version": version()}, 1)])
    for bridge in bridges:
        _bridge(page, bridge)
    return page.text()


def _bridge(page: _Page, bridge: Bridge) -> None:
    own: dict[str, object] = {"bridge": bridge.name}
    stats = bridge.datapath.stats()
    names = {p.number: p.name for p in bridge.ports()}
    for field, what in (
        ("rx_packets", "Packets received"), ("rx_bytes", "Bytes received"),
        ("rx_dropped", "Packets lost before they were received"),
        ("tx_packets", "Packets sent"), ("tx_bytes", "Bytes sent"),
        ("tx_dropped", "Packets that the port could not send"),
    ):  # fmt: skip
        page.add(
            f"oko_port_{field}_total", "counter", f"{what}, by port.",
            [
                ({**own, "port": p.number, "name": names.get(p.number, p.name)}, getattr(p, field))
                for p in bridge.datapath.ports()
            ],
        )  # fmt: skip
    for field, what in (
        ("tx_packets", "Packets sent"), ("tx_bytes", "Bytes sent"),
        ("tx_errors", "Packets beyond the rate, or that the port could not send"),
    ):  # fmt: skip
        page.add(
            f"oko_queue_{field}_total", "counter", f"{what}, by declared queue.",
            [
                ({**own, "port": q.port, "name": names.get(q.port, ""), "queue": q.queue},
                 getattr(q, field))
                for q in bridge.queue_stats()
            ],
        )  # fmt: skip
    page.add(
        "oko_drops_total", "counter", "Packets dropped, by reason.",
        [({**own, "reason": reason}, n) for reason, n in bridge.datapath.drops().items()],
    )  # fmt: skip
    page.add("oko_packets_total", "counter", "Packets handled.", [(own, stats.packets)])
    page.add(
        "oko_lookups_total", "counter", "Table lookups, by who answered.",
        [
            ({**own, "by": "cache"}, stats.cache_hits),
            ({**own, "by": "classifier"}, stats.cache_misses + stats.direct),
        ],
    )  # fmt: skip
    page.add(
        "oko_events_total", "counter", "Other events, by name.",
        [
            ({**own, "event": name}, n)
            for name, n in counters_of(bridge).items()
            if not name.startswith("drop_")
        ],
    )  # fmt: skip
    tables = [(number, info) for number, info in bridge.table_stats() if info.n_flows]
    page.add(
        "oko_table_flows", "gauge", "Flows, by table.",
        [({**own, "table": number}, info.n_flows) for number, info in tables],
    )  # fmt: skip
    _cookies(page, bridge, own)
    _programs(page, bridge, own)


def _cookies(page: _Page, bridge: Bridge, own: dict[str, object]) -> None:
    sums: dict[int, list[int]] = {}
    for flow in bridge.flow_stats():
        total = sums.setdefault(flow.cookie, [0, 0])
        total[0] += flow.n_packets
        total[1] += flow.n_bytes
    page.add("oko_cookies", "gauge", "Cookies that flows have.", [(own, len(sums))])
    shown = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))[:MAX_COOKIES]
    for i, what in enumerate(("packets", "bytes")):
        page.add(
            f"oko_flow_{what}_total", "counter", f"{what.capitalize()} of flows, by cookie.",
            [({**own, "cookie": f"{cookie:#x}"}, total[i]) for cookie, total in shown],
        )  # fmt: skip


def _programs(page: _Page, bridge: Bridge, own: dict[str, object]) -> None:
    programs = bridge.datapath.programs()
    for field, what in (
        ("runs", "Packets that a program was asked about"),
        ("matches", "Packets that a program matched"),
        ("faults", "Runs that a run-time check stopped"),
    ):
        page.add(
            f"oko_program_{field}_total", "counter", f"{what}.",
            [
                ({**own, "program": p.number, "name": p.name}, getattr(p, field))
                for p in programs
            ],
        )  # fmt: skip
    page.add(
        "oko_program_run_seconds", "gauge", "Mean time of a sampled run.",
        [
            ({**own, "program": p.number, "name": p.name}, p.ns_per_run / 1e9)
            for p in programs
            if p.ns_per_run is not None
        ],
    )  # fmt: skip
    page.add(
        "oko_map_entries", "gauge", "Entries of a program's map.",
        [
            ({**own, "program": p.number, "map": m.name}, m.stats.n_entries)
            for p in programs
            for m in bridge.maps(p.number).values()
        ],
    )  # fmt: skip


class MetricsServer:
    """The HTTP server. page: makes the text."""

    def __init__(self, address: str, page: Callable[[], str]) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._page = page
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to listen. OSError: the address is taken, or not ours."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=8192)
        for host, port, *_ in (s.getsockname() for s in self._server.sockets):
            logger.info("metrics at http://%s:%d/metrics", host, port)

    async def close(self) -> None:
        """Ends it."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
            writer.writelines(self._reply(head))
            await asyncio.wait_for(writer.drain(), SECONDS)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass
        except ConnectionError:
            pass
        except Exception:
            logger.exception("metrics failed")
        finally:
            with suppress(OSError):
                writer.close()

    def _reply(self, head: bytes) -> Iterator[bytes]:
        words = head.split(b"\r\n", 1)[0].split()
        status, body, kind = "200 OK", b"", "text/plain; version=0.0.4; charset=utf-8"
        if len(words) != 3:
            status = "400 Bad Request"
        elif words[0] not in (b"GET", b"HEAD"):
            status = "405 Method Not Allowed"
        elif words[1].split(b"?")[0] != b"/metrics":
            status = "404 Not Found"
        else:
            body = self._page().encode()
        yield (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        if words[:1] != [b"HEAD"]:
            yield body
