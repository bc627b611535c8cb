"""Changes on their way to the switch: one after another, or as a bundle.

Messages go out in batches with a barrier behind each; while the switch works on one batch, the next
is made. A refusal is known by its xid. A plain run stops after a batch in which something was
refused (and the one on its way then); what was accepted stays. A bundle is all or nothing: native
in OpenFlow 1.4 and later, ONF's extension (EXT-230) in 1.3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from oko.model.flow import ADD, MODIFY, MODIFY_STRICT, TABLE_ALL, FlowMod, GroupMod, MeterMod
from oko.ofctl.run import FIRST, SINCE_13, Run
from oko.openflow.client import Connection, RefusedError
from oko.openflow.common import (
    OF10,
    OF14,
    OF15,
    OpenFlowError,
    fail,
)
from oko.openflow.flows import encode_flow_mod

if TYPE_CHECKING:
    from oko.openflow.packets import PacketOut

Change: TypeAlias = "FlowMod | GroupMod | MeterMod | PacketOut"
BUCKET_COMMANDS = ("insert_bucket", "remove_bucket")
BATCH = 1000
_BUNDLE = 1


def encode(version: int, change: Change, *, plain: bool = False) -> bytes:
    """One change on the wire. plain: in 1.0, no extension of Nicira's."""
    if isinstance(change, GroupMod):
        from oko.openflow.groups import encode_group_mod

        return encode_group_mod(version, change)
    if isinstance(change, MeterMod):
        from oko.openflow.meters import encode_meter_mod

        return encode_meter_mod(version, change)
    if not isinstance(change, FlowMod):
        from oko.openflow.packets import encode_packet_out

        return encode_packet_out(version, change)
    modifies = change.command in (MODIFY, MODIFY_STRICT)
    if version != OF10 and modifies and change.flow.table == TABLE_ALL:
        # As ovs-ofctl: since 1.1 only a deletion may name all tables.
        change = replace(change, flow=replace(change.flow, table=0))
    tables = version == OF10 and needs_tables(change)
    return encode_flow_mod(
        version, change, table_id_ext=tables, nxm=False if plain and version == OF10 else None
    )


def needs_tables(change: Change) -> bool:
    """Whether 1.0 must be extended to say which table is meant."""
    if not isinstance(change, FlowMod):
        return False
    table = change.flow.table
    return table != TABLE_ALL and (change.command != ADD or table != 0)


def versions_for(changes: Sequence[Change], bundle: bool = False) -> tuple[int, ...]:
    """The versions to try: 1.0 unless something needs later ones."""
    if any(isinstance(c, GroupMod) and c.command in BUCKET_COMMANDS for c in changes):
        return (OF15,)
    if bundle:
        return (OF14,)
    # Most flows of a file differ in addresses only: what they do is asked once.
    seen: set[tuple[object, ...]] = set()
    try:
        for change in changes:
            if isinstance(change, FlowMod):
                flow = change.flow
                fields = tuple([f for f, _, _ in flow.match])
                kind = (fields, flow.filter_prog, flow.instructions, change.out_group)
                if kind in seen:
                    continue
                seen.add(kind)
            encode(OF10, change)
    except OpenFlowError:
        return SINCE_13
    return FIRST


def names_oko(changes: Sequence[Change]) -> bool:
    """Whether a change has something that only oko understands."""
    return any(isinstance(c, FlowMod) and c.flow.filter_prog for c in changes)


def apply(run: Run, name: str, changes: Sequence[Change], *, bundle: bool = False) -> None:
    """Makes the changes at the switch; RefusedError. bundle: as if --bundle were given."""
    bundle = bundle or run.line.has("bundle")
    switch = run.connect(name, versions_for(changes, bundle), aware=names_oko(changes))
    send(run, switch, changes, bundle=bundle)


def send(run: Run, switch: Connection, changes: Sequence[Change], *, bundle: bool = False) -> None:
    """As apply(), over a connection that is there."""
    plain = run.line.get("flow_format").lower() == "openflow10"
    version = switch.version
    if bundle or run.line.has("bundle"):
        _send_bundle(switch, [encode(version, change) for change in changes])
        return
    if version == OF10 and any(needs_tables(change) for change in changes):
        # From then on the table goes with the command of every flow-mod.
        from oko.openflow.nicira_messages import encode_flow_mod_table_id

        switch.send(encode_flow_mod_table_id(OF10))
        messages = (_with_tables(change) for change in changes)
    else:
        messages = (encode(version, change, plain=plain) for change in changes)
    waiting: list[int] = []
    try:
        while batch := list(itertools.islice(messages, BATCH)):
            switch.send(*batch)
            waiting.append(switch.begin_barrier())
            if len(waiting) > 1:
                _end(switch, waiting)
    finally:
        while waiting:
            _end(switch, waiting)


def _end(switch: Connection, waiting: list[int]) -> None:
    refused = switch.end_barrier(waiting.pop(0))
    if refused:
        waiting.clear()
        raise refused[0]


def _with_tables(change: Change) -> bytes:
    if isinstance(change, FlowMod):
        return encode_flow_mod(OF10, change, table_id_ext=True)
    return encode(OF10, change)


def _batches(messages: list[bytes]) -> Iterator[list[bytes]]:
    for at in range(0, len(messages), BATCH):
        yield messages[at : at + BATCH]


# ---------------------------------------------------------------- bundles


def _send_bundle(switch: Connection, messages: list[bytes]) -> None:
    from oko.openflow import bundles
    from oko.openflow.bundles import BundleAdd, BundleControl

    version = switch.version
    if version == OF10:
        fail("OFPBRC_BAD_TYPE", "OpenFlow 1.0 has no bundles", "-O OpenFlow14")

    def control(kind: int) -> bytes:
        return bundles.encode_bundle_control(version, BundleControl(_BUNDLE, kind))

    switch.transact(control(bundles.OPEN_REQUEST))
    try:
        for batch in _batches(messages):
            first = switch.coming_xid  # the inner message has the outer one's number
            switch.send(
                *(
                    bundles.encode_bundle_add(version, BundleAdd(_BUNDLE, inner), first + i)
                    for i, inner in enumerate(batch)
                )
            )
            switch.finish()
        switch.transact(control(bundles.COMMIT_REQUEST))
    except RefusedError:
        switch.send(control(bundles.DISCARD_REQUEST), ignore_errors=True)
        raise
