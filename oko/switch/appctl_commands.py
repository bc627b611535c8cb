"""What ovs-appctl can ask: one function per command, from words to an Answer.

Texts follow Open vSwitch where it has the command, so that eyes and scripts that know it find what
they look for. The table at the end is all there is to know about names and arguments.
"""

from __future__ import annotations

import json
import logging
import resource
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from oko.errors import OkoError
from oko.model.compose import compose
from oko.switch import cache_view, log
from oko.switch.appctl import Answer, Command
from oko.switch.bridge import Bridge, FlowStats
from oko.switch.config import version
from oko.text import dump_flow, parse_flow
from oko.text.flows import FlowStats as Shown
from oko.text.match import format_match
from oko.text.values import format_port

if TYPE_CHECKING:
    from oko.switch.daemon import Daemon

SECOND = 10**9
MAX_CACHED = 100  # lookups of each forwarding thread that oko/cache-show shows
MAX_CACHED_ASKED = 10_000  # ... if asked to


def ovs_level(level: int) -> str:
    """vlog's name of a level."""
    return {10: "DBG", 20: "INFO", 30: "WARN", 40: "ERR", 50: "EMER"}.get(level, "OFF")


VLOG_LEVELS = {
    "emer": 50, "err": 40, "warn": 30, "info": 20, "dbg": 10, "off": 60,
    "error": 40, "warning": 30, "debug": 10,
}  # fmt: skip


def shown_flow(flow: FlowStats) -> str:
    """A flow as ovs-ofctl dump-flows prints it."""
    shown = Shown(
        duration=flow.duration / SECOND,
        n_packets=flow.n_packets,
        n_bytes=flow.n_bytes,
        idle_age=flow.idle_age // SECOND,
    )
    return dump_flow(flow.flow, shown).strip()


def flow_json(flow: FlowStats) -> dict[str, Any]:
    """A flow as an object."""
    return {
        "table": flow.table,
        "priority": flow.priority,
        "match": format_match(flow.match),
        "filter_prog": flow.filter_prog,
        "cookie": flow.cookie,
        "n_packets": flow.n_packets,
        "n_bytes": flow.n_bytes,
        "duration": flow.duration / SECOND,
        "text": shown_flow(flow),
    }


