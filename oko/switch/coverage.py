"""Counters of events with their rates: what coverage/show prints.

A counter is any number that only grows: drops by reason, cache misses, messages. The daemon samples
them every five seconds, for an hour; rates are differences of samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from oko.switch.bridge import Bridge

SECONDS = 5
SAMPLES = 3600 // SECONDS


def counters_of(bridge: Bridge) -> dict[str, int]:
    """All event counters of a bridge; only those that counted something."""
    stats = bridge.datapath.stats()
    found = {f"drop_{reason.replace('-', '_')}": n for reason, n in bridge.datapath.drops().items()}
    found |= {
        "cache_hit": stats.cache_hits,
        "cache_restamp": stats.cache_restamped,
        "cache_miss": stats.cache_misses,
        "table_direct": stats.direct,
        "relookup": stats.relookups,
        "commit": stats.commits,
        "packet": stats.packets,
        "burst": stats.bursts,
        "event": bridge.events_seen,
        "event_lost": bridge.datapath.events_lost(),
    }
    found |= bridge.counters
    return {name: n for name, n in found.items() if n}


class Coverage:
    """Samples of counters."""

    def __init__(self) -> None:
        self._samples: deque[Mapping[str, int]] = deque(maxlen=SAMPLES + 1)

    def sample(self, counters: Mapping[str, int]) -> None:
        """To be called every SECONDS."""
        self._samples.append(dict(counters))

    def rates(self, name: str, now: int) -> tuple[float, float, float]:
        """Per second, over the last five seconds, minute and hour."""
        found = []
        for seconds in (5, 60, 3600):
            n = min(seconds // SECONDS, len(self._samples))
            before = self._samples[-n].get(name, 0) if n else now
            found.append((now - before) / (n * SECONDS) if n else 0.0)
        return found[0], found[1], found[2]

    def show(self, counters: Mapping[str, int]) -> str:
        """As Open vSwitch prints it."""
        lines = ["Event coverage, avg rate over last: 5 seconds, last minute, last hour:"]
        for name in sorted(counters):
            five, minute, hour = self.rates(name, counters[name])
            lines.append(
                f"{name:<24} {five:5.1f}/sec {minute:9.3f}/sec {hour:13.4f}/sec   "
                f"total: {counters[name]}"
            )
        return "\n".join([*lines, f"{len(counters)} events counted"])
