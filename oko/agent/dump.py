"""A dump of flows: entries by the thousand, written in C.

The core hands out its flows as records, many at a time. Of each kind of flow the first is encoded
here, by the naive way, and its stencil (oko/openflow/flow_stats.py) given to the core, which then
writes the entries of all the others. Where no stencil can be made, because there are too many
kinds or because the version has other entries, every flow goes the naive way.

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
    head = encoder.entry_head
    if head is None:
        yield from map(encoder.entry, bridge.flow_stats(*asked))
        return
    with Stencils(head, encoder.fixed_fields()) as stencils:
        for records in bridge.flow_records(*asked):
            at = 0
            while at < len(records):
                written, at = stencils.write(records, at, now, ROOM)
                if written:
                    yield written
                    continue
                raw = next(bridge.datapath.flows_of(records, at))
                flow = bridge.stats_of(*raw, now)
                end = at + raw[0][0]
                made = None if stencils.full else encoder.stencil(flow)
                if made is not None:
                    stencils.add(
                        records[at:end], made.wire, made.match_size, made.holes, made.lossy
                    )
                at = end
                yield encoder.entry(flow)
        encoder.hidden += stencils.n_lossy
