"""A dump of flows: entries by the thousand, written in C.

The core hands out its flows as records, many at a time. Of each kind of flow the first is encoded
here, by the naive way, and given to the core as a stencil, with the places of what differs
(oko/openflow/flow_stats.py); the core then writes the entries of all the others. Where no stencil
can be made, because there are too many kinds or because these places differ too, every flow goes
the naive way.

Thread-safety: the asyncio loop's; a dump is read while flows come and go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from oko._binding_stencils import Stencils
from oko.openflow.common import MAX_MESSAGE
from oko.openflow.flow_stats import StatsEncoder

if TYPE_CHECKING:
    from oko.switch.bridge import Bridge

ROOM = MAX_MESSAGE - 64
"""Bytes of entries that fit into a message, whatever its heads."""


def entries(bridge: Bridge, encoder: StatsEncoder, *asked: Any) -> Iterator[bytes]:
    """The entries of the flows that Bridge.flow_stats(*asked) gives, one or many in each piece."""
    now = bridge.now
    numbers = encoder.numbers()
    if numbers is None:
        yield from map(encoder.entry, bridge.flow_stats(*asked))
        return
    with Stencils(numbers, encoder.fixed_fields()) as stencils:
        for flows in bridge.flow_records(*asked):
            at = 0
            while at < len(flows):
                written, at = stencils.write(flows, at, now, ROOM)
                if written:
                    yield written
                    continue
                raw = next(bridge.datapath.flows_of(flows, at))
                flow = bridge.stats_of(*raw, now)
                end = at + raw[0][0]
                before = encoder.hidden
                entry = encoder.entry(flow)
                holes = None if stencils.full else encoder.holes(flow)
                if holes is not None:
                    stencils.add(flows[at:end], entry, holes, encoder.hidden > before)
                at = end
                yield entry
        encoder.hidden += stencils.n_lossy