class Commands:
    """The commands of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    # ---------------------------------------------------------------- helpers

    def _bridge(self, name: str) -> Bridge:
        there = self._daemon.running.get(name)
        if there is None:
            raise OkoError(f"no such bridge: {name}")
        return there.bridge

    def _bridges(self, words: Sequence[str]) -> list[Bridge]:
        """The one named, or all."""
        if words:
            return [self._bridge(words[0])]
        return [there.bridge for there in self._daemon.running.values()]

    # ---------------------------------------------------------------- the daemon

    def version(self, words: Sequence[str]) -> Answer:
        text = f"oko-switchd {version()}"
        return Answer(text, {"version": text})

    def exit(self, words: Sequence[str]) -> Answer:
        self._daemon.stop()
        return Answer()

    async def reload(self, words: Sequence[str]) -> Answer:
        await self._daemon.reload()
        return Answer()

    def memory(self, words: Sequence[str]) -> Answer:
        found: dict[str, int] = {}
        for bridge in self._bridges(()):
            dp = bridge.datapath
            programs = dp.programs()
            maps = [m for p in programs for m in dp.maps(p.number).values()]
            for name, n in (
                ("rules", sum(info.n_flows for _, info in bridge.table_stats())),
                ("ports", len(bridge.ports())),
                ("groups", len(bridge.groups())),
                ("meters", len(bridge.meters())),
                ("macs", len(dp.macs())),
                ("programs", len(programs)),
                ("maps", len(maps)),
                ("map-bytes", sum(m.stats.memory for m in maps)),
            ):
                found[name] = found.get(name, 0) + n
        found["peak-rss-kB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Answer(" ".join(f"{name}:{n}" for name, n in found.items()), found)

    def coverage(self, words: Sequence[str]) -> Answer:
        counters = self._daemon.counters()
        return Answer(self._daemon.coverage.show(counters), counters)

    # ---------------------------------------------------------------- vlog

    def vlog_list(self, words: Sequence[str]) -> Answer:
        root = logging.getLogger(log.ROOT)
        names = sorted(
            name.removeprefix(f"{log.ROOT}.")
            for name in logging.root.manager.loggerDict
            if name.startswith(f"{log.ROOT}.")
        )
        levels = {name: ovs_level(log.logger(name).getEffectiveLevel()) for name in names}
        levels = {"ANY": ovs_level(root.level), **levels}
        lines = ["                 console", "                 -------"]
        return Answer("\n".join(lines + [f"{n:<16} {v:>7}" for n, v in levels.items()]), levels)

    def vlog_set(self, words: Sequence[str]) -> Answer:
        """[MODULE][:DESTINATION][:LEVEL] ...; one of them may be left out as ovs-appctl has it."""
        for word in words:
            self._set_level(word)
        return Answer()

    def _set_level(self, word: str) -> None:
        module, level = "ANY", logging.DEBUG
        for part in word.replace(" ", ":").split(":"):
            low = part.lower()
            if low in VLOG_LEVELS:
                level = VLOG_LEVELS[low]
            elif low in ("console", "syslog", "file", "any"):
                continue
            elif f"{log.ROOT}.{part}" in logging.root.manager.loggerDict:
                module = part
            else:
                raise OkoError(f'no module, destination, or level "{part}"')
        if module == "ANY":
            logging.getLogger(log.ROOT).setLevel(level)
            for name in tuple(logging.root.manager.loggerDict):
                if name.startswith(f"{log.ROOT}."):
                    logging.getLogger(name).setLevel(logging.NOTSET)
        else:
            log.logger(module).setLevel(level)

    # ---------------------------------------------------------------- bridges

    def ofproto_list(self, words: Sequence[str]) -> Answer:
        names = list(self._daemon.running)
        return Answer("\n".join(names), names)

    def fdb_show(self, words: Sequence[str]) -> Answer:
        lines, data = [], {}
        bridges = self._bridges(words)
        for bridge in bridges:
            if len(bridges) > 1:
                lines.append(f"{bridge.name}:")
            lines.append(" port  VLAN  MAC                Age")
            now = bridge.now
            rows = []
            for entry in sorted(bridge.macs(), key=lambda e: (e.vlan, e.mac)):
                mac, age = entry.mac.hex(":"), max(0, now - entry.seen) // SECOND
                lines.append(f"{format_port(entry.port):>5}  {entry.vlan:4}  {mac}  {age:3}")
                rows.append({"port": entry.port, "vlan": entry.vlan, "mac": mac, "age": age})
            data[bridge.name] = rows
        return Answer("\n".join(lines), data)

    def dump_flows(self, words: Sequence[str]) -> Answer:
        bridge = self._bridge(words[0])
        flows = sorted(bridge.flow_stats(), key=lambda f: (f.table, -f.priority, f.id))
        return Answer("\n".join(map(shown_flow, flows)), [flow_json(flow) for flow in flows])

    def trace(self, words: Sequence[str]) -> Answer:
        """BRIDGE FLOW [PACKET]: PACKET is a frame in hexadecimal, then FLOW only says in_port."""
        bridge = self._bridge(words[0])
        words = [word for word in words if word not in ("-generate", "--generate")]
        if len(words) < 2:
            raise OkoError("ofproto/trace BRIDGE FLOW [PACKET]")
        match = parse_flow(f"{words[1]},actions=drop").match
        if len(words) > 2:
            try:
                frame = bytes.fromhex(words[2])
            except ValueError:
                raise OkoError("PACKET is not hexadecimal") from None
            in_port = match.exact("in_port") or 0
        else:
            in_port, frame = compose(match)
        if len(frame) > 65535:
            raise OkoError("PACKET is longer than 65,535 bytes")
        trace = bridge.trace(frame, in_port)
        title = f'bridge("{bridge.name}")'
        head = [f"Flow: {format_match(match) or '(any)'}", "", title, "-" * len(title)]
        data = {"bridge": bridge.name, "frame": frame.hex(), "steps": trace.as_json()}
        return Answer("\n".join(head + trace.lines()), data)

    # ---------------------------------------------------------------- performance

    def pmd_stats(self, words: Sequence[str]) -> Answer:
        lines, data = [], {}
        for bridge in self._bridges(()):
            stats = bridge.datapath.stats()
            lookups = stats.cache_hits + stats.cache_misses + stats.direct
            per_packet = lookups / stats.packets if stats.packets else 0.0
            lines += [
                f"bridge {bridge.name}, {bridge.datapath.workers - 1} forwarding threads:",
                f"  packets received: {stats.packets}",
                "  packet recirculations: 0",
                f"  avg. datapath passes per packet: {1.0 if stats.packets else 0.0:.2f}",
                f"  emc hits: {stats.cache_hits}",
                "  smc hits: 0",
                f"  megaflow hits: {stats.direct + stats.cache_misses}",
                f"  avg. subtable lookups per megaflow hit: {per_packet:.2f}",
                f"  miss with success upcall: {bridge.datapath.drops().get('table-miss', 0)}",
                "  miss with failed upcall: 0",
                f"  avg. packets per output batch: {_mean(stats.packets, stats.bursts):.2f}",
            ]
            data[bridge.name] = {
                "packets": stats.packets,
                "bursts": stats.bursts,
                "cache_hits": stats.cache_hits,
                "cache_restamped": stats.cache_restamped,
                "cache_misses": stats.cache_misses,
                "direct": stats.direct,
                "relookups": stats.relookups,
                "commits": stats.commits,
            }
        return Answer("\n".join(lines), data)

    def pmd_perf(self, words: Sequence[str]) -> Answer:
        lines, data = [f"Time: {time.strftime('%H:%M:%S')}"], {}
        for bridge in self._bridges(()):
            stats = bridge.datapath.stats()
            hits, asked = stats.cache_hits, stats.cache_hits + stats.cache_misses
            programs = bridge.datapath.programs()
            lines += [
                f"bridge {bridge.name}:",
                f"  Rx packets:        {stats.packets:12}",
                f"  Rx bursts:         {stats.bursts:12}  "
                f"({_mean(stats.packets, stats.bursts):.2f} packets/burst)",
                f"  - EMC hits:        {hits:12}  ({100 * _mean(hits, asked):.1f} %)",
                f"  - restamped:       {stats.cache_restamped:12}",
                f"  - Megaflow hits:   {stats.direct + stats.cache_misses:12}",
                f"  Commits:           {stats.commits:12}",
            ]
            for p in programs:
                ns = "-" if p.ns_per_run is None else f"{p.ns_per_run:.0f} ns/run"
                lines.append(f"  - program {p.number} ({p.name}): {p.runs} runs, {ns}")
            data[bridge.name] = {
                "packets": stats.packets,
                "bursts": stats.bursts,
                "cache_hit_rate": _mean(hits, asked),
                "programs": {p.number: p.ns_per_run for p in programs},
            }
        return Answer("\n".join(lines), data)

    def cache_show(self, words: Sequence[str]) -> Answer:
        """[BRIDGE] [--max N] [--json]"""
        left, most, as_json = list(words), MAX_CACHED, "--json" in words
        if as_json:
            left.remove("--json")
        if "--max" in left:
            at = left.index("--max")
            number = left[at + 1] if at + 1 < len(left) else ""
            if not number.isdecimal() or not 0 < int(number) <= MAX_CACHED_ASKED:
                raise OkoError(f"--max takes a number from 1 to {MAX_CACHED_ASKED}")
            most = int(number)
            del left[at : at + 2]
        if len(left) > 1:
            raise OkoError("oko/cache-show [BRIDGE] [--max N] [--json]")
        lines: list[str] = []
        data = {}
        for bridge in self._bridges(left):
            told, data[bridge.name] = cache_view.show(bridge, most)
            lines += told
        return Answer(json.dumps(data) if as_json else "\n".join(lines), data)

    # ---------------------------------------------------------------- programs

    def show_prog(self, words: Sequence[str]) -> Answer:
        """[BRIDGE [NUMBER]]"""
        lines, data = [], {}
        for bridge in self._bridges(words[:1]):
            rows = []
            for p in bridge.programs():
                if len(words) > 1 and words[1] != str(p.number):
                    continue
                loaded = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(p.loaded_at))
                lines.append(
                    f"{bridge.name} program {p.number} ({p.name}): {p.n_insns} instructions, "
                    f"{p.stats.n_flows} flows, {p.stats.runs} runs, {p.stats.matches} matches, "
                    f"{p.stats.faults} faults"
                )
                lines.append(f"  loaded {loaded} by {p.owner or '?'}, sha256 {p.sha256}")
                for number, m in enumerate(bridge.maps(p.number).values()):
                    lines.append(
                        f"  map {number} {m.name}: {m.spec.type_label}, "
                        f"{m.stats.n_entries} of {m.spec.max_entries} entries"
                    )
                rows.append(
                    {
                        "id": p.number,
                        "name": p.name,
                        "owner": p.owner,
                        "loaded_at": p.loaded_at,
                        "sha256": p.sha256,
                        "n_insns": p.n_insns,
                        "maps": list(p.maps),
                        "flows": p.stats.n_flows,
                        "runs": p.stats.runs,
                        "matches": p.stats.matches,
                        "faults": p.stats.faults,
                    }
                )
            data[bridge.name] = rows
        if len(words) > 1 and not any(data.values()):
            raise OkoError(f"program {words[1]} is not loaded")
        return Answer("\n".join(lines), data)

    def table(self) -> dict[str, Command]:
        """Every command by name."""
        return {
            "version": Command("", 0, 0, self.version),
            "exit": Command("[--cleanup]", 0, 1, self.exit),
            "memory/show": Command("", 0, 0, self.memory),
            "coverage/show": Command("", 0, 0, self.coverage),
            "vlog/list": Command("", 0, 0, self.vlog_list),
            "vlog/set": Command("{spec | [module][:destination][:level]}", 1, 99, self.vlog_set),
            "ofproto/list": Command("", 0, 0, self.ofproto_list),
            "ofproto/trace": Command("bridge flow [packet]", 2, 4, self.trace),
            "fdb/show": Command("[bridge]", 0, 1, self.fdb_show),
            "bridge/dump-flows": Command("bridge", 1, 1, self.dump_flows),
            "dpif-netdev/pmd-stats-show": Command("", 0, 4, self.pmd_stats),
            "dpif-netdev/pmd-perf-show": Command("", 0, 8, self.pmd_perf),
            "oko/cache-show": Command("[bridge] [--max n] [--json]", 0, 4, self.cache_show),
            "oko/show-prog": Command("[bridge [number]]", 0, 2, self.show_prog),
            "oko/reload": Command("", 0, 0, self.reload),
        }


def _mean(total: int, n: int) -> float:
    return total / n if n else 0.0
